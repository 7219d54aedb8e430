"""Draw the class maps of real Sentinel-2 scenes by the shipped weights: `make sentinel2-maps`.

Needs the folder of real imagery, ../shared/data or what LANDCOVER_SHARED_DATA names. Only classes are drawn, no image.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint
from landcover.legend import Legend
from pipeline.sentinel2_scenes import CITIES, HELD_OUT_CITIES, Scene, read_austria, read_city
from pipeline.train_sentinel2 import CREDIT, predict

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("LANDCOVER_SHARED_DATA", ROOT / "../shared/data"))
WEIGHTS = ROOT / "pipeline" / "weights"
SIDE = 300
"""Longest side of a map, pixels."""
_GAP, _TITLE, _COLUMNS = 8, 18, 4
_TEXT = (30, 30, 30)


def main() -> None:
    """Map all cities on both dates, and Austria with four bands; write one picture."""
    maps = list(_maps())
    legend = load_checkpoint(WEIGHTS / "sentinel2.safetensors").spec.legend
    sheet = draw_sheet(maps, legend)
    sheet.quantize(64).save(ROOT / "docs" / "images" / "sentinel2-cities.png", optimize=True)


def _maps() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    six, four = (
        load_checkpoint(WEIGHTS / f"{name}.safetensors") for name in ("sentinel2", "sentinel2-rgbn")
    )
    for name in CITIES:
        folder = DATA / "sentinel2_pairs_oscd" / "images" / name
        days = [
            line.split()[-1] for line in (folder / "dates.txt").read_text().splitlines() if line
        ]
        held = " (held out)" if name in HELD_OUT_CITIES else ""
        titles = [f"{name}{held} {day[:4]}-{day[4:6]}-{day[6:]}" for day in days]
        yield from _scene_maps(six, read_city(folder), titles)
    austria = read_austria(DATA / "sentinel2_two_season_austria" / "inference-img.tif")
    yield from _scene_maps(four, austria, ["austria, 4 bands, first", "austria, 4 bands, second"])


def _scene_maps(
    checkpoint: Checkpoint, scene: Scene, titles: list[str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for title, image in zip(titles, scene.images, strict=True):
        bands = image[: len(checkpoint.spec.bands)]
        yield title, predict(checkpoint.network, checkpoint.spec, bands)


def draw_sheet(maps: list[tuple[str, NDArray[np.uint8]]], legend: Legend) -> Image.Image:
    """Titled maps in rows of four, the legend and the credit below."""
    pictures = [(title, _picture(codes, legend)) for title, codes in maps]
    rows = [pictures[start : start + _COLUMNS] for start in range(0, len(pictures), _COLUMNS)]
    heights = [max(picture.height for _, picture in row) + _TITLE + _GAP for row in rows]
    sheet = Image.new(
        "RGB", (_COLUMNS * (SIDE + _GAP) + _GAP, sum(heights) + 2 * _TITLE + 2 * _GAP), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (title, picture) in enumerate(row):
            left = _GAP + column * (SIDE + _GAP)
            draw.text((left, top), title, _TEXT, font)
            sheet.paste(picture, (left, top + _TITLE))
        top += height
    _draw_legend(draw, font, legend, top)
    draw.text((_GAP, top + _TITLE), f"Class maps; {CREDIT}.", _TEXT, font)
    return sheet


def _draw_legend(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, legend: Legend, top: int
) -> None:
    left = _GAP
    for one in legend.classes:
        draw.rectangle((left, top + 2, left + 12, top + 14), one.color)
        draw.text((left + 17, top), one.name, _TEXT, font)
        left += 17 + int(draw.textlength(one.name, font)) + 18


def _picture(codes: NDArray[np.uint8], legend: Legend) -> Image.Image:
    palette = np.full((256, 3), 255, np.uint8)
    for one in legend.classes:
        palette[one.code] = [int(one.color[i : i + 2], 16) for i in (1, 3, 5)]
    picture = Image.fromarray(palette[codes])
    picture.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
    return picture


if __name__ == "__main__":
    main()
