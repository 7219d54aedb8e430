"""Catalogues: one question, one answer, whoever is asked; and nothing a stranger wrote is trusted."""

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import MultiPolygon, Point, box, mapping, shape

from landcover.errors import CatalogError
from pipeline.catalog import ApiCatalog, open_catalog
from pipeline.items import checked_item, own_address, remote_place, shown_address
from pipeline.question import Question, parse_filter
from tests.made_catalogs import (
    CORE,
    Answer,
    at,
    page,
    scene,
    strange_server,
    write_index,
)  # fmt: skip
from tests.pgstac_server import free_port

CQL2 = {"op": "=", "args": [{"property": "platform"}, "sat-1"]}


# --- questions and files that cannot be used


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"bbox": (0, 0, 1, 1), "intersects": Point(0, 0)}, "not both"),
        ({"bbox": (0, 10, 1, 5)}, "west,south,east,north"),
        ({"bbox": (0, 0, float("nan"), 5)}, "west,south,east,north"),
        ({"start": at(2), "end": at(1)}, "before it starts"),
        ({"start": datetime(2020, 1, 1)}, "time zone"),  # noqa: DTZ001 - the fault under test
        ({"limit": 0}, "limit is 0"),
        ({"filter": {"op": "drop table", "args": []}}, "drop table"),
    ],
)
def test_a_question_without_sense_is_refused(settings_: dict[str, Any], words: str):
    """A question that contradicts itself is refused before anybody is asked."""
    with pytest.raises(CatalogError, match=words):
        Question(**settings_)


@pytest.mark.parametrize("location", ["imagery", "catalog.txt", "ftp://example.com/stac", ""])
def test_a_location_that_is_no_catalogue_is_refused(location: str):
    """What is neither a URL nor an index file is refused with the way to make one."""
    with pytest.raises(CatalogError, match="landcover index"):
        open_catalog(location)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.parquet", None, r"does not exist; .* index FOLDER --output .*absent\.parquet`"),
        ("broken.parquet", "PAR1 and then nothing", "cannot be read"),
        ("broken.ndjson", '{"type": "Feature", ', "cannot be read"),
        ("static.json", '{"type": "Catalog", "links": []}', "static catalogue"),
        ("list.json", "[1, 2]", "static catalogue"),
    ],
)
def test_an_unusable_index_is_refused(tmp_path: Path, name: str, content: str | None, words: str):
    """A file that is missing, cut short or something else gives one sentence."""
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(CatalogError, match=words):
        open_catalog(str(path))


def _asset(href: Any) -> dict[str, Any]:
    return {"assets": {"red": {"href": href}}}


HOSTILE = [
    ({"id": ""}, "name"),
    ({"id": "a\nb"}, "name"),
    ({"id": "a\x1b[2Jb"}, "name"),
    ({"id": "a\u202eb"}, "name"),
    ({"id": 7}, "name"),
    ({"collection": "a\x00b"}, "name"),
    ({"properties": {}}, "scene-0001.*datetime"),
    ({"properties": {"datetime": "yesterday"}}, "scene-0001.*yesterday"),
    ({"properties": {"datetime": "9999-12-31T23:59:59-05:00"}}, "scene-0001"),
    ({"geometry": {"type": "Blob", "coordinates": []}}, "scene-0001"),
    ({"geometry": mapping(box(0, 0, 1, 95))}, "scene-0001.*not on the Earth"),
    ({"geometry": mapping(box(500000, 0, 500010, 5))}, "scene-0001.*not on the Earth"),
    ({"geometry": {"type": "Polygon", "coordinates": []}}, "scene-0001.*empty"),
    ({"bbox": [0, 0, 1]}, "scene-0001.*bbox"),
    ({"bbox": [0, 0, 1, "1"]}, "scene-0001.*bbox"),
    ({"properties": scene(1, **{"eo:cloud_cover": "few"})["properties"]}, "scene-0001.*'few'"),
    ({"properties": scene(1, **{"eo:cloud_cover": [1]})["properties"]}, "scene-0001.*no number"),
    ({"properties": scene(1, **{"eo:cloud_cover": True})["properties"]}, "scene-0001.*no number"),
    ({"assets": {"r\ned": {"href": "https://a.org/b.tif"}}}, "scene-0001.*asset"),
    (_asset(""), "red"),
    (_asset(None), "scene-0001"),
    (_asset("/vsicurl/https://a.org/b.tif"), "red"),
    (_asset("/vsimem/x.tif"), "red"),
    (_asset("<VRTDataset rasterXSize='1'>"), "red"),
    (_asset("vrt://a.tif?bands=1"), "red"),
    (_asset("zip+https://a.org/b.zip!c.tif"), "red"),
    (_asset("ftp://a.org/b.tif"), "red"),
    (_asset("https://a.org/b.tif\n/etc"), "red"),
    (_asset("https://a.org/<b>.tif"), "red"),
]
REMOTE_ONLY = [
    (_asset("/etc/passwd"), "red"),
    (_asset("file:///etc/passwd"), "red"),
    (_asset("//a.org/b.tif"), "red"),
    (_asset("NETCDF:/etc/passwd:x"), "red"),
    (_asset("C:\\secret.tif"), "red"),
]


@pytest.mark.parametrize(("change", "words"), HOSTILE)
def test_a_hostile_scene_in_an_index_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], words: str
):
    """Names with control characters, GDAL strings and strange addresses are refused, and named."""
    path = write_index(tmp_path / "i.ndjson", [scene(0), scene(1) | change])
    with pytest.raises(CatalogError, match=words):
        open_catalog(str(path))


def test_the_address_of_a_scene_is_that_of_its_link_to_itself():
    """Links that do not say what they are of are passed over."""
    self = {"rel": "self", "href": "https://a.org/1.json"}
    assert own_address({"links": [{"href": "https://a.org/x"}, self]}) == "https://a.org/1.json"
    assert own_address({"links": [{"href": "https://a.org/x"}]}) == ""


def test_a_scene_is_brought_to_one_shape(tmp_path: Path):
    """A flat bbox, links and a cloud cover that is a number, whatever a lawful or sloppy scene gives."""
    bare = {key: value for key, value in scene(3).items() if key not in ("bbox", "links")}
    items = [
        scene(1, **{"eo:cloud_cover": "12.5"}) | {"bbox": [1, 0, -5, 2, 1, 900]},
        scene(2, **{"eo:cloud_cover": None}) | {"bbox": None, "links": None},
        bare,
    ]
    path = write_index(tmp_path / "i.ndjson", items)
    found = open_catalog(str(path)).search(Question(sortby=(("id", "asc"),)))
    assert [item["bbox"] for item in found] == [[1, 0, 2, 1], [2, 0, 3, 1], [3, 0, 4, 1]]
    assert [item["links"] for item in found] == [[], [], []]
    assert [item["properties"]["eo:cloud_cover"] for item in found] == [12.5, None, 11.1]
    assert [i["id"] for i in open_catalog(str(path)).search(Question(max_cloud_cover=12))] == ["scene-0003"]  # fmt: skip
    with _serving(lambda *_: (200, page(items))) as catalog:
        assert catalog.search(Question()) == found


@pytest.mark.parametrize("remote", [False, True])
def test_a_footprint_around_the_earth_the_wrong_way_is_split(tmp_path: Path, remote: bool):
    """One ring from 179 to -179 is two parts; its bbox runs eastwards; a search finds it there only."""
    ring = [[179, -18], [-179, -18], [-179, -17], [179, -17], [179, -18]]
    wrong = {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [-179, -18, 179, -17]}
    item = scene(1) | wrong
    if remote:
        with _serving(lambda *_: (200, page([item]))) as server:
            (found,) = server.search(Question())
    else:
        catalog = open_catalog(str(write_index(tmp_path / "i.ndjson", [item])))
        assert catalog.search(Question(intersects=Point(0, -17.5))) == []
        assert len(catalog.search(Question(intersects=Point(-179.5, -17.5)))) == 1
        (found,) = catalog.search(Question(bbox=(179.5, -20, -179.5, -10)))
    assert found["bbox"] == [179, -18, -179, -17]
    west, east = (box(179, -18, 180, -17), box(-180, -18, -179, -17))
    assert shape(found["geometry"]).equals(MultiPolygon([west, east]))


@pytest.mark.parametrize(
    "text",
    [
        "platform = 'sat-1' AND \"eo:cloud_cover\" < 20",
        (
            ' {"op": "and", "args": [{"op": "=", "args": [{"property": "platform"}, "sat-1"]}, '
            '{"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]}]}'
        ),
    ],
)
def test_a_filter_is_read_from_text_or_json(text: str):
    """Both forms of CQL2 are one JSON object, which a question takes."""
    parsed = parse_filter(text)
    assert parsed["op"] == "and"
    assert parsed["args"][1] == {"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]}
    Question(filter=parsed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("platform = 'a' and", "not CQL2 from character 19 on; write it like"),
        ("", "not CQL2"),
        ("cloudy", "not CQL2"),
        ("1", "not CQL2"),
        ('{"op": "<"}', "not CQL2"),
        ('{"op": "<", ', "not CQL2"),
        ("[1]", "not CQL2"),
        ("a = 1; drop table items\n", "not CQL2"),
    ],
)
def test_a_filter_that_is_none_is_refused_in_one_sentence(text: str, words: str):
    """What is neither CQL2 text nor JSON, or gives no yes or no, is refused where it is read."""
    with pytest.raises(CatalogError, match=words) as caught:
        parse_filter(text)
    assert "\n" not in str(caught.value)


def test_relative_hrefs_of_an_index_start_at_its_folder(tmp_path: Path):
    """A relative href is a file beside the index, wherever the program runs; a URL stays."""
    hrefs = {
        "a.tif": f"{tmp_path}/a.tif",
        "./b/c d#1.tif": f"{tmp_path}/b/c d#1.tif",
        "../e.tif": f"{tmp_path.parent}/e.tif",
        "/data/f.tif": "/data/f.tif",
        "file:///data/g%20h.tif": "/data/g h.tif",
        "NETCDF:x": f"{tmp_path}/NETCDF:x",
        "s3://bucket/k.tif": "s3://bucket/k.tif",
        "https://a.org/b.tif?sig=1%2F": "https://a.org/b.tif?sig=1%2F",
    }
    for ending in (".ndjson", ".parquet"):
        items = [scene(n) | _asset(href) for n, href in enumerate(hrefs)]
        found = open_catalog(str(write_index(tmp_path / f"i{ending}", items))).search(
            Question(sortby=(("id", "asc"),))
        )
        assert [item["assets"]["red"]["href"] for item in found] == list(hrefs.values())


def test_a_scene_listed_twice_counts_once_unless_it_differs(tmp_path: Path):
    """Equal twins in an index are one scene; different scenes under one name are refused."""
    path = write_index(tmp_path / "twin.ndjson", [scene(1), scene(1)])
    assert len(open_catalog(str(path)).search(Question())) == 1
    path = write_index(tmp_path / "other.ndjson", [scene(1), scene(1, platform="other")])
    with pytest.raises(CatalogError, match="two different scenes 'scene-0001'"):
        open_catalog(str(path))


def test_answers_are_copies(tmp_path: Path):
    """Changing an answer does not change the next one."""
    catalog = open_catalog(str(write_index(tmp_path / "i.ndjson", [scene(1)])))
    catalog.search(Question())[0]["properties"].clear()
    assert catalog.search(Question())[0]["properties"] == scene(1)["properties"]


# --- servers that misbehave


def _paged(*pages: list[dict[str, Any]], loop: bool = False) -> Answer:
    def answer(call: int, url: str) -> tuple[int, Any]:
        number = call % len(pages)
        more = loop or number < len(pages) - 1
        return 200, page(pages[number], f"{url}/search" if more else None)

    return answer


@contextlib.contextmanager
def _serving(answer: Answer, conforms: list[str] = CORE) -> Iterator[ApiCatalog]:
    with strange_server(answer, conforms) as url:
        yield ApiCatalog(url)


def test_a_scene_seen_on_two_pages_counts_once():
    """A server whose pages overlap gives each scene once."""
    with _serving(_paged([scene(1), scene(2)], [scene(2), scene(3)])) as catalog:
        assert [i["id"] for i in catalog.search(Question())] == ["scene-0001", "scene-0002", "scene-0003"]  # fmt: skip


def test_a_server_that_repeats_itself_is_stopped():
    """A `next` link that leads in a circle is an error, not an endless search."""
    with (
        _serving(_paged([scene(1)], [scene(2)], loop=True)) as catalog,
        pytest.raises(CatalogError, match="same scenes again on page 3"),
    ):
        catalog.search(Question())


def test_a_server_that_is_busy_is_asked_again():
    """Answers 503 and 429 are retried, on POST too."""
    busy: Answer = lambda call, _: (503, {}) if call == 0 else (200, page([scene(1)]))  # noqa: E731
    with _serving(busy) as catalog:
        assert [item["id"] for item in catalog.search(Question())] == ["scene-0001"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, {"code": "bad", "description": "no such\nthing"}), "did not answer"),
        ((200, b"<html>login</html>"), "not STAC"),
        ((200, {"features": [{"type": "Feature"}]}), "lacks 'id'"),
        ((200, {"features": {"a": 1}}), "cannot be used|not STAC"),
        ((200, [1]), "not STAC"),
    ],
)
def test_an_answer_that_is_not_stac_is_one_sentence(answer: tuple[int, Any], words: str):
    """Refusals, login pages and half items become a CatalogError on one line."""
    with _serving(lambda *_: answer) as catalog, pytest.raises(CatalogError, match=words) as caught:
        catalog.search(Question())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "words"), HOSTILE + REMOTE_ONLY)
def test_a_hostile_scene_from_a_server_is_refused_by_name(change: dict[str, Any], words: str):
    """A remote catalogue may not name local files, nor smuggle what an index may not."""
    with (
        _serving(lambda *_: (200, page([scene(1) | change]))) as catalog,
        pytest.raises(CatalogError, match=words),
    ):
        catalog.search(Question())


def test_relative_hrefs_from_a_server_start_at_the_scene():
    """A relative href of a remote scene is completed from its own address."""
    item = scene(1) | _asset("./red.tif")
    item["links"] = [{"rel": "self", "href": "https://a.org/items/1.json"}]
    with _serving(lambda *_: (200, page([item]))) as catalog:
        (found,) = catalog.search(Question())
    assert found["assets"]["red"]["href"] == "https://a.org/items/red.tif"


@pytest.mark.parametrize(
    ("question", "ability"),
    [
        (Question(sortby=(("datetime", "asc"),)), "SORT"),
        (Question(max_cloud_cover=5), "FILTER"),
        (Question(filter=CQL2), "FILTER"),
    ],
)
def test_a_server_that_would_ignore_the_question_is_not_asked(question: Question, ability: str):
    """What a server does not claim to understand is an error, never a silently wrong answer."""
    with (
        _serving(lambda *_: (200, page([scene(1)]))) as catalog,
        pytest.raises(CatalogError, match=ability),
    ):
        catalog.search(question)


def test_a_server_without_search_is_refused():
    """A static catalogue behind a URL is named as such."""
    with (
        _serving(lambda *_: (404, {}), conforms=[]) as catalog,
        pytest.raises(CatalogError, match="not a STAC API"),
    ):
        catalog.search(Question())


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://anna:hunter2@a.org:8077/v1/?key=k#x", "https://a.org:8077/v1/"),
        ("https://anna@a.org", "https://a.org"),
        ("https://a.org/@me/v1", "https://a.org/@me/v1"),
        ("earth-search", "earth-search"),
        ("/data/what? #1 @home/index.ndjson", "/data/what? #1 @home/index.ndjson"),
    ],
)
def test_an_address_is_shown_without_what_opens_it(given: str, shown: str):
    """User, password, key and fragment go; names and paths stay as they are."""
    assert shown_address(given) == shown


def test_no_message_holds_a_password():
    """Neither a refusal, nor a network's, nor a malformed address, nor one of another kind."""
    places = [f"127.0.0.1:{free_port()}/v1?key=hunter2", "127.0.0.1:none/v1?key=hunter2", "[::1/v1"]
    messages = []
    with strange_server(lambda *_: (400, {"description": "no"})) as url:
        for place in (*places, url.removeprefix("http://")):
            with pytest.raises(CatalogError) as refused:
                open_catalog(f"http://anna:hunter2@{place}").search(Question())
            messages.append(str(refused.value))
    with pytest.raises(CatalogError) as refused:
        open_catalog("ftp://anna:hunter2@a.org/v1")
    messages.append(str(refused.value))
    assert not [message for message in messages if "hunter2" in message or "anna" in message]


def test_nobody_listening_is_one_sentence():
    """A closed port is reported within seconds, with what to check."""
    with pytest.raises(CatalogError, match="check the address and the network"):
        ApiCatalog(f"http://127.0.0.1:{free_port()}").search(Question())


def _real_items(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*json")):
        value = json.loads(path.read_text())
        features = value.get("features", [value]) if isinstance(value, dict) else []
        yield from (item for item in features if item.get("type") == "Feature" and "assets" in item)


def test_real_items_are_accepted_as_if_a_server_sent_them(shared_data: Path):
    """Every real item of eight providers passes the checks that hostile ones do not."""
    items = list(_real_items(shared_data / "stac_documents"))
    checked = [checked_item(i, "https://a.org/stac", 1, remote_place) for i in items]
    assert [item["id"] for item in checked] == [item["id"] for item in items]
    assert len(checked) == 64
