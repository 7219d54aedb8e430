"""The exact share of each pixel that a polygon covers.

The side of a polygon changes the cover of its own pixel by the area to its right, and of all pixels
to the right by its height: summed along a row, what is left is the cover. Heights are whole multiples
of 2^-40 of a pixel, so sums are exact: the cover is 0 outside and 1 inside to the last bit, sides that
two zones share cancel, and no cutting of the raster into windows changes a number.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.rings import Rings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ONE = 2**40
"""Units of a whole pixel; a height or a share is off by half a unit, 5e-13."""


@dataclass(frozen=True, eq=False)
class PixelCover:
    """A polygon in pixel coordinates: column and row, whole numbers at the corners of pixels."""

    sides: Floats
    """(n, 4): column and row of the upper end (the smaller row), and of the lower one."""
    signs: NDArray[np.int8]
    """(n,): 1 for a side with the inside to its right, -1 to its left."""

    @classmethod
    def of(cls, rings: Rings) -> Self:
        """The polygon with these rings, in pixel coordinates; they may run either way."""
        start, end, ring = rings.sides
        turned = (_twice_areas(rings) < 0) != rings.holes
        down = start[:, 1] < end[:, 1]
        signs = np.where(down != turned[ring], -1, 1).astype(np.int8)
        upright = np.where(down[:, None], np.hstack([start, end]), np.hstack([end, start]))
        flat = start[:, 1] == end[:, 1]
        return cls(np.ascontiguousarray(upright[~flat]), signs[~flat])

    def window(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a raster of a shape within which all of its cover lies; empty if none."""
        if not len(self.sides):
            return slice(0, 0), slice(0, 0)
        rows, cols = self.sides[:, 1::2], self.sides[:, ::2]
        return _whole(rows, shape[0]), _whole(cols, shape[1])

    def reaches_beyond(self, shape: tuple[int, int]) -> bool:
        """Whether a part of it lies outside a raster of a shape."""
        if not len(self.sides):
            return False
        rows, cols = self.sides[:, 1::2], self.sides[:, ::2]
        return bool(
            min(rows.min(), cols.min()) < 0 or rows.max() > shape[0] or cols.max() > shape[1]
        )

    def shares(self, rows: slice, cols: slice) -> Floats:
        """Covered share of each pixel of a window, (rows, cols), 0 to 1."""
        sums = np.cumsum(self._changes(rows, cols), axis=1)[:, :-1]
        return np.asarray(np.clip(sums, 0, _ONE) / _ONE)

    def add(self, rows: slice, cols: slice, keys: NDArray[np.integer], units: Ints, total: Ints) -> int:  # fmt: skip
        """Add up the covered area of a window by key; returns how many pixels it could not count.

        keys: a whole number for each pixel of the window, 0 is nodata. units: area of each pixel, -1
        where it is off the Earth, which counts for nothing, or as lost where its key is above 0.
        total: area by key, changed in place.
        """
        return int(_add(self._changes(rows, cols), keys, units, total))

    def _changes(self, rows: slice, cols: slice) -> Ints:
        out = np.zeros((rows.stop - rows.start, cols.stop - cols.start + 1), np.int64)
        _draw(self.sides, self.signs, rows.start, cols.start, out)
        return out


def _twice_areas(rings: Rings) -> Floats:
    """Twice the signed area of each ring, seen from its first point: far off, products cancel to noise."""
    start, end, ring = rings.sides
    first = rings.points[np.searchsorted(rings.ring, np.arange(len(rings.polygon)))][ring]
    (x0, y0), (x1, y1) = (start - first).T, (end - first).T
    return np.asarray(np.bincount(ring, x0 * y1 - x1 * y0, len(rings.polygon)), np.float64)


def _whole(ends: Floats, length: int) -> slice:
    first = min(max(math.floor(ends.min()), 0), length)
    return slice(first, max(first, min(math.ceil(ends.max()), length)))


@njit(cache=True, nogil=True)
def _draw(sides, signs, top, left, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Write into `out` (rows, cols + 1) by how much the cover changes from a pixel to the next."""
    bottom = top + out.shape[0]
    for k in range(len(sides)):
        x0, y0, x1, y1 = sides[k]
        if y1 <= top or y0 >= bottom:
            continue
        slope = (x1 - x0) / (y1 - y0)
        for row in range(math.floor(max(y0, top)), math.ceil(min(y1, bottom))):
            xa, ya, xb, yb = x0, y0 - row, x1, y1 - row
            if y0 < row:
                xa, ya = x0 + (row - y0) * slope, 0.0
            if y1 > row + 1:
                xb, yb = x0 + (row + 1 - y0) * slope, 1.0
            high, low = round(ya * _ONE), round(yb * _ONE)
            _draw_row(xa, high, xb, low, signs[k], left, out[row - top])


@njit(cache=True, nogil=True)
def _draw_row(xa, high, xb, low, sign, left, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """One side within one row, from (xa, high) to (xb, low): heights in units from the row's top."""
    if xa > xb:
        xa, high, xb, low = xb, low, xa, high
    right = left + len(out) - 1
    if xa >= right:
        return
    before, col = high, left
    if xa >= left:
        col = math.floor(xa)
    else:  # what lies to the left counts with its height alone
        before = low if xb <= left else _height(xa, high, xb, low, left)
        out[0] += sign * abs(before - high)
    while col < right and col <= xb:
        after = low if xb <= col + 1 else _height(xa, high, xb, low, col + 1)
        tall = abs(after - before)
        beside = round(tall * ((max(xa, col) + min(xb, col + 1)) / 2 - col))
        out[col - left] += sign * (tall - beside)
        out[col - left + 1] += sign * beside
        before = after
        col += 1
        if xb <= col:
            break


@njit(cache=True, nogil=True)
def _height(xa, high, xb, low, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Height at which a side passes a column's border."""
    return high + round((low - high) * ((x - xa) / (xb - xa)))


@njit(cache=True, nogil=True)
def _add(changes, keys, units, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    lost = 0
    for row in range(keys.shape[0]):
        cover = 0
        for col in range(keys.shape[1]):
            cover += changes[row, col]
            if cover <= 0:
                continue
            key, unit = keys[row, col], units[row, col]
            if unit < 0:
                lost += key != 0
            elif cover >= _ONE:
                total[key] += unit
            else:
                total[key] += round(unit * (cover / _ONE))
    return lost
