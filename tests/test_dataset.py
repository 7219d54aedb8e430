"""Datasets: splits that do not leak, chips cut on the fly, faults told in a sentence."""

import contextlib
import multiprocessing
import pickle
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import Point, box

from landcover.bands import SENTINEL2
from landcover.errors import DatasetError
from landcover.splits import SPLITS
from pipeline.dataset import Dataset, load_dataset
from pipeline.dataset_survey import survey
from pipeline.open_files import FILES
from pipeline.window_labeller import band_numbers
from tests.made_datasets import CORNER, describe, mosaic, numbered, pair, write_raster

IDS = 65_536


def faults(path: Path) -> list[str]:
    """All errors of a dataset."""
    return survey(path).errors


def warnings(path: Path) -> list[str]:
    """All warnings of a dataset that can be used."""
    found = survey(path)
    assert found.errors == []
    return [one.message for one in found.findings]


def labelled_ids(dataset: Dataset, split: str, side: int = 16) -> NDArray[np.int64]:
    """How often the tiles of a split hold each pixel of a numbered image as labelled, (ids,)."""
    counts = np.zeros(IDS, np.int64)
    for place in dataset.tiles(split, side):
        chip = dataset.read(place)
        counts += np.bincount(chip.image[0][chip.codes > 0].astype(int), minlength=IDS)
    return counts


# --- splits and chips


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, the second shifted by 7 rows and 21 columns, so that they share ground."""
    folder = tmp_path_factory.mktemp("two")
    entries = [
        pair(folder, "a", seed=0),
        pair(folder, "b", seed=1, corner=(CORNER[0] + 210, CORNER[1] - 70)),
    ]
    return describe(folder, entries)


def test_every_labelled_pixel_is_in_one_tile_of_one_split(two: Path) -> None:
    """Over all splits, the tiles hold each labelled pixel exactly once, whatever their side."""
    dataset = load_dataset(two)
    expected = np.zeros(IDS, np.int64)
    for seed in (0, 1):
        expected[numbered((64, 64), 1 + 4096 * seed)[mosaic((64, 64), seed) > 0]] = 1
    for side in (7, 16, 100):
        found = sum(labelled_ids(dataset, split, side) for split in SPLITS)
        assert np.array_equal(found, expected)
    for split in SPLITS:
        assert labelled_ids(dataset, split).sum() == dataset.class_counts(split).sum() > 0


def test_the_same_ground_is_never_in_two_splits(two: Path) -> None:
    """Where the images overlap, both give a place to the same split."""
    dataset = load_dataset(two)
    ground: dict[tuple[int, int], str] = {}
    for split in SPLITS:
        for number in np.flatnonzero(labelled_ids(dataset, split)):
            image, place = divmod(int(number) - 1, 4096)
            row, col = divmod(place, 64)
            spot = (row + 7 * image, col + 21 * image)
            assert ground.setdefault(spot, split) == split


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("side", [5, 16, 40])
def test_no_chip_shows_anything_of_another_split(two: Path, side: int, *, balanced: bool) -> None:
    """All that is visible in a chip drawn for training is ground for training: labels and image alike."""
    dataset = load_dataset(two)
    own = {split: labelled_ids(dataset, split) > 0 for split in SPLITS}
    for split in SPLITS:
        others = np.any([own[other] for other in SPLITS if other != split], axis=0)
        for index in range(60):
            chip = dataset.draw(split, side, 3, index, balanced)
            assert chip.image.shape == (1, side, side)
            seen = chip.image[0][chip.valid].astype(int)
            assert not others[seen].any()
            assert (chip.codes > 0).any()
            assert not chip.codes[~chip.valid].any()
            assert not chip.image[:, ~chip.valid].any()


def test_small_chips_lie_wholly_inside(two: Path) -> None:
    """A chip no larger than a block is never blank in part."""
    dataset = load_dataset(two)
    assert all(dataset.draw("train", 8, 0, index).valid.all() for index in range(100))


def test_a_chip_depends_on_seed_and_index_alone(two: Path) -> None:
    """In any order, in a copy, in another process: the same chip."""
    dataset = load_dataset(two)
    first = [dataset.draw("train", 16, 5, index).image for index in range(4)]
    copy = pickle.loads(pickle.dumps(dataset))
    again = [copy.draw("train", 16, 5, index).image for index in (3, 2, 1, 0)][::-1]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        other = pool.starmap(_drawn, [(dataset, index) for index in range(4)])
    for chips in (again, other):
        assert all(np.array_equal(one, chip) for one, chip in zip(first, chips, strict=True))
    assert not np.array_equal(first[0], dataset.draw("train", 16, 6, 0).image)


def _drawn(dataset: Dataset, index: int) -> NDArray[np.float32]:
    return dataset.draw("train", 16, 5, index).image


def test_balanced_drawing_gives_rare_classes_their_turn(tmp_path: Path) -> None:
    """A class with 1 % of the pixels is at a third of the places, not at 1 %."""
    labels = np.full((64, 64), 1, np.uint8)
    labels[::16, ::4] = 2
    labels[8::16, ::4] = 5
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    write_raster(tmp_path / "l.tif", labels)
    dataset = load_dataset(describe(tmp_path, [{"image": "a.tif", "labels": "l.tif"}]))
    drawn = [int(dataset.draw("train", 1, 0, n).codes[0, 0]) for n in range(600)]
    assert all(150 < drawn.count(code) < 250 for code in (1, 2, 5))
    plain = [int(dataset.draw("train", 1, 0, n, balanced=False).codes[0, 0]) for n in range(600)]
    assert plain.count(1) > 500


def test_context_shows_the_image_but_no_labels(two: Path) -> None:
    """Around a tile the image goes on, whatever its split; labels do not; beyond the rim is nothing."""
    dataset = load_dataset(two)
    place = next(p for p in dataset.tiles("train", 16) if p.image == 0 and p.row == 0 and p.col > 0)
    chip, bare = dataset.read(place, context=4), dataset.read(place)
    assert chip.codes.shape == (24, 24)
    assert np.array_equal(chip.codes[4:-4, 4:-4], bare.codes)
    chip.codes[4:-4, 4:-4] = 0
    assert not chip.codes.any()
    assert not chip.valid[:4].any()
    assert chip.valid[4:, 4:-4].all()


def test_order_of_images_changes_nothing(tmp_path: Path) -> None:
    """Named in another order, blocks, splits and version are the same."""
    entries = [
        pair(tmp_path, "a", seed=0),
        pair(tmp_path, "b", seed=1, corner=(CORNER[0] + 640, CORNER[1])),
    ]
    one = survey(describe(tmp_path, entries))
    other = survey(describe(tmp_path, entries[::-1]))
    assert one.errors == []
    assert (one.splits, one.version) == (other.splits, other.version)


def test_one_more_image_elsewhere_moves_no_block(tmp_path: Path) -> None:
    """With the lattice given, blocks have names of their own, so the old ones keep theirs."""
    splits = {"block": "160 m", "crs": "EPSG:32633", "origin": list(CORNER)}
    first = pair(tmp_path, "a", seed=0)
    one = survey(describe(tmp_path, [first], splits=splits))
    second = pair(tmp_path, "b", seed=1, corner=(CORNER[0] - 6400, CORNER[1] + 6400))
    both = survey(describe(tmp_path, [first, second], splits=splits))
    assert set(one.splits) < set(both.splits)


def test_the_version_is_that_of_the_content(tmp_path: Path) -> None:
    """A changed pixel, label or rule is another version; a moved folder is not."""
    folder, moved = tmp_path / "one", tmp_path / "two"
    versions = [survey(describe(f, [pair(f, "a")])).version for f in (_made(folder), _made(moved))]
    assert versions[0] == versions[1]
    assert (
        survey(describe(folder, [pair(folder, "a")], splits={"block": "8 px"})).version
        != versions[0]
    )
    write_raster(moved / "a-labels.tif", mosaic((64, 64), 9))
    assert survey(moved / "dataset.yml").version != versions[1]


def test_a_legend_in_a_file_belongs_to_the_version(tmp_path: Path) -> None:
    """The same codes under other names are other labels; a legend of the program is no file."""
    path = describe(tmp_path, [pair(tmp_path, "a")], legend="classes.csv")
    rows = "value,name,color\n1,{},#0000ff\n2,{},#00aa00\n5,Town,#ff0000\n"
    versions = set()
    for names in (("Water", "Wood"), ("Wood", "Water"), ("Water", "Wood")):
        (tmp_path / "classes.csv").write_text(rows.format(*names), encoding="utf-8")
        versions.add(survey(path).version)
    assert len(versions) == 2
    assert "classes.csv" in survey(path).hashes
    known = survey(describe(tmp_path, [pair(tmp_path, "a")], legend="dynamicworld"))
    assert sorted(known.hashes) == ["a-labels.tif", "a.tif"]


def test_polygons_saved_but_not_yet_in_the_file_count(tmp_path: Path) -> None:
    """A GeoPackage open elsewhere keeps what was saved in a log: other counts, another version."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    x, y = CORNER
    frame = gpd.GeoDataFrame({"k": [1]}, geometry=[box(x, y - 640, x + 640, y)], crs="EPSG:32633")
    frame.to_file(tmp_path / "p.gpkg", SPATIAL_INDEX="NO")  # whose triggers only GDAL can run
    entry = {"image": "a.tif", "labels": "p.gpkg", "field": "k", "split": "train"}
    path = describe(tmp_path, [entry])
    with contextlib.closing(sqlite3.connect(tmp_path / "p.gpkg")) as editor:
        editor.execute("PRAGMA journal_mode = WAL")
        before = load_dataset(path)
        editor.execute("UPDATE p SET k = 5")
        editor.commit()
        after = load_dataset(path)
    assert before.class_counts("train").tolist() == [64 * 64, 0, 0]
    assert after.class_counts("train").tolist() == [0, 0, 64 * 64]
    assert before.version != after.version


def test_labels_with_brackets_in_their_name_are_counted_anew(tmp_path: Path) -> None:
    """Counts kept of `l (1).tif` are not those of the file that took its place."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    entry = {"image": "a.tif", "labels": "l (1).tif", "split": "train"}
    for counts in ([4096, 0, 0], [0, 0, 4096]):
        labels = np.full((64, 64), 1 if counts[0] else 5, np.uint8)
        write_raster(tmp_path / "l (1).tif", labels)
        found = load_dataset(describe(tmp_path, [entry]))
        assert found.class_counts("train").tolist() == counts


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_buffer_keeps_splits_apart(tmp_path: Path) -> None:
    """With a buffer of 40 m, labelled pixels of different splits are farther apart than that."""
    path = describe(tmp_path, [pair(tmp_path, "a")], splits={"block": "160 m", "buffer": "40 m"})
    dataset = load_dataset(path)
    places = {
        split: np.stack(np.divmod(np.flatnonzero(labelled_ids(dataset, split)) - 1, 64), axis=1)
        for split in SPLITS
    }
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        apart = np.hypot(*(places[one][:, None] - places[other][None]).transpose(2, 0, 1))
        assert apart.min() * 10 >= 40
    counts = [labelled_ids(dataset, split).sum() for split in SPLITS]
    assert counts == [dataset.class_counts(split).sum() for split in SPLITS]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.tuples(st.integers(20, 50), st.integers(20, 50)), move=st.tuples(st.integers(-40, 40), st.integers(-40, 40)),
    block=st.integers(5, 20), side=st.integers(1, 30), seed=st.integers(0, 100),
)  # fmt: skip
def test_nothing_leaks(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int], move: tuple[int, int], block: int, side: int, seed: int
) -> None:  # fmt: skip
    """Any two images, blocks and chips: one tile of one split for each label, no foreign pixel in a chip."""
    folder = tmp_path_factory.mktemp("any")
    corner = (CORNER[0] + 10 * move[0], CORNER[1] + 10 * move[1])
    entries = [pair(folder, "a", shape), pair(folder, "b", shape, seed=1, corner=corner)]
    path = describe(folder, entries, splits={"block": f"{block} px", "seed": seed})
    found = survey(path)
    if found.errors:
        assert all("No labelled ground is left" in message for message in found.errors)
        return
    dataset = Dataset(found)
    own = {split: labelled_ids(dataset, split, side) for split in SPLITS}
    assert sum(own.values()).max() == 1
    assert sum(own.values()).sum() == sum(dataset.class_counts(split).sum() for split in SPLITS)
    for index in range(10):
        seen = dataset.draw("train", side, seed, index)
        ids = seen.image[0][seen.valid].astype(int)
        assert not own["validation"][ids].any()
        assert not own["test"][ids].any()


# --- leaks


def test_images_given_to_two_splits_must_not_share_ground(tmp_path: Path) -> None:
    """The sentence names both files and the hectares: 20.48 on the plane of UTM, 20.50 on the ellipsoid."""
    first = pair(tmp_path, "a", seed=0) | {"split": "train"}
    second = pair(tmp_path, "b", seed=1, corner=(CORNER[0] + 320, CORNER[1])) | {"split": "test"}
    path = describe(tmp_path, [first, second])
    with pytest.raises(
        DatasetError, match=r"Leak: a\.tif \(train\) and b\.tif \(test\) share 20\.50 ha"
    ):
        load_dataset(path)


def test_neighbours_are_no_leak(tmp_path: Path) -> None:
    """Tiles that touch along a side share no ground, but are too near where a buffer is asked for."""
    entries = [
        pair(tmp_path, name, seed=seed, corner=(CORNER[0] + 640 * seed, CORNER[1]))
        | {"split": split}
        for seed, (name, split) in enumerate(zip("abc", SPLITS, strict=True))
    ]
    path = describe(tmp_path, entries)
    dataset = load_dataset(path)
    assert [block.image for split in SPLITS for block in dataset.blocks(split)] == [
        "a.tif",
        "b.tif",
        "c.tif",
    ]
    message = faults(describe(tmp_path, entries, splits={"block": "320 m", "buffer": "50 m"}))[0]
    assert "nearer to each other than the buffer of 50 m" in message


@pytest.mark.parametrize(
    ("east", "north", "near"),
    [(900, 0, True), (1100, 0, False), (0, 900, True), (690, 690, True), (720, 720, False)],
)
def test_images_far_north_keep_the_buffer(
    tmp_path: Path, east: float, north: float, near: bool
) -> None:
    """At 70 degrees a degree of longitude is a third of one of latitude; a gap is told in any direction."""
    first = CORNER[0], 7_770_000.0
    move = [640 + east if east else 0, 640 + north if north else 0]
    entries = [
        pair(tmp_path, "a", seed=0, corner=first) | {"split": "train"},
        pair(tmp_path, "b", seed=1, corner=(first[0] + move[0], first[1] + move[1])) | {"split": "test"},
    ]  # fmt: skip
    splits = {"block": "2 km", "buffer": "1 km"}
    found = faults(describe(tmp_path, entries, splits=splits))
    assert ["lie nearer to each other than the buffer of 1 km" in one for one in found] == [
        True
    ] * near


def test_a_given_image_takes_its_blocks_along(tmp_path: Path) -> None:
    """Blocks that a test image touches are for testing in every other image too."""
    held_out = pair(tmp_path, "b", (20, 20), seed=1, corner=(CORNER[0] + 200, CORNER[1] - 200)) | {
        "split": "test"
    }
    dataset = load_dataset(describe(tmp_path, [pair(tmp_path, "a"), held_out]))
    test = labelled_ids(dataset, "test")
    inside = numbered((64, 64))[20:40, 20:40][mosaic((64, 64))[20:40, 20:40] > 0]
    assert test[inside].all()


def test_groups_that_share_ground_stay_together(tmp_path: Path) -> None:
    """Images of two groups that overlap go to one split, whatever the seed."""
    entries = [
        pair(tmp_path, f"i{n}", (32, 32), seed=n, corner=(CORNER[0] + 300 * n, CORNER[1])) | {"group": f"g{n}"}
        for n in range(2)
    ] + [
        pair(tmp_path, f"i{n}", (32, 32), seed=n, corner=(CORNER[0] + 5000 * n, CORNER[1])) | {"group": f"g{n}"}
        for n in range(2, 6)
    ]  # fmt: skip
    for seed in range(4):
        found = survey(describe(tmp_path, entries, splits={"block": "16 px", "seed": seed}))
        assert found.errors == []
        assert "group g1" not in found.splits


def flat(folder: Path, name: str, seed: int, **more: Any) -> dict[str, Any]:
    """An image without a place, and its labels."""
    write_raster(folder / f"{name}.png", numbered((16, 16), 1 + 256 * seed), corner=None)
    write_raster(folder / f"{name}-labels.png", mosaic((16, 16), seed), corner=None)
    return {"image": f"{name}.png", "labels": f"{name}-labels.png"} | more


def test_images_without_a_place_need_a_group(tmp_path: Path) -> None:
    """Without CRS nobody can tell what shares ground, so a group must be said."""
    assert "group:" in faults(describe(tmp_path, [flat(tmp_path, "a", 0)]))[0]


def test_groups_are_not_divided(tmp_path: Path) -> None:
    """Six images in three groups: each group goes to one split, two images each."""
    entries = [flat(tmp_path, f"i{n}", n, group=f"tile {n // 2}") for n in range(6)]
    dataset = load_dataset(describe(tmp_path, entries))
    for split in SPLITS:
        assert len(dataset.blocks(split)) == 2
        assert len({block.name for block in dataset.blocks(split)}) == 1


def test_groups_may_be_given_to_splits(tmp_path: Path) -> None:
    """A group named under splits goes where it is told; another split for it is refused."""
    entries = [flat(tmp_path, f"i{n}", n, group=f"g{n}") for n in range(5)]
    rules = {"groups": {"g3": "test", "g1": "validation"}}
    found = survey(describe(tmp_path, entries, splits=rules))
    assert (found.splits["group g3"], found.splits["group g1"]) == (2, 1)
    entries[3]["split"] = "train"
    with pytest.raises(
        DatasetError, match="the group g3 is given to test under splits and to train"
    ):
        survey(describe(tmp_path, entries, splits=rules))


def test_the_same_picture_twice_is_a_leak(tmp_path: Path) -> None:
    """Also under another name and in another format; in one group it is only told."""
    entries = [flat(tmp_path, f"i{n}", n, group=f"g{n}") for n in range(4)]
    write_raster(tmp_path / "copy.tif", numbered((16, 16), 1), corner=None)
    twin = {"image": "copy.tif", "labels": "i0-labels.png", "group": "g9"}
    assert "hold the same pixels" in faults(describe(tmp_path, [*entries, twin]))[0]
    told = warnings(describe(tmp_path, [*entries, twin | {"group": "g0"}]))
    assert any("count twice" in line for line in told)


def test_too_few_groups(tmp_path: Path) -> None:
    """Two groups cannot fill three splits."""
    path = describe(tmp_path, [flat(tmp_path, f"i{n}", n, group=f"g{n}") for n in range(2)])
    assert "No labelled ground is left for test" in faults(path)[0]


# --- labels


def test_unknown_codes_are_named(tmp_path: Path) -> None:
    """A code that the legend lacks is an error with its count; it may be ignored on demand."""
    entry = pair(tmp_path, "a")
    labels = mosaic((64, 64))
    labels[:2, :3] = 9
    write_raster(tmp_path / "a-labels.tif", labels)
    assert "9 (6x)" in faults(describe(tmp_path, [entry]))[0]
    told = warnings(describe(tmp_path, [entry], labels={"unknown": "ignore"}))
    assert "9 (6x)" in told[0]


def test_labels_may_cover_a_part_or_more(tmp_path: Path) -> None:
    """A label raster cut from the image's grid, or reaching beyond it, is read at its place."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    whole = mosaic((80, 80), 3)
    for start, stop in ((8, 72), (0, 80), (20, 60)):
        corner = (CORNER[0] + 10 * (start - 8), CORNER[1] - 10 * (start - 8))
        write_raster(tmp_path / "l.tif", whole[start:stop, start:stop], corner=corner)
        dataset = load_dataset(describe(tmp_path, [{"image": "a.tif", "labels": "l.tif"}]))
        expected = np.zeros((64, 64), np.uint8)
        inner = slice(max(start - 8, 0), min(stop - 8, 64))
        expected[inner, inner] = whole[start:stop, start:stop][
            max(8 - start, 0) : max(8 - start, 0) + inner.stop - inner.start
        ][:, max(8 - start, 0) : max(8 - start, 0) + inner.stop - inner.start]
        counts = sum(dataset.class_counts(split) for split in SPLITS)
        assert counts.tolist() == [(expected == code).sum() for code in (1, 2, 5)]
        found = sum(labelled_ids(dataset, split) for split in SPLITS)
        assert np.array_equal(found[1:4097].reshape(64, 64) > 0, expected > 0)


def test_misaligned_labels_are_refused_unless_allowed(tmp_path: Path) -> None:
    """Half a pixel aside, or in another CRS: one sentence; with resample: nearest, the nearest label."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    write_raster(
        tmp_path / "l.tif", mosaic((128, 128)), pixel=5, corner=(CORNER[0] + 1, CORNER[1] - 1)
    )
    entry = {"image": "a.tif", "labels": "l.tif"}
    assert "is not on the grid" in faults(describe(tmp_path, [entry]))[0]
    path = describe(tmp_path, [entry], labels={"resample": "nearest"})
    assert "another grid" in warnings(path)[0]
    counts = sum(load_dataset(path).class_counts(split) for split in SPLITS)
    # The centre of pixel n lies at 10 n + 5, so (10 n + 4) / 5 = 2 n + 0 whole pixels into the labels.
    expected = mosaic((128, 128))[0::2, 0::2]
    assert counts.tolist() == [(expected == code).sum() for code in (1, 2, 5)]


COLORS = np.array([[0, 0, 255], [0, 170, 0], [255, 0, 0]], np.uint8)
BY_COLOR = {"mapping": {"#0000ff": "Water", "#00aa00": "Wood", "#ff0000": "Town"}}


@pytest.mark.parametrize("nodata", [None, 255, 7, 0])
def test_colours_are_labels_though_a_band_holds_the_nodata_number(
    tmp_path: Path, nodata: int | None
) -> None:
    """Blue is 0, 0, 255: no data only where all three bands are the nodata number."""
    places = np.repeat([0, 1, 2, 2], 4)[:, None] + np.zeros((16, 4), np.int64)
    labels = COLORS[places].transpose(2, 0, 1).copy()
    labels[:, 12:] = 0 if nodata is None else nodata
    write_raster(tmp_path / "a.tif", numbered((16, 4)))
    write_raster(tmp_path / "l.tif", labels, nodata=nodata, photometric="RGB")
    entry = {"image": "a.tif", "labels": "l.tif", "split": "train"}
    rules = {"mapping": BY_COLOR["mapping"] | ({"#000000": "ignore"} if nodata is None else {})}
    dataset = load_dataset(describe(tmp_path, [entry], labels=rules))
    assert dataset.class_counts("train").tolist() == [16, 16, 16]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_nodata_of_a_colour_table_is_a_stored_number(tmp_path: Path, dtype: str) -> None:
    """Of two entries of one colour the one that is nodata does not count; 0 is a colour as others."""
    stored = np.repeat([0, 1, 2, 3], 4)[:, None] + np.zeros((16, 4), np.int64)
    write_raster(tmp_path / "a.tif", numbered((16, 4)))
    write_raster(tmp_path / "l.tif", stored.astype(dtype), nodata=3, photometric="palette")
    with rasterio.open(tmp_path / "l.tif", "r+") as labels:
        labels.write_colormap(1, dict(enumerate(map(tuple, COLORS[[0, 1, 2, 1]]))))
    entry = {"image": "a.tif", "labels": "l.tif", "split": "train"}
    dataset = load_dataset(describe(tmp_path, [entry], labels=BY_COLOR))
    assert dataset.class_counts("train").tolist() == [16, 16, 16]


def test_labels_in_another_crs_are_found_by_place(tmp_path: Path) -> None:
    """A raster of the same ground in degrees gives each pixel the label that lies there."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)), corner=(500_000, 5_316_000))
    labels = np.full((400, 400), 1, np.uint8)
    labels[:, 200:] = 2  # east of 15.002 degrees
    write_raster(
        tmp_path / "l.tif", labels, crs="EPSG:4326", pixel=1e-5 * 2, corner=(14.998, 47.9995)
    )
    entry = {"image": "a.tif", "labels": "l.tif"}
    assert "is not on the grid" in faults(describe(tmp_path, [entry]))[0]
    dataset = load_dataset(describe(tmp_path, [entry], labels={"resample": "nearest"}))
    eastern = sum(int(dataset.class_counts(split)[1]) for split in SPLITS)
    western = sum(int(dataset.class_counts(split)[0]) for split in SPLITS)
    # From 15 degrees, 15.002 is 149.2 m away and the rim 447.6 m: 15 and 45 columns of pixel centres.
    assert (western, eastern) == (15 * 64, 30 * 64)


@pytest.mark.parametrize("west", [179.98, -180.02])
def test_labels_on_the_antimeridian_are_found_by_place(tmp_path: Path, west: float) -> None:
    """A raster in degrees that goes beyond 180, or begins before -180, labels both sides."""
    corner, pixel = (818_811.0, 8_118_638.0), 20.0
    write_raster(
        tmp_path / "a.tif", numbered((64, 64)), corner=corner, pixel=pixel, crs="EPSG:32760"
    )
    labels = np.repeat([[1, 2]], 200, axis=1).repeat(400, axis=0).astype(np.uint8)
    write_raster(tmp_path / "l.tif", labels, crs="EPSG:4326", pixel=1e-4, corner=(west, -16.98))
    entry = {"image": "a.tif", "labels": "l.tif", "split": "train"}
    dataset = load_dataset(describe(tmp_path, [entry], labels={"resample": "nearest"}))
    to_degrees = Transformer.from_crs("EPSG:32760", "EPSG:4326", always_xy=True)
    right, down = np.meshgrid(*[(np.arange(64) + 0.5) * pixel] * 2)
    lon, _ = to_degrees.transform(corner[0] + right, corner[1] - down)
    eastern = int((lon < 0).sum())
    assert 1000 < eastern < 3000
    assert dataset.class_counts("train").tolist() == [4096 - eastern, eastern, 0]


def test_polygons_label_what_they_hold(tmp_path: Path) -> None:
    """In another CRS, by attribute, with an area to ignore; all else is unlabelled."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    x, y = CORNER
    squares = gpd.GeoDataFrame(
        {"kind": ["lake", "lake", "town", None]},
        geometry=[box(x + s, y - s - 100, x + s + 100, y - s) for s in (0, 200, 400, 520)],
        crs="EPSG:32633",
    )
    squares.to_crs("EPSG:4326").to_file(tmp_path / "p.gpkg")
    gpd.GeoDataFrame(geometry=[box(x + 50, y - 100, x + 100, y)], crs="EPSG:32633").to_file(
        tmp_path / "i.geojson"
    )
    entry = {"image": "a.tif", "labels": "p.gpkg", "field": "kind", "split": "train"}
    more: dict[str, Any] = {
        "labels": {"mapping": {"lake": "Water", "town": 5}},
        "ignore": "i.geojson",
    }
    dataset = load_dataset(describe(tmp_path, [entry], **more))
    assert dataset.class_counts("train").tolist() == [150, 0, 100]
    assert set(np.flatnonzero(labelled_ids(dataset, "train")) - 1) == {
        64 * row + col
        for start, stop in ((0, 5), (20, 30), (40, 50))
        for row in range(start, start + 10)
        for col in range(start, stop)
    }
    more["labels"] = {"mapping": {"lake": "Water"}}
    assert "town (1x)" in faults(describe(tmp_path, [entry], **more))[0]


def test_polygons_that_cannot_be_used(tmp_path: Path) -> None:
    """No such attribute, points, no CRS, an image without CRS: a sentence each."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    x, y = CORNER
    gpd.GeoDataFrame({"k": [1]}, geometry=[box(x, y - 50, x + 50, y)], crs="EPSG:32633").to_file(
        tmp_path / "p.gpkg"
    )
    gpd.GeoDataFrame({"k": [1]}, geometry=[Point(x, y)], crs="EPSG:32633").to_file(
        tmp_path / "q.gpkg"
    )
    entry = {"image": "a.tif", "labels": "p.gpkg", "split": "train"}
    assert "which attribute is the class" in faults(describe(tmp_path, [entry]))[0]
    assert (
        "has no attribute 'nothing'"
        in faults(describe(tmp_path, [entry | {"field": "nothing"}]))[0]
    )
    assert (
        "labels are polygons"
        in faults(describe(tmp_path, [entry | {"labels": "q.gpkg", "field": "k"}]))[0]
    )
    write_raster(tmp_path / "b.png", numbered((16, 16)), corner=None)
    bare = entry | {"image": "b.png", "field": "k"}
    assert "cannot be placed" in faults(describe(tmp_path, [bare]))[0]


def test_numbered_polygons_may_lack_their_number(tmp_path: Path) -> None:
    """An empty cell of a column of numbers is 'not labelled', as one of texts is."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    x, y = CORNER
    halves = [box(x, y - 640, x + 320, y), box(x + 320, y - 640, x + 640, y)]
    frame = gpd.GeoDataFrame({"k": [5, None]}, geometry=halves, crs="EPSG:32633")
    frame.to_file(tmp_path / "p.gpkg")
    entry = {"image": "a.tif", "labels": "p.gpkg", "field": "k", "split": "train"}
    assert load_dataset(describe(tmp_path, [entry])).class_counts("train").tolist() == [0, 0, 2048]


@pytest.mark.parametrize("name", ["l.gpkg", "l.tif"])
def test_labels_in_the_crs_of_a_site_have_no_place(tmp_path: Path, name: str) -> None:
    """A CRS that is not bound to the Earth is told, for polygons and for rasters."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    site = 'LOCAL_CS["site", UNIT["metre", 1]]'
    write_raster(tmp_path / "l.tif", mosaic((64, 64)), crs=site)
    gpd.GeoDataFrame({"k": [1]}, geometry=[box(0, 0, 9, 9)], crs=site).to_file(tmp_path / "l.gpkg")
    entry = {"image": "a.tif", "labels": name, "field": "k", "split": "train"}
    found = faults(describe(tmp_path, [entry], labels={"resample": "nearest"}))
    assert len(found) == 1
    assert f"{name} has a CRS that cannot be turned into the image's;" in found[0]


def test_labels_where_the_image_has_no_data_do_not_count(tmp_path: Path) -> None:
    """They are told, and come out as code 0."""
    values = numbered((64, 64))
    values[:32] = 0
    write_raster(tmp_path / "a.tif", values, nodata=0)
    write_raster(tmp_path / "l.tif", np.full((64, 64), 1, np.uint8))
    path = describe(tmp_path, [{"image": "a.tif", "labels": "l.tif", "split": "train"}])
    assert any("labels 2,048 pixels where a.tif has no data" in line for line in warnings(path))
    assert load_dataset(path).class_counts("train").tolist() == [2048, 0, 0]


def test_a_class_never_seen_is_told(tmp_path: Path) -> None:
    """It is no error: the draw goes on with the others."""
    write_raster(tmp_path / "a.tif", numbered((64, 64)))
    write_raster(tmp_path / "l.tif", mosaic((64, 64), codes=(1, 2)))
    path = describe(tmp_path, [{"image": "a.tif", "labels": "l.tif"}])
    assert warnings(path) == ["No pixel is labelled 5 Town; a model cannot learn it."]
    assert {int(load_dataset(path).draw("train", 1, 0, n).codes[0, 0]) for n in range(30)} == {1, 2}


def test_a_split_without_labels_cannot_be_drawn_from(tmp_path: Path) -> None:
    """One sentence, not an endless search."""
    path = describe(tmp_path, [pair(tmp_path, "a") | {"split": "train"}])
    dataset = load_dataset(path)
    assert dataset.class_counts("test").tolist() == [0, 0, 0]
    assert list(dataset.tiles("test", 16)) == []
    with pytest.raises(DatasetError, match="no labelled pixel in test"):
        dataset.draw("test", 16, 0, 0)
    with pytest.raises(DatasetError, match="no split 'dev'"):
        dataset.blocks("dev")
    with pytest.raises(DatasetError, match="Chips of 0 pixels"):
        dataset.draw("train", 0, 0, 0)


# --- images


def test_thirteen_bands_of_which_three_are_used(tmp_path: Path) -> None:
    """By description in any spelling, or by number; a band that is not there is named."""
    image = np.stack([np.full((64, 64), 100 * n, np.uint16) for n in range(1, 14)])
    names = list(SENTINEL2)[:13]
    image[:, 0, 0] += 1
    write_raster(tmp_path / "a.tif", image, names=names)
    write_raster(tmp_path / "l.tif", mosaic((64, 64)))
    entry = [{"image": "a.tif", "labels": "l.tif", "split": "train"}]
    more = {"scale": 0.001, "offset": -0.1}
    for bands in (["red", "B08", "swir16"], {"red": 4, "B08": 8, "swir16": 12}):
        dataset = load_dataset(describe(tmp_path, entry, bands=bands, **more))
        chip = dataset.read(dataset.tiles("train", 16)[-1])
        assert dataset.bands == ("red", "B08", "swir16")
        assert band_numbers(dataset, ["nir", "B04"]) == [1, 0]
        assert chip.image[:, 5, 5].tolist() == pytest.approx([0.3, 0.7, 1.1])
        assert dataset.band_mean() == pytest.approx([0.3, 0.7, 1.1], abs=1e-5)
    assert "has the bands" in faults(describe(tmp_path, entry, bands=["red", "pan"]))[0]
    assert "asks for band 14" in faults(describe(tmp_path, entry, bands={"red": 14}))[0]


def test_one_file_for_each_band(tmp_path: Path) -> None:
    """Names with spaces and commas; another grid among them is refused."""
    for n, name in enumerate(("x, B04.tif", "x, B03.tif"), start=1):
        write_raster(tmp_path / name, numbered((64, 64), n))
    write_raster(tmp_path / "l.tif", mosaic((64, 64)))
    entry = {
        "image": {"green": "x, B03.tif", "red": "x, B04.tif"},
        "labels": "l.tif",
        "split": "train",
    }
    dataset = load_dataset(describe(tmp_path, [entry], bands=["red", "green"]))
    chip = dataset.read(dataset.tiles("train", 64)[0])
    assert chip.image[:, 0, 0].tolist() == [1, 2]
    write_raster(tmp_path / "x, B03.tif", numbered((32, 32)), pixel=20)
    assert "resample the bands" in faults(describe(tmp_path, [entry], bands=["red", "green"]))[0]


@pytest.mark.parametrize(
    ("tags", "more", "message"),
    [
        ((1e-4, 0), {}, "says scale 0.0001 and offset 0, the dataset scale 1 and offset 0; a map is"),
        ((1e-4, 0), {"scale": 1e-4, "offset": -0.1}, "offset 0, the dataset scale 0.0001 and offset -0.1"),
        ((float(np.float32(1e-4)), 0), {"scale": 1e-4}, ""),
        ((2.75e-5, -0.2), {"scale": 2.75e-5, "offset": -0.2}, ""),
        ((1, 0), {"scale": 1e-4}, ""),
        ((0, 0), {"scale": 1e-4}, ""),
    ],
)  # fmt: skip
def test_the_scaling_is_that_of_the_images(
    tmp_path: Path, tags: tuple[float, float], more: dict[str, float], message: str
) -> None:
    """Mapping obeys what a band declares, so that training by another scaling is refused."""
    entry = pair(tmp_path, "a")
    with rasterio.open(tmp_path / "a.tif", "r+") as image:
        image.scales, image.offsets = ((value,) for value in tags)
    found = faults(describe(tmp_path, [entry], **more))
    assert [message in one for one in found] == [True] * bool(message)


def test_nodata_without_a_tag(tmp_path: Path) -> None:
    """The number that the YAML says: in any band, or only in all bands together."""
    image = np.full((2, 64, 64), 7, np.uint8)
    image[:, :10] = 255
    image[0, 10:20] = 255
    image[0, 63, 63] = 8
    write_raster(tmp_path / "a.tif", image)
    write_raster(tmp_path / "l.tif", np.full((64, 64), 1, np.uint8))
    entry = [{"image": "a.tif", "labels": "l.tif", "split": "train"}]
    for where, rows in (("any", 44), ("all", 54)):
        path = describe(tmp_path, entry, bands=["a", "b"], nodata=255, nodata_in=where)
        assert load_dataset(path).class_counts("train")[0] == rows * 64


@pytest.mark.parametrize(("more", "rows"), [({}, 54), ({"nodata": 255}, 64), ({"nodata": 0}, 44)])
def test_zeros_are_empty_where_nothing_says_what_is(
    tmp_path: Path, more: dict[str, Any], rows: int
) -> None:
    """As for a map: pixels that are 0 in all bands have no data, unless the file or the YAML says otherwise."""
    image = np.full((2, 64, 64), 7, np.uint8)
    image[:, :10] = 0
    image[0, 10:20] = 0
    image[0, 63, 63] = 8
    write_raster(tmp_path / "a.tif", image)
    write_raster(tmp_path / "l.tif", np.full((64, 64), 1, np.uint8))
    entry = [{"image": "a.tif", "labels": "l.tif", "split": "train"}]
    path = describe(tmp_path, entry, bands=["a", "b"], **more)
    assert load_dataset(path).class_counts("train")[0] == rows * 64


def test_threads_read_the_same(two: Path) -> None:
    """Chips drawn by four threads at once are those of one."""
    dataset = load_dataset(two)
    alone = [dataset.draw("train", 16, 7, index).image for index in range(40)]
    FILES.close()
    with ThreadPoolExecutor(4) as threads:
        together = list(
            threads.map(lambda index: dataset.draw("train", 16, 7, index).image, range(40))
        )
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_forked_process_opens_its_own_files(two: Path) -> None:
    """A child made by fork, as data loaders make them, draws what its parent does."""
    dataset = load_dataset(two)
    first = dataset.draw("train", 16, 5, 1).image
    with multiprocessing.get_context("fork").Pool(1) as pool:
        other = pool.apply(_drawn, (dataset, 1))
    assert np.array_equal(first, other)
    assert np.array_equal(first, dataset.draw("train", 16, 5, 1).image)


def test_corrupt_files_are_named(tmp_path: Path) -> None:
    """A cut JPEG, a cut GeoTIFF, a text called TIFF: each is an error that names it; the rest is looked at."""
    rng = np.random.default_rng(0)
    noise = rng.integers(1, 255, (3, 200, 200)).astype(np.uint8)
    write_raster(tmp_path / "a.jpg", noise, corner=None)
    write_raster(tmp_path / "b.tif", noise, compress="deflate")
    (tmp_path / "c.tif").write_text("no image")
    write_raster(tmp_path / "l.tif", np.full((200, 200), 1, np.uint8))
    write_raster(tmp_path / "l.png", np.full((200, 200), 1, np.uint8), corner=None)
    for name in ("a.jpg", "b.tif"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    entries = [
        {"image": name, "labels": labels, "split": "train"}
        for name, labels in (("a.jpg", "l.png"), ("b.tif", "l.tif"), ("c.tif", "l.tif"))
    ]
    found = faults(describe(tmp_path, entries, bands=["red", "green", "blue"]))
    assert len(found) == 3
    for name in ("a.jpg", "b.tif", "c.tif"):
        assert any(f"{name} cannot be read" in message for message in found)


def test_a_file_that_goes_bad_later_is_named(tmp_path: Path) -> None:
    """A chip that cannot be read any more is an error that names the file, not a black chip."""
    rng = np.random.default_rng(1)
    write_raster(tmp_path / "a.tif", rng.integers(1, 60_000, (64, 64)).astype(np.uint16))
    write_raster(tmp_path / "l.tif", mosaic((64, 64)))
    dataset = load_dataset(describe(tmp_path, [{"image": "a.tif", "labels": "l.tif"}]))
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:3000])
    FILES.close()
    with pytest.raises(DatasetError, match=r"a\.tif cannot be read"):
        dataset.draw("train", 16, 5, 0)


def test_a_second_look_counts_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted is kept by content: the same result, without reading a pixel."""
    path = describe(tmp_path, [pair(tmp_path, "a")])
    first = load_dataset(path)
    monkeypatch.setattr("pipeline.dataset_image.DatasetImage.read", None)
    second = load_dataset(path)
    assert second.version == first.version
    assert all(np.array_equal(first.class_counts(s), second.class_counts(s)) for s in SPLITS)


def test_a_cache_that_is_damaged_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rubbish in the cache, or a folder that cannot be written, costs time only."""
    path = describe(tmp_path, [pair(tmp_path, "a")])
    monkeypatch.setenv("LANDCOVER_CACHE", str(tmp_path / "cache"))
    first = load_dataset(path)
    for kept in (tmp_path / "cache").rglob("*"):
        if kept.is_file():
            kept.write_bytes(b"PK\x03\x04 rubbish")
    assert load_dataset(path).class_counts("train").tolist() == first.class_counts("train").tolist()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LANDCOVER_CACHE", str(tmp_path / "file"))
    assert load_dataset(path).version == first.version
