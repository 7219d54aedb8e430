"""Accuracy and area of classes with intervals, from a stratified random sample that somebody labelled.

One estimator serves all: the combined ratio of Stehman (2014), "Estimating area and map accuracy for
stratified random sampling when the strata are different from the map classes", Int. J. Remote Sensing
35(13): 4923-4939. Where the strata are the map classes it is that of Olofsson et al. (2014),
"Good practices for estimating area and assessing accuracy of land change", Remote Sensing of Environment
148, eqs 1 to 11. Both count pixels; here a pixel counts by its area, so hectares are right where
pixels differ in size: each stratum's mean is the ratio of sampled areas (Cochran 1977, chapter 6).

Beside 1.96 standard errors, which those papers quote, shares and areas have an interval that also holds where
the sample met few pixels or none: those of Wilson (1927) for each stratum, put together as Zou, Huang and Zhang
(2009), "A note on confidence interval estimation for a linear function of binomial proportions",
Computational Statistics and Data Analysis 53(4): 1080-1085.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from landcover.errors import SampleError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NORMAL = 1.96
"""Standard errors in half a 95 % interval, as Olofsson et al. (2014) print it."""
_SMALL_FRACTION = 0.05
"""Share of a stratum up to which sampling without replacement is not allowed for (Cochran 1977, 2.6)."""


@dataclass(frozen=True)
class Measure:
    """An estimate; NaN where the sample does not tell."""

    value: float
    error: float
    """Standard error."""
    low: float = math.nan
    """Where the 95 % interval begins; known for shares of the whole area only."""
    high: float = math.nan
    """Where it ends."""

    @property
    def margin(self) -> float:
        """Half a 95 % interval by the normal approximation."""
        return _NORMAL * self.error

    def times(self, factor: float) -> "Measure":
        """The same in another unit."""
        return Measure(*(factor * part for part in (self.value, self.error, self.low, self.high)))


@dataclass(frozen=True)
class LabelledSample:
    """A stratified random sample of pixels with their mapped and their reference classes.

    Raises SampleError for a stratum with no pixel, or with one of several: its variance is unknown.
    """

    classes: int
    """Number of classes."""
    names: tuple[str, ...]
    """Of the strata."""
    hectares: Floats
    """Area of each stratum on the ellipsoid."""
    pixels: Ints
    """Pixels of each stratum, from which were drawn."""
    strata: Ints
    """Of each sampled pixel, from 0."""
    mapped: Ints
    """Class of each on the map, from 0."""
    reference: Ints
    """Its class in truth, from 0."""
    areas: Floats
    """Its area, in any unit."""

    def __post_init__(self) -> None:
        for name, drawn, pixels in zip(self.names, self.drawn, self.pixels, strict=True):
            if drawn < min(2, pixels):
                raise SampleError(
                    f"The stratum '{name}' has {drawn} labelled pixels of {pixels:,}; at least 2 are "
                    "needed to know its variance: label more, or draw a larger sample."
                )

    @cached_property
    def drawn(self) -> Ints:
        """Sampled pixels of each stratum."""
        return np.bincount(self.strata, minlength=len(self.names))

    @cached_property
    def counts(self) -> Ints:
        """Error matrix of sampled pixels: rows map, columns reference."""
        pairs = self.mapped * self.classes + self.reference
        table = np.bincount(pairs, minlength=self.classes**2)
        return table.reshape(self.classes, self.classes)

    @cached_property
    def proportions(self) -> Floats:
        """Error matrix of estimated shares of the area: rows map, columns reference; its sum is 1."""
        size = self.classes**2
        cells = self.strata * size + self.mapped * self.classes + self.reference
        sums = np.bincount(cells, self.areas, len(self.names) * size).reshape(-1, size)
        shares = (self.hectares / self._sampled) @ sums / self.hectares.sum()
        return np.asarray(shares.reshape(self.classes, self.classes))

    @property
    def overall_accuracy(self) -> Measure:
        """Share of the area on which map and reference agree."""
        return self._share(self.mapped == self.reference)

    def users_accuracy(self, code: int) -> Measure:
        """Share of the area mapped as a class (index) that is of it."""
        mapped = self.mapped == code
        return self._ratio(mapped & (self.reference == code), mapped)

    def producers_accuracy(self, code: int) -> Measure:
        """Share of the area of a class (index) that is mapped as it."""
        reference = self.reference == code
        return self._ratio(reference & (self.mapped == code), reference)

    def area(self, code: int) -> Measure:
        """Hectares of a class (index); its standard error is unknown where the sample has none."""
        reference = self.reference == code
        share = self._share(reference)
        if not reference.any() and (self.drawn < self.pixels).any():
            share = dataclasses.replace(share, error=math.nan)
        return share.times(float(self.hectares.sum()))

    @cached_property
    def _sampled(self) -> Floats:
        """Sampled area of each stratum."""
        return np.asarray(np.bincount(self.strata, self.areas, len(self.names)), float)

    @cached_property
    def _scale(self) -> Floats:
        """Variance of a stratum's total by the sum of squares of its sampled residuals."""
        n = self.drawn
        corrected = n / np.maximum(n - 1, 1) * self._left
        return np.asarray((self.hectares / self._sampled) ** 2 * corrected)

    @property
    def _left(self) -> Floats:
        """Share of each stratum's variance that drawing without replacement leaves."""
        fraction = self.drawn / self.pixels
        return np.where(fraction > _SMALL_FRACTION, 1 - fraction, 1.0)

    @cached_property
    def _effective(self) -> Floats:
        """Pixels of equal size, drawn with replacement, that tell as much of each stratum."""
        squares = np.bincount(self.strata, self.areas**2, len(self.names))
        whole = np.full(len(self.names), np.inf)
        np.divide(self._sampled**2 / squares, self._left, out=whole, where=self._left > 0)
        return whole

    def _means(self, values: Floats) -> Floats:
        sums = np.bincount(self.strata, self.areas * values, len(self.names))
        return np.asarray(sums / self._sampled)

    def _share(self, part: NDArray[np.bool_]) -> Measure:
        """Share of the whole area that a part has, with both intervals."""
        ratio = self._ratio(part, np.ones(len(part), bool))
        weights, shares = self.hectares / self.hectares.sum(), self._means(part.astype(float))
        low, high = _wilson(shares, self._effective)
        return Measure(
            ratio.value,
            ratio.error,
            max(0.0, ratio.value - math.sqrt(float(((weights * (shares - low)) ** 2).sum()))),
            min(1.0, ratio.value + math.sqrt(float(((weights * (high - shares)) ** 2).sum()))),
        )

    def _ratio(self, part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Measure:
        """Area of a part by that of a whole, both given by who of the sample belongs to them."""
        y, x = part.astype(float), whole.astype(float)
        below = float(self.hectares @ self._means(x))
        if below == 0:
            return Measure(math.nan, math.nan)
        ratio = float(self.hectares @ self._means(y)) / below
        rest = y - ratio * x
        rest -= self._means(rest)[self.strata]
        squares = np.bincount(self.strata, (self.areas * rest) ** 2, len(self.names))
        return Measure(ratio, math.sqrt(float(self._scale @ squares)) / below)


def _wilson(shares: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Limits of the 95 % intervals of shares found among n (Wilson 1927)."""
    square = _NORMAL**2 / n
    middle = (shares + square / 2) / (1 + square)
    half = np.sqrt(square * shares * (1 - shares) + square**2 / 4) / (1 + square)
    return np.clip(middle - half, 0, shares), np.clip(middle + half, shares, 1)
