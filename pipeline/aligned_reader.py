"""Reads a raster on the pixels of another grid: as they are where the grids are one, else by a rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from landcover.antimeridian import near_grid
from pipeline.cog import has_mask, raster_grid, unreadable

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_COLUMNS = 1024
"""Columns read together where the grids differ."""
_MASK = (0,)
"""Band of the file's mask."""
_SNAP = 1e-6
"""Part of a pixel by which a place may miss a pixel's border or centre and still be on it."""


@dataclass(frozen=True)
class AlignedReader:
    """An open raster, seen on `grid`.

    Each pixel depends on its own place only, so rows may be read in any parts. Where the grids differ,
    classes are those of the pixel that holds the centre, and measurements are interpolated between four.
    """

    dataset: DatasetReader
    grid: GeoBox

    @cached_property
    def same(self) -> bool:
        """Whether both grids are one, so that nothing is resampled."""
        return bool(self._own_grid == self.grid)

    @cached_property
    def _own_grid(self) -> GeoBox:
        return raster_grid(self.dataset)

    def nearest(self, rows: slice, bands: Sequence[int]) -> tuple[NDArray[Any], Mask]:
        """Values (bands, rows, cols), and which pixels lie inside the raster and its mask (rows, cols)."""
        shape = (rows.stop - rows.start, int(self.grid.shape[1]))
        if self.same:
            window = Window(0, rows.start, shape[1], shape[0])
            shown = self._read(_MASK, window)[0] != 0 if self._masked else np.ones(shape, np.bool_)
            return self._read(bands, window), shown
        values = np.zeros((len(bands), *shape), self.dataset.dtypes[bands[0] - 1])
        within = np.zeros(shape, np.bool_)
        for cols, row, col in self._places(rows):
            down, right = (np.floor(axis + _SNAP) for axis in (row, col))
            inside = self._inside(down, right)
            within[:, cols] = inside
            if self._masked:
                within[:, cols] &= self._picked(_MASK, down, right, inside)[0] != 0
            values[:, :, cols] = self._picked(bands, down, right, inside)
        return values, within

    def interpolated(self, rows: slice, bands: Sequence[int]) -> Floats:
        """Values (bands, rows, cols) by bilinear interpolation; 0 where one of the four is 0 or outside."""
        if self.same:
            return self.nearest(rows, bands)[0].astype(np.float64)
        out = np.zeros((len(bands), rows.stop - rows.start, int(self.grid.shape[1])))
        for cols, row, col in self._places(rows):
            top, left = (np.floor(axis - 0.5 + _SNAP) for axis in (row, col))
            down = np.where(row - 0.5 - top < _SNAP, 0.0, row - 0.5 - top)
            right = np.where(col - 0.5 - left < _SNAP, 0.0, col - 0.5 - left)
            total, whole = np.zeros(out[:, :, cols].shape), np.ones(row.shape, np.bool_)
            for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (down if y else 1 - down) * (right if x else 1 - right)
                inside = self._inside(top + y, left + x)
                values = self._picked(bands, top + y, left + x, inside).astype(np.float64)
                whole &= (weight == 0) | (inside & (values > 0).all(axis=0))
                total += weight * values
            out[:, :, cols] = np.where(whole, total, 0.0)
        return out

    @cached_property
    def _masked(self) -> bool:
        return has_mask(self.dataset)

    @cached_property
    def _transformer(self) -> Transformer | None:
        here, there = CRS.from_user_input(str(self.grid.crs)), CRS.from_user_input(self.dataset.crs)
        return None if here == there else Transformer.from_crs(here, there, always_xy=True)

    def _places(self, rows: slice) -> Iterator[tuple[slice, Floats, Floats]]:
        """Columns, and row and column in the raster of their pixel centres, (rows, cols) each."""
        width = int(self.grid.shape[1])
        here, there = self.grid.affine, ~self.dataset.transform
        for left in range(0, width, _COLUMNS):
            cols = slice(left, min(left + _COLUMNS, width))
            row, col = (axis + 0.5 for axis in np.mgrid[rows, cols].astype(np.float64))
            x, y = here.a * col + here.b * row + here.c, here.d * col + here.e * row + here.f
            if self._transformer:
                x, y = self._transformer.transform(x, y)
            x = near_grid(x, self._own_grid)
            x, y = (np.where(np.isfinite(axis), axis, -1e12) for axis in (x, y))
            yield (
                cols,
                there.d * x + there.e * y + there.f,
                there.a * x + there.b * y + there.c,
            )

    def _inside(self, down: Floats, right: Floats) -> Mask:
        height, width = self.dataset.shape
        return np.asarray((down >= 0) & (down < height) & (right >= 0) & (right < width))

    def _picked(
        self, bands: Sequence[int], down: Floats, right: Floats, inside: Mask
    ) -> NDArray[Any]:
        """Values of pixels by whole row and column, (bands, rows, cols); 0 outside."""
        found = np.zeros((len(bands), *down.shape), self.dataset.dtypes[bands[0] - 1])
        if not inside.any():
            return found
        row, col = down[inside].astype(np.int64), right[inside].astype(np.int64)
        top, left = int(row.min()), int(col.min())
        window = Window(left, top, int(col.max()) - left + 1, int(row.max()) - top + 1)
        found[:, inside] = self._read(bands, window)[:, row - top, col - left]
        return found

    def _read(self, bands: Sequence[int], window: Window) -> NDArray[Any]:
        try:
            if bands == _MASK:
                return np.asarray(self.dataset.read_masks(1, window=window))[None]
            values: NDArray[Any] = self.dataset.read(list(bands), window=window)
        except RasterioError as error:
            raise unreadable(self.dataset.name, error) from error
        return values
