"""Which changes of class have another explanation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landcover.change_guards import (
    COUNTED,
    GUARDS,
    Guards,
    Maps,
    check_guards,
    explained_by_shift,
    surface_changes,
)
from landcover.errors import SettingsError
from landcover.transitions import PAIRS

OPEN = Guards(None, None, 0, 0.0, spectral=False)
MAPS = arrays(np.uint8, (7, 9), elements=st.integers(0, 3))


def parse(drawing: str) -> np.ndarray:
    """Class raster from lines of digits."""
    return np.array([[int(code) for code in line] for line in drawing.split()], np.uint8)


def drawn(mask: np.ndarray) -> str:
    """Lines of # and ."""
    return " ".join("".join("#" if value else "." for value in line) for line in mask)


def test_a_border_that_moved_by_a_pixel_is_no_change():
    """The whole seam is what a shift would make; nothing is left."""
    before, after = parse("11222 11222 11222"), parse("11122 11122 11122")
    assert drawn(explained_by_shift(before, after, 1)) == "..#.. ..#.. ..#.."


def test_a_new_patch_stays_even_at_its_rim():
    """Before there was none of its class around, so no shift brought it."""
    before, after = parse("11111 11111 11111"), parse("11111 12221 11111")
    assert not explained_by_shift(before, after, 1).any()


def test_growth_of_a_patch_beyond_the_reach_stays():
    """Of three new columns the one beside the old patch may be shift, the others are not."""
    before, after = parse("2111111 2111111 2111111"), parse("2222111 2222111 2222111")
    assert drawn(explained_by_shift(before, after, 1)) == "....... ....... ......."
    before, after = parse("2211111 2211111"), parse("2221111 2221111")
    assert drawn(explained_by_shift(before, after, 1)) == "..#.... ..#...."


@given(before=MAPS, after=MAPS, reach=st.integers(1, 3))
def test_the_border_guard_by_its_definition(before: np.ndarray, after: np.ndarray, reach: int):
    """The new class was near before and the old one is near after; the same for swapped maps."""
    found = explained_by_shift(before, after, reach)
    for r, c in np.ndindex(before.shape):
        near = slice(max(0, r - reach), r + reach + 1), slice(max(0, c - reach), c + reach + 1)
        old, new = before[r, c], after[r, c]
        differs = old != new and old > 0 and new > 0
        assert found[r, c] == (differs and new in before[near] and old in after[near])
    assert np.array_equal(found, explained_by_shift(after, before, reach))


def test_a_change_is_put_down_to_the_first_guard_that_takes_it():
    """Six pixels from 1 to 2, each with one explanation more to go by."""
    before, after = np.full((1, 6), 1, np.uint8), np.full((1, 6), 2, np.uint8)
    after[0, 0], after[0, 1] = 3, 1
    sure = np.full((1, 6), 90, np.uint8)
    low, seen = sure.copy(), np.full((1, 6), 80, np.uint8)
    low[0, 3], seen[0, 4], seen[0, 5] = 20, 10, 0
    seasonal, impossible = np.zeros(PAIRS, np.bool_), np.zeros(PAIRS, np.bool_)
    seasonal[256 + 3] = impossible[256 + 3] = True
    guards = Guards(seasonal, impossible, 0, 25.0, spectral=True)
    verdict = guards.verdicts(Maps(before, after, (sure, low), seen))
    names = [("", *GUARDS, "counted")[v] for v in verdict[0]]
    assert names == ["season", "", "counted", "confidence", "spectral", "counted"]


def test_without_guards_all_that_differs_counts_and_nodata_never_does():
    """0 in either map is no change."""
    before, after = parse("0112"), parse("1012")
    assert OPEN.verdicts(Maps(before, after, None, None)).tolist() == [[0, 0, 0, 0]]
    after = parse("1022")
    assert OPEN.verdicts(Maps(before, after, None, None)).tolist() == [[0, 0, COUNTED, 0]]


@given(before=MAPS, after=MAPS, one=MAPS, other=MAPS, seen=MAPS)
def test_no_guard_ever_adds_a_change(
    before: np.ndarray, after: np.ndarray, one: np.ndarray, other: np.ndarray, seen: np.ndarray
):
    """Verdicts are 0 exactly where the classes do not differ; swapped maps get the same ones."""
    maps = Maps(before, after, (one * 30, other * 30), seen * 30)
    guards = Guards(None, None, 1, 40.0, spectral=True)
    verdict = guards.verdicts(maps)
    assert np.array_equal(verdict > 0, (before != after) & (before > 0) & (after > 0))
    swapped = Maps(after, before, (other * 30, one * 30), seen * 30)
    assert np.array_equal(verdict, guards.verdicts(swapped))


def test_joint_confidence_is_the_product():
    """80 % of 50 % is 40 %; unknown confidence says nothing; evidence weighs it down further."""
    one, other = np.array([[80, 0, 80]], np.uint8), np.array([[50, 60, 0]], np.uint8)
    maps = Maps(one, one, (one, other), np.array([[50, 100, 0]], np.uint8))
    assert maps.joint.tolist() == [[40, 60, 80]]
    assert maps.sureness.tolist() == [[20, 60, 80]]
    assert Maps(one, one, None, None).joint.tolist() == [[100, 100, 100]]


def test_a_surface_changes_where_no_change_of_class_is_believed():
    """Built-up land that looks new, and a flip that is not sure; not a counted one, nor what a shift explains."""
    surfaces = np.zeros(256, np.uint8)
    surfaces[3] = 3
    before, after = parse("333312"), parse("331212")
    verdict = np.array([[0, 0, COUNTED, GUARDS.index("confidence") + 1, 0, 0]], np.uint8)
    seen = np.array([[90, 20, 90, 90, 90, 0]], np.uint8)
    found = surface_changes(Maps(before, after, None, seen), verdict, surfaces)
    assert found.tolist() == [[3, 0, 0, 3, 0, 0]]
    verdict[0, 3] = GUARDS.index("border") + 1
    assert surface_changes(Maps(before, after, None, seen), verdict, surfaces)[0, 3] == 0
    assert not surface_changes(Maps(before, after, None, None), verdict, surfaces).any()


def test_an_unknown_guard_is_refused():
    """The message lists those that there are."""
    with pytest.raises(SettingsError, match=r"no guard 'clouds'; the guards are season, "):
        check_guards(["border", "clouds"])
