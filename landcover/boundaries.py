"""How well the borders of a map follow those of reference data: boundary F1 and boundary IoU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from landcover.errors import LegendError, SettingsError
from landcover.legend import NODATA

_FIELDS = 6
_MAPPED, _MAPPED_NEAR, _REFERENCE, _REFERENCE_NEAR, _BOTH, _EITHER = range(_FIELDS)

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixels along the borders of each class, on the map and in the reference.

    A border pixel of a class has one of its four neighbours in another class. Where one raster has
    code 0 both count as unknown, and so does all beyond the block: neither makes a border, and a
    pixel is counted only where everything within the tolerance and one pixel more is known, so that
    no border is missed or matched for lack of data. Counts of blocks add up.
    """

    codes: tuple[int, ...]
    """Class codes, the last axis of `counts`."""
    tolerances: tuple[float, ...]
    """Pixels, 1 or more, the middle axis of `counts`."""
    counts: NDArray[np.int64]
    """(6, tolerances, classes): border pixels of the map, those of them near a border of the reference,
    border pixels of the reference, those near a border of the map; pixels within the tolerance
    inside the border on both, and on either."""

    @classmethod
    def empty(cls, codes: Sequence[int], tolerances: Sequence[float]) -> "BoundaryCounts":
        """Counts in which nothing is counted yet. Raises SettingsError for a tolerance below 1."""
        check_tolerances(tolerances)
        shape = (_FIELDS, len(tolerances), len(codes))
        return cls(tuple(codes), tuple(tolerances), np.zeros(shape, np.int64))

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        if (self.codes, self.tolerances) != (other.codes, other.tolerances):
            raise LegendError(
                "Border counts of other classes or tolerances do not add up; use one legend."
            )
        return BoundaryCounts(self.codes, self.tolerances, self.counts + other.counts)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Boundary F1, (tolerances, classes); NaN where neither raster has a border of the class.

        Harmonic mean of the share of mapped border pixels within the tolerance of a reference
        border, and of the share of reference ones within it of a mapped border (Csurka et al. 2013,
        section 3), of all pixels together, not image by image. NaN also where the only counted
        borders, of one raster, are near borders of the other that are too close to what is unknown.
        """
        c = self.counts
        precision = _ratio(c[_MAPPED_NEAR], c[_MAPPED])
        recall = _ratio(c[_REFERENCE_NEAR], c[_REFERENCE])
        total = precision + recall
        score = np.where(total == 0, 0, np.nan)
        np.divide(2 * precision * recall, total, out=score, where=total > 0)
        # A border on one side only, that nothing on the other is near: it is wrong, not unknown.
        alone = np.isnan(total) & (c[_MAPPED] + c[_REFERENCE] > 0)
        score[alone & (c[_MAPPED_NEAR] + c[_REFERENCE_NEAR] == 0)] = 0
        return score

    @property
    def iou(self) -> NDArray[np.float64]:
        """Boundary IoU (Cheng et al. 2021, eq. 2), (tolerances, classes); NaN where there is no border.

        The IoU of the pixels of the class that lie within the tolerance of another class.
        """
        return _ratio(self.counts[_BOTH], self.counts[_EITHER])


def count_boundaries(
    mapped: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    codes: Sequence[int],
    tolerances: Sequence[float],
    groups: NDArray[np.integer] | None = None,
    number: int = 1,
) -> list[BoundaryCounts]:
    """Count the border pixels of a block, for each group of its pixels.

    mapped, reference: class codes (rows, cols), 0 unknown. groups: group of each pixel, (rows, cols),
    0 to number - 1; pixels of group -1 are not counted, but seen by their neighbours. To count a
    raster in parts, give each a rim of the largest tolerance and one pixel more, of group -1.
    Distances are Euclidean, between pixel centres. Raises SettingsError for a tolerance below 1.
    """
    check_tolerances(tolerances)
    group = np.zeros(mapped.shape, np.int64) if groups is None else groups
    known = (mapped != NODATA) & (reference != NODATA)
    sure = [_far_from_unknown(known, t + 1) & (group >= 0) for t in tolerances]
    table = np.zeros((number, _FIELDS, len(tolerances), len(codes)), np.int64)
    for i, code in enumerate(codes):
        ours, theirs = (known & (raster == code) for raster in (mapped, reference))
        if ours.any() or theirs.any():
            places = _Places.of(ours, theirs, known)
            for j, tolerance in enumerate(tolerances):
                for field, flags in enumerate(places.within(tolerance)):
                    counted = group[flags & sure[j]]
                    table[:, field, j, i] = np.bincount(counted, minlength=number)
    return [BoundaryCounts(tuple(codes), tuple(tolerances), part) for part in table]


def check_tolerances(tolerances: Sequence[float]) -> None:
    """Raise SettingsError where a tolerance is no number of pixels from 1 to 1000."""
    for tolerance in tolerances:
        if not 1 <= tolerance <= 1000:
            raise SettingsError(
                f"The border tolerance is {tolerance:g} pixels; give numbers from 1 to 1000."
            )


@dataclass(frozen=True)
class _Places:
    """Where the pixels of one class are, on the map and in the reference, and how far from borders."""

    ours: Flags
    theirs: Flags
    our_depth: NDArray[np.float64]
    """Distance to the nearest mapped pixel of another class."""
    their_depth: NDArray[np.float64]
    to_ours: NDArray[np.float64]
    """Distance to the nearest border pixel of the map."""
    to_theirs: NDArray[np.float64]

    @classmethod
    def of(cls, ours: Flags, theirs: Flags, known: Flags) -> "_Places":
        our_depth, their_depth = _distance(known & ~ours), _distance(known & ~theirs)
        to_ours, to_theirs = (
            _distance(ours & (our_depth <= 1)),
            _distance(theirs & (their_depth <= 1)),
        )
        return cls(ours, theirs, our_depth, their_depth, to_ours, to_theirs)

    def within(self, tolerance: float) -> tuple[Flags, ...]:
        """The pixels of each field of the counts."""
        our_border, their_border = self.to_ours == 0, self.to_theirs == 0
        our_rim = self.ours & (self.our_depth <= tolerance)
        their_rim = self.theirs & (self.their_depth <= tolerance)
        return (
            our_border, our_border & (self.to_theirs <= tolerance),
            their_border, their_border & (self.to_ours <= tolerance),
            our_rim & their_rim, our_rim | their_rim,
        )  # fmt: skip


def _distance(places: Flags) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest of some places; infinite where there are none."""
    if not places.any():
        return np.full(places.shape, np.inf)
    return np.asarray(distance_transform_edt(~places))


def _far_from_unknown(known: Flags, distance: float) -> Flags:
    framed = np.pad(known, 1)
    return np.asarray(distance_transform_edt(framed)[1:-1, 1:-1] > distance)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    share = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
