"""The legend: which class code means what, and how it is drawn."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landcover.errors import LegendError

NODATA = 0
"""The code that means 'no data' in every raster we write."""


def shown_codes(codes: Iterable[int], most: int = 12) -> str:
    """Codes for a message: all of a few, else the first and how many there are."""
    found = sorted(int(code) for code in codes)
    more = f", ... ({len(found):,} in all)" if len(found) > most else ""
    return f"[{', '.join(map(str, found[:most]))}{more}]"


@dataclass(frozen=True)
class LandClass:
    """One class of a legend."""

    code: int
    """Value in the class raster, 1 to 65535; those of a model's legend go up to 255."""
    name: str
    """What a reader of the map calls it."""
    color: str
    """Display colour, `#rrggbb`."""

    def __post_init__(self) -> None:
        if not 1 <= self.code <= 65535:
            raise LegendError(
                f"Class '{self.name}' has code {self.code}; codes run from 1 to 65535 (0 is nodata)."
            )
        if not self.name.strip():
            raise LegendError(f"Class {self.code} has an empty name; give it one.")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.color):
            raise LegendError(
                f"Class '{self.name}' has colour '{self.color}'; write it as #rrggbb."
            )

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Display colour as (red, green, blue), 0 to 255."""
        red, green, blue = bytes.fromhex(self.color[1:])
        return red, green, blue


@dataclass(frozen=True)
class Legend:
    """An ordered set of classes with distinct codes and names.

    The order is that of a model's output channels: channel i predicts `classes[i]`.
    """

    classes: tuple[LandClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise LegendError("The legend has no class; it needs at least one.")
        for field in ("code", "name"):
            values = [getattr(c, field) for c in self.classes]
            twice = sorted({str(v) for v in values if values.count(v) > 1})
            if twice:
                raise LegendError(
                    f"The legend gives the {field} {', '.join(twice)} to more than one class."
                )

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> "Legend":
        """Build from mappings with the keys `code`, `name` and `color`.

        Raises LegendError where a key is missing, unknown or of the wrong kind.
        """
        classes = []
        for record in records:
            if set(record) != {"code", "name", "color"}:
                raise LegendError(
                    f"A legend entry has the keys {sorted(record)}; it needs code, name and color."
                )
            try:
                code = int(record["code"])
            except (TypeError, ValueError) as error:
                raise LegendError(
                    f"Class code {record['code']!r} is not a whole number."
                ) from error
            classes.append(LandClass(code, str(record["name"]), str(record["color"])))
        return cls(tuple(classes))

    def to_records(self) -> list[dict[str, Any]]:
        """The classes as mappings with `code`, `name` and `color`; inverse of `from_records`."""
        return [{"code": c.code, "name": c.name, "color": c.color} for c in self.classes]

    @property
    def codes(self) -> tuple[int, ...]:
        """Class codes in channel order."""
        return tuple(c.code for c in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in channel order."""
        return tuple(c.name for c in self.classes)

    @cached_property
    def _by_code(self) -> dict[int, LandClass]:
        return {c.code: c for c in self.classes}

    def __len__(self) -> int:
        return len(self.classes)

    def __contains__(self, code: object) -> bool:
        return code in self._by_code

    def __getitem__(self, code: int) -> LandClass:
        """The class with this code; LegendError if there is none."""
        try:
            return self._by_code[int(code)]
        except KeyError:
            raise LegendError(
                f"Class code {code} is not in the legend (codes {shown_codes(self.codes)})."
            ) from None

    def code_of(self, text: str) -> int | None:
        """Code of the class that a text means, a code (`5`, `5.0`) or else a name in any case; None if none."""
        wanted = text.strip().casefold()
        try:
            number = float(wanted)
        except ValueError:
            number = 0.0
        if number in self._by_code:
            return int(number)
        return next((c.code for c in self.classes if c.name.casefold() == wanted), None)

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """RGBA by code, with nodata transparent, as rasterio's `write_colormap` takes it."""
        return {NODATA: (0, 0, 0, 0)} | {c.code: (*c.rgb, 255) for c in self.classes}

    def rgb_table(self) -> NDArray[np.uint8]:
        """Lookup table (256 or more, 3) from code to display colour; unknown codes are black."""
        table = np.zeros((max(255, *self.codes) + 1, 3), np.uint8)
        for c in self.classes:
            table[c.code] = c.rgb
        return table
