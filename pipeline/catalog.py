"""Catalogues of scenes: a STAC API on the network or an index file, asked the same question."""

import contextlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cql2
import numpy as np
import pystac
import shapely
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.warnings import DoesNotConformTo, FallbackToPystac, MissingLink, NoConformsTo
from requests.exceptions import RequestException
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from landcover.errors import CatalogError
from pipeline.api_reader import ApiReader, next_link
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
    shown_address,
)  # fmt: skip
from pipeline.providers import provider_named, providers
from pipeline.question import Question, SortKey

_PAGE = 100  # Earth Search, a 6 MB lambda, fails at 250 long items
_TOP_LEVEL = ("id", "collection")  # sort fields that are not properties
_MOST_SCENES = 100_000  # of one answer, held in memory
_MOST_EMPTY = 20  # pages in a row


class Catalog(Protocol):
    """A place that answers questions about scenes."""

    @property
    def location(self) -> str:
        """URL or file path, as it may be shown: without user, password or key."""

    @property
    def local(self) -> bool:
        """Whether it is a file of the user's own."""

    @property
    def sorts(self) -> bool:
        """Whether answers come in the order asked for."""

    @property
    def doubt(self) -> str:
        """What the last answer leaves in doubt, a sentence; empty where nothing."""

    def search(self, question: Question) -> list[Item]:
        """Scenes that answer a question; raises CatalogError where it cannot be answered."""

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""

    def holdings(self) -> str:
        """What the catalogue holds in all, as the end of a sentence; empty where not known."""


def open_catalog(location: str) -> Catalog:
    """Catalogue at a STAC API URL, of a known provider's name, or of an index file.

    An index file ends in .parquet, .ndjson or .json.
    Raises CatalogError where the location is none of these, or the file cannot be read.
    """
    if re.match(r"https?://", location, re.IGNORECASE):
        return ApiCatalog(location)
    if Path(location).suffix.lower() in READERS:
        return LocalCatalog(location)
    if (known := provider_named(location)) is not None:
        return ApiCatalog(known.url)
    names = ", ".join(provider.name for provider in providers())
    raise CatalogError(
        f"The catalogue '{shown_address(location)}' is neither a STAC API (an http or https URL, or one of "
        f"{names}) nor an index file (.parquet, .ndjson, .json); make an index of a folder "
        "of images with `landcover index`."
    )


class ApiCatalog:
    """A STAC API, asked by POST with retries; the connection is made by the first question."""

    def __init__(self, location: str) -> None:
        self._location, self._doubt = location, ""

    @property
    def location(self) -> str:
        """URL of the API's landing page, as it may be shown."""
        return shown_address(self._location)

    @property
    def local(self) -> bool:
        """Never: it is a server's."""
        return False

    @property
    def sorts(self) -> bool:
        """Whether the server says that it can sort."""
        return self._conforms(ConformanceClasses.SORT)

    @property
    def doubt(self) -> str:
        """That the server counts more scenes than it gave; some only guess, so it is no error."""
        return self._doubt

    def search(self, question: Question) -> list[Item]:
        """Scenes that answer a question, page by page, none twice.

        Raises CatalogError where the server fails, cannot do what is asked, repeats itself, or
        gives a scene that cannot be trusted.
        """
        self._doubt = ""
        answer, most = _Answer(self.location), min(question.limit or _MOST_SCENES, _MOST_SCENES)
        with _speaking_to(self._location):
            for page in self._pages(question):
                answer.take(page)
                if len(answer.found) >= most:
                    break
        if question.limit is not None:
            return list(answer.found.values())[: question.limit]
        if len(answer.found) >= most:
            raise CatalogError(
                f"The catalogue {self.location} has {most:,} such scenes or more; search a shorter "
                "period or a smaller region."
            )
        self._doubt = answer.doubt
        return list(answer.found.values())

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        with _speaking_to(self._location):
            return sorted(checked_name(c.id, self.location) for c in self._client.get_collections())

    def holdings(self) -> str:
        """Empty: an API does not say."""
        return ""

    @cached_property
    def _client(self) -> Client:
        client = Client.open(self._location, stac_io=ApiReader(self._location))
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

    def _pages(self, question: Question) -> Iterator[dict[str, Any]]:
        asked = self._client.search(**self._parameters(question))
        reader = ApiReader(self._location)  # each answer has its own bounds
        return reader.get_pages(asked.url, asked.method, asked.get_parameters())

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


@dataclass
class _Answer:
    """A server's answer as it comes, page by page."""

    source: str
    found: dict[tuple[str, str], Item] = field(default_factory=dict)
    pages: int = 0
    empty: int = 0
    """Pages without a scene, in a row."""
    given: int = 0
    """Scenes, those given twice included."""
    counted: int = 0
    """Scenes that match, as the server says."""

    def take(self, page: Mapping[str, Any]) -> None:
        """Add a page's scenes; CatalogError where it brings nothing new and leads on nevertheless."""
        known, features = len(self.found), page["features"]
        for number, feature in enumerate(features, start=1):
            item = checked_item(feature, self.source, number, remote_place)
            self.found.setdefault(identity(item), item)
        self.pages += 1
        self.empty = 0 if features else self.empty + 1
        self.given += len(features)
        self.counted = _counted(page)
        if len(self.found) == known and next_link(page):
            self._check_progress()

    def _check_progress(self) -> None:
        """A page without anything new may be empty, as where servers filter late; but not for ever."""
        if not self.empty:
            raise CatalogError(
                f"The catalogue {self.source} gives the same scenes again on page {self.pages} of its "
                "answer; search a shorter period."
            )
        if self.empty > _MOST_EMPTY:
            raise CatalogError(
                f"The catalogue {self.source} gives {self.empty} empty pages in a row and always "
                "another one; search a shorter period."
            )

    @property
    def doubt(self) -> str:
        """That fewer scenes came than the server counts."""
        if self.counted <= self.given:
            return ""
        return f"the catalogue {self.source} says that {self.counted:,} scenes match and gave {self.given:,}"


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

    @property
    def doubt(self) -> str:
        """Never any."""
        return ""

    def search(self, question: Question) -> list[Item]:
        """Scenes that answer a question, in the order of the question."""
        condition = _condition(question)
        found = [e for e in self._near(question.area) if _answers(e, question, condition)]
        for name, direction in reversed(question.order):
            found.sort(key=lambda e: _sortable(e.sort_value(name)), reverse=direction == "desc")
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


def _counted(page: Mapping[str, Any]) -> int:
    """Number of scenes that a server says match, 0 where it does not."""
    counted = page.get("numberMatched", (page.get("context") or {}).get("matched"))
    return counted if isinstance(counted, int) else 0


def _both(first: Mapping[str, Any], second: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"op": "and", "args": [first, second]} if second else dict(first)


@contextlib.contextmanager
def _speaking_to(location: str) -> Iterator[None]:
    """Turn what goes wrong with a server into one sentence; what it cannot do is an error."""
    shown = shown_address(location)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingLink)
            for silent_failure in (DoesNotConformTo, NoConformsTo, FallbackToPystac):
                warnings.simplefilter("error", silent_failure)
            yield
    except DoesNotConformTo as error:
        if "ITEM_SEARCH" in error.args:
            raise _not_searchable(shown) from error
        raise CatalogError(
            f"The catalogue {shown} says that it cannot do this part of the question: "
            f"{', '.join(map(str, error.args))}; leave it out or use another catalogue."
        ) from error
    except (NoConformsTo, FallbackToPystac) as error:
        raise _not_searchable(shown) from error
    except (APIError, RequestException) as error:
        raise CatalogError(
            f"The catalogue {shown} did not answer the question: {_said(error, location)}; "
            "check the address and the network, then run this again."
        ) from error
    except (
        pystac.STACError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise CatalogError(
            f"The catalogue {shown} answered with something that is not STAC: {_said(error, location)}."
        ) from error


def _said(error: BaseException, location: str) -> str:
    """What an error says in one line, without what the catalogue's address keeps to itself."""
    text = (str(error) or type(error).__name__).replace(location, shown_address(location))
    query = location.partition("?")[2]
    return one_line(ValueError(text.replace(query, "...") if query else text))


def _not_searchable(location: str) -> CatalogError:
    return CatalogError(
        f"The catalogue {location} is not a STAC API that can be searched; give the URL of an API's "
        "landing page, or an index made with `landcover index`."
    )
