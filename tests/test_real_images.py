"""Real images of every kind, indexed, searched and composited as the gallery does it."""

import json
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.transform import from_bounds
from scipy.ndimage import map_coordinates

from docs.make_gallery import Made, index_show, make_view, shows
from landcover.errors import RasterError
from pipeline.composite import composite
from pipeline.index import index_folder
from pipeline.search import search

Make = Callable[..., tuple[Made, NDArray[np.uint16]]]

EXPECTED = {
    "oscd-abudhabi": (2, ["2016-01-20", "2018-03-28"]),
    "oscd-aguasclaras": (2, ["2015-09-16", "2017-10-15"]),
    "oscd-bordeaux": (2, ["2016-05-04", "2017-10-26"]),
    "oscd-hongkong": (2, ["2016-09-27", "2018-03-23"]),
    "oscd-nantes": (2, ["2015-08-21", "2017-10-14"]),
    "oscd-norcia": (2, ["2015-07-11", "2017-10-18"]),
    "oscd-pisa": (2, ["2015-07-04", "2018-02-11"]),
    "beaufort": (1, ["2018-10-13"]),
    "austria": (1, ["2022-01-01"]),
    "taizhou": (2, ["2000-03-17", "2003-02-06"]),
    "peru": (8, [f"{year}-01-01" for year in range(1985, 2021, 5)]),
    "fmask": (2, ["1999-11-18", "2002-04-16"]),
    "naip": (4, ["2009-08-18", "2014-07-20", "2019-09-04", "2020-08-31"]),
    "pix4d": (1, ["2020-01-01"]),
    **{f"201404{kind}": (1, ["2014-04-01"]) for kind in ("", "_alpha", "_mask", "_extmask", "_nodata")},
}  # fmt: skip
"""Scenes and dates of each set."""


@pytest.fixture
def make(shared_data: Path, tmp_path: Path) -> Make:
    """Composite one view of a show: what is known of it, and (band, rows, cols)."""
    known = {show.name: show for show in shows(shared_data)}

    def made(name: str, view: int = 0) -> tuple[Made, NDArray[np.uint16]]:
        show, work = known[name], tmp_path / name
        if not (work / "index.ndjson").exists():
            index_show(show, shared_data, work)
        result = make_view(show, show.views[view], work)
        with rasterio.open(result.path) as dataset:
            assert dataset.descriptions == (*show.views[view].drawn, "observations", "day")
            return result, dataset.read()

    return made


def read(path: Path, bands: list[int] | None = None) -> NDArray[Any]:
    """Bands of an image as they are stored."""
    with rasterio.open(path) as dataset:
        pixels: NDArray[Any] = dataset.read(bands)
        return pixels


def test_every_set_is_indexed(shared_data: Path, tmp_path: Path) -> None:
    """Each set has the scenes and dates that its sources tell, and no file of it is unusable."""
    found, rejected = {}, {}
    for show in shows(shared_data):
        details = index_show(show, shared_data, tmp_path / show.name)
        found[show.name] = (details["items"], details["dates"])
        rejected[show.name] = details["rejected"]
    assert found == EXPECTED
    # A mask of another place, with one band where the image has eight.
    assert {name: files for name, files in rejected.items() if files} == {"austria": ["mask.tif"]}


@pytest.mark.parametrize(
    ("name", "view", "file", "bands"),
    [
        ("taizhou", 0, "landsat_change_taizhou/2000TM", [4, 3, 2]),
        ("taizhou", 1, "landsat_change_taizhou/2003TM", [4, 3, 2]),
        ("peru", 0, "landsat_series_peru/1985.tif", [1, 2, 3]),
        ("austria", 0, "sentinel2_two_season_austria/inference-img.tif", [1, 2, 3]),
        ("austria", 1, "sentinel2_two_season_austria/inference-img.tif", [5, 6, 7]),
        ("fmask", 0, "landsat7_pair_fmask/LE70220491999322EDC01_stack.gtif", [3, 2, 1]),
        ("naip", 0, "naip_series_north_dakota/m_4709963_se_14_1_20090818.tif", [1, 2, 3]),
        ("201404", 0, "drone_orthos/201404_13SED190110_201404_0x1500m_CL_1.tif", [1, 2, 3]),
    ],
)
def test_one_image_is_itself(
    shared_data: Path, make: Make, name: str, view: int, file: str, bands: list[int]
) -> None:
    """On its own grid the composite of one image has that image's numbers, none resampled."""
    made, pixels = make(name, view)
    stored = read(shared_data / file, bands)
    with rasterio.open(shared_data / file) as dataset:
        seen = dataset.dataset_mask() > 0
    rows, cols = stored.shape[1:]
    assert pixels.shape[1] >= rows
    part = pixels[:, :rows, :cols]
    assert made.nodata < 0.001
    assert np.array_equal(part[3], seen)
    assert np.array_equal(
        part[:3][:, seen], np.maximum(stored[:, seen], 1)
    )  # 0 is kept for no data


def test_beaufort_fill_is_no_data(shared_data: Path, make: Make) -> None:
    """255 in all bands, which no tag tells, is no data as declared; all else keeps its number."""
    made, pixels = make("beaufort")
    folder = shared_data / "sentinel2_scene_beaufort"
    stored = np.concatenate(
        [read(folder / f"2018-10-13, Sentinel-2B L1C, B0{n}.tiff") for n in (4, 3, 2)]
    )
    assert pixels.shape[1:] == stored.shape[1:] == (2201, 2629)
    seen = (stored != 255).any(axis=0)
    assert made.nodata == pytest.approx(0.3149, abs=1e-4)
    assert np.array_equal(pixels[3] > 0, seen)
    assert np.array_equal(pixels[:3][:, seen], np.maximum(stored[:, seen], 1))


def test_a_drone_image_ends_where_its_alpha_says(shared_data: Path, make: Make) -> None:
    """Pixels with alpha 0 are no data, black ones with alpha are data; resolution stays 0.35 m."""
    made, pixels = make("pix4d")
    stored = read(shared_data / "drone_orthos/pix4d_alpha_nodata.tif")
    seen = stored[3] > 0
    assert made.grid.resolution.x == pytest.approx(0.35272)
    assert np.array_equal(pixels[3] > 0, seen)
    assert np.array_equal(pixels[:3][:, seen], np.maximum(stored[:3, seen], 1))
    assert made.nodata == pytest.approx(0.1244, abs=1e-3)


def test_five_ways_to_say_no_data(shared_data: Path, make: Make) -> None:
    """No word, alpha, internal mask, external mask and tag: each holds, and the pixels are the same."""
    found = {
        kind: make(f"201404{kind}")[1] for kind in ("", "_alpha", "_mask", "_extmask", "_nodata")
    }
    shares = {kind: float(np.mean(pixels[3] == 0)) for kind, pixels in found.items()}
    expected = {"": 0, "_alpha": 0.11304, "_mask": 0.03083, "_extmask": 0.03083, "_nodata": 0.0266}
    assert shares == pytest.approx(expected, abs=1e-5)
    for kind, pixels in found.items():
        path = shared_data / f"drone_orthos/201404_13SED190110_201404_0x1500m_CL_1{kind}.tif"
        with rasterio.open(path) as dataset:
            told = dataset.dataset_mask() > 0
        assert np.array_equal(pixels[3] > 0, told), kind
        assert np.array_equal(pixels[:, told], found[""][:, told]), kind
        assert not pixels[:, ~told].any(), kind


def test_fmask_hides_clouds_and_shadows(shared_data: Path, make: Make) -> None:
    """The last band of the stack is its mask: 26.9 % of the cloudy date, nothing of the clear one."""
    made, pixels = make("fmask", 1)
    stored = read(shared_data / "landsat7_pair_fmask/LE70220492002106EDC00_stack.gtif")
    clear = ~np.isin(stored[7], (2, 4, 255)) & ~(stored[:3] == 16000).any(axis=0)
    assert made.nodata == pytest.approx(0.26886, abs=1e-5)
    assert np.array_equal(pixels[3] > 0, clear)
    assert np.array_equal(pixels[:3][:, clear], stored[[2, 1, 0]][:, clear])
    whole, both = make("fmask", 2)
    assert whole.nodata == 0
    assert np.array_equal(both[3], 1 + clear)
    first = read(shared_data / "landsat7_pair_fmask/LE70220491999322EDC01_stack.gtif")[[2, 1, 0]]
    mean = np.rint(
        (stored[[2, 1, 0]].astype(float) + first) / 2
    )  # numpy rounds half to even, as we do
    assert np.array_equal(both[:3], np.where(clear, mean, first))
    days = {(date.fromisoformat(day) - date(1970, 1, 1)).days for day in EXPECTED["fmask"][1]}
    assert set(np.unique(both[4])) <= days


def test_photographs_of_two_grids_are_one_composite(make: Make) -> None:
    """Three of the four aerial photographs share a grid, which the composite has; 2009 is resampled."""
    made, pixels = make("naip", 4)
    assert (made.scenes, made.grid.resolution.x, str(made.grid.crs)) == (4, 5, "EPSG:26914")
    assert pixels[3].max() == 4
    assert np.mean(pixels[3] == 4) > 0.99


@pytest.mark.parametrize("city", ["nantes", "hongkong"])
def test_sentinel2_pairs_lie_on_one_metric_grid(shared_data: Path, make: Make, city: str) -> None:
    """Both dates, in degrees and on grids of their own, come out in UTM at 10 m, linear between pixels."""
    for view in (0, 1):
        made, pixels = make(f"oscd-{city}", view)
        assert (made.grid.resolution.x, made.grid.crs.projected) == (10, True)
        assert made.nodata < 0.001
        folder = shared_data / f"sentinel2_pairs_oscd/images/{city}/imgs_{view + 1}"
        (red,) = folder.glob("*_B04.tif")
        expected = between_pixels(red, made.grid)
        both = (pixels[3] > 0) & np.isfinite(expected)
        assert both.mean() > 0.9
        assert np.abs(pixels[0] - expected)[both].max() < 2


def between_pixels(path: Path, grid: GeoBox) -> NDArray[np.float64]:
    """An image's first band at a grid's pixel centres, linear between its own; NaN outside them."""
    rows, cols = grid.shape
    x, y = grid.transform * np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    with rasterio.open(path) as dataset:
        system = Transformer.from_crs(str(grid.crs), dataset.crs, always_xy=True)
        col, row = ~dataset.transform * system.transform(x, y)
        values: NDArray[np.float64] = map_coordinates(
            dataset.read(1).astype(np.float64), [row - 0.5, col - 0.5], order=1, cval=np.nan
        )
    return values


# --- clouds over Slovenia, with a known answer

BANDS = {"B02": 1, "B03": 2, "B04": 3, "B08": 7, "B11": 11, "B12": 12}
"""Band file -> its place in the array."""
NAMES = ("blue", "green", "red", "nir", "swir16", "swir22")
DATES = ("2015-08-20", "2015-07-31", "2015-09-09", "2015-08-30", "2015-07-11")
"""Of the array's scenes; the first two are cloudy."""


@pytest.fixture(scope="module")
def slovenia(shared_data: Path) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Reflectance x 10000 (date, band, rows, cols), and where the cloud masks say clear (date, ...)."""
    folder = shared_data / "sentinel2_lulc_slovenia"
    scenes = np.load(folder / "REFERENCE_SCENES.npy")[..., list(BANDS.values())]
    taken = [text[:10] for text in json.loads((folder / "TestEOPatch/timestamps.json").read_text())]
    places = [taken.index(day) for day in DATES]
    clouds = np.load(folder / "TestEOPatch/mask/CLM.npy")[places, ..., 0]
    likely = np.load(folder / "TestEOPatch/data/CLP.npy")[places, ..., 0]
    assert [round(float(cloud.mean()), 2) for cloud in clouds] == [1, 1, 0, 0, 0]
    clear = (clouds == 0) | (likely < 0.5)  # thin cloud on the second date, of even chance at most
    assert 0.05 < clear[1].mean() < 0.07
    return np.rint(scenes * 10000).astype(np.uint16).transpose(0, 3, 1, 2), clear


def frozen(
    folder: Path, scenes: NDArray[np.uint16], clear: NDArray[np.bool_], which: list[int]
) -> tuple[Path, GeoBox]:
    """Write scenes as Sentinel-2 band files with a scene classification, index and search them."""
    shape = scenes.shape[2:]
    place = from_bounds(465181.05223, 5079244.8912, 466180.53145, 5080254.6335, shape[1], shape[0])
    images = folder / "images"
    images.mkdir()
    for number in which:
        stem = f"T33TVM_{DATES[number].replace('-', '')}T100000"
        layers = dict(zip(BANDS, scenes[number], strict=True))
        layers["SCL"] = np.where(clear[number], 4, 9).astype(np.uint8)  # vegetation, else cloud
        for band, pixels in layers.items():
            with rasterio.open(
                images / f"{stem}_{band}.tif", "w", driver="GTiff", count=1, dtype=pixels.dtype,
                height=shape[0], width=shape[1], crs="EPSG:32633", transform=place,
            ) as dataset:  # fmt: skip
                dataset.write(pixels, 1)
    index_folder(images, folder / "index.ndjson", report=lambda _: None)
    grid = GeoBox(shape, place, "EPSG:32633")
    search(
        catalog=str(folder / "index.ndjson"), footprint=footprint(grid), period=None, region="slovenia",
        output=folder / "items.json", bands=NAMES, report=lambda _: None,
    )  # fmt: skip
    return folder / "items.json", grid


def footprint(grid: GeoBox) -> Any:
    """A little more than a grid's extent, EPSG:4326."""
    return grid.extent.to_crs("EPSG:4326").geom.buffer(0.001)


def made_of(items: Path, grid: GeoBox) -> NDArray[np.uint16]:
    """The masked median, (band, rows, cols) with the count and the day last."""
    output = items.with_name("composite.tif")
    composite(
        items=items, grid=grid, footprint=footprint(grid), bands=NAMES, output=output,
        cloud_buffer=0.0, report=lambda _: None,
    )  # fmt: skip
    pixels: NDArray[np.uint16] = read(output)
    return pixels


def nanmedian(scenes: NDArray[np.uint16], clear: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The answer by numpy: median of the clear dates, rounded half to even, (band, rows, cols)."""
    masked = np.where(clear[:, None], scenes.astype(np.float64), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pixel that no date shows
        answer: NDArray[np.float64] = np.rint(np.nanmedian(masked, axis=0))
    return answer


def test_the_clear_sky_answer_comes_through_clouds(
    slovenia: tuple[NDArray[np.uint16], NDArray[np.bool_]], tmp_path: Path
) -> None:
    """Five dates, two of them cloudy, give exactly the median of what the masks call clear.

    Where the masks call only the three clear dates clear, that is the clear-sky answer to the last
    digit; where they let thin cloud pass, the composite stays between the clear dates.
    """
    scenes, clear = slovenia
    pixels = made_of(*frozen(tmp_path, scenes, clear, [0, 1, 2, 3, 4]))
    assert np.array_equal(pixels[:6], nanmedian(scenes, clear))
    assert np.array_equal(pixels[6], clear.sum(axis=0))
    sky = np.median(scenes[2:], axis=0)
    hidden = ~clear[:2].any(axis=0)
    assert hidden.mean() > 0.9
    assert np.array_equal(pixels[:6, hidden], sky[:, hidden])
    lowest, highest = scenes[2:].min(axis=0), scenes[2:].max(axis=0)
    assert (lowest <= pixels[:6]).all()
    assert (pixels[:6] <= highest).all()
    assert (
        np.median(np.abs(scenes[:2] - sky), axis=(2, 3))[:, 0] > 500
    ).all()  # blue, of the clouds


def test_a_cloudy_date_alone_shows_what_its_mask_calls_clear(
    slovenia: tuple[NDArray[np.uint16], NDArray[np.bool_]], tmp_path: Path
) -> None:
    """The part-cloudy date is itself where clear and nodata elsewhere; one all cloud is refused."""
    scenes, clear = slovenia
    (tmp_path / "part").mkdir()
    pixels = made_of(*frozen(tmp_path / "part", scenes, clear, [1]))
    assert np.array_equal(pixels[:6], np.where(clear[1], scenes[1], 0))
    (tmp_path / "all").mkdir()
    with pytest.raises(RasterError, match="clear view"):
        made_of(*frozen(tmp_path / "all", scenes, clear, [0]))
