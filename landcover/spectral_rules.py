"""What a pixel of a real scene surely is, told by plain spectral rules on two dates of it.

A weak label is a set of classes, one bit each: a green pixel may be trees, grass or crops, and a rule that
cannot tell them apart must not pretend to. 0 says nothing. Thresholds hold for top-of-atmosphere and
for surface reflectance; they are strict, so that most pixels stay without a label.
Indices: NDVI (Rouse et al. 1974), NDWI (McFeeters 1996), MNDWI (Xu 2006).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landcover.spectra import Cover

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Bits = NDArray[np.uint8]


def one_of(*covers: int) -> int:
    """The set of these classes: bit 0 is the class with code 1."""
    return sum(1 << (cover - 1) for cover in covers)


WATER = one_of(Cover.WATER)
TREES = one_of(Cover.TREES)
CROPS = one_of(Cover.CROPS)
BUILT = one_of(Cover.BUILT)
BARE = one_of(Cover.BARE)
GREEN = one_of(Cover.TREES, Cover.SHRUBS, Cover.GRASS, Cover.CROPS)
"""What a clearly green pixel may be."""
UNGROWN = BUILT | BARE
"""What a pixel may be that nothing grows on, on either date."""

SOIL = one_of(Cover.BARE, Cover.CROPS)
"""What even, dry, dark ground may be; roofs and streets are not as even."""

_LEAST_WATER = 25
"""Pixels of the smallest body of water that is believed; shadows are smaller."""
_CITY = 9
"""Side of the window in which a city's texture is measured, pixels."""
_AROUND = 31
"""Side of the window that says whether a city is near, pixels."""
_BRIGHT = 0.20
"""Mean visible reflectance above which dry ground is no ploughed field."""


@dataclass(frozen=True)
class Indices:
    """What the rules read of one date; all (rows, cols)."""

    ndvi: Floats
    ndwi: Floats
    nir: Floats
    green: Floats
    light: Floats
    """Mean of blue, green and red."""
    swir: Floats | None
    """Reflectance at 1.6 micrometres; None where the sensor does not see it."""


def read_indices(image: Floats, bands: Sequence[str]) -> Indices:
    """Indices of (bands, rows, cols) reflectance, 0 to 1, that has blue, green, red and nir at least."""
    at: Mapping[str, Floats] = dict(zip(bands, image, strict=True))
    return Indices(
        ndvi=_difference(at["nir"], at["red"]),
        ndwi=_difference(at["green"], at["nir"]),
        nir=at["nir"],
        green=at["green"],
        light=(at["blue"] + at["green"] + at["red"]) / np.float32(3),
        swir=at.get("swir16"),
    )


def weak_labels(dates: Sequence[Floats], bands: Sequence[str]) -> Bits:
    """The set of classes that each pixel may be, (dates, rows, cols); 0 where no rule is sure.

    dates: aligned images of a place in two seasons, each (bands, rows, cols) reflectance. What
    lasts (water, city, desert, forest) must hold on all dates and is said of all; green plants and even soil
    are said of their date. A pixel without data on any date, 0 in all bands, gets none.
    """
    seen = [read_indices(image, bands) for image in dates]
    lasting = _lasting(seen)
    valid = np.all([image.any(axis=0) for image in dates], axis=0)
    labels = [np.where(lasting > 0, lasting, _passing(one)) for one in seen]
    return np.asarray(np.stack(labels) * valid, np.uint8)


def _passing(one: Indices) -> Bits:
    """Rules about one date."""
    return np.asarray(np.select([_green(one), _soil(one)], [GREEN, SOIL], 0), np.uint8)


def _lasting(seen: Sequence[Indices]) -> Bits:
    """Rules about all dates together; where two hold, the later line wins."""
    labels = np.zeros(seen[0].ndvi.shape, np.uint8)
    dead = np.all([_dead(one) for one in seen], axis=0)
    city = _city(seen)
    near = ndimage.uniform_filter(city.astype(np.float32), _AROUND) > 0.3
    light = np.all([one.light > _BRIGHT for one in seen], axis=0)
    labels[dead & (near | light)] = UNGROWN
    labels[city] = BUILT
    labels[_desert(seen, dead)] = BARE
    labels[_field(seen) & ~city] = CROPS
    labels[_forest(seen)] = TREES
    labels[_all_water(seen)] = WATER
    return labels


def _all_water(seen: Sequence[Indices]) -> Bools:
    """Water on all dates, and more than a shadow's worth of it."""
    wet: Bools = np.all([_water(one) for one in seen], axis=0)
    bodies, count = ndimage.label(wet)
    sizes = np.bincount(bodies.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray(sizes[bodies] >= _LEAST_WATER)


def _water(one: Indices) -> Bools:
    """Brighter in green than in infrared, of which water takes nearly all."""
    if one.swir is None:
        return (one.ndwi > 0.15) & (one.nir < 0.11) & (_spread(one.nir, 5) < 0.02)
    return (one.ndwi > 0.1) & (one.swir < 0.06) & (_difference(one.green, one.swir) > 0.3)


def _green(one: Indices) -> Bools:
    """Leaves: little red, much infrared, on a pixel and around it."""
    inside = ndimage.minimum_filter(one.ndvi, 3)
    return np.asarray((one.ndvi > 0.5) & (inside > 0.4) & (one.nir > 0.15))


def _forest(seen: Sequence[Indices]) -> Bools:
    """Green and nearly the darkest there is on all dates; meadows and crops are lighter at least once."""
    each = [
        (ndimage.minimum_filter(one.ndvi, 5) > 0.45)
        & (one.green < np.percentile(one.green, 1) + 0.028)
        & (one.swir < 0.21 if one.swir is not None else one.nir < 0.32)
        for one in seen
    ]
    return np.asarray(np.all(each, axis=0))


def _field(seen: Sequence[Indices]) -> Bools:
    """Green on one date, bare on another, and smooth: ploughed or harvested."""
    ndvi = np.stack([one.ndvi for one in seen])
    low, high = (ndimage.uniform_filter(x, 3) for x in (ndvi.min(axis=0), ndvi.max(axis=0)))
    smooth = np.all([_spread(one.light, 5) < 0.012 for one in seen], axis=0)
    return np.asarray((high > 0.55) & (low < 0.25) & smooth)


def _dry(one: Indices) -> Bools:
    """Little green here and around, and no water."""
    dry = one.nir > 0.10 if one.swir is None else one.swir > 0.10
    return np.asarray((ndimage.maximum_filter(one.ndvi, 3) < 0.25) & dry & (one.ndwi < 0.1))


def _soil(one: Indices) -> Bools:
    """Dry, dark and very even."""
    bright_swir = one.swir > 0.2 if one.swir is not None else one.nir > 0.15
    return _dry(one) & bright_swir & (one.light < _BRIGHT) & (_spread(one.light, 7) < 0.009)


def _dead(one: Indices) -> Bools:
    """Dry, without the evenness of a dark ploughed field."""
    return _dry(one) & ((one.light >= _BRIGHT) | (_spread(one.light, 7) >= 0.011))


def _city(seen: Sequence[Indices]) -> Bools:
    """Rough, nearly nothing grows in either season, and the same all around; shadows are part of it.

    Fields are smooth or narrow, deserts smooth and bright.
    """
    rough = np.all([_spread(one.light, _CITY) > 0.015 for one in seen], axis=0)
    grey = np.all([ndimage.uniform_filter(one.ndvi, _CITY) < 0.34 for one in seen], axis=0)
    dim = np.all([ndimage.uniform_filter(one.light, _CITY) < 0.23 for one in seen], axis=0)
    dry = np.all([ndimage.uniform_filter(one.ndwi, _CITY) < 0.1 for one in seen], axis=0)
    dense = ndimage.uniform_filter((rough & grey & dim & dry).astype(np.float32), 15) > 0.6
    here = np.all([one.ndvi < 0.3 for one in seen], axis=0)
    return np.asarray(dense & rough & grey & dim & dry & here)


def _desert(seen: Sequence[Indices], dead: Bools) -> Bools:
    """Bright, smooth and dead on all dates."""
    bright = np.all([one.light > 0.22 for one in seen], axis=0)
    smooth = np.all([_spread(one.light, 7) < 0.016 for one in seen], axis=0)
    return np.asarray(dead & bright & smooth)


def _spread(values: Floats, side: int) -> Floats:
    """Standard deviation in a window around each pixel."""
    mean = ndimage.uniform_filter(values.astype(np.float64), side)
    square = ndimage.uniform_filter(values.astype(np.float64) ** 2, side)
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0)), np.float32)


def _difference(first: Floats, second: Floats) -> Floats:
    """(first - second) / (first + second), 0 where both are 0."""
    total = first + second
    share = np.zeros_like(total)
    np.divide(first - second, total, out=share, where=total > 0)
    return share
