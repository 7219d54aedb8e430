"""The most likely classes of a pixel over time."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.errors import SettingsError
from landcover.trajectories import Transitions, last_change, most_likely, stable_classes


def series(*codes: int) -> np.ndarray:
    """One pixel at several dates."""
    return np.array(codes, np.uint8)[:, None, None]


def filtered(codes: list[int], percents: list[int] | None = None, stay: float = 0.95) -> list[int]:
    """The most likely classes of one pixel among 1, 2 and 5."""
    sure = None if percents is None else series(*percents)
    return most_likely(series(*codes), sure, Transitions.staying((1, 2, 5), stay)).ravel().tolist()


def test_a_single_odd_date_is_smoothed():
    """Forest, forest, water, forest: one map in four is wrong."""
    assert filtered([2, 2, 1, 2, 2]) == [2, 2, 2, 2, 2]


def test_a_lasting_change_stays_where_it_is():
    """Two dates of one class, three of another: the change is kept, at its date."""
    assert filtered([2, 2, 5, 5, 5]) == [2, 2, 5, 5, 5]


def test_a_sure_map_overrules_unsure_ones():
    """A date that is 99 % sure stands against neighbours that are 40 % sure."""
    assert filtered([2, 1, 2], [40, 99, 40], stay=0.6)[1] == 1
    assert filtered([2, 1, 2], [99, 40, 99], stay=0.6)[1] == 2


def test_missing_dates_take_the_class_that_fits():
    """No observation between two equal ones; and none at all stays none."""
    assert filtered([2, 0, 2]) == [2, 2, 2]
    assert filtered([0, 0, 5]) == [5, 5, 5]
    assert filtered([0, 0, 0]) == [0, 0, 0]


def test_what_never_happens_needs_strong_evidence():
    """A table in which built-up (5) never becomes forest (2) turns an unsure forest back."""
    table = np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.0, 0.95]])
    found = most_likely(series(5, 5, 2, 2), None, Transitions((1, 2, 5), table))
    assert found.ravel().tolist() == [5, 5, 5, 5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 5]), st.integers(34, 99)), min_size=1, max_size=5),
    st.floats(0.4, 0.99),
)
def test_no_other_sequence_is_likelier(dates: list[tuple[int, int]], stay: float):
    """Equal in probability to the best of all sequences, tried one by one."""
    codes, percents = zip(*dates, strict=True)
    transitions = Transitions.staying((1, 2, 5), stay)

    def likelihood(path: tuple[int, ...]) -> float:
        total = 0.0
        for t, place in enumerate(path):
            if codes[t]:
                right = max(percents[t] / 100, 1 / 3)
                hit = transitions.codes[place] == codes[t]
                total += np.log(right if hit else (1 - right) / 2)
            if t:
                total += np.log(transitions.probabilities[path[t - 1], place])
        return total

    best = max(likelihood(path) for path in itertools.product(range(3), repeat=len(dates)))
    found = filtered(list(codes), list(percents), stay)
    if not any(codes):
        assert found == [0] * len(dates)
        return
    assert likelihood(tuple((1, 2, 5).index(code) for code in found)) == pytest.approx(best)


def test_stable_classes_and_dates_of_change():
    """Of three pixels one stays, one changes at the third date, one changes twice."""
    maps = np.array([[[2, 2, 1]], [[2, 2, 5]], [[2, 5, 2]]], np.uint8)
    assert stable_classes(maps).tolist() == [[2, 0, 0]]
    assert last_change(maps).tolist() == [[0, 3, 3]]
    assert last_change(maps[:2]).tolist() == [[0, 0, 2]]


def test_codes_and_tables_that_do_not_fit_are_refused():
    """A code that the table lacks, a table of another size, rows that do not sum to 1."""
    with pytest.raises(SettingsError, match=r"codes \[7\]"):
        most_likely(series(7), None, Transitions.staying((1, 2)))
    with pytest.raises(SettingsError, match="shape"):
        Transitions((1, 2), np.ones((1, 2)))
    with pytest.raises(SettingsError, match="sum to 1"):
        Transitions((1, 2), np.ones((2, 2)))
    with pytest.raises(SettingsError, match="between 0 and 1"):
        Transitions.staying((1, 2), 1.0)
