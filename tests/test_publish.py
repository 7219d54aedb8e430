"""The STAC item of a run: valid, complete, the same every time, and safe from foreign text."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from jsonschema import Draft7Validator
from odc.geo.geobox import GeoBox
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from landcover.errors import LandcoverError, LegendError, RasterError, RegionError, SettingsError
from landcover.legend import LandClass, Legend
from pipeline.publish import publish
from tests.run_folder import GRID, LEGEND, class_codes, make_run, write_bands, write_classes

BOX = [[-1.683, 46.937], [-1.677, 46.937], [-1.677, 46.943], [-1.683, 46.943], [-1.683, 46.937]]
FOOTPRINT = {"type": "Polygon", "coordinates": [BOX]}


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    """The item of the small run, as written."""
    publish(folder=tmp_path, run=make_run(tmp_path))
    return read(tmp_path)


def read(folder: Path) -> dict[str, Any]:
    """The item of a folder."""
    content: dict[str, Any] = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    return content


def core_errors(item: dict[str, Any]) -> list[str]:
    """What the STAC 1.1 core schemas, shipped with pystac, have to say; no network."""
    schemas = get_local_schema_cache()
    registry: Registry[Any] = Registry().with_resources(
        [(uri, Resource.from_contents(schema)) for uri, schema in schemas.items()]
    )
    uri = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
    validator = Draft7Validator(schemas[uri], registry=registry)
    return [error.message for error in validator.iter_errors(item)]


def test_the_item_is_valid_stac_1_1(item: dict[str, Any]):
    """The core schemas find no fault, and they do find one when a required field goes."""
    assert item["stac_version"] == "1.1.0"
    assert core_errors(item) == []
    assert core_errors({k: v for k, v in item.items() if k != "assets"})
    read_back = pystac.Item.from_dict(item)
    assert read_back.common_metadata.start_datetime is not None
    assert read_back.datetime is None


# What the extension specifications demand of the fields that we write, in short.
CLASS = {
    "type": "object",
    "required": ["value", "name"],
    "additionalProperties": False,
    "properties": {
        "value": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[0-9A-Za-z-_]+$"},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "color_hint": {"type": "string", "pattern": "^([0-9A-F]{6})$"},
        "nodata": {"const": True},
        "count": {"type": "integer", "minimum": 0},
        "percentage": {"type": "number", "minimum": 0, "maximum": 100},
    },
}
PROJECTION = {
    "required": ["proj:code", "proj:shape", "proj:transform"],
    "properties": {
        "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9A-Za-z]+$"},
        "proj:wkt2": {"type": "string"},
        "proj:shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "proj:transform": {"type": "array", "items": {"type": "number"}, "minItems": 6, "maxItems": 6},
        "proj:bbox": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
    },
    "patternProperties": {"^(?!proj:)": {}},
    "additionalProperties": False,
}  # fmt: skip
PROCESSING = {
    "required": ["processing:lineage", "processing:software"],
    "properties": {
        "processing:lineage": {"type": "string", "minLength": 1},
        "processing:software": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "patternProperties": {"^(?!processing:)": {}},
    "additionalProperties": False,
}
ASSET = {
    "properties": {
        "file:size": {"type": "integer", "minimum": 0},
        "file:checksum": {"type": "string", "pattern": "^1220[a-f0-9]{64}$"},
        "raster:spatial_resolution": {"type": "number", "exclusiveMinimum": 0},
        "classification:classes": {
            "type": "array", "items": CLASS, "minItems": 1, "uniqueItems": True,
        },
        "bands": {
            "type": "array",
            "items": {
                "required": ["name"],
                "properties": {
                    "raster:scale": {"type": "number"},
                    "raster:offset": {"type": "number"},
                    "eo:common_name": {"enum": ["blue", "green", "red", "nir"]},
                },
                "patternProperties": {"^(?!(raster|eo|classification):)": {}},
                "additionalProperties": False,
            },
        },
    },
    "patternProperties": {"^(?!(file|raster|classification|eo|proj|processing):)": {}},
    "additionalProperties": False,
}  # fmt: skip


def test_the_extensions_say_what_their_specifications_demand(item: dict[str, Any]):
    """Fields of the declared extensions have their form, and no other field uses their prefix."""
    Draft7Validator(PROJECTION).validate(item["properties"])
    Draft7Validator(PROCESSING).validate(item["properties"])
    for asset in item["assets"].values():
        Draft7Validator(ASSET).validate(asset)
    declared = {uri.split("/")[3] for uri in item["stac_extensions"]}
    used = {"classification", "eo", "file", "processing", "projection", "raster"}
    assert declared == used


def test_place_and_time_are_those_of_the_raster_and_the_period(item: dict[str, Any]):
    """Without a footprint the item covers the raster; it lasts from the first to the last second."""
    properties = item["properties"]
    assert properties["proj:code"] == "EPSG:32630"
    assert properties["proj:shape"] == [60, 80]
    assert properties["proj:transform"] == [10, 0, 600_000, 0, -10, 5_200_000]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == "2024-06-01T00:00:00Z"
    assert properties["end_datetime"] == "2024-08-31T23:59:59Z"
    outline = shapely.geometry.shape(item["geometry"])
    exact = GRID.extent.to_crs("EPSG:4326", resolution=10).geom
    assert outline.symmetric_difference(exact).area < 1e-4 * exact.area
    assert item["bbox"] == list(outline.bounds)


def test_the_footprint_of_the_region_is_the_geometry(tmp_path: Path):
    """A given footprint is the geometry, turned counter-clockwise as GeoJSON asks."""
    clockwise = {"type": "Polygon", "coordinates": [BOX[::-1]]}
    run = make_run(tmp_path, region={"name": "small-valley", "footprint": clockwise})
    publish(folder=tmp_path, run=run)
    written = shapely.geometry.shape(read(tmp_path)["geometry"])
    assert written.equals(shapely.geometry.shape(FOOTPRINT))
    assert written.exterior.is_ccw


def test_classes_carry_code_name_colour_and_share(item: dict[str, Any]):
    """Every class of the legend is there, nodata first; shares are of the valid pixels."""
    nodata, water, trees, crops, built = item["assets"]["classes"]["classification:classes"]
    assert nodata == {
        "value": 0, "name": "nodata", "description": "No clear observation", "nodata": True,
    }  # fmt: skip
    assert water["color_hint"] == "2B6CB0"
    assert (trees["value"], trees["name"], trees["description"]) == (2, "tree-cover", "Tree cover")
    assert crops["count"] == 1900
    assert crops["percentage"] == pytest.approx(100 * 1900 / 4600, abs=1e-4)
    assert built["percentage"] == 0


def test_confidence_statistics_are_of_the_valid_pixels(item: dict[str, Any]):
    """Confidence 55, 60 and 75 % on 1200, 1500 and 1900 pixels: mean and spread by hand."""
    statistics = item["assets"]["confidence"]["bands"][0]["statistics"]
    mean = (1200 * 55 + 1500 * 60 + 1900 * 75) / 4600
    spread = (1200 * 55**2 + 1500 * 60**2 + 1900 * 75**2) / 4600 - mean**2
    assert statistics["mean"] == pytest.approx(mean, abs=1e-4)
    assert statistics["stddev"] == pytest.approx(spread**0.5, abs=1e-4)
    assert (statistics["minimum"], statistics["maximum"], statistics["count"]) == (55, 75, 4600)
    assert statistics["valid_percent"] == pytest.approx(100 * 4600 / 4800, abs=1e-4)


def test_composite_bands_carry_name_and_scale(item: dict[str, Any]):
    """Bands keep the order of the file; the count of observations is no reflectance."""
    bands = item["assets"]["composite"]["bands"]
    assert [band["name"] for band in bands] == ["blue", "green", "red", "nir", "observations"]
    assert bands[3]["eo:common_name"] == "nir"
    assert bands[3]["raster:scale"] == 1e-4
    assert "raster:scale" not in bands[4]


def test_the_day_of_the_observation_is_told(tmp_path: Path):
    """A composite's day is no reflectance and says from when it is counted; the method is named."""
    run = make_run(tmp_path, settings={"method": "latest"})
    write_bands(tmp_path / "composite.tif", {"nir": np.ones(GRID.shape), "day": np.ones(GRID.shape)}, "uint16")  # fmt: skip
    publish(folder=tmp_path, run=run)
    nir, day = read(tmp_path)["assets"]["composite"]["bands"]
    assert "raster:scale" in nir
    assert "1970-01-01" in day["description"]
    assert "raster:scale" not in day
    assert read(tmp_path)["properties"]["processing:lineage"].startswith("Latest composite of 2 ")


@pytest.mark.parametrize(
    ("crs", "pixel", "metres"),
    [
        ("EPSG:32630", (10, -10), 10),
        ("EPSG:4326", (2e-4, -1e-4), 15.6902),  # at 0 N: 22.2639 m x 11.0574 m, root of the product
        ("EPSG:2263", (2, -2), 0.6096012),
    ],
)
def test_the_spatial_resolution_is_in_metres(
    tmp_path: Path, crs: str, pixel: tuple[float, float], metres: float
):
    """The raster extension asks for metres, whatever the unit of the CRS."""
    run = make_run(tmp_path)
    grid = GeoBox(GRID.shape, Affine(pixel[0], 0, 0, 0, pixel[1], 0), crs)
    write_classes(tmp_path / "classes.tif", class_codes(), LEGEND, grid)
    publish(folder=tmp_path, run=run)
    size = read(tmp_path)["assets"]["classes"]["raster:spatial_resolution"]
    assert size == pytest.approx(metres, rel=1e-4)


def test_assets_are_relative_typed_and_checked(item: dict[str, Any], tmp_path: Path):
    """Every artefact is an asset beside the item, with its media type and its own checksum."""
    assets = item["assets"]
    assert {key: asset["href"] for key, asset in assets.items()} == {
        "classes": "./classes.tif", "confidence": "./confidence.tif",
        "composite": "./composite.tif", "polygons": "./landcover.gpkg",
        "areas": "./areas.csv", "report": "./report.html",
    }  # fmt: skip
    assert assets["polygons"]["type"] == "application/geopackage+sqlite3"
    assert "cloud-optimized" in assets["classes"]["type"]
    for asset in assets.values():
        content = (tmp_path / asset["href"]).read_bytes()
        assert asset["file:checksum"] == "1220" + sha256(content).hexdigest()
        assert asset["roles"]


def test_optional_artefacts_may_be_missing(tmp_path: Path):
    """Without polygons and confidence the rest is still published."""
    run = make_run(tmp_path)
    (tmp_path / "landcover.gpkg").unlink()
    (tmp_path / "confidence.tif").unlink()
    publish(folder=tmp_path, run=run)
    assert set(read(tmp_path)["assets"]) == {"classes", "composite", "areas", "report"}


def test_a_run_of_name_and_period_only_is_enough(tmp_path: Path):
    """Whatever else the record lacks is left out, and the item is valid still."""
    make_run(tmp_path)
    publish(folder=tmp_path, run={"region": {"name": "a"}, "period": "2024-06-01"})
    item = read(tmp_path)
    assert core_errors(item) == []
    assert item["id"] == "landcover-a-2024-06-01_2024-06-01"
    assert item["links"] == []


def test_accuracy_is_told_where_it_is_known(tmp_path: Path):
    """The figures of assess become properties; an unknown one stays out."""
    accuracy = {"overall_accuracy": 0.91, "mean_iou": None, "pixels": 4600, "classes": []}
    publish(folder=tmp_path, run=make_run(tmp_path, accuracy=accuracy))
    properties = read(tmp_path)["properties"]
    assert properties["landcover:overall_accuracy"] == 0.91
    assert "landcover:mean_iou" not in properties


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path):
    """Two folders, two times, and other timings in the record: the same item and report."""
    made = []
    for name, seconds in (("a", 1.0), ("b", 99.0)):
        folder = tmp_path / name
        folder.mkdir()
        run = make_run(folder, stages={"segment": {"seconds": seconds, "details": {}}})
        publish(folder=folder, run=run)
        publish(folder=folder, run=run)
        made.append(((folder / "item.json").read_bytes(), (folder / "report.html").read_bytes()))
    assert made[0] == made[1]


def test_sources_are_linked_without_secrets_or_local_paths(tmp_path: Path, item: dict[str, Any]):
    """A public address loses its token; a local one gives way to the frozen list of scenes."""
    local, public = (link for link in item["links"] if link["rel"] == "derived_from")
    assert public["href"] == "https://stac.example.org/items/a"
    assert local["href"] == "./items.json#S2A_20240704"
    for name in ("item.json", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "secret" not in text
        assert "/home/me" not in text


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)", "file:///etc/passwd", "https://user:pw@example.org/a",
        'https://example.org/"><script>', "https://example.org/a\nb", "//example.org/a", "https:///a",
        "https://[half/a", "x" * 5000, 17, None,
    ],
)  # fmt: skip
def test_a_hostile_address_is_not_published(tmp_path: Path, href: object):
    """Other schemes, credentials, quotes and line ends never become the target of a link."""
    publish(folder=tmp_path, run=make_run(tmp_path, items=[{"id": "a b/../c", "href": href}]))
    (link,) = read(tmp_path)["links"]
    assert link["href"] == "./items.json#a%20b%2F..%2Fc"


def test_hostile_names_become_plain_text_and_a_safe_id(tmp_path: Path):
    """Control and right-to-left characters go; the id keeps letters, digits, - and _ only."""
    name = "../Evil\u202e\x00<script>"
    publish(folder=tmp_path, run=make_run(tmp_path, region={"name": name}))
    item = read(tmp_path)
    assert core_errors(item) == []
    assert set(item["id"]) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    )
    assert "\u202e" not in item["properties"]["title"]
    assert "\x00" not in item["properties"]["title"]


def test_names_that_lose_letters_still_give_different_ids(tmp_path: Path):
    """Two regions written in another script are two items."""
    ids = set()
    for name in ("東京", "京都", "a b", "a-b"):
        publish(folder=tmp_path, run=make_run(tmp_path, region={"name": name}))
        ids.add(read(tmp_path)["id"])
    assert len(ids) == 4


def test_class_names_fit_the_pattern_and_stay_distinct(tmp_path: Path):
    """Names of other scripts, equal after cleaning, or 'nodata' fall back on the class code."""
    odd = ("Лес", "bare rock", "Bare/rock", "NoData")
    codes = (1, 2, 5, 8)
    legend = Legend(
        tuple(LandClass(c, n, "#123456") for c, n in zip(codes, odd, strict=True))
    )  # fmt: skip
    publish(folder=tmp_path, run=make_run(tmp_path, legend))
    classes = read(tmp_path)["assets"]["classes"]["classification:classes"]
    assert [c["name"] for c in classes] == ["nodata", "class-1", "class-2", "class-5", "class-8"]
    assert classes[1]["description"] == "Лес"


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _cut(end: int) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / "classes.tif"
        path.write_bytes(path.read_bytes()[:end])

    return cut


def _columns(folder: Path) -> None:
    (folder / "areas.csv").write_text("a,b\n1,2\n", encoding="utf-8")


def _words(folder: Path) -> None:
    path = folder / "areas.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("1900", "many"), encoding="utf-8")


def _unknown_class(folder: Path) -> None:
    path = folder / "areas.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("5,Crop", "6,Crop"), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (_remove("classes.tif"), RasterError, "has no classes.tif"),
        (_remove("composite.tif"), RasterError, "has no composite.tif"),
        (_remove("areas.csv"), RasterError, "has no areas.csv"),
        (_cut(0), RasterError, "classes.tif cannot be read"),
        (_cut(900), RasterError, "classes.tif has no CRS"),
        (_cut(-60), RasterError, "classes.tif cannot be read"),
        (_columns, RasterError, "has the columns"),
        (_words, RasterError, "areas.csv, line 4"),
        (_unknown_class, LegendError, "not in the legend"),
    ],
)
def test_a_damaged_folder_is_one_sentence_and_no_item(
    tmp_path: Path, damage: Callable[[Path], None], kind: type[LandcoverError], words: str
):
    """What is missing or broken is named; no item and no half of a file stay behind."""
    run = make_run(tmp_path)
    damage(tmp_path)
    with pytest.raises(kind, match=words):
        publish(folder=tmp_path, run=run)
    left = {path.name for path in tmp_path.iterdir()}
    assert "item.json" not in left
    assert not {name for name in left if name.startswith(".")}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"region": {}}, SettingsError, "no region or no period"),
        ({"period": None}, SettingsError, "no region or no period"),
        ({"period": "June"}, SettingsError, "not understood"),
        ({"region": {"name": "a", "footprint": {"type": "Point", "coordinates": [0, 1]}}},
         RegionError, "has to be a polygon"),
        ({"region": {"name": "a", "footprint": {"type": "Polygon"}}}, RegionError, "no GeoJSON"),
        ({"region": {"name": "a", "footprint": {"type": "Polygon", "coordinates": [
            [[600000, 0], [600010, 0], [600010, 9], [600000, 0]]]}}}, RegionError, "in degrees"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_used_is_refused(
    tmp_path: Path, change: dict[str, Any], kind: type[LandcoverError], words: str
):
    """No region, no period, or a footprint that is no polygon on the Earth: one sentence."""
    run = make_run(tmp_path, **change)
    with pytest.raises(kind, match=words):
        publish(folder=tmp_path, run=run)
    assert not (tmp_path / "item.json").exists()
