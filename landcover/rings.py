"""Rings of polygons as arrays, and how they are drawn in another CRS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from landcover.errors import RegionError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HALVINGS = 30


@dataclass(frozen=True, eq=False)
class Rings:
    """The closed rings of polygons, exterior before its holes."""

    points: Floats
    """(n, 2): x, y; the first point of a ring is its last one too."""
    ring: Ints
    """(n,): which ring a point belongs to, from 0, ascending."""
    polygon: Ints
    """(rings,): which polygon a ring belongs to, from 0, ascending."""

    @classmethod
    def of(cls, geometry: BaseGeometry) -> Self:
        """The rings of a polygon or multipolygon."""
        rings, polygon = shapely.get_rings(shapely.get_parts(geometry), return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        return cls(points, ring.astype(np.int64), polygon.astype(np.int64))

    @property
    def holes(self) -> NDArray[np.bool_]:
        """(rings,): which rings are holes."""
        return np.concatenate([[False], self.polygon[1:] == self.polygon[:-1]])[: len(self.polygon)]

    @property
    def sides(self) -> tuple[Floats, Floats, Ints]:
        """Start and end of each side, each (m, 2), and the ring it belongs to (m,)."""
        along = self.ring[1:] == self.ring[:-1]
        return self.points[:-1][along], self.points[1:][along], self.ring[1:][along]

    def mapped(self, place: Callable[[Floats], Floats]) -> "Rings":
        """The rings with other coordinates: place takes (n, 2) and gives (n, 2)."""
        return Rings(place(self.points), self.ring, self.polygon)

    def follow(
        self,
        place: Callable[[Floats], Floats],
        *,
        tolerance: float,
        longest: float,
        turn: float | None = None,
    ) -> "Rings":
        """The rings in another CRS, their sides halved until none strays from its curve.

        place: from coordinates (n, 2) here to those there. tolerance: how far the middle of a side may
        lie from its curve, in units there. longest: no side is longer, in units here, which a curve that
        bends both ways needs. turn: x goes round the Earth in so many units there, None if it does not.
        A side that two polygons share gets the same points in both, whichever way it runs.
        Raises RegionError where a point has no place there, or a side never fits.
        """
        here, ring = self.points, self.ring
        there, settled = _placed(place, here), np.zeros(max(len(here) - 1, 0), np.bool_)
        settled |= ring[1:] != ring[:-1]
        for _ in range(_HALVINGS):
            todo = np.flatnonzero(~settled)
            if not len(todo):
                return Rings(there, ring, self.polygon)
            start, end = here[todo], here[todo + 1]
            middle = (start + end) / 2
            placed = _placed(place, middle)
            stray = _stray(there[todo], placed, there[todo + 1], turn) > tolerance
            split = stray | (np.abs(end - start).max(axis=1) > longest)
            settled[todo[~split]] = True
            at = todo[split]
            here = np.insert(here, at + 1, middle[split], axis=0)
            there = np.insert(there, at + 1, placed[split], axis=0)
            ring = np.insert(ring, at + 1, ring[at])
            settled = np.insert(settled, at, False)
        raise RegionError("it cannot be drawn there: the CRS tears it apart")

    def unrolled(self, turn: float) -> "Rings":
        """The rings without a jump of more than half a turn; holes go where their exterior is.

        Raises RegionError for a ring that does not close, because it goes round a pole.
        """
        points = self.points.copy()
        outer = 0.0
        bounds = np.searchsorted(self.ring, np.arange(len(self.polygon) + 1))
        for hole, first, last in zip(self.holes, bounds[:-1], bounds[1:], strict=True):
            x = np.unwrap(points[first:last, 0], period=turn)
            if abs(x[-1] - x[0]) > turn / 2:
                raise RegionError("it goes round a pole")
            middle = float(x.min() + x.max()) / 2
            outer = outer if hole else middle
            points[first:last, 0] = x + turn * round((outer - middle) / turn)
        return Rings(points, self.ring, self.polygon)


def _placed(place: Callable[[Floats], Floats], points: Floats) -> Floats:
    placed = place(points)
    if not np.isfinite(placed).all():
        raise RegionError("a part of it has no place there")
    return placed


def _stray(start: Floats, middle: Floats, end: Floats, turn: float | None) -> Floats:
    """Distance of the middle of a curve from the middle of its chord."""
    one, other = start - middle, end - middle
    if turn is not None:
        for way in (one, other):
            way[:, 0] -= turn * np.rint(way[:, 0] / turn)
    bend = (one + other) / 2
    return np.asarray(np.hypot(bend[:, 0], bend[:, 1]))
