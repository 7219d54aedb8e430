"""Image files: what they say of themselves, and which are refused before they do harm."""

import math
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely.geometry import box

from landcover.antimeridian import split_at_antimeridian
from landcover.errors import RasterError
from pipeline.image_file import DRIVERS, envi_images, outline, read_image

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
UTM = from_origin(500_000, 5_000_000, 10, 10)


def write(path: Path, shape: tuple[int, int, int] = (3, 40, 50), **profile: Any) -> Path:
    """A GeoTIFF of random numbers, UTM zone 33 unless told otherwise; shape is bands, rows, cols."""
    settings = {
        "driver": "GTiff",
        "dtype": "uint16",
        "crs": "EPSG:32633",
        "transform": UTM,
    } | profile
    pixels = np.random.default_rng(1).integers(1, 200, shape).astype(settings["dtype"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", count=shape[0], height=shape[1], width=shape[2], **settings
    ) as dataset:
        dataset.write(pixels)
    return path


def test_an_image_says_what_it_is(tmp_path: Path):
    """Size, grid, bands, scale and tags come out as they were put in."""
    path = write(tmp_path / "a.tif", nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.set_band_description(1, "blue")
        dataset.scales, dataset.offsets = (1e-4, 1e-4, 1), (-0.1, -0.1, 0)
        dataset.update_tags(PROCESSING_BASELINE="04.00")
    image = read_image(path, is_band=False)
    assert image is not None
    assert (image.shape, image.transform, image.crs_code) == ((40, 50), UTM, "EPSG:32633")
    assert image.gsd == 10
    assert image.size == path.stat().st_size
    assert image.tags["PROCESSING_BASELINE"] == "04.00"
    first, _, third = image.bands
    assert (first.description, first.dtype, first.nodata) == ("blue", "uint16", 0)
    assert (first.scale, first.offset, third.scale, third.offset) == (1e-4, -0.1, None, 0)


def test_a_lonlat_grid_is_its_own_outline():
    """In EPSG:4326 the footprint is the plain rectangle, south-up or not."""
    expected = box(10, 40, 12, 41)
    for transform in (from_origin(10, 41, 0.1, 0.1), Affine(0.1, 0, 10, 0, 0.1, 40)):
        found = outline(CRS.from_epsg(4326), transform, (10, 20))
        assert found.normalize().equals_exact(expected.normalize(), 1e-9)


def test_a_projected_outline_follows_its_curve():
    """A UTM tile's edges bend in longitude and latitude: the outline has points along them."""
    found = outline(CRS.from_epsg(32633), from_origin(300_000, 8_000_000, 100, 100), (1098, 1098))
    assert len(found.exterior.coords) == 81
    chord = box(*found.bounds)
    assert found.is_valid
    assert 0.8 * chord.area < found.area < chord.area


def test_an_outline_over_the_antimeridian_is_split():
    """A tile of zone 60 that reaches past 180 degrees has a part on each side, of the right size."""
    found = outline(CRS.from_epsg(32660), from_origin(750_000, 100_000, 100, 100), (1000, 2000))
    west, east = sorted(found.geoms, key=lambda part: part.bounds[0])
    assert found.geom_type == "MultiPolygon"
    assert (west.bounds[0], east.bounds[2]) == (-180, 180)
    assert math.isclose(west.bounds[2] - -180 + 180 - east.bounds[0], 1.797, abs_tol=0.002)


@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        ("EPSG:3413", from_origin(-1e5, 1e5, 1000, 1000), "pole"),
        ("+proj=geos +h=35785831 +lon_0=0", from_origin(-5.4e6, 5.4e6, 54_000, 54_000), "off the Earth"),
        ("+proj=longlat +R=3396190 +no_defs", from_origin(0, 1, 0.01, 0.01), "not one of the Earth"),
        ("EPSG:4326", from_origin(0, 4_000_000, 10, 10), "off the Earth"),
        ("EPSG:4326", from_origin(-200, 10, 4, 0.1), "no area"),
    ],
)  # fmt: skip
def test_an_outline_that_would_be_nonsense_is_refused(crs: str, transform: Affine, words: str):
    """Poles, the limb of the disk, other planets and metres in a degree CRS are refused."""
    with pytest.raises(ValueError, match=words):
        outline(CRS.from_string(crs), transform, (200, 200))


@pytest.mark.parametrize(
    ("west", "east", "south", "north"),
    [(-100, 100, 0, 40), (-20, 165, 0, 45), (-180, 180, -20, 20), (-100, 100, -30, 60)],
)
def test_a_wide_image_lies_where_it_is(west: int, east: int, south: int, north: int):
    """Sides of more than half the Earth have points between, so that nobody reads them the other way."""
    grid = from_origin(west, north, (east - west) / 100, (north - south) / 100)
    found = outline(CRS.from_epsg(4326), grid, (100, 100))
    assert found.equals(box(west, south, east, north))
    assert split_at_antimeridian(found) is found


def test_longitudes_from_0_to_360_are_read_as_they_are():
    """A belt around the Earth that begins at Greenwich is the whole belt."""
    found = outline(CRS.from_epsg(4326), from_origin(0, 20, 3.6, 0.4), (100, 100))
    assert found.equals(box(-180, -20, 180, 20))
    assert split_at_antimeridian(found).equals(found)


def test_the_whole_world_is_one_rectangle():
    """A global grid stays one polygon, and its pixels have a size."""
    found = outline(CRS.from_epsg(4326), from_origin(-180, 90, 1, 1), (180, 360))
    assert found.equals(box(-180, -90, 180, 90))


def test_ground_size_is_true_in_degrees_and_web_mercator(tmp_path: Path):
    """At 60 N a pixel of 0.001 degrees is about 79 m, one of 100 m in EPSG:3857 about 50 m."""
    degrees = write(tmp_path / "d.tif", crs="EPSG:4326", transform=from_origin(10, 60, 1e-3, 1e-3))
    mercator = write(tmp_path / "m.tif", crs="EPSG:3857", transform=from_origin(0, 8.4e6, 100, 100))
    sizes = [image.gsd for p in (degrees, mercator) if (image := read_image(p, is_band=False))]
    assert sizes == pytest.approx([math.sqrt(111.4 * 55.8), 50], rel=5e-3)


@pytest.mark.parametrize(
    ("shape", "is_band", "profile", "outcome"),
    [
        ((1, 9, 9), False, {"crs": None, "transform": Affine.identity()}, None),
        ((1, 9, 9), True, {"crs": None, "transform": Affine.identity()}, "no coordinate reference"),
        (
            (3, 9, 9),
            False,
            {"crs": None, "transform": Affine.identity()},
            "no coordinate reference",
        ),
        ((1, 9, 9), False, {"crs": None}, "no coordinate reference"),
        ((3, 9, 9), False, {"transform": Affine.identity()}, "no usable geotransform"),
    ],
)
def test_what_claims_to_be_imagery_must_be_placed(
    tmp_path: Path,
    shape: tuple[int, int, int],
    is_band: bool,
    profile: dict[str, Any],
    outcome: str | None,
):
    """A nameless single-band picture is passed over; anything more without a place is refused."""
    path = write(tmp_path / "a.tif", shape, **profile)
    if outcome is None:
        assert read_image(path, is_band=is_band) is None
    else:
        with pytest.raises(RasterError, match=f"a.tif has .*{outcome}"):
            read_image(path, is_band=is_band)


def test_control_points_alone_are_refused(tmp_path: Path):
    """An image placed by ground control points is sent to gdalwarp."""
    path = write(tmp_path / "a.tif", crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as dataset:
        corners = [(0, 0), (0, 50), (40, 0), (40, 50)]
        points = [
            GroundControlPoint(row, col, 10 + col / 100, 50 - row / 100) for row, col in corners
        ]
        dataset.gcps = (points, CRS.from_epsg(4326))
    with pytest.raises(RasterError, match="gdalwarp"):
        read_image(path, is_band=False)


def test_an_orthophoto_may_keep_its_polynomials(tmp_path: Path):
    """What has a CRS and a geotransform is placed, whatever RPCs it was made with."""
    path = write(tmp_path / "a.tif")
    placed = read_image(path, is_band=False)
    with rasterio.open(path, "r+") as dataset:
        ones = " ".join(["1"] * 20)
        names = (
            f"{a}_{b}" for a in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT") for b in ("OFF", "SCALE")
        )
        polynomials = (f"{a}_{b}_COEFF" for a in ("LINE", "SAMP") for b in ("NUM", "DEN"))
        dataset.update_tags(
            ns="RPC", **dict.fromkeys(names, "1"), **dict.fromkeys(polynomials, ones)
        )
    with rasterio.open(path) as dataset:
        assert dataset.rpcs
    found = read_image(path, is_band=False)
    assert placed
    assert found
    assert found.footprint == placed.footprint


@pytest.mark.parametrize("kept", [0, 7, 200, 0.5, 0.9, -9])
@pytest.mark.parametrize(
    "profile",
    [
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band"},
        {"compress": "deflate", "interleave": "pixel"},
        {"driver": "COG"},
    ],
)
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: float, profile: dict[str, Any]):
    """Whether cut in the header, in the middle or by its last bytes, the file is named as damaged."""
    path = write(tmp_path / "a.tif", (3, 300, 300), **profile)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(RasterError, match=r"a\.tif .*(damaged or incomplete|cut short)"):
        read_image(path, is_band=False)


def test_damaged_pixels_are_refused(tmp_path: Path):
    """A file whose length is right but whose first block is rubbish is refused."""
    path = write(tmp_path / "a.tif", (1, 300, 300), compress="deflate")
    with rasterio.open(path) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(RasterError, match="damaged or incomplete"):
        read_image(path, is_band=False)


def test_a_sparse_file_is_whole(tmp_path: Path):
    """Blocks that were never written are no damage."""
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=600, height=600, count=1, dtype="uint8",
                       crs="EPSG:32633", transform=UTM, sparse_ok=True, tiled=True):  # fmt: skip
        pass
    assert read_image(path, is_band=False) is not None


def test_a_vrt_in_disguise_is_not_opened(tmp_path: Path):
    """A text that names other files does not become an image by its ending."""
    target = write(tmp_path / "secret.tif")
    vrt = tmp_path / "a.tif"
    vrt.write_text(
        f'<VRTDataset rasterXSize="50" rasterYSize="40"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{target}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(RasterError, match="cannot be read"):
        read_image(vrt, is_band=False)


@pytest.mark.parametrize("lost", [0, 1, 4000])
def test_an_envi_image_must_be_as_long_as_its_header_says(tmp_path: Path, lost: int):
    """Raw numbers are read by the header beside them; a file that lacks a byte is named."""
    path = write(tmp_path / "a", driver="ENVI")
    assert envi_images(tmp_path, [p.name for p in tmp_path.iterdir()]) == ["a"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size - lost])
    if not lost:
        image = read_image(path, is_band=False)
        assert image is not None
        assert (image.shape, image.crs_code, len(image.bands)) == ((40, 50), "EPSG:32633", 3)
    else:
        with pytest.raises(RasterError, match=r"a (is cut short|cannot be read)"):
            read_image(path, is_band=False)


def test_envi_headers_are_told_from_others(tmp_path: Path):
    """Names in either case, a header after the whole name; other headers and GeoTIFFs are none of it."""
    for name, text in {
        "A.HDR": "ENVI\n",
        "b.img.hdr": "ENVI",
        "c.hdr": "NROWS 3",
        "d.hdr": "ENVI",
    }.items():
        (tmp_path / name).write_text(text)
    names = ["A", "A.HDR", "b.img", "b.img.hdr", "c", "c.hdr", "d.tif", "d.hdr", "e"]
    assert envi_images(tmp_path, names) == ["A", "b.img"]


def test_the_real_envi_pair(shared_data: Path):
    """Landsat images as ENVI left them, their wavelengths in the header."""
    folder = shared_data / "landsat_change_taizhou"
    assert envi_images(folder, [p.name for p in folder.iterdir()]) == ["2000TM", "2003TM"]
    image = read_image(folder / "2000TM", is_band=False)
    assert image is not None
    assert (image.shape, image.crs.is_projected, image.gsd) == ((400, 400), True, 30)
    assert [band.wavelength for band in image.bands] == pytest.approx(
        [0.482, 0.565, 0.66, 0.825, 1.65, 2.22], abs=1e-3
    )


def test_an_image_in_one_huge_block_is_refused(tmp_path: Path):
    """A header that would have us hold 800 MB to read a pixel is refused."""
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=20_000, height=20_000, count=1, dtype="uint16",
                       crs="EPSG:32633", transform=UTM, sparse_ok=True, blockysize=20_000, compress="deflate"):  # fmt: skip
        pass
    with pytest.raises(RasterError, match="blocks of 763 MB"):
        read_image(path, is_band=False)


def test_tricky_real_files_are_read_or_refused_quickly(shared_data: Path):
    """None of 58 odd, broken and hostile files hangs, crashes or eats memory."""
    paths = [p for p in (shared_data / "tricky_files").rglob("*") if p.suffix.lower() in DRIVERS]
    outcomes = {"read": 0, "passed over": 0, "refused": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in paths:
        started = time.perf_counter()
        try:
            image = read_image(path, is_band=False)
            outcomes["read" if image else "passed over"] += 1
        except RasterError as error:
            assert path.name in str(error)  # noqa: PT017 - all three outcomes are counted
            outcomes["refused"] += 1
        assert time.perf_counter() - started < 5
    assert outcomes == {"read": 23, "passed over": 7, "refused": 28}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
