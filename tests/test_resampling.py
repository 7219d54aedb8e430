"""Where the pixels of one grid lie on another, and what an image shows there."""

import itertools

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import Affine

from landcover.resampling import Block, Numbers, Patch, PixelMap, harmonize, looked_up

UTM = GeoBox((96, 128), Affine(10, 0, 500_000, 0, -10, 5_300_000), "EPSG:32633")
ZERO_IS_NODATA = Numbers((0.0,))
DEGREES = GeoBox.from_bbox((14.99, 47.83, 15.03, 47.86), "EPSG:4326", shape=(333, 301))


def patch(
    pixel_map: PixelMap, image: NDArray[np.generic], block: Block, half: float
) -> Patch | None:
    """What a reader would cut from a whole image for a block."""
    positions = pixel_map.positions(block)
    cuts = positions.window(half)
    if cuts is None:
        return None
    return Patch(np.ascontiguousarray(image[cuts]), (cuts[0].start, cuts[1].start), positions)


def bilinear(
    pixel_map: PixelMap, image: NDArray[np.generic], block: Block, numbers: Numbers = ZERO_IS_NODATA
) -> NDArray[np.uint16]:  # fmt: skip
    """A block of the target, 0 where there is nothing."""
    out = np.full([cut.stop - cut.start for cut in block], 7, np.uint16)
    if found := patch(pixel_map, image, block, 0.5):
        found.bilinear(numbers, out)
    else:
        out[...] = 0
    return out


def nearest(pixel_map: PixelMap, image: NDArray[np.uint8], block: Block) -> NDArray[np.uint8]:
    """A block of the target, 255 beyond the image."""
    out = np.full([cut.stop - cut.start for cut in block], 255, np.uint8)
    if found := patch(pixel_map, image, block, 0.0):
        found.nearest(out)
    return out


def whole(grid: GeoBox) -> Block:
    """All of a grid."""
    return slice(0, grid.shape[0]), slice(0, grid.shape[1])


def test_numbers_of_a_band() -> None:
    """Stored numbers are scaled, rounded half to even and kept in 1..65535; nodata becomes 0."""
    stored = np.array([[-9999, 0, 1, 3, 5, 30_000]], np.int16)
    out = np.zeros(stored.shape, np.uint16)
    harmonize(stored, Numbers(nodata=(-9999.0,), factor=0.5, summand=0.0), out)
    assert out.tolist() == [[0, 1, 1, 2, 2, 15_000]]
    harmonize(stored, Numbers(floor=1.0, summand=-1000.0), out)
    assert out.tolist() == [[0, 0, 1, 1, 1, 29_000]]


def test_nan_is_never_a_measurement() -> None:
    """NaN becomes 0 without being declared."""
    out = np.zeros((1, 3), np.uint16)
    harmonize(np.array([[np.nan, 0.25, 7.0]], np.float32), Numbers(factor=10_000.0), out)
    assert out.tolist() == [[0, 2500, 65_535]]


@given(
    stored=st.lists(st.integers(-32768, 32767), min_size=1, max_size=40),
    summand=st.integers(-3000, 3000),
)
def test_the_fast_way_is_the_exact_way(stored: list[int], summand: int) -> None:
    """Whole numbers moved by a whole number come out as by the general formula."""
    image = np.array([stored], np.int16)
    out = np.zeros(image.shape, np.uint16)
    harmonize(image, Numbers(nodata=(0.0,), floor=1.0, summand=float(summand)), out)
    expected = np.where(image <= 0, 0, np.clip(image.astype(int) + summand, 1, 65_535))
    np.testing.assert_array_equal(out, expected)


def test_grids_cut_from_one_are_known() -> None:
    """A grid moved by whole pixels is read as it is; half a pixel, another size or CRS is not."""
    part = UTM[5:50, 7:60]
    assert PixelMap(UTM, part).shift == (5, 7)
    assert PixelMap(part, UTM).shift == (-5, -7)
    moved = GeoBox(UTM.shape, UTM.transform @ Affine.translation(0.5, 0), UTM.crs)
    assert PixelMap(UTM, moved).shift is None
    assert PixelMap(UTM, UTM.zoom_out(2)).shift is None
    assert PixelMap(DEGREES, UTM).shift is None


def test_how_far_a_finer_image_is_shrunk() -> None:
    """By the whole number of its pixels that fit into one of the grid."""
    assert PixelMap(UTM.zoom_out(2), UTM).shrink == 1
    assert PixelMap(UTM, UTM.zoom_out(3)).shrink == 3
    assert PixelMap(UTM, UTM.zoom_out(2.7)).shrink == 2
    assert PixelMap(DEGREES, UTM).shrink == 1


def test_positions_are_exact_to_a_thousandth_of_a_pixel() -> None:
    """Between the nodes, interpolation and the projection differ by less than 1/1000 pixel."""
    nodes_at = PixelMap(DEGREES, UTM).positions(whole(UTM))
    assert nodes_at.step == 16
    r, c = np.mgrid[: UTM.shape[0], : UTM.shape[1]]
    x, y = UTM.transform @ (c.ravel() + 0.5, r.ravel() + 0.5)
    lon, lat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    exact_col, exact_row = ~DEGREES.transform @ (lon, lat)
    i, j, u, v = r // 16, c // 16, r % 16 / 16, c % 16 / 16
    for nodes, exact in ((nodes_at.row, exact_row), (nodes_at.col, exact_col)):
        above = nodes[i, j] * (1 - v) + nodes[i, j + 1] * v
        below = nodes[i + 1, j] * (1 - v) + nodes[i + 1, j + 1] * v
        assert np.abs((above * (1 - u) + below * u).ravel() - exact).max() < 1e-3


def test_a_coarse_image_between_its_pixels() -> None:
    """A 20 m image on a 10 m grid: a quarter and three quarters of the neighbours, borders repeated."""
    coarse = GeoBox((1, 2), Affine(20, 0, 0, 0, -20, 20), "EPSG:32633")
    fine = GeoBox((2, 4), Affine(10, 0, 0, 0, -10, 20), "EPSG:32633")
    out = bilinear(PixelMap(coarse, fine), np.array([[100, 200]], np.uint16), whole(fine))
    assert out.tolist() == [[100, 125, 175, 200]] * 2


def test_neighbours_without_data_have_no_weight() -> None:
    """Nodata neither spreads nor shrinks: where the nearest pixel has data, data comes out of data alone."""
    coarse = GeoBox((1, 2), Affine(20, 0, 0, 0, -20, 20), "EPSG:32633")
    fine = GeoBox((2, 4), Affine(10, 0, 0, 0, -10, 20), "EPSG:32633")
    out = bilinear(PixelMap(coarse, fine), np.array([[100, 0]], np.uint16), whole(fine))
    assert out.tolist() == [[100, 100, 0, 0]] * 2


def test_codes_are_never_mixed() -> None:
    """A mask comes from the nearest pixel, and says where the image does not reach."""
    coarse = GeoBox((1, 2), Affine(20, 0, 10, 0, -20, 20), "EPSG:32633")
    fine = GeoBox((2, 6), Affine(10, 0, 0, 0, -10, 20), "EPSG:32633")
    out = nearest(PixelMap(coarse, fine), np.array([[4, 9]], np.uint8), whole(fine))
    assert out.tolist() == [[255, 4, 4, 9, 9, 255]] * 2


@pytest.mark.parametrize(
    "image_grid", [DEGREES, UTM.zoom_out(2), GeoBox(UTM.shape, UTM.transform @ Affine.translation(0.3, 0.6), UTM.crs)]
)  # fmt: skip
def test_a_constant_comes_back(image_grid: GeoBox) -> None:
    """An image of one number gives that number wherever it reaches."""
    pixel_map = PixelMap(image_grid, UTM)
    out = bilinear(pixel_map, np.full(pixel_map.shape, 4321, np.uint16), whole(UTM))
    reached = nearest(pixel_map, np.zeros(pixel_map.shape, np.uint8), whole(UTM)) == 0
    np.testing.assert_array_equal(out, np.where(reached, 4321, 0))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(1, 95), max_size=3, unique=True),
    cols=st.lists(st.integers(1, 127), max_size=3, unique=True),
    image_grid=st.sampled_from([DEGREES, UTM.zoom_out(2), DEGREES.rotate(20), UTM.zoom_out(0.3)]),
)
def test_cutting_changes_nothing(rows: list[int], cols: list[int], image_grid: GeoBox) -> None:
    """However the grid is cut into blocks, each pixel gets the same number."""
    pixel_map = PixelMap(image_grid, UTM)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 5000, pixel_map.shape).astype(np.uint16)
    image[rng.random(image.shape) < 0.2] = 0
    at_once = bilinear(pixel_map, image, whole(UTM))
    down, across = [0, *sorted(rows), 96], [0, *sorted(cols), 128]
    parts = [
        [bilinear(pixel_map, image, (slice(a, b), slice(c, d))) for c, d in itertools.pairwise(across)]
        for a, b in itertools.pairwise(down)
    ]  # fmt: skip
    np.testing.assert_array_equal(np.block(parts), at_once)


def test_blocks_may_reach_beyond_the_grid() -> None:
    """Rows and columns outside the grid are where they would be, as a halo needs."""
    pixel_map = PixelMap(DEGREES, UTM)
    image = np.arange(333 * 301, dtype=np.uint32).reshape(333, 301) % 60_000 + 1
    wide = bilinear(pixel_map, image.astype(np.uint16), (slice(-5, 40), slice(-9, 20)))
    inner = bilinear(pixel_map, image.astype(np.uint16), (slice(0, 40), slice(0, 20)))
    np.testing.assert_array_equal(wide[5:, 9:], inner)


def test_an_image_across_the_antimeridian() -> None:
    """An image from 179.99 to 180.01 degrees fills a UTM grid on both sides of 180 without a gap."""
    image_grid = GeoBox.from_bbox((179.98, -17.02, 180.02, -16.98), "EPSG:4326", shape=(400, 400))
    zone = GeoBox.from_bbox((819_000, 8_115_500, 820_500, 8_117_000), "EPSG:32760", resolution=10)
    lon = np.tile(np.linspace(1000, 2000, 400), (400, 1)).astype(np.uint16)
    out = bilinear(PixelMap(image_grid, zone), lon, whole(zone))
    x, y = zone.transform @ (np.arange(150) + 0.5, np.full(150, 75.5))
    east = pyproj.Transformer.from_crs(32760, 4326, always_xy=True).transform(x, y)[0] % 360
    assert east.min() < 180 < east.max()
    expected = 1000 + 1000 * ((east - 179.98) / 0.04 * 400 - 0.5) / 399
    assert np.abs(out[75] - expected).max() < 1.5


def test_a_global_image_has_no_seam_at_180() -> None:
    """Where a global image ends and begins again, pixels of both ends lie side by side."""
    world = GeoBox.from_bbox((-180, -90, 180, 90), "EPSG:4326", shape=(1800, 3600))
    fiji = GeoBox.from_bbox(
        (700_000, 8_000_000, 1_000_000, 8_300_000), "EPSG:32760", resolution=5000
    )
    out = nearest(PixelMap(world, fiji), np.full((1800, 3600), 3, np.uint8), whole(fiji))
    assert (out == 3).all()


def test_far_away_is_nothing() -> None:
    """A block that an image does not touch needs no pixel of it."""
    far = GeoBox.from_bbox((20, 10, 20.1, 10.1), "EPSG:4326", shape=(100, 100))
    assert patch(PixelMap(far, UTM), np.zeros((100, 100), np.uint16), whole(UTM), 0.5) is None


def test_no_more_of_an_image_is_read_than_is_looked_at() -> None:
    """Half the grid's pixels of a mask of 20 m, and one more around them between its pixels."""
    coarse = GeoBox((48, 64), Affine(20, 0, 500_000, 0, -20, 5_300_000), "EPSG:32633")
    positions = PixelMap(coarse, UTM).positions((slice(32, 64), slice(0, 20)))
    assert positions.window(0.0) == (slice(16, 32), slice(0, 10))
    assert positions.window(0.5) == (slice(15, 33), slice(0, 11))
    assert PixelMap(coarse, UTM).positions((slice(200, 210), slice(0, 20))).window(0.5) is None


def test_what_a_table_says_of_codes() -> None:
    """Codes are looked up; what can be no code (negative, NaN, too high) is 1."""
    table = np.zeros(65_536, np.uint8)
    table[[3, 65_535]] = 1
    assert looked_up(np.array([[2, 3, 65_535]], np.uint16), table).tolist() == [[0, 1, 1]]
    assert looked_up(np.array([[-1, 3, 4]], np.int16), table).tolist() == [[1, 1, 0]]
    assert looked_up(np.array([[np.nan, 3, 4, 70_000]], np.float32), table).tolist() == [
        [1, 1, 0, 1]
    ]
