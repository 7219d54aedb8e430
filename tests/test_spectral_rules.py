"""What a pixel of a real scene surely is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landcover.spectra import BANDS, Cover
from landcover.spectral_rules import (
    BARE,
    BUILT,
    CROPS,
    GREEN,
    SOIL,
    TREES,
    UNGROWN,
    WATER,
    one_of,
    read_indices,
    weak_labels,
)

SIDE = 40
LAKE = (0.10, 0.08, 0.05, 0.03, 0.01, 0.01)
MEADOW = (0.10, 0.12, 0.08, 0.40, 0.22, 0.11)
FOREST = (0.085, 0.07, 0.045, 0.28, 0.12, 0.05)
EARTH = (0.11, 0.12, 0.16, 0.22, 0.30, 0.26)
SAND = (0.22, 0.26, 0.33, 0.38, 0.45, 0.40)
STREET = (0.13, 0.12, 0.12, 0.15, 0.18, 0.16)
ROOF = (0.22, 0.22, 0.24, 0.27, 0.30, 0.27)
SHADE = (0.09, 0.06, 0.04, 0.05, 0.04, 0.03)


def plain(*spectrum: float) -> NDArray[np.float32]:
    """A scene of one surface, (bands, rows, cols)."""
    return np.full((SIDE, SIDE, len(spectrum)), spectrum, np.float32).transpose(2, 0, 1)


def town() -> NDArray[np.float32]:
    """Streets and roofs, each two pixels wide, in a scene."""
    scene = plain(*STREET)
    roofs = (np.arange(SIDE)[:, None] // 2 + np.arange(SIDE) // 2) % 2 == 0
    scene[:, roofs] = np.array(ROOF, np.float32)[:, None]
    return scene


def center(labels: NDArray[np.uint8]) -> list[int]:
    """The sets of the middle pixel by date."""
    return [int(one) for one in labels[:, SIDE // 2, SIDE // 2]]


def test_a_set_has_one_bit_for_each_class():
    """Bit 0 is code 1, so water is 1, trees 2, built-up 128."""
    assert (WATER, TREES, BUILT) == (1, 2, 128)
    assert one_of(Cover.TREES, Cover.BUILT) == 130
    assert {cover for cover in Cover if GREEN >> (cover - 1) & 1} == {
        Cover.TREES, Cover.SHRUBS, Cover.GRASS, Cover.CROPS,
    }  # fmt: skip


def test_indices_by_hand():
    """NDVI of 0.4 and 0.1 is 0.6, NDWI of 0.2 and 0.4 is -1/3; black pixels have 0."""
    found = read_indices(plain(0.1, 0.2, 0.1, 0.4), BANDS[:4])
    assert found.ndvi[0, 0] == pytest.approx(0.6)
    assert found.ndwi[0, 0] == pytest.approx(-1 / 3)
    assert found.light[0, 0] == pytest.approx(0.4 / 3)
    assert found.swir is None
    assert not read_indices(plain(0, 0, 0, 0), BANDS[:4]).ndvi.any()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (LAKE, LAKE, [WATER, WATER]),
        (LAKE, EARTH, [0, SOIL]),
        (MEADOW, MEADOW, [GREEN, GREEN]),
        (FOREST, FOREST, [TREES, TREES]),
        (MEADOW, EARTH, [CROPS, CROPS]),
        (SAND, SAND, [BARE, BARE]),
        (EARTH, EARTH, [SOIL, SOIL]),
        (SHADE, STREET, [0, 0]),
    ],
)
def test_plain_surfaces(first: tuple[float], second: tuple[float], expected: list[int]):
    """What lasts is said of both dates; water on one date alone, or shade, is not known."""
    assert center(weak_labels([plain(*first), plain(*second)], BANDS)) == expected


def test_meadows_are_lighter_than_the_forest_beside_them():
    """Forest is what is nearly as dark as the darkest; the meadow may be anything green."""
    scene = plain(*MEADOW)
    scene[:, :, : SIDE // 2] = np.array(FOREST, np.float32)[:, None, None]
    labels = weak_labels([scene, scene], BANDS)
    assert (labels[:, :, 5] == TREES).all()
    assert (labels[:, :, -5] == GREEN).all()


def test_a_town_is_rough_and_grey_on_both_dates():
    """Street and roof are built-up; of a date when all is green, nothing is said but that."""
    assert center(weak_labels([town(), town()], BANDS)) == [BUILT, BUILT]
    assert center(weak_labels([town(), plain(*MEADOW)], BANDS)) == [0, GREEN]


def test_small_waters_may_be_shadows():
    """A patch of 4 x 4 pixels is no water, one of 6 x 6 is; 25 pixels are the least."""
    scene = town()
    for side, expected in ((4, False), (6, True)):
        scene[:, 10 : 10 + side, 10 : 10 + side] = np.array(LAKE, np.float32)[:, None, None]
        assert (weak_labels([scene, scene], BANDS)[0, 11, 11] == WATER) == expected


def test_four_bands_will_do():
    """Without shortwave infrared the same surfaces are known, by stricter rules of the near infrared."""
    for surface, expected in ((LAKE, WATER), (SAND, BARE), (EARTH, SOIL)):
        scene = plain(*surface)[:4]
        assert center(weak_labels([scene, scene], BANDS[:4])) == [expected] * 2


def test_no_data_has_no_label():
    """A pixel that is 0 in all bands on one date is unknown on both."""
    hollow = plain(*LAKE)
    hollow[:, SIDE // 2, SIDE // 2] = 0
    labels = weak_labels([plain(*LAKE), hollow], BANDS)
    assert center(labels) == [0, 0]
    assert labels[0, 0, 0] == WATER


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from([4, 6]))
def test_labels_are_sets_of_the_legend_and_know_no_direction(seed: int, bands: int):
    """Of any image: only sets that rules have; mirrored images give mirrored labels."""
    rng = np.random.default_rng(seed)
    dates = [
        rng.uniform(0.01, 0.5, (bands, 1, 1)).astype(np.float32)
        * rng.uniform(0.7, 1.3, (bands, 24, 24)).astype(np.float32)
        for _ in range(2)
    ]
    labels = weak_labels(dates, BANDS[:bands])
    assert set(np.unique(labels)) <= {0, WATER, TREES, CROPS, BARE, BUILT, GREEN, SOIL, UNGROWN}
    mirrored = weak_labels([one[:, ::-1] for one in dates], BANDS[:bands])
    assert (mirrored[:, ::-1] == labels).all()
