"""A page of HTML that needs nothing else: no script, no network; the same contents give the same bytes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from pipeline.artifacts import write_text


def write_page(
    path: Path, template: str, contents: Mapping[str, Any], **filters: Callable[..., str]
) -> int:
    """Fill a template of ours in, write it whole or not at all, and return its size in bytes.

    Templates may use the filters plain, hectares, percent and figure, and those given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": plain, "hectares": hectares, "percent": percent, "figure": figure, **filters,
    }  # fmt: skip
    page = environment.get_template(template).render(contents) + "\n"
    write_text(path, page)
    return len(page.encode())


def plain(text: object, limit: int = 200) -> str:
    """Foreign text made fit to show: control and direction-changing characters out, cut to `limit`."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def hectares(value: float, total: float) -> str:
    """An area for reading, with decimals that suit the total; a small one is never shown as 0."""
    digits = 1 if total >= 100 else 3
    least = 10**-digits
    return f"< {least:g}" if 0 < value < least else f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A share for reading; a small one is never shown as nothing, nor nearly all as all."""
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %"


def figure(value: float | None) -> str:
    """A measure between 0 and 1 for reading; a dash where it is not known."""
    return "\N{EN DASH}" if value is None else f"{value:.3f}"
