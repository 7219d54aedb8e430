"""Chips for training: what a batch holds depends on the seed and its number, and on nothing else."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from landcover.augmentation import Augmentation, Batch, augment
from landcover.legend import Legend
from landcover.losses import IGNORED

if TYPE_CHECKING:
    from pipeline.dataset import Chip, Dataset


class TrainingBatches(TorchDataset[Batch]):
    """Batches by number: chips drawn from the training split and augmented."""

    def __init__(
        self,
        dataset: "Dataset",
        side: int,
        batch: int,
        seed: int,
        balanced: float,
        augmentation: Augmentation | None,
        mean: tuple[float, ...],
    ) -> None:
        self._dataset, self._side, self._batch = dataset, side, batch
        self._seed, self._balanced = seed, balanced
        self._augmentation, self._mean = augmentation, mean

    def __getitem__(self, number: int) -> Batch:
        first = number * self._batch
        cut = self._augmentation.cut(self._side) if self._augmentation else self._side
        batch = stack(
            [
                self._dataset.draw("train", cut, self._seed, index, self._is_balanced(index))
                for index in range(first, first + self._batch)
            ],
            self._dataset.legend,
        )
        if self._augmentation is None:
            return batch
        generator = torch.Generator().manual_seed(batch_seed(self._seed, number))
        return augment(
            batch, self._augmentation, generator, self._dataset.bands, self._mean, self._side
        )

    def _is_balanced(self, index: int) -> bool:
        """Spread evenly over the chips: of a share of 1/4, each fourth."""
        return math.floor((index + 1) * self._balanced) > math.floor(index * self._balanced)


class ValidationTiles(TorchDataset[Batch]):
    """Batches of the fixed tiles of the validation split, in order."""

    def __init__(self, dataset: "Dataset", side: int, batch: int) -> None:
        self._dataset, self._batch = dataset, batch
        self._places = list(dataset.tiles("validation", side))

    def __len__(self) -> int:
        return math.ceil(len(self._places) / self._batch)

    def __getitem__(self, number: int) -> Batch:
        if not 0 <= number < len(self):
            raise IndexError(number)
        places = self._places[number * self._batch : (number + 1) * self._batch]
        return stack([self._dataset.read(place) for place in places], self._dataset.legend)


class StepSampler(Sampler[int]):
    """Numbers of the batches of one epoch after the other.

    epoch: tells which is due, by steps taken. It is asked when an epoch is opened; after a resume
    Lightning does that before it knows its own epoch.
    """

    def __init__(self, batches: int, epoch: Callable[[], int]) -> None:
        self._batches, self._epoch = batches, epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[int]:
        first = self._epoch() * self._batches
        return iter(range(first, first + self._batches))


def loader(
    batches: TorchDataset[Batch], workers: int, sampler: Sampler[int] | None = None
) -> DataLoader[Batch]:
    """A DataLoader of whole batches; its workers are fresh processes, since GDAL must not be forked."""
    many: dict[str, Any] = (
        {"multiprocessing_context": "spawn", "persistent_workers": True, "prefetch_factor": 4}
        if workers
        else {}
    )
    return DataLoader(
        batches, batch_size=None, sampler=sampler, shuffle=False if sampler is None else None,
        num_workers=workers, pin_memory=torch.cuda.is_available(), **many,
    )  # fmt: skip


def stack(chips: "list[Chip]", legend: Legend) -> Batch:
    """Chips as tensors, class codes as channels."""
    table = channel_table(legend)
    images = torch.from_numpy(np.stack([chip.image for chip in chips]))
    targets = torch.from_numpy(np.stack([table[chip.codes] for chip in chips]))
    return Batch(images, targets, torch.from_numpy(np.stack([chip.valid for chip in chips])))


def channel_table(legend: Legend) -> NDArray[np.int64]:
    """Channel of each class code, (256,); IGNORED for 0 and for codes that are no class."""
    table = np.full(256, IGNORED, np.int64)
    table[list(legend.codes)] = range(len(legend))
    return table


def batch_seed(seed: int, number: int) -> int:
    """A seed for all that is random about a batch, far from those of its neighbours."""
    words = np.random.SeedSequence([seed, number, 7]).generate_state(2)
    return int(words[0]) << 31 ^ int(words[1])
