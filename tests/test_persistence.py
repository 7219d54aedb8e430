"""A change is believed when it is seen again, and rejected when it reverts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.errors import SettingsError
from landcover.persistence import CANDIDATE, CONFIRMED, REJECTED, UNCHANGED, Persistence, Rule


def story(classes: list[int], rule: Rule = Rule(2, 3)) -> list[tuple[int, int, int, int]]:  # noqa: B008 - frozen
    """(reference, candidate, first, status) of one pixel after each map."""
    state, found = Persistence.empty((1, 1)), []
    for number, code in enumerate(classes, start=1):
        state = state.seen(np.array([[code]], np.uint8), number, rule)
        parts = (state.reference, state.candidate, state.first, state.status)
        found.append(tuple(int(part[0, 0]) for part in parts))
    return found


def test_what_is_seen_twice_is_confirmed():
    """Forest, forest, built, built: candidate on the third date, confirmed on the fourth."""
    assert story([2, 2, 8, 8]) == [
        (2, 0, 0, UNCHANGED), (2, 0, 0, UNCHANGED), (2, 8, 3, CANDIDATE), (2, 8, 3, CONFIRMED),
    ]  # fmt: skip


def test_after_its_confirmation_the_new_class_is_the_reference():
    """The next map that agrees with it says unchanged, and one that shows the old class is a new candidate."""
    assert story([2, 8, 8, 8, 2])[3:] == [(8, 0, 0, UNCHANGED), (8, 2, 5, CANDIDATE)]


def test_one_gap_is_forgiven_two_are_not():
    """Of three observations two must show it: 1 0 1 is confirmed, 1 0 0 is rejected, then forgotten."""
    assert story([2, 8, 2, 8])[3] == (2, 8, 2, CONFIRMED)
    assert story([2, 8, 2, 2, 2])[2:] == [
        (2, 8, 2, CANDIDATE), (2, 8, 2, REJECTED), (2, 0, 0, UNCHANGED),
    ]  # fmt: skip


def test_with_two_of_two_one_return_is_flicker():
    """The strictest rule rejects at the first date that agrees with the reference."""
    assert story([2, 8, 2], Rule(2, 2))[2] == (2, 8, 2, REJECTED)


def test_no_observation_changes_nothing():
    """Clouds between the first and the second sight: the candidate waits, and keeps its first date."""
    assert story([2, 8, 0, 0, 8])[2:] == [
        (2, 8, 2, CANDIDATE), (2, 8, 2, CANDIDATE), (2, 8, 2, CONFIRMED),
    ]  # fmt: skip


def test_a_change_by_way_of_another_class_keeps_its_first_date():
    """Forest, bare, built: changed since the second date, to what was seen last."""
    assert story([2, 7, 8])[2] == (2, 8, 2, CONFIRMED)


def test_one_of_one_believes_every_map():
    """Without persistence every difference is confirmed at once."""
    assert [row[3] for row in story([2, 8, 2], Rule(1, 1))] == [UNCHANGED, CONFIRMED, CONFIRMED]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=14), st.integers(1, 4), st.integers(0, 3))
def test_the_state_is_what_a_plain_reading_of_the_rule_says(
    classes: list[int], needed: int, more: int
):
    """Equal to a pixel's diary kept in lists."""
    rule = Rule(needed, needed + more)
    reference, diary, first, latest, status = 0, [], 0, 0, UNCHANGED
    for number, code in enumerate(classes, start=1):
        if status == CONFIRMED:
            reference = latest
        if status in {CONFIRMED, REJECTED}:
            diary, first, latest, status = [], 0, 0, UNCHANGED
        if code and not reference:
            reference = code
        elif code and (diary or code != reference):
            diary.append(code != reference)
            first, latest = first or number, code if code != reference else latest
            status = CANDIDATE
            if sum(diary) >= rule.needed:
                status = CONFIRMED
            elif diary.count(False) > rule.among - rule.needed:
                status = REJECTED
    assert story(classes, rule)[-1] == (reference, latest, first, status)


@pytest.mark.parametrize(("needed", "among"), [(0, 3), (3, 2), (2, 16)])
def test_rules_that_cannot_hold_are_refused(needed: int, among: int):
    """The sentence names the two numbers."""
    with pytest.raises(SettingsError, match=f"{needed} of {among}"):
        Rule(needed, among)


def test_a_map_of_another_shape_is_refused():
    """State and map must cover the same pixels."""
    with pytest.raises(SettingsError, match="same pixels"):
        Persistence.empty((2, 2)).seen(np.zeros((2, 3), np.uint8), 1, Rule())


def comparisons(
    *pairs: tuple[int, int], baselines: list[int], rule: Rule = Rule(2, 3)  # noqa: B008 - frozen
) -> list[tuple[int, int, int, int]]:  # fmt: skip
    """(reference, candidate, first, status) of one pixel, months 13, 14, ..., each (class in the baseline, class)."""
    state, found = Persistence.empty((1, 1)), []
    for number, ((before, after), baseline) in enumerate(zip(pairs, baselines, strict=True), 13):
        codes = (np.array([[code]], np.uint8) for code in (before, after))
        state = state.compared(*codes, baseline, number, rule)
        parts = (state.reference, state.candidate, state.first, state.status)
        found.append(tuple(int(part[0, 0]) for part in parts))
    return found


def test_what_comes_every_year_is_no_change_beside_last_year():
    """Fields green (5) and bare (7) as a year before: nothing; beside the first month the bare ones are a change."""
    year = [(5, 5), (7, 7), (7, 7), (5, 5)]
    assert [row[3] for row in comparisons(*year, baselines=[1, 2, 3, 4])] == [UNCHANGED] * 4
    first = [(5, 5), (5, 7), (5, 7), (5, 5)]
    assert [row[3] for row in comparisons(*first, baselines=[1, 1, 1, 1])][2] == CONFIRMED


def test_a_town_is_confirmed_though_the_fields_of_last_year_differ_from_month_to_month():
    """Built (8) where green and then bare land lay: from the class of the first sight, and told once."""
    found = comparisons((5, 8), (7, 8), (7, 8), (5, 8), baselines=[1, 2, 3, 4])
    assert found == [(5, 8, 13, CANDIDATE), (5, 8, 13, CONFIRMED), (8, 0, 0, UNCHANGED), (8, 0, 0, UNCHANGED)]  # fmt: skip


def test_a_candidate_that_looks_like_last_year_again_has_reverted():
    """Built for one month, then bare as in the same months of last year, though green was the reference."""
    assert [row[3] for row in comparisons((5, 8), (7, 7), (7, 7), baselines=[1, 2, 3])] == [
        CANDIDATE, CANDIDATE, REJECTED,
    ]  # fmt: skip


def test_a_baseline_that_shows_the_change_takes_over():
    """Once the baseline is as young as the confirmed town, it tells the reference again; its end is news."""
    found = comparisons((5, 8), (5, 8), (8, 8), (8, 5), baselines=[1, 2, 13, 14])
    assert found[2:] == [(8, 0, 0, UNCHANGED), (8, 5, 16, CANDIDATE)]


def test_beside_the_month_before_a_change_that_stays_is_confirmed():
    """The second sight is no difference of the two months, and still the change lasts; a return is a difference."""
    assert [row[3] for row in comparisons((2, 8), (8, 8), (8, 8), baselines=[12, 13, 14])] == [
        CANDIDATE, CONFIRMED, UNCHANGED,
    ]  # fmt: skip
    assert [row[3] for row in comparisons((2, 8), (8, 2), (2, 2), baselines=[12, 13, 14])] == [
        CANDIDATE, CANDIDATE, REJECTED,
    ]  # fmt: skip


def test_ground_that_the_baseline_lacks_is_not_judged():
    """No class, no candidate, until a baseline shows it; and a gap lets a candidate wait."""
    found = comparisons((0, 8), (0, 5), (5, 8), (0, 5), (5, 8), baselines=[1] * 5)
    assert found == [
        (0, 0, 0, UNCHANGED), (0, 0, 0, UNCHANGED), (5, 8, 15, CANDIDATE), (5, 8, 15, CANDIDATE),
        (5, 8, 15, CONFIRMED),
    ]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3))  # fmt: skip
def test_with_one_baseline_a_comparison_is_an_observation(
    classes: list[int], base: int, needed: int, more: int
):
    """Compared with the same map each time, a pixel has the story of `seen` that begins with that map."""
    rule = Rule(needed, needed + more)
    found = comparisons(
        *((base, code) for code in classes), baselines=[1] * len(classes), rule=rule
    )
    plain = story([base, *classes], rule)[1:]
    shifted = [(r, c, first + 11 if first else 0, s) for r, c, first, s in plain]
    assert found == shifted
