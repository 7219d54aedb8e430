"""One run, fully resolved: a region, a period, a catalogue, a model, a folder."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from landcover.errors import CheckpointError, SettingsError
from landcover.period import Period
from pipeline.items import shown_address
from pipeline.model_source import find_file
from pipeline.region import Region
from pipeline.search import EARTH_SEARCH

DEFAULT_MODEL = Path(__file__).parent / "weights" / "sentinel2.safetensors"
"""The shipped weights for Sentinel-2, trained on simulated and on real scenes."""
DEMO_MODEL = Path(__file__).parent / "weights" / "demo.safetensors"
"""The shipped weights of the demos, trained on simulated scenes only."""
DEFAULT_CLOUD_COVER = 60.0
"""Scenes cloudier than this are left out unless the region says otherwise, percent."""
ALL_DATES = "all-dates"
"""Folder of a map of all dates that there are."""
DEFAULT_METHOD = "median"
"""How one image is made of many unless the region says otherwise."""

DEVICES = ("auto", "cpu", "cuda")


class Job(BaseModel):
    """Everything that decides what a run makes; read once at the edge, then only passed on."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    region: Region
    period: Period | None
    """None for all scenes of a local index."""
    catalog: str
    """STAC API address, a provider's name, a local index (.parquet, .ndjson), or one image."""
    model: Path
    """Checkpoint, .safetensors."""
    output: Path
    """Folder under which REGION/PERIOD/ is made."""
    batch: int = Field(default=4, ge=1)
    """Tiles queued ahead of the model; changes memory and speed, never the map."""
    device: str = "auto"
    """'cpu', 'cuda', or 'auto' for cuda where there is one."""
    runtime: str = "torch-fp32"
    """How the network is run: a name of landcover.runtimes.NAMES, or `auto` for the fastest."""
    d4: bool = False
    """Average the eight flips and rotations of each tile."""
    smooth: tuple[str, ...] = ()
    """Smoothing steps of the class map, such as `majority:1`."""
    probabilities: bool = False
    """Keep the probabilities of all classes, probabilities.tif; never changes the map."""
    min_area: float = Field(default=0.0, ge=0)
    """Hectares below which a polygon goes into its neighbour."""
    simplify: float = Field(default=0.0, ge=0)
    """Metres by which the borders of polygons may move."""
    connectivity: int = 4
    """4, or 8 where corners connect."""
    instances: tuple[str, ...] = ()
    """Countable classes, whose regions get a layer of their own."""
    zones: Path | None = None
    """Vector file of polygons by which hectares are summed too."""
    zone_id: str | None = None
    """Column that names the zones."""
    zone_layer: str | None = None
    """Layer of the zones, where their file has several."""
    crosswalks: tuple[str, ...] = ()
    """Legends in which hectares are summed too: names, or CSV files."""
    formats: tuple[str, ...] = ()
    """Formats of the polygons beside the GeoPackage: names of `map_file.FORMATS`."""
    workers: int | None = Field(default=None, ge=1)
    """Processes of this machine that segment; None for this one alone. Never changes the map."""
    scheduler: str | None = None
    """Address of a dask scheduler whose workers segment. Never changes the map."""
    refresh: bool = False
    """Ask the catalogue again even if the frozen scene list is current."""
    truth: Path | None = None
    """Class raster of known truth, to report accuracy against (the demo has one)."""

    @property
    def folder(self) -> Path:
        """Where the artefacts go."""
        return self.output / self.region.name / (self.period.folder if self.period else ALL_DATES)

    @property
    def max_cloud_cover(self) -> float:
        """Scenes cloudier than this are left out, percent."""
        chosen = self.region.max_cloud_cover
        return DEFAULT_CLOUD_COVER if chosen is None else chosen

    @property
    def shown_catalog(self) -> str:
        """The catalogue as it may be written down: no user, password or key."""
        return shown_address(self.catalog)

    @property
    def method(self) -> str:
        """How one image is made of many."""
        return self.region.method or DEFAULT_METHOD

    @property
    def hole_budget(self) -> float:
        """Percent of the window reads that may fail."""
        return self.region.hole_budget or 0.0

    def settings(self) -> dict[str, Any]:
        """The settings that decide the map, as JSON values for `run.json`."""
        return {
            "period": str(self.period) if self.period else None,
            "catalog": self.shown_catalog,
            "collections": self.region.collections,
            "max_cloud_cover_percent": self.max_cloud_cover,
            "filter": self.region.filter,
            "method": self.method,
            "cloud_buffer_m": self.region.cloud_buffer,
            "hole_budget_percent": self.hole_budget,
            "model": str(self.model),
            "runtime": self.runtime,
            "flips_averaged": self.d4,
            "smooth": list(self.smooth),
            "min_area_ha": self.min_area,
            "simplify_m": self.simplify,
            "connectivity": self.connectivity,
            "instances": list(self.instances),
            "zones": self.zones.name if self.zones else None,
            "zone_id": self.zone_id,
            "crosswalks": [Path(name).name for name in self.crosswalks],
            "formats": list(self.formats),
            "crs": self.region.crs,
            "resolution": self.region.resolution,
        }


def plan_job(
    region: Region,
    *,
    output: Path,
    period: str | None = None,
    catalog: str | None = None,
    model: Path | None = None,
    today: date | None = None,
    **options: Any,
) -> Job:
    """Fill in what the user left open: the command line wins over the region file, then defaults.

    today: for the default period; the current UTC date if not given.
    Raises SettingsError for a period or device that is not one, CheckpointError for a missing model.
    """
    if (device := options.get("device", "auto")) not in DEVICES:
        raise SettingsError(f"The device '{device}' is not one of {', '.join(DEVICES)}.")
    if not options.get("zones") and (options.get("zone_id") or options.get("zone_layer")):
        raise SettingsError(
            "--zone-id and --zone-layer belong to --zones; name the file of the zones."
        )
    chosen = model or (find_file(str(region.model)) if region.model else DEFAULT_MODEL)
    if not chosen.is_file():
        raise CheckpointError(f"There is no model {chosen}; give the path of a .safetensors file.")
    today = today or datetime.now(UTC).date()
    return Job(
        region=region,
        period=Period.parse(period) if period else _period(region, today),
        catalog=catalog or region.catalog or EARTH_SEARCH,
        model=chosen,
        output=output,
        **options,
    )


def _period(region: Region, today: date) -> Period | None:
    """The region's; all dates of images that are the region themselves; else the last summer."""
    its_own = region.catalog and Path(region.catalog).resolve() == Path(region.source)
    return region.period or (None if its_own else last_summer(region, today))


def last_summer(region: Region, today: date) -> Period:
    """The latest complete summer of the region's hemisphere: June-August, or December-February."""
    north = region.footprint.centroid.y >= 0
    for year in range(today.year, today.year - 2, -1):
        end = date(year, 8, 31) if north else date(year, 2, 28)
        if end < today:
            break
    start = date(year, 6, 1) if north else date(year - 1, 12, 1)
    return Period(start, end)
