"""Boxes of geometries in well-known binary, without an object for each."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import RasterError

_POINT, _LINE, _POLYGON = 1, 2, 3
_COLLECTIONS = 4
"""Kinds from here to 6 are a number of points, lines or polygons."""


def geometry_boxes(buffer: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Least x, least y, greatest x and greatest y of each geometry, (n, 4); NaN where it is empty.

    buffer: geometries in well-known binary, little endian, of two dimensions (ISO 19125-1, 8.2), the i-th
    from byte offsets[i] to offsets[i + 1]; none is a null, which is empty. Points, lines, polygons and collections of one of these.
    Raises RasterError for others.
    """
    boxes, wrong = _boxes(buffer, offsets)
    if wrong >= 0:
        raise RasterError(
            f"Geometry {wrong + 1} is no point, line or polygon of two dimensions; remove its heights."
        )
    return np.asarray(boxes)


@njit(cache=True, nogil=True)
def _boxes(buffer, offsets):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    boxes = np.empty((len(offsets) - 1, 4))
    box = np.empty(4)
    for i in range(len(boxes)):
        box[:2], box[2:] = np.inf, -np.inf
        is_null = offsets[i] == offsets[i + 1]
        if not is_null and _widen(box, buffer[offsets[i] : offsets[i + 1]]) < 0:
            return boxes, i
        boxes[i] = box
        if box[0] > box[2]:
            boxes[i] = np.nan
    return boxes, -1


@njit(cache=True, nogil=True)
def _widen(box, wkb):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Widen a box by a geometry; the place behind it, or -1 where it is none of ours."""
    kind, at = _kind(wkb, 0)
    if kind < _COLLECTIONS:
        return _widen_by_one(box, wkb, kind, at)
    count, at = _count(wkb, at)
    for _ in range(count):
        kind, at = _kind(wkb, at)
        at = _widen_by_one(box, wkb, kind, at)
        if at < 0:
            return at
    return at


@njit(cache=True, nogil=True)
def _widen_by_one(box, wkb, kind, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    if kind == _POINT:
        return _widen_by_points(box, wkb, 1, at)
    if kind == _LINE:
        count, at = _count(wkb, at)
        return _widen_by_points(box, wkb, count, at)
    if kind != _POLYGON:
        return -1
    rings, at = _count(wkb, at)
    for ring in range(rings):
        count, at = _count(wkb, at)
        if ring == 0:  # holes lie inside
            at = _widen_by_points(box, wkb, count, at)
        else:
            at += 16 * count
    return at


@njit(cache=True, nogil=True)
def _widen_by_points(box, wkb, count, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    if count < 0 or at + 16 * count > len(wkb):
        return -1
    values = np.empty(2 * count)
    bits = values.view(np.uint8)
    bits[:] = wkb[at : at + 16 * count]
    for k in range(0, 2 * count, 2):  # an empty point is NaN, and no comparison with it holds
        box[0], box[2] = min(box[0], values[k]), max(box[2], values[k])
        box[1], box[3] = min(box[1], values[k + 1]), max(box[3], values[k + 1])
    return at + 16 * count


@njit(cache=True, nogil=True)
def _kind(wkb, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Kind of the geometry at a place, 0 for none of ours, and the place behind it."""
    if at < 0 or at + 5 > len(wkb) or wkb[at] != 1:
        return 0, at
    kind, behind = _count(wkb, at + 1)
    return (kind if 1 <= kind <= 6 else 0), behind


@njit(cache=True, nogil=True)
def _count(wkb, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The number of four bytes at a place, -1 beyond the end, and the place behind it."""
    if at < 0 or at + 4 > len(wkb):
        return -1, at
    low, high = np.int64(wkb[at]), np.int64(wkb[at + 1])
    return low + (high << 8) + (np.int64(wkb[at + 2]) << 16) + (np.int64(wkb[at + 3]) << 24), at + 4
