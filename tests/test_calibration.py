"""Calibration: one temperature that makes probabilities say how often they are right."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landcover.calibration import expected_calibration_error, fit_temperature
from landcover.errors import CheckpointError


def made(
    seed: int, n: int = 400, classes: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits, and labels drawn from their softmax."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (n, classes))
    # The largest of logit + Gumbel noise is a draw from the softmax.
    return logits, (logits + draw.gumbel(size=logits.shape)).argmax(1)


def test_three_of_four_right_by_hand() -> None:
    """Two classes, logit 1 ahead, right three times of four: softmax must be 3/4, so T = 1 / ln 3."""
    logits = np.array([[1.0, 0.0]] * 4)
    labels = np.array([0, 0, 0, 1])
    assert fit_temperature(logits, labels) == pytest.approx(1 / math.log(3), rel=1e-5)


def test_overconfident_logits_are_cooled_by_hand() -> None:
    """Logit ln 81 ahead (99 %) but right three times of four: 81^(1/T) = 3, so T = 4."""
    logits = np.array([[0.0, math.log(81)]] * 8)
    labels = np.array([1, 1, 1, 0] * 2)
    assert fit_temperature(logits, labels) == pytest.approx(4, rel=1e-5)


def test_logits_that_labels_were_drawn_from_need_no_temperature() -> None:
    """Labels drawn from the softmax itself give a temperature near 1."""
    assert fit_temperature(*made(0, 20_000)) == pytest.approx(1, abs=0.03)


def test_a_model_that_is_never_wrong_gets_the_lowest_temperature() -> None:
    """Without an error the likelihood grows as T falls; the answer stays above its bound of 1/100."""
    found = fit_temperature(np.array([[3.0, 0.0], [0.0, 0.1]]), np.array([0, 1]))
    assert 0.01 <= found < 0.05


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(deadline=None, max_examples=50)
def test_scaled_logits_scale_the_temperature(seed: int, scale: float) -> None:
    """Logits s times as large need a temperature s times as large."""
    logits, labels = made(seed)
    expected = scale * fit_temperature(logits, labels)
    assert fit_temperature(scale * logits, labels) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 1000), st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=20)
def test_a_constant_added_to_all_logits_changes_nothing(seed: int, constant: float) -> None:
    """The softmax does not know a constant that all classes share."""
    logits, labels = made(seed)
    expected = fit_temperature(logits, labels)
    assert fit_temperature(logits + constant, labels) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_no_other_temperature_is_more_likely(seed: int) -> None:
    """The likelihood at 5 % more and 5 % less is lower."""
    logits, labels = made(seed)
    best = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        shares = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
        return float(-np.log(shares[np.arange(len(labels)), labels]).sum())

    assert loss(best) < min(loss(best * 1.05), loss(best / 1.05))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[np.nan, 0.0]], [0], "finite"),
        (np.zeros((0, 2)), np.zeros(0, np.int64), "at least one"),
        ([[1.0, 0.0]], [2], "0 to 1"),
        ([[1.0, 0.0]], [-1], "0 to 1"),
        ([[1.0, 0.0]], [0, 1], "each of the 1"),
    ],
)
def test_unusable_data_is_refused(logits: object, labels: object, message: str) -> None:
    """Logits that are no numbers, and labels that do not fit them, are an error."""
    with pytest.raises(CheckpointError, match=message):
        fit_temperature(np.asarray(logits), np.asarray(labels))


def test_calibration_error_by_hand() -> None:
    """Bin of 0.9: 1 of 2 right, gap 0.4; bin of 0.6: 2 of 2 right, gap 0.4; together 0.4."""
    found = expected_calibration_error([0.9, 0.9, 0.6, 0.6], [True, False, True, True], bins=10)
    assert found == pytest.approx(0.4)


def test_bins_are_weighed_by_their_pixels() -> None:
    """Three pixels at 1.0 all right (gap 0) and one at 0.5 wrong (gap 0.5): 0.5 / 4."""
    found = expected_calibration_error([1.0, 1.0, 1.0, 0.5], [1, 1, 1, 0])
    assert found == pytest.approx(0.125)


def test_a_border_belongs_to_the_bin_below() -> None:
    """With two bins 0.5 shares a bin with 0.1: |0.5 + 0.1 - 1 right| / 3, and 1.0 right has no gap."""
    assert expected_calibration_error([0.5, 0.1, 1.0], [0, 1, 1], bins=2) == pytest.approx(0.4 / 3)


def test_the_extremes_have_a_bin() -> None:
    """Confidence 0 and 1 fall into the first and the last bin; no pixels give NaN."""
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0
    assert math.isnan(expected_calibration_error([], []))
