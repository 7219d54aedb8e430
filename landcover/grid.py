"""The output grid of a region: one GeoBox that every raster of a run shares."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from odc.geo import xy_
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import LambertAzimuthalEqualAreaConversion
from pyproj.exceptions import CRSError
from rasterio import Affine
from shapely.geometry.base import BaseGeometry

from landcover.errors import RegionError, SettingsError
from landcover.outline import LONLAT, Outline, crs_name, longitudes

_LONGEST = 4_100_000
"""Pixels on a side: the Earth's girth at 10 m. More means a CRS that does not fit the place."""
_FINENESS = 0.01
"""Pixels by which a drawn footprint may stray from the true one."""
_UTM_REACH = 4.0
"""Degrees of longitude; see `best_crs`."""
_UTM_SOUTH, _UTM_NORTH = -80.0, 84.0
_POLAR_FROM = 60.0
"""Latitude from which the polar grids show shapes well: at 30 degrees from the pole they stretch by
1 / cos(30 / 2) = 3.5 % along the parallels."""


def output_grid(
    footprint: BaseGeometry,
    resolution: float,
    crs: CRS | str | None = None,
    *,
    anchor: tuple[float, float] = (0.0, 0.0),
) -> GeoBox:
    """Grid that covers a footprint, its lines at whole multiples of the pixel size.

    footprint: polygons in EPSG:4326, split at the antimeridian. resolution: pixel size in units of
    the output CRS (metres for the default). crs: output CRS; the default is that of `best_crs`.
    anchor: how far grid lines lie beyond those multiples, in parts of a pixel; (0.5, 0.5) puts pixel
    centres at the multiples, as Landsat has them.
    Two footprints in one CRS thus share pixel borders, so their maps fit together. In degrees a grid
    goes on beyond 180 where the footprint crosses the antimeridian.
    Raises SettingsError for a resolution that is not positive or a CRS that is not known, and
    RegionError for a footprint that the CRS cannot show.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise SettingsError(f"The resolution is {resolution}; give a pixel size above 0.")
    target = named_crs(crs) if crs else best_crs(footprint)
    _check_whole(footprint, target)
    _check_size(footprint, target, _corners(footprint, target), (resolution, resolution))
    bounds = outline(footprint, target, resolution).bounds
    _check_size(footprint, target, bounds, (resolution, resolution))
    return GeoBox.from_bbox(bounds, target, resolution=resolution, anchor=xy_(*anchor))


def native_grid(footprint: BaseGeometry, lattice: GeoBox) -> GeoBox:
    """Grid over a footprint whose pixels are those of an image's grid, continued as far as needed.

    lattice: the image's grid, its pixels along the axes of its CRS; they need not be square. The
    grid has its first row in the north and holds every pixel with its centre within the bounds of
    the footprint, so an image read into it is copied, not resampled.
    Raises RegionError for a footprint that the CRS cannot show.
    """
    t, target = lattice.affine, CRS(lattice.crs)
    finest = min(abs(t.a), abs(t.e))
    _check_whole(footprint, target)
    bounds = west, south, east, north = outline(footprint, target, finest).bounds
    _check_size(footprint, target, bounds, (abs(t.a), abs(t.e)))
    if target.geographic:  # the image may count its longitudes from 0 to 360
        turns = round((t.c + t.a * lattice.shape[1] / 2 - (west + east) / 2) / 360)
        west, east = west + 360 * turns, east + 360 * turns
    left, cols = _centres((west - t.c) / t.a, (east - t.c) / t.a)
    top, rows = _centres((south - t.f) / t.e, (north - t.f) / t.e)
    x, y = (left, left + cols)[t.a < 0], (top, top + rows)[t.e > 0]
    corner = Affine(abs(t.a), 0, t.c + x * t.a, 0, -abs(t.e), t.f + y * t.e)
    return GeoBox((rows, cols), corner, target)


def _centres(one: float, other: float) -> tuple[int, int]:
    """First pixel with its centre between two pixel coordinates, and how many; one at least."""
    first, last = (math.ceil(edge - 0.5 - _FINENESS) for edge in sorted((one, other)))
    return first, max(1, last - first)


def best_crs(footprint: BaseGeometry) -> CRS:
    """The CRS in which a footprint is mapped unless a user chooses another.

    footprint: polygons in EPSG:4326, split at the antimeridian.
    UTM where all of it lies within 4 degrees of the central meridian of the zone of its middle and
    between 80 S and 84 N: a transverse Mercator with the scale 0.9996 on that meridian has 0.9996
    (1 + x^2 / 2) at x = 4 degrees of arc beside it (Snyder 1987, eq. 8-11 to first order), 1.0021 at
    most, so lengths are true to 0.2 % and areas to 0.4 %; a zone's own border, at 3 degrees, has
    0.1 %. Pixels of satellite images in UTM then stay as large as they are.
    Otherwise an equal-area CRS, EASE-Grid 2.0 (Brodzik et al. 2012) for what reaches beyond these
    latitudes and lies within 30 degrees of the pole (EPSG:6931, EPSG:6932), and for what goes more
    than half around the Earth (these within 60 degrees of the pole, else EPSG:6933); all else
    in Lambert's azimuthal equal-area projection, centred on the middle of the footprint's bounds in
    whole degrees, so that it does not move with a detail of the border.
    """
    west, east = longitudes(footprint)
    _, south, _, north = footprint.bounds
    zone = math.floor((west + east) / 2 / 6 + 30)
    middle = 6 * zone - 177
    polar, wide = south < _UTM_SOUTH or north > _UTM_NORTH, east - west > 180
    if not polar and max(middle - west, east - middle) <= _UTM_REACH:
        return CRS(f"EPSG:{(32601 if north + south >= 0 else 32701) + zone % 60}")
    if (polar and south >= _POLAR_FROM) or (wide and south >= _POLAR_FROM / 2):
        return CRS("EPSG:6931")
    if (polar and north <= -_POLAR_FROM) or (wide and north <= -_POLAR_FROM / 2):
        return CRS("EPSG:6932")
    if wide and east <= 180:  # where EPSG:6933 is cut
        return CRS("EPSG:6933")
    return _equal_area(round((south + north) / 2), (round((west + east) / 2) + 180) % 360 - 180)


def _equal_area(lat: int, lon: int) -> CRS:
    place = f"{abs(lat)} {'N' if lat >= 0 else 'S'} {abs(lon)} {'E' if lon >= 0 else 'W'}"
    conversion = LambertAzimuthalEqualAreaConversion(lat, lon)
    name = f"Lambert azimuthal equal-area at {place}"
    return CRS(ProjectedCRS(conversion, name, geodetic_crs=LONLAT.proj).to_wkt())


def named_crs(text: CRS | str) -> CRS:
    """The CRS that a user names; SettingsError where there is none of that name."""
    try:
        crs = CRS(text)
    except (CRSError, ValueError) as error:
        raise SettingsError(
            f"The CRS '{text}' is not known; write it like EPSG:32633, or leave it out for UTM."
        ) from error
    return crs


def inside(grid: GeoBox, footprint: BaseGeometry) -> NDArray[np.bool_]:
    """Which pixels have their centre inside a footprint: (rows, cols), True inside.

    footprint: polygons in EPSG:4326, split at the antimeridian. It is drawn in the grid's CRS once
    and kept, so that asking block by block costs little.
    Raises RegionError where the CRS cannot show the footprint.
    """
    finest = min(abs(grid.resolution.x), abs(grid.resolution.y))
    return outline(footprint, CRS(grid.crs or LONLAT), finest).inside(grid)


@lru_cache(maxsize=8)
def outline(footprint: BaseGeometry, crs: CRS, pixel: float) -> Outline:
    """A footprint drawn for pixels of a size in units of the CRS; the last few are kept."""
    return Outline.draw(footprint, crs, _FINENESS * pixel)


def _check_whole(footprint: BaseGeometry, target: CRS) -> None:
    """Raise RegionError where a footprint crosses the antimeridian and a map of the CRS ends there."""
    _, east = longitudes(footprint)
    if east <= 180 or target.geographic:
        return
    lat = footprint.centroid.y
    to_crs = Transformer.from_crs(LONLAT.proj, target.proj, always_xy=True)
    (x0, x1), (y0, y1) = to_crs.transform([180 - 1e-9, -180 + 1e-9], [lat, lat])
    if math.hypot(x1 - x0, y1 - y0) * target.proj.axis_info[0].unit_conversion_factor > 1000:
        raise RegionError(
            f"The footprint crosses the 180 degree meridian, where {crs_name(target)} is cut; leave the "
            "CRS out, or choose one that is whole there."
        )


def _corners(footprint: BaseGeometry, target: CRS) -> tuple[float, float, float, float]:
    """Bounds in the CRS of the corners of a footprint's bounds; those that it has no place for apart."""
    to_crs = Transformer.from_crs(LONLAT.proj, target.proj, always_xy=True)
    west, south, east, north = footprint.bounds
    x, y = np.array(to_crs.transform([west, east, west, east], [south, south, north, north]))
    known = np.isfinite(x) & np.isfinite(y)
    x, y = (x[known], y[known]) if known.any() else (np.zeros(1), np.zeros(1))
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _check_size(
    footprint: BaseGeometry,
    target: CRS,
    bounds: tuple[float, float, float, float],
    pixel: tuple[float, float],
) -> None:
    """Raise RegionError where a grid would have more pixels than make sense."""
    cols, rows = (bounds[2] - bounds[0]) / pixel[0], (bounds[3] - bounds[1]) / pixel[1]
    if max(cols, rows) > _LONGEST:
        raise RegionError(
            f"The footprint {footprint.bounds} would be {cols:,.0f} x {rows:,.0f} pixels in "
            f"{crs_name(target)}; choose a coarser resolution or another CRS."
        )
