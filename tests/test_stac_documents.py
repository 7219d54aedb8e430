"""Every provider document in the shared data becomes usable scenes, or is refused with its reason."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from landcover.errors import CatalogError
from landcover.harmonization import harmonize
from pipeline.items import checked_item, remote_place
from pipeline.scenes import Scene, read_scene

RGB = {"red", "green", "blue"}
MASKED = {
    "sentinel-2-l2a", "landsat-c2-l2", "landsat-c2-l2-tm", "hls-l30", "ga-landsat-ard",
}  # fmt: skip
ADDRESS = "https://catalog.example.com/items/item.json"
"""Where items are taken to be found that do not say it: their hrefs may be relative."""

RECORDINGS = "api_recordings_pystac_client"
USABLE = {
    (RECORDINGS, "landsat-c2-l2"): 261,
    (RECORDINGS, "naip"): 115,
    (RECORDINGS, "sentinel-2-l2a"): 80,
    (RECORDINGS, "plain"): 10,  # Maxar's multispectral images
    (RECORDINGS, "sentinel-2-l1c"): 5,
    ("earth_search", "sentinel-2-l2a"): 1,
    ("handmade_edge_cases", "plain"): 12,
    ("handmade_edge_cases", "photo"): 1,
    ("handmade_edge_cases", "sentinel-2-l2a"): 1,
    ("openaerialmap_maxar", "plain"): 1,
    ("other_providers", "hls-l30"): 10,
    ("other_providers", "ga-landsat-ard"): 1,
    ("other_providers", "plain"): 1,
    ("planetary_computer", "sentinel-2-l2a"): 24,
    ("stactools_sentinel2_expected_items", "sentinel-2-l2a"): 4,
    ("stactools_sentinel2_expected_items", "sentinel-2-l1c"): 1,
    ("usgs_landsatlook", "landsat-c2-l2"): 2,
    ("usgs_landsatlook", "landsat-c2-l2-tm"): 1,
}
REFUSED = {
    (RECORDINGS, "holds no reflectance"): 3,  # Sentinel-1
    (RECORDINGS, "ASTER Level-1T"): 1,
    (RECORDINGS, "lacks"): 10,  # answers to a search for few fields only
    (
        "handmade_edge_cases",
        "names its bands",
    ): 2,  # GRIB; netCDF beside a GeoTIFF without band names
    ("openaerialmap_maxar", "lacks"): 10,  # records of OpenAerialMap's own API, which is not STAC
    ("other_providers", "names its bands"): 2,  # an elevation model; an image without band names
}
NO_ITEMS = {RECORDINGS: 41, "openaerialmap_maxar": 2, "planetary_computer": 5}
"""Documents without any item: landing pages, collections, queryables, errors, an event list."""


def answers(path: Path) -> Iterator[Any]:
    """The documents of a file: itself, or the JSON bodies of a recording."""
    if path.suffix != ".yaml":
        yield json.loads(path.read_text())
        return
    for exchange in yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["interactions"]:
        body = exchange["response"]["body"]["string"]
        raw = body.encode() if isinstance(body, str) else body
        yield json.loads(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)


def features(value: Any) -> Iterator[dict[str, Any]]:
    """Items anywhere in a document, and the records of a list that is not STAC."""
    if isinstance(value, dict):
        if value.get("type") == "Feature" or "meta_uri" in value:
            yield value
        else:
            for part in value.values():
                yield from features(part)
    elif isinstance(value, list):
        for part in value:
            yield from features(part)


def documents(root: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Folder and items of every document."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            for answer in answers(path):
                yield path.parent.name, list(features(answer))


@pytest.fixture(scope="module")
def everything(shared_data: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """All documents, read once."""
    return list(documents(shared_data / "stac_documents"))


@pytest.fixture(scope="module")
def scenes(everything: list[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, Scene | str]]:
    """Folder and scene of every item, or why it is refused."""
    return [(folder, scene_of(item)) for folder, items in everything for item in items]


def scene_of(item: dict[str, Any]) -> Scene | str:
    """An item as a search would read it: checked as a stranger's, then made a scene."""
    try:
        return read_scene(checked_item(item, ADDRESS, 1, remote_place))
    except CatalogError as error:
        return str(error)


def test_every_item_is_usable_or_refused_with_its_reason(
    scenes: list[tuple[str, Scene | str]],
) -> None:
    """The counts of both, by folder: what is read today stays read."""
    usable = Counter((f, s.product.name) for f, s in scenes if isinstance(s, Scene))
    refused = Counter(
        (folder, next(reason for _, reason in REFUSED if reason in scene))
        for folder, scene in scenes
        if isinstance(scene, str)
    )
    assert usable == USABLE
    assert refused == REFUSED


def test_documents_without_items_are_known(
    everything: list[tuple[str, list[dict[str, Any]]]],
) -> None:
    """No document is passed over unnoticed."""
    assert Counter(folder for folder, items in everything if not items) == NO_ITEMS


def test_refusals_are_one_sentence(scenes: list[tuple[str, Scene | str]]) -> None:
    """A reason is short, printable, and says which scene."""
    for _, scene in scenes:
        if isinstance(scene, str):
            assert scene.endswith(".")
            assert scene.isprintable()
            assert len(scene) < 300
            assert "scene" in scene.lower()


def test_usable_scenes_can_be_opened(scenes: list[tuple[str, Scene | str]]) -> None:
    """Every source is an absolute address of an image; known products have their mask and numbers."""
    for _, scene in scenes:
        if isinstance(scene, str):
            continue
        for source in [*scene.bands.values(), *([scene.mask] if scene.mask else [])]:
            assert source.href.startswith(("https://", "http://", "s3://"))
            assert source.href.lower().endswith((".tif", ".jp2"))
            assert source.band >= 1
            assert "landsatlook.usgs.gov" not in source.href  # needs a person's login
        assert scene.bands
        if len(scene.bands) > 1:
            assert (scene.mask is not None) == (scene.product.name in MASKED)
        assert scene.moment is not None
        assert scene.footprint is not None
        assert scene.footprint.bounds[0] >= -180
        assert scene.footprint.bounds[2] <= 180


def test_known_products_have_the_colours(scenes: list[tuple[str, Scene | str]]) -> None:
    """Of each known product every scene offers red, green, blue and near infrared."""
    known = [
        s for _, s in scenes if isinstance(s, Scene) and s.product.name not in {"plain", "photo"}
    ]
    whole = [scene for scene in known if len(scene.bands) > 1]
    assert len(known) - len(whole) == 1  # a Charter item that holds a single band
    for scene in whole:
        assert scene.bands.keys() >= RGB | {"nir"}, scene.id


def test_landsat_numbers_become_reflectance(scenes: list[tuple[str, Scene | str]]) -> None:
    """Declared or not, Landsat Collection 2 is scaled alike: 0.0000275 x - 0.2."""
    landsat = [
        s for _, s in scenes if isinstance(s, Scene) and s.product.name.startswith("landsat")
    ]
    rules = {
        (b.nodata, round(b.factor, 9), round(b.summand, 6))
        for s in landsat
        for b in s.bands.values()
    }
    assert rules == {(0, 0.275, -2000.0)}


def test_the_offset_is_decided_for_every_sentinel2_scene(
    scenes: list[tuple[str, Scene | str]],
) -> None:
    """By baseline and provider's flag; all but one handmade item say their baseline."""
    decided = Counter(
        harmonize(s.properties).offset
        for _, s in scenes
        if isinstance(s, Scene) and s.product.baseline_offset
    )
    silent = [
        s.id
        for _, s in scenes
        if isinstance(s, Scene)
        and s.product.baseline_offset
        and "no processing baseline" in harmonize(s.properties).reason
    ]
    assert decided == {0: 102, -1000: 14}
    assert silent == ["S2A_MSIL2A_20230928T042551_N0509_R133_T54XVM_20230928T053752-calibrated"]
