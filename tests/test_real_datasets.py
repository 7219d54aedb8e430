"""Real images and labels as they come: colours, per-band files, polygons elsewhere, 13 bands."""

import time
from pathlib import Path

import numpy as np
import pytest

from landcover.splits import SPLITS
from pipeline.dataset import load_dataset
from pipeline.dataset_survey import survey
from tests.command import ROOT
from tests.made_datasets import describe, write_raster

LULC = {
    1: "cultivated", 2: "forest", 3: "grassland", 4: "shrubland", 5: "water", 6: "wetlands", 7: "tundra",
    8: "artificial surface", 9: "bare", 10: "snow",
}  # fmt: skip


@pytest.fixture(autouse=True)
def data_variable(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that the examples name."""
    monkeypatch.setenv("LANDCOVER_SHARED_DATA", str(shared_data))


@pytest.fixture(scope="module")
def dubai(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped example, of one of the nine parts of each tile."""
    text = (ROOT / "examples/aerial-dubai.yml").read_text()
    path = tmp_path_factory.mktemp("dubai") / "dubai.yml"
    path.write_text(text.replace("{part}", "image_part_001"))
    return path


def test_photographs_labelled_by_color(dubai: Path) -> None:
    """Palette and RGB masks give the same classes; each tile goes to one split; no colour is unknown."""
    found = survey(dubai)
    assert found.errors == []
    assert len(found.parts) == 6
    assert sorted(found.splits) == [f"group Tile {n}" for n in (1, 2, 4, 5, 6, 7)]
    dataset = load_dataset(dubai)
    assert all(dataset.class_counts(split).any() for split in SPLITS)
    chip = dataset.draw("train", 256, 0, 0)
    assert chip.image.shape == (3, 256, 256)
    assert 0.1 < chip.image.max() <= 1


def test_photographs_are_drawn_fast(dubai: Path) -> None:
    """Images that are not tiled are decoded once: 100 chips of 256 pixels in less than 5 s of this process."""
    dataset = load_dataset(dubai)
    for index in range(20):
        dataset.draw("train", 256, 0, index)
    started = time.process_time()
    for index in range(100):
        dataset.draw("train", 256, 1, index)
    assert time.process_time() - started < 5


def test_training_polygons_in_another_crs() -> None:
    """Polygons of the Beaufort scene cover its pixels by their area; water and the outside are unlabelled."""
    found = survey(ROOT / "examples/sentinel2-beaufort.yml")
    assert found.errors == []
    dataset = load_dataset(ROOT / "examples/sentinel2-beaufort.yml")
    labelled = sum(int(dataset.class_counts(split).sum()) for split in SPLITS)
    # 40,546 m2 in all, and pixels of 9.0e-5 x 7.4e-5 degrees at 34.7 degrees north: 8.2 m x 8.2 m.
    assert labelled == pytest.approx(40_546 / (8.24 * 8.2), rel=0.05)
    valid = sum(one.tally.valid.sum() for one in found.scans)
    assert 0.4 < valid / (2629 * 2201) < 0.8
    chip = dataset.draw("train", 128, 0, 0)
    assert chip.codes.any()


def test_thirteen_bands_and_land_cover_of_slovenia(shared_data: Path, tmp_path: Path) -> None:
    """Arrays made into GeoTIFFs: two dates of the same ground never come to two splits; counts are the file's."""
    folder = shared_data / "sentinel2_lulc_slovenia"
    scenes = np.load(folder / "REFERENCE_SCENES.npy")
    (lulc,) = folder.rglob("LULC.npy")
    codes = np.load(lulc).squeeze().astype(np.uint8)
    names = [f"B{n:02}" for n in range(1, 9)] + ["B8A", "B09", "B10", "B11", "B12"]
    corner = (465_180.0, 5_080_250.0)
    write_raster(tmp_path / "labels.tif", codes, corner=corner)
    for date in (1, 4):
        image = scenes[date].transpose(2, 0, 1).astype(np.float32)
        write_raster(tmp_path / f"{date}.tif", image, corner=corner, names=names)
    legend = [{"code": c, "name": n, "color": f"#{c:02x}8040"} for c, n in LULC.items()]
    entry = {"image": "{date}.tif", "labels": "labels.tif"}
    bands = ["blue", "green", "red", "nir", "swir16"]
    path = describe(
        tmp_path, [entry | {"image": f"{date}.tif"} for date in (1, 4)], bands=bands, legend=legend,
        splits={"block": "20 px"},
    )  # fmt: skip
    dataset = load_dataset(path)
    total = sum(dataset.class_counts(split) for split in SPLITS)
    assert total.tolist() == [2 * int((codes == code).sum()) for code in LULC]
    assert total[1] == 2 * 7601
    assert all(0 < mean < 1 for mean in dataset.band_mean())
    units = {split: {block.name for block in dataset.blocks(split)} for split in SPLITS}
    assert not units["train"] & (units["validation"] | units["test"])
    assert any("water" in line.message for line in survey(path).findings)
