"""A span of time from which scenes are taken."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from landcover.errors import SettingsError


@dataclass(frozen=True)
class Period:
    """Two dates, both included, in UTC."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise SettingsError(
                f"The period {self.start}/{self.end} ends before it starts; write the earlier date first."
            )

    @classmethod
    def parse(cls, text: str) -> "Period":
        """Read `2024-06-01/2024-08-31`, or one day `2024-06-01`.

        Raises SettingsError where a date does not exist or the end is before the start.
        """
        parts = text.strip().split("/")
        if len(parts) > 2 or not all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", part) for part in parts):
            raise SettingsError(
                f"The period '{text}' is not understood; write it like 2024-06-01/2024-08-31."
            )
        try:
            return cls(date.fromisoformat(parts[0]), date.fromisoformat(parts[-1]))
        except ValueError as error:
            raise SettingsError(
                f"The period '{text}' names a day that does not exist: {error}."
            ) from error

    def bounds(self) -> tuple[datetime, datetime]:
        """First and last instant, UTC."""
        return (
            datetime.combine(self.start, time.min, UTC),
            datetime.combine(self.end, time(23, 59, 59, 999999), UTC),
        )

    def __contains__(self, moment: datetime) -> bool:
        first, last = self.bounds()
        return first <= moment <= last

    def __str__(self) -> str:
        return f"{self.start}/{self.end}"

    @property
    def folder(self) -> str:
        """The period as a folder name: `2024-06-01_2024-08-31`."""
        return f"{self.start}_{self.end}"
