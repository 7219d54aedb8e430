"""Draw what the weights aerial-rgb make of a held-back tile: `make aerial-picture`.

Needs the folder of real imagery, ../shared/data or what LANDCOVER_SHARED_DATA names. No photograph is drawn, class
maps alone: above the reference, below our map of the same parts of tile 1.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import rasterio.transform
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from landcover.checkpoint_file import read_spec
from landcover.legend import Legend
from pipeline.model_source import SHIPPED
from pipeline.segment import segment

DATA = Path(os.environ.get("LANDCOVER_SHARED_DATA", Path(__file__).parent / "../../shared/data"))
TILE = "aerial_dubai_labelled/Tile 1"
PARTS = (3, 5, 9)
"""A street of sheds, a lake, a motorway: all five classes."""
PICTURE = Path(__file__).parent / "images" / "aerial-rgb.png"
CREDIT = (
    "Labels: Humans in the Loop, MBRSC, CC0. Parts 3, 5 and 9 of tile 1, which the model never saw."
)
_WIDTH, _GAP, _LINE = 330, 8, 18


def main(picture: Path) -> None:
    """Draw reference and map of PARTS, the legend and the credit."""
    legend = read_spec(SHIPPED["aerial-rgb"]).legend
    columns = [(reference(part, legend), mapped(part)) for part in PARTS]
    height = round(_WIDTH * columns[0][0].shape[0] / columns[0][0].shape[1])
    down = (_LINE, 2 * _LINE + height + _GAP)
    sheet = Image.new(
        "RGB", (len(PARTS) * (_WIDTH + _GAP) + _GAP, down[1] + height + 3 * _LINE), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, pair in enumerate(columns):
        for top, codes in zip(down, pair, strict=True):
            chip = Image.fromarray(legend.rgb_table()[codes]).resize((_WIDTH, height), 0)
            sheet.paste(chip, (_GAP + i * (_WIDTH + _GAP), top))
    for top, text in zip(down, ("Labelled by people", "Mapped by aerial-rgb"), strict=True):
        draw.text((_GAP, top - _LINE + 2), text, "black", font)
    _legend(draw, legend, down[1] + height + _LINE // 2, font)
    draw.text((_GAP, down[1] + height + 2 * _LINE), CREDIT, "#555555", font)
    sheet.quantize(64).save(picture, optimize=True)


def _legend(draw: ImageDraw.ImageDraw, legend: Legend, top: int, font: ImageFont.ImageFont) -> None:
    left = _GAP
    for one in legend.classes:
        draw.rectangle((left, top, left + 12, top + 12), one.color)
        draw.text((left + 18, top), one.name, "black", font)
        left += 40 + round(draw.textlength(one.name, font))


def reference(part: int, legend: Legend) -> NDArray[np.uint8]:
    """Class codes of the mask's colours, (rows, cols); 0 where not labelled."""
    with Image.open(DATA / TILE / "masks" / f"image_part_{part:03}.png") as mask:
        colors = np.asarray(mask.convert("RGB"))
    codes = np.zeros(colors.shape[:2], np.uint8)
    for one in legend.classes:
        codes[(colors == tuple(bytes.fromhex(one.color[1:]))).all(-1)] = one.code
    return codes


def mapped(part: int) -> NDArray[np.uint8]:
    """Class codes of our map, (rows, cols)."""
    with tempfile.TemporaryDirectory() as folder:
        image, out = Path(folder) / "image.tif", Path(folder) / "classes.tif"
        _place(DATA / TILE / "images" / f"image_part_{part:03}.jpg", image)
        segment(image=image, model=[SHIPPED["aerial-rgb"]], classes=out)
        with rasterio.open(out) as found:
            return np.asarray(found.read(1), np.uint8)


def _place(photograph: Path, image: Path) -> None:
    """The same pixels as a GeoTIFF somewhere on the Earth, since the photographs do not say where."""
    with Image.open(photograph) as found:
        pixels = np.moveaxis(np.asarray(found.convert("RGB")), -1, 0)
    rows, cols = pixels.shape[1:]
    with rasterio.open(
        image, "w", driver="GTiff", width=cols, height=rows, count=3, dtype="uint8", crs="EPSG:32640",
        transform=rasterio.transform.from_origin(500_000, 2_700_000, 0.5, 0.5),
    ) as made:  # fmt: skip
        made.write(pixels)
        for band, name in enumerate(("red", "green", "blue"), 1):
            made.set_band_description(band, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
