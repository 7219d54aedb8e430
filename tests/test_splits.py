"""Units are dealt to splits by hash, and every split sees every class where it can."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from landcover.splits import SPLITS, assign_splits

SHARES = (0.7, 0.15, 0.15)


def counted(*rows: list[int]) -> dict[str, NDArray[np.int64]]:
    """Units named by number."""
    return {f"unit {number}": np.array(row, np.int64) for number, row in enumerate(rows)}


def test_three_units_of_a_rare_class_go_to_three_splits() -> None:
    """A class that only three blocks hold is in each split."""
    units = counted(*[[100, 0]] * 17, *[[90, 10]] * 3)
    for seed in range(20):
        found = assign_splits(units, SHARES, seed)
        assert {found[f"unit {n}"] for n in (17, 18, 19)} == {0, 1, 2}


def test_shares_are_kept() -> None:
    """Of 100 equal blocks, 70 are for training."""
    found = assign_splits(counted(*[[10]] * 100), SHARES, 3)
    assert np.bincount(list(found.values()), minlength=3).tolist() == [70, 15, 15]


def test_given_splits_stay_and_count() -> None:
    """A unit that was given to test stays there, and fills the share of test."""
    units = counted(*[[10]] * 20)
    found = assign_splits(units, (0.5, 0.0, 0.5), 0, {f"unit {n}": 2 for n in range(10)})
    assert all(found[f"unit {n}"] == 2 for n in range(10))
    assert all(found[f"unit {n}"] == 0 for n in range(10, 20))


def test_a_split_without_share_gets_nothing() -> None:
    """With no share for test, no unit goes there, labelled or not."""
    found = assign_splits(counted(*[[5]] * 9, *[[0]] * 9), (0.8, 0.2, 0.0), 1)
    assert 2 not in found.values()


def test_seeds_differ() -> None:
    """Another seed deals otherwise."""
    units = counted(*[[10]] * 40)
    assert assign_splits(units, SHARES, 0) != assign_splits(units, SHARES, 1)


def test_no_unit() -> None:
    """Nothing to deal is dealt."""
    assert assign_splits({}, SHARES, 0) == {}


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=30),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_order_does_not_matter(rows: list[list[int]], seed: int, random: object) -> None:
    """However the units are listed, each gets the same split, and every unit gets one."""
    units = counted(*rows)
    names = list(units)
    random.shuffle(names)  # type: ignore[attr-defined]
    found = assign_splits(units, SHARES, seed)
    assert found == assign_splits({name: units[name] for name in names}, SHARES, seed)
    assert set(found.values()) <= set(range(len(SPLITS)))
    holders = [name for name in units if units[name][0]]
    if len(holders) >= 3 and not any(units[n][1:].any() for n in units):
        assert {found[name] for name in holders} == {0, 1, 2}
