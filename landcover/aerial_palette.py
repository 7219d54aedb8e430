"""Colours of one simulated aerial photograph."""

from dataclasses import dataclass

import numpy as np

from landcover.noise import Floats

_SOIL = (
    (0.82, 0.78, 0.72), (0.72, 0.60, 0.45), (0.62, 0.42, 0.30), (0.45, 0.38, 0.31),
    (0.30, 0.25, 0.21), (0.88, 0.87, 0.86), (0.58, 0.56, 0.54), (0.70, 0.66, 0.60),
)  # fmt: skip
_CANOPY = (
    (0.10, 0.16, 0.08), (0.22, 0.30, 0.12), (0.32, 0.36, 0.25), (0.30, 0.28, 0.20),
    (0.16, 0.25, 0.17), (0.20, 0.22, 0.15), (0.38, 0.36, 0.16), (0.21, 0.22, 0.20),
)  # fmt: skip
_LAWN = ((0.30, 0.45, 0.18), (0.30, 0.38, 0.17), (0.43, 0.47, 0.27), (0.26, 0.33, 0.20))
_WATER = (
    (0.02, 0.03, 0.04), (0.05, 0.22, 0.36), (0.15, 0.46, 0.50), (0.12, 0.25, 0.12),
    (0.34, 0.30, 0.21), (0.03, 0.12, 0.05), (0.08, 0.13, 0.14), (0.10, 0.20, 0.05),
)  # fmt: skip
_ROOF = (
    (0.88, 0.88, 0.87), (0.66, 0.65, 0.63), (0.78, 0.70, 0.58), (0.60, 0.28, 0.20),
    (0.30, 0.29, 0.29), (0.35, 0.45, 0.60), (0.52, 0.42, 0.34), (0.45, 0.46, 0.47),
    (0.72, 0.52, 0.40), (0.40, 0.52, 0.45), (0.92, 0.86, 0.76),
)  # fmt: skip


@dataclass(frozen=True)
class AerialPalette:
    """Reflectances of the surfaces of one place, red, green and blue from 0 to 1."""

    soil: Floats
    """Bare ground, from the commonest to the rarest: (kinds, 3)."""
    paving: Floats
    """Concrete and tiles of yards and pavements: (kinds, 3)."""
    asphalt: Floats
    """Carriageways and car parks: (kinds, 3)."""
    canopy: Floats
    """Trees and shrubs: (kinds, 3)."""
    lawn: Floats
    """Grass and crops: (kinds, 3)."""
    roof: Floats
    """Roofs of the quarter's houses: (kinds, 3)."""
    deep: Floats
    """Water far from the shore: (3,)."""
    shallow: Floats
    """Water at the shore: (3,)."""


def aerial_palette(rng: np.random.Generator) -> AerialPalette:
    """Draw the colours of a place, within what occurs on Earth."""
    soil = _blends(rng, _SOIL, 4, 0.08)
    soil[1:3] = 0.6 * soil[0] + 0.4 * soil[1:3]
    grey = rng.uniform(0.14, 0.60)
    tone = grey * np.exp(rng.normal(0, 0.12, (3, 1)))
    asphalt = _jitter(rng, np.repeat(tone, 3, 1), 0.03)
    paving = _jitter(rng, 0.5 * soil[:3] + 0.5 * rng.uniform(0.45, 0.85, (3, 1)), 0.05)
    roofs = _jitter(rng, np.array(_ROOF)[rng.choice(len(_ROOF), rng.integers(2, 6))], 0.08)
    deep = _blends(rng, _WATER, 1, 0.2)[0]
    shallow = deep + rng.uniform(0.0, 0.6) * (soil[0] * np.array((0.7, 0.95, 0.9)) - deep)
    return AerialPalette(
        soil, paving, asphalt, _blends(rng, _CANOPY, 4, 0.12), _blends(rng, _LAWN, 4, 0.12),
        roofs, deep, np.asarray(shallow, np.float32),
    )  # fmt: skip


def _blends(
    rng: np.random.Generator, anchors: tuple[tuple[float, ...], ...], count: int, spread: float
) -> Floats:
    """Colours between two of the anchors: (count, 3)."""
    known = np.array(anchors)
    ends = known[rng.integers(len(known), size=(2, count))]
    weight = rng.uniform(0, 1, (count, 1))
    return _jitter(rng, weight * ends[0] + (1 - weight) * ends[1], spread)


def _jitter(rng: np.random.Generator, colors: np.ndarray, spread: float) -> Floats:
    """Colours made brighter or darker, and each band a little by itself."""
    shift = rng.normal(0, spread, (len(colors), 1)) + rng.normal(0, spread / 4, colors.shape)
    return np.asarray(np.clip(colors * np.exp(shift), 0.01, 0.97), np.float32)
