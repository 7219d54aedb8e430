"""A raster seen on the pixels of another grid."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from pipeline.aligned_reader import AlignedReader
from pipeline.cog import CogProfile, open_cog, open_raster

GRID = GeoBox((40, 50), Affine(10, 0, 600_000, 0, -10, 5_200_000), "EPSG:32633")
SCENE = np.random.default_rng(1).integers(1, 9000, (2, 40, 50)).astype(np.uint16)
ALL = slice(0, 40)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two bands on GRID."""
    with open_cog(tmp_path / "scene.tif", GRID, CogProfile("uint16", ["a", "b"])) as cog:
        cog.write(SCENE)
    return tmp_path / "scene.tif"


def moved(rows: float, cols: float, shape: tuple[int, int] = (40, 50)) -> GeoBox:
    """GRID shifted down and to the right by pixels."""
    return GeoBox(shape, GRID.affine * Affine.translation(cols, rows), GRID.crs)


def test_one_grid_is_read_as_it_is(path: Path):
    """Nothing is resampled, all lies inside."""
    with open_raster(path) as dataset:
        reader = AlignedReader(dataset, GRID)
        values, inside = reader.nearest(slice(3, 9), [2, 1])
        assert reader.same
        assert np.array_equal(values, SCENE[::-1, 3:9])
        assert inside.all()
        assert np.array_equal(reader.interpolated(ALL, [1]), SCENE[:1])


def test_what_a_mask_hides_is_outside(tmp_path: Path):
    """On its own grid and on one shifted by two rows and a column."""
    shown = np.ones(SCENE.shape[1:], np.bool_)
    shown[10:20, 5:30] = False
    profile = {"driver": "GTiff", "width": 50, "height": 40, "count": 1, "dtype": "uint16"}
    place = {"crs": str(GRID.crs), "transform": GRID.affine}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "m.tif", "w", **profile, **place) as dataset,
    ):
        dataset.write(SCENE[:1])
        dataset.write_mask(shown)
    with open_raster(tmp_path / "m.tif") as dataset:
        assert np.array_equal(AlignedReader(dataset, GRID).nearest(ALL, [1])[1], shown)
        inside = AlignedReader(dataset, moved(2, 1)).nearest(ALL, [1])[1]
        assert np.array_equal(inside[:38, :49], shown[2:, 1:])


def test_whole_pixels_are_copied(path: Path):
    """Shifted by two rows and a column: the same numbers at other places, nothing outside."""
    with open_raster(path) as dataset:
        reader = AlignedReader(dataset, moved(2, 1))
        values, inside = reader.nearest(ALL, [1, 2])
        smooth = reader.interpolated(ALL, [1, 2])
    assert not reader.same
    assert np.array_equal(values[:, :38, :49], SCENE[:, 2:, 1:])
    assert inside[:38, :49].all()
    assert inside.sum() == 38 * 49
    assert (values[:, ~inside] == 0).all()
    assert np.array_equal(smooth[:, :38, :49], SCENE[:, 2:, 1:])
    assert (smooth[:, ~inside] == 0).all()


def test_between_pixels_it_is_the_mean_of_four(path: Path):
    """Half a pixel down and right; the last row and column have no fourth."""
    with open_raster(path) as dataset:
        smooth = AlignedReader(dataset, moved(0.5, 0.5)).interpolated(ALL, [1])[0]
    a = SCENE[0].astype(float)
    assert smooth[:39, :49] == pytest.approx(
        (a[1:, 1:] + a[:-1, 1:] + a[1:, :-1] + a[:-1, :-1]) / 4
    )
    assert (smooth[39] == 0).all()
    assert (smooth[:, 49] == 0).all()


def test_no_data_is_not_mixed_in(tmp_path: Path):
    """One pixel of 0 makes the four means around it 0."""
    hole = SCENE.copy()
    hole[:, 10, 10] = 0
    with open_cog(tmp_path / "hole.tif", GRID, CogProfile("uint16", ["a", "b"])) as cog:
        cog.write(hole)
    with open_raster(tmp_path / "hole.tif") as dataset:
        smooth = AlignedReader(dataset, moved(0.5, 0.5)).interpolated(ALL, [1])[0]
    assert np.argwhere(smooth[:39, :49] == 0).tolist() == [[9, 9], [9, 10], [10, 9], [10, 10]]


def test_another_crs_gives_what_an_exact_warp_gives(path: Path):
    """Nearest pixels as GDAL's warper finds them without its approximation."""
    west, north = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(600_000, 5_200_000)  # fmt: skip
    other = GeoBox((36, 44), Affine(1.3e-4, 0, west, 0, -9e-5, north), "EPSG:4326")
    expected = np.zeros((36, 44), np.uint16)
    with open_raster(path) as dataset:
        values, inside = AlignedReader(dataset, other).nearest(slice(0, 36), [1])
        reproject(
            SCENE[0], expected, src_transform=GRID.affine, src_crs=str(GRID.crs), tolerance=0,
            dst_transform=other.affine, dst_crs="EPSG:4326", resampling=Resampling.nearest,
        )  # fmt: skip
    assert inside.mean() > 0.5
    assert (values[0] == expected).mean() > 0.999


@pytest.mark.parametrize("west", [179.97, -180.03])
def test_a_grid_in_degrees_may_cross_180(tmp_path: Path, west: float):
    """Both spellings of a scene of Fiji have all pixels of UTM zone 60 and of each other's grid inside."""
    there = GeoBox((40, 50), Affine(1.2e-3, 0, west, 0, -1e-3, -16.98), "EPSG:4326")
    with open_cog(tmp_path / "fiji.tif", there, CogProfile("uint16", ["a", "b"])) as cog:
        cog.write(SCENE)
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(180, -17)
    utm = GeoBox((20, 40), Affine(100, 0, x - 2000, 0, -100, y + 1000), "EPSG:32660")
    with open_raster(tmp_path / "fiji.tif") as dataset:
        values, inside = AlignedReader(dataset, utm).nearest(slice(0, 20), [1])
        assert inside.all()
        x, y = Transformer.from_crs(utm.crs, 4326, always_xy=True).transform(x + 1050, y + 50)
        assert values[0, 9, 30] == SCENE[0, int((-16.98 - y) / 1e-3), int((x - -180.03) / 1.2e-3)]
        turned = GeoBox(there.shape, Affine.translation(-np.sign(west) * 360, 0) * there.affine, "EPSG:4326")  # fmt: skip
        values, inside = AlignedReader(dataset, turned).nearest(ALL, [1, 2])
    assert inside.all()
    assert np.array_equal(values, SCENE)


def test_rows_may_be_read_in_any_parts(path: Path):
    """A pixel depends on its own place only."""
    other = GeoBox((40, 50), Affine(11, 2, 600_010, 1, -9, 5_199_990), "EPSG:32633")
    with open_raster(path) as dataset:
        reader = AlignedReader(dataset, other)
        whole = reader.interpolated(ALL, [1, 2])
        parts = [reader.interpolated(slice(t, min(t + 7, 40)), [1, 2]) for t in range(0, 40, 7)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
