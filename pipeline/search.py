"""Search: which scenes there are over a footprint in a period, frozen to a file before any is read."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

from shapely.geometry.base import BaseGeometry

from landcover.errors import CatalogError
from landcover.period import Period
from pipeline.artifacts import Report, write_text
from pipeline.catalog import Catalog, Question, open_catalog
from pipeline.items import Item, item_span

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
"""The catalogue of a region that names none: Sentinel-2 in public buckets, no key needed."""

# Collection 1 is processed alike for all years; the older collection's offset flags are unreliable.
_EARTH_SEARCH_COLLECTIONS = ("sentinel-2-c1-l2a",)
_NAMES_SHOWN = 12
_LISTED = 1000  # scenes looked through for the nearest date where a server cannot sort
_TICK = timedelta(microseconds=1)


def search(
    *,
    catalog: str,
    footprint: BaseGeometry,
    period: Period,
    region: str,
    output: Path,
    collections: tuple[str, ...] | None = None,
    max_cloud_cover: float | None = None,
    report: Report = print,
) -> dict[str, Any]:
    """Write the scenes over a footprint in a period to `output` as a FeatureCollection of STAC items.

    footprint: EPSG:4326. region: its name, for messages. collections: default are all of a local
    index, and those of Collection 1 Sentinel-2 at Earth Search. max_cloud_cover: percent, by scene;
    a scene that does not say how cloudy it is stays.
    The items are sorted by time, then id; equal answers give equal bytes. Returns
    {scenes, dates, catalog, collections, ids, cloud_cover: [least, most] or None}.
    Raises CatalogError where the catalogue cannot be searched, or holds no such scene: then the
    message names the nearest dates that do exist.
    """
    source = open_catalog(catalog)
    start, end = period.bounds()
    question = Question(
        intersects=footprint, start=start, end=end,
        collections=collections or _default_collections(source),
    )  # fmt: skip
    found = source.search(question)
    if not found:
        raise CatalogError(_nothing_found(source, question, region, period))
    # Filtered here, not by the question: a catalogue's `<=` leaves out scenes of unknown cloud cover.
    items = [item for item in found if not _too_cloudy(item, max_cloud_cover)]
    if not items:
        least = min(item["properties"]["eo:cloud_cover"] for item in found)
        raise CatalogError(
            f"All {len(found)} scenes of {region} in {period} in the catalogue {source.location} are "
            f"cloudier than {max_cloud_cover:g} % (the clearest has {least:g} %); raise "
            "max_cloud_cover in the region file or choose another period."
        )
    items.sort(key=lambda item: (item_span(item), item["id"], item.get("collection") or ""))
    features = {"type": "FeatureCollection", "features": items}
    write_text(output, json.dumps(features, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    details = _details(items, catalog, question)
    report(f"search: {details['scenes']} scenes on {len(details['dates'])} dates")
    return details


def _too_cloudy(item: Item, limit: float | None) -> bool:
    cover = item["properties"].get("eo:cloud_cover")
    return limit is not None and cover is not None and cover > limit


def _default_collections(source: Catalog) -> tuple[str, ...]:
    if source.location.rstrip("/") == EARTH_SEARCH:
        return _EARTH_SEARCH_COLLECTIONS
    if source.local:
        return ()
    names = source.collections()
    if len(names) == 1:
        return tuple(names)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    raise CatalogError(
        f"The catalogue {source.location} has {len(names)} collections; name those to use with "
        f"--collection NAME, or as `collections:` in the region file: {shown or 'none'}."
    )


def _details(items: Sequence[Item], catalog: str, question: Question) -> dict[str, Any]:
    clouds = [c for i in items if (c := i["properties"].get("eo:cloud_cover")) is not None]
    return {
        "scenes": len(items),
        "dates": sorted({_day(item).isoformat() for item in items}),
        "catalog": catalog,
        "collections": list(question.collections)
        or sorted({i.get("collection") or "" for i in items}),
        "ids": [item["id"] for item in items],
        "cloud_cover": [min(clouds), max(clouds)] if clouds else None,
    }


def _day(item: Item) -> date:
    return item_span(item)[0].date()


# --- when there is nothing ------------------------------------------------------------------------


def _nothing_found(source: Catalog, question: Question, region: str, period: Period) -> str:
    """One sentence: what was asked of whom, and what would have been found instead."""
    asked = f"No scene of {region} in {period} in the catalogue {source.location}"
    if question.collections:
        asked += f" (collection {', '.join(question.collections)})"
    dates = " and ".join(
        filter(None, (_nearest(source, question, side) for side in ("desc", "asc")))
    )
    if dates:
        return f"{asked}; the nearest scenes are of {dates}: choose a period that holds one."
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
