"""The days of the year that an image shows, and how far two images are apart in them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_YEAR = 365.25
_DAYS = np.arange(1, 367)
_STEPS = np.append(np.ones(365), _YEAR - 365)
"""From each day of the year to the next; the last leads to the first of January."""
_EPOCH = np.datetime64("1970-01-01")


@dataclass(frozen=True)
class Season:
    """How many pixels show each day of the year; at least one."""

    counts: NDArray[np.int64]
    """(366,), the first of January first."""

    @classmethod
    def of(cls, days: NDArray[np.integer]) -> "Season":
        """That of pixels by their days since 1970-01-01, any shape."""
        dates = _EPOCH + days.astype(np.int64).ravel()
        places = (dates - dates.astype("datetime64[Y]")).astype(np.int64)
        return cls(np.bincount(places, minlength=366))

    def __add__(self, other: "Season") -> "Season":
        """That of the pixels of both."""
        return Season(self.counts + other.counts)

    @property
    def median(self) -> float:
        """Median day of the year, from 1, on a year that begins opposite to the day nearest to all."""
        nearest = int(np.argmin(day_distance(_DAYS[:, None], _DAYS) @ self.counts)) + 1
        turned = (_DAYS - nearest + _YEAR / 2) % _YEAR
        order = np.argsort(turned)
        until = np.cumsum(self.counts[order])
        ranks = (until[-1] - 1) // 2, until[-1] // 2
        low, high = turned[order][np.searchsorted(until, ranks, side="right")]
        return float(((low + high) / 2 - _YEAR / 2 + nearest - 1) % _YEAR + 1)

    def apart(self, other: "Season") -> float:
        """Days of the year between the pixels of two images, in the mean, paired so that it is least.

        The earth mover's distance on a circle (Rabin, Delon and Gousseau 2011): unlike the days between
        two medians it does not leap where each image shows two days and a few pixels more show the later one.
        """
        here, there = self.counts, other.counts
        ahead = np.cumsum(here) / here.sum() - np.cumsum(there) / there.sum()
        return float((np.abs(ahead[:, None] - ahead) @ _STEPS).min())


def day_distance(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.float64]:
    """Days between days of the year, the short way round."""
    apart = np.abs(one - other) % _YEAR
    return np.asarray(np.minimum(apart, _YEAR - apart))
