"""Write a simulated Sentinel-2 region to disk: scenes, their STAC catalogue, footprint and truth."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, box, polygon
from rasterio import Affine
from rasterio.io import MemoryFile

from landcover.bands import MASK, SENTINEL2
from landcover.errors import SettingsError
from landcover.grid import output_grid
from landcover.landscape import build_landscape
from landcover.simulation import (
    COARSE_BANDS,
    LEGEND,
    Moment,
    Scenery,
    Sky,
    classify_scene,
    draw_sky,
    halve,
    sensor_noise,
    through_sky,
)
from pipeline.artifacts import code_version, fingerprint, write_json, write_text
from pipeline.cog import CogProfile, open_cog

PERIOD = "2024-05-01/2024-09-30"
_CRS = "EPSG:32633"
_CORNER = (468_000, 5_372_000)
"""East and north of the scenes' upper left corner, metres; in Lower Austria."""
_INSET = 7.3
"""Pixels from the scenes' border to the footprint; the .3 keeps pixel centres off its outline."""
_MARKER = "demo.json"
_FINE = ("blue", "green", "red", "nir")
_EXTENSIONS = ("eo/v1.1.0", "projection/v2.0.0", "raster/v1.1.0", "view/v1.0.0")


@dataclass(frozen=True)
class DemoRegion:
    """Where a demo lies on disk."""

    folder: Path
    catalog: Path
    """STAC items, one a line; hrefs are absolute."""
    region: Path
    """GeoJSON of the footprint, EPSG:4326."""
    truth: Path
    """Class raster on the grid that the footprint gives at 10 m."""
    period: str
    """Days that the scenes span, `start/end`."""
    seed: int


@dataclass(frozen=True)
class _Pass:
    """One overflight of the satellite."""

    day: date
    platform: str
    baseline: str
    """Processing baseline; from 04.00 on, stored values carry an offset of 1000."""
    clouds: float
    covered: tuple[float, float] = (0.0, 1.0)
    """Where the orbit's swath starts and ends, as shares of the scene's width at mid height."""


_PASSES = (
    _Pass(date(2024, 5, 9), "sentinel-2a", "03.01", 0.10),
    _Pass(date(2024, 5, 24), "sentinel-2b", "03.01", 0.34),
    _Pass(date(2024, 6, 13), "sentinel-2b", "03.01", 0.008),
    _Pass(date(2024, 7, 8), "sentinel-2a", "05.09", 0.24, (0.0, 0.62)),
    _Pass(date(2024, 7, 28), "sentinel-2a", "05.10", 0.006),
    _Pass(date(2024, 8, 17), "sentinel-2a", "05.10", 0.42),
    _Pass(date(2024, 9, 6), "sentinel-2a", "05.10", 0.14, (0.36, 1.0)),
    _Pass(date(2024, 9, 21), "sentinel-2b", "05.10", 0.08),
)


def make_demo(folder: Path, seed: int, size: int = 1536) -> DemoRegion:
    """Write the scenes, `catalog.ndjson`, `region.geojson` and `truth.tif` of a simulated region.

    size: side of the square scenes, pixels of 10 m; even, 128 or more. A complete demo of the same
    arguments and code is left as it is; an older demo is replaced as a whole.
    Raises SettingsError for a size that cannot be, or a folder that holds something else.
    """
    if size < 128 or size % 2:
        raise SettingsError(
            f"The demo's size is {size}; give an even number of pixels from 128 up."
        )
    folder = folder.absolute()
    made = DemoRegion(
        folder,
        folder / "catalog.ndjson",
        folder / "region.geojson",
        folder / "truth.tif",
        PERIOD,
        seed,
    )
    key = fingerprint(str(folder), seed, size, code_version())
    if _current(folder, key):
        return made
    partial = folder.with_name(f".partial-{os.getpid()}-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write(partial, folder, seed, size)
        write_json(partial / _MARKER, {"seed": seed, "size": size, "key": key})
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


def _current(folder: Path, key: str) -> bool:
    if not folder.exists():
        return False
    marker = folder / _MARKER
    if not marker.is_file():
        if any(folder.iterdir()):
            raise SettingsError(
                f"{folder} holds files that are not a demo; name a new or an empty folder."
            )
        return False
    try:
        return bool(json.loads(marker.read_text(encoding="utf-8")).get("key") == key)
    except (ValueError, AttributeError):
        return False


def _write(partial: Path, final: Path, seed: int, size: int) -> None:
    grid = GeoBox((size, size), Affine(10, 0, _CORNER[0], 0, -10, _CORNER[1]), _CRS)
    landscape = build_landscape(seed, (size, size))
    scenery = Scenery(landscape, seed)
    footprint = _footprint(grid)
    region = {"type": "Feature", "properties": {"name": "demo"}, "geometry": footprint.json}
    write_json(partial / "region.geojson", {"type": "FeatureCollection", "features": [region]})
    _write_truth(partial / "truth.tif", landscape.cover, grid, footprint)
    (partial / "scenes").mkdir()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        jobs = [
            threads.submit(_write_scene, p, scenery, grid, seed, partial, final) for p in _PASSES
        ]
        items = [job.result() for job in jobs]
    write_text(partial / "catalog.ndjson", "".join(json.dumps(item) + "\n" for item in items))


def _footprint(grid: GeoBox) -> Geometry:
    west, south, east, north = grid.extent.boundingbox.bbox
    inset = 10 * _INSET
    inner = box(west + inset, south + inset, east - inset, north - inset, grid.crs)
    return inner.to_crs("EPSG:4326", resolution=500)


def _write_truth(path: Path, cover: NDArray[np.uint8], grid: GeoBox, footprint: Geometry) -> None:
    inner = output_grid(footprint.geom, 10)
    col, row = (int(v) for v in ~grid.transform * (inner.transform.c, inner.transform.f))
    profile = CogProfile(
        "uint8", ("class",), "mode", LEGEND.colormap(),
        {"LEGEND": json.dumps(LEGEND.to_records()), "DESCRIPTION": "simulated land cover"},
    )  # fmt: skip
    rows, cols = inner.shape
    with open_cog(path, inner, profile) as writer:
        writer.write(cover[None, row : row + rows, col : col + cols])


# --- scenes


def _write_scene(
    overflight: _Pass, scenery: Scenery, grid: GeoBox, seed: int, partial: Path, final: Path
) -> dict[str, Any]:
    number = overflight.day.timetuple().tm_yday
    moment = Moment(number, *_sun(number), overflight.clouds, seed * 1000 + number)
    view = scenery.reflectance(moment)
    shape = scenery.landscape.material.shape
    sky = draw_sky(shape, moment)
    sky_20m = Sky(halve(sky.opacity), halve(sky.sunlight))
    seen = _swath(shape, overflight.covered)
    name = f"S2{overflight.platform[-1].upper()}_33UVP_{overflight.day:%Y%m%d}_SIM"
    folder = partial / "scenes" / name
    folder.mkdir()
    clear: dict[str, NDArray[np.float32]] = {}
    for place, band in enumerate((*_FINE, *COARSE_BANDS)):
        fine = band in _FINE
        clear[band] = view.band(band) if fine else view.coarse_band(band)
        air = through_sky(clear[band], band, sky if fine else sky_20m)
        values = _digital(sensor_noise(air, moment.seed * 10 + place), overflight.baseline)
        values[~(seen if fine else seen[::2, ::2])] = 0
        _write_band(folder / f"{name}_{_KEY[band]}.tif", values, grid, overflight)
    codes = classify_scene(
        halve(clear["red"]), halve(clear["nir"]), clear["swir16"], sky_20m, moment.seed
    )
    codes[~seen[::2, ::2]] = 0
    _write_band(folder / f"{name}_SCL.tif", codes, grid, overflight)
    return _item(name, overflight, moment, codes, grid, final / "scenes" / name)


_KEY = {common: key for key, common in SENTINEL2.items()}


def _sun(day: float) -> tuple[float, float]:
    """Azimuth and elevation of the sun at 10:00 UTC at 48.5 degrees north, about."""
    return 158.0 - 10 * np.cos((day - 172) / 58), 41.0 + 22 * np.cos((day - 172) / 58)


def _swath(shape: tuple[int, int], covered: tuple[float, float]) -> NDArray[np.bool_]:
    """Pixels inside the orbit's swath, whose sides lean as a descending Sentinel-2 orbit does."""
    rows, cols = (2 * axis for axis in np.ogrid[: shape[0] // 2, : shape[1] // 2])
    place = (cols - 0.21 * (shape[0] / 2 - rows)) / shape[1]
    start, end = (-9.0 if covered[0] == 0 else covered[0]), (9.0 if covered[1] == 1 else covered[1])
    coarse = (place >= start) & (place < end)
    return np.repeat(np.repeat(coarse, 2, 0), 2, 1)


def _digital(reflectance: NDArray[np.float32], baseline: str) -> NDArray[np.uint16]:
    offset = 1000 if baseline >= "04.00" else 0
    return np.asarray(np.clip(np.rint(reflectance * 10_000) + offset, 1, 65_535), np.uint16)


def _write_band(path: Path, values: NDArray[np.generic], grid: GeoBox, overflight: _Pass) -> None:
    rows, cols = values.shape
    transform = grid.transform * Affine.scale(grid.shape[1] / cols, grid.shape[0] / rows)
    with (
        MemoryFile() as memory,
        memory.open(
            driver="GTiff", width=cols, height=rows, count=1, dtype=values.dtype,
            crs=str(grid.crs), transform=transform, nodata=0,
        ) as dataset,
    ):  # fmt: skip
        dataset.write(values, 1)
        dataset.update_tags(  # so that the folder can be indexed again without its catalogue
            PROCESSING_BASELINE=overflight.baseline,
            TIFFTAG_DATETIME=f"{overflight.day:%Y:%m:%d} 10:00:31",
        )
        rasterio.shutil.copy(
            dataset, path, driver="COG", blocksize=512, compress="zstd", level=1,
            predictor="yes" if values.dtype == np.uint16 else "no",
            overview_resampling="nearest" if values.dtype == np.uint8 else "average",
        )  # fmt: skip


# --- items


def _item(
    name: str,
    overflight: _Pass,
    moment: Moment,
    codes: NDArray[np.uint8],
    grid: GeoBox,
    folder: Path,
) -> dict[str, Any]:
    outline = _outline(grid, overflight.covered).to_crs("EPSG:4326", resolution=2000)
    valid = codes != 0
    cloudy = np.isin(codes, (8, 9, 10)).sum() / valid.sum()
    taken = datetime(*overflight.day.timetuple()[:3], 10, 0, 31, tzinfo=UTC)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [f"https://stac-extensions.github.io/{e}/schema.json" for e in _EXTENSIONS],
        "id": name,
        "bbox": [round(v, 7) for v in outline.boundingbox.bbox],
        "geometry": outline.json,
        "properties": {
            "datetime": taken.isoformat().replace("+00:00", "Z"),
            "description": "Simulated; not an image of the Earth.",
            "platform": overflight.platform,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "gsd": 10,
            "proj:code": _CRS,
            "eo:cloud_cover": round(100 * float(cloudy), 2),
            "view:sun_azimuth": round(float(moment.sun_azimuth), 2),
            "view:sun_elevation": round(float(moment.sun_elevation), 2),
            "s2:processing_baseline": overflight.baseline,
            "s2:nodata_pixel_percentage": round(100 * float(1 - valid.mean()), 2),
        },
        "links": [],
        "assets": {
            band: _asset(band, folder / f"{name}_{_KEY[band]}.tif", overflight.baseline, grid)
            for band in (*_FINE, *COARSE_BANDS, MASK)
        },
    }  # fmt: skip


def _outline(grid: GeoBox, covered: tuple[float, float]) -> Geometry:
    rows, cols = grid.shape
    lean = 0.21 * rows / 2
    left, right = (share * cols for share in covered)
    corners = [
        (0.0 if left == 0 else left + lean, 0),
        (cols if right == cols else right + lean, 0),
        (cols if right == cols else right - lean, rows),
        (0.0 if left == 0 else left - lean, rows),
    ]
    return polygon([grid.transform * c for c in [*corners, corners[0]]], grid.crs)


def _asset(band: str, path: Path, baseline: str, grid: GeoBox) -> dict[str, Any]:
    step = 1 if band in _FINE else 2
    shape = [n // step for n in grid.shape]
    place = grid.transform
    common = {
        "href": str(path),
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": ["data"] if band == MASK else ["data", "reflectance"],
        "gsd": 10 * step,
        "proj:shape": shape,
        "proj:transform": [10.0 * step, 0.0, place.c, 0.0, -10.0 * step, place.f],
    }
    if band == MASK:
        return common | {
            "raster:bands": [{"data_type": "uint8", "nodata": 0, "spatial_resolution": 20}]
        }
    scaling = {"scale": 1e-4, "offset": -0.1 if baseline >= "04.00" else 0.0}
    raster = {"data_type": "uint16", "nodata": 0, "spatial_resolution": 10 * step, **scaling}
    return common | {
        "eo:bands": [{"name": _KEY[band], "common_name": band}],
        "raster:bands": [raster],
    }
