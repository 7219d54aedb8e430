"""Pruning: smaller tensors, the same arithmetic for what is left."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.channel_pruning import left, prune_decoder
from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, SettingsError
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from pipeline.job import DEFAULT_MODEL
from tests.command import landcover

WIDTHS = (8, 6, 4, 4, 2)
SPEC = ModelSpec(
    encoder="tu-mobilenetv3_small_050", decoder_channels=WIDTHS, bands=("red", "nir"), scale=1e-4,
    offset=0.0, mean=(0.1, 0.1), std=(0.1, 0.1), tile=64, overlap=16,
    legend=Legend((LandClass(1, "A", "#0000ff"), LandClass(2, "B", "#00ff00"))),
)  # fmt: skip


def some_checkpoint(seed: int = 0) -> Checkpoint:
    """A small U-Net of random weights and normalisation."""
    torch.manual_seed(seed)
    network: Any = SPEC.build().eval()
    for block in network.decoder.blocks:
        for norm in (block.conv1[1], block.conv2[1]):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.bias)
            torch.nn.init.normal_(norm.running_mean)
    return Checkpoint(network, SPEC, "")


def silence(layer: Any, channels: list[int], *, by_filter: bool) -> None:
    """Let channels give zero: by a filter of zeros, or by a normalisation that scales by zero."""
    with torch.no_grad():
        for channel in channels:
            layer[1].bias[channel] = 0
            if by_filter:
                layer[0].weight[channel] = 0
                layer[1].running_mean[channel] = 0
            else:
                layer[1].weight[channel] = 0


def outputs(network: torch.nn.Module) -> torch.Tensor:
    """Logits of one tile."""
    tile = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        answer: torch.Tensor = network(tile)
    return answer


@pytest.mark.parametrize(
    ("width", "share", "want"),
    [
        (96, 0.3, 64),
        (64, 0.3, 48),
        (16, 0.3, 8),
        (16, 0.9, 8),
        (4, 0.5, 4),
        (24, 0.1, 24),
        (32, 0.3, 24),
    ],
)
def test_channels_that_are_left_by_hand(width: int, share: float, want: int) -> None:
    """96 less 30 % is 67.2, of which the nearest multiple of 8 is 64; one multiple stays at least."""
    assert left(width, share) == want


def test_a_block_by_hand() -> None:
    """The channels of the largest scale stay, in their order; of the skip connection all inputs stay."""
    checkpoint = some_checkpoint()
    network: Any = checkpoint.network
    second = network.decoder.blocks[1]
    scales = torch.tensor([0.1, 3, 0.2, -2, 1, 0.3])
    with torch.no_grad():
        second.conv1[1].weight[:] = scales
        network.decoder.blocks[0].conv2[1].weight[:] = torch.tensor([1.0, 0, 1, 0, 1, 0, 1, 0])
    small, spec = prune_decoder(checkpoint, 0.5, multiple=1)
    assert spec.decoder_channels == (4, 3, 2, 2, 1)
    got: Any = small
    skip = second.conv1[0].in_channels - 8
    inputs = [0, 2, 4, 6, *range(8, 8 + skip)]
    want = second.conv1[0].weight[[1, 3, 4]][:, inputs]
    assert torch.equal(got.decoder.blocks[1].conv1[0].weight, want)
    assert got.decoder.blocks[1].conv1[1].weight.tolist() == [3, -2, 1]


@given(seed=st.integers(0, 1000), by_filter=st.booleans(), data=st.data())
@settings(max_examples=8, deadline=None)
def test_silent_channels_are_not_missed(seed: int, by_filter: bool, data: st.DataObject) -> None:
    """Where half the channels of each layer give zero, the half that is left computes the same."""
    checkpoint = some_checkpoint(seed)
    network: Any = checkpoint.network
    for block, width in zip(network.decoder.blocks, WIDTHS, strict=True):
        for layer in (block.conv1, block.conv2):
            order = data.draw(st.permutations(range(width)))
            silence(layer, order[: width // 2], by_filter=by_filter)
    small, spec = prune_decoder(checkpoint, 0.5, multiple=1)
    assert spec.decoder_channels == tuple(width // 2 for width in WIDTHS)
    np.testing.assert_allclose(outputs(small), outputs(network), rtol=1e-5, atol=1e-5)


def test_the_original_is_left_alone() -> None:
    """Pruning gives a network of its own."""
    checkpoint = some_checkpoint()
    before = outputs(checkpoint.network)
    prune_decoder(checkpoint, 0.5, multiple=1)
    assert torch.equal(outputs(checkpoint.network), before)


def test_a_pruned_checkpoint_is_a_checkpoint(tmp_path: Path) -> None:
    """It is saved, loaded and shown like any other, and smaller by the channels that went."""
    network, spec = prune_decoder(load_checkpoint(DEFAULT_MODEL), 0.3)
    assert spec.decoder_channels == (64, 48, 32, 24, 8)
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, network, spec)
    again = load_checkpoint(path)
    assert again.spec == spec
    assert path.stat().st_size < DEFAULT_MODEL.stat().st_size
    shown = landcover("model", "show", path)
    assert shown.returncode == 0, shown.stderr
    assert f"{sum(p.numel() for p in network.parameters()):,}" in shown.stdout


def test_widths_given_by_options_are_written_out() -> None:
    """A U-Net of depth 3 and width 8 has 32, 16 and 8 channels; its pruned copy says the channels."""
    spec = dataclasses.replace(SPEC, decoder_channels=(), options={"depth": 3, "width": 8})
    small, made = prune_decoder(Checkpoint(spec.build(), spec, ""), 0.5)
    assert made.decoder_channels == (16, 8, 8)
    assert made.options == {}
    assert outputs(small).shape == (1, 2, 64, 64)


def test_what_cannot_be_pruned() -> None:
    """Other architectures, shares that are none and shares that take nothing are refused."""
    other = dataclasses.replace(SPEC, architecture="fpn", encoder="resnet18", decoder_channels=())
    with pytest.raises(CheckpointError, match="this is fpn"):
        prune_decoder(Checkpoint(torch.nn.Identity(), other, ""), 0.3)
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="between 0 and 1"):
            prune_decoder(some_checkpoint(), share)
    with pytest.raises(SettingsError, match="leaves all channels"):
        prune_decoder(some_checkpoint(), 0.3)
