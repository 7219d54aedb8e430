"""A log for machines: one JSON object a line, for what collects logs."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from landcover.errors import SettingsError


class EventLog:
    """Where events go; nowhere without a file."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger

    def info(self, event: str, **facts: Any) -> None:
        """Something happened as it should."""
        self._put(logging.INFO, event, facts)

    def failure(self, event: str, **facts: Any) -> None:
        """Something failed."""
        self._put(logging.ERROR, event, facts)

    def _put(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if self._logger:
            self._logger.log(level, "%s", event, extra={"facts": facts})


class _Lines(logging.Formatter):
    """time (UTC), level, event, then the facts by name."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(line | getattr(record, "facts", {}), default=str)


@contextmanager
def event_log(path: Path | None) -> Iterator[EventLog]:
    """Append events to a file, made if missing; None for no log.

    Raises SettingsError where the file cannot be written.
    """
    if path is None:
        yield EventLog()
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"The log {path} cannot be written ({error.strerror}); give another --log."
        ) from error
    handler.setFormatter(_Lines())
    logger = logging.getLogger("landcover.events")
    logger.setLevel(logging.INFO)
    logger.propagate = False  # what others set up for the screen does not get these lines
    logger.addHandler(handler)
    try:
        yield EventLog(logger)
    finally:
        logger.removeHandler(handler)
        handler.close()
