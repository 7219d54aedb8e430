"""Surface materials: what they reflect in six bands, and how that changes through the year.

Reflectances are rounded from what spectral libraries (USGS splib07, ECOSTRESS) and the Sentinel-2
literature print for such surfaces; no file of theirs is copied.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
"""Common names of the bands that every spectrum here lists, in this order."""

VARIANTS = 256
"""Individuals of each material: one wheat field is not the other."""


class Cover(IntEnum):
    """Class codes of the simulated land cover."""

    WATER = 1
    TREES = 2
    SHRUBS = 3
    GRASS = 4
    CROPS = 5
    WETLAND = 6
    BARE = 7
    BUILT = 8


class Grain(IntEnum):
    """How a material varies from pixel to pixel."""

    SMOOTH = 0
    CANOPY = 1
    ROWS = 2
    BLOTCHES = 3
    LOTS = 4
    CALM = 5


@dataclass(frozen=True)
class Season:
    """When plants are green, in days of the year."""

    emerge: float
    """Half of the canopy has closed."""
    ripen: float
    """Half of the canopy has turned yellow."""
    harvest: float
    """The plants are cut or have dropped their leaves."""
    pace: float = 9.0
    """Days over which the canopy closes or turns (logistic scale)."""
    cuts: bool = False
    """Mown several times, and green again each time."""


@dataclass(frozen=True)
class Material:
    """One kind of surface: two end members, and how pixels and individuals differ between them."""

    name: str
    cover: Cover
    grain: Grain
    low: tuple[float, ...]
    """Reflectance in BANDS where the texture is 0; under plants, the ground."""
    high: tuple[float, ...]
    """Reflectance in BANDS where the texture is 1; of plants, the closed green canopy."""
    season: Season | None = None
    """None where the surface looks the same all year."""
    spread: float = 0.10
    """Standard deviation of log brightness between individuals."""
    tint: float = 0.04
    """Standard deviation of log reflectance between individuals, band by band."""


@dataclass(frozen=True)
class Climate:
    """What a region's soil and weather do to its spectra."""

    soil: tuple[float, ...] = (0.068, 0.092, 0.118, 0.178, 0.248, 0.208)
    """Mean reflectance of tilled soil in BANDS."""
    drought: float = 0.15
    """Share of the green that grass and shrubs lose in summer, 0 to 1."""
    shift: float = 0.0
    """Days by which spring is late."""
    contrast: float = 1.0
    """Factor on all differences between individuals."""


_WINTER_CEREAL = Season(62, 182, 204, pace=16)
_DRY_STRAW = np.array((0.085, 0.125, 0.175, 0.300, 0.345, 0.235), np.float32)
_DRY_GRASS = np.array((0.062, 0.092, 0.120, 0.250, 0.300, 0.195), np.float32)
_MOISTURE = np.array((0.25, 0.25, 0.28, 0.30, 0.38, 0.42), np.float32)
"""Share of its reflectance that soil loses when wet."""
_LOW_PLANTS = (Cover.CROPS, Cover.GRASS)
_SOIL = (0.068, 0.092, 0.118, 0.178, 0.248, 0.208)  # replaced by the climate's soil
_LITTER = (0.035, 0.048, 0.060, 0.160, 0.180, 0.115)
_LEAVES = Season(112, 296, 310, pace=8)
_MEADOW = Season(40, 420, 440, pace=26, cuts=True)

MATERIALS = (
    # Water
    Material("river", Cover.WATER, Grain.CALM, (.034, .046, .034, .020, .009, .006), (.052, .070, .060, .034, .013, .009), None, 0.15, 0.06),
    Material("lake", Cover.WATER, Grain.CALM, (.026, .031, .018, .010, .005, .003), (.034, .044, .025, .013, .006, .004), None, 0.20, 0.08),
    Material("sea", Cover.WATER, Grain.CALM, (.022, .020, .010, .006, .004, .003), (.050, .056, .028, .012, .007, .005), None, 0.25, 0.10),
    Material("silty water", Cover.WATER, Grain.CALM, (.050, .078, .085, .042, .012, .008), (.095, .140, .165, .105, .020, .013), None, 0.20, 0.06),
    Material("green water", Cover.WATER, Grain.CALM, (.028, .050, .030, .022, .008, .006), (.040, .075, .042, .045, .012, .008), None, 0.15, 0.06),
    # Trees
    Material("conifers", Cover.TREES, Grain.CANOPY, (.011, .019, .012, .125, .055, .024), (.020, .036, .021, .235, .105, .046), None, 0.12, 0.05),
    Material("broadleaves", Cover.TREES, Grain.CANOPY, _LITTER, (.020, .046, .022, .390, .175, .076), _LEAVES, 0.09, 0.04),
    Material("mixed wood", Cover.TREES, Grain.CANOPY, (.022, .032, .032, .150, .120, .065), (.018, .038, .020, .300, .135, .060), _LEAVES, 0.10, 0.05),
    Material("plantation", Cover.TREES, Grain.ROWS, (.013, .024, .016, .150, .075, .034), (.020, .042, .021, .300, .130, .056), None, 0.12, 0.05),
    Material("evergreen wood", Cover.TREES, Grain.CANOPY, (.012, .024, .014, .170, .080, .034), (.022, .046, .026, .320, .150, .066), None, 0.14, 0.06),
    # Shrubs
    Material("heath", Cover.SHRUBS, Grain.BLOTCHES, (.027, .041, .040, .175, .140, .080), (.052, .080, .092, .255, .265, .165), None, 0.10, 0.05),
    Material("scrub", Cover.SHRUBS, Grain.BLOTCHES, (.022, .037, .030, .205, .125, .063), (.050, .078, .082, .280, .240, .145), None, 0.10, 0.05),
    Material("dry scrub", Cover.SHRUBS, Grain.BLOTCHES, (.036, .053, .058, .170, .165, .105), (.078, .110, .145, .250, .300, .220), None, 0.12, 0.06),
    # Grass
    Material("meadow", Cover.GRASS, Grain.SMOOTH, _SOIL, (.030, .068, .036, .430, .215, .105), _MEADOW, 0.07, 0.04),
    Material("pasture", Cover.GRASS, Grain.SMOOTH, _SOIL, (.036, .070, .050, .350, .235, .125), Season(40, 420, 440, pace=28), 0.08, 0.05),
    Material("dry grass", Cover.GRASS, Grain.SMOOTH, (.060, .090, .115, .235, .300, .205), (.054, .086, .098, .275, .290, .180), None, 0.10, 0.05),
    # Crops
    Material("wheat", Cover.CROPS, Grain.ROWS, _SOIL, (.025, .055, .028, .460, .180, .080), _WINTER_CEREAL, 0.08, 0.04),
    Material("barley", Cover.CROPS, Grain.ROWS, _SOIL, (.028, .062, .032, .440, .190, .088), Season(58, 166, 190, pace=16), 0.08, 0.04),
    Material("rapeseed", Cover.CROPS, Grain.ROWS, _SOIL, (.034, .085, .060, .470, .190, .090), Season(66, 176, 202, pace=16), 0.08, 0.04),
    Material("maize", Cover.CROPS, Grain.ROWS, _SOIL, (.024, .052, .026, .450, .190, .080), Season(168, 262, 280), 0.09, 0.04),
    Material("sugar beet", Cover.CROPS, Grain.ROWS, _SOIL, (.026, .066, .030, .540, .215, .095), Season(155, 320, 330), 0.08, 0.04),
    Material("sunflower", Cover.CROPS, Grain.ROWS, _SOIL, (.032, .068, .046, .440, .210, .100), Season(162, 236, 262), 0.09, 0.04),
    Material("alfalfa", Cover.CROPS, Grain.ROWS, _SOIL, (.024, .058, .028, .520, .200, .088), Season(70, 320, 330, pace=15, cuts=True), 0.08, 0.04),
    Material("vineyard", Cover.CROPS, Grain.ROWS, _SOIL, (.045, .070, .070, .290, .225, .140), Season(140, 290, 310, pace=12), 0.10, 0.05),
    Material("fallow", Cover.CROPS, Grain.ROWS, _SOIL, (.055, .080, .095, .260, .280, .200), Season(120, 200, 215, pace=15), 0.12, 0.05),
    # Wetland
    Material("reed", Cover.WETLAND, Grain.BLOTCHES, (.034, .046, .046, .110, .075, .042), (.032, .056, .042, .260, .140, .070), Season(138, 285, 330, pace=12), 0.09, 0.05),
    Material("sedge", Cover.WETLAND, Grain.BLOTCHES, (.030, .042, .036, .095, .050, .026), (.036, .064, .046, .270, .165, .082), Season(128, 280, 330, pace=12), 0.09, 0.05),
    Material("marsh", Cover.WETLAND, Grain.BLOTCHES, (.028, .036, .028, .040, .020, .012), (.030, .052, .038, .210, .105, .050), Season(132, 285, 330, pace=12), 0.10, 0.05),
    # Bare ground
    Material("sand", Cover.BARE, Grain.SMOOTH, (.130, .175, .215, .265, .315, .285), (.190, .245, .295, .350, .410, .375), None, 0.12, 0.04),
    Material("gravel", Cover.BARE, Grain.BLOTCHES, (.115, .140, .162, .195, .235, .215), (.165, .200, .228, .265, .305, .280), None, 0.12, 0.04),
    Material("quarry", Cover.BARE, Grain.BLOTCHES, (.160, .190, .215, .250, .280, .255), (.235, .275, .305, .345, .380, .345), None, 0.12, 0.04),
    Material("rock", Cover.BARE, Grain.BLOTCHES, (.080, .100, .120, .165, .210, .185), (.125, .150, .172, .220, .265, .235), None, 0.12, 0.05),
    Material("bare earth", Cover.BARE, Grain.SMOOTH, (.070, .105, .165, .225, .310, .270), (.100, .145, .220, .285, .375, .330), None, 0.15, 0.06),
    Material("desert", Cover.BARE, Grain.SMOOTH, (.120, .185, .265, .335, .430, .370), (.170, .250, .345, .420, .520, .460), None, 0.10, 0.04),
    # Built-up
    Material("houses", Cover.BUILT, Grain.LOTS, (.098, .112, .132, .178, .195, .172), (.046, .070, .060, .265, .195, .120), None, 0.14, 0.06),
    Material("tile roofs", Cover.BUILT, Grain.LOTS, (.066, .086, .125, .175, .205, .185), (.098, .122, .178, .235, .262, .235), None, 0.16, 0.06),
    Material("grey roofs", Cover.BUILT, Grain.LOTS, (.085, .092, .098, .120, .135, .128), (.150, .162, .172, .195, .210, .200), None, 0.20, 0.06),
    Material("white roofs", Cover.BUILT, Grain.LOTS, (.220, .240, .255, .280, .280, .255), (.340, .365, .380, .400, .385, .345), None, 0.22, 0.06),
    Material("dark roofs", Cover.BUILT, Grain.LOTS, (.050, .054, .058, .072, .085, .080), (.085, .090, .094, .112, .125, .116), None, 0.18, 0.06),
    Material("asphalt", Cover.BUILT, Grain.SMOOTH, (.068, .076, .082, .100, .118, .110), (.092, .102, .110, .130, .150, .140), None, 0.12, 0.04),
    Material("concrete", Cover.BUILT, Grain.SMOOTH, (.150, .174, .192, .222, .245, .228), (.195, .222, .244, .276, .298, .276), None, 0.14, 0.04),
    Material("earth yards", Cover.BUILT, Grain.LOTS, (.060, .082, .118, .170, .225, .195), (.100, .140, .205, .275, .350, .310), None, 0.16, 0.06),
    Material("courtyards", Cover.BUILT, Grain.LOTS, (.110, .150, .195, .240, .290, .255), (.160, .210, .265, .320, .375, .335), None, 0.15, 0.05),
)  # fmt: skip
"""Every surface of the simulation; a material's code is its place here."""

CODE = {material.name: code for code, material in enumerate(MATERIALS)}
"""Material code by name."""

COVER = np.array([material.cover for material in MATERIALS], np.uint8)
"""Class code by material code."""

GRAIN = np.array([material.grain for material in MATERIALS], np.uint8)
"""Texture kind by material code."""


def draw_traits(rng: np.random.Generator) -> Floats:
    """What makes individuals differ: standard normal, (materials, VARIANTS, 10).

    The last axis is brightness, timing, vigour, soil brightness, then one tint per band.
    """
    shape = (len(MATERIALS), VARIANTS, 4 + len(BANDS))
    return np.clip(rng.standard_normal(shape, np.float32), -2.5, 2.5)


def end_members(day: float, traits: Floats, climate: Climate) -> tuple[Floats, Floats]:
    """Reflectance of every individual on a day of the year, where the texture is 0 and where it is 1.

    traits: from `draw_traits`. Both results are (materials, VARIANTS, bands), surface reflectance.
    """
    pairs = [
        _individuals(material, day, traits[code] * climate.contrast, climate)
        for code, material in enumerate(MATERIALS)
    ]
    low, high = (np.stack(side).clip(0.001, 0.9) for side in zip(*pairs, strict=True))
    return low, high


def _individuals(
    material: Material, day: float, traits: Floats, climate: Climate
) -> tuple[Floats, Floats]:
    brightness = np.exp(
        material.spread * traits[:, :1] + material.tint * traits[:, 4:]
    )  # (variants, bands)
    low, high = (np.array(x, np.float32) for x in (material.low, material.high))
    if material.season is None:
        return _weathered(material, low, high, day, climate, brightness)
    high = high * np.float32(1 - 0.3 * winter(day) * (material.cover in _LOW_PLANTS))
    ground = low * np.ones_like(brightness)
    if material.low is _SOIL:
        ground = np.array(climate.soil, np.float32) * np.exp(0.14 * traits[:, 3:4])
        ground = ground * (1 - winter(day) * _MOISTURE)
    green, dry = growth(material.season, day - climate.shift, traits[:, 1], traits[:, 2])
    if material.cover == Cover.GRASS:
        loss = climate.drought * summer(day)
        green, dry = green * (1 - loss), np.clip(dry + green * loss, 0, 1)
    if material.cover in (Cover.TREES, Cover.WETLAND):
        dry = np.zeros_like(dry)
    straw = _DRY_GRASS if material.cover == Cover.GRASS else _DRY_STRAW
    half = 0.30 if material.grain in (Grain.CANOPY, Grain.BLOTCHES) else 0.13
    ends = []
    for side in (-half, half):
        share = np.clip(green * (1 + side), 0, 1)[:, None]
        rest = np.clip(dry * (1 + side / 2), 0, 1 - share[:, 0])[:, None]
        mix = share * high + rest * straw + (1 - share - rest) * ground
        ends.append((mix * brightness * (1 + side * 0.25)).astype(np.float32))
    return ends[0], ends[1]


def _weathered(
    material: Material, low: Floats, high: Floats, day: float, climate: Climate, brightness: Floats
) -> tuple[Floats, Floats]:
    if material.cover in (Cover.SHRUBS, Cover.GRASS):
        parched = 0.5 * climate.drought * summer(day)
        low, high = low + parched * (_DRY_GRASS - low), high + parched * (_DRY_GRASS - high)
    return low * brightness, high * brightness


def summer(day: float) -> float:
    """How far the year is into high summer: 0 in winter, 1 at the end of July."""
    return float(np.exp(-(((day - 212) / 55) ** 2)))


def winter(day: float) -> float:
    """How far the year is into winter: 1 in mid January, below 0.1 from May to September."""
    return float((0.5 + 0.5 * np.cos(2 * np.pi * (day - 15) / 365)) ** 2)


def growth(season: Season, day: float, timing: Floats, vigour: Floats) -> tuple[Floats, Floats]:
    """Shares of the ground under green and under dry plants, each (variants,), 0 to 1.

    timing, vigour: traits, standard normal. Logistic green-up and senescence (Zhang et al. 2003).
    """
    moment = np.asarray(day + 5 * timing, np.float32)
    full = np.clip(0.86 + 0.07 * vigour, 0.5, 0.98)
    green = full * _logistic((moment - season.emerge) / season.pace)
    ripe = _logistic((moment - season.ripen) / (0.7 * season.pace))
    standing = 1 - _logistic((moment - season.harvest) / 3.0)
    if season.cuts:
        period = 48 + 6 * vigour
        since = np.mod(moment - 95 - 20 * timing, period)
        green = green * (1 - 0.5 * np.exp(-since / 11) * (moment > 120))
    dry = full * ripe * (0.35 + 0.65 * standing)
    sown_again = 0.6 * full * _logistic((moment - season.harvest - 125) / 12)  # in the late autumn
    green = green * (1 - ripe) + sown_again * (season.harvest < 210)
    return np.asarray(green, np.float32), np.asarray(np.clip(dry, 0, 1 - green), np.float32)


def _logistic(x: NDArray[np.floating]) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)
