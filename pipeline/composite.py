"""Scenes of a period become one cloud-free image on the region's grid."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.loader import RasterLoadParams, RasterSource, RioReader
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry

from landcover.bands import MASK, SCL_UNCLEAR, band_assets
from landcover.compositing import median_composite
from landcover.errors import RasterError
from landcover.grid import inside
from landcover.harmonization import (
    Harmonization,
    checked_offset,
    declared_offset,
    processing_baseline,
)
from pipeline.artifacts import Report
from pipeline.cog import CogProfile, open_cog

OBSERVATIONS = "observations"
"""Name of the composite's last band: the number of clear observations."""
_BLOCK = (512, 1024)
"""Rows and columns composited at a time. Fixed, because a warped pixel depends a little (GDAL's
transformer is exact to 1/8 pixel) on the window it is read in; so memory grows only with the dates."""
_HTTP = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_TIMEOUT": "30",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "TRUE",
    "AWS_NO_SIGN_REQUEST": "YES",
}
"""GDAL settings for reading COGs over HTTP; a variable that the user has set wins."""
_SCENES_AT_ONCE = 8
"""Scenes looked at together before compositing; the wait is for the network."""
_SAMPLE = 512
"""Side of the reduced image on which a scene's offset is checked, pixels."""


@dataclass(frozen=True)
class Scene:
    """One STAC item as the compositor sees it."""

    name: str
    """Item id."""
    day: str
    """Local solar day; scenes of one day and orbit are one observation."""
    sources: dict[str, RasterSource]
    """Where each band is, by common name; MASK among them if there is a cloud mask."""
    harmonization: Harmonization
    """What is added to its numbers."""


def composite(
    *,
    items: Path,
    grid: GeoBox,
    footprint: BaseGeometry,
    bands: Sequence[str],
    output: Path,
    report: Report = print,
) -> dict[str, Any]:
    """Write the median of the clear observations as a COG, and return what went into it.

    items: items.json. footprint: EPSG:4326; pixels whose centre is outside become nodata.
    The file holds uint16 reflectance x 10000 per band, 0 = nodata, and the number of clear
    observations as last band. Raises RasterError where a scene cannot be read or lacks a band, and
    where no pixel has a clear observation.
    """
    for name, value in _HTTP.items():  # the environment reaches every thread, rasterio.Env does not
        os.environ.setdefault(name, value)
    with ThreadPoolExecutor(_SCENES_AT_ONCE) as pool:
        found = [pystac.Item.from_dict(item) for item in _features(items)]
        scenes = list(pool.map(lambda item: _scene(item, bands), found))
    days = _days(scenes)
    profile = CogProfile(
        dtype="uint16",
        bands=[*bands, OBSERVATIONS],
        scales=[*[1e-4] * len(bands), 1.0],
        units=[*["reflectance"] * len(bands), "count"],
    )
    wanted = seen = 0
    with open_cog(output, grid, profile) as writer:
        for rows, image, count in _strips(days, grid, bands):
            keep = inside(grid[rows, :], footprint)
            wanted += int(np.count_nonzero(keep))
            seen += int(np.count_nonzero(count[keep]))
            writer.write(np.concatenate([image, count[None]]) * keep)
            report(f"composite: {rows.stop / grid.shape[0]:.0%} of {grid.shape[0]} rows")
        if seen == 0:
            raise RasterError(
                f"None of the {len(scenes)} scenes has a clear view of the region; "
                "choose a longer period or allow cloudier scenes."
            )
    return {
        "pixels_in_footprint": wanted,
        "pixels_without_observation": wanted - seen,
        "observation_days": len(days),
        "cloud_mask": {s.name: "scl" if MASK in s.sources else "none" for s in scenes},
        "harmonization": {s.name: vars(s.harmonization) for s in scenes},
    }


def _features(items: Path) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = json.loads(items.read_text(encoding="utf-8"))["features"]
    return features


def _scene(item: pystac.Item, bands: Sequence[str]) -> Scene:
    """Find the bands wanted among an item's assets; RasterError where one is missing."""
    found = band_assets({key: asset.to_dict() for key, asset in item.assets.items()})
    missing = [band for band in bands if band not in found]
    if missing:
        raise RasterError(
            f"Scene {item.id} has no band {', '.join(missing)} (it has {', '.join(sorted(found))}); "
            "choose another collection or model."
        )
    sources = {}
    for band in [*bands, *([MASK] if MASK in found else [])]:
        key, number = found[band]
        sources[band] = RasterSource(str(item.assets[key].get_absolute_href()), band=number)
        _check_driver(sources[band])
    declared = declared_offset(item.properties)
    baseline = processing_baseline(item.properties)
    if baseline is not None and "red" in sources:
        declared = checked_offset(declared, baseline, _sample(sources["red"]))
    return Scene(item.id, _solar_day(item), sources, declared)


def _check_driver(source: RasterSource) -> None:
    """A remote file must be an image itself: a VRT could make GDAL open any other file."""
    if "://" in source.uri:
        is_jpeg = urlsplit(source.uri).path.lower().endswith((".jp2", ".j2k"))
        driver = "JP2OpenJPEG" if is_jpeg else "GTiff"
        with _read_errors(source), rasterio.open(source.uri, driver=driver):
            pass


def _sample(source: RasterSource) -> NDArray[np.integer[Any]]:
    """A reduced image of a band, read from its overviews."""
    with _read_errors(source), rasterio.open(source.uri) as dataset:
        shape = (min(_SAMPLE, dataset.height), min(_SAMPLE, dataset.width))
        sample: NDArray[np.integer[Any]] = dataset.read(source.band, out_shape=shape)
        return sample


def _solar_day(item: pystac.Item) -> str:
    moment = item.datetime or item.common_metadata.start_datetime
    west, _, east, _ = item.bbox or [0.0, 0.0, 0.0, 0.0]
    hours = (west + east) / 2 / 15
    return "undated" if moment is None else str((moment + timedelta(hours=hours)).date())


def _days(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Scenes that together are one observation: same solar day, same offset."""
    days: dict[tuple[str, int], list[Scene]] = {}
    for scene in scenes:
        days.setdefault((scene.day, scene.harmonization.offset), []).append(scene)
    return list(days.values())


def _strips(
    days: Sequence[Sequence[Scene]], grid: GeoBox, bands: Sequence[str]
) -> Iterator[tuple[slice, NDArray[np.uint16], NDArray[np.uint16]]]:
    """Composite full-width strips from top to bottom: rows, (bands, rows, cols), (rows, cols)."""
    offsets = np.array([day[0].harmonization.offset for day in days], np.int32)
    columns = len(_cuts(grid.shape[1], _BLOCK[1]))
    parts: list[tuple[NDArray[np.uint16], NDArray[np.uint16]]] = []
    for (rows, _), values, clear in _read_ahead(days, grid, bands):
        parts.append(median_composite(values, clear, offsets))
        if len(parts) == columns:
            images, counts = zip(*parts, strict=True)
            yield rows, np.concatenate(images, axis=2), np.concatenate(counts, axis=1)
            parts.clear()


def _read_ahead(
    days: Sequence[Sequence[Scene]], grid: GeoBox, bands: Sequence[str]
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.uint16], NDArray[np.bool_]]]:
    """All observations of each block, in row-major order; the next block is read meanwhile."""
    rows, cols = (_cuts(length, step) for length, step in zip(grid.shape, _BLOCK, strict=True))
    blocks = [(r, c) for r in rows for c in cols]
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(os.cpu_count()) as readers:

        def read(block: tuple[slice, slice]) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
            done = list(readers.map(lambda day: _observation(day, grid[block], bands), days))
            return np.stack([values for values, _ in done]), np.stack([ok for _, ok in done])

        pending = ahead.submit(read, blocks[0])
        for block, following in itertools.zip_longest(blocks, blocks[1:]):
            values, clear = pending.result()
            if following:
                pending = ahead.submit(read, following)
            yield block, values, clear


def _cuts(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _observation(
    day: Sequence[Scene], block: GeoBox, bands: Sequence[str]
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """What one day shows of a block: (bands, rows, cols) numbers and (rows, cols) clear view.

    A pixel is taken whole from the first scene that shows it clearly.
    """
    values = np.zeros((len(bands), *block.shape), np.uint16)
    clear = np.zeros(block.shape, np.bool_)
    for scene in day:
        image = np.stack([_read(scene.sources[b], block, "bilinear") for b in bands])
        visible = (image != 0).all(axis=0)
        if MASK in scene.sources:
            visible &= ~np.isin(_read(scene.sources[MASK], block, "nearest"), SCL_UNCLEAR)
        np.copyto(values, image, where=visible & ~clear)
        clear |= visible
    return values, clear


def _read(source: RasterSource, block: GeoBox, resampling: str) -> NDArray[np.uint16]:
    """One band of one scene on the block's grid, 0 where it has no data."""
    how = RasterLoadParams(
        dtype="uint16", fill_value=0, src_nodata_fallback=0, resampling=resampling
    )
    out = np.zeros(block.shape, np.uint16)
    with _read_errors(source):
        roi, pixels = RioReader(source, None).read(how, block)  # type: ignore[arg-type] # no context is used
    out[roi] = pixels
    return out


@contextlib.contextmanager
def _read_errors(source: RasterSource) -> Iterator[None]:
    """A failed read is an error that names the file, never nodata."""
    try:
        yield
    except RasterioError as error:
        raise RasterError(
            f"{source.uri} cannot be read ({error}); check the file or the connection and run again."
        ) from error
