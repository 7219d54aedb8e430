"""An evaluation as a table for the screen."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_OVERALL = ("overall_accuracy", "kappa", "mean_iou", "frequency_weighted_iou")


def evaluation_table(record: Mapping[str, Any]) -> Table:
    """Measures by class, the overall ones below them, each with its 95 % interval where it is known."""
    first = f"{record['settings']['tolerances_px'][0]:g}"
    columns = {
        "IoU": "iou", "F1": "f1", "User's acc.": "users_accuracy", "Producer's acc.": "producers_accuracy",
        f"Boundary F1, {first} px": f"boundary_f1@{first}",
        f"Boundary IoU, {first} px": f"boundary_iou@{first}",
    }  # fmt: skip
    table = Table(
        title=f"{record['model']['file']} on {record['settings']['split']} of {record['dataset']['name']}",
        caption="\n".join(_lines(record)),
    )
    table.add_column("Class")
    for name in (*columns, "Reference px"):
        table.add_column(name, justify="right")
    for row in record["classes"]:
        figures = (_figure(row[key]["value"]) for key in columns.values())
        # Text, because a class name with [brackets] is not markup.
        table.add_row(Text(row["name"]), *figures, f"{row['reference_pixels']:,}")
    return table


def _lines(record: Mapping[str, Any]) -> list[str]:
    overall = record["overall"]
    lines = [", ".join(f"{name.replace('_', ' ')} {_rates(overall[name])}" for name in _OVERALL)]
    for name, row in record["baselines"].items():
        values = (f"{key.replace('_', ' ')} {_figure(row[key])}" for key in _OVERALL)
        lines.append(f"{name}: {', '.join(values)}")
    for name, table in record["calibration"].items():
        error = _figure(table["expected_calibration_error"])
        lines.append(f"calibration error {error} at temperature {table['temperature']:g} ({name})")
    return lines


def _rates(score: Mapping[str, float | None]) -> str:
    if score["low"] is None:
        return _figure(score["value"])
    return f"{_figure(score['value'])} ({score['low']:.3f}-{score['high']:.3f})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
