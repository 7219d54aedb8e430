"""Built-up quarters of a simulated photograph: streets, plots, gardens, car parks."""

import numpy as np

from landcover.aerial_canvas import (
    LAND,
    ROAD,
    VEGETATION,
    WATER,
    AerialCanvas,
    Boxes,
    Ids,
    Mask,
    Reals,
)
from landcover.houses import build_houses
from landcover.quarter_style import QuarterStyle
from landcover.street_life import park_cars, plant_trees
from landcover.street_plan import StreetPlan


def built_quarter(canvas: AerialCanvas, where: Mask, style: QuarterStyle) -> None:
    """Build streets, plots and houses on the free ground of a part of the picture."""
    rng = canvas.rng
    plan = _plan(canvas, style)
    allowed = where & canvas.free
    size = np.array(style.plot) * rng.uniform(0.8, 1.3, 2)
    lots, corners = _lots(canvas, plan, style, size)
    keep = canvas.fits(lots, allowed)
    lots, corners = lots[keep], corners[keep]
    _streets(canvas, plan, style, size, where & (canvas.labels != WATER) & ~canvas.closed)
    if len(lots):
        _furnish(canvas, lots, corners, style, allowed)


def _plan(canvas: AerialCanvas, style: QuarterStyle) -> StreetPlan:
    rng = canvas.rng
    bent = rng.random() < 0.35 and style.plot[0] < 40
    return StreetPlan(
        middle=np.asarray(rng.uniform(0.2, 0.8, 2) * canvas.extent),
        angle=rng.uniform(0, 2 * np.pi),
        radius=rng.uniform(0.35, 1.5) * max(canvas.extent, 250) if bent else np.inf,
        sway=(rng.uniform(0, 12) if rng.random() < 0.4 else 0.0, rng.uniform(180, 400)),
    )


def _grid(canvas: AerialCanvas, style: QuarterStyle, size: Reals) -> tuple[Reals, Reals]:
    """Where streets run across and along: middles of both, metres."""
    along = style.row * size[0] + style.street
    across = 2 * size[1] + style.street
    reach = 0.95 * canvas.extent
    count_u, count_v = int(reach / along) + 1, int(reach / across) + 1
    return np.arange(-count_u, count_u + 1) * along, np.arange(-count_v, count_v + 1) * across


def _lots(
    canvas: AerialCanvas, plan: StreetPlan, style: QuarterStyle, size: Reals
) -> tuple[Boxes, Reals]:
    """Plots as boxes (their first side on the street) and as bent quadrilaterals."""
    starts_u, starts_v = _grid(canvas, style, size)
    u = (starts_u[:, None] + style.street / 2 + np.arange(style.row) * size[0]).ravel()
    v = (starts_v[:, None] + style.street / 2 + np.arange(2) * size[1]).ravel()
    v0, u0 = (x.ravel() for x in np.meshgrid(v, u, indexing="ij"))
    side = np.tile(np.repeat([0, 1], len(u)), len(starts_v))
    ends = [(0, 0), (1, 0), (1, 1), (0, 1)]
    corners = np.stack([plan.place(u0 + a * size[0], v0 + b * size[1]) for a, b in ends], 1)
    centre = corners.mean(1)
    along = corners[:, 1] + corners[:, 2] - corners[:, 0] - corners[:, 3]
    angle = np.arctan2(along[:, 1], along[:, 0]) + np.pi * side
    width = np.linalg.norm(along, axis=1) / 4
    half = np.stack([width, np.full_like(width, size[1] / 2)], 1)
    return Boxes(centre, angle, half), corners


def _streets(
    canvas: AerialCanvas, plan: StreetPlan, style: QuarterStyle, size: Reals, allowed: Mask
) -> None:
    rng, palette = canvas.rng, canvas.palette
    starts_u, starts_v = _grid(canvas, style, size)
    u = np.linspace(starts_u[0], starts_u[-1], 8 * len(starts_u))
    v = np.linspace(starts_v[0], starts_v[-1], 6 * len(starts_v))
    lines = [plan.place(u, np.full_like(u, at)) for at in starts_v]
    lines += [plan.place(np.full_like(v, at), v) for at in starts_u]
    sandy = style.unfinished > 0.2 or rng.random() < 0.06
    if rng.random() < 0.6 and not sandy:
        pavement = canvas.lines(lines, style.street) & allowed
        canvas.fill(pavement, palette.paving[rng.integers(3)], LAND)
    carriageway = canvas.lines(lines, style.street * rng.uniform(0.6, 0.95)) & allowed
    color = palette.soil[1] * 0.95 if sandy else palette.asphalt[0]
    canvas.fill(carriageway, color, ROAD, 0.05, 0.05)
    canvas.free &= ~carriageway
    if style.street > 8.5 and rng.random() < 0.4 and not sandy:
        middle = canvas.lines(lines, 0.25) & carriageway
        canvas.color[middle] = 0.6 * canvas.color[middle] + 0.35


def _furnish(
    canvas: AerialCanvas, lots: Boxes, corners: Reals, style: QuarterStyle, allowed: Mask
) -> None:
    rng, count = canvas.rng, len(lots)
    ids = canvas.polygons(corners)
    ids[~allowed | (canvas.labels == ROAD)] = 0
    use = rng.random(count)
    parking = use < style.parking
    empty = ~parking & (use < style.parking + style.empty)
    _yards(canvas, lots, ids, style, parking, empty)
    _walls(canvas, corners[~parking & (rng.random(count) < style.wall)], ids > 0)
    build_houses(canvas, lots[~parking & ~empty], style)
    _pools(canvas, lots[~parking & ~empty & (rng.random(count) < style.pool)])
    _garden_trees(canvas, lots[~parking], style)


def _yards(
    canvas: AerialCanvas, lots: Boxes, ids: Ids, style: QuarterStyle, parking: Mask, empty: Mask
) -> None:
    """Cover plots with soil, paving, grass or asphalt; ids: number of each pixel's plot from 1."""
    rng, palette, count = canvas.rng, canvas.palette, len(lots)
    bare = np.concatenate([palette.soil, palette.paving])
    draw = rng.random(count)
    grass = ~parking & (draw < style.lawn)
    sealed = parking | (~grass & ~empty & (draw > 1 - style.asphalt))
    color = bare[rng.integers(len(bare), size=count)]
    color[grass] = palette.lawn[rng.integers(2, size=count)][grass]
    color[sealed] = palette.asphalt[rng.integers(3, size=count)][sealed]
    color = color * rng.uniform(0.85, 1.12, (count, 1))
    label = np.select([grass, sealed], [VEGETATION, ROAD], LAND).astype(np.uint8)
    where = ids > 0
    which = ids[where] - 1
    canvas.fill(where, color[which], LAND, 0.07, 0.08)
    canvas.labels[where] = label[which]
    if parking.any():
        park_cars(canvas, where & np.append(False, parking)[ids], ids, lots)


def _walls(canvas: AerialCanvas, corners: Reals, allowed: Mask) -> None:
    rng = canvas.rng
    wall = canvas.lines(list(np.concatenate([corners, corners[:, :1]], 1)), 0.35) & allowed
    if rng.random() < 0.3:
        canvas.fill(wall, canvas.palette.canopy[0], VEGETATION, 0.15)
        canvas.height[wall] = 1.6
    else:
        canvas.fill(wall, canvas.palette.paving[0] * rng.uniform(0.8, 1.15), LAND)
        canvas.height[wall] = rng.uniform(1.2, 2.4)


def _pools(canvas: AerialCanvas, lots: Boxes) -> None:
    rng, count = canvas.rng, len(lots)
    half = rng.uniform((2.5, 1.5), (5.0, 2.6), (count, 2))
    pools = lots.moved(
        rng.uniform(-0.5, 0.5, count) * lots.half[:, 0], 0.72 * lots.half[:, 1], half
    )
    pools = pools[canvas.fits(pools, canvas.free)]
    rim = canvas.polygons(Boxes(pools.centre, pools.angle, pools.half + 1).corners) > 0
    canvas.fill(rim & canvas.free, canvas.palette.paving[2], LAND)
    water = (canvas.polygons(pools.corners) > 0) & canvas.free
    canvas.fill(water, np.array((0.25, 0.62, 0.72)) * rng.uniform(0.7, 1.15), WATER, 0.03)


def _garden_trees(canvas: AerialCanvas, lots: Boxes, style: QuarterStyle) -> None:
    rng = canvas.rng
    number = rng.poisson(style.trees * rng.uniform(0.3, 1.5) * len(lots))
    lot = lots[rng.integers(len(lots), size=number)] if len(lots) else lots
    spread = rng.uniform(-0.95, 0.95, (len(lot), 2)) * lot.half
    plant_trees(canvas, lot.moved(spread[:, 0], spread[:, 1], lot.half).centre, (1.2, 3.8))
