"""Many commands, each in a process of its own that may be killed: forked from one that has all loaded."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    """Exit status; below 0 the signal that killed it, -9 where it did not end in time."""
    screen: str
    """What it printed on both streams."""
    seconds: float
    """Of computing, so that a busy machine does not count."""
    peak: int
    """Most memory it held, bytes."""


_AT_ONCE = 2


def landcover_each(commands: Sequence[Sequence[object]], seconds: float = 30) -> list[Outcome]:
    """Run commands of the command line, two at a time, each for at most some seconds by the clock."""
    shares = [commands[start::_AT_ONCE] for start in range(_AT_ONCE)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = list(pool.map(_share, shares, [seconds] * _AT_ONCE))
    return [done[n % _AT_ONCE][n // _AT_ONCE] for n in range(len(commands))]


def _share(commands: Sequence[Sequence[object]], seconds: float) -> list[Outcome]:
    """Run commands one after the other, forked from one process."""
    asked = {"seconds": seconds, "commands": [list(map(str, command)) for command in commands]}
    result = subprocess.run(
        [sys.executable, __file__], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True,
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    return [Outcome(**json.loads(line)) for line in result.stdout.splitlines()]


def _main() -> None:
    import pipeline.cli
    import pipeline.composite
    import pipeline.index
    import pipeline.progress
    import pipeline.region_grid
    import pipeline.search
    import pipeline.vectorize  # noqa: F401 - loaded once for all

    asked = json.load(sys.stdin)
    for command in asked["commands"]:
        print(json.dumps(asdict(_run(command, asked["seconds"]))), flush=True)


def _run(command: list[str], seconds: float) -> Outcome:
    with tempfile.TemporaryFile() as screen:
        child = os.fork()
        if child == 0:
            os.dup2(screen.fileno(), 1)
            os.dup2(screen.fileno(), 2)
            _call(command)
        status, used = _wait(child, time.perf_counter() + seconds)
        screen.seek(0)
        text = screen.read().decode(errors="replace")
        return Outcome(status, text, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def _call(command: list[str]) -> None:
    """Be the command, and end as it ends."""
    from pipeline.cli import main

    sys.argv = ["landcover", *command]
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, the test shall see it
        sys.excepthook(*sys.exc_info())
        status = 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, deadline: float) -> tuple[int, resource.struct_rusage]:
    """Exit status of a process and what it used; it is killed at the deadline."""
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), used
        if time.perf_counter() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


if __name__ == "__main__":
    _main()
