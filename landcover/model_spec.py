"""What a checkpoint says about itself: architecture, bands, scaling, legend, tile."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from landcover.errors import CheckpointError, LegendError
from landcover.legend import Legend
from landcover.networks import build_network, check_network, least_side, side_step

if TYPE_CHECKING:
    from torch import nn

FORMAT = "landcover-checkpoint-1"


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
