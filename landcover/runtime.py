"""What a way to run a network must do, and how its numbers are held."""

import os
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from landcover.checkpoint import Checkpoint


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


def usable_cpus() -> int:
    """CPUs that this process may use: OMP_NUM_THREADS where set, else its affinity."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the nearest bfloat16 numbers, ties to even; what is no number stays none."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + (odd + np.uint32(0x7FFF))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The numbers that bits of bfloat16 stand for, exactly."""
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


def precision_of(name: str) -> str:
    """`fp32` or `bf16`, by the name of a runtime."""
    return name.rpartition("-")[2]


def dtype_of(name: str) -> type:
    """Of a runtime's windows and logits: np.float32, or np.uint16 for the bits of bfloat16."""
    return np.float32 if precision_of(name) == "fp32" else np.uint16


def window_shape(checkpoint: Checkpoint, group: int) -> tuple[int, int, int, int]:
    """Windows, rows, columns and bands of a group."""
    spec = checkpoint.spec
    return group, spec.tile, spec.tile, len(spec.bands)
