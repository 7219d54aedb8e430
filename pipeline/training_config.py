"""How a model is trained: one YAML file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from landcover.augmentation import Augmentation
from landcover.errors import LandcoverError, SettingsError
from landcover.losses import check_loss
from landcover.networks import ARCHITECTURES, STEP, check_network, least_side
from pipeline.artifacts import fingerprint

_NO_MATTER = {"output", "device", "workers"}
_LONGEST = 100_000


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSettings(_Settings):
    """Which network."""

    architecture: str = "unet"
    """A name of `landcover.networks.ARCHITECTURES`."""
    encoder: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    """A name of smp's or `tu-` and a name of timm's; the architecture's usual one when left out."""
    weights: str = "none"
    """Where the encoder starts: `none`, `imagenet` (downloaded), or a .safetensors file."""
    options: dict[str, int] = {}
    """Of the architecture."""
    decoder_channels: tuple[int, ...] = ()
    """Of unet, unetplusplus and manet, deepest first, in place of the options depth and width."""
    start: str | Path | None = None
    """Checkpoint to go on from, as `--model` takes it (a shipped name, a path, an address), instead of all the above:
    its network, weights, scaling and tile."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.start and self.model_fields_set != {"start"}:
            raise SettingsError("Where start is said of a model, it says all; leave out the rest.")
        check_network(self.architecture, self.encoder_name, self.options)
        return self

    @property
    def encoder_name(self) -> str:
        """The encoder, said or usual."""
        usual = ARCHITECTURES.get(self.architecture)
        return self.encoder or (usual.encoder if usual else "")


class LossTerm(_Settings):
    """One loss of the sum."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str
    weight: float = 1.0

    @property
    def settings(self) -> dict[str, float]:
        """What else is said of it."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, value in self.settings.items():
            if type(value) not in {int, float}:
                raise SettingsError(f"The setting {name} of the loss {self.name} is no number.")
        check_loss(self.name, self.weight, self.settings)
        return self


class Teacher(_Settings):
    """A larger model from which this one learns too."""

    checkpoint: Path
    """.safetensors with the same classes, and no bands that the dataset lacks."""
    temperature: float = Field(default=2.0, gt=0, le=100)
    weight: float = Field(default=0.5, gt=0, le=1)
    """Share of the teacher in the loss; the labels have the rest."""


class Baseline(_Settings):
    """A per-pixel random forest, measured beside the network."""

    trees: int = Field(default=50, ge=1, le=1000)
    pixels: int = Field(default=20_000, ge=1, le=10_000_000)
    """Training pixels, drawn as the network's chips are."""


class TrainingConfig(_Settings):
    """How a model is trained. Paths are as those of the command line: from the current folder."""

    dataset: Path
    """YAML of the dataset."""
    output: Path | None = None
    """Folder of all that training makes."""
    model: ModelSettings = ModelSettings()
    tile: int = Field(default=256, ge=STEP, le=4096, multiple_of=STEP)
    """Side of a training chip, pixels."""
    mapping_tile: int | None = Field(default=None, ge=STEP, le=4096, multiple_of=STEP)
    """Side of a tile when maps are made, pixels; that of the chips when left out."""
    batch: int = Field(default=8, ge=2, le=4096)
    """Chips a batch; batch normalisation needs two."""
    accumulate: int = Field(default=1, ge=1, le=1024)
    """Batches whose gradients make one step."""
    steps: int | None = Field(default=None, ge=1)
    """Steps of the optimiser."""
    epochs: int | None = Field(default=None, ge=1)
    """Instead of steps: how often as many pixels are drawn as are labelled."""
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations; a tenth of all, or one epoch, when left out."""
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    weight_decay: float = Field(default=1e-2, ge=0, le=10)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    loss: tuple[LossTerm, ...] = Field(
        default=(LossTerm(name="cross-entropy"), LossTerm(name="dice", weight=0.5)), min_length=1
    )
    class_weights: Literal["none", "balanced"] = "none"
    """Of cross-entropy and focal: by how rare a class is in the training split."""
    balanced: bool | Annotated[float, Field(ge=0, le=1)] = True
    """Whether chips are drawn around each class equally often; a share of them does so."""
    augmentation: Augmentation | None = Augmentation()
    precision: Literal["32", "bf16-mixed"] = "32"
    keep: Literal["best", "last"] = "best"
    """Which weights are kept: those of the best validation, or the last, where validation is small or odd."""
    start_share: float = Field(default=0, ge=0, lt=1)
    """Share of the weights of `model.start` in the last ones, so that what they knew stays (WiSE-FT, Wortsman et al. 2022)."""
    settle: int = Field(default=0, ge=0, le=10_000)
    """Batches of unchanged chips of the mapping tile's side over which normalisation is averaged at the end."""
    early_stop: int | None = Field(default=None, ge=1)
    """Validations without a better mean IoU after which training ends."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    workers: int = Field(default=0, ge=0, le=256)
    """Processes that draw chips beside the one that trains."""
    device: str = "auto"
    teacher: Teacher | None = None
    baseline: Baseline | None = Baseline()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise SettingsError("Say either steps or epochs.")
        if self.start_share and not self.model.start:
            raise SettingsError(
                "A start_share needs the model's start: a checkpoint to go on from."
            )
        least = least_side(self.model.architecture, self.model.options)
        if self.tile < least:
            raise SettingsError(
                f"The tile is {self.tile}; {self.model.architecture} needs {least} or more."
            )
        return self

    def plan(self, labelled: int) -> tuple[int, int]:
        """Steps in all, a multiple of the second, and steps between validations.

        labelled: pixels of the training split. Raises SettingsError where they do not fit.
        """
        if self.epochs is not None:
            epoch = max(1, math.ceil(labelled / (self.tile**2 * self.batch * self.accumulate)))
            steps, every = epoch * self.epochs, self.validate_every or epoch
        else:
            steps = self.steps or 1
            every = self.validate_every or max(1, steps // 10)
            if self.validate_every is None:
                steps = math.ceil(steps / every) * every
        if steps % every:
            raise SettingsError(
                f"Training has {steps} steps and validates every {every}; make the first a multiple of "
                f"the second, {math.ceil(steps / every) * every} for example."
            )
        return steps, every

    def key(self, dataset_version: str, hashes: Mapping[str, str]) -> str:
        """Fingerprint of all that decides the weights; hashes: of the files that the config names."""
        fields = self.model_dump(mode="json", exclude=_NO_MATTER)
        if not self.start_share:  # so that trainings of before it was known keep their key
            del fields["start_share"]
        return fingerprint(fields, dataset_version, *([hashes] if hashes else []))


def load_training_config(path: Path) -> TrainingConfig:
    """Read a YAML file. Raises SettingsError with the reason where it cannot be used."""
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _LONGEST:
            raise SettingsError(f"{path} has {len(text)} characters; that is no training config.")
        fields = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise SettingsError(f"There is no training config {path}; give a .yml file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} is not readable YAML ({reason}).") from error
    if not isinstance(fields, Mapping):
        raise SettingsError(f"{path} holds no settings; it needs dataset and steps at least.")
    try:
        return TrainingConfig.model_validate(fields)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first(error)}") from error
    except LandcoverError as error:
        raise SettingsError(f"{path}: {error}") from error


def _first(error: ValidationError) -> str:
    """What is wrong first, in one sentence."""
    problem: Any = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"there is no setting '{place}'; remove it or correct its name."
    return f"the setting '{place}' is {problem['input']!r:.80}: {problem['msg']}."
