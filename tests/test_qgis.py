"""QGIS itself opens our files and draws them as the legend says."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from landcover.legend import LandClass, Legend
from pipeline.cog import CogProfile, open_cog
from pipeline.qgis_style import write_raster_style
from pipeline.vectorize import vectorize

PYTHON = "/usr/bin/python3"
"""The system's Python: QGIS of a distribution belongs to it."""
LEGEND = Legend(
    (
        LandClass(1, "Water", "#3f7fbf"),
        LandClass(3, 'Trees & "shrubs" <5 m', "#1e6b34"),
        LandClass(7, "Bâti", "#c8473d"),
        LandClass(8, "Nowhere here", "#123456"),
    )
)
SIZE = 50


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the system's Python without a screen."""
    environment = {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [PYTHON, *arguments], capture_output=True, text=True, check=False, env=environment
    )


@pytest.fixture(scope="module", autouse=True)
def qgis() -> None:
    """Skip where the system has no QGIS."""
    if not Path(PYTHON).exists():
        pytest.skip(f"no {PYTHON}, so no QGIS")
    tried = run_python("-c", "import qgis.core")
    if tried.returncode:
        pytest.skip(f"no QGIS for {PYTHON} (apt-get install python3-qgis): {tried.stderr[-200:]}")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, GeoBox]:
    """A folder with classes.tif and its landcover.gpkg; the classes; their grid."""
    folder = tmp_path_factory.mktemp("qgis")
    coarse = np.random.default_rng(7).choice([0, 1, 3, 7], (SIZE // 5, SIZE // 5))
    classes = np.kron(coarse, np.ones((5, 5), int)).astype(np.uint8)
    classes[12:14, 12:14] = 3
    grid = GeoBox(classes.shape, Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")
    tags = {"LEGEND": json.dumps(LEGEND.to_records())}
    profile = CogProfile("uint8", ["class"], "mode", LEGEND.colormap(), tags)
    with open_cog(folder / "classes.tif", grid, profile) as cog:
        cog.write(classes[None])
    vectorize(classes=folder / "classes.tif", confidence=None, output=folder / "landcover.gpkg")
    return folder, classes, grid


@pytest.fixture(scope="module")
def drawn(region: tuple[Path, np.ndarray, GeoBox]) -> tuple[dict[str, Any], list[str]]:
    """What QGIS says about the layer, and the colours expected at the sampled points."""
    folder, classes, grid = region
    rows, cols = np.random.default_rng(1).integers(0, SIZE, (2, 100))
    points = [list(grid.affine * (c + 0.5, r + 0.5)) for r, c in zip(rows, cols, strict=True)]
    (folder / "points.json").write_text(json.dumps(points))
    script = str(Path(__file__).with_name("qgis_render.py"))
    done = run_python(
        script, str(folder / "landcover.gpkg"), str(folder / "map.png"),
        "--points", str(folder / "points.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = [LEGEND[code].color if code else "#ffffff" for code in classes[rows, cols].tolist()]
    return json.loads(done.stdout.splitlines()[-1]), expected


def test_the_layer_opens_categorized_with_the_class_names(drawn: tuple[dict[str, Any], list[str]]):
    """QGIS takes the style from the file: categories by class code, names as labels, headings."""
    facts, _ = drawn
    assert facts["renderer"] == "categorizedSymbol"
    assert facts["attribute"] == "class_code"
    assert facts["categories"] == [[c.code, c.name, c.color] for c in LEGEND.classes]
    assert facts["legend"] == list(LEGEND.names)
    assert facts["aliases"]["area_ha"] == "Area (ha)"
    assert facts["crs"] == "EPSG:32633"


def test_sampled_pixels_have_the_colours_of_the_legend(drawn: tuple[dict[str, Any], list[str]]):
    """At 100 pixel centres QGIS draws the legend's colour, and the background where no data is."""
    facts, expected = drawn
    assert len(set(expected)) == 4  # three classes and nodata are all sampled
    assert facts["colors"] == expected


def test_the_picture_with_legend_is_drawn(region: tuple[Path, np.ndarray, GeoBox]):
    """The script makes the picture for documents, and all classes on the map are in it."""
    folder, classes, _ = region
    script = str(Path(__file__).with_name("qgis_render.py"))
    done = run_python(script, str(folder / "landcover.gpkg"), str(folder / "legend.png"))
    assert done.returncode == 0, done.stderr
    pixels = np.asarray(Image.open(folder / "legend.png").convert("RGB")).reshape(-1, 3)
    seen = [int((pixels == LEGEND[int(code)].rgb).all(axis=1).sum()) for code in (1, 3, 7)]
    shares = np.bincount(classes.ravel())[[1, 3, 7]] / classes.size
    frame = 120 / 190 * 120 / 124 * len(pixels)  # the map's part of the page
    assert np.abs(np.array(seen) / frame - shares).max() < 0.03


def test_the_class_raster_shows_its_classes_by_name(region: tuple[Path, np.ndarray, GeoBox]):
    """The side-car style gives QGIS a paletted legend of our classes only, not of 256 values."""
    folder, _, _ = region
    write_raster_style(folder / "classes.tif", LEGEND)
    script = (
        "import sys, json; from qgis.core import QgsApplication, QgsRasterLayer;"
        "a = QgsApplication([], False); a.initQgis(); layer = QgsRasterLayer(sys.argv[1]);"
        "r = layer.renderer(); print(json.dumps([r.type(), [[int(c.value), c.label,"
        " c.color.name()] for c in r.classes()]])); del r, layer; a.exitQgis()"
    )
    done = run_python("-c", script, str(folder / "classes.tif"))
    assert done.returncode == 0, done.stderr
    kind, classes = json.loads(done.stdout.splitlines()[-1])
    assert kind == "paletted"
    assert classes == [[c.code, c.name, c.color] for c in LEGEND.classes]
