"""`landcover dataset`: images and labels to train on."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.progress import run_shown

dataset = typer.Typer(
    help="Images and labels to train on: check, describe, simulate.", no_args_is_help=True
)
_COLORS = {"error": "red", "warning": "yellow"}

DatasetArg = Annotated[
    Path, typer.Argument(metavar="DATASET", help="YAML that describes the dataset.")
]


@dataset.command()
def check(path: DatasetArg) -> None:
    """List what is wrong: unknown labels, missing CRS, other grids, absent classes, leaks."""
    from rich.console import Console

    from pipeline.check_dataset import check_dataset

    result = run_shown(check_dataset, dataset=path)
    for finding in result["findings"]:
        typer.secho(f"{finding.level}: {finding.message}", fg=_COLORS[finding.level])
    if result["table"] is None:
        raise typer.Exit(1)
    Console().print(result["table"])
    typer.echo(f"version {result['version']}")


@dataset.command()
def manifest(
    path: DatasetArg,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Files with hashes, blocks, splits, counts.")
    ] = Path("manifest.json"),
) -> None:
    """Write down what a dataset holds, and its version."""
    from pipeline.dataset_manifest import write_manifest

    content = run_shown(write_manifest, dataset=path, output=output)
    typer.echo(f"version {content['version']}: {output}")


@dataset.command()
def sheet(
    path: DatasetArg,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="One HTML page that loads nothing.")
    ] = Path("sheet.html"),
) -> None:
    """Describe a dataset: classes, bands, blocks, pictures."""
    from pipeline.dataset_sheet import write_sheet

    run_shown(write_sheet, dataset=path, output=output)
    typer.echo(f"data sheet: {output}")


@dataset.command()
def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")],
    kind: Annotated[
        Literal["sentinel2", "photograph"],
        typer.Option(help="Satellite images, or photographs from the air."),
    ] = "sentinel2",
    regions: Annotated[int, typer.Option(min=1, help="How many images.")] = 6,
    size: Annotated[int, typer.Option(help="Side of each, pixels.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other regions.")] = 0,
) -> None:
    """Write a small labelled dataset of simulated regions or photographs, to try training on."""
    from pipeline.simulate_dataset import simulate_dataset

    made = run_shown(
        simulate_dataset, output=output, kind=kind, regions=regions, size=size, seed=seed
    )
    typer.echo(f"{made['regions']} regions: {made['dataset']}")
