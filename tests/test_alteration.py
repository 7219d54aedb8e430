"""Multivariate alteration detection: what changed stands out, whatever the brightness of either image."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh

from landcover.alteration import Alteration, Moments, smoothed
from landcover.noise import fractal

VALID = np.ones((90, 80), np.bool_)
BANDS = 3


@functools.cache
def ground() -> np.ndarray:
    """Three bands that share some structure, (3, 90, 80)."""
    rng = np.random.default_rng(1)
    one, two, three = (400 * fractal(rng, (90, 80), 2.0) for _ in range(3))
    return np.stack([1500 + one, 1800 + one - two, 2500 + two + 0.5 * three])


def scene(seed: int, noise: float = 20.0) -> np.ndarray:
    """The ground with noise of its own."""
    land = ground()
    return land + np.random.default_rng(seed).standard_normal(land.shape) * noise


def changed_scene(seed: int) -> np.ndarray:
    """The same with another ground in a patch."""
    image = scene(seed)
    image[:, 30:50, 30:50] += np.array([500, -300, 200])[:, None, None]
    return image


def fitted(first: np.ndarray, second: np.ndarray, sigma: float = 1.0) -> Alteration:
    """Learned from the whole."""
    model = Alteration.fit([(first, second, VALID)], sigma)
    assert model
    return model


def test_moments_by_hand():
    """Three pixels of one band in each image; the weight 2 counts a pixel twice; parts add up."""
    first, second = np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 2.0, 6.0]])
    whole = Moments.of([(first, second)], [np.array([2.0, 1.0, 1.0])])
    assert whole.mean == pytest.approx([2.0, 3.0])
    assert whole.covariance == pytest.approx(np.array([[1.5, 2.0], [2.0, 3.0]]))
    parts = [(first[:, :1], second[:, :1]), (first[:, 1:], second[:, 1:])]
    cut = Moments.of(parts, [np.array([2.0]), np.array([1.0, 1.0])])
    assert cut.mean == pytest.approx(whole.mean)
    assert cut.covariance == pytest.approx(whole.covariance)


def test_one_band_by_hand():
    """Of one band the variate is the difference of both images, each in its own standard deviations."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal(4000) * 300
    y = 0.5 * x + rng.standard_normal(4000) * 20
    model = Alteration._from(Moments.of([(x[None], y[None])], [np.ones(4000)]), 1.0, 1)
    rho = np.corrcoef(x, y)[0, 1]
    assert model.correlations == pytest.approx([rho], rel=1e-4)
    standard = (x - x.mean()) / x.std() - (y - y.mean()) / y.std()
    expected = standard**2 / (2 * (1 - rho))
    assert model.chi_square(x[None], y[None]) == pytest.approx(expected, rel=2e-2, abs=1e-3)


def test_correlations_are_those_of_the_generalised_eigenproblem():
    """Nielsen 2007, eq. 3: S12 S22^-1 S21 a = rho^2 S11 a."""
    first, second = scene(2).reshape(BANDS, -1), changed_scene(3).reshape(BANDS, -1)
    moments = Moments.of([(first, second)], [np.ones(first.shape[1])])
    s = moments.covariance
    s11, s12, s22 = s[:BANDS, :BANDS], s[:BANDS, BANDS:], s[BANDS:, BANDS:]
    values = eigh(s12 @ np.linalg.inv(s22) @ s12.T, s11, eigvals_only=True)
    found = Alteration._from(moments, 1.0, 1).correlations
    assert found == pytest.approx(np.sqrt(values[::-1]), abs=1e-4)


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 1000))
def test_no_linear_change_of_the_bands_counts(seed: int):
    """Either image may be mixed from other bands, brightened and turned dark: the same evidence."""
    rng = np.random.default_rng(seed)
    mixes = [
        np.eye(BANDS) * rng.uniform(0.6, 2, BANDS) + rng.uniform(-0.25, 0.25, (BANDS, BANDS))
        for _ in range(2)
    ]
    offsets = rng.uniform(-3000, 3000, (2, BANDS, 1, 1))
    first, second = scene(2), changed_scene(3)
    one, other = (
        np.einsum("ij,jrc->irc", mix, image) + offset
        for mix, image, offset in zip(mixes, (first, second), offsets, strict=True)
    )
    plain = fitted(first, second).lengths(first, second, VALID)
    assert fitted(one, other).lengths(one, other, VALID) == pytest.approx(plain, rel=0.03, abs=0.02)


def test_a_new_patch_stands_out_and_little_else():
    """Its pixels have evidence above 50 %, and hardly any away from it."""
    first, second = scene(2), changed_scene(3)
    model = fitted(first, second)
    percent = model.evidence(first, second, VALID)
    assert percent[33:47, 33:47].min() >= 90
    away = np.ones_like(VALID)
    away[22:58, 22:58] = False
    assert (percent[away] >= 50).mean() < 0.005
    assert model.rounds < 30


def test_weighing_down_what_changed_finds_the_unchanged_land():
    """After the rounds the correlations are those of the land without the patch."""
    first, second = scene(2), changed_scene(3)
    inside = np.zeros_like(VALID)
    inside[28:52, 28:52] = True
    blocks = [smoothed(image, VALID, 1.0)[:, ~inside] for image in (first, second)]
    truth = Alteration._from(
        Moments.of([(blocks[0], blocks[1])], [np.ones(blocks[0].shape[1])]), 1.0, 1
    )
    assert fitted(first, second).correlations == pytest.approx(truth.correlations, abs=0.01)


def test_an_image_against_itself_shows_nothing():
    """No spread at all is not taken for certainty, nor is a band of one value."""
    first = np.rint(scene(2))
    first[2] = 700
    assert (fitted(first, first.copy()).evidence(first, first, VALID) == 1).all()


def test_swapping_the_images_gives_the_same_evidence():
    """It knows no direction."""
    first, second = scene(2), changed_scene(3)
    there, back = fitted(first, second), fitted(second, first)
    assert there.lengths(first, second, VALID) == pytest.approx(
        back.lengths(second, first, VALID), rel=1e-4, abs=1e-4
    )


@settings(deadline=None, max_examples=8)
@given(top=st.integers(0, 80), height=st.integers(1, 10), sigma=st.sampled_from([0.5, 1.3, 3.0]))
def test_rows_may_be_cut_anywhere(top: int, height: int, sigma: float):
    """With the halo around them, some rows have the very evidence that they have in the whole."""
    first, second, valid = scene(2), changed_scene(3), VALID.copy()
    valid[40:44, 10:60] = False
    model = Alteration.fit([(first, second, valid)], sigma)
    assert model
    whole = model.evidence(first, second, valid)
    bottom = min(top + height, 90)
    wide = slice(max(0, top - model.halo), min(90, bottom + model.halo))
    part = model.evidence(first[:, wide], second[:, wide], valid[wide])
    assert np.array_equal(part[top - wide.start : bottom - wide.start], whole[top:bottom])
    assert (whole[~valid] == 0).all()


def test_too_little_data_gives_nothing():
    """No model of no pixel."""
    first = scene(2)
    assert Alteration.fit([(first, first, VALID & False)], 1.0) is None
    assert Alteration.fit([], 1.0) is None
