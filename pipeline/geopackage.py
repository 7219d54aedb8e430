"""GeoPackage 1.3 written in bulk from Arrow, with its QGIS style inside, the same bytes each time."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyogrio
import pyproj
from pyogrio.errors import DataLayerError, DataSourceError

from landcover.errors import RasterError
from pipeline.artifacts import atomic_path

_DATE = "1970-01-01T00:00:00.000Z"
"""Written wherever the format asks for a date, so that equal input gives equal bytes."""
_SETTINGS = {
    "OGR_CURRENT_DATE": _DATE,
    "OGR_SQLITE_SYNCHRONOUS": "OFF",  # the file is renamed into place when it is whole
    "OGR_GPKG_MAX_RAM_USAGE_RTREE": "400MB",  # the index of 12 million polygons takes three times that
}
_STYLES = """
CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))
"""


@dataclass(frozen=True)
class Style:
    """Default style of a layer."""

    name: str
    """Shown in QGIS, at most 30 characters."""
    qml: str
    """QGIS style document."""
    sld: str
    """OGC Styled Layer Descriptor."""


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
    """How QGIS draws it."""
    geometry_type: str = "Polygon"
    """Of the column `geom`."""


def write_geopackage(path: Path, layers: Sequence[Layer]) -> None:
    """Write layers to a new GeoPackage, whole or not at all.

    Polygon layers get a spatial index, and a style where they have one. Raises RasterError where
    the file cannot be written.
    """
    with atomic_path(path) as partial:
        try:
            with _gdal_settings():
                for layer in layers:
                    _write(partial, layer)
            with contextlib.closing(sqlite3.connect(partial)) as database, database:
                _add_styles(database, [layer for layer in layers if layer.style])
                _check_whole(database, layers)
        except (DataLayerError, DataSourceError, OSError, sqlite3.Error) as error:
            raise RasterError(f"{path} could not be written: {error}; is the disk full?") from error


@contextlib.contextmanager
def _gdal_settings() -> Iterator[None]:
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


def _write(path: Path, layer: Layer) -> None:
    geometry = {
        "geometry_name": "geom",
        "geometry_type": layer.geometry_type,
        "crs": _crs_text(layer.crs),
    }
    pyogrio.write_arrow(
        layer.rows,
        path,
        layer=layer.name,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},
        layer_options={"IDENTIFIER": layer.name, "DESCRIPTION": layer.description},
        **(geometry if layer.crs else {}),
    )


def _crs_text(crs: pyproj.CRS | None) -> str | None:
    """The EPSG code where the CRS has one, else WKT, which GeoPackage stores in full."""
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
        "ui, update_time) VALUES ('', '', ?, 'geom', ?, ?, ?, 1, ?, '', '', ?)",
        [
            (x.name, x.style.name, x.style.qml, x.style.sld, x.description, _DATE)
            for x in layers
            if x.style
        ],
    )
