"""The report of a run: one HTML page that needs nothing else, not even a network."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from landcover.errors import RasterError
from landcover.grid import inside
from landcover.legend import Legend
from landcover.period import Period
from pipeline.class_raster import strips
from pipeline.cog import open_raster, raster_grid, read_legend
from pipeline.page import plain, write_page
from pipeline.pictures import (
    CONFIDENCE_RAMP,
    class_picture,
    composite_picture,
    confidence_picture,
    data_uri,
)

_SCREEN = 590
"""Width of a map on a wide screen: a smaller raster is enlarged, and its pixels kept square."""
_SHOWN_AS_FACTS = ("period", "catalog", "model")
_AREAS = ("class_code", "class_name", "area_ha", "share_percent", "pixels")


@dataclass(frozen=True)
class PixelCounts:
    """What one pass over the rasters of a run counts."""

    classes: NDArray[np.int64]
    """Pixels by class code, (256,)."""
    confidence: NDArray[np.int64] | None
    """Pixels by confidence in percent, (256,); None where the run has no confidence raster."""
    footprint: int
    """Pixels with their centre inside the footprint."""
    unseen: int
    """Pixels of the footprint that have no class: no clear observation."""

    @property
    def unseen_percent(self) -> float:
        """Share of the footprint without a clear observation, percent."""
        return 100 * self.unseen / self.footprint if self.footprint else 0.0


def count_pixels(*, folder: Path, footprint: shapely.Geometry | None) -> PixelCounts:
    """Count classes and confidence of a run's rasters in strips, whatever their size.

    footprint: polygon in degrees; None takes the whole raster.
    Raises RasterError where a raster is missing or cannot be read.
    """
    sure = folder / "confidence.tif"
    codes = np.zeros(256, np.int64)
    area = unseen = 0
    with open_raster(folder / "classes.tif") as dataset:
        grid = raster_grid(dataset)
        for rows, block in strips(dataset):
            codes += np.bincount(block.ravel(), minlength=256)
            within = (
                np.ones(block.shape, np.bool_)
                if footprint is None
                else inside(grid[rows, :], footprint)
            )
            area += int(within.sum())
            unseen += int((within & (block == 0)).sum())
    return PixelCounts(codes, _histogram(sure) if sure.exists() else None, area, unseen)


def write_report(*, folder: Path, run: Mapping[str, Any], counts: PixelCounts) -> dict[str, Any]:
    """Write `report.html` beside the rasters of a run, and return its size.

    run: what publish takes. The page has no script and asks nothing of the network; the same
    inputs give the same bytes. Raises RasterError where a raster or the area table is missing or
    cannot be read.
    """
    size = write_page(folder / "report.html", "report.html.j2", _contents(folder, run, counts))
    return {"report_bytes": size}


def read_areas(path: Path) -> list[dict[str, Any]]:
    """Rows of `areas.csv`: class_code, class_name, area_ha, share_percent, pixels.

    Raises RasterError where the table is missing or not of that form.
    """
    if not path.is_file():
        raise RasterError(f"{path.parent} has no {path.name}; run summarize first.")
    kinds = dict(zip(_AREAS, (int, str, float, float, int), strict=True))
    with path.open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        if not set(_AREAS) <= set(table.fieldnames or ()):
            raise RasterError(
                f"{path} has the columns {table.fieldnames}; expected {list(_AREAS)} among them: run "
                "summarize again."
            )
        try:
            return [{name: kind(row[name]) for name, kind in kinds.items()} for row in table]
        except (TypeError, ValueError) as error:
            raise RasterError(
                f"{path}, line {table.line_num}: {error}; run summarize again."
            ) from error


def _histogram(path: Path) -> NDArray[np.int64]:
    counts = np.zeros(256, np.int64)
    with open_raster(path) as dataset:
        for _, block in strips(dataset):
            counts += np.bincount(block.ravel(), minlength=256)
    return counts


def _ground_size(grid: GeoBox) -> tuple[float, float]:
    """Width and height of a grid on the ellipsoid, metres, measured through its centre.

    In eight steps, as the shortest way between the ends may be another one, over a pole.
    """
    along, middle, t = np.linspace(0, 1, 9), np.full(9, 0.5), grid.affine
    to_degrees = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)

    def length(col: NDArray[np.float64], row: NDArray[np.float64]) -> float:
        x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
        return float(Geod(ellps="WGS84").line_length(*to_degrees.transform(x, y)))

    rows, cols = grid.shape
    return length(along * cols, middle * rows), length(middle * cols, along * rows)


def _scale_bar(width: float) -> tuple[str, float]:
    """A round length near a quarter of the picture: its label, and its share of the width in %."""
    target = width / 4
    ten = 10 ** math.floor(math.log10(target))
    length = ten * max(step for step in (1, 2, 5) if step * ten <= target)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return label, round(100 * length / width, 3)


def _contents(folder: Path, run: Mapping[str, Any], counts: PixelCounts) -> dict[str, Any]:
    with open_raster(folder / "classes.tif") as dataset:
        grid, legend = raster_grid(dataset), read_legend(dataset)
    areas = read_areas(folder / "areas.csv")
    training = _flat((run.get("model") or {}).get("training") or {})
    return {
        "region": run["region"]["name"],
        "period": _period_text(run["period"]),
        "areas": _area_rows(areas, legend),
        "mapped_ha": math.fsum(row["area_ha"] for row in areas),
        "counts": counts,
        "legend": legend,
        "accuracy": run.get("accuracy"),
        "scenes": _scenes(run.get("items") or ()),
        "facts": _facts(run, grid),
        "training": training,
        "settings": _flat(
            {k: v for k, v in (run.get("settings") or {}).items() if k not in _SHOWN_AS_FACTS}
        ),
        "versions": sorted((run.get("versions") or {}).items()),
        "trained_on_simulation": "simulat" in str(training).lower(),
        "geopackage": (folder / "landcover.gpkg").is_file(),
        "confidence": _confidence(folder, counts),
        **_maps(folder, grid),
    }


def _maps(folder: Path, grid: GeoBox) -> dict[str, Any]:
    width, height = _ground_size(grid)
    label, share = _scale_bar(width)
    image, bands = composite_picture(folder / "composite.tif")
    return {
        "image": data_uri(image),
        "image_bands": bands,
        "class_map": data_uri(class_picture(folder / "classes.tif")),
        "ratio": round(width / height, 4),
        "crisp": grid.shape[1] < _SCREEN,
        "scale_label": label,
        "scale_percent": share,
    }


def _confidence(folder: Path, counts: PixelCounts) -> dict[str, Any] | None:
    if counts.confidence is None or not counts.confidence[1:].any():
        return None
    valid = counts.confidence[1:101]
    return {
        "map": data_uri(confidence_picture(folder / "confidence.tif")),
        "mean": float((valid * np.arange(1, 101)).sum() / valid.sum()),
        "unsure": float(100 * valid[:49].sum() / valid.sum()),
        "ramp": ", ".join(f"{color} {value}%" for value, color in CONFIDENCE_RAMP),
    }


def _area_rows(areas: Sequence[Mapping[str, Any]], legend: Legend) -> list[dict[str, Any]]:
    largest = max((row["share_percent"] for row in areas), default=0) or 1
    return [
        {
            "name": row["class_name"],
            "color": legend[row["class_code"]].color,
            "area_ha": row["area_ha"],
            "share": row["share_percent"],
            "bar": round(100 * row["share_percent"] / largest, 2),
        }
        for row in areas
    ]


def _scenes(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(date, id) of the input scenes in order of time."""
    dated = [(plain(item.get("datetime") or "", 40), plain(item["id"])) for item in items]
    return [(moment[:16].replace("T", " "), name) for moment, name in sorted(dated)]


def _facts(run: Mapping[str, Any], grid: GeoBox) -> list[tuple[str, str]]:
    model = run.get("model") or {}
    rows, cols = grid.shape
    facts = [
        ("Region", run["region"]["name"]),
        ("Period", run["period"]),
        ("Catalogue", _public(run.get("catalog"))),
        ("Model", Path(str(model["path"])).name if model.get("path") else None),
        ("Model SHA-256", model.get("sha256")),
        *_making(run.get("stages") or {}),
        ("Coordinate system", _crs_text(CRS(grid.crs))),
        ("Pixel size", _pixel_text(grid)),
        ("Raster size", f"{cols:,} x {rows:,} pixels"),
    ]
    return [(name, plain(value)) for name, value in facts if value]


def _making(stages: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """How the image was made of the scenes: method, days, scenes left out, failed reads."""
    search, composite = (
        (stages.get(name) or {}).get("details") or {} for name in ("search", "composite")
    )
    seen, days = search.get("coverage") or {}, composite.get("observation_days")
    newer, failed = (
        search.get("superseded") or (),
        (composite.get("reads") or {}).get("failed") or (),
    )
    return [
        ("Composite", f"{composite.get('method', 'median')} of {days} days" if days else None),
        (
            "Days over each part",
            f"{seen['min_days']} to {seen['max_days']}, median {seen['median_days']:g}"
            if seen
            else None,
        ),
        ("Scenes superseded by newer processing", str(len(newer)) if newer else None),
        ("Failed reads left out", str(len(failed)) if failed else None),
    ]


def _pixel_text(grid: GeoBox) -> str:
    """Pixel size with its unit; width x height where pixels are not square."""
    width, height = (f"{abs(size):g}" for size in grid.resolution.xy)
    crs = CRS(grid.crs)
    unit = "°" if crs.geographic else crs.proj.axis_info[0].unit_name.replace("metre", "m")
    return f"{width} {unit}" if width == height else f"{width} {unit} x {height} {unit}"


def _crs_text(crs: CRS) -> str:
    authority, code = crs.authority
    return f"{crs.proj.name} ({authority}:{code})" if code else str(crs.proj.name)


def _public(address: object) -> str | None:
    """A catalogue's address without what should stay private: credentials, tokens, local folders."""
    if not address:
        return None
    parts = urlsplit(str(address))
    if parts.scheme and parts.netloc:
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{Path(str(address)).name} (local file)"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text)."""
    rows = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append((plain(prefix + str(name)), plain(text, 400)))
    return rows


def _period_text(text: str) -> str:
    period = Period.parse(text)
    if period.start == period.end:
        return _day(period.start)
    return f"{_day(period.start)} to {_day(period.end)}"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
