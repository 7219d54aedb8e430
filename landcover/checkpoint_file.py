"""Checkpoints in files: one safetensors file that says all a mapper needs.

torch is imported only where weights are touched, so that reading a description takes no seconds.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

from landcover.checkpoint import Checkpoint, StoredNetwork
from landcover.errors import CheckpointError
from landcover.exported_network import RUNTIMES, load_exported
from landcover.model_spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

_KEY = "landcover"


def save_checkpoint(path: Path, network: "nn.Module", spec: ModelSpec) -> None:
    """Write weights (float16 where floating, which halves the file) and spec as safetensors."""
    from safetensors.torch import save_file

    tensors = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(tensors, path, metadata={_KEY: spec.to_json()})


def read_spec(path: Path) -> ModelSpec:
    """Read what a checkpoint, or an exported file (.onnx, .xml), says about itself.

    Raises CheckpointError for a missing file, one that is not safetensors (a pickle, say), or one
    without our description.
    """
    if path.suffix.lower() in RUNTIMES:
        return load_exported(path).spec
    with _open(path, "numpy") as stream:
        metadata = stream.metadata() or {}
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} has no '{_KEY}' description (bands, scaling, legend); save it with save_checkpoint."
        )
    try:
        return ModelSpec.from_json(metadata[_KEY])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or an exported file (.onnx, .xml); nothing in it is ever executed.

    Raises CheckpointError as `read_spec` does, and where the weights do not fit the architecture.
    """
    if path.suffix.lower() in RUNTIMES:
        return load_exported(path)
    spec = read_spec(path)
    with _open(path, "pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no iterator
    try:
        network = spec.build()
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
    except (RuntimeError, KeyError, ValueError, TypeError, CheckpointError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: the weights do not fit their architecture: {reason}"
        ) from error
    return Checkpoint(network.eval(), spec, _hash(path))


def describe_checkpoint(path: Path, converted: Path | None = None) -> Checkpoint:
    """A checkpoint without its weights, which stay where OpenVINO's copy of them is, or will be.

    Raises CheckpointError as `read_spec` does.
    """
    return Checkpoint(cast("nn.Module", StoredNetwork(converted)), read_spec(path), _hash(path))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def _open(path: Path, framework: str) -> Iterator[Any]:
    try:
        with safe_open(path, framework=framework) as stream:
            yield stream
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no model {path}; give the path of a .safetensors file."
        ) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}); only that format is read, never a pickle."
        ) from error
