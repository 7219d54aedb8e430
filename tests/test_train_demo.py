"""The command that trains the shipped weights, on a small scale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from landcover.checkpoint_file import load_checkpoint
from landcover.countries import random_options
from landcover.simulation import LEGEND
from landcover.spectra import BANDS
from pipeline import train_demo
from pipeline.train_demo import (
    FIRST_HELD_OUT_SEED,
    FIRST_TRAINING_SEED,
    Region,
    TrainingOptions,
    demo_spec,
    draw_batch,
    score,
    segmentation_loss,
    simulate_region,
    through_air,
)


@pytest.fixture(scope="module")
def region() -> Region:
    """One small simulated region."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_demo, "SIDE", 256)
        return simulate_region(FIRST_TRAINING_SEED)


def test_region_holds_a_composite_and_a_single_date(region: Region) -> None:
    """Both images have six bands of positive numbers; classes are channel numbers."""
    assert region.images.shape == (2, 6, 256, 256)
    assert region.images.min() >= 1
    assert region.classes.shape == (256, 256)
    assert region.classes.max() < len(LEGEND)


def test_countries_differ() -> None:
    """Fifty draws give fifty countries, among them coasts, deserts and cities."""
    drawn = [random_options(np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(drawn)) == 50
    assert any(o.sea > 0 for o in drawn)
    assert any(o.desert > 0.6 for o in drawn)
    assert any(o.city > 0.7 for o in drawn)


def test_air_keeps_the_scene_recognisable() -> None:
    """Haze adds at most about 0.15 of reflectance, most in blue, hardly any in the infrared."""
    rng = np.random.default_rng(0)
    dark = np.full((6, 8, 8), 0.02, np.float32)
    added = np.array([through_air(dark, rng).mean((1, 2)) - 0.02 for _ in range(300)])
    assert added[:, 0].max() < 0.2
    assert added[:, 0].mean() > added[:, 2].mean() > added[:, 5].mean()
    assert np.abs(added[:, 5]).max() < 0.02


def test_batches_are_normalised_chips_with_labels(region: Region) -> None:
    """A batch has chips of the side asked for, about unit spread, and labels in the legend."""
    spec, options = demo_spec([region]), TrainingOptions(batch=6, side=96)
    images, labels = draw_batch([region], spec, options, np.random.default_rng(1))
    assert images.shape == (6, len(BANDS), 96, 96)
    assert labels.shape == (6, 96, 96)
    assert labels.dtype == torch.int64
    assert 0.2 < images.std() < 5
    assert labels.max() < len(LEGEND)


def test_loss_is_least_for_the_truth() -> None:
    """A confident right answer costs less than no answer, and that less than a wrong one."""
    labels = torch.tensor([[[0, 1], [2, 2]]])
    right = nn.functional.one_hot(labels, 8).permute(0, 3, 1, 2).float() * 6
    losses = [
        segmentation_loss(x, labels) for x in (right, torch.zeros(1, 8, 2, 2), right.roll(1, 1))
    ]
    assert losses[0] < losses[1] < losses[2]


class Oracle(nn.Module):
    """Answers the class that the first band spells out."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of (1, bands, rows, cols)."""
        return nn.functional.one_hot(image[:, 0].round().long(), 8).permute(0, 3, 1, 2).float()


def test_score_of_a_known_answer(region: Region) -> None:
    """One class all right, one half taken for the other: 0.75 accuracy, IoU 2/3 and 1/2."""
    classes = np.zeros((32, 32), np.uint8)
    classes[16:] = 1
    answers = classes.astype(np.uint16)
    answers[16:24] = 0
    known = Region(np.repeat(answers[None, None], 6, 1), classes)
    spec = replace(demo_spec([region]), mean=(0.0,) * 6, std=(1e-4,) * 6, tile=32, overlap=0)
    figures = score(Oracle(), [known], spec)
    assert figures["overall_accuracy"] == 0.75
    assert figures["iou"]["Water"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["iou"]["Tree cover"] == 0.5
    assert figures["mean_iou"] == pytest.approx(7 / 12, abs=1e-4)


def test_training_writes_a_checkpoint_that_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: Region
) -> None:
    """The file loads, its record names data, seeds and figures, and training is repeatable."""
    monkeypatch.setattr(train_demo, "simulate_regions", lambda seeds, *_: [region] * len(seeds))
    options = TrainingOptions(steps=3, batch=2, regions=2, held_out=1)
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in files:
        train_demo.train_demo(path, options, report=lambda _: None)
    spec = load_checkpoint(files[0]).spec
    assert spec.bands == BANDS
    assert spec.legend == LEGEND
    assert spec.training["seeds"] == [FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 1]
    assert spec.training["held_out_seeds"] == [FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED]
    assert 0 <= spec.training["held_out"]["overall_accuracy"] <= 1
    assert files[0].read_bytes() == files[1].read_bytes()
