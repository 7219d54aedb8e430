"""A job: what the user left open is filled in by rule."""

from datetime import date
from pathlib import Path

import pytest
from shapely.geometry import box

from landcover.errors import CheckpointError, SettingsError
from landcover.period import Period
from pipeline.job import DEFAULT_MODEL, last_summer, plan_job
from pipeline.region import Region
from pipeline.search import EARTH_SEARCH

NORTH = Region(name="north", footprint=box(15, 48, 15.1, 48.1))
SOUTH = Region(name="south", footprint=box(15, -34, 15.1, -33.9))


def test_defaults() -> None:
    """Without any wish: Earth Search, the shipped weights, the last summer."""
    job = plan_job(NORTH, output=Path("out"), today=date(2024, 11, 20))
    assert job.catalog == EARTH_SEARCH
    assert job.model == DEFAULT_MODEL
    assert str(job.period) == "2024-06-01/2024-08-31"
    assert job.folder == Path("out/north/2024-06-01_2024-08-31")


def test_the_command_line_wins() -> None:
    """What is typed beats the region file, which beats the default."""
    region = NORTH.model_copy(update={"period": Period.parse("2020-01-01"), "catalog": "a.parquet"})
    typed = plan_job(region, output=Path("out"), period="2021-01-01", catalog="b.parquet")
    assert (str(typed.period), typed.catalog) == ("2021-01-01/2021-01-01", "b.parquet")
    own = plan_job(region, output=Path("out"))
    assert (str(own.period), own.catalog) == ("2020-01-01/2020-01-01", "a.parquet")


@pytest.mark.parametrize(
    ("region", "today", "expected"),
    [
        (NORTH, date(2024, 9, 1), "2024-06-01/2024-08-31"),
        (NORTH, date(2024, 8, 31), "2023-06-01/2023-08-31"),
        (SOUTH, date(2024, 3, 1), "2023-12-01/2024-02-28"),
        (SOUTH, date(2024, 2, 28), "2022-12-01/2023-02-28"),
    ],
)
def test_last_summer(region: Region, today: date, expected: str) -> None:
    """The default period is the last complete summer of the hemisphere."""
    assert str(last_summer(region, today)) == expected


def test_bad_settings(tmp_path: Path) -> None:
    """A reversed period and a missing model are refused before any work."""
    with pytest.raises(SettingsError, match="ends before it starts"):
        plan_job(NORTH, output=tmp_path, period="2024-08-31/2024-06-01")
    with pytest.raises(CheckpointError, match="There is no model"):
        plan_job(NORTH, output=tmp_path, model=tmp_path / "none.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_secrets_of_an_address_are_not_written_down(tmp_path: Path) -> None:
    """User, password and query of a catalogue's address stay out of the settings."""
    job = plan_job(NORTH, output=tmp_path, catalog="https://me:secret@example.com/stac?key=hidden")
    assert job.catalog == "https://me:secret@example.com/stac?key=hidden"
    assert job.settings()["catalog"] == "https://example.com/stac"
