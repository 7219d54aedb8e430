"""The share of each pixel that a polygon covers is exact."""

import itertools
import math

import numpy as np
import pytest
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPoint, MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from landcover.pixel_cover import PixelCover
from landcover.rings import Rings


def shares(polygon: BaseGeometry, rows: int, cols: int) -> np.ndarray:
    """Cover of a raster's pixels."""
    return PixelCover.of(Rings.of(polygon)).shares(slice(0, rows), slice(0, cols))


def clipped(polygon: BaseGeometry, rows: int, cols: int) -> np.ndarray:
    """The same, by cutting the polygon with each pixel."""
    pixels = [[box(c, r, c + 1, r + 1) for c in range(cols)] for r in range(rows)]
    return shapely.area(shapely.intersection(polygon, np.array(pixels)))


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        (Polygon([(0, 0), (3, 0), (0, 3)]), [[1, 1, 0.5], [1, 0.5, 0], [0.5, 0, 0]]),
        (Polygon([(0, 0), (3, 3), (0, 3)]), [[0.5, 0, 0], [1, 0.5, 0], [1, 1, 0.5]]),
        (Polygon([(0.5, 1), (2.5, 1), (1.5, 3)]), [[0, 0, 0], [0.25, 1, 0.25], [0, 0.5, 0]]),
        (box(0.25, 0.5, 2.5, 2), [[0.375, 0.5, 0.25], [0.75, 1, 0.5], [0, 0, 0]]),
        (box(-5, -5, 1.5, 9), [[1, 0.5, 0]] * 3),
        (box(0, 0, 3, 3).difference(box(1, 1, 2, 2)), [[1, 1, 1], [1, 0, 1], [1, 1, 1]]),
        (MultiPolygon([box(0, 0, 1, 1), box(2, 2, 3, 2.5)]), [[1, 0, 0], [0, 0, 0], [0, 0, 0.5]]),
        (box(7, 7, 9, 9), [[0, 0, 0]] * 3),
        (box(-1e30, -1e30, 1e30, 1e30), [[1, 1, 1]] * 3),
        (box(1, -1e30, 1e30, 2), [[0, 1, 1], [0, 1, 1], [0, 0, 0]]),
    ],
)  # fmt: skip
def test_shares_by_hand(polygon: BaseGeometry, expected: list[list[float]]) -> None:
    """Triangles, boxes, holes and parts on a grid of 3 x 3; a ring may run either way round."""
    np.testing.assert_allclose(shares(polygon, 3, 3), expected, atol=1e-11)
    np.testing.assert_allclose(shares(polygon.reverse(), 3, 3), expected, atol=1e-11)


@st.composite
def stars(draw: st.DrawFn) -> Polygon:
    """A star-shaped polygon somewhere around a grid of 8 x 8, often with a hole."""
    count = draw(st.integers(3, 12))
    radii = draw(st.lists(st.floats(0.05, 9), min_size=count, max_size=count))
    x, y = draw(st.tuples(*[st.floats(-2, 10)] * 2))
    turns = [2 * math.pi * k / count for k in range(count)]
    ring = [(x + r * math.cos(t), y + r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]
    hole = [(x + (a - x) / 2, y + (b - y) / 2) for a, b in ring]
    return Polygon(ring, [hole] if draw(st.booleans()) else [])


@settings(deadline=None, max_examples=150)
@given(polygon=stars())
def test_shares_are_those_of_cutting_each_pixel(polygon: Polygon) -> None:
    """Any polygon covers of each pixel what GEOS cuts out of it."""
    np.testing.assert_allclose(shares(polygon, 8, 8), clipped(polygon, 8, 8), atol=1e-10)


@settings(deadline=None, max_examples=100)
@given(polygon=stars(), cuts=st.tuples(*[st.integers(0, 8)] * 4))
def test_windows_are_parts_of_the_whole(polygon: Polygon, cuts: tuple[int, ...]) -> None:
    """A window of the raster has the same shares to the last bit."""
    (top, bottom), (left, right) = sorted(cuts[:2]), sorted(cuts[2:])
    part = PixelCover.of(Rings.of(polygon)).shares(slice(top, bottom), slice(left, right))
    assert np.array_equal(part, shares(polygon, 8, 8)[top:bottom, left:right])


def test_zones_that_share_sides_close_to_the_last_bit() -> None:
    """Voronoi cells that fill a raster cover each pixel exactly once, but for ends that GEOS rounded."""
    points = np.random.default_rng(3).uniform(0, 60, (40, 2))
    whole = box(0, 0, 60, 60)
    cells = shapely.get_parts(shapely.voronoi_polygons(MultiPoint(points), extend_to=whole))
    total = sum(shares(cell.intersection(whole), 60, 60) for cell in cells)
    np.testing.assert_allclose(total, 1, atol=1e-11)


def test_outside_is_0_and_inside_1_to_the_last_bit() -> None:
    """Nothing is left over behind a polygon, and nothing missing within it."""
    polygon = shapely.Point(20.3, 19.9).buffer(17.7, quad_segs=200)
    got, known = shares(polygon, 40, 40), clipped(polygon, 40, 40)
    assert (got[known == 0] == 0).all()
    assert (got[known > 1 - 1e-12] == 1).all()


def test_exactextract_agrees() -> None:
    """The reference implementation gives the same shares, to the 24 bits that it keeps."""
    star = [(20 + r * math.cos(t), 15 + r * math.sin(t)) for t, r in zip(
        np.linspace(0, 2 * math.pi, 60, endpoint=False), itertools.cycle([14.0, 6.5, 11.0]), strict=False,
    )]  # fmt: skip
    polygon = Polygon(star, [[(19, 14), (21.5, 14.2), (20.1, 16.9)]])
    source = NumPyRasterSource(np.zeros((30, 40)), xmin=0, ymin=0, xmax=40, ymax=30)
    upright = shapely.transform(polygon, lambda xy: np.array([0, 30]) + xy * np.array([1, -1]))
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(upright)}
    (found,) = exact_extract(source, [feature], ["cell_id", "coverage"])
    theirs = np.zeros(1200)
    theirs[found["properties"]["cell_id"]] = found["properties"]["coverage"]
    np.testing.assert_allclose(shares(polygon, 30, 40), theirs.reshape(30, 40), atol=1e-6)
