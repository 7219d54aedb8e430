"""Groups and plausibility of changes, and the table that comes with the program."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from landcover.errors import LegendError
from landcover.legend import LandClass, Legend
from landcover.simulation import LEGEND
from landcover.transition_groups import (
    IMPLAUSIBLE,
    SEASONAL,
    TransitionRule,
    Transitions,
    TransitionTable,
)
from pipeline.transition_table import transition_table

LEGENDS = Path(__file__).parent.parent / "pipeline" / "legends"


@pytest.mark.parametrize(
    ("before", "after", "group", "plausibility"),
    [
        ("Cropland", "Built-up", "Urban growth", "plausible"),
        ("Tree cover", "Built-up", "Urban growth", "plausible"),
        ("Built-up", "Tree cover", "Urban loss", "implausible"),
        ("Tree cover", "Bare ground", "Forest loss", "plausible"),
        ("Grassland", "Water", "Water gain", "plausible"),
        ("Water", "Bare ground", "Water loss", "plausible"),
        ("Cropland", "Bare ground", "Agricultural loss", "seasonal"),
        ("Built-up", "Built-up", "Urban renewal", "plausible"),
        ("Glass houses", "Moon", "Other change", "plausible"),
        ("Moon", "  BUILT-up ", "Urban growth", "plausible"),
    ],
)
def test_the_shipped_table(before: str, after: str, group: str, plausibility: str):
    """What common changes are called; names are read in any case, unknown ones are of an unknown kind."""
    rule = transition_table().rule(before, after)
    assert (rule.group, rule.plausibility) == (group, plausibility)


def test_every_class_of_every_shipped_legend_has_a_kind():
    """No class of the demo, WorldCover, Dynamic World or CORINE is `other`."""
    table, names = transition_table(), list(LEGEND.names)
    for path in LEGENDS.glob("*.csv"):
        lines = [x for x in path.read_text().splitlines() if not x.startswith("#")]
        names += [row["name"] for row in csv.DictReader(lines) if row.get("code") != "0"]
    assert len(set(names)) > 60
    assert [name for name in names if table.kind(name) == "other"] == []


def test_pairs_of_a_legend():
    """Masks by pair code; a class that stays is in none; surfaces are those of built-up and bare land."""
    found = Transitions(LEGEND, transition_table())
    seasonal, implausible = found.are(SEASONAL), found.are(IMPLAUSIBLE)
    assert seasonal[5 * 256 + 7]
    assert not seasonal[2 * 256 + 7]
    assert implausible[8 * 256 + 2]
    assert not implausible[2 * 256 + 8]
    assert not (seasonal | implausible)[np.arange(1, 9) * 257].any()
    assert np.flatnonzero(found.surface_codes).tolist() == [7, 8]


def test_a_legend_of_groups_names_what_occurs():
    """In the order of the table, each with its number there."""
    found = Transitions(LEGEND, transition_table())
    groups = found.group_legend([5 * 256 + 8, 2 * 256 + 7, 4 * 256 + 8])
    assert groups.names == ("Urban growth", "Forest loss")
    assert groups.codes == (found.group_number(5 * 256 + 8), found.group_number(2 * 256 + 7))
    assert found.group_legend([]).names == ("No change",)


def test_bad_tables_are_refused(tmp_path: Path):
    """Without a last rule for all else, an unknown word, a group without colour, missing columns, no file."""
    end = TransitionRule("*", "*", "All", "plausible")
    good = TransitionTable({}, (end,), {"All": "#000000"}, frozenset())
    with pytest.raises(LegendError, match=r"no last rule"):
        replace(good, rules=())
    with pytest.raises(LegendError, match="called 'maybe'"):
        replace(good, rules=(TransitionRule("a", "b", "All", "maybe"), end))
    with pytest.raises(LegendError, match="has no colour"):
        replace(good, colors={})
    (tmp_path / "t.csv").write_text("from,to\n1,2\n")
    with pytest.raises(LegendError, match=r"has the columns from, to; it needs from_kind"):
        transition_table(tmp_path / "t.csv")
    with pytest.raises(LegendError, match="cannot be read"):
        transition_table(tmp_path / "absent.csv")


def test_a_class_name_is_only_a_name():
    """Odd names are neither markup nor paths nor errors."""
    odd = Legend((LandClass(1, "<b>&'\"; DROP", "#000000"), LandClass(2, "../x", "#ffffff")))
    assert Transitions(odd, transition_table()).group(258) == "Other change"
