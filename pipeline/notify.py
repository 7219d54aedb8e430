"""Tell others of alerts: a webhook, a GeoJSON file, an Atom feed."""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from landcover.errors import SettingsError
from pipeline.artifacts import write_json, write_text
from pipeline.project_store import Alert

SECRET = "LANDCOVER_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
"""Environment variable with the key by which messages are signed."""
_RETRIES = Retry(
    total=5, backoff_factor=1, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None,
    respect_retry_after_header=True,
)  # fmt: skip
_TIMEOUT = 30.0
Names = Callable[[Alert], Mapping[int, str]]
"""Gives the class names by code of the maps that show an alert."""
_ATOM = "http://www.w3.org/2005/Atom"


class Webhook:
    """An address to which JSON is posted, signed, and again where it fails for the moment.

    Messages carry `X-Landcover-Signature: sha256=HEX`, the HMAC of the body under the key in the environment
    variable LANDCOVER_WEBHOOK_SECRET, and `X-Landcover-Id`, equal when the same message comes again.
    Raises SettingsError for an address that is none.
    """

    def __init__(self, address: str, *, retries: Retry = _RETRIES) -> None:
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise SettingsError(
                f"The webhook {parts.scheme}://{parts.hostname or ''} is not used; give an https:// address "
                "without a user name."
            )
        self._address, self._host = address, parts.hostname
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retries))

    def send(self, message: Mapping[str, Any]) -> None:
        """Post a message. Raises SettingsError where it is not taken; the address is not shown, it may be secret."""
        body = json.dumps(message, sort_keys=True).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Landcover-Id": hashlib.sha256(body).hexdigest(),
        }
        if secret := os.environ.get(SECRET):
            mark = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Landcover-Signature"] = f"sha256={mark}"
        try:
            answer = self._session.post(
                self._address, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            raise SettingsError(
                f"The webhook at {self._host} cannot be reached ({type(error).__name__}); the message is kept "
                "for the next run."
            ) from error
        if not 200 <= answer.status_code < 300:
            raise SettingsError(
                f"The webhook at {self._host} answered {answer.status_code}; the message is kept for the next run."
            )


def alert_message(alert: Alert, names: Mapping[int, str]) -> dict[str, Any]:
    """An alert as a GeoJSON feature. names: class names by code."""
    return {
        "type": "Feature",
        "id": alert.id,
        "geometry": json.loads(alert.geometry),
        "properties": {
            "region": alert.region,
            "from": names.get(alert.from_code, str(alert.from_code)),
            "to": names.get(alert.to_code, str(alert.to_code)),
            "area_ha": round(alert.area_ha, 4),
            "confidence_percent": alert.confidence,
            "first_seen": alert.first_seen,
            "last_seen": alert.last_seen,
            "status": alert.status,
        },
    }


def write_geojson(path: Path, alerts: Sequence[Alert], names: Names) -> None:
    """Write alerts as a GeoJSON feature collection (RFC 7946)."""
    features = [alert_message(alert, names(alert)) for alert in alerts]
    write_json(path, {"type": "FeatureCollection", "features": features})


def write_feed(path: Path, title: str, alerts: Sequence[Alert], names: Names) -> None:
    """Write alerts as an Atom feed (RFC 4287), newest first; equal alerts give equal bytes."""
    feed = Element("feed", xmlns=_ATOM)
    SubElement(feed, "title").text = title
    SubElement(feed, "id").text = f"urn:landcover:{hashlib.sha256(title.encode()).hexdigest()[:32]}"
    SubElement(SubElement(feed, "author"), "name").text = "landcover"
    SubElement(feed, "updated").text = max(
        (_moment(a.last_seen) for a in alerts), default=_moment("1970-01-01")
    )
    for alert in sorted(alerts, key=lambda a: (a.last_seen, a.id), reverse=True):
        facts = alert_message(alert, names(alert))["properties"]
        entry = SubElement(feed, "entry")
        SubElement(
            entry, "title"
        ).text = f"{alert.region}: {facts['from']} to {facts['to']}, {alert.area_ha:,.2f} ha, {alert.status}"
        SubElement(entry, "id").text = f"urn:landcover:{alert.id}:{alert.status}"
        SubElement(entry, "updated").text = _moment(alert.last_seen)
        SubElement(entry, "summary").text = ", ".join(
            f"{name}: {value}" for name, value in facts.items()
        )
    indent(feed)
    text = "".join(c for c in tostring(feed, encoding="unicode") if c.isprintable() or c == "\n")
    write_text(path, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _moment(day: str) -> str:
    """The beginning of a day, RFC 3339."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).isoformat()
