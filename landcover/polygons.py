"""Polygons of a class raster: one valid coverage, traced at pixel corners.

Each polygon is a 4-connected component of equal class. Its rings have a vertex wherever they turn
and wherever three or more regions meet (nodata is a region), on every side, so neighbours share
their borders vertex by vertex: no gap, no overlap, and `shapely.coverage_is_valid` holds. GDAL's
polygonizer leaves out the second kind of vertex, so simplifying its polygons opens gaps.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray
from rasterio import Affine

# Directions E, N, W, S: a left turn is the next one. The region is on the left of its rings.
# Offsets from a corner's south-east pixel, (row, col), by direction.
_BEHIND_LEFT = ((-1, -1), (0, -1), (0, 0), (-1, 0))
_AHEAD_LEFT = ((-1, 0), (-1, -1), (0, -1), (0, 0))
_AHEAD_RIGHT = ((0, 0), (-1, 0), (-1, -1), (0, -1))
_BEHIND_RIGHT = ((0, -1), (0, 0), (-1, 0), (-1, -1))
_MOVE = ((0, 1), (-1, 0), (0, -1), (1, 0))
_WEST = 2


@dataclass(frozen=True)
class Coverage:
    """Polygons of a class raster, as vertices at pixel corners.

    Polygon i has the rings `polygons[i]` to `polygons[i + 1]`, the first its shell, the others its
    holes; ring j has the vertices `rings[j]` to `rings[j + 1]`, the last equal to the first. Shells
    run anticlockwise as seen with row 0 on top, holes clockwise; a shell starts at its top-left
    corner.
    """

    framed: NDArray[np.int32]
    """Polygon number + 1 of each pixel, 0 for nodata, with a frame of one pixel of 0 around."""
    codes: NDArray[np.integer]
    """Class code of each polygon; polygons are in raster order of their first pixel."""
    rows: NDArray[np.int32]
    """Corner row of each vertex, 0 to height."""
    cols: NDArray[np.int32]
    """Corner column of each vertex, 0 to width."""
    rings: NDArray[np.int64]
    """Offsets of the rings in the vertices, one more than there are rings."""
    polygons: NDArray[np.int64]
    """Offsets of the polygons in the rings, one more than there are polygons."""

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """Polygon number + 1 of each pixel, 0 for nodata, (rows, cols)."""
        return self.framed[1:-1, 1:-1]

    def geometries(
        self, transform: Affine, first: int = 0, last: int | None = None
    ) -> NDArray[np.object_]:
        """Shapely polygons `first` to `last` (excluded), in the CRS of a geotransform.

        transform: from (column, row) corner coordinates to the CRS; any rotation or flip. Shells are
        anticlockwise in CRS coordinates, as OGC wants them.
        """
        points, rings, polygons = self._part(transform, first, last)
        shapes: NDArray[np.object_] = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, points, (rings, polygons)
        )
        return shapes

    def wkb(
        self, transform: Affine, first: int = 0, last: int | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The same polygons as well-known binary: (bytes, offset of each polygon and the end).

        Made without a geometry object per polygon: ten times faster than through shapely.
        """
        points, rings, polygons = self._part(transform, first, last)
        return _wkb(points.view(np.uint64), rings, polygons)  # type: ignore[no-any-return]

    def _part(
        self, transform: Affine, first: int, last: int | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Vertices (n, 2) in the CRS, ring offsets and polygon offsets of some polygons."""
        polygons = self.polygons[slice(first, None if last is None else last + 1)]
        rings = self.rings[polygons[0] : polygons[-1] + 1]
        part = slice(rings[0], rings[-1])
        points = _placed(self.cols[part], self.rows[part], np.array(transform[:6]))
        rings = rings - rings[0]
        if transform.determinant > 0:  # row 0 at the bottom: the mirror image
            points = points[_reversed(rings)]
        return points, rings, polygons - polygons[0]


def trace(classes: NDArray[np.integer]) -> Coverage:
    """Trace a class raster (rows, cols) into one valid coverage.

    classes: whole numbers, 0 is nodata and gets no polygon. Where two pixels of one component touch
    only by a corner, its rings turn away from each other there, so no ring touches itself and every
    polygon is valid.
    """
    height, width = classes.shape
    framed = np.zeros((height + 2, width + 2), np.int32)
    codes = _label(np.ascontiguousarray(classes), framed)
    vertices, starts = _count(framed)
    rows, cols = np.empty(vertices, np.int32), np.empty(vertices, np.int32)
    rings, owners = np.empty(starts + 1, np.int64), np.empty(starts, np.int32)
    found = _trace(framed, rows, cols, rings, owners)
    rings, owners = rings[: found + 1], owners[:found]
    order = np.argsort(owners, kind="stable")
    rows, cols, rings = _reordered(rows, cols, rings, order)
    polygons = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=len(codes) + 1)[1:], out=polygons[1:])
    return Coverage(framed, codes, rows, cols, rings, polygons)


# Compiled. Arrays only; `framed` has a frame of zeros, so no neighbour is out of bounds.


@njit(cache=True, nogil=True)
def _root(parent, label):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@njit(cache=True, nogil=True)
def _label(classes, framed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Fill `framed` with component numbers from 1, in raster order; return their class codes."""
    parent = np.zeros(_fresh(classes) + 1, np.int32)
    code = np.zeros(len(parent), classes.dtype)
    last = 0
    for r in range(classes.shape[0]):
        for c in range(classes.shape[1]):
            value = classes[r, c]
            if value == 0:
                continue
            same_left = c > 0 and classes[r, c - 1] == value
            if r > 0 and classes[r - 1, c] == value:
                label = framed[r, c + 1]
                if same_left and framed[r + 1, c] != label:
                    label = _join(parent, label, framed[r + 1, c])
            elif same_left:
                label = framed[r + 1, c]
            else:
                last += 1
                label, parent[last], code[last] = last, last, value
            framed[r + 1, c + 1] = label
    return _renumber(framed, parent, code)


@njit(cache=True, nogil=True)
def _fresh(classes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Upper bound of the number of components: pixels unlike both the left and the upper one."""
    total = 0
    for r in range(classes.shape[0]):
        for c in range(classes.shape[1]):
            value = classes[r, c]
            left = c > 0 and classes[r, c - 1] == value
            total += value != 0 and not left and not (r > 0 and classes[r - 1, c] == value)
    return total


@njit(cache=True, nogil=True)
def _join(parent, one, other):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Unite two labels; the lower one stays, so it names the component's first pixel."""
    one, other = _root(parent, one), _root(parent, other)
    low, high = min(one, other), max(one, other)
    parent[high] = low
    return low


@njit(cache=True, nogil=True)
def _renumber(framed, parent, code):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Number the components without holes in the numbers; return their class codes."""
    number = 0
    for label in range(1, len(parent)):
        if parent[label] == label:
            code[number] = code[label]
            number += 1
            parent[label] = -number  # a final number, told apart by its sign
        else:
            parent[label] = parent[parent[label]]  # roots come first, so this one is final
    flat = framed.ravel()
    for k in range(len(flat)):
        flat[k] = -parent[flat[k]]
    return code[:number].copy()


@njit(cache=True, nogil=True)
def _offsets(table, stride):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    out = np.empty(4, np.int64)
    for d in range(4):
        out[d] = table[d][0] * stride + table[d][1]
    return out


@njit(cache=True, nogil=True)
def _turn(own, ahead_left, ahead_right):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Change of direction at a corner: 1 left, 0 straight, -1 right.

    Right wherever the pixel ahead on the right is the region's own, also across a diagonal: the
    ring then keeps to the background on its right, and the other background gets another ring.
    """
    if ahead_right == own:
        return -1
    return 0 if ahead_left == own else 1


@njit(cache=True, nogil=True)
def _count(framed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Vertices of all rings, and an upper bound of the number of rings."""
    stride, flat = framed.shape[1], framed.ravel()
    behind_left, behind_right = _offsets(_BEHIND_LEFT, stride), _offsets(_BEHIND_RIGHT, stride)
    ahead_left, ahead_right = _offsets(_AHEAD_LEFT, stride), _offsets(_AHEAD_RIGHT, stride)
    vertices, starts = 0, 0
    for k in range(stride + 1, len(flat)):
        nw, ne, sw, se = flat[k - stride - 1], flat[k - stride], flat[k - 1], flat[k]
        if (nw == ne and sw == se) or (nw == sw and ne == se):
            continue  # inside a region, or on a straight border of two
        for d in range(4):
            own, right = flat[k + behind_left[d]], flat[k + behind_right[d]]
            if own == 0 or own == right:  # noqa: PLR1714 -- numba tests no membership in tuples
                continue
            turn = _turn(own, flat[k + ahead_left[d]], flat[k + ahead_right[d]])
            vertices += turn != 0 or flat[k + ahead_right[d]] != right
            starts += turn != 0 and d == _WEST
    return vertices + starts, starts  # a ring repeats its first vertex


@njit(cache=True, nogil=True)
def _trace(framed, rows, cols, rings, owners):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Walk every ring once, in raster order of their first westward edges; return their number.

    Every ring runs west somewhere, along the upper edge of a pixel of its region, and it turns at
    the end of the first such edge, so it starts at a vertex.
    """
    stride, flat = framed.shape[1], framed.ravel()
    seen = np.zeros(len(flat), np.bool_)
    steps = _offsets(_MOVE, stride)
    ahead_left, ahead_right = _offsets(_AHEAD_LEFT, stride), _offsets(_AHEAD_RIGHT, stride)
    behind_right = _offsets(_BEHIND_RIGHT, stride)
    found, n = 0, 0
    rings[0] = 0
    for first in range(stride + 1, len(flat) - stride):
        own = flat[first]
        if own == 0 or flat[first - stride] == own or seen[first]:
            continue
        start, k, d = n, first, _WEST
        while not (d == _WEST and seen[k]):
            seen[k] |= d == _WEST
            ahead = flat[k + ahead_right[d]]
            turn = _turn(own, flat[k + ahead_left[d]], ahead)
            if turn != 0 or ahead != flat[k + behind_right[d]]:
                row = k // stride
                rows[n], cols[n] = row - 1, k - row * stride - 1
                n += 1
            d = (d + turn) & 3
            k += steps[d]
        rows[n], cols[n] = rows[start], cols[start]
        n += 1
        owners[found] = own
        found += 1
        rings[found] = n
    return found


@njit(cache=True, nogil=True)
def _reordered(rows, cols, rings, order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The rings in another order."""
    new_rows, new_cols, new_rings = np.empty_like(rows), np.empty_like(cols), np.zeros_like(rings)
    n = 0
    for position, ring in enumerate(order):
        for k in range(rings[ring], rings[ring + 1]):
            new_rows[n], new_cols[n] = rows[k], cols[k]
            n += 1
        new_rings[position + 1] = n
    return new_rows[:n], new_cols[:n], new_rings


@njit(cache=True, nogil=True)
def _placed(cols, rows, transform):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Vertices in the CRS, (n, 2); equal corners give equal numbers."""
    a, b, c, d, e, f = transform
    points = np.empty((len(cols), 2))
    for k in range(len(cols)):
        points[k, 0] = a * cols[k] + b * rows[k] + c
        points[k, 1] = d * cols[k] + e * rows[k] + f
    return points


@njit(cache=True, nogil=True)
def _reversed(rings):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Positions of the vertices with each ring run backwards."""
    index = np.empty(rings[-1], np.int64)
    for ring in range(len(rings) - 1):
        for k in range(rings[ring], rings[ring + 1]):
            index[k] = rings[ring] + rings[ring + 1] - 1 - k
    return index


@njit(cache=True, nogil=True)
def _put(buffer, at, value, size):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Store a whole number, lowest byte first; return the place behind it."""
    for byte in range(size):
        buffer[at + byte] = (value >> np.uint64(8 * byte)) & np.uint64(255)
    return at + size


@njit(cache=True, nogil=True)
def _wkb(points, rings, polygons):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Well-known binary of polygons, little endian (ISO 19125-1, 8.2); points: bits of the floats."""
    n = len(polygons) - 1
    offsets = np.zeros(n + 1, np.int64)
    buffer = np.empty(9 * n + 4 * (len(rings) - 1) + 16 * len(points), np.uint8)
    at = 0
    for i in range(n):
        at = _put(buffer, at, np.uint64(1), 1)  # little endian
        at = _put(buffer, at, np.uint64(3), 4)  # polygon
        at = _put(buffer, at, np.uint64(polygons[i + 1] - polygons[i]), 4)
        for ring in range(polygons[i], polygons[i + 1]):
            at = _put(buffer, at, np.uint64(rings[ring + 1] - rings[ring]), 4)
            for k in range(rings[ring], rings[ring + 1]):
                at = _put(buffer, at, points[k, 0], 8)
                at = _put(buffer, at, points[k, 1], 8)
        offsets[i + 1] = at
    return buffer, offsets
