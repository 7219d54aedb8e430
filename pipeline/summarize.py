"""Hectares by class: `areas.csv`, and the same table for the screen."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from landcover.area import ClassArea, PixelAreas, class_areas
from landcover.errors import RasterError
from pipeline.artifacts import write_text
from pipeline.class_raster import open_classes
from pipeline.csv_table import csv_text
from pipeline.geopackage import read_table

COLUMNS = (*(field.name for field in fields(ClassArea)), "polygon_ha")
"""Columns of `areas.csv`."""


def summarize(
    *, classes: Path, output: Path, legend: str | None = None, polygons: Path | None = None
) -> dict[str, Any]:
    """Sum the area of each class of a class raster on the ellipsoid, into a CSV table.

    legend: what the values mean, as `pipeline.value_legend.value_legend` takes it; None for the file's
    own. polygons: GeoPackage made from the raster, or None. Reads in strips. Returns `rows` (one mapping
    per class, in legend order: class_code, class_name, area_ha counted by pixels, share_percent of the
    classified area, pixels, polygon_ha summed over polygons, None without them), `area_ha` (all classes)
    and `nodata` (a mapping like a row; its share is of the whole raster).
    Raises RasterError or LegendError where the raster or the polygons cannot be used.
    """
    with open_classes(classes, output, legend) as raster:
        areas = PixelAreas(raster.grid)
        table, nodata = class_areas(raster.strips(), areas, raster.legend)
    traced = {} if polygons is None else _polygon_hectares(polygons, table)
    rows = [asdict(line) | {"polygon_ha": traced.get(line.class_code)} for line in table]
    write_text(output, csv_text(rows, COLUMNS))
    return {
        "rows": rows,
        "area_ha": sum(row["area_ha"] for row in rows),
        "nodata": asdict(nodata),
    }


def _polygon_hectares(path: Path, table: list[ClassArea]) -> dict[int, float]:
    """Hectares of polygons by class code; RasterError where they are of another raster."""
    rows = read_table(path, "areas")
    same = {(line.class_code, line.pixels) for line in table}
    if {(row.get("class_code"), row.get("pixels")) for row in rows} != same:
        raise RasterError(
            f"{path} was made from another class raster: its pixels by class differ; vectorize this one."
        )
    return {row["class_code"]: row["polygon_ha"] for row in rows}


def area_table(details: Mapping[str, Any]) -> Table:
    """The details of `summarize` as a table for the screen, with its total and the nodata share."""
    table = Table(title="Area by class, on the ellipsoid", caption=_caption(details["nodata"]))
    table.add_column("Code", justify="right")
    table.add_column("Class")
    for header in ("Area (ha)", "Share (%)", "Pixels", "Polygons (ha)"):
        table.add_column(header, justify="right")
    rows = details["rows"]
    for row in rows:
        table.add_row(
            str(row["class_code"]), Text(row["class_name"]), f"{row['area_ha']:,.2f}",
            f"{row['share_percent']:.2f}", f"{row['pixels']:,}", _hectares(row["polygon_ha"]),
        )  # fmt: skip
    table.add_section()
    share, pixels = (sum(row[name] for row in rows) for name in ("share_percent", "pixels"))
    traced = [row["polygon_ha"] for row in rows]
    table.add_row(
        "", "All classes", f"{details['area_ha']:,.2f}", f"{share:.2f}", f"{pixels:,}",
        _hectares(None if None in traced else sum(traced)),
    )  # fmt: skip
    return table


def _hectares(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"


def _caption(nodata: Mapping[str, Any]) -> str:
    return f"No data: {nodata['area_ha']:,.2f} ha, {nodata['share_percent']:.2f} % of the raster"
