"""The masked median."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landcover.compositing import median_composite


def one_pixel(numbers: list[int], clear: list[bool], offsets: list[int]) -> tuple[int, int]:
    """Composite and count of a single pixel, one band."""
    values = np.array(numbers, np.uint16).reshape(-1, 1, 1, 1)
    mask = np.array(clear).reshape(-1, 1, 1)
    out, count = median_composite(values, mask, np.array(offsets, np.int32))
    return int(out[0, 0, 0]), int(count[0, 0])


@pytest.mark.parametrize(
    ("numbers", "clear", "offsets", "expected"),
    [
        ([300, 100, 200], [True] * 3, [0] * 3, (200, 3)),
        ([300, 100, 200], [True, True, False], [0] * 3, (200, 2)),
        ([0, 100, 900], [True] * 3, [0] * 3, (500, 2)),  # 0 is nodata, not a number
        ([100, 101], [True] * 2, [0] * 2, (100, 2)),  # 100.5 to the even neighbour
        ([101, 102], [True] * 2, [0] * 2, (102, 2)),  # 101.5 to the even neighbour
        ([1300, 300], [True] * 2, [-1000, 0], (300, 2)),  # offset and no offset agree
        ([900], [True], [-1000], (1, 1)),  # below zero reflectance is dark, not nodata
        ([500], [False], [0], (0, 0)),
        ([0], [True], [0], (0, 0)),
    ],
)
def test_literal_pixels(
    numbers: list[int], clear: list[bool], offsets: list[int], expected: tuple[int, int]
) -> None:
    """Medians that a person can check."""
    assert one_pixel(numbers, clear, offsets) == expected


def test_an_observation_counts_whole_or_not_at_all() -> None:
    """A date that lacks one band contributes none of its bands."""
    values = np.array([[[[10]], [[0]]], [[[30]], [[40]]]], np.uint16)
    out, count = median_composite(values, np.ones((2, 1, 1), bool), np.zeros(2, np.int32))
    assert out.ravel().tolist() == [30, 40]
    assert count.tolist() == [[1]]


def nanmedian(
    values: NDArray[np.uint16], clear: NDArray[np.bool_], offsets: NDArray[np.int32]
) -> NDArray[np.uint16]:
    """The same with numpy."""
    seen = (clear & (values != 0).all(axis=1))[:, None]
    numbers = np.where(seen, values + offsets[:, None, None, None].astype(float), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-nodata pixels are expected
        median = np.clip(np.rint(np.nanmedian(numbers, axis=0)), 1, 65535)
    return np.nan_to_num(median, nan=0).astype(np.uint16)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    times=st.integers(1, 13),
    top=st.sampled_from([3, 1200, 65535]),
)
def test_equals_numpy_nanmedian(seed: int, times: int, top: int) -> None:
    """Any stack gives what numpy.nanmedian gives, rounded half to even."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, top, (times, 2, 5, 7), endpoint=True).astype(np.uint16)
    clear = rng.random((times, 5, 7)) < rng.random()
    offsets = rng.choice([0, -1000], times).astype(np.int32)
    out, count = median_composite(values, clear, offsets)
    np.testing.assert_array_equal(out, nanmedian(values, clear, offsets))
    assert ((out[0] != 0) == (count != 0)).all()
