"""Draw the pictures of the README from a finished demo: `make pictures`.

Needs QGIS with its Python, and xvfb-run for its window (apt-get install qgis python3-qgis xvfb xauth).
"""

import io
import os
import subprocess
import sys
import tempfile
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
    draw_window(folder / "landcover.gpkg", IMAGES / "qgis.png")


def draw_window(file: Path, picture: Path) -> None:
    """Open the project inside a GeoPackage in QGIS on a screen in memory; draw the whole window."""
    script = Path(__file__).with_name("qgis_window.py")
    with tempfile.TemporaryDirectory() as profile:
        own = {"HOME": profile, "XDG_RUNTIME_DIR": profile, "QGIS_WINDOW_PNG": str(picture)}
        command = [
            "xvfb-run", "-a", "-s", "-screen 0 1100x720x24", "qgis", "--nologo", "--noversioncheck",
            "--noplugins", "--profiles-path", profile, "--code", str(script),
            "--project", f"geopackage:{file.resolve()}?projectName=landcover",
        ]  # fmt: skip
        subprocess.run(command, check=True, timeout=300, env=os.environ | own)  # noqa: S603 - our own script and files
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)


def save(png: bytes, name: str, resampling: Image.Resampling) -> None:
    """Shrink a picture and write it."""
    image = Image.open(io.BytesIO(png))
    image.thumbnail((SIDE, SIDE), resampling)
    image.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
