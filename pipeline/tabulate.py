"""All area tables of a class raster: by class, by the classes of other legends, by zone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landcover.errors import SettingsError
from landcover.legend import Legend
from pipeline.artifacts import check_distinct
from pipeline.class_raster import open_classes
from pipeline.crosswalk_areas import NamedCrosswalk, crosswalk_areas, load_crosswalk
from pipeline.summarize import summarize
from pipeline.zone_file import Zones
from pipeline.zones import LONG, WIDE, ZoneTable, measure_zones, write_zone_tables


@dataclass(frozen=True, eq=False)
class AreaTables:
    """What was tabulated."""

    classes: dict[str, Any]
    """The details of `pipeline.summarize.summarize`."""
    crosswalks: dict[str, list[dict[str, Any]]]
    """Rows by the name of the target legend."""
    zones: ZoneTable | None

    @property
    def details(self) -> dict[str, Any]:
        """The tables as JSON values for `run.json`; zones are counted, for there may be many."""
        more: dict[str, Any] = {"crosswalks": self.crosswalks} if self.crosswalks else {}
        if self.zones:
            more["zones"] = {"count": len(self.zones.zones.ids), "notes": list(self.zones.notes)}
        return self.classes | more


def tabulate(
    *,
    classes: Path,
    output: Path,
    legend: str | None = None,
    polygons: Path | None = None,
    zones: Zones | None = None,
    crosswalks: Sequence[str] = (),
) -> AreaTables:
    """Write the area table of a class raster, and those in other legends and by zone that are asked for.

    output: `areas.csv`; the others lie beside it: `areas_TARGET.csv` for each crosswalk, which is a name
    or a CSV file as `load_crosswalk` takes it, and `zones.csv` and `zones_wide.csv`. legend and polygons:
    as `summarize` takes them. Nothing is written before all is known to be usable.
    Raises RasterError, LegendError, RegionError or SettingsError where an input cannot be used.
    """
    with open_classes(classes, output, legend) as raster:
        known = raster.legend
        walks = load_crosswalks(crosswalks, known)
        given = {"the polygons": polygons, "the legend": legend}
        given |= {"the zones": zones.path} if zones else {}
        check_distinct(
            given | {f"the crosswalk {name}": name for name in crosswalks},
            _outputs(output, zones, walks),
        )
        table = measure_zones(raster, zones) if zones else None
    details = summarize(classes=classes, output=output, legend=legend, polygons=polygons)
    if table:
        write_zone_tables(output.parent, table)
    made = {
        walk.target: crosswalk_areas(walk, details, known, crosswalk_path(output, walk))
        for walk in walks
    }
    return AreaTables(details, made, table)


def _outputs(output: Path, zones: Zones | None, walks: Sequence[NamedCrosswalk]) -> dict[str, Path]:
    """The tables by what they are."""
    by_zone = {f"the table {name}": output.with_name(name) for name in (LONG, WIDE)}
    return (
        {"the area table": output}
        | (by_zone if zones else {})
        | {f"the table in {walk.target}": crosswalk_path(output, walk) for walk in walks}
    )


def load_crosswalks(given: Sequence[str], legend: Legend) -> list[NamedCrosswalk]:
    """The crosswalks that a user names; SettingsError where two would have one table."""
    walks = [load_crosswalk(name, legend) for name in dict.fromkeys(given)]
    targets = [walk.target for walk in walks]
    if twice := [target for target in targets if targets.count(target) > 1]:
        raise SettingsError(
            f"Two crosswalks are called '{twice[0]}' and would write one table; rename one of the files."
        )
    return walks


def crosswalk_path(output: Path, walk: NamedCrosswalk) -> Path:
    """Where the table of a crosswalk goes: beside the area table, with the target's name."""
    return output.with_name(f"{output.stem}_{walk.target}.csv")
