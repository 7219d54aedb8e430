"""Hectares of each class in each zone: `zones.csv`, `zones_wide.csv`, and a layer of a GeoPackage."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from landcover.area import PixelAreas
from landcover.errors import RegionError, SettingsError
from landcover.legend import NODATA, Legend
from landcover.pixel_cover import PixelCover
from landcover.zone_areas import zone_areas
from landcover.zone_drawing import ZoneDrawing
from pipeline.artifacts import write_text
from pipeline.class_raster import ClassRaster
from pipeline.csv_table import csv_text
from pipeline.geopackage import Layer, Style
from pipeline.qgis_style import zone_qml
from pipeline.zone_file import Zones

LONG, WIDE = "zones.csv", "zones_wide.csv"
"""The two tables: a row for each class of a zone; a row for each zone."""

_STRIP_PIXELS = 2**21
"""Pixels of a strip, at most, unless a row has more; 60 bytes are needed for each."""
_MOST_COLUMNS = 1900
"""SQLite takes 2000 columns."""
_SAME = 1e-6
"""Part by which the area of a zone may differ from that of its pixels though all of it is covered."""
_SHOWN = 20
_LAYER = (
    "Area by zone, from the pixels of the class raster before any merging: ha_CODE_NAME is the area of a "
    "class in hectares on the ellipsoid; classified_ha their sum; nodata_ha the area without data; zone_ha "
    "the area of the zone; covered_percent how much of it the raster covers."
)


@dataclass(frozen=True, eq=False)
class ZoneTable:
    """Hectares by zone and class."""

    zones: Zones
    legend: Legend
    hectares: NDArray[np.float64]
    """(zones, 1 + classes): without data, then the classes in legend order."""
    zone_ha: NDArray[np.float64]
    """Hectares of each zone, wherever it lies."""
    covered_percent: NDArray[np.float64]
    """How much of each zone lies in the raster, 0 to 100."""

    @property
    def classified_ha(self) -> NDArray[np.float64]:
        """Hectares of all classes in each zone."""
        return np.asarray(self.hectares[:, 1:].sum(axis=1))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of these zones."""
        outside, partly = self.covered_percent == 0, self.covered_percent < 100
        said = list(self.zones.notes)
        if outside.any():
            said.append(f"{outside.sum()} of {len(outside)} zones lie outside the raster.")
        if (partly & ~outside).any():
            said.append(
                f"{(partly & ~outside).sum()} of {len(partly)} zones lie partly outside the raster "
                "(column covered_percent)."
            )
        return tuple(said)

    def long_rows(self) -> Iterable[dict[str, Any]]:
        """A row for each class of each zone, in the order of file and legend, and one for no data."""
        for name, line, total in zip(
            self.zones.ids, self.hectares, self.classified_ha, strict=True
        ):
            for c, area in zip(self.legend.classes, line[1:], strict=True):
                share = 100 * float(area) / float(total) if total else 0.0
                yield _long(name, c.code, c.name, float(area), share)
            yield _long(name, NODATA, "No data", float(line[0]), None)

    def wide_rows(self) -> Iterable[dict[str, Any]]:
        """A row for each zone: the hectares of each class, of all, without data, of the zone."""
        columns = class_columns(self.legend)
        for name, line, *sums in zip(
            self.zones.ids, self.hectares, self.classified_ha, self.zone_ha, self.covered_percent,
            strict=True,
        ):  # fmt: skip
            classified, zone, covered = map(float, sums)
            yield {"zone": name} | dict(zip(columns, map(float, line[1:]), strict=True)) | {
                "classified_ha": classified, "nodata_ha": float(line[0]), "zone_ha": zone,
                "covered_percent": covered,
            }  # fmt: skip


def _long(zone: str, code: int, name: str, area: float, share: float | None) -> dict[str, Any]:
    return {
        "zone": zone, "class_code": code, "class_name": name, "area_ha": area, "share_percent": share,
    }  # fmt: skip


def class_columns(legend: Legend) -> list[str]:
    """Column of each class in the wide form: ha_CODE_NAME, plain letters, different whatever the names."""
    slugs = [re.sub(r"[^a-z0-9]+", "_", c.name.lower()).strip("_")[:40] for c in legend.classes]
    return [
        f"ha_{c.code}_{slug}".rstrip("_") for c, slug in zip(legend.classes, slugs, strict=True)
    ]


def measure_zones(raster: ClassRaster, zones: Zones) -> ZoneTable:
    """Hectares of each class in each zone of an open class raster, read once in strips.

    A pixel counts by the exact share of it that the zone covers. Zones may overlap; each is measured by
    itself. Raises RegionError for a zone that cannot be drawn in the raster's CRS, RasterError or
    LegendError where the raster cannot be used.
    """
    drawing, areas = ZoneDrawing(zones.crs, raster.grid), PixelAreas(raster.grid)
    shape = (int(raster.grid.shape[0]), int(raster.grid.shape[1]))
    covers = [_drawn(drawing, zones, number) for number in range(len(zones.ids))]
    strips = raster.strips(max(1, _STRIP_PIXELS // shape[1]))
    units = zone_areas(strips, areas, raster.legend, covers)
    hectares = areas.hectares(units)
    inside = hectares.sum(axis=1)
    whole = np.array(
        [
            _whole_hectares(drawing, zones, number) if _beyond(parts, shape) else inside[number]
            for number, parts in enumerate(covers)
        ]
    )
    whole = np.where(whole > inside * (1 + _SAME), whole, inside)
    covered = 100 * np.divide(inside, whole, out=np.zeros_like(whole), where=whole > 0)
    return ZoneTable(zones, raster.legend, hectares, whole, covered)


def _drawn(drawing: ZoneDrawing, zones: Zones, number: int) -> list[PixelCover]:
    try:
        return drawing.covers(zones.polygons[number])
    except RegionError as error:
        raise _named(zones, number, error) from error


def _whole_hectares(drawing: ZoneDrawing, zones: Zones, number: int) -> float:
    try:
        return drawing.area(zones.polygons[number]) / 10_000
    except RegionError as error:
        raise _named(zones, number, error) from error


def _named(zones: Zones, number: int, error: RegionError) -> RegionError:
    return RegionError(
        f"{zones.source}, zone '{zones.ids[number]}' cannot be drawn in the raster's CRS: "
        f"{str(error).rstrip('.')}; check its CRS, or save the zones in the CRS of the raster."
    )


def _beyond(parts: Sequence[PixelCover], shape: tuple[int, int]) -> bool:
    """Whether a zone may reach beyond the raster: it does, or lies in it in several parts."""
    return len(parts) != 1 or parts[0].reaches_beyond(shape)


def write_zone_tables(folder: Path, table: ZoneTable) -> None:
    """Write `zones.csv` and `zones_wide.csv` into a folder, each whole or not at all."""
    long_rows, wide_rows = list(table.long_rows()), list(table.wide_rows())
    write_text(folder / LONG, csv_text(long_rows))
    write_text(folder / WIDE, csv_text(wide_rows))


def zone_layer(table: ZoneTable) -> Layer:
    """The zones with the columns of the wide form, as the layer `zones` of a GeoPackage."""
    rows = list(table.wide_rows())
    if len(rows[0]) > _MOST_COLUMNS:
        raise SettingsError(
            f"The legend has {len(table.legend):,} classes, more than a layer of zones has columns; leave "
            "--zones out, or use the table of landcover summarize."
        )
    polygons = [shapely.multipolygons(shapely.get_parts(p)) for p in table.zones.polygons]
    types = [pa.string(), *[pa.float64()] * (len(rows[0]) - 1), pa.large_binary()]
    schema = pa.schema(list(zip([*rows[0], "geom"], types, strict=True)))
    lines = [row | {"geom": shapely.to_wkb(p)} for row, p in zip(rows, polygons, strict=True)]
    records = pa.Table.from_pylist(lines, schema=schema)
    return Layer(
        "zones", _LAYER, records.num_rows, records.to_reader(), table.zones.crs,
        Style("Zones", zone_qml("zone", _aliases(table.legend)), ""), "MultiPolygon",
    )  # fmt: skip


def _aliases(legend: Legend) -> dict[str, str]:
    """Headings of the wide form."""
    columns = zip(class_columns(legend), legend.classes, strict=True)
    return (
        {"zone": "Zone"}
        | {column: f"{c.name} (ha)" for column, c in columns}
        | {
            "classified_ha": "Classified (ha)", "nodata_ha": "No data (ha)", "zone_ha": "Zone (ha)",
            "covered_percent": "Covered (%)",
        }
    )  # fmt: skip


def zone_screen(table: ZoneTable) -> Table:
    """The table for the screen: the first zones, with their hectares and largest class."""
    count = len(table.zones.ids)
    more = f"{count - _SHOWN:,} more zones in {LONG}" if count > _SHOWN else None
    screen = Table(title="Area by zone, on the ellipsoid", caption=more)
    screen.add_column("Zone")
    for header in ("Zone (ha)", "Covered (%)", "Classified (ha)", "No data (ha)"):
        screen.add_column(header, justify="right")
    screen.add_column("Largest class")
    sums = zip(table.zone_ha, table.covered_percent, table.classified_ha, table.hectares, strict=True)  # fmt: skip
    for name, (zone, covered, classified, line) in list(zip(table.zones.ids, sums, strict=True))[:_SHOWN]:  # fmt: skip
        screen.add_row(
            Text(name), f"{zone:,.2f}", f"{covered:.2f}", f"{classified:,.2f}", f"{line[0]:,.2f}",
            Text(_largest(table.legend, line[1:], float(classified))),
        )  # fmt: skip
    return screen


def _largest(legend: Legend, line: NDArray[np.float64], total: float) -> str:
    if total == 0:
        return ""
    best = int(np.argmax(line))
    return f"{legend.classes[best].name}, {100 * float(line[best]) / total:.1f} %"
