"""Running a network over tiles, so that a tile's result does not depend on its company."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from landcover.errors import SettingsError
from landcover.models import Checkpoint

_CUDA_GROUP = 16

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(355 / 512)  # few digits, so that its multiples are exact
_LN2_LOW = np.float32(0.6931471805599453 - 355 / 512)
_ROUND = np.float32(1.5 * 2**23)  # adding it leaves a whole number in float32
_LOWEST = np.float32(-87)  # exp of less is no normal float32
_ONE = np.float32(1)
_TAYLOR = tuple(np.float32(1 / f) for f in (2, 6, 24, 120, 720, 5040))


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
    """A network with its threads: takes windows of a strip, gives class probabilities.

    Equal windows give equal bytes on one device. On the CPU a thread predicts one tile alone,
    with single-threaded arithmetic, since the arithmetic of several threads on one batch depends
    on both counts; it is also faster. On CUDA the tiles go in groups of one fixed shape whose
    members follow from the tile grid alone. Precision is float32.
    Use as a context manager. device: `auto`, `cpu`, `cuda` or `cuda:N`; SettingsError if absent.
    """

    precision = "fp32"

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        spec = checkpoint.spec
        self.spec = spec
        self.device = _device(device)
        on_cpu = self.device.type == "cpu"
        self.workers = _cpus() if on_cpu else 1
        self.group = 1 if on_cpu else _CUDA_GROUP
        mean, std = np.array(spec.mean), np.array(spec.std)
        self._gain = (spec.scale / std).astype(np.float32)
        self._bias = ((spec.offset - mean) / std).astype(np.float32)
        network = checkpoint.network.eval().to(self.device)
        self._buffer = threading.local()
        self._network = network.to(memory_format=torch.channels_last)

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        self._exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        self._exact.__enter__()
        self._pool = ThreadPoolExecutor(self.workers, "predict", torch.set_num_threads, (1,))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._exact.__exit__(kind, error, trace)
        torch.set_num_threads(self._threads)

    def submit(
        self, strip: Strip, rows: NDArray[np.int64], starts: Sequence[int]
    ) -> Future[NDArray[np.float32] | None]:
        """Predict up to `group` windows of one tile row in a thread; the strip must stay as it is.

        rows: raster row of each window row, (tile,). starts: first column of each window.
        Gives (windows, tile rows, classes, tile cols) probabilities, or None where no window holds
        a valid pixel.
        """
        return self._pool.submit(self._predict, strip, rows, starts)

    def _predict(
        self, strip: Strip, rows: NDArray[np.int64], starts: Sequence[int]
    ) -> NDArray[np.float32] | None:
        tile, slots = self.spec.tile, strip.slots(rows)
        windows = self._windows()
        windows[len(starts) :] = 0  # a short group keeps its shape
        filled = 0
        for window, x in zip(windows, starts, strict=False):
            cols = slice(x, x + tile)
            pixels, valid = strip.pixels[:, :, cols], strip.valid[:, cols]
            filled += gather(pixels, valid, slots, self._gain, self._bias, window)
        if not filled:
            return None
        logits = self.logits(windows)
        probabilities = np.empty((len(starts), tile, logits.shape[1], tile), np.float32)
        for k in range(len(starts)):
            softmax(logits[k], probabilities[k])
        return probabilities

    def _windows(self) -> NDArray[np.float32]:
        """Input buffer of the calling thread, (group, rows, cols, bands)."""
        if not hasattr(self._buffer, "windows"):
            shape = (self.group, self.spec.tile, self.spec.tile, len(self._gain))
            self._buffer.windows = np.zeros(shape, np.float32)
        windows: NDArray[np.float32] = self._buffer.windows
        return windows

    def logits(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network: (n, rows, cols, bands) normalised to (n, classes, rows, cols)."""
        with torch.inference_mode():
            batch = torch.from_numpy(windows).permute(0, 3, 1, 2)  # channels-last in memory
            output: NDArray[np.float32] = self._network(batch.to(self.device)).cpu().numpy()
        return output


def _device(name: str) -> torch.device:
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
    return device


def _cpus() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@njit(nogil=True, cache=True)
def gather(
    pixels: NDArray[np.generic],
    valid: NDArray[np.uint8],
    slots: NDArray[np.int64],
    gain: NDArray[np.float32],
    bias: NDArray[np.float32],
    window: NDArray[np.float32],
) -> int:
    """Fill a window (rows, cols, bands) with value x gain + bias; return how many pixels are valid.

    pixels (bands, slots, cols) and valid (slots, cols) are cut to the window's columns; slots (rows,)
    says where its rows are. Invalid pixels become 0: the band's mean.
    """
    filled = 0
    for r in range(slots.size):
        y = slots[r]
        for c in range(window.shape[1]):
            good = valid[y, c] != 0
            filled += good
            for b in range(window.shape[2]):
                value = np.float32(pixels[b, y, c]) * gain[b] + bias[b]
                window[r, c, b] = value if good else np.float32(0)
    return filled


@njit(nogil=True, cache=True)
def mark_valid(
    pixels: NDArray[np.generic],
    nodata: NDArray[np.generic],
    declared: NDArray[np.bool_],
    mask: NDArray[np.uint8],
    zeros_are_empty: bool,
    valid: NDArray[np.uint8],
) -> None:
    """Mark in `valid` (rows, cols) where pixels (bands, rows, cols) hold data in every band.

    A pixel is invalid where the mask (rows, cols) is 0, a band is not finite, or a band that
    declares a nodata value holds it; and, if so told, where it is 0 in all bands.
    """
    for r in range(valid.shape[0]):
        row = valid[r]
        row[:] = not zeros_are_empty
        for b in range(pixels.shape[0]):  # band by band: long loops without branches
            if zeros_are_empty:
                for c in range(row.size):
                    row[c] |= pixels[b, r, c] != 0
        for b in range(pixels.shape[0]):
            for c in range(row.size):
                row[c] &= np.isfinite(pixels[b, r, c])
            if declared[b]:
                for c in range(row.size):
                    row[c] &= pixels[b, r, c] != nodata[b]
        for c in range(row.size):
            row[c] &= mask[r, c] != 0


@njit(nogil=True, cache=True, error_model="numpy")  # no test for 0 in the division's loop
def softmax(logits: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
    """Turn logits (classes, rows, cols), any strides, into probabilities (rows, classes, cols).

    Right to 3e-7. A row at a time, so that it stays in cache and runs in vector registers. A
    class that is not a number makes its pixel so.
    """
    classes, rows, cols = logits.shape
    top, total = np.empty(cols, np.float32), np.empty(cols, np.float32)
    for r in range(rows):
        row = probabilities[r]
        for c in range(cols):
            for k in range(classes):
                row[k, c] = logits[k, r, c]
        top[:] = row[0]
        for k in range(1, classes):
            for c in range(cols):
                top[c] = max(top[c], row[k, c])
        _exponential(row, top)
        total[:] = 0
        for k in range(classes):
            for c in range(cols):
                total[c] += row[k, c]
        for k in range(classes):
            for c in range(cols):
                row[k, c] /= total[c]


@njit(nogil=True, cache=True)
def _exponential(values: NDArray[np.float32], top: NDArray[np.float32]) -> None:
    """Replace values (classes, cols) by exp(values - top), top (cols,) being their maximum.

    exp(x) = 2^n exp(f) with n = round(x / ln 2), the rest f in two parts (Cody and Waite 1980),
    exp(f) by its Taylor series to f^7, and 2^n put on the exponent's bits.
    """
    bits = values.view(np.int32)
    for k in range(values.shape[0]):
        for c in range(values.shape[1]):
            x = values[k, c] - top[c]
            x = _LOWEST if x < _LOWEST else x  # noqa: FURB136 - max() would lose a NaN
            n = (x * _LOG2E + _ROUND) - _ROUND
            f = (x - n * _LN2_HIGH) - n * _LN2_LOW
            z = _TAYLOR[4] + f * _TAYLOR[5]
            z = _TAYLOR[2] + f * (_TAYLOR[3] + f * z)
            z = _TAYLOR[0] + f * (_TAYLOR[1] + f * z)
            values[k, c] = _ONE + f * (_ONE + f * z)
            bits[k, c] += np.int32(n) << np.int32(23)
