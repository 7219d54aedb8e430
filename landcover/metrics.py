"""How well a map agrees with reference data: the error matrix and the measures read from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landcover.errors import LegendError, RasterError
from landcover.legend import NODATA

_CODES = 256


@dataclass(frozen=True)
class ErrorMatrix:
    """Pixels by mapped class (rows) and reference class (columns).

    The layout is that of Olofsson et al. (2014), "Good practices for estimating area and assessing
    accuracy of land change", table 4. Every measure is a plain pixel ratio, without area weights.
    A ratio without a denominator is NaN: it is not known, which is neither 0 nor 1.
    Matrices over the same codes add up, so a raster can be counted block by block.
    """

    codes: tuple[int, ...]
    """Class codes in the order of rows and columns."""
    counts: NDArray[np.int64]
    """Pixels, (classes, classes)."""

    @classmethod
    def empty(cls, codes: Sequence[int]) -> "ErrorMatrix":
        """A matrix over these codes in which nothing is counted yet."""
        return cls(tuple(codes), np.zeros((len(codes), len(codes)), np.int64))

    @classmethod
    def count(
        cls, mapped: NDArray[np.uint8], reference: NDArray[np.uint8], codes: Sequence[int]
    ) -> "ErrorMatrix":
        """Count the pixels of two equally shaped blocks; a pixel that is 0 in either is left out.

        Raises RasterError where the shapes differ, LegendError where a counted pixel has a code
        that is not among `codes`.
        """
        if mapped.shape != reference.shape:
            raise RasterError(
                f"The map block has the shape {mapped.shape} and the reference {reference.shape}; "
                "they must cover the same pixels."
            )
        pairs = mapped.astype(np.uint16).ravel() * np.uint16(_CODES) + reference.ravel()
        table = np.bincount(pairs, minlength=_CODES * _CODES).reshape(_CODES, _CODES)
        table[NODATA, :] = 0
        table[:, NODATA] = 0
        _require_known(table, codes)
        return cls(tuple(codes), table[np.ix_(codes, codes)].astype(np.int64))

    def __add__(self, other: "ErrorMatrix") -> "ErrorMatrix":
        if self.codes != other.codes:
            raise LegendError(
                f"Error matrices over the codes {list(self.codes)} and {list(other.codes)} "
                "do not add up; use one legend."
            )
        return ErrorMatrix(self.codes, self.counts + other.counts)

    @property
    def pixels(self) -> int:
        """Pixels counted."""
        return int(self.counts.sum())

    @property
    def agreed(self) -> NDArray[np.int64]:
        """Pixels per class on which map and reference agree."""
        return np.diagonal(self.counts)

    @property
    def mapped(self) -> NDArray[np.int64]:
        """Pixels per class on the map (row sums)."""
        return np.asarray(self.counts.sum(axis=1), np.int64)

    @property
    def reference(self) -> NDArray[np.int64]:
        """Pixels per class in the reference (column sums): the support of a measure."""
        return np.asarray(self.counts.sum(axis=0), np.int64)

    @property
    def overall_accuracy(self) -> float:
        """Share of the pixels that agree, 0 to 1; NaN where nothing is counted."""
        return float(_ratio(self.agreed.sum(), self.counts.sum()))

    @property
    def users_accuracy(self) -> NDArray[np.float64]:
        """Share of a mapped class that is right, per class; NaN where the map has none of it."""
        return _ratio(self.agreed, self.mapped)

    @property
    def producers_accuracy(self) -> NDArray[np.float64]:
        """Share of a reference class that is found; NaN where the reference has none of it."""
        return _ratio(self.agreed, self.reference)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union (Jaccard 1912) per class; NaN where it is in neither raster."""
        return _ratio(self.agreed, self.mapped + self.reference - self.agreed)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of user's and producer's accuracy; NaN where it is in neither raster.

        Taken as 2 agreed / (mapped + reference) (Dice 1945), so a class that only one of the two
        rasters has scores 0.
        """
        return _ratio(2 * self.agreed, self.mapped + self.reference)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes that the map or the reference has; NaN where there is none."""
        present = self.iou[~np.isnan(self.iou)]
        return float(present.mean()) if present.size else float("nan")

    @property
    def kappa(self) -> float:
        """Agreement beyond chance, -1 to 1 (Cohen 1960, eq. 1); NaN where chance alone agrees fully.

        Given because it is asked for; it says little that overall accuracy does not (Foody 2020).
        """
        total = float(self.pixels)
        chance = float(_ratio((self.mapped.astype(float) * self.reference).sum(), total**2))
        return float(_ratio(self.overall_accuracy - chance, 1 - chance))

    @property
    def mean_f1(self) -> float:
        """Mean F1 (Dice) of the classes that the map or the reference has; NaN where there is none."""
        present = self.f1[~np.isnan(self.f1)]
        return float(present.mean()) if present.size else float("nan")

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU of the classes, each weighted by its reference pixels (Long et al. 2015, section 5)."""
        weighted = np.where(self.reference > 0, self.iou, 0) * self.reference
        return float(_ratio(weighted.sum(), self.pixels))


def _require_known(table: NDArray[np.intp], codes: Sequence[int]) -> None:
    for name, axis in (("map", 1), ("reference", 0)):
        found = np.flatnonzero(table.any(axis=axis))
        if strange := sorted(set(found.tolist()) - set(codes)):
            raise LegendError(
                f"The {name} holds the class codes {strange}, which the legend (codes "
                f"{list(codes)}) does not name; use rasters of one legend."
            )


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    below = np.asarray(whole, np.float64)
    share = np.full(below.shape, np.nan)
    np.divide(part, below, out=share, where=below > 0)
    return share
