"""Raster files of a dataset, kept open in each process, and small ones kept decoded."""

import contextlib
import os
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from landcover.errors import DatasetError
from pipeline.items import one_line

DRIVERS = {
    ".tif": "GTiff", ".tiff": "GTiff", ".gtif": "GTiff", ".jp2": "JP2OpenJPEG",
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG",
}  # fmt: skip
"""GDAL driver by file name ending: no other may open a file, as a VRT in disguise names any file."""

_OPEN = 64
_DECODED = 512 * 2**20
"""Bytes of decoded images that a process keeps."""
_LARGEST_BLOCK = 2**20
"""Pixels of a block above which windows cost so much that the image is better kept whole."""
_STRICT = {"GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE", "GDAL_NUM_THREADS": "1"}
"""A JPEG that is cut short is an error, not a grey area; errors in GDAL's own threads get lost."""


class OpenFiles:
    """Open rasters and decoded images of one process. Threads may share them: they read one at a time."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with nothing, as a forked child must: its parent's handles share one place in each file."""
        self._lock = threading.RLock()
        self._open: OrderedDict[Path, DatasetReader] = OrderedDict()
        self._kept: OrderedDict[tuple[Any, ...], NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def dataset(self, path: Path) -> DatasetReader:
        """An open raster; DatasetError where it cannot be opened."""
        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
                return self._open[path]
            found = self._open[path] = _opened(path)
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)[1].close()
            return found

    def read(self, path: Path, bands: tuple[int, ...], rows: slice, cols: slice) -> NDArray[Any]:
        """Stored numbers of a window inside the raster: (bands, rows, cols). DatasetError where it fails.

        bands: from 1; 0 is the file's mask.
        """
        with self._lock:
            dataset = self.dataset(path)
            if not self._is_kept_whole(dataset, len(bands)):
                return _read(dataset, path, bands, rows, cols)
            whole = self.kept((path, bands))
            if whole is None:
                whole = _read(
                    dataset, path, bands, slice(0, dataset.height), slice(0, dataset.width)
                )
                self.keep((path, bands), whole)
            return whole[:, rows, cols]

    def kept(self, key: tuple[Any, ...]) -> NDArray[Any] | None:
        """An array kept under a key; None where there is none any more. It is not to be changed."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: tuple[Any, ...], values: NDArray[Any]) -> None:
        """Keep an array, at the cost of those that were not used for longest."""
        with self._lock:
            if key in self._kept:
                self._bytes -= self._kept.pop(key).nbytes
            self._kept[key] = values
            self._bytes += values.nbytes
            while self._bytes > _DECODED and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def close(self) -> None:
        """Close all files and forget all images."""
        with self._lock:
            for dataset in self._open.values():
                dataset.close()
            self._open.clear()
            self._kept.clear()
            self._bytes = 0

    @staticmethod
    def _is_kept_whole(dataset: DatasetReader, bands: int) -> bool:
        rows, cols = dataset.block_shapes[0]
        untiled = dataset.driver in {"PNG", "JPEG"} or rows * cols > _LARGEST_BLOCK
        numbers = dataset.height * dataset.width * bands
        return bool(untiled and numbers * np.dtype(dataset.dtypes[0]).itemsize <= _DECODED // 2)


FILES = OpenFiles()
"""Those of this process."""
os.register_at_fork(after_in_child=FILES.forget)


def _opened(path: Path) -> DatasetReader:
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise DatasetError(
            f"{path} is no image that can be used: its name must end with one of {', '.join(DRIVERS)}."
        )
    try:
        with warnings.catch_warnings(), rasterio.Env(**_STRICT):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path, driver=driver)
    except (RasterioError, OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: BaseException) -> DatasetError:
    """The error for a file of a dataset that opens or reads badly."""
    reason = one_line(error.__cause__ or error).rstrip(".")
    return DatasetError(
        f"{path} cannot be read ({reason}); it is damaged or incomplete: fetch it again, or take it out."
    )


def _read(
    dataset: DatasetReader, path: Path, bands: tuple[int, ...], rows: slice, cols: slice
) -> NDArray[Any]:
    window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
    jpeg = dataset.driver == "JPEG" or "jpeg" in (dataset.profile.get("compress") or "").lower()
    try:
        with (
            rasterio.Env(**_STRICT) if jpeg else contextlib.nullcontext()
        ):  # it takes as long as a small read
            if bands == (0,):
                return np.asarray(dataset.dataset_mask(window=window))[None]
            found: NDArray[Any] = dataset.read(list(bands), window=window)
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        raise unreadable(path, error) from error
    return found
