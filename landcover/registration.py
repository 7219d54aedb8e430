"""How far two images are shifted against each other, to a small part of a pixel."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft2, fftfreq, ifft2

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FINE = 100
"""Steps of a pixel to which a peak is placed."""
_BLUR = 0.18
"""Standard deviation of the weight of frequencies, cycles per pixel: what lies beyond is mostly noise."""
_LEAST_VALID = 0.5
"""Share of a block that must hold data in both images."""
_FARTHEST = 4.0
"""A block whose peak lies farther away found something else, pixels."""
_FEWEST = 32
"""Rows and columns that a block must have."""


@dataclass(frozen=True)
class Shift:
    """Where the second image lies against the first."""

    rows: float
    """Pixels down."""
    cols: float
    """Pixels to the right."""
    scatter: float
    """1.4826 x median absolute deviation of the blocks, the larger of both axes, pixels."""
    blocks: int
    """Blocks that had a say; 0 where nothing is known and the shift is 0."""

    @property
    def length(self) -> float:
        """Pixels."""
        return float(np.hypot(self.rows, self.cols))


def image_shift(blocks: Iterable[tuple[Floats, Floats, Mask]]) -> Shift:
    """Median shift over blocks.

    blocks: first image and second image (bands, rows, cols) of the same pixels, and where both hold data
    (rows, cols). Bands may differ in brightness and contrast: only their gradients count.
    """
    found = [
        shift
        for first, second, valid in blocks
        if min(valid.shape) >= _FEWEST and valid.mean() >= _LEAST_VALID
        for shift in [phase_shift(_edges(first, valid), _edges(second, valid))]
        if np.hypot(*shift) <= _FARTHEST
    ]
    if not found:
        return Shift(0.0, 0.0, 0.0, 0)
    shifts = np.array(found)
    middle = np.median(shifts, axis=0)
    scatter = 1.4826 * np.median(np.abs(shifts - middle), axis=0).max()
    return Shift(float(middle[0]), float(middle[1]), float(scatter), len(found))


def phase_shift(first: Floats, second: Floats) -> tuple[float, float]:
    """Rows and columns by which the second image (rows, cols) is shifted against the first.

    Phase correlation (Kuglin and Hines 1975) whose peak is placed by a matrix-multiplied Fourier transform
    around it (Guizar-Sicairos, Thurman and Fienup 2008). 0, 0 where an image is flat.
    """
    spectrum = np.conj(fft2(first)) * fft2(second)
    size = np.abs(spectrum)
    if not size.max() > 0:
        return 0.0, 0.0
    rows, cols = (fftfreq(n) for n in spectrum.shape)
    weight = np.exp(-(rows[:, None] ** 2 + cols[None, :] ** 2) / (2 * _BLUR**2))
    spectrum = weight * spectrum / np.maximum(size, size.max() * 1e-12)
    peak = np.abs(ifft2(spectrum))
    place = np.array(np.unravel_index(peak.argmax(), peak.shape), np.float64)
    middle = np.where(
        place > np.array(peak.shape) / 2, place - np.array(peak.shape), place
    )  # it wraps around
    for step in (0.1, 1 / _FINE):
        middle = _refined(spectrum, rows, cols, middle, step)
    return float(middle[0]), float(middle[1])


def _refined(
    spectrum: NDArray[np.complex128], rows: Floats, cols: Floats, middle: Floats, step: float
) -> Floats:
    """The highest place within ten steps of `middle`."""
    offsets = np.arange(-10, 11) * step
    down = np.exp(2j * np.pi * np.outer(middle[0] + offsets, rows))
    right = np.exp(2j * np.pi * np.outer(cols, middle[1] + offsets))
    height = np.real(down @ spectrum @ right)
    best = np.unravel_index(height.argmax(), height.shape)
    return np.asarray(middle + np.array([offsets[best[0]], offsets[best[1]]]), np.float64)


def _edges(image: Floats, valid: Mask) -> Floats:
    """Gradient length of the bands, each scaled to its spread, faded out to the sides: (rows, cols).

    It is 0 beside pixels without data, whose rim would be the strongest edge of all.
    """
    inner = valid & np.roll(valid, 1, 0) & np.roll(valid, -1, 0)
    inner &= np.roll(valid, 1, 1) & np.roll(valid, -1, 1)
    total = np.zeros(valid.shape)
    for band in image:
        down, right = np.gradient(np.where(valid, band, 0.0))
        length = np.where(inner, np.hypot(down, right), 0.0)
        total += length / max(float(length.mean()), 1e-12)
    total = np.where(inner, total - total[inner].mean() if inner.any() else 0.0, 0.0)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in valid.shape))
    return np.asarray(total * window)
