"""Comparing a class raster with reference data, on files."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rich.console import Console

from landcover.errors import LegendError, RasterError
from landcover.legend import LandClass, Legend
from pipeline import accuracy
from pipeline.accuracy import accuracy_table, assess
from pipeline.cog import CogProfile, open_cog

LEGEND = Legend(
    (
        LandClass(1, "Water", "#2b6cb0"),
        LandClass(2, "Tree cover", "#1f6f3f"),
        LandClass(5, "[red]Crops[/red]", "#e0b84c"),
        LandClass(7, "Bare ground", "#b09a80"),
    )
)
ORIGIN = Affine(10, 0, 600_000, 0, -10, 5_200_000)


def write(
    path: Path,
    codes: NDArray[np.generic],
    transform: Affine = ORIGIN,
    crs: str = "EPSG:32630",
    legend: Legend | None = LEGEND,
) -> Path:
    """A class raster as segment writes it."""
    tags = {"LEGEND": json.dumps(legend.to_records())} if legend else {}
    profile = CogProfile(codes.dtype, ["class"], overviews="mode", tags=tags)
    with open_cog(path, GeoBox(codes.shape, transform, crs), profile) as rows:
        rows.write(codes[None])
    return path


MAP = np.array([[1, 1, 2, 0], [1, 2, 2, 5], [5, 5, 0, 5]], np.uint8)
TRUTH = np.array([[1, 2, 2, 1], [1, 2, 1, 5], [5, 5, 5, 0]], np.uint8)
# Counted: nine pixels, seven agree; nothing is class 7.


def test_literal_rasters_give_the_figures_counted_by_hand(tmp_path: Path):
    """Overall 7/9; water 2 of 4 in the union; crops all right; an absent class has no figure."""
    result = assess(classes=write(tmp_path / "m.tif", MAP), truth=write(tmp_path / "t.tif", TRUTH))
    assert result["pixels"] == 9
    assert result["overall_accuracy"] == pytest.approx(7 / 9)
    assert result["mean_iou"] == pytest.approx((2 / 4 + 2 / 4 + 1) / 3)
    assert result["matrix"] == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]]
    water, _, crops, bare = result["classes"]
    assert water == {
        "code": 1,
        "name": "Water",
        "iou": 0.5,
        "f1": pytest.approx(2 / 3),
        "users_accuracy": pytest.approx(2 / 3),
        "producers_accuracy": pytest.approx(2 / 3),
        "mapped_pixels": 3,
        "reference_pixels": 3,
        "agreed_pixels": 2,
    }
    assert crops["iou"] == 1.0
    assert bare["iou"] is None
    assert bare["reference_pixels"] == 0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(("down", "right"), [(1, 2), (-1, -2), (1, -1)])
def test_a_reference_shifted_by_whole_pixels_counts_where_both_are(
    tmp_path: Path, down: int, right: int
):
    """A reference that starts elsewhere on the same grid is compared on the shared pixels only."""
    big = np.random.default_rng(4).choice(np.array([0, 1, 2, 5, 7], np.uint8), (40, 50))
    here, there = big[2:20, 3:30], big[2 - down : 20 - down, 3 - right : 30 - right]
    moved = ORIGIN @ Affine.translation(-right, -down)
    result = assess(
        classes=write(tmp_path / "m.tif", here), truth=write(tmp_path / "t.tif", there, moved)
    )
    shared = big[max(2, 2 - down) : min(20, 20 - down), max(3, 3 - right) : min(30, 30 - right)]
    assert result["pixels"] == np.count_nonzero(shared)
    assert result["overall_accuracy"] == 1.0


def test_the_cut_into_blocks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Small blocks with ragged last ones give the same result as one block."""
    random = np.random.default_rng(1)
    codes = np.array([0, 1, 2, 5, 7], np.uint8)
    m = write(tmp_path / "m.tif", random.choice(codes, (70, 55)))
    t = write(tmp_path / "t.tif", random.choice(codes, (70, 55)))
    at_once = assess(classes=m, truth=t)
    monkeypatch.setattr(accuracy, "_SIDE", 16)
    assert assess(classes=m, truth=t) == at_once
    assert at_once["pixels"] > 0


def test_a_reference_of_another_number_type_is_read_as_codes(tmp_path: Path):
    """Whole numbers in a float raster are codes."""
    result = assess(
        classes=write(tmp_path / "m.tif", MAP),
        truth=write(tmp_path / "t.tif", TRUTH.astype(np.float32), legend=None),
    )
    assert result["pixels"] == 9


def bad_pairs(folder: Path) -> Iterator[tuple[str, Path, type[Exception], str]]:
    """References that cannot be used, each with the error it deserves."""
    half = ORIGIN @ Affine.translation(0.5, 0)
    far = ORIGIN @ Affine.translation(100, 0)
    coarse = ORIGIN @ Affine.scale(1.01)
    half_code = TRUTH.astype(np.float32) + 0.5
    yield "shift", write(folder / "a.tif", TRUTH, half), RasterError, "pixel on pixel"
    yield "far", write(folder / "b.tif", TRUTH, far), RasterError, "share no pixel"
    yield "coarse", write(folder / "c.tif", TRUTH, coarse), RasterError, "pixel on pixel"
    yield "zone", write(folder / "d.tif", TRUTH, crs="EPSG:32631"), RasterError, "reproject"
    yield "code", write(folder / "e.tif", TRUTH + np.uint8(10)), LegendError, "does not name"
    yield "half", write(folder / "f.tif", half_code), RasterError, "no class codes"
    yield "none", folder / "missing.tif", RasterError, "missing.tif"


def test_references_that_do_not_fit_are_refused_with_a_sentence(tmp_path: Path):
    """Another grid, zone or place, unknown codes, fractions and a missing file: one sentence."""
    mapped = write(tmp_path / "m.tif", MAP)
    for name, truth, kind, words in bad_pairs(tmp_path):
        with pytest.raises(kind, match=words) as caught:
            assess(classes=mapped, truth=truth)
        assert "\n" not in str(caught.value), name


def test_a_truncated_raster_is_an_error_not_nodata(tmp_path: Path):
    """Half a file is refused; its missing pixels do not silently leave the count."""
    noise = np.random.default_rng(0).choice(np.array([1, 2, 5], np.uint8), (600, 600))
    mapped, truth = write(tmp_path / "m.tif", noise), write(tmp_path / "t.tif", noise)
    truth.write_bytes(truth.read_bytes()[: truth.stat().st_size // 2])
    with pytest.raises(RasterError, match="could not be compared"):
        assess(classes=mapped, truth=truth)


def test_a_map_without_or_with_a_broken_legend_is_refused(tmp_path: Path):
    """Without a legend the codes mean nothing."""
    bare = write(tmp_path / "m.tif", MAP, legend=None)
    with pytest.raises(LegendError, match="has no legend"):
        assess(classes=bare, truth=bare)
    with rasterio.open(bare, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(LEGEND="[1, 2")
    with pytest.raises(LegendError, match="cannot be read"):
        assess(classes=bare, truth=bare)


def test_the_table_shows_every_class_and_takes_names_as_text(tmp_path: Path):
    """Names with brackets are not markup; a measure that is not known is a dash."""
    result = assess(classes=write(tmp_path / "m.tif", MAP), truth=write(tmp_path / "t.tif", TRUTH))
    console = Console(width=120, force_terminal=False)
    with console.capture() as capture:
        console.print(accuracy_table(result))
    lines = capture.get().splitlines()
    row = next(line for line in lines if "[red]Crops[/red]" in line)
    assert row.count("1.000") == 4
    bare = next(line for line in lines if "Bare ground" in line)
    assert bare.count(" - ") == 4
    assert "Overall accuracy 0.778, mean IoU 0.667, 9 pixels" in capture.get()
