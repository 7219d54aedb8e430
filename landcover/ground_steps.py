"""Ground lengths of steps in pixels, for any CRS and geotransform: perimeters and tolerances in metres."""

from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt

from landcover.area import ground_positions
from landcover.polygons import Polygons

Floats = NDArray[np.float64]

_SPACING = 25_000.0
"""Ground distance of the nodes, metres: between them, lengths are off by (25 km / R)^2 / 8 = 2e-6."""
_MOST = 129
"""Nodes along a side; rasters wider than 3,200 km are interpolated more coarsely."""


class GroundSteps:
    """How long a step along a row and one down a column are on the ellipsoid, and the angle between.

    Evaluated on a lattice of corners and interpolated. Raises RasterError where the grid has no CRS.
    """

    def __init__(self, grid: GeoBox) -> None:
        self._grid = grid
        position = ground_positions(grid)
        height, width = grid.shape
        size = _pixel_size(position, height, width)
        self._rows, self._cols = (_nodes(n, size) for n in (height, width))
        row, col = (a.ravel() for a in np.meshgrid(self._rows, self._cols, indexing="ij"))
        h = 0.5
        down = position(col, row + h) - position(col, row - h)
        along = position(col + h, row) - position(col - h, row)
        shape = (len(self._rows), len(self._cols))
        squares = [
            np.einsum("xn,xn->n", a, b) for a, b in ((along, along), (along, down), (down, down))
        ]
        self._metric = _completed(np.stack([s.reshape(shape) for s in squares], axis=-1))
        """Squares of the steps and their product, metres^2."""

    @property
    def lattice(self) -> tuple[Floats, Floats, Floats]:
        """Rows and columns of the nodes, and there the squares of both steps, their product between."""
        return self._rows, self._cols, self._metric

    def perimeters(self, polygons: Polygons) -> Floats:
        """Length of all rings of each polygon, metres."""
        by_ring: Floats = _lengths(polygons.vertices, polygons.rings, *self.lattice)
        if not len(polygons):
            return by_ring
        return np.asarray(np.add.reduceat(by_ring, polygons.polygons[:-1]))

    @cached_property
    def longest(self) -> Floats:
        """For each corner row the longest steps of all columns: (along, down, cosine), (rows + 1, 3)."""
        squares = self._metric
        along, down = (np.sqrt(squares[..., i].max(axis=1)) for i in (0, 2))
        norms = np.sqrt(squares[..., 0] * squares[..., 2])
        cosines = np.divide(squares[..., 1], norms, out=np.zeros_like(norms), where=norms > 0)
        cosine = cosines[np.arange(len(cosines)), np.abs(cosines).argmax(axis=1)]
        at = np.arange(self._grid.shape[0] + 1)
        columns = [np.interp(at, self._rows, values) for values in (along, down, cosine)]
        return np.ascontiguousarray(np.stack(columns, axis=1))


def _pixel_size(position, height: int, width: int) -> float:  # type: ignore[no-untyped-def]  # noqa: ANN001
    row, col = height / 2, width / 2
    points = position(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    size = np.linalg.norm(points[:, 1:] - points[:, :1], axis=0).max()
    return float(size) if np.isfinite(size) and size > 0 else _SPACING


def _nodes(length: int, size: float) -> Floats:
    count = int(np.clip(np.ceil(length * size / _SPACING) + 1, 2, _MOST))
    return np.linspace(0, length, count)


def _completed(metric: Floats) -> Floats:
    """Values for nodes that are not on the Earth: those of the nearest that is, in the lattice.

    A pixel at the rim of a world map has corners whose next node lies beyond it.
    """
    known = np.isfinite(metric).all(axis=2)
    if known.all() or not known.any():
        return np.nan_to_num(metric, posinf=0.0, neginf=0.0)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(metric[tuple(nearest)])


@njit(cache=True, nogil=True)
def interpolated(rows, cols, metric, row, col):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 -- compiled
    """The three values of the lattice at a place, bilinear."""
    y, x = row / (rows[1] - rows[0]), col / (cols[1] - cols[0])
    i, j = min(int(y), len(rows) - 2), min(int(x), len(cols) - 2)
    y, x = y - i, x - j
    a, b, c, d = (1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x
    return (
        a * metric[i, j, 0]
        + b * metric[i, j + 1, 0]
        + c * metric[i + 1, j, 0]
        + d * metric[i + 1, j + 1, 0],
        a * metric[i, j, 1]
        + b * metric[i, j + 1, 1]
        + c * metric[i + 1, j, 1]
        + d * metric[i + 1, j + 1, 1],
        a * metric[i, j, 2]
        + b * metric[i, j + 1, 2]
        + c * metric[i + 1, j, 2]
        + d * metric[i + 1, j + 1, 2],
    )


@njit(cache=True, nogil=True)
def _lengths(vertices, rings, rows, cols, metric):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Length of every ring, each side by the metric at its middle."""
    out = np.zeros(len(rings) - 1)
    for ring in range(len(rings) - 1):
        total = 0.0
        for k in range(rings[ring], rings[ring + 1] - 1):
            r0, c0 = vertices[k] >> 32, (vertices[k] & 0xFFFFFFFF) >> 2
            r1, c1 = vertices[k + 1] >> 32, (vertices[k + 1] & 0xFFFFFFFF) >> 2
            dr, dc = r1 - r0, c1 - c0
            along, product, down = interpolated(rows, cols, metric, (r0 + r1) / 2, (c0 + c1) / 2)
            total += np.sqrt(max(along * dc * dc + 2 * product * dc * dr + down * dr * dr, 0.0))
        out[ring] = total
    return out
