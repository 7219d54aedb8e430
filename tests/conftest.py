"""Fixtures that several test files share; scenes are generated, real data is only looked up."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import DemoRun, run_demo

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is counted of datasets is kept in a folder of the tests, not in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANDCOVER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LANDCOVER_SHARED_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LANDCOVER_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The full demo, run once for all tests that look at its results; do not change its files."""
    return run_demo(tmp_path_factory.mktemp("demo"))
