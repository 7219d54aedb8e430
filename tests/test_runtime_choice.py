"""The choice of a runtime: measured, remembered, and bound to agree with float32."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import pipeline.runtime_choice
from landcover.checkpoint import Checkpoint
from landcover.errors import SettingsError
from landcover.legend import Legend
from landcover.model_spec import ModelSpec
from landcover.runtimes import available, open_runtime
from pipeline.runtime_choice import Choice, choose_runtime

LEGEND = Legend.from_records(
    [{"code": c, "name": f"class {c}", "color": "#808080"} for c in (2, 3)]
)
SPEC = ModelSpec(
    "resnet18", (16,), ("red", "nir"), 1e-4, 0.0, (0.1,) * 2, (0.1,) * 2, LEGEND, 64, 0
)
WINDOWS = np.random.default_rng(0).normal(size=(5, 64, 64, 2)).astype(np.float32)


def some_network(sha256: str = "a") -> Checkpoint:
    """Two layers of convolution."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 2, 1))
    return Checkpoint(network.eval(), SPEC, sha256)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "landcover"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a shorter while."""
    monkeypatch.setattr(pipeline.runtime_choice, "_PASS_SECONDS", 0.02)


def forbid_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any further opening of a runtime fail."""

    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(pipeline.runtime_choice, "open_runtime", fail)


def test_auto_measures_every_runtime_and_takes_the_fastest_that_agrees() -> None:
    """All available ones have a speed; the chosen one is the fastest, or disagrees too often."""
    choice = choose_runtime(some_network(), "auto", "cpu", WINDOWS)
    assert list(choice.megapixels_per_second) == available("cpu")
    assert min(choice.megapixels_per_second.values()) > 0
    assert choice.device == "cpu"
    fastest = max(choice.megapixels_per_second, key=choice.megapixels_per_second.__getitem__)
    assert choice.runtime == fastest
    assert choice.agreement is None if choice.runtime == "torch-fp32" else choice.agreement >= 0.995


def test_a_fast_runtime_that_disagrees_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With agreement out of reach the exact runtime is left."""
    monkeypatch.setattr(pipeline.runtime_choice, "_share_equal", lambda a, b: float(a is b))
    choice = choose_runtime(some_network(), "auto", "cpu", WINDOWS)
    assert (choice.runtime, choice.agreement) == ("torch-fp32", None)


def test_a_network_that_openvino_cannot_run_is_left_to_torch() -> None:
    """The others are measured, and no error is raised."""

    class Strange(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.linalg.eigvals(torch.eye(2)).real.sum()

    choice = choose_runtime(Checkpoint(Strange(), SPEC, ""), "auto", "cpu", WINDOWS)
    assert choice.runtime in {"torch-fp32", "torch-bf16"}  # the latter where the CPU computes in it
    assert not any(name.startswith("openvino") for name in choice.megapixels_per_second)


def test_an_answer_is_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same question is answered from the file; another model is measured again."""
    first = choose_runtime(some_network(), "auto", "cpu", WINDOWS)
    assert len(list(cache.iterdir())) == 1
    choose_runtime(some_network("b"), "auto", "cpu", WINDOWS)
    assert len(list(cache.iterdir())) == 2
    forbid_measuring(monkeypatch)
    assert choose_runtime(some_network(), "auto", "cpu", WINDOWS) == first


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"runtime": 1}', '{"runtime": "gone", "device": "cpu"}', "\udcff"]
)
def test_a_memory_that_cannot_be_read_is_measured_again(text: str, cache: Path) -> None:
    """Broken, foreign or outdated files are replaced."""
    first = choose_runtime(some_network(), "auto", "cpu", WINDOWS)
    file = next(cache.iterdir())
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    again = choose_runtime(some_network(), "auto", "cpu", WINDOWS)
    assert list(again.megapixels_per_second) == list(first.megapixels_per_second)
    assert Choice(**json.loads(file.read_text())) == again


def test_a_cache_folder_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where a file stands in the folder's place, the answer is given all the same."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose_runtime(some_network(), "auto", "cpu", WINDOWS).runtime in available("cpu")


def test_a_named_runtime_has_its_agreement_measured(cache: Path) -> None:
    """OpenVINO's float32 labels are torch's but for ties; nothing is timed or remembered."""
    choice = choose_runtime(some_network(), "openvino-fp32", "auto", WINDOWS)
    assert (choice.runtime, choice.device) == ("openvino-fp32", "cpu")
    assert choice.megapixels_per_second == {}
    assert choice.agreement is not None
    assert 0.999 <= choice.agreement <= 1
    assert not cache.exists()


def test_agreement_by_hand() -> None:
    """Classes 1 and 1 + 2^-10 of a constant differ in float32 and tie in bfloat16: half agree."""
    network = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[1.0, 0], [0, 1]])[:, :, None, None]
        network.bias = nn.Parameter(torch.zeros(2))
    windows = np.empty((1, 64, 64, 2), np.float32)
    windows[:, :32] = (1, 0)  # both pick the first
    windows[:, 32:] = (1, 1 + 2**-10)  # float32 picks the second, bfloat16 the first of a tie
    choice = choose_runtime(Checkpoint(network, SPEC, ""), "torch-bf16", "cpu", windows)
    assert choice.agreement == 0.5


def test_float32_by_torch_is_never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the others are compared with."""
    monkeypatch.setattr(pipeline.runtime_choice, "labels_of", None)
    choice = choose_runtime(some_network(), "torch-fp32", "cpu", WINDOWS)
    assert choice == Choice("torch-fp32", "cpu", {}, None)


@pytest.mark.parametrize("name", ["auto", "openvino-fp32"])
def test_without_a_sample_nothing_is_measured(name: str, cache: Path) -> None:
    """An image without data gives no sample; `auto` is then the exact runtime."""
    choice = choose_runtime(some_network(), name, "cpu", WINDOWS[:0])
    assert choice == Choice("torch-fp32" if name == "auto" else name, "cpu", {}, None)
    assert not cache.exists()


def test_an_unknown_runtime_is_refused() -> None:
    """As `open_runtime` refuses it."""
    with pytest.raises(SettingsError, match="choose one of"):
        choose_runtime(some_network(), "fastest", "cpu", WINDOWS)


def test_a_group_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five windows in groups of four are two groups; labels come back for five alone."""
    with open_runtime(some_network(), "torch-fp32", "cpu") as runtime:
        alone = pipeline.runtime_choice.labels_of(runtime, WINDOWS)
        monkeypatch.setattr(runtime, "group", 4, raising=False)
        monkeypatch.setattr(runtime, "_shape", (4, 64, 64, 2))
        groups: list[NDArray[Any]] = list(pipeline.runtime_choice._groups(runtime, WINDOWS))
        assert [len(group) for group in groups] == [4, 4]
        np.testing.assert_array_equal(groups[1], WINDOWS[[4, 0, 1, 2]])
        labels = pipeline.runtime_choice.labels_of(runtime, WINDOWS)
    assert labels.shape == (5, 64, 64)
    assert (labels == alone).mean() > 0.999
