"""Polygons of a class raster: one valid coverage with true hectares, in a GeoPackage for QGIS."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.area import ClassArea, PixelAreas, Tally, class_table
from landcover.errors import RasterError
from landcover.legend import Legend
from landcover.polygons import Coverage, trace
from pipeline.class_raster import ClassRaster, open_classes, strips
from pipeline.cog import open_raster, raster_grid
from pipeline.geopackage import Layer, Style, write_geopackage
from pipeline.qgis_style import polygon_qml, polygon_sld

_BATCH = 65_536
"""Polygons handed to the writer at a time."""
_ALIASES = {
    "class_code": "Class code",
    "class_name": "Class",
    "area_ha": "Area (ha)",
    "confidence": "Mean confidence (%)",
    "pixels": "Pixels",
}
_POLYGONS = (
    "Land-cover polygons, a coverage without gaps or overlaps: area_ha in hectares on the "
    "ellipsoid; confidence is the mean over the polygon's pixels, percent; pixels is their number."
)
_AREAS = (
    "Area by class: area_ha in hectares on the ellipsoid; share_percent of the classified area; "
    "the sums of the layer landcover."
)


def vectorize(*, classes: Path, confidence: Path | None, output: Path) -> dict[str, Any]:
    """Turn a class raster into polygons with class, hectares and mean confidence.

    classes: class codes with their legend, 0 is nodata. confidence: percent on the same grid, or
    None, which leaves the column empty. output: GeoPackage with the layers `landcover` (polygons)
    and `areas` (one row per class), styled for QGIS.
    Returns the number of polygons, their hectares, pixels and vertices.
    Raises RasterError or LegendError where a raster cannot be used.
    """
    with open_classes(classes, output) as raster:
        coverage = trace(raster.read())
        areas = PixelAreas(raster.grid)
        measured = _measure(coverage, areas)
        table = class_table(_by_class(coverage, measured), areas, raster.legend)
        columns = {
            "area_ha": areas.hectares(measured.units),
            "confidence": _mean_confidence(coverage, measured.pixels, confidence, raster),
            "pixels": measured.pixels,
        }
        write_geopackage(
            output,
            [
                _polygon_layer(coverage, raster.grid, raster.legend, columns),
                _area_layer(table),
            ],
        )
    return {
        "polygons": len(coverage),
        "area_ha": sum(line.area_ha for line in table),
        "pixels": int(measured.pixels.sum()),
        "vertices": len(coverage.rows),
    }


def _measure(coverage: Coverage, areas: PixelAreas) -> Tally:
    """Pixels and area of each polygon, in the order of the polygons."""
    tally = Tally.zeros(len(coverage) + 1)
    for rows in _slices(len(coverage.labels)):
        tally.add(coverage.labels[rows], areas.units(rows))
    return Tally(tally.pixels[1:], tally.units[1:])


def _slices(height: int, step: int = 512) -> Iterator[slice]:
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _by_class(coverage: Coverage, measured: Tally) -> Tally:
    total = Tally.zeros(1 << 16)
    np.add.at(total.pixels, coverage.codes, measured.pixels)
    np.add.at(total.units, coverage.codes, measured.units)
    return total


def _mean_confidence(
    coverage: Coverage, pixels: NDArray[np.int64], path: Path | None, raster: ClassRaster
) -> NDArray[np.float64] | None:
    """Mean confidence of each polygon, percent; None where there is no confidence raster."""
    if path is None:
        return None
    tally = Tally.zeros(len(coverage) + 1)
    with open_raster(path) as dataset:
        if raster_grid(dataset) != raster.grid:
            raise RasterError(
                f"{path} lies on another grid than {raster.dataset.name}; give the confidence.tif of "
                "the same run."
            )
        for rows, percent in strips(dataset):
            tally.add(coverage.labels[rows], percent.astype(np.int64))
    return np.asarray(tally.units[1:] / pixels)


def _polygon_layer(
    coverage: Coverage, grid: GeoBox, legend: Legend, columns: dict[str, Any]
) -> Layer:
    schema = pa.schema(
        [
            ("class_code", pa.int32()), ("class_name", pa.string()), ("area_ha", pa.float64()),
            ("confidence", pa.float64()), ("pixels", pa.int64()), ("geom", pa.large_binary()),
        ]
    )  # fmt: skip
    names = pa.array([legend[code].name if code in legend else None for code in range(1 << 16)])

    def batches() -> Iterator[pa.RecordBatch]:
        for part in _slices(len(coverage), _BATCH):
            codes = pa.array(coverage.codes[part]).cast(pa.int32())
            values = [_column(columns[name], part) for name in ("area_ha", "confidence", "pixels")]
            arrays = [codes, names.take(codes), *values, _geometry(coverage, grid, part)]
            yield pa.record_batch(arrays, schema=schema)

    rows = pa.RecordBatchReader.from_batches(schema, batches())
    style = Style(
        "Land cover",
        polygon_qml(legend, "class_code", _ALIASES),
        polygon_sld(legend, "class_code", "landcover"),
    )
    crs = None if grid.crs is None else grid.crs.proj
    return Layer("landcover", _POLYGONS, len(coverage), rows, crs, style)


def _column(values: NDArray[Any] | None, part: slice) -> pa.Array:
    return pa.nulls(part.stop - part.start, pa.float64()) if values is None else pa.array(values[part])  # fmt: skip


def _geometry(coverage: Coverage, grid: GeoBox, part: slice) -> pa.Array:
    """Well-known binary of some polygons, without a copy."""
    buffer, offsets = coverage.wkb(grid.affine, part.start, part.stop)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), part.stop - part.start, [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    )  # fmt: skip


def _area_layer(table: Sequence[ClassArea]) -> Layer:
    schema = pa.schema(
        [
            ("class_code", pa.int32()), ("class_name", pa.string()), ("area_ha", pa.float64()),
            ("share_percent", pa.float64()), ("pixels", pa.int64()),
        ]
    )  # fmt: skip
    rows = pa.Table.from_pylist([asdict(line) for line in table], schema=schema)
    return Layer("areas", _AREAS, rows.num_rows, rows.to_reader())
