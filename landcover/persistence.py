"""Whether a change lasts: candidate when first seen, confirmed by more observations, or rejected.

A map of one date errs here and there, so the difference of two maps holds far more change than there is.
What is seen again is believed, what reverts is flicker. The state of a region is a few bytes a pixel
and is moved on by one map at a time; equal maps in equal order give an equal state.
"""

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import SettingsError
from landcover.legend import NODATA

Codes = NDArray[np.uint8]
Numbers = NDArray[np.uint16]

UNCHANGED, CANDIDATE, CONFIRMED, REJECTED = 0, 1, 2, 3
"""Values of `Persistence.status`; REJECTED is flicker: it was a candidate and has reverted."""
_LONGEST = 15


@dataclass(frozen=True)
class Rule:
    """When a change is believed."""

    needed: int = 2
    """Observations that must show it."""
    among: int = 3
    """Of so many, counted from the first that shows it."""

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.among <= _LONGEST:
            raise SettingsError(
                f"A change confirmed by {self.needed} of {self.among} observations makes no sense; give 1 "
                f"to {_LONGEST} of as many or more, at most {_LONGEST}."
            )


@dataclass(frozen=True)
class Persistence:
    """What is known of each pixel, (rows, cols) each."""

    reference: Codes
    """Class that the pixel is held to be of; 0 until one was seen."""
    candidate: Codes
    """Class that it seems to have become, 0 for none."""
    first: Numbers
    """Number of the map that first showed the change, from 1; 0 for none."""
    history: Numbers
    """Valid observations since then, newest in the lowest bit: 1 where it differed from the reference."""
    status: Codes
    """UNCHANGED, CANDIDATE, CONFIRMED (by the last map) or REJECTED (by the last map)."""
    since: Numbers
    """Number of the map that first showed what the reference is, if that was a change; else 0."""

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "Persistence":
        """Before any map."""
        codes, numbers = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
        return cls(codes, codes.copy(), numbers, numbers.copy(), codes.copy(), numbers.copy())

    def seen(self, classes: Codes, number: int, rule: Rule) -> "Persistence":
        """The state after one more map.

        classes: codes (rows, cols), 0 where there is no observation, which changes nothing. number: that of
        the map, from 1, higher than those before.

        The first class seen is the reference. A pixel that differs from it becomes a candidate; it is
        confirmed once `rule.needed` observations differ, and takes the class that it showed last as
        reference from the next map on; it is rejected once so many agree with the reference that the rule
        can no longer hold.
        """
        if classes.shape != self.status.shape:
            raise SettingsError(
                f"The map has the shape {classes.shape} and the state {self.status.shape}; both must cover the "
                "same pixels."
            )
        after = self._settled()
        _see(
            np.ascontiguousarray(classes), after.reference, after.candidate, after.first, after.history,
            after.status, number, rule.needed, rule.among,
        )  # fmt: skip
        return after

    def compared(
        self, before: Codes, after: Codes, baseline: int, number: int, rule: Rule
    ) -> "Persistence":
        """The state after one more comparison, with a baseline that may be another one each time.

        before, after: classes (rows, cols) in the baseline and in the map of that number, equal where no change
        counts, 0 for no observation. baseline: number of the map that is the baseline.

        The baseline tells the reference, but where a change was confirmed that is younger than it. A candidate
        that is younger than the baseline has reverted where the map is as the baseline, whatever the class: fields
        are green in one month and bare in another. What is older than the baseline is judged by its class, as
        the baseline has changed too. One and the same baseline all along: as `seen`.
        """
        state = self._settled()
        is_open, is_younger = state.status == CANDIDATE, state.since > baseline
        told = (before != NODATA) & ~is_open & ~is_younger
        state = replace(
            state,
            reference=np.where(told, before, state.reference),
            since=np.where(told, np.uint16(0), state.since),
        )
        reverted = is_open & ~is_younger & (state.first > baseline) & (before == after)
        classes = np.where(reverted, state.reference, after)
        known = (before != NODATA) & (after != NODATA)
        return state.seen(np.where(known, classes, np.uint8(NODATA)), number, rule)

    def _settled(self) -> "Persistence":
        """A copy in which the news of the last map are old: what was confirmed is the reference."""
        confirmed, told = self.status == CONFIRMED, self.status >= CONFIRMED
        return Persistence(
            np.where(confirmed, self.candidate, self.reference),
            np.where(told, np.uint8(0), self.candidate),
            np.where(told, np.uint16(0), self.first),
            np.where(told, np.uint16(0), self.history),
            np.where(told, np.uint8(UNCHANGED), self.status),
            np.where(confirmed, self.first, self.since),
        )


@njit(cache=True, nogil=True)
def _see(classes, reference, candidate, first, history, status, number, needed, among):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    for r in range(classes.shape[0]):
        for c in range(classes.shape[1]):
            seen = classes[r, c]
            if seen != NODATA and reference[r, c] == NODATA:
                reference[r, c] = seen
            differs = seen != reference[r, c]
            if seen == NODATA or (status[r, c] == UNCHANGED and not differs):
                continue
            if status[r, c] == UNCHANGED:
                first[r, c] = number
            if differs:
                candidate[r, c] = seen
            history[r, c] = (np.int64(history[r, c]) << 1) | differs
            status[r, c] = _judged(np.int64(history[r, c]), needed, among)


@njit(cache=True, nogil=True, inline="always")
def _judged(history, needed, among):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    shown, hidden = 0, 0
    while history:
        shown += history & 1
        hidden += 1 - (history & 1)
        history >>= 1
    if shown >= needed:
        return CONFIRMED
    return REJECTED if hidden > among - needed else CANDIDATE
