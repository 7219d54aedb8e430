"""Spatial blocks: squares of the ground that go to training, validation or test as a whole.

A block is a square of one lattice over the ground, in one CRS for all images of a dataset. Two images
of the same ground therefore have it in the same block, whatever their grids, dates and names.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from landcover.pixel_places import pixel_places

Cell = tuple[int, int]
"""Column and row of a block in the lattice; rows count southwards."""

UNUSED = -1
"""Number of the unit, or split, of pixels that belong to none."""


@dataclass(frozen=True)
class BlockLattice:
    """Squares over the ground, without gap and overlap."""

    wkt: str
    """CRS of the lattice."""
    origin: tuple[float, float]
    """X and y of the north-west corner of block (0, 0)."""
    side: float
    """Side of a block, units of the CRS."""

    @cached_property
    def crs(self) -> CRS:
        """The CRS of the lattice."""
        return CRS(self.wkt)

    def positions(
        self, grid: GeoBox, rows: slice, cols: slice
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How many blocks pixel centres lie east and south of the origin; they broadcast together."""
        x, y = pixel_places(grid, self.crs, rows, cols)
        return (x - self.origin[0]) / self.side, (self.origin[1] - y) / self.side

    def reach(self, grid: GeoBox) -> tuple[range, range]:
        """Columns and rows of the blocks that an image may touch.

        Taken from its rim, with a block more on each side, as rims bend.
        """
        height, width = grid.shape
        rims = [
            (slice(0, height), slice(0, 1)), (slice(0, height), slice(width - 1, width)),
            (slice(0, 1), slice(0, width)), (slice(height - 1, height), slice(0, width)),
        ]  # fmt: skip
        found = [self.positions(grid, *rim) for rim in rims]
        spans = []
        for axis in (0, 1):
            low = min(float(np.min(place[axis])) for place in found)
            high = max(float(np.max(place[axis])) for place in found)
            spans.append(range(int(np.floor(low)) - 1, int(np.floor(high)) + 2))
        return spans[0], spans[1]


@dataclass(frozen=True)
class BlockTable:
    """A number for each block that an image may touch: its unit, or its split."""

    cols: range
    rows: range
    numbers: NDArray[np.int32]
    """(rows, cols) of blocks; UNUSED where there is none."""

    @classmethod
    def of(cls, reach: tuple[range, range], number: Mapping[Cell, int]) -> "BlockTable":
        """The numbers of blocks in reach, UNUSED for those that the mapping lacks."""
        cols, rows = reach
        numbers = [[number.get((col, row), UNUSED) for col in cols] for row in rows]
        return cls(cols, rows, np.array(numbers, np.int32).reshape(len(rows), len(cols)))

    @property
    def cells(self) -> Iterable[Cell]:
        """All blocks of the table."""
        return ((col, row) for row in self.rows for col in self.cols)

    def at(self, east: NDArray[np.float64], south: NDArray[np.float64]) -> NDArray[np.int32]:
        """Numbers at positions of BlockLattice.positions: (rows, cols). UNUSED beyond the table."""
        col, inside_col = self._index(east, self.cols)
        row, inside_row = self._index(south, self.rows)
        found = self.numbers[row, col]
        return np.where(inside_row & inside_col, found, np.int32(UNUSED))

    @staticmethod
    def _index(
        place: NDArray[np.float64], span: range
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        with np.errstate(invalid="ignore"):
            index = np.nan_to_num(np.floor(place), nan=-1e9, posinf=-1e9, neginf=-1e9)
        index = index.astype(np.int64) - span.start
        inside = (index >= 0) & (index < len(span))
        return np.where(inside, index, 0).astype(np.intp), inside


def splits_at(
    table: BlockTable,
    east: NDArray[np.float64],
    south: NDArray[np.float64],
    *,
    whole: int | None = None,
    margin: float = 0.0,
    excluded: int = UNUSED,
) -> NDArray[np.int32]:
    """Splits of pixels at positions of BlockLattice.positions: (rows, cols).

    table: splits of blocks. whole: the split of all these pixels, where it is not their block's. margin:
    pixels nearer than so many blocks, at most 1, to a block of another split are UNUSED. excluded: a
    split whose pixels are UNUSED, but which keeps others at a distance. Blocks that are UNUSED do not.
    """
    shape = np.broadcast_shapes(east.shape, south.shape)
    out = np.empty(shape, np.int32)
    east, south = np.broadcast_to(east, shape), np.broadcast_to(south, shape)
    corner = table.cols.start, table.rows.start
    own = UNUSED if whole is None else whole
    _fill_splits(out, east, south, table.numbers, corner, own, margin, excluded)
    return out


@njit(cache=True, nogil=True)
def window_sums(own, side):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 -- compiled
    """How many pixels are true in each square window of a raster: (rows - side + 1, cols - side + 1).

    own: (rows, cols). side: of the window, pixels.
    """
    rows, cols = own.shape
    sums = np.zeros((rows + 1, cols + 1), np.int32)
    for r in range(rows):
        line = 0
        for c in range(cols):
            line += own[r, c]
            sums[r + 1, c + 1] = sums[r, c + 1] + line
    out = np.empty((rows - side + 1, cols - side + 1), np.int32)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[r, c] = (
                sums[r + side, c + side] - sums[r, c + side] - sums[r + side, c] + sums[r, c]
            )
    return out


@njit(cache=True, nogil=True)
def _at(numbers, row, col):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    inside = 0 <= row < numbers.shape[0] and 0 <= col < numbers.shape[1]
    return numbers[row, col] if inside else UNUSED


@njit(cache=True, nogil=True)
def _fill_splits(out, east, south, numbers, corner, whole, margin, excluded):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            x, y = east[r, c] - corner[0], south[r, c] - corner[1]
            out[r, c] = UNUSED
            if not (abs(x) < 2**31 and abs(y) < 2**31):  # NaN too
                continue
            col, row = math.floor(x), math.floor(y)
            own = whole if whole != UNUSED else _at(numbers, row, col)
            if own == excluded:
                continue
            out[r, c] = own
            u, v = x - col, y - row
            if min(u, v, 1 - u, 1 - v) < margin:
                for down in (-1, 0, 1):
                    dy = v if down < 0 else 1 - v if down > 0 else 0.0
                    for right in (-1, 0, 1):
                        dx = u if right < 0 else 1 - u if right > 0 else 0.0
                        if dx * dx + dy * dy < margin * margin and (right or down):
                            other = _at(numbers, row + down, col + right)
                            if other not in (UNUSED, own):
                                out[r, c] = UNUSED
