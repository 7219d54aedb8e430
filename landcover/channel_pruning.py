"""Structured pruning: a U-Net's decoder without its weakest channels, as a smaller U-Net.

What is left is an ordinary network of the same architecture, with fewer `decoder_channels` in its
spec. The encoder is kept: the widths of its layers have no place in a spec.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from landcover.checkpoint import Checkpoint
from landcover.errors import CheckpointError, SettingsError
from landcover.model_spec import ModelSpec

MULTIPLE = 8
"""Channels are left in multiples of it, as CPUs compute so many at a time."""


def prune_decoder(
    checkpoint: Checkpoint, share: float, multiple: int = MULTIPLE
) -> tuple[nn.Module, ModelSpec]:
    """Take a share of the channels out of each decoder block; give the network and its spec.

    Each block has two convolutions of as many channels; those stay whose batch normalisation has the
    largest scale |gamma| (Liu et al. 2017, "Learning efficient convolutional networks through network
    slimming"); a channel whose filter is zero counts as 0. The weights that are left are as they were, so
    that without channels that give nothing but zero the network computes the same; others are missed, and
    training makes up for them. What comes over a skip connection stays whole.
    share: 0 to 1. Raises CheckpointError where the architecture is no U-Net, SettingsError where the
    share is none or leaves every channel.
    """
    spec = checkpoint.spec
    if spec.architecture != "unet" or not hasattr(checkpoint.network, "decoder"):
        raise CheckpointError(
            f"Only the decoder of a checkpoint of the architecture unet can be pruned; this is {spec.architecture}."
        )
    if not 0 < share < 1:
        raise SettingsError(
            f"The share of channels to be pruned is {share:g}; give one between 0 and 1."
        )
    blocks = _blocks(checkpoint.network)
    widths = [int(block.conv1[0].out_channels) for block in blocks]
    kept = tuple(left(width, share, multiple) for width in widths)
    if list(kept) == widths:
        raise SettingsError(
            f"A share of {share:g} leaves all channels ({', '.join(map(str, widths))}), as they go by "
            f"{multiple}; give a larger one."
        )
    options = {k: v for k, v in spec.options.items() if k not in {"depth", "width"}}
    small = dataclasses.replace(spec, decoder_channels=kept, options=options)
    network = small.build()
    network.load_state_dict(_state(checkpoint.network, blocks, kept))
    return network.eval(), small


def left(width: int, share: float, multiple: int = MULTIPLE) -> int:
    """Channels that are left of so many: the nearest multiple, one at least, never more than there were."""
    return min(width, max(1, round(width * (1 - share) / multiple)) * multiple)


def _blocks(network: Any) -> Sequence[Any]:
    blocks: Sequence[Any] = list(network.decoder.blocks)
    return blocks


def _state(network: Any, blocks: Sequence[Any], kept: Sequence[int]) -> dict[str, torch.Tensor]:
    """Weights of the smaller network, cut from those of the larger."""
    state: dict[str, torch.Tensor] = dict(network.state_dict())
    before: torch.Tensor | None = None
    width = 0
    for number, (block, channels) in enumerate(zip(blocks, kept, strict=True)):
        first, second = (_strongest(layer, channels) for layer in (block.conv1, block.conv2))
        prefix = f"decoder.blocks.{number}"
        entering = _entering(block.conv1[0].in_channels, before, width)
        state |= _cut(state, f"{prefix}.conv1", first, entering)
        state |= _cut(state, f"{prefix}.conv2", second, first)
        before, width = second, int(block.conv2[0].out_channels)
    head = "segmentation_head.0.weight"
    return state | {head: state[head][:, before]}


def _strongest(layer: Any, channels: int) -> torch.Tensor:
    """Numbers of the channels that stay, ascending; of equal ones the first."""
    convolution, norm = layer[0], layer[1]
    score = norm.weight.detach().abs() * (convolution.weight.detach().flatten(1) != 0).any(1)
    order = torch.argsort(score, descending=True, stable=True)
    return order[:channels].sort().values


def _entering(inputs: int, before: torch.Tensor | None, width: int) -> torch.Tensor:
    """Numbers of a block's input channels that stay: those of the block before, then the skip connection."""
    if before is None:
        return torch.arange(inputs)
    return torch.cat([before, torch.arange(width, inputs)])


def _cut(
    state: Mapping[str, torch.Tensor], prefix: str, outputs: torch.Tensor, inputs: torch.Tensor
) -> dict[str, torch.Tensor]:
    """A convolution and its normalisation with these output and input channels."""
    cut = {f"{prefix}.0.weight": state[f"{prefix}.0.weight"][outputs][:, inputs]}
    for name in ("weight", "bias", "running_mean", "running_var"):
        cut[f"{prefix}.1.{name}"] = state[f"{prefix}.1.{name}"][outputs]
    return cut
