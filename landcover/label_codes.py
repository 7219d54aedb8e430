"""From stored label values or colours to the class codes of a legend."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from landcover.errors import DatasetError
from landcover.legend import NODATA, Legend

_FEW = 64
"""Values up to which a comparison with each is faster than a search."""
IGNORE = "ignore"
"""What a value is mapped to that means 'not labelled'."""


@dataclass(frozen=True)
class LabelCodes:
    """Class code of each value that labels may hold; 0 where it means 'not labelled'."""

    codes: Mapping[int, int]
    """By stored value; by 65536 red + 256 green + blue for colours."""
    colors: bool = False
    """Whether the values are colours."""

    @classmethod
    def of(cls, mapping: Mapping[int | str, int | str], legend: Legend) -> "LabelCodes":
        """Read `value or "#rrggbb": code, class name, or ignore`; without entries, codes stay.

        Raises DatasetError for a value that is neither, or a class that the legend lacks.
        """
        if not mapping:
            return cls({code: code for code in legend.codes})
        colors = {isinstance(value, str) for value in mapping}
        if len(colors) > 1:
            raise DatasetError(
                'The label mapping mixes values and colours; give whole numbers, or colours as "#rrggbb", not both.'
            )
        number = {value: _number(value) for value in mapping}
        return cls(
            {number[value]: class_code(target, legend) for value, target in mapping.items()},
            colors.pop(),
        )

    def apply(
        self, values: NDArray[np.integer], nodata: float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Codes of stored values, and which values are unknown; both of the values' shape.

        The nodata value means 'not labelled', and so does 0 where the mapping does not say otherwise.
        """
        if values.dtype.itemsize <= 2:
            table = _table(tuple(sorted(self.codes.items())), self.colors, values.dtype.str, nodata)
            codes = table[values.view(f"u{values.dtype.itemsize}")]
        else:
            codes = self.search(values, nodata)
        unknown = codes < 0
        return np.where(unknown, np.int16(NODATA), codes).astype(np.uint8), unknown

    def search(self, values: NDArray[np.integer], nodata: float | None) -> NDArray[np.int16]:
        """Codes of values of any type, -1 where unknown."""
        codes = np.full(values.shape, -1, np.int16)
        if not self.colors:
            codes[values == 0] = NODATA
        if len(self.codes) <= _FEW:
            for value, code in self.codes.items():
                codes[values == value] = code
        else:
            keys = np.array(sorted(self.codes), np.int64)
            place = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
            known = keys[place] == values
            codes[known] = np.array([self.codes[int(key)] for key in keys], np.int16)[place[known]]
        if nodata is not None:
            codes[values == nodata] = NODATA
        return codes


@lru_cache(maxsize=64)
def _table(
    codes: tuple[tuple[int, int], ...], colors: bool, dtype: str, nodata: float | None
) -> NDArray[np.int16]:
    """Codes of all values of a type of 8 or 16 bits, by their bits."""
    bits = np.arange(256 ** np.dtype(dtype).itemsize, dtype=f"u{np.dtype(dtype).itemsize}")
    return LabelCodes(dict(codes), colors).search(bits.view(dtype).astype(np.int64), nodata)


def packed(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours (3, rows, cols) as one number each: (rows, cols)."""
    red, green, blue = rgb.astype(np.int32)
    return np.asarray(red << 16 | green << 8 | blue)


def shown(value: int, *, color: bool) -> str:
    """A value or colour as a person writes it."""
    return f"#{value:06x}" if color else str(value)


def class_code(target: int | str, legend: Legend) -> int:
    """Code of a class given by code or name; 0 for 'ignore'. Raises DatasetError where there is none."""
    if target in (IGNORE, NODATA):
        return NODATA
    by_name = dict(zip(legend.names, legend.codes, strict=True))
    if target in legend.codes:
        return int(target)
    if target in by_name:
        return by_name[str(target)]
    raise DatasetError(
        f"The label mapping names the class {target!r}, which the legend lacks; it has "
        f"{', '.join(f'{c.code} {c.name}' for c in legend.classes)}, or write ignore."
    )


def _number(value: int | str) -> int:
    if isinstance(value, int):
        return value
    digits = value.removeprefix("#")
    if len(digits) != 6 or not value.startswith("#"):
        raise DatasetError(f"The label colour {value!r} is not of the form #rrggbb.")
    try:
        return int(digits, 16)
    except ValueError as error:
        raise DatasetError(f"The label colour {value!r} is not of the form #rrggbb.") from error
