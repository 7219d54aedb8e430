"""All measures of a map against reference data, by name, from counts that add up over blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.bootstrap import bootstrap_intervals
from landcover.boundaries import BoundaryCounts
from landcover.metrics import ErrorMatrix

OVERALL = (
    "overall_accuracy", "kappa", "mean_iou", "mean_f1", "frequency_weighted_iou",
)  # fmt: skip
"""Of the error matrix, one number each; overall accuracy is also called pixel accuracy."""
BY_CLASS = ("iou", "f1", "users_accuracy", "producers_accuracy")
"""Of the error matrix, one number for each class; F1 is also called Dice."""


@dataclass(frozen=True)
class Score:
    """A measure and what it could as well have been."""

    value: float
    low: float
    """End of the interval; NaN where it is not known."""
    high: float


@dataclass(frozen=True)
class Counts:
    """What is counted of one block."""

    matrix: ErrorMatrix
    boundary: BoundaryCounts

    @classmethod
    def empty(cls, codes: Sequence[int], tolerances: Sequence[float]) -> "Counts":
        """Counts in which nothing is counted yet."""
        return cls(ErrorMatrix.empty(codes), BoundaryCounts.empty(codes, tolerances))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.matrix + other.matrix, self.boundary + other.boundary)

    def measures(self) -> dict[str, float]:
        """Measures by name: `mean_iou` of all classes, `iou:3` of class 3.

        Of borders, `boundary_f1@2` is the mean over the classes at 2 pixels, `boundary_f1@2:3` that
        of class 3; `boundary_iou` likewise. NaN where a measure is not known.
        """
        found = {name: float(getattr(self.matrix, name)) for name in OVERALL}
        for name in BY_CLASS:
            found |= self._by_class(name, getattr(self.matrix, name))
        for name, values in (
            ("boundary_f1", self.boundary.f1), ("boundary_iou", self.boundary.iou),
        ):  # fmt: skip
            for tolerance, row in zip(self.boundary.tolerances, values, strict=True):
                known = row[np.isfinite(row)]
                key = f"{name}@{tolerance:g}"
                found[key] = float(known.mean()) if known.size else float("nan")
                found |= self._by_class(key, row)
        return found

    def _by_class(self, name: str, values: NDArray[np.float64]) -> dict[str, float]:
        pairs = zip(self.matrix.codes, values.tolist(), strict=True)
        return {f"{name}:{code}": value for code, value in pairs}


def scores(
    blocks: Sequence[Counts], replicates: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Score]:
    """Every measure of all blocks together, with its percentile bootstrap interval over blocks.

    blocks: one or more, of the same classes and tolerances. With a single block, or no replicates,
    intervals are not known.
    """
    first = blocks[0]
    split = first.matrix.counts.size
    table = np.array(
        [np.concatenate([b.matrix.counts.ravel(), b.boundary.counts.ravel()]) for b in blocks]
    )

    def restored(flat: NDArray[np.int64]) -> dict[str, float]:
        matrix = ErrorMatrix(first.matrix.codes, flat[:split].reshape(first.matrix.counts.shape))
        shape = first.boundary.counts.shape
        border = BoundaryCounts(
            first.matrix.codes, first.boundary.tolerances, flat[split:].reshape(shape)
        )
        return Counts(matrix, border).measures()

    whole = restored(table.sum(axis=0))
    found = bootstrap_intervals(
        table, lambda flat: np.array([*restored(flat).values()]), replicates, seed, level
    )
    return {
        name: Score(value, *ends)
        for (name, value), ends in zip(whole.items(), found.tolist(), strict=True)
    }
