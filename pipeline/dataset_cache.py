"""What was counted of files that have not changed since, kept between runs."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import atomic_path, file_hash, fingerprint


def cache_folder() -> Path:
    """$LANDCOVER_CACHE, else `landcover` under $XDG_CACHE_HOME or ~/.cache. Deleting it loses only time."""
    if "LANDCOVER_CACHE" in os.environ:
        return Path(os.environ["LANDCOVER_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "landcover"


def known_hash(path: Path) -> str:
    """SHA-256 of a file, not computed again while its size and time of change stay."""
    stat = path.stat()
    key = fingerprint(str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    kept = cache_folder() / "hashes" / key
    try:
        text = kept.read_text(encoding="ascii")
        if len(text) == 64:
            return text
    except (OSError, UnicodeError):
        pass
    found = file_hash(path)
    _keep(kept, lambda partial: partial.write_text(found, encoding="ascii"))
    return found


def load_arrays(key: str) -> dict[str, NDArray[Any]] | None:
    """Arrays kept under a key; None where there are none that can be read."""
    try:
        with _place(key).open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def keep_arrays(key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep arrays under a key; where the disk refuses, nothing is kept."""

    def write(partial: Path) -> None:
        with partial.open("wb") as stream:
            np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]

    _keep(_place(key), write)


def _place(key: str) -> Path:
    return cache_folder() / "scans" / f"{key}.npz"


def _keep(path: Path, write: Any) -> None:
    try:
        with atomic_path(path) as partial:
            write(partial)
    except OSError:  # a cache that cannot be written costs time, not the run
        return
