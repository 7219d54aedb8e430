"""Stratified random samples of pixels: how many, where, and which; for accuracy and area estimates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landcover.errors import SampleError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stratum:
    """A part of the map from which pixels are drawn with equal probability."""

    number: int
    """1 to the number of strata."""
    name: str
    """What a reader calls it."""
    pixels: int
    """Pixels it has."""
    hectares: float
    """Their area on the ellipsoid."""


def expected_agreement(cells: ArrayLike, users_accuracy: ArrayLike) -> Floats:
    """Share of each stratum on which map and reference are expected to agree, (strata,).

    cells: hectares by stratum and mapped class, (strata, classes). users_accuracy: conjectured, 0 to
    1, (classes,).
    """
    return np.asarray(_shares(cells) @ np.asarray(users_accuracy, float))


def expected_share(cells: ArrayLike, users_accuracy: ArrayLike, target: int) -> Floats:
    """Share of each stratum that is expected to be of one class in truth, (strata,).

    cells, users_accuracy: as `expected_agreement` takes them. target: index of the class. What is
    mapped wrongly is taken to be of the other classes in proportion to their mapped area, which
    is an assumption: who knows where omissions are gives strata for them.
    """
    right = np.asarray(users_accuracy, float)
    mapped = np.asarray(cells, float).sum(axis=0)
    others = mapped.sum() - mapped
    chance = np.divide(mapped[target], others, out=np.zeros_like(others), where=others > 0)
    given_class = (1 - right) * chance
    given_class[target] = right[target]
    return np.asarray(_shares(cells) @ given_class)


def sample_size(weights: ArrayLike, shares: ArrayLike, error: float, pixels: int) -> int:
    """Pixels to draw so that a proportion has the given standard error under optimal allocation.

    weights: share of the area in each stratum. shares: expected proportion in each. pixels: those of
    the map. Cochran (1977) eq. 5.25; Olofsson et al. (2014) eq. 13 is the same for a large map.
    Raises SampleError where the standard error is not above 0.
    """
    if not error > 0:
        raise SampleError(f"The target standard error is {error:g}; give one above 0, e.g. 0.01.")
    w, deviation = np.asarray(weights, float), _deviations(shares)
    size = (w @ deviation) ** 2 / (error**2 + (w @ deviation**2) / pixels)
    return min(math.ceil(size - 1e-9), pixels)


def allocate(weights: ArrayLike, pixels: ArrayLike, size: int, minimum: int) -> Ints:
    """Pixels to draw from each stratum: in proportion to its area, but never below the minimum.

    weights: share of the area in each stratum. pixels: how many each has; one with fewer than the
    minimum is taken whole. size: of the whole sample; it grows where the minimums need more. The rest
    is shared by largest remainders. Olofsson et al. (2014), section 5.1.
    """
    w, available = np.asarray(weights, float), np.asarray(pixels, np.int64)
    least = np.minimum(minimum, available)
    size = min(max(size, int(least.sum())), int(available.sum()))
    drawn = np.zeros(len(w), np.int64)
    free = np.ones(len(w), bool)
    share = np.zeros(len(w))
    while free.any():
        share[free] = (size - drawn.sum()) * w[free] / w[free].sum()
        low, high = free & (share < least), free & (share > available)
        if not (low | high).any():
            break
        settled, count = (low, least) if low.any() else (high, available)
        drawn[settled] = count[settled]
        free &= ~settled
    drawn[free] = _whole(share[free], size - int(drawn.sum()))
    return _filled(drawn, available, size)


def expected_error(weights: ArrayLike, shares: ArrayLike, drawn: ArrayLike) -> float:
    """Standard error of a proportion under an allocation; Cochran (1977), chapter 5."""
    w, deviation = np.asarray(weights, float), _deviations(shares)
    return float(np.sqrt((w**2 * deviation**2 / np.asarray(drawn, float)).sum()))


def draw_ranks(pixels: int, size: int, seed: Sequence[int]) -> Ints:
    """Which of a stratum's pixels are drawn: distinct ranks from 0, ascending, each equally likely."""
    random = np.random.default_rng(list(seed))
    return np.sort(random.choice(pixels, size, replace=False, shuffle=False)).astype(np.int64)


class RankPicker:
    """Finds the pixels of given ranks while a raster of strata is read from top to bottom.

    A pixel's rank is its place among those of its stratum, row by row; so how the raster is cut into
    strips changes nothing. ranks: of each stratum, ascending; the first belongs to stratum 1.
    """

    def __init__(self, ranks: Sequence[Ints]) -> None:
        self._ranks = [np.asarray(one, np.int64) for one in ranks]
        self._seen = np.zeros(len(ranks) + 1, np.int64)

    def take(self, strata: NDArray[np.integer]) -> tuple[Ints, Ints]:
        """Places in the next strip (row x columns + column) and their strata, by stratum and place.

        strata: numbers of the strata (rows, cols), 0 outside all.
        """
        flat = strata.ravel()
        counts = np.bincount(flat, minlength=len(self._seen))
        places, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, ranks in enumerate(self._ranks, start=1):
            first = self._seen[number]
            begin, end = np.searchsorted(ranks, [first, first + counts[number]])
            if end > begin:
                here = np.flatnonzero(flat == number)[ranks[begin:end] - first]
                places.append(here.astype(np.int64))
                numbers.append(np.full(len(here), number, np.int64))
        self._seen += counts
        return np.concatenate(places), np.concatenate(numbers)


def _shares(cells: ArrayLike) -> Floats:
    """Composition of each stratum by mapped class."""
    hectares = np.asarray(cells, float)
    return np.asarray(hectares / hectares.sum(axis=1, keepdims=True))


def _deviations(shares: ArrayLike) -> Floats:
    p = np.clip(np.asarray(shares, float), 0, 1)
    return np.asarray(np.sqrt(p * (1 - p)))


def _whole(shares: Floats, total: int) -> Ints:
    """Whole numbers near the shares that add up to the total; the largest remainders are rounded up."""
    whole = np.floor(shares).astype(np.int64)
    order = np.argsort(-(shares - whole), kind="stable")
    whole[order[: total - int(whole.sum())]] += 1
    return whole


def _filled(drawn: Ints, available: Ints, size: int) -> Ints:
    """The same with what is missing taken from the strata that have most left."""
    for number in np.argsort(-(available - drawn), kind="stable"):
        drawn[number] += min(available[number] - drawn[number], size - drawn.sum())
    return drawn
