"""Reduction of 2 x 2 pixels to one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from landcover.overviews import halve


def quad(*values: float, dtype: str = "uint8") -> NDArray[np.generic]:
    """Four pixels p q / r s."""
    return np.array(values, dtype).reshape(1, 2, 2)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ((7, 7, 7, 7), 7),
        ((1, 2, 2, 2), 2),
        ((1, 2, 3, 3), 3),
        ((2, 1, 1, 2), 2),  # as frequent as 1, and first
        ((4, 3, 2, 1), 4),
        ((0, 0, 0, 5), 5),  # nodata is not counted
        ((0, 0, 6, 6), 6),
        ((0, 3, 2, 0), 3),
        ((0, 0, 0, 0), 0),
    ],
)
def test_the_most_frequent_class(values: tuple[int, ...], mode: int) -> None:
    """The most frequent class wins, the first of equals, and nodata only where there is nothing else."""
    assert halve(quad(*values), "mode").tolist() == [[[mode]]]


@pytest.mark.parametrize(
    ("dtype", "values", "mean"),
    [
        ("uint8", (10, 20, 30, 40), 25),
        ("uint8", (1, 2, 2, 1), 2),  # 1.5, half up
        ("uint16", (65535, 65535, 65535, 65535), 65535),
        ("uint16", (1, 0, 2, 2), 2),  # 5 / 3
        ("uint16", (0, 0, 7, 0), 7),
        ("uint16", (0, 0, 0, 0), 0),
        ("int16", (-3, -4, 0, 0), -3),  # -3.5, half up
        ("int16", (-5, 5, 0, 0), 1),  # valid, so not 0
        ("float32", (0.5, 1.5, 0, 0), 1.0),
        ("float32", (np.nan, 2.5, np.nan, 0), 2.5),
        ("float32", (np.nan, 0, np.nan, np.nan), 0),
        ("float32", (-1, 1, 0, 0), np.finfo("float32").tiny),
    ],
)
def test_the_mean(dtype: str, values: tuple[float, ...], mean: float) -> None:
    """The mean of what is there, rounded half up; valid pixels never become nodata."""
    halved = halve(quad(*values, dtype=dtype), "average")
    assert halved.dtype == dtype
    assert halved.tolist() == [[[mean]]]


def test_odd_sides() -> None:
    """The last row and column stand for themselves; bands are apart."""
    image = np.array([[[1, 1, 5], [1, 2, 6], [3, 4, 9]]], np.uint8)
    both = np.concatenate([image, 10 * image])
    assert halve(both, "mode").tolist() == [[[1, 5], [3, 9]], [[10, 50], [30, 90]]]
    assert halve(image, "average").tolist() == [[[1, 6], [4, 9]]]


def test_a_line() -> None:
    """A raster one pixel high is halved along the line."""
    assert halve(np.array([[[1, 1, 2, 0, 3]]], np.uint8), "mode").tolist() == [[[1, 2, 3]]]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 3)))  # fmt: skip
def test_modes_are_counted(image: NDArray[np.uint8]) -> None:
    """Every pixel is the most frequent of its window, first in reading order."""
    halved = halve(image, "mode")
    for band, row, col in np.ndindex(halved.shape):
        window = image[band, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel()
        counts = Counter(int(value) for value in window if value)
        assert halved[band, row, col] == (counts.most_common(1)[0][0] if counts else 0)
