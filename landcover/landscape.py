"""The true land cover of a simulated region: which material lies in every pixel."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from landcover.meander import banks, meander, straightened
from landcover.noise import Floats, chance, fractal, scramble, smooth_fractal
from landcover.parcels import Districts, Parcels, districts, parcels
from landcover.roads import draw_roads, road_network
from landcover.spectra import CODE, COVER, GRAIN, Climate, Cover, Grain

Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]
Keys = NDArray[np.uint32]
Mix = tuple[tuple[str, float], ...]
"""Materials and their shares."""


@dataclass(frozen=True)
class LandscapeOptions:
    """What kind of country to build. The default is a river valley in Central Europe."""

    hills: float = 0.30
    """Share of hill country, 0 to 1."""
    relief: float = 1.0
    """Height of the hills, as a factor."""
    woods: float = 0.13
    """Share of lowland parcels that are wooded."""
    shrubs: float = 0.26
    """Share of hill country under shrubs."""
    meadows: float = 0.16
    """Share of lowland parcels under grass."""
    desert: float = 0.0
    """Share of lowland that is bare."""
    field_width: float = 15.0
    """Mean width of a field, pixels."""
    river: float = 9.0
    """Mean width of the river, pixels; 0 for none."""
    lakes: int = 4
    """Number of natural lakes."""
    sea: float = 0.0
    """Share of the raster under the sea."""
    towns: int = 9
    """Number of towns and villages."""
    city: float = 0.085
    """Radius of the largest town as a share of the raster's side; above 0.7 it is all city."""
    density: float = 0.35
    """How far from its centre a town is dense, 0 to 1 of its radius."""
    gardens: float = 0.55
    """Share of green lots in residential blocks."""
    block: float = 6.5
    """Depth of a block of buildings, pixels."""
    lot: float = 2.1
    """Width of a building lot, pixels."""
    grain: float = 1.0
    """How much pixels of one material differ, as a factor."""
    crops: Mix = (
        ("wheat", 0.27),
        ("maize", 0.20),
        ("barley", 0.13),
        ("rapeseed", 0.12),
        ("sugar beet", 0.09),
        ("sunflower", 0.07),
        ("alfalfa", 0.06),
        ("vineyard", 0.03),
        ("fallow", 0.03),
    )
    grasses: Mix = (("meadow", 0.7), ("pasture", 0.3))
    trees: Mix = (
        ("broadleaves", 0.42),
        ("conifers", 0.30),
        ("mixed wood", 0.20),
        ("plantation", 0.08),
    )
    shrub_kinds: Mix = (("heath", 0.45), ("scrub", 0.55))
    deserts: Mix = (("desert", 0.7), ("bare earth", 0.3))
    roofs: Mix = (
        ("tile roofs", 0.55),
        ("grey roofs", 0.22),
        ("dark roofs", 0.13),
        ("white roofs", 0.10),
    )
    yards: Mix = (("houses", 1.0),)
    """What lies between the roofs."""
    streets: str = "asphalt"
    beach: bool = True
    river_water: str = "river"
    climate: Climate = field(default_factory=Climate)


@dataclass(frozen=True)
class Landscape:
    """A region's materials and relief; every raster is (rows, cols) with 10 m pixels."""

    material: Codes
    """Index into `spectra.MATERIALS`."""
    variant: Codes
    """Which individual of its material: this field, this roof."""
    texture: Floats
    """Place between the material's end members, 0 to 1."""
    lanes: Floats
    """Share of the pixel under a road or track narrower than the pixel, 0 to 1."""
    elevation: Floats
    """Metres."""
    options: LandscapeOptions

    @property
    def cover(self) -> Codes:
        """Class codes: the true map."""
        return COVER[self.material]


def build_landscape(
    seed: int, shape: tuple[int, int], options: LandscapeOptions | None = None
) -> Landscape:
    """Build a region; equal arguments give equal landscapes."""
    return _Builder(seed, shape, options or LandscapeOptions()).build()


class _Builder:
    """Paints layer over layer; what is painted later hides what was there."""

    def __init__(self, seed: int, shape: tuple[int, int], options: LandscapeOptions) -> None:
        self.seed, self.shape, self.options = seed, shape, options
        self.rng = np.random.default_rng([seed, 1])
        self.side = max(shape)
        self.material = np.zeros(shape, np.uint8)
        self.variant = np.zeros(shape, np.uint8)
        self.layout = districts(self.rng, shape, 92)
        self.fields = parcels(self.layout, options.field_width, 2.3 * options.field_width, seed)
        self.stands = parcels(self.layout, 17, 24, seed + 1)
        self._survey()

    def build(self) -> Landscape:
        self._farm()
        self._dry_out()
        self._wood_the_lowland()
        self._clothe_the_hills()
        self._quarry()
        self._flood()
        self._settle()
        self._fill_lakes()
        self._flood_the_coast()
        lanes = self._connect()
        return Landscape(
            self.material, self.variant, self._texture(), lanes, self.elevation, self.options
        )

    # Tools

    def _paint(self, where: Mask, material: str | Codes, key: Keys | int) -> None:
        code = np.uint8(CODE[material]) if isinstance(material, str) else material
        np.copyto(self.material, code, where=where)
        np.copyto(self.variant, np.asarray(key).astype(np.uint8), where=where)

    def _noise(self, slope: float, longest: float, step: int = 4) -> Floats:
        return smooth_fractal(self.rng, self.shape, slope, longest, step)

    def _place(self, fits: Callable[[int, int], bool]) -> tuple[int, int]:
        """A random pixel that fits, or any where none is found."""
        for _ in range(200):
            row, col = (int(self.rng.uniform(0.04, 0.96) * n) for n in self.shape)
            if fits(row, col):
                break
        return row, col

    def _away(self, row: float, col: float) -> Floats:
        """Distance of every pixel to a place."""
        rows, cols = (axis.astype(np.float32) for axis in np.ogrid[tuple(map(slice, self.shape))])
        return np.asarray(np.hypot(rows - np.float32(row), cols - np.float32(col)))

    # Terrain

    def _survey(self) -> None:
        options, rough = self.options, self._noise(3.6, self.side)
        course = meander(self.rng, self.shape)
        self.course, self.banks = course, banks(course, self.shape)
        self.near = np.abs(self.banks.distance)
        self.valley = np.abs(banks(straightened(course), self.shape).distance)
        rise = rough.copy()
        if options.river:
            rise += 2.2 * np.minimum(self.valley / np.float32(0.33 * self.side), 1.3)
        floor = np.float32(_quantile(rise, 1 - options.hills))
        rise = np.maximum(rise - floor, np.float32(0))
        ridges = 1 - np.abs(self._noise(3.0, self.side / 5))
        height = 150 * options.relief * rise * (1 + 0.35 * ridges) * self.side / 1536
        self.elevation = gaussian_filter(180 + 12 * rough + height, 2.2)
        self.hilly = rise > 0.06
        self.slope = np.hypot(*np.gradient(self.elevation, 10.0))
        self.shore = self._coastline()

    def _coastline(self) -> Floats:
        """Distance inland as a share of a quarter of the raster's side; negative at sea."""
        if not self.options.sea:
            return np.ones(self.shape, np.float32)
        angle = self.rng.uniform(0, 2 * np.pi)
        rows, cols = np.ogrid[tuple(map(slice, self.shape))]
        inland = 4 / self.side * (cols * np.cos(angle) + rows * np.sin(angle)).astype(np.float32)
        inland += 0.35 * self._noise(2.6, self.side / 2, 2)
        return np.asarray(inland - np.float32(_quantile(inland, self.options.sea)))

    # Open country

    def _farm(self) -> None:
        options, fields = self.options, self.fields
        everywhere = np.ones(self.shape, np.bool_)
        self._paint(everywhere, _choose(options.crops, fields.chance(2)), fields.key)
        share = np.full(self.shape, 0.7, np.float32)
        if options.river:
            share += 2.2 * np.exp(-self.valley / np.float32(0.06 * self.side))
        grassy = fields.chance(1) < options.meadows * fields.at_centre(share)
        self._graze(grassy)

    def _graze(self, where: Mask) -> None:
        grass = _choose(self.options.grasses, self.fields.chance(3))
        self._paint(where, grass, self.fields.key)

    def _plant(self, where: Mask) -> None:
        leafy = 0.62 * self.stands.chance(1) + 0.19 + 0.19 * self._noise(2.0, self.side / 4)
        self._paint(where, _choose(self.options.trees, leafy), self.stands.key)

    def _dry_out(self) -> None:
        if not self.options.desert:
            return
        wet = self._noise(2.2, self.side / 1.5)
        sheet = np.floor(3 * self._noise(2.6, self.side / 2)).astype(
            np.int32
        )  # sands of one colour
        bare = wet < _quantile(wet, self.options.desert)
        kind = _choose(self.options.deserts, chance(sheet, self.seed, 31))
        self._paint(bare, kind, scramble(sheet, self.seed))

    def _wood_the_lowland(self) -> None:
        wood = self._noise(2.0, self.side / 3)
        wood = 0.75 * self.fields.at_centre(wood) + 0.25 * wood
        self._plant(wood > _quantile(wood, 1 - self.options.woods))

    def _clothe_the_hills(self) -> None:
        options, hilly = self.options, self.hilly
        if not hilly[::8, ::8].any():
            return
        growth = 0.55 * self._noise(2.6, self.side / 5)
        growth += 0.9 * self.fields.at_centre(growth) + 0.8 * (self.slope - 0.15)
        some = growth[::8, ::8][hilly[::8, ::8]]
        low, high = np.quantile(some, (0.34, min(0.34 + options.shrubs, 1)))
        ploughed = (self.fields.chance(5) > 0.62) & (self.slope < 0.16)
        self._graze(hilly & (growth < low) & ~ploughed)
        shrubs = _choose(options.shrub_kinds, self.stands.chance(7))
        self._paint(hilly & (growth >= low) & (growth < high), shrubs, self.stands.key)
        self._plant(hilly & (growth >= high))
        crags = hilly & (self.slope > _quantile(self.slope, 0.985)) & (growth < high)
        self._paint(crags, "rock", self.stands.key)

    def _quarry(self) -> None:
        faces = parcels(self.layout, 15, 19, self.seed + 2)
        for _ in range(4 if self.options.hills else 0):
            place = self._place(lambda y, x: bool(self.hilly[y, x] and self.slope[y, x] > 0.06))
            reach = self._away(*place) / (self.side * self.rng.uniform(0.008, 0.022))
            self._paint(reach + 0.7 * faces.chance(21) < 1.35, "quarry", scramble(faces.key, 3))
        if not self.options.river:
            return
        low = (faces.at_centre(self.valley) < 0.12 * self.side) & ~self.hilly
        pit = low & (faces.chance(22) < 0.014) & (self.near > 1.5 * self.options.river)
        self._paint(pit, "gravel", scramble(faces.key, 4))
        filled = pit & (faces.edge > 2.2) & (faces.chance(23) < 0.6)
        self._paint(filled, "green water", scramble(faces.key, 5))

    # Water

    def _flood(self) -> None:
        width = self.options.river
        if not width:
            return
        plain = self.valley < 7.5 * width * (1 + 0.3 * self._noise(2.0, self.side / 4))
        patch = self._noise(2.6, 150)
        self._graze(plain & (self.fields.chance(9) < 0.45))
        self._plant(plain & (self.near < 3.2 * width) & (patch > 0.55))
        marsh = _choose((("reed", 0.4), ("sedge", 0.6)), self.stands.chance(11))
        self._paint(plain & (patch < -1.15), marsh, scramble(self.stands.key))
        self._leave_old_channels(plain)
        half = width * (0.5 + 0.09 * self._noise(1.5, 300))
        self._paint((self.near < half + 1.6) & (patch > -0.4), "broadleaves", self.stands.key)
        bend = np.abs(self.banks.bend)
        inner = (np.sign(self.banks.distance) == np.sign(self.banks.bend)) & (bend > 0.012)
        bar = half + 25 * width * bend**1.2 * (1 + 0.4 * patch)
        sand = _choose((("sand", 0.6), ("gravel", 0.4)), self.stands.chance(12))
        self._paint(inner & (self.near < bar), sand, scramble(self.stands.key))
        self._paint(self.near < half, self.options.river_water, self.seed)

    def _leave_old_channels(self, plain: Mask) -> None:
        width = self.options.river
        course = meander(self.rng, self.shape, beside=self.course)
        old = banks(course, self.shape)
        arcs = gaussian_filter1d(self.rng.standard_normal(len(course)), 28)
        arcs = np.clip(arcs / arcs.std() - 0.55, 0, 1).astype(np.float32)[old.place]
        left = plain & (self.near > 1.6 * width)
        reeds = _choose((("reed", 0.5), ("marsh", 0.5)), self.stands.chance(13))
        away = np.abs(old.distance)
        self._paint(left & (away < 1.5 * width * arcs), reeds, scramble(self.stands.key, 1))
        self._paint(left & (away < 0.42 * width * arcs), "lake", self.seed + 1)

    def _fill_lakes(self) -> None:
        ragged = 0.22 * self._noise(2.8, 200)
        rows, cols = np.ogrid[tuple(map(slice, self.shape))]
        for number in range(self.options.lakes):
            size, stretch = self.side * self.rng.uniform(0.012, 0.032), self.rng.uniform(1.2, 2.4)
            row, col = self._place(lambda y, x, r=1.6 * size * stretch: self._open(y, x, r))  # type: ignore[misc]
            angle = self.rng.uniform(0, np.pi)
            dy, dx = rows - row, cols - col
            u = (dx * np.cos(angle) + dy * np.sin(angle)) / (size * stretch)
            v = (dy * np.cos(angle) - dx * np.sin(angle)) / size
            reach = np.hypot(u, v) + ragged
            fringe = 1.12 + 0.34 * np.maximum(np.sin(3 * np.arctan2(v, u) + number), 0)
            self._paint(reach < fringe, "reed", scramble(self.stands.key, 5))
            water = ("lake", "lake", "green water")[number % 3]
            self._paint(reach < 1, water, scramble(number, self.seed))

    def _open(self, row: int, col: int, reach: float) -> bool:
        """Whether nothing but low country lies within reach of a place."""
        if self.hilly[row, col] or (self.options.river and self.near[row, col] < reach):
            return False
        return all(road.distance(row, col) > reach for road in self.roads)

    def _flood_the_coast(self) -> None:
        if self.options.beach:
            self._paint(self.shore < 0.035, "sand", scramble(self.stands.key, 6))
        self._paint(self.shore < 0.02, self.options.river_water, self.seed + 2)  # shallows
        self._paint(self.shore < -0.03 + 0.03 * self._noise(2.6, 300), "sea", self.seed)

    # People

    def _settle(self) -> None:
        options = self.options
        self._found_towns()
        self.roads = road_network(self.rng, self.towns, self.shape)
        layout = districts(self.rng, self.shape, 64)
        blocks = parcels(layout, options.block, 1.6 * options.block, self.seed + 3, 0.15)
        centrality = np.full(self.shape, -9, np.float32)
        for town, radius in zip(self.towns, self.radii, strict=True):
            np.maximum(centrality, 1 - self._away(*town) / np.float32(radius), out=centrality)
        self.centrality = blocks.at_centre(centrality + 0.30 * self._noise(1.8, 220))
        town = (self.centrality > 0) & (self.slope < 0.45)
        if options.river:
            town &= self.near > options.river / 2 + 2.2
        self._build_town(town, layout, blocks)

    def _found_towns(self) -> None:
        places: list[tuple[int, int]] = []

        def fits(row: int, col: int) -> bool:
            apart = all(np.hypot(row - a, col - b) > 0.13 * self.side for a, b in places)
            return apart and not self.hilly[row, col] and self.shore[row, col] > 0.05

        for _ in range(self.options.towns):
            places.append(self._place(fits))  # noqa: PERF401 - `fits` looks at the list so far
        self.towns = np.array(places, np.float32).reshape(-1, 2)
        radii = 0.020 * np.exp(0.35 * self.rng.standard_normal(len(places)))
        radii[:1] = self.options.city
        self.radii = radii * self.side

    def _build_town(self, town: Mask, layout: Districts, blocks: Parcels) -> None:
        options = self.options
        lots = parcels(layout, options.lot, 1.25 * options.lot, self.seed + 4, 0.15)
        dense = self.centrality > 1 - options.density
        green = np.where(dense, 0.12 + 0.3 * options.gardens, 0.35 + 0.75 * options.gardens)
        self._paint(town, _choose(options.yards, blocks.chance(3)), lots.key)
        roofs = _choose(options.roofs, 0.6 * blocks.chance(2) + 0.4 * lots.chance(2))
        self._paint(town & (lots.chance(1) > green), roofs, lots.key)
        trade = blocks.at_centre(self._noise(2.0, 260)) > 1.05
        self._build_sheds(town & trade & ~dense, layout)
        self._paint(town & (blocks.edge < 0.5), options.streets, blocks.key)
        self._lay_out_parks(town & ~trade & (blocks.edge > 0.5), blocks)
        site = town & (blocks.chance(1) > 0.985) & ~dense
        self._paint(site, "bare earth", blocks.key)

    def _build_sheds(self, where: Mask, layout: Districts) -> None:
        sheds = parcels(layout, 6, 9, self.seed + 5)
        ground = _choose((("asphalt", 0.6), ("concrete", 0.4)), sheds.chance(2))
        self._paint(where, ground, scramble(sheds.key, 7))
        roofs = (("white roofs", 0.4), ("grey roofs", 0.4), ("dark roofs", 0.2))
        roofed = where & (sheds.edge > 1.1) & (sheds.chance(3) < 0.75)
        self._paint(roofed, _choose(roofs, sheds.chance(4)), sheds.key)

    def _lay_out_parks(self, where: Mask, blocks: Parcels) -> None:
        large = blocks.at_centre(self._noise(2.2, 200)) > 2.1
        park = where & (large | (blocks.chance(1) < 0.035))
        trees = tuple((name, 0.6 * share) for name, share in self.options.trees)
        self._paint(park, _choose((("meadow", 0.4), *trees), blocks.chance(4)), blocks.key)

    def _connect(self) -> Floats:
        """Draw roads and hedges; return the lanes too narrow to be a pixel's class."""
        dry = COVER[self.material] != Cover.WATER
        lanes = np.where((self.layout.verge < 0.55) & dry, np.float32(0.40), np.float32(0))
        hedged = (chance(self.layout.index, self.seed, 41) < 0.13) & (self.fields.chance(43) < 0.5)
        hedge = hedged & (self.fields.edge < 1.0) & dry & (self.centrality < 0) & ~self.hilly
        if self.options.desert < 0.5:
            self._paint(hedge, "broadleaves", self.stands.key)
        road = draw_roads(self.roads, self.shape) & (self.shore > 0.02)
        self._paint(road, "asphalt", 7)
        return lanes

    # Texture

    def _texture(self) -> Floats:
        grain = GRAIN[self.material]
        fine = self.rng.standard_normal(self.shape, np.float32)
        soil = self._noise(1.6, 90, 2)
        texture = 0.5 + 0.20 * soil + 0.05 * fine
        crowns = gaussian_filter(fine, 0.75)
        bushes = fractal(self.rng, self.shape, 0.8, 3.0, 16.0)
        for kind, value in (
            (Grain.CANOPY, 0.5 + 0.21 * crowns / crowns.std() + 0.08 * soil),
            (Grain.ROWS, 0.5 + 0.19 * self._drills() + 0.15 * soil + 0.04 * fine),
            (Grain.BLOTCHES, 0.5 + 0.27 * bushes + 0.10 * soil),
            (Grain.LOTS, 0.5 + 0.22 * fine + 0.18 * bushes),
            (Grain.CALM, 0.5 + 0.18 * self._noise(2.4, 400) + 0.02 * fine),
        ):
            np.copyto(texture, value, where=grain == kind)
        return np.clip(0.5 + self.options.grain * (texture - 0.5), 0, 1)

    def _drills(self) -> Floats:
        """Waves along the fields, -1 to 1: drilled rows, tramlines, swaths."""
        across = np.where(self.fields.chance(51) < 0.8, self.layout.v, self.layout.u)
        return np.asarray(np.sin(across * (0.9 + 0.9 * self.fields.chance(52))))


def _choose(kinds: Mix, draw: Floats) -> Codes:
    """Material codes for numbers drawn from 0 to 1, in the shares given."""
    names, shares = zip(*kinds, strict=True)
    codes = np.array([CODE[name] for name in names], np.uint8)
    limits = np.cumsum(shares)[:-1] / np.sum(shares)
    return codes[np.searchsorted(limits.astype(np.float32), draw, side="right")]


def _quantile(values: Floats, share: float) -> float:
    """Quantile of every 64th pixel, which is close enough and quick."""
    return float(np.quantile(values[::8, ::8], min(max(share, 0.0), 1.0)))
