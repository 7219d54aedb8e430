"""Accuracy by the size of what is mapped: small fields and ponds are harder than large ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.errors import LegendError
from landcover.regions import label

SIZES = (1, 10, 100, 1000, 10_000)
"""Least pixels of an object of each group; the last is open."""


@dataclass(frozen=True)
class SizeCounts:
    """Reference pixels by class and by the size of the object that they belong to; counts add up.

    An object is a 4-connected region of one class in the reference.
    """

    codes: tuple[int, ...]
    pixels: NDArray[np.int64]
    """(sizes, classes)."""
    found: NDArray[np.int64]
    """Those of them that the map gives the same class, (sizes, classes)."""

    @classmethod
    def empty(cls, codes: Sequence[int]) -> "SizeCounts":
        """Counts in which nothing is counted yet."""
        shape = (len(SIZES), len(codes))
        return cls(tuple(codes), np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    @classmethod
    def count(
        cls,
        mapped: NDArray[np.uint8],
        reference: NDArray[np.uint8],
        codes: Sequence[int],
        counted: NDArray[np.bool_] | None = None,
    ) -> "SizeCounts":
        """Count the labelled pixels of a block (rows, cols); code 0 in either raster is left out.

        counted: pixels to count; others only add to the size of objects. An object cut by the rim of
        the block is as large as the block shows it.
        """
        sizes = object_sizes(reference)
        seen = (mapped != 0) & (reference != 0)
        seen &= True if counted is None else counted
        group = np.searchsorted(SIZES, sizes[seen], side="right") - 1
        position = _positions(codes)[reference[seen]]
        right = mapped[seen] == reference[seen]
        table = [
            np.bincount(
                (group * len(codes) + position)[chosen], minlength=len(SIZES) * len(codes)
            ).reshape(len(SIZES), len(codes))
            for chosen in (slice(None), right)
        ]
        return cls(tuple(codes), *table)

    def __add__(self, other: "SizeCounts") -> "SizeCounts":
        if self.codes != other.codes:
            raise LegendError("Counts of other classes do not add up; use one legend.")
        return SizeCounts(self.codes, self.pixels + other.pixels, self.found + other.found)


def object_sizes(reference: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of the object that each pixel belongs to, (rows, cols); 0 where the code is 0."""
    pieces = label(reference).labels
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(sizes[pieces])


def _positions(codes: Sequence[int]) -> NDArray[np.int64]:
    table = np.zeros(256, np.int64)
    table[list(codes)] = range(len(codes))
    return table
