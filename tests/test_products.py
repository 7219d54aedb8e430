"""Products: what their numbers mean, which values hide the ground, by what they are recognised."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.errors import CatalogError
from landcover.products import MaskRule
from pipeline.products import product_of, products
from pipeline.providers import providers

QA_FILL, QA_DILATED, QA_CIRRUS, QA_CLOUD, QA_SHADOW, QA_SNOW, QA_CLEAR, QA_WATER = (
    1 << bit for bit in range(8)
)


def image(*bands: str, **facts: Any) -> dict[str, Any]:
    """An asset of one image with named bands."""
    return {"href": "a.tif", "bands": [{"name": band, **facts} for band in bands]}


def item(collection: str = "", **properties: Any) -> dict[str, Any]:
    """An item but for its assets."""
    return {"id": properties.pop("id", "scene"), "collection": collection, "properties": properties}


def keys(*names: str) -> dict[str, dict[str, Any]]:
    """Assets of which only the keys are known."""
    return {name: {"href": f"{name}.tif"} for name in names}


LANDSAT = keys("red", "green", "nir08", "qa_pixel")


@pytest.mark.parametrize(
    ("product", "hidden", "clear"),
    [
        ("sentinel-2-l2a", [0, 1, 3, 8, 9, 10], [2, 4, 5, 6, 7, 11]),
        ("landsat-fmask-stack", [2, 4, 255], [0, 1, 3]),
        ("ga-landsat-ard", [0, 2, 3], [1, 4, 5]),
        (
            "landsat-c2-l2",
            [QA_FILL, QA_CLEAR | QA_DILATED, QA_CIRRUS, QA_CLOUD, QA_CLEAR | QA_SHADOW, 22280],
            # Clear land, clear water and clear snow as USGS documents them, all confidences low.
            [21824, 21952, 30048, QA_CLEAR, QA_CLEAR | QA_SNOW, QA_WATER],
        ),
        ("landsat-c2-l2-tm", [1, 5440 | QA_CLOUD], [5440, 5504]),
        # Fmask of HLS 2.0: water, aerosol levels and snow leave the ground visible.
        ("hls-l30", [2, 4, 8, 64 | 2, 255], [0, 16, 32, 64, 128, 192, 1]),
        ("hls-s30", [2, 4, 8, 64 | 2, 255], [0, 16, 32, 64, 128, 192, 1]),
    ],
)
def test_what_hides_the_ground(product: str, hidden: list[int], clear: list[int]) -> None:
    """Codes and bits by the documents of each product; snow is ground in all of them."""
    mask = products()[product].mask
    assert mask is not None
    unclear = mask.unclear()
    assert unclear[hidden].all()
    assert not unclear[clear].any()


@given(
    codes=st.sets(st.integers(0, 65535), max_size=5),
    bits=st.sets(st.integers(0, 15), max_size=4),
    value=st.integers(0, 65535),
)
def test_the_table_says_what_the_rule_says(codes: set[int], bits: set[int], value: int) -> None:
    """A value hides the ground if it is one of the codes or has one of the bits set."""
    expected = value in codes or any(value >> bit & 1 for bit in bits)
    rule = MaskRule("qa", tuple(codes), tuple(bits))
    assert rule.unclear().shape == (65536,)
    assert rule.unclear().dtype == np.bool_
    assert rule.unclear()[value] == expected


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        ("landsat-c2-l2", (0.275, -2000.0)),
        ("hls-s30", (1.0, 0.0)),
        ("sentinel-2-l2a", (1.0, 0.0)),
        ("plain", (1.0, 0.0)),
        ("photo", (1.0, 0.0)),
    ],
)
def test_scaling(name: str, scaling: tuple[float, float]) -> None:
    """Factor and summand to reflectance x 10000: Landsat's 0.0000275 and -0.2 give 0.275 and -2000."""
    assert products()[name].scaling() == pytest.approx(scaling)


def test_the_band_tables_name_what_the_sensors_saw() -> None:
    """The same identifier is another band in another product: B05 and SR_B4."""
    bands = {name: product.bands for name, product in products().items()}
    assert bands["sentinel-2-l2a"]["b05"] == bands["hls-s30"]["b05"] == "rededge071"
    assert bands["hls-l30"]["b05"] == "nir08"
    assert bands["landsat-c2-l2"]["sr_b4"] == "red"
    assert bands["landsat-c2-l2-tm"]["sr_b4"] == "nir08"
    assert bands["landsat-c2-l2-tm"]["sr_b5"] == "swir16"
    for product in products().values():
        assert all(key == key.lower() for key in product.bands)
        assert product.mask is None or product.mask.band in product.bands.values()


@pytest.mark.parametrize(
    ("document", "assets", "name"),
    [
        (item("sentinel-2-c1-l2a"), keys("red"), "sentinel-2-l2a"),
        (item("sentinel-2-l1c"), keys("red"), "sentinel-2-l1c"),
        (item(**{"s2:product_type": "S2MSI2A"}), keys("B04"), "sentinel-2-l2a"),
        (item("mine"), keys("B04", "SCL_20m"), "sentinel-2-l2a"),
        (item("mine", constellation="sentinel-2"), keys("red"), "sentinel-2-l1c"),
        (item("mine", platform="Sentinel-2B", constellation="Sentinel 2"), keys("B04"), "sentinel-2-l1c"),
        (item("mine", id="S2A_MSIL2A_20190101T000001"), keys("B04"), "sentinel-2-l2a"),
        (item("landsat-c2-l2", platform="landsat-9"), LANDSAT, "landsat-c2-l2"),
        (item("landsat-c2-l2", platform="landsat-7"), LANDSAT, "landsat-c2-l2-tm"),
        (item("landsat-c2l2-sr", platform="LANDSAT_5"), LANDSAT, "landsat-c2-l2-tm"),
        (item("x", id="LE07_L2SP_044033_20210329"), LANDSAT, "landsat-c2-l2-tm"),
        (item("x", id="LC09_L2SP_084069_20250722"), LANDSAT, "landsat-c2-l2"),
        (item("landsat-c2-l2"), keys("red", "green"), "plain"),  # a folder of that name
        (item("x", platform="landsat-8"), LANDSAT, "landsat-qa-stack"),  # nothing says Level-2's scale
        (item("ls8_sr", platform="landsat-8"), keys("SR_B4", "QA_PIXEL"), "landsat-c2-l2"),
        (item("ls5_sr", platform="landsat-5"), keys("SR_B4", "QA_PIXEL"), "landsat-c2-l2-tm"),
        (item("x", id="LT05_L2SP_044033_19990329_20210424_02_T1-0a1b2c3d"), LANDSAT, "landsat-c2-l2-tm"),
        (item("mine"), {"image": image("red", "nir", "qa_pixel", data_type="uint16")}, "landsat-qa-stack"),
        (item("HLSL30_2.0"), keys("B05", "Fmask"), "hls-l30"),
        (item("hls2-s30"), keys("B05", "Fmask"), "hls-s30"),
        (item("x", id="HLS.S30.T01GEL.2021001T213113.v2.0"), keys("B05", "Fmask"), "hls-s30"),
        (item("x", platform="landsat-8"), keys("nbart_red", "oa_fmask"), "ga-landsat-ard"),
        (item("naip"), {"image": image("red", "green", "blue", "nir")}, "naip"),
        (item("mine"), {"image": image("red", "nir", "fmask", data_type="int16")}, "landsat-fmask-stack"),
        (item("mine"), {"image": image("red", "green", "blue", data_type="uint8")}, "photo"),
        (item("mine"), {"image": image("red", "green", "blue", "alpha", data_type="uint8")}, "photo"),
        (item("sentinel-2-l2a"), {"image": image("red", "green", "blue", data_type="uint8")}, "photo"),
        (item("mine"), {"image": image("red", "green", "blue", "nir", data_type="uint16")}, "plain"),
        (item("mine"), {"image": image("red", "nir")}, "plain"),
        (item("mine"), {"image": image("red", "nir", data_type="uint8", scale=0.004)}, "plain"),
        (item("mine"), {"image": image("red", "nir", data_type="uint8", scale=1)}, "photo"),
        (item("mine"), {}, "plain"),
    ],
)  # fmt: skip
def test_recognition(document: dict[str, Any], assets: dict[str, Any], name: str) -> None:
    """Collection, properties, id and assets tell a product; scaled ones are never taken on a name alone."""
    assert product_of(document, assets).name == name


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (item(**{"sar:instrument_mode": "IW"}), "radar"),
        (item(id="LC08_L1TP_033032_20231008_02_T1"), "Level-1"),
        (item(**{"landsat:correction": "L1TP"}), "Level-1"),
        (item(id="AST_L1T_00312272006020322"), "ASTER"),
    ],
)
def test_what_cannot_become_land_cover_is_refused(document: dict[str, Any], reason: str) -> None:
    """Numbers that are no reflectance are not mapped as if they were."""
    with pytest.raises(CatalogError, match=reason):
        product_of(document, keys("red", "green"))


def test_every_collection_of_a_provider_has_a_product() -> None:
    """What the providers' files promise is in the products' file, and one id means one product."""
    families: dict[str, str] = {}
    for provider in providers():
        for collection, product in provider.collections.items():
            assert products()[product].name == product
            assert families.setdefault(collection, product) == product
        assert set(provider.default_collections) <= provider.collections.keys()
