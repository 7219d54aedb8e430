"""From a painted ground to the photograph: sunlight, shadows, air, lens and sensor."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from landcover.aerial_canvas import AerialCanvas
from landcover.noise import Floats

_DARKEST = 0.2
"""Least mean of a photograph before its gamma; darker ones are exposed longer."""


def aerial_camera(canvas: AerialCanvas) -> NDArray[np.uint8]:
    """Photograph a canvas under a random sun: (rows, cols, 3)."""
    rng = canvas.rng
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.deg2rad(rng.uniform(28, 68))
    surface = canvas.color * _texture(canvas)[..., None]
    return _expose(rng, surface * _light(canvas, azimuth, elevation))


def _texture(canvas: AerialCanvas) -> Floats:
    slow = canvas.field(60.0, 2.4)
    return np.asarray(np.maximum(1 + canvas.rough * canvas.grain + canvas.mottle * slow, 0.2))


def _light(canvas: AerialCanvas, azimuth: float, elevation: float) -> Floats:
    """Sun and sky light on every pixel, red, green and blue; flat sunlit ground gets 1."""
    rng = canvas.rng
    toward = np.array([np.sin(azimuth), np.cos(azimuth)])
    shade = cast_shadows(canvas.height, toward, np.tan(elevation) * canvas.ground)
    down, right = np.gradient(canvas.height, canvas.ground)
    slope = -(down * toward[0] + right * toward[1]).astype(np.float32)
    direct = 1 + np.clip(slope, -0.9, 0.9) * np.float32(0.6 / np.tan(elevation))
    sun = np.clip(direct, 0.3, 1.5) * (1 - shade)
    sky = rng.uniform(0.22, 0.5) * np.array([0.85, 1.0, 1.2], np.float32)
    return np.asarray(sky + (1 - sky) * sun[..., None], np.float32)


def cast_shadows(height: Floats, toward: NDArray[np.float64], drop: float) -> Floats:
    """How much of the sun each pixel loses, 0 to 1: (rows, cols).

    height: metres. toward: unit vector (down, right) to the sun. drop: metres by which a ray falls
    over one pixel. Highest ray over each pixel, by doubling the distance looked at.
    """
    ray = height.copy()
    reach = int(height.max() / drop) + 1
    step = 1
    while step <= reach:
        down, right = (round(step * part) for part in toward)
        before = ray.copy()
        to, of = _overlap(down, right, height.shape)
        np.maximum(before[to], ray[of] - np.float32(step * drop), out=before[to])
        ray = before
        step *= 2
    return np.asarray(np.clip((ray - height) / np.float32(0.8), 0, 1))


def _overlap(
    down: int, right: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of the pixels that have one at an offset, and of those."""
    starts = [(max(0, -shift), max(0, shift)) for shift in (down, right)]
    sizes = [max(0, size - abs(shift)) for size, shift in zip(shape, (down, right), strict=True)]
    here = tuple(slice(a, a + n) for (a, _), n in zip(starts, sizes, strict=True))
    there = tuple(slice(b, b + n) for (_, b), n in zip(starts, sizes, strict=True))
    return (here[0], here[1]), (there[0], there[1])


def _expose(rng: np.random.Generator, light: Floats) -> NDArray[np.uint8]:
    """Haze, blur, colour cast, gain, gamma and noise of one camera: (rows, cols, 3)."""
    blur = rng.uniform(0.35, 0.9)
    light = gaussian_filter(light, (blur, blur, 0), truncate=2.5)
    haze = rng.uniform(0, 0.22) * np.array([0.75, 0.9, 1.0]) * rng.uniform(0.5, 1)
    cast = rng.uniform(0.75, 1.2) * np.exp(rng.normal(0, 0.06, 3))
    light = light * np.asarray(cast * (1 - haze), np.float32) + np.asarray(haze * 0.7, np.float32)
    light *= np.float32(max(1.0, _DARKEST / light.mean()))  # as whoever develops it would
    np.clip(light, 0, 1.2, out=light)
    light **= np.float32(rng.uniform(0.75, 1.3))
    contrast, middle = rng.uniform(0.85, 1.35), rng.uniform(0.35, 0.5)
    light = (light - np.float32(middle)) * np.float32(contrast) + np.float32(middle)
    noise = rng.standard_normal(light.shape, np.float32)
    light += noise * np.float32(rng.uniform(0.0, 0.025))
    return np.asarray(np.clip(np.rint(light * 255), 0, 255), np.uint8)
