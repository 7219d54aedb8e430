"""What a person sees while work goes on: a live line on a terminal, plain lines in a log."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from pipeline.artifacts import Report


@dataclass(frozen=True)
class Progress:
    """Two ways to say something."""

    announce: Report
    """A line that stays: a stage began, ended, was skipped."""
    report: Report
    """How far the stage is: replaces itself on a terminal, a line of its own in a log."""


@contextlib.contextmanager
def show_progress(console: Console) -> Iterator[Progress]:
    """Yield a Progress that fits the console."""

    def announce(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if not console.is_terminal:
        yield Progress(announce, announce)
        return
    with console.status("starting ...") as status:
        yield Progress(announce, lambda text: status.update(escape(text)))


def run_shown(
    work: Callable[..., dict[str, Any]], *, lasting: bool = False, **arguments: Any
) -> dict[str, Any]:
    """Call one verb with its progress on the screen; lasting: each line stays, as one of a list does."""
    with show_progress(Console()) as progress:
        return work(**arguments, report=progress.announce if lasting else progress.report)
