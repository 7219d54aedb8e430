"""Plans: scenes, dates and bytes that a search commits to."""

from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box, mapping

from pipeline.coverage import Observed, coverage, sphere_area
from pipeline.items import Item
from pipeline.plan import Plan, plan
from pipeline.scenes import read_scene

REGION = box(10, 50, 11, 51)
BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")


def item(name: str = "a", place: Any = REGION, day: int = 1, **asset: Any) -> Item:
    """A Sentinel-2 scene of six bands and a mask."""
    keys = (*BANDS, "scl")
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "sentinel-2-c1-l2a",
        "geometry": mapping(place), "links": [],
        "properties": {
            "datetime": f"2024-06-{day:02}T10:00:00Z", "platform": "sentinel-2a", "gsd": 10,
            "s2:processing_baseline": "05.10",
        },
        "assets": {
            key: {"href": f"https://a.org/{name}/{key}.tif", "roles": ["data"],
                  "type": "image/tiff; application=geotiff", **asset}
            for key in keys
        },
    }  # fmt: skip


def planned(*items: Item, region: Any = REGION, **settings: Any) -> Plan:
    """The plan for some items."""
    scenes = [read_scene(i) for i in items]
    seen = coverage(region, [Observed(s.footprint, s.day) for s in scenes])
    return plan(region, items, scenes, seen, **settings)


def test_sizes_that_are_told_are_added_up():
    """Six bands and the mask of two scenes, all inside the region: 14 files of a million bytes."""
    whole = planned(
        item("a", **{"file:size": 1_000_000}), item("b", day=2, **{"file:size": 1_000_000})
    )
    assert whole == Plan(scenes=2, dates=2, bytes=14_000_000, exact=True)
    assert whole.line() == "plan: 2 scenes on 2 dates, 14 MB to read"


def test_of_a_scene_that_lies_half_inside_half_is_read():
    """The share of the footprint counts, and the plan says about."""
    half = planned(item(place=box(10.5, 50, 11.5, 51), **{"file:size": 1_000_000}))
    assert half.bytes == pytest.approx(3_500_000, rel=0.03)
    assert not half.exact
    assert half.line().startswith("plan: 1 scene on 1 date, about 3.")


def test_without_sizes_pixels_are_counted():
    """Six bands of 10 m at 1.85 bytes and a mask at 0.15 over the whole region."""
    pixels = sphere_area(REGION) / 100
    guess = planned(item())
    assert guess.bytes == pytest.approx(pixels * (6 * 1.85 + 0.15), rel=0.001)
    assert not guess.exact
    assert "about 885 MB" in guess.line()  # 78.6 million pixels of 11.25 bytes


def test_a_larger_scene_is_read_where_the_region_is():
    """A region of one degree in a scene of a hundred takes a hundredth of its pixels."""
    wide = planned(item(place=box(5, 45, 15, 55)))
    assert wide.bytes == pytest.approx(planned(item()).bytes, rel=0.001)


def test_only_the_wanted_bands_count():
    """One band and the mask are two files."""
    assert planned(item(**{"file:size": 1000}), bands=("red",)).bytes == 2000


def test_a_file_of_several_bands_is_counted_once(tmp_path: Path):
    """An image of one's own has its size on the disk, whatever it says of itself."""
    path = tmp_path / "image.tif"
    path.write_bytes(b"x" * 5000)
    own = item() | {"assets": {"image": {
        "href": str(path), "type": "image/tiff; application=geotiff", "roles": ["data"],
        "bands": [{"name": n, "eo:common_name": n} for n in ("red", "green", "blue")],
    }}}  # fmt: skip
    own["collection"] = None
    own["properties"] = {"datetime": "2024-06-01T10:00:00Z"}
    assert planned(own, region=box(0, 40, 20, 60)) == Plan(1, 1, 5000, exact=True)


@pytest.mark.parametrize(
    "asset",
    [
        {"file:size": -1},
        {"file:size": 10**400},
        {"file:size": "many"},
        {"gsd": 0},
        {"gsd": 1e-300},
        {"gsd": "10 m"},
        {"gsd": float("nan")},
        {"proj:transform": []},
        {"proj:transform": "x"},
        {"proj:transform": [None]},
        {"proj:shape": [0, 0]},
        {"proj:shape": [10**400, 1]},
        {"proj:shape": "10980"},
    ],
)
def test_what_a_stranger_says_of_sizes_does_no_harm(asset: dict[str, Any]):
    """Numbers that are none, or none that can be, are passed over: the guess by pixels stays."""
    assert planned(item(**asset)).bytes == pytest.approx(planned(item()).bytes)


def test_degrees_are_taken_for_metres():
    """A geotransform in degrees of 0.0001 is one of 11 m."""
    degrees = planned(item(**{"proj:transform": [0.0001, 0, 10, 0, -0.0001, 51]}))
    assert degrees.bytes == pytest.approx(planned(item()).bytes / 1.11320**2, rel=0.01)


def test_pixels_are_counted_by_rows_and_columns():
    """An old item of the whole region that tells nothing but 1000 x 2000 pixels."""
    old = item(**{"proj:shape": [1000, 2000]})
    del old["properties"]["gsd"]
    assert planned(old).bytes == pytest.approx(2e6 * (6 * 1.85 + 0.15))


def test_a_scene_without_place_counts_whole():
    """Without a footprint the whole region is assumed."""
    assert planned(item() | {"geometry": None}).bytes == pytest.approx(
        planned(item()).bytes, rel=0.01
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (3_140_000_000, "3.14 GB"),
        (5e15, "5e+03 TB"),
    ],
)
def test_bytes_are_said_for_people(size: float, text: str):
    """In the unit that leaves one to three digits."""
    assert (
        Plan(1000, 1, int(size), exact=True).line()
        == f"plan: 1,000 scenes on 1 date, {text} to read"
    )
