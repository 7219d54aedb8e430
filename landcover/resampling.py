"""Images onto another grid: where its pixels lie on the image, and what the image shows there.

The position of every 16th pixel is computed exactly and those between are interpolated; the pixels
chosen so belong to the grid, not to the window read. So a pixel gets the same number however the grid
is cut, and images on one grid of their own share the work.
"""

import math
import threading
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

MAX_VALUE = 65535
STEP = 16
"""Pixels between those whose position is computed. A projection bends by less than 1/1000 pixel on
the way (10 m pixels: the sagitta of 160 m on the Earth is 0.5 mm; of 16 km, 5 m)."""
_CLOSE = 1e-3
"""Grids that differ by less than this part of a pixel are one grid."""

Block = tuple[slice, slice]
"""Rows and columns of a grid; they may reach beyond it."""


@dataclass(frozen=True)
class Numbers:
    """What the stored numbers of a band mean."""

    nodata: tuple[float, ...] = ()
    """Stored numbers, of the band's type, that are no measurement; NaN and infinity never are one."""
    floor: float = -math.inf
    """Lowest stored number that is a measurement."""
    factor: float = 1.0
    summand: float = 0.0
    """Measurement = stored x factor + summand; rounded half to even and kept in 1..65535."""

    @property
    def only_shifts(self) -> bool:
        """Whether they are whole numbers above 0, to which a whole number is added."""
        return (
            set(self.nodata) <= {0.0}
            and self.floor == 1
            and self.factor == 1
            and self.summand == round(self.summand)
        )

    @property
    def arguments(self) -> tuple[NDArray[np.float64], float, float, float]:
        """As the compiled functions take them."""
        return np.array(self.nodata, np.float64), self.floor, self.factor, self.summand


@dataclass(frozen=True, eq=False)
class PixelMap:
    """Where the pixels of a grid lie on the grid of an image. Equal to itself alone."""

    image: GeoBox
    target: GeoBox
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def shift(self) -> tuple[int, int] | None:
        """Rows and columns from the image's origin to the target's, if they are cut from one grid."""
        if self.image.crs != self.target.crs:
            return None
        relative = ~self.image.transform * self.target.transform
        scale = (relative.a - 1, relative.b, relative.d, relative.e - 1)
        size = max(*self.image.shape, *self.target.shape)
        rest = (relative.f - round(relative.f), relative.c - round(relative.c))
        if max(map(abs, scale)) * size > _CLOSE or max(map(abs, rest)) > _CLOSE:
            return None
        return round(relative.f), round(relative.c)

    @cached_property
    def shrink(self) -> int:
        """Whole number of image pixels, on a side, that one pixel of the target covers; at least 1."""
        if self.shift is not None:
            return 1
        rows, cols = (length // 2 for length in self.target.shape)
        below_and_beside = np.array([[rows, rows + 1, rows], [cols, cols, cols + 1]], np.float64)
        row, col = self._positions(below_and_beside[0], below_and_beside[1])
        with np.errstate(invalid="ignore"):
            sides = np.hypot(row[1:] - row[0], col[1:] - col[0])
        if not np.isfinite(sides).all():
            return 1
        return max(1, min(int(sides.min() + _CLOSE), *map(int, self.image.shape)))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image when shrunk; those at its end may hold fewer pixels of it."""
        rows, cols = self.image.shape
        return _shrunk(rows, self.shrink), _shrunk(cols, self.shrink)

    def positions(self, block: Block) -> "Positions":
        """Where the pixels of a block lie on the shrunk image.

        Computed at every pixel where the image's coordinates jump within the block (at the 180 degree
        meridian of a global image), else at every STEPth.
        """
        for step in (STEP, 1):
            rows, cols = (
                np.arange(cut.start // step, -(-(cut.stop - 1) // step) + 2) * float(step)
                for cut in block
            )
            row, col = self._positions(*np.meshgrid(rows, cols, indexing="ij"))
            if step == 1 or not self._jumps(row, col):
                break
        start, shape = zip(*((cut.start, cut.stop - cut.start) for cut in block), strict=True)
        height, width = (length / self.shrink for length in self.image.shape)
        size = height, width
        return Positions(row / self.shrink, col / self.shrink, step, start, shape, size)

    def _positions(
        self, rows: NDArray[np.float64], cols: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position on the image of the middle of target pixels: row, column; not finite = nowhere."""
        to_x, to_y = self.target.transform, ~self.image.transform
        x = to_x.a * (cols + 0.5) + to_x.b * (rows + 0.5) + to_x.c
        y = to_x.d * (cols + 0.5) + to_x.e * (rows + 0.5) + to_x.f
        if self._transformer is not None:
            with self._lock:
                x, y = self._transformer.transform(x, y)
        with np.errstate(invalid="ignore"):  # what has no place is infinite
            if self._middle is not None:
                x = self._middle + (x - self._middle + 180) % 360 - 180
            return to_y.d * x + to_y.e * y + to_y.f, to_y.a * x + to_y.b * y + to_y.c

    @cached_property
    def _transformer(self) -> Transformer | None:
        if self.image.crs == self.target.crs:
            return None
        return Transformer.from_crs(str(self.target.crs), str(self.image.crs), always_xy=True)

    @cached_property
    def _middle(self) -> float | None:
        """Longitude of the image's middle, where its coordinates are longitudes."""
        if self.image.crs is None or not self.image.crs.geographic:
            return None
        rows, cols = self.image.shape
        return float((self.image.transform @ (cols / 2, rows / 2))[0])

    def _jumps(self, row: NDArray[np.float64], col: NDArray[np.float64]) -> bool:
        if self._middle is None:
            return False
        half = 180 / math.hypot(self.image.transform.a, self.image.transform.d)
        with np.errstate(invalid="ignore"):
            return any(
                bool((np.abs(np.diff(part, axis=axis)) > half).any())
                for part in (row, col)
                for axis in (0, 1)
            )


@dataclass(frozen=True, eq=False)
class Positions:
    """Where the pixels of a block lie on a shrunk image."""

    row: NDArray[np.float64]
    col: NDArray[np.float64]
    """(nodes down, nodes across) on the image, of the middle of every `step`th pixel around the block."""
    step: int
    start: tuple[int, int]
    """First row and column of the block."""
    shape: tuple[int, int]
    """Its rows and columns."""
    size: tuple[float, float]
    """How far the whole shrunk image reaches, in its rows and columns; the last may be parts of one."""

    @cached_property
    def axes(self) -> tuple["Axis", "Axis"] | None:
        """Rows and columns of the block's pixels on the image, if one does not depend on the other."""
        if (self.row != self.row[:, :1]).any() or (self.col != self.col[:1]).any():
            return None
        down = _axis(self.row[:, 0], self.step, self.start[0], self.shape[0], self.size[0])
        return down, _axis(self.col[0], self.step, self.start[1], self.shape[1], self.size[1])

    def window(self, half: float) -> Block | None:
        """The part of the image that the block calls for, None for no part.

        half: 0 where the nearest pixel is looked at, 0.5 where those on both sides are. Where rows depend
        on columns it is up to STEP pixels too wide.
        """
        height, width = map(math.ceil, self.size)
        if self.axes is None:
            rows, cols = self._around(self.row, height), self._around(self.col, width)
        else:
            rows, cols = self.axes[0].reach(half, height), self.axes[1].reach(half, width)
        return None if rows is None or cols is None else (rows, cols)

    @staticmethod
    def _around(place: NDArray[np.float64], length: int) -> slice | None:
        """What all nodes lie on, one pixel more on each side."""
        known = place[np.isfinite(place)]
        if known.size == 0:
            return None
        start, stop = max(0, math.floor(known.min()) - 1), min(length, math.ceil(known.max()) + 2)
        return slice(start, stop) if start < stop else None


@dataclass(frozen=True, eq=False)
class Axis:
    """Rows (or columns) of an image that those of a block lie on."""

    place: NDArray[np.float64]
    """Of the middle of each, from the image's edge."""
    within: NDArray[np.bool_]
    """Whether it is on the image."""

    def reach(self, half: float, length: int) -> slice | None:
        """The part of the image between the pixels so far from the middles, None for no part."""
        known = self.place[self.within]
        if known.size == 0:
            return None
        start, last = math.floor(known.min() - half), math.floor(known.max() + half)
        return slice(max(0, start), min(length, last + 1))


def _axis(nodes: NDArray[np.float64], step: int, start: int, length: int, size: float) -> Axis:
    at = np.arange(start, start + length)
    cell, part = at // step - start // step, at % step / step
    place = nodes[cell] + (nodes[cell + 1] - nodes[cell]) * part
    return Axis(place, (place >= 0) & (place < size))


@njit(cache=True, nogil=True, inline="always")
def _measured(value, nodata, floor):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - inlined by numba
    good = np.isfinite(value) and value >= floor
    for k in range(nodata.size):
        good = good and value != nodata[k]
    return good


@njit(cache=True, nogil=True, inline="always")
def _meaning(value, factor, summand):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - inlined by numba
    return np.uint16(min(max(np.rint(value * factor + summand), 1.0), 65535.0))


@njit(cache=True, nogil=True)
def _harmonize(image, nodata, floor, factor, summand, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    rows, cols = out.shape
    for r in range(rows):
        for c in range(cols):
            value = image[r, c]
            good = _measured(value, nodata, floor)
            out[r, c] = _meaning(np.float64(value), factor, summand) if good else np.uint16(0)


@njit(cache=True, nogil=True)
def _shift(image, summand, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Whole numbers above 0 moved by a whole number: what most scenes need."""
    rows, cols = out.shape
    for r in range(rows):
        for c in range(cols):
            value = np.int32(image[r, c])
            moved = min(max(value + summand, np.int32(1)), np.int32(MAX_VALUE))
            out[r, c] = np.uint16(moved if value > 0 else np.int32(0))


@njit(cache=True, nogil=True)
def _bilinear(image, origin, size, row, col, step, start, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    height, width = image.shape
    for r in range(out.shape[0]):
        i = (start[0] + r) // step - start[0] // step
        u = ((start[0] + r) % step) / step
        c = 0
        while c < out.shape[1]:  # cell by cell between nodes: positions are linear in one
            j = (start[1] + c) // step - start[1] // step
            first = (start[1] + c) % step
            until = min(out.shape[1], c + step - first)
            y0, y1 = _side(row, i, j, u), _side(row, i, j + 1, u)
            x0, x1 = _side(col, i, j, u), _side(col, i, j + 1, u)
            for k in range(until - c):
                v = (first + k) / step
                y = y0 + (y1 - y0) * v
                x = x0 + (x1 - x0) * v
                if not (0 <= y < size[0] and 0 <= x < size[1]):
                    out[r, c + k] = 0
                    continue
                top, left = int(y + 0.5) - 1, int(x + 0.5) - 1
                down, right = y - 0.5 - top, x - 0.5 - left
                top -= origin[0]
                left -= origin[1]
                if 0 <= top < height - 1 and 0 <= left < width - 1:
                    p, q = image[top, left], image[top, left + 1]
                    s, t = image[top + 1, left], image[top + 1, left + 1]
                    if p and q and s and t:
                        above = p + (np.float64(q) - p) * right
                        below = s + (np.float64(t) - s) * right
                        out[r, c + k] = np.uint16(np.rint(above + (below - above) * down))
                        continue
                out[r, c + k] = _of_neighbours(image, top, left, down, right)
            c = until


@njit(cache=True, nogil=True, inline="always")
def _side(nodes, i, j, u):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - inlined by numba
    return nodes[i, j] + (nodes[i + 1, j] - nodes[i, j]) * u


@njit(cache=True, nogil=True)
def _of_neighbours(image, top, left, down, right):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Bilinear value of the neighbours that have one, 0 where the nearest of the four has none."""
    height, width = image.shape
    near_row, near_col = top + (down >= 0.5), left + (right >= 0.5)
    total = 0.0
    weight = 0.0
    for k in range(4):
        a, b = top + k // 2, left + k % 2
        if not (0 <= a < height and 0 <= b < width and image[a, b] != 0):
            if a == near_row and b == near_col:
                return np.uint16(0)
            continue
        w = (down if k // 2 else 1 - down) * (right if k % 2 else 1 - right)
        total += w * image[a, b]
        weight += w
    return np.uint16(np.rint(total / weight))


@njit(cache=True, nogil=True)
def _nearest(image, origin, size, row, col, step, start, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    for r in range(out.shape[0]):
        i = (start[0] + r) // step - start[0] // step
        u = ((start[0] + r) % step) / step
        c = 0
        while c < out.shape[1]:
            j = (start[1] + c) // step - start[1] // step
            first = (start[1] + c) % step
            until = min(out.shape[1], c + step - first)
            y0, y1 = _side(row, i, j, u), _side(row, i, j + 1, u)
            x0, x1 = _side(col, i, j, u), _side(col, i, j + 1, u)
            for k in range(until - c):
                v = (first + k) / step
                y = y0 + (y1 - y0) * v
                x = x0 + (x1 - x0) * v
                if 0 <= y < size[0] and 0 <= x < size[1]:
                    out[r, c + k] = image[int(y) - origin[0], int(x) - origin[1]]
            c = until


@njit(cache=True, nogil=True)
def _nearest_separable(image, rows, cols, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    for r in range(out.shape[0]):
        if r and rows[r] == rows[r - 1]:
            out[r] = out[r - 1]
        elif rows[r] >= 0:
            for c in range(out.shape[1]):
                if cols[c] >= 0:
                    out[r, c] = image[rows[r], cols[c]]


@njit(cache=True, nogil=True)
def _bilinear_separable(image, rows, down, cols, right, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """rows, cols: of the upper left neighbour, below -1 where the pixel is beyond the image."""
    height, width = image.shape
    for r in range(out.shape[0]):
        top, w = rows[r], down[r]
        within = 0 <= top < height - 1
        for c in range(out.shape[1]):
            left = cols[c]
            if top < -1 or left < -1:
                out[r, c] = 0
                continue
            if within and 0 <= left < width - 1:
                p, q = image[top, left], image[top, left + 1]
                s, t = image[top + 1, left], image[top + 1, left + 1]
                if p and q and s and t:
                    above = p + (np.float64(q) - p) * right[c]
                    below = s + (np.float64(t) - s) * right[c]
                    out[r, c] = np.uint16(np.rint(above + (below - above) * w))
                    continue
            out[r, c] = _of_neighbours(image, top, left, w, right[c])


def harmonize(image: NDArray[np.generic], numbers: Numbers, out: NDArray[np.uint16]) -> None:
    """Stored numbers (rows, cols) to measurements in `out` of the same shape; 0 where there is none.

    `out` may be the image itself.
    """
    if image is out and numbers.only_shifts and numbers.summand == 0:
        return
    if numbers.only_shifts and image.dtype in (np.uint8, np.uint16, np.int16):
        _shift(image, np.int32(numbers.summand), out)
    else:
        _harmonize(image, *numbers.arguments, out)


@njit(cache=True, nogil=True)
def _averaged(image, shrink, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    rows, cols = image.shape
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            total = 0.0
            n = 0
            down, right = min((r + 1) * shrink, rows), min((c + 1) * shrink, cols)
            for i in range(r * shrink, down):
                for j in range(c * shrink, right):
                    total += image[i, j]
                    n += image[i, j] != 0
            enough = 2 * n >= (down - r * shrink) * (right - c * shrink)
            out[r, c] = np.uint16(np.rint(total / n)) if enough else np.uint16(0)


def averaged(image: NDArray[np.uint16], shrink: int) -> NDArray[np.uint16]:
    """Mean of the measurements in each square of pixels; 0 where most of them have none.

    image: (rows, cols), 0 = none. Returns as many rows and columns of squares as it takes; the last
    ones are of the pixels there are.
    """
    rows, cols = (_shrunk(length, shrink) for length in image.shape)
    out = np.empty((rows, cols), np.uint16)
    _averaged(image, shrink, out)
    return out


def highest(image: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    """Highest number in each square of pixels (rows, cols); the last ones are of the pixels there are."""
    rows, cols = (_shrunk(length, shrink) for length in image.shape)
    beyond = [(0, -length % shrink) for length in image.shape]
    whole = np.pad(image, beyond)  # with 0, which is never the highest
    found: NDArray[np.uint8] = whole.reshape(rows, shrink, cols, shrink).max(axis=(1, 3))
    return found


def _shrunk(length: int, shrink: int) -> int:
    """Squares of pixels that it takes to hold a row."""
    return -(-int(length) // shrink)


@njit(cache=True, nogil=True)
def _looked_up(image, table, out) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            value = image[r, c]
            out[r, c] = table[np.uintp(value)] if 0 <= value < table.size else np.uint8(1)


def looked_up(image: NDArray[np.generic], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What a table says of codes (rows, cols); 1 of what can be no code: beyond the table, NaN."""
    out = np.empty(image.shape, np.uint8)
    _looked_up(image, table, out)
    return out


MEASURED = Numbers(nodata=(0.0,), floor=1.0)
"""Of numbers that are measurements already, 0 where there is none."""


@dataclass(frozen=True)
class Patch:
    """The part of a shrunk image that a block needs, and where the block's pixels lie on it."""

    image: NDArray[np.generic]
    """(rows, cols), stored numbers."""
    origin: tuple[int, int]
    """Row and column of its first pixel on the shrunk image."""
    positions: Positions
    """Of the block's pixels."""

    def bilinear(self, numbers: Numbers, out: NDArray[np.uint16]) -> None:
        """Fill `out` (the block's rows, cols) with measurements, 0 where there is none.

        A pixel has a measurement exactly where the nearest image pixel has one; neighbours without
        one get no weight.
        """
        image = np.empty(self.image.shape, np.uint16)
        harmonize(self.image, numbers, image)
        at = self.positions
        if axes := at.axes:
            ends = [
                (
                    np.where(one.within, np.floor(one.place - 0.5) - origin, -9).astype(np.int64),
                    one.place - 0.5 - np.floor(one.place - 0.5),
                )
                for one, origin in zip(axes, self.origin, strict=True)
            ]
            (rows, down), (cols, right) = ends
            _bilinear_separable(image, rows, down, cols, right, out)
        else:
            _bilinear(image, self.origin, at.size, at.row, at.col, at.step, at.start, out)

    def nearest(self, out: NDArray[np.uint8]) -> None:
        """Set `out` (the block's rows, cols) to the nearest stored number where the image reaches."""
        at = self.positions
        if axes := at.axes:
            rows, cols = (
                np.where(one.within, np.floor(one.place) - origin, -1).astype(np.int64)
                for one, origin in zip(axes, self.origin, strict=True)
            )
            _nearest_separable(self.image, rows, cols, out)
        else:
            _nearest(self.image, self.origin, at.size, at.row, at.col, at.step, at.start, out)
