"""Rows of an image become rows of a map: reading, predicting and blending overlap in time."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from landcover.blending import Labels, StripBlender
from landcover.inference import Predictor
from landcover.smoothing import Step, halo, smooth
from landcover.tiling import TileGrid
from pipeline.strip_reader import READERS, Image, StripReader

_BLENDED = ("classes", "confidence")

Tick = Callable[[int], None]
"""Takes how many tiles have been predicted since the last call."""


def segment_rows(
    image: Image,
    predictor: Predictor,
    tiles: TileGrid,
    rows: range,
    layers: Sequence[str] = _BLENDED,
    batch: int = 4,
    readers: int = READERS,
    tick: Tick = lambda _: None,
) -> Generator[Labels, None, None]:
    """Labels of a band of rows, in pieces from its top to its bottom.

    Predicts every tile that touches the band, those it shares with its neighbours too, so the rows
    are those of the whole raster. Memory is some strips one tile high. layers: of
    landcover.blending.LAYERS. batch: tiles in flight beyond one per thread. readers: threads that
    read. Neither changes a label. Raises RasterError, CheckpointError.
    """
    touched = tiles.touching(rows)
    blender = StripBlender(tiles, predictor.codes, rows, layers)
    in_flight = predictor.workers + batch
    ahead = -(-in_flight * predictor.group // len(tiles.col_starts))
    with StripReader(image, tiles, touched, ahead, readers) as reader:
        for i, j, logits in _predictions(predictor, reader, tiles, touched, in_flight, ahead):
            for k, tile in enumerate(() if logits is None else logits):
                if j + k < len(tiles.col_starts):
                    blender.add(i, j + k, tile)
            tick(min(predictor.group, len(tiles.col_starts) - j))
            if j + predictor.group >= len(tiles.col_starts):
                labels = blender.finish(i, reader.valid_rows)
                reader.release(i)
                if labels.rows:
                    yield labels


_Prediction = tuple[int, int, NDArray[Any] | None]


def _predictions(
    predictor: Predictor,
    reader: StripReader,
    tiles: TileGrid,
    touched: range,
    in_flight: int,
    ahead: int,
) -> Iterator[_Prediction]:
    """(tile row, first tile column, logits) of every group of tiles, in row-major order."""
    pending: deque[tuple[int, int, Future[NDArray[Any] | None]]] = deque()

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


def smoothed_rows(
    image: Image,
    predictor: Predictor,
    tiles: TileGrid,
    rows: range,
    steps: Sequence[Step],
    layers: Sequence[str] = _BLENDED,
    batch: int = 4,
    tick: Tick = lambda _: None,
) -> Labels:
    """Labels of a band of rows after smoothing steps; the band is in memory as a whole.

    As many rows around it as the steps reach are predicted too, so that the rows are those of the
    whole raster. Raises as `segment_rows` does.
    """
    reach, height = halo(steps), tiles.height
    wide = range(max(rows.start - reach, 0), min(rows.stop + reach, height))
    guided = any(step.name == "guided" for step in steps)
    needed = tuple(dict.fromkeys((*_BLENDED, *layers, *(("probabilities",) if guided else ()))))
    pieces = list(segment_rows(image, predictor, tiles, wide, needed, batch, tick=tick))
    whole = {n: np.concatenate([p.layers[n] for p in pieces], axis=1) for n in needed}
    del pieces
    guide = guide_rows(image, predictor, wide) if guided else None
    smoothed = smooth(steps, whole, predictor.codes, guide)
    inner = slice(rows.start - wide.start, rows.stop - wide.start)
    return Labels(rows, {n: np.ascontiguousarray(smoothed[n][:, inner]) for n in layers})


def guide_rows(image: Image, predictor: Predictor, rows: range) -> NDArray[np.float32]:
    """Grey picture of some rows for the guided filter, (rows, cols), 0 to 1.

    The mean of the bands as the network gets them, where -2 deviations are 0 and 2 are 1; it depends
    on each pixel alone. What is no number is 0; smoothing leaves out pixels without data anyway.
    """
    gain, bias = predictor.scaling
    grey = np.zeros((len(rows), image.grid.shape[1]), np.float32)
    with rasterio.open(image.path) as dataset:
        window = Window(0, rows.start, grey.shape[1], len(rows))
        for band, factor, plus in zip(image.bands, gain, bias, strict=True):
            grey += dataset.read(band, window=window).astype(np.float32) * factor + plus
    with np.errstate(invalid="ignore"):
        grey = np.clip(grey / np.float32(4 * len(image.bands)) + np.float32(0.5), 0, 1)
    np.nan_to_num(grey, copy=False)
    return grey
