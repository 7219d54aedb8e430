"""The reliability table: by hand, against the older formula and torchmetrics, and in parts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error

from landcover.calibration import expected_calibration_error
from landcover.errors import SettingsError
from landcover.reliability import Reliability


def test_two_bins_by_hand() -> None:
    """Of two bins one is right half the time at 0.4, the other always at 0.9: error (0.1 x 2 + 0.1 x 2) / 4."""
    table = Reliability.count([0.4, 0.4, 0.9, 0.9], [True, False, True, True], bins=2)
    np.testing.assert_array_equal(table.pixels, [2, 2])
    np.testing.assert_allclose(table.mean_confidence, [0.4, 0.9])
    np.testing.assert_allclose(table.accuracy, [0.5, 1])
    assert table.expected_error == pytest.approx(0.1)
    assert table.largest_error == pytest.approx(0.1)


def test_borders_of_bins() -> None:
    """A bin holds its upper border; the first also 0, the last also 1."""
    np.testing.assert_array_equal(Reliability.count([0, 0.5, 1], [1, 1, 1], 2).pixels, [2, 1])


def test_nothing_is_not_known() -> None:
    """Without a pixel, no error is known and no warning is given."""
    table = Reliability.empty(3)
    assert math.isnan(table.expected_error)
    assert math.isnan(table.largest_error)
    assert np.isnan(table.accuracy).all()


def test_other_bins_do_not_add_up() -> None:
    """Tables of other bins are refused."""
    with pytest.raises(SettingsError, match="other bins"):
        Reliability.empty(3) + Reliability.empty(4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 200), st.integers(0, 200))
def test_parts_add_up_and_others_agree(seed: int, n: int, cut: int) -> None:
    """Two parts are the whole, whose errors are those of `calibration` and of torchmetrics."""
    draw = np.random.default_rng(seed)
    sure = draw.uniform(0, 1, n)
    right = draw.uniform(0, 1, n) < sure**2
    parts = Reliability.count(sure[:cut], right[:cut]) + Reliability.count(sure[cut:], right[cut:])
    assert parts.expected_error == pytest.approx(expected_calibration_error(sure, right))
    # torchmetrics folds binary probabilities at one half; above it they are what we count.
    high = 0.5 + sure / 2
    ours = Reliability.count(high, right)
    pair = torch.from_numpy(high), torch.from_numpy(right).int()
    for norm, value in (("l1", ours.expected_error), ("max", ours.largest_error)):
        assert float(binary_calibration_error(*pair, 15, norm)) == pytest.approx(value, abs=1e-5)
