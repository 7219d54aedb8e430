"""A sample for labelling as a GeoPackage: what the labeller sees, and apart from it the design."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj.exceptions import CRSError
from shapely.errors import ShapelyError

from landcover.errors import LandcoverError, SampleError
from landcover.legend import NODATA, Legend
from landcover.sampling import Stratum
from pipeline.geopackage import Layer, Style, write_geopackage
from pipeline.label_form import LINKS, label_qml, outline_qml, viewer_links

_FORMAT = "landcover sample 1"
_TABLES = {
    "units": ("id", "stratum", "class_code", "area_m2", "x", "y"),
    "design": ("stratum", "name", "pixels", "hectares", "sampled"),
    "classes": ("class_code", "class_name", "color", "mapped_ha", "mapped_pixels"),
    "settings": ("name", "value"),
}
"""Columns that are read back, by table."""
_VALUES = "values"
"""Name of the setting that says which class each stored value of the map is, as `0=1 1=2`."""
_UNIT = (int, int, int, float, float, float)
"""Kinds of the columns of units."""
_EARTH = 6.371e6
"""Metres in a radian of latitude, roughly."""
_DESCRIPTIONS = {
    "sample": "Pixels to label, in random order: choose the class in truth of the pixel whose centre the point "
    "is (its square is in the layer squares). Stratum and mapped class are in the table units, so "
    "that they do not lead the labeller.",
    "squares": "The sampled pixels themselves.",
    "units": "Of each sampled pixel its stratum, its class on the map, its area on the ellipsoid in square "
    "metres, and its centre. Do not show it to who labels.",
    "design": "The strata: pixels, hectares on the ellipsoid, and how many pixels were sampled with equal "
    "probability.",
    "classes": "The legend, and what the map has of each class: hectares on the ellipsoid and pixels.",
    "settings": "What was sampled and how.",
}


@dataclass(frozen=True)
class SampledPixels:
    """Pixels of a sample in the order of their ids, from 1; every array is (n,)."""

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    strata: NDArray[np.int64]
    """Number of the stratum, from 1."""
    codes: NDArray[np.int64]
    """Class on the map."""
    areas: NDArray[np.float64]
    """Square metres on the ellipsoid."""


@dataclass(frozen=True)
class MappedClass:
    """What the map has of a class."""

    class_code: int
    class_name: str
    color: str
    mapped_ha: float
    """Hectares on the ellipsoid."""
    mapped_pixels: int


@dataclass(frozen=True)
class SampleFile:
    """A sample read back; arrays are (n,), in the order of the ids."""

    strata: list[Stratum]
    classes: list[MappedClass]
    settings: Mapping[str, str]
    ids: NDArray[np.int64]
    numbers: NDArray[np.int64]
    """Number of the stratum of each pixel."""
    codes: NDArray[np.int64]
    """Its class on the map."""
    areas: NDArray[np.float64]
    """Square metres."""
    centres: NDArray[np.float64]
    """Its place in the CRS of the map, (n, 2)."""
    labels: NDArray[np.int64]
    """Its class in truth; 0 where it is not labelled."""
    crs: pyproj.CRS
    values: Mapping[int, int]
    """Code of each stored value of the map."""

    @property
    def legend(self) -> Legend:
        """The classes of the map."""
        return _legend(self.classes)


def write_sample(
    path: Path,
    grid: GeoBox,
    pixels: SampledPixels,
    strata: Sequence[Stratum],
    classes: Sequence[MappedClass],
    settings: Mapping[str, str],
) -> None:
    """Write a sample to label; RasterError where the file cannot be written."""
    ids = np.arange(1, len(pixels.rows) + 1)
    xs, ys = _places(grid, pixels.cols + 0.5, pixels.rows + 0.5)
    crs = None if grid.crs is None else grid.crs.proj
    drawn = np.bincount(pixels.strata, minlength=len(strata) + 1)
    tables = {
        "units": [
            {"id": i, "stratum": s, "class_code": c, "area_m2": a, "x": x, "y": y}
            for i, s, c, a, x, y in zip(
                *(v.tolist() for v in (ids, pixels.strata, pixels.codes, pixels.areas, xs, ys)),
                strict=True,
            )
        ],
        "design": [
            {"stratum": s.number, "name": s.name, "pixels": s.pixels, "hectares": s.hectares,
             "sampled": int(drawn[s.number])}
            for s in strata
        ],
        "classes": [asdict(c) for c in classes],
        "settings": [
            {"name": k, "value": v} for k, v in ({"format": _FORMAT} | dict(settings)).items()
        ],
    }  # fmt: skip
    legend = _legend(classes)
    layers = [
        _layer("squares", _squares(ids, pixels, grid), crs, Style("Pixels", outline_qml(), ""), "Polygon"),
        _layer("sample", _points(ids, xs, ys, crs), crs, Style("Label", label_qml(legend), ""), "Point"),
        *(_layer(name, pa.Table.from_pylist(rows)) for name, rows in tables.items()),
    ]  # fmt: skip
    write_geopackage(path, layers)


def read_sample(path: Path) -> SampleFile:
    """Read a sample with what a person made of it in QGIS.

    Labels are class codes, or the names of classes. Raises SampleError where the file is no sample of
    ours, a point was deleted, added or moved, or a label is no class.
    """
    tables = {name: _read(path, name, columns)[0] for name, columns in _TABLES.items()}
    settings = {str(row["name"]): str(row["value"]) for row in tables["settings"]}
    if settings.get("format") != _FORMAT:
        raise SampleError(
            f"{path} is no sample that this program can read (its format is {settings.get('format')})."
        )
    try:
        strata = [
            Stratum(
                int(row["stratum"]), str(row["name"]), int(row["pixels"]), float(row["hectares"])
            )
            for row in tables["design"]
        ]
        classes = [
            MappedClass(
                int(row["class_code"]), str(row["class_name"]), str(row["color"]),
                float(row["mapped_ha"]), int(row["mapped_pixels"]),
            )
            for row in tables["classes"]
        ]  # fmt: skip
        units = sorted(
            tuple(kind(row[name]) for name, kind in zip(_TABLES["units"], _UNIT, strict=True))
            for row in tables["units"]
        )
        sampled = [int(row["sampled"]) for row in tables["design"]]
        legend = _legend(classes)
        values = _read_values(settings.get(_VALUES), legend)
    except (LandcoverError, TypeError, ValueError, OverflowError) as error:
        raise SampleError(
            f"The design in {path} was changed and cannot be used: {error}"
        ) from error
    ids, numbers, codes, areas, xs, ys = (np.asarray(column) for column in zip(*units, strict=True))
    centres = np.stack([xs, ys], axis=1)
    _check_design(path, strata, legend, sampled, (ids, numbers, codes), (areas, xs, ys))
    labels, crs = _labels(path, ids, centres, areas, legend)
    return SampleFile(
        strata, classes, settings, ids, numbers, codes, areas, centres, labels, crs, values
    )


def value_setting(codes: Mapping[int, int]) -> dict[str, str]:
    """The setting that keeps what stored values of the map mean; none where each is its own code.

    codes: code of each stored value, 0 where it means no data.
    """
    if all(code in (value, NODATA) for value, code in codes.items()):
        return {}
    return {_VALUES: " ".join(f"{value}={code}" for value, code in codes.items())}


def _read_values(text: str | None, legend: Legend) -> Mapping[int, int]:
    """Code of each stored value; LegendError or ValueError where the setting was changed."""
    if text is None:
        return {code: code for code in legend.codes}
    pairs = [pair.split("=") for pair in text.split()]
    values = {int(value): int(code) for value, code in pairs}
    for code in set(values.values()) - {NODATA}:
        legend[code]  # raises where there is none
    return values


def _legend(classes: Sequence[MappedClass]) -> Legend:
    return Legend.from_records(
        {"code": c.class_code, "name": c.class_name, "color": c.color} for c in classes
    )


def _layer(
    name: str,
    table: pa.Table,
    crs: pyproj.CRS | None = None,
    style: Style | None = None,
    geometry_type: str = "Polygon",
) -> Layer:
    return Layer(
        name, _DESCRIPTIONS[name], table.num_rows, table.to_reader(), crs, style, geometry_type
    )


def _squares(ids: NDArray[np.int64], pixels: SampledPixels, grid: GeoBox) -> pa.Table:
    around = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    cols = pixels.cols[:, None] + around[:, 0]
    rows = pixels.rows[:, None] + around[:, 1]
    corners = np.stack(_places(grid, cols, rows), axis=-1)
    return pa.table({"id": ids, "geom": _wkb(shapely.polygons(corners))})


def _places(grid: GeoBox, cols: Any, rows: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of places that are given in pixels."""
    t = grid.affine
    return t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f


def _points(ids: NDArray[np.int64], xs: Any, ys: Any, crs: pyproj.CRS | None) -> pa.Table:
    count = len(ids)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitudes, latitudes = to_degrees.transform(xs, ys)
    longitudes = (longitudes + 180) % 360 - 180  # a grid may go on beyond the 180 degree meridian
    links = [viewer_links(lon, lat) for lon, lat in zip(longitudes, latitudes, strict=True)]
    empty = {"reference": pa.int32(), "confidence": pa.string(), "note": pa.string()}
    return pa.table(
        {"id": ids}
        | {name: pa.nulls(count, kind) for name, kind in empty.items()}
        | {name: [link[name] for link in links] for name in LINKS}
        | {"geom": _wkb(shapely.points(xs, ys))}
    )


def _wkb(geometries: Any) -> pa.Array:
    return pa.array(shapely.to_wkb(geometries).tolist(), pa.large_binary())


def _read(path: Path, layer: str, columns: Sequence[str]) -> tuple[list[dict[str, Any]], Any]:
    """Rows of a table, one at least, and its CRS."""
    if not path.is_file():
        raise SampleError(f"There is no {path}; draw a sample by `landcover assess design`.")
    try:
        with (
            warnings.catch_warnings()
        ):  # what GDAL finds odd is checked here, and told in a sentence
            warnings.simplefilter("ignore", RuntimeWarning)
            meta, table = pyogrio.read_arrow(path, layer=layer)
    except (DataLayerError, DataSourceError, CRSError, pa.ArrowException) as error:
        raise SampleError(
            f"{path} is no sample of `landcover assess design`, or a copy of a part of it (table {layer}: "
            f"{error}); give the file that was labelled itself."
        ) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing or not table.num_rows:
        raise SampleError(
            f"The table {layer} of {path} has {table.num_rows} rows and lacks the columns "
            f"{', '.join(missing) or 'none'}; draw the sample again."
        )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows, meta["crs"]


def _check_design(
    path: Path,
    strata: Sequence[Stratum],
    legend: Legend,
    sampled: Sequence[int],
    whole: Sequence[NDArray[np.int64]],
    measured: Sequence[NDArray[np.float64]],
) -> None:
    """The design must be as it was written; it decides what every label counts."""
    (ids, numbers, codes), count = whole, len(strata)
    drawn = np.bincount(np.clip(numbers, 0, count + 1), minlength=count + 2)
    good = (
        [s.number for s in strata] == list(range(1, count + 1))
        and drawn.tolist() == [0, *sampled, 0]
        and ids.tolist() == list(range(1, len(ids) + 1))
        and all(s.pixels >= n > 0 for s, n in zip(strata, sampled, strict=True))
        and all(0 < s.hectares < np.inf for s in strata)
        and set(codes.tolist()) <= set(legend.codes)
        and all(bool(np.isfinite(values).all()) for values in measured)
        and bool((measured[0] > 0).all())
    )
    if not good:
        raise SampleError(
            f"The tables units, design or classes of {path} were changed; only the layer sample is for "
            "editing: take the labels over into a copy of the sample as it was drawn."
        )


def _labels(
    path: Path,
    ids: NDArray[np.int64],
    centres: NDArray[np.float64],
    areas: NDArray[np.float64],
    legend: Legend,
) -> tuple[NDArray[np.int64], pyproj.CRS]:
    """Codes that were given, by id, and the CRS of the points."""
    rows, crs_text = _read(path, "sample", ("id", "reference", "geom"))
    _check_points(path, ids.tolist(), [row["id"] for row in rows])
    rows.sort(key=lambda row: int(row["id"]))
    try:
        crs = pyproj.CRS(crs_text)
        places = shapely.get_coordinates(shapely.from_wkb([row["geom"] for row in rows]))
    except (CRSError, ShapelyError, TypeError) as error:
        raise SampleError(
            f"The layer sample of {path} has no CRS or no points ({error}); draw the sample again."
        ) from error
    if len(places) != len(ids) or _moved(places, centres, areas, crs).any():
        raise SampleError(
            f"Points of the layer sample of {path} were moved or lost their place; a label counts for the pixel "
            "that was drawn: put them back, or draw the sample again."
        )
    codes = [_code(path, row["id"], row["reference"], legend) for row in rows]
    return np.asarray(codes, np.int64), crs


def _check_points(path: Path, ids: list[int], found: list[Any]) -> None:
    if lost := sorted(set(ids) - set(found)):
        raise SampleError(
            f"{len(lost)} of {len(ids)} points were deleted from the layer sample of {path} (the first is {lost[0]}); "
            "without them the rest is no random sample: put them back, and leave empty what cannot be labelled."
        )
    if len(found) != len(ids):
        raise SampleError(
            f"The layer sample of {path} has {len(found)} points where {len(ids)} were drawn; delete those that "
            "were added or copied."
        )


def _moved(
    places: NDArray[np.float64],
    centres: NDArray[np.float64],
    areas: NDArray[np.float64],
    crs: pyproj.CRS,
) -> NDArray[np.bool_]:
    """Which points lie further from where they were than half a pixel, roughly."""
    side = np.sqrt(areas) / 2
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    metres = unit * _EARTH if crs.is_geographic else unit
    return np.asarray(np.hypot(*(places - centres).T) * metres > side)


def _code(path: Path, number: Any, value: Any, legend: Legend) -> int:
    """The class that a label means; 0 for none."""
    text = "" if value is None or value != value else str(value).strip()  # noqa: PLR0124 - NaN
    if text in ("", str(NODATA)):
        return NODATA
    code = legend.code_of(text)
    if code is None:
        raise SampleError(
            f"Pixel {number} of {path} is labelled {json.dumps(text[:80], ensure_ascii=False)}, which is no class "
            f"of the map; the classes are {', '.join(f'{c.code} ({c.name})' for c in legend.classes)}."
        )
    return code
