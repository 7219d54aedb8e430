"""An image to be mapped, read once from top to bottom ahead of the work."""

import contextlib
import math
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from landcover.errors import CheckpointError, RasterError
from landcover.inference import Strip
from landcover.tiling import TileGrid, mirror
from landcover.validity import mark_valid
from pipeline.band_names import band_names, other_model, standard_name
from pipeline.cog import raster_grid
from pipeline.image_file import alpha_bands, band_facts, stored_nodata
from pipeline.raster_files import RasterFiles, plain
from pipeline.signing import Signer

READERS = 2
"""Threads that read a local image."""

_REMOTE_READERS = 8
"""Threads that read an image over HTTP: they wait for answers most of the time."""
_ONE_THREAD = {"GDAL_NUM_THREADS": "1"}
"""What GDAL decodes in threads of its own (JPEG 2000, VRT) loses its errors there."""
_UNIT_ROWS = 128
_UNIT_PIXELS = 2**18
"""Least size of what is read at once: small enough for the processor's cache."""
_LEAST_CACHE = 2**25  # bytes
_LARGEST_BLOCK = 512 * 2**20  # bytes that are decoded together
_ORDERED = frozenset({"PNG", "JPEG", "GIF", "VRT"})
"""Drivers of files that are decoded from the top on, or whose blocks are those of other files."""
_SAMPLES = 4  # along each axis
_BRIGHTEST = 4.0
"""No reflectance is larger, and no image of larger numbers keeps below it."""


@dataclass(frozen=True)
class Image:
    """Where the bands that a model needs are in a raster file, and what its numbers mean."""

    path: Path | str
    """A local file, or a web address (text)."""
    grid: GeoBox
    bands: tuple[int, ...]
    """1-based band numbers, in the model's order."""
    dtype: np.dtype[np.generic]
    """Holds the values of all these bands."""
    nodata: tuple[float | None, ...]
    """Value that means no data, per band; None where none is declared that the band can hold."""
    zeros_are_empty: bool
    """Whether 0 in all bands is no data, as the file says nothing of missing data."""
    masks: tuple[int, ...]
    """Bands whose mask (internal, .msk, NODATA_VALUES) says where there is data."""
    alphas: tuple[int, ...]
    """Alpha bands; 0 is no data."""
    scale: tuple[float | None, ...]
    """Factor from stored value to reflectance, per band; None where the model's scale holds."""
    offset: tuple[float, ...]
    """Reflectance = stored value x scale + offset, where the scale is not None."""
    block: tuple[int, int]
    """Rows and columns that are decoded together."""
    pixel_bytes: int
    """Bytes of a pixel of all bands that are decoded together."""
    ordered: bool
    """Whether each thread must read its own columns from the top to the bottom."""
    notes: tuple[str, ...]
    """Sentences for the user about what was assumed."""

    @property
    def name(self) -> str:
        """File name, without what an address may hold of keys."""
        return _name(self.path)

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns, in whole blocks, that one thread reads at once."""
        rows = self.block[0] * max(1, _UNIT_ROWS // self.block[0])
        return rows, self.block[1] * -(-_UNIT_PIXELS // (rows * self.block[1]))

    def reflectance(
        self, scale: float, offset: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and offset of every band, (bands,) each: the file's own, else the ones given."""
        pairs = [
            (scale, offset) if own is None else (own, plus)
            for own, plus in zip(self.scale, self.offset, strict=True)
        ]
        scales, offsets = np.array(pairs, np.float64).T
        return scales, offsets

    def cache_bytes(self) -> int:
        """GDAL cache with which every block is decoded once: what the threads have in hand.

        Larger is slower. Only blocks of a VRT's sources, which no reading order fits, are kept for
        a whole row of them.
        """
        rows, cols = self.unit
        in_hand = 4 * rows * cols
        if self.ordered:
            in_hand = 2 * rows * (int(self.grid.shape[1]) + 2 * cols)
        return max(_LEAST_CACHE, in_hand * self.pixel_bytes)


def open_image(path: Path | str, names: Sequence[str]) -> Image:
    """Find bands by name (their descriptions, in any case) in a raster, local or at http(s)://.

    Names that it lacks are taken from colours; a raster without any names and with exactly as many bands (alpha
    aside) is taken in order, one of three or four bands as red, green, blue and near infrared: `notes` says so.
    A band's own scale and offset tags count, where it has any; real numbers without them that are
    no larger than reflectances are taken as such. Only a GeoTIFF or JPEG 2000 is read over HTTP.
    Raises RasterError where it cannot be opened or placed on the Earth, CheckpointError where it
    lacks a band.
    """
    if isinstance(path, str) and "://" in path:
        _check_address(path)
        with _unplaced_silently(), RasterFiles(Signer()) as files:
            return files.read(path, lambda dataset: _describe(dataset, path, names))
    path = Path(path)
    if not path.exists():  # GDAL would take some texts as commands
        raise RasterError(f"{path} cannot be opened as a raster: there is no such file.")
    try:
        with rasterio.Env(**_ONE_THREAD), _unplaced_silently(), rasterio.open(path) as dataset:
            return _describe(dataset, path, names)
    except (RasterioError, CPLE_BaseError) as error:
        raise RasterError(f"{path} cannot be opened as a raster: {_line(error)}") from error


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if (
        parts.scheme.lower() not in {"http", "https"}
        or not parts.hostname
        or address.split() != [address]
    ):
        raise RasterError(
            f"{plain(address)} is no address of an image; give a file or an address that begins "
            "with https:// or http://."
        )  # fmt: skip
    if parts.path.lower().endswith(".vrt"):
        raise RasterError(
            f"{plain(address)} is a VRT, which could make this program open any other file; fetch "
            "it and look at it first."
        )


@contextlib.contextmanager
def _unplaced_silently() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is an error here
        yield


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _shown(path: Path | str) -> str:
    return plain(path) if isinstance(path, str) else str(path)


def _describe(dataset: DatasetReader, path: Path | str, names: Sequence[str]) -> Image:
    shown = _shown(path)
    if not dataset.count:
        raise RasterError(f"{shown} has no bands; name one of the rasters that it holds.")
    bands, notes = _match(dataset, path, names)
    grid = _grid(dataset, shown)
    dtypes = [np.dtype(dataset.dtypes[b - 1]) for b in bands]
    dtype = np.result_type(*dtypes)
    if dtype.kind not in "uif":
        raise RasterError(f"{shown} holds {dtype} values; a model needs whole or real numbers.")
    declared = [dataset.nodatavals[b - 1] for b in bands]
    masks, alphas = _masks(dataset, bands)
    scale, offset = _scales(dataset, bands)
    if scale == (None,) * len(bands) and dtype.kind == "f" and _are_reflectances(dataset, bands):
        scale = (1.0,) * len(bands)
        notes += (f"{shown} holds real numbers below {_BRIGHTEST:g}: taken as reflectance",)
    image = Image(
        path=path,
        grid=grid,
        bands=bands,
        dtype=dtype,
        nodata=tuple(map(stored_nodata, declared, dtypes)),
        zeros_are_empty=not (any(n is not None for n in declared) or masks or alphas),
        masks=masks,
        alphas=alphas,
        scale=scale,
        offset=offset,
        block=_block(dataset, bands[0]),
        pixel_bytes=sum(np.dtype(name).itemsize for name in dataset.dtypes),
        ordered=dataset.driver in _ORDERED,
        notes=notes,
    )
    if (cost := math.prod(image.block) * image.pixel_bytes) > _LARGEST_BLOCK:
        raise RasterError(
            f"{shown} is stored in blocks of {cost / 2**20:,.0f} MB, too large to read in parts; rewrite "
            "it as with `gdal_translate -of COG IN OUT`."
        )
    return image


def _match(
    dataset: DatasetReader, path: Path | str, names: Sequence[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Numbers of the bands of these names, and what a person should know of how they were found.

    By descriptions; where there are none by what `band_names` knows of colours, by order if there are as many
    as names, and last by what it guesses of their number.
    """
    described = _described_bands(dataset)
    if all(name.lower() in described for name in names):
        return tuple(described[name.lower()] for name in names), ()
    known, guessed = band_names(band_facts(dataset))
    wanted = [standard_name(name) for name in names]
    by_name = tuple(known.index(name) + 1 for name in wanted) if set(wanted) <= set(known) else ()
    if by_name and not guessed:
        return by_name, ()
    data = _data_bands(dataset)
    if not any(dataset.descriptions) and len(data) == len(names):
        return data, (f"{_name(path)} names no bands: taken in order as {', '.join(names)}",)
    if by_name:
        return by_name, (f"{_name(path)} names no bands: taken as {', '.join(known)}",)
    missing = [name for name in names if name.lower() not in described]
    has = ", ".join(text or "(no name)" for text in dataset.descriptions)
    raise CheckpointError(
        f"{_shown(path)} has the bands {has}; the model needs {', '.join(names)}, so "
        f"{', '.join(missing)} is missing; name the bands by their descriptions or "
        f"{other_model(missing, described)}."
    )


def _data_bands(dataset: DatasetReader) -> tuple[int, ...]:
    """Numbers of the bands that are not alpha."""
    return tuple(n for n in dataset.indexes if dataset.colorinterp[n - 1] != ColorInterp.alpha)


def _described_bands(dataset: DatasetReader) -> dict[str, int]:
    """Band number of each description in small letters; the first of two that are equal."""
    texts = dataset.descriptions
    return {(texts[n - 1] or "").strip().lower(): n for n in reversed(_data_bands(dataset))}


def _name(path: Path | str) -> str:
    return Path(urlsplit(path).path if isinstance(path, str) else path).name


def _grid(dataset: DatasetReader, shown: str) -> GeoBox:
    """Grid of an open raster; RasterError where it has none."""
    unplaced = dataset.transform.is_identity
    if unplaced and (dataset.gcps[0] or dataset.rpcs):
        raise RasterError(
            f"{shown} is placed by control points only; resample it to a grid first, as with "
            "`gdalwarp -t_srs EPSG:32633 IN OUT` (-rpc where it has RPCs)."
        )
    try:
        grid = raster_grid(dataset)
    except CRSError as error:
        raise RasterError(f"{shown} has a CRS that is not understood: {_line(error)}") from error
    if unplaced or dataset.transform.determinant == 0:
        raise RasterError(f"{shown} has a CRS but no position; give it a geotransform.")
    return grid


def _masks(dataset: DatasetReader, bands: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bands whose mask is to be read (one where they share it), and alpha bands."""
    alphas = tuple(n for n in alpha_bands(dataset) if n not in bands)
    flags = {b: set(dataset.mask_flag_enums[b - 1]) for b in bands}
    shared = [
        b for b in bands if flags[b] >= {MaskFlags.per_dataset} and MaskFlags.alpha not in flags[b]
    ]
    return (*shared[:1], *(b for b in bands if not flags[b])), alphas


def _scales(
    dataset: DatasetReader, bands: Sequence[int]
) -> tuple[tuple[float | None, ...], tuple[float, ...]]:
    """Scale and offset that bands declare; None and 0 for none."""
    facts = band_facts(dataset)
    return tuple(facts[b - 1].scale for b in bands), tuple(facts[b - 1].offset for b in bands)


def _are_reflectances(dataset: DatasetReader, bands: Sequence[int]) -> bool:
    """Whether half of a sample of the values that are data and not 0 are no larger than 4."""
    rows, cols = dataset.shape
    height, width = min(rows, _UNIT_ROWS), min(cols, _UNIT_ROWS)
    sample = [np.empty(0)]
    for y in np.unique(np.linspace(0, rows - height, _SAMPLES).astype(int)):
        for x in np.unique(np.linspace(0, cols - width, _SAMPLES).astype(int)):
            window = Window(int(x), int(y), width, height)
            for b in bands:
                values = dataset.read(b, window=window, masked=True).compressed()
                sample.append(np.abs(values[np.isfinite(values) & (values != 0)]))
    magnitudes = np.concatenate(sample)
    return bool(magnitudes.size and np.median(magnitudes) <= _BRIGHTEST)


def _block(dataset: DatasetReader, band: int) -> tuple[int, int]:
    """Rows and columns that are decoded together; of a VRT, those of its first source."""
    rows, cols = map(int, dataset.block_shapes[band - 1])
    if dataset.driver == "VRT":
        stored = 512, 512
        with contextlib.suppress(RasterioError, IndexError), rasterio.open(dataset.files[1]) as one:
            stored = one.block_shapes[0]
        rows, cols = max(rows, int(stored[0])), max(cols, int(stored[1]))
    return min(rows, dataset.height), min(cols, dataset.width)


class _Source(Protocol):
    """An image that threads read."""

    def read(
        self,
        window: Window,
        fill: Callable[[DatasetReader], None],
        pixels: NDArray[np.generic],
        valid: NDArray[np.uint8],
    ) -> None:
        """Let `fill` fill pixels and valid from the window of an open raster."""

    def stop(self) -> None:
        """Let no read wait any longer."""

    def close(self) -> None:
        """Close all files; nobody reads any more."""


class _LocalFile:
    """A file that each thread opens for itself."""

    def __init__(self, image: Image) -> None:
        self._path = image.path
        self._own = threading.local()
        self._opened: list[DatasetReader] = []

    def read(self, _: Window, fill: Callable[[DatasetReader], None], *_filled: object) -> None:
        """See _Source."""
        with rasterio.Env(**_ONE_THREAD):  # without any, in a thread, GDAL's errors get lost
            if not hasattr(self._own, "dataset"):
                self._own.dataset = rasterio.open(self._path, sharing=False)
                self._opened.append(self._own.dataset)
            fill(self._own.dataset)

    def stop(self) -> None:
        """See _Source."""

    def close(self) -> None:
        """See _Source."""
        for dataset in self._opened:
            dataset.close()


class _WebFile:
    """A file on a server: what fails is read again, and what is in doubt is read twice."""

    def __init__(self, image: Image) -> None:
        self._address, self._band = str(image.path), image.bands[0]
        self._closing = threading.Event()
        self._files = RasterFiles(Signer(), pause=self._pause)

    def _pause(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def read(
        self,
        window: Window,
        fill: Callable[[DatasetReader], None],
        pixels: NDArray[np.generic],
        valid: NDArray[np.uint8],
    ) -> None:
        """See _Source."""

        def work(dataset: DatasetReader) -> NDArray[np.uint8]:
            fill(dataset)
            return np.concatenate([pixels.ravel().view(np.uint8), valid.ravel()])

        self._files.facts(self._address)  # from here on, every handle must show this header
        self._files.read_pixels(self._address, self._band, window, lambda: not valid.all(), work)

    def stop(self) -> None:
        """See _Source."""
        self._closing.set()

    def close(self) -> None:
        """See _Source."""
        self._files.__exit__()


class StripReader:
    """Reads an image from the top to the bottom into a ring of rows, ahead of the work.

    Threads read whole blocks, each with its own file handle, so every block is decoded once. The
    ring holds a tile row, `ahead` more, and one row of blocks. Use as a context manager: `wait(i)`
    before tile row i is used, `release(i)` when no pixel above tile row i + 1 is needed any more.
    """

    def __init__(
        self, image: Image, tiles: TileGrid, touched: range, ahead: int, readers: int = READERS
    ) -> None:
        self._image, self._tiles, self._touched = image, tiles, touched
        self._rows, self._cols = image.unit
        slots = tiles.tile + ahead * (tiles.tile - tiles.overlap) + self._rows - 1
        shape = min(slots, tiles.height), max(tiles.width, tiles.tile)
        self.strip = Strip(
            pixels=np.zeros((len(image.bands), *shape), image.dtype),
            valid=np.zeros(shape, np.uint8),
        )
        remote = isinstance(image.path, str)
        threads = max(readers, _REMOTE_READERS) if remote else readers
        self._parts = _columns(tiles.width, self._cols, threads)
        self._count = len(self._parts) if image.ordered else threads
        self._source: _Source = _WebFile(image) if remote else _LocalFile(image)
        self._nodata = np.array([n or 0 for n in image.nodata]).astype(image.dtype)
        self._declared = np.array([n is not None for n in image.nodata])
        self._next = tiles.row_starts[touched.start]
        self._reads: deque[tuple[range, list[Future[None]]]] = deque()

    def __enter__(self) -> Self:
        self._threads = [ThreadPoolExecutor(1, "read") for _ in range(self._count)]
        self._request(self._next)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._source.stop()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        self._source.close()

    def wait(self, i: int) -> None:
        """Return when the rows of tile row i are in the strip; RasterError if they are not to be had."""
        while self._reads and self._reads[0][0].start < self._tiles.end(i):
            rows, reads = self._reads.popleft()
            try:
                for read in reads:
                    read.result()
            except (RasterioError, CPLE_BaseError) as error:
                raise RasterError(
                    f"{_shown(self._image.path)} cannot be read in rows {rows.start} to {rows.stop - 1}: the "
                    f"file is incomplete or damaged ({_line(error)}); fetch or make it again."
                ) from error
            self._mirror(rows)

    def release(self, i: int) -> None:
        """Give back the rows above tile row i + 1, and read on."""
        if i + 1 in self._touched:
            self._request(self._tiles.row_starts[i + 1])

    def valid_rows(self, rows: range) -> NDArray[np.uint8]:
        """Which pixels of these raster rows hold data: (rows, cols), 0 where none."""
        slots = self.strip.slots(np.arange(rows.start, rows.stop))
        return np.ascontiguousarray(self.strip.valid[slots, : self._tiles.width])

    def _request(self, free: int) -> None:
        """Read all rows of blocks for which there is room when the rows above `free` are given back."""
        end = self._tiles.end(self._touched[-1])
        room = free + self.strip.valid.shape[0]
        while self._next < end:
            turn = self._next // self._rows
            rows = range(self._next, min((turn + 1) * self._rows, end))
            if rows.stop > room:
                break
            first = 0 if self._image.ordered else turn  # the threads take turns
            self._reads.append((rows, [
                self._threads[(first + k) % self._count].submit(self._read, rows, cols)
                for k, cols in enumerate(self._parts)
            ]))  # fmt: skip
            self._next = rows.stop

    def _read(self, rows: range, part: slice) -> None:
        for left in range(part.start, part.stop, self._cols):
            cols = slice(left, min(left + self._cols, part.stop))
            for start, here in self._places(rows):
                self._read_window(start, here, cols)

    def _places(self, rows: range) -> Iterator[tuple[int, slice]]:
        """First row and slots of each piece of these rows that the ring does not cut: one or two."""
        slots = self.strip.valid.shape[0]
        start = rows.start
        while start < rows.stop:
            stop = min(rows.stop, (start // slots + 1) * slots)
            yield start, slice(start % slots, start % slots + stop - start)
            start = stop

    def _read_window(self, start: int, here: slice, cols: slice) -> None:
        pixels, valid = self.strip.pixels[:, here, cols], self.strip.valid[here, cols]
        window = Window(cols.start, start, valid.shape[1], valid.shape[0])

        def fill(dataset: DatasetReader) -> None:
            _read_bands(dataset, self._image, window, pixels)
            mask = _read_mask(dataset, self._image, window)
            mark_valid(
                pixels, self._nodata, self._declared, mask, self._image.zeros_are_empty, valid
            )

        self._source.read(window, fill, pixels, valid)

    def _mirror(self, rows: range) -> None:
        width, cols = self._tiles.width, self.strip.valid.shape[1]
        if cols > width:
            source = mirror(np.arange(width, cols), width)
            slots = self.strip.slots(np.arange(rows.start, rows.stop))[:, np.newaxis]
            self.strip.pixels[:, slots, np.arange(width, cols)] = self.strip.pixels[
                :, slots, source
            ]
            self.strip.valid[slots, np.arange(width, cols)] = self.strip.valid[slots, source]


def _read_bands(
    dataset: DatasetReader, image: Image, window: Window, pixels: NDArray[np.generic]
) -> None:
    if len({dataset.dtypes[b - 1] for b in image.bands}) == 1:
        dataset.read(image.bands, window=window, out=pixels)
        return
    for band, out in zip(image.bands, pixels, strict=True):  # rasterio reads one type at a time
        dataset.read(band, window=window, out=out)


def _read_mask(dataset: DatasetReader, image: Image, window: Window) -> NDArray[np.uint8]:
    """What masks and alpha bands say of a window, (rows, cols): 0 is no data."""
    mask = np.broadcast_to(np.uint8(1), (window.height, window.width))
    for band in image.masks:
        mask = np.minimum(mask, dataset.read_masks(band, window=window))
    for band in image.alphas:
        mask = np.minimum(mask, dataset.read(band, window=window) != 0)
    return mask


def _columns(width: int, unit: int, parts: int) -> list[slice]:
    """Cut columns into at most so many parts at whole multiples of `unit`."""
    units = -(-width // unit)
    step = -(-units // parts) * unit
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]
