"""Features of a class raster, connected by sides or by corners too, for any strips."""

from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from scipy import ndimage

from landcover.area import PixelAreas
from pipeline.class_polygons import ClassPolygons, Pixels

RASTERS = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)
)
TRANSFORM = Affine(100, 0, 0, 0, -100, 0)
CRS = "+proj=laea +lat_0=47 +lon_0=11 +datum=WGS84"
"""Beside its centre, where pixels are of one hectare and both of their sides equally long."""


def parse(drawing: str) -> np.ndarray:
    """Class raster from lines of digits."""
    return np.array([[int(code) for code in line] for line in drawing.split()], np.uint8)


def features(
    classes: np.ndarray, rows: int, *, minimum: float = 0.0, corners: bool = True
) -> dict[int, tuple[int, int, shapely.Geometry]]:
    """By first pixel: class code, pixels, geometry."""
    grid = GeoBox(classes.shape, TRANSFORM, CRS)

    def read() -> Iterator[Pixels]:
        for top in range(0, len(classes), rows):
            part = slice(top, min(top + rows, len(classes)))
            yield Pixels(part, classes[part], None)

    shapes = ClassPolygons(read, grid, minimum=minimum, corners=corners)
    found = {}
    for batch in shapes.batches():
        buffer, offsets = batch.polygons.wkb(TRANSFORM, batch.parts)
        for i, first in enumerate(batch.firsts):
            shape = shapely.from_wkb(buffer[offsets[i] : offsets[i + 1]].tobytes())
            found[int(first)] = (int(batch.codes[i]), int(batch.tally.pixels[i]), shape)
    assert len(found) == len(shapes.features)
    return found


def expected(classes: np.ndarray) -> dict[int, tuple[int, int, shapely.Geometry]]:
    """The same by labelling the whole raster and uniting the squares of its pixels."""
    found = {}
    for code in np.unique(classes[classes > 0]):
        labels, count = ndimage.label(classes == code, np.ones((3, 3)))
        for number in range(1, count + 1):
            rows, cols = np.nonzero(labels == number)
            west, north = TRANSFORM * (cols, rows)
            squares = shapely.box(west, north - 100, west + 100, north)
            first = int(rows[0] * classes.shape[1] + cols[0])
            found[first] = (int(code), len(rows), shapely.union_all(squares))
    return found


def assert_same(
    one: dict[int, tuple[int, int, shapely.Geometry]],
    other: dict[int, tuple[int, int, shapely.Geometry]],
) -> None:
    """Equal keys, classes, pixels, and point sets; every geometry is valid."""
    assert {key: value[:2] for key, value in one.items()} == {
        key: value[:2] for key, value in other.items()
    }
    for key, (_, _, shape) in one.items():
        assert shape.is_valid
        assert shape.equals(other[key][2])


def merged_by_definition(classes: np.ndarray, minimum: int) -> np.ndarray:
    """Merge one 8-connected region at a time, looking at everything anew each time."""
    classes = classes.copy()
    units = PixelAreas(GeoBox(classes.shape, TRANSFORM, CRS)).units(slice(0, len(classes))).ravel()
    while True:
        regions = expected(classes)
        labels = np.zeros(classes.shape, int)
        for code in np.unique(classes[classes > 0]):
            found, _ = ndimage.label(classes == code, np.ones((3, 3)))
            labels[found > 0] = found[found > 0] + labels.max()
        flat = labels.ravel()
        number = {first: int(flat[first]) for first in regions}
        shared: dict[int, dict[int, int]] = {n: {} for n in number.values()}
        for a, b in (
            *zip(labels[:, 1:].ravel(), labels[:, :-1].ravel(), strict=True),
            *zip(labels[1:].ravel(), labels[:-1].ravel(), strict=True),
        ):
            if a and b and a != b:
                shared[a][b] = shared[a].get(b, 0) + 1
                shared[b][a] = shared[b].get(a, 0) + 1
        areas = np.bincount(flat, units)
        small = [
            (areas[number[first]], first)
            for first, (_, pixels, _) in regions.items()
            if pixels < minimum and shared[number[first]]
        ]
        if not small:
            return classes
        _, least = min(small)
        first_of = {n: first for first, n in number.items()}
        beside = shared[number[least]]
        best = min(beside, key=lambda n: (-beside[n], regions[first_of[n]][0], first_of[n]))
        classes[labels == number[least]] = regions[first_of[best]][0]


def test_pixels_that_touch_by_a_corner_are_one_feature_of_two_parts():
    """Two pixels on a diagonal: one multipolygon of two hectares."""
    ((code, pixels, shape),) = features(parse("10 01"), 1).values()
    assert (code, pixels, shape.geom_type, len(shape.geoms)) == (1, 2, "MultiPolygon", 2)
    assert shape.area == 20_000


def test_diagonals_of_two_classes_cross_in_a_point():
    """Both diagonals of four pixels are connected through the same corner."""
    found = features(parse("12 21"), 2)
    assert {first: value[:2] for first, value in found.items()} == {0: (1, 2), 1: (2, 2)}


def test_by_sides_they_are_two():
    """Without corners each pixel is a feature of its own."""
    assert len(features(parse("10 01"), 1, corners=False)) == 2


def test_merging_joins_what_then_touches_by_a_corner():
    """The middle pixel becomes 1, and so reaches the 1 that lies across its corner."""
    found = features(parse("113 123 331"), 1, minimum=2)
    assert {first: value[:2] for first, value in found.items()} == {0: (1, 5), 2: (3, 4)}


def test_what_only_touches_by_a_corner_takes_nothing_in():
    """A pixel whose only neighbour lies across a corner stays: they share no border."""
    found = features(parse("100 022"), 1, minimum=2)
    assert {first: value[:2] for first, value in found.items()} == {0: (1, 1), 4: (2, 2)}


@settings(max_examples=120, deadline=None)
@given(RASTERS, st.integers(1, 9))
def test_any_raster_gives_the_features_of_its_labels(classes: np.ndarray, rows: int):
    """Equal to labelling the whole with all eight neighbours, for strips of any height."""
    assert_same(features(classes, rows), expected(classes))


@settings(max_examples=80, deadline=None)
@given(RASTERS, st.integers(1, 9), st.integers(2, 5))
def test_any_raster_is_merged_as_defined(classes: np.ndarray, rows: int, minimum: int):
    """Equal to merging one region at a time on the raster itself."""
    after = merged_by_definition(classes, minimum)
    assert_same(features(classes, rows, minimum=minimum - 0.5), expected(after))


@pytest.mark.parametrize("rows", [7, 64, 300])
def test_large_features_cross_many_strips(rows: int):
    """On noise just above the threshold of percolation features span the raster."""
    classes = (np.random.default_rng(2).random((150, 120)) < 0.45).astype(np.uint8)
    assert_same(features(classes, rows), expected(classes))
