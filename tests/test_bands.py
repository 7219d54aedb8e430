"""Band names: what each provider's asset is called by us."""

import json
from pathlib import Path

import pytest

from landcover.bands import band_assets, band_fact, bare_key, common_name, rendered_bands

SIX = {"blue", "green", "red", "nir", "swir16", "swir22"}


@pytest.mark.parametrize(
    ("key", "asset", "name"),
    [
        ("B02", {}, "blue"),
        ("b8a", {}, "nir08"),
        ("nir", {"eo:bands": [{"name": "nir", "common_name": "nir"}]}, "nir"),
        ("SR_B4", {"eo:bands": [{"name": "B4", "common_name": "red"}]}, "red"),
        ("x", {"bands": [{"name": "B4", "eo:common_name": "red"}]}, "red"),
        ("rededge2", {"eo:bands": [{"common_name": "rededge"}]}, "rededge075"),
        ("visual", {"eo:bands": [{"common_name": "red"}]}, None),
        ("SCL_20m", {}, "scl"),
        ("b02_10M", {}, "blue"),
        ("x", {"bands": [{"name": "B05", "eo:common_name": "rededge"}]}, "rededge071"),
        ("TCI_10m", {"bands": [{"name": "B04"}]}, None),
        ("thumbnail", {"roles": ["thumbnail"]}, None),
        ("red-jp2", {"eo:bands": [{"common_name": "red"}]}, None),
        ("readme", {}, None),
    ],
)
def test_common_name(key: str, asset: dict[str, object], name: str | None) -> None:
    """The band of an asset is known by its key or its metadata; renderings are no bands."""
    assert common_name(key, asset) == name


def test_a_multi_band_asset_gives_each_band() -> None:
    """The bands of one file are told apart by their number."""
    assets = {"image": {"eo:bands": [{"name": "red"}, {"name": "green"}, {"name": "nir"}]}}
    assert band_assets(assets) == {"red": ("image", 1), "green": ("image", 2), "nir": ("image", 3)}


def test_band_identifiers_in_a_multi_band_asset_are_sentinel2s() -> None:
    """B02 in a file is blue, as it is as a key; a common name that is given goes before it."""
    bands = [
        {"name": "B02"},
        {"name": "b8a"},
        {"name": "B05", "common_name": "nir"},
        {"name": "vv"},
    ]
    assert band_assets({"image": {"bands": bands}}) == {
        "blue": ("image", 1), "nir08": ("image", 2), "nir": ("image", 3), "vv": ("image", 4),
    }  # fmt: skip


def test_a_rendering_gives_no_bands() -> None:
    """A picture made of bands is none of them, whatever role it is given."""
    bands = [{"name": "B04"}, {"name": "B03"}, {"name": "B02"}]
    for key in ("visual", "visual_20m", "TCI_10m"):
        assert band_assets({key: {"roles": ["data"], "bands": bands}}) == {}


def test_the_finest_resolution_counts() -> None:
    """Of a band at several resolutions the finest is taken; without one it is the native one."""
    keys = ("B02_60m", "B02_10m", "B02_20m", "SCL_60m", "SCL_20m", "green_20m", "green")
    assert band_assets({key: {} for key in keys}) == {
        "blue": ("B02_10m", 1), "scl": ("SCL_20m", 1), "green": ("green", 1),
    }  # fmt: skip


def test_the_first_claim_counts() -> None:
    """Two assets of one name (COG and JPEG 2000 of a band): the first stays."""
    assert band_assets({"red": {}, "B04": {}}) == {"red": ("red", 1)}


def test_a_products_table_goes_before_sentinel2s() -> None:
    """The same key is another band in another product; "" is never data."""
    table = {"b05": "nir08", "b10": ""}
    assets: dict[str, dict[str, object]] = {"B05": {}, "B10": {}, "B04": {}}
    assert band_assets(assets, table) == {"nir08": ("B05", 1), "red": ("B04", 1)}
    named = {"image": {"bands": [{"name": "B05"}, {"name": "B10"}]}}
    assert band_assets(named, table) == {"nir08": ("image", 1)}


@pytest.mark.parametrize(
    ("key", "bare"),
    [("B02_10m", "b02"), ("SR_B4.TIF", "sr_b4"), ("B02_10m.tif", "b02"), ("nbart_red", "nbart_red"), ("B02_15m", "b02_15m")],
)  # fmt: skip
def test_a_key_without_its_ending(key: str, bare: str) -> None:
    """Resolution and file ending are no part of a band's name."""
    assert bare_key(key) == bare


def test_band_names_that_cannot_be_shown_are_none() -> None:
    """A stranger's name that is unprintable or endless is passed over; the numbering stays."""
    bands = [{"name": "a\nb"}, {"name": "x" * 65}, {"name": "vv"}]
    assert band_assets({"image": {"bands": bands}}) == {"vv": ("image", 3)}
    assert band_assets({"image": {"bands": ["red", {"name": "nir"}]}}) == {}


def test_a_reflectance_that_is_also_shown_is_data() -> None:
    """Some providers mark a measurement as visual too."""
    assert common_name("a", {"roles": ["visual"], "bands": [{"name": "red"}]}) is None
    assert (
        common_name("a", {"roles": ["visual", "reflectance"], "bands": [{"name": "red"}]}) == "red"
    )


def test_the_colours_of_a_rendering() -> None:
    """Only a picture that names all three colours counts."""
    colours = [{"common_name": name} for name in ("red", "green", "blue")]
    assert rendered_bands({"visual": {"eo:bands": colours}, "b": {}}) == {
        "red": ("visual", 1), "green": ("visual", 2), "blue": ("visual", 3),
    }  # fmt: skip
    assert rendered_bands({"visual": {"eo:bands": colours[:2]}}) == {}


@pytest.mark.parametrize(
    ("asset", "fact"),
    [
        ({"raster:bands": [{"nodata": 1}, {"nodata": 2}], "nodata": 3}, 2),
        ({"bands": [{"nodata": 1}, {"raster:nodata": 2}]}, 2),
        ({"bands": [{}, {}], "nodata": 3}, 3),
        ({"raster:nodata": 0, "nodata": 3}, 0),
        ({"raster:bands": [{"nodata": 1}]}, None),
        ({"raster:bands": "x", "bands": [1, 2]}, None),
        ({}, None),
    ],
)
def test_a_fact_of_a_band(asset: dict[str, object], fact: object) -> None:
    """The band's own word goes before the asset's; oddities say nothing."""
    assert band_fact(asset, 2, "nodata") == fact


def test_real_sentinel2_items_have_our_six_bands(shared_data: Path) -> None:
    """Every real Sentinel-2 item of two providers offers the bands that the model needs."""
    seen = 0
    for folder in ("planetary_computer", "earth_search", "stactools_sentinel2_expected_items"):
        for path in sorted((shared_data / "stac_documents" / folder).rglob("*json")):
            document = json.loads(path.read_text())
            for item in document.get("features", [document]):
                if (
                    item.get("type") == "Feature"
                    and "entinel-2"
                    in str(item.get("collection", "") or item["properties"].get("constellation"))
                    and len(item["assets"]) > 8
                ):
                    assert set(band_assets(item["assets"])) >= SIX, path
                    seen += 1
    assert seen >= 20
