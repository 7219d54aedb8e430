"""Figures for Prometheus."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.metrics_file import write_metrics
from pipeline.project_store import Alert, ProjectStore


def test_the_file_tells_of_each_region(tmp_path: Path):
    """One region that succeeded and then failed once, with alerts; another that never succeeded."""
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    store = ProjectStore(tmp_path / "p.sqlite", lambda: moment)
    store.start("a", "2026-09")
    moment += timedelta(seconds=90)
    store.finish("a", "2026-09", scenes=12)
    for region in ("a", 'b"\n\\'):
        store.start(region, "2026-10")
        store.finish(region, "2026-10", error="no scene")
    alerts = [
        Alert(name, "a", 2, 8, "2026-09-30", "2026-09-30", "candidate", area, None, "{}")
        for name, area in (("x", 1.25), ("y", 2.0))
    ]
    store.put_alerts("a", "2026-09", alerts)
    write_metrics(tmp_path / "landcover.prom", store)
    lines = (tmp_path / "landcover.prom").read_text().splitlines()
    values = [line for line in lines if not line.startswith("#")]
    assert values == [
        'landcover_last_success_timestamp_seconds{region="a"} 1793491290',
        'landcover_run_duration_seconds{region="a"} 90',
        'landcover_run_scenes{region="a"} 12',
        'landcover_changed_hectares{region="a",status="candidate"} 3.25',
        'landcover_failed_periods{region="a"} 1',
        r'landcover_failed_periods{region="b\"\n\\"} 1',
    ]
    assert all(
        re.fullmatch(r"# (HELP|TYPE) landcover_\w+ .+", line)
        for line in lines
        if line not in values
    )
