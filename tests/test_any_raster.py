"""Any raster in: however pixels, nodata and place are stored, the map of the same pixels is the same."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from torch import nn

import pipeline.raster_files
from landcover.checkpoint_file import save_checkpoint
from landcover.errors import RasterError
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from pipeline.segment import segment
from tests.command import landcover
from tests.fault_server import FaultPlan, FaultServer, fault_server

BANDS = ("red", "green", "blue")
LEGEND = Legend(tuple(LandClass(c, f"class {c}", f"#{c:02x}8040") for c in (3, 1, 7, 200, 5)))
SPEC = ModelSpec(
    "tu-mobilenetv3_small_050", (16, 16, 8, 8, 8), BANDS, 1e-4, 0.0,
    (0.2, 0.3, 0.2), (0.1, 0.1, 0.1), LEGEND, 64, 12,
)  # fmt: skip
NORTH_UP = rasterio.transform.from_origin(5e5, 5.3e6, 10, 10)
ROTATED = Affine.translation(5e5, 5.3e6) * Affine.rotation(33) * Affine.scale(10, -12)
SOUTH_UP = Affine(10, 0, 5e5, 0, 10, 5.2e6)

Pixels = NDArray[np.generic]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net with random weights whose map is nevertheless varied."""
    torch.manual_seed(1)
    network = SPEC.build()
    nn.init.normal_(network.segmentation_head[0].weight, std=2)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_checkpoint(path, network, SPEC)
    return path


def scene(height: int = 90, width: int = 130) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Random patches (bands, rows, cols) of 500 to 5500, and where they are data (rows, cols)."""
    rng = np.random.default_rng(7)
    patches = rng.integers(500, 5000, (3, height // 8 + 1, width // 8 + 1))
    pixels = np.repeat(np.repeat(patches, 8, 1), 8, 2)[:, :height, :width]
    pixels = (pixels + rng.integers(0, 500, pixels.shape)).astype(np.uint16)
    valid = rng.random((height, width)) > 0.05
    valid[height // 3 : height // 2, width // 3 : width // 2] = False
    valid[0, 0] = True
    return pixels, valid


def save(path: Path, pixels: Pixels, names: tuple[str, ...] = BANDS, **options: object) -> Path:
    """Write bands x rows x columns in UTM 33."""
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": NORTH_UP} | options
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **profile
    ) as dataset:
        dataset.write(pixels)
        dataset.descriptions = names
    return path


def classes_of(image: Path | str, model: Path, folder: Path) -> NDArray[np.uint8]:
    """The map of an image."""
    segment(
        image=image, model=model, classes=folder / "classes.tif",
        confidence=folder / "confidence.tif", device="cpu", report=lambda _: None,
    )  # fmt: skip
    with rasterio.open(folder / "classes.tif") as dataset:
        found: NDArray[np.uint8] = dataset.read(1)
    return found


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """The map of the scene given as a plain GeoTIFF with nodata 0."""
    folder = tmp_path_factory.mktemp("plain")
    pixels, valid = scene()
    found = classes_of(save(folder / "image.tif", pixels * valid, nodata=0), model, folder)
    assert ((found > 0) == valid).all()
    assert len(np.unique(found)) > 3
    return found


def filled(value: float, dtype: str, **options: object) -> Callable[[Path], Path]:
    """The scene as other numbers, with a value where it has no data."""

    def write(folder: Path) -> Path:
        pixels, valid = scene()
        return save(
            folder / "image.tif", np.where(valid, pixels, np.dtype(dtype).type(value)), **options
        )

    return write


def masked(*, internal: bool) -> Callable[[Path], Path]:
    """The scene with a mask band inside, or in a .msk file beside it."""

    def write(folder: Path) -> Path:
        pixels, valid = scene()
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
            path = save(folder / "image.tif", pixels)
            with rasterio.open(path, "r+") as dataset:
                dataset.write_mask(valid)
        assert (folder / "image.tif.msk").exists() != internal
        return path

    return write


def alpha(folder: Path, **options: object) -> Path:
    """The scene with an alpha band."""
    pixels, valid = scene()
    four = np.concatenate([pixels, 65535 * valid[np.newaxis].astype(np.uint16)])
    path = save(folder / "image.tif", four, (*BANDS, ""), **options)
    with rasterio.open(path, "r+") as dataset:
        colors = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha
        dataset.colorinterp = colors
    return path


def alpha_and_nodata(folder: Path) -> Path:
    """The scene whose upper half tells its holes by nodata 0, and the lower by alpha."""
    path = alpha(folder, nodata=0)
    pixels, valid = scene()
    with rasterio.open(path, "r+") as dataset:
        said = np.concatenate([pixels, np.full((1, *valid.shape), 65535, np.uint16)])
        said[:3, :45] *= valid[:45]
        said[3, 45:] *= valid[45:]
        dataset.write(said)
    return path


def vrt(folder: Path, types: list[str], nodata: list[float]) -> Path:
    """One file per band, each of its own type and nodata value, under one VRT."""
    pixels, valid = scene()
    bands = []
    for number, (dtype, value) in enumerate(zip(types, nodata, strict=True), start=1):
        one = np.where(valid, pixels[number - 1], np.dtype(dtype).type(value))[np.newaxis]
        save(folder / f"{number}.tif", one, (BANDS[number - 1],))
        name = {"uint16": "UInt16", "int16": "Int16", "float32": "Float32"}[dtype]
        bands.append(
            f'<VRTRasterBand dataType="{name}" band="{number}"><Description>{BANDS[number - 1]}'
            f"</Description><NoDataValue>{value}</NoDataValue><SimpleSource>"
            f'<SourceFilename relativeToVRT="1">{number}.tif</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        )
    path = folder / "image.vrt"
    height, width = valid.shape
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>5e5,10,0,5.3e6,0,-10</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path


def copied(driver: str, ending: str, **options: object) -> Callable[[Path], Path]:
    """The scene, 0 where it has no data, as another driver of GDAL writes it."""

    def write(folder: Path) -> Path:
        pixels, valid = scene()
        plain = save(folder / "plain.tif", pixels * valid)
        rasterio.shutil.copy(plain, folder / f"image{ending}", driver=driver, **options)
        plain.unlink()
        return folder / f"image{ending}"

    return write


def nodata_values(folder: Path) -> Path:
    """A VRT that calls one combination of values no data, which each band alone may hold."""
    pixels, valid = scene()
    pixels = np.where(valid, pixels, np.array([1000, 2000, 3000], np.uint16)[:, None, None])
    save(folder / "plain.tif", pixels)
    path = folder / "image.vrt"
    rasterio.shutil.copy(folder / "plain.tif", path, driver="VRT")
    tag = '<Metadata><MDI key="NODATA_VALUES">1000 2000 3000</MDI></Metadata><VRTRasterBand'
    path.write_text(path.read_text().replace("<VRTRasterBand", tag, 1))
    return path


ENCODINGS: dict[str, Callable[[Path], Path]] = {
    "nothing said, zeros": filled(0, "uint16"),
    "tag 65535": filled(65535, "uint16", nodata=65535),
    "tag -32768": filled(-32768, "int16", nodata=-32768),
    "tag of 32 bits": filled(2**31 - 1, "int32", nodata=2**31 - 1),
    "NaN, tagged": filled(np.nan, "float32", nodata=np.nan),
    "NaN, not tagged": filled(np.nan, "float64"),
    "infinite": filled(np.inf, "float32"),
    "least float32": filled(np.finfo("float32").min, "float32", nodata=-3.4028234663852886e38),
    "no float32 number": filled(-0.1, "float32", nodata=-0.1),
    "mask inside": masked(internal=True),
    "mask beside": masked(internal=False),
    "alpha": alpha,
    "alpha and tag": alpha_and_nodata,
    "a value per band": lambda folder: vrt(folder, ["uint16"] * 3, [0, 65535, 7]),
    "a type per band": lambda folder: vrt(folder, ["uint16", "int16", "float32"], [0, -1, 1e30]),
    "combination": nodata_values,
}  # fmt: skip
LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "strips": filled(0, "uint16", blockysize=1),
    "one compressed strip": filled(0, "uint16", blockysize=90, compress="deflate"),
    "pixel-interleaved": filled(0, "uint16", blockysize=5, interleave="pixel", compress="lzw"),
    "small tiles": filled(0, "uint16", tiled=True, blockxsize=16, blockysize=16),
    "big-endian": filled(0, "uint16", ENDIANNESS="BIG", BIGTIFF="YES"),
    "sparse": filled(0, "uint16", tiled=True, blockxsize=16, blockysize=16, SPARSE_OK="TRUE"),
    "COG": copied("COG", ".tif", blocksize=128, predictor="yes", compress="zstd"),
    "VRT": lambda folder: vrt(folder, ["uint16"] * 3, [0, 0, 0]),
    "JPEG 2000": copied("JP2OpenJPEG", ".jp2", quality=100, reversible="yes"),
    "JPEG 2000 in tiles": copied(
        "JP2OpenJPEG", ".jp2", quality=100, reversible="yes", blockxsize=64, blockysize=64
    ),
    "ENVI": copied("ENVI", ".img"),
    "PNG": copied("PNG", ".png"),
}


@pytest.mark.parametrize("kind", [*ENCODINGS, *LAYOUTS])
def test_the_map_does_not_depend_on_how_pixels_are_stored(
    tmp_path: Path, model: Path, expected: NDArray[np.uint8], kind: str
) -> None:
    """Every encoding of nodata and every layout gives each pixel of the plain GeoTIFF's map."""
    path = (ENCODINGS | LAYOUTS)[kind](tmp_path)
    found = classes_of(path, model, tmp_path)
    assert ((found > 0) == (expected > 0)).all()
    assert (found == expected).all()


def test_a_nodata_value_that_no_pixel_can_hold_means_nothing(tmp_path: Path, model: Path) -> None:
    """-9999 in a file of whole numbers from 0 masks no pixel, as in GDAL; 241 is data."""
    pixels = np.full((3, 20, 30), 241, np.uint8)
    save(tmp_path / "plain.tif", pixels)
    rasterio.shutil.copy(tmp_path / "plain.tif", tmp_path / "image.vrt", driver="VRT")
    text = (tmp_path / "image.vrt").read_text()
    tag = "<NoDataValue>-9999</NoDataValue><SimpleSource"
    (tmp_path / "image.vrt").write_text(text.replace("<SimpleSource", tag))
    assert classes_of(tmp_path / "image.vrt", model, tmp_path).all()


@pytest.mark.parametrize(
    ("grid", "crs"),
    [
        (ROTATED, "EPSG:32633"),
        (SOUTH_UP, "EPSG:32633"),
        (Affine(-10, 0, 5e5, 0, -10, 5.3e6), "EPSG:32633"),
        (Affine(0, 10, 5e5, 10, 0, 5.2e6), "EPSG:32633"),
        (Affine(1e-4, 0, 15 + 1 / 3, 0, -7e-5, 48.1), "EPSG:4326"),
        (NORTH_UP, "+proj=laea +lat_0=47.123 +lon_0=13.7 +ellps=GRS80 +units=m"),
        (NORTH_UP, "ESRI:102003"),
    ],
)
def test_the_grid_is_kept_exactly(
    tmp_path: Path, model: Path, expected: NDArray[np.uint8], grid: Affine, crs: str
) -> None:
    """Rotated, south-up, mirrored, transposed, geographic or home-made: same numbers out, same pixels."""
    pixels, valid = scene()
    path = save(tmp_path / "image.tif", pixels * valid, nodata=0, transform=grid, crs=crs)
    assert (classes_of(path, model, tmp_path) == expected).all()
    with rasterio.open(path) as image:
        place = image.crs, image.transform, image.shape
        assert image.transform == grid
    for name in ("classes.tif", "confidence.tif"):
        with rasterio.open(tmp_path / name) as dataset:
            assert (dataset.crs, dataset.transform, dataset.shape) == place


STRIPS: dict[str, object] = {"blockysize": 1}
TILES: dict[str, object] = {"tiled": True, "compress": "deflate"}


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        *(
            ((rows, cols), how)
            for rows, cols in [(1, 1), (1, 300), (300, 1), (3, 65)]
            for how in (STRIPS, TILES)
        ),
        ((1, 100_000), STRIPS),
    ],
    ids=str,
)
def test_any_shape(
    tmp_path: Path, model: Path, shape: tuple[int, int], layout: dict[str, object]
) -> None:
    """From one pixel to 100,000 columns: nodata is the input's and every valid pixel has a class."""
    pixels, valid = scene(*shape)
    if shape[1] == 100_000:
        valid[:, 200:-200] = False  # tiles without data cost nothing
    path = save(tmp_path / "image.tif", pixels * valid, nodata=0, **layout)
    assert ((classes_of(path, model, tmp_path) > 0) == valid).all()


@pytest.mark.parametrize("scaling", ["tags", "reflectance", "reflectance with nodata"])
def test_the_files_own_scale_counts(
    tmp_path: Path, model: Path, expected: NDArray[np.uint8], scaling: str
) -> None:
    """Stored x 5e-5 - 0.1 by tags, or reflectance itself: the map is that of stored x 1e-4."""
    pixels, valid = scene()
    if scaling == "tags":
        path = save(tmp_path / "image.tif", (2 * pixels + 2000) * valid, nodata=0)
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (5e-5,) * 3, (-0.1,) * 3
    else:
        nodata = np.nan if scaling == "reflectance" else -9999.0
        real = np.where(valid, pixels * 1e-4, nodata).astype(np.float32)
        path = save(tmp_path / "image.tif", real, nodata=nodata)
    found = classes_of(path, model, tmp_path)
    assert ((found > 0) == valid).all()
    assert (found == expected).mean() > 0.999  # sums are rounded elsewhere


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A server of the test's folder."""
    with fault_server(tmp_path) as one:
        yield one


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr(pipeline.raster_files, "_pause_after", lambda _: 0.01)


@pytest.mark.parametrize("kind", ["tag 65535", "COG", "JPEG 2000 in tiles", "one compressed strip"])
def test_an_image_on_a_server_gives_the_same_map(
    tmp_path: Path, model: Path, expected: NDArray[np.uint8], server: FaultServer, kind: str
) -> None:
    """A GeoTIFF, a COG and a JPEG 2000 are read by windows over HTTP."""
    path = (ENCODINGS | LAYOUTS)[kind](tmp_path)
    assert (classes_of(f"{server.url}/{path.name}", model, tmp_path) == expected).all()


@pytest.mark.usefixtures("hasty")
def test_a_server_that_fails_changes_no_pixel(
    tmp_path: Path, model: Path, expected: NDArray[np.uint8], server: FaultServer
) -> None:
    """With half of the answers wrong, cut short or garbled, the map is the same."""
    path = LAYOUTS["COG"](tmp_path)
    kinds = ("503", "truncated", "garbled", "zeroed", "page")
    server.plan = FaultPlan(rate=0.5, kinds=kinds, seed=3)
    assert (classes_of(f"{server.url}/{path.name}", model, tmp_path) == expected).all()
    assert server.faults.total() > 0


@pytest.mark.usefixtures("hasty")
def test_a_server_that_dies_leaves_no_map(tmp_path: Path, model: Path, server: FaultServer) -> None:
    """What cannot be read is an error with neither the key nor the query in it, never nodata."""
    path = filled(0, "uint16", tiled=True, blockxsize=16, blockysize=16)(tmp_path)
    classes_of(f"{server.url}/{path.name}", model, tmp_path)
    total = server.asked.total()
    server.restart_counts()
    server.plan = FaultPlan(dies_after=total - 2)
    for name in ("classes.tif", "confidence.tif"):
        (tmp_path / name).unlink()
    with pytest.raises(RasterError, match=r"image.tif cannot be read") as error:
        classes_of(f"{server.url}/{path.name}?key=secret", model, tmp_path)
    assert "secret" not in str(error.value)
    assert not (tmp_path / "classes.tif").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://user:secret@example.com/a.vrt", "is a VRT"),
        ("s3://bucket/a.tif", "no address of an image"),
        ("file:///etc/passwd", "no address of an image"),
        ("/vsicurl/https://example.com/a.tif", "no address of an image"),
        ("/vsicurl/a.tif", "no such file"),
        ("https://example.com/a b.tif", "no address of an image"),
        ("http://", "no address of an image"),
        ("NETCDF:a.nc:band", "no such file"),
    ],
)
def test_addresses_that_are_refused(
    tmp_path: Path, model: Path, address: str, message: str
) -> None:
    """Only files and web addresses of images, and no key in the sentence."""
    with pytest.raises(RasterError, match=message) as error:
        classes_of(address, model, tmp_path)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def unplaced(path: Path, how: str) -> None:
    """Write an image without a grid."""
    pixels, _ = scene(20, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        save(
            path, pixels, transform=NORTH_UP if how == "CRS" else None,
            crs=None if how in {"CRS", "RPC", "nothing"} else "EPSG:4326",
        )  # fmt: skip
        with rasterio.open(path, "r+") as dataset:
            if how == "GCP":
                corners = [
                    (0, 0, 15, 48),
                    (0, 30, 15.1, 48),
                    (20, 0, 15, 47.9),
                    (20, 30, 15.1, 47.9),
                ]
                dataset.gcps = [GroundControlPoint(*c) for c in corners], "EPSG:4326"
            if how == "RPC":
                ramp = " ".join(["0", "1"] + ["0"] * 18)
                numbers = {
                    f"{a}_{b}": "1"
                    for a in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")
                    for b in ("OFF", "SCALE")
                }
                numbers |= {
                    f"{a}_{b}_COEFF": ramp for a in ("LINE", "SAMP") for b in ("NUM", "DEN")
                }
                dataset.update_tags(ns="RPC", **numbers)


@pytest.mark.parametrize(
    ("how", "message"),
    [("GCP", "control points"), ("RPC", "control points"), ("CRS", "no CRS"), ("nothing", "no CRS"), ("place", "no position")],
)  # fmt: skip
def test_images_without_a_grid_are_refused(
    tmp_path: Path, model: Path, how: str, message: str
) -> None:
    """Control points, polynomials, no CRS, no geotransform: one sentence that names the file."""
    unplaced(tmp_path / "image.tif", how)
    with pytest.raises(RasterError, match=message) as error:
        classes_of(tmp_path / "image.tif", model, tmp_path)
    assert "image.tif" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_vrt_whose_source_is_gone_is_an_error(tmp_path: Path, model: Path) -> None:
    """A missing source is never nodata."""
    path = vrt(tmp_path, ["uint16"] * 3, [0, 0, 0])
    (tmp_path / "2.tif").unlink()
    with pytest.raises(RasterError, match=r"image.vrt cannot be read in rows"):
        classes_of(path, model, tmp_path)


def with_three_bands(path: Path, folder: Path) -> Path:
    """A VRT of the first three bands (or the only one, three times) of a real file, alpha kept."""
    with rasterio.open(path) as dataset:
        count, shape, kind = dataset.count, dataset.shape, dataset.dtypes[0]
        crs, place, nodata = dataset.crs, dataset.transform, dataset.nodata
        colors = [color.name for color in dataset.colorinterp]
    name = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32", "int16": "Int16"}[kind]
    shared = f'<SourceFilename shared="0">{path}</SourceFilename>'
    bands = [
        *(min(n, count) for n in (1, 2, 3)),
        *(n for n in range(1, count + 1) if colors[n - 1] == "alpha"),
    ]
    parts = []
    for number, source in enumerate(bands, start=1):
        tags = (
            "<ColorInterp>Alpha</ColorInterp>"
            if number > 3
            else f"<Description>{BANDS[number - 1]}</Description>"
        )
        tags += "" if nodata is None or number > 3 else f"<NoDataValue>{nodata}</NoDataValue>"
        parts.append(
            f'<VRTRasterBand dataType="{name}" band="{number}">{tags}<SimpleSource>{shared}'
            f"<SourceBand>{source}</SourceBand></SimpleSource></VRTRasterBand>"
        )
    target = folder / "image.vrt"
    srs = crs.to_wkt() if crs else "EPSG:32633"
    target.write_text(
        f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}"><SRS>{escape(srs)}</SRS>'
        f"<GeoTransform>{', '.join(map(repr, place.to_gdal()))}</GeoTransform>{''.join(parts)}</VRTDataset>"
    )
    return target


@pytest.mark.parametrize(
    "name",
    [
        "drone_orthos/pix4d_alpha_nodata.tif",
        "drone_orthos/201404_13SED190110_201404_0x1500m_CL_1_alpha.tif",
        "drone_orthos/201404_13SED190110_201404_0x1500m_CL_1_nodata.tif",
        "tricky_files/geotiff_rasterio/rotated.tif",
        "tricky_files/geotiff_rasterio/RGB.byte.tif",
        "tricky_files/geotiff_rasterio/all-nodata.tif",
        "tricky_files/geotiff_rasterio/float_raster_with_nodata.tif",
        "tricky_files/geotiff_rio_tiler/inverted_lat.tif",
        "tricky_files/geotiff_rio_tiler/lowres.tif",
        "tricky_files/geotiff_rio_cogeo/image_51px.tif",
    ],
)
def test_real_files_keep_their_grid_and_nodata(
    shared_data: Path, tmp_path: Path, model: Path, name: str
) -> None:
    """Drone images with alpha, rotated, south-up, tiny, empty: validity is GDAL's, the grid the file's."""
    path = with_three_bands(shared_data / name, tmp_path)
    found = classes_of(path, model, tmp_path)
    with rasterio.open(path) as image, rasterio.open(tmp_path / "classes.tif") as dataset:
        assert (dataset.crs, dataset.transform, dataset.shape) == (
            image.crs, image.transform, image.shape,
        )  # fmt: skip
        values, said = image.read([1, 2, 3]), image.read_masks([1, 2, 3]) > 0
        says_nothing = image.nodata is None and ColorInterp.alpha not in image.colorinterp
    expected = said.all(0) & np.isfinite(values).all(0)
    if says_nothing:
        expected &= (values != 0).any(0)
    assert ((found > 0) == expected).all()


def test_fill_without_a_tag_can_be_declared(shared_data: Path, tmp_path: Path, model: Path) -> None:
    """The Beaufort scene is filled with 255 and does not say so; a VRT that says it masks the fill."""
    folder = shared_data / "sentinel2_scene_beaufort"
    files = [next(folder.rglob(f"*B0{n}*.tif*")) for n in (4, 3, 2)]
    with rasterio.open(files[0]) as dataset:
        window = rasterio.windows.Window(0, 0, 500, 400)
        profile = {"crs": dataset.crs, "transform": dataset.transform}
    bands = []
    for path in files:
        with rasterio.open(path) as dataset:
            bands.append(dataset.read(1, window=window))
    pixels = np.stack(bands)
    fill = (pixels == 255).any(0)
    assert 0.05 < fill.mean() < 0.95
    path = save(tmp_path / "image.tif", pixels, nodata=255, **profile)
    assert ((classes_of(path, model, tmp_path) == 0) == fill).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("geotiff_rasterio/white-gemini-iv.vrt", "control points"),
        ("geotiff_rasterio/389225main_sw_1965_1024.jpg", "no CRS"),
        ("geotiff_rasterio/no_band.h5", "no bands"),
        ("geotiff_rasterio/corrupt.tif", "cannot be read in rows"),
        ("geotiff_rasterio/issue1446.geojson", "cannot be opened"),
    ],
)
def test_real_files_that_cannot_be_mapped(
    shared_data: Path, tmp_path: Path, model: Path, name: str, message: str
) -> None:
    """One sentence for control points, a photo, a container, a damaged file and a vector file."""
    with pytest.raises(RasterError, match=message) as error:
        classes_of(shared_data / "tricky_files" / name, model, tmp_path)
    assert Path(name).name in str(error.value)
    assert "\n" not in str(error.value)


def test_confidence_lies_beside_the_classes(tmp_path: Path, model: Path) -> None:
    """Two maps made in one folder keep a confidence raster each; the folder one stands in stays as it is."""
    image, maps, here = (
        save(tmp_path / "image.tif", scene()[0]),
        tmp_path / "maps",
        tmp_path / "here",
    )
    maps.mkdir()
    here.mkdir()
    for name in ("a.tif", "classes.tif"):
        result = landcover("segment", image, "--model", model, "-o", maps / name, cwd=here)
        assert result.returncode == 0, result.stderr
    found = sorted(path.name for path in maps.iterdir() if path.suffix == ".tif")
    assert found == ["a.tif", "a_confidence.tif", "classes.tif", "confidence.tif"]
    assert not list(here.iterdir())
