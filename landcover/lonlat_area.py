"""True area of polygons given in degrees."""

import math

import numpy as np
import pyproj
from numpy.typing import NDArray

from landcover.rings import Rings

Floats = NDArray[np.float64]

_GAUSS, _WEIGHTS = np.polynomial.legendre.leggauss(4)


def lonlat_area(rings: Rings, geod: pyproj.Geod, *, wrapped: bool = False) -> float:
    """Area of polygons on the ellipsoid, square metres; their sides are straight in degrees.

    rings: longitude, latitude; sides of a degree or less keep the quadrature exact to 1e-12.
    wrapped: a side of more than half a turn means the shorter way, and a ring may go round a pole.
    The integral along each side of the area between it and the equator (Snyder 1987, eq. 3-12: half
    the polar q times a squared), with 4 points of Gauss.
    """
    start, end, ring = rings.sides
    step = np.radians(end[:, 0] - start[:, 0])
    if wrapped:
        step -= 2 * math.pi * np.rint(step / (2 * math.pi))
    t = (_GAUSS + 1) / 2
    latitudes = np.radians(start[:, 1:] + (end - start)[:, 1:] * t)
    below = (_zone(latitudes, geod) * _WEIGHTS).sum(axis=1) / 2
    count = len(rings.polygon)
    areas = np.abs(np.bincount(ring, below * step, count))
    round_pole = np.abs(np.bincount(ring, step, count)) > math.pi
    cap = 2 * math.pi * float(_zone(np.array(math.pi / 2), geod))
    areas = np.where(round_pole, cap - areas, areas)
    return float(np.where(rings.holes, -areas, areas).sum())


def _zone(latitude: Floats, geod: pyproj.Geod) -> Floats:
    """Square metres between the equator and a latitude (radians), for each radian of longitude."""
    s, e = np.sin(latitude), math.sqrt(geod.es)
    grown = np.arctanh(e * s) / e if e else s
    return np.asarray(geod.a**2 * (1 - geod.es) / 2 * (s / (1 - geod.es * s**2) + grown))
