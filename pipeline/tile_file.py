"""Rows of a raster as the compressed tiles of a COG, with their overviews, in one file.

A tile file holds the tiles as they were finished, then an index: offset and size of the bytes of each
tile, by level, tile row, tile column and band. Then come facts (JSON), the lengths of the two, and a
magic number: a file that was not finished lacks it.
"""

import contextlib
import json
import os
import struct
import sys
import tempfile
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

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
_THREADS = min(4, 1 + (os.cpu_count() or 1))
"""That encode: one more than processors, since one often waits for the interpreter."""
_TILES_BEGUN = 8
"""Tiles that are kept in memory while blocks fill them."""
_CODED_BYTES = 2**23
"""Bytes of pixels whose tiles are being encoded or wait to be written, where whole rows come."""

Shape = tuple[int, int]
"""Rows and columns."""
Place = tuple[int, int, int]
"""Level, tile row and tile column of a tile."""


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


class _BegunTiles:
    """Tiles that are being filled; while there are many, those untouched for longest lie in a file.

    So blocks that come row by row take no more memory in a wide raster. The file has no name, so that
    nothing is left of it however the process ends.
    """

    def __init__(self, folder: Path, profile: CogProfile) -> None:
        self._folder = folder
        self._shape = len(profile.bands), profile.block, profile.block
        self._dtype = np.dtype(profile.dtype)
        self._held: OrderedDict[Place, NDArray[Any]] = OrderedDict()
        self._laid: dict[Place, int] = {}
        """Where in the file a tile begins."""
        self._gaps: list[int] = []
        self._end = 0
        self._file: IO[bytes] | None = None
        self._spare: list[NDArray[Any]] = []
        """Memory of tiles that are done."""

    def close(self) -> None:
        """Forget all tiles."""
        if self._file is not None:
            self._file.close()

    def get(self, place: Place, *, clean: bool, most: int) -> NDArray[Any]:
        """The tile at a place (bands, rows, cols), to write to until the next call.

        clean: whether a new one must be 0. most: tiles that are kept in memory, at least one.
        """
        tile = self._held.get(place)
        if tile is None:
            while len(self._held) >= most:
                self._lay_aside()
            tile = self._held[place] = self._begin(place, clean)
        self._held.move_to_end(place)
        return tile

    def take(self, place: Place) -> NDArray[Any]:
        """The tile that was got last; it is full."""
        return self._held.pop(place)

    def give_back(self, tile: NDArray[Any]) -> None:
        """Let the memory of a tile be used again."""
        self._spare.append(tile)

    def _begin(self, place: Place, clean: bool) -> NDArray[Any]:
        tile = self._spare.pop() if self._spare else np.empty(self._shape, self._dtype)
        at = self._laid.pop(place, None)
        if at is not None and self._file is not None:
            if os.preadv(self._file.fileno(), [tile.data], at) != tile.nbytes:
                raise OSError("a file in use became shorter")
            self._gaps.append(at)
        elif clean:
            tile.fill(0)
        return tile

    def _lay_aside(self) -> None:
        """Put the tile that was not touched for longest into the file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - `close` closes it
        place, tile = self._held.popitem(last=False)
        at = self._gaps.pop() if self._gaps else self._end
        self._end = max(self._end, at + tile.nbytes)
        done = 0
        while done < tile.nbytes:
            rest = tile.data.cast("B")[done:]
            done += os.pwrite(self._file.fileno(), rest, at + done)
        self._laid[place] = at
        self._spare.append(tile)


@dataclass
class _Level:
    """A band of rows at one resolution."""

    shape: Shape
    block: int
    filled: dict[tuple[int, int], int] = field(default_factory=dict)
    """Pixels that the tiles being filled hold so far, by tile row and tile column."""

    def __post_init__(self) -> None:
        rows, cols = (-(-length // self.block) for length in self.shape)
        self.index: list[list[list[tuple[int, int]]]] = [
            [[] for _ in range(cols)] for _ in range(rows)
        ]
        """Offset and size of the bands of each tile, by tile row and tile column."""

    def pixels(self, row: int, col: int) -> int:
        """Pixels of a tile within the raster."""
        height, width = self.shape
        return min(self.block, height - row * self.block) * min(
            self.block, width - col * self.block
        )


@dataclass(frozen=True)
class _Job:
    """A tile that is being encoded."""

    place: Place
    tile: NDArray[Any]
    coded: Future[tuple[list[bytes], NDArray[Any] | None]]
    """Bytes of each band, and the tile halved."""


class TileFileWriter:
    """Encodes a band of rows into tiles and overview tiles, as far as these lie whole within it.

    Full-width rows come from the top to the bottom (`write`), or blocks at their place (`place`), in
    any order: but of tiles begun only few stay in memory, the others wait on the disk.
    Threads compress while the next tiles fill. The bytes depend on the pixels only, if rows come; blocks
    may put the tiles into another order, which the index tells and no COG shows.
    rows: of the grid; they begin and end at tile borders or at the grid's end.
    Raises RasterError where the disk fails, ValueError where pixels are missing at the end.
    """

    def __init__(self, path: Path, grid: GeoBox, profile: CogProfile, rows: range) -> None:
        self._path, self._profile, self._band = path, profile, rows
        self._facts = facts(grid, profile) | {"rows": [rows.start, rows.stop]}
        count = _levels_within(grid, profile.block, rows)
        shapes = _halvings((len(rows), grid.shape[1]), count)
        self._levels = [_Level(shape, profile.block) for shape in shapes]
        self._jobs: deque[_Job] = deque()
        self._row = self._size = 0
        self._most_begun, self._most_coded = _TILES_BEGUN, 2 * _THREADS

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            self._file = self._path.open("wb", buffering=2**20)
        self._begun = _BegunTiles(self._path.parent, self._profile)
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
            self._begun.close()
            with contextlib.suppress(OSError):  # what is buffered may not fit, and is not wanted
                self._file.close()

    def write(self, block: NDArray[Any]) -> None:
        """Append full-width rows; block is (bands, rows, cols)."""
        # A row of tiles becomes full at once: it, or what there is room for, is encoded while the next one fills.
        self._most_begun, self._most_coded = sys.maxsize, self._queue()
        rows = slice(self._row, self._row + block.shape[1])
        self._place(block, rows, slice(0, block.shape[2]))
        self._row = rows.stop

    def _queue(self) -> int:
        """Tiles of a row that may wait to be written."""
        size = self._profile.block**2 * len(self._profile.bands)
        room = _CODED_BYTES // (size * np.dtype(self._profile.dtype).itemsize)
        return max(2 * _THREADS, min(len(self._levels[0].index[0]), room))

    def place(self, block: NDArray[Any], at: tuple[slice, slice]) -> None:
        """Take a block (bands, rows, cols) at its rows and columns of the grid; each pixel once."""
        start = self._band.start
        self._place(block, slice(at[0].start - start, at[0].stop - start), at[1])

    def _place(self, block: NDArray[Any], rows: slice, cols: slice) -> None:
        with disk_errors(self._path):
            self._fill_tiles(block, rows, cols)

    def _fill_tiles(self, block: NDArray[Any], rows: slice, cols: slice) -> None:
        for row, there, inside in _pieces(rows, self._profile.block):
            part = block[:, there.start - rows.start : there.stop - rows.start]
            for col, left, within in _pieces(cols, self._profile.block):
                piece = part[:, :, left.start - cols.start : left.stop - cols.start]
                self._fill((0, row, col), piece, (inside, within))

    def _fill(self, place: Place, piece: NDArray[Any], at: tuple[slice, slice]) -> None:
        """Copy pixels to a part of a tile, and have it encoded if that was all it lacked."""
        depth, row, col = place
        level = self._levels[depth]
        whole = level.pixels(row, col)
        tile = self._begun.get(place, clean=whole < self._profile.block**2, most=self._most_begun)
        tile[:, *at] = piece
        filled = level.filled.pop((row, col), 0) + piece[0].size
        if filled < whole:
            level.filled[row, col] = filled
        else:
            self._encode(place, self._begun.take(place))

    def _encode(self, place: Place, tile: NDArray[Any]) -> None:
        """Have a full tile encoded, and write those that were encoded earlier."""
        halves = place[0] + 1 < len(self._levels)
        coded = self._pool.submit(_encode_tile, tile, self._profile, halves)
        self._jobs.append(_Job(place, tile, coded))
        while len(self._jobs) > self._most_coded:
            self._settle(self._jobs.popleft())

    def _settle(self, job: _Job) -> None:
        """Write a tile, and put it, halved, into its tile of the next level."""
        depth, row, col = job.place
        coded, half = job.coded.result()
        self._begun.give_back(job.tile)
        level = self._levels[depth]
        for band in coded:
            self._file.write(band)
            level.index[row][col].append((self._size, len(band)))
            self._size += len(band)
        if half is not None:
            corner = row % 2 * half.shape[1], col % 2 * half.shape[2]
            rows, cols = (
                (min(self._profile.block, length - n * self._profile.block) + 1) // 2
                for length, n in zip(level.shape, (row, col), strict=True)
            )
            at = slice(corner[0], corner[0] + rows), slice(corner[1], corner[1] + cols)
            self._fill((depth + 1, row // 2, col // 2), half[:, :rows, :cols], at)

    def _finish(self) -> None:
        with disk_errors(self._path):
            while self._jobs:
                self._settle(self._jobs.popleft())
        tiles = [tile for level in self._levels for row in level.index for tile in row]
        if not all(tiles):
            raise ValueError(f"{self._path.name}: not all pixels of {self._band} were written.")
        index = np.array([band for tile in tiles for band in tile], "<i8")
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


def _encode_tile(
    tile: NDArray[Any], profile: CogProfile, halves: bool
) -> tuple[list[bytes], NDArray[Any] | None]:
    """Compress each band of a tile, and halve it."""
    half = halve(tile, profile.overviews) if halves else None
    return [_compress(band, profile) for band in tile], half


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
