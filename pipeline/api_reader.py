"""Reading from a STAC API whose owner is a stranger: bounded in size and time, and on one host."""

import json
import mmap
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from pystac import Link
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests import Request, Response
from requests.exceptions import RequestException
from urllib3 import Retry

from landcover.errors import CatalogError
from pipeline.items import shown_address

LARGEST_PAGE = 64 * 2**20
"""Bytes of one page, unpacked: 250 scenes of 250 kB each, ten times what the wordiest provider gives."""
LARGEST_ANSWER = 2**30
"""Bytes of all pages together."""
SLOWEST_PAGE = 300.0
"""Seconds from a question to the last byte of its page, retries and pauses included."""

_TIMEOUT = (10.0, 60.0)  # seconds to connect, to the next byte
_PAUSES = (1.0, 2.0, 4.0)  # seconds before an answer that broke off is asked for again
_CHUNK = 1 << 16
_SHOWN = 2000  # bytes read of a refusal
_REDIRECTS = 5
_MOVED = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}


class _BrokenOffError(APIError):
    """An answer began but did not end."""


class ApiReader(StacApiIO):
    """Asks one server, again where it is busy or breaks off, and never another one.

    location: URL of the API's landing page. largest, most: bytes of a page and of all that is read;
    slowest: seconds for a page. Redirects keep the method (a POST that became a GET would ask for
    everything), and like `next` links they stay on the host.
    Raises CatalogError for an answer that is too large, too slow or leads elsewhere, and APIError or
    RequestException for one that does not come.
    """

    def __init__(
        self,
        location: str,
        *,
        largest: int = LARGEST_PAGE,
        most: int = LARGEST_ANSWER,
        slowest: float = SLOWEST_PAGE,
    ) -> None:
        # POST searches are not retried unless told, and a hostile Retry-After must not stop us.
        retry = Retry(
            total=5, connect=2, backoff_factor=1, status_forcelist=[429, 502, 503, 504],
            allowed_methods=None, retry_after_max=30,
        )  # fmt: skip
        super().__init__(max_retries=retry, timeout=_TIMEOUT)
        self._location, self._home = location, urlsplit(location)
        self._shown = shown_address(location)
        self._largest, self._slowest = largest, slowest
        self._left = most

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Pages of an answer, empty ones too: some servers filter a page after they cut it."""
        page = self.read_json(url, method=method, parameters=parameters)
        while True:
            yield page
            following = next_link(page)
            if following is None:
                return
            page = self.read_json(Link.from_dict(following), parameters=parameters)

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A JSON object from a URL or a link, whole."""
        read = super().read_json
        return self._in_time(lambda: _patiently(lambda: read(source, *args, **kwargs)))

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Text from a URL or a link; a path is no file of this machine but one of the server's."""
        if isinstance(source, Link):
            return super().read_text(source, *args, **kwargs)
        return self.request(str(source), *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Body of one answer. Raises CatalogError, APIError or RequestException as the class says."""
        method = (method or "GET").upper()
        content = {"json": parameters} if method == "POST" else {"params": parameters or {}}
        for _ in range(_REDIRECTS):
            asked = Request(method, self._at_home(href), headers=headers, **content)
            with self._send(asked) as answer:
                if answer.status_code in _MOVED:
                    href = urljoin(href, answer.headers.get("Location", ""))
                    content.pop("params", None)  # the new address has them
                    continue
                if not answer.ok:
                    raise APIError(_refusal(answer))
                return self._text(answer)
        raise APIError(f"it redirects more than {_REDIRECTS} times")

    def _send(self, asked: Request) -> Response:
        prepared = self.session.prepare_request(asked)
        settings = self.session.merge_environment_settings(prepared.url or "", {}, True, None, None)
        return self.session.send(prepared, timeout=self.timeout, allow_redirects=False, **settings)

    def _text(self, answer: Response) -> str:
        """The whole answer, as long as it is not too large."""
        declared = answer.headers.get("Content-Length", "")
        self._check_size(int(declared) if declared.isdecimal() else 0)
        # Unlike a bytearray, mapped memory grows without being copied, and goes back to the system.
        with mmap.mmap(-1, self._largest) as body:
            try:
                for chunk in answer.iter_content(_CHUNK):
                    self._check_size(body.tell() + len(chunk))
                    body.write(chunk)
            except RequestException as error:
                raise _BrokenOffError(f"the answer breaks off after {body.tell()} bytes") from error
            self._left -= body.tell()
            with memoryview(body)[: body.tell()] as read:
                return str(read, "utf-8")

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            raise CatalogError(
                f"The catalogue {self._shown} gives a page of more than "
                f"{self._largest / 2**20:g} MB; search a shorter period or use another catalogue."
            )
        if size > self._left:
            raise CatalogError(
                f"The catalogue {self._shown} describes too many scenes to hold in memory; "
                "search a shorter period or a smaller region."
            )

    def _at_home(self, href: str) -> str:
        """The address on the catalogue's own host, by https where that is how we came."""
        parts = urlsplit(urljoin(self._location, href))
        if parts.scheme in _PORTS and parts.hostname == self._home.hostname:
            if _port(parts) == _port(self._home):
                return urlunsplit((*self._home[:2], *parts[2:4], ""))
            if {_port(parts), _port(self._home)} == set(_PORTS.values()):
                return urlunsplit(("https", self._home.hostname or "", *parts[2:4], ""))
        raise CatalogError(
            f"The catalogue {self._shown} leads to another place, {href[:80]!r}; if you trust that "
            "one, give it as the catalogue."
        )

    def _in_time(self, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Read in a thread, so that a server that sends a byte now and then does not hold us.

        The thread is left to itself when its time is over; it ends with the connection.
        """
        results: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                results.put(read())
            except BaseException as error:  # noqa: BLE001 - raised by the caller's thread below
                results.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            result = results.get(timeout=self._slowest)
        except queue.Empty:
            raise CatalogError(
                f"The catalogue {self._shown} has not answered whole in {self._slowest:g} seconds; "
                "search a shorter period or try again later."
            ) from None
        if isinstance(result, BaseException):
            raise result
        return result


def next_link(page: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the next page is; None on the last one."""
    links = page.get("links") or []
    return next((dict(link) for link in links if link.get("rel") == "next"), None)


def _patiently(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read again where an answer breaks off."""
    for pause in _PAUSES:
        try:
            return read()
        except _BrokenOffError:
            pass
        except json.JSONDecodeError as error:
            if not error.doc.lstrip().startswith("{"):
                raise
        time.sleep(pause)
    return read()


def _refusal(answer: Response) -> str:
    """What a server says when it refuses, in brief."""
    text = answer.raw.read(_SHOWN, decode_content=True).decode(errors="replace")
    return f"{answer.status_code} {answer.reason} {text}"


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]
