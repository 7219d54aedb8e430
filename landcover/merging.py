"""Merging of regions below a minimum mapping unit into their neighbours: none is ever dropped."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.regions import Labels, Regions, Strip, label_pairs, numbered, root

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Borders:
    """Lengths of the borders that regions (or pieces of them) share."""

    pairs: Ints
    """Lower number x 2^32 + higher number, each pair once."""
    lengths: Ints
    """Millimetres."""

    @classmethod
    def joined(cls, parts: Sequence["Borders"]) -> "Borders":
        """All of them, a pair perhaps several times."""
        none = np.zeros(0, np.int64)
        return cls(
            np.concatenate([none, *(part.pairs for part in parts)]),
            np.concatenate([none, *(part.lengths for part in parts)]),
        )

    def moved(self, base: int) -> "Borders":
        """The same with a number added to those of the regions."""
        return Borders(self.pairs + base * (2**32 + 1), self.lengths)


def strip_borders(strip: Strip, along: Ints, down: Ints) -> Borders:
    """Borders between the pieces of a strip.

    along: length of the upper edge of a pixel of each row; down: length of its left edge; millimetres.
    """
    return Borders(*_borders(strip.framed, along, down))


def seam_borders(above: Labels, below: Labels, along: int) -> Borders:
    """Borders between the pieces of two neighbouring rows, numbered uniquely, 0 is nodata."""
    pairs, counts = np.unique(label_pairs(above, below), return_counts=True)
    return Borders(pairs, counts * along)


def region_borders(parts: Sequence[Borders], regions: Regions) -> Borders:
    """Borders between regions, of borders between their pieces."""
    whole = Borders.joined(parts)
    pairs, lengths = whole.pairs, whole.lengths
    one, other = regions.numbers[pairs >> 32], regions.numbers[pairs & 0xFFFFFFFF]
    low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other)
    apart = low != high
    keys = (low[apart] << 32) | high[apart]
    order = np.argsort(keys, kind="stable")
    keys, lengths = keys[order], lengths[apart][order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    if not len(keys):
        return Borders(keys, lengths)
    return Borders(keys[starts], np.add.reduceat(lengths, starts))


@dataclass(frozen=True)
class Merged:
    """What became of the regions."""

    regions: Regions
    """The new ones, numbered from 1 in raster order of their first pixel."""
    moved: dict[tuple[int, int], int]
    """Area that went from one class code to another, in the units of the areas."""
    merged: int
    """How many regions went into others."""


def merge_small(
    regions: Regions,
    borders: Borders,
    areas: Ints,
    minimum: int,
    confidence: Floats,
    kept: Sequence[int] = (),
) -> Merged:
    """Merge every region below a minimum area into a neighbour.

    The smallest goes first; it takes the class of the neighbour with which it shares the longest
    border, of equal ones the most confident, then that of the lowest code, then the one that begins
    first; and it joins all its neighbours of that class. A region below the minimum remains only where
    it has no neighbour at all, or its class is to be kept. The order does not depend on how the raster was
    cut.

    areas: of region i + 1, whole numbers. confidence: mean of each region (any unit; 0 if unknown),
    which stays that of the region that is joined. borders: one of length 0 is a touch by a corner: it
    takes no region in, but joins regions that have become of one class. kept: class codes whose regions
    take others in but go into none, however small.
    """
    parent = np.arange(len(regions) + 1, dtype=np.int32)
    sizes = np.concatenate([np.zeros(1, np.int64), areas])
    codes = np.concatenate([np.zeros(1, regions.codes.dtype), regions.codes])
    sure = np.concatenate([np.zeros(1), confidence])
    stays = np.isin(codes, np.array(kept, codes.dtype))
    _merge(parent, sizes, codes, sure, stays, *_neighbours(borders, len(regions)), minimum)
    # The lowest member names the new region, so that numbers are in raster order again.
    roots = _roots(parent)
    lowest = _lowest(roots)
    numbers, firsts = numbered(lowest)
    merged = Regions(
        numbers[regions.numbers], regions.bases, codes[roots[firsts]], regions.firsts[firsts - 1]
    )
    return Merged(
        merged, _moved(regions.codes, codes[roots[1:]], areas), len(regions) - len(merged)
    )


def _moved(
    before: NDArray[np.integer], after: NDArray[np.integer], areas: Ints
) -> dict[tuple[int, int], int]:
    changed = before != after
    keys = (before[changed].astype(np.int64) << 32) | after[changed]
    found, place = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, place, areas[changed])
    return {
        (int(key >> 32), int(key & 0xFFFFFFFF)): int(total)
        for key, total in zip(found, sums, strict=True)
    }


def _neighbours(borders: Borders, count: int) -> tuple[Ints, Labels, Ints]:
    """For each region its neighbours and the lengths of their borders: offsets, numbers, lengths."""
    low, high = (
        (borders.pairs >> 32).astype(np.int32),
        (borders.pairs & 0xFFFFFFFF).astype(np.int32),
    )
    offsets = np.zeros(count + 2, np.int64)
    offsets[1:] = np.cumsum(
        np.bincount(low, minlength=count + 1) + np.bincount(high, minlength=count + 1)
    )
    numbers, lengths = _filled(offsets, low, high, borders.lengths)
    return offsets, numbers, lengths


# Compiled.


@njit(cache=True, nogil=True)
def _filled(offsets, low, high, borders):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    at = offsets.copy()
    numbers, lengths = np.empty(2 * len(low), np.int32), np.empty(2 * len(low), np.int64)
    for i in range(len(low)):
        for one, other in ((low[i], high[i]), (high[i], low[i])):
            numbers[at[one]], lengths[at[one]] = other, borders[i]
            at[one] += 1
    return numbers, lengths


@njit(cache=True, nogil=True)
def _merge(parent, sizes, codes, sure, stays, offsets, numbers, lengths, minimum):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Join labels in `parent`; sizes and codes are those of the roots."""
    following = np.zeros(len(parent), np.int32)  # members of a small region, one after the other
    tail = np.arange(len(parent)).astype(np.int32)
    shared = np.zeros(len(parent), np.int64)
    is_touched = np.zeros(len(parent), np.bool_)
    touched = np.empty(len(parent), np.int32)
    begin = np.arange(len(parent)).astype(np.int32)  # the lowest member
    heap = [
        (sizes[i], begin[i], np.int32(i))
        for i in range(1, len(parent))
        if sizes[i] < minimum and not stays[i]
    ]
    heapq.heapify(heap)
    while heap:
        size, _, region = heapq.heappop(heap)
        if parent[region] != region or sizes[region] != size:
            continue
        count = _touch(
            parent, region, offsets, numbers, lengths, following, tail, shared, is_touched, touched
        )
        best = np.int32(0)
        if count > 0:
            best = _best(touched[:count], shared, sure, codes, begin)
        is_taken = best > 0 and shared[best] > 0
        if is_taken:
            _append(parent, sizes, begin, following, tail, best, region)
        for other in touched[:count]:
            shared[other], is_touched[other] = 0, False
            if is_taken and other != best and codes[other] == codes[best]:
                _append(parent, sizes, begin, following, tail, best, other)
        if is_taken and sizes[best] < minimum and not stays[best]:
            heapq.heappush(heap, (sizes[best], begin[best], best))


@njit(cache=True, nogil=True)
def _touch(parent, region, offsets, numbers, lengths, following, tail, shared, is_touched, touched):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """List the neighbours of a region in `touched`, their borders in `shared`; give their number."""
    member, count = region, 0
    while True:
        for k in range(offsets[member], offsets[member + 1]):
            other = root(parent, numbers[k])
            if other != region:
                if not is_touched[other]:
                    is_touched[other] = True
                    touched[count] = other
                    count += 1
                shared[other] += lengths[k]
        if member == tail[region]:
            return count
        member = following[member]


@njit(cache=True, nogil=True)
def _best(touched, shared, sure, codes, begin):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The neighbour that takes a region: see `merge_small`."""
    best = touched[0]
    for other in touched[1:]:
        one = (-shared[other], -sure[other], np.int64(codes[other]), begin[other])
        if one < (-shared[best], -sure[best], np.int64(codes[best]), begin[best]):
            best = other
    return best


@njit(cache=True, nogil=True)
def _append(parent, sizes, begin, following, tail, best, region):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    parent[region] = best
    sizes[best] += sizes[region]
    begin[best] = min(begin[best], begin[region])
    following[tail[best]] = region
    tail[best] = tail[region]


@njit(cache=True, nogil=True)
def _roots(parent):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    roots = np.empty_like(parent)
    for i in range(len(parent)):
        roots[i] = root(parent, np.int32(i))
    return roots


@njit(cache=True, nogil=True)
def _lowest(roots):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """For every label the lowest one with the same root."""
    lowest = np.zeros(len(roots), np.int32)
    for i in range(1, len(roots)):
        if lowest[roots[i]] == 0:
            lowest[roots[i]] = i
    return lowest[roots]


@njit(cache=True, nogil=True)
def _borders(framed, along, down):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Pairs and summed lengths, by a hash table with open addressing."""
    size = 1 << 12
    keys, sums, used = np.zeros(size, np.int64), np.zeros(size, np.int64), 0
    height, width = framed.shape[0] - 2, framed.shape[1] - 2
    for r in range(1, height + 1):
        for beside in range(2):  # the border above, then the one to the left
            if r == 1 and not beside:
                continue
            step = down[r - 1] if beside else along[r - 1]
            last, run = np.int64(0), np.int64(0)
            for c in range(1, width + 2):
                key = np.int64(0)
                if c <= width:
                    one = np.int64(framed[r, c])
                    other = np.int64(framed[r, c - 1] if beside else framed[r - 1, c])
                    if one != other and one != 0 and other != 0:  # noqa: PLR1714 -- numba
                        key = (min(one, other) << 32) | max(one, other)
                if key != last:
                    if last != 0:
                        used += _add(keys, sums, last, run)
                        if 2 * used > len(keys):
                            keys, sums = _rehashed(keys, sums)
                    last, run = key, np.int64(0)
                run += step
    filled = np.flatnonzero(keys)
    return keys[filled], sums[filled]


@njit(cache=True, nogil=True)
def _add(keys, sums, key, length):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Add to the sum of a key; 1 where the key is new."""
    mask = len(keys) - 1
    at = ((key ^ (key >> 29)) * 0x9E3779B1) & mask
    while keys[at] != key:
        if keys[at] == 0:
            keys[at], sums[at] = key, length
            return 1
        at = (at + 1) & mask
    sums[at] += length
    return 0


@njit(cache=True, nogil=True)
def _rehashed(keys, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    new_keys, new_sums = np.zeros(2 * len(keys), np.int64), np.zeros(2 * len(keys), np.int64)
    for i in range(len(keys)):
        if keys[i] != 0:
            _add(new_keys, new_sums, keys[i], sums[i])
    return new_keys, new_sums
