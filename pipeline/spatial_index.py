"""The spatial index of a GeoPackage layer, packed at once from the boxes of its rows.

GDAL's takes as long as all the rows, and SQLite's own, fed row by row, several times that. The tables
and triggers are those of the extension gpkg_rtree_index (OGC 12-128r17, Annex F.3).
"""

import functools
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from landcover.errors import RasterError
from landcover.geometry_boxes import geometry_boxes
from landcover.packed_tree import Level, packed_tree, rounded_out

_GROUP = 2**20
"""Boxes that are packed together; 60 bytes each are in memory."""
_EXTENSION = "http://www.geopackage.org/spec120/#extension_rtree"
_BOX = "ST_MinX({new}), ST_MaxX({new}), ST_MinY({new}), ST_MaxY({new})"
_PUT = 'INSERT OR REPLACE INTO "{index}" VALUES (NEW."fid", ' + _BOX + ");"  # noqa: S608 - our own names
_DROP = 'DELETE FROM "{index}" WHERE id = OLD."fid";'
_SHOWN = "({new} NOTNULL AND NOT ST_IsEmpty({new}))"
_HIDDEN = "({new} ISNULL OR ST_IsEmpty({new}))"
_TRIGGERS = {
    "insert": ("INSERT", _SHOWN, _PUT),
    "update1": ('UPDATE OF "geom"', 'OLD."fid" = NEW."fid" AND ' + _SHOWN, _PUT),
    "update2": ('UPDATE OF "geom"', 'OLD."fid" = NEW."fid" AND ' + _HIDDEN, _DROP),
    "update3": ("UPDATE", 'OLD."fid" != NEW."fid" AND ' + _SHOWN, _DROP + " " + _PUT),
    "update4": (
        "UPDATE", 'OLD."fid" != NEW."fid" AND ' + _HIDDEN,
        'DELETE FROM "{index}" WHERE id IN (OLD."fid", NEW."fid");',
    ),
    "delete": ("DELETE", 'OLD."geom" NOTNULL', _DROP),
}  # fmt: skip
"""When, under which condition, and what to do."""


@functools.cache
def can_index() -> bool:
    """Whether this Python's SQLite has R-trees and lets their tables be filled; else GDAL must."""
    with sqlite3.connect(":memory:") as database:
        try:
            database.execute("CREATE VIRTUAL TABLE t USING rtree(id, x, xx, y, yy)")
            database.execute("INSERT OR REPLACE INTO t_node VALUES (1, zeroblob(1228))")
        except sqlite3.Error:
            return False
        return True


class BoxFile:
    """The boxes of a layer's rows, kept in a temporary file while the rows go by.

    rows: with well-known binary in the column `geom`. folder: where there is room.
    """

    def __init__(self, rows: pa.RecordBatchReader, folder: Path) -> None:
        self._rows, self.schema = rows, rows.schema
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close
        self._count = 0
        self.failure: RasterError | None = None
        """Why the rows ended early; GDAL forgets it."""

    def close(self) -> None:
        """Forget the boxes."""
        self._file.close()

    def rows(self) -> pa.RecordBatchReader:
        """The rows as they were given, to be read once; raises RasterError as `geometry_boxes` does."""
        return pa.RecordBatchReader.from_batches(self.schema, self._noted())

    def _noted(self) -> Iterator[pa.RecordBatch]:
        for batch in self._rows:
            try:
                boxes = rounded_out(geometry_boxes(*_binary(batch.column("geom"))))
            except RasterError as error:
                self.failure = error
                raise
            self._file.write(boxes.tobytes())
            self._count += len(boxes)
            yield batch

    def groups(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Numbers, from 1, and boxes of the rows that are not empty, some at a time."""
        self._file.seek(0)
        for first in range(1, self._count + 1, _GROUP):
            count = min(_GROUP, self._count + 1 - first)
            boxes = np.frombuffer(self._file.read(16 * count), np.float32).reshape(count, 4)
            there = ~np.isnan(boxes[:, 0])
            yield np.flatnonzero(there) + first, boxes[there]


def _binary(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes and offsets of an Arrow array of binary; a null is of no bytes."""
    column = column.cast(pa.large_binary())
    _, offsets, values = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(values or b"", np.uint8), ends


def add_spatial_index(database: sqlite3.Connection, table: str, boxes: BoxFile) -> None:
    """Add the index of the column `geom` of a table that has none; its rows are numbered from 1 in `fid`.

    Raises sqlite3.Error where the file cannot be written.
    """
    index = f"rtree_{table}_geom"
    database.execute(f'CREATE VIRTUAL TABLE "{index}" USING rtree(id, minx, maxx, miny, maxy)')
    database.execute(f'DELETE FROM "{index}_node"')  # noqa: S608 - our own names
    for level in packed_tree(boxes.groups()):
        _add_level(database, index, level)
    names = {"index": index, "new": 'NEW."geom"'}
    for name, (when, condition, deed) in _TRIGGERS.items():
        database.execute(
            f'CREATE TRIGGER "{index}_{name}" AFTER {when} ON "{table}" WHEN {condition.format(**names)} '
            f"BEGIN {deed.format(**names)} END"
        )
    database.execute(
        "INSERT INTO gpkg_extensions VALUES (?, 'geom', 'gpkg_rtree_index', ?, 'write-only')",
        (table, _EXTENSION),
    )


def _add_level(database: sqlite3.Connection, index: str, level: Level) -> None:
    blobs = memoryview(level.nodes.tobytes())
    size = level.nodes.itemsize
    cut = (blobs[at : at + size] for at in range(0, len(blobs), size))
    _insert(database, f"{index}_node", zip(level.numbers.tolist(), cut, strict=True))
    order = np.argsort(level.members)  # ascending keys are appended
    members, parents = level.members[order].tolist(), level.parents[order].tolist()
    kind = "rowid" if level.is_leaf else "parent"
    _insert(database, f"{index}_{kind}", zip(members, parents, strict=True))


def _insert(database: sqlite3.Connection, table: str, rows: Iterator[tuple[int, object]]) -> None:
    database.executemany(f'INSERT INTO "{table}" VALUES (?, ?)', rows)  # noqa: S608 - our own names
