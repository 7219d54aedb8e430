"""Bands of rows as compressed tiles."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

import pipeline.tile_file
from landcover.errors import RasterError
from landcover.overviews import halve
from pipeline.cog import assemble_cog
from pipeline.cog_profile import CogProfile
from pipeline.tile_file import TileFile, TileFileWriter, level_shapes

SMALL = CogProfile("uint8", ["class"], "mode", {1: (0, 0, 255, 255)}, block=16)


def grid_of(rows: int, cols: int) -> GeoBox:
    """A grid of 10 m pixels."""
    bounds = 500_000, 5_300_000, 500_000 + 10 * cols, 5_300_000 + 10 * rows
    return GeoBox.from_bbox(bounds, "EPSG:32633", shape=(rows, cols))


def picture(grid: GeoBox, profile: CogProfile, seed: int = 0) -> NDArray[np.generic]:
    """Random pixels."""
    shape = (len(profile.bands), *grid.shape)
    return np.random.default_rng(seed).integers(0, 9, shape).astype(profile.dtype)


def write(path: Path, grid: GeoBox, profile: CogProfile, rows: range) -> NDArray[np.generic]:
    """Write a band of random pixels at once; return them."""
    band = picture(grid, profile)[:, rows.start : rows.stop]
    with TileFileWriter(path, grid, profile, rows) as writer:
        writer.write(band)
    return band


def read(file: TileFile, level: int) -> NDArray[np.generic]:
    """All pixels of a level."""
    return np.concatenate(list(file.strips(level)), axis=1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((16, 16), [(16, 16)]),
        ((17, 5), [(17, 5), (9, 3)]),
        ((64, 33), [(64, 33), (32, 17), (16, 9)]),
        ((1, 100), [(1, 100), (1, 50), (1, 25), (1, 13)]),
    ],
)
def test_shapes_of_overviews(shape: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    """Sides are halved, rounded up, until one tile holds the raster."""
    assert level_shapes(grid_of(*shape), 16) == expected


@pytest.mark.parametrize(
    ("rows", "levels"),
    [
        (range(160), 5),  # the whole raster: 10 x 7 tiles, halved four times
        (range(16), 1),
        (range(16, 48), 1),  # begins in the midst of a tile of the overview
        (range(32, 64), 2),
        (range(64, 128), 3),
        (range(128, 160), 4),  # to the end, which cuts its tiles anyway
        (range(144, 160), 1),
    ],
)
def test_levels_within_a_band(tmp_path: Path, rows: range, levels: int) -> None:
    """A band holds the levels of which it cuts no tile, and each is the one before, halved."""
    grid = grid_of(160, 100)
    expected = write(tmp_path / "band", grid, SMALL, rows)
    file = TileFile.open(tmp_path / "band", grid, SMALL)
    assert (file.rows, len(file.tiles)) == (rows, levels)
    for level in range(levels):
        np.testing.assert_array_equal(read(file, level), expected)
        expected = halve(expected, "mode")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_measurements_come_back(tmp_path: Path, dtype: str) -> None:
    """Differences of any kind of number are undone."""
    profile = CogProfile(dtype, ["a", "b"], block=16)
    grid = grid_of(50, 37)
    image = picture(grid, profile) * np.array([-1000.7 if dtype[0] in "fi" else 27]).astype(dtype)
    with TileFileWriter(tmp_path / "a", grid, profile, range(50)) as writer:
        writer.write(image)
    file = TileFile.open(tmp_path / "a", grid, profile)
    np.testing.assert_array_equal(read(file, 0), image)
    np.testing.assert_array_equal(read(file, 1), halve(image, "average"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.data())
def test_the_cut_does_not_show(
    tmp_path_factory: pytest.TempPathFactory, rows: int, cols: int, data: st.DataObject
) -> None:
    """The bytes are the same if rows come in any number at a time; a COG's, if blocks come in any order."""
    folder, grid = tmp_path_factory.mktemp("cut"), grid_of(rows, cols)
    image = write(folder / "whole", grid, SMALL, range(rows))
    heights = st.lists(st.integers(1, 40), min_size=rows, max_size=rows)
    tops = [t for t in np.cumsum([0, *data.draw(heights)]).tolist() if t < rows]
    lefts = range(0, cols, data.draw(st.integers(1, 40)))
    bottoms, rights = [*tops[1:], rows], [*lefts[1:], cols]
    with TileFileWriter(folder / "rows", grid, SMALL, range(rows)) as writer:
        for top, bottom in zip(tops, bottoms, strict=True):
            writer.write(image[:, top:bottom])
    assert (folder / "rows").read_bytes() == (folder / "whole").read_bytes()
    blocks = [
        (slice(top, bottom), slice(left, right))
        for top, bottom in zip(tops, bottoms, strict=True)
        for left, right in zip(lefts, rights, strict=True)
    ]
    with (
        patch("pipeline.tile_file._TILES_BEGUN", data.draw(st.integers(1, 4))),
        TileFileWriter(folder / "blocks", grid, SMALL, range(rows)) as writer,
    ):
        for at in data.draw(st.one_of(st.just(blocks), st.permutations(blocks))):
            writer.place(image[:, *at], at)
    for name in ("whole", "blocks"):
        assemble_cog(folder / f"{name}.tif", grid, SMALL, [folder / name])
    assert (folder / "blocks.tif").read_bytes() == (folder / "whole.tif").read_bytes()
    assert len(list(folder.iterdir())) == 5  # what waited on the disk is gone


def test_a_wide_raster_takes_no_more_memory(tmp_path: Path) -> None:
    """However wide the raster is, few tiles that blocks have begun are in memory."""
    grid = grid_of(64, 4000)
    image = write(tmp_path / "rows", grid, SMALL, range(64))
    peaks = []
    for cols in (400, 4000):
        part = grid[:, :cols]
        with TileFileWriter(tmp_path / f"{cols}", part, SMALL, range(64)) as writer:
            for top in range(
                0, 64, 8
            ):  # half of a tile: a row of tiles is begun before one is full
                for left in range(0, cols, 16):
                    at = slice(top, top + 8), slice(left, left + 16)
                    writer.place(image[:, *at], at)
            peaks.append(len(writer._begun._spare) + len(writer._begun._held))
    assert peaks[0] == peaks[1] <= 16
    file = TileFile.open(tmp_path / "4000", grid, SMALL)
    np.testing.assert_array_equal(read(file, 0), image)


def test_a_disk_too_full_for_tiles_that_wait(tmp_path: Path) -> None:
    """Where tiles that wait find no room on the disk, the error says so."""
    grid = grid_of(64, 4000)
    with (
        pytest.raises(RasterError, match="No space left"),
        Path("/dev/full").open("r+b", buffering=0) as full,
        TileFileWriter(tmp_path / "a", grid, SMALL, range(64)) as writer,
    ):
        writer._begun._file = full
        for left in range(0, 4000, 16):
            writer.place(np.ones((1, 8, 16), np.uint8), (slice(0, 8), slice(left, left + 16)))


def test_rows_may_be_changed_after_they_are_given(tmp_path: Path) -> None:
    """The writer keeps its own copy while threads compress."""
    grid = grid_of(160, 1000)
    image = write(tmp_path / "a", grid, SMALL, range(160))
    rows = np.empty((1, 16, 1000), np.uint8)
    with TileFileWriter(tmp_path / "b", grid, SMALL, range(160)) as writer:
        for top in range(0, 160, 16):
            rows[:] = image[:, top : top + 16]
            writer.write(rows)
            rows[:] = 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("rows", [range(8, 32), range(24)])
def test_bands_end_at_tiles(tmp_path: Path, rows: range) -> None:
    """A band that cuts a tile is refused."""
    with pytest.raises(ValueError, match="borders of tiles"):
        TileFileWriter(tmp_path / "a", grid_of(160, 100), SMALL, rows)


def test_missing_rows(tmp_path: Path) -> None:
    """A file whose pixels did not all come is an error, and does not open."""
    grid = grid_of(64, 64)
    writer = TileFileWriter(tmp_path / "a", grid, SMALL, range(64))
    with pytest.raises(ValueError, match="not all pixels"), writer:
        writer.write(np.ones((1, 63, 64), np.uint8))
    with pytest.raises(RasterError, match="not a whole tile file"):
        TileFile.open(tmp_path / "a", grid, SMALL)


def test_an_incomplete_file(tmp_path: Path) -> None:
    """A file that ends anywhere before its end is refused."""
    grid = grid_of(64, 64)
    write(tmp_path / "a", grid, SMALL, range(64))
    whole = (tmp_path / "a").read_bytes()
    for length in range(0, len(whole), 61):
        (tmp_path / "b").write_bytes(whole[:length])
        with pytest.raises(RasterError, match="not a whole tile file"):
            TileFile.open(tmp_path / "b", grid, SMALL)
    with pytest.raises(RasterError, match="not a whole tile file"):
        TileFile.open(tmp_path / "absent", grid, SMALL)


def test_a_file_of_another_raster(tmp_path: Path) -> None:
    """A file made for other numbers is refused by name."""
    grid = grid_of(64, 64)
    write(tmp_path / "a", grid, SMALL, range(64))
    with pytest.raises(RasterError, match=r"another raster \(\{'dtype': 'uint8'"):
        TileFile.open(tmp_path / "a", grid, CogProfile("uint16", ["class"], "mode", {1: (0, 0, 0, 0)}, block=16))  # fmt: skip
    with pytest.raises(RasterError, match="shape"):
        TileFile.open(tmp_path / "a", grid_of(64, 65), SMALL)


def test_a_failure_in_the_body_is_not_hidden(tmp_path: Path) -> None:
    """What goes wrong between the rows is raised as it is."""
    writer = TileFileWriter(tmp_path / "a", grid_of(64, 64), SMALL, range(64))
    with pytest.raises(KeyError), writer:
        writer.write(np.ones((1, 40, 64), np.uint8))
        raise KeyError


def test_large_strips_are_encoded_a_few_tiles_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles lie in another order in the file, and the COG has the same bytes."""
    grid, made = grid_of(160, 100), []
    for most in (2**23, 0):
        monkeypatch.setattr(pipeline.tile_file, "_CODED_BYTES", most)
        monkeypatch.setattr(pipeline.tile_file, "_THREADS", 1)
        write(tmp_path / "tiles", grid, SMALL, range(160))
        assemble_cog(tmp_path / "cog.tif", grid, SMALL, [tmp_path / "tiles"])
        made.append((tmp_path / "cog.tif").read_bytes())
    assert made[0] == made[1]
