"""Images as coarser and finer sensors would show them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.rescaling import nearest, rescale


def test_half_the_side_is_a_weighted_mean_by_hand() -> None:
    """Bands halved in size: a constant stays, and a ramp keeps its mean."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    made, valid = rescale(
        np.stack([ramp, np.full((8, 8), 5, np.float32)]), np.ones((8, 8), bool), 4
    )
    assert valid.all()
    assert made[0].mean() == pytest.approx(3.5)
    np.testing.assert_allclose(made[1], 5, rtol=1e-6)


def test_invalid_pixels_add_nothing() -> None:
    """Next to pixels without data a constant stays that constant, and those without data stay 0."""
    valid = np.ones((8, 8), np.bool_)
    valid[:, :4] = False
    image = np.where(valid, 7, 0).astype(np.float32)[None]
    for side in (4, 12):
        made, good = rescale(image, valid, side)
        np.testing.assert_array_equal(good[0], np.arange(side) >= side // 2)
        np.testing.assert_allclose(made[0][good], 7, rtol=1e-6)
        assert (made[0][~good] == 0).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.sampled_from([4, 5, 8]))
def test_codes_there_and_back(seed: int, factor: int) -> None:
    """Codes enlarged by a whole factor and taken back are the same, the largest code too."""
    codes = np.random.default_rng(seed).choice([0, 1, 7, 255], (6, 6)).astype(np.uint8)
    np.testing.assert_array_equal(nearest(nearest(codes, 6 * factor), 6), codes)
