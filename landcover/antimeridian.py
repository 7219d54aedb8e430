"""Footprints around the 180 degree meridian: in two parts, and never the wrong way round the Earth.

RFC 7946, section 3.1.9, asks that a geometry over the antimeridian be cut there; many catalogues
give one ring from 179 to -179 instead, or longitudes beyond 180.
"""

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from landcover.errors import RegionError

_EARTH = box(-180, -90, 180, 90)
_TURN = 360.0
_FARTHEST = 540.0
_HIGHEST = 91.0  # a grid with a row of pixels centred on the pole reaches half a pixel beyond it
_TALLEST = 45.0
"""Degrees of latitude. A ring with a side of more than half the Earth crosses the antimeridian (a
scene, a strip); one that is taller than this is a map of the world and taken as it stands."""

Ring = list[tuple[float, float]]


def split_at_antimeridian(geometry: BaseGeometry) -> BaseGeometry:
    """The same place within -180 to 180 degrees, cut at the antimeridian (RFC 7946, 3.1.9).

    geometry: EPSG:4326, longitude first. What needs no change is returned as it is, the same object.
    A ring around a pole is closed along the pole.
    Raises RegionError where the coordinates are not on the Earth.
    """
    _check_on_earth(geometry)
    polygons = list(getattr(geometry, "geoms", [geometry]))
    if not all(isinstance(polygon, Polygon) for polygon in polygons):
        return geometry
    if _EARTH.covers(box(*geometry.bounds)) and not any(_crosses(p) for p in polygons):
        return geometry
    parts = [part for polygon in polygons for part in _parts(polygon)]
    return unary_union(parts) if parts else geometry


def lonlat_bounds(footprint: BaseGeometry) -> tuple[float, float, float, float]:
    """West, south, east, north of a split footprint; west > east where it crosses the antimeridian."""
    west, south, east, north = footprint.bounds
    parts = [part.bounds for part in getattr(footprint, "geoms", [footprint])]
    in_the_middle = any(left <= 0 <= right for left, _, right, _ in parts)
    if west == -180 and east == 180 and not in_the_middle:
        west = min(left for left, *_ in parts if left > 0)
        east = max(right for _, _, right, _ in parts if right < 0)
    return west, south, east, north


def near_grid(x: NDArray[np.float64], grid: GeoBox) -> NDArray[np.float64]:
    """Places in a grid's CRS, moved by whole turns to within half a turn of its middle where x is a longitude.

    A grid from 179 to 181 degrees or from 0 to 360 is not missed by a transformation that ends at 180. x: of any
    shape; one that is near keeps its bits, one that is not finite stays so.
    """
    if not grid.crs or not grid.crs.geographic:
        return x
    turn = 2 * math.pi / grid.crs.proj.axis_info[0].unit_conversion_factor
    rows, cols = grid.shape
    middle, _ = grid.affine * (cols / 2, rows / 2)
    with np.errstate(invalid="ignore"):
        return np.asarray(x - turn * np.round((x - middle) / turn))


def _check_on_earth(geometry: BaseGeometry) -> None:
    if geometry.is_empty:
        raise RegionError("The footprint is empty; give it a polygon.")
    west, south, east, north = geometry.bounds
    finite = all(map(math.isfinite, geometry.bounds))
    if not finite or max(-west, east) > _FARTHEST or max(-south, north) > _HIGHEST:
        raise RegionError(
            f"The footprint spans longitude {west:g} to {east:g} and latitude {south:g} to {north:g}, "
            "which is not on the Earth; give degrees, longitude first."
        )


def _crosses(polygon: Polygon) -> bool:
    """Whether a side goes more than half around the Earth because it means the other way."""
    _, south, _, north = polygon.bounds
    longitudes = [point[0] for point in polygon.exterior.coords]
    if max(abs(b - a) for a, b in pairwise(longitudes)) <= _TURN / 2 or north - south > _TALLEST:
        return False
    return bool(Polygon(_closed(_unrolled(polygon.exterior.coords))).convex_hull.area > 0)


def _parts(polygon: Polygon) -> Iterable[Polygon]:
    """The pieces of one polygon, each moved by whole turns to where it lies."""
    whole = _whole(polygon) if _crosses(polygon) else shapely.force_2d(polygon)
    west, _, east, _ = whole.bounds
    sound = whole if whole.is_valid else shapely.make_valid(whole)
    for turn in range(math.floor((west + 180) / _TURN), math.floor((east + 180) / _TURN) + 1):
        piece = shapely.transform(sound, lambda xy, turn=turn: xy - (turn * _TURN, 0))
        cut = piece.intersection(_EARTH)
        yield from (p for p in getattr(cut, "geoms", [cut]) if p.area > 0)


def _whole(polygon: Polygon) -> Polygon:
    """One polygon without a jump, whose longitudes may lie beyond 180."""
    shell = _closed(_unrolled(polygon.exterior.coords))
    west = min(x for x, _ in shell)
    holes = [_from(west, _unrolled(hole.coords)) for hole in polygon.interiors]
    return Polygon(shell, holes)


def _unrolled(ring: Iterable[tuple[float, ...]]) -> Ring:
    """The ring without sides of more than half a turn: longitudes run on beyond 180."""
    points = [(point[0], point[1]) for point in ring]
    turned, rolled = 0.0, points[:1]
    for (before, _), (x, y) in pairwise(points):
        if abs(x - before) > _TURN / 2:
            turned -= math.copysign(_TURN, x - before)
        rolled.append((x + turned, y))
    return rolled


def _closed(ring: Ring) -> Ring:
    """An unrolled ring that goes once around the Earth is closed along the nearer pole."""
    if abs(ring[-1][0] - ring[0][0]) < _TURN / 2:
        return ring
    pole = math.copysign(90, sum(y for _, y in ring))
    return [*ring, (ring[-1][0], pole), (ring[0][0], pole)]


def _from(west: float, ring: Ring) -> Ring:
    """A hole moved by whole turns to start at or east of a longitude."""
    turns = math.ceil((west - min(x for x, _ in ring)) / _TURN)
    return [(x + turns * _TURN, y) for x, y in ring]
