"""The README does not drift: its commands run, its links and pictures exist."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import ROOT, DemoRun

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.strip().splitlines()
]
BY_OTHERS = {"make run": "the fixture demo_run", "make test": "this very test run"}
"""Commands that run elsewhere in the tests."""
NEEDS_NETWORK = {"make run REGION=nantes"}


def newcomers_copy(folder: Path, demo: DemoRun) -> Path:
    """A folder like a fresh clone after `make run`: all files of this one, and the demo's outputs."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name not in {"outputs", ".git"}:
            (folder / path.name).symlink_to(path)
    # Links to its files, not to its folder: what the commands add is not among what other tests look at.
    shutil.copytree(demo.out, folder / "outputs", copy_function=os.link)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a README command there."""
    return subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )


def test_the_newcomer_sees_two_commands_first() -> None:
    """The first block of commands is the two that do everything."""
    assert COMMANDS[:2] == ["make run", "make test"]


@pytest.mark.skipif(not (ROOT / ".venv/.ready").exists(), reason="make did not set up .venv here")
def test_every_command_runs(demo_run: DemoRun, tmp_path: Path) -> None:
    """Every command of the README, in order, ends well; without network, the one that needs it says so."""
    # Here, or a changed lock file would set up .venv again through the copy's link, with the copy's paths.
    subprocess.run(["make", "setup"], cwd=ROOT, capture_output=True, check=True)
    folder = newcomers_copy(tmp_path / "clone", demo_run)
    for command in COMMANDS:
        if command in BY_OTHERS:
            continue
        result = run(command, folder)
        if command in NEEDS_NETWORK and result.returncode != 0:
            assert "error: " in result.stderr
            assert "earth-search.aws.element84.com" in result.stderr
        else:
            assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


def test_links_and_pictures_exist() -> None:
    """Every relative link leads to a file."""
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in t]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_make_targets_are_documented() -> None:
    """`make help` lists every target of the Makefile."""
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) >= 8
    assert [t for t in targets if not re.search(rf"make {t}\s", shown)] == []


def test_no_machine_is_named() -> None:
    """No file of the repository carries a path of the machine it was written on."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if Path(name).suffix in {".py", ".md", ".yml", ".toml", ".json", ".lock", ""}:
            assert "/work" + "/" not in (ROOT / name).read_text(errors="replace"), name
