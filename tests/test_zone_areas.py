"""Hectares of each class in each zone: exact shares times true pixel areas."""

import itertools

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPoint, Polygon, box
from shapely.geometry.base import BaseGeometry

from landcover.area import PixelAreas, class_areas
from landcover.errors import LegendError, RasterError, RegionError
from landcover.legend import LandClass, Legend
from landcover.zone_areas import zone_areas
from landcover.zone_drawing import ZoneDrawing

LEGEND = Legend((LandClass(7, "Water", "#0000ff"), LandClass(2, "Land", "#00ff00")))
HECTARE = GeoBox((3, 3), Affine(100, 0, 1_000_000, 0, -100, 5_000_000), "EPSG:6933")
"""Pixels of 1 ha, equal-area."""
CLASSES = np.array([[7, 7, 2], [7, 2, 2], [0, 2, 2]], np.uint8)


BOUND = "+proj=longlat +ellps=WGS84 +towgs84=0,0,0"
"""A CRS bound to WGS 84, as old files have them."""


def hectares(
    grid: GeoBox,
    classes: np.ndarray,
    zones: list[BaseGeometry],
    crs: str | pyproj.CRS,
    step: int = 512,
) -> np.ndarray:
    """(zones, nodata and classes), read in strips."""
    drawing, areas = ZoneDrawing(pyproj.CRS(crs), grid), PixelAreas(grid)
    strips = ((slice(r, min(r + step, len(classes))), classes[r : r + step]) for r in range(0, len(classes), step))  # fmt: skip
    return areas.hectares(zone_areas(strips, areas, LEGEND, [drawing.covers(z) for z in zones]))


def place(grid: GeoBox, polygon: BaseGeometry) -> BaseGeometry:
    """A polygon in pixel coordinates, moved to where the grid has these pixels."""
    return shapely.transform(
        polygon, lambda xy: np.stack(grid.affine * (xy[:, 0], xy[:, 1]), axis=1)
    )


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (box(0, 0, 3, 3), [1, 3, 5]),
        (Polygon([(0, 0), (3, 0), (0, 3)]), [0.5, 3, 1]),
        (Polygon([(0, 3), (3, 3), (3, 0)]), [0.5, 0, 4]),
        (box(0.5, 0.5, 1.5, 1.5), [0, 0.75, 0.25]),
        (box(1, 1, 9, 9), [0, 0, 4]),
        (box(5, 5, 6, 6), [0, 0, 0]),
    ],
)
def test_by_hand(zone: Polygon, expected: list[float]) -> None:
    """Nodata and classes of a raster of nine hectares, within boxes and triangles."""
    got = hectares(HECTARE, CLASSES, [place(HECTARE, zone)], "EPSG:6933")
    np.testing.assert_allclose(got, [expected], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "turn",
    [
        Affine.scale(1, -1),
        Affine.rotation(30),
        Affine.rotation(200) @ Affine.shear(10),
        Affine.scale(-1, 1),
    ],
)
def test_any_geotransform(turn: Affine) -> None:
    """South-up, rotated, sheared and mirrored grids give the hectares of their pixels."""
    grid = GeoBox((3, 3), HECTARE.affine @ turn, HECTARE.crs)
    zone = place(grid, Polygon([(0, 0), (3, 0), (0, 3)]))
    size = abs(turn.determinant)
    got = hectares(grid, CLASSES, [zone], "EPSG:6933")
    np.testing.assert_allclose(got, [[0.5 * size, 3 * size, size]], rtol=1e-9)


GRIDS = [
    GeoBox((70, 90), Affine(30, 0, 500_000, 0, -30, 6_700_000), "EPSG:32633"),
    GeoBox((70, 90), Affine(30, 5, 500_000, 4, -30, 6_700_000), "EPSG:32633"),
    GeoBox((70, 90), Affine(0.01, 0, 14, 0, -0.02, 61), "EPSG:4326"),
]


@pytest.mark.parametrize("grid", GRIDS)
def test_zones_that_fill_the_raster_sum_to_the_class_table(grid: GeoBox) -> None:
    """Each class has in all zones together what it has in the area table, and so has nodata."""
    rng = np.random.default_rng(0)
    classes = rng.choice(np.array([0, 2, 7], np.uint8), grid.shape, p=[0.1, 0.89, 0.01])
    whole = box(0, 0, grid.shape[1], grid.shape[0])
    points = MultiPoint(rng.uniform(0, 90, (25, 2)))
    cells = shapely.get_parts(shapely.voronoi_polygons(points, extend_to=whole))
    zones = [place(grid, cell.intersection(whole)) for cell in cells]
    table, nodata = class_areas([(slice(0, 70), classes)], PixelAreas(grid), LEGEND)
    got = hectares(grid, classes, zones, grid.crs.proj).sum(axis=0)
    expected = [nodata.area_ha, *(line.area_ha for line in table)]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@settings(deadline=None, max_examples=25)
@given(
    corners=st.lists(st.tuples(st.floats(-20, 110), st.floats(-20, 90)), min_size=3, max_size=6),
    step=st.integers(1, 70),
)
def test_a_zone_has_the_area_of_its_pixels_cut_out(
    corners: list[tuple[float, float]], step: int
) -> None:
    """Any polygon, read in strips of any height: the sum over pixels of cut share times area."""
    grid, zone = GRIDS[0], MultiPoint(corners).convex_hull
    if zone.geom_type != "Polygon":
        return
    classes = np.random.default_rng(1).choice(np.array([0, 2, 7], np.uint8), grid.shape)
    got = hectares(grid, classes, [place(grid, zone)], "EPSG:32633", step)
    assert np.array_equal(got, hectares(grid, classes, [place(grid, zone)], "EPSG:32633"))
    rows, cols = np.indices(grid.shape)
    share = shapely.area(shapely.intersection(zone, shapely.box(cols, rows, cols + 1, rows + 1)))
    weight = share * PixelAreas(grid).rows() / 10_000
    expected = [[weight[classes == code].sum() for code in (0, 7, 2)]]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-8)


def test_zones_may_overlap() -> None:
    """Each zone is measured by itself."""
    zones = [place(HECTARE, box(0, 0, 3, 3)), place(HECTARE, box(0, 0, 1, 1))]
    got = hectares(HECTARE, CLASSES, zones, "EPSG:6933")
    np.testing.assert_allclose(got, [[1, 3, 5], [0, 1, 0]], rtol=1e-9)


def test_sides_are_straight_in_the_crs_of_the_zones() -> None:
    """A box in degrees over UTM pixels has the area of the parallels that bound it, not of chords."""
    grid = GeoBox((2600, 2000), Affine(100, 0, 400_000, 0, -100, 6_800_000), "EPSG:32633")
    zone, classes = box(13.5, 59.5, 16.5, 61), np.full((2600, 2000), 2, np.uint8)
    got = hectares(grid, classes, [zone], "EPSG:4326")
    known = ZoneDrawing(pyproj.CRS("EPSG:4326"), grid).area(zone) / 10_000
    assert got[0, 2] == pytest.approx(known, rel=1e-7)


@pytest.mark.parametrize(
    "crs", ["EPSG:4326", "EPSG:3857", "EPSG:3035", "EPSG:2180", "EPSG:4258", BOUND]
)
def test_zones_of_other_crs_have_their_own_area(crs: str) -> None:
    """Within the raster, the hectares of a zone are those of the zone itself, in any CRS."""
    grid = GeoBox((900, 900), Affine(100, 0, 455_000, 0, -100, 5_640_000), "EPSG:32633")
    way = pyproj.Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    hull = MultiPoint([way.transform(x, y) for x, y in
                       [(470_000, 5_560_000), (540_000, 5_575_000), (500_000, 5_630_000)]]).convex_hull  # fmt: skip
    got = hectares(grid, np.full((900, 900), 2, np.uint8), [hull], crs)
    assert got[0, 2] == pytest.approx(ZoneDrawing(pyproj.CRS(crs), grid).area(hull) / 1e4, rel=1e-6)


def test_across_the_antimeridian() -> None:
    """A zone from 179 to -179 is found in UTM, and in degrees that go on beyond 180, either way written."""
    across = Polygon([(179.2, 10.2), (-179.2, 10.2), (-179.2, 10.8), (179.2, 10.8)])
    parts = shapely.multipolygons([box(179.2, 10.2, 180, 10.8), box(-180, 10.2, -179.2, 10.8)])
    beyond = GeoBox((100, 200), Affine(0.01, 0, 179, 0, -0.01, 11), "EPSG:4326")
    utm = GeoBox((120, 230), Affine(1000, 0, 710_000, 0, -1000, 1_230_000), "EPSG:32660")
    known = ZoneDrawing(pyproj.CRS("EPSG:4326"), utm).area(across) / 1e4
    for grid in (beyond, utm):
        classes = np.full(grid.shape, 7, np.uint8)
        for zone in (across, parts):
            assert hectares(grid, classes, [zone], "EPSG:4326")[0, 1] == pytest.approx(
                known, rel=1e-7
            )


def test_zones_of_utm_over_degrees_beyond_180() -> None:
    """A projected zone over the antimeridian is found in a raster of degrees, hole and all."""
    grid = GeoBox((100, 200), Affine(0.01, 0, 179, 0, -0.01, 11), "EPSG:4326")
    zone = box(740_000, 1_130_000, 900_000, 1_190_000).difference(
        box(840_000, 1_150_000, 850_000, 1_160_000)
    )
    known = ZoneDrawing(pyproj.CRS("EPSG:32660"), grid).area(zone) / 1e4
    got = hectares(grid, np.full(grid.shape, 7, np.uint8), [zone], "EPSG:32660")
    assert got[0, 1] == pytest.approx(known, rel=1e-6)


def test_a_country_round_the_earth_is_cut_to_the_raster() -> None:
    """A zone most of which has no place in the raster's CRS is measured where the raster is."""
    grid = GRIDS[0]
    world = box(-180, -90, 180, 90)
    got = hectares(grid, np.full(grid.shape, 2, np.uint8), [world], "EPSG:4326")
    assert got[0, 2] == pytest.approx(PixelAreas(grid).rows().sum() / 1e4, rel=1e-12)


def test_around_a_pole() -> None:
    """A cap in degrees, closed along the pole, has its area in a polar grid; so has one drawn round it."""
    grid = GeoBox((600, 600), Affine(5000, 0, -1.5e6, 0, -5000, 1.5e6), "EPSG:3031")
    classes = np.full(grid.shape, 2, np.uint8)
    cap = box(-180, -90, 180, -80)
    known = ZoneDrawing(pyproj.CRS("EPSG:4326"), grid).area(cap) / 1e4
    assert hectares(grid, classes, [cap], "EPSG:4326")[0, 2] == pytest.approx(known, rel=1e-6)
    round_it = shapely.Point(0, 0).buffer(1e6)
    known = ZoneDrawing(pyproj.CRS("EPSG:3031"), grid).area(round_it) / 1e4
    assert hectares(grid, classes, [round_it], "EPSG:3031")[0, 2] == pytest.approx(known, rel=1e-6)


def test_a_pole_in_a_grid_of_degrees_is_refused() -> None:
    """A projected zone round a pole cannot be unrolled into degrees, and is told so."""
    grid = GeoBox((20, 720), Affine(0.5, 0, -180, 0, -0.5, -80), "EPSG:4326")
    with pytest.raises(RegionError, match="round a pole"):
        ZoneDrawing(pyproj.CRS("EPSG:3031"), grid).covers(shapely.Point(0, 0).buffer(5e5))


def test_codes_without_a_class_are_refused() -> None:
    """A code that the legend lacks is an error, as in the area table."""
    with pytest.raises(LegendError, match=r"holds the codes \[9\]"):
        hectares(HECTARE, np.full((3, 3), 9, np.uint8), [box(0, 0, 1, 1)], "EPSG:6933")


def test_pixels_off_the_earth_are_refused_where_they_have_a_class() -> None:
    """Nodata off the Earth counts for nothing, a class there is an error."""
    grid = GeoBox((10, 10), Affine(4e6, 0, -2e7, 0, -2e6, 1e7), "+proj=moll +datum=WGS84")
    zone = box(-2e7, -1e7, 2e7, 1e7)
    with pytest.raises(RasterError, match="no place on the Earth"):
        hectares(grid, np.full((10, 10), 2, np.uint8), [zone], grid.crs.proj)
    assert hectares(grid, np.zeros((10, 10), np.uint8), [zone], grid.crs.proj)[0, 1:].sum() == 0


def test_a_zone_that_cannot_be_drawn_is_refused() -> None:
    """Coordinates that are no degrees are an error, never a zone somewhere else."""
    drawing = ZoneDrawing(pyproj.CRS("EPSG:4326"), GRIDS[0])
    with pytest.raises(RegionError, match="not on the Earth"):
        drawing.covers(box(500_000, 6_600_000, 600_000, 6_700_000))


def test_many_zones_in_any_order() -> None:
    """The order of zones does not matter, nor that some have the same place."""
    cells = [
        place(HECTARE, box(c, r, c + 1, r + 1)) for r, c in itertools.product(range(3), range(3))
    ]
    got = hectares(HECTARE, CLASSES, cells, "EPSG:6933")
    again = hectares(HECTARE, CLASSES, cells[::-1] + cells, "EPSG:6933")
    assert np.array_equal(again, np.concatenate([got[::-1], got]))
    columns = [[0, 7, 2].index(code) for code in CLASSES.ravel()]
    np.testing.assert_allclose(got, np.eye(3)[columns], rtol=1e-9)
