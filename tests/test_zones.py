"""Tables and layer by zone, as files, and as the command line makes them."""

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import Polygon, box

from landcover.errors import LegendError, RegionError, SettingsError
from landcover.legend import LandClass, Legend
from landcover.simulation import LEGEND as DEMO
from pipeline.class_raster import open_classes
from pipeline.csv_table import cell
from pipeline.summarize import summarize
from pipeline.tabulate import tabulate
from pipeline.vectorize import vectorize
from pipeline.zone_file import read_zones
from pipeline.zones import class_columns, measure_zones
from tests.limited import landcover_each
from tests.run_folder import write_classes

LEGEND = Legend((LandClass(1, "Water", "#3f7fbf"), LandClass(4, "=Trees, tall", "#1e6b34")))
GRID = GeoBox((3, 4), Affine(100, 0, 1_000_000, 0, -100, 5_000_000), "EPSG:6933")
"""Pixels of 1 ha."""
CODES = np.array([[1, 1, 4, 4], [1, 4, 4, 4], [0, 0, 4, 4]], np.uint8)


def at(col: float, row: float, right: float, bottom: float) -> Polygon:
    """A box in pixel coordinates of GRID."""
    (x0, y0), (x1, y1) = GRID.affine * (col, row), GRID.affine * (right, bottom)
    return box(x0, y1, x1, y0)


ZONES = {
    "west": at(0, 0, 2, 3),
    "=cmd()|' /C calc'!A0": at(1.5, 0, 2.5, 1),
    'a, "b"; DROP TABLE zones': at(3, 1, 5, 3),
    "far": at(30, 30, 31, 31),
    "Ñandú 河": at(0, 2, 1, 3),
}
EXPECTED = {
    "west": (3, 1, 2, 6, 100),
    "=cmd()|' /C calc'!A0": (0.5, 0.5, 0, 1, 100),
    'a, "b"; DROP TABLE zones': (0, 2, 0, 4, 50),
    "far": (0, 0, 0, 1, 0),
    "Ñandú 河": (0, 0, 1, 1, 100),
}
"""Water, trees, no data, zone (hectares), covered (percent)."""


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A class raster of twelve hectares."""
    write_classes(tmp_path / "classes.tif", CODES, LEGEND, GRID)
    return tmp_path / "classes.tif"


def write_zones(path: Path, zones: dict[str, Any] = ZONES, crs: str = "EPSG:6933") -> Path:
    """A layer `districts` with the column `name`."""
    frame = gpd.GeoDataFrame({"name": list(zones)}, geometry=list(zones.values()), crs="EPSG:6933")
    frame.to_crs(crs).to_file(path, layer="districts", driver="GPKG")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV table."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def make(classes: Path, **options: Any) -> Any:
    """The tables of the raster and zones, beside it."""
    zones = read_zones(write_zones(classes.with_name("z.gpkg")), "name")
    return tabulate(classes=classes, output=classes.with_name("areas.csv"), zones=zones, **options)


def test_the_wide_table(classes: Path) -> None:
    """A row for each zone: a column for each class, their sum, no data, the zone, what is covered."""
    make(classes)
    found = rows(classes.with_name("zones_wide.csv"))
    assert list(found[0]) == [
        "zone", "ha_1_water", "ha_4_trees_tall", "classified_ha", "nodata_ha", "zone_ha",
        "covered_percent",
    ]  # fmt: skip
    for row, (name, (water, trees, nodata, zone, covered)) in zip(
        found, EXPECTED.items(), strict=True
    ):
        assert row.pop("zone") == cell(name)
        values = [float(value) for value in row.values()]
        np.testing.assert_allclose(
            values, [water, trees, water + trees, nodata, zone, covered], rtol=1e-9, atol=1e-9
        )


def test_the_long_table(classes: Path) -> None:
    """A row for each class of each zone with its share of the classified area, and one for no data."""
    make(classes)
    found = rows(classes.with_name("zones.csv"))
    assert len(found) == 3 * len(ZONES)
    assert list(found[0]) == ["zone", "class_code", "class_name", "area_ha", "share_percent"]
    west = [(r["class_code"], r["class_name"], float(r["area_ha"])) for r in found[:3]]
    assert [w[:2] for w in west] == [("1", "Water"), ("4", "'=Trees, tall"), ("0", "No data")]
    assert [w[2] for w in west] == pytest.approx([3, 1, 2], rel=1e-9)
    assert [float(r["share_percent"]) for r in found[:2]] == pytest.approx([75, 25], rel=1e-9)
    assert found[2]["share_percent"] == ""
    assert {r["share_percent"] for r in found if r["zone"] == "far"} == {"0.0", ""}


def test_formulas_are_text() -> None:
    """What a spreadsheet would run gets an apostrophe; numbers and other text stay."""
    assert [cell(v) for v in ("=1", "+x", "@a", "-cmd")] == ["'=1", "'+x", "'@a", "'-cmd"]
    assert [cell(v) for v in ("-12.5", "+3", "a=1", "", 2.0, None)] == ["-12.5", "+3", "a=1", "", 2.0, None]  # fmt: skip


def test_columns_differ_whatever_the_names() -> None:
    """Names that differ in case or signs only, or have no letter, still give columns of their own."""
    legend = Legend(tuple(LandClass(k, n, "#000000") for k, n in enumerate(["A b", "a-B", "河", "x" * 99], 1)))  # fmt: skip
    assert class_columns(legend) == ["ha_1_a_b", "ha_2_a_b", "ha_3", "ha_4_" + "x" * 40]


def test_notes_say_what_is_outside(classes: Path) -> None:
    """Zones outside and partly outside are counted."""
    assert make(classes).zones.notes == (
        "1 of 5 zones lie outside the raster.",
        "1 of 5 zones lie partly outside the raster (column covered_percent).",
    )


def test_the_details_are_json_and_count_the_zones(classes: Path) -> None:
    """What goes into run.json is JSON, with the rows of each crosswalk."""
    write_classes(classes, CODES, DEMO, GRID)
    details = make(classes, crosswalks=["ipcc"]).details
    assert json.loads(json.dumps(details)) == details
    assert details["zones"]["count"] == 5
    by_name = {row["class_name"]: row["area_ha"] for row in details["crosswalks"]["ipcc"]}
    assert by_name["Wetlands"] == pytest.approx(3, rel=1e-9)
    assert by_name["Grassland"] == pytest.approx(7, rel=1e-9)
    assert sum(by_name.values()) == pytest.approx(details["area_ha"], rel=1e-12)


@pytest.mark.parametrize("name", ["zones.csv", "zones_wide.csv"])
def test_no_table_is_written_over_another(classes: Path, name: str) -> None:
    """An area table called as one by zone would be lost: it is refused, and nothing is written."""
    zones = read_zones(write_zones(classes.with_name("z.gpkg")), "name")
    with pytest.raises(SettingsError, match=f"{name} is both the area table and the table {name}"):
        tabulate(classes=classes, output=classes.with_name(name), zones=zones)
    assert not list(classes.parent.glob("*.csv"))


def test_a_crosswalk_is_not_written_over(classes: Path) -> None:
    """A crosswalk called areas.csv in the folder of the tables: it is refused and stays."""
    table = classes.with_name("areas.csv")
    table.write_text(
        'from_code,from_name,to_code,to_name,lossy\n1,Water,1,W,no\n4,"=Trees, tall",2,T,no\n'
    )
    before = table.read_bytes()
    with pytest.raises(SettingsError, match=r"is both the crosswalk .* and the area table"):
        make(classes, crosswalks=[str(table)])
    assert table.read_bytes() == before


@pytest.mark.parametrize(("output", "formats"), [("d.gpkg", []), ("m.gpkg", ["flatgeobuf"])])
def test_zones_are_not_written_over(classes: Path, output: str, formats: list[str]) -> None:
    """A map, or a further format of it, under the name of the districts: they stay."""
    path = write_zones(classes.with_name("d.gpkg"))
    if formats:
        path = classes.with_name("m.fgb")
        gpd.read_file(classes.with_name("d.gpkg")).to_file(path, driver="FlatGeobuf")
    before, zones = path.read_bytes(), read_zones(path, "name")
    with pytest.raises(SettingsError, match=f"{path.name} is both the zones and the map"):
        vectorize(
            classes=classes, confidence=None, output=classes.with_name(output), zones=zones,
            formats=formats,
        )  # fmt: skip
    assert path.read_bytes() == before


def test_a_rerun_gives_the_same_bytes(classes: Path) -> None:
    """Tables and layer depend on raster and zones only."""
    made = []
    for name in ("one", "two"):
        folder = classes.parent / name
        zones = read_zones(write_zones(classes.with_name(f"{name}.gpkg")), "name")
        tabulate(classes=classes, output=folder / "areas.csv", zones=zones)
        gpkg = folder / "map.gpkg"
        vectorize(classes=classes, confidence=None, output=gpkg, zones=zones)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {"areas.csv", "zones.csv", "zones_wide.csv", "map.gpkg"}


def test_the_layer_of_the_geopackage(classes: Path) -> None:
    """Layer `zones`: the polygons in their own CRS, names as they are, and the wide columns."""
    path = write_zones(classes.with_name("z.gpkg"), crs="EPSG:4326")
    zones, output = read_zones(path, "name"), classes.with_name("map.gpkg")
    vectorize(classes=classes, confidence=None, output=output, zones=zones)
    layer = gpd.read_file(output, layer="zones")
    assert list(layer["zone"]) == list(ZONES)
    assert layer.crs == "EPSG:4326"
    assert set(layer.geom_type) == {"MultiPolygon"}
    assert shapely.equals(layer.geometry.values, np.array(zones.polygons)).all()
    known = np.array(list(EXPECTED.values()))
    np.testing.assert_allclose(
        layer[["ha_1_water", "ha_4_trees_tall", "nodata_ha"]], known[:, :3], atol=2e-5
    )
    with sqlite3.connect(output) as database:
        names = {row[0] for row in database.execute("SELECT table_name FROM gpkg_contents")}
    assert names >= {"landcover", "areas", "zones"}


def test_zones_that_fill_a_tall_raster_sum_to_areas_csv(tmp_path: Path) -> None:
    """Read in many strips, hexagon-like zones sum to the area table, class by class, to 1e-9."""
    grid = GeoBox((1500, 1700), Affine(10, 0, 500_000, 0, -10, 6_700_000), "EPSG:32633")
    rng = np.random.default_rng(0)
    codes = np.kron(
        rng.choice(np.array([0, 1, 4], np.uint8), (150, 170)), np.ones((10, 10), np.uint8)
    )
    codes[700, 900] = 4
    write_classes(tmp_path / "c.tif", codes, LEGEND, grid)
    whole = box(*grid.boundingbox.bbox)
    points = shapely.MultiPoint(rng.uniform(whole.bounds[:2], whole.bounds[2:], (60, 2)))
    cells = shapely.get_parts(shapely.voronoi_polygons(points, extend_to=whole))
    frame = gpd.GeoDataFrame(
        {"k": range(len(cells))}, geometry=shapely.intersection(cells, whole), crs="EPSG:32633"
    )
    frame.to_file(tmp_path / "z.gpkg", driver="GPKG")
    details = summarize(classes=tmp_path / "c.tif", output=tmp_path / "a.csv")
    with open_classes(tmp_path / "c.tif", tmp_path / "b.csv") as raster:
        table = measure_zones(raster, read_zones(tmp_path / "z.gpkg", "k"))
    expected = [details["nodata"]["area_ha"], *(row["area_ha"] for row in details["rows"])]
    np.testing.assert_allclose(table.hectares.sum(axis=0), expected, rtol=1e-9)
    assert (table.covered_percent == 100).all()
    assert table.zone_ha.sum() == pytest.approx(sum(expected), rel=1e-9)


def test_real_polygons_over_the_raster_made_of_them(shared_data: Path, tmp_path: Path) -> None:
    """The official land-use polygons of a real place hold mostly the class that was drawn from them."""
    folder = shared_data / "sentinel2_lulc_slovenia/TestEOPatch"
    codes = np.load(folder / "mask_timeless/LULC.npy").squeeze().astype(np.uint8)
    grid = GeoBox.from_bbox(
        (465181.0522318204, 5079244.8912012065, 466180.53145382757, 5080254.63349641),
        "EPSG:32633", shape=codes.shape,
    )  # fmt: skip
    names = {1: "cultivated land", 2: "forest", 3: "grassland", 4: "schrubland", 8: "artificial surface"}  # fmt: skip
    legend = Legend(tuple(LandClass(code, name, "#123456") for code, name in names.items()))
    write_classes(tmp_path / "c.tif", codes, legend, grid)
    zones = read_zones(folder / "vector_timeless/LULC.gpkg", "LULC_NAME")
    with open_classes(tmp_path / "c.tif", tmp_path / "b.csv") as raster:
        table = measure_zones(raster, zones)
    for name, line in zip(zones.ids, table.hectares, strict=True):
        own = line[1 + list(names.values()).index(name)]
        drawn = shapely.intersection(
            zones.polygons[zones.ids.index(name)], box(*grid.boundingbox.bbox)
        )
        assert line.sum() == pytest.approx(drawn.area / 1e4, rel=1e-3)  # plane of UTM
        assert own > (0.3 if name == "cultivated land" else 0.6) * line[1:].sum()
    assert table.hectares[zones.ids.index("forest"), 2] == pytest.approx(73.802497, rel=1e-6)
    in_degrees = (
        gpd.GeoSeries(list(zones.polygons), crs=zones.crs).segmentize(5).to_crs("EPSG:4326")
    )
    frame = gpd.GeoDataFrame({"name": zones.ids}, geometry=in_degrees)
    frame.to_file(tmp_path / "degrees.gpkg", driver="GPKG")
    with open_classes(tmp_path / "c.tif", tmp_path / "b.csv") as raster:
        again = measure_zones(raster, read_zones(tmp_path / "degrees.gpkg", "name"))
    np.testing.assert_allclose(again.hectares, table.hectares, rtol=1e-5, atol=1e-6)


def test_states_over_a_world_map(shared_data: Path, tmp_path: Path) -> None:
    """51 real states over a map of the world in degrees have their areas, Alaska's islands and all."""
    grid = GeoBox((360, 720), Affine(0.5, 0, -180, 0, -0.5, 90), "EPSG:4326")
    write_classes(tmp_path / "c.tif", np.full(grid.shape, 1, np.uint8), LEGEND, grid)
    zones = read_zones(shared_data / "tricky_files/geopackage/states10.gpkg", "STATE_NAME")
    with open_classes(tmp_path / "c.tif", tmp_path / "b.csv") as raster:
        table = measure_zones(raster, zones)
    area = dict(zip(zones.ids, table.hectares[:, 1] / 100, strict=True))  # km2
    assert area["Kansas"] == pytest.approx(213_000, rel=0.01)  # 213,100 km2, US Census
    assert area["Texas"] == pytest.approx(688_000, rel=0.02)
    assert (table.covered_percent == 100).all()


def test_the_command_line(classes: Path) -> None:
    """Summarize writes all tables and shows them; vectorize writes the layer."""
    write_classes(classes, CODES, DEMO, GRID)
    asked = ("--zones", write_zones(classes.with_name("z.gpkg")), "--zone-id", "name")
    walks = ("--crosswalk", "ipcc", "--crosswalk", "corine1")
    areas, gpkg = classes.with_name("areas.csv"), classes.with_name("landcover.gpkg")
    tables, polygons = landcover_each(
        [
            ("summarize", classes, *asked, *walks, "--output", areas),
            ("vectorize", classes, *asked, "--output", gpkg),
        ],
        seconds=120,
    )
    assert (tables.status, polygons.status) == (0, 0), tables.screen + polygons.screen
    for part in ("Area by zone", "Area by class of ipcc", "Wetlands", "partly outside the raster"):
        assert part in tables.screen
    names = {path.name for path in classes.parent.iterdir()}
    assert names >= {
        "areas.csv",
        "areas_ipcc.csv",
        "areas_corine1.csv",
        "zones.csv",
        "zones_wide.csv",
    }
    assert len(gpd.read_file(gpkg, layer="zones")) == 5


def test_mistakes_are_one_sentence(classes: Path) -> None:
    """Each mistake is told in a sentence with exit code 1, before any table is written."""
    zones = write_zones(classes.with_name("z.gpkg"))
    mistakes: list[tuple[list[object], str]] = [
        (["--zones", "none.gpkg", "--zone-id", "name"], "no file none.gpkg"),
        (["--zones", zones], "it has name"),
        (["--zones", zones, "--zone-id", "id"], "no column 'id'; it has name"),
        (["--zones", zones, "--zone-id", "name", "--zone-layer", "x"], "no layer 'x'"),
        (["--zone-id", "name"], "belong to --zones"),
        (["--crosswalk", "narnia"], "'narnia' is neither one of"),
        (["--crosswalk", "ipcc"], "No crosswalk to ipcc starts from the legend of this map"),
        (["--zones", classes, "--zone-id", "name"], "classes.tif"),
    ]
    start = ("summarize", classes, "--output", classes.with_name("areas.csv"))
    outcomes = landcover_each([(*start, *arguments) for arguments, _ in mistakes], seconds=120)
    for (arguments, part), outcome in zip(mistakes, outcomes, strict=True):
        assert outcome.status == 1, (arguments, outcome.screen)
        assert outcome.screen.startswith("error: "), outcome.screen
        assert len(outcome.screen.strip().splitlines()) == 1, outcome.screen
        assert part in outcome.screen
    assert not list(classes.parent.glob("*.csv"))


def test_what_cannot_be_done_is_said(classes: Path) -> None:
    """Two crosswalks of one name, zones that the CRS cannot show, and legends with too many classes."""
    table = 'from_code,from_name,to_code,to_name,lossy\n1,Water,1,W,no\n4,"=Trees, tall",2,T,no\n'
    for name in ("a b.csv", "a_b.csv"):
        classes.with_name(name).write_text(table)
    with pytest.raises(SettingsError, match="Two crosswalks are called 'a_b'"):
        make(classes, crosswalks=[str(classes.with_name(n)) for n in ("a b.csv", "a_b.csv")])
    frame = gpd.GeoDataFrame({"name": ["x"]}, geometry=[box(1e7, 1e7, 2e7, 2e7)], crs="EPSG:4326")
    frame.to_file(classes.with_name("off.gpkg"), driver="GPKG")
    with (
        pytest.raises(RegionError, match=r"zone 'x' cannot be drawn .* not on the Earth"),
        open_classes(classes, classes.with_name("a.csv")) as raster,
    ):
        measure_zones(raster, read_zones(classes.with_name("off.gpkg"), "name"))
    with pytest.raises(LegendError, match="No crosswalk to ipcc"):
        make(classes, crosswalks=["ipcc"])
    many = Legend(tuple(LandClass(k, f"c{k}", "#000000") for k in range(1, 1999)))
    lines = ["value,name,color", *(f"{c.code},{c.name},{c.color}" for c in many.classes)]
    classes.with_name("many.csv").write_text("\n".join(lines))
    zones = read_zones(write_zones(classes.with_name("z.gpkg")), "name")
    with pytest.raises(SettingsError, match="1,998 classes"):
        vectorize(
            classes=classes, confidence=None, output=classes.with_name("o.gpkg"), zones=zones,
            legend=str(classes.with_name("many.csv")),
        )  # fmt: skip
