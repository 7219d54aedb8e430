"""Vectorize real class rasters, and odd ones, and print a table: `make vectors`.

Needs the folder of real imagery, ../shared/data or what LANDCOVER_SHARED_DATA names. For each raster: its
polygons, their hectares, the closure (how far the sum over polygons is from the sum over pixels, relative), whether
they are a valid coverage, and the time; plain, then merged below 0.5 ha and simplified by 10 m.
"""

import csv
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio import Affine

from landcover.errors import LandcoverError
from pipeline.index import index_folder
from pipeline.job import plan_job
from pipeline.region import load_region
from pipeline.run import run
from pipeline.vectorize import vectorize

DATA = Path(os.environ.get("LANDCOVER_SHARED_DATA") or Path(__file__).parent / "../../shared/data")
CITIES = {"pisa": "2015-07-04", "abudhabi": "2016-01-20"}
"""OSCD cities that are mapped, and the day."""
HEAD = ("raster", "size", "polygons", "hectares", "closure", "coverage", "seconds")


@dataclass(frozen=True)
class Raster:
    """A class raster to vectorize."""

    name: str
    path: Path
    legend: str | None
    """As --legend takes it."""


def main() -> int:
    """Print the table of real rasters, then that of odd ones."""
    if not DATA.is_dir():
        print(f"There is no {DATA}; set LANDCOVER_SHARED_DATA to the folder of real imagery.")
        return 1
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        _print(HEAD, ["-" * len(name) for name in HEAD])
        for raster in real_rasters(Path(folder)):
            _print(_row(raster, Path(folder)))
            _print(_row(raster, Path(folder), min_area=0.5, simplify=10.0))
        print()
        _print(("odd raster", "outcome"), ("---", "---"))
        for path in odd_rasters():
            _print((path.name, outcome(path, Path(folder))))
    return 0


def real_rasters(folder: Path) -> Iterator[Raster]:
    """Fields of Austria, land cover of Slovenia, maps of two cities."""
    fields = DATA / "sentinel2_two_season_austria" / "mask.tif"
    yield Raster(
        "fields mask, Austria", fields, str(_legend(folder, "fields", ["field", "boundary"]))
    )
    yield Raster("land cover, Slovenia", *_slovenia(folder))
    for city, day in CITIES.items():
        yield Raster(f"map of {city}, {day}", _map(city, day, folder), None)


def odd_rasters() -> list[Path]:
    """Every awkward file that ends like a raster."""
    found = (DATA / "tricky_files").rglob("*")
    return sorted(p for p in found if p.suffix in {".tif", ".vrt", ".jpg", ".nc", ".h5"})


def outcome(path: Path, folder: Path) -> str:
    """What vectorizing an odd file gives: polygons and hectares, or the sentence that refuses it."""
    legend = _legend(folder, "any", [f"value {value}" for value in range(1, 256)])
    try:
        made = vectorize(
            classes=path, confidence=None, output=folder / "odd.gpkg", legend=str(legend)
        )
    except LandcoverError as error:
        return "refused: " + str(error).replace(str(path), path.name).replace("|", "/").replace(
            "\n", " "
        )
    return f"{made['polygons']:,} polygons, {made['area_ha']:,.0f} ha, {_coverage(folder / 'odd.gpkg')}"


def _row(raster: Raster, folder: Path, **options: float) -> tuple[str, ...]:
    output = folder / "out.gpkg"
    start = time.perf_counter()
    made = vectorize(
        classes=raster.path, confidence=None, output=output, legend=raster.legend, **options
    )
    seconds = time.perf_counter() - start
    areas = pyogrio.read_dataframe(output, layer="areas")
    counted = areas.area_ha.sum()
    polygons = pyogrio.read_dataframe(output, layer="landcover", read_geometry=False)
    closure = abs(polygons.area_ha.sum() - counted) / counted
    with rasterio.open(raster.path) as dataset:
        size = f"{dataset.width} x {dataset.height}"
    name = raster.name + (", 0.5 ha, 10 m" if options else "")
    return (
        name, size, f"{made['polygons']:,}", f"{made['area_ha']:,.2f}", f"{closure:.0e}",
        _coverage(output), f"{seconds:.2f}",
    )  # fmt: skip


def _coverage(path: Path) -> str:
    _, _, shapes, _ = pyogrio.raw.read(path, layer="landcover", columns=[])
    return "valid" if shapely.coverage_is_valid(shapely.from_wkb(shapes)) else "NOT VALID"


def _legend(folder: Path, name: str, classes: list[str]) -> Path:
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("value", "name", "color"))
        table.writerows((value, text, "#808080") for value, text in enumerate(classes, 1))
    return path


def _slovenia(folder: Path) -> tuple[Path, str]:
    """The land-use array as a GeoTIFF, and its legend."""
    base = DATA / "sentinel2_lulc_slovenia" / "TestEOPatch"
    codes = np.load(base / "mask_timeless" / "LULC.npy")[..., 0]
    box = json.loads((base / "bbox.geojson").read_text(encoding="utf-8"))
    corners = np.array(box["coordinates"][0])
    (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
    rows, cols = codes.shape
    grid = GeoBox(
        codes.shape,
        Affine((east - west) / cols, 0, west, 0, (south - north) / rows, north),
        "EPSG:32633",
    )
    path = folder / "slovenia.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=cols, height=rows, count=1, dtype="uint8",
        crs=str(grid.crs), transform=grid.affine,
    ) as dataset:  # fmt: skip
        dataset.write(codes.astype("uint8"), 1)
    names = [
        "cultivated", "forest", "grassland", "shrubland", "water", "wetlands", "tundra",
        "artificial surface", "bare", "snow",
    ]  # fmt: skip
    return path, str(_legend(folder, "slovenia", names))


def _map(city: str, day: str, folder: Path) -> Path:
    """The class raster of a city on one day, by the shipped weights."""
    oscd = DATA / "sentinel2_pairs_oscd" / "images"
    index, dates = folder / "oscd.parquet", folder / "dates.csv"
    if not index.exists():
        lines = ["path,datetime"]
        for dated in sorted(oscd.glob("*/dates.txt")):
            days = [line.split(":")[1].strip() for line in dated.read_text().splitlines()[:2]]
            lines += [
                f"*{dated.parent.name}/imgs_{n}/*,{d[:4]}-{d[4:6]}-{d[6:8]}"
                for n, d in enumerate(days, 1)
            ]
        dates.write_text("\n".join(lines))
        index_folder(oscd, index, datetimes=dates, report=lambda _: None)
    job = plan_job(
        load_region(str(oscd / city / f"{city}.geojson")), output=folder, period=f"{day}/{day}",
        catalog=str(index),
    )  # fmt: skip
    run(job, announce=lambda _: None, report=lambda _: None)
    return job.folder / "classes.tif"


def _print(*rows: tuple[str, ...] | list[str]) -> None:
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
