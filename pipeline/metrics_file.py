"""Figures of the last runs for Prometheus, as a file of its node exporter's textfile collector."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pipeline.artifacts import write_text
from pipeline.project_store import ProjectStore, Run

_HELP = {
    "landcover_last_success_timestamp_seconds": "When a run of the region last ended well.",
    "landcover_run_duration_seconds": "How long the last run of the region took.",
    "landcover_run_scenes": "Scenes that the last run of the region used.",
    "landcover_changed_hectares": "Hectares of the region's alerts, by status.",
    "landcover_failed_periods": "Periods of the region whose last run failed.",
}

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def write_metrics(path: Path, store: ProjectStore) -> None:
    """Write the figures of a store; Prometheus text format 0.0.4, whole or not at all."""
    lines = []
    samples = _samples(store)
    for name, about in _HELP.items():
        lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
        lines += [
            f"{name}{{{_labels(labels)}}} {value:g}" if value < 1e6 else f"{name}{{{_labels(labels)}}} {value:.0f}"
            for labels, value in sorted(samples[name].items())
        ]  # fmt: skip
    write_text(path, "\n".join(lines) + "\n")


def _samples(store: ProjectStore) -> Samples:
    found: Samples = defaultdict(dict)
    by_region: dict[str, list[Run]] = defaultdict(list)
    for run in store.runs():
        by_region[run.region].append(run)
    for region, runs in by_region.items():
        of_region = (("region", region),)
        found["landcover_failed_periods"][of_region] = sum(run.status == "failed" for run in runs)
        done = [run for run in runs if run.status == "done" and run.finished]
        if not done:
            continue
        last = max(done, key=lambda run: (str(run.finished), run.period))
        end, begin = (
            datetime.fromisoformat(str(t)).timestamp() for t in (last.finished, last.started)
        )
        found["landcover_last_success_timestamp_seconds"][of_region] = end
        found["landcover_run_duration_seconds"][of_region] = end - begin
        found["landcover_run_scenes"][of_region] = float(last.details.get("scenes", 0))
    for alert in store.alerts():
        labels = (("region", alert.region), ("status", alert.status))
        hectares = found["landcover_changed_hectares"]
        hectares[labels] = hectares.get(labels, 0.0) + alert.area_ha
    return found


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
