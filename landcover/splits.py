"""Which units of a dataset are for training, which for validation, which for test."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
"""Names of the parts, in the order of their numbers."""


def assign_splits(
    counts: Mapping[str, NDArray[np.int64]],
    shares: Sequence[float],
    seed: int,
    fixed: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Number of the split of each unit, so that all splits see all classes where they can.

    counts: by the unit's name, its labelled pixels of each class, (classes,). shares: of train,
    validation and test; they need not sum to 1. fixed: splits that are given; they count as filled.
    Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011) with pixels in place of examples: the
    class that the fewest units hold goes first; each of its units goes to a split that has none of the
    class yet, else to the one that lacks most of its share. Units of a class come in the order of a
    hash of seed and name, so the result depends neither on the order nor on the number of files.
    """
    given = dict(fixed or {})
    if not counts:
        return {}
    wanted = _wanted(counts, shares)
    have = np.zeros_like(wanted)
    for name, split in given.items():
        have[split] += counts[name]
    open_units = sorted((n for n in counts if n not in given), key=lambda name: _draw(seed, name))
    for label in _rarest_first(counts):
        total = wanted[:, label].sum()
        holders = [name for name in open_units if name not in given and counts[name][label]]
        # What holds a sliver only comes last: it should not be all that a split has of the class.
        holders.sort(key=lambda name: 10 * len(holders) * counts[name][label] < total)
        for name in holders:
            given[name] = _neediest(wanted, have, label)
            have[given[name]] += counts[name]
    for name in open_units:
        if name not in given:
            given[name] = _by_share(_draw(seed, name), shares)
    return {name: given[name] for name in counts}


def _wanted(
    counts: Mapping[str, NDArray[np.int64]], shares: Sequence[float]
) -> NDArray[np.float64]:
    """Pixels that each split should have, (splits, classes)."""
    total = np.sum(list(counts.values()), axis=0, dtype=np.float64)
    part = np.asarray(shares, np.float64)
    return np.asarray(np.outer(part / part.sum(), total))


def _rarest_first(counts: Mapping[str, NDArray[np.int64]]) -> list[int]:
    holders = np.sum([count > 0 for count in counts.values()], axis=0)
    return [int(label) for label in np.argsort(holders, kind="stable") if holders[label]]


def _neediest(wanted: NDArray[np.float64], have: NDArray[np.float64], label: int) -> int:
    """The split with a share that has none of a class, the larger share first; else the emptiest."""
    shares = wanted.sum(axis=1)
    without = [s for s in range(len(shares)) if shares[s] > 0 and have[s, label] == 0]
    if without:
        return max(without, key=lambda s: (shares[s], -s))
    lack = wanted - have
    return max(
        (s for s in range(len(shares)) if shares[s] > 0),
        key=lambda s: (lack[s, label], lack[s].sum(), -s),
    )


def _by_share(draw: float, shares: Sequence[float]) -> int:
    edges = np.cumsum(np.asarray(shares, np.float64) / np.sum(shares))
    return min(int(np.searchsorted(edges, draw, side="right")), len(SPLITS) - 1)


def _draw(seed: int, name: str) -> float:
    """A number from 0 to 1 that depends on seed and name alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
