"""QGIS itself opens a sample, offers the classes, and saves labels that are read back."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landcover.errors import SampleError
from landcover.legend import LandClass, Legend
from pipeline.draw_sample import draw_sample
from pipeline.estimate_areas import estimate_areas
from pipeline.label_form import viewer_links
from tests.run_folder import GRID, write_classes
from tests.sample_labels import rows

PYTHON = "/usr/bin/python3"
"""The system's Python: QGIS of a distribution belongs to it."""
LEGEND = Legend(
    (
        LandClass(1, "Water", "#3f7fbf"),
        LandClass(3, 'Trees & "shrubs" <5 m', "#1e6b34"),
        LandClass(7, "Bâti", "#c8473d"),
    )
)


def qgis(sample: Path, labels: dict[str, int]) -> dict[str, Any]:
    """Open and label a sample in QGIS; skip where there is none."""
    (sample.parent / "labels.json").write_text(json.dumps(labels))
    script = Path(__file__).with_name("qgis_label.py")
    environment = {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    if not Path(PYTHON).exists():
        pytest.skip(f"no {PYTHON}, so no QGIS")
    done = subprocess.run(
        [PYTHON, script, sample, sample.parent / "labels.json"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if "No module named 'qgis'" in done.stderr:
        pytest.skip(f"no QGIS for {PYTHON} (apt-get install python3-qgis)")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """60 pixels of three classes with awkward names."""
    codes = np.random.default_rng(3).choice(LEGEND.codes, GRID.shape).astype(np.uint8)
    write_classes(tmp_path / "c.tif", codes, LEGEND)
    draw_sample(classes=tmp_path / "c.tif", output=tmp_path / "sample.gpkg", size=60, minimum=10)
    return tmp_path / "sample.gpkg"


def test_labels_given_in_qgis_are_read_back(sample: Path) -> None:
    """The form lists the classes by name and locks the rest; what is chosen there is what we read."""
    units = rows(sample, "units")
    facts = qgis(sample, {str(u["id"]): u["class_code"] for u in units})
    assert facts["valid"]
    assert facts["saved"]
    assert facts["widgets"]["reference"] == facts["widgets"]["confidence"] == "ValueMap"
    assert facts["choices"][1:] == [[c.name, str(c.code)] for c in LEGEND.classes]
    assert facts["shown"] == [
        "id", "reference", "confidence", "note", "street_map", "aerial", "satellite",
    ]  # fmt: skip
    assert set(facts["locked"]) == {"fid", "id", "street_map", "aerial", "satellite"}
    assert not {"stratum", "class_code"} & set(facts["columns"])
    assert facts["aliases"]["reference"] == "Class in truth"
    assert facts["legend"] == ["To label", "Labelled"]
    assert (facts["points"], facts["crs"]) == (60, "EPSG:32630")
    result = estimate_areas(sample=sample)
    assert result["pixels"] == 60
    assert result["overall_accuracy"]["value"] == 1


def test_points_deleted_in_qgis_are_missed(sample: Path) -> None:
    """A point that somebody deleted there is told by its number."""
    facts = qgis(sample, {"-12": 0, "1": 7})
    assert facts["points"] == 60
    with pytest.raises(SampleError, match=r"1 of 60 points were deleted.*the first is 12"):
        estimate_areas(sample=sample)


def test_links_lead_to_the_pixel() -> None:
    """Latitude and longitude are where each viewer wants them, also south and west."""
    links = viewer_links(-70.5, -3.25)
    assert links == {
        "street_map": "https://www.openstreetmap.org/?mlat=-3.250000&mlon=-70.500000#map=17/-3.250000/-70.500000",
        "aerial": "https://www.google.com/maps/@?api=1&map_action=map&center=-3.250000%2C-70.500000&zoom=18&basemap=satellite",
        "satellite": "https://browser.dataspace.copernicus.eu/?zoom=16&lat=-3.250000&lng=-70.500000",
    }
