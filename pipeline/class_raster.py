"""A class raster, read: its grid, its legend, and its codes in strips."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from landcover.errors import LegendError, RasterError, SettingsError
from landcover.legend import Legend
from pipeline.cog import has_mask, open_raster, raster_grid, unreadable
from pipeline.value_legend import ValueLegend, value_legend

_STRIP = 512
"""Rows of a strip: one row of blocks of our COGs."""
_TYPES = ("uint8", "uint16", "int8", "int16")


@dataclass(frozen=True)
class ClassRaster:
    """An open class raster; see `open_classes`."""

    dataset: DatasetReader
    """The open file."""
    grid: GeoBox
    """Where its pixels are."""
    values: ValueLegend
    """What its stored values mean."""

    @property
    def legend(self) -> Legend:
        """Its classes."""
        return self.values.legend

    def strips(self, step: int = _STRIP) -> Iterator[tuple[slice, NDArray[np.integer]]]:
        """Rows and class codes (rows, cols) from top to bottom, 0 is nodata or hidden by the file's mask.

        Raises RasterError where a read fails, LegendError for a value without a class.
        """
        seen = _masks(self.dataset, step) if has_mask(self.dataset) else itertools.repeat(None)
        for (rows, values), shown in zip(strips(self.dataset, step), seen, strict=False):
            yield rows, self.values.of(values, shown)


@contextlib.contextmanager
def open_classes(path: Path, output: Path, legend: str | None = None) -> Iterator[ClassRaster]:
    """Open a class raster, to make `output` from it.

    legend: as `value_legend` takes it; None for the file's own. Raises SettingsError where the two are
    one file, RasterError where the file is missing, damaged, without CRS or not of whole numbers,
    LegendError where it has no legend or, in the body, a value that the legend lacks.
    """
    if path.resolve() == output.resolve():
        raise SettingsError(
            f"{path} would be overwritten: input and output are one file; name two."
        )
    with open_raster(path) as dataset:
        if dataset.count != 1 or dataset.dtypes[0] not in _TYPES:
            raise RasterError(
                f"{path} has {dataset.count} band(s) of {', '.join(set(dataset.dtypes)) or 'no type'}; a class "
                f"raster has one of {', '.join(_TYPES)}: give the classes.tif of a run."
            )
        raster = ClassRaster(dataset, raster_grid(dataset), value_legend(dataset, legend))
        try:
            yield raster
        except LegendError as error:  # a code that the legend lacks: say in which file
            raise LegendError(f"{path}: {error}") from error


def strips(
    dataset: DatasetReader, step: int = _STRIP, band: int = 1
) -> Iterator[tuple[slice, NDArray[np.integer]]]:
    """Rows and values of a band, from top to bottom; RasterError where a read fails."""
    yield from _read(dataset, functools.partial(dataset.read, band), step)


def _masks(dataset: DatasetReader, step: int) -> Iterator[NDArray[np.bool_]]:
    """Which pixels the file's mask shows, from top to bottom."""
    for _, mask in _read(dataset, functools.partial(dataset.read_masks, 1), step):
        yield mask > 0


def _read(
    dataset: DatasetReader, read: Callable[..., NDArray[Any]], step: int
) -> Iterator[tuple[slice, NDArray[Any]]]:
    for top in range(0, dataset.height, step):
        rows = slice(top, min(top + step, dataset.height))
        try:
            window = ((rows.start, rows.stop), (0, dataset.width))
            yield rows, read(window=window)
        except RasterioError as error:
            raise unreadable(dataset.name, error) from error
