"""Blending of overlapping tiles as an exact partition of unity, one tile row of the raster at a time."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import CheckpointError
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
_ROWS = 10  # of scratch memory, besides the scores and the chances
_NO_NUMBERS = np.zeros((0, 0, 0), np.float32)
_NO_HALVES = np.zeros((0, 0, 0), np.uint16)


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
    """Sums weighted logits, and gives back finished rows.

    Only `rows` of the raster are summed. Add the tiles of a tile row in column order, then call
    `finish`, then go on to the next: each pixel's sum then has one order, however the raster is cut.
    A tile that holds no valid pixel may be left out. What no later tile touches is decided at once:
    kept are the sums of rows that the next tile row shares, as wide as the raster, and of columns that
    the next tile shares. The probabilities are the softmax of the sum.
    """

    def __init__(
        self,
        tiles: TileGrid,
        codes: Sequence[int],
        rows: range,
        layers: Sequence[str] = ("classes", "confidence"),
    ) -> None:
        self._tiles, self._rows = tiles, rows
        self._first = tiles.touching(rows).start
        self._codes = np.array(codes, np.uint8)
        self._asked = tuple(layers)
        self._row_weights = axis_weights(tiles.row_starts, tiles.tile, tiles.overlap, tiles.height)
        self._col_weights = axis_weights(tiles.col_starts, tiles.tile, tiles.overlap, tiles.width)
        # A row of sums is stored as the network gives it: class by class (classes, cols), or pixel
        # by pixel (1, cols x classes).
        self._by_pixel: bool | None = None
        self._layers: dict[str, NDArray[np.uint8]] | None = None

    def add(self, i: int, j: int, logits: NDArray[np.generic]) -> None:
        """Add the tile in tile row i and column j.

        logits: (classes, tile rows, tile cols), float32, or uint16 with the bits of bfloat16.
        Memory in class order and in pixel order is read without a copy.
        """
        if self._by_pixel is None:
            self._by_pixel = logits.strides[0] < logits.strides[2]
            self._allocate()
        rows, tiles = self._tiles.finished(i, self._rows), self._tiles
        if self._layers is None:
            self._layers = self._blank(len(rows))
        y, x = tiles.row_starts[i], tiles.col_starts[j]
        first, last = max(y, self._rows.start), min(tiles.end(i), self._rows.stop)
        held = min(tiles.end(i - 1), last) - first if i > self._first else 0
        stop = min(x + tiles.tile, tiles.width)
        known = min(tiles.col_starts[j - 1] + tiles.tile, stop) - x if j else 0
        done = tiles.col_starts[j + 1] - x if j + 1 < len(tiles.col_starts) else stop - x
        weights = self._col_weights[j, : stop - x]
        if self._by_pixel:
            logits = logits.transpose(1, 2, 0).reshape(1, tiles.tile, -1)
            weights = np.repeat(weights, self._codes.size)
        planes: NDArray[Any] = np.require(logits, requirements=["C", "W"])
        halves = planes.dtype != np.float32
        _blend(
            _NO_NUMBERS if halves else planes, planes if halves else _NO_HALVES, first - y,
            self._row_weights[i, first - y : last - y], weights, self._unit,
            max(held, 0), len(rows), max(known, 0), done,
            self._beside, self._below, first, x, self._codes,
            *(self._layers[name] for name in LAYERS),
        )  # fmt: skip

    def _allocate(self) -> None:
        """Memory for sums, made when it is known how the network orders its logits."""
        tiles, classes = self._tiles, self._codes.size
        self._unit, lines = (classes, 1) if self._by_pixel else (1, classes)
        wide = _most_shared(tiles.col_starts, tiles.tile, tiles.width)
        high = _most_shared(tiles.row_starts, tiles.tile, tiles.height)
        self._beside = np.zeros((tiles.tile, lines, wide * self._unit), np.float32)
        """Sums of the tile row's columns that the next tile shares."""
        # Raster row y lives at y modulo its height. Empty, since rows are only touched when used.
        self._below = np.empty((max(high, 1), lines, tiles.width * self._unit), np.float32)
        """Sums of the rows that the next tile row shares."""

    def finish(self, i: int, valid: Callable[[range], NDArray[np.uint8]]) -> Labels:
        """Labels of the rows that no tile row after i touches.

        valid: gives for raster rows which pixels hold data, (rows, cols), 0 where none.
        Ties go to the class that comes first in the legend. Raises CheckpointError where the model
        gave something that is not a number for a valid pixel.
        """
        rows = self._tiles.finished(i, self._rows)
        layers, self._layers = self._layers, None
        if layers is None:  # no tile of this row has a pixel with data
            layers = self._blank(len(rows))
        elif broken := _keep_valid(valid(rows), *(layers[name] for name in LAYERS)):
            raise CheckpointError(
                f"The model's output is not a number for {broken} pixels with data in rows "
                f"{rows.start} to {rows.stop - 1}; its weights or its scaling are damaged."
            )
        return Labels(rows, {name: layers[name] for name in self._asked})

    def _blank(self, rows: int) -> dict[str, NDArray[np.uint8]]:
        """Layers of nodata; one that is not asked for has no rows, except the classes."""
        bands = dict.fromkeys(LAYERS, 1) | {"probabilities": self._codes.size}
        asked = {*self._asked, "classes"}
        return {
            name: np.zeros((bands[name], rows if name in asked else 0, self._tiles.width), np.uint8)
            for name in LAYERS
        }


def _most_shared(starts: Sequence[int], tile: int, length: int) -> int:
    """Most positions that a tile shares with the next along an axis."""
    pairs = itertools.pairwise(starts)
    return max((min(one + tile, length) - other for one, other in pairs), default=0)


# What is compiled becomes vector loops, ten times as fast, where an index is a plain count (slices begin
# where it should), slices are not assigned to, and what is chosen from two numbers goes to another array
# than they come from: stored to its own place it would be a masked store, slow on some processors.


@njit(nogil=True, cache=True)
def _blend(
    tile: NDArray[np.float32],
    halves: NDArray[np.uint16],
    top: int,
    row_weights: NDArray[np.float32],
    col_weights: NDArray[np.float32],
    unit: int,
    held: int,
    finished: int,
    known: int,
    done: int,
    beside: NDArray[np.float32],
    below: NDArray[np.float32],
    first: int,
    x: int,
    codes: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    margin: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
) -> None:
    """Add a weighted tile to the sums, decide its finished pixels, and keep the other sums.

    tile, or halves where it is bfloat16: (lines, rows, items), used from row `top` on; an item is a
    column, or one of its `unit` classes. first, x: raster row and column of the first pixel.
    Before, `below` has sums of the first `held` rows and `beside` of the first `known` columns, which
    are ahead; after, `below` has those of the rows from `finished` on, in the first `done` columns,
    and `beside` those of the columns from `done` on.
    """
    lines, items = beside.shape[1], col_weights.size
    known, done, left = known * unit, done * unit, x * unit
    sums = np.empty((lines, items), np.float32)
    words = np.empty(items, np.uint32)
    nothing = np.zeros(items, np.float32)
    scratch = np.empty((2 * codes.size + _ROWS, _CHUNK), np.float32)  # for _decide
    for r in range(row_weights.size):
        slot = (first + r) % below.shape[0]
        for k in range(lines):
            values = words.view(np.float32)
            if halves.size:  # a bfloat16 is the upper half of a float32
                half = halves[k, top + r]
                for c in range(items):
                    words[c] = np.uint32(half[c]) << np.uint32(16)
            else:
                values = tile[k, top + r]
            line, weight, under = sums[k], row_weights[r], below[slot, k, left : left + items]
            _weigh(line[:known], values, weight, col_weights, beside[r, k])
            _weigh(
                line[known:], values[known:], weight, col_weights[known:],
                under[known:] if r < held else nothing,
            )  # fmt: skip
            if r >= finished:
                _copy(line[:done], under)
            _copy(line[done:], beside[r, k])
        if r < finished:
            _decide(
                sums, unit, done // unit, scratch, codes, r, x,
                classes, confidence, margin, entropy, probabilities,
            )  # fmt: skip


@njit(nogil=True, cache=True)
def _weigh(
    line: NDArray[np.float32],
    values: NDArray[np.float32],
    row_weight: np.float32,
    col_weights: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Fill a line with the sums so far and the weighted values, of its length or longer."""
    for c in range(line.size):
        line[c] = sums[c] + (row_weight * col_weights[c]) * values[c]


@njit(nogil=True, cache=True)
def _copy(source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
    for c in range(source.size):
        target[c] = source[c]


@njit(nogil=True, cache=True)
def _decide(
    sums: NDArray[np.float32],
    unit: int,
    cols: int,
    scratch: NDArray[np.float32],
    codes: NDArray[np.uint8],
    r: int,
    x: int,
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    margin: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
) -> None:
    """Write the layers asked for, of the first `cols` pixels of a row, to row r from column x on.

    A pixel whose scores are no numbers gets the class 0.
    """
    n = codes.size
    scores, chances = scratch[:n], scratch[n : 2 * n]
    total, other = scratch[2 * n], scratch[2 * n + 1]
    for start in range(0, cols, _CHUNK):
        size = min(_CHUNK, cols - start)
        here = slice(x + start, x + start + size)
        _take(sums, unit, start, size, scores)
        best = _largest(scores, size, scratch[2 * n + 2], scratch[2 * n + 3])
        winner = _soften(
            scores, best, size, codes, chances, total, scratch[2 * n + 4], scratch[2 * n + 5]
        )
        _write_classes(winner, best, total, classes[0, r, here])
        if confidence.shape[1]:
            for c in range(size):
                other[c] = _ONE / total[c]
            _write_percent(other, confidence[0, r, here])
        if margin.shape[1]:
            second = _second(scores, size, scratch[2 * n + 6 :])
            for c in range(size):
                other[c] = (_ONE - np.exp(second[c] - best[c])) / total[c]
            _write_percent(other, margin[0, r, here])
        if entropy.shape[1]:
            _write_percent(_entropy(scores, chances, best, total, size), entropy[0, r, here])
        if probabilities.shape[1]:
            for k in range(n):
                _write_steps(chances[k], total, probabilities[k, r, here])


@njit(nogil=True, cache=True)
def _take(
    sums: NDArray[np.float32], unit: int, start: int, size: int, scores: NDArray[np.float32]
) -> None:
    """Copy the sums of some pixels to scores (classes, pixels)."""
    for k in range(scores.shape[0]):
        if unit == 1:
            _copy(sums[k, start : start + size], scores[k])
        else:
            source = sums[0, start * unit + k :]
            for c in range(size):
                scores[k, c] = source[c * unit]


@njit(nogil=True, cache=True)
def _largest(
    scores: NDArray[np.float32], size: int, best: NDArray[np.float32], spare: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Score of the best class."""
    for c in range(size):
        best[c] = scores[0, c]
    for k in range(1, scores.shape[0]):
        for c in range(size):
            score = scores[k, c]
            so_far = best[c]
            spare[c] = score if score > so_far else so_far  # noqa: FURB136 - max() is slower compiled
        best, spare = spare, best
    return best


@njit(nogil=True, cache=True)
def _second(
    scores: NDArray[np.float32], size: int, scratch: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Score of the next best class; that of the best where two are equal."""
    second: NDArray[np.float32] = scratch[0]
    best, spare, other = scratch[1], scratch[2], scratch[3]
    for c in range(size):
        best[c] = scores[0, c]
        second[c] = -np.float32(np.inf)
    for k in range(1, scores.shape[0]):
        for c in range(size):
            other[c] = max(second[c], min(best[c], scores[k, c]))
            spare[c] = max(best[c], scores[k, c])
        best, second, spare, other = spare, other, best, second
    return second


@njit(nogil=True, cache=True)
def _soften(
    scores: NDArray[np.float32],
    best: NDArray[np.float32],
    size: int,
    codes: NDArray[np.uint8],
    chances: NDArray[np.float32],
    total: NDArray[np.float32],
    winner: NDArray[np.float32],
    spare: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Fill chances with exp(scores - best), total with their sum; give the first best class's code.

    exp(x) = 2^n exp(f) with n = round(x / ln 2), the rest f in two parts (Cody and Waite 1980), and
    exp(f) by its Taylor series to f^7. Right to 3e-7. Codes are real numbers, as all that the loop
    handles must be for it to be a vector loop.
    """
    for c in range(size):
        total[c] = 0
        winner[c] = 0
    for k in range(codes.size):
        code = np.float32(codes[k])
        for c in range(size):
            x = scores[k, c] - best[c]
            so_far = winner[c]
            spare[c] = code if (x == 0) & (so_far == 0) else so_far
            x = _LOWEST if x < _LOWEST else x  # noqa: FURB136 - max() would lose a NaN
            n = (x * _LOG2E + _ROUND) - _ROUND
            f = (x - n * _LN2_HIGH) - n * _LN2_LOW
            z = _TAYLOR[4] + f * _TAYLOR[5]
            z = _TAYLOR[2] + f * (_TAYLOR[3] + f * z)
            z = _TAYLOR[0] + f * (_TAYLOR[1] + f * z)
            power = np.int32((np.int32(n) + 127) << 23).view(np.float32)
            chance = (_ONE + f * (_ONE + f * z)) * power
            chances[k, c] = chance
            total[c] += chance
        winner, spare = spare, winner
    return winner


@njit(nogil=True, cache=True)
def _write_classes(
    winner: NDArray[np.float32],
    best: NDArray[np.float32],
    total: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    for c in range(out.size):
        # A class that is not a number makes the total so; an infinite one wins and is no number.
        good = (total[c] == total[c]) & (np.abs(best[c]) < np.float32(np.inf))
        out[c] = np.uint8(np.int32(winner[c]) * np.int32(good))


@njit(nogil=True, cache=True)
def _write_percent(share: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    for c in range(out.size):
        percent = share[c] * np.float32(100) + np.float32(0.5)
        percent = min(max(percent, _ONE), np.float32(100))
        out[c] = np.uint8(np.int32(percent))


@njit(nogil=True, cache=True)
def _write_steps(
    chance: NDArray[np.float32],
    total: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    for c in range(out.size):
        step = chance[c] / total[c] * np.float32(PROBABILITY_STEPS) + np.float32(1.5)
        out[c] = np.uint8(np.int32(step))


@njit(nogil=True, cache=True)
def _keep_valid(
    valid: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    margin: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
) -> int:
    """Make all layers 0 where there is no data; return how many pixels with data have no class."""
    broken = 0
    for r in range(valid.shape[0]):
        for c in range(valid.shape[1]):
            broken += (valid[r, c] != 0) & (classes[0, r, c] == 0)
        for layer in (classes, confidence, margin, entropy, probabilities):
            if layer.shape[1]:
                for k in range(layer.shape[0]):
                    for c in range(valid.shape[1]):
                        layer[k, r, c] *= np.uint8(valid[r, c] != 0)
    return broken


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
