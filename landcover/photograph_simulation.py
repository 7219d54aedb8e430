"""Simulated photographs from the air, at decimetres a pixel, with the class of every pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.aerial_camera import aerial_camera
from landcover.aerial_canvas import ROAD, WATER, AerialCanvas, Mask
from landcover.aerial_palette import aerial_palette
from landcover.built_quarter import built_quarter
from landcover.main_road import lay_road, main_road, ramps, roundabout, tracks
from landcover.open_ground import bare_ground, fields, park, scrub, water, woods
from landcover.quarter_style import STYLES

FINEST, COARSEST = 0.3, 1.8
"""Metres of a pixel, at least and at most."""


@dataclass(frozen=True)
class SceneKind:
    """What occurs in one kind of scene."""

    weight: float
    """How often it is drawn, against the others."""
    uses: tuple[str, ...]
    """Uses of the land between main roads, drawn with equal chances."""
    roads: tuple[int, int]
    """Fewest and most main roads."""
    lanes: tuple[int, int]
    """Fewest and most lanes of one direction."""
    water: tuple[tuple[str, float], ...] = (("lagoon", 0.15),)
    """Kinds of water and the chance of each."""


SCENES = {
    "villas": SceneKind(2.4, ("villas", "villas", "villas", "villas", "terraces", "park", "desert"), (0, 2), (1, 3)),
    "suburb": SceneKind(1.3, ("suburb", "suburb", "terraces", "park"), (0, 2), (1, 2)),
    "industry": SceneKind(1.5, ("sheds", "sheds", "sheds", "sheds", "desert", "site"), (0, 2), (1, 3)),
    "motorway": SceneKind(1.0, ("desert", "villas", "sheds", "scrub", "towers"), (2, 3), (2, 5)),
    "coast": SceneKind(1.6, ("villas", "terraces", "towers", "desert", "park", "mangrove", "sheds"), (0, 1), (1, 3), (("sea", 0.8), ("lagoon", 0.4))),
    "canals": SceneKind(1.2, ("villas", "suburb", "terraces", "towers"), (0, 1), (1, 2), (("canals", 1.0),)),
    "park": SceneKind(0.7, ("park", "park", "villas", "woods"), (0, 2), (1, 2), (("lagoon", 0.8),)),
    "desert": SceneKind(0.7, ("desert", "desert", "scrub"), (0, 1), (1, 2), (("lagoon", 0.35),)),
    "town": SceneKind(1.6, ("town", "town", "town", "towers", "terraces", "park"), (0, 2), (1, 3), (("river", 0.3), ("lagoon", 0.1))),
    "farmland": SceneKind(1.0, ("fields", "fields", "fields", "woods", "suburb"), (0, 2), (1, 1), (("river", 0.4), ("lagoon", 0.2))),
    "wild": SceneKind(0.6, ("woods", "mangrove", "scrub", "fields"), (0, 1), (1, 1), (("river", 0.5), ("lagoon", 0.6))),
    "site": SceneKind(0.9, ("site", "site", "desert", "towers"), (0, 2), (1, 3)),
}  # fmt: skip


def simulate_photograph(seed: int, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Photograph of a made-up place, (rows, cols, 3), and the class of its pixels, (rows, cols).

    Classes: 1 building, 2 land, 3 road, 4 vegetation, 5 water. side: pixels, 2 or more, each of 0.3 to 1.8 m. The
    same seed gives the same picture.
    """
    rng = np.random.default_rng([seed, 2])
    canvas = paint_scene(rng, side, ground_size(seed))
    return aerial_camera(canvas), canvas.labels


def ground_size(seed: int) -> float:
    """Metres of a pixel of the photograph with a seed, in whole centimetres from 0.3 to 1.8."""
    rng = np.random.default_rng([seed, 3])
    return float(np.round(np.exp(rng.uniform(np.log(FINEST), np.log(COARSEST))), 2))


def paint_scene(rng: np.random.Generator, side: int, ground: float) -> AerialCanvas:
    """Paint a random kind of scene; ground: metres a pixel."""
    weights = np.array([kind.weight for kind in SCENES.values()])
    kind = list(SCENES.values())[rng.choice(len(SCENES), p=weights / weights.sum())]
    canvas = AerialCanvas(rng, side, ground, aerial_palette(rng))
    bare_ground(canvas)
    for name, likely in kind.water:
        if rng.random() < likely:
            water(canvas, name)
    parts = _lay_roads(canvas, kind)
    for part in parts:
        _use(canvas, part, kind.uses[rng.integers(len(kind.uses))])
    _drift(canvas)
    return canvas


def _lay_roads(canvas: AerialCanvas, kind: SceneKind) -> list[Mask]:
    """Lay the main roads, and give the parts of the picture between the first two."""
    rng = canvas.rng
    number = int(rng.integers(kind.roads[0], kind.roads[1] + 1))
    cross = rng.uniform(0.25, 0.75, 2)
    roads = [
        main_road(canvas, int(rng.integers(kind.lanes[0], kind.lanes[1] + 1)), cross)
        for _ in range(number)
    ]
    place = cross * canvas.extent
    if number > 1 and kind.lanes[1] > 3:
        ramps(canvas, place)
    sides = [lay_road(canvas, road) > 0 for road in roads][:2]
    if number > 1 and kind.lanes[1] <= 3 and rng.random() < 0.5:
        roundabout(canvas, place)
    parts = [np.ones_like(canvas.free)]
    for one in sides:
        parts = [part & half for part in parts for half in (one, ~one)]
    return parts


def _use(canvas: AerialCanvas, part: Mask, use: str) -> None:
    rng = canvas.rng
    if use in STYLES:
        built_quarter(canvas, part, STYLES[use])
        if rng.random() < 0.5:
            scrub(canvas, part, rng.uniform(2, 30))
    elif use == "park":
        park(canvas, part)
    elif use == "fields":
        fields(canvas, part)
    elif use in ("woods", "mangrove"):
        if use == "mangrove" and rng.random() < 0.5:
            _flood(canvas, part)
        woods(canvas, part, rng.uniform(0.4, 0.95))
        tracks(canvas, part)
    else:
        tracks(canvas, part)
        scrub(canvas, part, rng.uniform(30, 250) if use == "scrub" else rng.uniform(0, 25))


def _drift(canvas: AerialCanvas) -> None:
    """Sand and dust blown over the roads."""
    road = canvas.labels == ROAD
    most = canvas.rng.uniform(0, 0.5)
    cover = np.clip(0.5 + canvas.field(50.0, 2.4)[road] * 0.4, 0, 1)[:, None] * np.float32(most)
    canvas.color[road] += cover * (canvas.palette.soil[0] - canvas.color[road])


def _flood(canvas: AerialCanvas, part: Mask) -> None:
    """Winding creeks between mangroves."""
    creek = part & canvas.free & (np.abs(canvas.field(300.0, 3.0)) < canvas.rng.uniform(0.03, 0.12))
    canvas.fill(creek, canvas.palette.shallow, WATER, 0.02, 0.05)
    canvas.free &= ~creek
