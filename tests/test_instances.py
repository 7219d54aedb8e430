"""The layer of countable things: their regions with their shapes."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from landcover.errors import SettingsError
from pipeline.instances import countable_codes
from pipeline.vectorize import vectorize
from tests.test_vectorize import LEGEND, query, write_classes, write_confidence

GRID = GeoBox((4, 6), Affine(10, 0, 500_000, 0, -10, 5_000_040), "EPSG:32633")
DRAWING = np.array(
    [
        [2, 2, 2, 2, 2, 2],
        [2, 1, 1, 1, 2, 2],
        [2, 2, 2, 2, 1, 2],
        [0, 2, 2, 2, 2, 2],
    ]
)


def test_each_region_of_a_countable_class_has_its_shape(tmp_path: Path):
    """A bar of 3 x 1 pixels and a pixel: own rows with length, width, direction and confidence."""
    details = vectorize(
        classes=write_classes(tmp_path / "c.tif", DRAWING, GRID),
        confidence=write_confidence(tmp_path / "p.tif", DRAWING * 30, GRID),
        output=tmp_path / "out.gpkg",
        min_area=0.02,  # takes the pixel out of the layer landcover
        instances=["water"],
    )
    assert details["instances"] == 2
    found = gpd.read_file(tmp_path / "out.gpkg", layer="instances")
    assert found.id.tolist() == [8, 17]
    assert found.class_name.tolist() == ["Water", "Water"]
    assert found.pixels.tolist() == [3, 1]
    assert found.length_m.tolist() == pytest.approx([30, 10], rel=1e-3)
    assert found.width_m.tolist() == pytest.approx([10, 10], rel=1e-3)
    assert found.elongation.tolist() == pytest.approx([3, 1], rel=1e-4)
    assert found.orientation_deg[0] == pytest.approx(90, abs=0.01)
    assert found.compactness[1] == pytest.approx(np.pi / 4, rel=1e-4)
    assert found.confidence.tolist() == [30, 30]
    layer = gpd.read_file(tmp_path / "out.gpkg", layer="landcover")
    assert layer[layer.class_code == 1].pixels.tolist() == [3]


def test_by_corners_they_are_one(tmp_path: Path):
    """With connectivity 8 the bar and the pixel at its corner are one thing."""
    vectorize(
        classes=write_classes(tmp_path / "c.tif", DRAWING, GRID),
        confidence=None,
        output=tmp_path / "out.gpkg",
        connectivity=8,
        instances=["1"],
    )
    found = gpd.read_file(tmp_path / "out.gpkg", layer="instances")
    assert (found.pixels.tolist(), set(found.geom_type)) == ([4], {"MultiPolygon"})
    assert found.confidence.isna().all()


def test_a_class_without_regions_gives_an_empty_layer(tmp_path: Path):
    """A countable class that the map lacks: the layer is there, with its columns and style."""
    vectorize(
        classes=write_classes(tmp_path / "c.tif", DRAWING, GRID),
        confidence=None,
        output=tmp_path / "out.gpkg",
        instances=["Never seen"],
    )
    assert pyogrio.read_info(tmp_path / "out.gpkg", layer="instances")["features"] == 0
    styled = query(tmp_path / "out.gpkg", "SELECT f_table_name FROM layer_styles")
    assert ("instances",) in styled


def test_without_countable_classes_there_is_no_layer(tmp_path: Path):
    """Nothing is counted unless asked."""
    vectorize(
        classes=write_classes(tmp_path / "c.tif", DRAWING, GRID),
        confidence=None,
        output=tmp_path / "out.gpkg",
    )
    assert "instances" not in pyogrio.list_layers(tmp_path / "out.gpkg")[:, 0]


def test_names_and_codes_name_classes():
    """In any case, each once, in the order of the codes."""
    assert countable_codes(["NEVER seen", "1", " Water "], LEGEND) == (1, 9)
    assert countable_codes([], LEGEND) == ()


def test_a_class_that_the_legend_lacks_is_refused():
    """The sentence lists the classes that there are."""
    with pytest.raises(SettingsError, match=r"no class 'pond' to count; it has Water \(1\)"):
        countable_codes(["pond"], LEGEND)
