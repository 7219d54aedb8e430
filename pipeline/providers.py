"""Providers: the catalogues that are known by name, and how what they point to may be opened."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Access(_Data):
    match: list[str]
    """`scheme://host` or `s3://bucket` in lower case; `*` stands for any part of a name."""


class Open(_Access):
    """Anyone may read."""

    method: Literal["none"]
    rank: int = 1
    """Of several addresses of one asset that of the lowest rank is taken; unknown ones have 1, 2 for
    object stores."""


class SasToken(_Access):
    """A token of the container's is added to the address; it expires."""

    method: Literal["sas-token"]
    rank: int = 1
    token_url: str
    """Gives {"token": ..., "msft:expiry": ...}; with `{account}` and `{container}` in it."""


class Bearer(_Access):
    """The user's own token goes with each request."""

    method: Literal["bearer"]
    rank: int = 1
    variable: str
    """Environment variable that holds the token."""
    advice: str
    """What to do where it is not set, as the end of a sentence."""


class Bucket(_Access):
    """An S3 bucket; keys come from the environment, as GDAL takes them from there by itself."""

    method: Literal["s3"]
    rank: int = 2
    options: dict[str, str]
    """GDAL options: endpoint, region, who pays."""


class Closed(_Access):
    """Only for a person in a browser."""

    method: Literal["closed"]
    rank: int = 9
    advice: str
    """What to do instead, as the end of a sentence."""


Access = Annotated[Open | SasToken | Bearer | Bucket | Closed, Field(discriminator="method")]
"""How addresses of some hosts may be opened."""


class Provider(_Data):
    """A catalogue known by name."""

    name: str
    url: str
    """Landing page of its STAC API."""
    collections: dict[str, str]
    """Id of a collection -> name of the product that it holds."""
    default_collections: list[str]
    """Searched where the user names none."""
    access: list[Access]
    mirrors: dict[str, str] = {}
    """Start of an address -> start of the address where the same files can be read too."""


@cache
def providers() -> tuple[Provider, ...]:
    """The catalogues shipped with this program, by name."""
    folder = files("pipeline") / "providers"
    texts = [path.read_text("utf-8") for path in folder.iterdir() if path.name.endswith(".yml")]
    found = (Provider.model_validate(yaml.safe_load(text)) for text in texts)
    return tuple(sorted(found, key=lambda provider: provider.name))


def provider_at(url: str) -> Provider | None:
    """The provider whose API is at a URL (a slash at its end does not matter), None where unknown."""
    wanted = _canonical(url)
    return next((p for p in providers() if _canonical(p.url) == wanted), None)


def provider_named(name: str) -> Provider | None:
    """The provider of a name in any case, None where unknown."""
    return next((provider for provider in providers() if provider.name == name.lower()), None)


@cache
def shipped_access() -> tuple[Access, ...]:
    """How the addresses of all shipped providers may be opened."""
    return tuple(rule for provider in providers() for rule in provider.access)


@cache
def product_families() -> Mapping[str, str]:
    """Id of a collection at any provider -> name of its product."""
    return {key: name for provider in providers() for key, name in provider.collections.items()}


def access_to(href: str, rules: Sequence[Access] | None = None) -> Access | None:
    """How an address may be opened, None where nothing is known of its host.

    rules: the first that matches counts; default are those of the shipped providers.
    """
    place = _place(href)
    known = shipped_access() if rules is None else rules
    return next((r for r in known if any(_matches(place, pattern) for pattern in r.match)), None)


def easiest(hrefs: Sequence[str]) -> str:
    """Of several addresses of the same file the one that is easiest to open."""
    return min(hrefs, key=_rank)


def with_mirrors(hrefs: Sequence[str]) -> list[str]:
    """Addresses of a file, and those where providers keep the same file."""
    mirrored = [
        there + href.removeprefix(here)
        for provider in providers()
        for here, there in provider.mirrors.items()
        for href in hrefs
        if href.startswith(here)
    ]
    return [*hrefs, *mirrored]


def _rank(href: str) -> int:
    rule = access_to(href)
    if rule is not None:
        return rule.rank
    return 1 if href.lower().startswith(("http://", "https://")) else 2


def _place(href: str) -> str:
    """Scheme, host and port of an address, without a user's name: `https://host:8080`."""
    try:
        parts = urlsplit(href)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}".lower()


def _matches(place: str, pattern: str) -> bool:
    """Whether a place is of a pattern, in which `*` is one or more labels of a host's name."""
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", r"[a-z0-9.-]+"), place))


def _canonical(url: str) -> str:
    return _place(url) + urlsplit(url).path.rstrip("/")
