"""The global tile grid: which windows a raster of any size is predicted in."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from landcover.errors import SettingsError


@dataclass(frozen=True)
class TileGrid:
    """Square windows that overlap and cover a raster, the same however the work is cut.

    Windows start every `tile - overlap` pixels; the last one is pulled back inside the raster. A
    raster smaller than a tile has one window along that axis, filled by mirroring (`source`).
    Tiles are counted in row-major order. Raises SettingsError for a size that makes no grid.
    """

    height: int
    """Rows of the raster."""
    width: int
    """Columns of the raster."""
    tile: int
    """Side of a window, pixels."""
    overlap: int
    """Pixels shared by neighbouring windows, 0 to tile - 1."""

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.tile) < 1:
            raise SettingsError(
                f"A grid of {self.height} x {self.width} pixels in tiles of {self.tile} is empty; "
                "every size must be 1 or more."
            )
        if not 0 <= self.overlap < self.tile:
            raise SettingsError(
                f"The overlap is {self.overlap}; it must be 0 to {self.tile - 1}, below the tile."
            )

    @cached_property
    def row_starts(self) -> tuple[int, ...]:
        """First raster row of each tile row, ascending."""
        return _starts(self.height, self.tile, self.overlap)

    @cached_property
    def col_starts(self) -> tuple[int, ...]:
        """First raster column of each tile column, ascending."""
        return _starts(self.width, self.tile, self.overlap)

    def __len__(self) -> int:
        return len(self.row_starts) * len(self.col_starts)

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """The (rows, cols) inside the raster of every tile, row-major."""
        for y in self.row_starts:
            for x in self.col_starts:
                yield self._inside(y, self.height), self._inside(x, self.width)

    def _inside(self, start: int, length: int) -> slice:
        return slice(start, min(start + self.tile, length))

    def source_rows(self, i: int) -> NDArray[np.int64]:
        """Raster row behind each row of the tiles in tile row i: (tile,), mirrored below the edge."""
        return mirror(self.row_starts[i] + np.arange(self.tile), self.height)

    def end(self, i: int) -> int:
        """First raster row below tile row i."""
        return min(self.row_starts[i] + self.tile, self.height)

    def touching(self, rows: range) -> range:
        """Indices of the tile rows that predict some of these raster rows."""
        hits = [
            i for i, y in enumerate(self.row_starts) if y < rows.stop and self.end(i) > rows.start
        ]
        return range(hits[0], hits[-1] + 1)

    def finished(self, i: int, rows: range) -> range:
        """Those of `rows` that tile row i touches and no later tile row does."""
        later = i + 1 < len(self.row_starts)
        stop = self.row_starts[i + 1] if later else self.height
        start = max(self.row_starts[i], rows.start)
        return range(start, max(start, min(stop, rows.stop)))

    def bands(self, height: int | None = None) -> Iterator[range]:
        """Cut the raster into units of work of so many rows; None is one unit."""
        step = height or self.height
        for start in range(0, self.height, step):
            yield range(start, min(start + step, self.height))


def _starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    if length <= tile:
        return (0,)
    last = length - tile
    return (*range(0, last, tile - overlap), last)


def mirror(positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Fold positions beyond an axis of `length` back into it, the edge pixel repeated.

    For length 3: 0 1 2 | 2 1 0 | 0 1 2 ...; it works for length 1.
    """
    folded = positions % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)
