"""Catalogues made for tests: scenes on a lattice, as an index, a real API or a server that misbehaves."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import rustac
from shapely.geometry import MultiPolygon, box, mapping

COUNT = 2100
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def at(number: float) -> datetime:
    """Instant of the scene of a number."""
    return EPOCH + timedelta(hours=30 * number)


def scene(number: int, **properties: Any) -> dict[str, Any]:
    """A made scene of 1 x 1 degree on a 20 x 10 lattice, one every 30 hours."""
    west, south = float(number % 20), float(number // 20 % 10)
    footprint = box(west, south, west + 1, south + 1)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": f"scene-{number:04d}",
        "collection": "even" if number % 2 == 0 else "odd",
        "geometry": mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "datetime": at(number).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "platform": f"sat-{number % 3}",
            "eo:cloud_cover": (number * 37 % 1000) / 10,
            **properties,
        },
        "links": [],
        "assets": {"red": {"href": f"https://example.com/{number}/red.tif", "roles": ["data"]}},
    }


def special_scenes() -> list[dict[str, Any]]:
    """A scene over the antimeridian, one that lasts a year, one silent about clouds, a twin."""
    split = MultiPolygon([box(179, -18, 180, -17), box(-180, -18, -179, -17)])
    crossing = scene(COUNT) | {"geometry": mapping(split), "bbox": [179, -18, -179, -17]}
    year = {"start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2019-12-31T23:59:59Z"}
    lasting = scene(COUNT + 1, datetime=None, **year)
    silent = scene(COUNT + 2)
    del silent["properties"]["eo:cloud_cover"]
    twin = scene(COUNT + 3, datetime=scene(7)["properties"]["datetime"])
    return [crossing, lasting, silent, twin]


def scenes() -> list[dict[str, Any]]:
    """Every scene of the test catalogues."""
    return [scene(number) for number in range(COUNT)] + special_scenes()


def holdings() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Collections and scenes as the server is given them."""
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    collections = [
        {
            "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name,
            "license": "other", "extent": extent, "links": [],
        }
        for name in ("even", "odd")
    ]  # fmt: skip
    return collections, scenes()


def write_index(path: Path, items: list[dict[str, Any]]) -> Path:
    """Write items as the file ending says."""
    if path.suffix == ".parquet":
        rustac.write_sync(str(path), items)
    elif path.suffix == ".ndjson":
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    else:
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


CORE = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
Answer = Callable[[int, str], tuple[int, Any] | tuple[int, Any, dict[str, str]]]
"""Number of the search, URL of the server -> status, body, headers. A body is JSON, bytes, or an
iterator of bytes that are sent as they come."""


@contextlib.contextmanager
def strange_server(
    answer: Answer, conforms: list[str] = CORE, asked: list[Any] | None = None
) -> Iterator[str]:
    """A loopback STAC API whose nth search is answered by answer(n, URL); asked takes what was asked."""
    calls = iter(range(10_000))
    asked = [] if asked is None else asked

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            link = {
                "rel": "search",
                "type": "application/geo+json",
                "method": "POST",
                "href": f"{url}/search",
            }
            self._send(200, {
                "type": "Catalog", "id": "strange", "description": "strange", "stac_version": "1.0.0",
                "conformsTo": conforms, "links": [link],
            })  # fmt: skip

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._send(*answer(next(calls), url))

        def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            if isinstance(body, Iterator):
                headers, chunks = {"Connection": "close", **(headers or {})}, body
            else:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                headers, chunks = (
                    {"Content-Length": str(len(data)), **(headers or {})},
                    iter([data]),
                )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client has had enough
                for chunk in chunks:
                    self.wfile.write(chunk)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page(
    items: list[dict[str, Any]], following: str | None = None, token: str = "next"
) -> dict[str, Any]:
    """One page of an answer, with or without the address of the next."""
    link = {"rel": "next", "method": "POST", "href": following, "body": {"token": token}}
    return {"type": "FeatureCollection", "features": items, "links": [link] if following else []}
