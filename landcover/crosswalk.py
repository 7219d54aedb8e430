"""From the classes of one legend to those of another, with what is lost on the way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from landcover.errors import LegendError
from landcover.legend import Legend

NO_COUNTERPART = "No counterpart"
"""Name of the line of hectares that the target legend has no class for."""


@dataclass(frozen=True)
class CrosswalkRow:
    """Where one class goes."""

    from_code: int
    from_name: str
    to_code: str
    """Code in the target legend, which need not be a number; empty where it has no such class."""
    to_name: str
    lossy: bool
    """Whether the target class cannot carry the source class faithfully: it goes to several, or is defined
    otherwise."""
    note: str = ""
    """Why."""


@dataclass(frozen=True)
class CrosswalkArea:
    """One line of an area table in the target legend."""

    class_code: str
    class_name: str
    area_ha: float
    """Hectares on the ellipsoid."""
    share_percent: float
    """Part of all classified area, 0 to 100."""
    lossy_ha: float
    """Hectares of it that come from classes that this one cannot carry faithfully."""
    from_classes: str
    """Source classes that have an area, `; ` between."""


@dataclass(frozen=True)
class Crosswalk:
    """A table from the classes of one legend to those of another.

    Raises LegendError where it names a class twice, or gives one code two names.
    """

    rows: tuple[CrosswalkRow, ...]

    def __post_init__(self) -> None:
        codes = [row.from_code for row in self.rows]
        if twice := sorted({code for code in codes if codes.count(code) > 1}):
            raise LegendError(
                f"The crosswalk names the class {twice[0]} twice; hectares of a class cannot be split, so "
                "give it one row, marked lossy."
            )
        names: dict[str, str] = {}
        for row in self.rows:
            if bool(row.to_code) != bool(row.to_name):
                raise LegendError(
                    f"The crosswalk gives the class {row.from_code} a target with a code or a name only "
                    f"('{row.to_code}', '{row.to_name}'); give both, or neither for no counterpart."
                )
            if names.setdefault(row.to_code, row.to_name) != row.to_name:
                raise LegendError(
                    f"The crosswalk calls the target {row.to_code} both '{names[row.to_code]}' and "
                    f"'{row.to_name}'."
                )

    @cached_property
    def _by_code(self) -> dict[int, CrosswalkRow]:
        return {row.from_code: row for row in self.rows}

    def starts_from(self, legend: Legend) -> bool:
        """Whether it has a row of the same code and name for each class of a legend."""
        return not self.missing(legend)

    def missing(self, legend: Legend) -> list[str]:
        """Classes of a legend that it lacks, or knows by another name."""
        return [
            f"{c.code} {c.name}"
            for c in legend.classes
            if c.code not in self._by_code or self._by_code[c.code].from_name != c.name
        ]

    def areas(self, hectares: Mapping[int, float], legend: Legend) -> list[CrosswalkArea]:
        """Area table in the target legend, in the order of its codes, then what has no counterpart.

        hectares: by class code of `legend`. The lines add up to all of them. Raises LegendError where the
        crosswalk does not start from this legend.
        """
        if missing := self.missing(legend):
            raise LegendError(
                f"The crosswalk has no row of the same code and name for {', '.join(missing[:5])}; it starts "
                "from another legend."
            )
        targets = sorted(
            {(row.to_code, row.to_name) for row in self.rows if row.to_code}, key=_order
        )
        total = math.fsum(hectares.values())
        rows = [row for row in self.rows if row.from_code in legend]
        return [
            _line(code, name, [r for r in rows if r.to_code == code], hectares, total)
            for code, name in [*targets, ("", NO_COUNTERPART)]
        ]


def _line(
    code: str, name: str, rows: Sequence[CrosswalkRow], hectares: Mapping[int, float], total: float
) -> CrosswalkArea:
    area = math.fsum(hectares[row.from_code] for row in rows)
    lossy = math.fsum(hectares[row.from_code] for row in rows if row.lossy)
    found = "; ".join(row.from_name for row in rows if hectares[row.from_code] > 0)
    share = 100 * area / total if total else 0.0
    return CrosswalkArea(code, name, area, share, lossy, found)


def _order(target: tuple[str, str]) -> tuple[bool, int, str]:
    """Whole numbers by their size, then other codes by their letters."""
    whole = target[0].isascii() and target[0].isdigit()
    return not whole, int(target[0]) if whole else 0, target[0]
