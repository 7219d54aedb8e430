"""Countable things, such as buildings, ponds or fields: each connected region with its shape."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from landcover.errors import SettingsError
from landcover.legend import Legend
from landcover.shape_measures import shape_measures
from pipeline.class_polygons import Batch, ClassPolygons, Pixels
from pipeline.class_raster import ClassRaster
from pipeline.feature_columns import (
    CONFIDENCE_FIELDS,
    FEATURE_FIELDS,
    confidence_columns,
    feature_columns,
)
from pipeline.geopackage import Layer, Style
from pipeline.qgis_style import polygon_qml, polygon_sld

_MEASURES = ("compactness", "length_m", "width_m", "elongation", "orientation_deg")
_SCHEMA = pa.schema(
    [
        *FEATURE_FIELDS, *((name, pa.float64()) for name in _MEASURES), *CONFIDENCE_FIELDS,
        ("geom", pa.large_binary()),
    ]
)  # fmt: skip
_ALIASES = {
    "id": "Feature",
    "class_code": "Class code",
    "class_name": "Class",
    "area_ha": "Area (ha)",
    "perimeter_m": "Perimeter (m)",
    "pixels": "Pixels",
    "compactness": "Compactness (0 to 1)",
    "length_m": "Length (m)",
    "width_m": "Width (m)",
    "elongation": "Length / width",
    "orientation_deg": "Orientation (degrees from north)",
    "confidence": "Mean confidence (%)",
    "confidence_min": "Least confidence (%)",
}
_INSTANCES = (
    "Connected regions of countable classes as the class raster has them, neither merged nor simplified: "
    "compactness is 4 pi area / perimeter^2, 0.79 for a square; length_m and width_m are the sides of the "
    "smallest rectangle around it, elongation is their ratio, orientation_deg the direction of the longer one, "
    "degrees clockwise from true north."
)


def countable_codes(wanted: Sequence[str], legend: Legend) -> tuple[int, ...]:
    """Codes of classes given by name, in any case, or by code. Raises SettingsError for others."""
    known = {str(c.code): c.code for c in legend.classes} | {
        c.name.casefold(): c.code for c in legend.classes
    }
    unknown = [text for text in wanted if text.strip().casefold() not in known]
    if unknown:
        raise SettingsError(
            f"The legend has no class {', '.join(map(repr, unknown))} to count; it has "
            f"{', '.join(f'{c.name} ({c.code})' for c in legend.classes)}."
        )
    return tuple(sorted({known[text.strip().casefold()] for text in wanted}))


def instance_layer(
    read: Callable[[], Iterable[Pixels]], raster: ClassRaster, codes: Sequence[int], *, known: bool, corners: bool
) -> Layer:  # fmt: skip
    """Layer of the connected regions of some classes, made while it is written.

    read: gives the class raster in strips, the same each time. known: whether there is a confidence.
    corners: whether pixels that touch by a corner are connected.
    """
    is_wanted = np.zeros(1 << 16, np.bool_)
    is_wanted[list(codes)] = True

    def only() -> Iterator[Pixels]:
        for pixels in read():
            yield replace(pixels, codes=pixels.codes * is_wanted[pixels.codes], observed=None)

    shapes = ClassPolygons(only, raster.grid, corners=corners)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in shapes.batches():
            if len(batch.codes):
                columns = (
                    feature_columns(batch, shapes, raster)
                    | _shape_columns(batch, shapes)
                    | confidence_columns(batch, known=known)
                )
                yield pa.record_batch([columns[name] for name in _SCHEMA.names], schema=_SCHEMA)

    legend = Legend(tuple(c for c in raster.legend.classes if c.code in codes))
    style = Style(
        "Instances",
        polygon_qml(legend, "class_code", _ALIASES),
        polygon_sld(legend, "class_code", "instances"),
    )
    rows = pa.RecordBatchReader.from_batches(_SCHEMA, batches())
    crs = None if raster.grid.crs is None else raster.grid.crs.proj
    kind = "MultiPolygon" if corners else "Polygon"
    return Layer("instances", _INSTANCES, len(shapes.features), rows, crs, style, kind)


def _shape_columns(batch: Batch, shapes: ClassPolygons) -> dict[str, pa.Array]:
    areas = 1e4 * shapes.areas.hectares(batch.units)
    found = shape_measures(
        batch.polygons, batch.parts, areas, batch.perimeters, shapes.steps, shapes.grid
    )
    return {name: pa.array(getattr(found, name)) for name in _MEASURES}
