"""Two simulated dates whose true change is known, mapped and compared: what the guards are worth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import Affine
from rich.table import Table
from scipy.ndimage import binary_dilation, shift

from landcover.change_guards import GUARDS
from landcover.errors import SettingsError
from landcover.landscape import Landscape, LandscapeOptions, build_landscape
from landcover.noise import Floats, smooth_fractal
from landcover.simulation import COARSE_BANDS, Moment, Scenery, double, sensor_noise
from landcover.spectra import BANDS, CODE, Climate, Cover
from pipeline.artifacts import write_json
from pipeline.change import ChangeSettings, change
from pipeline.cog import CogProfile, open_cog, open_raster
from pipeline.composite import DAY, OBSERVATIONS
from pipeline.job import DEMO_MODEL
from pipeline.segment import segment

Mask = NDArray[np.bool_]

_CORNER = (468_000, 5_372_000)
_MISPLACED = (0.3, -0.265)
"""Rows and columns by which the second image lies wrong: 0.4 pixels."""
SETTINGS = ChangeSettings(min_area=0.2)
"""Of the demo's comparisons."""
_EPOCH = np.datetime64("1970-01-01")


@dataclass(frozen=True)
class SimulatedDate:
    """When a map's scenes are taken."""

    year: int
    days: tuple[int, ...]
    """Of the year."""
    climate: Climate
    misplaced: tuple[float, float]

    @property
    def period(self) -> str:
        """First and last day."""
        first, last = (self.date(day) for day in (self.days[0], self.days[-1]))
        return f"{first}/{last}"

    def date(self, day: int) -> np.datetime64:
        """Calendar date of a day of the year."""
        return np.datetime64(f"{self.year}-01-01") + np.timedelta64(day - 1, "D")


_DATES = (
    SimulatedDate(2021, (154, 182, 210), Climate(), (0.0, 0.0)),
    SimulatedDate(2024, (200, 229, 258), Climate(shift=9.0, drought=0.30), _MISPLACED),
)
"""The second year is dry, its spring is late, its scenes are 47 days later: none of that is change."""


@dataclass(frozen=True)
class ChangeDemo:
    """Two mapped dates on disk, and the truth."""

    before: Path
    after: Path
    lands: tuple[Landscape, Landscape]
    """The true landscapes."""

    @property
    def truth(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Class codes of both dates."""
        return self.lands[0].cover, self.lands[1].cover


def make_change_demo(
    folder: Path, seed: int, size: int, report: Callable[[str], None] = print
) -> ChangeDemo:
    """Simulate a landscape at two dates, write both composites, and map them with the shipped weights.

    size: side of the square, pixels of 10 m; even, 256 or more. Raises SettingsError for another.
    """
    if size < 256 or size % 2:
        raise SettingsError(
            f"The demo's size is {size}; give an even number of pixels from 256 up."
        )
    first = build_landscape(seed, (size, size))
    demo = ChangeDemo(folder / "before", folder / "after", (first, changed_landscape(first, seed)))
    for number, (place, date) in enumerate(zip((demo.before, demo.after), _DATES, strict=True)):
        report(f"simulating and mapping {date.period} ...")
        map_date(place, demo.lands[number], date, seed, number)
    return demo


def map_date(place: Path, land: Landscape, date: SimulatedDate, seed: int, number: int) -> None:
    """Simulate the composite of a date into a folder, and map it with the shipped weights."""
    grid = GeoBox(land.cover.shape, Affine(10, 0, _CORNER[0], 0, -10, _CORNER[1]), "EPSG:32633")
    _write_composite(place / "composite.tif", land, date, seed, number, grid)
    segment(
        image=place / "composite.tif", model=DEMO_MODEL, classes=place / "classes.tif",
        confidence=place / "confidence.tif", report=lambda _: None,
    )  # fmt: skip
    write_json(place / "run.json", {"period": date.period, "region": {"name": "change demo"}})


def changed_landscape(land: Landscape, seed: int) -> Landscape:
    """The same country with a new town, two clear-cuts and a reservoir."""
    rng = np.random.default_rng([seed, 77])
    shape = land.material.shape
    town = build_landscape(seed + 500, shape, LandscapeOptions(city=0.9, river=0, lakes=0, hills=0))
    open_land = np.isin(land.cover, (Cover.CROPS, Cover.GRASS))
    trees = land.cover == Cover.TREES
    parts = {name: getattr(land, name).copy() for name in ("material", "variant", "texture", "lanes")}  # fmt: skip
    taken = np.zeros(shape, np.bool_)
    for share, kind, wanted in (
        (0.016, "town", open_land), (0.012, "lake", open_land), (0.006, "bare earth", trees), (0.005, "bare earth", trees),
    ):  # fmt: skip
        blob = _blob(rng, wanted & ~taken, share)
        taken |= binary_dilation(blob, iterations=8)
        if kind == "town":
            for name, values in parts.items():
                values[blob] = getattr(town, name)[blob]
            continue
        parts["material"][blob] = CODE[kind]
        parts["variant"][blob] = rng.integers(256)
        calm = 0.5 + 0.15 * smooth_fractal(rng, shape, 2.0, 60, 2)
        parts["texture"][blob] = np.clip(calm, 0, 1)[blob]
        parts["lanes"][blob] = 0
    return replace(land, **parts)


def _blob(rng: np.random.Generator, wanted: Mask, share: float) -> Mask:
    """A ragged patch of about this share of the raster, where most of what is wanted lies."""
    shape = wanted.shape
    radius = float(np.sqrt(share * wanted.size / np.pi))
    ragged = radius * 0.22 * smooth_fractal(rng, shape, 2.6, 2 * radius, 2)
    margin = int(1.3 * radius)
    best, place = -1.0, (0, 0)
    for _ in range(60):
        row, col = (int(rng.uniform(margin, n - margin)) for n in shape)
        around = wanted[
            row - int(radius) : row + int(radius), col - int(radius) : col + int(radius)
        ]
        if around.mean() > best:
            best, place = float(around.mean()), (row, col)
    rows, cols = np.ogrid[tuple(map(slice, shape))]
    near = np.hypot(rows - place[0], cols - place[1]) + ragged < radius
    return np.asarray(near & wanted)


def _write_composite(
    path: Path, land: Landscape, date: SimulatedDate, seed: int, number: int, grid: GeoBox
) -> None:
    """Median of the clear scenes of a date, as `landcover composite` writes it."""
    scenery = Scenery(replace(land, options=replace(land.options, climate=date.climate)), seed)
    scenes = [_scene(scenery, day, date.misplaced, 1000 * seed + 100 * number + day) for day in date.days]  # fmt: skip
    values = np.clip(np.rint(np.median(scenes, axis=0) * 10_000), 1, 65_535)
    middle = (date.date(date.days[len(date.days) // 2]) - _EPOCH).astype(int)
    extra = np.stack([np.full(grid.shape, len(date.days)), np.full(grid.shape, middle)])
    profile = CogProfile(
        "uint16", [*BANDS, OBSERVATIONS, DAY], scales=[1e-4] * len(BANDS) + [1.0, 1.0],
        tags={"OBSERVATIONS": str(len(date.days))},
    )  # fmt: skip
    with open_cog(path, grid, profile) as cog:
        cog.write(np.concatenate([values, extra]).astype(np.uint16))


def _scene(scenery: Scenery, day: int, misplaced: tuple[float, float], seed: int) -> Floats:
    """What the sensor sees on a clear day, (bands, rows, cols)."""
    view = scenery.reflectance(Moment(day, 158.0, 58.0, 0.0, seed))
    bands = []
    for number, name in enumerate(BANDS):
        is_coarse = name in COARSE_BANDS
        seen = view.coarse_band(name) if is_coarse else view.band(name)
        if any(misplaced):
            step = tuple(-axis / (2 if is_coarse else 1) for axis in misplaced)
            seen = shift(seen, [-axis for axis in step], order=3, mode="nearest")
        seen = sensor_noise(seen, seed * 10 + number)
        bands.append(double(seen) if is_coarse else seen)
    return np.stack(bands).astype(np.float32)


# What is found of what is true.


def compare(
    demo: ChangeDemo, output: Path, *, each: bool = True, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Compare the two maps with all guards and without; figures against the truth.

    each: also without each single guard. Returns the record of the comparison with `figures`, one row for each
    setting.
    """
    report("all guards ...")
    facts = change(
        before=demo.before, after=demo.after, output=output, settings=SETTINGS, raw=True,
        report=lambda _: None,
    )  # fmt: skip
    rows = [{"guards": "none: plain difference"} | _figures(demo, output / "change_raw.tif")]
    for guard in GUARDS if each else ():
        report(f"without {guard} ...")
        without = output / f"without-{guard}"
        change(
            before=demo.before, after=demo.after, output=without,
            settings=replace(SETTINGS, off=(guard,)), report=lambda _: None,
        )  # fmt: skip
        rows.append({"guards": f"all but {guard}"} | _figures(demo, without / "change.tif"))
    rows.append({"guards": "all"} | _figures(demo, output / "change.tif"))
    facts["figures"] = rows
    return facts


def _figures(demo: ChangeDemo, path: Path) -> dict[str, float]:
    """Precision, recall and F1 of changed pixels, and two shares in percent.

    false: of unchanged land that is called changed; right_classes: of the changes found that have both classes
    right.
    """
    with open_raster(path) as dataset:
        pairs = dataset.read(1)
    before, after = demo.truth
    is_true, found = before != after, pairs // 256 != pairs % 256
    known = pairs > 0
    hit = int((is_true & found & known).sum())
    right = found & is_true & (pairs == before.astype(np.uint16) * 256 + after)
    precision = hit / max(int((found & known).sum()), 1)
    recall = hit / max(int((is_true & known).sum()), 1)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-12),
        "false_percent": 100 * float((found & ~is_true & known).sum() / (~is_true & known).sum()),
        "right_classes_percent": 100 * float(right.sum()) / max(hit, 1),
    }


def figure_table(rows: list[Mapping[str, Any]]) -> Table:
    """The figures for the screen."""
    table = Table(title="Change found against the simulated truth")
    table.add_column("Guards")
    for name in ("Precision", "Recall", "F1", "False, % of unchanged land", "Right classes, %"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["guards"], f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}",
            f"{row['false_percent']:.2f}", f"{row['right_classes_percent']:.1f}",
        )  # fmt: skip
    return table
