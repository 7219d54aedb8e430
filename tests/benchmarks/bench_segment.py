"""How much of the time of `segment` is the model: bare network over the same tiles / whole verb.

Run: python tests/benchmarks/bench_segment.py [--size 4096] [--rounds 3] [--models unet,conv]
Bare and whole alternate in one process, so that a busy machine slows both. Wall time is compared
round by round (median of the ratios), processor time in sum: it says the same on a shared machine.
The last line is JSON: figures, goals, met.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import nn

from landcover.inference import Predictor
from landcover.legend import LandClass, Legend
from landcover.models import Checkpoint, ModelSpec
from landcover.tiling import TileGrid
from pipeline.artifacts import peak_memory
from pipeline.segment import segment_image
from pipeline.strip_reader import open_image

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
SPEC = ModelSpec(
    encoder="tu-mobilenetv3_small_100",
    decoder_channels=(96, 64, 48, 32, 16),
    bands=BANDS,
    scale=1e-4,
    offset=0.0,
    mean=(0.1,) * 6,
    std=(0.1,) * 6,
    legend=Legend(tuple(LandClass(i, f"class {i}", "#808080") for i in range(1, 9))),
    tile=256,
    overlap=64,
)
GOALS = {"unet": 0.8}
"""Least efficiency in float32. One 1x1 convolution costs less than reading its input: it shows the
engine's own cost, and has no goal here."""


def make_image(path: Path, size: int) -> None:
    """Write a believable 6-band composite: fields of 16 pixels with sensor noise."""
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=6, dtype="uint16", nodata=0,
        crs="EPSG:32633", transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10),
        tiled=True, blockxsize=512, blockysize=512, compress="zstd", predictor=2,
        interleave="band",
    ) as dataset:  # fmt: skip
        for number, name in enumerate(BANDS, start=1):
            fields = rng.integers(300, 3000, (size // 16 + 1, size // 16 + 1), np.uint16)
            pixels = np.repeat(np.repeat(fields, 16, 0), 16, 1)[:size, :size]
            pixels += rng.integers(0, 64, (size, size), np.uint16)
            dataset.write(pixels, number)
            dataset.set_band_description(number, name)


def bare(predictor: Predictor, windows: NDArray[np.float32], tiles: int) -> None:
    """Run the network alone over as many tiles as the grid has, on the same threads."""

    def predict(i: int) -> None:
        predictor.logits(windows[i % len(windows)][None])

    with ThreadPoolExecutor(
        predictor.workers, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        list(pool.map(predict, range(tiles)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(network: nn.Module, size: int, rounds: int, folder: Path) -> dict[str, float]:
    """Efficiency and speed of one model on one square image."""
    path = folder / f"{size}.tif"
    if not path.exists():
        make_image(path, size)
    image = open_image(path, BANDS)
    checkpoint = Checkpoint(network.eval(), SPEC, "")
    tiles = len(TileGrid(size, size, SPEC.tile, SPEC.overlap))
    windows = np.random.default_rng(1).normal(size=(32, 256, 256, 6)).astype(np.float32)
    predictor = Predictor(checkpoint, "cpu")

    def whole() -> None:
        segment_image(image, checkpoint, folder / "classes.tif", folder / "confidence.tif",
                      device="cpu", report=lambda _: None)  # fmt: skip

    bare(predictor, windows, 32)
    with peak_memory() as memory:
        pairs = [
            (timed(lambda: bare(predictor, windows, tiles)), timed(whole)) for _ in range(rounds)
        ]
    return {
        "efficiency": statistics.median(b[0] / w[0] for b, w in pairs),
        "efficiency_cpu_time": sum(b[1] for b, _ in pairs) / sum(w[1] for _, w in pairs),
        "bare_mpx_s": size**2 / 1e6 / min(b[0] for b, _ in pairs),
        "whole_mpx_s": size**2 / 1e6 / min(w[0] for _, w in pairs),
        "peak_mb": memory.megabytes,
    }


def main() -> None:
    """Measure the models asked for and print one line each, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="unet,conv")
    options = parser.parse_args()
    torch.manual_seed(0)
    networks = {"unet": SPEC.build, "conv": lambda: nn.Conv2d(6, 8, 1)}
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models.split(","):
            result = measure(networks[name](), options.size, options.rounds, Path(folder))
            figures[name] = {key: round(value, 3) for key, value in result.items()}
            print(name, figures[name])
    met = all(figures[n]["efficiency"] >= GOALS[n] for n in GOALS if n in figures)
    print(json.dumps({"size": options.size, "figures": figures, "goals": GOALS, "met": met}))


if __name__ == "__main__":
    main()
