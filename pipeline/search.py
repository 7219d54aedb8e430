"""Search: which scenes there are over a footprint in a period, frozen to a file before any is read."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import shapely
from shapely.geometry.base import BaseGeometry

from landcover.errors import CatalogError
from landcover.period import Period
from pipeline.artifacts import Report, write_text
from pipeline.band_names import check_names
from pipeline.catalog import Catalog, open_catalog
from pipeline.coverage import Coverage, Observed, coverage
from pipeline.deduplicate import deduplicate
from pipeline.items import Item, item_span, shown_address
from pipeline.plan import counted, plan
from pipeline.providers import provider_at
from pipeline.question import Question
from pipeline.scenes import Scene, check_one_kind, read_scene

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
"""The catalogue of a region that names none: Sentinel-2 in public buckets, no key needed."""

_NAMES_SHOWN = 12
_LISTED = 1000  # scenes looked through for the nearest date where a server cannot sort
_TICK = timedelta(microseconds=1)


class NoSceneError(CatalogError):
    """The catalogue answers, and holds no scene for the question."""


def search(
    *,
    catalog: str,
    footprint: BaseGeometry,
    period: Period | None,
    region: str,
    output: Path,
    collections: tuple[str, ...] | None = None,
    max_cloud_cover: float | None = None,
    filter: Mapping[str, Any] | None = None,  # noqa: A002 - the word of CQL2 and of STAC
    bands: Sequence[str] | None = None,
    report: Report = print,
) -> dict[str, Any]:
    """Write the scenes over a footprint in a period to `output` as a FeatureCollection of STAC items.

    catalog: URL of a STAC API, name of a provider, or an index file. footprint: EPSG:4326. period:
    None for all that an index has. region: its name, for messages. collections: default are all of a
    local index, and those that a known provider is known for. max_cloud_cover: percent, by scene; a
    scene that does not say how cloudy it is stays. filter: CQL2 JSON. bands: common names; scenes
    that lack one are left out.
    Scenes that cannot be read and those that a newer processing stands in for are left out. The items
    are sorted by time, then id; equal answers give equal bytes. Returns {scenes, dates, catalog,
    collections, ids, cloud_cover: [least, most] or None, refused: [{id, reason}], superseded: [{id,
    by, reason}], coverage, plan: {scenes, dates, bytes, exact}}.
    Raises CatalogError where the catalogue cannot be searched, holds photographs beside scenes of
    reflectance, or holds no such scene: then the message names the nearest dates that do exist.
    """
    check_names(bands or ())
    source = open_catalog(catalog)
    start, end = _bounds(period, source)
    question = Question(
        intersects=footprint, start=start, end=end, filter=filter,
        collections=collections or _default_collections(source),
    )  # fmt: skip
    found = source.search(question)
    if not found:
        raise NoSceneError(_nothing_found(source, question, region, period))
    scenes, refused = _readable(found, bands)
    if not scenes:
        raise CatalogError(_none_readable(source, region, refused))
    items, superseded = deduplicate([item for item in found if _key(item) in scenes])
    # Filtered here, not by the question: a catalogue's `<=` leaves out scenes of unknown cloud cover.
    clear = [item for item in items if not _too_cloudy(item, max_cloud_cover)]
    if not clear:
        raise NoSceneError(_all_cloudy(source, items, region, period, max_cloud_cover))
    clear.sort(key=lambda item: (item_span(item), *_key(item)))
    chosen = [scenes[_key(item)] for item in clear]
    check_one_kind(chosen)
    seen = coverage(footprint, [Observed(scene.footprint, scene.day) for scene in chosen])
    _check_seen(seen, footprint, chosen, region)
    planned = plan(footprint, clear, chosen, seen, bands)
    features = {"type": "FeatureCollection", "features": clear}
    write_text(output, json.dumps(features, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    doubt = [source.doubt] if source.doubt else []
    for line in (*doubt, *_left_out(refused, superseded), seen.line(), planned.line()):
        report(f"search: {line}")
    return {
        **_facts(clear, chosen, catalog, question),
        "refused": refused,
        "superseded": superseded,
        "coverage": seen.details(),
        "plan": dataclasses.asdict(planned),
    }


def _bounds(period: Period | None, source: Catalog) -> tuple[Any, Any]:
    if period is not None:
        return period.bounds()
    if source.local:
        return None, None
    raise CatalogError(
        f"The catalogue {source.location} holds scenes of many years; give the period of those to "
        "use, like 2024-06-01/2024-08-31."
    )


def _default_collections(source: Catalog) -> tuple[str, ...]:
    if source.local:
        return ()
    if (provider := provider_at(source.location)) and provider.default_collections:
        return tuple(provider.default_collections)
    names = source.collections()
    if len(names) == 1:
        return tuple(names)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    raise CatalogError(
        f"The catalogue {source.location} has {len(names)} collections; name those to use with "
        f"--collection NAME, or as `collections:` in the region file: {shown or 'none'}."
    )


def _readable(
    items: Sequence[Item], bands: Sequence[str] | None
) -> tuple[dict[tuple[str, str], Scene], list[dict[str, str]]]:
    """Scenes that can be read, by id and collection, and {id, reason} of the others."""
    scenes, refused = {}, []
    for item in items:
        try:
            scenes[_key(item)] = read_scene(item, bands)
        except CatalogError as error:
            refused.append({"id": str(item["id"]), "reason": str(error)})
    return scenes, refused


def _key(item: Item) -> tuple[str, str]:
    return str(item["id"]), str(item.get("collection") or "")


def _too_cloudy(item: Item, limit: float | None) -> bool:
    cover = item["properties"].get("eo:cloud_cover")
    return limit is not None and cover is not None and cover > limit


def _check_seen(
    seen: Coverage, footprint: BaseGeometry, scenes: Sequence[Scene], region: str
) -> None:
    """Scenes that only touch the region show nothing of it; a small one may lie between samples."""
    if seen.days.any() or seen.unplaced:
        return
    shown = (shapely.make_valid(scene.footprint) for scene in scenes if scene.footprint)
    if not any(place.intersection(footprint).area for place in shown):
        raise NoSceneError(
            f"The {len(scenes)} scenes found for {region} only touch its border and show nothing of "
            "it; check the region or choose another period."
        )


def _left_out(refused: Sequence[Any], superseded: Sequence[Any]) -> list[str]:
    lines = []
    if refused:
        lines.append(
            f"{counted(len(refused), 'scene')} left out, the first because: {refused[0]['reason']}"
        )
    if superseded:
        number = counted(len(superseded), "scene")
        lines.append(f"{number} left out, since there is a newer processing of the same")
    return lines


def _facts(
    items: Sequence[Item], scenes: Sequence[Scene], catalog: str, question: Question
) -> dict[str, Any]:
    clouds = [c for i in items if (c := i["properties"].get("eo:cloud_cover")) is not None]
    return {
        "scenes": len(items),
        "dates": sorted({scene.day for scene in scenes}),
        "catalog": shown_address(catalog),
        "collections": list(question.collections)
        or sorted({i.get("collection") or "" for i in items}),
        "ids": [item["id"] for item in items],
        "cloud_cover": [min(clouds), max(clouds)] if clouds else None,
    }


# --- when there is nothing ------------------------------------------------------------------------


def _all_cloudy(
    source: Catalog,
    items: Sequence[Item],
    region: str,
    period: Period | None,
    limit: float | None,
) -> str:
    least = min(item["properties"]["eo:cloud_cover"] for item in items)
    return (
        f"All {len(items)} scenes of {_asked(region, period, source)} are cloudier than {limit:g} % "
        f"(the clearest has {least:g} %); raise max_cloud_cover in the region file or choose another "
        "period."
    )


def _none_readable(source: Catalog, region: str, refused: Sequence[Mapping[str, str]]) -> str:
    return (
        f"None of the {len(refused)} scenes of {region} in the catalogue {source.location} can be used; "
        f"the first because: {refused[0]['reason']}"
    )


def _asked(region: str, period: Period | None, source: Catalog) -> str:
    when = "" if period is None else f" in {period}"
    return f"{region}{when} in the catalogue {source.location}"


def _nothing_found(source: Catalog, question: Question, region: str, period: Period | None) -> str:
    """One sentence: what was asked of whom, and what would have been found instead."""
    asked = f"No scene of {_asked(region, period, source)}"
    if question.collections:
        asked += f" (collection {', '.join(question.collections)})"
    if question.filter:
        asked += " that passes the filter"
    sides: tuple[Literal["desc", "asc"], ...] = ("desc", "asc") if period else ()
    dates = " and ".join(day for side in sides if (day := _nearest(source, question, side)))
    if dates:
        return f"{asked}; the nearest scenes are of {dates}: choose a period that holds one."
    if question.filter or question.collections:
        wide = dataclasses.replace(question, filter=None, collections=(), limit=_LISTED)
        if others := source.search(wide):
            names = sorted({str(item.get("collection")) for item in others})
            return (
                f"{asked}, though it has {len(others)} others there then (collections {', '.join(names)}); change "
                "the filter or the collection."
            )
    holdings = source.holdings()
    return (
        f"{asked}: it has no scene over this footprint at any date"
        f"{f' ({holdings})' if holdings else ''}; check the region or use another catalogue."
    )


def _nearest(source: Catalog, question: Question, side: Literal["asc", "desc"]) -> str:
    """Date of the last scene before the period (side 'desc') or of the first after it ('asc')."""
    before = side == "desc"
    try:
        start = None if before or question.end is None else question.end + _TICK
        end = question.start - _TICK if before and question.start else None
    except OverflowError:  # the period reaches to where the calendar ends
        return ""
    question = dataclasses.replace(
        question,
        start=start,
        end=end,
        sortby=(("datetime", side),) if source.sorts else (),
        limit=1 if source.sorts else _LISTED,
    )
    items = source.search(question)
    if not items:
        return ""
    days = [_day(item) for item in items]
    return f"{max(days)} before" if before else f"{min(days)} after"


def _day(item: Item) -> date:
    return item_span(item)[0].date()
