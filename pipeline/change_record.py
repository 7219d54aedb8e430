"""What a comparison of two maps found, in numbers: matrices, and the tables made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from landcover.area import PixelAreas, Tally
from landcover.change_guards import GUARDS
from landcover.transition_groups import Transitions
from landcover.transitions import TransitionMatrix

STATUS = "candidate"
"""Of a change that one comparison found: nothing has confirmed it yet."""


@dataclass(frozen=True)
class ChangeRecord:
    """Areas of all pairs of classes, in units of `areas`."""

    mapped: TransitionMatrix
    """As the two maps say: its margins are their area tables."""
    counted: TransitionMatrix
    """Changes that count, without a diagonal."""
    taken: tuple[TransitionMatrix, ...]
    """Changes that each guard took out, in the order of GUARDS."""
    surface: Tally
    """Surfaces that changed though their class stays or is in doubt, by class code."""
    areas: PixelAreas
    transitions: Transitions
    first_seen: str | None
    """Last day of the second map, `YYYY-MM-DD`."""
    settings: Mapping[str, str]
    """What each guard was told or found, in words."""

    def hectares(self, units: Any) -> float:
        """Hectares of a sum of units."""
        return float(self.areas.hectares(np.asarray(units)))


def transition_rows(record: ChangeRecord) -> list[dict[str, Any]]:
    """One row for each pair of classes that the maps have, in legend order.

    area_ha is what the maps say, counted_ha what is left after all guards; it may hold pixels of another pair
    whose patch was below the minimum area.
    """
    classes, rows = record.mapped.legend.classes, []
    for i, j in np.argwhere((record.mapped.pixels > 0) | (record.counted.pixels > 0)):
        old, new = classes[i], classes[j]
        stays = i == j
        pair = old.code * 256 + new.code
        rule = record.transitions.table.rule(old.name, new.name)
        rows.append(
            {
                "from_code": old.code, "from": old.name, "to_code": new.code, "to": new.name,
                "group": "No change" if stays else record.transitions.group(pair),
                "plausibility": "plausible" if stays else rule.plausibility,
                "pixels": int(record.mapped.pixels[i, j]),
                "area_ha": record.hectares(record.mapped.units[i, j]),
                "counted_pixels": int(record.counted.pixels[i, j]),
                "counted_ha": record.hectares(record.counted.units[i, j]),
            }
        )  # fmt: skip
    return rows


def guard_rows(record: ChangeRecord) -> list[dict[str, Any]]:
    """What is left of the raw change after each guard, in the order in which they apply.

    taken_ha of the last guard is what merging took from all changes of class; it may also have moved some
    from one pair to another.
    """
    left = int(record.mapped.changed)
    rows = [
        {"step": 0, "guard": "none", "setting": "plain difference of both maps", "taken_ha": 0.0,
         "left_ha": record.hectares(left)}
    ]  # fmt: skip
    for step, (name, taken) in enumerate(zip(GUARDS, record.taken, strict=True), start=1):
        units = int(taken.units.sum())
        if (
            name == "area"
        ):  # surface patches below the minimum may join a change of class beside them
            units = left - record.counted.changed
        left -= units
        rows.append(
            {"step": step, "guard": name, "setting": record.settings[name],
             "taken_ha": record.hectares(units), "left_ha": record.hectares(left)}
        )  # fmt: skip
    return rows
