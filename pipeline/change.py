"""Change between two maps of one place: what became what, where, how many hectares, and how sure."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landcover.alteration import Alteration
from landcover.area import PixelAreas, Tally
from landcover.change_guards import (
    COUNTED,
    GUARDS,
    Guards,
    Maps,
    check_guards,
    surface_changes,
)
from landcover.errors import RasterError, SettingsError
from landcover.joint_probability import CHANGED, MEASURES
from landcover.legend import LandClass, Legend
from landcover.spectral_change import SpectralChange
from landcover.transition_groups import IMPLAUSIBLE, SEASONAL, Transitions
from landcover.transitions import PAIRS, TransitionMatrix, class_changes, pair_codes, pair_of
from pipeline.artifacts import check_distinct, scratch_path, write_json, write_text
from pipeline.change_polygons import write_changes
from pipeline.change_record import ChangeRecord, guard_rows, transition_rows
from pipeline.change_report import write_change_report
from pipeline.change_survey import CVA, EVIDENCE, NONE, Survey, survey
from pipeline.class_polygons import ClassPolygons, Pixels
from pipeline.class_raster import strips
from pipeline.cog import CogProfile, open_cog, open_raster
from pipeline.csv_table import csv_text
from pipeline.map_pair import MapFiles, MapPair, open_pair
from pipeline.qgis_style import raster_qml
from pipeline.transition_table import transition_table

_STRIP_PIXELS = 2**19
"""Pixels of a strip; two composites of six bands take 300 bytes a pixel while they are compared."""
_UNKNOWN_REACH = 1
"""Pixels of the border guard where no images tell the shift."""
_FARTHEST_REACH = 3
_MARGIN = 0.25
"""Added to the shift before it is rounded up: a mixed pixel takes either class."""
UNCHANGED = 1
"""Code of what did not change in the raster that is merged; no pair has it."""


@dataclass(frozen=True)
class ChangeSettings:
    """What decides which changes count."""

    min_area: float = 0.0
    """Hectares below which a patch of change goes into its neighbour."""
    min_confidence: float | None = None
    """Least joint confidence, percent; None for 80 that the class changed, 25 for that very transition."""
    joint: str = CHANGED
    """What joint confidence is where both maps have the probabilities of all classes, one of MEASURES of
    landcover.joint_probability; else it is the product of both confidences."""
    evidence: str = CVA
    """How the images show a change, one of EVIDENCE of pipeline.change_survey."""
    season_tolerance: float = 45.0
    """Days of the year by which the two dates may differ before seasonal pairs are not counted."""
    off: tuple[str, ...] = ()
    """Guards that are switched off."""
    table: Path | None = None
    """Table of transitions; None for the one that comes with the program."""

    def __post_init__(self) -> None:
        check_guards(self.off)
        for name, chosen, known in (
            ("joint confidence", self.joint, MEASURES), ("evidence", self.evidence, EVIDENCE),
        ):  # fmt: skip
            if chosen not in known:
                raise SettingsError(f"The {name} '{chosen}' is not one of {', '.join(known)}.")
        least = self.min_confidence or 0.0
        if not (self.min_area >= 0 and 0 <= least <= 100 and self.season_tolerance >= 0):
            raise SettingsError(
                f"The minimum area is {self.min_area:g} ha, the minimum confidence {least:g} %, the "
                f"season tolerance {self.season_tolerance:g} days; give 0 or more, and 100 % at most."
            )  # fmt: skip

    def on(self, guard: str) -> bool:
        """Whether a guard is at work."""
        return guard not in self.off


@dataclass
class _Counts:
    """Areas by pair code, in units of the pixel areas."""

    mapped: Tally = field(default_factory=lambda: Tally.zeros(PAIRS))
    """All pixels."""
    taken: list[Tally] = field(default_factory=lambda: [Tally.zeros(PAIRS) for _ in GUARDS])
    """Changes that each guard took out."""
    counted: Tally = field(default_factory=lambda: Tally.zeros(PAIRS))
    """Changes that count, as they are drawn."""
    surface: Tally = field(default_factory=lambda: Tally.zeros(256))
    """Surfaces that changed, by class code."""


def change(
    *,
    before: Path,
    after: Path,
    output: Path,
    settings: ChangeSettings | None = None,
    legend: str | None = None,
    legend_after: str | None = None,
    crosswalk: str | None = None,
    raw: bool = False,
    strip_rows: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compare two maps of one place; write rasters, polygons, tables and a report into a folder.

    before, after, legend, legend_after, crosswalk: as `open_pair` takes them. The second map is seen on the
    grid and in the legend of the first. raw: also write change_raw.tif, before any guard. strip_rows: rows
    read at a time; they change no byte of the output.
    Writes change.tif (class before x 256 + class after, uint16), change_confidence.tif (percent),
    surface.tif and spectral.tif (where there are two composites), change.gpkg, transitions.csv, change.json,
    report.html. 0 is nodata in every raster. Returns the content of change.json.
    Raises RasterError, LegendError or SettingsError where the maps cannot be compared.
    """
    settings = settings or ChangeSettings()
    if strip_rows is not None and strip_rows < 1:
        raise SettingsError(f"The rows of a strip are {strip_rows}; give 1 or more.")
    given = {
        "the transitions": settings.table, "the legend": legend, "the legend after": legend_after,
        "the crosswalk": crosswalk,
    }  # fmt: skip
    check_distinct(given, {"the table of changes": output / "transitions.csv"})
    with open_pair(
        before, after, output, legend=legend, legend_after=legend_after, crosswalk=crosswalk
    ) as pair:
        report("looking at both images ...")
        transitions = Transitions(pair.legend, transition_table(settings.table))
        seen = survey(pair, settings.evidence)
        work = _Work(pair, output, settings, transitions, seen, strip_rows)
        return work.done(raw=raw, report=report)


@dataclass
class _Work:
    """One comparison, in two passes over the maps."""

    pair: MapPair
    output: Path
    settings: ChangeSettings
    transitions: Transitions
    survey: Survey
    strip_rows: int | None
    counts: _Counts = field(default_factory=_Counts)

    def __post_init__(self) -> None:
        self.areas = PixelAreas(self.pair.grid)
        self.guards = self._guards()

    def _guards(self) -> Guards:
        settings, apart = self.settings, self.survey.apart
        is_other_season = apart is not None and apart > settings.season_tolerance
        return Guards(
            self.transitions.are(SEASONAL) if settings.on("season") and is_other_season else None,
            self.transitions.are(IMPLAUSIBLE) if settings.on("plausibility") else None,
            self._reach() if settings.on("border") else 0,
            self._least_confidence() if settings.on("confidence") else 0.0,
            settings.on("spectral"),
        )

    def _reach(self) -> int:
        """Pixels of the border guard."""
        shift = self.survey.shift
        if shift is None or shift.blocks == 0:
            return _UNKNOWN_REACH
        far = max(abs(shift.rows), abs(shift.cols))
        return 0 if far < 0.05 else min(int(np.ceil(far + _MARGIN)), _FARTHEST_REACH)

    def done(self, *, raw: bool, report: Callable[[str], None]) -> dict[str, Any]:
        """Do it; the content of change.json."""
        self.output.mkdir(parents=True, exist_ok=True)
        with scratch_path(self.output / "merge.tif") as merge:
            report("comparing the classes ...")
            self._compare(merge, raw=raw)
            if not self.counts.mapped.pixels[1:].any():
                raise RasterError(
                    f"{self.pair.files[0].classes} and {self.pair.files[1].classes} share no pixel with a "
                    "class; give two maps of one place."
                )
            report("merging small patches ...")
            legend = self._change_legend()
            self._merge(merge, legend)
        report("drawing polygons ...")
        record = self._record()
        write_changes(self.output, record, self.transitions, self.areas)
        write_text(self.output / "change.qml", raster_qml(legend))
        write_text(self.output / "transitions.csv", csv_text(transition_rows(record)))
        facts = self._facts(record)
        write_change_report(self.output, self.pair, record, self.transitions, facts)
        write_json(self.output / "change.json", facts)
        return facts

    # First pass: every pixel is judged.

    def _compare(self, merge: Path, *, raw: bool) -> None:
        output, is_seen = self.output, self.survey.spectral is not None
        with contextlib.ExitStack() as stack:

            def cog(path: Path, profile: CogProfile) -> Any:
                return stack.enter_context(open_cog(path, self.pair.grid, profile))

            judged = cog(merge, CogProfile("uint16", ["pair"], "mode"))
            sure = cog(output / "change_confidence.tif", _percent("confidence"))
            seen = cog(output / "spectral.tif", _percent("evidence")) if is_seen else None
            plain = cog(output / "change_raw.tif", CogProfile("uint16", ["pair"], "mode")) if raw else None  # fmt: skip
            for rows, maps in self._maps():
                pairs, codes = self._judge(rows, maps)
                judged.write(codes[None])
                inner = maps.cut(self._inner(rows))
                sure.write(np.where(pairs > 0, inner.sureness, 0).astype(np.uint8)[None])
                if seen and inner.evidence is not None:
                    seen.write(inner.evidence[None])
                if plain:
                    plain.write(pairs[None])
        for name, is_made in (("spectral.tif", is_seen), ("change_raw.tif", raw)):
            if not is_made:  # one of an earlier comparison would be taken for one of this
                (output / name).unlink(missing_ok=True)

    def _judge(self, rows: slice, maps: Maps) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Pair codes, and codes of the raster to be merged, of some rows; they are counted."""
        inner = self._inner(rows)
        verdicts, maps = self.guards.verdicts(maps)[inner], maps.cut(inner)
        pairs, units = pair_codes(maps.before, maps.after), self.areas.units(rows)
        self.counts.mapped.add(pairs, units)
        for number, tally in enumerate(self.counts.taken, start=1):
            if (verdicts == number).any():
                tally.add(np.where(verdicts == number, pairs, np.uint16(0)), units)
        codes = np.where(verdicts == COUNTED, pairs, np.uint16(UNCHANGED))
        surface = surface_changes(maps, verdicts, self.transitions.surface_codes)
        surface[verdicts == COUNTED] = 0
        codes = np.where(surface > 0, surface.astype(np.uint16) * np.uint16(257), codes)
        return pairs, np.where(pairs > 0, codes, np.uint16(0))

    def _maps(self) -> Iterator[tuple[slice, Maps]]:
        """Strips of both maps with the rows around them that their verdicts depend on."""
        spectral = self.survey.spectral
        height = int(self.pair.grid.shape[0])
        for rows in self._strips():
            wide = _widened(rows, self.guards.halo, height)
            evidence = None
            if spectral is not None:
                far = _widened(wide, spectral.halo, height)
                start = wide.start - far.start
                evidence = spectral.evidence(*self.pair.images(far))[
                    start : start + wide.stop - wide.start
                ]
            yield rows, self.pair.maps(wide, evidence, self.settings.joint)

    def _inner(self, rows: slice) -> slice:
        """Where some rows lie in the strip that `_maps` gives."""
        above = rows.start - _widened(rows, self.guards.halo, int(self.pair.grid.shape[0])).start
        return slice(above, above + rows.stop - rows.start)

    def _strips(self) -> Iterator[slice]:
        height, width = self.pair.grid.shape
        step = self.strip_rows or max(32, 1 << (max(1, _STRIP_PIXELS // width).bit_length() - 1))
        for top in range(0, height, step):
            yield slice(top, min(top + step, height))

    # Second pass: small patches go into their neighbours.

    def _merge(self, merge: Path, legend: Legend) -> None:
        profile = CogProfile(
            "uint16", ["from_to"], "mode", legend.colormap(), {"LEGEND": _records(legend)}
        )
        with (
            open_raster(merge) as judged,
            open_cog(self.output / "change.tif", self.pair.grid, profile) as changed,
            open_cog(self.output / "surface.tif", self.pair.grid, self._surface_profile()) as surface,
        ):  # fmt: skip

            def read() -> Iterator[Pixels]:
                for rows, codes in strips(judged, self._step()):
                    yield Pixels(rows, codes, None)

            least = self.settings.min_area if self.settings.on("area") else 0.0
            for rows, codes in self._merged(read, least):
                units, stays = self.areas.units(rows), self.pair.sides[0].codes(rows)
                before, after = codes // 256, codes % 256
                is_surface = (before == after) & (codes > 0)
                is_change = (codes > UNCHANGED) & ~is_surface
                both = np.where(codes > 0, stays.astype(np.uint16) * np.uint16(257), 0)
                changed.write(np.where(is_change, codes, both).astype(np.uint16)[None])
                surface.write(np.where(is_surface, before, 0).astype(np.uint8)[None])
                self.counts.counted.add(np.where(is_change, codes, 0).astype(np.uint16), units)
                self.counts.surface.add(np.where(is_surface, before, 0).astype(np.uint8), units)

    def _merged(
        self, read: Callable[[], Iterator[Pixels]], least: float
    ) -> Iterator[tuple[slice, NDArray[np.integer]]]:
        if not least > 0:
            for pixels in read():
                yield pixels.rows, pixels.codes
            return
        shapes = ClassPolygons(read, self.pair.grid, minimum=least, kept=(UNCHANGED,))
        yield from shapes.strips()

    def _step(self) -> int:
        return int(next(iter(self._strips())).stop)

    def _surface_profile(self) -> CogProfile:
        legend = self.pair.legend
        return CogProfile(
            "uint8", ["class"], "mode", legend.colormap(), {"LEGEND": _records(legend)}
        )

    def _change_legend(self) -> Legend:
        """One entry for each pair that the maps have, in the colour of its group; pale where it stays."""
        names = {c.code: c for c in self.pair.legend.classes}
        found = [int(p) for p in np.flatnonzero(self.counts.mapped.pixels[1:]) + 1]
        pairs = sorted({*found, *(pair_of(p)[0] * 257 for p in found)})
        colors = self.transitions.table.colors
        return Legend(
            tuple(
                LandClass(code, f"{names[old].name}, unchanged", _pale(names[old].color))
                if old == new
                else LandClass(
                    code, f"{names[old].name} to {names[new].name}", colors[self.transitions.group(code)]
                )
                for code, (old, new) in ((pair, pair_of(pair)) for pair in pairs)
            )
        )  # fmt: skip

    # What is known at the end.

    def _record(self) -> ChangeRecord:
        legend = self.pair.legend
        return ChangeRecord(
            mapped=TransitionMatrix.of(self.counts.mapped, legend),
            counted=TransitionMatrix.of(self.counts.counted, legend),
            taken=tuple(TransitionMatrix.of(tally, legend) for tally in self.counts.taken),
            surface=self.counts.surface,
            areas=self.areas,
            transitions=self.transitions,
            first_seen=self.pair.files[1].last_day,
            settings=self._guard_settings(),
        )

    def _guard_settings(self) -> dict[str, str]:
        """What each guard was told or found, in words."""
        settings, shift, apart = self.settings, self.survey.shift, self.survey.apart
        days = "days of year unknown, so nothing taken out" if apart is None else f"{apart:.0f} days of year apart"  # fmt: skip
        known = shift is not None and shift.blocks > 0
        said = {
            "season": f"{days}, tolerance {settings.season_tolerance:g}",
            "plausibility": "pairs that do not happen within a few years",
            "border": (
                f"shift {shift.rows:+.2f} rows, {shift.cols:+.2f} columns; reach {self._reach()} px"
                if shift is not None and known
                else f"shift unknown (no two composites); reach {_UNKNOWN_REACH} px"
            ),
            "confidence": f"joint confidence below {self._least_confidence():g} % ({_JOINT[self._joint()]})",
            "spectral": f"evidence below 50 % ({_EVIDENCE[settings.evidence]})"
            if self.survey.spectral
            else "no evidence asked for"
            if settings.evidence == NONE
            else "off: there are no two composites with bands in common",
            "area": f"patches below {settings.min_area:g} ha",
        }  # fmt: skip
        return {name: text if settings.on(name) else "switched off" for name, text in said.items()}

    def _joint(self) -> str | None:
        """What joint confidence is made of: one of MEASURES, `confidences`, or None where a map has none."""
        if self.pair.has_probabilities:
            return self.settings.joint
        return "confidences" if all(side.confidence for side in self.pair.sides) else None

    def _least_confidence(self) -> float:
        """Percent."""
        given = self.settings.min_confidence
        return _LEAST_CONFIDENCE.get(self._joint() or "", 25.0) if given is None else given

    def _facts(self, record: ChangeRecord) -> dict[str, Any]:
        seen, shift = self.survey.spectral, self.survey.shift
        files, hectares = self.pair.files, record.hectares
        return {
            "before": _source(files[0]),
            "after": _source(files[1]),
            "grid": "one grid"
            if self.pair.same_grid
            else "after seen on the grid of before: nearest pixel for classes, bilinear for images",
            "same_model": files[0].model == files[1].model if files[0].model and files[1].model else None,
            "settings": asdict(self.settings) | {"table": self.settings.table and self.settings.table.name},
            "days_of_year": list(self.survey.days),
            "days_apart": self.survey.apart,
            "shift": None if shift is None else asdict(shift),
            "joint_confidence": self._joint(),
            "spectral": seen and {"bands": list(self.pair.bands)} | _spectral_facts(seen),
            "mapped_ha": hectares(record.mapped.units.sum()),
            "raw_change_ha": hectares(record.mapped.changed),
            "counted_change_ha": hectares(record.counted.changed),
            "surface_ha": hectares(self.counts.surface.units[1:].sum()),
            "guards": guard_rows(record),
            "classes": [asdict(line) for line in class_changes(record.mapped, record.counted, self.areas)],
            "transitions": transition_rows(record),
        }  # fmt: skip


def _percent(band: str) -> CogProfile:
    return CogProfile("uint8", [band], units=["percent"])


_JOINT = {
    "changed": "that the class changed, from both probability maps",
    "transition": "of the class before and the class after, from both probability maps",
    "confidences": "product of both confidences",
    None: "a map has none, so nothing taken out",
}
_LEAST_CONFIDENCE = {"changed": 80.0, "transition": 25.0, "confidences": 25.0}
"""Percent. Flat probabilities make any change likely, so that it changed asks for more than how."""
_EVIDENCE = {"cva": "change vector", "mad": "multivariate alteration detection"}


def _spectral_facts(seen: SpectralChange | Alteration) -> dict[str, Any]:
    """What unchanged land looks like in both images."""
    names = ("gain", "offset") if isinstance(seen, SpectralChange) else ("correlations",)
    learned = {name: getattr(seen, name).tolist() for name in (*names, "spread")}
    return learned | {"smoothing_pixels": seen.sigma}


def _source(files: MapFiles) -> dict[str, Any]:
    """What is told of a map: no path of this machine."""
    return {"name": files.classes.name, "period": files.period, "model_sha256": files.model}


def _widened(rows: slice, by: int, height: int) -> slice:
    return slice(max(0, rows.start - by), min(height, rows.stop + by))


def _records(legend: Legend) -> str:
    return json.dumps(legend.to_records())


def _pale(color: str) -> str:
    """A colour three quarters of the way to white."""
    return "#" + "".join(f"{255 - (255 - part) // 4:02x}" for part in bytes.fromhex(color[1:]))


def change_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a person at the keyboard should know of a comparison."""
    lines = [f"Plain difference: {facts['raw_change_ha']:,.2f} ha of {facts['mapped_ha']:,.2f} ha"]
    lines += [
        f"  {row['guard']}: {row['taken_ha']:,.2f} ha taken out ({row['setting']})"
        for row in facts["guards"][1:]
    ]
    lines.append(f"Change that counts: {facts['counted_change_ha']:,.2f} ha")
    if facts["settings"]["evidence"] == NONE:
        lines.append("Note: no image evidence was asked for; no image confirms these changes.")
    elif facts["spectral"]:
        lines.append(f"Surface changed, class not or in doubt: {facts['surface_ha']:,.2f} ha")
    else:
        lines.append("Note: there are no two composites with bands in common; no image confirms these changes.")  # fmt: skip
    if facts["grid"] != "one grid":
        lines.append(f"Note: the grids differ: {facts['grid']}.")
    if facts["same_model"] is False:
        lines.append("Note: the maps were made by different models; part of the change is between them.")  # fmt: skip
    one, other = facts["days_of_year"]
    if (facts["days_apart"] or 0) > facts["settings"]["season_tolerance"]:
        lines.append(
            f"Warning: the images are of other seasons (day {one:.0f} and {other:.0f} of the year); compare like "
            "seasons where you can."
        )
    return lines
