"""A small labelled dataset on disk, whose classes a network learns in some steps."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

SIDE = 256
BANDS = ("red", "green", "nir")
_LEVELS = np.array([[0.05, 0.04, 0.02], [0.04, 0.06, 0.40], [0.25, 0.22, 0.28]])
"""Reflectance of water, trees and soil in BANDS."""
DATASET = """\
name: squares
licence: CC0-1.0
credit: made by a test
bands: [red, green, nir]
scale: 0.0001
nodata: 0
legend:
  - {code: 1, name: Water, color: "#0000ff"}
  - {code: 4, name: Trees, color: "#00ff00"}
  - {code: 7, name: Soil, color: "#ff8800"}
images:
  - image: "image-{n}.tif"
    labels: "labels-{n}.tif"
splits:
  block: 64 px
  shares: {train: 0.6, validation: 0.2, test: 0.2}
"""


def make_dataset(folder: Path) -> Path:
    """Write two images with their labels and a YAML; return the YAML. A strip has no label."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for number in range(2):
        squares = rng.integers(3, size=(SIDE // 16, SIDE // 16))
        truth = np.kron(squares, np.ones((16, 16), np.int64))
        values = _LEVELS[truth] + rng.normal(0, 0.02, (SIDE, SIDE, 3))
        stored = np.clip(values * 10_000, 1, 65_535).astype(np.uint16)
        codes = np.array([1, 4, 7], np.uint8)[truth]
        codes[:, 100:110] = 0
        stored[30:40, 30:40] = 0
        place = {
            "driver": "GTiff", "width": SIDE, "height": SIDE, "crs": "EPSG:32633",
            "transform": from_origin(400_000 + 10 * SIDE * number, 5_300_000, 10, 10),
        }  # fmt: skip
        with rasterio.open(
            folder / f"image-{number}.tif", "w", count=3, dtype="uint16", nodata=0, **place
        ) as out:
            out.write(stored.transpose(2, 0, 1))
            out.descriptions = BANDS
        with rasterio.open(
            folder / f"labels-{number}.tif", "w", count=1, dtype="uint8", nodata=0, **place
        ) as out:
            out.write(codes, 1)
    path = folder / "dataset.yml"
    path.write_text(DATASET, encoding="utf-8")
    return path
