"""Facts about a map that its reader needs to trust it and to make it again: the layer `run`."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from landcover import __version__
from landcover.outline import crs_name
from pipeline.artifacts import file_hash
from pipeline.geopackage import Layer, Style
from pipeline.page import plain
from pipeline.qgis_style import table_qml

SCENE = "scene_"
"""How the names of facts begin that name a scene."""
_TITLE = "How this map was made"
_ABOUT = (
    "How this map was made, a fact a row: program, sources with their SHA-256, settings, and what the "
    "settings did; the unit is the end of the name."
)
_LONGEST = 2000
"""Characters of a value, at most."""


def source_facts(
    files: Mapping[str, Path | None], legend: str | None, grid: GeoBox
) -> dict[str, str]:
    """Program, rasters read, legend and grid; of files the name and SHA-256, never the folder.

    files: rasters by what they are; None for one that was not given.
    """
    facts = {"program": f"landcover-pipeline {__version__}"}
    for name, path in files.items():
        if path:
            facts |= {f"{name}_file": path.name, f"{name}_sha256": file_hash(path)}
    facts["legend"] = Path(legend).name if legend else "of the class raster"
    return facts | _grid_facts(grid)


def _grid_facts(grid: GeoBox) -> dict[str, str]:
    (rows, columns), crs = grid.shape, CRS(grid.crs)
    unit, affine = crs.proj.axis_info[0].unit_name, grid.affine
    width, height = math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)
    return {
        "crs": plain(crs_name(crs)),
        "pixel_size": f"{width:.12g} x {height:.12g} {unit}",
        "geotransform": ", ".join(f"{number!r}" for number in affine.to_gdal()),
        "rows": str(rows),
        "columns": str(columns),
    }


def scene_facts(scenes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Number of scenes, and id and time of each. scenes: mappings with `id` and `datetime`."""
    width = len(str(len(scenes)))
    named = {
        f"{SCENE}{number:0{width}}": f"{scene['id']}, {scene['datetime'] or 'no single time'}"
        for number, scene in enumerate(scenes, start=1)
    }
    return {"scenes": str(len(scenes))} | named


def shown_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as text that is fit to show; those without a value are left out.

    Text comes from files of others, so control characters and over-long values go.
    """
    known = {name: value for name, value in facts.items() if value not in (None, "", [], ())}
    return {plain(name): plain(_text(value), _LONGEST) for name, value in known.items()}


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def run_layer(facts: Callable[[], Mapping[str, str]], count: int) -> Layer:
    """The facts as a table. facts: called when it is written; count: how many there will be."""
    schema = pa.schema([("name", pa.string()), ("value", pa.string())])

    def batches() -> Iterator[pa.RecordBatch]:
        known = facts()
        columns = [pa.array(list(known), pa.string()), pa.array(list(known.values()), pa.string())]
        yield pa.record_batch(columns, schema=schema)

    rows = pa.RecordBatchReader.from_batches(schema, batches())
    style = Style(_TITLE, table_qml({"name": "Fact", "value": "Value"}), "")
    return Layer("run", _ABOUT, count, rows, style=style)
