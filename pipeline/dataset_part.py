"""One labelled image of a dataset, and which of its pixels belong to which split."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.blocks import UNUSED, BlockLattice, BlockTable, Cell, splits_at
from landcover.label_tally import LabelTally
from landcover.legend import NODATA, Legend
from landcover.splits import SPLITS
from pipeline.artifacts import code_version, fingerprint
from pipeline.dataset_cache import keep_arrays, load_arrays
from pipeline.dataset_image import DatasetImage
from pipeline.dataset_labels import Labels, PolygonLabels

EXCLUDED = len(SPLITS)
"""Number, in place of a split's, of blocks that images of two splits touch."""
_STRIP = 8 * 2**20
"""Numbers of an image that are read at a time."""


@dataclass(frozen=True)
class Place:
    """To which unit and split the pixels of an image belong."""

    whole: int | None = None
    """Split of the image as a whole; UNUSED before it is known. None for images cut into blocks."""
    grid: GeoBox | None = None
    lattice: BlockLattice | None = None
    units: BlockTable | None = None
    """Numbers of the image's blocks, within the image."""
    splits: BlockTable | None = None
    """Splits of all blocks that it may touch; None before they are known, or where none is near."""
    buffer: float = 0.0
    """Width of the ground left out between splits, in blocks."""

    def unit(self, rows: slice, cols: slice) -> NDArray[np.int32]:
        """Number of each pixel's unit within the image: (rows, cols)."""
        if self.units is None or self.lattice is None or self.grid is None:
            return np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.int32)
        return self.units.at(*self.lattice.positions(self.grid, rows, cols))

    def split(self, rows: slice, cols: slice) -> NDArray[np.int32]:
        """Number of each pixel's split: (rows, cols); UNUSED in buffers and blocks that are left out."""
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        if self.splits is None or self.lattice is None or self.grid is None:
            return np.full(shape, UNUSED if self.whole is None else self.whole, np.int32)
        east, south = self.lattice.positions(self.grid, rows, cols)
        return splits_at(
            self.splits, east, south, whole=self.whole, margin=self.buffer / 2, excluded=EXCLUDED
        )


@dataclass(frozen=True)
class Part:
    """One labelled image of a dataset."""

    image: DatasetImage
    labels: Labels
    ignored: PolygonLabels | None
    place: Place
    cells: tuple[Cell, ...] = ()
    """Blocks of the units; empty where the image is one unit."""
    unit: str = ""
    """Name of the unit that the image is, or is a part of, as a whole."""

    @property
    def unit_names(self) -> list[str]:
        """Names of the units by number."""
        return [block_name(cell) for cell in self.cells] if self.cells else [self.unit]

    def codes(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], Mapping[str, int]]:
        """Class codes of a window, 0 where not labelled or ignored, and values that are unknown."""
        codes, unknown = self.labels.read(rows, cols)
        if self.ignored is not None:
            codes = np.where(self.ignored.read(rows, cols)[0] > 0, np.uint8(NODATA), codes)
        return codes, unknown

    def placed(self, place: Place) -> "Part":
        """The same with its splits known."""
        return replace(self, place=place)


@dataclass(frozen=True)
class Scan:
    """What one pass over an image and its labels found."""

    tally: LabelTally
    unknown: Mapping[str, int]
    """Values that the mapping lacks, and how often they occur."""
    pixels: str
    """Hash of the stored numbers, whatever the file's format."""


def block_name(cell: Cell) -> str:
    """What messages call a block: its column and row in the lattice."""
    return f"block {cell[0]},{cell[1]}"


def scan(part: Part, legend: Legend, key: str, *, in_use: bool = False) -> Scan:
    """Read an image and its labels once, in strips; or take what an earlier run counted.

    key: fingerprint of all that the counts depend on, beside the program. in_use: count only pixels
    that belong to a split. Raises DatasetError where a file cannot be read.
    """
    key = fingerprint("scan", key, in_use, code_version())
    units = len(part.unit_names)
    tally = LabelTally(units, len(legend), len(part.image.numbers))
    if (kept := load_arrays(key)) is not None:
        return _restored(tally, kept)
    position = _positions(legend)
    unknown: dict[str, int] = {}
    digest = hashlib.sha256()
    for rows in _strips(part.image):
        cols = slice(0, part.image.shape[1])
        image, valid = part.image.read(rows, cols)
        digest.update(np.packbits(valid).tobytes())
        digest.update(image.tobytes())
        codes, odd = part.codes(rows, cols)
        for value, count in odd.items():
            unknown[value] = unknown.get(value, 0) + count
        unit = part.place.unit(rows, cols)
        if in_use:
            unit = np.where(part.place.split(rows, cols) == UNUSED, np.int32(UNUSED), unit)
        tally.add(rows.start, unit, position[codes], image, valid)
    found = Scan(tally, unknown, digest.hexdigest())
    keep_arrays(key, _arrays(found))
    return found


def _strips(image: DatasetImage) -> Iterator[slice]:
    height, width = image.shape
    step = max(1, _STRIP // (width * len(image.numbers)))
    step = step // 512 * 512 if step > 512 else step
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _positions(legend: Legend) -> NDArray[np.int16]:
    """Position in the legend by code; -1 for codes without a class."""
    table = np.full(256, -1, np.int16)
    for number, code in enumerate(legend.codes):
        table[code] = number
    return table


_FIELDS = ("pixels", "valid", "labelled", "center", "sums", "extremes", "places")


def _arrays(found: Scan) -> dict[str, NDArray[np.generic]]:
    said = {
        "unknown": dict(found.unknown),
        "pixels": found.pixels,
        "without_data": found.tally.without_data,
    }
    arrays = {name: getattr(found.tally, name) for name in _FIELDS}
    return {**arrays, "said": np.array(json.dumps(said))}


def _restored(tally: LabelTally, kept: Mapping[str, NDArray[np.generic]]) -> Scan:
    for name in _FIELDS:
        setattr(tally, name, kept[name])
    said = json.loads(str(kept["said"]))
    tally.without_data = said["without_data"]
    return Scan(tally, said["unknown"], said["pixels"])
