"""Smoothing of a class map: named steps that look no further than a few pixels.

A pixel's result depends only on the pixels within the reach of a step, and every sum is of whole
numbers, so a map cut into bands with enough rows around them (`halo`) gets the same bytes as a
whole one. Pixels without data (0) have no vote, stay as they are, and no other pixel becomes one.
Windows are squares of 2 radius + 1 pixels, cut off at the raster's edge.

majority    Each pixel gets the class that most pixels of its window have. If several have most,
            its own class if among them, else the one with the higher summed confidence, else the one
            that comes first in the legend.
opening     A pixel is kept where a window of one class holds it: it is then in the morphological
            opening of its class by the window (Serra 1982, chapter 2). The others lie in parts
            narrower than a window; each gets the class, not its own, that most kept pixels of its
            window have (ties as above), and stays where there are none.
closing     Fills gaps only: of the pixels that opening would not keep, those in the closing of
            what is kept of a class (its opening, then closed: Serra 1988's filter) get that class. So a
            narrow line within one class goes, and one between two classes stays. In the
            closings of several classes, its own is preferred, then ties are as above.
guided      The guided filter of each class's probability (He, Sun and Tang 2013, eq. 5, 6 and 8),
            so that classes follow the edges of a guide image; then the classes and everything that
            tells how sure they are are made again from the filtered probabilities, which are cut off
            at 0 and divided by their sum. Of equal ones, the pixel's own class is preferred, then the
            first in the legend. A pixel without any probability left stays.

In opening and closing, windows count as of one class if all their pixels with data are: pixels beside
nodata and the raster's edge are not narrower for it. (Each window is the structuring element of
the pixel in its middle, which must hold data; so opening a class twice is opening it once.)

What is known of a pixel that majority, opening or closing changes: its confidence becomes the new
class's probability where the layer `probabilities` is there, else the mean confidence of the pixels
that voted for the class, half up; its margin becomes 1, as the model itself preferred another
class; entropy and probabilities stay, as they are the model's opinion.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import SettingsError
from landcover.legend import NODATA

EPS = 0.02**2
"""Variance of the guide (0 to 1) in a window above which the guided filter takes it for an edge: epsilon
in He, Sun and Tang (2013), eq. 5."""
MAX_RADIUS = 64
"""Largest radius of a step, pixels: windows of 129 x 129, the reach of closing 256 rows."""

_REACH = {"majority": 1, "opening": 3, "closing": 4, "guided": 2}
"""Radii within which a pixel's result is decided. Opening: the window that votes, the windows that
keep its pixels, and those windows' own pixels; closing: two windows of each of its halves."""

_GUIDE_UNITS = 4095
"""The guide is rounded to so many parts, so that its sums are of whole numbers; with the largest radius,
129^4 x 4095^2 is below 2^53."""
_UNITS = 2.0**20
"""Parts of the coefficients a and b, which are below 2^4: their parts are whole in a float32."""
_P_UNITS = 254
"""Probability = (stored number - 1) / 254."""


@dataclass(frozen=True)
class Step:
    """One smoothing step."""

    name: str
    """majority, opening, closing or guided."""
    radius: int
    """Pixels from the middle of a window to its side."""

    @property
    def reach(self) -> int:
        """Rows around a pixel on which its result depends."""
        return _REACH[self.name] * self.radius


def parse_steps(text: Sequence[str]) -> tuple[Step, ...]:
    """Read steps written as `name:radius`, in the order in which they are done.

    Raises SettingsError for an unknown name, a radius that is not 1 to 64, and a guided step after
    one that works on classes, which it would undo.
    """
    steps = tuple(_parse(item) for item in text)
    names = [step.name for step in steps]
    if "guided" in names[1:] and any(
        name != "guided" for name in names[: len(names) - names[::-1].index("guided")]
    ):
        raise SettingsError(
            f"The smoothing steps {' '.join(text)} put guided after a step that it would undo, "
            "since it starts from the probabilities; put guided first."
        )
    return steps


def _parse(item: str) -> Step:
    found = re.fullmatch(r"([a-z]+):([0-9]{1,3})", item.strip())
    if not found or found[1] not in _REACH or not 1 <= int(found[2]) <= MAX_RADIUS:
        raise SettingsError(
            f"The smoothing step '{item}' is not known; write {', '.join(_REACH)} and a radius of "
            f"1 to {MAX_RADIUS} pixels, as in majority:1."
        )
    return Step(found[1], int(found[2]))


def halo(steps: Sequence[Step]) -> int:
    """Rows needed above and below a band so that its own rows come out as in the whole map."""
    return sum(step.reach for step in steps)


def smooth(
    steps: Sequence[Step],
    layers: Mapping[str, NDArray[np.uint8]],
    codes: Sequence[int],
    guide: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.uint8]]:
    """Do steps one after another; gives layers of the same names and shapes, and leaves the given ones.

    layers: uint8, (bands, rows, cols), 0 is nodata. `classes` and `confidence` (percent) must be
    there; `margin` (percent), `entropy` (percent of the logarithm of the number of classes) and
    `probabilities` (1 + 254 p, a band per class) may be. codes: class code of each probability,
    in the legend's order. guide: (rows, cols), 0 to 1; its values under nodata do not matter.
    Rows nearer than `halo` to a cut through the map are not right; the caller cuts them off.
    Raises SettingsError where a guided step lacks the probabilities or the guide.
    """
    done = {name: np.ascontiguousarray(layer) for name, layer in layers.items()}
    for step in steps:
        if step.name == "guided":
            if guide is None or "probabilities" not in done:
                raise SettingsError(
                    f"The smoothing step guided:{step.radius} needs the class probabilities and a "
                    "guide image; ask for both or leave the step out."
                )
            done |= _guided(done, np.array(codes, np.uint8), np.ascontiguousarray(guide), step)
        else:
            done |= _relabelled(done, np.array(codes, np.uint8), step)
    return done


def _relabelled(
    layers: Mapping[str, NDArray[np.uint8]], codes: NDArray[np.uint8], step: Step
) -> dict[str, NDArray[np.uint8]]:
    """Classes after majority, opening or closing, and what is known of the changed pixels."""
    old, confidence = layers["classes"][0], layers["confidence"][0]
    voters = old if step.name == "majority" else _kept(old, step.radius)
    if step.name == "closing":
        new = _closed(old, voters, confidence, codes, step.radius)
    else:
        new = old.copy()
        _vote(old, voters, confidence, codes, step.radius, step.name == "majority", new)
    sure = confidence.copy()
    probabilities = layers.get("probabilities", np.empty((0, 0, 0), np.uint8))
    _judge(old, new, voters, probabilities, codes, step.radius, sure)
    changed = {"classes": new[None], "confidence": sure[None]}
    if "margin" in layers:
        changed["margin"] = np.where(new != old, np.uint8(1), layers["margin"])
    return changed


@njit(nogil=True, cache=True)
def _vote(
    old: NDArray[np.uint8],
    voters: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    radius: int,
    may_stay: bool,
    new: NDArray[np.uint8],
) -> None:
    """Write the class that most voters of each pixel's window have.

    may_stay: all pixels are voted on, and their own class wins ties; else only those that are no
    voters, and their own class cannot win. Votes are counted down the columns, then along the row.
    """
    rows, cols = old.shape
    columns = np.zeros((codes.size, cols + 2 * radius), np.uint16)  # with a margin on both sides
    votes, best = np.empty(cols, np.uint16), np.empty(cols, np.uint16)
    winner, tied = np.empty(cols, np.uint8), np.empty(cols, np.uint8)
    tally = np.zeros((2, 256), np.int64)
    band = _bands(codes)
    for y in range(-radius, rows):
        if y + radius < rows:
            _count(voters[y + radius], band, 1, columns[:, radius : radius + cols])
        if y - radius - 1 >= 0:
            _count(voters[y - radius - 1], band, -1, columns[:, radius : radius + cols])
        if y < 0:
            continue
        best[:] = 0
        winner[:] = old[y]
        for k in range(codes.size):
            _add_up(columns[k], radius, votes)
            _compare(votes, old[y], codes[k], may_stay, best, winner, tied)
        for x in range(cols):
            if old[y, x] == NODATA or not (may_stay or voters[y, x] == NODATA):
                continue
            if tied[x] and best[x]:
                barred = NODATA if may_stay else old[y, x]
                new[y, x] = _elect(voters, confidence, codes, radius, y, x, barred, tally)
            else:
                new[y, x] = winner[x]


@njit(nogil=True, cache=True)
def _count(
    row: NDArray[np.uint8], band: NDArray[np.int64], sign: int, columns: NDArray[np.uint16]
) -> None:
    for c in range(row.size):
        if row[c] != NODATA:
            columns[band[row[c]], c] += np.uint16(sign)


@njit(nogil=True, cache=True)
def _bands(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Place in the legend of each class code: (256,)."""
    band = np.zeros(256, np.int64)
    for k in range(codes.size):
        band[codes[k]] = k
    return band


@njit(nogil=True, cache=True)
def _add_up(column: NDArray[np.uint16], radius: int, votes: NDArray[np.uint16]) -> None:
    votes[:] = column[: votes.size]
    for shift in range(1, 2 * radius + 1):
        for c in range(votes.size):
            votes[c] += column[c + shift]


@njit(nogil=True, cache=True)
def _compare(
    votes: NDArray[np.uint16],
    old: NDArray[np.uint8],
    code: int,
    may_stay: bool,
    best: NDArray[np.uint16],
    winner: NDArray[np.uint8],
    tied: NDArray[np.uint8],
) -> None:
    """Put a class before those so far where it has more votes; mark where the best are tied."""
    for c in range(votes.size):
        own = old[c] == code
        # A vote counts 2, and 1 is added for the own class: it wins a tie, and is never in one.
        key = np.uint16(2 * votes[c] + own) if may_stay or not own else np.uint16(0)
        wins = key > best[c]
        tied[c] = (key == best[c]) | (tied[c] & (not wins))
        winner[c] = code if wins else winner[c]
        best[c] = key if wins else best[c]


@njit(nogil=True, cache=True)
def _elect(
    voters: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    radius: int,
    y: int,
    x: int,
    barred: int,
    tally: NDArray[np.int64],
) -> int:
    """Class with most votes in the window of a pixel, then most confidence, then first in the legend.

    tally: zeros, (2, 256), and zeros again afterwards.
    """
    votes, sums = tally
    for r in range(max(y - radius, 0), min(y + radius + 1, voters.shape[0])):
        for c in range(max(x - radius, 0), min(x + radius + 1, voters.shape[1])):
            votes[voters[r, c]] += 1
            sums[voters[r, c]] += confidence[r, c]
    votes[NODATA] = sums[NODATA] = votes[barred] = sums[barred] = 0
    winner = NODATA
    for code in codes:
        more = votes[code] - votes[winner]
        if more > 0 or (more == 0 and sums[code] > sums[winner]):
            winner = code
    for code in codes:
        votes[code] = sums[code] = 0
    return winner


def _kept(classes: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """The pixels that a window of one class holds, (rows, cols); the others are 0."""
    empty = classes == NODATA
    highest = _largest(classes, radius)
    lowest = _smallest(np.where(empty, np.uint8(255), classes), radius)
    pure = (highest == lowest) & ~empty  # middles of windows of one class
    held = _largest(pure.view(np.uint8), radius).view(np.bool_)
    # A pixel with data in a window of one class has that class.
    return np.where(held & ~empty, classes, np.uint8(NODATA))


@njit(nogil=True, cache=True)
def _largest(values: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Largest number in the window around each pixel: (rows, cols), down columns, then along rows."""
    rows, cols = values.shape
    found = np.empty_like(values)
    column = np.empty(cols, np.uint8)
    for y in range(rows):
        column[:] = values[y]
        for r in range(max(y - radius, 0), min(y + radius + 1, rows)):
            for c in range(cols):
                column[c] = max(column[c], values[r, c])
        row = found[y]
        row[:] = column
        for shift in range(1, min(radius + 1, cols)):
            for c in range(cols - shift):
                row[c] = max(row[c], column[c + shift])
            for c in range(shift, cols):
                row[c] = max(row[c], column[c - shift])
    return found


def _smallest(values: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    smallest: NDArray[np.uint8] = ~_largest(~values, radius)
    return smallest


def _closed(
    old: NDArray[np.uint8],
    kept: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    radius: int,
) -> NDArray[np.uint8]:
    """Give the pixels that are not kept to a class whose kept parts, closed, hold them."""
    empty = old == NODATA
    gap = ~empty & (kept == NODATA)
    taker = np.zeros_like(old)
    for code in codes:
        near = _largest((kept == code).view(np.uint8), radius).view(np.bool_)
        closed = _smallest((near | empty).view(np.uint8), radius).view(np.bool_)
        _claim(closed & gap, kept, confidence, old, int(code), radius, taker)
    return np.where(taker == NODATA, old, taker)


@njit(nogil=True, cache=True)
def _claim(
    claims: NDArray[np.bool_],
    kept: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    old: NDArray[np.uint8],
    code: int,
    radius: int,
    taker: NDArray[np.uint8],
) -> None:
    """Write the class into `taker` where it claims a pixel that no better class has."""
    for y in range(old.shape[0]):
        for x in range(old.shape[1]):
            holder = taker[y, x]
            if not claims[y, x] or (holder == old[y, x]):
                continue
            if holder == NODATA or code == old[y, x]:
                taker[y, x] = code
                continue
            mine = _votes(kept, confidence, radius, y, x, code)
            if mine > _votes(kept, confidence, radius, y, x, holder):
                taker[y, x] = code


@njit(nogil=True, cache=True)
def _votes(
    voters: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    radius: int,
    y: int,
    x: int,
    code: int,
) -> tuple[int, int]:
    """Votes for a class in the window around a pixel, and their summed confidence."""
    votes, total = 0, 0
    for r in range(max(y - radius, 0), min(y + radius + 1, voters.shape[0])):
        for c in range(max(x - radius, 0), min(x + radius + 1, voters.shape[1])):
            if voters[r, c] == code:
                votes += 1
                total += confidence[r, c]
    return votes, total


@njit(nogil=True, cache=True)
def _judge(
    old: NDArray[np.uint8],
    new: NDArray[np.uint8],
    voters: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    radius: int,
    confidence: NDArray[np.uint8],
) -> None:
    """Make the confidence of changed pixels anew; voters voted, `confidence` holds what they had."""
    band = _bands(codes)
    before = confidence.copy()
    for y in range(new.shape[0]):
        for x in range(new.shape[1]):
            if new[y, x] == old[y, x]:
                continue
            if probabilities.shape[0]:
                part = (probabilities[band[new[y, x]], y, x] - 1) / _P_UNITS
                percent = math.floor(100 * part + 0.5)
            else:
                votes, total = _votes(voters, before, radius, y, x, new[y, x])
                percent = (2 * total + votes) // (2 * votes)  # the mean, rounded half up
            confidence[y, x] = min(max(percent, 1), 100)


def _guided(
    layers: Mapping[str, NDArray[np.uint8]],
    codes: NDArray[np.uint8],
    guide: NDArray[np.float32],
    step: Step,
) -> dict[str, NDArray[np.uint8]]:
    """All layers made again from the filtered probabilities."""
    new = {name: layer.copy() for name, layer in layers.items()}
    unasked = np.empty((1, 0, 0), np.uint8)
    _filter(
        layers["probabilities"], layers["classes"][0], guide, codes, step.radius,
        new["probabilities"], new["classes"][0], new["confidence"][0],
        new.get("margin", unasked)[0], new.get("entropy", unasked)[0],
    )  # fmt: skip
    return new


@njit(nogil=True, cache=True)
def _filter(
    probabilities: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    guide: NDArray[np.float32],
    codes: NDArray[np.uint8],
    radius: int,
    new: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    margin: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
) -> None:
    """Filter row by row, with sums down the columns of a window, then along the row.

    All that is summed is whole, below 2^53 and so exact. Numbers of one pixel lie side by side.
    """
    n, rows, cols = probabilities.shape
    depth = 2 * radius + 1
    # Pixels, guide, guide squared; then the probabilities, then their products with the guide.
    down = np.zeros((cols, 3 + 2 * n), np.float64)
    # Pixels; then a, then b of all classes: of the rows of a window, and their sums down the columns.
    lines = np.zeros((depth, cols, 1 + 2 * n), np.float32)
    lines_down = np.zeros((cols, 1 + 2 * n), np.float64)
    for middle in range(-radius, rows + radius):
        enters, leaves, y = middle + radius, middle - radius - 1, middle - radius
        if enters < rows:
            _enter(probabilities[:, enters], valid[enters], guide[enters], 1, down)
        if 0 <= leaves < rows:
            _enter(probabilities[:, leaves], valid[leaves], guide[leaves], -1, down)
        if middle < 0:
            continue
        line = lines[middle % depth]
        lines_down -= line
        line[:] = 0
        if middle < rows:
            _fit(down, radius, valid[middle], line)
        lines_down += line
        if y >= 0:
            _write(
                lines_down, radius, guide[y], valid[y], codes, new[:, y], classes[y], confidence[y],
                margin[y : y + 1], entropy[y : y + 1],
            )  # fmt: skip


@njit(nogil=True, cache=True)
def _level(value: float) -> float:
    """Guide in whole parts, 0 to _GUIDE_UNITS; what is not a number is 0."""
    inside = min(value, 1.0) if value > 0 else 0.0
    level: float = np.rint(inside * _GUIDE_UNITS)
    return level


@njit(nogil=True, cache=True)
def _enter(
    probabilities: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    guide: NDArray[np.float32],
    sign: float,
    down: NDArray[np.float64],
) -> None:
    """Add a row (classes, cols) to the sums down the columns, or take it away again."""
    n, cols = probabilities.shape
    for c in range(cols):
        if valid[c] != NODATA:
            level = _level(guide[c])
            down[c, 0] += sign
            down[c, 1] += sign * level
            down[c, 2] += sign * level * level
            for k in range(n):
                part = sign * (max(probabilities[k, c], 1) - 1)
                down[c, 3 + k] += part
                down[c, 3 + n + k] += part * level


@njit(nogil=True, cache=True)
def _slide(down: NDArray[np.float64], radius: int, c: int, window: NDArray[np.float64]) -> None:
    """Move the sums of a window from column c - 1 to c; at c = 0 it is filled, and must be zeros."""
    if c == 0:
        for x in range(min(radius, down.shape[0])):
            window += down[x]
    if c + radius < down.shape[0]:
        window += down[c + radius]
    if c - radius - 1 >= 0:
        window -= down[c - radius - 1]


@njit(nogil=True, cache=True, error_model="numpy")  # no test for 0 in the division's loop
def _fit(
    down: NDArray[np.float64], radius: int, valid: NDArray[np.uint8], line: NDArray[np.float32]
) -> None:
    """Coefficients of one row (He, Sun and Tang 2013, eq. 5 and 6), in whole parts of 1 / _UNITS."""
    n = line.shape[1] // 2
    window = np.zeros(down.shape[1], np.float64)
    for c in range(valid.size):
        _slide(down, radius, c, window)
        if valid[c] == NODATA:
            continue
        pixels, guide = window[0], window[1]
        # pixels^2 times the variance, and times epsilon; a and b come in units of parts / parts.
        spread = pixels * window[2] - guide * guide + pixels * pixels * (EPS * _GUIDE_UNITS**2)
        line[c, 0] = 1
        for k in range(n):
            part, product = window[3 + k], window[3 + n + k]
            a = (pixels * product - guide * part) / spread
            b = (part - a * guide) / pixels
            line[c, 1 + k] = np.rint(a * (_UNITS * _GUIDE_UNITS / _P_UNITS))
            line[c, 1 + n + k] = np.rint(b * (_UNITS / _P_UNITS))


@njit(nogil=True, cache=True)
def _write(
    down: NDArray[np.float64],
    radius: int,
    guide: NDArray[np.float32],
    valid: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    new: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    margin: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
) -> None:
    """Layers of one row from the means of a and b (He, Sun and Tang 2013, eq. 8).

    margin and entropy have a row (1, cols), or none where they are not asked for.
    """
    n = codes.size
    window = np.zeros(down.shape[1], np.float64)
    shares = np.empty(n, np.float64)
    for c in range(valid.size):
        _slide(down, radius, c, window)
        level = _level(guide[c]) / _GUIDE_UNITS
        total = 0.0
        for k in range(n):
            shares[k] = max(window[1 + k] * level + window[1 + n + k], 0.0)
            total += shares[k]
        if valid[c] == NODATA or total == 0:
            continue
        best, top, second, scale = 0, 0.0, 0.0, 1 / total
        for k in range(n):
            share = shares[k] * scale
            shares[k] = share
            new[k, c] = np.uint8(_P_UNITS * share + 1.5)
            if share > top or (share == top and codes[k] == classes[c]):
                best, top, second = k, share, top
            else:
                second = max(second, share)
        classes[c] = codes[best]
        confidence[c] = _percent(top)
        if margin.shape[0]:
            margin[0, c] = _percent(top - second)
        if entropy.shape[0]:
            entropy[0, c] = _percent(_entropy(shares))


@njit(nogil=True, cache=True)
def _percent(share: float) -> int:
    """Whole percent, half up, 1 to 100: 0 is nodata."""
    return int(min(max(100 * share + 0.5, 1.0), 100.0))


@njit(nogil=True, cache=True)
def _entropy(shares: NDArray[np.float64]) -> float:
    """Entropy of probabilities, as a share of that of equal ones; 0 for a single class."""
    total = 0.0
    for share in shares:
        if share > 0:
            total -= share * math.log(share)
    return total / math.log(shares.size) if shares.size > 1 else 0.0
