"""Bands of rows and the folder of those that are finished."""

import contextlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.errors import RasterError, SettingsError
from pipeline.cog_profile import CogProfile
from pipeline.shards import ShardFolder, plan_bands
from pipeline.tile_file import TileFile

ROOT = Path(__file__).parent.parent
LAYERS = {
    "classes": CogProfile(
        "uint8", ("class",), "mode", colormap={1: (9, 9, 9, 255)}, tags={"A": "b"}, block=16
    ),
    "probabilities": CogProfile("uint8", ("one", "two"), block=16),
}
BANDS = (range(16), range(16, 32), range(32, 40))


def grid_of(rows: int, cols: int) -> GeoBox:
    """A grid of 10 m pixels."""
    return GeoBox((rows, cols), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")


GRID = grid_of(40, 20)


def shard_folder(
    path: Path,
    key: str = "key",
    bands: Sequence[range] = BANDS,
    names: Sequence[str] = tuple(LAYERS),
) -> ShardFolder:
    """The folder of a map of 40 x 20 pixels."""
    return ShardFolder(path / "shards", key, bands, {name: LAYERS[name] for name in names}, GRID)


def pixels(value: int, rows: int) -> dict[str, NDArray[np.uint8]]:
    """Rows of one value in every layer."""
    return {
        name: np.full((len(profile.bands), rows, 20), value, np.uint8)
        for name, profile in LAYERS.items()
    }


def finish(shards: ShardFolder, band: range, value: int = 7) -> None:
    """Write a band of one value, in two pieces."""
    with shards.writer(band) as write:
        write(pixels(value, 5))
        write(pixels(value, len(band) - 5))


def read(path: Path, name: str, grid: GeoBox = GRID) -> NDArray[np.uint8]:
    """Pixels of a tile file, (bands, rows, cols)."""
    return np.concatenate(list(TileFile.open(path, grid, LAYERS[name]).strips(0)), axis=1)


def names(shards: ShardFolder) -> list[str]:
    """First rows of the shards in the folder, and whatever else is there."""
    return sorted(entry.name.split("-")[0] for entry in shards.path.iterdir())


@pytest.mark.parametrize(
    ("height", "band_rows", "workers", "tops"),
    [
        (1, None, 1, [0]),
        (2049, None, 1, [0, 2048]),
        (
            2201,
            None,
            2,
            [0, 512, 1024, 1536, 2048],
        ),  # 1024 rows make three, two are idle at the end
        (8192, None, 2, [0, 2048, 4096, 6144]),
        (600, None, 8, [0, 512]),  # not below a tile
        (4000, 1024, 1, [0, 1024, 2048, 3072]),
        (4000, 2047, 9, [0, 1024, 2048, 3072]),  # whole tiles, doubled
        (700, 5, 1, [0, 512]),
    ],
)
def test_bands_of_rows_by_hand(
    height: int, band_rows: int | None, workers: int, tops: list[int]
) -> None:
    """2048 rows, or what is asked for rounded to 512 x 2^k; less where workers would idle."""
    bands = plan_bands(height, 512, band_rows, workers)
    assert [band.start for band in bands] == tops
    assert bands[-1].stop == height


@given(
    st.integers(1, 50_000), st.sampled_from([16, 48, 512, 4096]),
    st.none() | st.integers(1, 9000), st.integers(1, 40),
)  # fmt: skip
def test_bands_cover_every_row_once(
    height: int, block: int, band_rows: int | None, workers: int
) -> None:
    """Bands follow each other, start at tiles, and are enough for the workers if tiles allow it."""
    bands = plan_bands(height, block, band_rows, workers)
    assert [row for band in bands for row in band] == list(range(height))
    rows = bands[0].stop if len(bands) > 1 else block
    assert rows % block == 0
    assert (rows // block).bit_count() == 1
    assert all(band.start % rows == 0 for band in bands)
    if band_rows is None and workers > 1:
        assert len(bands) >= 2 * workers or rows == block


@pytest.mark.parametrize(("band_rows", "workers"), [(0, 1), (-5, 1), (None, 0)])
def test_bands_without_rows_or_workers_are_refused(band_rows: int | None, workers: int) -> None:
    """No rows in a band, or nobody to do them, is a mistake."""
    with pytest.raises(SettingsError, match="must be 1 or more"):
        plan_bands(100, 512, band_rows, workers)


def test_a_shard_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Until the last row is written the band is missing; then its tile files hold what was written."""
    shards = shard_folder(tmp_path)
    assert shards.missing() == list(BANDS)
    with shards.writer(BANDS[1]) as write:
        write(pixels(1, 6))
        write(pixels(2, 10))
        assert shards.missing() == list(BANDS)
    assert shards.missing() == [BANDS[0], BANDS[2]]
    assert names(shards) == ["000000016", "manifest.json"]
    expected = np.repeat([1, 2], [6, 10])[None, :, None]
    for name, profile in LAYERS.items():
        path = shards.files(name)[1]
        assert (read(path, name) == expected).all()
        assert TileFile.open(path, GRID, profile).rows == BANDS[1]
    assert [path.parent.name[:9] for path in shards.files("classes")] == [
        "000000000", "000000016", "000000032",
    ]  # fmt: skip


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_writer_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Where the body fails there is neither a shard nor a part of one."""
    shards = shard_folder(tmp_path)
    with pytest.raises(error), shards.writer(BANDS[0]) as write:
        write(pixels(1, 16))
        raise error
    assert names(shards) == ["manifest.json"]


def test_what_all_workers_need_is_copied_whole(tmp_path: Path) -> None:
    """A folder that could not be copied is absent; the newest copy is there, and goes with the shards."""
    shards, source = shard_folder(tmp_path), tmp_path / "source"
    with pytest.raises(RasterError, match="could not be written"):
        shards.keep("converted", source)
    assert [entry.name for entry in shards.path.iterdir()] == ["manifest.json"]
    source.mkdir()
    places = []
    for text in ("first", "second"):
        (source / "file").write_text(text)
        places.append(shards.keep("converted", source))
    assert places[0] == places[1]
    assert (places[0] / "file").read_text() == "second"
    shard_folder(tmp_path, "another key")
    assert not places[0].exists()


def test_rows_that_are_missing_make_no_shard(tmp_path: Path) -> None:
    """A body that ends before the band does is a mistake, not a shard."""
    shards = shard_folder(tmp_path)
    with pytest.raises(ValueError), shards.writer(BANDS[0]) as write:
        write(pixels(1, 15))
    assert names(shards) == ["manifest.json"]


def test_finished_bands_are_there_after_a_restart(tmp_path: Path) -> None:
    """The same key, bands and layers: what was finished is not missing."""
    finish(shard_folder(tmp_path), BANDS[2])
    again = shard_folder(tmp_path)
    assert again.missing() == [BANDS[0], BANDS[1]]
    assert (read(again.files("probabilities")[2], "probabilities") == 7).all()


@pytest.mark.parametrize(
    "other",
    [{"key": "another"}, {"bands": (range(32), range(32, 40))}, {"names": ("classes",)}],
    ids=str,
)
def test_shards_of_something_else_are_removed(tmp_path: Path, other: dict[str, object]) -> None:
    """Another key, other bands or other layers: nothing of the old shards is used or kept."""
    finish(shard_folder(tmp_path), BANDS[0])
    shards = shard_folder(tmp_path, **other)
    assert names(shards) == ["manifest.json"]
    assert shards.missing() == list(shards.bands)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff\xfe", None])
def test_shards_without_a_manifest_are_removed(tmp_path: Path, text: bytes | None) -> None:
    """Where nobody can tell what the shards belong to, they are done again."""
    shards = shard_folder(tmp_path)
    finish(shards, BANDS[0])
    manifest = shards.path / "manifest.json"
    manifest.unlink()
    if text is not None:
        manifest.write_bytes(text)
    assert shard_folder(tmp_path).missing() == list(BANDS)
    finish(shards, BANDS[0])
    assert shard_folder(tmp_path).missing() == list(BANDS[1:])


def test_a_truncated_shard_is_missing(tmp_path: Path) -> None:
    """A tile file cut at any place, or gone, makes its band missing; doing it again mends it."""
    shards = shard_folder(tmp_path)
    finish(shards, BANDS[0])
    path = shards.files("probabilities")[0]
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        assert shards.missing() == list(BANDS)
    path.unlink()
    assert shards.missing() == list(BANDS)
    finish(shards, BANDS[0])
    assert shards.missing() == list(BANDS[1:])
    assert path.read_bytes() == whole
    assert names(shards) == ["000000000", "manifest.json"]


def test_the_faster_of_two_writers_wins(tmp_path: Path) -> None:
    """A band that is done twice at the same time: the second finds it there and drops its own."""
    shards = shard_folder(tmp_path)
    other = pickle.loads(pickle.dumps(shards))  # as it travels to a worker
    with shards.writer(BANDS[0]) as slow:
        slow(pixels(1, 16))
        finish(other, BANDS[0], 2)
    assert shards.missing() == list(BANDS[1:])
    assert (read(shards.files("classes")[0], "classes") == 2).all()
    assert names(shards) == ["000000000", "manifest.json"]


def test_many_writers_of_one_band_end_well(tmp_path: Path) -> None:
    """Eight threads that write the same band, over a damaged shard too, leave one whole shard."""
    shards = shard_folder(tmp_path)
    for damaged in (False, True):
        if damaged:
            shards.files("classes")[0].write_bytes(b"torn")
        failed: list[BaseException] = []
        start = threading.Barrier(8)

        def write(failed: list[BaseException] = failed, start: threading.Barrier = start) -> None:
            try:
                start.wait()
                finish(shards, BANDS[0])
            except BaseException as error:  # noqa: BLE001 - to be seen in the test's own thread
                failed.append(error)

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert names(shards) == ["000000000", "manifest.json"]
        assert shards.missing() == list(BANDS[1:])


def test_a_late_writer_of_an_older_run_changes_nothing(tmp_path: Path) -> None:
    """What a worker still does for a run with other settings never counts for this one."""
    old = shard_folder(tmp_path, key="old")
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(old.writer(BANDS[0]))
        write(pixels(1, 16))
        new = shard_folder(tmp_path, key="new")
        with pytest.raises(OSError):  # its file was removed under it
            stack.close()
    finish(old, BANDS[1])
    assert new.missing() == list(BANDS)
    finish(new, BANDS[1], 2)
    assert (read(new.files("classes")[1], "classes") == 2).all()


def test_a_strangers_file_is_not_removed(tmp_path: Path) -> None:
    """A folder that holds something else is refused, or kept, but never emptied."""
    notes = tmp_path / "shards" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(SettingsError, match=r"holds notes.txt; move that"):
        shard_folder(tmp_path)
    notes.unlink()
    shards = shard_folder(tmp_path)
    finish(shards, BANDS[0])
    notes.write_text("mine")
    with pytest.raises(SettingsError, match=r"notes.txt"):
        shard_folder(tmp_path, key="another")
    assert shards.missing() == list(BANDS[1:])
    shards.remove()
    assert names(shards) == ["notes.txt"]


def test_a_removed_folder_is_gone(tmp_path: Path) -> None:
    """Once the map is made, nothing is left of its shards."""
    shards = shard_folder(tmp_path)
    finish(shards, BANDS[0])
    shards.remove()
    assert not list(tmp_path.iterdir())


_DIES = """
import os, signal, sys
from pathlib import Path
from tests.test_shards import BANDS, pixels, shard_folder
with shard_folder(Path(sys.argv[1])).writer(BANDS[0]) as write:
    write(pixels(1, 16))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    """Parts of shards go if their writer was a process of this machine that is no more."""
    shards = shard_folder(tmp_path)
    with shards.writer(BANDS[1]) as write:
        died = subprocess.run([sys.executable, "-c", _DIES, tmp_path], cwd=ROOT, check=False)
        assert died.returncode == -9
        left = list(shards.path.glob(".partial-*"))
        assert len(left) == 2
        elsewhere = shards.path / f".partial-other-host-1-{'0' * 32}"
        elsewhere.mkdir()
        shard_folder(tmp_path)
        alive, other = sorted(shards.path.glob(".partial-*"), key=elsewhere.__eq__)
        assert other == elsewhere  # nobody here can tell whether it lives
        write(pixels(1, 16))
    assert not alive.exists()
    assert shards.missing() == [BANDS[0], BANDS[2]]
    shards.remove()
    assert not shards.path.exists()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 40), st.integers(1, 70), st.integers(1, 30), st.integers(0)
)
def test_shards_hold_what_was_written(
    height: int, width: int, band_rows: int, piece: int, seed: int
) -> None:
    """Whatever the size, the bands and the pieces, the tile files give back every pixel."""
    grid = grid_of(height, width)
    rng = np.random.default_rng(seed)
    truth = {
        name: rng.integers(0, 256, (len(profile.bands), height, width), np.uint8)
        for name, profile in LAYERS.items()
    }
    folder = Path(tempfile.mkdtemp())
    try:
        bands = plan_bands(height, 16, band_rows, 1)
        shards = ShardFolder(folder / "shards", "key", bands, LAYERS, grid)
        for band in bands:
            with shards.writer(band) as write:
                for row in range(band.start, band.stop, piece):
                    rows = slice(row, min(row + piece, band.stop))
                    write({name: layer[:, rows] for name, layer in truth.items()})
        assert not shards.missing()
        for name, layer in truth.items():
            parts = [read(path, name, grid) for path in shards.files(name)]
            assert (np.concatenate(parts, axis=1) == layer).all()
    finally:
        shutil.rmtree(folder)
