"""The table of real and odd rasters that `make vectors` prints."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    path = Path(__file__).parent.parent / "docs" / "make_vectors.py"
    spec = importlib.util.spec_from_file_location("make_vectors", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_odd_rasters_become_polygons_or_are_refused_in_a_sentence(
    script: ModuleType, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every awkward file gives a valid coverage or one short sentence; none crashes or hangs."""
    monkeypatch.setattr(script, "DATA", shared_data)
    outcomes = {path.name: script.outcome(path, tmp_path) for path in script.odd_rasters()}
    assert len(outcomes) > 50
    for outcome in outcomes.values():
        assert re.fullmatch(r"refused: .{20,500}\.|[\d,]+ polygons, [\d,]+ ha, valid", outcome)
    assert outcomes["world.byte.tif"].startswith("120 polygons, 13,866,986,761 ha")


def test_real_rasters_close(
    script: ModuleType, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Fields and land cover, plain, then merged and simplified: valid, and no hectare is lost."""
    monkeypatch.setattr(script, "DATA", shared_data)
    monkeypatch.setattr(script, "CITIES", {})
    for raster in script.real_rasters(tmp_path):
        for options in ({}, {"min_area": 0.5, "simplify": 10.0}):
            *_, closure, coverage, _ = script._row(raster, tmp_path, **options)
            assert float(closure) <= 1e-9
            assert coverage == "valid"
