"""Index: make a catalogue of a folder of images, so that it can be searched like a STAC API."""

import csv
import hashlib
import io
import json
import math
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import rustac
from rasterio.errors import NotGeoreferencedWarning
from shapely.geometry import mapping

from landcover.bands import MASK, SENTINEL2
from landcover.errors import LandcoverError, RasterError, SettingsError
from pipeline.acquisition import Acquisition, DatetimeTable, from_name, from_production, from_tags
from pipeline.artifacts import Report, atomic_path, write_text
from pipeline.image_file import DRIVERS, BandFacts, ImageFile, read_image
from pipeline.items import Item

_THREADS = 8
_PRODUCTION = "production time"
_EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
]
_COMMON_NAMES = (frozenset(SENTINEL2.values()) - {MASK}) | {
    "pan",
    "lwir",
    "lwir11",
    "lwir12",
    "rededge",
    "yellow",
}
_SYNONYMS = {
    "grey": "gray", "near infrared": "nir", "near-infrared": "nir", "swir1": "swir16", "swir2": "swir22",
}  # fmt: skip
_KNOWN_NAMES = _COMMON_NAMES | {MASK, "gray", "alpha"}
_BY_COUNT = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}
_GENERIC_NAME = re.compile(r"(?:band|layer|b)?[ _]?\d*")  # what software writes by itself

_BAND_FILE = re.compile(
    r"(?:(?P<prefix>.*)[ _.-])?(?P<band>B(?:0[1-9]|1[0-2]|8A)|SCL)(?:_[126]0m)?", re.IGNORECASE
)
_RESOLUTION_FOLDER = re.compile(r"R[126]0m")
_LANDSAT_BAND = re.compile(r"(?:L[CEOTM]\d\d_|HLS[._]L30)", re.IGNORECASE)
_SENTINEL2_NAME = re.compile(r"(?:^|[/_.])(?:S2[A-D]_|T\d\d[A-Z]{3}_)|sentinel-?2", re.IGNORECASE)
_BASELINE_IN_NAME = re.compile(r"_N(\d\d)(\d\d)_")
_BASELINE_TAGS = ("S2:PROCESSING_BASELINE", "PROCESSING_BASELINE")
_CLOUD_TAGS = (
    "EO:CLOUD_COVER",
    "CLOUD_COVERAGE_ASSESSMENT",
    "CLOUDY_PIXEL_PERCENTAGE",
    "CLOUD_COVER",
)


@dataclass(frozen=True)
class _File:
    """An image file found below the folder, and which band of which scene its name makes it."""

    name: PurePosixPath
    """Path relative to the folder."""
    scene: str
    """Name of the scene it belongs to, relative to the folder."""
    band: str | None
    """Common name of its band; None for an image of its own."""
    image: ImageFile | None = None
    """None until it was read, and for a picture that is no imagery."""


@dataclass
class _Tally:
    """What happened to the files, for the report."""

    skipped: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    """File name -> why it cannot be used."""
    dated_by: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Source of the time -> scenes dated by it."""
    guessed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File name -> band names taken from the number of bands alone."""

    def notes(self, output: Path) -> list[str]:
        """What a person should know of how the index came about."""
        notes = [f"{name} skipped: a picture without a place on the Earth" for name in self.skipped]
        for names, count in Counter(self.guessed.values()).items():
            notes.append(
                f"{count} files do not name their bands, taken as {', '.join(names)}; "
                "if that is wrong, name them with --bands"
            )
        if self.rejected:
            notes.append(
                f"{len(self.rejected)} unusable files, listed in {output.name}.rejected.csv"
            )
        if produced := self.dated_by.get(_PRODUCTION):
            notes.append(
                f"{len(produced)} scenes are dated by the production time in their names "
                f"({produced[0]}{', ...' if len(produced) > 1 else ''}): give the acquisition dates "
                "with --datetimes"
            )
        sources = (f"{len(names)} from the {source}" for source, names in self.dated_by.items())
        return [*notes, f"dates: {', '.join(sources)}"]


def index_folder(
    folder: Path,
    output: Path,
    *,
    datetimes: Path | None = None,
    collection: str | None = None,
    bands: Sequence[str] | None = None,
    skip_bad: bool = False,
    report: Report = print,
) -> dict[str, Any]:
    """Write STAC items of the GeoTIFF and JPEG 2000 images below a folder to `output`.

    A file that holds one Sentinel-2 band by its name (`*_B02.tif`, `*_SCL_20m.jp2`) joins its
    neighbours of the same name in one item with an asset per band; any other image is an item.
    output: .parquet (stac-geoparquet) or .ndjson. datetimes: CSV table path,datetime that goes
    before metadata and names. collection: id of the collection, default the folder's name. bands:
    names of the bands of the multi-band images, where the files do not say. skip_bad: index the
    rest and list unusable files in `<output>.rejected.csv`. Hrefs are relative where the images lie
    below the output's folder.
    Returns {items, files, skipped, rejected, dates, dated_by, notes}; notes are sentences to be shown.
    Raises RasterError for an unusable file, or where there is no usable one, and SettingsError for
    an unusable table or output name; then nothing is written.
    """
    _check_output(output)
    if not folder.is_dir():
        raise SettingsError(
            f"The folder {folder} does not exist; give the folder that holds the images."
        )
    table = DatetimeTable.read(datetimes) if datetimes else None
    files = sorted(_find(folder), key=lambda file: file.name)
    if table:
        table.check_used(file.name for file in files)
    tally = _Tally()
    usable = _read_all(folder, files, tally, report)
    name = collection or _slug(folder.absolute().name) or "imagery"
    items = _items(usable, name, output, table, bands, tally)
    _judge(folder, items, tally, skip_bad=skip_bad)
    _write(output, items)
    _write_rejected(output, tally)
    return _details(files, items, tally, output)


# --- finding and reading --------------------------------------------------------------------------


def _check_output(output: Path) -> None:
    if output.suffix.lower() not in {".parquet", ".ndjson"}:
        raise SettingsError(f"The index {output} must end in .parquet or .ndjson.")


def _find(folder: Path) -> Iterator[_File]:
    """Image files below a folder, hidden ones and links to folders apart."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if path.suffix.lower() in DRIVERS and not name.startswith(".") and path.is_file():
                yield _classify(PurePosixPath(path.relative_to(folder).as_posix()))


def _classify(name: PurePosixPath) -> _File:
    match = _BAND_FILE.fullmatch(name.stem)
    if not match or _LANDSAT_BAND.search(name.stem):
        return _File(name, str(name.with_suffix("")), None)
    place = name.parent.parent if _RESOLUTION_FOLDER.fullmatch(name.parent.name) else name.parent
    prefix = (match["prefix"] or "").rstrip(" _.,-")
    return _File(name, str(place / prefix), SENTINEL2[match["band"].upper()])


def _read_all(folder: Path, files: Sequence[_File], tally: _Tally, report: Report) -> list[_File]:
    """Read every file's header and test its pixels, several at a time."""

    def read(file: _File) -> _File | LandcoverError:
        try:
            return _read(folder, file)
        except RasterError as error:
            return error

    usable = []
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # we say so ourselves
        for count, (file, result) in enumerate(
            zip(files, pool.map(read, files), strict=True), start=1
        ):
            if isinstance(result, LandcoverError):
                tally.rejected[str(file.name)] = str(result)
            elif result.image is None:
                tally.skipped.append(str(file.name))
            else:
                usable.append(result)
            if count % max(1, len(files) // 10) == 0:
                report(f"index: {count} of {len(files)} files read")
    return usable


def _read(folder: Path, file: _File) -> _File:
    path = folder / file.name
    if not str(file.name).isprintable():
        raise RasterError(f"{str(path)!r} has unprintable characters in its name; rename it.")
    if (
        file.band is None
        and _LANDSAT_BAND.search(file.name.stem)
        and _BAND_FILE.fullmatch(file.name.stem)
    ):
        raise RasterError(
            f"{path} is one band of a Landsat scene, which cannot be grouped by name; stack the scene's "
            "bands into one GeoTIFF with band descriptions, or leave it out with --skip-bad."
        )
    image = read_image(path, is_band=file.band is not None)
    if image and file.band and len(image.bands) > 1:
        raise RasterError(
            f"{path} is named as one band ('{file.band}') but holds {len(image.bands)}; rename it."
        )
    return _File(file.name, file.scene, file.band, image)


# --- making items ---------------------------------------------------------------------------------


def _items(
    files: Iterable[_File], collection: str, output: Path, table: DatetimeTable | None,
    bands: Sequence[str] | None, tally: _Tally,
) -> list[Item]:  # fmt: skip
    """One item per scene, sorted by id; a file that makes no item is put with the rejected."""
    scenes: defaultdict[tuple[str, bool], list[_File]] = defaultdict(list)
    for file in files:  # a file of its own never joins a scene of bands, whatever its name
        scenes[file.scene if file.band else str(file.name), file.band is not None].append(file)
    items = []
    for members in scenes.values():
        try:
            when = _date(members, table, tally)
            items.append(_item(members, when, output, bands, tally))
        except RasterError as error:
            tally.rejected |= {str(file.name): str(error) for file in members}
    _name_items(items, collection)
    return sorted(items, key=lambda item: str(item["id"]))


def _date(members: Sequence[_File], table: DatetimeTable | None, tally: _Tally) -> Acquisition:
    """Time of a scene: the table's, else the metadata's, else the name's, else of its production."""
    found: dict[str, list[Acquisition]] = {
        "table": [when for f in members if table and (when := table.find(f.name))],
        "metadata": [when for f in members if f.image and (when := from_tags(f.image.tags))],
        "name": [when for f in members[:1] if (when := from_name(f.name))],
        _PRODUCTION: [when for f in members[:1] if (when := from_production(f.name))],
    }
    for source, moments in found.items():
        if source == "table" and len(set(moments)) > 1:
            raise RasterError(
                f"The table gives the bands of one scene different times ({members[0].name} ...); use one pattern for all."
            )
        if moments:
            tally.dated_by[source].append(members[0].scene)
            return min(moments, key=lambda moment: moment.start)
    raise RasterError(
        f"{members[0].name} has no date in its metadata nor its name; give one in a table with the columns "
        "path,datetime (--datetimes TABLE.csv), or leave it out with --skip-bad."
    )


def _item(
    members: Sequence[_File],
    when: Acquisition,
    output: Path,
    bands: Sequence[str] | None,
    tally: _Tally,
) -> Item:
    if members[0].band is None:
        finest = members[0]
        assets = {"image": _asset(finest, _named(finest, bands, tally), output)}
    else:
        by_size = sorted(members, key=lambda f: (_image(f).gsd, f.name))
        finest, assets = by_size[0], {}
        for file in by_size:  # of a band in several resolutions the finest counts
            assets.setdefault(str(file.band), _asset(file, [str(file.band)], output))
        assets = dict(sorted(assets.items()))
    image = _image(finest)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": finest.scene,
        "collection": None,
        "geometry": json.loads(json.dumps(mapping(image.footprint))),
        "bbox": _bbox(image),
        "properties": {**when.properties(), "gsd": image.gsd, **_scene_facts(members)},
        "links": [],
        "assets": assets,
    }


def _scene_facts(members: Sequence[_File]) -> dict[str, Any]:
    """Facts of the whole scene that tags or names give: baseline, cloud cover, constellation."""
    facts: dict[str, Any] = {}
    tags = {k.upper(): v for file in members for k, v in _image(file).tags.items()}
    name = str(members[0].name)
    if members[0].band and _SENTINEL2_NAME.search(name):
        facts["constellation"] = "sentinel-2"
    if baseline := _first(tags, _BASELINE_TAGS, r"\d\d\.\d\d"):
        facts["s2:processing_baseline"] = baseline
    elif match := _BASELINE_IN_NAME.search(name):
        facts["s2:processing_baseline"] = ".".join(match.groups())
    if cover := _first(tags, _CLOUD_TAGS, r"\d+(?:\.\d+)?"):
        facts["eo:cloud_cover"] = float(cover)
    return facts


def _first(tags: Mapping[str, str], names: Iterable[str], pattern: str) -> str | None:
    """First of some tags whose value looks right."""
    values = (tags.get(name, "").strip() for name in names)
    return next((value for value in values if re.fullmatch(pattern, value)), None)


def _image(file: _File) -> ImageFile:
    if file.image is None:
        raise AssertionError(f"{file.name} was not read")
    return file.image


def _bbox(image: ImageFile) -> list[float]:
    """West, south, east, north; west > east where the footprint crosses the antimeridian."""
    west, south, east, north = image.footprint.bounds
    if image.footprint.geom_type == "MultiPolygon":
        parts = [part.bounds for part in image.footprint.geoms]
        west = min(part[0] for part in parts if part[0] > 0)
        east = max(part[2] for part in parts if part[2] < 0)
    return [west, south, east, north]


def _asset(file: _File, names: Sequence[str], output: Path) -> dict[str, Any]:
    image = _image(file)
    code = image.crs_code
    return {
        "href": _href(image.path, output),
        "type": "image/jp2"
        if image.path.suffix.lower() == ".jp2"
        else "image/tiff; application=geotiff",
        "roles": ["data"],
        **({"proj:code": code} if code else {"proj:wkt2": image.crs.to_wkt(version="WKT2_2019")}),
        "proj:shape": list(image.shape),
        "proj:transform": [float(value) for value in image.transform[:6]],
        "gsd": image.gsd,
        "file:size": image.size,
        "bands": [_band(facts, name) for facts, name in zip(image.bands, names, strict=True)],
    }


def _href(path: Path, output: Path) -> str:
    """Relative where the image lies below the index's folder, so that both can be moved together."""
    path, base = path.absolute(), output.absolute().parent
    return f"./{path.relative_to(base).as_posix()}" if path.is_relative_to(base) else str(path)


def _band(facts: BandFacts, name: str) -> dict[str, Any]:
    band: dict[str, Any] = {"name": name, "data_type": facts.dtype}
    if name in _COMMON_NAMES:
        band["eo:common_name"] = name
    if facts.nodata is not None and math.isfinite(facts.nodata):  # NaN needs no telling
        band["nodata"] = facts.nodata
    if (facts.scale, facts.offset) != (1.0, 0.0):
        band |= {"raster:scale": facts.scale, "raster:offset": facts.offset}
    return band


# --- names ----------------------------------------------------------------------------------------


def _named(file: _File, given: Sequence[str] | None, tally: _Tally) -> list[str]:
    """Names of an image's bands: as given, as described, by colour, or by their number."""
    image = _image(file)
    count = len(image.bands)
    if given:
        if len(given) != count:
            raise RasterError(
                f"{file.name} has {count} bands, not the {len(given)} named by --bands; index it apart."
            )
        return [_standard(name) for name in given]
    described = [_standard(band.description or "") for band in image.bands]
    colors = [band.colorinterp for band in image.bands]
    if _KNOWN_NAMES & set(described):
        return _distinct(described)
    if {"red", "green", "blue"} <= set(colors):
        return _by_color(file, colors, tally)
    if all(_GENERIC_NAME.fullmatch(name) for name in described):
        alpha = ("alpha",) if count > 1 and colors[-1] == "alpha" else ()
        names = (*_BY_COUNT.get(count - len(alpha), ()), *alpha)
        if len(names) == count:
            if count > 1:
                tally.guessed[str(file.name)] = names
            return list(names)
    return _distinct(described)


def _standard(text: str) -> str:
    name = text.strip().lower()
    return SENTINEL2.get(name.upper()) or _SYNONYMS.get(name, name)


def _by_color(file: _File, colors: Sequence[str], tally: _Tally) -> list[str]:
    """Bands that GDAL marks red, green, blue; a single one without a mark is near infrared."""
    if colors.count("undefined") == 1:
        colors = ["nir" if color == "undefined" else color for color in colors]
        tally.guessed[str(file.name)] = tuple(colors)
    return _distinct(colors)


def _distinct(names: Sequence[str]) -> list[str]:
    """Usable names, none twice: what cannot be used becomes band_N."""
    counts = Counter(names)
    good = (name and name.isprintable() and name != "undefined" for name in names)
    return [
        name if fine and counts[name] == 1 else f"band_{number}"
        for number, (name, fine) in enumerate(zip(names, good, strict=True), start=1)
    ]


def _name_items(items: Sequence[Item], collection: str) -> None:
    """Give each item its collection and an id made of its path: safe, stable, none twice."""
    wanted = [_slug(item["id"]) or collection for item in items]
    counts = Counter(wanted)
    for item, name in zip(items, wanted, strict=True):
        if counts[name] > 1 or len(name) > 200:
            href = min(asset["href"] for asset in item["assets"].values())
            name = f"{name[:200]}-{hashlib.sha256(href.encode()).hexdigest()[:8]}"  # noqa: PLW2901 - the id to use
        item["id"], item["collection"] = name, collection


def _slug(text: str) -> str:
    """Text as letters, digits, dot, dash and underscore only."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


# --- the outcome ----------------------------------------------------------------------------------


def _judge(folder: Path, items: Sequence[Item], tally: _Tally, *, skip_bad: bool) -> None:
    """Raise where a file cannot be used (unless told to skip it), or none can."""
    if tally.rejected and (not skip_bad or not items):
        more = len(tally.rejected) - 1
        first = tally.rejected[min(tally.rejected)]
        raise RasterError(f"{first} ({more} more files cannot be used.)" if more else first)
    if not items:
        kinds = " ".join(sorted(DRIVERS))
        raise RasterError(
            f"The folder {folder} holds no georeferenced image ({kinds}); {len(tally.skipped)} pictures without "
            "a place on the Earth were passed over."
        )


def _write(output: Path, items: Sequence[Item]) -> None:
    if output.suffix.lower() == ".ndjson":
        write_text(output, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
        return
    with atomic_path(output) as partial:
        rustac.write_sync(str(partial), list(items))


def _write_rejected(output: Path, tally: _Tally) -> None:
    listing = output.with_name(output.name + ".rejected.csv")
    if not tally.rejected:
        listing.unlink(missing_ok=True)  # a list of an earlier index
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows(sorted(tally.rejected.items()))
    write_text(listing, text.getvalue())


def _details(
    files: Sequence[_File], items: Sequence[Item], tally: _Tally, output: Path
) -> dict[str, Any]:
    moments = [i["properties"]["datetime"] or i["properties"]["start_datetime"] for i in items]
    return {
        "items": len(items),
        "files": len(files),
        "skipped": list(tally.skipped),
        "rejected": sorted(tally.rejected),
        "dates": sorted({moment[:10] for moment in moments}),
        "dated_by": {source: len(names) for source, names in tally.dated_by.items()},
        "notes": tally.notes(output),
    }
