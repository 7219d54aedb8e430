"""The segmentation engine beside the bare model and beside the sliding windows of other packages.

Run: python tests/benchmarks/bench_segment.py [--size 8192] [--models conv,mobilenet,resnet34]
     [--rounds 3] [--peers all|none|monai,...] [--peer-size 2048] [--seconds 45] [--quick]
One image (4 bands, uint16, tiles of 512, zstd), one set of weights, tile 256 and overlap 64 for all.
  efficiency  the network alone over as many tiles as the grid has, on the runtime's own threads /
              our whole run, file to files; both open the runtime; they alternate in one process; beside
              them `plain`, the network as anybody calls it (float32, batches of 4, torch's threads)
  end to end  ours (classes and confidence, with overviews) and each peer (classes), in turn, each in
              a process of its own; peers as they are (float32), and with our fastest runtime as model
  memory      peak of a process of its own: size / 2, size, and 32768 x 32768 with empty parts, which
              maps from a file of weights (by OpenVINO: without torch, as a user's run does)
  agreement   labels equal to those in float32, shipped weights on simulated composites
Ratios are medians over the rounds, pair by pair; speeds count image pixels, not tiles. A square is
halved until the bare model needs less than --seconds; its side is in the row.
The last line is JSON: rows, figures, goals, reached, met.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from landcover.tiling import TileGrid

if TYPE_CHECKING:  # torch takes seconds: only processes that measure import it
    from landcover.runtime import Runtime

ROOT = Path(__file__).parents[2]
BANDS = ("blue", "green", "red", "nir")
CLASSES = 8
SPEC = ModelSpec(
    encoder="resnet34",
    decoder_channels=(256, 128, 64, 32, 16),
    bands=BANDS,
    scale=1e-4,
    offset=0.0,
    mean=(0.1,) * 4,
    std=(0.1,) * 4,
    legend=Legend(tuple(LandClass(i, f"class {i}", "#808080") for i in range(1, CLASSES + 1))),
    tile=256,
    overlap=64,
)
GAIN = np.float32(SPEC.scale) / np.array(SPEC.std, np.float32)
BIAS = (np.float32(SPEC.offset) - np.array(SPEC.mean, np.float32)) / np.array(SPEC.std, np.float32)
ENCODERS = {"mobilenet": "tu-mobilenetv3_large_100", "resnet34": "resnet34"}
MODELS = ("conv", *ENCODERS, "segformer")
SHIPPED = ("demo", "sentinel2", "sentinel2-rgbn")
"""Trained weights that know the simulated composites' bands."""
PEERS = ("monai", "terratorch", "torchgeo", "rastervision", "geoai")
LEAST = {
    "efficiency_torch_conv": 0.70,
    "efficiency_torch_mobilenet": 0.90,
    "efficiency_torch_resnet34": 0.95,
    "efficiency_fastest_mobilenet": 0.80,
    "efficiency_fastest_resnet34": 0.85,
    "speed_over_best_peer_resnet34": 8.0,
    "speed_over_best_peer_with_our_runtime_resnet34": 1.5,
    "agreement_with_fp32": 0.995,
}
"""Goals; `torch` means bf16 where the processor can, which is what they were set for."""
MOST = {"memory_growth_mb": 100.0, "memory_large_mb": 1600.0}
LARGE_ROWS = 640
"""Rows of the large image that hold data: four rows of tiles, so that every buffer fills."""
_PROBE_SECONDS = 2.0
HELD_OUT = 90_000
"""First of the seeds of simulated regions that the shipped weights never saw."""


# --- what is measured on


def checkpoint_of(model: str) -> Checkpoint:
    """Untrained weights by the name of a model, the same in every process; or shipped ones."""
    if model in SHIPPED:
        return load_checkpoint(ROOT / "pipeline" / "weights" / f"{model}.safetensors")
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(0)
    channels = {"in_channels": len(BANDS), "classes": CLASSES, "encoder_weights": None}
    if model == "conv":
        network: torch.nn.Module = torch.nn.Conv2d(len(BANDS), CLASSES, 1)
    elif model == "segformer":
        network = smp.Segformer("mit_b0", **channels)
    else:
        network = smp.Unet(ENCODERS[model], **channels)
    return Checkpoint(network.eval(), SPEC, hashlib.sha256(model.encode()).hexdigest())


def make_image(folder: Path, size: int, rows: int | None = None) -> Path:
    """Write a believable image once: fields of 16 pixels with sensor noise; empty below `rows`."""
    path = folder / f"{size}.tif"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    high = rows or size
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=len(BANDS), dtype="uint16",
        crs="EPSG:32633", transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10), nodata=0,
        tiled=True, blockxsize=512, blockysize=512, compress="zstd", zstd_level=1, predictor=2,
        interleave="band", sparse_ok=True, bigtiff="if_safer", num_threads=os.cpu_count(),
    ) as dataset:  # fmt: skip
        for number, name in enumerate(BANDS, start=1):
            fields = rng.integers(300, 3000, (high // 16 + 1, size // 16 + 1), np.uint16)
            pixels = np.repeat(np.repeat(fields, 16, 0), 16, 1)[:high, :size]
            pixels += rng.integers(0, 64, pixels.shape, np.uint16)
            dataset.write(pixels, number, window=Window(0, 0, size, high))
            dataset.set_band_description(number, name)
    return path


def make_composites(folder: Path, seeds: Sequence[int]) -> Path:
    """Write simulated median composites beside each other, with all bands of the shipped weights."""
    from pipeline.train_demo import simulate_region

    path = folder / "composites.tif"
    pixels = np.concatenate([simulate_region(s, varied=False).images[0] for s in seeds], axis=2)
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype="uint16",
        crs="EPSG:32633", transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10), nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = checkpoint_of("demo").spec.bands
    return path


# --- measurements, each in a process of its own


def peak_megabytes() -> float:
    """Most memory that this process has held, MB: not what it inherited from its parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    words = status.read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def bare(checkpoint: Checkpoint, runtime_name: str, tiles: int) -> float:
    """Open the runtime and run the network alone over so many tiles, on the threads it asks for.

    Gives the seconds without the opening.
    """
    from landcover.runtimes import open_runtime

    with open_runtime(checkpoint, runtime_name) as runtime:
        windows = [_filled(runtime, seed) for seed in range(4)]

        def call(i: int) -> None:
            runtime.logits(windows[i % 4])  # the result is let go, as in a whole run

        with ThreadPoolExecutor(runtime.workers) as pool:
            list(pool.map(call, range(2 * runtime.workers)))  # threads and memory are there
            started = time.perf_counter()
            list(pool.map(call, range(-(-tiles // runtime.group))))
            return time.perf_counter() - started


def plain(checkpoint: Checkpoint) -> float:
    """Seconds a tile of the network as anybody calls it: float32, batches of 4, torch's own threads."""
    import torch

    batch = torch.randn(4, len(BANDS), SPEC.tile, SPEC.tile)
    with torch.inference_mode():
        checkpoint.network(batch)
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() < started + _PROBE_SECONDS:
            checkpoint.network(batch)
            done += len(batch)
        return (time.perf_counter() - started) / done


def _filled(runtime: "Runtime", seed: int) -> NDArray[Any]:
    """Windows as the runtime wants them, full of noise."""
    from landcover.runtime import to_bfloat16

    windows = runtime.new_windows()
    values = np.random.default_rng(seed).normal(size=windows.shape).astype(np.float32)
    windows[:] = values if windows.dtype == np.float32 else to_bfloat16(values)
    return windows


def whole(image: Path, checkpoints: list[Checkpoint], runtime_name: str, folder: Path) -> None:
    """Map the image with our engine: classes and confidence, two COGs; the list is emptied."""
    from pipeline.segment import segment_image
    from pipeline.strip_reader import open_image

    outputs = {name: folder / f"{name}.tif" for name in ("classes", "confidence")}
    source = open_image(image, checkpoints[0].spec.bands)
    segment_image(source, checkpoints, outputs, runtime=runtime_name, report=lambda _: None)


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def probe(model: str, runtimes: Sequence[str]) -> dict[str, float]:
    """Megapixels of tiles a second of the bare model, by runtime."""
    checkpoint, found = checkpoint_of(model), {}
    for name in runtimes:
        few = bare(checkpoint, name, 16)
        tiles = min(2048, 16 + int(16 * _PROBE_SECONDS / few))
        found[name] = tiles * SPEC.tile**2 / 1e6 / bare(checkpoint, name, tiles)
    return found


def efficiency(model: str, runtime: str, folder: Path, size: int, rounds: int) -> dict[str, float]:
    """Bare and whole in turn: medians of their ratios, and the best speed of each."""
    checkpoint, image = checkpoint_of(model), make_image(folder, size)
    tiles = len(TileGrid(size, size, SPEC.tile, SPEC.overlap))
    whole(make_image(folder, 512), [checkpoint], runtime, folder)  # compiled loops are loaded
    pairs = [
        (
            seconds_of(lambda: bare(checkpoint, runtime, tiles)),
            seconds_of(lambda: whole(image, [checkpoint], runtime, folder)),
        )
        for _ in range(rounds)
    ]
    return {
        "efficiency": statistics.median(b[0] / w[0] for b, w in pairs),
        "efficiency_cpu_time": statistics.median(b[1] / w[1] for b, w in pairs),
        "bare_mpx_s": size**2 / 1e6 / min(b[0] for b, _ in pairs),
        "whole_mpx_s": size**2 / 1e6 / min(w[0] for _, w in pairs),
        "plain_mpx_s": size**2 / 1e6 / (tiles * plain(checkpoint_of(model))),
    }


def ours(model: str, runtime: str, image: Path, folder: Path) -> dict[str, float]:
    """One whole run: seconds and peak memory."""
    import pipeline.segment  # noqa: F401 -- imports are outside the clock, as with peers

    checkpoints = [checkpoint_of(model)]
    folder.mkdir(exist_ok=True)
    seconds, _ = seconds_of(lambda: whole(image, checkpoints, runtime, folder))
    return {"seconds": seconds, "peak_mb": peak_megabytes()}


def ours_of_file(model: str, runtime: str, image: Path, folder: Path) -> dict[str, float]:
    """One whole run as a user starts it, from a file of weights: seconds and peak memory."""
    from pipeline.segment import segment

    outputs = {name: folder / f"{name}.tif" for name in ("classes", "confidence")}
    work = partial(
        segment, image=image, model=folder / f"{model}.safetensors", runtime=runtime,
        report=lambda _: None, **outputs,
    )  # fmt: skip
    seconds, _ = seconds_of(work)
    return {"seconds": seconds, "peak_mb": peak_megabytes()}


def save(model: str, folder: Path) -> None:
    """Write a U-Net's untrained weights as a checkpoint."""
    folder.mkdir(exist_ok=True)
    spec = replace(SPEC, encoder=ENCODERS[model])
    save_checkpoint(folder / f"{model}.safetensors", checkpoint_of(model).network, spec)


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of this module in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peer(
    name: str, model: str, runtime: str | None, image: Path, output: Path, packages: Path
) -> dict[str, Any]:
    """One run of a peer: seconds and peak memory, or the reason why there is none."""
    output.parent.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("peers.py")), name, image, output]
    command += ["--model", model] + (["--runtime", runtime] if runtime else [])
    paths = [str(packages.absolute()), str(ROOT)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return {"not_measured": last[:160]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def share_equal(one: Path, other: Path, shift: int = 0) -> float:
    """Share of pixels whose codes are equal in two rasters once `shift` is added to the other's."""
    equal = total = 0
    with rasterio.open(one) as a, rasterio.open(other) as b:
        for _, window in a.block_windows(1):
            x, y = a.read(1, window=window), b.read(1, window=window)
            equal, total = equal + int(np.count_nonzero(x == y + shift)), total + x.size
    return equal / total


# --- the report


@dataclass
class Report:
    """Rows as they are measured, and the figures that goals are about."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def row(self, kind: str, **values: Any) -> None:
        """Keep a row and print it."""
        values = {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
        self.rows.append({"row": kind} | values)
        print(f"{kind:10}", "  ".join(f"{k} {v}" for k, v in values.items()), flush=True)

    def reached(self) -> dict[str, bool]:
        """Which of the goals that were measured are reached."""
        return {n: v >= LEAST[n] for n, v in self.figures.items() if n in LEAST} | {
            n: v <= MOST[n] for n, v in self.figures.items() if n in MOST
        }


def side_for(mpx_s: float, seconds: float, most: int) -> int:
    """Side of the largest square, halved from `most`, whose tiles the bare model does in time."""
    side = most
    overhead = (SPEC.tile / (SPEC.tile - SPEC.overlap)) ** 2
    while side >= 1024 and side**2 * overhead / 1e6 / mpx_s > seconds:
        side //= 2
    return side


def goal_runtime(speeds: Iterable[str]) -> str:
    """The torch runtime that the goals are about: bf16 if there is one, on the CPU."""
    return next((n for n in ("torch-bf16", "torch-fp32") if n in speeds), "")


def measure_efficiency(report: Report, model: str, folder: Path, options: Any) -> str:
    """Rows of one model on every runtime; gives the fastest."""
    speeds = alone(probe, model, options.runtimes or alone(available_names))
    fastest = max(speeds, key=lambda name: speeds[name])
    wanted = {"torch": goal_runtime(speeds), "fastest": fastest}
    for runtime, mpx_s in speeds.items():
        size = side_for(mpx_s, options.seconds, options.size)
        rounds = options.rounds if runtime in wanted.values() else 1
        found = alone(efficiency, model, runtime, folder, size, rounds)
        report.row("efficiency", model=model, runtime=runtime, size=size, rounds=rounds, **found)
        for name in (n for n, r in wanted.items() if r == runtime):
            report.figures[f"efficiency_{name}_{model}"] = found["efficiency"]
    return fastest


def measure_peers(report: Report, model: str, fastest: str, folder: Path, options: Any) -> None:
    """Rows of ours and of every peer, end to end; the worst ratio is the figure."""
    size = min(options.peer_size, options.size)
    image = make_image(folder, size)
    for given in (None, fastest):
        exact = folder / f"ours-{given or 'torch-fp32'}"
        alone(ours, model, given or "torch-fp32", image, exact)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("ours", *options.peers)}
        for _ in range(options.peer_rounds):
            runs["ours"].append(alone(ours, model, fastest, image, folder / "ours"))
            for name in options.peers:
                if all("seconds" in run for run in runs[name]):
                    output = folder / name / "classes.tif"
                    found = peer(name, model, given, image, output, options.packages)
                    runs[name].append(found)
        ratios = _peer_rows(report, runs, model, given or "as it is", size, fastest, exact)
        if ratios:
            suffix = "_with_our_runtime" if given else ""
            report.figures[f"speed_over_best_peer{suffix}_{model}"] = min(ratios)


def _peer_rows(
    report: Report, runs: dict[str, list[dict[str, Any]]], model: str, setting: str, size: int,
    fastest: str, exact: Path,
) -> list[float]:  # fmt: skip
    ratios = []
    for name, found in runs.items():
        facts = {"model": model, "who": name, "model_runs_as": setting, "size": size}
        if name == "ours":
            facts["model_runs_as"] = fastest
        if any("not_measured" in run for run in found):
            report.row("end to end", **facts, not_measured=found[-1]["not_measured"])
            continue
        facts["mpx_s"] = size**2 / 1e6 / statistics.median(run["seconds"] for run in found)
        facts["peak_mb"] = max(run["peak_mb"] for run in found)
        if name != "ours":
            pairs = zip(found, runs["ours"], strict=True)
            ratios.append(statistics.median(p["seconds"] / o["seconds"] for p, o in pairs))
            shift = int(name == "rastervision")  # it counts classes from 0
            equal = share_equal(exact / "classes.tif", exact.parent / name / "classes.tif", shift)
            facts |= {"seconds_over_ours": ratios[-1], "labels_equal": equal}
        report.row("end to end", **facts)
    return ratios


def measure_memory(report: Report, fastest: dict[str, str], folder: Path, options: Any) -> None:
    """Peaks of growing squares with the lightest model, and of a huge one with the heaviest, from its file."""
    light, heavy = options.models[0], options.models[-1]
    peaks = {}
    for size in (options.size // 2, options.size):
        found = alone(ours, light, fastest[light], make_image(folder, size), folder / "ours")
        peaks[size] = found["peak_mb"]
        report.row("memory", model=light, runtime=fastest[light], size=size, **found)
    report.figures["memory_growth_mb"] = peaks[options.size] - peaks[options.size // 2]
    image = make_image(folder, options.large, LARGE_ROWS)
    if heavy in ENCODERS:
        alone(save, heavy, folder / "ours")
    run = ours_of_file if heavy in ENCODERS else ours
    found = alone(run, heavy, fastest[heavy], image, folder / "ours")
    report.row("memory", model=heavy, runtime=fastest[heavy], size=options.large, **found)
    report.figures["memory_large_mb"] = found["peak_mb"]


def measure_agreement(report: Report, folder: Path, regions: int) -> None:
    """Share of labels of every runtime that equal the first one's, which is float32 on torch."""
    image = alone(make_composites, folder, range(HELD_OUT, HELD_OUT + regions))
    names = alone(available_names)
    for model in SHIPPED:
        for name in names:
            alone(ours, model, name, image, folder / f"{model}-{name}")
        exact = folder / f"{model}-{names[0]}" / "classes.tif"
        for name in names[1:]:
            share = share_equal(exact, folder / f"{model}-{name}" / "classes.tif")
            report.row("agreement", model=model, runtime=name, exact=names[0], labels_equal=share)
            least = report.figures.get("agreement_with_fp32", 1.0)
            report.figures["agreement_with_fp32"] = min(least, share)


def available_names() -> list[str]:
    """The runtimes of this machine, exact first."""
    from landcover.runtimes import available

    return available()


def processor() -> str:
    """Name of the CPU, and those of its abilities that decide how fast bf16 is."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = dict(
        line.split(":", 1) for line in info.read_text().splitlines() if line.count(":") >= 1
    )
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    flags = facts.get("flags", "").split()
    able = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    return (
        f"{facts.get('model name', platform.machine())}, {os.cpu_count()} cores, {' '.join(able)}"
    )


def note(cpu: str) -> str:
    """What must be known to read the figures of this machine."""
    if "amx_bf16" in cpu:
        return "bf16 by AMX: the goals are about this kind of machine."
    if "bf16" in cpu:
        return (
            "bf16 in hardware, but without AMX, where it is two to three times as fast as float32 (Zen 5) or no "
            "faster (Xeon): goals of speed over peers were set for machines with AMX, and 8x is not to be expected here."
        )
    return (
        "No bf16 in hardware: goals were set for machines with it; here float32 rows are held "
        "against them, and peers run the same arithmetic, so 8x is not to be expected."
    )


def names(text: str, known: Sequence[str]) -> list[str]:
    """Names from a comma-separated option; `all` and `none` are known too."""
    chosen = {"all": list(known), "none": []}.get(text, text.split(","))
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not among {', '.join(known)}")
    return chosen


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--models", type=lambda t: names(t, MODELS), default=list(MODELS[:3]))
    parser.add_argument("--runtimes", type=lambda t: t.split(","), help="default is all of here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=45, help="most of one bare run")
    parser.add_argument("--peers", type=lambda t: names(t, PEERS), default=list(PEERS))
    parser.add_argument("--packages", type=Path, default=ROOT / ".peers", help="peers live here")
    parser.add_argument("--peer-size", type=int, default=2048)
    parser.add_argument("--peer-rounds", type=int, default=2)
    parser.add_argument("--large", type=int, default=32768)
    parser.add_argument("--regions", type=int, default=3, help="simulated, for the agreement")
    parser.add_argument(
        "--quick", action="store_true", help="512 x 512, one model, float32, no peers, no agreement"
    )
    parser.add_argument("--keep", type=Path, help="folder in which the images stay")
    if parser.parse_args().quick:
        parser.set_defaults(size=512, large=1024, rounds=1, peer_rounds=1, regions=0)
        parser.set_defaults(models=["conv"], peers=[], runtimes=["torch-fp32"])
    return parser.parse_args()


def measure(folder: Path, options: argparse.Namespace) -> Report:
    """All measurements in one folder."""
    report = Report()
    alone(
        ours, options.models[0], "torch-fp32", make_image(folder, 512), folder / "ours"
    )  # compiles
    fastest = {}
    for model in options.models:
        fastest[model] = measure_efficiency(report, model, folder, options)
        if options.peers:
            measure_peers(report, model, fastest[model], folder, options)
    measure_memory(report, fastest, folder, options)
    if options.regions:
        measure_agreement(report, folder, options.regions)
    return report


def main() -> None:
    """Measure, print rows and then JSON."""
    options = parse()
    cpu = processor()
    print(f"{cpu}\n{note(cpu)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).absolute()
        folder.mkdir(exist_ok=True, parents=True)
        report = measure(folder, options)
    reached = report.reached()
    figures = {name: round(value, 4) for name, value in report.figures.items()}
    line = {"cpu": cpu, "note": note(cpu), "size": options.size, "rows": report.rows}
    line |= {"figures": figures, "goals": LEAST | MOST, "reached": reached}
    print(json.dumps(line | {"met": bool(reached) and all(reached.values())}))


if __name__ == "__main__":
    main()
