"""One more period of a region: the state moves on, also with baselines that differ and ground that one of them lacks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from landcover.errors import LegendError
from landcover.legend import Legend
from landcover.persistence import CANDIDATE, CONFIRMED, Rule
from landcover.schedule import month
from pipeline.artifacts import file_hash
from pipeline.change import ChangeSettings
from pipeline.follow import Chapter, follow, read_alerts, read_names
from pipeline.project_store import Alert
from tests.test_change import GRID, LEGEND, write_map

SETTINGS = ChangeSettings(
    off=("season", "plausibility", "border", "confidence", "spectral", "area")
)
CROPS, BARE, TOWN = 5, 7, 8


def land(code: int = CROPS, *, town: bool = False, known: slice = slice(None)) -> np.ndarray:
    """One class, with a town of 20 x 30 pixels at the right end; known: columns with data."""
    codes = np.full(GRID.shape, code, np.uint8)
    if town:
        codes[40:60, 85:115] = TOWN
    seen = np.zeros_like(codes)
    seen[:, known] = codes[:, known]
    return seen


def mapped(folder: Path, codes: np.ndarray, grid: GeoBox = GRID, legend: Legend = LEGEND) -> Path:
    """A folder as a run leaves it, with the hashes of its files."""
    write_map(folder, codes, grid=grid, legend=legend)
    made = {"classes.tif": file_hash(folder / "classes.tif")}
    stages = {name: {"outputs": files} for name, files in (("composite", {}), ("segment", made))}
    (folder / "run.json").write_text(json.dumps({"stages": stages}))
    return folder


def step(
    baseline: tuple[str, Path], now: tuple[str, Path], previous: Path | None = None
) -> tuple[Path, dict[str, Any], list[Alert]]:
    """Folder, figures and alerts of one comparison."""
    chapter = Chapter("valley", month(now[0]), baseline[1], month(baseline[0]), now[1], previous)
    figures = follow(chapter, settings=SETTINGS, rule=Rule(2, 3), announce=_quiet, report=_quiet)
    return chapter.folder, figures, read_alerts(chapter.folder)


def _quiet(_line: str) -> None:
    pass


def band(folder: Path, name: str) -> np.ndarray:
    """A band of the state."""
    with rasterio.open(folder / "state.tif") as dataset:
        return dataset.read(dataset.descriptions.index(name) + 1)


def test_ground_that_the_baseline_lacks_gives_no_alert(tmp_path: Path):
    """The new map shows a town where the baseline had clouds: no candidate; beside a baseline that saw it, one."""
    half = mapped(tmp_path / "april", land(known=slice(0, 80)))
    may = mapped(tmp_path / "may", land(town=True))
    folder, figures, alerts = step(("2026-04", half), ("2026-05", may))
    assert alerts == []
    assert figures["candidate_ha"] == figures["confirmed_ha"] == figures["counted_change_ha"] == 0
    assert (band(folder, "reference")[:, 80:] == 0).all()
    assert (band(folder, "status") == 0).all()
    whole = mapped(tmp_path / "march", land())
    june = mapped(tmp_path / "june", land(town=True))
    folder, figures, alerts = step(("2026-03", whole), ("2026-06", june), folder)
    assert [alert.status for alert in alerts] == ["candidate"]
    assert (band(folder, "status")[40:60, 85:115] == CANDIDATE).all()


def test_a_map_that_reaches_beyond_the_baseline_is_cut_to_it(tmp_path: Path):
    """The region's file was made larger: what lies outside is neither compared nor watched, and nothing breaks."""
    april = mapped(tmp_path / "april", land())
    wider = GeoBox((116, 150), GRID.affine * Affine.translation(-10, -10), GRID.crs)
    codes = np.full(wider.shape, CROPS, np.uint8)
    codes[:8], codes[50:70, 60:80] = TOWN, TOWN  # the first lies outside, the second inside
    may = mapped(tmp_path / "may", codes, wider)
    folder, _, alerts = step(("2026-04", april), ("2026-05", may))
    assert len(alerts) == 1
    inside = shapely.box(*GRID.extent.to_crs("EPSG:4326").boundingbox.bbox)
    assert shapely.from_geojson(alerts[0].geometry).within(inside.buffer(1e-6))
    found = band(folder, "status") == CANDIDATE
    assert found.sum() == 400
    assert found[40:60, 50:70].all()


def test_like_months_are_compared_and_the_state_goes_on(tmp_path: Path):
    """Fields are bare every June; the town of May is confirmed in June, and no field is an alert."""
    last = {name: mapped(tmp_path / f"last-{name}", land(code)) for name, code in (("05", CROPS), ("06", BARE), ("07", CROPS))}  # fmt: skip
    this = {name: mapped(tmp_path / f"this-{name}", land(code, town=True)) for name, code in (("05", CROPS), ("06", BARE), ("07", CROPS))}  # fmt: skip
    previous, told = None, []
    for name in ("05", "06", "07"):
        previous, figures, alerts = step((f"2025-{name}", last[name]), (f"2026-{name}", this[name]), previous)  # fmt: skip
        told.append((figures["candidate_ha"] > 0, figures["confirmed_ha"] > 0, len(alerts)))
    assert told == [(True, False, 1), (False, True, 1), (False, False, 0)]
    assert (band(previous, "reference")[40:60, 85:115] == TOWN).all()
    assert set(np.unique(band(previous, "since"))) == {0, band(previous, "since")[50, 100]}


def test_names_are_those_of_the_maps(tmp_path: Path):
    """As the maps' legend has them; none where somebody removed the folder."""
    april, may = mapped(tmp_path / "april", land()), mapped(tmp_path / "may", land(town=True))
    folder, _, _ = step(("2026-04", april), ("2026-05", may))
    assert read_names(folder)[TOWN] == "Built-up"
    assert read_names(tmp_path / "gone") == {}


def test_a_model_of_other_classes_is_refused_with_what_helps(tmp_path: Path):
    """No word of options that following lacks."""
    records = [one | {"name": f"My {one['name']}"} for one in LEGEND.to_records()]
    april = mapped(tmp_path / "april", land())
    may = mapped(tmp_path / "may", land(), legend=Legend.from_records(records))
    with pytest.raises(LegendError, match=r"valley of 2026-05.* go on with the model") as caught:
        step(("2026-04", april), ("2026-05", may))
    assert "crosswalk" not in str(caught.value)


def test_a_candidate_that_reverts_is_rejected_once(tmp_path: Path):
    """June's town is gone in July and August: rejected in July under its name, as last seen in June; no alert after."""
    april, june = mapped(tmp_path / "april", land()), mapped(tmp_path / "june", land(town=True))
    july, august = mapped(tmp_path / "july", land()), mapped(tmp_path / "august", land())
    folder, _, (candidate,) = step(("2026-04", april), ("2026-06", june))
    assert (candidate.status, candidate.last_seen) == ("candidate", "2026-06-30")
    folder, _, (still,) = step(("2026-04", april), ("2026-07", july), folder)
    assert (still.status, still.last_seen) == ("candidate", "2026-07-31"), "one of two may follow"
    folder, figures, alerts = step(("2026-04", april), ("2026-08", august), folder)
    assert alerts == [replace(still, status="rejected")]
    assert figures["rejected_ha"] == pytest.approx(still.area_ha)
    september = mapped(tmp_path / "september", land())
    assert step(("2026-04", april), ("2026-09", september), folder)[2] == []


def test_a_candidate_of_which_a_part_is_left_keeps_its_name(tmp_path: Path):
    """Two maps without the left half reject it; the right half, under clouds, is the alert that it was, and smaller."""
    april, june = mapped(tmp_path / "april", land()), mapped(tmp_path / "june", land(town=True))
    folder, _, (whole,) = step(("2026-04", april), ("2026-06", june))
    for name in ("07", "08"):
        half = mapped(tmp_path / name, land(known=slice(0, 100)))
        folder, _, alerts = step(("2026-04", april), (f"2026-{name}", half), folder)
    assert [(alert.id, alert.status) for alert in alerts] == [(whole.id, "candidate")]
    assert alerts[0].area_ha == pytest.approx(whole.area_ha / 2, rel=1e-3)


def test_a_rerun_makes_nothing_and_another_baseline_makes_it_anew(tmp_path: Path):
    """Equal inputs keep the files; the same map as baseline of another month does not."""
    april, may = mapped(tmp_path / "april", land()), mapped(tmp_path / "may", land(town=True))
    folder, _, _ = step(("2026-04", april), ("2026-05", may))
    before = (folder / "state.tif").stat().st_mtime_ns
    step(("2026-04", april), ("2026-05", may))
    assert (folder / "state.tif").stat().st_mtime_ns == before
    step(("2025-05", april), ("2026-05", may))
    assert (folder / "state.tif").stat().st_mtime_ns > before
    assert not (band(folder, "status") == CONFIRMED).any()
