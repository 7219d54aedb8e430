"""The command line as a user calls it: a process of its own."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class DemoRun:
    """A finished `landcover demo`."""

    out: Path
    """The folder given as --out."""
    folder: Path
    """Where its artefacts are."""
    screen: str
    """What it printed."""
    seconds: float
    """How long it took."""


def landcover(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False, env=environment
    )


def run_demo(out: Path, *options: object) -> DemoRun:
    """Run the demo and say where things are."""
    started = time.perf_counter()
    result = landcover("demo", "--out", out, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder,) = (path.parent for path in out.glob("demo*/*/run.json"))
    return DemoRun(out, folder, result.stdout, time.perf_counter() - started)
