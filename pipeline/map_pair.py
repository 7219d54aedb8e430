"""Two maps of one place, opened side by side on the grid and in the legend of the first."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader

from landcover.change_guards import Codes, Maps, Percent
from landcover.errors import LegendError, RasterError, SettingsError
from landcover.joint_probability import TRANSITION, changed_percent, transition_percent
from landcover.legend import Legend
from landcover.period import Period
from landcover.transitions import check_pairable
from pipeline.aligned_reader import AlignedReader
from pipeline.class_raster import ClassRaster, open_classes
from pipeline.cog import open_raster
from pipeline.composite import DAY, OBSERVATIONS
from pipeline.confidence_raster import check_confidence, percents
from pipeline.crosswalk_areas import load_crosswalk

_LARGEST_RECORD = 2**26
Blocks = list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]]


@dataclass(frozen=True)
class MapFiles:
    """The files of a map."""

    classes: Path
    confidence: Path | None
    composite: Path | None
    probabilities: Path | None
    period: str | None
    """Days that the map shows, `start/end`."""
    model: str | None
    """SHA-256 of the checkpoint."""

    @classmethod
    def of(cls, path: Path) -> "MapFiles":
        """Those of a folder of a run, or one class raster. Raises RasterError where there is none."""
        if not path.is_dir():
            return cls(path, None, None, None, None, None)
        if not (path / "classes.tif").is_file():
            raise RasterError(
                f"{path} holds no classes.tif; give the folder of a run (OUT/REGION/PERIOD) or a class raster."
            )
        record = _record(path / "run.json")
        model = record.get("model")
        sure, image, chances = (
            file if file.is_file() else None
            for file in (
                path / "confidence.tif",
                path / "composite.tif",
                path / "probabilities.tif",
            )
        )
        return cls(
            path / "classes.tif", sure, image, chances, _period(record),
            str(model["sha256"]) if isinstance(model, dict) and "sha256" in model else None,
        )  # fmt: skip

    @property
    def last_day(self) -> str | None:
        """Last day of the period, `YYYY-MM-DD`."""
        return str(Period.parse(self.period).end) if self.period else None


def _record(path: Path) -> dict[str, Any]:
    """Content of a run.json; empty where there is none that can be read."""
    try:
        if path.stat().st_size > _LARGEST_RECORD:
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _period(record: Mapping[str, Any]) -> str | None:
    try:
        return str(Period.parse(str(record["period"])))
    except (KeyError, SettingsError):
        return None


@dataclass(frozen=True)
class _Side:
    """One open map."""

    raster: ClassRaster
    classes: AlignedReader
    confidence: AlignedReader | None
    composite: AlignedReader | None
    probabilities: AlignedReader | None
    recoded: NDArray[np.uint8] | None
    """Code in the first map's legend of each code, (65536,); None where the legends are one."""

    def codes(self, rows: slice) -> Codes:
        """Class codes in the legend of the first map, (rows, cols), 0 is nodata."""
        values, inside = self.classes.nearest(rows, [1])
        try:
            codes = self.raster.values.of(values[0], inside)
        except LegendError as error:
            raise RasterError(f"{self.raster.dataset.name}: {error}") from error
        return np.asarray(codes if self.recoded is None else self.recoded[codes], np.uint8)

    def sure(self, rows: slice) -> Percent | None:
        """Confidence, percent."""
        if self.confidence is None:
            return None
        return percents(self.confidence.dataset, self.confidence.nearest(rows, [1])[0][0])

    def chances(self, rows: slice, codes: Sequence[int]) -> NDArray[np.uint8] | None:
        """Probability of each class of the first map, 1 + 254 p, (classes, rows, cols), 0 where unknown.

        codes: those classes. What leads to one class by the crosswalk is added up.
        """
        if self.probabilities is None:
            return None
        own = self.raster.legend.codes
        steps = self.probabilities.nearest(rows, range(1, len(own) + 1))[0]
        sums = np.zeros((len(codes), *steps.shape[1:]), np.int16)
        for code, band in zip(own, steps, strict=True):
            there = code if self.recoded is None else int(self.recoded[code])
            if there in codes:
                sums[codes.index(there)] += np.maximum(band, 1) - np.uint8(1)
        known = (steps > 0).all(axis=0)
        return np.where(known, np.minimum(sums, 254) + 1, 0).astype(np.uint8)

    def bands(self) -> dict[str, int]:
        """Number of each measured band of the composite, by name."""
        if self.composite is None:
            return {}
        names = enumerate(self.composite.dataset.descriptions, start=1)
        return {name: n for n, name in names if name and name not in (OBSERVATIONS, DAY)}


@dataclass(frozen=True)
class MapPair:
    """Two open maps; see `open_pair`."""

    files: tuple[MapFiles, MapFiles]
    sides: tuple[_Side, _Side]

    @property
    def grid(self) -> GeoBox:
        """That of the first map."""
        return self.sides[0].raster.grid

    @property
    def legend(self) -> Legend:
        """That of the first map."""
        return self.sides[0].raster.legend

    @property
    def same_grid(self) -> bool:
        """Whether nothing of the second map is resampled."""
        return self.sides[1].classes.same

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Measured bands that both composites have; none where one is missing."""
        first, second = (side.bands() for side in self.sides)
        return tuple(name for name in first if name in second)

    @property
    def has_probabilities(self) -> bool:
        """Whether both maps have the probabilities of all classes."""
        return all(side.probabilities for side in self.sides)

    def maps(self, rows: slice, evidence: Percent | None, measure: str) -> Maps:
        """Classes and confidence of some rows; measure: what is taken of probabilities, one of MEASURES."""
        before, after = (side.codes(rows) for side in self.sides)
        one, other = (side.sure(rows) for side in self.sides)
        known = None if one is None or other is None else (one, other)
        chance = self._chance(rows, before, after, measure)
        return Maps(before, after, known, evidence, chance)

    def _chance(self, rows: slice, before: Codes, after: Codes, measure: str) -> Percent | None:
        codes = self.legend.codes
        one, other = (side.chances(rows, codes) for side in self.sides)
        if one is None or other is None:
            return None
        if measure != TRANSITION:
            return changed_percent(one, other)
        places = np.zeros(256, np.uint8)
        places[list(codes)] = range(len(codes))
        return transition_percent(one, other, places[before], places[after])

    def images(self, rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:  # fmt: skip
        """Both composites (bands, rows, cols), and where both hold data."""
        first, second = (
            side.composite.interpolated(rows, [side.bands()[name] for name in self.bands])
            for side in self.sides
            if side.composite
        )
        return first, second, np.asarray(((first > 0) & (second > 0)).all(axis=0))

    def days(self, rows: slice) -> list[NDArray[np.integer] | None]:
        """Day that each composite shows, days since 1970-01-01, 0 where unknown; None without such a band."""
        return [
            None
            if side.composite is None or DAY not in side.composite.dataset.descriptions
            else side.composite.nearest(rows, [side.composite.dataset.descriptions.index(DAY) + 1])[0][0]
            for side in self.sides
        ]  # fmt: skip


@contextlib.contextmanager
def open_pair(
    before: Path,
    after: Path,
    output: Path,
    *,
    legend: str | None = None,
    legend_after: str | None = None,
    crosswalk: str | None = None,
) -> Iterator[MapPair]:
    """Open two maps, to compare them into the folder `output`.

    before, after: folder of a run, or class raster. legend, legend_after: as `value_legend` takes them; the
    second is the first's where it is not given. crosswalk: from the second's classes to the first's, as
    `load_crosswalk` takes it; what has no counterpart is nodata.
    Raises RasterError, LegendError or SettingsError where the two cannot be compared.
    """
    files = MapFiles.of(before), MapFiles.of(after)
    for one in files:
        if one.classes.parent.resolve() == output.resolve():
            raise SettingsError(
                f"{output} is the folder of one of the maps; give the change a folder of its own."
            )
    failure: LegendError | None = None
    with contextlib.ExitStack() as stack:
        rasters = [
            stack.enter_context(open_classes(one.classes, output / "change.tif", name))
            for one, name in zip(files, (legend, legend_after or legend), strict=True)
        ]
        try:
            pair = _pair(stack, files, (rasters[0], rasters[1]), crosswalk)
        except LegendError as error:  # the rasters would put their names before it
            failure = error
        else:
            yield pair
    if failure:
        raise failure


def _pair(
    stack: contextlib.ExitStack,
    files: tuple[MapFiles, MapFiles],
    rasters: tuple[ClassRaster, ClassRaster],
    crosswalk: str | None,
) -> MapPair:
    first, second = rasters
    try:
        check_pairable(first.legend)
    except LegendError as error:
        raise LegendError(f"{first.dataset.name}: {error}") from error
    tables = None, _recoded(first, second, crosswalk)
    sides = [
        _Side(
            raster, AlignedReader(raster.dataset, first.grid),
            _reader(stack, one.confidence, first.grid), _reader(stack, one.composite, first.grid),
            _reader(stack, one.probabilities, first.grid), table,
        )
        for raster, one, table in zip(rasters, files, tables, strict=True)
    ]  # fmt: skip
    for side in sides:
        _check_kinds(side)
    return MapPair(files, (sides[0], sides[1]))


def _reader(stack: contextlib.ExitStack, path: Path | None, grid: GeoBox) -> AlignedReader | None:
    return None if path is None else AlignedReader(stack.enter_context(open_raster(path)), grid)


def _check_kinds(side: _Side) -> None:
    if side.confidence:
        check_confidence(side.confidence.dataset)
    chances = side.probabilities
    if chances and not _are_of(chances.dataset, side.raster.legend):
        raise RasterError(
            f"{chances.dataset.name} is no probability raster of {side.raster.dataset.name}: a band of uint8 for each "
            "class, named by its code; make it by --probabilities in the same run, or take it away."
        )
    image = side.composite
    if image and not set(image.dataset.dtypes) <= {"uint8", "uint16"}:
        raise RasterError(
            f"{image.dataset.name} has bands of {', '.join(sorted(set(image.dataset.dtypes)))}; a composite of "
            "ours has whole numbers (uint16): make it by landcover composite."
        )


def _are_of(chances: DatasetReader, legend: Legend) -> bool:
    """Whether a raster holds the probabilities of a legend's classes, in its order."""
    named = [str(name or "").partition(" ")[0] for name in chances.descriptions]
    return named == [str(code) for code in legend.codes] and set(chances.dtypes) == {"uint8"}


def _recoded(
    first: ClassRaster, second: ClassRaster, crosswalk: str | None
) -> NDArray[np.uint8] | None:
    """Code in the first legend of each code of the second; None where they mean the same."""
    here, there = ({c.code: c.name for c in raster.legend.classes} for raster in (first, second))
    if crosswalk is None:
        if here != there:
            raise LegendError(
                f"{second.dataset.name} has other classes ({_shown(there)}) than {first.dataset.name} "
                f"({_shown(here)}); give a --crosswalk from the second's classes to the first's."
            )
        return None
    names = {str(code): name for code, name in here.items()}
    table = np.zeros(1 << 16, np.uint8)
    for row in load_crosswalk(crosswalk, second.legend).table.rows:
        if row.to_code and names.get(row.to_code) != row.to_name:
            raise LegendError(
                f"The crosswalk {crosswalk} leads to the class {row.to_code} {row.to_name}, which "
                f"{first.dataset.name} lacks (it has {_shown(here)})."
            )
        table[row.from_code] = int(row.to_code or 0)
    return table


def _shown(names: Mapping[int, str]) -> str:
    listed = [f"{code} {name}" for code, name in sorted(names.items())]
    return ", ".join(listed[:4]) + (", ..." if len(listed) > 4 else "")
