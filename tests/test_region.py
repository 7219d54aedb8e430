"""Reading a region: names, files, boxes, and every way to get them wrong."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from shapely.geometry import LineString, MultiPolygon, Polygon, box

from landcover.errors import LandcoverError, RegionError
from landcover.grid import inside, output_grid
from landcover.period import Period
from pipeline.index import index_folder
from pipeline.region import Region, load_region

HERE = box(15.0, 48.0, 15.1, 48.1)
BOW_TIE = Polygon([(15, 48), (15.1, 48.1), (15.1, 48), (15, 48.1)])


def save(path: Path, *geometries: object, crs: str | None = "EPSG:4326") -> Path:
    """Write geometries to a vector file."""
    gpd.GeoDataFrame(geometry=list(geometries), crs=crs).to_file(path)
    return path


def test_box() -> None:
    """Four numbers are west, south, east, north."""
    region = load_region("-1.5,47,-1.25,47.5")
    assert region.footprint.bounds == (-1.5, 47.0, -1.25, 47.5)
    assert region.name == "bbox_-1.5_47_-1.25_47.5"


def test_boxes_that_differ_a_little_have_different_names() -> None:
    """A tenth of a metre apart is another region, in another folder."""
    assert load_region("15,48,15.1,48.1").name != load_region("15.000001,48,15.1,48.1").name


@pytest.mark.parametrize("name", ["place.geojson", "place.gpkg", "place.shp"])
def test_vector_files(tmp_path: Path, name: str) -> None:
    """GeoJSON, GeoPackage and shapefile give the same footprint."""
    region = load_region(str(save(tmp_path / name, HERE)))
    assert region.name == "place"
    assert region.footprint.equals(HERE)


def test_other_crs(tmp_path: Path) -> None:
    """A footprint in metres is brought to degrees."""
    path = tmp_path / "utm.gpkg"
    gpd.GeoDataFrame(geometry=[HERE.segmentize(0.001)], crs=4326).to_crs(32633).to_file(path)
    assert load_region(str(path)).footprint.symmetric_difference(HERE).area < 1e-9


@pytest.mark.parametrize(
    ("crs", "square"),
    [
        ("EPSG:32633", box(300_000, 5_300_000, 400_000, 5_400_000)),
        ("EPSG:32633", box(300_000, 5_300_000, 300_100, 5_300_100)),
        ("EPSG:2263", box(900_000, 100_000, 1_200_000, 400_000)),  # feet
    ],
)
def test_a_projected_square_stays_square(tmp_path: Path, crs: str, square: Polygon) -> None:
    """Straight sides in a projection are curves in degrees: back there, none is off by a 1/10,000."""
    path = save(tmp_path / "square.gpkg", square, crs=crs)
    footprint = load_region(str(path)).footprint
    back = gpd.GeoSeries([footprint.segmentize(1e-4)], crs=4326).to_crs(crs)[0]
    side = square.bounds[2] - square.bounds[0]
    assert back.hausdorff_distance(square.segmentize(side / 100)) < side / 10_000
    assert shapely.get_num_coordinates(footprint) <= 513  # few enough to be sent to a catalogue


FIJI = MultiPolygon([box(179, -18, 180, -17), box(-180, -18, -179, -17)])


@pytest.mark.parametrize(
    "drawn",
    [
        [box(179, -18, 180, -17), box(-180, -18, -179, -17)],
        [FIJI],
        [box(179, -18, 181, -17)],
        [box(-179, -18, 179, -17)],  # the short way is meant
        [Polygon([(179, -18), (-179, -18), (-179, -17), (179, -17)])],
    ],
    ids=["halves", "multipolygon", "beyond 180", "the wrong way round", "with jumps"],
)
def test_polygons_over_the_antimeridian(tmp_path: Path, drawn: list[object]) -> None:
    """However a file draws a place across the 180 degree meridian, it is one footprint in two parts."""
    footprint = load_region(str(save(tmp_path / "fiji.gpkg", *drawn))).footprint
    assert footprint.equals(FIJI)
    assert load_region("179,-18,-179,-17").footprint.equals(FIJI)


@pytest.mark.parametrize(
    "drawn",
    [
        "[179, -18, -179, -17]",
        "{type: Polygon, coordinates: [[[179, -18], [181, -18], [181, -17], [179, -17], [179, -18]]]}",
    ],
)
def test_a_region_file_over_the_antimeridian(tmp_path: Path, drawn: str) -> None:
    """The same holds for a box or a geometry inside a region file."""
    path = tmp_path / "fiji.yml"
    path.write_text(f"footprint: {drawn}\n")
    assert load_region(str(path)).footprint.equals(FIJI)


def test_a_wrong_way_round_neighbour_swallows_nothing(tmp_path: Path) -> None:
    """Each polygon is split for itself, before they are joined."""
    path = save(tmp_path / "two.gpkg", box(-179, -18, 179, -17), box(0, -18, 1, -17))
    assert load_region(str(path)).footprint.area == pytest.approx(3)


def test_a_projected_box_over_the_antimeridian(tmp_path: Path) -> None:
    """A square in UTM 60 that crosses the meridian is split there, and keeps its area and place."""
    square = box(800_000, 8_000_000, 900_000, 8_100_000)
    footprint = load_region(str(save(tmp_path / "f.gpkg", square, crs="EPSG:32760"))).footprint
    assert footprint.bounds[::2] == (-180, 180)
    grid = output_grid(footprint, 100, "EPSG:32760")
    keep = inside(grid, footprint)
    assert keep.sum() == pytest.approx(1e6, rel=1e-5)
    assert grid.extent.boundingbox.bbox == pytest.approx(square.bounds, abs=101)


def test_a_projected_box_around_the_pole(tmp_path: Path) -> None:
    """A square around the north pole in a polar CRS: the pole is inside, the area is the square's."""
    square = box(-2e5, -3e5, 4e5, 3e5)
    footprint = load_region(str(save(tmp_path / "p.gpkg", square, crs="EPSG:6931"))).footprint
    assert footprint.is_valid
    assert footprint.bounds[3] == 90
    keep = inside(output_grid(footprint, 1000), footprint)
    assert keep.sum() == pytest.approx(360_000, rel=1e-4)


def test_a_polar_cap() -> None:
    """A box of all longitudes up to the pole is a region."""
    assert load_region("-180,88,180,90").footprint.equals(box(-180, 88, 180, 90))


@pytest.mark.parametrize("edges", ["180,-18,-179,-17", "179,-18,-180,-17"])
def test_a_box_that_only_touches_the_antimeridian(edges: str) -> None:
    """It has no second part without area."""
    assert load_region(edges).footprint.geom_type == "Polygon"


@pytest.mark.parametrize("name", ["My images.parquet", "My images.ndjson"])
def test_an_index_is_a_region(tmp_path: Path, name: str) -> None:
    """Its footprint is where its images are, and it is the catalogue; all its dates count."""
    for corner in (500_000, 502_000):
        image = tmp_path / f"{corner}.tif"
        with rasterio.open(
            image, "w", driver="GTiff", width=50, height=50, count=3, dtype="uint8",
            crs="EPSG:32633", transform=Affine(10, 0, corner, 0, -10, 5_300_000),
        ) as dataset:  # fmt: skip
            dataset.update_tags(TIFFTAG_DATETIME="2024:06:01 10:00:00")
            dataset.write(np.ones((3, 50, 50), np.uint8))
    index_folder(tmp_path, tmp_path / name, report=lambda _: None)
    region = load_region(str(tmp_path / name))
    assert region.name == "My_images"
    assert region.catalog == str(tmp_path / name)
    assert region.period is None
    assert region.resolution is None
    grid = output_grid(region.footprint, 10)
    assert inside(grid, region.footprint).sum() == pytest.approx(2 * 50 * 50, abs=20)


def test_an_image_is_a_region(shared_data: Path) -> None:
    """A drone image maps itself: its outline is the footprint, its path the catalogue."""
    path = shared_data / "drone_orthos/pix4d_alpha_nodata.tif"
    region = load_region(str(path))
    assert region.name == "pix4d_alpha_nodata"
    assert region.catalog == str(path)
    with rasterio.open(path) as dataset:
        grid = output_grid(region.footprint, dataset.res[0], dataset.crs.to_string())
        assert grid.extent.boundingbox.bbox == pytest.approx(tuple(dataset.bounds), abs=0.71)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.tif", "no image", r"broken\.tif cannot be read"),
        ("broken.parquet", "no table", r"broken\.parquet cannot be read"),
        ("empty.ndjson", "", "holds no scene that covers"),
        ("odd.ndjson", '{"id": "a", "geometry": null}', "scene without a usable outline"),
        ("odd.ndjson", '{"id": "a"}', "scene without a usable outline"),
        ("odd.ndjson", '{"geometry": {"type": "Point", "coordinates": 3}}', "without a usable outline"),
        ("odd.ndjson", '{"geometry": {"type": "Polygon", "coordinates": [[[900, 0], [901, 0], [901, 1], [900, 0]]]}}',
         "not on the Earth"),
        ("odd.ndjson", '{"geometry": {"type": "Point", "coordinates": [3, 4]}}', "holds no scene that covers an area"),
    ],
)  # fmt: skip
def test_images_that_are_no_region(tmp_path: Path, name: str, content: str, message: str) -> None:
    """A file that cannot be read, or has no place, is refused by name."""
    (tmp_path / name).write_text(content)
    with pytest.raises(LandcoverError, match=message) as caught:
        load_region(str(tmp_path / name))
    assert name in str(caught.value)


def test_settings_of_the_place(tmp_path: Path) -> None:
    """A region file may say how scenes are chosen and composited; a filter is kept as it stands."""
    path = tmp_path / "region.yml"
    path.write_text(
        "footprint: [15, 48, 15.1, 48.1]\nmethod: geomedian\ncloud_buffer: 120\nhole_budget: 2.5\n"
        "filter: {op: '=', args: [{property: platform}, sentinel-2a]}\n"
    )
    region = load_region(str(path))
    assert (region.method, region.cloud_buffer, region.hole_budget) == ("geomedian", 120, 2.5)
    assert region.filter == {"op": "=", "args": [{"property": "platform"}, "sentinel-2a"]}
    assert region.resolution is None
    path.write_text("footprint: [15, 48, 15.1, 48.1]\nfilter: platform = 'sentinel-2a'\n")
    assert load_region(str(path)).filter == "platform = 'sentinel-2a'"


def test_a_ring_of_one_point_is_refused(tmp_path: Path) -> None:
    """A GeoJSON that is no geometry at all is refused, naming the file."""
    path = tmp_path / "ring.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[15, 48]]]}))
    with pytest.raises(RegionError, match=r"ring\.geojson cannot be read as a vector file"):
        load_region(str(path))


def test_a_long_file_name_is_cut(tmp_path: Path) -> None:
    """A region's name names a folder, so it stays within 100 characters."""
    assert load_region(str(save(tmp_path / f"{'a' * 150}.geojson", HERE))).name == "a" * 100


def test_several_features_are_one_region(tmp_path: Path) -> None:
    """All polygons of a file together are the footprint."""
    path = save(tmp_path / "two.geojson", box(15, 48, 15.1, 48.1), box(15.1, 48, 15.2, 48.1))
    assert load_region(str(path)).footprint.equals(box(15, 48, 15.2, 48.1))


def test_yaml(tmp_path: Path) -> None:
    """A YAML file carries settings, and names files relative to itself."""
    save(tmp_path / "shape.geojson", HERE)
    (tmp_path / "index.ndjson").write_text("")
    path = tmp_path / "My place.yml"
    path.write_text(
        "footprint: shape.geojson\nperiod: 2024-06-01/2024-08-31\nresolution: 20\ncatalog: index.ndjson\n"
    )
    region = load_region(str(path))
    assert region.name == "My_place"
    assert region.period == Period.parse("2024-06-01/2024-08-31")
    assert region.resolution == 20
    assert region.catalog == str(tmp_path / "index.ndjson")
    assert region.footprint.equals(HERE)


def test_yaml_day(tmp_path: Path) -> None:
    """A day without quotes, which YAML takes for a date, is a period of one day."""
    path = tmp_path / "region.yml"
    path.write_text("footprint: [15, 48, 15.1, 48.1]\nperiod: 2015-08-21\n")
    assert load_region(str(path)).period == Period.parse("2015-08-21/2015-08-21")


def test_a_pixel_size_in_degrees(tmp_path: Path) -> None:
    """With a pixel size in degrees the output may be in degrees."""
    path = tmp_path / "region.yml"
    path.write_text("footprint: [15, 48, 15.1, 48.1]\ncrs: EPSG:4326\nresolution: 0.0001\n")
    assert load_region(str(path)).resolution == 0.0001


def test_name_under_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name means the YAML file of that name under regions/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions/here.yml").write_text("footprint: [15, 48, 15.1, 48.1]\n")
    assert load_region("here").footprint.equals(HERE)
    with pytest.raises(RegionError, match="no region 'there': regions/ holds here"):
        load_region("there")


def test_shipped_regions_load() -> None:
    """Every region in the repository can be used."""
    paths = sorted((Path(__file__).parent.parent / "regions").glob("*.yml"))
    assert paths
    for path in paths:
        assert isinstance(load_region(str(path)), Region)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,1,3", "is empty"),
        ("10,2,1,3", "W < E"),
        ("47,95,48,96", "longitude and latitude are swapped"),
        ("15,48,215,49", "degrees run from -180 to 180"),
        ("15,48,nan,49", "no region"),
        ("nowhere.geojson", "no region file"),
        ("1-2,3,4,5", "1-2,3,4,5 is not four numbers"),
        ("1.2.3,4,5,6", "1.2.3,4,5,6 is not four numbers"),
    ],
)
def test_bad_boxes_and_names(text: str, message: str) -> None:
    """Each mistake in a box or a name is told."""
    with pytest.raises(RegionError, match=message):
        load_region(text)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (BOW_TIE, "crosses itself.*Self-intersection.*15.05"),
        (Polygon(), "holds no geometry"),
        (LineString([(15, 48), (15.1, 48.1)]), "is a LineString"),
        (box(48.0, 95.0, 48.1, 95.1), "longitude and latitude are swapped"),
        (box(500_000, 5_300_000, 510_000, 5_310_000), "is the CRS right"),
    ],
)
def test_bad_geometry(tmp_path: Path, geometry: object, message: str) -> None:
    """A footprint that cannot be meant is refused, naming the file."""
    path = save(tmp_path / "bad.geojson", geometry)
    with pytest.raises(RegionError, match=message) as caught:
        load_region(str(path))
    assert "bad.geojson" in str(caught.value)


def test_a_crs_of_a_site_only(tmp_path: Path) -> None:
    """Metres from a corner post are no place on the Earth."""
    path = save(tmp_path / "site.gpkg", box(0, 0, 9, 9), crs='LOCAL_CS["site", UNIT["metre", 1]]')
    with pytest.raises(RegionError, match=r"site.gpkg has a CRS that is not bound to the Earth"):
        load_region(str(path))


def test_no_crs(tmp_path: Path) -> None:
    """A file without coordinate reference system is refused, and says how to set it."""
    with pytest.warns(UserWarning, match="crs"):
        path = save(tmp_path / "bare.shp", HERE, crs=None)
    with pytest.raises(RegionError, match=r"bare.shp has no coordinate reference system"):
        load_region(str(path))


def latin(path: Path, column: str) -> Path:
    """A shapefile in Latin-1 that says it is in UTF-8."""
    frame = gpd.GeoDataFrame({column: ["Gr\u00fcn"]}, geometry=[HERE], crs=4326)
    frame.to_file(path, encoding="ISO-8859-1")
    path.with_suffix(".cpg").write_text("UTF-8")
    return path


def test_a_shapefile_in_another_encoding_than_it_says(tmp_path: Path) -> None:
    """What is written beside the polygons does not matter; names of columns must be readable."""
    assert load_region(str(latin(tmp_path / "a.shp", "name"))).footprint.equals(HERE)
    with pytest.raises(RegionError, match=r"b\.shp holds text .* like ISO-8859-1, into the \.cpg"):
        load_region(str(latin(tmp_path / "b.shp", "Stra\u00dfe")))


def test_not_a_vector_file(tmp_path: Path) -> None:
    """A text file is refused as what it is."""
    path = tmp_path / "notes.geojson"
    path.write_text("hello")
    with pytest.raises(RegionError, match="cannot be read as a vector file"):
        load_region(str(path))


def test_empty_collection(tmp_path: Path) -> None:
    """A GeoJSON without features is refused."""
    path = tmp_path / "empty.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    with pytest.raises(RegionError, match="holds no geometry"):
        load_region(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("period: 2024-06-01/2024-08-31", "has no 'footprint'"),
        ("footprint: [15, 48, 15.1, 48.1]\nperiod: 2024-08-31/2024-06-01", "ends before it starts"),
        ("footprint: [15, 48, 15.1, 48.1]\nresolutoin: 10", "resolutoin"),
        ("footprint: [15, 48, 15.1, 48.1]\nresolution: -1", "resolution"),
        ("footprint: [15, 48, 15.1, 48.1]\ncrs: EPSG:4326", "10 means degrees in EPSG:4326"),
        ("footprint: [15, 48, 15.1, 48.1]\ncrs: EPSG:4326\nresolution: 10", "size in degrees"),
        ("footprint: [15, 48, 15.1, 48.1]\nperiod: 2015-02-30", "is not YAML: day is out of range"),
        ("footprint: [15, 48, 15.1, 48.1]\nname: ../../etc", "name"),
        ("footprint: [15, 48, 15.1, 48.1]\nmethod: mean", "'mean' is not one of median, geomedian"),
        ("footprint: [15, 48, 15.1, 48.1]\ncloud_buffer: -1", "cloud_buffer"),
        ("footprint: [15, 48, 15.1, 48.1]\ncloud_buffer: .inf", "cloud_buffer"),
        ("footprint: [15, 48, 15.1, 48.1]\nhole_budget: 101", "hole_budget"),
        ("footprint: [15, 48, 15.1, 48.1]\nfilter: [1, 2]", "filter"),
        ("footprint: [15, 48, 15.1, 48.1]\nresolution: .nan", "resolution"),
        ("footprint: [10, 48, 1, 48.1]", "W < E"),
        ("footprint: [15, 48]", r"write \[W, S, E, N\]"),
        ("footprint: [a, b, c, d]", "cannot be read"),
        ("footprint: {type: Polygon, coordinates: [[[15, 48]]]}", "cannot be read"),
        ("footprint: [15, 48", "is not YAML"),
        ("- a\n- b", "has no 'footprint'"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake in a region file is told, naming the file."""
    path = tmp_path / "region.yml"
    path.write_text(text)
    with pytest.raises(RegionError, match=message) as caught:
        load_region(str(path))
    assert "region.yml" in str(caught.value)


def test_real_footprints(shared_data: Path) -> None:
    """The areas of the seven OSCD cities are read."""
    paths = sorted((shared_data / "sentinel2_pairs_oscd/images").glob("*/*.geojson"))
    assert len(paths) == 7
    assert all(load_region(str(path)).footprint.is_valid for path in paths)


@pytest.mark.filterwarnings("ignore:Measured")
def test_tricky_files_are_read_or_refused(shared_data: Path) -> None:
    """Odd vector files give a region or a RegionError that names the file, nothing else."""
    paths = sorted((shared_data / "tricky_files/geopackage").rglob("*.gpkg"))
    outcomes = {path.name: region_or_reason(path) for path in paths}
    assert len(outcomes) >= 8
    for name, outcome in outcomes.items():
        assert name in outcome if isinstance(outcome, str) else outcome.footprint.area > 0


def region_or_reason(path: Path) -> Region | str:
    """What a file gives."""
    try:
        return load_region(str(path))
    except RegionError as error:
        return str(error)
