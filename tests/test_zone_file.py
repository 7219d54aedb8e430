"""Zones are read from any vector file of polygons; what cannot be used is told in a sentence."""

import warnings
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
from pyproj import CRS
from shapely.affinity import translate
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from landcover.errors import LandcoverError, RegionError, SettingsError
from pipeline.zone_file import Zones, read_zones

BOW_TIE = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])


def write(path: Path, names: list[object], shapes: list[object], layer: str = "districts") -> Path:
    """A layer of a GeoPackage with the column `name`."""
    frame = gpd.GeoDataFrame({"name": names}, geometry=shapes, crs="EPSG:32633")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.to_file(path, layer=layer, driver="GPKG")
    return path


def test_ids_polygons_and_crs(tmp_path: Path) -> None:
    """Zones come in the order of the file, whole numbers as ids without a point."""
    path = write(tmp_path / "z.gpkg", [7, 3], [box(0, 0, 1, 1), MultiPolygon([box(2, 2, 3, 3)])])
    zones = read_zones(path, "name")
    assert zones.ids == ("7", "3")
    assert zones.crs == CRS("EPSG:32633")
    assert [polygon.area for polygon in zones.polygons] == [1, 1]
    assert zones.notes == ()


def test_numbers_beside_gaps_keep_their_look(tmp_path: Path) -> None:
    """A column of whole numbers with a gap is read as floats, and still names zones 1 and 2."""
    path = write(tmp_path / "z.gpkg", [1.0, None, 2.5], [box(k, 0, k + 1, 1) for k in range(3)])
    zones = read_zones(path, "name")
    assert zones.ids == ("1", "2.5")
    assert zones.notes == ("1 of 3 features have no zone id and were left out.",)


def test_names_of_all_languages(tmp_path: Path) -> None:
    """A space that does not break and letters joined by invisible signs are names."""
    names = ["Saint\u00a0Denis", "\u0645\u06cc\u200c\u062e", "\u6cb3"]
    path = write(tmp_path / "z.gpkg", list(names), [box(k, 0, k + 1, 1) for k in range(3)])
    assert read_zones(path, "name").ids == tuple(names)


def test_features_of_one_id_are_one_zone(tmp_path: Path) -> None:
    """Islands of a district are united, what overlaps counts once, and a note says so."""
    path = write(
        tmp_path / "z.gpkg", ["a", "b", "a"], [box(0, 0, 2, 1), box(5, 5, 6, 6), box(1, 0, 3, 1)]
    )
    zones = read_zones(path, "name")
    assert zones.ids == ("a", "b")
    assert zones.polygons[0].area == 3
    assert zones.notes == ("Zone a: several features, which were united.",)


def test_crossed_polygons_are_repaired(tmp_path: Path) -> None:
    """A bow tie becomes its two triangles, with a note."""
    zones = read_zones(write(tmp_path / "z.gpkg", ["a"], [BOW_TIE]), "name")
    assert zones.polygons[0].is_valid
    assert zones.polygons[0].area == 2
    assert zones.notes == ("Zone a: a polygon that crossed itself was repaired.",)


def test_parts_that_overlap_count_once(tmp_path: Path) -> None:
    """Two squares of 4 that share 1 cover 7, as one feature or as two; a bow tie among parts adds its 2."""
    squares = [box(0, 0, 2, 2), box(1, 1, 3, 3)]
    for shapes in ([MultiPolygon(squares)], squares):
        path = write(tmp_path / "z.gpkg", ["a"] * len(shapes), list(shapes))
        assert read_zones(path, "name").polygons[0].area == 7
    apart = translate(BOW_TIE, 9)
    zones = read_zones(write(tmp_path / "y.gpkg", ["a"], [MultiPolygon([*squares, apart])]), "name")
    assert zones.polygons[0].area == 9
    assert zones.polygons[0].is_valid


def test_long_numbers_beside_gaps_stay_apart(tmp_path: Path) -> None:
    """2^53 and the number after it are two zones, though floats do not tell them apart."""
    ids = pd.array([2**53, 2**53 + 1, None], dtype="Int64")
    frame = gpd.GeoDataFrame({"name": ids}, geometry=[box(k, 0, k + 1, 1) for k in range(3)], crs=32633)  # fmt: skip
    for name in ("z.gpkg", "z.geojson", "z.shp"):
        frame.to_file(tmp_path / name)
        assert read_zones(tmp_path / name, "name").ids == ("9007199254740992", "9007199254740993")


def test_what_has_no_area_is_left_out(tmp_path: Path) -> None:
    """Features without geometry, empty ones and flat ones are left out, with a note."""
    flat = Polygon([(0, 0), (1, 1), (2, 2), (0, 0)])
    path = write(tmp_path / "z.gpkg", list("abcd"), [None, Polygon(), flat, box(0, 0, 1, 1)])
    zones = read_zones(path, "name")
    assert zones.ids == ("d",)
    assert zones.notes == (
        "Zones a, b: a feature without geometry was left out.",
        "Zone c: a feature without area was left out.",
    )


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    """A note names five zones and counts the others."""
    path = write(tmp_path / "z.gpkg", list(range(9)), [BOW_TIE] * 9)
    assert read_zones(path, "name").notes[0].startswith("Zones 0, 1, 2, 3, 4 and 4 more: ")


@pytest.mark.parametrize(
    ("names", "shapes", "part"),
    [
        (["a"], [Point(0, 0)], "feature 1 is a Point; zones are polygons"),
        (["a"], [GeometryCollection([box(0, 0, 1, 1), LineString([(0, 0), (1, 1)])])], "is a Geom"),
        (["a"], [Polygon([(0, 0), (float("inf"), 1), (1, 0)])], "not finite"),
        (["a\nb"], [box(0, 0, 1, 1)], "which is no name"),
        (["a\u202eb"], [box(0, 0, 1, 1)], "which is no name"),
        (["a" * 500], [box(0, 0, 1, 1)], "200 characters at most"),
        ([" "], [box(0, 0, 1, 1)], "no polygon with an area and a name"),
        (["a"], [None], "no polygon with an area and a name"),
    ],
)  # fmt: skip
def test_unusable_features(
    tmp_path: Path, names: list[object], shapes: list[object], part: str
) -> None:
    """Points, mixtures, infinite coordinates, and names that are no names, are refused."""
    path = write(tmp_path / "z.gpkg", names, shapes)
    with pytest.raises(RegionError, match=part):
        read_zones(path, "name", "districts")


def test_layers_and_columns(tmp_path: Path) -> None:
    """A missing layer or column is told with those that there are; points beside polygons do not matter."""
    path = write(tmp_path / "z.gpkg", ["a"], [box(0, 0, 1, 1)])
    write(path, ["p"], [Point(1, 1)], "towns")
    assert read_zones(path, "name").ids == ("a",)
    with pytest.raises(SettingsError, match="no column 'nam'; it has name"):
        read_zones(path, "nam")
    with pytest.raises(
        SettingsError, match="--zone-id says which column names the zones; it has name"
    ):
        read_zones(path, None)
    with pytest.raises(SettingsError, match=r"no layer 'x'; it has districts \(Polygon\), towns"):
        read_zones(path, "name", "x")
    write(path, ["b"], [box(5, 5, 6, 6)], "parks")
    with pytest.raises(SettingsError, match=r"2 layers of polygons \(districts, parks\)"):
        read_zones(path, "name")
    assert read_zones(path, "name", "parks").ids == ("b",)


def test_files_that_are_none(tmp_path: Path) -> None:
    """No file, no vector file, no layer of polygons, no CRS."""
    with pytest.raises(RegionError, match="There is no file"):
        read_zones(tmp_path / "none.gpkg", "name")
    (tmp_path / "text.gpkg").write_text("hello")
    with pytest.raises(RegionError, match="cannot be read as a vector file"):
        read_zones(tmp_path / "text.gpkg", "name")
    with pytest.raises(RegionError, match=r"no layer of polygons; it has towns \(Point\)"):
        read_zones(write(tmp_path / "p.gpkg", ["a"], [Point(0, 0)], "towns"), "name")
    frame = gpd.GeoDataFrame({"name": ["a"]}, geometry=[box(0, 0, 1, 1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.to_file(tmp_path / "bare.shp")
    with pytest.raises(RegionError, match="no coordinate reference system"):
        read_zones(tmp_path / "bare.shp", "name")


def test_names_in_another_encoding_than_the_file_says(tmp_path: Path) -> None:
    """They are refused with the way to mend it, which works."""
    frame = gpd.GeoDataFrame({"name": ["Gr\u00fcn"]}, geometry=[box(0, 0, 1, 1)], crs=4326)
    frame.to_file(tmp_path / "z.shp", encoding="ISO-8859-1")
    (tmp_path / "z.cpg").write_text("UTF-8")
    with pytest.raises(RegionError, match=r"z\.shp holds text .* into the \.cpg file beside it"):
        read_zones(tmp_path / "z.shp", "name")
    (tmp_path / "z.cpg").write_text("ISO-8859-1")
    assert read_zones(tmp_path / "z.shp", "name").ids == ("Gr\u00fcn",)


def test_the_fingerprint_is_of_what_counts(tmp_path: Path) -> None:
    """It changes with an id or a coordinate, not with the file's name."""
    prints = [
        read_zones(write(tmp_path / f"{k}.gpkg", [name], [box(0, 0, side, 1)]), "name").fingerprint
        for k, (name, side) in enumerate([("a", 1), ("a", 1), ("b", 1), ("a", 2)])
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def attempt(path: Path, layer: str | None, column: str | None) -> Zones | str:
    """The zones of a file, or the sentence that refuses it."""
    try:
        return read_zones(path, column, layer)
    except LandcoverError as error:
        return str(error)


def test_awkward_geopackages(shared_data: Path) -> None:
    """Every file is read or refused in one sentence; the good ones give their states."""
    folder = shared_data / "tricky_files/geopackage"
    for path in sorted(folder.glob("*.gpkg")):
        for layer, column in ((None, None), (None, "STATE_NAME"), ("nowhere", "x")):
            got = attempt(path, layer, column)
            if isinstance(got, str):
                assert str(path) in got
                assert got.endswith(".")
                assert "\n" not in got
            else:
                assert path.name in {"states10.gpkg", "features-0.gpkg"}
                assert len(got.ids) == 51
                assert "Alabama" in got.ids
    assert "Point" in str(attempt(folder / "null_geometry.gpkg", "PointExamples", "Description"))


def test_a_real_layer_with_gaps(shared_data: Path) -> None:
    """88 land-cover polygons, four of them without a name, make five zones."""
    path = shared_data / "sentinel2_lulc_slovenia/TestEOPatch/vector_timeless/LULC.gpkg"
    zones = read_zones(path, "LULC_NAME")
    assert sorted(zones.ids) == [
        "artificial surface", "cultivated land", "forest", "grassland", "schrubland",
    ]  # fmt: skip
    assert zones.notes[-1] == "4 of 88 features have no zone id and were left out."
    assert pyogrio.read_info(path)["features"] == 88
