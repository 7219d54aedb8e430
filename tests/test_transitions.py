"""The transition matrix of two maps, and gains, losses, net change and swap of each class."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox

from landcover.area import PixelAreas, Tally
from landcover.errors import LegendError
from landcover.legend import LandClass, Legend
from landcover.transitions import (
    PAIRS,
    TransitionMatrix,
    check_pairable,
    class_changes,
    pair_codes,
    pair_of,
)

LEGEND = Legend(
    (LandClass(1, "Water", "#0000ff"), LandClass(7, "Wood", "#00ff00"), LandClass(255, "Town", "#ff0000"))
)  # fmt: skip
GRID = GeoBox((6, 8), Affine(10, 0, 600_000, 0, -10, 5_200_000), "EPSG:32633")
MAPS = arrays(np.uint8, (6, 8), elements=st.sampled_from([0, 1, 7, 255]))


def matrix(before: np.ndarray, after: np.ndarray, step: int = 6) -> TransitionMatrix:
    """Counted in strips."""
    tally, areas = Tally.zeros(PAIRS), PixelAreas(GRID)
    for top in range(0, 6, step):
        rows = slice(top, min(top + step, 6))
        tally.add(pair_codes(before[rows], after[rows]), areas.units(rows))
    return TransitionMatrix.of(tally, LEGEND)


def test_a_pair_code_holds_both_classes():
    """Before x 256 + after, and 0 where either map has no data."""
    codes = pair_codes(np.array([[1, 255, 0, 7]], np.uint8), np.array([[7, 255, 7, 0]], np.uint8))
    assert codes.tolist() == [[263, 65535, 0, 0]]
    assert (pair_of(263), pair_of(65535)) == ((1, 7), (255, 255))


def test_a_small_matrix_by_hand():
    """Four pixels: water stays, wood becomes town twice, town becomes wood once."""
    before, after = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    before[0, :4], after[0, :4] = [1, 7, 7, 255], [1, 255, 255, 7]
    found = matrix(before, after)
    assert found.pixels.tolist() == [[1, 0, 0], [0, 0, 2], [0, 1, 0]]
    water, wood, town = class_changes(found, found, PixelAreas(GRID))
    pixel = water.before_ha
    assert pixel == pytest.approx(0.01, rel=1e-3)
    assert (water.gain_ha, water.loss_ha, water.swap_ha, water.persistence_ha) == (0, 0, 0, pixel)
    assert (wood.gain_ha, wood.loss_ha) == pytest.approx((pixel, 2 * pixel), rel=1e-4)
    assert (wood.net_ha, wood.swap_ha) == pytest.approx((-pixel, 2 * pixel), rel=1e-4)
    assert (town.net_ha, town.swap_ha) == pytest.approx((pixel, 2 * pixel), rel=1e-4)


@given(before=MAPS, after=MAPS, step=st.integers(1, 6))
def test_margins_are_the_area_tables_and_swapping_transposes(
    before: np.ndarray, after: np.ndarray, step: int
):
    """In whole units, to the last bit, however the rasters are cut."""
    found, units = matrix(before, after, step), PixelAreas(GRID).units()
    known = (before > 0) & (after > 0)
    for codes, margin in ((before, found.before), (after, found.after)):
        table = [units[known & (codes == c)].sum() for c in LEGEND.codes]
        assert margin.tolist() == table
    swapped = matrix(after, before)
    assert (swapped.units == found.transposed.units).all()
    assert (swapped.pixels == found.transposed.pixels).all()
    assert found.changed == units[known & (before != after)].sum()


@given(before=MAPS, after=MAPS)
def test_gains_are_losses(before: np.ndarray, after: np.ndarray):
    """What one class wins another loses; net and swap are made of both; nothing changes against itself."""
    found = matrix(before, after)
    lines = class_changes(found, found, PixelAreas(GRID))
    assert sum(c.gain_ha for c in lines) == pytest.approx(sum(c.loss_ha for c in lines))
    assert sum(c.net_ha for c in lines) == pytest.approx(0)
    for c in lines:
        assert c.net_ha == pytest.approx(c.after_ha - c.before_ha)
        assert c.swap_ha == pytest.approx(2 * min(c.gain_ha, c.loss_ha))
        assert c.persistence_ha == pytest.approx(c.before_ha - c.loss_ha)
    assert matrix(before, before).changed == 0


def test_codes_that_make_no_pair_are_refused():
    """A legend with a code above 255, and a map with a code that the legend lacks."""
    with pytest.raises(LegendError, match=r"\[311\]; change needs codes up to 255"):
        check_pairable(Legend((LandClass(311, "Wood", "#00ff00"),)))
    odd = np.full((6, 8), 9, np.uint8)
    with pytest.raises(LegendError, match=r"hold the codes \[9\]"):
        matrix(odd, odd)
