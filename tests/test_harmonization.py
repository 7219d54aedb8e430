"""The -1000 offset: decided by baseline, checked against the data."""

import json
from pathlib import Path

import numpy as np
import pytest

from landcover.harmonization import checked_offset, declared_offset, processing_baseline

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


def test_early_baselines_are_not_in_doubt() -> None:
    """A bright scene (snow) of an early baseline is not mistaken for one with the offset."""
    properties = {"s2:processing_baseline": "02.09"}
    declared = declared_offset(properties)
    assert checked_offset(declared, 2.09, DARK + 1000).offset == 0


def test_real_items_are_decided(shared_data: Path) -> None:
    """Real Planetary Computer items carry a baseline that is understood."""
    folder = shared_data / "stac_documents" / "planetary_computer"
    documents = [json.loads(path.read_text()) for path in sorted(folder.rglob("*json"))]
    items = [item for document in documents for item in document.get("features", [document])]
    scenes = [item for item in items if item.get("collection") == "sentinel-2-l2a"]
    baselines = [processing_baseline(item["properties"]) for item in scenes]
    assert len(baselines) >= 20
    assert None not in baselines
