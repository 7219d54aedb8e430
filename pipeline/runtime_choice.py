"""The choice of a runtime: by name, or the fastest whose labels agree, measured and remembered."""

import contextlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landcover.checkpoint import Checkpoint
from landcover.errors import LandcoverError, SettingsError
from landcover.exported_network import ExportedNetwork
from landcover.runtime import Runtime, from_bfloat16, to_bfloat16, usable_cpus
from landcover.runtimes import available, find_device, open_runtime
from pipeline.artifacts import fingerprint, versions, write_json

AGREEMENT = 0.995
"""Least share of labels that must equal those of float32, for `auto` to choose a runtime."""

_PASSES = 2
_PASS_SECONDS = 0.7


@dataclass(frozen=True)
class Choice:
    """A runtime and what was measured of it."""

    runtime: str
    """Its name, for `open_runtime`."""
    device: str
    """`cpu` or `cuda:N`."""
    megapixels_per_second: dict[str, float]
    """Speed of each runtime that was tried; empty where a name was given."""
    agreement: float | None
    """Share of labels equal to those of float32 on the sample; None for float32 itself."""
    opened: Runtime | None = field(default=None, compare=False, repr=False)
    """The runtime, where it was opened to be compared: to open one takes seconds."""


def choose_runtime(
    checkpoint: Checkpoint, name: str, device: str, windows: NDArray[np.float32]
) -> Choice:
    """Choose how to run a network, and measure how far its labels are those of exact float32.

    name: a runtime, or `auto`: the fastest of those available whose labels agree to 99.5 %, which
    is then remembered for this machine, model and device, so that a rerun gives the same bytes.
    windows: a sample of the image, (n, rows, cols, bands) normalised; without any, nothing is
    measured, and `auto` is the exact runtime.
    An exported network has no choice, and nothing exact to be compared with.
    Raises SettingsError as `open_runtime` does.
    """
    if isinstance(checkpoint.network, ExportedNetwork):
        own = open_runtime(checkpoint, name, device)
        return Choice(own.name, own.device, {}, None, own)
    if name != "auto":
        return _fixed(checkpoint, name, device, windows)
    names, place = available(device), str(find_device(device))
    if len(names) == 1 or not len(windows):
        return Choice(names[0], place, {}, None)
    memory = _cache_folder() / f"{_key(checkpoint, place, names)}.json"
    choice = _recall(memory, names, place)
    if choice is None:
        choice = _measured(checkpoint, names, place, windows)
        with contextlib.suppress(OSError, SettingsError):  # it is then measured again
            write_json(memory, asdict(choice))
    return choice


def _fixed(checkpoint: Checkpoint, name: str, device: str, windows: NDArray[np.float32]) -> Choice:
    with open_runtime(checkpoint, name, device) as runtime:
        agreement = None
        if _reference(runtime.device) != runtime.name and len(windows):
            with open_runtime(checkpoint, _reference(runtime.device), runtime.device) as exact:
                agreement = _share_equal(labels_of(exact, windows), labels_of(runtime, windows))
    return Choice(runtime.name, runtime.device, {}, agreement, runtime)


def compared(
    checkpoint: Checkpoint, name: str, windows: NDArray[np.float32], exact: NDArray[np.intp]
) -> Choice:
    """A runtime on the CPU, opened, whose labels of some windows are compared with the exact ones."""
    opened = open_runtime(checkpoint, name, "cpu")
    with opened:
        agreement = _share_equal(exact, labels_of(opened, windows)) if len(windows) else None
    return Choice(opened.name, opened.device, {}, agreement, opened)


def _reference(device: str) -> str:
    return "torch-fp32" if device == "cpu" else "cuda-fp32"


# --- measuring


def _measured(
    checkpoint: Checkpoint, names: Sequence[str], device: str, windows: NDArray[np.float32]
) -> Choice:
    """Try all runtimes by turns, so that a busy moment of the machine slows each alike."""
    exact, labels, trials = names[0], {}, []
    with contextlib.ExitStack() as stack:
        for name in names:
            try:
                trial = stack.enter_context(open_runtime(checkpoint, name, device))
                labels[name] = labels_of(trial, windows)
            except (LandcoverError, RuntimeError):
                if name == exact:
                    raise
            else:  # a network that one of the fast ones cannot run is run by the others
                trials.append(trial)
        rates = [{trial.name: _speed(trial, windows) for trial in trials} for _ in range(_PASSES)]
    speed = {name: round(max(rate[name] for rate in rates), 3) for name in labels}
    agreement = {name: _share_equal(labels[exact], found) for name, found in labels.items()}
    best = max((name for name in labels if agreement[name] >= AGREEMENT), key=speed.__getitem__)
    return Choice(best, device, speed, None if best == exact else agreement[best])


def labels_of(runtime: Runtime, windows: NDArray[np.float32]) -> NDArray[np.intp]:
    """Index of the likeliest class, (n, rows, cols); all workers have run once after this."""

    def label(group: NDArray[Any]) -> NDArray[np.intp]:
        logits = runtime.logits(group)
        values = from_bfloat16(logits) if logits.dtype == np.uint16 else logits
        return np.asarray(values.argmax(1))

    with ThreadPoolExecutor(runtime.workers) as threads:
        found = list(threads.map(label, _groups(runtime, windows)))
    return np.concatenate(found)[: len(windows)]


def _share_equal(exact: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """Share of equal labels."""
    return float((exact == other).mean())


def _speed(runtime: Runtime, windows: NDArray[np.float32]) -> float:
    """Megapixels a second with all workers busy, for a short while."""
    groups = list(_groups(runtime, windows))

    def work(worker: int) -> float:
        runtime.logits(groups[worker % len(groups)])  # a thread's first call sets it up
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() < started + _PASS_SECONDS:
            runtime.logits(groups[(worker + done) % len(groups)])
            done += 1
        return done / (time.perf_counter() - started)

    pixels = windows.shape[1] * windows.shape[2] * runtime.group
    with ThreadPoolExecutor(runtime.workers) as threads:
        calls_per_second = sum(threads.map(work, range(runtime.workers)))
    return float(calls_per_second * pixels / 1e6)


def _groups(runtime: Runtime, windows: NDArray[np.float32]) -> Iterator[NDArray[Any]]:
    """The sample as the runtime takes it; the last group is filled up with the first windows."""
    for start in range(0, len(windows), runtime.group):
        places = np.arange(start, start + runtime.group) % len(windows)
        group = runtime.new_windows()
        group[:] = windows[places] if runtime.dtype is np.float32 else to_bfloat16(windows[places])
        yield group


# --- remembering


def _key(checkpoint: Checkpoint, device: str, names: Sequence[str]) -> str:
    """Names all that the speeds depend on."""
    installed = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        installed["openvino"] = importlib.metadata.version("openvino")
    return fingerprint(
        _hardware(device), versions() | installed, checkpoint.sha256, checkpoint.spec.tile,
        usable_cpus(), device, names,
    )  # fmt: skip


def _hardware(device: str) -> Any:
    import torch

    if device == "cpu":
        return [platform.machine(), torch.cpu.get_capabilities()]
    found = torch.cuda.get_device_properties(torch.device(device))
    return [found.name, found.total_memory]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()) / "landcover"


def _recall(memory: Path, names: Sequence[str], device: str) -> Choice | None:
    """The choice that was written here; None where it cannot be read or used."""
    try:
        choice = Choice(**json.loads(memory.read_text(encoding="utf-8")))
        usable = choice.runtime in names and choice.device == device
    except (OSError, ValueError, TypeError):
        return None
    return choice if usable else None
