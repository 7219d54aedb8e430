"""Areas of pixels are true on the ellipsoid, and add up the same however the raster is cut."""

import itertools

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from landcover.area import PixelAreas, Tally, class_areas, class_table, ground_size, pixel_areas
from landcover.errors import LegendError, RasterError
from landcover.legend import LandClass, Legend

LEGEND = Legend((LandClass(2, "Water", "#0000ff"), LandClass(1, "Land", "#00ff00")))
GOODE = "+proj=igh +datum=WGS84"
"""Goode's homolosine: an interrupted map of the world."""


def geod_area(grid: GeoBox, row: int, col: int, steps: int = 64) -> float:
    """Area of a pixel by Karney's geodesic polygon, its ring densified: square metres."""
    t = np.linspace(0, 1, steps, endpoint=False)
    cols = np.concatenate([col + t, col + 1 + 0 * t, col + 1 - t, col + 0 * t])
    rows = np.concatenate([row + 0 * t, row + t, row + 1 + 0 * t, row + 1 - t])
    crs = grid.crs.proj
    inverse = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    degrees = np.degrees(crs.geodetic_crs.axis_info[0].unit_conversion_factor)
    lon, lat = np.array(inverse.transform(*(grid.affine * (cols, rows)))) * degrees
    return abs(crs.get_geod().polygon_area_perimeter(lon, lat)[0])


def grid_at(crs: str, lon: float, lat: float, size: float, angle: float = 0, n: int = 60) -> GeoBox:
    """Grid of n x n pixels whose top-left corner is at a place; size in units of the CRS."""
    forward = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    origin = Affine.translation(*forward.transform(lon, lat))
    return GeoBox((n, n), origin * Affine.rotation(angle) * Affine.scale(size, -size), CRS(crs))


def test_one_degree_at_the_equator_has_the_area_of_the_zone_formula():
    """A 1 degree cell at the equator is 12,308.46 km2 (Snyder 1987, eq. 3-12, by hand)."""
    e = np.sqrt(0.00669437999014)
    s = np.sin(np.radians(1))
    q = (1 - e**2) * (s / (1 - e**2 * s**2) - np.log((1 - e * s) / (1 + e * s)) / (2 * e))
    by_hand = 6378137.0**2 * np.radians(1) * q / 2
    area = pixel_areas(GeoBox((1, 1), Affine(1, 0, 0, 0, -1, 1), "EPSG:4326"))[0, 0]
    assert area == pytest.approx(by_hand, rel=1e-13)
    assert area == pytest.approx(12_308.46e6, rel=1e-6)


def test_a_world_of_degrees_has_the_area_of_the_ellipsoid():
    """All pixels of a world grid sum to 510,065,621.7 km2, the surface of WGS 84."""
    areas = pixel_areas(GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326"))
    assert areas.sum() == pytest.approx(510_065_621.724e6, rel=1e-11)


@pytest.mark.parametrize("angle", [0, 30])
@pytest.mark.parametrize("lat", [0, 45, 60, 80])
@pytest.mark.parametrize(
    "crs", ["EPSG:4326", "EPSG:3857", "EPSG:32633", "EPSG:6933", "+proj=laea +lon_0=15 +lat_0={}"]
)
def test_pixels_have_their_geodesic_area(crs: str, lat: float, angle: float):
    """At any latitude, in any CRS, rotated or not, a pixel has its area on the ellipsoid."""
    size = 0.01 if crs == "EPSG:4326" else 1000.0
    grid = grid_at(crs.format(lat), 15.5, lat, size, angle)
    areas = pixel_areas(grid)
    for row, col in ((0, 0), (20, 40), (59, 59)):
        assert areas[row, col] == pytest.approx(geod_area(grid, row, col), rel=1e-8)


@pytest.mark.parametrize(
    ("crs", "lon", "lat", "size"),
    [
        ("EPSG:2263", -74, 40.5, 3000),  # US survey feet
        ("EPSG:27572", 2.5, 46.8, 1000),  # latitudes in grads, from Paris
        ("EPSG:3995", 0, 89.9, 1000),  # across the pole
        ("EPSG:3031", 180, -75, 1000),  # along the antimeridian
        ("EPSG:32660", 179.9, 10, 1000),  # across it
        ("EPSG:3035", 10, 52, 50_000),  # pixels larger than a panel
        ("+proj=moll +datum=WGS84", 100, 50, 20_000),
    ],
)
def test_odd_units_and_places_make_no_difference(crs: str, lon: float, lat: float, size: float):
    """Feet, grads, poles, the antimeridian and very large pixels give true areas."""
    grid = grid_at(crs, lon, lat, size, n=30)
    areas = pixel_areas(grid)
    for row, col in ((0, 0), (11, 17), (29, 29)):
        assert areas[row, col] == pytest.approx(geod_area(grid, row, col, 2000), rel=1e-6)


def test_small_pixels_of_a_large_raster_add_up():
    """10 m pixels of UTM sum to the geodesic area of the block that they tile."""
    fine = grid_at("EPSG:32633", 17.5, 60, 10, n=2000)
    block = GeoBox((1, 1), fine.affine * Affine.scale(2000), fine.crs)
    assert pixel_areas(fine).sum() == pytest.approx(geod_area(block, 0, 0, 4000), rel=1e-9)


def test_interrupted_projections_are_computed_pixel_by_pixel():
    """Beside the cut of an interrupted world map, pixels still have their geodesic area."""
    x, y = pyproj.Transformer.from_crs("EPSG:4326", GOODE, always_xy=True).transform(-40.0, 30.0)
    grid = GeoBox((20, 1200), Affine(5000, 0, x - 3e6, 0, -5000, y), CRS(GOODE))
    areas = pixel_areas(grid)
    assert np.isnan(areas[10, 620:960]).all()  # between the lobes
    for row, col in ((3, 10), (10, 590), (10, 598), (3, 1010), (19, 1199)):
        assert areas[row, col] == pytest.approx(geod_area(grid, row, col), rel=1e-6)


def test_web_mercator_doubles_areas_at_45_degrees():
    """A 10 m pixel of Web Mercator at 45 degrees north covers about 50 m2, not 100."""
    areas = pixel_areas(grid_at("EPSG:3857", 9, 45, 10))
    assert areas == pytest.approx(50, rel=0.01)


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(1, 299), max_size=4), angle=st.sampled_from([0, 20]))
def test_row_slices_are_parts_of_the_whole(cuts: list[int], angle: float):
    """Any cutting into row slices gives the same areas to the last bit."""
    grid = grid_at("EPSG:32633", 17, 60, 700, angle, n=300)
    areas = PixelAreas(grid)
    edges = sorted({0, *cuts, 300})
    parts = [areas.rows(slice(*edge)) for edge in itertools.pairwise(edges)]
    assert np.concatenate(parts).tobytes() == pixel_areas(grid).tobytes()


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 61), seed=st.integers(0, 9))
def test_the_table_does_not_depend_on_the_strips(height: int, seed: int):
    """Strips of any height, in any order, give the same table to the last bit."""
    grid = grid_at("EPSG:32633", 16, 50, 30)
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, grid.shape).astype(np.uint8)
    strips = [slice(top, min(top + height, 60)) for top in range(0, 60, height)]
    rng.shuffle(strips)
    whole = class_areas([(slice(0, 60), classes)], PixelAreas(grid), LEGEND)
    assert class_areas(((s, classes[s]) for s in strips), PixelAreas(grid), LEGEND) == whole


def test_classes_in_an_equal_area_grid_have_whole_hectares():
    """100 m pixels of an equal-area CRS are 1 ha each: 3 of water, 1 of land, 2 without data."""
    grid = grid_at("EPSG:6933", 10, 45, 100)[:2, :3]
    classes = np.array([[2, 2, 0], [1, 2, 0]], np.uint8)
    (water, land), nodata = class_areas([(slice(0, 2), classes)], PixelAreas(grid), LEGEND)
    assert (water.class_code, water.class_name, water.pixels) == (2, "Water", 3)
    assert (land.class_code, land.class_name, land.pixels) == (1, "Land", 1)
    assert [water.area_ha, land.area_ha, nodata.area_ha] == pytest.approx([3, 1, 2], rel=1e-9)
    assert [water.share_percent, land.share_percent] == pytest.approx([75, 25], rel=1e-9)
    assert nodata.share_percent == pytest.approx(100 / 3, rel=1e-9)


def test_an_empty_map_has_classes_of_no_area():
    """Where nothing is classified, every class has a line with zero, and no division fails."""
    grid = grid_at("EPSG:32633", 16, 50, 10, n=4)
    table, nodata = class_areas(
        [(slice(0, 4), np.zeros((4, 4), np.uint8))], PixelAreas(grid), LEGEND
    )
    assert [(c.area_ha, c.share_percent, c.pixels) for c in table] == [(0, 0, 0)] * 2
    assert nodata.share_percent == 100


def test_sums_are_exact():
    """Units of a large raster are below 2^62 in sum and fine enough for one part in 10^9."""
    areas = PixelAreas(grid_at("EPSG:32633", 16, 50, 10, n=8192))
    units = areas.units(slice(0, 1))
    assert (units * areas.quantum) == pytest.approx(areas.rows(slice(0, 1)), rel=1e-9)
    assert int(units.max()) * 8192**2 < 2**62


def test_a_code_outside_the_legend_is_refused():
    """Classes that the legend does not know are named in the error."""
    tally = Tally.zeros(256)
    tally.add(np.array([[7, 1]], np.uint8), np.ones((1, 2), np.int64))
    areas = PixelAreas(grid_at("EPSG:32633", 16, 50, 10, n=2))
    with pytest.raises(LegendError, match=r"codes \[7\]"):
        class_table(tally, areas, LEGEND)


def test_pixels_off_the_earth_have_no_area():
    """Outside the world's outline areas are not a number; only nodata may lie there."""
    view = CRS("+proj=ortho +lat_0=40 +datum=WGS84")
    areas = PixelAreas(GeoBox((40, 80), Affine(2e5, 0, -8e6, 0, -2e5, 4e6), view))
    off = np.isnan(areas.rows())
    assert off[0, 0]
    assert not off[20, 40]
    class_areas([(slice(0, 40), np.where(off, 0, 1).astype(np.uint8))], areas, LEGEND)
    with pytest.raises(RasterError, match="no place on the Earth"):
        class_areas([(slice(0, 40), np.ones((40, 80), np.uint8))], areas, LEGEND)


@pytest.mark.parametrize("crs", [None, CRS('LOCAL_CS["drawing",UNIT["metre",1]]')])
def test_a_grid_without_a_place_is_refused(crs: CRS | None):
    """Without a CRS, or with one that is not tied to the Earth, there are no areas."""
    with pytest.raises(RasterError, match="CRS"):
        PixelAreas(GeoBox((2, 2), Affine.scale(10), crs))


def test_ground_size_of_a_pixel() -> None:
    """Metres on the ground, in metres or in degrees."""
    metres = GeoBox((40, 60), Affine(10, 0, 500_000, 0, -10, 5_300_000), "EPSG:32633")
    assert ground_size(metres) == pytest.approx(10, rel=1e-3)
    degrees = GeoBox((10, 10), Affine(1e-4, 0, 10, 0, -1e-4, 60), "EPSG:4326")
    assert ground_size(degrees) == pytest.approx(11.14 * 0.5**0.5, rel=0.01)
