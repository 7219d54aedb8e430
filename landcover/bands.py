"""Names of spectral bands: STAC common names, and the asset keys that providers use instead."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "scl"
"""Our name for the Sentinel-2 scene classification band."""

SENTINEL2 = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge071",
    "B06": "rededge075",
    "B07": "rededge078",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
    "SCL": MASK,
}
"""Sentinel-2 band identifiers (file name endings, asset keys) and their STAC common names."""

SCL_UNCLEAR = (0, 1, 3, 8, 9, 10)
"""SCL codes of no clear view: nodata, saturated, shadow, cloud (medium, high), thin cirrus."""

_KEYS = {key.lower(): name for key, name in SENTINEL2.items()} | {
    "visual": "",  # a rendering, not a measurement
    "tci": "",
    "rededge1": "rededge071",
    "rededge2": "rededge075",
    "rededge3": "rededge078",
}
_NAMES = frozenset(SENTINEL2.values())
_RESOLUTION = re.compile(r"_([126]0)m\Z", re.IGNORECASE)
_ROLES_NOT_DATA = frozenset({"overview", "thumbnail", "metadata", "visual"})


def common_name(asset_key: str, asset: Mapping[str, Any]) -> str | None:
    """Common name of the single band an asset holds, or None where it holds none that we know.

    Looks at the key, which may end in a resolution (`B02_10m`), then at STAC 1.1 `bands`, then at
    `eo:bands`. Where a provider gives several bands the same name (Sentinel-2 red edge), the key
    decides.
    """
    if not _holds_data(asset_key, asset):
        return None
    key = _bare(asset_key)
    if key in _KEYS or key in _NAMES:
        return _KEYS.get(key, key)
    bands = _bands(asset)
    return _band_name(bands[0]) if len(bands) == 1 else None


def band_assets(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """Where each band of an item is: {common name: (asset key, 1-based band number)}.

    An asset of several named bands (a multi-band GeoTIFF) gives each of them. The first asset that
    claims a name keeps it; keys without a resolution (the native one) go before `_10m`, `_20m`, `_60m`.
    """
    found: dict[str, tuple[str, int]] = {}
    for key in sorted(assets, key=_resolution):
        for number, name in enumerate(_band_names(key, assets[key]), start=1):
            if name:
                found.setdefault(name, (key, number))
    return found


def _band_names(asset_key: str, asset: Mapping[str, Any]) -> list[str | None]:
    bands = _bands(asset)
    if len(bands) > 1 and _holds_data(asset_key, asset):
        return [_band_name(band) for band in bands]
    return [common_name(asset_key, asset)]


def _bands(asset: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return asset.get("bands") or asset.get("eo:bands") or ()


def _holds_data(asset_key: str, asset: Mapping[str, Any]) -> bool:
    """Whether an asset is a measurement that we read: no rendering, no second copy."""
    key = _bare(asset_key)
    roles = set(asset.get("roles") or ())
    return not (_ROLES_NOT_DATA & roles or key.endswith("-jp2") or _KEYS.get(key) == "")


def _bare(asset_key: str) -> str:
    return _RESOLUTION.sub("", asset_key).lower()


def _resolution(asset_key: str) -> int:
    """Metres that an asset's key ends in, 0 where it says none."""
    match = _RESOLUTION.search(asset_key)
    return int(match[1]) if match else 0


def _band_name(band: Mapping[str, Any]) -> str | None:
    """The common name, unless that is one for three bands; else what the band's own name means."""
    common = band.get("eo:common_name") or band.get("common_name")
    own = str(band.get("name") or "")
    if common and common != "rededge":
        return str(common)
    return _KEYS.get(own.lower()) or common or own or None
