"""Evaluate a model on a split of a dataset: measures, intervals, calibration, stability, worst chips."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landcover.boundaries import check_tolerances
from landcover.calibration import fit_temperature
from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, DatasetError, SettingsError
from landcover.exported_network import ExportedNetwork
from landcover.legend import Legend
from landcover.metrics import ErrorMatrix
from pipeline.artifacts import Report, atomic_path, file_hash, write_json, write_text
from pipeline.baselines import forest_baseline, majority_baseline
from pipeline.chip_picture import chip_picture
from pipeline.dataset import Dataset, TilePlace, load_dataset
from pipeline.deployment import DeploymentTests
from pipeline.evaluation import BadChip, Evaluation
from pipeline.evaluation_record import evaluation_record, matrix_csv
from pipeline.evaluation_report import write_evaluation_report
from pipeline.joint_legend import joint_legend
from pipeline.model_card import parameters, write_model_card
from pipeline.runtime_choice import choose_runtime
from pipeline.window_labeller import Seen, Window, WindowLabeller, band_numbers, label, read_window

TOLERANCES = (1.0, 3.0)
"""Pixels within which a border is found, unless said otherwise."""
METRICS, REPORT, MATRIX, CARD, CALIBRATED = (
    "metrics.json", "report.html", "error-matrix.csv", "model-card.md", "model.safetensors",
)  # fmt: skip
_LEAST_SIDE = 16
_TELL = 10
"""Tiles between lines of progress."""
_TRIED = 8
"""Tiles on which runtimes are compared."""
_FIT_PIXELS = 200_000
"""Validation pixels on which the temperature is fitted."""
_FAR = 3.0
"""Standard deviations by which a band may differ from what the model was trained on, unnoted."""


@dataclass(frozen=True)
class _Job:
    """A model and the data that it is evaluated on."""

    checkpoint: Checkpoint
    dataset: Dataset
    split: str
    codes: tuple[int, ...]
    legend: Legend
    """Classes of the dataset, then those that only the model has."""
    bands: tuple[int, ...]
    """Where the model's bands are in the dataset."""
    context: int
    """Pixels around a place that the model sees too."""

    @property
    def side(self) -> int:
        """Side of a place, pixels."""
        return self.checkpoint.spec.tile - 2 * self.context

    def windows(self, places: Sequence[TilePlace]) -> Iterator[Window]:
        """The tiles around some places, read one by one."""
        for place in places:
            yield read_window(
                self.dataset, place, self.checkpoint.spec.tile, self.context, self.bands
            )


def evaluate(
    *,
    model: Path,
    data: Path,
    output: Path,
    split: str = "test",
    tolerances: Sequence[float] = TOLERANCES,
    runtime: str = "torch-fp32",
    device: str = "auto",
    calibrate: bool = False,
    forest: bool = False,
    samples: int = 16,
    chips: int = 12,
    replicates: int = 1000,
    seed: int = 0,
    report: Report = print,
) -> dict[str, Any]:
    """Run a model over the labelled tiles of a split as over a map; write what it is worth.

    Each tile is read with as much around it as mapping leaves out, half the overlap, and more where a
    tolerance needs it. tolerances: of borders, pixels. runtime: one of landcover.runtimes.NAMES, or
    `auto`. calibrate: fit a temperature on the validation split and write the model with it. forest:
    measure a random forest of single pixels too. samples: tiles for the tests of stability; chips: worst
    chips shown; replicates: of the bootstrap over blocks, drawn with the seed.
    Writes metrics.json, report.html, error-matrix.csv, model-card.md, the pictures in worst/, and
    model.safetensors if calibrated. Equal inputs give equal bytes. Returns what metrics.json holds.
    Raises CheckpointError, DatasetError, LegendError or SettingsError, before anything is written.
    """
    tolerances = sorted(set(tolerances)) or TOLERANCES
    check_tolerances(tolerances)
    job = _plan(model, data, split, tolerances, report)
    if calibrate:
        _check_calibrated(job, model, output / CALIBRATED)
    runtime, device = _runtime(job, runtime, device)
    with WindowLabeller(job.checkpoint, runtime, device) as labeller:
        temperatures = _temperatures(job, labeller, seed if calibrate else None, report)
        found = Evaluation(job.codes, job.checkpoint.spec.legend, tolerances, temperatures, chips)
        _count(job, labeller, found, report)
        stability = _stability(job, labeller, samples, report)
        pictures = _draw_worst(job, labeller, found.worst(), output)
    baselines = _baselines(job, forest, seed, report)
    record = {
        "model": _about_model(job, model),
        "dataset": _about_dataset(job),
        "settings": {
            "split": split, "tolerances_px": list(tolerances), "runtime": labeller.runtime.name,
            "tile": job.checkpoint.spec.tile, "context": job.context, "replicates": replicates, "seed": seed,
        },
        "notes": _notes(job),
        **evaluation_record(found, job.legend, job.dataset.images, baselines, replicates, seed),
        "deployment": stability,
        "worst_chips": [_chip_record(job, chip, name) for chip, name in pictures],
    }  # fmt: skip
    if calibrate:
        record["calibrated_model"] = _store(job, temperatures["fitted"], output / CALIBRATED)
    write_text(output / MATRIX, matrix_csv(found, job.legend))
    write_evaluation_report(output / REPORT, record, [output / name for _, name in pictures])
    write_json(output / METRICS, record)
    write_model_card(model, output / CARD, output / METRICS)
    return record


# --- what is asked for


def _plan(model: Path, data: Path, split: str, tolerances: Sequence[float], report: Report) -> _Job:
    checkpoint = load_checkpoint(model)
    dataset = load_dataset(data, report)
    spec = checkpoint.spec
    legend = joint_legend(dataset.legend, spec.legend)
    context = max(spec.overlap // 2, math.ceil(max(tolerances, default=0)) + 1)
    if spec.tile - 2 * context < _LEAST_SIDE:
        raise SettingsError(
            f"The border tolerance of {max(tolerances):g} pixels is too large for tiles of {spec.tile} pixels; "
            f"give at most {(spec.tile - _LEAST_SIDE) // 2 - 1}."
        )
    if not dataset.class_counts(split).sum():
        raise DatasetError(
            f"The dataset {dataset.name} has no labelled pixel in {split}; there is nothing to evaluate on."
        )
    bands = tuple(band_numbers(dataset, spec.bands))
    return _Job(checkpoint, dataset, split, legend.codes, legend, bands, context)


def _check_calibrated(job: _Job, model: Path, calibrated: Path) -> None:
    """Raise CheckpointError or SettingsError where a model cannot be written with a temperature."""
    if isinstance(job.checkpoint.network, ExportedNetwork):
        raise CheckpointError(
            f"{model} is an exported model, which cannot be written with a temperature; fit that of its checkpoint "
            "and export again."
        )
    if calibrated.resolve() == model.resolve():
        raise SettingsError(
            f"The model with the temperature would take the place of {model}, which is evaluated; give another --output."
        )


def _notes(job: _Job) -> list[str]:
    """What a reader must know about these figures."""
    training, spec, dataset = job.checkpoint.spec.training, job.checkpoint.spec, job.dataset
    notes = []
    if job.split == "train":
        notes.append("These are figures of the training split: they say what was learnt by heart.")
    if job.split == "validation":
        notes.append(
            "The best weights and the temperature may have been chosen on the validation split, so its "
            "figures flatter."
        )
    if training.get("data") == dataset.name and (
        training.get("dataset_version") != dataset.version
    ):
        notes.append(
            "The model was trained on another version of this dataset: ground that is now tested may have "
            "been trained on."
        )
    counts = dict(zip(dataset.legend.codes, dataset.class_counts(job.split).tolist(), strict=True))
    unknown = [
        c.name for c in dataset.legend.classes if c.code not in spec.legend and counts[c.code]
    ]
    if unknown:
        notes.append(f"The model has no class {', '.join(unknown)}: all of it counts as wrong.")
    absent = [c.name for c in spec.legend.classes if not counts.get(c.code)]
    if absent:
        notes.append(
            f"The split has no pixel of {', '.join(absent)}: how well it is found is unknown."
        )
    return notes + _band_notes(job)


def _band_notes(job: _Job) -> list[str]:
    spec, means = job.checkpoint.spec, job.dataset.band_mean()
    far = [
        f"{band} ({means[number]:.4g}, the model's {mean:.4g})"
        for band, number, mean, std in zip(spec.bands, job.bands, spec.mean, spec.std, strict=True)
        if abs(means[number] - mean) > _FAR * std
    ]
    if not far:
        return []
    where = ", ".join(far)
    return [
        f"The mean of {where} is far from what the model was trained on; check the dataset's scale and offset."
    ]


def _about_model(job: _Job, path: Path) -> dict[str, Any]:
    spec = job.checkpoint.spec
    training = spec.training
    return {
        "file": path.name,
        "sha256": job.checkpoint.sha256,
        "architecture": spec.architecture,
        "encoder": spec.encoder,
        "bands": list(spec.bands),
        "parameters": parameters(path),
        "tile": spec.tile,
        "overlap": spec.overlap,
        "trained_on": training.get("data"),
    }


def _about_dataset(job: _Job) -> dict[str, Any]:
    data = job.dataset
    return {
        "name": data.name,
        "version": data.version,
        "licence": data.licence,
        "credit": data.credit,
        "tiles": len(job.dataset.tiles(job.split, job.side)),
        "blocks": len({block.name for block in data.blocks(job.split)}),
    }


# --- the model at work


def _runtime(job: _Job, name: str, device: str) -> tuple[str, str]:
    """The runtime and its device; of `auto`, the fastest here whose labels agree on some tiles."""
    if name != "auto":
        return name, device
    spec = job.checkpoint.spec
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (spec.mean, spec.std))
    places = _spread(job.dataset.tiles(job.split, job.side), _TRIED)
    seen = [np.where(w.valid, (w.image - mean) / std, 0) for w in job.windows(places)]
    windows = np.ascontiguousarray(np.moveaxis(np.array(seen, np.float32), 1, -1))
    choice = choose_runtime(job.checkpoint, name, device, windows)
    return choice.runtime, choice.device


def _predicted(
    labeller: WindowLabeller, windows: Iterator[Window]
) -> Iterator[tuple[Window, NDArray[np.float32] | None]]:
    """Each window with its logits; a few are in flight."""
    waiting: deque[Window] = deque()

    def seen() -> Iterator[Seen]:
        for window in windows:
            waiting.append(window)
            yield window.seen

    for logits in labeller.logits(seen()):
        yield waiting.popleft(), logits


def _spread(places: Sequence[TilePlace], number: int) -> list[TilePlace]:
    """So many places, evenly over all."""
    if len(places) <= number:
        return list(places)
    return [places[i * len(places) // number] for i in range(number)]


def _count(job: _Job, labeller: WindowLabeller, found: Evaluation, report: Report) -> None:
    """Label the tiles of the split, and count what is right."""
    places = job.dataset.tiles(job.split, job.side)
    for number, (window, logits) in enumerate(_predicted(labeller, job.windows(places)), 1):
        found.add(window, logits)
        if number % _TELL == 0 or number == len(places):
            report(f"evaluated {number:,} of {len(places):,} tiles of {job.split}")


def _stability(job: _Job, labeller: WindowLabeller, samples: int, report: Report) -> dict[str, Any]:
    report("testing shifts, seams, brightness and scale ...")
    windows = list(job.windows(_spread(job.dataset.tiles(job.split, job.side), samples)))
    tests = DeploymentTests(job.dataset, labeller, windows, job.bands, job.context, job.codes)
    return tests.all()


def _temperatures(
    job: _Job, labeller: WindowLabeller, seed: int | None, report: Report
) -> dict[str, float]:
    """Temperatures that confidence is counted at: none, the stored one, and with a seed a fitted one."""
    found = {"none": 1.0}
    if (stored := job.checkpoint.spec.temperature) != 1:
        found["stored"] = stored
    if seed is not None:
        found["fitted"] = _fit(job, labeller, seed, report)
    return found


def _fit(job: _Job, labeller: WindowLabeller, seed: int, report: Report) -> float:
    """The temperature that fits the validation split; classes that the model lacks are left out."""
    counts = job.dataset.class_counts("validation")
    if not counts.sum():
        raise DatasetError(
            f"The dataset {job.dataset.name} has no labelled pixel in validation; a temperature cannot be fitted."
        )
    places = job.dataset.tiles("validation", job.side)
    channel = np.full(256, -1, np.int64)
    channel[list(job.checkpoint.spec.legend.codes)] = range(len(job.checkpoint.spec.legend))
    share, rng = _FIT_PIXELS / int(counts.sum()), np.random.default_rng([seed, 11])
    scores, truths = [], []
    report(f"fitting the temperature on {len(places):,} tiles of validation ...")
    for window, logits in _predicted(labeller, job.windows(places)):
        truth = np.where(window.blocks >= 0, channel[window.codes], -1)
        chosen = (truth >= 0) & (rng.random(truth.shape) < share)
        if logits is not None:
            scores.append(logits[:, chosen].T)
            truths.append(truth[chosen])
    logits_, labels = np.concatenate(scores), np.concatenate(truths)
    if not len(labels) or (logits_.argmax(axis=1) == labels).all():
        report("every validation pixel is right, so that no temperature fits; it stays as it is.")
        return job.checkpoint.spec.temperature
    return round(fit_temperature(logits_, labels), 4)


def _store(job: _Job, temperature: float, path: Path) -> dict[str, Any]:
    """Write the model with its new temperature; say what was written."""
    spec = replace(job.checkpoint.spec, temperature=temperature)
    with atomic_path(path) as partial:
        save_checkpoint(partial, job.checkpoint.network, spec)
    return {"file": path.name, "temperature": temperature, "sha256": file_hash(path)}


def _draw_worst(
    job: _Job, labeller: WindowLabeller, worst: Sequence[BadChip], output: Path
) -> list[tuple[BadChip, str]]:
    """Draw the worst chips; give each with the name of its picture."""
    folder = output / "worst"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("chip-*.png"):
        old.unlink()
    drawn = []
    windows = job.windows([chip.place for chip in worst])
    pairs = zip(worst, _predicted(labeller, windows), strict=True)
    for number, (chip, (window, logits)) in enumerate(pairs, 1):
        rows, cols = (np.flatnonzero((window.blocks >= 0).any(axis=axis)) for axis in (1, 0))
        cut = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        mapped = label(logits, window.valid, job.checkpoint.spec.legend.codes)
        picture = chip_picture(
            window.image[:, *cut], window.valid[cut], window.codes[cut], mapped[cut],
            job.checkpoint.spec.bands, job.legend,
        )  # fmt: skip
        name = f"worst/chip-{number:02}.png"
        with atomic_path(output / name) as partial:
            partial.write_bytes(picture)
        drawn.append((chip, name))
    return drawn


def _chip_record(job: _Job, chip: BadChip, name: str) -> dict[str, Any]:
    return {
        "picture": name,
        "image": job.dataset.images[chip.place.image],
        "block": chip.block,
        "row": chip.place.row,
        "col": chip.place.col,
        "side": chip.place.side,
        "labelled_pixels": chip.pixels,
        "wrong": round(chip.error, 6),
    }


def _baselines(job: _Job, forest: bool, seed: int, report: Report) -> dict[str, ErrorMatrix]:
    """What a network has to beat; empty where the training split has no label."""
    if not job.dataset.class_counts("train").sum():
        return {}
    found = {"majority class": majority_baseline(job.dataset, job.split, job.codes)}
    if forest:
        report("fitting a random forest of single pixels ...")
        found["random forest of single pixels"] = forest_baseline(
            job.dataset, job.split, job.codes, job.bands, job.side, seed
        )
    return found
