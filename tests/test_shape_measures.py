"""Compactness, length, width and direction of features on the ground."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox

from landcover.ground_steps import GroundSteps
from landcover.shape_measures import ShapeMeasures, shape_measures
from tests.traced import traced

CRS = "+proj=laea +lat_0=47 +lon_0=11 +datum=WGS84"
"""Its centre has true lengths and directions."""


def measured(classes: np.ndarray, transform: Affine, crs: str = CRS) -> ShapeMeasures:
    """Measures of the polygons of a class raster."""
    grid = GeoBox(classes.shape, transform, crs)
    polygons = traced(classes).batches[0]
    steps = GroundSteps(grid)
    areas = np.array([shape.area for shape in polygons.geometries(transform)])
    parts = np.arange(len(polygons) + 1)
    return shape_measures(polygons, parts, areas, steps.perimeters(polygons), steps, grid)


def test_a_square_and_a_bar():
    """A pixel of 10 m is as long as wide; a bar of 4 x 1 pixels from west to east points to 90 degrees."""
    found = measured(np.array([[1, 0, 2, 2, 2, 2]], np.uint8), Affine(10, 0, -30, 0, -10, 5))
    np.testing.assert_allclose(found.compactness, [np.pi / 4, 4 * np.pi * 400 / 100**2], rtol=1e-7)
    np.testing.assert_allclose(found.length_m, [10, 40], rtol=1e-7)
    np.testing.assert_allclose(found.width_m, [10, 10], rtol=1e-7)
    np.testing.assert_allclose(found.elongation, [1, 4], rtol=1e-7)
    assert found.orientation_deg[1] == pytest.approx(90, abs=1e-3)


@pytest.mark.parametrize("angle", [0, 30, 100, 179])
def test_a_bar_on_a_rotated_grid_points_where_it_lies(angle: float):
    """A bar down the columns of a grid that is turned: its direction is the grid's."""
    transform = Affine.rotation(-angle) * Affine(10, 0, -5, 0, -10, 40)
    found = measured(np.ones((8, 1), np.uint8), transform)
    assert found.elongation[0] == pytest.approx(8, rel=1e-6)
    assert (found.orientation_deg[0] - angle + 90) % 180 == pytest.approx(90, abs=1e-3)


def test_a_diagonal_stair_points_north_east():
    """A stair of pixels rising to the right lies at 45 degrees."""
    classes = np.zeros((12, 12), np.uint8)
    for k in range(11):
        classes[11 - k, k : k + 2] = 1
    found = measured(classes, Affine(10, 0, -60, 0, -10, 60))
    assert found.orientation_deg[0] == pytest.approx(45, abs=0.01)
    assert found.elongation[0] > 5


def test_metres_are_true_in_degrees():
    """At 60 degrees north a pixel of a thousandth degree is half as wide as high, and lies north-south."""
    found = measured(np.ones((1, 1), np.uint8), Affine(1e-3, 0, 10, 0, -1e-3, 60), "EPSG:4326")
    np.testing.assert_allclose([found.length_m[0], found.width_m[0]], [111.412, 55.801], rtol=1e-4)
    assert found.orientation_deg[0] == pytest.approx(0, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)),
    st.sampled_from([(10, 10), (10, 3)]),
)
def test_the_rectangle_is_that_of_shapely(classes: np.ndarray, size: tuple[int, int]):
    """Area of the smallest rectangle equals GEOS's for any polygon, also where pixels are not square."""
    transform = Affine(size[0], 0, -40, 0, -size[1], 40)
    found = measured(classes, transform)
    for i, polygon in enumerate(traced(classes).batches[0].geometries(transform)):
        expected = shapely.oriented_envelope(polygon)
        assert found.length_m[i] * found.width_m[i] == pytest.approx(expected.area, rel=1e-6)
        assert polygon.area <= expected.area * (1 + 1e-9)
