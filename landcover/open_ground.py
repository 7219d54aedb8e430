"""Ground without houses in a simulated photograph: sand, fields, woods, parks and water."""

import numpy as np
from scipy.ndimage import distance_transform_edt

from landcover.aerial_canvas import LAND, ROAD, VEGETATION, WATER, AerialCanvas, Boxes, Mask, Reals
from landcover.noise import chance, scramble
from landcover.street_life import plant_trees


def bare_ground(canvas: AerialCanvas) -> None:
    """Cover everything with soil in patches, with darker and lighter kinds of it."""
    rng, palette = canvas.rng, canvas.palette
    patch = canvas.field(rng.uniform(60, 400), 2.6)
    for kind, limit in zip((1, 2, 3), rng.uniform((0.2, 0.6, 1.2), (1.2, 1.8, 2.6)), strict=True):
        weight = np.clip((patch - limit) * rng.uniform(0.5, 3) + 0.5, 0, 1)[..., None]
        canvas.color += weight * (palette.soil[kind] - canvas.color)
        patch = np.roll(-patch, canvas.side // 3, kind % 2)
    ripple = canvas.field(rng.uniform(12, 60), 2.0)
    canvas.height += np.float32(rng.choice([0.1, 0.25, 0.8]) * rng.random()) * np.clip(
        ripple, -2, 2
    )
    canvas.rough[:] = rng.uniform(0.02, 0.1)
    canvas.mottle[:] = rng.uniform(0.02, 0.16)


def scrub(canvas: AerialCanvas, where: Mask, density: float) -> None:
    """Scatter shrubs in clumps; density: shrubs a hectare, on average."""
    rng = canvas.rng
    number = min(int(density * canvas.extent**2 / 1e4), 1500)
    places = rng.uniform(0, canvas.extent, (number, 2))
    clump = canvas.field(rng.uniform(40, 200))
    places = places[canvas.at(clump, places) > rng.uniform(-1.0, 0.6)]
    plant_trees(canvas, places, (0.7, 2.6), where & canvas.free)


def woods(canvas: AerialCanvas, where: Mask, share: float) -> None:
    """Closed stands of trees, mangroves or reed over about a share of some ground."""
    rng, palette = canvas.rng, canvas.palette
    stand = canvas.field(rng.uniform(60, 600), rng.uniform(2.6, 3.6))
    trees = (
        where
        & canvas.free
        & (stand + 0.12 * canvas.grain > np.quantile(stand[::8, ::8], 1 - share))
    )
    crowns = canvas.field(rng.uniform(6, 14), 1.6)
    kind = np.clip(canvas.field(80.0, 2.4)[trees] * 0.5 + 0.5, 0, 1)[:, None]
    color = palette.canopy[0] + kind * (palette.canopy[rng.integers(1, 4)] - palette.canopy[0])
    canvas.fill(trees, color, VEGETATION, 0.16, 0.12)
    top = rng.uniform(1.5, 7.0)
    canvas.height[trees] = top * (1 + 0.28 * np.clip(crowns[trees], -2.2, 2.2))
    canvas.free &= ~trees


def park(canvas: AerialCanvas, where: Mask) -> None:
    """Grass with groups of trees, sandy hollows and winding paths, as in parks and golf courses."""
    rng, palette = canvas.rng, canvas.palette
    mowed = canvas.field(rng.uniform(80, 220), 2.8)
    ground = where & canvas.free
    grass = ground & (mowed > rng.uniform(-1.6, -0.3))
    tone = np.where((mowed > 0.5)[..., None], palette.lawn[0], palette.lawn[1])
    canvas.fill(grass, tone[grass], VEGETATION, 0.1, 0.12)
    bunker = grass & (canvas.field(35.0, 3.0) > rng.uniform(1.9, 2.6))
    canvas.fill(bunker, np.clip(palette.soil[0] * 1.15, 0, 1), LAND, 0.03)
    path = ground & (np.abs(canvas.field(260.0, 4.0)) < 0.012 * rng.uniform(0.5, 1.5))
    canvas.fill(path, palette.paving[0], ROAD if rng.random() < 0.3 else LAND)
    number = int(canvas.extent**2 / 1e4 * rng.uniform(10, 50))
    places = rng.uniform(0, canvas.extent, (min(number, 1500), 2))
    places = places[canvas.at(mowed, places) < rng.uniform(0, 1.2)]
    plant_trees(canvas, places, (1.5, 5.5), ground & ~path & ~bunker)


def fields(canvas: AerialCanvas, where: Mask) -> None:
    """Rectangular fields in rows of crops, some of them bare, with hedges or tracks between."""
    rng, palette = canvas.rng, canvas.palette
    ground = where & canvas.free
    angle = rng.uniform(0, np.pi)
    rows, cols = np.indices((canvas.side, canvas.side), np.float32) * np.float32(canvas.ground)
    bend = canvas.field(500.0, 4.0) * np.float32(rng.uniform(0, 0.02) * min(canvas.extent, 500))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cols * cos + rows * sin + bend, rows * cos - cols * sin - bend
    length, width = np.float32(rng.uniform(70, 260)), np.float32(rng.uniform(25, 110))
    strip = np.floor(v / width).astype(np.int32)
    shifted = u / length + chance(strip, 5)
    cell = np.floor(shifted).astype(np.int32)
    key = scramble(strip, cell, int(rng.integers(2**31)))
    bare = (key & 255) < 256 * rng.uniform(0.2, 0.6)
    ploughed = palette.soil[1:] * rng.uniform(0.4, 1.05, (3, 1))  # moist soil is dark
    colors = np.concatenate([ploughed, palette.lawn, palette.lawn * (0.8, 0.9, 0.6)])
    kind = np.where(bare, (key >> 8) % 3, 3 + (key >> 8) % 8)
    color = np.asarray(colors, np.float32)[kind]
    sown = scramble(strip, cell, int(rng.integers(2**31)))
    spacing = np.where(sown & 1, np.float32(1.0), np.float32(1.5)) * np.float32(
        rng.uniform(3.0, 9.0)
    )
    furrow = np.sin(np.where(sown & 2, u, v) * np.float32(2 * np.pi) / spacing)
    color *= (1 + np.float32(0.07) * furrow)[..., None]
    canvas.fill(ground, color[ground], LAND, 0.09, 0.14)
    canvas.labels[ground & ~bare] = VEGETATION
    edge = np.minimum(
        (0.5 - np.abs(v / width - strip - 0.5)) * width,
        (0.5 - np.abs(shifted - cell - 0.5)) * length,
    )
    _margins(canvas, ground & (edge < rng.uniform(1.0, 3.0)))


def _margins(canvas: AerialCanvas, edge: Mask) -> None:
    rng, palette = canvas.rng, canvas.palette
    draw = rng.random()
    if draw < 0.35:
        hedge = edge & (canvas.grain > -0.6)
        canvas.fill(hedge, palette.canopy[0], VEGETATION, 0.18)
        canvas.height[hedge] = rng.uniform(1.5, 5) + canvas.grain[hedge]
    elif draw < 0.7:
        canvas.fill(edge, palette.soil[0], ROAD if rng.random() < 0.4 else LAND)
    else:
        canvas.fill(edge, palette.lawn[1], VEGETATION, 0.1)


def water(canvas: AerialCanvas, kind: str) -> None:
    """Fill a sea, lagoons, ponds, canals or basins, with shores; kind: which of them."""
    rng, palette = canvas.rng, canvas.palette
    inland = _inland(canvas, kind)
    wet = inland < 0
    if not wet.any():
        return
    beach = (inland < rng.uniform(1, 25)) & ~wet & canvas.free
    color = palette.soil[rng.integers(3)] * rng.uniform(0.85, 1.15)
    canvas.fill(beach, np.clip(color, 0, 1), LAND, 0.04, 0.06)
    depth = canvas.coarse(distance_transform_edt(wet[::4, ::4]).astype(np.float32), 4)
    depth = depth * np.exp(
        np.float32(np.log(4 * canvas.ground))
        + np.float32(rng.uniform(0.1, 0.9)) * canvas.field(rng.uniform(80, 400), 2.6)
    )
    clear = np.exp(-depth / rng.uniform(3, 60))[..., None]
    color = palette.deep + clear * (palette.shallow - palette.deep)
    canvas.fill(wet, color[wet], WATER, rng.uniform(0.005, 0.03), rng.uniform(0.0, 0.06))
    if rng.random() < 0.3:
        foam = wet & (depth < 2.5) & (canvas.grain > 0.3)
        canvas.color[foam] = 0.8
    canvas.free &= ~wet & ~beach
    _boats(canvas, wet & (depth > 4))


def _inland(canvas: AerialCanvas, kind: str) -> Reals:
    """Metres to the shore, about, negative in the water."""
    rng = canvas.rng
    grid = (np.arange(canvas.side, dtype=np.float32) + 0.5) * np.float32(canvas.ground)
    angle = rng.uniform(0, 2 * np.pi)
    middle = rng.uniform(0.3, 0.7, 2) * canvas.extent
    y, x = grid[:, None] - middle[1], grid[None, :] - middle[0]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    noise = canvas.field(rng.uniform(150, 900), rng.uniform(3.0, 4.4))
    if kind == "sea":
        return np.asarray(
            across + canvas.extent * rng.uniform(-0.1, 0.25) + noise * rng.uniform(2, 30)
        )
    if kind == "river":
        half = rng.uniform(8, 45)
        bend = noise * rng.uniform(3, 20) + rng.uniform(0, 30) * np.sin(along / rng.uniform(30, 90))
        return np.asarray(np.abs(across + bend) - half, np.float32)
    if kind == "canals":
        pitch, half = rng.uniform(70, 160), rng.uniform(8, 22)
        finger = np.abs(np.mod(across, pitch) - pitch / 2) - half
        end = rng.uniform(0.0, 0.3) * canvas.extent
        main = np.abs(along - end) - half
        return np.asarray(np.minimum(np.maximum(finger, along - end), main), np.float32)
    return np.asarray((rng.uniform(0.3, 1.4) - noise) * rng.uniform(15, 60), np.float32)


def _boats(canvas: AerialCanvas, where: Mask) -> None:
    rng = canvas.rng
    count = int(rng.integers(0, 14))
    half = rng.uniform((2.5, 0.9), (9, 2.2), (count, 2))
    boats = Boxes(
        rng.uniform(0, canvas.extent, (count, 2)),
        np.full(count, rng.uniform(0, 6)) + rng.normal(0, 0.3, count),
        half,
    )
    boats = boats[canvas.fits(boats, where)]
    hull = canvas.polygons(boats.corners) > 0
    canvas.color[hull] = rng.uniform(0.6, 0.95)
    canvas.height[hull] = 1.5
