"""Pictures of a run's rasters as PNG, small enough for a page: composite, classes, confidence."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from landcover.errors import RasterError
from pipeline.cog import open_raster, read_legend, unreadable

CONFIDENCE_RAMP = ((0, "#7a1f3d"), (50, "#e9a15b"), (75, "#f3ecc8"), (100, "#1f6f78"))
"""Colours of the confidence picture: (percent, colour), linear in between."""
_LONGEST = 1200
"""Longest side of a picture, pixels."""
_STRETCH = (2, 98)
"""Percentiles of the valid pixels drawn as black and as full brightness, per band."""


@dataclass(frozen=True)
class Stretch:
    """How one band becomes one colour of a picture."""

    band: int
    """Number of the band, from 1."""
    dark: float
    """Value drawn as black, scaled as the file says."""
    bright: float
    """Value drawn as full brightness."""


def composite_stretch(path: Path) -> tuple[Stretch, ...]:
    """Bands and values that `composite_picture` draws as red, green and blue.

    Raises RasterError where the file cannot be read.
    """
    with open_raster(path) as dataset:
        names = [name or "" for name in dataset.descriptions]
        bands = [names.index(name) + 1 for name in _picture_bands(dataset)]
        if not bands:
            raise RasterError(f"{path} has no band to draw; give the composite.tif of a run.")
        values = _small(dataset, bands, Resampling.average)  # (3, rows, cols)
        scales = [(dataset.scales[band - 1], dataset.offsets[band - 1]) for band in bands]
    seen = np.asarray((values > 0).all(axis=0), np.bool_)
    ends = [_ends(band, seen) for band in values]
    return tuple(
        Stretch(band, float(dark * scale + offset), float(bright * scale + offset))
        for band, (dark, bright), (scale, offset) in zip(bands, ends, scales, strict=True)
    )


def composite_picture(path: Path) -> tuple[bytes, tuple[str, ...]]:
    """The composite in true colour, and the names of the bands drawn as red, green and blue.

    Where red, green and blue are not all there, the first three bands stand in, or one as grey.
    A pixel without data is transparent.
    """
    with open_raster(path) as dataset:
        names = _picture_bands(dataset)
        bands = [dataset.descriptions.index(name) + 1 for name in names]
        values = _small(dataset, bands, Resampling.average)  # (3, rows, cols)
    seen = np.asarray((values > 0).all(axis=0), np.bool_)
    shown = np.zeros((*seen.shape, 4), np.uint8)
    shown[..., 3] = np.where(seen, 255, 0)
    for i, band in enumerate(values):
        if seen.any():
            shown[..., i] = np.where(seen, _stretched(band, seen), 0)
    return png(Image.fromarray(shown[..., :3] if seen.all() else shown)), names


def class_picture(path: Path) -> bytes:
    """The class map in the colours of its legend; nodata is transparent."""
    with open_raster(path) as dataset:
        codes = _small(dataset, [1], Resampling.nearest)[0]
        return _palette_png(codes, read_legend(dataset).rgb_table())


def confidence_picture(path: Path) -> bytes:
    """The confidence in percent, coloured by CONFIDENCE_RAMP; nodata is transparent."""
    with open_raster(path) as dataset:
        return _palette_png(_small(dataset, [1], Resampling.nearest)[0], _confidence_colors())


def data_uri(png: bytes) -> str:
    """A PNG as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _picture_bands(dataset: DatasetReader) -> tuple[str, ...]:
    names = tuple(name or "" for name in dataset.descriptions)
    if {"red", "green", "blue"} <= set(names):
        return ("red", "green", "blue")
    measured = tuple(name for name in names if name not in {"observations", "day"})
    return measured[:3] if len(measured) >= 3 else measured[:1] * 3


def _small(dataset: DatasetReader, bands: Sequence[int], how: Resampling) -> NDArray[Any]:
    """The whole raster at picture size, (bands, rows, cols), read from its overviews."""
    shrink = max(1.0, max(dataset.height, dataset.width) / _LONGEST)
    rows, cols = (max(1, round(side / shrink)) for side in dataset.shape)
    try:
        small: NDArray[Any] = dataset.read(
            list(bands), out_shape=(len(bands), rows, cols), resampling=how
        )
    except RasterioError as error:
        raise unreadable(dataset.name, error) from error
    return small


def _stretched(band: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    dark, bright = _ends(band, seen)
    light: NDArray[np.float64] = np.clip((band - dark) / (bright - dark), 0, 1)
    return light * 255 + 0.5


def _ends(band: NDArray[Any], seen: NDArray[np.bool_]) -> tuple[float, float]:
    """Values drawn as black and as full brightness, which differ."""
    if not seen.any():
        return 0.0, 1.0
    dark, bright = np.percentile(band[seen], _STRETCH)
    return float(dark), float(max(bright, dark + 1))


def _palette_png(codes: NDArray[np.uint8], colors: NDArray[np.uint8]) -> bytes:
    """PNG of codes (rows, cols) by a palette (256, 3); code 0 is transparent."""
    image = Image.fromarray(codes)
    image.putpalette(colors.tobytes())
    return png(image, transparency=0)


def png(image: Image.Image, **options: Any) -> bytes:
    """A picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, **options)
    return buffer.getvalue()


def _confidence_colors() -> NDArray[np.uint8]:
    stops = [value for value, _ in CONFIDENCE_RAMP]
    colors = np.array([list(bytes.fromhex(color[1:])) for _, color in CONFIDENCE_RAMP])
    ramp = [np.interp(np.arange(256), stops, colors[:, i]) for i in range(3)]
    table: NDArray[np.uint8] = np.rint(np.stack(ramp, axis=1)).astype(np.uint8)
    return table
