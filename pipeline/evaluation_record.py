"""An evaluation as JSON values and as a table."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from landcover.legend import Legend
from landcover.metrics import ErrorMatrix
from landcover.object_sizes import SIZES
from landcover.reliability import Reliability
from landcover.scores import BY_CLASS, OVERALL, Score, scores
from pipeline.evaluation import Evaluation

_DIGITS = 6


def evaluation_record(
    found: Evaluation,
    legend: Legend,
    images: Sequence[str],
    baselines: Mapping[str, ErrorMatrix],
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """All counts and measures; one that is not known is None. `low` and `high` are 95 % intervals."""
    blocks = found.by_block()
    score = scores([*blocks.values()], replicates, seed)
    total = sum((one.matrix for one in blocks.values()), ErrorMatrix.empty(found.codes))
    borders = [
        f"{kind}@{t:g}" for kind in ("boundary_f1", "boundary_iou") for t in found.tolerances
    ]
    return {
        "overall": {name: _interval(score[name]) for name in (*OVERALL, *borders)},
        "pixels": total.pixels,
        "classes": [
            {
                "code": c.code,
                "name": c.name,
                "color": c.color,
                "reference_pixels": int(total.reference[i]),
                "mapped_pixels": int(total.mapped[i]),
                **{name: _interval(score[f"{name}:{c.code}"]) for name in (*BY_CLASS, *borders)},
            }
            for i, c in enumerate(legend.classes)
        ],
        "matrix": total.counts.tolist(),
        "blocks": [{"block": n, **_short(one.measures(), one.matrix)} for n, one in blocks.items()],
        "images": [
            {"image": images[n], **_short(one.measures(), one.matrix)}
            for n, one in found.by_image().items()
        ],
        "object_sizes": _sizes(found, legend),
        "calibration": {
            name: {"temperature": found.temperatures[name], **_reliability(table)}
            for name, table in found.reliability.items()
        },
        "baselines": {name: _baseline(matrix) for name, matrix in baselines.items()},
    }


def matrix_csv(found: Evaluation, legend: Legend) -> str:
    """The error matrix: a row for each mapped class, a column for each reference class."""
    total = sum((one.matrix for one in found.parts.values()), ErrorMatrix.empty(found.codes))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["map \\ reference", *map(_cell, legend.names)])
    for name, row in zip(legend.names, total.counts.tolist(), strict=True):
        table.writerow([_cell(name), *row])
    return text.getvalue()


def known(value: float) -> float | None:
    """A number for JSON, rounded; None where it is not known."""
    return round(float(value), _DIGITS) if math.isfinite(value) else None


def _cell(name: str) -> str:
    """A class name that a spreadsheet does not take for a formula."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name


def _interval(score: Score) -> dict[str, float | None]:
    return {"value": known(score.value), "low": known(score.low), "high": known(score.high)}


def _short(measures: Mapping[str, float], matrix: ErrorMatrix) -> dict[str, Any]:
    names = [name for name in measures if name in OVERALL or ("@" in name and ":" not in name)]
    return {"pixels": matrix.pixels, **{name: known(measures[name]) for name in names}}


def _baseline(matrix: ErrorMatrix) -> dict[str, Any]:
    values = {name: known(getattr(matrix, name)) for name in OVERALL}
    return {**values, "iou": [known(value) for value in matrix.iou]}


def _sizes(found: Evaluation, legend: Legend) -> list[dict[str, Any]]:
    """Share found of the reference pixels of objects of each size, by class and in all."""
    rows = []
    for i, least in enumerate(SIZES):
        pixels, right = found.sizes.pixels[i], found.sizes.found[i]
        rows.append(
            {
                "least_pixels": least,
                "below_pixels": SIZES[i + 1] if i + 1 < len(SIZES) else None,
                "pixels": int(pixels.sum()),
                "found": _share(right.sum(), pixels.sum()),
                "classes": [
                    {"code": code, "pixels": int(p), "found": _share(r, p)}
                    for code, p, r in zip(legend.codes, pixels, right, strict=True)
                ],
            }
        )
    return rows


def _share(part: int, whole: int) -> float | None:
    return known(part / whole) if whole else None


def _reliability(table: Reliability) -> dict[str, Any]:
    return {
        "expected_calibration_error": known(table.expected_error),
        "maximum_calibration_error": known(table.largest_error),
        "bins": [
            {"pixels": int(n), "confidence": known(sure), "accuracy": known(right)}
            for n, sure, right in zip(
                table.pixels, table.mean_confidence, table.accuracy, strict=True
            )
        ],
    }
