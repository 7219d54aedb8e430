"""Polygons that hectares are asked for by: districts, parcels, catchments, read from any vector file."""

import hashlib
import unicodedata
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from landcover.errors import RegionError, SettingsError
from pipeline.region import WRONG_ENCODING

_LONGEST_ID = 200
_WHOLE = frozenset({"int16", "int32", "int64"})
_NO_NAME = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNREADABLE = (
    pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FieldError,
    pyogrio.errors.GeometryError, pyogrio.errors.FeatureError, shapely.errors.ShapelyError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Zones:
    """Zones by id, in the order of the file."""

    ids: tuple[str, ...]
    """Name of each zone, all different."""
    polygons: tuple[BaseGeometry, ...]
    """Polygon or multipolygon of each zone, valid, in `crs`, x first."""
    crs: pyproj.CRS
    path: Path
    """The file."""
    source: str
    """File and layer, for messages."""
    notes: tuple[str, ...] = ()
    """What was repaired, united or left out, in sentences."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ids, CRS and coordinates: what a result depends on."""
        digest = hashlib.sha256(repr((self.ids, self.crs.to_wkt())).encode())
        for polygon in self.polygons:
            digest.update(shapely.to_wkb(polygon))
        return digest.hexdigest()


def read_zones(path: Path, zone_id: str | None, layer: str | None = None) -> Zones:
    """Read the zones of a vector file, in any CRS.

    zone_id: column that names them. layer: the one to read; needed where the file has several layers of
    polygons. Features of one id are one zone. Features without geometry or area are left out, polygons
    that cross themselves repaired; both with a note.
    Raises SettingsError where the layer or column is not there, RegionError where the file is no vector
    file, has no CRS, or holds what is no polygon or has no id.
    """
    if not path.exists():
        raise RegionError(f"There is no file {path}; give the zones as a vector file of polygons.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # measured points and the like; refused below
            name = _layer(path, layer)
            kind = _column_kind(path, name, zone_id)
            frame = pyogrio.read_dataframe(path, layer=name, columns=[zone_id], force_2d=True)
            values = frame[zone_id].tolist()
            # Beside a gap the frame has floats, which do not tell long numbers apart.
            if kind in _WHOLE:
                values = _exact(path, name, str(zone_id))
    except _UNREADABLE as error:
        raise RegionError(f"{path} cannot be read as a vector file: {_line(error)}.") from error
    except UnicodeDecodeError as error:
        raise RegionError(f"{path} {WRONG_ENCODING}") from error
    where = f"{path}, layer {_shown(name)}"
    if frame.crs is None:
        raise RegionError(
            f"{where} has no coordinate reference system; set it (in QGIS: Layer, Set CRS) and save again."
        )
    ids = _ids(values, where, str(zone_id))
    found, notes = _gather(ids, list(frame.geometry), where)
    return Zones(
        tuple(found), tuple(found.values()), pyproj.CRS(frame.crs), path, where, tuple(notes)
    )


def _line(error: Exception) -> str:
    return _shown(" ".join(str(error).split())).rstrip(".")


def _layer(path: Path, wanted: str | None) -> str:
    layers = {str(name): kind for name, kind in pyogrio.list_layers(path)}
    listed = ", ".join(f"{_shown(name)} ({kind or 'no geometry'})" for name, kind in layers.items())
    if wanted is not None:
        if wanted not in layers:
            raise SettingsError(f"{path} has no layer '{wanted}'; it has {listed or 'none'}.")
        return wanted
    found = [name for name, kind in layers.items() if kind and _may_hold_polygons(kind)]
    if not found:
        raise RegionError(f"{path} has no layer of polygons; it has {listed or 'no layer'}.")
    if len(found) > 1:
        raise SettingsError(
            f"{path} has {len(found)} layers of polygons ({', '.join(map(_shown, found))}); name one by --zone-layer."
        )
    return found[0]


def _may_hold_polygons(kind: str) -> bool:
    return "Polygon" in kind or "Surface" in kind or kind in {"Unknown", "GeometryCollection"}


def _exact(path: Path, layer: str, column: str) -> list[Any]:
    """Values of a column as they are stored, None where there is none."""
    _, table = pyogrio.read_arrow(path, layer=layer, columns=[column], read_geometry=False)
    return list(table.column(0).to_pylist())


def _column_kind(path: Path, layer: str, zone_id: str | None) -> str:
    """Type of the column of ids; SettingsError where it is not there."""
    info = pyogrio.read_info(path, layer=layer)
    columns = [str(column) for column in info["fields"]]
    if zone_id is None or zone_id not in columns:
        what = "--zone-id says which column names the zones" if zone_id is None else (
            f"there is no column '{zone_id}'"
        )  # fmt: skip
        raise SettingsError(
            f"{path}, layer {layer}: {what}; it has {', '.join(map(_shown, columns)) or 'no column at all'}."
        )
    if info["geometry_type"] is None:
        raise RegionError(f"{path}, layer {layer} is a table without geometry; zones are polygons.")
    return str(info["dtypes"][columns.index(zone_id)])


def _ids(values: list[Any], where: str, column: str) -> list[str]:
    """Ids as text, empty where there is none."""
    ids = [_text(value) for value in values]
    for number, text in enumerate(ids, start=1):
        if len(text) > _LONGEST_ID or not is_name(text):
            raise RegionError(
                f"{where}, feature {number}: the column '{column}' holds {text[:40]!r}, which is no name: "
                f"give {_LONGEST_ID} characters at most, on one line."
            )
    return ids


def is_name(text: str) -> bool:
    """Whether a text has no line break, control or direction-changing character, and no broken one."""
    return all(unicodedata.category(c) not in _NO_NAME and c not in _TURNING for c in text)


def _shown(text: object) -> str:
    """A name from a file, fit for a sentence."""
    return "".join(
        c if is_name(c) else "\N{REPLACEMENT CHARACTER}" for c in str(text)[:_LONGEST_ID]
    )


def _text(value: Any) -> str:
    """An id as text: whole numbers without a point, nothing for a missing or blank one."""
    if value is None or value != value:  # noqa: PLR0124 - NaN and NaT
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if str(value).strip() else ""


def _gather(
    ids: list[str], geometries: list[BaseGeometry | None], where: str
) -> tuple[dict[str, BaseGeometry], list[str]]:
    """Polygons by id, and what was done to them in sentences."""
    parts: dict[str, list[BaseGeometry]] = {}
    notes: dict[str, list[str]] = {}
    for number, (name, geometry) in enumerate(zip(ids, geometries, strict=True), start=1):
        sound, note = _sound(geometry, f"{where}, feature {number}")
        if name and note:
            notes.setdefault(note, []).append(name)
        if name and sound is not None:
            parts.setdefault(name, []).append(sound)
    if several := [name for name, found in parts.items() if len(found) > 1]:
        notes["several features, which were united"] = several
    if not parts:
        raise RegionError(
            f"{where} holds no polygon with an area and a name; it needs at least one."
        )
    polygons = {
        name: shapely.union_all(found) if len(found) > 1 else found[0]
        for name, found in parts.items()
    }
    said = [f"{_listed(names)}: {note}." for note, names in notes.items()]
    if nameless := ids.count(""):
        said.append(f"{nameless} of {len(ids)} features have no zone id and were left out.")
    return polygons, said


def _listed(names: list[str], most: int = 5) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"Zone{'s' if len(names) > 1 else ''} " + ", ".join(names[:most]) + more


def _sound(geometry: BaseGeometry | None, where: str) -> tuple[BaseGeometry | None, str]:
    """The valid polygon of a feature, and what was done to it; None where there is none to be had."""
    if geometry is None or geometry.is_empty:
        return None, "a feature without geometry was left out"
    if geometry.geom_type not in {"Polygon", "MultiPolygon"}:
        raise RegionError(
            f"{where} is a {geometry.geom_type}; zones are polygons (buffer it first, or choose another "
            "layer by --zone-layer)."
        )
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise RegionError(f"{where} has coordinates that are not finite; repair or delete it.")
    note = "" if geometry.is_valid else "a polygon that crossed itself was repaired"
    sound = geometry if geometry.is_valid else _repaired(geometry)
    if sound.area == 0:
        return None, "a feature without area was left out"
    return sound, note


def _repaired(geometry: BaseGeometry) -> BaseGeometry:
    """Valid polygons of the same ground: each part by itself, so that what parts share stays and counts once."""
    parts = [_polygons(shapely.make_valid(part)) for part in shapely.get_parts(geometry)]
    return shapely.union_all(parts) if len(parts) > 1 else parts[0]


def _polygons(geometry: BaseGeometry) -> BaseGeometry:
    """The polygons of what a repair made; lines and points fall away."""
    parts = shapely.get_parts(geometry)
    if geometry.geom_type == "GeometryCollection":
        parts = shapely.get_parts(parts)
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])
