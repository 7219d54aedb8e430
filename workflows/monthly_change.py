"""Follow many regions month by month: `python -m workflows.monthly_change --regions regions/ --as-of 2026-11-01`.

Each region's first complete month is its baseline (or what --baseline says); every later one is mapped, compared
with it, and what differs is a candidate until it is seen again. Call it as often as a scheduler likes: a month is worked on
once it is over, missed calls are made up month by month, the last months are looked at again for late
scenes, and what is current is skipped. A month without a scene or a clear view is noted and passed over. One region's
failure does not stop the others.

Exit code 0: all is well; 1: a region failed; 75: another runner holds a region, try again later.
"""

import sqlite3
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from landcover.errors import LandcoverError, SettingsError
from landcover.period import Period
from landcover.persistence import Rule
from landcover.schedule import FIRST, PREVIOUS, Baseline, complete_months, due_periods, month
from pipeline.artifacts import Report, fingerprint
from pipeline.change import ChangeSettings
from pipeline.composite import NoViewError
from pipeline.event_log import EventLog, event_log
from pipeline.follow import Chapter, follow, read_alerts, read_names
from pipeline.job import Job, plan_job
from pipeline.metrics_file import write_metrics
from pipeline.model_source import find_model
from pipeline.notify import Names, Webhook, alert_message, write_feed, write_geojson
from pipeline.project_store import BusyError, ProjectStore, Run
from pipeline.region import Region, load_region
from pipeline.run import run
from pipeline.search import NoSceneError

TEMPORARY = 75
"""Exit code for 'try again later' (EX_TEMPFAIL of sysexits.h)."""
_STORE = "project.sqlite"
_EXPECTED = (LandcoverError, OSError, sqlite3.Error)
"""What may go wrong without a fault of ours: input, disk, store."""


@dataclass(frozen=True)
class Watch:
    """What is asked of all regions."""

    out: Path
    as_of: date
    since: date | None
    settle: int
    reopen: int
    baseline: Baseline
    rule: Rule
    settings: ChangeSettings
    options: dict[str, Any]
    """Further settings of a run: catalog, model, workers, scheduler."""
    log: EventLog = field(default_factory=EventLog)


@dataclass(frozen=True)
class Outcome:
    """What came of a region."""

    region: str
    status: str
    """done, busy or failed."""
    periods: int = 0
    """Looked at."""
    confirmed_ha: float = 0.0
    candidate_ha: float = 0.0
    message: str = ""


def monthly_change(
    regions: Annotated[Path, typer.Option(help="Folder of region files (.yml).")] = Path("regions"),
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The present day (default: today, UTC)."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="First month, YYYY-MM (default: the last that is over)."),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            help="What a month is compared with: the first month, the previous one, the same month "
            "the year-before, or one by name, YYYY-MM.",
            metavar="first|previous|year-before|YYYY-MM",
        ),
    ] = FIRST,
    catalog: Annotated[
        str | None, typer.Option(help="STAC API or local index; the region's own otherwise.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A shipped name, a path, or an address of a checkpoint.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder under which REGION/PERIOD/ is made.")] = Path(
        "outputs"
    ),
    settle: Annotated[
        int, typer.Option(min=0, help="Days after its end until a month is worked on.")
    ] = 5,
    reopen: Annotated[
        int, typer.Option(min=0, help="Months that are looked at again for late scenes.")
    ] = 2,
    needed: Annotated[int, typer.Option(help="Observations that must show a change ...")] = 2,
    among: Annotated[int, typer.Option(help="... of so many.")] = 3,
    min_area: Annotated[
        float, typer.Option(min=0, help="Hectares below which a change is left out.")
    ] = 0.1,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Keep the probabilities of all classes; they tell how sure a change is.",
        ),
    ] = False,
    evidence: Annotated[
        str,
        typer.Option(
            help="How the images show a change: change vector, multivariate alteration detection, or not.",
            metavar="cva|mad|none",
        ),
    ] = "cva",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of this machine that segment.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler, tcp://HOST:PORT.")] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Address to which new alerts are posted as JSON.")
    ] = None,
    metrics: Annotated[Path | None, typer.Option(help="File of figures for Prometheus.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="File to which every event is added as a line of JSON.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a region that another runner holds.")
    ] = 0,
) -> None:
    """Map the months that are over, compare them, and keep the alerts."""
    paths = sorted(path for path in regions.glob("*") if path.suffix in {".yml", ".yaml"})
    held = ExitStack()
    try:
        if not paths:
            raise SettingsError(f"{regions} holds no region file (.yml); give a folder of them.")
        if metrics and metrics.is_dir():
            raise SettingsError(f"{metrics} is a folder; give --metrics the name of a file.")
        watch = Watch(
            out, (as_of or datetime.now(UTC)).date(), month(since).start if since else None, settle, reopen,
            Baseline(baseline), Rule(needed, among), ChangeSettings(min_area=min_area, evidence=evidence),
            {"catalog": catalog, "model": find_model(model) if model else None, "workers": workers, "scheduler": scheduler,
             "probabilities": probabilities},
            held.enter_context(event_log(log)),
        )  # fmt: skip
        hook = Webhook(webhook) if webhook else None
        store = ProjectStore(out / _STORE)
        outcomes = [_logged(_watched(path, watch, store, wait), watch.log) for path in paths]
        told = _tell(store, watch, hook)
        if metrics:
            write_metrics(metrics, store)
    except _EXPECTED as error:
        typer.echo(f"error: {_reason(error)}", err=True)
        raise typer.Exit(1) from error
    finally:
        held.close()
    _show(outcomes)
    states = {outcome.status for outcome in outcomes}
    raise typer.Exit(1 if "failed" in states or not told else TEMPORARY if "busy" in states else 0)


def _watched(path: Path, watch: Watch, store: ProjectStore, wait: float) -> Outcome:
    """Follow one region; whatever happens to it stays with it."""
    try:
        region = load_region(str(path))
        _hold(store, region.name, wait)
        with store.held(region.name):
            return _follow(region, watch, store)
    except BusyError as error:
        return Outcome(path.stem, "busy", message=str(error))
    except _EXPECTED as error:
        typer.echo(f"{path.stem}: error: {_reason(error)}", err=True)
        return Outcome(path.stem, "failed", message=_reason(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours in one region must not stop the others
        typer.echo(f"{path.stem}: error: {traceback.format_exc()}", err=True)
        return Outcome(path.stem, "failed", message=repr(error))


def _reason(error: Exception) -> str:
    """One sentence for the user."""
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'}: {error.strerror or error}."
    return f"The store {_STORE}: {error}." if isinstance(error, sqlite3.Error) else str(error)


def _logged(outcome: Outcome, log: EventLog) -> Outcome:
    facts = {name: value for name, value in asdict(outcome).items() if name != "status"}
    (log.failure if outcome.status == "failed" else log.info)(f"region {outcome.status}", **facts)
    return outcome


def _hold(store: ProjectStore, region: str, wait: float) -> None:
    """Wait until a region is free, as long as is allowed."""
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            with store.held(region):
                return
        except BusyError:
            time.sleep(min(1.0, wait))


def _follow(region: Region, watch: Watch, store: ProjectStore) -> Outcome:
    months = _months(region.name, watch, store)
    status = {run.period: run.status for run in store.runs(region.name)}
    due = due_periods(months, status, watch.reopen)
    figures: dict[str, Any] = {}
    for period in due:
        figures = _chapter(region, period, watch, store) or figures
    if months and not _mapped(region.name, store):
        raise NoSceneError(
            f"Nothing of {region.name} was seen from {months[0].start} to {months[-1].end}; check its footprint, "
            "catalogue and filters, give an earlier --since, or wait for scenes."
        )
    return Outcome(
        region.name,
        "done",
        len(due),
        figures.get("confirmed_ha", 0.0),
        figures.get("candidate_ha", 0.0),
    )


def _months(region: str, watch: Watch, store: ProjectStore) -> list[Period]:
    """Months of a region, from its baseline on: the first that was mapped, else what is asked for, else the first tried."""
    mapped, tried = _mapped(region, store), _periods(store.runs(region))
    if mapped or watch.since or tried:
        begin = mapped[0].start if mapped else watch.since or tried[0].start
        return complete_months(begin, watch.as_of, watch.settle)
    earlier = date(watch.as_of.year - 1, watch.as_of.month, 1)
    return complete_months(earlier, watch.as_of, watch.settle)[-1:]


def _mapped(region: str, store: ProjectStore) -> list[Period]:
    """Months of a region that have a map, oldest first; nobody may have seen those between."""
    return _periods(run for run in store.runs(region) if run.inputs)


def _periods(runs: Iterable[Run]) -> list[Period]:
    return [Period.parse(run.period) for run in runs]


def _chapter(region: Region, period: Period, watch: Watch, store: ProjectStore) -> dict[str, Any]:
    """Map one month and compare it with its baseline; nothing where nobody saw the region."""

    def announce(text: str) -> None:
        typer.echo(f"{region.name} {period.folder}: {text}")
        watch.log.info(text, region=region.name, period=str(period))

    job = _job(region, period, watch)
    earlier = [one for one in _mapped(region.name, store) if one.start < period.start]
    store.start(region.name, str(period))
    try:
        record = run(job, announce=announce, report=announce)
        figures: dict[str, Any] = {}
        if baseline := _baseline(region, earlier, period, watch, announce):
            chapter = Chapter(
                region.name, period, _job(region, baseline, watch).folder, baseline, job.folder,
                _last_followed(region, earlier, watch),
            )  # fmt: skip
            figures = follow(
                chapter,
                settings=watch.settings,
                rule=watch.rule,
                announce=announce,
                report=announce,
            )
            figures["baseline"] = str(baseline)
            store.put_alerts(region.name, str(period), read_alerts(chapter.folder))
    except (NoSceneError, NoViewError) as error:
        announce(f"nothing seen: {error}")
        store.finish(region.name, str(period), scenes=0, nothing_seen=str(error))
        return {}
    except Exception as error:
        reason = str(error) or repr(error)
        store.finish(region.name, str(period), error=reason)
        watch.log.failure("period failed", region=region.name, period=str(period), reason=reason)
        raise
    inputs = fingerprint([stage["outputs"] for stage in record["stages"].values()])
    figures["scenes"] = len(record["items"])
    store.finish(region.name, str(period), inputs=inputs, **figures)
    watch.log.info("period done", region=region.name, period=str(period), **figures)
    return figures


def _baseline(
    region: Region, earlier: Sequence[Period], period: Period, watch: Watch, announce: Report
) -> Period | None:
    """The month to compare with, mapped; None where there is none. earlier: the months before that have a map.

    One without a map is mapped now. Where nobody saw the region then, the first month takes its place, or the last
    before where that of before is wanted.
    """
    wanted = watch.baseline.of(period, earlier[0] if earlier else period)
    if wanted is None or wanted in earlier:
        return wanted
    try:
        run(_job(region, wanted, watch, refresh=False), announce=announce, report=announce)
    except (NoSceneError, NoViewError) as error:
        last = watch.baseline.choice == PREVIOUS
        instead = earlier[-1 if last else 0] if earlier else None
        done = f"compared with {instead.folder}" if instead else "nothing to compare with"
        announce(f"no baseline of {wanted.folder}, so {done}: {error}")
        return instead
    return wanted


def _last_followed(region: Region, earlier: Sequence[Period], watch: Watch) -> Path | None:
    """Folder of the last comparison before; None where there is none."""
    folders = (_job(region, one, watch).folder / "change" for one in reversed(earlier))
    return next((folder for folder in folders if (folder / "follow.json").is_file()), None)


def _job(region: Region, period: Period, watch: Watch, *, refresh: bool = True) -> Job:
    return plan_job(region, output=watch.out, period=str(period), refresh=refresh, **watch.options)


def _tell(store: ProjectStore, watch: Watch, hook: Webhook | None) -> bool:
    """Write the feeds, post what is new; whether all was taken."""
    alerts, names = store.alerts(), _names(watch.out)
    write_geojson(watch.out / "alerts.geojson", alerts, names)
    write_feed(watch.out / "alerts.xml", "Land-cover change", alerts, names)
    if hook is None:
        return True
    try:
        for alert in store.untold():
            hook.send(alert_message(alert, names(alert)))
            store.told(alert)
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        return False
    return True


def _names(out: Path) -> Names:
    """Class names for an alert: those of the comparison that told of it last, as each region may have its own model."""
    read = cache(read_names)
    return lambda alert: read(out / alert.region / month(alert.last_seen[:7]).folder / "change")


def _show(outcomes: Sequence[Outcome]) -> None:
    table = Table(title="Regions")
    for name in ("Region", "Status"):
        table.add_column(name)
    for name in ("Months looked at", "Confirmed (ha)", "Candidates (ha)"):
        table.add_column(name, justify="right")
    for one in outcomes:
        table.add_row(
            Text(one.region),
            one.status,
            str(one.periods),
            f"{one.confirmed_ha:,.2f}",
            f"{one.candidate_ha:,.2f}",
        )
    Console().print(table)


def main() -> None:
    """Run from the command line."""
    typer.run(monthly_change)


if __name__ == "__main__":
    main()
