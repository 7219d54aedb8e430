"""Many regions, one after another: one that fails does not stop the others."""

import os
import subprocess
import sys
from pathlib import Path

from tests.command import ROOT, DemoRun


def refresh(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the workflow as a scheduler does."""
    command = [sys.executable, "-m", "workflows.refresh_map", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=environment, timeout=300
    )


def test_one_failure_does_not_stop_the_others(demo_run: DemoRun, tmp_path: Path) -> None:
    """Two good regions are mapped though one between them is broken; the exit code and a line tell."""
    (catalog,) = demo_run.out.glob("demo-scenes-*/catalog.ndjson")
    places = {
        "a": "[14.62, 48.40, 14.64, 48.41]",
        "b": "[14.64, 48.40, 14.64, 48.41]",
        "c": "[14.64, 48.40, 14.66, 48.41]",
    }
    (tmp_path / "regions").mkdir()
    for name, footprint in places.items():
        text = f"footprint: {footprint}\nperiod: 2024-06-01/2024-08-31\ncatalog: {catalog}\n"
        (tmp_path / f"regions/{name}.yml").write_text(text)
    result = refresh(tmp_path, "--regions", "regions", "--out", "out")
    assert result.returncode == 1, result.stderr
    assert "2 of 3 regions mapped; failed: b" in result.stdout
    assert "b: error: " in result.stderr
    assert "Traceback" not in result.stderr
    made = {path.parent.parent.name for path in tmp_path.glob("out/*/*/landcover.gpkg")}
    assert made == {"a", "c"}
    (tmp_path / "regions/b.yml").unlink()
    again = refresh(tmp_path, "--regions", "regions", "--out", "out")
    assert again.returncode == 0
    assert "composite ..." not in again.stdout  # asked again, same scenes: nothing is made again


def test_a_folder_without_regions(tmp_path: Path) -> None:
    """No region at all is an error, in one sentence."""
    result = refresh(tmp_path, "--regions", "nowhere")
    assert result.returncode == 1
    assert result.stderr.startswith("error: nowhere holds no region file")


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    """A name that is neither shipped nor a file ends the call before any region is mapped."""
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions/a.yml").touch()
    result = refresh(tmp_path, "--regions", "regions", "--model", "sentinel9")
    assert result.returncode == 1
    assert result.stderr.startswith("error: There is no model 'sentinel9': the shipped ones are")
