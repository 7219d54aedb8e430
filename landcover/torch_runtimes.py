"""Networks run by torch: on the CPU, one tile a call, and on CUDA, groups of tiles by captured graphs."""

import contextlib
import copy
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landcover.checkpoint import Checkpoint
from landcover.errors import SettingsError
from landcover.runtime import dtype_of, precision_of, window_shape

_LARGEST_GROUP = 64
_CUDA_SHARE = 0.7  # of the memory; the rest is for the context, the weights and fragments

_T = TypeVar("_T")


class TorchRuntime:
    """One tile a call with single-threaded arithmetic.

    The arithmetic of several threads on one tile depends on their number; it is also slower.
    """

    device, group = "cpu", 1

    def __init__(self, name: str, checkpoint: Checkpoint, workers: int) -> None:
        self.name, self.precision, self.workers = name, precision_of(name), workers
        self.dtype: type = dtype_of(name)
        self._shape = window_shape(checkpoint, self.group)
        self._network = _prepare(checkpoint, name, torch.device("cpu"))
        self._ready = threading.local()

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        torch.set_num_threads(self._threads)

    def new_windows(self) -> NDArray[Any]:
        """See Runtime."""
        return np.zeros(self._shape, self.dtype)

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
        """See Runtime."""
        if not hasattr(self._ready, "thread"):
            torch.set_num_threads(1)  # holds for the calling thread
            self._ready.thread = True
        with torch.inference_mode():
            return _to_array(self._network(_to_batch(windows)))


def _to_batch(windows: NDArray[Any]) -> torch.Tensor:
    """The same memory as (n, bands, rows, cols), channels last."""
    values = torch.from_numpy(windows)
    if values.dtype == torch.uint16:
        values = values.view(torch.bfloat16)
    return values.permute(0, 3, 1, 2)


def _to_array(logits: torch.Tensor) -> NDArray[Any]:
    """The same memory in numpy, bfloat16 as its bits."""
    if logits.dtype == torch.bfloat16:
        logits = logits.view(torch.uint16)
    array: NDArray[Any] = logits.numpy()
    return array


def _prepare(checkpoint: Checkpoint, name: str, device: torch.device) -> nn.Module:
    """The network in the precision, memory layout and place of a runtime."""
    network = checkpoint.network.eval()
    if name != "torch-fp32":
        network = copy.deepcopy(network)  # the checkpoint keeps its own
    if precision_of(name) == "bf16":
        fold_normalisation(network)
        network = network.to(torch.bfloat16)
    return network.to(device).to(memory_format=torch.channels_last)


def fold_normalisation(network: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, in place, where that is exact.

    Left alone are those whose convolution also feeds something else or is used twice, and networks
    that torch.fx cannot follow. In bfloat16 this rounds once where the two would round twice.
    """
    try:
        graph = _Layers().trace(network)
    except Exception:  # noqa: BLE001 - it fails in many ways, and only speed is lost
        return
    modules = dict(network.named_modules())
    uses = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(source, torch.fx.Node):
            continue
        norm, conv = modules.get(str(node.target)), modules.get(str(source.target))
        alone = uses[node.target] == uses[source.target] == len(source.users) == 1
        if alone and isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
            _fold(network, str(node.target), norm, conv)


def _fold(network: nn.Module, name: str, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    parts = dict(norm.named_children())
    if type(norm) is nn.BatchNorm2d:
        rest: nn.Module = nn.Identity()
    elif [*parts] == ["drop", "act"]:  # timm's, which also activates
        rest = nn.Sequential(*parts.values())
    else:
        return
    if mean is None or variance is None:
        return
    conv.weight, conv.bias = torch.nn.utils.fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    network.set_submodule(name, rest)


class _Layers(torch.fx.Tracer):
    """Follows a network down to its convolutions and normalisations, whatever their subclass."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layer = isinstance(m, nn.Conv2d | nn.BatchNorm2d)
        return layer or super().is_leaf_module(m, module_qualified_name)


# --- CUDA


@dataclass(frozen=True)
class _Lane:
    """What one call at a time uses on the GPU."""

    stream: torch.cuda.Stream
    windows: torch.Tensor
    """(group, bands, rows, cols), channels last; filled anew by every call."""
    logits: torch.Tensor
    """(group, classes, rows, cols), contiguous; filled by the replay."""
    replay: Callable[[], object]
    """Runs the network from `windows` to `logits` on the current stream."""


class CudaRuntime:
    """Groups of tiles on a GPU: each worker has its stream and a captured graph of the whole group.

    So one worker's transfers overlap the other's arithmetic, and Python starts one thing a group.
    The group follows from the device's memory; the network gets it `batch` windows at a time, fewer
    where the memory is taken. float32 is exact: no TF32. All is allocated in `__enter__`.
    """

    def __init__(
        self, name: str, checkpoint: Checkpoint, device: torch.device, workers: int
    ) -> None:
        self.name, self.precision, self.workers = name, precision_of(name), workers
        self.device = str(device)
        self.dtype: type = dtype_of(name)
        self._place = device
        self._float = torch.float32 if self.precision == "fp32" else torch.bfloat16
        self._network = _prepare(checkpoint, name, device)
        with _exact_cuda(), torch.inference_mode():
            peak = self._peak(window_shape(checkpoint, 1))
            torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(device)
        self.group = group_within(total * _CUDA_SHARE, workers * peak)
        self.batch = min(self.group, group_within(free * _CUDA_SHARE, workers * peak))
        """Windows put through the network at a time; divides the group."""
        self._shape = window_shape(checkpoint, self.group)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_exact_cuda())
            lanes, self.batch = halve_until_it_fits(self._open_lanes, self.batch)
            self._lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
            for lane in lanes:
                self._lanes.put(lane)
            self._state = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._lanes
        self._state.close()
        torch.cuda.empty_cache()

    def new_windows(self) -> NDArray[Any]:
        """See Runtime."""
        pinned = torch.zeros(self._shape, dtype=self._float, pin_memory=True)
        return _to_array(pinned)

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
        """See Runtime."""
        lane = self._lanes.get()
        try:
            with torch.inference_mode(), torch.cuda.stream(lane.stream):
                lane.windows.copy_(_to_batch(windows), non_blocking=True)
                lane.replay()
                # torch keeps freed pinned memory for the next call.
                output = torch.empty(lane.logits.shape, dtype=self._float, pin_memory=True)
                output.copy_(lane.logits, non_blocking=True)
                lane.stream.synchronize()
        finally:
            self._lanes.put(lane)
        return _to_array(output)

    def _peak(self, shape: tuple[int, int, int, int]) -> int:
        """Bytes that the network needs for one window, its input and output included."""
        before = torch.cuda.memory_allocated(self._place)
        torch.cuda.reset_peak_memory_stats(self._place)
        window = torch.zeros(shape, dtype=self._float, device=self._place).permute(0, 3, 1, 2)
        self._network(window)
        torch.cuda.synchronize(self._place)
        return max(torch.cuda.max_memory_allocated(self._place) - before, 1)

    def _open_lanes(self, batch: int) -> list[_Lane]:
        return [self._open_lane(batch) for _ in range(self.workers)]

    def _open_lane(self, batch: int) -> _Lane:
        stream = torch.cuda.Stream(self._place)  # type: ignore[no-untyped-call]
        with torch.inference_mode(), torch.cuda.stream(stream):
            windows = torch.zeros(self._shape, dtype=self._float, device=self._place)
            windows = windows.permute(0, 3, 1, 2)
            logits = run_in_parts(self._network, windows, batch)  # what is lazy happens here
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                run_in_parts(self._network, windows, batch, logits)
        return _Lane(stream, windows, logits, graph.replay)


@contextlib.contextmanager
def _exact_cuda() -> Iterator[None]:
    """Deterministic arithmetic in full float32 on CUDA."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def group_within(memory: float, one: int) -> int:
    """Largest power of two, 1 to 64, of windows that fit when each needs `one` bytes."""
    fitting = int(min(max(memory / one, 1), _LARGEST_GROUP))
    return 1 << (fitting.bit_length() - 1)


def run_in_parts(
    network: nn.Module, windows: torch.Tensor, batch: int, logits: torch.Tensor | None = None
) -> torch.Tensor:
    """Put windows through a network, `batch` at a time, into `logits` (made where not given)."""
    for start in range(0, len(windows), batch):
        part = network(windows[start : start + batch])
        if logits is None:
            shape = (len(windows), *part.shape[1:])
            logits = torch.empty(shape, dtype=part.dtype, device=part.device)
        logits[start : start + batch] = part
    if logits is None:
        raise ValueError("there are no windows")
    return logits


def halve_until_it_fits(work: Callable[[int], _T], batch: int) -> tuple[_T, int]:
    """What `work(batch)` gives, with the batch halved each time the device's memory is exhausted.

    Raises SettingsError where one window alone does not fit.
    """
    while True:
        with contextlib.suppress(torch.OutOfMemoryError):
            return work(batch), batch
        if batch == 1:
            raise SettingsError(
                "The model does not fit into the GPU's free memory with a single tile; end other "
                "programs that use it, or choose --device cpu."
            )
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
