"""Compare a class raster with reference data on the same grid."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from rich.table import Table
from rich.text import Text

from landcover.errors import RasterError
from landcover.metrics import ErrorMatrix
from pipeline.cog import read_legend

_SIDE = 2048
"""Pixels along a block: 4 Mpx of two uint8 rasters, a multiple of the COG block size."""
_ALIGNED = 1e-3
"""Largest shift of pixel borders taken as none, pixels."""


def assess(*, classes: Path, truth: Path) -> dict[str, Any]:
    """Accuracy of a class raster against reference data, read block by block.

    classes: our class raster (uint8, 0 nodata, tag LEGEND). truth: raster of the same codes, 0
    nodata, on the same grid or shifted by whole pixels; only the shared area counts.
    Returns JSON values: overall_accuracy, mean_iou, pixels, classes (one record each), and matrix
    (rows map, columns reference, see landcover.metrics.ErrorMatrix); an unknown measure is None.
    Raises RasterError where a raster cannot be read, is of another grid, or the two share no
    pixel; LegendError where a code is not in the legend.
    """
    try:
        with rasterio.open(classes) as mapped, rasterio.open(truth) as reference:
            legend = read_legend(mapped)
            matrix = ErrorMatrix.empty(legend.codes)
            for here, there in _shared_blocks(mapped, reference):
                matrix += ErrorMatrix.count(
                    _codes(mapped, here), _codes(reference, there), legend.codes
                )
    except RasterioError as error:
        raise RasterError(
            f"{classes} and {truth} could not be compared: {error}; check that both files are whole."
        ) from error
    return {
        "overall_accuracy": _known(matrix.overall_accuracy),
        "mean_iou": _known(matrix.mean_iou),
        "pixels": matrix.pixels,
        "classes": [
            {"code": c.code, "name": c.name} | _measures(matrix, i)
            for i, c in enumerate(legend.classes)
        ],
        "matrix": matrix.counts.tolist(),
    }


def accuracy_table(result: Mapping[str, Any]) -> Table:
    """The result of `assess` as a table for the screen, the overall figures below it."""
    table = Table(
        title="Accuracy against reference data",
        caption=f"Overall accuracy {_figure(result['overall_accuracy'])}, "
        f"mean IoU {_figure(result['mean_iou'])}, {result['pixels']:,} pixels",
    )
    table.add_column("Class")
    for name in ("IoU", "F1", "User's acc.", "Producer's acc.", "Reference px"):
        table.add_column(name, justify="right")
    for row in result["classes"]:
        figures = (row["iou"], row["f1"], row["users_accuracy"], row["producers_accuracy"])
        # Text, because a class name with [brackets] is not markup.
        table.add_row(Text(row["name"]), *map(_figure, figures), f"{row['reference_pixels']:,}")
    return table


def _measures(matrix: ErrorMatrix, i: int) -> dict[str, Any]:
    return {
        "iou": _known(matrix.iou[i]),
        "f1": _known(matrix.f1[i]),
        "users_accuracy": _known(matrix.users_accuracy[i]),
        "producers_accuracy": _known(matrix.producers_accuracy[i]),
        "mapped_pixels": int(matrix.mapped[i]),
        "reference_pixels": int(matrix.reference[i]),
        "agreed_pixels": int(matrix.agreed[i]),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _codes(dataset: DatasetReader, window: Window) -> NDArray[np.uint8]:
    block = dataset.read(1, window=window)
    codes: NDArray[np.uint8] = np.clip(block, 0, 255).astype(np.uint8)
    if not np.array_equal(codes, block):
        raise RasterError(
            f"{dataset.name} holds values that are no class codes ({block.min()} to {block.max()}); "
            "codes are whole numbers from 0 (nodata) to 255."
        )
    return codes


def _shared_blocks(
    mapped: DatasetReader, reference: DatasetReader
) -> Iterator[tuple[Window, Window]]:
    """Windows of the same ground in both rasters, 2048 pixels a side at most."""
    down, right = _offset(mapped, reference)
    top, left = max(0, -down), max(0, -right)
    bottom = min(mapped.height, reference.height - down)
    end = min(mapped.width, reference.width - right)
    if top >= bottom or left >= end:
        raise RasterError(
            f"{mapped.name} and {reference.name} share no pixel; give a reference for this area."
        )
    for row in range(top, bottom, _SIDE):
        for col in range(left, end, _SIDE):
            size = (min(_SIDE, end - col), min(_SIDE, bottom - row))
            yield Window(col, row, *size), Window(col + right, row + down, *size)


def _offset(mapped: DatasetReader, reference: DatasetReader) -> tuple[int, int]:
    """Rows and columns to add to a pixel of the map to find it in the reference."""
    if mapped.crs is None or mapped.crs != reference.crs:
        raise RasterError(
            f"{reference.name} is in {reference.crs or 'no CRS'} and {mapped.name} in "
            f"{mapped.crs or 'no CRS'}; reproject the reference onto the grid of the map."
        )
    step = ~reference.transform @ mapped.transform
    # Drift over the whole raster counts, so a slightly different pixel size does not pass.
    drift = max(
        abs(step.a - 1) * mapped.width, abs(step.b) * mapped.height,
        abs(step.d) * mapped.width, abs(step.e - 1) * mapped.height,
        abs(step.c - round(step.c)), abs(step.f - round(step.f)),
    )  # fmt: skip
    if drift > _ALIGNED:
        raise RasterError(
            f"{reference.name} (pixel {reference.res}) does not lie pixel on pixel with "
            f"{mapped.name} (pixel {mapped.res}); resample the reference onto the grid of the map."
        )
    return round(step.f), round(step.c)
