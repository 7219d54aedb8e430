"""pyproject.toml, requirements.lock and environment.yml name the same packages."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.order import LONGEST

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"pytorch": "torch", "gdal": "gdal-utils"}
"""Where conda-forge calls a package otherwise than PyPI."""
CONDA_ONLY = {"python", "pip", "setuptools"}
MODULES = {
    "pyyaml": "yaml",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "jinja2": "jinja2",
    "pillow": "PIL",
    "rio-cogeo": "rio_cogeo",
    "odc-geo": "odc",
    "scikit-learn": "sklearn",
}
"""Where a package is imported under another name."""
NEEDED_BY_OTHERS = {"torchvision", "tensorboard"}
"""torchvision: named so that its version fits torch's; imported by segmentation-models-pytorch.
tensorboard: imported by pytorch-lightning's logger, and the viewer of what it logs."""


def project() -> dict[str, list[str]]:
    """The requirement strings of pyproject.toml: runtime and dev."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"runtime": table["dependencies"], "dev": table["optional-dependencies"]["dev"]}


def declared() -> dict[str, Requirement]:
    """Canonical name -> requirement, of everything pyproject.toml names."""
    requirements = map(Requirement, project()["runtime"] + project()["dev"])
    return {canonicalize_name(r.name): r for r in requirements}


def locked() -> dict[str, Version]:
    """Canonical name -> version, of everything the lock installs."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+-]+", pin) for pin in pins), "every line is a pin"
    return {canonicalize_name(p.split("==")[0]): Version(p.split("==")[1]) for p in pins}


def conda() -> dict[str, Requirement]:
    """Canonical PyPI name -> requirement, of everything environment.yml names."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    texts = [e for e in entries if isinstance(e, str)] + [e for e in pip if not e.startswith("-")]
    found = {}
    for requirement in map(Requirement, texts):
        name = canonicalize_name(requirement.name)
        found[CONDA_NAMES.get(name, name)] = requirement
    return {name: r for name, r in found.items() if name not in CONDA_ONLY}


def test_environment_names_what_the_project_names() -> None:
    """No package is in environment.yml and missing in pyproject.toml, or the other way round."""
    assert set(conda()) == set(declared())


def test_environment_asks_for_the_same_versions() -> None:
    """The version ranges of environment.yml are those of pyproject.toml."""
    assert {n: r.specifier for n, r in conda().items()} == {
        n: r.specifier for n, r in declared().items()
    }


def test_the_lock_satisfies_the_project() -> None:
    """Every requirement is pinned to a version that it allows."""
    pins = locked()
    for name, requirement in declared().items():
        assert name in pins, f"{name} is not in requirements.lock: run make lock"
        assert requirement.specifier.contains(pins[name]), name


def test_every_import_is_declared_and_every_declaration_used() -> None:
    """The runtime dependencies are exactly what the three packages import; one workflow needs an extra."""
    modules = set()
    for package in ("landcover", "pipeline", "workflows"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    modules.add((node.module or "").split(".")[0])
    assert "prefect" in modules
    modules -= {"prefect"} | set(sys.stdlib_module_names) | {"landcover", "pipeline", "workflows"}
    names = {canonicalize_name(Requirement(text).name) for text in project()["runtime"]}
    expected = {MODULES.get(name, name.replace("-", "_")) for name in names - NEEDED_BY_OTHERS}
    assert modules == expected


def test_files_that_take_long_are_known_by_their_names() -> None:
    """Each file that is to be begun early exists."""
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)
