"""Overviews of a raster: every 2 x 2 pixels become one, without those that hold nothing."""

from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.legend import NODATA

Reduction = Literal["mode", "average"]
"""'mode' for classes, 'average' for measurements."""


def halve(pixels: NDArray[Any], how: Reduction) -> NDArray[Any]:
    """Reduce 2 x 2 pixels to one: (bands, rows, cols) -> (bands, ceil(rows / 2), ceil(cols / 2)).

    0 (nodata) and NaN are left out; four of them give 0. 'mode' takes the most frequent value, of equally
    frequent ones that which comes first in reading order. 'average' takes the mean; whole numbers
    are rounded half up. A mean of valid pixels never is 0: it becomes the least number above.
    """
    bands, rows, cols = pixels.shape
    out = np.empty((bands, (rows + 1) // 2, (cols + 1) // 2), pixels.dtype)
    if rows % 2 or cols % 2:
        pixels = np.pad(pixels, ((0, 0), (0, rows % 2), (0, cols % 2)), constant_values=NODATA)
    pixels = np.ascontiguousarray(pixels)
    if how == "mode":
        _mode(pixels, out)
    elif np.issubdtype(pixels.dtype, np.floating):
        _mean(pixels, out, float(np.finfo(pixels.dtype).tiny))
    else:
        _whole_mean(pixels, out)
    return out


@njit(nogil=True, cache=True)
def _mode(pixels: NDArray[Any], out: NDArray[Any]) -> None:
    """Most frequent of p q / r s: choices without branches, the strongest last, as a vector loop."""
    bands, rows, _ = out.shape
    for band in range(bands):
        for row in range(rows):
            upper, lower = pixels[band, 2 * row], pixels[band, 2 * row + 1]
            line = out[band, row]
            for col in range(line.size):
                p, q = upper[2 * col], upper[2 * col + 1]
                r, s = lower[2 * col], lower[2 * col + 1]
                best = r if r != 0 else s
                best = q if q != 0 else best
                best = p if p != 0 else best  # all differ, or are 0
                best = r if (r != 0) & (r == s) else best
                best = q if (q != 0) & ((q == r) | (q == s)) else best
                best = p if (p != 0) & ((p == q) | (p == r) | (p == s)) else best
                line[col] = best


@njit(nogil=True, cache=True)
def _whole_mean(pixels: NDArray[Any], out: NDArray[Any]) -> None:
    """Mean of whole numbers of up to 32 bits: exact in float64, and vectorised without branches."""
    bands, rows, cols = out.shape
    for band in range(bands):
        for row in range(rows):
            upper, lower = pixels[band, 2 * row], pixels[band, 2 * row + 1]
            for col in range(cols):
                p, q = np.float64(upper[2 * col]), np.float64(upper[2 * col + 1])
                r, s = np.float64(lower[2 * col]), np.float64(lower[2 * col + 1])
                count = np.float64((p != 0) + (q != 0) + (r != 0) + (s != 0))
                mean = np.floor((p + q + r + s) / max(count, 1.0) + 0.5)
                out[band, row, col] = mean if mean != 0 else min(count, 1.0)


@njit(nogil=True, cache=True)
def _mean(pixels: NDArray[Any], out: NDArray[Any], least: float) -> None:
    bands, rows, cols = out.shape
    for band in range(bands):
        for row in range(rows):
            upper, lower = pixels[band, 2 * row], pixels[band, 2 * row + 1]
            for col in range(cols):
                total, count = 0.0, 0.0
                for value in (
                    upper[2 * col],
                    upper[2 * col + 1],
                    lower[2 * col],
                    lower[2 * col + 1],
                ):
                    valid = value != 0 and not np.isnan(value)
                    total += value if valid else 0.0
                    count += 1.0 if valid else 0.0
                mean = total / max(count, 1.0)
                out[band, row, col] = mean if mean != 0 else least * min(count, 1.0)
