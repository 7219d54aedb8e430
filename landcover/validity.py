"""Where an image holds data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mark_valid(
    pixels: NDArray[Any],
    nodata: NDArray[np.generic],
    declared: NDArray[np.bool_],
    mask: NDArray[np.uint8],
    zeros_are_empty: bool,
    valid: NDArray[np.uint8],
) -> None:
    """Mark in `valid` (rows, cols) where pixels (bands, rows, cols) hold data in every band.

    A pixel is invalid where the mask (rows, cols) is 0, a band is not finite, or a band that
    declares a nodata value holds it; and, if so told, where it is 0 in all bands.
    """
    good = valid.view(np.bool_)
    np.not_equal(mask, 0, out=good)
    test = np.empty(valid.shape, np.bool_)
    for band, value, says in zip(pixels, nodata, declared, strict=True):
        if says:
            np.not_equal(band, value, out=test)
            good &= test
        if band.dtype.kind == "f":
            np.isfinite(band, out=test)
            good &= test
    if zeros_are_empty:
        some = np.not_equal(pixels[0], 0)
        for band in pixels[1:]:
            np.not_equal(band, 0, out=test)
            some |= test
        good &= some
