"""The area table of a class raster, as a file and on the screen."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rich.console import Console

from landcover.errors import LegendError, RasterError
from landcover.legend import LandClass, Legend
from pipeline.cog import CogProfile, open_cog
from pipeline.summarize import area_table, summarize

LEGEND = Legend((LandClass(1, "Water", "#3f7fbf"), LandClass(4, "[bold]Trees, tall", "#1e6b34")))
HECTARE = Affine(100, 0, 1_000_000, 0, -100, 5_000_000)
"""Pixels of 1 ha in EPSG:6933."""


def write_classes(path: Path, classes: np.ndarray) -> Path:
    """A class raster as segment writes it, of 1 ha pixels."""
    tags = {"LEGEND": json.dumps(LEGEND.to_records())}
    profile = CogProfile("uint8", ["class"], "mode", LEGEND.colormap(), tags)
    with open_cog(path, GeoBox(classes.shape, HECTARE, "EPSG:6933"), profile) as cog:
        cog.write(classes.astype(np.uint8)[None])
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Three pixels of water, one of trees, four without data."""
    return write_classes(tmp_path / "classes.tif", np.array([[1, 1, 0, 0], [1, 4, 0, 0]]))


def test_the_file_has_a_line_per_class(classes: Path):
    """areas.csv: code, name, hectares, share, pixels, nothing for polygons not given; names are quoted."""
    summarize(classes=classes, output=classes.with_name("areas.csv"))
    head, water, trees = classes.with_name("areas.csv").read_text().splitlines()
    assert head == "class_code,class_name,area_ha,share_percent,pixels,polygon_ha"
    code, name, area, share, pixels, traced = water.split(",")
    assert (code, name, pixels, traced) == ("1", "Water", "3", "")
    assert (float(area), float(share)) == pytest.approx((3, 75), rel=1e-9)
    assert trees.startswith('4,"[bold]Trees, tall",1.0')


def test_the_details_name_the_total_and_the_nodata(classes: Path):
    """The returned details carry the rows, the total and the share without data, as JSON."""
    details = summarize(classes=classes, output=classes.with_name("areas.csv"))
    assert json.loads(json.dumps(details)) == details
    assert [row["class_code"] for row in details["rows"]] == [1, 4]
    assert details["area_ha"] == pytest.approx(4, rel=1e-9)
    assert details["nodata"]["share_percent"] == pytest.approx(50, rel=1e-9)


def test_the_screen_shows_units_total_and_nodata(classes: Path):
    """The table for the screen has units, a total, the nodata share, and names as they are."""
    console = Console(file=io.StringIO(), width=90)
    console.print(area_table(summarize(classes=classes, output=classes.with_name("areas.csv"))))
    text = console.file.getvalue()
    for expected in (
        "Area (ha)",
        "Share (%)",
        "3.00",
        "75.00",
        "[bold]Trees",
        "All classes",
        "4.00",
        "50.00 %",
    ):
        assert expected in text


def test_a_rerun_gives_the_same_bytes(classes: Path):
    """Nothing in the table depends on the run."""
    outputs = [classes.with_name(name) for name in ("one.csv", "two.csv")]
    for output in outputs:
        summarize(classes=classes, output=output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_tall_rasters_are_read_in_strips(tmp_path: Path):
    """A raster of several strips sums to all its pixels."""
    tall = np.tile(np.array([[1], [4], [1]]), (500, 7))
    details = summarize(classes=write_classes(tmp_path / "c.tif", tall), output=tmp_path / "a.csv")
    assert [row["pixels"] for row in details["rows"]] == [7000, 3500]


def test_a_raster_without_legend_is_refused(tmp_path: Path):
    """A raster that is not a class raster of ours gives an error, and no table."""
    path = tmp_path / "plain.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8", crs="EPSG:6933",
        transform=HECTARE,
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((1, 2, 2), np.uint8))
    with pytest.raises(LegendError, match="has no legend"):
        summarize(classes=path, output=tmp_path / "areas.csv")
    assert not (tmp_path / "areas.csv").exists()


def test_a_truncated_raster_is_refused(tmp_path: Path):
    """A damaged file gives an error, never a table of what was left; the old table stays."""
    noise = np.random.default_rng(0).choice([0, 1, 4], (700, 700))
    path = write_classes(tmp_path / "classes.tif", noise)
    path.write_bytes(path.read_bytes()[:-40_000])
    (tmp_path / "areas.csv").write_text("old")
    with pytest.raises(RasterError, match=r"classes\.tif cannot be read"):
        summarize(classes=path, output=tmp_path / "areas.csv")
    assert (tmp_path / "areas.csv").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["areas.csv", "classes.tif"]
