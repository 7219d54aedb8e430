"""Many stratified samples of a map whose truth is known everywhere, and how often the intervals hold it."""

import numpy as np
from numpy.typing import NDArray

from landcover.area_estimation import LabelledSample, Measure
from landcover.sampling import allocate, draw_ranks


def coverage(
    mapped: NDArray[np.integer],
    truth: NDArray[np.integer],
    areas: NDArray[np.float64],
    *,
    size: int,
    draws: int,
) -> NDArray[np.float64]:
    """Share of the draws whose 95 % interval of a class's area holds the true area, (classes,).

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
    held = np.zeros(classes)
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
        held += [_holds(sample.area(k), actual[k]) for k in range(classes)]
    return held / draws


def _holds(estimate: Measure, actual: float) -> bool:
    return abs(estimate.value - actual) <= estimate.margin
