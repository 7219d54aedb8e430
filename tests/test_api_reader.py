"""A STAC API that fails, lies, floods or dawdles: the whole answer, or one sentence; never a part."""

import contextlib
import gzip
import itertools
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from landcover.errors import CatalogError
from pipeline.api_reader import ApiReader
from pipeline.artifacts import peak_memory
from pipeline.catalog import ApiCatalog
from pipeline.question import Question
from tests.made_catalogs import Answer, page, scene, strange_server

PAGES = [[scene(3 * n), scene(3 * n + 1), scene(3 * n + 2)] for n in range(5)]
ALL = [f"scene-{n:04d}" for n in range(15)]


def _five_pages(faults: dict[int, Any]) -> Answer:
    """Five pages of three scenes; a fault stands in for the answer to the search of its number."""
    pages = itertools.count()

    def answer(call: int, url: str) -> Any:
        if call in faults:
            return faults[call]
        number = next(pages)
        return 200, page(
            PAGES[number], f"{url}/search" if number < 4 else None, f"page {number + 1}"
        )

    return answer


def _ids(url: str, **question: Any) -> list[str]:
    return [item["id"] for item in ApiCatalog(url).search(Question(**question))]


def _cut(body: Any) -> bytes:
    data = json.dumps(body).encode()
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {2: (502, {"description": "bad gateway"})},
        {2: (502, b""), 3: (502, b""), 5: (504, b"")},
        {1: (429, b"", {"Retry-After": "1"})},
        {1: (503, b"<html>busy</html>", {"Retry-After": "0"})},
        {2: (200, _cut(page(PAGES[2])))},
        {2: (200, _cut(page(PAGES[2])), {"Content-Length": "100000", "Connection": "close"})},
        {2: (200, _cut(page(PAGES[2])), {"Content-Encoding": "gzip"})},
    ],
)
def test_what_passes_is_waited_for(faults: dict[int, Any]):
    """502 on page 3, 429 and 503 with Retry-After, cut JSON, a cut body: the answer is complete."""
    asked: list[Any] = []
    with strange_server(_five_pages(faults), asked=asked) as url:
        started = time.monotonic()
        assert _ids(url) == ALL
    assert len(asked) == 5 + len(faults)
    assert asked[-1] == {"token": "page 4"}
    if any(len(fault) == 3 and fault[2].get("Retry-After") == "1" for fault in faults.values()):
        assert time.monotonic() - started >= 1


@pytest.mark.parametrize("fault", [(400, {"description": "no"}), (404, b""), (500, b"traceback")])
def test_what_does_not_pass_is_an_error_and_not_a_shorter_answer(fault: Any):
    """A page that is refused in the middle of an answer fails the search, at once."""
    with (
        strange_server(_five_pages({2: fault})) as url,
        pytest.raises(CatalogError, match=f"did not answer the question: {fault[0]}"),
    ):
        _ids(url)


def test_an_answer_that_always_breaks_off_is_an_error(monkeypatch: pytest.MonkeyPatch):
    """After four attempts a page that never comes whole fails the search."""
    monkeypatch.setattr("pipeline.api_reader._PAUSES", (0.0, 0.0, 0.0))
    broken = (200, _cut(page(PAGES[0])), {"Content-Length": "100000", "Connection": "close"})
    asked: list[Any] = []
    with (
        strange_server(lambda *_: broken, asked=asked) as url,
        pytest.raises(CatalogError, match=r"breaks off after \d+ bytes"),
    ):
        _ids(url)
    assert len(asked) == 4


def test_empty_pages_do_not_end_an_answer():
    """Servers that filter a page after they cut it give empty pages before the last one."""
    asked: list[Any] = []

    def answer(call: int, url: str) -> Any:
        items = {3: [scene(1)], 6: [scene(2)]}.get(call, [])
        return 200, page(items, f"{url}/search" if call < 6 else None, str(call))

    with strange_server(answer, asked=asked) as url:
        assert _ids(url) == ["scene-0001", "scene-0002"]
    assert len(asked) == 7


def test_scenes_twice_over_pages_count_once():
    """Pages that overlap, and a last page that repeats another one, give each scene once."""
    overlapping = [[scene(1), scene(2)], [scene(2), scene(3)], [scene(2), scene(3)]]

    def answer(call: int, url: str) -> Any:
        return 200, page(overlapping[call], f"{url}/search" if call < 2 else None, str(call))

    with strange_server(answer) as url:
        assert _ids(url) == ["scene-0001", "scene-0002", "scene-0003"]


@pytest.mark.parametrize("key", ["numberMatched", "context"])
def test_a_server_that_counts_more_than_it_gives_is_doubted(key: str):
    """One page of three without a next one, of 20 that match: said, as some servers only guess."""
    count: Any = 20 if key == "numberMatched" else {"matched": 20}
    with strange_server(lambda *_: (200, page(PAGES[0]) | {key: count})) as url:
        catalog = ApiCatalog(url)
        assert len(catalog.search(Question())) == 3
        assert catalog.doubt == f"the catalogue {url} says that 20 scenes match and gave 3"
        catalog.search(Question(limit=2))
        assert catalog.doubt == ""


@pytest.mark.parametrize(
    ("items", "words"),
    [([scene(1)], "same scenes again on page 2"), ([], "21 empty pages in a row")],
)
def test_a_next_link_that_leads_in_a_circle_is_refused(items: list[Any], words: str):
    """Neither a repeated page nor endless empty ones keep the search going."""
    with (
        strange_server(lambda _, url: (200, page(items, f"{url}/search"))) as url,
        pytest.raises(CatalogError, match=words),
    ):
        _ids(url)


def test_an_endless_catalogue_is_refused(monkeypatch: pytest.MonkeyPatch):
    """New scenes on every page for ever: refused at a limit, but a limited question is answered."""
    monkeypatch.setattr("pipeline.catalog._MOST_SCENES", 30)

    def answer(call: int, url: str) -> Any:
        return 200, page([scene(call)], f"{url}/search", str(call))

    with strange_server(answer) as url:
        with pytest.raises(CatalogError, match="has 30 such scenes or more"):
            _ids(url)
        assert len(_ids(url, limit=3)) == 3


# --- size and time


def _flood(sent: list[int]) -> Iterator[bytes]:
    """A page of 100 MB."""
    yield b'{"type": "FeatureCollection", "features": ['
    for _ in range(100):
        sent.append(1)
        yield b'"' + b"x" * (2**20 - 3) + b'",'
    yield b"0]}"


@pytest.mark.parametrize("way", ["declared", "streamed", "packed"])
def test_a_page_of_100_mb_is_refused_before_it_is_read(way: str):
    """By its declared length nothing is read, else no more than 64 MB; packed as gzip neither."""
    sent: list[int] = []
    packed = b"".join(gzip.compress(b" " * 2**20) for _ in range(100))

    def answer(_call: int, _url: str) -> Any:
        if way == "declared":
            return 200, _flood(sent), {"Content-Length": str(100 * 2**20 + 100)}
        if way == "packed":
            return 200, packed, {"Content-Encoding": "gzip"}
        return 200, _flood(sent)

    with strange_server(answer) as url:
        catalog = ApiCatalog(url)
        assert not catalog.sorts  # the landing page is read
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # of kB, as MB
        with (
            peak_memory(0.005) as memory,
            pytest.raises(CatalogError, match="page of more than 64 MB; search a shorter period"),
        ):
            catalog.search(Question())
        assert memory.megabytes < before + 100
    assert len(sent) <= (75 if way == "streamed" else 10)


def test_many_pages_together_are_bounded():
    """Pages that are each small enough may not fill the memory together."""
    with strange_server(_five_pages({})) as url:
        size = len(json.dumps(page(PAGES[1], f"{url}/search", "page 1")))
        reader = ApiReader(url, most=int(3.5 * size))
        pages = reader.get_pages(f"{url}/search", "POST", {})
        with pytest.raises(CatalogError, match="too many scenes to hold in memory"):
            list(pages)


def _drip() -> Iterator[bytes]:
    while True:
        time.sleep(0.05)
        yield b" "


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "5000"}])
def test_a_page_that_never_ends_is_given_up(headers: dict[str, str]):
    """A byte now and then keeps a connection alive, not the search."""
    with strange_server(lambda *_: (200, _drip(), headers)) as url:
        reader = ApiReader(url, slowest=0.5)
        started = time.monotonic()
        with pytest.raises(CatalogError, match=r"not answered whole in 0.5 seconds"):
            reader.read_json(f"{url}/search", method="POST", parameters={})
        assert time.monotonic() - started < 2


def test_a_server_that_never_ends_its_headers_is_given_up():
    """Nor is a header that goes on for ever waited for: the time is that of the whole answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                for _ in range(20):
                    time.sleep(0.05)
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        reader = ApiReader(f"http://127.0.0.1:{listener.getsockname()[1]}", slowest=0.5)
        started = time.monotonic()
        with pytest.raises(CatalogError, match="not answered whole"):
            reader.read_json("/search", method="POST", parameters={})
        assert time.monotonic() - started < 1.5
        thread.join()


# --- elsewhere


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "http://localhost:1/search",
        "http://169.254.169.254/latest/meta-data",
        "https://127.0.0.1:1/search",
        "//example.com/search",
        "ftp://127.0.0.1/search",
    ],
)
@pytest.mark.parametrize("way", ["redirect", "next"])
def test_an_answer_that_leads_elsewhere_is_refused(place: str, way: str):
    """Neither a redirect nor a `next` link makes us ask another host, port or file."""

    def answer(_call: int, _url: str) -> Any:
        if way == "redirect":
            return 307, b"", {"Location": place}
        return 200, page([scene(1)], place)

    with (
        strange_server(answer) as url,
        pytest.raises(CatalogError, match="leads to another place") as caught,
    ):
        _ids(url)
    assert place in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_asks_the_same_question_again(status: int):
    """A POST stays a POST with its body: as a GET it would ask for everything there is."""
    asked: list[Any] = []

    def answer(call: int, _url: str) -> Any:
        return (200, page([scene(1)])) if call else (status, b"", {"Location": "/search/"})

    with strange_server(answer, asked=asked) as url:
        assert _ids(url, ids=("scene-0001",)) == ["scene-0001"]
    assert asked[0] == asked[1]
    assert asked[0]["ids"] == ["scene-0001"]


def test_redirects_in_a_circle_end():
    """A redirect to itself is an error."""
    with (
        strange_server(lambda *_: (307, b"", {"Location": "/search"})) as url,
        pytest.raises(CatalogError, match="redirects more than 5 times"),
    ):
        _ids(url)


@pytest.mark.parametrize(
    ("home", "link", "asked"),
    [
        ("https://a.org/v1", "http://a.org/v1/search", "https://a.org/v1/search"),
        ("http://a.org/v1", "https://a.org/v1/search", "https://a.org/v1/search"),
        ("https://a.org/v1/", "search?token=x#y", "https://a.org/v1/search?token=x"),
        ("https://me:key@a.org/v1", "https://A.org/search", "https://me:key@a.org/search"),
        ("http://a.org:8080/", "http://a.org:8080/search", "http://a.org:8080/search"),
    ],
)
def test_links_are_asked_by_the_way_we_came(home: str, link: str, asked: str):
    """A server behind a proxy writes http links of an https address; they are mended."""
    assert ApiReader(home)._at_home(link) == asked


def test_a_path_is_never_a_file_of_this_machine(tmp_path: Path):
    """Pystac reads what is no URL from the disk; a stranger's link must not name such a file."""
    (tmp_path / "secret.json").write_text('{"secret": 1}')
    with strange_server(lambda *_: (200, page([]))) as url:
        answer = ApiReader(url).read_text(str(tmp_path / "secret.json"))
        assert "secret" not in answer


@pytest.mark.parametrize(
    "body",
    [
        b'{"features": ' + b"[" * 100_000,
        b'{"features": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff\xfe",
        b"",
        b"null",
        b'{"features": [], "links": 7}',
        b'{"features": [], "links": [{"rel": "next"}]}',
    ],
)
def test_nonsense_is_one_sentence(body: bytes, monkeypatch: pytest.MonkeyPatch):
    """Nesting without end, wrong bytes, nothing, wrong types: a CatalogError on one line."""
    monkeypatch.setattr("pipeline.api_reader._PAUSES", (0.0, 0.0, 0.0))
    with strange_server(lambda *_: (200, body)) as url, pytest.raises(CatalogError) as caught:
        _ids(url)
    assert "\n" not in str(caught.value)
