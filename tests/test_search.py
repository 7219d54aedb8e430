"""Search: the scenes of a region and period are frozen to a file, or the nearest are named."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape

from landcover.errors import CatalogError
from landcover.period import Period
from pipeline.catalog import open_catalog
from pipeline.coverage import sphere_area
from pipeline.items import Item
from pipeline.providers import providers
from pipeline.question import Question, parse_filter
from pipeline.search import EARTH_SEARCH, NoSceneError, _default_collections, search
from tests.made_catalogs import COUNT, holdings, page, scene, scenes, strange_server, write_index
from tests.pgstac_server import shared_pgstac

PERIOD = Period(date(2020, 3, 1), date(2020, 3, 31))
AREA = box(2.5, 0.5, 8.5, 7.5)


@pytest.fixture(scope="module", params=["api", "index"])
def location(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same scenes behind a real STAC API and in an index."""
    if request.param == "api":
        return shared_pgstac(holdings)
    return str(write_index(tmp_path_factory.mktemp("index") / "index.parquet", scenes()))


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
        (Period(date(9000, 1, 1), date(9999, 12, 31)), "of 2026-11-11 before: choose"),
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
        held = f"{COUNT + 4} scenes from 2019-01-01 to 2027-03-12"
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


# --- what is left out, and what is said before a pixel is read


def granule(name: str, baseline: str, cloud: float = 10, number: int = 60, **more: Any) -> Item:
    """A scene of the lattice that says which Sentinel-2 granule it is."""
    facts = {"platform": "sentinel-2a", "grid:code": "MGRS-31NAA"}
    facts |= {"s2:processing_baseline": baseline, "eo:cloud_cover": cloud}
    return scene(number, **facts) | {"id": name, "collection": "s2"} | more


def search_index(tmp_path: Path, items: list[Item], **settings: Any) -> dict[str, Any]:
    """Search an index of these items over everything that the lattice has."""
    index = str(write_index(tmp_path / "index.ndjson", items))
    wanted = {"collections": None, "period": None, "footprint": box(0, 0, 20, 10)}
    return run(index, tmp_path / "items.json", **(wanted | settings))


def test_a_newer_processing_replaces_the_older_and_is_recorded(tmp_path: Path):
    """Of one granule under two names the newest baseline is frozen."""
    details = search_index(tmp_path, [granule("old", "02.09"), granule("new", "05.10"), scene(1)])
    assert details["ids"] == ["scene-0001", "new"]
    assert [(r["id"], r["by"]) for r in details["superseded"]] == [("old", "new")]
    assert [item["id"] for item in frozen(tmp_path / "items.json")] == ["scene-0001", "new"]


def test_a_cloudy_newer_processing_does_not_bring_back_the_older(tmp_path: Path):
    """The newest processing says how cloudy it was; the older one said less and is not used instead."""
    items = [granule("old", "02.09", cloud=50), granule("new", "05.10", cloud=70), scene(0)]
    details = search_index(tmp_path, items, max_cloud_cover=60)
    assert details["ids"] == ["scene-0000"]
    assert details["superseded"][0]["id"] == "old"


def test_a_newer_processing_that_cannot_be_read_replaces_nothing(tmp_path: Path):
    """What lacks the wanted band is left out before the newest is chosen."""
    bare = granule("new", "05.10", assets={"green": {"href": "https://a.org/green.tif"}})
    details = search_index(tmp_path, [granule("old", "02.09"), bare], bands=("red",))
    assert details["ids"] == ["old"]
    assert details["superseded"] == []
    assert details["refused"][0]["id"] == "new"


def test_scenes_that_cannot_be_read_are_left_out_with_the_reason(tmp_path: Path):
    """No image, or not the wanted band: recorded and said; the others are frozen."""
    lines: list[str] = []
    text = scene(2) | {"assets": {"metadata": {"href": "https://a.org/m.xml", "type": "text/xml"}}}
    details = search_index(tmp_path, [scene(1), text], report=lines.append)
    assert details["ids"] == ["scene-0001"]
    assert [refused["id"] for refused in details["refused"]] == ["scene-0002"]
    assert "scene-0002" in details["refused"][0]["reason"]
    assert lines[0].startswith("search: 1 scene left out, the first because: Scene scene-0002")
    with pytest.raises(
        CatalogError, match=r"None of the 2 scenes .* first because: Scene scene-000"
    ):
        search_index(tmp_path, [scene(1), text], bands=("red", "nir"))


def test_photographs_and_reflectance_are_not_frozen_together(tmp_path: Path):
    """A search that finds both names one of each; one that leaves the photographs out is answered."""
    items = [scene(49), scene(50)]
    for asset in items[1]["assets"].values():
        asset["bands"] = [{"name": "red", "data_type": "uint8"}]
    with pytest.raises(CatalogError, match=r"Scene scene-0050 is a photograph .* scene scene-0049"):
        search_index(tmp_path, items)
    assert not (tmp_path / "items.json").exists()
    assert search_index(tmp_path, items, collections=("odd",))["ids"] == ["scene-0049"]


def test_without_a_period_an_index_gives_every_scene(tmp_path: Path):
    """A folder of one's own images needs no period; a server of many years does."""
    details = search_index(tmp_path, scenes()[:100])
    assert details["scenes"] == 100
    assert details["dates"][0] == "2020-01-01"
    with pytest.raises(CatalogError, match="give the period of those to use"):
        run(shared_pgstac(holdings), tmp_path / "items.json", period=None)
    with pytest.raises(CatalogError, match=r"No scene of testland in the catalogue .*: it has no"):
        search_index(tmp_path, [scene(1)], footprint=box(100, 40, 101, 41))


def test_the_record_of_a_search_holds_no_password(tmp_path: Path):
    """What a search says and writes of its catalogue names the place and not what opens it."""
    lines: list[str] = []
    answer = page([scene(49)]) | {"numberMatched": 2}
    with strange_server(lambda *_: (200, answer)) as url:
        secret = url.replace("//", "//anna:hunter2@")
        year = Period(date(2020, 1, 1), date(2020, 12, 31))
        asked = {"period": year, "footprint": box(0, 0, 20, 10), "report": lines.append}
        details = run(secret, tmp_path / "items.json", **asked)
    assert details["catalog"] == url
    assert "hunter2" not in json.dumps([details, lines]) + (tmp_path / "items.json").read_text()
    assert any(f"the catalogue {url} says that 2 scenes match" in line for line in lines)


def test_a_filter_holds(location: str, tmp_path: Path):
    """CQL2 asks for what the settings have no word for; nothing left is said so."""
    every = run(location, tmp_path / "items.json")["ids"]
    chosen = run(location, tmp_path / "items.json", filter=parse_filter("platform = 'sat-1'"))[
        "ids"
    ]
    assert chosen == [name for name in every if int(name[-4:]) % 3 == 1]
    with pytest.raises(CatalogError, match="that passes the filter"):
        run(location, tmp_path / "items.json", filter=parse_filter("platform = 'sat-7'"))


def test_coverage_and_plan_are_said_before_a_pixel_is_read(tmp_path: Path):
    """A region of two lattice cells of which one is seen twice: half of it stays without data."""
    lines: list[str] = []
    details = search_index(
        tmp_path, [scene(0), scene(200)], footprint=box(0, 0, 2, 1), report=lines.append
    )
    assert details["coverage"] == {
        "share_uncovered": 0.5, "min_days": 0, "median_days": 0, "max_days": 2,
        "histogram": {"0": 0.5, "2": 0.5}, "scenes_without_footprint": 0,
    }  # fmt: skip
    assert {k: details["plan"][k] for k in ("scenes", "dates", "exact")} == {
        "scenes": 2,
        "dates": 2,
        "exact": False,
    }
    assert lines[-2].startswith("search: coverage: 50.00% of the region has no scene")
    assert lines[-1].startswith("search: plan: 2 scenes on 2 dates, about ")
    json.dumps(details)


def test_scenes_that_only_touch_the_region_are_not_enough(tmp_path: Path):
    """An edge in common shows nothing; a scene between the sample points does."""
    with pytest.raises(NoSceneError, match="only touch its border and show nothing"):
        search_index(tmp_path, [scene(0)], footprint=box(1, 0, 2, 1))
    tiny = scene(0) | {"geometry": mapping(box(1.5, 0.5, 1.5001, 0.5001))}
    assert search_index(tmp_path, [tiny], footprint=box(1, 0, 2, 1))["coverage"]["max_days"] == 0


@pytest.mark.parametrize(
    "written",
    [
        Polygon([(179, -18), (-179, -18), (-179, -17), (179, -17)]),
        box(179, -18, 181, -17),
        box(-181, -18, -179, -17),
        MultiPolygon([box(179, -18, 180, -17), box(-180, -18, -179, -17)]),
    ],
)
def test_a_region_over_the_antimeridian_is_seen_whole(tmp_path: Path, written: Any):
    """Whichever way round the Earth its footprint is written, the scene is found and covers both sides."""
    item = scene(0) | {"geometry": mapping(written)}
    region = MultiPolygon([box(179.2, -17.8, 180, -17.2), box(-180, -17.8, -179.2, -17.2)])
    details = search_index(tmp_path, [item, scene(1)], footprint=region)
    assert details["ids"] == ["scene-0000"]
    assert details["coverage"]["share_uncovered"] == 0
    (kept,) = frozen(tmp_path / "items.json")
    assert kept["geometry"]["type"] == "MultiPolygon"


@pytest.mark.parametrize("provider", providers(), ids=lambda provider: provider.name)
def test_known_providers_are_found_by_name_and_by_address(provider: Any):
    """A name stands for a URL, and each provider has its default collections; nobody is asked."""
    for location in (provider.name, provider.name.upper(), provider.url, provider.url + "/"):
        catalog = open_catalog(location)
        assert catalog.location.rstrip("/") == provider.url.rstrip("/")
        assert _default_collections(catalog) == tuple(provider.default_collections)


@pytest.mark.parametrize(
    ("region", "tile"),
    [
        ([box(179.5, -16.2, 180, -15.6), box(-180, -16.2, -179.8, -15.6)], "T01LAC"),
        ([box(178, -80.1, 180, -79.6), box(-180, -80.2, -179, -80)], "T60CWS"),
        ([box(176.9, -72.5, 178, -72.1)], "T01CCV"),
    ],
)
def test_real_tiles_at_the_antimeridian_and_the_pole_are_found(
    shared_data: Path, tmp_path: Path, region: list[Any], tile: str
):
    """Real items of Fiji and the Antarctic, each over its region and no other, its share told."""
    folder = shared_data / "stac_documents/stactools_sentinel2_expected_items"
    items = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    details = search_index(tmp_path, items, footprint=MultiPolygon(region), bands=("red", "nir"))
    assert [tile in name for name in details["ids"]] == [True]
    (kept,) = frozen(tmp_path / "items.json")
    shown = shape(kept["geometry"]).intersection(MultiPolygon(region))
    exact = 1 - sphere_area(shown) / sphere_area(MultiPolygon(region))
    assert details["coverage"]["share_uncovered"] == pytest.approx(exact, abs=0.01)
    assert details["plan"]["bytes"] > 1_000_000
    assert details["refused"] == []
