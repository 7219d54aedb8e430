"""Runtimes: the same network by torch, OpenVINO and CUDA."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from timm.layers import BatchNormAct2d
from torch import nn

import landcover.openvino_runtime
import landcover.runtimes
from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint
from landcover.errors import SettingsError
from landcover.landscape import build_landscape
from landcover.legend import Legend
from landcover.model_spec import ModelSpec
from landcover.runtime import Runtime, from_bfloat16, to_bfloat16, usable_cpus
from landcover.runtimes import NAMES, available, open_runtime
from landcover.simulation import COARSE_BANDS, Moment, Scenery
from landcover.torch_runtimes import (
    fold_normalisation,
    group_within,
    halve_until_it_fits,
    run_in_parts,
)

ROOT = Path(__file__).parent.parent
LEGEND = Legend.from_records(
    [{"code": c, "name": f"class {c}", "color": "#808080"} for c in (2, 3, 4)]
)
SPEC = ModelSpec(
    "resnet18", (16,), ("red", "nir"), 1e-4, 0.0, (0.1, 0.1), (0.1, 0.1), LEGEND, 32, 0
)
ON_CPU = ["torch-fp32", "torch-bf16", "openvino-fp32"]


def by_hand() -> Checkpoint:
    """A 1x1 convolution whose three classes are red, nir and 2 red - nir + 1."""
    network = nn.Conv2d(2, 3, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[1.0, 0], [0, 1], [2, -1]])[:, :, None, None]
        network.bias = nn.Parameter(torch.tensor([0.0, 0, 1]))
    return Checkpoint(network, SPEC, "")


def some_network() -> Checkpoint:
    """A small network with normalisation, both resolutions and a skip connection."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(2, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
            self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), BatchNormAct2d(8))
            self.up = nn.Upsample(scale_factor=2)
            self.head = nn.Conv2d(10, 3, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            deep: torch.Tensor = self.deep(self.down(x))
            return self.head(torch.cat([self.up(deep), x], 1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Small()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias)
            norm.running_mean = torch.randn(8)
            norm.running_var = torch.rand(8) + 0.5
    return Checkpoint(network.eval(), SPEC, "")


def some_windows(n: int = 6) -> NDArray[np.float32]:
    """Normalised windows (n, 32, 32, 2)."""
    return np.random.default_rng(0).normal(size=(n, 32, 32, 2)).astype(np.float32)


def run(runtime: Runtime, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of windows in float32, one call each, by all workers at once."""
    typed = windows if runtime.dtype is np.float32 else to_bfloat16(windows)
    with ThreadPoolExecutor(runtime.workers) as threads:
        found = list(threads.map(lambda k: runtime.logits(typed[k : k + 1]), range(len(typed))))
    logits = np.concatenate(found)
    return from_bfloat16(logits) if logits.dtype == np.uint16 else logits


def test_bfloat16_by_hand() -> None:
    """1 is 0x3F80; what lies half-way goes to the even neighbour; 3.14159 keeps three digits."""
    halfway = np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)
    assert to_bfloat16(np.array([1, -2], np.float32)).tolist() == [0x3F80, 0xC000]
    assert to_bfloat16(halfway).tolist() == [0x3F80, 0x3F82]
    assert from_bfloat16(to_bfloat16(np.array([3.14159], np.float32))).tolist() == [3.140625]


@given(
    arrays(np.float32, array_shapes(), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
)
@settings(deadline=None)
def test_bfloat16_keeps_eight_bits(values: NDArray[np.float32]) -> None:
    """There and back is off by at most one part in 256, and a second time changes nothing."""
    back = from_bfloat16(to_bfloat16(values))
    np.testing.assert_allclose(back, values, rtol=2**-8, atol=1e-38)
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(back)), back)


@pytest.mark.parametrize("name", ON_CPU)
def test_logits_by_hand(name: str) -> None:
    """Red 3 and nir 5 give the logits 3, 5 and 2: bands go in last, classes come out second."""
    with open_runtime(by_hand(), name, "cpu", workers=1) as runtime:
        windows = runtime.new_windows()
        values = np.array([3, 5], np.float32)
        windows[:] = values if runtime.dtype is np.float32 else to_bfloat16(values)
        logits = runtime.logits(windows)
    if logits.dtype == np.uint16:
        logits = from_bfloat16(logits)
    assert windows.shape == (1, 32, 32, 2)
    assert logits.shape == (1, 3, 32, 32)
    assert np.unique(logits.reshape(3, -1), axis=1).tolist() == [[3], [5], [2]]


@pytest.mark.parametrize(("name", "tolerance"), [*zip(ON_CPU, (0, 0.1, 1e-5), strict=True)])
def test_runtimes_agree_with_the_bare_network(name: str, tolerance: float) -> None:
    """Torch in float32 gives the network's own bytes on one thread; the others come close."""
    checkpoint, windows = some_network(), some_windows()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        network = checkpoint.network.to(memory_format=torch.channels_last)
        batches = [torch.from_numpy(w[None]).permute(0, 3, 1, 2) for w in windows]
        expected = np.concatenate([network(batch).numpy() for batch in batches])
    torch.set_num_threads(threads)
    with open_runtime(checkpoint, name, "cpu") as runtime:
        got = run(runtime, windows)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ON_CPU)
def test_results_depend_neither_on_workers_nor_on_the_run(name: str) -> None:
    """One worker, three, and three of another opening give the same bytes."""
    results = []
    for workers in (1, 3, 3):
        with open_runtime(some_network(), name, "cpu", workers) as runtime:
            assert (runtime.workers, runtime.group, runtime.device) == (workers, 1, "cpu")
            results.append(run(runtime, some_windows(12)))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[1], results[2])


@pytest.mark.parametrize("name", ON_CPU)
def test_a_result_belongs_to_the_caller(name: str) -> None:
    """The next call, and a change of its input, leave earlier logits as they are."""
    with open_runtime(some_network(), name, "cpu", workers=1) as runtime:
        windows = runtime.new_windows()
        first = runtime.logits(windows)
        kept = first.copy()
        windows[:] = 1
        runtime.logits(windows)
    np.testing.assert_array_equal(first, kept)


def test_openvino_in_bfloat16_takes_and_gives_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversions are right on any CPU; where it lacks bfloat16 OpenVINO computes in float32."""
    for place in (landcover.runtimes, landcover.openvino_runtime):
        monkeypatch.setattr(place, "openvino_capabilities", lambda: ["FP32", "BF16"])
    checkpoint, windows = some_network(), some_windows()
    with open_runtime(checkpoint, "openvino-bf16", "cpu") as runtime:
        assert (runtime.dtype, runtime.precision) == (np.uint16, "bf16")
        got = run(runtime, windows)
    with open_runtime(checkpoint, "torch-fp32", "cpu") as exact:
        np.testing.assert_allclose(got, run(exact, windows), atol=0.1)


def test_the_thread_count_of_torch_is_given_back() -> None:
    """After use torch has the threads it had, though the calling thread itself computed."""
    before = torch.get_num_threads()
    with open_runtime(by_hand(), "torch-fp32", "cpu") as runtime:
        runtime.logits(some_windows(1))
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_the_checkpoint_keeps_its_weights() -> None:
    """A runtime in bfloat16 folds and rounds its own copy."""
    checkpoint = some_network()
    before = {k: v.clone() for k, v in checkpoint.network.state_dict().items()}
    open_runtime(checkpoint, "torch-bf16", "cpu")
    after = checkpoint.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_normalisation_folds_exactly() -> None:
    """Both kinds of batch normalisation vanish, and the logits stay to single precision."""
    network, batch = some_network().network, torch.randn(2, 2, 32, 32)
    with torch.inference_mode():
        expected = network(batch)
    fold_normalisation(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    with torch.inference_mode():
        torch.testing.assert_close(network(batch), expected, rtol=1e-5, atol=1e-5)


class Shared(nn.Module):
    """A convolution whose output is used with and without normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add both."""
        y = self.conv(x)
        return y + self.norm(y)  # type: ignore[no-any-return]


class Branching(nn.Module):
    """A network that looks at values, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layers where there is anything."""
        return self.layers(x) if x.sum() > -1e9 else x  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Shared, Branching])
def test_normalisation_that_cannot_be_folded_stays(kind: Callable[[], nn.Module]) -> None:
    """A convolution used twice, or a network that cannot be followed, is left as it is."""
    network = kind()
    fold_normalisation(network)
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_a_network_that_openvino_cannot_run_is_refused() -> None:
    """The error names the runtime that can."""

    class Strange(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x).real

    with pytest.raises(SettingsError, match="choose the runtime torch-fp32"):
        open_runtime(Checkpoint(Strange(), SPEC, ""), "openvino-fp32", "cpu")


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("tensorflow", "cpu", "not known; choose one of torch-fp32"),
        ("cuda-fp32", "cpu", "does not run on the device 'cpu'"),
        ("torch-fp32", "gpu9", "choose auto, cpu or cuda"),
        ("torch-fp32", "meta", "choose auto, cpu or cuda"),
        ("torch-fp32", "cuda:99", "choose --device cpu"),
    ],
)
def test_what_cannot_be_is_refused(name: str, device: str, message: str) -> None:
    """An unknown or absent runtime or device is a settings error that says what to choose."""
    with pytest.raises(SettingsError, match=message):
        open_runtime(by_hand(), name, device)


def test_no_worker_is_refused() -> None:
    """Zero workers are a settings error."""
    with pytest.raises(SettingsError, match="give 1 or more"):
        open_runtime(by_hand(), "torch-fp32", "cpu", workers=0)


def test_openvino_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, it is not available, and by name the error says how to install it."""
    monkeypatch.setitem(sys.modules, "openvino", None)  # importing it raises ImportError
    assert not any(name.startswith("openvino") for name in available("cpu"))
    with pytest.raises(SettingsError, match="pip install openvino"):
        open_runtime(by_hand(), "openvino-fp32", "cpu")


def test_openvino_in_bfloat16_needs_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU without bfloat16 it is not available, and refused by name."""
    for place in (landcover.runtimes, landcover.openvino_runtime):
        monkeypatch.setattr(place, "openvino_capabilities", lambda: ["FP32"])
    assert "openvino-bf16" not in available("cpu")
    with pytest.raises(SettingsError, match="choose openvino-fp32"):
        open_runtime(by_hand(), "openvino-bf16", "cpu")


def test_available_names_the_exact_one_first() -> None:
    """Torch in float32 runs on every CPU; all that is named is known and can be opened."""
    names = available("cpu")
    assert names[0] == "torch-fp32"
    assert set(names) <= set(NAMES)
    for name in names:
        with open_runtime(by_hand(), name, "cpu") as runtime:
            assert runtime.name == name


def test_the_environment_decides_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS where it is a number above 0, else the CPUs of the process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert usable_cpus() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert usable_cpus() == len(os.sched_getaffinity(0))


def test_openvino_threads_are_not_pinned() -> None:
    """Each may run on every CPU of the process, so two processes do not crowd one core."""
    with open_runtime(by_hand(), "openvino-fp32", "cpu", workers=2) as runtime:
        run(runtime, some_windows())
        threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
        allowed = [os.sched_getaffinity(thread) for thread in threads]
    assert all(cpus == os.sched_getaffinity(0) for cpus in allowed)


def test_openvino_needs_neither_network_nor_telemetry() -> None:
    """Opening it leaves the telemetry package unused and no socket opened."""
    code = """
import socket, sys
def refuse(*_): raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = refuse
sys.modules["openvino_telemetry"] = None
from tests.test_runtimes import by_hand
from landcover.runtimes import open_runtime
with open_runtime(by_hand(), "openvino-fp32", "cpu", workers=1) as runtime:
    runtime.logits(runtime.new_windows())
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_shipped_weights_agree_between_runtimes() -> None:
    """On a simulated summer scene the labels of every runtime are those of float32 to 99.5 %."""
    checkpoint = load_checkpoint(ROOT / "pipeline/weights/demo.safetensors")
    spec = checkpoint.spec
    view = Scenery(build_landscape(5, (512, 512)), 5).reflectance(Moment(200, 150, 60, 0, 5))
    bands = [
        view.band(name)
        if name not in COARSE_BANDS
        else view.coarse_band(name).repeat(2, 0).repeat(2, 1)
        for name in spec.bands
    ]
    scene = ((np.stack(bands, -1) - spec.mean) / spec.std).astype(np.float32)
    windows = np.stack([scene[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)])
    with open_runtime(checkpoint, "torch-fp32", "cpu") as exact:
        expected = run(exact, windows).argmax(1)
    assert len(np.unique(expected)) >= 5
    for name in {*available("cpu"), "openvino-fp32"}:
        with open_runtime(checkpoint, name, "cpu") as runtime:
            assert (run(runtime, windows).argmax(1) == expected).mean() >= 0.995


# --- memory


class Hungry(nn.Module):
    """A network that runs out of memory above so many windows at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Double the values, or fail as CUDA does."""
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seen.append(len(x))
        return 2 * x


@pytest.mark.parametrize(("most", "batch"), [(16, 16), (7, 4), (1, 1)])
def test_lack_of_memory_halves_the_batch(most: int, batch: int) -> None:
    """16 windows pass a network that stands 7 of them in four parts of 4, with the same result."""
    network, windows = Hungry(most), torch.randn(16, 2, 4, 4)
    logits, found = halve_until_it_fits(lambda n: run_in_parts(network, windows, n), 16)
    assert found == batch
    assert network.seen == [batch] * (16 // batch)
    assert torch.equal(logits, 2 * windows)


def test_one_window_that_does_not_fit_is_refused() -> None:
    """The error says what to do."""
    network, windows = Hungry(0), torch.randn(4, 2, 4, 4)
    with pytest.raises(SettingsError, match="choose --device cpu"):
        halve_until_it_fits(lambda n: run_in_parts(network, windows, n), 4)


def test_group_by_hand() -> None:
    """The largest power of two that fits, from 1 to 64."""
    assert [group_within(m, 10) for m in (0, 19, 20, 79, 80, 10_000)] == [1, 1, 2, 4, 8, 64]


# --- CUDA

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@needs_cuda
@pytest.mark.parametrize(("name", "tolerance"), [("torch-fp32", 1e-4), ("torch-bf16", 0.1)])
def test_cuda_agrees_with_the_cpu(name: str, tolerance: float) -> None:
    """A group on the GPU has the CPU's logits, the same from both workers and on every run."""
    checkpoint, windows = some_network(), some_windows(64)
    with open_runtime(checkpoint, "torch-fp32", "cpu") as exact:
        expected = run(exact, windows)
    with open_runtime(checkpoint, name, "cuda") as runtime:
        assert runtime.name == name.replace("torch", "cuda")
        group = runtime.new_windows()
        values = windows[: runtime.group]
        group[:] = values if runtime.dtype is np.float32 else to_bfloat16(values)
        with ThreadPoolExecutor(runtime.workers) as threads:
            found = list(threads.map(runtime.logits, [group] * 6))
    assert all(np.array_equal(found[0], other) for other in found)
    logits = from_bfloat16(found[0]) if found[0].dtype == np.uint16 else found[0]
    np.testing.assert_allclose(logits, expected[: len(logits)], atol=tolerance)


@needs_cuda
def test_a_nearly_full_gpu_keeps_the_group() -> None:
    """With most memory taken the group is the same, and the logits stay close."""
    checkpoint = some_network()
    with open_runtime(checkpoint, "cuda-fp32", "cuda") as runtime:
        expected, group = runtime.logits(runtime.new_windows()), runtime.group
    taken = torch.empty(torch.cuda.mem_get_info()[0] - 2**27, dtype=torch.uint8, device="cuda")
    with open_runtime(checkpoint, "cuda-fp32", "cuda") as runtime:
        assert runtime.group == group
        np.testing.assert_allclose(runtime.logits(runtime.new_windows()), expected, atol=1e-4)
    del taken
