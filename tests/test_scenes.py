"""Scenes: what an item's metadata offer to read, and the reason where they offer nothing."""

import contextlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from shapely.geometry import MultiPolygon, box, mapping

from landcover.errors import CatalogError
from landcover.products import PHOTO, PLAIN
from pipeline.catalog import Question, open_catalog
from pipeline.index import index_folder
from pipeline.scenes import Scene, Source, read_scene

SQUARE = mapping(box(10, 50, 11, 51))


def item(
    assets: dict[str, Any], properties: dict[str, Any] | None = None, **facts: Any
) -> dict[str, Any]:
    """An item at 10 degrees east, taken on 2024-05-01 at 10:00 UTC."""
    return {
        "id": "scene", "type": "Feature", "collection": "mine", "geometry": SQUARE,
        "properties": {"datetime": "2024-05-01T10:00:00Z", **(properties or {})},
        "assets": assets, **facts,
    }  # fmt: skip


def tif(name: str, **facts: Any) -> dict[str, Any]:
    """An asset of a provider's."""
    return {"href": f"https://data.example.com/{name}.tif", **facts}


def test_a_scene_holds_what_the_item_says() -> None:
    """One literal item, field by field."""
    assets = {
        "red": tif("B04", **{"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]}),
        "nir": tif("B08"),
        "scl": tif("SCL"),
        "thumbnail": {"href": "https://data.example.com/a.png", "type": "image/png"},
    }
    properties = {"platform": "sentinel-2a", "eo:cloud_cover": 12.5}
    scene = read_scene(item(assets, properties))
    assert (scene.id, scene.day, scene.cloud_cover) == ("scene", "2024-05-01", 12.5)
    assert scene.moment == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert scene.product.name == "sentinel-2-l2a"
    assert scene.bands == {
        "red": Source("https://data.example.com/B04.tif", 1, 0.0),
        "nir": Source("https://data.example.com/B08.tif", 1, 0.0),
    }
    assert scene.mask == Source("https://data.example.com/SCL.tif", 1, None)
    assert scene.properties["platform"] == "sentinel-2a"
    assert scene.footprint is not None
    assert scene.footprint.equals(box(10, 50, 11, 51))


def test_only_the_wanted_bands_in_their_order() -> None:
    """Bands come as they are asked for; the mask comes with them."""
    scene = read_scene(
        item({key: tif(key) for key in ("red", "nir", "blue", "scl")}), ["nir", "red"]
    )
    assert list(scene.bands) == ["nir", "red"]
    assert scene.mask is not None


def test_bands_are_found_by_the_names_of_the_sensor() -> None:
    """A model trained on B08 and B04 maps scenes that call them nir and red, as it maps files."""
    found = item({key: tif(key) for key in ("red", "nir", "blue")})
    scene, plain = read_scene(found, ["B08", "B04"]), read_scene(found, ["nir", "red"])
    assert list(scene.bands) == ["B08", "B04"]
    assert list(scene.bands.values()) == list(plain.bands.values())


def test_a_missing_band_is_named_with_those_there_are() -> None:
    """The message says what the scene has, so that another model can be chosen."""
    with pytest.raises(
        CatalogError, match=r"Scene scene has no band nir, swir16 \(it has blue, red\)"
    ):
        read_scene(item({"red": tif("a"), "blue": tif("b")}), ["red", "nir", "swir16"])


def test_bands_that_are_but_numbers_are_to_be_named() -> None:
    """B4 is red of one sensor and near infrared of another: a person must say it."""
    bands = [{"name": name, "data_type": "uint16"} for name in ("b2", "b3", "b4", "b8")]
    with pytest.raises(CatalogError, match=r"no band red .it has b2, b3, b4, b8.; .* --bands"):
        read_scene(item({"image": tif("a", bands=bands)}), ["red"])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (item({}), "it has none"),
        (item({"a": {"href": "https://data.example.com/a.nc", "type": "application/x-netcdf"}}), "names its bands"),
        (item({"red": {"href": "https://data.example.com/a.grib2"}}), "names its bands"),
        (item({"data": tif("a")}), "names its bands"),
        (item({"red": {"type": "image/tiff"}}), "names its bands"),
        (item({"red": tif("a")}, {"datetime": "soon"}), "cannot be used: Invalid isoformat string"),
        (item({"red": tif("a")}, geometry={"type": "Polygon"}), "cannot be used"),
        (item({"red": tif("a")}, geometry=mapping(box(900, 0, 901, 1))), "not on the Earth"),
        (item({"red": tif("a", **{"raster:bands": [{"nodata": "none"}]})}), "nodata is 'none'"),
        (item({"red": tif("a", **{"raster:bands": [{"scale": "x"}]})}), "'x', which is no number|could not convert"),
        (item({"red": tif("a", **{"raster:bands": [{"scale": 0, "offset": 1}]})}), "scale is 0"),
        (item({"red": tif("a", **{"raster:bands": [{"scale": 1, "offset": math.inf}]})}), "no number"),
        (item({"red": "a.tif"}), "cannot be used"),
        ({"id": "scene", "properties": {}}, "lacks 'assets'"),
        ({"id": "scene"}, "lacks 'properties'"),
    ],
)  # fmt: skip
def test_an_item_without_use_is_refused_with_its_reason(
    document: dict[str, Any], reason: str
) -> None:
    """One sentence that names the scene, whatever is wrong with it."""
    with pytest.raises(CatalogError, match=f"^Scene scene .*{reason}.*\\.$"):
        read_scene(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8)
    | st.sampled_from(["red", "scl", "sentinel-2a", "a.tif", "2024-05-01T10:00:00Z", "uint8", "nan"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["id", "assets", "properties", "red", "href", "bands", "eo:bands", "raster:bands", "scale", "nodata",
             "name", "alternate", "geometry", "datetime", "roles", "type", "platform", "data_type"]
        ),
        inner, max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    asset=st.dictionaries(
        st.sampled_from(["bands", "eo:bands", "raster:bands", "roles", "type", "alternate", "nodata", "scale"]), JSON
    ),
    properties=st.dictionaries(st.sampled_from(["datetime", "platform", "eo:bands", "eo:cloud_cover"]), JSON),
    geometry=JSON,
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_whatever_a_stranger_writes_is_read_or_refused(
    asset: dict[str, Any], properties: dict[str, Any], geometry: Any
) -> None:
    """No item, however odd, ends in anything but a scene or a sentence."""
    document = item({"red": tif("a", **asset)}, properties, geometry=geometry)
    with contextlib.suppress(CatalogError):
        scene = read_scene(document)
        assert all(math.isfinite(s.factor + s.summand) for s in scene.bands.values())
        assert all(name.isprintable() for name in scene.bands)


# --- bands of the products ------------------------------------------------------------------------


def test_hls_l30_bands_are_landsats() -> None:
    """B05 of HLS L30 is the near infrared, not Sentinel-2's red edge; thermal bands are none."""
    assets = {
        key: tif(key) for key in ("B02", "B03", "B04", "B05", "B06", "B07", "B09", "B10", "Fmask")
    }
    scene = read_scene(item(assets, collection="HLSL30_2.0"))
    hrefs = {name: source.href.rpartition("/")[2] for name, source in scene.bands.items()}
    assert hrefs == {
        "blue": "B02.tif", "green": "B03.tif", "red": "B04.tif", "nir08": "B05.tif", "nir": "B05.tif",
        "swir16": "B06.tif", "swir22": "B07.tif", "cirrus": "B09.tif",
    }  # fmt: skip
    assert scene.bands["red"].nodata == -9999
    assert scene.mask == Source("https://data.example.com/Fmask.tif", 1, None)


def test_hls_s30_bands_are_sentinel2s() -> None:
    """B05 of HLS S30 is the red edge; B08 stays the near infrared beside B8A."""
    assets = {key: tif(key) for key in ("B05", "B08", "B8A", "Fmask")}
    scene = read_scene(item(assets, collection="hls2-s30"))
    assert scene.bands["rededge071"].href.endswith("B05.tif")
    assert scene.bands["nir"].href.endswith("B08.tif")
    assert scene.bands["nir08"].href.endswith("B8A.tif")


@pytest.mark.parametrize(
    ("name", "red", "nir"), [("LE07_L2SP_1", "SR_B3", "SR_B4"), ("LC08_L2SP_1", "SR_B4", "SR_B5")]
)
def test_landsat_band_numbers_go_by_platform(name: str, red: str, nir: str) -> None:
    """Bare file keys of Landsat 7 and 8: the same number is another band."""
    assets = {
        key: tif(key)
        for key in ("SR_B2.TIF", "SR_B3.TIF", "SR_B4.TIF", "SR_B5.TIF", "QA_PIXEL.TIF")
    }
    scene = read_scene(item(assets, id=name))
    assert scene.bands["red"].href.endswith(f"{red}.TIF.tif")
    assert scene.bands["nir"].href.endswith(f"{nir}.TIF.tif")
    assert scene.bands["nir"].factor == pytest.approx(0.275)
    assert scene.bands["nir"].summand == pytest.approx(-2000)


def test_a_declared_scale_goes_before_the_products() -> None:
    """The item knows its own numbers best; what it leaves open the product says."""
    declared = {"raster:bands": [{"scale": 0.0002, "offset": 0, "nodata": 5}]}
    assets = {"SR_B4": tif("a", **declared), "SR_B3": tif("b"), "QA_PIXEL": tif("c")}
    scene = read_scene(item(assets, id="LC08_L2SP_1"))
    assert scene.bands["red"] == Source(
        "https://data.example.com/a.tif", 1, 5.0, 2.0, 0.0, is_scaled=True
    )
    assert scene.bands["green"].nodata == 0
    assert scene.bands["green"].summand == pytest.approx(-2000)


@pytest.mark.parametrize(
    ("scale", "offset", "rule"),
    [(1e-4, 0, (1.0, 0.0)), (1, 0, (0.275, -2000.0)), (None, None, (0.275, -2000.0))],
)
def test_a_declared_scale_of_reflectance_x_10000_is_one(
    scale: float | None, offset: float | None, rule: tuple[float, float]
) -> None:
    """0.0001 is a declaration, also where the product's own scale is another; 1 and 0 are defaults."""
    declared = {"raster:bands": [{"scale": scale, "offset": offset}]}
    source = read_scene(
        item({"SR_B4": tif("a", **declared), "QA_PIXEL": tif("c")}, id="LC08_L2SP_1")
    ).bands["red"]
    assert (source.factor, source.summand) == pytest.approx(rule)


def test_bands_inherit_from_their_asset() -> None:
    """STAC 1.1: what is said of the asset holds for its bands, as Copernicus words it."""
    band = {"name": "B04", "eo:common_name": "red"}
    asset = tif("B04_10m", bands=[band], nodata=0, data_type="uint16", **{"raster:scale": 0.0002})
    scene = read_scene(item({"B04_10m": asset}))
    assert scene.bands["red"] == Source(
        "https://data.example.com/B04_10m.tif", 1, 0.0, 2.0, 0.0, is_scaled=True
    )


def test_bands_may_be_numbers_of_the_items_list() -> None:
    """STAC before 1.0 described the bands once and gave assets their positions."""
    described = [{"name": "x", "common_name": "blue"}, {"name": "y", "common_name": "red"}]
    scene = read_scene(item({"image": tif("a", **{"eo:bands": [1, 0]})}, {"eo:bands": described}))
    assert {name: source.band for name, source in scene.bands.items()} == {"red": 1, "blue": 2}


def test_a_rendering_serves_where_there_is_no_more() -> None:
    """Of an aerial image published as a picture only, the picture is read, as a photograph."""
    bands = [{"name": name} for name in ("red", "green", "blue")]
    visual = tif("a", roles=["visual"], bands=bands)
    scene = read_scene(item({"visual": visual}))
    assert scene.product is PHOTO
    assert {name: source.band for name, source in scene.bands.items()} == {
        "red": 1,
        "green": 2,
        "blue": 3,
    }
    with_data = read_scene(
        item({"visual": visual, "red": tif("b"), "green": tif("c"), "blue": tif("d")})
    )
    assert with_data.product is PLAIN
    assert with_data.bands["red"].href.endswith("b.tif")


def test_an_alpha_band_is_no_data() -> None:
    """It says where there is data; the file's mask is made of it."""
    bands = [{"name": name, "data_type": "uint8"} for name in ("red", "green", "blue", "alpha")]
    assert list(read_scene(item({"image": tif("a", bands=bands)})).bands) == [
        "red",
        "green",
        "blue",
    ]


@pytest.mark.parametrize(("said", "nodata"), [("nan", math.nan), ("-inf", -math.inf), (255, 255.0)])
def test_nodata_as_json_writes_it(said: Any, nodata: float) -> None:
    """JSON has no NaN, so STAC writes it as text."""
    scene = read_scene(item({"red": tif("a", **{"raster:bands": [{"nodata": said}]})}))
    assert scene.bands["red"].nodata == pytest.approx(nodata, nan_ok=True)


def test_nodata_of_a_plain_image_is_what_its_file_says() -> None:
    """Nothing is known of it, so its file's tag is not overruled."""
    scene = read_scene(item({"red": tif("a")}))
    assert scene.product is PLAIN
    assert scene.bands["red"].nodata is None


# --- addresses ------------------------------------------------------------------------------------


def test_an_alternate_address_is_taken_where_it_is_easier() -> None:
    """A public web address goes before a bucket that needs keys."""
    asset = {
        "href": "s3://mine/a.tif",
        "alternate": {"public": {"href": "https://data.example.com/a.tif"}},
    }
    assert read_scene(item({"red": asset})).bands["red"].href == "https://data.example.com/a.tif"


@pytest.mark.parametrize(
    "alternate",
    [
        {"x": {"href": "/etc/passwd"}},
        {"x": {"href": "file:///etc/passwd"}},
        {"x": {"href": "/vsicurl/https://example.com/a.tif"}},
        {"x": {"href": "https://example.com/a.tif\nb"}},
        {"x": {"href": 5}},
        {"x": None},
        ["https://example.com/a.tif"],
        "https://example.com/a.tif",
    ],
)
def test_an_alternate_address_is_never_a_file_of_ours(alternate: Any) -> None:
    """What a stranger adds beside the checked address is checked too, and passed over if odd."""
    asset = {"href": "s3://mine/a.tif", "alternate": alternate}
    assert read_scene(item({"red": asset})).bands["red"].href == "s3://mine/a.tif"


def test_a_local_file_stays_one() -> None:
    """A path is taken as it is, whatever else is offered."""
    asset = {"href": "/data/a.tif", "alternate": {"x": {"href": "https://data.example.com/a.tif"}}}
    assert read_scene(item({"red": asset})).bands["red"].href == "/data/a.tif"


# --- place and time -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "west", "day"),
    [
        ("2024-05-01T10:00:00Z", 10, "2024-05-01"),
        ("2024-05-01T23:30:00Z", 150, "2024-05-02"),
        ("2024-05-01T01:00:00Z", -120, "2024-04-30"),
        ("2024-05-01T23:30:00+10:00", 150, "2024-05-01"),
        ("2024-05-01T23:30:00", 0, "2024-05-01"),
        ("2024-05-01T00:00:00Z", -120, "2024-05-01"),  # a date without a time of day
        ("0001-01-01T01:00:00Z", -120, "0001-01-01"),
    ],
)
def test_the_day_is_the_suns(moment: str, west: float, day: str) -> None:
    """The date where the scene is, so that a pass over midnight UTC is one day."""
    document = item(
        {"red": tif("a")}, {"datetime": moment}, geometry=mapping(box(west, 0, west + 1, 1))
    )
    assert read_scene(document).day == day


def test_a_span_counts_by_its_start_and_nothing_is_undated() -> None:
    """A scene without any time is told apart by name only."""
    span = {
        "datetime": None,
        "start_datetime": "2024-05-01T10:00:00Z",
        "end_datetime": "2024-06-01T10:00:00Z",
    }
    assert read_scene(item({"red": tif("a")}, span)).day == "2024-05-01"
    undated = read_scene(item({"red": tif("a")}, {"datetime": None}, geometry=None))
    assert (undated.day, undated.moment, undated.footprint) == ("undated", None, None)


def test_a_footprint_over_the_antimeridian_is_split() -> None:
    """One ring from 179 to -179 becomes two parts; the larger says the day."""
    ring = [[179.0, 0.0], [-179.5, 0.0], [-179.5, 1.0], [179.0, 1.0], [179.0, 0.0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    document = item({"red": tif("a")}, {"datetime": "2024-05-01T22:00:00Z"}, geometry=geometry)
    scene = read_scene(document)
    assert scene.footprint is not None
    assert scene.footprint.equals(MultiPolygon([box(179, 0, 180, 1), box(-180, 0, -179.5, 1)]))
    assert scene.day == "2024-05-02"


@pytest.mark.parametrize(
    ("said", "cover"),
    [(0, 0.0), (100, 100.0), (-1, None), (None, None), ("12", None), (math.nan, None)],
)
def test_cloud_cover_is_percent_or_unknown(said: Any, cover: float | None) -> None:
    """Landsat writes -1 where it does not know."""
    assert read_scene(item({"red": tif("a")}, {"eo:cloud_cover": said})).cloud_cover == cover


# --- our own index --------------------------------------------------------------------------------


def indexed(
    folder: Path, pixels: np.ndarray, name: str = "image_2024-05-01.tif", **facts: Any
) -> Scene:
    """The scene that `landcover index` makes of an image."""
    profile = {
        "driver": "GTiff", "count": len(pixels), "height": 8, "width": 8, "dtype": pixels.dtype,
        "crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10),
    }  # fmt: skip
    descriptions, scales = facts.pop("descriptions", None), facts.pop("scales", None)
    with rasterio.open(folder / name, "w", **profile, **facts) as dataset:
        dataset.write(pixels)
        if descriptions:
            dataset.descriptions = descriptions
        if scales:
            dataset.scales, dataset.offsets = scales
    index_folder(folder, folder / "index.ndjson", report=lambda _: None)
    (found,) = open_catalog(str(folder / "index.ndjson")).search(Question())
    return read_scene(json.loads(json.dumps(found)))


def test_an_indexed_stack_of_reflectance_is_plain(tmp_path: Path) -> None:
    """16-bit numbers are reflectance x 10000; the file's nodata and band order are kept."""
    names = ("blue", "green", "red", "nir")
    scene = indexed(tmp_path, np.full((4, 8, 8), 900, np.uint16), descriptions=names, nodata=65535)
    assert scene.product is PLAIN
    assert {name: source.band for name, source in scene.bands.items()} == {
        "blue": 1, "green": 2, "red": 3, "nir": 4,
    }  # fmt: skip
    assert {source.nodata for source in scene.bands.values()} == {65535.0}
    assert {source.href for source in scene.bands.values()} == {
        str(tmp_path / "image_2024-05-01.tif")
    }
    assert scene.day == "2024-05-01"


def test_an_indexed_scale_is_used(tmp_path: Path) -> None:
    """A file that says its scale and offset is brought to reflectance x 10000."""
    scene = indexed(
        tmp_path, np.full((2, 8, 8), 900, np.uint16), descriptions=("red", "nir"),
        scales=([2e-5] * 2, [-0.1] * 2),
    )  # fmt: skip
    assert scene.bands["nir"].factor == pytest.approx(0.2)
    assert scene.bands["nir"].summand == pytest.approx(-1000)


def test_an_indexed_picture_is_a_photo(tmp_path: Path) -> None:
    """8-bit red, green, blue of a drone: taken as they are, a tag for nodata if there is one."""
    pixels = np.full((3, 8, 8), 90, np.uint8)
    untagged = indexed(tmp_path, pixels, photometric="RGB")
    assert untagged.product is PHOTO
    assert untagged.mask is None
    assert {source.nodata for source in untagged.bands.values()} == {None}
    tagged = indexed(tmp_path, pixels, photometric="RGB", nodata=0)
    assert {source.nodata for source in tagged.bands.values()} == {0.0}


def test_indexed_sentinel2_bands_are_one_scene_with_its_mask(tmp_path: Path) -> None:
    """Files of single bands join; SCL is the mask, and the baseline's rule applies."""
    for band in ("B04", "B08"):
        indexed(tmp_path, np.full((1, 8, 8), 900, np.uint16), f"T33UUP_20240501T100031_{band}.tif")
    scene = indexed(tmp_path, np.full((1, 8, 8), 4, np.uint8), "T33UUP_20240501T100031_SCL.tif")
    assert scene.product.name == "sentinel-2-l2a"
    assert scene.product.baseline_offset
    assert set(scene.bands) == {"red", "nir"}
    assert scene.mask is not None


@pytest.mark.parametrize(
    ("stem", "bands", "quality", "product", "hrefs"),
    [
        ("LC08_L2SP_028030_20200114_20200824_02_T1_", ("SR_B4", "SR_B5"), "QA_PIXEL", "landsat-c2-l2",
         {"red": "SR_B4", "nir": "SR_B5"}),
        ("LE07_L2SP_044033_20210329_20210424_02_T1_", ("SR_B3", "SR_B4"), "QA_PIXEL", "landsat-c2-l2-tm",
         {"red": "SR_B3", "nir": "SR_B4"}),
        ("HLS.L30.T33TWM.2020159T100031.v2.0.", ("B04", "B05"), "Fmask", "hls-l30", {"red": "B04", "nir": "B05"}),
        ("HLS.S30.T33TWM.2020159T100031.v2.0.", ("B04", "B08"), "Fmask", "hls-s30", {"red": "B04", "nir": "B08"}),
    ],
)  # fmt: skip
def test_downloaded_scenes_are_what_the_catalogues_say(
    tmp_path: Path,
    stem: str,
    bands: tuple[str, ...],
    quality: str,
    product: str,
    hrefs: dict[str, str],
) -> None:
    """Files as USGS and NASA name them: same product, mask and numbers as through a catalogue."""
    for band in bands:
        indexed(tmp_path, np.full((1, 8, 8), 900, np.int16), f"{stem}{band}.tif")
    scene = indexed(tmp_path, np.full((1, 8, 8), 0, np.uint8), f"{stem}{quality}.tif")
    assert scene.product.name == product
    found = {name: Path(scene.bands[name].href).stem.removeprefix(stem) for name in hrefs}
    assert found == hrefs
    assert scene.mask is not None
    rules = {(s.nodata, round(s.factor, 9), round(s.summand, 6)) for s in scene.bands.values()}
    assert rules == {(0, 0.275, -2000) if "landsat" in product else (-9999, 1, 0)}


def test_indexed_envi_images_are_read(shared_data: Path, tmp_path: Path) -> None:
    """Real Landsat 7 in ENVI's format, which has no media type: six bands of 8 bits."""
    names = ["blue", "green", "red", "nir", "swir16", "swir22"]
    index_folder(
        shared_data / "landsat_change_taizhou", tmp_path / "index.ndjson", bands=names,
        report=lambda _: None,
    )  # fmt: skip
    found = open_catalog(str(tmp_path / "index.ndjson")).search(Question())
    scenes = [read_scene(document) for document in found]
    assert [list(scene.bands) for scene in scenes] == [names, names]
    assert [scene.product for scene in scenes] == [PHOTO, PHOTO]


def test_an_indexed_stack_with_fmask_is_masked(shared_data: Path, tmp_path: Path) -> None:
    """Real Landsat 7 with Fmask as eighth band: the mask is found, and its nodata tag."""
    names = ["blue", "green", "red", "nir", "swir16", "swir22", "lwir", "fmask"]
    index_folder(
        shared_data / "landsat7_pair_fmask", tmp_path / "index.ndjson", bands=names,
        report=lambda _: None,
    )  # fmt: skip
    found = open_catalog(str(tmp_path / "index.ndjson")).search(Question())
    scenes = sorted((read_scene(document) for document in found), key=lambda scene: scene.id)
    assert [scene.product.name for scene in scenes] == ["landsat-fmask-stack"] * 2
    assert [scene.mask.band for scene in scenes if scene.mask] == [8, 8]
    assert [scene.bands["red"].nodata for scene in scenes] == [-9999, -9999]
