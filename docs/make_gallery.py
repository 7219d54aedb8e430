"""Index, search, composite and draw every set of real images: `make gallery`.

Needs the folder of real imagery, ../shared/data or what LANDCOVER_SHARED_DATA names.
"""

import html
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from landcover.period import Period
from pipeline.composite import composite
from pipeline.index import index_folder
from pipeline.items import read_index
from pipeline.region import Region
from pipeline.region_grid import region_grid
from pipeline.search import search

DATA = Path(__file__).parent / "../../shared/data"
LONGEST = 800
"""Longest side of a picture, pixels."""
CHECKERS = 8
"""Side of the squares that stand for no data, pixels of the picture."""
TRUE_COLOR = ("red", "green", "blue")
COUNTS = np.array(
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64
)
"""Colours of the number of observations, one to the most."""


@dataclass(frozen=True)
class View:
    """One composite of a set of images."""

    label: str
    period: str | None = None
    """Days taken, None for all."""
    drawn: tuple[str, str, str] = TRUE_COLOR
    """Bands drawn as red, green and blue."""


@dataclass(frozen=True)
class Show:
    """A set of images that is one place."""

    name: str
    folder: str
    """Below the folder of real imagery."""
    views: tuple[View, ...]
    about: str
    files: str | None = None
    """Pattern of those files of the folder that are meant, with what lies beside them; None for all."""
    dates: Mapping[str, str] = field(default_factory=dict)
    """Path pattern -> date, where the files do not say."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else is said to `index`."""


@dataclass(frozen=True)
class Made:
    """A composite and what is known of it."""

    path: Path
    scenes: int
    dates: tuple[str, ...]
    grid: GeoBox
    nodata: float
    """Share of the footprint's pixels without an observation."""
    seconds: float
    """Search and composite."""


def shows(data: Path) -> list[Show]:
    """All sets of real images."""
    return [*_oscd(data), *_satellites(), *_photographs()]


def _oscd(data: Path) -> Iterator[Show]:
    """Sentinel-2 pairs; their true dates are in a text file, as `date_1: 20150821`."""
    for file in sorted((data / "sentinel2_pairs_oscd/images").glob("*/dates.txt")):
        days = [
            f"{text[:4]}-{text[4:6]}-{text[6:8]}"
            for line in file.read_text().splitlines()[:2]
            for text in [line.split(": ")[1].strip()]
        ]
        yield Show(
            f"oscd-{file.parent.name}",
            f"sentinel2_pairs_oscd/images/{file.parent.name}",
            (*(View(day, day) for day in days), View("median of both")),
            "Sentinel-2 L1C, one file per band, 10, 20 and 60 m; no cloud mask",
            dates={f"imgs_{n}/*": day for n, day in enumerate(days, start=1)},
        )


def _satellites() -> list[Show]:
    seasons = ("red", "green", "blue", "nir")
    return [
        Show(
            "beaufort",
            "sentinel2_scene_beaufort",
            (View("2018-10-13"), View("near infrared", drawn=("nir", "red", "green"))),
            "Sentinel-2 L1C as 8-bit pictures; 255 is no data and no tag says so",
            settings={"nodata": 255},
        ),
        Show(
            "austria",
            "sentinel2_two_season_austria",
            (View("season A"), View("season B", drawn=("red_b", "green_b", "blue_b"))),
            "Sentinel-2, two seasons as bands of one file; the day is a placeholder, the source tells none",
            settings={"date": "2022", "bands": (*seasons, *(f"{name}_b" for name in seasons))},
        ),
        Show(
            "taizhou",
            "landsat_change_taizhou",
            tuple(View(day, day, ("nir", "red", "green")) for day in ("2000-03-17", "2003-02-06")),
            "Landsat 7, ENVI without file ending; bands and dates from the header",
        ),
        Show(
            "peru",
            "landsat_series_peru",
            tuple(
                View(str(year), f"{year}-01-01/{year}-12-31", ("swir16", "nir", "red"))
                for year in range(1985, 2021, 5)
            ),
            "Landsat, a picture every five years, 0 is no data",
            settings={"bands": ("swir16", "nir", "red", "green")},
        ),
        Show(
            "fmask",
            "landsat7_pair_fmask",
            (
                View("1999-11-18, clear", "1999-11-18"),
                View("2002-04-16, cloudy", "2002-04-16"),
                View("median of both"),
            ),
            "Landsat 7 with Fmask as last band; 16000 is invalid",
            settings={
                "bands": ("blue", "green", "red", "nir", "swir16", "swir22", "lwir", "fmask"),
                "nodata": 16000,
            },
        ),
    ]


def _photographs() -> Iterator[Show]:
    days = ("2009-08-18", "2014-07-20", "2019-09-04", "2020-08-31")
    yield Show(
        "naip",
        "naip_series_north_dakota",
        (*(View(day, day) for day in days), View("median of all")),
        "Aerial photographs; that of 2009 has a grid of its own",
    )
    yield Show(
        "pix4d",
        "drone_orthos",
        (View("drone"),),
        "Drone orthomosaic, alpha says where there is data; the day is a placeholder",
        files="pix4d*",
        settings={"date": "2020-01-01"},
    )
    for kind in ("", "_alpha", "_mask", "_extmask", "_nodata"):
        yield Show(
            f"201404{kind}",
            "drone_orthos",
            (View(f"no data told by: {kind[1:] or 'nothing'}"),),
            "The same aerial tile five times",
            files=f"201404*_CL_1{kind}.tif*",
            settings={"date": "2014-04-01"},
        )


# --- making ---------------------------------------------------------------------------------------


def index_show(show: Show, data: Path, work: Path) -> dict[str, Any]:
    """Index the images of a show into `work`/index.ndjson; what index_folder returns."""
    work.mkdir(parents=True, exist_ok=True)
    images = (data / show.folder).resolve()
    if show.files:
        images = _linked(images.glob(show.files), work / "images")
    table = None
    if show.dates:
        table = work / "dates.csv"
        rows = [f"{pattern},{day}\n" for pattern, day in show.dates.items()]
        table.write_text("path,datetime\n" + "".join(rows), encoding="utf-8")
    return index_folder(
        images, work / "index.ndjson", datetimes=table, report=_quiet, **show.settings
    )


def _linked(files: Iterable[Path], folder: Path) -> Path:
    folder.mkdir()
    for path in files:
        (folder / path.name).symlink_to(path)
    return folder


def make_view(show: Show, view: View, work: Path) -> Made:
    """Search and composite one view of an indexed show, on the grid that its images ask for."""
    started = time.perf_counter()
    catalog, items = work / "index.ndjson", work / f"{_slug(view.label)}.json"
    region = Region(name=show.name, footprint=_footprint(catalog))
    period = Period.parse(view.period) if view.period else None
    found = search(
        catalog=str(catalog), footprint=region.footprint, period=period, region=region.name,
        output=items, bands=view.drawn, report=_quiet,
    )  # fmt: skip
    output = items.with_suffix(".tif")
    grid = region_grid(region, items)
    details = composite(
        items=items, grid=grid, footprint=region.footprint, bands=view.drawn, output=output,
        report=_quiet,
    )  # fmt: skip
    nodata = details["pixels_without_observation"] / details["pixels_in_footprint"]
    seconds = time.perf_counter() - started
    return Made(output, found["scenes"], tuple(found["dates"]), grid, nodata, seconds)


def _footprint(catalog: Path) -> BaseGeometry:
    """The union of the images' own footprints."""
    footprint: BaseGeometry = shapely.union_all(
        [shape(item["geometry"]) for item in read_index(catalog)]
    )
    return footprint


def _quiet(_line: str) -> None:
    pass


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())


# --- drawing --------------------------------------------------------------------------------------


def draw(path: Path) -> tuple[Image.Image, Image.Image]:
    """The composite's first three bands, stretched, and its number of observations, as pictures."""
    with rasterio.open(path) as dataset:
        shrink = max(1.0, max(dataset.shape) / LONGEST)
        shape = (round(dataset.height / shrink), round(dataset.width / shrink))
        values = dataset.read([1, 2, 3, 4], out_shape=(4, *shape))
    seen = values[3] > 0
    color = np.stack([_stretched(band, seen) for band in values[:3]], axis=-1)
    return _picture(color, seen), _picture(_count_colors(values[3]), seen)


def _stretched(band: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    dark, bright = np.percentile(band[seen], (2, 98)) if seen.any() else (0, 1)
    stretched: NDArray[np.float64] = np.clip((band - dark) / max(bright - dark, 1), 0, 1) * 255
    return stretched


def _count_colors(count: NDArray[Any]) -> NDArray[np.float64]:
    place = (count - 1.0) / max(int(count.max()) - 1, 1)
    stops = np.linspace(0, 1, len(COUNTS))
    return np.stack([np.interp(place, stops, COUNTS[:, i]) for i in range(3)], axis=-1)


def _picture(color: NDArray[np.float64], seen: NDArray[np.bool_]) -> Image.Image:
    """A picture with checkers where there is no data."""
    row, col = np.indices(seen.shape) // CHECKERS
    checkers = np.where((row + col) % 2, 205.0, 245.0)[..., None]
    return Image.fromarray(np.where(seen[..., None], color, checkers).astype(np.uint8))


# --- the page -------------------------------------------------------------------------------------

_PAGE = """<!doctype html><meta charset="utf-8"><title>Gallery</title>
<style>body{{font:14px sans-serif;margin:2em}}figure{{display:inline-block;margin:0 1em 1em 0;vertical-align:top}}
img{{max-height:360px;image-rendering:pixelated;border:1px solid #999}}figcaption{{max-width:480px;color:#444}}</style>
<h1>Real images, composited</h1>
<p>Left the composite, 2 to 98 % of each band stretched; right the number of clear observations, dark
one, bright the most. Checkers are no data. {seconds:.0f} s for {views} composites.</p>{body}
"""


def _section(show: Show, details: Mapping[str, Any], figures: Sequence[str]) -> str:
    facts = f"{details['items']} scenes on {len(details['dates'])} dates indexed"
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in details["notes"])
    title = f"<h2>{html.escape(show.name)}</h2><p>{html.escape(show.about)}; {facts}.</p>"
    return f"{title}<ul>{notes}</ul>{''.join(figures)}"


def _figure(view: View, made: Made, pictures: Sequence[str]) -> str:
    images = "".join(f'<img src="{html.escape(name)}" alt=""> ' for name in pictures)
    rows, cols = made.grid.shape
    facts = (
        f"{view.label} ({', '.join(view.drawn)}): {made.scenes} scenes on {len(made.dates)} dates, "
        f"{cols} x {rows} pixels of {made.grid.resolution.x:.6g} in {made.grid.crs}, "
        f"{made.nodata:.2%} no data, {made.seconds:.1f} s"
    )
    return f"<figure>{images}<figcaption>{html.escape(facts)}</figcaption></figure>"


def main(output: Path, data: Path) -> None:
    """Write index.html and the pictures to a folder."""
    if not data.is_dir():
        sys.exit(f"There is no real imagery at {data.resolve()}; set LANDCOVER_SHARED_DATA.")
    output.mkdir(parents=True, exist_ok=True)
    started, sections, numbers = time.perf_counter(), [], {}
    for show in shows(data):
        figures = []
        with tempfile.TemporaryDirectory() as folder:
            details = index_show(show, data, Path(folder))
            for view in show.views:
                made = make_view(show, view, Path(folder))
                stem = f"{show.name}-{_slug(view.label)}"
                names = (f"{stem}.png", f"{stem}-count.png")
                for picture, name in zip(draw(made.path), names, strict=True):
                    picture.save(output / name, optimize=True)
                figures.append(_figure(view, made, names))
                size = list(made.grid.shape)
                numbers[stem] = {"size": size, "nodata": made.nodata, "seconds": made.seconds}
                print(f"{stem}: {made.seconds:.1f} s, {made.nodata:.2%} no data")
        sections.append(_section(show, details, figures))
    page = _PAGE.format(
        seconds=time.perf_counter() - started, views=len(numbers), body="".join(sections)
    )
    (output / "index.html").write_text(page, encoding="utf-8")
    (output / "numbers.json").write_text(json.dumps(numbers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(os.environ.get("LANDCOVER_SHARED_DATA", DATA)))
