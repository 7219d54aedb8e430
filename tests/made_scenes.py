"""Scenes made for tests: small rasters with the STAC items that describe them."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

GRID = GeoBox.from_bbox((500_000, 5_300_000, 501_000, 5_300_800), "EPSG:32633", resolution=10)
FOOTPRINT: BaseGeometry = GRID.extent.to_crs("EPSG:4326").geom
FAR = FOOTPRINT.buffer(0.01)


def save(path: Path, pixels: NDArray[Any], grid: GeoBox, **options: Any) -> Path:
    """Write bands x rows x columns."""
    with rasterio.open(
        path, "w", driver="GTiff", count=pixels.shape[0], height=pixels.shape[1], width=pixels.shape[2],
        dtype=pixels.dtype, crs=str(grid.crs), transform=grid.transform, **options,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


def scene(
    folder: Path, name: str, red: NDArray[Any] | int, *, baseline: str | None = None,
    scl: NDArray[Any] | None = None, day: str = "2024-06-01", grid: GeoBox = GRID,
) -> dict[str, Any]:  # fmt: skip
    """A STAC item of one red band, and a scene classification at 20 m if given."""
    image = np.broadcast_to(np.asarray(red, np.uint16), grid.shape)
    assets = {"red": {"href": str(save(folder / f"{name}_B04.tif", image[None], grid))}}
    if scl is not None:
        path = save(folder / f"{name}_SCL.tif", scl.astype(np.uint8)[None], grid.zoom_out(2))
        assets["scl"] = {"href": str(path)}
    properties = {"datetime": f"{day}T10:00:00Z"} | (
        {"s2:processing_baseline": baseline} if baseline else {}
    )
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": mapping(FOOTPRINT),
        "bbox": list(FOOTPRINT.bounds), "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip
