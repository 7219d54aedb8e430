"""One's own images as the region: all they show, on all dates; and what happens when one is broken."""

import json
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

from tests.command import landcover
from tests.made_scenes import save

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
GRID = GeoBox.from_bbox((500_000, 5_300_000, 502_400, 5_302_000), "EPSG:32633", resolution=20)


def stack(folder: Path, name: str) -> Path:
    """A multi-band image whose bands say their names, at 20 m."""
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(4).integers(200, 4000, (len(BANDS), *GRID.shape))
    path = save(folder / name, pixels.astype(np.uint16), GRID, tiled=True, compress="deflate")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = BANDS
    return path


def test_an_image_is_a_region(tmp_path: Path) -> None:
    """`landcover run IMAGE.tif` maps what it shows, on its own pixels, whenever it was taken."""
    image = stack(tmp_path / "images", "field_20190704.tif")
    result = landcover("run", image, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "out/field_20190704/all-dates"
    with rasterio.open(folder / "composite.tif") as made, rasterio.open(image) as given:
        assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
        np.testing.assert_array_equal(made.read(range(1, 7)), given.read())
    assert json.loads((folder / "run.json").read_text())["period"] == "2019-07-04/2019-07-04"


def test_an_index_is_a_region(tmp_path: Path) -> None:
    """An index as region is its own catalogue, all dates together."""
    stack(tmp_path / "images", "field_20190704.tif")
    stack(tmp_path / "images", "field_20210811.tif")
    index = tmp_path / "fields.ndjson"
    assert landcover("index", tmp_path / "images", "--output", index).returncode == 0
    result = landcover("run", index, "--out", tmp_path / "out", "--method", "latest")
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "out/fields/all-dates/run.json").read_text())
    assert record["period"] == "2019-07-04/2021-08-11"
    assert record["settings"]["method"] == "latest"


def test_a_broken_scene_is_in_the_record(tmp_path: Path) -> None:
    """A run that fails on a file says which, exits with 1, and leaves the ledger of errors in run.json."""
    image = stack(tmp_path / "images", "field_20190704.tif")
    index = tmp_path / "fields.ndjson"
    assert landcover("index", tmp_path / "images", "--output", index).returncode == 0
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    result = landcover("run", index, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "field_20190704.tif cannot be read" in result.stderr
    folder = tmp_path / "out/fields/all-dates"
    (entry,) = json.loads((folder / "run.json").read_text())["errors"]
    assert entry["asset"] == str(image)
    assert entry["reason"]
    assert not (folder / "composite.tif").exists()
    image.write_bytes(content)
    assert landcover("run", index, "--out", tmp_path / "out").returncode == 0
    assert "errors" not in json.loads((folder / "run.json").read_text())


def test_a_mask_that_comes_later_is_noticed(tmp_path: Path) -> None:
    """A mask put beside a mapped image makes the next run anew: what it hides is nodata."""
    image = stack(tmp_path / "images", "field_20190704.tif")
    index = tmp_path / "fields.ndjson"
    assert landcover("index", tmp_path / "images", "--output", index).returncode == 0
    assert landcover("run", index, "--out", tmp_path / "out").returncode == 0
    shown = np.full(GRID.shape, 255, np.uint8)
    shown[:40] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(image, "r+") as dataset:
        dataset.write_mask(shown)
    assert image.with_name(f"{image.name}.msk").exists()
    assert landcover("run", index, "--out", tmp_path / "out").returncode == 0
    with rasterio.open(tmp_path / "out/fields/all-dates/composite.tif") as dataset:
        np.testing.assert_array_equal(dataset.dataset_mask(), shown)
