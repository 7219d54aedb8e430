"""Running a network over tiles."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from landcover.checkpoint import Checkpoint
from landcover.errors import CheckpointError
from landcover.inference import Predictor, Strip, gather
from landcover.legend import Legend
from landcover.model_spec import ModelSpec
from landcover.runtime import from_bfloat16, to_bfloat16
from landcover.runtimes import open_runtime
from landcover.validity import mark_valid

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


def predictor_of(*networks: nn.Module, d4: bool = False, temperature: float = 1.0) -> Predictor:
    """Networks in exact float32 on the CPU."""
    spec = dataclasses.replace(SPEC, temperature=temperature)
    checkpoints = [Checkpoint(network, spec, "") for network in networks]
    runtimes = [open_runtime(checkpoint, "torch-fp32", "cpu") for checkpoint in checkpoints]
    return Predictor([spec] * len(networks), runtimes, d4=d4)


def test_normalisation_by_hand() -> None:
    """Stored 7, gain 2, bias -3 is 11; an invalid pixel is 0, the band's mean."""
    pixels = np.array([[[7, 7]]], np.uint8)
    window = np.empty((1, 2, 1), np.float32)
    factors = np.array([2], np.float32), np.array([-3], np.float32)
    strip = Strip(pixels, np.array([[1, 0]], np.uint8))
    filled = gather(strip, np.array([0]), 0, *factors, window)
    assert filled == 1
    assert window.ravel().tolist() == [11, 0]


def test_a_network_gets_reflectance_less_mean_over_deviation() -> None:
    """With value x 0.5 - 1 as reflectance, the identity network's logits are the normalised bands."""
    strip = one_strip()
    with predictor_of(nn.Identity()) as predictor:
        got = predictor.submit(strip, np.arange(30, 62), [5]).result()
    values = strip.pixels[:, np.arange(30, 62) % 40, 5:37].astype(float) * 0.5 - 1
    assert got is not None
    np.testing.assert_allclose(got[0], (values - [[[1]], [[2]]]) / [[[0.5]], [[2]]], atol=1e-6)


def test_tiles_without_data_are_not_predicted() -> None:
    """A window with no valid pixel gives None and never reaches the network."""

    def fail(_module: nn.Module, _inputs: object) -> None:
        raise AssertionError

    network = nn.Identity()
    network.register_forward_pre_hook(fail)
    with predictor_of(network) as predictor:
        assert predictor.submit(one_strip(valid=0), np.arange(32), [0]).result() is None


def test_the_thread_count_of_torch_is_given_back() -> None:
    """After prediction torch has the threads it had."""
    before = torch.get_num_threads()
    with predictor_of(nn.Identity()) as predictor:
        predictor.submit(one_strip(), np.arange(32), [0]).result()
    assert torch.get_num_threads() == before


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


def test_gathering_to_bfloat16_rounds_as_torch_does() -> None:
    """The bits are those of the nearest bfloat16 of the float32 window, ties to even."""
    strip = one_strip()
    gain, bias = np.array([0.3, 1 / 256], np.float32), np.array([-1.7, 1], np.float32)
    exact, bits = np.empty((32, 70, 2), np.float32), np.empty((32, 70, 2), np.uint16)
    for window in (exact, bits):
        assert gather(strip, np.arange(32), 0, gain, bias, window) == 32 * 70
    assert (bits == to_bfloat16(exact)).all()
    assert np.abs(from_bfloat16(bits) - exact).max() <= 2**-8 * np.abs(exact).max()


def logits_of(predictor: Predictor) -> np.ndarray:
    """Logits (classes, rows, cols) of one window of `one_strip`."""
    with predictor:
        got = predictor.submit(one_strip(), np.arange(32), [3]).result()
    assert got is not None
    return got[0]


def test_flips_average_what_a_network_says_of_each() -> None:
    """A network that looks one pixel to the left looks, on average, as much in all four directions."""
    look = nn.Conv2d(2, 2, (1, 3), padding=(0, 1), bias=False)
    nn.init.zeros_(look.weight)
    with torch.no_grad():
        look.weight[0, 0, 0, 0] = look.weight[1, 1, 0, 0] = 1
    plain = logits_of(predictor_of(nn.Identity()))
    around = np.pad(plain, ((0, 0), (1, 1), (1, 1)))
    expected = (
        around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
    ) / 4
    np.testing.assert_allclose(logits_of(predictor_of(look, d4=True)), expected, atol=1e-6)


def test_several_networks_are_averaged_and_the_temperature_divides() -> None:
    """The mean of x and 3 x at temperature 4 is x / 2."""
    triple = nn.Conv2d(2, 2, 1, bias=False)
    with torch.no_grad():
        triple.weight[:] = 3 * torch.eye(2)[:, :, None, None]
    plain = logits_of(predictor_of(nn.Identity()))
    both = logits_of(predictor_of(nn.Identity(), triple, temperature=4.0))
    np.testing.assert_allclose(both, plain / 2, rtol=1e-6)


def test_models_of_other_bands_are_not_averaged() -> None:
    """Two checkpoints that do not read the same bands are refused."""
    other = Checkpoint(nn.Identity(), dataclasses.replace(SPEC, bands=("nir", "red")), "")
    checkpoints = [Checkpoint(nn.Identity(), SPEC, ""), other]
    runtimes = [open_runtime(checkpoint, "torch-fp32", "cpu") for checkpoint in checkpoints]
    with pytest.raises(CheckpointError, match="same bands"):
        Predictor([checkpoint.spec for checkpoint in checkpoints], runtimes)
