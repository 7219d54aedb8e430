"""Maps of three or more dates: consistent trajectories, what is stable, when it changed, hectares by date."""

import contextlib
import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from landcover.area import PixelAreas, Tally
from landcover.errors import LegendError, RasterError, SettingsError
from landcover.legend import Legend
from landcover.trajectories import Transitions, last_change, most_likely, stable_classes
from pipeline.artifacts import Report, check_distinct, write_text
from pipeline.class_raster import ClassRaster, open_classes
from pipeline.cog import CogProfile, open_cog, open_raster, raster_grid
from pipeline.confidence_raster import check_confidence, percent_strips
from pipeline.csv_table import csv_text
from pipeline.hectare_chart import hectare_chart
from pipeline.qgis_style import write_raster_style
from pipeline.tile_file import TileFileWriter

_BUDGET = 2**25
"""Pixels of all dates that are in memory at a time."""
COLUMNS = ("date", "class_code", "class_name", "mapped_ha", "consistent_ha")
"""Of `hectares.csv`."""


@dataclass(frozen=True)
class DatedMap:
    """One map of a series."""

    label: str
    """Its date, as its name spells it."""
    classes: Path
    confidence: Path | None

    @property
    def digits(self) -> str:
        """Its date as it is sorted: 2024-12 comes after 20240601."""
        return re.sub(r"\D", "", self.label)


def dated_maps(paths: Sequence[Path]) -> list[DatedMap]:
    """Maps of run folders (REGION/PERIOD) or class rasters, in the order of their dates.

    The date is what of the folder's or file's name begins with a year: 2024-06-01_2024-08-31, or
    nantes_2024-06. Raises SettingsError where there is none, or one twice, or fewer than three maps.
    """
    found = []
    for path in paths:
        name = path.name if path.is_dir() else path.stem
        match = re.search(r"(?<!\d)\d{4}(?:[-_]?\d{2})*(?!\d)", name)
        if not match:
            raise SettingsError(
                f"{path} has no date in its name; call it like 2024-06-01_2024-08-31, or 2024-06.tif."
            )
        inside = path / "confidence.tif"
        is_run = path.is_dir()
        sure = inside if is_run and inside.is_file() else None
        found.append(DatedMap(match.group(), path / "classes.tif" if is_run else path, sure))
    if len({one.digits for one in found}) < len(found) or len(found) < 3:
        labels = ", ".join(one.label for one in found)
        raise SettingsError(
            f"The maps are of the dates {labels}; a series needs three or more, each once."
        )
    return sorted(found, key=lambda one: one.digits)


def series(
    *,
    maps: Sequence[DatedMap],
    output: Path,
    legend: str | None = None,
    stay: float = 0.95,
    table: Path | None = None,
    report: Report = print,
) -> dict[str, Any]:
    """Make the maps of several dates consistent, and say what changed when.

    maps: in the order of time, on one grid, with one legend. output: folder for classes_DATE.tif, stable.tif (the
    class of pixels that keep one), last_change.tif (number of the date, from 1, since which a pixel has its last
    class, 0 for never changed), hectares.csv and hectares.svg. legend: as `value_legend` takes it. stay: probability
    that a pixel keeps its class from one date to the next; table: CSV of probabilities from,to,probability by class
    code instead (what it lacks is 0; each row must sum to 1).
    Returns `stable_ha`, `changed_ha` and `dates`. Raises RasterError, LegendError or SettingsError where the
    maps or the table cannot be used.
    """
    check_distinct(
        {"the legend": legend, "the probabilities": table}, {"the table": output / "hectares.csv"}
    )
    with contextlib.ExitStack() as stack:
        rasters = [
            stack.enter_context(
                open_classes(one.classes, output / f"classes_{one.label}.tif", legend)
            )
            for one in maps
        ]
        _check_alike(rasters)
        sure = _confidences(maps, rasters, stack)
        known = rasters[0].legend
        transitions = (
            Transitions.staying(known.codes, stay)
            if table is None
            else _read_table(table, known.codes)
        )
        hectares = _filter(
            rasters, sure, transitions, _writers(maps, rasters[0], output, stack), report
        )
    for name in (*(f"classes_{one.label}" for one in maps), "stable"):
        write_raster_style(output / f"{name}.tif", known)
    labels = [one.label for one in maps]
    write_text(output / "hectares.csv", csv_text(_rows(labels, known, hectares), COLUMNS))
    write_text(output / "hectares.svg", hectare_chart(labels, known, hectares.consistent))
    classified = float(hectares.consistent[0][list(known.codes)].sum())
    changed = float(hectares.changed)
    return {"dates": labels, "changed_ha": changed, "stable_ha": classified - changed}


@dataclass(frozen=True)
class _Hectares:
    """By date and class code, (dates, 256)."""

    mapped: NDArray[np.float64]
    consistent: NDArray[np.float64]
    changed: float


def _filter(
    rasters: Sequence[ClassRaster],
    sure: Sequence[DatasetReader] | None,
    transitions: Transitions,
    writers: Sequence[TileFileWriter],
    report: Report,
) -> _Hectares:
    """Filter all dates strip by strip, write them, and add up their areas."""
    grid, count = rasters[0].grid, len(rasters)
    areas = PixelAreas(grid)
    tallies = [Tally.zeros(256) for _ in range(2 * count + 1)]
    for rows, classes, percent in _strips(rasters, sure):
        found = most_likely(classes, percent, transitions)
        latest = last_change(found)
        layers = [*classes, *found, (latest > 0).astype(np.uint8)]
        for tally, layer in zip(tallies, layers, strict=True):
            tally.add(layer, areas.units(rows))
        for writer, made in zip(writers, (*found, stable_classes(found), latest), strict=True):
            writer.write(made[None])
        report(f"series: {rows.stop:,} of {grid.shape[0]:,} rows")
    hectares = np.stack([areas.hectares(tally.units) for tally in tallies])
    return _Hectares(hectares[:count], hectares[count:-1], hectares[-1][1])


def _check_alike(rasters: Sequence[ClassRaster]) -> None:
    first = rasters[0]
    for other in rasters[1:]:
        if other.grid != first.grid:
            raise RasterError(
                f"{other.dataset.name} lies on another grid than {first.dataset.name}; map all dates of a region "
                "with the same crs and resolution."
            )
        if other.legend != first.legend:
            raise LegendError(
                f"{other.dataset.name} has another legend than {first.dataset.name}; a series needs one."
            )
    if max(first.legend.codes) > 255:
        raise LegendError(
            f"{first.dataset.name} has codes above 255; a series takes legends of up to 255."
        )


def _confidences(
    maps: Sequence[DatedMap], rasters: Sequence[ClassRaster], stack: contextlib.ExitStack
) -> list[DatasetReader] | None:
    """Open confidence rasters; None unless all maps have one."""
    paths = [one.confidence for one in maps if one.confidence]
    if len(paths) < len(maps):
        return None
    opened = [stack.enter_context(open_raster(path)) for path in paths]
    for dataset in opened:
        check_confidence(dataset)
        if raster_grid(dataset) != rasters[0].grid:
            raise RasterError(
                f"{dataset.name} lies on another grid than {rasters[0].dataset.name}."
            )
    return opened


def _strips(
    rasters: Sequence[ClassRaster], sure: Sequence[DatasetReader] | None
) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """Rows, classes and percents, (dates, rows, cols), from top to bottom."""
    height, width = rasters[0].grid.shape
    step = int(np.clip(_BUDGET // (width * len(rasters)), 1, height))
    classes = zip(*(raster.strips(step) for raster in rasters), strict=True)
    percents = (
        zip(*(percent_strips(dataset, step) for dataset in sure), strict=True) if sure else None
    )
    for parts in classes:
        stacked = np.stack([codes for _, codes in parts]).astype(np.uint8, copy=False)
        percent = np.stack(next(percents)) if percents else None
        yield parts[0][0], stacked, percent


def _writers(
    maps: Sequence[DatedMap], first: ClassRaster, output: Path, stack: contextlib.ExitStack
) -> list[TileFileWriter]:
    """Of the map of each date, of the stable classes, of the date of the last change."""
    tags = {"LEGEND": json.dumps(first.legend.to_records())}
    profile = CogProfile("uint8", ["class"], "mode", first.legend.colormap(), tags)
    dates = {"DATES": ",".join(one.label for one in maps)}
    numbers = CogProfile("uint16", ["number of the date of the last change"], "mode", tags=dates)
    files = [(f"classes_{one.label}.tif", profile) for one in maps]
    files += [("stable.tif", profile), ("last_change.tif", numbers)]
    return [stack.enter_context(open_cog(output / name, first.grid, how)) for name, how in files]


def _read_table(path: Path, codes: Sequence[int]) -> Transitions:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        found = np.zeros((len(codes), len(codes)))
        for row in rows:
            at = codes.index(int(row["from"])), codes.index(int(row["to"]))
            found[at] = float(row["probability"])
    except (OSError, UnicodeError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{path} is no transition table: {error}; it needs the columns from, to, probability with the "
            f"codes {list(codes)}."
        ) from error
    return Transitions(tuple(codes), found)


def _rows(labels: Sequence[str], legend: Legend, hectares: _Hectares) -> list[dict[str, Any]]:
    return [
        {
            "date": label, "class_code": c.code, "class_name": c.name,
            "mapped_ha": float(hectares.mapped[number][c.code]),
            "consistent_ha": float(hectares.consistent[number][c.code]),
        }
        for number, label in enumerate(labels)
        for c in legend.classes
    ]  # fmt: skip
