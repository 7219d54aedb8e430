"""Random fields: spatially correlated noise, and random numbers attached to places."""

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    slope: float,
    shortest: float = 2.0,
    longest: float = np.inf,
) -> Floats:
    """Gaussian noise whose power falls as frequency to the minus `slope`: (rows, cols), mean 0, sd 1.

    shortest, longest: wavelengths kept, pixels. The field wraps around at its borders.
    Spectral synthesis (Saupe 1988).
    """
    rows, cols = shape
    fy = scipy.fft.fftfreq(rows).astype(np.float32)[:, None]
    fx = scipy.fft.rfftfreq(cols).astype(np.float32)[None, :]
    square = fy * fy + fx * fx
    square[0, 0] = np.inf
    power = square ** np.float32(-slope / 4)
    power[square > (1 / shortest) ** 2] = 0
    power[square < (1 / longest) ** 2] = 0
    parts = rng.standard_normal((*power.shape, 2), np.float32)
    spectrum = (parts[..., 0] + 1j * parts[..., 1]) * power
    field: Floats = scipy.fft.irfft2(spectrum, s=shape)
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def smooth_fractal(
    rng: np.random.Generator, shape: tuple[int, int], slope: float, longest: float, step: int = 4
) -> Floats:
    """`fractal` without its wavelengths under `2 * step` pixels, made on a coarse grid for speed."""
    coarse = (-(-shape[0] // step) + 1, -(-shape[1] // step) + 1)
    return enlarge(fractal(rng, coarse, slope, 2.0, longest / step), step, shape)


def enlarge(coarse: Floats, step: int, shape: tuple[int, int]) -> Floats:
    """Bilinear interpolation of values known at every `step`-th pixel: (rows, cols) of `shape`."""
    for axis, size in enumerate(shape):
        place = np.arange(size) / step
        before = np.minimum(place.astype(np.intp), coarse.shape[axis] - 2)
        weight = (place - before).astype(np.float32)
        weight = weight[:, None] if axis == 0 else weight[None, :]
        low, high = coarse.take(before, axis), coarse.take(before + 1, axis)
        coarse = low + weight * (high - low)
    return coarse


def scramble(*keys: NDArray[np.integer] | int) -> NDArray[np.uint32]:
    """Random 32-bit number of each combination of whole-number keys (broadcast together).

    Equal keys give equal numbers, on every machine. Mixing by murmur3's finalizer (Appleby 2011).
    """
    mixed = np.uint32(0x9E3779B9)
    with np.errstate(over="ignore"):
        for key in keys:
            mixed = mixed ^ np.asarray(key).astype(np.int64).astype(np.uint32)  # type: ignore[assignment]
            mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
            mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
            mixed = mixed ^ (mixed >> np.uint32(16))
    return np.asarray(mixed)


def chance(*keys: NDArray[np.integer] | int) -> Floats:
    """Random number in [0, 1) of each combination of whole-number keys; see `scramble`."""
    return (scramble(*keys) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
