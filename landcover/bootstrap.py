"""How far a measure would move had other ground been looked at: the bootstrap over blocks."""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

LEAST_BLOCKS = 2
"""With fewer there is nothing to draw anew."""


def resampled(counts: NDArray[np.int64], replicates: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Sums of counts over blocks that are drawn with replacement, as many as there are.

    counts: (blocks, ...). Blocks, not pixels, are drawn, because neighbouring pixels are right and
    wrong together (Efron & Tibshirani 1993, chapter 8). Equal input and seed give equal sums.
    """
    blocks = len(counts)
    rng = np.random.default_rng(seed)
    flat = counts.reshape(blocks, -1)
    for _ in range(replicates):
        times = rng.multinomial(blocks, np.full(blocks, 1 / blocks))
        yield (times @ flat).reshape(counts.shape[1:])


def percentile_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the replicates of a measure (Efron & Tibshirani 1993, section 13.3).

    Replicates in which the measure is NaN are left out; both ends are NaN where that is more than
    half of them, or there are none.
    """
    found = np.fromiter(values, np.float64)
    known = found[np.isfinite(found)]
    if not known.size or known.size * 2 < found.size:
        return math.nan, math.nan
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def bootstrap_intervals(
    counts: NDArray[np.int64],
    measures: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> NDArray[np.float64]:
    """Intervals of the measures of summed counts: (measures, 2); NaN where they are not known.

    counts: (blocks, ...). measures: from a sum of blocks to numbers, (measures,).
    """
    if len(counts) < LEAST_BLOCKS:
        whole = measures(counts.sum(axis=0))
        return np.full((len(whole), 2), np.nan)
    found = np.array([measures(one) for one in resampled(counts, replicates, seed)])
    return np.array([percentile_interval(column, level) for column in found.T])
