"""What a model says of itself: facts, card and STAC item, whatever it holds."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pystac
import pytest
import torch
import yaml
from pystac.extensions.mlm import MLMExtension

from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, SettingsError
from landcover.inference import scaling
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from pipeline.job import DEFAULT_MODEL
from pipeline.model_card import model_facts, parameters, write_model_card
from pipeline.model_item import write_model_item
from tests.command import landcover

HOSTILE = "<script>alert(1)</script> | [x](http://evil) \n# head `code`"
SPEC = ModelSpec(
    encoder="tu-mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8), bands=("red", HOSTILE), scale=1e-4,
    offset=-0.1, mean=(0.1, 0.2), std=(0.05, 0.1),
    legend=Legend((LandClass(3, HOSTILE, "#0000ff"), LandClass(1, "Land", "#00ff00"))), tile=64, overlap=16,
    training={"data": HOSTILE, "licence": HOSTILE, "validation": {"overall_accuracy": 0.9, "mean_iou": None}},
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose every name wants to be something else."""
    path = tmp_path_factory.mktemp("model") / "a b;rm -rf.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, SPEC.build(), SPEC)
    return path


def test_parameters_are_those_of_the_network() -> None:
    """The count is that of the network's parameters."""
    network = load_checkpoint(DEFAULT_MODEL).network
    assert parameters(DEFAULT_MODEL) == sum(p.numel() for p in network.parameters())


def test_the_facts_of_the_shipped_model() -> None:
    """Name, hash, bands, classes and training are shown by the command, without loading weights."""
    facts = dict(model_facts(DEFAULT_MODEL))
    assert facts["SHA-256"] == load_checkpoint(DEFAULT_MODEL).sha256
    assert facts["Classes"].startswith("1 Water, 2 Tree cover")
    assert "held_out" in " ".join(facts)
    shown = landcover("model", "show", DEFAULT_MODEL)
    assert shown.returncode == 0
    assert facts["SHA-256"] in shown.stdout


def test_a_hostile_model_makes_a_harmless_card(hostile: Path, tmp_path: Path) -> None:
    """Names cannot become markup, links, table cells, options of the command or front matter."""
    write_model_card(hostile, tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert "<script" not in body
    assert not re.search(r"(?<!\\)\]\(", body)
    assert "\n# head" not in body
    assert "--model a_b_rm_-rf.safetensors" in body
    head = yaml.safe_load(front)
    assert head["license_name"].startswith("<script>")
    assert set(head) == {"license_name", "license", "library_name", "pipeline_tag", "tags"}
    table = [line for line in text.splitlines() if line.startswith("| 3 |")]
    assert table[0].replace("\\|", "").count("|") == 4


def test_a_card_has_the_figures_of_its_own_evaluation_only(hostile: Path, tmp_path: Path) -> None:
    """Figures of the model are shown with intervals; those of another are refused; without, it says so."""
    score = {"value": 0.912, "low": 0.9, "high": None}
    overall = dict.fromkeys(
        ("overall_accuracy", "kappa", "mean_iou", "mean_f1", "frequency_weighted_iou"), score
    )
    record = {
        "model": {"sha256": load_checkpoint(DEFAULT_MODEL).sha256},
        "dataset": {"name": "towns", "version": "ab" * 32, "blocks": 9},
        "settings": {"split": "test"}, "pixels": 12345, "notes": ["few blocks"], "classes": [],
        "overall": overall | {"boundary_f1@1": {"value": 0.8, "low": 0.7, "high": 0.85}},
    }  # fmt: skip
    record["overall"]["mean_iou"] = {"value": None, "low": None, "high": None}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    write_model_card(DEFAULT_MODEL, tmp_path / "card.md", tmp_path / "metrics.json", "Towns")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "# Towns" in text
    assert "| Boundary F1, 1 px | 0.800 | 0.700 to 0.850 |" in text
    assert "| Mean IoU | \N{EN DASH} |" in text
    assert "12,345 pixels" in text
    write_model_card(hostile, tmp_path / "bare.md")
    assert "was not evaluated" in (tmp_path / "bare.md").read_text(encoding="utf-8")
    for content, reason in (
        ('{"model": {"sha256": "x"}}', "evaluates another model"), ("[]", "is no evaluation"), ("{", "is no evaluation"),
    ):  # fmt: skip
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(CheckpointError, match=reason):
            write_model_card(DEFAULT_MODEL, tmp_path / "no.md", tmp_path / "other.json")
    with pytest.raises(CheckpointError, match="no evaluation"):
        write_model_card(DEFAULT_MODEL, tmp_path / "no.md", tmp_path / "absent.json")
    assert not (tmp_path / "no.md").exists()


def test_a_card_sets_the_model_beside_its_baselines(tmp_path: Path) -> None:
    """A row for the model and each baseline, the same measures in each; remarks come as a list."""
    known = {"value": 0.7, "low": None, "high": None}
    names = ("overall_accuracy", "kappa", "mean_iou", "mean_f1", "frequency_weighted_iou")
    of_class = dict.fromkeys(("iou", "f1", "users_accuracy", "producers_accuracy"), known)
    record = {
        "model": {"sha256": load_checkpoint(DEFAULT_MODEL).sha256},
        "dataset": {"name": "towns", "version": "ab" * 32, "blocks": 9},
        "settings": {"split": "test"}, "pixels": 12345, "notes": [],
        "classes": [{"name": "Water", **of_class}, {"name": "a|b", **of_class}],
        "overall": dict.fromkeys(names, known),
        "baselines": {"majority class": {"mean_iou": 0.1, "overall_accuracy": 0.5, "iou": [0.2, None]}},
    }  # fmt: skip
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    (tmp_path / "remarks.txt").write_text("Trained on\none city.\n\nPools are <b>missed</b>.\n")
    write_model_card(
        DEFAULT_MODEL, tmp_path / "card.md", tmp_path / "metrics.json",
        remarks=tmp_path / "remarks.txt",
    )  # fmt: skip
    lines = (tmp_path / "card.md").read_text(encoding="utf-8").splitlines()
    assert "| | mean IoU | overall accuracy | Water | a\\|b |" in lines
    assert "| this model | 0.700 | 0.700 | 0.700 | 0.700 |" in lines
    assert "| majority class | 0.100 | 0.500 | 0.200 | \N{EN DASH} |" in lines
    assert "- Trained on one city." in lines
    assert "- Pools are bmissed/b." in lines
    with pytest.raises(SettingsError, match="cannot be read"):
        write_model_card(DEFAULT_MODEL, tmp_path / "no.md", remarks=tmp_path / "absent.txt")


def test_a_card_tells_what_training_held_out(tmp_path: Path) -> None:
    """Figures as rows; a model that also saw real places is not called a simulation's."""
    training = {"data": "simulated", "held_out": {"towns": {"overall_accuracy": 0.5}}}
    for places in ({}, {"held_out_places": ["a town"]}):
        spec = dataclasses.replace(SPEC, training=training | places)
        save_checkpoint(tmp_path / "m.safetensors", spec.build(), spec)
        write_model_card(tmp_path / "m.safetensors", tmp_path / "card.md")
        text = (tmp_path / "card.md").read_text(encoding="utf-8")
        assert "| towns, overall accuracy | 0.5 |" in text
        assert ("Trained on simulated images" in text) != bool(places)


def test_the_item_is_one_of_the_extension(tmp_path: Path) -> None:
    """The STAC item is valid, and pystac's MLM extension reads from it what the model is."""
    made = landcover("model", "item", DEFAULT_MODEL, "-o", tmp_path / "item.json")
    assert made.returncode == 0, made.stderr
    item = pystac.Item.from_dict(json.loads((tmp_path / "item.json").read_text(encoding="utf-8")))
    found = MLMExtension.ext(item)
    spec = load_checkpoint(DEFAULT_MODEL).spec
    assert found.mlm_name == DEFAULT_MODEL.stem
    assert [str(task) for task in found.tasks] == ["semantic-segmentation"]
    (given,), (got,) = found.input, found.output
    assert [band.name for band in given.bands] == list(spec.bands)
    assert given.input.shape == [-1, 6, 256, 256]
    assert got.result.shape == [-1, 8, 256, 256]
    assert [c["value"] for c in item.properties["mlm:output"][0]["classification:classes"]] == [
        *spec.legend.codes
    ]
    (asset,) = item.assets.values()
    assert "mlm:model" in (asset.roles or [])
    assert asset.extra_fields["file:size"] == DEFAULT_MODEL.stat().st_size
    assert item.datetime is None


def test_the_item_scales_stored_values_as_the_model_does(hostile: Path, tmp_path: Path) -> None:
    """(value - mean) / stddev of the item is what the network gets of a stored value; names are plain."""
    fields = write_model_item(hostile, tmp_path / "item.json")["properties"]
    stored = np.array([0.0, 1234.0, 9999.0])
    gain, bias = scaling(load_checkpoint(hostile).spec)
    for one, g, b in zip(fields["mlm:input"][0]["value_scaling"], gain, bias, strict=True):
        np.testing.assert_allclose(
            (stored - one["mean"]) / one["stddev"], stored * g + b, rtol=1e-5
        )
    assert fields["mlm:name"] == "a-b-rm--rf"
    names = [c["name"] for c in fields["mlm:output"][0]["classification:classes"]]
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)
