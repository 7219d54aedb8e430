"""The store of a project: runs, leases, alerts."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from landcover.errors import LandcoverError
from pipeline.project_store import LEASE, Alert, BusyError, ProjectStore

START = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
"""In the night in which clocks of Europe go back."""


class FakeClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        """The moment it shows."""
        return self.moment


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> ProjectStore:
    """A new store."""
    return ProjectStore(tmp_path / "project.sqlite", clock)


def alert(name: str, status: str = "candidate", area: float = 1.5) -> Alert:
    """An alert of region a."""
    return Alert(name, "a", 2, 8, "2026-09", "2026-10", status, area, 80.0, '{"type": "Polygon"}')


def hold_in_a_process(path: Path) -> subprocess.Popen[str]:
    """Another process that holds region a until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from pipeline.project_store import ProjectStore\n"
        "with ProjectStore(Path(sys.argv[1])).held('a'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_is_noted_from_start_to_end(store: ProjectStore, clock: FakeClock):
    """Running, then failed with its reason, then done at the second attempt with its inputs."""
    store.start("a", "2026-09")
    assert store.runs()[0].status == "running"
    store.finish("a", "2026-09", error="no scene")
    clock.moment += timedelta(hours=1)
    store.start("a", "2026-09")
    store.finish("a", "2026-09", inputs="f00", scenes=3)
    (run,) = store.runs("a")
    assert (run.status, run.attempts, run.message, run.inputs) == ("done", 2, None, "f00")
    assert (run.started, run.finished) == ("2026-10-25T01:30:00+00:00",) * 2
    assert run.details == {"scenes": 3}
    assert store.runs("b") == []


def test_moments_are_in_utc_whatever_the_clock_says(tmp_path: Path):
    """Half past two happens twice when clocks go back; in UTC the two are an hour apart."""
    summer, winter = (timezone(timedelta(hours=h)) for h in (2, 1))
    moments = [datetime(2026, 10, 25, 2, 30, tzinfo=zone) for zone in (summer, winter)]
    stores = [
        ProjectStore(tmp_path / "s.sqlite", clock=lambda moment=moment: moment)
        for moment in moments
    ]
    assert [s.now() for s in stores] == ["2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"]


def test_a_region_is_held_by_one_runner(store: ProjectStore):
    """The second is told who holds it; other regions are free; afterwards it is free again."""
    with store.held("a"):
        with store.held("b"):
            pass
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"), store.held("a"):
            pass
    with store.held("a"):
        pass


def test_a_body_that_fails_frees_its_region(store: ProjectStore):
    """An error leaves no lease."""
    with pytest.raises(ZeroDivisionError), store.held("a"):
        raise ZeroDivisionError
    with store.held("a"):
        pass


def test_a_killed_runner_on_this_machine_frees_its_region_at_once(tmp_path: Path):
    """While it lives it is respected; after kill -9 nobody waits for its lease to end."""
    path = tmp_path / "project.sqlite"
    with hold_in_a_process(path) as process:
        try:
            with pytest.raises(BusyError), ProjectStore(path).held("a"):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    with ProjectStore(path).held("a"):
        pass


def test_a_lease_of_another_machine_ends_by_itself(store: ProjectStore, clock: FakeClock):
    """Nothing can be known of its process: five minutes without a sign end it."""
    with sqlite3.connect(store.path) as database:
        until = (START + LEASE).isoformat(timespec="seconds")
        database.execute("INSERT INTO leases VALUES ('a', 'elsewhere', 1, 0, ?)", (until,))
    with pytest.raises(BusyError, match="elsewhere"), store.held("a"):
        pass
    clock.moment += LEASE
    with store.held("a"):
        pass


def test_a_runner_that_lives_renews_its_lease(store: ProjectStore, clock: FakeClock):
    """An hour of work keeps the region, as signs of life come."""
    with store.held("a", renew=0.01):
        clock.moment += timedelta(hours=1)
        deadline = time.monotonic() + 10
        with sqlite3.connect(store.path) as database:
            expected = (clock.moment + LEASE).isoformat(timespec="seconds")
            while time.monotonic() < deadline:
                (until,) = database.execute("SELECT until FROM leases").fetchone()
                if until == expected:
                    break
                time.sleep(0.01)
        assert until == expected


def test_one_of_many_runners_gets_the_region(tmp_path: Path):
    """Eight threads open a new store and reach for one region: each time one holds it, no error else."""
    barrier_free = []

    def reach(_: int) -> str:
        try:
            with ProjectStore(tmp_path / "new.sqlite").held("a"):
                barrier_free.append(1)
                assert len(barrier_free) == 1
                time.sleep(0.05)
                barrier_free.pop()
                return "held"
        except BusyError:
            return "busy"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(reach, range(8)))
    assert "held" in outcomes
    assert set(outcomes) <= {"held", "busy"}


def test_alerts_keep_their_history(store: ProjectStore):
    """Candidate in one period, confirmed and larger in the next; a rerun of a period replaces its entry."""
    store.put_alerts("a", "2026-09", [alert("x")])
    store.put_alerts("a", "2026-10", [alert("x", "confirmed", 3.0), alert("y")])
    store.put_alerts("a", "2026-10", [alert("x", "confirmed", 2.5), alert("y")])
    assert store.history("x") == [("2026-09", "candidate", 1.5), ("2026-10", "confirmed", 2.5)]
    assert [(a.id, a.status) for a in store.alerts("a")] == [("x", "confirmed"), ("y", "candidate")]
    assert store.alerts("b") == []


def test_an_alert_that_a_rerun_does_not_find_is_gone(store: ProjectStore):
    """Late scenes may take an alert away: without any history it is no alert."""
    store.put_alerts("a", "2026-10", [alert("x"), alert("y")])
    store.put_alerts("a", "2026-10", [alert("y")])
    assert [a.id for a in store.alerts()] == ["y"]


def test_each_status_of_an_alert_is_told_once(store: ProjectStore):
    """Told as candidate, again as confirmed, then no more, also after a rerun."""
    store.put_alerts("a", "2026-09", [alert("x")])
    assert [a.id for a in store.untold()] == ["x"]
    store.told(alert("x"))
    assert store.untold() == []
    store.put_alerts("a", "2026-10", [alert("x", "confirmed")])
    assert [a.status for a in store.untold()] == ["confirmed"]
    store.told(alert("x", "confirmed"))
    store.put_alerts("a", "2026-10", [alert("x", "confirmed")])
    assert store.untold() == []


def test_a_rejection_is_told_to_those_who_were_told_of_the_alert(store: ProjectStore):
    """One that nobody was told of as a candidate has come and gone."""
    store.put_alerts("a", "2026-09", [alert("x"), alert("y")])
    store.told(alert("x"))
    store.put_alerts("a", "2026-10", [alert("x", "rejected"), alert("y", "rejected")])
    assert [(a.id, a.status) for a in store.untold()] == [("x", "rejected")]
    store.told(alert("x", "rejected"))
    assert store.untold() == []


def test_names_are_data(store: ProjectStore):
    """Quotes and semicolons in names are only characters."""
    name = "x'); DROP TABLE runs; --"
    store.start(name, "2026-09")
    store.finish(name, "2026-09")
    assert [run.region for run in store.runs(name)] == [name]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read", b""])
def test_a_file_that_is_no_store(tmp_path: Path, content: bytes):
    """Text is refused in a sentence; an empty file becomes a store."""
    path = tmp_path / "project.sqlite"
    path.write_bytes(content)
    if not content:
        assert ProjectStore(path).runs() == []
        return
    with pytest.raises(LandcoverError, match="is no project store"):
        ProjectStore(path)
    assert path.read_bytes() == content


def test_a_store_of_another_version_is_refused(tmp_path: Path):
    """A newer program's store is left alone."""
    with sqlite3.connect(tmp_path / "s.sqlite") as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(LandcoverError, match="version 9; this program reads 1"):
        ProjectStore(tmp_path / "s.sqlite")
