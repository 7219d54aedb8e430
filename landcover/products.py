"""Products: what the stored numbers of a kind of scene mean, and which of them hide the ground."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landcover.harmonization import REFLECTANCE_SCALE


@dataclass(frozen=True)
class MaskRule:
    """How a quality band says that the ground is not seen."""

    band: str
    """Our name of the quality band: `scl`, `qa_pixel` or `fmask`."""
    codes: tuple[int, ...] = ()
    """Stored values that hide the ground, where the band holds one class a pixel."""
    bits: tuple[int, ...] = ()
    """Bits (0 = least significant) of which any set one hides the ground, where it holds flags."""
    grow: float = 0.0
    """Metres by which unclear areas grow."""

    def unclear(self) -> NDArray[np.bool_]:
        """Whether each stored value hides the ground: (65536,), the index is the value."""
        return _unclear(self.codes, self.bits)


@lru_cache
def _unclear(codes: tuple[int, ...], bits: tuple[int, ...]) -> NDArray[np.bool_]:
    values = np.arange(1 << 16)
    flags = sum(1 << bit for bit in bits)
    hidden: NDArray[np.bool_] = np.isin(values, codes) | ((values & flags) != 0)
    hidden.setflags(write=False)
    return hidden


@dataclass(frozen=True)
class Product:
    """A kind of scene: its bands, its numbers and its mask."""

    name: str
    bands: Mapping[str, str]
    """Asset key or band identifier in lower case -> common name; "" where it is never data."""
    kind: Literal["reflectance", "photo"]
    """`reflectance` is brought to reflectance x 10000, and a pixel is invalid where any wanted band
    is nodata. `photo` is taken as it is: 0 is a colour, and a pixel is nodata only where all bands
    equal the nodata tag."""
    resolution: float | None
    """Pixel size in metres of the finest bands; None where it differs from file to file."""
    scale: float | None
    """Reflectance = stored number x scale + offset, where the item says nothing; None means that
    the stored number is reflectance x 10000 already."""
    offset: float
    baseline_offset: bool
    """Whether Sentinel-2's offset by processing baseline applies; then scale and offset do not."""
    nodata: int | None
    """Stored number of no data, where neither item nor file says it; None if there is none."""
    mask: MaskRule | None
    """None where there is no quality band."""

    def scaling(self) -> tuple[float, float]:
        """Factor and summand from stored number to reflectance x 10000."""
        if self.scale is None:
            return 1.0, 0.0
        return self.scale / REFLECTANCE_SCALE, self.offset / REFLECTANCE_SCALE


PLAIN = Product(
    name="plain", bands={}, kind="reflectance", resolution=None, scale=None, offset=0.0,
    baseline_offset=False, nodata=0, mask=None,
)  # fmt: skip
"""Whole numbers of reflectance x 10000 with 0 as nodata: what an image is taken for that says no more."""

PHOTO = Product(
    name="photo", bands={}, kind="photo", resolution=None, scale=None, offset=0.0,
    baseline_offset=False, nodata=None, mask=None,
)  # fmt: skip
"""A picture of 8-bit numbers, as drones and aeroplanes bring home."""
