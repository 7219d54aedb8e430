"""What a project knows between runs: regions, periods, runs with their leases, alerts with their history.

One SQLite file. A run holds its region by a lease that it renews; a runner that dies leaves a lease that
ends by itself, or at once where the runner was on this machine.
"""

import contextlib
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from landcover.errors import LandcoverError

Clock = Callable[[], datetime]
"""Gives the present moment, with a time zone."""

LEASE = timedelta(minutes=5)
"""How long a region stays held without a sign of its runner."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE runs (
    region TEXT NOT NULL, period TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed')),
    started TEXT NOT NULL, finished TEXT, attempts INTEGER NOT NULL, inputs TEXT, message TEXT, details TEXT,
    PRIMARY KEY (region, period));
CREATE TABLE leases (
    region TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, born REAL NOT NULL, until TEXT NOT NULL);
CREATE TABLE alerts (
    id TEXT PRIMARY KEY, region TEXT NOT NULL, from_code INTEGER NOT NULL, to_code INTEGER NOT NULL,
    first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, status TEXT NOT NULL, area_ha REAL NOT NULL,
    confidence REAL, geometry TEXT NOT NULL);
CREATE TABLE history (
    alert TEXT NOT NULL REFERENCES alerts (id), period TEXT NOT NULL, status TEXT NOT NULL, area_ha REAL NOT NULL,
    PRIMARY KEY (alert, period));
CREATE TABLE told (alert TEXT NOT NULL, status TEXT NOT NULL, moment TEXT NOT NULL, PRIMARY KEY (alert, status));
CREATE INDEX alerts_by_region ON alerts (region, status);
"""


class BusyError(LandcoverError):
    """Another runner holds the region."""


@dataclass(frozen=True)
class Run:
    """The last run of a region and period."""

    region: str
    period: str
    status: str
    """running, done or failed."""
    started: str
    finished: str | None
    attempts: int
    inputs: str | None
    """Fingerprint of what it was made of."""
    message: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Alert:
    """A place that changed, as of some period."""

    id: str
    region: str
    from_code: int
    to_code: int
    first_seen: str
    last_seen: str
    status: str
    """candidate, confirmed or rejected."""
    area_ha: float
    confidence: float | None
    """Percent."""
    geometry: str
    """GeoJSON, in degrees."""


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


class ProjectStore:
    """An open store; made where there is none.

    clock: for tests, or where the machine's own cannot be trusted. Raises LandcoverError where the file is
    no store of this version.
    """

    def __init__(self, path: Path, clock: Clock = utc_now) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._clock = path, clock
        try:
            with self._open() as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    database.executescript(
                        f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;"
                    )
                    version = _VERSION
        except sqlite3.OperationalError as error:
            version = self._made_meanwhile(error)
        except sqlite3.DatabaseError as error:
            raise LandcoverError(
                f"{path} is no project store: {error}; give another file."
            ) from error
        if version != _VERSION:
            raise LandcoverError(
                f"{path} is a project store of version {version}; this program reads {_VERSION}."
            )

    def _made_meanwhile(self, error: sqlite3.OperationalError) -> int:
        """The version that another process has just made; the error again where it has not."""
        if "already exists" not in str(error):
            raise LandcoverError(f"{self.path} cannot be opened: {error}.") from error
        with self._open() as database:
            return int(database.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each piece of work: threads and processes may share the store."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as database:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA foreign_keys = ON")
            with database:
                yield database

    def now(self) -> str:
        """The present moment in UTC, ISO 8601, to the second."""
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")

    @contextlib.contextmanager
    def held(self, region: str, renew: float = 60.0) -> Iterator[None]:
        """Hold a region while the body runs; BusyError where another runner does.

        renew: seconds between signs of life.
        """
        self._take(region)
        stop = threading.Event()

        def stay() -> None:
            while not stop.wait(renew):
                self._renew(region)

        thread = threading.Thread(target=stay, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            with self._open() as database:
                mine = (region, *_identity()[:2])
                database.execute(
                    "DELETE FROM leases WHERE region = ? AND host = ? AND pid = ?", mine
                )

    def _take(self, region: str) -> None:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute("SELECT * FROM leases WHERE region = ?", (region,)).fetchone()
            if row and not self._is_over(row):
                raise BusyError(
                    f"Region {region} is held by process {row['pid']} on {row['host']} until {row['until']}; "
                    "wait for it to end."
                )
            database.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)",
                (region, *_identity(), self._until()),
            )

    def _renew(self, region: str) -> None:
        with self._open() as database:
            mine = (self._until(), region, *_identity()[:2])
            database.execute(
                "UPDATE leases SET until = ? WHERE region = ? AND host = ? AND pid = ?", mine
            )

    def _until(self) -> str:
        return (self._clock().astimezone(UTC) + LEASE).isoformat(timespec="seconds")

    def _is_over(self, lease: sqlite3.Row) -> bool:
        if lease["until"] <= self.now():
            return True
        return bool(lease["host"] == socket.gethostname()) and not _lives(
            lease["pid"], lease["born"]
        )

    # Runs

    def start(self, region: str, period: str) -> None:
        """Note that a run begins."""
        with self._open() as database:
            database.execute(
                "INSERT INTO runs (region, period, status, started, attempts) VALUES (?, ?, 'running', ?, 1) "
                "ON CONFLICT (region, period) DO UPDATE SET status = 'running', started = excluded.started, "
                "finished = NULL, message = NULL, attempts = attempts + 1",
                (region, period, self.now()),
            )

    def finish(
        self, region: str, period: str, *, inputs: str | None = None, error: str | None = None, **details: Any
    ) -> None:  # fmt: skip
        """Note that a run has ended: inputs, the fingerprint of what it was made of; error, why it failed."""
        with self._open() as database:
            database.execute(
                "UPDATE runs SET status = ?, finished = ?, inputs = coalesce(?, inputs), message = ?, details = ? "
                "WHERE region = ? AND period = ?",
                (
                    "failed" if error else "done", self.now(), inputs, error,
                    json.dumps(details, sort_keys=True), region, period,
                ),
            )  # fmt: skip

    def runs(self, region: str | None = None) -> list[Run]:
        """The last run of each period, by region and period."""
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM runs WHERE ?1 IS NULL OR region = ?1 ORDER BY region, period",
                (region,),
            ).fetchall()
        return [Run(**{**dict(row), "details": json.loads(row["details"] or "{}")}) for row in rows]

    # Alerts

    def put_alerts(self, region: str, period: str, alerts: Sequence[Alert]) -> None:
        """Note the alerts of a region as of a period, all at once; those of the period before are replaced.

        Alerts that are not among them stay as they were.
        """
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "DELETE FROM history WHERE period = ? AND alert IN (SELECT id FROM alerts WHERE region = ?)",
                (period, region),
            )
            for alert in alerts:
                values = asdict(alert)
                names = ", ".join(values)
                marks = ", ".join(f":{name}" for name in values)
                updates = ", ".join(f"{name} = excluded.{name}" for name in values if name != "id")
                database.execute(
                    f"INSERT INTO alerts ({names}) VALUES ({marks}) "  # noqa: S608 - names of our own fields
                    f"ON CONFLICT (id) DO UPDATE SET {updates}",
                    values,
                )
                database.execute(
                    "INSERT INTO history VALUES (?, ?, ?, ?)",
                    (alert.id, period, alert.status, alert.area_ha),
                )
            database.execute(
                "DELETE FROM alerts WHERE region = ? AND id NOT IN (SELECT alert FROM history)",
                (region,),
            )

    def alerts(self, region: str | None = None) -> list[Alert]:
        """All alerts as they stand, by region, first sight and id."""
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM alerts WHERE ?1 IS NULL OR region = ?1 ORDER BY region, first_seen, id",
                (region,),
            ).fetchall()
        return [Alert(**dict(row)) for row in rows]

    def untold(self) -> list[Alert]:
        """Alerts whose status nobody was told of yet, in the order of `alerts`; rejected ones only if told of before."""
        with self._open() as database:
            told = {tuple(row) for row in database.execute("SELECT alert, status FROM told")}
        known = {name for name, _ in told}
        return [
            alert
            for alert in self.alerts()
            if (alert.id, alert.status) not in told
            and (alert.status != "rejected" or alert.id in known)
        ]

    def told(self, alert: Alert) -> None:
        """Note that an alert's status was told."""
        with self._open() as database:
            database.execute(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?)", (alert.id, alert.status, self.now())
            )

    def history(self, alert: str) -> list[tuple[str, str, float]]:
        """Period, status and hectares of an alert, in the order of time."""
        with self._open() as database:
            rows = database.execute(
                "SELECT period, status, area_ha FROM history WHERE alert = ? ORDER BY period",
                (alert,),
            ).fetchall()
        return [tuple(row) for row in rows]


def _identity() -> tuple[str, int, float]:
    """Host, process, and when it was born: numbers of processes are used again."""
    return socket.gethostname(), os.getpid(), psutil.Process().create_time()


def _lives(pid: int, born: float) -> bool:
    try:
        return bool(abs(psutil.Process(pid).create_time() - born) < 1.0)
    except psutil.NoSuchProcess:
        return False
