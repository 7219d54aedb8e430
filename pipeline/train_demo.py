"""Train the shipped demo weights on simulated regions, none of which is the demo's.

python -m pipeline.train_demo --out pipeline/weights/demo.safetensors
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.countries import random_options
from landcover.landscape import LandscapeOptions, build_landscape
from landcover.metrics import ErrorMatrix
from landcover.model_spec import ModelSpec
from landcover.noise import Floats
from landcover.simulation import (
    COARSE_BANDS,
    LEGEND,
    Moment,
    Reflectance,
    Scenery,
    double,
    sensor_noise,
)
from landcover.spectra import BANDS
from pipeline.artifacts import atomic_path

FIRST_TRAINING_SEED = 100_000
"""Training regions have this seed and the following ones; the demo and the tests use lower ones."""
FIRST_HELD_OUT_SEED = 90_000
SIDE = 768
"""Side of a training region, pixels."""
_HAZE = np.array((0.095, 0.055, 0.032, 0.014, 0.004, 0.003), np.float32)
"""Path reflectance of a hazy view in BANDS: top-of-atmosphere minus surface over dark water."""
_ABSORBED = np.array((0.20, 0.14, 0.09, 0.06, 0.04, 0.04), np.float32)
"""Share of the ground's signal lost in the same view."""


@dataclass(frozen=True)
class TrainingOptions:
    """How long and on how much to train."""

    steps: int = 4000
    batch: int = 16
    side: int = 128
    """Side of a training chip, pixels; half the mapping tile, so that twice as many differ."""
    regions: int = 300
    """Number of simulated training regions."""
    held_out: int = 4
    """Number of simulated regions for the figures in the checkpoint."""
    learning_rate: float = 3e-3
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True)
class Region:
    """A simulated training region: images that share one true map."""

    images: NDArray[np.uint16]
    """Reflectance x 10000, (images, bands, rows, cols); the first is a median composite."""
    classes: NDArray[np.uint8]
    """Channel of each pixel's class, (rows, cols)."""


# --- regions


def simulate_region(seed: int, varied: bool = True) -> Region:
    """A region with its median composite and a single date; as the demo's kind unless varied."""
    rng = np.random.default_rng([seed, 5])
    options = random_options(rng) if varied else LandscapeOptions()
    landscape = build_landscape(seed, (SIDE, SIDE), options)
    scenery = Scenery(landscape, seed)
    images = [_composite(scenery, _composite_days(rng, varied), rng)]
    if varied:
        images.append(_composite(scenery, [rng.uniform(1, 366)], rng))
    return Region(np.stack(images), (landscape.cover - 1).astype(np.uint8))


def _composite_days(rng: np.random.Generator, varied: bool) -> list[float]:
    count = int(rng.integers(3, 8))
    start, end = (128, 270) if not varied or rng.random() < 0.7 else sorted(rng.uniform(40, 330, 2))
    return list(rng.uniform(start, end, count))


def _composite(
    scenery: Scenery, days: Sequence[float], rng: np.random.Generator
) -> NDArray[np.uint16]:
    moments = [
        Moment(day, rng.uniform(120, 200), rng.uniform(25, 65), seed=int(rng.integers(2**31)))
        for day in days
    ]
    views = [scenery.reflectance(moment) for moment in moments]
    bands = [
        _median_band(views, [moment.seed for moment in moments], number)
        for number in range(len(BANDS))
    ]
    return np.clip(np.stack(bands) * 10_000, 1, 65_535).astype(np.uint16)


def _median_band(views: Sequence[Reflectance], seeds: Sequence[int], number: int) -> Floats:
    band = BANDS[number]
    coarse = band in COARSE_BANDS
    seen = [
        sensor_noise(view.coarse_band(band) if coarse else view.band(band), seed + number)
        for view, seed in zip(views, seeds, strict=True)
    ]
    median = np.median(np.stack(seen), axis=0)
    return double(median) if coarse else median


# --- chips


def draw_batch(
    regions: Sequence[Region], spec: ModelSpec, options: TrainingOptions, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random chips, seen through random air: (n, bands, tile, tile) normalised, (n, tile, tile)."""
    pairs = [
        _chip(regions[int(rng.integers(len(regions)))], options.side, rng)
        for _ in range(options.batch)
    ]
    images, labels = (torch.stack(side) for side in zip(*pairs, strict=True))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last), labels.long()


def _chip(region: Region, tile: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = cut_chip(region.images, region.classes[None], tile, rng)
    return torch.from_numpy(through_air(pixels.numpy() * np.float32(1e-4), rng)), labels


def cut_chip(
    images: NDArray[np.generic], labels: NDArray[np.uint8], tile: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random chip of one of a place's images: stretched by 0.75 to 1.4, turned, perhaps mirrored.

    images: (images, bands, rows, cols); labels: (images or 1, rows, cols), moved to the nearest pixel.
    Gives (bands, tile, tile) float32 and (tile, tile) uint8.
    """
    scale = 1.0 if rng.random() < 0.4 else rng.uniform(0.75, 1.4)
    rows, cols = (
        min(side, int(tile * scale * rng.uniform(0.88, 1.14) ** (scale != 1)))
        for side in labels.shape[1:]
    )
    top, left = (
        rng.integers(n - m + 1) for n, m in zip(labels.shape[1:], (rows, cols), strict=True)
    )
    window = np.s_[top : top + rows, left : left + cols]
    number = int(rng.integers(len(images)))
    pixels = torch.from_numpy(images[(number, slice(None), *window)].astype(np.float32))
    chosen = torch.from_numpy(labels[(number % len(labels), *window)])
    if (rows, cols) != (tile, tile):
        pixels = functional.interpolate(
            pixels[None], (tile, tile), mode="bilinear", antialias=rows > tile
        )[0]
        chosen = functional.interpolate(
            chosen[None, None].float(), (tile, tile), mode="nearest-exact"
        )[0, 0].byte()
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    pixels, chosen = (torch.rot90(x, turns, (-2, -1)) for x in (pixels, chosen))
    if flip:
        pixels, chosen = pixels.flip(-1), chosen.flip(-1)
    return pixels, chosen.contiguous()


def through_air(
    image: Floats,
    rng: np.random.Generator,
    haze: tuple[float, float] = (0, 1.1),
    veil: float = 0.0,
) -> Floats:
    """Put random haze, calibration and noise on reflectance: (bands, rows, cols), the first of BANDS.

    haze: range of its strength; below 0 it is taken away, as from top of atmosphere to surface.
    veil: most reflectance that is added to all bands alike, by thin cirrus or the sun's glint.
    """
    strength = 0.0 if rng.random() < 0.35 else rng.uniform(*haze)
    path = _HAZE * strength * np.exp(0.2 * rng.standard_normal(6))
    gain = (1 - _ABSORBED * strength) * np.exp(
        0.07 * rng.standard_normal() + 0.035 * rng.standard_normal(6)
    )
    if veil and rng.random() < 0.35:
        path = path + rng.uniform(0, veil)
    path, gain = (x.astype(np.float32)[: len(image), None, None] for x in (path, gain))
    seen = image * gain + path
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 0.004))
    return np.maximum(seen + noise, np.float32(1e-4))


# --- training


def train(
    regions: Sequence[Region],
    spec: ModelSpec,
    options: TrainingOptions,
    report: Callable[[str], None] = print,
) -> nn.Module:
    """Train the network of a spec from random weights.

    AdamW (Loshchilov & Hutter 2019) under a one-cycle schedule (Smith & Topin 2019), bfloat16.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng([options.seed, 6])
    network = spec.build().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    recent, started = 0.0, time.perf_counter()
    for step in range(1, options.steps + 1):
        images, labels = draw_batch(regions, spec, options, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        loss = segmentation_loss(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent += (loss.item() - recent) / min(step, 50)
        if step % 100 == 0:
            seconds = time.perf_counter() - started
            report(f"step {step} of {options.steps}: loss {recent:.3f}, {seconds:.0f} s")
    return network.eval()


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy plus soft Dice (Milletari et al. 2016) over the classes that a batch holds."""
    entropy = functional.cross_entropy(logits, labels, label_smoothing=0.02)
    shares = logits.softmax(1)
    of_truth = shares.gather(1, labels[:, None]).flatten()
    pixels = torch.bincount(labels.flatten(), minlength=logits.shape[1])
    both = torch.zeros(logits.shape[1]).index_add(0, labels.flatten(), of_truth)
    either = shares.sum((0, 2, 3)) + pixels
    present = pixels > 0
    return entropy + 0.5 * (1 - 2 * both[present] / either[present]).mean()


def score(network: nn.Module, regions: Sequence[Region], spec: ModelSpec) -> dict[str, Any]:
    """Overall accuracy and intersection over union of a network on the regions' composites."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    codes = np.array(LEGEND.codes, np.uint8)
    matrix = ErrorMatrix.empty(LEGEND.codes)
    for region in regions:
        for window in _windows(region.classes.shape, spec.tile):
            image = torch.from_numpy(region.images[(0, slice(None), *window)].astype(np.float32))
            with torch.inference_mode():
                channel = network((image[None] * spec.scale - mean) / std)[0].argmax(0).numpy()
            truth = codes[region.classes[window]]
            matrix += ErrorMatrix.count(codes[channel], truth, LEGEND.codes)
    return {
        "overall_accuracy": round(float(matrix.overall_accuracy), 4),
        "mean_iou": round(float(matrix.mean_iou), 4),
        "iou": {
            name: round(float(value), 4)
            for name, value in zip(LEGEND.names, matrix.iou, strict=True)
            if np.isfinite(value)
        },
    }


def _windows(shape: tuple[int, ...], tile: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0] - tile + 1, tile):
        for left in range(0, shape[1] - tile + 1, tile):
            yield np.s_[top : top + tile, left : left + tile]


# --- command


def demo_spec(regions: Sequence[Region]) -> ModelSpec:
    """What the shipped checkpoint says of itself, normalised to the regions' reflectances."""
    sample = (
        np.concatenate(
            [r.images[:, :, ::16, ::16].swapaxes(0, 1).reshape(6, -1) for r in regions], 1
        )
        * 1e-4
    )
    return ModelSpec(
        encoder="tu-mobilenetv3_small_100", decoder_channels=(96, 64, 48, 32, 16), bands=BANDS,
        scale=1e-4, offset=0.0, mean=tuple(sample.mean(1).round(4).tolist()),
        std=tuple(sample.std(1).round(4).tolist()), legend=LEGEND, tile=256, overlap=64,
    )  # fmt: skip


def simulate_regions(seeds: Sequence[int], varied: bool, workers: int) -> list[Region]:
    """Simulate one region per seed, in processes of their own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(simulate_region, seeds, [varied] * len(seeds)))


def train_demo(
    out: Path, options: TrainingOptions, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Simulate, train, measure on regions never seen, and write the checkpoint."""
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + options.regions)
    held_out = range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + options.held_out)
    started = time.perf_counter()
    regions = simulate_regions(seeds, True, options.workers)
    report(f"{len(regions)} regions simulated in {time.perf_counter() - started:.0f} s")
    spec = demo_spec(regions)
    network = train(regions, spec, options, report)
    figures = score(network, simulate_regions(held_out, False, options.workers), spec)
    training = {
        "data": "simulated by landcover.simulation; no image of the Earth",
        "seeds": [seeds.start, seeds.stop - 1], "held_out_seeds": [held_out.start, held_out.stop - 1],
        "held_out": figures, "options": asdict(options), "code": "python -m pipeline.train_demo",
    }  # fmt: skip
    with atomic_path(out) as partial:
        save_checkpoint(partial, network, replace(spec, training=training))
    load_checkpoint(out)
    return figures


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = TrainingOptions()
    parser.add_argument("--out", type=Path, default=Path("pipeline/weights/demo.safetensors"))
    for name in ("steps", "seed", "regions", "batch", "workers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    given = vars(parser.parse_args())
    figures = train_demo(given.pop("out"), replace(defaults, **given))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
