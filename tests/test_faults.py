"""A composite read over a network that fails: the right pixels, or an error that names the file."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter
from shapely.geometry import mapping

import pipeline.block_compositor
import pipeline.composite
import pipeline.raster_files
from pipeline.block_compositor import FailedReadsError
from pipeline.composite import composite
from pipeline.raster_files import RasterFiles
from pipeline.signing import Signer
from tests.fault_server import KINDS, FaultPlan, FaultServer, fault_server

TILE = 128
GRID = GeoBox.from_bbox((500_000, 5_300_000, 506_400, 5_301_280), "EPSG:32633", resolution=10)
FOOTPRINT = GRID.extent.to_crs("EPSG:4326").geom.buffer(0.01)
DATES = 16
BANDS = ("red", "green", "nir")
FILES = (*BANDS, "scl")
WINDOWS = DATES * len(FILES) * GRID.shape[1] // TILE
"""320: each band and the scene classification of each date, in each of 5 blocks."""
OVER_TLS = tuple(kind for kind in KINDS if kind not in ("garbled", "zeroed"))
"""What can still happen where the bytes are guarded."""
SEEDS = {5: 1, 20: 2, 50: 3}
"""Of the plan for each percentage of requests that fail."""
SHORT = 0.15
"""Seconds to wait for a server that is slow on purpose."""


def cog(path: Path, pixels: NDArray[Any], grid: GeoBox, **options: Any) -> None:
    """Write rows x columns as a COG of 128 x 128 tiles."""
    plain = path.with_suffix(".plain")
    with rasterio.open(
        plain, "w", driver="GTiff", count=1, height=pixels.shape[0], width=pixels.shape[1],
        dtype=pixels.dtype, crs=str(grid.crs), transform=grid.transform, nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(pixels, 1)
    rasterio.shutil.copy(plain, path, driver="COG", BLOCKSIZE=TILE, **options)
    plain.unlink()


def ground(date: int, band: int) -> NDArray[np.uint16]:
    """Numbers of a band: rough ground, dates that differ, the edge of an orbit on every third."""
    rng = np.random.default_rng(100 * date + band)
    shape = (GRID.shape[0], GRID.shape[1])
    rough: NDArray[np.float64] = gaussian_filter(rng.normal(size=shape), 2) * 3000 + 40 * date
    image = (rough + 3000).clip(1001, 12_000).astype(np.uint16)
    if date % 3 == 0:
        image[:, : 20 * date] = 0
    return image


def classes(date: int) -> NDArray[np.uint8]:
    """Scene classification at 20 m: vegetation under some clouds."""
    rng = np.random.default_rng(10_000 + date)
    shape = (GRID.shape[0] // 2, GRID.shape[1] // 2)
    clouds = gaussian_filter(rng.normal(size=shape), 8) > 0.02
    return np.where(clouds, 9, 4).astype(np.uint8)


def make_stack(folder: Path, **options: Any) -> Path:
    """Write all files of all dates below `signed`."""
    (folder / "signed").mkdir()
    for date in range(DATES):
        for number, band in enumerate(BANDS):
            cog(folder / f"signed/d{date:02}_{band}.tif", ground(date, number), GRID, **options)
        cog(folder / f"signed/d{date:02}_scl.tif", classes(date), GRID.zoom_out(2), **options)
    return folder


def items_at(place: str, path: Path) -> Path:
    """Write the list of the scenes whose files are below a place."""
    features = [
        {
            "type": "Feature", "stac_version": "1.0.0", "id": f"d{date:02}", "links": [],
            "geometry": mapping(FOOTPRINT), "bbox": list(FOOTPRINT.bounds), "collection": "sentinel-2-l2a",
            "properties": {
                "datetime": f"2024-06-{date + 1:02}T10:00:00Z", "s2:processing_baseline": "05.09",
            },
            "assets": {
                band: {"href": f"{place}/signed/d{date:02}_{band}.tif"} for band in FILES
            },
        }
        for date in range(DATES)
    ]  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deflated files, as Sentinel-2's are."""
    return make_stack(tmp_path_factory.mktemp("deflate"), COMPRESS="DEFLATE", PREDICTOR="YES")


@dataclass
class Run:
    """Composites the stack, from the disk or through a server."""

    folder: Path
    files: Callable[..., RasterFiles] = RasterFiles
    pauses: list[float] = field(default_factory=list)
    patience: float = 5.0
    """Seconds after which a request has failed."""

    def __call__(self, place: str, **options: Any) -> tuple[dict[str, Any], NDArray[np.uint16]]:
        """Details, and pixels of all bands."""
        output = self.folder / "composite.tif"
        output.unlink(missing_ok=True)
        details = composite(
            items=items_at(place, self.folder / "items.json"), grid=GRID, footprint=FOOTPRINT,
            bands=BANDS, output=output, report=lambda _: None, **options,
        )  # fmt: skip
        with rasterio.open(output) as dataset:
            return details, dataset.read()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Small blocks, and pauses that are noted and not slept."""
    one = Run(tmp_path)

    def files(*arguments: Any) -> RasterFiles:
        return RasterFiles(*arguments, pause=one.pauses.append, timeout=one.patience)

    monkeypatch.setattr(pipeline.composite, "RasterFiles", files)
    monkeypatch.setattr(pipeline.block_compositor, "_SIDE", TILE)
    monkeypatch.setattr(pipeline.block_compositor, "_SIDE", TILE)
    return one


@pytest.fixture
def server(stack: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A server of the stack that wants its addresses signed."""
    with fault_server(stack) as one:
        signer = partial(Signer, one.rules(), one.clock)
        monkeypatch.setattr(pipeline.composite, "Signer", signer)
        yield one


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts as one that is reached by HTTPS."""
    monkeypatch.setattr(pipeline.raster_files, "_is_guarded", lambda _: True)


@pytest.fixture(scope="module")
def expected(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint16]:
    """Pixels of the composite made from the files on the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.block_compositor, "_SIDE", TILE)
        return Run(tmp_path_factory.mktemp("local"))(str(stack))[1]


def outcome(run: Run, server: FaultServer, expected: NDArray[np.uint16]) -> str:
    """`same` where the composite is the one made without faults, `refused` where files are named."""
    try:
        details, pixels = run(server.url)
    except FailedReadsError as error:
        check_ledger(error, server)
        assert not (run.folder / "composite.tif").exists()
        return "refused"
    np.testing.assert_array_equal(pixels, expected)
    assert details["reads"]["failed"] == []
    assert "secret" not in json.dumps(details)
    return "same"


def check_ledger(error: FailedReadsError, server: FaultServer) -> None:
    """The error lists what failed and names each file, without its token."""
    assert error.failed
    for entry in error.failed:
        assert entry["asset"].startswith(f"{server.url}/signed/d")
        assert entry["asset"] in str(error)
    assert "secret" not in str(error) + json.dumps(error.failed)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("percent", [5, 20, 50])
@pytest.mark.parametrize("kind", OVER_TLS)
def test_faults_over_tls(
    run: Run, server: FaultServer, expected: NDArray[np.uint16], kind: str, percent: int
) -> None:
    """What a guarded connection may do, each alone: 320 windows, none wrong."""
    server.plan = FaultPlan(percent / 100, (kind,), SEEDS[percent])
    run.patience = SHORT if kind == "slow" else run.patience
    found = outcome(run, server, expected)
    assert server.faults[kind] > percent / 2
    assert found == "same" or percent == 50


@pytest.mark.parametrize("percent", [5, 20, 50])
@pytest.mark.parametrize("kind", ["garbled", "zeroed", "mixed"])
def test_faults_over_plain_http(
    run: Run, server: FaultServer, expected: NDArray[np.uint16], kind: str, percent: int
) -> None:
    """Where nothing guards the bytes: wrong ones of the right length, and all kinds together."""
    kinds = KINDS if kind == "mixed" else (kind,)
    server.plan = FaultPlan(percent / 100, kinds, SEEDS[percent])
    run.patience = SHORT if "slow" in kinds else run.patience
    found = outcome(run, server, expected)
    assert server.faults.total() > percent
    assert found == "same" or percent == 50


@pytest.mark.usefixtures("guarded")
def test_requests_without_faults(
    run: Run, server: FaultServer, expected: NDArray[np.uint16]
) -> None:
    """A file costs its size and its header, twice; a window one request for its tiles.

    Two blocks are read at once, so a reader may find a file's handle in use and open one more.
    """
    assert outcome(run, server, expected) == "same"
    files = DATES * len(FILES)
    heads = sum(count for asked, count in server.asked.items() if asked.startswith("HEAD"))
    headers = sum(count for asked, count in server.asked.items() if "bytes=0-" in asked)
    assert 2 * files <= heads == headers <= 2 * files + 16
    assert server.asked.total() - heads - headers <= WINDOWS
    assert not run.pauses


def test_requests_without_faults_over_plain_http(
    run: Run, server: FaultServer, expected: NDArray[np.uint16]
) -> None:
    """Where every window is read twice, that costs three more requests a window at most."""
    assert outcome(run, server, expected) == "same"
    files, samples = DATES * len(FILES), 4 * DATES
    assert server.asked.total() <= 4 * files + 4 * (WINDOWS + samples)


def test_retries_are_counted(run: Run, server: FaultServer) -> None:
    """What failed and went well later is in the details, by file, without tokens."""
    server.plan = FaultPlan(0.05, ("503",))
    retried = run(server.url)[0]["reads"]["retried"]
    assert 0 < sum(retried.values()) <= len(run.pauses)
    assert all(href.startswith(f"{server.url}/signed/d") for href in retried)
    assert all("?" not in href for href in retried)


def test_a_missing_file_fails_at_once(run: Run, server: FaultServer) -> None:
    """404 is an answer: it is not asked for again and again, and it is not nodata."""
    gone = server.folder / "signed/d07_green.tif"
    kept = gone.rename(gone.with_suffix(".away"))
    try:
        with pytest.raises(
            FailedReadsError, match=r"d07_green\.tif cannot be read \(.*404"
        ) as caught:
            run(server.url)
    finally:
        kept.rename(gone)
    assert [entry["attempts"] for entry in caught.value.failed] == [1]
    assert sum(count for asked, count in server.asked.items() if "d07_green" in asked) <= 2


def test_a_dead_server_fails_in_bounded_time(run: Run, stack: Path) -> None:
    """Nobody listens: a scene is given up in less than a minute, and 8 are looked at at once."""
    with fault_server(stack) as server:
        place = server.url
    with pytest.raises(FailedReadsError, match=r"cannot be read in 12 attempts"):
        run(place)
    assert sum(run.pauses) <= 60 * DATES
    assert len(run.pauses) <= 11 * DATES


@pytest.mark.usefixtures("guarded")
def test_a_server_that_dies_half_way(run: Run, server: FaultServer) -> None:
    """Files that were open are lost with the server: an error with a ledger, and no composite."""
    server.plan = FaultPlan(dies_after=300)
    with pytest.raises(FailedReadsError) as caught:
        run(server.url)
    check_ledger(caught.value, server)
    assert caught.value.failed[0]["rows"] is not None
    assert not (run.folder / "composite.tif").exists()


def test_the_wish_of_a_busy_server_is_honoured(run: Run, server: FaultServer) -> None:
    """No attempt comes earlier than Retry-After says."""
    server.plan = FaultPlan(1.0, ("429",), retry_after=9)
    with pytest.raises(FailedReadsError, match="HTTP status 429"):
        run(server.url)
    assert min(run.pauses) >= 9


@pytest.mark.usefixtures("guarded")
def test_tokens_expire_in_mid_run(
    run: Run, server: FaultServer, expected: NDArray[np.uint16]
) -> None:
    """Tokens are renewed before their end: no request is refused."""
    server.seconds_a_request, server.lifetime = 5.0, 1000.0
    assert outcome(run, server, expected) == "same"
    assert len(server.tokens) >= 3
    assert server.answers[403] == 0


@pytest.mark.usefixtures("guarded")
def test_tokens_end_before_their_time(
    run: Run, server: FaultServer, expected: NDArray[np.uint16]
) -> None:
    """A token that is refused though it should be good is replaced, and the window read again."""
    server.seconds_a_request, server.lifetime, server.overstated = 5.0, 1000.0, 1e6
    assert outcome(run, server, expected) == "same"
    assert len(server.tokens) >= 3
    assert server.answers[403] > 0


@pytest.fixture
def broken(stack: Path, tmp_path: Path) -> Path:
    """The stack with one tile of one band of one date damaged for good."""
    folder = Path(shutil.copytree(stack, tmp_path / "broken"))
    path = folder / "signed/d05_green.tif"
    with rasterio.open(path) as dataset:
        offset, size = (
            int(dataset.get_tag_item(f"BLOCK_{what}_3_0", "TIFF", bidx=1))
            for what in ("OFFSET", "SIZE")
        )
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(content)
    return folder


def without(stack: Path, folder: Path, date: int, columns: slice) -> Path:
    """The stack where a date shows nothing in some columns."""
    made = Path(shutil.copytree(stack, folder))
    image = ground(date, 0)
    image[:, columns] = 0
    cog(made / f"signed/d{date:02}_red.tif", image, GRID, COMPRESS="DEFLATE")
    return made


def test_holes_are_filled_from_other_dates(
    run: Run, server: FaultServer, stack: Path, broken: Path, tmp_path: Path
) -> None:
    """A window that stays unreadable is listed, and other dates decide its pixels."""
    missing = without(stack, tmp_path / "missing", 5, slice(3 * TILE, 4 * TILE))
    _, other_dates = run(str(missing))
    server.folder = broken
    details, pixels = run(server.url, hole_budget=50.0)
    np.testing.assert_array_equal(pixels, other_dates)
    assert (pixels[:3] > 0).all()
    (hole,) = details["reads"]["failed"]
    assert hole["asset"] == f"{server.url}/signed/d05_green.tif"
    assert (hole["scene"], hole["rows"], hole["columns"]) == ("d05", [0, 128], [384, 512])
    assert hole["attempts"] == 12


def test_a_scene_that_cannot_be_opened_is_a_hole_too(
    run: Run, server: FaultServer, stack: Path, tmp_path: Path
) -> None:
    """Where the budget allows it, a file that is never answered leaves its scene out."""
    missing = without(stack, tmp_path / "missing", 5, slice(None))
    _, other_dates = run(str(missing))
    server.plan = FaultPlan(1.0, ("503",), only="d05_nir")
    details, pixels = run(server.url, hole_budget=50.0)
    np.testing.assert_array_equal(pixels, other_dates)
    assert [entry["scene"] for entry in details["reads"]["failed"]] == ["d05"]


def test_more_holes_than_the_budget(run: Run, server: FaultServer, broken: Path) -> None:
    """One hole too many stops the run, and the message names the file."""
    server.folder = broken
    with pytest.raises(FailedReadsError, match=r"signed/d05_green\.tif cannot be read") as caught:
        run(server.url, hole_budget=0.2)
    check_ledger(caught.value, server)
