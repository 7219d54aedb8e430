"""An evaluation as one HTML page that needs nothing else, not even a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.page import figure, percent, write_page
from pipeline.pictures import data_uri

_PLOT = 220
"""Side of a reliability diagram, SVG units."""
_BLOCKS = 40
"""Blocks shown in the table; metrics.json has all."""
_TITLES = {"none": "Without temperature", "stored": "As stored", "fitted": "Fitted on validation"}


def write_evaluation_report(
    path: Path, record: Mapping[str, Any], pictures: Sequence[Path]
) -> None:
    """Write the page of an evaluation record, the pictures of its worst chips inside.

    It has no script and loads nothing; equal records and pictures give equal bytes.
    """
    contents = {
        **record,
        "diagrams": [_diagram(name, table) for name, table in record["calibration"].items()],
        "chips": [
            (chip, data_uri(picture.read_bytes()))
            for chip, picture in zip(record["worst_chips"], pictures, strict=True)
        ],
        "hardest": sorted(record["blocks"], key=lambda row: row["overall_accuracy"] or 0)[:_BLOCKS],
        "plot": _PLOT,
    }
    write_page(path, "evaluation.html.j2", contents, share=_share, interval=_interval, rates=_rates)


def _share(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else percent(100 * value)


def _interval(score: Mapping[str, float | None]) -> str:
    """The ends of an interval for reading; empty where they are not known."""
    if score["low"] is None or score["high"] is None:
        return ""
    return f"{score['low']:.3f} to {score['high']:.3f}"


def _rates(score: Mapping[str, float | None]) -> str:
    """A measure and its interval."""
    ends = _interval(score)
    return figure(score["value"]) + (f" ({ends})" if ends else "")


def _diagram(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Bars of a reliability diagram (Guo et al. 2017, figure 1): x, width, top of accuracy, pixels."""
    bins = table["bins"]
    most = max((b["pixels"] for b in bins), default=0) or 1
    width = _PLOT / len(bins)
    return {
        "title": _TITLES[name],
        "temperature": table["temperature"],
        "error": table["expected_calibration_error"],
        "largest": table["maximum_calibration_error"],
        "bars": [
            {
                "x": round(i * width, 2),
                "width": round(width - 1, 2),
                "height": round(_PLOT * b["accuracy"], 2),
                "gap": round(_PLOT * (1 - b["confidence"]), 2),
                "weight": round(30 * b["pixels"] / most, 2),
                "text": f"confidence {b['confidence']:.2f}, right {b['accuracy']:.2f}, {b['pixels']:,} pixels",
            }
            for i, b in enumerate(bins)
            if b["pixels"]
        ],
    }
