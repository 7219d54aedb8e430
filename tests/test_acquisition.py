"""When an image was taken: the table, the metadata, the name."""

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.errors import SettingsError
from pipeline.acquisition import (
    Acquisition,
    DatetimeTable,
    from_descriptions,
    from_name,
    from_production,
    from_tags,
    parse,
)  # fmt: skip


def at(*parts: int) -> Acquisition:
    """An instant."""
    moment = datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]
    return Acquisition(moment, moment)


def year(number: int) -> Acquisition:
    """All of a year."""
    return Acquisition(
        datetime(number, 1, 1, tzinfo=UTC), datetime(number, 12, 31, 23, 59, 59, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017-10-14", at(2017, 10, 14)),
        ("20171014", at(2017, 10, 14)),
        (" 2017-10-14T11:09:59Z ", at(2017, 10, 14, 11, 9, 59)),
        ("2017-10-14T11:09:59+02:00", at(2017, 10, 14, 9, 9, 59)),
        ("2017-10-14 11:09", at(2017, 10, 14, 11, 9)),
        ("2022:01:17 10:43:43", at(2022, 1, 17, 10, 43, 43)),
        ("1985", year(1985)),
    ],
)
def test_times_are_read_as_written(text: str, expected: Acquisition):
    """ISO 8601, EXIF and bare years are understood; a time without zone is UTC."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2017-13-01", "0000:00:00 00:00:00", "1", "0001-01-01", "14.10.2017"]
)
def test_what_is_no_time_is_refused(text: str):
    """Empty, impossible, ancient and ambiguous dates are refused."""
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S2A_OPER_MSI_L1C_TL_EPA__20160706T155721_A000849_T30TXT_B02.tif", None),
        ("2015-08-21/S2A_OPER_MSI_L1C_TL_EPA__20160706T155721_A000849_T30TXT_B02.tif", at(2015, 8, 21)),
        ("S2A_OPER_PRD_MSIL1C_PDMC_20160706T155721_R094_V20150821T110732_20150821T110732/B02.jp2", at(2015, 8, 21, 11, 7, 32)),
        ("T30TXT_20171014T110959_B8A.tif", at(2017, 10, 14, 11, 9, 59)),
        ("S2A_MSIL1C_20170105T013442_N0204_R031_T53NMJ_20170106T013443.jp2", at(2017, 1, 5, 1, 34, 42)),
        ("2018-10-13, Sentinel-2B L1C, B01.tiff", at(2018, 10, 13)),
        ("m_4709963_se_14_1_20090818.tif", at(2009, 8, 18)),
        ("LE70220491999322EDC01_stack.gtif", at(1999, 11, 18)),
        ("HLS.S30.T33TWM.2020159T100031.v2.0.B04.tif", at(2020, 6, 7, 10, 0, 31)),
        ("LC08_L2SP_190030_20200607_20200825_02_T1_SR_B4.TIF", at(2020, 6, 7)),
        ("1985.tif", year(1985)),
        ("flights/2019-07-01/field/ortho.tif", at(2019, 7, 1)),
        ("2001-01-01/ortho_20190701.tif", at(2019, 7, 1)),
        ("19999999_20200101.tif", at(2020, 1, 1)),
        ("201404_13SED190110_201404_0x1500m_CL_1.tif", None),
        ("tile_2048.tif", None),
        ("ortho.tif", None),
    ],
)  # fmt: skip
def test_names_give_their_dates(name: str, expected: Acquisition | None):
    """The file's name goes before its folders'; digits that are no date are passed over."""
    assert from_name(PurePosixPath(name)) == expected


def test_old_sentinel2_names_give_the_time_of_production():
    """It is told apart from the date of an image, and found nowhere else."""
    name = "S2A_OPER_MSI_L1C_TL_EPA__20160706T155721_A000849_T30TXT_B02"
    assert from_production(PurePosixPath(f"{name}.tif")) == at(2016, 7, 6, 15, 57, 21)
    assert from_production(PurePosixPath(f"{name}/B02.tif")) == at(2016, 7, 6, 15, 57, 21)
    assert from_production(PurePosixPath("T30TXT_20171014T110959_B8A.tif")) is None


def test_metadata_prefers_the_acquisition_to_the_file_date():
    """TIFFTAG_DATETIME is used only where nothing better is said, in whatever case."""
    tags = {"TIFFTAG_DATETIME": "2022:01:17 10:43:43"}
    assert from_tags(tags) == at(2022, 1, 17, 10, 43, 43)
    assert from_tags(tags | {"AcquisitionDateTime": "2021-06-01T10:00:00Z"}) == at(2021, 6, 1, 10)
    assert from_tags(tags | {"DATE_ACQUIRED": "unknown"}) == at(2022, 1, 17, 10, 43, 43)
    assert from_tags({"AREA_OR_POINT": "Area"}) is None


def test_band_descriptions_may_name_a_landsat_scene():
    """ENVI copies the name of Landsat's metadata file, which holds the date, into its band names."""
    text = "Resize (ETM+ Meta (Band 1):L71119038_03820000317_MTL.txt) (0.482500 Micrometers)"
    assert from_descriptions([None, "blue", text]) == at(2000, 3, 17)
    assert from_descriptions(["L5119038_03819850230_MTL.txt"]) is None  # no 30th of February
    assert from_descriptions(["Resize (Band 1: 20000317)", None]) is None


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 12, 31)))  # noqa: DTZ001 - made UTC below
def test_stamps_are_read_back(moment: datetime):
    """An instant written as STAC text is the same instant again."""
    when = Acquisition(moment.replace(tzinfo=UTC), moment.replace(tzinfo=UTC))
    assert parse(str(when.properties()["datetime"])) == when


def test_a_span_has_no_datetime():
    """A year is given by its ends, the datetime is null as STAC asks."""
    assert year(1985).properties() == {
        "datetime": None,
        "start_datetime": "1985-01-01T00:00:00Z",
        "end_datetime": "1985-12-31T23:59:59Z",
    }


def table(tmp_path: Path, text: str) -> DatetimeTable:
    """A table with this text."""
    path = tmp_path / "dates.csv"
    path.write_text(text, encoding="utf-8")
    return DatetimeTable.read(path)


def test_the_first_pattern_that_fits_counts(tmp_path: Path):
    """Patterns are relative paths, with wildcards or naming a folder; the first row wins."""
    dates = table(
        tmp_path,
        "\ufeffpath,note,datetime\n"
        "nantes/imgs_1/*,a,2015-08-21\n"
        "nantes,b,2017-10-14\n"
        "*_B0?.tif,c,2020\n",
    )
    assert dates.find(PurePosixPath("nantes/imgs_1/x_B02.tif")) == at(2015, 8, 21)
    assert dates.find(PurePosixPath("nantes/imgs_2/x_B02.tif")) == at(2017, 10, 14)
    assert dates.find(PurePosixPath("pisa/x_B02.tif")) == year(2020)
    assert dates.find(PurePosixPath("pisa/x.tif")) is None


def test_a_row_that_fits_nothing_is_an_error(tmp_path: Path):
    """A pattern without a file names its line; one overruled by an earlier row is in use."""
    dates = table(tmp_path, "path,datetime\na/*,2020-01-01\na/b*,2020-01-02\nc/*,2020-01-03\n")
    dates.check_used([PurePosixPath("a/b.tif"), PurePosixPath("c/d.tif")])
    with pytest.raises(
        SettingsError, match=r"dates\.csv, line 4: the pattern 'c/\*' fits no image"
    ):
        dates.check_used([PurePosixPath("a/b.tif")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,datetime\na.tif,14.10.2017\n", "line 2: '14.10.2017' is no date"),
        ("path,datetime\na.tif,2017-01-01\nb.tif\n", "line 3: '' is no date"),
        ("path,datetime\n,2017-01-01\n", "line 2: the path is empty"),
        ("file;date\na.tif;2017-01-01\n", "needs the columns path,datetime"),
        ("", "needs the columns path,datetime"),
    ],
)
def test_a_table_that_cannot_be_read_names_the_line(tmp_path: Path, text: str, words: str):
    """Dates in another style, missing cells and missing columns are one clear sentence."""
    with pytest.raises(SettingsError) as caught:
        table(tmp_path, text)
    assert words in str(caught.value)


def test_a_missing_table_is_an_error(tmp_path: Path):
    """A table that does not exist is named."""
    with pytest.raises(SettingsError, match="cannot be read"):
        DatetimeTable.read(tmp_path / "absent.csv")
