"""A chart of hectares by class over time, as SVG."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from landcover.legend import Legend

_WIDTH, _HEIGHT = 860.0, 460.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 86.0, 200.0, 24.0, 56.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def hectare_chart(labels: Sequence[str], legend: Legend, hectares: NDArray[np.float64]) -> str:
    """Draw a line for each class that occurs, in the legend's colours.

    labels: of the dates. hectares: (dates, 256), by class code. The same input gives the same bytes.
    """
    shown = [c for c in legend.classes if hectares[:, c.code].any()]
    top = _ceiling(max((float(hectares[:, c.code].max()) for c in shown), default=0.0))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(number: int) -> float:
        return _LEFT + (right - _LEFT) * number / max(1, len(labels) - 1)

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * value / top

    root = Element(
        "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img"
    )
    root.set("font-family", "system-ui, sans-serif")
    root.set("font-size", "13")
    SubElement(root, "title").text = "Hectares by class"
    SubElement(root, "rect", width=f"{_WIDTH:g}", height=f"{_HEIGHT:g}", fill="#ffffff")
    for step in range(5):
        value = top * step / 4
        line = {"x1": _LEFT, "x2": right, "y1": y(value), "y2": y(value)}
        SubElement(root, "line", _numbers(line) | {"stroke": "#dcded8"})
        _text(root, _LEFT - 8, y(value) + 4, f"{value:,.10g}" + (" ha" if step == 4 else ""), "end")
    for number, label in enumerate(labels):
        _text(root, x(number), bottom + 22, label, "middle")
    places = _spread([y(float(hectares[-1, c.code])) for c in shown])
    for c, place in zip(shown, places, strict=True):
        points = " ".join(
            f"{x(number):.1f},{y(float(value)):.1f}"
            for number, value in enumerate(hectares[:, c.code])
        )
        SubElement(
            root,
            "polyline",
            {"points": points, "fill": "none", "stroke": c.color, "stroke-width": "2.5"},
        )
        SubElement(
            root,
            "circle",
            _numbers({"cx": right + 14, "cy": place - 4, "r": 5}) | {"fill": c.color},
        )
        _text(root, right + 26, place, c.name, "start")
    indent(root)
    text = "".join(
        ch for ch in tostring(root, encoding="unicode") if ch.isprintable() or ch == "\n"
    )
    return text + "\n"


def _ceiling(value: float) -> float:
    """The next round number from a value on, of which a quarter is round too."""
    if value <= 0:
        return 1.0
    ten = 10.0 ** np.floor(np.log10(value))
    return float(next(step * ten for step in _STEPS if step * ten >= value))


def _spread(places: Sequence[float], apart: float = 17.0) -> list[float]:
    """Places of labels, moved apart so that none hides another, in their order from the top."""
    found, last = dict.fromkeys(range(len(places)), 0.0), -np.inf
    for number in sorted(found, key=lambda n: (places[n], n)):
        last = found[number] = max(places[number], last + apart)
    return list(found.values())


def _numbers(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.1f}" for name, value in values.items()}


def _text(root: Element, x: float, y: float, text: str, anchor: str) -> None:
    element = SubElement(
        root, "text", _numbers({"x": x, "y": y}) | {"text-anchor": anchor, "fill": "#1c2421"}
    )
    element.text = text
