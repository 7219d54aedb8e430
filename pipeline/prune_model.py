"""Prune a model's decoder, train what is left with the original as its teacher, and judge it."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from landcover.channel_pruning import prune_decoder
from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import SettingsError
from landcover.model_spec import ModelSpec
from pipeline.artifacts import Report, atomic_path, write_json
from pipeline.dataset import load_dataset
from pipeline.export_model import BUDGET
from pipeline.model_trial import (
    ROUNDS,
    Contender,
    Trial,
    check_budget,
    split_places,
    try_models,
)
from pipeline.train import MODEL, train
from pipeline.training_config import ModelSettings, Teacher, TrainingConfig
from pipeline.window_labeller import band_numbers

STEPS = 500
"""Of training after channels were taken, unless said otherwise."""
_BATCH, _CHIP = 8, 128
"""Chips a step, and their side at most, pixels."""
_VALIDATIONS = 5


def prune_model(
    *,
    model: Path,
    output: Path,
    data: Path,
    share: float,
    steps: int = STEPS,
    budget: float = BUDGET,
    seed: int = 0,
    rounds: int = ROUNDS,
    show: Callable[[Trial], None] = lambda _: None,
    report: Report = print,
) -> dict[str, Any]:
    """Write a checkpoint with fewer decoder channels, and OUT.safetensors.json about it.

    share: of each decoder block's channels that goes, as `landcover.channel_pruning` says. steps: of training
    on data's train split, with the original as teacher; 0 for none. On data's test split the result is
    compared with the original. show: takes the comparison, before it is judged.
    Returns what the JSON holds. Raises CheckpointError where the mean IoU falls by more than the budget or
    the model cannot be pruned, SettingsError, DatasetError or LegendError; then nothing is written.
    """
    if output.suffix != ".safetensors":
        raise SettingsError(f"{output.name} is to be a checkpoint; let it end in .safetensors.")
    if steps < 0:
        raise SettingsError(f"Training is to take {steps} steps; give 0 or more.")
    check_budget(budget)
    original = load_checkpoint(model)
    network, spec = prune_decoder(original, share)
    dataset = load_dataset(data, report)
    band_numbers(dataset, spec.bands)
    split_places(dataset, spec, "test")  # to know before the training
    facts = {
        "from_sha256": original.sha256, "share": share,
        "decoder_channels": {
            "before": _widths(original.network), "after": list(spec.decoder_channels),
        },
        "steps": steps,
    }  # fmt: skip
    if steps:
        network, spec = _trained(network, spec, model, data, steps, seed, report)
    else:
        spec = dataclasses.replace(spec, training=dict(original.spec.training))
    spec = dataclasses.replace(spec, training={**spec.training, "pruned": facts})
    with atomic_path(output) as partial:
        save_checkpoint(partial, network, spec)
        trial = try_models(_contenders(model, original, partial), dataset, "test", rounds, report)
        show(trial)
        trial.check(budget)
    record = {
        "model": {"file": output.name, **facts},
        "original": {"file": model.name, "sha256": original.sha256},
        "budget": budget,
        **trial.record(),
    }
    write_json(output.with_name(f"{output.name}.json"), record)
    return record


def _widths(network: Any) -> list[int]:
    return [int(block.conv1[0].out_channels) for block in network.decoder.blocks]


def _trained(
    network: nn.Module,
    spec: ModelSpec,
    teacher: Path,
    data: Path,
    steps: int,
    seed: int,
    report: Report,
) -> tuple[nn.Module, ModelSpec]:
    """The network after training, and its spec with what is said of that; scaling and legend stay."""
    every = max(1, steps // _VALIDATIONS)
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "pruned.safetensors"
        save_checkpoint(start, network, spec)
        config = TrainingConfig(
            dataset=data, model=ModelSettings(start=start), tile=_chip(spec), batch=_BATCH,
            steps=-(-steps // every) * every, validate_every=every, seed=seed,
            teacher=Teacher(checkpoint=teacher), baseline=None, device="cpu",
        )  # fmt: skip
        train(config=config, output=Path(folder) / "training", announce=report, report=report)
        made = load_checkpoint(Path(folder) / "training" / MODEL)
    said = made.spec
    return made.network, dataclasses.replace(
        spec, training=said.training, temperature=said.temperature
    )


def _chip(spec: ModelSpec) -> int:
    """Side of a chip to train on, pixels: whole steps of the network, of which the longest is _CHIP."""
    side = min(spec.tile, _CHIP)
    return side - side % spec.step


def _contenders(model: Path, original: Checkpoint, made: Path) -> tuple[Contender, ...]:
    pruned, sizes = load_checkpoint(made), (model.stat().st_size, made.stat().st_size)
    return tuple(
        Contender(title, checkpoint, runtime, size)
        for title, checkpoint, runtime, size in (
            ("original", original, "torch-fp32", sizes[0]),
            ("original", original, "openvino-fp32", sizes[0]),
            ("pruned", pruned, "openvino-fp32", sizes[1]),
            ("pruned", pruned, "torch-fp32", sizes[1]),
        )
    )
