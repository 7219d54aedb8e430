"""What a search commits to: scenes, dates and about how many bytes, before any pixel is read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.coverage import Coverage, sphere_area
from pipeline.items import Item
from pipeline.scenes import Scene, Source

DEFAULT_BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
"""Bands that a plan counts where none are named."""

_BYTES = {"reflectance": 1.85, "photo": 0.9}
"""Of a pixel as it is stored: six Sentinel-2 bands of Collection 1 have 1.84 to 1.87 where valid."""
_MASK_BYTES = 0.15
_DEGREE = 111_320.0  # metres
_FINEST = 0.005  # metres; a geotransform of finer pixels is in degrees
_PIXEL = 10.0  # metres, where nothing tells
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_LARGEST = 2**50  # bytes; a file that says it is larger is not believed


@dataclass(frozen=True)
class Plan:
    """What will be read."""

    scenes: int
    dates: int
    bytes: int
    exact: bool
    """Whether all scenes are read whole and every file tells its size."""

    def line(self) -> str:
        """The plan for the person who waits."""
        about = "" if self.exact else "about "
        return (
            f"plan: {counted(self.scenes, 'scene')} on {counted(self.dates, 'date')}, "
            f"{about}{_size(self.bytes)} to read"
        )


@dataclass(frozen=True)
class _File:
    """A file of a scene and what is wanted of it."""

    bands: int
    size: int | None
    """Bytes, where told."""
    pixel: float
    """Metres."""
    bytes_per_pixel: float


def plan(
    region: BaseGeometry,
    items: Sequence[Item],
    scenes: Sequence[Scene],
    seen: Coverage,
    bands: Sequence[str] | None = None,
) -> Plan:
    """What will be read of scenes (of the items, in the same order) to compose a region.

    region: EPSG:4326. seen: the coverage by these scenes. bands: default DEFAULT_BANDS, as far as a
    scene has them. A coarse map takes as much as a fine one: overviews are never read.
    Bytes are those of the files (`file:size`, or on this machine the file's own) by the share of the
    footprint that is inside the region; where no size is told, pixels by a typical compression.
    """
    shapely.prepare(region)
    whole_region, total, exact = sphere_area(region), 0.0, True
    for item, scene, share in zip(items, scenes, seen.shares, strict=True):
        shown, part = _extent(region, scene, share * whole_region)
        for file in _files(item, scene, bands or DEFAULT_BANDS):
            if file.size is None:
                total += file.bands * file.bytes_per_pixel * shown / file.pixel**2
            else:
                total += file.size * part
            exact = exact and file.size is not None and part == 1
    return Plan(len(scenes), len({scene.day for scene in scenes}), round(total), exact)


def counted(number: int, noun: str) -> str:
    """A number of things, for people: `1 scene`, `1,200 scenes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _extent(region: BaseGeometry, scene: Scene, sampled: float) -> tuple[float, float]:
    """Square metres of a scene inside the region, and what share of the scene that is."""
    if scene.footprint is None:
        return sphere_area(region), 1.0
    area = sphere_area(scene.footprint)
    if area == 0 or region.covers(scene.footprint):
        return area, 1.0
    return sampled, min(1.0, sampled / area)


def _files(item: Item, scene: Scene, bands: Sequence[str]) -> Iterator[_File]:
    """The files that hold the wanted bands and the mask, each once."""
    wanted = [scene.bands[name] for name in bands if name in scene.bands]
    by_address: dict[str, list[Source]] = {}
    for source in wanted or scene.bands.values():
        by_address.setdefault(source.href, []).append(source)
    for href, sources in by_address.items():
        numbers = {source.band for source in sources}
        yield _file(item, scene, href, len(numbers), _BYTES[scene.product.kind])
    if scene.mask is not None and scene.mask.href not in by_address:
        yield _file(item, scene, scene.mask.href, 1, _MASK_BYTES)


def _file(item: Item, scene: Scene, href: str, bands: int, bytes_per_pixel: float) -> _File:
    asset = _asset(item, href)
    size = asset.get("file:size")
    told = size if isinstance(size, int) and 0 < size < _LARGEST else _local_size(href)
    return _File(bands, told, _pixel(asset, item, scene), bytes_per_pixel)


def _asset(item: Item, href: str) -> Mapping[str, Any]:
    """The asset at an address, which may be another address of the same file."""
    assets = [asset for asset in item["assets"].values() if isinstance(asset, Mapping)]
    same = [asset for asset in assets if asset["href"] == href]
    alike = [asset for asset in assets if _file_name(asset["href"]) == _file_name(href)]
    return next(iter([*same, *alike]), {})


def _file_name(href: str) -> str:
    return href.partition("?")[0].rpartition("/")[2]


def _local_size(href: str) -> int | None:
    if "://" in href:
        return None
    try:
        return Path(href).stat().st_size
    except (OSError, ValueError):
        return None


def _pixel(asset: Mapping[str, Any], item: Item, scene: Scene) -> float:
    """Metres of a file's pixels, by the first of the asset, the item and the product that tells."""
    properties = item["properties"]
    told = (
        asset.get("gsd"), _step(asset), _spread(asset, scene),
        properties.get("gsd"), _step(properties), _spread(properties, scene),
        scene.product.resolution,
    )  # fmt: skip
    return next((size for size in map(_metres, told) if size), _PIXEL)


def _step(facts: Mapping[str, Any]) -> float | None:
    """Metres from pixel to pixel by a geotransform."""
    transform = facts.get("proj:transform")
    step = _metres(transform[0]) if isinstance(transform, list) and transform else None
    return step * _DEGREE if step and step < _FINEST else step


def _spread(facts: Mapping[str, Any], scene: Scene) -> float | None:
    """Metres of a pixel where rows and columns spread over the footprint."""
    shape = facts.get("proj:shape")
    if scene.footprint is None or not isinstance(shape, list) or len(shape) != 2:
        return None
    rows, columns = map(_metres, shape)
    return math.sqrt(sphere_area(scene.footprint) / (rows * columns)) if rows and columns else None


def _metres(value: Any) -> float | None:
    """A number that a stranger gives, where it is one and within reason."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return abs(float(value)) if number and 1e-9 < abs(value) < 1e6 else None


def _size(number: float) -> str:
    """Bytes for people: `3.1 GB`."""
    unit = min(len(_UNITS) - 1, int(math.log10(max(number, 1))) // 3)
    return f"{number / 1000**unit:.3g} {_UNITS[unit]}"
