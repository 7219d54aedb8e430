"""What is wrong with a dataset, line by line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from landcover.errors import DatasetError
from landcover.splits import SPLITS
from pipeline.dataset_survey import Finding, Survey, class_counts, survey


def check_dataset(*, dataset: Path, report: Callable[[str], None] | None = None) -> dict[str, Any]:
    """All faults of a dataset: `findings`, errors first, and `table` of its classes where it has none.

    A YAML that cannot be used at all is one error.
    """
    try:
        found = survey(dataset, report)
    except DatasetError as error:
        return {"findings": [Finding("error", str(error))], "table": None, "version": None}
    order = sorted(found.findings, key=lambda one: one.level)
    usable = not found.errors
    return {
        "findings": order,
        "table": class_table(found) if usable else None,
        "version": found.version if usable else None,
    }


def class_table(found: Survey) -> Table:
    """Labelled pixels of each class in each split."""
    table = Table(box=None, pad_edge=False)
    table.add_column("Class")
    for name in SPLITS:
        table.add_column(name, justify="right")
    counts = [class_counts(found, split) for split in range(len(SPLITS))]
    for position, one in enumerate(found.plan.legend.classes):
        table.add_row(f"{one.code} {one.name}", *(f"{count[position]:,}" for count in counts))
    return table
