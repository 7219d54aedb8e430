"""From one legend to another: every hectare is accounted for, and what is lost is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.crosswalk import NO_COUNTERPART, Crosswalk, CrosswalkRow
from landcover.errors import LegendError
from landcover.legend import LandClass, Legend

LEGEND = Legend(
    (
        LandClass(1, "Water", "#0000ff"),
        LandClass(2, "Trees", "#00ff00"),
        LandClass(3, "Moss", "#aaaa00"),
        LandClass(4, "Pond", "#00aaff"),
    )
)
ROWS = (
    CrosswalkRow(1, "Water", "10", "Wet", lossy=False),
    CrosswalkRow(2, "Trees", "9", "Forest", lossy=True, note="orchards too"),
    CrosswalkRow(3, "Moss", "", "", lossy=True),
    CrosswalkRow(4, "Pond", "10", "Wet", lossy=True),
    CrosswalkRow(5, "Ice", "x", "Snow", lossy=False),
)


def test_areas_by_hand() -> None:
    """Classes are summed by target, in the order of its codes; what is inexact and what is left is said."""
    lines = Crosswalk(ROWS).areas({1: 6.0, 2: 3.0, 3: 1.0, 4: 2.0}, LEGEND)
    got = [(x.class_code, x.class_name, x.area_ha, x.lossy_ha, x.from_classes) for x in lines]
    assert got == [
        ("9", "Forest", 3.0, 3.0, "Trees"),
        ("10", "Wet", 8.0, 2.0, "Water; Pond"),
        ("x", "Snow", 0.0, 0.0, ""),
        ("", NO_COUNTERPART, 1.0, 1.0, "Moss"),
    ]
    assert [line.share_percent for line in lines] == pytest.approx([25, 200 / 3, 0, 25 / 3])


@given(areas=st.lists(st.floats(0, 1e9), min_size=4, max_size=4))
def test_totals_close(areas: list[float]) -> None:
    """Whatever the areas, the lines add up to all of them."""
    lines = Crosswalk(ROWS).areas(dict(zip((1, 2, 3, 4), areas, strict=True)), LEGEND)
    assert sum(line.area_ha for line in lines) == pytest.approx(sum(areas), rel=1e-12)


def test_an_empty_map_has_no_shares() -> None:
    """Without any classified area, shares are 0."""
    lines = Crosswalk(ROWS).areas(dict.fromkeys((1, 2, 3, 4), 0.0), LEGEND)
    assert {line.share_percent for line in lines} == {0.0}


def test_another_legend_is_refused() -> None:
    """A class that the table lacks, or knows by another name, is never matched by its code alone."""
    other = Legend((LandClass(1, "Urban", "#ff0000"), LandClass(77, "Water", "#0000ff")))
    assert Crosswalk(ROWS).missing(other) == ["1 Urban", "77 Water"]
    assert not Crosswalk(ROWS).starts_from(other)
    with pytest.raises(LegendError, match="1 Urban, 77 Water; it starts from another legend"):
        Crosswalk(ROWS).areas({1: 1.0, 77: 1.0}, other)


@pytest.mark.parametrize(
    ("row", "part"),
    [
        (CrosswalkRow(1, "Water", "9", "Forest", lossy=True), "names the class 1 twice"),
        (CrosswalkRow(8, "Ice", "9", "Wood", lossy=True), "both 'Forest' and 'Wood'"),
        (CrosswalkRow(8, "Ice", "11", "", lossy=True), "a code or a name only"),
        (CrosswalkRow(8, "Ice", "", "Snow", lossy=True), "a code or a name only"),
    ],
)
def test_tables_that_contradict_themselves(row: CrosswalkRow, part: str) -> None:
    """A class with two targets, a target with two names, half a target: refused."""
    with pytest.raises(LegendError, match=part):
        Crosswalk((*ROWS, row))
