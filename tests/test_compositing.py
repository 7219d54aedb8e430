"""Medians of many dates, choices among them, and the distance to clouds."""

import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.optimize import minimize

from landcover.compositing import (
    Composite,
    _sort,
    chosen_composite,
    cloud_distance,
    geomedian_composite,
    hide,
    median_composite,
)

Method = Callable[[NDArray[np.uint16], NDArray[np.uint16]], Composite]


def by_preference(values: NDArray[np.uint16], days: NDArray[np.uint16]) -> Composite:
    """The choice by a preference made from the pixel itself, so that it can be cut like it."""
    return chosen_composite(values, days, (values[:, 0] % 7).astype(np.float32))


METHODS: list[Method] = [median_composite, geomedian_composite, by_preference]


def pixel(*spectra: tuple[int, ...]) -> NDArray[np.uint16]:
    """A stack of one pixel, one spectrum a date."""
    return np.array(spectra, np.uint16)[:, :, None, None]


def days_of(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Days 20000, 20001 and so on."""
    return np.arange(20000, 20000 + len(values), dtype=np.uint16)


def result(made: Composite) -> tuple[list[int], int, int]:
    """Spectrum, number of observations and day of a composite of one pixel."""
    return made.image.ravel().tolist(), int(made.count[0, 0]), int(made.day[0, 0])


def stack(
    seed: int, times: int, top: int = 4000, shape: tuple[int, int] = (5, 7), bands: int = 2
) -> NDArray[np.uint16]:
    """Random spectra, of which a random share is missing."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, top, (times, bands, *shape), endpoint=True).astype(np.uint16)
    seen = rng.random((times, 1, *shape)) < rng.random()
    return values * seen


@pytest.mark.parametrize(
    ("numbers", "median", "count", "day"),
    [
        ([300, 100, 200], 200, 3, 20002),
        ([300, 100, 0], 200, 2, 20000),  # 100 away from both: the first of them
        ([0, 100, 900], 500, 2, 20001),  # 0 is no observation, not a number
        ([100, 101], 100, 2, 20000),  # 100.5 to the even neighbour
        ([101, 102], 102, 2, 20001),  # 101.5 to the even neighbour
        ([0, 0, 700], 700, 1, 20002),
        ([65535, 65535, 0, 1], 65535, 3, 20000),
        ([65535, 65534], 65534, 2, 20001),
        ([1], 1, 1, 20000),
        ([0, 0], 0, 0, 0),
    ],
)
def test_medians_by_hand(numbers: list[int], median: int, count: int, day: int) -> None:
    """Medians, counts and days that a person can check."""
    values = pixel(*[(n,) for n in numbers])
    assert result(median_composite(values, days_of(values))) == ([median], count, day)


def test_the_day_is_that_of_the_nearest_spectrum() -> None:
    """The median of each band may be of no date; the day is that of the least total difference."""
    values = pixel((10, 90), (20, 10), (50, 50))
    assert result(median_composite(values, days_of(values))) == ([20, 50], 3, 20002)


@pytest.mark.parametrize(
    ("spectra", "expected"),
    [
        ([(700, 800)], ([700, 800], 1, 20000)),
        ([(100, 100), (200, 301)], ([150, 200], 2, 20000)),  # the midpoint, 200.5 to even
        ([(100, 100), (200, 200), (300, 300)], ([200, 200], 3, 20001)),  # on a line: the middle
        ([(1000, 1000), (2000, 1000), (1000, 2000), (2000, 2000)], ([1500, 1500], 4, 20000)),
        ([(500, 500), (500, 500), (9000, 9000)], ([500, 500], 3, 20000)),  # a cloud does not pull
        ([(0, 0), (400, 300), (0, 0)], ([400, 300], 1, 20001)),
        ([(0, 0)], ([0, 0], 0, 0)),
        # A triangle with an angle over 120 degrees: its vertex there (Fermat, Torricelli).
        ([(1000, 1000), (2000, 1100), (3000, 1000)], ([2000, 1100], 3, 20001)),
        # An equilateral triangle: its centre, of which 1154.7 and 1577.4 are the coordinates.
        ([(1000, 2000), (1000, 1155), (1732, 1577)], ([1244, 1577], 3, 20001)),
    ],
)
def test_geometric_medians_by_hand(
    spectra: list[tuple[int, int]], expected: tuple[list[int], int, int]
) -> None:
    """Geometric medians that a person can check."""
    values = pixel(*spectra)
    assert result(geomedian_composite(values, days_of(values))) == expected


@pytest.mark.parametrize(
    ("numbers", "preference", "expected"),
    [
        ([500, 600, 700], [1, 3, 2], ([600], 3, 20001)),
        ([500, 0, 700], [1, 3, 2], ([700], 2, 20002)),  # the preferred date does not show it
        ([500, 600, 700], [2, 2, 2], ([500], 3, 20000)),  # equals: the first
        ([0, 600, 700], [0, -5, -5], ([600], 2, 20001)),
        ([0, 0, 0], [1, 3, 2], ([0], 0, 0)),
    ],
)
def test_choices_by_hand(
    numbers: list[int], preference: list[int], expected: tuple[list[int], int, int]
) -> None:
    """The observation of the highest preference is taken whole, with its day."""
    values = pixel(*[(n,) for n in numbers])
    wish = np.array(preference, np.float32)[:, None, None]
    assert result(chosen_composite(values, days_of(values), wish)) == expected


def test_preference_differs_from_pixel_to_pixel() -> None:
    """Scenes are preferred whole by (date, 1, 1), pixels by (date, rows, cols)."""
    values = np.array([[[[11, 12]]], [[[21, 22]]]], np.uint16)
    by_pixel = np.array([[[9, 1]], [[5, 5]]], np.uint8)
    by_scene = np.array([[[1]], [[2]]], np.uint8)
    assert chosen_composite(values, days_of(values), by_pixel).image.tolist() == [[[11, 22]]]
    assert chosen_composite(values, days_of(values), by_scene).image.tolist() == [[[21, 22]]]


def test_distances_by_hand() -> None:
    """One cloudy pixel: whole distances along the axes, 1.41 and 2.24 rounded up, the rest capped."""
    unclear = np.zeros((3, 5), bool)
    unclear[1, 1] = True
    assert cloud_distance(unclear, 3).tolist() == [
        [2, 1, 2, 3, 3],
        [1, 0, 1, 2, 3],
        [2, 1, 2, 3, 3],
    ]
    assert cloud_distance(unclear, 1).tolist() == [
        [1, 1, 1, 1, 1],
        [1, 0, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]
    assert (cloud_distance(np.zeros((4, 4), bool), 255) == 255).all()


def nanmedian(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The same with numpy."""
    numbers = np.where(values == 0, np.nan, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without observation are expected
        median: NDArray[np.float64] = np.rint(np.nanmedian(numbers, axis=0))
    return np.nan_to_num(median, nan=0).astype(np.uint16)


def nearest_day(values: NDArray[np.uint16], image: NDArray[np.uint16], power: int) -> NDArray[Any]:
    """Day of the observation nearest to the image, with numpy."""
    gaps = (np.abs(values.astype(np.int64) - image) ** power).sum(axis=1)
    gaps[values[:, 0] == 0] = 2**62
    return np.where(image[0] == 0, 0, days_of(values)[gaps.argmin(axis=0)])


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    times=st.integers(1, 20),
    top=st.sampled_from([3, 1200, 65535]),
    shape=st.sampled_from([(1, 1), (5, 7), (3, 300)]),
    bands=st.integers(1, 5),
)
@example(seed=1, times=40, top=65535, shape=(2, 600), bands=4)
@example(seed=2, times=365, top=4000, shape=(1, 300), bands=1)
def test_equals_numpy_nanmedian(
    seed: int, times: int, top: int, shape: tuple[int, int], bands: int
) -> None:
    """Any stack gives what numpy.nanmedian gives rounded half to even, and what argmin gives."""
    values = stack(seed, times, top, shape, bands)
    made = median_composite(values, days_of(values))
    np.testing.assert_array_equal(made.image, nanmedian(values))
    np.testing.assert_array_equal(made.count, (values[:, 0] != 0).sum(axis=0))
    np.testing.assert_array_equal(made.day, nearest_day(values, made.image, 1))


@pytest.mark.parametrize("n", range(1, 14))
def test_the_sorting_network_sorts(n: int) -> None:
    """Every sequence of zeros and ones is sorted, hence every sequence (Knuth, zero-one principle)."""
    every = np.array(list(product((0, 1), repeat=n)), np.uint16).T.copy()
    expected = np.sort(every, axis=0)
    _sort(every, n, every.shape[1])
    np.testing.assert_array_equal(every, expected)


def far(spectra: NDArray[np.float64], centre: NDArray[np.float64]) -> float:
    """Sum of the distances from a point to all spectra (date, band)."""
    return float(np.linalg.norm(spectra - centre, axis=1).sum())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    times=st.integers(3, 15),
    bands=st.integers(1, 6),
    spread=st.sampled_from([3.0, 60.0, 2000.0]),
    clouds=st.integers(0, 3),
)
def test_geometric_median_is_the_optimum(
    seed: int, times: int, bands: int, spread: float, clouds: int
) -> None:
    """No point found by slow minimisation is nearer to the spectra by more than rounding explains."""
    rng = np.random.default_rng(seed)
    spectra = rng.normal(3000, spread, (times, bands))
    spectra[:clouds] += rng.uniform(2000, 12000, (min(clouds, times), 1))
    spectra = np.clip(np.rint(spectra), 1, 65535)
    values = spectra.astype(np.uint16)[:, :, None, None]
    made = geomedian_composite(values, days_of(values))
    starts = [np.median(spectra, axis=0), *spectra]
    start = min(starts, key=lambda s: far(spectra, s))
    found = minimize(lambda c: far(spectra, c), start, method="Nelder-Mead", tol=1e-4)
    best = min(found.fun, far(spectra, start))
    rounding = times * np.sqrt(bands) / 2
    assert far(spectra, made.image[:, 0, 0].astype(float)) <= best * (1 + 1e-4) + rounding
    np.testing.assert_array_equal(made.day, nearest_day(values, made.image, 2))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    times=st.integers(1, 14),
    row=st.integers(1, 4),
    col=st.integers(1, 400),
    method=st.sampled_from(METHODS),
)
def test_how_the_block_is_cut_changes_nothing(
    seed: int, times: int, row: int, col: int, method: Method
) -> None:
    """Four parts composited one by one and put together equal the whole, in every number."""
    values = stack(seed, times, shape=(5, 401), bands=3)
    days = days_of(values)
    whole = method(values, days)
    upper, lower = (
        [method(rows[..., cut], days) for cut in (slice(col), slice(col, None))]
        for rows in (values[:, :, :row], values[:, :, row:])
    )
    for name in ("image", "count", "day"):
        parts = [[getattr(made, name) for made in half] for half in (upper, lower)]
        np.testing.assert_array_equal(np.block(parts), getattr(whole, name))


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_empty_dates_changes_nothing(method: Method) -> None:
    """Dates that show nothing add nothing."""
    values = stack(3, 6, shape=(4, 300))
    days = days_of(values)
    padded = np.insert(values, [0, 2, 2, 6], 0, axis=0)
    made = method(values, days)
    again = method(padded, np.insert(days, [0, 2, 2, 6], 1))
    np.testing.assert_array_equal(again.image, made.image)
    np.testing.assert_array_equal(again.count, made.count)
    np.testing.assert_array_equal(again.day, made.day)


@pytest.mark.parametrize("method", METHODS)
def test_no_valid_pixel_becomes_nodata(method: Method) -> None:
    """A pixel has a value in every band exactly where it has an observation."""
    values = stack(5, 4, top=2, shape=(40, 40), bands=3)
    made = method(values, days_of(values))
    assert ((made.image != 0) == (made.count != 0)).all()
    assert ((made.day != 0) == (made.count != 0)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("processors", [2, 3, 7])
def test_the_number_of_threads_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, method: Method, processors: int
) -> None:
    """One thread and several give the same numbers."""
    values = stack(8, 9, shape=(40, 70), bands=3)
    made = []
    for workers in (1, processors):
        monkeypatch.setattr("landcover.compositing.os.cpu_count", lambda n=workers: n)
        made.append(method(values, days_of(values)))
    for name in ("image", "count", "day"):
        np.testing.assert_array_equal(getattr(made[0], name), getattr(made[1], name))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 30),
    cols=st.integers(1, 300),
    reach=st.integers(1, 255),
    share=st.sampled_from([0.0, 0.001, 0.05, 0.9]),
)
def test_cloud_distance_equals_scipy(
    seed: int, rows: int, cols: int, reach: int, share: float
) -> None:
    """Every distance is the Euclidean one, rounded up and capped."""
    unclear = np.random.default_rng(seed).random((rows, cols)) < share
    exact = distance_transform_edt(~unclear) if unclear.any() else np.full((rows, cols), np.inf)
    expected = np.minimum(np.ceil(exact), reach).astype(np.uint8)
    np.testing.assert_array_equal(cloud_distance(unclear, reach), expected)


def test_what_is_not_visible_is_hidden() -> None:
    """A pixel that is not visible, or lacks a band, becomes 0 in all bands and is not visible."""
    image = np.array([[[5, 6, 0, 8]], [[1, 2, 3, 4]]], np.uint16)
    visible = np.array([[True, False, True, True]])
    hide(image, visible)
    assert image.tolist() == [[[5, 0, 0, 8]], [[1, 0, 0, 4]]]
    assert visible.tolist() == [[True, False, False, True]]


@given(seed=st.integers(0, 99), bands=st.integers(1, 5), cols=st.integers(1, 700))
def test_hiding_is_the_plain_formula(seed: int, bands: int, cols: int) -> None:
    """Whatever the size, it is a product with a mask."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 9, (bands, 3, cols)).astype(np.uint16)
    visible = rng.random((3, cols)) < 0.7
    seen = visible & (image != 0).all(axis=0)
    expected = image * seen
    hide(image, visible)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(visible, seen)
