"""Write a small labelled dataset of simulated regions or photographs, to try training on."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import Affine

from landcover.errors import SettingsError
from landcover.landscape import build_landscape
from landcover.legend import LandClass, Legend
from landcover.photograph_simulation import COARSEST, ground_size, simulate_photograph
from landcover.simulation import COARSE_BANDS, LEGEND, Moment, Scenery, double, sensor_noise
from landcover.spectra import BANDS
from pipeline.artifacts import write_text
from pipeline.cog import CogProfile, open_cog

Kind = Literal["sentinel2", "photograph"]
"""What is simulated: satellite images of 10 m, or photographs from the air of 0.3 to 1.8 m."""
FIRST_SEED = 70_000
"""Regions have this seed and the following ones: none is the demo's, nor of the shipped weights."""
FIRST_PHOTOGRAPH = 40_000_000
"""Seed of the first photograph of `seed` 0; the shipped weights learnt from those of `seed` 7 (make weights-aerial)."""
PHOTOGRAPH_LEGEND = Legend(
    (
        LandClass(1, "Building", "#3c1098"),
        LandClass(2, "Land", "#8429f6"),
        LandClass(3, "Road", "#6ec1e4"),
        LandClass(4, "Vegetation", "#fedd3a"),
        LandClass(5, "Water", "#e2a929"),
    )
)
"""Classes of simulated photographs, those of examples/aerial-dubai.yml."""
_CRS = "EPSG:32633"
_CORNER = (399_360, 5_373_440)
"""East and north of the first region's corner, metres."""
_BLOCK = 256
"""Pixels of a block; regions begin at whole multiples, so that blocks are not cut."""
_PIXEL = 10
_FIRST_DAY, _LAST_DAY = 150, 250

Picture = tuple[NDArray[np.generic], NDArray[np.uint8]]
"""Bands (bands, rows, cols) and classes (rows, cols)."""


@dataclass(frozen=True)
class _Simulator:
    """How one kind of dataset is made and described."""

    title: str
    """What the images are."""
    bands: tuple[str, ...]
    dtype: str
    scale: str
    """From stored values to reflectance or brightness of 0 to 1."""
    legend: Legend
    first_seed: int
    pixel: Callable[[int], float]
    """Metres of a pixel, of a seed."""
    spacing: Callable[[int], int]
    """Metres from one image to the next, of their size in pixels."""
    block: Callable[[int], str]
    """Side of a block of the split, of the size in pixels."""
    picture: Callable[[int, int], Picture]
    """Image and labels, of a seed and a size."""


def simulate_dataset(
    *,
    output: Path,
    kind: Kind = "sentinel2",
    regions: int = 6,
    size: int = 512,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write `images/`, `labels/` and `dataset.yml` of simulated regions into a new folder.

    Each region is a cloudless image with the class of every pixel known: of a summer's day, surface
    reflectance x 10000 in six bands, or a photograph, 1 to 255 in red, green and blue. size: side of a
    region, pixels. seed: another one gives other regions. Raises SettingsError for a size that cannot
    be, or a folder that holds something.
    """
    simulator = _SIMULATORS[kind]
    if size < 64 or size % 2 or size > 4096:
        raise SettingsError(f"The size is {size}; give an even number of pixels from 64 to 4096.")
    if not 1 <= regions <= 1000:
        raise SettingsError(f"{regions} regions cannot be simulated; give 1 to 1000.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SettingsError(f"{output} holds something already; name a new or an empty folder.")
    partial = output.absolute().with_name(f".partial-{os.getpid()}-{output.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for number in range(regions):
            report(f"simulating region {number + 1} of {regions}")
            _write_region(
                partial, simulator, number, size, simulator.first_seed + 1000 * seed + number
            )
        write_text(partial / "dataset.yml", _description(simulator, size))
        if output.exists():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"dataset": str(output / "dataset.yml"), "regions": regions}


def _write_region(folder: Path, simulator: _Simulator, number: int, size: int, seed: int) -> None:
    step, pixel = simulator.spacing(size), simulator.pixel(seed)
    across, down = number % 10, number // 10
    corner = Affine(pixel, 0, _CORNER[0] + across * step, 0, -pixel, _CORNER[1] - down * step)
    grid = GeoBox((size, size), corner, _CRS)
    image, labels = simulator.picture(seed, size)
    name = f"region-{number + 1:03d}.tif"
    profile = CogProfile(simulator.dtype, simulator.bands, block=256)
    with open_cog(folder / "images" / name, grid, profile) as file:
        file.write(image)
    profile = CogProfile("uint8", ("class",), "mode", simulator.legend.colormap(), block=256)
    with open_cog(folder / "labels" / name, grid, profile) as file:
        file.write(labels[None])


def _region(seed: int, size: int) -> Picture:
    landscape = build_landscape(seed, (size, size))
    return _image(Scenery(landscape, seed), seed), landscape.cover


def _photograph(seed: int, size: int) -> Picture:
    image, labels = simulate_photograph(seed, size)
    return np.maximum(image.transpose(2, 0, 1), 1), labels  # 0 is nodata


def _image(scenery: Scenery, seed: int) -> NDArray[np.uint16]:
    """What the sensor sees, (bands, rows, cols); 1 is the least, as 0 is nodata."""
    rng = np.random.default_rng([seed, 7])
    moment = Moment(
        day=rng.uniform(_FIRST_DAY, _LAST_DAY), sun_azimuth=rng.uniform(140, 175),
        sun_elevation=rng.uniform(45, 63), seed=seed,
    )  # fmt: skip
    view = scenery.reflectance(moment)
    bands = [
        sensor_noise(
            double(view.coarse_band(band)) if band in COARSE_BANDS else view.band(band),
            10 * seed + place,
        )
        for place, band in enumerate(BANDS)
    ]
    return np.asarray(np.clip(np.rint(np.stack(bands) * 10_000), 1, 65_535), np.uint16)


def _description(simulator: _Simulator, size: int) -> str:
    """The YAML of the dataset."""
    legend = "".join(
        f'  - {{code: {c.code}, name: {c.name}, color: "{c.color}"}}\n'
        for c in simulator.legend.classes
    )
    return (
        f"# {simulator.title}: no image of the Earth, and the class of every pixel is known.\n"
        "name: simulated\n"
        "licence: CC0-1.0\n"
        "credit: simulated by landcover dataset simulate\n"
        f"bands: [{', '.join(simulator.bands)}]\n"
        f"scale: {simulator.scale}\n"
        f"legend:\n{legend}"
        "images:\n"
        '  - image: "images/{region}.tif"\n'
        '    labels: "labels/{region}.tif"\n'
        "splits:\n"
        f"  block: {simulator.block(size)}\n"
        "  shares: {train: 0.7, validation: 0.15, test: 0.15}\n"
    )


def _blocks_apart(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK * _PIXEL


def _photographs_apart(size: int) -> int:
    """One block for each photograph, whose pixels differ in size."""
    return int(size * COARSEST) + 1


_SIMULATORS: dict[Kind, _Simulator] = {
    "sentinel2": _Simulator(
        title="Simulated regions", bands=BANDS, dtype="uint16", scale="0.0001", legend=LEGEND, first_seed=FIRST_SEED,
        pixel=lambda _: _PIXEL, spacing=_blocks_apart, block=lambda _: f"{_BLOCK} px", picture=_region,
    ),
    "photograph": _Simulator(
        title="Simulated photographs", bands=("red", "green", "blue"), dtype="uint8", scale="0.00392156862745098",
        legend=PHOTOGRAPH_LEGEND, first_seed=FIRST_PHOTOGRAPH, pixel=ground_size, spacing=_photographs_apart,
        block=lambda size: f"{_photographs_apart(size)} m", picture=_photograph,
    ),
}  # fmt: skip
