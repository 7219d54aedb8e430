"""Boxes of well-known binary are those of the geometries."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from landcover.errors import RasterError
from landcover.geometry_boxes import geometry_boxes


def boxes(geometries: list[object]) -> np.ndarray:
    """Boxes of some geometries; None is a null."""
    texts = [b"" if g is None else shapely.to_wkb(g, byte_order=1) for g in geometries]
    ends = np.append(0, np.cumsum([len(text) for text in texts])).astype(np.int64)
    return geometry_boxes(np.frombuffer(b"".join(texts), np.uint8), ends)


def test_a_square_with_a_hole() -> None:
    """Its box is that of the shell: 1, 2 to 5, 7."""
    square = Polygon(box(1, 2, 5, 7).exterior, [box(2, 3, 3, 4).exterior])
    assert boxes([square]).tolist() == [[1, 2, 5, 7]]


def test_kinds_empties_and_nulls() -> None:
    """Points, lines and collections have boxes; what is empty has none, wherever it stands."""
    shapes = [
        Point(3, 4), None, LineString([(0, 9), (2, -1)]), Point(), Polygon(),
        MultiPoint([(1, 1), (-2, 8)]), MultiPolygon([box(0, 0, 1, 1), box(5, -3, 6, 2)]), MultiPolygon(),
    ]  # fmt: skip
    none = [np.nan] * 4
    expected = [
        [3, 4, 3, 4], none, [0, -1, 2, 9], none, none, [-2, 1, 1, 8], [0, -3, 6, 2], none,
    ]  # fmt: skip
    np.testing.assert_array_equal(boxes(shapes), expected)


@pytest.mark.parametrize(
    "wkb",
    [
        shapely.to_wkb(Point(1, 2, 3)),
        shapely.to_wkb(Point(1, 2), byte_order=0),
        shapely.to_wkb(shapely.GeometryCollection([Point(1, 2)])),
        shapely.to_wkb(box(0, 0, 1, 1))[:-1],
        b"\x01\x03\x00\x00\x00\xff\xff\xff\xff",
        b"\x01",
    ],
    ids=["heights", "big-endian", "mixed", "cut", "a ring too many", "a byte"],
)
def test_others_are_refused(wkb: bytes) -> None:
    """What is none of these, or is cut, is refused with its number; nothing beyond it is read."""
    good = shapely.to_wkb(Point(1, 2))
    ends = np.array([0, len(good), len(good) + len(wkb)])
    with pytest.raises(RasterError, match="Geometry 2 is no point, line or polygon"):
        geometry_boxes(np.frombuffer(good + wkb, np.uint8), ends)


numbers = st.floats(-1e7, 1e7)


@given(st.lists(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=6), max_size=5))
def test_equal_to_shapely(lines: list[list[tuple[float, float]]]) -> None:
    """The boxes are shapely's, to the bit."""
    shapes = [LineString(line) for line in lines]
    np.testing.assert_array_equal(boxes(shapes), shapely.bounds(shapes).reshape(-1, 4))
