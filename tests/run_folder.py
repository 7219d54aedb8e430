"""A small finished run, as the stages before publish leave it, for the tests of publish and report."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.legend import LandClass, Legend
from pipeline.cog import CogProfile, open_cog

LEGEND = Legend(
    (
        LandClass(1, "Water", "#2b6cb0"),
        LandClass(2, "Tree cover", "#1f6f3f"),
        LandClass(5, "Cropland", "#e0b84c"),
        LandClass(8, "Built-up", "#b3261e"),
    )
)
GRID = GeoBox((60, 80), Affine(10, 0, 600_000, 0, -10, 5_200_000), "EPSG:32630")
PIXELS = {1: 1200, 2: 1500, 5: 1900, 8: 0}
"""Pixels by class of `class_codes`; 200 of the 4,800 are nodata."""


def class_codes() -> NDArray[np.uint8]:
    """Class raster (60, 80): water on top, trees, crops, and a corner of 10 x 20 without data."""
    codes = np.full(GRID.shape, 5, np.uint8)
    codes[:15] = 1
    codes[15:35] = 2
    codes[35:55, 75:] = 5
    codes[15:25, :10] = 5
    codes[50:, 60:] = 0
    return codes


def make_run(folder: Path, legend: Legend = LEGEND, **changes: Any) -> dict[str, Any]:
    """Write the artefacts into a folder and return the record of the run, keys replaced as told."""
    codes = class_codes()
    write_classes(folder / "classes.tif", codes, legend)
    write_bands(folder / "confidence.tif", {"confidence": np.where(codes, 50 + 5 * codes, 0)})
    shade = np.arange(80)[None, :] + np.arange(60)[:, None]
    names = ("blue", "green", "red", "nir")
    measured = {n: np.where(codes, 300 * i + shade, 0) for i, n in enumerate(names, start=1)}
    write_bands(
        folder / "composite.tif", measured | {"observations": np.where(codes, 3, 0)}, "uint16"
    )
    write_areas(folder / "areas.csv", codes, legend)
    (folder / "landcover.gpkg").write_bytes(b"polygons")
    return run_record() | changes


def run_record() -> dict[str, Any]:
    """What run.json says of the small run."""
    return {
        "region": {"name": "small-valley"},
        "period": "2024-06-01/2024-08-31",
        "catalog": "https://user:secret@stac.example.org/v1?token=secret",
        "settings": {"batch": 4, "collections": ["sentinel-2-l2a"], "crs": None},
        "items": [
            {"id": "S2A_20240704", "datetime": "2024-07-04T11:06:21Z", "href": "/home/me/a.json"},
            {
                "id": "S2A_20240604",
                "datetime": "2024-06-04T11:06:21Z",
                "href": "https://stac.example.org/items/a?sig=secret",
            },
        ],
        "model": {
            "path": "/home/me/demo.safetensors",
            "sha256": "ab" * 32,
            "training": {"data": "simulated scenes", "seeds": [1, 2]},
        },
        "versions": {"torch": "2.14.1", "python": "3.11.2"},
        "stages": {"segment": {"seconds": 12.3, "peak_memory_mb": 900, "details": {}}},
    }


def write_classes(
    path: Path, codes: NDArray[np.uint8], legend: Legend, grid: GeoBox = GRID
) -> None:
    """A class raster as segment writes it."""
    tags = {"LEGEND": json.dumps(legend.to_records())}
    profile = CogProfile("uint8", ["class"], "mode", legend.colormap(), tags)
    with open_cog(path, grid, profile) as rows:
        rows.write(codes[None])


def write_bands(
    path: Path, bands: Mapping[str, NDArray[Any]], dtype: str = "uint8", grid: GeoBox = GRID
) -> None:
    """A raster of named measurements; reflectance carries its scale."""
    scales = [1.0 if name in {"observations", "confidence"} else 1e-4 for name in bands]
    with open_cog(path, grid, CogProfile(dtype, list(bands), scales=scales)) as rows:
        rows.write(np.stack(list(bands.values())).astype(dtype))


def write_areas(path: Path, codes: NDArray[np.uint8], legend: Legend) -> None:
    """The area table as summarize writes it, at 0.01 ha a pixel."""
    pixels = np.bincount(codes.ravel(), minlength=256)
    total = pixels[1:].sum()
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["class_code", "class_name", "area_ha", "share_percent", "pixels"])
        for c in legend.classes:
            n = int(pixels[c.code])
            table.writerow([c.code, c.name, n / 100, 100 * n / total, n])
