"""Periods: two days, both included, in UTC."""

from datetime import UTC, date, datetime

import pytest

from landcover.errors import SettingsError
from landcover.period import Period


def test_both_days_are_included() -> None:
    """The first and the last instant of the period are in it, the next is not."""
    period = Period.parse("2024-06-01/2024-08-31")
    assert datetime(2024, 6, 1, tzinfo=UTC) in period
    assert datetime(2024, 8, 31, 23, 59, 59, tzinfo=UTC) in period
    assert datetime(2024, 9, 1, tzinfo=UTC) not in period


def test_one_day() -> None:
    """A single date is a period of one day."""
    assert Period.parse("2024-06-01") == Period(date(2024, 6, 1), date(2024, 6, 1))


def test_text_and_folder() -> None:
    """A period prints as it is written, and names a folder without a slash."""
    assert str(Period.parse("2024-06-01/2024-08-31")) == "2024-06-01/2024-08-31"
    assert Period.parse("2024-06-01/2024-08-31").folder == "2024-06-01_2024-08-31"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2024-08-31/2024-06-01", "ends before it starts"),
        ("2024-06-31/2024-08-31", "does not exist"),
        ("summer", "not understood"),
        ("2024-06-01/2024-07-01/2024-08-01", "not understood"),
        ("2024-06/2024-08", "not understood"),
        ("", "not understood"),
    ],
)
def test_bad_periods(text: str, message: str) -> None:
    """Each mistake is named."""
    with pytest.raises(SettingsError, match=message):
        Period.parse(text)
