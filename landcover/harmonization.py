"""Sentinel-2 stored numbers to one scale: which scenes carry the -1000 offset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSET_BASELINE = 4.0
"""First processing baseline whose products add 1000 to every valid number (ESA, January 2022)."""
BOA_OFFSET = -1000
_DARK_SHARE = 0.005
"""With the offset in place hardly any land or water pixel of the red band is below 1000."""


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
    dark = float(np.mean(valid < -BOA_OFFSET))
    if declared.offset and dark > _DARK_SHARE:
        return Harmonization(
            0, f"{declared.reason}; but {dark:.1%} of red is below 1000: already applied"
        )
    if not declared.offset and dark <= _DARK_SHARE / 10 and np.percentile(valid, 1) < 2000:
        return Harmonization(
            BOA_OFFSET, f"{declared.reason}; but {dark:.1%} of red is below 1000: still there"
        )
    return declared


def processing_baseline(properties: Mapping[str, Any]) -> float | None:
    """Processing baseline of a Sentinel-2 item as a number (4.0 for '04.00'), None where unsaid."""
    text = properties.get("s2:processing_baseline") or properties.get("processing:version")
    try:
        return float(str(text)) if text is not None else None
    except ValueError:
        return None
