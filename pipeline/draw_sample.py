"""Draw the pixels of a class raster that a person is to label, so that areas can be estimated."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from landcover.errors import RasterError, SampleError, SettingsError
from landcover.legend import Legend
from landcover.sampling import (
    RankPicker,
    allocate,
    draw_ranks,
    expected_agreement,
    expected_error,
    expected_share,
    sample_size,
)
from pipeline.artifacts import file_hash
from pipeline.sample_file import (
    MappedClass,
    SampledPixels,
    read_sample,
    value_setting,
    write_sample,
)
from pipeline.sampling_frame import Cells, SamplingFrame, sampling_frame

_OVERALL = "overall accuracy"
_ORDER = 0
"""Draws the order of the pixels; the numbers of the strata draw the pixels themselves."""


@dataclass(frozen=True)
class _Plan:
    """How many pixels of each stratum, and what that leads to."""

    drawn: NDArray[np.int64]
    error: float
    """Expected standard error of the target."""
    needed: int
    """Pixels that the target needs; 0 where the size was given."""


def draw_sample(
    *,
    classes: Path,
    output: Path,
    strata: Path | None = None,
    cross: bool = False,
    legend: str | None = None,
    error: float = 0.01,
    target: str | None = None,
    conjecture: Sequence[str] = ("0.8",),
    minimum: int = 50,
    size: int | None = None,
    seed: int = 1,
    strip_rows: int | None = None,
) -> dict[str, Any]:
    """Draw a stratified random sample of pixels and write it as a GeoPackage to label in QGIS.

    classes: any class raster; legend: as `pipeline.value_legend.value_legend` takes it. strata: raster of
    strata on the same grid, e.g. of change; None for the map's classes. cross: each class within each of them.
    error: standard error wanted, a share of the area: of the overall accuracy, or of the area of the
    class `target` (code or name). conjecture: expected user's accuracies, each a number for all classes,
    CLASS=NUMBER, or a CSV file with the columns class_code and users_accuracy. minimum: pixels of each
    stratum, at least. size: of the sample, instead of error. seed: equal seeds draw equal samples.
    strip_rows: rows read at a time; they change nothing.
    Returns the strata with their sampled pixels, the size, that wanted before the minimum of each stratum, and
    the standard error to be expected.
    Raises RasterError, LegendError or SettingsError where an input cannot be used, SampleError where
    nothing can be drawn or `output` holds labels.
    """
    _check_settings(minimum, size, seed)
    _check_unlabelled(output)
    with sampling_frame(
        classes, output, strata=strata, cross=cross, legend=legend, strip_rows=strip_rows
    ) as frame:
        cells, names = frame.cells, frame.raster.legend
        users = _users_accuracy(conjecture, names)
        shares = (
            expected_agreement(cells.hectares, users)
            if target is None
            else expected_share(cells.hectares, users, _place(target, names, "--area-of"))
        )
        plan = _plan(cells, shares, error, minimum, size)
        pixels = _draw(frame, plan.drawn, seed)
        write_sample(
            output, frame.raster.grid, pixels, cells.strata, _mapped(cells, names),
            _settings(classes, strata, seed, target or _OVERALL, plan.error)
            | value_setting(frame.raster.values.codes),
        )  # fmt: skip
    return {
        "strata": [
            {"name": s.name, "hectares": s.hectares, "pixels": s.pixels, "sampled": int(n)}
            for s, n in zip(cells.strata, plan.drawn, strict=True)
        ],
        "size": int(plan.drawn.sum()),
        "wanted": size or plan.needed,
        "target": target or _OVERALL,
        "expected_error": plan.error,
    }


def design_table(details: Mapping[str, Any]) -> Table:
    """The details of `draw_sample` as a table for the screen."""
    target = details["target"]
    what = target if target == _OVERALL else f"share of the area that is {target}"
    table = Table(
        title="Sample to label",
        caption=f"{details['size']:,} pixels; standard error to be expected of the {what}: "
        f"{details['expected_error']:.4f}",
    )
    table.add_column("Stratum")
    for header in ("Area (ha)", "Pixels", "Sampled"):
        table.add_column(header, justify="right")
    for row in details["strata"]:
        table.add_row(
            Text(row["name"]), f"{row['hectares']:,.2f}", f"{row['pixels']:,}", f"{row['sampled']:,}"
        )  # fmt: skip
    return table


def _check_settings(minimum: int, size: int | None, seed: int) -> None:
    if minimum < 2 or (size is not None and size < 1) or seed < 0:
        raise SettingsError(
            f"The minimum is {minimum}, the size {size}, the seed {seed}; give a minimum of 2 or more (one "
            "pixel tells no variance), a size of 1 or more, and a seed of 0 or more."
        )


def _check_unlabelled(output: Path) -> None:
    """A sample that somebody labelled is a day's work; it is not written over."""
    if not output.exists():
        return
    try:
        labelled = int((read_sample(output).labels > 0).sum())
    except SampleError as error:
        raise SettingsError(
            f"{output} exists and is not an unlabelled sample; name another file or remove it."
        ) from error
    if labelled:
        raise SettingsError(
            f"{output} holds {labelled} labels that would be lost; name another file."
        )


def _plan(
    cells: Cells, shares: NDArray[np.float64], error: float, minimum: int, size: int | None
) -> _Plan:
    hectares, pixels = (
        np.array([getattr(s, name) for s in cells.strata]) for name in ("hectares", "pixels")
    )
    weights = hectares / hectares.sum()
    needed = 0 if size else sample_size(weights, shares, error, int(pixels.sum()))
    drawn = allocate(weights, pixels, size or needed, minimum)
    return _Plan(drawn, expected_error(weights, shares, drawn), needed)


def _draw(frame: SamplingFrame, drawn: NDArray[np.int64], seed: int) -> SampledPixels:
    """Pick the pixels of drawn ranks in one more pass, and shuffle them."""
    strata = frame.cells.strata
    picker = RankPicker(
        [draw_ranks(s.pixels, int(n), (seed, s.number)) for s, n in zip(strata, drawn, strict=True)]
    )
    width = int(frame.raster.grid.shape[1])
    parts = []
    for rows, numbers, codes in frame.strips():
        places, found = picker.take(numbers)
        if len(places):
            areas = frame.areas.rows(rows).ravel()[places]
            row, col = np.divmod(places, width)
            parts.append((row + rows.start, col, found, codes.ravel()[places].astype(np.int64), areas))  # fmt: skip
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if len(columns[0]) != drawn.sum():
        raise RasterError(f"{frame.raster.dataset.name} changed while it was read; draw again.")
    by_place = np.lexsort((columns[1], columns[0]))  # strips come in any height
    order = by_place[np.random.default_rng([seed, _ORDER]).permutation(len(by_place))]
    return SampledPixels(*(column[order] for column in columns))


def _mapped(cells: Cells, legend: Legend) -> list[MappedClass]:
    return [
        MappedClass(c.code, c.name, c.color, float(hectares), int(pixels))
        for c, hectares, pixels in zip(
            legend.classes, cells.hectares.sum(axis=0), cells.pixels.sum(axis=0), strict=True
        )
    ]


def _settings(
    classes: Path, strata: Path | None, seed: int, target: str, error: float
) -> dict[str, str]:
    facts = {"map": classes.name, "map_sha256": file_hash(classes)}
    if strata:
        facts |= {"strata": strata.name, "strata_sha256": file_hash(strata)}
    return facts | {
        "seed": str(seed), "target": target, "expected_standard_error": f"{error:.6f}",
    }  # fmt: skip


def _users_accuracy(given: Sequence[str], legend: Legend) -> NDArray[np.float64]:
    """Conjectured user's accuracy of each class; later ones override earlier ones."""
    users = np.full(len(legend), 0.8)
    for one in given:
        name, separator, number = one.rpartition("=")
        if separator:
            users[_place(name, legend, "--conjecture")] = _accuracy(number, one)
        elif Path(one).is_file():
            for code, value in _read_accuracies(Path(one)):
                users[_place(code, legend, one)] = _accuracy(value, one)
        else:
            users[:] = _accuracy(one, one)
    return users


def _place(given: str, legend: Legend, where: str) -> int:
    """Index of a class that is given by its code or its name."""
    code = legend.code_of(given)
    if code is not None:
        return legend.codes.index(code)
    raise SettingsError(
        f"{where} names the class '{given}', which the map does not have; its classes are "
        f"{', '.join(f'{c.code} ({c.name})' for c in legend.classes)}."
    )


def _accuracy(text: str, given: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise SettingsError(
            f"The conjecture '{given}' is no user's accuracy; give a number from 0 to 1, CLASS=NUMBER, or a CSV "
            "file with the columns class_code and users_accuracy."
        )
    return value


def _read_accuracies(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeError, csv.Error) as error:
        raise SettingsError(f"The conjectures in {path} cannot be read: {error}.") from error
    if not rows or not {"class_code", "users_accuracy"} <= set(rows[0]):
        raise SettingsError(f"{path} needs the columns class_code and users_accuracy.")
    return [(row["class_code"] or "", row["users_accuracy"]) for row in rows if row["users_accuracy"]]  # fmt: skip
