"""Train a model on a dataset: from a YAML file to a checkpoint that maps."""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger
from safetensors.torch import load_file, save_file
from torch import nn

from landcover.calibration import fit_temperature
from landcover.checkpoint_file import load_checkpoint, read_spec, save_checkpoint
from landcover.encoder_weights import load_encoder, read_encoder
from landcover.errors import CheckpointError, SettingsError
from landcover.exported_network import ExportedNetwork
from landcover.losses import IGNORED, balanced_weights, sum_of_losses
from landcover.metrics import ErrorMatrix
from landcover.model_library import model_library
from landcover.model_spec import ModelSpec
from landcover.networks import STEP
from landcover.runtimes import find_device
from pipeline.artifacts import Report, atomic_path, file_hash, only_run, write_json
from pipeline.baselines import forest_baseline
from pipeline.chip_stream import StepSampler, TrainingBatches, ValidationTiles, loader
from pipeline.dataset import Dataset, load_dataset
from pipeline.joint_legend import joint_legend
from pipeline.learner import Learner, count, figures, normalised
from pipeline.learning_curve import draw_learning_curve, write_history
from pipeline.model_card import write_model_card
from pipeline.model_source import find_file, find_model
from pipeline.training_config import Baseline, ModelSettings, TrainingConfig

MODEL = "model.safetensors"
"""What training is for: the checkpoint, in the output folder."""
RECORD = "training.json"
"""What was trained with what, and how well."""
CARD = "model-card.md"
"""What a person should know about the checkpoint."""
STATE = "resume.ckpt"
"""Where a killed training goes on; of no use to others, and never to be taken from strangers."""
_BEST = "best.safetensors"
_LINES = 100
_CLIP = 1.0
"""Largest norm of a step's gradient."""
_LOGIT_PIXELS = 200_000
"""Validation pixels on which the temperature is fitted."""


def train(
    *,
    config: TrainingConfig,
    output: Path | None = None,
    resume: bool = False,
    announce: Report = print,
    report: Report = print,
) -> dict[str, Any]:
    """Train, and write the checkpoint of the best validation; return its training record.

    output: instead of the config's. resume: go on where a killed training stopped; on a CPU in
    float32 the result is that of a training that was never killed, byte for byte.
    Raises SettingsError, DatasetError, CheckpointError or LegendError for what cannot be trained.
    """
    folder = output or config.output
    if folder is None:
        raise SettingsError("There is no output folder; say output in the config, or give --out.")
    dataset = load_dataset(config.dataset)
    key = config.key(dataset.version, _hashes(config))
    with only_run(folder):
        record = _check_folder(folder, key, resume)
        if record.get("complete"):
            announce(f"{folder / MODEL}: current, skipped")
            return dict(record["training"])
        job = _plan(config, dataset, folder, announce)
        write_json(folder / RECORD, {"key": key, "complete": False})
        _fit(job, announce, report)
        training = _finish(job, announce, report)
        write_json(folder / RECORD, {"key": key, "complete": True, "training": training})
    return training


def _hashes(config: TrainingConfig) -> dict[str, str]:
    """Hashes of the weights that training begins with or learns from, by what they are for."""
    model = config.model
    files = {
        "start": find_model(str(model.start)) if model.start else None,
        "encoder": Path(model.weights) if model.weights not in {"none", "imagenet"} else None,
        "teacher": find_file(str(config.teacher.checkpoint)) if config.teacher else None,
    }
    return {name: file_hash(path) for name, path in files.items() if path and path.is_file()}


@dataclass(frozen=True)
class _Job:
    """All that a training needs."""

    config: TrainingConfig
    dataset: Dataset
    folder: Path
    spec: ModelSpec
    steps: int
    every: int
    device: torch.device


def _check_folder(folder: Path, key: str, resume: bool) -> Mapping[str, Any]:
    """The record of what is in the folder already. Raises SettingsError where it is in the way."""
    record: dict[str, Any] = {}
    if (path := folder / RECORD).exists():
        with contextlib.suppress(ValueError):
            record = json.loads(path.read_text(encoding="utf-8"))
    complete = bool(record.get("complete")) and (folder / MODEL).is_file()
    if record and record.get("key") != key:
        raise SettingsError(
            f"{folder} holds a training with other settings or another version of the dataset; give "
            "another --out, or remove the folder."
        )
    if (folder / STATE).exists() and not complete and not resume:
        raise SettingsError(
            f"{folder} holds a training that was not finished; go on with --resume, give another "
            "--out, or remove the folder."
        )
    return record | {"complete": complete}


def _plan(config: TrainingConfig, dataset: Dataset, folder: Path, announce: Report) -> _Job:
    counts = dataset.class_counts("train")
    if not counts.sum():
        raise SettingsError(f"The dataset {dataset.name} has no labelled pixel to train on.")
    if not dataset.class_counts("validation").sum():
        raise SettingsError(
            f"The dataset {dataset.name} has no labelled pixel to validate on; give it a validation "
            "split."
        )
    if absent := [n for n, c in zip(dataset.legend.names, counts, strict=True) if not c]:
        announce(f"Note: no training pixel is {', '.join(absent)}; the model will not map it.")
    steps, every = config.plan(int(counts.sum()))
    spec = _spec(config, dataset)
    _check_chips(config, spec)
    announce(
        f"{spec.architecture}, {spec.encoder}: {steps:,} steps of "
        f"{config.batch * config.accumulate} chips of {config.tile} pixels, {dataset.name}"
    )
    return _Job(config, dataset, folder, spec, steps, every, find_device(config.device))


def _spec(config: TrainingConfig, dataset: Dataset) -> ModelSpec:
    tile = config.mapping_tile or config.tile
    model = config.model
    if model.start:
        return _continued(read_spec(find_model(str(model.start))), dataset, config.mapping_tile)
    return ModelSpec(
        encoder=model.encoder_name, decoder_channels=model.decoder_channels, bands=dataset.bands,
        scale=dataset.scale, offset=dataset.offset, mean=dataset.band_mean(),
        std=dataset.band_std(), legend=dataset.legend, tile=tile, overlap=tile // 4,
        architecture=model.architecture, options=model.options,
    )  # fmt: skip


def _check_chips(config: TrainingConfig, spec: ModelSpec) -> None:
    """Raise SettingsError where chips do not fit a network that reduces."""
    if config.tile % spec.step:
        raise SettingsError(
            f"The tile is {config.tile}; for this network it must be a multiple of {spec.step}."
        )
    if spec.step > STEP and config.augmentation and config.augmentation.multi_scale:
        raise SettingsError("A network that reduces takes no multi_scale; use scale instead.")


def _continued(spec: ModelSpec, dataset: Dataset, tile: int | None) -> ModelSpec:
    """The spec of a checkpoint that is trained on: its network, and the dataset's scaling and legend.

    Raises CheckpointError where the dataset has other bands or codes, LegendError where a code means
    another class.
    """
    if (spec.bands, spec.legend.codes) != (dataset.bands, dataset.legend.codes):
        raise CheckpointError(
            f"The checkpoint to start from has the bands {', '.join(spec.bands)} and the class codes "
            f"{list(spec.legend.codes)}, the dataset {', '.join(dataset.bands)} and "
            f"{list(dataset.legend.codes)}; they must be the same, in the same order."
        )
    joint_legend(dataset.legend, spec.legend)
    side = tile or spec.tile
    return replace(
        spec, scale=dataset.scale, offset=dataset.offset, legend=dataset.legend, tile=side,
        overlap=side // 4 if tile else spec.overlap, training={}, temperature=1.0,
    )  # fmt: skip


# --- the network


def _network(job: _Job) -> nn.Module:
    """The network as training begins."""
    if job.config.model.start:
        network = load_checkpoint(find_model(str(job.config.model.start))).network
        if isinstance(network, ExportedNetwork):
            raise CheckpointError(
                f"{job.config.model.start} is an exported model, which cannot be trained; give its checkpoint."
            )
        return network.train()
    torch.manual_seed(job.config.seed)
    network = job.spec.build()
    model = job.config.model
    encoder: Any = network.encoder
    if model.weights == "imagenet":
        name = f"{model.encoder_name} of ImageNet"
        load_encoder(encoder, _imagenet(model), job.spec.bands, name)
    elif model.weights != "none":
        path = Path(model.weights)
        load_encoder(encoder, read_encoder(path), job.spec.bands, str(path))
    return network


def _imagenet(model: ModelSettings) -> dict[str, torch.Tensor]:
    """Tensors of the encoder trained on ImageNet; downloaded unless the cache has them."""
    smp = model_library()
    try:
        if model.architecture == "dpt":
            encoder: Any = smp.DPT(
                model.encoder_name, encoder_weights="imagenet", dynamic_img_size=True
            ).encoder
        else:
            encoder = smp.encoders.get_encoder(model.encoder_name, weights="imagenet")
    except KeyError as error:
        raise CheckpointError(f"There are no ImageNet weights of {model.encoder_name}.") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"The ImageNet weights of {model.encoder_name} could not be had ({reason}); connect to "
            "the network once, or set weights to none or a .safetensors file."
        ) from error
    return dict(encoder.state_dict())


# --- fitting


def _fit(job: _Job, announce: Report, report: Report) -> None:
    config = job.config
    weights = None
    if config.class_weights == "balanced":
        weights = torch.from_numpy(balanced_weights(job.dataset.class_counts("train")))
    loss = sum_of_losses([(t.name, t.weight, t.settings) for t in config.loss], weights)
    teacher = load_checkpoint(find_file(str(config.teacher.checkpoint))) if config.teacher else None
    learner = Learner(_network(job), job.spec, config, loss, job.steps, job.every, teacher)
    batches = TrainingBatches(
        job.dataset, config.tile, config.batch, config.seed, config.balanced, config.augmentation,
        job.spec.mean,
    )  # fmt: skip
    state = job.folder / STATE
    with _quiet():
        trainer = _trainer(job, _Keeper(job, announce, report))
        sampler = StepSampler(
            job.every * config.accumulate, lambda: trainer.global_step // job.every
        )
        trainer.fit(
            learner,
            loader(batches, config.workers, sampler),
            loader(ValidationTiles(job.dataset, config.tile, config.batch), 0),
            ckpt_path=str(state) if state.exists() else None,
            weights_only=True,
        )


def _trainer(job: _Job, keeper: "_Keeper") -> Trainer:
    config = job.config
    callbacks: list[Callback] = [keeper]
    if config.early_stop:
        callbacks.append(EarlyStopping("mean_iou", mode="max", patience=config.early_stop))
    return Trainer(
        accelerator="gpu" if job.device.type == "cuda" else "cpu",
        devices=[job.device.index] if job.device.type == "cuda" else 1,
        precision=config.precision,
        max_epochs=job.steps // job.every,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=_CLIP,
        callbacks=callbacks,
        logger=TensorBoardLogger(str(job.folder), name="tensorboard", version=""),
        log_every_n_steps=min(10, job.every),
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(job.folder),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning advertises and advises; what matters here is said by ourselves."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Keeper(Callback):
    """Tells how far training is, and after each validation writes all that a resume needs."""

    def __init__(self, job: _Job, announce: Report, report: Report) -> None:
        self._job, self._announce, self._report = job, announce, report
        self._told = -1
        self.history: list[dict[str, Any]] = []
        """A row of `learning_curve.COLUMNS` for each validation."""
        self.best: dict[str, Any] = {}
        """Step and figures of the best validation."""

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best = list(state_dict["history"]), dict(state_dict["best"])
        self._announce(f"resumed after step {self.history[-1]['step']:,}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        step = trainer.global_step
        if step != self._told and step % max(1, self._job.steps // _LINES) == 0:
            self._told = step
            self._report(f"step {step:,} of {self._job.steps:,}: loss {pl_module.train_loss:.3f}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the weights if they are the best, the table, the picture, and last the state."""
        found = pl_module.figures
        row = {
            "step": trainer.global_step,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "train_loss": pl_module.train_loss,
            **{k: found[k] for k in ("validation_loss", "mean_iou", "overall_accuracy")},
        }
        self.history.append(row)
        better = (
            not self.best
            or self._job.config.keep == "last"
            or (found["mean_iou"] or 0) > (self.best["mean_iou"] or 0)
        )
        if better:
            self.best = {"step": trainer.global_step, **found}
            with atomic_path(self._job.folder / _BEST) as partial:
                save_file(_tensors(pl_module.network), partial, {"best": json.dumps(self.best)})
        write_history(self._job.folder / "metrics.csv", self.history)
        with atomic_path(self._job.folder / STATE) as partial:
            trainer.save_checkpoint(partial)
        self._announce(
            f"step {row['step']:,} of {self._job.steps:,}: loss {row['train_loss']:.3f}, validation loss "
            f"{row['validation_loss']:.3f}, mean IoU {_shown(row['mean_iou'])}{' (best)' * better}"
        )


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's state, each tensor its own memory."""
    state = network.state_dict()
    return {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}


# --- the end


def _finish(job: _Job, announce: Report, report: Report) -> dict[str, Any]:
    """Measure the best weights as they are saved, and a forest beside them; write the checkpoint."""
    network = job.spec.build()
    network.load_state_dict(load_file(job.folder / _BEST))
    if job.config.start_share:
        _approach(network, _network(job), job.config.start_share)
    if job.config.settle:
        report("settling the network on unchanged chips ...")
        _settle(job, network)
    network = network.half().float().eval()  # as the checkpoint will have it
    report("measuring the best weights ...")
    matrix, temperature = _assess(job, network)
    training = _record(job) | {"validation": figures(matrix, job.spec)}
    if job.config.baseline:
        report("fitting the baseline, a random forest of single pixels ...")
        training["baseline"] = _baseline(job, job.config.baseline)
    with atomic_path(job.folder / MODEL) as partial:
        save_checkpoint(
            partial, network, replace(job.spec, training=training, temperature=temperature)
        )
    write_model_card(job.folder / MODEL, job.folder / CARD)
    _draw(job, training)
    score, forest = training["validation"], training.get("baseline", {}).get("mean_iou")
    announce(
        f"validation: overall accuracy {_shown(score['overall_accuracy'])}, mean IoU "
        f"{_shown(score['mean_iou'])}"
        + (
            f" (a random forest of single pixels: {_shown(forest)})"
            if "baseline" in training
            else ""
        )
    )
    return training


def _approach(network: nn.Module, start: nn.Module, share: float) -> None:
    """Move all weights and statistics of a network by a share of the way to where training began."""
    began = start.state_dict()
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if values.is_floating_point():
                values.lerp_(began[name].to(values), share)


def _settle(job: _Job, network: nn.Module) -> None:
    """Take the statistics of batch normalisation anew, from chips as maps see them.

    Those of training belong to small, changed chips and to weights that moved meanwhile (precise
    batch normalisation, Wu & Johnson 2021, section 3).
    """
    config = job.config
    batches = TrainingBatches(
        job.dataset,
        job.spec.tile,
        config.batch,
        config.seed + 1,
        config.balanced,
        None,
        job.spec.mean,
    )
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over all batches
    network.train()
    with torch.inference_mode():
        for number in range(config.settle):
            images, _, valid = batches[number]
            network(normalised(images, valid, job.spec))


def _assess(job: _Job, network: nn.Module) -> tuple[ErrorMatrix, float]:
    """Error matrix of the validation split, and the temperature that fits it."""
    tiles = ValidationTiles(job.dataset, job.config.tile, job.config.batch)
    matrix = ErrorMatrix.empty(job.spec.legend.codes)
    share = _LOGIT_PIXELS / max(1, int(job.dataset.class_counts("validation").sum()))
    rng = np.random.default_rng([job.config.seed, 8])
    scores, truths = [], []
    network = network.to(job.device)
    for number in range(len(tiles)):
        images, targets, valid = tiles[number]
        with torch.inference_mode():
            seen = normalised(images.to(job.device), valid.to(job.device), job.spec)
            logits = network(seen).float().cpu()
        matrix += count(logits, targets, job.spec)
        chosen = (targets != IGNORED) & torch.from_numpy(rng.random(targets.shape) < share)
        scores.append(logits.movedim(1, -1)[chosen].numpy())
        truths.append(targets[chosen].numpy())
    network.cpu()
    return matrix, _temperature(np.concatenate(scores), np.concatenate(truths))


def _temperature(scores: NDArray[np.float32], truths: NDArray[np.int64]) -> float:
    """The fitted temperature; 1 where every pixel is right, since there is none then."""
    if not len(truths) or (scores.argmax(1) == truths).all():
        return 1.0
    return round(fit_temperature(scores, truths), 4)


def _record(job: _Job) -> dict[str, Any]:
    """What a checkpoint says about its training."""
    best: dict[str, Any] = {}
    with contextlib.suppress(KeyError):
        best = json.loads(_metadata(job.folder / _BEST)["best"])
    config = job.config.model_dump(mode="json", exclude={"output", "device", "workers", "dataset"})
    if job.config.teacher:
        teacher = find_file(str(job.config.teacher.checkpoint))
        config["teacher"] |= {
            "checkpoint": teacher.name,
            "training": dict(read_spec(teacher).training),
        }
    if job.config.model.weights not in {"none", "imagenet"}:
        config["model"]["weights"] = Path(job.config.model.weights).name
    if job.config.model.start:
        start = find_model(str(job.config.model.start))
        began = {"checkpoint": start.name, "training": dict(read_spec(start).training)}
        config["model"] = {"start": began}
    return {
        "data": job.dataset.name,
        "dataset_version": job.dataset.version,
        "licence": job.dataset.licence,
        "credit": job.dataset.credit,
        "steps": job.steps,
        "best_step": best.get("step"),
        "options": config,
        "code": "landcover train",
    }


def _metadata(path: Path) -> Mapping[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stream:
        return dict(stream.metadata() or {})


def _draw(job: _Job, training: Mapping[str, Any]) -> None:
    rows = (job.folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    names = rows[0].split(",")
    history = [
        {k: float(v) if v else None for k, v in zip(names, row.split(","), strict=True)}
        for row in rows[1:]
    ]
    title = f"{job.spec.architecture}, {job.spec.encoder}, {job.dataset.name}"
    forest = training.get("baseline", {}).get("mean_iou")
    draw_learning_curve(job.folder / "learning-curve.png", history, title, forest)


# --- the baseline


def _baseline(job: _Job, settings: Baseline) -> dict[str, Any]:
    """How well a random forest of single pixels maps the validation split."""
    config, spec = job.config, job.spec
    matrix = forest_baseline(
        job.dataset, "validation", spec.legend.codes, range(len(spec.bands)), config.tile, config.seed,
        pixels=settings.pixels, trees=settings.trees, balanced=bool(config.balanced),
    )  # fmt: skip
    return figures(matrix, spec) | settings.model_dump()
