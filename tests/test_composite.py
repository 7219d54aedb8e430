"""Scenes of a period become one image on the region's grid."""

import json
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
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from landcover.errors import CatalogError, RasterError
from pipeline.composite import composite

GRID = GeoBox.from_bbox((500_000, 5_300_000, 501_000, 5_300_800), "EPSG:32633", resolution=10)
FOOTPRINT: BaseGeometry = GRID.extent.to_crs("EPSG:4326").geom
FAR = FOOTPRINT.buffer(0.01)


def save(path: Path, pixels: NDArray[Any], grid: GeoBox, **options: Any) -> Path:
    """Write bands x rows x columns."""
    with rasterio.open(
        path, "w", driver="GTiff", count=pixels.shape[0], height=pixels.shape[1], width=pixels.shape[2],
        dtype=pixels.dtype, crs=str(grid.crs), transform=grid.transform, **options,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


def scene(
    folder: Path, name: str, red: NDArray[Any] | int, *, baseline: str | None = None,
    scl: NDArray[Any] | None = None, day: str = "2024-06-01", grid: GeoBox = GRID,
) -> dict[str, Any]:  # fmt: skip
    """A STAC item of one red band, and a scene classification at 20 m if given."""
    image = np.broadcast_to(np.asarray(red, np.uint16), grid.shape)
    assets = {"red": {"href": str(save(folder / f"{name}_B04.tif", image[None], grid))}}
    if scl is not None:
        assets["scl"] = {
            "href": str(
                save(folder / f"{name}_SCL.tif", scl.astype(np.uint8)[None], grid.zoom_out(2))
            )
        }
    properties = {"datetime": f"{day}T10:00:00Z"} | (
        {"s2:processing_baseline": baseline} if baseline else {}
    )
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": mapping(FOOTPRINT),
        "bbox": list(FOOTPRINT.bounds), "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip


def run(
    folder: Path, *scenes: dict[str, Any], footprint: BaseGeometry = FAR, **options: Any
) -> tuple[dict[str, Any], NDArray[Any]]:
    """Composite scenes; return the details and the bands (red, observations)."""
    items = folder / "items.json"
    items.write_text(json.dumps({"type": "FeatureCollection", "features": scenes}))
    details = composite(
        items=items, grid=options.pop("grid", GRID), footprint=footprint, bands=("red",),
        output=folder / "composite.tif", report=lambda _: None,
    )  # fmt: skip
    with rasterio.open(folder / "composite.tif") as dataset:
        assert dataset.descriptions == ("red", "observations")
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
    details, image = run(tmp_path, one, two)
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
    with pytest.raises(RasterError, match=r"Scene poor has no band red \(it has nir\)"):
        run(tmp_path, poor)


def test_no_clear_view_at_all_is_an_error(tmp_path: Path) -> None:
    """When every pixel is cloud, the run stops and says so instead of mapping nothing."""
    with pytest.raises(RasterError, match="None of the 1 scenes has a clear view"):
        run(tmp_path, scene(tmp_path, "a", 500, scl=np.full((40, 50), 8)))
    assert not (tmp_path / "composite.tif").exists()


def test_a_remote_description_of_other_files_is_refused(tmp_path: Path) -> None:
    """A remote file that is a VRT, whatever its name, could name local files: it is not opened."""
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


def test_a_region_smaller_than_a_pixel(tmp_path: Path) -> None:
    """A footprint without a pixel centre is told as that, not as clouds."""
    x, y = GRID.extent.to_crs("EPSG:4326").geom.centroid.coords[0]
    with pytest.raises(RasterError, match="No pixel has its centre inside"):
        run(tmp_path, scene(tmp_path, "a", 5), footprint=box(x, y, x + 1e-6, y + 1e-6))


def test_an_empty_scene_list(tmp_path: Path) -> None:
    """A list without a scene is told as that."""
    with pytest.raises(CatalogError, match=r"items\.json holds no scene"):
        run(tmp_path)
