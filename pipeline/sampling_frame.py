"""The pixels from which a sample is drawn: a class raster, parted into strata, counted and read in strips."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from landcover.area import PixelAreas, Tally
from landcover.errors import LegendError, RasterError, SampleError
from landcover.legend import NODATA
from landcover.sampling import Stratum
from pipeline.class_raster import ClassRaster, open_classes, strips
from pipeline.cog import open_raster, raster_grid
from pipeline.value_legend import value_legend

_STRIP_PIXELS = 2**20
"""Pixels of a strip, at most, unless a row has more."""
_MOST_STRATA = 1_000
_MOST_KEYS = 2**23
"""Pairs of stratum and class that are counted: 16 bytes each."""


@dataclass(frozen=True)
class Cells:
    """What a frame holds of each stratum and class."""

    strata: list[Stratum]
    """The strata that have pixels, in the order of their codes."""
    hectares: NDArray[np.float64]
    """By stratum and mapped class, in legend order."""
    pixels: NDArray[np.int64]
    """The same in pixels."""
    numbers: NDArray[np.uint16]
    """Number of the stratum by key of a cell; 0 for nodata."""


@dataclass(frozen=True)
class SamplingFrame:
    """An open class raster and, where they are not its classes, a raster of strata."""

    raster: ClassRaster
    strata: DatasetReader | None
    cross: bool
    """Whether each class within each stratum is a stratum of its own."""
    step: int
    """Rows of a strip; they change nothing."""

    @cached_property
    def areas(self) -> PixelAreas:
        """True areas of its pixels."""
        return PixelAreas(self.raster.grid)

    @cached_property
    def cells(self) -> Cells:
        """What it holds, from one pass over the rasters; see `sampling_frame` for what is raised."""
        tally = Tally.zeros(self._keys)
        for strip, keys, _ in self._keyed():
            tally.add(keys, self.areas.units(strip))
        cells = np.flatnonzero(tally.pixels[1:]) + 1
        if not len(cells):
            raise SampleError(f"{self.raster.dataset.name} has no pixel with a class to draw.")
        groups, rows = np.unique(cells if self.cross else cells // self._base, return_inverse=True)
        if len(groups) > _MOST_STRATA:
            raise SampleError(
                f"{len(groups):,} strata are more than anybody can label; give {_MOST_STRATA:,} or fewer."
            )
        columns = cells % self._base - 1
        hectares = np.zeros((len(groups), self._base - 1))
        pixels = np.zeros(hectares.shape, np.int64)
        hectares[rows, columns] = self.areas.hectares(tally.units[cells])
        pixels[rows, columns] = tally.pixels[cells]
        numbers = np.zeros(len(tally.pixels), np.uint16)
        numbers[cells] = rows + 1
        names = [self._name(int(group)) for group in groups]
        strata = [
            Stratum(number, name, int(pixels[number - 1].sum()), float(hectares[number - 1].sum()))
            for number, name in enumerate(names, start=1)
        ]
        return Cells(strata, hectares, pixels, numbers)

    def strips(self) -> Iterator[tuple[slice, NDArray[np.integer], NDArray[np.integer]]]:
        """Rows, numbers of the strata (0 is none) and class codes, from top to bottom."""
        for rows, keys, codes in self._keyed():
            yield rows, self.cells.numbers[keys], codes

    @cached_property
    def _base(self) -> int:
        """Keys of a cell are group x base + place of the class in the legend, from 1; 0 is nodata."""
        return len(self.raster.legend) + 1

    @cached_property
    def _keys(self) -> int:
        """How many keys there are."""
        groups = self._base if self.strata is None else np.iinfo(self.strata.dtypes[0]).max + 1
        if groups * self._base > _MOST_KEYS:
            raise SampleError(
                f"A legend of {self._base - 1:,} classes with so many codes of strata is too much to count; "
                "give a legend of the classes that there are."
            )
        return groups * self._base

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """Place of each class code in the legend, from 1; 0 for nodata."""
        table = np.zeros(1 << 16, np.int64)
        table[list(self.raster.legend.codes)] = np.arange(1, self._base)
        return table

    @cached_property
    def _names(self) -> dict[int, str]:
        """Names of the strata by their codes, as far as the raster of strata says."""
        try:
            legend = value_legend(self.strata, None).legend
        except LegendError:
            return {}
        return {c.code: c.name for c in legend.classes}

    def _name(self, group: int) -> str:
        """Name of a stratum: its class, what its raster says, or both."""
        classes = self.raster.legend.classes
        if self.strata is None:
            return classes[group - 1].name
        code = group // self._base if self.cross else group
        name = self._names.get(code, f"stratum {code}")
        return f"{name} / {classes[group % self._base - 1].name}" if self.cross else name

    def _keyed(self) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.integer]]]:
        """Rows, keys of the cells, and class codes, from top to bottom."""
        if self.strata is None:
            for rows, codes in self.raster.strips(self.step):
                place = self._columns[codes]
                yield rows, place * self._base + place, codes
            return
        both = zip(self.raster.strips(self.step), strips(self.strata, self.step), strict=True)
        for (rows, codes), (_, values) in both:
            known = self._known(values)
            if ((codes != NODATA) & (known == 0)).any():
                raise SampleError(
                    f"{self.strata.name} gives no stratum to some pixels that have a class, so they could not be "
                    "drawn; give them one, e.g. a code for the rest."
                )
            yield (
                rows,
                np.where(codes == NODATA, 0, known * self._base + self._columns[codes]),
                codes,
            )

    def _known(self, values: NDArray[np.integer]) -> NDArray[np.int64]:
        codes = values.astype(np.int64)
        if self.strata is not None and self.strata.nodata is not None:
            codes[values == self.strata.nodata] = NODATA
        if codes.min(initial=0) < 0:
            raise SampleError(
                f"{'' if self.strata is None else self.strata.name} holds the stratum {codes.min()}; codes of "
                "strata run from 1 to 65535 (0 is nodata)."
            )
        return codes


@contextlib.contextmanager
def sampling_frame(
    classes: Path,
    output: Path,
    *,
    strata: Path | None = None,
    cross: bool = False,
    legend: str | None = None,
    strip_rows: int | None = None,
) -> Iterator[SamplingFrame]:
    """Open the pixels of a class raster as a frame, to make `output` from it.

    strata: raster of whole numbers on the same grid, 0 or its nodata value outside; None where the
    classes are the strata. cross: strata are the classes within each of its codes. legend: as
    `pipeline.value_legend.value_legend` takes it. strip_rows: rows read at a time; they change nothing.
    Raises RasterError, LegendError or SettingsError where a raster cannot be used; SampleError in the
    body where the map is empty or a pixel of it has no stratum.
    """
    with open_classes(classes, output, legend) as raster, contextlib.ExitStack() as stack:
        parted = stack.enter_context(_open_strata(strata, raster)) if strata else None
        step = strip_rows or max(1, _STRIP_PIXELS // int(raster.grid.shape[1]))
        yield SamplingFrame(raster, parted, cross and parted is not None, step)


def _open_strata(path: Path, raster: ClassRaster) -> DatasetReader:
    dataset = open_raster(path)
    if dataset.count != 1 or dataset.dtypes[0] not in ("uint8", "uint16", "int8", "int16"):
        raise RasterError(
            f"{path} has {dataset.count} band(s) of {', '.join(set(dataset.dtypes)) or 'no type'}; strata are "
            "one band of whole numbers of 8 or 16 bits."
        )
    if raster_grid(dataset) != raster.grid:
        raise RasterError(
            f"{path} lies on another grid than {raster.dataset.name}; resample it onto the grid of the map "
            "(nearest neighbour)."
        )
    return dataset
