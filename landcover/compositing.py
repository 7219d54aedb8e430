"""Many observations of a pixel become one: the masked median, compiled."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

MAX_VALUE = 65535


@njit(cache=True, nogil=True)
def _insert(buffer: NDArray[np.int64], filled: int, value: int) -> None:
    """Insert into the sorted first `filled` numbers; a few dozen dates need no better sort."""
    j = filled
    while j > 0 and buffer[j - 1] > value:
        buffer[j] = buffer[j - 1]
        j -= 1
    buffer[j] = value


@njit(cache=True, nogil=True)
def _middle(ordered: NDArray[np.int64], n: int) -> np.int64:
    """Median of the first n numbers, rounded half to even as numpy.rint does."""
    twice = ordered[(n - 1) // 2] + ordered[n // 2]
    half = twice // 2
    median: np.int64 = half + (twice % 2) * (half % 2)
    return median


@njit(cache=True, nogil=True)
def _observations(
    values: NDArray[np.uint16],
    clear: NDArray[np.bool_],
    row: int,
    col: int,
    seen: NDArray[np.int64],
) -> int:
    """Write the dates that show this pixel clearly and completely to `seen`; return how many."""
    n = 0
    for t in range(values.shape[0]):
        valid = clear[t, row, col]
        for b in range(values.shape[1]):
            valid = valid and values[t, b, row, col] != 0
        if valid:
            seen[n] = t
            n += 1
    return n


@njit(parallel=True, cache=True, nogil=True)
def _median(
    values: NDArray[np.uint16],
    clear: NDArray[np.bool_],
    offsets: NDArray[np.int32],
    out: NDArray[np.uint16],
    count: NDArray[np.uint16],
) -> None:
    times, bands, rows, cols = values.shape
    for row in prange(rows):
        seen = np.empty(times, np.int64)
        ordered = np.empty(times, np.int64)
        for col in range(cols):
            n = _observations(values, clear, row, col, seen)
            count[row, col] = n
            for b in range(bands if n else 0):
                for i in range(n):
                    t = seen[i]
                    _insert(ordered, i, np.int64(values[t, b, row, col]) + offsets[t])
                out[b, row, col] = min(max(int(_middle(ordered, n)), 1), MAX_VALUE)


def median_composite(
    values: NDArray[np.uint16], clear: NDArray[np.bool_], offsets: NDArray[np.int32]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Median over time of the clear, complete observations of each pixel.

    values: (time, band, rows, cols), stored numbers, 0 = nodata. clear: (time, rows, cols), True
    where nothing hides the ground. offsets: (time,), added to the valid numbers of each date.
    An observation counts when it is clear and none of its bands is nodata.
    Returns the composite (band, rows, cols), 0 = no observation, and the number of observations
    (rows, cols). Medians equal numpy.nanmedian rounded half to even, and are kept in 1..65535
    so that a valid pixel never becomes nodata.
    """
    _, bands, rows, cols = values.shape
    out = np.zeros((bands, rows, cols), np.uint16)
    count = np.zeros((rows, cols), np.uint16)
    _median(values, clear, offsets, out, count)
    return out, count
