"""Observations become composites, block by block: the next blocks are read while one is computed."""

import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from landcover.compositing import (
    Composite,
    chosen_composite,
    geomedian_composite,
    median_composite,
)  # fmt: skip
from landcover.errors import RasterError
from landcover.grid import inside
from landcover.resampling import Block
from pipeline.observation import CLEAR, Layer, Observation
from pipeline.raster_files import FailedReadError
from pipeline.window_reader import WindowReader

_STACKS = 100 * 2**20
"""Bytes of the observations of all blocks in memory, at most, whatever the size of the region and the
number of dates; twice that over the network."""
_SIDE = 1024
"""Rows and columns of a block, at most, where its tiles do not say otherwise: so that a read, and a
request over the network, is worth what it costs to ask."""
_LARGEST = 1024
"""Side of a tile that is read whole."""
_SMALLEST = 64
"""Rows and columns of a block, at least."""
_REMOTE_READS = 16
"""Observations read at once where the wait is for the network."""
_COARSE = 256
"""Side of the reduced grid on which scenes are ranked by their clear share, pixels."""
_REACH = 50
"""Distance from clouds, pixels, beyond which observations are equally good."""


class FailedReadsError(RasterError):
    """More windows could not be read than the hole budget allows."""

    def __init__(self, first: str, failed: Sequence[Mapping[str, Any]]) -> None:
        assets = sorted({f"{entry['scene']}: {entry['asset']}" for entry in failed})
        more = f" {len(failed)} window reads failed, of {'; '.join(assets)}." if failed[1:] else ""
        super().__init__(first + more)
        self.failed = list(failed)
        """{scene, asset, reason, attempts, rows, columns} of each."""


@dataclass
class Holes:
    """Windows (a scene's part of a block) that could not be read, and how many may be."""

    percent: float
    """Of all windows that may be missing."""
    scenes: int = 0
    """All that were to be read."""
    windows: int | None = None
    """Of all scenes together; None until it is known."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def missed(self, scene: str, error: FailedReadError, block: Block | None = None) -> None:
        """Take down a failed window, or all of a scene; raises FailedReadsError if it is one too many."""
        rows, cols = block or (None, None)
        entry = {
            "scene": scene, "asset": error.href, "reason": error.reason, "attempts": error.attempts,
            "rows": rows and [rows.start, rows.stop], "columns": cols and [cols.start, cols.stop],
        }  # fmt: skip
        with self.lock:
            self.failed.append(entry)
            self._check(str(error), error)

    def cut(self, windows: int) -> None:
        """Say into how many windows the scenes are cut; raises as `missed` does."""
        with self.lock:
            self.windows = windows
            if self.failed:
                self._check(f"{self.failed[0]['asset']} cannot be read.", None)

    def _check(self, reason: str, cause: Exception | None) -> None:
        if self.percent and self.windows is None:
            return  # judged when it is known how much of all this is
        whole = sum(entry["rows"] is None for entry in self.failed)
        lost = len(self.failed) - whole
        windows = self.windows or 0
        # A scene that did not open is as much as the others are on average.
        read = max(self.scenes - whole, 1)
        share = (lost + windows / read * whole) / max(windows + windows / read * whole, 1)
        if 100 * share > self.percent or not windows:
            raise FailedReadsError(reason, self.failed) from cause


@dataclass(frozen=True)
class BlockCompositor:
    """Makes the composite of observations on the reader's grid."""

    observations: Sequence[Observation]
    bands: Sequence[str]
    reader: WindowReader
    holes: Holes
    method: str = "median"
    """One of landcover.compositing.METHODS."""
    cloud_buffer: float | None = None
    """Metres by which unclear areas grow; None leaves it to each product."""
    preference: Sequence[float] = ()
    """Of each observation, where the method chooses by observation."""

    def blocks(self) -> list[Block]:
        """The blocks, row by row; cut where the scenes' storage is cut, so that it is decoded once."""
        return self._plan[0]

    @cached_property
    def _plan(self) -> tuple[list[Block], int]:
        """The blocks, and of how many observations are in memory at once."""
        tile, start = _storage(self.reader, self.observations)
        grid = int(self.reader.grid.shape[0]), int(self.reader.grid.shape[1])
        each = 2 * len(self.bands) * max(1, len(self.observations))
        shape, held = _layout(grid, tile, each, is_remote=self._is_remote())
        rows, cols = (_cut(grid[i], start[i], shape[i]) for i in (0, 1))
        return [(r, c) for r in rows for c in cols], held

    def composites(self) -> Iterator[tuple[Block, Composite]]:
        """Each block with its composite, in the order of `blocks`; the next is being read meanwhile."""
        blocks, held = self._plan
        if self.holes.percent:
            self.holes.cut(self._windows(blocks))
        largest = max((r.stop - r.start) * (c.stop - c.start) for r, c in blocks)
        room = len(self.observations) * len(self.bands) * largest
        stacks = [np.empty(room, np.uint16) for _ in blocks[:held]]
        coming = iter(blocks)
        settle = self.reader.files.settle_thread
        with ThreadPoolExecutor(self._readers(), initializer=settle) as readers:
            try:
                queue = deque(
                    self._read(readers, block, stack)
                    for stack, block in zip(stacks, coming, strict=False)
                )
                while queue:
                    read = queue.popleft()
                    yield read.block, self._reduce(read)
                    if (block := next(coming, None)) is not None:
                        queue.append(self._read(readers, block, read.stack))
            except BaseException:
                readers.shutdown(wait=False, cancel_futures=True)
                raise

    def _windows(self, blocks: Sequence[Block]) -> int:
        """Number of pairs of a scene and a block that it may show something of."""
        hrefs = [next(iter(layer.bands.values()))[0].href for layer in self._layers()]
        return sum(self.reader.reaches(href, block) for block in blocks for href in hrefs)

    def _readers(self) -> int:
        return _REMOTE_READS if self._is_remote() else os.cpu_count() or 1

    def _is_remote(self) -> bool:
        hrefs = (band.href for layer in self._layers() for band, _ in layer.bands.values())
        return any("://" in href for href in hrefs)

    def _layers(self) -> Iterator[Layer]:
        return itertools.chain.from_iterable(one.layers for one in self.observations)

    def _read(
        self, readers: ThreadPoolExecutor, block: Block, stack: NDArray[np.uint16]
    ) -> "_Reading":
        """Have a block's observations read into the stack, those that may show something of it."""
        rows, cols = (cut.stop - cut.start for cut in block)
        reaching = [one for one in self.observations if one.reaches(self.reader, block)]
        shape = (len(reaching), len(self.bands), rows, cols)
        values = stack[: math.prod(shape)].reshape(shape)
        reach = _REACH if self.method == "least-cloudy-pixel" else 0
        looks = [
            readers.submit(
                one.look, self.reader, block, self.cloud_buffer, reach, self.holes.missed, part
            )
            for one, part in zip(reaching, values, strict=True)
        ]
        return _Reading(block, stack, values, reaching, looks)

    def _reduce(self, read: "_Reading") -> Composite:
        """The composite of a block, once it is read."""
        distances = [look.result() for look in read.looks]
        values = read.values
        if not read.observations:
            nothing = np.zeros(values.shape[2:], np.uint16)
            return Composite(np.zeros(values.shape[1:], np.uint16), nothing, nothing)
        days = np.array([one.number for one in read.observations], np.uint16)
        if self.method == "median":
            return median_composite(values, days)
        if self.method == "geomedian":
            return geomedian_composite(values, days)
        if self.method == "least-cloudy-pixel":
            return chosen_composite(values, days, np.stack([d for d in distances if d is not None]))
        liked = [self.preference[self.observations.index(one)] for one in read.observations]
        return chosen_composite(values, days, np.array(liked, np.float32).reshape(-1, 1, 1))


@dataclass(frozen=True)
class _Reading:
    """A block whose observations are being read."""

    block: Block
    stack: NDArray[np.uint16]
    """Memory that `values` is a part of."""
    values: NDArray[np.uint16]
    """(observations, bands, rows, cols), filled when all looks are done."""
    observations: Sequence[Observation]
    looks: Sequence[Future[NDArray[np.uint8] | None]]
    """One for each observation; gives the distances from clouds where these are wanted."""


def preferences(
    observations: Sequence[Observation], reader: WindowReader, footprint: BaseGeometry, method: str, holes: Holes
) -> list[float]:  # fmt: skip
    """How much each observation is liked, by the methods that choose whole observations.

    `latest`: its day. `least-cloudy-scene`: the clear share of the footprint by the quality band, else
    by the item's cloud cover; one that says neither comes last.
    """
    if method == "latest":
        return [float(one.ordinal) for one in observations]
    if method != "least-cloudy-scene":
        return []
    grid = reader.grid
    rows, cols = (min(side, _COARSE) for side in grid.shape)
    coarse = WindowReader(reader.files, grid.zoom_to(shape=(rows, cols)))
    wanted = inside(coarse.grid, footprint)
    with ThreadPoolExecutor(_REMOTE_READS) as readers:
        return list(readers.map(lambda one: _clear_share(one, coarse, wanted, holes), observations))


def _clear_share(
    one: Observation, coarse: WindowReader, wanted: NDArray[np.bool_], holes: Holes
) -> float:
    clear = np.zeros(wanted.shape, np.float64)
    block = slice(0, wanted.shape[0]), slice(0, wanted.shape[1])
    for layer in one.layers:
        try:
            found = layer.views(coarse, block)
        except FailedReadError as error:
            holes.missed(layer.scene.id, error, block)
            continue
        if found is not None:
            clear = np.maximum(clear, found == CLEAR)
        elif layer.scene.cloud_cover is not None:
            clear = np.maximum(clear, 1 - layer.scene.cloud_cover / 100)
    return float(clear[wanted].mean()) if wanted.any() else 0.0


def _layout(
    grid: tuple[int, int], tile: tuple[int, int], each: int, *, is_remote: bool
) -> tuple[tuple[int, int], int]:
    """Rows and columns of a block, and the number of blocks in memory: two, unless that would cut tiles.

    With one, readers wait while it is reduced: that costs less than to decode tiles twice. Over the
    network it would cost more, so two are held there, each of the size of one. each: bytes of a pixel.
    """
    whole = _block_shape(grid, tile, _SIDE, _STACKS // each)
    half = _block_shape(grid, tile, _SIDE, _STACKS // (2 * each))
    if is_remote:
        return whole, 2
    pairs = zip(half, tile, grid, strict=True)
    cuts = any(side % part and side < all_ and part <= _LARGEST for side, part, all_ in pairs)
    return (whole, 1) if cuts else (half, 2)


def _block_shape(
    grid: tuple[int, int], tile: tuple[int, int], side: int, most: int
) -> tuple[int, int]:
    """Rows and columns of a block: about a square of the side, of whole tiles where they are not too many.

    most: pixels for which there is room. Images stored in strips are read in strips.
    """
    least = max(min(tile[0], _LARGEST), _SMALLEST), tile[1] if tile[1] <= _LARGEST else grid[1]
    room = min(most, max(side**2, least[0] * least[1]))
    width = _length(min(max(side, least[1]), room // least[0]), tile[1])
    return _length(min(max(side, least[0]), room // min(width, grid[1])), tile[0]), width


def _length(wanted: int, tile: int) -> int:
    """Length of a block: whole tiles where one fits, else a part of a tile."""
    wanted = max(wanted, _SMALLEST)
    return wanted // tile * tile if wanted >= tile else wanted


def _storage(
    reader: WindowReader, observations: Sequence[Observation]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Tile shape of the first scene on the grid itself, and where its first tile border lies there."""
    for one in observations:
        band = next(iter(one.layers[0].bands.values()))[0]
        shift = reader.pixel_map(band.href).shift
        if shift is not None:
            tile = reader.files.facts(band.href).tile
            return tile, (-shift[0] % tile[0], -shift[1] % tile[1])
    return (1, 1), (0, 0)


def _cut(length: int, start: int, step: int) -> list[slice]:
    edges = [0, *range(start % step or step, length, step), length]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
