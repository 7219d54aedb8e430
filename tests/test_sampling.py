"""How many pixels are drawn from each stratum, and which."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landcover.errors import SampleError
from landcover.sampling import (
    RankPicker,
    allocate,
    draw_ranks,
    expected_agreement,
    expected_error,
    expected_share,
    sample_size,
)

WEIGHTS = [0.020, 0.015, 0.320, 0.645]
"""Of deforestation, forest gain, stable forest, stable non-forest; Olofsson et al. (2014), table 5."""
USERS = [0.70, 0.60, 0.90, 0.95]
PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]


def test_the_sample_size_of_olofsson_2014() -> None:
    """A standard error of 0.01 of the overall accuracy needs 641 pixels."""
    assert sample_size(WEIGHTS, USERS, 0.01, sum(PIXELS)) == 641
    assert sample_size(WEIGHTS, USERS, 0.005, 10**12) == 2563  # four times 640.54


def test_the_allocations_of_olofsson_2014() -> None:
    """Table 5: proportional, and at least 100, 75 or 50 in the small classes; the rest by area.

    The paper samples 75, 75, 165 and 325: rounded by hand, so its large classes differ by up to three pixels.
    """
    assert allocate(WEIGHTS, PIXELS, 641, 0).tolist() == [13, 10, 205, 413]
    assert allocate(WEIGHTS, PIXELS, 641, 100).tolist() == [100, 100, 146, 295]
    assert allocate(WEIGHTS, PIXELS, 641, 75).tolist() == [75, 75, 163, 328]
    assert allocate(WEIGHTS, PIXELS, 641, 50).tolist() == [50, 50, 179, 362]


def test_the_error_that_an_allocation_leads_to() -> None:
    """Optimal allocation meets the target; any other is worse, and is told so."""
    w, deviation = np.array(WEIGHTS), np.sqrt(np.array(USERS) * (1 - np.array(USERS)))
    optimal = 640.536 * w * deviation / (w @ deviation)
    assert expected_error(w, USERS, optimal) == pytest.approx(0.01, abs=1e-6)
    assert expected_error(w, USERS, [75, 75, 165, 326]) == pytest.approx(0.010877, abs=1e-6)
    assert expected_error(w, USERS, [160, 160, 160, 160]) > 0.012


def test_expected_shares_counted_by_hand() -> None:
    """Strata of two classes: what is wrong goes to the others by their mapped area."""
    cells = [[60, 0, 0], [0, 30, 10]]
    users = [0.9, 0.8, 0.5]
    assert expected_agreement(cells, users).tolist() == pytest.approx([0.9, 0.725])
    # Class 1: a tenth of class 0 is wrong, 30 of the other 40 ha are class 1; half of class 2, 30 of 90 ha.
    first, second = 0.1 * 30 / 40, (30 * 0.8 + 10 * 0.5 * 30 / 90) / 40
    assert expected_share(cells, users, 1).tolist() == pytest.approx([first, second])


@pytest.mark.parametrize("error", [0, -0.1, float("nan")])
def test_a_target_of_no_error_is_refused(error: float) -> None:
    """No sample has a standard error of 0."""
    with pytest.raises(SampleError, match="above 0"):
        sample_size(WEIGHTS, USERS, error, 100)


def test_a_small_map_is_never_oversampled() -> None:
    """The size is at most the pixels that there are."""
    assert sample_size(WEIGHTS, USERS, 1e-6, 500) <= 500
    assert sample_size([1.0], [1.0], 0.01, 500) == 0


@given(
    st.lists(st.tuples(st.floats(0.001, 1), st.integers(1, 3_000)), min_size=1, max_size=8),
    st.integers(0, 4_000),
    st.integers(0, 200),
)
def test_any_allocation_keeps_its_bounds(
    strata: list[tuple[float, int]], size: int, minimum: int
) -> None:
    """Never below the minimum, never more than there are, and the sum is what was asked for."""
    weights, pixels = np.array([w for w, _ in strata]), np.array([p for _, p in strata])
    drawn = allocate(weights / weights.sum(), pixels, size, minimum)
    least = np.minimum(minimum, pixels)
    assert (drawn >= least).all()
    assert (drawn <= pixels).all()
    assert drawn.sum() == min(max(size, least.sum()), pixels.sum())


def picked(strata: NDArray[np.int64], ranks: list[NDArray[np.int64]], step: int) -> set[int]:
    """Places in the raster found when it is read in strips of some rows."""
    picker, found = RankPicker(ranks), set()
    for top in range(0, len(strata), step):
        strip = strata[top : top + step]
        places, numbers = picker.take(strip)
        assert strip.ravel()[places].tolist() == numbers.tolist()
        found |= {top * strata.shape[1] + int(place) for place in places}
    return found


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
def test_strips_of_any_height_find_the_same_pixels(seed: int, step: int, size: int) -> None:
    """The pixels of given ranks, row by row in each stratum, whatever the cut; none of them nodata."""
    strata = np.random.default_rng(seed).integers(0, 4, (11, 13))
    counts = np.bincount(strata.ravel(), minlength=4)
    ranks = [draw_ranks(int(n), min(size, int(n)), (seed, h)) for h, n in enumerate(counts[1:])]
    expected: set[int] = set()
    for number, one in enumerate(ranks, start=1):
        expected |= set(np.flatnonzero(strata == number)[one].tolist())
    assert picked(strata, ranks, step) == expected
    assert 0 not in strata.ravel()[list(expected)]


def test_every_pixel_is_equally_likely() -> None:
    """Each of 50 pixels comes in 10 of 50 draws of 10: counts over 5,000 draws spread as chance has it."""
    counts = np.zeros(50)
    for seed in range(5_000):
        ranks = draw_ranks(50, 10, (seed, 1))
        assert len(set(ranks.tolist())) == 10
        counts[ranks] += 1
    # Binomial (5000, 0.2) corrected for drawing 10 of 50 together: variance 800, so chi-squared near 50.
    assert 20 < ((counts - 1000) ** 2 / 800).sum() < 95
