"""What labelled images hold, counted strip by strip: pixels, classes, band values, sample places."""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

PLACES = 64
"""Pixels of each class that are remembered of each unit."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass
class LabelTally:
    """Counts of one image by unit: a block, or the image as a whole."""

    units: int
    classes: int
    bands: int
    pixels: Ints = field(init=False)
    """All pixels of the image, (units,)."""
    valid: Ints = field(init=False)
    """Those with data, (units,)."""
    labelled: Ints = field(init=False)
    """Labelled pixels with data, (units, classes)."""
    without_data: int = 0
    """Labelled pixels where the image has no data; they do not count as labelled."""
    center: Floats = field(init=False)
    """A value of each band from which sums are taken, so that squares do not cancel, (bands,)."""
    sums: Floats = field(init=False)
    """Sums of valid values and of their squares, less the centre, (2, units, bands)."""
    extremes: Floats = field(init=False)
    """Smallest and largest valid value, (2, units, bands)."""
    places: NDArray[np.int32] = field(init=False)
    """Sampled labelled pixels: unit, class position, row, column; (n, 4)."""
    _order: NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.units, np.int64)
        self.valid = np.zeros(self.units, np.int64)
        self.labelled = np.zeros((self.units, self.classes), np.int64)
        self.center = np.full(self.bands, np.nan)
        self.sums = np.zeros((2, self.units, self.bands))
        self.extremes = np.full((2, self.units, self.bands), np.nan)
        self.places = np.zeros((0, 4), np.int32)
        self._order = np.zeros(0, np.uint64)

    def add(
        self,
        top: int,
        unit: NDArray[np.int32],
        label: NDArray[np.int16],
        image: NDArray[np.float32],
        valid: NDArray[np.bool_],
    ) -> None:
        """Count a strip of full rows.

        top: its first row. unit (rows, cols): the unit of each pixel, negative for none. label
        (rows, cols): position of the class in the legend, negative where not labelled. image:
        (bands, rows, cols). valid: (rows, cols).
        """
        mine = unit >= 0
        self.pixels += np.bincount(unit[mine], minlength=self.units)
        seen = mine & valid
        here = unit[seen]
        self.valid += np.bincount(here, minlength=self.units)
        self._add_values(here, image[:, seen])
        known = mine & (label >= 0)
        self.without_data += int((known & ~valid).sum())
        known &= valid
        key = unit[known].astype(np.int64) * self.classes + label[known]
        counts = np.bincount(key, minlength=self.units * self.classes)
        self.labelled += counts.reshape(self.labelled.shape)
        self._sample(top, known, key, counts)

    def _add_values(self, unit: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """Add values (bands, n) of units (n,)."""
        if not unit.size:
            return
        self.center = np.where(np.isnan(self.center), values[:, 0], self.center)
        _add_values(unit, values, self.center, self.sums, self.extremes)

    def _sample(self, top: int, known: NDArray[np.bool_], key: Ints, counts: Ints) -> None:
        """Keep the pixels with the smallest hash of each unit and class: an even sample."""
        row, col = np.nonzero(known)
        row += top
        order = _hashed(row, col)
        # Nearly all pixels are far from the smallest; they are left out before the sort.
        limit = np.minimum(1.0, 4 * PLACES / np.maximum(counts, 1))
        near = order.astype(np.float64) < limit[key] * 2.0**64
        found = np.stack(
            [key[near] // self.classes, key[near] % self.classes, row[near], col[near]], axis=1
        ).astype(np.int32)
        places = np.concatenate([self.places, found])
        order = np.concatenate([self._order, order[near]])
        group = places[:, 0].astype(np.int64) * self.classes + places[:, 1]
        first = np.lexsort((order, group))
        group = group[first]
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if group.size else group
        rank = np.arange(group.size) - np.repeat(starts, np.diff(np.r_[starts, group.size]))
        kept = first[rank < PLACES]
        self.places, self._order = places[kept], order[kept]


@njit(cache=True, nogil=True)
def _add_values(unit, values, center, sums, extremes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    for band in range(values.shape[0]):
        for place in range(unit.size):
            one, value = unit[place], np.float64(values[band, place])
            moved = value - center[band]
            sums[0, one, band] += moved
            sums[1, one, band] += moved * moved
            if not extremes[0, one, band] <= value:  # at first it is NaN
                extremes[0, one, band] = value
            if not extremes[1, one, band] >= value:
                extremes[1, one, band] = value


def _hashed(row: NDArray[np.intp], col: NDArray[np.intp]) -> NDArray[np.uint64]:
    """A number for each pixel as if drawn at random (splitmix64's finisher; Steele et al. 2014)."""
    value = row.astype(np.uint64) << np.uint64(32) | col.astype(np.uint64)
    value += np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(31)


@dataclass(frozen=True)
class BandFigures:
    """Mean, standard deviation, smallest and largest value of each band, (bands,)."""

    mean: Floats
    std: Floats
    least: Floats
    most: Floats


def band_figures(parts: list[tuple[LabelTally, NDArray[np.bool_]]], bands: int) -> BandFigures:
    """Figures of all valid pixels of some units of many images.

    parts: the tally of an image, and which of its units count (units,). Partial means and squares are
    joined pairwise (Chan, Golub, LeVeque 1983, eq. 2.1). NaN where no pixel counts.
    """
    count, mean, squares = 0, np.zeros(bands), np.zeros(bands)
    least, most = np.full(bands, np.nan), np.full(bands, np.nan)
    for tally, chosen in parts:
        n = int(tally.valid[chosen].sum())
        if not n:
            continue
        first = tally.sums[0, chosen].sum(axis=0)
        part_mean = tally.center + first / n
        part_squares = np.maximum(tally.sums[1, chosen].sum(axis=0) - first * first / n, 0)
        step, total = part_mean - mean, count + n
        squares = squares + part_squares + step * step * (count * n / total)
        mean = mean + step * (n / total)
        count = total
        least = np.fmin(least, np.fmin.reduce(tally.extremes[0, chosen], axis=0))
        most = np.fmax(most, np.fmax.reduce(tally.extremes[1, chosen], axis=0))
    if not count:
        nothing = np.full(bands, np.nan)
        return BandFigures(nothing, nothing, nothing, nothing)
    return BandFigures(mean, np.sqrt(squares / count), least, most)
