"""The shift between two images, to a small part of a pixel."""

import numpy as np
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter

from landcover.noise import fractal
from landcover.registration import image_shift, phase_shift

VALID = np.ones((160, 160), np.bool_)


def ground(seed: int, bands: int = 3) -> np.ndarray:
    """Fields and edges, (bands, 320, 320)."""
    rng = np.random.default_rng(seed)
    fields = np.floor(2.5 * fractal(rng, (320, 320), 2.2, 6.0, 90.0)) * 400
    return np.stack([gaussian_filter(fields + 40 * fractal(rng, (320, 320), 1.0), 0.9) for _ in range(bands)])  # fmt: skip


def moved(image: np.ndarray, rows: float, cols: float) -> np.ndarray:
    """Shifted exactly, in the Fourier domain."""
    return np.stack([np.real(np.fft.ifft2(fourier_shift(np.fft.fft2(b), (rows, cols)))) for b in image])  # fmt: skip


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, 0.0), (-0.25, 0.3), (1.35, -0.7), (0.1, 2.6)])
def test_a_known_shift_is_found_to_a_twentieth_of_a_pixel(shift: tuple[float, float]):
    """Even where the second image is brighter, of other contrast, and noisy."""
    image = ground(4)
    noise = np.random.default_rng(5).standard_normal((3, 320, 320)) * 15
    other = moved(image, *shift) * np.array([1.3, 0.8, 1.1])[:, None, None] + 200 + noise
    here = (slice(None), slice(60, 220), slice(80, 240))
    found = image_shift([(image[here], other[here], VALID)])
    assert (found.rows, found.cols) == pytest.approx(shift, abs=0.05)
    assert found.blocks == 1


def test_inverted_contrast_does_not_matter():
    """A field that was bright and is dark has the same edges."""
    image = ground(8)
    here = (slice(None), slice(60, 220), slice(80, 240))
    found = image_shift([(image[here], 5000 - moved(image, 0.4, -0.2)[here], VALID)])
    assert (found.rows, found.cols) == pytest.approx((0.4, -0.2), abs=0.05)


def test_swapping_the_images_turns_the_shift_round():
    """To a hundredth of a pixel."""
    image = ground(6, 1)
    other = moved(image, 0.3, -0.6)
    there, back = phase_shift(image[0], other[0]), phase_shift(other[0], image[0])
    assert there == pytest.approx((0.3, -0.6), abs=0.02)
    assert back == pytest.approx((-there[0], -there[1]), abs=0.011)


def test_pixels_without_data_and_a_block_of_change_do_not_count():
    """The rim of nodata is no edge, and the median ignores one block of something else."""
    image, here = ground(2), (slice(None), slice(60, 220), slice(80, 240))
    other, valid = moved(image, 0.4, 0.1), VALID.copy()
    valid[:, :60] = valid[90:110, 70:120] = False
    first, second = np.where(valid, image[here], 0), np.where(valid, other[here], 0)
    good = (first, second, valid)
    found = image_shift([good, good, (ground(9)[here], ground(10)[here], VALID)])
    assert (found.rows, found.cols) == pytest.approx((0.4, 0.1), abs=0.05)


def test_nothing_is_known_of_flat_or_empty_images():
    """No blocks, no data, too small, nothing to see: a shift of 0 by 0 blocks or of flat ones."""
    flat = np.full((3, 160, 160), 500.0)
    assert image_shift([]).blocks == 0
    assert image_shift([(flat, flat, ~VALID)]).blocks == 0
    assert image_shift([(flat[:, :8], flat[:, :8], VALID[:8])]).blocks == 0
    assert image_shift([(flat, flat, VALID)]).length == 0
