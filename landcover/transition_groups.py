"""What a change of class means: its group, its colour, and whether it can be true."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from landcover.errors import LegendError
from landcover.legend import LandClass, Legend
from landcover.transitions import PAIRS

PLAUSIBLE, IMPLAUSIBLE, SEASONAL = "plausible", "implausible", "seasonal"
OTHER = "other"
"""Kind of a class that the table does not know."""
_ANY = "*"
_WORDS = (PLAUSIBLE, IMPLAUSIBLE, SEASONAL)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class TransitionRule:
    """One line of the table: from one kind of class to another."""

    from_kind: str
    """`*` for any."""
    to_kind: str
    """`*` for any."""
    group: str
    plausibility: str
    """plausible, implausible (not in a few years), or seasonal (may be the time of year)."""


@dataclass(frozen=True)
class TransitionTable:
    """Kinds of classes, and rules of their changes; the first rule that fits counts."""

    kinds: Mapping[str, str]
    """Kind by class name, in small letters."""
    rules: Sequence[TransitionRule]
    colors: Mapping[str, str]
    """Display colour of each group, in the order of a legend."""
    surfaces: frozenset[str]
    """Kinds whose surface may change while the class stays: building sites, new roofs."""

    def __post_init__(self) -> None:
        if not self.rules or (self.rules[-1].from_kind, self.rules[-1].to_kind) != (_ANY, _ANY):
            raise LegendError(
                "The table of transitions has no last rule from * to *; every change needs a group."
            )
        for rule in self.rules:
            if rule.plausibility not in _WORDS:
                raise LegendError(
                    f"The change from {rule.from_kind} to {rule.to_kind} is called '{rule.plausibility}'; "
                    f"the words are {', '.join(_WORDS)}."
                )
            if rule.group not in self.colors:
                raise LegendError(f"The group '{rule.group}' has no colour.")

    def kind(self, name: str) -> str:
        """Kind of a class by its name; `other` where the table does not know it."""
        return self.kinds.get(name.strip().lower(), OTHER)

    def rule(self, before: str, after: str) -> TransitionRule:
        """The rule of a change between two classes, by name."""
        kinds = self.kind(before), self.kind(after)
        return next(
            rule
            for rule in self.rules
            if rule.from_kind in (kinds[0], _ANY) and rule.to_kind in (kinds[1], _ANY)
        )


@dataclass(frozen=True)
class Transitions:
    """All pairs of a legend's classes, by the rules of a table."""

    legend: Legend
    table: TransitionTable

    @cached_property
    def _rules(self) -> dict[int, TransitionRule]:
        return {
            a.code * 256 + b.code: self.table.rule(a.name, b.name)
            for a in self.legend.classes
            for b in self.legend.classes
        }

    def group(self, pair: int) -> str:
        """Group of a pair code."""
        return self._rules[int(pair)].group

    def are(self, plausibility: str) -> Mask:
        """Whether each pair code is of this plausibility, (65536,); a class that stays never is."""
        found = np.zeros(PAIRS, np.bool_)
        for pair, rule in self._rules.items():
            found[pair] = rule.plausibility == plausibility and pair % 257 != 0
        return found

    @cached_property
    def surface_codes(self) -> NDArray[np.uint8]:
        """Each class code of a kind whose surface counts, itself; the others 0: (256,)."""
        codes = np.zeros(256, np.uint8)
        for c in self.legend.classes:
            if self.table.kind(c.name) in self.table.surfaces:
                codes[c.code] = c.code
        return codes

    def group_legend(self, pairs: Iterable[int]) -> Legend:
        """Groups that occur in these pair codes as classes numbered by the table's order."""
        found = {self.group(pair) for pair in pairs}
        return Legend(
            tuple(
                LandClass(number, name, color)
                for number, (name, color) in enumerate(self.table.colors.items(), start=1)
                if name in found
            )
            or (LandClass(1, "No change", "#dddddd"),)
        )

    def group_number(self, pair: int) -> int:
        """Number of a pair's group in the table's order, from 1."""
        return list(self.table.colors).index(self.group(pair)) + 1
