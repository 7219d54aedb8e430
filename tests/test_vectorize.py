"""The GeoPackage of polygons: true to its raster, valid, styled, and the same bytes each time."""

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Geod
from scipy.ndimage import gaussian_filter

from landcover.area import pixel_areas
from landcover.errors import LegendError, RasterError, SettingsError
from landcover.legend import LandClass, Legend
from pipeline.cog import CogProfile, open_cog
from pipeline.summarize import summarize
from pipeline.vectorize import vectorize

LEGEND = Legend(
    (
        LandClass(1, "Water", "#3f7fbf"),
        LandClass(2, "Forêt <dense> & \x07bois", "#1e6b34"),
        LandClass(9, "Never seen", "#c8473d"),
    )
)
UTM = GeoBox((40, 60), Affine(10, 0, 600_000, 0, -10, 6_700_000), "EPSG:32633")
TURNED = Affine.translation(16.5, 48.2) * Affine.rotation(20) * Affine.scale(1e-4, 8e-5)


def write_classes(path: Path, classes: np.ndarray, grid: GeoBox, **tags: str) -> Path:
    """A class raster as segment writes it."""
    tags = {"LEGEND": json.dumps(LEGEND.to_records())} | tags
    profile = CogProfile("uint8", ["class"], "mode", LEGEND.colormap(), tags)
    with open_cog(path, grid, profile) as cog:
        cog.write(classes.astype(np.uint8)[None])
    return path


def write_confidence(path: Path, percent: np.ndarray, grid: GeoBox) -> Path:
    """A confidence raster as segment writes it."""
    with open_cog(path, grid, CogProfile("uint8", ["confidence"])) as cog:
        cog.write(percent.astype(np.uint8)[None])
    return path


def random_classes(shape: tuple[int, int]) -> np.ndarray:
    """Classes 0 to 2 in clumps."""
    coarse = np.random.default_rng(3).integers(0, 3, (shape[0] // 2, shape[1] // 2))
    return np.kron(coarse, np.ones((2, 2), int))


def vectorized(folder: Path, grid: GeoBox) -> tuple[np.ndarray, np.ndarray, Path]:
    """Random classes, their confidence, and the GeoPackage made of both."""
    classes = random_classes(grid.shape)
    percent = np.where(classes > 0, np.random.default_rng(4).integers(1, 101, grid.shape), 0)
    vectorize(
        classes=write_classes(folder / "classes.tif", classes, grid),
        confidence=write_confidence(folder / "confidence.tif", percent, grid),
        output=folder / "landcover.gpkg",
    )
    return classes, percent, folder / "landcover.gpkg"


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a GeoPackage, read as plain SQLite."""
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def test_a_drawing_becomes_its_polygons(tmp_path: Path):
    """Three pixels of water around a forest pixel: two rows with class, pixels and confidence."""
    grid = GeoBox((2, 2), Affine(100, 0, 1_000_000, 0, -100, 5_000_000), "EPSG:6933")
    details = vectorize(
        classes=write_classes(tmp_path / "c.tif", np.array([[1, 1], [1, 2]]), grid),
        confidence=write_confidence(tmp_path / "p.tif", np.array([[50, 60], [90, 33]]), grid),
        output=tmp_path / "out.gpkg",
    )
    layer = gpd.read_file(tmp_path / "out.gpkg", layer="landcover")
    assert list(layer.columns) == [
        "id", "class_code", "class_name", "area_ha", "perimeter_m", "pixels", "confidence",
        "confidence_min", "observations", "observed_percent", "first_day", "last_day", "geometry",
    ]  # fmt: skip
    assert layer.id.tolist() == [1, 4]
    assert layer.perimeter_m.tolist() == pytest.approx([800, 400], rel=0.05)
    assert layer.confidence_min.tolist() == [50, 33]
    assert layer.class_code.tolist() == [1, 2]
    assert layer.class_name.tolist() == list(LEGEND.names[:2])
    assert layer.pixels.tolist() == [3, 1]
    assert layer.confidence.tolist() == pytest.approx([200 / 3, 33])
    assert layer.area_ha.tolist() == pytest.approx([3, 1], rel=1e-9)
    assert layer.crs == "EPSG:6933"
    assert layer.area.tolist() == [30_000, 10_000]
    assert (details["polygons"], details["pixels"]) == (2, 4)
    assert details["area_ha"] == pytest.approx(4, rel=1e-9)


@pytest.mark.parametrize(
    "grid",
    [
        UTM,
        GeoBox((40, 60), TURNED, "EPSG:4326"),
        GeoBox((40, 60), Affine(10, 0, 1e6, 0, 10, 8e6), "EPSG:3857"),
        GeoBox((40, 60), Affine(30, 0, 0, 0, -30, 0), CRS("+proj=laea +lat_0=48 +lon_0=16")),
    ],
    ids=["utm", "rotated degrees", "south-up mercator", "no epsg code"],
)
def test_polygons_are_a_coverage_with_the_pixels_area(tmp_path: Path, grid: GeoBox):
    """In any CRS: a valid coverage, hectares of the valid pixels, and the layer `areas` agrees."""
    classes, _, path = vectorized(tmp_path, grid)
    layer = gpd.read_file(path, layer="landcover")
    assert shapely.coverage_is_valid(layer.geometry.values)
    assert layer.crs.equals(grid.crs.proj, ignore_axis_order=True)
    assert layer.pixels.sum() == (classes > 0).sum()
    expected = pixel_areas(grid)[classes > 0].sum() / 1e4
    assert layer.area_ha.sum() == pytest.approx(expected, rel=1e-9)
    areas = pyogrio.read_dataframe(path, layer="areas").set_index("class_code")
    assert areas.index.tolist() == [1, 2, 9]
    sums = layer.groupby("class_code").area_ha.sum().reindex([1, 2, 9], fill_value=0)
    assert areas.area_ha.tolist() == pytest.approx(sums.tolist(), rel=1e-12)
    assert areas.share_percent.sum() == pytest.approx(100, rel=1e-12)
    assert areas.pixels.sum() == layer.pixels.sum()


def test_polygons_hold_the_mean_of_their_pixels(tmp_path: Path):
    """Burning polygon numbers back finds each polygon's pixels: class, count, confidence agree."""
    classes, percent, path = vectorized(tmp_path, UTM)
    layer = gpd.read_file(path, layer="landcover")
    numbers = rasterio.features.rasterize(
        zip(layer.geometry, range(1, len(layer) + 1), strict=True), UTM.shape,
        transform=UTM.affine, dtype="int32",
    )  # fmt: skip
    assert np.array_equal(numbers > 0, classes > 0)
    for number, row in enumerate(layer.itertuples(), start=1):
        inside = numbers == number
        assert set(classes[inside]) == {row.class_code}
        assert inside.sum() == row.pixels
        assert percent[inside].mean() == pytest.approx(row.confidence)


def test_the_table_of_the_map_is_that_of_summarize(tmp_path: Path):
    """The layer `areas` and areas.csv hold the same figures, to the last bit."""
    _, _, path = vectorized(tmp_path, UTM)
    rows = summarize(classes=tmp_path / "classes.tif", output=tmp_path / "areas.csv")["rows"]
    layer = pyogrio.read_dataframe(path, layer="areas")
    for column in ("class_code", "area_ha", "share_percent", "pixels"):
        assert layer[column].tolist() == [row[column] for row in rows]


def test_the_file_passes_the_validator_of_gdal(tmp_path: Path):
    """`validate_gpkg` finds nothing to say, and the version is 1.3."""
    _, _, path = vectorized(tmp_path, UTM)
    done = subprocess.run(
        [sys.executable, "-m", "osgeo_utils.samples.validate_gpkg", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert query(path, "PRAGMA user_version") == [(10300,)]


def test_the_file_has_a_spatial_index_and_says_what_it_holds(tmp_path: Path):
    """The polygons are indexed, and both layers describe their columns and units."""
    _, _, path = vectorized(tmp_path, UTM)
    extensions = query(path, "SELECT table_name, extension_name FROM gpkg_extensions")
    assert ("landcover", "gpkg_rtree_index") in extensions
    contents = dict(query(path, "SELECT table_name, description FROM gpkg_contents"))
    assert "percent" in contents["landcover"]
    assert "hectares" in contents["areas"]


def test_each_table_carries_one_default_style(tmp_path: Path):
    """`layer_styles` is as QGIS makes it, one row a table; hostile class names cannot break its documents."""
    _, _, path = vectorized(tmp_path, UTM)
    style = "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault"
    assert query(path, f"{style} FROM layer_styles") == [
        ("", "", "landcover", "geom", 1),
        ("", "", "areas", "", 1),
        ("", "", "run", "", 1),
    ]
    documents = query(path, "SELECT styleQML, styleSLD FROM layer_styles")[0]
    for text in documents:
        assert "Forêt &lt;dense&gt; &amp; bois" in text
        ET.fromstring(text)
    assert 'value="30,107,52,255"' in documents[0]
    assert "#1e6b34" in documents[1]
    registered = "SELECT data_type, srs_id FROM gpkg_contents WHERE table_name = 'layer_styles'"
    assert query(path, registered) == [("attributes", 0)]


def test_a_rerun_gives_the_same_bytes(tmp_path: Path):
    """Nothing in the file depends on the time, the folder or the run."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(vectorized(tmp_path / name, UTM)[2].read_bytes())
    assert made[0] == made[1]
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def write_composite(
    path: Path, counts: list[Any], days: list[Any], grid: GeoBox, **tags: str
) -> Path:
    """A composite as the stage writes it, of one band."""
    profile = CogProfile("uint16", ["red", "observations", "day"], tags=tags)
    with open_cog(path, grid, profile) as cog:
        cog.write(np.array([np.zeros_like(counts), counts, days], np.uint16))
    return path


HECTARES = GeoBox((2, 2), Affine(100, 0, 1_000_000, 0, -100, 5_000_000), "EPSG:6933")


def test_polygons_say_how_often_and_when_they_were_seen(tmp_path: Path):
    """Three pixels seen 4, 2 and 0 times of 4, the last one on no day: mean 2, half; first and last day."""
    vectorize(
        classes=write_classes(tmp_path / "c.tif", np.array([[1, 1], [1, 2]]), HECTARES),
        confidence=None,
        composite=write_composite(
            tmp_path / "i.tif",
            [[4, 2], [0, 3]],
            [[18262, 18293], [0, 0]],
            HECTARES,
            OBSERVATIONS="4",
        ),
        output=tmp_path / "out.gpkg",
    )
    rows = query(
        tmp_path / "out.gpkg",
        "SELECT observations, observed_percent, first_day, last_day FROM landcover ORDER BY id",
    )
    assert rows == [(2.0, 50.0, "2020-01-01", "2020-02-01"), (3.0, 75.0, None, None)]


def test_a_composite_that_counts_nothing_is_refused(tmp_path: Path):
    """An image without the band observations: a sentence, and no file."""
    with pytest.raises(RasterError, match="observations and day among them"):
        vectorize(
            classes=write_classes(tmp_path / "c.tif", np.ones((2, 2)), HECTARES),
            confidence=None,
            composite=write_confidence(tmp_path / "p.tif", np.ones((2, 2)), HECTARES),
            output=tmp_path / "out.gpkg",
        )
    assert not (tmp_path / "out.gpkg").exists()


@pytest.mark.parametrize("options", [{}, {"min_area": 0.5, "simplify": 15.0}])
def test_corners_make_multipolygons_that_close(options: dict[str, float], tmp_path: Path):
    """Connected by corners: fewer features, all valid, the same hectares, a coverage of their parts."""
    classes = random_classes(UTM.shape)
    write_classes(tmp_path / "c.tif", classes, UTM)
    for connectivity in (4, 8):
        vectorize(
            classes=tmp_path / "c.tif", confidence=None, output=tmp_path / f"{connectivity}.gpkg",
            connectivity=connectivity, **options,
        )  # fmt: skip
    sides, corners = (gpd.read_file(tmp_path / f"{n}.gpkg", layer="landcover") for n in (4, 8))
    assert 0 < len(corners) < len(sides)
    assert set(corners.geom_type) == {"MultiPolygon"}
    assert corners.is_valid.all()
    assert shapely.coverage_is_valid(corners.geometry.explode().values)
    assert corners.area_ha.sum() == pytest.approx(sides.area_ha.sum(), rel=1e-12)
    assert corners.pixels.sum() == (classes > 0).sum()


def test_the_area_table_has_both_kinds_side_by_side(tmp_path: Path):
    """After merging, area_ha is that of the class raster and polygon_ha that of the polygons; both sum up."""
    drawing = np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]])
    grid = GeoBox((3, 3), HECTARES.affine, "EPSG:6933")
    write_classes(tmp_path / "c.tif", drawing, grid)
    vectorize(
        classes=tmp_path / "c.tif", confidence=None, output=tmp_path / "out.gpkg", min_area=1.5
    )
    rows = query(tmp_path / "out.gpkg", "SELECT class_code, pixels, area_ha, polygon_ha FROM areas")
    assert [row[:2] for row in rows] == [(1, 8), (2, 1), (9, 0)]
    assert [x for row in rows for x in row[2:]] == pytest.approx([8, 9, 1, 0, 0, 0], rel=1e-9)
    table = summarize(
        classes=tmp_path / "c.tif", output=tmp_path / "a.csv", polygons=tmp_path / "out.gpkg"
    )
    assert [(r["area_ha"], r["polygon_ha"]) for r in table["rows"]] == [row[2:] for row in rows]


@pytest.mark.parametrize("least", [9.5, 1000, float("inf")])
def test_a_minimum_above_the_whole_raster_leaves_one_class(tmp_path: Path, least: float):
    """Nine hectares: whatever the minimum, all goes into the largest class."""
    drawing = np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]])
    grid = GeoBox((3, 3), HECTARES.affine, "EPSG:6933")
    write_classes(tmp_path / "c.tif", drawing, grid)
    vectorize(
        classes=tmp_path / "c.tif", confidence=None, output=tmp_path / "out.gpkg", min_area=least
    )
    found = gpd.read_file(tmp_path / "out.gpkg", layer="landcover")
    assert (found.class_code.tolist(), found.pixels.tolist()) == ([1], [9])


def test_polygons_of_another_raster_are_refused(tmp_path: Path):
    """Summarize compares the pixels by class before it puts two tables side by side."""
    for name, classes in (("c.tif", np.ones((2, 2))), ("other.tif", np.array([[1, 1], [1, 0]]))):
        write_classes(tmp_path / name, classes, HECTARES)
    vectorize(classes=tmp_path / "c.tif", confidence=None, output=tmp_path / "out.gpkg")
    with pytest.raises(RasterError, match="made from another class raster"):
        summarize(
            classes=tmp_path / "other.tif",
            output=tmp_path / "a.csv",
            polygons=tmp_path / "out.gpkg",
        )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((1, 2, 2), 0.93, np.float32), r"1 band\(s\) of float32; give one band of uint8"),
        (np.full((1, 2, 2), 9300, np.uint16), "of uint16; give"),
        (np.full((3, 2, 2), 93, np.uint8), r"3 band\(s\) of uint8; give"),
        (np.full((1, 2, 2), 240, np.uint8), "holds a confidence of 240; it is percent"),
    ],
)
def test_a_confidence_that_is_not_percent_is_refused(tmp_path: Path, values: np.ndarray, said: str):
    """Shares, hundredths of percent, three bands and bytes are no percent; nothing is written."""
    grid = UTM[:2, :2]
    classes = write_classes(tmp_path / "c.tif", np.ones((2, 2)), grid)
    profile = CogProfile(values.dtype.name, [f"{n}" for n in range(len(values))])
    with open_cog(tmp_path / "p.tif", grid, profile) as cog:
        cog.write(values)
    with pytest.raises(RasterError, match=rf"p\.tif .*{said}"):
        vectorize(classes=classes, confidence=tmp_path / "p.tif", output=tmp_path / "out.gpkg")
    assert not (tmp_path / "out.gpkg").exists()


def test_nodata_of_a_confidence_is_no_percent(tmp_path: Path):
    """255 beside the classes, where the file says that it is nodata, is no reason to refuse it."""
    grid = UTM[:1, :2]
    classes = write_classes(tmp_path / "c.tif", np.array([[1, 0]]), grid)
    sure = write_confidence(tmp_path / "p.tif", np.array([[80, 255]]), grid)
    with rasterio.open(sure, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.nodata = 255
    vectorize(classes=classes, confidence=sure, output=tmp_path / "out.gpkg")
    row = gpd.read_file(tmp_path / "out.gpkg", layer="landcover").iloc[0]
    assert (row.confidence, row.confidence_min) == (80, 80)


@pytest.mark.parametrize("inside", [True, False])
def test_what_the_mask_of_a_class_raster_hides_is_no_data(tmp_path: Path, inside: bool):
    """Half a raster under its mask, in the file or beside it, with a value that the legend lacks."""
    pixels = np.array([[1, 1], [2, 2], [2, 77]], np.uint8)
    shown = np.array([[1, 1], [1, 0], [0, 0]], np.bool_)
    profile = {"driver": "GTiff", "width": 2, "height": 3, "count": 1, "dtype": "uint8"}
    place = {"crs": str(UTM.crs), "transform": UTM.affine}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(tmp_path / "m.tif", "w", **profile, **place) as dataset,
    ):
        dataset.write(pixels, 1)
        dataset.write_mask(shown)
        dataset.update_tags(LEGEND=json.dumps(LEGEND.to_records()))
    rows = summarize(classes=tmp_path / "m.tif", output=tmp_path / "m.csv")["rows"]
    assert [(row["class_code"], row["pixels"]) for row in rows] == [(1, 2), (2, 1), (9, 0)]
    vectorize(classes=tmp_path / "m.tif", confidence=None, output=tmp_path / "m.gpkg", strip_rows=1)
    found = gpd.read_file(tmp_path / "m.gpkg", layer="landcover")
    assert sorted(zip(found.class_code, found.pixels, strict=True)) == [(1, 2), (2, 1)]


def test_without_confidence_the_column_is_empty(tmp_path: Path):
    """The columns are the same with and without a confidence raster."""
    classes = write_classes(tmp_path / "c.tif", random_classes(UTM.shape), UTM)
    vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")
    assert gpd.read_file(tmp_path / "out.gpkg", layer="landcover").confidence.isna().all()


def test_a_map_without_data_has_no_polygon(tmp_path: Path):
    """All nodata: a valid file with an empty layer and a table of zeros."""
    classes = write_classes(tmp_path / "c.tif", np.zeros(UTM.shape), UTM)
    details = vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")
    assert details["polygons"] == 0
    assert len(gpd.read_file(tmp_path / "out.gpkg", layer="landcover")) == 0
    assert pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="areas").area_ha.tolist() == [0] * 3


def test_many_polygons_are_written_in_batches(tmp_path: Path):
    """A chequerboard of 90,000 polygons, more than one batch, arrives complete and in order."""
    grid = GeoBox((300, 300), UTM.affine, UTM.crs)
    board = np.indices(grid.shape).sum(axis=0) % 2 + 1
    classes = write_classes(tmp_path / "c.tif", board, grid)
    vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")
    layer = gpd.read_file(tmp_path / "out.gpkg", layer="landcover")
    assert layer.class_code.tolist() == board.ravel().tolist()
    assert (layer.pixels == 1).all()
    assert (layer.area == 100).all()


def test_bad_rasters_are_refused_and_leave_nothing(tmp_path: Path):
    """Truncated, without CRS, without legend, unknown code, other grid: an error, and no file."""
    classes = write_classes(tmp_path / "classes.tif", random_classes(UTM.shape), UTM)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(classes.read_bytes()[:-200])
    with rasterio.open(classes) as dataset:
        pixels, tags, profile = dataset.read(), dataset.tags(), dataset.profile
    cases: list[tuple[Path, type[Exception], str]] = [
        (cut, RasterError, "cannot be read"),
        (tmp_path / "missing.tif", RasterError, "missing.tif"),
    ]
    for name, change, error, message in [
        ("nowhere", {"crs": None}, RasterError, "has no CRS"),
        ("float", {"dtype": "float32"}, RasterError, "float32"),
    ]:
        plain = {"driver": "GTiff", "tiled": False, "compress": None}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **(profile | plain | change)) as dataset:
            dataset.write(pixels)
            dataset.update_tags(**tags)
        cases.append((tmp_path / f"{name}.tif", error, message))
    cases.append(
        (write_classes(tmp_path / "none.tif", np.ones((2, 2)), UTM[:2, :2], LEGEND="no"), LegendError, "legend")
    )  # fmt: skip
    cases.append(
        (write_classes(tmp_path / "odd.tif", np.full((2, 2), 5), UTM[:2, :2]), LegendError, "codes")
    )
    for path, error, message in cases:
        with pytest.raises(error, match=message):
            vectorize(classes=path, confidence=None, output=tmp_path / "out.gpkg")
    elsewhere = GeoBox(UTM.shape, UTM.affine * Affine.translation(1, 0), UTM.crs)
    confidence = write_confidence(tmp_path / "confidence.tif", np.ones(UTM.shape), elsewhere)
    with pytest.raises(RasterError, match="another grid"):
        vectorize(classes=classes, confidence=confidence, output=tmp_path / "out.gpkg")
    assert not [path for path in tmp_path.iterdir() if "gpkg" in path.name]


def test_real_land_cover_closes(shared_data: Path, tmp_path: Path):
    """The official land-use map of a square kilometre in Slovenia: coverage, and closed areas."""
    codes = np.load(shared_data / "sentinel2_lulc_slovenia/TestEOPatch/mask_timeless/LULC.npy")
    codes = codes.squeeze()
    legend = [
        {"code": c, "name": f"Class {c}", "color": f"#{c * 20:02x}8040"} for c in range(1, 11)
    ]
    grid = GeoBox(codes.shape, Affine(10, 0, 465_180, 0, -10, 5_080_254), "EPSG:32633")
    classes = write_classes(tmp_path / "c.tif", codes, grid, LEGEND=json.dumps(legend))
    details = vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")
    layer = gpd.read_file(tmp_path / "out.gpkg", layer="landcover")
    assert details["pixels"] == (codes > 0).sum()
    assert shapely.coverage_is_valid(layer.geometry.values)
    assert layer.area_ha.sum() == pytest.approx(pixel_areas(grid)[codes > 0].sum() / 1e4, rel=1e-9)
    assert details["area_ha"] == pytest.approx((codes > 0).sum() * 0.01, rel=1e-3)  # planar


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9, 0.97])
def test_a_full_disk_is_an_error(tmp_path: Path, share: float):
    """When the GeoPackage cannot grow any more, at whatever moment, it does not appear."""
    classes = write_classes(tmp_path / "classes.tif", random_classes(UTM.shape), UTM)
    vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")
    limit = int((tmp_path / "out.gpkg").stat().st_size * share)
    (tmp_path / "out.gpkg").unlink()
    code = f"""
import resource, signal, sys
from pathlib import Path
from landcover.errors import RasterError
from pipeline.vectorize import vectorize
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
folder = Path({str(tmp_path)!r})
try:
    vectorize(classes=folder / "classes.tif", confidence=None, output=folder / "out.gpkg")
except RasterError as error:
    sys.exit("out.gpkg could not be written" in str(error) and 7)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 7, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["classes.tif"]


def test_a_geopackage_being_edited_is_not_replaced(tmp_path: Path):
    """An open edit session keeps a log beside the file; replacing the file under it would corrupt it."""
    classes = write_classes(tmp_path / "classes.tif", random_classes(UTM.shape), UTM)
    vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")
    with contextlib.closing(sqlite3.connect(tmp_path / "out.gpkg")) as session:
        session.execute("PRAGMA journal_mode=WAL")
        session.execute("UPDATE layer_styles SET description = 'mine'")
        session.commit()
        with pytest.raises(SettingsError, match=r"out\.gpkg is open for editing"):
            vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")
        assert session.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    vectorize(classes=classes, confidence=None, output=tmp_path / "out.gpkg")


def patches(shape: tuple[int, int]) -> np.ndarray:
    """Classes 0, 1, 2 and 9 in smooth patches with rough edges."""
    noise = gaussian_filter(np.random.default_rng(8).normal(size=shape), 1.5)
    return np.choose(np.digitize(noise, [-0.25, 0, 0.1]), [1, 2, 9, 0])


def generalized(folder: Path, name: str, **options: Any) -> tuple[gpd.GeoDataFrame, dict[str, Any]]:
    """Polygons by id, of the patches in UTM, and what vectorize says of them."""
    grid = UTM.pad(20)
    path = folder / "patches.tif"
    if not path.exists():
        write_classes(path, patches(grid.shape), grid)
    details = vectorize(classes=path, confidence=None, output=folder / f"{name}.gpkg", **options)
    layer = gpd.read_file(folder / f"{name}.gpkg", layer="landcover")
    return layer.sort_values("id", ignore_index=True), details


@pytest.mark.parametrize(
    "options", [{}, {"min_area": 0.1}, {"simplify": 15.0}, {"min_area": 0.1, "simplify": 25.0}]
)
def test_rows_read_at_a_time_change_nothing(options: dict[str, float], tmp_path: Path):
    """The same polygons, ids and numbers whether the raster is read row by row or at once."""
    whole, told = generalized(tmp_path, "whole", strip_rows=1000, **options)
    for rows in (1, 7, 64):
        cut, details = generalized(tmp_path, f"cut-{rows}", strip_rows=rows, **options)
        assert details == told
        assert cut.drop(columns="geometry").equals(whole.drop(columns="geometry"))
        assert cut.geometry.to_wkb().tolist() == whole.geometry.to_wkb().tolist()


def test_small_polygons_go_into_their_neighbours(tmp_path: Path):
    """None below the minimum but islands; the hectares stay, and the ledger says what moved."""
    before, _ = generalized(tmp_path, "before")
    after, told = generalized(tmp_path, "after", min_area=0.1)
    assert shapely.coverage_is_valid(after.geometry.to_numpy())
    small = after[after.area_ha < 0.1]
    others = shapely.STRtree(after.geometry.to_numpy())
    for shape in small.geometry:
        touching = others.query(shape, predicate="intersects")
        shared = shapely.intersection(shape, after.geometry.to_numpy()[touching])
        assert (shapely.length(shared) > 0).sum() == 1  # with itself alone
    assert after.area_ha.sum() == pytest.approx(before.area_ha.sum(), rel=1e-12)
    assert len(before) - len(after) <= told["merged"]
    ledger = gpd.read_file(tmp_path / "after.gpkg", layer="merged")
    moved = (
        ledger.groupby("to_code")
        .area_ha.sum()
        .sub(ledger.groupby("from_code").area_ha.sum(), fill_value=0)
    )
    areas = [frame.groupby("class_code").area_ha.sum() for frame in (before, after)]
    assert moved.to_dict() == pytest.approx((areas[1] - areas[0]).to_dict(), abs=1e-9)
    assert told["moved_ha"] == pytest.approx(ledger.area_ha.sum())


def test_simplified_polygons_say_their_own_area(tmp_path: Path):
    """A coverage of the same outline; each polygon's hectares are those of its new shape."""
    before, _ = generalized(tmp_path, "before")
    after, told = generalized(tmp_path, "after", simplify=25.0)
    shapes = after.geometry.to_numpy()
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert shapely.union_all(shapes).equals(shapely.union_all(before.geometry.to_numpy()))
    assert shapely.get_num_coordinates(shapes).sum() < told["vertices"] * 1.01
    assert told["vertices"] < shapely.get_num_coordinates(before.geometry.to_numpy()).sum()
    assert 5 < told["displacement_m"] <= 25
    assert after.area_ha.sum() == pytest.approx(before.area_ha.sum(), rel=1e-12)
    geod = Geod(ellps="WGS84")
    for shape, hectares in zip(after.to_crs("EPSG:4326").geometry, after.area_ha, strict=True):
        true = abs(geod.geometry_area_perimeter(shape)[0]) / 1e4
        assert hectares == pytest.approx(true, rel=1e-5)


@pytest.mark.parametrize("option", [{"min_area": -1.0}, {"simplify": -0.1}, {"strip_rows": 0}])
def test_wrong_numbers_are_refused(option: dict[str, Any], tmp_path: Path):
    """Nothing is written where a setting makes no sense."""
    path = write_classes(tmp_path / "c.tif", np.array([[1, 2]]), UTM[:1, :2])
    with pytest.raises(SettingsError, match="give"):
        vectorize(classes=path, confidence=None, output=tmp_path / "o.gpkg", **option)
    assert not (tmp_path / "o.gpkg").exists()
