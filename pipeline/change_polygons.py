"""The GeoPackage of a comparison: polygons of change styled by group, and its tables."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from landcover.area import PixelAreas
from landcover.transition_groups import Transitions
from landcover.transitions import class_changes, pair_of
from pipeline.change_record import STATUS, ChangeRecord, guard_rows, transition_rows
from pipeline.class_polygons import Batch, ClassPolygons, Pixels
from pipeline.class_raster import strips
from pipeline.cog import open_raster, raster_grid
from pipeline.geopackage import Layer, Style, write_geopackage
from pipeline.qgis_style import polygon_qml, polygon_sld

_STRIP_PIXELS = 2**20
_SCHEMA = pa.schema(
    [
        ("id", pa.int64()), ("from_code", pa.int32()), ("from", pa.string()), ("to_code", pa.int32()),
        ("to", pa.string()), ("group_code", pa.int32()), ("group", pa.string()), ("area_ha", pa.float64()),
        ("perimeter_m", pa.float64()), ("pixels", pa.int64()), ("confidence", pa.float64()),
        ("confidence_min", pa.int32()), ("first_seen", pa.string()), ("status", pa.string()),
        ("geom", pa.large_binary()),
    ]
)  # fmt: skip
_ALIASES = {
    "id": "Polygon", "from_code": "Code before", "from": "From", "to_code": "Code after", "to": "To",
    "group_code": "Group code", "group": "Group", "area_ha": "Area (ha)", "perimeter_m": "Perimeter (m)",
    "pixels": "Pixels", "confidence": "Mean confidence (%)", "confidence_min": "Least confidence (%)",
    "first_seen": "First seen", "status": "Status",
}  # fmt: skip
_CHANGES = (
    "Changes of class after all guards: area_ha in hectares and perimeter_m in metres on the ellipsoid; "
    "confidence is the mean over the pixels of joint confidence x spectral evidence, percent; first_seen is the "
    "last day of the second map. Where from and to are one class, its surface changed."
)
_TRANSITIONS = (
    "Hectares on the ellipsoid by class before and after: area_ha as the two maps say, so that it adds up to "
    "their area tables; counted_ha after all guards."
)
_CLASSES = (
    "What each class won and lost, hectares: gain, loss, net and swap of the counted changes; before_ha and "
    "after_ha are the area tables of both maps."
)
_GUARDS = "Hectares of change that each guard took out, in the order in which they apply, and what was left."


def write_changes(
    folder: Path, record: ChangeRecord, transitions: Transitions, areas: PixelAreas
) -> None:
    """Write change.gpkg from change.tif, surface.tif and change_confidence.tif of a folder."""
    with (
        open_raster(folder / "change.tif") as changed,
        open_raster(folder / "surface.tif") as surface,
        open_raster(folder / "change_confidence.tif") as sure,
    ):
        grid = raster_grid(changed)
        step = 1 << (max(1, _STRIP_PIXELS // int(grid.shape[1])).bit_length() - 1)

        def read() -> Iterator[Pixels]:
            parts = (strips(dataset, step) for dataset in (changed, surface, sure))
            for (rows, pairs), (_, codes), (_, percent) in zip(*parts, strict=True):
                yield Pixels(rows, drawn(pairs, codes), percent.astype(np.uint8, copy=False))

        shapes = ClassPolygons(read, grid)
        crs = None if grid.crs is None else grid.crs.proj
        found = [int(code) for code in np.unique(shapes.features.codes)]
        rows = pa.RecordBatchReader.from_batches(_SCHEMA, _batches(shapes, record, transitions))
        groups = transitions.group_legend(found)
        style = Style(
            "Change",
            polygon_qml(groups, "group_code", _ALIASES),
            polygon_sld(groups, "group_code", "changes"),
        )
        layers = [
            Layer("changes", _CHANGES, len(shapes.features), rows, crs, style),
            _table("transitions", _TRANSITIONS, transition_rows(record)),
            _table("classes", _CLASSES, [asdict(line) for line in class_changes(record.mapped, record.counted, areas)]),
            _table("guards", _GUARDS, guard_rows(record)),
        ]  # fmt: skip
        write_geopackage(folder / "change.gpkg", layers)


def drawn(pairs: NDArray[np.integer], surface: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Pair codes of what is drawn, 0 elsewhere: changes, and surfaces that changed within a class."""
    pairs, surface = pairs.astype(np.uint16), surface.astype(np.uint16)
    within = surface * np.uint16(257)
    return np.asarray(np.where(pairs // 256 != pairs % 256, pairs, within), np.uint16)


def _batches(
    shapes: ClassPolygons, record: ChangeRecord, transitions: Transitions
) -> Iterator[pa.RecordBatch]:
    for batch in shapes.batches():
        if len(batch.codes):
            columns = _columns(batch, shapes, record, transitions)
            yield pa.record_batch([columns[name] for name in _SCHEMA.names], schema=_SCHEMA)


def _columns(
    batch: Batch, shapes: ClassPolygons, record: ChangeRecord, transitions: Transitions
) -> dict[str, pa.Array]:
    legend, count = record.mapped.legend, len(batch.codes)
    pairs = [pair_of(code) for code in batch.codes]
    buffer, offsets = batch.polygons.wkb(shapes.grid.affine, None)
    geometry = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    )
    return {
        "id": pa.array(batch.firsts + 1),
        "from_code": pa.array([old for old, _ in pairs], pa.int32()),
        "from": pa.array([legend[old].name for old, _ in pairs], pa.string()),
        "to_code": pa.array([new for _, new in pairs], pa.int32()),
        "to": pa.array([legend[new].name for _, new in pairs], pa.string()),
        "group_code": pa.array([transitions.group_number(c) for c in batch.codes], pa.int32()),
        "group": pa.array([transitions.group(c) for c in batch.codes], pa.string()),
        "area_ha": pa.array(shapes.areas.hectares(batch.units)),
        "perimeter_m": pa.array(batch.perimeters),
        "pixels": pa.array(batch.tally.pixels),
        "confidence": pa.array(batch.tally.confidence / batch.tally.pixels),
        "confidence_min": pa.array(batch.tally.lowest.astype(np.int32)),
        "first_seen": pa.array([record.first_seen] * count, pa.string()),
        "status": pa.array([STATUS] * count, pa.string()),
        "geom": geometry,
    }


def _table(name: str, description: str, rows: list[dict[str, Any]]) -> Layer:
    table = pa.Table.from_pylist(rows)
    return Layer(name, description, table.num_rows, table.to_reader())
