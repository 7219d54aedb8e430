"""Many stratified samples of a map whose truth is known everywhere, and how often the intervals hold it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.area_estimation import LabelledSample
from landcover.sampling import allocate, draw_ranks


@dataclass(frozen=True)
class Coverage:
    """What came of the draws, by class."""

    normal: NDArray[np.float64]
    """Share of them whose 1.96 standard errors of the area hold the true area."""
    interval: NDArray[np.float64]
    """Share of them whose interval holds it."""
    missed: NDArray[np.float64]
    """Mean number of sampled pixels of the class that the map calls something else."""


def coverage(
    mapped: NDArray[np.integer],
    truth: NDArray[np.integer],
    areas: NDArray[np.float64],
    *,
    size: int,
    draws: int,
) -> Coverage:
    """How often the estimates of draws hold the true area of each class.

    mapped, truth: class index of each pixel, from 0; areas: hectares of each. The strata are the mapped
    classes, the minimum is 50 pixels; every draw is allocated, drawn and estimated by the program's own
    functions.
    """
    classes = int(max(mapped.max(), truth.max())) + 1
    order = np.argsort(mapped, kind="stable")
    pixels = np.bincount(mapped, minlength=classes)
    begins = np.cumsum(pixels) - pixels
    hectares = np.bincount(mapped, areas, classes)
    actual = np.bincount(truth, areas, classes)
    drawn = allocate(hectares / hectares.sum(), pixels, size, 50)
    normal, interval, missed = np.zeros((3, classes))
    for draw in range(draws):
        places = np.concatenate(
            [
                order[begins[h] + draw_ranks(int(pixels[h]), int(drawn[h]), (draw, h))]
                for h in range(classes)
            ]
        )
        sample = LabelledSample(
            classes, ("",) * classes, hectares, pixels, mapped[places], mapped[places],
            truth[places], areas[places],
        )  # fmt: skip
        found = [sample.area(k) for k in range(classes)]
        normal += [abs(m.value - a) <= m.margin for m, a in zip(found, actual, strict=True)]
        interval += [m.low <= a <= m.high for m, a in zip(found, actual, strict=True)]
        missed += sample.counts.sum(axis=0) - sample.counts.diagonal()
    return Coverage(normal / draws, interval / draws, missed / draws)
