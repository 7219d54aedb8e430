"""Footprints drawn in a grid's CRS, and grids drawn in degrees."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import MultiPolygon, box

from landcover.errors import RasterError, RegionError
from landcover.outline import Outline, grid_outline, longitudes


def test_sides_of_a_square_by_hand() -> None:
    """In degrees the sides stay where they are, cut into quarters of a degree, lower end first."""
    outline = Outline.draw(box(0, 0, 0.5, 0.25), CRS("EPSG:4326"), 1e-6)
    assert sorted(outline.sides.tolist()) == [
        [0, 0, 0, 0.25], [0, 0, 0.25, 0], [0, 0.25, 0.25, 0.25],
        [0.25, 0, 0.5, 0], [0.25, 0.25, 0.5, 0.25], [0.5, 0, 0.5, 0.25],
    ]  # fmt: skip
    assert outline.bounds == (0, 0, 0.5, 0.25)


@given(
    lon=st.floats(9, 14), lat=st.floats(-75, 74), width=st.floats(0.01, 5), height=st.floats(0.01, 5),
    crs=st.sampled_from(["EPSG:32633", "EPSG:3857", "EPSG:6933", "+proj=laea +lon_0=12"]),
    tolerance=st.sampled_from([0.1, 10.0, 300.0]),
)  # fmt: skip
def test_no_side_strays_from_its_curve(
    lon: float, lat: float, width: float, height: float, crs: str, tolerance: float
) -> None:
    """Points along the border in degrees lie as near to the drawn sides as was asked."""
    footprint = box(lon, lat, lon + width, lat + height)
    outline = Outline.draw(footprint, CRS(crs), tolerance)
    drawn = shapely.union_all(shapely.linestrings(outline.sides.reshape(-1, 2, 2)))
    border = shapely.line_interpolate_point(
        footprint.exterior, np.linspace(0, 1, 200), normalized=True
    )
    to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    points = shapely.points(*to_crs.transform(shapely.get_x(border), shapely.get_y(border)))
    assert shapely.distance(points, drawn).max() < 1.01 * tolerance + 1e-6


def test_a_side_that_bends_both_ways() -> None:
    """Across the equator and the central meridian at once a curve crosses its chord in the middle."""
    footprint = shapely.Polygon([(12, -3), (18, 3), (18, -3)])
    outline = Outline.draw(footprint, CRS("EPSG:32633"), 0.1)
    drawn = shapely.union_all(shapely.linestrings(outline.sides.reshape(-1, 2, 2)))
    t = np.linspace(0, 1, 5000)
    to_crs = Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True)
    points = shapely.points(*to_crs.transform(12 + 6 * t, -3 + 6 * t))
    assert shapely.distance(points, drawn).max() < 0.12


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857"])
def test_a_place_that_a_crs_lacks(crs: str) -> None:
    """What lies a quarter turn away, or at infinity, is refused."""
    with pytest.raises(RegionError, match=f"cannot be drawn in {crs}"):
        Outline.draw(box(104, -90, 106, 10), CRS(crs), 1)


def test_the_shortest_stretch_of_longitudes() -> None:
    """Two parts on either side of the antimeridian are near each other, not the world apart."""
    fiji = MultiPolygon([box(179.95, -17, 180, -16), box(-180, -17, -179.95, -16)])
    assert longitudes(box(10, 0, 20, 1)) == (10, 20)
    assert longitudes(fiji) == (179.95, 180.05)
    assert longitudes(box(-180, 0, 180, 1)) == (-180, 180)
    assert longitudes(MultiPolygon([box(-30, 0, -20, 1), box(30, 0, 40, 1)])) == (-30, 40)
    assert longitudes(MultiPolygon([box(-101, 0, -100, 1), box(100, 0, 101, 1)])) == (100, 260)


@pytest.mark.parametrize(
    ("grid", "bounds", "parts"),
    [
        (GeoBox((10, 20), Affine(0.1, 0, 15, 0, -0.1, 48), "EPSG:4326"), (15, 47, 17, 48), 1),
        (GeoBox((10, 20), Affine(0.1, 0, 179, 0, -0.1, 48), "EPSG:4326"), (-180, 47, 180, 48), 2),
        (GeoBox((10, 20), Affine(0.1, 0, 190, 0, -0.1, 48), "EPSG:4326"), (-170, 47, -168, 48), 1),
        (GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326"), (-180, -90, 180, 90), 1),
        (GeoBox((181, 360), Affine(1, 0, -180, 0, -1, 90.5), "EPSG:4326"), (-180, -90, 180, 90), 1),
        (GeoBox((20, 20), Affine(1e4, 0, -1e5, 0, -1e4, 1e5), "EPSG:6931"), (-180, 88.7334, 180, 90), 1),
        (GeoBox((20, 20), Affine(1e4, 0, -1e5, 0, -1e4, 1e5), "EPSG:6932"), (-180, -90, 180, -88.7334), 1),
    ],
    ids=["plain", "across 180", "beyond 180", "the world", "pixel centres on the poles", "north", "south"],
)  # fmt: skip
def test_the_outline_of_a_grid(
    grid: GeoBox, bounds: tuple[float, float, float, float], parts: int
) -> None:
    """By hand: split at the antimeridian, moved by a turn, closed along the pole."""
    outline = grid_outline(grid)
    assert outline.is_valid
    assert outline.bounds == pytest.approx(bounds, abs=1e-3)
    assert shapely.get_num_geometries(outline) == parts


@pytest.mark.parametrize("crs", [None, "EPSG:2180"])
def test_a_grid_that_is_not_on_the_earth(crs: str | None) -> None:
    """Without a CRS, or where it has no places, a grid has no outline."""
    with pytest.raises(RasterError, match="CRS"):
        grid_outline(GeoBox((2, 2), Affine(1e9, 0, 1e9, 0, -1e9, 1e9), crs))
