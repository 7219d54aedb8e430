"""Segment: from an image and a checkpoint to the class raster and its confidence."""

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landcover.blending import Labels, StripBlender
from landcover.errors import SettingsError
from landcover.inference import Predictor
from landcover.legend import Legend
from landcover.models import Checkpoint, load_checkpoint
from landcover.tiling import TileGrid
from pipeline.artifacts import atomic_path
from pipeline.cog import CogProfile, open_cog
from pipeline.qgis_style import write_raster_style
from pipeline.strip_reader import READERS, Image, StripReader, open_image

_REPORT_SECONDS = 5.0
_WRITES_WAITING = 4


def segment(
    *,
    image: Path,
    model: Path,
    classes: Path,
    confidence: Path,
    batch: int = 4,
    band_rows: int | None = None,
    device: str = "auto",
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Map land cover: predict an image in overlapping tiles, blend, write two COGs of its grid.

    The class raster gets side-cars for QGIS (.qml, .aux.xml) with class names and colours.

    classes: class codes, uint8, 0 = nodata. confidence: percent 1 to 100, uint8, 0 = nodata.
    A pixel is nodata where any band the model needs is. batch: tiles in flight beyond one per
    thread. band_rows: rows of a unit of work, default all. Neither changes a byte of the output.
    Returns facts for `run.json`. Raises SettingsError, CheckpointError, RasterError; then neither
    output exists.
    """
    if len({path.resolve() for path in (image, classes, confidence)}) < 3:
        raise SettingsError(
            f"Image {image}, classes {classes} and confidence {confidence} cannot be one file; "
            "name three."
        )
    checkpoint = load_checkpoint(model)
    source = open_image(image, checkpoint.spec.bands)
    details = segment_image(
        source, checkpoint, classes, confidence, batch, band_rows, device, report
    )
    write_raster_style(classes, checkpoint.spec.legend)
    return details


def segment_image(
    image: Image,
    checkpoint: Checkpoint,
    classes: Path,
    confidence: Path,
    batch: int = 4,
    band_rows: int | None = None,
    device: str = "auto",
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Do what `segment` does, with an image and a network at hand."""
    if batch < 1 or (band_rows is not None and band_rows < 1):
        raise SettingsError(
            f"batch is {batch} and band_rows is {band_rows}; both must be 1 or more."
        )
    spec = checkpoint.spec
    if not image.named:
        report(f"{image.path.name} names no bands: taken in order as {', '.join(spec.bands)}")
    height, width = image.grid.shape
    tiles = TileGrid(height, width, spec.tile, spec.overlap)
    progress = _Progress(height, width, report)
    with (
        rasterio.Env(GDAL_CACHEMAX=image.cache_bytes()),
        Predictor(checkpoint, device) as predictor,
        _outputs(classes, confidence, image.grid, spec.legend) as write,
    ):
        for rows in tiles.bands(band_rows):
            for labels in segment_band(image, predictor, tiles, rows, batch):
                write(labels)
                progress.done(labels.rows.stop)
    return {
        "tiles": len(tiles),
        "tile": spec.tile,
        "overlap": spec.overlap,
        "megapixels": round(progress.megapixels, 3),
        "megapixels_per_second": round(progress.rate, 3),
        "device": str(predictor.device),
        "precision": predictor.precision,
        "batch": batch,
        "model_sha256": checkpoint.sha256,
    }


def segment_band(
    image: Image,
    predictor: Predictor,
    tiles: TileGrid,
    rows: range,
    batch: int = 4,
    readers: int = READERS,
) -> Iterator[Labels]:
    """Labels of a band of rows, in pieces from its top to its bottom.

    Predicts every tile that touches the band, those it shares with its neighbours too, so the rows
    are those of the whole raster. Reading, predicting and blending overlap in time; memory is some
    strips one tile high. batch: tiles in flight beyond one per thread. readers: threads that read.
    Neither changes a label. Raises RasterError, CheckpointError.
    """
    touched = tiles.touching(rows)
    blender = StripBlender(tiles, predictor.spec.legend.codes, rows)
    in_flight = predictor.workers + batch
    ahead = -(-in_flight * predictor.group // len(tiles.col_starts))
    with StripReader(image, tiles, touched, ahead, readers) as reader:
        for i, j, probabilities in _predictions(
            predictor, reader, tiles, touched, in_flight, ahead
        ):
            for k, tile in enumerate(() if probabilities is None else probabilities):
                blender.add(i, j + k, tile)
            if j + predictor.group >= len(tiles.col_starts):
                labels = blender.finish(i, reader.valid_rows)
                reader.release(i)
                if labels.rows:
                    yield labels


_Prediction = tuple[int, int, NDArray[np.float32] | None]


def _predictions(
    predictor: Predictor,
    reader: StripReader,
    tiles: TileGrid,
    touched: range,
    in_flight: int,
    ahead: int,
) -> Iterator[_Prediction]:
    """(tile row, first tile column, probabilities) of every group of tiles, in row-major order."""
    pending: deque[tuple[int, int, Future[NDArray[np.float32] | None]]] = deque()

    def oldest() -> _Prediction:
        i, j, future = pending.popleft()
        return i, j, future.result()

    for i in touched:
        while pending and pending[0][0] < i - ahead:  # its rows are still in the ring
            yield oldest()
        reader.wait(i)
        rows = tiles.source_rows(i)
        for j in range(0, len(tiles.col_starts), predictor.group):
            starts = tiles.col_starts[j : j + predictor.group]
            pending.append((i, j, predictor.submit(reader.strip, rows, starts)))
            if len(pending) > in_flight:
                yield oldest()
    while pending:
        yield oldest()


@contextlib.contextmanager
def _outputs(
    classes: Path, confidence: Path, grid: GeoBox, legend: Legend
) -> Iterator[Callable[[Labels], None]]:
    """Two COGs that take labels; both appear under their names, or neither."""
    profiles = {
        classes: CogProfile(
            dtype="uint8",
            bands=("class",),
            overviews="mode",
            colormap=legend.colormap(),
            tags={"LEGEND": json.dumps(legend.to_records())},
        ),
        confidence: CogProfile(dtype="uint8", bands=("confidence",), units=("%",)),
    }
    with contextlib.ExitStack() as stack:
        partials = [stack.enter_context(atomic_path(path)) for path in profiles]
        cogs = [
            stack.enter_context(_BackgroundCog(path, grid, profile))
            for path, profile in zip(partials, profiles.values(), strict=True)
        ]

        def write(labels: Labels) -> None:
            cogs[0].write(labels.classes)
            cogs[1].write(labels.confidence)

        yield write
        for finished in [cog.finish() for cog in cogs]:  # both are converted at the same time
            finished.result()


class _BackgroundCog:
    """A COG written and converted by a thread of its own, with few rows waiting."""

    def __init__(self, path: Path, grid: GeoBox, profile: CogProfile) -> None:
        self._cog = open_cog(path, grid, profile)
        self._thread = ThreadPoolExecutor(1, "write")
        self._pending: deque[Future[None]] = deque()
        self._finishing = False

    def __enter__(self) -> Self:
        self._writer = self._thread.submit(self._cog.__enter__).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._thread:
            if not self._finishing:
                self._thread.submit(self._cog.__exit__, kind, error, trace).result()

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append (rows, cols); raises here what an earlier write failed with."""
        self._pending.append(self._thread.submit(self._writer.write, rows[np.newaxis]))
        if len(self._pending) > _WRITES_WAITING:
            self._pending.popleft().result()

    def finish(self) -> Future[None]:
        """Start to close the COG once all rows are written."""
        self._finishing = True
        return self._thread.submit(self._close)

    def _close(self) -> None:
        failed = next((e for w in self._pending if (e := w.exception())), None)
        self._cog.__exit__(type(failed) if failed else None, failed, None)
        if failed:
            raise failed


class _Progress:
    """Speed so far and time left, reported every few seconds."""

    def __init__(self, height: int, width: int, report: Callable[[str], None]) -> None:
        self._height, self._width, self._report = height, width, report
        self._started = self._reported = time.monotonic()
        self.megapixels = height * width / 1e6
        self.rate = 0.0
        """Megapixels a second."""

    def done(self, rows: int) -> None:
        """Note that the first `rows` rows of the map are labelled."""
        now = time.monotonic()
        megapixels = rows * self._width / 1e6
        self.rate = megapixels / max(now - self._started, 1e-9)
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            left = (self.megapixels - megapixels) / self.rate
            self._report(
                f"segment: {rows / self._height:.0%}, {self.rate:.1f} Mpx/s, {left:.0f} s left"
            )
