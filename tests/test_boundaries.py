"""Boundary F1 and boundary IoU: by hand, against brute force, and however the raster is cut."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from landcover.boundaries import BoundaryCounts, count_boundaries
from landcover.errors import LegendError, SettingsError

Codes = NDArray[np.uint8]
EVERY = (1, 2, 3)


def halves(border: int, side: int = 9) -> Codes:
    """Class 1 left of a column, class 2 from there on."""
    raster = np.full((side, side), 2, np.uint8)
    raster[:, :border] = 1
    return raster


def whole(mapped: Codes, reference: Codes, *tolerances: float) -> BoundaryCounts:
    """Counts of all pixels."""
    return count_boundaries(mapped, reference, EVERY, tolerances)[0]


def brute_force(mapped: Codes, reference: Codes, code: int, tolerance: float) -> list[int]:
    """The six counts of a class, by looking at every pair of pixels."""
    rows, cols = mapped.shape
    places = list(itertools.product(range(rows), range(cols)))
    known = {p for p in places if mapped[p] and reference[p]}
    beyond = [
        p for p in itertools.product(range(-9, rows + 9), range(-9, cols + 9)) if p not in known
    ]

    def near(p: tuple[int, int], others: set[tuple[int, int]], distance: float) -> bool:
        return any(math.dist(p, q) <= distance for q in others)

    sure = {p for p in known if all(math.dist(p, q) > tolerance + 1 for q in beyond)}
    sides = []
    for raster in (mapped, reference):
        mine = {p for p in known if raster[p] == code}
        rim = {p for p in mine if near(p, known - mine, tolerance)}
        sides.append(({p for p in mine if near(p, known - mine, 1)}, rim))
    (a, a_rim), (b, b_rim) = sides
    found = (
        a, {p for p in a if near(p, b, tolerance)}, b, {p for p in b if near(p, a, tolerance)},
        a_rim & b_rim, a_rim | b_rim,
    )  # fmt: skip
    return [len(pixels & sure) for pixels in found]


def test_a_border_one_pixel_off_by_hand() -> None:
    """A border one column off: within 1 pixel all is found, and the strips of 1 pixel share nothing.

    9 x 9 pixels; 5 x 5 are farther than 2 from the rim, 3 x 3 farther than 3. Within 2 pixels the map's
    class 1 has columns 3 and 4 of these, the reference's has column 3: 3 of 6 pixels are common.
    """
    found = whole(halves(5), halves(4), 1, 2)
    np.testing.assert_array_equal(found.counts[:, 0, 0], [5, 5, 5, 5, 0, 10])
    np.testing.assert_array_equal(found.f1[:, :2], [[1, 1], [1, 1]])
    np.testing.assert_array_equal(found.iou[:, :2], [[0, 0], [0.5, 0.5]])


def test_a_border_two_pixels_off_is_missed_within_one() -> None:
    """A border two columns off is not found within 1 pixel, and is found within 2."""
    found = whole(halves(7, 13), halves(5, 13), 1, 2)
    np.testing.assert_array_equal(found.f1[:, 0], [0, 1])


def test_a_border_whose_twin_is_too_near_the_rim_is_unknown() -> None:
    """A mapped border that is near a reference border too close to the rim has precision but no recall."""
    found = whole(halves(5, 11), halves(3, 11), 2)
    np.testing.assert_array_equal(found.counts[:4, 0, 0], [5, 5, 0, 0])
    assert math.isnan(found.f1[0, 0])


def test_one_wrong_pixel_by_hand() -> None:
    """A single pixel of class 2 in class 1: its border is itself, that of class 1 its four neighbours."""
    mapped, reference = np.ones((9, 9), np.uint8), np.ones((9, 9), np.uint8)
    mapped[4, 4] = 2
    found = whole(mapped, reference, 1)
    np.testing.assert_array_equal(found.counts[0, 0], [4, 1, 0])
    np.testing.assert_array_equal(found.f1[0, :2], [0, 0])
    assert math.isnan(found.f1[0, 2])


def test_identical_rasters_agree_fully() -> None:
    """The same borders on both sides score 1 for every class that has one."""
    found = whole(halves(4), halves(4), 1)
    np.testing.assert_array_equal(found.f1[0], [1, 1, math.nan])
    np.testing.assert_array_equal(found.iou[0], [1, 1, math.nan])


def test_rim_and_unlabelled_pixels_make_no_border() -> None:
    """A raster of one class has no border, neither at its rim nor around a hole in the labels."""
    reference = np.ones((12, 12), np.uint8)
    reference[5:7, 5:7] = 0
    found = whole(np.ones((12, 12), np.uint8), reference, 1)
    assert not found.counts.any()


def test_a_border_hidden_by_missing_labels_is_not_counted() -> None:
    """Where the reference border may lie in unlabelled ground, a mapped border is neither right nor wrong."""
    reference = halves(6)
    reference[:, 4:6] = 0
    found = whole(halves(4), reference, 1)
    assert not found.counts[0].any()


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), 1e9])
def test_odd_tolerances_are_refused(tolerance: float) -> None:
    """Tolerances below one pixel or beyond all sense are refused with a sentence."""
    with pytest.raises(SettingsError, match="border tolerance"):
        whole(halves(4), halves(4), tolerance)


def test_counts_of_other_classes_do_not_add_up() -> None:
    """Counts over other classes or tolerances are refused."""
    with pytest.raises(LegendError, match="do not add up"):
        BoundaryCounts.empty((1,), (1,)) + BoundaryCounts.empty((1,), (2,))


codes = arrays(np.uint8, (11, 10), elements=st.sampled_from([0, 1, 1, 1, 2, 2, 3]))
sparse = arrays(np.uint8, (11, 10), elements=st.integers(1, 3), fill=st.just(1))


@settings(deadline=None, max_examples=40)
@given(st.one_of(codes, sparse), sparse, st.sampled_from([1.0, 1.5, 2.0, 3.0]))
def test_equal_to_brute_force(mapped: Codes, reference: Codes, tolerance: float) -> None:
    """Every count is that of a search over all pairs of pixels."""
    found = whole(mapped, reference, tolerance)
    for i, code in enumerate(EVERY):
        expected = brute_force(mapped, reference, code, tolerance)
        np.testing.assert_array_equal(found.counts[:, 0, i], expected)


@settings(deadline=None, max_examples=40)
@given(sparse, sparse)
def test_swapping_map_and_reference_swaps_precision_and_recall(mapped: Codes, reference: Codes):
    """Both measures are the same from either side."""
    one, other = whole(mapped, reference, 1, 2), whole(reference, mapped, 1, 2)
    np.testing.assert_array_equal(one.counts[[2, 3, 0, 1, 4, 5]], other.counts)
    np.testing.assert_allclose(one.f1, other.f1)
    np.testing.assert_array_equal(one.iou, other.iou)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(8, 22), st.sampled_from([1.0, 2.0]))
def test_parts_with_a_rim_add_up_to_the_whole(seed: int, cut: int, tolerance: float) -> None:
    """A raster counted in two parts, each with a rim that is seen but not counted, is the whole."""
    draw = np.random.default_rng(seed)
    mapped, reference = (
        draw.choice([0, 1, 1, 1, 1, 2, 2, 2], (30, 12)).astype(np.uint8) for _ in "ab"
    )
    halo = int(tolerance) + 1
    total = BoundaryCounts.empty(EVERY, (tolerance,))
    for own in (slice(0, cut), slice(cut, 30)):
        top, bottom = max(0, own.start - halo), min(30, own.stop + halo)
        groups = np.full((bottom - top, 12), -1)
        groups[own.start - top : own.stop - top] = 0
        total += count_boundaries(
            mapped[top:bottom], reference[top:bottom], EVERY, (tolerance,), groups
        )[0]
    np.testing.assert_array_equal(total.counts, whole(mapped, reference, tolerance).counts)


def test_groups_share_out_the_whole() -> None:
    """Counts by group of pixels sum to those of all pixels."""
    draw = np.random.default_rng(1)
    mapped, reference = (draw.integers(1, 4, (20, 20)).astype(np.uint8) for _ in "ab")
    groups = draw.integers(0, 3, (20, 20))
    parts = count_boundaries(mapped, reference, EVERY, (1.0,), groups, 3)
    total = parts[0] + parts[1] + parts[2]
    np.testing.assert_array_equal(total.counts, whole(mapped, reference, 1).counts)
    assert total.counts.any()
