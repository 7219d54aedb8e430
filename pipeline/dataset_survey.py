"""Everything that is found out about a dataset before it is used: images, blocks, splits, faults."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from landcover.blocks import UNUSED, BlockTable, Cell
from landcover.errors import DatasetError
from landcover.splits import SPLITS, assign_splits
from pipeline.artifacts import fingerprint
from pipeline.dataset_cache import known_hash
from pipeline.dataset_file import DatasetPlan, Source, read_dataset_file
from pipeline.dataset_ground import Ground, find_ground, shared_ground
from pipeline.dataset_image import DatasetImage, open_image
from pipeline.dataset_labels import Labels, PolygonLabels, open_ignored, open_labels
from pipeline.dataset_part import EXCLUDED, Part, Place, Scan, block_name, scan
from pipeline.open_files import FILES
from pipeline.raster_files import side_files

_FORMAT = 1
"""Goes up when the same files would be split or read otherwise than before."""
_SHAPEFILE = (".dbf", ".prj", ".shx", ".cpg")


@dataclass(frozen=True)
class Finding:
    """Something that a person should know."""

    level: str
    """`error`: the dataset cannot be used so; or `warning`."""
    message: str


@dataclass
class Survey:
    """A dataset, looked at from end to end."""

    plan: DatasetPlan
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file that matters, by the name that the dataset gives it."""
    parts: list[Part] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    """Of each part, in the same order."""
    ground: Ground | None = None
    splits: dict[str, int] = field(default_factory=dict)
    """Number of the split of each unit by name."""

    @property
    def version(self) -> str:
        """Hash of all that decides what the dataset gives: the YAML's content, and the files' bytes."""
        said = self.plan.file.model_dump(mode="json")
        said["images"] = sorted(said["images"], key=fingerprint)
        return fingerprint("dataset", _FORMAT, said, sorted(self.hashes.items()))

    @property
    def errors(self) -> list[str]:
        """Messages of what makes the dataset unusable."""
        return [found.message for found in self.findings if found.level == "error"]

    def error(self, message: str) -> None:
        """Note what makes the dataset unusable."""
        self.findings.append(Finding("error", message))

    def warn(self, message: str) -> None:
        """Note what a person should know."""
        self.findings.append(Finding("warning", message))


@dataclass(frozen=True)
class _Opened:
    source: Source
    image: DatasetImage
    labels: Labels
    ignored: PolygonLabels | None


def survey(path: Path, report: Callable[[str], None] | None = None) -> Survey:
    """Look at all of a dataset, and list what is wrong with it.

    Raises DatasetError only where the YAML itself cannot be used; all else is in the findings.
    """
    tell = report or (lambda _: None)
    FILES.close()  # files may have changed since an earlier look
    found = Survey(read_dataset_file(path))
    found.hashes = _hashes(found.plan)
    opened = _open_all(found, tell)
    try:
        found.ground = find_ground([one.image for one in opened], found.plan.file.splits)
    except DatasetError as error:
        found.error(str(error))
        return found
    units = _whole_units(found, opened)
    _scan_all(found, [_part(one, found.ground, units) for one in opened], tell)
    _check_twins(found)
    if not found.errors:
        _assign(found, {one.image.name: one.source.split for one in opened})
        if found.ground and found.ground.buffer:
            _scan_all(found, found.parts, tell, in_use=True)
        _check_splits(found)
    return found


def usable(dataset: Path, report: Callable[[str], None] | None = None) -> Survey:
    """The survey of a dataset; DatasetError with the first reason where it cannot be used."""
    found = survey(dataset, report)
    if found.errors:
        more = (
            f" ({len(found.errors) - 1} more: see landcover dataset check)"
            if found.errors[1:]
            else ""
        )
        raise DatasetError(f"{found.errors[0]}{more}")
    return found


def class_counts(found: Survey, split: int) -> NDArray[np.int64]:
    """Labelled pixels of each class in a split, (classes,)."""
    total = np.zeros(len(found.plan.legend), np.int64)
    for part, one in zip(found.parts, found.scans, strict=True):
        total += one.tally.labelled[units_of(found, part, split)].sum(axis=0)
    return total


def units_of(found: Survey, part: Part, split: int) -> NDArray[np.bool_]:
    """Which units of an image are in a split: (units,)."""
    return np.array([found.splits.get(name, UNUSED) == split for name in part.unit_names], np.bool_)


# --- opening


def _tell(tell: Callable[[str], None], what: str, number: int, count: int) -> None:
    """Report each tenth of the images: a log is to be read."""
    if number * 10 // count > (number - 1) * 10 // count:
        tell(f"{what} image {number} of {count}")


def _hashes(plan: DatasetPlan) -> dict[str, str]:
    hashes = {}
    for name, path in plan.paths.items():
        for other in (path, *_beside(path)):
            own = name if other == path else f"{name} ({other.name})"
            try:
                hashes[own] = known_hash(other)
            except OSError as error:
                raise DatasetError(f"{other} cannot be read: {error.strerror}.") from error
    return hashes


def _beside(path: Path) -> list[Path]:
    """Files beside one of a dataset that are read with it."""
    shape = [path.with_suffix(end) for end in _SHAPEFILE] if path.suffix.lower() == ".shp" else []
    found = [side for side in (*shape, *side_files(path)) if side.is_file()]
    log = path.with_name(f"{path.name}-wal")  # holds what was saved to a GeoPackage still open
    return [*found, log] if log.is_file() and log.stat().st_size else found


def _open_all(found: Survey, tell: Callable[[str], None]) -> list[_Opened]:
    """Open every image with its labels; what fails is a finding, and the others go on."""
    opened = []
    for number, source in enumerate(found.plan.sources, start=1):
        _tell(tell, "opening", number, len(found.plan.sources))
        try:
            image = open_image(source, found.plan.file)
            if image.grid is None and source.group is None and source.split is None:
                raise DatasetError(  # noqa: TRY301 - one handler makes findings of all
                    f"{source.name} has no coordinate reference system (CRS) or no geotransform; write it into the "
                    "file, or say by group: which images belong together, so that one split gets them all."
                )
            labels, notes = open_labels(source, image, found.plan)
            ignored = open_ignored(found.plan.ignore, image) if found.plan.ignore else None
        except DatasetError as error:
            found.error(str(error))
            continue
        if found.plan.ignore and ignored is None:
            notes.append(
                f"{source.name} has no CRS, so {found.plan.ignore.name} does not apply to it."
            )
        for note in notes:
            found.warn(note)
        opened.append(_Opened(source, image, labels, ignored))
    return opened


def _part(one: _Opened, ground: Ground | None, units: Mapping[str, str]) -> Part:
    grid = one.image.grid
    if one.image.name in units or ground is None or grid is None:
        place = Place(UNUSED, grid)
        return Part(one.image, one.labels, one.ignored, place, unit=units.get(one.image.name, ""))
    reach = ground.lattice.reach(grid)
    cells = tuple((col, row) for row in reach[1] for col in reach[0])
    numbers = BlockTable.of(reach, {cell: number for number, cell in enumerate(cells)})
    place = Place(None, grid, ground.lattice, numbers)
    return Part(one.image, one.labels, one.ignored, place, cells)


# --- images that go to a split as a whole


def _whole_units(found: Survey, opened: Sequence[_Opened]) -> dict[str, str]:
    """Unit of each image that is not cut into blocks: images of one group or one ground share theirs."""
    whole = [one for one in opened if one.source.group is not None or one.source.split is not None]
    keys = {one.image.name: _own_key(one.source) for one in whole}
    leader = {key: key for key in keys.values()}

    def lead(key: str) -> str:
        while leader[key] != key:
            key = leader[key]
        return key

    splits = {one.image.name: one.source.split for one in whole}
    for name, other, hectares in _touching(
        found, [one.image.name for one in whole if one.image.grid]
    ):
        if splits[name] and splits[other] and splits[name] != splits[other]:
            found.error(_leak(name, other, hectares, splits, found.plan.file.splits.buffer))
        first, second = sorted((lead(keys[name]), lead(keys[other])))
        leader[second] = first
    return {name: lead(key) for name, key in keys.items()}


def _own_key(source: Source) -> str:
    return f"group {source.group}" if source.group is not None else f"image {source.name}"


def _touching(found: Survey, names: Sequence[str]) -> Iterable[tuple[str, str, float]]:
    if found.ground is None or not names:
        return []
    ground = found.ground
    reach = ground.buffer * ground.lattice.side / ground.metre
    return shared_ground(ground, names, reach)


def _leak(
    name: str, other: str, hectares: float, splits: Mapping[str, str | None], buffer: str
) -> str:
    where = f"{name} ({splits[name]}) and {other} ({splits[other]})"
    if not hectares:
        return f"Leak: {where} lie nearer to each other than the buffer of {buffer}; give both to one split."
    return f"Leak: {where} share {hectares:,.2f} ha of ground; give both to one split, or cut one."


def _check_twins(found: Survey) -> None:
    """Find the same pixels under two names."""
    first: dict[str, Part] = {}
    for part, one in zip(found.parts, found.scans, strict=True):
        if not one.tally.valid.any():
            continue  # empty tiles are alike and show nothing
        twin = first.setdefault(one.pixels, part)
        if twin is part:
            continue
        pair = f"{twin.image.name} and {part.image.name} hold the same pixels"
        if (
            twin.unit == part.unit
            and bool(twin.cells) == bool(part.cells)
            and _same_place(twin, part)
        ):
            found.warn(f"{pair}; they count twice. Take one out.")
        else:
            found.error(
                f"Leak: {pair} but may come to different splits; take one out, or give both one group."
            )


def _same_place(one: Part, other: Part) -> bool:
    return not one.cells or one.image.grid == other.image.grid


# --- counting


def _scan_all(
    found: Survey, parts: Sequence[Part], tell: Callable[[str], None], *, in_use: bool = False
) -> None:
    settings = found.plan.file.model_dump(
        mode="json", include={"bands", "scale", "offset", "nodata", "nodata_in", "labels", "ignore"}
    )
    if not in_use:
        found.parts, found.scans = [], []
    scans = []
    for number, part in enumerate(parts, start=1):
        _tell(tell, "counting", number, len(parts))
        names = {str(path) for path in (*part.image.paths,)}
        own = {
            name: found.hashes[name]
            for name, path in found.plan.paths.items()
            if str(path) in names
        }
        key = fingerprint(
            own, _label_hashes(found, part), settings, found.plan.legend.to_records(), dict(found.plan.legend_codes),
            str(part.place.lattice), [part.cells, part.image.name if part.cells else ""],
            _split_key(part) if in_use else "",
        )  # fmt: skip
        try:
            scans.append((part, scan(part, found.plan.legend, key, in_use=in_use)))
        except DatasetError as error:
            found.error(str(error))
    if in_use:
        found.scans = [one for _, one in scans]
        return
    for part, one in scans:
        found.parts.append(part)
        found.scans.append(one)
        _check_counts(found, part, one)


def _label_hashes(found: Survey, part: Part) -> list[object]:
    source = next(s for s in found.plan.sources if s.name == part.image.name)
    names = [source.labels.name] + ([found.plan.ignore.name] if found.plan.ignore else [])
    hashes = _hashes_of(found, names)
    image = _hashes_of(found, [named.name for named in source.files])
    return [hashes, image, source.field, sorted(map(str, source.mapping.items()))]


def _hashes_of(found: Survey, names: Sequence[str]) -> list[str]:
    """Hashes of some files and of those beside them."""
    starts = tuple(f"{name} (" for name in names)
    return [
        value
        for name, value in sorted(found.hashes.items())
        if name in names or name.startswith(starts)
    ]


def _split_key(part: Part) -> list[object]:
    table = part.place.splits
    return [part.place.whole, part.place.buffer, [] if table is None else table.numbers.tolist()]


def _check_counts(found: Survey, part: Part, one: Scan) -> None:
    """What the counts of one image say."""
    source = next(s for s in found.plan.sources if s.name == part.image.name)
    if one.unknown:
        shown = ", ".join(f"{value} ({count:,}x)" for value, count in list(one.unknown.items())[:8])
        message = f"{source.labels.name} holds values that the mapping lacks: {shown}"
        if found.plan.file.labels.unknown == "ignore":
            found.warn(f"{message}; they count as not labelled.")
        else:
            found.error(
                f"{message}; map each to a class or to ignore, or say labels: {{unknown: ignore}}."
            )
    if not one.tally.valid.sum():
        found.warn(f"{source.name} has no pixel with data.")
    elif not one.tally.labelled.sum():
        found.warn(f"{source.labels.name} labels no pixel of {source.name}.")
    if one.tally.without_data:
        found.warn(
            f"{source.labels.name} labels {one.tally.without_data:,} pixels where {source.name} has no data; they do "
            "not count."
        )


# --- splits


def _assign(found: Survey, given: Mapping[str, str | None]) -> None:
    """Give every unit a split, and every part its place."""
    rules = found.plan.file.splits
    counts = _unit_counts(found)
    whole = {part.unit for part in found.parts if not part.cells}
    fixed = {
        part.unit: SPLITS.index(split)
        for part in found.parts
        if not part.cells and (split := given[part.image.name]) is not None
    }
    first = assign_splits(
        {name: counts[name] for name in sorted(whole)}, rules.by_number, rules.seed, fixed
    )
    pinned = _pinned(found, first)
    blocks = {name for name in counts if name not in whole}
    known = first | {
        block_name(cell): split for cell, split in pinned.items() if block_name(cell) in blocks
    }
    usable = {name: count for name, count in counts.items() if known.get(name) != EXCLUDED}
    found.splits = assign_splits(
        usable, rules.by_number, rules.seed, {n: s for n, s in known.items() if s != EXCLUDED}
    )
    pinned_names = {block_name(cell) for cell in pinned}
    _join_unlabelled(found, usable, known)
    free = [
        name
        for name, count in usable.items()
        if count.any() and name not in pinned_names and name not in fixed
    ]
    _check_enough(found, counts, free)
    by_cell = dict(pinned)
    for part in found.parts:
        for cell in part.cells:
            if (name := block_name(cell)) in found.splits:
                by_cell[cell] = found.splits[name]
    found.parts = [part.placed(_place(part, found, by_cell)) for part in found.parts]


def _join_unlabelled(
    found: Survey, counts: Mapping[str, NDArray[np.int64]], known: Mapping[str, int]
) -> None:
    """Give blocks without labels to the split of the nearest block with some.

    Scattered by chance, they would cut up the ground around the labels, and chips with it.
    """
    cells = {block_name(cell): cell for part in found.parts for cell in part.cells}
    blocks = sorted(name for name in counts if name in cells)
    labelled = [name for name in blocks if counts[name].any()]
    others = [name for name in blocks if not counts[name].any() and name not in known]
    if labelled and others:
        tree = cKDTree([cells[name] for name in labelled])
        _, nearest = tree.query([cells[name] for name in others])
        for name, number in zip(others, nearest, strict=True):
            found.splits[name] = found.splits[labelled[int(number)]]


def _unit_counts(found: Survey) -> dict[str, NDArray[np.int64]]:
    """Labelled pixels by class of each unit that has pixels, over all images."""
    counts: dict[str, NDArray[np.int64]] = {}
    for part, one in zip(found.parts, found.scans, strict=True):
        for number, name in enumerate(part.unit_names):
            if one.tally.pixels[number]:
                counts[name] = counts.get(name, 0) + one.tally.labelled[number]
    return {name: counts[name] for name in sorted(counts)}


def _pinned(found: Survey, whole: Mapping[str, int]) -> dict[Cell, int]:
    """Blocks that images given as a whole touch, and their split; EXCLUDED where two splits touch one."""
    pinned: dict[Cell, int] = {}
    for part in found.parts:
        if part.cells or part.image.grid is None or found.ground is None:
            continue
        for cell in cells_touched(part, found.ground):
            split = whole[part.unit]
            pinned[cell] = split if pinned.get(cell, split) == split else EXCLUDED
    return pinned


def cells_touched(part: Part, ground: Ground) -> set[Cell]:
    """Blocks in which a placed image has pixels."""
    grid, touched = part.image.grid, set()
    if grid is None:
        return set()
    for top in range(0, part.image.shape[0], 256):
        rows = slice(top, min(top + 256, part.image.shape[0]))
        east, south = ground.lattice.positions(grid, rows, slice(0, part.image.shape[1]))
        cols_rows = np.broadcast_arrays(np.floor(east), np.floor(south))
        pairs = np.unique(np.stack([axis.ravel() for axis in cols_rows]), axis=1)
        touched |= {(int(col), int(row)) for col, row in pairs.T if np.isfinite(col + row)}
    return touched


def _place(part: Part, found: Survey, by_cell: Mapping[Cell, int]) -> Place:
    whole = None if part.cells else found.splits[part.unit]
    ground, grid = found.ground, part.image.grid
    if ground is None or grid is None or (whole is not None and not ground.buffer):
        return replace(part.place, whole=whole)
    cols, rows = ground.lattice.reach(grid)
    around = range(cols.start - 1, cols.stop + 1), range(rows.start - 1, rows.stop + 1)
    return replace(
        part.place,
        whole=whole,
        lattice=ground.lattice,
        splits=BlockTable.of(around, by_cell),
        buffer=ground.buffer,
    )


def _check_enough(
    found: Survey, counts: Mapping[str, NDArray[np.int64]], free: Sequence[str]
) -> None:
    """Refuse splits that come out empty though they were asked for."""
    shares = found.plan.file.splits.by_number
    for number, name in enumerate(SPLITS):
        labelled = any(counts[u].any() for u, s in found.splits.items() if s == number)
        if free and shares[number] > 0 and not labelled:
            found.error(
                f"No labelled ground is left for {name}: {len(free)} labelled blocks or groups are too few for the "
                f"shares {found.plan.file.splits.shares}; give smaller blocks, more groups, or {name}: 0."
            )


def _check_splits(found: Survey) -> None:
    """What the counts of the splits say of classes that were never seen."""
    legend = found.plan.legend
    counts = np.array([class_counts(found, split) for split in range(len(SPLITS))])
    for position, one in enumerate(legend.classes):
        missing = [
            name
            for number, name in enumerate(SPLITS)
            if counts[number].any() and not counts[number, position]
        ]
        if not counts[:, position].any():
            found.warn(f"No pixel is labelled {one.code} {one.name}; a model cannot learn it.")
        elif missing:
            found.warn(f"The class {one.code} {one.name} is absent from {', '.join(missing)}.")
