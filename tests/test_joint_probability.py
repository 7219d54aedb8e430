"""How sure a change of class is, from the probabilities of all classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landcover.joint_probability import changed_percent, transition_percent

CHANCES = arrays(np.uint8, (3, 4, 5), elements=st.integers(1, 255))


def stored(*chances: float) -> np.ndarray:
    """One pixel as `landcover segment --probabilities` stores it, (classes, 1, 1)."""
    return np.rint(1 + 254 * np.array(chances)).astype(np.uint8)[:, None, None]


def test_by_hand():
    """0.5 0.3 0.2 and 0.1 0.6 0.3: the same class by 0.05 + 0.18 + 0.06, from the first to the second by 0.3."""
    before, after = stored(0.5, 0.3, 0.2), stored(0.1, 0.6, 0.3)
    assert changed_percent(before, after).tolist() == [[71]]
    first, second = np.array([[0]]), np.array([[1]])
    assert transition_percent(before, after, first, second).tolist() == [[30]]


def test_certainty():
    """Sure of one class twice: no change (1 is the least percent); sure of two: change."""
    one, other = stored(1, 0, 0), stored(0, 1, 0)
    assert changed_percent(one, one).tolist() == [[1]]
    assert changed_percent(one, other).tolist() == [[100]]
    here = np.array([[0]])
    assert transition_percent(one, one, here, here).tolist() == [[100]]


def test_no_data_is_unknown():
    """0 in either."""
    gone = np.zeros((3, 1, 1), np.uint8)
    here = np.array([[0]])
    for before, after in ((gone, stored(1, 0, 0)), (stored(1, 0, 0), gone)):
        assert changed_percent(before, after).tolist() == [[0]]
        assert transition_percent(before, after, here, here).tolist() == [[0]]


@settings(deadline=None)
@given(before=CHANCES, after=CHANCES)
def test_change_is_the_sum_of_all_transitions_between_two_classes(
    before: np.ndarray, after: np.ndarray
):
    """To half a percent; swapped dates give the same; rows may be cut anywhere."""
    known = ((before > 1).any(axis=0)) & ((after > 1).any(axis=0))
    one, other = (steps[:, known] - 1.0 for steps in (before, after))
    one, other = one / one.sum(axis=0), other / other.sum(axis=0)
    pairs = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
    total = 100 * sum(one[i] * other[j] for i, j in pairs)
    found = changed_percent(before, after)
    assert found[known].astype(float) == pytest.approx(np.maximum(total, 1), abs=0.501)
    assert (found[~known] == 0).all()
    assert np.array_equal(found, changed_percent(after, before))
    assert np.array_equal(found[1:3], changed_percent(before[:, 1:3], after[:, 1:3]))


@settings(deadline=None)
@given(before=CHANCES, after=CHANCES)
def test_that_it_changed_is_at_least_as_sure_as_how(before: np.ndarray, after: np.ndarray):
    """A transition between two classes is one way to change."""
    first, second = before.argmax(axis=0), after.argmax(axis=0)
    how = transition_percent(before, after, first, second)
    differs = first != second
    assert (changed_percent(before, after)[differs] >= how[differs]).all()
