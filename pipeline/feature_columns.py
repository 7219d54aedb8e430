"""Columns of polygon layers: what every feature of a class raster has."""

from functools import cache

import numpy as np
import pyarrow as pa

from landcover.legend import Legend
from pipeline.class_polygons import Batch, ClassPolygons
from pipeline.class_raster import ClassRaster

FEATURE_FIELDS = (
    ("id", pa.int64()), ("class_code", pa.int32()), ("class_name", pa.string()),
    ("area_ha", pa.float64()), ("perimeter_m", pa.float64()), ("pixels", pa.int64()),
)  # fmt: skip
"""Of every feature."""
CONFIDENCE_FIELDS = (("confidence", pa.float64()), ("confidence_min", pa.int32()))
"""Mean and least of its pixels, percent; null where it is not known."""


def feature_columns(
    batch: Batch, shapes: ClassPolygons, raster: ClassRaster
) -> dict[str, pa.Array]:
    """The columns of FEATURE_FIELDS, and `geom` as well-known binary."""
    codes = pa.array(batch.codes).cast(pa.int32())
    parts = batch.parts if shapes.corners else None
    buffer, offsets = batch.polygons.wkb(raster.grid.affine, parts)
    geometry = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(codes), [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    )
    return {
        "id": pa.array(batch.firsts + 1),
        "class_code": codes,
        "class_name": _names(raster.legend).take(codes),
        "area_ha": pa.array(shapes.areas.hectares(batch.units)),
        "perimeter_m": pa.array(batch.perimeters),
        "pixels": pa.array(batch.tally.pixels),
        "geom": geometry,
    }


def confidence_columns(batch: Batch, *, known: bool) -> dict[str, pa.Array]:
    """The columns of CONFIDENCE_FIELDS."""
    if not known:
        return {name: pa.nulls(len(batch.codes), kind) for name, kind in CONFIDENCE_FIELDS}
    return {
        "confidence": pa.array(batch.tally.confidence / batch.tally.pixels),
        "confidence_min": pa.array(batch.tally.lowest.astype(np.int32)),
    }


@cache
def _names(legend: Legend) -> pa.Array:
    """Class name by code."""
    return pa.array([legend[c].name if c in legend else None for c in range(1 << 16)])
