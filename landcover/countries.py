"""Random kinds of country, so that what is learnt on simulated regions holds on real ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from landcover.landscape import LandscapeOptions, Mix
from landcover.spectra import BANDS, MATERIALS, Climate, Cover


def random_options(rng: np.random.Generator) -> LandscapeOptions:
    """Draw a river valley, city, coast, forest, savanna or desert."""
    kinds: tuple[tuple[Callable[[np.random.Generator], LandscapeOptions], float], ...] = (
        (_like_demo, 0.30),
        (_valley, 0.15),
        (_city, 0.19),
        (_coast, 0.10),
        (_forest, 0.04),
        (_savanna, 0.11),
        (_desert, 0.11),
    )
    draw = int(rng.choice(len(kinds), p=[share for _, share in kinds]))
    return kinds[draw][0](rng)


def _like_demo(rng: np.random.Generator) -> LandscapeOptions:
    u = rng.uniform
    return LandscapeOptions(
        hills=u(0.1, 0.6),
        relief=u(0.3, 2.0),
        woods=u(0.05, 0.3),
        shrubs=u(0.15, 0.4),
        meadows=u(0.08, 0.35),
        field_width=u(9, 22),
        river=u(5, 16),
        lakes=int(rng.integers(1, 6)),
        towns=int(rng.integers(4, 12)),
        city=u(0.04, 0.16),
        density=u(0.2, 0.6),
        gardens=u(0.3, 0.75),
        grain=u(0.8, 1.2),
        climate=Climate(shift=u(-8, 8)),
    )


def _valley(rng: np.random.Generator) -> LandscapeOptions:
    return replace(
        _like_demo(rng),
        grain=rng.uniform(0.4, 1.4),
        crops=_some_of(rng, _named(Cover.CROPS), 9),
        trees=_some_of(rng, _named(Cover.TREES), 4),
        shrub_kinds=_some_of(rng, _named(Cover.SHRUBS), 3),
        grasses=_some_of(rng, _named(Cover.GRASS), 3),
        river_water=str(rng.choice(["river", "silty water", "green water", "lake"])),
        climate=_climate(rng),
    )


def _city(rng: np.random.Generator) -> LandscapeOptions:
    u = rng.uniform
    roofs = ("tile roofs", "grey roofs", "dark roofs", "white roofs", "courtyards", "asphalt")
    one_kind = (("tile roofs", u(0.6, 1)), ("grey roofs", u(0, 0.3)), ("dark roofs", u(0, 0.3)))
    return replace(
        _valley(rng),
        hills=u(0, 0.25),
        meadows=u(0.2, 1.4),
        river=u(6, 26),
        city=u(0.35, 1.3),
        density=u(0.2, 0.95),
        gardens=u(0.0, 0.8),
        block=u(4, 13),
        lot=u(0.9, 3.2),
        roofs=one_kind if rng.random() < 0.4 else _some_of(rng, roofs, 5),
    )


def _coast(rng: np.random.Generator) -> LandscapeOptions:
    return replace(
        _city(rng) if rng.random() < 0.5 else _valley(rng),
        hills=rng.uniform(0.1, 0.7),
        relief=rng.uniform(0.5, 3.5),
        sea=rng.uniform(0.15, 0.7),
        beach=rng.random() < 0.4,
        river=float(rng.choice([0.0, 8.0])),
        lakes=int(rng.integers(0, 3)),
        trees=_some_of(rng, ("evergreen wood", "broadleaves", "mixed wood"), 3),
    )


def _forest(rng: np.random.Generator) -> LandscapeOptions:
    return replace(
        _valley(rng),
        hills=rng.uniform(0.3, 0.8),
        relief=rng.uniform(0.5, 3.5),
        woods=rng.uniform(0.4, 0.8),
        shrubs=rng.uniform(0.05, 0.3),
    )


def _savanna(rng: np.random.Generator) -> LandscapeOptions:
    red = np.array((0.055, 0.085, 0.165, 0.250, 0.340, 0.290))
    red = red * np.exp(0.15 * rng.standard_normal())
    return replace(
        _city(rng) if rng.random() < 0.75 else _valley(rng),
        meadows=rng.uniform(0.3, 1.2),
        desert=rng.uniform(0.05, 0.4),
        deserts=_some_of(rng, ("bare earth", "desert"), 2),
        grasses=(("dry grass", 0.7), ("pasture", 0.3)),
        shrub_kinds=(("dry scrub", 0.6), ("scrub", 0.4)),
        trees=(("evergreen wood", 0.7), ("broadleaves", 0.3)),
        yards=_some_of(rng, ("houses", "earth yards", "courtyards"), 3),
        climate=replace(_climate(rng), soil=tuple(red.tolist()), drought=0.9),
    )


def _desert(rng: np.random.Generator) -> LandscapeOptions:
    u = rng.uniform
    roofs = ("courtyards", "earth yards", "grey roofs", "dark roofs", "white roofs", "houses")
    return replace(
        _city(rng),
        hills=u(0, 0.2),
        woods=0.01,
        desert=u(0.7, 1.0),
        river=0.0,
        lakes=int(rng.integers(0, 2)),
        sea=float(rng.choice([0.0, 0.0, 0.3])),
        city=u(0.15, 0.9),
        gardens=u(0.0, 0.6),
        block=u(4, 10),
        streets=str(rng.choice(["asphalt", "courtyards", "concrete", "earth yards"])),
        roofs=_some_of(rng, roofs, 5),
        yards=_some_of(rng, ("courtyards", "earth yards", "concrete", "houses"), 3),
        shrub_kinds=(("dry scrub", 1.0),),
        deserts=_some_of(rng, ("desert", "sand", "bare earth"), 3),
        climate=replace(_climate(rng, 0.5), drought=1.0),
    )


def _climate(rng: np.random.Generator, brightness: float = 0.0) -> Climate:
    """Soil of another brightness and colour, early or late spring, dry or wet summer."""
    soil = np.array(Climate().soil) * np.exp(brightness + 0.28 * rng.standard_normal())
    soil = soil * np.exp(0.07 * rng.standard_normal(len(BANDS)))
    return Climate(
        tuple(soil.tolist()),
        drought=rng.uniform(0, 0.9),
        shift=rng.uniform(-55, 20),
        contrast=rng.uniform(0.8, 1.7),
    )


def _named(cover: Cover) -> list[str]:
    return [material.name for material in MATERIALS if material.cover == cover]


def _some_of(rng: np.random.Generator, names: Sequence[str], most: int) -> Mix:
    """Up to `most` of the materials, in random shares."""
    count = min(len(names), int(rng.integers(1, most + 1)))
    chosen = rng.choice(np.array(names), count, replace=False)
    return tuple(zip(chosen.tolist(), rng.dirichlet(np.ones(count)).tolist(), strict=True))
