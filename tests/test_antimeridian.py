"""Footprints near the 180 degree meridian and the poles mean the place that they are of."""

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Point, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from landcover.antimeridian import lonlat_bounds, near_grid, split_at_antimeridian
from landcover.errors import RegionError

SPLIT = MultiPolygon([box(179, -18, 180, -17), box(-180, -18, -179, -17)])
WRONG_WAY = Polygon([(179, -18), (-179, -18), (-179, -17), (179, -17)])


def test_longitudes_are_turned_to_a_grid() -> None:
    """By whole turns, where they are longitudes; what is near keeps its bits, what is infinite has no place."""
    x = np.array([-179.9, 179.9, 0.1, np.inf])
    for west, crs, expected in (
        (179, "EPSG:4326", [180.1, 179.9, 0.1]),
        (-181, "EPSG:4326", [-179.9, -180.1, -359.9]),
        (179, "EPSG:32660", [-179.9, 179.9, 0.1]),
        (198.9, "EPSG:4807", [220.1, 179.9, 0.1]),
    ):
        turned = near_grid(x, GeoBox((2, 2), Affine(1, 0, west, 0, -1, 1), crs))
        assert turned[:3] == pytest.approx(expected)
        assert not np.isfinite(turned[3])
    near = near_grid(x[1:2], GeoBox((2, 2), Affine(1, 0, 179, 0, -1, 1), "EPSG:4326"))
    assert near.tolist() == [179.9]


@pytest.mark.parametrize(
    "geometry",
    [
        WRONG_WAY,
        Polygon([(179, -18, 5), (-179, -18, 5), (-179, -17, 5), (179, -17, 5)]),
        Polygon([(179, -18), (180, -18), (-180, -18), (-179, -18), (-179, -17), (179, -17)]),
        box(179, -18, 181, -17),
        box(-181, -18, -179, -17),
        box(539, -18, 540, -17).union(box(-181, -18, -180, -17)).union(SPLIT),
        MultiPolygon([WRONG_WAY]),
    ],
)
def test_every_way_to_write_it_means_the_same_two_parts(geometry: BaseGeometry):
    """179 to -179 unsplit, longitudes beyond 180 on either side, with heights or as a multipolygon."""
    placed = split_at_antimeridian(geometry)
    assert placed.equals(SPLIT)
    assert lonlat_bounds(placed) == (179, -18, -179, -17)


@pytest.mark.parametrize(
    "geometry",
    [
        SPLIT,
        box(2, 3, 4, 5),
        box(-180, -90, 180, 90),
        box(-180, -90, 180, -60),
        box(-170, -80, 170, 80),
        box(-80, 10, 100, 20),
        Point(179.5, 3),
        Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]),
    ],
)
def test_what_is_right_stays_the_same_object(geometry: BaseGeometry):
    """Split footprints, the whole Earth, one ice cap, half the Earth, points and bow ties stay."""
    assert split_at_antimeridian(geometry) is geometry


def test_bounds_run_eastwards():
    """Only what lies on both sides of the antimeridian has its west greater than its east."""
    assert lonlat_bounds(box(2, 3, 4, 5)) == (2, 3, 4, 5)
    assert lonlat_bounds(box(-180, -90, 180, 90)) == (-180, -90, 180, 90)
    assert lonlat_bounds(box(170, 0, 180, 1)) == (170, 0, 180, 1)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_ring_around_a_pole_holds_the_pole(sign: int, start: int):
    """Four corners at 80 degrees north or south, from any of them on: the cap, 360 x 10 degrees."""
    corners = [(-135, 80 * sign), (-45, 80 * sign), (45, 80 * sign), (135, 80 * sign)]
    cap = split_at_antimeridian(Polygon(corners[start:] + corners[:start]))
    assert cap.contains(Point(0, 89 * sign))
    assert cap.contains(Point(-179, 85 * sign))
    assert cap.area == pytest.approx(3600)


def test_a_hole_goes_with_its_polygon():
    """A hole on the far side of the antimeridian is still a hole."""
    holed = Polygon(WRONG_WAY.exterior, [box(-179.6, -17.6, -179.4, -17.4).exterior.coords])
    placed = split_at_antimeridian(holed)
    assert placed.area == pytest.approx(2 - 0.04)
    assert not placed.contains(Point(-179.5, -17.5))


def test_a_ring_that_crosses_itself_is_still_cut():
    """A bow tie over the antimeridian becomes its two triangles."""
    bow = Polygon([(179, 0), (-179, 2), (-179, 0), (179, 2)])
    placed = split_at_antimeridian(bow)
    assert placed.is_valid
    assert placed.area == pytest.approx(2)
    assert lonlat_bounds(placed) == (179, 0, -179, 2)


def test_half_a_pixel_beyond_the_pole_is_cut_off():
    """Grids of pixel centres reach over the pole and the antimeridian by half a pixel."""
    placed = split_at_antimeridian(box(-180.125, -89.875, 179.875, 90.125))
    assert placed.bounds == (-180, -89.875, 180, 90)


@pytest.mark.parametrize(
    "geometry",
    [Polygon(), box(0, 0, 10, 95), box(500_000, 10, 500_010, 20), Point(float("inf"), 0)],
)
def test_coordinates_that_are_not_on_the_earth_are_refused(geometry: BaseGeometry):
    """Metres, swapped axes, infinity and nothing at all are refused."""
    with pytest.raises(RegionError, match="footprint"):
        split_at_antimeridian(geometry)


@given(
    west=st.integers(91, 269), width=st.integers(1, 90), south=st.integers(-80, 60),
    height=st.integers(1, 20), lean=st.integers(-10, 10),
)  # fmt: skip
def test_a_scene_keeps_its_area_and_its_place(
    west: int, width: int, south: int, height: int, lean: int
):
    """A leaning scene anywhere round the Earth: both ways to write it give one and the same place."""
    corners = [
        (west, south),
        (west + width, south),
        (west + width + lean, south + height),
        (west + lean, south + height),
    ]
    beyond = split_at_antimeridian(Polygon(corners))
    wrapped = Polygon([((x + 180) % 360 - 180, y) for x, y in corners])
    wrapped_back = split_at_antimeridian(wrapped)
    assert beyond.area == pytest.approx(width * height)
    assert beyond.symmetric_difference(wrapped_back).area < 1e-9
    assert box(-180, -90, 180, 90).covers(beyond)


def test_real_tiles_at_the_antimeridian_and_near_the_pole(shared_data: Path):
    """Split by their provider they stay; written as one ring they become the same place again."""
    folder = shared_data / "stac_documents/stactools_sentinel2_expected_items"
    seen = 0
    for path in sorted(folder.glob("*.json")):
        item = json.loads(path.read_text())
        footprint = shape(item["geometry"])
        assert split_at_antimeridian(footprint) is footprint
        assert lonlat_bounds(footprint) == pytest.approx(item["bbox"], abs=1e-5)
        if footprint.geom_type == "MultiPolygon":
            east = [_moved(p) if p.bounds[0] < 0 else p for p in footprint.geoms]
            ring = east[0].union(east[1])
            for whole in (
                ring,
                Polygon([((x + 180) % 360 - 180, y) for x, y in ring.exterior.coords]),
            ):
                assert split_at_antimeridian(whole).symmetric_difference(footprint).area < 1e-9
            seen += 1
    assert seen == 3


def _moved(polygon: Polygon) -> Polygon:
    return Polygon([(x + 360, y) for x, y in polygon.exterior.coords])
