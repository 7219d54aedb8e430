"""Finished bands of rows of a map in the making: what a run that was killed need not do again."""

import contextlib
import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.errors import RasterError, SettingsError
from pipeline.artifacts import fingerprint, write_json
from pipeline.cog_profile import CogProfile
from pipeline.tile_file import TileFile, TileFileWriter, disk_errors

_BAND_ROWS = 2048
"""Rows of a band, unless workers would idle."""
_BANDS_EACH = 2
"""Bands for each worker at least, where the raster has so many tile rows."""
_MANIFEST = "manifest.json"
_OURS = re.compile(r"manifest\.json|(\d{9}|converted)-[0-9a-f]{12}|\.partial-.*|\.nfs[0-9a-f]+")
"""What may be in the folder; the last one is a deleted file that NFS keeps while it is open."""
_WRITER = re.compile(r"\.partial-(.+)-(\d+)-[0-9a-f]{32}")
"""Machine and process of a writer, in its temporary name."""

Write = Callable[[Mapping[str, NDArray[np.uint8]]], None]
"""Appends rows of every layer, each (bands, rows, cols)."""


def plan_bands(height: int, block: int, band_rows: int | None, workers: int) -> list[range]:
    """Cut the rows of a raster into bands, the units of work, from the top to the bottom.

    block: rows of a tile of the output. A band has block x 2^k rows, so that as many overviews as
    possible lie within it; the last one what is left. band_rows: at most so many, if that is a block
    or more; else 2048, and less where several workers would have fewer than two bands each.
    Raises SettingsError for a band_rows or workers below 1.
    """
    if workers < 1 or (band_rows is not None and band_rows < 1):
        raise SettingsError(
            f"--band-rows is {band_rows} and there are {workers} workers; both must be 1 or more."
        )
    most = band_rows or _BAND_ROWS
    if band_rows is None and workers > 1:
        most = min(most, (height - 1) // (_BANDS_EACH * workers - 1))
    rows = block
    while 2 * rows <= most:
        rows *= 2
    return [range(top, min(top + rows, height)) for top in range(0, height, rows)]


class ShardFolder:
    """Shards of a map: a folder for each finished band of rows, with a tile file for each layer.

    A shard is named by its first row and what it belongs to (key, bands, layers; `manifest.json`
    says it in words), so a worker that finishes late, for a run with other settings, cannot
    slip its rows into this one. It is written under a name that no other writer has, and renamed
    when it is whole; that is atomic on shared storage (NFS, Lustre) too.

    key: fingerprint of all that decides the pixels. Opening the folder removes the shards of
    another key; do it where the run is led, and send it to workers as it is (it can be pickled).
    What dead writers left is removed if they ran on this machine; what others left stays until
    `remove`, as nobody here can tell whether they live, and does no harm.
    Raises SettingsError where files would have to be removed that are none of ours.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        bands: Sequence[range],
        layers: Mapping[str, CogProfile],
        grid: GeoBox,
    ) -> None:
        self.path = path.absolute()  # a worker has a working folder of its own
        self.bands, self._layers, self.grid = tuple(bands), dict(layers), grid
        manifest = {
            "key": key,
            "bands": [[band.start, band.stop] for band in bands],
            "layers": {name: asdict(profile) for name, profile in layers.items()},
        }
        self._stamp = fingerprint(manifest)[:12]
        if not self._is_ours():
            self._clear()
            write_json(self.path / _MANIFEST, manifest | {"stamp": self._stamp})
        self._remove_dead()

    def _is_ours(self) -> bool:
        try:
            manifest = json.loads((self.path / _MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        return isinstance(manifest, dict) and manifest.get("stamp") == self._stamp

    def _clear(self) -> None:
        """Remove shards; SettingsError where the folder holds anything else."""
        held = list(self.path.iterdir()) if self.path.exists() else []
        strangers = sorted(entry.name for entry in held if not _OURS.fullmatch(entry.name))
        if strangers:
            raise SettingsError(
                f"{self.path} is for unfinished bands of rows but holds {strangers[0]}; move that "
                "elsewhere, or give the output another name."
            )
        for entry in held:
            _remove(entry)

    def _remove_dead(self) -> None:
        for entry in self.path.glob(".partial-*"):
            writer = _WRITER.match(entry.name)
            if (
                writer
                and writer[1] == socket.gethostname()
                and not psutil.pid_exists(int(writer[2]))
            ):
                _remove(entry)

    def missing(self) -> list[range]:
        """Bands without a whole shard, from the top to the bottom."""
        # Listed, not asked for one by one: an NFS client remembers for a while that a name was absent.
        names = {entry.name for entry in self.path.iterdir()}
        return [
            band
            for band in self.bands
            if self._shard(band).name not in names or not self._is_whole(band)
        ]

    @contextlib.contextmanager
    def writer(self, band: range) -> Iterator[Write]:
        """Write the shard of a band; each call appends rows of every layer.

        The shard appears when the body ends, whole or not at all. Where another writer of the same
        band was faster, its shard stays and this one is dropped: they hold the same bytes.
        Raises RasterError or OSError where the disk fails.
        """
        partial = self._unused()
        try:
            partial.mkdir()
            with contextlib.ExitStack() as stack:
                files = {
                    name: stack.enter_context(
                        TileFileWriter(_tile_file(partial, name), self.grid, profile, band)
                    )
                    for name, profile in self._layers.items()
                }

                def write(layers: Mapping[str, NDArray[np.uint8]]) -> None:
                    for name, file in files.items():
                        file.write(layers[name])

                yield write
            self._appear(partial, band)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _appear(self, partial: Path, band: range) -> None:
        shard = self._shard(band)
        while not _is_renamed(partial, shard) and not self._is_whole(band):
            damaged = self._unused()
            with contextlib.suppress(FileNotFoundError):  # another writer does the same
                shard.rename(damaged)  # out of the way, in one step
            _remove(damaged)

    def keep(self, name: str, source: Path) -> Path:
        """Copy a folder that all workers need among the shards, whole or not at all; it goes with them.

        name: a word of `_OURS`. Raises RasterError where the disk fails.
        """
        place, partial = self.path / f"{name}-{self._stamp}", self._unused()
        try:
            with disk_errors(place):
                shutil.copytree(source, partial)
                _remove(place)
                partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return place

    def files(self, layer: str) -> list[Path]:
        """Tile files of a layer, one for each band, from the top to the bottom."""
        return [_tile_file(self._shard(band), layer) for band in self.bands]

    def remove(self) -> None:
        """Remove all shards, and the folder unless somebody has put a file of their own there."""
        for entry in self.path.iterdir():
            if _OURS.fullmatch(entry.name):
                _remove(entry)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _shard(self, band: range) -> Path:
        return self.path / f"{band.start:09d}-{self._stamp}"

    def _unused(self) -> Path:
        """A temporary name that says who uses it."""
        return self.path / f".partial-{socket.gethostname()}-{os.getpid()}-{uuid4().hex}"

    def _is_whole(self, band: range) -> bool:
        try:
            return all(
                TileFile.open(_tile_file(self._shard(band), name), self.grid, profile).rows == band
                for name, profile in self._layers.items()
            )
        except RasterError:
            return False


def _tile_file(shard: Path, layer: str) -> Path:
    return shard / f"{layer}.tiles"


def _is_renamed(partial: Path, shard: Path) -> bool:
    """Rename a folder; False where the name is taken."""
    try:
        partial.rename(shard)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            return False
        raise
    return True


def _remove(entry: Path) -> None:
    """Remove a file or folder of ours, as far as that is possible."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
