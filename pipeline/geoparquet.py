"""GeoParquet 1.1 of polygons: streamed, with a bounding box a row, the same bytes each time."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from landcover.errors import RasterError
from pipeline.artifacts import atomic_path
from pipeline.geopackage import Layer

_GROUP_ROWS = 50_000
_GROUP_BYTES = 2**26
"""A row group ends at whichever comes first; one is in memory."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([(side, pa.float64()) for side in _SIDES])
_GEOMETRY, _COVERING = "geometry", "bbox"


def write_geoparquet(
    path: Path, layer: Layer, about: Callable[[], Mapping[str, str]] = dict
) -> None:
    """Write polygons as GeoParquet 1.1.0 (WKB, zstd), whole or not at all.

    The column `bbox` holds the box of each row, by which readers skip row groups. about: text for the
    file's key-value metadata, asked for when the rows are written. Memory: one row group.
    Raises RasterError where the file cannot be written or rows are missing.
    """
    with atomic_path(path) as partial:
        try:
            _write(partial, layer, about)
        except pa.ArrowException as error:
            raise RasterError(f"{path} could not be written: {error}.") from error
        except OSError as error:
            raise RasterError(f"{path} could not be written: {error}; is the disk full?") from error


def _write(path: Path, layer: Layer, about: Callable[[], Mapping[str, str]]) -> None:
    extent, kinds, count = np.full(4, np.nan), set[str](), 0
    schema = _schema(layer.rows.schema)
    options = {"compression": "zstd", "use_dictionary": _repeated(schema)}
    with pq.ParquetWriter(path, schema, store_schema=False, **options) as file:
        for table in _groups(layer.rows):
            shapes = shapely.from_wkb(table["geom"].to_numpy())
            boxes = shapely.bounds(shapes)  # (rows, 4)
            file.write_table(_with_boxes(table, boxes, schema), row_group_size=table.num_rows)
            both = np.vstack([boxes, extent])
            extent = np.hstack([np.nanmin(both[:, :2], axis=0), np.nanmax(both[:, 2:], axis=0)])
            kinds |= {str(kind) for kind in np.unique([shape.geom_type for shape in shapes])}
            count += table.num_rows
        if count != layer.count:
            raise OSError(f"{count} of {layer.count} rows arrived")
        keys = {"geo": json.dumps(_geo(layer, extent, kinds))} | dict(about())
        file.add_key_value_metadata(keys)


def _schema(given: pa.Schema) -> pa.Schema:
    columns = [column for column in given if column.name != "geom"]
    kind = given.field("geom").type
    return pa.schema([*columns, pa.field(_GEOMETRY, kind), pa.field(_COVERING, _BOX)])


def _repeated(schema: pa.Schema) -> list[str]:
    """Columns whose values repeat; a dictionary of the others would only cost."""
    return [x.name for x in schema if pa.types.is_string(x.type) or pa.types.is_int32(x.type)]


def _groups(rows: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The rows in tables of a row group each."""
    held: list[pa.RecordBatch] = []
    for part in _parts(rows):
        held.append(part)
        if (
            sum(x.num_rows for x in held) >= _GROUP_ROWS
            or sum(x.nbytes for x in held) >= _GROUP_BYTES
        ):
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _parts(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Batches that are not larger than a row group."""
    for batch in rows:
        for start in range(0, batch.num_rows, _GROUP_ROWS):
            yield batch.slice(start, _GROUP_ROWS)


def _with_boxes(table: pa.Table, boxes: np.ndarray, schema: pa.Schema) -> pa.Table:
    sides = [pa.array(side) for side in boxes.T]
    columns = [table[x.name] for x in schema if x.name in table.column_names]
    box = pa.StructArray.from_arrays(sides, fields=list(_BOX))
    return pa.Table.from_arrays([*columns, table["geom"], box], schema=schema)


def _geo(layer: Layer, extent: np.ndarray, kinds: set[str]) -> dict[str, Any]:
    """The metadata `geo` of GeoParquet 1.1.0 (geoparquet.org/releases/v1.1.0)."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(kinds) or [layer.geometry_type],
        "crs": None if layer.crs is None else layer.crs.to_json_dict(),
        "edges": "planar",
        "covering": {"bbox": {side: [_COVERING, side] for side in _SIDES}},
    }
    if not np.isnan(extent).any():
        column["bbox"] = extent.tolist()
    return {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}
