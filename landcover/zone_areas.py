"""Hectares of each class in each zone, on the ellipsoid."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from landcover.area import PixelAreas, check_codes
from landcover.errors import RasterError
from landcover.legend import NODATA, Legend
from landcover.pixel_cover import PixelCover

Ints = NDArray[np.int64]


def zone_areas(
    blocks: Iterable[tuple[slice, NDArray[np.integer]]],
    areas: PixelAreas,
    legend: Legend,
    zones: Sequence[Sequence[PixelCover]],
) -> Ints:
    """Area of nodata and of each class in each zone: units of `areas`, (zones, 1 + classes).

    blocks: (row slice, class codes (rows, cols)) that together cover the grid once, in any order and of
    any height: the result is the same to the last bit. zones: the parts of each zone, which do not
    overlap; zones may. A pixel counts by the share of it that a zone covers, times its area on the
    ellipsoid, to the nearest unit. Columns are nodata, then the classes in legend order.
    Raises LegendError for codes outside the legend, RasterError for a pixel with a class off the Earth.
    """
    shape = (int(areas.grid.shape[0]), int(areas.grid.shape[1]))
    columns = np.full(1 << 16, -1, np.int32)
    columns[[NODATA, *legend.codes]] = np.arange(1 + len(legend))
    total = np.zeros((len(zones), 1 + len(legend)), np.int64)
    parts = [(zone, part, *part.window(shape)) for zone, all_ in enumerate(zones) for part in all_]
    starts, stops = (np.array([getattr(p[2], end) for p in parts]) for end in ("start", "stop"))
    for rows, codes in blocks:
        keys, units = columns[codes], areas.units(rows)
        if keys.min(initial=0) < 0:
            check_codes(np.unique(codes), legend)
        for number in np.flatnonzero((starts < rows.stop) & (stops > rows.start)):
            zone, part, tall, wide = parts[number]
            within = slice(max(tall.start, rows.start), min(tall.stop, rows.stop))
            here = slice(within.start - rows.start, within.stop - rows.start), wide
            if part.add(within, wide, keys[here], units[here], total[zone]):
                raise RasterError(
                    "Some pixels with a class lie where the raster's CRS has no place on the Earth; "
                    "check its CRS and geotransform."
                )
    return total
