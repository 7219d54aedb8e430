"""Shape of features on the ground: how compact, long, wide and turned they are."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from landcover.ground_steps import GroundSteps, interpolated
from landcover.polygons import Polygons

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ELLIPSOID = Geod(ellps="WGS84")


@dataclass(frozen=True)
class ShapeMeasures:
    """One number for each feature."""

    compactness: Floats
    """4 pi area / perimeter^2 (Polsby and Popper 1991): 1 for a disk, 0.79 for a square. The steps of
    pixels count in the perimeter, so slanting features seem less compact than they are."""
    length_m: Floats
    """Longer side of the smallest rectangle around the feature, metres."""
    width_m: Floats
    """Shorter side, metres."""
    elongation: Floats
    """Length / width, 1 or more."""
    orientation_deg: Floats
    """Direction of the longer side, degrees clockwise from true north, from 0 to below 180."""


def shape_measures(
    polygons: Polygons,
    parts: Ints,
    areas: Floats,
    perimeters: Floats,
    steps: GroundSteps,
    grid: GeoBox,
) -> ShapeMeasures:
    """Measure features.

    parts: feature i is made of the polygons parts[i] to parts[i + 1]. areas: square metres of each.
    perimeters: metres. The rectangle is that of least area (Freeman and Shapira 1975), found on the plane
    that touches the ground at the feature's middle: right for features of up to some ten kilometres.
    """  # fmt: skip
    table = _rectangles(polygons.vertices, polygons.rings, polygons.polygons, parts, *steps.lattice)
    length, width = table[:, :2].T
    with np.errstate(invalid="ignore", divide="ignore"):
        compactness = 4 * np.pi * areas / perimeters**2
        elongation = length / width
    return ShapeMeasures(compactness, length, width, elongation, _azimuths(table[:, 2:], grid))


def _azimuths(sides: Floats, grid: GeoBox) -> Floats:
    """Directions of lines given by (col, row, col, row) and the angle to be added, (n, 5)."""
    to_degrees = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
    t = grid.affine
    ends = [
        to_degrees.transform(t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f)
        for col, row in (sides[:, :2].T, sides[:, 2:4].T)
    ]
    azimuth, _, _ = _ELLIPSOID.inv(*ends[0], *ends[1])
    turned = np.mod(np.asarray(azimuth) + sides[:, 4], 180.0)
    return np.where(turned >= 180.0 - 1e-9, 0.0, turned)


@njit(cache=True, nogil=True)
def _rectangles(vertices, rings, polygons, parts, rows, cols, metric):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """For each feature: length, width, a line along one side (col, row, col, row), degrees to turn it."""
    table = np.zeros((len(parts) - 1, 7))
    for i in range(len(parts) - 1):
        count = 0
        for polygon in range(parts[i], parts[i + 1]):
            shell = polygons[polygon]
            count += rings[shell + 1] - rings[shell]
        points, n = np.empty(count, np.int64), 0
        for polygon in range(parts[i], parts[i + 1]):
            shell = polygons[polygon]
            for k in range(rings[shell], rings[shell + 1]):
                points[n] = vertices[k] >> 2
                n += 1
        hull = _hull(np.sort(points))
        middle = hull.sum(axis=0) / len(hull)
        along, product, down = interpolated(rows, cols, metric, middle[0], middle[1])
        _rectangle(hull, middle, along, product, down, table[i])
    return table


@njit(cache=True, nogil=True)
def _hull(points):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Convex hull of sorted corners, (n, 2) rows and columns (Andrew 1979): exact, in whole numbers."""
    hull, n = np.empty((2 * len(points) + 1, 2), np.int64), 0
    for half in range(2):
        floor = n + 1
        for k in range(len(points)):
            point = points[k if half == 0 else len(points) - 1 - k]
            row, col = point >> 30, point & 0x3FFFFFFF
            if n and hull[n - 1, 0] == row and hull[n - 1, 1] == col:
                continue
            while n > floor and _cross(hull[n - 2], hull[n - 1], row, col) <= 0:
                n -= 1
            hull[n, 0], hull[n, 1] = row, col
            n += 1
        floor = n
    return hull[: n - 1].astype(np.float64)


@njit(cache=True, nogil=True, inline="always")
def _cross(a, b, row, col):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    return (b[0] - a[0]) * (col - a[1]) - (b[1] - a[1]) * (row - a[0])


@njit(cache=True, nogil=True)
def _rectangle(hull, middle, along, product, down, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The rectangle of least area around a hull, one side of which lies on a side of the hull."""
    x_col = np.sqrt(along)
    x_row = product / x_col
    y_row = np.sqrt(max(down - x_row * x_row, 0.0))
    x = x_col * (hull[:, 1] - middle[1]) + x_row * (hull[:, 0] - middle[0])
    y = y_row * (hull[:, 0] - middle[0])
    best = np.inf
    for k in range(len(hull)):
        after = (k + 1) % len(hull)
        dx, dy = x[after] - x[k], y[after] - y[k]
        size = np.hypot(dx, dy)
        if size == 0:
            continue
        u, v = (x * dx + y * dy) / size, (y * dx - x * dy) / size
        one, other = u.max() - u.min(), v.max() - v.min()
        if one * other < best * (1 - 1e-12):
            best = one * other
            out[0], out[1] = max(one, other), min(one, other)
            out[2], out[3] = hull[k, 1], hull[k, 0]
            out[4], out[5] = hull[after, 1], hull[after, 0]
            out[6] = 0.0 if one >= other else 90.0
