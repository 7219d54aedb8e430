"""Files of a run: written whole or not at all, and made again only when their inputs change."""

import contextlib
import fcntl
import glob
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from landcover.errors import SettingsError

Report = Callable[[str], None]
"""Takes one line of text for the person who waits, or for the log."""

_PACKAGES = ("landcover", "pipeline")
_DECIDING = (
    "numba", "numpy", "odc-geo", "onnxruntime", "openvino", "pyarrow", "pyogrio", "pyproj", "rasterio",
    "segmentation-models-pytorch", "shapely", "torch",
)  # fmt: skip


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` on success, remove it on failure.

    Readers of `path` see the old file or the whole new one, never a part. The temporary name keeps
    the ending, by which GDAL chooses a format. What a killed process left for `path` is removed.
    Raises SettingsError where `path` is being edited elsewhere.
    """
    _check_not_edited(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_path(path) as partial:
        yield partial
        partial.replace(path)


@contextlib.contextmanager
def scratch_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` for a file that is gone in the end, even if a killed process left it."""
    for leftover in path.parent.glob(f".partial-*-{glob.escape(path.name)}*"):
        if not psutil.pid_exists(int(leftover.name.split("-")[1])):
            leftover.unlink(missing_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
    finally:
        for leftover in path.parent.glob(glob.escape(partial.name) + "*"):
            leftover.unlink(missing_ok=True)


def check_distinct(inputs: Mapping[str, Path | str | None], outputs: Mapping[str, Path]) -> None:
    """Raise SettingsError where a file would be written over one that is read, over another, or on a folder.

    inputs, outputs: files by what they are to the user, to be named in the message; inputs may be names
    that are no file, or None.
    """
    places = {Path(path).resolve(): name for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path.is_dir():
            raise SettingsError(f"{path} is a folder and cannot be {name}; give a file's name.")
        other = places.setdefault(path.resolve(), name)
        if other != name:
            raise SettingsError(
                f"{path} is both {other} and {name}; they cannot be one file: give each a name of its own."
            )


def _check_not_edited(path: Path) -> None:
    """A database replaced under an open edit session would be corrupted by that session's log."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise SettingsError(
            f"{path} is open for editing in another program (there is a {log.name}); save and close "
            "it there, then run again."
        )


def remove_partials(folder: Path) -> None:
    """Remove what a killed run left under temporary names."""
    for leftover in folder.glob(".partial-*"):
        leftover.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """SHA-256 of values that JSON can write; equal values give equal fingerprints."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Versions of Python, this program, and the packages that decide what it computes."""
    names = ("landcover-pipeline", *_DECIDING)
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version()} | found


@cache
def code_version() -> str:
    """Fingerprint of this program's source and packages, so that a changed program redoes its work."""
    root = Path(__file__).parent.parent
    sources = sorted(path for package in _PACKAGES for path in (root / package).rglob("*.[pjy]*"))
    own = [(path.name, file_hash(path)) for path in sources if "__pycache__" not in path.parts]
    return fingerprint(own, versions())


@dataclass
class Ledger:
    """The stages of a run and what each made; kept in `run.json`, saved after every stage."""

    path: Path
    report: Report = print
    """Called with one line of text when a stage starts, ends or is skipped."""
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.record and self.path.exists():
            self.record = _read_record(self.path)

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Stage name -> {key, outputs, seconds, peak_memory_mb, details}."""
        return self.record.setdefault("stages", {})  # type: ignore[no-any-return]

    def save(self, **facts: Any) -> None:
        """Merge facts into the record and write it."""
        self.record |= facts
        self.record["stages"] = self.record.pop("stages", {})  # facts first, stages last
        write_json(self.path, self.record)

    def stage(
        self, name: str, inputs: Any, outputs: Sequence[Path], work: Callable[[], dict[str, Any]],
        *, anew: bool = False,
    ) -> dict[str, str]:  # fmt: skip
        """Do `work` unless its outputs are current; return the hash of each output by file name.

        inputs: everything the outputs depend on, as JSON values (settings, hashes of files read). anew: do it
        even so. A finished run stays one where `work`, anew or with the inputs of before, fails and leaves all as it was.
        An output that somebody changed since is set aside as `NAME.changed` (`NAME.changed-2` where there
        is one already), then remade.
        """
        key = fingerprint(name, inputs, code_version())
        done = self.stages.get(name)
        if (
            done
            and not anew
            and done["key"] == key
            and all(_unchanged(p, done["outputs"]) for p in outputs)
        ):
            self.report(f"{name}: current, skipped")
            return dict(done["outputs"])
        if done:
            self._set_aside(done["outputs"], outputs)
        self.report(f"{name} ...")
        started = time.perf_counter()
        again = done if done and (anew or done["key"] == key) else None
        with self._unfinished(again), peak_memory() as memory:
            details = work()
        seconds = time.perf_counter() - started
        hashes = {path.name: file_hash(path) for path in outputs}
        self.stages[name] = {
            "key": key,
            "outputs": hashes,
            "seconds": round(seconds, 3),
            "peak_memory_mb": round(memory.megabytes),
            "details": details,
        }
        self.save()
        self.report(f"{name}: done in {seconds:.1f} s, peak memory {memory.megabytes:,.0f} MB")
        return hashes

    @contextlib.contextmanager
    def _unfinished(self, again: Mapping[str, Any] | None) -> Iterator[None]:
        """Record a run as not finished; as it was, where the body fails and all is untouched.

        again: the stage as it was done before, where it is only tried once more.
        """
        before = self.record.get("complete", False)
        self.save(complete=False)
        try:
            yield
        except BaseException:
            made = again["outputs"] if again else {}
            if made and all(_unchanged(self.path.with_name(name), made) for name in made):
                self.save(complete=before)
            raise

    def _set_aside(self, stamps: dict[str, str], outputs: Sequence[Path]) -> None:
        for path in outputs:
            if path.exists() and not _unchanged(path, stamps):
                _check_not_edited(path)
                kept = _free_name(path.with_name(path.name + ".changed"))
                path.replace(kept)
                self.report(f"{path.name} was changed since it was made: kept as {kept.name}")


def _free_name(path: Path) -> Path:
    """The path, or the first of PATH-2, PATH-3, ... that nothing has."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())


def _read_record(path: Path) -> dict[str, Any]:
    """The ledger; empty, so that all is done again, where it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("stages"), dict) else {}


def _unchanged(path: Path, stamps: dict[str, str]) -> bool:
    return path.is_file() and stamps.get(path.name) == file_hash(path)


@dataclass
class PeakMemory:
    """Largest resident set seen so far."""

    megabytes: float = 0.0


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; SettingsError where another run is at work in it.

    The lock is on the folder itself and ends with the process, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"Another run is at work in {folder}; wait for it to end, or give another --out."
            ) from error
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def peak_memory(interval: float = 0.05) -> Iterator[PeakMemory]:
    """Sample this process's resident memory (MB) in a thread while the body runs."""
    process, peak, stop = psutil.Process(), PeakMemory(), threading.Event()

    def sample() -> None:
        peak.megabytes = max(peak.megabytes, process.memory_info().rss / 1e6)

    def watch() -> None:
        while not stop.wait(interval):
            sample()

    thread = threading.Thread(target=watch, daemon=True)
    sample()
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
        sample()
