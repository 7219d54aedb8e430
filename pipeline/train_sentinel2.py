"""Train the shipped weights for real Sentinel-2 scenes: on simulated regions and weakly labelled real ones.

LANDCOVER_SHARED_DATA=folder python -m pipeline.train_sentinel2 --out pipeline/weights/sentinel2.safetensors
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import SettingsError
from landcover.losses import set_cross_entropy
from landcover.metrics import ErrorMatrix
from landcover.model_spec import ModelSpec
from landcover.simulation import LEGEND
from landcover.spectra import BANDS
from landcover.spectral_rules import GREEN, UNGROWN, WATER, Bits, one_of
from pipeline.artifacts import atomic_path
from pipeline.sentinel2_scenes import (
    CITIES,
    HELD_OUT_CITIES,
    Scene,
    read_austria,
    read_city,
    read_slovenia,
    slovenian_blocks,
)
from pipeline.train_demo import (
    FIRST_HELD_OUT_SEED,
    Region,
    cut_chip,
    score,
    segmentation_loss,
    simulate_region,
    simulate_regions,
    through_air,
)

FIRST_SEED = 200_000
"""Simulated training regions have this seed and the following ones."""
CREDIT = "contains modified Copernicus Sentinel data 2015-2018"
GROUPS: Mapping[str, int] = {
    "Water": WATER,
    "Vegetation": GREEN | one_of(LEGEND.classes[5].code),  # wetland is green too
    "Built-up or bare": UNGROWN,
}
"""What the weak labels of real scenes can be counted in, as sets of classes."""
_VEIL = 0.035
"""Most reflectance that thin cirrus or glint adds to a training chip."""
_REAL_AIR = (-0.9, 0.5)
"""Haze taken from or added to a real chip: from about surface reflectance to a hazier day."""

_SMALL = 150
"""Side of a place, pixels, that is drawn half as often as larger ones."""


@dataclass(frozen=True)
class Options:
    """How long and on how much to train."""

    steps: int = 1000
    simulated: int = 9
    """Simulated chips of a batch."""
    real: int = 6
    """Real chips of a batch."""
    real_weight: float = 0.7
    """Of the loss of the real chips, beside 1 of the simulated ones."""
    keep: float = 0.2
    """Share of the start's weights in the result where it has the same bands; it forgets less so."""
    side: int = 128
    """Side of a training chip, pixels."""
    regions: int = 120
    """Number of simulated training regions."""
    held_out: int = 4
    """Number of simulated regions for the figures in the checkpoint."""
    learning_rate: float = 8e-4
    seed: int = 0
    precision: str = "fp32"
    """fp32, or bf16: convolutions in bfloat16, up to twice as fast where the processor has it."""
    workers: int = 2


# --- chips


def draw_simulated(
    regions: Sequence[Region], options: Options, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Simulated chips, (n, bands, side, side) reflectance, and their channels, (n, side, side)."""
    images, labels = [], []
    for _ in range(options.simulated):
        region = regions[int(rng.integers(len(regions)))]
        pixels, channels = cut_chip(region.images, region.classes[None], options.side, rng)
        images.append(through_air(pixels.numpy() * np.float32(1e-4), rng, veil=_VEIL))
        labels.append(channels)
    return torch.from_numpy(np.stack(images)), torch.stack(labels).long()


def draw_real(
    scenes: Sequence[Scene], options: Options, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Real chips, (n, bands, side, side) reflectance, and their sets of classes, (n, side, side)."""
    if not options.real:
        channels, side = scenes[0].images.shape[1], options.side
        return torch.empty(0, channels, side, side), torch.empty(0, side, side, dtype=torch.uint8)
    weights = np.array([1.0 if min(scene.labels.shape[1:]) > _SMALL else 0.5 for scene in scenes])
    images, labels = [], []
    for _ in range(options.real):
        scene = scenes[int(rng.choice(len(scenes), p=weights / weights.sum()))]
        pixels, sets = cut_chip(scene.images, scene.labels, options.side, rng)
        images.append(through_air(pixels.numpy(), rng, _REAL_AIR, _VEIL))
        labels.append(sets)
    return torch.from_numpy(np.stack(images)), torch.stack(labels)


# --- training


def fine_tune(
    network: nn.Module,
    regions: Sequence[Region],
    scenes: Sequence[Scene],
    spec: ModelSpec,
    options: Options,
    report: Callable[[str], None] = print,
) -> nn.Module:
    """Go on training a network on simulated and real chips, mixed in every batch.

    The loss is that of the demo weights on the simulated chips plus `set_cross_entropy` on the real ones.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng([options.seed, 7])
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps, pct_start=0.15
    )
    recent, started = np.zeros(2), time.perf_counter()
    for step in range(1, options.steps + 1):
        made, truth = draw_simulated(regions, options, rng)
        real, sets = draw_real(scenes, options, rng)
        images = torch.cat([made[:, : len(spec.bands)], real])
        seen = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            logits = network(seen)
        logits = logits.float()
        parts = torch.stack(
            [
                segmentation_loss(logits[: len(made)], truth),
                set_cross_entropy(logits[len(made) :], sets),
            ]
        )
        optimizer.zero_grad(set_to_none=True)
        (parts[0] + options.real_weight * parts[1]).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent += (parts.detach().numpy() - recent) / min(step, 50)
        if step % 50 == 0:
            report(_progress(step, options.steps, recent, time.perf_counter() - started))
    return network.eval()


def _progress(step: int, steps: int, losses: np.ndarray[Any, Any], seconds: float) -> str:
    simulated, real = losses
    return (
        f"step {step} of {steps}: loss {simulated:.3f} simulated, {real:.3f} real, {seconds:.0f} s"
    )


def mix_weights(network: nn.Module, start: nn.Module, keep: float) -> nn.Module:
    """The network with a share of the start's weights mixed into its own (Wortsman et al. 2022, eq. 1)."""
    mine, theirs = network.state_dict(), start.state_dict()
    network.load_state_dict(
        {
            name: torch.lerp(value, theirs[name], keep) if value.is_floating_point() else value
            for name, value in mine.items()
        }
    )
    return network


def first_channels(network: nn.Module, start: ModelSpec, bands: Sequence[str]) -> nn.Module:
    """A network of the start's kind that sees only these bands, the first of the start's.

    What the others said on average is lost; batch normalisation takes that up within a few steps.
    """
    count = len(bands)
    if tuple(bands) != start.bands[:count]:
        raise SettingsError(
            f"The bands {', '.join(bands)} are not the first of the start's, {', '.join(start.bands)}."
        )
    smaller = replace(
        start, bands=tuple(bands), mean=start.mean[:count], std=start.std[:count]
    ).build()
    wanted = smaller.state_dict()
    smaller.load_state_dict(
        {
            name: value[:, :count] if value.shape != wanted[name].shape else value
            for name, value in network.state_dict().items()
        }
    )
    return smaller


# --- figures


def predict(network: nn.Module, spec: ModelSpec, image: np.ndarray[Any, Any]) -> Bits:
    """Class codes of a whole scene of (bands, rows, cols) reflectance, mirrored to a multiple of 32."""
    rows, cols = image.shape[1:]
    grown = np.pad(image, ((0, 0), (0, -rows % 32), (0, -cols % 32)), "reflect")
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (spec.mean, spec.std))
    with torch.inference_mode():
        channel = network(((torch.from_numpy(grown) - mean) / std)[None])[0].argmax(0)
    codes = np.array(spec.legend.codes, np.uint8)[channel.numpy()]
    return np.asarray(codes[:rows, :cols])


def count_groups(codes: Bits, sets: Bits) -> ErrorMatrix:
    """Mapped classes against weak labels, both as groups: 1 water, 2 vegetation, 3 built-up or bare.

    A pixel whose set is in no group, or is empty, is left out.
    """
    mapped, truth = np.zeros_like(codes), np.zeros_like(sets)
    for number, group in enumerate(GROUPS.values(), start=1):
        mapped[((np.uint8(1) << (codes - 1)) & group) > 0] = number
        truth[(sets > 0) & (sets & ~np.uint8(group) == 0)] = number
    return ErrorMatrix.count(mapped, truth, (1, 2, 3))


def measure_groups(network: nn.Module, spec: ModelSpec, scene: Scene) -> ErrorMatrix:
    """Groups of all dates of a scene against its weak labels."""
    matrix = ErrorMatrix.empty((1, 2, 3))
    for image, sets in zip(scene.images, scene.labels, strict=True):
        matrix += count_groups(predict(network, spec, image[: len(spec.bands)]), sets)
    return matrix


def measure_classes(network: nn.Module, spec: ModelSpec, scene: Scene) -> ErrorMatrix:
    """Classes of all dates of a scene where its labels name one class alone."""
    matrix = ErrorMatrix.empty(spec.legend.codes)
    single = np.zeros(256, np.uint8)
    single[[one_of(code) for code in spec.legend.codes]] = spec.legend.codes
    for image, sets in zip(scene.images, scene.labels, strict=True):
        codes = predict(network, spec, image[: len(spec.bands)])
        matrix += ErrorMatrix.count(codes, single[sets], spec.legend.codes)
    return matrix


# --- data


def training_scenes(data: Path, bands: Sequence[str]) -> list[Scene]:
    """What may be learnt from: all cities but the held-out ones, two quarters of Slovenia, for four bands Austria."""
    scenes = [
        read_city(data / "sentinel2_pairs_oscd" / "images" / name)
        for name in CITIES
        if name not in HELD_OUT_CITIES
    ]
    slovenia = read_slovenia(data / "sentinel2_lulc_slovenia")
    clear = slovenia.labels.any((1, 2))
    scenes.append(
        Scene(
            slovenia.name,
            slovenia.images[clear],
            slovenian_blocks(slovenia.labels[clear], held_out=False),
        )
    )
    if len(bands) == 4:
        scenes.append(read_austria(data / "sentinel2_two_season_austria" / "inference-img.tif"))
    return [replace(scene, images=scene.images[:, : len(bands)]) for scene in scenes]


def held_out_figures(network: nn.Module, spec: ModelSpec, data: Path) -> dict[str, Any]:
    """Overall accuracy of the groups in each held-out city, and of classes in the held-out Slovenian quarters."""
    slovenia = read_slovenia(data / "sentinel2_lulc_slovenia")
    quarters = replace(slovenia, labels=slovenian_blocks(slovenia.labels, held_out=True))
    cities = {
        name: measure_groups(
            network, spec, read_city(data / "sentinel2_pairs_oscd" / "images" / name)
        )
        for name in HELD_OUT_CITIES
    }
    figures = {name: round(matrix.overall_accuracy, 4) for name, matrix in cities.items()}
    return figures | {
        "slovenia": round(measure_classes(network, spec, quarters).overall_accuracy, 4),
        "slovenia_groups": round(measure_groups(network, spec, quarters).overall_accuracy, 4),
    }


def _regions(options: Options, cache: Path | None) -> list[Region]:
    """The simulated training regions; kept in a folder where one is given."""
    seeds = range(FIRST_SEED, FIRST_SEED + options.regions)
    if cache is None:
        return simulate_regions(seeds, True, options.workers)
    return [_kept(cache / f"{seed}.npz", seed) for seed in seeds]


def _kept(path: Path, seed: int) -> Region:
    if not path.is_file():
        region = simulate_region(seed)
        with atomic_path(path) as partial, partial.open("wb") as stream:
            np.savez(stream, images=region.images, classes=region.classes)
    with np.load(path) as arrays:
        return Region(arrays["images"], arrays["classes"])


# --- command


def train_sentinel2(
    out: Path,
    data: Path,
    start: Path,
    bands: Sequence[str],
    options: Options,
    cache: Path | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fine-tune the start's weights, measure on places and seeds held out, and write the checkpoint.

    data: folder of the published scenes. Raises LandcoverError where something of it is missing.
    """
    begun = load_checkpoint(start)
    count = len(bands)
    network = (
        begun.network
        if tuple(bands) == begun.spec.bands
        else first_channels(begun.network, begun.spec, bands)
    )
    spec = replace(
        begun.spec, bands=tuple(bands), mean=begun.spec.mean[:count], std=begun.spec.std[:count]
    )
    scenes = training_scenes(data, bands)
    regions = _regions(options, cache)
    report(f"{len(regions)} simulated regions and {len(scenes)} real places")
    network = fine_tune(network, regions, scenes, spec, options, report)
    if spec.bands == begun.spec.bands:
        network = mix_weights(network, load_checkpoint(start).network, options.keep)
    held_out = range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + options.held_out)
    seen = simulate_regions(held_out, False, options.workers)
    seen = [replace(region, images=region.images[:, :count]) for region in seen]
    figures = {
        "simulated": score(network, seen, spec),
        "real": held_out_figures(network, spec, data),
    }
    training = {
        "data": "simulated by landcover.simulation; OSCD images labelled by spectral rules (its change labels "
        "unused); Slovenian land use of eo-learn" + ("; Fields of the World, Austria" if count == 4 else ""),
        "licence": "images: Copernicus Sentinel data, free and open; Slovenian land use and Austrian scene: MIT",
        "credit": CREDIT,
        "start": {"file": start.name, "sha256": begun.sha256},
        "seeds": [FIRST_SEED, FIRST_SEED + options.regions - 1],
        "held_out_seeds": [held_out.start, held_out.stop - 1],
        "held_out_places": [*HELD_OUT_CITIES, "slovenia, north-east and south-west quarters"],
        "held_out": figures, "options": asdict(options), "code": "python -m pipeline.train_sentinel2",
    }  # fmt: skip
    with atomic_path(out) as partial:
        save_checkpoint(partial, network, replace(spec, training=training))
    load_checkpoint(out)
    return figures


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults, weights = Options(), Path("pipeline/weights")
    parser.add_argument("--out", type=Path, default=weights / "sentinel2.safetensors")
    parser.add_argument("--start", type=Path, default=weights / "demo.safetensors")
    parser.add_argument("--bands", type=int, choices=(4, 6), default=6)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("LANDCOVER_SHARED_DATA", "../shared/data"))
    )
    parser.add_argument("--cache", type=Path, help="folder that keeps the simulated regions")
    parser.add_argument("--threads", type=int, help="threads of torch")
    for name in ("learning-rate", "keep"):
        parser.add_argument(
            f"--{name}", type=float, default=getattr(defaults, name.replace("-", "_"))
        )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=defaults.precision)
    for name in ("steps", "seed", "regions", "simulated", "real", "workers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    given = vars(parser.parse_args())
    out, data, start, bands, cache, threads = (
        given.pop(name) for name in ("out", "data", "start", "bands", "cache", "threads")
    )
    if threads:
        torch.set_num_threads(threads)
    figures = train_sentinel2(
        out, data, start, BANDS[:bands], replace(defaults, **given), cache, report
    )
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def report(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - progress of a long command


if __name__ == "__main__":
    main()
