"""The whole road on the demo region: what a newcomer's first `make run` makes."""

import contextlib
import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Geod
from rasterio.features import rasterize
from rio_cogeo import cog_validate

from landcover.area import pixel_areas
from pipeline.artifacts import file_hash
from tests.command import ROOT, DemoRun, run_demo
from tests.sample_draws import coverage

ARTEFACTS = [
    "items.json", "composite.tif", "classes.tif", "confidence.tif", "landcover.gpkg",
    "areas.csv", "item.json", "report.html", "run.json",
]  # fmt: skip
SMALL = ("--size", 512, "--format", "parquet", "--format", "flatgeobuf")


@pytest.fixture(scope="module")
def polygons(demo_run: DemoRun) -> gpd.GeoDataFrame:
    """The polygons of the demo."""
    return gpd.read_file(demo_run.folder / "landcover.gpkg", layer="landcover", use_arrow=True)


@pytest.fixture(scope="module")
def classes(demo_run: DemoRun) -> rasterio.DatasetReader:
    """The open class raster of the demo."""
    return rasterio.open(demo_run.folder / "classes.tif")


def test_all_artefacts(demo_run: DemoRun) -> None:
    """The nine artefacts are there, and nothing under a temporary name."""
    names = {path.name for path in demo_run.folder.iterdir()}
    assert names >= set(ARTEFACTS)
    assert not [name for name in names if name.startswith(".")]


def test_accuracy_on_a_seed_never_trained_on(demo_run: DemoRun) -> None:
    """The demo reaches overall accuracy 0.90 and mean IoU 0.75 on a landscape the model never saw."""
    record = json.loads((demo_run.folder / "run.json").read_text())
    accuracy = record["stages"]["assess"]["details"]
    assert accuracy["overall_accuracy"] >= 0.90
    assert accuracy["mean_iou"] >= 0.75
    assert "1" not in {str(seed) for seed in record["model"]["training"]["seeds"]}


def test_the_accuracy_is_that_of_the_files(
    demo_run: DemoRun, classes: rasterio.DatasetReader
) -> None:
    """The accuracy printed is what one gets by comparing the two rasters by hand."""
    (truth_path,) = demo_run.out.glob("demo-scenes-*/truth.tif")
    with rasterio.open(truth_path) as dataset:
        truth, mapped = dataset.read(1), classes.read(1)
    assert truth.shape == mapped.shape
    both = (truth > 0) & (mapped > 0)
    record = json.loads((demo_run.folder / "run.json").read_text())
    printed = record["stages"]["assess"]["details"]["overall_accuracy"]
    assert printed == pytest.approx(np.mean(truth[both] == mapped[both]), abs=1e-9)
    assert both.sum() > 2_000_000


def test_intervals_of_2000_samples_hold_the_true_hectares(
    demo_run: DemoRun, classes: rasterio.DatasetReader
) -> None:
    """Estimates of 2,000 draws hold the true areas in 93 to 97 of 100, where the map misses enough pixels.

    Water, say, is hardly ever missed: there the normal interval is too short, and the other one holds.
    """
    (truth_path,) = demo_run.out.glob("demo-scenes-*/truth.tif")
    with rasterio.open(truth_path) as dataset:
        truth, mapped = dataset.read(1), classes.read(1)
    both = (truth > 0) & (mapped > 0)
    areas = pixel_areas(GeoBox.from_rio(classes))[both] / 10_000
    codes = np.unique(truth[both])
    pair = (np.searchsorted(codes, raster[both]) for raster in (mapped, truth))
    held = coverage(*pair, areas, size=2_000, draws=2_000)
    enough = held.missed >= 5
    assert enough.sum() >= 3, held
    assert held.normal[enough].min() >= 0.93, held
    assert held.normal[enough].max() <= 0.97, held
    assert held.interval.min() >= 0.93, held


def test_the_screen_shows_areas_and_accuracy(demo_run: DemoRun) -> None:
    """The area table in hectares and the accuracy per class are printed."""
    for part in (
        "Water",
        "Built-up",
        "ha",
        "verall accuracy",
        "IoU",
        "landcover.gpkg",
        "report.html",
    ):
        assert part in demo_run.screen


def test_cogs_are_strictly_valid(demo_run: DemoRun) -> None:
    """All three rasters pass the strict COG validation."""
    for name in ("composite.tif", "classes.tif", "confidence.tif"):
        assert cog_validate(demo_run.folder / name, strict=True) == (True, [], [])


def test_geopackage_is_valid(demo_run: DemoRun) -> None:
    """The GeoPackage passes GDAL's validator."""
    path = str(demo_run.folder / "landcover.gpkg")
    command = [sys.executable, "-m", "osgeo_utils.samples.validate_gpkg", path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_map_says_how_it_was_made(demo_run: DemoRun) -> None:
    """The layer run tells region, period, scenes, model and settings, and no folder of this machine."""
    with contextlib.closing(sqlite3.connect(demo_run.folder / "landcover.gpkg")) as database:
        facts = dict(database.execute("SELECT name, value FROM run"))
        texts = [text for (text,) in database.execute("SELECT metadata FROM gpkg_metadata")]
    record = json.loads((demo_run.folder / "run.json").read_text())
    assert facts["region"] == record["region"]["name"]
    assert facts["period"] == record["period"]
    assert facts["model"] == "demo.safetensors"
    assert facts["model_sha256"] == record["model"]["sha256"]
    assert facts["classes_sha256"] == file_hash(demo_run.folder / "classes.tif")
    assert int(facts["polygons"]) == record["stages"]["vectorize"]["details"]["polygons"]
    for number, scene in enumerate(record["items"], start=1):
        assert facts[f"scene_{number}"] == f"{scene['id']}, {scene['datetime']}"
        assert scene["id"] in texts[0]
    content = (demo_run.folder / "landcover.gpkg").read_bytes()
    assert str(demo_run.out).encode() not in content
    assert str(ROOT).encode() not in content


def test_stac_item_is_valid(demo_run: DemoRun) -> None:
    """The item passes the core STAC schemas, and its assets exist."""
    item = pystac.Item.from_file(demo_run.folder / "item.json")
    item.stac_extensions = []  # their schemas are not in the package; tests/test_publish.py checks them
    item.validate()
    for asset in item.assets.values():
        assert Path(str(asset.get_absolute_href())).is_file()


def test_polygons_are_one_coverage(polygons: gpd.GeoDataFrame) -> None:
    """No gap, no overlap, no invalid polygon."""
    assert len(polygons) > 1000
    assert polygons.is_valid.all()
    assert shapely.coverage_is_valid(polygons.geometry.values)


def test_every_valid_pixel_is_in_exactly_one_polygon(
    polygons: gpd.GeoDataFrame, classes: rasterio.DatasetReader
) -> None:
    """Burning the polygons gives the class raster back; their pixel counts add up."""
    codes = classes.read(1)
    shapes = zip(polygons.geometry, polygons.class_code, strict=True)
    burnt = rasterize(shapes, out_shape=codes.shape, transform=classes.transform, dtype="uint8")
    np.testing.assert_array_equal(burnt, codes)
    assert polygons.pixels.sum() == np.count_nonzero(codes)


def test_areas_are_those_of_the_ellipsoid(
    demo_run: DemoRun, polygons: gpd.GeoDataFrame, classes: rasterio.DatasetReader
) -> None:
    """Summed hectares equal the ellipsoid's, cell by cell as geodesic polygons, to 1e-6."""
    codes = classes.read(1)
    total = geodesic_hectares(classes, codes > 0)
    assert polygons.area_ha.sum() == pytest.approx(total, rel=1e-6)
    with (demo_run.folder / "areas.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sum(float(row["area_ha"]) for row in rows) == pytest.approx(total, rel=1e-6)


def geodesic_hectares(dataset: rasterio.DatasetReader, valid: np.ndarray) -> float:
    """Area of the valid pixels by pyproj.Geod: the outline of each run of pixels, corner by corner."""
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(dataset.crs, "EPSG:4326", always_xy=True).transform
    geod, total = Geod(ellps="WGS84"), 0.0
    for row in range(valid.shape[0]):
        edges = np.flatnonzero(np.diff(np.r_[0, valid[row].astype(int), 0]))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            cols = np.arange(start, stop + 1)
            x, y = dataset.transform @ (
                np.r_[cols, cols[::-1]],
                np.r_[cols * 0 + row, cols * 0 + row + 1],
            )
            total += abs(geod.polygon_area_perimeter(*to_degrees(x, y))[0])
    return total / 1e4


def test_the_record_is_enough_to_do_it_again(demo_run: DemoRun) -> None:
    """run.json names settings, scenes with addresses, model hash, versions, time and memory."""
    record = json.loads((demo_run.folder / "run.json").read_text())
    assert record["settings"]["resolution"] == 10
    assert len(record["items"]) >= 5
    assert all(item["assets"]["blue"] for item in record["items"])
    assert len(record["model"]["sha256"]) == 64
    assert record["versions"]["torch"]
    for name in ("search", "composite", "segment", "vectorize", "summarize", "publish"):
        assert record["stages"][name]["seconds"] >= 0
        assert record["stages"][name]["peak_memory_mb"] > 0


def test_the_second_run_recomputes_nothing(demo_run: DemoRun) -> None:
    """Run again: every stage is skipped, and no file changes."""
    before = {name: file_hash(demo_run.folder / name) for name in ARTEFACTS if name != "run.json"}
    again = run_demo(demo_run.out)
    assert again.screen.count("current, skipped") == 7
    assert "done in" not in again.screen
    assert {name: file_hash(demo_run.folder / name) for name in before} == before


@dataclass(frozen=True)
class Small:
    """A smaller demo that was made without disturbance; its folder may be made again."""

    out: Path
    folder: Path
    seconds: float
    hashes: dict[str, str]
    """Of all that must come out the same, by name."""

    def found(self) -> dict[str, str]:
        """Hashes of what is there."""
        paths = [self.folder / name for name in self.hashes]
        return {path.name: file_hash(path) for path in paths if path.exists()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The smaller demo with two formats more, in batches of 4."""
    run = run_demo(tmp_path_factory.mktemp("small"), *SMALL, "--batch", 4)
    made = [n for n in ARTEFACTS if n != "run.json"] + ["landcover.parquet", "landcover.fgb"]
    return Small(run.out, run.folder, run.seconds, {n: file_hash(run.folder / n) for n in made})


def test_the_same_inputs_give_the_same_bytes(small: Small) -> None:
    """A second run from nothing, with another batch size, ends with the same bytes."""
    shutil.rmtree(small.folder)
    second = run_demo(small.out, *SMALL, "--batch", 7)
    assert small.found() == small.hashes
    item = pystac.Item.from_file(second.folder / "item.json")
    assert {"geoparquet", "flatgeobuf"} <= set(item.assets)


def test_a_killed_run_ends_with_the_same_bytes(small: Small) -> None:
    """Killed at several moments and started again, a run leaves no part behind and the same bytes."""
    shutil.rmtree(small.folder)
    command = [sys.executable, "-m", "pipeline.cli", "demo", "--out", str(small.out)]
    for moment in np.linspace(0.4, 0.9, 4) * small.seconds:
        process = subprocess.Popen(
            [*command, *map(str, SMALL)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert small.found().items() <= small.hashes.items()
    run_demo(small.out, *SMALL)
    assert small.found() == small.hashes
    assert not list(small.folder.glob(".partial-*"))
