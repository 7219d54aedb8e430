"""Persistence over four simulated dates: flicker goes, true change stays."""

from pathlib import Path

from pipeline.change_demo import make_change_demo
from pipeline.persistence_demo import persistence_figures, persistence_table


def test_flicker_is_removed_and_true_change_kept(tmp_path: Path):
    """70 % and more of the flicker is not believed after four dates; most of the true change is."""
    demo = make_change_demo(tmp_path, 1, 320, report=lambda _: None)
    rows = persistence_figures(tmp_path, demo, 1, report=lambda _: None)
    assert [row["changes"] for row in rows] == ["plain difference", "all guards"]
    for row in rows:
        assert row["flicker_ha"] > 0
        assert row["found_percent"] > 0.8 * row["found_once_percent"]
    assert rows[1]["removed_percent"] >= 70
    assert len(persistence_table(rows).rows) == 2
