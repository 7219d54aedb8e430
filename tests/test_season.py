"""Days of the year: their median and the distance of two images, on a year that goes round."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.season import Season, day_distance


def season(*days: tuple[int, str]) -> Season:
    """So many pixels of each day."""
    since = [(date.fromisoformat(day) - date(1970, 1, 1)).days for _, day in days]
    return Season.of(np.repeat(since, [count for count, _ in days]))


def test_days_of_the_year_go_round():
    """The end of December is near the beginning of January."""
    assert day_distance(np.array([360, 100, 200]), np.array([10, 200, 100])).tolist() == [15.25, 100, 100]  # fmt: skip
    december, january = season((1, "2022-12-26")), season((1, "2023-01-10"))
    assert december.apart(january) == january.apart(december) == 15.25
    assert (december.median, january.median) == (360, 10)


@pytest.mark.parametrize(
    ("days", "median"),
    [
        ([(3, "2023-07-01")], 182),
        ([(1, "2023-07-01"), (1, "2023-07-04")], 183.5),
        ([(2, "2022-12-01"), (2, "2023-01-10"), (2, "2023-02-10")], 10),
        ([(1, "2022-12-30"), (1, "2023-01-05")], 1.875),
        ([(1, "2022-12-24"), (1, "2023-01-02")], 362.625),
        ([(1, "2024-12-31")], 366),
    ],
)
def test_the_median_day_may_be_at_new_year(days: list[tuple[int, str]], median: float):
    """Of winters it lies in the winter, of one summer it is that of its days; day 366 is not turned."""
    assert season(*days).median == median


def test_pixels_that_change_sides_are_few_days_apart():
    """December and February, 45 to 55 % and the other way round: a tenth of the pixels, 52.25 days."""
    for one, other, days in (("2022-12-20", "2023-02-10", 52.25), ("2023-06-05", "2023-07-25", 50)):
        first, second = season((45, one), (55, other)), season((55, one), (45, other))
        assert first.apart(second) == pytest.approx(days / 10)
        assert first.apart(first) == 0
    assert season((1, "2023-02-01")).apart(season((1, "2023-08-01"))) == 181


@given(st.lists(st.integers(1, 366), min_size=1), st.lists(st.integers(1, 366), min_size=1))
def test_the_distance_is_the_same_both_ways_and_at_most_half_a_year(
    one: list[int], other: list[int]
):
    """And adding an image to itself changes neither it nor the median."""
    first, second = (Season(np.bincount(days, minlength=367)[1:]) for days in (one, other))
    apart = first.apart(second)
    assert second.apart(first) == pytest.approx(apart)
    assert 0 <= apart <= 365.25 / 2
    assert (first + first).apart(second) == pytest.approx(apart)
    assert (first + first).median == first.median
