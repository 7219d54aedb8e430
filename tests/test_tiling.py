"""The global tile grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.errors import SettingsError
from landcover.tiling import TileGrid, mirror


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    """Any small raster with any tile and overlap."""
    tile = draw(st.integers(1, 12))
    return TileGrid(
        draw(st.integers(1, 60)), draw(st.integers(1, 60)), tile, draw(st.integers(0, tile - 1))
    )


def test_last_window_is_pulled_back_inside() -> None:
    """Length 11 in tiles of 4 that share 1: starts 0, 3, 6 and then 7, not 9."""
    grid = TileGrid(height=11, width=4, tile=4, overlap=1)
    assert grid.row_starts == (0, 3, 6, 7)
    assert grid.col_starts == (0,)


def test_exact_fit_has_no_extra_window() -> None:
    """Length 10 in tiles of 4 that share 1 ends at a whole step."""
    assert TileGrid(10, 10, 4, 1).row_starts == (0, 3, 6)


def test_tiles_come_row_by_row_as_slices() -> None:
    """The order is row-major and the slices are (rows, cols)."""
    assert list(TileGrid(6, 5, 4, 2)) == [
        (slice(0, 4), slice(0, 4)),
        (slice(0, 4), slice(1, 5)),
        (slice(2, 6), slice(0, 4)),
        (slice(2, 6), slice(1, 5)),
    ]


def test_smaller_than_a_tile_is_one_window_cut_to_the_raster() -> None:
    """A raster one pixel high has one row of tiles, whose rows all mirror that pixel."""
    grid = TileGrid(1, 6, 4, 2)
    assert list(grid) == [(slice(0, 1), slice(0, 4)), (slice(0, 1), slice(2, 6))]
    assert grid.source_rows(0).tolist() == [0, 0, 0, 0]


def test_mirror_repeats_the_edge_and_folds_as_often_as_needed() -> None:
    """Length 3 continues as 2 1 0 0 1 2 2."""
    assert mirror(np.arange(10), 3).tolist() == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2]


def test_a_band_touches_its_halo_and_finishes_only_its_rows() -> None:
    """Tiles 0-3, 2-5, 4-7: rows 3 to 4 need all but the work below them."""
    grid = TileGrid(8, 4, 4, 2)
    band = range(3, 5)
    assert grid.touching(band) == range(3)
    assert [list(grid.finished(i, band)) for i in range(3)] == [[], [3], [4]]


def test_bands_cut_the_raster() -> None:
    """Seven rows in bands of three; without a height they are one band."""
    assert list(TileGrid(7, 1, 4, 2).bands(3)) == [range(3), range(3, 6), range(6, 7)]
    assert list(TileGrid(7, 1, 4, 2).bands()) == [range(7)]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 5, 4, 2), "is empty"), ((5, 5, 4, 4), "overlap is 4"), ((5, 5, 4, -1), "overlap is -1")],
)
def test_impossible_grids_are_refused(sizes: tuple[int, int, int, int], message: str) -> None:
    """An empty raster, or an overlap of a whole tile or more, is a settings error."""
    with pytest.raises(SettingsError, match=message):
        TileGrid(*sizes)


@given(grids())
def test_every_pixel_is_covered_and_no_window_leaves_the_raster(grid: TileGrid) -> None:
    """All tiles are whole where the raster allows, inside, counted, and cover it."""
    covered = np.zeros((grid.height, grid.width), int)
    for rows, cols in grid:
        covered[rows, cols] += 1
        assert rows.stop - rows.start == min(grid.tile, grid.height)
        assert cols.stop - cols.start == min(grid.tile, grid.width)
        assert rows.stop <= grid.height
        assert cols.stop <= grid.width
    assert covered.min() >= 1
    assert len(list(grid)) == len(grid)


@given(grids(), st.integers(1, 60))
def test_bands_finish_every_row_once_in_order(grid: TileGrid, height: int) -> None:
    """However the raster is cut, its rows are finished from top to bottom, each once."""
    finished = [
        row
        for band in grid.bands(height)
        for i in grid.touching(band)
        for row in grid.finished(i, band)
    ]
    assert finished == list(range(grid.height))
