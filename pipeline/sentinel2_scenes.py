"""Real Sentinel-2 scenes with weak labels, read from the folders in which they are published."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from landcover.errors import RasterError
from landcover.spectra import BANDS, Cover
from landcover.spectral_rules import Bits, Floats, one_of, weak_labels

CITIES = ("abudhabi", "aguasclaras", "bordeaux", "hongkong", "nantes", "norcia", "pisa")
HELD_OUT_CITIES = ("hongkong", "nantes")
"""Never trained on: the place least like the others, and one of the three French and Italian towns."""
RGBN = BANDS[:4]
_FILES = ("B02", "B03", "B04", "B08", "B11", "B12")
_ARRAY_BANDS = (1, 2, 3, 7, 11, 12)
"""Where BANDS are among the 13 of the Slovenian arrays."""
_SLOVENIAN_DATES = ("2015-08-20", "2015-07-31", "2015-09-09", "2015-08-30", "2015-07-11")
_CROSSWALK = {
    1: one_of(Cover.CROPS),
    2: one_of(Cover.TREES),
    3: one_of(Cover.GRASS),
    4: one_of(Cover.SHRUBS),
    8: one_of(Cover.BUILT),
}
"""Slovenian land use -> classes; no data and what the square kilometre lacks are left out."""


@dataclass(frozen=True)
class Scene:
    """A place seen on several dates, and what is known of its pixels."""

    name: str
    images: Floats
    """Reflectance, (dates, bands, rows, cols)."""
    labels: Bits
    """Sets of classes as `landcover.spectral_rules` has them, (dates, rows, cols); 0 is unknown."""


def read_city(folder: Path) -> Scene:
    """Both dates of an OSCD city on the grid of the first, labelled by rule; its change labels stay unread.

    Raises RasterError where a band is missing.
    """
    with rasterio.open(_band_file(folder / "imgs_1", "B02")) as blue:
        place = {
            "crs": blue.crs,
            "transform": blue.transform,
            "width": blue.width,
            "height": blue.height,
        }
    images = [
        np.stack([_read_on(_band_file(folder / date, band), place) for band in _FILES])
        for date in ("imgs_1", "imgs_2")
    ]
    return Scene(folder.name, np.stack(images), weak_labels(images, BANDS))


def _band_file(folder: Path, band: str) -> Path:
    found = sorted(folder.glob(f"*_{band}.tif"))
    if not found:
        raise RasterError(f"{folder} has no file *_{band}.tif; give the folder of an OSCD city.")
    return found[0]


def _read_on(path: Path, place: dict[str, object]) -> Floats:
    with (
        rasterio.open(path) as band,
        WarpedVRT(band, **place, resampling=Resampling.bilinear) as aligned,
    ):
        return np.asarray(aligned.read(1), np.float32) * np.float32(1e-4)


def read_slovenia(folder: Path) -> Scene:
    """Five dates of a square kilometre with its land use; what a date's clouds hide is unknown on it.

    Its cloud masks are grown by 3 pixels for what they miss at their rims.
    """
    from scipy.ndimage import binary_dilation

    images = np.load(folder / "REFERENCE_SCENES.npy").transpose(0, 3, 1, 2)[:, _ARRAY_BANDS]
    patch = folder / "TestEOPatch"
    use = np.load(patch / "mask_timeless" / "LULC.npy")[..., 0]
    clouds = np.load(patch / "mask" / "CLM.npy")[..., 0]
    days = [
        datetime.fromisoformat(text).date().isoformat()
        for text in json.loads((patch / "timestamps.json").read_text())
    ]
    table = np.zeros(256, np.uint8)
    table[list(_CROSSWALK)] = list(_CROSSWALK.values())
    hidden = [
        binary_dilation(clouds[days.index(day)] != 0, iterations=3) for day in _SLOVENIAN_DATES
    ]
    labels = [np.where(cloud, 0, table[use]) for cloud in hidden]
    return Scene("slovenia", images.astype(np.float32), np.stack(labels).astype(np.uint8))


def slovenian_blocks(labels: Bits, held_out: bool) -> Bits:
    """Labels of two opposite quarters: the north-east and south-west ones are held back.

    A rim of 5 pixels at the seam belongs to neither.
    """
    rows, cols = labels.shape[-2:]
    north, west = np.arange(rows)[:, None] < rows // 2, np.arange(cols)[None] < cols // 2
    rim = (abs(np.arange(rows)[:, None] - rows // 2) < 5) | (
        abs(np.arange(cols)[None] - cols // 2) < 5
    )
    ours = ((north != west) if held_out else (north == west)) & ~rim
    return np.where(ours, labels, 0).astype(np.uint8)


def read_austria(path: Path) -> Scene:
    """Two seasons of a valley in red, green, blue, nir; labelled by the rules that need no more."""
    with rasterio.open(path) as dataset:
        stored = dataset.read().astype(np.float32) * np.float32(1e-4)
    images = [stored[season][[2, 1, 0, 3]] for season in (slice(0, 4), slice(4, 8))]
    return Scene("austria", np.stack(images), weak_labels(images, RGBN))
