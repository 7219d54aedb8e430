"""What a network has to beat: the commonest class everywhere, and a random forest of single pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landcover.forest import PixelForest
from landcover.legend import NODATA
from landcover.metrics import ErrorMatrix
from pipeline.dataset import Dataset


def majority_baseline(dataset: Dataset, split: str, codes: Sequence[int]) -> ErrorMatrix:
    """The error matrix of a map that is the commonest class of the training split everywhere."""
    reference = dict(zip(dataset.legend.codes, dataset.class_counts(split).tolist(), strict=True))
    commonest = dataset.legend.codes[int(dataset.class_counts("train").argmax())]
    counts = np.zeros((len(codes), len(codes)), np.int64)
    counts[list(codes).index(commonest)] = [reference.get(code, 0) for code in codes]
    return ErrorMatrix(tuple(codes), counts)


def forest_baseline(
    dataset: Dataset,
    split: str,
    codes: Sequence[int],
    bands: Sequence[int],
    side: int,
    seed: int,
    *,
    pixels: int = 20_000,
    trees: int = 50,
    balanced: bool = True,
) -> ErrorMatrix:
    """The error matrix of a random forest fitted to pixels of the training split.

    bands: numbers of those that it sees. pixels: how many it is fitted to, about. balanced: whether their
    chips are drawn by class, as the network's may be.
    """
    sample = _sample(dataset, bands, side, seed, pixels, balanced=balanced)
    forest = PixelForest.fit(*sample, trees, seed)
    matrix = ErrorMatrix.empty(codes)
    for place in dataset.tiles(split, side):
        chip = dataset.read(place)
        mapped = forest.predict(chip.image[list(bands)], chip.valid & (chip.codes != NODATA))
        matrix += ErrorMatrix.count(mapped, chip.codes, codes)
    return matrix


def _sample(
    dataset: Dataset, bands: Sequence[int], side: int, seed: int, pixels: int, *, balanced: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Training pixels (n, bands) and their codes (n,), some of each chip."""
    rng = np.random.default_rng([seed, 9])
    chips = min(200, max(20, pixels // 200))
    share = -(-pixels // chips)
    values, codes = [], []
    for index in range(chips):
        chip = dataset.draw("train", side, seed, index, balanced)
        places = np.flatnonzero((chip.codes != NODATA) & chip.valid)
        chosen = rng.permutation(places)[:share]
        values.append(chip.image[list(bands)].reshape(len(bands), -1)[:, chosen].T)
        codes.append(chip.codes.ravel()[chosen])
    return np.concatenate(values), np.concatenate(codes)
