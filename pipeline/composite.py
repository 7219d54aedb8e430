"""Scenes of a period become one cloud-free image on the region's grid."""

import contextlib
import itertools
import json
import logging
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
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from shapely.geometry.base import BaseGeometry

from landcover.bands import MASK, SCL_UNCLEAR, band_assets
from landcover.compositing import MAX_VALUE, median_composite
from landcover.errors import CatalogError, RasterError
from landcover.grid import inside
from landcover.harmonization import (
    Harmonization,
    checked_offset,
    declared_offset,
    declared_scaling,
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
}
"""GDAL settings for reading COGs over HTTP. Not for local files: they would hide their side-cars."""
_AWS_KEYS = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"}
_WHOLE_NUMBERS = ("uint8", "uint16", "int16")
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
    scaling: dict[str, tuple[float, float]]
    """Factor and summand from stored number to reflectance x 10000, of bands that need one."""
    masked: tuple[str, ...]
    """Bands whose file says by a mask or alpha where it has data, one for each such file."""
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
    logging.getLogger("odc.loader").setLevel(logging.CRITICAL)  # our own error names the file
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
        if wanted == 0:
            raise RasterError(
                "No pixel has its centre inside the region; choose a finer resolution "
                f"(it is {abs(grid.resolution.x):g} in units of {grid.crs})."
            )
        if seen == 0:
            raise RasterError(
                f"None of the {len(scenes)} scenes has a clear view of the region; "
                "choose a longer period or allow cloudier scenes."
            )
    return _details(scenes, days, wanted, seen)


def _details(
    scenes: Sequence[Scene], days: Sequence[Sequence[Scene]], wanted: int, seen: int
) -> dict[str, Any]:
    return {
        "pixels_in_footprint": wanted,
        "pixels_without_observation": wanted - seen,
        "observation_days": len(days),
        "cloud_mask": {s.name: "scl" if MASK in s.sources else "none" for s in scenes},
        "harmonization": {s.name: vars(s.harmonization) for s in scenes},
    }


def _features(items: Path) -> list[dict[str, Any]]:
    try:
        features: list[dict[str, Any]] = json.loads(items.read_text(encoding="utf-8"))["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(
            f"{items} is not a list of scenes ({error!r}); make it by landcover search."
        ) from error
    if not features:
        raise CatalogError(f"{items} holds no scene; search a longer period or another catalogue.")
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
    sources, scaling, masked = {}, {}, {}
    for band in [*bands, *([MASK] if MASK in found else [])]:
        key, number = found[band]
        asset = item.assets[key]
        sources[band] = RasterSource(str(asset.get_absolute_href()), band=number)
        if _inspect(sources[band], item.id):
            masked[sources[band].uri] = band
        if band != MASK and (rule := declared_scaling(item.properties, asset.to_dict(), number)):
            scaling[band] = rule
    decided = declared_offset(item.properties)
    baseline = processing_baseline(item.properties)
    if baseline is not None and "red" in sources:
        decided = checked_offset(decided, baseline, _sample(sources["red"]))
    day = _solar_day(item)
    return Scene(item.id, day, sources, scaling, tuple(masked.values()), decided)


@contextlib.contextmanager
def _open(source: RasterSource) -> Iterator[rasterio.DatasetReader]:
    """Open the file of a band.

    A remote file must be an image itself: a VRT could make GDAL open any other file.
    """
    remote = "://" in source.uri
    is_jpeg = urlsplit(source.uri).path.lower().endswith((".jp2", ".j2k"))
    driver = ("JP2OpenJPEG" if is_jpeg else "GTiff") if remote else None
    with _reading(source), rasterio.open(source.uri, driver=driver) as dataset:
        yield dataset


def _inspect(source: RasterSource, scene: str) -> bool:
    """Whether the file has a mask or alpha; RasterError where its numbers cannot be composited."""
    with _open(source) as dataset:
        kind = dataset.dtypes[source.band - 1]
        if kind not in _WHOLE_NUMBERS:
            raise RasterError(
                f"Scene {scene}: {source.uri} holds {kind}; only whole numbers ({', '.join(_WHOLE_NUMBERS)}, "
                "reflectance x 10000) can be composited: convert it."
            )
        if dataset.crs is None:
            raise RasterError(f"Scene {scene}: {source.uri} has no CRS; assign the right one.")
        flags = dataset.mask_flag_enums[source.band - 1]
        return MaskFlags.per_dataset in flags


def _sample(source: RasterSource) -> NDArray[np.integer[Any]]:
    """A reduced image of a band, read from its overviews."""
    with _open(source) as dataset:
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
        image = np.stack([_band(scene, band, block) for band in bands])
        visible = (image != 0).all(axis=0)
        for band in scene.masked:
            visible &= _has_data(scene.sources[band], block)
        if MASK in scene.sources:
            visible &= ~np.isin(_read(scene.sources[MASK], block, "nearest"), SCL_UNCLEAR)
        np.copyto(values, image, where=visible & ~clear)
        clear |= visible
    return values, clear


def _band(scene: Scene, band: str, block: GeoBox) -> NDArray[np.uint16]:
    """Stored numbers of a band, brought to reflectance x 10000 where the item says how; 0 = nodata."""
    numbers = _read(scene.sources[band], block, "bilinear")
    if band not in scene.scaling:
        return numbers
    factor, summand = scene.scaling[band]
    scaled = np.clip(np.rint(numbers * factor + summand), 1, MAX_VALUE).astype(np.uint16)
    return np.where(numbers == 0, np.uint16(0), scaled)


def _read(source: RasterSource, block: GeoBox, resampling: str) -> NDArray[np.uint16]:
    """One band of one scene on the block's grid, 0 where it has no data."""
    how = RasterLoadParams(
        dtype="uint16", fill_value=0, src_nodata_fallback=0, resampling=resampling
    )
    out = np.zeros(block.shape, np.uint16)
    with _reading(source):
        roi, pixels = RioReader(source, None).read(how, block)  # type: ignore[arg-type] # no context is used
    out[roi] = pixels
    return out


def _has_data(source: RasterSource, block: GeoBox) -> NDArray[np.bool_]:
    """Where the file's own mask or alpha says that there is data, on the block's grid."""
    rows, cols = block.shape
    with (
        _open(source) as dataset,
        WarpedVRT(
            dataset, crs=str(block.crs), transform=block.transform, height=rows, width=cols,
            add_alpha=ColorInterp.alpha not in dataset.colorinterp, nodata=None,
        ) as warped,
    ):  # fmt: skip
        seen: NDArray[np.bool_] = warped.dataset_mask() > 0
        return seen


@contextlib.contextmanager
def _reading(source: RasterSource) -> Iterator[None]:
    """Settings for the network where the file is remote; a failed read is an error, never nodata."""
    settings = _HTTP if "://" in source.uri else {}
    if settings and not _AWS_KEYS & set(os.environ):
        settings = settings | {"AWS_NO_SIGN_REQUEST": "YES"}
    try:
        with rasterio.Env(**settings):
            yield
    except RasterioError as error:
        raise RasterError(
            f"{source.uri} cannot be read ({error}); check the file or the connection and run again."
        ) from error
