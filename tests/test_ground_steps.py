"""Lengths on the ellipsoid, in any CRS."""

from itertools import pairwise

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from landcover.ground_steps import GroundSteps
from tests.traced import traced

GRIDS = [
    GeoBox((60, 80), Affine(10, 0, 600_000, 0, -10, 6_700_000), "EPSG:32633"),
    GeoBox((60, 80), Affine(1e-4, 0, 16, 0, -1e-4, 48), "EPSG:4326"),
    GeoBox((60, 80), Affine(0.5, 0, -120, 0, -0.5, 80), "EPSG:4326"),
    GeoBox((60, 80), Affine(10, 0, 1_700_000, 0, -10, 6_000_000), "EPSG:3857"),
    GeoBox((60, 80), Affine(300, 0, 1_000_000, 0, -300, 6_000_000), "EPSG:6933"),
    GeoBox((60, 80), Affine.translation(16, 48) * Affine.rotation(30) * Affine.scale(1e-3, -2e-3), "EPSG:4326"),
]  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: str(grid.crs))
def test_perimeters_are_those_of_geodesics(grid: GeoBox):
    """Each side cut into short pieces and measured by pyproj: equal to 1e-4."""
    classes = np.kron(np.random.default_rng(1).integers(1, 4, (6, 8)), np.ones((10, 10), int))
    (polygons,) = traced(classes.astype(np.uint8)).batches
    found = GroundSteps(grid).perimeters(polygons)
    to_degrees = Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True)
    geod = Geod(ellps="WGS84")
    for polygon, length in zip(polygons.geometries(grid.affine), found, strict=True):
        true = 0.0
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.array(ring.coords)
            t = np.linspace(0, 1, 21)[:-1, None]
            fine = np.concatenate([a + t * (b - a) for a, b in pairwise(points)] + [points[-1:]])
            true += geod.line_length(*to_degrees.transform(*fine.T))
        assert length == pytest.approx(true, rel=1e-4)


def test_steps_at_the_equator_and_at_60_degrees():
    """A degree of longitude: 111,320 m at the equator, half of it at 60 degrees, and a bit."""
    grid = GeoBox((60, 4), Affine(1, 0, 0, 0, -1, 60), "EPSG:4326")
    steps = GroundSteps(grid).longest
    assert steps[60, 0] == pytest.approx(111_320, rel=1e-3)
    assert steps[0, 0] == pytest.approx(55_800, rel=1e-3)
    assert steps[60, 1] == pytest.approx(110_574, rel=1e-3)
    assert np.abs(steps[:, 2]).max() < 1e-6


def test_rotated_pixels_are_not_square_to_each_other():
    """A sheared grid has a cosine between its steps."""
    sheared = Affine(10, 5, 500_000, 0, -10, 5_000_000)
    steps = GroundSteps(GeoBox((4, 4), sheared, "EPSG:32633")).longest
    assert steps[2, 0] == pytest.approx(10, rel=1e-3)
    assert steps[2, 1] == pytest.approx(np.hypot(5, 10), rel=1e-3)
    assert steps[2, 2] == pytest.approx(5 / np.hypot(5, 10), rel=1e-3)


def test_the_rim_of_a_world_map_has_lengths_too():
    """In Mollweide's corners there is no Earth; pixels beside them still have finite sides."""
    grid = GeoBox((40, 80), Affine(450_000, 0, -18_000_000, 0, -450_000, 9_000_000), "ESRI:54009")
    steps = GroundSteps(grid)
    assert np.isfinite(steps.longest).all()
    (polygons,) = traced(np.ones((40, 80), np.uint8)).batches
    assert np.isfinite(steps.perimeters(polygons)).all()
