"""A network while it learns, as Lightning takes it: steps, validation, learning rate."""

import math
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import nn

from landcover.augmentation import Batch
from landcover.checkpoint import Checkpoint
from landcover.errors import CheckpointError
from landcover.losses import Loss, distillation
from landcover.metrics import ErrorMatrix
from landcover.model_spec import ModelSpec
from pipeline.chip_stream import batch_seed
from pipeline.joint_legend import joint_legend
from pipeline.training_config import TrainingConfig


class Learner(LightningModule):
    """Trains the network of a spec.

    Its state is the network's alone: normalisation is in the spec, a teacher in its own file.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        config: TrainingConfig,
        loss: Loss,
        steps: int,
        every: int,
        teacher: Checkpoint | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self._spec, self._config, self._loss = spec, config, loss
        self._steps, self._every = steps, every
        # In a tuple, so that its weights are no part of this module's state.
        self._teacher = (_Teacher(teacher, spec),) if teacher else ()
        self.figures: dict[str, Any] = {}
        """Of the last validation: mean_iou, overall_accuracy, iou, validation_loss."""
        self.train_loss = math.nan
        """Mean over the steps of this epoch so far."""

    def forward(self, images: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes, rows, cols) of reflectance (n, bands, rows, cols)."""
        logits: torch.Tensor = self.network(normalised(images, valid, self._spec))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of one batch."""
        epoch = self.global_step // self._every
        number = epoch * self._every * self._config.accumulate + batch_idx
        torch.manual_seed(batch_seed(self._config.seed, number))  # of dropout
        logits = self(batch.images, batch.valid)
        loss = self._loss(logits, batch.targets)
        for teacher in self._teacher:
            share = self._config.teacher.weight if self._config.teacher else 0.0
            loss = (1 - share) * loss + share * self._distilled(teacher, logits, batch)
        value = loss.detach().item()
        if not math.isfinite(value):
            raise CheckpointError(
                f"The loss is {value} at step {self.global_step}; lower the learning rate "
                f"({self._config.learning_rate:g}) or look at the dataset's values."
            )
        self.train_loss += (value - self.train_loss) / (batch_idx + 1)
        self.log("train_loss", value)
        return loss

    def _distilled(self, teacher: "_Teacher", logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        temperature = self._config.teacher.temperature if self._config.teacher else 1.0
        return distillation(logits, teacher.logits(batch), batch.valid, temperature)

    def on_train_epoch_start(self) -> None:
        """Begin the mean loss anew."""
        self.train_loss = 0.0

    def on_validation_epoch_start(self) -> None:
        """Begin the error matrix anew."""
        self._matrix = ErrorMatrix.empty(self._spec.legend.codes)
        self._losses: list[float] = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's
        """Count what is right."""
        logits = self(batch.images, batch.valid)
        self._losses.append(self._loss(logits, batch.targets).item())
        self._matrix += count(logits, batch.targets, self._spec)

    def on_validation_epoch_end(self) -> None:
        """Log the figures."""
        self.figures = figures(self._matrix, self._spec) | {
            "validation_loss": float(np.mean(self._losses))
        }
        score = self.figures["mean_iou"]
        self.log("mean_iou", 0.0 if score is None else score)
        self.log("validation_loss", self.figures["validation_loss"])

    def configure_optimizers(self) -> Any:
        """AdamW (Loshchilov & Hutter 2019) under a learning rate that follows from the step alone."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            self._config.learning_rate,
            weight_decay=self._config.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: rate(self._config.schedule, step, self._steps, self._config.warmup),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Teacher:
    """A trained network that says what it thinks of the learner's batches, in its order of classes."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec) -> None:
        theirs = checkpoint.spec
        if missing := sorted(set(theirs.bands) - set(spec.bands)):
            raise CheckpointError(
                f"The teacher needs the bands {', '.join(missing)}, which the dataset has not."
            )
        if sorted(theirs.legend.codes) != sorted(spec.legend.codes):
            raise CheckpointError(
                f"The teacher's classes have the codes {sorted(theirs.legend.codes)} and the dataset's "
                f"{sorted(spec.legend.codes)}; they must be the same."
            )
        joint_legend(spec.legend, theirs.legend)
        self._network, self._spec = checkpoint.network.eval().requires_grad_(False), theirs
        self._bands = [spec.bands.index(band) for band in theirs.bands]
        self._order = [theirs.legend.codes.index(code) for code in spec.legend.codes]

    @torch.no_grad()
    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits (n, classes, rows, cols) in the learner's order."""
        self._network.to(batch.images.device)
        images = normalised(batch.images[:, self._bands], batch.valid, self._spec)
        answer: torch.Tensor = self._network(images)[:, self._order]
        return answer


def normalised(images: torch.Tensor, valid: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """What the network sees of reflectance: (x - mean) / std, and 0 where it is not valid."""
    mean, std = (
        torch.tensor(x, dtype=images.dtype, device=images.device)[:, None, None]
        for x in (spec.mean, spec.std)
    )
    seen = torch.where(valid[:, None], (images - mean) / std, 0)
    return seen.contiguous(memory_format=torch.channels_last)


def rate(schedule: str, step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step: linear rise, then half a cosine, a power or level.

    cosine: Loshchilov & Hutter 2017, without restarts. poly: (1 - t)^0.9, Chen et al. 2017.
    """
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    t = min(1.0, (step - rise) / max(1, steps - rise))
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * t))
    return math.pow(1 - t, 0.9) if schedule == "poly" else 1.0


def count(logits: torch.Tensor, targets: torch.Tensor, spec: ModelSpec) -> ErrorMatrix:
    """Labels of some logits against the truth; pixels without a label are left out."""
    codes = np.array((*spec.legend.codes, 0), np.uint8)  # the last, -1, is IGNORED
    mapped = codes[logits.argmax(1).cpu().numpy()]
    truth = codes[targets.cpu().numpy()]
    return ErrorMatrix.count(mapped, truth, spec.legend.codes)


def figures(matrix: ErrorMatrix, spec: ModelSpec) -> dict[str, Any]:
    """Overall accuracy, mean IoU and IoU of each class that occurs, rounded; None where unknown."""
    return {
        "pixels": matrix.pixels,
        "overall_accuracy": _rounded(matrix.overall_accuracy),
        "mean_iou": _rounded(matrix.mean_iou),
        "iou": {
            name: _rounded(value)
            for name, value in zip(spec.legend.names, matrix.iou.tolist(), strict=True)
            if math.isfinite(value)
        },
    }


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
