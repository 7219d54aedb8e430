"""Outlines: a footprint drawn in a grid's CRS and asked for every block, a grid drawn in degrees."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from landcover.antimeridian import split_at_antimeridian
from landcover.errors import RasterError, RegionError

Floats = NDArray[np.float64]

LONLAT = CRS("EPSG:4326")
_TURN = 360.0
_LONGEST_SIDE = 0.25
"""Degrees: within a side so short no projection bends both ways by more than 2 cm, which halving
would not notice."""
_HALVINGS = 30
_STEPS = 32


@dataclass(frozen=True, eq=False)
class Outline:
    """Sides of a footprint as straight lines in a CRS, none further from its curve than was asked."""

    crs: CRS
    """The CRS they are drawn in."""
    sides: Floats
    """(n, 4): x, y of one end, x, y of the other, the lower end first. In degrees, longitudes go on
    beyond 180 where the footprint crosses the antimeridian."""

    @classmethod
    def draw(cls, footprint: BaseGeometry, crs: CRS, tolerance: float) -> Self:
        """Follow the border of a footprint in a CRS.

        footprint: polygons in EPSG:4326, split at the antimeridian; their sides are straight in
        degrees, so in a projection they are curves. tolerance: units of the CRS.
        Raises RegionError where the CRS cannot show the footprint, or tears it apart.
        """
        sides = _short(_sides(footprint))
        to_crs = Transformer.from_crs(LONLAT.proj, crs.proj, always_xy=True)
        drawn = _follow(sides, to_crs, tolerance)
        within = _points(to_crs, shapely.get_coordinates(footprint.representative_point()))[0]
        if drawn is None or not _surround(drawn, within):
            west, south, east, north = footprint.bounds
            raise RegionError(
                f"The footprint (longitude {west:g} to {east:g}, latitude {south:g} to {north:g}) "
                f"cannot be drawn in {crs_name(crs)}; choose another CRS."
            )
        west, east = longitudes(footprint)
        if crs.geographic and east > _TURN / 2:
            gap = (east - _TURN + west) / 2  # the middle of what is left out
            drawn[drawn[:, 0] < gap, ::2] += _TURN
        upside_down = (drawn[:, 1] > drawn[:, 3]) | (
            (drawn[:, 1] == drawn[:, 3]) & (drawn[:, 0] > drawn[:, 2])
        )
        drawn[upside_down] = drawn[upside_down][:, [2, 3, 0, 1]]
        return cls(crs, drawn)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x, least y, greatest x, greatest y."""
        x, y = self.sides[:, ::2], self.sides[:, 1::2]
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def inside(self, grid: GeoBox) -> NDArray[np.bool_]:
        """Which pixels have their centre inside: (rows, cols), True inside.

        grid: in the outline's CRS, of any geotransform. A pixel is inside where a line from its
        centre crosses the border an odd number of times (Shimrat 1962, algorithm 112), so two parts
        that touch neither share a pixel nor leave one out.
        """
        x0, y0, x1, y1 = self._in_pixels(grid).T
        height, width = grid.shape
        top = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
        end = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
        side = np.repeat(np.arange(len(top)), end - top)
        row = top[side] + _numbers_within(end - top)
        x = x0[side] + (row + 0.5 - y0[side]) * ((x1 - x0)[side] / (y1 - y0)[side])
        col = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        turns = np.zeros((height, width + 1), np.uint8)
        np.bitwise_xor.at(turns, (row, col), np.uint8(1))
        return np.bitwise_xor.accumulate(turns, axis=1)[:, :width].astype(np.bool_)

    def _in_pixels(self, grid: GeoBox) -> Floats:
        """The sides in pixel coordinates; in degrees also one turn to the west and to the east."""
        sides = self.sides
        if self.crs.geographic:
            turn = np.array([_TURN, 0, _TURN, 0])
            sides = np.concatenate([sides - turn, sides, sides + turn])
        t = ~grid.affine
        x, y = sides[:, ::2], sides[:, 1::2]
        cols, rows = t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f
        return np.stack([cols[:, 0], rows[:, 0], cols[:, 1], rows[:, 1]], axis=1)


def longitudes(footprint: BaseGeometry) -> tuple[float, float]:
    """West and east of the shortest stretch of longitudes that holds a footprint.

    footprint: EPSG:4326, split at the antimeridian. West is within -180 to 180; east is greater, and
    beyond 180 where the shortest stretch crosses the antimeridian.
    """
    spans = shapely.bounds(shapely.get_parts(footprint))[:, [0, 2]]
    spans = spans[np.argsort(spans[:, 0])]
    reach = np.maximum.accumulate(spans[:, 1])
    gaps = np.append(spans[1:, 0] - reach[:-1], spans[0, 0] + _TURN - reach[-1])
    widest = int(np.argmax(gaps))
    if gaps[widest] <= gaps[-1]:
        return float(spans[0, 0]), float(reach[-1])
    return float(spans[widest + 1, 0]), float(reach[widest] + _TURN)


def grid_outline(grid: GeoBox) -> BaseGeometry:
    """Outline of a grid in EPSG:4326: polygons, split at the antimeridian, closed along a pole inside.

    To 1e-7 degrees, with 32 steps along each side. Raises RasterError where a part of the rim is not
    on the Earth.
    """
    if grid.crs is None:
        raise RasterError("The raster has no CRS, so it has no place on the Earth; assign its CRS.")
    rows, cols = grid.shape
    along, zero, one = np.linspace(0, 1, _STEPS + 1)[:-1], np.zeros(_STEPS), np.ones(_STEPS)
    u = np.concatenate([zero, along, one, 1 - along, [0]]) * cols
    v = np.concatenate([along, one, 1 - along, zero, [0]]) * rows
    t = grid.affine
    to_lonlat = Transformer.from_crs(grid.crs.proj, LONLAT.proj, always_xy=True)
    lon, lat = to_lonlat.transform(t.a * u + t.b * v + t.c, t.d * u + t.e * v + t.f)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise RasterError(
            f"The raster's rim is not on the Earth in {crs_name(grid.crs)}; check CRS and geotransform."
        )
    if not grid.crs.geographic:
        lon = np.unwrap(lon, period=_TURN)
    lat = np.clip(lat, -90, 90)
    if abs(lon[-1] - lon[0]) > _TURN / 2:  # around a pole
        lon = np.append(lon, np.linspace(lon[-1], lon[0], 5))
        lat = np.append(lat, np.full(5, math.copysign(90, lat.sum())))
    ring = shapely.set_precision(shapely.Polygon(np.stack([lon, lat], axis=1)), 1e-7)
    return shapely.orient_polygons(split_at_antimeridian(ring))


def crs_name(crs: CRS) -> str:
    """A CRS for a sentence: its code, or its name where it has none."""
    return f"EPSG:{crs.epsg}" if crs.epsg else str(crs.proj.name)


def _sides(footprint: BaseGeometry) -> Floats:
    """Sides of all rings in degrees, (n, 4): longitude and latitude of both ends."""
    points, ring = shapely.get_coordinates(
        shapely.get_rings(shapely.get_parts(footprint)), return_index=True
    )
    along = ring[1:] == ring[:-1]
    return np.concatenate([points[:-1][along], points[1:][along]], axis=1)


def _short(sides: Floats) -> Floats:
    """The sides cut into equal pieces of at most a quarter of a degree."""
    start, step = sides[:, :2], sides[:, 2:] - sides[:, :2]
    pieces = np.maximum(1, np.ceil(np.abs(step).max(axis=1) / _LONGEST_SIDE)).astype(np.int64)
    side, number = np.repeat(np.arange(len(sides)), pieces), _numbers_within(pieces)
    part, count = number[:, None], pieces[side, None]
    ends = np.where(
        part + 1 == count, sides[side, 2:], start[side] + step[side] * (part + 1) / count
    )
    return np.concatenate([start[side] + step[side] * part / count, ends], axis=1)


def _follow(sides: Floats, to_crs: Transformer, tolerance: float) -> Floats | None:
    """The sides in the CRS, halved until their middles lie on the curves; None where they never do."""
    done = []
    for _ in range(_HALVINGS):
        start, end = sides[:, :2], sides[:, 2:]
        middle = (start + end) / 2
        places = [_points(to_crs, lonlat) for lonlat in (start, middle, end)]
        if not np.isfinite(places).all():
            return None
        bend = places[1] - (places[0] + places[2]) / 2
        bent = np.hypot(bend[:, 0], bend[:, 1]) > tolerance
        done.append(np.concatenate(places[::2], axis=1)[~bent])
        if not bent.any():
            return np.concatenate(done)
        halves = [np.concatenate(pair, axis=1) for pair in ((start, middle), (middle, end))]
        sides = np.concatenate([half[bent] for half in halves])
    return None


def _surround(sides: Floats, point: Floats) -> bool:
    """Whether a point is inside, as a point of the footprint is unless the CRS turned it inside out."""
    (x, y), (x0, y0, x1, y1) = point, sides.T
    x0, y0, x1, y1 = (values[(y0 <= y) != (y1 <= y)] for values in (x0, y0, x1, y1))
    return bool(np.count_nonzero(x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x) % 2)


def _points(to_crs: Transformer, lonlat: Floats) -> Floats:
    """Points (n, 2) in the CRS; inf where it has no place for one."""
    return np.stack(to_crs.transform(lonlat[:, 0], lonlat[:, 1]), axis=1)


def _numbers_within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... count - 1 for each count, one after the other."""
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return np.arange(len(starts)) - starts
