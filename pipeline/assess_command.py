"""`landcover assess`: draw a sample to label, estimate accuracy and areas from the labels."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import LegendName

assess = typer.Typer(
    help="Draw pixels to label, and estimate accuracy and areas from the labels, with intervals.",
    no_args_is_help=True,
)


@assess.command()
def design(
    classes: Annotated[Path, typer.Argument(help="Class raster, ours or any of 8 or 16 bits.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="GeoPackage to label in QGIS.")
    ] = Path("sample.gpkg"),
    se: Annotated[
        float,
        typer.Option(help="Standard error wanted, as a share: of overall accuracy or, see --area-of, of the area."),
    ] = 0.01,
    area_of: Annotated[
        str | None,
        typer.Option(help="Class (code or name) whose share of the area is to have that standard error."),
    ] = None,
    conjecture: Annotated[
        list[str] | None,
        typer.Option(
            help="Expected user's accuracy: a number for all classes, CLASS=NUMBER, or a CSV file with the columns class_code, users_accuracy; may be given several times (default: 0.8)."
        ),
    ] = None,
    minimum: Annotated[
        int, typer.Option(min=2, help="Pixels of each stratum, at least.")
    ] = 50,
    size: Annotated[
        int | None, typer.Option(min=1, help="Pixels of the sample, instead of --se.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds draw equal samples.")] = 1,
    strata: Annotated[
        Path | None,
        typer.Option(
            help="Raster of strata on the same grid, e.g. of change (default: the classes of the map)."
        ),
    ] = None,
    cross: Annotated[
        bool, typer.Option("--cross", help="Each class within each of --strata is a stratum.")
    ] = False,
    legend: LegendName = None,
) -> None:  # fmt: skip
    """Draw a stratified random sample of pixels for a person to label."""
    from rich.console import Console

    from pipeline.draw_sample import design_table, draw_sample

    details = draw_sample(
        classes=classes, output=output, strata=strata, cross=cross, legend=legend, error=se, target=area_of,
        conjecture=conjecture or (), minimum=minimum, size=size, seed=seed,
    )  # fmt: skip
    Console().print(design_table(details))
    if details["size"] > details["wanted"]:
        typer.echo(
            f"Note: {details['wanted']:,} pixels are wanted; {minimum} of each stratum (--minimum) make {details['size']:,}."
        )
    typer.echo(
        f"Label the layer sample of {output} in QGIS; then: landcover assess estimate {output}"
    )


@assess.command()
def estimate(
    sample: Annotated[
        Path, typer.Argument(help="Labelled sample from `landcover assess design`.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Result as JSON; its table goes into a CSV beside it."),
    ] = None,
    areas: Annotated[
        Path | None,
        typer.Option(help="Area table of the same map, to set its hectares beside the estimates."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Class raster that labels the sample instead of a person."),
    ] = None,
    legend: Annotated[
        str | None,
        typer.Option(
            help="What its values mean: worldcover, dynamicworld, corine, or a CSV file with the columns value, name, color (default: what it says itself, else what those of the sampled map meant)."
        ),
    ] = None,
    allow_unlabelled: Annotated[
        bool, typer.Option("--allow-unlabelled", help="Leave out pixels that have no label.")
    ] = False,
) -> None:  # fmt: skip
    """Estimate accuracy and areas with 95 % intervals from a labelled sample."""
    from rich.console import Console

    from pipeline.estimate_areas import estimate_areas, estimate_tables

    result = estimate_areas(
        sample=sample, output=output, areas=areas, reference=reference, legend=legend,
        allow_unlabelled=allow_unlabelled,
    )  # fmt: skip
    console = Console()
    for table in estimate_tables(result):
        console.print(table)
    for note in result["notes"]:
        typer.echo(f"Note: {note}")
    if output:
        typer.echo(f"estimates: {output}, {output.with_suffix('.csv')}")
