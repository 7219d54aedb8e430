"""The YAML of a dataset: patterns find files, mistakes are told in a sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from landcover.errors import DatasetError
from pipeline.dataset_file import length, read_dataset_file
from tests.made_datasets import describe, mosaic, numbered, write_raster


def folders(folder: Path) -> None:
    """Images and labels of two tiles, two parts each, beside something else."""
    for tile in ("Tile 1", "Tile [2]"):
        for part in ("p1", "p2"):
            write_raster(folder / tile / "images" / f"{part}.png", numbered((8, 8)), corner=None)
            write_raster(folder / tile / "masks" / f"{part}.png", mosaic((8, 8)), corner=None)
    (folder / "Tile 1" / "images" / "notes.txt").write_text("")


def test_fields_of_the_path_name_labels_and_group(tmp_path: Path) -> None:
    """What a field stands for in the image's path is put into labels and group; brackets are no pattern."""
    folders(tmp_path)
    entry = {
        "image": "{tile}/images/{part}.png",
        "labels": "{tile}/masks/{part}.png",
        "group": "{tile}",
    }
    plan = read_dataset_file(describe(tmp_path, [entry]))
    assert [(s.name, s.labels.name, s.group) for s in plan.sources] == [
        (f"{tile}/images/{part}.png", f"{tile}/masks/{part}.png", tile)
        for tile in ("Tile 1", "Tile [2]")
        for part in ("p1", "p2")
    ]


def test_stars_and_a_field_named_twice(tmp_path: Path) -> None:
    """`*` is anything within a part of the path; a field is the same text wherever it stands."""
    folders(tmp_path)
    entry = {"image": "*/images/p1.png", "labels": "Tile 1/masks/p1.png", "group": "g"}
    names = [source.name for source in read_dataset_file(describe(tmp_path, [entry])).sources]
    assert names == ["Tile 1/images/p1.png", "Tile [2]/images/p1.png"]
    write_raster(tmp_path / "x" / "x.png", numbered((8, 8)), corner=None)
    write_raster(tmp_path / "x" / "y.png", numbered((8, 8)), corner=None)
    entry = {"image": "{a}/{a}.png", "labels": "{a}/y.png", "group": "g"}
    assert [s.name for s in read_dataset_file(describe(tmp_path, [entry])).sources] == ["x/x.png"]


def test_variables_of_ours_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """${LANDCOVER_...} is replaced, but not in names, so the version is the same elsewhere; others are not."""
    folders(tmp_path)
    monkeypatch.setenv("LANDCOVER_TEST_DATA", str(tmp_path / "Tile 1"))
    monkeypatch.setenv("HOME_OF_SECRETS", str(tmp_path))
    home = tmp_path / "yaml"
    home.mkdir()
    entry = {
        "image": "${LANDCOVER_TEST_DATA}/images/{p}.png",
        "labels": "${LANDCOVER_TEST_DATA}/masks/{p}.png",
        "group": "g",
    }
    plan = read_dataset_file(describe(home, [entry]))
    assert [s.name for s in plan.sources] == [
        f"${{LANDCOVER_TEST_DATA}}/images/p{n}.png" for n in (1, 2)
    ]
    assert plan.sources[0].files[0].path.is_file()
    monkeypatch.delenv("LANDCOVER_TEST_DATA")
    with pytest.raises(DatasetError, match="variable LANDCOVER_TEST_DATA is not set"):
        read_dataset_file(describe(home, [entry]))
    with pytest.raises(DatasetError, match="there is no image"):
        read_dataset_file(
            describe(home, [entry | {"image": "${HOME_OF_SECRETS}/Tile 1/images/{p}.png"}])
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "'images'"),
        ({"bands": []}, "name each band once"),
        ({"bands": ["red", "Red"]}, "name each band once"),
        ({"colour": 1}, "Extra inputs are not permitted"),
        ({"legend": [{"code": 300, "name": "x", "color": "#000000"}]}, "codes from 1 to 255"),
        ({"legend": [{"code": 1, "name": "x"}]}, "needs code, name and color"),
        ({"legend": "nothing"}, "The legend 'nothing' is neither one of"),
        ({"legend": "corine"}, "codes from 1 to 255"),
        ({"splits": {"block": "big"}}, "write a length"),
        ({"splits": {"block": "0 m"}}, "the block has no size"),
        ({"splits": {"shares": {"train": -1}}}, "shares are positive numbers"),
        ({"splits": {"shares": {"dev": 1}}}, "splits.shares"),
        ({"images": [{"image": "none.tif", "labels": "l.png"}]}, "there is no image none.tif"),
        ({"images": [{"image": "{x}.gif", "labels": "l.png"}]}, "there is no image {x}.gif"),
        ({"images": [{"image": "https://x/a.tif", "labels": "l.png"}]}, "no file of this machine"),
        ({"images": [{"image": "/vsicurl/x", "labels": "l.png"}]}, "no file of this machine"),
        ({"images": [{"image": "a.png", "labels": "{y}.png"}]}, "uses {y}, which the image's path does not"),
        ({"images": [{"image": {"red": "a.png"}, "labels": "l.png"}]}, "no file for the band gray"),
        ({"images": [{"image": "a.png", "labels": "l.png"}] * 2}, "named twice"),
        ({"ignore": "none.gpkg"}, "no file none.gpkg"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """One sentence that begins with the file's name."""
    write_raster(tmp_path / "a.png", numbered((8, 8)), corner=None)
    write_raster(tmp_path / "l.png", mosaic((8, 8)), corner=None)
    images = change.get("images", [{"image": "a.png", "labels": "l.png"}])
    rest = {key: value for key, value in change.items() if key != "images"}
    path = describe(tmp_path, images, **rest)
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset_file(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        "just words",
        "a: 1\na: 2\n",
        "a: {b: 1, b: 2}",
        "!!python/object:os.system {}",
        "&a [*a]",
    ],
)
def test_what_is_no_dataset(tmp_path: Path, text: str) -> None:
    """Broken YAML, a key given twice, a hostile tag: refused in a sentence."""
    path = tmp_path / "d.yml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=str(path)):
        read_dataset_file(path)
    with pytest.raises(DatasetError, match="no dataset file"):
        read_dataset_file(tmp_path / "none.yml")


def test_a_named_legend_brings_its_codes(tmp_path: Path) -> None:
    """Dynamic World's 0 is water, and its values need no mapping."""
    write_raster(tmp_path / "a.png", numbered((8, 8)), corner=None)
    write_raster(tmp_path / "l.png", mosaic((8, 8)), corner=None)
    path = describe(tmp_path, [{"image": "a.png", "labels": "l.png"}], legend="dynamicworld")
    plan = read_dataset_file(path)
    assert plan.legend[plan.legend_codes[0]].name == "Water"


def test_lengths() -> None:
    """Metres, kilometres, pixels."""
    assert [length(t) for t in ("2 km", "30.5 m", "256 px")] == [
        (2000, False),
        (30.5, False),
        (256, True),
    ]


def test_a_dumped_example_is_yaml(tmp_path: Path) -> None:
    """The helper of these tests writes what a person would."""
    assert yaml.safe_load(describe(tmp_path, []).read_text())["name"] == "made"
