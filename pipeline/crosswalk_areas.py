"""Hectares by the classes of another legend: `areas_TARGET.csv`."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from landcover.crosswalk import Crosswalk, CrosswalkArea, CrosswalkRow
from landcover.errors import LegendError
from landcover.legend import Legend
from pipeline.artifacts import fingerprint, write_text
from pipeline.csv_table import csv_lines, csv_text
from pipeline.zone_file import is_name

_FOLDER = Path(__file__).with_name("crosswalks")
_SHIPPED = tuple(sorted(_FOLDER.glob("*_to_*.csv")))
TARGETS = tuple(sorted({path.stem.split("_to_")[1] for path in _SHIPPED}))
"""Legends that come with the program as targets."""
SOURCES = tuple(sorted({path.stem.split("_to_")[0] for path in _SHIPPED}))
"""Legends that these crosswalks start from."""
_COLUMNS = tuple(field.name for field in fields(CrosswalkRow))
_YES, _NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
_LARGEST = 2**24


@dataclass(frozen=True)
class NamedCrosswalk:
    """A crosswalk and what its table is called."""

    target: str
    """Name of the target legend, fit for a file name."""
    table: Crosswalk

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its rows and name."""
        return fingerprint(self.target, [asdict(row) for row in self.table.rows])


def load_crosswalk(given: str, legend: Legend) -> NamedCrosswalk:
    """The crosswalk from a legend that a user names.

    given: one of TARGETS, or a CSV file with the columns from_code, from_name, to_code, to_name, lossy
    (yes or no), note; lines with # are comments. Codes and names of the legend must be those of the table.
    Raises LegendError where there is none, or it starts from another legend.
    """
    if given in TARGETS:
        candidates = [path for path in _SHIPPED if path.stem.endswith(f"_to_{given}")]
        for path in candidates:
            if (table := read_crosswalk(path)).starts_from(legend):
                return NamedCrosswalk(given, table)
        sources = ", ".join(path.stem.split("_to_")[0] for path in candidates)
        raise LegendError(
            f"No crosswalk to {given} starts from the legend of this map ({_some(legend.names)}), only from "
            f"{sources}; name the map's legend by --legend, or give a CSV file with the columns "
            f"{', '.join(_COLUMNS)}."
        )
    table = read_crosswalk(Path(given))
    if missing := table.missing(legend):
        raise LegendError(
            f"{given} has no row for {_some(missing)}; it needs one of the same code and name for each class "
            "of the map."
        )
    return NamedCrosswalk(_slug(Path(given).stem), table)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_")[:50] or "crosswalk"


def read_crosswalk(path: Path) -> Crosswalk:
    """Read a crosswalk table; LegendError where it is none."""
    try:
        if path.stat().st_size > _LARGEST:
            raise LegendError(f"{path} has more than 16 MB, which no crosswalk needs.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise LegendError(
            f"The crosswalk '{path}' is neither one of {', '.join(TARGETS)} nor a CSV file with the columns "
            f"{', '.join(_COLUMNS)}: {error}."
        ) from error
    rows = csv.DictReader(csv_lines(text))
    if missing := [name for name in _COLUMNS[:-1] if name not in (rows.fieldnames or ())]:
        raise LegendError(
            f"{path} lacks the columns {', '.join(missing)}; a crosswalk has {', '.join(_COLUMNS)}."
        )
    try:
        table = Crosswalk(tuple(_row(row) for row in rows))
    except (LegendError, csv.Error) as error:
        raise LegendError(f"{path}: {error}") from error
    if not table.rows:
        raise LegendError(f"{path} has no row; a crosswalk has one for each class.")
    return table


def _row(row: Mapping[str, str | None]) -> CrosswalkRow:
    said = {name: (row.get(name) or "").strip() for name in _COLUMNS}
    lossy = said["lossy"].lower()
    if not re.fullmatch(r"[0-9]{1,5}", said["from_code"], re.ASCII) or lossy not in _YES | _NO:
        raise LegendError(
            f"The row of class '{said['from_code']}' says lossy '{said['lossy']}'; the code is a whole "
            "number, and lossy yes or no."
        )
    if not all(map(is_name, said.values())):
        raise LegendError(
            f"The row of class {said['from_code']} has a control character; remove it."
        )
    return CrosswalkRow(
        int(said["from_code"]), said["from_name"], said["to_code"], said["to_name"], lossy in _YES,
        said["note"],
    )  # fmt: skip


def crosswalk_areas(
    crosswalk: NamedCrosswalk, details: Mapping[str, Any], legend: Legend, output: Path
) -> list[dict[str, Any]]:
    """Write the area table in the target legend; return its rows.

    details: of `pipeline.summarize.summarize`, for the same legend. The last row holds what has no
    counterpart, so that the hectares add up to those of the map.
    """
    hectares = {row["class_code"]: row["area_ha"] for row in details["rows"]}
    rows = [asdict(line) for line in crosswalk.table.areas(hectares, legend)]
    write_text(output, csv_text(rows, [f.name for f in fields(CrosswalkArea)]))
    return rows


def crosswalk_screen(target: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `crosswalk_areas` as a table for the screen, with their total."""
    lossy = sum(row["lossy_ha"] for row in rows)
    screen = Table(
        title=f"Area by class of {target}, on the ellipsoid",
        caption=f"{lossy:,.2f} ha come from classes that do not fit their counterpart exactly",
    )
    screen.add_column("Code", justify="right")
    screen.add_column("Class")
    for header in ("Area (ha)", "Share (%)", "Inexact (ha)"):
        screen.add_column(header, justify="right")
    screen.add_column("From")
    for row in rows:
        screen.add_row(
            Text(row["class_code"]), Text(row["class_name"]), f"{row['area_ha']:,.2f}",
            f"{row['share_percent']:.2f}", f"{row['lossy_ha']:,.2f}", Text(row["from_classes"]),
        )  # fmt: skip
    screen.add_section()
    total = sum(row["area_ha"] for row in rows)
    share = sum(row["share_percent"] for row in rows)
    screen.add_row("", "All classes", f"{total:,.2f}", f"{share:.2f}", f"{lossy:,.2f}", "")
    return screen
