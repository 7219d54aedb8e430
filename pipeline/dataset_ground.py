"""The ground that the images of a dataset show: one lattice of blocks for all, and who shares what."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyproj
import rasterio.crs
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry

from landcover.area import ground_size
from landcover.blocks import BlockLattice
from landcover.errors import DatasetError, LandcoverError
from landcover.grid import best_crs, named_crs
from pipeline.dataset_file import SplitRules, length
from pipeline.dataset_image import DatasetImage
from pipeline.image_file import outline

_MOST_BLOCKS = 500_000
"""Blocks that one image may have."""
_GEOD = pyproj.Geod(ellps="WGS84")
_NARROWEST = 1e-4
"""Metres of longitude for a metre of latitude, 600 m from a pole."""


@dataclass(frozen=True)
class Ground:
    """Where the placed images of a dataset lie."""

    lattice: BlockLattice
    buffer: float
    """Width of the ground left out between splits, in blocks."""
    metre: float
    """A metre in units of the lattice's CRS."""
    footprints: dict[str, BaseGeometry]
    """Outline of each placed image in EPSG:4326."""
    pixel: float
    """Ground size of the finest image's pixel, metres."""


def find_ground(images: Sequence[DatasetImage], rules: SplitRules) -> Ground | None:
    """Lay the lattice of blocks over all placed images; None where there is none.

    Raises DatasetError where an image cannot be placed on the Earth or the rules contradict each other.
    """
    placed = [image for image in images if image.grid is not None]
    if not placed:
        return None
    footprints = {image.name: _footprint(image) for image in placed}
    crs = _crs(placed, footprints, rules)
    metre = 1 / crs.proj.axis_info[0].unit_conversion_factor
    pixel = min(_pixel(image.grid, crs, metre) for image in placed if image.grid is not None)
    side, buffer = (_units(text, pixel, metre) for text in (rules.block, rules.buffer))
    if buffer > side:
        raise DatasetError(
            f"The buffer of {buffer:g} is wider than a block of {side:g}; give larger blocks or a smaller buffer."
        )
    origin = rules.origin or _corner(placed, crs)
    lattice = BlockLattice(f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt(), origin, side)
    _check_count(placed, lattice)
    return Ground(lattice, buffer / side, metre, footprints, pixel / metre)


def _check_count(placed: Sequence[DatasetImage], lattice: BlockLattice) -> None:
    """Refuse blocks so small that their counts would take more room than the image."""
    for image in placed:
        if image.grid is None:
            continue
        cols, rows = lattice.reach(image.grid)
        if len(cols) * len(rows) > _MOST_BLOCKS:
            raise DatasetError(
                f"{image.name} has {len(cols) * len(rows):,} blocks of {lattice.side:g} x {lattice.side:g}, more than "
                f"{_MOST_BLOCKS:,}; give larger blocks."
            )


def shared_ground(
    ground: Ground, names: Sequence[str], reach: float = 0.0
) -> Iterator[tuple[str, str, float]]:
    """Pairs of images that show the same ground, and how many hectares, true on the ellipsoid.

    reach: also those that lie nearer to each other than so many metres, with 0 hectares.
    """
    outlines = [ground.footprints[name] for name in names]
    distance = _degrees(reach, outlines)  # at most; looked at closely below
    least = (ground.pixel / 2) ** 2 / 10_000
    tree = shapely.STRtree(outlines)
    for i, j in sorted(map(tuple, tree.query(outlines, "dwithin", distance).T.tolist())):
        if i < j:
            common = outlines[i].intersection(outlines[j])
            area = abs(_GEOD.geometry_area_perimeter(common)[0]) / 10_000 if common.area else 0.0
            if area > least:
                yield names[i], names[j], area
            elif reach and _apart(outlines[i], outlines[j]) < reach:
                yield names[i], names[j], 0.0


def _degrees(reach: float, outlines: Sequence[BaseGeometry]) -> float:
    """Degrees that so many metres are at most, of longitude where outlines are nearest to a pole."""
    south, north = shapely.bounds(outlines)[:, 1::2].T
    narrow = math.cos(math.radians(max(-south.min(), north.max())))
    return min(360.0, reach / 110_000 / max(narrow, _NARROWEST))


def _apart(one: BaseGeometry, other: BaseGeometry) -> float:
    """Metres between the nearest points of two outlines, on a plane as narrow as the Earth is there."""
    narrow = max(math.cos(math.radians((one.centroid.y + other.centroid.y) / 2)), _NARROWEST)
    flat = [shapely.transform(shape, lambda places: places * (narrow, 1)) for shape in (one, other)]
    near, far = shapely.get_coordinates(shapely.shortest_line(*flat)) / (narrow, 1)
    return float(_GEOD.inv(*near, *far)[2])


def _footprint(image: DatasetImage) -> BaseGeometry:
    if image.grid is None:
        raise AssertionError("only placed images have a footprint")
    try:
        crs = rasterio.crs.CRS.from_wkt(CRS(image.grid.crs).to_wkt())
        return outline(crs, image.grid.affine, image.shape)
    except (ValueError, ProjError) as error:
        raise DatasetError(f"{image.name} cannot be placed on the Earth: {error}.") from error


def _crs(
    placed: Sequence[DatasetImage], footprints: dict[str, BaseGeometry], rules: SplitRules
) -> CRS:
    """The CRS of the blocks: the one said, else that of all images if it is UTM, else chosen by the place."""
    if rules.crs:
        try:
            crs = named_crs(rules.crs)
        except LandcoverError as error:
            raise DatasetError(f"splits: {error}") from error
        if crs.geographic:
            raise DatasetError(
                f"splits: blocks are squares in metres, and {rules.crs} is in degrees; name another CRS."
            )
        return crs
    found = {CRS(image.grid.crs) for image in placed if image.grid is not None}
    if len(found) == 1 and "UTM zone" in (only := found.pop()).proj.name:
        return only
    return best_crs(shapely.union_all(sorted(footprints.values(), key=lambda shape: shape.wkb)))


def _corner(placed: Sequence[DatasetImage], crs: CRS) -> tuple[float, float]:
    """North-west corner of all images in the CRS, to the centimetre."""
    boxes = []
    for image in placed:
        grid = image.grid
        if grid is None:
            continue
        extent = grid.extent
        if grid.crs != crs:
            extent = extent.to_crs(
                crs, resolution=max(abs(grid.resolution.x), abs(grid.resolution.y)) * 64
            )
        boxes.append(extent.boundingbox.bbox)
    west, north = min(box[0] for box in boxes), max(box[3] for box in boxes)
    if not (math.isfinite(west) and math.isfinite(north)):
        raise DatasetError(f"The images cannot be placed in {crs}; name another CRS under splits.")
    return round(west, 2), round(north, 2)


def _pixel(grid: GeoBox, crs: CRS, metre: float) -> float:
    """Side of an image's pixel in units of the blocks' CRS: exact where it is the image's own."""
    if grid.crs == crs:
        return float(abs(grid.resolution.x))
    return ground_size(grid) * metre


def _units(text: str, pixel: float, metre: float) -> float:
    number, in_pixels = length(text)
    return number * (pixel if in_pixels else metre)
