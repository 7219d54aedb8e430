"""`landcover model prune`: taken apart, trained again, judged."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, DatasetError, SettingsError
from landcover.model_spec import ModelSpec
from pipeline.dataset import load_dataset
from pipeline.prune_model import _chip, prune_model
from pipeline.train import train
from pipeline.training_config import ModelSettings, TrainingConfig
from tests.command import landcover
from tests.made_dataset import BANDS, make_dataset


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three classes that some steps teach."""
    return make_dataset(tmp_path_factory.mktemp("prune") / "squares")


@pytest.fixture(scope="module")
def model(squares: Path) -> Path:
    """A small U-Net, trained on it for a moment."""
    config = TrainingConfig(
        dataset=squares, tile=64, batch=4, steps=12, baseline=None, learning_rate=1e-2, device="cpu",
        model=ModelSettings(encoder="tu-mobilenetv3_small_050", decoder_channels=(32, 16, 16, 16, 16)),
    )  # fmt: skip
    folder = squares.parent / "trained"
    train(config=config, output=folder, announce=str, report=str)
    return folder / "model.safetensors"


def test_a_pruned_model_is_trained_and_judged(model: Path, squares: Path, tmp_path: Path) -> None:
    """The checkpoint is smaller, keeps scaling and colours, and says where it comes from."""
    told: list[float] = []
    others = squares.with_name("others.yml")
    others.write_text(
        squares.read_text("utf-8").replace("#0000ff", "#000080").replace("0.0001", "0.00011")
    )
    out = tmp_path / "small.safetensors"
    record = prune_model(
        model=model, output=out, data=others, share=0.5, steps=5, budget=1, rounds=1,
        show=lambda trial: told.append(trial.fall), report=str,
    )  # fmt: skip
    original, small = load_checkpoint(model), load_checkpoint(out)
    assert small.spec.decoder_channels == (16, 8, 8, 8, 8)
    same = ("bands", "mean", "std", "scale", "offset", "legend", "tile", "overlap", "encoder")
    assert all(getattr(small.spec, name) == getattr(original.spec, name) for name in same)
    assert small.spec.training["pruned"]["from_sha256"] == original.sha256
    assert small.spec.training["options"]["model"]["start"]["checkpoint"] == "pruned.safetensors"
    assert json.loads(out.with_name("small.safetensors.json").read_text("utf-8")) == record
    assert [m["title"] for m in record["models"]] == ["original", "original", "pruned", "pruned"]
    assert record["models"][-1]["bytes"] < record["models"][0]["bytes"]
    assert told == [pytest.approx(record["mean_iou_fall"], abs=1e-6)]


@pytest.mark.parametrize(("reduce", "tile", "expected"), [(1, 256, 128), (1, 64, 64), (2, 192, 128), (3, 192, 96), (4, 256, 128)])  # fmt: skip
def test_chips_fit_a_network_that_reduces(model: Path, reduce: int, tile: int, expected: int) -> None:  # fmt: skip
    """At most 128 pixels, as many whole steps of the network as that takes."""
    spec = load_checkpoint(model).spec
    assert _chip(dataclasses.replace(spec, tile=tile, options={"reduce": reduce})) == expected


def test_one_that_lost_too_much_is_refused(model: Path, squares: Path, tmp_path: Path) -> None:
    """Channels taken without training, and no budget: exit code 1, a table, a sentence, no file."""
    told = landcover(
        "model", "prune", model, "-o", tmp_path / "small.safetensors", "--data", squares,
        "--share", 0.5, "--steps", 0, "--budget", 0,
    )  # fmt: skip
    assert told.returncode == 1, told.stdout
    assert "pruned" in told.stdout
    assert "more than the budget of 0" in told.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_refused_before_training(model: Path, squares: Path, tmp_path: Path) -> None:
    """A name that is no checkpoint's, steps below 0, and data that cannot judge."""
    out = tmp_path / "a.safetensors"
    with pytest.raises(SettingsError, match=r"end in \.safetensors"):
        prune_model(model=model, output=tmp_path / "a.onnx", data=squares, share=0.5)
    with pytest.raises(SettingsError, match="-1 steps"):
        prune_model(model=model, output=out, data=squares, share=0.5, steps=-1)
    data = make_dataset(tmp_path / "untested")
    text = data.read_text(encoding="utf-8")
    data.write_text(text.replace("validation: 0.2, test: 0.2", "validation: 0.4, test: 0.0"))
    with pytest.raises(DatasetError, match="no labelled pixel in test"):
        prune_model(model=model, output=out, data=data, share=0.5, report=str)
    assert not out.exists()


def test_training_that_starts_from_a_checkpoint(model: Path, squares: Path, tmp_path: Path) -> None:
    """`start` stands alone, and needs the dataset's bands and classes in their order."""
    with pytest.raises(SettingsError, match="leave out the rest"):
        ModelSettings(start=model, encoder="resnet18")
    spec: ModelSpec = load_checkpoint(model).spec
    turned = dataclasses.replace(spec, bands=BANDS[::-1])
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "turned.safetensors", turned.build(), turned)
    config = TrainingConfig(
        dataset=squares,
        steps=1,
        tile=64,
        model=ModelSettings(start=tmp_path / "turned.safetensors"),
    )
    with pytest.raises(CheckpointError, match="in the same order"):
        train(config=config, output=tmp_path / "out", announce=str, report=str)
    assert load_dataset(squares).bands == spec.bands
