"""The data sheet of a dataset: one HTML page with its classes, bands, blocks and faults."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from landcover.blocks import UNUSED, Cell
from landcover.errors import DatasetError
from landcover.label_tally import band_figures
from landcover.legend import NODATA
from landcover.splits import SPLITS
from pipeline.dataset_part import Part
from pipeline.dataset_survey import Survey, cells_touched, class_counts, units_of, usable
from pipeline.page import write_page
from pipeline.pictures import data_uri

COLORS = {"train": "#2f6fb0", "validation": "#e0a021", "test": "#b5397a"}
"""Colours of the splits, told apart by people who do not see all colours."""
_MAP = 1000
"""Longest side of the map of blocks, pixels."""
_THUMB = 320
"""Longest side of the picture of an image, pixels."""
_SHOWN = 24
"""Images that are shown; more would make the page heavy."""
_STRETCH = (2, 98)
_PALE = 0.45
"""How much of a split's colour an unlabelled pixel shows."""


def write_sheet(
    *, dataset: Path, output: Path, report: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Write the data sheet of a dataset, and return its size.

    The page loads nothing and runs nothing; the same files give the same bytes. Raises DatasetError
    where the dataset cannot be used, or the output would replace its YAML.
    """
    if dataset.resolve() == output.resolve():
        raise DatasetError(f"{output} is the dataset itself; name another file for its sheet.")
    found = usable(dataset, report)
    return {"bytes": write_page(output, "dataset.html.j2", _contents(found), number=_number)}


def _contents(found: Survey) -> dict[str, Any]:
    file = found.plan.file
    chosen = np.unique(np.linspace(0, len(found.parts) - 1, _SHOWN).round().astype(int))
    parts = [found.parts[number] for number in chosen]
    return {
        "file": file,
        "version": found.version,
        "splits": [
            {"name": name, "color": COLORS[name], **_split_figures(found, number)}
            for number, name in enumerate(SPLITS)
        ],
        "classes": _classes(found),
        "bands": _bands(found),
        "warnings": [one.message for one in found.findings if one.level == "warning"],
        "ground": data_uri(_png(_ground_map(found))) if found.ground else None,
        "lattice": found.ground and found.ground.lattice,
        "images": [_panel(found, part) for part in parts],
        "images_in_all": len(found.parts),
        "files": len(found.hashes),
    }


# --- tables


def _split_figures(found: Survey, split: int) -> dict[str, Any]:
    pixels = valid = labelled = 0
    names: set[str] = set()
    for part, one in zip(found.parts, found.scans, strict=True):
        mine = units_of(found, part, split)
        pixels += int(one.tally.pixels[mine].sum())
        valid += int(one.tally.valid[mine].sum())
        labelled += int(one.tally.labelled[mine].sum())
        names |= {part.unit_names[n] for n in np.flatnonzero(mine & (one.tally.pixels > 0))}
    return {
        "blocks": len(names),
        "pixels": pixels,
        "valid_percent": 100 * valid / pixels if pixels else 0.0,
        "labelled": labelled,
        "labelled_percent": 100 * labelled / valid if valid else 0.0,
    }


def _classes(found: Survey) -> list[dict[str, Any]]:
    counts = [class_counts(found, split) for split in range(len(SPLITS))]
    most = max((100 * count / max(int(count.sum()), 1)).max() for count in counts)
    return [
        {
            "code": one.code,
            "name": one.name,
            "color": one.color,
            "splits": [
                {
                    "pixels": int(count[position]),
                    "percent": (share := 100 * int(count[position]) / max(int(count.sum()), 1)),
                    "bar": round(100 * share / most, 1) if most else 0.0,
                }
                for count in counts
            ],
        }
        for position, one in enumerate(found.plan.legend.classes)
    ]


def _bands(found: Survey) -> list[dict[str, Any]]:
    names = found.plan.file.band_names
    figures = [
        band_figures(
            [
                (one.tally, units_of(found, part, split))
                for part, one in zip(found.parts, found.scans, strict=True)
            ],
            len(names),
        )
        for split in range(len(SPLITS))
    ]
    return [
        {
            "name": name,
            "splits": [(f.mean[band], f.std[band], f.least[band], f.most[band]) for f in figures],
        }
        for band, name in enumerate(names)
    ]


def _number(value: float) -> str:
    """A measured value for reading, four digits; a dash where there is none."""
    return "\N{EN DASH}" if np.isnan(value) else f"{value:.4g}"


# --- pictures


def _ground_map(found: Survey) -> Image.Image:
    """Blocks in the colours of their splits, where images have pixels; north is up."""
    if found.ground is None:
        raise AssertionError("only placed images have a map")
    cells = _cells(found)
    cols, rows = ([cell[axis] for cell in cells] for axis in (0, 1))
    left, top = min(cols), min(rows)
    wide, high = max(cols) - left + 1, max(rows) - top + 1
    step = min(60.0, _MAP / max(wide, high))
    step = float(int(step)) if step >= 6 else step
    picture = Image.new("RGB", (max(1, round(wide * step)), max(1, round(high * step))), "#f1f1ec")
    draw = ImageDraw.Draw(picture)
    for (col, row), split in sorted(cells.items()):
        x, y = (col - left) * step, (row - top) * step
        color = COLORS[SPLITS[split]]
        gap = 1 if step >= 6 else 0
        draw.rectangle((x, y, max(x, x + step - 1 - gap), max(y, y + step - 1 - gap)), fill=color)
    return picture


def _cells(found: Survey) -> dict[Cell, int]:
    """Split of each block in which an image has pixels; where images are given as a whole, theirs."""
    cells: dict[Cell, int] = {}
    for part, one in zip(found.parts, found.scans, strict=True):
        if part.cells:
            for number in np.flatnonzero(one.tally.pixels > 0):
                split = found.splits.get(part.unit_names[number], UNUSED)
                if split != UNUSED:
                    cells[part.cells[number]] = split
        elif found.ground is not None and part.image.grid is not None:
            cells |= dict.fromkeys(cells_touched(part, found.ground), found.splits[part.unit])
    return cells


def _panel(found: Survey, part: Part) -> dict[str, Any]:
    """One image as it looks, and its labels over the colours of its splits."""
    height, width = part.image.shape
    stride = max(1, -(-max(height, width) // _THUMB))
    rows, cols = range(0, height, stride), slice(0, width)
    image, valid, codes, split = [], [], [], []
    for row in rows:
        line = slice(row, row + 1)
        values, good = part.image.read(line, cols)
        image.append(values[:, 0, ::stride])
        valid.append(good[0, ::stride])
        codes.append(part.codes(line, cols)[0][0, ::stride])
        split.append(part.place.split(line, cols)[0, ::stride])
    seen = np.stack(valid)
    shown = _true_colors(np.stack(image, axis=1), seen, found.plan.file.band_names)
    labels = _label_colors(np.stack(codes), np.stack(split), seen, found)
    mine = sorted({int(s) for s in np.unique(np.stack(split)) if s != UNUSED})
    return {
        "name": "/".join(part.image.name.split("/")[-3:]),
        "unit": "" if part.cells else part.unit,
        "splits": ", ".join(SPLITS[s] for s in mine),
        "image": data_uri(_png(Image.fromarray(shown))),
        "labels": data_uri(_png(Image.fromarray(labels))),
        "size": f"{width:,} x {height:,}",
    }


def _true_colors(
    image: NDArray[np.float32], valid: NDArray[np.bool_], bands: Sequence[str]
) -> NDArray[np.uint8]:
    """Red, green and blue, else the first three bands, else the first as grey: (rows, cols, 3)."""
    known = [name.lower() for name in bands]
    wanted = [known.index(name) for name in ("red", "green", "blue") if name in known]
    if len(wanted) < 3:
        wanted = [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]
    shown = np.full((*valid.shape, 3), 255, np.uint8)
    if valid.any():
        for channel, band in enumerate(wanted):
            low, high = np.percentile(image[band][valid], _STRETCH)
            light = np.clip((image[band] - low) / max(high - low, 1e-12), 0, 1)
            shown[..., channel] = np.where(valid, np.rint(255 * light), 255)
    return shown


def _label_colors(
    codes: NDArray[np.uint8], split: NDArray[np.int32], valid: NDArray[np.bool_], found: Survey
) -> NDArray[np.uint8]:
    """Class colours where labelled and in a split, pale colours of the split elsewhere: (rows, cols, 3)."""
    pale = np.full((len(SPLITS) + 1, 3), 255.0)
    for number, name in enumerate(SPLITS):
        rgb = np.array(list(bytes.fromhex(COLORS[name][1:])), np.float64)
        pale[number] = 255 - _PALE * (255 - rgb)
    shown = pale[np.where(valid, split, -1)].astype(np.uint8)
    labelled = (codes != NODATA) & (split != UNUSED) & valid
    shown[labelled] = found.plan.legend.rgb_table()[codes[labelled]]
    return shown


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
