"""The output grid of a region: one GeoBox that every raster of a run shares."""

import math

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj.exceptions import CRSError
from rasterio.features import geometry_mask

from landcover.errors import RegionError, SettingsError


def output_grid(footprint: Geometry, resolution: float, crs: str | None = None) -> GeoBox:
    """Grid that covers a footprint, its lines at whole multiples of the pixel size.

    footprint: polygon in any CRS. resolution: pixel size in units of the output CRS (metres for
    the default). crs: output CRS; default is the UTM zone of the footprint.
    Two footprints in one zone thus share pixel borders, so their maps fit together.
    Raises SettingsError for a resolution that is not positive or a CRS that does not exist.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise SettingsError(f"The resolution is {resolution}; give a pixel size above 0 metres.")
    try:
        target = CRS(crs) if crs else CRS(footprint.crs).utm(footprint)  # type: ignore[attr-defined]
    except (CRSError, ValueError) as error:
        raise SettingsError(
            f"CRS '{crs}' is not known; write it like EPSG:32633 or leave it out for UTM."
        ) from error
    # 0.1 degree steps keep straight lon/lat borders on their curve in the projection.
    outline = footprint.to_crs(target, resolution=0.1 if footprint.crs.geographic else None)
    if outline.is_empty or not np.isfinite(outline.boundingbox.bbox).all():
        raise RegionError(f"The footprint cannot be drawn in {target}; choose another --crs.")
    return GeoBox.from_geopolygon(outline, resolution=resolution, crs=target, anchor="edge")


def inside(geobox: GeoBox, footprint: Geometry) -> NDArray[np.bool_]:
    """Which pixels have their centre inside a footprint: (rows, cols), True inside."""
    outline = footprint.to_crs(
        geobox.crs, resolution=0.1 if footprint.crs and footprint.crs.geographic else None
    )
    return geometry_mask(
        [outline.geom], out_shape=geobox.shape, transform=geobox.transform, invert=True
    )
