"""Running networks over tiles, so that a tile's result does not depend on its company."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import CheckpointError
from landcover.model_spec import ModelSpec
from landcover.runtime import Runtime, from_bfloat16

Reflectance = Callable[[float, float], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""From a model's scale and offset to those of each band of an image."""


@dataclass(frozen=True)
class Strip:
    """Source pixels around the tile row at work: raster row y lives in slot y modulo slots."""

    pixels: NDArray[np.generic]
    """Stored values, (bands, slots, cols); cols is at least a tile, mirrored beyond the raster."""
    valid: NDArray[np.uint8]
    """1 where every band holds data, (slots, cols)."""

    def slots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these raster rows live."""
        return np.mod(rows, self.valid.shape[0])


class Predictor:
    """Networks with their threads: takes windows of a strip, gives their logits.

    Several networks, and the eight flips and rotations of each window (d4), are averaged as logits,
    each divided by its network's temperature, always in one order. Equal windows give equal bytes,
    however many threads there are. Use as a context manager, in which the runtimes are entered.

    specs: of the networks, of one legend and one list of bands. runtimes: one for each. reflectance:
    gives an image's own scales; by default the models' hold. Raises CheckpointError where the models
    do not fit each other.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        runtimes: Sequence[Runtime],
        *,
        d4: bool = False,
        reflectance: Reflectance | None = None,
    ) -> None:
        first = specs[0]
        for other in specs[1:]:
            if (other.bands, other.legend.codes) != (first.bands, first.legend.codes):
                raise CheckpointError(
                    "The models have other bands or classes than each other; only models of the same "
                    "bands and the same legend, in the same order, can be averaged."
                )
        self.codes = first.legend.codes
        self.workers = min(runtime.workers for runtime in runtimes)
        self.group = runtimes[0].group
        self._flips = tuple(_D4 if d4 else _D4[:1])
        self._members = [
            _Member(spec, runtime, reflectance)
            for spec, runtime in zip(specs, runtimes, strict=True)
        ]
        self.scaling = scaling(first, reflectance)
        """Gain and bias per band of the first network."""
        self._buffers = threading.local()

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        for member in self._members:
            self._stack.enter_context(member.runtime)
        self._pool = ThreadPoolExecutor(self.workers, "predict")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._stack.__exit__(kind, error, trace)

    def submit(
        self, strip: Strip, rows: NDArray[np.int64], starts: Sequence[int]
    ) -> Future[NDArray[Any] | None]:
        """Predict up to `group` windows of one tile row in a thread; the strip must stay as it is.

        rows: raster row of each window row, (tile,). starts: first column of each window.
        Gives logits (windows, classes, tile rows, tile cols) of any strides, float32 or the bits of
        bfloat16 (uint16), or None where no window holds a valid pixel.
        """
        return self._pool.submit(self._predict, strip, rows, starts)

    def _predict(
        self, strip: Strip, rows: NDArray[np.int64], starts: Sequence[int]
    ) -> NDArray[Any] | None:
        slots = strip.slots(rows)
        parts: list[tuple[float, NDArray[Any]]] = []
        for member, windows in zip(self._members, self._windows(), strict=True):
            if not member.fill(windows, strip, slots, starts):
                return None
            parts += [(member.weight, logits) for logits in member.logits(windows, self._flips)]
        return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else _mean(parts)

    def _windows(self) -> list[NDArray[Any]]:
        """Input buffers of the calling thread, one for each network."""
        if not hasattr(self._buffers, "windows"):
            self._buffers.windows = [member.runtime.new_windows() for member in self._members]
        windows: list[NDArray[Any]] = self._buffers.windows
        return windows


_D4 = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""Quarter turns, and whether columns are mirrored first: the symmetries of a square."""


class _Member:
    """One network of a Predictor."""

    def __init__(self, spec: ModelSpec, runtime: Runtime, reflectance: Reflectance | None) -> None:
        self.runtime, self.weight = runtime, 1 / spec.temperature
        self._gain, self._bias = scaling(spec, reflectance)

    def fill(
        self,
        windows: NDArray[Any],
        strip: Strip,
        slots: NDArray[np.int64],
        starts: Sequence[int],
    ) -> int:
        """Fill windows (group, rows, cols, bands); return how many pixels are valid."""
        windows[len(starts) :] = 0  # a short group keeps its shape
        filled = 0
        for window, x in zip(windows, starts, strict=False):
            filled += gather(strip, slots, x, self._gain, self._bias, window)
        return filled

    def logits(
        self, windows: NDArray[Any], flips: Sequence[tuple[int, bool]]
    ) -> Iterator[NDArray[Any]]:
        """Logits of the windows under each flip, turned back."""
        for turns, mirrored in flips:
            turned = windows[:, :, ::-1] if mirrored else windows
            turned = np.ascontiguousarray(np.rot90(turned, turns, (1, 2)))
            found = np.rot90(self.runtime.logits(turned), -turns, (2, 3))
            yield found[..., ::-1] if mirrored else found


def _mean(parts: Sequence[tuple[float, NDArray[Any]]]) -> NDArray[np.float32]:
    """Weighted logits summed in the order given, over their number."""
    total = np.zeros(parts[0][1].shape, np.float32)
    for weight, logits in parts:
        total += np.float32(weight) * as_float32(logits)
    return total / np.float32(len(parts))


def as_float32(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Logits as numbers, whether given so or as the bits of bfloat16."""
    return from_bfloat16(logits) if logits.dtype == np.uint16 else logits


def scaling(
    spec: ModelSpec, reflectance: Reflectance | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain and bias per band, (bands,) each: normalised input = stored value x gain + bias."""
    scale, offset = (
        reflectance(spec.scale, spec.offset) if reflectance else (spec.scale, spec.offset)
    )
    mean, std = np.array(spec.mean), np.array(spec.std)
    return (scale / std).astype(np.float32), ((offset - mean) / std).astype(np.float32)


def gather(
    strip: Strip,
    slots: NDArray[np.int64],
    x: int,
    gain: NDArray[np.float32],
    bias: NDArray[np.float32],
    window: NDArray[Any],
) -> int:
    """Fill a window (rows, cols, bands) with value x gain + bias; return how many pixels are valid.

    slots (rows,) says where its rows are in the strip, x is its first column. Invalid pixels become
    0: the band's mean. window: float32, or uint16 to be given the bits of bfloat16.
    """
    fill = _gather_bfloat16 if window.dtype == np.uint16 else _gather
    return int(fill(strip.pixels, strip.valid, slots, x, gain, bias, window))


@njit(nogil=True, cache=True)
def _gather(
    pixels: NDArray[np.generic],
    valid: NDArray[np.uint8],
    slots: NDArray[np.int64],
    x: int,
    gain: NDArray[np.float32],
    bias: NDArray[np.float32],
    window: NDArray[np.float32],
) -> int:
    rows, cols, bands = window.shape
    items = window.reshape(rows, cols * bands)
    filled = 0
    for r in range(rows):
        good = _count(valid[slots[r], x : x + cols])
        filled += good
        for b in range(bands):
            values, factor, plus = pixels[b, slots[r], x : x + cols], gain[b], bias[b]
            target = items[r, b:]
            for c in range(cols):
                target[c * bands] = np.float32(values[c]) * factor + plus
        if good < cols:
            for c in range(cols):
                if valid[slots[r], x + c] == 0:
                    for b in range(bands):
                        window[r, c, b] = 0
    return filled


@njit(nogil=True, cache=True)
def _count(valid: NDArray[np.uint8]) -> int:
    good = 0
    for c in range(valid.size):
        good += valid[c] != 0
    return good


@njit(nogil=True, cache=True)
def _gather_bfloat16(
    pixels: NDArray[np.generic],
    valid: NDArray[np.uint8],
    slots: NDArray[np.int64],
    x: int,
    gain: NDArray[np.float32],
    bias: NDArray[np.float32],
    window: NDArray[np.uint16],
) -> int:
    """Do what `_gather` does, and round to the nearest bfloat16, ties to even."""
    rows, cols, bands = window.shape
    items = window.reshape(rows, cols * bands)
    filled = 0
    numbers = np.empty((1, cols, bands), np.float32)
    bits = numbers.view(np.uint32).reshape(cols * bands)
    for r in range(rows):
        filled += _gather(pixels, valid, slots[r : r + 1], x, gain, bias, numbers)
        for c in range(cols * bands):
            word = bits[c]
            odd = (word >> np.uint32(16)) & np.uint32(1)
            items[r, c] = np.uint16((word + np.uint32(0x7FFF) + odd) >> np.uint32(16))
    return filled
