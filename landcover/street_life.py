"""What stands along streets: trees, parked and driving cars."""

import numpy as np

from landcover.aerial_canvas import ROAD, VEGETATION, AerialCanvas, Boxes, Ids, Mask, Reals
from landcover.noise import chance

_PAINT = np.array(
    ((0.9, 0.9, 0.9), (0.93, 0.93, 0.93), (0.6, 0.61, 0.63), (0.12, 0.12, 0.13), (0.25, 0.26, 0.28), (0.55, 0.12, 0.1),
     (0.15, 0.22, 0.45), (0.75, 0.7, 0.6)), np.float32,
)  # fmt: skip
"""Colours of cars, white twice as it is the commonest."""


def plant_trees(
    canvas: AerialCanvas, places: Reals, radius: tuple[float, float], ground: Mask | None = None
) -> None:
    """Plant trees whose trunks are at free places (trees, 2); radius: least and greatest, metres."""
    rng, palette = canvas.rng, canvas.palette
    ground = canvas.free if ground is None else ground
    places = places[canvas.inside(places, radius[1])]
    places = places[canvas.at(ground, places).astype(bool)]
    if not len(places):
        return
    least, most = radius
    size = least * (most / least) ** rng.random(len(places))
    ids = canvas.discs(places, size)
    where = ids > 0
    boxes = Boxes(places, rng.uniform(0, 6.28, len(places)), np.stack([size, size], 1))
    tree, u, v = canvas.local(where, ids, boxes)
    square = (u * u + v * v) / size[tree] ** 2
    crown = np.sqrt(np.clip(1 - square, 0, 1))
    grain = canvas.grain[where]
    inside = crown + 0.22 * grain > 0.3
    if rng.random() < 0.2:  # palms: fronds instead of a closed crown
        inside &= np.abs(np.cos(3.5 * np.arctan2(v, u))) + 0.6 * crown > 0.75
    where[where] = inside
    tree, crown, grain = tree[inside], crown[inside], grain[inside]
    tone = rng.uniform(0.75, 1.2, (len(places), 1))
    color = palette.canopy[rng.integers(len(palette.canopy), size=len(places))] * tone
    canvas.fill(where, color[tree], VEGETATION, 0.18, 0.08)
    canvas.height[where] = size[tree] * (0.9 + 0.9 * crown + 0.12 * grain)


def park_cars(canvas: AerialCanvas, where: Mask, ids: Ids, lots: Boxes) -> None:
    """Mark bays on car parks and fill some with cars."""
    rng = canvas.rng
    lot, u, v = canvas.local(where, ids, lots)
    across = np.mod(v, 16.0)
    beside = np.mod(u, 2.7) - 1.35
    bay = (across < 5) | (across > 11)
    depth = np.where(across < 5, across - 2.5, across - 13.5)
    number = np.floor(u / 2.7).astype(int), np.floor(v / 8).astype(int), lot
    seed = int(rng.integers(2**31))
    full = chance(*number, seed) < rng.uniform(0.2, 0.9)
    car = bay & full & (np.abs(beside) < 0.95) & (np.abs(depth) < 2.2)
    paint = _PAINT[(chance(*number, seed, 1) * len(_PAINT)).astype(int)]
    color = canvas.color[where]
    line = bay & (np.abs(beside) > 1.35 - max(0.09, 0.2 * canvas.ground))
    color[line] = 0.55 * color[line] + 0.4
    color[car] = paint[car]
    canvas.color[where] = color
    canvas.height[where] = 1.4 * car


def drive_cars(canvas: AerialCanvas, places: Reals, angle: Reals) -> None:
    """Put cars on roads at places (cars, 2), lengthwise in a direction (cars,), radians."""
    rng = canvas.rng
    lorry = rng.random(len(places)) < 0.08
    half = np.where(lorry[:, None], (5.5, 1.25), (2.2, 0.9)) * rng.uniform(
        0.9, 1.15, (len(places), 1)
    )
    cars = Boxes(places, angle, half)
    cars = cars[canvas.fits(cars, canvas.labels == ROAD)]
    if not len(cars):
        return
    ids = canvas.polygons(cars.corners)
    where = ids > 0
    car, u, _ = canvas.local(where, ids, cars)
    color = _PAINT[rng.integers(len(_PAINT), size=len(cars))][car]
    glass = (u > 0.3 * cars.half[car, 0]) & (u < 0.6 * cars.half[car, 0])
    canvas.color[where] = np.where(glass[:, None], 0.12, color)
    canvas.height[where] = np.where(cars.half[car, 0] > 4, 3.2, 1.4)
