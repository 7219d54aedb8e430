"""Simulated scenes of several months of one country, in which a town and a reservoir appear."""

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from landcover.landscape import Landscape, build_landscape
from landcover.simulation import Moment, Scenery, sensor_noise
from landcover.spectra import BANDS
from pipeline.change_demo import changed_landscape
from pipeline.index import index_folder

SIDE = 256
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 468_000, 0, -10, 5_372_000), "EPSG:32633")
SEED = 3


class Country:
    """A landscape before and after."""

    def __init__(self) -> None:
        self.before: Landscape = build_landscape(SEED, GRID.shape)
        self.after: Landscape = changed_landscape(self.before, SEED)

    def write_scene(self, folder: Path, day: str, *, changed: bool) -> None:
        """One clear scene of six bands, its day in the file."""
        year, month, date = day.split("-")
        number = (int(month) - 1) * 30 + int(date)
        view = Scenery(self.after if changed else self.before, SEED).reflectance(
            Moment(number, 158.0, 58.0, 0.0, number)
        )
        bands = [
            sensor_noise(view.band(name), 10 * number + place) for place, name in enumerate(BANDS)
        ]
        values = np.clip(np.rint(np.stack(bands) * 10_000), 1, 65_535).astype(np.uint16)
        folder.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            folder / f"scene_{day}.tif", "w", driver="GTiff", width=SIDE, height=SIDE, count=len(BANDS),
            dtype="uint16", crs="EPSG:32633", transform=GRID.affine, nodata=0, tiled=True,
            compress="zstd",
        ) as dataset:  # fmt: skip
            dataset.write(values)
            dataset.descriptions = BANDS
            dataset.update_tags(TIFFTAG_DATETIME=f"{year}:{month}:{date} 10:00:00")


def write_catalog(folder: Path, output: Path) -> None:
    """Index the scenes of a folder anew."""
    index_folder(folder, output, bands=BANDS, scale=1e-4, report=lambda _: None)


def write_region(path: Path, name: str, corner: tuple[int, int], side: int, catalog: Path) -> None:
    """A region file of a square of so many pixels; corner: its first column and row."""
    col, row = corner
    box = GRID[row : row + side, col : col + side].extent.to_crs("EPSG:4326").boundingbox
    footprint = [round(value, 6) for value in box.bbox]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {name}\nfootprint: {json.dumps(footprint)}\ncatalog: {catalog}\n")
