"""An image to be mapped, read once from top to bottom ahead of the work."""

import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from landcover.errors import CheckpointError, RasterError
from landcover.inference import Strip, mark_valid
from landcover.tiling import TileGrid, mirror
from pipeline.cog import raster_grid

READERS = 2
"""Threads that read, each its own columns of the image."""

_WRITTEN_BLOCK = 512  # rows of a block of our COGs


@dataclass(frozen=True)
class Image:
    """Where the bands that a model needs are in a raster file."""

    path: Path
    grid: GeoBox
    bands: tuple[int, ...]
    """1-based band numbers, in the model's order."""
    dtype: np.dtype[np.generic]
    """Holds the values of all these bands."""
    nodata: tuple[float | None, ...]
    """Value that means no data, per band; None where none is declared."""
    masked: bool
    """Whether the file has a mask or an alpha band."""
    block: tuple[int, int]
    """Rows and columns of the file's blocks."""
    named: bool
    """False where the bands have no names and were taken in order."""

    def cache_bytes(self) -> int:
        """GDAL cache with which every block is decoded once, and our own are compressed once.

        A read or a write touches two rows of blocks; two uint8 rasters are written.
        """
        cols = int(self.grid.shape[1]) + self.block[1]
        pixel = len(self.bands) * self.dtype.itemsize + self.masked
        return 2 * cols * (self.block[0] * pixel + 2 * _WRITTEN_BLOCK) + 2**24


def open_image(path: Path, names: Sequence[str]) -> Image:
    """Find bands by name (their descriptions, in any case) in a raster.

    A raster without any band names and with exactly as many bands (alpha aside) is taken in order.
    Raises RasterError where it cannot be opened or placed on the Earth, CheckpointError where it
    lacks a band.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is an error here
            dataset = rasterio.open(path)
    except RasterioError as error:
        raise RasterError(f"{path} cannot be opened as a raster: {error}") from error
    with dataset:
        bands = _match(dataset, names)
        grid = raster_grid(dataset)
        if dataset.transform.is_identity:
            raise RasterError(f"{path} has a CRS but no position; give it a geotransform.")
        dtype = np.result_type(*(dataset.dtypes[b - 1] for b in bands))
        if dtype.kind not in "uif":
            raise RasterError(f"{path} holds {dtype} values; a model needs whole or real numbers.")
        flags = [dataset.mask_flag_enums[b - 1] for b in bands]
        return Image(
            path=path,
            grid=grid,
            bands=bands,
            dtype=dtype,
            nodata=tuple(dataset.nodatavals[b - 1] for b in bands),
            masked=any(MaskFlags.per_dataset in f or MaskFlags.alpha in f for f in flags),
            block=dataset.block_shapes[bands[0] - 1],
            named=any(dataset.descriptions),
        )


def _match(dataset: DatasetReader, names: Sequence[str]) -> tuple[int, ...]:
    descriptions = dataset.descriptions
    data = [n for n in dataset.indexes if dataset.colorinterp[n - 1] != ColorInterp.alpha]
    if not any(descriptions) and len(data) == len(names):
        return tuple(data)
    found = {(descriptions[n - 1] or "").strip().lower(): n for n in reversed(data)}
    missing = [name for name in names if name.lower() not in found]
    if missing:
        has = ", ".join(text or "(no name)" for text in descriptions)
        raise CheckpointError(
            f"{dataset.name} has the bands {has}; the model needs {', '.join(names)}, so "
            f"{', '.join(missing)} is missing; name the bands by their descriptions or use "
            "another model."
        )
    return tuple(found[name.lower()] for name in names)


class StripReader:
    """Reads the rows of one tile row after another into a ring, `ahead` tile rows beforehand.

    Each thread reads its own columns with its own file handle, so every block is decoded once.
    Use as a context manager: `wait(i)` before tile row i is used, `release(i)` when no pixel above
    tile row i + 1 is needed any more.
    """

    def __init__(
        self, image: Image, tiles: TileGrid, touched: range, ahead: int, readers: int = READERS
    ) -> None:
        self._image, self._tiles, self._touched, self._ahead = image, tiles, touched, ahead
        slots = min(tiles.tile + ahead * (tiles.tile - tiles.overlap), tiles.height)
        cols = max(tiles.width, tiles.tile)
        self.strip = Strip(
            pixels=np.zeros((len(image.bands), slots, cols), image.dtype),
            valid=np.zeros((slots, cols), np.uint8),
        )
        self._columns = _columns(tiles.width, max(image.block[1], tiles.tile), readers)
        # Cast as GDAL casts: a declared -3.4e38 is another number in float32.
        self._nodata = np.array([n or 0 for n in image.nodata]).astype(image.dtype)
        self._declared = np.array([n is not None for n in image.nodata])
        self._zeros_are_empty = not (self._declared.any() or image.masked)
        self._reads: dict[int, list[Future[None]]] = {}

    def __enter__(self) -> Self:
        self._threads = [ThreadPoolExecutor(1, "read") for _ in self._columns]
        self._datasets = [t.submit(rasterio.open, self._image.path) for t in self._threads]
        for i in self._touched[: self._ahead + 1]:
            self._request(i)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for thread, dataset in zip(self._threads, self._datasets, strict=True):
            thread.shutdown(cancel_futures=True)
            if not dataset.cancelled() and dataset.exception() is None:
                dataset.result().close()

    def wait(self, i: int) -> None:
        """Return when the rows of tile row i are in the strip; RasterError if they are not to be had."""
        try:
            for read in self._reads.pop(i):
                read.result()
        except RasterioError as error:
            rows = self._new_rows(i)
            raise RasterError(
                f"{self._image.path} cannot be read in rows {rows.start} to {rows.stop - 1}: the "
                f"file is incomplete or damaged ({error}); fetch or make it again."
            ) from error

    def release(self, i: int) -> None:
        """Give back the rows above tile row i + 1, and read on."""
        if i + self._ahead + 1 in self._touched:
            self._request(i + self._ahead + 1)

    def valid_rows(self, rows: range) -> NDArray[np.uint8]:
        """Which pixels of these raster rows hold data: (rows, cols), 0 where none."""
        slots = self.strip.slots(np.arange(rows.start, rows.stop))
        return np.ascontiguousarray(self.strip.valid[slots, : self._tiles.width])

    def _new_rows(self, i: int) -> range:
        first = i == self._touched.start
        return range(
            self._tiles.row_starts[i] if first else self._tiles.end(i - 1), self._tiles.end(i)
        )

    def _request(self, i: int) -> None:
        self._reads[i] = [
            thread.submit(self._read, dataset, self._new_rows(i), cols)
            for thread, dataset, cols in zip(
                self._threads, self._datasets, self._columns, strict=True
            )
        ]

    def _read(self, dataset: Future[DatasetReader], rows: range, cols: slice) -> None:
        slots = self.strip.valid.shape[0]
        start = rows.start
        while start < rows.stop:  # twice where the ring wraps
            stop = min(rows.stop, (start // slots + 1) * slots)
            here = slice(start % slots, start % slots + stop - start)
            self._read_window(dataset.result(), start, here, cols)
            start = stop

    def _read_window(self, dataset: DatasetReader, start: int, here: slice, cols: slice) -> None:
        strip, bands = self.strip, self._image.bands
        pixels, valid = strip.pixels[:, here, cols], strip.valid[here, cols]
        window = Window(cols.start, start, valid.shape[1], valid.shape[0])
        dataset.read(bands, window=window, out=pixels)
        mask = (
            dataset.read_masks(bands[0], window=window)
            if self._image.masked
            else np.broadcast_to(np.uint8(255), valid.shape)
        )
        mark_valid(pixels, self._nodata, self._declared, mask, self._zeros_are_empty, valid)
        self._mirror(here)

    def _mirror(self, here: slice) -> None:
        width, cols = self._tiles.width, self.strip.valid.shape[1]
        if cols > width:  # narrower than a tile, so one thread reads all columns
            source = mirror(np.arange(width, cols), width)
            self.strip.pixels[:, here, width:] = self.strip.pixels[:, here, source]
            self.strip.valid[here, width:] = self.strip.valid[here, source]


def _columns(width: int, unit: int, parts: int) -> list[slice]:
    """Cut columns into at most so many parts at whole multiples of `unit`."""
    units = -(-width // unit)
    step = -(-units // parts) * unit
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]
