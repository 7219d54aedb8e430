"""Which grid a region is mapped on: the user's, the images' own, or one by rule."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box, mapping

from landcover.errors import CatalogError, SettingsError
from landcover.grid import inside, output_grid
from landcover.outline import crs_name
from pipeline.index import index_folder
from pipeline.items import read_index
from pipeline.region import Region, load_region
from pipeline.region_grid import region_grid

DAY = "2024:06:01 10:00:00"


def write_image(path: Path, transform: Affine, crs: str, shape: tuple[int, int] = (50, 80)) -> Path:
    """A photograph of three bands."""
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=3, dtype="uint8", crs=crs,
        transform=transform, photometric="RGB",
    ) as dataset:  # fmt: skip
        dataset.update_tags(TIFFTAG_DATETIME=DAY)
        dataset.write(np.ones((3, *shape), np.uint8))
    return path


def indexed(folder: Path, output: Path, **options: Any) -> tuple[Region, Path]:
    """The region that an index of a folder is, and its scenes frozen as search does it."""
    index = output / "index.ndjson"
    index_folder(folder, index, report=lambda _: None, **options)
    return load_region(str(index)), frozen(output, *read_index(index))


def frozen(folder: Path, *items: Mapping[str, Any]) -> Path:
    """A scene list."""
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def item(crs: Any, transform: list[float] | None = None, **facts: Any) -> dict[str, Any]:
    """A scene of one picture whose item, not its asset, says where it is."""
    place = {"proj:code": crs, "proj:transform": transform, "proj:shape": [50, 80]}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": "picture", "links": [],
        "geometry": mapping(box(15, 48, 15.01, 48.01)), "bbox": [15, 48, 15.01, 48.01],
        "properties": {"datetime": "2024-06-01T10:00:00Z"} | place | facts,
        "assets": {"image": {
            "href": "/data/picture.tif", "type": "image/tiff; application=geotiff",
            "bands": [{"name": n, "eo:common_name": n, "data_type": "uint8"} for n in ("red", "green", "blue")],
        }},
    }  # fmt: skip


HERE = Region(name="here", footprint=box(15, 48, 15.01, 48.01))


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(0.3, 0, 500_000.17, 0, -0.3, 5_300_000.05), "EPSG:32633"),
        (Affine(2e-4, 0, 15.00003, 0, -1e-4, 48.00007), "EPSG:4326"),
        (Affine(2e-4, 0, 179.995, 0, -1e-4, -16.8), "EPSG:4326"),
        (Affine(5, 0, 870_000.5, 0, -5, 8_000_003), "EPSG:32760"),
        (Affine(1, 0, 100_000, 0, -1, 200_000), "EPSG:2263"),
        (Affine(7, 0, 3, 0, -7, 5), "+proj=laea +lat_0=-16.9 +lon_0=180"),
    ],
    ids=["drone", "oblong degrees", "degrees beyond 180", "utm beyond 180", "feet", "no code"],
)
def test_one_picture_keeps_its_pixels(tmp_path: Path, transform: Affine, crs: str) -> None:
    """Over its own outline a picture's grid is the picture's, so nothing is resampled."""
    write_image(tmp_path / "picture.tif", transform, crs)
    region, items = indexed(tmp_path, tmp_path)
    grid = region_grid(region, items)
    assert grid.shape == (50, 80)
    assert grid.affine.almost_equals(transform, 1e-9)
    assert grid.crs == GeoBox((1, 1), transform, crs).crs
    assert inside(grid, region.footprint).all()


def test_overlapping_pictures_lie_on_the_finest(tmp_path: Path) -> None:
    """Of pictures with several pixel sizes in one CRS the finest one's pixels go on over them all."""
    write_image(tmp_path / "coarse.tif", Affine(2, 0, 500_000, 0, -2, 5_300_000), "EPSG:32633")
    write_image(
        tmp_path / "fine.tif", Affine(0.5, 0, 500_100.2, 0, -0.5, 5_299_990.1), "EPSG:32633"
    )
    region, items = indexed(tmp_path, tmp_path)
    grid = region_grid(region, items)
    assert (grid.affine.a, grid.affine.e) == (0.5, -0.5)
    assert grid.affine.c % 0.5 == pytest.approx(0.2)
    assert grid.affine.f % 0.5 == pytest.approx(0.1)
    assert grid.extent.boundingbox.bbox == pytest.approx((500_000, 5_299_900, 500_160, 5_300_000), abs=0.5)  # fmt: skip


def test_the_alignment_of_most_pictures(tmp_path: Path) -> None:
    """Where equal pixels do not meet, the grid is the one that most pictures share."""
    for number, shift in enumerate([0.4, 0, 0]):
        transform = Affine(1, 0, 500_000 + shift + 40 * number, 0, -1, 5_300_000)
        write_image(tmp_path / f"{number}.tif", transform, "EPSG:32633")
    region, items = indexed(tmp_path, tmp_path)
    assert region_grid(region, items).affine.c % 1 == 0


def test_pictures_in_two_systems_are_mapped_by_rule(tmp_path: Path) -> None:
    """Two zones: UTM of the middle, at the finest size on the ground."""
    write_image(tmp_path / "33.tif", Affine(2, 0, 280_000, 0, -2, 5_300_000), "EPSG:32633")
    write_image(tmp_path / "32.tif", Affine(0.5, 0, 725_000, 0, -0.5, 5_300_000), "EPSG:32632")
    region, items = indexed(tmp_path, tmp_path)
    grid = region_grid(region, items)
    assert crs_name(grid.crs) in {"EPSG:32632", "EPSG:32633"}
    assert grid.affine.a == 0.5


def test_a_turned_picture_is_mapped_north_up(tmp_path: Path) -> None:
    """Rotated pixels have no north-up grid of their own: by rule, at their ground size."""
    turned = Affine.translation(500_000, 5_300_000) * Affine.rotation(30) * Affine.scale(2, -2)
    write_image(tmp_path / "turned.tif", turned, "EPSG:32633")
    region, items = indexed(tmp_path, tmp_path)
    assert region_grid(region, items) == output_grid(region.footprint, 2, "EPSG:32633")


def test_the_region_s_own_settings_count(tmp_path: Path) -> None:
    """Resolution and CRS that a region gives are taken, each alone or both."""
    write_image(tmp_path / "a.tif", Affine(0.3, 0, 500_000.17, 0, -0.3, 5_300_000.05), "EPSG:32633")
    region, items = indexed(tmp_path, tmp_path)

    def changed(**settings: Any) -> GeoBox:
        return region_grid(region.model_copy(update=settings), items)

    assert changed(resolution=2.0) == output_grid(region.footprint, 2)
    assert changed(resolution=2.0, crs="EPSG:3035") == output_grid(region.footprint, 2, "EPSG:3035")
    assert changed(crs="EPSG:3035") == output_grid(region.footprint, 0.3, "EPSG:3035")
    assert changed(crs="EPSG:32633") == region_grid(region, items)
    feet = changed(crs="EPSG:2263").resolution.x
    assert feet == pytest.approx(0.3 / 0.3048006096)
    with pytest.raises(SettingsError, match="'EPSG:99'"):
        changed(crs="EPSG:99")


@pytest.mark.parametrize(
    "code", [{"proj:code": "EPSG:32633"}, {"proj:code": None, "proj:epsg": 32633}]
)
def test_items_that_say_it_for_their_assets(tmp_path: Path, code: dict[str, Any]) -> None:
    """Projection facts of the item, in the old or the new form, hold for its assets."""
    transform = [0.3, 0, 500_000.17, 0, -0.3, 5_316_900.05, 0, 0, 1]
    items = frozen(tmp_path, item("EPSG:4326", transform) | {"properties": item(None, transform, **code)["properties"]})  # fmt: skip
    grid = region_grid(HERE, items)
    assert crs_name(grid.crs) == "EPSG:32633"
    assert grid.affine.c % 0.3 == pytest.approx(500_000.17 % 0.3, abs=1e-6)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, None), ("EPSG:32633", None), ("EPSG:99", [1, 0, 0, 0, -1, 0]),
        ("EPSG:32633", [1, 0]), ("EPSG:32633", ["a", 0, 0, 0, -1, 0]),
        ("EPSG:32633", [0, 0, 0, 0, 0, 0]), ("EPSG:32633", [float("nan"), 0, 0, 0, -1, 0]),
    ],
)  # fmt: skip
def test_without_a_usable_transform_the_ground_size_counts(
    tmp_path: Path, crs: Any, transform: Any
) -> None:
    """A scene that only says its gsd is mapped by rule; one that says nothing is refused by name."""
    grid = region_grid(HERE, frozen(tmp_path, item(crs, transform, gsd=0.5)))
    assert grid == output_grid(HERE.footprint, 0.5)
    with pytest.raises(CatalogError, match="'picture' does not say how large its pixels are"):
        region_grid(HERE, frozen(tmp_path, item(crs, transform)))


def test_no_scenes(tmp_path: Path) -> None:
    """An empty list is refused."""
    with pytest.raises(CatalogError, match=r"items\.json holds no scene"):
        region_grid(HERE, frozen(tmp_path))


# --- real images ----------------------------------------------------------------------------------


def test_real_series_keep_their_grids(shared_data: Path, tmp_path: Path) -> None:
    """Peru in degrees, NAIP and a Landsat pair: the grid is that of the files, or of most of them."""
    for folder, name in [
        ("landsat_series_peru", "*1985*.tif"),
        ("naip_series_north_dakota", "*2019*.tif"),
        ("landsat7_pair_fmask", "*.gtif"),
    ]:
        (tmp_path / folder).mkdir()
        region, items = indexed(shared_data / folder, tmp_path / folder)
        grid = region_grid(region, items)
        with rasterio.open(min((shared_data / folder).rglob(name))) as dataset:
            own = GeoBox.from_rio(dataset)
        assert grid.resolution == own.resolution
        shift = ~own.affine * (grid.affine.c, grid.affine.f)
        assert shift == pytest.approx([round(value) for value in shift], abs=1e-6)
        assert np.subtract(grid.shape, own.shape).tolist() in ([0, 0], [1, 0])


def test_sentinel2_cities_stay_at_ten_metres_in_utm(shared_data: Path, tmp_path: Path) -> None:
    """Sentinel-2 bands are mapped by rule, whatever projection the files came in."""
    folder = shared_data / "sentinel2_pairs_oscd/images/nantes"
    region, items = indexed(folder, tmp_path)
    assert region_grid(region, items) == output_grid(region.footprint, 10, "EPSG:32630")


def test_landsat_keeps_its_pixel_borders(shared_data: Path, tmp_path: Path) -> None:
    """Landsat's grid lines lie 15 m beside the multiples of 30: there they stay, in the scene's zone."""
    path = "stac_documents/usgs_landsatlook/LE07_L2SP_044033_20210329_20210424_02_T1_SR.json"
    scene = json.loads((shared_data / path).read_text())
    transform = scene["properties"]["proj:transform"]
    assert (transform[2] % 30, transform[5] % 30) == (15, 15)
    place = shapely.geometry.shape(scene["geometry"]).centroid.buffer(0.01)
    grid = region_grid(Region(name="here", footprint=place), frozen(tmp_path, scene))
    assert grid.crs.epsg == scene["properties"]["proj:epsg"]
    assert (grid.affine.a, grid.affine.c % 30, grid.affine.f % 30) == (30, 15, 15)
