"""One image of a dataset: where it is, which bands it has, and its pixels in windows."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from landcover.errors import DatasetError, RasterError
from landcover.validity import mark_valid
from pipeline.band_names import band_names, standard_name
from pipeline.cog import raster_grid
from pipeline.dataset_file import DatasetFile, Source
from pipeline.image_file import band_facts
from pipeline.open_files import FILES

_REAL = frozenset("uif")
_SAME = 1e-6
"""Part by which scalings may differ: some writers round them to float32."""


@dataclass(frozen=True)
class DatasetImage:
    """An image that was opened once: what is needed to read windows of it in any process."""

    name: str
    paths: tuple[Path, ...]
    """One file, or one for each band in channel order."""
    numbers: tuple[int, ...]
    """Number of each channel's band in its file, from 1."""
    shape: tuple[int, int]
    grid: GeoBox | None
    """None where the image has no place on the Earth."""
    nodata: tuple[float | None, ...]
    """Stored number of each channel that is no data."""
    nodata_in_all: bool
    """Whether only all channels together make a pixel empty."""
    masked: tuple[Path, ...]
    """Files that have a mask or an alpha band."""
    scale: float
    offset: float

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Physical values (bands, rows, cols), 0 where there is no data, and where there is: (rows, cols).

        The window must lie inside the image. Raises DatasetError where a file cannot be read.
        """
        stored = self.stored(rows, cols)
        valid = self.valid(stored, rows, cols)
        image = stored.astype(np.float32)
        if self.scale != 1:
            image *= np.float32(self.scale)
        if self.offset:
            image += np.float32(self.offset)
        image[:, ~valid] = 0
        return image, valid

    def stored(self, rows: slice, cols: slice) -> NDArray[Any]:
        """Stored numbers, (bands, rows, cols)."""
        if len(self.paths) == 1:
            return FILES.read(self.paths[0], self.numbers, rows, cols)
        parts = zip(self.paths, self.numbers, strict=True)
        return np.concatenate([FILES.read(path, (n,), rows, cols) for path, n in parts])

    def valid(self, stored: NDArray[Any], rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Where a window of stored numbers holds data: (rows, cols).

        As when a map is made: what is 0 in all bands is empty where nothing says what is.
        """
        mask = np.full(stored.shape[1:], 255, np.uint8)
        for path in self.masked:
            np.minimum(mask, FILES.read(path, (0,), rows, cols)[0], out=mask)
        fits = [_fits(value, stored.dtype) for value in self.nodata]
        numbers = np.array(
            [v if f and v is not None else 0 for v, f in zip(self.nodata, fits, strict=True)],
            stored.dtype,
        )
        declared = np.array(fits, np.bool_)
        empty = None
        if self.nodata_in_all and all(fits):
            empty = (stored == numbers[:, None, None]).all(axis=0)
            declared[:] = False
        valid = np.empty(mask.shape, np.uint8)
        silent = not self.masked and all(value is None for value in self.nodata)
        mark_valid(stored, numbers, declared, mask, silent, valid)
        found = valid.view(np.bool_)
        return found if empty is None else found & ~empty


def open_image(source: Source, file: DatasetFile) -> DatasetImage:
    """Open an image and find its bands.

    Raises DatasetError where it cannot be opened, lacks a band, declares another scaling than the
    dataset, or its files do not fit together.
    """
    opened = [FILES.dataset(named.path) for named in source.files]
    first = opened[0]
    grid = image_grid(first, source.name)
    for other, named in zip(opened[1:], source.files[1:], strict=True):
        if (
            other.shape != first.shape
            or other.transform != first.transform
            or other.crs != first.crs
        ):
            raise DatasetError(
                f"{named.name} is not on the grid of {source.name} ({_grid_text(other)}, not {_grid_text(first)}); "
                "resample the bands of an image to one grid first."
            )
    if len(opened) == 1:
        numbers = _channels(first, file, source.name)
    else:
        numbers = tuple(
            _only_band(one, named.name) for one, named in zip(opened, source.files, strict=True)
        )
    owners = opened if len(opened) > 1 else opened * len(numbers)
    tags = [one.nodatavals[n - 1] for one, n in zip(owners, numbers, strict=True)]
    for one, n in zip(owners, numbers, strict=True):
        if np.dtype(one.dtypes[n - 1]).kind not in _REAL:
            raise DatasetError(
                f"{source.name} holds {one.dtypes[n - 1]} numbers; images to train on have whole or decimal ones."
            )
    masked = [
        named.path
        for one, named in zip(opened, source.files, strict=True)
        if MaskFlags.per_dataset in one.mask_flag_enums[0]
    ]
    _check_scaling(owners, numbers, file, source.name)
    return DatasetImage(
        name=source.name, paths=tuple(named.path for named in source.files), numbers=numbers,
        shape=first.shape, grid=grid,
        nodata=tuple(file.nodata if tag is None else tag for tag in tags),
        nodata_in_all=file.nodata_in == "all", masked=tuple(masked), scale=file.scale, offset=file.offset,
    )  # fmt: skip


def image_grid(dataset: DatasetReader, name: str) -> GeoBox | None:
    """The grid of an open raster; None where it has no place. DatasetError where it cannot be used."""
    if dataset.crs is None or dataset.transform.is_identity:
        return None
    try:
        return raster_grid(dataset)
    except (RasterError, CRSError) as error:
        raise DatasetError(f"{name} cannot be placed on the Earth: {error}") from error


def _channels(dataset: DatasetReader, file: DatasetFile, name: str) -> tuple[int, ...]:
    """Numbers of the wanted bands in a file of several, by what describes them, else by their order."""
    if isinstance(file.bands, dict):
        numbers = tuple(file.bands.values())
        if max(numbers) > dataset.count:
            raise DatasetError(
                f"{name} has {dataset.count} band(s); the dataset asks for band {max(numbers)}."
            )
        return numbers
    wanted = [standard_name(band) for band in file.bands]
    names, _ = band_names(band_facts(dataset))
    described = [standard_name(text or "") for text in dataset.descriptions]
    for known in (described, names):
        if set(wanted) <= set(known):
            return tuple(known.index(band) + 1 for band in wanted)
    if len(wanted) == dataset.count and not any(dataset.descriptions):
        return dataset.indexes  # type: ignore[no-any-return]
    raise DatasetError(
        f"{name} has the bands {', '.join(names)}, not {', '.join(file.bands)}; name those it has, or give their "
        "numbers, as in bands: {red: 3, green: 2}."
    )


def _only_band(dataset: DatasetReader, name: str) -> int:
    if dataset.count != 1:
        raise DatasetError(
            f"{name} is to be one band of an image, but has {dataset.count}; give single bands."
        )
    return 1


def _grid_text(dataset: DatasetReader) -> str:
    rows, cols = dataset.shape
    return f"{cols} x {rows} pixels of {abs(dataset.transform.a):g}"


def _check_scaling(
    owners: list[DatasetReader], numbers: tuple[int, ...], file: DatasetFile, name: str
) -> None:
    """Raise DatasetError where bands declare another scaling than the dataset: a map goes by theirs."""
    said = [band_facts(one)[n - 1] for one, n in zip(owners, numbers, strict=True)]
    for scale, offset in ((band.scale, band.offset) for band in said if band.scale):
        if not np.allclose((scale, offset), (file.scale, file.offset), rtol=_SAME, atol=0):
            raise DatasetError(
                f"{name} says scale {scale:g} and offset {offset:g}, the dataset scale {file.scale:g} and offset "
                f"{file.offset:g}; a map is made by what the image says, so write that into the dataset, or "
                "correct the image."
            )


def _fits(value: float | None, dtype: np.dtype[Any]) -> bool:
    """Whether a nodata number can occur in an array of a type; NaN is told apart by itself."""
    if value is None or math.isnan(value):
        return False
    if dtype.kind == "f":
        return True
    info = np.iinfo(dtype)
    return float(value).is_integer() and info.min <= value <= info.max
