"""Counts of labelled images, strip by strip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcover.label_tally import PLACES, LabelTally, band_figures

EVERY = np.ones(1, np.bool_)


def test_a_raster_counted_by_hand() -> None:
    """Two units, two classes, one pixel without data and one in no unit."""
    tally = LabelTally(2, 2, 1)
    unit = np.array([[0, 0, 1], [0, 1, -1]], np.int32)
    label = np.array([[0, 1, 1], [-1, 0, 0]], np.int16)
    image = np.array([[[1, 2, 4], [3, 9, 7]]], np.float32)
    valid = np.array([[1, 1, 1], [1, 0, 1]], np.bool_)
    tally.add(10, unit, label, image, valid)
    assert tally.pixels.tolist() == [3, 2]
    assert tally.valid.tolist() == [3, 1]
    assert tally.labelled.tolist() == [[1, 1], [0, 1]]
    assert tally.without_data == 1
    assert sorted(map(tuple, tally.places.tolist())) == [
        (0, 0, 10, 0),
        (0, 1, 10, 1),
        (1, 1, 10, 2),
    ]
    figures = band_figures([(tally, np.array([True, False]))], 1)
    assert (figures.mean, figures.least, figures.most) == (2, 1, 3)
    assert figures.std[0] == pytest.approx(np.std([1, 2, 3]))


@given(st.integers(1, 4), st.integers(0, 10**6))
def test_figures_are_those_of_all_pixels(count: int, seed: int) -> None:
    """Mean and deviation of several images, far from 0, are numpy's of all their pixels together."""
    rng = np.random.default_rng(seed)
    parts, values = [], []
    for _ in range(count):
        tally = LabelTally(1, 1, 2)
        for top in range(0, 8, 4):
            image = (1e4 + rng.normal(size=(2, 4, 5))).astype(np.float32)
            valid = rng.random((4, 5)) < 0.7
            tally.add(top, np.zeros((4, 5), np.int32), np.zeros((4, 5), np.int16), image, valid)
            values.append(image[:, valid].astype(np.float64))
        parts.append((tally, EVERY))
    every = np.concatenate(values, axis=1)
    figures = band_figures(parts, 2)
    if every.size:
        assert figures.mean == pytest.approx(every.mean(axis=1), abs=1e-6)
        assert figures.std == pytest.approx(every.std(axis=1), abs=1e-5)
        assert figures.most.tolist() == every.max(axis=1).tolist()


def test_nothing_counted_has_no_mean() -> None:
    """Without a pixel, figures are not a number."""
    assert np.isnan(band_figures([], 3).mean).all()


def test_samples_are_even_and_enough() -> None:
    """Each class keeps its number of places; they are spread over all of its pixels."""
    tally = LabelTally(1, 2, 1)
    label = np.zeros((400, 300), np.int16)
    label[:, 150:] = 1
    for top in range(0, 400, 100):
        part = label[top : top + 100]
        tally.add(
            top, np.zeros(part.shape, np.int32), part, np.zeros((1, *part.shape), np.float32),
            np.ones(part.shape, np.bool_),
        )  # fmt: skip
    for one in (0, 1):
        places = tally.places[tally.places[:, 1] == one]
        assert len(places) == PLACES
        assert (label[places[:, 2], places[:, 3]] == one).all()
        assert 100 < places[:, 2].mean() < 300
        assert len(np.unique(places, axis=0)) == PLACES
