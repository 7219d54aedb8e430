"""The output grid of a region."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from landcover.errors import RegionError, SettingsError
from landcover.grid import inside, output_grid


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"),
    [(15.0, 48.0, 32633), (-1.55, 47.2, 32630), (-58.0, -34.5, 32721), (0.001, 0.0, 32631)],
)
def test_default_is_the_utm_zone(lon: float, lat: float, epsg: int) -> None:
    """Without a CRS the grid lies in the UTM zone of the footprint."""
    grid = output_grid(box(lon, lat, lon + 0.1, lat + 0.1), 10)
    assert grid.crs.epsg == epsg


@given(
    lon=st.floats(-170, 169), lat=st.floats(-70, 69), side=st.floats(0.01, 0.3),
    resolution=st.sampled_from([10.0, 20.0, 30.0]),
)  # fmt: skip
def test_grid_lines_are_multiples_of_the_pixel(
    lon: float, lat: float, side: float, resolution: float
) -> None:
    """Neighbouring regions share pixel borders, and the footprint lies inside its grid."""
    footprint = box(lon, lat, lon + side, lat + side)
    grid = output_grid(footprint, resolution)
    assert grid.transform.a == resolution
    assert grid.transform.e == -resolution
    assert grid.transform.c % resolution == 0
    assert grid.transform.f % resolution == 0
    back = grid.extent.to_crs("EPSG:4326", resolution=1000).geom
    assert back.buffer(1e-4).contains(footprint)


def test_explicit_crs() -> None:
    """A CRS that is given is taken, with the resolution in its own units."""
    grid = output_grid(box(15, 48, 15.1, 48.05), 0.001, "EPSG:4326")
    assert grid.crs.epsg == 4326
    assert grid.shape == (50, 100)


def test_inside_is_decided_by_pixel_centres() -> None:
    """A pixel belongs to the region when its centre does."""
    grid = output_grid(box(0, 0, 4, 3), 1.0, "EPSG:4326")
    assert inside(grid, box(0, 0, 2.4, 3)).astype(int).tolist() == [[1, 1, 0, 0]] * 3
    triangle = Polygon([(0, 0), (4, 0), (0, 4)])
    assert inside(output_grid(triangle, 1.0, "EPSG:4326"), triangle).sum() <= 10


def test_a_footprint_in_utm_keeps_its_area() -> None:
    """The mask of a real-sized footprint covers its area to a pixel row."""
    footprint = box(15, 48, 15.1, 48.1)
    grid = output_grid(footprint, 10)
    hectares = np.count_nonzero(inside(grid, footprint)) * 100 / 1e4
    assert hectares == pytest.approx(8290, rel=2e-3)


@pytest.mark.parametrize("resolution", [0, -10, float("nan"), float("inf")])
def test_bad_resolution(resolution: float) -> None:
    """A pixel size that is no size is refused."""
    with pytest.raises(SettingsError, match="pixel size above 0"):
        output_grid(box(15, 48, 15.1, 48.1), resolution)


def test_bad_crs() -> None:
    """A CRS that does not exist is refused by name."""
    with pytest.raises(SettingsError, match="'EPSG:99'"):
        output_grid(box(15, 48, 15.1, 48.1), 10, "EPSG:99")


def test_footprint_outside_the_projection() -> None:
    """A footprint that a CRS cannot show is refused."""
    with pytest.raises(RegionError, match="choose a coarser resolution or another CRS"):
        output_grid(box(10, -90, 11, -89.9), 10, "EPSG:3857")


def test_near_a_pole() -> None:
    """Beyond the UTM zones a CRS must be given, and the message names ones that fit."""
    with pytest.raises(RegionError, match=r"No UTM zone covers latitude 85.*EPSG:3413"):
        output_grid(box(10, 85, 11, 85.1), 10)
    assert output_grid(box(10, 85, 11, 85.1), 10, "EPSG:3413").crs.epsg == 3413
