"""Estimate the accuracy of a map and the true areas of its classes from a labelled sample."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from rich.table import Table
from rich.text import Text

from landcover.antimeridian import near_grid
from landcover.area_estimation import LabelledSample, Measure
from landcover.errors import SampleError, SettingsError
from landcover.legend import NODATA
from pipeline.artifacts import check_distinct, write_json, write_text
from pipeline.cog import open_raster, raster_grid
from pipeline.csv_table import csv_text
from pipeline.sample_file import SampleFile, read_sample
from pipeline.value_legend import named_legend

_FEW = 5
"""Sampled pixels of a class that the map calls something else below which 1.96 standard errors are rough."""
_SAME = 1e-6
"""Largest relative difference of areas of the same class of the same map."""


def estimate_areas(
    *,
    sample: Path,
    output: Path | None = None,
    areas: Path | None = None,
    reference: Path | None = None,
    legend: str | None = None,
    allow_unlabelled: bool = False,
) -> dict[str, Any]:
    """Estimate accuracy and areas, with 95 % intervals, from a sample that was drawn and labelled.

    sample: GeoPackage of `pipeline.draw_sample.draw_sample`. output: JSON of the result; its classes go
    into a CSV beside it. areas: table of `summarize` for the same map, whose columns of hectares are set
    beside the estimates. reference: raster that labels the sample instead of a person. legend: what its
    values mean, as `pipeline.value_legend.named_legend` takes it; None where they are the codes of its own
    legend or, without one, mean what those of the sampled map meant. allow_unlabelled: leave out pixels without a label, which is sound only if they are so by chance.
    Returns JSON values: overall_accuracy, classes (one record each), matrix of sampled pixels and of
    proportions (rows map, columns reference), notes; what is not known is None.
    Raises SampleError where labels are missing or are no classes, or a stratum has too few; SettingsError
    where `areas` is of another map; RasterError where the reference cannot be read.
    """
    given: dict[str, Path | str | None] = {
        "the sample": sample, "the areas": areas, "the reference": reference, "the legend": legend,
    }  # fmt: skip
    table = _csv_path(output, given) if output else None
    file = read_sample(sample)
    labels = file.labels if reference is None else _from_raster(reference, file, legend)
    unlabelled = int((labels == NODATA).sum())
    _check_labelled(sample, reference, labels, allow_unlabelled)
    labelled = _labelled(file, labels)
    beside = _read_areas(areas, file) if areas else {}
    result = _result(file, labelled, beside) | {"unlabelled": unlabelled}
    result["notes"] = _notes(result, file, labels)
    if output and table:
        write_json(output, result)
        write_text(table, csv_text(result["classes"]))
    return result


def estimate_tables(result: Mapping[str, Any]) -> list[Table]:
    """The result of `estimate_areas` for the screen: the matrix, accuracies, areas."""
    return [_matrix_table(result), _accuracy_table(result), _area_table(result)]


def _check_labelled(
    sample: Path, reference: Path | None, labels: NDArray[np.int64], allowed: bool
) -> None:
    missing = int((labels == NODATA).sum())
    if missing == len(labels):
        raise SampleError(
            f"None of the {len(labels)} pixels of {reference or sample} has a label; open the layer sample in QGIS, "
            "switch editing on and choose the class of each."
        )
    if missing and not allowed:
        raise SampleError(
            f"{missing} of {len(labels)} pixels of {reference or sample} have no label (the first is "
            f"{int(np.flatnonzero(labels == NODATA)[0]) + 1}); label them, or give --allow-unlabelled to leave them out."
        )


def _labelled(file: SampleFile, labels: NDArray[np.int64]) -> LabelledSample:
    """The pixels that have a label, as the estimators take them."""
    codes = np.asarray(file.legend.codes)
    place = np.zeros(int(codes.max()) + 1, np.int64)
    place[codes] = np.arange(len(codes))
    kept = labels != NODATA
    return LabelledSample(
        len(codes),
        tuple(s.name for s in file.strata),
        np.array([s.hectares for s in file.strata]),
        np.array([s.pixels for s in file.strata]),
        file.numbers[kept] - 1,
        place[file.codes[kept]],
        place[labels[kept]],
        file.areas[kept],
    )


def _from_raster(path: Path, file: SampleFile, legend: str | None) -> NDArray[np.int64]:
    """Codes of a raster at the centres of the sampled pixels; 0 outside it."""
    with open_raster(path) as dataset:
        grid = raster_grid(dataset)
        move = pyproj.Transformer.from_crs(file.crs, dataset.crs, always_xy=True)
        xs, ys = move.transform(*file.centres.T)
        xs = near_grid(xs, grid)
        back = ~grid.affine
        cols, rows = (
            np.floor(np.nan_to_num(value, nan=-1, posinf=-1, neginf=-1)).astype(np.int64)
            for value in (back.a * xs + back.b * ys + back.c, back.d * xs + back.e * ys + back.f)
        )
        inside = (rows >= 0) & (rows < dataset.height) & (cols >= 0) & (cols < dataset.width)
        values = np.full(len(rows), np.nan)
        try:
            for i in np.flatnonzero(inside):
                found = dataset.read(1, window=Window(cols[i], rows[i], 1, 1), masked=True)
                values[i] = found.astype(float).filled(np.nan)[0, 0]
        except RasterioError as error:
            raise SampleError(f"{path} cannot be read: {error}; check that it is whole.") from error
        meanings = _meanings(dataset, file, legend)
    known = ~np.isnan(values)
    _check_known(path, set(values[known].tolist()), meanings, file)
    labels = np.full(len(values), NODATA)
    labels[known] = [meanings[value] for value in values[known].tolist()]
    return labels


def _meanings(dataset: DatasetReader, file: SampleFile, legend: str | None) -> Mapping[float, int]:
    """Code of each stored value of a reference."""
    if legend is not None:
        codes = named_legend(legend).codes
    elif "LEGEND" in dataset.tags():
        codes = {code: code for code in file.legend.codes}
    else:
        codes = file.values
    return {0.0: NODATA} | {float(value): code for value, code in codes.items()}


def _check_known(
    path: Path, values: set[float], meanings: Mapping[float, int], file: SampleFile
) -> None:
    strange = sorted(
        v for v in values if v not in meanings or meanings[v] not in (NODATA, *file.legend.codes)
    )
    if strange:
        raise SampleError(
            f"{path} holds {', '.join(f'{v:g}' for v in strange[:5])} at sampled pixels, which is no class of the "
            f"map (codes {', '.join(map(str, file.legend.codes))}); give a reference with its codes, or say by "
            "--legend what its values mean."
        )


def _result(
    file: SampleFile, sample: LabelledSample, beside: Mapping[int, Mapping[str, float | None]]
) -> dict[str, Any]:
    overall = sample.overall_accuracy
    return {
        "map": file.settings.get("map"),
        "map_sha256": file.settings.get("map_sha256"),
        "pixels": int(sample.drawn.sum()),
        "strata": [
            {"name": s.name, "hectares": s.hectares, "pixels": s.pixels, "labelled": int(n)}
            for s, n in zip(file.strata, sample.drawn, strict=True)
        ],
        "area_ha": float(sample.hectares.sum()),
        "overall_accuracy": _share("", overall)
        | {"low": _known(overall.low), "high": _known(overall.high)},
        "classes": [
            {
                "class_code": c.class_code,
                "class_name": c.class_name,
                "labelled": int(sample.counts[:, k].sum()),
                "pixel_ha": c.mapped_ha,
                **beside.get(c.class_code, {}),
                **_hectares(sample.area(k)),
                **_share("users_accuracy", sample.users_accuracy(k)),
                **_share("producers_accuracy", sample.producers_accuracy(k)),
            }
            for k, c in enumerate(file.classes)
        ],
        "matrix": sample.counts.tolist(),
        "proportions": sample.proportions.tolist(),
    }


def _hectares(area: Measure) -> dict[str, float | None]:
    """An area with its standard error, 1.96 of these, and its 95 % interval."""
    return {
        "estimated_ha": _known(area.value),
        "standard_error_ha": _known(area.error),
        "margin_ha": _known(area.margin),
        "low_ha": _known(area.low),
        "high_ha": _known(area.high),
    }


def _share(name: str, measure: Measure) -> dict[str, float | None]:
    """A share with its standard error and 1.96 of these."""
    start = f"{name}_" if name else ""
    return {
        name or "value": _known(measure.value),
        f"{start}standard_error": _known(measure.error),
        f"{start}margin": _known(measure.margin),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _notes(result: Mapping[str, Any], file: SampleFile, labels: NDArray[np.int64]) -> list[str]:
    """What a reader must know before quoting the figures, one sentence each."""
    notes = []
    counts = np.asarray(result["matrix"])
    missed = counts.sum(axis=0) - counts.diagonal()
    rough = [
        f"{c.class_name} ({n})"
        for c, n in zip(file.classes, missed, strict=True)
        if c.mapped_pixels and n < _FEW
    ]
    if rough:
        notes.append(
            f"The map missed fewer than {_FEW} sampled pixels of {', '.join(rough)}: there \u00b1 may be too short; "
            "go by the interval, or draw a larger sample."
        )
    if result["unlabelled"]:
        last = int(np.flatnonzero(labels).max()) + 1
        gaps = int((labels[:last] == NODATA).sum())
        notes.append(
            f"{result['unlabelled']} of {len(labels)} pixels have no label and were left out"
            + (
                f"; {gaps} of them come before pixels that have one, so they were skipped, not left for later: "
                "if they are harder than others, all figures are biased."
                if gaps
                else ", the last in a random order, so the rest is still a random sample."
            )
        )
    return notes


def _read_areas(path: Path, file: SampleFile) -> dict[int, dict[str, float | None]]:
    """Hectares beside the estimate, by class code; SettingsError where the table is of another map."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
        pixels = {int(row["class_code"]): float(row["area_ha"]) for row in rows}
        polygons = {
            int(row["class_code"]): float(row["polygon_ha"]) for row in rows if row.get("polygon_ha")
        }  # fmt: skip
    except (OSError, UnicodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{path} is no area table of `landcover summarize` ({error}); give the areas.csv of the map."
        ) from error
    for c in file.classes:
        found = pixels.get(c.class_code, 0.0)
        if not math.isclose(found, c.mapped_ha, rel_tol=_SAME, abs_tol=_SAME):
            raise SettingsError(
                f"{path} is of another map than the sample: it has {found:,.2f} ha of {c.class_name}, the sampled "
                f"map {c.mapped_ha:,.2f} ha; give the areas.csv of that map."
            )
    codes = file.legend.codes if polygons else ()
    return {code: {"polygon_ha": polygons.get(code)} for code in codes}


def _csv_path(output: Path, given: Mapping[str, Path | str | None]) -> Path:
    """Where the table goes; SettingsError where one of the two would overwrite what was given."""
    if output.suffix.lower() != ".json":
        raise SettingsError(
            f"The result would be {output}; name a file that ends in .json (its table goes into a .csv beside it)."
        )
    table = output.with_suffix(".csv")
    check_distinct(given, {"the result": output, "its table": table})
    return table


def _matrix_table(result: Mapping[str, Any]) -> Table:
    table = Table(
        title="Error matrix: sampled pixels and share of the area (%)",
        caption="Rows are the map, columns the truth.",
    )
    table.add_column("Code", justify="right")
    table.add_column("Map")
    for row in result["classes"]:
        table.add_column(str(row["class_code"]), justify="right")
    for row, counts, shares in zip(result["classes"], result["matrix"], result["proportions"], strict=True):  # fmt: skip
        cells = [f"{n:,}\n{100 * p:.2f}" if n else "-" for n, p in zip(counts, shares, strict=True)]
        table.add_row(str(row["class_code"]), Text(row["class_name"]), *cells)
    return table


def _accuracy_table(result: Mapping[str, Any]) -> Table:
    overall = result["overall_accuracy"]
    table = Table(
        title="Accuracy \u00b1 1.96 standard errors",
        caption=f"Overall accuracy {_plus_minus(overall['value'], overall['margin'], 3)}, "
        f"{result['pixels']:,} labelled pixels; \u00b1 0 means that no error was found, not that there is none",
    )
    table.add_column("Class")
    for header in ("User's acc.", "Producer's acc."):
        table.add_column(header, justify="right")
    for row in result["classes"]:
        figures = (
            _plus_minus(row[name], row[f"{name}_margin"], 3)
            for name in ("users_accuracy", "producers_accuracy")
        )
        table.add_row(Text(row["class_name"]), *figures)
    return table


def _area_table(result: Mapping[str, Any]) -> Table:
    polygons = any("polygon_ha" in row for row in result["classes"])
    table = Table(
        title="Area by class, mapped and estimated (ha, with 95 % interval)",
        caption="\u00b1 is 1.96 standard errors; the interval also holds where few pixels were found.",
    )
    table.add_column("Class")
    headers = ["Pixels", *(["Polygons"] if polygons else []), "Estimated", "Interval"]
    for header in headers:
        table.add_column(header, justify="right")
    for row in result["classes"]:
        mapped = [row["pixel_ha"], *([row["polygon_ha"]] if polygons else [])]
        low, high = (_figure(row[name], 2) for name in ("low_ha", "high_ha"))
        table.add_row(
            Text(row["class_name"]), *(_figure(value, 2) for value in mapped),
            _plus_minus(row["estimated_ha"], row["margin_ha"], 2), f"{low} to {high}",
        )  # fmt: skip
    return table


def _plus_minus(value: float | None, margin: float | None, digits: int) -> str:
    return f"{_figure(value, digits)} \u00b1 {_figure(margin, digits)}"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
