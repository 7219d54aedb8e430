"""Write a small labelled dataset of simulated regions, to try training on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import Affine

from landcover.errors import SettingsError
from landcover.landscape import build_landscape
from landcover.simulation import COARSE_BANDS, LEGEND, Moment, Scenery, double, sensor_noise
from landcover.spectra import BANDS
from pipeline.artifacts import write_text
from pipeline.cog import CogProfile, open_cog

FIRST_SEED = 70_000
"""Regions have this seed and the following ones: none is the demo's, nor of the shipped weights."""
_CRS = "EPSG:32633"
_CORNER = (399_360, 5_373_440)
"""East and north of the first region's corner, metres."""
_BLOCK = 256
"""Pixels of a block; regions begin at whole multiples, so that blocks are not cut."""
_PIXEL = 10
_FIRST_DAY, _LAST_DAY = 150, 250


def simulate_dataset(
    *,
    output: Path,
    regions: int = 6,
    size: int = 512,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write `images/`, `labels/` and `dataset.yml` of simulated regions into a new folder.

    Each region is a cloudless image on a summer's day, surface reflectance x 10000 in six bands, with
    the class of every pixel known. size: side of a region, pixels of 10 m. seed: another one gives other
    regions. Raises SettingsError for a size that cannot be, or a folder that holds something.
    """
    if size < 64 or size % 2 or size > 4096:
        raise SettingsError(f"The size is {size}; give an even number of pixels from 64 to 4096.")
    if not 1 <= regions <= 1000:
        raise SettingsError(f"{regions} regions cannot be simulated; give 1 to 1000.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SettingsError(f"{output} holds something already; name a new or an empty folder.")
    partial = output.absolute().with_name(f".partial-{os.getpid()}-{output.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for number in range(regions):
            report(f"simulating region {number + 1} of {regions}")
            _write_region(partial, number, size, FIRST_SEED + 1000 * seed + number)
        write_text(partial / "dataset.yml", _description())
        if output.exists():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"dataset": str(output / "dataset.yml"), "regions": regions}


def _write_region(folder: Path, number: int, size: int, seed: int) -> None:
    step = -(-size // _BLOCK) * _BLOCK * _PIXEL
    across, down = number % 10, number // 10
    corner = Affine(_PIXEL, 0, _CORNER[0] + across * step, 0, -_PIXEL, _CORNER[1] - down * step)
    grid = GeoBox((size, size), corner, _CRS)
    landscape = build_landscape(seed, (size, size))
    name = f"region-{number + 1:03d}.tif"
    with open_cog(folder / "images" / name, grid, CogProfile("uint16", BANDS, block=256)) as image:
        image.write(_image(Scenery(landscape, seed), seed))
    profile = CogProfile("uint8", ("class",), "mode", LEGEND.colormap(), block=256)
    with open_cog(folder / "labels" / name, grid, profile) as labels:
        labels.write(landscape.cover[None])


def _image(scenery: Scenery, seed: int) -> NDArray[np.uint16]:
    """What the sensor sees, (bands, rows, cols); 1 is the least, as 0 is nodata."""
    rng = np.random.default_rng([seed, 7])
    moment = Moment(
        day=rng.uniform(_FIRST_DAY, _LAST_DAY), sun_azimuth=rng.uniform(140, 175),
        sun_elevation=rng.uniform(45, 63), seed=seed,
    )  # fmt: skip
    view = scenery.reflectance(moment)
    bands = [
        sensor_noise(
            double(view.coarse_band(band)) if band in COARSE_BANDS else view.band(band),
            10 * seed + place,
        )
        for place, band in enumerate(BANDS)
    ]
    return np.asarray(np.clip(np.rint(np.stack(bands) * 10_000), 1, 65_535), np.uint16)


def _description() -> str:
    """The YAML of the dataset."""
    legend = "".join(
        f'  - {{code: {c.code}, name: {c.name}, color: "{c.color}"}}\n' for c in LEGEND.classes
    )
    return (
        "# Simulated regions: no image of the Earth, and the class of every pixel is known.\n"
        "name: simulated\n"
        "licence: CC0-1.0\n"
        "credit: simulated by landcover dataset simulate\n"
        f"bands: [{', '.join(BANDS)}]\n"
        "scale: 0.0001\n"
        f"legend:\n{legend}"
        "images:\n"
        '  - image: "images/{region}.tif"\n'
        '    labels: "labels/{region}.tif"\n'
        "splits:\n"
        f"  block: {_BLOCK} px\n"
        "  shares: {train: 0.7, validation: 0.15, test: 0.15}\n"
    )
