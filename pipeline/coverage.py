"""Coverage: which part of a region is seen on how many days, told from footprints alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

Floats = NDArray[np.float64]

_POINTS = 64
"""Points along the longer side of the largest part of a region."""
_RADIUS = 6_371_007.2  # metres, of the sphere with the ellipsoid's area


@dataclass(frozen=True)
class Observed:
    """A footprint and the day on which it was seen."""

    footprint: BaseGeometry | None
    """EPSG:4326, split at the antimeridian; None where the catalogue does not tell."""
    day: str


@dataclass(frozen=True)
class Coverage:
    """On how many days the parts of a region are seen."""

    days: NDArray[np.int64]
    """(points,) days on which each sample point is seen."""
    weight: Floats
    """(points,) share of the region's area that a point stands for; their sum is 1."""
    shares: tuple[float, ...]
    """Share of the region that each scene shows, in their order."""
    unplaced: int
    """Scenes without a footprint, which are counted nowhere."""

    @property
    def uncovered(self) -> float:
        """Share of the region that no scene shows."""
        return float(self.weight[self.days == 0].sum())

    def line(self) -> str:
        """The coverage for the person who waits."""
        if len(self.shares) == self.unplaced:
            return "coverage is not known: no scene says where it is"
        least, middle, most = int(self.days.min()), self._median(), int(self.days.max())
        if least:
            days = _days(most) if least == most else f"{least} to {_days(most)} (median {middle})"
            return f"coverage: every part of the region is seen on {days}"
        gap = f"{max(self.uncovered, 0.0001):.2%} of the region has no scene and will be nodata"
        rest = f"; the rest is seen on up to {_days(most)} (median of the whole {middle})"
        return f"coverage: {gap}{rest if most else ''}"

    def details(self) -> dict[str, Any]:
        """{share_uncovered, min_days, median_days, max_days, histogram, scenes_without_footprint}.

        histogram: number of days -> share of the region's area.
        """
        counts = np.unique(self.days)
        return {
            "share_uncovered": round(self.uncovered, 4),
            "min_days": int(self.days.min()),
            "median_days": self._median(),
            "max_days": int(self.days.max()),
            "histogram": {
                str(n): round(float(self.weight[self.days == n].sum()), 4) for n in counts
            },
            "scenes_without_footprint": self.unplaced,
        }

    def _median(self) -> int:
        """Least number of days such that half of the area is seen on so many or fewer."""
        order = np.argsort(self.days)
        half = int(np.searchsorted(np.cumsum(self.weight[order]), 0.5))
        return int(self.days[order[min(half, len(order) - 1)]])


def coverage(region: BaseGeometry, scenes: Sequence[Observed]) -> Coverage:
    """On how many days the parts of a region are seen, by footprints and before a pixel is read.

    region: polygons in EPSG:4326, split at the antimeridian. Told at sample points, 64 along the
    longer side of its largest part and one in each part at least: a narrower gap may be missed.
    Areas are true on the sphere (points weigh as the cosine of their latitude), near a pole too.
    """
    points, weight = _samples(region)
    seen: dict[str, NDArray[np.bool_]] = {}
    shares = []
    for scene in scenes:
        shown = _inside(scene.footprint, points)
        seen[scene.day] = seen.get(scene.day, False) | shown
        shares.append(float(weight[shown].sum()))
    days = np.sum(list(seen.values()), axis=0, dtype=np.int64) + np.zeros(len(points), np.int64)
    unplaced = sum(scene.footprint is None for scene in scenes)
    return Coverage(days, weight, tuple(shares), unplaced)


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


def _samples(region: BaseGeometry) -> tuple[Floats, Floats]:
    """Points (n, 2) inside a region, in degrees, and the share of its area that each stands for."""
    parts = [part for part in getattr(region, "geoms", [region]) if isinstance(part, Polygon)]
    step = max(max(_sides(part)) for part in parts) / _POINTS
    points = [_part_samples(part, step) for part in parts]
    weight = np.concatenate(list(map(_weights, parts, points)))
    return np.concatenate(points), weight / weight.sum()


def _sides(part: Polygon) -> tuple[float, float]:
    """Width and height, both in degrees of latitude."""
    west, south, east, north = part.bounds
    return (east - west) * np.cos(np.deg2rad((south + north) / 2)), north - south


def _part_samples(part: Polygon, step: float) -> Floats:
    """Centres of the cells of a lattice that lie inside: (n, 2); one point where there is none."""
    west, south, east, north = part.bounds
    columns, rows = (max(1, round(side / step)) for side in _sides(part))
    x = west + (np.arange(columns) + 0.5) * (east - west) / columns
    y = south + (np.arange(rows) + 0.5) * (north - south) / rows
    lattice = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = lattice[_inside(part, lattice)]
    return inside if len(inside) else np.array(part.representative_point().coords)


def _weights(part: Polygon, points: Floats) -> Floats:
    """Area of a part on the sphere, shared out among its points (n,)."""
    weight = np.cos(np.deg2rad(points[:, 1]))
    return np.asarray(weight * (sphere_area(part) / weight.sum()))


def sphere_area(footprint: BaseGeometry) -> float:
    """Area in square metres on a sphere of the Earth's surface, by Lambert's cylindrical projection.

    footprint: EPSG:4326. Within 0.7 % of the ellipsoid's; a plan needs no more.
    """
    drawn = shapely.transform(
        shapely.segmentize(footprint, 1.0),
        lambda p: np.stack([np.deg2rad(p[:, 0]), np.sin(np.deg2rad(p[:, 1]))], axis=1),
    )
    return float(drawn.area) * _RADIUS**2


def _inside(polygon: BaseGeometry | None, points: Floats) -> NDArray[np.bool_]:
    """Which points lie in a polygon or on its border: (n,)."""
    if polygon is None:
        return np.zeros(len(points), np.bool_)
    shapely.prepare(polygon)
    shown: NDArray[np.bool_] = shapely.intersects_xy(polygon, points[:, 0], points[:, 1])
    return shown
