"""From a class raster to an indexed GeoPackage, beside GDAL, rasterio with geopandas, xarray-spatial.

    python tests/benchmarks/bench_vectorize.py [--size 8192] [--large 32768] [--rounds 3]

The raster holds patches of tens of pixels (about 800,000 polygons at 8192 x 8192) at 10 m. In turn, each
in a process of its own, imports outside the clock:
  ours            landcover vectorize: class, hectares, perimeter, confidence, style, index
  merged          the same with polygons below 0.5 ha merged and borders simplified by 10 m
  gdal            gdal_polygonize.py to a GeoPackage with an index: class codes alone
  rasterio        rasterio.features.shapes, a GeoDataFrame, to_file
  xarray-spatial  xrspatial.polygonize, a GeoDataFrame, to_file
  areas           hectares of ours against a loop of pyproj.Geod over the polygons, a sample of them
Ratios are medians over the rounds. The last line is JSON.
"""

import argparse
import importlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from bench_segment import ROOT, alone, peak_megabytes
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter

from landcover.legend import LandClass, Legend
from pipeline.cog import CogProfile, open_cog

CLASSES = 5
LEGEND = Legend(tuple(LandClass(i, f"class {i}", "#808080") for i in range(1, CLASSES + 1)))
TILE = 4096
"""Side of the noise that is repeated, mirrored, over larger rasters."""
ROUGHNESS = 3.6
SAMPLE = 5_000
"""Polygons whose area is also computed by pyproj."""
LEAST = {
    "gdal_over_ours": 4.0, "rasterio_over_ours": 3.0, "xarray-spatial_over_ours": 3.0,
    "geod_over_our_areas": 20.0,
}  # fmt: skip
MOST = {
    "peak_mb": 700.0, "peak_large_mb": 1200.0, "merged_over_ours": 2.0, "area_error": 1e-6,
}  # fmt: skip


def grid_of(size: int) -> GeoBox:
    """A square of 10 m pixels in UTM."""
    bounds = 400_000, 5_700_000 - size * 10, 400_000 + size * 10, 5_700_000
    return GeoBox.from_bbox(bounds, "EPSG:32633", resolution=10)


def noise_tile() -> NDArray[np.uint8]:
    """Class codes in patches, (4096, 4096)."""
    rng = np.random.default_rng(7)
    values = gaussian_filter(
        rng.standard_normal((TILE, TILE), np.float32), ROUGHNESS, mode="mirror"
    )
    limits = np.quantile(values[::16, ::16], np.linspace(0, 1, CLASSES + 1)[1:-1])
    return (np.digitize(values, limits) + 1).astype(np.uint8)


def make_rasters(folder: Path, size: int) -> tuple[Path, Path]:
    """Class raster and confidence raster of a size, made once."""
    paths = folder / f"classes-{size}.tif", folder / f"confidence-{size}.tif"
    if all(path.exists() for path in paths):
        return paths
    tile = noise_tile()
    profiles = (
        CogProfile(
            "uint8", ["class"], "mode", LEGEND.colormap(),
            {"LEGEND": json.dumps(LEGEND.to_records())},
        ),
        CogProfile("uint8", ["confidence"]),
    )  # fmt: skip
    for path, profile in zip(paths, profiles, strict=True):
        with open_cog(path, grid_of(size), profile) as cog:
            for top in range(0, size, 512):
                rows = (tile if top // TILE % 2 == 0 else tile[::-1])[top % TILE :][:512]
                wide = np.concatenate([rows, rows[:, ::-1]] * -(-size // (2 * TILE)), axis=1)[
                    :, :size
                ]
                cog.write((wide if profile.colormap else 40 + 12 * wide)[None, : size - top])
    return paths


# --- each in a process of its own


def ours(folder: Path, size: int, options: dict[str, float]) -> dict[str, float]:
    """One run of vectorize."""
    import pipeline.vectorize

    classes, confidence = make_rasters(folder, size)
    _warm(folder)
    started = time.perf_counter()
    details = pipeline.vectorize.vectorize(
        classes=classes, confidence=confidence, output=folder / "ours.gpkg", **options
    )
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": peak_megabytes(), "polygons": details["polygons"]}


def _warm(folder: Path) -> None:
    """Load the compiled loops on a small raster: peers have theirs loaded too."""
    import pipeline.vectorize

    classes, confidence = make_rasters(folder, 256)
    for options in ({}, {"min_area": 0.5, "simplify": 10.0}):
        pipeline.vectorize.vectorize(
            classes=classes, confidence=confidence, output=folder / "warm.gpkg", **options
        )


def gdal(folder: Path, size: int) -> dict[str, float]:
    """gdal_polygonize.py, 4-connected, with a spatial index."""
    classes, _ = make_rasters(folder, size)
    output = folder / "gdal.gpkg"
    output.unlink(missing_ok=True)
    program = shutil.which("gdal_polygonize.py")
    if program is None:
        return {}
    command = [program, "-q", classes, "-f", "GPKG", output, "landcover", "class_code"]
    started = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds}


def rasterio_shapes(folder: Path, size: int) -> dict[str, float]:
    """rasterio.features.shapes into a GeoDataFrame."""
    import geopandas as gpd
    import rasterio.features
    import shapely.geometry

    classes, _ = make_rasters(folder, size)
    started = time.perf_counter()
    with rasterio.open(classes) as dataset:
        codes = dataset.read(1)
        found = rasterio.features.shapes(codes, mask=codes > 0, transform=dataset.transform)
        shapes, values = [], []
        for geometry, code in found:
            shapes.append(shapely.geometry.shape(geometry))
            values.append(int(code))
        frame = gpd.GeoDataFrame({"class_code": values}, geometry=shapes, crs=dataset.crs)
    frame.to_file(folder / "rasterio.gpkg", layer="landcover")
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_megabytes()}


def xarray_spatial(folder: Path, size: int, packages: Path) -> dict[str, Any]:
    """xrspatial.polygonize into a GeoDataFrame; its loops are compiled before."""
    polygonize = _polygonize(packages)
    if polygonize is None:
        return {"not_measured": "no xarray-spatial; run make bench-vectorize"}
    import xarray as xr

    classes, _ = make_rasters(folder, size)
    polygonize(xr.DataArray(np.eye(8, dtype=np.int64)), return_type="geopandas")
    started = time.perf_counter()
    with rasterio.open(classes) as dataset:
        t, codes = dataset.transform, dataset.read(1).astype(np.int64)
        frame = polygonize(
            xr.DataArray(codes), column_name="class_code", return_type="geopandas",
            transform=np.array([t.a, t.b, t.c, t.d, t.e, t.f]),
        ).set_crs(dataset.crs)  # fmt: skip
    frame.to_file(folder / "xrspatial.gpkg", layer="landcover")
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_megabytes()}


def _polygonize(packages: Path) -> Callable[..., Any] | None:
    """Function of xrspatial alone: the package as a whole imports viewers that play no part in it."""
    import numba

    if not (packages / "xrspatial").is_dir():
        return None
    for name in ("xrspatial", "xrspatial.experimental"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(packages / name.replace(".", "/"))]
    sys.modules["xrspatial.utils"] = types.ModuleType("xrspatial.utils")
    vars(sys.modules["xrspatial.utils"])["ngjit"] = numba.jit(nopython=True, nogil=True)
    found: Callable[..., Any] = importlib.import_module(
        "xrspatial.experimental.polygonize"
    ).polygonize
    return found


def areas(folder: Path, size: int) -> dict[str, float]:
    """Seconds a million polygons for hectares: ours, and pyproj polygon by polygon; worst difference."""
    import pyogrio
    from pyproj import Geod, Transformer
    from shapely.ops import transform

    from landcover.area import PixelAreas
    from landcover.region_tally import RegionTally
    from landcover.regions import label

    frame = pyogrio.read_dataframe(folder / "ours.gpkg", layer="landcover", max_features=SAMPLE)
    to_degrees = Transformer.from_crs(frame.crs, "EPSG:4326", always_xy=True).transform
    geod = Geod(ellps="WGS84")
    started = time.perf_counter()
    theirs = [
        abs(geod.geometry_area_perimeter(transform(to_degrees, shape))[0]) / 1e4
        for shape in frame.geometry
    ]
    geod_seconds = (time.perf_counter() - started) / len(frame)
    with rasterio.open(make_rasters(folder, size)[0]) as dataset:
        codes = dataset.read(1, window=((0, 1024), (0, size)))
    strip = label(codes)
    RegionTally.of_strip(strip, np.zeros(codes.shape, np.int64), None)
    started = time.perf_counter()
    units = PixelAreas(grid_of(size)).units(slice(0, 1024))
    RegionTally.of_strip(strip, units, None)
    our_seconds = (time.perf_counter() - started) / len(strip.codes)
    error = float(np.max(np.abs(frame.area_ha / np.array(theirs) - 1)))
    return {"ours_us": our_seconds * 1e6, "geod_us": geod_seconds * 1e6, "area_error": error}


# --- the report


def measure(
    folder: Path, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """All rows and figures."""
    size = options.size
    for side in (256, size):
        alone(make_rasters, folder, side)
    merging = {"min_area": 0.5, "simplify": 10.0}
    works: dict[str, Callable[[], dict[str, Any]]] = {
        "ours": lambda: alone(ours, folder, size, {}),
        "merged": lambda: alone(ours, folder, size, merging),
        "gdal": lambda: alone(gdal, folder, size),
        "rasterio": lambda: alone(rasterio_shapes, folder, size),
        "xarray-spatial": lambda: alone(xarray_spatial, folder, size, options.packages),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in works}
    rows = []
    for _ in range(options.rounds):
        for name, work in works.items():
            if all("seconds" in run for run in runs[name]):
                runs[name].append(work())
    figures = {"peak_mb": max(run["peak_mb"] for run in runs["ours"])}
    for name, found in runs.items():
        rows.append(row(name, size, found))
        if name != "ours" and all("seconds" in run for run in found):
            pairs = zip(found, runs["ours"], strict=True)
            figures[f"{name}_over_ours"] = statistics.median(
                a["seconds"] / b["seconds"] for a, b in pairs
            )
    alone(ours, folder, size, {})  # whose polygons are looked at
    checked = alone(areas, folder, size)
    print("areas     ", checked, flush=True)
    figures |= {
        "geod_over_our_areas": checked["geod_us"] / checked["ours_us"], "area_error": checked["area_error"],
    }  # fmt: skip
    if options.large:
        alone(make_rasters, folder, options.large)
        found = alone(ours, folder, options.large, {})
        rows.append(row("ours", options.large, [found]))
        figures["peak_large_mb"] = found["peak_mb"]
    return rows, figures


def row(name: str, size: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table, printed."""
    if any("seconds" not in run for run in runs):
        line = {
            "who": name,
            "size": size,
            "not_measured": runs[-1].get("not_measured", "not installed"),
        }
    else:
        line = {"who": name, "size": size, "seconds": statistics.median(r["seconds"] for r in runs)}
        line["mpx_s"] = size**2 / 1e6 / line["seconds"]
        line |= {
            key: max(r[key] for r in runs) for key in ("peak_mb", "polygons") if key in runs[0]
        }
    line = {key: round(v, 3) if isinstance(v, float) else v for key, v in line.items()}
    print(
        f"{line['who']:14}",
        "  ".join(f"{k} {v}" for k, v in line.items() if k != "who"),
        flush=True,
    )
    return line


def main() -> None:
    """Measure, print rows and then JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--large", type=int, default=32768, help="0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--packages", type=Path, default=ROOT / ".peers", help="peers live here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows, figures = measure(Path(temporary), options)
    reached = {n: v >= LEAST[n] for n, v in figures.items() if n in LEAST}
    reached |= {n: v <= MOST[n] for n, v in figures.items() if n in MOST}
    found = {"rows": rows, "figures": figures, "goals": LEAST | MOST, "reached": reached}
    print(json.dumps(found | {"met": all(reached.values())}))


if __name__ == "__main__":
    main()
