"""Coverage: which part of a region is seen on how many days, before a pixel is read."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from landcover.antimeridian import split_at_antimeridian
from pipeline.coverage import Observed, coverage, sphere_area

REGION = box(0, 0, 4, 2)


def seen(*scenes: tuple[BaseGeometry | None, str]) -> list[Observed]:
    """Footprints with their days."""
    return [Observed(footprint, day) for footprint, day in scenes]


def test_quarters_of_a_region_are_counted_by_hand():
    """West half on two days, its north by a third scene of one of these, a quarter by nothing."""
    found = coverage(
        REGION,
        seen(
            (box(-1, -1, 2, 3), "2024-06-01"),
            (box(-1, -1, 3, 3), "2024-06-11"),
            (box(-1, 1, 2, 3), "2024-06-11"),
        ),
    )
    assert found.details() == {
        "share_uncovered": 0.25,
        "min_days": 0,
        "median_days": 1,
        "max_days": 2,
        "histogram": {"0": 0.25, "1": 0.25, "2": 0.5},
        "scenes_without_footprint": 0,
    }
    assert found.shares == pytest.approx((0.5, 0.75, 0.25), abs=0.001)
    assert found.line() == (
        "coverage: 25.00% of the region has no scene and will be nodata; the rest is seen on up to 2 "
        "days (median of the whole 1)"
    )


@pytest.mark.parametrize(
    ("second", "text"),
    [((box(1, -1, 5, 3), "b"), "1 to 2 days (median 2)"), ((REGION, "a"), "1 day")],
)
def test_a_region_seen_everywhere_says_so(second: tuple[BaseGeometry, str], text: str):
    """No share is missing, and the line gives the span of days; two scenes of a day are one."""
    found = coverage(REGION, seen((box(-1, -1, 5, 3), "a"), second))
    assert found.uncovered == 0
    assert found.line() == f"coverage: every part of the region is seen on {text}"


def test_scenes_without_footprint_are_counted_apart():
    """They cover nothing that is known; where there is none else, nothing is known."""
    found = coverage(REGION, seen((None, "a"), (REGION, "b")))
    assert found.unplaced == 1
    assert found.days.max() == 1
    assert coverage(REGION, seen((None, "a"))).line() == (
        "coverage is not known: no scene says where it is"
    )


@pytest.mark.parametrize(
    "wrong_way",
    [
        Polygon([(178, -18), (-179, -18), (-179, -16), (178, -16)]),
        box(178, -18, 181, -16),
        box(-182, -18, -179, -16),
    ],
)
def test_a_region_and_a_scene_over_the_antimeridian_meet(wrong_way: Polygon):
    """However the scene's footprint is written, it shows three quarters of a region of 178 to -178."""
    region = MultiPolygon([box(178, -18, 180, -16), box(-180, -18, -178, -16)])
    found = coverage(region, seen((split_at_antimeridian(wrong_way), "a")))
    assert found.uncovered == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("sign", [1, -1])
def test_near_a_pole_shares_are_of_area_not_of_degrees(sign: int):
    """Of the cap beyond 80 degrees the inner half of the degrees is a quarter of the area."""
    edges = sorted((80 * sign, 90 * sign))
    inner = sorted((85 * sign, 90 * sign))
    cap = box(-180, edges[0], 180, edges[1])
    found = coverage(cap, seen((box(-180, inner[0], 180, inner[1]), "a")))
    whole, part = (1 - np.sin(np.deg2rad(angle)) for angle in (80, 85))
    assert 1 - found.uncovered == pytest.approx(part / whole, abs=0.01)


def test_a_scene_around_the_pole_covers_it():
    """One ring around the pole, as polar passes have, shows the pole."""
    ring = Polygon([(-135, 80), (-45, 80), (45, 80), (135, 80)])
    region = box(-30, 85, 60, 89)
    assert coverage(region, seen((split_at_antimeridian(ring), "a"))).uncovered == 0


def test_many_small_parts_are_each_looked_at():
    """A thousand islets of a metre beside one island: each has its point, and none weighs much."""
    islets = [box(10 + n / 100, 0, 10.00001 + n / 100, 0.00001) for n in range(1000)]
    region = MultiPolygon([*islets, box(0, 0, 1, 1)])
    found = coverage(region, seen((box(0, 0, 1, 1), "a")))
    assert 1000 < len(found.days) < 6000
    assert 0 < found.uncovered < 1e-6


def test_a_footprint_that_crosses_itself_is_no_obstacle():
    """A bow tie shows its two triangles."""
    bow = Polygon([(0, 0), (4, 2), (4, 0), (0, 2)])
    assert coverage(REGION, seen((bow, "a"))).uncovered == pytest.approx(0.5, abs=0.02)


@settings(max_examples=50, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(*[st.integers(0, 8)] * 4, st.sampled_from("abc")), min_size=1, max_size=8
    )
)  # fmt: skip
def test_shares_agree_with_exact_geometry(boxes: list[tuple[int, int, int, int, str]]):
    """For any rectangles the uncovered share is that of the polygons, but for the samples' width."""
    region = box(0, 0, 8, 8)
    scenes = [(box(w, s, w + dx, s + dy), day) for w, s, dx, dy, day in boxes]
    found = coverage(region, seen(*scenes))
    union = MultiPolygon().union(box(0, 0, 0, 0))
    for footprint, _ in scenes:
        union = union.union(footprint)
    exact = 1 - sphere_area(union.intersection(region)) / sphere_area(region)
    assert found.uncovered == pytest.approx(exact, abs=0.02)
    assert sum(found.details()["histogram"].values()) == pytest.approx(1, abs=0.001)
    assert found.days.max() <= len({day for *_, day in boxes})


@pytest.mark.parametrize("place", [box(10, 50, 11, 51), box(-180, 60, 180, 90), box(3, -1, 40, 1)])
def test_areas_are_those_of_the_ellipsoid_within_a_hundredth(place: Polygon):
    """Against geodesic areas of finely cut sides."""
    exact = abs(Geod(ellps="WGS84").geometry_area_perimeter(place.segmentize(0.01))[0])
    assert sphere_area(place) == pytest.approx(exact, rel=0.01)


def test_real_scenes_cover_what_their_catalogue_draws(shared_data: Path):
    """A real strip of nine tiles of one pass: each tile's middle is seen on that one day."""
    path = (
        shared_data / "stac_documents/planetary_computer/site1-20200606-tall-strip-africa.geojson"
    )
    footprints = [shape(item["geometry"]) for item in json.loads(path.read_text())["features"]]
    middle = MultiPolygon([f.centroid.buffer(0.1) for f in footprints]).buffer(0)
    found = coverage(middle, seen(*((f, "2020-06-06") for f in footprints)))
    assert found.details()["histogram"] == {"1": 1.0}


def test_two_thousand_scenes_take_seconds():
    """The check is no reason to wait: 2,000 footprints over a region of many corners."""
    region = box(0, 0, 10, 10).buffer(2, quad_segs=500)
    scenes = seen(
        *((box(n % 10, n // 200, n % 10 + 1, n // 200 + 1), str(n % 365)) for n in range(2000))
    )
    started = time.perf_counter()
    found = coverage(region, scenes)
    assert time.perf_counter() - started < 10
    assert found.days.max() > 0
