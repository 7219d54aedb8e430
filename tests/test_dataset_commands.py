"""landcover dataset: check, manifest, sheet, simulate, as a user calls them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from landcover.errors import SettingsError
from landcover.splits import SPLITS
from pipeline.dataset import load_dataset
from pipeline.dataset_manifest import write_manifest
from pipeline.dataset_sheet import write_sheet
from pipeline.simulate_dataset import simulate_dataset
from tests.command import ROOT, DemoRun, landcover
from tests.made_datasets import describe, mosaic, numbered, pair, write_raster


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated dataset, made by the command."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    result = landcover("dataset", "simulate", "-o", folder, "--regions", 2, "--size", 512)
    assert result.returncode == 0, result.stderr
    return folder / "dataset.yml"


def test_a_simulated_dataset_can_be_trained_on(simulated: Path) -> None:
    """Every pixel has a class, every split most classes, and bands are reflectances."""
    dataset = load_dataset(simulated)
    total = sum(dataset.class_counts(split) for split in SPLITS)
    assert total.sum() == 2 * 512 * 512
    assert all(dataset.class_counts(split).any() for split in SPLITS)
    assert all(0.01 < mean < 0.5 for mean in dataset.band_mean())
    chip = dataset.draw("train", 256, 0, 0)
    assert chip.image.shape == (6, 256, 256)
    assert chip.valid.all()


def test_simulation_is_the_same_again(tmp_path: Path) -> None:
    """The same numbers give the same bytes; another seed gives others."""
    said = {"regions": 1, "size": 64, "report": lambda _: None}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        simulate_dataset(output=tmp_path / name, seed=seed, **said)  # type: ignore[arg-type]
    image = [(tmp_path / name / "images/region-001.tif").read_bytes() for name in "abc"]
    assert image[0] == image[1] != image[2]
    with pytest.raises(SettingsError, match="holds something already"):
        simulate_dataset(output=tmp_path / "a", **said)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="The size is 63"):
        simulate_dataset(output=tmp_path / "d", size=63)
    assert not (tmp_path / "d").exists()


def test_check_of_a_good_dataset(simulated: Path) -> None:
    """Counts by split, the version, exit code 0."""
    result = landcover("dataset", "check", simulated)
    assert result.returncode == 0, result.stderr
    assert "Tree cover" in result.stdout
    assert f"version {load_dataset(simulated).version}" in result.stdout
    assert "error" not in result.stdout


def test_check_lists_every_fault(tmp_path: Path) -> None:
    """An unknown code, a missing CRS, a misaligned grid, a corrupt file: all in one go, exit code 1."""
    good = pair(tmp_path, "good", seed=3)
    labels = mosaic((64, 64))
    labels[0, 0] = 77
    write_raster(tmp_path / "unknown.tif", labels, corner=(600_000, 5_400_000))
    write_raster(tmp_path / "a.tif", numbered((64, 64), 9), corner=(600_000, 5_400_000))
    write_raster(tmp_path / "bare.tif", numbered((64, 64), 5), corner=None)
    write_raster(tmp_path / "aside.tif", mosaic((64, 64)), corner=(500_004, 5_400_000))
    (tmp_path / "broken.tif").write_bytes((tmp_path / "good.tif").read_bytes()[:400])
    entries = [
        good,
        {"image": "a.tif", "labels": "unknown.tif"},
        {"image": "bare.tif", "labels": "good-labels.tif"},
        {"image": "broken.tif", "labels": "good-labels.tif"},
    ]
    write_raster(tmp_path / "b.tif", numbered((64, 64), 7))
    entries.append({"image": "b.tif", "labels": "aside.tif"})
    path = describe(tmp_path, entries)
    result = landcover("dataset", "check", path)
    assert result.returncode == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert len(lines) == 4, result.stdout + result.stderr
    for part in (
        "77 (1x)",
        "bare.tif has no coordinate reference system",
        "broken.tif cannot be read",
        "not on the grid",
    ):
        assert any(part in line for line in lines), part
    refused = landcover("dataset", "manifest", path, "-o", tmp_path / "m.json")
    assert refused.returncode == 1
    assert "(3 more: see landcover dataset check)" in refused.stderr
    assert not (tmp_path / "m.json").exists()


def test_the_manifest_tells_files_blocks_and_counts(tmp_path: Path) -> None:
    """Hashes of all files, each block once, counts that add up, no path of this machine; the same again."""
    path = describe(
        tmp_path,
        [pair(tmp_path, "a"), pair(tmp_path, "b", seed=1, corner=(501_000.0, 5_400_000.0))],
    )
    content = write_manifest(dataset=path, output=tmp_path / "m.json")
    first = (tmp_path / "m.json").read_bytes()
    write_manifest(dataset=path, output=tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == first
    assert json.loads(first) == content
    assert set(content["files"]) == {"a.tif", "a-labels.tif", "b.tif", "b-labels.tif"}
    assert str(tmp_path) not in first.decode()
    blocks = [
        (image["name"], block["name"])
        for image in content["images"]
        for some in image["blocks"].values()
        for block in some
    ]
    assert len(blocks) == len(set(blocks)) > 16
    labelled = sum(sum(classes.values()) for classes in content["labelled_pixels"].values())
    assert labelled == sum(int((mosaic((64, 64), seed) > 0).sum()) for seed in (0, 1))


def test_the_sheet_is_one_safe_page(tmp_path: Path) -> None:
    """Pictures inside, nothing loaded; a hostile name is shown as text; the same bytes again."""
    legend = [{"code": 1, "name": "<script>alert(1)</script>", "color": "#0000ff"}]
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    write_raster(tmp_path / "l.tif", np.ones((64, 64), np.uint8))
    path = describe(tmp_path, [{"image": "a.tif", "labels": "l.tif"}], legend=legend)
    for name in ("one.html", "two.html"):
        write_sheet(dataset=path, output=tmp_path / name)
    page = (tmp_path / "one.html").read_text()
    assert page == (tmp_path / "two.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert page.count("data:image/png;base64,") == 3
    assert str(tmp_path) not in page
    result = landcover("dataset", "sheet", path, "-o", path)
    assert result.returncode == 1
    assert "is the dataset itself" in result.stderr


DATASETS = [p for p in sorted((ROOT / "examples").glob("*.yml")) if not p.match("train-*")]
"""The others are trainings."""


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.name)
def test_examples_can_be_used(
    path: Path,
    shared_data: Path,
    demo_run: DemoRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every example of a dataset finds its files, those of the demo included, and its YAML is right."""
    from pipeline.dataset_file import read_dataset_file

    monkeypatch.setenv("LANDCOVER_SHARED_DATA", str(shared_data))
    copy = tmp_path / path.name
    photographs = tmp_path / "photographs"
    if "photographs/" in path.read_text():
        simulate_dataset(output=photographs, kind="photograph", regions=1, size=64)
    text = path.read_text().replace("../outputs/train/photographs", str(photographs))
    copy.write_text(text.replace("../outputs", str(demo_run.out)))
    assert read_dataset_file(copy).sources
