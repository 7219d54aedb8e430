"""Publish a run: a STAC item that describes its files, and a report to read."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pystac
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping, shape

from landcover.antimeridian import lonlat_bounds
from landcover.area import ground_size
from landcover.bands import MASK, SENTINEL2
from landcover.errors import RegionError, SettingsError
from landcover.legend import NODATA, Legend
from landcover.outline import grid_outline
from landcover.period import Period
from pipeline.artifacts import file_hash, write_json
from pipeline.cog import open_raster, raster_grid, read_legend
from pipeline.page import plain
from pipeline.report import PixelCounts, count_pixels, write_report

_EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in (
        "classification/v2.0.0", "eo/v2.0.0", "file/v2.1.0", "processing/v1.2.0",
        "projection/v2.0.0", "raster/v2.0.0",
    )
)  # fmt: skip
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_COMMON_NAMES = frozenset(SENTINEL2.values()) - {MASK}
_ADDRESS = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=%._~-]{1,2000}")
"""The characters of RFC 3986, so nothing that could end a quotation or a line."""
_SCHEMES = frozenset({"http", "https", "s3", "gs"})


def publish(*, folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """Write `report.html` and `item.json` into the folder of a run.

    folder: holds classes.tif, composite.tif and areas.csv; confidence.tif and landcover.gpkg are
    described where they are there. run: the content of run.json; region.name and period are
    needed, region.footprint (GeoJSON geometry in degrees), items, model, versions, settings and
    accuracy are used where given.
    The same inputs give the same bytes: nothing of the clock or of this machine gets in.
    Raises SettingsError where the region or period is missing, RegionError for a footprint that is
    no polygon on the Earth, RasterError for a file of the run that is missing or unreadable.
    """
    run = _required(run)
    with open_raster(folder / "classes.tif") as dataset:
        grid, legend = raster_grid(dataset), read_legend(dataset)
    given = run["region"].get("footprint")
    outline = _footprint(given) if given else grid_outline(grid)
    counts = count_pixels(folder=folder, footprint=outline if given else None)
    details = write_report(folder=folder, run=run, counts=counts)
    item = _item(run, outline, grid)
    formats = (run.get("settings") or {}).get("formats") or ()
    for key, asset in _assets(folder, grid, legend, counts, formats):
        item.add_asset(key, asset)
    item.add_links(list(_sources(run.get("items") or ())))
    write_json(folder / "item.json", item.to_dict(include_self_link=False, transform_hrefs=False))
    return details | {"item": item.id, "unseen_percent": round(counts.unseen_percent, 3)}


def _required(run: Mapping[str, Any]) -> Mapping[str, Any]:
    if not (run.get("region") or {}).get("name") or not run.get("period"):
        raise SettingsError(
            "The record of the run names no region or no period; publish needs both "
            "(run.json: region.name, period)."
        )
    return run


def _footprint(geometry: Mapping[str, Any]) -> shapely.Geometry:
    """Footprint of the region in degrees; RegionError where it is no polygon on the Earth."""
    try:
        outline = shape(geometry)
    except (shapely.errors.ShapelyError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RegionError(
            f"The footprint of the region is no GeoJSON geometry: {error}."
        ) from error
    if outline.geom_type not in {"Polygon", "MultiPolygon"} or outline.is_empty:
        raise RegionError(
            f"The footprint of the region is a {outline.geom_type}; it has to be a polygon."
        )
    west, south, east, north = outline.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise RegionError(
            f"The footprint of the region reaches from {west}, {south} to {east}, {north}; "
            "it has to be in degrees, longitude first."
        )
    return shapely.orient_polygons(outline)


def _item(run: Mapping[str, Any], outline: shapely.Geometry, grid: GeoBox) -> pystac.Item:
    first, last = Period.parse(run["period"]).bounds()
    region = plain(run["region"]["name"])
    return pystac.Item(
        id=_item_id(run["region"]["name"], run["period"]),
        geometry=mapping(outline),
        bbox=list(lonlat_bounds(outline)),
        datetime=None,
        start_datetime=first.replace(microsecond=0),
        end_datetime=last.replace(microsecond=0),
        properties={
            "title": f"Land cover of {region}, {run['period']}",
            "description": "Land-cover classes of a satellite composite, with areas by class.",
            **_projection(grid),
            **_processing(run),
            **_accuracy(run.get("accuracy")),
        },
        stac_extensions=list(_EXTENSIONS),
    )


def _item_id(region: str, period: str) -> str:
    """Identifier of letters, digits, - and _; a name that loses characters keeps a hash of itself."""
    slug = re.sub(r"[^0-9A-Za-z_-]+", "-", region).strip("-")[:80]
    if slug != region:
        slug = f"{slug or 'region'}-{sha256(region.encode(errors='replace')).hexdigest()[:8]}"
    return f"landcover-{slug}-{Period.parse(period).folder}"


def _projection(grid: GeoBox) -> dict[str, Any]:
    crs = CRS(grid.crs)
    authority, code = crs.authority
    known = bool(authority and code)
    return {
        "proj:code": f"{authority}:{code}" if known else None,
        **({} if known else {"proj:wkt2": crs.proj.to_wkt()}),
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.extent.boundingbox.bbox),
    }


def _processing(run: Mapping[str, Any]) -> dict[str, Any]:
    model, scenes = run.get("model") or {}, run.get("items") or ()
    method = plain((run.get("settings") or {}).get("method") or "median", 40)
    lineage = f"{method.capitalize()} composite of {len(scenes)} scenes"
    if model.get("path"):
        lineage += f", segmented by the model {plain(Path(str(model['path'])).name)}"
    if model.get("sha256"):
        lineage += f" (SHA-256 {plain(model['sha256'], 64)})"
    software = {plain(k): plain(v) for k, v in sorted((run.get("versions") or {}).items())}
    return {"processing:lineage": lineage + "."} | (
        {"processing:software": software} if software else {}
    )


def _accuracy(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Our own fields: how well the map agrees with reference data, where there was any."""
    measures = ("overall_accuracy", "mean_iou", "pixels")
    known = {name: result[name] for name in measures if result and result.get(name) is not None}
    return {f"landcover:{name}": value for name, value in known.items()}


# Assets


@dataclass(frozen=True)
class _File:
    """A file of a run that the item describes."""

    key: str
    name: str
    title: str
    media_type: str
    roles: tuple[str, ...]
    format: str = ""
    """Format of the polygons that the run was asked for; a file of an earlier run is not its own."""


_FILES = (
    _File("classes", "classes.tif", "Land-cover classes", _COG, ("data",)),
    _File("confidence", "confidence.tif", "Confidence of the class", _COG, ("data", "metadata")),
    _File("composite", "composite.tif", "Cloud-free composite", _COG, ("data", "reflectance")),
    _File("polygons", "landcover.gpkg", "Land-cover polygons, styled for QGIS",
          "application/geopackage+sqlite3", ("data",)),
    _File("geoparquet", "landcover.parquet", "Land-cover polygons, GeoParquet",
          "application/vnd.apache.parquet", ("data",), "parquet"),
    _File("flatgeobuf", "landcover.fgb", "Land-cover polygons, FlatGeobuf",
          "application/vnd.flatgeobuf", ("data",), "flatgeobuf"),
    _File("pmtiles", "landcover.pmtiles", "Land-cover polygons as tiles to look at",
          "application/vnd.pmtiles", ("visual",), "pmtiles"),
    _File("areas", "areas.csv", "Area by class", "text/csv", ("metadata",)),
    _File("zones", "zones.csv", "Area by zone and class", "text/csv", ("metadata",)),
    _File("zones_wide", "zones_wide.csv", "Area by zone, a row each", "text/csv", ("metadata",)),
    _File("report", "report.html", "Report", "text/html", ("overview",)),
)  # fmt: skip


def _assets(
    folder: Path, grid: GeoBox, legend: Legend, counts: PixelCounts, formats: Sequence[str]
) -> Iterator[tuple[str, pystac.Asset]]:
    size = _metres(grid)
    facts = {
        "classes": _class_facts(legend, counts.classes),
        "confidence": {"bands": [_confidence_band(counts.confidence)]},
        "composite": {"bands": _composite_bands(folder)},
    }
    for file in _FILES:
        path = folder / file.name
        if not path.is_file() or (file.format and file.format not in formats):
            continue
        extra = facts.get(file.key, {}) | {
            "file:size": path.stat().st_size,
            "file:checksum": "1220" + file_hash(path),  # multihash: SHA2-256, 32 bytes
        }
        if file.key in facts:
            extra["raster:spatial_resolution"] = size
        yield (
            file.key,
            pystac.Asset(
                href=f"./{file.name}",
                title=file.title,
                media_type=file.media_type,
                roles=list(file.roles),
                extra_fields=extra,
            ),
        )


def _metres(grid: GeoBox) -> float:
    """Side of a pixel in metres; in degrees that of a square as large as the middle pixel."""
    crs = CRS(grid.crs)
    if not crs.geographic:
        side = math.sqrt(abs(grid.affine.determinant))
        return float(side * crs.proj.axis_info[0].unit_conversion_factor)
    return round(ground_size(grid), 4)


def _class_facts(legend: Legend, pixels: NDArray[np.int64]) -> dict[str, Any]:
    total = int(pixels[list(legend.codes)].sum())
    classes: list[dict[str, Any]] = [
        {"value": NODATA, "name": "nodata", "description": "No clear observation", "nodata": True}
    ]
    for c, name in zip(legend.classes, _class_names(legend), strict=True):
        share = 100 * int(pixels[c.code]) / total if total else 0.0
        classes.append(
            {
                "value": c.code,
                "name": name,
                "title": plain(c.name),
                "description": plain(c.name),
                "color_hint": c.color[1:].upper(),
                "count": int(pixels[c.code]),
                "percentage": round(share, 4),
            }
        )
    return {"data_type": "uint8", "nodata": NODATA, "classification:classes": classes}


def _class_names(legend: Legend) -> Sequence[str]:
    """Machine-readable names, distinct, of the letters the classification extension allows."""
    names = [re.sub(r"[^0-9a-z]+", "-", c.name.lower()).strip("-") for c in legend.classes]
    return [
        name if name and name != "nodata" and names.count(name) == 1 else f"class-{c.code}"
        for name, c in zip(names, legend.classes, strict=True)
    ]


def _confidence_band(pixels: NDArray[np.int64] | None) -> dict[str, Any]:
    band: dict[str, Any] = {
        "name": "confidence",
        "description": "Blended probability of the chosen class",
        "data_type": "uint8",
        "nodata": NODATA,
        "unit": "%",
    }
    if pixels is not None and pixels[1:].any():
        band["statistics"] = _statistics(pixels)
    return band


def _statistics(pixels: NDArray[np.int64]) -> dict[str, Any]:
    """STAC statistics of the valid pixels of a histogram (256,) whose first bin is nodata."""
    values, counts = np.arange(1, 256), pixels[1:]
    valid, present = int(counts.sum()), np.flatnonzero(counts) + 1
    mean = float((counts * values).sum() / valid)
    spread = float((counts * (values - mean) ** 2).sum() / valid) ** 0.5
    return {
        "minimum": int(present[0]),
        "maximum": int(present[-1]),
        "mean": round(mean, 4),
        "stddev": round(spread, 4),
        "count": valid,
        "valid_percent": round(100 * valid / int(pixels.sum()), 4),
    }


def _composite_bands(folder: Path) -> list[dict[str, Any]]:
    with open_raster(folder / "composite.tif") as dataset:
        described = zip(dataset.descriptions, dataset.scales, dataset.offsets, strict=True)
        kind = dataset.dtypes[0]
    bands = []
    for number, (description, scale, offset) in enumerate(described, start=1):
        band = {"name": plain(description or f"band-{number}"), "data_type": kind, "nodata": NODATA}
        if description == "observations":
            band |= {"description": "Number of clear observations", "unit": "1"}
        elif description == "day":
            band |= {"description": "Day of the observation, counted from 1970-01-01", "unit": "d"}
        else:
            band |= {"raster:scale": scale, "raster:offset": offset}
        if description in _COMMON_NAMES:
            band["eo:common_name"] = description
        bands.append(band)
    return bands


# Links


def _sources(items: Sequence[Mapping[str, Any]]) -> Iterator[pystac.Link]:
    """A derived_from link for each input scene, in the order of the frozen list."""
    for item in items:
        name = str(item["id"])
        listed = "./items.json#" + quote(name.encode(errors="replace"), safe="")
        yield pystac.Link(
            "derived_from", _public_href(item.get("href")) or listed, "application/geo+json",
            title=plain(name),
        )  # fmt: skip


def _public_href(href: object) -> str | None:
    """An address that may be published, without its query (it may hold a token), or None.

    Local paths, addresses with a user in them, other schemes and characters that no address has
    are not published.
    """
    if not isinstance(href, str) or not _ADDRESS.fullmatch(href):
        return None
    try:
        parts = urlsplit(href)
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not parts.netloc or "@" in parts.netloc:
        return None
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
