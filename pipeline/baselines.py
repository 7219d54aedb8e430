"""What a network has to beat: the commonest class everywhere, and a random forest of single pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landcover.forest import PixelForest
from landcover.legend import NODATA
from landcover.metrics import ErrorMatrix
from pipeline.dataset import Dataset

_CHIPS, _PIXELS, _TREES = 100, 20_000, 50


def majority_baseline(dataset: Dataset, split: str, codes: Sequence[int]) -> ErrorMatrix:
    """The error matrix of a map that is the commonest class of the training split everywhere."""
    reference = dict(zip(dataset.legend.codes, dataset.class_counts(split).tolist(), strict=True))
    commonest = dataset.legend.codes[int(dataset.class_counts("train").argmax())]
    counts = np.zeros((len(codes), len(codes)), np.int64)
    counts[list(codes).index(commonest)] = [reference.get(code, 0) for code in codes]
    return ErrorMatrix(tuple(codes), counts)


def forest_baseline(
    dataset: Dataset, split: str, codes: Sequence[int], bands: Sequence[int], side: int, seed: int
) -> ErrorMatrix:
    """The error matrix of a random forest fitted to pixels of the training split, drawn by class.

    bands: numbers of those that it sees.
    """
    forest = PixelForest.fit(*_sample(dataset, bands, side, seed), _TREES, seed)
    matrix = ErrorMatrix.empty(codes)
    for place in dataset.tiles(split, side):
        chip = dataset.read(place)
        mapped = forest.predict(chip.image[list(bands)], chip.valid & (chip.codes != NODATA))
        matrix += ErrorMatrix.count(mapped, chip.codes, codes)
    return matrix


def _sample(
    dataset: Dataset, bands: Sequence[int], side: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Training pixels (n, bands) and their codes (n,), some of each chip."""
    rng = np.random.default_rng([seed, 12])
    values, codes = [], []
    for index in range(_CHIPS):
        chip = dataset.draw("train", side, seed, index)
        places = rng.permutation(np.flatnonzero((chip.codes != NODATA) & chip.valid))
        chosen = places[: _PIXELS // _CHIPS]
        values.append(chip.image[list(bands)].reshape(len(bands), -1)[:, chosen].T)
        codes.append(chip.codes.ravel()[chosen])
    return np.concatenate(values), np.concatenate(codes)
