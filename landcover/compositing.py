"""Many observations of a pixel become one: compiled medians, and choices among the dates.

In all of it a stack of dates is (date, band, rows, cols) uint16. A date shows a pixel in all its
bands (numbers from 1 up) or in none (0 in each), so the first band says which.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

METHODS = ("median", "geomedian", "least-cloudy-scene", "least-cloudy-pixel", "latest")
"""Names of the ways to composite."""
MAX_VALUE = 65535
_CHUNK = 256
"""Pixels worked on together: a dozen dates of one band fit into the first-level cache."""
_LANES = 64
"""The same for the geometric median, which goes on until the slowest of them is done."""
_STEP = 0.02
"""The geometric median is found when a step moves no band by more than this."""
_MOST_STEPS = 200
_TINY = np.float32(1e-4)
"""Square of a distance at which two spectra are the same one."""

# Numba computes with 64 bits and looks for negative indices unless told otherwise. Casting every
# result to 16 bits and indexing by unsigned numbers lets LLVM put 16 pixels into one instruction.
_U16, _U32, _U64, _F32, _AT = np.uint16, np.uint32, np.uint64, np.float32, np.uintp
_NONE, _ONE, _TOP = _U16(0), _U16(1), _U16(MAX_VALUE)


@dataclass(frozen=True)
class Composite:
    """One image made of many dates."""

    image: NDArray[np.uint16]
    """(band, rows, cols), 0 = no observation."""
    count: NDArray[np.uint16]
    """(rows, cols), number of observations of each pixel."""
    day: NDArray[np.uint16]
    """(rows, cols), day of the observation chosen or nearest, 0 = no observation."""


def median_composite(values: NDArray[np.uint16], days: NDArray[np.uint16]) -> Composite:
    """Median of each band over the dates that show the pixel.

    values: (date, band, rows, cols), 0 in all bands = no observation. days: (date,), since
    1970-01-01. Equals numpy.nanmedian rounded half to even. The day is that of the observation
    nearest to the median spectrum (sum over the bands of |value - median|, first of equals).
    """
    made = _blank(values)
    _in_threads(_median, made.count.size, _CHUNK, _pixels(values), days, *_parts(made))
    return made


def geomedian_composite(values: NDArray[np.uint16], days: NDArray[np.uint16]) -> Composite:
    """Geometric median of each pixel's spectra: the least sum of Euclidean distances to them all.

    values: (date, band, rows, cols), 0 in all bands = no observation. days: (date,), since
    1970-01-01. Weiszfeld's iteration (1937), which Vardi and Zhang (2000, PNAS 97:1423, equation
    2.6) keep from stopping at an observation that is not the optimum, from the median of each band
    until a step moves no band by more than 0.02; then the nearest observation is taken if it is the
    optimum. Of two observations every point between them is a geometric median: the midpoint is
    given. Rounded half to even. It keeps the relation between the bands (Roberts et al. 2017, IEEE
    TGRS 55:6254). The day is that of the observation nearest to the rounded spectrum (Euclidean,
    first of equals).
    """
    made = median_composite(values, days)
    _in_threads(_geomedian, made.count.size, _LANES, _pixels(values), days, *_parts(made))
    return made


def chosen_composite(
    values: NDArray[np.uint16],
    days: NDArray[np.uint16],
    preference: NDArray[np.float32] | NDArray[np.uint8],
) -> Composite:
    """The observation of the highest preference, pixel by pixel; the first of equals.

    values: (date, band, rows, cols), 0 in all bands = no observation. days: (date,), since
    1970-01-01. preference: (date, rows, cols), or (date, 1, 1) where scenes are preferred whole;
    finite.
    """
    made = _blank(values)
    wish: NDArray[Any] = np.ascontiguousarray(preference).reshape(len(preference), -1)
    _in_threads(_chosen, made.count.size, _CHUNK, _pixels(values), days, wish, *_parts(made))
    return made


def cloud_distance(unclear: NDArray[np.bool_], reach: int) -> NDArray[np.uint8]:
    """Euclidean distance to the nearest unclear pixel in pixels, rounded up and at most `reach`.

    unclear: (rows, cols). reach: 1..255. `cloud_distance(unclear, r + 1) <= r` is the mask grown by
    a disc of radius r. Outside the array nothing is unclear. Exact: distances within the columns
    first, then the least sum of squares along each row (Felzenszwalb and Huttenlocher 2012,
    equation 3). In one thread: readers of images call it, each in its own.
    """
    in_column = np.empty(unclear.shape, np.uint8)
    nearest = np.empty(unclear.shape, np.uint8)
    unclear = np.ascontiguousarray(unclear)
    rows, cols = unclear.shape
    _along_columns(0, cols, unclear, reach, in_column)
    _along_rows(0, rows, in_column, reach, nearest)
    return nearest


def hide(image: NDArray[np.uint16], visible: NDArray[np.bool_]) -> None:
    """Leave only pixels that are visible and have a number in each band, in both arrays.

    image: (band, rows, cols), contiguous; the others become 0 in all bands. visible: (rows, cols),
    contiguous; the others become false.
    """
    _hide(image.reshape(len(image), -1), visible.reshape(-1).view(np.uint8))


@njit(cache=True, nogil=True)
def _hide(image: NDArray[np.uint16], visible: NDArray[np.uint8]) -> None:
    keep = np.empty(_CHUNK, np.uint16)
    for start in range(0, visible.size, _CHUNK):
        length = min(_CHUNK, visible.size - start)
        for i in range(length):
            keep[_AT(i)] = _TOP if visible[_AT(start + i)] else _NONE
        for b in range(image.shape[0]):
            for i in range(length):
                value = image[_AT(b), _AT(start + i)]
                keep[_AT(i)] = _U16(keep[_AT(i)] & (_TOP if value else _NONE))
        for b in range(image.shape[0]):
            for i in range(length):
                value = image[_AT(b), _AT(start + i)]
                image[_AT(b), _AT(start + i)] = _U16(value & keep[_AT(i)])
        for i in range(length):
            visible[_AT(start + i)] = np.uint8(keep[_AT(i)] & _ONE)


def _blank(values: NDArray[np.uint16]) -> Composite:
    _, bands, rows, cols = values.shape
    return Composite(
        image=np.zeros((bands, rows, cols), np.uint16),
        count=np.zeros((rows, cols), np.uint16),
        day=np.zeros((rows, cols), np.uint16),
    )


def _pixels(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The stack as (date, band, pixel)."""
    times, bands, rows, cols = values.shape
    return np.ascontiguousarray(values).reshape(times, bands, rows * cols)


def _parts(
    made: Composite,
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
    """Image (band, pixel), count and day (pixel) of a composite, to be written to."""
    bands, rows, cols = made.image.shape
    return made.image.reshape(bands, rows * cols), made.count.reshape(-1), made.day.reshape(-1)


def _in_threads(kernel: Callable[..., None], length: int, step: int, *arguments: object) -> None:
    """Run a compiled kernel on as many parts of 0..length as there are processors.

    Not numba's own threads: they wait for one another at full load, at the cost of those that read,
    and two callers at once are not safe with each of its back ends.
    """
    workers = os.cpu_count() or 1
    part = -(-length // (step * workers)) * step
    if length <= part:
        kernel(0, length, *arguments)
        return
    with ThreadPoolExecutor(workers) as pool:
        parts = [(a, min(a + part, length)) for a in range(0, length, part)]
        list(pool.map(lambda ends: kernel(*ends, *arguments), parts))


@njit(cache=True, nogil=True)
def _median(
    first: int,
    last: int,
    values: NDArray[np.uint16],
    days: NDArray[np.uint16],
    image: NDArray[np.uint16],
    count: NDArray[np.uint16],
    day: NDArray[np.uint16],
) -> None:
    for start in range(first, last, _CHUNK):
        _median_of(values, days, start, min(start + _CHUNK, last), image, count, day)


@njit(cache=True, nogil=True)
def _median_of(
    values: NDArray[np.uint16],
    days: NDArray[np.uint16],
    start: int,
    end: int,
    image: NDArray[np.uint16],
    count: NDArray[np.uint16],
    day: NDArray[np.uint16],
) -> None:
    """The median of the pixels from start to end, at most _CHUNK of them."""
    times, bands, _ = values.shape
    dates = np.empty(times, np.intp)
    stuffing = np.empty((times, _CHUNK), np.uint16)
    ordered = np.empty((times, _CHUNK), np.uint16)
    odd = np.zeros(_CHUNK, np.uint16)
    away = np.empty((2, _CHUNK), np.uint32)
    seen = _observed(values, start, end, dates, count)
    _stuff(values, start, end, dates, seen, stuffing, odd)
    for b in range(bands):
        _load(values, b, start, end, dates, seen, stuffing, ordered)
        _sort(ordered, seen, end - start)
        _middle(ordered, seen, odd, count, b, start, end, image)
    _nearest(values, start, end, dates[:seen], days, image, day, away, False)


@njit(cache=True, nogil=True)
def _observed(
    values: NDArray[np.uint16],
    start: int,
    end: int,
    dates: NDArray[np.intp],
    count: NDArray[np.uint16],
) -> int:
    """Write the dates that show any of these pixels to `dates`; return how many; count per pixel."""
    seen = 0
    for t in range(values.shape[0]):
        some = _NONE
        for i in range(_AT(start), _AT(end)):
            value = values[_AT(t), _AT(0), i]
            some = max(some, value)
            count[i] += _U16(value != _NONE)
        if some:
            dates[seen] = t
            seen += 1
    return seen


@njit(cache=True, nogil=True)
def _stuff(
    values: NDArray[np.uint16],
    start: int,
    end: int,
    dates: NDArray[np.intp],
    seen: int,
    stuffing: NDArray[np.uint16],
    odd: NDArray[np.uint16],
) -> None:
    """What stands in for missing observations: the highest and the lowest number in turn.

    So they leave the middle where it is, and the median has the same rank in every pixel.
    `odd` becomes 65535 where the number of missing observations is odd, else it stays 0.
    """
    for k in range(seen):
        t = _AT(dates[k])
        for i in range(end - start):
            gone = _TOP if values[t, _AT(0), _AT(start + i)] == _NONE else _NONE
            turn = _U16(odd[_AT(i)] ^ gone)
            odd[_AT(i)] = turn
            stuffing[_AT(k), _AT(i)] = _U16(gone & turn)


@njit(cache=True, nogil=True)
def _load(
    values: NDArray[np.uint16],
    band: int,
    start: int,
    end: int,
    dates: NDArray[np.intp],
    seen: int,
    stuffing: NDArray[np.uint16],
    ordered: NDArray[np.uint16],
) -> None:
    for k in range(seen):
        t = _AT(dates[k])
        for i in range(end - start):
            value = values[t, _AT(band), _AT(start + i)]
            ordered[_AT(k), _AT(i)] = _U16(value | stuffing[_AT(k), _AT(i)])


@njit(cache=True, nogil=True)
def _sort(ordered: NDArray[np.uint16], n: int, width: int) -> None:
    """Sort the first n rows, column by column: Batcher's merge exchange (Knuth, TAOCP 5.2.2 M)."""
    p = 1
    while p < n:
        k = p
        while k > 0:
            for j in range(k % p, n - k, 2 * k):
                for low in range(j, min(j + k, n - k)):
                    if low // (2 * p) == (low + k) // (2 * p):
                        _exchange(ordered, low, low + k, width)
            k //= 2
        p *= 2


@njit(cache=True, nogil=True)
def _exchange(ordered: NDArray[np.uint16], low: int, high: int, width: int) -> None:
    a, b = _AT(low), _AT(high)
    for i in range(width):
        x, y = ordered[a, _AT(i)], ordered[b, _AT(i)]
        ordered[a, _AT(i)] = min(x, y)
        ordered[b, _AT(i)] = max(x, y)


@njit(cache=True, nogil=True)
def _middle(
    ordered: NDArray[np.uint16],
    n: int,
    odd: NDArray[np.uint16],
    count: NDArray[np.uint16],
    band: int,
    start: int,
    end: int,
    image: NDArray[np.uint16],
) -> None:
    """Mean of the two middle numbers rounded half to even, 0 where there is none.

    Where an odd number of the n rows is missing, the middle is half a rank lower.
    """
    low, high = _AT(max(n - 1 - n % 2, 0) // 2), _AT(n // 2)
    alone = high if n % 2 else low
    is_alone = _NONE if n % 2 else _TOP
    for i in range(end - start):
        one, turn, seen = ordered[alone, _AT(i)], odd[_AT(i)], count[_AT(start + i)]
        x, y = ordered[low, _AT(i)], ordered[high, _AT(i)]
        x = one if turn == is_alone else x
        y = one if turn == is_alone else y
        half = _U16((x >> _ONE) + (y >> _ONE) + (x & y & _ONE))
        median = _U16(half + ((x ^ y) & half & _ONE))
        image[_AT(band), _AT(start + i)] = median if seen else _NONE


@njit(cache=True, nogil=True)
def _nearest(
    values: NDArray[np.uint16],
    start: int,
    end: int,
    dates: NDArray[np.intp],
    days: NDArray[np.uint16],
    image: NDArray[np.uint16],
    day: NDArray[np.uint16],
    away: NDArray[np.unsignedinteger[Any]],
    squared: bool,
) -> None:
    """Write the day of the observation that is nearest to the image; `away` is room to work in."""
    this, least, far = away[0], away[1], ~away.dtype.type(0)
    for i in range(least.size):
        least[_AT(i)] = far
    for k in range(dates.size):
        t = _AT(dates[k])
        date = days[t]
        for i in range(this.size):
            this[_AT(i)] = 0
        for b in range(values.shape[1]):
            for i in range(end - start):
                value, mean = values[t, _AT(b), _AT(start + i)], image[_AT(b), _AT(start + i)]
                gap = _U32(max(value, mean) - min(value, mean))
                this[_AT(i)] += _U32(gap * gap) if squared else gap
        for i in range(end - start):
            value, old, best = values[t, _AT(0), _AT(start + i)], day[_AT(start + i)], least[_AT(i)]
            found = this[_AT(i)] if value else far
            day[_AT(start + i)] = date if found < best else old
            least[_AT(i)] = min(found, best)


@njit(cache=True, nogil=True)
def _geomedian(
    first: int,
    last: int,
    values: NDArray[np.uint16],
    days: NDArray[np.uint16],
    image: NDArray[np.uint16],
    count: NDArray[np.uint16],
    day: NDArray[np.uint16],
) -> None:
    """Turn the median in `image` into the geometric median."""
    for start in range(first, last, _LANES):
        _geomedian_of(values, days, start, min(start + _LANES, last), image, count, day)


@njit(cache=True, nogil=True)
def _geomedian_of(
    values: NDArray[np.uint16],
    days: NDArray[np.uint16],
    start: int,
    end: int,
    image: NDArray[np.uint16],
    count: NDArray[np.uint16],
    day: NDArray[np.uint16],
) -> None:
    """The geometric median of the pixels from start to end, at most _LANES of them."""
    times, bands, _ = values.shape
    spectra = np.zeros((times, bands, _LANES), np.float32)
    clear = np.zeros((times, _LANES), np.float32)
    several = np.zeros(_LANES, np.float32)
    centre = np.zeros((bands, _LANES), np.float32)
    away = np.empty((2, _LANES), np.uint64)
    dates = _centred(values, image, start, end, spectra, clear)
    for i in range(end - start):
        several[i] = _F32(count[start + i] > 2)
        day[start + i] = _NONE
    _walk(spectra[: dates.size], clear, several, centre)
    for b in range(bands):
        for i in range(end - start):
            image[b, start + i] = _U16(np.rint(_F32(image[b, start + i]) + centre[b, i]))
    _nearest(values, start, end, dates, days, image, day, away, True)


@njit(cache=True, nogil=True)
def _centred(
    values: NDArray[np.uint16],
    image: NDArray[np.uint16],
    start: int,
    end: int,
    spectra: NDArray[np.float32],
    clear: NDArray[np.float32],
) -> NDArray[np.intp]:
    """Dates that show any of the pixels; their spectra less the image, where they are clear.

    Numbers less the median are small, so that float32 holds a hundredth of them.
    """
    dates = np.empty(values.shape[0], np.intp)
    seen = 0
    for t in range(values.shape[0]):
        some = _NONE
        for i in range(end - start):
            value = values[_AT(t), _AT(0), _AT(start + i)]
            some = max(some, value)
            clear[_AT(seen), _AT(i)] = _F32(value != _NONE)
        for b in range(values.shape[1]):
            for i in range(end - start):
                value, mean = (
                    values[_AT(t), _AT(b), _AT(start + i)],
                    image[_AT(b), _AT(start + i)],
                )
                spectra[_AT(seen), _AT(b), _AT(i)] = _F32(value) - _F32(mean)
        if some:
            dates[seen] = t
            seen += 1
    return dates[:seen]


@njit(cache=True, nogil=True)
def _walk(
    spectra: NDArray[np.float32],
    clear: NDArray[np.float32],
    several: NDArray[np.float32],
    centre: NDArray[np.float32],
) -> None:
    """Move `centre` (band, lane) from 0 to the geometric median where there are several spectra."""
    going = several.copy()
    step, nearest = np.empty_like(centre), np.empty_like(centre)
    room = np.empty((4, _LANES), np.float32)
    for _ in range(_MOST_STEPS):
        _weiszfeld(spectra, clear, centre, step, room)
        if not _follow(step, going, centre):
            break
    _nearest_spectrum(spectra, clear, centre, nearest, room)
    _weiszfeld(spectra, clear, nearest, step, room)
    for i in range(_LANES):
        lasting = several[i] > 0
        for b in range(centre.shape[0]):
            lasting = lasting and step[b, i] == 0
        for b in range(centre.shape[0]):
            centre[b, i] = nearest[b, i] if lasting else centre[b, i]


@njit(cache=True, nogil=True)
def _follow(
    step: NDArray[np.float32], going: NDArray[np.float32], centre: NDArray[np.float32]
) -> bool:
    """Take the step in the lanes that are going (1, else 0); stop those whose step was small."""
    largest = _F32(0)
    for i in range(_LANES):
        longest = _F32(0)
        for b in range(centre.shape[0]):
            way = step[b, i] * going[i]
            centre[b, i] += way
            longest = max(longest, abs(way))
        going[i] = _F32(longest > _STEP)
        largest = max(largest, longest)
    return bool(largest > _STEP)


@njit(cache=True, nogil=True)
def _weiszfeld(
    spectra: NDArray[np.float32],
    clear: NDArray[np.float32],
    centre: NDArray[np.float32],
    step: NDArray[np.float32],
    room: NDArray[np.float32],
) -> None:
    """The step (band, lane) from `centre`; 0 where that is the geometric median.

    Vardi and Zhang 2000, equations 2.5 and 2.6: step = (1 - eta / r)+ R / sum of 1/d_i over the
    spectra elsewhere, R = sum of (x_i - y) / d_i, r = |R|, eta = number of spectra at y.
    """
    away, weights, here = room[0], room[1], room[2]
    weights[:], here[:], step[:] = 0, 0, 0
    for t in range(spectra.shape[0]):
        _squared_distance(spectra, t, centre, away)
        for i in range(_LANES):
            square, seen = away[_AT(i)], clear[_AT(t), _AT(i)]
            weight = seen / np.sqrt(max(square, _TINY))
            weight = weight if square > _TINY else _F32(0)
            here[_AT(i)] += seen if square <= _TINY else _F32(0)
            weights[_AT(i)] += weight
            away[_AT(i)] = weight
        for b in range(centre.shape[0]):
            for i in range(_LANES):
                gap = _F32(spectra[_AT(t), _AT(b), _AT(i)] - centre[_AT(b), _AT(i)])
                step[_AT(b), _AT(i)] += _F32(away[_AT(i)] * gap)
    for i in range(_LANES):
        square = _F32(0)
        for b in range(centre.shape[0]):
            square += step[b, i] * step[b, i]
        pull = np.sqrt(square)
        share = (1 - here[i] / pull) / weights[i] if pull > here[i] else _F32(0)
        for b in range(centre.shape[0]):
            step[b, i] *= share


@njit(cache=True, nogil=True)
def _squared_distance(
    spectra: NDArray[np.float32],
    t: int,
    centre: NDArray[np.float32],
    away: NDArray[np.float32],
) -> None:
    for i in range(_LANES):
        away[_AT(i)] = _F32(0)
    for b in range(centre.shape[0]):
        for i in range(_LANES):
            gap = _F32(spectra[_AT(t), _AT(b), _AT(i)] - centre[_AT(b), _AT(i)])
            away[_AT(i)] += _F32(gap * gap)


@njit(cache=True, nogil=True)
def _nearest_spectrum(
    spectra: NDArray[np.float32],
    clear: NDArray[np.float32],
    centre: NDArray[np.float32],
    nearest: NDArray[np.float32],
    room: NDArray[np.float32],
) -> None:
    """Write the clear spectrum nearest to `centre` to `nearest`, (band, lane)."""
    away, least = room[0], room[1]
    for i in range(_LANES):
        least[i] = np.inf
    for t in range(spectra.shape[0]):
        _squared_distance(spectra, t, centre, away)
        for i in range(_LANES):
            if clear[t, i] > 0 and away[i] < least[i]:
                least[i] = away[i]
                for b in range(centre.shape[0]):
                    nearest[b, i] = spectra[t, b, i]


@njit(cache=True, nogil=True)
def _chosen(
    first: int,
    last: int,
    values: NDArray[np.uint16],
    days: NDArray[np.uint16],
    preference: NDArray[np.float32] | NDArray[np.uint8],
    image: NDArray[np.uint16],
    count: NDArray[np.uint16],
    day: NDArray[np.uint16],
) -> None:
    for start in range(first, last, _CHUNK):
        end = min(start + _CHUNK, last)
        best = np.zeros(_CHUNK, np.uint16)
        _choose(values, preference, start, end, best, count)
        for i in range(start, end):
            t = best[i - start]
            day[i] = days[t] if count[i] else _NONE
            for b in range(image.shape[0]):
                image[b, i] = values[t, b, i]


@njit(cache=True, nogil=True)
def _choose(
    values: NDArray[np.uint16],
    preference: NDArray[np.float32] | NDArray[np.uint8],
    start: int,
    end: int,
    best: NDArray[np.uint16],
    count: NDArray[np.uint16],
) -> None:
    """Write the position of the date chosen for each pixel to `best`; count the observations."""
    everywhere = preference.shape[1] == 1
    wish = np.empty(_CHUNK, preference.dtype)
    highest = np.empty(_CHUNK, preference.dtype)
    for t in range(values.shape[0]):
        for i in range(end - start):
            wish[_AT(i)] = preference[_AT(t), _AT(0 if everywhere else start + i)]
        for i in range(end - start):
            value, seen, old = (
                values[_AT(t), _AT(0), _AT(start + i)],
                count[_AT(start + i)],
                best[_AT(i)],
            )
            new, high = wish[_AT(i)], highest[_AT(i)]
            taken = _U16(value != _NONE) & (_U16(seen == _NONE) | _U16(new > high))
            best[_AT(i)] = _U16(t) if taken else old
            highest[_AT(i)] = new if taken else high
            count[_AT(start + i)] = _U16(seen + _U16(value != _NONE))


@njit(cache=True, nogil=True)
def _along_columns(
    first: int, last: int, unclear: NDArray[np.bool_], reach: int, out: NDArray[np.uint8]
) -> None:
    """Distance to the nearest unclear pixel of the same column, at most `reach`."""
    rows = unclear.shape[0]
    for chunk in range(first, last, _CHUNK):
        start, end = _AT(chunk), _AT(min(chunk + _CHUNK, last))
        far = np.full(_CHUNK, reach, np.uint16)
        for row in range(rows):
            for col in range(start, end):
                near = _U16(0) if unclear[_AT(row), col] else _U16(far[col - start] + _ONE)
                far[col - start] = min(near, _U16(reach))
                out[_AT(row), col] = np.uint8(far[col - start])
        for row in range(rows - 2, -1, -1):
            for col in range(start, end):
                below = _U16(_U16(out[_AT(row + 1), col]) + _ONE)
                out[_AT(row), col] = np.uint8(min(_U16(out[_AT(row), col]), below))


@njit(cache=True, nogil=True)
def _along_rows(
    first: int, last: int, in_column: NDArray[np.uint8], reach: int, out: NDArray[np.uint8]
) -> None:
    """Distance to the nearest unclear pixel, from the distances within columns."""
    for row in range(first, last):
        _along_row(in_column[row], reach, out[row])


@njit(cache=True, nogil=True)
def _along_row(in_column: NDArray[np.uint8], reach: int, out: NDArray[np.uint8]) -> None:
    cols = in_column.size
    square, least = np.empty(cols, np.int32), np.empty(cols, np.int32)
    smallest = reach * reach
    for col in range(cols):
        square[col] = np.int32(in_column[col]) * np.int32(in_column[col])
        least[col] = reach * reach
        smallest = min(smallest, square[col])
    for d in range(min(reach, cols) if smallest < reach * reach else 0):
        aside = np.int32(d * d)
        for col in range(_AT(d), _AT(cols)):
            least[col] = min(least[col], np.int32(square[col - _AT(d)] + aside))
        for col in range(_AT(cols - d)):
            least[col] = min(least[col], np.int32(square[col + _AT(d)] + aside))
    for col in range(cols):
        out[col] = np.uint8(np.ceil(np.sqrt(_F32(least[col]))))
