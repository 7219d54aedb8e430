"""Names of band files: which band of which scene, for each product and satellite."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.bands import SENTINEL2
from pipeline.band_file import SIDE, band_file

LC08 = "LC08_L2SP_190030_20200607_20200825_02_T1"
LE07 = "LE07_L2SP_022049_19991118_20200918_02_T1"
L30, S30 = (f"HLS.{kind}.T33TWM.2020159T100031.v2.0" for kind in ("L30", "S30"))


@pytest.mark.parametrize(
    ("name", "scene", "band"),
    [
        ("x/T30TXT_20171014T110959_B8A.tif", "x/T30TXT_20171014T110959", "nir08"),
        ("2018-10-13, Sentinel-2B L1C, B01.tiff", "2018-10-13, Sentinel-2B L1C", "coastal"),
        ("x/b02.tif", "x", "blue"),
        ("x/SCL_20m.jp2", "x", "scl"),
        ("P/R20m/T33TWM_20200607T100031_B11_20m.jp2", "P/T33TWM_20200607T100031", "swir16"),
        (f"{S30}.B11.tif", S30, "swir16"),
        (f"{S30}.B06.tif", S30, "rededge075"),
        (f"{S30}.B8A.tif", S30, "nir08"),
        (f"{L30}.B06.tif", L30, "swir16"),
        (f"{L30}.B11.tif", L30, "lwir12"),
        (f"x/{L30}.Fmask.tif", f"x/{L30}", "fmask"),
        (f"{L30}.VZA.tif", L30, SIDE),
        (f"{LC08}_SR_B5.TIF", LC08, "nir08"),
        (f"{LC08}_SR_B1.TIF", LC08, "coastal"),
        (f"{LC08}_ST_B10.TIF", LC08, "lwir11"),
        (f"{LE07}_SR_B5.TIF", LE07, "swir16"),
        (f"{LE07}_SR_B1.tif", LE07, "blue"),
        (f"{LE07}_ST_B6.TIF", LE07, "lwir"),
        (f"x/{LE07}_QA_PIXEL.TIF", f"x/{LE07}", "qa_pixel"),
        (f"{LE07}_SR_CLOUD_QA.TIF", LE07, SIDE),
        ("x/T33TWM_20200607T100031_TCI_10m.jp2", "x", SIDE),
    ],
)
def test_band_files_are_known_by_name(name: str, scene: str, band: str):
    """Band and scene come from the file's name, in any case; each satellite numbers its own way."""
    found = band_file(PurePosixPath(name))
    assert found is not None
    assert (found.scene, found.band) == (scene, band)


@pytest.mark.parametrize(
    "name",
    ["x/ABCB02.tif", "x/a_B13.tif", "LE70220491999322EDC01_stack.gtif", "ortho.tif", "B2.tif"],
)
def test_other_images_are_their_own(name: str):
    """A name without a band of a known product is an image of its own."""
    assert band_file(PurePosixPath(name)) is None


@pytest.mark.parametrize(
    "name",
    [
        "LC08_L1TP_190030_20200607_20200825_02_T1_B10.TIF",
        "LE07_L1TP_022049_19991118_20161002_01_T1_sr_band4.tif",
        "x/LE70220491999322EDC01_B4.TIF",
        "LE07_L1TP_022049_19991118_20200918_02_T1_B6_VCID_1.TIF",
    ],
)
def test_landsat_numbers_that_are_no_reflectance_are_refused(name: str):
    """Level-1 and older collections hold digital numbers: never taken for reflectance."""
    with pytest.raises(ValueError, match="Collection 2 Level-2"):
        band_file(PurePosixPath(name))


def test_satellites_and_scales_come_from_the_name():
    """A Landsat file tells its satellite and the scale of its product; masks have none."""
    red, mask, warm = (
        band_file(PurePosixPath(f"{LC08}_{rest}.TIF")) for rest in ("SR_B4", "QA_PIXEL", "ST_B10")
    )
    assert red is not None
    assert mask is not None
    assert warm is not None
    assert red.properties["platform"] == "landsat-8"
    assert (red.scaling, mask.scaling, warm.scaling) == (
        (2.75e-5, -0.2),
        None,
        (0.00341802, 149.0),
    )


@given(
    st.sampled_from(sorted(SENTINEL2)),
    st.text(st.characters(exclude_characters="/\x00\n"), max_size=20),
)
def test_a_sentinel2_ending_decides_whatever_stands_before_it(band: str, prefix: str):
    """Any prefix that names no other product gives the band of its ending."""
    found = band_file(PurePosixPath(f"{prefix}_{band}.tif"))
    assert found is not None
    assert found.band == SENTINEL2[band]
