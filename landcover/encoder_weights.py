"""Weights of encoders trained on colour pictures, made to fit images of any bands."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from landcover.errors import CheckpointError

_COLORS = ("red", "green", "blue")
_PREFIXES = ("network.", "module.", "encoder.", "model.")
_NOT_FOUND = 0.05  # of an encoder's tensors may be missing: counters, layers added by the network


def adapt_first_convolution(weight: torch.Tensor, bands: Sequence[str]) -> torch.Tensor:
    """Kernels for these bands, (out, bands, rows, cols), from kernels for red, green, blue.

    A band of one of these colours keeps its kernel, any other takes the mean of the three; all are
    multiplied by 3 / bands, so that an image equal in all bands gives the same response as before.
    Where not all three colours are among the bands, every band takes the mean.
    """
    mean = weight.mean(1)
    colors = set(_COLORS) <= set(bands)
    kernels = [
        weight[:, _COLORS.index(band)] if colors and band in _COLORS else mean for band in bands
    ]
    return torch.stack(kernels, 1) * (weight.shape[1] / len(bands))


def read_encoder(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of an encoder from a safetensors file: a bare encoder, or the one of a whole network.

    Raises CheckpointError where the file is none. Nothing in it is executed.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no iterator
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There are no encoder weights {path}; give imagenet, none or a .safetensors file."
        ) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}); only that format is read, never a pickle."
        ) from error
    inner = {k.removeprefix("encoder."): v for k, v in tensors.items() if k.startswith("encoder.")}
    return inner or tensors


def load_encoder(
    encoder: nn.Module, tensors: Mapping[str, torch.Tensor], bands: Sequence[str], source: str
) -> None:
    """Put tensors into an encoder, the first convolution adapted to its bands where it must be.

    tensors: by the encoder's own names, or the same below `model.` or the like; others are left
    out (a classifier's, say). source: named in messages. Raises CheckpointError where they are
    those of another encoder.
    """
    ours = encoder.state_dict()
    found = _matched(ours, tensors)
    missing = [name for name in ours if name not in found]
    if not found or len(missing) > _NOT_FOUND * len(ours):
        raise CheckpointError(
            f"{source} holds {len(found)} of the encoder's {len(ours)} tensors (not "
            f"{missing[0]}, for example); give the weights of the same encoder."
        )
    fitted = {name: _fit(name, found[name], ours[name], bands, source) for name in found}
    encoder.load_state_dict({**ours, **fitted})


def _matched(
    ours: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors by our names, whichever of some usual prefixes either side has."""
    bare = {_bare(name): value for name, value in tensors.items()}
    return {name: bare[_bare(name)] for name in ours if _bare(name) in bare}


def _bare(name: str) -> str:
    while found := [prefix for prefix in _PREFIXES if name.startswith(prefix)]:
        name = name.removeprefix(found[0])
    return name


def _fit(
    name: str, theirs: torch.Tensor, ours: torch.Tensor, bands: Sequence[str], source: str
) -> torch.Tensor:
    value = theirs.to(ours.dtype)
    if value.shape == ours.shape:
        return value
    first = value.ndim == ours.ndim == 4 and ours.shape[1] == len(bands) and value.shape[1] == 3
    if first and value.shape[0] == ours.shape[0] and value.shape[2:] == ours.shape[2:]:
        return adapt_first_convolution(value, bands)
    raise CheckpointError(
        f"{source} has the tensor {name} of shape {tuple(value.shape)}, and the encoder needs "
        f"{tuple(ours.shape)}; give the weights of the same encoder."
    )
