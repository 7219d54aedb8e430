"""From which class to which: the transition matrix of two maps, and what it says of each class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landcover.area import PixelAreas, Tally
from landcover.errors import LegendError
from landcover.legend import NODATA, Legend, shown_codes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Pairs = NDArray[np.uint16]

_BASE = 256
PAIRS = _BASE * _BASE
"""Number of pair codes, 0 among them."""


def pair_codes(before: NDArray[np.integer], after: NDArray[np.integer]) -> Pairs:
    """One number for each pixel: code before x 256 + code after; 0 where either is nodata."""
    pairs = before.astype(np.uint16) * np.uint16(_BASE) + after.astype(np.uint16)
    return np.where((before == NODATA) | (after == NODATA), np.uint16(0), pairs)


def pair_of(code: int) -> tuple[int, int]:
    """Class code before and after of a pair code."""
    return divmod(int(code), _BASE)


def check_pairable(legend: Legend) -> None:
    """Raise LegendError for class codes above 255, which make no pair of two bytes."""
    if too_large := [code for code in legend.codes if code >= _BASE]:
        raise LegendError(
            f"The legend has the class codes {shown_codes(too_large)}; change needs codes up to 255: give "
            "a legend with a column `code` of smaller numbers."
        )


@dataclass(frozen=True)
class TransitionMatrix:
    """Pixels and area by class before (rows) and after (columns), in legend order.

    Whole numbers, so sums are the same for any cutting of the raster.
    """

    legend: Legend
    pixels: Ints
    """(classes, classes)."""
    units: Ints
    """Area in units of `PixelAreas.quantum`, (classes, classes)."""

    @classmethod
    def of(cls, tally: Tally, legend: Legend) -> "TransitionMatrix":
        """From a tally by pair code. Raises LegendError for codes outside the legend."""
        check_pairable(legend)
        codes = np.array(legend.codes)
        here = np.ix_(codes, codes)
        square = (_BASE, _BASE)
        pixels = tally.pixels.reshape(square)[here]
        if pixels.sum() != tally.pixels[1:].sum():
            found = {c for pair in np.flatnonzero(tally.pixels[1:]) + 1 for c in pair_of(int(pair))}
            raise LegendError(
                f"The maps hold the codes {shown_codes(found)}; the legend has {shown_codes(codes)}."
            )
        return cls(legend, pixels, tally.units.reshape(square)[here])

    @property
    def transposed(self) -> "TransitionMatrix":
        """That of the maps swapped."""
        return TransitionMatrix(self.legend, self.pixels.T, self.units.T)

    @property
    def before(self) -> Ints:
        """Area of each class before, in units."""
        return np.asarray(self.units.sum(axis=1))

    @property
    def after(self) -> Ints:
        """Area of each class after, in units."""
        return np.asarray(self.units.sum(axis=0))

    @property
    def persistence(self) -> Ints:
        """Area of each class that stays, in units."""
        return np.diagonal(self.units).copy()

    @property
    def changed(self) -> int:
        """Area of all changes, in units."""
        return int(self.units.sum() - np.trace(self.units))


@dataclass(frozen=True)
class ClassChange:
    """What a class won and lost, in hectares (Pontius, Shusas and McEachern 2004, table 2)."""

    class_code: int
    class_name: str
    before_ha: float
    """In the first map."""
    after_ha: float
    """In the second map, as it says: guards do not change it."""
    gain_ha: float
    loss_ha: float
    net_ha: float
    """Gain less loss."""
    swap_ha: float
    """Twice the smaller of gain and loss: lost in one place and won in another."""
    persistence_ha: float
    """Before less loss."""


def class_changes(
    mapped: TransitionMatrix, counted: TransitionMatrix, areas: PixelAreas
) -> list[ClassChange]:
    """Gains, losses, net change and swap of each class, in legend order.

    mapped: all pixels of the two maps. counted: those whose change counts (its diagonal is not used).
    Each figure is one rounding of a whole number of units.
    """
    gone = counted.before - counted.persistence
    come = counted.after - counted.persistence

    def ha(units: Ints) -> Floats:
        return areas.hectares(units)

    columns = (
        ha(mapped.before), ha(mapped.after), ha(come), ha(gone), ha(come - gone),
        ha(2 * np.minimum(come, gone)), ha(mapped.before - gone),
    )  # fmt: skip
    return [
        ClassChange(c.code, c.name, *(float(column[i]) for column in columns))
        for i, c in enumerate(mapped.legend.classes)
    ]
