"""STAC items as a stranger gives them: read, checked as hostile text, their hrefs made absolute.

Checked here, once, before anything makes a file name, a query or a GDAL path of them.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import rustac
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape

from landcover.antimeridian import lonlat_bounds, split_at_antimeridian
from landcover.errors import CatalogError, RegionError

Item = dict[str, Any]
"""A STAC item as its JSON object, asset hrefs absolute."""

Place = Callable[[str, str], str]
"""Makes an href absolute, given the address of its item; raises ValueError to refuse it."""

_RELATIVE = re.compile(r"[\w.][^:]*")  # neither from the root nor with a scheme
_URL = re.compile(r"(https?|s3|gs|az|abfss?)://[^\s<>\"'\\]+", re.IGNORECASE)


def item_span(item: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """First and last instant of a scene, UTC: `start_datetime` and `end_datetime`, else `datetime`.

    Raises ValueError where a scene has neither, or they are no RFC 3339 times.
    """
    properties = item["properties"]
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if start is None or end is None:
        start = end = properties.get("datetime")
    if not isinstance(start, str) or not isinstance(end, str):
        raise ValueError("it has no datetime")  # noqa: TRY004 - one kind of failure for the caller
    return _moment(start), _moment(end)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def identity(item: Mapping[str, Any]) -> tuple[str, str]:
    """Collection and id, by which two records are one scene."""
    return str(item.get("collection") or ""), str(item["id"])


def checked_name(text: Any, source: str) -> str:
    """A name of a scene or collection that is safe to show; raises CatalogError otherwise."""
    if isinstance(text, str) and text.strip() and text.isprintable() and len(text) <= 1024:
        return text
    raise CatalogError(
        f"The catalogue {source} gives {str(text)[:40]!r} as a name; names are printable text."
    )


def checked_item(value: Any, source: str, number: int, place: Place) -> Item:
    """A copy of an item with absolute hrefs, or CatalogError naming it.

    Always has `links`, a `bbox` of four numbers where it has a geometry or a bbox, a geometry within
    -180 to 180 degrees that is split at the antimeridian, and a cloud cover that is a number (text
    that reads as one is converted) or not known.
    place: makes an href absolute, given the item's own address; raises ValueError to refuse it.
    """
    label = f"scene {number}"
    try:
        item = dict(value)
        item["id"] = checked_name(item["id"], source)
        label = f"scene '{item['id']}'"
        if item.get("collection") is not None:
            checked_name(item["collection"], source)
        item_span(item)
        item["properties"] = {"datetime": None, **item["properties"]}
        _check_clouds(item["properties"])
        item["links"] = list(item.get("links") or ())
        item["assets"] = _placed(item["assets"], urljoin(source, own_address(item)), place)
        if item["geometry"] is not None:
            _place_footprint(item)
        if item.get("bbox"):
            item["bbox"] = _flat_bbox(item["bbox"])
    except KeyError as error:
        raise CatalogError(f"In the catalogue {source}, {label} lacks {error}.") from error
    except (
        ValueError, TypeError, AttributeError, OverflowError, ShapelyError, RegionError
    ) as error:  # fmt: skip
        raise CatalogError(
            f"In the catalogue {source}, {label} cannot be used: {one_line(error)}."
        ) from error
    return item


def _place_footprint(item: Item) -> None:
    """Split the geometry at the antimeridian where it is not; see that there is a bbox."""
    footprint = shape(item["geometry"])
    placed = split_at_antimeridian(footprint)
    if placed is not footprint:
        item["geometry"] = json.loads(json.dumps(mapping(placed)))
        item["bbox"] = None
    item["bbox"] = item.get("bbox") or lonlat_bounds(placed)


def _check_clouds(properties: Item) -> None:
    """Make the cloud cover a number; raises ValueError where it is none."""
    cover = properties.get("eo:cloud_cover")
    if cover is None:
        return
    if isinstance(cover, str):
        with contextlib.suppress(ValueError):
            cover = properties["eo:cloud_cover"] = float(cover)
    if not _is_number(cover):
        raise ValueError(f"its eo:cloud_cover is {str(cover)[:40]!r}, which is no number")


def _flat_bbox(bbox: Sequence[Any]) -> list[float]:
    """West, south, east, north of a bbox that may have heights; raises ValueError for others."""
    if len(bbox) not in {4, 6} or not all(map(_is_number, bbox)):
        raise ValueError(f"its bbox is {str(bbox)[:80]}, not four or six numbers")
    half = len(bbox) // 2
    return [*bbox[:2], *bbox[half : half + 2]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _placed(assets: Any, address: str, place: Place) -> dict[str, Any]:
    placed: dict[str, Any] = {}
    for key, asset in assets.items():
        if isinstance(asset, Mapping) and "href" not in asset:
            continue  # a file that the scene lacks: some catalogues list it all the same
        if not key.isprintable():
            raise ValueError(f"it has an asset named {key[:40]!r}")
        try:
            placed[key] = {**asset, "href": place(asset["href"], address)}
        except ValueError as error:
            raise ValueError(f"its asset '{key}' {error}") from error
    return placed


def own_address(item: Mapping[str, Any]) -> str:
    """Where an item itself is, by its link; empty where it does not say."""
    return next((link["href"] for link in item["links"] if link.get("rel") == "self"), "")


def remote_place(href: str, address: str) -> str:
    """Absolute URL of an href that a stranger wrote: never a file of ours, never a GDAL string."""
    absolute = urljoin(address, href) if _RELATIVE.fullmatch(href) else href
    if _URL.fullmatch(absolute) and absolute.isprintable():
        return absolute
    raise ValueError(f"points to {href[:80]!r}, which is no http(s), s3, gs or az address")


def local_place(folder: Path) -> Place:
    """How an index in a folder gives places: files from that folder on, or web addresses."""

    def place(href: str, _address: str) -> str:
        if _URL.fullmatch(href) and href.isprintable():
            return href
        if href.lower().startswith("file://"):
            href = unquote(urlsplit(href).path)
        if "://" in href or href.startswith(("/vsi", "<")) or not href.isprintable() or not href:
            raise ValueError(f"points to {href[:80]!r}, which is neither a file nor a web address")
        return os.path.normpath(folder / href)

    return place


def _read_parquet(path: Path) -> Any:
    return rustac.read_sync(str(path))


def _read_lines(path: Path) -> Any:
    with path.open(encoding="utf-8") as stream:
        return {"features": [json.loads(line) for line in stream if line.strip()]}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


READERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": _read_parquet,
    ".geoparquet": _read_parquet,
    ".ndjson": _read_lines,
    ".json": _read_json,
    ".geojson": _read_json,
}
"""How an index is read, by the ending of its name."""


def read_index(path: Path) -> list[Any]:
    """Items of an index file as they stand; raises CatalogError where it cannot be read."""
    try:
        value = READERS[path.suffix.lower()](path)
    except (OSError, ValueError, RecursionError, rustac.RustacError) as error:
        raise CatalogError(
            f"The index {path} cannot be read: {one_line(error)}; make it again with `landcover index`."
        ) from error
    features = value.get("features") if isinstance(value, dict) else None
    if not isinstance(features, list):
        raise CatalogError(
            f"The index {path} is not a FeatureCollection of STAC items (a static catalogue cannot be "
            "searched); make an index of the images with `landcover index`."
        )
    return features


def frozen_scenes(path: Path) -> list[Item]:
    """Items of a scene list as `landcover search` froze it, one at least; CatalogError otherwise."""
    try:
        features: list[Item] = json.loads(path.read_text(encoding="utf-8"))["features"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CatalogError(
            f"{path} is not a list of scenes ({type(error).__name__}); make it by landcover search."
        ) from error
    if not isinstance(features, list) or not all(isinstance(item, dict) for item in features):
        raise CatalogError(f"{path} holds what is no scene; make it by landcover search.")
    if not features:
        raise CatalogError(f"{path} holds no scene; search a longer period or another catalogue.")
    return features


def shown_address(location: str) -> str:
    """An address as it may be written down: no user, password or key; a path stays as it is."""
    if "://" not in location:
        return location
    return re.sub(r"^([^/]*//)[^/]*@", r"\1", re.split(r"[?#]", location, maxsplit=1)[0])


def one_line(error: BaseException) -> str:
    """An error's text as part of a sentence: one line, printable, short."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:240].rstrip(".")
