"""Writing a class COG with overviews, against the plain tiled file without any.

    python tests/benchmarks/bench_cog.py [--size 8192] [--rounds 9]

All take the same rows, a strip at a time, and are read back and compared. In turn: `plain` (GDAL,
tiled, zstd level 1, no overviews), `plain_threads` (the same with GDAL's own threads), `ours`
(open_cog), `shards` (bands of rows as tile files, then assemble_cog), `gdal` (plain, copied by GDAL's
COG driver). A ratio is the median of those of the rounds. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from rio_cogeo import cog_validate
from scipy.ndimage import gaussian_filter, zoom

from pipeline.cog import CogProfile, assemble_cog, open_cog
from pipeline.tile_file import TileFileWriter

ROWS = 512
"""Rows that come at a time, as from the segmentation engine."""
BAND = 2048
"""Rows of a shard."""
CLASSES = 8
COLORS = {code: (code * 25, 255 - code * 25, 128, 255) for code in range(1, CLASSES + 1)}
PROFILE = CogProfile("uint8", ["class"], "mode", COLORS)
GOALS = {"ours_over_plain": 1.10}
"""Most of ours to the plain file."""


def grid_of(size: int) -> GeoBox:
    """A square of 10 m pixels in UTM."""
    bounds = 500_000, 5_300_000 - size * 10, 500_000 + size * 10, 5_300_000
    return GeoBox.from_bbox(bounds, "EPSG:32633", resolution=10)


def class_map(size: int) -> NDArray[np.uint8]:
    """Class codes (1, rows, cols): patches of tens of pixels, rough borders, no data in a corner."""
    rng = np.random.default_rng(4)
    best = np.full((size, size), -np.inf, np.float32)
    classes = np.empty((size, size), np.uint8)
    for code in range(1, CLASSES + 1):
        rough = rng.normal(size=(size // 8, size // 8)).astype(np.float32)
        smooth = zoom(gaussian_filter(rough, 3), 8, order=1)
        smooth /= smooth.std()
        for row in range(0, size, ROWS):
            part = slice(row, row + ROWS)
            score = smooth[part] + 0.05 * rng.standard_normal(smooth[part].shape, np.float32)
            better = score > best[part]
            best[part][better] = score[better]
            classes[part][better] = code
    classes[: size // 8, : size // 8] = 0
    return classes[np.newaxis]


def strips(classes: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First row and pixels (1, rows, cols), from the top to the bottom."""
    for row in range(0, classes.shape[1], ROWS):
        yield row, classes[:, row : row + ROWS]


def plain(path: Path, classes: NDArray[np.uint8], threads: int = 1) -> None:
    """A tiled file by GDAL, without overviews."""
    grid = grid_of(classes.shape[1])
    with rasterio.open(
        path, "w", driver="GTiff", width=grid.shape[1], height=grid.shape[0], count=1, dtype="uint8",
        crs=str(grid.crs), transform=grid.transform, nodata=0, tiled=True, blockxsize=512,
        blockysize=512, compress="zstd", zstd_level=1, num_threads=threads,
    ) as dataset:  # fmt: skip
        dataset.write_colormap(1, COLORS)
        for row, pixels in strips(classes):
            dataset.write(pixels, window=Window(0, row, pixels.shape[2], pixels.shape[1]))


def plain_threads(path: Path, classes: NDArray[np.uint8]) -> None:
    """The same, compressed by as many threads as there are processors."""
    plain(path, classes, os.cpu_count() or 1)


def ours(path: Path, classes: NDArray[np.uint8]) -> None:
    """The COG, in one go."""
    with open_cog(path, grid_of(classes.shape[1]), PROFILE) as writer:
        for _, pixels in strips(classes):
            writer.write(pixels)


def shards(path: Path, classes: NDArray[np.uint8]) -> None:
    """The COG by way of bands of rows, as several processes make it."""
    size = classes.shape[1]
    files = []
    for start in range(0, size, BAND):
        files.append(path.with_suffix(f".{start}"))
        rows = range(start, min(start + BAND, size))
        with TileFileWriter(files[-1], grid_of(size), PROFILE, rows) as writer:
            for _, pixels in strips(classes[:, rows.start : rows.stop]):
                writer.write(pixels)
    assemble_cog(path, grid_of(size), PROFILE, files)
    for file in files:
        file.unlink()


def gdal(path: Path, classes: NDArray[np.uint8]) -> None:
    """The COG as we made it before: the plain file, then a copy by GDAL's COG driver."""
    first = path.with_suffix(".plain")
    plain(first, classes)
    rasterio.shutil.copy(
        first, path, driver="COG", blocksize=512, compress="zstd", level=1, predictor="no",
        overview_resampling="mode", num_threads="all_cpus",
    )  # fmt: skip
    first.unlink()


CONTESTANTS: list[Callable[[Path, NDArray[np.uint8]], None]] = [
    plain, plain_threads, ours, shards, gdal,
]  # fmt: skip


def check(folder: Path, classes: NDArray[np.uint8]) -> dict[str, float]:
    """Megabytes of each file; all hold the pixels, ours are strictly valid and equal each other."""
    for does in CONTESTANTS:
        does(folder / does.__name__, classes)
        with rasterio.open(folder / does.__name__) as dataset:
            assert all(
                np.array_equal(
                    dataset.read(window=Window(0, row, part.shape[2], part.shape[1])), part
                )
                for row, part in strips(classes)
            )
    assert cog_validate(folder / "ours", strict=True) == (True, [], [])
    assert (folder / "ours").read_bytes() == (folder / "shards").read_bytes()
    return {f"{c.__name__}_mb": (folder / c.__name__).stat().st_size / 1e6 for c in CONTESTANTS}


def times(folder: Path, classes: NDArray[np.uint8], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of every contestant in every round, in turn; then also processor seconds."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for does in CONTESTANTS:
            name = does.__name__
            (folder / name).unlink(missing_ok=True)
            wall, cpu = time.perf_counter(), time.process_time()
            does(folder / name, classes)
            found.setdefault(name, []).append(time.perf_counter() - wall)
            found.setdefault(f"{name}_cpu", []).append(time.process_time() - cpu)
    return found


def ratio(some: list[float], others: list[float]) -> float:
    """Median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(some, others, strict=True))


def main() -> None:
    """Measure, print a table and then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    classes = class_map(options.size)
    with tempfile.TemporaryDirectory() as temporary:
        sizes = check(Path(temporary), classes)
        found = times(Path(temporary), classes, options.rounds)
    print(f"{'':14}{'seconds':>9}{'x plain':>9}{'cpu s':>9}{'x plain':>9}{'MB':>9}")
    figures = dict(sizes)
    for name in (does.__name__ for does in CONTESTANTS):
        wall, cpu = found[name], found[f"{name}_cpu"]
        figures[f"{name}_s"], figures[f"{name}_cpu_s"] = map(statistics.median, (wall, cpu))
        figures[f"{name}_over_plain"] = ratio(wall, found["plain"])
        figures[f"{name}_over_plain_cpu"] = ratio(cpu, found["plain_cpu"])
        row = [f"{name}{key}" for key in ("_s", "_over_plain", "_cpu_s", "_over_plain_cpu", "_mb")]
        print(f"{name:14}" + "".join(f"{figures[key]:9.2f}" for key in row))
    figures["ours_over_plain_threads"] = ratio(found["ours"], found["plain_threads"])
    reached = {name: figures[name] <= goal for name, goal in GOALS.items()}
    line = {"size": options.size, "rounds": options.rounds, "goals": GOALS, "reached": reached}
    line |= {"figures": {name: round(value, 3) for name, value in figures.items()}}
    print(json.dumps(line | {"met": all(reached.values())}))


if __name__ == "__main__":
    main()
