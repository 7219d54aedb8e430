"""A changed model against its original, on the same tiles: size, speed, accuracy, labels that stay."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from landcover.checkpoint import Checkpoint
from landcover.errors import CheckpointError, DatasetError
from landcover.legend import NODATA
from landcover.metrics import ErrorMatrix
from landcover.model_spec import ModelSpec
from landcover.runtime import Runtime
from landcover.runtimes import open_runtime
from pipeline.artifacts import Report
from pipeline.dataset import Dataset, TilePlace
from pipeline.evaluation_record import known
from pipeline.joint_legend import joint_legend
from pipeline.window_labeller import Window, WindowLabeller, band_numbers, label, read_window

ROUNDS = 7
"""Times that every contender is timed, by turns; odd, so that the median is one of them."""
_TIMED = 4
"""Tiles of a round."""
_CHUNK = 8
"""Tiles in memory at a time."""
_TELL = 5
"""Chunks between lines of progress."""


@dataclass(frozen=True)
class Contender:
    """A model and a way to run it."""

    title: str
    checkpoint: Checkpoint
    runtime: str
    size: int
    """Bytes of its file, or files."""


@dataclass(frozen=True)
class Result:
    """What was measured of a contender."""

    title: str
    runtime: str
    size: int
    """Bytes."""
    rate: float
    """Megapixels a second on one thread, median of the rounds."""
    ratio: tuple[float, float, float]
    """Speed over that of the first contender in the same round: median, least, most."""
    matrix: ErrorMatrix
    agreement: float
    """Share of the pixels whose labels are those of the first contender."""

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "title": self.title,
            "runtime": self.runtime,
            "bytes": self.size,
            "megapixels_per_second": round(self.rate, 3),
            "speed_ratio": dict(
                zip(("median", "least", "most"), (round(r, 3) for r in self.ratio), strict=True)
            ),
            "mean_iou": known(self.matrix.mean_iou),
            "overall_accuracy": known(self.matrix.overall_accuracy),
            "labels_equal": known(self.agreement),
        }


@dataclass(frozen=True)
class Trial:
    """All contenders; the first is the original, run exactly, and the last decides."""

    dataset: str
    version: str
    split: str
    tiles: int
    pixels: int
    """Labelled pixels of the split."""
    results: tuple[Result, ...]

    @property
    def fall(self) -> float:
        """Mean IoU of the original less that of the last."""
        return self.results[0].matrix.mean_iou - self.results[-1].matrix.mean_iou

    def check(self, budget: float) -> None:
        """Raise CheckpointError where the mean IoU falls by more than the budget."""
        if not self.fall <= budget:
            first, last = (self.results[i].matrix.mean_iou for i in (0, -1))
            raise CheckpointError(
                f"The mean IoU on {self.split} falls from {first:.4f} to {last:.4f}, by {self.fall:.4f}, which is "
                f"more than the budget of {budget:g}; nothing was written: change the model less, or allow more by "
                "--budget."
            )

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "dataset": {"name": self.dataset, "version": self.version, "split": self.split},
            "tiles": self.tiles,
            "pixels": self.pixels,
            "threads": 1,
            "mean_iou_fall": known(self.fall),
            "models": [result.record() for result in self.results],
        }


def check_budget(budget: float) -> None:
    """Raise CheckpointError for a budget that is no share."""
    if not (math.isfinite(budget) and 0 <= budget <= 1):
        raise CheckpointError(
            f"The budget is {budget}; it is the mean IoU that may be lost, from 0 to 1."
        )


def try_models(
    contenders: Sequence[Contender],
    dataset: Dataset,
    split: str = "test",
    rounds: int = ROUNDS,
    report: Report = print,
) -> Trial:
    """Measure models that share bands, tile and legend on the labelled tiles of a split.

    Each tile is seen with half the overlap around it, as when a map is made. Speed is that of the
    network alone, on one thread, in rounds in which all contenders run by turns, so that a busy moment
    of the machine meets each alike. Raises DatasetError where the split has no label, CheckpointError
    and LegendError where models and dataset do not fit.
    """
    spec = contenders[0].checkpoint.spec
    legend = joint_legend(dataset.legend, spec.legend)
    places = split_places(dataset, spec, split)
    matrices, equal = _counted(contenders, dataset, places, legend.codes, report)
    windows = sample(dataset, spec, split, _TIMED)
    report(f"timing {len(contenders)} ways to run it ...")
    rates = _rates(contenders, windows, rounds)
    results = tuple(
        Result(
            one.title, name, one.size, median(rate), _spread(rate, rates[0][1]), matrix, same
        )
        for one, (name, rate), matrix, same in zip(contenders, rates, matrices, equal, strict=True)
    )  # fmt: skip
    return Trial(dataset.name, dataset.version, split, len(places), matrices[0].pixels, results)


def split_places(dataset: Dataset, spec: ModelSpec, split: str) -> Sequence[TilePlace]:
    """The labelled tiles of a split, less their context. Raises DatasetError where there are none."""
    if not dataset.class_counts(split).sum():
        raise DatasetError(
            f"The dataset {dataset.name} has no labelled pixel in {split}, which is needed here; give it more "
            "images, or other shares of the splits."
        )
    return dataset.tiles(split, spec.tile - 2 * (spec.overlap // 2))


def sample(dataset: Dataset, spec: ModelSpec, split: str, number: int) -> NDArray[np.float32]:
    """Tiles spread evenly over a split, as the network gets them: (n, rows, cols, bands) normalised."""
    places = split_places(dataset, spec, split)
    number = min(number, len(places))
    chosen = [places[i * len(places) // number] for i in range(number)]
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (spec.mean, spec.std))
    seen = [
        np.where(window.valid, (window.image - mean) / std, 0)
        for window in _windows(dataset, spec, chosen)
    ]
    return np.ascontiguousarray(np.moveaxis(np.array(seen, np.float32), 1, -1))


def trial_table(trial: Trial) -> Table:
    """The results as a table for the screen."""
    table = Table(
        title=f"{trial.split} split of {trial.dataset}: {trial.pixels:,} pixels, {trial.tiles} tiles, one thread"
    )
    for name in (
        "model",
        "runtime",
        "MB",
        "Mpx/s",
        "speed",
        "mean IoU",
        "accuracy",
        "labels equal",
    ):
        table.add_column(name, justify="left" if name in {"model", "runtime"} else "right")
    for one in trial.results:
        middle, least, most = one.ratio
        table.add_row(
            Text(one.title), one.runtime, f"{one.size / 1e6:.2f}", f"{one.rate:.2f}",
            f"x{middle:.2f} ({least:.2f}-{most:.2f})", f"{one.matrix.mean_iou:.4f}",
            f"{one.matrix.overall_accuracy:.4f}", f"{one.agreement:.2%}",
        )  # fmt: skip
    return table


def file_size(path: Path) -> int:
    """Bytes of a model's file; of OpenVINO's two files together."""
    paths = [path, path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path]
    return sum(one.stat().st_size for one in paths)


# --- accuracy


def _windows(dataset: Dataset, spec: ModelSpec, places: Sequence[TilePlace]) -> Iterator[Window]:
    bands = band_numbers(dataset, spec.bands)
    for place in places:
        yield read_window(dataset, place, spec.tile, spec.overlap // 2, bands)


def _counted(
    contenders: Sequence[Contender],
    dataset: Dataset,
    places: Sequence[TilePlace],
    codes: Sequence[int],
    report: Report,
) -> tuple[list[ErrorMatrix], list[float]]:
    """Error matrix of each contender, and its share of labels that are those of the first."""
    matrices = [ErrorMatrix.empty(codes) for _ in contenders]
    equal, seen = np.zeros(len(contenders), np.int64), 0
    windows = _windows(dataset, contenders[0].checkpoint.spec, places)
    with ExitStack() as stack:
        labellers = [
            stack.enter_context(WindowLabeller(one.checkpoint, one.runtime)) for one in contenders
        ]
        for number, chunk in enumerate(iter(lambda: list(islice(windows, _CHUNK)), [])):
            maps = [_labels(labeller, chunk) for labeller in labellers]
            inside = np.stack([window.blocks >= 0 for window in chunk]) & (maps[0] != NODATA)
            truth = np.where(inside, np.stack([window.codes for window in chunk]), np.uint8(NODATA))
            matrices = [
                m + ErrorMatrix.count(a, truth, codes) for m, a in zip(matrices, maps, strict=True)
            ]
            equal += [int((inside & (a == maps[0])).sum()) for a in maps]
            seen += int(inside.sum())
            if number % _TELL == 0:
                report(
                    f"labelled {min((number + 1) * _CHUNK, len(places)):,} of {len(places):,} tiles"
                )
    return matrices, [int(e) / seen if seen else math.nan for e in equal]


def _labels(labeller: WindowLabeller, chunk: Sequence[Window]) -> NDArray[np.uint8]:
    """Codes (n, tile, tile) of some windows."""
    found = labeller.logits(window.seen for window in chunk)
    return np.stack(
        [
            label(logits, window.valid, labeller.spec.legend.codes)
            for window, logits in zip(chunk, found, strict=True)
        ]
    )


# --- speed


def _rates(
    contenders: Sequence[Contender], windows: NDArray[np.float32], rounds: int
) -> list[tuple[str, list[float]]]:
    """Name of each runtime and its megapixels a second in every round."""
    rates: list[list[float]] = [[] for _ in contenders]
    with ExitStack() as stack:
        runtimes = [
            stack.enter_context(open_runtime(one.checkpoint, one.runtime, "cpu", workers=1))
            for one in contenders
        ]
        for runtime in runtimes:
            runtime.logits(windows[:1])  # a first call sets it up
        for _ in range(rounds):
            for runtime, found in zip(runtimes, rates, strict=True):
                found.append(_rate(runtime, windows))
    return [(runtime.name, found) for runtime, found in zip(runtimes, rates, strict=True)]


def _rate(runtime: Runtime, windows: NDArray[np.float32]) -> float:
    started = time.perf_counter()
    for i in range(len(windows)):
        runtime.logits(windows[i : i + 1])
    pixels = float(windows.shape[0] * windows.shape[1] * windows.shape[2])
    return pixels / 1e6 / (time.perf_counter() - started)


def _spread(rates: Sequence[float], first: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and most of the ratios of the rounds."""
    ratios = [a / b for a, b in zip(rates, first, strict=True)]
    return median(ratios), min(ratios), max(ratios)
