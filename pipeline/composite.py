"""Scenes of a period become one cloud-free image on the region's grid."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from landcover.compositing import METHODS
from landcover.errors import RasterError, SettingsError
from landcover.grid import inside
from pipeline.artifacts import Report
from pipeline.band_names import check_names
from pipeline.block_compositor import BlockCompositor, FailedReadsError, Holes, preferences
from pipeline.cog import CogProfile, open_cog
from pipeline.heaps import share_heaps
from pipeline.items import frozen_scenes
from pipeline.observation import Layer, Observation, open_layer
from pipeline.raster_files import FailedReadError, RasterFiles
from pipeline.scenes import Scene, check_one_kind, read_scene
from pipeline.signing import Signer
from pipeline.window_reader import WindowReader

OBSERVATIONS = "observations"
"""Name of the composite's band that counts the clear observations."""
DAY = "day"
"""Name of its band that says of which day they are: days since 1970-01-01."""
_SCENES_AT_ONCE = 8
"""Scenes looked at together before compositing; the wait is for the network."""


class NoViewError(RasterError):
    """No scene shows the ground."""


def composite(
    *,
    items: Path,
    grid: GeoBox,
    footprint: BaseGeometry,
    bands: Sequence[str],
    output: Path,
    method: str = "median",
    cloud_buffer: float | None = None,
    hole_budget: float = 0.0,
    report: Report = print,
) -> dict[str, Any]:
    """Write the composite of the clear observations as a COG, and return what went into it.

    items: items.json. footprint: EPSG:4326; pixels whose centre is outside become nodata.
    method: one of landcover.compositing.METHODS. cloud_buffer: metres by which clouds and shadows
    grow; the default is each product's. hole_budget: percent of the windows (a scene's part of a
    block) that may be unreadable; they are left out and listed.
    The file holds uint16 per band (reflectance x 10000, or digital numbers of photographs), 0 =
    nodata, then the number of clear observations and the day of the one chosen (or nearest to the
    median), days since 1970-01-01. Raises CatalogError where a scene lacks a band or where
    photographs are among reflectance, RasterError where one cannot be read and no more failed reads are
    allowed, and where no pixel is seen clearly.
    """
    if method not in METHODS:
        raise SettingsError(f"The method '{method}' is not one of {', '.join(METHODS)}.")
    check_names(bands)
    scenes = [read_scene(item, bands) for item in frozen_scenes(items)]
    check_one_kind(scenes)
    share_heaps()
    with RasterFiles(Signer()) as files:
        reader = WindowReader(files, grid)
        holes = Holes(hole_budget, len(scenes))
        layers = _open_layers(scenes, bands, files, holes)
        observations = observe(layers)
        compositor = BlockCompositor(
            observations, bands, reader, holes, method, cloud_buffer,
            preferences(observations, reader, footprint, method, holes),
        )  # fmt: skip
        with open_cog(output, grid, _profile(scenes, bands, method, len(observations))) as writer:
            wanted = seen = 0
            progress = _Progress(compositor, report)
            for block, made in compositor.composites():
                keep = inside(grid[block], footprint)
                wanted += int(np.count_nonzero(keep))
                seen += int(np.count_nonzero(made.count[keep]))
                pixels = np.concatenate([made.image, made.count[None], made.day[None]])
                writer.place(pixels * keep, block)
                progress.step()
            if wanted and not seen and holes.failed:
                raise FailedReadsError("No pixel is seen clearly.", holes.failed)
            _check_seen(wanted, seen, len(scenes), grid)
        return _details(compositor, layers, wanted, seen)


def observe(layers: Iterable[Layer]) -> list[Observation]:
    """Scenes of one solar day, product and platform are one observation: granules of one orbit."""
    days: dict[tuple[str, str, str], list[Layer]] = {}
    for layer in layers:
        scene = layer.scene
        platform = str(scene.properties.get("platform", ""))
        days.setdefault((scene.day, scene.product.name, platform), []).append(layer)
    return [Observation(day, tuple(found)) for (day, _, _), found in days.items()]


def _open_layers(
    scenes: Sequence[Scene], bands: Sequence[str], files: RasterFiles, holes: Holes
) -> list[Layer]:
    """Look at the files of all scenes, several at a time."""

    def look(scene: Scene) -> Layer | None:
        try:
            return open_layer(scene, bands, files)
        except FailedReadError as error:
            holes.missed(scene.id, error)
            return None

    remote = any("://" in source.href for scene in scenes for source in scene.bands.values())
    workers = _SCENES_AT_ONCE if remote else 1
    with ThreadPoolExecutor(workers, initializer=files.settle_thread) as pool:
        return [layer for layer in pool.map(look, scenes) if layer is not None]


def _profile(
    scenes: Sequence[Scene], bands: Sequence[str], method: str, observations: int
) -> CogProfile:
    is_photo = any(scene.product.kind == "photo" for scene in scenes)
    scale, unit = (1.0, "digital number") if is_photo else (1e-4, "reflectance")
    return CogProfile(
        dtype="uint16",
        bands=[*bands, OBSERVATIONS, DAY],
        scales=[*[scale] * len(bands), 1.0, 1.0],
        units=[*[unit] * len(bands), "count", "days since 1970-01-01"],
        tags={"METHOD": method, "OBSERVATIONS": str(observations)},
    )


def _check_seen(wanted: int, seen: int, scenes: int, grid: GeoBox) -> None:
    if wanted == 0:
        raise RasterError(
            "No pixel has its centre inside the region; choose a finer resolution "
            f"(it is {abs(grid.resolution.x):g} in units of {grid.crs})."
        )
    if seen == 0:
        raise NoViewError(
            f"None of the {scenes} scenes has a clear view of the region; "
            "choose a longer period or allow cloudier scenes."
        )


def _details(
    compositor: BlockCompositor, layers: Sequence[Layer], wanted: int, seen: int
) -> dict[str, Any]:
    files = compositor.reader.files
    masks = {
        layer.scene.id: layer.scene.product.mask.band if layer.mask and layer.scene.product.mask else "none"
        for layer in layers
    }  # fmt: skip
    return {
        "method": compositor.method,
        "pixels_in_footprint": wanted,
        "pixels_without_observation": wanted - seen,
        "observation_days": len(compositor.observations),
        "products": {layer.scene.id: layer.scene.product.name for layer in layers},
        "cloud_mask": masks,
        "harmonization": {layer.scene.id: vars(layer.harmonization) for layer in layers},
        "reads": {
            "decoded_mb": round(compositor.reader.read_bytes / 1e6),
            "retried": dict(sorted(files.retries.items())),
            "failed": compositor.holes.failed,
        },
    }


class _Progress:
    """Says how far it is: blocks, speed, time left."""

    def __init__(self, compositor: BlockCompositor, report: Report) -> None:
        self._reader = compositor.reader
        self._total = len(compositor.blocks())
        self._scenes = sum(len(one.layers) for one in compositor.observations)
        self._report = report
        self._done = 0
        self._started = time.perf_counter()

    def step(self) -> None:
        """One more block is done."""
        self._done += 1
        seconds = max(time.perf_counter() - self._started, 1e-9)
        left = seconds / self._done * (self._total - self._done)
        self._report(
            f"composite: {self._done} of {_counted(self._total, 'block')} of "
            f"{_counted(self._scenes, 'scene')}, "
            f"{self._reader.read_bytes / 1e6 / seconds:,.0f} MB/s decoded, {left:,.0f} s left"
        )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
