"""The error matrix and its measures, first on grids that a person can check by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from landcover.errors import LegendError, RasterError
from landcover.metrics import ErrorMatrix

Codes = NDArray[np.uint8]
MAPPED = np.array([[1, 1, 2], [1, 2, 2], [3, 0, 3]], np.uint8)
REFERENCE = np.array([[1, 2, 2], [1, 2, 1], [3, 3, 0]], np.uint8)
# Left out: (2, 1) has no map, (2, 2) has no reference. Seven pixels remain, five agree.


def matrix() -> ErrorMatrix:
    """The error matrix of the literal grids."""
    return ErrorMatrix.count(MAPPED, REFERENCE, codes=(1, 2, 3))


def test_rows_are_the_map_and_columns_the_reference():
    """One pixel mapped 1 is reference 2 and the other way round; nodata on either side is out."""
    np.testing.assert_array_equal(matrix().counts, [[2, 1, 0], [1, 2, 0], [0, 0, 1]])
    lopsided = ErrorMatrix.count(np.array([1, 1], np.uint8), np.array([2, 2], np.uint8), (1, 2))
    np.testing.assert_array_equal(lopsided.counts, [[0, 2], [0, 0]])


def test_measures_of_the_literal_grid():
    """The measures are the fractions one counts by hand."""
    m = matrix()
    assert m.pixels == 7
    assert m.overall_accuracy == pytest.approx(5 / 7)
    np.testing.assert_allclose(m.users_accuracy, [2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(m.producers_accuracy, [2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(m.iou, [2 / 4, 2 / 4, 1])
    np.testing.assert_allclose(m.f1, [4 / 6, 4 / 6, 1])
    assert m.mean_iou == pytest.approx(2 / 3)
    np.testing.assert_array_equal(m.mapped, [3, 3, 1])
    np.testing.assert_array_equal(m.reference, [3, 3, 1])


def test_users_and_producers_accuracy_are_not_swapped():
    """A map that calls everything class 1 finds all of it, and is right half the time."""
    mapped, reference = np.array([1, 1, 1, 1], np.uint8), np.array([1, 1, 2, 2], np.uint8)
    m = ErrorMatrix.count(mapped, reference, (1, 2))
    assert m.users_accuracy[0] == 0.5
    assert m.producers_accuracy[0] == 1.0


def test_users_accuracy_of_olofsson_2014():
    """The user's accuracies printed under table 8 of Olofsson et al. (2014) come out."""
    counts = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    m = ErrorMatrix((1, 2, 3, 4), counts)
    np.testing.assert_allclose(m.users_accuracy, [0.88, 0.73, 0.93, 0.96], atol=0.005)


def test_absent_classes_are_unknown_not_zero():
    """Absent from both: NaN everywhere, and left out of the mean. In one of them: IoU and F1 0."""
    mapped, reference = np.array([1, 1, 2], np.uint8), np.array([1, 1, 3], np.uint8)
    m = ErrorMatrix.count(mapped, reference, (1, 2, 3, 4))
    np.testing.assert_array_equal(m.iou, [1, 0, 0, math.nan])
    np.testing.assert_array_equal(m.f1, [1, 0, 0, math.nan])
    np.testing.assert_array_equal(m.users_accuracy, [1, 0, math.nan, math.nan])
    np.testing.assert_array_equal(m.producers_accuracy, [1, math.nan, 0, math.nan])
    assert m.mean_iou == pytest.approx(1 / 3)


def test_nothing_in_common_is_nan_without_a_warning():
    """Two rasters that never overlap give NaN, not a division error."""
    m = ErrorMatrix.count(np.array([0, 1], np.uint8), np.array([1, 0], np.uint8), (1,))
    assert m.pixels == 0
    assert math.isnan(m.overall_accuracy)
    assert math.isnan(m.mean_iou)


def test_code_255_is_counted():
    """The largest code a class raster can hold does not overflow the counting."""
    m = ErrorMatrix.count(np.array([255, 1], np.uint8), np.array([255, 255], np.uint8), (1, 255))
    np.testing.assert_array_equal(m.counts, [[0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("mapped", "reference", "side"), [([9], [1], "map"), ([1], [9], "reference")]
)
def test_a_code_outside_the_legend_is_refused(mapped: list[int], reference: list[int], side: str):
    """A code that the legend does not name is an error that says which raster and which code."""
    with pytest.raises(LegendError, match=rf"The {side} holds the class codes \[9\]"):
        ErrorMatrix.count(np.array(mapped, np.uint8), np.array(reference, np.uint8), (1, 2))


def test_blocks_of_different_shape_and_legends_are_refused():
    """What does not lie pixel on pixel is not counted; what has other codes is not added."""
    with pytest.raises(RasterError, match="same pixels"):
        ErrorMatrix.count(np.ones((2, 3), np.uint8), np.ones((3, 2), np.uint8), (1,))
    with pytest.raises(LegendError, match="one legend"):
        ErrorMatrix.empty((1, 2)) + ErrorMatrix.empty((1, 3))


codes = arrays(np.uint8, (12, 9), elements=st.integers(0, 4))


@settings(deadline=None)
@given(codes, codes, st.integers(1, 11))
def test_counting_by_blocks_equals_counting_at_once(mapped: Codes, reference: Codes, cut: int):
    """However the rows are cut, the sum of the blocks is the whole, and each pixel counts once."""
    every = (1, 2, 3, 4)
    whole = ErrorMatrix.count(mapped, reference, every)
    parts = ErrorMatrix.count(mapped[:cut], reference[:cut], every) + ErrorMatrix.count(
        mapped[cut:], reference[cut:], every
    )
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert whole.pixels == np.count_nonzero((mapped > 0) & (reference > 0))


@settings(deadline=None)
@given(codes, codes)
def test_measures_are_those_of_the_definitions(mapped: Codes, reference: Codes):
    """IoU by sets of pixels, F1 as a harmonic mean, and the transpose swaps the two accuracies."""
    m = ErrorMatrix.count(mapped, reference, (1, 2, 3, 4))
    both = (mapped > 0) & (reference > 0)
    for i, code in enumerate(m.codes):
        a, b = both & (mapped == code), both & (reference == code)
        expected = (a & b).sum() / (a | b).sum() if (a | b).any() else math.nan
        np.testing.assert_allclose(m.iou[i], expected)
        if m.agreed[i]:
            harmonic = 2 / (1 / m.users_accuracy[i] + 1 / m.producers_accuracy[i])
            assert m.f1[i] == pytest.approx(harmonic)
    turned = ErrorMatrix.count(reference, mapped, m.codes)
    np.testing.assert_array_equal(turned.users_accuracy, m.producers_accuracy)


def test_kappa_and_weighted_iou_by_hand() -> None:
    """Map right on 20 + 15 of 50: chance agrees on 0.5, so kappa is 0.4; IoU 20 / 35 and 15 / 30."""
    m = ErrorMatrix((1, 2), np.array([[20, 5], [10, 15]]))
    assert m.kappa == pytest.approx(0.4)
    assert m.frequency_weighted_iou == pytest.approx((30 * 20 / 35 + 20 * 15 / 30) / 50)
    assert m.mean_f1 == pytest.approx((40 / 55 + 30 / 45) / 2)


def test_kappa_is_unknown_where_chance_agrees_fully() -> None:
    """One class on both sides leaves nothing beyond chance; no pixel leaves nothing at all."""
    assert math.isnan(ErrorMatrix((1, 2), np.array([[9, 0], [0, 0]])).kappa)
    assert math.isnan(ErrorMatrix.empty((1, 2)).kappa)
    assert math.isnan(ErrorMatrix.empty((1, 2)).mean_f1)
    assert math.isnan(ErrorMatrix.empty((1, 2)).frequency_weighted_iou)
