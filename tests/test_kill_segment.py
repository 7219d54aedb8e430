"""`landcover segment` killed at random moments: the rerun ends with the same bytes, and soon.

Each part kills once; LANDCOVER_KILLS=10 makes it 30 moments in all.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
import torch
from torch import nn

from landcover.checkpoint_file import save_checkpoint
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("LANDCOVER_KILLS", "1"))
BANDS = ("red", "nir", "swir16")
LEGEND = Legend(tuple(LandClass(c, f"class {c}", f"#{c:02x}8040") for c in (3, 1, 7, 200, 5)))
SPEC = ModelSpec(
    "tu-mobilenetv3_small_100", (32, 24, 16, 16, 8), BANDS, 1e-4, 0.0,
    (0.2, 0.3, 0.2), (0.1, 0.1, 0.1), LEGEND, 128, 32,
)  # fmt: skip
HEIGHT, WIDTH, BAND_ROWS = 3000, 224, 512
OUTPUTS = ("classes.tif", "confidence.tif")


@dataclass(frozen=True)
class Case:
    """An image, a model, and the map that an undisturbed run makes of them."""

    folder: Path
    seconds: float
    """From the first sign of work to the end."""
    expected: dict[str, bytes]


@dataclass
class Run:
    """A run in a process group of its own, from the moment it has begun to work."""

    process: subprocess.Popen[str]
    folder: Path
    screen: str = ""
    """What it printed until it ended or was killed."""

    @property
    def shards(self) -> Path:
        """Where its finished bands are."""
        return self.folder / "classes.tif.shards"

    def workers(self) -> list[psutil.Process]:
        """Its processes that do bands."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "--multiprocessing-fork" in child.cmdline()]

    def finish(self) -> str:
        """What it printed; it must end well."""
        self.wait()
        assert self.process.returncode == 0, self.screen
        return self.screen

    def wait(self) -> None:
        """Wait for its end."""
        self.screen += self.process.communicate(timeout=300)[0]


def start(case_folder: Path, folder: Path, *options: object) -> Run:
    """Start a run and wait until it has begun to work, or has ended."""
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "pipeline.cli", "segment", case_folder / "image.tif",
        "--model", case_folder / "random.safetensors", "-o", folder / "classes.tif",
        "--confidence", folder / "confidence.tif", "--band-rows", BAND_ROWS, "--device", "cpu", *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    run = Run(process, folder)
    known = set(run.shards.glob(".partial-*"))
    while process.poll() is None and not set(run.shards.glob(".partial-*")) - known:
        time.sleep(0.01)
    return run


def outputs(folder: Path) -> dict[str, bytes]:
    """The rasters that a run made, by name."""
    return {name: (folder / name).read_bytes() for name in OUTPUTS if (folder / name).exists()}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """An image of six bands of rows with a hole, a network with random weights, and their map."""
    folder = tmp_path_factory.mktemp("case")
    rng = np.random.default_rng(3)
    patches = rng.integers(500, 5000, (3, HEIGHT // 8 + 1, WIDTH // 8 + 1))
    pixels = np.repeat(np.repeat(patches, 8, 1), 8, 2)[:, :HEIGHT, :WIDTH].astype(np.uint16)
    pixels[:, HEIGHT // 3 : HEIGHT // 2, WIDTH // 3 : WIDTH // 2] = 0
    with rasterio.open(
        folder / "image.tif", "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=3,
        dtype="uint16", crs="EPSG:32633", nodata=0,
        transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = BANDS
    torch.manual_seed(1)
    network = SPEC.build()
    nn.init.normal_(network.segmentation_head[0].weight, std=2)
    save_checkpoint(folder / "random.safetensors", network, SPEC)
    run = start(folder, folder / "undisturbed")
    began = time.monotonic()
    run.finish()
    seconds = time.monotonic() - began
    expected = outputs(run.folder)
    assert sorted(expected) == list(OUTPUTS)
    return Case(folder, seconds, expected)


def moments(seed: int, seconds: float) -> Iterator[float]:
    """Random waits, most of which end before the run does."""
    rng = random.Random(seed)
    while True:
        yield rng.uniform(0, 0.7 * seconds)


def finished(run: Run) -> dict[str, int]:
    """Finished bands, and when each was written, nanoseconds."""
    return {entry.name: entry.stat().st_mtime_ns for entry in run.shards.glob("[0-9]*")}


def kill(run: Run) -> bool:
    """Kill a run and wait for all that it started; False where it had just ended by itself."""
    try:
        children = psutil.Process(run.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    run.process.kill()
    run.wait()
    assert not psutil.wait_procs(children, timeout=30)[1]  # its workers do not outlive it
    return run.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("options", "in_flight"), [((), 1), (("--workers", 2), 2)], ids=str)
def test_a_run_that_is_killed_goes_on_from_its_finished_bands(
    case: Case, tmp_path: Path, options: tuple[object, ...], in_flight: int
) -> None:
    """Killed again and again: no part of a map appears, no finished band is done again, same bytes."""
    kills = 0
    done: dict[str, int] = {}
    for wait in moments(in_flight, case.seconds):
        run = start(case.folder, tmp_path, *options)
        time.sleep(wait if kills < KILLS else 0)
        if kills < KILLS and kill(run):
            kills += 1
            assert outputs(tmp_path).items() <= case.expected.items()  # whole, or not there
            begun = finished(run)
            if begun or not outputs(tmp_path):  # else it was killed while it tidied up
                assert done.items() <= begun.items()
            # What dead writers left is removed by the next run: these are this run's.
            assert len(list(run.shards.glob(".partial-*"))) <= in_flight
            done = begun
            continue
        screen = run.finish()
        assert outputs(tmp_path) == case.expected
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".qml") == [
            "classes.tif", "classes.tif.aux.xml", "confidence.tif",
        ]  # fmt: skip
        if done:
            assert f"resumed, {len(done)} of 6 bands were done" in screen
        if kills == KILLS:
            break
        done = {}
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_worker_that_is_killed_costs_its_band(case: Case, tmp_path: Path) -> None:
    """One of two workers killed at a random moment: the run itself does its band again, same bytes."""
    kills = 0
    for wait in moments(3, case.seconds):
        run = start(case.folder, tmp_path / str(kills), "--workers", 2)
        time.sleep(wait)
        before = finished(run)
        workers = run.workers()
        if not workers:  # the bands were done
            run.finish()
            continue
        workers[kills % len(workers)].kill()
        kills += 1
        screen = run.finish()
        assert screen.count("a worker died") <= 1
        assert len(before) + screen.count("a worker died") <= 6
        assert outputs(run.folder) == case.expected
        assert not run.shards.exists()
        if kills == KILLS:
            break
