"""Models by path, by https and from the hub: what is taken, and what is refused with a sentence."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from landcover.errors import CheckpointError
from pipeline.job import DEFAULT_MODEL
from pipeline.model_source import SHIPPED, find_model
from tests.command import landcover
from tests.fault_server import FaultPlan, FaultServer, fault_server

DIGEST = hashlib.sha256(DEFAULT_MODEL.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A web server with the shipped model where a hub has it, and things that are none."""
    folder = tmp_path / "web" / "acme" / "maps" / "resolve" / "main"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(DEFAULT_MODEL.read_bytes())
    (folder / "page.safetensors").write_text("<html>not found</html>")
    (folder / "model.pt").write_bytes(b"\x80\x04pickle")
    with fault_server(tmp_path / "web") as running:
        yield running


def test_a_path_is_left_alone() -> None:
    """A path is the model's file, whether it exists or not."""
    assert find_model("some/where.safetensors") == Path("some/where.safetensors")


def test_a_shipped_model_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of pipeline/weights has a name; a folder of that name does not hide it, a file does."""
    assert "demo" in SHIPPED
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    for name, path in SHIPPED.items():
        assert find_model(name) == path
        assert path.is_file()
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").write_bytes(DEFAULT_MODEL.read_bytes())
    assert find_model("demo") == Path("demo")


def test_a_name_that_is_not_shipped_is_refused_with_those_that_are() -> None:
    """A misspelt name is told the shipped ones, before any network is asked."""
    with pytest.raises(CheckpointError, match=r"the shipped ones are .*demo"):
        find_model("aerial-rbg")


def test_the_shipped_models_are_listed() -> None:
    """`landcover model list` names each with its bands and classes."""
    result = landcover("model", "list")
    assert result.returncode == 0
    for name in SHIPPED:
        assert name in result.stdout


def test_a_model_of_the_hub_is_downloaded_once(server: FaultServer, cache: Path) -> None:
    """hf://owner/name is the main model of that repository; a second time the cache has it."""
    said: list[str] = []
    found = find_model("hf://acme/maps", said.append, server.url)
    assert found.read_bytes() == DEFAULT_MODEL.read_bytes()
    assert cache in found.parents
    server.plan = FaultPlan(rate=1, kinds=("503",))
    assert find_model("hf://acme/maps@main/model.safetensors", said.append, server.url) == found
    assert len(said) == 1


@pytest.mark.usefixtures("cache")
def test_an_address_may_say_its_hash(server: FaultServer) -> None:
    """The right SHA-256 is taken; a wrong one is refused, from the cache too."""
    address = f"{server.url}/acme/maps/resolve/main/model.safetensors"
    assert find_model(f"{address}#sha256={DIGEST}", str).is_file()
    with pytest.raises(CheckpointError, match="holds another file"):
        find_model(f"{address}#sha256={'0' * 64}", str)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{web}/acme/maps/resolve/main/model.pt", "never a pickle"),
        ("{web}/acme/maps/resolve/main/page.safetensors", "is no model of this program"),
        ("{web}/acme/absent.safetensors", "HTTP 404"),
        ("hf://acme/absent", "HTTP 404"),
        ("hf://acme", "write hf://OWNER/NAME"),
        ("hf://../../etc/passwd", "write hf://OWNER/NAME"),
        ("hf://acme/maps/../../secret.safetensors", "write hf://OWNER/NAME"),
        ("hf://acme/maps/model.ckpt", "never a pickle"),
        ("http://example.com/model.safetensors", "https://"),
        ("https://user:pass@example.com/model.safetensors", "without a password"),
        ("file:///etc/passwd.safetensors", "cannot be a model"),
        ("{web}/acme/maps/resolve/main/model.safetensors#md5=1", "#sha256="),
    ],
)
def test_what_is_no_model_is_refused(
    server: FaultServer, cache: Path, source: str, reason: str
) -> None:
    """Pickles, pages, absent files, odd names and open addresses are refused, and nothing is kept."""
    with pytest.raises(CheckpointError, match=reason):
        find_model(source.replace("{web}", server.url), str, server.url)
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize("kind", ["truncated", "503"])
def test_a_download_that_fails_keeps_nothing(server: FaultServer, cache: Path, kind: str) -> None:
    """A broken answer is one sentence, and the next try starts anew."""
    server.plan = FaultPlan(rate=1, kinds=(kind,))
    with pytest.raises(CheckpointError, match=r"could not be had|ended after"):
        find_model("hf://acme/maps", str, server.url)
    assert not list(cache.rglob("*.safetensors"))
    server.plan = FaultPlan()
    assert find_model("hf://acme/maps", str, server.url).is_file()


@pytest.mark.usefixtures("cache")
def test_without_a_network_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that does not answer: what to do is said, with exit code 1."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    failed = landcover("model", "show", "hf://acme/maps")
    assert failed.returncode == 1
    assert "error: hf://acme/maps could not be had" in failed.stderr
    assert "give its path" in " ".join(failed.stderr.split())
    assert "Traceback" not in failed.stderr
