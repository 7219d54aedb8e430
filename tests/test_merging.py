"""Regions below the minimum mapping unit go into their neighbours, none is dropped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from landcover.merging import Merged, merge_small, region_borders, seam_borders, strip_borders
from landcover.regions import RegionFinder, label

RASTERS = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)
)


def parse(drawing: str) -> np.ndarray:
    """Class raster from lines of digits."""
    return np.array([[int(code) for code in line] for line in drawing.split()], np.uint8)


def merged(
    classes: np.ndarray,
    minimum: int,
    *,
    rows: int | None = None,
    along: int = 1000,
    down: int = 1000,
    sure: tuple[float, ...] = (),
    kept: tuple[int, ...] = (),
) -> tuple[np.ndarray, Merged]:
    """Merge regions of fewer pixels; give the new class raster."""
    height, width = classes.shape
    step = rows or height
    strips = [label(classes[top : top + step]) for top in range(0, height, step)]
    finder, parts, above = RegionFinder(width), [], np.zeros(width, np.int32)
    for strip in strips:
        base, size = finder.add(strip), len(strip.labels)
        lengths = np.full(size, along, np.int64), np.full(size, down, np.int64)
        unique = np.where(strip.labels > 0, strip.labels + np.int32(base), 0)
        parts += [strip_borders(strip, *lengths).moved(base), seam_borders(above, unique[0], along)]
        above = unique[-1]
    regions = finder.regions()
    of_pixels = np.concatenate([regions.of_pieces(i)[s.labels] for i, s in enumerate(strips)])
    areas = np.bincount(of_pixels.ravel(), minlength=len(regions) + 1)[1:]
    confidence = np.array(sure) if sure else np.zeros(len(regions))
    result = merge_small(regions, region_borders(parts, regions), areas, minimum, confidence, kept)
    codes = np.append(0, result.regions.codes)
    return (
        np.concatenate(
            [codes[result.regions.of_pieces(i)[s.labels]] for i, s in enumerate(strips)]
        ),
        result,
    )


def by_definition(classes: np.ndarray, minimum: int) -> np.ndarray:
    """Merge one region at a time on the raster itself, looking at everything anew each time."""
    classes = classes.copy()
    while True:
        labels = np.zeros(classes.shape, int)
        for code in np.unique(classes[classes > 0]):
            found, _ = ndimage.label(classes == code)
            labels[found > 0] = found[found > 0] + labels.max()
        flat = labels.ravel()
        first = {n: int(np.argmax(flat == n)) for n in np.unique(flat[flat > 0])}
        shared: dict[int, dict[int, int]] = {n: {} for n in first}
        for one, other in (
            (labels[:, 1:], labels[:, :-1]),
            (labels[1:], labels[:-1]),
        ):
            for a, b in zip(one.ravel(), other.ravel(), strict=True):
                if a and b and a != b:
                    shared[a][b] = shared[a].get(b, 0) + 1
                    shared[b][a] = shared[b].get(a, 0) + 1
        sizes = {n: int((flat == n).sum()) for n in first}
        small = [n for n in first if sizes[n] < minimum and shared[n]]
        if not small:
            return classes
        least = min(small, key=lambda n: (sizes[n], first[n]))
        code = {n: int(classes.ravel()[first[n]]) for n in first}
        best = min(shared[least], key=lambda n: (-shared[least][n], code[n], first[n]))
        classes[labels == least] = code[best]


def test_a_lone_pixel_takes_the_class_around_it():
    """One pixel of 2 within 1, below a minimum of two pixels."""
    classes, result = merged(parse("111 121 111"), 2)
    assert classes.tolist() == parse("111 111 111").tolist()
    assert (len(result.regions), result.merged, result.moved) == (1, 1, {(2, 1): 1})


def test_the_longest_border_decides():
    """A pixel with three sides to 1 and one to 3 becomes 1, and one of 3 with two sides to 2 becomes 2."""
    assert merged(parse("1122 1432 1122"), 2)[0].tolist() == parse("1122 1122 1122").tolist()


def test_the_length_of_a_border_is_that_on_the_ground():
    """Beside a pixel lie 1 and 2, below it 3: what is longer depends on the pixel's shape."""
    drawing = parse("0000 1422 1333")
    assert merged(drawing, 2, along=15_000, down=10_000)[0][1, 1] == 3
    assert merged(drawing, 2, along=10_000, down=15_000)[0][1, 1] == 1


def test_of_equal_borders_the_more_confident_wins_then_the_lower_code():
    """A pixel between one of 3 and one of 2."""
    assert merged(parse("33122"), 2)[0].tolist() == [[3, 3, 2, 2, 2]]
    assert merged(parse("33122"), 2, sure=(90.0, 50.0, 80.0))[0].tolist() == [[3, 3, 3, 2, 2]]


def test_it_joins_all_its_neighbours_of_that_class():
    """The pixel that parted two fields of one class makes them one region."""
    classes, result = merged(parse("11211"), 2)
    assert classes.tolist() == [[1, 1, 1, 1, 1]]
    assert len(result.regions) == 1


def test_what_has_no_neighbour_stays():
    """An island in nodata keeps its class however small it is."""
    classes, result = merged(parse("100 000 022"), 5)
    assert classes.tolist() == parse("100 000 022").tolist()
    assert (len(result.regions), result.merged, result.moved) == (2, 0, {})


def test_small_ones_grow_together():
    """The smallest goes first, and what it makes may be large enough to stay."""
    classes, _ = merged(parse("1123333333"), 3)
    assert classes.tolist() == [[1, 1, 1, 3, 3, 3, 3, 3, 3, 3]]


@settings(deadline=None, max_examples=100)
@given(classes=RASTERS, minimum=st.integers(1, 9), rows=st.integers(1, 9))
def test_any_raster_is_merged_as_defined(classes: np.ndarray, minimum: int, rows: int):
    """In strips of any height: the same as merging one region at a time on the raster itself."""
    found, result = merged(classes, minimum, rows=rows)
    assert found.tolist() == by_definition(classes, minimum).tolist()
    before = np.bincount(classes.ravel(), minlength=4)
    for (old, new), pixels in result.moved.items():
        before[old] -= pixels
        before[new] += pixels
    assert before.tolist() == np.bincount(found.ravel(), minlength=4).tolist()


@pytest.mark.parametrize("minimum", [0, 1])
def test_nothing_is_merged_where_nothing_is_too_small(minimum: int):
    """A minimum of a pixel or none changes nothing."""
    classes = np.random.default_rng(0).integers(0, 4, (20, 20)).astype(np.uint8)
    assert merged(classes, minimum)[0].tolist() == classes.tolist()


def test_a_class_that_is_kept_takes_in_but_never_goes():
    """Specks of 2 go into 1; a speck of 1 amid 2 stays, however small."""
    drawing = parse("11111 11211 11111 22222 22122 22222")
    everything = merged(drawing, 4)[0]
    assert everything.tolist() == parse("11111 11111 11111 22222 22222 22222").tolist()
    kept = merged(drawing, 4, kept=(1,))[0]
    assert kept.tolist() == parse("11111 11111 11111 22222 22122 22222").tolist()


@settings(deadline=None, max_examples=50)
@given(classes=RASTERS, minimum=st.integers(1, 9), rows=st.integers(1, 9))
def test_no_pixel_of_a_kept_class_changes(classes: np.ndarray, minimum: int, rows: int):
    """In strips of any height, the same."""
    found = merged(classes, minimum, rows=rows, kept=(1,))[0]
    assert (found[classes == 1] == 1).all()
    assert found.tolist() == merged(classes, minimum, kept=(1,))[0].tolist()
    assert ((found > 0) == (classes > 0)).all()
