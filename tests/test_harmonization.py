"""The -1000 offset: decided by baseline, checked against the data."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from landcover.harmonization import (
    checked_offset,
    declared_offset,
    declared_scaling,
    harmonize,
    processing_baseline,
)

DARK = np.linspace(150, 3000, 10_000).astype(np.uint16)
"""Red of a real landscape without the offset: water and forest below 1000."""


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"s2:processing_baseline": "03.01"}, 0),
        ({"s2:processing_baseline": "04.00"}, -1000),
        ({"s2:processing_baseline": "05.11"}, -1000),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, 0),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False}, -1000),
        ({"s2:processing_baseline": "2.12", "datetime": "2023-01-01T00:00:00Z"}, 0),
        ({}, 0),
        ({"s2:processing_baseline": "unknown"}, 0),
        ({"platform": "sentinel-2b", "sentinel:processing_baseline": "05.11"}, -1000),
        (
            {
                "platform": "sentinel-2b",
                "sentinel:processing_baseline": "05.11",
                "sentinel:boa_offset_applied": True,
            },
            0,
        ),
        (
            {"s2:product_uri": "S2A_MSIL2A_20240101T100001_N0510_R122_T33UUP_20240101T120000.SAFE"},
            -1000,
        ),
        (
            {"sentinel:product_id": "S2A_MSIL2A_20200714T115221_N0214_R123_T28QCH_20200714T191310"},
            0,
        ),
    ],
)
def test_declared(properties: dict[str, object], offset: int) -> None:
    """The baseline decides, not the date; the provider's flag is believed at first."""
    assert declared_offset(properties).offset == offset


@pytest.mark.parametrize(
    ("flag", "numbers", "offset"),
    [
        (False, DARK + 1000, -1000),
        (False, DARK, 0),
        (True, DARK, 0),
        (True, DARK + 1000, -1000),
    ],
)
def test_the_data_overrule_the_flag(flag: bool, numbers: np.ndarray, offset: int) -> None:
    """Whatever the flag says, the same ground gets the same reflectance."""
    properties = {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": flag}
    declared = declared_offset(properties)
    assert checked_offset(declared, processing_baseline(properties), numbers).offset == offset


def test_a_calm_sea_keeps_its_offset() -> None:
    """Water at reflectance 0.003 with noise around it is below 1000 at times, and rightly so."""
    rng = np.random.default_rng(0)
    sea = rng.normal(1030, 30, 3000).astype(np.uint16)
    scene = np.concatenate([sea, rng.normal(1600, 200, 7000).astype(np.uint16)])
    declared = declared_offset({"s2:processing_baseline": "05.10"})
    assert checked_offset(declared, 5.10, scene).offset == -1000


def test_a_bright_desert_is_not_offset_twice() -> None:
    """Where the offset was taken away, red sand at 0.22 is no sign of it."""
    sand = np.random.default_rng(0).normal(2200, 200, 10_000).astype(np.uint16)
    properties = {"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}
    assert checked_offset(declared_offset(properties), 5.10, sand).offset == 0


def test_other_sensors_have_no_baseline() -> None:
    """`processing:version` means a Sentinel-2 baseline only for Sentinel-2."""
    assert processing_baseline({"processing:version": "5.1", "platform": "landsat-8"}) is None
    assert processing_baseline({"processing:version": "05.10", "platform": "sentinel-2a"}) == 5.10


@pytest.mark.parametrize(
    ("band", "rule"),
    [
        ({"scale": 0.0000275, "offset": -0.2}, (0.275, -2000.0)),
        ({"raster:scale": 0.0001, "raster:offset": 0}, None),
        ({"scale": 1, "offset": 0}, None),
        ({"scale": 1, "offset": 0, "data_type": "uint16"}, None),
        ({"scale": 1, "data_type": "float32"}, (10_000.0, 0.0)),
        ({"data_type": "float32"}, None),
        ({}, None),
    ],
)
def test_declared_scaling(band: dict[str, float | str], rule: tuple[float, float] | None) -> None:
    """Scale and offset of a band lead to reflectance x 10000; Sentinel-2's are not believed."""
    asset = {"raster:bands": [band]}
    assert declared_scaling({}, asset, 1) == (None if rule is None else pytest.approx(rule))
    assert declared_scaling({"platform": "sentinel-2b"}, asset, 1) is None


def test_early_baselines_are_not_in_doubt() -> None:
    """A bright scene (snow) of an early baseline is not mistaken for one with the offset."""
    properties = {"s2:processing_baseline": "02.09"}
    declared = declared_offset(properties)
    assert checked_offset(declared, 2.09, DARK + 1000).offset == 0


def test_harmonize_is_declared_then_checked() -> None:
    """Without a sample the metadata decide; with one the data may overrule them."""
    properties = {"s2:processing_baseline": "05.09"}
    assert harmonize(properties).offset == -1000
    assert harmonize(properties, DARK + 1000).offset == -1000
    assert harmonize(properties, DARK).offset == 0


@pytest.mark.parametrize(
    ("band", "reason"),
    [
        ({"scale": "much", "offset": 0}, "could not convert"),
        ({"scale": 1e-4, "offset": [1]}, "no number"),
        ({"scale": float("inf")}, "no number"),
        ({"scale": 0, "offset": 1}, "scale is 0"),
    ],
)
def test_a_scaling_that_is_none_is_refused(band: dict[str, object], reason: str) -> None:
    """What a stranger declares must be numbers that leave a reflectance."""
    with pytest.raises(ValueError, match=reason):
        declared_scaling({}, {"raster:bands": [band]}, 1)


def _red(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(band))


def test_real_ground_without_the_offset_is_never_offset(shared_data: Path) -> None:
    """Seven cities, desert among them: where the offset was rightly taken away it is not taken twice."""
    properties = {"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}
    paths = sorted((shared_data / "sentinel2_pairs_oscd" / "images").glob("*/imgs_*/*B04*.tif"))
    assert len(paths) == 14
    for path in paths:
        assert harmonize(properties, _red(path)).offset == 0, path


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("added", [0, 1000])
@pytest.mark.parametrize("band", [1, 5])
def test_real_surface_reflectance_overrules_the_flag(
    shared_data: Path, band: int, added: int, flag: bool
) -> None:
    """Level-2A of two seasons, with and without the offset: found in the data, whatever is declared."""
    red = _red(shared_data / "sentinel2_two_season_austria" / "inference-img.tif", band)
    properties = {"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": flag}
    assert harmonize(properties, np.where(red > 0, red + added, 0)).offset == -added


def test_medians_over_unchanged_ground_agree_across_baselines(shared_data: Path) -> None:
    """The same real ground as four catalogues would store it has one median, whatever the date."""
    red = _red(shared_data / "sentinel2_two_season_austria" / "inference-img.tif").astype(int)
    stored: list[tuple[dict[str, object], np.ndarray]] = [
        ({"s2:processing_baseline": "02.14", "datetime": "2024-06-01T10:00:00Z"}, red),
        ({"s2:processing_baseline": "04.00", "datetime": "2019-06-01T10:00:00Z"}, red + 1000),
        ({"s2:processing_baseline": "05.11", "earthsearch:boa_offset_applied": True}, red),
        ({"s2:processing_baseline": "05.11", "earthsearch:boa_offset_applied": False}, red),
    ]
    medians = {np.median(numbers + harmonize(said, numbers).offset) for said, numbers in stored}
    assert medians == {np.median(red)}


def test_real_items_are_decided(shared_data: Path) -> None:
    """Real Planetary Computer items carry a baseline that is understood."""
    folder = shared_data / "stac_documents" / "planetary_computer"
    documents = [json.loads(path.read_text()) for path in sorted(folder.rglob("*json"))]
    items = [item for document in documents for item in document.get("features", [document])]
    scenes = [item for item in items if item.get("collection") == "sentinel-2-l2a"]
    baselines = [processing_baseline(item["properties"]) for item in scenes]
    assert len(baselines) >= 20
    assert None not in baselines
