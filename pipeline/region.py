"""A region: where to map, and what is special there. Read from a name, a file or four numbers."""

import math
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

import pyogrio
import pyogrio.errors
import shapely
import yaml
from geopandas import GeoSeries
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)  # fmt: skip
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from landcover.antimeridian import split_at_antimeridian
from landcover.compositing import METHODS
from landcover.errors import CatalogError, LandcoverError, RegionError
from landcover.period import Period
from pipeline.image_file import DRIVERS, read_image
from pipeline.items import read_index

REGIONS = Path("regions")
"""Folder in which `landcover run NAME` looks for NAME.yml."""

WRONG_ENCODING = (
    "holds text that is not in the encoding that it says; write the right one, like ISO-8859-1, into the .cpg "
    "file beside it."
)
"""What a vector file is told that cannot be read, after its name."""

_LONGEST_NAME = 100
_WIDEST = 180
_INDEXES = frozenset({".parquet", ".geoparquet", ".ndjson"})
_STEP = 0.01  # of the longer side, between points: what is left of a side's bend is 1/10,000 of it
_BBOX = re.compile(r"\s*[-+\d.eE]+(\s*,\s*[-+\d.eE]+){3}\s*")


def _read_period(value: Any) -> Any:
    """YAML gives an unquoted day as a date."""
    return Period.parse(str(value)) if isinstance(value, str | date) else value


class Region(BaseModel):
    """Where to map, and the settings that belong to the place. Fields left out take the run's."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    """Names the output folder: letters, digits, dot, dash, underscore."""
    footprint: BaseGeometry
    """Polygons, EPSG:4326, longitude first."""
    source: str = ""
    """Where it was read from, so that two regions of one name are told apart."""
    period: Annotated[Period | None, BeforeValidator(_read_period)] = None
    """Days from which scenes are taken."""
    catalog: str | None = None
    """STAC API address, or a local index (.parquet, .ndjson)."""
    collections: tuple[str, ...] | None = None
    """STAC collections to search."""
    max_cloud_cover: float | None = Field(default=None, ge=0, le=100)
    """Scenes cloudier than this are left out, percent."""
    model: Path | None = None
    """Checkpoint, .safetensors."""
    crs: str | None = None
    """CRS of the output; chosen by the place and the images when left out."""
    resolution: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Pixel size of the output in units of its CRS, metres for UTM; that of the images when left out."""
    filter: dict[str, Any] | str | None = None
    """CQL2 expression, JSON or text, that scenes must fulfil."""
    method: str | None = None
    """How one image is made of many: one of `landcover.compositing.METHODS`."""
    cloud_buffer: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Metres around clouds and shadows that are left out too."""
    hole_budget: float | None = Field(default=None, ge=0, le=100)
    """Share of the reads that may fail before the run does, percent."""

    @field_validator("method")
    @classmethod
    def _check_method(cls, value: str | None) -> str | None:
        if value is not None and value not in METHODS:
            raise RegionError(f"The method '{value}' is not one of {', '.join(METHODS)}.")
        return value

    @model_validator(mode="after")
    def _check_resolution(self) -> Self:
        size = self.resolution
        if (size is None or size >= 1) and self.crs and _is_geographic(self.crs):
            said = (
                "No resolution is given, and the usual 10"
                if size is None
                else f"The resolution {size:g}"
            )
            raise RegionError(
                f"{said} means degrees in {self.crs}; give the pixel size in degrees (10 m is about "
                "0.0001), or leave the CRS out."
            )
        return self

    @property
    def geojson(self) -> dict[str, Any]:
        """The footprint as a GeoJSON geometry."""
        return dict(mapping(self.footprint))


def load_region(text: str) -> Region:
    """Find the region that a user means.

    text: a name under `regions/`, a YAML file, a GeoJSON / GeoPackage / shapefile, `W,S,E,N` in
    degrees (W > E crosses the antimeridian), or the images themselves: an index made by `landcover
    index`, whose scenes' outlines are the footprint and which is the catalogue, or one GeoTIFF or
    JPEG 2000, whose outline is the footprint and whose path is the catalogue. Raises RegionError,
    CatalogError or RasterError with the reason where it cannot be used.
    """
    if _BBOX.fullmatch(text):
        return _from_box(text)
    path = Path(text)
    if not path.exists() and not path.suffix:
        path = REGIONS / f"{text}.yml"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in REGIONS.glob("*.yml"))) or "none"
            raise RegionError(
                f"There is no region '{text}': regions/ holds {known}; give one of these, a file, "
                "or W,S,E,N in degrees."
            )
    if not path.exists():
        raise RegionError(f"There is no region file {path}; check the path.")
    if path.suffix.lower() in {".yml", ".yaml"}:
        return _from_yaml(path)
    readers = dict.fromkeys(_INDEXES, _index_footprint) | dict.fromkeys(DRIVERS, _image_footprint)
    reader = readers.get(path.suffix.lower())
    return Region(
        name=_slug(path.stem),
        footprint=(reader or read_footprint)(path),
        source=str(path.resolve()),
        catalog=str(path) if reader else None,
    )


def _index_footprint(path: Path) -> BaseGeometry:
    """The union of the outlines of an index's scenes."""
    try:
        outlines = [_split(shape(item["geometry"]), str(path)) for item in read_index(path)]
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise CatalogError(
            f"The index {path} has a scene without a usable outline; make it again with `landcover index`."
        ) from error
    union: BaseGeometry = shapely.union_all([part for part in outlines if part.area > 0])
    if union.is_empty:
        raise CatalogError(
            f"The index {path} holds no scene that covers an area; make it again with `landcover index`."
        )
    return union


def _image_footprint(path: Path) -> BaseGeometry:
    image = read_image(path, is_band=True)
    if image is None:
        raise AssertionError(f"{path} was said to be a band, so it is imagery")
    return image.footprint


def _is_geographic(crs: str) -> bool:
    """Whether a CRS is in degrees; an unknown one is told when the grid is made."""
    try:
        return bool(CRS(crs).is_geographic)
    except CRSError:
        return False


def _from_box(text: str) -> Region:
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise RegionError(
            f"The box {text} is not four numbers; write it W,S,E,N in degrees, like 15,48,15.1,48.1."
        ) from error
    name = "bbox_" + "_".join(f"{value:.10g}" for value in (west, south, east, north))
    return Region(name=name, footprint=bbox_footprint(west, south, east, north), source="bbox")


def bbox_footprint(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """Rectangle in degrees, in two parts where west > east: it then crosses the antimeridian.

    Raises RegionError where the corners are out of order or range.
    """
    numbers = f"{west:g},{south:g},{east:g},{north:g}"
    if not all(map(math.isfinite, (west, south, east, north))):
        raise RegionError(f"The box {numbers} has a number that is not finite.")
    _check_range((west, south, east, north), f"The box {numbers}")
    if west == east or south >= north:
        raise RegionError(
            f"The box {numbers} is empty: write it W,S,E,N in degrees with W < E and S < N."
        )
    if west < east:
        return box(west, south, east, north)
    if (width := east + 360 - west) > _WIDEST:
        raise RegionError(
            f"The box {numbers} would reach {width:g} degrees around the Earth: write it W,S,E,N in "
            "degrees with W < E; only a box that crosses the 180 degree meridian has W > E."
        )
    halves = [box(west, south, 180, north), box(-180, south, east, north)]
    return shapely.union_all([half for half in halves if half.area > 0])


def read_footprint(path: Path) -> BaseGeometry:
    """The union of all polygons in a vector file, in EPSG:4326.

    Sides that are straight in a projection are followed as the curves that they are in degrees. A
    side of more than 180 degrees of longitude means the shorter way, across the antimeridian; there,
    and where longitudes go on beyond 180, the polygon is split.
    Raises RegionError for a file that is not a vector file, without CRS, with several layers,
    without polygons, or with an invalid or misplaced geometry.
    """
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) > 1:
            raise RegionError(
                f"{path} has {len(layers)} layers ({', '.join(layers)}); save the one you mean "
                "as a file of its own."
            )
        layer = layers[0] if layers else 0
        frame = pyogrio.read_dataframe(path, layer=layer, columns=[], force_2d=True)
    except (
        pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.errors.ShapelyError
    ) as error:  # fmt: skip
        raise RegionError(f"{path} cannot be read as a vector file: {error}.") from error
    except UnicodeDecodeError as error:
        raise RegionError(f"{path} {WRONG_ENCODING}") from error
    geometries = getattr(frame, "geometry", None) if hasattr(frame, "crs") else None
    if geometries is None or geometries.is_empty.all() or geometries.isna().all():
        raise RegionError(f"{path} holds no geometry; it needs at least one polygon.")
    if frame.crs is None:
        raise RegionError(
            f"{path} has no coordinate reference system; set it (in QGIS: Layer, Set CRS) and save again."
        )
    for number, geometry in enumerate(geometries.dropna(), start=1):
        _check_polygon(geometry, f"{path}, feature {number}")
    if CRS(frame.crs).is_geographic:
        _check_range(geometries.total_bounds, str(path), east_end=360)
    try:
        degrees = _in_degrees(geometries).dropna()
    except ProjError as error:
        raise RegionError(
            f"{path} has a CRS that is not bound to the Earth; set the right one (in QGIS: Layer, Set CRS) and "
            "save again."
        ) from error
    union: BaseGeometry = shapely.union_all([_split(part, str(path)) for part in degrees])
    return union


def _split(geometry: BaseGeometry, where: str) -> BaseGeometry:
    """Polygons in EPSG:4326 as a footprint; RegionError where they are not on the Earth."""
    try:
        footprint = split_at_antimeridian(geometry)
    except RegionError as error:
        raise RegionError(f"{where}: {error}") from error
    _check_range(footprint.bounds, where)
    return footprint


def _in_degrees(geometries: GeoSeries) -> GeoSeries:
    """Geometries in EPSG:4326; a projection bends their sides, so these get points between."""
    crs = CRS(geometries.crs)
    if crs.is_projected:
        west, south, east, north = geometries.total_bounds
        kilometre = 1000 / crs.axis_info[0].unit_conversion_factor
        step = min(max(east - west, north - south) * _STEP, kilometre)
        geometries = geometries.segmentize(step)
    return geometries.to_crs("EPSG:4326")


def _check_polygon(geometry: BaseGeometry, where: str) -> None:
    if geometry.geom_type not in {"Polygon", "MultiPolygon"}:
        raise RegionError(
            f"{where} is a {geometry.geom_type}; a region is made of polygons (buffer it first)."
        )
    if not geometry.is_valid:
        raise RegionError(
            f"{where} crosses itself: {shapely.is_valid_reason(geometry)}; "
            "repair it (in QGIS: Fix geometries) and try again."
        )
    if geometry.area == 0:
        raise RegionError(f"{where} has no area; draw a polygon around the region.")


def _check_range(
    bounds: tuple[float, float, float, float], where: str, east_end: float = 180
) -> None:
    west, south, east, north = bounds
    if not all(map(math.isfinite, bounds)):
        raise RegionError(f"{where} has coordinates that are not on the Earth.")
    if (south < -90 or north > 90) and max(abs(west), abs(east)) <= 90:
        raise RegionError(
            f"{where} reaches latitude {max(north, -south, key=abs):g}: longitude and latitude "
            "are swapped; longitude comes first."
        )
    if south < -90 or north > 90 or west < -180 or east > east_end:
        raise RegionError(
            f"{where} spans longitude {west:g} to {east:g} and latitude {south:g} to {north:g}; "
            "degrees run from -180 to 180 and -90 to 90 (is the CRS right?)."
        )


def _from_yaml(path: Path) -> Region:
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a day that does not exist
        raise RegionError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(fields, dict) or "footprint" not in fields:
        raise RegionError(f"{path} has no 'footprint'; see regions/ for an example.")
    fields = {"name": _slug(path.stem)} | fields | {"source": str(path.resolve())}
    fields["footprint"] = _footprint_field(fields["footprint"], path)
    for key in ("model", "catalog"):
        fields[key] = _beside(path, fields.get(key))
    try:
        return _validated(fields)
    except LandcoverError as error:
        raise RegionError(f"{path}: {error}") from error


def with_settings(region: Region, **given: Any) -> Region:
    """The region with other settings; RegionError where one cannot be."""
    return _validated({**dict(region), **given})


def _validated(fields: dict[str, Any]) -> Region:
    try:
        return Region.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RegionError(f"'{where}': {first['msg']} (found {first['input']!r}).") from error


def _footprint_field(value: Any, path: Path) -> BaseGeometry:
    """A box [W, S, E, N], the path of a vector file beside the YAML, or a GeoJSON geometry."""
    try:
        match value:
            case [west, south, east, north]:
                return _box_field(path, float(west), float(south), float(east), float(north))
            case str():
                return read_footprint(path.parent / value)
            case {"type": _, "coordinates": _}:
                geometry = shape(value)
                _check_polygon(geometry, str(path))
                _check_range(geometry.bounds, str(path), east_end=360)
                return _split(geometry, str(path))
    except (TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise RegionError(f"{path}: the footprint cannot be read: {error}.") from error
    raise RegionError(
        f"{path}: the footprint is {value!r}; write [W, S, E, N] in degrees, a file name, or a "
        "GeoJSON geometry."
    )


def _box_field(path: Path, *corners: float) -> BaseGeometry:
    try:
        return bbox_footprint(*corners)
    except RegionError as error:
        raise RegionError(f"{path}: {error}") from error


def _beside(path: Path, value: Any) -> Any:
    """A relative file named in a region file is meant relative to that file."""
    if isinstance(value, str) and "://" not in value and (path.parent / value).exists():
        return str(path.parent / value)
    return value


def _slug(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("._-")
    return name[:_LONGEST_NAME] or "region"
