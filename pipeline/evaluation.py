"""What is counted of a model's labels, window by window."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from landcover.boundaries import count_boundaries
from landcover.legend import NODATA, Legend
from landcover.metrics import ErrorMatrix
from landcover.object_sizes import SizeCounts
from landcover.reliability import Reliability
from landcover.scores import Counts
from pipeline.dataset import TilePlace
from pipeline.window_labeller import Window, label

_LEAST_SHARE = 0.05
"""Labelled share of a chip's pixels without which it is not among the worst: a few pixels say little."""

Key = TypeVar("Key")


@dataclass(frozen=True, order=True)
class BadChip:
    """A chip, ordered by how wrong it is."""

    error: float
    """Share of its labelled pixels that are wrong."""
    first: int
    """Less for chips that come later, so that of equals the first are kept."""
    place: TilePlace = field(compare=False)
    pixels: int = field(compare=False)
    block: str = field(compare=False)


class Evaluation:
    """Counts of a split: by block and image, by size of objects, by confidence, and the worst chips.

    codes: classes of the reference and the model. temperatures: by name, that confidences are
    counted at. Its size depends on the number of blocks, never on that of the pixels.
    """

    def __init__(
        self,
        codes: Sequence[int],
        model: Legend,
        tolerances: Sequence[float],
        temperatures: Mapping[str, float],
        chips: int,
    ) -> None:
        self.codes, self._model = tuple(codes), model
        self.tolerances = tuple(tolerances)
        self.temperatures = dict(temperatures)
        self.parts: dict[tuple[int, str], Counts] = {}
        """Counts by image and name of the block."""
        self.sizes = SizeCounts.empty(codes)
        self.reliability = {name: Reliability.empty() for name in temperatures}
        self._worst: list[BadChip] = []
        self._chips, self._seen = chips, 0

    def add(self, window: Window, logits: NDArray[np.float32] | None) -> None:
        """Count the place of a window."""
        mapped = label(logits, window.valid, self._model.codes)
        counted = window.blocks >= 0
        self.sizes += SizeCounts.count(mapped, window.codes, self.codes, counted)
        self._count_blocks(window, mapped)
        labelled = counted & (window.codes != NODATA) & (mapped != NODATA)
        if logits is not None and labelled.any():
            right = (mapped == window.codes)[labelled]
            for name, temperature in self.temperatures.items():
                sure = confidence(logits[:, labelled], temperature)
                self.reliability[name] += Reliability.count(sure, right)
            self._keep(window, labelled, right)

    def worst(self) -> list[BadChip]:
        """The worst chips, the worst first."""
        return sorted(self._worst, reverse=True)

    def by_block(self) -> dict[str, Counts]:
        """Counts by name of the block; one name is one ground, or one group, in all images."""
        return _summed((name, counts) for (_, name), counts in sorted(self.parts.items()))

    def by_image(self) -> dict[int, Counts]:
        """Counts by number of the image."""
        return _summed((image, counts) for (image, _), counts in sorted(self.parts.items()))

    def _count_blocks(self, window: Window, mapped: NDArray[np.uint8]) -> None:
        numbers = np.unique(window.blocks[(window.blocks >= 0) & (window.codes != NODATA)])
        groups = np.full(window.blocks.shape, -1, np.int64)
        for i, number in enumerate(numbers):
            groups[window.blocks == number] = i
        borders = count_boundaries(
            mapped, window.codes, self.codes, self.tolerances, groups, len(numbers)
        )
        for i, number in enumerate(numbers):
            mine = np.where(groups == i, window.codes, np.uint8(NODATA))
            matrix = ErrorMatrix.count(mapped, mine, self.codes)
            key = window.place.image, window.block_names[number]
            counts = Counts(matrix, borders[i])
            self.parts[key] = self.parts[key] + counts if key in self.parts else counts

    def _keep(self, window: Window, labelled: NDArray[np.bool_], right: NDArray[np.bool_]) -> None:
        self._seen += 1
        if right.size < _LEAST_SHARE * window.place.side**2 or right.all():
            return
        numbers = window.blocks[labelled]
        block = window.block_names[int(np.bincount(numbers).argmax())]
        chip = BadChip(float(1 - right.mean()), -self._seen, window.place, int(right.size), block)
        if len(self._worst) < self._chips:
            heappush(self._worst, chip)
        elif self._worst:
            heappushpop(self._worst, chip)


def _summed(parts: Iterable[tuple[Key, Counts]]) -> dict[Key, Counts]:
    found: dict[Key, Counts] = {}
    for key, counts in parts:
        found[key] = found[key] + counts if key in found else counts
    return found


def confidence(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probability of the likeliest class, (n,), of logits (classes, n)."""
    behind = (logits - logits.max(axis=0)).astype(np.float64) / temperature
    return np.asarray(1 / np.exp(behind).sum(axis=0))


def all_codes(reference: Legend, model: Legend) -> Iterator[int]:
    """Codes of the reference in its order, then those that only the model has."""
    yield from reference.codes
    yield from (code for code in model.codes if code not in reference)
