"""Draw the pictures of the README from a finished demo: `make pictures`.

Needs QGIS's Python (/usr/bin/python3 with qgis) for the last one.
"""

import io
import subprocess
import sys
from pathlib import Path

from PIL import Image

from pipeline.pictures import class_picture, composite_picture

IMAGES = Path(__file__).parent / "images"
SIDE = 560
"""Longest side of a picture, pixels."""


def main(folder: Path) -> None:
    """Draw scene, classes and polygons of the run in `folder`."""
    save(composite_picture(folder / "composite.tif")[0], "demo-scene.png", Image.Resampling.LANCZOS)
    save(class_picture(folder / "classes.tif"), "demo-classes.png", Image.Resampling.NEAREST)
    script = Path(__file__).parent.parent / "tests" / "qgis_render.py"
    command = ["/usr/bin/python3", script, folder / "landcover.gpkg", IMAGES / "demo-qgis.png"]
    subprocess.run(command, check=True)  # noqa: S603 - our own script and files
    few_colors = Image.open(IMAGES / "demo-qgis.png").convert("RGB").quantize(64)
    few_colors.save(IMAGES / "demo-qgis.png", optimize=True)


def save(png: bytes, name: str, resampling: Image.Resampling) -> None:
    """Shrink a picture and write it."""
    image = Image.open(io.BytesIO(png))
    image.thumbnail((SIDE, SIDE), resampling)
    image.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
