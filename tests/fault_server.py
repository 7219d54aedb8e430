"""A web server that hands out the files of a folder and fails as real ones do, by a seeded plan."""

import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.providers import Access, SasToken

KINDS = ("503", "429", "truncated", "slow", "expired", "garbled", "zeroed", "page")
"""What may happen to a request instead of the right answer."""
_PAGE = b"<html><body>Sorry, something went wrong.</body></html>"
_SILENCE = 20.0
"""Seconds that a slow answer takes at least: longer than a client of these tests waits."""


@dataclass(frozen=True)
class FaultPlan:
    """Which requests fail, and how: the same for the same requests, in whatever order they come."""

    rate: float = 0.0
    """Share of requests that fail, 0 to 1."""
    kinds: tuple[str, ...] = KINDS
    """Each equally often."""
    seed: int = 0
    retry_after: int = 1
    """Seconds that a 429 asks for."""
    dies_after: int | None = None
    """Requests after which every connection is closed without an answer."""
    only: str = ""
    """Part of the paths that fail; the others do not."""

    def fault(self, asked: str, time: int) -> str:
        """What happens to a request that is made for the nth time; "" for the right answer."""
        chance = random.Random(f"{self.seed} {time} {asked}")
        fails = self.only in asked and chance.random() < self.rate
        return chance.choice(self.kinds) if fails else ""


class FaultServer(ThreadingHTTPServer):
    """Serves a folder on this computer; `plan` may be replaced while it runs.

    Paths below `signed/` need a token, which `/token/...` gives out for all of them.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, plan: FaultPlan | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.folder = folder
        self.plan = plan or FaultPlan()
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.now = 1_800_000_000.0
        self.lifetime = 3600.0
        """Seconds for which a token is good."""
        self.overstated = 0.0
        """By how many seconds it is promised to be good for longer."""
        self.seconds_a_request = 0.0
        """By which the server's clock goes on with each request."""
        self.tokens: dict[str, float] = {}
        """When each ends."""
        self.banned: set[tuple[str, str]] = set()
        """Tokens that do not open some path any more, whatever their end."""
        self.asked: Counter[str] = Counter()
        """Requests for a file, by method, path and range."""
        self.faults: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        """By HTTP status."""
        self.sent = 0
        """Bytes of bodies."""

    @property
    def url(self) -> str:
        """Address of the folder."""
        return f"http://127.0.0.1:{self.server_port}"

    def clock(self) -> float:
        """Seconds since 1970 as the server sees it."""
        return self.now

    def rules(self) -> list[Access]:
        """How its addresses may be opened."""
        url = self.url + "/token/{container}"
        return [SasToken(match=[self.url], method="sas-token", token_url=url)]

    def restart_counts(self) -> None:
        """Forget what was asked so far, so that a plan begins anew."""
        with self.lock:
            for counts in (self.asked, self.faults, self.answers):
                counts.clear()
            self.sent = 0

    def token(self) -> bytes:
        """A new token, as Planetary Computer words it."""
        with self.lock:
            end, text = self.now + self.lifetime, f"sig=secret{len(self.tokens)}"
            self.tokens[text] = end
        stamp = datetime.fromtimestamp(end + self.overstated, UTC).isoformat()
        return json.dumps({"token": text, "msft:expiry": stamp}).encode()

    def lets_in(self, query: str, path: str) -> bool:
        """Whether a query is a token that is alive, or the path needs none."""
        if not path.startswith("/signed/"):
            return True
        with self.lock:
            return self.tokens.get(query, 0.0) > self.now and (query, path) not in self.banned

    def take_down(self, asked: str) -> str:
        """Count a request, and say what happens to it."""
        with self.lock:
            self.now += self.seconds_a_request
            self.asked[asked] += 1
            plan, total = self.plan, self.asked.total()
            dead = plan.dies_after is not None and total > plan.dies_after
            fault = "dead" if dead else plan.fault(asked, self.asked[asked])
            self.faults[fault] += bool(fault)
        return fault


@contextlib.contextmanager
def fault_server(folder: Path, plan: FaultPlan | None = None) -> Iterator[FaultServer]:
    """A running server, closed with all its connections in the end."""
    with FaultServer(folder, plan) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class _Request(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: FaultServer

    def do_GET(self) -> None:
        """Answer a request for a file, a part of it, or a token."""
        parts = urlsplit(self.path)
        if parts.path.startswith("/token/"):
            self._send(200, self.server.token())
            return
        span = self.headers.get("Range", "")
        fault = self.server.take_down(f"{self.command} {parts.path} {span}")
        path = self.server.folder / parts.path.lstrip("/")
        if fault == "dead":
            self.close_connection = True
        elif not self.server.lets_in(parts.query, parts.path):
            self._send(403, b"")
        elif not path.is_file():
            self._send(404, _PAGE)
        elif fault == "expired":
            with self.server.lock:
                self.server.banned.add((parts.query, parts.path))
            self._send(403, b"")
        elif fault == "503":
            self._send(503, b"")
        elif fault == "429":
            self._send(429, b"", **{"Retry-After": str(self.server.plan.retry_after)})
        elif fault == "page":
            self._send(200, _PAGE)
        else:
            self._send_part(path, span, fault)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _send_part(self, path: Path, span: str, fault: str) -> None:
        total = path.stat().st_size
        first, last = 0, total - 1
        if span:
            start, _, end = span.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
        if first >= total:
            self._send(416, b"")
            return
        with path.open("rb") as file:
            file.seek(first)
            body = file.read(last - first + 1)
        if fault == "garbled":
            body = random.Random(self.server.asked.total()).randbytes(len(body))
        elif fault == "zeroed":
            body = bytes(len(body))
        headers = {"Content-Range": f"bytes {first}-{last}/{total}"} if span else {}
        self._send(206 if span else 200, body, fault, **headers)

    def _send(self, status: int, body: bytes, fault: str = "", **headers: str) -> None:
        with self.server.lock:
            self.server.answers[status] += 1
            self.server.sent += len(body)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("truncated", "slow"):
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        if fault == "slow":
            self._drip()

    def _drip(self) -> None:
        """Go on one byte at a time until nobody listens any more."""
        for _ in range(int(_SILENCE / 0.5)):
            self.wfile.write(b"\0")
            self.wfile.flush()
            if self.server.closing.wait(0.5):
                return

    def handle(self) -> None:
        """Answer all requests of a connection; a client may have had enough at any moment."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        """Close the connection, even where the client has closed it before."""
        with contextlib.suppress(ConnectionError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
