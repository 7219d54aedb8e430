"""Cloud-optimised GeoTIFFs written by rows."""

import itertools
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rio_cogeo import cog_validate

from landcover.errors import RasterError
from landcover.legend import Legend
from landcover.overviews import halve
from pipeline import cog
from pipeline.artifacts import file_hash
from pipeline.cog import CogProfile, assemble_cog, open_cog
from pipeline.tile_file import TileFileWriter
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


def random_pixels(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Numbers from 0 to 8; codes of classes or measurements."""
    return np.random.default_rng(5).integers(0, 9, shape).astype(dtype)


def save(path: Path, grid: GeoBox, profile: CogProfile) -> NDArray[Any]:
    """Write random pixels at once."""
    image = random_pixels((len(profile.bands), *grid.shape), profile.dtype)
    with open_cog(path, grid, profile) as writer:
        writer.write(image)
    return image


def levels(path: Path) -> list[NDArray[Any]]:
    """Pixels of the raster and of its overviews."""
    with rasterio.open(path) as dataset:
        found = [dataset.read()]
        count = len(dataset.overviews(1))
    for level in range(count):
        with rasterio.open(path, overview_level=level) as dataset:
            found.append(dataset.read())
    return found


def test_overviews_by_hand(tmp_path: Path) -> None:
    """32 x 17 pixels in tiles of 16: each level is the one before, halved, until one tile holds it."""
    grid = GeoBox((32, 17), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
    image = np.zeros((1, 32, 17), np.uint8)
    image[0, :4, :4] = [[1, 2, 0, 0], [2, 3, 0, 4], [5, 5, 6, 7], [5, 5, 7, 6]]
    image[0, 31, 16] = 9
    profile = CogProfile("uint8", ["class"], "mode", LEGEND.colormap(), block=16)
    with open_cog(tmp_path / "a.tif", grid, profile) as writer:
        writer.write(image)
    whole, half = levels(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole, image)
    assert half.shape == (1, 16, 9)
    assert half[0, :2, :2].tolist() == [[2, 4], [5, 6]]
    assert (half[0, 15, 8], np.count_nonzero(half)) == (9, 5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_kinds_of_numbers(tmp_path: Path, dtype: str) -> None:
    """Bands of every kind of number come back, with their overviews, in a strictly valid COG."""
    profile = CogProfile(dtype, ["a", "b", "c"], block=64)
    image = save(tmp_path / "a.tif", GRID, profile)
    found = levels(tmp_path / "a.tif")
    assert [level.shape[1:] for level in found[1:]] == [(300, 350), (150, 175), (75, 88), (38, 44)]
    for level in found:
        np.testing.assert_array_equal(level, image)
        image = halve(image, "average")
    assert cog_validate(tmp_path / "a.tif", strict=True) == (True, [], [])


def described(dataset: DatasetReader) -> dict[str, Any]:
    """What a file says besides its pixels."""
    names = ("crs", "transform", "shape", "count", "dtypes", "nodata", "descriptions", "units")
    more = ("scales", "offsets", "colorinterp", "mask_flag_enums", "block_shapes", "compression")
    found = {name: getattr(dataset, name) for name in (*names, *more)}
    found |= {"tags": [dataset.tags(band) for band in range(dataset.count + 1)]}
    if dataset.colorinterp[0] == rasterio.enums.ColorInterp.palette:
        found["colormap"] = dataset.colormap(1)
    return found


ROTATED = Affine(8, 6, 500_000, 6, -8, 5_300_000)
SOUTH_UP = Affine(10, 0, 500_000, 0, 10, 5_300_000)


@pytest.mark.parametrize("transform", [GRID.affine, ROTATED, SOUTH_UP])
@pytest.mark.parametrize("crs", ["EPSG:32633", "+proj=laea +lat_0=51 +lon_0=9.5 +datum=WGS84"])
@pytest.mark.parametrize("profile", [CLASSES, REFLECTANCE])
def test_described_as_gdal_does(
    tmp_path: Path, transform: Affine, crs: str, profile: CogProfile
) -> None:
    """Place, colours, names, scales, units and tags are those of a copy by GDAL's own COG driver."""
    grid = GeoBox(GRID.shape, transform, crs)
    save(tmp_path / "ours.tif", grid, profile)
    rasterio.shutil.copy(
        tmp_path / "ours.tif", tmp_path / "gdal.tif", driver="COG", compress="zstd"
    )
    for options in ({}, {"overview_level": 0}):
        with (
            rasterio.open(tmp_path / "ours.tif", **options) as ours,
            rasterio.open(tmp_path / "gdal.tif", **options) as gdal,
        ):
            assert described(ours) == described(gdal)
            if not options:
                assert ours.transform.almost_equals(transform, 1e-9)


@pytest.mark.parametrize(
    ("crs", "method"),
    [
        (
            "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +datum=WGS84",
            "ob_tran",
        ),
        ("+proj=hatano +datum=WGS84", "hatano"),
        ("+proj=tpers +h=5500000 +lat_0=40 +datum=WGS84", "tpers"),
    ],
)
def test_a_crs_that_geotiff_cannot_hold_is_refused(tmp_path: Path, crs: str, method: str) -> None:
    """GDAL would leave it out without a word, and the map would lie nowhere; nothing is written."""
    grid = GeoBox((16, 16), Affine(1, 0, 0, 0, -1, 10), crs)
    with pytest.raises(RasterError, match=f"cannot hold this CRS .*{method}.* choose another"):
        save(tmp_path / "a.tif", grid, CLASSES)
    assert not list(tmp_path.iterdir())


def write_bands(folder: Path, grid: GeoBox, profile: CogProfile, edges: Sequence[int]) -> Path:
    """The same raster as `save` makes, by way of a tile file per band of rows."""
    image = random_pixels((len(profile.bands), *grid.shape), profile.dtype)
    files = []
    for start, stop in itertools.pairwise(edges):
        files.append(folder / f"{start}.tiles")
        with TileFileWriter(files[-1], grid, profile, range(start, stop)) as writer:
            writer.write(image[:, start:stop])
    assemble_cog(folder / "bands.tif", grid, profile, files)
    return folder / "bands.tif"


@pytest.mark.parametrize("profile", [CLASSES, REFLECTANCE])
@pytest.mark.parametrize("height", [16, 32, 64, 256])
def test_bands_of_rows_do_not_show(tmp_path: Path, profile: CogProfile, height: int) -> None:
    """Tile files of any height become the same bytes as the raster in one go."""
    small = replace(profile, block=16)
    save(tmp_path / "whole.tif", GRID, small)
    edges = [*range(0, GRID.shape[0], height), GRID.shape[0]]
    assert file_hash(write_bands(tmp_path, GRID, small, edges)) == file_hash(tmp_path / "whole.tif")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.sets(st.integers(1, 9)),
    st.sampled_from([CLASSES, REFLECTANCE]),
)
def test_any_size_in_any_bands(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    cols: int,
    cuts: set[int],
    profile: CogProfile,
) -> None:
    """A raster of any size, cut at any tiles, gives the same valid file with the right overviews."""
    folder, small = tmp_path_factory.mktemp("bands"), replace(profile, block=16)
    grid = GeoBox((rows, cols), Affine(10, 0, 500_000, 0, -10, 5_300_000), "EPSG:32633")
    image = save(folder / "whole.tif", grid, small)
    edges = [0, *(16 * cut for cut in sorted(cuts) if 16 * cut < rows), rows]
    path = write_bands(folder, grid, small, edges)
    assert path.read_bytes() == (folder / "whole.tif").read_bytes()
    if cols >= 16:  # rio-cogeo tells the levels apart by their widths
        assert cog_validate(path, strict=True)[:2] == (True, [])
    for level in levels(path):
        np.testing.assert_array_equal(level, image)
        image = halve(image, small.overviews)
    assert max(level.shape[1:]) <= 16


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (1, 1), (512, 512), (513, 511)])
def test_extreme_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    """One pixel high, one pixel wide, one pixel, one tile, a little more."""
    grid = GeoBox(shape, Affine(10, 0, 500_000, 0, -10, 5_300_000), "EPSG:32633")
    image = save(tmp_path / "a.tif", grid, CLASSES)
    found = levels(tmp_path / "a.tif")
    np.testing.assert_array_equal(found[0], image)
    assert max(found[-1].shape) <= 512
    if shape[1] > 1:  # rio-cogeo tells the levels apart by their widths
        assert cog_validate(tmp_path / "a.tif", strict=True)[:2] == (True, [])


def test_gdal_has_nothing_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GDAL opens and reads the file without a warning."""
    save(tmp_path / "a.tif", GRID, REFLECTANCE)
    with caplog.at_level(logging.WARNING), rasterio.Env(CPL_DEBUG=False):
        levels(tmp_path / "a.tif")
    assert caplog.messages == []


@pytest.mark.parametrize("profile", [CLASSES, REFLECTANCE])
def test_beyond_four_gigabytes(
    tmp_path: Path, profile: CogProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where positions need more than 32 bits the file is a BigTIFF that says the same."""
    save(tmp_path / "small.tif", GRID, profile)
    monkeypatch.setattr(cog, "_CLASSIC", 100_000)
    image = save(tmp_path / "big.tif", GRID, profile)
    assert (tmp_path / "small.tif").read_bytes()[:4] == b"II*\0"
    assert (tmp_path / "big.tif").read_bytes()[:4] == b"II+\0"
    assert cog_validate(tmp_path / "big.tif", strict=True) == (True, [], [])
    np.testing.assert_array_equal(levels(tmp_path / "big.tif")[0], image)
    with (
        rasterio.open(tmp_path / "small.tif") as small,
        rasterio.open(tmp_path / "big.tif") as big,
    ):
        assert described(small) == described(big)


def test_blocks_at_their_place(tmp_path: Path) -> None:
    """Blocks that cut through tiles give the same bytes as rows."""
    image = save(tmp_path / "rows.tif", GRID, REFLECTANCE)
    with open_cog(tmp_path / "blocks.tif", GRID, REFLECTANCE) as writer:
        for top, bottom in ((0, 130), (130, 515), (515, 600)):
            for left, right in ((300, 700), (0, 300)):
                at = slice(top, bottom), slice(left, right)
                writer.place(image[:, *at], at)
    assert file_hash(tmp_path / "rows.tif") == file_hash(tmp_path / "blocks.tif")


def test_a_band_that_is_missing(tmp_path: Path) -> None:
    """Tile files that leave rows out are no raster."""
    small = replace(CLASSES, block=16)
    write_bands(tmp_path, GRID, small, [0, 160, 320, 600])
    with pytest.raises(ValueError, match="not the 600 rows"):
        assemble_cog(tmp_path / "a.tif", GRID, small, [tmp_path / "0.tiles", tmp_path / "320.tiles"])  # fmt: skip
    assert not (tmp_path / "a.tif").exists()


def test_a_damaged_band_is_refused(tmp_path: Path) -> None:
    """A tile file that was cut off is named, and no raster appears."""
    small = replace(CLASSES, block=16)
    write_bands(tmp_path, GRID, small, [0, 320, 600])
    data = (tmp_path / "320.tiles").read_bytes()
    (tmp_path / "320.tiles").write_bytes(data[:-5])
    with pytest.raises(RasterError, match=r"320\.tiles is not a whole tile file"):
        assemble_cog(tmp_path / "a.tif", GRID, small, [tmp_path / "0.tiles", tmp_path / "320.tiles"])  # fmt: skip
    assert not (tmp_path / "a.tif").exists()


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
