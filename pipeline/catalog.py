"""Catalogues of scenes: a STAC API on the network or an index file, asked the same question."""

import contextlib
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import cql2
import numpy as np
import pystac
import shapely
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import DoesNotConformTo, FallbackToPystac, MissingLink, NoConformsTo
from requests.exceptions import RequestException
from shapely.geometry import MultiPolygon, box, mapping, shape
from shapely.geometry.base import BaseGeometry
from urllib3 import Retry

from landcover.errors import CatalogError
from pipeline.items import (
    READERS,
    Item,
    Place,
    checked_item,
    checked_name,
    identity,
    item_span,
    local_place,
    one_line,
    read_index,
    remote_place,
)  # fmt: skip

SortKey = tuple[str, Literal["asc", "desc"]]

_PAGE = 250
_TOP_LEVEL = ("id", "collection")  # sort fields that are not properties
_NEWEST_FIRST: tuple[SortKey, ...] = (("datetime", "desc"),)
_TIMEOUT = (10.0, 60.0)  # seconds to connect, to answer
_OPERATORS = frozenset(
    {"and", "or", "not", "=", "<>", "<", "<=", ">", ">=", "like", "between", "in", "isNull"}
    | {"+", "-", "*", "/", "casei", "accenti"}
    | {
        f"s_{name}"
        for name in ("intersects", "contains", "within", "disjoint", "equals", "touches")
    }
    | {f"t_{name}" for name in ("after", "before", "intersects", "during", "equals")}
    | {f"a_{name}" for name in ("equals", "contains", "containedBy", "overlaps")}
)


@dataclass(frozen=True)
class Question:
    """What a scene must be; a field left at its default asks nothing.

    Raises CatalogError for a question that no catalogue can answer.
    """

    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; west > east crosses the antimeridian."""
    intersects: BaseGeometry | None = None
    """Geometry in EPSG:4326 that the scene's footprint touches; not together with bbox."""
    start: datetime | None = None
    end: datetime | None = None
    """First and last instant, both included; a scene that lasts need only overlap them."""
    collections: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    max_cloud_cover: float | None = None
    """Percent; a scene that says nothing about clouds does not pass."""
    filter: Mapping[str, Any] | None = None
    """CQL2 in its JSON form."""
    sortby: tuple[SortKey, ...] = ()
    """Fields and directions, as `('datetime', 'asc')`; default is the newest first."""
    limit: int | None = None
    """Largest number of scenes in the answer."""

    def __post_init__(self) -> None:
        if self.bbox is not None and self.intersects is not None:
            raise CatalogError("A search takes a bbox or a geometry to intersect, not both.")
        if self.bbox is not None:
            _check_bbox(self.bbox)
        if self.limit is not None and self.limit < 1:
            raise CatalogError(f"The search limit is {self.limit}; give 1 or more.")
        for moment in (self.start, self.end):
            if moment is not None and moment.tzinfo is None:
                raise CatalogError(f"The search time {moment} has no time zone; give it in UTC.")
        if self.start and self.end and self.end < self.start:
            raise CatalogError(f"The search ends at {self.end}, before it starts at {self.start}.")
        if unknown := sorted(_operators(self.filter) - _OPERATORS):
            raise CatalogError(f"The filter uses '{unknown[0]}', which is no CQL2 operator.")

    @property
    def area(self) -> BaseGeometry | None:
        """Where the scene must be: two dimensions, split at the antimeridian."""
        if self.bbox is None:
            return None if self.intersects is None else shapely.force_2d(self.intersects)
        west, south, east, north = self.bbox
        if west <= east:
            return box(west, south, east, north)
        return MultiPolygon([box(west, south, 180, north), box(-180, south, east, north)])

    @property
    def order(self) -> tuple[SortKey, ...]:
        """Sort keys with the tie-breakers that make the order total."""
        keys = self.sortby or _NEWEST_FIRST
        named = {field for field, _ in keys}
        return keys + tuple((f, keys[0][1]) for f in ("collection", "id") if f not in named)


class Catalog(Protocol):
    """A place that answers questions about scenes."""

    @property
    def location(self) -> str:
        """URL or file path, as the user gave it."""

    @property
    def local(self) -> bool:
        """Whether it is a file of the user's own."""

    @property
    def sorts(self) -> bool:
        """Whether answers come in the order asked for."""

    def search(self, question: Question) -> list[Item]:
        """Scenes that answer a question; raises CatalogError where it cannot be answered."""

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""

    def holdings(self) -> str:
        """What the catalogue holds in all, as the end of a sentence; empty where not known."""


def open_catalog(location: str) -> Catalog:
    """Catalogue at a STAC API URL, or of an index file (.parquet, .ndjson, .json).

    Raises CatalogError where the location is neither, or the file cannot be read.
    """
    if re.match(r"https?://", location, re.IGNORECASE):
        return ApiCatalog(location)
    if Path(location).suffix.lower() in READERS:
        return LocalCatalog(location)
    raise CatalogError(
        f"The catalogue '{location}' is neither a STAC API (http or https URL) nor an index file "
        "(.parquet, .ndjson, .json); make an index of a folder of images with `landcover index`."
    )


class ApiCatalog:
    """A STAC API, asked by POST with retries; the connection is made by the first question."""

    def __init__(self, location: str) -> None:
        self._location = location

    @property
    def location(self) -> str:
        """URL of the API's landing page."""
        return self._location

    @property
    def local(self) -> bool:
        """Never: it is a server's."""
        return False

    @property
    def sorts(self) -> bool:
        """Whether the server says that it can sort."""
        return self._conforms(ConformanceClasses.SORT)

    def search(self, question: Question) -> list[Item]:
        """Scenes that answer a question, page by page, none twice.

        Raises CatalogError where the server fails, cannot do what is asked, repeats itself, or
        gives a scene that cannot be trusted.
        """
        found: dict[tuple[str, str], Item] = {}
        with _speaking_to(self._location):
            pages = self._client.search(**self._parameters(question)).pages_as_dicts()
            for number, page in enumerate(pages, start=1):
                if not self._take(page, found):
                    raise CatalogError(
                        f"The catalogue {self._location} gives the same scenes again on page {number} "
                        "of its answer; search a shorter period."
                    )
                if question.limit is not None and len(found) >= question.limit:
                    break
        return list(found.values())[: question.limit]

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        with _speaking_to(self._location):
            return sorted(
                checked_name(c.id, self._location) for c in self._client.get_collections()
            )

    def holdings(self) -> str:
        """Empty: an API does not say."""
        return ""

    @cached_property
    def _client(self) -> Client:
        # POST searches are not retried unless told, and a hostile Retry-After must not stop us.
        retry = Retry(
            total=5, connect=2, backoff_factor=1, status_forcelist=[429, 502, 503, 504],
            allowed_methods=None, retry_after_max=30,
        )  # fmt: skip
        client = Client.open(self._location, stac_io=StacApiIO(max_retries=retry, timeout=_TIMEOUT))
        for ability in ConformanceClasses:  # pystac-client knows version 1.0 of each only
            later = re.compile(
                r"https://api\.stacspec\.org/v1\.\d+\.[^/]+" + re.escape(ability.value)
            )
            if any(later.fullmatch(uri) for uri in client.get_conforms_to()):
                client.add_conforms_to(ability.name)
        return client

    def _conforms(self, ability: ConformanceClasses) -> bool:
        with _speaking_to(self._location):
            return bool(self._client.conforms_to(ability))

    def _parameters(self, question: Question) -> dict[str, Any]:
        parameters: dict[str, Any] = {"limit": min(_PAGE, question.limit or _PAGE)}
        if question.bbox is not None and question.bbox[0] <= question.bbox[2]:
            parameters["bbox"] = question.bbox
        elif (area := question.area) is not None:
            parameters["intersects"] = mapping(area)
        if question.start or question.end:
            parameters["datetime"] = (question.start, question.end)
        if question.collections:
            parameters["collections"] = question.collections
        if question.ids:
            parameters["ids"] = question.ids
        if question.sortby:
            parameters["sortby"] = [_sort_clause(key) for key in question.sortby]
        return parameters | self._conditions(question)

    def _conditions(self, question: Question) -> dict[str, Any]:
        """Cloud limit and filter; a server takes `query` or `filter`, never both at once."""
        limit = question.max_cloud_cover
        if limit is None:
            return {"filter": question.filter} if question.filter else {}
        if not question.filter and self._conforms(ConformanceClasses.QUERY):
            return {"query": {"eo:cloud_cover": {"lte": limit}}}
        clouds = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, limit]}
        return {"filter": _both(clouds, question.filter)}

    def _take(self, page: Mapping[str, Any], found: dict[tuple[str, str], Item]) -> bool:
        """Add a page's scenes to those found; False where it brought nothing new."""
        known = len(found)
        for number, feature in enumerate(page["features"], start=1):
            item = checked_item(feature, self._location, number, remote_place)
            found.setdefault(identity(item), item)
        return len(found) > known


@dataclass(frozen=True)
class _Entry:
    """A scene of an index with what questions are compared to."""

    item: Item
    footprint: BaseGeometry | None
    start: datetime
    end: datetime

    def sort_value(self, field: str) -> Any:
        if field == "datetime":
            return self.start
        return self.item.get(field) if field in _TOP_LEVEL else self.item["properties"].get(field)


class LocalCatalog:
    """An index file of scenes, read once and searched in this process as a STAC API would.

    Reads stac-geoparquet, newline-delimited items, or a FeatureCollection. Relative hrefs are taken
    from the file's folder. Raises CatalogError where the file or one of its scenes cannot be used.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        path = Path(location)
        if not path.is_file():
            raise CatalogError(
                f"The index {location} does not exist; make it with "
                f"`landcover index FOLDER --output {location}`."
            )
        items = read_index(path)
        self._entries = _entries(items, location, local_place(path.absolute().parent))
        self._tree = shapely.STRtree([entry.footprint for entry in self._entries])

    @property
    def location(self) -> str:
        """Path of the index file."""
        return self._location

    @property
    def local(self) -> bool:
        """Always: it is a file."""
        return True

    @property
    def sorts(self) -> bool:
        """An index always sorts."""
        return True

    def search(self, question: Question) -> list[Item]:
        """Scenes that answer a question, in the order of the question."""
        condition = _condition(question)
        found = [e for e in self._near(question.area) if _answers(e, question, condition)]
        for field, direction in reversed(question.order):
            found.sort(key=lambda e: _sortable(e.sort_value(field)), reverse=direction == "desc")
        return [json.loads(json.dumps(entry.item)) for entry in found[: question.limit]]

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        return sorted(
            {str(e.item["collection"]) for e in self._entries if e.item.get("collection")}
        )

    def holdings(self) -> str:
        """Number of scenes, their first and last day, and their extent."""
        placed = [e.footprint for e in self._entries if e.footprint is not None]
        if not placed:
            return "it holds no scene with a footprint"
        extent = ", ".join(f"{edge:.4f}" for edge in shapely.total_bounds(placed))
        first = min(e.start for e in self._entries).date()
        last = max(e.end for e in self._entries).date()
        return (
            f"it holds {len(self._entries)} scenes from {first} to {last} within W,S,E,N = {extent}"
        )

    def _near(self, area: BaseGeometry | None) -> list[_Entry]:
        if area is None:
            return self._entries
        hits = np.sort(self._tree.query(area, predicate="intersects"))
        return [self._entries[index] for index in hits]


def _entries(items: Iterable[Any], source: str, place: Place) -> list[_Entry]:
    """Index entries; a scene given twice counts once, unless the two differ."""
    entries: dict[tuple[str, str], _Entry] = {}
    for number, value in enumerate(items, start=1):
        item = checked_item(value, source, number, place)
        footprint = None if item["geometry"] is None else shapely.force_2d(shape(item["geometry"]))
        entry = _Entry(item, footprint, *item_span(item))
        if entries.setdefault(identity(item), entry).item != item:
            raise CatalogError(
                f"The index {source} holds two different scenes '{item['id']}'; remove one of them."
            )
    return list(entries.values())


# --- answering in process -------------------------------------------------------------------------


def _check_bbox(bbox: Sequence[float]) -> None:
    west, south, east, north = bbox
    inside = -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90
    if not (inside and all(map(math.isfinite, bbox))):
        raise CatalogError(
            f"The bbox {','.join(map(str, bbox))} is not west,south,east,north in degrees."
        )


def _operators(condition: Any) -> set[str]:
    if isinstance(condition, Mapping):
        own = {str(condition["op"])} if "op" in condition else set()
        return own.union(*map(_operators, condition.values()))
    if isinstance(condition, (list, tuple)):
        return set().union(*map(_operators, condition))
    return set()


def _condition(question: Question) -> Any:
    if not question.filter:
        return None
    try:
        return cql2.Expr(dict(question.filter))
    except Exception as error:  # cql2 raises no narrower class
        raise CatalogError(f"The filter is not CQL2 JSON: {one_line(error)}.") from error


def _answers(entry: _Entry, question: Question, condition: Any) -> bool:
    """Whether a scene answers a question, its place apart."""
    cover = entry.item["properties"].get("eo:cloud_cover")
    limit = question.max_cloud_cover
    return (
        (question.start is None or entry.end >= question.start)
        and (question.end is None or entry.start <= question.end)
        and (not question.collections or entry.item.get("collection") in question.collections)
        and (not question.ids or entry.item["id"] in question.ids)
        and (limit is None or (isinstance(cover, (int, float)) and cover <= limit))
        and (condition is None or _matches(condition, entry.item))
    )


def _matches(condition: Any, item: Item) -> bool:
    try:
        return bool(condition.matches(item))
    except Exception as error:
        if "reduce expression" in str(error):  # a property is missing: unknown, so not true
            return False
        raise CatalogError(f"The filter cannot be applied: {one_line(error)}.") from error


def _sortable(value: Any) -> tuple[int, Any]:
    """Key that orders mixed values as a database does: missing ones last."""
    if value is None:
        return (3, 0)
    if isinstance(value, datetime):
        return (0, value)
    return (1, value) if isinstance(value, (int, float)) else (2, str(value))


# --- speaking to a server -------------------------------------------------------------------------


def _sort_clause(key: SortKey) -> dict[str, str]:
    field, direction = key
    return {
        "field": field if field in _TOP_LEVEL else f"properties.{field}",
        "direction": direction,
    }


def _both(first: Mapping[str, Any], second: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"op": "and", "args": [first, second]} if second else dict(first)


@contextlib.contextmanager
def _speaking_to(location: str) -> Iterator[None]:
    """Turn what goes wrong with a server into one sentence; what it cannot do is an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingLink)
            for silent_failure in (DoesNotConformTo, NoConformsTo, FallbackToPystac):
                warnings.simplefilter("error", silent_failure)
            yield
    except DoesNotConformTo as error:
        if "ITEM_SEARCH" in error.args:
            raise _not_searchable(location) from error
        raise CatalogError(
            f"The catalogue {location} says that it cannot do this part of the question: "
            f"{', '.join(map(str, error.args))}; leave it out or use another catalogue."
        ) from error
    except (NoConformsTo, FallbackToPystac) as error:
        raise _not_searchable(location) from error
    except (APIError, RequestException) as error:
        raise CatalogError(
            f"The catalogue {location} did not answer the question: {one_line(error)}; "
            "check the address and the network, then run this again."
        ) from error
    except (pystac.STACError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(
            f"The catalogue {location} answered with something that is not STAC: {one_line(error)}."
        ) from error


def _not_searchable(location: str) -> CatalogError:
    return CatalogError(
        f"The catalogue {location} is not a STAC API that can be searched; give the URL of an API's "
        "landing page, or an index made with `landcover index`."
    )
