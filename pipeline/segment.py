"""Segment: from an image and checkpoints to the class raster and what is known about its labels."""

import contextlib
import ctypes
import functools
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from landcover.blending import PROBABILITY_STEPS
from landcover.checkpoint import Checkpoint, StoredNetwork
from landcover.checkpoint_file import describe_checkpoint, load_checkpoint
from landcover.errors import CheckpointError, SettingsError
from landcover.exported_network import RUNTIMES, ExportedNetwork
from landcover.inference import Predictor, gather, scaling
from landcover.legend import Legend
from landcover.model_spec import ModelSpec
from landcover.openvino_runtime import check_openvino
from landcover.runtime import Runtime
from landcover.runtimes import OPENVINO, open_runtime
from landcover.smoothing import Step, parse_steps
from landcover.tiling import TileGrid
from pipeline.artifacts import atomic_path, check_distinct, code_version, fingerprint
from pipeline.band_segmenter import Tick, segment_rows, smoothed_rows
from pipeline.cog import assemble_cog, check_crs
from pipeline.cog_profile import CogProfile
from pipeline.conversion import convert_models, converted_checkpoints, save_converted
from pipeline.qgis_style import write_raster_style
from pipeline.runtime_choice import Choice, choose_runtime, compared
from pipeline.shards import ShardFolder, plan_bands
from pipeline.strip_reader import Image, StripReader, open_image

EXACT = "torch-fp32"
"""The runtime whose map is the same on every run, worker and cut."""

_REPORT_SECONDS = 5.0
_SAMPLE_ROWS, _SAMPLE_COLS = 2, 6
"""Tiles on which runtimes are compared, at most."""
_SAMPLE_SHARE = 0.01
"""Share of all tiles, but four at least: each is labelled twice, which costs a run of 500 tiles 2 % of its time."""


@dataclass(frozen=True)
class BandWork:
    """All that a process needs to segment bands of an image; can be pickled."""

    image: Image
    models: tuple[Path, ...]
    tiles: TileGrid
    layers: tuple[str, ...]
    steps: tuple[Step, ...]
    d4: bool
    runtime: str
    device: str
    batch: int
    shards: ShardFolder
    converted: Path | None = None
    """Folder of `pipeline.conversion`, where the models are run from their copies."""


def segment(
    *,
    image: Path | str,
    model: Path | Sequence[Path],
    classes: Path,
    confidence: Path | None = None,
    margin: Path | None = None,
    entropy: Path | None = None,
    probabilities: Path | None = None,
    runtime: str = EXACT,
    device: str = "auto",
    tile: int | None = None,
    overlap: int | None = None,
    d4: bool = False,
    smooth: Sequence[str] = (),
    batch: int = 4,
    band_rows: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Map land cover: predict an image in overlapping tiles, blend, write COGs of its grid.

    image: a raster file, or its http(s) address. model: one checkpoint, or several to average.
    classes: class codes, with side-cars for QGIS (.qml, .aux.xml). The other rasters are made where
    a path is given, uint8 as `landcover.blending.Labels` says; 0 is nodata in all. A pixel is nodata
    where any band the model needs is.
    runtime: one of landcover.runtimes.NAMES, or `auto` for the fastest here whose labels agree with
    exact float32 to 99.5 %. tile, overlap: pixels, instead of the model's. d4: average the eight
    flips and rotations of each tile. smooth: steps of landcover.smoothing, such as `majority:1`.
    batch: tiles in flight beyond one per thread. band_rows: rows of a unit of work, rounded down to
    512 x 2^k. workers: processes of this machine; scheduler: or a dask scheduler's address. None of
    these changes a byte of the output. Finished bands wait beside `classes` in `NAME.shards` until
    all are done, so that a run that was killed goes on from there.
    Returns facts for `run.json`. Raises SettingsError, CheckpointError, RasterError; then no output
    appears.
    """
    models = tuple(Path(m) for m in ([model] if isinstance(model, str | Path) else model))
    paths = {
        "classes": classes, "confidence": confidence, "margin": margin, "entropy": entropy,
        "probabilities": probabilities,
    }  # fmt: skip
    outputs = {name: path for name, path in paths.items() if path is not None}
    given = {f"the model {path}": path for path in models}
    check_distinct(given if "://" in str(image) else given | {"the image": Path(image)}, outputs)
    # By OpenVINO a checkpoint is run from a copy that another process makes: this one needs no torch.
    copied = runtime in OPENVINO and device in {"auto", "cpu"}
    copied = copied and not any(path.suffix.lower() in RUNTIMES for path in models)
    checkpoints = [describe_checkpoint(p) if copied else load_checkpoint(p) for p in models]
    spec = checkpoints[0].spec
    source = open_image(image, spec.bands)
    details = segment_image(
        source, checkpoints, outputs, models=models, runtime=runtime, device=device, tile=tile,
        overlap=overlap, d4=d4, smooth=smooth, batch=batch, band_rows=band_rows, workers=workers,
        scheduler=scheduler, report=report,
    )  # fmt: skip
    write_raster_style(classes, spec.legend)
    return details


def segment_image(
    image: Image,
    checkpoints: list[Checkpoint],
    outputs: Mapping[str, Path],
    *,
    models: Sequence[Path] = (),
    runtime: str = EXACT,
    device: str = "auto",
    tile: int | None = None,
    overlap: int | None = None,
    d4: bool = False,
    smooth: Sequence[str] = (),
    batch: int = 4,
    band_rows: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    block: int = 512,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Do what `segment` does, with an image and networks at hand.

    checkpoints: emptied when the runtimes are open, since most have weights of their own. outputs:
    layer -> path; `classes` must be among them. models: where the checkpoints are, for workers.
    block: rows and columns of a tile of the outputs.
    """
    if batch < 1 or (band_rows is not None and band_rows < 1):
        raise SettingsError(
            f"batch is {batch} and band_rows is {band_rows}; both must be 1 or more."
        )
    grid = image.grid
    check_crs(grid)
    tiles = _tile_grid(grid.shape, checkpoints, tile, overlap)
    steps = _steps(smooth, image)
    for note in image.notes:
        report(note)
    with tempfile.TemporaryDirectory(prefix="landcover-") as temporary:
        spare = Path(temporary)
        choice = _choice(checkpoints, models, image, tiles, runtime, device, spare, report)
        specs, hashes = [c.spec for c in checkpoints], [c.sha256 for c in checkpoints]
        bands = plan_bands(int(grid.shape[0]), block, band_rows, workers or 1)
        profiles = {name: _profile(name, specs[0].legend, block) for name in outputs}
        facts = {
            "image": _identity(image), "layers": list(outputs), "models": hashes, "d4": d4,
            "tile": tiles.tile, "overlap": tiles.overlap, "smooth": [str(step) for step in steps],
            "runtime": choice.runtime, "device": choice.device, "code": code_version(),
        }  # fmt: skip
        folder = outputs["classes"].with_name(outputs["classes"].name + ".shards")
        shards = ShardFolder(folder, fingerprint(facts), bands, profiles, grid)
        work = BandWork(
            image, tuple(models), tiles, tuple(outputs), steps, d4, choice.runtime, choice.device, batch,
            shards,
        )  # fmt: skip
        missing = shards.missing()
        if len(missing) < len(bands):
            report(f"segment: resumed, {len(bands) - len(missing)} of {len(bands)} bands were done")
        progress = _Progress(len(tiles), grid.shape, sum(map(len, missing)), report)
        try:
            if workers or scheduler:
                if choice.runtime in OPENVINO and missing:
                    work = _with_copies(work, checkpoints, spare)
                _segment_there(work, missing, workers, scheduler, progress)
            else:
                _segment_here(work, checkpoints, missing, progress, choice.opened)
            _write_outputs(shards, outputs, profiles)
        except BaseException:
            if len(shards.missing()) == len(bands):  # nothing to go on from
                shards.remove()
            raise
        shards.remove()
    told = {name: value for name, value in facts.items() if name not in {"image", "code"}}
    return told | {
        "tiles": len(tiles), "bands": len(bands), "bands_resumed": len(bands) - len(missing),
        "megapixels": round(grid.shape[0] * grid.shape[1] / 1e6, 3),
        "megapixels_per_second": round(progress.rate, 3),
        "precision": choice.runtime.rpartition("-")[2], "batch": batch, "workers": workers or 1,
        "agreement_with_fp32": choice.agreement, "speeds_mpx_s": choice.megapixels_per_second,
        "temperatures": [spec.temperature for spec in specs], "model_sha256": hashes[0],
    }  # fmt: skip


def _tile_grid(
    shape: Sequence[int], checkpoints: Sequence[Checkpoint], tile: int | None, overlap: int | None
) -> TileGrid:
    spec = checkpoints[0].spec
    side = tile or spec.tile
    step = math.lcm(*(checkpoint.spec.step for checkpoint in checkpoints))
    if side % step:
        raise SettingsError(f"The tile is {side} pixels; it must be a multiple of {step}.")
    for checkpoint in checkpoints:  # the runtimes build their windows from it
        if checkpoint.spec.tile != side and tile is None:
            raise CheckpointError(
                "The models were trained with tiles of different sizes; choose one by --tile."
            )
    lap = overlap if overlap is not None else min(spec.overlap, side // 2)
    return TileGrid(int(shape[0]), int(shape[1]), side, lap)


def _steps(smooth: Sequence[str], image: Image) -> tuple[Step, ...]:
    steps = parse_steps(smooth)
    if isinstance(image.path, str) and any(step.name == "guided" for step in steps):
        raise SettingsError(
            "The smoothing step guided reads the image twice and needs a local one; fetch it first."
        )
    return steps


def _choice(
    checkpoints: list[Checkpoint],
    models: Sequence[Path],
    image: Image,
    tiles: TileGrid,
    runtime: str,
    device: str,
    spare: Path,
    report: Callable[[str], None],
) -> Choice:
    """The runtime that is meant; where it may not be exact, it is compared with float32 on a sample.

    checkpoints: those that are to be run from copies are, when this returns. spare: an empty folder for these.
    """
    first = checkpoints[0].at_tile(tiles.tile)
    exact = runtime.endswith("-fp32") and not runtime.startswith("openvino")
    if isinstance(first.network, ExportedNetwork):
        report(f"segment: an exported model ({first.network.precision}), run by its own runtime")
    sample = np.zeros((0, tiles.tile, tiles.tile, len(image.bands)), np.float32)
    if not exact:
        sample = sample_windows(image, checkpoints[0].spec, tiles)
    if isinstance(first.network, StoredNetwork):
        check_openvino(runtime)
        exact_labels = convert_models(spare, models, tiles.tile, sample)
        checkpoints[:] = converted_checkpoints(models, spare)
        choice = compared(checkpoints[0].at_tile(tiles.tile), runtime, sample, exact_labels)
    else:
        choice = choose_runtime(first, runtime, device, sample)
    if choice.agreement is not None:
        report(
            f"segment: {choice.runtime}, {choice.agreement:.2%} of a sample's labels are those of "
            "exact float32"
        )
    return choice


def _return_freed_memory() -> None:
    """Give the system what the opening of a runtime has freed, which glibc would keep: some 100 MB."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other systems lack it
        ctypes.CDLL(None).malloc_trim(0)


def sample_windows(image: Image, spec: ModelSpec, tiles: TileGrid) -> NDArray[np.float32]:
    """Some windows of an image as a network gets them, (n, rows, cols, bands), none without data."""
    gain, bias = scaling(spec, image.reflectance)
    count = len(tiles.row_starts)
    wanted = min(max(2, round(_SAMPLE_SHARE * len(tiles) / _SAMPLE_ROWS)), _SAMPLE_COLS)
    step = max(1, len(tiles.col_starts) // wanted)
    found = []
    for i in sorted({count * k // (_SAMPLE_ROWS + 1) for k in range(1, _SAMPLE_ROWS + 1)}):
        with StripReader(image, tiles, range(i, i + 1), 0) as reader:
            reader.wait(i)
            slots = reader.strip.slots(tiles.source_rows(i))
            for x in tiles.col_starts[step // 2 :: step]:
                window = np.empty((tiles.tile, tiles.tile, gain.size), np.float32)
                if gather(reader.strip, slots, x, gain, bias, window):
                    found.append(window)
    return (
        np.stack(found) if found else np.zeros((0, tiles.tile, tiles.tile, gain.size), np.float32)
    )


def _profile(layer: str, legend: Legend, block: int) -> CogProfile:
    if layer == "classes":
        return CogProfile(
            dtype="uint8", bands=("class",), overviews="mode", colormap=legend.colormap(),
            tags={"LEGEND": json.dumps(legend.to_records())}, block=block,
        )  # fmt: skip
    if layer == "probabilities":
        names = [f"{land_class.code} {land_class.name}" for land_class in legend.classes]
        tags = {"PROBABILITY": f"(value - 1) / {PROBABILITY_STEPS}"}
        return CogProfile(dtype="uint8", bands=names, tags=tags, block=block)
    return CogProfile(dtype="uint8", bands=(layer,), units=("%",), block=block)


def _identity(image: Image) -> list[Any]:
    """What tells an image from one that was put in its place later."""
    known = [str(image.grid), image.bands, image.nodata, image.scale, image.offset]
    if isinstance(image.path, str):
        return [image.path, *known]
    stat = image.path.stat()
    return [str(image.path.resolve()), stat.st_size, stat.st_mtime_ns, *known]


def _predictor(
    work: BandWork, checkpoints: Sequence[Checkpoint], opened: Runtime | None = None
) -> Predictor:
    """opened: the runtime of the first checkpoint, where there is one already."""
    sized = [checkpoint.at_tile(work.tiles.tile) for checkpoint in checkpoints]
    runtimes = [opened] if opened else []
    runtimes += [open_runtime(each, work.runtime, work.device) for each in sized[len(runtimes) :]]
    specs = [checkpoint.spec for checkpoint in sized]
    return Predictor(specs, runtimes, d4=work.d4, reflectance=work.image.reflectance)


def _segment_here(
    work: BandWork,
    checkpoints: list[Checkpoint],
    missing: Sequence[range],
    progress: "_Progress",
    opened: Runtime | None,
) -> None:
    """Segment bands in this process; neighbours go in one stream, which predicts no tile twice."""
    if not missing:
        return
    predictor = _predictor(work, checkpoints, opened)
    checkpoints.clear()
    _return_freed_memory()
    with rasterio.Env(GDAL_CACHEMAX=work.image.cache_bytes()), predictor:
        for run in _runs(missing):
            _segment_bands(work, predictor, run, progress.tiles)


def _runs(bands: Sequence[range]) -> list[list[range]]:
    """Bands in groups of direct neighbours."""
    runs: list[list[range]] = []
    for band in bands:
        if runs and runs[-1][-1].stop == band.start:
            runs[-1].append(band)
        else:
            runs.append([band])
    return runs


def _segment_bands(
    work: BandWork, predictor: Predictor, bands: Sequence[range], tick: Tick = lambda _: None
) -> None:
    """Write the shards of neighbouring bands."""
    if work.steps:
        for band in bands:
            with work.shards.writer(band) as write:
                write(
                    smoothed_rows(
                        work.image, predictor, work.tiles, band, work.steps, work.layers, work.batch,
                        tick,
                    ).layers
                )  # fmt: skip
        return
    rows = range(bands[0].start, bands[-1].stop)
    pieces = segment_rows(
        work.image, predictor, work.tiles, rows, work.layers, work.batch, tick=tick
    )
    with contextlib.closing(pieces):
        held: dict[str, NDArray[np.uint8]] = {}
        at = rows.start
        for band in bands:
            with work.shards.writer(band) as write:
                while at < band.stop:
                    if not held or not held["classes"].shape[1]:
                        held = next(pieces).layers
                    take = min(band.stop - at, held["classes"].shape[1])
                    write({name: layer[:, :take] for name, layer in held.items()})
                    held = {name: layer[:, take:] for name, layer in held.items()}
                    at += take


def _with_copies(work: BandWork, checkpoints: Sequence[Checkpoint], folder: Path) -> BandWork:
    """The work, with the networks converted for OpenVINO where all workers find them.

    folder: holds the copies, or nothing yet.
    """
    if not any(folder.iterdir()):
        save_converted(checkpoints, work.tiles.tile, folder)
    return replace(work, converted=work.shards.keep("converted", folder))


def _segment_there(
    work: BandWork,
    missing: Sequence[range],
    workers: int | None,
    scheduler: str | None,
    progress: "_Progress",
) -> None:
    """Segment bands in other processes, each with its own models."""
    if not work.models:
        raise SettingsError(
            "Workers load the models themselves; give the paths of the checkpoints."
        )
    if not missing:
        return
    from pipeline.cluster import run_on_cluster

    run_on_cluster(
        functools.partial(segment_band, work), missing, workers=workers, scheduler=scheduler,
        done=lambda band: progress.rows(len(band)), report=progress.report, cuda=work.device != "cpu",
    )  # fmt: skip


def segment_band(work: BandWork, band: range) -> None:
    """Segment one band in a worker's process, which keeps its models for the next one."""
    predictor = _kept_predictor(work)
    with rasterio.Env(GDAL_CACHEMAX=work.image.cache_bytes()):
        _segment_bands(work, predictor, [band])


_kept: dict[str, Predictor] = {}
"""The predictor of this worker's last band: one in a process at a time."""


def _kept_predictor(work: BandWork) -> Predictor:
    key = fingerprint(
        [str(path) for path in work.models], work.shards.path.name, work.runtime, work.device, work.d4,
        work.tiles.tile, work.image.scale, work.image.offset, [_stamp(path) for path in work.models],
    )  # fmt: skip
    if key not in _kept:
        for old in _kept.values():
            old.__exit__(None, None, None)
        _kept.clear()
        if work.converted:
            checkpoints = converted_checkpoints(work.models, work.converted)
        else:
            checkpoints = [load_checkpoint(path) for path in work.models]
        _kept[key] = _predictor(work, checkpoints).__enter__()
    return _kept[key]


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _write_outputs(
    shards: ShardFolder, outputs: Mapping[str, Path], profiles: Mapping[str, CogProfile]
) -> None:
    """Make the COGs; all appear under their names, or none."""
    with contextlib.ExitStack() as stack:
        partials = {name: stack.enter_context(atomic_path(path)) for name, path in outputs.items()}
        for name, partial in partials.items():
            assemble_cog(partial, shards.grid, profiles[name], shards.files(name))


@dataclass
class _Progress:
    """Speed so far and time left, reported every few seconds."""

    all_tiles: int
    shape: Sequence[int]
    missing: int
    """Rows to be labelled in this run."""
    report: Callable[[str], None]
    megapixels: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _reported: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Megapixels of the map a second."""
        return self.megapixels / max(time.monotonic() - self._started, 1e-9)

    def tiles(self, count: int) -> None:
        """Note that so many more tiles are predicted."""
        self._add(self.shape[0] * self.shape[1] / 1e6 * count / self.all_tiles)

    def rows(self, count: int) -> None:
        """Note that so many more rows are labelled."""
        self._add(count * self.shape[1] / 1e6)

    def _add(self, megapixels: float) -> None:
        whole = self.missing * self.shape[1] / 1e6
        self.megapixels = min(self.megapixels + megapixels, whole)
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            done = 1 - (whole - self.megapixels) / (self.shape[0] * self.shape[1] / 1e6)
            left = (whole - self.megapixels) / max(self.rate, 1e-9)
            self.report(f"segment: {done:.0%}, {self.rate:.2f} Mpx/s, {left:.0f} s left")
