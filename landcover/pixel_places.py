"""Where the pixels of an image lie in another CRS, the same whatever window is asked for."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer

Floats = NDArray[np.float64]

_STEP = 32
"""Pixels between points that are transformed; between them the places are interpolated. A line that
bends with the Earth's radius R leaves its chord by (32 p / 2)^2 / 2 R: 20 m for pixels p of 1 km."""


def pixel_places(grid: GeoBox, crs: CRS, rows: slice, cols: slice) -> tuple[Floats, Floats]:
    """X and y in a CRS of the centres of a window's pixels; broadcast together they are (rows, cols).

    rows, cols: the window; it may reach beyond the grid. In the grid's own CRS, with rows along its
    axis, x is (1, cols) and y is (rows, 1). A pixel gets the same numbers in every window. Longitudes go on
    beyond 180 degrees, so that those of a grid on the antimeridian differ by what lies between them.
    """
    down = np.arange(rows.start, rows.stop) + 0.5
    across = np.arange(cols.start, cols.stop) + 0.5
    if grid.crs == crs:
        return _affine(grid, down[:, None], across[None, :])
    knots_down, knots_across = _knots(down), _knots(across)
    x, y = _affine(grid, knots_down[:, None] * _STEP, knots_across[None, :] * _STEP)
    x, y = np.broadcast_arrays(x, y)
    transformer = _transformer(CRS(grid.crs), crs)
    x, y = map(np.asarray, transformer.transform(x, y))
    if crs.geographic:
        middle = transformer.transform(*_affine(grid, grid.shape[0] / 2, grid.shape[1] / 2))[0]
        x = x - 360 * np.round((x - middle) / 360)
    return _between(x, down, across), _between(y, down, across)


def _affine(grid: GeoBox, down: Any, across: Any) -> tuple[Any, Any]:
    t = grid.affine
    x = t.a * across + t.c if t.b == 0 else t.a * across + t.b * down + t.c
    y = t.e * down + t.f if t.d == 0 else t.d * across + t.e * down + t.f
    return x, y


def _knots(along: Floats) -> Floats:
    """Whole multiples of the step around positions, so that windows share them."""
    first, last = math.floor(along[0] / _STEP), math.floor(along[-1] / _STEP) + 1
    return np.arange(first, last + 1, dtype=np.float64)


def _between(knots: Floats, down: Floats, across: Floats) -> Floats:
    """Bilinear interpolation of (rows, cols) of knots, pixel by pixel: no sum depends on the window."""
    (row, v), (col, u) = (_cells(along) for along in (down, across))
    out = np.empty((len(down), len(across)))
    _interpolate(knots, row, v, col, u, out)
    return out


@njit(cache=True, nogil=True)
def _interpolate(knots, row, v, col, u, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    for r in range(out.shape[0]):
        above, below = knots[row[r]], knots[row[r] + 1]
        for c in range(out.shape[1]):
            k = col[c]
            upper = above[k] * (1 - u[c]) + above[k + 1] * u[c]
            lower = below[k] * (1 - u[c]) + below[k + 1] * u[c]
            out[r, c] = upper * (1 - v[r]) + lower * v[r]


def _cells(along: Floats) -> tuple[NDArray[np.intp], Floats]:
    whole = np.floor(along / _STEP)
    return (whole - whole[0]).astype(np.intp), along / _STEP - whole


@lru_cache(maxsize=32)
def _transformer(source: CRS, target: CRS) -> Transformer:
    return Transformer.from_crs(source.proj, target.proj, always_xy=True)
