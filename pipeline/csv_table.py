"""Tables as CSV, for programs and for spreadsheets."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

_COMMENT = re.compile(r"#(?![0-9a-fA-F]{6}\s*,)")


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows with their head; columns: where they are not those of the first row, or there is none."""
    stream = io.StringIO()
    names = columns if columns is not None else list(rows[0]) if rows else []
    table = csv.DictWriter(stream, names, lineterminator="\n")
    if names:
        table.writeheader()
    table.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def csv_lines(text: str) -> list[str]:
    """Lines of a table without those that are blank or begin with #, which are comments.

    A colour at the start of a line, as in `#2b6cb0,1,Water`, is no comment.
    """
    return [line for line in text.splitlines() if line.strip() and not _COMMENT.match(line)]


def cell(value: Any) -> Any:
    """A value for a CSV file: text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, str) and value[:1] in "=+-@" and not re.fullmatch(r"[-+]?[\d.]+", value):
        return "'" + value if value else value
    return value
