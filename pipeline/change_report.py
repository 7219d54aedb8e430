"""The report of a comparison: one HTML page with pictures before, after and of the change."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.io import DatasetReader

from landcover.area import ground_positions
from landcover.transition_groups import Transitions
from landcover.transitions import PAIRS
from pipeline.change_polygons import drawn
from pipeline.change_record import ChangeRecord, guard_rows, transition_rows
from pipeline.change_survey import NONE
from pipeline.cog import has_mask, open_raster
from pipeline.flow_chart import flow_chart
from pipeline.map_pair import MapFiles, MapPair
from pipeline.page import write_page
from pipeline.pictures import composite_picture, data_uri

_LONGEST = 1200
"""Longest side of a picture, pixels."""
_UNCHANGED = 235
"""Grey of land without change."""


def write_change_report(
    folder: Path,
    pair: MapPair,
    record: ChangeRecord,
    transitions: Transitions,
    facts: Mapping[str, Any],
) -> None:
    """Write report.html; it has no script and asks nothing of the network."""
    rows = [row for row in transition_rows(record) if row["from"] != row["to"]]
    contents = {
        "facts": facts,
        "ratio": _ratio(pair.grid),
        "images": [_image(files, side) for files, side in zip(pair.files, pair.sides, strict=True)],
        "change": data_uri(_change_picture(folder, transitions)),
        "groups": _groups(record, transitions),
        "rows": sorted(rows, key=lambda row: (-row["counted_ha"], -row["area_ha"])),
        "guards": guard_rows(record),
        "flows": flow_chart(rows, record.mapped.legend),
        "notes": _notes(pair, facts),
    }
    write_page(folder / "report.html", "change.html.j2", contents)


def _ratio(grid: GeoBox) -> float:
    """Width of a grid over its height on the ground, measured in its middle."""
    rows, cols = grid.shape
    col, row = np.array([0.5, 1.5, 0.5]) + cols // 2 - 1, np.array([0.5, 0.5, 1.5]) + rows // 2 - 1
    places = ground_positions(grid)(col, row)
    wide, high = (float(np.linalg.norm(places[:, i] - places[:, 0])) for i in (1, 2))
    return round(cols * wide / (rows * high), 4)


def _image(files: MapFiles, side: Any) -> dict[str, Any]:
    """A picture of one map: its composite where there is one, else its classes."""
    if files.composite:
        picture, bands = composite_picture(files.composite)
        return {"uri": data_uri(picture), "what": f"composite ({', '.join(bands)})", "period": files.period}  # fmt: skip
    dataset = side.raster.dataset
    shown = _small(dataset, dataset.read_masks) > 0 if has_mask(dataset) else None
    codes = side.raster.values.of(_small(dataset, dataset.read), shown)
    return {
        "uri": data_uri(_png(side.raster.legend.rgb_table()[codes], codes > 0)),
        "what": "classes", "period": files.period,
    }  # fmt: skip


def _small(dataset: DatasetReader, read: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    shrink = max(1.0, max(dataset.shape) / _LONGEST)
    shape = tuple(max(1, round(side / shrink)) for side in dataset.shape)
    return read(1, out_shape=shape)


def _change_picture(folder: Path, transitions: Transitions) -> bytes:
    """Changes in the colours of their groups on grey; a patch that is a speck at this size may be missing."""
    with (
        open_raster(folder / "change.tif") as changed,
        open_raster(folder / "surface.tif") as surface,
    ):
        pairs, codes = (_small(one, one.read) for one in (changed, surface))
    table = np.full((PAIRS, 3), _UNCHANGED, np.uint8)
    shown = drawn(pairs, codes)
    for pair in np.unique(shown[shown > 0]):
        color = transitions.table.colors[transitions.group(int(pair))]
        table[pair] = list(bytes.fromhex(color[1:]))
    return _png(table[shown], pairs > 0)


def _png(colors: NDArray[np.uint8], seen: NDArray[np.bool_]) -> bytes:
    alpha = np.where(seen, 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([colors, alpha])).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _groups(record: ChangeRecord, transitions: Transitions) -> list[dict[str, Any]]:
    """Hectares of each group of changes, with its colour; those that did not occur are left out."""
    sums = dict.fromkeys(transitions.table.colors, 0.0)
    for row in transition_rows(record):
        if row["from"] != row["to"]:
            sums[row["group"]] += row["counted_ha"]
    for code in np.flatnonzero(record.surface.pixels[1:]) + 1:
        sums[transitions.group(int(code) * 257)] += record.hectares(record.surface.units[code])
    return [
        {"name": name, "color": transitions.table.colors[name], "area_ha": area}
        for name, area in sums.items()
        if area > 0
    ]


def _notes(pair: MapPair, facts: Mapping[str, Any]) -> list[str]:
    """What a reader must know before he quotes the figures."""
    notes = [
        (
            "The hectares are counted from two classified maps. Errors of either map look like change; the guards take "
            "out what has another explanation, and may take out true change with it. For a statement with a "
            "margin of error, sample the change map (Olofsson et al. 2014)."
        ),
    ]
    if not pair.same_grid:
        notes.append(f"The maps have different grids: {facts['grid']}.")
    if facts["same_model"] is False:
        notes.append("The maps were made by different models: part of the change is between the models.")  # fmt: skip
    if facts["settings"]["evidence"] == NONE:
        notes.append("No evidence of the images was asked for: no image confirms these changes.")
    elif facts["spectral"] is None:
        notes.append("There are no two composites with bands in common: no image confirms these changes.")  # fmt: skip
    one, other = facts["days_of_year"]
    if one is not None and other is not None:
        notes.append(f"The images show day {one:.0f} and day {other:.0f} of the year in the median.")  # fmt: skip
    return notes
