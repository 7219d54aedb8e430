"""What rasters show of the blocks of one grid, whatever grid they have themselves."""

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from landcover.area import ground_size
from landcover.compositing import cloud_distance
from landcover.errors import RasterError
from landcover.resampling import (
    MEASURED,
    Block,
    Numbers,
    Patch,
    PixelMap,
    Positions,
    averaged,
    harmonize,
    highest,
    looked_up,
)  # fmt: skip
from pipeline.raster_files import RasterFiles, plain

_AT_ONCE = 16 * 2**20
"""Pixels of a raster finer than the grid that are read at a time."""
_FARTHEST = 254
"""Pixels of a mask by which clouds can grow."""
OUTSIDE = 255
"""What a block's code is where the raster does not reach."""


@dataclass(frozen=True)
class Band:
    """One band of a raster file."""

    href: str
    number: int
    """1-based."""
    alpha: int | None = None
    """Band of the same file that is 0 where there is no data."""


@dataclass
class WindowReader:
    """Reads blocks of a grid from rasters: measurements bilinear, codes and masks from the nearest pixel.

    Rasters cut from the grid itself are read as they are. Finer ones are averaged to whole numbers
    of their pixels first. A block gives the same numbers whatever blocks the grid is cut into; it may
    reach beyond the grid.
    """

    files: RasterFiles
    grid: GeoBox
    _maps: dict[GeoBox, PixelMap] = field(default_factory=dict)
    _map_of: dict[str, PixelMap] = field(default_factory=dict)
    """The same by raster: to compare grids takes as long as to read a small window."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    read_bytes: int = 0
    """Decoded so far."""

    def measure(self, band: Band, numbers: Numbers, block: Block, out: NDArray[np.uint16]) -> None:
        """Fill `out` (the block's rows, cols) with harmonised numbers, 0 where there is none."""
        pixel_map = self.pixel_map(band.href)
        if pixel_map.shift is not None:
            found = self._same_grid(pixel_map.shift, band, block, numbers, into=out)
            if not found or found[1].shape != out.shape:
                out[...] = 0
            if found:
                part, image = found
                harmonize(image, numbers, image if image is out else out[part])
            return

        def work(full: Block) -> NDArray[np.uint16]:
            measured = np.empty(_shape(full), np.uint16)
            harmonize(self._read(band, full, numbers), numbers, measured)
            if self._is_masked(band):
                measured[self._read_mask(band, full) == 0] = 0  # lest its colour spread
            return averaged(measured, pixel_map.shrink) if pixel_map.shrink > 1 else measured

        if patch := self._patch(pixel_map, block, 0.5, work):
            patch.bilinear(MEASURED, out)
        else:
            out[...] = 0

    def look_up(
        self, band: Band, table: NDArray[np.uint8], block: Block, grow: float = 0.0
    ) -> NDArray[np.uint8]:
        """What a table of 65,536 entries, 0 or 1, says of the stored codes of a block (rows, cols).

        grow: metres by which the ones grow, on the raster's own pixels. OUTSIDE where the raster
        does not reach.
        """
        wide = math.ceil(grow / ground_size(self.files.facts(band.href).grid)) if grow else 0
        if wide > _FARTHEST:
            raise RasterError(
                f"Clouds cannot grow by {grow:g} m, {wide} pixels of {plain(band.href)}: at most {_FARTHEST} "
                "pixels; give a smaller cloud buffer."
            )

        def meaning(image: NDArray[Any]) -> NDArray[np.uint8]:
            found: NDArray[np.uint8] = looked_up(image, table)
            return (cloud_distance(found > 0, wide + 1) <= wide).view(np.uint8) if wide else found

        return self._nearest(band, block, meaning, halo=wide)

    def has_data(self, band: Band, block: Block) -> NDArray[np.bool_]:
        """Where the file's own mask and alpha say that there is data: (rows, cols)."""
        lacking = self._nearest(band, block, lambda image: (image == 0).view(np.uint8), mask=True)
        return np.equal(lacking, 0)

    def _is_masked(self, band: Band) -> bool:
        """Whether the file says by a mask or alpha where a band has data."""
        return band.alpha is not None or self.files.facts(band.href).masked[band.number - 1]

    def _nearest(
        self, band: Band, block: Block, meaning: Callable[[NDArray[Any]], NDArray[np.uint8]],
        *, mask: bool = False, halo: int = 0,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """Meaning of the nearest pixel; it may depend on pixels of the raster as far as the halo."""
        out = np.full(_shape(block), OUTSIDE, np.uint8)
        pixel_map = self.pixel_map(band.href)
        if pixel_map.shift is not None:
            wide = np.full(_shape(_widened(block, halo)), OUTSIDE, np.uint8) if halo else out
            if found := self._same_grid(
                pixel_map.shift, band, _widened(block, halo), None, mask=mask
            ):
                wide[found[0]] = meaning(found[1])
            return wide[halo:-halo, halo:-halo] if halo else out

        def work(full: Block) -> NDArray[np.uint8]:
            rows, cols = pixel_map.image.shape
            around = _clipped(_widened(full, halo), (int(rows), int(cols)))
            image = self._read_mask(band, around) if mask else self._read(band, around, None)
            found = meaning(image)
            inner = tuple(
                slice(cut.start - wide.start, cut.stop - wide.start)
                for cut, wide in zip(full, around, strict=True)
            )
            return highest(found[inner], pixel_map.shrink)

        if patch := self._patch(pixel_map, block, 0.0, work):
            patch.nearest(out)
        return out

    def reaches(self, href: str, block: Block) -> bool:
        """Whether a raster may show something of a block."""
        pixel_map = self.pixel_map(href)
        if pixel_map.shift is not None:
            return _overlap(pixel_map.shift, block, pixel_map.shape) is not None
        return _positions(pixel_map, _key(block)).window(0.0) is not None

    def pixel_map(self, href: str) -> PixelMap:
        """Where the grid lies on a raster."""
        if href not in self._map_of:
            image = self.files.facts(href).grid
            with self._lock:
                if image not in self._maps:
                    self._maps[image] = _mapped(image, self.grid, href)
                self._map_of[href] = self._maps[image]
        return self._map_of[href]

    def _same_grid(
        self, shift: tuple[int, int], band: Band, block: Block, numbers: Numbers | None,
        *, mask: bool = False, into: NDArray[Any] | None = None,
    ) -> tuple[Block, NDArray[Any]] | None:  # fmt: skip
        """The part of a block that a raster of the same grid covers, and its pixels.

        into: where they may be read to, if they fit.
        """
        facts = self.files.facts(band.href)
        cuts = _overlap(shift, block, facts.grid.shape)
        if cuts is None:
            return None
        if into is not None and (
            into.shape != _shape(cuts) or facts.dtypes[band.number - 1] != into.dtype
        ):
            into = None
        image = self._read_mask(band, cuts) if mask else self._read(band, cuts, numbers, into=into)
        rows, cols = (
            slice(cut.start - move - part.start, cut.stop - move - part.start)
            for cut, move, part in zip(cuts, shift, block, strict=True)
        )
        return (rows, cols), image

    def _patch(
        self, pixel_map: PixelMap, block: Block, half: float, work: Callable[[Block], NDArray[Any]]
    ) -> Patch | None:
        """What a block needs of a raster, shrunk; made by `work` of as much of it as is read at a time.

        half: as Positions.window takes it.
        """
        positions = _positions(pixel_map, _key(block))
        cuts = positions.window(half)
        if cuts is None:
            return None
        rows, cols = cuts
        shrink = pixel_map.shrink
        step = max(1, _AT_ONCE // (shrink**2 * (cols.stop - cols.start)))
        starts = range(rows.start, rows.stop, step)
        height, width = pixel_map.image.shape
        across = slice(cols.start * shrink, min(cols.stop * shrink, width))
        ends = (min(min(start + step, rows.stop) * shrink, height) for start in starts)
        parts = [
            work((slice(start * shrink, end), across))
            for start, end in zip(starts, ends, strict=True)
        ]
        image = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Patch(image, (rows.start, cols.start), positions)

    def _read_mask(self, band: Band, cuts: Block) -> NDArray[np.bool_]:
        """Where a raster's mask and alpha band say that a window has data."""
        found = []
        if band.alpha is not None:
            found.append(self._read(Band(band.href, band.alpha), cuts, None))
        if self.files.facts(band.href).masked[band.number - 1]:
            found.append(self._read(band, cuts, None, mask=True))
        has_data: NDArray[np.bool_] = np.logical_and.reduce(found)
        return has_data

    def _read(
        self, band: Band, cuts: Block, numbers: Numbers | None,
        *, mask: bool = False, into: NDArray[Any] | None = None,
    ) -> NDArray[Any]:  # fmt: skip
        """A window of a raster as it is stored (never of its overviews), or of its mask."""
        rows, cols = cuts
        cut = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        image: NDArray[Any] = np.empty(0)

        def work(dataset: DatasetReader) -> NDArray[Any]:
            nonlocal image
            read: Callable[..., NDArray[Any]] = dataset.read_masks if mask else dataset.read
            image = read(band.number, window=cut, **({} if into is None else {"out": into}))
            return image

        def suspect() -> bool:
            tag = self.files.facts(band.href).nodata[band.number - 1]
            nodata = [0, *([] if tag is None else [tag]), *(numbers.nodata if numbers else ())]
            return bool(np.isin(image, nodata).any())

        found = self.files.read_pixels(band.href, band.number, cut, suspect, work)
        with self._lock:
            self.read_bytes += found.nbytes
        return found


def _mapped(image: GeoBox, grid: GeoBox, href: str) -> PixelMap:
    """Where a grid lies on a raster; RasterError where the one has no place on the other."""
    found = PixelMap(image, grid)
    try:
        found.shrink  # noqa: B018 - makes the transformation
    except ProjError as error:
        raise RasterError(
            f"{plain(href)} cannot be placed on the grid: there is no way from its CRS to {grid.crs}; "
            "is it an image of the Earth?"
        ) from error
    return found


@lru_cache(maxsize=32)
def _positions(pixel_map: PixelMap, block: tuple[int, int, int, int]) -> Positions:
    """Shared by all images of one grid, which are read one after the other for a block."""
    return pixel_map.positions((slice(*block[:2]), slice(*block[2:])))


def _clipped(block: Block, shape: tuple[int, int]) -> Block:
    rows, cols = (
        slice(max(0, cut.start), min(length, cut.stop))
        for cut, length in zip(block, shape, strict=True)
    )
    return rows, cols


def _widened(block: Block, halo: int) -> Block:
    rows, cols = block
    return slice(rows.start - halo, rows.stop + halo), slice(cols.start - halo, cols.stop + halo)


def _key(block: Block) -> tuple[int, int, int, int]:
    rows, cols = block
    return rows.start, rows.stop, cols.start, cols.stop


def _shape(block: Block) -> tuple[int, int]:
    rows, cols = block
    return rows.stop - rows.start, cols.stop - cols.start


def _overlap(shift: tuple[int, int], block: Block, shape: Iterable[int]) -> Block | None:
    """The part of an image of the same grid that a block covers, in the image's rows and columns."""
    cuts = [
        slice(max(0, part.start + move), min(length, part.stop + move))
        for part, move, length in zip(block, shift, shape, strict=True)
    ]
    if any(cut.stop <= cut.start for cut in cuts):
        return None
    return cuts[0], cuts[1]
