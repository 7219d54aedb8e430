"""Roads between towns, and out of the region."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from landcover.noise import Floats


@dataclass(frozen=True)
class Road:
    """One road's centre line and width."""

    line: Floats
    """Rows and columns of its points: (points, 2)."""
    width: float
    """Pixels."""

    def distance(self, row: float, col: float) -> float:
        """Pixels from a place to the road, about."""
        return float(np.hypot(*(self.line - (row, col)).T).min())


def road_network(rng: np.random.Generator, towns: Floats, shape: tuple[int, int]) -> list[Road]:
    """Join towns (towns, 2) by the shortest tree, lead roads to all four sides, add a motorway."""
    if len(towns) < 2:
        return []
    tree = minimum_spanning_tree(cdist(towns, towns)).tocoo()
    pairs = [(towns[i], towns[j], 1.5) for i, j in zip(tree.row, tree.col, strict=True)]
    rows, cols = shape
    ends = np.array(
        [
            (0, rng.uniform(0, cols)),
            (rows, rng.uniform(0, cols)),
            (rng.uniform(0, rows), 0),
            (rng.uniform(0, rows), cols),
        ],
        np.float32,
    )
    pairs += [(towns[cdist([end], towns).argmin()], end, 1.5) for end in ends]
    pairs.append((ends[0], ends[1], 2.9))
    return [Road(_curve(rng, start, end), width) for start, end, width in pairs]


def _curve(rng: np.random.Generator, start: Floats, end: Floats) -> Floats:
    t = np.linspace(0, 1, 60, dtype=np.float32)[:, None]
    across = np.array([start[1] - end[1], end[0] - start[0]])
    sway = rng.uniform(-0.16, 0.16, 2)
    bow = sway[0] * np.sin(np.pi * t) + 0.4 * sway[1] * np.sin(2 * np.pi * t)
    return np.asarray(start + t * (end - start) + across * bow, np.float32)


def draw_roads(roads: list[Road], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre is on a road: (rows, cols)."""
    if not roads:
        return np.zeros(shape, np.bool_)
    lines = [shapely.LineString(r.line[:, ::-1] + 0.5).buffer(r.width / 2) for r in roads]
    return np.asarray(rasterize(lines, shape, dtype="uint8") == 1)
