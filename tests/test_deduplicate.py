"""One look counted once: the newest processing of a granule stays, and nothing else goes."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box, mapping

from pipeline.deduplicate import deduplicate
from pipeline.items import Item


def item(name: str, collection: str = "c", place: Any = None, **properties: Any) -> Item:
    """A scene over one degree unless told otherwise."""
    moment = {"datetime": "2020-07-17T22:19:41Z"}
    return {
        "id": name, "collection": collection, "geometry": mapping(place or box(10, 50, 11, 51)),
        "properties": moment | properties, "assets": {"red": {"href": "https://a.org/r.tif"}},
    }  # fmt: skip


def sentinel2(name: str, baseline: str | None = "02.09", **more: Any) -> Item:
    """A scene of tile 32UNA as a catalogue with the grid extension gives it."""
    facts = {"platform": "sentinel-2a", "grid:code": "MGRS-32UNA", "s2:product_type": "S2MSI2A"}
    return item(name, **(facts | {"s2:processing_baseline": baseline} | more))


def landsat(name: str, **more: Any) -> Item:
    """A scene of path 28, row 30."""
    facts = {"platform": "LANDSAT_8", "landsat:wrs_path": "028", "landsat:wrs_row": "030"}
    return item(name, **(facts | more))


def kept(*items: Item) -> list[str]:
    """Ids that stay, in order; the records must tell the others, and the order in must not matter."""
    stay, records = deduplicate(items)
    names = [i["id"] for i in stay]
    assert sorted([*names, *(r["id"] for r in records)]) == sorted(i["id"] for i in items)
    assert all(r["by"] in names and r["reason"] for r in records)
    for order in itertools.permutations(items):
        assert sorted(i["id"] for i in deduplicate(order)[0]) == sorted(names)
    return names


def test_the_newest_baseline_stays_and_is_recorded():
    """05.10 is newer than 05.09 and than 02.09, whatever was generated last."""
    old = sentinel2("a", "02.09", **{"s2:generation_time": "2024-01-01T00:00:00Z"})
    newer, newest = sentinel2("b", "05.09"), sentinel2("c", "05.10")
    assert kept(old, newer, newest) == ["c"]
    assert deduplicate([old, newest])[1] == [
        {
            "id": "a",
            "by": "c",
            "reason": "T32UNA of sentinel-2a: baseline 02.09 before baseline 05.10",
        }
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"s2:generation_time": "2020-07-18T00:00:00Z"}, {"s2:generation_time": "2020-10-03T10:46:58.860Z"}),
        ({"created": "2020-07-18T00:00:00Z"}, {"created": "2020-07-18T00:00:01+00:00"}),
        ({"created": "2020-07-18T00:00:00Z"}, {"updated": "2020-07-19"}),
        ({}, {"created": "2020-07-18T00:00:00Z"}),
        ({"created": "last week"}, {"created": "2020-07-18T00:00:00Z"}),
        ({"created": 7}, {}),
        ({}, {"datetime": "2020-07-17T22:19:51.024Z"}),
    ],
)  # fmt: skip
def test_of_one_baseline_the_last_made_stays(old: dict[str, Any], new: dict[str, Any]):
    """Generation time, then the time of the record, then the name; what cannot be read is no time."""
    assert kept(sentinel2("a", **old), sentinel2("b", **new)) == ["b"]


@pytest.mark.parametrize(
    "other",
    [
        {"platform": "sentinel-2b"},
        {"grid:code": "MGRS-32UPA"},
        {"s2:product_type": "S2MSI1C"},
        {"datetime": "2020-07-18T00:00:00Z"},
        {"datetime": "2020-07-22T22:19:41Z"},
        {"place": box(10, 51, 11, 52)},
        {"place": box(10.1, 50, 11, 51)},
        {
            "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_SGS__20200717T234135_S20200717T221950_N02.09",
        },
    ],
)
def test_what_differs_in_place_or_time_is_another_look(other: dict[str, Any]):
    """Another satellite, tile, level, overpass or day, or another part of the tile: both stay."""
    strip = "S2A_OPER_MSI_L2A_DS_ESRI_20201003T104659_S20200717T221944_N05.00"
    new = sentinel2("b", "05.00", **({"s2:datastrip_id": strip} | other))
    old = sentinel2("a", "02.09", **{"s2:datastrip_id": strip.replace("05.00", "02.09")})
    if "place" in other:
        old["geometry"] = mapping(box(10, 50, 11, 51))
    assert kept(old, new) == ["a", "b"]


def test_a_tile_cut_in_two_and_processed_again_keeps_both_new_parts():
    """Two datastrips of a tile, two processings each: the newer one of each part stays."""
    north, south = box(10, 50.4, 11, 51), box(10, 50, 11, 50.6)
    items = [
        sentinel2(f"{name}-{baseline}", baseline, place=place)
        for name, place in (("n", north), ("s", south))
        for baseline in ("02.09", "05.00")
    ]
    assert kept(*items) == ["n-05.00", "s-05.00"]


def test_one_granule_in_two_collections_counts_once():
    """Providers hold old and new processing side by side, under one and the same name too."""
    old = sentinel2("S2A_32UNA", collection="sentinel-2-l2a")
    new = sentinel2("S2A_32UNA", "05.00", collection="sentinel-2-c1-l2a")
    stay, records = deduplicate([old, new])
    assert [i["collection"] for i in stay] == ["sentinel-2-c1-l2a"]
    assert records[0]["reason"].endswith("(collections sentinel-2-l2a, sentinel-2-c1-l2a)")


@pytest.mark.parametrize(
    "told",
    [
        {"s2:mgrs_tile": "32UNA"},
        {"grid:code": "MGRS-32UNA"},
        {"mgrs:utm_zone": 32, "mgrs:latitude_band": "U", "mgrs:grid_square": "NA"},
        {"sentinel:utm_zone": 32, "sentinel:latitude_band": "U", "sentinel:grid_square": "NA"},
        {"s2:product_uri": "S2A_MSIL2A_20200717T221941_N0209_R029_T32UNA_20200717T234135.SAFE"},
    ],
)
def test_every_way_to_name_a_tile_is_the_same_tile(told: dict[str, Any]):
    """Planetary Computer, Earth Search old and new, CDSE: their items of one granule meet."""
    new = sentinel2("new", "05.00")
    old = item("old", platform="Sentinel-2A", **({"s2:product_type": "S2MSI2A"} | told))
    assert kept(old, new) == ["new"]


def test_names_alone_tell_the_granule():
    """Where an item has nothing but its product name: tile, satellite, level and baseline are in it."""
    names = [
        "S2A_MSIL2A_20200717T221941_N0209_R029_T01LAC_20200717T234135",
        "S2A_MSIL2A_20200717T221941_N0500_R029_T01LAC_20230717T234135",
        "S2A_MSIL1C_20200717T221941_N0500_R029_T01LAC_20230717T234135",
        "S2A_1LAC_20200717_0_L2A",
    ]
    facts = {"constellation": "sentinel-2"}
    assert kept(*(item(name, **facts) for name in names)) == names[1:3]


def test_landsat_real_time_gives_way_to_its_final_tier():
    """RT goes for T1, an older processing for a newer one, though the newer is recorded earlier."""
    rt = landsat("LC08_L2SP_028030_20200717_20200717_02_RT", created="2021-01-01T00:00:00Z")
    old = landsat("LC08_L2SP_028030_20200717_20200801_02_T1")
    new = landsat("LC08_L2SP_028030_20200717_20200824_02_T1")
    assert kept(rt, old, new) == ["LC08_L2SP_028030_20200717_20200824_02_T1"]
    assert deduplicate([rt, new])[1][0]["reason"] == (
        "028030 of landsat-8: collection 2 RT before collection 2 T1"
    )


def test_landsat_scenes_of_other_places_days_levels_and_satellites_stay():
    """Rows overlap along a path and are different looks; so are L1 and L2 of one."""
    names = [
        "LC08_L2SP_028030_20200717_20200824_02_T1",
        "LC08_L1TP_028030_20200717_20200824_02_T1",
        "LC08_L2SP_028031_20200717_20200824_02_T1",
        "LC09_L2SP_028030_20200717_20200824_02_T1",
    ]
    later = "LC08_L2SP_028030_20200802_20200824_02_T1"
    items = [*map(item, names), item(later, datetime="2020-08-02T17:00:00Z")]
    assert kept(*items) == [*names, later]


def test_hls_versions_give_way():
    """v2.0 of a tile and time stays; the Landsat and the Sentinel look are two."""
    names = [
        "HLS.S30.T34VEL.2020199T221941.v1.5",
        "HLS.S30.T34VEL.2020199T221941.v2.0",
        "HLS.L30.T34VEL.2020199T221941.v1.5",
    ]
    assert kept(*map(item, names)) == names[1:]


def test_without_a_grid_nothing_goes():
    """The same instant, platform, collection and footprint under two names: drone images; both stay."""
    assert kept(item("a", platform="drone"), item("b", platform="drone")) == ["a", "b"]


def test_cells_of_another_grid_need_all_to_be_equal():
    """One cell, instant, platform, collection and set of assets: the later record stays."""
    cell = {"grid:code": "MXRA-Z11-031311102001", "platform": "WV02"}
    new = item("b", created="2024-01-01T00:00:00Z", **cell)
    assert kept(item("a", **cell), new) == ["b"]
    assert kept(item("a", collection="other", **cell), new) == ["a", "b"]
    bare = item("a", **cell) | {"assets": {"dem": {"href": "https://a.org/d.tif"}}}
    assert kept(bare, new) == ["a", "b"]


def test_a_scene_without_footprint_is_compared_by_name():
    """Where no footprint is given, tile and time decide."""
    old = sentinel2("a") | {"geometry": None}
    assert kept(old, sentinel2("b", "05.00")) == ["b"]


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_the_order_of_the_answer_does_not_matter(seed: int, count: int):
    """However a catalogue sorts its answer, the same scenes stay, in the order given."""
    dice = random.Random(seed)
    items = [
        sentinel2(
            f"{n}",
            f"0{dice.randint(2, 5)}.00",
            datetime=f"2020-07-{dice.randint(10, 12)}T22:{dice.randint(10, 59)}:00Z",
            **{"grid:code": f"MGRS-32UN{dice.choice('AB')}"},
        )
        for n in range(count)
    ]
    stay = [i["id"] for i in deduplicate(items)[0]]
    assert stay == sorted(stay, key=[i["id"] for i in items].index)
    shuffled = dice.sample(items, count)
    assert {i["id"] for i in deduplicate(shuffled)[0]} == set(stay)
    assert deduplicate(deduplicate(items)[0])[1] == []


def test_real_catalogues_hold_few_granules_twice(shared_data: Path):
    """Of 64 real items two are in two documents each; nothing else goes."""
    items = []
    for path in sorted((shared_data / "stac_documents").rglob("*json")):
        value = json.loads(path.read_text())
        features = value.get("features", [value]) if isinstance(value, dict) else []
        items += [f for f in features if f.get("type") == "Feature" and "assets" in f]
    stay, records = deduplicate(items)
    assert len(items) == 64
    assert {record["id"] for record in records} == {
        "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531",
        "S2B_MSIL2A_20200606T080609_R078_T35MNM_20200826T094900",
    }
    assert all(record["id"] == record["by"] for record in records)
    assert len(stay) == 62
