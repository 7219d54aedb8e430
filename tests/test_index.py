"""Index: folders of images become a catalogue, with the right dates, bands and places."""

import csv
import json
import os
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from pystac.validation import validate_dict
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from shapely.geometry import box, shape

from landcover.bands import SENTINEL2, band_assets
from landcover.errors import RasterError, SettingsError
from landcover.period import Period
from pipeline.catalog import Question, open_catalog
from pipeline.index import _slug, index_folder
from pipeline.items import Item
from pipeline.scenes import read_scene
from pipeline.search import search

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
GRID = from_origin(500_000, 5_000_000, 10, 10)


def write(
    path: Path, bands: int = 1, *, descriptions: tuple[str, ...] = (), colors: tuple[ColorInterp, ...] = (),
    tags: Mapping[str, str] | None = None, value: int = 7, **profile: Any,
) -> Path:  # fmt: skip
    """A GeoTIFF of 12 x 12 pixels of 10 m in UTM zone 33 unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "driver": "GTiff",
        "dtype": "uint16",
        "crs": "EPSG:32633",
        "transform": GRID,
        "width": 12,
        "height": 12,
    } | profile
    with rasterio.open(path, "w", count=bands, **settings) as dataset:
        dataset.write(
            np.full((bands, settings["height"], settings["width"]), value, settings["dtype"])
        )
        for number, text in enumerate(descriptions, start=1):
            dataset.set_band_description(number, text)
        if colors:
            dataset.colorinterp = colors
        dataset.update_tags(**(tags or {}))
    return path


def index(folder: Path, output: Path, **settings: Any) -> tuple[dict[str, Any], list[Item]]:
    """Index quietly; gives the details and the items as the catalogue gives them, oldest first."""
    details = index_folder(folder, output, report=lambda _: None, **settings)
    return details, open_catalog(str(output)).search(Question(sortby=(("datetime", "asc"),)))


def only(folder: Path, output: Path, **settings: Any) -> Item:
    """The one item of a folder."""
    _, (item,) = index(folder, output, **settings)
    return item


def band_names(item: Item) -> list[str]:
    """Names of the bands of the item's image asset."""
    return [band["name"] for band in item["assets"]["image"]["bands"]]


@pytest.fixture(params=[".parquet", ".ndjson"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the index goes."""
    return tmp_path / f"index{request.param}"


def sentinel2_folder(folder: Path, stem: str = "T33TWM_20200607T100031") -> Path:
    """A folder of one file per band: 10 m, 20 m and 60 m."""
    for band in SENTINEL2:
        size = (
            60
            if band in ("B01", "B09", "B10")
            else 10
            if band in ("B02", "B03", "B04", "B08")
            else 20
        )
        grid = from_origin(500_000, 5_000_000, size, size)
        write(folder / f"{stem}_{band}.tif", transform=grid, width=120 // size, height=120 // size)
    return folder


def test_band_files_make_one_item(tmp_path: Path, output: Path):
    """Fourteen files of one scene are one item with an asset per band, each with its own grid."""
    item = only(sentinel2_folder(tmp_path / "imagery"), output)
    assert item["id"] == "T33TWM_20200607T100031"
    assert item["collection"] == "imagery"
    assert item["properties"]["datetime"] == "2020-06-07T10:00:31Z"
    assert item["properties"]["gsd"] == 10
    assert item["properties"]["constellation"] == "sentinel-2"
    assert set(item["assets"]) == set(SENTINEL2.values())
    shapes = {name: item["assets"][name]["proj:shape"] for name in ("blue", "swir16", "coastal")}
    assert shapes == {"blue": [12, 12], "swir16": [6, 6], "coastal": [2, 2]}
    assert item["assets"]["swir16"]["proj:transform"] == [20, 0, 500_000, 0, -20, 5_000_000]
    assert item["assets"]["swir16"]["proj:code"] == "EPSG:32633"
    assert item["assets"]["blue"]["bands"] == [
        {"name": "blue", "data_type": "uint16", "eo:common_name": "blue"}
    ]
    assert "eo:common_name" not in item["assets"]["scl"]["bands"][0]
    assert {name: where[0] for name, where in band_assets(item["assets"]).items()} == {
        name: name for name in SENTINEL2.values()
    }


def test_scenes_are_told_apart_by_folder_and_prefix(tmp_path: Path, output: Path):
    """Two prefixes in one folder, and one prefix in two folders, are three scenes."""
    for name in ("a/X_20200101_B02", "a/X_20200101_B03", "a/Y_20200102_B02", "b/X_20200101_B02"):
        write(tmp_path / "i" / f"{name}.tif")
    _, items = index(tmp_path / "i", output)
    assert {item["id"]: sorted(item["assets"]) for item in items} == {
        "a-X_20200101": ["blue", "green"],
        "a-Y_20200102": ["blue"],
        "b-X_20200101": ["blue"],
    }


def test_a_product_folder_by_resolution_is_one_scene(tmp_path: Path, output: Path):
    """R10m and R20m of a product are one scene; of a band in both, the finer file counts."""
    stem = "T33TWM_20200607T100031"
    write(tmp_path / f"i/P/R10m/{stem}_B02_10m.tif")
    write(
        tmp_path / f"i/P/R20m/{stem}_B02_20m.tif", transform=from_origin(500_000, 5_000_000, 20, 20)
    )
    write(
        tmp_path / f"i/P/R20m/{stem}_SCL_20m.tif", transform=from_origin(500_000, 5_000_000, 20, 20)
    )
    item = only(tmp_path / "i", output)
    assert item["id"] == f"P-{stem}"
    assert item["assets"]["blue"]["href"].endswith("_B02_10m.tif")
    assert item["assets"]["scl"]["gsd"] == 20


@pytest.mark.parametrize(
    ("image", "given", "expected"),
    [
        ({"bands": 1}, None, ["gray"]),
        ({"bands": 3}, None, ["red", "green", "blue"]),
        ({"bands": 4}, None, ["red", "green", "blue", "nir"]),
        ({"bands": 2}, None, ["band_1", "band_2"]),
        ({"bands": 4, "dtype": "uint8", "photometric": "RGB", "alpha": "YES"}, None, ["red", "green", "blue", "alpha"]),
        ({"bands": 4, "colors": tuple(map(ColorInterp, (5, 4, 3, 6)))}, None, ["blue", "green", "red", "alpha"]),
        ({"bands": 5, "photometric": "RGB", "alpha": "YES"}, None, ["red", "green", "blue", "alpha", "nir"]),
        ({"bands": 4, "descriptions": ("B02", "Green", "Near Infrared", "observations")}, None, ["blue", "green", "nir", "observations"]),
        ({"bands": 3, "descriptions": ("vv", "vh", "vv")}, None, ["band_1", "vh", "band_3"]),
        ({"bands": 3, "descriptions": ("Band 1", "Band 2", "Band 3")}, None, ["red", "green", "blue"]),
        ({"bands": 1, "descriptions": ("Gamma0_VV",)}, None, ["gamma0_vv"]),
        ({"bands": 4}, ("swir16", "nir", "red", "B03"), ["swir16", "nir", "red", "green"]),
    ],
)  # fmt: skip
def test_bands_of_an_image_are_named(
    tmp_path: Path,
    output: Path,
    image: dict[str, Any],
    given: tuple[str, ...] | None,
    expected: list[str],
):
    """As the user says, else as described, else by colour, else by their number."""
    write(tmp_path / "i/20200101.tif", **image)
    assert band_names(only(tmp_path / "i", output, bands=given)) == expected


def test_a_guess_is_said(tmp_path: Path, output: Path):
    """Bands named only by their number are reported, so that a wrong guess is seen."""
    write(tmp_path / "i/20200101.tif", 4)
    notes = index_folder(tmp_path / "i", output)["notes"]
    assert any("taken as red, green, blue, nir" in note and "--bands" in note for note in notes)


def test_numbers_of_a_sensors_bands_are_no_names(tmp_path: Path, output: Path):
    """Earth Engine's B2, B3, B4, B8 are not red, green, blue, nir: a person is asked for names."""
    write(tmp_path / "i/20200101.tif", 4, descriptions=("B2", "B3", "B4", "B8"))
    details, (item,) = index(tmp_path / "i", output)
    assert band_names(item) == ["b2", "b3", "b4", "b8"]
    assert any("only number their bands" in n and "--bands" in n for n in details["notes"])
    named = only(tmp_path / "i", output, bands=("blue", "green", "red", "nir"))
    assert band_names(named) == ["blue", "green", "red", "nir"]


def test_radiometric_facts_are_kept(tmp_path: Path, output: Path):
    """Nodata, scale, offset, processing baseline and cloud cover go into the item."""
    path = write(
        tmp_path / "i/S2A_MSIL2A_20220207T100231_N0400_R122.tif",
        3,
        nodata=0,
        tags={"CLOUD_COVER": "12.5"},
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4, 1e-4, 1), (-0.1, -0.1, 0)
    write(
        tmp_path / "i/b_20220208.tif",
        tags={"PROCESSING_BASELINE": "05.09"},
        dtype="float32",
        nodata=float("nan"),
    )
    _, (first, second) = index(tmp_path / "i", output)
    red, _, blue = first["assets"]["image"]["bands"]
    assert (red["nodata"], red["raster:scale"], red["raster:offset"]) == (0, 1e-4, -0.1)
    assert "raster:scale" not in blue
    assert first["properties"]["s2:processing_baseline"] == "04.00"
    assert first["properties"]["eo:cloud_cover"] == 12.5
    assert second["properties"]["s2:processing_baseline"] == "05.09"
    assert "nodata" not in second["assets"]["image"]["bands"][0]


PRODUCT = "S2B_MSIL2A_20230615T100559_N0509_R022_T33UWP_20230615T131022"
BAND = "GRANULE/L2A_T33UWP/IMG_DATA/R10m/T33UWP_20230615T100559_B04_10m.tif"


@pytest.mark.parametrize("start", ["", f"{PRODUCT}.SAFE", f"{PRODUCT}.SAFE/{Path(BAND).parent}"])
def test_a_baseline_does_not_depend_on_the_folder_indexed(tmp_path: Path, start: str):
    """From the folder of products, the product or its bands: the same file has the same baseline."""
    write(tmp_path / "i" / f"{PRODUCT}.SAFE" / BAND)
    details, (item,) = index(tmp_path / "i" / start, tmp_path / "index.ndjson")
    assert item["properties"]["s2:processing_baseline"] == "05.09"
    assert not any("baseline" in note for note in details["notes"])


def test_a_renamed_product_says_its_baseline_in_its_metadata(tmp_path: Path):
    """ESA's XML above the bands is read, whatever their folder is called now."""
    write(tmp_path / "i/june" / BAND)
    text = "<a><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE></a>"
    (tmp_path / "i/june/MTD_MSIL2A.xml").write_text(text)
    item = only((tmp_path / "i/june" / BAND).parent, tmp_path / "index.ndjson")
    assert item["properties"]["s2:processing_baseline"] == "05.09"


def test_numbers_that_look_like_a_baseline_are_none(tmp_path: Path):
    """Only ESA's name of a product tells one: not a place, not beside metadata of another image."""
    write(tmp_path / "i/ms_N4815_E01520_20240601.tif", 4)
    (tmp_path / "i/MTD_MSIL2A.xml").write_text("<PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>")
    assert "s2:processing_baseline" not in only(tmp_path / "i", tmp_path / "a.ndjson")["properties"]


@pytest.mark.parametrize(("year", "said"), [(2021, False), (2023, True)])
def test_a_scene_that_may_carry_the_offset_is_told(tmp_path: Path, year: int, said: bool):
    """Where nothing tells the baseline of Sentinel-2's bands, those of 2022 or later get a note."""
    write(tmp_path / f"i/T33UWP_{year}0615T100559_B04_10m.tif")
    details, (item,) = index(tmp_path / "i", tmp_path / "index.ndjson")
    assert "s2:processing_baseline" not in item["properties"]
    assert any("1 scenes of Sentinel-2 do not say" in n for n in details["notes"]) == said


def test_what_files_do_not_say_can_be_declared(tmp_path: Path, output: Path):
    """Nodata and scale go to bands that say nothing; a file's own word, masks and alpha stay."""
    write(tmp_path / "i/a_20200101.tif", 2, descriptions=("nir", "fmask"))
    write(tmp_path / "i/b_20200102.tif", 1, nodata=3)
    write(tmp_path / "i/c_20200103.tif", 4, dtype="uint8", photometric="RGB", alpha="YES")
    scaled = write(tmp_path / "i/d_20200104.tif", 1, dtype="float32")
    with rasterio.open(scaled, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.01,), (0.5,)
    details, (a, b, c, d) = index(tmp_path / "i", output, nodata=255, scale=1)
    facts = [
        [
            (band.get("nodata"), band.get("raster:scale"))
            for band in item["assets"]["image"]["bands"]
        ]
        for item in (a, b, c, d)
    ]
    assert facts == [
        [(255, 1), (None, None)],
        [(3, 1)],
        [(255, 1)] * 3 + [(None, None)],
        [(255, 0.01)],
    ]
    assert a["assets"]["image"]["bands"][0]["raster:offset"] == 0
    assert not any("--scale" in note for note in details["notes"])


def test_fractions_of_unknown_unit_are_told(tmp_path: Path, output: Path):
    """Float images that no one has given a scale are indexed, with a note what to do."""
    write(tmp_path / "i/a_20200101.tif", 3, dtype="float32")
    details, _ = index(tmp_path / "i", output)
    assert any(n.startswith("1 files hold fractions") and "--scale" in n for n in details["notes"])


def test_landsat_bands_make_one_item(tmp_path: Path, output: Path):
    """Files of a Level-2 scene are one item; numbers mean other bands for each satellite."""
    for scene in (
        "LC08_L2SP_190030_20200607_20200825_02_T1",
        "LE07_L2SP_190030_20000607_20200825_02_T1",
    ):
        for rest in ("SR_B4", "SR_B5", "QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL"):
            write(tmp_path / f"i/{scene}_{rest}.TIF", nodata=1 if rest == "QA_PIXEL" else 0)
    details, (old, new) = index(tmp_path / "i", output, nodata=9, scale=1)
    assert sorted(new["assets"]) == ["nir08", "qa_pixel", "red"]
    assert sorted(old["assets"]) == ["nir08", "qa_pixel", "swir16"]
    assert (new["id"], new["properties"]["platform"]) == (
        "LC08_L2SP_190030_20200607_20200825_02_T1",
        "landsat-8",
    )
    assert (old["properties"]["platform"], old["properties"]["datetime"][:10]) == (
        "landsat-7",
        "2000-06-07",
    )
    assert new["assets"]["red"]["bands"] == [
        {
            "name": "red", "data_type": "uint16", "eo:common_name": "red", "nodata": 0,
            "raster:scale": 2.75e-5, "raster:offset": -0.2,
        }
    ]  # fmt: skip
    assert new["assets"]["qa_pixel"]["bands"] == [
        {"name": "qa_pixel", "data_type": "uint16", "nodata": 1}
    ]
    assert "4 files passed over: angles, previews and the like" in details["notes"]


def test_hls_bands_make_one_item(tmp_path: Path, output: Path):
    """Fmask and bands of a harmonised scene are one item of the provider's id, dated by its name."""
    for rest in ("B04", "B05", "Fmask", "SZA"):
        write(
            tmp_path / f"i/2020/HLS.L30.T33TWM.2020159T100031.v2.0.{rest}.tif",
            dtype="int16",
            nodata=-9999,
        )
    item = only(tmp_path / "i", output)
    assert item["id"] == "HLS.L30.T33TWM.2020159T100031.v2.0"
    assert sorted(item["assets"]) == ["fmask", "nir08", "red"]
    assert item["properties"]["datetime"] == "2020-06-07T10:00:31Z"
    assert item["assets"]["red"]["bands"][0]["raster:scale"] == 1e-4
    assert "raster:scale" not in item["assets"]["fmask"]["bands"][0]


def test_renderings_of_a_sentinel2_product_are_no_scenes(tmp_path: Path, output: Path):
    """The true-colour picture, water vapour and quality masks of a product never become scenes."""
    stem = "T33TWM_20200607T100031"
    write(tmp_path / f"i/R10m/{stem}_B02_10m.tif")
    write(tmp_path / f"i/R10m/{stem}_TCI_10m.tif", 3)
    write(tmp_path / f"i/R10m/{stem}_WVP_10m.tif")
    write(tmp_path / "i/QI_DATA/MSK_CLDPRB_20m.tif")
    details, (item,) = index(tmp_path / "i", output)
    assert (list(item["assets"]), details["files"]) == (["blue"], 1)


def test_an_envi_image_is_a_scene(tmp_path: Path, output: Path):
    """Raw numbers with a header beside them, with and without a file ending; bands by wavelength."""
    for name in ("a_20200101", "b_20200102.img"):
        path = write(tmp_path / "i" / name, 3, driver="ENVI")
        header = path.with_suffix(".hdr")
        header.write_text(
            header.read_text() + "wavelength units = Micrometers\nwavelength = {0.56, 0.84, 2.2}\n"
        )
        path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)
    (tmp_path / "i/no.hdr").write_text("NROWS 3")
    _, items = index(tmp_path / "i", output)
    assert [band_names(item) for item in items] == [["green", "nir", "swir22"]] * 2
    assert [Path(item["assets"]["image"]["href"]).name for item in items] == [
        "a_20200101",
        "b_20200102.img",
    ]


def test_dates_come_from_the_table_then_metadata_then_name(tmp_path: Path, output: Path):
    """Each image is dated by the best source it has; the table goes before all."""
    for name in ("a_20010101", "b_20010101", "c_20010101"):
        write(tmp_path / f"i/{name}.tif", tags={} if name[0] == "c" else {"TIFFTAG_DATETIME": "2002:02:02 02:02:02"})  # fmt: skip
    (tmp_path / "dates.csv").write_text("path,datetime\na_*,2003-03-03T03:03:03Z\n")
    details, items = index(tmp_path / "i", output, datetimes=tmp_path / "dates.csv")
    assert {item["id"]: item["properties"]["datetime"] for item in items} == {
        "a_20010101": "2003-03-03T03:03:03Z",
        "b_20010101": "2002-02-02T02:02:02Z",
        "c_20010101": "2001-01-01T00:00:00Z",
    }
    assert details["dated_by"] == {"table": 1, "metadata": 1, "name": 1}
    assert details["dates"] == ["2001-01-01", "2002-02-02", "2003-03-03"]


def test_a_date_for_those_that_say_none(tmp_path: Path, output: Path):
    """One date goes to all images without one, and to no other; nonsense is told."""
    write(tmp_path / "i/ortho.tif", 3)
    write(tmp_path / "i/a_20010101.tif", 3)
    details, items = index(tmp_path / "i", output, date="2024-05-17")
    assert [item["properties"]["datetime"][:10] for item in items] == ["2001-01-01", "2024-05-17"]
    assert details["dated_by"] == {"name": 1, "option": 1}
    with pytest.raises(SettingsError, match=r"'17\.5\.2024' is not understood"):
        index(tmp_path / "i", output, date="17.5.2024")


def test_a_scene_dated_by_its_production_is_told(tmp_path: Path, output: Path):
    """Old Sentinel-2 names hold no acquisition date: they are indexed, with a note how to do better."""
    for day in ("20160706", "20160811"):
        sentinel2_folder(tmp_path / "i", f"S2A_OPER_MSI_L1C_TL_EPA__{day}T155721_A000849_T30TXT")
    details, items = index(tmp_path / "i", output)
    assert [item["properties"]["datetime"][:10] for item in items] == ["2016-07-06", "2016-08-11"]
    assert details["dated_by"] == {"production time": 2}
    (note,) = (note for note in details["notes"] if "--datetimes" in note)
    assert note.startswith("2 scenes are dated by the production time in their names (S2A_OPER_MSI")
    (tmp_path / "dates.csv").write_text("path,datetime\n*,2015-08-21\n")
    details, _ = index(tmp_path / "i", output, datetimes=tmp_path / "dates.csv")
    assert not any("production" in note for note in details["notes"])


def test_a_year_is_a_span(tmp_path: Path, output: Path):
    """An image named by its year is found at any time of it."""
    write(tmp_path / "i/1985.tif")
    item = only(tmp_path / "i", output)
    assert item["properties"]["datetime"] is None
    period = Period(date(1985, 6, 1), date(1985, 6, 2))
    details = search(
        catalog=str(output), footprint=shape(item["geometry"]), period=period, region="r",
        output=tmp_path / "items.json", report=lambda _: None,
    )  # fmt: skip
    assert details["scenes"] == 1


def test_bands_of_one_scene_with_different_table_times_are_refused(tmp_path: Path, output: Path):
    """A table that tears a scene apart is an error, not a choice."""
    sentinel2_folder(tmp_path / "i")
    (tmp_path / "dates.csv").write_text(
        "path,datetime\n*_B02.tif,2003-03-03\n*_B03.tif,2003-03-04\n"
    )
    with pytest.raises(RasterError, match="different times"):
        index(tmp_path / "i", output, datetimes=tmp_path / "dates.csv")


def test_the_footprint_is_where_the_pixels_are(tmp_path: Path, output: Path):
    """Zone 33's central meridian is 15 E, so the image starts there; a lon/lat image is itself."""
    write(tmp_path / "i/a_20200101.tif")
    write(tmp_path / "i/b_20200102.tif", crs="EPSG:4326", transform=from_origin(10, 50, 0.01, 0.01))
    _, (utm, degrees) = index(tmp_path / "i", output)
    assert utm["bbox"][0] == pytest.approx(15, abs=1e-9)
    assert utm["bbox"][3] == pytest.approx(45.1535, abs=1e-3)
    assert (
        shape(degrees["geometry"])
        .normalize()
        .equals_exact(box(10, 49.88, 10.12, 50).normalize(), 1e-9)
    )


def test_an_image_over_the_antimeridian_is_found_from_both_sides(tmp_path: Path, output: Path):
    """Its footprint is split, its bbox has west > east, and a search on either side finds it."""
    write(
        tmp_path / "i/20200101.tif",
        crs="EPSG:32660",
        transform=from_origin(750_000, 100_000, 10_000, 10_000),
    )
    item = only(tmp_path / "i", output)
    assert item["geometry"]["type"] == "MultiPolygon"
    assert item["bbox"][0] > 179 > -179 > item["bbox"][2]
    catalog = open_catalog(str(output))
    for place in (box(179.5, 0, 179.9, 0.5), box(-179.9, 0, -179.7, 0.5)):
        assert len(catalog.search(Question(intersects=place))) == 1
    assert catalog.search(Question(intersects=box(0, 0, 1, 1))) == []


def test_hrefs_are_relative_where_both_can_move_together(tmp_path: Path):
    """An index above its images names them relatively; one elsewhere names them fully."""
    path = write(tmp_path / "here/i/a b#20200101.tif")
    for place, expected in (("here", "./i/a b#20200101.tif"), ("away", str(path))):
        output = tmp_path / place / "index.ndjson"
        index(tmp_path / "here/i", output)
        assert json.loads(output.read_text())["assets"]["image"]["href"] == expected
    (tmp_path / "here").rename(tmp_path / "moved")
    (item,) = open_catalog(str(tmp_path / "moved/index.ndjson")).search(Question())
    assert Path(item["assets"]["image"]["href"]).is_file()


def test_equal_names_get_different_ids(tmp_path: Path, output: Path):
    """Files that would share an id, or would have none, still have safe ids of their own."""
    for name in ("a 1_20200101.tif", "a-1_20200101.tif", "a-1_20200101.tiff", "2020-01-01/é.tif"):
        write(tmp_path / "i" / name)
    _, items = index(tmp_path / "i", output)
    ids = {item["id"] for item in items}
    assert len(ids) == 4
    assert all(_slug(name) == name for name in ids)


@given(st.text(min_size=1, max_size=30))
def test_slugs_are_safe_file_names(text: str):
    """Whatever a path holds, its id has only letters, digits, dot, dash and underscore."""
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in _slug(text))
    assert not _slug(text).startswith((".", "-"))


# --- files that cannot be used


def bad_folder(folder: Path) -> Path:
    """A good image beside one without CRS, one cut short, one undated, and a plain picture."""
    write(folder / "good_20200101.tif", 3)
    write(folder / "lost_20200101.tif", 3, crs=None)
    cut = write(folder / "cut_20200101.tif", 3)
    cut.write_bytes(cut.read_bytes()[:-400])
    write(folder / "undated.tif", 3)
    write(folder / "picture.tif", 1, crs=None, transform=Affine.identity())
    return folder


def test_one_bad_file_stops_a_strict_index(tmp_path: Path, output: Path):
    """With strict, the first bad file is named, the others counted, nothing written."""
    with pytest.raises(RasterError, match=r"cut_20200101\.tif .*\(2 more files cannot be used\.\)"):
        index(bad_folder(tmp_path / "i"), output, strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i"]


def test_bad_files_are_set_apart(tmp_path: Path, output: Path):
    """The rest is indexed, every bad file is listed with its reason, and a note says so."""
    details, (item,) = index(bad_folder(tmp_path / "i"), output)
    (note,) = (note for note in details["notes"] if "unusable" in note)
    assert note.startswith(f"3 unusable files, listed in {output.name}.rejected.csv; the first: ")
    assert "cut_20200101.tif" in note
    assert item["id"] == "good_20200101"
    with output.with_name(output.name + ".rejected.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == details["rejected"]
    reasons = {row["path"]: row["reason"] for row in rows}
    assert "cut short" in reasons["cut_20200101.tif"] or "damaged" in reasons["cut_20200101.tif"]
    assert "no coordinate reference system" in reasons["lost_20200101.tif"]
    assert "--datetimes" in reasons["undated.tif"]
    assert details["skipped"] == ["picture.tif"]
    for name in details["rejected"]:
        (tmp_path / "i" / name).unlink()
    index(tmp_path / "i", output)
    assert not output.with_name(output.name + ".rejected.csv").exists()


def test_names_never_reach_the_screen_raw(tmp_path: Path, output: Path):
    """A file name with a terminal's control characters is told escaped, whatever the file is."""
    write(tmp_path / "i/20200101.tif")
    write(tmp_path / "i/a\x1b[31m.tif")
    (tmp_path / "i/b\x1b[31m.vrt").write_text("<VRTDataset/>")
    details, _ = index(tmp_path / "i", output)
    assert len(details["rejected"]) == 2
    assert all(note.isprintable() for note in details["notes"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "holds no georeferenced image"),
        (lambda p: write(p / "a.tif", crs=None, transform=Affine.identity()), "1 pictures"),
        (lambda p: write(p / "a_20200101_B02.tif", crs=None, transform=Affine.identity()), "a_20200101_B02.tif has no coordinate"),
        (lambda p: write(p / "a_20200101_B02.tif", 3), "named as one band"),
        (lambda p: (p / "a.vrt").write_text("<VRTDataset/>"), "a.vrt is a VRT, which can make GDAL open any other file"),
        (lambda p: (p / "a.nc").write_text(""), "a.nc is of a format that is not read; convert it"),
        (lambda p: write(p / "LC08_L1TP_190030_20200607_20200625_02_T1_B10.TIF"), "band of a Landsat scene"),
        (lambda p: write(p / "ortho.tif", 3), r"ortho.tif has no date .*--date.*--datetimes"),
        (lambda p: (p / "a.tif").write_text("not a tiff"), "a.tif cannot be read"),
    ],
)  # fmt: skip
def test_a_folder_without_usable_images_is_refused(
    tmp_path: Path, output: Path, make: Any, words: str
):
    """Nothing usable is an error, and nothing is left behind."""
    (tmp_path / "i").mkdir()
    make(tmp_path / "i")
    with pytest.raises(RasterError, match=words):
        index(tmp_path / "i", output)
    assert not output.exists()


def test_wrong_arguments_are_refused(tmp_path: Path):
    """A missing folder, an unknown format and a wrong count of bands are named."""
    write(tmp_path / "i/20200101.tif", 3)
    with pytest.raises(SettingsError, match="does not exist"):
        index(tmp_path / "absent", tmp_path / "a.parquet")
    with pytest.raises(SettingsError, match=r"must end in \.parquet or \.ndjson"):
        index(tmp_path / "i", tmp_path / "a.json")
    with pytest.raises(RasterError, match="has 3 bands, not the 2 named"):
        index(tmp_path / "i", tmp_path / "a.parquet", bands=("red", "nir"))
    for names in (("red", "red", "nir"), ("red", "B04", "nir"), ("red", "", "nir")):
        with pytest.raises(SettingsError, match="name each band"):
            index(tmp_path / "i", tmp_path / "a.parquet", bands=names)
    with pytest.raises(SettingsError, match="nodata value is nan"):
        index(tmp_path / "i", tmp_path / "a.parquet", nodata=float("nan"))
    with pytest.raises(SettingsError, match="scale is 0"):
        index(tmp_path / "i", tmp_path / "a.parquet", scale=0)


def test_hidden_files_and_odd_things_are_no_images(tmp_path: Path, output: Path):
    """Half-written files, side-cars, a pipe and a folder named like an image are passed by."""
    write(tmp_path / "i/20200101.tif")
    (tmp_path / "i/.partial-1-b.tif").write_bytes(b"half")
    (tmp_path / "i/20200101.tif.ovr").write_bytes(b"x")
    (tmp_path / "i/folder.tif").mkdir()
    os.mkfifo(tmp_path / "i/pipe.tif")
    details, _ = index(tmp_path / "i", output)
    assert details["files"] == 1


def test_what_cannot_be_reached_is_listed(tmp_path: Path, output: Path):
    """A link to nothing and a folder that cannot be read (here its path is too long) are no secrets."""
    folder = tmp_path / "i"
    write(folder / "20200101.tif")
    (folder / "20200102_B02.tif").symlink_to(tmp_path / "gone.tif")
    (folder / "notes.txt").symlink_to(tmp_path / "gone.txt")
    below = os.open(folder, os.O_RDONLY)
    for _ in range(20):  # 20 x 251 characters: a path that no system call takes
        os.mkdir("d" * 250, dir_fd=below)
        above, below = below, os.open("d" * 250, os.O_RDONLY, dir_fd=below)
        os.close(above)
    os.close(below)
    details, items = index(folder, output)
    assert len(items) == 1
    closed, link = sorted(details["rejected"], key=len, reverse=True)
    assert (set(closed), link) == ({"d", "/"}, "20200102_B02.tif")
    listing = output.with_name(output.name + ".rejected.csv").read_text()
    assert "is a folder that cannot be read (File name too long)" in listing
    assert "No such file" in listing


def test_a_rerun_gives_the_same_bytes(tmp_path: Path, output: Path):
    """The index depends on the images alone, not on time or on the order of reading."""
    sentinel2_folder(tmp_path / "i")
    bad_folder(tmp_path / "i/more")
    index(tmp_path / "i", output)
    first = output.read_bytes()
    time.sleep(0.01)
    index(tmp_path / "i", output)
    assert output.read_bytes() == first


def test_items_are_valid_stac_and_can_be_read(tmp_path: Path, output: Path):
    """Items pass the STAC 1.1 schema, and odc-stac loads their pixels at the right place."""
    sentinel2_folder(tmp_path / "i")
    write(tmp_path / "i/ortho_20200608.tif", 4, value=9)
    _, items = index(tmp_path / "i", output)
    for item in items:  # the schema asks for a link where there is a collection
        link = {"rel": "collection", "href": "./collection.json"}
        validate_dict(item | {"links": [link]}, extensions=[])
    scene, ortho = map(pystac.Item.from_dict, items)
    bands = odc.stac.load([scene], bands=["blue", "swir16"], crs="EPSG:32633", resolution=10)
    assert bands.blue.shape == (1, 12, 12)
    assert (bands.blue.values == 7).all()
    assert (bands.swir16.values == 7).all()
    assert (odc.stac.load([ortho], bands=["image.4"])["image.4"].values == 9).all()


def test_items_tell_readers_what_their_numbers_mean(tmp_path: Path, output: Path):
    """Product, mask and the way to reflectance x 10000 are made out from the index alone."""
    for rest in ("SR_B4", "SR_B5", "QA_PIXEL"):
        write(tmp_path / f"i/a/LC08_L2SP_190030_20200101_20200825_02_T1_{rest}.TIF", nodata=0)
    for kind, nir in (("L30", "B05"), ("S30", "B08")):
        for rest in ("B04", nir, "Fmask"):
            write(tmp_path / f"i/b/HLS.{kind}.T33TWM.2020002T100031.v2.0.{rest}.tif", dtype="int16")
    write(tmp_path / "i/fraction_20200103.tif", 2, dtype="float32", descriptions=("red", "nir"))
    names = ("red", "nir", "fmask")
    write(tmp_path / "i/stack_20200104.tif", 3, dtype="int16", descriptions=names)
    sentinel2_folder(tmp_path / "i/c", "T33TWM_20200105T100031")
    _, items = index(tmp_path / "i", output, scale=1)
    scenes = [read_scene(item, ("red", "nir")) for item in items]
    found = [(s.product.name, s.mask is not None, s.bands["nir"].factor) for s in scenes]
    assert found == [
        ("landsat-c2-l2", True, pytest.approx(0.275)),
        ("hls-l30", True, pytest.approx(1)),
        ("hls-s30", True, pytest.approx(1)),
        ("plain", False, pytest.approx(10_000)),
        ("landsat-fmask-stack", True, 1),  # a scale of 1 says nothing of whole numbers
        ("sentinel-2-l2a", True, 1),
    ]
    assert scenes[0].bands["red"].summand == pytest.approx(-2000)
    assert scenes[4].mask is not None
    assert scenes[4].mask.band == 3


# --- real images


def test_the_real_sentinel2_pairs_are_fourteen_scenes(
    shared_data: Path, tmp_path: Path, output: Path
):
    """Seven cities at two dates, dated by the table made from their dates.txt files."""
    folder = shared_data / "sentinel2_pairs_oscd"
    rows, expected = ["path,datetime"], {}
    for file in sorted(folder.glob("images/*/dates.txt")):
        for number, line in enumerate(file.read_text().split("\n")[:2], start=1):
            day = date.fromisoformat(line.split(": ")[1]).isoformat()
            rows.append(f"images/{file.parent.name}/imgs_{number}/*,{day}")
            expected[f"{file.parent.name}-imgs_{number}"] = day
    (tmp_path / "dates.csv").write_text("\n".join(rows) + "\n")
    details, items = index(folder, output, datetimes=tmp_path / "dates.csv")
    found = {"-".join(i["id"].split("-")[1:3]): i["properties"]["datetime"][:10] for i in items}
    assert details["items"] == len(items) == 14
    assert found == expected
    assert len(details["skipped"]) == 6
    assert all(set(i["assets"]) == set(SENTINEL2.values()) - {"scl"} for i in items)
    area = shape(
        json.loads((folder / "images/nantes/nantes.geojson").read_text())["features"][0]["geometry"]
    )
    near = open_catalog(str(output)).search(Question(intersects=area))
    assert ["nantes" in item["id"] for item in near] == [True, True]


@pytest.mark.parametrize(
    ("folder", "dates", "bands"),
    [
        ("naip_series_north_dakota", ["2009-08-18", "2014-07-20", "2019-09-04", "2020-08-31"], ["red", "green", "blue", "nir"]),
        ("landsat_series_peru", [f"{year}-01-01" for year in range(1985, 2021, 5)], ["swir16", "nir", "red", "green"]),
        ("drone_orthos", ["2014-04-01"], ["red", "green", "blue"]),
    ],
)  # fmt: skip
def test_real_multiband_images_are_scenes(
    shared_data: Path, tmp_path: Path, output: Path, folder: str, dates: list[str], bands: list[str]
):
    """Aerial, satellite and drone images get their dates and bands, by the table where they must."""
    settings: dict[str, Any] = {}
    if folder == "landsat_series_peru":
        settings["bands"] = bands
    if folder == "drone_orthos":
        (tmp_path / "dates.csv").write_text("path,datetime\n*,2014-04-01\n")
        settings["datetimes"] = tmp_path / "dates.csv"
    details, items = index(shared_data / folder, output, **settings)
    assert details["dates"] == dates
    assert {tuple(band_names(item)) for item in items} - {(*bands, "alpha")} == {tuple(bands)}


def test_tricky_real_files_are_listed_and_the_rest_indexed(
    shared_data: Path, tmp_path: Path, output: Path
):
    """Of 58 awkward files the usable are scenes and each other one is listed or passed over."""
    (tmp_path / "dates.csv").write_text("path,datetime\n*,2020-01-01\n")
    details, items = index(shared_data / "tricky_files", output, datetimes=tmp_path / "dates.csv")
    assert (len(items), len(details["skipped"])) == (23, 7)
    unread = [name for name in details["rejected"] if Path(name).suffix in {".vrt", ".nc", ".h5"}]
    assert (len(unread), len(details["rejected"]) - len(unread)) == (4, 28)
    assert details["files"] == 58
