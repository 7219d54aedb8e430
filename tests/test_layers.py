"""The house has three floors, and every import runs downwards."""

import ast
from pathlib import Path

import pytest

import landcover
import pipeline
import workflows

ROOT = Path(__file__).parent.parent
FLOORS = {"landcover": 0, "pipeline": 1, "workflows": 2}
OUTSIDE = {"pystac_client", "requests", "pydantic", "typer", "rich", "urllib3", "rustac"}
"""What the pure floor must not know: network, configuration, screen."""


def imported(source: str) -> list[str]:
    """Every module that a source imports, at any depth, also inside functions and by name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
        elif isinstance(node, ast.Call) and getattr(
            node.func, "attr", getattr(node.func, "id", "")
        ) in {"import_module", "__import__"}:
            found += [
                a.value
                for a in node.args
                if isinstance(a, ast.Constant) and isinstance(a.value, str)
            ]
    return found


def upward(package: str, source: str) -> list[str]:
    """The imports of a source in `package` that run to a higher floor."""
    return [
        name for name in imported(source) if FLOORS.get(name.split(".")[0], -1) > FLOORS[package]
    ]


def sources(package: str) -> list[Path]:
    """The Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", FLOORS)
def test_no_import_runs_upwards(package: str) -> None:
    """No file imports from a floor above its own."""
    assert sources(package)
    assert {
        str(p): found for p in sources(package) if (found := upward(package, p.read_text()))
    } == {}


@pytest.mark.parametrize(
    "planted",
    [
        "import pipeline.run",
        "from workflows import refresh_map",
        "def f():\n    from pipeline.cog import open_cog",
        "import importlib\nimportlib.import_module('pipeline.run')",
    ],
)
def test_a_planted_upward_import_is_found(planted: str) -> None:
    """The check sees plain, lazy and dynamic imports."""
    assert upward("landcover", planted)


def test_relative_imports_are_not_used() -> None:
    """A relative import would slip past the check, so there is none."""
    for package in FLOORS:
        for path in sources(package):
            nodes = [
                n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)
            ]
            assert all(node.level == 0 for node in nodes), path


def test_the_ground_floor_is_pure() -> None:
    """`landcover` knows neither network nor configuration nor screen."""
    for path in sources("landcover"):
        roots = {name.split(".")[0] for name in imported(path.read_text())}
        assert not roots & OUTSIDE, path


def test_the_packages_are_our_own() -> None:
    """The generic names `pipeline` and `workflows` resolve to this checkout."""
    for module in (landcover, pipeline, workflows):
        assert Path(str(module.__file__)).parent.parent == ROOT
