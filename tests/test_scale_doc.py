"""The document on running at scale: its figures follow from its assumptions, its scripts can be read."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

TEXT = (Path(__file__).parent.parent / "docs" / "scale.md").read_text(encoding="utf-8")


def table(title: str) -> list[list[str]]:
    """Cells of the first table below a title, without its head."""
    rows = TEXT.split(f"### {title}\n")[1].split("\n### ")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row[:1] == "|"]
    return [cells[0], *cells[2:]]


def blocks(language: str) -> list[str]:
    """The code of a language that the document holds."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def assumptions() -> dict[str, float]:
    """Name and value of each assumption."""
    return {row[0]: float(row[1]) for row in table("Assumptions")[1:]}


@pytest.fixture(scope="module")
def cost(assumptions: dict[str, float]) -> Callable[[float], dict[str, float]]:
    """The document's own formula, over its own assumptions."""
    names: dict[str, object] = dict(assumptions)
    exec(next(code for code in blocks("python") if "def cost" in code), names)  # our own document
    formula = names["cost"]
    assert callable(formula)
    return formula


def digits(value: float) -> str:
    """A figure as the document writes it: three digits, thousands apart."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}".replace(",", " ") if rounded >= 100 else f"{rounded:.3g}"


def test_every_figure_follows_from_the_assumptions(
    cost: Callable[[float], dict[str, float]],
) -> None:
    """The formula, run on the assumptions, gives every cell of the result."""
    head, *rows = table("Result")
    regions = head[1:]
    areas = dict(zip(regions, rows[0][1:], strict=True))
    expected = {region: cost(float(areas[region]) * 1e6) for region in regions}
    assert [row[0] for row in rows[1:]] == list(expected[regions[0]])
    for name, *cells in rows[1:]:
        assert cells == [digits(expected[region][name]) for region in regions], name


def test_one_square_kilometre_by_hand(
    cost: Callable[[float], dict[str, float]], assumptions: dict[str, float]
) -> None:
    """1 km2 is 10,000 pixels of 10 m; 12 dates of 4 bands at 1.3 bytes are 624,000 bytes."""
    assert (assumptions["dates"], assumptions["bands"], assumptions["scene_bytes"]) == (12, 4, 1.3)
    one = cost(1.0)
    assert one["pixels, 10^9"] == pytest.approx(1e-5)
    assert one["TB read of scenes"] == pytest.approx(624_000e-12)
    # 10,000 x 1.78 tile pixels / (6.4 million x 0.85 a second) = 3.27 ms, on two cores.
    assert one["or core-hours"] == pytest.approx(2 * 3.272e-3 / 3600, rel=1e-3)


def test_overlap_is_what_the_assumption_says(assumptions: dict[str, float]) -> None:
    """Tiles of 256 that share 64 do (256 / 192)^2 times the work, to the digits given."""
    assert round((256 / 192) ** 2, 2) == assumptions["tile_work"]
    assert round(4 / 3, 3) == assumptions["overviews"]


def test_figures_in_the_text_follow_too(
    cost: Callable[[float], dict[str, float]], assumptions: dict[str, float]
) -> None:
    """A GPU's raster pixels a second, what feeds it, and CPU against compositing."""
    one = cost(1.0)
    pixels = 1e4 / (one["GPU-hours"] * 3600)
    fed = pixels * assumptions["bands"] * assumptions["scene_bytes"]
    times = one["or core-hours"] / one["compositing core-hours"]
    text = " ".join(TEXT.split())
    assert f"labels {pixels / 1e6:.0f} million raster pixels a second" in text
    assert f"wants {fed / 1e9:.2g} GB/s" in text
    assert f"{pixels * assumptions['bands'] / 153e6:.1f} cores that decode 153 million" in text
    assert f"about {times:.1f} times the core-hours" in text


def test_scripts_can_be_read() -> None:
    """The Python compiles and the manifests are four Kubernetes objects that name one image."""
    for code in blocks("python"):
        compile(code, "docs/scale.md", "exec")
    objects = [part for code in blocks("yaml") for part in yaml.safe_load_all(code)]
    kinds = [part["kind"] for part in objects]
    assert kinds == ["Service", "Deployment", "Deployment", "Job"]
    containers = [
        container
        for part in objects[1:]
        for container in part["spec"]["template"]["spec"]["containers"]
    ]
    assert {container["image"] for container in containers} == {"registry.example/landcover:1"}
    assert {container["command"][0] for container in containers} == {"dask", "landcover"}
