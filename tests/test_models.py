"""Checkpoints: written, read back, and refused when they are not ours."""

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec

SPEC = ModelSpec(
    encoder="tu-mobilenetv3_small_050",
    decoder_channels=(16, 16, 8, 8, 8),
    bands=("red", "nir"),
    scale=1e-4,
    offset=-0.1,
    mean=(0.1, 0.2),
    std=(0.05, 0.1),
    legend=Legend((LandClass(3, "Water", "#0000ff"), LandClass(1, "Land", "#00ff00"))),
    tile=64,
    overlap=16,
    training={"data": "none", "seeds": [1, 2]},
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained network."""
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, SPEC.build(), SPEC)
    return path


def rewrite(checkpoint: Path, folder: Path, description: str | None) -> Path:
    """Copy a checkpoint with another description, or with none."""
    path = folder / "other.safetensors"
    tensors = load_checkpoint(checkpoint).network.state_dict()
    save_file(tensors, path, {"landcover": description} if description is not None else None)
    return path


def test_spec_survives_json() -> None:
    """A spec read back from its JSON equals the spec that was written."""
    assert ModelSpec.from_json(SPEC.to_json()) == SPEC


def test_temperature_survives_json_and_is_one_where_not_written() -> None:
    """A fitted temperature is read back; a description from before there was one means 1."""
    warm = replace(SPEC, temperature=1.5)
    assert ModelSpec.from_json(warm.to_json()) == warm
    fields = json.loads(SPEC.to_json())
    assert fields.pop("temperature") == 1.0
    assert ModelSpec.from_json(json.dumps(fields)) == SPEC


def test_checkpoint_returns_weights_and_spec(checkpoint: Path) -> None:
    """A loaded network holds the saved weights to half precision, and the very same description."""
    torch.manual_seed(0)
    saved = SPEC.build().state_dict()
    loaded = load_checkpoint(checkpoint)
    assert loaded.spec == SPEC
    assert not loaded.network.training
    found = loaded.network.state_dict()
    assert found.keys() == saved.keys()
    for name, tensor in saved.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-6)


def test_network_gives_one_channel_per_class(checkpoint: Path) -> None:
    """The network maps (n, bands, rows, cols) to (n, classes, rows, cols)."""
    with torch.inference_mode():
        assert load_checkpoint(checkpoint).network(torch.zeros(3, 2, 64, 96)).shape == (
            3,
            2,
            64,
            96,
        )


def test_hash_names_the_file(checkpoint: Path, tmp_path: Path) -> None:
    """Equal files have equal hashes; other weights have another one."""
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, SPEC.build(), SPEC)
    first, second, third = (load_checkpoint(p).sha256 for p in (checkpoint, copy, other))
    assert first == second != third


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """Equal weights and spec give equal files."""
    torch.manual_seed(0)
    network = SPEC.build()
    for name in "ab":
        save_checkpoint(tmp_path / name, network, SPEC)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class Bomb:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        """Make unpickling create the trace."""
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickle_is_refused_unopened(tmp_path: Path, writer: str) -> None:
    """A pickled model is refused by name, and nothing in it runs."""
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    if writer == "torch":
        torch.save({"weights": Bomb(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(CheckpointError, match="never a pickle"):
        load_checkpoint(path)
    assert not trace.exists()


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path without a file is named in the message."""
    with pytest.raises(CheckpointError, match=r"no model .*nothing\.safetensors"):
        load_checkpoint(tmp_path / "nothing.safetensors")


def test_truncated_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Half a checkpoint is refused, whichever half of its parts is missing."""
    whole = checkpoint.read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
            load_checkpoint(path)


def test_tensors_without_description_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Somebody else's safetensors file is refused: nothing says which bands it takes."""
    with pytest.raises(CheckpointError, match="no 'landcover' description"):
        load_checkpoint(rewrite(checkpoint, tmp_path, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder_channels": (32, 16, 8, 8, 8)}, "do not fit"),
        ({"bands": ("red",), "mean": (0.1,), "std": (0.1,)}, "do not fit"),
        ({"encoder": "tu-no_such_network"}, "do not fit|not"),
        ({"legend": Legend((LandClass(1, "All", "#000000"),))}, "do not fit"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    checkpoint: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Weights that do not fit the architecture they claim are refused, and the file is named."""
    path = rewrite(checkpoint, tmp_path, replace(SPEC, **change).to_json())
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "description",
    [
        "", "not json", "[]", "null", "{}",
        json.dumps(json.loads(SPEC.to_json()) | {"format": "landcover-checkpoint-99"}),
        json.dumps(json.loads(SPEC.to_json()) | {"surprise": 1}),
        json.dumps(json.loads(SPEC.to_json()) | {"legend": [{"code": 0, "name": "x", "color": "#000000"}]}),
        json.dumps(json.loads(SPEC.to_json()) | {"bands": 3}),
        json.dumps(json.loads(SPEC.to_json()) | {"temperature": "warm"}),
        json.dumps(json.loads(SPEC.to_json()) | {"temperature": None}),
    ],
)  # fmt: skip
def test_unreadable_descriptions_are_refused(
    checkpoint: Path, tmp_path: Path, description: str
) -> None:
    """A description that is no spec of this format is refused, and the file is named."""
    path = rewrite(checkpoint, tmp_path, description)
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "tu-hf_hub:somebody/network"}, "not a plain name"),
        ({"encoder": "../network"}, "not a plain name"),
        ({"mean": (0.1,)}, "2 bands but 1 means"),
        ({"std": (0.1, 0.0)}, "above 0"),
        ({"scale": 0.0}, "above 0"),
        ({"tile": 100}, "multiple of 32"),
        ({"overlap": 33}, "0 to half of tile 64"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": -1.0}, "above 0"),
        ({"temperature": math.inf}, "above 0"),
        ({"temperature": math.nan}, "above 0"),
    ],
)
def test_contradicting_specs_are_refused(change: dict[str, Any], message: str) -> None:
    """A spec whose parts contradict each other cannot be made."""
    with pytest.raises(CheckpointError, match=message):
        replace(SPEC, **change)
