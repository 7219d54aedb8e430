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


LAYERS = ("classes", "confidence", "margin", "entropy", "probabilities")
"""What can be told of a pixel; all are uint8 with 0 for nodata."""

PROBABILITY_STEPS = 254
"""A probability p is stored as 1 + round(254 p)."""

_CHUNK = 256  # pixels decided at a time: their scores stay in the first cache
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(355 / 512)  # few digits, so that its multiples are exact
_LN2_LOW = np.float32(0.6931471805599453 - 355 / 512)
_ROUND = np.float32(1.5 * 2**23)  # adding it leaves a whole number in float32
_LOWEST = np.float32(-87)  # exp of less is no normal float32
_ONE = np.float32(1)
_TAYLOR = tuple(np.float32(1 / f) for f in (2, 6, 24, 120, 720, 5040))


@dataclass(frozen=True)
class Labels:
    """Finished full-width rows of the map."""

    rows: range
    """Raster rows held."""
    layers: dict[str, NDArray[np.uint8]]
    """Name (one of LAYERS) -> (bands, rows, cols), 0 is nodata. `classes`: class code. `confidence`:
    blended probability of that class, percent 1 to 100. `margin`: how far the next class is behind,
    percent 1 to 100. `entropy`: of the probabilities, percent of that of equal ones, 1 to 100.
    `probabilities`: a band per class, 1 + 254 p."""


class StripBlender:
    """Sums weighted logits in a strip one tile high, and gives back finished rows.

    Only `rows` of the raster are summed. Add the tiles of a tile row in column order, then call
    `finish`, then go on to the next: each pixel's sum then has one order, however the raster is cut.
    The probabilities are the softmax of the sum.
    """

    def __init__(
        self,
        tiles: TileGrid,
        codes: Sequence[int],
        rows: range,
        layers: Sequence[str] = ("classes", "confidence"),
    ) -> None:
        self._tiles = tiles
        self._rows = rows
        self._codes = np.array(codes, np.uint8)
        self._layers = tuple(layers)
        self._row_weights = axis_weights(tiles.row_starts, tiles.tile, tiles.overlap, tiles.height)
        self._col_weights = axis_weights(tiles.col_starts, tiles.tile, tiles.overlap, tiles.width)
        # Raster row y lives at y modulo height. A row is stored as the network gives it: class by
        # class (classes, cols), or pixel by pixel (1, cols x classes).
        self._sum: NDArray[np.float32] | None = None
        self._by_pixel = False

    def add(self, i: int, j: int, logits: NDArray[np.generic]) -> None:
        """Add the tile in tile row i and column j.

        logits: (classes, tile rows, tile cols), float32, or uint16 with the bits of bfloat16.
        Memory in class order and in pixel order is read without a copy.
        """
        strip = self._strip(logits)
        y, x = self._tiles.row_starts[i], self._tiles.col_starts[j]
        first = max(y, self._rows.start)
        last = min(self._tiles.end(i), self._rows.stop)
        cols = min(self._tiles.tile, self._tiles.width - x)
        inside = logits[:, first - y : last - y, :cols]
        weights = self._col_weights[j, :cols]
        if self._by_pixel:
            k = self._codes.size
            tile = np.ascontiguousarray(inside.transpose(1, 2, 0)).reshape(len(inside[0]), 1, -1)
            weights = np.repeat(weights, k)
            strip = strip[:, :, x * k : (x + cols) * k]
        else:
            tile = inside.transpose(1, 0, 2)
            strip = strip[:, :, x : x + cols]
        add = _add if tile.dtype == np.float32 else _add_bfloat16
        add(strip, tile, self._row_weights[i, first - y : last - y], weights, first)

    def _strip(self, logits: NDArray[np.generic]) -> NDArray[np.float32]:
        """The sums, made when it is known how the network orders its logits."""
        if self._sum is None:
            height, width = min(self._tiles.tile, self._tiles.height), self._tiles.width
            classes = self._codes.size
            self._by_pixel = logits.strides[0] < logits.strides[2]
            line = (1, width * classes) if self._by_pixel else (classes, width)
            self._sum = np.zeros((height, *line), np.float32)
        return self._sum

    def finish(self, i: int, valid: Callable[[range], NDArray[np.uint8]]) -> Labels:
        """Labels of the rows that no tile row after i touches; their strip rows become free.

        valid: gives for raster rows which pixels hold data, (rows, cols), 0 where none.
        Ties go to the class that comes first in the legend. Raises CheckpointError where the model
        gave something that is not a number for a valid pixel.
        """
        rows = self._tiles.finished(i, self._rows)
        layers = self._blank(len(rows))
        labels = Labels(rows, {name: layers[name] for name in self._layers})
        if self._sum is None:  # no tile so far has a pixel with data
            return labels
        broken = _decide(
            self._sum, self._by_pixel, rows.start, valid(rows), self._codes,
            *(layers[name] for name in LAYERS),
        )  # fmt: skip
        if broken:
            raise CheckpointError(
                f"The model's output is not a number for {broken} pixels with data in rows "
                f"{rows.start} to {rows.stop - 1}; its weights or its scaling are damaged."
            )
        return labels

    def _blank(self, rows: int) -> dict[str, NDArray[np.uint8]]:
        """Layers of nodata; one that is not asked for has no rows, except the classes."""
        bands = dict.fromkeys(LAYERS, 1) | {"probabilities": self._codes.size}
        asked = {*self._layers, "classes"}
        return {
            name: np.zeros((bands[name], rows if name in asked else 0, self._tiles.width), np.uint8)
            for name in LAYERS
        }


@njit(nogil=True, cache=True)
def _add(
    strip: NDArray[np.float32],
    tile: NDArray[np.float32],
    row_weights: NDArray[np.float32],
    col_weights: NDArray[np.float32],
    first: int,
) -> None:
    """Add a weighted tile (rows, lines, items) to the strip's rows from slot `first` on."""
    for r in range(tile.shape[0]):
        slot = (first + r) % strip.shape[0]
        for k in range(tile.shape[1]):
            for c in range(tile.shape[2]):
                strip[slot, k, c] += (row_weights[r] * col_weights[c]) * tile[r, k, c]


@njit(nogil=True, cache=True)
def _add_bfloat16(
    strip: NDArray[np.float32],
    tile: NDArray[np.uint16],
    row_weights: NDArray[np.float32],
    col_weights: NDArray[np.float32],
    first: int,
) -> None:
    """Do what `_add` does; a bfloat16 is the upper half of a float32."""
    bits = np.empty((1, 1, tile.shape[2]), np.uint32)
    for r in range(tile.shape[0]):
        for k in range(tile.shape[1]):
            for c in range(tile.shape[2]):
                bits[0, 0, c] = np.uint32(tile[r, k, c]) << np.uint32(16)
            _add(
                strip[:, k : k + 1], bits.view(np.float32), row_weights[r : r + 1], col_weights,
                first + r,
            )  # fmt: skip


@njit(nogil=True, cache=True)
def _decide(
    strip: NDArray[np.float32],
    by_pixel: bool,
    first: int,
    valid: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    margin: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
) -> int:
    """Write the layers asked for, zero the strip's rows; return how many valid pixels are broken."""
    rows, cols = valid.shape
    n = codes.size
    scores = np.empty((n, _CHUNK), np.float32)
    chances = np.empty((n, _CHUNK), np.float32)
    best = np.empty(_CHUNK, np.float32)  # one by one: rows of one array may overlap, for all the
    second = np.empty(_CHUNK, np.float32)  # compiler knows, and the loops would not be vector loops
    total = np.empty(_CHUNK, np.float32)
    winner = np.empty(_CHUNK, np.float32)  # the codes as real numbers, for the same reason
    broken = 0
    for r in range(rows):
        line = strip[(first + r) % strip.shape[0]]
        for start in range(0, cols, _CHUNK):
            size = min(_CHUNK, cols - start)
            _take(line, by_pixel, start, size, scores)
            _rank(scores, size, codes, winner, best, second)
            chances[:, :size] = scores[:, :size]
            _exponential(chances, best, size)
            total[:size] = 0
            for k in range(n):
                for c in range(size):
                    total[c] += chances[k, c]
            here = slice(start, start + size)
            ok = valid[r, here]
            broken += _write_classes(winner, best, total, ok, classes[0, r, here])
            if confidence.shape[1]:
                _write_percent(_ONE / total[:size], ok, confidence[0, r, here])
            if margin.shape[1]:
                behind = np.exp(second[:size] - best[:size])
                _write_percent((_ONE - behind) / total[:size], ok, margin[0, r, here])
            if entropy.shape[1]:
                _write_percent(
                    _entropy(scores, chances, best, total, size), ok, entropy[0, r, here]
                )
            if probabilities.shape[1]:
                for k in range(n):
                    _write_steps(chances[k], total, ok, probabilities[k, r, here])
        line[:] = 0
    return broken


@njit(nogil=True, cache=True)
def _take(
    line: NDArray[np.float32], by_pixel: bool, start: int, size: int, scores: NDArray[np.float32]
) -> None:
    """Copy the sums of some pixels of a strip row to scores (classes, pixels)."""
    n = scores.shape[0]
    for k in range(n):
        if by_pixel:
            for c in range(size):
                scores[k, c] = line[0, (start + c) * n + k]
        else:
            scores[k, :size] = line[k, start : start + size]


@njit(nogil=True, cache=True)
def _rank(
    scores: NDArray[np.float32],
    size: int,
    codes: NDArray[np.uint8],
    winner: NDArray[np.float32],
    best: NDArray[np.float32],
    second: NDArray[np.float32],
) -> None:
    """Code and score of the best class, and the score of the next."""
    best[:size] = scores[0, :size]
    second[:size] = -np.float32(np.inf)
    winner[:size] = codes[0]
    for k in range(1, codes.size):
        code = np.float32(codes[k])
        for c in range(size):
            score = scores[k, c]
            wins = score > best[c]
            loser = best[c] if wins else score
            second[c] = max(second[c], loser)
            winner[c] = code if wins else winner[c]
            best[c] = score if wins else best[c]


@njit(nogil=True, cache=True)
def _write_classes(
    winner: NDArray[np.float32],
    best: NDArray[np.float32],
    total: NDArray[np.float32],
    valid: NDArray[np.uint8],
    classes: NDArray[np.uint8],
) -> int:
    broken = 0
    for c in range(valid.size):
        classes[c] = np.uint8(winner[c]) if valid[c] else NODATA
        # A class that is not a number makes the total so; an infinite one wins and is no number.
        broken += valid[c] != 0 and not (total[c] == total[c] and np.isfinite(best[c]))
    return broken


@njit(nogil=True, cache=True)
def _write_percent(
    share: NDArray[np.float32], valid: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    for c in range(valid.size):
        percent = share[c] * np.float32(100) + np.float32(0.5)
        percent = min(max(percent, _ONE), np.float32(100))
        out[c] = np.uint8(percent) if valid[c] else NODATA


@njit(nogil=True, cache=True)
def _write_steps(
    chance: NDArray[np.float32],
    total: NDArray[np.float32],
    valid: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    for c in range(valid.size):
        step = chance[c] / total[c] * np.float32(PROBABILITY_STEPS) + np.float32(1.5)
        out[c] = np.uint8(step) if valid[c] else NODATA


@njit(nogil=True, cache=True)
def _entropy(
    scores: NDArray[np.float32],
    chances: NDArray[np.float32],
    best: NDArray[np.float32],
    total: NDArray[np.float32],
    size: int,
) -> NDArray[np.float32]:
    """Entropy of softmax (Shannon 1948) over that of equal chances: ln Z - sum(p x), x = score - best."""
    mean = np.zeros(size, np.float32)
    for k in range(scores.shape[0]):
        for c in range(size):
            if chances[k, c] > 0:
                mean[c] += chances[k, c] * max(scores[k, c] - best[c], _LOWEST)
    largest = np.float32(max(np.log(scores.shape[0]), 1e-30))
    shares: NDArray[np.float32] = (np.log(total[:size]) - mean / total[:size]) / largest
    return shares


@njit(nogil=True, cache=True)
def _exponential(values: NDArray[np.float32], top: NDArray[np.float32], size: int) -> None:
    """Replace values (classes, at least size) by exp(values - top), top being their maximum.

    exp(x) = 2^n exp(f) with n = round(x / ln 2), the rest f in two parts (Cody and Waite 1980),
    exp(f) by its Taylor series to f^7, and 2^n put on the exponent's bits. Right to 3e-7.
    """
    bits = values.view(np.int32)
    for k in range(values.shape[0]):
        for c in range(size):
            x = values[k, c] - top[c]
            x = _LOWEST if x < _LOWEST else x  # noqa: FURB136 - max() would lose a NaN
            n = (x * _LOG2E + _ROUND) - _ROUND
            f = (x - n * _LN2_HIGH) - n * _LN2_LOW
            z = _TAYLOR[4] + f * _TAYLOR[5]
            z = _TAYLOR[2] + f * (_TAYLOR[3] + f * z)
            z = _TAYLOR[0] + f * (_TAYLOR[1] + f * z)
            values[k, c] = _ONE + f * (_ONE + f * z)
            bits[k, c] += np.int32(n) << np.int32(23)
