"""Polygons of the regions of a class raster: one valid coverage, traced at pixel corners.

Rings have a vertex wherever they turn and wherever three or more regions meet (nodata is a region),
on every side, so neighbours share their borders vertex by vertex: no gap, no overlap, and
`shapely.coverage_is_valid` holds. GDAL's polygonizer leaves out the second kind of vertex, so
simplifying its polygons opens gaps.

A raster is traced in strips of rows, each by itself: what a ring leaves in a strip is a fragment,
and fragments are joined where they meet at a seam. A polygon is given out when its last row is done,
so memory is bound by the strips in work and the polygons that are open.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray
from rasterio import Affine

Ints = NDArray[np.int64]
Labels = NDArray[np.int32]

# Directions E, N, W, S: a left turn is the next one. The region is on the left of its rings.
# Offsets from a corner's south-east pixel, (row, col), by direction.
_BEHIND_LEFT = ((-1, -1), (0, -1), (0, 0), (-1, 0))
_AHEAD_RIGHT = ((0, 0), (-1, 0), (-1, -1), (0, -1))
_BEHIND_RIGHT = ((0, -1), (0, 0), (-1, 0), (-1, -1))
_EAST, _NORTH, _WEST, _SOUTH = 0, 1, 2, 3
_CLOSED = -1
"""Instead of a key: the fragment is a whole ring."""
_PENDING = -1
"""Instead of a fragment: the next one lies in a strip that is not traced yet."""


@dataclass(frozen=True)
class Polygons:
    """Polygons as vertices at pixel corners.

    Polygon i has the rings `polygons[i]` to `polygons[i + 1]`, the first its shell, the others its
    holes; ring j has the vertices `rings[j]` to `rings[j + 1]`, the last equal to the first. Shells
    run anticlockwise as seen with row 0 on top, holes clockwise. As traced, a ring starts at its highest
    vertex, the leftmost of these, and holes are in the order of their starts.
    """

    regions: Labels
    """Region of each polygon, ascending."""
    vertices: Ints
    """Corner row x 2^32 + corner column x 4, + 2 where the border that follows is one to nodata, + 1
    where three or more borders meet."""
    rings: Ints
    """Offsets of the rings in the vertices, one more than there are rings."""
    polygons: Ints
    """Offsets of the polygons in the rings, one more than there are polygons."""

    def __len__(self) -> int:
        return len(self.regions)

    @classmethod
    def joined(cls, parts: Sequence["Polygons"]) -> "Polygons":
        """All polygons of several."""
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(part.regions for part in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(part.vertices for part in parts)]),
            _joined_offsets([part.rings for part in parts]),
            _joined_offsets([part.polygons for part in parts]),
        )

    def taken(self, order: Ints) -> "Polygons":
        """Some of the polygons, in some order."""
        rings, polygons = _ranges(self.polygons, order)
        vertices, offsets = _ranges(self.rings, rings)
        return Polygons(self.regions[order], self.vertices[vertices], offsets, polygons)

    def geometries(self, transform: Affine) -> NDArray[np.object_]:
        """Shapely polygons in the CRS of a geotransform.

        transform: from (column, row) corner coordinates to the CRS; any rotation or flip. Shells are
        anticlockwise in CRS coordinates, as OGC wants them.
        """
        shapes: NDArray[np.object_] = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, self.points(transform), (self.rings, self.polygons)
        )
        return shapes

    def wkb(self, transform: Affine, parts: Ints | None = None) -> tuple[NDArray[np.uint8], Ints]:
        """The same polygons as well-known binary: (bytes, offset of each polygon and the end).

        parts: makes multipolygons, i of the polygons parts[i] to parts[i + 1]. Made without a
        geometry object per polygon: ten times faster than through shapely.
        """
        points = self.points(transform).view(np.uint64)
        single = parts is None
        groups = np.arange(len(self) + 1) if parts is None else parts
        return _wkb(points, self.rings, self.polygons, groups, single)  # type: ignore[no-any-return]

    def points(self, transform: Affine) -> NDArray[np.float64]:
        """The vertices in the CRS, (n, 2); equal corners give equal numbers."""
        points = _placed(self.vertices, np.array(transform[:6]))
        if transform.determinant > 0:  # row 0 at the bottom: the mirror image
            points = points[_reversed(self.rings)]
        return np.asarray(points)


def _joined_offsets(parts: Sequence[Ints]) -> Ints:
    return np.append(0, np.cumsum(np.concatenate([np.zeros(0, np.int64), *map(np.diff, parts)])))


def _ranges(offsets: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """Positions within some of the ranges that offsets make, one after the other; and their offsets."""
    counts = offsets[chosen + 1] - offsets[chosen]
    ends = np.append(0, np.cumsum(counts))
    return np.repeat(offsets[chosen] - ends[:-1], counts) + np.arange(ends[-1]), ends


@dataclass(frozen=True)
class Fragments:
    """What the rings of regions leave in a strip: whole rings, and pieces between its seams."""

    regions: Labels
    vertices: Ints
    """As in Polygons, of one fragment after the other."""
    offsets: Ints
    """Where the vertices of each fragment begin, and the end."""
    starts: Labels
    """By which edge a fragment comes in: 8 x corner column + 2 x direction, + 1 at the lower seam."""
    ends: Labels
    """By which edge its ring goes on in the neighbouring strip."""


def trace_strip(framed: Labels, top: int, *, last: bool) -> Fragments:
    """Trace the regions of a strip of rows.

    framed: region of each pixel, 0 is nodata, with a frame of one pixel around: the neighbours' rows
    above and below, 0 outside the raster. top: the strip's first row. last: whether it is the
    lowest strip.

    A strip owns the borders beside its pixels and above them, the last one also those below. Where two
    pixels of one region touch only by a corner, its rings turn away from each other there, so no ring
    touches itself and every polygon is valid.
    """
    return Fragments(*_trace(framed, top, top == 0, last))


class PolygonAssembler:
    """Joins the fragments of consecutive strips, from the top to the bottom, to polygons."""

    def __init__(self, width: int, regions: int) -> None:
        self._is_open = np.zeros(regions + 1, np.bool_)
        self._regions = np.zeros(0, np.int32)
        self._vertices, self._used = np.zeros(1024, np.int64), 0
        self._offsets = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int64)
        self._next = np.zeros(0, np.int32)
        self._ends = np.full(8 * (width + 1), _PENDING, np.int32)
        self._starts = self._ends.copy()

    def add(self, fragments: Fragments, bottom: Labels) -> Polygons:
        """Take the fragments of the next strip; give the polygons that are whole with them.

        bottom: region of each pixel of the strip's last row, whose polygons stay open; empty for the
        last strip.
        """
        self._append(fragments)
        self._is_open[bottom] = True
        done = ~self._is_open[self._regions]
        self._is_open[bottom] = False
        polygons = self._joined(np.flatnonzero(done))
        self._keep(~done)
        return polygons

    def _append(self, new: Fragments) -> None:
        base = len(self._regions)
        self._regions = np.concatenate([self._regions, new.regions])
        self._offsets = np.concatenate([self._offsets, new.offsets[:-1] + self._used])
        self._lengths = np.concatenate([self._lengths, np.diff(new.offsets)])
        self._hold(new.vertices)
        unknown = np.full(len(new.regions), _PENDING, np.int32)
        self._next = np.concatenate([self._next, unknown])
        _link(self._next, base, new.starts, new.ends, self._ends, self._starts)

    def _hold(self, vertices: Ints) -> None:
        """Keep vertices, in an array that grows by doubling: open polygons may have very many."""
        needed = self._used + len(vertices)
        if needed > len(self._vertices):
            larger = np.empty(max(needed, 2 * len(self._vertices)), np.int64)
            larger[: self._used] = self._vertices[: self._used]
            self._vertices = larger
        self._vertices[self._used : needed] = vertices
        self._used = needed

    def _joined(self, done: Ints) -> Polygons:
        """Polygons of fragments that hold all rings of their regions."""
        heads, counts, regions, firsts, at = _rings(
            done, self._regions, self._vertices, self._offsets, self._lengths, self._next
        )
        order = np.lexsort((firsts, regions))
        vertices, rings = _chained(
            heads[order], counts[order], at[order],
            self._vertices, self._offsets, self._lengths, self._next,
        )  # fmt: skip
        found, shells = np.unique(regions[order], return_index=True)
        return Polygons(found, vertices, rings, np.append(shells, len(order)))

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget fragments, and their vertices once they are half of all."""
        places = np.where(kept, np.cumsum(kept) - 1, _PENDING).astype(np.int32)
        places = np.append(places, _PENDING)  # of _PENDING
        for name in ("_regions", "_offsets", "_lengths"):
            setattr(self, name, getattr(self, name)[kept])
        self._next = places[self._next[kept]]
        self._ends, self._starts = places[self._ends], places[self._starts]
        live = int(self._lengths.sum())
        if 2 * live <= self._used:
            self._vertices, self._offsets = _compacted(self._vertices, self._offsets, self._lengths)
            self._used = live


# Compiled. Arrays only; the frame keeps every neighbour within bounds.


@njit(cache=True, nogil=True)
def _offsets(table, stride):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    out = np.empty(4, np.int64)
    for d in range(4):
        out[d] = table[d][0] * stride + table[d][1]
    return out


@njit(cache=True, nogil=True)
def _trace(framed, top, first, last):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Walk what comes in by the seams, then every other ring from its first westward edge."""
    height, stride = framed.shape[0] - 2, framed.shape[1]
    flat = framed.ravel()
    seen = np.zeros(len(flat), np.bool_)
    walk = (flat, seen, _offsets(_AHEAD_RIGHT, stride), stride, height, top, first, last)
    points = np.empty(max(1024, framed.size // 8), np.int64)
    table = np.empty((4, len(points) // 4), np.int64)  # region, start, end, vertices so far
    n, found = 0, 0
    entries = _entries(flat, stride, height, first, last)
    for i in range(entries.shape[1]):
        points, n, end = _follow(walk, points, n, entries[0, i], entries[1, i])
        table = _noted(table, found, entries[3, i], entries[2, i], end, n)
        found += 1
    for k in range(stride + 1, (height + 1) * stride):
        own = flat[k]
        if own == 0 or flat[k - stride] == own or seen[k]:
            continue
        points, n, end = _follow(walk, points, n, k, _WEST)
        table = _noted(table, found, own, end, end, n)
        found += 1
    offsets = np.zeros(found + 1, np.int64)
    offsets[1:] = table[3, :found]
    columns = table[:3, :found].astype(np.int32)
    return columns[0], points[:n].copy(), offsets, columns[1], columns[2]


@njit(cache=True, nogil=True)
def _noted(table, found, own, start, end, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The table with one more fragment."""
    if found == table.shape[1]:
        larger = np.empty((4, 2 * found), np.int64)
        larger[:, :found] = table
        table = larger
    table[0, found], table[1, found], table[2, found], table[3, found] = own, start, end, n
    return table


@njit(cache=True, nogil=True)
def _entries(flat, stride, height, first, last):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Corners at the seams by which rings come in: corner, direction of arrival, start, region."""
    behind_left, behind_right = _offsets(_BEHIND_LEFT, stride), _offsets(_BEHIND_RIGHT, stride)
    entries, count = np.empty((4, 6 * stride), np.int64), 0
    for lower in range(2):
        if (lower and last) or (first and not lower):
            continue
        base = (height + 1 if lower else 1) * stride
        for k in range(base + 1, base + stride):
            for d in range(4):
                if (d == _SOUTH) == (lower == 1):
                    continue  # that edge is this strip's own
                own = flat[k + behind_left[d]]
                out = (d + _turn(flat, k, stride, d)) & 3
                is_border = own != 0 and own != flat[k + behind_right[d]]
                if is_border and (out == _NORTH or not lower):
                    entries[0, count], entries[1, count] = k, d
                    entries[2, count] = 8 * (k - base - 1) + 2 * out + lower
                    entries[3, count] = own
                    count += 1
    return entries[:, :count]


@njit(cache=True, nogil=True)
def _grown(array):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The array with room for as much again."""
    larger = np.empty(2 * len(array), array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True, inline="always")
def _turn(flat, k, stride, d):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Change of direction at a corner: 1 left, 0 straight, -1 right.

    Right wherever the pixel ahead on the right is the region's own, also across a diagonal: the
    ring then keeps to the background on its right, and the other background gets another ring.
    """
    nw, ne, sw, se = flat[k - stride - 1], flat[k - stride], flat[k - 1], flat[k]
    if d == 0:
        own, left, right = nw, ne, se
    elif d == 1:
        own, left, right = sw, nw, ne
    elif d == 2:
        own, left, right = se, sw, nw
    else:
        own, left, right = ne, se, sw
    if right == own:
        return -1
    return 0 if left == own else 1


@njit(cache=True, nogil=True)
def _follow(walk, points, n, k, d):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Walk a ring from where it arrives at corner k in direction d until it closes or leaves the strip.

    Gives the array of vertices, which may have grown, their number, and the edge by which it leaves.
    """
    flat, seen, ahead_right, stride, height, top, first, last = walk
    row, col = k // stride - 1, k % stride - 1
    first_k, first_d, begun = k, d, False
    while not (begun and k == first_k and d == first_d):
        if d == _WEST:
            seen[k] = True
        turn = _turn(flat, k, stride, d)
        out = (d + turn) & 3
        if begun and _leaves(row, out, height, first, last):
            return points, n, 8 * col + 2 * out + (row == height)
        begun = True
        nw, ne, sw, se = flat[k - stride - 1], flat[k - stride], flat[k - 1], flat[k]
        edges = (nw != ne) + (ne != se) + (se != sw) + (sw != nw)
        if turn != 0 or edges > 2:
            if n == len(points):
                points = _grown(points)
            outer = flat[k + ahead_right[out]] == 0
            points[n] = ((top + row) << 32) | (col << 2) | (outer << 1) | (edges > 2)
            n += 1
        d = out
        step_row, step_col = (d == _SOUTH) - (d == _NORTH), (d == _EAST) - (d == _WEST)
        row, col, k = row + step_row, col + step_col, k + step_row * stride + step_col
    return points, n, _CLOSED


@njit(cache=True, nogil=True, inline="always")
def _leaves(row, out, height, first, last):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Whether the edge that goes on from a corner belongs to another strip."""
    if row == 0:
        return out == _NORTH and not first
    return row == height and out != _NORTH and not last


@njit(cache=True, nogil=True)
def _link(following, base, starts, ends, open_ends, open_starts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Say of every fragment which one follows, and remember what waits at the lower seam."""
    for i in range(len(starts)):
        if ends[i] == _CLOSED:
            following[base + i] = base + i
            continue
        if not starts[i] & 1:
            following[open_ends[starts[i]]] = base + i
        if not ends[i] & 1:
            following[base + i] = open_starts[ends[i]]
    open_ends[:] = _PENDING
    open_starts[:] = _PENDING
    for i in range(len(starts)):
        if ends[i] == _CLOSED:
            continue
        if starts[i] & 1:
            open_starts[starts[i] - 1] = base + i
        if ends[i] & 1:
            open_ends[ends[i] - 1] = base + i


@njit(cache=True, nogil=True)
def _rings(done, regions, vertices, offsets, lengths, following):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The rings that fragments make.

    For each: the fragment that holds its highest, leftmost vertex, its vertices, its region, and that
    vertex with its place in the fragment.
    """
    seen = np.zeros(len(regions), np.bool_)
    heads, counts = np.empty(len(done), np.int32), np.empty(len(done), np.int64)
    owners, firsts = np.empty(len(done), np.int32), np.empty(len(done), np.int64)
    places = np.empty(len(done), np.int64)
    found = 0
    for i in done:
        if seen[i]:
            continue
        f, count, best, head, place = i, 0, np.iinfo(np.int64).max, i, 0
        while not seen[f]:
            seen[f] = True
            for k in range(offsets[f], offsets[f] + lengths[f]):
                if vertices[k] < best:
                    best, head, place = vertices[k], f, k - offsets[f]
            count += lengths[f]
            f = following[f]
        heads[found], counts[found], owners[found] = head, count, regions[i]
        firsts[found], places[found] = best, place
        found += 1
    return heads[:found], counts[:found], owners[:found], firsts[:found], places[:found]


@njit(cache=True, nogil=True)
def _chained(heads, counts, places, vertices, offsets, lengths, following):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Vertices of rings one after the other, each closed, and the offsets of the rings."""
    rings = np.zeros(len(heads) + 1, np.int64)
    for i in range(len(heads)):
        rings[i + 1] = rings[i] + counts[i] + 1
    out = np.empty(rings[-1], np.int64)
    for i in range(len(heads)):
        f, k, n = heads[i], places[i], rings[i]
        for _ in range(counts[i]):
            while k == lengths[f]:
                f, k = following[f], 0
            out[n] = vertices[offsets[f] + k]
            n += 1
            k += 1
        out[n] = out[rings[i]]
    return out, rings


@njit(cache=True, nogil=True)
def _compacted(vertices, offsets, lengths):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The vertices of some fragments without what lies between, and where each begins."""
    out, starts, n = np.empty(max(2 * lengths.sum(), 1024), np.int64), np.empty_like(offsets), 0
    for i in range(len(offsets)):
        starts[i] = n
        for k in range(offsets[i], offsets[i] + lengths[i]):
            out[n] = vertices[k]
            n += 1
    return out, starts


@njit(cache=True, nogil=True)
def _placed(vertices, transform):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Vertices in the CRS, (n, 2)."""
    a, b, c, d, e, f = transform
    points = np.empty((len(vertices), 2))
    for k in range(len(vertices)):
        row, col = vertices[k] >> 32, (vertices[k] & 0xFFFFFFFF) >> 2
        points[k, 0] = a * col + b * row + c
        points[k, 1] = d * col + e * row + f
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
def _wkb(points, rings, polygons, groups, single):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Well-known binary of polygons or of groups of them, little endian (ISO 19125-1, 8.2).

    points: bits of the floats.
    """
    n = len(groups) - 1
    offsets = np.zeros(n + 1, np.int64)
    heads = 9 * (len(polygons) - 1) + (0 if single else 9 * n)
    buffer = np.empty(heads + 4 * (len(rings) - 1) + 16 * len(points), np.uint8)
    at = 0
    for group in range(n):
        if not single:
            at = _put(buffer, at, np.uint64(1), 1)  # little endian
            at = _put(buffer, at, np.uint64(6), 4)  # multipolygon
            at = _put(buffer, at, np.uint64(groups[group + 1] - groups[group]), 4)
        for i in range(groups[group], groups[group + 1]):
            at = _put(buffer, at, np.uint64(1), 1)
            at = _put(buffer, at, np.uint64(3), 4)  # polygon
            at = _put(buffer, at, np.uint64(polygons[i + 1] - polygons[i]), 4)
            for ring in range(polygons[i], polygons[i + 1]):
                at = _put(buffer, at, np.uint64(rings[ring + 1] - rings[ring]), 4)
                for k in range(rings[ring], rings[ring + 1]):
                    at = _put(buffer, at, points[k, 0], 8)
                    at = _put(buffer, at, points[k, 1], 8)
        offsets[group + 1] = at
    return buffer, offsets
