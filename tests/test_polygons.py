"""Polygons of a class raster are one valid coverage, whatever the raster."""

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from tests.traced import Traced, traced

RASTERS = arrays(
    np.uint8, st.tuples(st.integers(1, 13), st.integers(1, 13)), elements=st.integers(0, 3)
)
TRANSFORMS = st.sampled_from(
    [
        Affine(10, 0, 500_000, 0, -10, 5_000_000),
        Affine(10, 0, 0, 0, 10, 0),  # south up
        Affine(-1, 0, 0, 0, -1, 0),  # east to the left
        Affine.translation(16, 48) * Affine.rotation(30) * Affine.scale(1e-4, -7e-5),
    ]
)


def parse(drawing: str) -> np.ndarray:
    """Class raster from lines of digits."""
    return np.array([[int(code) for code in line] for line in drawing.split()], np.uint8)


def drawn(drawing: str) -> list[str]:
    """Polygons of a drawing as text, in coordinates with y up and 0 at its lower left corner."""
    classes = parse(drawing)
    polygons = traced(classes).geometries(Affine(1, 0, 0, 0, -1, len(classes)))
    return shapely.to_wkt(polygons, trim=True).tolist()


def assert_covers(coverage: Traced, classes: np.ndarray, transform: Affine) -> None:
    """Assert all that a coverage promises, beside the polygons of rasterio."""
    polygons = coverage.geometries(transform)
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    assert shapely.is_ccw(shapely.get_exterior_ring(polygons)).all()
    cell = abs(transform.determinant)
    assert shapely.area(polygons).sum() == pytest.approx((classes > 0).sum() * cell, rel=1e-6)
    theirs = list(rasterio.features.shapes(classes, mask=classes > 0, transform=transform))
    assert len(polygons) == len(theirs)
    for geometry, code in theirs:
        other = shapely.geometry.shape(geometry)
        col, row = ~transform * shapely.point_on_surface(other).coords[0]
        number = coverage.labels[int(row), int(col)] - 1
        assert coverage.regions.codes[number] == code
        assert shapely.symmetric_difference(polygons[number], other).area < 1e-6 * cell


def test_one_pixel_is_a_square():
    """A pixel becomes an anticlockwise square from its upper left corner."""
    assert drawn("5") == ["POLYGON ((0 1, 0 0, 1 0, 1 1, 0 1))"]


def test_nodata_has_no_polygon():
    """Code 0 is not traced; a raster of it alone gives nothing."""
    assert drawn("00 00") == []
    assert drawn("01 00") == ["POLYGON ((1 2, 1 1, 2 1, 2 2, 1 2))"]


def test_a_hole_is_a_clockwise_ring_and_its_island_the_same_vertices():
    """A pixel inside another class is a hole there and a polygon of its own."""
    assert drawn("111 121 111") == [
        "POLYGON ((0 3, 0 0, 3 0, 3 3, 0 3), (1 2, 2 2, 2 1, 1 1, 1 2))",
        "POLYGON ((1 2, 1 1, 2 1, 2 2, 1 2))",
    ]


def test_a_junction_of_three_regions_is_a_vertex_on_every_side():
    """Where two regions end at the straight border of a third, that one has a vertex too."""
    assert drawn("11 23") == [
        "POLYGON ((0 2, 0 1, 1 1, 2 1, 2 2, 0 2))",
        "POLYGON ((0 1, 0 0, 1 0, 1 1, 0 1))",
        "POLYGON ((1 1, 1 0, 2 0, 2 1, 1 1))",
    ]


def test_nodata_counts_as_a_region_at_a_junction():
    """Where data ends along a straight border there is a vertex; where nothing changes, none."""
    assert drawn("111 220") == [
        "POLYGON ((0 2, 0 1, 2 1, 3 1, 3 2, 0 2))",
        "POLYGON ((0 1, 0 0, 2 0, 2 1, 0 1))",
    ]


def test_pixels_of_a_class_that_touch_by_a_corner_are_two_polygons():
    """Components are 4-connected: a chequerboard has as many polygons as pixels."""
    assert drawn("12 21") == [
        "POLYGON ((0 2, 0 1, 1 1, 1 2, 0 2))",
        "POLYGON ((1 2, 1 1, 2 1, 2 2, 1 2))",
        "POLYGON ((0 1, 0 0, 1 0, 1 1, 0 1))",
        "POLYGON ((1 1, 1 0, 2 0, 2 1, 1 1))",
    ]


def test_a_hole_that_touches_the_shell_stays_a_ring_of_its_own():
    """Where a region meets itself across a corner its rings part, so the polygon is valid."""
    assert drawn("111 101 110") == [
        "POLYGON ((0 3, 0 0, 2 0, 2 1, 3 1, 3 3, 0 3), (1 2, 2 2, 2 1, 1 1, 1 2))"
    ]


def test_holes_that_touch_each_other_are_two_rings():
    """Two holes with a common corner do not merge into one ring that touches itself."""
    (polygon,) = traced(parse("1111 1011 1101 1111")).geometries(Affine.scale(1, -1))
    assert [shapely.get_num_coordinates(ring) for ring in polygon.interiors] == [5, 5]
    assert polygon.is_valid


def test_rings_nest_to_any_depth():
    """A ring in a ring: one hole each, and no hole in the middle."""
    coverage = traced(parse("11111 12221 12321 12221 11111"))
    polygons = coverage.geometries(Affine.scale(1, -1))
    assert coverage.regions.codes.tolist() == [1, 2, 3]
    assert shapely.get_num_interior_rings(polygons).tolist() == [1, 1, 0]
    assert shapely.area(polygons).tolist() == [16, 8, 1]


def test_polygons_are_numbered_by_their_first_pixel():
    """Labels follow the raster order of first pixels, also where two arms join further down."""
    coverage = traced(parse("1021 1131 0011"))
    assert coverage.labels.tolist() == [[1, 0, 2, 3], [1, 1, 4, 3], [0, 0, 3, 3]]
    assert coverage.regions.codes.tolist() == [1, 2, 1, 3]
    late = traced(parse("1213 1113"))
    assert late.labels.tolist() == [[1, 2, 1, 3], [1, 1, 1, 3]]


def test_codes_of_two_bytes_are_kept():
    """uint16 codes, as CORINE's, come through."""
    coverage = traced(np.array([[311, 65535]], np.uint16))
    assert coverage.regions.codes.tolist() == [311, 65535]


@settings(deadline=None, max_examples=200)
@given(classes=RASTERS, transform=TRANSFORMS)
def test_any_raster_gives_a_valid_coverage(classes: np.ndarray, transform: Affine):
    """Valid polygons, a valid coverage, and as point sets the polygons of rasterio."""
    assert_covers(traced(classes), classes, transform)


@settings(deadline=None, max_examples=100)
@given(classes=RASTERS)
def test_every_pixel_is_in_its_polygon(classes: np.ndarray):
    """Burning the polygons back gives the labels, hence the classes."""
    coverage = traced(classes)
    polygons = coverage.geometries(Affine.identity())
    shapes = [(polygon, number) for number, polygon in enumerate(polygons, start=1)]
    burnt = rasterio.features.rasterize(shapes or [(shapely.Point(-1, -1), 0)], classes.shape)
    assert np.array_equal(burnt, coverage.labels)
    assert np.array_equal(np.append(0, coverage.regions.codes)[coverage.labels], classes)


@pytest.mark.parametrize("size", [1, 2, 31])
@pytest.mark.parametrize("pattern", ["chequerboard", "diagonal", "spiral", "rings"])
def test_adversarial_patterns_are_valid_coverages(pattern: str, size: int):
    """Chequerboards, one-pixel diagonals, a spiral and nested rings."""
    row, col = np.mgrid[:size, :size]
    depth = np.minimum.reduce([row, col, size - 1 - row, size - 1 - col])
    rings = depth % 2 + 1
    spiral = rings.copy()
    for k in range(1, size // 2):
        spiral[k, k - 1] = 3 - spiral[k, k - 1]
    classes = {
        "chequerboard": (row + col) % 2 + 1,
        "diagonal": (row == col).astype(int),
        "spiral": spiral,
        "rings": rings,
    }[pattern].astype(np.uint8)
    for rows in (1, 3, size):
        assert_covers(traced(classes, rows), classes, Affine(1, 0, 0, 0, -1, size))


@settings(deadline=None, max_examples=50)
@given(classes=RASTERS, transform=TRANSFORMS, rows=st.integers(1, 13))
def test_well_known_binary_is_that_of_shapely(classes: np.ndarray, transform: Affine, rows: int):
    """Polygons have the same bytes through shapely and without it."""
    for polygons in traced(classes, rows).batches:
        binary = shapely.to_wkb(polygons.geometries(transform), byte_order=1).tolist()
        buffer, offsets = polygons.wkb(transform)
        assert buffer.tobytes() == b"".join(binary)
        assert np.diff(offsets).tolist() == [len(part) for part in binary]


@settings(deadline=None, max_examples=200)
@given(classes=RASTERS, rows=st.integers(1, 13))
def test_strips_of_any_height_give_the_same_polygons(classes: np.ndarray, rows: int):
    """Vertex by vertex; and each polygon is given out with the strip that ends it."""
    whole, cut = traced(classes), traced(classes, rows)
    assert_same(whole, cut)
    for number, polygons in enumerate(cut.batches):
        for region in polygons.regions:
            lowest = np.argwhere(cut.labels == region)[-1, 0]
            assert lowest // rows == number or lowest // rows == number - 1


def assert_same(one: Traced, other: Traced) -> None:
    """Assert that regions and polygons are the same, to the last vertex."""
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.regions.codes, other.regions.codes)
    assert np.array_equal(one.regions.firsts, other.regions.firsts)
    first, second = (shapely.to_wkb(t.geometries(Affine.identity())) for t in (one, other))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_a_large_raster_in_strips(rows: int):
    """Smooth patches, a noisy part, and a frame around all: polygons that span many strips."""
    rng = np.random.default_rng(1)
    smooth = gaussian_filter(rng.normal(size=(301, 217)), 4)
    classes = np.digitize(smooth, [-0.05, 0, 0.05]).astype(np.uint8)
    classes[100:180, :90] = rng.integers(0, 3, (80, 90))
    classes[[0, -1]] = 4
    classes[:, [0, -1]] = 4
    assert_same(traced(classes), traced(classes, rows))


def test_simplified_polygons_are_still_a_coverage():
    """Shared vertices let shapely simplify all borders at once without a gap (GDAL's do not)."""
    classes = np.random.default_rng(0).integers(1, 4, (40, 40)).astype(np.uint8)
    polygons = traced(classes).geometries(Affine.scale(1, -1))
    simple = shapely.coverage_simplify(polygons, 1.5, simplify_boundary=False)
    assert shapely.coverage_is_valid(simple)
    assert shapely.area(simple).sum() == pytest.approx(1600, rel=1e-12)
