"""The demo on disk: real rasters, a valid catalogue, and the truth on the grid of its footprint."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from pystac.validation import JsonSchemaSTACValidator
from pystac.validation.local_validator import get_local_schema_cache
from rio_cogeo import cog_validate

from landcover.errors import SettingsError
from landcover.grid import output_grid
from landcover.period import Period
from landcover.simulation import LEGEND
from pipeline import demo
from pipeline.demo import DemoRegion, make_demo

SIZE = 256
FINE = ("blue", "green", "red", "nir")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> DemoRegion:
    """A small demo."""
    return make_demo(tmp_path_factory.mktemp("demo") / "region", seed=5, size=SIZE)


@pytest.fixture(scope="module")
def items(region: DemoRegion) -> list[dict[str, Any]]:
    """Its catalogue."""
    return [json.loads(line) for line in region.catalog.read_text().splitlines()]


def read(path: str | Path) -> NDArray[Any]:
    """First band of a raster."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)  # type: ignore[no-any-return]


def footprint(region: DemoRegion) -> shapely.Geometry:
    """The region's polygon."""
    return shapely.from_geojson(region.region.read_text()).geoms[0]


def bytes_by_name(folder: Path) -> dict[str, bytes]:
    """Contents of every file under a folder, by its path from there."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_region_names_files_that_exist(region: DemoRegion) -> None:
    """Catalogue, footprint and truth are where the region says."""
    assert region.seed == 5
    for path in (region.catalog, region.region, region.truth):
        assert path.is_file()
        assert path.parent == region.folder


def test_scenes_span_the_season(items: list[dict[str, Any]], region: DemoRegion) -> None:
    """At least six dates inside the period, two of them nearly cloud free."""
    taken = [datetime.fromisoformat(item["properties"]["datetime"]) for item in items]
    assert len(set(taken)) == len(taken) >= 6
    assert all(moment in Period.parse(region.period) for moment in taken)
    assert sum(item["properties"]["eo:cloud_cover"] < 15 for item in items) >= 2


def test_items_are_valid_stac(items: list[dict[str, Any]]) -> None:
    """Every item passes STAC's core schemas and survives pystac."""
    validator = JsonSchemaSTACValidator()
    validator.schema_cache.update(get_local_schema_cache())
    for item in items:
        validator.validate_core(item, pystac.STACObjectType.ITEM, item["stac_version"])
        parsed = pystac.Item.from_dict(item)
        assert parsed.id == item["id"]
        assert parsed.to_dict()["assets"].keys() == item["assets"].keys()


def test_items_describe_their_files(items: list[dict[str, Any]]) -> None:
    """The projection and data type that an asset announces are those of its file."""
    for item in items:
        for asset in item["assets"].values():
            with rasterio.open(asset["href"]) as dataset:
                assert list(dataset.shape) == asset["proj:shape"]
                assert list(dataset.transform)[:6] == asset["proj:transform"]
                assert str(dataset.crs) == item["properties"]["proj:code"]
                assert dataset.dtypes[0] == asset["raster:bands"][0]["data_type"]
                assert dataset.nodata == 0


def test_rasters_are_cloud_optimised(items: list[dict[str, Any]], region: DemoRegion) -> None:
    """Every raster passes strict validation and holds one band, 10 m or 20 m as Sentinel-2's."""
    for name, asset in items[0]["assets"].items():
        assert cog_validate(asset["href"], strict=True, quiet=True)[0], name
        assert read(asset["href"]).shape == (
            (SIZE, SIZE) if name in FINE else (SIZE // 2, SIZE // 2)
        )
    assert cog_validate(region.truth, strict=True, quiet=True)[0]


def test_offset_follows_the_baseline(items: list[dict[str, Any]]) -> None:
    """From baseline 04.00 on, water in SWIR is stored above 1000; before, far below."""
    offsets = set()
    for item in items:
        codes, swir = (read(item["assets"][key]["href"]) for key in ("scl", "swir16"))
        late = item["properties"]["s2:processing_baseline"] >= "04.00"
        offsets.add(late)
        darkest = np.percentile(swir[(swir > 0) & (codes > 3)], 1)
        assert (darkest > 1000) == late
        assert darkest < 1500
    assert offsets == {True, False}


def test_nodata_is_the_same_in_every_band(items: list[dict[str, Any]]) -> None:
    """Outside the swath every band is 0 and SCL is 0; inside nothing is; some scenes are partial."""
    shares = []
    for item in items:
        outside = read(item["assets"]["scl"]["href"]) == 0
        shares.append(outside.mean())
        for name in (*FINE, "swir16", "swir22"):
            empty = read(item["assets"][name]["href"]) == 0
            expected = outside.repeat(2, 0).repeat(2, 1) if name in FINE else outside
            np.testing.assert_array_equal(empty, expected)
        stated = item["properties"]["s2:nodata_pixel_percentage"]
        assert stated == pytest.approx(100 * outside.mean(), abs=0.01)
    assert min(shares) == 0
    assert 0.2 < max(shares) < 0.6


def test_geometry_outlines_the_data(items: list[dict[str, Any]]) -> None:
    """The area of an item's geometry is that of its pixels with data, to a percent."""
    for item in items:
        shape = shapely.from_geojson(json.dumps(item["geometry"]))
        assert shape.is_valid
        full = shapely.box(*item["bbox"])
        assert full.buffer(1e-6).contains(shape)
        scale = np.cos(np.radians(shape.centroid.y)) * 111_320 * 111_200
        pixels = (read(item["assets"]["scl"]["href"]) != 0).sum() * 400
        assert shape.area * scale == pytest.approx(pixels, rel=0.01)


def test_truth_lies_on_the_grid_of_the_footprint(region: DemoRegion) -> None:
    """Truth is the class raster, all eight codes, on the grid that a run of the region uses."""
    grid = output_grid(footprint(region), 10)
    with rasterio.open(region.truth) as dataset:
        assert dataset.shape == grid.shape
        assert dataset.transform == grid.transform
        assert str(dataset.crs) == str(grid.crs)
        assert json.loads(dataset.tags()["LEGEND"]) == LEGEND.to_records()
        codes = np.unique(dataset.read(1))
    assert set(codes.tolist()) <= set(LEGEND.codes)
    assert len(codes) >= 6


def test_footprint_is_inside_every_full_scene(
    items: list[dict[str, Any]], region: DemoRegion
) -> None:
    """Scenes without an orbit edge cover the footprint whole."""
    outline = footprint(region)
    whole = [i for i in items if i["properties"]["s2:nodata_pixel_percentage"] == 0]
    assert len(whole) >= 5
    for item in whole:
        assert shapely.from_geojson(json.dumps(item["geometry"])).contains(outline)


def test_truth_matches_what_the_scenes_show(
    items: list[dict[str, Any]], region: DemoRegion
) -> None:
    """On the clearest date true water is dark and true trees are green, pixel for pixel."""
    item = min(items, key=lambda i: i["properties"]["eo:cloud_cover"])
    red, nir = (read(item["assets"][b]["href"]).astype(float) for b in ("red", "nir"))
    if item["properties"]["s2:processing_baseline"] >= "04.00":
        red, nir = red - 1000, nir - 1000
    truth = read(region.truth)
    inset = (SIZE - truth.shape[0]) // 2
    index = ((nir - red) / (nir + red))[
        inset : inset + truth.shape[0], inset : inset + truth.shape[1]
    ]
    assert np.median(index[truth == 1]) < 0
    assert np.median(index[truth == 2]) > 0.6


def test_same_arguments_give_the_same_bytes(region: DemoRegion, tmp_path: Path) -> None:
    """Another run writes the same files; only the hrefs name another folder."""
    other = make_demo(tmp_path / "again", seed=5, size=SIZE)
    first, second = bytes_by_name(region.folder), bytes_by_name(other.folder)
    assert first.keys() == second.keys()
    moved = second["catalog.ndjson"].replace(
        str(other.folder).encode(), str(region.folder).encode()
    )
    assert moved == first["catalog.ndjson"]
    for name in first.keys() - {"catalog.ndjson", "demo.json"}:
        assert first[name] == second[name], name


def test_a_complete_demo_is_reused_and_another_seed_replaces_it(tmp_path: Path) -> None:
    """The second call touches nothing; other arguments make the folder anew."""
    folder = tmp_path / "demo"
    made = make_demo(folder, seed=1, size=128)
    before = made.truth.stat().st_mtime_ns
    assert make_demo(folder, seed=1, size=128) == made
    assert made.truth.stat().st_mtime_ns == before
    make_demo(folder, seed=2, size=128)
    assert made.truth.stat().st_mtime_ns != before
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


def test_a_failed_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing breaks off, neither the folder nor a partial one is left, and an old one stays."""
    kept = make_demo(tmp_path / "kept", seed=1, size=128)
    contents = bytes_by_name(kept.folder)

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "_write_band", full_disk)
    for folder in (tmp_path / "new", kept.folder):
        with pytest.raises(OSError, match="No space"):
            make_demo(folder, seed=2, size=128)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert bytes_by_name(kept.folder) == contents


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """A folder that holds other files is refused, by name, and keeps them."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match=re.escape(str(tmp_path))):
        make_demo(tmp_path, seed=1, size=128)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("size", [0, -2, 100, 301])
def test_impossible_sizes_are_refused(tmp_path: Path, size: int) -> None:
    """A size that is odd or too small is refused before anything is written."""
    with pytest.raises(SettingsError, match="even number of pixels"):
        make_demo(tmp_path / "demo", seed=1, size=size)
    assert not any(tmp_path.iterdir())
