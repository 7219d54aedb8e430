"""Change found in real pairs of images against what people saw there: `make change-table`.

Needs the folder of real imagery, ../shared/data or what LANDCOVER_SHARED_DATA names. Every city with a label under
sentinel2_pairs_oscd is taken. Its truth is urban change, at the pixels of the first image; Taizhou's are samples.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from rich.console import Console
from rich.table import Table

from docs.make_gallery import DATA, Show, _footprint, index_show, shows
from landcover.legend import Legend
from landcover.period import Period
from pipeline.artifacts import write_json
from pipeline.change import ChangeSettings, change
from pipeline.change_survey import CVA, MAD
from pipeline.cog import open_raster, raster_grid, read_legend
from pipeline.composite import composite
from pipeline.items import read_index
from pipeline.job import DEFAULT_MODEL
from pipeline.search import search
from pipeline.segment import segment
from pipeline.transition_table import transition_table

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
METHODS = ("post-classification", "change vector", "ours", "ours by MAD")
_URBAN = ("urban", "bare")
"""Kinds of classes between which building shows: what is built on is bare for a while."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """How well a mask of change agrees with the truth."""

    precision: float
    recall: float
    f1: float
    kappa: float

    @classmethod
    def of(cls, found: Mask, truth: Mask) -> "Score":
        """Both (pixels,)."""
        n, hit = truth.size, int((found & truth).sum())
        yes, real = int(found.sum()), int(truth.sum())
        agreed = (n - yes - real + 2 * hit) / n
        chance = (yes * real + (n - yes) * (n - real)) / n**2
        return cls(
            hit / max(yes, 1), hit / max(real, 1), 2 * hit / max(yes + real, 1),
            (agreed - chance) / max(1 - chance, 1e-12),
        )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One place."""

    name: str
    show: Show
    truth: Mask
    """Changed, (rows, cols)."""
    known: Mask
    """Where the truth says anything."""
    urban_only: bool
    """Whether the truth is urban change, so that only such transitions count."""


def cases(data: Path) -> Iterator[Case]:
    """All pairs with a truth, OSCD first."""
    known = {show.name: show for show in shows(data)}
    for path in sorted((data / "sentinel2_pairs_oscd/labels").glob("*/cm/*-cm.tif")):
        city = path.parents[1].name
        if f"oscd-{city}" in known:
            truth = _image(path)
            yield Case(city, known[f"oscd-{city}"], truth == 2, truth > 0, urban_only=True)
    folder = data / "landsat_change_taizhou"
    changed, same = (_image(folder / name) > 0 for name in ("change.bmp", "unchanged.bmp"))
    yield Case("taizhou", known["taizhou"], changed, changed | same, urban_only=False)


def _image(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        values: NDArray[np.uint8] = np.array(image.convert("L") if path.suffix == ".bmp" else image)
        return values


def score(case: Case, data: Path, work: Path) -> dict[str, Score]:
    """Map both dates with the shipped weights, compare them by each method."""
    index_show(case.show, data, work)
    days = [view.period or "" for view in case.show.views[:2]]
    for day in days:
        _map(case, day, work)
    for name, evidence in (("change", CVA), ("change-mad", MAD)):
        change(
            before=work / days[0], after=work / days[1], output=work / name,
            settings=ChangeSettings(evidence=evidence), report=_quiet,
        )  # fmt: skip
    first, second, seen = _pixels(work, days)
    known = case.known & seen
    masks = {
        METHODS[0]: _plain(work, days, urban_only=case.urban_only),
        METHODS[1]: change_vector(first, second, seen),
        METHODS[2]: _ours(work / "change", urban_only=case.urban_only),
        METHODS[3]: _ours(work / "change-mad", urban_only=case.urban_only),
    }
    return {name: Score.of(mask[known], case.truth[known]) for name, mask in masks.items()}


def _map(case: Case, day: str, work: Path) -> None:
    """A folder as a run leaves it, on the pixels of the first image, where the truth is."""
    folder, catalog = work / day, work / "index.ndjson"
    folder.mkdir(exist_ok=True)
    footprint = _footprint(catalog)
    search(
        catalog=str(catalog), footprint=footprint, period=Period.parse(day), region=case.name,
        output=folder / "items.json", bands=BANDS, report=_quiet,
    )  # fmt: skip
    composite(
        items=folder / "items.json", grid=_first_grid(catalog), footprint=footprint, bands=BANDS,
        output=folder / "composite.tif", report=_quiet,
    )  # fmt: skip
    segment(
        image=folder / "composite.tif", model=DEFAULT_MODEL, classes=folder / "classes.tif",
        confidence=folder / "confidence.tif", report=_quiet,
    )  # fmt: skip
    write_json(folder / "run.json", {"period": day})


def _first_grid(catalog: Path) -> GeoBox:
    """That of the earliest image, of its blue band where bands are files of their own."""
    first = min(read_index(catalog), key=lambda item: str(item["properties"]["datetime"]))["assets"]
    with rasterio.open((first.get("blue") or next(iter(first.values())))["href"]) as dataset:
        return raster_grid(dataset)


def _pixels(work: Path, days: list[str]) -> tuple[NDArray[Any], NDArray[Any], Mask]:
    """Both composites (bands, rows, cols), and where both hold data."""
    images = []
    for day in days:
        with open_raster(work / day / "composite.tif") as dataset:
            images.append(dataset.read(list(range(1, len(BANDS) + 1))).astype(np.float64))
    return images[0], images[1], ((images[0] > 0) & (images[1] > 0)).all(axis=0)


def change_vector(first: NDArray[Any], second: NDArray[Any], seen: Mask) -> Mask:
    """Change-vector analysis (Malila 1980) of the bands as they are, cut by the rule of Otsu (1979)."""
    length = np.sqrt(((second - first) ** 2).sum(axis=0))
    counts, edges = np.histogram(length[seen], 256)
    middle = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts)[:-1], counts.sum()
    sums = np.cumsum(counts * middle)
    between = (sums[-1] * below / total - sums[:-1]) ** 2 / (below * (total - below))
    return np.asarray(seen & (length > edges[1:-1][np.argmax(between)]))


def _plain(work: Path, days: list[str], *, urban_only: bool) -> Mask:
    """Where the classes of the two maps differ, to or from the same kinds of classes as ours."""
    codes = []
    for day in days:
        with open_raster(work / day / "classes.tif") as dataset:
            codes.append(dataset.read(1))
            legend = read_legend(dataset)
    before, after = codes
    differs = (before != after) & (before > 0) & (after > 0)
    urban = _urban_codes(legend)
    return differs & (np.isin(before, urban) | np.isin(after, urban)) if urban_only else differs


def _urban_codes(legend: Legend) -> list[int]:
    table = transition_table()
    return [c.code for c in legend.classes if table.kind(c.name) in _URBAN]


def _ours(folder: Path, *, urban_only: bool) -> Mask:
    """Transitions to or from built-up or bare land, and such land whose surface changed.

    Where the truth is any change: the image evidence alone, as the classes of images that are no
    reflectances mean nothing.
    """
    if not urban_only:
        with open_raster(folder / "spectral.tif") as dataset:
            return np.asarray(dataset.read(1) >= 50)
    with (
        open_raster(folder / "change.tif") as changed,
        open_raster(folder / "surface.tif") as surface,
    ):
        pairs, codes, legend = changed.read(1), surface.read(1), read_legend(surface)
    before, after, urban = pairs // 256, pairs % 256, _urban_codes(legend)
    moved = (before != after) & (np.isin(before, urban) | np.isin(after, urban))
    return np.asarray(moved | (codes > 0))


def _quiet(_line: str) -> None:
    pass


def table_of(scores: dict[str, dict[str, Score]]) -> Table:
    """One line for each place and method, the best F1 of a place marked."""
    table = Table(title="Change against what people saw")
    for name in ("Place", "Method"):
        table.add_column(name)
    for name in ("Precision", "Recall", "F1", "Kappa"):
        table.add_column(name, justify="right")
    for place, methods in scores.items():
        best = max(one.f1 for one in methods.values())
        for name, one in methods.items():
            mark = " *" if one.f1 == best else ""
            figures = (f"{value:.3f}" for value in (one.precision, one.recall, one.f1, one.kappa))
            table.add_row(place, name + mark, *figures)
        table.add_section()
    return table


def main(data: Path) -> None:
    """Print the table of all places."""
    if not data.is_dir():
        sys.exit(f"There is no real imagery at {data.resolve()}; set LANDCOVER_SHARED_DATA.")
    scores = {}
    for case in cases(data):
        print(f"{case.name} ...", flush=True)
        with tempfile.TemporaryDirectory() as work:
            scores[case.name] = score(case, data, Path(work))
    Console().print(table_of(scores))
    print(
        "Cities: truth is urban change; transitions to or from built-up or bare land count. Taizhou: samples of any "
        "change; ours is the image evidence alone, as its digital numbers are no reflectances."
    )


if __name__ == "__main__":
    main(Path(os.environ.get("LANDCOVER_SHARED_DATA", DATA)))
