"""What an aerial photograph is painted on: colours, classes and heights of the ground."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from landcover.aerial_palette import AerialPalette
from landcover.noise import Floats, enlarge, fractal, smooth_fractal

BUILDING, LAND, ROAD, VEGETATION, WATER = range(1, 6)
Mask = NDArray[np.bool_]
Ids = NDArray[np.int32]
Reals = NDArray[np.floating[Any]]
"""Numbers of single or double precision."""


@dataclass(frozen=True)
class Boxes:
    """Rectangles lying on the ground: houses, cars, pools."""

    centre: Reals
    """Metres to the right and down from the picture's corner: (boxes, 2)."""
    angle: Reals
    """Direction of the first side against the right, radians: (boxes,)."""
    half: Reals
    """Half of the length along and across that direction, metres: (boxes, 2)."""

    @staticmethod
    def joined(parts: "list[Boxes]") -> "Boxes":
        """Boxes of several sets in one."""
        return Boxes(
            np.concatenate([part.centre for part in parts]),
            np.concatenate([part.angle for part in parts]),
            np.concatenate([part.half for part in parts]),
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.angle)

    def __getitem__(self, which: Mask | NDArray[np.intp]) -> "Boxes":
        """Some of the boxes."""
        return Boxes(self.centre[which], self.angle[which], self.half[which])

    @property
    def axes(self) -> Reals:
        """Unit vectors along and across each box: (boxes, 2 axes, 2)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)

    @cached_property
    def corners(self) -> Reals:
        """Metres, around each box: (boxes, 4, 2)."""
        along, across = np.moveaxis(self.axes * self.half[..., None], 1, 0)
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return np.stack([self.centre + a * along + b * across for a, b in signs], 1)

    def moved(self, along: Reals, across: Reals, half: Reals) -> "Boxes":
        """Boxes of other sizes, shifted in each box's own directions, metres."""
        shift = along[:, None] * self.axes[:, 0] + across[:, None] * self.axes[:, 1]
        return Boxes(self.centre + shift, self.angle, np.asarray(half))


class AerialCanvas:
    """Square piece of ground whose surfaces are painted one over another.

    Every raster is (rows, cols), colours (rows, cols, 3); lengths are metres. rough, mottle: how much
    fine and slow texture changes the colour. free: where one may build or plant. closed: where not even
    a street may cross.
    """

    def __init__(
        self, rng: np.random.Generator, side: int, ground: float, palette: AerialPalette
    ) -> None:
        """side: pixels. ground: metres a pixel."""
        self.rng, self.side, self.ground, self.palette = rng, side, ground, palette
        self.extent = side * ground
        shape = (side, side)
        self.color = np.empty((side, side, 3), np.float32)
        self.color[:] = palette.soil[0]
        self.labels = np.full(shape, LAND, np.uint8)
        self.height = np.zeros(shape, np.float32)
        self.rough = np.full(shape, 0.06, np.float32)
        self.mottle = np.full(shape, 0.08, np.float32)
        self.free = np.ones(shape, np.bool_)
        self.closed = np.zeros(shape, np.bool_)
        self.grain = fractal(rng, shape, 1.0, 2.0, max(6.0, 8 / ground))

    def field(self, longest: float, slope: float = 3.0) -> Floats:
        """Smooth noise, mean 0 and sd 1, with wavelengths up to `longest` metres."""
        pixels = max(longest / self.ground, 16.0)
        step = int(np.clip(pixels / 28, 2, 8))
        return smooth_fractal(self.rng, (self.side, self.side), slope, pixels, step)

    def coarse(self, values: Floats, step: int) -> Floats:
        """Raster from values at every `step`-th pixel."""
        return enlarge(values, step, (self.side, self.side))

    def fill(
        self, where: Mask, color: Reals, label: int, rough: float = 0.05, mottle: float = 0.06
    ) -> None:
        """Paint pixels with one colour, or one for each of them, at the height of the ground."""
        self.color[where] = color
        self.labels[where] = label
        self.rough[where] = rough
        self.mottle[where] = mottle
        self.height[where] = 0

    def polygons(self, corners: Reals) -> Ids:
        """Number of the last polygon over each pixel, from 1: corners (polygons, points, 2), metres."""
        image = Image.new("I", (self.side, self.side))
        draw = ImageDraw.Draw(image)
        flat = (corners / self.ground - 0.5).reshape(len(corners), 2 * corners.shape[1])
        for number, points in enumerate(flat.tolist(), 1):
            draw.polygon(points, fill=number)
        return np.array(image)

    def discs(self, centre: Reals, radius: Reals) -> Ids:
        """Number of the last disc over each pixel, from 1."""
        image = Image.new("I", (self.side, self.side))
        draw = ImageDraw.Draw(image)
        boxes = np.concatenate([centre - radius[:, None], centre + radius[:, None]], 1)
        for number, box in enumerate((boxes / self.ground - 0.5).tolist(), 1):
            draw.ellipse(box, fill=number)
        return np.array(image)

    def lines(self, lines: Sequence[Reals], width: float) -> Mask:
        """Pixels within `width` / 2 metres of polylines (points, 2)."""
        image = Image.new("L", (self.side, self.side))
        draw = ImageDraw.Draw(image)
        pixels = max(1, round(width / self.ground))
        for line in lines:
            points = (line / self.ground - 0.5).ravel().tolist()
            draw.line(points, fill=1, width=pixels, joint="curve" if pixels > 4 else None)
        return np.array(image) > 0

    def local(self, where: Mask, ids: Ids, boxes: Boxes) -> tuple[NDArray[np.intp], Reals, Reals]:
        """Which box each pixel belongs to, and where in it: metres along and across from its middle."""
        rows, cols = np.nonzero(where)
        box = (ids[where] - 1).astype(np.intp)
        x = (cols + np.float32(0.5)) * self.ground - boxes.centre[box, 0]
        y = (rows + np.float32(0.5)) * self.ground - boxes.centre[box, 1]
        cos, sin = np.cos(boxes.angle)[box], np.sin(boxes.angle)[box]
        return box, np.asarray(x * cos + y * sin), np.asarray(y * cos - x * sin)

    def at(self, raster: NDArray[Any], places: Reals) -> NDArray[Any]:
        """Value of a raster at places (..., 2), those outside at the border."""
        pixel = np.clip((places / self.ground).astype(np.intp), 0, self.side - 1)
        return np.asarray(raster[pixel[..., 1], pixel[..., 0]])

    def inside(self, places: Reals, margin: float = 0.0) -> Mask:
        """Whether places (..., 2) are in the picture, or so many metres off it."""
        return np.asarray(np.all((places > -margin) & (places < self.extent + margin), axis=-1))

    def fits(self, boxes: Boxes, allowed: Mask) -> Mask:
        """Boxes that touch the picture and lie on allowed ground with centre and corners."""
        points = np.concatenate([boxes.corners, boxes.centre[:, None]], 1)
        seen = self.inside(points).any(1)
        return np.asarray(seen & np.all(self.at(allowed, points), axis=1))
