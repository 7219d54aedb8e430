"""A patchwork of straight-edged parcels: fields, forest stands, town blocks and building lots."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.noise import Floats, chance, scramble


@dataclass(frozen=True)
class Districts:
    """Voronoi cells (Voronoi 1908) that each lay out their parcels along one direction."""

    index: NDArray[np.int32]
    """Which district a pixel is in: (rows, cols)."""
    verge: Floats
    """Distance to the next district, pixels: (rows, cols)."""
    u: Floats
    """Coordinate along the district's parcels, pixels from its centre: (rows, cols)."""
    v: Floats
    """Coordinate across them: (rows, cols)."""
    centre: Floats
    """Row and column of each district's centre: (districts, 2)."""
    angle: Floats
    """Direction of u against the columns, radians: (districts,)."""


@dataclass(frozen=True)
class Parcels:
    """Rectangles inside districts; every raster is (rows, cols)."""

    key: NDArray[np.uint32]
    """A random number that all pixels of a parcel share."""
    row: NDArray[np.intp]
    """Row of a pixel near the parcel's middle, inside the raster."""
    col: NDArray[np.intp]
    edge: Floats
    """Distance to the nearest side of the parcel, pixels."""

    def at_centre(self, field: Floats) -> Floats:
        """Value of a raster in the middle of each pixel's parcel."""
        return field[self.row, self.col]

    def chance(self, purpose: int) -> Floats:
        """Random number in [0, 1) of each parcel, a different one for each purpose."""
        return chance(self.key, purpose)


def districts(rng: np.random.Generator, shape: tuple[int, int], spacing: int) -> Districts:
    """Cut a raster into districts about `spacing` pixels wide."""
    counts = tuple(-(-n // spacing) + 2 for n in shape)
    corner = np.stack(np.meshgrid(*(np.arange(n) - 1.0 for n in counts), indexing="ij"), -1)
    centre = ((corner + rng.uniform(0.18, 0.82, corner.shape)) * spacing).astype(np.float32)
    index = np.empty(shape, np.int32)
    verge = np.empty(shape, np.float32)
    for i in range(counts[0] - 2):
        for j in range(counts[1] - 2):
            window = np.s_[i * spacing : (i + 1) * spacing, j * spacing : (j + 1) * spacing]
            near, margin = _nearest(centre[i : i + 3, j : j + 3].reshape(9, 2), shape, window)
            index[window] = (i + near // 3) * counts[1] + j + near % 3
            verge[window] = margin
    centre = centre.reshape(-1, 2)
    angle = rng.uniform(0, np.pi, len(centre)).astype(np.float32)
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    dy = rows.astype(np.float32) - centre[index, 0]
    dx = cols.astype(np.float32) - centre[index, 1]
    cos, sin = np.cos(angle)[index], np.sin(angle)[index]
    return Districts(index, verge, dx * cos + dy * sin, dy * cos - dx * sin, centre, angle)


def _nearest(
    points: Floats, shape: tuple[int, int], window: tuple[slice, slice]
) -> tuple[NDArray[np.intp], Floats]:
    rows = np.arange(shape[0], dtype=np.float32)[window[0], None]
    cols = np.arange(shape[1], dtype=np.float32)[None, window[1]]
    square = (rows - points[:, 0, None, None]) ** 2 + (cols - points[:, 1, None, None]) ** 2
    order = np.argpartition(square, 1, axis=0)[:2]
    first, second = np.take_along_axis(square, order, 0)
    apart = np.hypot(*np.moveaxis(points[order[0]] - points[order[1]], -1, 0))
    return order[0], (second - first) / (2 * apart)


def parcels(
    layout: Districts, width: float, length: float, seed: int, uneven: float = 0.25
) -> Parcels:
    """Cut districts into parcels of about `width` x `length` pixels.

    uneven: how much widths differ, 0 to 0.3; districts differ in parcel size by as much again.
    """
    district = np.arange(len(layout.angle))
    factor = np.exp((chance(district, seed, 1) - 0.5) * 3 * uneven).astype(np.float32)
    across, along = factor[layout.index] * width, factor[layout.index] * length
    phase = (chance(district, seed, 2) * 6.28)[layout.index]
    strip_place = layout.v / across
    strip_place = strip_place + uneven * np.sin(1.9 * strip_place + phase)
    strip = np.floor(strip_place).astype(np.int32)
    lane = scramble(layout.index, strip, seed)
    offset = (lane >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    cell_place = layout.u / along + offset
    cell_place = cell_place + uneven * np.sin(1.7 * cell_place + 6.28 * offset)
    cell = np.floor(cell_place).astype(np.int32)
    across_edge = _to_side(strip_place - strip) * across
    along_edge = _to_side(cell_place - cell) * along
    row, col = _middle(layout, (cell + 0.5 - offset) * along, (strip + 0.5) * across)
    return Parcels(
        scramble(lane.view(np.int32), cell), row, col, np.minimum(across_edge, along_edge)
    )


def _to_side(place: Floats) -> Floats:
    return np.minimum(place, 1 - place)


def _middle(layout: Districts, u: Floats, v: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    cos, sin = np.cos(layout.angle)[layout.index], np.sin(layout.angle)[layout.index]
    row = layout.centre[layout.index, 0] + u * sin + v * cos
    col = layout.centre[layout.index, 1] + u * cos - v * sin
    rows, cols = layout.index.shape
    return (
        np.clip(row, 0, rows - 1).astype(np.intp),
        np.clip(col, 0, cols - 1).astype(np.intp),
    )
