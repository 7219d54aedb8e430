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

_KEYS = {key.lower(): name for key, name in SENTINEL2.items()} | {
    "visual": "",  # a rendering, not a measurement
    "tci": "",
    "rededge1": "rededge071",
    "rededge2": "rededge075",
    "rededge3": "rededge078",
}
_NAMES = frozenset(SENTINEL2.values())
_ENDINGS = re.compile(r"(?:_([126]0)m)?(?:\.tiff?)?\Z", re.IGNORECASE)
_ROLES_NOT_DATA = frozenset({"overview", "thumbnail", "metadata", "visual"})
_LONGEST_NAME = 64

Table = Mapping[str, str]
"""Asset key or band identifier in lower case -> common name; "" where it is never data."""


def common_name(asset_key: str, asset: Mapping[str, Any], table: Table = _KEYS) -> str | None:
    """Common name of the single band an asset holds, or None where it holds none that we know.

    Looks at the key, which may end in a resolution (`B02_10m`) or as a file (`SR_B4.TIF`), then at
    STAC 1.1 `bands`, then at `eo:bands`. Where a provider gives several bands the same name
    (Sentinel-2 red edge), the key decides. table: what keys and band identifiers mean.
    """
    if not _holds_data(asset_key, asset, table):
        return None
    key = bare_key(asset_key)
    if key in table or key in _NAMES:
        return table.get(key, key)
    bands = band_list(asset)
    return _band_name(bands[0], table) if len(bands) == 1 else None


def band_assets(
    assets: Mapping[str, Mapping[str, Any]], table: Table | None = None
) -> dict[str, tuple[str, int]]:
    """Where each band of an item is: {common name: (asset key, 1-based band number)}.

    table: what a product's keys and band identifiers mean; it goes before Sentinel-2's, which is
    what they mean otherwise. An asset of several named bands (a multi-band GeoTIFF) gives each of
    them. The first asset that claims a name keeps it; keys without a resolution (the native one) go
    before `_10m`, `_20m`, `_60m`.
    """
    meanings = _KEYS | dict(table or {})
    found: dict[str, tuple[str, int]] = {}
    for key in sorted(assets, key=_resolution):
        for number, name in enumerate(_band_names(key, assets[key], meanings), start=1):
            if name:
                found.setdefault(name, (key, number))
    return found


def rendered_bands(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """Where the colours of a picture made for the eye (`visual`) are, where an item offers one.

    As `band_assets`; only a picture that names its bands red, green and blue counts.
    """
    for key in sorted(assets, key=_resolution):
        names = [_band_name(band, {}) for band in band_list(assets[key])]
        if {"red", "green", "blue"} <= set(names):
            return {name: (key, number) for number, name in enumerate(names, start=1) if name}
    return {}


def band_list(asset: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What an asset says of its bands' names: STAC 1.1 `bands`, else `eo:bands`; may be empty."""
    for key in ("bands", "eo:bands"):
        bands = asset.get(key)
        if isinstance(bands, list) and bands and all(isinstance(b, Mapping) for b in bands):
            return bands
    return ()


def band_fact(asset: Mapping[str, Any], number: int, name: str) -> Any:
    """A fact of a band of the raster extension (`scale`, `nodata` ...), None where it is not given.

    number: 1-based. Looks at the band in `raster:bands` and STAC 1.1 `bands`, then at the asset,
    from which STAC 1.1 bands inherit; with the prefix `raster:` and without.
    """
    lists = (asset.get("raster:bands"), asset.get("bands"))
    bands = [b[number - 1] for b in lists if isinstance(b, list) and len(b) >= number]
    for place in [*bands, asset]:
        for key in (f"raster:{name}", name):
            if isinstance(place, Mapping) and place.get(key) is not None:
                return place[key]
    return None


def bare_key(asset_key: str) -> str:
    """An asset's key in lower case, without a resolution or file ending: `b02` of `B02_10m`."""
    return _ENDINGS.sub("", asset_key, count=1).lower()


def _band_names(asset_key: str, asset: Mapping[str, Any], table: Table) -> list[str | None]:
    bands = band_list(asset)
    if len(bands) > 1 and _holds_data(asset_key, asset, table):
        return [_band_name(band, table) for band in bands]
    return [common_name(asset_key, asset, table)]


def _holds_data(asset_key: str, asset: Mapping[str, Any], table: Table) -> bool:
    """Whether an asset is a measurement that we read: no rendering, no second copy."""
    key = bare_key(asset_key)
    roles = {str(role) for role in asset.get("roles") or ()}
    rendering = bool(_ROLES_NOT_DATA & roles) and "reflectance" not in roles
    return not (rendering or key.endswith("-jp2") or table.get(key) == "")


def _resolution(asset_key: str) -> int:
    """Metres that an asset's key ends in, 0 where it says none."""
    match = _ENDINGS.search(asset_key)
    return int(match[1]) if match and match[1] else 0


def _band_name(band: Mapping[str, Any], table: Table) -> str | None:
    """The common name, unless that is one for three bands; else what the band's own name means."""
    common = band.get("eo:common_name") or band.get("common_name")
    own = str(band.get("name") or "")
    if common and common != "rededge":
        return _usable(common)
    return _usable(table.get(own.lower(), common or own))


def _usable(name: Any) -> str | None:
    """A name that is safe to show and compare; strangers write them."""
    text = str(name)
    return text if 0 < len(text) <= _LONGEST_NAME and text.isprintable() else None
