"""A class raster traced in strips, as the pipeline does it, without files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine

from landcover.polygons import Fragments, PolygonAssembler, Polygons, trace_strip
from landcover.regions import RegionFinder, Regions, label


@dataclass(frozen=True)
class Traced:
    """Polygons of a class raster."""

    regions: Regions
    labels: NDArray[np.int32]
    """Region of each pixel, (rows, cols)."""
    fragments: list[Fragments]
    """Of each strip."""
    batches: list[Polygons]
    """Polygons as they were whole, strip by strip."""

    def geometries(self, transform: Affine) -> NDArray[np.object_]:
        """All polygons in the order of the regions."""
        found = np.empty(len(self.regions), object)
        for polygons in self.batches:
            found[polygons.regions - 1] = polygons.geometries(transform)
        return found


def traced(classes: NDArray[np.integer], rows: int | None = None) -> Traced:
    """Trace a class raster (rows, cols) in strips of so many rows; all of it at once if None."""
    height, width = classes.shape
    tops = range(0, height, rows or height)
    strips = [label(classes[top : top + (rows or height)]) for top in tops]
    finder = RegionFinder(width)
    for strip in strips:
        finder.add(strip)
    regions = finder.regions()
    labels = np.concatenate([regions.of_pieces(i)[strip.labels] for i, strip in enumerate(strips)])
    framed = np.pad(labels, 1)
    assembler, fragments, batches = PolygonAssembler(width, len(regions)), [], []
    for top, strip in zip(tops, strips, strict=True):
        end = top + len(strip.labels)
        last = end == height
        fragments.append(trace_strip(framed[top : end + 2].copy(), top, last=last))
        bottom = np.zeros(0, np.int32) if last else labels[end - 1]
        batches.append(assembler.add(fragments[-1], bottom))
    return Traced(regions, labels, fragments, batches)
