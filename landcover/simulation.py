"""A simulated Sentinel-2 region: the true land cover, and what the sensor would see of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, grey_dilation, shift

from landcover.landscape import Landscape
from landcover.legend import LandClass, Legend
from landcover.noise import Floats, chance, smooth_fractal
from landcover.spectra import BANDS, CODE, VARIANTS, Cover, draw_traits, end_members

LEGEND = Legend(
    (
        LandClass(Cover.WATER, "Water", "#3f7fbf"),
        LandClass(Cover.TREES, "Tree cover", "#1e6b34"),
        LandClass(Cover.SHRUBS, "Shrubland", "#b59b4c"),
        LandClass(Cover.GRASS, "Grassland", "#a6cf6b"),
        LandClass(Cover.CROPS, "Cropland", "#f2d16b"),
        LandClass(Cover.WETLAND, "Wetland", "#4fb3a4"),
        LandClass(Cover.BARE, "Bare ground", "#c9b8a3"),
        LandClass(Cover.BUILT, "Built-up", "#c8473d"),
    )
)
"""Classes of the simulated truth and of the weights trained on it, in channel order."""

COARSE_BANDS = ("swir16", "swir22")
"""Bands that the sensor takes at 20 m, the others at 10 m."""
_PSF = np.array((0.14, 0.72, 0.14), np.float32)
"""Blur beyond the pixel's own aperture: together about 0.28 at Nyquist, as Sentinel-2's MTF."""
_CLOUD = dict(zip(BANDS, (0.66, 0.66, 0.67, 0.69, 0.56, 0.45), strict=True))
_SKYLIGHT = dict(zip(BANDS, (0.46, 0.40, 0.36, 0.30, 0.26, 0.24), strict=True))
"""Share of the light that reaches the ground in a cloud's shadow; the sky is blue."""


@dataclass(frozen=True)
class Moment:
    """When a scene is taken, and under which sun and sky."""

    day: float
    """Day of the year, 1 to 366."""
    sun_azimuth: float = 155.0
    """Degrees clockwise from north."""
    sun_elevation: float = 55.0
    """Degrees above the horizon."""
    clouds: float = 0.0
    """Share of the sky that clouds cover, 0 to 1."""
    seed: int = 0
    """Draws the clouds and the sensor's noise."""


@dataclass(frozen=True)
class Sky:
    """What stands between sun, ground and sensor; both rasters are (rows, cols)."""

    opacity: Floats
    """Share of the view that clouds hide, 0 to 1."""
    sunlight: Floats
    """Share of the direct sunlight that reaches the ground, 0 to 1."""


class Scenery:
    """A landscape with its individuals' traits drawn, ready to be seen at any moment."""

    def __init__(self, landscape: Landscape, seed: int) -> None:
        self.landscape = landscape
        self._traits = draw_traits(np.random.default_rng([seed, 2]))
        self._individual = landscape.material.astype(np.intp) * VARIANTS + landscape.variant
        self._slopes = np.array(np.gradient(landscape.elevation, 10.0), np.float32)

    def reflectance(self, moment: Moment) -> "Reflectance":
        """Prepare the surface's reflectance at a moment; bands are computed when asked for."""
        low, high = end_members(moment.day, self._traits, self.landscape.options.climate)
        lane = low[CODE["asphalt"], 0] * 1.15
        return Reflectance(
            self.landscape, self._individual, low, high, lane, _illumination(self._slopes, moment)
        )


@dataclass(frozen=True)
class Reflectance:
    """Surface reflectance of a landscape at one moment, band by band."""

    landscape: Landscape
    individual: NDArray[np.intp]
    low: Floats
    high: Floats
    lane: Floats
    light: Floats
    """Terrain shading, a factor: (rows, cols)."""

    def sharp(self, band: str) -> Floats:
        """Reflectance of a band before the sensor's optics: (rows, cols)."""
        number = BANDS.index(band)
        low, high = (
            side[..., number].ravel().take(self.individual) for side in (self.low, self.high)
        )
        high -= low
        high *= self.landscape.texture
        high += low
        high += self.landscape.lanes * (self.lane[number] - high)
        high *= self.light
        return high

    def band(self, name: str) -> Floats:
        """Reflectance of a band at 10 m, mixed at borders by the sensor's point spread: (rows, cols)."""
        blurred = self.sharp(name)
        for axis in (0, 1):
            blurred = correlate1d(blurred, _PSF, axis, mode="nearest")
        return blurred

    def coarse_band(self, name: str) -> Floats:
        """Reflectance of a band at 20 m: (rows / 2, cols / 2)."""
        return halve(self.sharp(name))


def halve(fine: Floats) -> Floats:
    """Mean of every 2 x 2 pixels; (rows, cols) must be even."""
    rows, cols = fine.shape
    return np.asarray(fine.reshape(rows // 2, 2, cols // 2, 2).mean((1, 3)), np.float32)


def double(coarse: Floats) -> Floats:
    """Bilinear interpolation of 20 m pixels at 10 m: (2 rows, 2 cols)."""
    fine = coarse.repeat(2, 0).repeat(2, 1)
    for axis in (0, 1):
        fine = correlate1d(fine, np.array((0.25, 0.5, 0.25)), axis, mode="nearest")
    return fine


def _illumination(slopes: Floats, moment: Moment) -> Floats:
    """Cosine of the sun's angle on the slope, over that on the flat (Teillet et al. 1982), damped."""
    azimuth, elevation = np.radians([moment.sun_azimuth, moment.sun_elevation])
    fall, run = slopes  # elevation gained per metre southward and eastward
    facing = fall * np.float32(np.cos(azimuth)) - run * np.float32(np.sin(azimuth))
    tilt = 1 / np.sqrt(1 + fall * fall + run * run)
    light = tilt * (1 + facing / np.float32(np.tan(elevation)))
    return np.asarray(np.clip(0.25 + 0.75 * light, 0.35, 1.5), np.float32)


def draw_sky(shape: tuple[int, int], moment: Moment) -> Sky:
    """Draw cumulus and thin cloud covering about `moment.clouds`, and their displaced shadows."""
    if moment.clouds <= 0:
        return Sky(np.zeros(shape, np.float32), np.ones(shape, np.float32))
    rng = np.random.default_rng([moment.seed, 3])
    step = 2
    coarse = (-(-shape[0] // step), -(-shape[1] // step))
    density = smooth_fractal(rng, coarse, 2.7, max(shape) / 3, 1)
    limit = np.quantile(density[::4, ::4], 1 - moment.clouds)
    opacity = np.clip((density - limit + 0.06) / 0.38, 0, 1) ** 1.3
    height = rng.uniform(60, 130) / step  # cloud height, pixels of 10 m
    reach = height / np.tan(np.radians(moment.sun_elevation))
    azimuth = np.radians(moment.sun_azimuth)
    fallen = shift(
        opacity, (reach * np.cos(azimuth), -reach * np.sin(azimuth)), order=1, mode="nearest"
    )
    opacity, sunlight = (
        np.repeat(np.repeat(field, step, 0), step, 1)[: shape[0], : shape[1]].astype(np.float32)
        for field in (opacity, 1 - 0.92 * fallen)
    )
    return Sky(opacity, sunlight)


def through_sky(reflectance: Floats, band: str, sky: Sky) -> Floats:
    """What the sensor sees of a surface under clouds and their shadows: (rows, cols)."""
    floor = np.float32(_SKYLIGHT[band])
    lit = reflectance * (floor + (1 - floor) * sky.sunlight)
    return lit + sky.opacity * (np.float32(_CLOUD[band]) * (0.8 + 0.35 * sky.opacity) - lit)


def sensor_noise(reflectance: Floats, seed: int) -> Floats:
    """Reflectance with noise added: 0.0012 plus 0.7 % of the signal, standard deviation."""
    rng = np.random.default_rng([seed, 4])
    noise = rng.standard_normal(reflectance.shape, np.float32)
    noise *= np.float32(0.0012) + np.float32(0.007) * reflectance
    return reflectance + noise


def classify_scene(
    red: Floats, nir: Floats, swir16: Floats, sky: Sky, seed: int
) -> NDArray[np.uint8]:
    """Scene classification as Sen2Cor codes it: (rows, cols) uint8.

    All rasters share one grid. Codes: 3 shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified,
    8 and 9 cloud, 10 thin cirrus. Clouds and shadows are dilated by two pixels, thin rims missed.
    """
    green = (nir - red) / (nir + red + np.float32(1e-3))
    codes = np.where(green > 0.35, 4, np.where((green < 0.05) & (swir16 < 0.05), 6, 5))
    doubt = chance(np.arange(codes.size, dtype=np.int64).reshape(codes.shape), seed) < 0.004
    codes = np.where(doubt, 7, codes)
    opacity, dark = (grey_dilation(x, (5, 5)) for x in (sky.opacity, 1 - sky.sunlight))
    codes = np.where(dark > 0.10, 3, codes)
    for limit, code in ((0.04, 10), (0.20, 8), (0.55, 9)):
        codes = np.where(opacity > limit, code, codes)
    return codes.astype(np.uint8)
