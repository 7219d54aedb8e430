"""Regions of a class raster: connected pixels of one class, found in strips of rows."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Strip:
    """Some rows of a class raster whose pieces of regions are numbered."""

    framed: Labels
    """Number of the piece of each pixel from 1, 0 for nodata; a frame of one pixel around."""
    codes: NDArray[np.integer]
    """Class code of each piece; pieces are in raster order of their first pixel."""
    firsts: Ints
    """First pixel of each piece: row of the strip x columns + column."""

    @property
    def labels(self) -> Labels:
        """The numbers without the frame, (rows, cols)."""
        return self.framed[1:-1, 1:-1]


def label(classes: NDArray[np.integer]) -> Strip:
    """Number the 4-connected pieces of equal class in a strip (rows, cols); 0 is nodata."""
    height, width = classes.shape
    framed = np.zeros((height + 2, width + 2), np.int32)
    codes, firsts = _label(np.ascontiguousarray(classes), framed)
    return Strip(framed, codes, firsts)


class RegionFinder:
    """Joins the pieces of consecutive strips, from the top to the bottom of a raster, to regions."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._parent = np.zeros(1, np.int32)
        self._codes: list[NDArray[np.integer]] = []
        self._firsts: list[Ints] = []
        self._bases = [1]
        self._rows = 0
        self._seam = np.zeros(width, np.int32), np.zeros(width, np.uint16)

    def add(self, strip: Strip) -> int:
        """Take the next strip; gives what it adds to the numbers of its pieces to make them unique."""
        base, count = self._bases[-1], len(strip.codes)
        if base + count > len(self._parent):
            size = max(base + count, 2 * len(self._parent))
            self._parent = np.concatenate(
                [self._parent, np.zeros(size - len(self._parent), np.int32)]
            )
        self._parent[base : base + count] = np.arange(base, base + count)
        top = strip.labels[0]
        _join_seam(self._parent, *self._seam, top, strip.codes, np.int32(base - 1))
        bottom = strip.labels[-1]
        codes = np.concatenate([np.zeros(1, strip.codes.dtype), strip.codes])[bottom]
        self._seam = np.where(bottom > 0, bottom + np.int32(base - 1), 0), codes
        self._codes.append(strip.codes)
        self._firsts.append(strip.firsts + self._rows * self._width)
        self._rows += len(strip.labels)
        self._bases.append(base + count)
        return base - 1

    def regions(self) -> "Regions":
        """The regions, once all strips are in."""
        parent = self._parent[: self._bases[-1]]
        numbers, firsts = numbered(parent)
        codes = np.concatenate([np.zeros(1, np.uint8), *self._codes])[firsts]
        places = np.concatenate([np.zeros(1, np.int64), *self._firsts])[firsts]
        return Regions(numbers, np.array(self._bases), codes, places)


@dataclass(frozen=True)
class Regions:
    """All regions of a raster, numbered from 1 in raster order of their first pixel.

    The same for any cutting of the raster into strips.
    """

    numbers: Labels
    """Region of each piece of each strip; 0 of piece 0, which is nodata."""
    bases: Ints
    """First piece of each strip, and the end."""
    codes: NDArray[np.integer]
    """Class code of region i + 1."""
    firsts: Ints
    """First pixel of region i + 1: row x columns + column."""

    def __len__(self) -> int:
        return len(self.codes)

    def of_pieces(self, strip: int) -> Labels:
        """Region of each piece of a strip, by the piece's number; 0 of number 0."""
        found = np.zeros(int(self.bases[strip + 1] - self.bases[strip]) + 1, np.int32)
        found[1:] = self.numbers[self.bases[strip] : self.bases[strip + 1]]
        return found


def united(regions: Regions, pairs: Ints) -> tuple[Regions, Labels]:
    """Regions of regions: those of a pair become one, and so on.

    pairs: lower number x 2^32 + higher number. Gives the new regions, again in raster order of their first
    pixel, and the new number of each old one (0 of 0). A new region has the class of its first.
    """
    parent = np.arange(len(regions) + 1, dtype=np.int32)
    _join_pairs(parent, pairs)
    numbers, firsts = numbered(parent)
    new = Regions(
        numbers[regions.numbers],
        regions.bases,
        regions.codes[firsts - 1],
        regions.firsts[firsts - 1],
    )
    return new, numbers


def label_pairs(one: Labels, other: Labels) -> Ints:
    """Where two rows of labels hold different ones, 0 not counted: lower label x 2^32 + higher label."""
    apart = (one > 0) & (other > 0) & (one != other)
    low, high = np.minimum(one, other)[apart].astype(np.int64), np.maximum(one, other)[apart]
    return np.asarray((low << 32) | high)


def corner_pairs(strip: Strip, *, alike: bool) -> Ints:
    """Pairs of pieces of a strip that touch by a corner, each once: as `label_pairs` gives them.

    alike: only those of one class.
    """
    pairs = _corner_pairs(strip.labels, strip.codes, alike)
    return np.unique(pairs)


def seam_corner_pairs(above: Labels, below: Labels) -> Ints:
    """Pairs of pieces of two neighbouring rows, numbered uniquely, that touch by a corner, each once."""
    both = [label_pairs(above[:-1], below[1:]), label_pairs(above[1:], below[:-1])]
    return np.unique(np.concatenate(both))


@njit(cache=True, nogil=True)
def _join_pairs(parent, pairs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    for pair in pairs:
        _join(parent, np.int32(pair >> 32), np.int32(pair & 0xFFFFFFFF))


@njit(cache=True, nogil=True)
def _corner_pairs(labels, codes, alike):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Pairs of labels across the corners within a strip; the same pair may come several times."""
    pairs, n = np.empty(1024, np.int64), 0
    for r in range(1, labels.shape[0]):
        for c in range(1, labels.shape[1]):
            for falling in range(2):
                one = np.int64(labels[r - 1, c - 1] if falling else labels[r - 1, c])
                other = np.int64(labels[r, c] if falling else labels[r, c - 1])
                if one == other or one == 0 or other == 0:  # noqa: PLR1714 -- numba
                    continue
                if alike and codes[one - 1] != codes[other - 1]:
                    continue
                if n == len(pairs):
                    larger = np.empty(2 * n, np.int64)
                    larger[:n] = pairs
                    pairs = larger
                pairs[n] = (min(one, other) << 32) | max(one, other)
                n += 1
    return pairs[:n].copy()


@njit(cache=True, nogil=True)
def root(parent, label):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 -- compiled
    """The lowest of the labels that are joined to a label, in a forest of parents."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@njit(cache=True, nogil=True)
def _join(parent, one, other):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Unite two labels; the lower one stays, so it names the component's first pixel."""
    one, other = root(parent, one), root(parent, other)
    low, high = min(one, other), max(one, other)
    parent[high] = low
    return low


@njit(cache=True, nogil=True)
def _label(classes, framed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Fill `framed` with piece numbers from 1, in raster order; return their codes and first pixels."""
    bound = _fresh(classes) + 1
    parent = np.zeros(bound, np.int32)
    code, first = np.zeros(bound, classes.dtype), np.zeros(bound, np.int64)
    last = 0
    height, width = classes.shape
    for r in range(height):
        for c in range(width):
            value = classes[r, c]
            if value == 0:
                continue
            same_left = c > 0 and classes[r, c - 1] == value
            if r > 0 and classes[r - 1, c] == value:
                number = framed[r, c + 1]
                if same_left and framed[r + 1, c] != number:
                    number = _join(parent, number, framed[r + 1, c])
            elif same_left:
                number = framed[r + 1, c]
            else:
                last += 1
                number, parent[last], code[last], first[last] = last, last, value, r * width + c
            framed[r + 1, c + 1] = number
    return _renumber(framed, parent[: last + 1], code, first)


@njit(cache=True, nogil=True)
def _fresh(classes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Upper bound of the number of components: pixels unlike both the left and the upper one."""
    total = 0
    for r in range(classes.shape[0]):
        for c in range(classes.shape[1]):
            value = classes[r, c]
            left = c > 0 and classes[r, c - 1] == value
            total += value != 0 and not left and not (r > 0 and classes[r - 1, c] == value)
    return total


@njit(cache=True, nogil=True)
def _renumber(framed, parent, code, first):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Number the components without holes in the numbers; return their codes and first pixels."""
    number = 0
    for label in range(1, len(parent)):
        if parent[label] == label:
            code[number], first[number] = code[label], first[label]
            number += 1
            parent[label] = -number  # a final number, told apart by its sign
        else:
            parent[label] = parent[parent[label]]  # roots come first, so this one is final
    flat = framed.ravel()
    for k in range(len(flat)):
        flat[k] = -parent[flat[k]]
    return code[:number].copy(), first[:number].copy()


@njit(cache=True, nogil=True)
def _join_seam(parent, above, above_codes, top, codes, base):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    """Unite the pieces on both sides of a seam where their classes are equal."""
    for c in range(len(top)):
        if above[c] > 0 and top[c] > 0 and above_codes[c] == codes[top[c] - 1]:
            _join(parent, above[c], top[c] + base)


@njit(cache=True, nogil=True)
def numbered(parent):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 -- compiled
    """Number the roots from 1 in their order: number of every label, and the label of each root."""
    numbers = np.zeros(len(parent), np.int32)
    roots = np.empty(len(parent), np.int32)
    count = 0
    for label in range(1, len(parent)):
        if parent[label] == label:
            roots[count] = label
            count += 1
            numbers[label] = count
        else:
            numbers[label] = numbers[root(parent, label)]
    return numbers, roots[:count].copy()
