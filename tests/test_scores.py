"""All measures by name: against torchmetrics and scikit-learn, and their intervals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional import classification as tm

from landcover.boundaries import count_boundaries
from landcover.metrics import ErrorMatrix
from landcover.scores import Counts, scores

CODES = (1, 2, 3, 4)


def counted(seed: int, classes: int = 4, side: int = 24) -> tuple[Counts, np.ndarray, np.ndarray]:
    """Counts of two random rasters that agree on most pixels, and the rasters."""
    draw = np.random.default_rng(seed)
    reference = draw.integers(1, classes + 1, (side, side)).astype(np.uint8)
    noise = draw.integers(1, classes + 1, (side, side)).astype(np.uint8)
    mapped = np.where(draw.random((side, side)) < 0.7, reference, noise)
    border = count_boundaries(mapped, reference, CODES, (1.0,))[0]
    return Counts(ErrorMatrix.count(mapped, reference, CODES), border), mapped, reference


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_measures_are_those_of_torchmetrics_and_scikit_learn(seed: int) -> None:
    """Where the libraries have a measure, ours is theirs."""
    found, mapped, reference = counted(seed)
    ours = found.measures()
    pair = (
        torch.from_numpy(mapped.ravel() - 1).long(),
        torch.from_numpy(reference.ravel() - 1).long(),
    )
    theirs = {
        "overall_accuracy": tm.multiclass_accuracy(*pair, 4, average="micro"),
        "kappa": tm.multiclass_cohen_kappa(*pair, 4),
        "mean_iou": tm.multiclass_jaccard_index(*pair, 4),
        "mean_f1": tm.multiclass_f1_score(*pair, 4, average="macro"),
        "frequency_weighted_iou": tm.multiclass_jaccard_index(*pair, 4, average="weighted"),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), abs=1e-6), name
    per_class = {
        "iou": tm.multiclass_jaccard_index(*pair, 4, average="none"),
        "users_accuracy": tm.multiclass_precision(*pair, 4, average="none"),
        "producers_accuracy": tm.multiclass_recall(*pair, 4, average="none"),
        "f1": tm.multiclass_f1_score(*pair, 4, average="none"),
    }
    for name, values in per_class.items():
        np.testing.assert_allclose([ours[f"{name}:{c}"] for c in CODES], values, atol=1e-6)
    flat = reference.ravel(), mapped.ravel()
    assert ours["kappa"] == pytest.approx(sk.cohen_kappa_score(*flat))
    assert ours["mean_iou"] == pytest.approx(sk.jaccard_score(*flat, average="macro"))
    np.testing.assert_array_equal(found.matrix.counts.T, sk.confusion_matrix(*flat))


def test_intervals_hold_the_value_and_repeat() -> None:
    """The value of all blocks lies in its interval; equal seeds give equal intervals."""
    blocks = [counted(seed)[0] for seed in range(12)]
    one, again = scores(blocks, 200, 5), scores(blocks, 200, 5)
    assert one == again
    for name in ("overall_accuracy", "mean_iou", "iou:3", "boundary_f1@1", "boundary_iou@1:2"):
        assert one[name].low < one[name].value < one[name].high, name


def test_a_class_that_no_block_has_is_unknown() -> None:
    """Without a pixel of class 4 its measures are NaN and the means are over the others."""
    blocks = [counted(seed, classes=3)[0] for seed in range(3)]
    found = scores(blocks, 20)
    assert all(map(math.isnan, (found["iou:4"].value, found["iou:4"].low)))
    assert found["mean_iou"].value == pytest.approx(
        np.mean([found[f"iou:{code}"].value for code in (1, 2, 3)])
    )
