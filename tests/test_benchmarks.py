"""Benchmarks run to their end on a small square, and their last line can be read by a program."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "benchmarks" / "bench_segment.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """bench_segment.py as a module."""
    spec = importlib.util.spec_from_file_location("bench_segment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_segment"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    """The last line of bench_segment.py at 512 x 512."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), "--quick"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """One band without a place on the Earth."""
    height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=1, dtype="uint8"
    ) as dataset:
        dataset.write(pixels, 1)
    return path


def test_a_quick_run_measures_efficiency_and_memory(quick: dict[str, Any]):
    """A runtime has its row, and memory is that of a process with torch in it."""
    rows = quick["rows"]
    assert [row["runtime"] for row in rows if row["row"] == "efficiency"] == ["torch-fp32"]
    assert all(row["efficiency"] > 0 for row in rows if row["row"] == "efficiency")
    peaks = [row["peak_mb"] for row in rows if row["row"] == "memory"]
    assert len(peaks) == 3
    assert all(100 < peak < 8000 for peak in peaks)


def test_a_run_says_which_goals_are_met(quick: dict[str, Any]):
    """`reached` names the goals that were measured, and `met` is whether all of them are."""
    assert set(quick["reached"]) == set(quick["figures"]) & set(quick["goals"])
    assert {"efficiency_torch_conv", "memory_growth_mb"} <= set(quick["reached"])
    assert quick["met"] == all(quick["reached"].values())


def test_goals_are_least_or_most(bench: ModuleType):
    """More speed reaches a goal and less does not; with memory it is the other way round."""
    figures = {"efficiency_torch_conv": 0.71, "memory_growth_mb": 101.0, "nobodys_goal": 1.0}
    report = bench.Report(figures=figures)
    assert report.reached() == {"efficiency_torch_conv": True, "memory_growth_mb": False}


def test_share_of_equal_labels(bench: ModuleType, tmp_path: Path):
    """Three of four codes are equal; once 1 is added to the others, one is."""
    one = write(tmp_path / "one.tif", np.array([[1, 2], [3, 4]], np.uint8))
    other = write(tmp_path / "other.tif", np.array([[1, 2], [3, 3]], np.uint8))
    assert bench.share_equal(one, other) == 0.75
    assert bench.share_equal(one, other, 1) == 0.25


@pytest.mark.parametrize(
    ("speed", "side"), [(1000.0, 8192), (10.0, 8192), (5.0, 4096), (1e-9, 512)]
)
def test_the_square_is_halved_until_the_model_is_fast_enough(
    bench: ModuleType, speed: float, side: int
):
    """8192 x 8192 is 67.1 Mpx, 119 with overlaps of a quarter: 12 s at 10 Mpx/s, 24 s at 5."""
    assert bench.side_for(speed, 12.0, 8192) == side


def test_a_peer_that_is_not_installed_has_no_figures(bench: ModuleType, tmp_path: Path):
    """It says why it was not measured, and gives no number."""
    image = bench.make_image(tmp_path, 512)
    found = bench.peer("terratorch", "conv", None, image, tmp_path / "out" / "x.tif", tmp_path)
    assert list(found) == ["not_measured"]
    assert "terratorch" in found["not_measured"]


def test_wrong_names_are_refused(bench: ModuleType):
    """`all` and `none` are known; a peer that is not is told beside those that are."""
    assert bench.names("all", bench.PEERS) == list(bench.PEERS)
    assert bench.names("none", bench.PEERS) == []
    with pytest.raises(Exception, match="nobody not among monai"):
        bench.names("monai,nobody", bench.PEERS)


@pytest.mark.parametrize("model", ["conv", "demo", "sentinel2-rgbn"])
def test_every_model_maps_the_composites_by_its_own_bands(
    bench: ModuleType, tmp_path: Path, model: str
):
    """Four bands or six: each finds those that it knows among the six of the file."""
    path = tmp_path / "composites.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=6, dtype="uint16", nodata=0,
        crs="EPSG:32633", transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(np.full((6, 64, 64), 800, np.uint16))
        dataset.descriptions = bench.checkpoint_of("demo").spec.bands
    bench.whole(path, [bench.checkpoint_of(model)], "torch-fp32", tmp_path)
    with rasterio.open(tmp_path / "classes.tif") as classes:
        assert classes.read(1).all()
