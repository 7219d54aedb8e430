"""Names of spectral bands: STAC common names, and the asset keys that providers use instead."""

from collections.abc import Mapping
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
    "rededge1": "rededge071",
    "rededge2": "rededge075",
    "rededge3": "rededge078",
}
_NAMES = frozenset(SENTINEL2.values())
_ROLES_NOT_DATA = frozenset({"overview", "thumbnail", "metadata", "visual"})


def common_name(asset_key: str, asset: Mapping[str, Any]) -> str | None:
    """Common name of the single band an asset holds, or None where it holds none that we know.

    Looks at STAC 1.1 `bands`, then `eo:bands`, then the key. Where a provider gives several bands
    the same name (Sentinel-2 red edge), the key decides.
    """
    key = asset_key.lower()
    if _ROLES_NOT_DATA & set(asset.get("roles") or ()) or key.endswith("-jp2"):
        return None
    if key in _KEYS:
        return _KEYS[key] or None
    if key in _NAMES:
        return key
    bands = asset.get("bands") or asset.get("eo:bands") or []
    if len(bands) != 1:
        return None
    return _band_name(bands[0])


def band_assets(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """Where each band of an item is: {common name: (asset key, 1-based band number)}.

    An asset of several named bands (a multi-band GeoTIFF) gives each of them. The first asset that
    claims a name keeps it.
    """
    found: dict[str, tuple[str, int]] = {}
    for key, asset in assets.items():
        bands = asset.get("bands") or asset.get("eo:bands") or []
        if len(bands) > 1 and not _ROLES_NOT_DATA & set(asset.get("roles") or ()):
            for number, band in enumerate(bands, start=1):
                if name := _band_name(band):
                    found.setdefault(name, (key, number))
        elif name := common_name(key, asset):
            found.setdefault(name, (key, 1))
    return found


def _band_name(band: Mapping[str, Any]) -> str | None:
    name = band.get("eo:common_name") or band.get("common_name") or band.get("name")
    return str(name) if name else None
