"""The table of transitions that comes with the program, or one of the user's own."""

import csv
from functools import cache
from pathlib import Path

from landcover.errors import LegendError
from landcover.transition_groups import TransitionRule, TransitionTable
from pipeline.csv_table import csv_lines

_FOLDER = Path(__file__).with_name("transitions")
_RULE = ("from_kind", "to_kind", "group", "plausibility", "color")
_SURFACES = frozenset({"urban", "bare"})
"""Building sites are bare or built before, while and after they are built."""


@cache
def transition_table(path: Path | None = None) -> TransitionTable:
    """Groups and plausibility of changes.

    path: CSV table with the columns from_kind, to_kind, group, plausibility, color instead of ours.
    Raises LegendError where it cannot be read.
    """
    rows = _rows(path or _FOLDER / "groups.csv", _RULE)
    kinds = {row["name"].strip().lower(): row["kind"].strip() for row in _rows(_FOLDER / "kinds.csv", ("name", "kind"))}  # fmt: skip
    colors: dict[str, str] = {}
    for row in rows:
        colors.setdefault(row["group"], row["color"])
    return TransitionTable(
        kinds, tuple(TransitionRule(*(row[name].strip() for name in _RULE[:4])) for row in rows),
        colors, _SURFACES,
    )  # fmt: skip


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise LegendError(f"The table of transitions {path} cannot be read: {error}.") from error
    table = csv.DictReader(csv_lines(text))
    if not set(columns) <= set(table.fieldnames or ()):
        raise LegendError(
            f"{path} has the columns {', '.join(table.fieldnames or ())}; it needs {', '.join(columns)}."
        )
    return [{name: row[name] or "" for name in columns} for row in table]
