"""What one day's scenes show of a block of the grid: masked, harmonised, a pixel whole from one scene."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from landcover.compositing import cloud_distance, hide
from landcover.errors import RasterError
from landcover.harmonization import (
    OFFSET_BASELINE,
    Harmonization,
    harmonize,
    processing_baseline,
)  # fmt: skip
from landcover.resampling import Block, Numbers
from pipeline.image_file import stored_nodata
from pipeline.raster_files import FailedReadError, RasterFiles, plain
from pipeline.scenes import UNDATED, Scene, Source
from pipeline.window_reader import Band, WindowReader

_WHOLE_NUMBERS = ("uint8", "int8", "uint16", "int16")
_SAMPLE = 512
"""Side of the reduced image on which a scene's offset is checked, pixels."""
_EPOCH = date(1970, 1, 1).toordinal()
CLEAR, HIDDEN = 0, 1
"""What a quality band says of a pixel, besides OUTSIDE."""

Missed = Callable[[str, FailedReadError, Block], None]
"""Told of a scene that could not be read in a block; raises where that must not be."""


@dataclass(frozen=True)
class Layer:
    """A scene whose files were looked at: where its bands are and what their numbers mean."""

    scene: Scene
    bands: Mapping[str, tuple[Band, Numbers]]
    """By common name."""
    mask: Band | None
    """Quality band of the product's mask rule."""
    shapes: tuple[Band, ...]
    """Bands whose file says by a mask or alpha where it has data, one for each such file."""
    harmonization: Harmonization

    def views(
        self, reader: WindowReader, block: Block, grow: float | None = None
    ) -> NDArray[np.uint8] | None:
        """What the quality band says of a block (rows, cols): CLEAR, HIDDEN, or OUTSIDE of it.

        grow: metres by which hidden areas grow; None leaves it to the product's rule. None where the
        scene has no quality band.
        """
        rule = self.scene.product.mask
        if self.mask is None or rule is None:
            return None
        wide = rule.grow if grow is None else grow
        return reader.look_up(self.mask, rule.unclear().view(np.uint8), block, wide)


def open_layer(scene: Scene, bands: Sequence[str], files: RasterFiles) -> Layer:
    """Look at a scene's files; RasterError where its numbers cannot be composited.

    Bands of files of a reflectance product must be whole numbers, or declare their scale.
    """
    decided = _harmonization(scene, files)
    found = {
        name: (_band(scene.bands[name], files), _numbers(scene, scene.bands[name], decided, files))
        for name in bands
    }
    shapes = {band.href: band for band, _ in found.values() if _has_shape(band, files)}
    mask = None
    if scene.mask is not None:
        mask = Band(scene.mask.href, scene.mask.band)
        _check_number(scene, mask, files)
    return Layer(scene, found, mask, tuple(shapes.values()), decided)


@dataclass(frozen=True)
class _BandFacts:
    dtype: str
    nodata: float | None
    masked: bool


def _facts_of(band: Band, files: RasterFiles) -> _BandFacts:
    facts, index = files.facts(band.href), band.number - 1
    return _BandFacts(facts.dtypes[index], facts.nodata[index], facts.masked[index])


def _band(source: Source, files: RasterFiles) -> Band:
    """A band with the alpha band that its file shows, else the catalogue names."""
    alpha = files.facts(source.href).alpha or source.alpha
    return Band(source.href, source.band, None if alpha == source.band else alpha)


def _has_shape(band: Band, files: RasterFiles) -> bool:
    return band.alpha is not None or _facts_of(band, files).masked


def _check_number(scene: Scene, band: Band, files: RasterFiles) -> None:
    count = len(files.facts(band.href).dtypes)
    promised = max(band.number, band.alpha or 0)
    if promised > count:
        raise RasterError(
            f"Scene {scene.id}: {plain(band.href)} has {count} bands, not the {promised} that the "
            "catalogue promises; index it again or leave the scene out."
        )


def _numbers(scene: Scene, source: Source, decided: Harmonization, files: RasterFiles) -> Numbers:
    band = _band(source, files)
    _check_number(scene, band, files)
    facts = _facts_of(band, files)
    as_they_are = source.factor == 1 and source.summand == 0
    if facts.dtype not in _WHOLE_NUMBERS and as_they_are and not source.is_scaled:
        raise RasterError(
            f"Scene {scene.id}: {plain(source.href)} holds {facts.dtype}; only whole numbers "
            f"({', '.join(_WHOLE_NUMBERS)}, reflectance x 10000) can be composited, or numbers whose scale "
            "is declared: convert it, or index it with --scale."
        )
    is_count = scene.product.kind == "reflectance" and as_they_are
    declared = {n for n in (source.nodata, facts.nodata) if n is not None}
    if not declared and scene.product.nodata is not None:
        declared = {float(scene.product.nodata)}
    stored = (stored_nodata(number, np.dtype(facts.dtype)) for number in declared)
    return Numbers(
        nodata=tuple(sorted({number for number in stored if number is not None})),
        floor=1.0 if is_count else -np.inf,  # -9999 without a tag is no reflectance
        factor=source.factor,
        summand=source.summand + decided.offset,
    )


def _harmonization(scene: Scene, files: RasterFiles) -> Harmonization:
    """What is added to the scene's numbers, checked against a sample of its red band where in doubt."""
    if not scene.product.baseline_offset:
        return Harmonization(0, f"{scene.product.name}: no offset by processing baseline")
    red = scene.bands.get("red")
    baseline = processing_baseline(scene.properties)
    if red is None or baseline is None or baseline < OFFSET_BASELINE:
        return harmonize(scene.properties)
    shape = tuple(min(_SAMPLE, side) for side in files.facts(red.href).grid.shape)
    sample = files.read(red.href, lambda dataset: dataset.read(red.band, out_shape=shape))
    return harmonize(scene.properties, sample)


@dataclass(frozen=True)
class Observation:
    """Scenes that together are one look at the ground: of one day, one product, one platform."""

    day: str
    layers: tuple[Layer, ...]

    @property
    def ordinal(self) -> int:
        """Day of the calendar, counted from 1; 0 where it is not known."""
        return 0 if self.day == UNDATED else date.fromisoformat(self.day).toordinal()

    @property
    def number(self) -> int:
        """Days since 1970-01-01; 0 where the day is not known, or none of the 65,535 that follow."""
        days = self.ordinal - _EPOCH
        return days if 0 <= days <= 65_535 else 0

    def reaches(self, reader: WindowReader, block: Block) -> bool:
        """Whether any of its scenes may show something of a block."""
        return any(
            reader.reaches(next(iter(layer.bands.values()))[0].href, block) for layer in self.layers
        )

    def look(
        self, reader: WindowReader, block: Block, grow: float | None, reach: int,
        missed: Missed, values: NDArray[np.uint16],
    ) -> NDArray[np.uint8] | None:  # fmt: skip
        """Fill `values` (bands, rows, cols) with the block's clear measurements, 0 where there are none.

        A pixel is taken whole from the first scene that shows it clearly. grow: metres by which
        unclear areas grow; None leaves it to each product. reach: 0, or the distance in pixels up to which the
        distance to the nearest unclear pixel is wanted; then it is returned (rows, cols).
        """
        far = np.zeros(values.shape[1:], np.uint8) if reach else None
        seen: NDArray[np.bool_] | None = None
        for layer in self.layers:
            image = values if seen is None else np.empty_like(values)
            try:
                view = _look(layer, reader, block, grow, reach, image)
            except FailedReadError as error:
                missed(layer.scene.id, error, block)
                view = None
            if view is None:
                continue
            visible, distance = view
            if seen is None:
                seen = visible
            else:
                visible &= ~seen
                np.copyto(values, image, where=visible)
                seen |= visible
            if far is not None and distance is not None:
                np.copyto(far, distance, where=visible)
        if seen is None:
            values[...] = 0
        return far


def _look(
    layer: Layer, reader: WindowReader, block: Block, grow: float | None, reach: int,
    image: NDArray[np.uint16],
) -> tuple[NDArray[np.bool_], NDArray[np.uint8] | None] | None:  # fmt: skip
    """Fill `image` with a scene's numbers, 0 where it shows nothing clearly, and say where it does.

    None if it shows nothing at all; then the image is not to be used.
    The masks are read first: where they hide the whole block, its bands are not read.
    """
    visible, distance = _clear(layer, reader, block, grow, reach)
    for band in layer.shapes:
        visible &= reader.has_data(band, block)
    if not visible.any():
        return None
    for part, (band, numbers) in zip(image, layer.bands.values(), strict=True):
        reader.measure(band, numbers, block, part)
    if layer.scene.product.kind == "photo":
        visible &= (image != 0).any(axis=0)
        for part, (_, numbers) in zip(image, layer.bands.values(), strict=True):
            # Where other bands have a colour, the tag's number is one too; 0 is nodata in a composite.
            part[part == 0] = max(numbers.nodata[0] if numbers.nodata else 1, 1)
    hide(image, visible)
    return (visible, distance) if visible.any() else None


def _clear(
    layer: Layer, reader: WindowReader, block: Block, grow: float | None, reach: int
) -> tuple[NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Where nothing hides the ground, and how far the nearest hidden pixel is."""
    rows, cols = block
    shape = rows.stop - rows.start, cols.stop - cols.start
    around = (
        slice(rows.start - reach, rows.stop + reach),
        slice(cols.start - reach, cols.stop + reach),
    )
    found = layer.views(reader, around, grow)
    if found is None:
        return np.ones(shape, np.bool_), np.full(shape, reach, np.uint8) if reach else None
    if not reach:
        return np.equal(found, CLEAR), None
    inner = slice(reach, -reach), slice(reach, -reach)
    return np.equal(found[inner], CLEAR), cloud_distance(found == HIDDEN, reach)[inner]
