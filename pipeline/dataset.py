"""A labelled dataset, ready to be drawn from: spatially split, cut on the fly, with a version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landcover.blocks import window_sums
from landcover.errors import DatasetError
from landcover.label_tally import BandFigures, band_figures
from landcover.legend import NODATA, Legend
from landcover.splits import SPLITS
from pipeline.dataset_part import Part
from pipeline.dataset_survey import Survey, units_of, usable

__all__ = ["Block", "Chip", "Dataset", "TilePlace", "load_dataset"]

_LARGEST_SIDE = 8192


@dataclass(frozen=True)
class Chip:
    """A square cut from an image and its labels."""

    image: NDArray[np.float32]
    """Physical values, (bands, side, side); 0 where there is no data."""
    codes: NDArray[np.uint8]
    """Legend codes, (side, side); 0 = not labelled, ignored, or no data in the image."""
    valid: NDArray[np.bool_]
    """(side, side); False where the image has no data."""


@dataclass(frozen=True)
class Block:
    """Ground of one image that goes to one split as a whole."""

    image: str
    """Name of the image."""
    name: str
    """Of the block in the lattice, or of the group."""
    split: str
    pixels: int
    """Of the image, with data."""
    counts: tuple[int, ...]
    """Labelled pixels by position in the legend's classes."""


@dataclass(frozen=True)
class TilePlace:
    """A fixed square of an image, of which the pixels of one split count."""

    image: int
    """Number of the image in the dataset."""
    row: int
    col: int
    side: int
    split: int


@dataclass(frozen=True)
class _Lots:
    """Where the labelled pixels of one class in one split are."""

    ends: NDArray[np.int64]
    """Running sum of the labelled pixels of each lot, an image's unit."""
    starts: NDArray[np.int64]
    """First sampled pixel of each lot, and the end of the last, (lots + 1,)."""
    places: NDArray[np.int32]
    """Image, row, column of the sampled pixels, (n, 3)."""

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Image, row and column of a pixel: each lot as often as it has pixels of the class."""
        lot = int(np.searchsorted(self.ends, rng.integers(self.ends[-1]), side="right"))
        image, row, col = self.places[rng.integers(self.starts[lot], self.starts[lot + 1])]
        return int(image), int(row), int(col)


class Dataset:
    """Images, labels and their splits; made by `load_dataset`. It may be pickled.

    Files are opened when they are first read, in each process anew; they must not change meanwhile.
    """

    def __init__(self, found: Survey) -> None:
        file = found.plan.file
        self.name = file.name
        self.licence = file.licence
        self.credit = file.credit
        self.bands: tuple[str, ...] = file.band_names
        self.scale = file.scale
        self.offset = file.offset
        self.legend: Legend = found.plan.legend
        self.version = found.version
        self.images: tuple[str, ...] = tuple(part.image.name for part in found.parts)
        self._parts: tuple[Part, ...] = tuple(found.parts)
        self._blocks = tuple(_blocks(found, split) for split in range(len(SPLITS)))
        self._lots = [_lots(found, split) for split in range(len(SPLITS))]
        self._figures = _figures(found, 0)
        self._tiles: dict[tuple[str, int], tuple[TilePlace, ...]] = {}

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """Labelled pixels by position in `legend.classes`."""
        counts = [block.counts for block in self.blocks(split)]
        return (
            np.sum(counts, axis=0, dtype=np.int64)
            if counts
            else np.zeros(len(self.legend), np.int64)
        )

    def band_mean(self) -> tuple[float, ...]:
        """Mean of each band over the valid pixels of the train split, physical units."""
        return tuple(map(float, self._figures.mean))

    def band_std(self) -> tuple[float, ...]:
        """Standard deviation of each band over the same pixels."""
        return tuple(map(float, self._figures.std))

    def blocks(self, split: str) -> Sequence[Block]:
        """The blocks, or whole images, of a split."""
        return self._blocks[_number(split)]

    def draw(self, split: str, side: int, seed: int, index: int, balanced: bool = True) -> Chip:
        """A random chip of a split; the same for the same seed and index.

        balanced: a class is drawn first, with even odds over those that the split has, then one of its
        pixels, then a window around it; else each labelled pixel has the same odds. The window is
        shifted to lie inside the split's ground; what still lies outside is blank: image 0, valid False,
        code 0. Raises DatasetError where the split has no label, or a file cannot be read.
        """
        number = _number(split)
        _check_side(side)
        lots = self._lots[number]
        if not lots:
            raise DatasetError(
                f"The dataset {self.name} has no labelled pixel in {split}; it cannot be drawn from."
            )
        rng = np.random.default_rng([seed, index, number])
        odds = None
        if not balanced:
            total = np.array([lot.ends[-1] for lot in lots], np.float64)
            odds = total / total.sum()
        image, row, col = lots[int(rng.choice(len(lots), p=odds))].draw(rng)
        part = self._parts[image]
        rows, cols = _window(part, number, row, col, side, rng)
        return self._chip(part, number, rows, cols, blank=True)

    def tiles(self, split: str, side: int) -> Sequence[TilePlace]:
        """Fixed places, image by image in rows, that hold every labelled pixel of a split exactly once."""
        _check_side(side)
        if (split, side) not in self._tiles:
            self._tiles[split, side] = tuple(
                TilePlace(image, row, col, side, _number(split))
                for image, part in enumerate(self._parts)
                for row, col in self._labelled_places(part, _number(split), side)
            )
        return self._tiles[split, side]

    def read(self, place: TilePlace, context: int = 0) -> Chip:
        """The chip of a place, with so many more pixels on each side.

        The image is shown whatever its split; codes outside the place, and of pixels of other splits,
        are 0. Beyond the image: code 0, valid False.
        """
        part = self._parts[place.image]
        rows = slice(place.row - context, place.row + place.side + context)
        cols = slice(place.col - context, place.col + place.side + context)
        chip = self._chip(part, place.split, rows, cols, blank=False)
        if context:
            inner = np.zeros(chip.codes.shape, np.bool_)
            inner[context:-context, context:-context] = True
            chip.codes[~inner] = NODATA
        return chip

    def shape(self, image: int) -> tuple[int, int]:
        """Rows and columns of an image, by its number."""
        return self._parts[image].image.shape

    def block_names(self, place: TilePlace) -> tuple[NDArray[np.int32], list[str]]:
        """Of a place: the number of each pixel's block, (side, side), -1 beyond the image, and names."""
        part = self._parts[place.image]
        height, width = part.image.shape
        numbers = np.full((place.side, place.side), -1, np.int32)
        rows = slice(max(place.row, 0), min(place.row + place.side, height))
        cols = slice(max(place.col, 0), min(place.col + place.side, width))
        if rows.start < rows.stop and cols.start < cols.stop:
            numbers[
                rows.start - place.row : rows.stop - place.row,
                cols.start - place.col : cols.stop - place.col,
            ] = part.place.unit(rows, cols)
        return numbers, part.unit_names

    def _chip(self, part: Part, split: int, rows: slice, cols: slice, *, blank: bool) -> Chip:
        shape = rows.stop - rows.start, cols.stop - cols.start
        image = np.zeros((len(self.bands), *shape), np.float32)
        codes = np.zeros(shape, np.uint8)
        valid = np.zeros(shape, np.bool_)
        down, across = (
            slice(max(cut.start, 0), min(cut.stop, length))
            for cut, length in zip((rows, cols), part.image.shape, strict=True)
        )
        if down.start >= down.stop or across.start >= across.stop:
            return Chip(image, codes, valid)
        here = (
            slice(down.start - rows.start, down.stop - rows.start),
            slice(across.start - cols.start, across.stop - cols.start),
        )
        seen, good = part.image.read(down, across)
        own = part.place.split(down, across) == split
        labels = part.codes(down, across)[0]
        if blank:
            seen[:, ~own] = 0
            good = good & own
        image[:, *here], valid[here] = seen, good
        codes[here] = np.where(own & good, labels, np.uint8(NODATA))
        return Chip(image, codes, valid)

    def _labelled_places(self, part: Part, split: int, side: int) -> list[tuple[int, int]]:
        """Corners of the tiles of an image that hold a labelled pixel of a split."""
        height, width = part.image.shape
        found = []
        for row in range(0, height, side):
            rows = slice(row, min(row + side, height))
            cols = slice(0, width)
            own = part.place.split(rows, cols) == split
            if not own.any():
                continue
            labelled = own & (part.codes(rows, cols)[0] != NODATA)
            starts = np.arange(0, width, side)
            for col in starts[np.add.reduceat(labelled.any(axis=0), starts) > 0]:
                found.append((row, int(col)))  # noqa: PERF401 - a comprehension would hide the rows
        return found


def load_dataset(path: Path, report: Callable[[str], None] | None = None) -> Dataset:
    """Open a dataset by its YAML.

    All files are read once to count classes and to look for faults; what was counted is kept in a
    cache, so that the next time takes seconds. report: takes a line of progress.
    Raises DatasetError where the dataset cannot be used: the first reason, and how many more there are.
    """
    return Dataset(usable(path, report))


def _number(split: str) -> int:
    if split not in SPLITS:
        raise DatasetError(f"There is no split '{split}'; it is one of {', '.join(SPLITS)}.")
    return SPLITS.index(split)


def _check_side(side: int) -> None:
    if not 1 <= side <= _LARGEST_SIDE:
        raise DatasetError(
            f"Chips of {side} pixels cannot be cut; give a side from 1 to {_LARGEST_SIDE}."
        )


def _blocks(found: Survey, split: int) -> tuple[Block, ...]:
    blocks = []
    for part, one in zip(found.parts, found.scans, strict=True):
        for number in np.flatnonzero(units_of(found, part, split) & (one.tally.pixels > 0)):
            counts = tuple(map(int, one.tally.labelled[number]))
            name = part.unit_names[number]
            blocks.append(
                Block(part.image.name, name, SPLITS[split], int(one.tally.valid[number]), counts)
            )
    return tuple(blocks)


def _figures(found: Survey, split: int) -> BandFigures:
    parts = [
        (one.tally, units_of(found, part, split))
        for part, one in zip(found.parts, found.scans, strict=True)
    ]
    return band_figures(parts, len(found.plan.file.bands))


def _lots(found: Survey, split: int) -> list[_Lots]:
    """The lots of each class that a split has."""
    made = []
    for label in range(len(found.plan.legend)):
        sizes, places = [], []
        for image, (part, one) in enumerate(zip(found.parts, found.scans, strict=True)):
            mine = units_of(found, part, split)
            sampled = one.tally.places
            for unit in np.flatnonzero(mine & (one.tally.labelled[:, label] > 0)):
                chosen = sampled[(sampled[:, 0] == unit) & (sampled[:, 1] == label)][:, 2:]
                sizes.append(int(one.tally.labelled[unit, label]))
                places.append(np.insert(chosen, 0, image, axis=1))
        if sizes:
            starts = np.cumsum([0, *(len(place) for place in places)])
            made.append(_Lots(np.cumsum(sizes), starts, np.concatenate(places).astype(np.int32)))
    return made


def _window(
    part: Part, split: int, row: int, col: int, side: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    """A window around a pixel, inside the image and the split's ground as far as that can be."""
    top, left = (
        _start(at, side, length, int(rng.integers(side)))
        for at, length in zip((row, col), part.image.shape, strict=True)
    )
    if part.place.splits is not None and not _own(part, split, top, left, side).all():
        top, left = _best_start(part, split, row, col, side, rng)
    return slice(top, top + side), slice(left, left + side)


def _start(at: int, side: int, length: int, shift: int) -> int:
    """First row or column of a window that holds a pixel, inside the image where it is large enough."""
    low, high = sorted((0, length - side))
    return min(max(at - shift, low), high)


def _own(part: Part, split: int, top: int, left: int, side: int) -> NDArray[np.bool_]:
    """Which pixels of a window are the split's: (side, side); none are beyond the image."""
    own = part.place.split(slice(top, top + side), slice(left, left + side)) == split
    rows, cols = np.ogrid[top : top + side, left : left + side]
    height, width = part.image.shape
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    return np.asarray(own & inside)


def _best_start(
    part: Part, split: int, row: int, col: int, side: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Corner of one of the windows around a pixel that hold most of the split's ground."""
    top, left = row - side + 1, col - side + 1
    own = _own(part, split, top, left, 2 * side - 1)
    inside = window_sums(own, side)
    best = np.flatnonzero(inside == inside.max())
    down, across = divmod(int(best[rng.integers(best.size)]), side)
    return top + down, left + across
