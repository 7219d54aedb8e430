"""Cloud-optimised GeoTIFFs, written row by row and renamed into place."""

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.windows import Window

from landcover.errors import LegendError, RasterError
from landcover.legend import Legend
from pipeline.artifacts import atomic_path

_BLOCK = 512


@dataclass(frozen=True)
class CogProfile:
    """What a raster of ours looks like, apart from its pixels. Nodata is always 0."""

    dtype: DTypeLike
    bands: Sequence[str]
    """Band descriptions, in order."""
    overviews: str = "average"
    """Resampling of the overviews: 'mode' for classes, 'average' for measurements."""
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Dataset metadata (TIFF tags)."""
    scales: Sequence[float] | None = None
    """Factor per band from stored value to physical unit."""
    units: Sequence[str] | None = None


class RasterWriter:
    """Takes the pixels of a raster: rows from the top to the bottom, or blocks at their place."""

    def __init__(self, dataset: DatasetWriter) -> None:
        self._dataset = dataset
        self._row = 0

    def write(self, block: NDArray[np.generic]) -> None:
        """Append full-width rows; block is (bands, rows, cols)."""
        rows = block.shape[1]
        self._dataset.write(block, window=Window(0, self._row, self._dataset.width, rows))
        self._row += rows

    def place(self, block: NDArray[np.generic], at: tuple[slice, slice]) -> None:
        """Write a block (bands, rows, cols) at its rows and columns."""
        self._dataset.write(block, window=Window.from_slices(*at))


@contextlib.contextmanager
def open_cog(
    path: Path, grid: GeoBox, profile: CogProfile, *, in_order: bool = True
) -> Iterator[RasterWriter]:
    """Write a COG at `path`: pixels go to a plain tiled file, which becomes the COG at the end.

    in_order: whether they come from the top to the bottom; blocks in another order cut through
    the plain file's tiles, which are therefore not compressed, so that each can be rewritten in place.
    Nothing appears at `path` unless the body succeeds. Raises RasterError where the disk fails.
    """
    rows, cols = grid.shape
    with atomic_path(path) as partial:
        plain = partial.with_name(partial.name + ".plain.tif")
        try:
            with rasterio.open(
                plain, "w", driver="GTiff", width=cols, height=rows, count=len(profile.bands),
                dtype=profile.dtype, crs=str(grid.crs), transform=grid.transform, nodata=0,
                tiled=True, blockxsize=_BLOCK, blockysize=_BLOCK, interleave="band", BIGTIFF="IF_SAFER",
                **({"compress": "zstd", "zstd_level": 1} if in_order else {}),
            ) as dataset:  # fmt: skip
                _describe(dataset, profile)
                yield RasterWriter(dataset)
            rasterio.shutil.copy(
                plain, partial, driver="COG", blocksize=_BLOCK, compress="zstd", level=1,
                predictor="no" if profile.colormap else "yes", bigtiff="if_safer",
                overview_resampling=profile.overviews, num_threads="all_cpus",
            )  # fmt: skip
            _check_whole(partial)
        except (rasterio.errors.RasterioError, CPLE_BaseError) as error:
            raise RasterError(f"{path} could not be written: {error}; is the disk full?") from error


def _check_whole(path: Path) -> None:
    """Read the last blocks back: GDAL does not report it when the disk fills up during a copy."""
    with rasterio.open(path) as dataset:
        row = (dataset.height - 1) // _BLOCK * _BLOCK
        dataset.read(window=Window(0, row, dataset.width, dataset.height - row))


def _describe(dataset: DatasetWriter, profile: CogProfile) -> None:
    for number, name in enumerate(profile.bands, start=1):
        dataset.set_band_description(number, name)
    if profile.colormap:
        dataset.write_colormap(1, profile.colormap)
        dataset.colorinterp = (ColorInterp.palette,)
    else:
        dataset.colorinterp = (ColorInterp.gray,) * len(profile.bands)
    if profile.scales:
        dataset.scales = tuple(profile.scales)
    if profile.units:
        dataset.units = tuple(profile.units)
    dataset.update_tags(AREA_OR_POINT="Area", **profile.tags)


def read_legend(dataset: DatasetReader) -> Legend:
    """Legend of an open class raster, from its tag `LEGEND`.

    Raises LegendError where the tag is missing or cannot be understood.
    """
    try:
        return Legend.from_records(json.loads(dataset.tags()["LEGEND"]))
    except KeyError as error:
        raise LegendError(
            f"{dataset.name} has no legend (TIFF tag LEGEND); give a class raster made by segment."
        ) from error
    except (LegendError, ValueError, TypeError) as error:
        raise LegendError(f"{dataset.name}: the legend cannot be read: {error}") from error


def open_raster(path: Path) -> DatasetReader:
    """Open a raster of a run; RasterError where it is missing or is no raster."""
    if not path.is_file():
        raise RasterError(f"{path.parent} has no {path.name}; run the stage that makes it first.")
    try:
        with warnings.catch_warnings():  # a raster without a place is raster_grid's to refuse
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(path)
    except rasterio.errors.RasterioError as error:
        raise unreadable(path, error) from error


def raster_grid(dataset: DatasetReader) -> GeoBox:
    """Grid of an open raster; RasterError where it has no CRS."""
    if dataset.crs is None:
        raise RasterError(f"{dataset.name} has no CRS; assign the right one, e.g. by gdal_edit.")
    if (
        dataset.crs.is_geographic
        and max(map(abs, (dataset.bounds.bottom, dataset.bounds.top))) > 91
    ):
        raise RasterError(
            f"{dataset.name} reaches latitude {dataset.bounds.top:g}: its axes are swapped or its CRS "
            "is wrong; mend it, e.g. by gdal_edit."
        )
    return GeoBox.from_rio(dataset)


def unreadable(path: Path | str, error: Exception) -> RasterError:
    """The error for a raster of a run that opens or reads badly."""
    return RasterError(f"{path} cannot be read: {error}; delete it and run its stage again.")
