"""Polygons of a class raster, strip by strip: regions found, merged, traced, measured, simplified."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.area import PixelAreas
from landcover.ground_steps import GroundSteps
from landcover.merging import merge_small, region_borders, seam_borders, strip_borders
from landcover.polygons import Fragments, PolygonAssembler, Polygons, trace_strip
from landcover.region_tally import RegionTally
from landcover.regions import Labels, RegionFinder, Regions, label
from landcover.simplification import CornerMap, simplify

_HECTARE = 10_000.0
_NONE = np.zeros(0, np.int32)

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Pixels:
    """Some rows of a class raster."""

    rows: slice
    codes: NDArray[np.integer]
    """Class codes, 0 is nodata."""
    confidence: NDArray[np.uint8] | None
    """Percent."""


@dataclass(frozen=True)
class Batch:
    """Polygons that are whole, and what is known of them; all in the order of the polygons."""

    polygons: Polygons
    codes: NDArray[np.integer]
    firsts: NDArray[np.int64]
    """First pixel of the region: row x columns + column."""
    tally: RegionTally
    """What was summed up over its pixels."""
    units: NDArray[np.int64]
    """Area of the polygon, in units of `PixelAreas.quantum`."""
    perimeters: NDArray[np.float64]
    """Metres."""


class ClassPolygons:
    """Polygons of a class raster that is read twice, from the top to the bottom.

    read: gives the raster in strips, the same each time. minimum: hectares below which a region is
    merged into a neighbour. tolerance: metres by which borders may move when they are simplified.
    Memory is that of some strips, of the polygons that are open, and a few bytes for each region.
    Raises RasterError where a pixel with a class is off the Earth.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Pixels]],
        grid: GeoBox,
        *,
        minimum: float = 0.0,
        tolerance: float = 0.0,
    ) -> None:
        self._read, self._grid, self._tolerance = read, grid, tolerance
        self.areas, self._steps = PixelAreas(grid), GroundSteps(grid)
        self.moved: dict[tuple[int, int], int] = {}
        """Area that merging moved from one class to another, in units of the areas."""
        self.merged = 0
        """Regions that were merged into others."""
        self.displacement = 0.0
        """Farthest that simplification moved a border so far, metres."""
        self.regions = self._find_merged(minimum) if minimum > 0 else self._find()

    def batches(self) -> Iterator[Batch]:
        """All polygons, each when the strip with its last row is done."""
        height, width = self._grid.shape
        assembler = PolygonAssembler(width, len(self.regions))
        corners = CornerMap(height, width) if self._tolerance > 0 else None
        tally = RegionTally.empty()
        for fragments, bottom, new in self._traced():
            if corners:
                corners.add(fragments.vertices)
            polygons = assembler.add(fragments, bottom)
            tally = RegionTally.joined([tally, new])
            is_open = np.isin(tally.regions, bottom)
            yield self._batch(polygons, tally.where(~is_open), corners)
            tally = tally.where(is_open)

    def _batch(self, polygons: Polygons, tally: RegionTally, corners: CornerMap | None) -> Batch:
        units = tally.units
        if corners:
            polygons, won, moved = simplify(
                polygons, corners, self._steps, self._tolerance, self.areas.quantum
            )
            units, self.displacement = units + won, max(self.displacement, moved)
        number = polygons.regions - 1
        return Batch(
            polygons, self.regions.codes[number], self.regions.firsts[number], tally, units,
            self._steps.perimeters(polygons),
        )  # fmt: skip

    def _find(self) -> Regions:
        finder = RegionFinder(self._grid.shape[1])
        for strip in _ahead(lambda pixels: label(pixels.codes), self._read()):
            finder.add(strip)
        return finder.regions()

    def _find_merged(self, minimum: float) -> Regions:
        """Regions of which none below the minimum is left that has a neighbour."""
        finder, borders, tallies = RegionFinder(self._grid.shape[1]), [], []
        above = np.zeros(self._grid.shape[1], np.int32)
        millimetres = np.rint(1000 * self._steps.longest[:, :2]).astype(np.int64)

        def work(pixels: Pixels):  # type: ignore[no-untyped-def]  # noqa: ANN202
            strip, rows = label(pixels.codes), pixels.rows
            along, down = millimetres[rows].T
            tally = RegionTally.of_strip(strip, self.areas.units(rows), pixels.confidence)
            return rows.start, strip, strip_borders(strip, along, down), tally

        for top, strip, found, tally in _ahead(work, self._read()):
            base = finder.add(strip)
            first, last = (_unique(strip.labels[row], base) for row in (0, -1))
            borders += [found.moved(base), seam_borders(above, first, int(millimetres[top, 0]))]
            tallies.append(tally.renamed(tally.regions + np.int32(base)))
            above = last
        regions = finder.regions()
        sums = RegionTally.joined(
            [tally.renamed(regions.numbers[tally.regions]) for tally in tallies]
        )
        least = int(np.ceil(minimum * _HECTARE / self.areas.quantum))
        result = merge_small(
            regions,
            region_borders(borders, regions),
            sums.units,
            least,
            sums.confidence / sums.pixels,
        )
        self.moved, self.merged = result.moved, result.merged
        return result.regions

    def _traced(self) -> Iterator[tuple[Fragments, Labels, RegionTally]]:
        """Fragments, regions of the last row, and tally of each strip."""
        height = int(self._grid.shape[0])

        def trace(
            strip: tuple[slice, Labels, RegionTally],
        ) -> tuple[Fragments, Labels, RegionTally]:
            rows, framed, tally = strip
            last = rows.stop == height
            fragments = trace_strip(framed, rows.start, last=last)
            return fragments, _NONE if last else framed[-2, 1:-1].copy(), tally

        return _ahead(trace, self._framed())

    def _framed(self) -> Iterator[tuple[slice, Labels, RegionTally]]:
        """Strips with the regions of their pixels and those of the rows beside them."""

        def work(numbered: tuple[int, Pixels]) -> tuple[slice, Labels, RegionTally]:
            number, pixels = numbered
            strip, regions = label(pixels.codes), self.regions.of_pieces(number)
            units = self.areas.units(pixels.rows)
            tally = RegionTally.of_strip(strip, units, pixels.confidence)
            framed = regions[strip.framed]
            return pixels.rows, framed, RegionTally.joined([tally.renamed(regions[1:])])

        before: tuple[slice, Labels, RegionTally] | None = None
        for strip in _ahead(work, enumerate(self._read())):
            if before:
                strip[1][0], before[1][-1] = before[1][-2], strip[1][1]
                yield before
            before = strip
        if before:
            yield before


def _unique(labels: Labels, base: int) -> Labels:
    return np.where(labels > 0, labels + np.int32(base), np.int32(0))


def _ahead(work: Callable[[Given], Made], given: Iterable[Given]) -> Iterator[Made]:
    """Do some work on each, in threads, a few ahead; the results come in order."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        queue: deque[Future[Made]] = deque()
        try:
            for one in given:
                queue.append(pool.submit(work, one))
                if len(queue) > threads:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()
