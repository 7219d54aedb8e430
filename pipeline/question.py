"""Questions to catalogues: what a scene must be, told without saying who is asked."""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import cql2
import shapely
from shapely.geometry import MultiPolygon, box
from shapely.geometry.base import BaseGeometry

from landcover.errors import CatalogError

SortKey = tuple[str, Literal["asc", "desc"]]


_NEWEST_FIRST: tuple[SortKey, ...] = (("datetime", "desc"),)

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


_NESTING = {"(": 1, ")": -1, "{": 1, "}": -1}
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_DEEPEST = 10


def parse_filter(text: str) -> dict[str, Any]:
    """CQL2 filter in its JSON form, from CQL2 text or JSON.

    Raises CatalogError where it is neither, or nested too deep: the parser's time doubles with each
    parenthesis that it does not find closed.
    """
    depth = list(itertools.accumulate(_NESTING.get(c, 0) for c in _QUOTED.sub("", text)))
    negations = len(re.findall(r"\bnot\b", text, re.IGNORECASE))
    if depth and (depth[-1] or max(depth) > _DEEPEST or min(depth) < 0 or negations > _DEEPEST):
        raise CatalogError(
            f"The filter {text[:80]!r} is not CQL2 that can be read: its parentheses do not match, or more than {_DEEPEST} lie within each other; "
            "write it simpler."
        )
    try:
        condition = cql2.Expr(json.loads(text) if text.lstrip().startswith("{") else text)
        condition.validate()
        return dict(condition.to_json())
    except Exception as error:  # cql2 raises no narrower class
        where = re.search(r"--> 1:(\d+)", str(error))  # its own words are a drawing of the place
        raise CatalogError(
            f"The filter {text[:80]!r} is not CQL2{f' from character {where[1]} on' if where else ''}; "
            "write it like: \"view:off_nadir\" < 5 AND platform = 'sentinel-2a'."
        ) from error


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
