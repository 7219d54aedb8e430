"""Where a model comes from: the shipped ones, a file, an https address, or a repository of the Hugging Face hub."""

import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import requests

from landcover.checkpoint_file import read_spec
from landcover.errors import CheckpointError
from pipeline.artifacts import atomic_path, file_hash

SHIPPED: Mapping[str, Path] = {
    path.stem: path for path in sorted((Path(__file__).parent / "weights").glob("*.safetensors"))
}
"""Models that come with this program, by the name that `--model` takes."""
HUB = "https://huggingface.co"
FILE = "model.safetensors"
"""What is taken from a repository that does not say which file."""
_TIMEOUT = (10.0, 60.0)  # to connect, to answer
_LARGEST = 8 * 2**30
_CHUNK = 2**20
_REDIRECTS = 5
_HUB = re.compile(
    r"hf://(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>[\w./-]+))?"
)
_PINNED = re.compile(r"sha256=([0-9a-f]{64})")


def find_model(source: str, report: Callable[[str], None] = print, hub: str = HUB) -> Path:
    """The file of a model: a shipped one, a path as it is, or an address's file in the cache.

    source: a name of SHIPPED, unless a file of that name lies here; a path; `https://HOST/.../NAME.safetensors`; or `hf://OWNER/NAME`, followed by `@REVISION` and
    `/FILE` where they are not the main one and model.safetensors. An address may end in
    `#sha256=HEX`: another file is then refused. The cache is `~/.cache/landcover/models`
    (XDG_CACHE_HOME). Only safetensors are kept. A token in HF_TOKEN is sent to the hub alone.
    Raises CheckpointError where there is no such model, it cannot be had, or it is something else.
    """
    if "://" not in source:
        return find_file(source)
    plain, _, pin = source.partition("#")
    address = _hub_address(plain, hub) if plain.startswith("hf://") else plain
    wanted = _pin(pin, source)
    _check_address(address, source)
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    if not re.fullmatch(r"[\w.-]{1,100}\.safetensors", name):
        raise CheckpointError(
            f"{source} names no .safetensors file; only that format is read, never a pickle."
        )
    place = _cache() / hashlib.sha256(address.encode()).hexdigest()[:16] / name
    if not place.is_file():
        report(f"downloading {source} ...")
        with atomic_path(place) as partial:
            _download(address, partial, source, hub)
            _check_file(partial, source, wanted)
    else:
        _check_file(place, source, wanted)
    return place


def find_file(source: str) -> Path:
    """The file of a shipped model's name, or a path as it is; asks no network.

    Raises CheckpointError for what is neither a file nor a shipped name and looks like a name.
    """
    path = Path(source)
    if path.is_file() or path.suffix or len(path.parts) != 1:
        return path
    if source not in SHIPPED:
        raise CheckpointError(
            f"There is no model '{source}': the shipped ones are {', '.join(SHIPPED)}; else give the path of "
            "a .safetensors file, or an address."
        )
    return SHIPPED[source]


def _hub_address(source: str, hub: str) -> str:
    found = _HUB.fullmatch(source)
    parts = [] if found is None else [part for part in found.groups() if part]
    if found is None or any(step in {".", ".."} for part in parts for step in part.split("/")):
        raise CheckpointError(
            f"{source} is no address of the hub; write hf://OWNER/NAME, and @REVISION and /FILE where needed."
        )
    revision, file = found["revision"] or "main", found["file"] or FILE
    return f"{hub}/{found['owner']}/{found['name']}/resolve/{revision}/{quote(file)}"


def _pin(text: str, source: str) -> str | None:
    if not text:
        return None
    found = _PINNED.fullmatch(text)
    if found is None:
        raise CheckpointError(
            f"{source} ends in '#{text[:80]}'; only #sha256= and 64 hexadecimal digits may follow."
        )
    return found[1]


def _check_address(address: str, source: str) -> None:
    """Only https may be asked; http from this machine itself."""
    parts = urlsplit(address)
    if (
        not parts.hostname
        or parts.username
        or not (parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname)))
    ):
        raise CheckpointError(
            f"{source} cannot be a model; give the path of a file, an https:// address without a password, "
            "or hf://OWNER/NAME."
        )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _download(address: str, partial: Path, source: str, hub: str) -> None:
    token = os.environ.get("HF_TOKEN", "")
    ours = address.startswith(f"{hub}/") and re.fullmatch(r"[\w.-]{1,500}", token)
    headers = {"Authorization": f"Bearer {token}"} if ours else {}
    try:
        with requests.Session() as session:
            session.max_redirects = _REDIRECTS
            with session.get(address, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
                for step in (*answer.history, answer):
                    _check_address(step.url, source)
                _check_status(answer, source)
                _save(answer, partial, source)
    except requests.RequestException as error:
        reason = type(error).__name__
        raise CheckpointError(
            f"{source} could not be had ({reason}); look at the network, or download the file yourself and "
            "give its path."
        ) from error


def _check_status(answer: requests.Response, source: str) -> None:
    if answer.status_code in {401, 403}:
        raise CheckpointError(
            f"{source} is not open to you (HTTP {answer.status_code}), or does not exist; check the name, or "
            "set HF_TOKEN for a closed repository of the hub."
        )
    if answer.status_code != requests.codes.ok:
        raise CheckpointError(
            f"{source} could not be had: the server answers HTTP {answer.status_code}; check the address."
        )


def _save(answer: requests.Response, partial: Path, source: str) -> None:
    said = answer.headers.get("Content-Length", "")
    wanted = int(said) if said.isdigit() and "Content-Encoding" not in answer.headers else None
    size = 0
    with partial.open("wb") as stream:
        for chunk in answer.iter_content(_CHUNK):
            size += len(chunk)
            if size > _LARGEST:
                raise CheckpointError(
                    f"{source} is larger than {_LARGEST >> 30} GB; that is no model."
                )
            stream.write(chunk)
    if wanted is not None and size != wanted:
        raise CheckpointError(
            f"{source} ended after {size:,} of {wanted:,} bytes; try again: nothing of it was kept."
        )


def _check_file(path: Path, source: str, wanted: str | None) -> None:
    if wanted and (found := file_hash(path)) != wanted:
        raise CheckpointError(
            f"{source} holds another file: its SHA-256 is {found}; ask its owner which is right."
        )
    try:
        read_spec(path)
    except CheckpointError as error:
        reason = str(error).replace(str(path), "it")
        raise CheckpointError(f"{source} is no model of this program: {reason}") from error


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()
    return folder / "landcover" / "models"
