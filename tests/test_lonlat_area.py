"""The area of a polygon in degrees is true on the ellipsoid."""

import numpy as np
import pyproj
import pytest
import shapely
from shapely.geometry import Polygon, box

from landcover.lonlat_area import lonlat_area
from landcover.rings import Rings

WGS84 = pyproj.Geod(ellps="WGS84")


def area(polygon: shapely.Geometry, **options: bool) -> float:
    """Square metres, with sides cut to a quarter of a degree."""
    return lonlat_area(Rings.of(shapely.segmentize(polygon, 0.25)), WGS84, **options)


def test_the_world_has_the_area_of_the_ellipsoid() -> None:
    """All degrees together are 510,065,621.7 km2."""
    assert area(box(-180, -90, 180, 90)) == pytest.approx(510_065_621.724e6, rel=1e-12)


def test_a_box_along_parallels_is_that_of_short_geodesics() -> None:
    """A box in degrees has the area that Karney's geodesics give for many short sides."""
    lon, lat = shapely.segmentize(box(14, 40, 16, 42), 0.0005).exterior.xy
    known = abs(WGS84.polygon_area_perimeter(lon, lat)[0])
    assert area(box(14, 40, 16, 42)) == pytest.approx(known, rel=1e-9)


def test_holes_and_directions() -> None:
    """A hole is taken off, whichever way the rings run."""
    ring = box(5, -10, 8, 3).difference(box(6, -1, 7, 1))
    assert area(ring) == pytest.approx(area(box(5, -10, 8, 3)) - area(box(6, -1, 7, 1)), rel=1e-12)
    assert area(ring.reverse()) == pytest.approx(area(ring), rel=1e-14)


def test_round_the_pole_and_across_the_antimeridian() -> None:
    """A ring round a pole holds the cap; a jump in longitude means the short way."""
    lon = (np.arange(0, 361) + 180) % 360 - 180
    cap = Polygon(np.stack([lon, np.full(361, 80)], axis=1))
    wrapped = lonlat_area(Rings.of(cap), WGS84, wrapped=True)
    assert wrapped == pytest.approx(area(box(-180, 80, 180, 90)), rel=1e-12)
    over = Polygon([(179.5, 10), (-179.5, 10), (-179.5, 11), (179.5, 11)])
    across = lonlat_area(Rings.of(over), WGS84, wrapped=True)
    assert across == pytest.approx(area(box(0, 10, 1, 11)), rel=1e-12)


def test_a_sphere_is_an_ellipsoid_too() -> None:
    """Without flattening, the area is that of the sphere."""
    geod = pyproj.Geod(a=6_371_000, b=6_371_000)
    whole = lonlat_area(Rings.of(shapely.segmentize(box(-180, -90, 180, 90), 0.25)), geod)
    assert whole == pytest.approx(4 * np.pi * 6_371_000**2, rel=1e-12)
