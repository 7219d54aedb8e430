"""What is summed up over the pixels of regions while a raster is read in strips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import RasterError
from landcover.regions import Labels, Strip

Ints = NDArray[np.int64]

_NONE = np.zeros(0, np.int32)


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

    @classmethod
    def empty(cls) -> "RegionTally":
        """No regions."""
        none = np.zeros(0, np.int64)
        return cls(_NONE, none, none, none, np.zeros(0, np.uint8))

    @classmethod
    def of_strip(
        cls, strip: Strip, units: Ints, confidence: NDArray[np.uint8] | None
    ) -> "RegionTally":
        """The pieces of a strip, by their numbers from 1.

        units: area of each pixel, -1 where off the Earth. Raises RasterError where a pixel with a
        class is off the Earth.
        """
        known = confidence if confidence is not None else np.zeros((1, 1), np.uint8)
        *sums, lost = _tally(strip.labels, units, known, confidence is not None, len(strip.codes))
        if lost:
            raise RasterError(
                "Some pixels with a class lie where the raster's CRS has no place on the Earth; "
                "check its CRS and geotransform."
            )
        return cls(np.arange(1, len(strip.codes) + 1, dtype=np.int32), *sums)

    def renamed(self, regions: Labels) -> "RegionTally":
        """The same sums, under other regions: one for each."""
        return RegionTally(regions, self.pixels, self.units, self.confidence, self.lowest)

    @classmethod
    def joined(cls, tallies: Sequence["RegionTally"]) -> "RegionTally":
        """Sums of all, also over regions that occur several times."""
        regions = np.concatenate([_NONE, *(tally.regions for tally in tallies)])
        if not len(regions):
            return cls.empty()
        order = np.argsort(regions, kind="stable")
        regions = regions[order]
        starts = np.flatnonzero(np.diff(regions, prepend=0))

        def summed(name: str, how: np.ufunc = np.add) -> NDArray[Any]:
            values = np.concatenate([getattr(tally, name) for tally in tallies])[order]
            return np.asarray(how.reduceat(values, starts))

        return cls(
            regions[starts], summed("pixels"), summed("units"), summed("confidence"),
            summed("lowest", np.minimum),
        )  # fmt: skip

    def where(self, wanted: NDArray[np.bool_]) -> "RegionTally":
        """Some of the regions."""
        return RegionTally(
            self.regions[wanted], self.pixels[wanted], self.units[wanted], self.confidence[wanted],
            self.lowest[wanted],
        )  # fmt: skip


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
