"""Running a network over tiles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from landcover.errors import SettingsError
from landcover.inference import Predictor, Strip, gather, mark_valid, softmax
from landcover.legend import Legend
from landcover.models import Checkpoint, ModelSpec

LEGEND = Legend.from_records(
    [{"code": c, "name": f"class {c}", "color": "#808080"} for c in (2, 3)]
)
SPEC = ModelSpec(
    "resnet18", (16,), ("red", "nir"), 0.5, -1.0, (1.0, 2.0), (0.5, 2.0), LEGEND, 32, 0
)


def one_strip(valid: int = 1) -> Strip:
    """A strip of 40 slots and 70 columns with random values."""
    pixels = np.random.default_rng(0).integers(1, 9, (2, 40, 70), dtype=np.uint16)
    return Strip(pixels, np.full((40, 70), valid, np.uint8))


def test_normalisation_by_hand() -> None:
    """Stored 7, gain 2, bias -3 is 11; an invalid pixel is 0, the band's mean."""
    pixels = np.array([[[7, 7]]], np.uint8)
    window = np.empty((1, 2, 1), np.float32)
    factors = np.array([2], np.float32), np.array([-3], np.float32)
    filled = gather(pixels, np.array([[1, 0]], np.uint8), np.array([0]), *factors, window)
    assert filled == 1
    assert window.ravel().tolist() == [11, 0]


def test_a_network_gets_reflectance_less_mean_over_deviation() -> None:
    """With value x 0.5 - 1 as reflectance, the identity network's logits are the normalised bands."""
    strip = one_strip()
    with Predictor(Checkpoint(nn.Identity(), SPEC, ""), "cpu") as predictor:
        got = predictor.submit(strip, np.arange(30, 62), [5]).result()
    values = strip.pixels[:, np.arange(30, 62) % 40, 5:37].astype(float) * 0.5 - 1
    logits = (values - [[[1]], [[2]]]) / [[[0.5]], [[2]]]
    expected = np.exp(logits) / np.exp(logits).sum(0)
    assert got is not None
    np.testing.assert_allclose(got[0], expected.transpose(1, 0, 2), atol=1e-6)


def test_tiles_without_data_are_not_predicted() -> None:
    """A window with no valid pixel gives None and never reaches the network."""

    def fail(_module: nn.Module, _inputs: object) -> None:
        raise AssertionError

    network = nn.Identity()
    network.register_forward_pre_hook(fail)
    with Predictor(Checkpoint(network, SPEC, ""), "cpu") as predictor:
        assert predictor.submit(one_strip(valid=0), np.arange(32), [0]).result() is None


def test_the_thread_count_of_torch_is_given_back() -> None:
    """After prediction torch has the threads it had."""
    before = torch.get_num_threads()
    with Predictor(Checkpoint(nn.Identity(), SPEC, ""), "cpu") as predictor:
        predictor.submit(one_strip(), np.arange(32), [0]).result()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("device", ["gpu9", "meta", "cuda:99"])
def test_devices_that_are_not_here_are_refused(device: str) -> None:
    """An unknown, unsupported or absent device is a settings error that says what to choose."""
    with pytest.raises(SettingsError, match="choose"):
        Predictor(Checkpoint(nn.Identity(), SPEC, ""), device)


def test_validity_with_a_declared_nodata_value() -> None:
    """A pixel holds data where no band that declares nodata holds it, and the mask says so."""
    pixels = np.array([[[0, 5, 5, 5, 9]], [[5, 0, 9, 5, 9]]], np.uint8)
    mask = np.array([[1, 1, 1, 0, 1]], np.uint8)
    valid = np.empty((1, 5), np.uint8)
    mark_valid(pixels, np.array([0, 9], np.uint8), np.array([True, True]), mask, False, valid)
    assert valid.tolist() == [[0, 1, 0, 0, 0]]


def test_validity_without_a_declared_nodata_value() -> None:
    """Zero in all bands is empty, zero in one is dark; a real number must be finite."""
    pixels = np.array([[[0, 0, 1, np.nan, np.inf]], [[0, 1, 0, 1, 1]]], np.float32)
    valid = np.empty((1, 5), np.uint8)
    mark_valid(
        pixels, np.zeros(2, np.float32), np.array([False, False]), np.ones((1, 5), np.uint8),
        True, valid,
    )  # fmt: skip
    assert valid.tolist() == [[0, 1, 1, 0, 0]]


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=3, max_dims=3, max_side=9),
        elements=st.floats(-1e4, 1e4, width=32),
    )
)
@settings(deadline=None)
def test_softmax_is_right_to_single_precision(logits: np.ndarray) -> None:
    """Any logits, in any memory order, match the formula in double precision."""
    shifted = np.exp(logits.astype(float) - logits.max(0))
    expected = (shifted / shifted.sum(0)).transpose(1, 0, 2)
    for order in (logits, np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)):
        got = np.empty(expected.shape, np.float32)
        softmax(order, got)
        np.testing.assert_allclose(got, expected, atol=5e-7)


def test_softmax_keeps_what_is_not_a_number() -> None:
    """A NaN among the logits makes its pixel NaN, and only that one."""
    logits = np.zeros((2, 1, 2), np.float32)
    logits[1, 0, 1] = np.nan
    got = np.empty((1, 2, 2), np.float32)
    softmax(logits, got)
    assert np.isnan(got[0]).tolist() == [[False, True], [False, True]]
