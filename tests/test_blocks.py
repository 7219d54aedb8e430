"""Blocks of ground: the same place is in the same block, whatever image shows it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio import Affine

from landcover.blocks import UNUSED, BlockLattice, BlockTable, splits_at, window_sums
from landcover.pixel_places import pixel_places

LATTICE = BlockLattice("EPSG:32633", (500_000, 5_400_000), 40)


def box(
    pixel: float, x: float, y: float, shape: tuple[int, int], crs: str = "EPSG:32633"
) -> GeoBox:
    """A grid by its corner."""
    return GeoBox(shape, Affine(pixel, 0, x, 0, -pixel, y), crs)


def whole(grid: GeoBox) -> tuple[slice, slice]:
    """All rows and columns of a grid."""
    return slice(0, grid.shape[0]), slice(0, grid.shape[1])


def test_four_pixels_make_a_block() -> None:
    """Pixels of 10 m in blocks of 40 m, counted east and south of the corner."""
    grid = box(10, 500_000, 5_400_000, (4, 6))
    east, south = LATTICE.positions(grid, *whole(grid))
    assert np.floor(east).tolist() == [[0, 0, 0, 0, 1, 1]]
    assert np.floor(south).tolist() == [[0], [0], [0], [0]]


def test_a_table_knows_its_blocks_only() -> None:
    """What lies beyond the table, or was not given a number, is UNUSED."""
    table = BlockTable.of((range(2), range(1)), {(0, 0): 7})
    east, south = np.array([[-0.5, 0.5, 1.5, 2.5, np.nan]]), np.array([[0.5], [1.5]])
    assert table.at(east, south).tolist() == [[UNUSED, 7, UNUSED, UNUSED, UNUSED], [UNUSED] * 5]


def test_the_buffer_lies_on_both_sides() -> None:
    """A gap of half a block between two splits takes a quarter of each; none between blocks of one."""
    table = BlockTable.of((range(3), range(1)), {(0, 0): 0, (1, 0): 2, (2, 0): 2})
    east = (np.arange(12)[None] + 0.5) / 4
    found = splits_at(table, east, np.array([[0.5]]), margin=0.25)
    assert found.tolist() == [[0, 0, 0, UNUSED, UNUSED, 2, 2, 2, 2, 2, 2, 2]]


def test_the_buffer_goes_round_corners() -> None:
    """Only the corner pixel is near to a block that lies across the corner."""
    table = BlockTable.of((range(2), range(2)), {(0, 0): 0, (1, 1): 1})
    place = (np.arange(4) + 0.5) / 4
    found = splits_at(table, place[None], place[:, None], margin=0.25)
    assert (found == UNUSED).sum() == 1
    assert found[3, 3] == UNUSED


def test_excluded_blocks_have_no_pixels_but_keep_others_away() -> None:
    """A block of two splits at once is used by none; its neighbours stay clear of it."""
    table = BlockTable.of((range(2), range(1)), {(0, 0): 0, (1, 0): 3})
    east = (np.arange(8)[None] + 0.5) / 4
    found = splits_at(table, east, np.array([[0.5]]), margin=0.25, excluded=3)
    assert found.tolist() == [[0, 0, 0, *[UNUSED] * 5]]


def test_windows_are_counted_as_by_hand() -> None:
    """Sums of 2 x 2 windows of a 3 x 3 raster."""
    own = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]], np.bool_)
    assert window_sums(own, 2).tolist() == [[2, 3], [1, 3]]


@settings(deadline=None)  # its speed is not what is tested
@given(
    st.integers(0, 200), st.integers(0, 200), st.integers(1, 40), st.sampled_from(["EPSG:32633", "EPSG:4326", "EPSG:3857"])
)  # fmt: skip
def test_a_pixel_has_one_place_in_every_window(row: int, col: int, side: int, crs: str) -> None:
    """Cutting an image into windows changes no bit of where its pixels are."""
    pixel, x, y = (1e-4, 15.0, 48.0) if crs == "EPSG:4326" else (10.0, 1_669_800.0, 6_100_000.0)
    grid = box(pixel, x, y, (256, 256), crs)
    everywhere = np.broadcast_arrays(*pixel_places(grid, CRS("EPSG:32633"), *whole(grid)))
    window = slice(row, row + side), slice(col, col + side)
    here = np.broadcast_arrays(*pixel_places(grid, CRS("EPSG:32633"), *window))
    for full, part in zip(everywhere, here, strict=True):
        assert np.array_equal(full[window], part[: full[window].shape[0], : full[window].shape[1]])


def test_places_in_another_crs_are_those_of_proj() -> None:
    """Interpolated between points, they are off by two millimetres at most at 10 m."""
    grid = box(1e-4, 15.0, 48.0, (300, 300), "EPSG:4326")
    x, y = pixel_places(grid, CRS("EPSG:32633"), *whole(grid))
    lon = 15 + (np.arange(300) + 0.5) * 1e-4
    lat = 48 - (np.arange(300) + 0.5) * 1e-4
    exact = Transformer.from_crs(4326, 32633, always_xy=True).transform(*np.meshgrid(lon, lat))
    assert np.hypot(x - exact[0], y - exact[1]).max() < 2e-3


@given(st.integers(3, 30), st.floats(-500, 500), st.floats(-500, 500))
def test_the_same_ground_is_in_the_same_block(pixel: int, dx: float, dy: float) -> None:
    """Whatever the grid, a pixel's block is the one that holds its centre."""
    grid = box(pixel, 500_000 + dx, 5_400_000 + dy, (9, 7))
    east, south = np.broadcast_arrays(*LATTICE.positions(grid, *whole(grid)))
    for row, col in [(0, 0), (8, 6), (4, 3)]:
        x, y = grid.affine * (col + 0.5, row + 0.5)
        assert abs(east[row, col] - (x - 500_000) / 40) < 1e-9
        assert abs(south[row, col] - (5_400_000 - y) / 40) < 1e-9


def test_reach_holds_all_blocks_of_an_image() -> None:
    """No pixel's block is missing, in the image's own CRS and in another one."""
    for grid in (
        box(10, 500_123, 5_399_987, (33, 21)),
        box(1e-4, 15.0, 48.7, (60, 50), "EPSG:4326"),
    ):
        cols, rows = LATTICE.reach(grid)
        east, south = LATTICE.positions(grid, *whole(grid))
        assert set(np.floor(east).ravel().astype(int)) <= set(cols)
        assert set(np.floor(south).ravel().astype(int)) <= set(rows)
