"""Scenes: what a STAC item offers to read, made out from its metadata alone."""

import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit

import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from landcover.antimeridian import split_at_antimeridian
from landcover.bands import band_assets, band_fact, rendered_bands
from landcover.errors import CatalogError, RegionError
from landcover.harmonization import declared_scaling, is_scaled, is_sentinel2
from landcover.products import PHOTO, PLAIN, Product
from pipeline.band_names import are_numbers, other_model, standard_name
from pipeline.items import one_line, remote_place
from pipeline.products import product_of
from pipeline.providers import easiest, with_mirrors

UNDATED = "undated"
"""Day of a scene without a time."""

_IMAGE_TYPES = re.compile(r"image/(tiff|jp2|jpx|vnd\.stac\.geotiff)\b.*", re.IGNORECASE)
_IMAGE_ENDINGS = re.compile(
    r"(?:.*\.(?:g?tiff?|jp2|j2k|img|dat|bin|raw|bsq|bil|bip|envi)|[^.]*)", re.IGNORECASE
)
_STANDS_IN = {"nir": "nir08"}
"""Band that serves where the wanted one is missing: the only near infrared of Landsat is as narrow as
Sentinel-2's B8A, so catalogues call it nir08."""
_NO_DATA_BANDS = frozenset({"alpha"})
_SHOWN = 12


@dataclass(frozen=True)
class Source:
    """Where one band of a scene is, and what its numbers mean."""

    href: str
    """Address as the item gives it, not signed."""
    band: int
    """1-based."""
    nodata: float | None
    """Stored number of no data by item or product; None = as the file says, else the product's."""
    factor: float = 1.0
    summand: float = 0.0
    """Stored number x factor + summand = reflectance x 10000, before the baseline's offset."""
    alpha: int | None = None
    """Band of the same file that is 0 where there is no data, where the item names one."""
    is_scaled: bool = False
    """Whether the item itself declares what the numbers mean, be it reflectance x 10000."""


@dataclass(frozen=True)
class Scene:
    """One STAC item as those see it who read its pixels."""

    id: str
    day: str
    """Local solar day YYYY-MM-DD, or "undated"."""
    moment: datetime | None
    """UTC."""
    product: Product
    bands: Mapping[str, Source]
    """By common name, without the mask."""
    mask: Source | None
    properties: Mapping[str, Any]
    footprint: BaseGeometry | None
    """EPSG:4326, split at the antimeridian."""
    cloud_cover: float | None
    """Percent."""


def read_scene(item: Mapping[str, Any], bands: Sequence[str] | None = None) -> Scene:
    """What a STAC item offers to read; no file is opened.

    bands: common names of those wanted; None for all it has.
    Raises CatalogError with the reason where the item has no usable asset, lacks a wanted band, is
    of a product that cannot become land cover, or is not what STAC says.
    """
    try:
        return _scene(item, bands)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else one_line(error)
    except (OverflowError, ShapelyError, RegionError) as error:
        reason = one_line(error)
    name = one_line(ValueError(str(item.get("id"))))
    raise CatalogError(f"Scene {name} cannot be used: {reason}.")


def check_one_kind(scenes: Sequence[Scene]) -> None:
    """CatalogError where photographs are among scenes of reflectance: their numbers cannot be mixed."""
    first = {scene.product.kind: scene for scene in reversed(scenes)}
    if len(first) > 1:
        photo, other = first["photo"], first["reflectance"]
        raise CatalogError(
            f"Scene {photo.id} is a photograph of 8 bits and scene {other.id} holds reflectance "
            f"(product {other.product.name}); one image cannot be made of both: choose those of one kind by a "
            "collection, a filter or the period, or index them apart."
        )


def _scene(item: Mapping[str, Any], wanted: Sequence[str] | None) -> Scene:
    properties = item["properties"]
    assets = _images(item)
    product = product_of(item, assets)
    found = band_assets(assets, product.bands)
    mask = found.pop(product.mask.band, None) if product.mask else None
    if not (found.keys() - _NO_DATA_BANDS):
        product, mask, found = PHOTO, None, rendered_bands(assets)
    alphas = dict(found[name] for name in _NO_DATA_BANDS & found.keys())
    found = _chosen(item, found, wanted)
    footprint = _footprint(item)
    moment = _moment(properties)
    return Scene(
        id=str(item["id"]),
        day=_solar_day(moment, footprint),
        moment=moment,
        product=product,
        bands={
            name: replace(_source(assets[key], number, product, properties), alpha=alphas.get(key))
            for name, (key, number) in found.items()
        },
        mask=_mask_source(assets[mask[0]], mask[1]) if mask else None,
        properties=properties,
        footprint=footprint,
        cloud_cover=_percent(properties.get("eo:cloud_cover")),
    )


# --- assets ---------------------------------------------------------------------------------------


def _images(item: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Assets that are images which we read, with what early STAC says of their bands elsewhere."""
    return {
        key: _with_bands(asset, item["properties"])
        for key, asset in item["assets"].items()
        if isinstance(asset.get("href"), str) and asset["href"] and _is_image(asset)
    }


def _is_image(asset: Mapping[str, Any]) -> bool:
    """Whether an asset is a GeoTIFF or JPEG 2000, by its media type, else by its name.

    A file of ours without a media type is one too: ENVI has none, and names of any ending.
    """
    kind = asset.get("type")
    if kind:
        return bool(_IMAGE_TYPES.fullmatch(str(kind)))
    if "://" not in asset["href"]:
        return True
    name = urlsplit(asset["href"]).path.rpartition("/")[2]
    return bool(_IMAGE_ENDINGS.fullmatch(name))


def _with_bands(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """An asset whose `eo:bands` are described, not numbers of those in the item's properties."""
    numbers, described = asset.get("eo:bands"), properties.get("eo:bands")
    if not (isinstance(numbers, list) and isinstance(described, list)):
        return asset
    if not all(isinstance(n, int) and 0 <= n < len(described) for n in numbers):
        return asset
    return {**asset, "eo:bands": [described[number] for number in numbers]}


def _chosen(
    item: Mapping[str, Any], found: Mapping[str, tuple[str, int]], wanted: Sequence[str] | None
) -> dict[str, tuple[str, int]]:
    """The bands wanted, by our names or a sensor's (B04), each where it is; CatalogError where one is missing."""
    offered = {name: place for name, place in found.items() if name not in _NO_DATA_BANDS}
    for name, substitute in _STANDS_IN.items():
        if substitute in offered:
            offered.setdefault(name, offered[substitute])
    if not offered:
        raise CatalogError(
            f"Scene {item['id']} has no band that can be used: none of its assets "
            f"({_listed(item['assets']) or 'it has none'}) is a GeoTIFF or JPEG 2000 image that names its bands."
        )
    names = offered.keys() if wanted is None else wanted
    own = {name: name if name in offered else standard_name(name) for name in names}
    if missing := [name for name in names if own[name] not in offered]:
        remedy = f"choose another collection or {other_model(missing, offered)}"
        if are_numbers(list(offered)):
            remedy = "if it is an image of yours, name its bands with `landcover index --bands`"
        raise CatalogError(
            f"Scene {item['id']} has no band {', '.join(missing)} (it has {_listed(offered)}); {remedy}."
        )
    return {name: offered[own[name]] for name in names}


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")


def _source(
    asset: Mapping[str, Any], number: int, product: Product, properties: Mapping[str, Any]
) -> Source:
    nodata = _nodata(asset, number)
    if nodata is None and product is not PLAIN:
        nodata = product.nodata
    factor, summand = _scaling(asset, number, product, properties)
    own = _declares_scale(asset, number, product, properties)
    return Source(_address(asset), number, nodata, factor, summand, is_scaled=own)


def _scaling(
    asset: Mapping[str, Any], number: int, product: Product, properties: Mapping[str, Any]
) -> tuple[float, float]:
    """Factor and summand to reflectance x 10000: the item's, else the product's."""
    if product.kind == "photo" or product.baseline_offset:
        return 1.0, 0.0
    if not is_scaled(asset, number):
        return product.scaling()
    return declared_scaling(properties, asset, number) or (1.0, 0.0)


def _declares_scale(
    asset: Mapping[str, Any], number: int, product: Product, properties: Mapping[str, Any]
) -> bool:
    """Whether an item's own scale of a band counts: not of photographs, nor of Sentinel-2."""
    is_fixed = product.kind == "photo" or product.baseline_offset or is_sentinel2(properties)
    return not is_fixed and is_scaled(asset, number)


def _mask_source(asset: Mapping[str, Any], number: int) -> Source:
    return Source(_address(asset), number, _nodata(asset, number))


def _address(asset: Mapping[str, Any]) -> str:
    """The easiest to open of an asset's addresses; only its first may be a file of ours."""
    return easiest(addresses(asset)) if "://" in asset["href"] else str(asset["href"])


def addresses(asset: Mapping[str, Any]) -> list[str]:
    """Where the file of an asset can be read: its href, alternates that are web addresses, mirrors."""
    hrefs = [str(asset["href"])]
    others = asset.get("alternate")
    for other in others.values() if isinstance(others, Mapping) else ():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            hrefs.append(remote_place(other["href"], ""))
    return with_mirrors(hrefs)


def _nodata(asset: Mapping[str, Any], number: int) -> float | None:
    """Nodata that the item declares for a band; ValueError where that is no number."""
    value = band_fact(asset, number, "nodata")
    if value is None:
        return None
    try:
        return float(value)  # "nan", "inf" and "-inf" are how JSON gives these
    except (ValueError, TypeError) as error:
        raise ValueError(f"a band's nodata is {str(value)[:40]!r}, which is no number") from error


# --- place and time -------------------------------------------------------------------------------


def _footprint(item: Mapping[str, Any]) -> BaseGeometry | None:
    if item.get("geometry") is None:
        return None
    return split_at_antimeridian(shapely.force_2d(shape(item["geometry"])))


def _moment(properties: Mapping[str, Any]) -> datetime | None:
    text = properties.get("datetime") or properties.get("start_datetime")
    if text is None:
        return None
    moment = datetime.fromisoformat(str(text))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _solar_day(moment: datetime | None, footprint: BaseGeometry | None) -> str:
    """Date by the sun where the scene is, so that one pass has one date wherever midnight UTC is."""
    if moment is None:
        return UNDATED
    if moment.time() == time.min:  # a date without a time of day, as photographs have
        return moment.date().isoformat()
    longitude = 0.0 if footprint is None else _middle_longitude(footprint)
    try:
        return (moment + timedelta(hours=longitude / 15)).date().isoformat()
    except OverflowError:  # the first or last day of the calendar
        return moment.date().isoformat()


def _middle_longitude(footprint: BaseGeometry) -> float:
    """Longitude of the middle of a footprint's largest part, -180 to 180."""
    parts = getattr(footprint, "geoms", [footprint])
    west, _, east, _ = max(parts, key=lambda part: part.area).bounds
    return float(west + east) / 2


def _percent(value: Any) -> float | None:
    """A cloud cover; None where it is not known, which some catalogues write as -1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= 100 else None
