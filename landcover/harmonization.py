"""Sentinel-2 stored numbers to one scale: which scenes carry the -1000 offset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSET_BASELINE = 4.0
"""First processing baseline whose products add 1000 to every valid number (ESA, January 2022)."""
BOA_OFFSET = -1000
REFLECTANCE_SCALE = 1e-4
"""Reflectance of one unit in a composite."""
_TOO_DARK = 700
"""With the offset in place, a number below this would be a reflectance below -0.03."""
_TOO_DARK_SHARE = 0.005
_DARKEST = (900, 1300)
"""With the offset in place, the darkest hundredth of a scene (water, forest) lies about here."""


@dataclass(frozen=True)
class Harmonization:
    """What is added to the valid stored numbers of a scene, and why."""

    offset: int
    """Stored number + offset = reflectance x 10000."""
    reason: str


def declared_offset(properties: Mapping[str, Any]) -> Harmonization:
    """What the scene's own metadata say: the offset belongs to the baseline, never to the date."""
    baseline = processing_baseline(properties)
    if baseline is None:
        return Harmonization(0, "no processing baseline given: numbers taken as they are")
    if baseline < OFFSET_BASELINE:
        return Harmonization(0, f"baseline {baseline:05.2f}: before 04.00, no offset")
    if properties.get("earthsearch:boa_offset_applied") is True:
        return Harmonization(0, f"baseline {baseline:05.2f}: provider says the offset is applied")
    return Harmonization(BOA_OFFSET, f"baseline {baseline:05.2f}: 04.00 or later, offset -1000")


def checked_offset(
    declared: Harmonization, baseline: float | None, red: NDArray[np.integer[Any]]
) -> Harmonization:
    """The declared offset, corrected where the data contradict it.

    red: any sample of the red band, 0 = nodata. Only scenes of baseline 04.00 or later are in
    doubt: providers declare wrongly whether they took the offset away.
    """
    valid = red[red > 0]
    if baseline is None or baseline < OFFSET_BASELINE or valid.size < 100:
        return declared
    too_dark = float(np.mean(valid < _TOO_DARK))
    darkest = float(np.percentile(valid, 1))
    if declared.offset and too_dark > _TOO_DARK_SHARE:
        found = f"{too_dark:.1%} of red is below {_TOO_DARK}: already applied"
        return Harmonization(0, f"{declared.reason}; but {found}")
    if not declared.offset and too_dark == 0 and _DARKEST[0] <= darkest <= _DARKEST[1]:
        found = f"the darkest 1 % of red is at {darkest:.0f}: still there"
        return Harmonization(BOA_OFFSET, f"{declared.reason}; but {found}")
    return declared


def declared_scaling(
    properties: Mapping[str, Any], asset: Mapping[str, Any], number: int
) -> tuple[float, float] | None:
    """Factor and summand that bring a band's stored numbers to reflectance x 10000.

    From the band's `raster:scale` and `raster:offset` (STAC 1.1 `bands` or `raster:bands`); number
    is 1-based. None where nothing is declared or nothing changes. Sentinel-2 is left to the
    processing baseline: its providers' declarations are unreliable.
    """
    bands = asset.get("raster:bands") or asset.get("bands") or []
    if is_sentinel2(properties) or len(bands) < number:
        return None
    band = bands[number - 1]
    scale = band.get("raster:scale", band.get("scale"))
    offset = band.get("raster:offset", band.get("offset"))
    if scale is None or (scale == 1 and not offset):
        return None
    rule = (float(scale) / REFLECTANCE_SCALE, float(offset or 0) / REFLECTANCE_SCALE)
    return None if rule == (1.0, 0.0) else rule


def is_sentinel2(properties: Mapping[str, Any]) -> bool:
    """Whether a STAC item says that it is of Sentinel-2."""
    names = (str(properties.get(key, "")).lower() for key in ("platform", "constellation"))
    by_name = any(name.startswith("sentinel-2") for name in names)
    return by_name or any(key.startswith("s2:") for key in properties)


def processing_baseline(properties: Mapping[str, Any]) -> float | None:
    """Processing baseline of a Sentinel-2 item as a number (4.0 for '04.00'), None where unsaid."""
    text = properties.get("s2:processing_baseline")
    if text is None and is_sentinel2(properties):
        text = properties.get("processing:version")
    try:
        return float(str(text)) if text is not None else None
    except ValueError:
        return None
