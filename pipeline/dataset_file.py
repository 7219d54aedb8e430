"""The YAML that describes a dataset: which images, which labels, what they mean, how they are split."""

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)  # fmt: skip

from landcover.errors import DatasetError, LandcoverError
from landcover.label_codes import LabelCodes
from landcover.legend import Legend
from landcover.splits import SPLITS
from pipeline.value_legend import NAMES, named_legend

_FIELD = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)\}")
_VARIABLE = re.compile(r"\$\{(LANDCOVER_[A-Z0-9_]+)\}")
_LENGTH = re.compile(r"(\d+(?:\.\d+)?) ?(m|km|px)")
_DEEPEST = 200_000
"""Files that a pattern may match; more is a mistyped pattern."""

Split = Literal["train", "validation", "test"]
Value = Annotated[StrictInt | StrictStr, Field()]
Mapped = dict[Value, Value]


def length(text: str) -> tuple[float, bool]:
    """A length of the YAML as metres, or as pixels: (number, whether it is pixels)."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise AssertionError(f"{text} was checked when the file was read")
    number, unit = float(match[1]), match[2]
    return (number * 1000 if unit == "km" else number), unit == "px"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelRules(_Part):
    """How labels are read; an entry of `images` may say `mapping` and `field` for itself."""

    mapping: Mapped = {}
    """Stored value, "#rrggbb", or attribute -> class code, class name, or `ignore`; empty: codes as they are."""
    field: str | None = None
    """Attribute of polygons that says the class."""
    all_touched: bool = False
    """Polygons label each pixel that they touch, not only those whose centre they hold."""
    resample: Literal["nearest"] | None = None
    """Allows label rasters on another grid or in another CRS than the image."""
    unknown: Literal["refuse", "ignore"] = "refuse"
    """What to do with values that the mapping lacks."""


class ImageEntry(_Part):
    """One image, or a pattern of many, with its labels."""

    image: str | dict[str, str]
    """A file, or one file by band name. `{name}` stands for a part of the path, `*` for any."""
    labels: str
    """Class raster or polygons; `{name}` is what it was in the image's path."""
    field: str | None = None
    mapping: Mapped | None = None
    group: str | None = None
    """Images of one group go to one split; needed where images have no place on the Earth."""
    split: Split | None = None
    """Gives these images to a split as a whole."""


class SplitRules(_Part):
    """How the ground is divided."""

    block: str = "256 px"
    """Side of a block: metres ("2000 m", "2 km") or pixels of the finest image ("256 px")."""
    shares: dict[Split, float] = {"train": 0.7, "validation": 0.15, "test": 0.15}
    seed: int = 0
    buffer: str = "0 m"
    """Ground that is left out between blocks of different splits."""
    crs: str | None = None
    """CRS of the blocks, in metres; chosen by the place when left out."""
    origin: tuple[float, float] | None = None
    """Corner of a block in that CRS; the north-west corner of all images when left out."""
    groups: dict[str, Split] = {}
    """Splits of groups by name."""

    @field_validator("block", "buffer")
    @classmethod
    def _check_length(cls, value: str) -> str:
        if not _LENGTH.fullmatch(value.strip()):
            raise ValueError('write a length such as "2000 m", "2 km" or "256 px"')
        return value.strip()

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, value: dict[Split, float]) -> dict[Split, float]:
        if min(value.values(), default=0) < 0 or not 0 < sum(value.values()) < float("inf"):
            raise ValueError(
                "shares are positive numbers, such as {train: 0.7, validation: 0.15, test: 0.15}"
            )
        return value

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if length(self.block)[0] <= 0:
            raise ValueError("the block has no size")
        return self

    @property
    def by_number(self) -> tuple[float, ...]:
        """Shares of train, validation and test."""
        return tuple(self.shares.get(name, 0.0) for name in SPLITS)  # type: ignore[call-overload]


class DatasetFile(_Part):
    """Everything that the YAML of a dataset says."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    licence: str = Field(min_length=1)
    """Of images and labels together, as text or SPDX identifier."""
    credit: str = ""
    """Who is to be named."""
    bands: tuple[str, ...] | dict[str, Annotated[int, Field(ge=1)]]
    """Names in channel order; or name: number of the band in each file, from 1."""
    scale: float = Field(default=1.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    """Physical value = stored value x scale + offset."""
    nodata: float | None = None
    """Stored number that is no data, where the files do not say."""
    nodata_in: Literal["any", "all"] = "any"
    """Whether one band with that number makes a pixel empty, or only all bands together."""
    legend: str | list[dict[str, Any]]
    """Classes as code, name, color; or a legend's name, or a CSV file."""
    images: list[ImageEntry] = Field(min_length=1)
    labels: LabelRules = LabelRules()
    ignore: str | None = None
    """Polygons in which nothing counts as labelled."""
    splits: SplitRules = SplitRules()

    @field_validator("bands")
    @classmethod
    def _check_bands(
        cls, value: tuple[str, ...] | dict[str, int]
    ) -> tuple[str, ...] | dict[str, int]:
        names = [name.strip() for name in value]
        if not names or not all(names) or len({name.lower() for name in names}) < len(names):
            raise ValueError("name each band once, at least one")
        return value

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands in channel order."""
        return tuple(self.bands)


@dataclass(frozen=True)
class NamedPath:
    """A file, and what the dataset calls it: as in the YAML, so it is the same on every machine."""

    name: str
    path: Path


@dataclass(frozen=True)
class Source:
    """One image with its labels, found on disk but not opened."""

    files: tuple[NamedPath, ...]
    """One file with all bands, or one by band in channel order."""
    labels: NamedPath
    field: str | None
    mapping: Mapping[int | str, int | str]
    group: str | None
    split: Split | None

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self.files[0].name


@dataclass(frozen=True)
class DatasetPlan:
    """A dataset file, read, with its patterns resolved."""

    path: Path
    file: DatasetFile
    legend: Legend
    sources: tuple[Source, ...]
    ignore: NamedPath | None
    legend_codes: Mapping[int, int]
    """Default codes of stored values, where the legend is a named one."""
    legend_file: NamedPath | None
    """The CSV file of the legend, where it is one."""

    @property
    def default_mapping(self) -> dict[int | str, int | str]:
        """What stored values mean where no mapping is given; empty: they are codes."""
        return dict(self.legend_codes.items())

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Every file that matters, by its name."""
        found = [n for s in self.sources for n in (*s.files, s.labels)]
        found += [named for named in (self.ignore, self.legend_file) if named]
        return {named.name: named.path for named in sorted(found, key=lambda n: n.name)}


def read_dataset_file(path: Path) -> DatasetPlan:
    """Read and check the YAML of a dataset, and find its files.

    Relative paths are meant from the YAML's folder; `${LANDCOVER_...}` at any place is replaced by that
    environment variable, other variables are not. Raises DatasetError with the reason where the file
    is missing, says what it must not, or names a file that is not there.
    """
    file = _parse(path)
    legend_file = _legend_file(file, path)
    try:
        legend, codes = _legend(file, legend_file)
    except LandcoverError as error:
        raise DatasetError(f"{path}: {error}") from error
    sources = tuple(source for entry in file.images for source in _sources(entry, file, path))
    seen: set[tuple[str, ...]] = set()
    for source in sources:
        names = tuple(named.name for named in source.files)
        if names in seen:
            raise DatasetError(f"{path}: the image {source.name} is named twice; name it once.")
        seen.add(names)
    ignore = _named(file.ignore, path) if file.ignore else None
    if ignore and not ignore.path.is_file():
        raise DatasetError(
            f"{path}: there is no file {ignore.name} with areas to ignore; check the path."
        )
    ordered = tuple(sorted(sources, key=lambda source: [named.name for named in source.files]))
    return DatasetPlan(path, file, legend, ordered, ignore, codes, legend_file)


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise yaml.YAMLError(f"the key {twice[0]!r} is given twice, {node.start_mark}")
        return super().construct_mapping(node, deep)


def _parse(path: Path) -> DatasetFile:
    if not path.is_file():
        raise DatasetError(f"There is no dataset file {path}; check the path.")
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - derived from SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(fields, dict):
        raise DatasetError(
            f"{path} is no dataset: it must give name, licence, bands, legend, images."
        )
    try:
        return DatasetFile.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        shown = repr(first["input"])
        shown = shown if len(shown) <= 120 else shown[:119] + "\N{HORIZONTAL ELLIPSIS}"
        raise DatasetError(f"{path}: '{where}': {first['msg']} (found {shown}).") from error


def _legend_file(file: DatasetFile, path: Path) -> NamedPath | None:
    """The CSV file that is the legend; None where it is in the YAML, or comes with the program."""
    if not isinstance(file.legend, str):
        return None
    beside = path.parent / file.legend
    if beside.is_file():
        return NamedPath(file.legend, beside)
    return None if file.legend in NAMES else NamedPath(file.legend, Path(file.legend))


def _legend(file: DatasetFile, own: NamedPath | None) -> tuple[Legend, Mapping[int, int]]:
    """The classes, and the codes that a named legend gives to stored values."""
    if isinstance(file.legend, str):
        found = named_legend(str(own.path) if own else file.legend)
        legend, codes = found.legend, found.codes
    else:
        legend = Legend.from_records(file.legend)
        codes = {}
    if max(legend.codes) > 255:
        raise DatasetError(
            f"The legend has the class code {max(legend.codes)}; classes to train on have codes from 1 to 255."
        )
    return legend, codes


def label_codes(source: Source, plan: DatasetPlan) -> LabelCodes:
    """What the values of a label raster mean; DatasetError where the mapping is wrong."""
    try:
        return LabelCodes.of(source.mapping or plan.default_mapping, plan.legend)
    except DatasetError as error:
        raise DatasetError(f"{plan.path}: {error}") from error


def _sources(entry: ImageEntry, file: DatasetFile, path: Path) -> Iterator[Source]:
    if isinstance(entry.image, str):
        templates = [entry.image]
    else:
        missing = [name for name in file.band_names if name not in entry.image]
        if missing:
            raise DatasetError(
                f"{path}: an image has no file for the band {missing[0]}; it has {', '.join(entry.image)}."
            )
        templates = [entry.image[name] for name in file.band_names]
    found = 0
    for first, fields in _matches(templates[0], path):
        found += 1
        rest = [_named(_filled(template, fields, path), path) for template in templates[1:]]
        labels = _named(_filled(entry.labels, fields, path), path)
        for named in (*rest, labels):
            if not named.path.is_file():
                raise DatasetError(
                    f"{path}: there is no file {named.name}, which goes with {first.name}; check the path."
                )
        group = _filled(entry.group, fields, path) if entry.group else None
        yield Source(
            files=(first, *rest), labels=labels, field=entry.field or file.labels.field,
            mapping=file.labels.mapping if entry.mapping is None else entry.mapping,
            group=group, split=_split(entry, group, file, path),
        )  # fmt: skip
    if not found:
        raise DatasetError(f"{path}: there is no image {templates[0]}; check the path.")


def _split(entry: ImageEntry, group: str | None, file: DatasetFile, path: Path) -> Split | None:
    named = file.splits.groups.get(group) if group else None
    if entry.split and named and entry.split != named:
        raise DatasetError(
            f"{path}: the group {group} is given to {named} under splits and to {entry.split} under images."
        )
    return entry.split or named


def _matches(template: str, path: Path) -> Iterator[tuple[NamedPath, dict[str, str]]]:
    """The files that a template stands for, and what its fields are in each; sorted by name."""
    whole = _absolute(template, path)
    if not _FIELD.search(template) and "*" not in template:
        if whole.is_file():
            yield NamedPath(template, whole), {}
        return
    text = str(whole)
    parts = re.split(r"(\{[A-Za-z_]\w*\}|\*)", text)
    search = "".join(
        "*" if part == "*" or _FIELD.fullmatch(part) else glob.escape(part) for part in parts
    )
    pattern, known = "", set()
    for part in parts:
        field = _FIELD.fullmatch(part)
        if field and field[1] in known:
            pattern += f"(?P={field[1]})"
        elif field:
            known.add(field[1])
            pattern += f"(?P<{field[1]}>[^/]+)"
        else:
            pattern += "[^/]*" if part == "*" else re.escape(part)
    hits = sorted(glob.glob(search))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if len(hits) > _DEEPEST:
        raise DatasetError(
            f"{path}: {template} matches {len(hits):,} files; write a narrower pattern."
        )
    for hit in hits:
        if match := re.fullmatch(pattern, hit):
            fields = match.groupdict()
            name = (
                _relative_name(template, fields, hit)
                if "*" in template
                else _filled(template, fields, path)
            )
            if Path(hit).is_file():
                yield NamedPath(name, Path(hit)), fields


def _relative_name(template: str, fields: Mapping[str, str], hit: str) -> str:
    """The name of a match of a pattern with `*`: the template's parts before it, then the file's own."""
    depth = template.count("/") - template[: template.index("*")].count("/")
    head = template[: template.index("*")].rpartition("/")[0]
    tail = "/".join(hit.split("/")[-depth - 1 :])
    head = _FIELD.sub(lambda match: fields[match[1]], head)
    return f"{head}/{tail}" if head else tail


def _filled(template: str, fields: Mapping[str, str], path: Path) -> str:
    for match in _FIELD.finditer(template):
        if match[1] not in fields:
            raise DatasetError(
                f"{path}: {template} uses {match[0]}, which the image's path does not have; use its fields."
            )
    return _FIELD.sub(lambda match: fields[match[1]], template)


def _named(text: str, path: Path) -> NamedPath:
    return NamedPath(text, _absolute(text, path))


def _absolute(text: str, path: Path) -> Path:
    """The path meant; DatasetError for what is no path of this machine."""
    if "://" in text or "/vsi" in text or text.startswith("/dev/") or "\0" in text:
        raise DatasetError(f"{path}: {text!r} is no file of this machine; fetch it first.")

    def expand(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise DatasetError(
                f"{path}: the environment variable {match[1]} is not set; set it to the folder."
            )
        return os.environ[match[1]]

    return path.parent.absolute() / _VARIABLE.sub(expand, text)
