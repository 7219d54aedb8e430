"""Polygons in every format: the same rows, whole or not at all, the same bytes each time."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from landcover.errors import SettingsError
from landcover.legend import LandClass, Legend
from pipeline import geoparquet, map_file
from pipeline.cli import app
from pipeline.cog import CogProfile, open_cog
from pipeline.map_file import FORMATS, output_files, zooms
from pipeline.vectorize import vectorize
from pipeline.zone_file import read_zones

HOSTILE = 'Bâti "x" <b>&amp; \'; DROP\n\u202egnisrever'
LEGEND = Legend(
    (
        LandClass(1, "Water", "#3f7fbf"),
        LandClass(2, HOSTILE, "#1e6b34"),
        LandClass(9, "Never seen", "#c8473d"),
    )
)
UTM = GeoBox((40, 60), Affine(10, 0, 600_000, 0, -10, 6_700_000), "EPSG:32633")
LAEA = GeoBox((40, 60), Affine(30, 0, 0, 0, -30, 0), CRS("+proj=laea +lat_0=48 +lon_0=16"))
ALL = tuple(FORMATS)


def write_classes(folder: Path, grid: GeoBox = UTM) -> Path:
    """A class raster with classes 0 to 2 in clumps."""
    coarse = np.random.default_rng(3).integers(0, 3, (grid.shape[0] // 4, grid.shape[1] // 4))
    classes = np.kron(coarse, np.ones((4, 4), int)).astype(np.uint8)
    tags = {"LEGEND": json.dumps(LEGEND.to_records())}
    profile = CogProfile("uint8", ["class"], "mode", None, tags)
    folder.mkdir(parents=True, exist_ok=True)
    with open_cog(folder / "classes.tif", grid, profile) as cog:
        cog.write(classes[None])
    return folder / "classes.tif"


def write_all(folder: Path, grid: GeoBox = UTM, **options: Any) -> Path:
    """The map of the raster in every format; returns its folder."""
    classes = write_classes(folder, grid)
    vectorize(classes=classes, confidence=None, output=folder / "map.gpkg", formats=ALL, **options)
    return folder


def rows(path: Path) -> gpd.GeoDataFrame:
    """The polygons of a file, ordered by id."""
    if path.suffix == ".parquet":
        frame = gpd.read_parquet(path).drop(columns="bbox", errors="ignore")
    else:
        frame = gpd.read_file(path, **({"layer": "landcover"} if path.suffix == ".gpkg" else {}))
    return frame.sort_values("id", ignore_index=True)


def test_the_ending_is_the_format_and_others_lie_beside():
    """GeoPackage first, because it holds all; a dot in a name is part of the name."""
    assert output_files(Path("a/m.v2.parquet"), ["pmtiles", "gpkg", "parquet"]) == [
        Path("a/m.v2.gpkg"), Path("a/m.v2.parquet"), Path("a/m.v2.pmtiles"),
    ]  # fmt: skip
    assert output_files(Path("m.fgb"), []) == [Path("m.fgb")]


@pytest.mark.parametrize(
    ("output", "formats", "message"),
    [("m.shp", [], r"m\.shp has no ending of a map"), ("m.gpkg", ["kml"], "no format 'kml'")],
)
def test_other_formats_are_refused(output: str, formats: list[str], message: str):
    """An unknown ending or name is one sentence that lists what there is."""
    with pytest.raises(SettingsError, match=message):
        output_files(Path(output), formats)


@pytest.mark.parametrize("layer", ["instances", "zones"])
def test_layers_need_a_geopackage(tmp_path: Path, layer: str):
    """Other formats hold the polygons alone: what would be lost is refused, or goes into a GeoPackage."""
    classes = write_classes(tmp_path)
    square = shapely.box(*UTM.extent.boundingbox)
    gpd.GeoDataFrame({"name": ["A"]}, geometry=[square], crs=UTM.crs.proj).to_file(
        tmp_path / "z.gpkg"
    )
    zones = read_zones(tmp_path / "z.gpkg", "name")
    asked: dict[str, Any] = {"instances": ["Water"]} if layer == "instances" else {"zones": zones}
    options = asked | {"classes": classes, "confidence": None, "output": tmp_path / "m.parquet"}
    with pytest.raises(SettingsError, match=f"alone, without the layers {layer} .*--format gpkg"):
        vectorize(**options)
    assert not (tmp_path / "m.parquet").exists()
    vectorize(**options, formats=["gpkg"])
    assert layer in pyogrio.list_layers(tmp_path / "m.gpkg")[:, 0]


@pytest.mark.parametrize("ending", ["gpkg", "parquet"])
def test_the_layer_of_what_was_merged_is_named_where_it_is(
    tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
):
    """The command line names the layer `merged` of a GeoPackage, and none of a file that has none."""
    command = ["vectorize", str(write_classes(tmp_path)), "--min-area", "0.5"]
    app([*command, "-o", str(tmp_path / f"m.{ending}")], standalone_mode=False)
    said = capsys.readouterr().out
    assert "ha changed class" in said
    assert ("layer merged" in said) == (ending == "gpkg")


def test_a_missing_driver_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    """A GDAL without the driver is named before any work is done."""
    drivers = {k: v for k, v in pyogrio.list_drivers().items() if k != "PMTiles"}
    monkeypatch.setattr(pyogrio, "list_drivers", lambda: drivers)
    with pytest.raises(SettingsError, match="cannot write PMTiles"):
        output_files(Path("m.gpkg"), ["pmtiles"])


@pytest.mark.parametrize("grid", [UTM, LAEA], ids=["utm", "no epsg code"])
def test_every_format_holds_the_same_rows(tmp_path: Path, grid: GeoBox):
    """GeoParquet and FlatGeobuf have each polygon, vertex and number of the GeoPackage, and its CRS."""
    folder = write_all(tmp_path, grid)
    expected = rows(folder / "map.gpkg")
    assert set(expected.class_name) == {"Water", HOSTILE}
    for ending in (".parquet", ".fgb"):
        found = rows(folder / f"map{ending}")
        assert found.crs.equals(expected.crs, ignore_axis_order=True)
        assert found.geometry.to_wkb().tolist() == expected.geometry.to_wkb().tolist()
        for column in expected.columns.drop("geometry"):
            values = [
                frame[column].astype(object).fillna("-").tolist() for frame in (found, expected)
            ]
            assert values[0] == values[1], column


def test_tiles_hold_the_classes_where_they_are(tmp_path: Path):
    """The finest tiles of all polygons cover the map to half a pixel; names and ids are there."""
    folder = write_all(tmp_path)
    expected = rows(folder / "map.gpkg").to_crs("EPSG:3857")
    tiles = gpd.read_file(folder / "map.pmtiles")
    assert set(tiles.id) == set(expected.id)
    assert set(tiles.class_name) == {"Water", HOSTILE}
    stretch = 1 / math.cos(math.radians(60.4))
    for name, part in expected.groupby("class_name"):
        seen = shapely.union_all(
            shapely.make_valid(tiles[tiles.class_name == name].geometry.values)
        )
        true = shapely.union_all(part.geometry.values)
        assert seen.symmetric_difference(true).area < true.length * 10 / 2 * stretch
    about = pyogrio.read_info(folder / "map.pmtiles")["dataset_metadata"]
    assert (about["minzoom"], about["maxzoom"]) == (zooms(UTM)["MINZOOM"], zooms(UTM)["MAXZOOM"])


def test_zooms_follow_the_size_of_map_and_pixel():
    """By hand: at the equator a unit of zoom z is 40,075 km / 4096 / 2^z, so 10 m need zoom 11 for half of it."""
    equator = GeoBox((100, 100), Affine(10, 0, 500_000, 0, -10, 1000), "EPSG:32631")
    assert zooms(equator) == {"MINZOOM": "11", "MAXZOOM": "11"}
    wide = GeoBox((100, 10_000), Affine(10, 0, 500_000, 0, -10, 1000), "EPSG:32631")
    assert zooms(wide) == {
        "MINZOOM": "6",
        "MAXZOOM": "11",
    }  # 0.9 degrees are 1/4 of a tile of zoom 6.6
    drone = GeoBox((100, 100), Affine(0.01, 0, 500_000, 0, -0.01, 1000), "EPSG:32631")
    assert zooms(drone)["MAXZOOM"] == "16"
    world = GeoBox((18, 36), Affine(10, 0, -180, 0, -10, 90), "EPSG:4326")
    assert zooms(world) == {"MINZOOM": "0", "MAXZOOM": "0"}


def test_tiles_across_the_antimeridian_are_refused(tmp_path: Path):
    """Where the tiles' projection is cut nothing is written; the other formats are."""
    grid = GeoBox((40, 60), Affine(1000, 0, 380_000, 0, -1000, 8_000_000), "EPSG:32601")
    classes = write_classes(tmp_path, grid)
    with pytest.raises(SettingsError, match="180 degree"):
        vectorize(classes=classes, confidence=None, output=tmp_path / "m.gpkg", formats=ALL)
    assert [path.name for path in tmp_path.iterdir()] == ["classes.tif"]
    vectorize(classes=classes, confidence=None, output=tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("crs", "left", "top", "side"),
    [("EPSG:3413", -2e5, 2e5, 1e4), ("EPSG:3031", -2e5, 2e5, 1e4), ("EPSG:4326", 10, -85.1, 0.02)],
)
def test_tiles_around_a_pole_are_refused(crs: str, left: float, top: float, side: float):
    """Web Mercator ends at 85.0511 degrees: a map beyond has no tile; one that reaches there has some."""
    with pytest.raises(SettingsError, match=r"beyond 85\.05 degrees .* leave pmtiles out"):
        zooms(GeoBox((40, 40), Affine(side, 0, left, 0, -side, top), crs))
    assert zooms(GeoBox((40, 40), Affine(0.02, 0, 10, 0, -0.02, -85.0), "EPSG:4326"))


def test_a_rerun_gives_the_same_bytes_in_every_format(tmp_path: Path):
    """Nothing of the time, the folder or the run gets into any file."""
    first, second = write_all(tmp_path / "one"), write_all(tmp_path / "two")
    for ending in FORMATS.values():
        assert (first / f"map{ending}").read_bytes() == (second / f"map{ending}").read_bytes()


def test_a_format_alone_is_as_beside_a_geopackage(tmp_path: Path):
    """What is written from the raster at once has the same rows as what is read back."""
    folder = write_all(tmp_path)
    for ending in (".parquet", ".fgb", ".pmtiles"):
        details = vectorize(
            classes=folder / "classes.tif", confidence=None, output=folder / f"alone{ending}"
        )
        assert details["area_ha"] == pytest.approx(rows(folder / "map.gpkg").area_ha.sum())
        alone, beside = (rows(folder / f"{name}{ending}") for name in ("alone", "map"))
        assert alone.geometry.to_wkb().tolist() == beside.geometry.to_wkb().tolist()
        assert alone.class_name.tolist() == beside.class_name.tolist()
    vectorize(
        classes=folder / "classes.tif", confidence=None, output=folder / "alone.parquet",
        formats=["flatgeobuf", "pmtiles"],
    )  # fmt: skip
    assert (folder / "alone.pmtiles").read_bytes() == (folder / "map.pmtiles").read_bytes()


def check_geo(path: Path) -> dict[str, Any]:
    """The rules of the GeoParquet 1.1.0 schema for the metadata `geo`; returns the column's."""
    schema = pq.read_schema(path)
    geo = json.loads(schema.metadata[b"geo"])
    assert set(geo) == {"version", "primary_column", "columns"}
    assert geo["version"] == "1.1.0"
    (column,) = geo["columns"].values()
    assert list(geo["columns"]) == [geo["primary_column"]] == ["geometry"]
    assert column["encoding"] == "WKB"
    assert set(column["geometry_types"]) <= {"Polygon", "MultiPolygon"}
    assert pyproj.CRS.from_json_dict(column["crs"])
    assert "id" not in column["crs"] or set(column["crs"]["id"]) == {"authority", "code"}
    assert column["covering"] == {
        "bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}
    }
    box = schema.field("bbox").type
    assert [(x.name, str(x.type)) for x in box] == [
        (side, "double") for side in ("xmin", "ymin", "xmax", "ymax")
    ]
    return dict(column)


def test_geoparquet_says_where_its_rows_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The metadata keep the rules; boxes are those of the rows, and of all; readers can skip by them."""
    monkeypatch.setattr(geoparquet, "_GROUP_ROWS", 10)
    path = write_all(tmp_path) / "map.parquet"
    column = check_geo(path)
    file = pq.ParquetFile(path)
    assert file.num_row_groups > 2
    assert {file.metadata.row_group(0).column(0).compression} == {"ZSTD"}
    table = file.read().to_pandas()
    shapes = shapely.from_wkb(table.geometry.to_numpy())
    boxes = np.array(
        [[box[side] for side in ("xmin", "ymin", "xmax", "ymax")] for box in table.bbox]
    )
    assert np.array_equal(boxes, shapely.bounds(shapes))
    assert column["bbox"] == shapely.total_bounds(shapes).tolist()
    assert column["geometry_types"] == sorted(
        set(shapely.get_type_id(shapes).tolist()) and {"Polygon"}
    )
    west, south, _, north = column["bbox"]
    part = gpd.read_parquet(path, bbox=(west, south, west + 50, north))
    touching = shapely.bounds(shapes)[:, 0] <= west + 50
    assert sorted(part.id) == sorted(table.id[touching])
    assert 0 < len(part) < len(table)


def test_geoparquet_carries_legend_and_lineage(tmp_path: Path):
    """Class names, colours and how the map was made travel in the key-value metadata."""
    path = write_all(tmp_path, facts={"region": "R & <D>"}) / "map.parquet"
    metadata = pq.read_schema(path).metadata
    assert json.loads(metadata[b"landcover:legend"]) == LEGEND.to_records()
    run = json.loads(metadata[b"landcover:run"])
    assert run["region"] == "R & <D>"
    assert int(run["polygons"]) == pq.read_metadata(path).num_rows


def test_flatgeobuf_has_its_index(tmp_path: Path):
    """A spatial filter reads by the index, and finds what the GeoPackage finds."""
    folder = write_all(tmp_path)
    assert pyogrio.read_info(folder / "map.fgb")["capabilities"]["fast_spatial_filter"]
    box = (600_000, 6_699_900, 600_100, 6_700_000)
    files = [folder / "map.fgb", folder / "map.gpkg"]
    found = [
        sorted(pyogrio.read_dataframe(path, layer=layer, bbox=box).id)
        for path, layer in zip(files, (0, "landcover"), strict=True)
    ]
    assert found[0] == found[1]
    assert 0 < len(found[0]) < len(rows(folder / "map.gpkg"))


def test_a_full_disk_is_an_error_in_every_format(tmp_path: Path):
    """When a file cannot grow any more it does not appear, and nothing is left beside it."""
    classes = write_classes(tmp_path)
    endings = [".parquet", ".fgb", ".pmtiles"]
    sizes = {}
    for ending in endings:
        vectorize(classes=classes, confidence=None, output=tmp_path / f"out{ending}")
        sizes[ending] = (tmp_path / f"out{ending}").stat().st_size
        (tmp_path / f"out{ending}").unlink()
    code = f"""
import resource, signal
from pathlib import Path
from landcover.errors import RasterError
from pipeline.vectorize import vectorize
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path({str(tmp_path)!r})
for ending, size in {sizes}.items():
    for share in (0.1, 0.5, 0.95, 0.99):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), resource.RLIM_INFINITY))
        try:
            vectorize(classes=folder / "classes.tif", confidence=None, output=folder / f"out{{ending}}")
        except RasterError as error:
            assert f"out{{ending}} could not be written" in str(error), error
        else:
            raise AssertionError(f"{{ending}} at {{share}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["classes.tif"]


def test_a_map_without_data_is_a_file_without_rows(tmp_path: Path):
    """All nodata: every format but tiles, which need something to show, has a schema and no row."""
    profile = CogProfile(
        "uint8", ["class"], "mode", None, {"LEGEND": json.dumps(LEGEND.to_records())}
    )
    with open_cog(tmp_path / "c.tif", UTM, profile) as cog:
        cog.write(np.zeros((1, *UTM.shape), np.uint8))
    options: dict[str, Any] = {"classes": tmp_path / "c.tif", "confidence": None}
    vectorize(**options, output=tmp_path / "m.gpkg", formats=["parquet", "flatgeobuf"])
    with pytest.raises(SettingsError, match="no polygon"):
        vectorize(**options, output=tmp_path / "m.pmtiles")
    assert not (tmp_path / "m.pmtiles").exists()
    for ending in (".gpkg", ".parquet", ".fgb"):
        assert len(rows(tmp_path / f"m{ending}")) == 0
    check_geo(tmp_path / "m.parquet")


def test_the_drivers_are_those_of_the_endings():
    """Every ending has a writer."""
    assert set(map_file._WRITERS) == set(FORMATS.values())
