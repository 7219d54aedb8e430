"""A webhook that is signed and tried again, GeoJSON, and an Atom feed."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from urllib3.util import Retry

from landcover.errors import SettingsError
from pipeline.notify import SECRET, Webhook, write_feed, write_geojson
from pipeline.project_store import Alert

ALERT = Alert(
    "a-1", "Côte & <West>", 2, 8, "2026-09-01", "2026-10-31", "confirmed", 1234.56, 81.5,
    '{"type": "Point", "coordinates": [11.0, 47.0]}',
)  # fmt: skip
NAMES = {2: "Tree cover", 8: 'Built "up"\x07'}
QUICK = Retry(total=3, backoff_factor=0, status_forcelist=[503], allowed_methods=None)


class Receiver(ThreadingHTTPServer):
    """A server that answers what it is told to and keeps what it gets."""

    def __init__(self, answers: list[int]) -> None:
        self.answers, self.got = answers, []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server: Receiver = self.server
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.got.append((dict(self.headers), body))
                self.send_response(server.answers.pop(0) if server.answers else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/hook?token=very-secret"


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A receiver that gives the answers of the parameter."""
    with Receiver(list(getattr(request, "param", []))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("receiver", [[503, 503]], indirect=True)
def test_a_message_is_signed_and_sent_again_until_taken(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """Two refusals, then success: three times the same body, id and valid signature."""
    monkeypatch.setenv(SECRET, "key")
    Webhook(receiver.address, retries=QUICK).send({"b": 1, "a": "é"})
    assert len(receiver.got) == 3
    for headers, body in receiver.got:
        assert json.loads(body) == {"a": "é", "b": 1}
        expected = hmac.new(b"key", body, hashlib.sha256).hexdigest()
        assert headers["X-Landcover-Signature"] == f"sha256={expected}"
        assert headers["X-Landcover-Id"] == hashlib.sha256(body).hexdigest()


def test_without_a_key_nothing_is_signed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """No secret, no signature; the message still comes."""
    monkeypatch.delenv(SECRET, raising=False)
    Webhook(receiver.address).send({})
    ((headers, _),) = receiver.got
    assert "X-Landcover-Signature" not in headers


@pytest.mark.parametrize("receiver", [[404], [302], [503] * 9], indirect=True)
def test_a_refusal_is_an_error_that_does_not_show_the_address(receiver: Receiver):
    """Not found, a redirection, and failing too often: the host is named, the secret path is not."""
    with pytest.raises(
        SettingsError, match=r"webhook at 127\.0\.0\.1 .*kept for the next run"
    ) as caught:
        Webhook(receiver.address, retries=QUICK).send({})
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://x/y", "https://me:pw@host/", "hook"]
)
def test_what_is_no_web_address_is_refused(address: str):
    """Neither files nor addresses with a user; a password is not repeated."""
    with pytest.raises(SettingsError, match="give an https:// address") as caught:
        Webhook(address)
    assert "pw" not in str(caught.value)


def test_alerts_as_geojson(tmp_path: Path):
    """One feature with class names, hectares, dates and status."""
    write_geojson(tmp_path / "alerts.geojson", [ALERT], lambda _: NAMES)
    (feature,) = json.loads((tmp_path / "alerts.geojson").read_text("utf-8"))["features"]
    assert feature["geometry"]["coordinates"] == [11.0, 47.0]
    assert feature["properties"]["from"] == "Tree cover"
    assert feature["properties"]["area_ha"] == 1234.56
    assert feature["properties"]["status"] == "confirmed"


def test_alerts_as_a_feed(tmp_path: Path):
    """Well-formed with hostile names, newest first, the same bytes each time; an entry changes with its status."""
    older = replace(ALERT, id="a-0", last_seen="2026-09-30", status="candidate")
    for name in ("one.xml", "two.xml"):
        write_feed(tmp_path / name, "Alerts of <me>", [older, ALERT], lambda _: NAMES)
    assert (tmp_path / "one.xml").read_bytes() == (tmp_path / "two.xml").read_bytes()
    space = {"a": "http://www.w3.org/2005/Atom"}
    feed = ET.parse(tmp_path / "one.xml").getroot()
    titles = [
        entry.findtext("a:title", namespaces=space) for entry in feed.findall("a:entry", space)
    ]
    assert titles[0] == 'Côte & <West>: Tree cover to Built "up", 1,234.56 ha, confirmed'
    assert feed.findtext("a:updated", namespaces=space) == "2026-10-31T00:00:00+00:00"
    ids = [entry.findtext("a:id", namespaces=space) for entry in feed.findall("a:entry", space)]
    assert ids == ["urn:landcover:a-1:confirmed", "urn:landcover:a-0:candidate"]


def test_an_empty_feed_is_a_feed(tmp_path: Path):
    """No alert yet: a valid feed without entries."""
    write_feed(tmp_path / "feed.xml", "Alerts", [], lambda _: {})
    assert ET.parse(tmp_path / "feed.xml").getroot().tag.endswith("feed")
