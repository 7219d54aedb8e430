"""Polygons of a class raster: one valid coverage with true hectares, in a GeoPackage for QGIS."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import rasterio
from rasterio.io import DatasetReader

from landcover.area import ClassArea, Tally, check_codes, class_table
from landcover.errors import RasterError, SettingsError
from landcover.legend import Legend
from pipeline.class_polygons import Batch, ClassPolygons, Pixels
from pipeline.class_raster import ClassRaster, open_classes, strips
from pipeline.cog import open_raster, raster_grid
from pipeline.geopackage import Layer, Style, write_geopackage
from pipeline.qgis_style import polygon_qml, polygon_sld

_STRIP_PIXELS = 2**20
"""Pixels of a strip, at most, unless a row has more; half a dozen are in memory, 60 bytes a pixel."""
_ALIASES = {
    "id": "Polygon",
    "class_code": "Class code",
    "class_name": "Class",
    "area_ha": "Area (ha)",
    "perimeter_m": "Perimeter (m)",
    "pixels": "Pixels",
    "confidence": "Mean confidence (%)",
    "confidence_min": "Least confidence (%)",
}
_POLYGONS = (
    "Land-cover polygons, a coverage without gaps or overlaps: id is the same for the same raster however "
    "it is cut; area_ha in hectares and perimeter_m in metres on the ellipsoid; pixels is their number; "
    "confidence and confidence_min are mean and least of the polygon's pixels, percent."
)
_AREAS = (
    "Area by class: area_ha in hectares on the ellipsoid; share_percent of the classified area; "
    "the sums of the layer landcover."
)
_MERGED = (
    "What merging polygons below the minimum area moved from one class to another: area_ha in hectares "
    "on the ellipsoid."
)


def vectorize(
    *,
    classes: Path,
    confidence: Path | None,
    output: Path,
    legend: str | None = None,
    min_area: float = 0.0,
    simplify: float = 0.0,
    strip_rows: int | None = None,
) -> dict[str, Any]:
    """Turn a class raster into polygons with class, hectares and confidence.

    classes: any class raster of 8 or 16 bits. legend: what its values mean, as
    `pipeline.value_legend.value_legend` takes it; None for the file's own. confidence: percent on the same grid, or
    None, which leaves its columns empty. output: GeoPackage with the layers `landcover` (polygons),
    `areas` (one row per class) and, with min_area, `merged` (hectares moved between classes), styled
    for QGIS. min_area: hectares on the ellipsoid below which a polygon is merged into the neighbour with
    the longest common border. simplify: metres by which borders may move; both sides move together.
    strip_rows: rows read at a time; they change neither polygons nor numbers.
    Returns the number of polygons, their hectares, pixels and vertices, what was merged, and the worst
    displacement.
    Raises RasterError, LegendError or SettingsError where an input cannot be used.
    """
    if not (min_area >= 0 and simplify >= 0) or (strip_rows is not None and strip_rows < 1):
        raise SettingsError(
            f"The minimum area is {min_area:g} ha, the tolerance {simplify:g} m, the rows of a strip "
            f"{strip_rows}; give 0 or more, and 1 or more rows."
        )
    with (
        open_classes(classes, output, legend) as raster,
        _confidence(confidence, raster) as dataset,
        rasterio.Env(GDAL_CACHEMAX=_cache_bytes(raster)),
    ):
        shapes = ClassPolygons(
            functools.partial(_strips, raster, dataset, strip_rows or _strip_rows(raster)),
            raster.grid, minimum=min_area, tolerance=simplify,
        )  # fmt: skip
        check_codes(np.unique(shapes.features.codes), raster.legend)
        work = _Work(shapes, raster, known=dataset is not None)
        layers = [work.polygon_layer(), work.area_layer()]
        if min_area > 0:
            layers.append(_merged_layer(shapes, raster.legend))
        try:
            write_geopackage(output, layers)
        except RasterError:
            if work.failure:  # GDAL forgets why its input ended
                raise work.failure from None
            raise
    return {
        "polygons": len(shapes.features),
        "area_ha": sum(line.area_ha for line in work.table()),
        "pixels": int(work.total.pixels.sum()),
        "vertices": work.vertices,
        "merged": shapes.merged,
        "moved_ha": sum(line["area_ha"] for line in _moved(shapes, raster.legend)),
        "displacement_m": shapes.displacement,
    }


def _strip_rows(raster: ClassRaster) -> int:
    """Rows of a strip: a power of two, so that tiles are cut evenly."""
    width = int(raster.grid.shape[1])
    return 1 << (max(1, _STRIP_PIXELS // width).bit_length() - 1)


def _cache_bytes(raster: ClassRaster) -> int:
    """What GDAL needs to decode each tile of two rasters once, though it is read in parts."""
    rows, size = raster.dataset.block_shapes[0][0], np.dtype(raster.dataset.dtypes[0]).itemsize
    return max(2**25, int(4 * rows * raster.grid.shape[1] * size))


@contextlib.contextmanager
def _confidence(path: Path | None, raster: ClassRaster) -> Iterator[DatasetReader | None]:
    if path is None:
        yield None
        return
    with open_raster(path) as dataset:
        if raster_grid(dataset) != raster.grid:
            raise RasterError(
                f"{path} lies on another grid than {raster.dataset.name}; give the confidence.tif of "
                "the same run."
            )
        yield dataset


def _strips(raster: ClassRaster, confidence: DatasetReader | None, step: int) -> Iterator[Pixels]:
    if confidence is None:
        for rows, codes in raster.strips(step):
            yield Pixels(rows, codes, None)
        return
    both = zip(raster.strips(step), strips(confidence, step), strict=True)
    for (rows, codes), (_, percent) in both:
        yield Pixels(rows, codes, percent.astype(np.uint8, copy=False))


@dataclass
class _Work:
    """Layers that are made while they are written, and what is known when they are."""

    shapes: ClassPolygons
    raster: ClassRaster
    known: bool
    """Whether there is a confidence."""
    total: Tally = field(default_factory=lambda: Tally.zeros(1 << 16))
    """Pixels and area of each class so far."""
    vertices: int = 0
    failure: Exception | None = None

    def table(self) -> list[ClassArea]:
        """The area table, once all polygons are written."""
        return class_table(self.total, self.shapes.areas, self.raster.legend)

    def polygon_layer(self) -> Layer:
        """The polygons, to be read once."""
        schema = pa.schema(
            [
                ("id", pa.int64()), ("class_code", pa.int32()), ("class_name", pa.string()),
                ("area_ha", pa.float64()), ("perimeter_m", pa.float64()), ("pixels", pa.int64()),
                ("confidence", pa.float64()), ("confidence_min", pa.int32()), ("geom", pa.large_binary()),
            ]
        )  # fmt: skip
        rows = pa.RecordBatchReader.from_batches(schema, self._records(schema))
        legend, grid = self.raster.legend, self.raster.grid
        style = Style(
            "Land cover",
            polygon_qml(legend, "class_code", _ALIASES),
            polygon_sld(legend, "class_code", "landcover"),
        )
        crs = None if grid.crs is None else grid.crs.proj
        return Layer("landcover", _POLYGONS, len(self.shapes.features), rows, crs, style)

    def _records(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        legend = self.raster.legend
        names = pa.array([legend[c].name if c in legend else None for c in range(1 << 16)])
        try:
            for batch in self.shapes.batches():
                self._count(batch)
                if len(batch.polygons):
                    yield pa.record_batch(self._columns(batch, names), schema=schema)
        except Exception as error:
            self.failure = error
            raise

    def _count(self, batch: Batch) -> None:
        np.add.at(self.total.pixels, batch.codes, batch.tally.pixels)
        np.add.at(self.total.units, batch.codes, batch.units)
        self.vertices += len(batch.polygons.vertices)

    def _columns(self, batch: Batch, names: pa.Array) -> list[pa.Array]:
        codes, tally, count = pa.array(batch.codes).cast(pa.int32()), batch.tally, len(batch.codes)
        mean, least = pa.nulls(count, pa.float64()), pa.nulls(count, pa.int32())
        if self.known:
            mean = pa.array(tally.confidence / tally.pixels)
            least = pa.array(tally.lowest.astype(np.int32))
        buffer, offsets = batch.polygons.wkb(self.raster.grid.affine)
        geometry = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
        )
        return [
            pa.array(batch.firsts + 1), codes, names.take(codes),
            pa.array(self.shapes.areas.hectares(batch.units)), pa.array(batch.perimeters),
            pa.array(tally.pixels), mean, least, geometry,
        ]  # fmt: skip

    def area_layer(self) -> Layer:
        """Area by class, made when the polygons are written."""
        schema = pa.schema(
            [
                ("class_code", pa.int32()), ("class_name", pa.string()), ("area_ha", pa.float64()),
                ("share_percent", pa.float64()), ("pixels", pa.int64()),
            ]
        )  # fmt: skip

        def batches() -> Iterator[pa.RecordBatch]:
            lines = [asdict(line) for line in self.table()]
            yield pa.RecordBatch.from_pylist(lines, schema=schema)

        rows = pa.RecordBatchReader.from_batches(schema, batches())
        return Layer("areas", _AREAS, len(self.raster.legend.classes), rows)


def _moved(shapes: ClassPolygons, legend: Legend) -> list[dict[str, Any]]:
    """Hectares that merging moved, by old and new class, largest first."""
    lines = [
        {
            "from_code": old, "from_class": legend[old].name, "to_code": new, "to_class": legend[new].name,
            "area_ha": float(shapes.areas.hectares(np.array(units))),
        }
        for (old, new), units in shapes.moved.items()
    ]  # fmt: skip
    return sorted(lines, key=lambda line: (-line["area_ha"], line["from_code"], line["to_code"]))


def _merged_layer(shapes: ClassPolygons, legend: Legend) -> Layer:
    schema = pa.schema(
        [
            ("from_code", pa.int32()), ("from_class", pa.string()), ("to_code", pa.int32()),
            ("to_class", pa.string()), ("area_ha", pa.float64()),
        ]
    )  # fmt: skip
    table = pa.Table.from_pylist(_moved(shapes, legend), schema=schema)
    return Layer("merged", _MERGED, table.num_rows, table.to_reader())
