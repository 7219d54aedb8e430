"""The QGIS project inside a map file, read as XML: legends by stored values, each layer in its place."""

import contextlib
import io
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from pipeline.vectorize import vectorize
from pipeline.zone_file import read_zones

LEGEND = [
    {"code": 1, "name": "Water", "color": "#2b6cb0"},
    {"code": 2, "name": "Forest", "color": "#1f6f3f"},
]


def write_raster(path: Path, values: Any, dtype: str = "uint8", *, tagged: bool = False) -> Path:
    """A raster of somebody's, UTM, pixels of 10 m; ours where it is tagged with a legend."""
    array = np.asarray(values, dtype)
    profile: dict[str, Any] = {"count": 1, "dtype": dtype, "crs": "EPSG:32633"}
    profile |= {"height": array.shape[0], "width": array.shape[1]}
    place = Affine(10, 0, 500_000, 0, -10, 5_400_000)
    with rasterio.open(path, "w", transform=place, **profile) as dataset:
        dataset.write(array, 1)
        if tagged:
            dataset.update_tags(LEGEND=json.dumps(LEGEND))
    return path


def project(path: Path) -> Element:
    """The project of a GeoPackage."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (content,) = database.execute("SELECT content FROM qgis_projects").fetchone()
    with zipfile.ZipFile(io.BytesIO(bytes.fromhex(content))) as archive:
        return fromstring(archive.read("landcover.qgs"))


def layers(path: Path) -> dict[str, Element]:
    """The layers of the project by title."""
    found = project(path).iterfind("projectlayers/maplayer")
    return {str(layer.findtext("layername")): layer for layer in found}


@pytest.mark.parametrize(
    ("legend", "values", "expected"),
    [
        ("dynamicworld", [[0, 1]], {"0": "Water", "1": "Trees", "8": "Snow and ice"}),
        (
            "corine",
            [[44, 12]],
            {"44": "Sea and ocean", "12": "Non-irrigated arable land"},
        ),
        ("corine", [[523, 211]], {"523": "Sea and ocean", "211": "Non-irrigated arable land"}),
    ],
)
def test_the_class_raster_is_drawn_by_its_stored_values(
    tmp_path: Path, legend: str, values: list[list[int]], expected: dict[str, str]
) -> None:
    """Dynamic World's 0 is water; CORINE counts to 44 or to 523, and only one of the two is shown."""
    classes = write_raster(tmp_path / "c.tif", values, "uint16")
    vectorize(classes=classes, confidence=None, output=tmp_path / "m.gpkg", legend=legend)
    entries = layers(tmp_path / "m.gpkg")["Classes"].iterfind(".//paletteEntry")
    shown = {entry.attrib["value"]: entry.attrib["label"] for entry in entries}
    assert shown.items() >= expected.items()
    assert len(shown) == {"dynamicworld": 9, "corine": 2}[legend]


def test_zones_lie_in_their_own_crs(tmp_path: Path) -> None:
    """Zones in degrees on a map in UTM: QGIS and metadata are told degrees, for the map UTM."""
    classes = write_raster(tmp_path / "c.tif", np.ones((20, 20)), tagged=True)
    box = shapely.box(15.0, 48.7, 15.1, 48.8)
    gpd.GeoDataFrame({"name": ["A"]}, geometry=[box], crs=4326).to_file(tmp_path / "z.gpkg")
    output = tmp_path / "m.gpkg"
    zones = read_zones(tmp_path / "z.gpkg", "name")
    vectorize(classes=classes, confidence=None, output=output, zones=zones)
    drawn = {title: layer.findtext(".//authid") for title, layer in layers(output).items()}
    assert (drawn["Zones"], drawn["Land cover"]) == ("EPSG:4326", "EPSG:32633")
    with contextlib.closing(sqlite3.connect(output)) as database:
        told = dict(
            database.execute(
                "SELECT table_name, metadata FROM gpkg_metadata JOIN gpkg_metadata_reference ON id = md_file_id"
            )
        )
    assert [name for name, text in told.items() if "EPSG:4326" in text] == ["zones"]


def test_layers_of_one_name_are_all_in_the_project(tmp_path: Path) -> None:
    """A class raster called as the table of polygons, and a confidence called almost as it."""
    classes = write_raster(tmp_path / "landcover.tif", [[1, 2]], tagged=True)
    sure = write_raster(tmp_path / "land-cover.tif", [[90, 90]])
    vectorize(classes=classes, confidence=sure, output=tmp_path / "m.gpkg")
    root = project(tmp_path / "m.gpkg")
    ids = [layer.findtext("id") for layer in root.iterfind("projectlayers/maplayer")]
    assert len(set(ids)) == len(ids) == 5
    tree = [str(leaf.get("id")) for leaf in root.iter("layer-tree-layer")]
    assert sorted(tree) == sorted(map(str, ids))
