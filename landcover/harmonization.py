"""Sentinel-2 stored numbers to one scale: which scenes carry the -1000 offset."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landcover.bands import band_fact

OFFSET_BASELINE = 4.0
"""First processing baseline whose products add 1000 to every valid number."""
OFFSET_SINCE = datetime(2022, 1, 25, tzinfo=UTC)
"""Since when ESA makes them (Copernicus, Processing Baseline 04.00)."""
BOA_OFFSET = -1000
REFLECTANCE_SCALE = 1e-4
"""Reflectance of one unit in a composite."""
_TOO_DARK = 700
"""With the offset in place, a number below this would be a reflectance below -0.03."""
_TOO_DARK_SHARE = 0.005
_SENTINEL2 = re.compile(r"sentinel[- ]?2")
_BASELINE = re.compile(r"\d{1,2}\.\d{1,2}")
_BASELINES = ("sentinel:processing_baseline", "processing:version", "processing:baseline")
_PRODUCT_NAMES = ("s2:product_uri", "sentinel:product_id")
_PRODUCT_NAME = re.compile(r"S2._MSIL[12][AC]_\w+?_N(\d\d)(\d\d)_")
_OFFSET_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_DARKEST = (900, 1300)
"""With the offset in place, the darkest thousandth and hundredth of a scene (water, forest) lie
between these."""
_PILE = 150
"""They are no further apart than this where dark ground piles up near a reflectance of zero; the few
shadows of a desert trail off (measured: 30 to 90 over fields and forest, 330 at Abu Dhabi)."""


@dataclass(frozen=True)
class Harmonization:
    """What is added to the valid stored numbers of a scene, and why."""

    offset: int
    """Stored number + offset = reflectance x 10000."""
    reason: str


def harmonize(
    properties: Mapping[str, Any], red: NDArray[np.integer[Any]] | None = None
) -> Harmonization:
    """What is added to a scene's stored numbers: what its metadata say, checked against its data.

    properties: of the STAC item. red: any sample of the red band as stored, 0 = nodata; None where
    there is none to check with.
    """
    declared = declared_offset(properties)
    if red is None:
        return declared
    return checked_offset(declared, processing_baseline(properties), red)


def declared_offset(properties: Mapping[str, Any]) -> Harmonization:
    """What the scene's own metadata say: the offset belongs to the baseline, never to the date."""
    baseline = processing_baseline(properties)
    if baseline is None:
        return Harmonization(0, "no processing baseline given: numbers taken as they are")
    if baseline < OFFSET_BASELINE:
        return Harmonization(0, f"baseline {baseline:05.2f}: before 04.00, no offset")
    if any(properties.get(key) is True for key in _OFFSET_APPLIED):
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
    least, darkest = map(float, np.percentile(valid, [0.1, 1]))
    if declared.offset and too_dark > _TOO_DARK_SHARE:
        found = f"{too_dark:.1%} of red is below {_TOO_DARK}: already applied"
        return Harmonization(0, f"{declared.reason}; but {found}")
    piled = least >= _DARKEST[0] and darkest <= _DARKEST[1] and darkest - least <= _PILE
    if not declared.offset and piled:
        found = f"the darkest 1 % of red is at {darkest:.0f}: still there"
        return Harmonization(BOA_OFFSET, f"{declared.reason}; but {found}")
    return declared


def declared_scaling(
    properties: Mapping[str, Any], asset: Mapping[str, Any], number: int
) -> tuple[float, float] | None:
    """Factor and summand that bring a band's stored numbers to reflectance x 10000.

    From the band's scale and offset (raster extension); number is 1-based. None where nothing is
    declared or nothing changes. Sentinel-2 is left to the processing baseline: its providers'
    declarations are unreliable. Raises ValueError where what is declared are no numbers, or a scale
    of zero.
    """
    if is_sentinel2(properties) or not is_scaled(asset, number):
        return None
    scale, offset = (band_fact(asset, number, name) for name in ("scale", "offset"))
    rule = (_number(scale) / REFLECTANCE_SCALE, _number(offset or 0) / REFLECTANCE_SCALE)
    if rule[0] == 0:
        raise ValueError("a band's scale is 0")
    return None if rule == (1.0, 0.0) else rule


def is_scaled(asset: Mapping[str, Any], number: int) -> bool:
    """Whether an asset declares the scale of a band; number is 1-based.

    Scale 1 and offset 0 of whole numbers are what writers put by default, and declare nothing; of
    fractions they say that these are reflectance.
    """
    scale, offset, kind = (band_fact(asset, number, n) for n in ("scale", "offset", "data_type"))
    return scale is not None and (scale != 1 or bool(offset) or str(kind).startswith("float"))


def _number(value: Any) -> float:
    number = float(value) if isinstance(value, int | float | str) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"a band's scale or offset is {str(value)[:40]!r}, which is no number")
    return number


def is_sentinel2(properties: Mapping[str, Any]) -> bool:
    """Whether a STAC item says that it is of Sentinel-2."""
    names = (str(properties.get(key, "")).lower() for key in ("platform", "constellation"))
    by_name = any(_SENTINEL2.match(name) for name in names)
    return by_name or any(key.startswith("s2:") for key in properties)


def processing_baseline(properties: Mapping[str, Any]) -> float | None:
    """Processing baseline of a Sentinel-2 item as a number (4.0 for '04.00'), None where unsaid.

    From the property of one of the catalogues' vocabularies, else from ESA's name of the product
    (`..._N0510_...`).
    """
    texts = [properties.get("s2:processing_baseline")]
    if is_sentinel2(properties):
        texts += [properties.get(key) for key in _BASELINES]
    texts += [named_baseline(str(properties.get(key, ""))) for key in _PRODUCT_NAMES]
    return next((float(t) for text in texts if _BASELINE.fullmatch(t := str(text))), None)


def named_baseline(product: str) -> str | None:
    """Processing baseline as '05.10' by ESA's name of a Sentinel-2 product (`S2A_MSIL2A_..._N0510_...`)."""
    match = _PRODUCT_NAME.search(product)
    return f"{match[1]}.{match[2]}" if match else None
