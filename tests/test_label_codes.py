"""Label values and colours become class codes, and what is unknown is told."""

import numpy as np
import pytest

from landcover.errors import DatasetError
from landcover.label_codes import LabelCodes, class_code, packed
from landcover.legend import Legend
from tests.made_datasets import LEGEND as RECORDS

LEGEND = Legend.from_records(RECORDS)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "int64"])
def test_codes_stay_without_a_mapping(dtype: str) -> None:
    """Codes of the legend are themselves, 0 is not labelled, all else unknown."""
    codes, unknown = LabelCodes.of({}, LEGEND).apply(np.array([[0, 1, 2], [3, 5, 100]], dtype))
    assert codes.tolist() == [[0, 1, 2], [0, 5, 0]]
    assert unknown.tolist() == [[False, False, False], [True, False, True]]


def test_values_are_mapped_by_code_and_name() -> None:
    """Several values may mean one class; ignore and nodata mean not labelled, 0 may be a class."""
    walk = LabelCodes.of({0: "Water", 10: 2, 11: "Wood", 99: "ignore"}, LEGEND)
    codes, unknown = walk.apply(np.array([0, 10, 11, 99, 255, 7], np.uint8), nodata=255)
    assert codes.tolist() == [1, 2, 2, 0, 0, 0]
    assert unknown.tolist() == [False, False, False, False, False, True]


def test_colors() -> None:
    """Black is a colour like others: unknown unless it is mapped."""
    rgb = np.array([[[0x3C, 0, 255]], [[0x10, 0, 255]], [[0x98, 0, 255]]], np.uint8)
    codes, unknown = LabelCodes.of({"#3C1098": "Town", "#ffffff": "ignore"}, LEGEND).apply(
        packed(rgb)
    )
    assert codes.tolist() == [[5, 0, 0]]
    assert unknown.tolist() == [[False, True, False]]


def test_many_values() -> None:
    """A long mapping of large values gives the same as a short one."""
    mapping = {value * 1000: 1 + value % 2 for value in range(100)}
    codes, unknown = LabelCodes.of(mapping, LEGEND).apply(
        np.array([3000, 4000, 4001, 99_000, 10**6])
    )
    assert codes.tolist() == [2, 1, 0, 2, 0]
    assert unknown.tolist() == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({1: 3}, "names the class 3, which the legend lacks"),
        ({1: "Sea"}, "names the class 'Sea'"),
        ({1: 1, "#ffffff": 2}, "mixes values and colours"),
        ({"#fffff": 1}, "not of the form #rrggbb"),
        ({"#gggggg": 1}, "not of the form #rrggbb"),
    ],
)
def test_bad_mappings(mapping: dict[int | str, int | str], message: str) -> None:
    """One sentence says what is wrong."""
    with pytest.raises(DatasetError, match=message):
        LabelCodes.of(mapping, LEGEND)


def test_class_code() -> None:
    """A class by code or name; ignore is 0."""
    assert [class_code(what, LEGEND) for what in (5, "Town", "ignore", 0)] == [5, 5, 0, 0]
