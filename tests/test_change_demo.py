"""Two simulated dates whose true change is known: the product's promise on change."""

from pathlib import Path

import numpy as np
import pytest

from landcover.errors import SettingsError
from landcover.landscape import build_landscape
from landcover.spectra import Cover
from pipeline.change_demo import changed_landscape, compare, figure_table, make_change_demo


def test_the_second_landscape_differs_by_a_town_clear_cuts_and_a_reservoir():
    """A few percent of the land, each of its kind, all else the very same."""
    first = build_landscape(7, (320, 320))
    second = changed_landscape(first, 7)
    changed = first.cover != second.cover
    assert 0.015 < changed.mean() < 0.06
    for old, new in ((Cover.TREES, Cover.BARE), (Cover.CROPS, Cover.WATER), (Cover.CROPS, Cover.BUILT)):  # fmt: skip
        assert ((first.cover == old) & (second.cover == new)).sum() > 100
    same = first.material == second.material
    assert np.array_equal(first.elevation, second.elevation)
    assert same.mean() > 0.94
    assert np.array_equal(changed_landscape(first, 7).material, second.material)


def test_true_change_is_found_and_season_and_shift_are_not_change(tmp_path: Path):
    """F1 of 0.85 and more, at most 0.4 % of unchanged land called changed; the plain difference has neither."""
    demo = make_change_demo(tmp_path, 1, 448, report=lambda _: None)
    facts = compare(demo, tmp_path / "change", each=False, report=lambda _: None)
    plain, ours = facts["figures"][0], facts["figures"][-1]
    assert ours["f1"] >= 0.85
    assert ours["false_percent"] <= 0.4
    assert plain["f1"] < 0.6
    assert plain["false_percent"] > 4
    assert (facts["shift"]["rows"], facts["shift"]["cols"]) == pytest.approx((0.3, -0.265), abs=0.1)
    taken = {row["guard"]: row["taken_ha"] for row in facts["guards"]}
    assert min(taken[name] for name in ("season", "border", "confidence", "spectral", "area")) > 0
    assert len(figure_table(facts["figures"]).rows) == 2


def test_a_size_that_cannot_be_is_refused(tmp_path: Path):
    """Odd or small."""
    for size in (255, 301, 64):
        with pytest.raises(SettingsError, match=f"The demo's size is {size}"):
            make_change_demo(tmp_path, 1, size)
