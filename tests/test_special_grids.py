"""From class raster to published map where grids are special: poles, antimeridian, equator, several zones."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from jsonschema import Draft7Validator
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from scipy.ndimage import maximum_filter, minimum_filter
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from landcover.grid import inside, output_grid
from pipeline.cog import CogProfile, open_cog
from pipeline.composite import composite
from pipeline.index import index_folder
from pipeline.publish import publish
from pipeline.region import load_region
from pipeline.region_grid import region_grid
from pipeline.search import search
from pipeline.summarize import summarize
from pipeline.vectorize import vectorize
from tests.run_folder import LEGEND, run_record, write_bands, write_classes
from tests.test_publish import PROJECTION, core_errors
from tests.test_qgis import PYTHON, run_python


@dataclass(frozen=True)
class Place:
    """A region whose grid is special."""

    box: str
    """West, south, east, north as a user writes them."""
    pixel: float
    """Metres, or degrees for `crs`."""
    code: str | None
    """What the STAC item says of its CRS; None where it has no code."""
    crs: str | None = None


PLACES = {
    "antimeridian": Place("179.95,-16.9,-179.95,-16.8", 20, "EPSG:32701"),
    "antimeridian in degrees": Place("179.95,-16.9,-179.95,-16.8", 2e-4, "EPSG:4326", "EPSG:4326"),
    "wide antimeridian": Place("174,-20,-172,-14", 1500, None),
    "arctic": Place("20,84.95,22,85.05", 40, "EPSG:6931"),
    "north pole": Place("-180,89,180,90", 300, "EPSG:6931"),
    "south pole": Place("-180,-90,180,-89", 300, "EPSG:6932"),
    "three zones": Place("0,45,14,47", 1000, None),
    "equator": Place("10,-0.06,10.1,0.05", 20, "EPSG:32732"),
    "equator and antimeridian": Place("179.95,-0.05,-179.95,0.06", 20, "EPSG:32601"),
}


@dataclass(frozen=True)
class Published:
    """What was made of a place."""

    place: Place
    footprint: BaseGeometry
    grid: GeoBox
    codes: np.ndarray
    folder: Path
    areas: dict[str, Any]
    details: dict[str, Any]

    @property
    def item(self) -> dict[str, Any]:
        """The STAC item."""
        content: dict[str, Any] = json.loads((self.folder / "item.json").read_text())
        return content


@pytest.fixture(scope="module", params=PLACES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A map of random clumps over the whole footprint, from class raster to report."""
    place, folder = PLACES[request.param], tmp_path_factory.mktemp("place")
    footprint = load_region(place.box).footprint
    grid = output_grid(footprint, place.pixel, place.crs)
    codes = clumps(grid, footprint)
    write_classes(folder / "classes.tif", codes, LEGEND, grid)
    write_bands(folder / "confidence.tif", {"confidence": np.where(codes, 80, 0)}, grid=grid)
    bands = {
        name: np.where(codes, 500 + 100 * codes.astype(np.uint16), 0)
        for name in ("red", "green", "blue")
    }
    write_bands(folder / "composite.tif", bands, "uint16", grid)
    vectorize(
        classes=folder / "classes.tif", confidence=folder / "confidence.tif",
        output=folder / "landcover.gpkg",
    )  # fmt: skip
    areas = summarize(classes=folder / "classes.tif", output=folder / "areas.csv")
    record = run_record() | {"region": {"name": "place", "footprint": mapping(footprint)}}
    details = publish(folder=folder, run=record)
    return Published(place, footprint, grid, codes, folder, areas, details)


def clumps(grid: GeoBox, footprint: BaseGeometry) -> np.ndarray:
    """Classes in clumps of 16 pixels inside the footprint, 0 outside."""
    rows, cols = grid.shape
    coarse = np.random.default_rng(5).choice([1, 2, 5], (rows // 16 + 1, cols // 16 + 1))
    codes = np.kron(coarse, np.ones((16, 16), int))[:rows, :cols]
    return np.where(inside(grid, footprint), codes, 0).astype(np.uint8)


def geodesic_hectares(geometry: BaseGeometry) -> float:
    """Area on the ellipsoid by geodesics between points that are near each other."""
    parts = shapely.orient_polygons(shapely.get_parts(geometry.segmentize(0.01)))
    return sum(Geod(ellps="WGS84").geometry_area_perimeter(part)[0] for part in parts) / 1e4


def test_areas_close(made: Published):
    """Polygons sum to the pixels and to the table, and all to the footprint's area on the ellipsoid."""
    layer = gpd.read_file(made.folder / "landcover.gpkg", layer="landcover")
    total = layer.area_ha.sum()
    assert shapely.coverage_is_valid(layer.geometry.values)
    assert layer.pixels.sum() == np.count_nonzero(made.codes)
    assert total == pytest.approx(made.areas["area_ha"], rel=1e-9)
    rim = np.count_nonzero(np.diff(made.codes > 0, axis=0)) + np.count_nonzero(
        np.diff(made.codes > 0, axis=1)
    )
    rim += 2 * sum(made.codes.shape)
    pixel = total / np.count_nonzero(made.codes)
    assert total == pytest.approx(geodesic_hectares(made.footprint), abs=rim * pixel / 2)


@pytest.mark.parametrize(
    "made",
    ["wide antimeridian", "arctic", "north pole", "south pole", "three zones"],
    indirect=True,
)
def test_equal_area_grids_have_pixels_of_one_size(made: Published):
    """In the polar and the centred grids the planar area of polygons is their area on the ellipsoid."""
    layer = gpd.read_file(made.folder / "landcover.gpkg", layer="landcover")
    assert layer.area_ha.to_numpy() == pytest.approx(layer.area.to_numpy() / 1e4, rel=1e-6)


def test_the_geopackage_is_valid_and_knows_its_place(made: Published):
    """GDAL's validator is content, and the file's CRS is the grid's."""
    path = made.folder / "landcover.gpkg"
    done = subprocess.run(
        [sys.executable, "-m", "osgeo_utils.samples.validate_gpkg", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    crs = gpd.read_file(path, layer="landcover", rows=1).crs
    assert crs.equals(made.grid.crs.proj, ignore_axis_order=True)


def test_the_item_says_where_it_is(made: Published):
    """Valid STAC: the split footprint, a bbox that does not go around the Earth, and the CRS."""
    item = made.item
    assert core_errors(item) == []
    Draft7Validator(PROJECTION).validate(item["properties"])
    assert item["properties"]["proj:code"] == made.place.code
    if made.place.code is None:
        wkt = item["properties"]["proj:wkt2"]
        assert wkt.startswith('PROJCRS["Lambert azimuthal equal-area at ')
        assert made.grid.crs == GeoBox((1, 1), made.grid.affine, wkt).crs
    assert shapely.geometry.shape(item["geometry"]).equals(made.footprint)
    assert item["bbox"] == [float(part) for part in made.place.box.split(",")]


def test_without_a_footprint_the_item_outlines_the_raster(made: Published, tmp_path: Path):
    """The raster's own outline is on the Earth, whole, split at the antimeridian, around the pole."""
    for name in ("classes.tif", "composite.tif", "areas.csv"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    publish(folder=tmp_path, run=run_record())
    item = json.loads((tmp_path / "item.json").read_text())
    assert core_errors(item) == []
    outline = shapely.geometry.shape(item["geometry"])
    assert outline.is_valid
    grid = made.grid
    assert inside(grid.buffered(-grid.resolution.x), outline).all()
    assert geodesic_hectares(outline) == pytest.approx(
        made.areas["area_ha"] + made.areas["nodata"]["area_ha"], rel=2e-3
    )
    west, _, east, _ = item["bbox"]
    assert (west > east) == ("antimeridian" in str(made.place) or made.place.box.startswith("17"))


def test_the_report_counts_and_draws_it(made: Published):
    """All of the footprint is seen, the maps have the shape of the ground, the bar is in scale."""
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert made.details["unseen_percent"] == 0
    assert page.count("data:image/png;base64,") >= 3
    assert "Lambert azimuthal" in page or f"({made.place.code})" in page


@pytest.mark.parametrize("name", ["three zones", "antimeridian", "north pole"])
def test_qgis_draws_it(name: str, tmp_path: Path):
    """QGIS opens the layer in its CRS, coded or not, and draws the classes where they are."""
    if not Path(PYTHON).exists() or run_python("-c", "import qgis.core").returncode:
        pytest.skip(f"no QGIS for {PYTHON}")
    place = PLACES[name]
    footprint = load_region(place.box).footprint
    grid = output_grid(footprint, place.pixel, place.crs)
    codes = clumps(grid, footprint)
    write_classes(tmp_path / "classes.tif", codes, LEGEND, grid)
    vectorize(classes=tmp_path / "classes.tif", confidence=None, output=tmp_path / "landcover.gpkg")
    same = maximum_filter(codes, 5) == minimum_filter(
        codes, 5
    )  # QGIS draws fewer pixels than there are
    rows, cols = np.nonzero(same)
    chosen = np.random.default_rng(2).choice(len(rows), 40)
    rows, cols = rows[chosen], cols[chosen]
    points = [list(grid.affine * (c + 0.5, r + 0.5)) for r, c in zip(rows, cols, strict=True)]
    (tmp_path / "points.json").write_text(json.dumps(points))
    done = run_python(
        str(Path(__file__).with_name("qgis_render.py")), str(tmp_path / "landcover.gpkg"),
        str(tmp_path / "map.png"), "--points", str(tmp_path / "points.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["crs"] == (place.code or facts["crs"])
    expected = [LEGEND[code].color if code else "#ffffff" for code in codes[rows, cols].tolist()]
    assert facts["colors"] == expected


# --- from images to a composite -------------------------------------------------------------------


def ground(grid: GeoBox) -> np.ndarray:
    """Numbers that vary smoothly over the Earth, seam and poles included, at a grid's pixel centres."""
    cols, rows = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    t = grid.affine
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    to_lonlat = Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True)
    lon, lat = np.radians(to_lonlat.transform(x, y))
    waves = np.sin(2e4 * np.cos(lat) * np.cos(lon)) + np.sin(2e4 * np.cos(lat) * np.sin(lon))
    return 5000 + 1000 * (waves + np.sin(2e4 * np.sin(lat)))


def image_grid(crs: str, corners: tuple[float, float, float, float], pixel: float) -> GeoBox:
    """Grid of an image over a box in degrees, with some pixels around it."""
    return output_grid(shapely.box(*corners), pixel, crs).pad(4)


FIJI = "179.95,-16.9,-179.95,-16.8"
EAST, WEST = (179.949, -16.901, 180, -16.799), (-180, -16.901, -179.949, -16.799)
IMAGES = {
    "zones on both sides of the antimeridian": (
        FIJI, [image_grid("EPSG:32760", EAST, 20), image_grid("EPSG:32701", WEST, 20)], 32,
    ),
    "a zone across it": (FIJI, [GeoBox((760, 800), Affine(20, 0, 812_000, 0, -20, 8_143_000), "EPSG:32760")], 0.5),
    "oblong degrees across it": (FIJI, [GeoBox((800, 620), Affine(2e-4, 0, 179.94, 0, -1.5e-4, -16.79), "EPSG:4326")], 0.5),
    "degrees of 0 to 360": (
        "-179.95,-16.9,-179.9,-16.8",
        [GeoBox((800, 620), Affine(2e-4, 0, 180.01, 0, -1.5e-4, -16.79), "EPSG:4326")], 0.5,
    ),
    "both sides of the equator": (
        "10,-0.06,10.1,0.05",
        [image_grid("EPSG:32632", (9.99, -0.001, 10.11, 0.06), 20), image_grid("EPSG:32732", (9.99, -0.07, 10.11, 0.001), 20)],
        0.5,
    ),
    "polar stereographic": ("20,84.95,22,85.05", [image_grid("EPSG:3413", (19.9, 84.9, 22.1, 85.1), 60)], 0.5),
    "polar, two systems": (
        "20,84.95,22,85.05",
        [image_grid("EPSG:3413", (19.9, 84.9, 21.1, 85.1), 60), image_grid("EPSG:32634", (20.9, 84.9, 22.1, 85.1), 60)], 30,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_a_composite_shows_what_is_there(name: str, tmp_path: Path):
    """All of the footprint is seen, each pixel has the number of its place, and nothing lies outside.

    Images that share a CRS and pixels are copied, so they are right to half a unit; of others the
    outermost pixels, which lack a neighbour to interpolate with, are off by half a pixel: 31 at most.
    """
    box, grids, tolerance = IMAGES[name]
    for number, place in enumerate(grids):
        image = np.rint(ground(place)).astype(np.uint16)
        path = tmp_path / f"scene{number}_20240601.tif"
        with open_cog(path, place, CogProfile("uint16", ["red", "nir"])) as rows:
            rows.write(np.stack([image, image]))
    index = tmp_path / "index.ndjson"
    index_folder(tmp_path, index, report=quiet)
    region = load_region(box)
    items = tmp_path / "items.json"
    search(catalog=str(index), footprint=region.footprint, period=None, region="here", output=items, report=quiet)  # fmt: skip
    grid = region_grid(region, items)
    output = tmp_path / "composite.tif"
    composite(items=items, grid=grid, footprint=region.footprint, bands=["nir"], output=output, report=quiet)  # fmt: skip
    with rasterio.open(output) as dataset:
        values = dataset.read(1)
        assert GeoBox.from_rio(dataset) == grid
    keep = inside(grid, region.footprint)
    assert (values[keep] > 0).all()
    assert not values[~keep].any()
    assert np.abs(values - ground(grid))[keep].max() <= tolerance


def quiet(_: str) -> None:
    """Progress that nobody reads."""
