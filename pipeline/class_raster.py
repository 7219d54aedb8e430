"""A class raster of ours, read: its grid, its legend, and its codes in strips."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from landcover.errors import LegendError, RasterError, SettingsError
from landcover.legend import Legend
from pipeline.cog import open_raster, raster_grid, read_legend, unreadable

_STRIP = 512
"""Rows of a strip: one row of blocks of our COGs."""


@dataclass(frozen=True)
class ClassRaster:
    """An open class raster; see `open_classes`."""

    dataset: DatasetReader
    """The open file."""
    grid: GeoBox
    """Where its pixels are."""
    legend: Legend
    """What its codes mean."""

    def strips(self) -> Iterator[tuple[slice, NDArray[np.integer]]]:
        """Rows and class codes (rows, cols) from top to bottom; RasterError where a read fails."""
        return strips(self.dataset)


@contextlib.contextmanager
def open_classes(path: Path, output: Path) -> Iterator[ClassRaster]:
    """Open a class raster that carries its legend, to make `output` from it.

    Raises SettingsError where the two are one file, RasterError where the file is missing, damaged, without CRS or not of whole numbers,
    LegendError where it has no legend or, in the body, a code that the legend lacks.
    """
    if path.resolve() == output.resolve():
        raise SettingsError(
            f"{path} would be overwritten: input and output are one file; name two."
        )
    with open_raster(path) as dataset:
        if tuple(dataset.dtypes) not in {("uint8",), ("uint16",)}:
            raise RasterError(
                f"{path} has {dataset.count} band(s) of {', '.join(set(dataset.dtypes)) or 'no type'}; a class "
                "raster has one of uint8 or uint16: give the classes.tif of a run."
            )
        if dataset.nodata not in (None, 0):
            raise RasterError(
                f"{path} marks nodata by {dataset.nodata:g}; here 0 is nodata: recode it."
            )
        raster = ClassRaster(dataset, raster_grid(dataset), read_legend(dataset))
        try:
            yield raster
        except LegendError as error:  # a code that the legend lacks: say in which file
            raise LegendError(f"{path}: {error}") from error


def strips(
    dataset: DatasetReader, step: int = _STRIP
) -> Iterator[tuple[slice, NDArray[np.integer]]]:
    """Rows and values of the first band, from top to bottom; RasterError where a read fails."""
    for top in range(0, dataset.height, step):
        rows = slice(top, min(top + step, dataset.height))
        try:
            window = ((rows.start, rows.stop), (0, dataset.width))
            yield rows, dataset.read(1, window=window)
        except RasterioError as error:
            raise unreadable(dataset.name, error) from error
