"""Main roads of a simulated photograph: motorways, avenues, roundabouts, tracks."""

from dataclasses import dataclass

import numpy as np

from landcover.aerial_canvas import LAND, ROAD, VEGETATION, WATER, AerialCanvas, Mask, Reals
from landcover.street_life import drive_cars, plant_trees


@dataclass(frozen=True)
class MainRoad:
    """A gently bent road from one side of the picture to another; lengths are metres."""

    through: Reals
    """A place that it passes, to the right and down: (2,)."""
    angle: float
    """Direction there against the right, radians, about."""
    sway: tuple[float, float]
    """How much it bends to one side, and to one and then the other."""
    length: float
    """Side of the picture."""
    lanes: int
    """Of one direction."""
    median: float
    """Between the directions."""
    lane: float = 3.6
    """Width of a lane."""

    @property
    def half(self) -> float:
        """Half of the paved width."""
        return self.lanes * self.lane + self.median / 2 + 1.0

    def places(self, along: Reals, across: Reals | float = 0.0) -> tuple[Reals, Reals]:
        """Places (points, 2) so far along the road and beside it, and its direction there (points,)."""
        bow, slope = self._bow(along)
        turn = np.arctan(slope)
        u, v = along - across * np.sin(turn), bow + across * np.cos(turn)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        place = self.through + np.stack([u * cos - v * sin, u * sin + v * cos], -1)
        return np.asarray(place), np.asarray(turn + self.angle)

    def beside(self, canvas: AerialCanvas) -> tuple[Reals, Reals]:
        """Metres from the road, of one sign on each side, and along it, both (rows, cols).

        Of first order in the distance, which is enough for so gentle bends.
        """
        grid = (np.arange(canvas.side, dtype=np.float32) + 0.5) * np.float32(canvas.ground)
        x, y = (
            grid[None, :] - np.float32(self.through[0]),
            grid[:, None] - np.float32(self.through[1]),
        )
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        along = x * cos + y * sin
        bow, slope = self._bow(along)
        return (y * cos - x * sin - bow) / np.sqrt(1 + slope * slope), along

    def _bow(self, along: Reals) -> tuple[Reals, Reals]:
        """How far the road is off the straight, and its slope against it."""
        t = along / np.asarray(self.length, along.dtype)
        one, other = (np.asarray(part, along.dtype) for part in self.sway)
        turn = t * np.asarray(np.pi, along.dtype)
        bow = (2 * one * t * t + other * np.sin(turn)) * np.asarray(self.length, along.dtype)
        return bow, 4 * one * t + other * np.asarray(np.pi, along.dtype) * np.cos(turn)


def main_road(canvas: AerialCanvas, lanes: int, through: Reals | None = None) -> MainRoad:
    """Draw the course of a road; through: a place that it passes, right and down, 0 to 1."""
    rng = canvas.rng
    through = rng.uniform(0.25, 0.75, 2) if through is None else through
    median = rng.choice([0.0, 2.0, rng.uniform(4, 14)]) if lanes > 1 else 0.0
    sway = rng.normal(0, 0.08, 2)
    return MainRoad(
        np.asarray(through * canvas.extent), rng.uniform(0, 2 * np.pi), (float(sway[0]), float(sway[1])),
        canvas.extent, lanes, float(median),
    )  # fmt: skip


def lay_road(canvas: AerialCanvas, road: MainRoad) -> Reals:
    """Pave a road over what is there; gives metres to it, of one sign on each side: (rows, cols)."""
    rng, palette = canvas.rng, canvas.palette
    signed, along = road.beside(canvas)
    away = np.abs(signed)
    open_ = ~canvas.closed  # no verge or median cuts roads and ramps laid before
    verge = (away < road.half + rng.uniform(1, 14)) & (canvas.labels != WATER) & open_
    paved = away < road.half
    green = rng.random() < 0.3
    color = palette.lawn[1] if green else palette.soil[rng.integers(2)]
    canvas.fill(verge & ~paved, color, VEGETATION if green else LAND)
    canvas.fill(paved, palette.asphalt[rng.integers(3)] * rng.uniform(0.8, 1.2), ROAD, 0.04, 0.04)
    _surface(canvas, road, paved, away[paved], along[paved])
    if road.median:
        _median(canvas, road, (away < road.median / 2) & open_)
    canvas.free &= ~verge & ~paved
    canvas.closed |= paved
    _traffic(canvas, road)
    if rng.random() < 0.4:
        _avenue(canvas, road)
    return signed


def _median(canvas: AerialCanvas, road: MainRoad, strip: Mask) -> None:
    """A kerb or barrier if narrow, else a strip of grass or soil."""
    palette = canvas.palette
    if road.median < 3:
        canvas.fill(strip, palette.paving[0], ROAD)
    elif canvas.rng.random() < 0.4:
        canvas.fill(strip, palette.lawn[0], VEGETATION)
    else:
        canvas.fill(strip, palette.paving[0], LAND)


def _surface(canvas: AerialCanvas, road: MainRoad, paved: Mask, away: Reals, along: Reals) -> None:
    """Wheel tracks, and lines between lanes and at the borders; away, along: of the paved pixels."""
    rng = canvas.rng
    width = max(0.09, 0.3 * canvas.ground)
    lane = (away - road.median / 2) / road.lane
    number = np.rint(lane)
    near = np.abs(lane - number) * road.lane < width
    dashed = (number > 0) & (number < road.lanes) & (np.mod(along, 12) < 5)
    line = near & (dashed | (number == road.lanes) | (number == 0))
    color = canvas.color[paved]
    color *= (1 - np.float32(rng.uniform(-0.06, 0.1)) * np.cos(np.float32(2 * np.pi) * lane))[
        :, None
    ]
    color[line] += np.float32(rng.uniform(0.1, 0.6)) * (np.float32(0.92) - color[line])
    canvas.color[paved] = color


def _traffic(canvas: AerialCanvas, road: MainRoad) -> None:
    rng = canvas.rng
    count = rng.poisson(canvas.extent * road.lanes * 2 / rng.uniform(25, 250))
    side = np.where(rng.random(count) < 0.5, -1, 1)
    across = side * (road.median / 2 + (rng.integers(road.lanes, size=count) + 0.5) * road.lane)
    places, angle = road.places(rng.uniform(-1.2, 1.2, count) * canvas.extent, across)
    drive_cars(canvas, places, np.where(side > 0, angle, angle + np.pi))


def _avenue(canvas: AerialCanvas, road: MainRoad) -> None:
    """Trees at equal distances on both sides."""
    reach = 1.2 * canvas.extent
    along = np.arange(-reach, reach, canvas.rng.uniform(7, 16))
    rows = [road.places(along, side * (road.half + 2.2))[0] for side in (-1, 1)]
    ground = (canvas.labels == LAND) | (canvas.labels == VEGETATION)
    plant_trees(canvas, np.concatenate(rows), (1.5, 3.2), ground)


def roundabout(canvas: AerialCanvas, place: Reals) -> None:
    """A ring of road with an island; place: metres to the right and down."""
    rng, palette = canvas.rng, canvas.palette
    radius = rng.uniform(14, 32)
    disc = canvas.discs(place[None], np.array([radius])) > 0
    canvas.fill(disc, palette.asphalt[0], ROAD)
    island = canvas.discs(place[None], np.array([radius - rng.uniform(7, 11)])) > 0
    grassy = rng.random() < 0.6
    canvas.fill(
        island, palette.lawn[0] if grassy else palette.soil[0], VEGETATION if grassy else LAND
    )
    canvas.free &= ~disc
    canvas.closed |= disc


def ramps(canvas: AerialCanvas, place: Reals) -> None:
    """Loops and slip roads of an interchange about a place, metres."""
    rng, palette = canvas.rng, canvas.palette
    turn = np.linspace(0, 2 * np.pi, 60)
    lines = []
    for quadrant in range(4):
        radius = rng.uniform(28, 55)
        angle = quadrant * np.pi / 2 + rng.uniform(-0.2, 0.2)
        middle = place + 1.35 * radius * np.array((np.cos(angle), np.sin(angle)))
        if rng.random() < 0.7:
            lines.append(middle + radius * np.stack([np.cos(turn), np.sin(turn)], 1))
    if not lines:
        return
    verge = canvas.lines(lines, 11.0) & (canvas.labels != WATER)
    canvas.fill(verge, palette.soil[1], LAND)
    ring = canvas.lines(lines, 7.5)
    canvas.fill(ring, palette.asphalt[0], ROAD)
    canvas.free &= ~verge & ~ring
    canvas.closed |= ring


def tracks(canvas: AerialCanvas, where: Mask) -> None:
    """Sand tracks: wide ones are roads, faint wheel marks are not."""
    rng, palette = canvas.rng, canvas.palette
    allowed = where & canvas.free
    for _ in range(rng.integers(1, 5)):
        wide = canvas.lines([_course(canvas)], rng.uniform(4, 9)) & allowed
        tone = palette.soil[rng.integers(2)] * rng.choice([0.82, 1.12])
        canvas.fill(wide, np.clip(tone, 0, 1), ROAD, 0.05, 0.05)
        canvas.free &= ~wide
    for _ in range(rng.integers(0, 12)):
        canvas.color[canvas.lines([_course(canvas)], 0.8) & allowed] *= rng.choice([0.9, 1.08])


def _course(canvas: AerialCanvas) -> Reals:
    """A line bent like a main road anywhere across the picture, metres: (points, 2)."""
    road = main_road(canvas, 1, canvas.rng.uniform(0, 1, 2))
    return road.places(np.linspace(-1.5, 1.5, 90) * canvas.extent)[0]
