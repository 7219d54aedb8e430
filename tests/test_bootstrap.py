"""The bootstrap over blocks: what it draws, how wide it is, and that it repeats."""

import math

import numpy as np
import pytest

from landcover.bootstrap import bootstrap_intervals, percentile_interval, resampled


def share(counts: np.ndarray) -> np.ndarray:
    """Right pixels over all, of counts (right, all)."""
    return np.array([counts[0] / counts[1] if counts[1] else math.nan])


def test_percentiles_by_hand() -> None:
    """Of 0 to 100, 95 % lie between 2.5 and 97.5; what is not known is left out."""
    assert percentile_interval(range(101)) == pytest.approx((2.5, 97.5))
    assert percentile_interval([1.0, 1.0, math.nan]) == (1, 1)


def test_mostly_unknown_is_unknown() -> None:
    """Where more than half of the draws do not know a measure, there is no interval."""
    assert all(map(math.isnan, percentile_interval([1.0, math.nan, math.nan])))
    assert all(map(math.isnan, percentile_interval([])))


def test_as_many_blocks_are_drawn_as_there_are() -> None:
    """Each draw has as many blocks as there are; drawn with replacement, not always the same."""
    sums = list(resampled(np.ones((7, 1), np.int64), 50, 0))
    assert all(one.tolist() == [7] for one in sums)
    varied = {int(one[0]) for one in resampled(np.arange(7)[:, None], 50, 0)}
    assert len(varied) > 10


def test_equal_blocks_have_no_spread_and_one_block_no_interval() -> None:
    """Blocks that agree give an interval of no width; a single one gives none."""
    counts = np.tile([3, 4], (5, 1))
    np.testing.assert_array_equal(bootstrap_intervals(counts, share), [[0.75, 0.75]])
    assert np.isnan(bootstrap_intervals(counts[:1], share)).all()


def test_the_interval_is_that_of_the_normal_theory() -> None:
    """For many equal blocks of a share p the width is near 2 x 1.96 sqrt(p (1 - p) / n)."""
    right = np.random.default_rng(0).random(400) < 0.8
    counts = np.stack([right, np.ones(400)], axis=1).astype(np.int64)
    low, high = bootstrap_intervals(counts, share, 2000, 1)[0]
    p = right.mean()
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(p * (1 - p) / 400), rel=0.1)
    assert low < p < high


def test_equal_seeds_give_equal_intervals() -> None:
    """The seed decides; another one gives other numbers."""
    counts = np.random.default_rng(2).integers(1, 50, (9, 2))
    counts[:, 1] += 50
    first, again, other = (bootstrap_intervals(counts, share, 200, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
