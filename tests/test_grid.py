"""The output grid of a region."""

import time

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Proj, Transformer
from rasterio.features import geometry_mask
from scipy.ndimage import label
from shapely.geometry import MultiPoint, MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from landcover.area import pixel_areas
from landcover.errors import RegionError, SettingsError
from landcover.grid import best_crs, inside, native_grid, output_grid
from landcover.outline import crs_name


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


def halves(west: float, south: float, east: float, north: float) -> MultiPolygon:
    """A box across the antimeridian."""
    return MultiPolygon([box(west, south, 180, north), box(-180, south, east, north)])


def geodesic_area(footprint: BaseGeometry) -> float:
    """Square metres of polygons whose sides are straight in degrees: geodesics between near points."""
    parts = shapely.orient_polygons(shapely.get_parts(footprint.segmentize(0.005)))
    return sum(Geod(ellps="WGS84").geometry_area_perimeter(part)[0] for part in parts)


FIJI = halves(179.95, -16.9, -179.95, -16.8)


@pytest.mark.parametrize(
    ("footprint", "crs"),
    [
        (box(11.01, 47, 18.99, 48), "EPSG:32633"),  # within 4 degrees of 15 E
        (box(0, 45, 14, 47), "Lambert azimuthal equal-area at 46 N 7 E"),  # three zones
        (box(10.9, 47, 18.99, 48), "Lambert azimuthal equal-area at 48 N 15 E"),  # 4.1 degrees off
        (box(11.96, 47, 12.06, 47.1), "EPSG:32633"),  # two zones, by the middle
        (box(10, -0.05, 10.1, 0.05), "EPSG:32632"),
        (box(10, -0.06, 10.1, 0.04), "EPSG:32732"),
        (FIJI, "EPSG:32701"),
        (halves(178.9, -17, -179.9, -16), "EPSG:32760"),
        (halves(172, 50, -172, 60), "Lambert azimuthal equal-area at 55 N 180 W"),
        (MultiPolygon([box(-100, 40, -99, 41), box(100, 40, 101, 41)]),
         "Lambert azimuthal equal-area at 40 N 180 W"),
        (box(10, 83.9, 11, 84), "EPSG:32632"),
        (box(10, 84, 11, 84.1), "EPSG:6931"),
        (box(-180, 88, 180, 90), "EPSG:6931"),
        (box(0, -80.1, 1, -80), "EPSG:6932"),
        (box(-180, -90, 180, -85), "EPSG:6932"),
        (box(-10, 30, 30, 86), "Lambert azimuthal equal-area at 58 N 10 E"),  # not near the pole
        (box(-179, 8, -178.9, 8.1), "EPSG:32601"),
        (box(-180, -90, 180, 90), "EPSG:6933"),
        (box(-180, 40, 180, 90), "EPSG:6931"),
        (box(-120, -80, 100, -35), "EPSG:6932"),
    ],
)  # fmt: skip
def test_the_crs_by_rule(footprint: BaseGeometry, crs: str) -> None:
    """UTM where all is near the zone's middle; equal-area grids for wide and for polar footprints."""
    assert crs_name(best_crs(footprint)) == crs


def test_the_scale_of_utm_at_its_limit() -> None:
    """Four degrees from the central meridian lengths are off by 0.2 % at most, areas by 0.4 %."""
    projection = Proj("EPSG:32633")
    factors = projection.get_factors(np.full(9, 19.0), np.linspace(-80, 80, 9))
    assert np.abs(factors.meridional_scale - 1).max() < 2.1e-3
    assert np.abs(factors.areal_scale - 1).max() < 4.2e-3


def test_an_equal_area_grid_does_not_move_with_a_detail() -> None:
    """A dent in the border leaves CRS and pixel borders as they are, so both maps fit together."""
    one = output_grid(box(0, 45, 14, 47), 100)
    dented = output_grid(box(0, 45, 14, 47) - box(-1, 45.9, 0.1, 46), 100)
    other = output_grid(box(0.01, 45.1, 14, 47), 100)
    assert one == dented
    assert one.crs == other.crs
    shift = ~one.affine * (other.affine.c, other.affine.f)
    assert shift == pytest.approx([round(value) for value in shift], abs=1e-9)


@pytest.mark.parametrize(
    ("footprint", "resolution", "crs", "pixels"),
    [
        (FIJI, 10, None, 1.2e6),
        (FIJI, 0.0001, "EPSG:4326", 1e6),
        (FIJI, 10, "EPSG:3832", 1.3e6),
        (box(10, 85, 11, 85.1), 10, None, 1.1e6),
        (box(0, 45, 14, 47), 200, None, 6e6),
        (box(10, -0.05, 10.1, 0.05), 10, None, 1.2e6),
        (box(-180, 88, 180, 90), 200, None, 3.9e6),
        (box(-180, -90, 180, -88), 200, "EPSG:3031", 4e6),
        (halves(172, 50, -172, 60), 1000, None, 1.2e6),
        (box(-10, 30, 30, 86), 2000, None, 3e6),
    ],
)  # fmt: skip
def test_the_mask_has_the_area_of_the_footprint(
    footprint: BaseGeometry, resolution: float, crs: str | None, pixels: float
) -> None:
    """Wherever it lies, the pixels inside cover the footprint's area on the ellipsoid."""
    grid = output_grid(footprint, resolution, crs)
    keep = inside(grid, footprint)
    assert pixels / 2 < keep.sum() < 2 * pixels
    expected = geodesic_area(footprint)
    cut = np.diff(keep, axis=0).sum() + np.diff(keep, axis=1).sum() + 2 * sum(grid.shape)
    half = expected / keep.sum() / 2  # of a pixel is what each cut pixel may be off by
    assert pixel_areas(grid)[keep].sum() == pytest.approx(expected, abs=cut * half)
    assert keep[0].any() or keep[1].any()  # the grid is no larger than needed
    assert keep[:, 0].any() or keep[:, 1].any()


def test_the_mask_of_the_world() -> None:
    """An equal-area grid of it holds the Earth: 510,065,622 square kilometres on WGS 84."""
    world = box(-180, -90, 180, 90)
    pixels = inside(output_grid(world, 50_000), world).sum()
    assert pixels * 50**2 == pytest.approx(510_065_622, rel=3e-3)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:6933"])
def test_a_crs_that_is_cut_at_the_antimeridian(crs: str) -> None:
    """Such a CRS would give a grid around the Earth; it is refused where the footprint crosses."""
    with pytest.raises(RegionError, match=f"crosses the 180 degree meridian, where {crs} is cut"):
        output_grid(FIJI, 10, crs)
    assert output_grid(box(-180, -60, 180, 60), 100_000, crs).shape[1] > 300


@pytest.mark.parametrize(
    ("footprint", "crs"),
    [
        (box(-180, -89, 180, 89), "EPSG:3035"),  # holds the antipode of the centre
        (box(-175, -60, -160, -40), "EPSG:3035"),  # the antipode itself: an inside out ring
        (
            box(100, -20, 110, 30),
            "EPSG:2180",
        ),  # a transverse Mercator of Poland, a quarter turn away
        (box(-40, 50, -20, 60), "EPSG:3832"),  # a Mercator that is cut at 30 W
    ],
)
def test_a_footprint_that_a_crs_tears_apart(footprint: BaseGeometry, crs: str | None) -> None:
    """A CRS without a place for a part of the border, or with two, is refused."""
    with pytest.raises(RegionError, match=r"cannot be drawn in .*; choose another CRS"):
        output_grid(footprint, 5000, crs)


@given(
    top=st.integers(0, 40), left=st.integers(0, 40), rows=st.integers(1, 30), cols=st.integers(1, 30),
    seed=st.integers(0, 100),
)  # fmt: skip
def test_a_block_sees_its_part_of_the_mask(
    top: int, left: int, rows: int, cols: int, seed: int
) -> None:
    """However a raster is cut, the blocks' masks are parts of the whole mask."""
    rng = np.random.default_rng(seed)
    turn = np.sort(rng.uniform(0, 2 * np.pi, 12))
    star = shapely.convex_hull(MultiPoint(np.c_[np.cos(turn), np.sin(turn)] * 0.02 + [15, 48]))
    grid = output_grid(star, 100)
    block = np.s_[top : top + rows, left : left + cols]
    whole = inside(grid, star)
    assert np.array_equal(inside(grid.pad(50)[50 + top : 50 + top + rows, 50 + left : 50 + left + cols], star)[: whole[block].shape[0], : whole[block].shape[1]], whole[block])  # fmt: skip


def test_the_mask_is_that_of_gdal() -> None:
    """A star of 20,000 points with a hole: every pixel as GDAL's rasteriser has it."""
    turn = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    reach = 0.1 + 0.02 * np.sin(40 * turn)
    star = Polygon(np.c_[15 + reach * np.cos(turn), 48 + reach * np.sin(turn)]) - box(15, 48, 15.01, 48.02)  # fmt: skip
    grid = output_grid(star, 10)
    to_grid = Transformer.from_crs(4326, 32633, always_xy=True)
    drawn = shapely.transform(star.segmentize(1e-4), lambda xy: np.c_[to_grid.transform(*xy.T)])
    expected = geometry_mask([drawn], out_shape=grid.shape, transform=grid.affine, invert=True)
    assert np.array_equal(inside(grid, star), expected)


def test_blocks_of_a_detailed_footprint_are_quick() -> None:
    """100,000 vertices are drawn once: each further block takes milliseconds, not a tenth of a second."""
    turn = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    disc = Polygon(np.c_[15 + np.cos(turn), 48 + np.sin(turn)])
    grid = output_grid(disc, 10)
    inside(grid[:1, :1], disc)
    started = time.process_time()
    for top in range(0, 10_240, 512):
        inside(grid[top : top + 512, 4000:5024], disc)
    assert time.process_time() - started < 20 * 0.1


@pytest.mark.parametrize(
    ("footprint", "resolution"),
    [
        (FIJI, 10),
        (halves(172, 50, -172, 60), 1000),
        (box(-180, 88, 180, 90), 200),
        (box(-180, -90, 180, -88), 200),
    ],
)
def test_the_mask_has_no_seam(footprint: BaseGeometry, resolution: float) -> None:
    """Where the parts meet at the antimeridian, and at a pole, the mask is whole and has no hole."""
    keep = inside(output_grid(footprint, resolution), footprint)
    assert label(keep)[1] == 1
    assert label(~np.pad(keep, 1))[1] == 1


def test_two_parts_that_touch_share_no_pixel() -> None:
    """A footprint and its two halves: each pixel is in just one of them, seam and all."""
    whole, left, right = box(0, 0, 4, 4), box(0, 0, 1.5, 4), box(1.5, 0, 4, 4)
    grid = output_grid(whole, 1.0, "EPSG:4326")
    assert inside(grid, left).sum() + inside(grid, right).sum() == 16
    assert not (inside(grid, left) & inside(grid, right)).any()
    assert inside(grid, MultiPolygon([left, right])).all()


def test_grids_that_are_turned_or_upside_down() -> None:
    """The mask follows any geotransform: mirrored and rotated grids show the same place."""
    triangle = Polygon([(0, 0), (3.9, 0), (0, 3.7)])
    grid = output_grid(box(0, 0, 4, 4), 0.25, "EPSG:4326")
    usual = inside(grid, triangle)
    upside_down = GeoBox(grid.shape, Affine(0.25, 0, 0, 0, 0.25, 0), "EPSG:4326")
    assert np.array_equal(inside(upside_down, triangle), usual[::-1])
    turned = GeoBox(grid.shape, Affine(0, 0.25, 0, -0.25, 0, 4), "EPSG:4326")  # columns go south
    assert np.array_equal(inside(turned, triangle), usual.T)


DEGREES = GeoBox((50, 100), Affine(2e-4, 0, 15.00003, 0, -1e-4, 48.00007), "EPSG:4326")


def test_the_native_grid_of_an_image_over_itself() -> None:
    """Over its own outline an image keeps its grid, oblong pixels and odd corner included."""
    assert native_grid(DEGREES.extent.geom, DEGREES) == DEGREES


def test_the_native_grid_goes_on_beyond_the_image_and_stops_short_of_it() -> None:
    """It covers the footprint, with pixels that are the image's: by hand on 2 x 1 degree pixels."""
    image = GeoBox((4, 4), Affine(2, 0, 10, 0, -1, 50), "EPSG:4326")
    grid = native_grid(box(13, 47.2, 21.4, 51.9), image)
    assert grid.affine == Affine(2, 0, 12, 0, -1, 52)  # 12..14 has its centre on the border
    assert grid.shape == (5, 5)
    tiny = native_grid(box(12.1, 48.1, 12.2, 48.2), image)
    assert tiny.shape == (1, 1)


@pytest.mark.parametrize("mirrored", [Affine(2, 0, 10, 0, 1, 46), Affine(-2, 0, 18, 0, -1, 50)])
def test_the_native_grid_of_a_mirrored_image_is_upright(mirrored: Affine) -> None:
    """South-up and right-to-left images give the same pixels, in the usual order."""
    image = GeoBox((4, 4), mirrored, "EPSG:4326")
    assert native_grid(box(10, 46, 18, 50), image).affine == Affine(2, 0, 10, 0, -1, 50)


@pytest.mark.parametrize("corner", [179.9, -180.1])
def test_the_native_grid_across_the_antimeridian(corner: float) -> None:
    """An image in degrees that goes on beyond 180 keeps its grid, and its mask is whole."""
    image = GeoBox((20, 20), Affine(0.01, 0, corner, 0, -0.01, -16.8), "EPSG:4326")
    footprint = halves(179.9, -17, -179.9, -16.8)
    grid = native_grid(footprint, image)
    assert grid.shape == (20, 20)
    assert grid.affine.almost_equals(image.affine, 1e-9)
    assert inside(grid, footprint).all()
