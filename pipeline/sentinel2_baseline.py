"""Of which processing baseline a Sentinel-2 file on disk is."""

import contextlib
import os
import re
from itertools import islice
from pathlib import Path

from landcover.harmonization import named_baseline

_METADATA = "MTD_MSIL*.xml"
_LEVELS = 5
"""Folders from a band (`GRANULE/*/IMG_DATA/R10m`) up to the metadata of its product."""
_LARGEST = 2**20  # bytes; ESA's have some 60,000
_STATED = re.compile(rb"<PROCESSING_BASELINE>\s*(\d\d\.\d\d)\s*</PROCESSING_BASELINE>")


def sentinel2_baseline(path: Path, *, is_band: bool) -> str | None:
    """The baseline as '05.09' by ESA's name of the product in a file's path, else its metadata.

    It is the whole path that counts, and metadata in the folders above, so that it does not matter
    from which folder on the files are looked at. is_band: the name says that it is a band; of another
    image metadata nearby say nothing. None where nothing says it.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - a link's own name counts, `..` does not
    for part in reversed(path.parts):
        if baseline := named_baseline(part):
            return baseline
    folders = list(path.parents)[:_LEVELS] if is_band else []
    return next(filter(None, map(_stated, folders)), None)


def _stated(folder: Path) -> str | None:
    """What a product's metadata in a folder say."""
    for path in islice(folder.glob(_METADATA), 1):
        with contextlib.suppress(OSError):
            if path.is_file() and (match := _STATED.search(_start(path))):
                return match[1].decode()
    return None


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LARGEST)
