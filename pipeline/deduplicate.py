"""One look counted once: where a granule was processed again, only the newest processing stays."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from landcover.harmonization import is_sentinel2, processing_baseline
from pipeline.items import Item, identity, item_span

# S2A_MSIL2A_20200717T221941_N0209_R029_T01LAC_20200717T234135; some providers leave out N0209
_SENTINEL2 = re.compile(
    r"(?P<satellite>S2[A-D])_MSI(?P<level>L1C|L2A)_\d{8}T\d{6}_(?:N(?P<baseline>\d{4})_)?R\d{3}"
    r"_T(?P<tile>\d\d[A-Z]{3})_(?P<made>\d{8}T\d{6})"
)
# S2A_28QCH_20200714_0_L2A, S2B_T01CCV_20191228T210521_L2A
_SENTINEL2_SHORT = re.compile(
    r"(?P<satellite>S2[A-D])_T?(?P<tile>\d{1,2}[A-Z]{3})_\d{8}(?:T\d{6})?_(?:\d+_)?(?P<level>L1C|L2A)"
)
# LC08_L2SP_028030_20200114_20200824_02_T1
_LANDSAT = re.compile(
    r"L[A-Z](?P<satellite>\d\d)_(?P<level>L\d)[A-Z]{2}_(?P<place>\d{6})_\d{8}_(?P<made>\d{8})"
    r"_(?P<collection>\d\d)_(?P<category>RT|T1|T2|A1|A2)"
)
# HLS.S30.T34VEL.2021014T221200.v2.0
_HLS = re.compile(
    r"HLS\.(?P<kind>[SL]30)\.T(?P<tile>\d\d[A-Z]{3})\.\d{7}T\d{6}\.v(?P<version>\d+\.\d+)"
)
_STARTED = re.compile(r"_S(\d{8}T\d{6})(?:_|$)")  # in the id of a Sentinel-2 datastrip

_GENERATED = ("s2:generation_time", "processing:datetime", "odc:processing_datetime")
_RECORDED = ("created", "published", "updated")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_OVERPASS = timedelta(minutes=45)
"""A satellite comes over a place once in an orbit of about 100 minutes: what is nearer is one look."""
_DAY = timedelta(days=1)
"""A Landsat comes back to its path and row after 16 days; some catalogues give the day alone."""
_COVERED = 0.95
"""Share of a scene's footprint that a newer processing must show to stand in for it: a tile may also
be cut in two between two datastrips, which are both needed."""


@dataclass(frozen=True)
class _Look:
    """A satellite's look at one place of a named grid, and which processing of it this is."""

    item: Item
    key: tuple[str, ...]
    """Equal for looks at one place by one satellite at one processing level."""
    name: str
    """The place and the satellite, for people."""
    apart: timedelta
    """Looks at the place less than this apart are one."""
    version: tuple[float, ...] = ()
    """Baseline, collection and tier, or version; greater is newer, -1 is not known."""
    version_name: str = ""
    made: datetime | None = None
    part: str = ""
    """Which part of the pass it is cut from, where known."""

    @property
    def rank(self) -> tuple[Any, ...]:
        """Greatest for the processing that stays."""
        properties = self.item["properties"]
        made = self.made or _latest(properties, _GENERATED) or _LONG_AGO
        recorded = _latest(properties, _RECORDED) or _LONG_AGO
        return self.version, made, recorded, self.item["id"], identity(self.item)


def deduplicate(items: Sequence[Item]) -> tuple[list[Item], list[dict[str, str]]]:
    """The items without those that a newer processing of the same granule stands in for.

    A granule is what one satellite saw of a tile (Sentinel-2, HLS), of a path and row (Landsat) or of
    a cell of another named grid in one overpass, at one processing level, in whatever collection.
    The newest baseline, collection, tier or version stays; of equal ones that which was generated last, then
    recorded last, then named last. Scenes that name no such place are all kept.
    Returns the items kept, in their order, and {id, by, reason} of each other one.
    """
    looks: dict[tuple[str, ...], list[_Look]] = defaultdict(list)
    for look in filter(None, map(_look, items)):
        looks[look.key].append(look)
    replaced = [pair for group in looks.values() if len(group) > 1 for pair in _replaced(group)]
    gone = {id(old.item) for old, _ in replaced}
    records = [
        {"id": str(old.item["id"]), "by": str(new.item["id"]), "reason": _reason(old, new)}
        for old, new in replaced
    ]
    return [item for item in items if id(item) not in gone], records


def _replaced(group: Iterable[_Look]) -> Iterator[tuple[_Look, _Look]]:
    """Pairs of an older processing and the one that stays."""
    kept: list[_Look] = []
    for look in sorted(group, key=lambda look: look.rank, reverse=True):
        newer = next((new for new in kept if _stands_in(new, look)), None)
        if newer is None:
            kept.append(look)
        else:
            yield look, newer


def _stands_in(new: _Look, old: _Look) -> bool:
    """Whether a newer processing of the same place shows all that an older one does."""
    parted = new.part and old.part and new.part != old.part
    apart = abs(item_span(new.item)[0] - item_span(old.item)[0])
    return not parted and apart < old.apart and _shows(_footprint(new.item), _footprint(old.item))


def _shows(new: BaseGeometry | None, old: BaseGeometry | None) -> bool:
    if new is None or old is None:
        return True
    return bool(new.intersection(old).area >= _COVERED * old.area)


def _footprint(item: Item) -> BaseGeometry | None:
    geometry = item.get("geometry")
    return None if geometry is None else shapely.make_valid(shape(geometry))


def _reason(old: _Look, new: _Look) -> str:
    """Why the older one goes, for the record of the run."""
    if old.version == new.version:
        why = "processed or recorded earlier"
    else:
        why = f"{old.version_name or 'not told'} before {new.version_name}"
    homes = [look.item.get("collection") or "none" for look in (old, new)]
    where = f" (collections {homes[0]}, {homes[1]})" if homes[0] != homes[1] else ""
    return f"{old.name}: {why}{where}"


# --- what an item says of its place ----------------------------------------------------------------


def _look(item: Item) -> _Look | None:
    properties = item["properties"]
    return (
        _hls(item)
        or (_sentinel2(item, properties) if is_sentinel2(properties) else None)
        or _landsat(item, properties)
        or _gridded(item, properties)
    )


def _sentinel2(item: Item, properties: Mapping[str, Any]) -> _Look | None:
    names = _texts(item["id"], properties, "s2:product_uri", "sentinel:product_id")
    said = _match(_SENTINEL2_SHORT, names) | _match(_SENTINEL2, names)
    tile = (_mgrs_tile(properties) or said.get("tile", "")).zfill(5)
    satellite = str(properties.get("platform") or "").lower() or _satellite(said)
    if not tile.strip("0") or not satellite:
        return None
    baseline = processing_baseline(properties)
    if baseline is None:
        baseline = int(said.get("baseline") or -100) / 100
    started = _STARTED.search(str(properties.get("s2:datastrip_id") or ""))
    return _Look(
        item,
        key=("sentinel-2", said.get("level") or _level(item), satellite, tile),
        name=f"T{tile} of {satellite}",
        apart=_OVERPASS,
        version=(baseline,),
        version_name=f"baseline {baseline:05.2f}" if baseline >= 0 else "",
        made=_moment(said.get("made")),
        part=started[1] if started else "",
    )


def _mgrs_tile(properties: Mapping[str, Any]) -> str:
    """MGRS tile as five or fewer characters, zone first; empty where not told."""
    code = str(properties.get("s2:mgrs_tile") or properties.get("grid:code") or "")
    if code:
        return code.removeprefix("MGRS-").upper()
    keys = ("utm_zone", "latitude_band", "grid_square")
    for prefix in ("mgrs:", "sentinel:"):
        if all(properties.get(prefix + key) for key in keys):
            return "".join(str(properties[prefix + key]) for key in keys)
    return ""


def _level(item: Item) -> str:
    """L1C or L2A by product type or collection; empty where not told."""
    told = f"{item['properties'].get('s2:product_type')} {item.get('collection')}".upper()
    return next((level for level in ("L1C", "L2A") if level[1:] in told), "")


def _satellite(said: Mapping[str, str]) -> str:
    return said["satellite"].lower().replace("s2", "sentinel-2") if said else ""


def _landsat(item: Item, properties: Mapping[str, Any]) -> _Look | None:
    names = _texts(item["id"], properties, "landsat:product_id", "landsat:landsat_product_id")
    said = _match(_LANDSAT, names)
    path, row = properties.get("landsat:wrs_path"), properties.get("landsat:wrs_row")
    told = path is not None and row is not None
    place = f"{str(path).zfill(3)}{str(row).zfill(3)}" if told else said.get("place", "")
    platform = said.get("satellite") or str(properties.get("platform") or "")
    satellite = re.sub(r"[^1-9]", "", platform)  # 08 and LANDSAT_8 are one
    if not place or not satellite:
        return None
    category = str(properties.get("landsat:collection_category") or said.get("category") or "")
    level = str(properties.get("landsat:correction") or said.get("level") or "")[:2]
    collection = int(said.get("collection", -1))
    return _Look(
        item,
        key=("landsat", level, satellite, place),
        name=f"{place} of landsat-{satellite}",
        apart=_DAY,
        version=(collection, float(category != "RT")),
        version_name=f"collection {collection} {category}",
        made=_moment(said.get("made")),
    )


def _hls(item: Item) -> _Look | None:
    said = _match(_HLS, [str(item["id"])])
    if not said:
        return None
    version = tuple(float(number) for number in said["version"].split("."))
    kind, tile = said["kind"], said["tile"]
    return _Look(
        item, ("hls", kind, tile), f"T{tile} of HLS {kind}", _OVERPASS, version, said["version"]
    )


def _gridded(item: Item, properties: Mapping[str, Any]) -> _Look | None:
    """A cell of any other grid: one look only within a collection, at one instant, of the same assets."""
    cell, satellite = properties.get("grid:code"), str(properties.get("platform") or "")
    if not cell:
        return None
    key = (*identity(item)[:1], str(cell), satellite, *sorted(item["assets"]))
    return _Look(item, key, f"{cell} of {satellite or 'one satellite'}", timedelta(seconds=1))


def _texts(name: Any, properties: Mapping[str, Any], *keys: str) -> list[str]:
    return [str(properties[key]) for key in keys if properties.get(key)] + [str(name)]


def _match(pattern: re.Pattern[str], texts: Iterable[str]) -> dict[str, str]:
    """Named parts of the first text that a pattern describes; empty where none does."""
    found = next(filter(None, map(pattern.search, texts)), None)
    return {} if found is None else {k: v for k, v in found.groupdict().items() if v is not None}


def _latest(properties: Mapping[str, Any], keys: Iterable[str]) -> datetime | None:
    moments = (_moment(properties.get(key)) for key in keys)
    return max((moment for moment in moments if moment is not None), default=None)


def _moment(text: Any) -> datetime | None:
    """A time in UTC; None where there is none or it cannot be read."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
