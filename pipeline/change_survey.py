"""What two maps are like before they are compared: shift, season, and how unchanged land looks."""

from dataclasses import dataclass

import numpy as np

from landcover.alteration import Alteration
from landcover.area import ground_size
from landcover.registration import Shift, image_shift
from landcover.season import Season
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


@dataclass(frozen=True)
class Survey:
    """What is known of two maps before all is read."""

    shift: Shift | None
    """None where there are no two composites with bands in common."""
    spectral: SpectralChange | Alteration | None
    seasons: tuple[Season | None, Season | None]
    """Days of the year that both composites show."""

    @property
    def days(self) -> tuple[float | None, float | None]:
        """Median day of the year of both composites."""
        one, other = self.seasons
        return one.median if one else None, other.median if other else None

    @property
    def apart(self) -> float | None:
        """Days of the year between both composites."""
        one, other = self.seasons
        return one.apart(other) if one and other else None


def survey(pair: MapPair, evidence: str = CVA) -> Survey:
    """Shift, spectral change (one of EVIDENCE) and season of two maps, from blocks on a lattice."""
    seasons = _seasons(pair)
    if not pair.bands:
        return Survey(None, None, seasons)
    blocks = _blocks(pair)
    sigma = float(np.clip(_SMOOTH_METRES / ground_size(pair.grid), *_SMOOTH_PIXELS))
    models = {CVA: SpectralChange.fit, MAD: Alteration.fit}
    spectral = models[evidence](blocks, sigma) if evidence in models else None
    return Survey(image_shift(blocks), spectral, seasons)


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


def _seasons(pair: MapPair) -> tuple[Season | None, Season | None]:
    """Days of the year that each composite shows; else the middle of the map's period."""
    found: list[Season | None] = [None, None]
    for rows in _lattice(int(pair.grid.shape[0])):
        for side, days in enumerate(pair.days(rows)):
            if days is not None and days.any():
                part, known = Season.of(days[days > 0]), found[side]
                found[side] = known + part if known else part
    one, other = (
        season or (_middle(files.period) if files.period else None)
        for season, files in zip(found, pair.files, strict=True)
    )
    return one, other


def _middle(period: str) -> Season:
    ends = np.array([np.datetime64(day) for day in period.split("/")]).astype(np.int64)
    return Season.of(ends.sum(keepdims=True) // len(ends))
