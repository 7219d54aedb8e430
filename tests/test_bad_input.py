"""Bad input, as a user meets it: one sentence that names the file, exit code 1, nothing half-written."""

import contextlib
import glob
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError
from shapely.geometry import Polygon, box, mapping, shape

from landcover.checkpoint_file import read_spec, save_checkpoint
from landcover.legend import Legend
from landcover.model_spec import ModelSpec
from pipeline.cog import CogProfile, open_cog
from tests.command import landcover
from tests.limited import Outcome, landcover_each

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
    """An image without CRS stops a strict index, and no index is written."""
    (tmp_path / "images").mkdir()
    image(tmp_path / "images/good_20240601.tif", ["red", "nir"])
    with rasterio.open(
        tmp_path / "images/bare_20240601.tif", "w", driver="GTiff", width=10, height=10, count=3,
        dtype="uint8", transform=GRID.transform,
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((3, 10, 10), np.uint8))
    refused(tmp_path, "index", "images", "--strict", parts=("bare_20240601.tif", "CRS"))


def test_index_of_a_truncated_file(tmp_path: Path) -> None:
    """An image that breaks off is listed and the rest indexed; alone, or if strict, it is an error."""
    (tmp_path / "images").mkdir()
    bad = image(tmp_path / "images/cut_20240602.tif", ["red", "nir"])
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    refused(tmp_path, "index", "images", parts=("cut_20240602.tif",))
    image(tmp_path / "images/good_20240601.tif", ["red", "nir"])
    refused(tmp_path, "index", "images", "--strict", parts=("cut_20240602.tif",))
    result = landcover("index", "images", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 unusable files, listed in index.parquet.rejected.csv; the first: " in result.stdout
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
    refused(tmp_path, "segment", path, "--model", model, "--output", ".", parts=("is a folder",))
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


# --- every awkward file that was found, through the commands that take files


def tricky(shared_data: Path) -> list[Path]:
    """All 79 odd, broken and hostile files."""
    paths = sorted(path for path in (shared_data / "tricky_files").rglob("*") if path.is_file())
    assert len(paths) == 79
    return paths


def faults(outcome: Outcome) -> list[str]:
    """What is wrong with how a command ended: it must do its work or say in one sentence why not."""
    told = [line for line in outcome.screen.splitlines() if line.startswith("error: ")]
    wrong = {
        "neither done nor refused": outcome.status not in {0, 1},
        "a gigabyte": outcome.peak >= 1e9,
        "ten seconds": outcome.seconds >= 10,
        "a traceback": "Traceback" in outcome.screen,
        "no one sentence": len(told) != outcome.status,
        "more than a sentence": bool(told) and not outcome.screen.rstrip().endswith(told[0]),
        "a long sentence": bool(told) and len(told[0]) > 500,
    }
    return [fault for fault, found in wrong.items() if found]


def done(paths: list[Path], outcomes: list[Outcome]) -> list[Path]:
    """Files with which the command did its work; it must have refused all others properly."""
    pairs = list(zip(paths, outcomes, strict=True))
    wrong = {
        p.name: (found, outcome.screen[-400:]) for p, outcome in pairs if (found := faults(outcome))
    }
    assert wrong == {}
    return [path for path, outcome in pairs if outcome.status == 0]


def placed(path: Path, folder: Path) -> Path:
    """A folder of a date that holds a link to one file and to those that GDAL looks for beside it."""
    place = folder / path.parent.name / path.name
    (place / "2020-01-01").mkdir(parents=True)
    for beside in path.parent.glob(glob.escape(path.name) + "*"):
        (place / "2020-01-01" / beside.name).symlink_to(beside)
    return place


@pytest.fixture(scope="module")
def indexes(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Index of each tricky file by itself, as `landcover index` makes it; of those that it takes."""
    folder = tmp_path_factory.mktemp("tricky")
    places = {path: placed(path, folder) for path in tricky(shared_data)}
    commands = [("index", place, "--output", place / "index.ndjson") for place in places.values()]
    taken = done(list(places), landcover_each(commands))
    return {path: places[path] / "index.ndjson" for path in taken}


def test_tricky_files_through_index(indexes: dict[Path, Path]) -> None:
    """Each is indexed, on the Earth, or refused in one sentence: no traceback, 10 seconds, gigabyte."""
    assert len(indexes) == 23
    for path, index in indexes.items():
        west, south, east, north = json.loads(index.read_text())["bbox"]
        assert -90 <= south < north <= 90, path
        assert -180 <= west <= 180, path
        assert -180 <= east <= 180, path


def claimed(path: Path) -> dict[str, Any]:
    """An item such as a stranger's catalogue may hold: a file of any kind as a red band."""
    west, south = 14.0, 48.0
    with contextlib.suppress(RasterioError, ProjError), rasterio.open(path) as dataset:
        if dataset.crs and not dataset.transform.is_identity:
            degrees = Transformer.from_crs(dataset.crs.to_wkt(), "EPSG:4326", always_xy=True)
            lon, lat = degrees.transform(*dataset.xy(dataset.height // 2, dataset.width // 2))
            if abs(lon) < 179 and abs(lat) < 80:
                west, south = lon - 0.005, lat - 0.005
    footprint = box(west, south, west + 0.01, south + 0.01)
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": "x", "geometry": mapping(footprint),
        "bbox": footprint.bounds, "links": [], "assets": {"red": {"href": str(path)}},
        "properties": {"datetime": "2020-01-01T00:00:00Z", "gsd": 10},
    }  # fmt: skip


def indexed(index: Path) -> dict[str, Any]:
    """The item of an index of one image, its href absolute."""
    item: dict[str, Any] = json.loads(index.read_text())
    (asset,) = item["assets"].values()
    asset["href"] = str((index.parent / asset["href"]).resolve())
    return item


def composite_command(item: dict[str, Any], folder: Path, number: int) -> tuple[object, ...]:
    """`landcover composite` of an item's first band in a box around its middle."""
    middle = shape(item["geometry"]).representative_point()
    lon, lat = middle.x, max(-79.0, min(83.0, middle.y))
    half = max(0.004, 3 * item["properties"]["gsd"] / 111_000)  # degrees: some six pixels at least
    where = f"{lon - half},{lat - half},{lon + half},{lat + half}"
    ((key, asset),) = item["assets"].items()
    band = asset["bands"][0]["name"] if "bands" in asset else key
    items = folder / f"{number}.json"
    items.write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    return ("composite", "--output", folder / f"{number}.tif", "--bands", band, "--", items, where)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tricky_files_through_composite(
    shared_data: Path, tmp_path: Path, indexes: dict[Path, Path]
) -> None:
    """Each as a scene, indexed or claimed by a stranger's item, is composited or refused likewise."""
    paths = tricky(shared_data)
    items = [indexed(indexes[path]) if path in indexes else claimed(path) for path in paths]
    commands = [composite_command(item, tmp_path, n) for n, item in enumerate(items)]
    good = paths.index(shared_data / "tricky_files/geotiff_rasterio/RGB.byte.tif")
    landcover_each([commands[good]], seconds=300)  # what is compiled at first use is then there
    outcomes = landcover_each(commands)
    made = done(paths, outcomes)
    assert {path.name for path in tmp_path.glob("*.tif")} == {f"{paths.index(p)}.tif" for p in made}
    assert paths[good] in made
    told = {path.name: outcome.screen for path, outcome in zip(paths, outcomes, strict=True)}
    assert "corrupt.tif cannot be read" in told["corrupt.tif"]


def test_tricky_files_through_vectorize(shared_data: Path, tmp_path: Path) -> None:
    """None is a class raster with a legend: each is refused in one sentence, nothing is written."""
    paths = tricky(shared_data)
    output = tmp_path / "out.gpkg"
    assert done(paths, landcover_each([("vectorize", p, "--output", output) for p in paths])) == []
    assert list(tmp_path.iterdir()) == []


def test_tricky_vector_files_as_regions(shared_data: Path, tmp_path: Path) -> None:
    """Each GeoPackage is a region to search, or refused in one sentence."""
    paths = [path for path in tricky(shared_data) if path.suffix in {".gpkg", ".geojson"}]
    (tmp_path / "images").mkdir()
    image(tmp_path / "images/good_20240601.tif", ["red", "nir"])
    assert landcover("index", "images", cwd=tmp_path).returncode == 0
    asked = ("--catalog", tmp_path / "index.parquet", "--period", "2024-06-01")
    output = ("--output", tmp_path / "items.json")
    outcomes = landcover_each([("search", path, *asked, *output) for path in paths])
    assert done(paths, outcomes) == []
    told = {path.name: outcome.screen for path, outcome in zip(paths, outcomes, strict=True)}
    assert "no scene over this footprint" in told["states10.gpkg"]
    assert "empty.gpkg" in told["empty.gpkg"]
