"""A confidence raster: how sure the class of each pixel is, percent."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from landcover.errors import RasterError
from pipeline.class_raster import strips


def check_confidence(dataset: DatasetReader) -> None:
    """Raise RasterError where an open raster is not one band of uint8."""
    if dataset.count != 1 or dataset.dtypes[0] != "uint8":
        raise RasterError(
            f"{dataset.name} is no confidence raster: it has {dataset.count} band(s) of "
            f"{', '.join(sorted(set(dataset.dtypes)))}; give one band of uint8, percent."
        )


def percents(dataset: DatasetReader, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Percent of stored values, 0 where they are the file's nodata; RasterError where one is above 100."""
    known = np.where(values == dataset.nodata, np.uint8(0), values) if dataset.nodata else values
    if (most := known.max(initial=0)) > 100:
        raise RasterError(
            f"{dataset.name} holds a confidence of {most}; it is percent, so give a raster of 0 (no data) to 100."
        )
    return known


def percent_strips(dataset: DatasetReader, step: int) -> Iterator[NDArray[np.uint8]]:
    """Percent (rows, cols) from top to bottom; RasterError where a read fails or a value is above 100."""
    for _, values in strips(dataset, step):
        yield percents(dataset, values.astype(np.uint8, copy=False))
