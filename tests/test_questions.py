"""Questions: a real STAC API and the local index, asked the same, give the same scenes in the same order."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, box, shape
from shapely.geometry.base import BaseGeometry

from pipeline.catalog import Catalog, LocalCatalog, open_catalog
from pipeline.question import Question, parse_filter
from tests.made_catalogs import (
    COUNT,
    at,
    holdings,
    scene,
    scenes,
    special_scenes,
    write_index,
)  # fmt: skip
from tests.pgstac_server import shared_pgstac

Test = Callable[[Mapping[str, Any]], bool]
CROSSING, LASTING, SILENT, TWIN = (item["id"] for item in special_scenes())


@pytest.fixture(scope="module", params=["api", ".parquet", ".ndjson", ".json"])
def catalog(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The same 2,104 scenes behind a real STAC API and in each kind of index."""
    if request.param == "api":
        return open_catalog(shared_pgstac(holdings))
    path = tmp_path_factory.mktemp("index") / f"index{request.param}"
    return open_catalog(str(write_index(path, scenes())))


def _cloud(item: Mapping[str, Any]) -> float:
    return float(item["properties"].get("eo:cloud_cover", 1000))


def _when(item: Mapping[str, Any]) -> datetime:
    properties = item["properties"]
    return datetime.fromisoformat(properties.get("start_datetime") or properties["datetime"])


def _is_over(area: BaseGeometry) -> Test:
    return lambda item: bool(shape(item["geometry"]).intersects(area))


TRIANGLE = shape(
    {"type": "Polygon", "coordinates": [[[2.5, 2.5], [6.5, 2.5], [2.5, 6.5], [2.5, 2.5]]]}
)
CQL2 = {
    "op": "or",
    "args": [
        {"op": "and", "args": [
            {"op": "=", "args": [{"property": "platform"}, "sat-1"]},
            {"op": ">", "args": [{"property": "eo:cloud_cover"}, 90]},
        ]},
        {"op": "in", "args": [{"property": "id"}, ["scene-0003", CROSSING]]},
    ],
}  # fmt: skip

SEA = MultiPolygon([box(178, -17.8, 180, -17.2), box(-180, -17.8, -178, -17.2)])

QUESTIONS: dict[str, tuple[Question, Test]] = {
    "everything": (Question(), lambda _: True),
    "bbox": (Question(bbox=(3.2, 2.1, 6.7, 4.3)), _is_over(box(3.2, 2.1, 6.7, 4.3))),
    "bbox that only touches": (Question(bbox=(0, 0, 1, 1)), _is_over(box(0, 0, 1, 1))),
    "triangle": (Question(intersects=TRIANGLE), _is_over(TRIANGLE)),
    "point": (Question(intersects=Point(5.5, 5.5)), _is_over(Point(5.5, 5.5))),
    "bbox over the antimeridian": (
        Question(bbox=(179.5, -20, -179.5, -10)),
        lambda i: i["id"] == CROSSING,
    ),
    "east of the antimeridian": (
        Question(intersects=box(-179.8, -17.8, -179.2, -17.2)),
        lambda i: i["id"] == CROSSING,
    ),
    "footprint over the antimeridian": (
        Question(intersects=SEA, collections=("even",)),
        lambda i: i["id"] == CROSSING,
    ),
    "closed period, both ends included": (
        Question(start=at(10), end=at(20)),
        lambda i: at(10) <= _when(i) <= at(20),
    ),
    "open start": (Question(end=at(15)), lambda i: _when(i) <= at(15)),
    "open end": (Question(start=at(COUNT - 9)), lambda i: _when(i) >= at(COUNT - 9)),
    "inside a lasting scene": (
        Question(start=datetime(2019, 6, 1, tzinfo=UTC), end=datetime(2019, 6, 2, tzinfo=UTC)),
        lambda i: i["id"] == LASTING,
    ),
    "one instant": (Question(start=at(7), end=at(7)), lambda i: _when(i) == at(7)),
    "cloud limit": (Question(max_cloud_cover=11.1), lambda i: _cloud(i) <= 11.1),
    "cql2": (
        Question(filter=CQL2),
        lambda i: (
            (i["properties"]["platform"] == "sat-1" and 90 < _cloud(i) <= 100)
            or i["id"] in ("scene-0003", CROSSING)
        ),
    ),
    "cloud limit and cql2": (
        Question(max_cloud_cover=95, filter=CQL2),
        lambda i: (
            (i["properties"]["platform"] == "sat-1" and 90 < _cloud(i) <= 95)
            or (i["id"] in ("scene-0003", CROSSING) and _cloud(i) <= 95)
        ),
    ),
    "cql2 text": (
        Question(
            filter=parse_filter("platform LIKE 'sat-%' AND NOT eo:cloud_cover BETWEEN 1 AND 99")
        ),
        lambda i: not 1 <= _cloud(i) <= 99 and i["id"] != SILENT,
    ),
    "cql2 about what is missing": (
        Question(filter={"op": "isNull", "args": [{"property": "eo:cloud_cover"}]}),
        lambda i: i["id"] == SILENT,
    ),
    "cql2 about a place": (
        Question(filter=parse_filter("S_INTERSECTS(geometry, POINT(5.5 5.5))")),
        _is_over(Point(5.5, 5.5)),
    ),
    "ids": (
        Question(ids=("scene-0005", "scene-0400", "absent")),
        lambda i: i["id"] in ("scene-0005", "scene-0400"),
    ),
    "collection": (Question(collections=("odd",)), lambda i: i["collection"] == "odd"),
    "all at once": (
        Question(
            bbox=(0, 0, 9.5, 9.5), start=at(0), end=at(300), collections=("even",), max_cloud_cover=50
        ),
        lambda i: (
            _is_over(box(0, 0, 9.5, 9.5))(i)
            and at(0) <= _when(i) <= at(300)
            and i["collection"] == "even"
            and _cloud(i) <= 50
        ),
    ),
    "no result": (Question(bbox=(100, 50, 101, 51)), lambda _: False),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_catalogue_gives_the_same_scenes(catalog: Catalog, name: str):
    """A question gets the scenes that satisfy its plain reading, newest first, from any catalogue."""
    question, holds = QUESTIONS[name]
    expected = [item for item in scenes() if holds(item)]
    expected.sort(key=lambda i: (_when(i), i["collection"], i["id"]), reverse=True)
    assert [item["id"] for item in catalog.search(question)] == [item["id"] for item in expected]
    assert bool(expected) == (name != "no result")


ORDERS: dict[str, tuple[Question, list[str]]] = {
    "oldest first": (
        Question(sortby=(("datetime", "asc"),), limit=3, start=at(0)),
        ["scene-0000", "scene-0001", "scene-0002"],
    ),
    "ties by collection and id": (
        Question(sortby=(("datetime", "asc"),), start=at(7), end=at(8)),
        ["scene-0007", TWIN, "scene-0008"],
    ),
    "id downwards": (Question(sortby=(("id", "desc"),), limit=2), [TWIN, SILENT]),
    "cloud, then time": (
        Question(
            sortby=(("eo:cloud_cover", "asc"), ("datetime", "desc")),
            limit=5,
            bbox=(0, 0, 19.9, 9.9),
        ),
        # 37 n mod 1000 is 0 for 0, 1000, 2000 and 1 for 973, 1973.
        ["scene-2000", "scene-1000", "scene-0000", "scene-1973", "scene-0973"],
    ),
    "missing values last": (
        Question(sortby=(("eo:cloud_cover", "asc"),), ids=("scene-0001", SILENT, "scene-0002")),
        ["scene-0001", "scene-0002", SILENT],
    ),
    "all of them, oldest first": (
        Question(sortby=(("datetime", "asc"),), limit=5000),
        [
            LASTING,
            *(f"scene-{n:04d}" for n in range(8)),
            TWIN,
            *(f"scene-{n:04d}" for n in range(8, COUNT)),
            CROSSING,
            SILENT,
        ],
    ),
    "2,000 of them over twenty pages": (
        Question(limit=2000, start=at(0)),
        [SILENT, CROSSING, *(f"scene-{n:04d}" for n in range(2099, 101, -1))],
    ),
    "limit beyond one page": (
        Question(limit=301),
        [SILENT, CROSSING, *(f"scene-{n:04d}" for n in range(2099, 1800, -1))],
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_every_catalogue_keeps_the_order_asked_for(catalog: Catalog, name: str):
    """Sorting, ties, missing values and limits come out alike and as written here by hand."""
    question, expected = ORDERS[name]
    assert [item["id"] for item in catalog.search(question)] == expected


def test_a_scene_is_the_same_from_every_catalogue(catalog: Catalog):
    """What was put in comes out: place, time, properties and assets."""
    for original in (scene(12), special_scenes()[0], special_scenes()[1]):
        (found,) = catalog.search(Question(ids=(original["id"],)))
        assert shape(found["geometry"]).equals(shape(original["geometry"]))
        assert found["properties"] == original["properties"]
        assert found["assets"]["red"]["href"] == original["assets"]["red"]["href"]
        assert found["collection"] == original["collection"]


def test_collections_are_named(catalog: Catalog):
    """Each catalogue says which collections it has."""
    assert catalog.collections() == ["even", "odd"]
    assert catalog.sorts


@given(
    west=st.floats(0, 19), south=st.floats(0, 9), width=st.floats(0, 9), first=st.integers(0, COUNT),
    length=st.integers(0, 60), cloud=st.none() | st.floats(0, 100),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_local_answers_are_exactly_the_matching_scenes(
    west: float, south: float, width: float, first: int, length: int, cloud: float | None
):
    """For any box, period and cloud limit the index gives the matching scenes and no others."""
    area = box(west, south, west + width, south + width)
    question = Question(
        intersects=area, start=at(first), end=at(first + length), max_cloud_cover=cloud
    )
    expected = {
        item["id"]
        for item, footprint in _placed_scenes()
        if footprint.intersects(area)
        and at(first) <= _when(item) <= at(first + length)
        and (cloud is None or _cloud(item) <= cloud)
    }
    assert {item["id"] for item in _shared_index().search(question)} == expected


@functools.cache
def _shared_index() -> LocalCatalog:
    with tempfile.TemporaryDirectory() as folder:
        return LocalCatalog(str(write_index(Path(folder) / "i.ndjson", scenes())))


@functools.cache
def _placed_scenes() -> list[tuple[dict[str, Any], BaseGeometry]]:
    return [(item, shape(item["geometry"])) for item in scenes()]
