"""Signing: addresses that may be opened now, and what GDAL needs to be told to open them."""

import json
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from landcover.errors import CatalogError
from pipeline.items import one_line
from pipeline.providers import Access, Bearer, Bucket, Closed, SasToken, access_to

_MARGIN = 300.0
"""Seconds before its end at which a token is renewed: longer than a window takes to read, retries
included."""
_TIMEOUT = (10.0, 30.0)  # to connect, to answer
_LONGEST_ANSWER = 65_536
_TRIES_FOR_A_LIVE_TOKEN = 3

_ACCOUNT = re.compile(r"[a-z0-9]{1,24}")
_CONTAINER = re.compile(r"[a-z0-9$][a-z0-9-]{0,62}")
_SAS = re.compile(r"[A-Za-z0-9%&=+/_.:~-]{1,4096}")
_BEARER = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}")
_SECRETS = re.compile(
    r"(?i)\b((?:sig|signature|token|access_token|x-amz-[a-z-]+)(?:=|%3D)|bearer\s+)[^&\s\"'<>]+"
)

_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
_GOOGLE_KEYS = ("GOOGLE_APPLICATION_CREDENTIALS", "GS_ACCESS_KEY_ID", "GS_OAUTH2_REFRESH_TOKEN")
_STORES = {
    "s3": (_S3_KEYS, {"AWS_NO_SIGN_REQUEST": "YES"}),
    "gs": (_GOOGLE_KEYS, {"GS_NO_SIGN_REQUEST": "YES"}),
}
"""Of an object store: environment variables that mean the user has keys, and the options without."""

_KEYS_NEEDED = {"AWS_NO_SIGN_REQUEST": "NO"}
"""Of a bucket whose rule does not say otherwise; the environment may, for public ones."""


@dataclass(frozen=True)
class _Token:
    text: str
    """Query string that signs; empty for a container that is open to all."""
    expiry: float
    """Seconds since 1970."""
    renewal: float
    """When it is time for another."""


class Signer:
    """Makes addresses openable, for any number of threads.

    rules: how addresses may be opened, the first that matches counts; default are those of the
    shipped providers. clock: seconds since 1970.
    """

    def __init__(
        self, rules: Sequence[Access] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def sign(self, href: str) -> str:
        """The address that may be opened now; the same where it needs no signature.

        A signature that the address brings along is replaced, as it may have expired.
        Raises CatalogError where there is no right to open it, or no token can be had.
        """
        rule = access_to(href, self._rules)
        if isinstance(rule, Closed):
            raise CatalogError(f"{redacted(href)} cannot be read by a program; {rule.advice}.")
        if not isinstance(rule, SasToken):
            return href
        token = self._token(_token_url(rule, href)).text
        return urlunsplit((*urlsplit(href)[:3], token, "")) if token else href

    def refused(self, href: str) -> None:
        """Tell that an address was answered 401 or 403: its token is not used again.

        href: better as signed, so that a token that another thread has renewed since is kept.
        """
        rule = access_to(href, self._rules)
        if not isinstance(rule, SasToken):
            return
        url, used = _token_url(rule, href), urlsplit(href).query
        with self._lock_of(url):
            token = self._tokens.get(url)
            if token and (not _is_signed(href) or token.text == used):
                del self._tokens[url]

    def settings(self, href: str) -> dict[str, str]:
        """GDAL options to open an address with, for this address alone.

        They may hold the user's token: never write them down. S3 keys are not among them, as GDAL
        takes them from the environment. Raises CatalogError where a token is missing.
        """
        rule = access_to(href, self._rules)
        if isinstance(rule, Bearer):
            return {"GDAL_HTTP_AUTH": "BEARER", "GDAL_HTTP_BEARER": _bearer(rule, href)}
        if isinstance(rule, Bucket):
            return _KEYS_NEEDED | rule.options
        keys, anonymous = _STORES.get(urlsplit(href).scheme.lower(), ((), {}))
        return {} if any(map(os.environ.get, keys)) else dict(anonymous)

    def _token(self, url: str) -> _Token:
        """The token in use, or a new one; threads that need the same one wait for one request."""
        with self._lock_of(url):
            token = self._tokens.get(url)
            if token is None or self._clock() >= token.renewal:
                token = self._tokens[url] = self._fetch(url)
            return token

    def _lock_of(self, url: str) -> threading.Lock:
        with self._lock:
            return self._locks[url]

    def _fetch(self, url: str) -> _Token:
        """Ask for a token until one is alive: caches on the way give out expired ones."""
        for _ in range(_TRIES_FOR_A_LIVE_TOKEN):
            answer = _ask(url)
            now = self._clock()
            token = _read(answer, url, now) if answer else _Token("", now + _MARGIN, now + _MARGIN)
            if token.expiry > now:
                return token
        raise CatalogError(
            f"{url} gives tokens that have expired already; check the clock of this computer "
            f"({datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC)."
        )


def redacted(text: str) -> str:
    """Text without signatures and tokens, to be shown or written: messages of GDAL hold addresses."""
    return _SECRETS.sub(r"\1...", text)


def _is_signed(href: str) -> bool:
    return "sig" in parse_qs(urlsplit(href).query)


def _token_url(rule: SasToken, href: str) -> str:
    """Where the token for an address is had; CatalogError where it names no container."""
    parts = urlsplit(href)
    account = (parts.hostname or "").partition(".")[0]
    container = parts.path.lstrip("/").partition("/")[0]
    if not (_ACCOUNT.fullmatch(account) and _CONTAINER.fullmatch(container)):
        raise CatalogError(
            f"{redacted(href)[:200]} names no storage container; leave its scene out."
        )
    return rule.token_url.format(account=account, container=container)


def _bearer(rule: Bearer, href: str) -> str:
    token = os.environ.get(rule.variable, "").strip()
    if not token:
        raise CatalogError(f"{redacted(href)} needs a token of yours; {rule.advice}.")
    if not _BEARER.fullmatch(token):
        raise CatalogError(f"{rule.variable} holds something that is no token; {rule.advice}.")
    return token


def _ask(url: str) -> bytes:
    """The answer to a request for a token; empty where none is needed (404).

    Raises CatalogError where the server does not answer, or not with a token.
    """
    retry = Retry(
        total=4, connect=2, backoff_factor=0.5, status_forcelist=[429, 500, 502, 503, 504],
        retry_after_max=30,
    )  # fmt: skip
    try:
        with requests.Session() as session:
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            with session.get(url, timeout=_TIMEOUT, stream=True, allow_redirects=False) as response:
                if response.status_code == requests.codes.not_found:
                    return b""
                if response.status_code != requests.codes.ok:
                    raise CatalogError(
                        f"{url} gives no token (HTTP {response.status_code}); try again later."
                    )
                return bytes(response.raw.read(_LONGEST_ANSWER, decode_content=True))
    except (requests.RequestException, OSError) as error:
        raise CatalogError(
            f"{url} gives no token ({redacted(one_line(error))}); check the network and try again."
        ) from error


def _read(answer: bytes, url: str, now: float) -> _Token:
    """The token of an answer, checked as text that a stranger wrote.

    It is renewed _MARGIN before its end, or half-way where it lives no longer than twice that.
    """
    try:
        value = json.loads(answer)
        text, expiry = value["token"], _seconds(value["msft:expiry"])
        signs = bool(_SAS.fullmatch(text)) and _is_signed(f"?{text}")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        signs = False
    if not signs:
        raise CatalogError(f"{url} answers with something that is no token; try again later.")
    return _Token(text, expiry, expiry - min(_MARGIN, (expiry - now) / 2))


def _seconds(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp()
