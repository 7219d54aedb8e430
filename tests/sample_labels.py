"""Edit a sample as a person or another program might."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def edit(path: Path, *statements: str) -> None:
    """Run SQL on a sample."""
    with _opened(path) as database:
        for statement in statements:
            database.execute(statement)


def label(path: Path, labels: Mapping[int, Any]) -> None:
    """Set the class in truth of some pixels."""
    with _opened(path) as database:
        pairs = [(code, number) for number, code in labels.items()]
        database.executemany("UPDATE sample SET reference = ? WHERE id = ?", pairs)


def label_all(path: Path, truth: Mapping[int, Any] | None = None) -> None:
    """Label every pixel as the map has it, but some as told."""
    label(path, {u["id"]: u["class_code"] for u in rows(path, "units")} | dict(truth or {}))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, with the functions that the triggers of its spatial index name."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            database.create_function(name, 1, lambda _: 0)
        yield database


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    """A table, ordered by id where it has one."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute(f'SELECT * FROM "{table}"')]
    return sorted(found, key=lambda row: row.get("id", 0))
