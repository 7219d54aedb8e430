"""Ways to run a network: by torch, OpenVINO or CUDA, exactly in float32 or faster in bfloat16."""

import contextlib
import copy
import importlib.util
import os
import queue
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landcover.errors import SettingsError
from landcover.exported_network import ExportedNetwork
from landcover.models import Checkpoint

TORCH = ("torch-fp32", "torch-bf16")
OPENVINO = ("openvino-fp32", "openvino-bf16")
CUDA = ("cuda-fp32", "cuda-bf16")
NAMES = (*TORCH, *OPENVINO, *CUDA)

_LARGEST_GROUP = 64
_CUDA_WORKERS = 2  # one copies while the other computes
_CUDA_SHARE = 0.7  # of the memory; the rest is for the context, the weights and fragments

_T = TypeVar("_T")


class Runtime(Protocol):
    """A network ready to run. Equal windows give equal bytes, in whatever thread and company.

    Use as a context manager: it sets process-wide state of torch and gives it back.
    """

    name: str
    """One of NAMES."""
    precision: str
    """`fp32`, which is exact, or `bf16`."""
    device: str
    """`cpu` or `cuda:N`."""
    workers: int
    """Threads that may call `logits` at the same time."""
    group: int
    """Windows of every call: one fixed shape, so that a tile's result is always the same."""
    dtype: type
    """Of the windows: np.float32, or np.uint16 for the bits of bfloat16."""

    def new_windows(self) -> NDArray[Any]:
        """A buffer (group, rows, cols, bands) for `logits`, where the device reads it fastest."""

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
        """Run the network: (group, rows, cols, bands) normalised to (group, classes, rows, cols).

        windows: C-contiguous, of `dtype`; free for reuse when this returns. The result has any
        strides, is float32 or uint16 (the bits of bfloat16), and belongs to the caller.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_runtime(
    checkpoint: Checkpoint, name: str, device: str = "auto", workers: int | None = None
) -> Runtime:
    """Make a network ready to run.

    name: one of NAMES; on a CUDA device `torch-fp32` means `cuda-fp32`, and so for bf16.
    device: `auto`, `cpu`, `cuda` or `cuda:N`. workers: threads that will call it; by default as
    many as the CPUs this process may use, or two on CUDA.
    An exported network runs by its own runtime only, which has its own name and runs on the CPU.
    Raises SettingsError for what is unknown, absent here, or unable to run this network.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"The runtime is to have {workers} workers; give 1 or more.")
    if isinstance(checkpoint.network, ExportedNetwork):
        from landcover.exported_runtimes import open_exported

        return open_exported(checkpoint, name, device, workers or usable_cpus())
    name, place = _resolve(name, device)
    if place.type == "cuda":
        return _Cuda(name, checkpoint, place, workers or _CUDA_WORKERS)
    if name in OPENVINO:
        _check_openvino(name)
        return OpenVinoRuntime(name, checkpoint, workers or usable_cpus())
    return _Torch(name, checkpoint, workers or usable_cpus())


def available(device: str = "auto") -> list[str]:
    """Names of the runtimes that make sense on a device of this machine, the exact ones first.

    bf16 is named only where the hardware computes in it. Raises SettingsError as `find_device` does.
    """
    place = find_device(device)
    if place.type == "cuda":
        with torch.cuda.device(place):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return [*CUDA] if fast else [CUDA[0]]
    capabilities = _openvino_capabilities()
    here = {
        "torch-fp32": True,
        "openvino-fp32": "FP32" in capabilities,
        "torch-bf16": any(
            on for kind, on in torch.cpu.get_capabilities().items() if "bf16" in kind
        ),
        "openvino-bf16": "BF16" in capabilities,
    }
    return [name for name, usable in here.items() if usable]


def find_device(name: str) -> torch.device:
    """The device of a name; `auto` is the first CUDA device, or else the CPU.

    Raises SettingsError for an unknown or an absent one.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(
            f"The device '{name}' is not known; choose auto, cpu or cuda."
        ) from error
    if device.type not in {"cpu", "cuda"}:
        raise SettingsError(f"The device '{name}' is not supported; choose auto, cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"This machine has no device '{name}'; choose --device cpu.")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def usable_cpus() -> int:
    """CPUs that this process may use: OMP_NUM_THREADS where set, else its affinity."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the nearest bfloat16 numbers, ties to even."""
    bits: NDArray[np.uint16] = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    return bits


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The numbers that bits of bfloat16 stand for, exactly."""
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


def _resolve(name: str, device: str) -> tuple[str, torch.device]:
    """The runtime that is meant on the device that is meant."""
    if name.endswith("-file"):
        raise SettingsError(
            f"The runtime '{name}' runs exported models only, and a checkpoint is none; exported models and "
            "checkpoints are not averaged."
        )
    if name not in NAMES:
        raise SettingsError(f"The runtime '{name}' is not known; choose one of {', '.join(NAMES)}.")
    if name in OPENVINO and device == "auto":
        device = "cpu"
    if name in CUDA and device == "auto":
        device = "cuda"
    place = find_device(device)
    if place.type == "cuda" and name in TORCH:
        name = CUDA[TORCH.index(name)]
    if (place.type == "cuda") != (name in CUDA):
        raise SettingsError(
            f"The runtime '{name}' does not run on the device '{device}'; choose "
            f"{', '.join(CUDA if place.type == 'cuda' else (*TORCH, *OPENVINO))}."
        )
    return name, place


# --- torch on the CPU


class _Torch:
    """One tile a call with single-threaded arithmetic.

    The arithmetic of several threads on one tile depends on their number; it is also slower.
    """

    device, group = "cpu", 1

    def __init__(self, name: str, checkpoint: Checkpoint, workers: int) -> None:
        self.name, self.precision, self.workers = name, _precision(name), workers
        self.dtype: type = _dtype(name)
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
        return np.zeros(self._shape, self.dtype)

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
        if not hasattr(self._ready, "thread"):
            torch.set_num_threads(1)  # holds for the calling thread
            self._ready.thread = True
        with torch.inference_mode():
            return _to_array(self._network(_to_batch(windows)))


def _precision(name: str) -> str:
    return name.rpartition("-")[2]


def _dtype(name: str) -> type:
    return np.float32 if _precision(name) == "fp32" else np.uint16


def window_shape(checkpoint: Checkpoint, group: int) -> tuple[int, int, int, int]:
    """Windows, rows, columns and bands of a group."""
    spec = checkpoint.spec
    return group, spec.tile, spec.tile, len(spec.bands)


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
    if _precision(name) == "bf16":
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


# --- OpenVINO


class OpenVinoRuntime:
    """One tile a call on as many single-threaded streams as there are workers.

    OpenVINO computes in threads of its own; a caller sleeps meanwhile. They are not pinned, since
    two processes would pin theirs to the same cores.
    """

    device, group = "cpu", 1

    def __init__(self, name: str, checkpoint: Checkpoint, workers: int) -> None:
        import openvino

        self.name, self.precision, self.workers = name, _precision(name), workers
        self.dtype: type = _dtype(name)
        self._shape = window_shape(checkpoint, self.group)
        self._type = openvino.Type.f32 if self.precision == "fp32" else openvino.Type.bf16
        settings = {
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers,
            "INFERENCE_PRECISION_HINT": "f32" if self.precision == "fp32" else "bf16",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = windows_to_logits(self._read(checkpoint), self._shape, self._type)
            self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingsError(
                f"OpenVINO cannot run this model ({reason}); choose the runtime torch-fp32."
            ) from error
        self._tensor = openvino.Tensor
        self._output_shape = tuple(self._compiled.output(0).shape)
        self._requests = threading.local()

    def _read(self, checkpoint: Checkpoint) -> Any:
        """OpenVINO's model of the network, (n, bands, rows, cols) to (n, classes, rows, cols)."""
        return _convert(checkpoint.network.eval(), self._shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def new_windows(self) -> NDArray[Any]:
        """See Runtime."""
        return np.zeros(self._shape, self.dtype)

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
        """See Runtime."""
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self._compiled.create_infer_request()
        request = self._requests.mine
        output = np.empty(self._output_shape, self.dtype)
        # The tensors borrow the arrays' memory without owning it, so every call binds both anew.
        request.set_input_tensor(self._tensor(windows, windows.shape, self._type))
        request.set_output_tensor(self._tensor(output, output.shape, self._type))
        request.infer()
        return output


def _check_openvino(name: str) -> None:
    """Raise SettingsError where OpenVINO cannot run in this precision."""
    capabilities = _openvino_capabilities()
    if not capabilities:
        raise SettingsError(
            f"The runtime '{name}' needs OpenVINO, which is not installed or has no plugin for this "
            "CPU; install it with 'pip install openvino', or choose torch-fp32."
        )
    if _precision(name) == "bf16" and "BF16" not in capabilities:
        raise SettingsError(
            f"The runtime '{name}' needs a CPU that computes in bfloat16, which this one does not; "
            "choose openvino-fp32."
        )


def _openvino_capabilities() -> list[str]:
    """What OpenVINO can compute in on this CPU; empty where it is absent."""
    if importlib.util.find_spec("openvino") is None:
        return []
    try:
        import openvino

        found: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, OSError, RuntimeError):
        return []
    return found


def _convert(network: nn.Module, shape: tuple[int, int, int, int]) -> Any:
    """OpenVINO's model of a network, for windows (n, rows, cols, bands).

    Its frontend is called directly: `openvino.convert_model` does the same, but reports its use.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    n, rows, cols, bands = shape
    example = torch.zeros(n, bands, rows, cols)
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing warns that it is deprecated (the successor is three times as slow to convert),
        # and of shapes that become constants, which they are here.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, (example,), check_trace=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
        return frontend.convert(frontend.load(decoder))


def windows_to_logits(model: Any, shape: tuple[int, int, int, int], io: Any) -> Any:
    """An OpenVINO model, changed to take windows (n, rows, cols, bands) of one fixed shape.

    Moving the bands and changing types are parts of the model, so that they run compiled.
    """
    from openvino import Layout, PartialShape
    from openvino.preprocess import PrePostProcessor

    n, rows, cols, bands = shape
    model.reshape({model.input(0): PartialShape([n, bands, rows, cols])})
    ends = PrePostProcessor(model)
    ends.input().tensor().set_element_type(io).set_layout(Layout("NHWC"))
    ends.input().model().set_layout(Layout("NCHW"))
    ends.output().tensor().set_element_type(io)
    return ends.build()


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


class _Cuda:
    """Groups of tiles on a GPU: each worker has its stream and a captured graph of the whole group.

    So one worker's transfers overlap the other's arithmetic, and Python starts one thing a group.
    The group follows from the device's memory; the network gets it `batch` windows at a time, fewer
    where the memory is taken. float32 is exact: no TF32. All is allocated in `__enter__`.
    """

    def __init__(
        self, name: str, checkpoint: Checkpoint, device: torch.device, workers: int
    ) -> None:
        self.name, self.precision, self.workers = name, _precision(name), workers
        self.device = str(device)
        self.dtype: type = _dtype(name)
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
        pinned = torch.zeros(self._shape, dtype=self._float, pin_memory=True)
        return _to_array(pinned)

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
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
