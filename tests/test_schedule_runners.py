"""What calls monthly_change every day: cron, systemd, Kubernetes."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.command import ROOT
from workflows.schedule import cron_line, kubernetes_manifest, systemd_units


def schedule(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call it as `make schedule` does."""
    return subprocess.run(
        [sys.executable, "-m", "workflows.schedule", *map(str, arguments)], cwd=ROOT, text=True,
        capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def test_the_line_of_a_crontab_runs_the_command(tmp_path: Path):
    """A shell that gets the line's command, as cron gives it, calls Python with just these words."""
    seen = tmp_path / "seen"
    call = [
        sys.executable,
        "-c",
        f"import sys; open({str(seen)!r}, 'w').write(sys.argv[1])",
        "50% o'clock",
    ]
    minute, hour, *days, text = cron_line(call, 3).split(" ", 5)
    assert (minute, hour, days) == ("17", "3", ["*", "*", "*"])
    unescaped = text.replace(r"\%", "%")  # as cron does before it hands the line to the shell
    assert text.count("%") == text.count(r"\%") == 1
    changed = unescaped.replace(f"cd {shlex.quote(str(ROOT))}", f"cd {tmp_path}")
    subprocess.run(["/bin/sh", "-c", changed], check=True)
    assert seen.read_text() == "50% o'clock"


def test_a_crontab_gets_the_line_once(tmp_path: Path):
    """Installed twice, beside a line of the user's own: one line of ours, his is kept."""
    table = tmp_path / "table"
    table.write_text("0 1 * * * backup\n")
    program = tmp_path / "crontab"
    program.write_text(f'#!/bin/sh\nif [ "$1" = -l ]; then cat {table}; else cat > {table}; fi\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    path = f"{tmp_path}:{os.environ['PATH']}"
    for hour in (3, 4):
        done = schedule("--install", "--hour", hour, "--", "--min-area", "1", PATH=path)
        assert done.returncode == 0, done.stderr
    lines = table.read_text().splitlines()
    assert lines[0] == "0 1 * * * backup"
    assert len(lines) == 2
    assert lines[1].startswith("17 4 * * *")
    assert "--min-area 1" in lines[1]


def test_systemd_units_make_up_for_a_missed_call(tmp_path: Path):
    """A oneshot service to which 75 is no failure, and a persistent timer; written where systemd looks."""
    done = schedule("--runner", "systemd", "--install", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    service, timer = (
        (tmp_path / f"systemd/user/landcover-monthly-change.{kind}").read_text()
        for kind in ("service", "timer")
    )
    assert "SuccessExitStatus=75" in service
    assert "Persistent=true" in timer
    assert "OnCalendar=*-*-* 03:17:00 UTC" in timer


def test_words_of_a_unit_are_escaped():
    """Blanks, percent signs and dollars in a path reach the program as they are."""
    units = systemd_units(["/my python", "50%", "$HOME"], 3)
    assert 'ExecStart="/my python" "50%%" "$$HOME"' in units["landcover-monthly-change.service"]


def test_systemd_reads_the_words_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A program, its folder and options with blanks, quotes and signs: no complaint, each word back as it was."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd-analyze")
    root = tmp_path / "it's my 50% folder"
    root.mkdir()
    program = root / "python"
    program.symlink_to(sys.executable)
    monkeypatch.setattr("workflows.schedule.ROOT", root)
    call = [str(program), "it's", "", ";", "a\tb", 'say "x"', "c:\\n", "$HOME 5%"]
    for name, text in systemd_units(call, 3).items():
        (tmp_path / name).write_text(text)
    unit = tmp_path / "landcover-monthly-change.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if str(unit) in line] == []
    lines = dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line)
    assert lines["WorkingDirectory"] == str(root).replace("%", "%%")
    told = lines["ExecStart"].replace("%%", "%").replace("$$", "$").replace(r"\t", "\t")
    assert shlex.split(told) == ["/usr/bin/env", *call]


def test_the_cronjob_is_never_run_twice_at_once():
    """A CronJob of batch/v1 that forbids concurrency, in UTC, to which exit code 75 is no failure."""
    job = yaml.safe_load(kubernetes_manifest("registry/landcover:1", 3, ["--min-area", "1"]))
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert (spec["schedule"], spec["timeZone"]) == ("17 3 * * *", "Etc/UTC")
    assert spec["concurrencyPolicy"] == "Forbid"
    inner = spec["jobTemplate"]["spec"]
    assert inner["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [75]
    (container,) = inner["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--min-area", "1"]
    assert inner["template"]["spec"]["restartPolicy"] == "Never"  # as podFailurePolicy demands


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runner", "airflow"], "not one of cron, systemd, kubernetes"),
        (["--runner", "kubernetes", "--install"], "kubectl apply"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], message: str):
    """Another runner; installing into a cluster."""
    done = schedule(*arguments)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_machine_without_cron_is_told(tmp_path: Path):
    """No crontab program: a sentence."""
    done = schedule("--install", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "no crontab" in done.stderr
