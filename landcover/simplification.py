"""Simplification of a coverage: both sides of a border lose the same vertices, and nothing crosses.

An arc is the border between two points where three or more regions meet. It is simplified by the rule
of Douglas and Peucker (1973), with one condition more: a chain of vertices may become a straight line
only if no vertex of another border, nor another one of its own, lies between the chain and the line or
on it. Then no two simplified borders cross or touch: a line that entered the space between another
chain and its line would have to end in it or to cross that chain, and both are ruled out.

The condition looks at the traced vertices only, so what becomes of an arc does not depend on what
becomes of others: each side of a border can be simplified by itself, in any order, in any strip.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.ground_steps import GroundSteps, interpolated
from landcover.polygons import Polygons

Ints = NDArray[np.int64]

_NODE, _OUTER = 1, 2
_LONGEST = 128
"""Vertices of a chain that may become one line; longer ones are cut first."""


class CornerMap:
    """The vertices of all borders of a raster, one bit each: a byte for eight pixels."""

    def __init__(self, height: int, width: int) -> None:
        self.bits = np.zeros((height + 1, (width + 8) // 8), np.uint8)

    def add(self, vertices: Ints) -> None:
        """Note vertices, as in Polygons."""
        _note(self.bits, vertices)


def simplify(
    polygons: Polygons, corners: CornerMap, steps: GroundSteps, tolerance: float, quantum: float
) -> tuple[Polygons, Ints, float]:
    """Simplify the borders of polygons that are whole.

    corners: of all borders so far, at least as far down as the polygons reach. tolerance: metres by
    which no point of a border may move. quantum: square metres of one unit of area.

    Borders to nodata stay as they are, so the coverage keeps its outline; an arc that bends keeps the
    vertex that is farthest from its chord, so no polygon vanishes. Returns the polygons, the area that
    each won (units; the sums over all polygons of a coverage are 0), and the worst displacement, metres.
    """
    vertices, rings, won, worst = _simplify(
        polygons.vertices,
        polygons.rings,
        corners.bits,
        steps.longest,
        steps.lattice,
        tolerance,
        quantum,
    )
    if len(polygons):
        won = np.add.reduceat(won, polygons.polygons[:-1])
    thinned = Polygons(polygons.regions, vertices, rings, polygons.polygons)
    return thinned, won, float(worst)


# Compiled.


@njit(cache=True, nogil=True)
def _note(bits, vertices):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    for vertex in vertices:
        col = (vertex & 0xFFFFFFFF) >> 2
        bits[vertex >> 32, col >> 3] |= np.uint8(1 << (col & 7))


@njit(cache=True, nogil=True)
def _simplify(vertices, rings, bits, steps, lattice, tolerance, quantum):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Vertices and rings, area won by each ring (negative: lost), the worst displacement."""
    out, out_rings = np.empty(len(vertices), np.int64), np.zeros(len(rings), np.int64)
    won = np.zeros(len(rings) - 1, np.int64)
    worst, n = 0.0, 0
    longest = 0
    for ring in range(len(rings) - 1):
        longest = max(longest, rings[ring + 1] - rings[ring])
    chain, keep = np.empty(2 * longest, np.int64), np.empty(2 * longest, np.bool_)
    cuts = np.empty(longest + 1, np.int64)
    stack = np.empty((longest + 2, 2), np.int64)
    for ring in range(len(rings) - 1):
        first, size = rings[ring], rings[ring + 1] - rings[ring] - 1
        count = _cut(vertices[first : first + size], cuts, steps)
        begin = n
        for i in range(count):
            start = cuts[i]
            stop = cuts[i + 1] if i + 1 < count else cuts[0] + size
            length = stop - start + 1
            for k in range(length):
                chain[k] = vertices[first + (start + k) % size]
            part = chain[:length]
            if length > 2 and not part[0] & _OUTER:
                turned = (part[0] >> 2) > (part[-1] >> 2)
                if turned:
                    part[:] = part[::-1].copy()
                moved = _thin(part, keep, stack, bits, steps, tolerance)
                worst = max(worst, moved)
                area = _pixels_won(part, keep) * _pixel_area(part[0], lattice) / quantum
                won[ring] += np.int64(np.rint(area)) * (-1 if turned else 1)
                if turned:
                    part[:] = part[::-1].copy()
                    keep[:length] = keep[:length][::-1].copy()
            else:
                keep[:length] = True
            for k in range(length - 1):
                if keep[k]:
                    out[n] = part[k]
                    n += 1
        out[n] = out[begin]
        n += 1
        out_rings[ring + 1] = n
    return out[:n].copy(), out_rings, won, worst


@njit(cache=True, nogil=True)
def _cut(ring, cuts, steps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Positions at which a ring falls into arcs: its nodes, or two vertices far apart."""
    count = 0
    for k in range(len(ring)):
        if ring[k] & _NODE:
            cuts[count] = k
            count += 1
    if count > 1:
        return count
    # A ring with one node or none: both of its sides start at the same vertex, the highest.
    anchor = cuts[0] if count else 0
    far, best = anchor, -1.0
    for k in range(len(ring)):
        x, y = _metres(ring[anchor], ring[k], steps[ring[anchor] >> 32])
        distance = x * x + y * y
        if distance > best or (distance == best and (ring[k] >> 2) < (ring[far] >> 2)):
            far, best = k, distance
    cuts[0], cuts[1] = min(anchor, far), max(anchor, far)
    return 2


@njit(cache=True, nogil=True)
def _metres(origin, vertex, step):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Ground position of a vertex seen from another one, on a plane."""
    cols = ((vertex & 0xFFFFFFFF) >> 2) - ((origin & 0xFFFFFFFF) >> 2)
    rows = (vertex >> 32) - (origin >> 32)
    along, down, cosine = step
    return along * cols + down * cosine * rows, down * np.sqrt(1 - cosine * cosine) * rows


@njit(cache=True, nogil=True)
def _thin(chain, keep, stack, bits, steps, tolerance):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Mark which vertices of an arc stay; give the farthest that one of the others was off."""
    last = len(chain) - 1
    keep[: last + 1] = False
    keep[0] = keep[last] = True
    stack[0, 0], stack[0, 1] = 0, last
    depth, worst = 1, 0.0
    whole = True
    while depth:
        depth -= 1
        i, j = stack[depth, 0], stack[depth, 1]
        if j - i < 2:
            continue
        far, distance = _farthest(chain, i, j, steps)
        fits = not whole and distance <= tolerance and j - i < _LONGEST
        whole = False
        if fits and _is_free(chain, i, j, bits, steps, tolerance):
            worst = max(worst, distance)
            continue
        keep[far] = True
        stack[depth, 0], stack[depth, 1] = i, far
        stack[depth + 1, 0], stack[depth + 1, 1] = far, j
        depth += 2
    return worst


@njit(cache=True, nogil=True)
def _farthest(chain, i, j, steps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """The vertex between two of a chain that is farthest from their line, and its distance, metres."""
    step = steps[chain[i] >> 32]
    x1, y1 = _metres(chain[i], chain[j], step)
    square = x1 * x1 + y1 * y1
    far, best = i + 1, -1.0
    for k in range(i + 1, j):
        x, y = _metres(chain[i], chain[k], step)
        t = min(1.0, max(0.0, (x * x1 + y * y1) / square))
        x, y = x - t * x1, y - t * y1
        distance = x * x + y * y
        if distance > best:
            far, best = k, distance
    return far, np.sqrt(best)


@njit(cache=True, nogil=True)
def _is_free(chain, i, j, bits, steps, tolerance):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Whether no other vertex lies between a chain and the line from its first to its last vertex."""
    r0, c0 = chain[i] >> 32, (chain[i] & 0xFFFFFFFF) >> 2
    r1, c1 = chain[j] >> 32, (chain[j] & 0xFFFFFFFF) >> 2
    top, bottom, left, right = r0, r0, c0, c0
    for k in range(i + 1, j + 1):
        row, col = chain[k] >> 32, (chain[k] & 0xFFFFFFFF) >> 2
        top, bottom, left, right = min(top, row), max(bottom, row), min(left, col), max(right, col)
    along, down, cosine = steps[r0]
    sine = np.sqrt(1 - cosine * cosine)
    reach_rows, reach_cols = tolerance / (down * sine), tolerance / (along * sine)
    for row in range(top, bottom + 1):
        # What is within reach of the line lies between these columns.
        if r0 == r1:
            low, high = min(c0, c1), max(c0, c1)
        else:
            slope = (c1 - c0) / (r1 - r0)
            a = c0 + slope * (max(min(r0, r1), row - reach_rows) - r0)
            b = c0 + slope * (min(max(r0, r1), row + reach_rows) - r0)
            low, high = min(a, b), max(a, b)
        first = max(left, int(np.floor(low - reach_cols)))
        last = min(right, int(np.ceil(high + reach_cols)))
        for col in range(first, last + 1):
            if bits[row, col >> 3] >> (col & 7) & 1 and _lies_within(chain, i, j, row, col):
                return False
    return True


@njit(cache=True, nogil=True)
def _is_vertex(chain, i, j, code):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Whether a corner is a vertex i to j of a chain."""
    found = False
    for m in range(i, j + 1):
        found |= chain[m] >> 2 == code
    return found


@njit(cache=True, nogil=True)
def _lies_within(chain, i, j, row, col):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Whether a corner that is none of the chain lies on its closing line or is wound round by both."""
    code = (row << 30) | col
    turns = 0
    r0, c0 = chain[j] >> 32, (chain[j] & 0xFFFFFFFF) >> 2
    for k in range(i, j + 1):
        if chain[k] >> 2 == code:
            return False
        r1, c1 = chain[k] >> 32, (chain[k] & 0xFFFFFFFF) >> 2
        cross = (c1 - c0) * (row - r0) - (r1 - r0) * (col - c0)
        if (
            k == i and cross == 0
            and min(r0, r1) <= row <= max(r0, r1) and min(c0, c1) <= col <= max(c0, c1)
        ):  # fmt: skip
            return not _is_vertex(chain, i + 1, j, code)  # on the closing line
        if r0 <= row < r1 and cross < 0:
            turns += 1
        elif r1 <= row < r0 and cross > 0:
            turns -= 1
        r0, c0 = r1, c1
    return turns != 0


@njit(cache=True, nogil=True)
def _pixel_area(vertex, lattice):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Square metres of a pixel at a vertex."""
    rows, cols, metric = lattice
    along, product, down = interpolated(
        rows, cols, metric, vertex >> 32, (vertex & 0xFFFFFFFF) >> 2
    )
    return np.sqrt(max(along * down - product * product, 0.0))


@njit(cache=True, nogil=True)
def _pixels_won(chain, keep):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Area between a chain and what is kept of it, in pixels: positive where its left side grows."""
    total = np.int64(0)
    begin = 0
    for k in range(1, len(chain)):
        if not keep[k]:
            continue
        if k - begin > 1:
            r0, c0 = chain[begin] >> 32, (chain[begin] & 0xFFFFFFFF) >> 2
            for m in range(begin + 1, k):
                ra, ca = (chain[m] >> 32) - r0, ((chain[m] & 0xFFFFFFFF) >> 2) - c0
                rb, cb = (chain[m + 1] >> 32) - r0, ((chain[m + 1] & 0xFFFFFFFF) >> 2) - c0
                total += ca * rb - cb * ra
        begin = k
    return total / 2
