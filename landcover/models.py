"""Segmentation models and their checkpoints: one safetensors file that says all a mapper needs.

torch is imported only where weights are touched, so that reading a description takes no seconds.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

from landcover.errors import CheckpointError, LegendError
from landcover.legend import Legend
from landcover.networks import build_network, check_network, least_side, side_step

if TYPE_CHECKING:
    from torch import nn

FORMAT = "landcover-checkpoint-1"
EXPORTED = (".onnx", ".xml")
"""Endings of exported files, which are read as checkpoints are."""
_KEY = "landcover"


@dataclass(frozen=True)
class ModelSpec:
    """What a checkpoint says about itself: enough to build, feed and read the model."""

    encoder: str
    """Encoder of the architecture: a name of smp's, or `tu-` and a name of timm's."""
    decoder_channels: tuple[int, ...]
    """Of a U-Net's kind, deepest first; empty where the options or the architecture decide."""
    bands: tuple[str, ...]
    """Common names of the input channels, in order."""
    scale: float
    """Reflectance = stored value x scale + offset."""
    offset: float
    mean: tuple[float, ...]
    """Per band, reflectance subtracted before the model."""
    std: tuple[float, ...]
    """Per band, reflectance divided by after the mean is taken away."""
    legend: Legend
    """Class of each output channel, in order."""
    tile: int
    """Side of a square input tile, pixels; a multiple of `step`."""
    overlap: int
    """Pixels shared by neighbouring tiles."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from: data, seeds, steps, accuracy."""
    temperature: float = 1.0
    """Logits are divided by it; fitted on validation data. 1 leaves them as they are."""
    architecture: str = "unet"
    """A name of `landcover.networks.ARCHITECTURES`."""
    options: Mapping[str, int] = field(default_factory=dict)
    """What was chosen about the architecture."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.encoder):
            raise CheckpointError(
                f"The model's encoder '{self.encoder}' is not a plain name; addresses of hubs and "
                "paths are not followed."
            )
        check_network(self.architecture, self.encoder, self.options)
        channels = len(self.bands)
        if not channels or len(self.mean) != channels or len(self.std) != channels:
            raise CheckpointError(
                f"The model names {channels} bands but {len(self.mean)} means and "
                f"{len(self.std)} standard deviations; it needs one of each for every band."
            )
        if max(self.legend.codes) > 255:
            raise CheckpointError(
                f"The model's legend has the code {max(self.legend.codes)}; a map has one byte a pixel, "
                "so codes go up to 255."
            )
        if min(self.std) <= 0 or self.scale <= 0:
            raise CheckpointError("The model's scale and standard deviations must be above 0.")
        if self.tile < (step := self.step) or self.tile % step:
            raise CheckpointError(
                f"The model's tile is {self.tile}; it must be a multiple of {step}."
            )
        if self.tile < (least := least_side(self.architecture, self.options)):
            raise CheckpointError(
                f"The model's tile is {self.tile}; {self.architecture} needs {least} or more."
            )
        if not 0 <= self.overlap <= self.tile // 2:
            raise CheckpointError(
                f"The model's overlap is {self.overlap}; it must be 0 to half of tile {self.tile}."
            )
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise CheckpointError(
                f"The model's temperature is {self.temperature}; it must be a number above 0."
            )

    @property
    def step(self) -> int:
        """Sides of tiles are multiples of it, pixels."""
        return side_step(self.options)

    def to_json(self) -> str:
        """The spec as a JSON object; inverse of `from_json`."""
        fields = asdict(self) | {"legend": self.legend.to_records(), "format": FORMAT}
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read what `to_json` wrote. Raises CheckpointError for anything else."""
        try:
            fields = json.loads(text)
            found = fields.pop("format")
            lists = ("decoder_channels", "bands", "mean", "std")
            spec = cls(
                **{
                    **fields,
                    **{name: tuple(fields[name]) for name in lists},
                    "legend": Legend.from_records(fields["legend"]),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError, LegendError) as error:
            raise CheckpointError(f"The model's description is not readable: {error!r}.") from error
        if found != FORMAT:
            raise CheckpointError(f"The model's format is '{found}'; this program reads {FORMAT}.")
        return spec

    def build(self) -> "nn.Module":
        """Build the untrained network.

        It takes (n, bands, rows, cols) normalised float32 and gives (n, classes, rows, cols) logits.
        """
        return build_network(
            self.architecture, self.encoder, len(self.bands), len(self.legend), self.options,
            self.decoder_channels,
        )  # fmt: skip


class StoredNetwork:
    """In a network's place: OpenVINO's copy of it in a file, for processes that do without torch."""

    def __init__(self, converted: Path | None) -> None:
        self.converted = converted
        """OpenVINO's description (.xml) with its weights beside it (.bin); None before they are made."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, ready to predict (eval mode, float32), and its description."""

    network: "nn.Module"
    spec: ModelSpec
    sha256: str
    """Hash of the file, hexadecimal; names the weights in `run.json`."""

    def at_tile(self, tile: int) -> "Checkpoint":
        """The same, to be run on windows of this side, pixels."""
        if self.spec.tile == tile:
            return self
        lap = min(self.spec.overlap, tile // 2)
        return replace(self, spec=replace(self.spec, tile=tile, overlap=lap))


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
    if path.suffix.lower() in EXPORTED:
        from landcover.exported_network import load_exported

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
    if path.suffix.lower() in EXPORTED:
        from landcover.exported_network import load_exported

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
