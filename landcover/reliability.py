"""How often a model is right when it says it is so sure: the reliability table."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landcover.errors import SettingsError


@dataclass(frozen=True)
class Reliability:
    """Pixels by confidence, in bins of equal width from 0 to 1; tables add up.

    A bin holds its upper border, the first also 0, as in `expected_calibration_error`.
    """

    pixels: NDArray[np.int64]
    """(bins,)."""
    confidence: NDArray[np.float64]
    """Sum of the confidence of the pixels, (bins,)."""
    right: NDArray[np.int64]
    """Pixels whose label is right, (bins,)."""

    @classmethod
    def empty(cls, bins: int = 15) -> "Reliability":
        """A table in which nothing is counted yet."""
        return cls(np.zeros(bins, np.int64), np.zeros(bins), np.zeros(bins, np.int64))

    @classmethod
    def count(cls, confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> "Reliability":
        """Count pixels by the probability of their label, (n,), and whether it is right, (n,)."""
        sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.bool_)
        bin_of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
        return cls(
            np.bincount(bin_of, minlength=bins),
            np.bincount(bin_of, sure, bins).astype(np.float64),
            np.bincount(bin_of[right], minlength=bins),
        )

    def __add__(self, other: "Reliability") -> "Reliability":
        if len(self.pixels) != len(other.pixels):
            raise SettingsError("Reliability tables of other bins do not add up; use one number.")
        return Reliability(
            self.pixels + other.pixels, self.confidence + other.confidence, self.right + other.right
        )

    @property
    def mean_confidence(self) -> NDArray[np.float64]:
        """Mean confidence of each bin, (bins,); NaN where it is empty."""
        return self._mean(self.confidence)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of each bin that is right, (bins,); NaN where it is empty."""
        return self._mean(self.right)

    @property
    def expected_error(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3), 0 to 1; NaN for no pixels."""
        total = self.pixels.sum()
        return float(np.abs(self.right - self.confidence).sum() / total) if total else math.nan

    @property
    def largest_error(self) -> float:
        """Maximum calibration error (Guo et al. 2017, eq. 4), 0 to 1; NaN for no pixels."""
        gaps = np.abs(self.accuracy - self.mean_confidence)
        return float(np.nanmax(gaps)) if self.pixels.any() else math.nan

    def _mean(self, total: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        mean = np.full(len(self.pixels), np.nan)
        np.divide(total, self.pixels, out=mean, where=self.pixels > 0)
        return mean
