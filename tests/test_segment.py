"""From an image and a checkpoint to the class raster and its confidence."""

import dataclasses
import gc
import json
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate
from torch import nn

import pipeline.segment
from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, LandcoverError, RasterError, SettingsError
from landcover.inference import Predictor
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from landcover.runtimes import available, open_runtime
from landcover.tiling import TileGrid
from pipeline.artifacts import check_distinct
from pipeline.band_segmenter import segment_rows
from pipeline.segment import segment, segment_image
from pipeline.strip_reader import open_image

BANDS = ("red", "nir", "swir16")
LEGEND = Legend(tuple(LandClass(c, f"class {c}", f"#{c:02x}8040") for c in (3, 1, 7, 200, 5)))
SPEC = ModelSpec(
    "tu-mobilenetv3_small_100", (32, 24, 16, 16, 8), BANDS, 1e-4, 0.0,
    (0.2, 0.3, 0.2), (0.1, 0.1, 0.1), LEGEND, 32, 12,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net with random weights whose map is nevertheless varied."""
    torch.manual_seed(1)
    network = SPEC.build()
    head = network.segmentation_head[0]
    nn.init.normal_(head.weight, std=2)
    nn.init.normal_(head.bias, std=0.1)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_checkpoint(path, network, SPEC)
    return path


def write_image(
    path: Path,
    height: int,
    width: int,
    seed: int = 0,
    names: tuple[str, ...] = BANDS,
    crs: str | None = "EPSG:32633",
) -> np.ndarray:
    """Write a random composite with a hole and specks of nodata; return which pixels are valid."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(500, 5000, (len(names), height // 8 + 1, width // 8 + 1))
    pixels = np.repeat(np.repeat(patches, 8, 1), 8, 2)[:, :height, :width].astype(np.uint16)
    pixels += rng.integers(0, 500, pixels.shape, np.uint16)
    pixels[:, rng.random((height, width)) < 0.02] = 0
    pixels[:, height // 3 : height // 2, width // 3 : width // 2] = 0
    pixels[0, -1, -1] = 0  # one band is enough
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=len(names), dtype="uint16",
        crs=crs, transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10), nodata=0,
        tiled=True, blockxsize=64, blockysize=64, compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = names
    return (pixels > 0).all(0)


def run(folder: Path, model: Path, **options: object) -> tuple[bytes, bytes]:
    """Segment `image.tif` of a folder; return the bytes of both outputs."""
    classes, confidence = folder / "classes.tif", folder / "confidence.tif"
    options = {"device": "cpu", "report": lambda _: None} | options
    segment(
        image=folder / "image.tif", model=model, classes=classes, confidence=confidence, **options
    )
    return classes.read_bytes(), confidence.read_bytes()


def maps(folder: Path) -> dict[str, Path]:
    """Where the two usual maps go."""
    return {name: folder / f"{name}.tif" for name in ("classes", "confidence")}


def read(path: Path) -> np.ndarray:
    """The only band of a raster."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.mark.skipif("openvino-fp32" not in available("cpu"), reason="OpenVINO is not here")
def test_a_converted_network_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While bands are labelled by OpenVINO, which has weights of its own, those of torch are gone."""
    write_image(tmp_path / "image.tif", 40, 40)
    networks = [nn.Conv2d(3, 5, 1)]
    checkpoints, kept = [Checkpoint(networks[0], SPEC, "")], weakref.ref(networks.pop())
    alive, label = [], pipeline.segment._segment_bands

    def look(*arguments: Any) -> None:
        gc.collect()
        alive.append(kept() is not None)
        label(*arguments)

    monkeypatch.setattr(pipeline.segment, "_segment_bands", look)
    image = open_image(tmp_path / "image.tif", BANDS)
    options = {"runtime": "openvino-fp32", "report": lambda _: None}
    segment_image(image, checkpoints, maps(tmp_path), **options)
    assert alive == [False]


def test_a_pixelwise_network_gives_the_map_computed_by_hand(tmp_path: Path) -> None:
    """A 1x1 convolution does not see tiles: class and percent are those of each pixel alone."""
    valid = write_image(tmp_path / "image.tif", 70, 101)
    torch.manual_seed(1)
    network = nn.Conv2d(3, 5, 1)
    image = open_image(tmp_path / "image.tif", BANDS)
    segment_image(image, [Checkpoint(network, SPEC, "")], maps(tmp_path), report=lambda _: None)
    with rasterio.open(image.path) as dataset:
        values = dataset.read().astype(float) * SPEC.scale
    normalised = (values - np.reshape(SPEC.mean, (3, 1, 1))) / np.reshape(SPEC.std, (3, 1, 1))
    weight = network.weight.detach().double().numpy()[:, :, 0, 0]
    logits = np.einsum("kb,bij->kij", weight, normalised)
    logits += network.bias.detach().double().numpy()[:, None, None]
    chances = np.exp(logits) / np.exp(logits).sum(0)
    codes = np.array(LEGEND.codes)[chances.argmax(0)]
    assert len(np.unique(codes)) > 2
    sure = np.diff(np.sort(chances, axis=0)[-2:], axis=0)[0] > 1e-5  # no tie within rounding
    assert (read(tmp_path / "classes.tif") == np.where(valid, codes, 0))[sure].all()
    percent = np.where(valid, 100 * chances.max(0), 0)
    assert np.abs(read(tmp_path / "confidence.tif") - percent).max() <= 0.5 + 1e-3


def test_outputs_are_described_and_valid(tmp_path: Path, model: Path) -> None:
    """Strict COGs of the image's grid with colours, names, units and nodata 0."""
    valid = write_image(tmp_path / "image.tif", 600, 530)
    run(tmp_path, model)
    with rasterio.open(tmp_path / "image.tif") as image:
        grid = image.crs, image.transform, image.shape
    for name, band, unit in (("classes", "class", None), ("confidence", "confidence", "%")):
        path = tmp_path / f"{name}.tif"
        assert cog_validate(path, strict=True)[:2] == (True, [])
        with rasterio.open(path) as dataset:
            assert (dataset.crs, dataset.transform, dataset.shape) == grid
            assert (dataset.dtypes, dataset.nodata) == (("uint8",), 0)
            assert (dataset.descriptions, dataset.units) == ((band,), (unit,))
            assert dataset.overviews(1)
            assert ((dataset.read(1) > 0) == valid).all()
    with rasterio.open(tmp_path / "classes.tif") as dataset:
        assert json.loads(dataset.tags()["LEGEND"]) == LEGEND.to_records()
        assert dataset.colormap(1)[200] == (200, 0x80, 0x40, 255)
        smaller = dataset.read(1, out_shape=(300, 265))
    assert set(np.unique(smaller)) <= {0, *LEGEND.codes}
    assert read(tmp_path / "confidence.tif").max() <= 100


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, bytes, bytes]:
    """An image of many tiles and both of its maps."""
    folder = tmp_path_factory.mktemp("reference")
    write_image(folder / "image.tif", 217, 150)
    outputs = run(folder, model)
    assert len(np.unique(read(folder / "classes.tif"))) > 3
    return folder, *outputs


@pytest.mark.parametrize(
    "options",
    [{"batch": b} for b in (1, 4, 7)] + [{"band_rows": r} for r in (5, 20, 32, 75, 216, 900)],
    ids=str,
)
def test_the_same_bytes_however_the_work_is_cut(
    reference: tuple[Path, bytes, bytes], model: Path, options: dict[str, int]
) -> None:
    """Tiles in flight and the height of row bands change no byte of either raster."""
    folder, *expected = reference
    assert list(run(folder, model, **options)) == expected


@pytest.mark.parametrize(("threads", "readers"), [(1, 1), (3, 2), (5, 3)])
def test_the_same_labels_for_any_number_of_threads(
    reference: tuple[Path, bytes, bytes],
    model: Path,
    threads: int,
    readers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the threads that predict nor those that read change a pixel."""
    folder = reference[0]
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    image = open_image(folder / "image.tif", BANDS)
    tiles = TileGrid(217, 150, SPEC.tile, SPEC.overlap)
    checkpoint = load_checkpoint(model)
    with Predictor([checkpoint.spec], [open_runtime(checkpoint, "torch-fp32", "cpu")]) as predictor:
        assert predictor.workers == threads
        labels = list(
            segment_rows(image, predictor, tiles, range(40, 200), batch=1, readers=readers)
        )
    for name in ("classes", "confidence"):
        rows = np.concatenate([piece.layers[name][0] for piece in labels])
        assert (rows == read(folder / f"{name}.tif")[40:200]).all()


@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 99), st.integers(1, 120), st.data())
@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_size_in_any_bands_gives_the_same_bytes_and_keeps_nodata(
    tmp_path: Path, model: Path, height: int, width: int, seed: int, rows: int, data: st.DataObject
) -> None:
    """From one pixel to several tiles: nodata is the input's, no valid pixel is 0, cuts do not show."""
    valid = write_image(tmp_path / "image.tif", height, width, seed)
    expected = run(tmp_path, model)
    for name in ("classes.tif", "confidence.tif"):
        assert ((read(tmp_path / name) > 0) == valid).all()
    assert run(tmp_path, model, batch=data.draw(st.integers(1, 9)), band_rows=rows) == expected


@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (1, 1), (33, 32)])
def test_rasters_smaller_than_a_tile_are_mapped(
    tmp_path: Path, model: Path, shape: tuple[int, int]
) -> None:
    """One pixel high, wide or both, and one more than a tile."""
    valid = write_image(tmp_path / "image.tif", *shape)
    run(tmp_path, model)
    assert ((read(tmp_path / "classes.tif") > 0) == valid).all()


def test_seams_do_not_show_in_the_confidence(tmp_path: Path) -> None:
    """A network blind to what is left of its tile steps at each seam; blending takes the steps away."""
    write_image(tmp_path / "image.tif", 64, 200)
    with rasterio.open(tmp_path / "image.tif", "r+") as dataset:
        ramp = np.linspace(1000, 4000, 200, dtype=np.uint16)
        dataset.write(np.broadcast_to(ramp, (3, 64, 200)))
    network = nn.Sequential(
        nn.ZeroPad2d((15, 0, 0, 0)), nn.AvgPool2d((1, 16), 1), nn.Conv2d(3, 5, 1)
    )
    nn.init.constant_(network[2].weight, 0)
    nn.init.constant_(network[2].bias, 0)
    nn.init.constant_(network[2].weight[0], 1)
    image = open_image(tmp_path / "image.tif", BANDS)
    steps = {}
    for overlap in (0, 12):
        spec = dataclasses.replace(SPEC, overlap=overlap)
        segment_image(image, [Checkpoint(network, spec, "")], maps(tmp_path), report=lambda _: None)
        field = read(tmp_path / "confidence.tif")[32].astype(int)
        steps[overlap] = np.abs(np.diff(field)).max()
    assert steps[0] > 6
    assert steps[12] <= steps[0] / 3


def test_a_run_says_what_it_did(tmp_path: Path, model: Path) -> None:
    """The details name the tiles, the model, the device; unnamed bands are reported."""
    write_image(tmp_path / "image.tif", 50, 40)
    with rasterio.open(tmp_path / "image.tif", "r+") as dataset:
        dataset.descriptions = [""] * 3
    lines: list[str] = []
    details = segment(
        image=tmp_path / "image.tif", model=model, classes=tmp_path / "c.tif",
        confidence=tmp_path / "p.tif", device="cpu", report=lines.append,
    )  # fmt: skip
    assert lines == ["image.tif names no bands: taken in order as red, nir, swir16"]
    assert json.loads(json.dumps(details)) == details
    assert details["tiles"] == 4
    assert details["model_sha256"] == load_checkpoint(model).sha256
    assert (details["device"], details["precision"]) == ("cpu", "fp32")


def test_progress_is_reported(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report says percent, speed and time left."""
    monkeypatch.setattr("pipeline.segment._REPORT_SECONDS", 0)
    write_image(tmp_path / "image.tif", 90, 40)
    lines: list[str] = []
    segment(
        image=tmp_path / "image.tif", model=model, classes=tmp_path / "c.tif",
        confidence=tmp_path / "p.tif", device="cpu", report=lines.append,
    )  # fmt: skip
    assert re.fullmatch(r"segment: 12%, [\d.e-]+ Mpx/s, \d+ s left", lines[0])
    assert lines[-1].startswith("segment: 100%")


def broken_image(folder: Path, how: str) -> None:
    """Write an image and break it."""
    names = ("red", "nir", "blue") if how == "band" else BANDS
    crs = None if how == "no CRS" else "EPSG:32633"
    write_image(folder / "image.tif", 600, 500, names=names, crs=crs)
    path = folder / "image.tif"
    if how == "truncated":  # in a COG, as the composite is, the header comes first and survives
        rasterio.shutil.copy(path, folder / "cog.tif", driver="COG")
        whole = (folder / "cog.tif").read_bytes()
        (folder / "cog.tif").unlink()
        path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("truncated", RasterError, r"image.tif cannot be read in rows \d+ to \d+"),
        ("no CRS", RasterError, "has no CRS"),
        ("band", CheckpointError, "red, nir, blue.*needs red, nir, swir16"),
    ],
)
def test_bad_images_leave_nothing_behind(
    tmp_path: Path, model: Path, how: str, kind: type[LandcoverError], message: str
) -> None:
    """One sentence, and neither an output nor a partial file."""
    broken_image(tmp_path, how)
    with pytest.raises(kind, match=message) as error:
        run(tmp_path, model)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["image.tif"]


def test_a_crs_that_no_output_can_hold_is_refused_at_once(tmp_path: Path) -> None:
    """GeoTIFF has no Hatano projection: that is said before a pixel is mapped."""
    write_image(tmp_path / "image.tif", 40, 40)
    image = open_image(tmp_path / "image.tif", BANDS)
    grid = GeoBox(image.grid.shape, image.grid.affine, "+proj=hatano +datum=WGS84")
    with pytest.raises(RasterError, match=r"cannot hold this CRS \(PROJ hatano\)"):
        segment_image(dataclasses.replace(image, grid=grid), [], maps(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["image.tif"]


def test_a_model_that_gives_no_numbers_leaves_nothing_behind(tmp_path: Path) -> None:
    """Weights that are NaN are found while mapping."""
    write_image(tmp_path / "image.tif", 80, 80)
    network = nn.Conv2d(3, 5, 1)
    nn.init.constant_(network.weight, float("nan"))
    image = open_image(tmp_path / "image.tif", BANDS)
    with pytest.raises(CheckpointError, match="not a number"):
        segment_image(image, [Checkpoint(network, SPEC, "")], maps(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["image.tif"]


def test_an_output_that_cannot_be_written_leaves_the_other_unmade(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class raster does not appear when the confidence raster fails."""
    write_image(tmp_path / "image.tif", 80, 80)

    def someone_makes_a_folder_later(*files: object) -> None:
        check_distinct(*files)
        (tmp_path / "p.tif").mkdir()  # now it is in the way of the rename

    monkeypatch.setattr("pipeline.segment.check_distinct", someone_makes_a_folder_later)
    with pytest.raises(OSError, match=r"p\.tif"):
        segment(
            image=tmp_path / "image.tif", model=model, classes=tmp_path / "c.tif",
            confidence=tmp_path / "p.tif", device="cpu",
        )  # fmt: skip
    monkeypatch.undo()
    # What was computed is not lost: with the way free, the map is made of it.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.tif.shards", "image.tif", "p.tif"]
    (tmp_path / "p.tif").rmdir()
    details = segment(
        image=tmp_path / "image.tif", model=model, classes=tmp_path / "c.tif",
        confidence=tmp_path / "p.tif", device="cpu",
    )  # fmt: skip
    assert details["bands_resumed"] == 1
    assert not (tmp_path / "c.tif.shards").exists()


@pytest.mark.parametrize("options", [{"batch": 0}, {"band_rows": 0}], ids=str)
def test_settings_below_one_are_refused(
    tmp_path: Path, model: Path, options: dict[str, int]
) -> None:
    """A batch or a band of nothing is a settings error."""
    write_image(tmp_path / "image.tif", 8, 8)
    with pytest.raises(SettingsError, match="1 or more"):
        run(tmp_path, model, **options)


def test_every_raster_asked_for_is_made(tmp_path: Path, model: Path) -> None:
    """Margin, entropy and probabilities are uint8 COGs of the image's grid, nodata where the classes are."""
    valid = write_image(tmp_path / "image.tif", 100, 90)
    extra = {name: tmp_path / f"{name}.tif" for name in ("margin", "entropy", "probabilities")}
    run(tmp_path, model, **extra)
    for name, path in extra.items():
        with rasterio.open(path) as dataset:
            pixels = dataset.read()
            assert dataset.descriptions[0] == (name if len(pixels) == 1 else "3 class 3")
        assert ((pixels > 0) == valid).all()
    assert len(pixels) == len(LEGEND)
    best = np.array(LEGEND.codes)[pixels.argmax(0)]
    differ = (best != read(tmp_path / "classes.tif")) & valid
    assert differ.mean() < 0.01  # ties within a 254th


@pytest.mark.parametrize("steps", [("majority:1",), ("opening:1", "closing:1"), ("guided:2",)])
def test_smoothing_gives_the_same_bytes_in_any_bands(
    tmp_path: Path, model: Path, steps: tuple[str, ...]
) -> None:
    """A band has as many rows around it as the steps reach; nodata stays what it was."""
    valid = write_image(tmp_path / "image.tif", 130, 90)
    image, checkpoint = open_image(tmp_path / "image.tif", BANDS), load_checkpoint(model)
    found = []
    for rows in (None, 16, 32):
        segment_image(
            image, [checkpoint], maps(tmp_path), smooth=steps, band_rows=rows, block=16,
            report=lambda _: None,
        )  # fmt: skip
        found.append([path.read_bytes() for path in maps(tmp_path).values()])
    assert found[0] == found[1] == found[2]
    smoothed = read(tmp_path / "classes.tif")
    assert ((smoothed > 0) == valid).all()
    run(tmp_path, model)
    assert (smoothed != read(tmp_path / "classes.tif")).any()


def test_two_workers_give_the_bytes_of_one_process(
    reference: tuple[Path, bytes, bytes], model: Path, tmp_path: Path
) -> None:
    """Bands done by two processes of dask make the same rasters."""
    image = open_image(reference[0] / "image.tif", BANDS)
    made = []
    for workers in (None, 2):
        segment_image(
            image, [load_checkpoint(model)], maps(tmp_path), models=[model], workers=workers,
            block=16, band_rows=64, report=lambda _: None,
        )  # fmt: skip
        made.append([path.read_bytes() for path in maps(tmp_path).values()])
    assert made[0] == made[1]
    assert (read(tmp_path / "classes.tif") == read(reference[0] / "classes.tif")).all()


def test_the_fastest_runtime_says_how_far_it_agrees(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `auto` the details name the runtime; with OpenVINO, the share of labels that agree."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_image(tmp_path / "image.tif", 70, 80)
    for runtime in ("auto", "openvino-fp32"):
        details = segment(
            image=tmp_path / "image.tif", model=model, classes=tmp_path / "c.tif", runtime=runtime,
            report=lambda _: None,
        )  # fmt: skip
        assert details["runtime"] in available()
    assert details["agreement_with_fp32"] >= 0.995
