"""QGIS itself opens our files and draws them as the legend says."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from landcover.legend import LandClass, Legend
from pipeline.cog import CogProfile, open_cog
from pipeline.geopackage import Layer, Style
from pipeline.map_file import MapContent, write_map
from pipeline.pictures import composite_stretch
from pipeline.qgis_style import polygon_qml, write_raster_style, zone_qml
from pipeline.vectorize import vectorize
from pipeline.zone_file import read_zones

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


# The project inside the file

REGION = 'Île <d\'"Yeu"> & co\n\u202e]]>\x07'
"""A region's name as a stranger's file may give it."""
SCENE = {"id": "S2 <A>", "datetime": "2024-06-01T10:00:00Z"}


def write_composite(path: Path, grid: GeoBox) -> None:
    """A composite of three bands that get brighter from left to right, nodata in the first row."""
    ramp = np.linspace(500, 3000, grid.shape[1]) * np.ones(grid.shape)
    bands = np.stack([ramp, ramp * 0.8, ramp * 0.6]).astype(np.uint16)
    bands[:, 0] = 0
    with open_cog(path, grid, CogProfile("uint16", ["blue", "green", "red"], "average")) as cog:
        cog.write(bands)


def open_project(path: Path, *arguments: str) -> dict[str, Any]:
    """What QGIS makes of the project inside a GeoPackage."""
    script = str(Path(__file__).with_name("qgis_open_project.py"))
    done = run_python(script, str(path), *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def moved(
    region: tuple[Path, np.ndarray, GeoBox], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[str]]:
    """A map folder made, moved and opened; what QGIS says; the colours expected at 100 points."""
    folder, classes, grid = region
    made, there = (tmp_path_factory.mktemp(name) for name in ("made", "there"))
    shutil.copy(folder / "classes.tif", made)
    write_composite(made / "composite.tif", grid)
    with open_cog(made / "confidence.tif", grid, CogProfile("uint8", ["confidence"])) as cog:
        cog.write(np.where(classes, 80, 0).astype(np.uint8)[None])
    vectorize(
        classes=made / "classes.tif", confidence=made / "confidence.tif",
        output=made / "landcover.gpkg", min_area=0.05, simplify=1.0,
        facts={"region": REGION, "period": "2024-06-01/2024-08-31", "scene_1": str(SCENE)},
    )  # fmt: skip
    target = there / "other place ä"
    made.rename(target)
    rows, cols = np.random.default_rng(2).integers(1, SIZE, (2, 100))
    points = [list(grid.affine * (c + 0.5, r + 0.5)) for r, c in zip(rows, cols, strict=True)]
    (there / "points.json").write_text(json.dumps(points))
    said = open_project(target / "landcover.gpkg", "--points", str(there / "points.json"))
    expected = [
        LEGEND[code].color if code else grey(target / "composite.tif", col)
        for code, col in zip(classes[rows, cols].tolist(), cols.tolist(), strict=True)
    ]
    return target, said, expected


def grey(composite: Path, col: int) -> str:
    """The colour of a column of the composite, by its stretch."""
    factors = {1: 0.6, 2: 0.8, 3: 1.0}
    parts = []
    for number, stretch in zip((1, 2, 3), composite_stretch(composite), strict=True):
        value = int(np.linspace(500, 3000, SIZE)[col] * factors[number])
        share = (value - stretch.dark) / (stretch.bright - stretch.dark)
        parts.append(round(255 * min(1, max(0, share))))
    return "#{:02x}{:02x}{:02x}".format(*parts)


def test_the_project_opens_after_the_folder_was_moved(
    moved: tuple[Path, dict[str, Any], list[str]],
):
    """All layers are found in the new place; map, tables and rasters are in the legend, image below."""
    target, said, _ = moved
    assert said["opened"]
    assert said["crs"] == "EPSG:32633"
    assert said["extent"] == [500_000, 5_099_500, 500_500, 5_100_000]
    tables = [
        ["Area by class", True],
        ["Merged into neighbours", True],
        ["How this map was made", True],
    ]
    rasters = [["Confidence (%)", False], ["Classes", False], ["Image", True]]
    assert said["tree"] == [
        ["Land cover", True], ["Tables", True, tables], ["Rasters", True, rasters],
    ]  # fmt: skip
    assert all(layer["valid"] for layer in said["layers"].values())
    assert all(layer["source"].startswith(f"{target}/") for layer in said["layers"].values())
    assert said["layers"]["Image"]["renderer"] == "multibandcolor"
    assert said["layers"]["Classes"]["renderer"] == "paletted"


def test_the_project_shows_names_and_headings(moved: tuple[Path, dict[str, Any], list[str]]):
    """The legend has the class names; tables have headings and no row number; lineage is told."""
    _, said, _ = moved
    layers = said["layers"]
    assert layers["Land cover"]["legend"] == list(LEGEND.names)
    assert layers["Land cover"]["aliases"]["area_ha"] == "Area (ha)"
    assert layers["Area by class"]["aliases"]["share_percent"] == "Share (%)"
    assert layers["How this map was made"]["aliases"] == {"name": "Fact", "value": "Value"}
    assert all(x["hidden"] == ["fid"] for x in layers.values() if "hidden" in x)
    assert "min_area_ha: 0.05" in layers["Land cover"]["history"]
    assert "\x07" not in said["title"]
    assert "\n" not in said["title"]
    assert said["title"].startswith('Land cover, Île <d\'"Yeu"> & co')


def test_the_project_draws_the_colours_of_the_legend(
    moved: tuple[Path, dict[str, Any], list[str]],
):
    """At 100 points the map has the class's colour, and the image shines through where there is none."""
    _, said, expected = moved
    legend = {c.color for c in LEGEND.classes}
    assert len(legend & set(expected)) == 3
    assert len(set(expected) - legend) > 10
    for drawn, color in zip(said["colors"], expected, strict=True):
        if color in legend:
            assert drawn == color
        else:
            levels = [np.array(list(bytes.fromhex(text[1:])), int) for text in (drawn, color)]
            assert np.abs(levels[0] - levels[1]).max() <= 2


def test_qgis_finds_no_invalid_geometry(moved: tuple[Path, dict[str, Any], list[str]]):
    """Neither by its own rules nor by those of GEOS; and its checker does find a bow tie."""
    _, said, _ = moved
    assert said["layers"]["Land cover"]["features"] > 20
    assert said["layers"]["Land cover"]["invalid"] == {"qgis": 0, "geos": 0}
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import qgis_open_project as q;"
        "from qgis.core import QgsFeature; a = q.QgsApplication([], False); a.initQgis();"
        "l = q.QgsVectorLayer('Polygon?crs=EPSG:32633', 'x', 'memory'); f = QgsFeature();"
        "f.setGeometry(q.QgsGeometry.fromWkt('POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))'));"
        "l.dataProvider().addFeatures([f]); print(q.json.dumps(q.validity(l))); del l, f; a.exitQgis()"
    )
    done = run_python("-c", script)
    assert json.loads(done.stdout.splitlines()[-1]) == {"invalid": {"qgis": 1, "geos": 1}}


def test_a_missing_raster_does_not_stop_the_project(
    moved: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
):
    """The GeoPackage alone, sent by mail: the rasters are marked missing, the rest is there."""
    target, _, _ = moved
    shutil.copy(target / "landcover.gpkg", tmp_path)
    said = open_project(tmp_path / "landcover.gpkg")
    valid = {name: layer["valid"] for name, layer in said["layers"].items()}
    assert [name for name, good in valid.items() if not good] == sorted(
        ["Confidence (%)", "Classes", "Image"], key=list(valid).index
    )
    assert said["layers"]["Land cover"]["legend"] == list(LEGEND.names)


def test_only_rasters_that_are_there_are_in_the_project(
    region: tuple[Path, np.ndarray, GeoBox], tmp_path: Path
):
    """Class raster elsewhere, composite damaged: a project of map and tables, which names no folder."""
    folder, _, _ = region
    (tmp_path / "composite.tif").write_bytes(b"no image")
    vectorize(classes=folder / "classes.tif", confidence=None, output=tmp_path / "landcover.gpkg")
    said = open_project(tmp_path / "landcover.gpkg")
    assert [line[0] for line in said["tree"]] == ["Land cover", "Tables"]
    assert str(folder).encode() not in (tmp_path / "landcover.gpkg").read_bytes()


def test_a_crs_without_code_is_kept(tmp_path: Path):
    """A local equal-area grid: the project goes by the definition of its CRS."""
    grid = GeoBox((20, 20), Affine(30, 0, 0, 0, -30, 0), "+proj=laea +lat_0=48 +lon_0=16")
    tags = {"LEGEND": json.dumps(LEGEND.to_records())}
    with open_cog(
        tmp_path / "c.tif", grid, CogProfile("uint8", ["class"], "mode", None, tags)
    ) as cog:
        cog.write(np.ones((1, 20, 20), np.uint8))
    vectorize(classes=tmp_path / "c.tif", confidence=None, output=tmp_path / "m.gpkg")
    (tmp_path / "p.json").write_text("[[300, -300]]")
    said = open_project(tmp_path / "m.gpkg", "--points", str(tmp_path / "p.json"))
    assert said["opened"]
    assert said["colors"] == [LEGEND[1].color]


def test_zones_are_outlines_with_their_names_above_the_map(
    region: tuple[Path, np.ndarray, GeoBox], tmp_path: Path
):
    """A layer of zones is drawn over the polygons, transparent, labelled with the zone."""
    _, _, grid = region
    box = shapely.to_wkb(shapely.box(500_000, 5_099_500, 500_500, 5_100_000))
    map_rows = pa.table({"class_code": pa.array([3], pa.int32()), "geom": pa.array([box])})
    zone_rows = pa.table({"zone": ["North <1>"], "total_ha": [25.0], "geom": pa.array([box])})
    crs = grid.crs.proj
    land = Style("Land cover", polygon_qml(LEGEND, "class_code", {}), "")
    outline = Style("Zones", zone_qml("zone", {"zone": "Zone", "total_ha": "Total (ha)"}), "")
    layers = [
        Layer("landcover", "Polygons.", 1, map_rows.to_reader(), crs, land),
        Layer("zones", "Zones.", 1, zone_rows.to_reader(), crs, outline),
    ]
    write_map([tmp_path / "m.gpkg"], MapContent(layers, LEGEND, grid, dict))
    (tmp_path / "p.json").write_text("[[500100, 5099900]]")
    said = open_project(tmp_path / "m.gpkg", "--points", str(tmp_path / "p.json"))
    assert said["tree"] == [["Zones", True], ["Land cover", True]]
    assert said["layers"]["Zones"]["labels"] == "zone"
    assert said["layers"]["Zones"]["aliases"] == {"zone": "Zone", "total_ha": "Total (ha)"}
    assert said["colors"] == [LEGEND[3].color]


def test_a_table_dragged_alone_has_its_style(moved: tuple[Path, dict[str, Any], list[str]]):
    """Without the project too: QGIS takes the headings of a table from layer_styles."""
    target, _, _ = moved
    script = (
        "import sys, json; from qgis.core import QgsApplication, QgsVectorLayer;"
        "a = QgsApplication([], False); a.initQgis();"
        "layer = QgsVectorLayer(sys.argv[1] + '|layername=areas', 'x', 'ogr');"
        "print(json.dumps({f.name(): f.alias() for f in layer.fields()})); del layer; a.exitQgis()"
    )
    done = run_python("-c", script, str(target / "landcover.gpkg"))
    assert json.loads(done.stdout.splitlines()[-1])["share_percent"] == "Share (%)"


def test_zones_lie_above_the_map_in_the_project(tmp_path: Path):
    """With --zones the project shows them first, outlined, and the map below."""
    drawing = np.ones((20, 20), np.uint8)
    grid = GeoBox((20, 20), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")
    tags = {"LEGEND": json.dumps(LEGEND.to_records())}
    with open_cog(
        tmp_path / "classes.tif", grid, CogProfile("uint8", ["class"], "mode", tags=tags)
    ) as cog:
        cog.write(drawing[None])
    shapes = [shapely.box(500_000, 5_099_800, 500_100, 5_100_000)]
    gpd.GeoDataFrame({"name": ["west <1>"]}, geometry=shapes, crs="EPSG:32633").to_file(
        tmp_path / "zones.gpkg"
    )
    zones = read_zones(tmp_path / "zones.gpkg", "name", None)
    output = tmp_path / "landcover.gpkg"
    vectorize(classes=tmp_path / "classes.tif", confidence=None, output=output, zones=zones)
    script = (
        "import sys, json; from qgis.core import QgsApplication, QgsProject;"
        "a = QgsApplication([], False); a.initQgis(); p = QgsProject.instance();"
        "good = p.read('geopackage:' + sys.argv[1] + '?projectName=landcover');"
        "tree = [[l.name(), l.layer().isValid()] for l in p.layerTreeRoot().findLayers()];"
        "print(json.dumps([good, tree])); p.clear(); a.exitQgis()"
    )
    done = run_python("-c", script, str(output))
    assert done.returncode == 0, done.stderr
    good, tree = json.loads(done.stdout.splitlines()[-1])
    assert good
    assert all(valid for _, valid in tree)
    names = [name.lower() for name, _ in tree]
    assert names.index("zones") < names.index("land cover")
