"""Flows between classes, laid out for a drawing: bars before and after, bands between them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landcover.legend import Legend

_WIDTH, _HEIGHT, _BAR, _GAP = 720, 380, 16, 8
_LEAST = 1.0
"""A band thinner than that is not drawn."""


@dataclass(frozen=True)
class FlowBar:
    """A class on one side."""

    x: float
    y: float
    height: float
    color: str
    name: str
    area_ha: float
    side: str
    """before or after."""


@dataclass(frozen=True)
class FlowBand:
    """What became of a class; `path` is in the terms of SVG."""

    path: str
    color: str
    names: str
    area_ha: float


@dataclass(frozen=True)
class FlowChart:
    """Everything that is drawn, in a frame of width x height."""

    bars: Sequence[FlowBar]
    bands: Sequence[FlowBand]
    width: int
    height: int
    bar: int
    total_ha: float


def flow_chart(rows: Sequence[Mapping[str, Any]], legend: Legend) -> FlowChart | None:
    """Counted changes of `transition_rows` as a Sankey diagram; None where there are none."""
    flows = [(r["from_code"], r["to_code"], r["counted_ha"]) for r in rows if r["counted_ha"] > 0]
    if not flows:
        return None
    total = math.fsum(flow[2] for flow in flows)
    columns = [[c for c in legend.codes if any(f[side] == c for f in flows)] for side in (0, 1)]
    scale = (_HEIGHT - _GAP * max(map(len, columns))) / total
    bars: list[FlowBar] = []
    tops: list[dict[int, float]] = [{}, {}]
    for side, column in enumerate(columns):
        top = 0.0
        for code in column:
            area = math.fsum(f[2] for f in flows if f[side] == code)
            x, word = (0, "before") if side == 0 else (_WIDTH - _BAR, "after")
            one = legend[code]
            bars.append(FlowBar(x, round(top, 1), round(max(area * scale, 0.5), 1), one.color, one.name, area, word))  # fmt: skip
            tops[side][code] = top
            top += area * scale + _GAP
    bands = []
    for old, new, area in sorted(flows, key=lambda f: (columns[0].index(f[0]), columns[1].index(f[1]))):  # fmt: skip
        thick = area * scale
        if thick >= _LEAST:
            path = _path(tops[0][old], tops[1][new], thick)
            names = f"{legend[old].name} to {legend[new].name}"
            bands.append(FlowBand(path, legend[old].color, names, area))
        tops[0][old] += thick
        tops[1][new] += thick
    return FlowChart(bars, bands, _WIDTH, _HEIGHT, _BAR, total)


def _path(left: float, right: float, thick: float) -> str:
    start, end, middle = _BAR, _WIDTH - _BAR, _WIDTH / 2
    return (
        f"M{start} {left:.1f}C{middle:.0f} {left:.1f} {middle:.0f} {right:.1f} {end} {right:.1f}"
        f"V{right + thick:.1f}C{middle:.0f} {right + thick:.1f} {middle:.0f} {left + thick:.1f} "
        f"{start} {left + thick:.1f}Z"
    )
