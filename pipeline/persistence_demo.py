"""Four simulated dates after a baseline: how much flicker persistence takes out, and how much true change it keeps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from landcover.persistence import CONFIRMED, Persistence, Rule
from landcover.spectra import Climate
from pipeline.change import change
from pipeline.change_demo import (
    SETTINGS,
    ChangeDemo,
    SimulatedDate,
    map_date,
)
from pipeline.cog import open_raster

_DATES = tuple(
    SimulatedDate(2024, (day,), Climate(shift=4.0, drought=0.15), misplaced)
    for day, misplaced in (
        (150, (0.2, 0.1)),
        (170, (-0.3, 0.1)),
        (190, (0.1, -0.3)),
        (210, (0.0, 0.4)),
    )
)
"""Single scenes of one summer, each misplaced in its own way, in another year than the baseline."""


def persistence_figures(
    folder: Path,
    demo: ChangeDemo,
    seed: int,
    rule: Rule | None = None,
    report: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Figures without and with persistence, for the plain difference and for all guards.

    Flicker is unchanged land that is called changed at some of the four dates and unchanged at another. A row
    holds its hectares, how many of them are still believed at the end, and the share of the truly changed land
    that is.
    """
    rule = rule or Rule()
    series: dict[str, list[NDArray[np.uint16]]] = {"plain difference": [], "all guards": []}
    for number, date in enumerate(_DATES, start=2):
        report(f"date {number - 1} of {len(_DATES)} ...")
        place = folder / f"date-{number - 1}"
        map_date(place, demo.lands[1], date, seed, number)
        change(
            before=demo.before, after=place, output=place / "change", settings=SETTINGS, raw=True,
            report=lambda _: None,
        )  # fmt: skip
        for name, file in (("plain difference", "change_raw.tif"), ("all guards", "change.tif")):
            with open_raster(place / "change" / file) as dataset:
                series[name].append(dataset.read(1))
    return [{"changes": name, **_figures(demo, pairs, rule)} for name, pairs in series.items()]


def _figures(demo: ChangeDemo, pairs: list[NDArray[np.uint16]], rule: Rule) -> dict[str, float]:
    differs = np.stack([p // 256 != p % 256 for p in pairs])
    is_true = np.asarray(demo.truth[0] != demo.truth[1])
    once = np.asarray(differs.any(axis=0))
    flicker = ~is_true & once & ~differs.all(axis=0)
    baseline = (pairs[0] // 256).astype(np.uint8)
    state = Persistence.empty(baseline.shape).seen(baseline, 1, rule)
    for number, after in enumerate(pairs, start=2):
        state = state.seen((after % 256).astype(np.uint8), number, rule)
    held = np.where(state.status == CONFIRMED, state.candidate, state.reference)
    believed = np.asarray(held != baseline)
    left = flicker & believed
    return {
        "flicker_ha": float(flicker.sum()) / 100,
        "believed_ha": float(left.sum()) / 100,
        "removed_percent": 100 * (1 - float(left.sum()) / max(int(flicker.sum()), 1)),
        "found_once_percent": 100 * float(once[is_true].mean()),
        "found_percent": 100 * float(believed[is_true].mean()),
    }


def persistence_table(rows: list[dict[str, Any]]) -> Table:
    """The figures for the screen."""
    table = Table(title="Four dates: what is believed when two of three must show it")
    table.add_column("Changes")
    for name in (
        "Flicker (ha)", "Of it believed (ha)", "Removed (%)", "True change seen once (%)", "True change believed (%)",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["changes"], f"{row['flicker_ha']:,.1f}", f"{row['believed_ha']:,.1f}", f"{row['removed_percent']:.1f}",
            f"{row['found_once_percent']:.1f}", f"{row['found_percent']:.1f}",
        )  # fmt: skip
    return table
