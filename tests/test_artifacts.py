"""Files are written whole or not at all, and made again only when their inputs change."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from landcover.errors import SettingsError
from pipeline.artifacts import (
    Ledger,
    atomic_path,
    check_distinct,
    fingerprint,
    only_run,
    remove_partials,
    scratch_path,
    write_json,
)
from tests.command import ROOT


@pytest.mark.parametrize("name", ["a.tif", "a[1].tif", "a*.tif"])
def test_a_failed_write_leaves_nothing(tmp_path: Path, name: str) -> None:
    """When the body fails, neither the file nor a temporary one is left, whatever its name."""
    with pytest.raises(RuntimeError), atomic_path(tmp_path / name) as partial:
        partial.write_text("half")
        partial.with_name(partial.name + ".plain.tif").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    """When the body fails, what was there before is still there."""
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as partial:
        partial.write_text("new")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"


def test_nothing_under_the_final_name_until_done(tmp_path: Path) -> None:
    """While the body runs only a temporary name exists; it keeps the ending."""
    with atomic_path(tmp_path / "a.gpkg") as partial:
        partial.write_text("new")
        assert partial.suffix == ".gpkg"
        assert not (tmp_path / "a.gpkg").exists()
    assert (tmp_path / "a.gpkg").read_text() == "new"


@pytest.mark.parametrize("gives", [atomic_path, scratch_path])
def test_what_a_killed_process_left_for_a_path_goes(
    tmp_path: Path, gives: Callable[..., Any]
) -> None:
    """Also what it was writing it from; that of a living process and of another path stays."""
    dead, alive = 2**22 + 1, os.getppid()
    names = (f".partial-{dead}-a.tif", f".partial-{dead}-.partial-{dead}-a.tif.tiles")
    others = {f".partial-{alive}-a.tif", f".partial-{dead}-b.tif"}
    for name in (*names, *others):
        (tmp_path / name).write_text("half")
    with gives(tmp_path / "a.tif") as partial:
        partial.write_text("new")
    assert {path.name for path in tmp_path.iterdir()} - {"a.tif"} == others
    assert (tmp_path / "a.tif").exists() == (gives is atomic_path)


def test_files_that_are_given_and_made_are_told_apart(tmp_path: Path) -> None:
    """One file under two names, a link to it, or two outputs of one name: both are named."""
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    check_distinct(
        {"one": tmp_path / "a", "two": tmp_path / "a", "none": None}, {"b": tmp_path / "b"}
    )
    for name in ("a", "x/../a", "link"):
        with pytest.raises(
            SettingsError, match="is both the map and the table; they cannot be one"
        ):
            check_distinct({"the map": str(tmp_path / "a")}, {"the table": tmp_path / name})
    with pytest.raises(SettingsError, match="is both b and c"):
        check_distinct({}, {"b": tmp_path / "b", "c": tmp_path / "b"})


def test_partials_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    """What a kill left behind goes; files of the user stay."""
    (tmp_path / ".partial-1-a.tif").write_text("half")
    (tmp_path / "mine.txt").write_text("mine")
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_fingerprint() -> None:
    """Equal values have equal fingerprints whatever the order of their keys."""
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second run in the same folder is refused while the first is at work, and only then."""
    code = f"from pathlib import Path; from pipeline.artifacts import only_run\nwith only_run(Path({str(tmp_path)!r})): print('held')"
    with only_run(tmp_path):
        second = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "Another run is at work" in second.stderr
    third = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert third.stdout == "held\n"


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"stages": 3}'])
def test_an_unreadable_ledger_is_empty(tmp_path: Path, text: str) -> None:
    """Whatever is in run.json, the ledger opens."""
    (tmp_path / "run.json").write_text(text)
    assert Ledger(tmp_path / "run.json").stages == {}


class Bench:
    """A ledger with one stage that counts how often it works."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "out.txt"
        self.lines: list[str] = []
        self.ledger = Ledger(folder / "run.json", self.lines.append)
        self.times = 0

    def stage(self, inputs: Any, text: str = "made") -> dict[str, str]:
        """Run the stage."""

        def work() -> dict[str, Any]:
            self.times += 1
            write_json(self.output, text)
            return {"text": text}

        return self.ledger.stage("make", inputs, [self.output], work)


def test_a_current_stage_is_skipped(tmp_path: Path) -> None:
    """The same inputs are not worked on twice, also by a new process, and it says so."""
    first = Bench(tmp_path)
    hashes = first.stage([1])
    again = Bench(tmp_path)
    assert again.stage([1]) == hashes
    assert (first.times, again.times) == (1, 0)
    assert again.lines == ["make: current, skipped"]


@pytest.mark.parametrize("change", ["inputs", "missing", "ledger"])
def test_a_stage_is_redone(tmp_path: Path, change: str) -> None:
    """New inputs, a missing output or an unreadable ledger mean work."""
    Bench(tmp_path).stage([1])
    if change == "missing":
        (tmp_path / "out.txt").unlink()
    if change == "ledger":
        (tmp_path / "run.json").write_text("{")
    again = Bench(tmp_path)
    again.stage([2 if change == "inputs" else 1])
    assert again.times == 1


def test_an_edited_output_is_kept_aside(tmp_path: Path) -> None:
    """What a person changed is not lost when the stage is made again."""
    Bench(tmp_path).stage([1])
    (tmp_path / "out.txt").write_text("edited by hand")
    again = Bench(tmp_path)
    again.stage([1])
    assert (tmp_path / "out.txt.changed").read_text() == "edited by hand"
    assert json.loads((tmp_path / "out.txt").read_text()) == "made"
    assert any("kept as out.txt.changed" in line for line in again.lines)


def test_every_edit_is_kept_aside(tmp_path: Path) -> None:
    """A second edit does not take the place of the first."""
    for inputs, text in (([1], "first"), ([2], "second"), ([3], "third")):
        Bench(tmp_path).stage(inputs)
        (tmp_path / "out.txt").write_text(text)
    again = Bench(tmp_path)
    again.stage([4])
    assert (tmp_path / "out.txt.changed").read_text() == "first"
    assert (tmp_path / "out.txt.changed-2").read_text() == "second"
    assert (tmp_path / "out.txt.changed-3").read_text() == "third"
    assert any("kept as out.txt.changed-3" in line for line in again.lines)


def test_what_the_stage_did_not_make_is_kept_aside(tmp_path: Path) -> None:
    """A stage that makes one more file than before does not write over one that was there."""
    Bench(tmp_path).stage([1])
    other = Bench(tmp_path)
    other.output = tmp_path / "more.txt"
    other.output.write_text("mine")
    other.stage([2])
    assert (tmp_path / "more.txt.changed").read_text() == "mine"
    assert json.loads(other.output.read_text()) == "made"


def test_the_record_says_time_and_memory(tmp_path: Path) -> None:
    """Each stage leaves its time, peak memory and details in run.json."""
    Bench(tmp_path).stage([1])
    stage = json.loads((tmp_path / "run.json").read_text())["stages"]["make"]
    assert stage["seconds"] >= 0
    assert stage["peak_memory_mb"] > 10
    assert stage["details"] == {"text": "made"}


def test_a_failed_stage_is_not_recorded(tmp_path: Path) -> None:
    """A stage that raised is done again next time."""
    bench = Bench(tmp_path)

    def fail() -> dict[str, Any]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        bench.ledger.stage("make", [1], [bench.output], fail)
    assert "make" not in bench.ledger.stages


@pytest.mark.parametrize(("touched", "complete"), [(False, True), (True, False)])
def test_a_failed_stage_leaves_a_finished_run_finished(
    tmp_path: Path, touched: bool, complete: bool
) -> None:
    """What was made stays what it was, and so does the record, unless the stage began to change it."""
    Bench(tmp_path).stage([1])
    bench = Bench(tmp_path)
    bench.ledger.save(complete=True)
    before = (tmp_path / "run.json").read_bytes()

    def fail() -> dict[str, Any]:
        assert json.loads((tmp_path / "run.json").read_text())["complete"] is False
        if touched:
            bench.output.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        bench.ledger.stage("make", [1], [bench.output], fail, anew=True)
    assert ((tmp_path / "run.json").read_bytes() == before) is complete
    assert json.loads((tmp_path / "run.json").read_text())["complete"] is complete


def test_a_stage_is_done_anew_where_that_is_asked(tmp_path: Path) -> None:
    """Though nothing changed."""
    Bench(tmp_path).stage([1])
    again = Bench(tmp_path)
    again.ledger.stage("make", [1], [again.output], lambda: {"text": "anew"}, anew=True)
    assert again.ledger.stages["make"]["details"] == {"text": "anew"}
