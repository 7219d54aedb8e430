"""Cloud-optimised GeoTIFFs, written row by row and renamed into place."""

import contextlib
import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader, DatasetWriter, MemoryFile

from landcover.errors import LegendError, RasterError
from landcover.legend import Legend
from landcover.overviews import halve
from pipeline.artifacts import atomic_path
from pipeline.cog_profile import CogProfile
from pipeline.tiff_tags import (
    GDAL_METADATA,
    GEOTIFF,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    NEW_SUBFILE_TYPE,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    Tags,
    header,
    long_tag,
    offsets_tag,
    read_tags,
)
from pipeline.tile_file import TileFile, TileFileWriter, disk_errors, level_shapes

__all__ = [
    "CogProfile", "assemble_cog", "check_crs", "has_mask", "open_cog", "open_raster", "raster_grid", "read_legend",
    "unreadable",
]  # fmt: skip

_CLASSIC = 2**32
"""Files of so many bytes must be BigTIFF."""
_PIECE = 2**24
"""Bytes copied at a time."""


@contextlib.contextmanager
def open_cog(path: Path, grid: GeoBox, profile: CogProfile) -> Iterator[TileFileWriter]:
    """Write a COG at `path`; the writer takes rows from the top to the bottom, or blocks at their place.

    Tiles and overviews are encoded while pixels come, into one tile file, which is put in the order of
    a COG at the end. Nothing appears at `path` unless the body succeeds. Raises RasterError where the
    disk fails, or a GeoTIFF cannot hold the CRS.
    """
    check_crs(grid)
    with atomic_path(path) as partial:
        tiles = partial.with_name(partial.name + ".tiles")
        with TileFileWriter(tiles, grid, profile, range(grid.shape[0])) as writer:
            yield writer
        with disk_errors(path):
            _assemble(partial, grid, profile, [tiles])


def check_crs(grid: GeoBox) -> None:
    """Raise RasterError where a GeoTIFF cannot hold the CRS of a grid; GDAL would leave it out without a word."""
    if not _holds_crs(str(grid.crs)):
        crs = CRS(grid.crs).proj
        method = crs.coordinate_operation
        raise RasterError(
            f"A GeoTIFF cannot hold this CRS ({method.method_name if method else crs.name}); choose another for "
            "the region, or warp the image to one (gdalwarp), e.g. UTM or an equal-area CRS."
        )


@lru_cache
def _holds_crs(crs: str) -> bool:
    """Whether a GeoTIFF gives back a CRS; asked again for every raster of a run."""
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=1, height=1, count=1, dtype="uint8", crs=crs,
            transform=Affine(10, 0, 0, 0, -10, 0),
        ):  # fmt: skip
            pass
        content = memory.read()
    with MemoryFile(content) as memory, memory.open() as dataset:
        return dataset.crs is not None


def assemble_cog(path: Path, grid: GeoBox, profile: CogProfile, files: Sequence[Path]) -> None:
    """Make a COG of tile files by copying their compressed tiles.

    files: of consecutive bands of rows, from the top to the bottom. Overviews deeper than these hold
    are made from the deepest that all of them hold, so the bytes do not depend on the bands. Raises
    RasterError where a file is not whole or belongs to another raster, and where the disk fails.
    """
    with atomic_path(path) as partial, disk_errors(path):
        _assemble(partial, grid, profile, files)


def _assemble(partial: Path, grid: GeoBox, profile: CogProfile, files: Sequence[Path]) -> None:
    bands = [TileFile.open(file, grid, profile) for file in files]
    edges = [0, *(band.rows.stop for band in bands)]
    if [band.rows.start for band in bands] != edges[:-1] or edges[-1] != grid.shape[0]:
        raise ValueError(
            f"Tile files of rows {edges} are not the {grid.shape[0]} rows of the raster."
        )
    shapes = level_shapes(grid, profile.block)
    held = min(len(band.tiles) for band in bands)
    levels = [_Level([(band.path, band.tiles[depth]) for band in bands]) for depth in range(held)]
    if held < len(shapes):
        coarse = _reduce_further(partial, grid, profile, bands, held)
        levels += [_Level([(coarse.path, tiles)]) for tiles in coarse.tiles]
    tags = _tags(grid, profile)
    images = [tags, *(_overview_tags(tags, shape) for shape in shapes[1:])]
    with partial.open("wb") as out:
        out.write(_header(images, levels))
        for level in reversed(levels):
            level.copy_to(out)


def _reduce_further(
    partial: Path, grid: GeoBox, profile: CogProfile, bands: Sequence[TileFile], held: int
) -> TileFile:
    """The overviews that not all bands hold, made from the deepest level that they do."""
    coarse = grid.zoom_to(shape=level_shapes(grid, profile.block)[held])
    path = partial.with_name(partial.name + ".overviews")
    with TileFileWriter(path, coarse, profile, range(coarse.shape[0])) as writer:
        for band in bands:
            for strip in band.strips(held - 1):
                writer.write(halve(strip, profile.overviews))
    return TileFile.open(path, coarse, profile)


class _Level:
    """The tiles of one level, in the order in which they lie in the COG.

    Row by row, the bands of a place next to each other: so they were finished, and who wants all bands
    of a window finds them together.
    """

    def __init__(self, files: Sequence[tuple[Path, NDArray[np.int64]]]) -> None:
        self._files = files
        self._sizes = np.concatenate([tiles[..., 1] for _, tiles in files])
        self.size = int(self._sizes.sum())
        """Bytes of all tiles."""

    def tags(self, start: int, *, big: bool) -> Tags:
        """Offsets and sizes, if the first tile lies at `start`; a TIFF lists them band by band."""
        stops = start + np.cumsum(self._sizes).reshape(self._sizes.shape)
        by_band = [a.transpose(2, 0, 1).ravel() for a in (stops - self._sizes, self._sizes)]
        return {
            TILE_OFFSETS: offsets_tag(by_band[0], big=big),
            TILE_BYTE_COUNTS: offsets_tag(by_band[1], big=False),
        }

    def copy_to(self, out: BinaryIO) -> None:
        """Append the tiles."""
        for path, tiles in self._files:
            with path.open("rb") as file:
                for start, stop in _runs(tiles.reshape(-1, 2)):
                    _copy(file, out, start, stop)


def _runs(tiles: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Begin and end of the stretches in which tiles (offset, size) follow each other."""
    starts, stops = tiles[:, 0], tiles.sum(axis=1)
    breaks = np.flatnonzero(starts[1:] != stops[:-1]) + 1
    for part in np.split(np.arange(len(tiles)), breaks):
        yield int(starts[part[0]]), int(stops[part[-1]])


def _copy(file: BinaryIO, out: BinaryIO, start: int, stop: int) -> None:
    file.seek(start)
    while start < stop:
        piece = file.read(min(stop - start, _PIECE))
        if not piece:
            raise OSError(f"{file.name} became shorter")
        out.write(piece)
        start += len(piece)


def _header(images: Sequence[Tags], levels: Sequence[_Level]) -> bytes:
    """Begin of the COG: tags of all images; data follow from the smallest overview to the raster."""

    def placed(begin: int, *, big: bool) -> bytes:
        starts = itertools.accumulate((level.size for level in reversed(levels)), initial=begin)
        tiles = [
            level.tags(start, big=big)
            for level, start in zip(reversed(levels), starts, strict=False)
        ]
        return header([a | b for a, b in zip(images, reversed(tiles), strict=True)], big=big)

    size = sum(level.size for level in levels)
    big = len(placed(0, big=False)) + size >= _CLASSIC
    return placed(len(placed(0, big=big)), big=big)


def _tags(grid: GeoBox, profile: CogProfile) -> Tags:
    """Tags of a raster, as GDAL writes them into a file without pixels."""
    rows, cols = grid.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=cols, height=rows, count=len(profile.bands), dtype=profile.dtype,
            crs=str(grid.crs), transform=grid.transform, nodata=0, tiled=True, interleave="band",
            blockxsize=profile.block, blockysize=profile.block, compress="zstd",
            predictor=profile.predictor, SPARSE_OK=True, BIGTIFF="NO", ENDIANNESS="LITTLE",
        ) as dataset:  # fmt: skip
            _describe(dataset, profile)
        return read_tags(memory.read())


def _overview_tags(tags: Tags, shape: tuple[int, int]) -> Tags:
    """Tags of an overview: its own shape, and neither place nor metadata."""
    kept = {name: tag for name, tag in tags.items() if name not in {*GEOTIFF, GDAL_METADATA}}
    return kept | {
        NEW_SUBFILE_TYPE: long_tag(1),
        IMAGE_LENGTH: long_tag(shape[0]),
        IMAGE_WIDTH: long_tag(shape[1]),
    }


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


def has_mask(dataset: DatasetReader) -> bool:
    """Whether a file says by a mask, in it or beside it, which pixels of its first band hold data."""
    return MaskFlags.per_dataset in dataset.mask_flag_enums[0]


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
