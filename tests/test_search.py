"""Search: the scenes of a region and period are frozen to a file, or the nearest are named."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import Polygon, box

from landcover.errors import CatalogError
from landcover.period import Period
from pipeline.catalog import Question, open_catalog
from pipeline.items import Item
from pipeline.search import EARTH_SEARCH, _default_collections, search
from tests.made_catalogs import COUNT, holdings, page, scene, scenes, strange_server, write_index
from tests.pgstac_server import shared_pgstac

PERIOD = Period(date(2020, 3, 1), date(2020, 3, 31))
AREA = box(2.5, 0.5, 8.5, 7.5)


@pytest.fixture(params=["api", "index"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same scenes behind a real STAC API and in an index."""
    if request.param == "api":
        return shared_pgstac(holdings)
    return str(write_index(tmp_path / "index.parquet", scenes()))


def run(location: str, output: Path, **settings: Any) -> dict[str, Any]:
    """Search with the settings of this file unless told otherwise."""
    wanted = {
        "footprint": AREA,
        "period": PERIOD,
        "region": "testland",
        "collections": ("even", "odd"),
    }
    return search(catalog=location, output=output, **(wanted | settings))


def frozen(path: Path) -> list[Item]:
    """The items in an item list."""
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    return list(collection["features"])


def test_scenes_are_frozen_oldest_first(location: str, tmp_path: Path):
    """March 2020 over the area: days 60 to 90, so scenes 48 to 72; of these eight are over 2 to 9 E."""
    details = run(location, tmp_path / "items.json")
    expected = [n for n in range(48, 73) if 2 <= n % 20 <= 8]
    assert [item["id"] for item in frozen(tmp_path / "items.json")] == [
        f"scene-{n:04d}" for n in expected
    ]
    assert details["ids"] == [f"scene-{n:04d}" for n in expected]
    assert details["scenes"] == len(expected) == 8
    assert details["dates"] == [
        "2020-03-01",
        *(f"2020-03-{day}" for day in (18, 19, 21, 22, 23, 24, 26)),
    ]
    assert details["catalog"] == location
    assert details["collections"] == ["even", "odd"]
    assert details["cloud_cover"] == [29.4, 77.6]


def test_the_api_and_the_index_freeze_the_same_items(tmp_path: Path):
    """Whoever is asked, the frozen scenes are the same in what the pipeline uses."""
    index = write_index(tmp_path / "index.ndjson", scenes())
    used = []
    for number, place in enumerate((shared_pgstac(holdings), str(index))):
        run(place, tmp_path / f"{number}.json", max_cloud_cover=60)
        used.append(
            [
                (
                    i["id"],
                    i["collection"],
                    i["properties"],
                    {k: a["href"] for k, a in i["assets"].items()},
                )
                for i in frozen(tmp_path / f"{number}.json")
            ]
        )
    assert used[0] == used[1]
    assert len(used[0]) > 3


def test_a_rerun_gives_the_same_bytes(location: str, tmp_path: Path):
    """Equal answers are equal files."""
    run(location, tmp_path / "one.json")
    run(location, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_cloud_limit_and_the_collection_hold(location: str, tmp_path: Path):
    """Only scenes of the collections named, and as clear as asked for."""
    details = run(location, tmp_path / "items.json", collections=("odd",), max_cloud_cover=60)
    items = frozen(tmp_path / "items.json")
    assert {item["collection"] for item in items} == {"odd"}
    assert (
        max(item["properties"]["eo:cloud_cover"] for item in items)
        == details["cloud_cover"][1]
        <= 60
    )


def test_no_scene_in_the_period_names_the_nearest_dates(location: str, tmp_path: Path):
    """Scene 5 is of 2020-01-07T06, scene 25 of 2020-02-01T06: nothing lies between them at 5 E."""
    period = Period(date(2020, 1, 10), date(2020, 1, 20))
    with pytest.raises(CatalogError) as caught:
        run(location, tmp_path / "items.json", period=period, footprint=box(5.2, 0.2, 5.8, 1.8))
    message = str(caught.value)
    assert "No scene of testland in 2020-01-10/2020-01-20" in message
    assert location in message
    assert "2020-01-07 before and 2020-02-01 after" in message
    assert not (tmp_path / "items.json").exists()


def test_only_one_side_has_scenes(location: str, tmp_path: Path):
    """Before the first scene only a later date is named."""
    period = Period(date(2010, 1, 1), date(2010, 12, 31))
    with pytest.raises(CatalogError, match="nearest scenes are of 2020-01-07 after: choose"):
        run(location, tmp_path / "items.json", period=period, footprint=box(5.2, 0.2, 5.8, 0.8))


@pytest.mark.parametrize(
    ("period", "nearest"),
    [
        (Period(date(9000, 1, 1), date(9999, 12, 31)), "of 2021-05-21 before: choose"),
        (Period(date(1, 1, 1), date(2010, 12, 31)), "of 2020-01-07 after: choose"),
    ],
)
def test_a_period_to_the_end_of_the_calendar_is_searched(
    tmp_path: Path, period: Period, nearest: str
):
    """Beyond the last day there is nothing to look for; the other side is still named."""
    index = str(write_index(tmp_path / "index.ndjson", scenes()))
    with pytest.raises(CatalogError, match=nearest):
        run(index, tmp_path / "items.json", period=period, footprint=box(5.2, 0.2, 5.8, 0.8))


def test_too_cloudy_is_said_so(location: str, tmp_path: Path):
    """Where only the cloud limit is in the way, the message gives the clearest scene."""
    with pytest.raises(CatalogError, match=r"cloudier than 5 % \(the clearest has 29.4 %\)"):
        run(location, tmp_path / "items.json", max_cloud_cover=5)
    assert not (tmp_path / "items.json").exists()


def test_a_scene_of_unknown_cloud_cover_stays(tmp_path: Path):
    """Images that do not say how cloudy they are (one's own, mostly) are not taken for cloudy."""
    holdings = scenes()
    for item in holdings:
        item["properties"].pop("eo:cloud_cover", None)
    index = str(write_index(tmp_path / "index.ndjson", holdings))
    assert run(index, tmp_path / "items.json", max_cloud_cover=5)["scenes"] == 8


def test_nothing_over_the_footprint_at_any_date(location: str, tmp_path: Path):
    """A place that the catalogue does not cover is named as such; an index says what it holds."""
    with pytest.raises(CatalogError, match="no scene over this footprint at any date") as caught:
        run(location, tmp_path / "items.json", footprint=box(100, 40, 101, 41))
    if not location.startswith("http"):
        held = f"{COUNT + 4} scenes from 2019-01-01 to 2021-06-11"
        assert f"it holds {held} within W,S,E,N = -180.0000, -18.0000, 180.0000, 10.0000" in str(
            caught.value
        )


def test_a_failed_search_leaves_the_old_list(location: str, tmp_path: Path):
    """An item list that exists is not touched by a search that fails."""
    (tmp_path / "items.json").write_text("old")
    with pytest.raises(CatalogError):
        run(location, tmp_path / "items.json", footprint=box(100, 40, 101, 41))
    assert (tmp_path / "items.json").read_text() == "old"


def test_an_index_needs_no_collection_but_a_server_of_many_does(tmp_path: Path):
    """All collections of an index are searched; a server with several is not guessed at."""
    index = write_index(tmp_path / "index.ndjson", scenes())
    details = run(str(index), tmp_path / "items.json", collections=None)
    assert details["collections"] == ["even", "odd"]
    with pytest.raises(
        CatalogError, match=r"2 collections; .* --collection NAME, or .*: even, odd"
    ):
        run(shared_pgstac(holdings), tmp_path / "items.json", collections=None)


def test_earth_search_is_asked_for_collection_1():
    """The default catalogue has a default collection, found without asking it."""
    assert _default_collections(open_catalog(EARTH_SEARCH + "/")) == ("sentinel-2-c1-l2a",)


def test_a_server_that_cannot_sort_still_names_the_nearest_dates(tmp_path: Path):
    """Without sorting, a bounded listing gives the nearest dates."""
    answers = [[], [scene(5), scene(3)], [scene(30), scene(28)]]
    with (
        strange_server(lambda call, _: (200, page(answers[call]))) as url,
        pytest.raises(CatalogError, match="2020-01-07 before and 2020-02-05 after"),
    ):
        run(url, tmp_path / "items.json", period=Period(date(2020, 1, 10), date(2020, 1, 20)))


def test_a_footprint_may_have_heights_and_holes(location: str, tmp_path: Path):
    """A polygon with z values and a hole is searched by its plane outline."""
    rim = [(2, 2, 9), (8, 2, 9), (8, 8, 9), (2, 8, 9)]
    hole = [(3.1, 3.1, 9), (6.9, 3.1, 9), (6.9, 6.9, 9), (3.1, 6.9, 9)]
    run(location, tmp_path / "items.json", footprint=Polygon(rim, [hole]), period=Period(date(2020, 1, 1), date(2021, 1, 1)))  # fmt: skip
    ids = {item["id"] for item in frozen(tmp_path / "items.json")}
    plain = open_catalog(location).search(
        Question(intersects=Polygon(rim, [hole]), collections=("even", "odd"))
    )
    assert ids <= {item["id"] for item in plain}
    assert "scene-0085" not in ids  # 5..6 E, 4..5 N: inside the hole
    assert "scene-0082" in ids  # 2..3 E, 4..5 N
