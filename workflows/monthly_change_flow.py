"""The same call as a flow of Prefect: `python -m workflows.monthly_change_flow --regions regions/ --out outputs`.

Registers the deployment monthly_change/daily with the server that PREFECT_API_URL names, and does its runs until
it is ended. Each run is a process that calls `workflows.monthly_change` as cron would; its lines go to the run's
log. Exit code 0 completes the run, 75 (another runner holds a region) too, under the name Busy; any other fails it.
Needs the extra `prefect`: see requirements-prefect.lock.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import flow, get_client
from prefect.logging import get_run_logger
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed

from landcover.errors import SettingsError
from workflows.schedule import ROOT, command

_BUSY = 75
"""Exit code of monthly_change where another runner holds a region."""


@flow(name="monthly_change")  # type: ignore[untyped-decorator]  # mypy runs where it is not installed
def monthly_change_flow(regions: str, out: str, more: list[str]) -> Any:
    """Call monthly_change once; the state of the run is what its exit code says.

    regions, out: folders. more: further options of monthly_change.
    """
    code = _called(command(Path(regions), Path(out), more), get_run_logger().info)
    if code == _BUSY:
        return Completed(
            name="Busy", message="Another runner holds a region; the next run sees to it."
        )
    if code:
        return Failed(
            message=f"monthly_change ended with exit code {code}; its lines are in the log."
        )
    return Completed(message="All regions are up to date.")


def _called(call: list[str], log: Callable[[str], None]) -> int:
    """Exit code of a command whose lines are logged; it ends with this process where that is told to."""
    with subprocess.Popen(  # noqa: S603 - our own program; the words go to no shell
        call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            for line in process.stdout or ():
                log(line.rstrip())
            return process.wait()
        finally:
            if process.poll() is None:
                process.terminate()


def serve(
    regions: Annotated[Path, typer.Option(help="Folder of region files.")] = Path("regions"),
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("outputs"),
    cron: Annotated[str, typer.Option(help="When, as a crontab says it; UTC.")] = "17 3 * * *",
    more: Annotated[
        list[str] | None, typer.Argument(help="Further options of monthly_change, after --.")
    ] = None,
) -> None:
    """Do the scheduled runs of monthly_change that a Prefect server orders, one at a time."""
    try:
        _serve(regions.absolute(), out.absolute(), cron, more or [])
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _serve(regions: Path, out: Path, cron: str, more: list[str]) -> None:
    address = PREFECT_API_URL.value()
    if not address:  # the server that Prefect starts by itself without one orders no scheduled runs
        raise SettingsError(
            "No Prefect server is named; start one by prefect server start, and set PREFECT_API_URL to its "
            "address (http://127.0.0.1:4200/api)."
        )
    try:
        schedule = Cron(cron, timezone="UTC")
    except ValueError as error:
        raise SettingsError(
            f"'{cron}' is no schedule; write it as a crontab does, like 17 3 * * *."
        ) from error
    with get_client(sync_client=True) as client:
        if failure := client.api_healthcheck():
            raise SettingsError(f"The Prefect server at {address} does not answer: {failure}.")
    parameters = {"regions": str(regions), "out": str(out), "more": more}
    monthly_change_flow.serve(name="daily", schedule=schedule, limit=1, parameters=parameters)


if __name__ == "__main__":
    typer.run(serve)
