"""A chip as a picture: the image, the reference, the map, and where they differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landcover.legend import NODATA, Legend
from pipeline.pictures import png

_GAP = 4
_RIGHT, _WRONG, _UNKNOWN = (226, 228, 222), (178, 34, 52), (255, 255, 255)
_STRETCH = (2, 98)


def chip_picture(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    reference: NDArray[np.uint8],
    mapped: NDArray[np.uint8],
    bands: Sequence[str],
    legend: Legend,
) -> bytes:
    """PNG of four squares from left to right: image, reference, map, right (grey) and wrong (red).

    image: (bands, rows, cols), drawn in true colour where it has red, green and blue, else its first
    three bands, or one as grey; 2 to 98 % of the values are stretched. Codes (rows, cols); 0 is white.
    """
    table = legend.rgb_table()
    table[NODATA] = _UNKNOWN
    known = (reference != NODATA) & (mapped != NODATA)
    differ = np.full((*known.shape, 3), _UNKNOWN, np.uint8)
    differ[known & (reference == mapped)] = _RIGHT
    differ[known & (reference != mapped)] = _WRONG
    panels: list[NDArray[Any]] = [
        _colors(image, valid, bands),
        table[reference],
        table[mapped],
        differ,
    ]
    gap = np.full((known.shape[0], _GAP, 3), _UNKNOWN, np.uint8)
    row = [part for panel in panels for part in (gap, panel)][1:]
    return png(Image.fromarray(np.concatenate(row, axis=1)))


def _colors(
    image: NDArray[np.float32], valid: NDArray[np.bool_], bands: Sequence[str]
) -> NDArray[np.uint8]:
    shown = np.full((*valid.shape, 3), 255, np.uint8)
    if valid.any():
        for channel, number in enumerate(_shown_bands(bands)):
            band = image[number]
            dark, bright = np.percentile(band[valid], _STRETCH)
            light = np.clip((band - dark) / (bright - dark if bright > dark else 1), 0, 1)
            shown[..., channel][valid] = (light[valid] * 255 + 0.5).astype(np.uint8)
    return shown


def _shown_bands(bands: Sequence[str]) -> tuple[int, ...]:
    names = [band.lower() for band in bands]
    if {"red", "green", "blue"} <= set(names):
        return tuple(names.index(name) for name in ("red", "green", "blue"))
    return (0, 1, 2) if len(bands) >= 3 else (0, 0, 0)
