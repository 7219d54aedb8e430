"""Class trajectories: the most likely sequence of classes of each pixel, given maps of several dates.

Maps of single dates contradict each other where nothing has changed. A hidden Markov model weighs how
sure each map is against how rarely one class turns into another (Viterbi 1967; for land cover
Abercrombie and Friedl 2016, "Improving the consistency of multitemporal land cover maps using a hidden
Markov model").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import SettingsError
from landcover.legend import NODATA

Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]

_LEAST = 1e-6
"""Probability of what is said never to happen, so that a map can still overrule it."""


@dataclass(frozen=True)
class Transitions:
    """How likely a class is to be another one at the next date."""

    codes: tuple[int, ...]
    """Class codes in the order of rows and columns."""
    probabilities: Floats
    """(from, to); rows sum to 1."""

    def __post_init__(self) -> None:
        table, count = self.probabilities, len(self.codes)
        if table.shape != (count, count) or not np.isfinite(table).all() or (table < 0).any():
            raise SettingsError(
                f"The transition table of {count} classes has the shape {table.shape}; it needs a row and a "
                "column for each, of numbers from 0 on."
            )
        if not np.allclose(table.sum(axis=1), 1):
            raise SettingsError("The rows of the transition table must each sum to 1.")

    @classmethod
    def staying(cls, codes: Sequence[int], stay: float = 0.95) -> "Transitions":
        """Every class stays with one probability and becomes any other with equal ones."""
        count = len(codes)
        if count == 1:
            return cls(tuple(codes), np.ones((1, 1)))
        if not 0 < stay < 1:
            raise SettingsError(f"The probability to stay is {stay:g}; give one between 0 and 1.")
        table = np.full((count, count), (1 - stay) / (count - 1))
        np.fill_diagonal(table, stay)
        return cls(tuple(codes), table)


def most_likely(
    classes: Codes, confidence: NDArray[np.uint8] | None, transitions: Transitions
) -> Codes:
    """The most likely class of each pixel at each date, given all of them.

    classes: codes (dates, rows, cols) in the order of time, 0 for no observation. confidence: percent, the same
    shape: the probability that a map is right, the rest is spread evenly over the other classes; None takes 80.
    Dates without an observation get the class that fits the others; a pixel without any stays 0. Of equally
    likely sequences the one that changes later, then the class that comes first in the table.
    Raises SettingsError for a code that the table lacks.
    """
    positions = np.full(256, -1, np.int16)
    positions[NODATA] = len(transitions.codes)
    positions[list(transitions.codes)] = np.arange(len(transitions.codes))
    unknown = np.unique(classes[positions[classes] < 0])
    if len(unknown):
        raise SettingsError(
            f"The maps hold the codes {unknown.tolist()}, which the transition table lacks (it has "
            f"{list(transitions.codes)})."
        )
    sure = np.full((1, 1, 1), 80, np.uint8) if confidence is None else confidence
    log = np.log(np.maximum(transitions.probabilities, _LEAST))
    codes = np.array([*transitions.codes, NODATA], np.uint8)
    found = np.zeros_like(classes)
    _viterbi(np.ascontiguousarray(classes), positions, sure, log, codes, found)
    return found


def stable_classes(trajectory: Codes) -> Codes:
    """The class of pixels that keep one at all dates, 0 elsewhere: (dates, rows, cols) -> (rows, cols)."""
    first = trajectory[0]
    return np.where((trajectory == first).all(axis=0), first, NODATA).astype(np.uint8)


def last_change(trajectory: Codes) -> NDArray[np.uint16]:
    """Number of the first date, from 1, at which a pixel has its last class; 0 where it never changed."""
    dates = len(trajectory)
    differs = trajectory[1:] != trajectory[:-1]  # (dates - 1, rows, cols)
    latest = dates - np.argmax(differs[::-1], axis=0)
    return np.where(differs.any(axis=0), latest, 0).astype(np.uint16)


@njit(cache=True, nogil=True)
def _viterbi(classes, positions, sure, log, codes, found):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    dates, rows, cols = classes.shape
    score, new = np.empty(len(log)), np.empty(len(log))
    came = np.empty((dates, len(log)), np.int64)
    places, right = np.empty(dates, np.int64), np.empty(dates)
    is_known = sure.size > 1
    for r in range(rows):
        for c in range(cols):
            for t in range(dates):
                places[t] = positions[classes[t, r, c]]
                percent = sure[t, r, c] if is_known else sure[0, 0, 0]
                right[t] = min(max(percent / 100.0, 1.0 / len(log)), 0.999)
            if places.min() == len(log):  # never seen
                continue
            best = _forward(places, right, log, score, new, came)
            for t in range(dates - 1, -1, -1):
                found[t, r, c] = codes[best]
                best = came[t, best]


@njit(cache=True, nogil=True)
def _forward(places, right, log, score, new, came):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Fill in where each class came from at each date; give the best last class."""
    count = len(log)
    score[:], came[0] = 0.0, 0
    for t in range(len(places)):
        if t:
            _step(score, log, new, came[t])
            score[:] = new
        if places[t] < count and count > 1:
            for k in range(count):
                score[k] += np.log(right[t] if k == places[t] else (1 - right[t]) / (count - 1))
    return np.argmax(score)


@njit(cache=True, nogil=True, inline="always")
def _step(score, log, new, came):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Best way into each class; of equal ones that from the class itself, then from the first."""
    for k in range(len(log)):
        best, source = score[k] + log[k, k], k
        for j in range(len(log)):
            value = score[j] + log[j, k]
            if value > best:
                best, source = value, j
        new[k], came[k] = best, source
