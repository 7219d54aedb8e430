"""Band names: what each provider's asset is called by us."""

import json
from pathlib import Path

import pytest

from landcover.bands import band_assets, common_name

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
