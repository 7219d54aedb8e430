"""Open rasters: shared by threads, read again where the network fails, never half-believed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

import pipeline.raster_files
from landcover.errors import RasterError
from pipeline.raster_files import FailedReadError, RasterFiles, plain, side_files
from pipeline.signing import Signer
from tests.fault_server import FaultPlan, FaultServer, fault_server

SIDE, TILE = 1280, 64
WINDOWS = [
    Window(col, row, TILE, TILE) for row in range(0, 960, TILE) for col in range(0, SIDE, TILE)
]
"""300, each one tile."""


def rough(seed: int = 0, side: int = SIDE) -> NDArray[np.uint16]:
    """Numbers that compress as those of real ground do, none of them 0."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    numbers: NDArray[np.float64] = gaussian_filter(noise, 2) * 3000 + 3000
    return numbers.clip(1, 10_000).astype(np.uint16)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """Write rows x columns as a tiled GeoTIFF."""
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=pixels.shape[0], width=pixels.shape[1],
        dtype=pixels.dtype, crs="EPSG:32633", transform=from_origin(500_000, 5_300_000, 10, 10),
        **{"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate"} | options,
    ) as dataset:  # fmt: skip
        dataset.write(pixels, 1)
    return path


def pixels_of(window: Window) -> Callable[[DatasetReader], NDArray[Any]]:
    """What reads a window."""

    def work(dataset: DatasetReader) -> NDArray[Any]:
        found: NDArray[Any] = dataset.read(1, window=window)
        return found

    return work


def read(files: RasterFiles, href: str, window: Window) -> NDArray[Any]:
    """Pixels of a window, where 0 is suspect."""
    found = np.empty(0)

    def work(dataset: DatasetReader) -> NDArray[Any]:
        nonlocal found
        found = pixels_of(window)(dataset)
        return found

    return files.read_pixels(href, 1, window, lambda: bool((found == 0).any()), work)


def never(_: float) -> None:
    """A pause that nobody must take."""
    pytest.fail("nothing was to be tried again")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A server of the test's folder."""
    with fault_server(tmp_path) as one:
        yield one


@pytest.fixture
def pauses() -> list[float]:
    """Pauses that were asked for."""
    return []


@pytest.fixture
def files(pauses: list[float]) -> Iterator[RasterFiles]:
    """Files whose pauses are noted, not slept."""
    with RasterFiles(Signer(), pause=pauses.append) as opened:
        yield opened


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts as one that is reached by HTTPS."""
    monkeypatch.setattr(pipeline.raster_files, "_is_guarded", lambda _: True)


@pytest.mark.parametrize(
    ("href", "shown"),
    [
        ("/data/a.tif", "/data/a.tif"),
        ("https://host/a.tif?sig=secret&se=1", "https://host/a.tif"),
        ("https://me:secret@host/a.tif", "https://host/a.tif"),
        ("https://host/a@b.tif", "https://host/a@b.tif"),
    ],
)
def test_addresses_are_shown_without_secrets(href: str, shown: str) -> None:
    """Neither the query nor the user of an address is shown."""
    assert plain(href) == shown


def test_facts(tmp_path: Path, files: RasterFiles) -> None:
    """A raster says its grid, types, nodata, masks and tiles."""
    facts = files.facts(str(save(tmp_path / "a.tif", rough(), nodata=0)))
    assert facts.grid.shape == (SIDE, SIDE)
    assert (facts.dtypes, facts.nodata, facts.masked) == (("uint16",), (0,), (False,))
    assert facts.tile == (TILE, TILE)


def test_a_handle_is_used_again(tmp_path: Path, files: RasterFiles) -> None:
    """A raster that nobody reads stays open for the next reader."""
    href = str(save(tmp_path / "a.tif", rough()))
    one, two = (files.read(href, lambda dataset: dataset) for _ in range(2))
    assert one is two
    assert not one.closed


def test_two_readers_have_two_handles(tmp_path: Path, files: RasterFiles) -> None:
    """Whoever reads has the handle for himself."""
    href = str(save(tmp_path / "a.tif", rough()))
    one, two = files.read(href, lambda a: (a, files.read(href, lambda b: b)))
    assert one is not two


def test_few_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number the handle that was longest idle is closed; in the end all are."""
    monkeypatch.setattr(pipeline.raster_files, "_KEPT_OPEN", 3)
    hrefs = [str(save(tmp_path / f"{n}.tif", rough(n, 64))) for n in range(5)]
    with RasterFiles(Signer()) as files:
        opened = [files.read(href, lambda dataset: dataset) for href in hrefs]
        assert [dataset.closed for dataset in opened] == [True, True, False, False, False]
    assert all(dataset.closed for dataset in opened)


def test_threads_read_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 threads over 5 files with room for 4 handles: every window is right."""
    monkeypatch.setattr(pipeline.raster_files, "_KEPT_OPEN", 4)
    images = [rough(n, 512) for n in range(5)]
    hrefs = [str(save(tmp_path / f"{n}.tif", image)) for n, image in enumerate(images)]
    start = threading.Barrier(16)

    def many(files: RasterFiles, seed: int) -> int:
        start.wait()
        rng = np.random.default_rng(seed)
        for _ in range(100):
            number, row, col = int(rng.integers(5)), int(rng.integers(448)), int(rng.integers(448))
            found = read(files, hrefs[number], Window(col, row, TILE, TILE))
            np.testing.assert_array_equal(found, images[number][row : row + TILE, col : col + TILE])
        return seed

    with RasterFiles(Signer(), pause=never) as files, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(partial(many, files), range(16))) == list(range(16))


def test_a_local_file_is_read_once(tmp_path: Path) -> None:
    """The disk does not get better by asking again; the error names the file and no attempts."""
    path = save(tmp_path / "a.tif", rough())
    path.write_bytes(path.read_bytes()[:100_000])
    with (
        RasterFiles(Signer(), pause=never) as files,
        pytest.raises(FailedReadError, match=r"a\.tif cannot be read \(") as caught,
    ):
        read(files, str(path), WINDOWS[-1])
    assert caught.value.attempts == 1


def test_an_error_of_the_work_closes_the_handle(tmp_path: Path, files: RasterFiles) -> None:
    """A handle in whose use something failed is not given to the next."""
    href = str(save(tmp_path / "a.tif", rough()))
    used = []

    def work(dataset: DatasetReader) -> None:
        used.append(dataset)
        raise KeyError

    with pytest.raises(KeyError):
        files.read(href, work)
    assert used[0].closed


@pytest.mark.parametrize("storage", ["deflate", "zstd", "lzw", "none"])
def test_garbled_tiles(
    tmp_path: Path, server: FaultServer, files: RasterFiles, storage: str
) -> None:
    """Random bytes in place of the right ones are found out, whatever the compression: 300 windows.

    Read once, 15 of the 300 windows of the uncompressed file were wrong.
    """
    image = rough()
    save(tmp_path / "a.tif", image, compress=storage)
    server.plan = FaultPlan(0.2, ("garbled",))
    assert _wrong(files, f"{server.url}/a.tif", image) == 0
    assert server.faults["garbled"] > 60


@pytest.mark.parametrize("storage", ["deflate", "zstd", "lzw"])
def test_zeroed_tiles(
    tmp_path: Path, server: FaultServer, files: RasterFiles, storage: str
) -> None:
    """Zeros in place of the right bytes do not become nodata: 300 windows.

    Read once, 1 of the 300 windows of the deflated file was wrong, where only the end of a tile was
    zeroed. In an uncompressed file 88 were, and read twice 14: zeros are pixels there.
    """
    image = rough()
    save(tmp_path / "a.tif", image, compress=storage)
    server.plan = FaultPlan(0.2, ("zeroed",))
    assert _wrong(files, f"{server.url}/a.tif", image) == 0
    assert server.faults["zeroed"] > 60


def _wrong(files: RasterFiles, href: str, image: NDArray[np.uint16]) -> int:
    """How many of 300 windows are not as they should be."""

    def wrong(window: Window) -> bool:
        return not np.array_equal(read(files, href, window), image[window.toslices()])

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(wrong, WINDOWS))


def test_another_file_under_the_same_address(
    tmp_path: Path, server: FaultServer, files: RasterFiles
) -> None:
    """A header that is not the one first seen is never believed."""
    path = save(tmp_path / "a.tif", rough())
    href = f"{server.url}/a.tif"
    files.facts(href)
    save(path, rough(side=1024))
    with pytest.raises(FailedReadError, match="two looks at it differ"):
        read(files, href, Window(0, 0, TILE, TILE))


@pytest.mark.usefixtures("guarded")
def test_tiles_that_are_truly_missing(
    tmp_path: Path, server: FaultServer, files: RasterFiles
) -> None:
    """Nodata of a sparse file is believed after a second look, which no full window takes."""
    image = rough()
    image[:TILE, :TILE] = 0
    save(tmp_path / "a.tif", image, sparse_ok=True)
    href = f"{server.url}/a.tif"
    assert (read(files, href, WINDOWS[0]) == 0).all()
    seen = server.asked.total()
    np.testing.assert_array_equal(read(files, href, WINDOWS[1]), image[:TILE, TILE : 2 * TILE])
    assert server.asked.total() <= seen + 1
    assert not files.retries


@pytest.mark.usefixtures("guarded")
def test_an_index_that_lost_a_tile(
    tmp_path: Path, server: FaultServer, files: RasterFiles, pauses: list[float]
) -> None:
    """Where a second look finds the tile that a first one missed, the window is read again."""
    image = rough()
    empty = image.copy()
    empty[:TILE, :TILE] = 0
    path, href = save(tmp_path / "a.tif", empty, sparse_ok=True), f"{server.url}/a.tif"
    files.facts(href)
    save(path, image)
    np.testing.assert_array_equal(read(files, href, WINDOWS[0]), image[:TILE, :TILE])
    assert len(pauses) == files.retries[href] == 1


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_servers_that_refuse_head(
    tmp_path: Path, server: FaultServer, files: RasterFiles, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Addresses that may only be got, as signed ones may be, are opened without HEAD after one try."""
    image = rough()
    save(tmp_path / "a.tif", image)
    monkeypatch.setattr(
        server.RequestHandlerClass, "do_HEAD", lambda self: self._send(status, b""), raising=True
    )
    found = read(files, f"{server.url}/a.tif", WINDOWS[0])
    np.testing.assert_array_equal(found, image[:TILE, :TILE])
    assert files.retries.total() <= 1


def test_no_right_to_read(
    tmp_path: Path, server: FaultServer, files: RasterFiles, pauses: list[float]
) -> None:
    """Where no token could help, a refusal is final after three attempts, and told."""
    (tmp_path / "signed").mkdir()
    save(tmp_path / "signed/a.tif", rough())
    with pytest.raises(FailedReadError, match=r"in 3 attempts \(.*HTTP status 403\)"):
        files.facts(f"{server.url}/signed/a.tif")
    assert len(pauses) == 2


def test_what_is_no_raster(tmp_path: Path, server: FaultServer, files: RasterFiles) -> None:
    """A page instead of a file is told as that, without the key of its address."""
    (tmp_path / "a.tif").write_text("<html>Please log in.</html>")
    with pytest.raises(FailedReadError, match="does not open as an image") as caught:
        files.facts(f"{server.url}/a.tif?sig=secret")
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, RasterError)


@pytest.mark.parametrize("kind", ["503", "page", "garbled"])
def test_no_message_holds_a_key(
    tmp_path: Path, server: FaultServer, files: RasterFiles, kind: str
) -> None:
    """Whatever fails, opening or reading: the message has neither the query nor our handle's number."""
    save(tmp_path / "a.tif", rough())
    href = f"{server.url}/a.tif?sig=secret"
    server.plan = FaultPlan(1.0, (kind,))
    with pytest.raises(FailedReadError) as opening:
        files.facts(href)
    server.plan = FaultPlan()
    files.facts(href)
    server.plan = FaultPlan(1.0, (kind,))
    with pytest.raises(FailedReadError) as reading:
        read(files, href, WINDOWS[-1])
    for error in (opening.value, reading.value):
        assert "secret" not in str(error)
        assert "#" not in str(error)
        assert error.href == f"{server.url}/a.tif"


def test_pauses_grow(tmp_path: Path, server: FaultServer, pauses: list[float]) -> None:
    """Each pause is at most twice the one before, from a quarter of a second to eight seconds."""
    save(tmp_path / "a.tif", rough())
    server.plan = FaultPlan(1.0, ("503",))
    with RasterFiles(Signer(), pause=pauses.append) as files, pytest.raises(FailedReadError):
        files.facts(f"{server.url}/a.tif")
    longest = [min(0.25 * 2**n, 8.0) for n in range(11)]
    assert len(pauses) == 11
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.169.254:80", "me@169.254.0.7", "2852039166", "0xa9fea9fe",
        "0251.0376.0251.0376", "169%2E254%2E169%2E254", "\uff11\uff16\uff19\u3002254.169.254",
        "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200",
        "metadata.google.internal", "Metadata.Google.Internal.",
    ],
)  # fmt: skip
def test_addresses_where_machines_keep_their_keys_are_not_opened(
    files: RasterFiles, pauses: list[float], host: str
) -> None:
    """However it is written, an address that gives away a cloud machine's keys is refused at once."""
    with pytest.raises(RasterError, match="where machines keep their keys"):
        files.facts(f"http://{host}/latest/a.tif")
    assert not pauses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "192.168.1.9", "[::1]", "example.org"])  # fmt: skip
def test_a_server_of_ones_own_may_be_read(host: str) -> None:
    """Loopback, private networks and the world are open."""
    pipeline.raster_files._check_place(f"http://{host}:8080/a.tif")


def test_files_beside_an_image(tmp_path: Path) -> None:
    """Masks, overviews, statistics, headers and world files are an image's; its namesakes are not."""
    sides = ["a.HDR", "a.tfw", "a.tif.aux.xml", "a.tif.msk", "a.tif.ovr"]
    for name in [*sides, "a.tif", "a.txt", "b.tif", "b.tif.msk", "a.tif.msk.txt"]:
        (tmp_path / name).touch()
    assert [path.name for path in side_files(tmp_path / "a.tif")] == sides
    assert [path.name for path in side_files(tmp_path / "b.tif")] == ["b.tif.msk"]
    assert side_files(tmp_path / "c") == []


def test_every_side_file_that_gdal_names_is_one(tmp_path: Path) -> None:
    """What GDAL lists as the files of an image is the image and what we name."""
    path = save(tmp_path / "a.tif", rough(side=256), tfw="yes")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.ones((256, 256), np.bool_))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    with rasterio.open(path) as dataset:
        dataset.stats()
    with rasterio.open(path) as dataset:
        listed = {Path(name).name for name in dataset.files}
    assert {"a.tif.msk", "a.tif.ovr"} <= listed
    assert listed <= {path.name, *(side.name for side in side_files(path))}


def test_a_settled_thread_reads_and_tells_errors(tmp_path: Path, files: RasterFiles) -> None:
    """GDAL set up once for a thread does what it does when set up for each read."""
    good, bad = save(tmp_path / "a.tif", rough(side=256)), save(tmp_path / "b.tif", rough(1, 256))
    raw = bytearray(bad.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 4000] = bytes(4000)
    bad.write_bytes(raw)
    whole = Window(0, 0, 256, 256)
    with ThreadPoolExecutor(2, initializer=files.settle_thread) as readers:
        found = readers.submit(read, files, str(good), whole).result()
        with pytest.raises(FailedReadError):
            readers.submit(read, files, str(bad), whole).result()
    np.testing.assert_array_equal(found, rough(side=256))
    with pytest.raises(FailedReadError):
        read(files, str(bad), whole)
