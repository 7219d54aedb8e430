"""Which product a STAC item is of, by the signs in `products.yml`."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from landcover.bands import band_assets, band_fact, band_list, bare_key
from landcover.errors import CatalogError
from landcover.harmonization import is_scaled
from landcover.products import PHOTO, PLAIN, MaskRule, Product
from pipeline.providers import product_families


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Sign(_Data):
    """What an item of a product looks like; all that is given must hold."""

    collection: bool = False
    """Whether its collection must be one that a provider assigns to the product."""
    id: str = ".*"
    properties: dict[str, str] = {}
    assets: tuple[str, ...] = ()
    """One of these keys (or names of bands) must be there; empty asks for none."""


class _Mask(_Data):
    band: str
    codes: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()
    grow: float


class _Entry(_Data):
    name: str
    family: str | None = None
    """Product that providers' collections name, where it has variants."""
    kind: Literal["reflectance", "photo"]
    resolution: float | None = None
    scale: float | None = None
    offset: float = 0.0
    baseline_offset: bool = False
    nodata: int | None = None
    bands: dict[str, str] = {}
    mask: _Mask | None = None
    signs: tuple[_Sign, ...]

    def product(self) -> Product:
        facts = {key: getattr(self, key) for key in _FACTS}
        return Product(**facts, mask=MaskRule(**dict(self.mask)) if self.mask else None)


_FACTS = (
    "name", "bands", "kind", "resolution", "scale", "offset", "baseline_offset", "nodata",
)  # fmt: skip


class _Unfit(_Data):
    reason: str
    signs: tuple[_Sign, ...]


class _Known(_Data):
    """The file as a whole."""

    products: tuple[_Entry, ...]
    unfit: tuple[_Unfit, ...]


@cache
def _known() -> _Known:
    text = (files("pipeline") / "products.yml").read_text("utf-8")
    return _Known.model_validate(yaml.safe_load(text))


@cache
def products() -> Mapping[str, Product]:
    """The products that are known, by name."""
    return {entry.name: entry.product() for entry in _known().products} | {
        product.name: product for product in (PHOTO, PLAIN)
    }


def product_of(item: Mapping[str, Any], assets: Mapping[str, Mapping[str, Any]]) -> Product:
    """The product an item is of; PHOTO for 8-bit numbers, PLAIN where nothing is known.

    assets: those of the item that can be read. Raises CatalogError where it is of a product that
    cannot become land cover, such as radar.
    """
    keys = _keys(assets)
    for kind in _known().unfit:
        if any(_holds(sign, item, keys, "") for sign in kind.signs):
            raise CatalogError(f"Scene {item['id']} cannot be used: {kind.reason}.")
    if _is_8_bit(assets):
        return PHOTO
    for entry in _known().products:
        if any(_holds(sign, item, keys, entry.family or entry.name) for sign in entry.signs):
            return products()[entry.name]
    return PLAIN


def _keys(assets: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """What assets and their bands are called, in lower case."""
    names = {
        str(band.get("name")).lower() for asset in assets.values() for band in band_list(asset)
    }
    return names | {bare_key(key) for key in assets}


def _holds(sign: _Sign, item: Mapping[str, Any], keys: set[str], family: str) -> bool:
    properties = item.get("properties") or {}
    return (
        (not sign.assets or not keys.isdisjoint(sign.assets))
        and bool(re.fullmatch(sign.id, str(item["id"])))
        and all(_says(properties.get(key), what) for key, what in sign.properties.items())
        and (not sign.collection or product_families().get(str(item.get("collection"))) == family)
    )


def _says(value: Any, pattern: str) -> bool:
    return value is not None and bool(re.fullmatch(pattern, str(value), re.IGNORECASE))


def _is_8_bit(assets: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all bands are of 8 bits, and of no scale: a picture."""
    places = [place for name, place in band_assets(assets).items() if name not in _QUALITY]
    kinds = {band_fact(assets[key], number, "data_type") for key, number in places}
    return kinds == {"uint8"} and not any(is_scaled(assets[key], n) for key, n in places)


_QUALITY = {"scl", "fmask", "qa_pixel", "alpha"}
