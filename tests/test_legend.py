"""The legend: codes, names and colours that cannot contradict each other."""

import numpy as np
import pytest

from landcover.errors import LegendError
from landcover.legend import LandClass, Legend

WATER = {"code": 1, "name": "Water", "color": "#0000ff"}
FOREST = {"code": 7, "name": "Forest", "color": "#00ff00"}


def test_records_round_trip() -> None:
    """A legend read from records writes the same records."""
    assert Legend.from_records([WATER, FOREST]).to_records() == [WATER, FOREST]


def test_lookup_by_code() -> None:
    """A class is found by its code, not by its place."""
    legend = Legend.from_records([WATER, FOREST])
    assert legend[7].name == "Forest"
    assert 7 in legend
    assert 2 not in legend
    with pytest.raises(LegendError, match="Class code 2 is not in the legend"):
        legend[2]


def test_colors() -> None:
    """Nodata is transparent, classes are opaque in their own colour."""
    legend = Legend.from_records([WATER, FOREST])
    assert legend.colormap() == {0: (0, 0, 0, 0), 1: (0, 0, 255, 255), 7: (0, 255, 0, 255)}
    assert legend.rgb_table()[[0, 1, 7]].tolist() == [[0, 0, 0], [0, 0, 255], [0, 255, 0]]
    assert legend.rgb_table().dtype == np.uint8
    assert legend.rgb_table().shape == (256, 3)


def test_colors_of_codes_beyond_a_byte() -> None:
    """CORINE's go up to 523: the table holds the largest."""
    table = Legend.from_records([WATER, FOREST | {"code": 311}]).rgb_table()
    assert table[[0, 1, 311]].tolist() == [[0, 0, 0], [0, 0, 255], [0, 255, 0]]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no class"),
        ([WATER, WATER | {"name": "Sea"}], "gives the code 1 to more than one"),
        ([WATER, WATER | {"code": 2}], "gives the name Water to more than one"),
        ([WATER | {"code": 0}], "codes run from 1 to 65535"),
        ([WATER | {"code": 65536}], "codes run from 1 to 65535"),
        ([WATER | {"code": "one"}], "not a whole number"),
        ([WATER | {"color": "blue"}], "write it as #rrggbb"),
        ([WATER | {"name": " "}], "empty name"),
        ([{"code": 1, "name": "Water"}], "needs code, name and color"),
        ([WATER | {"note": ""}], "needs code, name and color"),
    ],
)
def test_contradictions_are_refused(records: list[dict[str, object]], message: str) -> None:
    """Every way to write a legend wrong has its own sentence."""
    with pytest.raises(LegendError, match=message):
        Legend.from_records(records)


def test_rgb() -> None:
    """A colour is read as red, green, blue."""
    assert LandClass(3, "x", "#0a141e").rgb == (10, 20, 30)


def test_a_class_is_found_by_code_or_name() -> None:
    """Codes go before names, also for a class that is called by another's code; the case of names is free."""
    legend = Legend((LandClass(1, "2", "#000000"), LandClass(2, "Trees", "#ffffff")))
    for text, code in {"2": 2, " 1.0 ": 1, "TREES": 2, "1.5": None, "": None, "nan": None, "inf": None}.items():  # fmt: skip
        assert legend.code_of(text) == code
