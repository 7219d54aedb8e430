"""The command line: quick help, one sentence for a mistake, an exit code that tells."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import ROOT, landcover

COMMANDS = [
    "run",
    "demo",
    "search",
    "composite",
    "segment",
    "vectorize",
    "summarize",
    "assess",
    "publish",
    "index",
    "train",
    "evaluate",
    "doctor",
    "dataset",
    "model",
]


def refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """One sentence on stderr with all parts, exit code 1, no traceback."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    for part in parts:
        assert part in result.stderr


def test_help_lists_every_command() -> None:
    """The first page names all commands."""
    text = landcover("--help").stdout
    assert all(f" {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    """Each command explains itself."""
    result = landcover(command, "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout


def test_help_shows_units_and_defaults() -> None:
    """Numbers in the help have units, options their defaults."""
    text = " ".join(landcover("run", "--help").stdout.split())
    for part in (
        "in degrees",
        "(default: the region's, else Earth Search v1)",
        "[default: outputs]",
    ):
        assert part in text


def test_help_loads_nothing_heavy() -> None:
    """Help does not wait for torch, rasterio or geopandas (it answers in under a second)."""
    code = (
        "import sys, pipeline.cli\n"
        "heavy = {'torch', 'rasterio', 'geopandas', 'numba', 'pydantic', 'scipy'} & set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr
    started = time.perf_counter()
    landcover("--help")
    assert time.perf_counter() - started < 10  # far above what it takes; a hang would show


def test_no_command_shows_help() -> None:
    """Without a command the help is shown."""
    assert "Usage" in landcover().stdout + landcover().stderr


def test_version() -> None:
    """The version is told."""
    assert landcover("--version").stdout.startswith("landcover 0.")


def test_a_box_west_of_greenwich_is_no_option(tmp_path: Path) -> None:
    """A region that begins with a minus sign is read as a region."""
    result = landcover("run", "-1.5,47,-1.4,47.1", "--catalog", "none.parquet", "--out", tmp_path)
    refused(result, "none.parquet")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "atlantis"], ["no region 'atlantis'"]),
        (["run", "1,2,1,2"], ["is empty"]),
        (["run", "47,95,48,96"], ["swapped"]),
        (["run", "15,48,16,49", "--period", "2024-08-31/2024-06-01"], ["ends before it starts"]),
        (["run", "15,48,16,49", "--model", "none.safetensors"], ["no model none.safetensors"]),
        (["run", "15,48,16,49", "--catalog", "none.parquet"], ["none.parquet"]),
        (["segment", "none.tif"], ["none.tif"]),
        (["vectorize", "none.tif"], ["none.tif"]),
        (["summarize", "none.tif"], ["none.tif"]),
        (["assess", "design", "none.tif"], ["none.tif"]),
        (["assess", "estimate", "none.gpkg"], ["none.gpkg"]),
        (["publish", "nowhere"], ["nowhere holds no finished run"]),
        (["index", "nowhere"], ["nowhere"]),
        (["dataset", "manifest", "none.yml"], ["no dataset file none.yml"]),
        (["dataset", "sheet", "none.yml"], ["no dataset file none.yml"]),
        (["dataset", "simulate", "-o", "x", "--size", "63"], ["The size is 63"]),
        (["train", "none.yml"], ["none.yml"]),
        (["evaluate", "none.safetensors", "none.yml"], ["no model none.safetensors"]),
        (["model", "show", "none.safetensors"], ["no model none.safetensors"]),
        (["composite", "none.json", "15,48,16,49"], ["none.json"]),
        (
            ["composite", "none.json", "15,48,16,49", "--cloud-buffer", "inf"],
            ["'cloud_buffer'", "finite number (found inf)"],
        ),
        (["search", "15,48,16,49", "--bands", "red,red"], ["'red' in --bands", "there twice"]),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    """A mistake is told in one sentence, and nothing is left behind under a final name."""
    refused(landcover(*arguments, cwd=tmp_path), *parts)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "run.json"]
    assert left == []


def test_unknown_option() -> None:
    """An option that does not exist is not taken for a region."""
    result = landcover("run", "15,48,16,49", "--perod", "2024-06-01")
    assert result.returncode != 0


def test_doctor() -> None:
    """On a machine where the tests run, nothing that is needed is missing."""
    result = landcover("doctor")
    assert result.returncode == 0, result.stdout
    assert "MISSING" not in result.stdout
    assert "packages" in result.stdout
