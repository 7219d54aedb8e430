"""Augmentation: labels go with their pixels, light behaves as light does, draws can be repeated."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.augmentation import (
    Augmentation,
    Batch,
    augment,
    blur,
    calibration,
    cutmix,
    d4,
    development,
    drop_bands,
    haze,
    haze_path,
    multi_scale,
    noise,
    shadow,
    sky_share,
    zoom,
)
from landcover.errors import SettingsError

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
MEAN = (0.05, 0.06, 0.07, 0.2, 0.15, 0.1)
ALL = Augmentation(
    band_dropout=0.2, cutmix=0.5, multi_scale=(0.5, 1.0, 1.5), shadow_probability=0.5, exposure=0.1,
    gamma=0.1, saturation=0.2, blur=1.0, noise=0.01,
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    """Draws that can be repeated."""
    return torch.Generator().manual_seed(seed)


def told_by_band(n: int = 6, side: int = 32, bands: int = 6) -> Batch:
    """Chips whose first band spells out the label: (label + 1) / 100. A corner has no data."""
    labels = torch.randint(5, (n, side // 8, side // 8), generator=generator(9))
    targets = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = torch.full((n, bands, side, side), 0.1)
    images[:, 0] = (targets + 1) / 100
    valid = torch.ones(n, side, side, dtype=torch.bool)
    valid[:, :5, :5] = False
    images[~valid[:, None].expand_as(images)] = 0
    return Batch(images, torch.where(valid, targets, -1), valid)


def test_d4_makes_the_eight_symmetries_and_moves_labels_along() -> None:
    """Among many draws of one chip there are eight different ones, labels still at their pixels."""
    chip = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    batch = Batch(
        chip.expand(200, 1, 2, 2), chip.long().expand(200, 2, 2), torch.ones(200, 2, 2).bool()
    )
    turned = d4(batch, generator())
    assert torch.equal(turned.images[:, 0].long(), turned.targets)
    assert len({tuple(x.flatten().tolist()) for x in turned.targets}) == 8


@pytest.mark.parametrize(
    "move",
    [
        lambda b: d4(b, generator(1)),
        lambda b: cutmix(b, 1.0, generator(2)),
        lambda b: augment(
            b, Augmentation(gain=0, offset=0, haze=0, shadow=0, scale=1), generator(3), BANDS, MEAN
        ),
    ],
)
def test_labels_stay_with_their_pixels(move: Callable[[Batch], Batch]) -> None:
    """Where pixels are only moved, each still has its own label, and no data stays no data."""
    images, targets, valid = move(told_by_band())
    told = (images[:, 0] * 100).round().long() - 1
    assert torch.equal(told, targets)
    assert torch.equal(valid, targets >= 0)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
def test_labels_stay_with_their_pixels_at_another_scale(factor: float) -> None:
    """Away from borders of classes, where bilinear values mix, value and label agree; no new label."""
    before = told_by_band(side=64)
    images, targets, valid = multi_scale(before, (factor,), generator())
    assert targets.shape[1:] == images.shape[2:] == (64 * factor, 64 * factor)
    told = images[:, 0] * 100 - 1
    assert ((told - targets).abs() < 1e-3)[valid].float().mean() > 0.5
    assert set(targets.unique().tolist()) <= {-1, 0, 1, 2, 3, 4}
    assert (targets[~valid] == -1).all()
    assert (images.movedim(1, -1)[~valid] == 0).all()


def test_zooming_out_shows_nothing_beyond_the_image() -> None:
    """A quarter of a chip at scale 1/2 is image; the rest is neither valid nor labelled."""
    batch = Batch(
        torch.ones(50, 1, 32, 32), torch.ones(50, 32, 32).long(), torch.ones(50, 32, 32).bool()
    )
    images, targets, valid = zoom(batch, 2.0, 1.0, generator())
    shares = valid.float().mean((1, 2))
    assert shares.min() < 0.5
    assert shares.min() > 0.2
    assert shares.max() == 1
    assert torch.equal(targets == 1, valid)
    assert ((images[:, 0] - 1).abs() < 1e-5)[valid].all()
    assert (images[:, 0][~valid] == 0).all()


def test_chips_cut_wider_show_more_ground_and_no_blank_rim() -> None:
    """Cut larger by the largest zoom, every chip is full of image at the side asked for, labels along."""
    settings = Augmentation(scale=1.8, scale_probability=1, wide=True)
    assert settings.cut(32) == 58
    assert Augmentation(scale=1.8).cut(32) == 32
    labels = torch.randint(5, (40, 6, 6), generator=generator(9))
    targets = labels.repeat_interleave(10, 1).repeat_interleave(10, 2)[:, :58, :58]
    whole = torch.ones(40, 58, 58, dtype=torch.bool)
    batch = Batch((targets[:, None] + 1.0) / 100, targets, whole)
    images, moved, valid = zoom(batch, 1.8, 1.0, generator(), 32)
    assert images.shape == (40, 1, 32, 32)
    assert valid.all()
    told = images[:, 0] * 100 - 1
    assert ((told - moved).abs() < 1e-3).float().mean() > 0.5


def test_without_zoom_a_chip_cut_wider_is_shown_pixel_by_pixel() -> None:
    """At zoom 1 and a whole shift the part shown is the image itself, not a stretched one."""
    row = torch.arange(4.0).repeat(4, 1)
    batch = Batch(row[None, None], row.long()[None], torch.ones(1, 4, 4).bool())
    images, _, _ = zoom(batch, 2.0, 0.0, generator(), 2)
    assert images[0, 0].diff(dim=1).flatten().tolist() == pytest.approx([1, 1], abs=1e-5)


def test_blur_spreads_a_point_and_keeps_its_sum() -> None:
    """A point becomes a hill of the same sum and Gaussian shape; without blur it stays."""
    images = torch.zeros(20, 2, 31, 31)
    images[:, :, 15, 15] = 1
    valid = torch.ones(20, 1, 31, 31, dtype=torch.bool)
    seen = blur(images, valid, 1.5, 0.5, generator())
    assert seen.sum((2, 3)).flatten().tolist() == pytest.approx([1.0] * 40, abs=1e-4)
    top = seen[:, 0, 15, 15]
    assert torch.equal(top, seen.amax((2, 3))[:, 0])
    assert 0.2 < (top > 0.999).float().mean() < 0.8
    assert top.min() < 0.3
    assert torch.allclose(seen, seen.mT, atol=1e-6)


def test_blur_mixes_nothing_with_what_is_not_valid() -> None:
    """Beside a hole the value stays that of the valid pixels, and the hole stays a hole."""
    valid = torch.ones(4, 1, 32, 32, dtype=torch.bool)
    valid[:, :, 10:20] = False
    images = torch.where(valid, 0.4, 0.0).expand(4, 3, 32, 32)
    seen = blur(images, valid, 2.0, 1.0, generator())
    assert ((seen - 0.4).abs() < 1e-5)[valid.expand_as(seen)].all()
    assert (seen[~valid.expand_as(seen)] == 0).all()


def test_development_keeps_grey_grey_and_order_in_order() -> None:
    """Saturation leaves grey alone, a spread of 0 leaves all alone, exposure and gamma keep the order."""
    grey = torch.linspace(0.05, 0.9, 8).repeat(30, 3, 1)[..., None]
    assert torch.equal(development(grey, 0, 0, 0, generator()), grey)
    assert torch.allclose(development(grey, 0, 0, 0.5, generator()), grey, atol=1e-6)
    seen = development(grey, 0.3, 0.3, 0.3, generator())
    assert (seen.diff(dim=2) > 0).all()
    assert seen.isfinite().all()
    assert seen[:, 0, 4, 0].std() > 0.05
    red = torch.tensor([0.8, 0.2, 0.2])[None, :, None, None].expand(50, 3, 1, 1)
    spread = development(red, 0, 0, 0.5, generator())
    assert torch.allclose(spread.mean(1), red.mean(1), atol=1e-6)
    assert (spread[:, 0] - spread[:, 1]).min() < 0.5
    assert (spread[:, 0] - spread[:, 1]).max() > 0.7


def test_development_of_values_below_zero_is_finite() -> None:
    """A composite has reflectance a little below 0; its power is no NaN."""
    dark = torch.full((5, 3, 2, 2), -0.02)
    assert development(dark, 0.2, 0.3, 0.3, generator()).isfinite().all()


def test_noise_has_no_bias_and_another_strength_in_each_chip() -> None:
    """Single pixels move about their value, by at most about the strength said."""
    seen = noise(torch.full((40, 1, 32, 32), 0.5), 0.1, generator())
    sigmas = seen.std((1, 2, 3))
    assert sigmas.max() < 0.105
    assert sigmas.min() < 0.02
    assert seen.mean().item() == pytest.approx(0.5, abs=0.002)


def test_no_data_does_not_darken_its_neighbours() -> None:
    """Beside a hole the value is that of the valid pixels, not a mixture with 0."""
    images = torch.full((8, 1, 32, 32), 0.4)
    valid = torch.ones(8, 32, 32, dtype=torch.bool)
    valid[:, 10:20, 10:20] = False
    images[:, :, 10:20, 10:20] = 0
    batch = zoom(Batch(images, valid.long(), valid), 1.5, 1.0, generator())
    assert ((batch.images[:, 0] - 0.4).abs() < 1e-5)[batch.valid].all()


def test_haze_adds_most_to_blue_and_hardly_to_the_infrared() -> None:
    """Path radiance falls with wavelength, over dark ground it adds, and white is never exceeded."""
    path = haze_path((*BANDS, "sar"))
    assert path[0].item() == pytest.approx(0.1)
    assert (path[:-1].diff() < 0)[:6].all()
    assert path[5] < 0.01
    assert path[6] == 0
    dark = haze(torch.zeros(400, 6, 2, 2), BANDS, 1.0, 0.5, generator())[:, :, 0, 0]
    assert (dark[:, 0] > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (dark >= 0).all()
    assert (haze(torch.ones(50, 6, 2, 2), BANDS, 1.0, 1.0, generator()) <= 1).all()


def test_shadow_takes_the_sun_and_leaves_the_sky() -> None:
    """Parts darken, never below the sky's share, blue least; the other parts stay as they were."""
    assert (sky_share(BANDS).diff() < 0).all()
    seen = shadow(torch.ones(40, 6, 64, 64), BANDS, 1.0, 1.0, generator())
    assert (seen >= sky_share(BANDS)[:, None, None] - 1e-6).all()
    assert (seen == 1).any()
    darkest = seen.amin((0, 2, 3))
    assert (darkest.diff() < 0).all()


def test_calibration_is_one_number_a_band() -> None:
    """All pixels of a band of a chip change alike, about as much as asked for."""
    seen = calibration(torch.ones(500, 2, 3, 3), 0.05, 0.0, generator())
    assert (seen == seen[:, :, :1, :1]).all()
    assert seen.log().std().item() == pytest.approx(0.05, rel=0.1)


def test_dropped_bands_show_their_mean_and_one_is_kept() -> None:
    """A band that is taken away is its mean everywhere; never all bands are."""
    seen = drop_bands(torch.ones(300, 3, 2, 2), (0.1, 0.2, 0.3), 0.9, generator())
    gone = (seen == torch.tensor([0.1, 0.2, 0.3])[:, None, None]).all(-1).all(-1)
    assert 0.5 < gone.float().mean() < 0.95
    assert not gone.all(1).any()


def test_cutmix_pastes_half_on_average() -> None:
    """The share of the other chip is uniform from 0 to 1."""
    images = torch.arange(400.0)[:, None, None, None].expand(400, 1, 32, 32)
    batch = Batch(images, torch.zeros(400, 32, 32).long(), torch.ones(400, 32, 32).bool())
    seen = cutmix(batch, 1.0, generator()).images
    assert (seen != images).float().mean().item() == pytest.approx(0.5, abs=0.05)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_equal_draws_equal_batches(seed: int) -> None:
    """The same generator gives the same batch; values are finite, and no data stays 0 and unlabelled."""
    first, second = (augment(told_by_band(), ALL, generator(seed), BANDS, MEAN) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.isfinite(first.images).all()
    assert (first.images.movedim(1, -1)[~first.valid] == 0).all()
    assert (first.targets[~first.valid] == -1).all()
    assert first.images.shape[2] % 32 == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0.5}, "scale"), ({"multi_scale": (9.0,)}, "multi_scale"), ({"haze": -1.0}, "haze"),
        ({"cutmix": 1.5}, "cutmix"), ({"shadow": float("nan")}, "shadow"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(change: dict[str, float], message: str) -> None:
    """Each setting has its bounds."""
    with pytest.raises(SettingsError, match=message):
        Augmentation(**change)  # type: ignore[arg-type]
