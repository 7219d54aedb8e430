"""The packed index of a GeoPackage is one that SQLite, GDAL and an editor take for their own."""

import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyogrio
import pyproj
import pytest
import shapely

import pipeline.geopackage
import pipeline.spatial_index
from landcover.errors import RasterError
from pipeline.geopackage import Layer, write_geopackage
from tests.sample_labels import edit


def write(path: Path, shapes: list[object], batch: int = 700) -> None:
    """A GeoPackage with the layer `sample` of some shapes; None is a null."""
    texts = [None if s is None else shapely.to_wkb(s) for s in shapes]
    table = pa.table({"id": np.arange(len(shapes)), "geom": pa.array(texts, pa.large_binary())})
    rows = table.to_reader(max_chunksize=batch)
    crs = pyproj.CRS("EPSG:32633")
    write_geopackage(path, [Layer("sample", "", len(shapes), rows, crs)])


def squares(count: int) -> list[object]:
    """Squares of 30 m at random places."""
    x, y = np.random.default_rng(1).uniform(0, 1e5, (2, count))
    return list(shapely.box(x, y, x + 30, y + 30))


@pytest.mark.parametrize("count", [0, 1, 51, 52, 3000])
def test_sqlite_finds_nothing_wrong(tmp_path: Path, count: int) -> None:
    """SQLite's own check of the tree and of the file finds nothing, and the tree has every row."""
    write(tmp_path / "a.gpkg", squares(count))
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        assert database.execute("SELECT rtreecheck('rtree_sample_geom')").fetchall() == [("ok",)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ids = database.execute("SELECT id FROM rtree_sample_geom ORDER BY id").fetchall()
    assert ids == [(i,) for i in range(1, count + 1)]


def test_the_same_tables_and_triggers_as_gdal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, columns and triggers are those of GDAL's index, as is what a search finds."""
    shapes = squares(2000)
    write(tmp_path / "ours.gpkg", shapes)
    monkeypatch.setattr(pipeline.geopackage, "can_index", lambda: False)
    write(tmp_path / "gdal.gpkg", shapes)
    texts, hits = [], []
    for name in ("ours.gpkg", "gdal.gpkg"):
        with sqlite3.connect(tmp_path / name) as database:
            found = database.execute(
                "SELECT type, name, tbl_name, upper(replace(sql, ' ', '')) "
                "FROM sqlite_master WHERE name LIKE 'rtree_sample_geom%' ORDER BY name"
            )
            texts.append(found.fetchall())
            texts[-1] += database.execute("SELECT * FROM gpkg_extensions").fetchall()
        window = (20_000, 30_000, 45_000, 60_000)
        hits.append(
            pyogrio.read_dataframe(tmp_path / name, layer="sample", bbox=window)["id"].tolist()
        )
    assert texts[0] == texts[1]
    assert len(texts[0]) >= 10
    assert sorted(hits[0]) == sorted(hits[1])
    assert 100 < len(hits[0]) < 200


def test_edits_keep_the_index(tmp_path: Path) -> None:
    """Rows that GDAL adds, and rows that are moved or deleted, are found where they are then."""
    path = tmp_path / "a.gpkg"
    write(path, squares(300))
    frame = pyogrio.read_dataframe(path, layer="sample").iloc[:1]
    frame.geometry = [shapely.box(5e5, 5e5, 5.1e5, 5.1e5)]
    pyogrio.write_dataframe(frame, path, layer="sample", append=True)
    edit(path, "DELETE FROM sample WHERE fid = 7")
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT rtreecheck('rtree_sample_geom')").fetchall() == [("ok",)]
        count = database.execute("SELECT count(*) FROM rtree_sample_geom").fetchone()
    assert count == (300,)
    assert len(pyogrio.read_dataframe(path, layer="sample", bbox=(4e5, 4e5, 6e5, 6e5))) == 1


def test_groups_change_nothing_but_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes that are packed 100 at a time give a valid tree with the same rows."""
    monkeypatch.setattr(pipeline.spatial_index, "_GROUP", 100)
    write(tmp_path / "a.gpkg", squares(3000))
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        assert database.execute("SELECT rtreecheck('rtree_sample_geom')").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM rtree_sample_geom").fetchone() == (3000,)
    window = (20_000, 30_000, 45_000, 60_000)
    expected = [i for i, s in enumerate(squares(3000)) if s.intersects(shapely.box(*window))]
    assert (
        sorted(pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="sample", bbox=window)["id"])
        == expected
    )


def test_heights_are_refused(tmp_path: Path) -> None:
    """A geometry with heights ends the writing with a sentence, and leaves no file."""
    with pytest.raises(RasterError, match="Geometry 1 is no point"):
        write(tmp_path / "a.gpkg", [shapely.Polygon([(0, 0, 1), (1, 0, 1), (1, 1, 1)])])
    assert list(tmp_path.iterdir()) == []
