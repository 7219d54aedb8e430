"""What two maps are like before they are compared: shift, season, and how unchanged land looks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.alteration import Alteration
from landcover.area import ground_size
from landcover.change_guards import day_distance
from landcover.registration import Shift, image_shift
from landcover.spectral_change import SpectralChange
from pipeline.map_pair import Blocks, MapPair

_SMOOTH_METRES = 20.0
"""Standard deviation of the Gaussian over the differences of images: two pixels of Sentinel-2."""
_SMOOTH_PIXELS = (0.5, 3.0)
"""Least and most of it, pixels."""
_SAMPLE_SIDE, _SAMPLES = 256, 4
"""Blocks that are looked at before all is read: at most 4 x 4 of 256 x 256 pixels."""
_ROWS = 32
"""Rows of both images read together for them."""
CVA, MAD, NONE = "cva", "mad", "none"
EVIDENCE = (CVA, MAD, NONE)
"""How images show a change: by a change vector, by multivariate alteration detection, not at all."""
_EPOCH_DAY = np.datetime64("1970-01-01")


@dataclass(frozen=True)
class Survey:
    """What is known of two maps before all is read."""

    shift: Shift | None
    """None where there are no two composites with bands in common."""
    spectral: SpectralChange | Alteration | None
    days: tuple[float | None, float | None]
    """Median day of the year of both composites."""

    @property
    def apart(self) -> float | None:
        """Days between the two days of the year."""
        one, other = self.days
        return None if one is None or other is None else day_distance(one, other)


def survey(pair: MapPair, evidence: str = CVA) -> Survey:
    """Shift, spectral change (one of EVIDENCE) and season of two maps, from blocks on a lattice."""
    days = _median_days(pair)
    if not pair.bands:
        return Survey(None, None, days)
    blocks = _blocks(pair)
    sigma = float(np.clip(_SMOOTH_METRES / ground_size(pair.grid), *_SMOOTH_PIXELS))
    models = {CVA: SpectralChange.fit, MAD: Alteration.fit}
    spectral = models[evidence](blocks, sigma) if evidence in models else None
    return Survey(image_shift(blocks), spectral, days)


def _blocks(pair: MapPair) -> Blocks:
    """Blocks on the lattice that hold data in both images, read some rows at a time."""
    columns = _lattice(int(pair.grid.shape[1]))
    blocks: Blocks = []
    for rows in _lattice(int(pair.grid.shape[0])):
        parts = [
            [(first[:, :, cols].copy(), second[:, :, cols].copy(), valid[:, cols].copy()) for cols in columns]
            for top in range(rows.start, rows.stop, _ROWS)
            for first, second, valid in [pair.images(slice(top, min(top + _ROWS, rows.stop)))]
        ]  # fmt: skip
        for place in range(len(columns)):
            first, second, valid = zip(*(part[place] for part in parts), strict=True)
            blocks.append(
                (np.concatenate(first, 1), np.concatenate(second, 1), np.concatenate(valid))
            )
    return [block for block in blocks if block[2].any()]


def _lattice(length: int) -> list[slice]:
    """Up to four stretches of a side, evenly spread; all of it where it is short."""
    count = -(-length // _SAMPLE_SIDE)
    wanted = np.unique(np.linspace(0, count - 1, min(count, _SAMPLES)).round().astype(int))
    edges = np.linspace(0, length, count + 1).round().astype(int)
    return [slice(int(edges[i]), int(edges[i + 1])) for i in wanted]


def _median_days(pair: MapPair) -> tuple[float | None, float | None]:
    """Median day of the year that each composite shows; else the middle of the map's period."""
    found: list[list[NDArray[np.integer]]] = [[], []]
    for rows in _lattice(int(pair.grid.shape[0])):
        for days, known in zip(pair.days(rows), found, strict=True):
            if days is not None:
                known.append(days[days > 0])
    medians = [
        float(np.median(_day_of_year(np.concatenate(known)))) if any(map(len, known)) else None
        for known in found
    ]
    periods = [one.period for one in pair.files]
    one, other = (
        _middle_day(period) if day is None and period else day
        for day, period in zip(medians, periods, strict=True)
    )
    return one, other


def _day_of_year(days: NDArray[np.integer]) -> NDArray[np.int64]:
    dates = _EPOCH_DAY + days.astype(np.int64)
    return np.asarray((dates - dates.astype("datetime64[Y]")).astype(np.int64) + 1)


def _middle_day(period: str) -> float:
    ends = [np.datetime64(day) - _EPOCH_DAY for day in period.split("/")]
    middle = sum(int(end.astype(np.int64)) for end in ends) // len(ends)
    return float(_day_of_year(np.array([middle]))[0])
