"""Guards: which changes of class are not counted, and why.

Two maps of one place differ where the land changed, and wherever either map is wrong. Each guard looks at the
pixels whose class differs and takes out those that have another explanation. They apply in this order, and
a pixel is put down to the first that takes it:

season        the days differ by more than a tolerance, and the pair may be the time of year (crops and bare soil)
plausibility  the pair does not happen within a few years (town to forest)
border        the images are shifted: before, the new class lies within reach, and so does the old one after
confidence    the product of both confidences is too low, or what both probability maps say of the change
spectral      the images show no change of the surface: less than 50 % evidence
area          the patch is below the minimum mapping unit: it goes into the neighbour with the longest border

All but plausibility treat both dates alike: swapping the maps takes out the same pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landcover.errors import SettingsError
from landcover.transitions import Pairs, pair_codes

Mask = NDArray[np.bool_]
Percent = NDArray[np.uint8]
Codes = NDArray[np.uint8]

GUARDS = ("season", "plausibility", "border", "confidence", "spectral", "area")
"""Names, in the order in which they apply."""
COUNTED = len(GUARDS) + 1
"""Verdict on a change that counts; 1 to 6 are the guards that took it out, 0 is no change of class."""
_EVEN = 50


def check_guards(names: Sequence[str]) -> None:
    """Raise SettingsError for a name that is no guard."""
    if unknown := sorted(set(names) - set(GUARDS)):
        raise SettingsError(
            f"There is no guard '{', '.join(unknown)}'; the guards are {', '.join(GUARDS)}."
        )


@dataclass(frozen=True)
class Maps:
    """Some rows of both maps, each (rows, cols)."""

    before: Codes
    after: Codes
    confidence: tuple[Percent, Percent] | None
    """Of both maps, percent, 0 where unknown."""
    evidence: Percent | None
    """Of spectral change, percent, 0 where unknown."""
    chance: Percent | None = None
    """Of the change of class, from the probabilities of all classes, percent, 0 where unknown."""

    @property
    def joint(self) -> Percent:
        """How sure the classes are of the change: `chance`, else the product of both confidences, else 100 percent."""
        if self.chance is None:
            return self._product
        return np.where(self.chance > 0, self.chance, self._product)

    @property
    def _product(self) -> Percent:
        """Confidence that both classes are right, percent; 100 where nothing is known."""
        if self.confidence is None:
            return np.full(self.before.shape, 100, np.uint8)
        one, other = (np.where(c > 0, c, 100).astype(np.uint16) for c in self.confidence)
        return np.asarray(np.clip((one * other + 50) // 100, 1, 100), np.uint8)

    @property
    def sureness(self) -> Percent:
        """Confidence that the pixel changed as the maps say: joint confidence x evidence, percent."""
        joint = self.joint
        if self.evidence is None:
            return joint
        seen = np.where(self.evidence > 0, self.evidence, 100).astype(np.uint16)
        return np.asarray(np.clip((joint * seen + 50) // 100, 1, 100), np.uint8)

    def cut(self, rows: slice) -> "Maps":
        """Some of the rows."""
        sure = self.confidence and (self.confidence[0][rows], self.confidence[1][rows])
        seen, chance = (None if a is None else a[rows] for a in (self.evidence, self.chance))
        return Maps(self.before[rows], self.after[rows], sure or None, seen, chance)


@dataclass(frozen=True)
class Guards:
    """The settings of the guards that look at single pixels and what is around them."""

    seasonal: Mask | None
    """Pair codes that are not counted because the seasons differ, (65536,); None where they do not."""
    implausible: Mask | None
    """Pair codes that cannot be, (65536,); None to believe all."""
    reach: int
    """Pixels by which the images may be shifted; 0 for none."""
    least_confidence: float
    """Percent, 0 for none."""
    spectral: bool
    """Whether the images must show the change."""

    @property
    def halo(self) -> int:
        """Rows around a pixel on which its verdict depends."""
        return self.reach

    def verdicts(self, maps: Maps) -> NDArray[np.uint8]:
        """For each pixel 0, COUNTED, or the place from 1 in GUARDS of what took it out: (rows, cols)."""
        pairs = pair_codes(maps.before, maps.after)
        differs = (pairs > 0) & (maps.before != maps.after)
        verdict = np.where(differs, np.uint8(COUNTED), np.uint8(0))
        for number, taken in enumerate(self._taken(maps, pairs), start=1):
            if taken is not None:
                verdict[taken & (verdict == COUNTED)] = number
        return verdict

    def _taken(self, maps: Maps, pairs: Pairs) -> tuple[Mask | None, ...]:
        """What each guard would take out by itself, in the order of GUARDS; None where it is off."""
        seen = maps.evidence
        return (
            None if self.seasonal is None else self.seasonal[pairs],
            None if self.implausible is None else self.implausible[pairs],
            explained_by_shift(maps.before, maps.after, self.reach) if self.reach else None,
            maps.joint < self.least_confidence if self.least_confidence else None,
            (seen > 0) & (seen < _EVEN) if self.spectral and seen is not None else None,
        )


def surface_changes(
    maps: Maps, verdicts: NDArray[np.uint8], surface_codes: Codes
) -> NDArray[np.uint8]:
    """Class code where the surface changed though no change of class is believed, 0 elsewhere: (rows, cols).

    surface_codes: code of each class whose surface counts, 0 for others, (256,): a building site on built-up
    land. The class after decides, else the one before. What a shift explains is left out; what a season may
    explain is not, as the evidence is measured against all land, which went through the same season.
    """
    if maps.evidence is None:
        return np.zeros(maps.before.shape, np.uint8)
    after, before = surface_codes[maps.after], surface_codes[maps.before]
    known = (maps.before > 0) & (maps.after > 0) & (maps.evidence >= _EVEN)
    names = ("season", "plausibility", "confidence")
    free = np.isin(verdicts, [0, *(GUARDS.index(name) + 1 for name in names)])
    return np.asarray(np.where(known & free, np.where(after > 0, after, before), 0), np.uint8)


def explained_by_shift(before: Codes, after: Codes, reach: int) -> Mask:
    """Whether a pixel's change of class is what a shift by up to `reach` pixels would make: (rows, cols).

    So it is where the class after lies within reach in the map before, and the class before in the map
    after. The inside of a patch that is new has none of its class around it before, and stays.
    """
    return np.asarray(_explained(before, after, reach))


@njit(cache=True, nogil=True)
def _explained(before, after, reach):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    rows, cols = before.shape
    found = np.zeros((rows, cols), np.bool_)
    for r in range(rows):
        for c in range(cols):
            old, new = before[r, c], after[r, c]
            if old == new or old == 0 or new == 0:  # noqa: PLR1714 -- numba
                continue
            had, has = False, False
            for y in range(max(0, r - reach), min(rows, r + reach + 1)):
                for x in range(max(0, c - reach), min(cols, c + reach + 1)):
                    had = had or before[y, x] == new
                    has = has or after[y, x] == old
            found[r, c] = had and has
    return found
