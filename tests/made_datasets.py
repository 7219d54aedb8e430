"""Small datasets, written for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray
from rasterio import Affine

UTM = "EPSG:32633"
CORNER = (500_000.0, 5_400_000.0)
LEGEND = [
    {"code": 1, "name": "Water", "color": "#0000ff"},
    {"code": 2, "name": "Wood", "color": "#00aa00"},
    {"code": 5, "name": "Town", "color": "#ff0000"},
]


def write_raster(
    path: Path, values: Any, *, corner: tuple[float, float] | None = CORNER, pixel: float = 10,
    crs: str | None = UTM, names: Sequence[str] = (), **profile: Any,
) -> Path:  # fmt: skip
    """A raster of values (rows, cols) or (bands, rows, cols); without a place where corner is None."""
    array = np.asarray(values)
    array = array[None] if array.ndim == 2 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = {".png": "PNG", ".jpg": "JPEG"}.get(path.suffix, "GTiff")
    place = (
        {}
        if corner is None
        else {"crs": crs, "transform": Affine(pixel, 0, corner[0], 0, -pixel, corner[1])}
    )
    with rasterio.open(
        path, "w", driver=driver, count=array.shape[0], height=array.shape[1], width=array.shape[2],
        dtype=array.dtype, **place, **profile,
    ) as dataset:  # fmt: skip
        dataset.write(array)
        for number, name in enumerate(names, start=1):
            dataset.set_band_description(number, name)
    return path


def describe(folder: Path, images: list[dict[str, Any]], **more: Any) -> Path:
    """The YAML of a dataset with one band called gray, unless it says otherwise."""
    fields = {
        "name": "made", "licence": "CC0-1.0", "bands": ["gray"], "legend": LEGEND, "images": images,
        "splits": {"block": "16 px"},
    } | more  # fmt: skip
    path = folder / "dataset.yml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    return path


def numbered(shape: tuple[int, int], start: int = 1) -> NDArray[np.uint16]:
    """An image in which each pixel has a number of its own, from 1, so that it tells where it was."""
    count = shape[0] * shape[1]
    return np.arange(start, start + count, dtype=np.uint16).reshape(shape)


def mosaic(
    shape: tuple[int, int], seed: int = 0, codes: Sequence[int] = (0, 1, 2, 5)
) -> NDArray[np.uint8]:
    """Labels in patches of 4 x 4 pixels."""
    rng = np.random.default_rng(seed)
    small = rng.choice(np.array(codes, np.uint8), (-(-shape[0] // 4), -(-shape[1] // 4)))
    return np.asarray(small.repeat(4, 0).repeat(4, 1)[: shape[0], : shape[1]])


def pair(
    folder: Path, name: str, shape: tuple[int, int] = (64, 64), **where: Any
) -> dict[str, str]:
    """An image and its labels on disk, as an entry of `images`."""
    seed = where.pop("seed", 0)
    write_raster(folder / f"{name}.tif", numbered(shape, 1 + 4096 * seed), **where)
    write_raster(folder / f"{name}-labels.tif", mosaic(shape, seed), **where)
    return {"image": f"{name}.tif", "labels": f"{name}-labels.tif"}
