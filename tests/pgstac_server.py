"""A real STAC API for tests: PostgreSQL with PostGIS and pgstac, served by stac-fastapi."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

_LIMIT = 60.0  # seconds that any one step may take


def postgres_binaries() -> Path | None:
    """Folder of the newest PostgreSQL programs that have PostGIS, or None."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        version = folder.parent.name
        extension = Path(f"/usr/share/postgresql/{version}/extension/postgis.control")
        if (folder / "initdb").exists() and extension.exists():
            return folder
    return None


@contextlib.contextmanager
def pgstac_server(
    collections: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Serve collections and items on a free local port; gives the API's URL.

    Skips the test only where PostgreSQL or PostGIS is not installed.
    """
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL with PostGIS is not installed (Debian: postgresql-15-postgis-3)")
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pgstac-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        environment = stack.enter_context(_database(binaries, folder))
        _load(folder, environment, collections, items)
        yield stack.enter_context(_api(folder, environment))


@functools.cache
def shared_pgstac(load: Any) -> str:
    """URL of one server for the whole session; load() gives its collections and items."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(pgstac_server(*load()))


@contextlib.contextmanager
def _database(binaries: Path, folder: Path) -> Iterator[dict[str, str]]:
    owner = _owner()
    if owner:
        shutil.chown(folder, **owner)
    data, port = folder / "data", free_port()
    as_owner = {"user": owner["user"], "group": owner["group"], "extra_groups": []} if owner else {}
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    _run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "pgstac",
            "-A",
            "trust",
            "--locale=C",
            "-E",
            "UTF8",
        ],
        folder,
        **as_owner,
    )
    control = [binaries / "pg_ctl", "-D", data, "-w", "-t", "30"]
    try:
        _run([*control, "-l", folder / "log", "-o", options, "start"], folder, **as_owner)
        environment = {
            **os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "pgstac",
            "PGDATABASE": "pgstac", "PGPASSWORD": "unused",
        }  # fmt: skip
        _run([binaries / "createdb", "pgstac"], folder, env=environment)
        yield environment
    finally:
        subprocess.run(
            [*control, "-m", "immediate", "stop"],
            cwd=folder,
            check=False,
            timeout=_LIMIT,
            capture_output=True,
            **as_owner,
        )


def _load(
    folder: Path, environment: dict[str, str], collections: Sequence[Any], items: Sequence[Any]
) -> None:
    pypgstac = [sys.executable, "-m", "pypgstac.pypgstac"]
    _run([*pypgstac, "migrate"], folder, env=environment)
    # As any deployment does: numbers that are not declared sort as text.
    queryables = {"type": "object", "properties": {"eo:cloud_cover": {"type": "number"}}}
    (folder / "queryables.json").write_text(json.dumps(queryables))
    _run([*pypgstac, "load_queryables", folder / "queryables.json"], folder, env=environment)
    for kind, records in (("collections", collections), ("items", items)):
        file = folder / f"{kind}.ndjson"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        _run([*pypgstac, "load", kind, file, "--method", "upsert"], folder, env=environment)


@contextlib.contextmanager
def _api(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory",
        "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "api.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait(url, process, folder / "api.log")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=_LIMIT)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/_mgmt/ping", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"The STAC API did not start: {log.read_text()}")


def _owner() -> dict[str, str] | None:
    """PostgreSQL refuses to run as root: the user to run it as instead."""
    if os.geteuid() != 0:
        return None
    import grp
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return {"user": name, "group": grp.getgrgid(account.pw_gid).gr_name}
    raise RuntimeError("There is no user 'postgres' or 'nobody' to run PostgreSQL as.")


def _run(command: Sequence[Any], folder: Path, **options: Any) -> None:
    """Run a program to its end; its own words go to a file, as a daemon would hold a pipe open."""
    with (folder / "steps.log").open("a+") as log:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            timeout=_LIMIT,
            check=False,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            **options,
        )
        if done.returncode:
            log.seek(0)
            raise RuntimeError(f"{command[0]} failed: {log.read()[-2000:]}")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
