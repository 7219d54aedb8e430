"""Facts of a map: text that is fit to show, without folders."""

import hashlib
from pathlib import Path

from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline.facts import run_layer, scene_facts, shown_facts, source_facts

GRID = GeoBox((2, 3), Affine(10, 0, 500_000, 0, -20, 5_000_000), "EPSG:32633")


def test_files_are_told_by_name_and_content(tmp_path: Path):
    """The SHA-256 finds the file again; its folder is nobody's business."""
    (tmp_path / "classes.tif").write_bytes(b"abc")
    facts = source_facts(
        {"classes": tmp_path / "classes.tif", "confidence": None}, "x/my.csv", GRID
    )
    assert facts["classes_file"] == "classes.tif"
    assert facts["classes_sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert facts["legend"] == "my.csv"
    assert (facts["crs"], facts["pixel_size"]) == ("EPSG:32633", "10 x 20 metre")
    assert not any("confidence" in name for name in facts)
    assert not any(str(tmp_path) in value for value in facts.values())


def test_a_turned_grid_has_the_side_of_its_pixels():
    """By hand: a pixel of 3 x 4 turned by any angle stays 3 x 4."""
    turned = GeoBox((2, 2), Affine.rotation(30) * Affine.scale(3, 4), "EPSG:32633")
    assert source_facts({}, None, turned)["pixel_size"] == "3 x 4 metre"


def test_only_what_is_known_is_told_as_plain_text():
    """Empty values go, lists are joined, control and bidirectional characters are replaced."""
    assert shown_facts({"a": None, "b": [], "c": ("x", 1), "d\n": "e\u202ef\x00", "g": 0.0}) == {
        "c": "x, 1", "d\N{REPLACEMENT CHARACTER}": "e\N{REPLACEMENT CHARACTER}f\N{REPLACEMENT CHARACTER}",
        "g": "0.0",
    }  # fmt: skip
    assert len(shown_facts({"a": "x" * 5000})["a"]) == 2000


def test_scenes_are_numbered_so_that_they_sort():
    """Ten scenes: two digits each."""
    facts = scene_facts([{"id": f"s{n}", "datetime": None} for n in range(10)])
    assert facts["scenes"] == "10"
    assert facts["scene_01"] == "s0, no single time"
    assert list(facts)[1:] == sorted(list(facts)[1:])


def test_the_layer_asks_when_it_is_written():
    """What the settings did is known only after the polygons: the table reads it late."""
    facts = {"a": "0"}
    layer = run_layer(lambda: facts, 1)
    facts["a"] = "1"
    assert layer.rows.read_all().to_pylist() == [{"name": "a", "value": "1"}]
