"""The per-pixel baseline: a random forest that is the same every time."""

import numpy as np
import pytest

from landcover.errors import SettingsError
from landcover.forest import PixelForest


def pixels(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that the second of two bands tells apart at 0.5."""
    values = np.random.default_rng(0).random((n, 2)).astype(np.float32)
    return values, np.where(values[:, 1] > 0.5, 9, 4).astype(np.uint8)


def test_it_learns_a_threshold() -> None:
    """Pixels far from the threshold are right; those without data are 0."""
    forest = PixelForest.fit(*pixels(), trees=10)
    image = np.array([[[0.5, 0.5, 0.5]], [[0.1, 0.9, 0.9]]], np.float32)
    assert forest.predict(image, np.array([[True, True, False]])).tolist() == [[4, 9, 0]]
    assert forest.predict(image, np.zeros((1, 3), bool)).tolist() == [[0, 0, 0]]


def test_equal_seeds_grow_equal_forests() -> None:
    """The same pixels and seed label a noisy image alike."""
    image = np.random.default_rng(1).random((2, 40, 40)).astype(np.float32)
    everywhere = np.ones((40, 40), bool)
    first, second = (PixelForest.fit(*pixels(), trees=5, seed=3) for _ in range(2))
    assert (first.predict(image, everywhere) == second.predict(image, everywhere)).all()


def test_pixels_without_class_are_refused() -> None:
    """Code 0 is no class, and no pixel is no forest."""
    values, codes = pixels()
    with pytest.raises(SettingsError, match="code 0"):
        PixelForest.fit(values, codes * 0)
    with pytest.raises(SettingsError, match="one labelled pixel"):
        PixelForest.fit(values[:0], codes[:0])
