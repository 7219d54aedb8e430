"""The crosswalks that come with the program, and those of users."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from landcover.errors import LegendError
from landcover.legend import LandClass, Legend
from landcover.simulation import LEGEND as DEMO
from pipeline.crosswalk_areas import (
    SOURCES,
    TARGETS,
    crosswalk_areas,
    load_crosswalk,
    read_crosswalk,
)
from pipeline.value_legend import value_legend

FOLDER = Path(__file__).parent.parent / "pipeline/crosswalks"
SHIPPED = sorted(FOLDER.glob("*.csv"))
CODES = {
    "corine1": "1 2 3 4 5",
    "corine2": "11 12 13 14 21 22 23 24 31 32 33 41 42 51 52",
    "ipcc": "3B1 3B2 3B3 3B4 3B5 3B6",
    "anderson1": "1 2 3 4 5 6 7 8 9",
    "lccs": "A11 A12 A23 A24 B15 B16 B27 B28",
}
"""All codes of the targets that are no legend of ours."""


def known(name: str, folder: Path) -> Legend:
    """A legend that comes with the program."""
    if name == "demo":
        return DEMO
    path = folder / "blank.tif"
    with rasterio.open(path, "w", driver="GTiff", width=1, height=1, count=1, dtype="uint8",
                       crs="EPSG:6933", transform=rasterio.Affine(9, 0, 5, 0, -9, 5)) as dataset:  # fmt: skip
        dataset.write(np.zeros((1, 1, 1), np.uint8))
    with rasterio.open(path) as dataset:
        return value_legend(dataset, name).legend


def test_all_targets_are_there() -> None:
    """WorldCover, Dynamic World, CORINE levels 1 and 2, IPCC, Anderson level I, LCCS, and the demo's."""
    assert set(TARGETS) == set(CODES) | {"worldcover", "dynamicworld", "demo"}
    assert set(SOURCES) == {"worldcover", "dynamicworld", "corine", "demo"}
    assert len(SHIPPED) == 27


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_tables_are_whole(path: Path, tmp_path: Path) -> None:
    """Each names its sources, has a row for each class of its legend and no other, and targets that exist."""
    source, target = path.stem.split("_to_")
    table, legend = read_crosswalk(path), known(source, tmp_path)
    assert [(row.from_code, row.from_name) for row in table.rows] == [(c.code, c.name) for c in legend.classes]  # fmt: skip
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert len(head) == 3
    assert re.search(r"Sources?: .*(19|20)\d\d", head[1])
    goal = set(CODES[target].split()) if target in CODES else {str(c) for c in known(target, tmp_path).codes}  # fmt: skip
    used = {row.to_code for row in table.rows if row.to_code}
    assert used <= goal
    if target not in CODES:
        names = {str(c.code): c.name for c in known(target, tmp_path).classes}
        assert all(row.to_name == names[row.to_code] for row in table.rows if row.to_code)
    for row in table.rows:
        assert row.note or not (row.lossy or not row.to_code), row
        assert row.lossy or row.to_code, row


def test_target_names_are_the_same_in_all_tables() -> None:
    """A target class has one name, whatever the table."""
    names: dict[tuple[str, str], set[str]] = {}
    for path in SHIPPED:
        for row in read_crosswalk(path).rows:
            names.setdefault((path.stem.split("_to_")[1], row.to_code), set()).add(row.to_name)
    assert [key for key, found in names.items() if len(found) > 1] == []


def test_corine_levels_follow_from_the_codes() -> None:
    """Levels 1 and 2 of CORINE are the first digits of level 3, nothing lost."""
    for level, digits in (("corine1", 1), ("corine2", 2)):
        rows = read_crosswalk(FOLDER / f"corine_to_{level}.csv").rows
        assert all(row.to_code == str(row.from_code)[:digits] and not row.lossy for row in rows)


def test_the_table_is_chosen_by_the_legend(tmp_path: Path) -> None:
    """The same target is reached from each legend by its own table; a part of a legend will do."""
    for source in SOURCES:
        legend = known(source, tmp_path)
        assert load_crosswalk("ipcc", legend).table.starts_from(legend)
    part = Legend(DEMO.classes[:3])
    assert load_crosswalk("ipcc", part).table.starts_from(part)


def test_other_legends_are_refused() -> None:
    """Names alike are not enough, codes alike are not enough; the sentence says what to do."""
    for other in (LandClass(1, "Trees", "#00ff00"), LandClass(99, "Water", "#0000ff")):
        with pytest.raises(
            LegendError, match=r"No crosswalk to ipcc .* only from corine, demo.* --legend"
        ):
            load_crosswalk("ipcc", Legend((other,)))
    with pytest.raises(LegendError, match="No crosswalk to lccs"):
        load_crosswalk("lccs", DEMO)


GOOD = "from_code,from_name,to_code,to_name,lossy,note\n1,Water,W,Blue,no,\n2,Trees,,,yes,none\n"
LEGEND = Legend((LandClass(1, "Water", "#0000ff"), LandClass(2, "Trees", "#00ff00")))


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    """A CSV file gives hectares by its targets; its name names the table; formulas are defused."""
    path = tmp_path / "my targets.csv"
    path.write_text("# mine\n" + GOOD.replace("W,Blue", "=1+1,@Blue"), encoding="utf-8-sig")
    walk = load_crosswalk(str(path), LEGEND)
    assert walk.target == "my_targets"
    details = {"rows": [{"class_code": 1, "area_ha": 3.0}, {"class_code": 2, "area_ha": 1.0}]}
    rows = crosswalk_areas(walk, details, LEGEND, tmp_path / "out.csv")
    assert [(row["class_code"], row["area_ha"]) for row in rows] == [("=1+1", 3.0), ("", 1.0)]
    with (tmp_path / "out.csv").open(newline="") as stream:
        first, last = csv.DictReader(stream)
    assert (first["class_code"], first["class_name"], first["share_percent"]) == ("'=1+1", "'@Blue", "75.0")  # fmt: skip
    assert (last["class_name"], last["area_ha"]) == ("No counterpart", "1.0")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "neither one of anderson1, corine1"),
        ("a,b\n1,2\n", "lacks the columns from_code, from_name"),
        (GOOD.splitlines()[0], "has no row"),
        (GOOD.replace(",no,", ",perhaps,"), "says lossy 'perhaps'"),
        (GOOD.replace("1,Water", "one,Water"), "class 'one'"),
        (GOOD.replace("1,Water", "\u0661,Water"), "whole number"),
        (GOOD + "1,Water,X,Other,no,\n", "names the class 1 twice"),
        (GOOD.replace("2,Trees", "2,Wood"), "has no row for 2 Trees"),
        (GOOD.replace("2,Trees,,,yes,none\n", ""), "has no row for 2 Trees"),
        (b"\xff\xfe\x00", "neither one of"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str | bytes | None, part: str) -> None:
    """Each mistake in a table is told in one sentence."""
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LegendError, match=part):
        load_crosswalk(str(path), LEGEND)
