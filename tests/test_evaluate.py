"""From a model and a dataset to an evaluation: hand-made answers, a real one, and odd inputs."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image
from rasterio import Affine
from torch import nn

from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, DatasetError, LegendError, SettingsError
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from landcover.runtimes import available
from pipeline.accuracy import assess
from pipeline.dataset import Dataset, load_dataset
from pipeline.deployment import DeploymentTests
from pipeline.evaluate import evaluate
from pipeline.evaluation import Evaluation
from pipeline.job import DEFAULT_MODEL
from pipeline.segment import segment
from pipeline.simulate_dataset import simulate_dataset
from pipeline.window_labeller import WindowLabeller, read_window
from tests.command import landcover

CLASSES = (
    LandClass(1, "Water", "#0000ff"), LandClass(2, "=Wood <b>", "#00aa00"), LandClass(5, "Town", "#ff0000"),
)  # fmt: skip
SPEC = ModelSpec(
    encoder="tu-mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8), bands=("gray",), scale=1.0,
    offset=0.0, mean=(10.0,), std=(10.0,), legend=Legend(CLASSES), tile=64, overlap=16,
)  # fmt: skip


def codes(seed: int, side: int = 96) -> np.ndarray:
    """Labels in squares of 8 pixels; one pixel in about ten is not labelled."""
    draw = np.random.default_rng(seed)
    patches = draw.choice(np.array([1, 2, 5], np.uint8), (-(-side // 8), -(-side // 8)))
    raster = patches.repeat(8, 0).repeat(8, 1)[:side, :side]
    return np.where(draw.random(raster.shape) < 0.1, np.uint8(0), raster)


def made(
    folder: Path,
    classes: tuple[LandClass, ...] = CLASSES,
    bands: tuple[str, ...] = ("gray",),
    side: int = 96,
    truth: np.ndarray | None = None,
    **more: Any,
) -> Path:
    """A dataset of three images; the stored number of a pixel is ten times its class, plus noise."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number, split in enumerate(("train", "validation", "test")):
        labels = codes(number, side) if truth is None or split != "test" else truth
        seen = np.where(labels == 0, 1, labels).astype(np.float32) * 10
        seen += np.random.default_rng(number).normal(0, 1, labels.shape)
        seen[:2, :3] = -1
        stack = np.repeat(seen[None], len(bands), 0).astype(np.float32)
        for name, values, nodata in (("image", stack, -1), ("labels", labels[None], 0)):
            with rasterio.open(
                folder / f"{split}-{name}.tif", "w", driver="GTiff", width=labels.shape[1],
                height=labels.shape[0], count=len(values), dtype=values.dtype, nodata=nodata, crs="EPSG:32633",
                transform=Affine(10, 0, 500_000 + 20_000 * number, 0, -10, 5_400_000),
            ) as dataset:  # fmt: skip
                dataset.write(values)
        images.append(
            {"image": f"{split}-image.tif", "labels": f"{split}-labels.tif", "split": split}
        )
    records = Legend(classes).to_records()
    fields = {
        "name": "made", "licence": "CC0-1.0", "bands": list(bands), "legend": records, "images": images,
    } | more  # fmt: skip
    (folder / "data.yml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    return folder / "data.yml"


class OfValue(nn.Module):
    """Knows each class by its value alone: the logit of a class is less, the farther the value is."""

    def __init__(self, sharp: float = 1.0, values: tuple[float, ...] = (0.0, 1.0, 4.0)) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(values)[:, None, None])
        self.sharp = sharp

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Of the first band, normalised: a class of code c lies at c - 1."""
        return -self.sharp * (seen[:, :1] - self.values) ** 2


def checkpoint(network: nn.Module, **changes: Any) -> Checkpoint:
    """A network and the description of the others."""
    return Checkpoint(network.eval(), dataclasses.replace(SPEC, **changes), "0" * 64)


def constant(path: Path, channel: int = 1, **changes: Any) -> Path:
    """A checkpoint of a real network that gives one class everywhere, e times as likely as others."""
    torch.manual_seed(0)
    spec = dataclasses.replace(SPEC, **changes)
    network = spec.build()
    head: Any = network.segmentation_head
    nn.init.zeros_(head[0].weight)
    nn.init.zeros_(head[0].bias)
    head[0].bias.data[channel] = 1
    save_checkpoint(path, network, spec)
    return path


def counts(truth: np.ndarray) -> np.ndarray:
    """Labelled pixels of the classes, without the six that have no data in the image."""
    kept = truth.copy()
    kept[:2, :3] = 0
    return np.array([(kept == code).sum() for code in (1, 2, 5)])


def test_a_constant_map_by_hand(tmp_path: Path) -> None:
    """A model that says Wood everywhere is right on the share of Wood, e / (e + 2) sure, and the majority."""
    data, model = made(tmp_path / "d", side=160), constant(tmp_path / "wood.safetensors")
    record = evaluate(model=model, data=data, output=tmp_path / "out", samples=2, report=str)
    wood = counts(codes(2, 160))
    np.testing.assert_array_equal(record["matrix"], [[0, 0, 0], wood, [0, 0, 0]])
    assert record["overall"]["overall_accuracy"]["value"] == pytest.approx(
        wood[1] / wood.sum(), abs=1e-6
    )
    assert record["overall"]["kappa"]["value"] == 0
    assert record["pixels"] == wood.sum()
    bins = record["calibration"]["none"]["bins"]
    (full,) = [b for b in bins if b["pixels"]]
    assert full["confidence"] == pytest.approx(np.e / (np.e + 2), abs=1e-6)
    assert record["classes"][1]["boundary_f1@1"]["value"] == 0
    assert record["deployment"]["overlap"]["disagree"] == 0
    assert [row["same"] for row in record["deployment"]["brightness"]] == [1] * 5
    train = counts(codes(0, 160))
    majority = record["baselines"]["majority class"]
    assert majority["overall_accuracy"] == pytest.approx(
        wood[train.argmax()] / wood.sum(), abs=1e-6
    )


def test_what_is_written(tmp_path: Path) -> None:
    """A page that loads nothing and runs nothing, figures, table and pictures; twice the same bytes."""
    data, model = made(tmp_path / "d"), constant(tmp_path / "wood.safetensors")
    for out in ("one", "two"):
        evaluate(
            model=model, data=data, output=tmp_path / out, samples=1, replicates=20, report=str
        )
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert {"metrics.json", "report.html", "error-matrix.csv"} <= set(map(str, files))
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), (
            name
        )
    page = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "=Wood &lt;b&gt;" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert str(tmp_path) not in page
    table = (tmp_path / "one" / "error-matrix.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "map \\ reference,Water,'=Wood <b>,Town"
    record = json.loads((tmp_path / "one" / "metrics.json").read_text(encoding="utf-8"))
    first = record["worst_chips"][0]
    with Image.open(tmp_path / "one" / first["picture"]) as picture:
        assert picture.size == (4 * 48 + 3 * 4, 48)
        assert picture.convert("RGB").getpixel((2 * 48 + 2 * 4 + 20, 20)) == (0, 170, 0)


def evaluated(dataset: Dataset, network: nn.Module, tolerances: tuple[float, ...] = (1.0,)):
    """The evaluation of a network of values, and its labeller's windows."""
    found = Evaluation(SPEC.legend.codes, SPEC.legend, tolerances, {"none": 1.0}, 3)
    with WindowLabeller(checkpoint(network), "torch-fp32", "cpu") as labeller:
        windows = [read_window(dataset, p, 64, 8, [0]) for p in dataset.tiles("test", 48)]
        for window, logits in zip(windows, labeller.logits(w.seen for w in windows), strict=True):
            found.add(window, logits)
    return found


def test_a_model_that_knows_all_has_no_error(tmp_path: Path) -> None:
    """A network that reads the class off the value is right on every labelled pixel, each counted once."""
    found = evaluated(load_dataset(made(tmp_path / "d")), OfValue())
    (block,) = found.by_block().values()
    np.testing.assert_array_equal(block.matrix.counts, np.diag(counts(codes(2))))
    assert found.worst() == []
    np.testing.assert_array_equal(found.sizes.pixels.sum(axis=0), counts(codes(2)))
    assert np.nanmin(block.boundary.f1) == 1


def test_the_worst_chip_is_the_wrong_one(tmp_path: Path) -> None:
    """Of a map that is right but for one corner of the reference, the chip of that corner is the worst."""
    truth = np.full((96, 96), 2, np.uint8)
    truth[:48, 48:] = 1
    network = OfValue(values=(100.0, 1.0, 4.0))
    found = evaluated(load_dataset(made(tmp_path / "d", truth=truth)), network)
    worst = found.worst()
    assert [(chip.place.row, chip.place.col) for chip in worst] == [(0, 48)]
    assert worst[0].error == 1
    assert worst[0].pixels == 48 * 48


def test_borders_do_not_depend_on_the_tiles(tmp_path: Path) -> None:
    """Boundary counts of tiles with their surroundings are those of the whole image at once."""
    from landcover.boundaries import count_boundaries

    truth = np.full((96, 96), 2, np.uint8)
    truth[30:60, 30:70], truth[10:50, 44:52] = 1, 5
    dataset = load_dataset(made(tmp_path / "d", truth=truth))
    network = OfValue(values=(1.5, 1.0, 4.0))
    found = evaluated(dataset, network, (1.0, 3.0))
    (image,) = {p.image for p in dataset.tiles("test", 48)}
    with rasterio.open(tmp_path / "d/test-image.tif") as source:
        seen, valid = source.read(1) / 10 - 1, source.read_masks(1) > 0
    nearest = np.abs(seen[None] - np.array([1.5, 1.0, 4.0])[:, None, None]).argmin(0)
    mapped = np.where(valid, np.array([1, 2, 5], np.uint8)[nearest], np.uint8(0))
    whole = count_boundaries(
        mapped, np.where(valid, truth, 0).astype(np.uint8), (1, 2, 5), (1.0, 3.0)
    )[0]
    np.testing.assert_array_equal(found.by_image()[image].boundary.counts, whole.counts)
    assert whole.counts.all(axis=2)[:4, 0].any()


def test_a_network_of_single_pixels_bears_shifts_but_not_brightness(tmp_path: Path) -> None:
    """What looks at single values is the same wherever tiles lie; brightness moves its labels."""
    dataset = load_dataset(made(tmp_path / "d", side=160))
    with WindowLabeller(checkpoint(OfValue()), "torch-fp32", "cpu") as labeller:
        windows = [read_window(dataset, p, 64, 8, [0]) for p in dataset.tiles("test", 48)[:3]]
        tests = DeploymentTests(dataset, labeller, windows, [0], 8, (1, 2, 5))
        found = tests.all()
    assert [row["same"] for row in found["translation"]] == [1, 1, 1]
    assert all(row["pixels"] for row in found["translation"])
    assert found["overlap"]["disagree"] == 0
    gains = {row["gain"]: row for row in found["brightness"]}
    assert gains[1.0]["overall_accuracy"] == gains[1.0]["same"] == 1
    assert gains[0.7]["overall_accuracy"] < 1
    scales = {row["factor"]: row for row in found["scale"]}
    assert scales[1.0]["overall_accuracy"] == 1
    assert 0.6 < scales[0.5]["overall_accuracy"] < 1
    assert len({row["pixels"] for row in found["scale"]}) == 1


def test_a_temperature_is_fitted_stored_and_better(tmp_path: Path) -> None:
    """A temperature fitted on validation lowers the calibration error on test, and the labels stay."""
    data, model = made(tmp_path / "d"), constant(tmp_path / "sure.safetensors")
    spec = load_checkpoint(model)
    head: Any = spec.network.segmentation_head
    head[0].bias.data *= 8  # 99.9 % sure, right once in three times
    save_checkpoint(model, spec.network, spec.spec)
    record = evaluate(
        model=model, data=data, output=tmp_path / "out", calibrate=True, samples=1, report=str
    )
    errors = {k: v["expected_calibration_error"] for k, v in record["calibration"].items()}
    assert errors["none"] > 0.5
    assert errors["fitted"] < 0.1
    stored = load_checkpoint(tmp_path / "out/model.safetensors")
    assert stored.spec.temperature == record["calibrated_model"]["temperature"] > 5
    again = evaluate(
        model=tmp_path / "out/model.safetensors",
        data=data,
        output=tmp_path / "again",
        samples=1,
        report=str,
    )
    assert again["calibration"]["stored"] == record["calibration"]["fitted"]
    assert again["matrix"] == record["matrix"]


def test_a_temperature_never_replaces_the_model_that_is_evaluated(tmp_path: Path) -> None:
    """Asked to write into the model's own folder, by whatever way: refused, and the model is as it was."""
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    data, model = made(tmp_path / "d", side=64), constant(tmp_path / "run/model.safetensors")
    before = model.read_bytes()
    for folder in (tmp_path / "run", tmp_path / "link"):
        with pytest.raises(SettingsError, match=r"take the place of .*give another --output"):
            evaluate(model=model, data=data, output=folder, calibrate=True, samples=1, report=str)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model.safetensors"]
    assert model.read_bytes() == before


class Together:
    """A runtime that takes three windows a call, as a GPU does, and runs them by torch."""

    name, precision, device, workers, group, dtype = "together", "fp32", "cpu", 2, 3, np.float32

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def new_windows(self) -> np.ndarray:
        """Three windows of one band."""
        return np.zeros((3, 64, 64, 1), np.float32)

    def logits(self, windows: np.ndarray) -> np.ndarray:
        """Of three windows."""
        with torch.inference_mode():
            return self._network(torch.from_numpy(windows).permute(0, 3, 1, 2)).numpy()


def test_windows_in_groups_are_those_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that takes several windows at once gives each its own labels, the last group too."""
    dataset = load_dataset(made(tmp_path / "d"))
    windows = [read_window(dataset, p, 64, 8, [0]) for p in dataset.tiles("test", 48)]
    network = OfValue().eval()
    with WindowLabeller(checkpoint(network), "torch-fp32", "cpu") as labeller:
        alone = labeller.codes(w.seen for w in windows)
    monkeypatch.setattr("pipeline.window_labeller.open_runtime", lambda *_: Together(network))
    with WindowLabeller(checkpoint(network), "together") as labeller:
        together = labeller.codes(w.seen for w in windows)
    assert len(windows) == 4
    np.testing.assert_array_equal(np.array(together), np.array(alone))


@pytest.mark.parametrize("side", [20, 64, 65, 130])
def test_images_of_any_size_count_each_pixel_once(tmp_path: Path, side: int) -> None:
    """An image smaller than a tile, as large, or a little larger is counted whole."""
    data, model = made(tmp_path / "d", side=side), constant(tmp_path / "wood.safetensors")
    record = evaluate(
        model=model, data=data, output=tmp_path / "out", samples=2, replicates=5, report=str
    )
    assert record["pixels"] == counts(codes(2, side)).sum()


def test_thirteen_bands_of_which_one_is_used(tmp_path: Path) -> None:
    """The model takes its band by name from a dataset of thirteen."""
    bands = tuple(f"b{i}" for i in range(12))
    data = made(tmp_path / "d", bands=(*bands, "gray"), side=64)
    model = constant(tmp_path / "wood.safetensors")
    record = evaluate(
        model=model, data=data, output=tmp_path / "o", samples=1, replicates=5, report=str
    )
    assert record["pixels"] == counts(codes(2, 64)).sum()


def test_a_class_the_model_never_saw_counts_as_wrong(tmp_path: Path) -> None:
    """A class that only the dataset has is missed, one that only the model has is noted."""
    model = constant(
        tmp_path / "m.safetensors", legend=Legend((*CLASSES[:2], LandClass(9, "Ice", "#ffffff")))
    )
    data = made(tmp_path / "d", side=64)
    record = evaluate(
        model=model, data=data, output=tmp_path / "o", samples=1, replicates=5, report=str
    )
    assert [row["code"] for row in record["classes"]] == [1, 2, 5, 9]
    town, ice = record["classes"][2], record["classes"][3]
    assert town["producers_accuracy"]["value"] == 0
    assert ice["iou"]["value"] is None
    assert "no class Town" in record["notes"][0]
    assert "no pixel of Ice" in record["notes"][1]


def refused(error: type[Exception], match: str, tmp_path: Path, data: Path, **more: Any) -> None:
    """What cannot be evaluated is refused, and nothing is written."""
    model = more.pop("model", None) or constant(tmp_path / "m.safetensors")
    with pytest.raises(error, match=match):
        evaluate(model=model, data=data, output=tmp_path / "out", report=str, **more)
    assert not (tmp_path / "out").exists()


def test_odd_inputs_are_refused_with_a_sentence(tmp_path: Path) -> None:
    """Missing bands, classes that contradict each other, splits and tolerances that cannot be."""
    data = made(tmp_path / "d", side=64)
    refused(CheckpointError, r"needs the band\(s\) nir; the dataset made has gray", tmp_path, data,
            model=constant(tmp_path / "nir.safetensors", bands=("nir",)))  # fmt: skip
    other = Legend((LandClass(1, "Ice", "#ffffff"), *CLASSES[1:]))
    refused(LegendError, "code 1 is 'Ice' to the model and 'Water'", tmp_path, data,
            model=constant(tmp_path / "ice.safetensors", legend=other))  # fmt: skip
    moved = Legend((LandClass(7, "Water", "#0000ff"), *CLASSES[1:]))
    refused(LegendError, "'Water' has the code 7 in the model and 1", tmp_path, data,
            model=constant(tmp_path / "moved.safetensors", legend=moved))  # fmt: skip
    none = Legend((LandClass(7, "a", "#0000ff"), LandClass(8, "b", "#0000ff")))
    refused(LegendError, "none in common", tmp_path, data,
            model=constant(tmp_path / "none.safetensors", legend=none))  # fmt: skip
    refused(DatasetError, "no split 'exam'", tmp_path, data, split="exam")
    refused(
        SettingsError,
        "too large for tiles of 64 pixels; give at most 23",
        tmp_path,
        data,
        tolerances=(24,),
    )
    refused(SettingsError, "border tolerance is 0", tmp_path, data, tolerances=(0,))
    refused(DatasetError, "no dataset file", tmp_path, tmp_path / "absent.yml")
    refused(CheckpointError, "no model", tmp_path, data, model=tmp_path / "absent.safetensors")


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    """Where nothing is labelled there is nothing to evaluate on."""
    data = made(tmp_path / "d", side=64, truth=np.zeros((64, 64), np.uint8))
    refused(DatasetError, "no labelled pixel in test", tmp_path, data)


def test_what_flatters_is_noted(tmp_path: Path) -> None:
    """Figures of training or validation ground, or of another version of the training data, carry a note."""
    data = made(tmp_path / "d", side=64)
    model = constant(
        tmp_path / "m.safetensors",
        training={"data": "made", "dataset_version": "old"},
        mean=(900.0,),
    )
    found = {}
    for split in ("train", "validation"):
        record = evaluate(
            model=model,
            data=data,
            output=tmp_path / split,
            split=split,
            samples=1,
            replicates=0,
            report=str,
        )
        found[split] = " ".join(record["notes"])
    assert "learnt by heart" in found["train"]
    assert "validation" in found["validation"]
    assert "another version of this dataset" in found["train"]
    assert "gray (" in found["train"]


def test_the_shipped_model_is_worth_what_its_map_is(tmp_path: Path) -> None:
    """On simulated regions the evaluation agrees with the accuracy of the map that the model makes."""
    simulate_dataset(output=tmp_path / "sim", regions=1, size=320, seed=3, report=str)
    content = yaml.safe_load((tmp_path / "sim/dataset.yml").read_text(encoding="utf-8"))
    content["splits"] = {"block": "80 px", "shares": {"test": 1}}
    (tmp_path / "sim/dataset.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    record = evaluate(
        model=DEFAULT_MODEL, data=tmp_path / "sim/dataset.yml", output=tmp_path / "out", samples=2,
        replicates=200, report=str,
    )  # fmt: skip
    (image,) = (tmp_path / "sim/images").glob("*.tif")
    (labels,) = (tmp_path / "sim/labels").glob("*.tif")
    segment(image=image, model=DEFAULT_MODEL, classes=tmp_path / "classes.tif", report=str)
    truth = assess(classes=tmp_path / "classes.tif", truth=labels)
    overall = record["overall"]
    assert record["pixels"] == truth["pixels"]
    assert overall["overall_accuracy"]["value"] == pytest.approx(
        truth["overall_accuracy"], abs=0.01
    )
    assert overall["mean_iou"]["value"] == pytest.approx(truth["mean_iou"], abs=0.02)
    assert overall["overall_accuracy"]["value"] > 0.75
    assert record["baselines"] == {}
    assert len(record["blocks"]) == 16
    assert overall["mean_iou"]["low"] < overall["mean_iou"]["value"] < overall["mean_iou"]["high"]


def test_the_command(tmp_path: Path) -> None:
    """The command prints the table and writes the page, with a forest beside."""
    data, model = made(tmp_path / "d", side=64), constant(tmp_path / "m.safetensors")
    options = ("--forest", "--tolerance", 2, "--runtime", "auto")
    done = landcover("evaluate", model, data, "-o", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    assert "random forest of single pixels: overall accuracy 1.000" in done.stdout.replace(
        "\n", " "
    )
    assert (tmp_path / "out/report.html").is_file()
    record = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    assert record["settings"]["runtime"] in available("cpu")
