"""Scenes of a period become one image on the region's grid."""

import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

import pipeline.composite
from landcover.compositing import METHODS
from landcover.errors import CatalogError, RasterError, SettingsError
from pipeline.block_compositor import FailedReadsError, Holes, _block_shape, _layout
from pipeline.composite import composite
from pipeline.raster_files import FailedReadError, RasterFiles
from tests.made_scenes import FAR, FOOTPRINT, GRID, save, scene


def run(
    folder: Path, *scenes: dict[str, Any], footprint: BaseGeometry = FAR, **options: Any
) -> tuple[dict[str, Any], NDArray[Any]]:
    """Composite scenes; return the details and the bands (red, observations, day)."""
    items = folder / "items.json"
    items.write_text(json.dumps({"type": "FeatureCollection", "features": scenes}))
    given = {"grid": GRID, "bands": ("red",), "report": lambda _: None} | options
    details = composite(items=items, footprint=footprint, output=folder / "composite.tif", **given)
    with rasterio.open(folder / "composite.tif") as dataset:
        assert dataset.descriptions == (*given["bands"], "observations", "day")
        return details, dataset.read()


def test_median_of_three_days(tmp_path: Path) -> None:
    """The composite is the median over days, with the number of observations beside it."""
    scenes = [scene(tmp_path, f"s{n}", n, day=f"2024-06-0{n // 100}") for n in (100, 300, 900)]
    _, image = run(tmp_path, *scenes)
    assert (image[0] == 300).all()
    assert (image[1] == 3).all()


def test_clouds_are_left_out(tmp_path: Path) -> None:
    """Where the scene classification says cloud or shadow, other dates decide; else nodata."""
    cloudy = np.full((40, 50), 4)
    cloudy[:20] = 9
    both = np.full((40, 50), 4)
    both[:20, :10] = 3
    one = scene(tmp_path, "a", 5000, scl=cloudy)
    two = scene(tmp_path, "b", 400, scl=both, day="2024-06-11")
    details, image = run(tmp_path, one, two, cloud_buffer=0)
    assert (image[0, :40, 20:] == 400).all()
    assert (image[:, :40, :20] == 0).all()
    assert (image[0, 40:] == 2700).all()
    assert details["pixels_without_observation"] == 40 * 20


def test_offset_by_baseline(tmp_path: Path) -> None:
    """Two baselines of the same ground agree after harmonisation, and the decision is recorded."""
    ground = np.random.default_rng(0).integers(200, 1500, GRID.shape)
    old = scene(tmp_path, "old", ground, baseline="03.01")
    new = scene(tmp_path, "new", ground + 1000, baseline="05.09", day="2024-06-11")
    details, image = run(tmp_path, old, new)
    np.testing.assert_array_equal(image[0], ground)
    assert details["harmonization"]["new"]["offset"] == -1000
    assert details["harmonization"]["old"]["offset"] == 0


def test_nodata_is_kept(tmp_path: Path) -> None:
    """A stored 0 is no observation, with or without an offset."""
    ground = np.full(GRID.shape, 1500)
    ground[:10] = 0
    _, image = run(tmp_path, scene(tmp_path, "a", ground, baseline="05.09"))
    assert (image[:, :10] == 0).all()
    assert (image[1, 10:] == 1).all()


def test_outside_the_footprint_is_nodata(tmp_path: Path) -> None:
    """Pixels whose centre is outside the region are nodata in every band."""
    west, south, east, north = FOOTPRINT.bounds
    half = box(west - 1, south - 1, (west + east) / 2, north + 1)
    details, image = run(tmp_path, scene(tmp_path, "a", 700), footprint=half)
    assert (image[0, :, :49] == 700).all()
    assert (image[:, :, 51:] == 0).all()
    assert details["pixels_in_footprint"] == np.count_nonzero(image[1])


def test_granules_of_one_day_are_one_observation(tmp_path: Path) -> None:
    """Two overlapping granules of a day count once; a later day counts again."""
    left = np.full(GRID.shape, 300)
    left[:, 60:] = 0
    right = np.full(GRID.shape, 500)
    right[:, :40] = 0
    _, image = run(tmp_path, scene(tmp_path, "a", left), scene(tmp_path, "b", right))
    assert (image[1] == 1).all()
    assert (image[0, :, :60] == 300).all()
    assert (image[0, :, 60:] == 500).all()


def test_other_crs_and_resolution(tmp_path: Path) -> None:
    """A scene in degrees with pixels that are not square lands where it belongs."""
    west, south, east, north = FAR.bounds
    grid = GeoBox.from_bbox((west, south, east, north), "EPSG:4326", shape=(400, 300))
    rows = np.linspace(1000, 3000, 400).astype(np.uint16)
    _, image = run(tmp_path, scene(tmp_path, "a", rows[:, None], grid=grid))
    x, y = GRID.transform @ (50.5, 40.5)
    lat = rasterio.warp.transform(str(GRID.crs), "EPSG:4326", [x], [y])[1][0]
    expected = 1000 + 2000 * (north - lat) / (north - south)
    assert image[0, 40, 50] == pytest.approx(expected, abs=10)


def test_no_seam_between_blocks(tmp_path: Path) -> None:
    """A warped ramp that spans several blocks stays a ramp, within 1/8 pixel everywhere."""
    grid = GeoBox.from_bbox((500_000, 5_290_000, 511_000, 5_300_800), "EPSG:32633", resolution=10)
    source = GeoBox.from_bbox((14.9, 47.7, 15.2, 47.9), "EPSG:4326", shape=(2000, 3000))
    ramp = (1000 + 20 * np.arange(2000))[:, None]  # 20 per 0.0001 degree
    one = scene(tmp_path, "a", ramp, grid=source)
    _, image = run(tmp_path, one, footprint=box(14, 47, 16, 49), grid=grid)
    rows, cols = np.mgrid[: grid.shape[0], : grid.shape[1]]
    x, y = grid.transform @ (cols.ravel() + 0.5, rows.ravel() + 0.5)
    lat = np.array(rasterio.warp.transform(str(grid.crs), "EPSG:4326", x, y)[1])
    expected = 1000 + 20 * ((47.9 - lat) / 1e-4 - 0.5)
    assert np.abs(image[0].ravel() - expected).max() <= 20 / 8 * 2


def test_a_truncated_scene_is_an_error(tmp_path: Path) -> None:
    """A file that breaks off is named, and no composite appears: a failed read is never nodata."""
    rng = np.random.default_rng(0)
    bad = scene(tmp_path, "bad", rng.integers(1, 5000, GRID.shape))
    path = tmp_path / "bad_B04.tif"
    path.write_bytes(path.read_bytes()[:8000])
    with pytest.raises(RasterError, match=r"bad_B04\.tif cannot be read"):
        run(tmp_path, bad)
    assert not (tmp_path / "composite.tif").exists()


def test_a_missing_scene_file_is_an_error(tmp_path: Path) -> None:
    """A file that is gone is named."""
    gone = scene(tmp_path, "gone", 1)
    (tmp_path / "gone_B04.tif").unlink()
    with pytest.raises(RasterError, match=r"gone_B04\.tif cannot be read"):
        run(tmp_path, gone)


def test_a_missing_band_is_an_error(tmp_path: Path) -> None:
    """A scene without a band that the model needs is named with what it has."""
    poor = scene(tmp_path, "poor", 1)
    poor["assets"] = {"nir": poor["assets"]["red"]}
    with pytest.raises(CatalogError, match=r"Scene poor has no band red \(it has nir\)"):
        run(tmp_path, poor)


def test_no_clear_view_at_all_is_an_error(tmp_path: Path) -> None:
    """When every pixel is cloud, the run stops and says so instead of mapping nothing."""
    with pytest.raises(RasterError, match="None of the 1 scenes has a clear view"):
        run(tmp_path, scene(tmp_path, "a", 500, scl=np.full((40, 50), 8)))
    assert not (tmp_path / "composite.tif").exists()


def test_a_remote_description_of_other_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote file that is a VRT, whatever its name, could name local files: it is not opened."""
    files = partial(RasterFiles, pause=lambda _: None)
    monkeypatch.setattr(pipeline.composite, "RasterFiles", files)
    secret = scene(tmp_path, "secret", 7)["assets"]["red"]["href"]
    (tmp_path / "web").mkdir()
    rasterio.shutil.copy(secret, tmp_path / "web/red.tif", driver="VRT")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = scene(tmp_path, "remote", 1)
        remote["assets"]["red"]["href"] = f"http://127.0.0.1:{server.server_port}/red.tif"
        with pytest.raises(RasterError, match=r"red\.tif cannot be read"):
            run(tmp_path, remote)
        server.shutdown()


def rewrite(one: dict[str, Any], pixels: NDArray[Any], **options: Any) -> None:
    """Replace the red file of a scene."""
    save(Path(one["assets"]["red"]["href"]), pixels, GRID, **options)


def left_half() -> NDArray[np.uint8]:
    """255 on the left half of the grid, 0 on the right."""
    return np.where(np.arange(GRID.shape[1]) < 50, 255, 0)[None].repeat(80, 0).astype(np.uint8)


def test_alpha_is_honoured(tmp_path: Path) -> None:
    """Where the alpha band of an image is 0 there is no observation, whatever the colours say."""
    one = scene(tmp_path, "a", 1)
    pixels = np.stack([np.full(GRID.shape, 90, np.uint8)] * 3 + [left_half()])
    rewrite(one, pixels, photometric="RGB", alpha="YES")
    _, image = run(tmp_path, one)
    assert (image[:, :, :50] > 0).all()
    assert (image[:, :, 50:] == 0).all()


@pytest.mark.parametrize("options", [{"photometric": "RGB", "alpha": "YES", "nodata": 0}, {}])
def test_alpha_counts_with_a_tag_of_nodata_and_by_name_alone(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """White that is transparent is no ground: GDAL lets a tag hide alpha, and colours may be missing."""
    one = scene(tmp_path, "a", 1)
    white = np.where(left_half() > 0, 90, 255).astype(np.uint8)
    rewrite(one, np.stack([white] * 3 + [left_half()]), **options)
    names = ("red", "green", "blue", "alpha")
    one["assets"]["red"]["bands"] = [{"name": name, "data_type": "uint8"} for name in names]
    _, image = run(tmp_path, one)
    assert (image[:2, :, :50] == [[[90]], [[1]]]).all()
    assert (image[:, :, 50:] == 0).all()


@pytest.mark.parametrize("empty", [-9999.9, np.inf, -np.inf])
def test_fractions_that_are_no_data(tmp_path: Path, empty: float) -> None:
    """Nodata is compared as the file's numbers hold it, and what is infinite was never measured."""
    ground = np.full((1, *GRID.shape), 0.2, np.float32)
    ground[..., 50:] = empty
    one = scene(tmp_path, "a", 1)
    rewrite(one, ground)
    facts = {"scale": 1.0, "offset": 0.0, "data_type": "float32", "nodata": -9999.9}
    one["assets"]["red"]["raster:bands"] = [facts]
    _, image = run(tmp_path, one)
    assert (image[0, :, :50] == 2000).all()
    assert (image[:, :, 50:] == 0).all()


def test_an_internal_mask_is_honoured(tmp_path: Path) -> None:
    """Where the mask of an image is 0 there is no observation."""
    one = scene(tmp_path, "a", 1)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(one["assets"]["red"]["href"], "r+") as dataset,
    ):
        dataset.write_mask(left_half())
    _, image = run(tmp_path, one)
    assert (image[1, :, :50] == 1).all()
    assert (image[1, :, 50:] == 0).all()


def test_nodata_in_a_side_car_is_honoured(tmp_path: Path) -> None:
    """A nodata value that only the .aux.xml beside the file declares is not reflectance."""
    ground = np.full(GRID.shape, 800)
    ground[:, 50:] = 65535
    one = scene(tmp_path, "a", ground)
    text = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>65535</NoDataValue></PAMRasterBand></PAMDataset>"
    Path(one["assets"]["red"]["href"] + ".aux.xml").write_text(text)
    _, image = run(tmp_path, one)
    assert (image[0, :, :50] == 800).all()
    assert (image[:, :, 50:] == 0).all()


def test_negative_numbers_are_no_reflectance(tmp_path: Path) -> None:
    """Signed numbers below zero (-9999 without a tag) become nodata, they do not wrap around."""
    one = scene(tmp_path, "a", 1)
    ground = np.full((1, *GRID.shape), 800, np.int16)
    ground[..., 50:] = -9999
    rewrite(one, ground)
    _, image = run(tmp_path, one)
    assert (image[0, :, :50] == 800).all()
    assert (image[:, :, 50:] == 0).all()


def test_declared_scale_and_offset(tmp_path: Path) -> None:
    """Landsat's numbers x 0.0000275 - 0.2 become reflectance x 10000; fill stays nodata."""
    ground = np.full(GRID.shape, 10_000)
    ground[0] = 0
    one = scene(tmp_path, "a", ground)
    one["properties"]["platform"] = "landsat-8"
    one["assets"]["red"]["raster:bands"] = [{"scale": 0.0000275, "offset": -0.2}]
    _, image = run(tmp_path, one)
    assert (image[0, 1:] == 750).all()
    assert (image[:, 0] == 0).all()


@pytest.mark.parametrize("kind", ["float32", "uint32"])
def test_numbers_that_do_not_fit_are_refused(tmp_path: Path, kind: str) -> None:
    """Reflectance as fractions, or numbers beyond 16 bits, are not silently rounded or cut."""
    one = scene(tmp_path, "a", 1)
    rewrite(one, np.ones((1, *GRID.shape), kind))
    with pytest.raises(RasterError, match=f"holds {kind}"):
        run(tmp_path, one)


@pytest.mark.parametrize("kind", ["float32", "uint32"])
def test_numbers_declared_as_reflectance_x_10000(tmp_path: Path, kind: str) -> None:
    """A scale of 0.0001 says what they mean, though nothing is left to multiply; Sentinel-2 keeps its rule."""
    one = scene(tmp_path, "a", 1)
    rewrite(one, np.full((1, *GRID.shape), 2000.75).astype(kind))
    one["assets"]["red"]["raster:bands"] = [{"scale": 0.0001, "offset": 0.0, "data_type": kind}]
    _, image = run(tmp_path, one)
    assert (image[0] == (2001 if kind == "float32" else 2000)).all()
    one["properties"]["constellation"] = "sentinel-2"
    with pytest.raises(RasterError, match=f"holds {kind}"):
        run(tmp_path, one)


def test_a_region_smaller_than_a_pixel(tmp_path: Path) -> None:
    """A footprint without a pixel centre is told as that, not as clouds."""
    x, y = GRID.extent.to_crs("EPSG:4326").geom.centroid.coords[0]
    with pytest.raises(RasterError, match="No pixel has its centre inside"):
        run(tmp_path, scene(tmp_path, "a", 5), footprint=box(x, y, x + 1e-6, y + 1e-6))


def test_an_empty_scene_list(tmp_path: Path) -> None:
    """A list without a scene is told as that."""
    with pytest.raises(CatalogError, match=r"items\.json holds no scene"):
        run(tmp_path)


def test_the_day_of_the_median(tmp_path: Path) -> None:
    """Beside the median stands the day of the observation nearest to it, in days since 1970."""
    days = {"2024-06-01": 100, "2024-06-05": 310, "2024-06-09": 900}
    scenes = [scene(tmp_path, f"s{red}", red, day=day) for day, red in days.items()]
    _, image = run(tmp_path, *scenes)
    assert (image[2] == np.datetime64("2024-06-05").astype(int)).all()


@pytest.mark.parametrize(
    ("method", "expected", "day"),
    [
        ("median", 500, "2024-06-05"),
        ("geomedian", 500, "2024-06-05"),
        ("latest", 900, "2024-06-09"),
        ("least-cloudy-scene", 100, "2024-06-01"),
    ],
)
def test_methods(tmp_path: Path, method: str, expected: int, day: str) -> None:
    """Each method takes, of three clear looks at a pixel, the one it is named for."""
    clouds = np.full((40, 50), 4)
    clouds[:4] = 9  # hides a tenth of the later two, elsewhere
    scenes = [
        scene(tmp_path, "a", 100, scl=np.full((40, 50), 4), day="2024-06-01"),
        scene(tmp_path, "b", 500, scl=clouds, day="2024-06-05"),
        scene(tmp_path, "c", 900, scl=clouds, day="2024-06-09"),
    ]
    details, image = run(tmp_path, *scenes, method=method)
    assert (image[0, 20:] == expected).all()
    assert (image[1, 20:] == 3).all()
    assert (image[2, 20:] == np.datetime64(day).astype(int)).all()
    assert details["method"] == method


def test_least_cloudy_by_pixel(tmp_path: Path) -> None:
    """Each pixel comes from the observation whose clouds are farthest away."""
    left, right = np.full((40, 50), 4), np.full((40, 50), 4)
    left[:, :2] = 9
    right[:, -2:] = 9
    one = scene(tmp_path, "a", 300, scl=left)
    two = scene(tmp_path, "b", 700, scl=right, day="2024-06-11")
    _, image = run(tmp_path, one, two, method="least-cloudy-pixel")
    assert (image[0, :, :45] == 700).all()
    assert (image[0, :, 55:] == 300).all()


def test_an_unknown_method(tmp_path: Path) -> None:
    """A method that there is not is told with those that there are."""
    with pytest.raises(SettingsError, match=r"'mean' is not one of median, geomedian"):
        run(tmp_path, scene(tmp_path, "a", 1), method="mean")


def test_a_band_named_twice(tmp_path: Path) -> None:
    """A band that is asked for twice, under whichever name, is refused by its name."""
    with pytest.raises(SettingsError, match=r"The band name 'red' in --bands .* there twice"):
        run(tmp_path, scene(tmp_path, "a", 1), bands=("red", "B04"))


def test_clouds_grow_by_the_buffer(tmp_path: Path) -> None:
    """Pixels next to a cloud are left out too, as far as the buffer says."""
    codes = np.full((40, 50), 4)
    codes[20, 20] = 9
    one = scene(tmp_path, "a", 600, scl=codes)
    _, bare = run(tmp_path, one, cloud_buffer=0)
    _, wide = run(tmp_path, one, cloud_buffer=20)
    assert np.count_nonzero(bare[1] == 0) == 4
    assert np.count_nonzero(wide[1] == 0) == 4 * 5


def test_photographs_keep_black(tmp_path: Path) -> None:
    """In a picture of 8 bits 0 is a colour; only a pixel of which all bands are the tag is nodata."""
    pixels = np.zeros((3, *GRID.shape), np.uint8)
    pixels[0, :40] = 90
    path = save(tmp_path / "photo.tif", pixels, GRID, photometric="RGB")
    bands = [{"name": n, "eo:common_name": n, "data_type": "uint8"} for n in ("red", "green", "blue")]  # fmt: skip
    one = scene(tmp_path, "a", 1) | {"assets": {"image": {"href": str(path), "bands": bands}}}
    details, image = run(tmp_path, one)
    assert details["products"]["a"] == "photo"
    assert (image[0, :40] == 90).all()
    assert (image[0, 40:] == 1).all()
    for band in bands:
        band["nodata"] = 0  # type: ignore[assignment]
    two = scene(tmp_path, "b", 1) | {"assets": {"image": {"href": str(path), "bands": bands}}}
    _, image = run(tmp_path, two, bands=("red", "green"))
    assert (image[0, :40] == 90).all()
    assert (image[1, :40] == 1).all()
    assert (image[:, 40:] == 0).all()


def test_photographs_are_not_mixed_with_reflectance(tmp_path: Path) -> None:
    """90 of 255 and a reflectance of 0.2 have no median; the message names one scene of each kind."""
    photo = scene(tmp_path, "sketch", 90)
    photo["assets"]["red"]["bands"] = [{"name": "red", "data_type": "uint8"}]
    days = [scene(tmp_path, "a", 2000, day="2024-06-02"), photo, scene(tmp_path, "b", 2000)]
    with pytest.raises(
        CatalogError, match=r"Scene sketch is a photograph .* scene a holds reflectance"
    ):
        run(tmp_path, *days)
    assert not (tmp_path / "composite.tif").exists()


@pytest.mark.parametrize("method", METHODS)
def test_memory_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """However little memory a block may take, the composite is the same, whatever the scenes' grids."""
    rng = np.random.default_rng(5)
    west, south, east, north = FAR.bounds
    grids = [
        GRID, GRID.zoom_out(2), GeoBox.from_bbox((west, south, east, north), "EPSG:4326", shape=(400, 300)),
    ]  # fmt: skip
    scenes = [
        scene(
            tmp_path, f"s{n}", rng.integers(0, 4000, grid.shape), day=f"2024-06-0{n + 1}", grid=grid,
            scl=rng.choice([4, 5, 9], (grid.shape[0] // 2, grid.shape[1] // 2), p=[0.5, 0.3, 0.2]),
        )
        for n, grid in enumerate(grids)
    ]  # fmt: skip
    _, at_once = run(tmp_path, *scenes, method=method, cloud_buffer=15)
    monkeypatch.setattr("pipeline.block_compositor._SMALLEST", 7)
    monkeypatch.setattr("pipeline.block_compositor._STACKS", 2 * 3 * 17 * 31)
    _, in_parts = run(tmp_path, *scenes, method=method, cloud_buffer=15)
    np.testing.assert_array_equal(in_parts, at_once)


@pytest.mark.parametrize(
    ("tile", "side", "most", "expected"),
    [
        pytest.param((512, 512), 512, 2**20, (512, 512), id="one tile"),
        pytest.param((256, 256), 512, 2**20, (512, 512), id="four tiles"),
        pytest.param((512, 512), 1024, 2**20, (1024, 1024), id="over the network"),
        pytest.param((1024, 1024), 512, 2**20, (1024, 1024), id="a larger tile, whole"),
        pytest.param(
            (512, 512), 1024, 327_680, (512, 512), id="many dates: fewer tiles, not parts"
        ),
        pytest.param(
            (1024, 1024), 512, 327_680, (1024, 320), id="too many dates: a part of a tile"
        ),
        pytest.param((1, 4000), 512, 2**20, (65, 4000), id="rows"),
        pytest.param((1, 1), 512, 1000, (64, 64), id="no room: the least"),
    ],
)
def test_blocks_are_whole_tiles_where_they_fit(
    tile: tuple[int, int], side: int, most: int, expected: tuple[int, int]
) -> None:
    """A tile that two blocks share is decoded twice, so blocks are made of whole ones."""
    assert _block_shape((4000, 4000), tile, side, most) == expected


@pytest.mark.parametrize(
    ("tile", "dates", "expected"),
    [
        pytest.param(512, 3, ((1024, 1024), 2), id="few dates: no larger than is of use"),
        pytest.param(512, 12, ((512, 1024), 2), id="two of two tiles"),
        pytest.param(512, 25, ((512, 512), 2), id="two of one tile"),
        pytest.param(512, 40, ((512, 512), 1), id="one of one tile: two would not fit"),
        pytest.param(1024, 12, ((1024, 1024), 1), id="one of one large tile"),
        pytest.param(512, 100, ((512, 256), 1), id="half of a tile"),
    ],
)
def test_blocks_in_memory_share_what_there_is(
    tile: int, dates: int, expected: tuple[tuple[int, int], int]
) -> None:
    """However many dates there are, the blocks of four bands in memory take 100 MB together."""
    shape, held = _layout((10980, 10980), (tile, tile), 2 * 4 * dates, is_remote=False)
    assert (shape, held) == expected
    assert held * shape[0] * shape[1] * 2 * 4 * dates <= 100 * 2**20


def test_over_the_network_two_blocks_are_read() -> None:
    """While one is reduced the network is not left idle; each takes up to 100 MB."""
    assert _layout((10980, 10980), (512, 512), 2 * 4 * 40, is_remote=True) == ((512, 512), 2)


def test_two_satellites_on_one_day_are_two_observations(tmp_path: Path) -> None:
    """Scenes of one day are one look only if one satellite took them."""
    one, two = scene(tmp_path, "a", 300), scene(tmp_path, "b", 700)
    one["properties"]["platform"], two["properties"]["platform"] = "sentinel-2a", "sentinel-2b"
    _, image = run(tmp_path, one, two)
    assert (image[0] == 500).all()
    assert (image[1] == 2).all()


def test_fractions_with_a_declared_scale(tmp_path: Path) -> None:
    """Reflectance stored as fractions is brought to reflectance x 10000; NaN is nodata."""
    ground = np.full((1, *GRID.shape), 0.1234, np.float32)
    ground[0, 0] = np.nan
    one = scene(tmp_path, "a", 1)
    rewrite_as = save(tmp_path / "f.tif", ground, GRID)
    one["assets"]["red"] = {
        "href": str(rewrite_as),
        "raster:bands": [{"scale": 1.0, "offset": 0.0}],
    }
    one["assets"]["red"]["raster:bands"][0]["data_type"] = "float32"
    _, image = run(tmp_path, one)
    assert (image[0, 1:] == 1234).all()
    assert (image[:, 0] == 0).all()


def test_progress_says_how_far_how_fast_how_long(tmp_path: Path) -> None:
    """Each line has blocks, scenes, megabytes a second and the seconds left."""
    lines: list[str] = []
    run(tmp_path, scene(tmp_path, "a", 5), report=lines.append)
    assert re.fullmatch(
        r"composite: 1 of 1 block of 1 scene, \d+ MB/s decoded, 0 s left", lines[-1]
    )


def test_pictures_from_before_1970(tmp_path: Path) -> None:
    """An old aerial photograph has a day that the composite cannot count: it is not known there."""
    _, image = run(tmp_path, scene(tmp_path, "a", 300, day="1955-06-01"))
    assert (image[0] == 300).all()
    assert (image[2] == 0).all()


def test_the_latest_of_pictures_from_before_1970(tmp_path: Path) -> None:
    """The years that the composite cannot count are in order nevertheless; what has no day comes first."""
    scenes = [scene(tmp_path, f"s{year}", year, day=f"{year}-06-01") for year in (1955, 1968, 1962)]
    undated = scene(tmp_path, "u", 9)
    undated["properties"] = {"datetime": None}
    _, image = run(tmp_path, undated, *scenes, method="latest")
    assert (image[0] == 1968).all()
    assert (image[2] == 0).all()


def test_the_hole_budget_counts_windows() -> None:
    """One of ten windows lost is 10 percent; a scene that does not open is as much as the others are."""
    lost = FailedReadError("a.tif", "gone", 1)
    holes = Holes(10.0, scenes=10)
    holes.cut(10)
    holes.missed("a", lost, (slice(0, 1), slice(0, 1)))
    with pytest.raises(FailedReadsError, match=r"a: a\.tif"):
        holes.missed("b", lost, (slice(0, 1), slice(0, 1)))
    early = Holes(10.0, scenes=10)
    early.missed("a", lost)
    early.cut(90)
    with pytest.raises(FailedReadsError):
        early.missed("b", lost, (slice(0, 1), slice(0, 1)))
