"""Whether the surface looks changed, by multivariate alteration detection: no class, and no brightness, is needed.

Pairs of combinations of the bands of both images are sought that agree best with each other (canonical correlation);
their differences, the MAD variates, hold what changed (Nielsen, Conradsen and Simpson 1998). They are the same for any
linear change of the bands of either image. Again and again each pixel weighs as much as it seems unchanged, by the
chi-square distribution of the sum of its squared standardised variates (Nielsen 2007, eq. 6 to 8), until the
correlations stand still. The images are smoothed first, and the standard deviations in the end are those of unchanged land (median
absolute deviation), as in landcover.spectral_change, whose evidence this is in place of.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.stats import chi2

from landcover.spectral_change import EVEN_Z, blur, reach

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ROUNDING_VARIANCE = 1 / 12
"""Of a number rounded to a whole one; it keeps a band of one value from dividing by 0."""
_ROUNDS, _STILL = 30, 1e-3
"""Most rounds, and the largest change of a correlation at which they end."""
_PIXELS = 2**18
"""Pixels that are learned from, at most about so many."""
_FEWEST = 100
_LEAST_WEIGHT = 1e-9
"""Of a pixel, so that never all of them weigh nothing."""


@dataclass(frozen=True)
class Alteration:
    """The MAD transformation of two images of the same number of bands."""

    first_mean: Floats
    """(bands,)."""
    second_mean: Floats
    first_vectors: Floats
    """Weights of the bands of the first image in each variate, (variates, bands)."""
    second_vectors: Floats
    correlations: Floats
    """Of each pair, on unchanged land, lowest last, (variates,)."""
    middle: Floats
    """Median of each variate, (variates,)."""
    spread: Floats
    """Standard deviation of each variate on unchanged land, (variates,)."""
    sigma: float
    """Of the Gaussian that smooths, pixels."""
    rounds: int
    """That were needed."""

    @property
    def halo(self) -> int:
        """Rows and columns around a pixel on which its evidence depends."""
        return reach(self.sigma)

    @classmethod
    def fit(
        cls, blocks: Sequence[tuple[Floats, Floats, Mask]], sigma: float
    ) -> "Alteration | None":
        """Learn from blocks of both images, as `SpectralChange.fit` does; None where too few pixels hold data."""
        step = max(1, round(np.sqrt(sum(int(valid.sum()) for *_, valid in blocks) / _PIXELS)))
        parts = [_sample(*block, sigma, step) for block in blocks]
        weights = [np.ones(first.shape[1]) for first, _ in parts]
        if sum(map(len, weights)) < _FEWEST:
            return None
        before = np.full(len(parts[0][0]), np.inf)
        for done in range(1, _ROUNDS + 1):
            rough = cls._from(Moments.of(parts, weights), sigma, done)
            if np.abs(rough.correlations - before).max() < _STILL:
                break
            before = rough.correlations
            weights = [np.maximum(rough.no_change(*part), _LEAST_WEIGHT) for part in parts]
        return rough.standardised(parts)

    @classmethod
    def _from(cls, moments: "Moments", sigma: float, done: int) -> "Alteration":
        """The transformation of weighted moments, spread as the correlations tell."""
        bands = len(moments.mean) // 2
        noise = np.eye(bands) * _ROUNDING_VARIANCE
        root = cholesky(moments.covariance[:bands, :bands] + noise, lower=True)
        other_root = cholesky(moments.covariance[bands:, bands:] + noise, lower=True)
        between = solve_triangular(root, moments.covariance[:bands, bands:], lower=True)
        between = solve_triangular(other_root, between.T, lower=True).T
        left, correlations, right = np.linalg.svd(between)
        first = solve_triangular(root, left, lower=True, trans="T").T
        second = solve_triangular(other_root, right.T, lower=True, trans="T").T
        spread = np.sqrt(np.maximum(2 * (1 - np.minimum(correlations, 1)), 1e-12))
        means = moments.mean[:bands], moments.mean[bands:]
        return cls(*means, first, second, correlations, np.zeros(bands), spread, sigma, done)

    def standardised(self, parts: Sequence[tuple[Floats, Floats]]) -> "Alteration":
        """The same with middle and spread of unchanged land, whatever the share of change."""
        variates = np.concatenate([self._variates(*part) for part in parts], axis=1)
        middle = np.median(variates, axis=1)
        spread = 1.4826 * np.median(np.abs(variates - middle[:, None]), axis=1)
        least = np.sqrt(
            _ROUNDING_VARIANCE * ((self.first_vectors**2).sum(1) + (self.second_vectors**2).sum(1))
        )
        return Alteration(
            self.first_mean, self.second_mean, self.first_vectors, self.second_vectors, self.correlations,
            middle, np.maximum(spread, least), self.sigma, self.rounds,
        )  # fmt: skip

    def chi_square(self, first: Floats, second: Floats) -> Floats:
        """Sum of the squared standardised variates, (...); first, second: smoothed, (bands, ...)."""
        shape = first.shape[1:]
        flat = self._variates(first.reshape(len(first), -1), second.reshape(len(second), -1))
        standard = (flat - self.middle[:, None]) / self.spread[:, None]
        return np.asarray((standard**2).sum(axis=0).reshape(shape))

    def no_change(self, first: Floats, second: Floats) -> Floats:
        """Probability of so large a sum where nothing changed, 0 to 1, (...)."""
        return np.asarray(chi2.sf(self.chi_square(first, second), len(self.spread)))

    def lengths(self, first: Floats, second: Floats, valid: Mask) -> Floats:
        """Root mean square of the standardised variates, (rows, cols); 0 where not valid.

        first, second: (bands, rows, cols), as they are. A pixel depends on no other farther than `halo`.
        """
        smooth = smoothed(first, valid, self.sigma), smoothed(second, valid, self.sigma)
        square = self.chi_square(*smooth) / len(self.spread)
        return np.asarray(np.where(valid, np.sqrt(square), 0.0))

    def evidence(self, first: Floats, second: Floats, valid: Mask) -> NDArray[np.uint8]:
        """Percent, 1 to 100, (rows, cols), 50 at a length of 3; 0 where not valid."""
        square = self.lengths(first, second, valid) ** 2
        percent = np.rint(100 * square / (square + EVEN_Z**2))
        return np.where(valid, np.clip(percent, 1, 100), 0).astype(np.uint8)

    def _variates(self, first: Floats, second: Floats) -> Floats:
        """(variates, pixels) of (bands, pixels)."""
        one = self.first_vectors @ (first - self.first_mean[:, None])
        return np.asarray(one - self.second_vectors @ (second - self.second_mean[:, None]))


@dataclass(frozen=True)
class Moments:
    """Weighted mean and covariance of the bands of both images, one after the other."""

    mean: Floats
    """(2 x bands,)."""
    covariance: Floats
    """(2 x bands, 2 x bands)."""

    @classmethod
    def of(cls, parts: Iterable[tuple[Floats, Floats]], weights: Iterable[Floats]) -> "Moments":
        """Of parts of both images (bands, pixels) and the weight of each pixel; one part at a time.

        Means and covariances of parts are put together after Chan, Golub and LeVeque 1983, so nothing cancels.
        """
        total, mean, scatter = 0.0, np.zeros(1), np.zeros((1, 1))
        for (first, second), weight in zip(parts, weights, strict=True):
            both, mass = np.concatenate([first, second]), float(weight.sum())
            if not mass > 0:
                continue
            middle = both @ weight / mass
            rest = both - middle[:, None]
            apart = middle - mean
            scatter = (
                scatter
                + (rest * weight) @ rest.T
                + np.outer(apart, apart) * total * mass / (total + mass)
            )
            mean = mean + apart * mass / (total + mass)
            total += mass
        return cls(mean, scatter / max(total, 1e-12))


def smoothed(image: Floats, valid: Mask, sigma: float) -> Floats:
    """An image (bands, rows, cols), each band smoothed over the valid pixels only; 0 elsewhere."""
    inner = np.where(valid, blur(valid.astype(np.float64), sigma), 1.0)
    bands = [
        np.where(valid, blur(np.where(valid, band, 0.0), sigma) / inner, 0.0) for band in image
    ]
    return np.stack(bands)


def _sample(
    first: Floats, second: Floats, valid: Mask, sigma: float, step: int
) -> tuple[Floats, Floats]:
    """Every so manieth valid pixel of both images, smoothed, (bands, pixels)."""
    kept = valid[::step, ::step]
    one, other = (
        smoothed(image, valid, sigma)[:, ::step, ::step][:, kept] for image in (first, second)
    )
    return one, other
