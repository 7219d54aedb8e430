"""Bad input, as a user meets it: one sentence that names the file, exit code 1, nothing half-written."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from odc.geo.geobox import GeoBox
from shapely.geometry import Polygon, box

from landcover.legend import Legend
from landcover.models import ModelSpec, read_spec, save_checkpoint
from pipeline.cog import CogProfile, open_cog
from tests.command import landcover

GRID = GeoBox.from_bbox((500_000, 5_300_000, 501_000, 5_300_800), "EPSG:32633", resolution=10)
LEGEND = Legend.from_records(
    [
        {"code": 1, "name": "Water", "color": "#0000ff"},
        {"code": 2, "name": "Land", "color": "#00aa00"},
    ]
)


def refused(folder: Path, *arguments: object, parts: tuple[str, ...]) -> None:
    """One sentence with all parts on stderr, exit code 1; no file appears but the run's ledger."""
    before = {path for path in folder.rglob("*") if path.is_file()}
    result = landcover(*arguments, cwd=folder)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("error: "), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr, result.stderr
    after = {path for path in folder.rglob("*") if path.is_file()} - before
    assert {path.name for path in after} <= {"run.json", "items.json"}


def image(path: Path, bands: list[str]) -> Path:
    """A composite with the given bands."""
    pixels = np.random.default_rng(0).integers(1, 5000, (len(bands), *GRID.shape)).astype(np.uint16)
    with open_cog(path, GRID, CogProfile("uint16", bands)) as writer:
        writer.write(pixels)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint of two bands and random weights."""
    torch.manual_seed(0)
    spec = ModelSpec(
        "tu-mobilenetv3_small_050", (32, 24, 16, 16, 16), ("red", "nir"), 1e-4, 0.0,
        (0.1, 0.2), (0.1, 0.1), LEGEND, 64, 16,
    )  # fmt: skip
    save_checkpoint(tmp_path / "model.safetensors", spec.build(), spec)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("geometry", "crs", "part"),
    [
        (Polygon([(15, 48), (15.1, 48.1), (15.1, 48), (15, 48.1)]), 4326, "crosses itself"),
        (Polygon(), 4326, "holds no geometry"),
        (box(48, 95, 48.1, 95.1), 4326, "swapped"),
        pytest.param(
            box(15, 48, 15.1, 48.1), None, "no coordinate reference system",
            marks=pytest.mark.filterwarnings("ignore:'crs' was not provided"),
        ),
    ],
)  # fmt: skip
def test_region_files(
    tmp_path: Path, model: Path, geometry: Polygon, crs: int | None, part: str
) -> None:
    """A bow-tie, an empty geometry, swapped axes and a missing CRS are each told."""
    path = tmp_path / "region.gpkg"
    gpd.GeoDataFrame(geometry=[geometry], crs=crs).to_file(path)
    refused(tmp_path, "run", path, "--model", model, parts=("region.gpkg", part))


def test_period_reversed(tmp_path: Path, model: Path) -> None:
    """A period that ends before it starts is told."""
    arguments = ("run", "15,48,15.1,48.1", "--model", model, "--period", "2024-08-31/2024-06-01")
    refused(tmp_path, *arguments, parts=("2024-08-31/2024-06-01 ends before it starts",))


def test_truncated_image(tmp_path: Path, model: Path) -> None:
    """A TIFF that breaks off is named by segment."""
    path = image(tmp_path / "cut.tif", ["red", "nir"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(tmp_path, "segment", path, "--model", model, parts=("cut.tif",))


def test_truncated_class_raster(tmp_path: Path) -> None:
    """A class raster that breaks off is named by vectorize and summarize."""
    path = classes(tmp_path, [1, 2])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refused(tmp_path, "vectorize", path, parts=("classes.tif",))
    refused(tmp_path, "summarize", path, parts=("classes.tif",))


def test_bands_that_do_not_match(tmp_path: Path, model: Path) -> None:
    """A model that needs other bands than the image has names both."""
    path = image(tmp_path / "rgb.tif", ["red", "green"])
    refused(tmp_path, "segment", path, "--model", model, parts=("nir", "green", "rgb.tif"))


def test_a_pickle_is_not_a_model(tmp_path: Path) -> None:
    """A pickled checkpoint is refused unread."""
    torch.save({"weights": 1}, tmp_path / "model.pt")
    path = image(tmp_path / "image.tif", ["red", "nir"])
    refused(tmp_path, "segment", path, "--model", "model.pt", parts=("model.pt", "safetensors"))


def classes(folder: Path, codes: list[int]) -> Path:
    """A class raster whose legend knows the codes 1 and 2."""
    path = folder / "classes.tif"
    tags = {"LEGEND": json.dumps(LEGEND.to_records())}
    profile = CogProfile("uint8", ["class"], "mode", LEGEND.colormap(), tags)
    with open_cog(path, GRID, profile) as writer:
        writer.write(np.random.default_rng(0).choice(codes, (1, *GRID.shape)).astype(np.uint8))
    return path


@pytest.mark.parametrize("verb", ["vectorize", "summarize"])
def test_a_class_that_the_legend_does_not_know(tmp_path: Path, verb: str) -> None:
    """A code without a legend entry is told, not mapped as something."""
    refused(tmp_path, verb, classes(tmp_path, [1, 2, 9]), parts=("9", "legend", "classes.tif"))


def test_index_of_a_file_without_crs(tmp_path: Path) -> None:
    """An image without CRS stops the index, and no index is written."""
    (tmp_path / "images").mkdir()
    image(tmp_path / "images/good_20240601.tif", ["red", "nir"])
    with rasterio.open(
        tmp_path / "images/bare_20240601.tif", "w", driver="GTiff", width=10, height=10, count=3,
        dtype="uint8", transform=GRID.transform,
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((3, 10, 10), np.uint8))
    refused(tmp_path, "index", "images", parts=("bare_20240601.tif", "CRS"))


def test_index_of_a_truncated_file(tmp_path: Path) -> None:
    """An image that breaks off stops the index; with --skip-bad the rest is indexed and it is listed."""
    (tmp_path / "images").mkdir()
    image(tmp_path / "images/good_20240601.tif", ["red", "nir"])
    bad = image(tmp_path / "images/cut_20240602.tif", ["red", "nir"])
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    refused(tmp_path, "index", "images", parts=("cut_20240602.tif",))
    result = landcover("index", "images", "--skip-bad", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "cut_20240602.tif" in (tmp_path / "index.parquet.rejected.csv").read_text()


@pytest.mark.parametrize("harm", ["truncated", "missing"])
def test_a_scene_that_is_damaged_after_it_was_indexed(
    tmp_path: Path, model: Path, harm: str
) -> None:
    """A run over a scene that breaks off or is gone names the file in one line."""
    (tmp_path / "images").mkdir()
    path = image(tmp_path / "images/scene_20240601.tif", ["red", "nir"])
    assert landcover("index", "images", cwd=tmp_path).returncode == 0
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    else:
        path.unlink()
    arguments = ("run", middle(), "--model", model, "--catalog", "index.parquet")
    period = ("--period", "2024-06-01")
    refused(tmp_path, *arguments, *period, parts=("scene_20240601.tif cannot be read",))


def middle() -> str:
    """A box around the middle of the grid, W,S,E,N."""
    lon, lat = GRID.extent.to_crs("EPSG:4326").geom.centroid.coords[0]
    return f"{lon - 0.001},{lat - 0.001},{lon + 0.001},{lat + 0.001}"


def test_other_mistakes(tmp_path: Path, model: Path) -> None:
    """A scene list that is none, one file for two rasters, a device that is none."""
    (tmp_path / "items.json").write_text("[]")
    refused(tmp_path, "composite", "items.json", middle(), parts=("items.json", "landcover search"))
    path = image(tmp_path / "image.tif", ["red", "nir"])
    same = ("--model", model, "--output", "x.tif", "--confidence", "x.tif")
    refused(tmp_path, "segment", path, *same, parts=("x.tif", "cannot be one file"))
    same = ("--model", model, "--output", path)
    refused(tmp_path, "segment", path, *same, parts=("image.tif", "cannot be one file"))
    made = classes(tmp_path, [1, 2])
    refused(tmp_path, "vectorize", made, "--output", made, parts=("classes.tif", "one file"))
    refused(tmp_path, "summarize", made, "--output", made, parts=("classes.tif", "one file"))
    refused(tmp_path, "run", middle(), "--model", model, "--device", "tpu", parts=("'tpu'",))


def test_a_failed_run_is_not_published(tmp_path: Path, model: Path) -> None:
    """After a run with another model failed half-way, run.json does not claim its maps are that model's."""
    (tmp_path / "images").mkdir()
    image(tmp_path / "images/scene_20240601.tif", ["red", "nir"])
    assert landcover("index", "images", cwd=tmp_path).returncode == 0
    arguments = ("run", middle(), "--catalog", "index.parquet", "--period", "2024-06-01")
    first = landcover(*arguments, "--model", model, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (folder,) = tmp_path.glob("outputs/*/*/")
    before = json.loads((folder / "run.json").read_text())
    spec = replace(read_spec(model), bands=("red", "thermal"))
    save_checkpoint(tmp_path / "other.safetensors", spec.build(), spec)
    second = landcover(*arguments, "--model", "other.safetensors", cwd=tmp_path)
    assert second.returncode == 1
    assert "thermal" in second.stderr
    after = json.loads((folder / "run.json").read_text())
    assert after["model"] == before["model"]
    refused(tmp_path, "publish", folder, parts=("no finished run",))


def test_no_scene(tmp_path: Path, model: Path) -> None:
    """Where there is no scene, region, period, catalogue and the nearest date are named."""
    (tmp_path / "images").mkdir()
    image(tmp_path / "images/good_20240601.tif", ["red", "nir"])
    assert landcover("index", "images", cwd=tmp_path).returncode == 0
    arguments = (
        "run",
        middle(),
        "--model",
        model,
        "--catalog",
        "index.parquet",
        "--period",
        "2020-01-01/2020-02-01",
    )
    refused(
        tmp_path,
        *arguments,
        parts=("bbox_", "2020-01-01/2020-02-01", "index.parquet", "2024-06-01"),
    )
