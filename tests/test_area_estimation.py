"""Estimates from a stratified sample: published examples, hand counts, and many draws of a known truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter

from landcover.area_estimation import LabelledSample, Measure
from landcover.errors import SampleError
from landcover.landscape import build_landscape
from landcover.simulation import LEGEND
from tests.sample_draws import coverage

OLOFSSON = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
"""Olofsson et al. (2014), table 8: deforestation, forest gain, stable forest, stable non-forest."""
MAPPED = [200_000, 150_000, 3_200_000, 6_450_000]
"""Pixels of 30 m in each class of their map."""


def of_matrix(counts: ArrayLike, pixels: ArrayLike, hectares: float = 0.09) -> LabelledSample:
    """The sample behind an error matrix whose strata are the map classes."""
    table, population = np.asarray(counts), np.asarray(pixels)
    mapped, reference = (
        np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape)
    )
    names = tuple(f"s{number}" for number in range(len(table)))
    return LabelledSample(
        len(table), names, population * hectares, population, mapped, mapped, reference,
        np.full(len(mapped), hectares),
    )  # fmt: skip


def figures(measures: list[Measure], digits: int) -> list[tuple[float, float]]:
    """Values and half intervals as a paper prints them."""
    return [(round(m.value, digits), round(m.margin, digits)) for m in measures]


def test_the_example_of_olofsson_2014_in_all_its_digits() -> None:
    """Table 9 and section 5.2: proportions, accuracies, and hectares with their 95 % intervals."""
    sample = of_matrix(OLOFSSON, MAPPED)
    assert sample.counts.tolist() == OLOFSSON
    assert sample.proportions.round(4).tolist() == [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    assert sample.proportions.sum(axis=0).round(4).tolist() == [0.0235, 0.0130, 0.3175, 0.6460]
    assert figures([sample.overall_accuracy], 2) == [(0.95, 0.02)]
    users = [sample.users_accuracy(k) for k in range(4)]
    assert figures(users, 2) == [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    areas = [sample.area(k) for k in range(4)]
    assert figures(areas, 0) == [
        (21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282),
    ]  # fmt: skip
    assert round(areas[0].value / 0.09) == 235_086
    assert round(areas[0].error / 900_000, 4) == 0.0035
    assert (
        round(areas[0].error / 0.09) == 34_907
    )  # printed 34,097, which its own margin contradicts


def test_producers_accuracy_of_that_example() -> None:
    """All four values; margins by its eq. 7, which gives 0.25 and 0.02 where 0.23 and 0.01 are printed."""
    sample = of_matrix(OLOFSSON, MAPPED)
    producers = [sample.producers_accuracy(k) for k in range(4)]
    assert figures(producers, 2) == [(0.75, 0.21), (0.85, 0.25), (0.93, 0.03), (0.96, 0.02)]


def equation_7(n: np.ndarray, pixels: np.ndarray, j: int) -> float:
    """Variance of a producer's accuracy, Olofsson et al. (2014) eq. 7, written out."""
    rows = n.sum(axis=1)
    user = n[j, j] / rows[j]
    found = (pixels * n[:, j] / rows).sum()
    producer = pixels[j] * user / found
    own = pixels[j] ** 2 * (1 - producer) ** 2 * user * (1 - user) / (rows[j] - 1)
    share = n[:, j] / rows
    others = pixels**2 * share * (1 - share) / (rows - 1)
    return float((own + producer**2 * (others.sum() - others[j])) / found**2)


@given(
    st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=3, max_size=3),
    st.lists(st.integers(10_000, 10**7), min_size=3, max_size=3),
)
def test_strata_that_are_the_classes_give_the_formulas_of_olofsson(
    counts: list[list[int]], pixels: list[int]
) -> None:
    """For any matrix the general estimator is the paper's eqs 5, 6, 7 and 10."""
    n, population = np.array(counts), np.array(pixels, float)
    rows = n.sum(axis=1)
    if (rows < 2).any():
        with pytest.raises(SampleError, match="at least 2"):
            of_matrix(n, pixels)
        return
    sample, w = of_matrix(n, pixels), population / population.sum()
    users = n.diagonal() / rows
    variance = (w**2 * users * (1 - users) / (rows - 1)).sum()
    assert sample.overall_accuracy.error == pytest.approx(math.sqrt(variance), abs=1e-9)
    for k in range(3):
        user = users[k] * (1 - users[k]) / (rows[k] - 1)
        assert sample.users_accuracy(k).error == pytest.approx(math.sqrt(user), abs=1e-9)
        if not n[:, k].any():
            assert math.isnan(sample.producers_accuracy(k).value)
            assert (sample.area(k).value, math.isnan(sample.area(k).error)) == (0, True)
            continue
        p = w * n[:, k] / rows
        area = math.sqrt(((w * p - p**2) / (rows - 1)).sum()) * population.sum() * 0.09
        assert sample.area(k).error == pytest.approx(area, rel=1e-6, abs=1e-3)
        expected = math.sqrt(equation_7(n, population, k))
        assert sample.producers_accuracy(k).error == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_example_of_stehman_2014() -> None:
    """40 pixels in four strata that differ from the map classes A to D: the figures that it works out."""
    codes = {letter: number for number, letter in enumerate("ABCD")}
    mapped = "AAAAAAABBB" + "ABBBBBBBBB" + "BBCCCCCCBB" + "DDDDDDDDDD"
    reference = "AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"
    sample = LabelledSample(
        4, tuple("ABCD"), np.array([4e4, 3e4, 2e4, 1e4]), np.array([40_000, 30_000, 20_000, 10_000]),
        np.repeat(np.arange(4), 10), np.array([codes[c] for c in mapped]),
        np.array([codes[c] for c in reference]), np.ones(40),
    )  # fmt: skip
    share = [sample.area(k).times(1e-5) for k in (0, 2)]
    assert [round(m.value, 2) for m in share] == [0.35, 0.20]
    assert [round(m.error, 3) for m in share] == [0.082, 0.064]
    overall, user, producer = (
        sample.overall_accuracy, sample.users_accuracy(1), sample.producers_accuracy(1),
    )  # fmt: skip
    assert (round(overall.value, 2), round(overall.error, 3)) == (0.63, 0.085)
    assert (round(user.value, 3), round(user.error, 3)) == (0.574, 0.125)
    # Printed 0.114, with a variance taken as 0 in the fourth stratum that its table 3 gives as 0.10.
    assert (round(producer.value, 3), round(producer.error, 3)) == (0.794, 0.117)
    assert round(float(sample.proportions[1, 2]), 2) == 0.08


def test_hectares_count_not_pixels() -> None:
    """Two pixels of 3 ha and two of 1 ha: the class of the large ones has three quarters."""
    sample = LabelledSample(
        2, ("all",), np.array([800.0]), np.array([400]), np.zeros(4, np.int64),
        np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), np.array([3.0, 3.0, 1.0, 1.0]),
    )  # fmt: skip
    assert sample.area(0).value == pytest.approx(600)
    assert sample.proportions.tolist() == [[0.75, 0], [0, 0.25]]
    # Residuals 3/4, 3/4, -3/4, -3/4 of the area: s^2 = 0.75, by (800 / mean 2)^2 / 4.
    assert sample.area(0).error == pytest.approx(400 * math.sqrt(0.75 / 4))


def test_a_census_has_no_error() -> None:
    """Where every pixel is labelled, areas are known; one pixel is enough for a stratum of one."""
    sample = of_matrix([[3, 1], [0, 1]], [4, 1], 0.01)
    assert sample.area(0).value == pytest.approx(0.03)
    assert [sample.area(k).error for k in (0, 1)] == [0, 0]
    assert sample.area(0).low == sample.area(0).high == pytest.approx(0.03)
    assert sample.overall_accuracy.value == pytest.approx(0.8)


def test_large_fractions_are_allowed_for() -> None:
    """Half of a stratum sampled halves the variance; a twentieth is taken as nothing."""
    wide, half, twentieth = (of_matrix([[6, 4], [0, 10]], [n, n]) for n in (10**6, 20, 200))
    assert half.area(0).error / 20 == pytest.approx(wide.area(0).error / 10**6 * math.sqrt(0.5))
    assert twentieth.area(0).error / 200 == pytest.approx(wide.area(0).error / 10**6)


def test_a_stratum_with_one_label_is_refused_by_name() -> None:
    """One label tells no variance: a sentence names the stratum."""
    with pytest.raises(SampleError, match="'s1' has 1 labelled pixels of 150,000"):
        of_matrix([[5, 0], [0, 1]], [200_000, 150_000])


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_classes_and_cells_add_up(seed: int) -> None:
    """Areas of all classes are the map's; proportions add to one; the diagonal is the accuracy."""
    random = np.random.default_rng(seed)
    n, k, h = 60, 4, 3
    sample = LabelledSample(
        k, ("a", "b", "c"), random.uniform(1, 100, h), np.full(h, 5_000),
        np.repeat(np.arange(h), n // h), random.integers(0, k, n), random.integers(0, k, n),
        random.uniform(0.5, 2, n),
    )  # fmt: skip
    assert sum(sample.area(c).value for c in range(k)) == pytest.approx(sample.hectares.sum())
    assert sample.proportions.sum() == pytest.approx(1)
    assert sample.proportions.trace() == pytest.approx(sample.overall_accuracy.value)
    found = sample.proportions.sum(axis=0) * sample.hectares.sum()
    assert found.tolist() == pytest.approx([sample.area(c).value for c in range(k)])


@pytest.mark.parametrize("degrees", [False, True])
def test_intervals_hold_the_true_area_in_93_to_97_of_100_draws(degrees: bool) -> None:
    """2,000 samples of 2,000 pixels of a simulated region whose map blurs borders and confuses classes."""
    truth = np.searchsorted(LEGEND.codes, build_landscape(3, (384, 384)).cover)
    random = np.random.default_rng(5)
    blurred = median_filter(truth, 3, mode="nearest")
    wrong = random.random(truth.shape) < 0.08
    mapped = np.where(wrong, random.permutation(blurred.ravel()).reshape(truth.shape), blurred)
    areas = np.full(truth.shape, 0.01)
    if degrees:  # rows from the equator to 60 degrees north: pixels of half the size at the top
        areas *= np.cos(np.radians(np.linspace(60, 0, 384)))[:, None]
    held = coverage(mapped.ravel(), truth.ravel(), areas.ravel(), size=2_000, draws=2_000)
    for shares in (held.normal, held.interval):
        assert shares.min() >= 0.93, held
        assert shares.max() <= 0.97, held


def test_the_interval_of_one_stratum_is_that_of_wilson() -> None:
    """10 of 50: from 0.1124 to 0.3304; none of 50: up to 3.84 / 53.84."""
    sample = of_matrix([[10, 40], [0, 2]], [10**6, 2])
    ten = sample.area(0).times(1 / (10**6 * 0.09))
    assert (round(ten.low, 4), round(ten.high, 4)) == (0.1124, 0.3304)
    none = of_matrix([[0, 50], [0, 2]], [10**6, 2]).area(0).times(1 / (10**6 * 0.09))
    assert (none.value, none.low, math.isnan(none.error)) == (0, 0, True)
    assert none.high == pytest.approx(1.96**2 / (50 + 1.96**2), rel=1e-5)


def test_the_interval_of_many_labels_is_the_normal_one() -> None:
    """With ten thousand labels both intervals are the same to a part in a hundred."""
    area = of_matrix([[4_000, 1_000], [2_000, 3_000]], [10**7, 10**7]).area(0)
    assert area.high - area.value == pytest.approx(area.margin, rel=0.01)
    assert area.value - area.low == pytest.approx(area.margin, rel=0.01)
