"""Accuracy by the size of objects."""

import numpy as np
import pytest

from landcover.errors import LegendError
from landcover.object_sizes import SIZES, SizeCounts, object_sizes

REFERENCE = np.array(
    [
        [1, 1, 2, 0, 1],
        [1, 2, 2, 0, 1],
        [0, 0, 0, 0, 0],
        [3, 3, 3, 3, 3],
        [3, 3, 3, 3, 3],
    ],
    np.uint8,
)


def test_sizes_by_hand() -> None:
    """Each pixel has the size of its 4-connected object; without a label it is 0."""
    np.testing.assert_array_equal(
        object_sizes(REFERENCE),
        [[3, 3, 3, 0, 2], [3, 3, 3, 0, 2], [0] * 5, [10] * 5, [10] * 5],
    )


def test_counts_by_hand() -> None:
    """5 pixels of class 1 and 3 of class 2 lie in objects below 10 pixels, 10 of class 3 in one of 10."""
    mapped = REFERENCE.copy()
    mapped[0, 0], mapped[3, :2], mapped[2, 2] = 2, 1, 3
    found = SizeCounts.count(mapped, REFERENCE, (1, 2, 3))
    np.testing.assert_array_equal(found.pixels[:2], [[5, 3, 0], [0, 0, 10]])
    np.testing.assert_array_equal(found.found[:2], [[4, 3, 0], [0, 0, 8]])
    assert found.pixels.shape == (len(SIZES), 3)


def test_pixels_that_are_not_counted_still_make_an_object_large() -> None:
    """Of a part only some pixels count, yet the object is as large as it is seen."""
    counted = np.zeros((5, 5), np.bool_)
    counted[3, 0] = True
    found = SizeCounts.count(REFERENCE, REFERENCE, (1, 2, 3), counted)
    np.testing.assert_array_equal(found.pixels.sum(axis=0), [0, 0, 1])
    assert found.pixels[1, 2] == 1


def test_counts_add_up_for_one_legend_only() -> None:
    """Parts add up; counts of other classes are refused."""
    one = SizeCounts.count(REFERENCE, REFERENCE, (1, 2, 3))
    np.testing.assert_array_equal((one + one).pixels, 2 * one.pixels)
    with pytest.raises(LegendError, match="other classes"):
        one + SizeCounts.empty((1, 2))
