"""Polygons of a class raster, strip by strip: regions found, merged, traced, measured, simplified."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.area import PixelAreas, Tally
from landcover.ground_steps import GroundSteps
from landcover.merging import (
    Borders,
    merge_small,
    region_borders,
    seam_borders,
    strip_borders,
)
from landcover.polygons import Fragments, PolygonAssembler, Polygons, trace_strip
from landcover.region_tally import Observed, RegionTally
from landcover.regions import (
    Labels,
    RegionFinder,
    Regions,
    Strip,
    corner_pairs,
    label,
    seam_corner_pairs,
    united,
)
from landcover.simplification import CornerMap, simplify

_HECTARE = 10_000.0
_ALL = 2**62
"""More units of area than any raster has; compiled code takes no larger number."""
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
    observed: Observed | None = None
    """Clear observations, where they are known."""


@dataclass(frozen=True)
class Batch:
    """Features that are whole, and what is known of them; all in the order of the features."""

    polygons: Polygons
    parts: NDArray[np.int64]
    """Feature i has the polygons parts[i] to parts[i + 1]; each one if connected by sides only."""
    codes: NDArray[np.integer]
    firsts: NDArray[np.int64]
    """First pixel of the feature: row x columns + column."""
    tally: RegionTally
    """What was summed up over its pixels."""
    units: NDArray[np.int64]
    """Area of the feature, in units of `PixelAreas.quantum`."""
    perimeters: NDArray[np.float64]
    """Metres."""


@dataclass(frozen=True)
class _Surveyed:
    """What is found in a strip, in the numbers of its pieces."""

    top: int
    strip: Strip
    touches: NDArray[np.int64] | None
    """Pairs that touch by a corner, where they count."""
    borders: Borders | None
    tally: RegionTally | None


@dataclass(frozen=True)
class _Survey:
    """What is found in the whole raster, in unique numbers of pieces."""

    regions: Regions
    borders: Borders
    touches: Borders
    """By corners: of length 0."""
    tally: RegionTally


class ClassPolygons:
    """Polygons of a class raster that is read twice, from the top to the bottom.

    read: gives the raster in strips, the same each time. minimum: hectares below which a region is
    merged into a neighbour. tolerance: metres by which borders may move when they are simplified.
    corners: whether pixels that touch by a corner only are connected too (8-connectivity): a feature
    is then one or more polygons that touch by corners. kept: codes whose regions are never merged into
    others, however small.
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
        corners: bool = False,
        kept: Sequence[int] = (),
    ) -> None:
        self._kept = tuple(kept)
        self._read, self.grid, self._tolerance, self.corners = read, grid, tolerance, corners
        self.areas, self.steps = PixelAreas(grid), GroundSteps(grid)
        self.counted = Tally.zeros(1 << 16)
        """Pixels and area of each class in the raster, once all features are given."""
        self.moved: dict[tuple[int, int], int] = {}
        """Area that merging moved from one class to another, in units of the areas."""
        self.merged = 0
        """Regions that were merged into others."""
        self.displacement = 0.0
        """Farthest that simplification moved a border so far, metres."""
        self._parts, self.features, self._feature = self._find(minimum)

    def batches(self) -> Iterator[Batch]:
        """All features, each when the strip with its last row is done."""
        height, width = self.grid.shape
        assembler = PolygonAssembler(width, len(self._parts))
        corners = CornerMap(height, width) if self._tolerance > 0 else None
        tally, held = RegionTally.empty(), Polygons.joined([])
        for fragments, bottom, new in self._traced():
            if corners:
                corners.add(fragments.vertices)
            polygons = assembler.add(fragments, bottom)
            tally = RegionTally.joined([tally, new])
            is_open = np.isin(tally.regions, self._of(bottom))
            if self.corners:  # a feature is whole when all of its parts are
                polygons, held = self._whole(Polygons.joined([held, polygons]), bottom)
            yield self._batch(polygons, tally.where(~is_open), corners)
            tally = tally.where(is_open)

    def strips(self) -> Iterator[tuple[slice, NDArray[np.integer]]]:
        """Rows and codes (rows, cols) of the raster after merging, from the top to the bottom."""
        codes = np.concatenate([np.zeros(1, self.features.codes.dtype), self.features.codes])
        for number, pixels in enumerate(self._read()):
            pieces = self._of(self._parts.of_pieces(number))
            yield pixels.rows, codes[pieces][label(pixels.codes).labels]

    def _of(self, regions: Labels) -> Labels:
        """Features of regions."""
        return regions if self._feature is None else self._feature[regions]

    def _whole(self, polygons: Polygons, bottom: Labels) -> tuple[Polygons, Polygons]:
        """Polygons of features that are whole, by feature and part; and the others."""
        features = self._of(polygons.regions)
        is_open = np.isin(features, self._of(bottom))
        order = np.lexsort((polygons.regions, features))
        return polygons.taken(order[~is_open[order]]), polygons.taken(np.flatnonzero(is_open))

    def _batch(self, polygons: Polygons, tally: RegionTally, corners: CornerMap | None) -> Batch:
        features = self._of(polygons.regions)
        starts = np.flatnonzero(np.diff(features, prepend=0))
        units = tally.units
        if corners:
            polygons, won, moved = simplify(
                polygons, corners, self.steps, self._tolerance, self.areas.quantum
            )
            self.displacement = max(self.displacement, moved)
            units = units + _sums(won, starts)
        perimeters = _sums(self.steps.perimeters(polygons), starts)
        number = features[starts] - 1
        return Batch(
            polygons, np.append(starts, len(features)), self.features.codes[number],
            self.features.firsts[number], tally, units, perimeters,
        )  # fmt: skip

    def _find(self, minimum: float) -> tuple[Regions, Regions, Labels | None]:
        """Regions to be traced, features, and the feature of each region; None where they are the same."""
        found = self._survey(measured=minimum > 0)
        regions = features = found.regions
        if self.corners:
            pairs = region_borders([found.touches], regions).pairs
            alike = regions.codes[(pairs >> 32) - 1] == regions.codes[(pairs & 0xFFFFFFFF) - 1]
            features, feature = united(regions, pairs[alike])
            if not minimum > 0:
                return regions, features, feature
        if not minimum > 0:
            return regions, regions, None
        features = self._merged(found, features, minimum)
        if not self.corners:
            return features, features, None
        feature = np.zeros(len(regions) + 1, np.int32)
        feature[regions.numbers] = features.numbers
        sides = region_borders([found.borders], regions).pairs
        alike = feature[sides >> 32] == feature[sides & 0xFFFFFFFF]
        parts, part = united(regions, sides[alike])
        of_part = np.zeros(len(parts) + 1, np.int32)
        of_part[part] = feature
        return parts, features, of_part

    def _merged(self, found: "_Survey", features: Regions, minimum: float) -> Regions:
        """Features of which none below the minimum is left that has a neighbour."""
        sums = RegionTally.joined([found.tally.renamed(features.numbers[found.tally.regions])])
        least = int(min(np.ceil(minimum * _HECTARE / self.areas.quantum), _ALL))
        borders = region_borders([found.borders, found.touches], features)
        confidence = sums.confidence / sums.pixels
        result = merge_small(features, borders, sums.units, least, confidence, self._kept)
        self.moved, self.merged = result.moved, result.merged
        return result.regions

    def _survey(self, *, measured: bool) -> "_Survey":
        """Find the regions; measured: and their areas and borders."""
        width = self.grid.shape[1]
        finder, above = RegionFinder(width), np.zeros(width, np.int32)
        borders, touches, tallies = [], [], []
        millimetres = np.rint(1000 * self.steps.longest[:, :2]).astype(np.int64)

        def work(pixels: Pixels) -> _Surveyed:
            strip, rows = label(pixels.codes), pixels.rows
            pairs = corner_pairs(strip, alike=not measured) if self.corners else None
            if not measured:
                return _Surveyed(rows.start, strip, pairs, None, None)
            tally = RegionTally.of_strip(strip, self.areas.units(rows), pixels.confidence)
            return _Surveyed(
                rows.start, strip, pairs, strip_borders(strip, *millimetres[rows].T), tally
            )

        for one in _ahead(work, self._read()):
            base = finder.add(one.strip)
            first, last = (_unique(one.strip.labels[row], base) for row in (0, -1))
            if one.touches is not None:
                pairs = [one.touches + base * (2**32 + 1), seam_corner_pairs(above, first)]
                touches += [Borders(p, np.zeros(len(p), np.int64)) for p in pairs]
            if one.borders and one.tally:
                seam = seam_borders(above, first, int(millimetres[one.top, 0]))
                borders += [one.borders.moved(base), seam]
                tallies.append(one.tally.renamed(one.tally.regions + np.int32(base)))
            above = last
        regions = finder.regions()
        return _Survey(
            regions, Borders.joined(borders), Borders.joined(touches), RegionTally.joined(tallies)
        )

    def _traced(self) -> Iterator[tuple[Fragments, Labels, RegionTally]]:
        """Fragments, regions of the last row, and tally by feature of each strip."""
        height = int(self.grid.shape[0])

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
        self.counted = Tally.zeros(1 << 16)

        def work(numbered: tuple[int, Pixels]) -> tuple[slice, Labels, RegionTally, RegionTally]:
            number, pixels = numbered
            strip, regions = label(pixels.codes), self._parts.of_pieces(number)
            units = self.areas.units(pixels.rows)
            tally = RegionTally.of_strip(strip, units, pixels.confidence, pixels.observed)
            by_class = RegionTally.joined([tally.renamed(strip.codes.astype(np.int32))])
            framed, features = regions[strip.framed], self._of(regions[1:])
            return pixels.rows, framed, RegionTally.joined([tally.renamed(features)]), by_class

        before: tuple[slice, Labels, RegionTally] | None = None
        for rows, framed, tally, classes in _ahead(work, enumerate(self._read())):
            self.counted.pixels[classes.regions] += classes.pixels
            self.counted.units[classes.regions] += classes.units
            if before:
                framed[0], before[1][-1] = before[1][-2], framed[1]
                yield before
            before = rows, framed, tally
        if before:
            yield before


def _sums(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Sums from each start to the next."""
    return np.asarray(np.add.reduceat(values, starts)) if len(starts) else values


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
