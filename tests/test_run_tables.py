"""A run with zones and crosswalks: their tables are part of it, current or made again as all else."""

import csv
import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import rasterio
from shapely.geometry import box

from landcover.errors import CatalogError, LegendError, RegionError, SettingsError
from pipeline.demo import make_demo
from pipeline.job import Job, plan_job
from pipeline.region import load_region
from pipeline.run import run


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The smallest demo, to be run."""
    out = tmp_path_factory.mktemp("tables")
    made = make_demo(out / "scenes", seed=1, size=256)
    return plan_job(
        load_region(str(made.region)), output=out, period=made.period, catalog=str(made.catalog)
    )


def halves(job: Job, names: tuple[str, str]) -> Path:
    """Two zones, the western and the eastern half of the map."""
    with rasterio.open(job.folder / "classes.tif") as dataset:
        left, bottom, right, top = dataset.bounds
        crs = dataset.crs
    middle = (left + right) / 2
    shapes = [box(left, bottom, middle, top), box(middle, bottom, right, top)]
    path = job.output / "halves.gpkg"
    gpd.GeoDataFrame({"name": names}, geometry=shapes, crs=crs).to_file(path, driver="GPKG")
    return path


def done(job: Job, **asked: Any) -> tuple[dict[str, Any], list[str]]:
    """Run with other settings; the record, and the stages that had work to do."""
    said: list[str] = []
    record = run(job.model_copy(update=asked), announce=said.append, report=said.append)
    return record, [line.split(":")[0] for line in said if ": done in" in line]


def column(path: Path, name: str) -> float:
    """The sum of a column of a table."""
    with path.open(newline="") as stream:
        return sum(float(row[name]) for row in csv.DictReader(stream))


def test_tables_come_and_go_with_what_is_asked(job: Job) -> None:
    """Zones and crosswalks redo only what depends on them; tables that are not asked for any more go."""
    done(job)
    zones = halves(job, ("west", "east"))
    asked: dict[str, Any] = {"zones": zones, "zone_id": "name", "crosswalks": ("ipcc",)}
    record, stages = done(job, **asked)
    assert stages == ["vectorize", "summarize", "publish"]
    areas = column(job.folder / "areas.csv", "area_ha")
    assert column(job.folder / "zones_wide.csv", "classified_ha") == pytest.approx(areas, rel=1e-9)
    assert column(job.folder / "areas_ipcc.csv", "area_ha") == pytest.approx(areas, rel=1e-12)
    assert len(gpd.read_file(job.folder / "landcover.gpkg", layer="zones")) == 2
    assert record["settings"]["zones"] == "halves.gpkg"
    assert record["settings"]["crosswalks"] == ["ipcc"]
    item = json.loads((job.folder / "item.json").read_text())
    assert {"areas", "zones", "zones_wide"} <= set(item["assets"])
    assert str(job.output) not in (job.folder / "zones.csv").read_text()

    assert done(job, **asked)[1] == []
    halves(job, ("west", "orient"))
    assert done(job, **asked)[1] == ["vectorize", "summarize", "publish"]
    assert "orient" in (job.folder / "zones.csv").read_text()

    (job.folder / "zones.csv").write_text("mine")
    done(job)
    names = {path.name for path in job.folder.iterdir()}
    assert "zones_wide.csv" not in names
    assert "areas_ipcc.csv" not in names
    assert (job.folder / "zones.csv").read_text() == "mine"


def test_a_refresh_that_fails_leaves_the_finished_run(job: Job) -> None:
    """The catalogue is away: the record still has its search and says that the maps are finished."""
    before, _ = done(job)
    away = Path(job.catalog).with_suffix(".away")
    Path(job.catalog).rename(away)
    with pytest.raises(CatalogError, match="does not exist"):
        done(job, refresh=True)
    away.rename(job.catalog)
    after = json.loads((job.folder / "run.json").read_text())
    assert after["complete"] is True
    assert after["stages"]["search"] == json.loads(json.dumps(before["stages"]["search"]))
    assert done(job, refresh=True)[1] == ["search"]


def test_a_format_that_is_not_asked_for_any_more_goes(job: Job) -> None:
    """No file of an older map stays beside the new one; the map itself does."""
    done(job, formats=("parquet",))
    assert (job.folder / "landcover.parquet").exists()
    done(job, min_area=0.1)
    assert not (job.folder / "landcover.parquet").exists()
    assert (job.folder / "landcover.gpkg").exists()


def test_what_cannot_be_done_is_said_before_any_work(job: Job, tmp_path: Path) -> None:
    """A missing file of zones and a crosswalk from another legend end a run before it starts."""
    fresh = job.model_copy(update={"output": tmp_path})
    with pytest.raises(RegionError, match="There is no file"):
        done(fresh, zones=tmp_path / "none.gpkg", zone_id="name")
    with pytest.raises(LegendError, match="No crosswalk to lccs"):
        done(fresh, crosswalks=("lccs",))
    with pytest.raises(SettingsError, match="belong to --zones"):
        plan_job(job.region, output=tmp_path, zone_id="name")
    assert not list(tmp_path.rglob("*.tif"))
