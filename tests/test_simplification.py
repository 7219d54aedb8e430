"""Simplified borders are those of a valid coverage, near the old ones, and the same on both sides."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio import Affine
from scipy.ndimage import gaussian_filter

from landcover.ground_steps import GroundSteps
from landcover.polygons import Polygons
from landcover.simplification import CornerMap, simplify
from tests.traced import Traced, traced

METRE = Affine(1, 0, 0, 0, -1, 0)
QUANTUM = 2.0**-20


def metres(shape: tuple[int, int]) -> GroundSteps:
    """Steps of one metre, nearly, in the middle of a UTM zone whose scale is 0.9996."""
    return GroundSteps(GeoBox(shape, Affine(0.9996, 0, 500_000, 0, -0.9996, 0), "EPSG:32633"))


def simplified(traces: Traced, tolerance: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Polygons by region in pixels, the area that each won in pixels, and the worst displacement."""
    corners, steps = CornerMap(*traces.labels.shape), metres(traces.labels.shape)
    found = np.empty(len(traces.regions), object)
    won, worst = np.zeros(len(found)), 0.0
    for fragments, polygons in zip(traces.fragments, traces.batches, strict=True):
        corners.add(fragments.vertices)
        thin, units, moved = simplify(polygons, corners, steps, tolerance, QUANTUM)
        found[polygons.regions - 1] = thin.geometries(METRE)
        won[polygons.regions - 1] = units * QUANTUM
        worst = max(worst, moved)
    return found, won, worst


def patches(shape: tuple[int, int], seed: int, classes: int, smooth: float) -> np.ndarray:
    """Noise smoothed into patches; codes from 0 if the seed is odd."""
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth)
    limits = np.quantile(values, np.linspace(0, 1, classes + 1)[1:-1])
    return (np.digitize(values, limits) + 1 - seed % 2).astype(np.uint8)


def test_a_staircase_becomes_a_line():
    """Steps of one pixel are 0.71 pixels from the line through every other one."""
    classes = np.ones((12, 12), np.uint8)
    classes[np.tril_indices(12, -1)] = 2
    polygons, won, worst = simplified(traced(classes), 1.0)
    assert shapely.get_num_coordinates(polygons).max() <= 8
    assert 0.5 < worst <= 1
    assert won[0] == -won[1]
    assert shapely.area(polygons).tolist() == pytest.approx([78 + won[0], 66 + won[1]], abs=1e-4)


def test_a_border_to_nodata_stays():
    """The outline of the coverage is that of the pixels, whatever the tolerance."""
    classes = np.ones((12, 12), np.uint8)
    classes[np.tril_indices(12, -1)] = 0
    traces = traced(classes)
    polygons, won, worst = simplified(traces, 5.0)
    assert shapely.equals(polygons, traces.geometries(METRE)).all()
    assert (won.tolist(), worst) == ([0], 0)


def test_no_polygon_vanishes():
    """A single pixel within a large tolerance keeps an area."""
    classes = np.ones((9, 9), np.uint8)
    classes[4, 4] = 2
    polygons, _, _ = simplified(traced(classes), 100.0)
    assert (shapely.area(polygons) > 0).all()


def test_a_tolerance_below_a_step_changes_nothing():
    """No vertex of pixel borders is nearer than 0.7 of a pixel to the line past it."""
    traces = traced(patches((40, 40), 2, 3, 1.0))
    polygons, won, worst = simplified(traces, 0.4)
    assert shapely.equals(polygons, traces.geometries(METRE)).all()
    assert (np.abs(won).max(), worst) == (0, 0)


@settings(deadline=None, max_examples=150)
@given(
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 5),
    smooth=st.sampled_from([0.0, 0.6, 1.0, 2.5]),
    tolerance=st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 10.0]),
    rows=st.integers(1, 40),
)
def test_any_raster_stays_a_coverage(
    shape: tuple[int, int], seed: int, classes: int, smooth: float, tolerance: float, rows: int
):
    """Valid, without gap or overlap, as near as promised, of the area told, and the same in strips."""
    whole = traced(patches(shape, seed, classes, smooth))
    before = whole.geometries(METRE)
    polygons, won, worst = simplified(whole, tolerance)
    if not len(polygons):
        return
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    assert worst <= tolerance
    moved = shapely.hausdorff_distance(shapely.boundary(polygons), shapely.boundary(before))
    assert moved.max() <= tolerance * 1.001
    assert np.allclose(shapely.area(polygons), shapely.area(before) + won, atol=1e-3)
    assert won.sum() == 0
    assert shapely.union_all(polygons).equals(shapely.union_all(before))
    again, _, _ = simplified(traced(patches(shape, seed, classes, smooth), rows), tolerance)
    assert shapely.to_wkb(polygons).tolist() == shapely.to_wkb(again).tolist()


def test_nothing_at_all():
    """No polygons give no polygons."""
    none = np.zeros(0, np.int64)
    empty = Polygons(np.zeros(0, np.int32), none, np.zeros(1, np.int64), np.zeros(1, np.int64))
    thin, won, worst = simplify(empty, CornerMap(2, 2), metres((2, 2)), 1.0, QUANTUM)
    assert (len(thin), len(won), worst) == (0, 0, 0.0)
