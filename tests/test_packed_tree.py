"""The packed R-tree holds every box once, inside the boxes of all nodes above it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.packed_tree import CAPACITY, ROOT, Level, packed_tree, rounded_out


def squares(count: int, seed: int = 0) -> np.ndarray:
    """Random boxes in single precision, in the order of SQLite."""
    low = np.random.default_rng(seed).uniform(-1e6, 1e6, (count, 2))
    return rounded_out(np.concatenate([low, low + 30], axis=1))


def found(levels: list[Level], query: tuple[float, float, float, float]) -> list[int]:
    """Features that the tree gives for a box (least x, greatest x, least y, greatest y), from the root down."""
    nodes = {int(n): (level, i) for level in levels for i, n in enumerate(level.numbers)}
    waiting, result = [ROOT], []
    while waiting:
        level, i = nodes[waiting.pop()]
        node = level.nodes[i]
        cells = node["cells"][: node["count"]]
        a, b, c, d = cells["box"].T
        hit = (a <= query[1]) & (b >= query[0]) & (c <= query[3]) & (d >= query[2])
        members = cells["number"][hit].astype(int).tolist()
        if level.is_leaf:
            result += members
        else:
            waiting += members
    return sorted(result)


def test_three_boxes() -> None:
    """Three boxes are a leaf, number 2, under a root, number 1, with the box of all."""
    boxes = np.array([[0, 1, 0, 1], [5, 6, -2, 3], [2, 3, 8, 9]], np.float32)
    leaves, root = packed_tree([(np.array([7, 8, 9]), boxes)])
    assert (leaves.first, leaves.is_leaf, leaves.nodes["count"].tolist()) == (2, True, [3])
    assert leaves.parents.tolist() == [2, 2, 2]
    assert (root.first, root.is_leaf, root.nodes["depth"].tolist()) == (ROOT, False, [1])
    assert root.nodes["cells"][0, 0].tolist()[0] == 2
    assert root.nodes["cells"][0, 0]["box"].tolist() == [0, 6, -2, 9]
    assert root.nodes.itemsize == 1228


def test_no_boxes() -> None:
    """Without boxes there is an empty root."""
    (root,) = packed_tree([])
    assert (root.first, root.nodes["depth"].tolist(), root.nodes["count"].tolist()) == (1, [0], [0])


@pytest.mark.parametrize("count", [1, CAPACITY, CAPACITY + 1, CAPACITY**2, CAPACITY**2 + 1, 7000])
def test_full_nodes(count: int) -> None:
    """All nodes but the last of a level are full, all leaves are equally deep, and numbers follow each other."""
    levels = list(packed_tree([(np.arange(1, count + 1), squares(count))]))
    for level in levels:
        assert (level.nodes["count"][:-1] == CAPACITY).all()
    assert levels[-1].nodes["depth"].tolist() == [len(levels) - 1]
    numbers = np.concatenate([level.numbers for level in levels])
    assert np.sort(numbers).tolist() == list(range(1, len(numbers) + 1))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=4), st.integers(0, 9))
def test_the_tree_finds_what_a_search_finds(counts: list[int], seed: int) -> None:
    """Whatever the groups, the tree gives the features whose boxes meet a box, and no other."""
    boxes = squares(sum(counts), seed)
    numbers = np.arange(1, len(boxes) + 1)
    parts = np.split(np.arange(len(boxes)), np.cumsum(counts)[:-1])
    levels = list(packed_tree([(numbers[part], boxes[part]) for part in parts]))
    query = (-4e5, 1e5, -2e5, 6e5)
    a, b, c, d = boxes.T
    meets = (a <= query[1]) & (b >= query[0]) & (c <= query[3]) & (d >= query[2])
    assert found(levels, query) == numbers[meets].tolist()


@given(st.lists(st.floats(-1e12, 1e12), min_size=4, max_size=4))
def test_rounding_never_shrinks(values: list[float]) -> None:
    """In single precision a box reaches as far on every side, and at most one step farther."""
    (given_box,) = np.array([values])
    low_x, high_x, low_y, high_y = rounded_out(given_box[None])[0]
    for low, value in ((low_x, given_box[0]), (low_y, given_box[1])):
        assert low <= value <= np.nextafter(low, np.float32(np.inf))
    for high, value in ((high_x, given_box[2]), (high_y, given_box[3])):
        assert np.nextafter(high, np.float32(-np.inf)) <= value <= high
