"""Finding a model's bands in a raster, and reading it once from top to bottom."""

import itertools
import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landcover.errors import CheckpointError, RasterError
from landcover.tiling import TileGrid
from pipeline.image_file import stored_nodata
from pipeline.strip_reader import Image, StripReader, open_image


def write(
    path: Path, pixels: np.ndarray, names: list[str] | None = None, **options: object
) -> Path:
    """Write a raster of 10 m pixels in UTM 33, with band names if given."""
    profile = {
        "crs": "EPSG:32633",
        "transform": rasterio.transform.from_origin(5e5, 5.3e6, 10, 10),
    } | options
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype,
        **profile,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        if names:
            dataset.descriptions = names
    return path


def test_bands_are_matched_by_name_in_the_models_order(tmp_path: Path) -> None:
    """Names decide, in any case; other bands are left alone."""
    path = write(
        tmp_path / "a.tif", np.ones((3, 4, 5), np.uint16), ["NIR", "count", "red"], nodata=0
    )
    image = open_image(path, ["red", "nir"])
    assert image.bands == (3, 1)
    assert image.notes == ()
    assert image.nodata == (0.0, 0.0)
    assert image.grid.shape == (4, 5)


def test_bands_without_names_are_taken_in_order_if_they_are_as_many(tmp_path: Path) -> None:
    """Two unnamed bands serve a model of two, and it is noted."""
    image = open_image(write(tmp_path / "a.tif", np.ones((2, 4, 5), np.uint8)), ["red", "nir"])
    assert image.bands == (1, 2)
    assert image.notes == ("a.tif names no bands: taken in order as red, nir",)


@pytest.mark.parametrize(
    ("colors", "names", "bands", "note"),
    [
        ("blue green red", "red green blue", (3, 2, 1), ""),
        ("red green blue alpha", "red green blue", (1, 2, 3), ""),
        ("red green blue undefined", "nir blue", (4, 3), "taken as red, green, blue, nir"),
        ("gray undefined undefined undefined", "red green blue", (1, 2, 3), "taken as red, green, blue, nir"),
        ("red green blue", "nir red green", (1, 2, 3), "taken in order as nir, red, green"),
    ],
)  # fmt: skip
def test_bands_without_names_are_known_by_colour_or_number(
    tmp_path: Path, colors: str, names: str, bands: tuple[int, ...], note: str
) -> None:
    """Colours of the file are believed; what four bands are is a guess that is told."""
    kinds = [ColorInterp[color] for color in colors.split()]
    path = write(tmp_path / "a.tif", np.ones((len(kinds), 4, 5), np.uint16))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = kinds
    image = open_image(path, names.split())
    assert image.bands == bands
    assert image.notes == ((f"a.tif names no bands: {note}",) if note else ())


def test_bands_may_be_named_as_the_sensor_names_them(tmp_path: Path) -> None:
    """B04 is red of Sentinel-2."""
    path = write(tmp_path / "a.tif", np.ones((2, 4, 5), np.uint16), ["B08", "B04"])
    assert open_image(path, ["red", "nir"]).bands == (2, 1)


def test_numbers_of_a_sensors_bands_are_not_taken_in_order(tmp_path: Path) -> None:
    """B2, B3, B4, B8 of Earth Engine begin with blue, not with red."""
    path = write(tmp_path / "a.tif", np.ones((4, 4, 5), np.uint16), ["B2", "B3", "B4", "B8"])
    with pytest.raises(CheckpointError, match="has the bands B2, B3, B4, B8; the model needs red"):
        open_image(path, ["red", "green", "blue", "nir"])


@pytest.mark.parametrize(("names", "shown"), [(["red", "blue"], "red, blue"), (None, "no name")])
def test_a_missing_band_names_both_lists(
    tmp_path: Path, names: list[str] | None, shown: str
) -> None:
    """The error says what the image has and what the model needs."""
    path = write(tmp_path / "a.tif", np.ones((2, 4, 5), np.uint8), names)
    with pytest.raises(CheckpointError, match=shown) as error:
        open_image(path, ["red", "nir", "swir16"])
    assert "the model needs red, nir, swir16" in str(error.value)


def test_an_image_that_is_not_on_the_earth_is_refused(tmp_path: Path) -> None:
    """No CRS, no position, complex numbers, no raster, no file: one sentence each."""
    ones = np.ones((1, 4, 5), np.uint8)
    with pytest.raises(RasterError, match="no CRS"):
        open_image(write(tmp_path / "a.tif", ones, crs=None), ["red"])
    with pytest.raises(RasterError, match="complex64"):
        open_image(write(tmp_path / "c.tif", ones.astype(np.complex64)), ["red"])
    (tmp_path / "d.tif").write_text("not a raster")
    for name in ("d.tif", "e.tif"):
        with pytest.raises(RasterError, match=f"{name} cannot be opened"):
            open_image(tmp_path / name, ["red"])


@given(st.integers(1, 40), st.integers(1, 80), st.integers(1, 12), st.data(), st.integers(1, 3))
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_ring_holds_every_tile_row_when_it_is_waited_for(
    tmp_path: Path, height: int, width: int, tile: int, data: st.DataObject, readers: int
) -> None:
    """For any sizes, threads and rows ahead, each window is that of the whole raster, mirrored."""
    tiles = TileGrid(height, width, tile, data.draw(st.integers(0, tile - 1)))
    ahead = data.draw(st.integers(1, 3))
    pixels = np.arange(2 * height * width, dtype=np.uint16).reshape(2, height, width)
    path = write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=16, blockysize=16, nodata=0)
    padded = np.pad(
        pixels, [(0, 0), *((0, max(0, tile - n)) for n in (height, width))], "symmetric"
    )
    image = open_image(path, ["red", "nir"])
    touched = range(data.draw(st.integers(0, len(tiles.row_starts) - 1)), len(tiles.row_starts))
    with StripReader(image, tiles, touched, ahead, readers) as reader:
        for i in touched:
            reader.wait(i)
            slots = reader.strip.slots(tiles.source_rows(i))
            y = tiles.row_starts[i]
            expected = padded[:, y : y + tile]
            assert (reader.strip.pixels[:, slots] == expected).all()
            assert (reader.strip.valid[slots] == (expected > 0).all(0)).all()
            reader.release(i)


def test_the_alpha_band_is_a_mask_and_no_band_of_the_image(tmp_path: Path) -> None:
    """RGB with alpha serves a model of three bands, and alpha 0 is no data, dark pixels are data."""
    pixels = np.zeros((4, 2, 3), np.uint8)
    pixels[3, :, 1:] = 255
    path = write(tmp_path / "a.tif", pixels, photometric="RGB", alpha="unspecified")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [*dataset.colorinterp[:3], ColorInterp.alpha]
    image = open_image(path, ["red", "green", "blue"])
    with StripReader(image, TileGrid(2, 3, 2, 0), range(1), 1) as reader:
        reader.wait(0)
        assert reader.valid_rows(range(2)).tolist() == [[0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize("encoding", ["", "_alpha", "_mask", "_extmask", "_nodata"])
def test_real_nodata_encodings(shared_data: Path, encoding: str) -> None:
    """A real aerial tile: alpha, internal and external mask and nodata tag give GDAL's validity."""
    path = shared_data / f"drone_orthos/201404_13SED190110_201404_0x1500m_CL_1{encoding}.tif"
    image = open_image(path, ["red", "green", "blue"])
    tiles = TileGrid(*image.grid.shape, 64, 16)
    with rasterio.open(path) as dataset:
        expected = (dataset.read_masks([1, 2, 3]) > 0).all(0)
        if not encoding:  # nothing declared: zero in all bands is the empty collar
            expected = (dataset.read() > 0).any(0)
    with StripReader(image, tiles, range(len(tiles.row_starts)), 9) as reader:
        for i in range(len(tiles.row_starts)):
            reader.wait(i)
            rows = tiles.finished(i, range(tiles.height))
            assert (reader.valid_rows(rows) == expected[rows.start : rows.stop]).all()
            reader.release(i)


@given(
    st.integers(1, 700), st.integers(1, 900), st.sampled_from([1, 16, 48, 128, 256]),
    st.booleans(), st.integers(1, 3), st.integers(1, 3),
)  # fmt: skip
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_block_is_read_by_one_thread_and_at_one_time(
    tmp_path: Path, height: int, width: int, block: int, wide: bool, ahead: int, readers: int
) -> None:
    """For strips and tiles of any size: no block comes back after others were read, so none is decoded twice."""
    layout = {"blockysize": block} if wide or block == 1 else {
        "tiled": True, "blockxsize": block, "blockysize": block,
    }  # fmt: skip
    path = write(tmp_path / "a.tif", np.ones((1, height, width), np.uint8), **layout)
    image, tiles = open_image(path, ["red"]), TileGrid(height, width, 64, 16)
    rows, cols = image.block
    reader = StripReader(image, tiles, range(len(tiles.row_starts)), ahead, readers)
    seen: dict[str, list[tuple[int, int]]] = {}
    read = reader._source.read

    def note(window: Window, *rest: Any) -> None:
        blocks = seen.setdefault(threading.current_thread().name + str(threading.get_ident()), [])
        top, left = int(window.row_off), int(window.col_off)
        blocks += [
            (y // rows, x // cols)
            for y in range(top // rows * rows, top + int(window.height), rows)
            for x in range(left, left + int(window.width), cols)
        ]
        read(window, *rest)

    with patch.object(reader._source, "read", note), reader:
        for i in range(len(tiles.row_starts)):
            reader.wait(i)
            reader.release(i)
    unit = image.unit[0] // rows, image.unit[1] // cols
    # What one thread reads at once, without repeats that follow each other.
    visits = [
        visit
        for blocks in seen.values()
        for visit, _ in itertools.groupby((y // unit[0], x // unit[1]) for y, x in blocks)
    ]
    assert len(visits) == len(set(visits))
    assert len({b for blocks in seen.values() for b in blocks}) == -(-height // rows) * -(
        -width // cols
    )


def test_own_scales_of_bands_win_over_the_models(tmp_path: Path) -> None:
    """One band says 2e-4 and -0.1; the other says nothing and keeps the model's 1e-4."""
    path = write(tmp_path / "a.tif", np.ones((2, 4, 5), np.uint16), ["red", "nir"])
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (2e-4, 1.0), (-0.1, 0.0)
    image = open_image(path, ["red", "nir"])
    scale, offset = image.reflectance(1e-4, 0.0)
    assert (scale.tolist(), offset.tolist()) == ([2e-4, 1e-4], [-0.1, 0.0])
    assert image.notes == ()


def test_a_band_described_as_alpha_is_a_mask(tmp_path: Path) -> None:
    """A stack of four bands need not colour them to say where it has data."""
    names = ["red", "green", "blue", "Alpha"]
    image = open_image(write(tmp_path / "a.tif", np.ones((4, 4, 5), np.uint16), names), names[:3])
    assert (image.bands, image.alphas, image.zeros_are_empty) == ((1, 2, 3), (4,), False)


@pytest.mark.parametrize(("brightest", "scale"), [(0.4, 1.0), (4000, None)])
def test_real_numbers_are_reflectance_where_they_are_as_small(
    tmp_path: Path, brightest: float, scale: float | None
) -> None:
    """Values to 0.4 are reflectance and the user is told; values to 4000 are the model's to scale."""
    pixels = np.linspace(0, brightest, 60, dtype=np.float32).reshape(1, 6, 10)
    image = open_image(write(tmp_path / "a.tif", pixels, ["red"]), ["red"])
    assert image.scale == (scale,)
    assert len(image.notes) == (scale is not None)


@pytest.mark.parametrize(
    ("nodata", "dtype", "held"),
    [
        (0, "uint8", 0), (255, "uint8", 255), (-9999, "uint8", None), (0.5, "int16", None),
        (256, "uint8", None), (math.nan, "float32", None), (math.inf, "float32", None),
        (-1.7976931348623157e308, "float32", None), (None, "uint8", None),
        (-3.4028234663852886e38, "float32", float(np.finfo("float32").min)),
        (-0.1, "float32", float(np.float32(-0.1))),
    ],
)  # fmt: skip
def test_nodata_is_what_a_band_can_hold(
    nodata: float | None, dtype: str, held: float | None
) -> None:
    """A value is compared as the band stores it; one that it cannot store marks nothing."""
    assert stored_nodata(nodata, np.dtype(dtype)) == held


def test_blocks_too_large_to_read_in_parts_are_refused(tmp_path: Path) -> None:
    """A tile of 16384 x 16384 x 3 bytes would break the bound on memory."""
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=20_000, width=20_000, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10),
        tiled=True, blockxsize=16384, blockysize=16384, interleave="pixel", SPARSE_OK=True,
    ):  # fmt: skip
        pass
    with pytest.raises(RasterError, match="blocks of 768 MB"):
        open_image(path, ["red", "green", "blue"])


def test_memory_is_some_rows_of_the_image() -> None:
    """100,000 columns of four bands in tiles of 512: the ring is 959 rows, GDAL keeps few blocks."""
    grid = GeoBox.from_bbox((0, 0, 1e6, 1e6), "EPSG:32633", resolution=10)
    image = Image(
        path=Path("a.tif"), grid=grid, bands=(1, 2, 3, 4), dtype=np.dtype("uint16"),
        nodata=(0.0,) * 4, zeros_are_empty=False, masks=(), alphas=(), scale=(None,) * 4,
        offset=(0.0,) * 4, block=(512, 512), pixel_bytes=8, ordered=False, notes=(),
    )  # fmt: skip
    reader = StripReader(image, TileGrid(100_000, 100_000, 256, 64), range(3), 1)
    assert reader.strip.pixels.shape == (4, 256 + 192 + 511, 100_000)
    assert image.cache_bytes() == 2**25
    assert replace(image, block=(1, 100_000)).unit == (128, 100_000)
    assert replace(image, block=(128, 128)).unit == (128, 2048)
    assert replace(image, block=(1024, 1024)).unit == (1024, 1024)
