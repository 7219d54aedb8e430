"""`landcover model`: what a checkpoint says of itself, its card, its STAC item."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import ModelArg

model_app = typer.Typer(
    help="Look at a model: what it says of itself, its card, its STAC item.", no_args_is_help=True
)


@model_app.command()
def show(model: ModelArg) -> None:
    """Print what a checkpoint says about itself; nothing in it is executed."""
    from rich.console import Console

    from pipeline.model_card import facts_table
    from pipeline.model_source import find_model

    Console().print(facts_table(find_model(model, typer.echo)))


@model_app.command()
def card(
    model: ModelArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="Markdown.")] = Path(
        "model-card.md"
    ),
    evaluation: Annotated[
        Path | None, typer.Option(help="metrics.json of `landcover evaluate` of this model.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Title (default: the file's name).")] = None,
) -> None:
    """Write the card of a model: classes, input, training data, figures, limits."""
    from pipeline.model_card import write_model_card
    from pipeline.model_source import find_model

    write_model_card(find_model(model, typer.echo), output, evaluation, name)
    typer.echo(f"card: {output}")


@model_app.command()
def item(
    model: ModelArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON.")] = Path("model-item.json"),
    name: Annotated[str | None, typer.Option(help="Id (default: the file's name).")] = None,
) -> None:
    """Write the STAC item of a model, by the MLM extension."""
    from pipeline.model_item import write_model_item
    from pipeline.model_source import find_model

    write_model_item(find_model(model, typer.echo), output, name)
    typer.echo(f"item: {output}")
