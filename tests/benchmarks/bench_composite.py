"""How fast a masked median of many scenes is made, beside reading alone and the usual recipes.

Run: python tests/benchmarks/bench_composite.py [--size 2048] [--dates 12] [--rounds 5]
Made scenes, 4 bands at 10 m and the scene classification at 20 m. In one process, in turn, round by
round (a busy machine slows all alike; ratios are medians over the rounds):
  read     plain rasterio reads of the same files, as many threads, nothing else
  ours     the compositing engine, to the finished array
  verb     `composite` as a whole, to the finished COG
  bottle   odc-stac, then bottleneck.nanmedian over float32 blocks
  xarray   odc-stac, then masked `.median("time")`; slow, so in fewer rounds
The result is compared with numpy.nanmedian in every pixel. Peak memory is that of a process of its
own: at 2048 x 2048, at 8192 x 8192 and with 40 dates.
The last line is JSON: figures, goals, met.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import bottleneck
import numpy as np
import odc.stac
import pystac
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from scipy.ndimage import zoom
from shapely.geometry import mapping

from pipeline.block_compositor import BlockCompositor, Holes
from pipeline.composite import composite, observe
from pipeline.heaps import share_heaps
from pipeline.observation import open_layer
from pipeline.raster_files import RasterFiles
from pipeline.scenes import read_scene
from pipeline.signing import Signer
from pipeline.window_reader import WindowReader

BANDS = ("blue", "green", "red", "nir")
UNCLEAR = (0, 1, 3, 8, 9, 10)
_HIDES = np.isin(np.arange(256), UNCLEAR)
THREADS = os.cpu_count() or 1
ROWS = 512
"""Rows of a window that `read` reads, and of a block of the files."""
GOALS = {
    "bottle_over_ours": 3.0,
    "xarray_over_ours": 20.0,
    "ours_over_read": 1.4,
    "peak_mb": 700.0,
    "peak_growth": 1.1,
}
"""Least ratios of the recipes' time to ours; most of ours to reading, of memory, and of its growth."""


def grid_of(size: int) -> GeoBox:
    """A square of 10 m pixels in UTM."""
    return GeoBox.from_bbox(
        (500_000, 5_300_000 - size * 10, 500_000 + size * 10, 5_300_000),
        "EPSG:32633",
        resolution=10,
    )


def clouds(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """Blobs that hide a random share of a square, tens of pixels in size."""
    rough = rng.normal(size=(size // 64 + 1, size // 64 + 1)).astype(np.float32)
    smooth = zoom(rough, 64, order=1)[:size, :size]
    return np.asarray(smooth > rng.uniform(-0.5, 1.5))


def save(path: Path, pixels: NDArray[Any], grid: GeoBox) -> None:
    """Write one band as providers do: tiled, deflate, with predictor."""
    rows, cols = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=cols, height=rows, count=1, dtype=pixels.dtype, nodata=0,
        crs=str(grid.crs), transform=grid.transform, tiled=True, blockxsize=ROWS, blockysize=ROWS,
        compress="deflate", predictor=2, zlevel=6, num_threads=THREADS,
    ) as dataset:  # fmt: skip
        dataset.write(pixels, 1)


def make_scene(folder: Path, number: int, size: int) -> None:
    """Write a date: fields of 16 pixels under sensor noise, clouds bright, 60 % of the raw bytes."""
    rng = np.random.default_rng(number)
    ground = np.random.default_rng(99)
    grid = grid_of(size)
    hidden = clouds(rng, size // 2)
    scl = np.where(hidden, 9, ground.choice([4, 5, 6], (size // 2, size // 2))).astype(np.uint8)
    save(folder / f"{number}_SCL.tif", scl, grid.zoom_out(2))
    bright = np.repeat(np.repeat(hidden, 2, 0), 2, 1)
    for band in BANDS:
        fields = ground.integers(300, 3000, (size // 16 + 1, size // 16 + 1))
        pixels = np.repeat(np.repeat(fields, 16, 0), 16, 1)[:size, :size] + 5000 * bright
        pixels = pixels + rng.normal(0, 25, (size, size))
        save(folder / f"{number}_{band}.tif", np.clip(pixels, 1, 12000).astype(np.uint16), grid)


def item(folder: Path, number: int, date: int, size: int) -> dict[str, Any]:
    """A STAC item of scene `number` (its files may serve several dates)."""
    grid = grid_of(size)
    footprint = grid.extent.to_crs("EPSG:4326").geom

    def asset(name: str, cells: GeoBox) -> dict[str, Any]:
        return {
            "href": str(folder / f"{number}_{name}.tif"),
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "proj:shape": list(cells.shape),
            "proj:transform": list(cells.transform)[:6],
            "eo:bands": [{"name": name} | ({} if name == "SCL" else {"common_name": name})],
            "raster:bands": [{"nodata": 0, "data_type": "uint8" if name == "SCL" else "uint16"}],
        }

    assets = {band: asset(band, grid) for band in BANDS} | {"scl": asset("SCL", grid.zoom_out(2))}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"scene-{date:03d}",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
        "collection": "sentinel-2-l2a", "geometry": mapping(footprint), "links": [],
        "bbox": list(footprint.bounds), "assets": assets,
        "properties": {
            "datetime": f"2020-{date // 25 + 1:02d}-{date % 25 + 1:02d}T10:00:00Z",
            "platform": "sentinel-2a", "constellation": "sentinel-2",
            "s2:processing_baseline": "02.14", "proj:epsg": 32633,
        },
    }  # fmt: skip


def make_items(folder: Path, size: int, dates: int, scenes: int) -> Path:
    """Write as many scenes and an item list of as many dates, which take their files in turn."""
    folder.mkdir(exist_ok=True)
    for number in range(scenes):
        if not (folder / f"{number}_SCL.tif").exists():
            make_scene(folder, number, size)
    items = folder / f"{dates}.json"
    features = [item(folder, date % scenes, date, size) for date in range(dates)]
    items.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return items


def read(items: Path, _size: int) -> None:
    """Decode every file once, strip by strip."""

    def one(href: str) -> None:
        with rasterio.open(href) as dataset:
            for row in range(0, dataset.height, ROWS):
                rows = min(ROWS, dataset.height - row)
                dataset.read(1, window=Window(0, row, dataset.width, rows))

    features = json.loads(items.read_text())["features"]
    hrefs = [asset["href"] for feature in features for asset in feature["assets"].values()]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, hrefs))


def verb(items: Path, size: int) -> None:
    """Our composite, to the file."""
    grid = grid_of(size)
    footprint = grid.extent.to_crs("EPSG:4326").geom.buffer(0.01)
    composite(
        items=items, grid=grid, footprint=footprint, bands=BANDS,
        output=items.with_name("composite.tif"), report=lambda _: None,
    )  # fmt: skip


def ours(items: Path, size: int) -> NDArray[np.uint16]:
    """Our composite, to the array (band, rows, cols)."""
    image = np.empty((len(BANDS), size, size), np.uint16)
    scenes = [read_scene(f, BANDS) for f in json.loads(items.read_text())["features"]]
    share_heaps()
    with RasterFiles(Signer()) as files:
        reader = WindowReader(files, grid_of(size))
        with ThreadPoolExecutor(THREADS, initializer=files.settle_thread) as pool:
            layers = list(pool.map(lambda scene: open_layer(scene, BANDS, files), scenes))
        compositor = BlockCompositor(observe(layers), BANDS, reader, Holes(0.0), cloud_buffer=0.0)
        for block, made in compositor.composites():
            image[:, *block] = made.image
    return image


def loaded(items: Path, size: int, block: int) -> xr.Dataset:
    """The stack as odc-stac gives it: lazy, one day after another."""
    features = json.loads(items.read_text())["features"]
    found: xr.Dataset = odc.stac.load(
        [pystac.Item.from_dict(f) for f in features], bands=[*BANDS, "scl"], geobox=grid_of(size),
        groupby="solar_day", resampling="nearest", chunks={"x": block, "y": block},
    )  # fmt: skip
    return found


def xarray(items: Path, size: int) -> xr.Dataset:
    """The recipe of the tutorials."""
    stack = loaded(items, size, 2048)
    bands = stack[list(BANDS)]
    # As it is where bottleneck is not installed: with it, xarray calls the next recipe by itself.
    with warnings.catch_warnings(), xr.set_options(use_bottleneck=False):
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without observation
        clear = ~stack["scl"].isin(UNCLEAR) & (bands != 0)
        return bands.where(clear).median("time").compute(scheduler="threads", num_workers=THREADS)


def _reduced(values: NDArray[np.uint16], scl: NDArray[np.uint8]) -> NDArray[np.float32]:
    numbers = values.astype(np.float32)
    numbers[_HIDES[scl] | (values == 0)] = np.nan
    median: NDArray[np.float32] = bottleneck.nanmedian(numbers, axis=0)
    return median


def bottle(items: Path, size: int) -> xr.Dataset:
    """The best recipe known: whole time series to a block, reduced by bottleneck."""
    stack = loaded(items, size, 1024).chunk(time=-1)
    scl = stack["scl"].data
    reduced = {
        b: (("y", "x"), stack[b].data.map_blocks(_reduced, scl, drop_axis=0, dtype="float32"))
        for b in BANDS
    }
    return xr.Dataset(reduced).compute(scheduler="threads", num_workers=THREADS)


def expected(items: Path, band: str) -> NDArray[np.uint16]:
    """The composite of one band by numpy.nanmedian."""
    numbers = []
    for feature in json.loads(items.read_text())["features"]:
        with (
            rasterio.open(feature["assets"][band]["href"]) as image,
            rasterio.open(feature["assets"]["scl"]["href"]) as mask,
        ):
            hidden = np.isin(np.repeat(np.repeat(mask.read(1), 2, 0), 2, 1), UNCLEAR)
            values = image.read(1).astype(np.float32)
        values[hidden | (values == 0)] = np.nan
        numbers.append(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without observation
        median: NDArray[np.float32] = np.rint(np.nanmedian(np.stack(numbers), axis=0))
    return np.nan_to_num(median, nan=0).astype(np.uint16)


def differing(items: Path, image: NDArray[np.uint16]) -> int:
    """Numbers of our composite that are not numpy's."""
    pairs = zip(image, BANDS, strict=True)
    return sum(int(np.count_nonzero(ours != expected(items, band))) for ours, band in pairs)


_MEASURE = """
import sys
from pathlib import Path
from odc.geo.geobox import GeoBox
from pipeline.composite import composite
items, size, bands = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
grid = GeoBox.from_bbox((500_000, 5_300_000 - size * 10, 500_000 + size * 10, 5_300_000), "EPSG:32633", resolution=10)
composite(items=items, grid=grid, footprint=grid.extent.to_crs("EPSG:4326").geom.buffer(0.01),
          bands=bands, output=items.with_name("composite.tif"), report=lambda _: None)
status = Path("/proc/self/status").read_text().split()
print(int(status[status.index("VmHWM:") + 1]) / 1024)
"""
"""The kernel's own high-water mark; getrusage's would be inherited from the process that starts it."""


def peak(items: Path, size: int) -> float:
    """Most memory that the whole verb takes in a process of its own, MB."""
    command = [sys.executable, "-c", _MEASURE, str(items), str(size), ",".join(BANDS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Times:
    """Wall and processor seconds of one contestant, round by round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, work: Callable[[], object]) -> None:
        """Measure some work once."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)

    def over(self, other: "Times") -> float:
        """Median of the paired ratios of wall time."""
        return statistics.median(a / b for a, b in zip(self.wall, other.wall, strict=False))

    def cpu_over(self, other: "Times") -> float:
        """The same of processor time: it says the same on a busy machine."""
        return statistics.median(a / b for a, b in zip(self.cpu, other.cpu, strict=False))


def times(items: Path, size: int, rounds: int, slow_rounds: int) -> dict[str, Times]:
    """Seconds of every contestant in every round, in turn."""
    work: dict[str, Callable[[Path, int], object]] = {
        "read": read, "ours": ours, "verb": verb, "bottle": bottle, "xarray": xarray,
    }  # fmt: skip
    found = {name: Times() for name in work}
    for number in range(rounds):
        for name, does in work.items():
            if name != "xarray" or number < slow_rounds:
                found[name].take(partial(does, items, size))
        print(f"round {number + 1}:", {name: round(t.wall[-1], 2) for name, t in found.items()})
    return found


def ratios(found: dict[str, Times]) -> dict[str, float]:
    """Medians of the paired ratios, in wall time and in processor time."""
    pairs = [("ours", "read"), ("verb", "read"), ("bottle", "ours"), ("xarray", "ours")]
    wall = {f"{a}_over_{b}": found[a].over(found[b]) for a, b in pairs}
    return wall | {f"{a}_over_{b}_cpu": found[a].cpu_over(found[b]) for a, b in pairs}


def memory(folder: Path, options: argparse.Namespace, items: Path) -> dict[str, float]:
    """Peak memory as asked for, with 40 dates, and of the larger square."""
    figures = {"peak_mb": peak(items, options.size)}
    many = make_items(folder / "small", options.size, options.many, options.dates)
    figures["peak_mb_many_dates"] = peak(many, options.size)
    large = make_items(folder / "large", options.large, options.dates, 1)
    figures["peak_mb_large"] = peak(large, options.large)
    shutil.rmtree(folder / "large")
    return figures


def met(figures: dict[str, float]) -> dict[str, bool]:
    """Which goals are reached."""
    growth = max(figures["peak_mb_many_dates"], figures["peak_mb_large"]) / figures["peak_mb"]
    return {
        "bottle_over_ours": figures["bottle_over_ours"] >= GOALS["bottle_over_ours"],
        "xarray_over_ours": figures["xarray_over_ours"] >= GOALS["xarray_over_ours"],
        "ours_over_read": figures["ours_over_read"] <= GOALS["ours_over_read"],
        "peak_mb": figures["peak_mb"] <= GOALS["peak_mb"],
        "peak_growth": growth <= GOALS["peak_growth"],
        "equal": figures["differing"] == 0,
    }


def main() -> None:
    """Measure, print a table and then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--dates", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=2)
    parser.add_argument("--large", type=int, default=8192)
    parser.add_argument("--many", type=int, default=40)
    parser.add_argument("--keep", type=Path, help="folder in which the scenes stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        report(folder, options)


def report(folder: Path, options: argparse.Namespace) -> None:
    """All measurements in one folder."""
    folder.mkdir(exist_ok=True, parents=True)
    items = make_items(folder / "small", options.size, options.dates, options.dates)
    used = sum(f.stat().st_size for f in (folder / "small").glob("[0-9]*_[a-z]*.tif"))
    raw = options.dates * len(BANDS) * options.size**2 * 2
    print(
        f"{options.dates} dates x {len(BANDS)} bands x {options.size}^2, {used / raw:.0%} of raw size"
    )
    verb(items, options.size)
    figures: dict[str, float] = {"differing": differing(items, ours(items, options.size))}
    found = times(items, options.size, options.rounds, options.slow_rounds)
    figures |= {f"{name}_s": statistics.median(t.wall) for name, t in found.items()}
    figures |= ratios(found)
    figures |= memory(folder, options, items)
    figures = {name: round(value, 3) for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name:20} {value:10.3f}")
    reached = met(figures)
    line = {"size": options.size, "dates": options.dates, "figures": figures, "goals": GOALS}
    print(json.dumps(line | {"reached": reached, "met": all(reached.values())}))


if __name__ == "__main__":
    main()
