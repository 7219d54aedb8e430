"""The output grid of a region: one GeoBox that every raster of a run shares."""

import math

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj.exceptions import CRSError
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from landcover.errors import RegionError, SettingsError

LONLAT = CRS("EPSG:4326")
_STEP = 0.01
"""Degrees between the points that keep a straight lon/lat border on its curve in a projection."""
_LONGEST = 4_100_000
"""Pixels on a side: the Earth's girth at 10 m. More means a CRS that does not fit the place."""


def output_grid(footprint: BaseGeometry, resolution: float, crs: str | None = None) -> GeoBox:
    """Grid that covers a footprint, its lines at whole multiples of the pixel size.

    footprint: polygons in EPSG:4326. resolution: pixel size in units of the output CRS (metres for
    the default). crs: output CRS; the default is the UTM zone of the footprint.
    Two footprints in one zone thus share pixel borders, so their maps fit together.
    Raises SettingsError for a resolution that is not positive or a CRS that is not known, and
    RegionError for a footprint that the CRS cannot show.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise SettingsError(f"The resolution is {resolution}; give a pixel size above 0.")
    outline = Geometry(footprint, LONLAT)
    try:
        target = CRS(crs) if crs else CRS.utm(outline)
    except (CRSError, ValueError) as error:
        if crs is None:
            raise RegionError(
                f"No UTM zone covers latitude {footprint.centroid.y:.1f}; give a CRS such as "
                "EPSG:3413 (north) or EPSG:3031 (south)."
            ) from error
        raise SettingsError(
            f"The CRS '{crs}' is not known; write it like EPSG:32633, or leave it out for UTM."
        ) from error
    projected = _project(outline, target)
    if projected.is_empty or not np.isfinite(projected.geom.bounds).all():
        raise RegionError(
            f"The footprint {footprint.bounds} cannot be drawn in {target}; choose another CRS."
        )
    grid = GeoBox.from_geopolygon(projected, resolution=resolution, crs=target, anchor="edge")
    if max(grid.shape) > _LONGEST:
        raise RegionError(
            f"The footprint {footprint.bounds} would be {grid.shape[1]:,} x {grid.shape[0]:,} pixels "
            f"in {target}; choose a coarser resolution or another CRS."
        )
    return grid


def inside(grid: GeoBox, footprint: BaseGeometry) -> NDArray[np.bool_]:
    """Which pixels have their centre inside a footprint: (rows, cols), True inside.

    footprint: polygons in EPSG:4326.
    """
    outline = _project(Geometry(footprint, LONLAT), grid.crs)
    mask: NDArray[np.bool_] = geometry_mask(
        [outline.geom], out_shape=grid.shape, transform=grid.transform, invert=True
    )
    return mask


def _project(outline: Geometry, target: CRS | None) -> Geometry:
    return outline if target == LONLAT else outline.to_crs(target or LONLAT, resolution=_STEP)
