"""Polygons of a class raster: one valid coverage with true hectares, in a GeoPackage for QGIS."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from landcover.region_tally import Observed
from pipeline.artifacts import check_distinct
from pipeline.class_polygons import Batch, ClassPolygons, Pixels
from pipeline.class_raster import ClassRaster, open_classes, strips
from pipeline.cog import open_raster, raster_grid
from pipeline.confidence_raster import check_confidence, percent_strips
from pipeline.facts import run_layer, shown_facts, source_facts
from pipeline.feature_columns import (
    CONFIDENCE_FIELDS,
    FEATURE_FIELDS,
    confidence_columns,
    feature_columns,
)
from pipeline.geopackage import Layer, Style
from pipeline.instances import countable_codes, instance_layer
from pipeline.map_file import MapContent, output_files, write_map
from pipeline.qgis_project import Image, images_beside
from pipeline.qgis_style import polygon_qml, polygon_sld, table_qml
from pipeline.smoothed_strips import class_steps, smoothed_strips
from pipeline.zone_file import Zones
from pipeline.zones import measure_zones, zone_layer

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
    "observations": "Clear observations",
    "observed_percent": "Observed (%)",
    "first_day": "First day",
    "last_day": "Last day",
    "share_percent": "Share (%)",
    "polygon_ha": "Area of the polygons (ha)",
    "from_code": "Old class code",
    "from_class": "Old class",
    "to_code": "New class code",
    "to_class": "New class",
}
_SCHEMA = pa.schema(
    [
        *FEATURE_FIELDS, *CONFIDENCE_FIELDS, ("observations", pa.float64()), ("observed_percent", pa.float64()),
        ("first_day", pa.date32()), ("last_day", pa.date32()), ("geom", pa.large_binary()),
    ]
)  # fmt: skip
_POLYGONS = (
    "Land-cover polygons, a coverage without gaps or overlaps: id is the same for the same raster however "
    "it is cut; area_ha in hectares and perimeter_m in metres on the ellipsoid; pixels is their number; "
    "confidence and confidence_min are mean and least of the polygon's pixels, percent; observations is the "
    "mean number of clear observations of a pixel, observed_percent their share of all observations; first_day "
    "and last_day are the earliest and latest day that the composite shows there."
)
_AREAS = (
    "Area by class, in hectares on the ellipsoid: area_ha and pixels are those of the class raster, smoothed if asked, "
    "polygon_ha is that of the layer landcover (another one where polygons were merged or simplified); "
    "share_percent is that of area_ha in the classified area."
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
    composite: Path | None = None,
    legend: str | None = None,
    min_area: float = 0.0,
    simplify: float = 0.0,
    connectivity: int = 4,
    instances: Sequence[str] = (),
    smooth: Sequence[str] = (),
    strip_rows: int | None = None,
    zones: Zones | None = None,
    formats: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Turn a class raster into polygons with class, hectares and confidence.

    classes: any class raster of 8 or 16 bits. legend: what its values mean, as
    `pipeline.value_legend.value_legend` takes it; None for the file's own. confidence: percent on the same grid, or
    None, which leaves its columns empty. composite: image on the same grid with the bands observations and
    day, or None, which leaves theirs empty. output: GeoPackage with the layers `landcover` (polygons),
    `areas` (one row per class), with min_area `merged` (hectares moved between classes), with instances
    `instances`, and `run` (how it was made), styled for QGIS, with metadata and a project; or the polygons
    alone, where the ending is .parquet, .fgb or .pmtiles. min_area: hectares on the ellipsoid below which
    a polygon is merged into the neighbour with the longest common border. simplify: metres by which
    borders may move; both sides move together. connectivity: 4, or 8 where pixels of a class that touch
    by a corner are one feature, a multipolygon. instances: names or codes of countable classes, whose
    regions get a layer of their own with their shapes. smooth: steps of landcover.smoothing that are done
    before everything else, such as `majority:1`. strip_rows: rows read at a time; they change
    neither polygons nor numbers. zones: polygons whose hectares by class become the layer `zones` of a
    GeoPackage. formats: further files beside the output, see `map_file.FORMATS`.
    facts: what else is known of the map, for `run`; no folders, no secrets.
    Returns the number of polygons, their hectares, pixels and vertices, what was merged, and the worst
    displacement.
    Raises RasterError, LegendError or SettingsError where an input cannot be used.
    """
    _check(min_area, simplify, connectivity, strip_rows)
    steps = class_steps(smooth)
    with (
        open_classes(classes, output, legend) as raster,
        _same_grid(confidence, raster, "confidence.tif") as sure,
        _same_grid(composite, raster, "composite.tif") as image,
        rasterio.Env(GDAL_CACHEMAX=_cache_bytes(raster)),
    ):
        if sure:
            check_confidence(sure)
        paths = output_files(output, formats)
        _check_layers(paths[0], {"instances": bool(instances), "zones": zones is not None})
        files = {"classes": classes, "confidence": confidence, "composite": composite}
        given = {f"the {name}": path for name, path in files.items()} | {"the legend": legend}
        given |= {"the zones": zones.path} if zones else {}
        check_distinct(given, {f"the map ({path.suffix})": path for path in paths})
        by_zone = [zone_layer(measure_zones(raster, zones))] if zones else []
        seen = Observations.of(image)
        read: Callable[[], Iterator[Pixels]] = functools.partial(
            _strips, raster, sure, seen, strip_rows or _strip_rows(raster)
        )
        if steps:
            read = smoothed_strips(read, steps, raster.legend)
        countable = countable_codes(instances, raster.legend)
        shapes = ClassPolygons(
            read, raster.grid, minimum=min_area, tolerance=simplify, corners=connectivity == 8
        )
        check_codes(np.unique(shapes.features.codes), raster.legend)
        work = _Work(shapes, raster, known=sure is not None, seen=seen)
        layers = [work.polygon_layer(), work.area_layer()]
        if min_area > 0:
            layers.append(_merged_layer(shapes, raster.legend))
        if countable:
            layers.append(
                instance_layer(
                    read, raster, countable, known=sure is not None, corners=connectivity == 8
                )
            )
        layers += by_zone
        known = shown_facts(
            dict(facts or {})
            | source_facts(files, legend, raster.grid)
            | {
                "min_area_ha": min_area, "simplify_m": simplify, "connectivity": connectivity,
                "instances": instances, "smooth": smooth,
            }
        )  # fmt: skip
        images = images_beside(output.parent, raster, files)
        try:
            write_map(paths, work.content(layers, known, images))
        except RasterError:
            if work.failure:  # GDAL forgets why its input ended
                raise work.failure from None
            raise
    instances_found = next((layer.count for layer in layers if layer.name == "instances"), 0)
    return work.details() | {"instances": instances_found}


def _check(min_area: float, simplify: float, connectivity: int, strip_rows: int | None) -> None:
    if not (min_area >= 0 and simplify >= 0) or (strip_rows is not None and strip_rows < 1):
        raise SettingsError(
            f"The minimum area is {min_area:g} ha, the tolerance {simplify:g} m, the rows of a strip "
            f"{strip_rows}; give 0 or more, and 1 or more rows."
        )
    if connectivity not in (4, 8):
        raise SettingsError(f"The connectivity is {connectivity}; give 4 or 8.")


def _check_layers(first: Path, asked: Mapping[str, bool]) -> None:
    """Layers that are asked for need a file that holds several: the GeoPackage, which is written first."""
    lost = [name for name, is_asked in asked.items() if is_asked]
    if lost and first.suffix != ".gpkg":
        raise SettingsError(
            f"{first} holds the polygons alone, without the layers {' and '.join(lost)} that are asked for; make a "
            "GeoPackage too (--format gpkg), or leave them out."
        )


def _strip_rows(raster: ClassRaster) -> int:
    """Rows of a strip: a power of two, so that tiles are cut evenly."""
    width = int(raster.grid.shape[1])
    return 1 << (max(1, _STRIP_PIXELS // width).bit_length() - 1)


def _cache_bytes(raster: ClassRaster) -> int:
    """What GDAL needs to decode each tile of two rasters once, though it is read in parts."""
    rows, size = raster.dataset.block_shapes[0][0], np.dtype(raster.dataset.dtypes[0]).itemsize
    return max(2**25, int(4 * rows * raster.grid.shape[1] * size))


@contextlib.contextmanager
def _same_grid(path: Path | None, raster: ClassRaster, name: str) -> Iterator[DatasetReader | None]:
    if path is None:
        yield None
        return
    with open_raster(path) as dataset:
        if raster_grid(dataset) != raster.grid:
            raise RasterError(
                f"{path} lies on another grid than {raster.dataset.name}; give the {name} of the same run."
            )
        yield dataset


def _strips(
    raster: ClassRaster, confidence: DatasetReader | None, seen: "Observations | None", step: int
) -> Iterator[Pixels]:
    sure = itertools.repeat(None) if confidence is None else percent_strips(confidence, step)
    observed = itertools.repeat(None) if seen is None else seen.strips(step)
    for (rows, codes), percent, clear in zip(raster.strips(step), sure, observed, strict=False):
        yield Pixels(rows, codes, percent, clear)


@dataclass(frozen=True)
class Observations:
    """Clear observations that a composite counts."""

    dataset: DatasetReader
    count_band: int
    day_band: int
    number: int | None
    """Observations that went into the composite, where it says so."""

    @classmethod
    def of(cls, composite: DatasetReader | None) -> "Observations | None":
        """Those of an open composite; RasterError where it does not count them."""
        if composite is None:
            return None
        bands = list(composite.descriptions)
        if "observations" not in bands or "day" not in bands:
            raise RasterError(
                f"{composite.name} has the bands {', '.join(map(str, bands))}; a composite of ours has "
                "observations and day among them: give that of the same run."
            )
        number = composite.tags().get("OBSERVATIONS", "")
        return cls(
            composite, bands.index("observations") + 1, bands.index("day") + 1,
            int(number) if number.isdecimal() else None,
        )  # fmt: skip

    def strips(self, step: int) -> Iterator[Observed]:
        """Counts and days from top to bottom."""
        counts, days = (
            strips(self.dataset, step, band) for band in (self.count_band, self.day_band)
        )
        for (_, count), (_, day) in zip(counts, days, strict=True):
            yield Observed(count.astype(np.uint16, copy=False), day.astype(np.uint16, copy=False))


@dataclass
class _Work:
    """Layers that are made while they are written, and what is known when they are."""

    shapes: ClassPolygons
    raster: ClassRaster
    known: bool
    """Whether there is a confidence."""
    seen: Observations | None
    total: Tally = field(default_factory=lambda: Tally.zeros(1 << 16))
    """Pixels and area of the polygons of each class so far."""
    vertices: int = 0
    failure: Exception | None = None

    def table(self) -> list[ClassArea]:
        """The area table of the polygons, once all are written."""
        return class_table(self.total, self.shapes.areas, self.raster.legend)

    def details(self) -> dict[str, Any]:
        """What was made, once all polygons are written."""
        return {
            "polygons": len(self.shapes.features),
            "area_ha": sum(line.area_ha for line in self.table()),
            "pixels": int(self.total.pixels.sum()),
            "vertices": self.vertices,
            "merged": self.shapes.merged,
            "moved_ha": self.moved_ha(),
            "displacement_m": self.shapes.displacement,
        }

    def moved_ha(self) -> float:
        """Hectares that merging moved to another class."""
        return float(sum(line["area_ha"] for line in _moved(self.shapes, self.raster.legend)))

    def content(
        self, layers: Sequence[Layer], known: Mapping[str, str], images: Sequence[Image]
    ) -> MapContent:
        """The map to be written: layers, with how it was made as the last."""

        def facts() -> dict[str, str]:
            return {**known, **self.facts()}

        told = run_layer(facts, len(facts()))
        return MapContent([*layers, told], self.raster.legend, self.raster.grid, facts, images)

    def facts(self) -> dict[str, str]:
        """What the settings did; true once all polygons are written."""
        return {
            "polygons": str(len(self.shapes.features)),
            "area_ha": repr(float(sum(line.area_ha for line in self.table()))),
            "merged_polygons": str(self.shapes.merged),
            "moved_ha": repr(self.moved_ha()),
            "displacement_m": repr(float(self.shapes.displacement)),
        }

    def polygon_layer(self) -> Layer:
        """The polygons, to be read once."""
        kind = "MultiPolygon" if self.shapes.corners else "Polygon"
        rows = pa.RecordBatchReader.from_batches(_SCHEMA, self._records())
        legend, grid = self.raster.legend, self.raster.grid
        style = Style(
            "Land cover",
            polygon_qml(legend, "class_code", _columns(_SCHEMA)),
            polygon_sld(legend, "class_code", "landcover"),
        )
        crs = None if grid.crs is None else grid.crs.proj
        count = len(self.shapes.features)
        return Layer("landcover", _POLYGONS, count, rows, crs, style, kind)

    def _records(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.shapes.batches():
                self._count(batch)
                if len(batch.codes):
                    columns = self._columns(batch)
                    yield pa.record_batch([columns[name] for name in _SCHEMA.names], schema=_SCHEMA)
        except Exception as error:
            self.failure = error
            raise

    def _count(self, batch: Batch) -> None:
        np.add.at(self.total.pixels, batch.codes, batch.tally.pixels)
        np.add.at(self.total.units, batch.codes, batch.units)
        self.vertices += len(batch.polygons.vertices)

    def _columns(self, batch: Batch) -> dict[str, pa.Array]:
        return (
            feature_columns(batch, self.shapes, self.raster)
            | confidence_columns(batch, known=self.known)
            | _observed_columns(batch, self.seen)
        )

    def area_layer(self) -> Layer:
        """Area by class, made when the polygons are written."""
        schema = pa.schema(
            [
                ("class_code", pa.int32()), ("class_name", pa.string()), ("area_ha", pa.float64()),
                ("share_percent", pa.float64()), ("pixels", pa.int64()), ("polygon_ha", pa.float64()),
            ]
        )  # fmt: skip

        def batches() -> Iterator[pa.RecordBatch]:
            counted = class_table(self.shapes.counted, self.shapes.areas, self.raster.legend)
            lines = [
                asdict(line) | {"polygon_ha": traced.area_ha}
                for line, traced in zip(counted, self.table(), strict=True)
            ]
            yield pa.RecordBatch.from_pylist(lines, schema=schema)

        rows = pa.RecordBatchReader.from_batches(schema, batches())
        style = Style("Area by class", table_qml(_columns(schema)), "")
        return Layer("areas", _AREAS, len(self.raster.legend.classes), rows, style=style)


def _observed_columns(batch: Batch, seen: Observations | None) -> dict[str, pa.Array]:
    """What is known of clear observations; nulls where nothing is."""
    tally, count = batch.tally, len(batch.codes)
    kinds = {"observations": pa.float64(), "observed_percent": pa.float64()}
    found = {name: pa.nulls(count, kind) for name, kind in kinds.items()}
    found |= {name: pa.nulls(count, pa.date32()) for name in ("first_day", "last_day")}
    if seen is None:
        return found
    mean = tally.observations / tally.pixels
    unknown = tally.last_day == 0
    found["observations"] = pa.array(mean)
    if seen.number:
        found["observed_percent"] = pa.array(100 * mean / seen.number)
    for name, days in (("first_day", tally.first_day), ("last_day", tally.last_day)):
        found[name] = pa.array(days.astype(np.int32), mask=unknown).cast(pa.date32())
    return found


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
    style = Style("Merged into neighbours", table_qml(_columns(schema)), "")
    return Layer("merged", _MERGED, table.num_rows, table.to_reader(), style=style)


def _columns(schema: pa.Schema) -> dict[str, str]:
    """Headings of the columns that have one."""
    return {name: _ALIASES[name] for name in schema.names if name in _ALIASES}
