"""Blending of overlapping tiles as an exact partition of unity, one strip of the raster at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import CheckpointError
from landcover.legend import NODATA
from landcover.tiling import TileGrid

UNITS = 4096
"""Weights are whole 4096ths: products and sums of two such axes are exact in float32."""


def axis_weights(
    starts: Sequence[int], tile: int, overlap: int, length: int
) -> NDArray[np.float32]:
    """Weight of every tile at each of its positions along one axis: (tiles, tile).

    A linear taper over the overlap, normalised by what really covers each position, so windows
    pulled back inside, however deep they overlap, sum to exactly 1 everywhere, borders included.
    Positions outside the raster (a raster smaller than a tile) weigh 0.
    """
    position = np.arange(tile)
    taper = np.minimum(np.minimum(position + 1, tile - position), overlap + 1)
    total, below = np.zeros((2, length), np.int64)
    for start in starts:
        total[start : start + tile] += taper[: length - start]
    weights = np.zeros((len(starts), tile), np.float32)
    for weight, start in zip(weights, starts, strict=True):
        here = slice(start, start + tile)
        before = _share(below[here], total[here])
        below[here] += taper[: length - start]
        # Differences of a rounded running sum: whole units that add up to UNITS exactly.
        weight[: before.size] = (_share(below[here], total[here]) - before) / UNITS
    return weights


def _share(part: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.int64]:
    return (2 * UNITS * part + total) // (2 * total)


@dataclass(frozen=True)
class Labels:
    """Finished full-width rows of the map."""

    rows: range
    """Raster rows held."""
    classes: NDArray[np.uint8]
    """Class code, (rows, cols); 0 is nodata."""
    confidence: NDArray[np.uint8]
    """Blended probability of that class, percent 1 to 100, (rows, cols); 0 is nodata."""


class StripBlender:
    """Sums weighted class probabilities in a strip one tile high, and gives back finished rows.

    Only `rows` of the raster are summed. Add the tiles of a tile row in column order, then call
    `finish`, then go on to the next: each pixel's sum then has one order, however the raster is cut.
    """

    def __init__(self, tiles: TileGrid, codes: Sequence[int], rows: range) -> None:
        self._tiles = tiles
        self._rows = rows
        self._codes = np.array(codes, np.uint8)
        self._row_weights = axis_weights(tiles.row_starts, tiles.tile, tiles.overlap, tiles.height)
        self._col_weights = axis_weights(tiles.col_starts, tiles.tile, tiles.overlap, tiles.width)
        height = min(tiles.tile, tiles.height)
        # Raster row y lives at y modulo height.  (strip rows, classes, cols)
        self._sum = np.zeros((height, len(codes), tiles.width), np.float32)

    def add(self, i: int, j: int, probabilities: NDArray[np.float32]) -> None:
        """Add the tile in tile row i and column j: (tile rows, classes, tile cols), summing to 1."""
        y, x = self._tiles.row_starts[i], self._tiles.col_starts[j]
        first = max(y, self._rows.start)
        last = min(self._tiles.end(i), self._rows.stop)
        cols = min(self._tiles.tile, self._tiles.width - x)
        _add(
            self._sum[:, :, x : x + cols],
            probabilities[first - y : last - y, :, :cols],
            self._row_weights[i, first - y : last - y],
            self._col_weights[j, :cols],
            first,
        )

    def finish(self, i: int, valid: Callable[[range], NDArray[np.uint8]]) -> Labels:
        """Labels of the rows that no tile row after i touches; their strip rows become free.

        valid: gives for raster rows which pixels hold data, (rows, cols), 0 where none.
        Ties go to the class that comes first in the legend. Raises CheckpointError where the model
        gave something that is not a number for a valid pixel.
        """
        rows = self._tiles.finished(i, self._rows)
        shape = (len(rows), self._tiles.width)
        labels = Labels(rows, np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
        broken = _decide(
            self._sum, rows.start, valid(rows), self._codes, labels.classes, labels.confidence
        )
        if broken:
            raise CheckpointError(
                f"The model's output is not a number for {broken} pixels with data in rows "
                f"{rows.start} to {rows.stop - 1}; its weights or its scaling are damaged."
            )
        return labels


@njit(nogil=True, cache=True)
def _add(
    strip: NDArray[np.float32],
    tile: NDArray[np.float32],
    row_weights: NDArray[np.float32],
    col_weights: NDArray[np.float32],
    first: int,
) -> None:
    for r in range(tile.shape[0]):
        slot = (first + r) % strip.shape[0]
        for k in range(tile.shape[1]):
            for c in range(tile.shape[2]):
                strip[slot, k, c] += (row_weights[r] * col_weights[c]) * tile[r, k, c]


@njit(nogil=True, cache=True)
def _decide(
    strip: NDArray[np.float32],
    first: int,
    valid: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
) -> int:
    broken = 0
    best = np.empty(strip.shape[2], np.float32)
    for r in range(valid.shape[0]):
        sums = strip[(first + r) % strip.shape[0]]
        best[:] = sums[0]
        code = classes[r]
        code[:] = codes[0]
        for k in range(1, sums.shape[0]):
            for c in range(best.size):
                wins = sums[k, c] > best[c]
                code[c] = codes[k] if wins else code[c]
                best[c] = sums[k, c] if wins else best[c]
        for c in range(best.size):
            if not valid[r, c]:
                code[c] = NODATA
            elif best[c] != best[c]:  # not a number
                broken += 1
            else:
                percent = best[c] * np.float32(100) + np.float32(0.5)
                confidence[r, c] = np.uint8(min(max(percent, np.float32(1)), np.float32(100)))
        sums[:] = 0
    return broken
