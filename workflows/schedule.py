"""Print or install what calls `workflows.monthly_change` regularly: `python -m workflows.schedule --runner cron`.

Runners: cron (a line of a crontab), systemd (a service and a timer of the user), kubernetes (a CronJob). Each
calls the same command once a day; what is not due is skipped, and a call that finds another one at work ends with
exit code 75 and is no failure.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from landcover.errors import SettingsError

ROOT = Path(__file__).parent.parent
RUNNERS = ("cron", "systemd", "kubernetes")
_MARK = "# landcover monthly_change"
_UNIT = "landcover-monthly-change"


def command(regions: Path, out: Path, more: list[str]) -> list[str]:
    """The call, with absolute paths."""
    return [
        sys.executable, "-m", "workflows.monthly_change", "--regions", str(regions.absolute()),
        "--out", str(out.absolute()), *more,
    ]  # fmt: skip


def cron_line(call: list[str], hour: int) -> str:
    """A line of a crontab: every day, output appended to a log. cron reads % as the end of a line."""
    text = f"cd {shlex.quote(str(ROOT))} && {shlex.join(call)} >> {_UNIT}.log 2>&1".replace(
        "%", r"\%"
    )
    return f"17 {hour} * * * {text} {_MARK}"


def systemd_units(call: list[str], hour: int) -> dict[str, str]:
    """A service and its timer, by file name; a timer that was missed while the machine slept runs once."""
    odd = re.search(r"[\"'\\$]", call[0])  # systemd takes no such program, but env does
    words = " ".join(_quoted(word) for word in (["/usr/bin/env", *call] if odd else call))
    service = f"""[Unit]
Description=Land cover of many regions, month by month
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={str(ROOT).replace("%", "%%")}
ExecStart={words}
SuccessExitStatus=75
"""
    timer = f"""[Unit]
Description=Daily call of {_UNIT}

[Timer]
OnCalendar=*-*-* {hour:02}:17:00 UTC
RandomizedDelaySec=600
Persistent=true

[Install]
WantedBy=timers.target
"""
    return {f"{_UNIT}.service": service, f"{_UNIT}.timer": timer}


def _quoted(word: str) -> str:
    """A word of a command in a systemd unit: % and $ are doubled, quotes, backslashes, and ends of lines escaped.

    A folder is written otherwise: its line is taken as it is, but for %.
    """
    plain = word
    for sign, written in {"\\": r"\\", '"': r"\"", "%": "%%", "$": "$$", "\n": r"\n"}.items():
        plain = plain.replace(sign, written)
    return word if plain == word and re.fullmatch(r"[^\s';]+", word) else f'"{plain}"'


def kubernetes_manifest(image: str, hour: int, more: list[str]) -> str:
    """A CronJob with one volume for regions and results; never two at once."""
    args = [
        "-m",
        "workflows.monthly_change",
        "--regions",
        "/data/regions",
        "--out",
        "/data/outputs",
        *more,
    ]
    container = {
        "name": "monthly-change", "image": image, "command": ["python"], "args": args,
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
        "envFrom": [{"secretRef": {"name": "landcover", "optional": True}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "landcover"}}],
    }
    later = {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}]}
    job = {"backoffLimit": 2, "podFailurePolicy": later, "template": {"spec": pod}}
    return yaml.safe_dump(
        {
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": _UNIT},
            "spec": {
                "schedule": f"17 {hour} * * *", "timeZone": "Etc/UTC", "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": 43200, "jobTemplate": {"spec": job},
            },
        },
        sort_keys=False,
    )  # fmt: skip


def schedule(
    runner: Annotated[str, typer.Option(help=f"One of {', '.join(RUNNERS)}.")] = "cron",
    regions: Annotated[Path, typer.Option(help="Folder of region files.")] = Path("regions"),
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("outputs"),
    hour: Annotated[
        int, typer.Option(min=0, max=23, help="Hour of the day; of UTC but for cron.")
    ] = 3,
    image: Annotated[
        str, typer.Option(help="Container image, for kubernetes.")
    ] = "landcover:latest",
    install: Annotated[
        bool, typer.Option("--install", help="Install it for this user instead.")
    ] = False,
    more: Annotated[
        list[str] | None, typer.Argument(help="Further options of monthly_change, after --.")
    ] = None,
) -> None:
    """Print what calls monthly_change every day, or install it (cron, systemd)."""
    try:
        _schedule(
            runner, command(regions, out, more or []), hour, image, more or [], install=install
        )
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _schedule(
    runner: str, call: list[str], hour: int, image: str, more: list[str], *, install: bool
) -> None:
    if runner not in RUNNERS:
        raise SettingsError(f"The runner '{runner}' is not one of {', '.join(RUNNERS)}.")
    if runner == "kubernetes" and install:
        raise SettingsError(
            "A CronJob is installed by kubectl: pipe this text into kubectl apply -f -."
        )
    if runner == "kubernetes":
        typer.echo(kubernetes_manifest(image, hour, more), nl=False)
    elif runner == "systemd":
        _systemd(call, hour, install=install)
    elif install:
        _install_cron(call, hour)
    else:
        typer.echo(cron_line(call, hour))


def _install_cron(call: list[str], hour: int) -> None:
    """Put the line into the user's crontab, in the place of the one that is there."""
    try:
        shown = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)  # noqa: S607 - the system's
        kept = [line for line in shown.stdout.splitlines() if not line.endswith(_MARK)]
        text = "\n".join([*kept, cron_line(call, hour)]) + "\n"
        subprocess.run(["crontab", "-"], input=text, text=True, check=True, capture_output=True)  # noqa: S607 - the system's
    except FileNotFoundError as error:
        raise SettingsError(
            "This machine has no crontab; use --runner systemd, or install cron."
        ) from error
    except subprocess.CalledProcessError as error:
        raise SettingsError(f"crontab refused the line: {error.stderr.strip()}.") from error
    typer.echo(f"installed: {cron_line(call, hour)}")


def _systemd(call: list[str], hour: int, *, install: bool) -> None:
    units = systemd_units(call, hour)
    if not install:
        for name, text in units.items():
            typer.echo(f"# {name}\n{text}")
        return
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    folder = Path(base) / "systemd" / "user"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in units.items():
        (folder / name).write_text(text, encoding="utf-8")
    typer.echo(
        f"installed in {folder}; start it by: systemctl --user daemon-reload && systemctl --user enable --now "
        f"{_UNIT}.timer"
    )


if __name__ == "__main__":
    typer.run(schedule)
