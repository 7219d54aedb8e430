"""How sure a change of class is, from the probabilities of all classes on both dates.

Probabilities are stored as 1 + 254 p, a band a class, 0 for nodata. The two maps are taken as independent. All sums are
of whole numbers, so no result depends on how the raster is cut.
"""

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.uint8]
Percent = NDArray[np.uint8]

CHANGED, TRANSITION = "changed", "transition"
MEASURES = (CHANGED, TRANSITION)
"""CHANGED: that the class is another one, whichever: 1 - sum of p(k before) p(k after). TRANSITION: that it is this
one on either date: p(class before) p(class after)."""


def changed_percent(before: Steps, after: Steps) -> Percent:
    """Probability that the class is another one, percent from 1 to 100, (rows, cols); 0 where unknown.

    before, after: (classes, rows, cols), the same classes in the same order.
    """
    same = np.zeros(before.shape[1:], np.int64)
    for one, other in zip(_counts(before), _counts(after), strict=True):
        same += one * other
    total = _total(before) * _total(after)
    return _percent(total - same, total)


def transition_percent(
    before: Steps, after: Steps, first: NDArray[np.integer], second: NDArray[np.integer]
) -> Percent:
    """Probability of a class on each date, percent from 1 to 100, (rows, cols); 0 where unknown.

    before, after: as `changed_percent` takes them. first, second: number of each pixel's class among the bands, (rows,
    cols); any where there is no class.
    """
    one, other = (
        np.take_along_axis(steps, places[None].astype(np.intp), axis=0)[0]
        for steps, places in ((before, first), (after, second))
    )
    return _percent(_less_one(one) * _less_one(other), _total(before) * _total(after))


def _counts(steps: Steps) -> list[NDArray[np.int64]]:
    return [_less_one(band) for band in steps]


def _less_one(band: Steps) -> NDArray[np.int64]:
    """254 p; 0 where there is nodata."""
    return np.maximum(band.astype(np.int64), 1) - 1


def _total(steps: Steps) -> NDArray[np.int64]:
    """What 1 is, as each probability is rounded; 0 where there is nodata."""
    return np.asarray(sum(_counts(steps)))


def _percent(part: NDArray[np.int64], total: NDArray[np.int64]) -> Percent:
    rounded = (200 * part + total) // np.maximum(2 * total, 1)
    return np.where(total > 0, np.clip(rounded, 1, 100), 0).astype(np.uint8)
