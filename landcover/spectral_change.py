"""Whether the surface itself looks changed: a change vector on harmonised images, without any class.

The second image is brought to the brightness of the first, band by band, by a line through the pixels
that fit it (reduced major axis: the same line both ways; those beyond 2.5 standard deviations are left
out again and again). What is left is smoothed, so that a shift by part of a pixel and noise weigh little, and
measured in standard deviations of unchanged land, which the median absolute deviation tells. The change
vector (Malila 1980) is the root mean square of its bands. Evidence = 100 z^2 / (z^2 + 3^2) percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

EVEN_Z = 3.0
"""Length of the change vector at which the evidence is 50 %, standard deviations."""
_TRIM, _ROUNDS = 2.5, 8
_ROUNDING = 0.29
"""Standard deviation of a number rounded to a whole one: no difference is surer than that."""
_TRUNCATE = 4.0
_FEWEST = 100
"""Pixels without which nothing is known."""


@dataclass(frozen=True)
class SpectralChange:
    """What unchanged land looks like in two images; all arrays are (bands,)."""

    gain: Floats
    offset: Floats
    """Second image x gain + offset is like the first."""
    middle: Floats
    """Median of the smoothed differences, stored numbers."""
    spread: Floats
    """Standard deviation of the smoothed differences on unchanged land, stored numbers."""
    sigma: float
    """Of the Gaussian that smooths, pixels."""

    @property
    def halo(self) -> int:
        """Rows and columns around a pixel on which its evidence depends."""
        return reach(self.sigma)

    @classmethod
    def fit(
        cls, blocks: Sequence[tuple[Floats, Floats, Mask]], sigma: float
    ) -> "SpectralChange | None":
        """Learn from blocks of both images.

        blocks: first image and second image (bands, rows, cols), and where both hold data (rows, cols).
        sigma: pixels. None where too few pixels hold data.
        """
        first, second = (
            np.concatenate([block[i][:, block[2]] for block in blocks], axis=1) for i in (0, 1)
        ) if blocks else (np.zeros((1, 0)), np.zeros((1, 0)))  # fmt: skip
        if first.shape[1] < _FEWEST:
            return None
        lines = np.array([_line(a, b) for a, b in zip(first, second, strict=True)])
        gain, offset = lines.T
        rough = cls(gain, offset, np.zeros(len(gain)), np.ones(len(gain)), sigma)
        smooth = np.concatenate([rough._smoothed(*block)[:, block[2]] for block in blocks], axis=1)
        middle = np.median(smooth, axis=1)
        spread = 1.4826 * np.median(np.abs(smooth - middle[:, None]), axis=1)
        return cls(gain, offset, middle, np.maximum(spread, _ROUNDING), sigma)

    def lengths(self, first: Floats, second: Floats, valid: Mask) -> Floats:
        """Length of the change vector, standard deviations, (rows, cols); 0 where not valid.

        first, second: (bands, rows, cols). A pixel depends on no other farther than `halo`.
        """
        standard = (
            self._smoothed(first, second, valid) - self.middle[:, None, None]
        ) / self.spread[:, None, None]
        return np.asarray(np.where(valid, np.sqrt((standard**2).mean(axis=0)), 0.0))

    def evidence(self, first: Floats, second: Floats, valid: Mask) -> NDArray[np.uint8]:
        """Percent, 1 to 100, (rows, cols); 0 where not valid."""
        square = self.lengths(first, second, valid) ** 2
        percent = np.rint(100 * square / (square + EVEN_Z**2))
        return np.where(valid, np.clip(percent, 1, 100), 0).astype(np.uint8)

    def _smoothed(self, first: Floats, second: Floats, valid: Mask) -> Floats:
        """Differences of the bands, smoothed over the valid pixels only."""
        weight = blur(valid.astype(np.float64), self.sigma)
        inner = np.where(valid, weight, 1.0)
        out = np.empty(first.shape, np.float64)
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            difference = np.where(valid, b * self.gain[i] + self.offset[i] - a, 0.0)
            out[i] = np.where(valid, blur(difference, self.sigma) / inner, 0.0)
        return out


def reach(sigma: float) -> int:
    """Pixels from the middle of a Gaussian to where it is cut off."""
    return int(_TRUNCATE * sigma + 0.5)


def blur(values: Floats, sigma: float) -> Floats:
    """Gaussian filter that takes what lies outside for 0, so that rows may be cut anywhere."""
    for axis in (0, 1):
        values = gaussian_filter1d(values, sigma, axis, mode="constant", truncate=_TRUNCATE)
    return values


def _line(first: Floats, second: Floats) -> tuple[float, float]:
    """Gain and offset of the reduced major axis through the pixels that fit it."""
    keep = np.ones(len(first), np.bool_)
    gain, offset = 1.0, 0.0
    for _ in range(_ROUNDS):
        spreads = float(first[keep].std()), float(second[keep].std())
        gain = spreads[0] / spreads[1] if min(spreads) > 0 else 1.0
        offset = float(first[keep].mean() - gain * second[keep].mean())
        rest = gain * second + offset - first
        middle = np.median(rest[keep])
        sigma = 1.4826 * np.median(np.abs(rest[keep] - middle))
        keep = np.abs(rest - middle) <= max(_TRIM * sigma, _ROUNDING)
        if keep.sum() < _FEWEST // 2:
            break
    return gain, offset
