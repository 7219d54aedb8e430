"""The command line: each command parses, calls one verb, and prints what it made."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from landcover import __version__
from landcover.errors import LandcoverError
from pipeline.assess_command import assess
from pipeline.dataset_command import dataset
from pipeline.model_command import model_app
from pipeline.options import (
    Batch,
    Budget,
    Buffer,
    Catalog,
    Clouds,
    Collections,
    Connectivity,
    Crosswalks,
    DemoModel,
    Device,
    Filter,
    Flips,
    Formats,
    Instances,
    LegendName,
    Method,
    MinArea,
    Model,
    ModelArg,
    Out,
    Period,
    RegionArg,
    Runtime,
    Scheduler,
    Simplify,
    Smooth,
    Workers,
    ZoneFile,
    ZoneId,
    ZoneLayer,
)
from pipeline.progress import run_shown

app = typer.Typer(
    name="landcover",
    help="Map land cover from satellite and drone images: region in, GeoPackage with hectares out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(assess, name="assess")
app.add_typer(dataset, name="dataset")
app.add_typer(model_app, name="model")

_NUMBERS = {"ignore_unknown_options": True}
"""For commands that take a region: `-1.5,47,-1.4,47.1` is a box, not an option."""

_DEMO = (1, 1536)
"""Seed and side of the landscape that plain `landcover demo` maps; no weights were trained on it."""


def main() -> None:
    """Run the command line; errors meant for the user are one sentence and exit code 1."""
    # rasterio silences this one for its own scratch rasters, but not safely when two threads do it.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    try:
        app()
    except LandcoverError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")


def _fail(message: str) -> None:
    typer.secho(f"error: {message}", fg="red", err=True)
    sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"landcover {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
) -> None:
    pass


@app.command(context_settings=_NUMBERS)
def run(
    region: RegionArg,
    period: Period = None,
    catalog: Catalog = None,
    collections: Collections = None,
    max_cloud_cover: Clouds = None,
    filter: Filter = None,  # noqa: A002 - the option's name
    method: Method = None,
    cloud_buffer: Buffer = None,
    hole_budget: Budget = None,
    model: Model = None,
    out: Out = Path("outputs"),
    batch: Batch = 4,
    device: Device = "auto",
    runtime: Runtime = "torch-fp32",
    tta: Flips = False,
    smooth: Smooth = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Keep probabilities.tif, a band for each class: 1 + 254 x probability.",
        ),
    ] = False,
    min_area: MinArea = 0.0,
    simplify: Simplify = 0.0,
    connectivity: Connectivity = 4,
    instances: Instances = None,
    zones: ZoneFile = None,
    zone_id: ZoneId = None,
    zone_layer: ZoneLayer = None,
    crosswalk: Crosswalks = None,
    formats: Formats = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    refresh: Annotated[bool, typer.Option(help="Ask the catalogue again for scenes.")] = False,
) -> None:
    """Do everything: search, composite, segment, vectorize, summarize, publish."""
    from pipeline.job import plan_job

    place = _region(
        region, collections=tuple(collections or ()) or None, max_cloud_cover=max_cloud_cover,
        filter=filter, method=method, cloud_buffer=cloud_buffer, hole_budget=hole_budget,
    )  # fmt: skip
    options: dict[str, Any] = {
        "batch": batch, "device": device, "runtime": runtime, "d4": tta, "smooth": tuple(smooth or ()),
        "min_area": min_area, "simplify": simplify, "connectivity": connectivity,
        "instances": tuple(instances or ()), "formats": tuple(formats or ()), "workers": workers,
        "scheduler": scheduler, "refresh": refresh, "crosswalks": tuple(crosswalk or ()),
        "zones": zones, "zone_id": zone_id, "zone_layer": zone_layer, "probabilities": probabilities,
    }  # fmt: skip
    _run(
        plan_job(place, output=out, period=period, catalog=catalog, model=_model(model), **options)
    )


def _model(text: str | None) -> Path | None:
    """The file of the model meant, downloaded where it is an address."""
    from pipeline.model_source import find_model

    return None if text is None else find_model(text, typer.echo)


def _region(text: str, **said: Any) -> Any:
    """The region meant, with what the command line says of it."""
    from pipeline.region import load_region, with_settings

    given = {name: value for name, value in said.items() if value is not None}
    return with_settings(load_region(text), **given)


@app.command()
def demo(
    out: Out = Path("outputs"),
    seed: Annotated[
        int, typer.Option(help="Which simulated landscape; the weights never saw seed 1.")
    ] = _DEMO[0],
    size: Annotated[
        int, typer.Option(min=256, help="Side of the landscape in pixels of 10 m.")
    ] = _DEMO[1],
    model: DemoModel = None,
    batch: Batch = 4,
    device: Device = "auto",
    runtime: Runtime = "torch-fp32",
    tta: Flips = False,
    smooth: Smooth = None,
    min_area: MinArea = 0.0,
    simplify: Simplify = 0.0,
    connectivity: Connectivity = 4,
    instances: Instances = None,
    formats: Formats = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Simulate a region with known truth, map it, and report the accuracy."""
    from pipeline.demo import make_demo
    from pipeline.job import DEMO_MODEL, plan_job
    from pipeline.region import load_region

    made = make_demo(out / f"demo-scenes-{seed}-{size}", seed=seed, size=size)
    name = "demo" if (seed, size) == _DEMO else f"demo-{seed}-{size}"
    region = load_region(str(made.region)).model_copy(update={"name": name})
    _run(
        plan_job(
            region,
            output=out,
            period=made.period,
            catalog=str(made.catalog),
            model=_model(model) or DEMO_MODEL,
            truth=made.truth,
            batch=batch,
            device=device,
            runtime=runtime,
            d4=tta,
            smooth=tuple(smooth or ()),
            min_area=min_area,
            simplify=simplify,
            connectivity=connectivity,
            instances=tuple(instances or ()),
            formats=tuple(formats or ()),
            workers=workers,
            scheduler=scheduler,
        )
    )


def _run(job: Any) -> None:
    from rich.console import Console

    from pipeline.accuracy import accuracy_table
    from pipeline.crosswalk_areas import crosswalk_screen
    from pipeline.progress import show_progress
    from pipeline.run import run
    from pipeline.summarize import area_table

    console = Console()
    console.print(
        f"{job.region.name}, {job.period or 'all dates'}, scenes from {job.shown_catalog}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    with show_progress(console) as progress:
        record = run(job, announce=progress.announce, report=progress.report)
    _print_notes(record["stages"]["composite"]["details"])
    areas = record["stages"]["summarize"]["details"]
    console.print(area_table(areas))
    for target, rows in areas.get("crosswalks", {}).items():
        console.print(crosswalk_screen(target, rows))
    if "zones" in areas:
        typer.echo(f"{areas['zones']['count']} zones: {job.folder / 'zones_wide.csv'}")
        for note in areas["zones"]["notes"]:
            typer.echo(f"Note: {note}")
    if job.truth:
        console.print(accuracy_table(record["stages"]["assess"]["details"]))
    console.print(
        f"Map: {job.folder / 'landcover.gpkg'} (open it in QGIS)\nReport: {job.folder / 'report.html'}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _print_notes(composite: dict[str, Any]) -> None:
    """Say what a reader of the map must know about its image."""
    masks = list(composite["cloud_mask"].values())
    if bare := masks.count("none"):
        typer.echo(
            f"Note: {bare} of {len(masks)} scenes have no cloud mask; clouds in them are mapped."
        )
    if gap := composite["pixels_without_observation"]:
        share = gap / composite["pixels_in_footprint"]
        typer.echo(f"Note: {share:.2%} of the region has no clear observation and is nodata.")
    if holes := composite["reads"]["failed"]:
        assets = ", ".join(sorted({hole["asset"] for hole in holes}))
        typer.echo(f"Note: {len(holes)} windows could not be read and were left out: {assets}.")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


@app.command(context_settings=_NUMBERS)
def search(
    region: RegionArg,
    period: Period = None,
    catalog: Catalog = None,
    collections: Collections = None,
    max_cloud_cover: Clouds = None,
    filter: Filter = None,  # noqa: A002 - the option's name
    bands: Annotated[
        str | None,
        typer.Option(help="Common names of the bands that scenes must have, with commas."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The frozen scene list.")] = Path(
        "items.json"
    ),
) -> None:
    """Find the scenes of a region and period, and freeze the list."""
    from pipeline.index import image_catalog
    from pipeline.job import plan_job
    from pipeline.run import scene_filter
    from pipeline.search import search

    place = _region(
        region, collections=tuple(collections or ()) or None, max_cloud_cover=max_cloud_cover,
        filter=filter,
    )  # fmt: skip
    job = plan_job(place, output=output, period=period, catalog=catalog)
    run_shown(
        search,
        lasting=True,
        catalog=image_catalog(job.catalog, output.with_suffix(".index.ndjson")),
        footprint=job.region.footprint,
        period=job.period,
        region=job.region.name,
        output=output,
        collections=job.region.collections,
        max_cloud_cover=job.max_cloud_cover,
        filter=scene_filter(job),
        bands=_names(bands) if bands else None,
    )
    typer.echo(f"scene list: {output}")


@app.command(context_settings=_NUMBERS)
def composite(
    items: Annotated[Path, typer.Argument(help="Scene list from `landcover search`.")],
    region: RegionArg,
    bands: Annotated[
        str, typer.Option(help="Common names of the bands, with commas.")
    ] = "blue,green,red,nir,swir16,swir22",
    method: Method = None,
    cloud_buffer: Buffer = None,
    hole_budget: Budget = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Reflectance x 10000 (or the colours of photographs), the number of clear observations, their day.",
        ),
    ] = Path("composite.tif"),
) -> None:
    """Make one cloud-free image of the scenes."""
    from pipeline.composite import composite
    from pipeline.job import DEFAULT_METHOD
    from pipeline.region_grid import region_grid

    place = _region(region, method=method, cloud_buffer=cloud_buffer, hole_budget=hole_budget)
    details = run_shown(
        composite,
        items=items,
        grid=region_grid(place, items),
        footprint=place.footprint,
        bands=_names(bands),
        output=output,
        method=place.method or DEFAULT_METHOD,
        cloud_buffer=place.cloud_buffer,
        hole_budget=place.hole_budget or 0.0,
    )
    _print_notes(details)
    typer.echo(f"composite: {output}")


@app.command()
def segment(
    image: Annotated[
        str,
        typer.Argument(
            help="Raster whose band names are the model's: a file, or its https address."
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Checkpoint (.safetensors): a path, an https:// address, or hf://OWNER/NAME; several are averaged. (default: the shipped Sentinel-2 weights)"
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Class raster.")] = Path(
        "classes.tif"
    ),
    confidence: Annotated[
        Path | None,
        typer.Option(
            help="Confidence raster, percent. (default: beside the class raster, confidence.tif for classes.tif, NAME_confidence.tif for others)"
        ),
    ] = None,
    margin: Annotated[
        Path | None, typer.Option(help="Raster of how far the second class is behind, percent.")
    ] = None,
    entropy: Annotated[
        Path | None, typer.Option(help="Raster of the entropy of the probabilities, percent.")
    ] = None,
    probabilities: Annotated[
        Path | None, typer.Option(help="Raster with a band for each class: 1 + 254 x probability.")
    ] = None,
    runtime: Runtime = "torch-fp32",
    device: Device = "auto",
    tile: Annotated[
        int | None, typer.Option(min=32, help="Side of a tile, pixels (default: the model's).")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Overlap of tiles, pixels (default: the model's).")
    ] = None,
    tta: Flips = False,
    smooth: Smooth = None,
    batch: Batch = 4,
    band_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows per unit of work; never changes the map (default: 2048)."),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Label every pixel of an image, in overlapping tiles blended without seams."""
    from pipeline.job import DEFAULT_MODEL
    from pipeline.model_source import find_model
    from pipeline.segment import segment

    rasters: dict[str, Any] = {
        "margin": margin, "entropy": entropy, "probabilities": probabilities,
    }  # fmt: skip
    if confidence is None:
        prefix = "" if output.stem == "classes" else f"{output.stem}_"
        confidence = output.parent / f"{prefix}confidence.tif"
    details = run_shown(
        segment,
        image=image if "://" in image else Path(image),
        model=[find_model(one, typer.echo) for one in model or ()] or [DEFAULT_MODEL],
        classes=output,
        confidence=confidence,
        **rasters,
        runtime=runtime,
        device=device,
        tile=tile,
        overlap=overlap,
        d4=tta,
        smooth=tuple(smooth or ()),
        batch=batch,
        band_rows=band_rows,
        workers=workers,
        scheduler=scheduler,
    )
    made = {"classes": output, "confidence": confidence} | rasters
    typer.echo(", ".join(f"{name}: {path}" for name, path in made.items() if path))
    typer.echo(f"{details['runtime']}, {details['megapixels_per_second']:.3g} Mpx/s")


@app.command()
def vectorize(
    classes: Annotated[Path, typer.Argument(help="Class raster, ours or any of 8 or 16 bits.")],
    confidence: Annotated[Path | None, typer.Option(help="Confidence raster, percent.")] = None,
    legend: LegendName = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="GeoPackage styled for QGIS; or .parquet, .fgb, .pmtiles for the polygons alone.",
        ),
    ] = Path("landcover.gpkg"),
    composite: Annotated[
        Path | None,
        typer.Option(
            help="Composite of the run: its clear observations and days go to the polygons."
        ),
    ] = None,
    smooth: Smooth = None,
    min_area: MinArea = 0.0,
    simplify: Simplify = 0.0,
    connectivity: Connectivity = 4,
    instances: Instances = None,
    zones: ZoneFile = None,
    zone_id: ZoneId = None,
    zone_layer: ZoneLayer = None,
    formats: Formats = None,
) -> None:
    """Turn a class raster into one valid coverage of polygons with hectares."""
    from pipeline.map_file import output_files
    from pipeline.vectorize import vectorize

    details = vectorize(
        classes=classes, confidence=confidence, composite=composite, output=output, legend=legend,
        min_area=min_area, simplify=simplify, connectivity=connectivity, instances=instances or (),
        smooth=smooth or (), zones=_zones(zones, zone_id, zone_layer), formats=formats or (),
    )  # fmt: skip
    files = output_files(output, formats or ())
    names = ", ".join(map(str, files))
    typer.echo(f"{details['polygons']:,} polygons, {details['area_ha']:,.2f} ha: {names}")
    if details["merged"]:
        layer = " (layer merged)" if files[0].suffix == ".gpkg" else ""
        typer.echo(
            f"{details['merged']:,} regions below {min_area:g} ha merged into neighbours; "
            f"{details['moved_ha']:,.2f} ha changed class{layer}"
        )
    if instances:
        typer.echo(f"{details['instances']:,} instances (layer instances)")
    if simplify:
        typer.echo(f"borders moved by {details['displacement_m']:.2f} m at most")


@app.command()
def summarize(
    classes: Annotated[Path, typer.Argument(help="Class raster.")],
    legend: LegendName = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Table of hectares and shares.")
    ] = Path("areas.csv"),
    polygons: Annotated[
        Path | None,
        typer.Option(help="GeoPackage made from it: the hectares of its polygons go beside."),
    ] = None,
    zones: ZoneFile = None,
    zone_id: ZoneId = None,
    zone_layer: ZoneLayer = None,
    crosswalk: Crosswalks = None,
) -> None:
    """Sum the hectares of each class, true on the ellipsoid; in other legends and by zone too."""
    from rich.console import Console

    from pipeline.tabulate import tabulate

    tables = tabulate(
        classes=classes, output=output, legend=legend, polygons=polygons, crosswalks=crosswalk or (),
        zones=_zones(zones, zone_id, zone_layer),
    )  # fmt: skip
    _print_tables(Console(), tables)


def _zones(path: Path | None, zone_id: str | None, layer: str | None) -> Any:
    """The zones that are asked for, or None."""
    from landcover.errors import SettingsError
    from pipeline.zone_file import read_zones

    if path is None and (zone_id or layer):
        raise SettingsError(
            "--zone-id and --zone-layer belong to --zones; name the file of the zones."
        )
    return read_zones(path, zone_id, layer) if path else None


def _print_tables(console: Any, tables: Any) -> None:
    from pipeline.crosswalk_areas import crosswalk_screen
    from pipeline.summarize import area_table
    from pipeline.zones import zone_screen

    console.print(area_table(tables.classes))
    for target, rows in tables.crosswalks.items():
        console.print(crosswalk_screen(target, rows))
    if tables.zones:
        console.print(zone_screen(tables.zones))
        for note in tables.zones.notes:
            typer.echo(f"Note: {note}")


@app.command()
def series(
    maps: Annotated[
        list[Path],
        typer.Argument(
            help="Three or more folders of runs (OUT/REGION/PERIOD) or class rasters with a date in their name."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder.")] = Path("series"),
    legend: LegendName = None,
    stay: Annotated[
        float,
        typer.Option(help="Probability that a pixel keeps its class from one date to the next."),
    ] = 0.95,
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV of such probabilities instead: from, to, probability, by class code."
        ),
    ] = None,
) -> None:
    """Make maps of several dates consistent: classes by date, what is stable, when it changed, hectares."""
    from pipeline.series import dated_maps, series

    details = run_shown(
        series, maps=dated_maps(maps), output=output, legend=legend, stay=stay, table=table
    )
    typer.echo(
        f"{len(details['dates'])} dates: {details['stable_ha']:,.2f} ha stable, "
        f"{details['changed_ha']:,.2f} ha changed: {output}"
    )


@app.command()
def change(
    before: Annotated[
        Path, typer.Argument(help="Folder of a run (OUT/REGION/PERIOD), or a class raster.")
    ],
    after: Annotated[
        Path, typer.Argument(help="The later one; it is seen on the grid of the first.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for rasters, polygons, tables and report."),
    ] = Path("change"),
    min_area: Annotated[
        float,
        typer.Option(
            min=0,
            help="Hectares below which a patch of change goes into the neighbour with the longest border, unchanged land too.",
        ),
    ] = 0.0,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Least joint confidence of both maps, percent (default: 80 that the class changed, else 25).",
        ),
    ] = None,
    joint: Annotated[
        str,
        typer.Option(
            help="Joint confidence where both folders hold probabilities.tif: that the class changed, or that of the very transition; else it is the product of both confidences.",
            metavar="changed|transition",
        ),
    ] = "changed",
    evidence: Annotated[
        str,
        typer.Option(
            help="How the images show a change: change vector, multivariate alteration detection, or not.",
            metavar="cva|mad|none",
        ),
    ] = "cva",
    season_tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="Days of the year by which the images may differ before seasonal changes are not counted.",
        ),
    ] = 45.0,
    no_guard: Annotated[
        list[str] | None,
        typer.Option(
            help="Switch off season, plausibility, border, confidence, spectral or area; may be given several times."
        ),
    ] = None,
    transitions: Annotated[
        Path | None,
        typer.Option(
            help="CSV with from_kind, to_kind, group, plausibility, color instead of the shipped table."
        ),
    ] = None,
    legend: LegendName = None,
    legend_after: Annotated[
        str | None, typer.Option(help="The same for AFTER (default: that of BEFORE).")
    ] = None,
    crosswalk: Annotated[
        str | None,
        typer.Option(
            help="From the classes of AFTER to those of BEFORE: demo, worldcover, dynamicworld, or a CSV file."
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also write change_raw.tif, before any guard.")
    ] = False,
) -> None:
    """Compare two maps of one place: what became what, in hectares, and how sure that is."""
    from pipeline.change import ChangeSettings, change, change_lines

    settings = ChangeSettings(
        min_area=min_area, min_confidence=min_confidence, season_tolerance=season_tolerance,
        joint=joint, evidence=evidence, off=tuple(no_guard or ()), table=transitions,
    )  # fmt: skip
    facts = run_shown(
        change, before=before, after=after, output=output, settings=settings, legend=legend,
        legend_after=legend_after, crosswalk=crosswalk, raw=raw,
    )  # fmt: skip
    for line in change_lines(facts):
        typer.echo(line)
    typer.echo(
        f"Change: {output / 'change.gpkg'} (open it in QGIS)\nReport: {output / 'report.html'}"
    )


@app.command()
def demo_change(
    out: Out = Path("outputs"),
    seed: Annotated[
        int, typer.Option(help="Which simulated landscape; the weights never saw seed 1.")
    ] = 1,
    size: Annotated[
        int, typer.Option(min=256, help="Side of the landscape in pixels of 10 m.")
    ] = 768,
) -> None:
    """Simulate dates with known change, map them, and show what each guard and persistence are worth."""
    from rich.console import Console

    from pipeline.change_demo import compare, figure_table, make_change_demo
    from pipeline.persistence_demo import persistence_figures, persistence_table

    folder = out / f"change-demo-{seed}-{size}"
    made = make_change_demo(folder, seed, size)
    facts = compare(made, folder / "change")
    Console().print(figure_table(facts["figures"]))
    Console().print(persistence_table(persistence_figures(folder, made, seed)))
    typer.echo(f"Report: {folder / 'change' / 'report.html'}")


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of a run: OUT/REGION/PERIOD.")],
) -> None:
    """Write the STAC item and the report of a finished run again."""
    from landcover.errors import SettingsError
    from pipeline.artifacts import Ledger
    from pipeline.publish import publish

    ledger = Ledger(folder / "run.json")
    if not ledger.record.get("complete"):
        raise SettingsError(
            f"{folder} holds no finished run (run.json says so); run it again first."
        )
    accuracy = ledger.stages.get("assess", {}).get("details")
    publish(folder=folder, run=ledger.record | {"accuracy": accuracy})
    typer.echo(f"report: {folder / 'report.html'}")


@app.command()
def index(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of GeoTIFF, JPEG 2000 or ENVI images, looked through with its subfolders; or one image."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The index: .parquet (stac-geoparquet) or .ndjson."),
    ] = Path("index.parquet"),
    datetimes: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns path (pattern) and datetime; overrides what files say."
        ),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(
            help="Date of the images that do not say theirs, YYYY-MM-DD, or a year.",
            metavar="DATE",
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Names of the bands of multi-band images, with commas, where the files do not say, e.g. swir16,nir,red,green."
        ),
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="Id of the collection (default: the folder's name).")
    ] = None,
    nodata: Annotated[
        float | None,
        typer.Option(help="Stored number that is no data, where the files do not say, e.g. 255."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Reflectance is the stored number times this, where the files do not say: 1 for fractions 0 to 1."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at files that cannot be used; else they are left out and listed beside the index.",
        ),
    ] = False,
) -> None:
    """Make a catalogue of your own images, to be used as --catalog."""
    from pipeline.index import index_folder

    details = run_shown(
        index_folder,
        folder=folder,
        output=output,
        datetimes=datetimes,
        date=date,
        collection=collection,
        bands=_names(bands) if bands else None,
        nodata=nodata,
        scale=scale,
        strict=strict,
    )
    for note in details["notes"]:
        typer.echo(note)
    typer.echo(f"{details['items']} scenes: {output}")


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(help="YAML: dataset, model, losses, augmentation, steps.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the model (default: the config's output)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a killed training stopped.")
    ] = False,
) -> None:
    """Train a model on a dataset; the result is a checkpoint for --model."""
    from rich.console import Console

    from pipeline.progress import show_progress
    from pipeline.train import MODEL, train
    from pipeline.training_config import load_training_config

    settings = load_training_config(config)
    with show_progress(Console()) as progress:
        train(
            config=settings, output=out, resume=resume, announce=progress.announce,
            report=progress.report,
        )  # fmt: skip
    typer.echo(f"model: {(out or settings.output or Path()) / MODEL}")


@app.command()
def evaluate(
    model: ModelArg,
    data: Annotated[Path, typer.Argument(help="Dataset (.yml).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the report and the figures.")
    ] = Path("evaluation"),
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    tolerance: Annotated[
        list[float] | None,
        typer.Option(
            min=1,
            help="Pixels within which a border is found; may be given several times. (default: 1 and 3)",
        ),
    ] = None,
    runtime: Runtime = "torch-fp32",
    device: Device = "auto",
    fit_temperature: Annotated[
        bool,
        typer.Option(
            "--fit-temperature",
            help="Fit a temperature on the validation split, and write the model with it.",
        ),
    ] = False,
    forest: Annotated[
        bool, typer.Option("--forest", help="Measure a random forest of single pixels too.")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, help="Tiles on which shifts, brightness and scale are tried.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn by chance.")] = 0,
) -> None:
    """Measure a model on a split of a dataset: accuracy, borders, calibration, stability, worst chips."""
    from rich.console import Console

    from pipeline.evaluate import TOLERANCES, evaluate
    from pipeline.evaluation_table import evaluation_table
    from pipeline.model_source import find_model

    record = run_shown(
        evaluate,
        model=find_model(model, typer.echo),
        data=data,
        output=output,
        split=split,
        tolerances=tuple(tolerance or TOLERANCES),
        runtime=runtime,
        device=device,
        calibrate=fit_temperature,
        forest=forest,
        samples=samples,
        seed=seed,
    )
    for note in record["notes"]:
        typer.echo(f"Note: {note}")
    Console().print(evaluation_table(record))
    if made := record.get("calibrated_model"):
        typer.echo(f"temperature {made['temperature']}: {output / made['file']}")
    typer.echo(f"report: {output / 'report.html'}")


@app.command()
def doctor() -> None:
    """Check that this machine has what a run needs, and say what to do where it has not."""
    from rich.console import Console

    from pipeline.doctor import checks, doctor_table

    results = checks()
    Console().print(doctor_table(results))
    if not all(result.good for result in results if result.needed):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
