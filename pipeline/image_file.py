"""What a raster file says of itself, read and tested before it may become a scene."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import CRSError
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from shapely.affinity import translate
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry

from landcover.errors import RasterError
from pipeline.items import one_line

DRIVERS = {
    ".tif": "GTiff", ".tiff": "GTiff", ".gtif": "GTiff", ".gtiff": "GTiff", ".jp2": "JP2OpenJPEG",
}  # fmt: skip
"""GDAL driver by file name ending: no other may open a file, as a VRT in disguise names any file."""

ENVI = "ENVI"
"""GDAL driver of raw numbers with a header beside them, whose names have any ending or none."""
_ENVI_ENDINGS = ("", ".img", ".dat", ".bin", ".raw", ".bsq", ".bil", ".bip", ".envi")

_LARGEST_BLOCK = 512 * 2**20  # bytes that reading one pixel may cost
_EDGE_POINTS = 21  # straight lines of a projection are curves in longitude and latitude
_LONGEST_SIDE = 180  # degrees; who reads a longer one takes it to go the other way round the Earth
_EARTH_RADIUS = (6.3e6, 6.4e6)


@dataclass(frozen=True)
class BandFacts:
    """One band as the file describes it."""

    description: str | None
    colorinterp: str
    """GDAL's colour interpretation: gray, red, alpha, undefined ..."""
    dtype: str
    nodata: float | None
    scale: float | None
    """None where the file says nothing, 0, or 1 and 0, which is what writers put by default."""
    offset: float
    """Physical value = stored value x scale + offset."""
    wavelength: float | None
    """Central wavelength, micrometres, where the file says it."""


@dataclass(frozen=True)
class ImageFile:
    """An image that can be read and has a place on the Earth."""

    path: Path
    size: int
    """Bytes on disk."""
    crs: CRS
    shape: tuple[int, int]
    """Rows, columns."""
    transform: Affine
    footprint: BaseGeometry
    """Outline of the grid in EPSG:4326, split where it crosses the antimeridian."""
    gsd: float
    """Ground size of the middle pixel, metres: the side of a square of its area; three digits."""
    bands: tuple[BandFacts, ...]
    tags: Mapping[str, str]

    @property
    def crs_code(self) -> str | None:
        """Authority and code of the CRS, as EPSG:32633; None where it has none."""
        authority = self.crs.to_authority()
        return ":".join(authority) if authority else None


def read_image(path: Path, *, is_band: bool) -> ImageFile | None:
    """Read an image's header and test that its pixels can be read: GeoTIFF, JPEG 2000 or ENVI.

    is_band: the name says that it is a band of a scene. Returns None for a picture that does not
    claim to be imagery: one band, no band name, no CRS, no geotransform.
    Raises RasterError naming the file where it is damaged, cut short, or not placed on the Earth.
    """
    try:
        # One thread, in an environment: GDAL's errors in threads of its own get lost.
        with (
            rasterio.Env(GDAL_NUM_THREADS="1"),
            rasterio.open(path, driver=DRIVERS.get(path.suffix.lower(), ENVI)) as dataset,
        ):
            if not is_band and dataset.count == 1 and not _is_placed(dataset):
                return None
            _check_place(dataset, path)
            _check_pixels(dataset, path)
            return _facts(dataset, path)
    except (RasterioError, OSError, ValueError, IndexError) as error:
        raise RasterError(
            f"{path} cannot be read ({one_line(error.__cause__ or error)}); it is damaged or incomplete: "
            "fetch it again."
        ) from error


def envi_images(folder: Path, names: Iterable[str]) -> list[str]:
    """Names of the files in a folder that are ENVI images by the header beside them.

    names: of the files in the folder. The header of `2000TM` or `2000TM.img` is `2000TM.hdr`, that
    of `a.img` may also be `a.img.hdr`, in upper or lower case.
    """
    by_name = {name.lower(): name for name in names}
    found = set()
    for low, name in by_name.items():
        if low.endswith(".hdr") and _is_envi_header(folder / name):
            wanted = (low.removesuffix(".hdr") + ending for ending in _ENVI_ENDINGS)
            found |= {by_name[data] for data in wanted if data in by_name}
    return sorted(name for name in found if Path(name).suffix.lower() not in DRIVERS)


def _is_envi_header(path: Path) -> bool:
    if not path.is_file():  # a pipe would never answer
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"ENVI"
    except OSError:
        return False


def outline(crs: CRS, transform: Affine, shape: tuple[int, int]) -> BaseGeometry:
    """Outline of a grid in EPSG:4326: a polygon, or two where it crosses the antimeridian.

    shape: rows, columns. Raises ValueError where the grid is not on the Earth, or holds a pole.
    """
    try:
        source = pyproj.CRS.from_wkt(crs.to_wkt())
        ellipsoid = source.ellipsoid
    except CRSError as error:
        raise ValueError(f"its CRS is not understood ({one_line(error)})") from error
    if ellipsoid is None or not _EARTH_RADIUS[0] < ellipsoid.semi_major_metre < _EARTH_RADIUS[1]:
        raise ValueError("its CRS is not one of the Earth")
    x, y = _rim(transform, shape, 2)
    if not source.is_geographic or np.abs(np.diff(x)).max() > _LONGEST_SIDE:
        x, y = _rim(transform, shape, _EDGE_POINTS)
    lon, lat = pyproj.Transformer.from_crs(source, "EPSG:4326", always_xy=True).transform(x, y)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all() and np.abs(lat).max() < 90 + 1e-6):
        raise ValueError("part of it lies off the Earth; cut it or reproject it")
    if not source.is_geographic:
        lon = np.unwrap(lon, period=360)
    return _on_globe(lon, np.clip(lat, -90, 90))


def _rim(
    transform: Affine, shape: tuple[int, int], points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates along a grid's border, closed."""
    along = np.linspace(0, 1, points)[:-1]
    zero, one = np.zeros_like(along), np.ones_like(along)
    u = np.concatenate([zero, along, one, 1 - along, [0]]) * shape[1]
    v = np.concatenate([along, one, 1 - along, zero, [0]]) * shape[0]
    return (
        transform.a * u + transform.b * v + transform.c,
        transform.d * u + transform.e * v + transform.f,
    )


def _on_globe(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> BaseGeometry:
    """Polygon of continuous longitudes, cut into the range -180 to 180."""
    if abs(lon[-1] - lon[0]) > 180:
        raise ValueError("it holds a pole, which a footprint in longitude and latitude cannot show")
    ring = Polygon(np.column_stack([lon, lat]))
    if np.ptp(lon) > 360 + 1e-6 or not ring.is_valid or ring.area == 0:
        raise ValueError("its outline is no area in longitude and latitude; check its CRS")
    if lon.min() < -180 or lon.max() > 180:
        turns = [
            translate(ring, 360 * turn).intersection(box(-180, -90, 180, 90)) for turn in (-1, 0, 1)
        ]
        ring = shapely.union_all([part for part in turns if part.area > 0])
    return shapely.orient_polygons(ring)


def _is_placed(dataset: DatasetReader) -> bool:
    return bool(dataset.crs or dataset.gcps[0] or dataset.rpcs) or not dataset.transform.is_identity


def _check_place(dataset: DatasetReader, path: Path) -> None:
    unplaced = dataset.transform.is_identity
    if unplaced and (dataset.gcps[0] or dataset.rpcs):
        raise RasterError(
            f"{path} is placed by control points only; resample it to a grid first, as with "
            "`gdalwarp -t_srs EPSG:32633 IN OUT`."
        )
    if dataset.crs is None:
        raise RasterError(
            f"{path} has no coordinate reference system (CRS), so its place on the Earth is not known; "
            "write it into the file, as with `gdal_edit.py -a_srs EPSG:32633 FILE`."
        )
    if unplaced or dataset.transform.determinant == 0:
        raise RasterError(
            f"{path} has a CRS but no usable geotransform, so its place on the Earth is not known; "
            "write its corner and pixel size into the file."
        )


def _check_pixels(dataset: DatasetReader, path: Path) -> None:
    """Read the first and the last block of every band, and see that no block lies past the end."""
    rows, cols = dataset.block_shapes[0]
    cost = rows * cols * dataset.count * max(np.dtype(t).itemsize for t in dataset.dtypes)
    if cost > _LARGEST_BLOCK:
        raise RasterError(
            f"{path} is stored in blocks of {cost / 2**20:,.0f} MB, too large to read in parts; rewrite "
            "it as with `gdal_translate -of COG IN OUT`."
        )
    last = (dataset.height - 1) // rows * rows, (dataset.width - 1) // cols * cols
    for row, col in {(0, 0), last}:
        size = min(cols, dataset.width - col), min(rows, dataset.height - row)
        dataset.read(window=Window(col, row, *size))
    if (end := _last_byte(dataset)) > path.stat().st_size:
        raise RasterError(
            f"{path} is cut short: it has {path.stat().st_size:,} bytes of at least {end:,}; fetch it again."
        )


def _last_byte(dataset: DatasetReader) -> int:
    """Where the furthest block of a GeoTIFF ends, by its own index; 0 where the format does not say."""
    if dataset.driver == ENVI:
        return _envi_bytes(dataset)
    rows, cols = dataset.block_shapes[0]
    down, across = math.ceil(dataset.height / rows), math.ceil(dataset.width / cols)
    end = 0
    for band in dataset.indexes if dataset.driver == "GTiff" else ():
        for block in (f"{col}_{row}" for row in range(down) for col in range(across)):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{block}", "TIFF", bidx=band)
            size = dataset.get_tag_item(f"BLOCK_SIZE_{block}", "TIFF", bidx=band)
            end = max(end, int(offset or 0) + int(size or 0))
    return end


def _envi_bytes(dataset: DatasetReader) -> int:
    """Bytes that an ENVI header promises; 0 for compressed numbers."""
    header = dataset.tags(ns=ENVI)
    if int(header.get("file_compression", 0)):
        return 0
    numbers = dataset.height * dataset.width * dataset.count
    bytes_each = np.dtype(dataset.dtypes[0]).itemsize
    return int(header.get("header_offset", 0)) + int(numbers * bytes_each)


def _facts(dataset: DatasetReader, path: Path) -> ImageFile:
    try:
        footprint = outline(dataset.crs, dataset.transform, dataset.shape)
    except ValueError as error:
        raise RasterError(f"{path} cannot be placed on the Earth: {error}.") from error
    return ImageFile(
        path=path,
        size=path.stat().st_size,
        crs=dataset.crs,
        shape=dataset.shape,
        transform=dataset.transform,
        footprint=footprint,
        gsd=_ground_size(dataset),
        bands=band_facts(dataset),
        tags={**dataset.tags(), **dataset.tags(ns="IMAGERY")},
    )


def _ground_size(dataset: DatasetReader) -> float:
    middle = dataset.transform * Affine.translation(dataset.width // 2, dataset.height // 2)
    pixel = outline(dataset.crs, middle, (1, 1))
    area, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(pixel)
    return float(f"{math.sqrt(abs(area)):.3g}")


def alpha_bands(dataset: DatasetReader) -> tuple[int, ...]:
    """Numbers of the bands that say where an open image has data, by colour or description: 0 is none."""
    described = ((text or "").strip().lower() for text in dataset.descriptions)
    colors = (color == ColorInterp.alpha for color in dataset.colorinterp)
    says = zip(dataset.indexes, described, colors, strict=True)
    return tuple(number for number, text, is_alpha in says if is_alpha or text == "alpha")


def stored_nodata(nodata: float | None, dtype: np.dtype[np.generic]) -> float | None:
    """A declared nodata value as a band stores it; None where no finite value of the band equals it."""
    if nodata is None or not math.isfinite(nodata):
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            stored = float(np.array(nodata).astype(dtype))  # -3.4e38 is another number in float32
        return stored if math.isfinite(stored) else None
    limits = np.iinfo(dtype.name)
    holds = nodata == int(nodata) and limits.min <= int(nodata) <= limits.max
    return nodata if holds else None


def band_facts(dataset: DatasetReader) -> tuple[BandFacts, ...]:
    """What an open image says of its bands, in their order."""
    return tuple(_band(dataset, index) for index in range(dataset.count))


def _band(dataset: DatasetReader, index: int) -> BandFacts:
    scale, offset = dataset.scales[index], dataset.offsets[index]
    says = (
        math.isfinite(scale) and math.isfinite(offset) and scale != 0 and (scale, offset) != (1, 0)
    )
    return BandFacts(
        description=dataset.descriptions[index],
        colorinterp=dataset.colorinterp[index].name,
        dtype=dataset.dtypes[index],
        nodata=dataset.nodatavals[index],
        scale=scale if says else None,
        offset=offset if says else 0.0,
        wavelength=_wavelength(dataset, index + 1),
    )


def _wavelength(dataset: DatasetReader, band: int) -> float | None:
    try:
        length = float(dataset.tags(band, ns="IMAGERY")["CENTRAL_WAVELENGTH_UM"])
    except (KeyError, ValueError):
        return None
    return length if math.isfinite(length) else None
