"""The tags of a TIFF file: read from one, laid out for another.

TIFF 6.0 (Adobe, 1992), section 2, and the BigTIFF design (libtiff, 2007).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEW_SUBFILE_TYPE = 254
IMAGE_WIDTH = 256
IMAGE_LENGTH = 257
TILE_OFFSETS = 324
TILE_BYTE_COUNTS = 325
GEOTIFF = frozenset({33550, 33922, 34264, 34735, 34736, 34737})
"""Pixel scale, tie points, transformation, key directory, its numbers, its texts."""
GDAL_METADATA = 42112

_LONG, _LONG8 = 4, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
"""Bytes of one value, by type."""


@dataclass(frozen=True)
class Tag:
    """Value of a tag."""

    kind: int
    """TIFF's number of the type."""
    count: int
    data: bytes
    """The values, little-endian."""


Tags = dict[int, Tag]
"""By the number of the tag."""


def long_tag(*values: int) -> Tag:
    """Whole numbers below 2^32."""
    return Tag(_LONG, len(values), np.array(values, "<u4").tobytes())


def offsets_tag(values: NDArray[np.int64], *, big: bool) -> Tag:
    """Positions in a file; big: in a BigTIFF."""
    return Tag(
        _LONG8 if big else _LONG, values.size, values.astype("<u8" if big else "<u4").tobytes()
    )


def read_tags(file: bytes) -> Tags:
    """Tags of the first image of a classic little-endian TIFF, given as a whole."""
    (start,) = struct.unpack_from("<4xI", file)
    (number,) = struct.unpack_from("<H", file, start)
    tags = {}
    for entry in range(start + 2, start + 2 + 12 * number, 12):
        name, kind, count, offset = struct.unpack_from("<HHII", file, entry)
        size = _SIZES[kind] * count
        at = offset if size > 4 else entry + 8
        tags[name] = Tag(kind, count, file[at : at + size])
    return tags


def header(images: Sequence[Tags], *, big: bool) -> bytes:
    """Begin of a TIFF file: the tags of all images, one after the other.

    big: as BigTIFF, whose positions may exceed 2^32.
    """
    start = (
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    )
    out = bytearray(start)
    link = 8 if big else 4
    for tags in images:
        out += bytes(-len(out) % 8)
        struct.pack_into("<Q" if big else "<I", out, link, len(out))
        link = _append_image(out, tags, big=big)
    return bytes(out + bytes(-len(out) % 8))


def _append_image(out: bytearray, tags: Tags, *, big: bool) -> int:
    """Append tags and their values; return where the position of the next image belongs."""
    entry, place, number = ("<HHQ", 8, "<Q") if big else ("<HHI", 4, "<H")
    width = struct.calcsize(entry) + place
    link = len(out) + struct.calcsize(number) + width * len(tags)
    values = bytearray()
    out += struct.pack(number, len(tags))
    for name, tag in sorted(tags.items()):
        data = tag.data
        if len(data) > place:
            data = struct.pack("<Q" if big else "<I", link + place + len(values))
            values += tag.data + bytes(-len(tag.data) % 8)
        out += struct.pack(entry, name, tag.kind, tag.count) + data.ljust(place, b"\0")
    out += bytes(place) + values
    return link
