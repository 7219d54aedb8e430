"""Rows of a raster as the compressed tiles of a COG, with their overviews, in one file.

A tile file holds the tiles as they were finished, then an index: offset and size of the bytes of each
tile, by level, tile row, tile column and band. Then come facts (JSON), the lengths of the two, and a
magic number: a file that was not finished lacks it.
"""

import contextlib
import itertools
import json
import os
import struct
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.errors import RasterError
from landcover.overviews import halve
from pipeline.cog_profile import CogProfile

_END = struct.Struct("<QQ8s")
"""Bytes of the index, bytes of the facts, magic number."""
_MAGIC = b"lc-tiles"
_THREADS = min(4, os.cpu_count() or 1)
_STRIPS_CODED = 1
"""Strips that are encoded while the next one fills. More would keep the threads no busier."""
_LARGE_STRIP = 2**23
"""Bytes of a strip that is encoded before the next one fills: it is long at work, and a second is dear."""

Shape = tuple[int, int]
"""Rows and columns."""


def level_shapes(grid: GeoBox, block: int) -> list[Shape]:
    """Shape of a raster and of its overviews, each half the one before, until one tile holds it."""
    # A side of n blocks takes as many halvings as n - 1 has binary digits.
    halvings = max((side - 1) // block for side in grid.shape).bit_length()
    return _halvings((grid.shape[0], grid.shape[1]), 1 + halvings)


def _halvings(shape: Shape, count: int) -> list[Shape]:
    shapes = [shape]
    while len(shapes) < count:
        rows, cols = shapes[-1]
        shapes.append(((rows + 1) // 2, (cols + 1) // 2))
    return shapes


def _levels_within(grid: GeoBox, block: int, rows: range) -> int:
    """How many levels of a raster (itself is the first) have only whole tiles in a band of rows."""
    edges = [rows.start] if rows.stop == grid.shape[0] else [rows.start, rows.stop]
    if any(edge % block for edge in edges):
        raise ValueError(f"{rows} does not begin and end at borders of tiles of {block} pixels.")
    count = len(level_shapes(grid, block))
    while any(edge % (block << (count - 1)) for edge in edges):
        count -= 1
    return count


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the system says when a file cannot be written, as RasterError."""
    try:
        yield
    except OSError as error:
        raise RasterError(f"{path} could not be written: {error}; is the disk full?") from error


@dataclass
class _Level:
    """A band of rows at one resolution: strips, one tile high, that are being filled."""

    shape: Shape
    profile: CogProfile
    next: int = 0
    """Number of the strip to be encoded next."""
    strips: dict[int, NDArray[Any]] = field(default_factory=dict)
    """(tile columns, bands, rows, cols) by number: already cut into tiles, 0 outside the raster."""
    filled: dict[int, int] = field(default_factory=dict)
    """Pixels that each strip holds so far."""
    spare: list[NDArray[Any]] = field(default_factory=list)
    """Memory of strips that are done."""
    index: list[tuple[int, int]] = field(default_factory=list)
    """Offset and size of the tiles written."""

    def strip(self, number: int) -> NDArray[Any]:
        """A strip that is being filled."""
        if number not in self.strips:
            block, bands = self.profile.block, len(self.profile.bands)
            if self.spare:
                strip = self.spare.pop()
            else:
                columns = -(-self.shape[1] // block)
                strip = np.zeros((columns, bands, block, block), self.profile.dtype)
            if self.rows(number) < block:
                strip.fill(0)
            self.strips[number], self.filled[number] = strip, 0
        return self.strips[number]

    def rows(self, number: int) -> int:
        """Rows of a strip, fewer at the end."""
        return min(self.profile.block, self.shape[0] - number * self.profile.block)

    @property
    def is_ready(self) -> bool:
        """Whether the strip to be encoded next is full."""
        return self.filled.get(self.next) == self.rows(self.next) * self.shape[1]

    def take(self) -> tuple[int, NDArray[Any]]:
        """Number and pixels of the strip to be encoded next."""
        number = self.next
        self.next += 1
        del self.filled[number]
        return number, self.strips.pop(number)


@dataclass(frozen=True)
class _Job:
    """A strip that is being encoded."""

    depth: int
    number: int
    strip: NDArray[Any]
    parts: list[Future[list[bytes]]]
    """Tiles of all bands, from the first column to the last."""


class TileFileWriter:
    """Encodes a band of rows into tiles and overview tiles, as far as these lie whole within it.

    Full-width rows come from the top to the bottom (`write`), or blocks at their place (`place`):
    strips one tile high must become full from the top to the bottom, and those begun stay in memory.
    Threads compress while the next strip fills. The bytes depend on the pixels only.
    rows: of the grid; they begin and end at tile borders or at the grid's end.
    Raises RasterError where the disk fails, ValueError where pixels are missing at the end.
    """

    def __init__(self, path: Path, grid: GeoBox, profile: CogProfile, rows: range) -> None:
        self._path, self._profile, self._band = path, profile, rows
        self._facts = facts(grid, profile) | {"rows": [rows.start, rows.stop]}
        count = _levels_within(grid, profile.block, rows)
        shapes = _halvings((len(rows), grid.shape[1]), count)
        self._levels = [_Level(shape, profile) for shape in shapes]
        self._jobs: deque[_Job] = deque()
        self._row = self._size = 0

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            self._file = self._path.open("wb", buffering=2**20)
        self._pool = ThreadPoolExecutor(_THREADS, "encode")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._pool.shutdown(cancel_futures=True)
            with contextlib.suppress(OSError):  # what is buffered may not fit, and is not wanted
                self._file.close()

    def write(self, block: NDArray[Any]) -> None:
        """Append full-width rows; block is (bands, rows, cols)."""
        rows = slice(self._row, self._row + block.shape[1])
        self._place(block, rows, slice(0, block.shape[2]))
        self._row = rows.stop

    def place(self, block: NDArray[Any], at: tuple[slice, slice]) -> None:
        """Take a block (bands, rows, cols) at its rows and columns of the grid; each pixel once."""
        start = self._band.start
        self._place(block, slice(at[0].start - start, at[0].stop - start), at[1])

    def _place(self, block: NDArray[Any], rows: slice, cols: slice) -> None:
        level = self._levels[0]
        for number, there, inside in _pieces(rows, self._profile.block):
            strip = level.strip(number)
            part = block[:, there.start - rows.start : there.stop - rows.start]
            for column, left, within in _pieces(cols, self._profile.block):
                tile = strip[column, :, inside, within]
                tile[...] = part[:, :, left.start - cols.start : left.stop - cols.start]
            level.filled[number] += part[0].size
            while level.is_ready:
                self._encode(0)

    def _encode(self, depth: int) -> None:
        """Have the tiles of the next strip of a level made, and write those of an earlier strip."""
        number, strip = self._levels[depth].take()
        half = self._half(depth, number)
        step = -(-len(strip) // (2 * _THREADS))
        parts = [
            self._pool.submit(
                _encode_tiles, strip, range(len(strip))[at : at + step], self._profile, half
            )
            for at in range(0, len(strip), step)
        ]
        self._jobs.append(_Job(depth, number, strip, parts))
        while len(self._jobs) > (0 if strip.nbytes > _LARGE_STRIP else _STRIPS_CODED):
            self._settle(self._jobs.popleft())

    def _half(self, depth: int, number: int) -> NDArray[Any] | None:
        """Where the halved pixels of a strip belong in the next level, if the file has one."""
        if depth + 1 == len(self._levels):
            return None
        top = number % 2 * self._profile.block // 2
        strip = self._levels[depth + 1].strip(number // 2)
        return strip[:, :, top : top + self._profile.block // 2]

    def _settle(self, job: _Job) -> None:
        """Write the tiles of a strip, and encode the strip of the next level if it is full now."""
        level = self._levels[job.depth]
        with disk_errors(self._path):
            for tile in itertools.chain.from_iterable(part.result() for part in job.parts):
                self._file.write(tile)
                level.index.append((self._size, len(tile)))
                self._size += len(tile)
        level.spare.append(job.strip)
        if job.depth + 1 < len(self._levels):
            deeper = self._levels[job.depth + 1]
            rows = (level.rows(job.number) + 1) // 2
            deeper.filled[job.number // 2] += rows * deeper.shape[1]
            if deeper.is_ready:
                self._encode(job.depth + 1)

    def _finish(self) -> None:
        while self._jobs:
            self._settle(self._jobs.popleft())
        level = self._levels[0]
        if level.next * self._profile.block < level.shape[0]:
            raise ValueError(f"{self._path.name}: not all pixels of {self._band} were written.")
        index = np.array([entry for level in self._levels for entry in level.index], "<i8")
        text = json.dumps(self._facts | {"levels": len(self._levels)}).encode()
        with disk_errors(self._path):
            self._file.write(index.tobytes() + text + _END.pack(index.nbytes, len(text), _MAGIC))
            self._file.close()


def _pieces(cut: slice, block: int) -> Iterator[tuple[int, slice, slice]]:
    """Where a stretch is cut by tiles: number of the tile, the part itself, the part within the tile."""
    for number in range(cut.start // block, -(-cut.stop // block)):
        start, stop = max(cut.start, number * block), min(cut.stop, (number + 1) * block)
        yield number, slice(start, stop), slice(start - number * block, stop - number * block)


def facts(grid: GeoBox, profile: CogProfile) -> dict[str, Any]:
    """What the tile files of one raster have in common."""
    return {
        "shape": list(grid.shape), "bands": len(profile.bands), "dtype": np.dtype(profile.dtype).name,
        "block": profile.block, "predictor": profile.predictor, "overviews": profile.overviews,
    }  # fmt: skip


def _encode_tiles(
    strip: NDArray[Any], columns: range, profile: CogProfile, half: NDArray[Any] | None
) -> list[bytes]:
    """Compress the tiles of all bands at some columns of a strip, and put their halves into `half`."""
    width = profile.block // 2
    coded = []
    for column in columns:
        if half is not None:
            left = column % 2 * width
            half[column // 2, :, :, left : left + width] = halve(strip[column], profile.overviews)
        coded += [_compress(tile, profile) for tile in strip[column]]
    return coded


def _codec() -> Any:
    return pa.Codec("zstd", compression_level=1)


def _compress(tile: NDArray[Any], profile: CogProfile) -> bytes:
    if profile.predictor == 2:
        bits = tile.view(f"u{tile.itemsize}")
        tile = bits.copy()
        np.subtract(bits[:, 1:], bits[:, :-1], out=tile[:, 1:])
    compressed: bytes = _codec().compress(tile, asbytes=True)
    return compressed


def _decompress(data: bytes, profile: CogProfile) -> NDArray[Any]:
    """(rows, cols) of a tile."""
    dtype = np.dtype(profile.dtype)
    shape = profile.block, profile.block
    raw = _codec().decompress(data, profile.block**2 * dtype.itemsize)
    if profile.predictor == 1:
        return np.frombuffer(raw, dtype).reshape(shape)
    bits = np.frombuffer(raw, f"u{dtype.itemsize}").reshape(shape)
    return np.cumsum(bits, axis=1, dtype=bits.dtype).view(dtype)


@dataclass(frozen=True)
class TileFile:
    """A finished tile file."""

    path: Path
    profile: CogProfile
    rows: range
    """Of the raster."""
    shapes: list[Shape]
    """Of the band of rows, at each level."""
    tiles: list[NDArray[np.int64]]
    """Offset and size of each tile, by level: (tile rows, tile columns, bands, 2)."""

    @classmethod
    def open(cls, path: Path, grid: GeoBox, profile: CogProfile) -> Self:
        """Read the index; RasterError where the file is not whole, or of another raster."""
        try:
            found, entries = _read_index(path)
        except (OSError, ValueError, struct.error) as error:
            raise RasterError(
                f"{path} is not a whole tile file ({error}); delete it and run again."
            ) from error
        wrong = {k: found.get(k) for k, v in facts(grid, profile).items() if found.get(k) != v}
        if wrong:
            raise RasterError(f"{path} is of another raster ({wrong}); delete it and run again.")
        rows = range(*found["rows"])
        shapes = _halvings((len(rows), grid.shape[1]), found["levels"])
        counts = [(-(-h // profile.block), -(-w // profile.block)) for h, w in shapes]
        cuts = np.cumsum([h * w * len(profile.bands) for h, w in counts])[:-1]
        tiles = [
            part.reshape(*count, len(profile.bands), 2)
            for part, count in zip(np.split(entries, cuts), counts, strict=True)
        ]
        return cls(path, profile, rows, shapes, tiles)

    def strips(self, level: int) -> Iterator[NDArray[Any]]:
        """Pixels (bands, rows, cols) of a level, one row of tiles after another."""
        (height, width), block = self.shapes[level], self.profile.block
        with self.path.open("rb") as file:
            for number, row in enumerate(self.tiles[level]):
                strip = np.empty(
                    (len(self.profile.bands), block, len(row) * block), self.profile.dtype
                )
                for column, tiles in enumerate(row):
                    for band, (offset, size) in enumerate(tiles):
                        file.seek(offset)
                        tile = _decompress(file.read(size), self.profile)
                        strip[band, :, column * block : (column + 1) * block] = tile
                yield strip[:, : height - number * block, :width]


def _read_index(path: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Facts, and offset and size of every tile."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - _END.size, 0))
        index, text, magic = _END.unpack(file.read())
        if magic != _MAGIC:
            raise ValueError("its end is missing")
        file.seek(end - _END.size - text - index)
        entries = np.frombuffer(file.read(index), "<i8").reshape(-1, 2)
        return json.loads(file.read(text)), entries
