"""Training: a YAML in, a checkpoint out that maps; killed and resumed it is the same, byte for byte."""

import csv
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image

from landcover.augmentation import Batch
from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, LandcoverError, LegendError, SettingsError
from landcover.losses import cross_entropy
from pipeline.chip_stream import TrainingBatches
from pipeline.dataset import load_dataset
from pipeline.learner import Learner, rate
from pipeline.segment import segment
from pipeline.train import MODEL, RECORD, STATE, train
from pipeline.training_config import TrainingConfig, load_training_config
from tests.command import ROOT, landcover
from tests.made_dataset import make_dataset

SMALL = {"encoder": "tu-mobilenetv3_small_050", "decoder_channels": [32, 24, 16, 8, 8]}
REDUCED = SMALL | {"options": {"reduce": 2}}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On chips this small a second thread costs more than it gives, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of a small dataset."""
    return make_dataset(tmp_path_factory.mktemp("squares"))


def config_of(squares: Path, **change: Any) -> dict[str, Any]:
    """A training that takes seconds."""
    return {
        "dataset": str(squares), "model": SMALL, "tile": 64, "batch": 4, "steps": 4,
        "validate_every": 2, "learning_rate": 0.003, "baseline": None,
    } | change  # fmt: skip


def trained(folder: Path, config: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Train here, quietly."""
    settings = TrainingConfig.model_validate(config)
    return train(
        config=settings, output=folder, announce=lambda _: None, report=lambda _: None, **options
    )


@pytest.fixture(scope="module")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training long enough to learn the squares."""
    folder = tmp_path_factory.mktemp("model")
    config = config_of(
        dataset, steps=60, validate_every=20, learning_rate=0.01,
        loss=[{"name": "cross-entropy"}, {"name": "dice", "weight": 0.5}],
        baseline={"trees": 10, "pixels": 2000}, augmentation={"scale": 1.0, "haze": 0.1},
    )  # fmt: skip
    trained(folder, config)
    return folder


def test_the_checkpoint_says_how_it_was_made(model: Path) -> None:
    """Dataset version, licence, seed, steps, figures and the forest's are in the file."""
    spec = load_checkpoint(model / MODEL).spec
    assert spec.bands == ("red", "green", "nir")
    assert spec.legend.codes == (1, 4, 7)
    assert spec.scale == 1e-4
    training = spec.training
    assert (training["data"], training["licence"]) == ("squares", "CC0-1.0")
    assert len(training["dataset_version"]) == 64
    assert training["steps"] == 60
    assert training["best_step"] in {20, 40, 60}
    assert training["options"]["seed"] == 0
    assert training["validation"]["mean_iou"] > 0.8
    assert training["baseline"]["mean_iou"] > 0.8
    assert str(model.parent.parent) not in spec.to_json()


def test_the_card_is_written(model: Path) -> None:
    """Beside the checkpoint lies a card that says what it was trained on."""
    card = (model / "model-card.md").read_text(encoding="utf-8")
    assert "Trained on: " in card
    assert "By which the weights were chosen".lower() in card.lower()


def test_the_learning_curve_is_told_and_drawn(model: Path) -> None:
    """A row each validation, and a picture with more than one colour."""
    with (model / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    picture = Image.open(model / "learning-curve.png")
    assert picture.size == (1080, 432)
    assert len(picture.convert("RGB").getcolors(1_000_000)) > 50
    assert list((model / "tensorboard").glob("events.*"))


def test_the_checkpoint_maps(model: Path, dataset: Path, tmp_path: Path) -> None:
    """`segment` with it labels the images as they are labelled, and nothing where there is no data."""
    image = dataset.parent / "image-1.tif"
    segment(
        image=image, model=[model / MODEL], classes=tmp_path / "classes.tif",
        confidence=tmp_path / "confidence.tif", report=lambda _: None,
    )  # fmt: skip
    with (
        rasterio.open(tmp_path / "classes.tif") as found,
        rasterio.open(dataset.parent / "labels-1.tif") as labels,
    ):
        mapped, truth = found.read(1), labels.read(1)
    assert (mapped[30:40, 30:40] == 0).all()
    known = (truth > 0) & (mapped > 0)
    assert (mapped[known] == truth[known]).mean() > 0.9
    assert (mapped == 0).sum() == 100


def test_a_second_call_does_nothing(model: Path, dataset: Path) -> None:
    """What is current is not trained again; other settings are refused, and nothing is lost."""
    before = (model / MODEL).read_bytes()
    options = load_checkpoint(model / MODEL).spec.training["options"]
    config = options | {"dataset": str(dataset)}
    said: list[str] = []
    train(
        config=TrainingConfig.model_validate(config), output=model, announce=said.append,
        report=said.append,
    )  # fmt: skip
    assert said == [f"{model / MODEL}: current, skipped"]
    with pytest.raises(SettingsError, match="other settings"):
        trained(model, config | {"seed": 1})
    assert (model / MODEL).read_bytes() == before


KILLED = {
    # Dropout, every augmentation, accumulation and class weights: all that could forget its place.
    "model": {"architecture": "fpn", "encoder": "tu-mobilenetv3_small_050",
              "options": {"pyramid": 32, "channels": 32}},
    "steps": 12, "validate_every": 3, "accumulate": 2, "batch": 2, "class_weights": "balanced",
    "augmentation": {"cutmix": 0.5, "band_dropout": 0.1, "multi_scale": [0.5, 1.0],
                     "shadow_probability": 0.5},
    "early_stop": 4,
}  # fmt: skip


def test_killed_and_resumed_is_as_never_killed(dataset: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, then --resume: the same weights, table and picture, byte for byte."""
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump(config_of(dataset, **KILLED)), encoding="utf-8")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = landcover("train", config, "--out", whole)
    assert done.returncode == 0, done.stderr
    kill_when(["train", str(config), "--out", str(cut)], "step 7 of 12")
    assert (cut / STATE).exists()
    assert not (cut / MODEL).exists()
    refused = landcover("train", config, "--out", cut)
    assert refused.returncode == 1
    assert "--resume" in refused.stderr
    resumed = landcover("train", config, "--out", cut, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after step 6" in resumed.stdout
    assert "step 5 of 12" not in resumed.stdout
    for name in (MODEL, "metrics.csv", "learning-curve.png", RECORD):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def kill_when(arguments: list[str], line: str) -> None:
    """Run the command line and kill it, without a warning, once it has printed a line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        for text in process.stdout:
            if text.startswith(line):
                process.send_signal(signal.SIGKILL)
                break
        process.wait(60)
    assert process.returncode == -signal.SIGKILL


def test_workers_change_nothing(dataset: Path, tmp_path: Path) -> None:
    """Chips drawn by other processes are the same chips."""
    config = config_of(dataset, steps=2, validate_every=1)
    for workers in (0, 2):
        trained(tmp_path / str(workers), config | {"workers": workers})
    assert (tmp_path / "0" / MODEL).read_bytes() == (tmp_path / "2" / MODEL).read_bytes()


def test_a_student_learns_from_its_teacher(model: Path, dataset: Path, tmp_path: Path) -> None:
    """With a teacher alone, whose labels it never sees, a smaller network learns the squares."""
    config = config_of(
        dataset, steps=60, validate_every=30, learning_rate=0.01, augmentation=None,
        model={"encoder": "tu-mobilenetv3_small_050", "decoder_channels": [16, 16, 8, 8, 8]},
        teacher={"checkpoint": str(model / MODEL), "temperature": 2.0, "weight": 1.0},
    )  # fmt: skip
    training = trained(tmp_path / "student", config)
    assert training["validation"]["mean_iou"] > 0.7
    assert training["options"]["teacher"]["checkpoint"] == MODEL
    assert training["options"]["teacher"]["training"]["data"] == "squares"


def test_training_begins_with_the_weights_of_another(
    model: Path, dataset: Path, tmp_path: Path
) -> None:
    """An encoder taken from a checkpoint changes what is learned; a missing one is named."""
    start = SMALL | {"weights": str(model / MODEL)}
    trained(tmp_path / "fresh", config_of(dataset))
    trained(tmp_path / "warm", config_of(dataset, model=start))
    fresh, warm = (
        load_checkpoint(tmp_path / name / MODEL).network.state_dict() for name in ("fresh", "warm")
    )
    assert any(not torch.equal(fresh[name], warm[name]) for name in fresh)
    with pytest.raises(CheckpointError, match="no encoder weights"):
        trained(tmp_path / "x", config_of(dataset, model=SMALL | {"weights": "none.safetensors"}))


def test_training_goes_on_from_another_model(model: Path, dataset: Path, tmp_path: Path) -> None:
    """With a model as the start and almost no learning it is as good as that, and says where it began."""
    config = config_of(dataset, model={"start": str(model / MODEL)}, learning_rate=1e-9, warmup=0)
    training = trained(tmp_path / "on", config)
    before = json.loads((model / RECORD).read_text())["training"]["validation"]
    assert training["validation"]["mean_iou"] > before["mean_iou"] - 0.1 > 0.3
    assert training["options"]["model"]["start"]["checkpoint"] == MODEL
    assert training["options"]["model"]["start"]["training"]["data"] == "squares"
    assert str(model) not in json.dumps(training)


def test_training_goes_on_from_an_address(
    model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `--model` takes it: the file of an address is downloaded once, here it is there; one of none is refused."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    address = "https://models.example/squares.safetensors"
    place = hashlib.sha256(address.encode()).hexdigest()[:16]
    file = tmp_path / "landcover/models" / place / "squares.safetensors"
    file.parent.mkdir(parents=True)
    shutil.copy(model / MODEL, file)
    config = config_of(dataset, model={"start": address}, steps=1, validate_every=1)
    training = trained(tmp_path / "on", config)
    assert training["options"]["model"]["start"]["checkpoint"] == "squares.safetensors"
    with pytest.raises(CheckpointError, match=r"ftp://a/b\.safetensors cannot be a model"):
        trained(tmp_path / "x", config | {"model": {"start": "ftp://a/b.safetensors"}})


def test_a_start_takes_the_scaling_and_colours_of_the_dataset(
    model: Path, dataset: Path, tmp_path: Path
) -> None:
    """Images of bytes map as they were trained on, though the start knew numbers up to 10,000."""
    other = dataset.with_name("bytes.yml")
    text = dataset.read_text(encoding="utf-8").replace("0.0001", "0.0039\noffset: 0.01")
    other.write_text(text.replace("#0000ff", "#000080").replace("Water", "water"), encoding="utf-8")
    trained(tmp_path, config_of(other, model={"start": str(model / MODEL)}, steps=2))
    spec = load_checkpoint(tmp_path / MODEL).spec
    assert (spec.scale, spec.offset) == (0.0039, 0.01)
    assert (spec.legend[1].name, spec.legend[1].color) == ("water", "#000080")
    assert spec.mean == load_checkpoint(model / MODEL).spec.mean  # what its network was made for


@pytest.mark.parametrize("part", ["start", "teacher"])
def test_codes_that_mean_other_classes_are_refused(
    model: Path, dataset: Path, tmp_path: Path, part: str
) -> None:
    """A network that calls 1 water is no start and no teacher where 1 is a roof."""
    other = dataset.with_name("roofs.yml")
    other.write_text(dataset.read_text(encoding="utf-8").replace("Water", "Roof"), encoding="utf-8")
    file = str(model / MODEL)
    change = {"start": {"model": {"start": file}}, "teacher": {"teacher": {"checkpoint": file}}}
    with pytest.raises(LegendError, match="code 1 is 'Water' to the model and 'Roof' in"):
        trained(tmp_path, config_of(other, **change[part]))
    assert not (tmp_path / MODEL).exists()


def test_a_training_knows_its_start_by_content(model: Path, dataset: Path, tmp_path: Path) -> None:
    """Changed in place, the file it began with makes another training of it."""
    start = tmp_path / "start.safetensors"
    shutil.copy(model / MODEL, start)
    config = config_of(dataset, model={"start": str(start)})
    first = trained(tmp_path / "on", config)
    assert trained(tmp_path / "on", config) == first
    checkpoint = load_checkpoint(start)
    save_checkpoint(start, checkpoint.network, replace(checkpoint.spec, temperature=1.5))
    with pytest.raises(SettingsError, match="other settings"):
        trained(tmp_path / "on", config)


def test_the_last_weights_are_kept_where_asked_for(dataset: Path, tmp_path: Path) -> None:
    """Of six validations the last step's weights are in the record, however good the others were."""
    config = config_of(dataset, steps=12, learning_rate=0.02, schedule="constant", keep="last")
    assert trained(tmp_path / "last", config)["best_step"] == 12


def test_settling_changes_the_statistics_and_no_weight(dataset: Path, tmp_path: Path) -> None:
    """The same training with and without: learnt weights are equal, running means and variances are not."""
    for name, settle in (("plain", 0), ("settled", 3)):
        trained(tmp_path / name, config_of(dataset, settle=settle))
    plain, settled = (
        load_checkpoint(tmp_path / name / MODEL).network.state_dict()
        for name in ("plain", "settled")
    )
    moved = {
        name.rpartition(".")[2] for name in plain if not torch.equal(plain[name], settled[name])
    }
    assert moved == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_share_of_the_start_stays_in_the_weights(dataset: Path, tmp_path: Path) -> None:
    """Every weight lies a quarter of the way from where training led back to where it began."""
    trained(tmp_path / "start", config_of(dataset))
    start = {"start": str(tmp_path / "start" / MODEL)}
    for name, share in (("far", 0), ("near", 0.25)):
        config = config_of(dataset, model=start, start_share=share, learning_rate=0.01)
        trained(tmp_path / name, config)
    began, far, near = (
        load_checkpoint(tmp_path / name / MODEL).network.state_dict()
        for name in ("start", "far", "near")
    )
    floats = [name for name in far if far[name].is_floating_point()]
    assert any(not torch.allclose(near[n], far[n], rtol=4e-3, atol=4e-3) for n in floats)
    for name in floats:  # all three are stored as float16
        expected = far[name] + 0.25 * (began[name] - far[name])
        assert torch.allclose(near[name], expected, rtol=2e-3, atol=2e-3), name


def test_a_share_of_the_start_needs_a_start(dataset: Path) -> None:
    """From nothing there is nothing to keep, and it is said."""
    with pytest.raises(SettingsError, match="needs the model's start"):
        TrainingConfig.model_validate(config_of(dataset, start_share=0.3))


def test_a_share_of_the_chips_is_balanced(dataset: Path) -> None:
    """Of a quarter, each fourth chip is drawn around a class and the others as classes occur."""
    squares = load_dataset(dataset)
    batches = TrainingBatches(squares, 32, 4, 5, 0.25, None, squares.band_mean())
    for number in range(3):
        for place, image in enumerate(batches[number].images):
            chip = squares.draw("train", 32, 5, 4 * number + place, balanced=place == 3)
            assert np.array_equal(image.numpy(), chip.image)


def test_imagenet_without_network_is_one_sentence(dataset: Path, tmp_path: Path) -> None:
    """Weights that cannot be downloaded are told with what to do."""
    config = tmp_path / "config.yml"
    fields = config_of(dataset, model={"encoder": "resnet18", "weights": "imagenet"})
    config.write_text(yaml.safe_dump(fields), encoding="utf-8")
    code = "import sys; sys.argv[0] = 'landcover'; from pipeline.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "train", config, "--out", tmp_path / "out"], cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("error: The ImageNet weights of resnet18 could not be had")
    assert len(result.stderr.strip().splitlines()) == 1


def test_bf16_and_early_stop(dataset: Path, tmp_path: Path) -> None:
    """Mixed precision trains; once a validation is no better than the best, training ends early."""
    config = config_of(
        dataset,
        steps=30,
        validate_every=1,
        precision="bf16-mixed",
        early_stop=1,
        learning_rate=0.03,
    )
    trained(tmp_path, config)
    with (tmp_path / "metrics.csv").open() as stream:
        scores = [float(row["mean_iou"]) for row in csv.DictReader(stream)]
    assert len(scores) < 30
    assert scores[-1] <= max(scores[:-1])
    assert scores[:-1] == sorted(scores[:-1])


def test_a_loss_that_is_no_number_is_told(model: Path) -> None:
    """Weights that are ruined end in a sentence, not in a checkpoint of NaN."""
    checkpoint = load_checkpoint(model / MODEL)
    torch.nn.init.constant_(next(checkpoint.network.parameters()), float("nan"))
    config = TrainingConfig.model_validate({"dataset": "x.yml", "steps": 1})
    learner = Learner(checkpoint.network, checkpoint.spec, config, cross_entropy, 1, 1)
    batch = Batch(
        torch.rand(2, 3, 64, 64), torch.ones(2, 64, 64).long(), torch.ones(2, 64, 64).bool()
    )
    with pytest.raises(CheckpointError, match="lower the learning rate"):
        learner.training_step(batch, 0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1]),
        ("cosine", [0.25, 0.5, 0.75, 1, 0.5 * (1 + math.cos(math.pi / 9)), 0]),
        ("poly", [0.25, 0.5, 0.75, 1, (8 / 9) ** 0.9, 0]),
    ],
)
def test_learning_rates_by_hand(schedule: str, expected: list[float]) -> None:
    """Of 12 steps a quarter rises in equal parts; then each schedule goes its way."""
    found = [rate(schedule, step, 12, 0.25) for step in (0, 1, 2, 3, 4, 12)]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "either steps or epochs"),
        ({"epochs": 2}, "either steps or epochs"),
        ({"tile": 100}, "tile"),
        ({"batch": 1}, "batch"),
        ({"surprise": 1}, "no setting 'surprise'"),
        ({"model": {"architecture": "transformer"}}, "'transformer' is not known"),
        ({"model": {"encoder": "../x"}}, "encoder"),
        ({"model": {"architecture": "pan", "encoder": "resnet18"}}, "pan needs 128"),
        ({"loss": []}, "loss"),
        ({"loss": [{"name": "hinge"}]}, "'hinge' is not known"),
        ({"loss": [{"name": "focal", "gamma": "x"}]}, "no number"),
        ({"augmentation": {"haze": 9}}, "haze"),
        ({"augmentation": {"rain": 1}}, "rain"),
        ({"precision": "16"}, "precision"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_configs_that_cannot_be(dataset: Path, tmp_path: Path, change: Any, message: str) -> None:
    """What is wrong is told in one sentence that names the file."""
    path = tmp_path / "config.yml"
    fields = {k: v for k, v in (config_of(dataset) | change).items() if v is not None}
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        load_training_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "3", "\x00"])
def test_files_that_are_no_config(tmp_path: Path, text: str) -> None:
    """Any other file is refused in a sentence."""
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"config\.yml"):
        load_training_config(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5}, "6 for example"),
        ({"dataset": "none.yml"}, r"none\.yml"),
        ({"device": "abacus"}, "abacus"),
        (
            {"teacher": {"checkpoint": "pipeline/weights/demo.safetensors"}},
            "teacher needs the bands",
        ),
        ({"teacher": {"checkpoint": "none.safetensors"}}, r"no model none\.safetensors"),
        ({"model": {"start": "demo"}}, "to start from has the bands"),
        ({"model": {"start": "none.safetensors"}}, r"no model none\.safetensors"),
        ({"model": REDUCED, "tile": 96, "mapping_tile": 128}, "it must be a multiple of 64"),
        ({"model": REDUCED, "augmentation": {"multi_scale": [0.5]}}, "takes no multi_scale"),
    ],
)
def test_trainings_that_cannot_begin(
    dataset: Path, tmp_path: Path, change: Any, message: str
) -> None:
    """What only the dataset or the machine tells is refused before a step is taken."""
    with pytest.raises(LandcoverError, match=message):
        trained(tmp_path, config_of(dataset, **change))
    assert not (tmp_path / MODEL).exists()


def test_steps_of_epochs() -> None:
    """Two epochs of 100,000 labelled pixels in chips of 64, four a batch: 7 steps each."""
    config = TrainingConfig.model_validate(
        {"dataset": "x.yml", "epochs": 2, "tile": 64, "batch": 4}
    )
    assert config.plan(100_000) == (14, 7)
    assert TrainingConfig.model_validate({"dataset": "x", "steps": 55}).plan(1) == (55, 5)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("train*/*.yml"))
                         + sorted((ROOT / "examples").glob("train-*.yml")), ids=lambda p: p.stem)  # fmt: skip
def test_every_example_parses_and_builds(path: Path) -> None:
    """Each shipped config is one, and its network gives logits of six bands and eight classes."""
    from landcover.networks import build_network

    config = load_training_config(path)
    model = config.model
    with torch.device("cpu" if model.architecture == "segformer" else "meta"):
        network = build_network(
            model.architecture, model.encoder_name, 6, 8, model.options, model.decoder_channels
        )
        assert network(torch.zeros(2, 6, config.tile, config.tile)).shape == (
            2,
            8,
            *[config.tile] * 2,
        )
    assert config.plan(10**6)[0] % config.plan(10**6)[1] == 0
