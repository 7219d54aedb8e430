"""Open rasters, local or remote: kept open, signed, and read again where the network fails."""

import contextlib
import copy
import ipaddress
import itertools
import math
import random
import re
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import rasterio
import requests
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError
from rasterio._err import CPLE_BaseError
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from landcover.errors import RasterError
from pipeline.cog import raster_grid
from pipeline.image_file import DRIVERS, ENVI, alpha_bands

_T = TypeVar("_T")

_HTTP = {
    "CPL_VSIL_CURL_CACHE_SIZE": str(32 * 2**20),
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "500",  # bytes a second
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_MAX_RETRY": "0",  # GDAL would not wait as long as a server asks it to
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_NUM_THREADS": "1",  # with more, GDAL reads several ranges at once and does not retry them
}
"""GDAL settings for reading COGs over HTTP. Not for local files: they would hide their side-cars."""
_SECOND_LOOK = {"GDAL_INGESTED_BYTES_AT_OPEN": "16384"}
"""Cuts the file into other requests, so that one wrong answer does not look alike on both handles."""
_ONE_THREAD = {"GDAL_NUM_THREADS": "1"}
"""JPEG 2000 is else decoded in threads of GDAL's own, whose errors get lost too."""
_ATTEMPTS = 12
_ATTEMPTS_UNSIGNED = 3
"""Where a server refuses an address that no new token could make better."""
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
"""Seconds between attempts: the pause doubles, and half of it is left to chance."""
_LONGEST_WAIT = 60.0
"""Seconds that are waited at most where a server asks for time."""
_KEPT_OPEN = 256
_GONE = frozenset({404, 410})
_REFUSED = frozenset({401, 403})
_NO_HEAD = frozenset({400, 403, 405, 501})
"""How servers answer HEAD requests that they, or their signatures, do not allow."""
_USER = re.compile(r"//[^/@]*@")
_ADDRESS = re.compile(r"\S*(?:://|/vsi|\?|#\d)\S*")
_KEY_HOSTS = frozenset({"metadata", "metadata.goog", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})  # fmt: skip
_KEY_ADDRESSES = frozenset({"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"})
"""Where clouds tell a machine its keys, besides link-local addresses."""
_STATUS = re.compile(r"HTTP response code: (\d{3})\b")

_handle_numbers = itertools.count(1)


class Signer(Protocol):
    """Gives addresses that may be opened now."""

    def sign(self, href: str) -> str:
        """Address with a token that is still good."""

    def refused(self, href: str) -> None:
        """Forget the token of an address that a server refused."""

    def settings(self, href: str) -> dict[str, str]:
        """GDAL options without which the address is not answered."""


class FailedReadError(RasterError):
    """A raster that could not be opened or read, after all attempts."""

    def __init__(self, href: str, reason: str, attempts: int) -> None:
        tried = f" in {attempts} attempts" if attempts > 1 else ""
        super().__init__(
            f"{plain(href)} cannot be read{tried} ({reason}); check the file or the connection and run again."
        )
        self.href = plain(href)
        self.reason = reason
        self.attempts = attempts


class _UnsteadyError(Exception):
    """Two looks at a file show different things."""


@dataclass(frozen=True)
class RasterFacts:
    """What an open raster says of itself."""

    grid: GeoBox
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    """Tag of each band; None for NaN, which is never a measurement."""
    masked: tuple[bool, ...]
    """Whether a mask says where each band has data."""
    alpha: int | None
    """Band that says where the others have data, whatever their tags of nodata say."""
    tile: tuple[int, int]
    """Rows and columns that are stored, and decoded, together."""


class RasterFiles:
    """Rasters that many threads read; each use of one has it for itself.

    A remote file must be a GeoTIFF or JPEG 2000 itself: a VRT could make GDAL open any other file.
    What fails on a remote file is tried again on a new handle, with a new signature where the old one
    was refused; a handle whose header is not the one first seen counts as failed.

    Plain HTTP guards no byte, and a TIFF has no checksum that this GDAL looks at: everything read over
    it is read twice, by handles that share no request, until both agree; that costs twice the bytes, and
    three requests more a window. HTTPS guards what it carries, and is read once. What a server itself
    gives out wrongly in the same way each time (zeros in an uncompressed file) nobody can see.

    pause: sleeps some seconds. timeout: seconds after which a request has failed, however much of
    the answer has come; one that brings next to nothing for 30 s has failed before.
    """

    def __init__(
        self,
        signer: Signer,
        *,
        pause: Callable[[float], None] = time.sleep,
        timeout: float = 300.0,
    ) -> None:
        self._signer = signer
        self._pause = pause
        self._timeout = timeout
        self._idle: OrderedDict[tuple[str, int], tuple[str, DatasetReader]] = OrderedDict()
        self._facts: dict[str, RasterFacts] = {}
        self._without_head: set[str] = set()
        self._lock = threading.Lock()
        self._thread = threading.local()
        self.retries: Counter[str] = Counter()
        """What failed and was tried again, by file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._idle:
            self._idle.popitem()[1][1].close()

    def settle_thread(self) -> None:
        """Set GDAL up for local files in this thread until it ends: else each read does so anew.

        That costs as much as to read a small window. For threads that do nothing but read.
        """
        rasterio.Env(**_ONE_THREAD).__enter__()
        self._thread.is_settled = True

    def facts(self, href: str) -> RasterFacts:
        """What a raster says of itself; of a remote one, what two independent looks agree on."""
        if href not in self._facts:
            found = self._persist(
                href, lambda: self._look(href, _facts, lambda *_: not _is_local(href))
            )
            self._facts.setdefault(href, found)
        return self._facts[href]

    def read(self, href: str, work: Callable[[DatasetReader], _T]) -> _T:
        """What `work` gives of an open raster; FailedReadError when all attempts failed."""
        return self._persist(href, lambda: self._look(href, work, lambda *_: not _is_guarded(href)))

    def read_pixels(
        self, href: str, band: int, cut: Window, suspect: Callable[[], bool], work: Callable[[DatasetReader], _T]
    ) -> _T:  # fmt: skip
        """As `read`; a remote window that came back suspect is compared with a second, fresh handle.

        suspect: whether pixels of the window are nodata. A GeoTIFF has nodata where its index has
        no address of a tile, and an index broken on the way looks just so.
        """

        def doubts(dataset: DatasetReader, found: _T) -> bool:
            if not _is_guarded(href):
                return True
            return not _is_local(href) and suspect() and _may_have_gaps(dataset, band, cut, found)

        return self._persist(href, lambda: self._look(href, work, doubts))

    def _look(
        self, href: str, work: Callable[[DatasetReader], _T], doubts: Callable[[DatasetReader, _T], bool]
    ) -> _T:  # fmt: skip
        """What `work` gives of an open raster; where there are doubts, what it gives of two handles."""
        with self._handle(href) as dataset:
            found = work(dataset)
            if not doubts(dataset, found):
                return found
            first = copy.copy(found)  # a second look may write to the same array
            with self._handle(href, second=True) as other:
                found = work(other)
                if not _are_equal(first, found):
                    raise _UnsteadyError
        return found

    def _persist(self, href: str, action: Callable[[], _T]) -> _T:
        """Result of an action that may fail and be tried again."""
        for attempt in itertools.count(1):
            address = self._address(href)
            try:
                return action()
            except (RasterioError, CPLE_BaseError, _UnsteadyError) as error:
                status, wait = self._diagnosis(href, address, error)
                if attempt >= _attempts(href, address, status):
                    raise FailedReadError(href, _reason(error, status), attempt) from error
            if status in _REFUSED:
                self._signer.refused(address)
            with self._lock:
                self.retries[plain(href)] += 1
            self._pause(max(wait, _pause_after(attempt)))
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextlib.contextmanager
    def _handle(self, href: str, *, second: bool = False) -> Iterator[DatasetReader]:
        """An open raster for one user, opened now if none is idle; closed if its use fails.

        second: one that shares nothing with others; it is closed after its use.
        """
        taken = None if second else self._take(href)
        address, dataset = taken or self._persist(href, lambda: self._open(href, second))
        with self._environment(href, second):
            try:
                yield dataset
            except BaseException:
                dataset.close()
                raise
        if second:
            dataset.close()
        else:
            self._give(href, address, dataset)

    def _environment(self, href: str, second: bool) -> contextlib.AbstractContextManager[object]:
        """GDAL's settings for a file. Without any, in a thread of its own, GDAL's errors would get lost."""
        if _is_local(href):
            is_settled = getattr(self._thread, "is_settled", False)
            return contextlib.nullcontext() if is_settled else rasterio.Env(**_ONE_THREAD)
        settings: contextlib.AbstractContextManager[object] = rasterio.Env(
            **self._settings(href, second)
        )
        return settings

    def _settings(self, href: str, second: bool) -> dict[str, str]:
        settings = (
            _HTTP | {"GDAL_HTTP_TIMEOUT": str(self._timeout)} | (_SECOND_LOOK if second else {})
        )
        if href in self._without_head:
            settings["CPL_VSIL_CURL_USE_HEAD"] = "NO"
        return settings | self._signer.settings(href)

    def _address(self, href: str) -> str:
        return href if _is_local(href) else self._signer.sign(href)

    def _take(self, href: str) -> tuple[str, DatasetReader] | None:
        """An idle handle that was opened with the signature in use, and its address."""
        wanted = self._address(href)
        with self._lock:
            key = next((key for key in self._idle if key[0] == href), None)
            if key is None:
                return None
            address, dataset = self._idle.pop(key)
        if address == wanted:
            return address, dataset
        dataset.close()
        return None

    def _give(self, href: str, address: str, dataset: DatasetReader) -> None:
        with self._lock:
            self._idle[href, id(dataset)] = (address, dataset)
            surplus = self._idle.popitem(last=False)[1] if len(self._idle) > _KEPT_OPEN else None
        if surplus:
            surplus[1].close()

    def _open(self, href: str, second: bool) -> tuple[str, DatasetReader]:
        """An address that may be opened now, and the raster behind it."""
        _check_place(href)
        address = path = self._address(href)
        if _is_http(address):
            # The number is never sent; it keeps GDAL from answering one handle from another's cache.
            path = f"/vsicurl/{address}#{next(_handle_numbers)}"
        with self._environment(href, second):
            dataset = rasterio.open(path, driver=_driver(href), sharing=False)
            try:
                if not second:  # what that one gives is compared
                    self._check_header(href, dataset)
            except BaseException:
                dataset.close()
                raise
        return address, dataset

    def _check_header(self, href: str, dataset: DatasetReader) -> None:
        known = None if _is_local(href) else self._facts.get(href)
        if known is not None and _facts(dataset) != known:
            raise _UnsteadyError

    def _diagnosis(self, href: str, address: str, error: BaseException) -> tuple[int | None, float]:
        """HTTP status that the server gives now and seconds that it asks to wait.

        GDAL tells the status only where a file could not be opened.
        """
        if _is_local(href) or isinstance(error, _UnsteadyError):
            return None, 0.0
        told = _STATUS.search(str(_innermost(error)))
        if not _is_http(address) or self._signer.settings(href):
            return int(told[1]) if told else None, 0.0
        try:
            with requests.get(
                address, headers={"Range": "bytes=0-0"}, timeout=(10, 10), stream=True
            ) as answer:
                if answer.ok:
                    if told and address == href and int(told[1]) in _NO_HEAD:
                        self._without_head.add(href)
                    return None, 0.0
                wait = answer.headers.get("Retry-After", "")
                seconds = min(float(wait), _LONGEST_WAIT) if wait.isdecimal() else 0.0
                return answer.status_code, seconds
        except requests.RequestException:
            return None, 0.0


def plain(href: str) -> str:
    """An address without its query and user, which may hold a key."""
    shown = _USER.sub("//", href.split("?", 1)[0])
    return "".join(c if c.isprintable() else "?" for c in shown)


def _check_place(href: str) -> None:
    """Refuse what is neither a file nor a web address: GDAL would take it as a command."""
    remote = re.match(r"(https?|s3|gs|az|abfss?)://", href, re.IGNORECASE)
    command = not remote and re.match(r"\s*<|/vsi|[\w+]+:", href)
    if command or (_is_local(href) and Path(href).exists() and not Path(href).is_file()):
        raise RasterError(
            f"{plain(href)[:120]} is neither a file nor a web address of an image; index the images again."
        )
    if not _is_local(href):
        _check_host(href)


def _check_host(href: str) -> None:
    """Refuse a machine's own link and where clouds keep its keys: a stranger may have written the address.

    Loopback and private networks stay open: a user may have a server there. To what a name leads,
    and where a server redirects, is not looked up.
    """
    host = unquote(urlsplit(href).hostname or "").rstrip(".").lower()
    with contextlib.suppress(UnicodeError):
        host = host.encode("idna").decode()  # as it is looked up: wide digits are digits
    address = _ip_address(host)
    if address is None:
        is_closed = host in _KEY_HOSTS
    else:
        is_closed = address.is_link_local or str(address) in _KEY_ADDRESSES
    if is_closed:
        raise RasterError(
            f"{plain(href)[:120]} is at an address where machines keep their keys, not images; leave "
            "the scene out, and do not trust its catalogue."
        )


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host's text is, however it is written (2852039166 is one); None for a name."""
    with contextlib.suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    try:
        found = ipaddress.IPv6Address(host)
    except ValueError:
        return None
    return found.ipv4_mapped or found


def side_files(path: Path) -> list[Path]:
    """Files beside an image that GDAL reads with it: mask, overviews, statistics, header, world file.

    `a.tif.msk`, `a.tif.aux.xml`, `a.hdr`, `a.tfw` and the like, sorted. When one of them changes, the
    image may show something else.
    """
    ending = path.suffix[1:].lower()
    added = (".msk", ".ovr", ".msk.ovr", ".aux.xml", ".hdr")
    instead = (".hdr", ".wld", ".tab", f".{ending[:1]}{ending[-1:]}w", f".{ending}w")
    names = {path.name + end for end in added} | {path.stem + end for end in instead}
    names |= {path.name + end.upper() for end in added} | {
        path.stem + end.upper() for end in instead
    }
    return sorted(side for name in names if (side := path.with_name(name)).is_file())


def _is_local(href: str) -> bool:
    return "://" not in href


def _is_http(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def _is_guarded(href: str) -> bool:
    """Whether what is read comes as it was sent."""
    return not href.lower().startswith("http://")


def _attempts(href: str, address: str, status: int | None) -> int:
    """How often an action is tried that fails with an HTTP status (None: with none)."""
    if _is_local(href) or status in _GONE:
        return 1
    return _ATTEMPTS_UNSIGNED if status in _REFUSED and address == href else _ATTEMPTS


def _are_equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return one == other


def _driver(href: str) -> str:
    if _is_local(href):
        return DRIVERS.get(Path(href).suffix.lower(), ENVI)
    return "JP2OpenJPEG" if _is_jpeg(href) else "GTiff"


def _is_jpeg(href: str) -> bool:
    return urlsplit(href).path.lower().endswith((".jp2", ".j2k"))


def _facts(dataset: DatasetReader) -> RasterFacts:
    try:
        grid = raster_grid(dataset)
    except CRSError as error:
        raise RasterError(f"{plain(dataset.name)} has a CRS that is not understood.") from error
    flags = dataset.mask_flag_enums
    return RasterFacts(
        grid=grid,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(None if n is None or math.isnan(n) else n for n in dataset.nodatavals),
        masked=tuple(MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in flags),
        alpha=next(iter(alpha_bands(dataset)), None),
        tile=dataset.block_shapes[0],
    )


def _may_have_gaps(dataset: DatasetReader, band: int, cut: Window, found: object) -> bool:
    """Whether nodata in a window may come from tiles for which a GeoTIFF's index has no address.

    The index of a mask or of a reduced image cannot be asked.
    """
    if dataset.driver != "GTiff":
        return False
    if isinstance(found, np.ndarray) and found.shape != (cut.height, cut.width):
        return True
    if any(MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums):
        return True
    rows, cols = dataset.block_shapes[band - 1]
    names = (
        f"BLOCK_OFFSET_{col}_{row}"
        for row in range(int(cut.row_off) // rows, -(-int(cut.row_off + cut.height) // rows))
        for col in range(int(cut.col_off) // cols, -(-int(cut.col_off + cut.width) // cols))
    )
    return any(dataset.get_tag_item(name, "TIFF", bidx=band) is None for name in names)


def _pause_after(attempt: int) -> float:
    longest = min(_FIRST_PAUSE * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException, status: int | None) -> str:
    """The innermost reason and HTTP status, in one line without addresses."""
    if isinstance(error, _UnsteadyError):
        return "two looks at it differ"
    text = _ADDRESS.sub("it", " ".join(str(_innermost(error)).split()))[:160].rstrip(".")
    if "not recognized as" in text:
        text = "it does not open as an image"
    return text if status is None else f"{_STATUS.sub('no answer', text)}, HTTP status {status}"
