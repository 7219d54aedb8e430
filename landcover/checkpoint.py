"""A trained network with its description, wherever it was read from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from landcover.model_spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


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
