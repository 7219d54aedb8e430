"""Signing: tokens that expire in mid-run, and what goes to which host."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import rasterio
import requests
from rasterio.transform import from_origin

from landcover.errors import CatalogError
from pipeline.providers import Access, Bearer, Bucket, Closed, Open, SasToken, access_to
from pipeline.signing import Signer, _token_url, redacted

HOUR = 3600.0


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now


class Storage(ThreadingHTTPServer):
    """Gives out tokens that expire, and files to those who have a live one; as strict as Azure."""

    daemon_threads = True

    def __init__(self, clock: Clock, image: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Visitor)
        self.clock, self.image = clock, image
        self.lifetime = HOUR
        self.issued: dict[str, float] = {}
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.answers: list[tuple[int, bytes]] = []
        """Given to requests for a token before any token is."""

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def token(self) -> bytes:
        """A new token, as Planetary Computer words it."""
        number, expiry = len(self.issued), self.clock() + self.lifetime
        self.issued[f"secret{number}"] = expiry
        text = f"se={number}&sp=r&sig=secret{number}"
        stamp = datetime.fromtimestamp(expiry, UTC).isoformat().replace("+00:00", "Z")
        return json.dumps({"token": text, "msft:expiry": stamp}).encode()

    def lets_in(self, query: str) -> bool:
        """Whether a query holds a token that is alive."""
        given = parse_qs(query).get("sig", [""])[0]
        return self.issued.get(given, 0.0) > self.clock()


class Visitor(BaseHTTPRequestHandler):
    """One request to the storage."""

    server: Storage

    def do_GET(self) -> None:
        """Give a token, or a file to those who may have it."""
        parts = urlsplit(self.path)
        kind = parts.path.split("/")[1]
        self.server.requests[kind] += 1
        self.server.headers.append({key.lower(): value for key, value in self.headers.items()})
        if kind == "token":
            status, body = self.server.answers.pop(0) if self.server.answers else (200, b"")
            self.reply(status, body or self.server.token())
        elif kind == "private" and not self.server.lets_in(parts.query):
            self.reply(403, b"")
        elif kind == "login" and self.headers.get("Authorization") != "Bearer my.own-token":
            self.reply(401, b"")
        elif kind == "away":
            self.send_response(302)
            self.send_header(
                "Location", self.server.url.replace("127.0.0.1", "localhost") + "/open/a.tif"
            )
            self.end_headers()
        else:
            self.reply(200, self.server.image)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def reply(self, status: int, body: bytes) -> None:
        """Answer with a body, or the part of it that is asked for."""
        span = self.headers.get("Range")
        if span and status == 200:
            first, last = (int(n) for n in span.removeprefix("bytes=").split("-"))
            total, body, status = len(body), body[first : last + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    """A small GeoTIFF."""
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=16, height=16, count=1, dtype="uint16", crs="EPSG:32633",
        transform=from_origin(500000, 5000000, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(np.full((1, 16, 16), 7, np.uint16))
    return path.read_bytes()


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def storage(clock: Clock, image: bytes) -> Iterator[Storage]:
    """A storage server on this computer."""
    with Storage(clock, image) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def signer(clock: Clock, storage: Storage) -> Signer:
    """A signer that has been told about the storage server."""
    return Signer(rules(storage), clock)


def rules(storage: Storage) -> list[Access]:
    """The storage server is one whose addresses are signed with tokens."""
    return [
        SasToken(
            match=[storage.url], method="sas-token",
            token_url=storage.url + "/token/{account}/{container}",
        )
    ]  # fmt: skip


def status(href: str) -> int:
    """What the server answers to a request for an address."""
    return requests.get(href, timeout=10).status_code


def test_a_token_is_asked_for_once_and_opens(signer: Signer, storage: Storage) -> None:
    """Every address of a container is signed with one token; without it the server refuses."""
    hrefs = [f"{storage.url}/private/{name}.tif" for name in "abc"]
    assert status(hrefs[0]) == 403
    assert [status(signer.sign(href)) for href in hrefs] == [200, 200, 200]
    assert storage.requests["token"] == 1


def test_each_container_has_its_own_token(signer: Signer, storage: Storage) -> None:
    """A token opens one container only, so it is never used for another."""
    one, other = (signer.sign(f"{storage.url}/{name}/a.tif") for name in ("private", "naip"))
    assert urlsplit(one).query != urlsplit(other).query


def test_a_token_is_renewed_before_it_expires(
    signer: Signer, storage: Storage, clock: Clock
) -> None:
    """A run of 24 hours with tokens of one hour never meets a refusal."""
    for _ in range(24 * 12):
        assert status(signer.sign(f"{storage.url}/private/a.tif")) == 200
        clock.now += 300
        assert status(signer.sign(f"{storage.url}/private/a.tif")) == 200
    assert 24 <= storage.requests["token"] <= 30


def test_an_address_signed_just_now_stays_good_for_minutes(
    signer: Signer, storage: Storage, clock: Clock
) -> None:
    """The margin: whatever the moment of signing, a window can be read for five minutes after."""
    for _ in range(70):
        href = signer.sign(f"{storage.url}/private/a.tif")
        clock.now += 299
        assert status(href) == 200


def test_a_short_lived_token_is_used_for_half_its_life(
    signer: Signer, storage: Storage, clock: Clock
) -> None:
    """A token that lives shorter than the margin is not asked for at each read."""
    storage.lifetime = 60
    for _ in range(6):
        assert status(signer.sign(f"{storage.url}/private/a.tif")) == 200
        clock.now += 10
    assert storage.requests["token"] == 2


def test_a_refused_token_is_replaced(signer: Signer, storage: Storage) -> None:
    """A token that the server revoked is forgotten once told, and the next one opens."""
    href = f"{storage.url}/private/a.tif"
    signed = signer.sign(href)
    storage.issued.clear()
    storage.issued["another"] = 0.0
    assert status(signer.sign(href)) == 403
    signer.refused(signed)
    assert status(signer.sign(href)) == 200


def test_a_late_refusal_keeps_the_new_token(signer: Signer, storage: Storage) -> None:
    """Of threads that are refused together, one renewal serves all; unsigned, all is forgotten."""
    href = f"{storage.url}/private/a.tif"
    old = signer.sign(href)
    signer.refused(old)
    new = signer.sign(href)
    signer.refused(old)
    assert signer.sign(href) == new
    signer.refused(href)
    assert signer.sign(href) != new
    assert storage.requests["token"] == 3


def test_threads_share_one_request(signer: Signer, storage: Storage) -> None:
    """Thirty-two threads that need a token at once ask the server once."""
    with ThreadPoolExecutor(32) as pool:
        hrefs = set(pool.map(lambda _: signer.sign(f"{storage.url}/private/a.tif"), range(200)))
    assert len(hrefs) == 1
    assert storage.requests["token"] == 1


def test_a_signature_that_came_along_is_replaced(signer: Signer, storage: Storage) -> None:
    """Item lists frozen with signed addresses work next year too."""
    href = signer.sign(f"{storage.url}/private/a.tif?se=2020&sp=r&sig=old")
    assert href.count("sig=") == 1
    assert "old" not in href
    assert status(href) == 200


def test_an_expired_token_from_a_cache_is_asked_for_again(
    signer: Signer, storage: Storage, clock: Clock
) -> None:
    """A token that is dead on arrival is not used; the next answer may be alive."""
    storage.lifetime = -10
    dead = storage.token()
    storage.lifetime = HOUR
    storage.answers = [(200, dead), (200, dead)]
    assert status(signer.sign(f"{storage.url}/private/a.tif")) == 200
    storage.answers = [(200, dead)] * 3
    clock.now += HOUR
    with pytest.raises(CatalogError, match="expired already; check the clock"):
        signer.sign(f"{storage.url}/private/a.tif")


def test_a_busy_token_server_is_asked_again(signer: Signer, storage: Storage) -> None:
    """503 and 429 are waited out."""
    storage.answers = [(503, b"busy"), (429, b"slow down")]
    assert status(signer.sign(f"{storage.url}/private/a.tif")) == 200


def test_a_container_without_tokens_is_open(signer: Signer, storage: Storage) -> None:
    """Where the token server knows no such container it is a public one, and asked about once."""
    storage.answers = [(404, b"no such container")]
    href = f"{storage.url}/open/a.tif"
    assert [signer.sign(href), signer.sign(href)] == [href, href]
    assert storage.requests["token"] == 1


@pytest.mark.parametrize(
    ("code", "body", "message"),
    [
        (403, b"{}", "HTTP 403"),
        (302, b"{}", "HTTP 302"),
        (200, b"<html>", "no token"),
        (200, b"[1]", "no token"),
        (200, b'{"token": "sig=a", "msft:expiry": "soon"}', "no token"),
        (200, b'{"token": "sig=a", "msft:expiry": 5}', "no token"),
        (200, b'{"token": "sp=r", "msft:expiry": "2060-01-01T00:00:00Z"}', "no token"),
        (200, b'{"token": "sig=a b", "msft:expiry": "2060-01-01T00:00:00Z"}', "no token"),
        (
            200,
            b'{"token": "sig=a\\r\\nHost: b", "msft:expiry": "2060-01-01T00:00:00Z"}',
            "no token",
        ),
        (200, b'{"token": "sig=a#b", "msft:expiry": "2060-01-01T00:00:00Z"}', "no token"),
        (200, b"x" * 70_000, "no token"),
    ],
)
def test_hostile_answers_are_refused(
    signer: Signer, storage: Storage, code: int, body: bytes, message: str
) -> None:
    """What is no token is said to be none, in one sentence without the answer in it."""
    storage.answers = [(code, body)]
    with pytest.raises(CatalogError, match=message) as caught:
        signer.sign(f"{storage.url}/private/a.tif")
    assert "sig=" not in str(caught.value)


def test_a_server_that_is_away_is_named(clock: Clock, storage: Storage) -> None:
    """No connection: the message says to whom."""
    away = [
        SasToken(match=[storage.url], method="sas-token", token_url="http://127.0.0.1:9/{account}")
    ]
    with pytest.raises(CatalogError, match=r"http://127\.0\.0\.1:9/127 gives no token"):
        Signer(away, clock).sign(f"{storage.url}/private/a.tif")


@pytest.mark.parametrize(
    "path", ["", "/", "/..", "/a%2F..%2Fb/c.tif", "/{container}/a.tif", "/Big/a.tif", "/a b/c.tif"]
)
def test_only_containers_are_asked_for(signer: Signer, storage: Storage, path: str) -> None:
    """No address that a stranger wrote steers the request for a token anywhere else."""
    with pytest.raises(CatalogError, match="no storage container"):
        signer.sign(storage.url + path)
    assert storage.requests["token"] == 0


@pytest.mark.parametrize(
    "href",
    [
        "https://a.blob.core.windows.net@example.com/c/a.tif",
        "https://example.com/a.blob.core.windows.net/a.tif",
        "https://a.blob.core.windows.net.example.com/c/a.tif",
        "https://blob.core.windows.net/c/a.tif",
        "http://a.blob.core.windows.net/c/a.tif",
        "https://a.blob.core.windows.net:444/c/a.tif",
        "https://xblob.core.windows.net/c/a.tif",
        "https://[::1/c/a.tif",
        "/home/me/a.blob.core.windows.net/a.tif",
        "a.tif",
    ],
)
def test_lookalikes_get_no_token(href: str) -> None:
    """Only the hosts of a rule get what it gives; the shipped rules need no network for this."""
    assert Signer().sign(href) == href


def test_nothing_is_asked_for_what_is_open(storage: Storage, clock: Clock) -> None:
    """The first rule that matches counts, and one of method none signs nothing."""
    first = Open(match=[storage.url], method="none")
    signer = Signer([first, *rules(storage)], clock)
    assert signer.sign(f"{storage.url}/open/a.tif") == f"{storage.url}/open/a.tif"
    assert signer.settings(f"{storage.url}/open/a.tif") == {}
    assert storage.requests["token"] == 0


def test_a_closed_host_says_what_to_do() -> None:
    """Where only a person can log in, the message names the way for programs."""
    rule = Closed(match=["https://example.com"], method="closed", advice="take the bucket")
    with pytest.raises(CatalogError, match=r"cannot be read by a program; take the bucket\."):
        Signer([rule]).sign("https://example.com/a.tif")


def bearer(storage: Storage) -> Signer:
    """A signer that sends the user's own token to the storage server."""
    return Signer(
        [Bearer(match=[storage.url], method="bearer", variable="MY_TOKEN", advice="give MY_TOKEN")]
    )


def test_a_bearer_token_opens(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """GDAL sends the user's token to the host of the rule, and the image is read."""
    monkeypatch.setenv("MY_TOKEN", "my.own-token")
    href = f"{storage.url}/login/a.tif"
    settings = bearer(storage).settings(href)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", **settings):
        assert rasterio.open(bearer(storage).sign(href)).read(1).max() == 7


def test_a_bearer_token_stays_with_its_host(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent on to another host, GDAL leaves the token behind."""
    monkeypatch.setenv("MY_TOKEN", "my.own-token")
    href = f"{storage.url}/away/a.tif"
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", **bearer(storage).settings(href)):
        assert rasterio.open(href).read(1).max() == 7
    seen = {h["host"].partition(":")[0]: h.get("authorization") for h in storage.headers}
    assert seen == {"127.0.0.1": "Bearer my.own-token", "localhost": None}


@pytest.mark.parametrize("value", ["", "two words", "a\nHost: b"])
def test_a_missing_or_odd_bearer_token_is_said(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """The message says how to come by a token, and never shows one."""
    monkeypatch.setenv("MY_TOKEN", value)
    with pytest.raises(CatalogError, match="give MY_TOKEN") as caught:
        bearer(storage).settings(f"{storage.url}/login/a.tif")
    assert not value or value not in str(caught.value)


def test_a_bucket_is_read_at_its_endpoint_with_the_users_keys(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of the environment sign the request, which says who pays; they are no setting."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "my-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my-secret")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")  # meant for public buckets
    rule = Bucket(
        match=["s3://scenes"], method="s3",
        options={
            "AWS_S3_ENDPOINT": storage.url.removeprefix("http://"), "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_REQUEST_PAYER": "requester",
        },
    )  # fmt: skip
    settings = Signer([rule]).settings("s3://scenes/open/a.tif")
    assert "my-secret" not in str(settings)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", **settings):
        assert rasterio.open("s3://scenes/open/a.tif").read(1).max() == 7
    assert all("my-key" in h["authorization"] for h in storage.headers)
    assert {h["x-amz-request-payer"] for h in storage.headers} == {"requester"}


def test_an_unknown_bucket_is_public_unless_there_are_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without keys requests go unsigned; with keys the bucket may be the user's own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert Signer().settings("s3://mine/a.tif") == {"AWS_NO_SIGN_REQUEST": "YES"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "my-key")
    assert Signer().settings("s3://mine/a.tif") == {}
    assert Signer().settings("s3://sentinel-cogs/a.tif")["AWS_NO_SIGN_REQUEST"] == "YES"
    assert Signer().settings("https://example.com/a.tif") == {}


def test_the_shipped_rules_ask_the_right_server() -> None:
    """Planetary Computer gives a token for each account and container."""
    href = "https://landsateuwest.blob.core.windows.net/landsat-c2/level-2/a_SR_B4.TIF"
    rule = access_to(href)
    assert isinstance(rule, SasToken)
    assert _token_url(rule, href) == (
        "https://planetarycomputer.microsoft.com/api/sas/v1/token/landsateuwest/landsat-c2"
    )


def test_the_shipped_rules_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """NASA's files need the user's token; who pays and which endpoint go with the bucket."""
    monkeypatch.delenv("EARTHDATA_TOKEN", raising=False)
    with pytest.raises(CatalogError, match="give it as EARTHDATA_TOKEN"):
        Signer().settings("https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/a.tif")
    assert Signer().settings("s3://usgs-landsat/a.TIF")["AWS_REQUEST_PAYER"] == "requester"
    endpoint = Signer().settings("s3://eodata/a.jp2")["AWS_S3_ENDPOINT"]
    assert endpoint == "eodata.dataspace.copernicus.eu"


def test_messages_hold_no_secrets() -> None:
    """Addresses in GDAL's messages are shown without what opens them."""
    text = "GET https://a.b/c.tif?se=1&sig=abc%3D&sp=r: 403, sent 'Authorization: Bearer x.y-z'"
    shown = "GET https://a.b/c.tif?se=1&sig=...&sp=r: 403, sent 'Authorization: Bearer ...'"
    assert redacted(text) == shown
    assert redacted("s3://b/k?X-Amz-Signature=abc&x=1") == "s3://b/k?X-Amz-Signature=...&x=1"
    assert redacted("nothing to hide in a design") == "nothing to hide in a design"
