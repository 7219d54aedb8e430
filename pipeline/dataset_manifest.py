"""The manifest of a dataset: what it holds, file by file and block by block, and its version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from landcover.errors import DatasetError
from landcover.splits import SPLITS
from pipeline.artifacts import write_json
from pipeline.dataset_part import Part
from pipeline.dataset_survey import Survey, class_counts, units_of, usable


def write_manifest(
    *, dataset: Path, output: Path, report: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Write the manifest of a dataset as JSON, and return it.

    The same files give the same bytes on every machine. Raises DatasetError where the dataset cannot
    be used, or the output would replace its YAML.
    """
    if dataset.resolve() == output.resolve():
        raise DatasetError(f"{output} is the dataset itself; name another file for its manifest.")
    found = usable(dataset, report)
    content = manifest(found)
    write_json(output, content)
    return content


def manifest(found: Survey) -> dict[str, Any]:
    """The content of a manifest."""
    file = found.plan.file
    return {
        "name": file.name,
        "version": found.version,
        "licence": file.licence,
        "credit": file.credit,
        "bands": list(file.band_names),
        "scale": file.scale,
        "offset": file.offset,
        "legend": found.plan.legend.to_records(),
        "blocks": _lattice(found),
        "shares": {name: file.splits.shares.get(name, 0.0) for name in file.splits.shares},
        "seed": file.splits.seed,
        "labelled_pixels": {
            name: dict(
                zip(found.plan.legend.names, map(int, class_counts(found, number)), strict=True)
            )
            for number, name in enumerate(SPLITS)
        },
        "images": [_image(found, part, number) for number, part in enumerate(found.parts)],
        "warnings": [one.message for one in found.findings if one.level == "warning"],
        "files": dict(sorted(found.hashes.items())),
    }


def _lattice(found: Survey) -> dict[str, Any] | None:
    """Where the blocks are; None where no image has a place on the Earth."""
    if found.ground is None:
        return None
    lattice = found.ground.lattice
    return {
        "crs": lattice.wkt,
        "origin": list(lattice.origin),
        "side": lattice.side,
        "buffer": found.plan.file.splits.buffer,
    }


def _image(found: Survey, part: Part, number: int) -> dict[str, Any]:
    tally = found.scans[number].tally
    blocks = {}
    for split, name in enumerate(SPLITS):
        mine = units_of(found, part, split)
        units = [
            {
                "name": unit,
                "pixels": int(tally.valid[place]),
                "labelled": int(tally.labelled[place].sum()),
            }
            for place, unit in enumerate(part.unit_names)
            if mine[place] and tally.pixels[place]
        ]
        if units:
            blocks[name] = units
    rows, cols = part.image.shape
    return {
        "name": part.image.name,
        "rows": rows,
        "cols": cols,
        "pixels": found.scans[number].pixels,
        "blocks": blocks,
    }
