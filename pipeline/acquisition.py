"""When an image was taken: from a table, from its metadata, or from its name."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeVar

from landcover.errors import SettingsError

# Best first: a TIFF's own date is often that of its processing, so it comes last.
_TAGS = (
    "ACQUISITIONDATETIME", "DATATAKE_1_DATATAKE_SENSING_START", "SENSING_TIME", "START_DATETIME",
    "DATETIME", "PRODUCT_START_TIME", "ACQUISITION_DATETIME", "ACQUISITION_DATE", "DATE_ACQUIRED",
    "EXIF_DATETIMEORIGINAL", "DATE", "TIFFTAG_DATETIME",
)  # fmt: skip
_EXIF = re.compile(r"(\d{4}):(\d\d):(\d\d)(.*)", re.DOTALL)
_PRODUCED = re.compile(r"(S2[A-D]_OPER_\w*?_)(\d{8}T\d{6})(?!\d)")
_LANDSAT_MTL = re.compile(r"L[457]\d{6,7}_\d{3}(\d{8})(?!\d)")
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_T = TypeVar("_T")


@dataclass(frozen=True)
class Acquisition:
    """An instant, or a span of which no more is known, in UTC; both ends included."""

    start: datetime
    end: datetime

    def properties(self) -> dict[str, str | None]:
        """The time as STAC item properties."""
        if self.start == self.end:
            return {"datetime": _stamp(self.start)}
        return {
            "datetime": None,
            "start_datetime": _stamp(self.start),
            "end_datetime": _stamp(self.end),
        }


def parse(text: str) -> Acquisition:
    """Read an ISO 8601 date or time, an EXIF time, or a bare year (which lasts all year).

    A time without zone is UTC; a date is its first instant. Raises ValueError otherwise.
    """
    text = text.strip()
    if re.fullmatch(r"\d{4}", text):
        return _year(int(text))
    if exif := _EXIF.fullmatch(text):  # 2022:01:17 10:43:43
        text = "-".join(exif.groups()[:3]) + exif.group(4)
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(f"the year {moment.year} is outside {_FIRST_YEAR} to {_LAST_YEAR}")
    return Acquisition(moment, moment)


def from_tags(tags: Mapping[str, str]) -> Acquisition | None:
    """Time that an image's metadata gives, if any; what cannot be read is passed over."""
    known = {key.upper(): value for key, value in tags.items()}
    for tag in _TAGS:
        if (found := _attempt(parse, known.get(tag, ""))) is not None:
            return found
    return None


def from_descriptions(texts: Iterable[str | None]) -> Acquisition | None:
    """Time of the Landsat scene that band descriptions name, as ENVI copies it into each.

    `L71119038_03820000317_MTL.txt` is Landsat 7, path 119, row 038, 2000-03-17.
    """
    matches = (_LANDSAT_MTL.search(text or "") for text in texts)
    return next((when for m in matches if m and (when := _attempt(parse, m[1]))), None)


def from_name(path: PurePosixPath) -> Acquisition | None:
    """Time written in a file's name, else in the nearest folder's; path relative to the images.

    Knows 20171014T110959, 2020159T100031 (day of the year, as in HLS), 2017-10-14, 20171014, Landsat
    scene ids (LE70220491999322EDC01), and a name that is a year and nothing else. The production time
    in an old Sentinel-2 name is passed over.
    """
    for part in _parts(path):
        acquired = _PRODUCED.sub(r"\1", part)
        for pattern, read in _NAMES:
            for match in pattern.finditer(acquired):
                if (found := _attempt(read, match)) is not None:
                    return found
    return None


def from_production(path: PurePosixPath) -> Acquisition | None:
    """Time at which a Sentinel-2 image of the old format was produced, hours to years after it was taken.

    The one time in names like S2A_OPER_MSI_L1C_TL_EPA__20160706T155721_A000849_T30TXT_B02.
    """
    matches = filter(None, map(_PRODUCED.search, _parts(path)))
    return next((when for m in matches if (when := _attempt(parse, m[2]))), None)


def _parts(path: PurePosixPath) -> list[str]:
    return [path.stem, *(folder.name for folder in path.parents)]


@dataclass(frozen=True)
class DatetimeTable:
    """Times that the user gives by path pattern; the first pattern that fits a path counts."""

    source: Path
    rows: Sequence[tuple[int, str, Acquisition]]
    """(line number, pattern, time)."""

    @classmethod
    def read(cls, source: Path) -> "DatetimeTable":
        """Read a CSV file with the columns `path` and `datetime`.

        Raises SettingsError naming the line that cannot be read.
        """
        try:
            with source.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.DictReader(stream)
                if not {"path", "datetime"} <= set(reader.fieldnames or ()):
                    raise SettingsError(
                        f"The table {source} needs the columns path,datetime in its first line; "
                        f"it has {','.join(reader.fieldnames or ()) or 'none'}."
                    )
                return cls(source, [_row(source, reader.line_num, row) for row in reader])
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SettingsError(f"The table {source} cannot be read: {error}.") from error

    def find(self, path: PurePosixPath) -> Acquisition | None:
        """Time of a file, its path relative to the indexed folder."""
        return next((when for _, pattern, when in self.rows if _fits(path, pattern)), None)

    def check_used(self, paths: Iterable[PurePosixPath]) -> None:
        """Raise SettingsError naming the first row whose pattern fits none of the paths."""
        names = list(paths)
        for line, pattern, _ in self.rows:
            if not any(_fits(path, pattern) for path in names):
                raise SettingsError(
                    f"{self.source}, line {line}: the pattern '{pattern}' fits no image; patterns are "
                    "relative to the indexed folder, like city/date_1/*.tif."
                )


def _row(
    source: Path, line: int, row: Mapping[str | None, str | None]
) -> tuple[int, str, Acquisition]:
    pattern, text = (row["path"] or "").strip(), (row["datetime"] or "").strip()
    if not pattern:
        raise SettingsError(f"{source}, line {line}: the path is empty.")
    try:
        return line, pattern.removeprefix("./"), parse(text)
    except ValueError as error:
        raise SettingsError(
            f"{source}, line {line}: '{text}' is no date; write it like 2017-10-14 or 2017-10-14T11:09:59Z."
        ) from error


def _fits(path: PurePosixPath, pattern: str) -> bool:
    """Whether a pattern names a path or a folder that holds it."""
    name = str(path)
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.rstrip("/") + "/*")


def _attempt(read: Callable[[_T], Acquisition], value: _T) -> Acquisition | None:
    try:
        return read(value)
    except ValueError:
        return None


def _year(year: int) -> Acquisition:
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise ValueError(f"{year} is no year of images")
    start = datetime(year, 1, 1, tzinfo=UTC)
    return Acquisition(start, start.replace(year=year + 1) - timedelta(seconds=1))


def _read_text(match: re.Match[str]) -> Acquisition:
    return parse(match.group())


def _read_landsat(match: re.Match[str]) -> Acquisition:
    return parse(datetime.strptime("".join(match.groups()), "%Y%j").date().isoformat())  # noqa: DTZ007 - a date


def _read_day_of_year(match: re.Match[str]) -> Acquisition:
    return parse(datetime.strptime("".join(match.groups()), "%Y%j%H%M%S").isoformat())  # noqa: DTZ007 - UTC by parse


_NAMES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Acquisition]], ...] = (
    (re.compile(r"(?<!\d)\d{8}T\d{6}(?!\d)"), _read_text),
    (re.compile(r"(?<!\d)(\d{4})(\d{3})T(\d\d)(\d\d)(\d\d)(?!\d)"), _read_day_of_year),
    (re.compile(r"(?<!\d)\d{4}-\d\d-\d\d(?!\d)"), _read_text),
    (re.compile(r"(?<!\d)\d{8}(?!\d)"), _read_text),
    (re.compile(r"L[A-Z]\d\d{6}(\d{4})(\d{3})[A-Z]{3}\d\d"), _read_landsat),
    (re.compile(r"\A\d{4}\Z"), _read_text),
)


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
