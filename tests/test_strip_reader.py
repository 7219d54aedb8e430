"""Finding a model's bands in a raster, and reading it once from top to bottom."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from landcover.errors import CheckpointError, RasterError
from landcover.tiling import TileGrid
from pipeline.strip_reader import StripReader, open_image


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
    assert image.named
    assert image.nodata == (0.0, 0.0)
    assert image.grid.shape == (4, 5)


def test_bands_without_names_are_taken_in_order_if_they_are_as_many(tmp_path: Path) -> None:
    """Two unnamed bands serve a model of two, and it is noted."""
    image = open_image(write(tmp_path / "a.tif", np.ones((2, 4, 5), np.uint8)), ["red", "nir"])
    assert image.bands == (1, 2)
    assert not image.named


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
