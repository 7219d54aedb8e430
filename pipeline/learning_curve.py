"""How training went, as a table and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.artifacts import atomic_path, write_text

COLUMNS = ("step", "learning_rate", "train_loss", "validation_loss", "mean_iou", "overall_accuracy")
"""Of the table, a row each validation."""


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV of COLUMNS."""
    rows = [",".join(_text(row[name]) for name in COLUMNS) for row in history]
    write_text(path, "\n".join([",".join(COLUMNS), *rows]) + "\n")


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def draw_learning_curve(
    path: Path,
    history: Sequence[Mapping[str, Any]],
    title: str,
    baseline: float | None = None,
) -> None:
    """Draw losses and validation figures over steps, as PNG.

    baseline: mean IoU of what the network has to beat, a dashed line.
    """
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    steps = [row["step"] for row in history]
    for axes, names in ((losses, ("train_loss", "validation_loss")),
                        (scores, ("mean_iou", "overall_accuracy"))):  # fmt: skip
        for name in names:
            values = [row[name] if row[name] is not None else float("nan") for row in history]
            axes.plot(
                steps,
                values,
                marker="o",
                markersize=3,
                label=name.replace("_", " ").replace("iou", "IoU"),
            )
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    if baseline is not None:
        scores.axhline(baseline, color="grey", linestyle="--", label="mean IoU of a forest")
    scores.set_ylim(0, 1)
    losses.set_title("loss", fontsize=10)
    scores.set_title("validation", fontsize=10)
    for axes in (losses, scores):
        axes.legend(fontsize=8)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
