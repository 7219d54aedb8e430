"""Change of the surface in two images, whatever their classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.noise import fractal
from landcover.spectral_change import SpectralChange, reach

VALID = np.ones((90, 80), np.bool_)


def scene(seed: int, noise: float = 20.0) -> np.ndarray:
    """Two bands of the same ground, noise of its own, (2, 90, 80), whole numbers."""
    land = 1500 + 400 * fractal(np.random.default_rng(1), (90, 80), 2.0)
    own = np.random.default_rng(seed).standard_normal((2, 90, 80)) * noise
    return np.rint(np.stack([land, 1.4 * land + 300]) + own)


def test_a_new_patch_stands_out_from_another_light():
    """The second image is brighter and of other contrast; only the patch that really differs is evidence."""
    first, second = scene(2), np.rint(0.7 * scene(3) + 500)
    second[:, 30:50, 30:50] += np.array([500, -300])[:, None, None]
    model = SpectralChange.fit([(first, second, VALID)], 1.5)
    assert model
    percent = model.evidence(first, second, VALID)
    assert percent[35:45, 35:45].min() >= 95
    away = np.ones_like(VALID)
    away[22:58, 22:58] = False
    assert (percent[away] >= 50).mean() < 0.002
    assert model.gain == pytest.approx(np.full(2, 1 / 0.7), rel=0.03)


def test_an_image_against_itself_shows_nothing():
    """No spread at all is not taken for certainty."""
    first = scene(2)
    model = SpectralChange.fit([(first, first.copy(), VALID)], 2.0)
    assert model
    assert (model.evidence(first, first, VALID) == 1).all()


def test_swapping_the_images_gives_the_same_evidence():
    """The line between them is the same both ways."""
    first, second = scene(2), 0.8 * scene(3) + 100
    second[:, 10:20, 10:20] *= 1.5
    there = SpectralChange.fit([(first, second, VALID)], 1.5)
    back = SpectralChange.fit([(second, first, VALID)], 1.5)
    assert there
    assert back
    one, other = there.lengths(first, second, VALID), back.lengths(second, first, VALID)
    assert one == pytest.approx(other, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(top=st.integers(0, 80), height=st.integers(1, 10), sigma=st.sampled_from([0.5, 1.3, 3.0]))
def test_rows_may_be_cut_anywhere(top: int, height: int, sigma: float):
    """With the halo around them, some rows have the very numbers that they have in the whole."""
    first, second, valid = scene(2), scene(3), VALID.copy()
    valid[40:44, 10:60] = False
    model = SpectralChange.fit([(first, second, valid)], sigma)
    assert model
    assert model.halo == reach(sigma)
    whole = model.lengths(first, second, valid)
    bottom = min(top + height, 90)
    wide = slice(max(0, top - model.halo), min(90, bottom + model.halo))
    part = model.lengths(first[:, wide], second[:, wide], valid[wide])
    assert np.array_equal(part[top - wide.start : bottom - wide.start], whole[top:bottom])


def test_no_data_stays_out_of_it():
    """It gets 0, its neighbours are not pulled towards it, and too little of it gives no model."""
    first, second, valid = scene(2), scene(3), VALID.copy()
    valid[:, :30] = False
    first[:, ~valid] = second[:, ~valid] = 0
    second[:, 5:9, 40:50] = 9000
    model = SpectralChange.fit([(first, second, valid)], 1.5)
    assert model
    percent = model.evidence(first, second, valid)
    assert (percent[~valid] == 0).all()
    assert (percent[20:, 30] < 50).all()
    assert SpectralChange.fit([(first, second, VALID & False)], 1.5) is None
    assert SpectralChange.fit([], 1.5) is None
