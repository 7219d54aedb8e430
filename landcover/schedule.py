"""Which periods are due: calendar months in UTC, each once it is over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from landcover.errors import SettingsError
from landcover.period import Period


def month(text: str) -> Period:
    """The month written as YYYY-MM. Raises SettingsError for anything else."""
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise SettingsError(f"'{text}' is no month; write it like 2026-10.") from error
    return Period(first, _next_month(first) - timedelta(days=1))


FIRST, PREVIOUS, YEAR_BEFORE = "first", "previous", "year-before"


@dataclass(frozen=True)
class Baseline:
    """The month that a month is compared with: the first one followed, the one before, the same of last year, or one by name."""

    choice: str = FIRST
    """FIRST, PREVIOUS, YEAR_BEFORE or YYYY-MM. Raises SettingsError for anything else."""

    def __post_init__(self) -> None:
        if self.choice not in {FIRST, PREVIOUS, YEAR_BEFORE}:
            try:
                month(self.choice)
            except SettingsError as error:
                raise SettingsError(
                    f"The baseline '{self.choice}' is not understood; give {FIRST}, {PREVIOUS}, {YEAR_BEFORE}, or a "
                    "month like 2025-06."
                ) from error

    def of(self, period: Period, first: Period) -> Period | None:
        """The month that a month is compared with; None where it would have to be before its time.

        first: the first month that is followed.
        """
        if self.choice == YEAR_BEFORE:
            return month(f"{period.start.year - 1}-{period.start.month:02}")
        if self.choice == PREVIOUS:
            found = month((period.start - timedelta(days=1)).strftime("%Y-%m"))
            return found if first.start <= found.start else None
        found = first if self.choice == FIRST else month(self.choice)
        return found if found.start < period.start else None


def complete_months(since: date, as_of: date, settle: int = 0) -> list[Period]:
    """Months from the one that holds a day to the last that is over, oldest first.

    as_of: the present day. settle: days after its end from which a month counts as over, as scenes come late.
    """
    months, first = [], since.replace(day=1)
    while (following := _next_month(first)) + timedelta(days=settle) <= as_of:
        months.append(Period(first, following - timedelta(days=1)))
        first = following
    return months


def due_periods(periods: Sequence[Period], status: Mapping[str, str], reopen: int) -> list[Period]:
    """Those of some periods, oldest first, at which there may be work.

    status: of the last run of each period, by its text; a period is done if it says so. reopen: how many of
    the latest done ones are looked at again for late scenes. From the first that is not done on all are due,
    as each builds on the one before.
    """
    undone = [number for number, period in enumerate(periods) if status.get(str(period)) != "done"]
    begin = min([*undone, max(0, len(periods) - reopen)])
    return list(periods[begin:])


def _next_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)
