"""Houses of a simulated photograph: wings, roofs and what stands on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.aerial_canvas import BUILDING, AerialCanvas, Boxes, Mask, Reals
from landcover.noise import chance
from landcover.quarter_style import QuarterStyle


def build_houses(canvas: AerialCanvas, lots: Boxes, style: QuarterStyle) -> None:
    """Set a house of up to three wings on each plot."""
    if not len(lots):
        return
    rng, colors = canvas.rng, canvas.palette.roof
    wings, owner = _wings(rng, lots, style)
    ids = canvas.polygons(wings.corners)
    where = ids > 0
    tone = rng.uniform(0.85, 1.1, (len(lots), 1))
    color = colors[rng.integers(len(colors), size=len(lots))] * tone
    wing, u, v = canvas.local(where, ids, wings)
    roof = _Roofs(
        owner[wing], u, v, wings.half[wing], rng.uniform(*style.storeys, len(lots))[owner[wing]],
        np.asarray(color[owner[wing]], np.float32),
    )  # fmt: skip
    pitched, open_, ribbed, hipped = rng.random((4, len(lots)))[:, roof.house]
    flat = pitched >= style.pitched
    roof.pitch(~flat, 0.12 if style.plot[0] > 40 else rng.uniform(0.35, 0.75), hipped < 0.5)
    roof.edge_with_parapet(flat, max(0.35, 0.55 * canvas.ground))
    roof.rib(ribbed < style.ribbed)
    roof.equip(flat & (roof.edge > 1.2), int(rng.integers(2**31)))
    roof.leave_open(open_ < style.unfinished, canvas.palette.paving[1] * 0.8)
    canvas.fill(where, np.clip(roof.color, 0, 1), BUILDING, 0.04, 0.05)
    canvas.height[where] = roof.height
    canvas.free &= ~where


def _wings(
    rng: np.random.Generator, lots: Boxes, style: QuarterStyle
) -> tuple[Boxes, NDArray[np.intp]]:
    """Rectangles that houses consist of, and the plot of each."""
    count = len(lots)
    kinds = int(rng.choice([1, 2, 4, count]))  # whole quarters are built to few plans
    kind = rng.integers(kinds, size=count)
    share = (np.array(style.cover) * rng.uniform(0.75, 1.0, (kinds, 2)))[kind]
    if style.cover[0] == 1:
        share[:, 0] = 1.0
    whole = lots.half * share
    shift = rng.uniform((-0.7, -0.7), (0.7, 0.1), (kinds, 2))[kind] * (lots.half - whole)
    body = whole * np.stack([np.ones(count), rng.uniform(0.5, 1.0, kinds)[kind]], 1)
    wings = [lots.moved(shift[:, 0], shift[:, 1] - (whole - body)[:, 1], body)]
    owner = [np.arange(count)]
    for end in (-1, 1):
        has = np.flatnonzero((rng.random(kinds) < style.wings)[kind])
        narrow = rng.uniform(0.22, 0.48, kinds)[kind[has]]
        part = whole[has] * np.stack([narrow, np.ones(len(has))], 1)
        along = shift[has, 0] + end * (whole[has, 0] - part[:, 0])
        wings.append(lots[has].moved(along, shift[has, 1], part))
        owner.append(has)
    return Boxes.joined(wings), np.concatenate(owner)


@dataclass
class _Roofs:
    """Pixels of roofs, in any order; lengths are metres."""

    house: NDArray[np.intp]
    """Number of the house: (pixels,)."""
    u: Reals
    """Place along the wing, from its middle."""
    v: Reals
    """Place across it."""
    half: Reals
    """Half of the wing's length and depth: (pixels, 2)."""
    height: Reals
    """Above the ground."""
    color: Reals
    """Reflectances: (pixels, 3)."""

    def __post_init__(self) -> None:
        self.edge = np.minimum(*self._sides())

    def _sides(self) -> tuple[Reals, Reals]:
        """Distances to the nearer end and to the nearer long side."""
        return self.half[:, 0] - np.abs(self.u), self.half[:, 1] - np.abs(self.v)

    def pitch(self, where: Mask, slope: float, hipped: Mask) -> None:
        """Let roofs rise to a ridge, from all sides if hipped, else from the two longer ones."""
        ends, sides = self._sides()
        gable = np.where(self.half[:, 0] >= self.half[:, 1], sides, ends)
        self.height = self.height + where * slope * np.where(hipped, self.edge, gable)

    def edge_with_parapet(self, where: Mask, width: float) -> None:
        """Put low walls round flat roofs."""
        parapet = where & (self.edge < width)
        self.height[parapet] += 0.8
        self.color[parapet] *= 1.12

    def rib(self, where: Mask) -> None:
        """Stripe roofs of sheets across their length."""
        self.color *= (1 + 0.05 * where * np.sin(self.u * (2 * np.pi / 2.2)))[:, None]

    def equip(self, where: Mask, seed: int) -> None:
        """Stand air conditioners, skylights and stair heads on flat roofs."""
        column, row = np.floor(self.u / 3.2), np.floor(self.v / 3.2)
        draw = chance(column.astype(np.intp), row.astype(np.intp), self.house, seed)
        across, down = np.abs(self.u / 3.2 - column - 0.5), np.abs(self.v / 3.2 - row - 0.5)
        unit = where & (across < 0.3) & (down < 0.26) & (draw < 0.16)
        self.height[unit] += 0.9
        self.color[unit] = 0.3 * self.color[unit] + 0.7 * (0.35 + 3 * draw[unit, None])
        near = (np.floor(self.u / 7) == 0) & (np.floor(self.v / 6) == 0)
        self.height[where & near & (chance(self.house, seed) < 0.3)] += 2.4

    def leave_open(self, where: Mask, color: Reals) -> None:
        """Show rooms under the sky between bare walls, in houses that have no roof yet."""
        wall = (self.edge < 0.5) | (np.mod(self.u, 4.5) < 0.45) | (np.mod(self.v, 5.0) < 0.45)
        self.color[where] = color
        self.color[where & ~wall] *= 0.75
        self.height[where & ~wall] -= 2.6
