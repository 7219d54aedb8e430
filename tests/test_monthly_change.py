"""Regions followed month by month by a scheduler that fails, dies and sleeps, as if nothing had happened."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyogrio
import pytest
import typer
from typer.testing import CliRunner

from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.legend import Legend
from pipeline.job import DEMO_MODEL
from pipeline.project_store import ProjectStore
from tests.command import ROOT
from tests.month_scenes import Country, write_catalog, write_region
from workflows.monthly_change import monthly_change

REGIONS = {"a": (8, 8), "b": (90, 8), "c": (8, 90), "d": (90, 90), "e": (150, 150)}
SIDE = 72
FIRST = ("2024-05-10", "2024-05-20", "2024-06-09", "2024-06-19", "2024-07-09")
"""Days of the scenes; from June on the country has changed."""
LATE = "2024-06-27"
"""Day of the scene that comes after July has begun."""
COMPARED = {".tif", ".gpkg", ".geojson", ".csv", ".html", ".qml"}
MONTHS = ("2024-05-01_2024-05-31", "2024-06-01_2024-06-30", "2024-07-01_2024-07-31")


def command(folder: Path, as_of: date, *more: object) -> list[str]:
    """What a line of a crontab calls."""
    return [
        sys.executable, "-m", "workflows.monthly_change", "--regions", str(folder / "regions"), "--out",
        str(folder / "out"), "--as-of", f"{as_of:%Y-%m-%d}", "--since", "2024-05", "--settle", "2",
        "--min-area", "0.3", "--metrics", str(folder / "landcover.prom"), *map(str, more),
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """Of a process that finds this project's copy."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def tick(folder: Path, as_of: date, *more: object) -> subprocess.CompletedProcess[str]:
    """One call of the scheduler."""
    return subprocess.run(
        command(folder, as_of, *more), capture_output=True, text=True, check=False, env=environment(),
        timeout=600,
    )  # fmt: skip


def killed_tick(folder: Path, as_of: date, sign: str) -> None:
    """One call, killed when it prints a sign."""
    with subprocess.Popen(
        command(folder, as_of), stdout=subprocess.PIPE, text=True, env=environment() | {"PYTHONUNBUFFERED": "1"}
    ) as process:  # fmt: skip
        assert process.stdout
        for line in process.stdout:
            if sign in line:
                process.send_signal(signal.SIGKILL)
                break
        else:
            raise AssertionError(f"never said {sign!r}")


def products(folder: Path) -> dict[str, bytes]:
    """Content of everything that was made, by its path."""
    out = folder / "out"
    files = (path for path in sorted(out.rglob("*")) if path.suffix in COMPARED and path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scenes of a changing country, and those that come late."""
    folder = tmp_path_factory.mktemp("country")
    made = Country()
    for day in FIRST:
        made.write_scene(folder / "scenes", day, changed=day > "2024-06")
    made.write_scene(folder / "late", LATE, changed=True)
    return folder


def project(folder: Path, country: Path) -> Path:
    """A project of five regions; d has a catalogue of its own, in which a scene comes late."""
    write_catalog(country / "scenes", folder / "all.ndjson")
    write_catalog(country / "scenes", folder / "d.ndjson")
    for name, corner in REGIONS.items():
        catalog = folder / ("d.ndjson" if name == "d" else "all.ndjson")
        write_region(folder / f"regions/{name}.yml", name, corner, SIDE, catalog)
    return folder


def bring_late_scene(folder: Path, country: Path) -> None:
    """Region d's catalogue gets one scene more."""
    write_catalog(country / "late", folder / "late.ndjson")
    with (folder / "d.ndjson").open("a", encoding="utf-8") as stream:
        stream.write((folder / "late.ndjson").read_text("utf-8"))


@pytest.fixture(scope="module")
def undisturbed(country: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same project, with all scenes there, followed by one call."""
    folder = project(tmp_path_factory.mktemp("undisturbed"), country)
    bring_late_scene(folder, country)
    done = tick(folder, date(2024, 8, 4))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def disturbed(country: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five regions, three months: one region fails, one call is killed, ten are missed, a scene is late."""
    folder = project(tmp_path_factory.mktemp("disturbed"), country)
    broken = (folder / "regions/b.yml").read_text()
    (folder / "regions/b.yml").write_text(broken.replace("all.ndjson", "missing.ndjson"))
    day = date(2024, 6, 3)
    first = tick(folder, day)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "missing.ndjson" in first.stderr
    assert "Traceback" not in first.stderr
    status = {run.region: run.status for run in ProjectStore(folder / "out/project.sqlite").runs()}
    assert status == {"a": "done", "b": "failed", "c": "done", "d": "done", "e": "done"}
    (folder / "regions/b.yml").write_text(broken)
    day = date(2024, 7, 3)
    killed_tick(folder, day, "c 2024-06-01_2024-06-30: segment")
    day += timedelta(days=1 + 10)  # ten calls are missed
    assert tick(folder, day).returncode == 0
    bring_late_scene(folder, country)
    done = tick(folder, date(2024, 8, 4))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_region_has_every_month_once(disturbed: Path):
    """The ledger: fifteen runs done, those of b at the second attempt, one per period however many calls."""
    runs = ProjectStore(disturbed / "out/project.sqlite").runs()
    assert [(run.region, run.status) for run in runs] == [
        (name, "done") for name in REGIONS for _ in MONTHS
    ]
    attempts = {(run.region, run.period[:7]): run.attempts for run in runs}
    assert attempts["c", "2024-06"] > attempts["d", "2024-07"]
    for name in REGIONS:
        for month in MONTHS:
            assert (disturbed / "out" / name / month / "landcover.gpkg").is_file()
        assert not list((disturbed / "out" / name).rglob(".partial*"))


def test_the_bytes_are_those_of_an_undisturbed_run(disturbed: Path, undisturbed: Path):
    """Every map, change, state, polygon and report is the same as if nothing had gone wrong."""
    one, other = products(disturbed), products(undisturbed)
    assert list(one) == list(other)
    assert [name for name in one if one[name] != other[name]] == []
    assert sum(name.endswith("state.tif") for name in one) == 10


def test_a_call_without_news_does_nothing(disturbed: Path):
    """Nothing is made again: every stage is current, no file of a map is touched."""
    before = {
        path: path.stat().st_mtime_ns for path in (disturbed / "out").rglob("*/change/*.tif")
    } | {path: path.stat().st_mtime_ns for path in (disturbed / "out").rglob("classes.tif")}
    done = tick(disturbed, date(2024, 8, 4))
    assert done.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    begun = [line for line in done.stdout.splitlines() if line.endswith(" ...")]
    assert [line for line in begun if "search" not in line and "looking" not in line] == []


def test_what_lasts_is_confirmed(disturbed: Path):
    """June's town and reservoir are candidates in June and confirmed in July, in hectares and in the store."""
    store = ProjectStore(disturbed / "out/project.sqlite")
    alerts = store.alerts()
    confirmed = [alert for alert in alerts if alert.status == "confirmed"]
    assert sum(alert.area_ha for alert in confirmed) > 1
    for alert in confirmed:
        assert (alert.first_seen, alert.last_seen) == ("2024-06-30", "2024-07-31")
        assert [entry[1] for entry in store.history(alert.id)][-1] == "confirmed"
    assert any(
        [status for _, status, _ in store.history(alert.id)] == ["candidate", "confirmed"]
        for alert in confirmed
    )
    found = json.loads((disturbed / "out/alerts.geojson").read_text("utf-8"))["features"]
    assert len(found) == len(alerts)
    prom = (disturbed / "landcover.prom").read_text()
    assert 'landcover_run_scenes{region="d"} 1' in prom
    assert 'landcover_failed_periods{region="b"} 0' in prom


def test_the_change_is_open_to_the_analyst(disturbed: Path):
    """Each month after the first has a GeoPackage of changes beside its map."""
    for name in REGIONS:
        for month in MONTHS[1:]:
            path = disturbed / "out" / name / month / "change" / "change.gpkg"
            assert "changes" in pyogrio.list_layers(path)[:, 0]


class Hook(ThreadingHTTPServer):
    """A receiver of alerts that refuses at first."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.refuses = True

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server: Hook = self.server
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not server.refuses:
                    server.got.append(json.loads(body))
                self.send_response(400 if server.refuses else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A running receiver."""
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_alerts_are_posted_once_also_after_a_refusal(disturbed: Path, hook: Hook):
    """Refused at the first call (exit code 1, nothing lost), taken at the second, none at the third."""
    address = f"http://127.0.0.1:{hook.server_port}/"
    first = tick(disturbed, date(2024, 8, 4), "--webhook", address)
    assert first.returncode == 1
    assert "kept for the next run" in first.stderr
    hook.refuses = False
    assert tick(disturbed, date(2024, 8, 4), "--webhook", address).returncode == 0
    alerts = ProjectStore(disturbed / "out/project.sqlite").alerts()
    assert sorted(message["id"] for message in hook.got) == sorted(alert.id for alert in alerts)
    assert tick(disturbed, date(2024, 8, 4), "--webhook", address).returncode == 0
    assert len(hook.got) == len(alerts)


def test_a_region_that_is_held_is_left_for_later(disturbed: Path):
    """Another runner holds region a: the others are looked at, and the exit code says try again."""
    path = disturbed / "out/project.sqlite"
    with ProjectStore(path).held("a"):
        done = tick(disturbed, date(2024, 8, 4), "--reopen", "0")
    assert done.returncode == 75, done.stdout + done.stderr
    assert "busy" in done.stdout
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM leases").fetchone() == (0,)


def test_events_are_logged_for_machines(tmp_path: Path):
    """A region that cannot be read ends as an error in the log, a JSON object a line, and exit code 1."""
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions/broken.yml").write_text("name: [")
    done = tick(tmp_path, date(2024, 8, 4), "--log", tmp_path / "events.jsonl")
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = (tmp_path / "events.jsonl").read_text("utf-8").splitlines()
    event = json.loads(line)
    assert (event["level"], event["event"], event["region"]) == ("error", "region failed", "broken")
    assert "broken.yml" in event["message"]


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [("--metrics", "regions", "is a folder"), ("--metrics", "file/x", "exists"), ("--out", "file/out", "Not a directory")],
)  # fmt: skip
def test_what_cannot_be_written(tmp_path: Path, option: str, name: str, words: str):
    """A folder where a file is wanted, a file where a folder is: one sentence, exit code 1."""
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions/broken.yml").write_text("name: [")
    (tmp_path / "file").touch()
    app = typer.Typer()
    app.command()(monthly_change)
    call = command(tmp_path, date(2024, 8, 4), option, tmp_path / name)[3:]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}")
    assert words in last


def test_a_folder_without_regions(tmp_path: Path):
    """One sentence, exit code 1."""
    done = tick(tmp_path, date(2024, 8, 4))
    assert done.returncode == 1
    assert "holds no region file" in done.stderr


@pytest.fixture(scope="module")
def beside_last_year(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """June and July compared with those of the year before, of which July has a scene at the second call only."""
    folder, made = tmp_path_factory.mktemp("years"), Country()
    for day in ("2023-06-10", "2024-06-09", "2024-07-09"):
        made.write_scene(folder / "scenes", day, changed=day > "2024")
    write_catalog(folder / "scenes", folder / "all.ndjson")
    write_region(folder / "regions/a.yml", "a", REGIONS["a"], SIDE, folder / "all.ndjson")
    more = ("--since", "2024-06", "--baseline", "year-before")
    screens = [tick(folder, date(2024, 8, 4), *more)]
    made.write_scene(folder / "scenes", "2023-07-10", changed=False)
    write_catalog(folder / "scenes", folder / "all.ndjson")
    screens.append(tick(folder, date(2024, 8, 4), *more))
    assert [one.returncode for one in screens] == [0, 0], screens
    return folder, [one.stdout for one in screens]


def test_the_year_before_is_mapped_and_compared_with(beside_last_year: tuple[Path, list[str]]):
    """Also for the first month; where last year saw nothing the first month takes its place, and it is said."""
    folder, screens = beside_last_year
    assert "no baseline of 2023-07-01_2023-07-31" in screens[0]
    assert "so compared with 2024-06-01_2024-06-30" in screens[0]
    assert "no baseline" not in screens[1]
    store = ProjectStore(folder / "out/project.sqlite")
    assert {run.period: run.details["baseline"] for run in store.runs()} == {
        "2024-06-01/2024-06-30": "2023-06-01/2023-06-30", "2024-07-01/2024-07-31": "2023-07-01/2023-07-31",
    }  # fmt: skip
    facts = json.loads((folder / "out/a/2024-07-01_2024-07-31/change/change.json").read_text())
    assert facts["before"]["period"] == "2023-07-01/2023-07-31"


def test_what_differs_from_last_year_twice_is_confirmed(beside_last_year: tuple[Path, list[str]]):
    """The town of 2024: seen in June beside June, confirmed in July beside July."""
    store = ProjectStore(beside_last_year[0] / "out/project.sqlite")
    confirmed = [alert for alert in store.alerts() if alert.status == "confirmed"]
    assert sum(alert.area_ha for alert in confirmed) > 1
    assert {(a.first_seen, a.last_seen) for a in confirmed} == {("2024-06-30", "2024-07-31")}


@pytest.fixture(scope="module")
def with_gaps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """April and July without a scene, the country changed from June on; a first call with a mistyped month fails.

    The region has a model of its own, whose classes have other names.
    """
    folder, made = tmp_path_factory.mktemp("gaps"), Country()
    for day in ("2024-05-10", "2024-06-09", "2024-08-09"):
        made.write_scene(folder / "scenes", day, changed=day > "2024-06")
    write_region(folder / "regions/a.yml", "a", REGIONS["a"], SIDE, folder / "all.ndjson")
    demo = load_checkpoint(DEMO_MODEL)
    records = [one | {"name": f"My {one['name']}"} for one in demo.spec.legend.to_records()]
    spec = replace(demo.spec, legend=Legend.from_records(records))
    save_checkpoint(folder / "mine.safetensors", demo.network, spec)
    with (folder / "regions/a.yml").open("a") as stream:
        stream.write(f"model: {folder / 'mine.safetensors'}\n")
    calls = [tick(folder, date(2024, 9, 4), "--since", "2014-05")]
    write_catalog(folder / "scenes", folder / "all.ndjson")
    calls.append(tick(folder, date(2024, 9, 4), "--since", "2024-04"))
    return folder, calls


def test_a_month_without_a_scene_is_noted_and_passed_over(with_gaps: tuple[Path, list[Any]]):
    """May is the first month, and July holds nothing up: what June shows is confirmed by August."""
    folder, (_, done) = with_gaps
    assert done.returncode == 0, done.stdout + done.stderr
    for gap in ("2024-04-01_2024-04-30", "2024-07-01_2024-07-31"):
        assert f"a {gap}: nothing seen: No scene of a" in done.stdout
    store = ProjectStore(folder / "out/project.sqlite")
    runs = [run for run in store.runs() if run.period > "2024"]
    told = [(run.period[:7], run.status, run.details["scenes"], run.details.get("baseline")) for run in runs]  # fmt: skip
    may = "2024-05-01/2024-05-31"
    assert told == [
        ("2024-04", "done", 0, None), ("2024-05", "done", 1, None), ("2024-06", "done", 1, may),
        ("2024-07", "done", 0, None), ("2024-08", "done", 1, may),
    ]  # fmt: skip
    assert "No scene of a in 2024-07-01" in runs[3].details["nothing_seen"]
    confirmed = [alert for alert in store.alerts() if alert.status == "confirmed"]
    assert sum(alert.area_ha for alert in confirmed) > 1
    assert {(a.first_seen, a.last_seen) for a in confirmed} == {("2024-06-30", "2024-08-31")}


def test_alerts_name_classes_as_their_region_does(with_gaps: tuple[Path, list[Any]]):
    """GeoJSON and feed have the names of the region's own model, not those of the weights that are the default."""
    out = with_gaps[0] / "out"
    features = json.loads((out / "alerts.geojson").read_text("utf-8"))["features"]
    names = {feature["properties"][side] for feature in features for side in ("from", "to")}
    assert "My Built-up" in names
    assert all(name.startswith("My ") for name in names)
    assert "to My Built-up" in (out / "alerts.xml").read_text("utf-8")


def test_a_mistyped_month_can_be_corrected(with_gaps: tuple[Path, list[Any]]):
    """What failed without any map does not say where a region begins."""
    folder, (failed, done) = with_gaps
    assert failed.returncode == 1
    assert "2014" not in done.stdout
    periods = [run.period[:7] for run in ProjectStore(folder / "out/project.sqlite").runs()]
    assert periods[0] == "2014-05"
    assert periods[1] == "2024-04"


def test_a_region_that_nobody_ever_saw(with_gaps: tuple[Path, list[Any]], tmp_path: Path):
    """One sentence, exit code 1: there is nothing to follow, and more likely a mistake than clouds."""
    write_region(tmp_path / "regions/a.yml", "a", REGIONS["a"], SIDE, with_gaps[0] / "all.ndjson")
    done = tick(tmp_path, date(2024, 4, 10), "--since", "2024-02")
    assert done.returncode == 1
    assert "Nothing of a was seen from 2024-02-01 to 2024-03-31" in done.stderr
    assert "Traceback" not in done.stderr
    runs = ProjectStore(tmp_path / "out/project.sqlite").runs()
    assert [run.status for run in runs] == ["done", "done"]


def test_a_baseline_that_is_not_understood(tmp_path: Path):
    """One sentence, exit code 1, nothing made."""
    write_region(tmp_path / "regions/a.yml", "a", (8, 8), SIDE, tmp_path / "all.ndjson")
    done = tick(tmp_path, date(2024, 8, 4), "--baseline", "last-june")
    assert done.returncode == 1
    assert "'last-june' is not understood" in done.stderr
    assert not (tmp_path / "out").exists()
