"""Polygons as a file: GeoPackage with everything in it, GeoParquet, FlatGeobuf, or PMTiles."""

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyogrio.errors
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from landcover.antimeridian import lonlat_bounds
from landcover.area import ground_size
from landcover.errors import LandcoverError, RasterError, SettingsError
from landcover.legend import Legend
from landcover.outline import crs_name, grid_outline
from landcover.period import Period
from pipeline.artifacts import atomic_path
from pipeline.geopackage import Closing, Document, Layer, crs_text, gdal_settings, write_geopackage
from pipeline.geoparquet import write_geoparquet
from pipeline.lineage import STANDARD, lineage_xml
from pipeline.qgis_project import Image, Project, qgz

FORMATS = {"gpkg": ".gpkg", "parquet": ".parquet", "flatgeobuf": ".fgb", "pmtiles": ".pmtiles"}
"""Ending of a file by format; those that hold all of a polygon first."""
_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".pmtiles": "PMTiles"}
_EQUATOR = 40_075_016.7
"""Metres round the Earth, the width of the tile of zoom 0."""
_END = math.degrees(math.atan(math.sinh(math.pi)))
"""Latitude at which Web Mercator, a square, ends."""
_TURN = 360.0
_TILE_UNITS = 4096
_FINEST = 16
"""Zoom that no viewer needs to pass."""


@dataclass(frozen=True)
class MapContent:
    """What a map file is made of; its rows are read once."""

    layers: Sequence[Layer]
    """The polygons first, then tables."""
    legend: Legend
    """Classes."""
    grid: GeoBox
    """Grid of the class raster."""
    facts: Callable[[], Mapping[str, str]]
    """How the map was made; called when the polygons are written."""
    images: Sequence[Image] = ()
    """Rasters beside the file."""


def output_files(output: Path, formats: Sequence[str]) -> list[Path]:
    """The file asked for and, beside it, one in each further format; raises SettingsError for others.

    The first is the one to be written from the raster, the others can be made of it.
    """
    if output.suffix not in FORMATS.values():
        raise SettingsError(
            f"{output} has no ending of a map; give one of {', '.join(FORMATS.values())}."
        )
    if unknown := [name for name in formats if name not in FORMATS]:
        raise SettingsError(f"There is no format '{unknown[0]}'; choose of {', '.join(FORMATS)}.")
    endings = {output.suffix, *(FORMATS[name] for name in formats)}
    for ending in endings & set(_DRIVERS):
        _check_driver(_DRIVERS[ending])
    return [output.with_suffix(ending) for ending in FORMATS.values() if ending in endings]


def _check_driver(driver: str) -> None:
    if "w" not in pyogrio.list_drivers().get(driver, ""):
        raise SettingsError(
            f"The GDAL of this pyogrio cannot write {driver}; install pyogrio from PyPI, or leave the format out."
        )


def write_map(paths: Sequence[Path], content: MapContent) -> None:
    """Write the map to the first path, and from there to the others; the ending is the format.

    Each file appears whole or not at all. Raises RasterError where one cannot be written.
    """
    first, *others = paths
    if any(path.suffix == ".pmtiles" for path in paths):
        _check_tiles(content)  # before anything is written
    _WRITERS[first.suffix](first, content)
    for path in others:
        with _written(first, content.layers[0]) as layer:
            _WRITERS[path.suffix](path, replace(content, layers=[layer]))


@contextlib.contextmanager
def _written(path: Path, layer: Layer) -> Iterator[Layer]:
    """The polygons, as they were written, to be read again."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            yield replace(layer, rows=_plain_rows(file))
        return
    with pyogrio.open_arrow(path, layer=layer.name, use_pyarrow=True) as (about, rows):
        name = about["geometry_name"] or "wkb_geometry"
        yield replace(layer, rows=_renamed(rows, name))


def _plain_rows(file: pq.ParquetFile) -> pa.RecordBatchReader:
    """The rows of a GeoParquet file of ours, without their boxes."""
    schema = pa.schema([x for x in file.schema_arrow if x.name != "bbox"])
    batches = file.iter_batches(batch_size=10_000, columns=schema.names)
    rows = pa.RecordBatchReader.from_batches(schema.remove_metadata(), batches)
    return _renamed(rows, "geometry")


def _renamed(rows: pa.RecordBatchReader, geometry: str) -> pa.RecordBatchReader:
    """The rows with their geometry under our name, as plain binary."""
    schema = pa.schema(
        [
            pa.field("geom", x.type) if x.name == geometry else pa.field(x.name, x.type)
            for x in rows.schema
        ]
    )
    batches = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in rows)
    return pa.RecordBatchReader.from_batches(schema, batches)


# GeoPackage


def _write_geopackage(path: Path, content: MapContent) -> None:
    shown = sorted(content.layers, key=lambda layer: layer.name == "landcover")  # zones on top

    def closing() -> Closing:
        facts = content.facts()
        project = Project(path.name, map_title(facts), content.grid, shown, content.images, facts)
        return Closing(_documents(content, facts), qgz(project))

    write_geopackage(path, content.layers, closing)


def map_title(facts: Mapping[str, str]) -> str:
    """What the map is called."""
    parts = ["Land cover", *(facts[name] for name in ("region", "period") if name in facts)]
    return ", ".join(parts)


def _documents(content: MapContent, facts: Mapping[str, str]) -> list[Document]:
    """A metadata record of the file, then one of each table."""
    title = map_title(facts)
    place: dict[str, Any] = {
        "bounds": _bounds(content.grid), "days": _days(facts.get("period")),
    }  # fmt: skip
    about = (
        f"Land-cover classes as polygons, with areas; classes: {', '.join(content.legend.names)}."
    )
    crs = crs_name(CRS(content.grid.crs))
    whole = lineage_xml(title=title, abstract=about, facts=facts, crs=crs, **place)
    documents = [Document(whole, STANDARD)]
    for layer in content.layers:
        text = lineage_xml(
            title=f"{title}: {layer.name}", abstract=layer.description, facts=facts,
            **(place | {"crs": crs_name(CRS(layer.crs))} if layer.crs else {"days": place["days"]}),
        )  # fmt: skip
        documents.append(Document(text, STANDARD, layer.name))
    return documents


def _bounds(grid: GeoBox) -> tuple[float, float, float, float] | None:
    """Box of a grid in degrees; None where the grid has none, as beyond the edge of the Earth."""
    try:
        return lonlat_bounds(grid_outline(grid))
    except LandcoverError:
        return None


def _days(period: str | None) -> tuple[str, str] | None:
    if not period:
        return None
    days = Period.parse(period)
    return days.start.isoformat(), days.end.isoformat()


# GeoParquet


def _write_geoparquet(path: Path, content: MapContent) -> None:
    def about() -> dict[str, str]:
        texts = {"legend": content.legend.to_records(), "run": dict(content.facts())}
        return {f"landcover:{name}": json.dumps(value) for name, value in texts.items()}

    write_geoparquet(path, content.layers[0], about)


# FlatGeobuf and PMTiles, by GDAL


def _write_flatgeobuf(path: Path, content: MapContent) -> None:
    layer = content.layers[0]
    options = {"TITLE": map_title(content.facts()), "DESCRIPTION": layer.description}
    with _whole(path, layer) as partial:
        _write(partial, layer, "FlatGeobuf", layer_options=options | {"SPATIAL_INDEX": "YES"})


def _check_tiles(content: MapContent) -> None:
    if not content.layers[0].count:
        raise SettingsError("The map has no polygon, and tiles need one; leave pmtiles out.")
    zooms(content.grid)


def _write_pmtiles(path: Path, content: MapContent) -> None:
    layer = content.layers[0]
    options = {
        "NAME": map_title(content.facts()),
        "DESCRIPTION": layer.description,
        **zooms(content.grid),
    }
    with _whole(path, layer) as partial, warnings.catch_warnings():
        # Crowded tiles get coarser coordinates; the documents say that tiles are to look at.
        warnings.filterwarnings("ignore", message="At least one tile exceeded")
        _write(partial, layer, "PMTiles", dataset_options=options)


def zooms(grid: GeoBox) -> dict[str, str]:
    """Zooms of tiles: from where the map is a quarter of a tile to half a pixel or better.

    Raises SettingsError for a map across the 180 degree meridian, where the tiles' projection is cut, and
    for one around a pole, beyond its end.
    """
    west, south, east, north = lonlat_bounds(grid_outline(grid))
    if east < west:
        raise SettingsError(
            "The map crosses the 180 degree meridian, where the projection of tiles is cut; leave "
            "pmtiles out, or map the two sides as two regions."
        )
    nearest = 0.0 if south <= 0 <= north else min(abs(south), abs(north))
    if nearest >= _END:
        raise SettingsError(
            f"The map lies beyond {_END:.2f} degrees of latitude, where the projection of tiles ends; leave "
            "pmtiles out."
        )
    width = _EQUATOR * math.cos(math.radians(nearest))  # metres of the tile of zoom 0
    finest = math.log2(width / _TILE_UNITS / (ground_size(grid) / 2))
    coarsest = math.log2(_TURN / max(east - west, north - south) / 4)
    last = min(_FINEST, max(0, math.ceil(finest)))
    return {"MINZOOM": str(min(last, max(0, math.floor(coarsest)))), "MAXZOOM": str(last)}


@contextlib.contextmanager
def _whole(path: Path, layer: Layer) -> Iterator[Path]:
    """A temporary name; what was written under it is read before it gets the real one."""
    with atomic_path(path) as partial:
        try:
            with gdal_settings():
                yield partial
            _check_readable(partial, layer)
        except (
            pyogrio.errors.DataLayerError, pyogrio.errors.DataSourceError, OSError, RuntimeError
        ) as error:  # fmt: skip
            raise RasterError(f"{path} could not be written: {error}; is the disk full?") from error


def _check_readable(path: Path, layer: Layer) -> None:
    """Read the rows: GDAL keeps a failed last write of these formats to itself."""
    with pyogrio.open_arrow(path, use_pyarrow=True, batch_size=5000) as (_, rows):
        found = sum(batch.num_rows for batch in rows)
    if path.suffix == ".fgb" and found != layer.count:
        raise OSError(f"{found} of {layer.count} rows can be read")


def _write(path: Path, layer: Layer, driver: str, **options: Any) -> None:
    pyogrio.write_arrow(
        layer.rows, path, layer=layer.name, driver=driver, geometry_name="geom",
        geometry_type=layer.geometry_type, crs=crs_text(layer.crs), **options,
    )  # fmt: skip


_WRITERS: Mapping[str, Callable[[Path, MapContent], None]] = {
    ".gpkg": _write_geopackage,
    ".parquet": _write_geoparquet,
    ".fgb": _write_flatgeobuf,
    ".pmtiles": _write_pmtiles,
}
