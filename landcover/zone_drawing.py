"""Polygons of any CRS, drawn in the pixels of a grid."""

import math
from collections.abc import Iterator

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from landcover.antimeridian import split_at_antimeridian
from landcover.errors import RasterError, RegionError
from landcover.lonlat_area import lonlat_area
from landcover.outline import crs_name, grid_outline
from landcover.pixel_cover import PixelCover
from landcover.rings import Rings

Floats = NDArray[np.float64]

_FINENESS = 1e-5
"""Pixels by which the middle of a drawn side may stray from its curve."""
_LONGEST_DEGREES, _LONGEST_METRES = 0.25, 25_000.0
"""A side of this length bends one way only, so that its middle tells how much."""
_ACCURATE = 1e-8
"""Degrees (1 mm) by which a side of a projected polygon may stray where its area is computed."""
_MARGIN = 0.1
"""Part of its size by which the surroundings of a grid are larger than its rim as far as computed."""


class ZoneDrawing:
    """How polygons of one CRS lie in the pixels of a grid.

    crs: of the polygons, x first. Sides are straight in it, hence curves in another CRS, which are
    followed to 1e-5 of a pixel. Polygons in degrees are cut at the 180 degree meridian, and a
    grid in degrees may go on beyond it.
    Raises RasterError where the grid has no CRS, RegionError where PROJ knows no way between the two.
    """

    def __init__(self, crs: pyproj.CRS, grid: GeoBox) -> None:
        if grid.crs is None:
            raise RasterError(
                "The raster has no CRS, so zones have no place in it; assign its CRS."
            )
        self._crs, self._grid, self._target = crs, grid, grid.crs.proj
        self._same = crs.equals(self._target, ignore_axis_order=True)
        self._in_degrees = _turn(crs) is not None and math.isclose(_turn(crs) or 0, 360)
        self._turn = _turn(self._target)
        try:
            self._to_grid = pyproj.Transformer.from_crs(crs, self._target, always_xy=True)
        except ProjError as error:
            raise RegionError(
                f"The zones' CRS '{crs.name}' has no way to {crs_name(grid.crs)}: {error}."
            ) from error
        self._near = None if self._same else self._surroundings()

    def covers(self, polygon: BaseGeometry) -> list[PixelCover]:
        """The parts of a valid polygon in the pixels of the grid; none where it lies elsewhere.

        Raises RegionError where the grid's CRS cannot show it.
        """
        near = self._clipped(self._split(polygon))
        if near.is_empty:
            return []
        rings = Rings.of(near)
        if not self._same:
            rings = self._followed(rings)
        covers = [PixelCover.of(self._in_pixels(rings, turn)) for turn in self._turns()]
        return [cover for cover in covers if self._meets(cover)]

    def area(self, polygon: BaseGeometry) -> float:
        """Square metres of a whole polygon on the ellipsoid; RegionError where it is not on the Earth."""
        geod, geodetic = self._crs.get_geod(), self._crs.geodetic_crs
        if geod is None or geodetic is None:
            raise RegionError(f"the CRS '{self._crs.name}' is not tied to the Earth")
        rings = Rings.of(self._split(polygon))
        if self._in_degrees:
            cut = rings.follow(np.copy, tolerance=math.inf, longest=_LONGEST_DEGREES)
            return lonlat_area(cut, geod)
        to_lonlat = pyproj.Transformer.from_crs(self._crs, geodetic, always_xy=True)
        degrees = 360 / (_turn(geodetic) or 360)
        drawn = rings.follow(
            lambda xy: _transformed(to_lonlat, xy) * degrees,
            tolerance=_ACCURATE, longest=self._longest(), turn=360,
        )  # fmt: skip
        return lonlat_area(drawn, geod, wrapped=True)

    def _split(self, polygon: BaseGeometry) -> BaseGeometry:
        return split_at_antimeridian(polygon) if self._in_degrees else polygon

    def _clipped(self, polygon: BaseGeometry) -> BaseGeometry:
        """What lies around the grid: the rest may have no place in the grid's CRS."""
        if self._near is None or self._near.covers(polygon):
            return polygon
        parts = shapely.get_parts(shapely.intersection(polygon, self._near))
        return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])

    def _surroundings(self) -> BaseGeometry | None:
        """Boxes in the polygons' CRS that hold the grid; None where they are not known."""
        boxes = list(self._rim_boxes())
        return shapely.union_all(boxes) if boxes else None

    def _rim_boxes(self) -> Iterator[BaseGeometry]:
        if self._in_degrees:
            try:
                parts = shapely.get_parts(grid_outline(self._grid))
            except (RasterError, RegionError):  # a rim that is not on the Earth
                return
            yield from (_widened(part.bounds, 0.01) for part in parts)
            return
        try:
            back = pyproj.Transformer.from_crs(self._target, self._crs, always_xy=True)
            bounds = back.transform_bounds(*self._grid.boundingbox.bbox, errcheck=True)
        except (ProjError, CRSError):
            return
        if np.isfinite(bounds).all():
            yield _widened(bounds, 0.0)

    def _followed(self, rings: Rings) -> Rings:
        t = self._grid.affine
        pixel = min(math.hypot(t.a, t.d), math.hypot(t.b, t.e))
        drawn = rings.follow(
            lambda xy: _transformed(self._to_grid, xy),
            tolerance=_FINENESS * pixel, longest=self._longest(), turn=self._turn,
        )  # fmt: skip
        return drawn if self._turn is None else drawn.unrolled(self._turn)

    def _longest(self) -> float:
        """Longest side before it is looked at, in units of the polygons' CRS."""
        turn = _turn(self._crs)
        if turn is not None:
            return _LONGEST_DEGREES * turn / 360
        return _LONGEST_METRES / _unit(self._crs)

    def _turns(self) -> list[float]:
        """How far copies of a polygon are moved: a grid in degrees may count on beyond 180."""
        return [0.0] if self._turn is None else [-self._turn, 0.0, self._turn]

    def _in_pixels(self, rings: Rings, turn: float) -> Rings:
        t = ~self._grid.affine

        def place(xy: Floats) -> Floats:
            x, y = xy[:, 0] + turn, xy[:, 1]
            return np.stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f], axis=1)

        return rings.mapped(place)

    def _meets(self, cover: PixelCover) -> bool:
        rows, cols = cover.window((int(self._grid.shape[0]), int(self._grid.shape[1])))
        return bool(rows.start < rows.stop and cols.start < cols.stop)


def _turn(crs: pyproj.CRS) -> float | None:
    """Once round the Earth in units of a geographic CRS; None for others."""
    if not crs.is_geographic or crs.is_derived:
        return None
    return 2 * math.pi / _unit(crs)


def _unit(crs: pyproj.CRS) -> float:
    """Metres or radians of a unit of a CRS; that of its source where it is bound to another datum."""
    axes = crs.axis_info or (crs.source_crs.axis_info if crs.source_crs else [])
    return float(axes[0].unit_conversion_factor) if axes else 1.0


def _transformed(way: pyproj.Transformer, xy: Floats) -> Floats:
    return np.stack(way.transform(xy[:, 0], xy[:, 1]), axis=1)


def _widened(bounds: tuple[float, float, float, float], least: float) -> BaseGeometry:
    west, south, east, north = bounds
    margin = least + _MARGIN * max(east - west, north - south)
    return box(west - margin, south - margin, east + margin, north + margin)
