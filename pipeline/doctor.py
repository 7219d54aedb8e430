"""What a run needs from this machine, checked one by one."""

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.table import Table

_MODULES = ("rasterio", "pyogrio", "shapely", "pyproj", "numba", "torch", "torchvision", "rustac")
_FREE_GB = 5
_MEMORY_GB = 4


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    good: bool
    found: str
    """What is there, with its unit."""
    advice: str = ""
    """What to do if it is not good."""
    needed: bool = True
    """Whether a run fails without it."""


def checks() -> list[Check]:
    """Look at Python, packages, projections, memory, disk, GPU and model."""
    looks: tuple[Callable[[], Check], ...] = (
        _python, _packages, _projections, _memory, _disk, _weights, _gpu,
    )  # fmt: skip
    return [look() for look in looks]


def doctor_table(results: list[Check]) -> Table:
    """The findings as a table for the screen."""
    table = Table("check", "", "found", "what to do")
    for result in results:
        sign = "ok" if result.good else ("MISSING" if result.needed else "none")
        table.add_row(result.name, sign, result.found, "" if result.good else result.advice)
    return table


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or later")


def _packages() -> Check:
    broken = []
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken.append(f"{name}: {error}")
    found = "; ".join(broken) or f"{len(_MODULES)} import"
    return Check("packages", not broken, found, "delete .venv and run make setup")


def _projections() -> Check:
    from pyproj import Transformer

    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(15.0, 0.0)
    good = abs(x - 500_000) < 1e-3 and abs(y) < 1e-3
    return Check(
        "projections", good, f"15 E on the equator is {x:.0f} m, {y:.0f} m in UTM 33N",
        "unset PROJ_LIB and PROJ_DATA, which point at another PROJ",
    )  # fmt: skip


def _memory() -> Check:
    gigabytes = psutil.virtual_memory().total / 1e9
    return Check(
        "memory", gigabytes >= _MEMORY_GB, f"{gigabytes:.1f} GB", f"{_MEMORY_GB} GB or more"
    )


def _disk() -> Check:
    gigabytes = shutil.disk_usage(os.curdir).free / 1e9
    return Check("free disk", gigabytes >= _FREE_GB, f"{gigabytes:.1f} GB", f"free {_FREE_GB} GB")


def _weights() -> Check:
    from landcover.checkpoint_file import read_spec
    from landcover.errors import CheckpointError
    from pipeline.job import DEFAULT_MODEL

    try:
        spec = read_spec(DEFAULT_MODEL)
    except CheckpointError as error:
        return Check("shipped model", False, str(error), "check out the repository again")
    size = Path(DEFAULT_MODEL).stat().st_size / 1e6
    return Check("shipped model", True, f"{len(spec.legend)} classes, {size:.1f} MB")


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("GPU", True, torch.cuda.get_device_name(), needed=False)
    return Check("GPU", False, "no CUDA device", "none needed: the CPU is used", needed=False)
