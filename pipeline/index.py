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
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import rustac
from rasterio.errors import NotGeoreferencedWarning
from shapely.geometry import mapping

from landcover.errors import LandcoverError, RasterError, SettingsError
from landcover.harmonization import OFFSET_SINCE
from pipeline.acquisition import (
    Acquisition,
    DatetimeTable,
    from_descriptions,
    from_name,
    from_production,
    from_tags,
    parse,
)
from pipeline.artifacts import Report, atomic_path, write_text
from pipeline.band_file import SIDE, BandFile, band_file
from pipeline.band_names import (
    COMMON_NAMES,
    MASKS,
    are_numbers,
    band_names,
    check_names,
    standard_name,
)
from pipeline.image_file import DRIVERS, BandFacts, ImageFile, envi_images, read_image
from pipeline.items import Item, one_line
from pipeline.sentinel2_baseline import sentinel2_baseline

_THREADS = 8
_PRODUCTION = "production time"
_EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
]
_MEDIA_TYPES = {
    "GTiff": "image/tiff; application=geotiff",
    "JP2OpenJPEG": "image/jp2",
}
_TYPES = {ending: _MEDIA_TYPES[driver] for ending, driver in DRIVERS.items()}
"""Media type by file name ending; ENVI has none."""
_UNREAD = {
    ".vrt": "is a VRT, which can make GDAL open any other file; write out what it shows, as with `gdal_translate -of COG IN OUT.tif`",
} | dict.fromkeys(
    (".nc", ".h5", ".hdf", ".he5", ".img", ".ecw", ".sid"),
    "is of a format that is not read; convert it, as with `gdal_translate -of COG IN OUT.tif`",
)
"""Why files of some formats are rejected, by file name ending, where they are not ENVI images."""

_BASELINE_TAGS = ("S2:PROCESSING_BASELINE", "PROCESSING_BASELINE")
_CLOUD_TAGS = (
    "EO:CLOUD_COVER",
    "CLOUD_COVERAGE_ASSESSMENT",
    "CLOUDY_PIXEL_PERCENTAGE",
    "CLOUD_COVER",
)


@dataclass(frozen=True)
class _File:
    """An image file found below the folder."""

    name: PurePosixPath
    """Path relative to the folder."""
    part: BandFile | None
    """Which band of which scene its name makes it; None for an image of its own."""
    image: ImageFile | None = None
    """None until it was read, and for a picture that is no imagery."""

    @property
    def scene(self) -> str:
        """Name of its scene, relative to the folder."""
        return self.part.scene if self.part else str(self.name.with_suffix(""))


@dataclass(frozen=True)
class _Declared:
    """What the user says of the images where they do not say it themselves."""

    datetimes: DatetimeTable | None
    date: Acquisition | None
    bands: Sequence[str] | None
    nodata: float | None
    scale: float | None


@dataclass
class _Tally:
    """What happened to the files, for the report."""

    skipped: list[str] = field(default_factory=list)
    """Pictures without a place on the Earth."""
    sides: list[str] = field(default_factory=list)
    """Files of a scene that show nothing of the ground."""
    rejected: dict[str, str] = field(default_factory=dict)
    """File name -> why it cannot be used."""
    dated_by: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Source of the time -> scenes dated by it."""
    guessed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File name -> band names taken from the number of bands alone."""
    numbered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File name -> band names that are but numbers."""
    floats: list[str] = field(default_factory=list)
    """Files of numbers with fractions whose unit is not said."""
    unharmonized: list[str] = field(default_factory=list)
    """Scenes of Sentinel-2 that may carry ESA's offset, and do not say it."""

    def notes(self, output: Path) -> list[str]:
        """What a person should know of how the index came about."""
        notes = []
        if self.skipped:
            notes.append(
                f"{len(self.skipped)} pictures without a place on the Earth skipped ({self.skipped[0]}"
                f"{', ...' if len(self.skipped) > 1 else ''})"
            )
        for names, count in Counter(self.guessed.values()).items():
            notes.append(
                f"{count} files do not name their bands, taken as {', '.join(names)}; "
                "if that is wrong, name them with --bands"
            )
        for names, count in Counter(self.numbered.values()).items():
            notes.append(
                f"{count} files only number their bands ({', '.join(names)}), which is not enough to know "
                "what they measure; name them with --bands"
            )
        if self.sides:
            notes.append(f"{len(self.sides)} files passed over: angles, previews and the like")
        if self.floats:
            notes.append(
                f"{len(self.floats)} files hold fractions of unknown unit and cannot be composited: give "
                "their reflectance as stored number times --scale (1 for 0 to 1)"
            )
        if self.unharmonized:
            notes.append(
                f"{len(self.unharmonized)} scenes of Sentinel-2 do not say their processing baseline "
                f"({self.unharmonized[0]}{', ...' if len(self.unharmonized) > 1 else ''}): their numbers are "
                "taken without ESA's offset of 1000, so reflectance is 0.1 too high if it is in them; keep "
                "the files in a folder of the product's name (..._N0509_...) or beside its MTD_MSIL*.xml"
            )
        if self.rejected:
            notes.append(
                f"{len(self.rejected)} unusable files, listed in {_listing(output).name}; "
                f"the first: {self.first_reason()}"
            )
        if produced := self.dated_by.get(_PRODUCTION):
            notes.append(
                f"{len(produced)} scenes are dated by the production time in their names "
                f"({produced[0]}{', ...' if len(produced) > 1 else ''}): give the acquisition dates "
                "with --datetimes"
            )
        sources = (f"{len(names)} from the {source}" for source, names in self.dated_by.items())
        return [*notes, f"dates: {', '.join(sources)}"]

    def first_reason(self) -> str:
        """Why the first of the rejected files cannot be used."""
        return self.rejected[min(self.rejected)]


def index_folder(
    folder: Path,
    output: Path,
    *,
    datetimes: Path | None = None,
    date: str | None = None,
    collection: str | None = None,
    bands: Sequence[str] | None = None,
    nodata: float | None = None,
    scale: float | None = None,
    strict: bool = False,
    report: Report = print,
) -> dict[str, Any]:
    """Write STAC items of the GeoTIFF, JPEG 2000 and ENVI images below a folder (or of one) to `output`.

    A file that holds one band by its name (Sentinel-2, Landsat Collection 2 Level-2, HLS; see
    band_file) joins its neighbours of the same scene in one item with an asset per band; any other
    image is an item. output: .parquet (stac-geoparquet) or .ndjson. Hrefs are relative where the
    images lie below the output's folder. collection: its id, default the folder's name.
    What files do not say themselves can be declared: date, of all; datetimes, a CSV table path,datetime
    (this one goes before metadata and names); bands, the names of multi-band images' bands; nodata, the stored
    number that is no data; scale, by which stored numbers become reflectance (1 for fractions 0..1).
    Unusable files are left out and listed with their reasons in `<output>.rejected.csv`; with strict
    the first is an error.
    Returns {items, files, skipped, rejected, dates, dated_by, notes}; notes are sentences to be shown.
    Raises RasterError where no file is usable (or, if strict, one is not), and SettingsError for an
    unusable table, number or output name; then nothing is written.
    """
    _check_output(output)
    _check_numbers(nodata, scale)
    check_names(bands or ())
    if not folder.exists():
        raise SettingsError(
            f"The folder {folder} does not exist; give the folder that holds the images."
        )
    folder, only = (folder, None) if folder.is_dir() else (folder.parent, folder.name)
    table = DatetimeTable.read(datetimes) if datetimes else None
    declared = _Declared(table, _read_date(date), bands, nodata, scale)
    tally = _Tally()
    found = (
        _classify(folder, PurePosixPath(only), tally, is_envi=False)
        if only
        else _find(folder, tally)
    )
    files = sorted(found, key=lambda file: file.name)
    if table:
        table.check_used(file.name for file in files)
    usable = _read_all(folder, files, tally, report)
    items = _items(usable, output, declared, tally)
    _name_items(items, collection or _slug(folder.absolute().name) or "imagery")
    items.sort(key=lambda item: str(item["id"]))
    _judge(folder, items, tally, strict=strict)
    _write(output, items)
    _write_rejected(output, tally)
    return _details(files, items, tally, output)


def image_catalog(catalog: str, output: Path) -> str:
    """A catalogue's location; where it is an image, that of a new index of it, written to `output`."""
    if "://" in catalog or Path(catalog).suffix.lower() not in DRIVERS:
        return catalog
    index_folder(Path(catalog), output, strict=True, report=lambda _: None)
    return str(output)


# --- finding and reading --------------------------------------------------------------------------


def _check_output(output: Path) -> None:
    if output.suffix.lower() not in {".parquet", ".ndjson"}:
        raise SettingsError(f"The index {output} must end in .parquet or .ndjson.")


def _check_numbers(nodata: float | None, scale: float | None) -> None:
    if nodata is not None and not math.isfinite(nodata):
        raise SettingsError(f"The nodata value is {nodata}; give a number (NaN is always nodata).")
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise SettingsError(f"The scale is {scale}; give a number above 0, like 0.0001.")


def _read_date(text: str | None) -> Acquisition | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise SettingsError(
            f"The date '{text}' is not understood; write it like 2017-10-14, or 2017 for a year."
        ) from error


def _find(folder: Path, tally: _Tally) -> Iterator[_File]:
    """Image files below a folder, hidden ones and links to folders apart."""

    def closed(error: OSError) -> None:
        path = Path(error.filename)
        tally.rejected[str(path.relative_to(folder))] = (
            f"{one_line(ValueError(str(path)))} is a folder that cannot be read ({error.strerror}), so what it "
            "holds is not known; allow it to be read or move it."
        )

    for place, folders, found in os.walk(folder, onerror=closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [n for n in found if not n.startswith(".") and _may_be_file(Path(place, n))]
        raw = set(envi_images(Path(place), names))
        for name in sorted(names):
            path = PurePosixPath(Path(place, name).relative_to(folder).as_posix())
            if name in raw or path.suffix.lower() in DRIVERS.keys() | _UNREAD.keys():
                yield from _classify(folder, path, tally, is_envi=name in raw)


def _may_be_file(path: Path) -> bool:
    """Whether it is a file, or cannot be reached (a link to nothing), which is told when it is read."""
    return os.path.isfile(path) or not os.path.exists(path)  # noqa: PTH110, PTH113 - never raise


def _classify(
    folder: Path, name: PurePosixPath, tally: _Tally, *, is_envi: bool
) -> Iterator[_File]:
    """The file with its place in a scene; none where its name tells that it cannot be used."""
    if not str(name).isprintable():
        reason = f"{str(folder / name)!r} has unprintable characters in its name; rename it."
        tally.rejected[str(name)] = reason
        return
    if not is_envi and (unread := _UNREAD.get(name.suffix.lower())):
        tally.rejected[str(name)] = f"{folder / name} {unread}."
        return
    try:
        part = band_file(name)
    except ValueError as error:
        tally.rejected[str(name)] = f"{folder / name} {error}."
        return
    if part and part.band == SIDE:
        tally.sides.append(str(name))
    else:
        yield _File(name, part)


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
    image = read_image(path, is_band=file.part is not None)
    if image and file.part and len(image.bands) > 1:
        raise RasterError(
            f"{path} is named as one band ('{file.part.band}') but holds {len(image.bands)}; rename it."
        )
    return replace(file, image=image)


# --- making items ---------------------------------------------------------------------------------


def _items(files: Iterable[_File], output: Path, declared: _Declared, tally: _Tally) -> list[Item]:
    """One item per scene; a file that makes no item is put with the rejected."""
    scenes: defaultdict[tuple[str, bool], list[_File]] = defaultdict(list)
    for file in files:  # a file of its own never joins a scene of bands, whatever its name
        scenes[file.scene if file.part else str(file.name), file.part is not None].append(file)
    items = []
    for members in scenes.values():
        try:
            when = _date(members, declared, tally)
            items.append(_item(members, when, output, declared, tally))
        except RasterError as error:
            tally.rejected |= {str(file.name): str(error) for file in members}
    return items


def _date(members: Sequence[_File], declared: _Declared, tally: _Tally) -> Acquisition:
    """Time of a scene: the table's, else the metadata's, the name's, of its production, or as declared."""
    table = declared.datetimes
    found: dict[str, list[Acquisition]] = {
        "table": [when for f in members if table and (when := table.find(f.name))],
        "metadata": [when for f in members if (when := _metadata_date(_image(f)))],
        "name": [when for f in members[:1] if (when := from_name(f.name))],
        _PRODUCTION: [when for f in members[:1] if (when := from_production(f.name))],
        "option": [declared.date] if declared.date else [],
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
        f"{members[0].name} has no date in its metadata nor its name; give it with --date, or those of "
        "several in a table with the columns path,datetime (--datetimes TABLE.csv)."
    )


def _metadata_date(image: ImageFile) -> Acquisition | None:
    return from_tags(image.tags) or from_descriptions(band.description for band in image.bands)


def _item(
    members: Sequence[_File], when: Acquisition, output: Path, declared: _Declared, tally: _Tally
) -> Item:
    if members[0].part is None:
        finest = members[0]
        names = _named(finest, declared.bands, tally)
        assets = {"image": _asset(finest, names, output, declared, tally)}
    else:
        by_size = sorted(members, key=lambda f: (_image(f).gsd, f.name))
        finest, assets = by_size[0], {}
        for file in by_size:  # of a band in several resolutions the finest counts
            if file.part and file.part.band not in assets:
                band = file.part.band
                assets[band] = _asset(file, [band], output, declared, tally)
        assets = dict(sorted(assets.items()))
    image = _image(finest)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": (finest.part and finest.part.product_id) or finest.scene,
        "collection": None,
        "geometry": json.loads(json.dumps(mapping(image.footprint))),
        "bbox": _bbox(image),
        "properties": {**when.properties(), "gsd": image.gsd, **_scene_facts(members, when, tally)},
        "links": [],
        "assets": assets,
    }


def _scene_facts(members: Sequence[_File], when: Acquisition, tally: _Tally) -> dict[str, Any]:
    """Facts of the whole scene that tags or names give: satellite, baseline, cloud cover."""
    part = members[0].part
    facts: dict[str, Any] = dict(part.properties) if part else {}
    tags = {k.upper(): v for file in members for k, v in _image(file).tags.items()}
    if baseline := _baseline(members[0], tags):
        facts["s2:processing_baseline"] = baseline
    elif part and not part.product_id and when.end >= OFFSET_SINCE:
        tally.unharmonized.append(members[0].scene)
    if cover := _first(tags, _CLOUD_TAGS, r"\d+(?:\.\d+)?"):
        facts["eo:cloud_cover"] = float(cover)
    return facts


def _baseline(file: _File, tags: Mapping[str, str]) -> str | None:
    """Processing baseline of a Sentinel-2 scene, None of any other."""
    if file.part and file.part.product_id:  # of Landsat or HLS
        return None
    return _first(tags, _BASELINE_TAGS, r"\d\d\.\d\d") or sentinel2_baseline(
        _image(file).path, is_band=file.part is not None
    )


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


def _asset(
    file: _File, names: Sequence[str], output: Path, declared: _Declared, tally: _Tally
) -> dict[str, Any]:
    image = _image(file)
    code = image.crs_code
    bands = [
        _band(_completed(facts, name, file.part, declared), name)
        for facts, name in zip(image.bands, names, strict=True)
    ]
    if any(b["data_type"].startswith("float") and "raster:scale" not in b for b in bands):
        tally.floats.append(str(file.name))
    kind = _TYPES.get(image.path.suffix.lower())
    return {
        "href": _href(image.path, output),
        **({"type": kind} if kind else {}),
        "roles": ["data"],
        **({"proj:code": code} if code else {"proj:wkt2": image.crs.to_wkt(version="WKT2_2019")}),
        "proj:shape": list(image.shape),
        "proj:transform": [float(value) for value in image.transform[:6]],
        "gsd": image.gsd,
        "file:size": image.size,
        "bands": bands,
    }


def _href(path: Path, output: Path) -> str:
    """Relative where the image lies below the index's folder, so that both can be moved together."""
    path, base = path.absolute(), output.absolute().parent
    return f"./{path.relative_to(base).as_posix()}" if path.is_relative_to(base) else str(path)


def _completed(
    facts: BandFacts, name: str, part: BandFile | None, declared: _Declared
) -> BandFacts:
    """Facts of a band with what the product or the user says where the file says nothing."""
    if name in MASKS or name == "alpha":
        return facts
    if facts.nodata is None:
        facts = replace(facts, nodata=declared.nodata)
    if facts.scale is None and part and part.scaling:
        facts = replace(facts, scale=part.scaling[0], offset=part.scaling[1])
    if facts.scale is None and declared.scale:
        facts = replace(facts, scale=declared.scale)
    return facts


def _band(facts: BandFacts, name: str) -> dict[str, Any]:
    band: dict[str, Any] = {"name": name, "data_type": facts.dtype}
    if name in COMMON_NAMES:
        band["eo:common_name"] = name
    if facts.nodata is not None and math.isfinite(facts.nodata):  # NaN needs no telling
        band["nodata"] = facts.nodata
    if facts.scale is not None:
        band |= {"raster:scale": facts.scale, "raster:offset": facts.offset}
    return band


# --- names ----------------------------------------------------------------------------------------


def _named(file: _File, given: Sequence[str] | None, tally: _Tally) -> list[str]:
    """Names of an image's bands: as given, else as the file has it."""
    facts = _image(file).bands
    if given is None:
        names, guessed = band_names(facts)
        if guessed:
            tally.guessed[str(file.name)] = tuple(names)
        elif are_numbers(names):
            tally.numbered[str(file.name)] = tuple(names)
        return names
    if len(given) != len(facts):
        raise RasterError(
            f"{file.name} has {len(facts)} bands, not the {len(given)} named by --bands; index it apart."
        )
    return [standard_name(name) for name in given]


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


def _judge(folder: Path, items: Sequence[Item], tally: _Tally, *, strict: bool) -> None:
    """Raise where no file can be used, or, if strict, one cannot."""
    if tally.rejected and (strict or not items):
        more = len(tally.rejected) - 1
        first = tally.first_reason()
        raise RasterError(f"{first} ({more} more files cannot be used.)" if more else first)
    if not items:
        kinds = " ".join(sorted(DRIVERS))
        raise RasterError(
            f"The folder {folder} holds no georeferenced image ({kinds}, or ENVI with its .hdr); "
            f"{len(tally.skipped)} pictures without a place on the Earth were passed over."
        )


def _write(output: Path, items: Sequence[Item]) -> None:
    if output.suffix.lower() == ".ndjson":
        write_text(output, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
        return
    with atomic_path(output) as partial:
        rustac.write_sync(str(partial), list(items))


def _listing(output: Path) -> Path:
    return output.with_name(output.name + ".rejected.csv")


def _write_rejected(output: Path, tally: _Tally) -> None:
    listing = _listing(output)
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
