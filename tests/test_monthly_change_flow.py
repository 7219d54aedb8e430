"""The Prefect extra, installed in an environment of its own, completes a scheduled run."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from packaging.requirements import Requirement

from tests.command import ROOT
from tests.month_scenes import Country, write_catalog, write_region

LOCK = ROOT / "requirements-prefect.lock"
NEEDED_OLDER = {"fastapi", "python-dateutil"}
"""What the extra holds back of what requirements.lock has."""


def pins(path: Path) -> dict[str, str]:
    """Version of each package of a lock."""
    lines = [line.split(";")[0].strip() for line in path.read_text().splitlines()]
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.+-]+", line) for line in lines)
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_lock_satisfies_the_extra() -> None:
    """Each requirement of the extra is pinned; what requirements.lock has too is pinned anew only on purpose."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours, theirs = pins(LOCK), pins(ROOT / "requirements.lock")
    for text in project["optional-dependencies"]["prefect"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(ours[requirement.name])
    assert set(ours) & set(theirs) == NEEDED_OLDER
    needed = {r.name: r for r in map(Requirement, project["dependencies"])}
    assert not set(ours) & set(needed), "what the program itself needs stays as it is"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment with the lock; what the program needs comes from that of the tests."""
    folder = tmp_path_factory.mktemp("prefect") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    program = folder / "bin/python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "behind.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    done = pip(
        "download", "--no-deps", "--dest", folder / "wheel", f"prefect=={pins(LOCK)['prefect']}"
    )
    if done.returncode:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip()[-300:]}")
    done = pip("--python", program, "install", "--no-deps", "--no-compile", "-r", LOCK)
    assert done.returncode == 0, done.stderr
    return program


def pip(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The installer of the tests' own environment."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def environment(folder: Path, port: int) -> dict[str, str]:
    """Of processes that keep to a folder, tell nobody, and find this project's copy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return kept | {
        "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "NO_COLOR": "1", "LANDCOVER_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


@contextlib.contextmanager
def running(command: list[object], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to end, and must."""
    with (
        (folder / "process.log").open("ab") as log,
        subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, env=environment(folder, port), cwd=ROOT
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()


def until(ask: Callable[[], Any], seconds: float, folder: Path) -> Any:
    """The first answer that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(requests.RequestException):
            if answer := ask():
                return answer
        time.sleep(0.5)
    raise AssertionError((folder / "process.log").read_text()[-4000:])


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def project(folder: Path) -> None:
    """One small region with a scene in May and one in June."""
    made = Country()
    for day in ("2024-05-10", "2024-06-09"):
        made.write_scene(folder / "scenes", day, changed=day > "2024-06")
    write_catalog(folder / "scenes", folder / "all.ndjson")
    write_region(folder / "regions/a.yml", "a", (8, 8), 72, folder / "all.ndjson")


def test_a_scheduled_run_completes(python: Path, tmp_path: Path, port: int) -> None:
    """A real server orders a run every minute; the first is done, its maps and change are there, its lines are kept."""
    project(tmp_path)
    server = [
        python,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--no-ui",
    ]
    served = [
        python, "-m", "workflows.monthly_change_flow", "--regions", tmp_path / "regions", "--out",
        tmp_path / "out", "--cron", "* * * * *", "--", "--since", "2024-05", "--as-of", "2024-07-10",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{port}/api"

    def ended() -> dict[str, Any] | None:
        asked = {"sort": "EXPECTED_START_TIME_ASC", "limit": 1}
        runs = requests.post(f"{address}/flow_runs/filter", json=asked, timeout=60).json()
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        return runs[0] if runs and runs[0]["state"]["type"] in final else None

    with running(server, tmp_path, port):
        until(lambda: requests.get(f"{address}/health", timeout=30).ok, 300, tmp_path)
        with running(served, tmp_path, port):
            run = until(ended, 900, tmp_path)
        asked = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
        lines = [
            log["message"]
            for log in requests.post(f"{address}/logs/filter", json=asked, timeout=60).json()
        ]
    assert run["state"]["type"] == "COMPLETED", lines
    assert run["auto_scheduled"]
    assert run["state"]["name"] == "Completed"
    assert any("a 2024-06-01_2024-06-30: segment" in line for line in lines)
    assert (tmp_path / "out/a/2024-06-01_2024-06-30/change/alerts.geojson").is_file()
    assert left_over(tmp_path) == []


def left_over(folder: Path) -> list[str]:
    """Commands of processes that still work in a folder."""
    time.sleep(1)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words:
            found.append(words)
    return found


@pytest.mark.parametrize(
    ("address", "more", "words"),
    [
        ("", (), "No Prefect server is named; start one by prefect server start"),
        ("http://127.0.0.1:9/api", (), "The Prefect server at http://127.0.0.1:9/api does not answer"),
        ("http://127.0.0.1:9/api", ("--cron", "at noon"), "'at noon' is no schedule"),
    ],
)  # fmt: skip
def test_what_cannot_be_served(
    python: Path, tmp_path: Path, address: str, more: tuple[str, ...], words: str
) -> None:
    """One sentence, exit code 1."""
    settings = environment(tmp_path, 9) | {"PREFECT_API_URL": address}
    if not address:
        del settings["PREFECT_API_URL"]
    done = subprocess.run(
        [python, "-m", "workflows.monthly_change_flow", *more], env=settings, cwd=ROOT, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
