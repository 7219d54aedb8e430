"""GeoPackage 1.3 written in bulk from Arrow, with its QGIS style inside, the same bytes each time."""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyogrio
import pyproj
from pyogrio.errors import DataLayerError, DataSourceError

from landcover.errors import RasterError
from pipeline.artifacts import atomic_path
from pipeline.spatial_index import BoxFile, add_spatial_index, can_index

_DATE = "1970-01-01T00:00:00.000Z"
"""Written wherever the format asks for a date, so that equal input gives equal bytes."""
_SETTINGS = {
    "OGR_CURRENT_DATE": _DATE,
    "OGR_SQLITE_SYNCHRONOUS": "OFF",  # the file is renamed into place when it is whole
    "OGR_GPKG_MAX_RAM_USAGE_RTREE": "400MB",  # the index of 12 million polygons takes three times that
}
_EXTENSIONS = """
CREATE TABLE IF NOT EXISTS gpkg_extensions (table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL,
definition TEXT NOT NULL, scope TEXT NOT NULL,
CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name))
"""
_STYLES = """
CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))
"""


_METADATA = """
CREATE TABLE gpkg_metadata (id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL,
md_scope TEXT NOT NULL DEFAULT 'dataset', md_standard_uri TEXT NOT NULL,
mime_type TEXT NOT NULL DEFAULT 'text/xml', metadata TEXT NOT NULL DEFAULT '')
"""
_REFERENCES = """
CREATE TABLE gpkg_metadata_reference (reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT,
row_id_value INTEGER, timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
md_file_id INTEGER NOT NULL, md_parent_id INTEGER,
CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id))
"""
_EXTENSION = "http://www.geopackage.org/spec121/#extension_metadata"
"""Where GeoPackage 1.3 defines the metadata tables."""
_PROJECTS = "CREATE TABLE qgis_projects (name TEXT PRIMARY KEY, metadata BLOB, content BLOB)"
"""As QGIS makes it; not listed in gpkg_contents, or QGIS would offer it as a layer."""
PROJECT = "landcover"
"""Name of the QGIS project inside the file."""


@dataclass(frozen=True)
class Style:
    """Default style of a layer."""

    name: str
    """Shown in QGIS, at most 30 characters."""
    qml: str
    """QGIS style document."""
    sld: str
    """OGC Styled Layer Descriptor; empty for a table, which has nothing to draw."""


@dataclass(frozen=True)
class Layer:
    """One table of a GeoPackage."""

    name: str
    """Table name."""
    description: str
    """What the table holds, with units."""
    count: int
    """How many rows there are."""
    rows: pa.RecordBatchReader
    """The rows; polygons are well-known binary in the column `geom`, where there is one."""
    crs: pyproj.CRS | None = None
    """CRS of the polygons; None for a table without geometry."""
    style: Style | None = None
    """How QGIS shows it."""
    geometry_type: str = "Polygon"
    """What the geometries are, in GDAL's words."""


@dataclass(frozen=True)
class Document:
    """Metadata in XML."""

    text: str
    """The document."""
    standard: str
    """Address that names its standard."""
    table: str | None = None
    """The table that it describes; None for the whole file, whose document comes first."""


@dataclass(frozen=True)
class Closing:
    """What is known only once all rows are written."""

    documents: Sequence[Document] = ()
    """Metadata, that of the whole file first."""
    project: bytes = b""
    """A QGIS project, .qgz, to be opened from the file; empty for none."""


def write_geopackage(
    path: Path, layers: Sequence[Layer], closing: Callable[[], Closing] = Closing
) -> None:
    """Write layers to a new GeoPackage, whole or not at all.

    Polygon layers get a spatial index, and layers their style where they have one. closing: called when
    the rows are written. Raises RasterError where the file cannot be written.
    """
    with atomic_path(path) as partial, _box_files(layers, path.parent) as boxes:
        try:
            with gdal_settings():
                for layer in layers:
                    _write(partial, layer, boxes.get(layer.name))
            with contextlib.closing(_open(partial)) as database, database:
                for name, found in boxes.items():
                    add_spatial_index(database, name, found)
                _add_styles(database, [layer for layer in layers if layer.style])
                _check_whole(database, layers)
                _add_closing(database, closing())
        except (DataLayerError, DataSourceError, OSError, RuntimeError, sqlite3.Error) as error:
            if failures := [x.failure for x in boxes.values() if x.failure]:
                raise failures[0] from None
            raise RasterError(f"{path} could not be written: {error}; is the disk full?") from error


@contextlib.contextmanager
def _box_files(layers: Sequence[Layer], folder: Path) -> Iterator[dict[str, BoxFile]]:
    """Where the boxes of polygon layers are noted; nowhere if GDAL must make their indexes."""
    with contextlib.ExitStack() as held:
        yield {
            x.name: held.enter_context(contextlib.closing(BoxFile(x.rows, folder)))
            for x in layers
            if x.crs and can_index()
        }


def _open(partial: Path) -> sqlite3.Connection:
    """The file with its rows, for what GDAL does not write; it is renamed into place when it is whole."""
    database = sqlite3.connect(partial)
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute(_EXTENSIONS)
    return database


@contextlib.contextmanager
def gdal_settings() -> Iterator[None]:
    """GDAL as it must be to write the same bytes each time."""
    before = {key: pyogrio.get_gdal_config_option(key) for key in _SETTINGS}
    pyogrio.set_gdal_config_options(_SETTINGS)
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)


def read_table(path: Path, layer: str) -> list[dict[str, Any]]:
    """Rows of a table without geometry. Raises RasterError where the file or the table cannot be read."""
    try:
        _, table = pyogrio.read_arrow(path, layer=layer)
    except (DataLayerError, DataSourceError) as error:
        raise RasterError(f"{path} cannot be read: {error}.") from error
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _write(path: Path, layer: Layer, boxes: BoxFile | None) -> None:
    """Write rows by GDAL; their boxes are noted where the index is ours to make."""
    geometry = {
        "geometry_name": "geom",
        "geometry_type": layer.geometry_type,
        "crs": crs_text(layer.crs),
    }
    pyogrio.write_arrow(
        boxes.rows() if boxes else layer.rows,
        path,
        layer=layer.name,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},
        layer_options={
            "IDENTIFIER": layer.name,
            "DESCRIPTION": layer.description,
            "SPATIAL_INDEX": "NO" if boxes else "YES",
        },
        **(geometry if layer.crs else {}),
    )


def crs_text(crs: pyproj.CRS | None) -> str | None:
    """A CRS for GDAL: the EPSG code where the CRS has one, else WKT, which GeoPackage stores in full."""
    if crs is None:
        return None
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt()


def _check_whole(database: sqlite3.Connection, layers: Sequence[Layer]) -> None:
    """Count rows and index entries: GDAL builds the index on closing and keeps a failure to itself."""
    for layer in layers:
        tables = [layer.name, *([f"rtree_{layer.name}_geom"] if layer.crs else [])]
        for table in tables:
            (found,) = database.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608 - our own names
            if found != layer.count:
                raise OSError(f"{table} has {found} of {layer.count} rows")


def _add_styles(database: sqlite3.Connection, layers: Sequence[Layer]) -> None:
    """Make the table `layer_styles` as QGIS does, down to its empty strings."""
    database.execute(_STYLES)
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, "
        "last_change, srs_id) VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
        (_DATE,),
    )
    database.executemany(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
        "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, "
        "ui, update_time) VALUES ('', '', ?, ?, ?, ?, ?, 1, ?, '', '', ?)",
        [
            (
                x.name,
                "geom" if x.crs else "",
                x.style.name,
                x.style.qml,
                x.style.sld,
                x.description,
                _DATE,
            )
            for x in layers
            if x.style
        ],
    )


def _add_closing(database: sqlite3.Connection, closing: Closing) -> None:
    if closing.documents:
        _add_documents(database, closing.documents)
    if closing.project:
        database.execute(_PROJECTS)
        about = json.dumps({"last_modified_time": _DATE[:19], "last_modified_user": ""})
        row = (PROJECT, about, closing.project.hex())
        database.execute("INSERT INTO qgis_projects VALUES (?, ?, ?)", row)


def _add_documents(database: sqlite3.Connection, documents: Sequence[Document]) -> None:
    """Make the tables of the metadata extension; the whole file's document is the parent of the others."""
    database.execute(_METADATA)
    database.execute(_REFERENCES)
    database.executemany(
        "INSERT INTO gpkg_extensions VALUES (?, NULL, 'gpkg_metadata', ?, 'read-write')",
        [("gpkg_metadata", _EXTENSION), ("gpkg_metadata_reference", _EXTENSION)],
    )
    for number, x in enumerate(documents, start=1):
        database.execute(
            "INSERT INTO gpkg_metadata VALUES (?, 'dataset', ?, 'text/xml', ?)",
            (number, x.standard, x.text),
        )
        scope, parent = ("table", 1) if x.table else ("geopackage", None)
        database.execute(
            "INSERT INTO gpkg_metadata_reference VALUES (?, ?, NULL, NULL, ?, ?, ?)",
            (scope, x.table, _DATE, number, parent),
        )
