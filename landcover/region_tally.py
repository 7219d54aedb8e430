"""What is summed up over the pixels of regions while a raster is read in strips."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import RasterError
from landcover.regions import Labels, Strip

Ints = NDArray[np.int64]

_NONE = np.zeros(0, np.int32)
_NO_DAYS = np.zeros((1, 1), np.uint16)


@dataclass(frozen=True)
class Observed:
    """Clear observations of some pixels, (rows, cols) each."""

    counts: NDArray[np.uint16]
    """How many there are."""
    days: NDArray[np.uint16]
    """Day of the one that is shown, days since 1970-01-01; 0 where it is not known."""


@dataclass(frozen=True)
class RegionTally:
    """Sums by region, in ascending order of the regions. All are whole numbers: exact in any order."""

    regions: Labels
    pixels: Ints
    units: Ints
    """Area in units of `PixelAreas.quantum`."""
    confidence: Ints
    """Sum over the pixels, percent."""
    lowest: NDArray[np.uint8]
    """Least confidence of a pixel, percent."""
    observations: Ints
    """Clear observations, summed over the pixels."""
    first_day: NDArray[np.uint16]
    """Earliest day shown, days since 1970-01-01; the largest number where none is known."""
    last_day: NDArray[np.uint16]
    """Latest day shown; 0 where none is known."""

    @classmethod
    def empty(cls) -> "RegionTally":
        """No regions."""
        none, days = np.zeros(0, np.int64), np.zeros(0, np.uint16)
        return cls(_NONE, none, none, none, np.zeros(0, np.uint8), none, days, days)

    @classmethod
    def of_strip(
        cls,
        strip: Strip,
        units: Ints,
        confidence: NDArray[np.uint8] | None,
        observed: Observed | None = None,
    ) -> "RegionTally":
        """The pieces of a strip, by their numbers from 1.

        units: area of each pixel, -1 where off the Earth. Raises RasterError where a pixel with a
        class is off the Earth.
        """
        known = confidence if confidence is not None else np.zeros((1, 1), np.uint8)
        count = len(strip.codes)
        *sums, lost = _tally(strip.labels, units, known, confidence is not None, count)
        if lost:
            raise RasterError(
                "Some pixels with a class lie where the raster's CRS has no place on the Earth; "
                "check its CRS and geotransform."
            )
        seen = observed or Observed(_NO_DAYS, _NO_DAYS)
        days = _tally_days(strip.labels, seen.counts, seen.days, observed is not None, count)
        return cls(np.arange(1, count + 1, dtype=np.int32), *sums, *days)

    def renamed(self, regions: Labels) -> "RegionTally":
        """The same sums, under other regions: one for each."""
        return replace(self, regions=regions)

    @classmethod
    def joined(cls, tallies: Sequence["RegionTally"]) -> "RegionTally":
        """Sums of all, also over regions that occur several times."""
        regions = np.concatenate([_NONE, *(tally.regions for tally in tallies)])
        if not len(regions):
            return cls.empty()
        order = np.argsort(regions, kind="stable")
        regions = regions[order]
        starts = np.flatnonzero(np.diff(regions, prepend=0))

        def summed(name: str) -> NDArray[Any]:
            values = np.concatenate([getattr(tally, name) for tally in tallies])[order]
            return np.asarray(_HOW.get(name, np.add).reduceat(values, starts))

        return cls(regions[starts], *(summed(name) for name in _SUMS))

    def where(self, wanted: NDArray[np.bool_]) -> "RegionTally":
        """Some of the regions."""
        return RegionTally(*(getattr(self, name)[wanted] for name in ("regions", *_SUMS)))


_SUMS = tuple(field.name for field in fields(RegionTally))[1:]
_HOW = {"lowest": np.minimum, "first_day": np.minimum, "last_day": np.maximum}
"""How the sums of two are joined, where they are not added."""


@njit(cache=True, nogil=True)
def _tally(labels, units, confidence, is_known, count):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    pixels, total = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    sure, lowest = np.zeros(count + 1, np.int64), np.full(count + 1, 255, np.uint8)
    lost = 0
    for row in range(labels.shape[0]):
        for col in range(labels.shape[1]):
            label = labels[row, col]
            if label == 0:
                continue
            pixels[label] += 1
            if units[row, col] < 0:
                lost += 1
            else:
                total[label] += units[row, col]
            if is_known:
                value = confidence[row, col]
                sure[label] += value
                lowest[label] = min(lowest[label], value)
    return pixels[1:], total[1:], sure[1:], lowest[1:], lost


@njit(cache=True, nogil=True)
def _tally_days(labels, counts, days, is_known, number):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    total = np.zeros(number + 1, np.int64)
    first, last = np.full(number + 1, 65535, np.uint16), np.zeros(number + 1, np.uint16)
    if not is_known:
        return total[1:], first[1:], last[1:]
    for row in range(labels.shape[0]):
        for col in range(labels.shape[1]):
            label = labels[row, col]
            total[label] += counts[row, col]
            day = days[row, col]
            if day > 0:
                first[label], last[label] = min(first[label], day), max(last[label], day)
    return total[1:], first[1:], last[1:]
