"""Blocks of a grid, read from rasters of any grid."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import Affine
from rasterio.enums import Resampling

from landcover.errors import RasterError
from landcover.resampling import Block, Numbers
from pipeline.raster_files import RasterFiles
from pipeline.signing import Signer
from pipeline.window_reader import OUTSIDE, Band, WindowReader
from tests.made_scenes import save

GRID = GeoBox((40, 60), Affine(10, 0, 500_000, 0, -10, 5_300_000), "EPSG:32633")
WHOLE = (slice(0, 40), slice(0, 60))
COUNTS = Numbers(floor=1.0)
RNG = np.random.default_rng(3)


@pytest.fixture
def files() -> Iterator[RasterFiles]:
    """Open rasters, closed after the test."""
    with RasterFiles(Signer()) as opened:
        yield opened


def raster(path: Path, grid: GeoBox, pixels: NDArray[Any] | None = None, **options: Any) -> Band:
    """A raster of one band."""
    if pixels is None:
        pixels = RNG.integers(1, 9000, grid.shape).astype(np.uint16)
    return Band(str(save(path, pixels[None], grid, **options)), 1)


def measure(reader: WindowReader, band: Band, block: Block, numbers: Numbers = COUNTS) -> Any:
    """A block's numbers."""
    out = np.full([cut.stop - cut.start for cut in block], 7, np.uint16)
    reader.measure(band, numbers, block, out)
    return out


def stored(band: Band) -> Any:
    """All pixels of a raster as they are stored."""
    with rasterio.open(band.href) as dataset:
        return dataset.read(1)


def test_the_same_grid_is_read_as_it_is(tmp_path: Path, files: RasterFiles) -> None:
    """A raster cut from the grid gives its own numbers, and nothing where it does not reach."""
    band = raster(tmp_path / "a.tif", GRID[10:30, 20:80])
    reader = WindowReader(files, GRID)
    expected = np.zeros((40, 60), np.uint16)
    expected[10:30, 20:] = stored(band)[:, :40]
    np.testing.assert_array_equal(measure(reader, band, WHOLE), expected)
    assert (measure(reader, band, (slice(0, 5), slice(0, 5))) == 0).all()
    assert not reader.reaches(band.href, (slice(0, 5), slice(0, 5)))
    assert reader.reaches(band.href, (slice(5, 15), slice(15, 25)))


def test_numbers_are_harmonised_while_read(tmp_path: Path, files: RasterFiles) -> None:
    """The offset is added to what is valid; 0 stays nodata."""
    band = raster(tmp_path / "a.tif", GRID[:1, :3], np.array([[0, 1200, 900]], np.uint16))
    out = measure(WindowReader(files, GRID[:1, :3]), band, (slice(0, 1), slice(0, 3)), Numbers(floor=1.0, summand=-1000.0))  # fmt: skip
    assert out.tolist() == [[0, 200, 1]]


def test_a_finer_raster_is_averaged(tmp_path: Path, files: RasterFiles) -> None:
    """Four pixels of 5 m become one of 10 m: their mean, not one of them."""
    fine = GRID.zoom_out(0.5)
    pixels = np.zeros(fine.shape, np.uint16)
    pixels[::2, ::2], pixels[::2, 1::2], pixels[1::2, ::2], pixels[1::2, 1::2] = 100, 200, 300, 400
    band = raster(tmp_path / "a.tif", fine, pixels)
    out = measure(WindowReader(files, GRID), band, WHOLE)
    assert (out == 250).all()


def test_codes_of_a_coarse_mask(tmp_path: Path, files: RasterFiles) -> None:
    """A mask of 20 m covers four pixels of 10 m each; beyond it the answer is OUTSIDE."""
    coarse = GRID[:40, :40].zoom_out(2)
    codes = RNG.integers(0, 12, coarse.shape).astype(np.uint8)
    band = raster(tmp_path / "scl.tif", coarse, codes)
    table = np.isin(np.arange(65_536), (8, 9)).astype(np.uint8)
    found = WindowReader(files, GRID).look_up(band, table, WHOLE)
    np.testing.assert_array_equal(found[:, :40], np.isin(codes, (8, 9)).repeat(2, 0).repeat(2, 1))
    assert (found[:, 40:] == OUTSIDE).all()


def test_an_external_mask_is_read(tmp_path: Path, files: RasterFiles) -> None:
    """A .msk file beside the raster says where it has data."""
    band = raster(tmp_path / "a.tif", GRID)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(band.href, "r+") as dataset:
        dataset.write_mask(np.arange(60)[None].repeat(40, 0) < 30)
    assert Path(band.href + ".msk").exists()
    seen = WindowReader(files, GRID).has_data(band, WHOLE)
    assert seen[:, :30].all()
    assert not seen[:, 30:].any()


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(Affine(10, 0, 500_000, 0, 10, 5_299_600), id="south up"),
        pytest.param(
            Affine.translation(500_200, 5_300_200) @ Affine.rotation(-30) @ Affine.scale(9, -9), id="rotated"
        ),
    ],
)  # fmt: skip
def test_rasters_that_do_not_lie_north_up(
    tmp_path: Path, files: RasterFiles, transform: Affine
) -> None:
    """A ramp over the ground stays where it is, however the raster's rows run."""
    grid = GeoBox((70, 90), transform, "EPSG:32633")
    cols, rows = np.meshgrid(np.arange(90) + 0.5, np.arange(70) + 0.5)
    x, y = transform @ (cols, rows)
    ramp = np.rint((x - 499_000) * 3 + (5_301_000 - y) * 2).astype(np.uint16)
    band = raster(tmp_path / "a.tif", grid, ramp)
    out = measure(WindowReader(files, GRID), band, WHOLE)
    cols, rows = np.meshgrid(np.arange(60) + 0.5, np.arange(40) + 0.5)
    x, y = GRID.transform @ (cols, rows)
    expected = (x - 499_000) * 3 + (5_301_000 - y) * 2
    inside = out > 0
    assert inside.mean() > 0.3
    assert np.abs(out[inside] - expected[inside]).max() <= 30  # at the rim half a pixel is repeated
    assert np.median(np.abs(out[inside] - expected[inside])) <= 1


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    rows=st.lists(st.integers(1, 39), max_size=3, unique=True),
    cols=st.lists(st.integers(1, 59), max_size=3, unique=True),
    kind=st.sampled_from(["same", "moved", "fine", "finest", "degrees"]),
)
def test_blocks_of_any_cut_agree(
    tmp_path: Path, files: RasterFiles, rows: list[int], cols: list[int], kind: str
) -> None:
    """The numbers of a pixel do not depend on the block that it is read in."""
    grids = {
        "same": GRID[3:33, 5:70],
        "moved": GeoBox(GRID.shape, GRID.transform @ Affine.translation(0.4, -0.7), GRID.crs),
        "fine": GeoBox((130, 170), GRID.transform @ Affine.scale(1 / 3.1), GRID.crs),
        "finest": GeoBox((211, 302), GRID.transform @ Affine.scale(1 / 5.2), GRID.crs),
        "degrees": GeoBox.from_bbox(GRID.extent.to_crs(4326).boundingbox, resolution=1e-4),
    }
    path = tmp_path / f"{kind}.tif"
    band = Band(str(path), 1) if path.exists() else raster(path, grids[kind], nodata=0)
    reader = WindowReader(files, GRID)
    at_once = measure(reader, band, WHOLE)
    parts = [
        [measure(reader, band, (slice(*r), slice(*c))) for c in itertools.pairwise([0, *sorted(cols), 60])]
        for r in itertools.pairwise([0, *sorted(rows), 40])
    ]  # fmt: skip
    np.testing.assert_array_equal(np.block(parts), at_once)


def test_hidden_areas_grow_by_metres(tmp_path: Path, files: RasterFiles) -> None:
    """One cloudy pixel of 20 m grown by 40 m is a disc of two of its pixels, on any cut of the grid."""
    coarse = GRID[:40, :40].zoom_out(2)
    codes = np.full(coarse.shape, 4, np.uint8)
    codes[10, 10] = 9
    band = raster(tmp_path / "scl.tif", coarse, codes)
    table = np.equal(np.arange(65_536), 9).astype(np.uint8)
    reader = WindowReader(files, GRID)
    found = reader.look_up(band, table, (slice(0, 40), slice(0, 40)), 40.0)
    disc = np.array([[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]])  # fmt: skip
    expected = np.zeros((20, 20), int)
    expected[8:13, 8:13] = disc
    np.testing.assert_array_equal(found, expected.repeat(2, 0).repeat(2, 1))
    part = reader.look_up(band, table, (slice(3, 19), slice(23, 31)), 40.0)
    np.testing.assert_array_equal(part, found[3:19, 23:31])
    same = WindowReader(files, coarse).look_up(band, table, (slice(2, 9), slice(3, 20)), 40.0)
    np.testing.assert_array_equal(same, expected[2:9, 3:])


@pytest.mark.parametrize("factor", [2, 3, 6, 10])
def test_a_small_cloud_hides_a_coarse_pixel(
    tmp_path: Path, files: RasterFiles, factor: int
) -> None:
    """On a grid coarser than the mask, a pixel is hidden if any part of it is, growth included."""
    fine = GRID[:40, :40]
    codes = np.full(fine.shape, 4, np.uint8)
    codes[17, 23] = 9
    band = raster(tmp_path / "scl.tif", fine, codes)
    table = np.equal(np.arange(65_536), 9).astype(np.uint8)
    coarse = fine.zoom_out(factor)
    found = WindowReader(files, coarse).look_up(band, table, (slice(0, 4), slice(0, 4)))
    expected = np.zeros((4, 4), int)
    if 17 // factor < 4 and 23 // factor < 4:
        expected[17 // factor, 23 // factor] = 1
    np.testing.assert_array_equal(found, expected)
    wide = WindowReader(files, coarse).look_up(band, table, (slice(0, 4), slice(0, 4)), 400.0)
    assert (wide == 1).all()


def test_the_end_of_a_finer_raster_is_not_lost(tmp_path: Path, files: RasterFiles) -> None:
    """Pixels that do not fill a coarse one are averaged as far as there are any, if half have data."""
    fine, coarse = GRID[:3, :5], GRID[:4, :6].zoom_out(2)
    pixels = np.array([[1, 3, 5, 7, 900], [1, 3, 5, 7, 0], [20, 40, 0, 0, 60]], np.uint16)
    band = raster(tmp_path / "a.tif", fine, pixels)
    found = measure(WindowReader(files, coarse), band, (slice(0, 2), slice(0, 3)))
    # The middle of the last row and column of the grid is on the raster's edge, and so beyond it.
    assert found.tolist() == [[2, 6, 0], [0, 0, 0]]
    moved = GeoBox(coarse.shape, coarse.transform @ Affine.translation(-0.1, -0.1), coarse.crs)
    out = WindowReader(files, moved)
    assert (measure(out, band, (slice(0, 2), slice(0, 3))) > 0).tolist() == [[True, True, True], [True, False, True]]  # fmt: skip
    table = np.equal(np.arange(65_536), 900).astype(np.uint8)
    assert out.look_up(band, table, (slice(0, 2), slice(0, 3))).tolist() == [[0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("resolution", [20, 30, 70, 130, 333])
def test_tiles_that_touch_leave_no_seam(
    tmp_path: Path, files: RasterFiles, resolution: int
) -> None:
    """However coarse a grid is, and wherever it begins, two tiles fill it as the one they were cut from."""
    ground = GeoBox((100, 200), GRID.transform, GRID.crs)
    tiles = [
        raster(tmp_path / f"{i}.tif", ground[:, 100 * i : 100 * i + 100], np.full((100, 100), 5000, np.uint16))
        for i in (0, 1)
    ]  # fmt: skip
    corner = Affine.translation(500_007, 5_299_996) @ Affine.scale(resolution, -resolution)
    coarse = GeoBox((980 // resolution, 1980 // resolution), corner, GRID.crs)
    reader, block = (
        WindowReader(files, coarse),
        (slice(0, coarse.shape[0]), slice(0, coarse.shape[1])),
    )
    shown = [measure(reader, tile, block) for tile in tiles]
    np.testing.assert_array_equal(np.maximum(*shown), np.full(coarse.shape, 5000))
    views = [reader.look_up(tile, np.zeros(65_536, np.uint8), block) for tile in tiles]
    np.testing.assert_array_equal(np.minimum(*views), np.zeros(coarse.shape))


def test_averaging_knows_what_is_nodata(tmp_path: Path, files: RasterFiles) -> None:
    """Zeros that no tag declares have no part in a mean; a pixel of which most is nodata is nodata."""
    fine = GRID[:2, :6]
    pixels = np.array([[0, 0, 0, 3000, 3000, 3000], [0, 0, 3000, 3000, 3000, 3000]], np.uint16)
    band = raster(tmp_path / "a.tif", fine, pixels)
    reader = WindowReader(files, fine.zoom_out(2))
    numbers = Numbers(floor=1.0, summand=-1000.0)
    assert measure(reader, band, (slice(0, 1), slice(0, 3)), numbers).tolist() == [[0, 2000, 2000]]


def test_overviews_are_never_measured(tmp_path: Path, files: RasterFiles) -> None:
    """An overview made by another rule than the mean changes nothing; all pixels are read, as plans say."""
    band = raster(tmp_path / "a.tif", GRID[:40, :40])
    pixels = stored(band)
    with rasterio.open(band.href, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.nearest)
    reader = WindowReader(files, GRID[:40, :40].zoom_out(4))
    expected = np.rint(pixels.reshape(10, 4, 10, 4).mean(axis=(1, 3)))
    np.testing.assert_array_equal(measure(reader, band, (slice(0, 10), slice(0, 10))), expected)
    assert reader.read_bytes == pixels.nbytes


def test_masked_colours_do_not_spread(tmp_path: Path, files: RasterFiles) -> None:
    """Black under a mask gives no dark rim where a picture is resampled."""
    moved = GeoBox((20, 20), GRID.transform @ Affine.translation(0.4, 0), GRID.crs)
    pixels = np.zeros((20, 20), np.uint8)
    pixels[:, 10:] = 200
    band = raster(tmp_path / "a.tif", moved, pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(band.href, "r+") as dataset:
        dataset.write_mask(pixels > 0)
    out = measure(WindowReader(files, GRID), band, (slice(0, 20), slice(0, 20)), Numbers())
    assert set(np.unique(out)) <= {0, 200}


def test_colours_under_alpha_do_not_spread(tmp_path: Path, files: RasterFiles) -> None:
    """A transparent half gives no dark rim, and where it is transparent there is no data."""
    moved = GeoBox((20, 20), GRID.transform @ Affine.translation(0.4, 0), GRID.crs)
    pixels = np.zeros((2, 20, 20), np.uint8)
    pixels[:, :, 10:] = 200
    href = str(save(tmp_path / "a.tif", pixels, moved))
    reader, block = WindowReader(files, GRID), (slice(0, 20), slice(0, 20))
    assert set(np.unique(measure(reader, Band(href, 1, alpha=2), block, Numbers()))) <= {0, 200}
    seen = reader.has_data(Band(href, 1, alpha=2), block)
    assert (seen[:, 11:].all(), seen[:, :10].any()) == (True, False)


def test_clouds_cannot_grow_without_end(tmp_path: Path, files: RasterFiles) -> None:
    """A buffer of more pixels than can be measured is refused."""
    band = raster(tmp_path / "scl.tif", GRID, np.zeros(GRID.shape, np.uint8))
    with pytest.raises(RasterError, match="at most 254 pixels"):
        WindowReader(files, GRID).look_up(band, np.zeros(65_536, np.uint8), WHOLE, 5000.0)


@pytest.mark.parametrize("share", [0.95, 0.7, 0.4])
def test_a_cut_jpeg_2000_is_an_error(tmp_path: Path, files: RasterFiles, share: float) -> None:
    """A JPEG 2000 that breaks off is never nodata, in whichever thread it is decoded."""
    grid = GeoBox((1024, 1024), GRID.transform, GRID.crs)
    pixels = RNG.integers(1, 9000, (1, 1024, 1024)).astype(np.uint16)
    path = tmp_path / "B04.jp2"
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", width=1024, height=1024, count=1, dtype="uint16",
        crs="EPSG:32633", transform=grid.transform, REVERSIBLE="YES", QUALITY="100",
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    reader = WindowReader(files, grid)
    block = slice(0, 1024), slice(0, 1024)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RasterError, match="cannot be read"):
        pool.submit(measure, reader, Band(str(path), 1), block).result()
