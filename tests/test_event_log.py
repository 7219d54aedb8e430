"""The log for machines: a JSON object a line, also of hostile text."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from landcover.errors import SettingsError
from pipeline.event_log import event_log


def test_events_are_lines(tmp_path: Path) -> None:
    """Two events are two objects with time in UTC, level, event and facts; a later log goes on."""
    path = tmp_path / "logs/events.jsonl"
    with event_log(path) as log:
        log.info("mapped", region="nantes", hectares=1.5)
    with event_log(path) as log:
        log.failure('no\n"scene" %s', period="2026-04")
    first, second = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert datetime.fromisoformat(first.pop("time")).utcoffset() == timedelta(0)
    assert first == {"level": "info", "event": "mapped", "region": "nantes", "hectares": 1.5}
    assert (second["level"], second["event"]) == ("error", 'no\n"scene" %s')
    assert second["period"] == "2026-04"


def test_no_file_no_log(tmp_path: Path) -> None:
    """Without a path nothing is written."""
    with event_log(None) as log:
        log.info("mapped")
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder in its place is refused in a sentence."""
    with pytest.raises(SettingsError, match="cannot be written"), event_log(tmp_path):
        pass
