"""Losses: values a person can compute, pixels without labels, gradients that stay finite."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.errors import SettingsError
from landcover.losses import (
    BOUNDARY_REACH,
    IGNORED,
    LOSSES,
    balanced_weights,
    boundary,
    cross_entropy,
    dice,
    distillation,
    focal,
    jaccard,
    lovasz,
    set_cross_entropy,
    signed_distances,
    sum_of_losses,
    tversky,
)


def logits_of(shares: list[list[float]]) -> torch.Tensor:
    """Logits (1, classes, 1, pixels) whose softmax gives these shares, a list for each pixel."""
    return torch.tensor(shares, dtype=torch.float64).log().T[None, :, None]


def target_of(channels: list[int]) -> torch.Tensor:
    """Targets (1, 1, pixels)."""
    return torch.tensor(channels)[None, None]


TWO = logits_of([[0.75, 0.25], [0.5, 0.5]])
"""Two pixels: p(0) is 3/4 and 1/2."""
TRUTH = target_of([0, 1])


def test_cross_entropy_by_hand() -> None:
    """-(log 3/4 + log 1/2) / 2; with weights 1 and 3 the second pixel counts three times."""
    plain = -(math.log(0.75) + math.log(0.5)) / 2
    assert cross_entropy(TWO, TRUTH).item() == pytest.approx(plain)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    weighted = -(math.log(0.75) + 3 * math.log(0.5)) / 4
    assert cross_entropy(TWO, TRUTH, weights).item() == pytest.approx(weighted)


def test_sets_of_classes_by_hand() -> None:
    """-log of the sum over the set: 1/5 + 3/10 where channels 0 and 1 may be, 1/2 where only 2 may be.

    Of three pixels with the first set and one with the second, the kinds weigh as root 3 to 1. A set of all
    channels costs nothing; pixels with the set 0 are left out; without any set the loss is 0.
    """
    three = logits_of([[0.2, 0.3, 0.5]] * 4)
    assert set_cross_entropy(three, target_of([3, 0, 0, 0])).item() == pytest.approx(-math.log(0.5))
    assert set_cross_entropy(three, target_of([7, 7, 0, 7])).item() == pytest.approx(0)
    root = math.sqrt(3)
    expected = -(root * math.log(0.2) + math.log(0.5)) / (root + 1)
    assert set_cross_entropy(three, target_of([1, 1, 1, 4])).item() == pytest.approx(expected)
    assert set_cross_entropy(three, target_of([0, 0, 0, 0])).item() == 0


def test_sets_of_one_class_are_cross_entropy() -> None:
    """With sets of one class, as many pixels of each, it is plain cross entropy, gradient and all."""
    logits = torch.randn((1, 3, 2, 3), generator=torch.Generator().manual_seed(0)).requires_grad_()
    truth = torch.tensor([[[0, 1, 2], [2, 1, 0]]])
    mine, theirs = set_cross_entropy(logits, 1 << truth), cross_entropy(logits, truth)
    assert mine.item() == pytest.approx(theirs.item())
    (ours,), (other,) = (torch.autograd.grad(loss, logits) for loss in (mine, theirs))
    assert torch.allclose(ours, other, atol=1e-6)


def test_focal_by_hand() -> None:
    """-(1/16 log 3/4 + 1/4 log 1/2) / 2 with gamma 2."""
    expected = -(math.log(0.75) / 16 + math.log(0.5) / 4) / 2
    assert focal(TWO, TRUTH).item() == pytest.approx(expected)


def test_overlaps_by_hand() -> None:
    """Class 0: TP 3/4, FP 1/2, FN 1/4. Class 1: TP 1/2, FP 1/4, FN 1/2."""
    assert dice(TWO, TRUTH).item() == pytest.approx(1 - (1.5 / 2.25 + 1 / 1.75) / 2)
    assert jaccard(TWO, TRUTH).item() == pytest.approx(1 - (0.75 / 1.5 + 0.5 / 1.25) / 2)
    by_hand = (0.75 / (0.75 + 0.3 * 0.5 + 0.7 * 0.25) + 0.5 / (0.5 + 0.3 * 0.25 + 0.7 * 0.5)) / 2
    assert tversky(TWO, TRUTH).item() == pytest.approx(1 - by_hand)


def test_lovasz_by_hand() -> None:
    """Errors of class 0: 1/2 (false), 1/4 (missed): 1/2 x 1/2 + 1/4 x 1/2; of class 1 the same."""
    # Class 0, errors sorted: the false pixel first. One false of 1 true: loss 1 - 1/2 = 1/2; then
    # the true one missed too: loss 1, so its share is 1/2. Class 1: the missed first, loss 1 at
    # once, and the second adds nothing.
    class0 = 0.5 * 0.5 + 0.25 * 0.5
    class1 = 0.5 * 1.0
    assert lovasz(TWO, TRUTH).item() == pytest.approx((class0 + class1) / 2)


@pytest.mark.parametrize("channels", [[0, 1, 1, 0, 1], [0, 0, 0, 1, 1]])
@pytest.mark.parametrize("mapped", [[0, 1, 0, 0, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]])
def test_lovasz_of_certain_maps_is_the_jaccard_loss(channels: list[int], mapped: list[int]) -> None:
    """On a map without doubt it equals 1 - IoU, mean over the classes of the truth (Berman 2018)."""
    certain = logits_of([[1 - 1e-12, 1e-12] if m == 0 else [1e-12, 1 - 1e-12] for m in mapped])
    truth, found = np.array(channels), np.array(mapped)
    ious = [
        ((truth == c) & (found == c)).sum() / ((truth == c) | (found == c)).sum()
        for c in set(channels)
    ]
    assert lovasz(certain, target_of(channels)).item() == pytest.approx(1 - np.mean(ious), abs=1e-9)


def test_signed_distances_by_hand() -> None:
    """Half a pixel beside a border, one more each step; 1 for a class that is not there."""
    phi = signed_distances(np.array([[0, 0, 0, 1, 1, -1]]), 3) * BOUNDARY_REACH
    assert phi[0].tolist() == [[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]]
    assert phi[1, 0, :5].tolist() == [2.5, 1.5, 0.5, -0.5, -1.5]
    assert (phi[2] == BOUNDARY_REACH).all()


def test_boundary_by_hand() -> None:
    """Two pixels of two classes: phi is -0.5 for the true class and 0.5 for the other, over 20."""
    expected = (-0.5 * 0.75 + 0.5 * 0.25 + 0.5 * 0.5 - 0.5 * 0.5) / 2 / BOUNDARY_REACH
    assert boundary(TWO, TRUTH).item() == pytest.approx(expected)


def test_distillation_by_hand() -> None:
    """KL of (1/2, 1/2) against (3/4, 1/4), times the square of the temperature 1; 0 for equals."""
    student, teacher = logits_of([[0.75, 0.25]]), logits_of([[0.5, 0.5]])
    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert distillation(student, teacher, valid, 1.0).item() == pytest.approx(expected, rel=1e-6)
    assert distillation(student, student, valid, 3.0).item() == pytest.approx(0, abs=1e-7)
    assert distillation(student, teacher, ~valid, 1.0).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_without_label_change_nothing(name: str) -> None:
    """Whatever the network says of them, the loss is the same and their gradient is 0."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, generator=generator)
    target = torch.randint(3, (2, 6, 6), generator=generator)
    target[:, 2:4] = IGNORED
    other = logits.clone()
    other[:, :, 2:4] = torch.randn(2, 3, 2, 6, generator=generator) * 9
    other.requires_grad_()
    loss = LOSSES[name](other, target)
    assert loss.item() == pytest.approx(LOSSES[name](logits, target).item(), abs=1e-6)
    loss.backward()
    assert (other.grad[:, :, 2:4] == 0).all()
    assert (other.grad != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_labels_gives_zero_and_no_gradient(name: str) -> None:
    """Nothing to learn is no error: loss 0, gradient 0."""
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = LOSSES[name](logits, torch.full((2, 4, 4), IGNORED))
    assert loss.item() == 0
    loss.backward()
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(1, 5),
    spread=st.sampled_from([0.0, 1.0, 50.0, 1000.0]),
    ignored=st.floats(0, 1),
)
def test_values_and_gradients_are_finite(
    name: str, seed: int, classes: int, spread: float, ignored: float
) -> None:
    """For any logits, however sure, any share of labels, and classes that are not there."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(2, classes, 5, 5, generator=generator) * spread).requires_grad_()
    target = torch.randint(classes, (2, 5, 5), generator=generator)
    target[torch.rand(2, 5, 5, generator=generator) < ignored] = IGNORED
    loss = LOSSES[name](logits, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_truth_costs_least(name: str) -> None:
    """A sure right answer costs less than no answer, and that less than a sure wrong one."""
    target = torch.tensor([[[0, 0, 1], [2, 2, 1]]])
    right = torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float() * 9
    costs = [LOSSES[name](x, target).item() for x in (right, right * 0, right.roll(1, 1))]
    assert costs[0] < costs[1] < costs[2]


def test_a_sum_is_the_sum() -> None:
    """Terms add with their weights and settings; class weights go where they belong."""
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64).float()
    terms: list[Any] = [("cross-entropy", 2.0, {}), ("tversky", 0.5, {"alpha": 0.5, "beta": 0.5})]
    total = sum_of_losses(terms, weights)(TWO, TRUTH)
    expected = 2 * cross_entropy(TWO.float(), TRUTH, weights) + 0.5 * dice(TWO, TRUTH)
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "no loss"),
        ([("hinge", 1.0, {})], "'hinge' is not known"),
        ([("dice", 0.0, {})], "above 0"),
        ([("dice", math.nan, {})], "above 0"),
        ([("dice", 1.0, {"gamma": 2})], "no setting 'gamma'"),
        ([("focal", 1.0, {"gamma": 0.5})], "1 to 10"),
    ],
)
def test_sums_that_cannot_be(terms: list[Any], message: str) -> None:
    """Unknown losses and settings are refused by name."""
    with pytest.raises(SettingsError, match=message):
        sum_of_losses(terms)


def test_balanced_weights_by_hand() -> None:
    """100 pixels, 90 and 10 and none: 100 / (2 x 90), 100 / (2 x 10), and 1."""
    weights = balanced_weights(np.array([90, 10, 0]))
    assert weights == pytest.approx([100 / 180, 5, 1])
