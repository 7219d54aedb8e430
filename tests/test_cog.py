"""Cloud-optimised GeoTIFFs written by rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from landcover.legend import Legend
from pipeline.artifacts import file_hash
from pipeline.cog import CogProfile, open_cog
from tests.command import ROOT

GRID = GeoBox.from_bbox((500_000, 5_300_000, 507_000, 5_306_000), "EPSG:32633", resolution=10)
LEGEND = Legend.from_records([{"code": 1, "name": "Water", "color": "#0000ff"}])
CLASSES = CogProfile("uint8", ["class"], "mode", LEGEND.colormap(), {"LEGEND": "[]"})
REFLECTANCE = CogProfile(
    "uint16", ["red", "count"], scales=[1e-4, 1], units=["reflectance", "count"]
)


def write(path: Path, profile: CogProfile, heights: list[int]) -> np.ndarray:
    """Write random pixels in blocks of the given heights; return them."""
    rng = np.random.default_rng(0)
    top = 1 if profile.colormap else 5000
    image = rng.integers(0, top, (len(profile.bands), *GRID.shape), endpoint=True).astype(
        profile.dtype
    )
    with open_cog(path, GRID, profile) as writer:
        for start, rows in zip(np.cumsum([0, *heights[:-1]]), heights, strict=True):
            writer.write(image[:, start : start + rows])
    return image


@pytest.mark.parametrize("profile", [CLASSES, REFLECTANCE])
def test_strictly_valid_and_lossless(tmp_path: Path, profile: CogProfile) -> None:
    """The file is a strict COG with overviews and holds the pixels that were written."""
    path = tmp_path / "a.tif"
    image = write(path, profile, [600])
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), image)
        assert dataset.overviews(1) == [2]
        assert dataset.nodata == 0
        assert dataset.descriptions == tuple(profile.bands)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_colours_tags_scales_units(tmp_path: Path) -> None:
    """Colour table, tags, scales and units are in the file."""
    write(tmp_path / "c.tif", CLASSES, [600])
    write(tmp_path / "r.tif", REFLECTANCE, [600])
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert dataset.colormap(1)[1] == (0, 0, 255, 255)
        assert dataset.tags()["LEGEND"] == "[]"
    with rasterio.open(tmp_path / "r.tif") as dataset:
        assert dataset.scales == (1e-4, 1)
        assert dataset.units == ("reflectance", "count")


def test_the_cut_does_not_show(tmp_path: Path) -> None:
    """The bytes do not depend on how many rows come at a time."""
    write(tmp_path / "a.tif", CLASSES, [600])
    write(tmp_path / "b.tif", CLASSES, [1, 99, 412, 88])
    assert file_hash(tmp_path / "a.tif") == file_hash(tmp_path / "b.tif")


def test_overviews_of_classes_are_modes(tmp_path: Path) -> None:
    """An overview pixel is a class that is there, never a mean of codes."""
    legend = Legend.from_records([{"code": c, "name": str(c), "color": "#000000"} for c in (1, 9)])
    image = np.where(np.arange(GRID.shape[1]) % 4 < 3, 9, 1)[None, None].repeat(600, 1)
    with open_cog(
        tmp_path / "a.tif", GRID, CogProfile("uint8", ["c"], "mode", legend.colormap())
    ) as writer:
        writer.write(image.astype(np.uint8))
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as dataset:
        assert set(np.unique(dataset.read())) <= {1, 9}


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """When the pixels stop coming, no file remains."""
    with pytest.raises(RuntimeError), open_cog(tmp_path / "a.tif", GRID, CLASSES) as writer:
        writer.write(np.ones((1, 100, 700), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [20_000, 200_000, 600_000, 760_000])
def test_a_full_disk_is_an_error(tmp_path: Path, limit: int) -> None:
    """When the file cannot grow any more, at whatever moment, it does not appear and one is told."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from tests.test_cog import REFLECTANCE, write
from landcover.errors import RasterError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    write(Path({str(tmp_path / "a.tif")!r}), REFLECTANCE, [600])
except RasterError as error:
    sys.exit("is the disk full" in str(error) and 7)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False
    )
    assert result.returncode == 7, result.stderr
    assert list(tmp_path.iterdir()) == []
