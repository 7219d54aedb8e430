"""Labels of windows of a dataset, as a model gives them when it makes a map."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from landcover.checkpoint import Checkpoint
from landcover.errors import CheckpointError
from landcover.inference import Predictor, Strip, as_float32
from landcover.legend import NODATA
from landcover.runtimes import open_runtime
from landcover.tiling import mirror
from pipeline.band_names import standard_name
from pipeline.dataset import Dataset, TilePlace

Seen = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Physical values (bands, tile, tile), and where they hold data."""


@dataclass(frozen=True)
class Window:
    """A tile as the model gets it, around a place whose pixels count."""

    place: TilePlace
    image: NDArray[np.float32]
    """Physical values in the model's bands, (bands, tile, tile); mirrored beyond the image."""
    valid: NDArray[np.bool_]
    codes: NDArray[np.uint8]
    """Codes of the split, of the place and of its surroundings, (tile, tile); 0 beyond the image."""
    blocks: NDArray[np.int32]
    """Number of the block of each pixel of the place, (tile, tile); -1 around it."""
    block_names: tuple[str, ...]

    @property
    def seen(self) -> Seen:
        """What the model gets."""
        return self.image, self.valid


def band_numbers(dataset: Dataset, bands: Sequence[str]) -> list[int]:
    """Where the model's bands are in a dataset, in any spelling. Raises CheckpointError where one is missing."""
    names = [standard_name(band) for band in dataset.bands]
    if missing := [band for band in bands if standard_name(band) not in names]:
        raise CheckpointError(
            f"The model needs the band(s) {', '.join(missing)}; the dataset {dataset.name} has "
            f"{', '.join(dataset.bands)}. Name its bands as the model does, or train on these."
        )
    return [names.index(standard_name(band)) for band in bands]


def read_window(
    dataset: Dataset, place: TilePlace, tile: int, context: int, bands: Sequence[int]
) -> Window:
    """The tile around a place; pulled back inside the image at its rims, as tiles of a map are."""
    height, width = dataset.shape(place.image)
    top = min(max(place.row - context, 0), max(height - tile, 0))
    left = min(max(place.col - context, 0), max(width - tile, 0))
    square = replace(place, row=top, col=left, side=tile)
    chip = dataset.read(square)
    down, across = (mirror(np.arange(tile), min(n, tile)) for n in (height, width))
    fold = np.ix_(down, across)
    blocks, names = dataset.block_names(square)
    rows, cols = np.arange(tile)[:, None] + top, np.arange(tile) + left
    inner = (rows >= place.row) & (rows < place.row + place.side)
    inner = inner & (cols >= place.col) & (cols < place.col + place.side)
    return Window(
        place, np.ascontiguousarray(chip.image[list(bands)][:, fold[0], fold[1]]), chip.valid[fold],
        chip.codes, np.where(inner, blocks, np.int32(-1)), tuple(names),
    )  # fmt: skip


class WindowLabeller:
    """A model ready to label windows, by the runtime and the normalisation that make maps.

    Use as a context manager. Raises SettingsError as `open_runtime` does.
    """

    def __init__(self, checkpoint: Checkpoint, runtime: str, device: str = "auto") -> None:
        self.spec = checkpoint.spec
        # Without its temperature: that is applied, or sought, by who takes the logits.
        bare = replace(checkpoint, spec=replace(checkpoint.spec, temperature=1.0))
        self.runtime = open_runtime(bare, runtime, device)
        ones = np.ones(len(self.spec.bands))
        self._predictor = Predictor(
            [bare.spec], [self.runtime], reflectance=lambda _scale, _offset: (ones, 0 * ones)
        )

    def __enter__(self) -> Self:
        self._predictor.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._predictor.__exit__(kind, error, trace)

    def logits(self, windows: Iterable[Seen]) -> Iterator[NDArray[np.float32] | None]:
        """Logits (classes, tile, tile) of each window in order, without temperature; a few are in flight.

        None for windows of a group in which no pixel is valid.
        """
        waiting: deque[tuple[int, Future[NDArray[Any] | None]]] = deque()
        for group in _groups(windows, self._predictor.group):
            waiting.append((len(group), self._submit(group)))
            if len(waiting) > self._predictor.workers:
                yield from _split(*waiting.popleft())
        while waiting:
            yield from _split(*waiting.popleft())

    def codes(self, windows: Iterable[Seen]) -> list[NDArray[np.uint8]]:
        """Class codes (tile, tile) of each window; 0 where it is not valid."""
        kept = list(windows)
        return [
            label(found, valid, self.spec.legend.codes)
            for (_, valid), found in zip(kept, self.logits(kept), strict=True)
        ]

    def _submit(self, group: Sequence[Seen]) -> Future[NDArray[Any] | None]:
        """Predict windows that lie side by side in a strip."""
        tile = self.spec.tile
        strip = Strip(
            np.concatenate([image for image, _ in group], axis=2),
            np.concatenate([valid for _, valid in group], axis=1).astype(np.uint8),
        )
        starts = range(0, tile * len(group), tile)
        return self._predictor.submit(strip, np.arange(tile), starts)


def label(
    logits: NDArray[np.float32] | None, valid: NDArray[np.bool_], codes: Sequence[int]
) -> NDArray[np.uint8]:
    """Code of the likeliest class of each pixel, (rows, cols); 0 where it is not valid."""
    if logits is None:
        return np.zeros(valid.shape, np.uint8)
    found = np.array(codes, np.uint8)[logits.argmax(axis=0)]
    return np.where(valid, found, np.uint8(NODATA))


def _groups(windows: Iterable[Seen], size: int) -> Iterator[list[Seen]]:
    waiting = iter(windows)
    while group := list(itertools.islice(waiting, size)):
        yield group


def _split(
    number: int, found: "Future[NDArray[Any] | None]"
) -> Iterator[NDArray[np.float32] | None]:
    logits = found.result()
    for i in range(number):
        yield None if logits is None else as_float32(logits[i])
