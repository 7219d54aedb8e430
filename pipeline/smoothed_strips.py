"""A class raster smoothed while it is read, strip by strip."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from landcover.errors import SettingsError
from landcover.legend import Legend
from landcover.smoothing import Step, halo, parse_steps, smooth
from pipeline.class_polygons import Pixels

_CERTAIN = 100
"""Confidence of pixels where none is known: then all votes of a tie weigh the same."""
_MOST_CLASSES = 255


def class_steps(texts: Sequence[str]) -> tuple[Step, ...]:
    """Steps as `parse_steps` reads them; raises SettingsError for the guided one, which needs probabilities."""
    steps = parse_steps(texts)
    if any(step.name == "guided" for step in steps):
        raise SettingsError(
            "The smoothing step guided works on class probabilities, which a class raster lacks; give it to "
            "landcover segment or landcover run."
        )
    return steps


def smoothed_strips(
    read: Callable[[], Iterable[Pixels]], steps: Sequence[Step], legend: Legend
) -> Callable[[], Iterator[Pixels]]:
    """A way to read a raster smoothed: the strips of `read`, with classes and confidence as after the steps.

    legend: of the raster; ties go to the class that comes first in it. The result does not depend on how
    the raster is cut; some rows around a strip are in memory. Raises SettingsError for more than 255 classes.
    """
    codes = [c.code for c in legend.classes]
    if len(codes) > _MOST_CLASSES:
        raise SettingsError(
            f"The legend has {len(codes):,} classes and smoothing takes {_MOST_CLASSES} at most; group them by "
            "a legend of fewer."
        )
    return lambda: _smoothed(read(), tuple(steps), np.array([0, *codes]))


def _smoothed(
    given: Iterable[Pixels], steps: Sequence[Step], codes: NDArray[np.integer]
) -> Iterator[Pixels]:
    reach, held, done = halo(steps), list[Pixels](), 0
    for pixels in given:
        held.append(pixels)
        while held[done].rows.stop + reach <= pixels.rows.stop:
            yield _one(held, done, reach, steps, codes)
            done += 1
        while held[0].rows.stop <= held[done].rows.start - reach:
            held.pop(0)
            done -= 1
    for number in range(done, len(held)):
        yield _one(held, number, reach, steps, codes)


def _one(
    held: Sequence[Pixels],
    number: int,
    reach: int,
    steps: Sequence[Step],
    codes: NDArray[np.integer],
) -> Pixels:
    """A strip, smoothed with the rows around it that are there."""
    pixels, top = held[number], held[0].rows.start
    rows = slice(max(0, pixels.rows.start - reach - top), pixels.rows.stop + reach - top)
    old = np.concatenate([one.codes for one in held])[rows]
    channels = _channels(codes)[old]
    sure = _confidence(held, channels.shape[1])[rows]
    layers = {"classes": channels[None], "confidence": sure[None]}
    new = smooth(steps, layers, range(1, len(codes)))
    start = pixels.rows.start - top - rows.start
    inner = np.s_[0, start : start + len(pixels.codes)]
    return replace(
        pixels,
        codes=codes[new["classes"][inner]].astype(pixels.codes.dtype),
        confidence=None if pixels.confidence is None else new["confidence"][inner],
    )


def _channels(codes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Place in the legend, from 1, by code."""
    table = np.zeros(1 << 16, np.uint8)
    table[codes] = np.arange(len(codes))
    return table


def _confidence(held: Sequence[Pixels], width: int) -> NDArray[np.uint8]:
    return np.concatenate(
        [
            np.full((len(one.codes), width), _CERTAIN, np.uint8)
            if one.confidence is None
            else one.confidence
            for one in held
        ]
    )
