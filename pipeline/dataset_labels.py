"""Labels of one image: codes of any window of it, from a class raster or from polygons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyogrio
import rasterio.features
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from shapely.geometry.base import BaseGeometry

from landcover.antimeridian import near_grid
from landcover.errors import DatasetError
from landcover.label_codes import LabelCodes, class_code, packed, shown
from landcover.legend import NODATA
from landcover.pixel_places import pixel_places
from pipeline.artifacts import fingerprint
from pipeline.dataset_file import DatasetPlan, NamedPath, Source, label_codes
from pipeline.dataset_image import DatasetImage, image_grid
from pipeline.items import one_line
from pipeline.open_files import DRIVERS, FILES

VECTORS = frozenset({".gpkg", ".geojson", ".json", ".shp", ".fgb"})
_CHUNK = 1024
"""Side of the pieces in which polygons are drawn, so that a pixel is the same in every window."""
_EMPTY = -1
"""What stands for the nodata value of a file with a colour table: no colour."""
_EXACT = 0.01
"""Pixels by which a label raster may lie beside the image's grid."""


class Labels(Protocol):
    """Codes of the windows of one image."""

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], Mapping[str, int]]:
        """Codes (rows, cols), 0 where not labelled, and how often each unknown value occurs."""


@dataclass(frozen=True)
class RasterLabels:
    """A class raster on the image's grid, or on another one from which the nearest pixel is taken."""

    path: Path
    meaning: LabelCodes
    bands: tuple[int, ...]
    palette: NDArray[np.int32] | None
    """Packed colour by stored value, _EMPTY for nodata, where the labels are coloured by a table."""
    nodata: float | None
    """Stored value or packed colour that means 'not labelled'."""
    shape: tuple[int, int]
    shift: tuple[int, int] | None
    """Row and column of the image's first pixel in the raster; None where the grids differ."""
    grids: tuple[GeoBox, GeoBox] | None
    """Of image and raster, where they differ."""

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], Mapping[str, int]]:
        """As Labels.read."""
        codes = np.full((rows.stop - rows.start, cols.stop - cols.start), NODATA, np.uint8)
        if self.grids is None:
            here = [
                slice(max(cut.start + move, 0), min(cut.stop + move, length))
                for cut, move, length in zip(
                    (rows, cols), self.shift or (0, 0), self.shape, strict=True
                )
            ]
            if any(cut.start >= cut.stop for cut in here):
                return codes, {}
            values = self._values(here[0], here[1])
            top, left = (
                cut.start - move - asked.start
                for cut, move, asked in zip(here, self.shift or (0, 0), (rows, cols), strict=True)
            )
            part = (slice(top, top + values.shape[0]), slice(left, left + values.shape[1]))
            codes[part], unknown = self.meaning.apply(values, self.nodata)
            return codes, _counted(values, unknown, self.meaning)
        row, col = self._places(rows, cols, self.grids)
        inside = (row >= 0) & (row < self.shape[0]) & (col >= 0) & (col < self.shape[1])
        if not inside.any():
            return codes, {}
        row, col = np.broadcast_arrays(row, col)
        top, left = int(row[inside].min()), int(col[inside].min())
        bottom, right = int(row[inside].max()) + 1, int(col[inside].max()) + 1
        patch = self._values(slice(top, bottom), slice(left, right))
        values = patch[row[inside] - top, col[inside] - left]
        codes[inside], unknown = self.meaning.apply(values, self.nodata)
        return codes, _counted(values, unknown, self.meaning)

    @staticmethod
    def _places(
        rows: slice, cols: slice, grids: tuple[GeoBox, GeoBox]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns in the raster that are nearest to a window's pixels."""
        image, raster = grids
        x, y = pixel_places(image, CRS(raster.crs), rows, cols)
        x = near_grid(x, raster)  # 180.1 degrees may be -179.9 to the raster
        back = ~raster.affine
        with np.errstate(invalid="ignore"):
            return _whole(back.d * x + back.e * y + back.f), _whole(
                back.a * x + back.b * y + back.c
            )

    def _values(self, rows: slice, cols: slice) -> NDArray[np.integer]:
        """Stored values or packed colours of a window of the raster."""
        stored = FILES.read(self.path, self.bands, rows, cols)
        if len(self.bands) == 3:
            return packed(stored)
        return np.asarray(stored[0] if self.palette is None else self.palette[stored[0]])


@dataclass(frozen=True)
class PolygonLabels:
    """Polygons with a code each, in the image's CRS; the later one wins where they overlap."""

    key: str
    """Tells these polygons apart from those of other images."""
    grid: GeoBox
    shapes: Sequence[tuple[BaseGeometry, int]]
    all_touched: bool
    unknown: Mapping[str, int]
    """How many polygons have each value that the mapping lacks."""

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], Mapping[str, int]]:
        """As Labels.read; what is unknown is counted in polygons, at the first window."""
        codes = np.empty((rows.stop - rows.start, cols.stop - cols.start), np.uint8)
        for top in range(rows.start // _CHUNK * _CHUNK, rows.stop, _CHUNK):
            for left in range(cols.start // _CHUNK * _CHUNK, cols.stop, _CHUNK):
                chunk = self._chunk(top, left)
                down = slice(max(top, rows.start), min(top + _CHUNK, rows.stop))
                across = slice(max(left, cols.start), min(left + _CHUNK, cols.stop))
                codes[
                    down.start - rows.start : down.stop - rows.start,
                    across.start - cols.start : across.stop - cols.start,
                ] = chunk[
                    down.start - top : down.stop - top, across.start - left : across.stop - left
                ]
        return codes, (self.unknown if rows.start == 0 and cols.start == 0 else {})

    def _chunk(self, top: int, left: int) -> NDArray[np.uint8]:
        key = (self.key, top, left)
        kept = FILES.kept(key)
        if kept is not None:
            return kept
        grid = self.grid[top : top + _CHUNK, left : left + _CHUNK]
        area = shapely.box(*grid.extent.boundingbox.bbox)
        near = [(shape, code) for shape, code in self.shapes if shape.intersects(area)]
        chunk = np.zeros(grid.shape, np.uint8)
        if near:
            rasterio.features.rasterize(
                near, out=chunk, transform=grid.affine, all_touched=self.all_touched, dtype="uint8"
            )
        FILES.keep(key, chunk)
        return chunk


def open_labels(source: Source, image: DatasetImage, plan: DatasetPlan) -> tuple[Labels, list[str]]:
    """The labels of an image, and what a person should know about them.

    Raises DatasetError where they cannot be read, are not on the image's grid, or have no CRS.
    """
    ending = source.labels.path.suffix.lower()
    if ending in VECTORS:
        return _open_polygons(source, image, plan)
    if ending in DRIVERS:
        return _open_raster(source, image, plan)
    raise DatasetError(
        f"{source.labels.name} is neither a raster ({', '.join(DRIVERS)}) nor polygons "
        f"({', '.join(sorted(VECTORS))})."
    )


def open_ignored(named: NamedPath, image: DatasetImage) -> PolygonLabels | None:
    """The areas of an image in which nothing counts; None where it has no place on the Earth."""
    if image.grid is None:
        return None
    frame = _polygons(named, image.grid, None)
    shapes = tuple((shape, 1) for shape in frame.geometry)
    return PolygonLabels(_key(named, image, shapes), image.grid, shapes, True, {})


# --- rasters


def _open_raster(
    source: Source, image: DatasetImage, plan: DatasetPlan
) -> tuple[Labels, list[str]]:
    name = source.labels.name
    dataset = FILES.dataset(source.labels.path)
    walk = label_codes(source, plan)
    bands, palette, nodata = _label_bands(dataset, walk, name)
    shift, notes = _shift(dataset, image, name)
    grids = None
    if shift is None:
        raster = image_grid(dataset, name)
        if raster is None or image.grid is None:
            raise AssertionError("grids without a place were told apart before")
        if plan.file.labels.resample is None:
            raise DatasetError(
                f"{name} is not on the grid of {image.name} ({_grid_text(raster)}, not {_grid_text(image.grid)}); "
                "resample it, or allow it by labels: {resample: nearest}."
            )
        _check_way(name, raster.crs, image.grid)
        grids = (image.grid, raster)
        notes.append(f"{name} is on another grid than {image.name}; the nearest label is taken.")
    labels = RasterLabels(
        path=source.labels.path, meaning=walk, bands=bands, palette=palette, nodata=nodata,
        shape=dataset.shape, shift=shift, grids=grids,
    )  # fmt: skip
    return labels, notes


def _label_bands(
    dataset: DatasetReader, walk: LabelCodes, name: str
) -> tuple[tuple[int, ...], NDArray[np.int32] | None, float | None]:
    """Numbers of the bands, colours of a table, and what means 'not labelled'."""
    if np.dtype(dataset.dtypes[0]).kind not in "ui":
        raise DatasetError(
            f"{name} holds {dataset.dtypes[0]} numbers; labels are whole numbers or colours."
        )
    if not walk.colors:
        if dataset.count != 1:
            raise DatasetError(
                f'{name} has {dataset.count} bands; labels have one, or are given by colour: mapping: {{"#rrggbb": code}}.'
            )
        return (1,), None, dataset.nodata
    if dataset.count >= 3 and dataset.dtypes[0] == "uint8":
        return (1, 2, 3), None, _empty_color(dataset.nodatavals[:3])
    try:
        return (1,), _palette(dataset), _EMPTY
    except ValueError as error:
        raise DatasetError(
            f"{name} has no colours (it has {dataset.count} band(s) of {dataset.dtypes[0]} and no colour table); map "
            "its values as whole numbers."
        ) from error


def _empty_color(nodata: Sequence[float | None]) -> int | None:
    """The packed colour of three bands without data; None where no pixel can have it."""
    bands = [int(v) for v in nodata if v is not None and v.is_integer() and 0 <= v <= 255]
    return int(packed(np.array(bands, np.uint8))) if len(bands) == 3 else None


def _palette(dataset: DatasetReader) -> NDArray[np.int32]:
    """Packed colours by stored value. Raises ValueError where the file has no colour table."""
    colors = dataset.colormap(1)
    table = np.zeros(1 << 16, np.int32)
    table[list(colors)] = packed(np.array(list(colors.values()), np.uint8)[:, :3].T)
    if dataset.nodata is not None and dataset.nodata in colors:
        table[int(dataset.nodata)] = _EMPTY
    return table[: 256 ** np.dtype(dataset.dtypes[0]).itemsize]


def _shift(
    dataset: DatasetReader, image: DatasetImage, name: str
) -> tuple[tuple[int, int] | None, list[str]]:
    """Place of the image's first pixel in a label raster of its grid; None where the grids differ."""
    raster = image_grid(dataset, name)
    if raster is None or image.grid is None:
        if dataset.shape != image.shape:
            raise DatasetError(
                f"{name} has {dataset.width} x {dataset.height} pixels, {image.name} {image.shape[1]} x {image.shape[0]}, "
                f"and {name if raster is None else image.name} has no CRS that would say where it lies; write it "
                "into the file, or cut both to one size."
            )
        if raster is None and image.grid is None:
            return (0, 0), []
        bare = name if raster is None else image.name
        return (0, 0), [f"{bare} has no CRS; its pixels are taken to be those of the other file."]
    if raster.crs != image.grid.crs:
        return None, []
    place = ~raster.affine * image.grid.affine
    col, row = place * (0, 0)
    last = np.array(place * (image.shape[1], image.shape[0])) - (
        image.shape[1] + col,
        image.shape[0] + row,
    )
    moved = np.array([place.b, place.d, col - round(col), row - round(row), *last])
    if np.abs(moved).max() > _EXACT:
        return None, []
    return (round(row), round(col)), []


def _counted(
    values: NDArray[np.integer], unknown: NDArray[np.bool_], walk: LabelCodes
) -> dict[str, int]:
    if not unknown.any():
        return {}
    found, counts = np.unique(values[unknown], return_counts=True)
    return {
        shown(int(value), color=walk.colors): int(count)
        for value, count in zip(found[:100], counts[:100], strict=True)
    }


def _whole(place: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.nan_to_num(np.floor(place), nan=-1, posinf=-1, neginf=-1).astype(np.int64)


def _grid_text(grid: GeoBox) -> str:
    return f"{grid.crs}, pixels of {abs(grid.affine.a):g}, corner {grid.affine.c:.10g}, {grid.affine.f:.10g}"


# --- polygons


def _open_polygons(
    source: Source, image: DatasetImage, plan: DatasetPlan
) -> tuple[Labels, list[str]]:
    name = source.labels.name
    if image.grid is None:
        raise DatasetError(
            f"{image.name} has no CRS, so the polygons of {name} cannot be placed on it; write it into the file."
        )
    if source.field is None:
        raise DatasetError(
            f"{name} holds polygons; say by labels: {{field: ...}} which attribute is the class."
        )
    frame = _polygons(source.labels, image.grid, source.field)
    column = frame[source.field]
    codes = {value: _attribute_code(value, source, plan) for value in column.dropna().unique()}
    unknown: dict[str, int] = {}
    shapes = []
    for value, missing, shape in zip(column, column.isna(), frame.geometry, strict=True):
        code = NODATA if missing else codes[value]
        if code is None:
            unknown[str(value)[:100]] = unknown.get(str(value)[:100], 0) + 1
        else:
            shapes.append((shape, code))
    touched = plan.file.labels.all_touched
    labels = PolygonLabels(
        _key(source.labels, image, shapes, touched), image.grid, tuple(shapes), touched, unknown
    )
    notes = [] if shapes else [f"{name} has no polygon on {image.name}."]
    return labels, notes + _overlap_notes(shapes, name)


def _polygons(named: NamedPath, grid: GeoBox, field: str | None) -> GeoDataFrame:
    """The polygons that touch a grid, in its CRS."""
    info = _vector_info(named)
    if field is not None and field not in list(info["fields"]):
        raise DatasetError(
            f"{named.name} has no attribute '{field}'; it has {', '.join(list(info['fields'])[:20]) or 'none'}."
        )
    if not info["crs"]:
        raise DatasetError(
            f"{named.name} has no CRS, so its polygons have no place; write it into the file."
        )
    if "Polygon" not in (info["geometry_type"] or "") and info["geometry_type"] not in {
        "Unknown",
        "GeometryCollection",
    }:
        raise DatasetError(
            f"{named.name} holds {info['geometry_type'] or 'no geometry'}; labels are polygons."
        )
    _check_way(named.name, info["crs"], grid)
    extent = grid.extent.to_crs(
        info["crs"], resolution=max(abs(grid.resolution.x) * 64, 1e-9), check_and_fix=True
    )
    try:
        frame = pyogrio.read_dataframe(
            named.path, columns=[field] if field else [], bbox=extent.boundingbox.bbox
        )
        frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
        if not frame.geom_type.isin(["Polygon", "MultiPolygon"]).all():
            raise DatasetError(
                f"{named.name} holds other things than polygons; labels are polygons."
            )
        return frame.to_crs(str(grid.crs))
    except (pyogrio.errors.DataSourceError, ProjError, ValueError, RasterioError) as error:
        raise DatasetError(f"{named.name} cannot be read: {one_line(error)}.") from error


def _check_way(name: str, crs: Any, grid: GeoBox) -> None:
    """Raise DatasetError where places in a CRS have none in that of an image."""
    try:
        Transformer.from_crs(CRS(crs).proj, CRS(grid.crs).proj)
    except ProjError as error:
        raise DatasetError(
            f"{name} has a CRS that cannot be turned into the image's; write the right one into the file."
        ) from error


def _key(named: NamedPath, image: DatasetImage, shapes: Sequence[Any], *how: bool) -> str:
    """Tells drawn polygons apart: the same file may be read with two mappings."""
    return fingerprint(str(named.path), str(image.paths[0]), [code for _, code in shapes], how)


def _vector_info(named: NamedPath) -> dict[str, Any]:
    try:
        return dict(pyogrio.read_info(named.path))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise DatasetError(
            f"{named.name} cannot be read as polygons ({one_line(error)}); fetch it again, or take it out."
        ) from error


def _attribute_code(value: Any, source: Source, plan: DatasetPlan) -> int | None:
    """Code of an attribute's value; None where the mapping lacks it."""
    number = (
        int(value)
        if isinstance(value, (int, float, np.number)) and float(value).is_integer()
        else None
    )
    keys: list[int | str] = [str(value)] if number is None else [number, str(number)]
    if source.mapping:
        for key in keys:
            if key in source.mapping:
                return class_code(source.mapping[key], plan.legend)
        return None
    named = dict(zip(plan.legend.names, plan.legend.codes, strict=True))
    codes = dict(plan.legend_codes) or {code: code for code in plan.legend.codes}
    return named.get(str(value), codes.get(number) if number is not None else None)


def _overlap_notes(shapes: Sequence[tuple[BaseGeometry, int]], name: str) -> list[str]:
    """Says where polygons of two classes lie on each other."""
    geometries = [shape for shape, _ in shapes]
    if not geometries:
        return []
    one, other = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    codes = np.array([code for _, code in shapes])
    differ = (one < other) & (codes[one] != codes[other])
    pairs = 0
    for i, j in zip(one[differ], other[differ], strict=True):
        try:
            pairs += geometries[i].intersection(geometries[j]).area > 0
        except shapely.errors.GEOSException:
            pairs += 1
    return (
        [f"{name} has {pairs} overlapping polygons of different classes; the later one counts."]
        if pairs
        else []
    )
