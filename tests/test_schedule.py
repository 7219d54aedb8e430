"""Which months are due."""

import itertools
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.errors import SettingsError
from landcover.schedule import Baseline, complete_months, due_periods, month


def test_a_month_is_due_when_it_is_over():
    """On the first of November October is over; on the last of October it is not."""
    assert [p.folder for p in complete_months(date(2026, 9, 15), date(2026, 11, 1))] == [
        "2026-09-01_2026-09-30", "2026-10-01_2026-10-31",
    ]  # fmt: skip
    assert complete_months(date(2026, 10, 1), date(2026, 10, 31)) == []


def test_scenes_get_time_to_arrive():
    """With five days to settle, October is due on the 6th of November."""
    assert complete_months(date(2026, 10, 1), date(2026, 11, 5), settle=5) == []
    assert len(complete_months(date(2026, 10, 1), date(2026, 11, 6), settle=5)) == 1


def test_february_and_new_year():
    """Leap years and the turn of the year."""
    months = complete_months(date(2027, 12, 31), date(2028, 3, 1))
    assert [str(p) for p in months] == [
        "2027-12-01/2027-12-31", "2028-01-01/2028-01-31", "2028-02-01/2028-02-29",
    ]  # fmt: skip
    assert month("2028-02") == months[-1]


def test_missed_ticks_are_made_up_once_per_period():
    """Three months without a run: all three are due, oldest first."""
    periods = complete_months(date(2026, 7, 1), date(2026, 11, 1))
    assert due_periods(periods, {str(periods[0]): "done"}, reopen=0) == periods[1:]


def test_late_scenes_reopen_the_last_periods():
    """With two to be looked at again, the last two done ones are due, and what failed with all after it."""
    periods = complete_months(date(2026, 6, 1), date(2026, 11, 1))
    done = {str(period): "done" for period in periods}
    assert due_periods(periods, done, reopen=2) == periods[-2:]
    assert due_periods(periods, done, reopen=0) == []
    assert due_periods(periods, done | {str(periods[1]): "failed"}, reopen=2) == periods[1:]


@given(
    st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, 3000), st.integers(0, 40)
)  # fmt: skip
def test_months_tile_the_time(since: date, days: int, settle: int):
    """Without gap or overlap, from the month of the first day to the last that is over."""
    as_of = since + timedelta(days=days)
    months = complete_months(since, as_of, settle)
    for one, other in itertools.pairwise(months):
        assert one.end + timedelta(days=1) == other.start
    if months:
        assert months[0].start == since.replace(day=1)
        assert months[-1].end + timedelta(days=1 + settle) <= as_of
        assert months[-1].end + timedelta(days=33 + settle) > as_of


@pytest.mark.parametrize("text", ["2026", "2026-13", "26-10", "2026-10-01", ""])
def test_what_is_no_month_is_refused(text: str):
    """The sentence shows how to write one."""
    with pytest.raises(SettingsError, match="like 2026-10"):
        month(text)


@pytest.mark.parametrize(
    ("choice", "period", "expected"),
    [
        ("first", "2026-06", "2026-04"), ("first", "2026-04", None),
        ("previous", "2026-06", "2026-05"), ("previous", "2026-04", None),
        ("year-before", "2026-06", "2025-06"), ("year-before", "2026-04", "2025-04"),
        ("year-before", "2028-02", "2027-02"),
        ("2025-07", "2026-06", "2025-07"), ("2026-06", "2026-06", None), ("2026-06", "2026-05", None),
    ],
)  # fmt: skip
def test_the_baseline_of_a_month(choice: str, period: str, expected: str | None):
    """The first month is 2026-04; a baseline is never the month itself nor a later one."""
    found = Baseline(choice).of(month(period), month("2026-04"))
    assert found == (month(expected) if expected else None)


def test_a_baseline_that_is_none():
    """The sentence says what there is."""
    with pytest.raises(SettingsError, match=r"'last-year' is not understood; give first, previous, year-before"):  # fmt: skip
        Baseline("last-year")
