"""The output grid of a region and its scenes: the user's, else the images' own, else one by rule."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError
from rasterio import Affine

from landcover.area import ground_size
from landcover.errors import CatalogError
from landcover.grid import best_crs, named_crs, native_grid, output_grid
from pipeline.items import frozen_scenes
from pipeline.region import Region
from pipeline.scenes import Scene, addresses, read_scene

_ALIKE = 1e-6
"""Relative difference of two pixel sizes that only rounding makes."""
_DIGITS = 3
"""Digits of a ground size that becomes a pixel size."""


@dataclass(frozen=True)
class _Image:
    """One image file of a scene, as the catalogue describes it."""

    scene: str
    grid: GeoBox | None
    """None where the catalogue does not say."""
    product_size: float | None
    """Pixel size of its product, metres; None for a plain image or a photograph."""
    said_size: float | None
    """Pixel size that the catalogue gives in metres."""

    @property
    def metres(self) -> float:
        """Pixel size of its product, else on the ground; CatalogError where neither is known."""
        if self.product_size is not None:
            return self.product_size
        if self.grid is not None:
            return float(f"{ground_size(self.grid):.{_DIGITS}g}")
        if self.said_size is None:
            raise CatalogError(
                f"Scene '{self.scene}' does not say how large its pixels are (proj:transform, gsd); give "
                "the region a resolution."
            )
        return self.said_size


def region_grid(region: Region, items: Path) -> GeoBox:
    """The grid on which a region's composite is made.

    items: the frozen scene list, a FeatureCollection. The region's CRS and resolution count where it
    has them. Else images of products without a pixel size of their own (photographs, plain images)
    that share a CRS give their own pixels, the finest where they differ: nothing is resampled, and
    pixels need not be square. All else lies in the CRS of `best_crs` with the finest pixel size of
    the products, or on the ground; there pixel borders are those of the images where these agree.
    Raises CatalogError for a scene that cannot be used or does not say how large its pixels are,
    RegionError for a footprint that the CRS cannot show, SettingsError for an unknown CRS.
    """
    if region.resolution is not None:
        return output_grid(region.footprint, region.resolution, region.crs)
    images = _read(items)
    target = named_crs(region.crs) if region.crs else None
    if lattice := _common_lattice(images, target):
        return native_grid(region.footprint, lattice)
    target = target or best_crs(region.footprint)
    metres = min(image.metres for image in images)
    size = metres / target.proj.axis_info[0].unit_conversion_factor
    return output_grid(region.footprint, size, target, anchor=_anchor(images, target, size))


def _read(path: Path) -> list[_Image]:
    """The image files behind the bands of all scenes of a frozen list; one at least."""
    images = []
    for item in frozen_scenes(path):
        scene = read_scene(item)
        wanted = {source.href for source in scene.bands.values()}
        assets = [asset for asset in item["assets"].values() if wanted & set(addresses(asset))]
        images += [_image(item["properties"], asset, scene) for asset in assets]
    if not images:
        raise CatalogError(f"The scene list {path} names no image; search again.")
    return images


def _image(properties: Mapping[str, Any], asset: Mapping[str, Any], scene: Scene) -> _Image:
    """What an asset says of its pixels, or its item on behalf of all."""
    said = (asset.get("gsd"), asset.get("raster:spatial_resolution"), properties.get("gsd"))
    sizes = [float(size) for size in said if isinstance(size, int | float) and size > 0]
    grid = _grid({**properties, **asset})
    return _Image(scene.id, grid, scene.product.resolution, next(iter(sizes), None))


def _grid(facts: Mapping[str, Any]) -> GeoBox | None:
    """The grid of an asset by the projection extension, version 1 or 2; None where it is not told."""
    code = facts.get("proj:code") or facts.get("proj:epsg") or facts.get("proj:wkt2")
    transform, shape = facts.get("proj:transform"), facts.get("proj:shape")
    if not (code and transform and shape):
        return None
    try:
        grid = GeoBox((int(shape[0]), int(shape[1])), Affine(*map(float, transform[:6])), CRS(code))
    except (CRSError, TypeError, ValueError, IndexError):
        return None
    placed = math.isfinite(sum(grid.affine)) and grid.affine.determinant != 0
    return grid if placed and min(grid.shape) > 0 else None


def _common_lattice(images: Sequence[_Image], target: CRS | None) -> GeoBox | None:
    """The finest grid of plain images that are all upright in one CRS (the target, if any); else None.

    Of several finest grids whose pixels do not meet it is one of those that most images share.
    """
    plain = [image.grid for image in images if image.product_size is None]
    grids = [grid for grid in plain if grid and grid.affine.b == grid.affine.d == 0]
    systems = {grid.crs for grid in grids} | ({target} if target else set())
    if len(grids) < len(images) or len(systems) > 1:
        return None
    finest = min(_pixel(grid) for grid in grids)
    fine = [grid for grid in grids if _pixel(grid) <= finest * (1 + _ALIKE)]
    phases = [
        (_phase(grid.affine.c, grid.affine.a), _phase(grid.affine.f, grid.affine.e))
        for grid in fine
    ]
    ((commonest, _),) = Counter(phases).most_common(1)
    return fine[phases.index(commonest)]


def _pixel(grid: GeoBox) -> float:
    return math.sqrt(abs(grid.affine.determinant))


def _anchor(images: Sequence[_Image], target: CRS, size: float) -> tuple[float, float]:
    """Where images in the target CRS have their pixel borders, in parts of a pixel; (0, 0) if unlike."""
    found = {
        (_phase(image.grid.affine.c, size), _phase(image.grid.affine.f, size))
        for image in images
        if image.grid is not None
        and image.grid.crs == target
        and math.isclose(_pixel(image.grid), size, rel_tol=_ALIKE)
    }
    return found.pop() if len(found) == 1 else (0.0, 0.0)


def _phase(edge: float, size: float) -> float:
    """Distance of a pixel border from a multiple of the pixel size, in parts of a pixel."""
    return round(edge / size % 1, 4) % 1
