"""`landcover model`: which are shipped, what one says of itself, its card, its STAC item; smaller and faster copies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.options import ModelArg
from pipeline.progress import run_shown

if TYPE_CHECKING:
    from pipeline.model_trial import Trial

model_app = typer.Typer(
    help="Look at models: which are shipped, what one says, its card, its STAC item; export, quantize and prune it.",
    no_args_is_help=True,
)

JudgeData = Annotated[
    Path,
    typer.Option(
        "--data",
        help="Dataset (.yml): its test split judges the result; INT8 is calibrated on its validation split, pruned models are trained on its train split.",
    ),
]
AccuracyBudget = Annotated[
    float,
    typer.Option(
        "--budget", help="Mean IoU that may be lost, 0 to 1; beyond it nothing is written."
    ),
]


@model_app.command(name="list")
def list_models() -> None:
    """Print the models that come with this program; `--model NAME` takes them."""
    from rich.console import Console

    from pipeline.model_card import shipped_table
    from pipeline.model_source import SHIPPED

    Console().print(shipped_table(SHIPPED))


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
    remarks: Annotated[
        Path | None, typer.Option(help="Text file: a paragraph for each thing to know before use.")
    ] = None,
) -> None:
    """Write the card of a model: classes, input, training data, figures, limits."""
    from pipeline.model_card import write_model_card
    from pipeline.model_source import find_model

    write_model_card(find_model(model, typer.echo), output, evaluation, name, remarks)
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


@model_app.command()
def export(
    model: ModelArg,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="OUT.onnx for ONNX, OUT.xml for OpenVINO (and OUT.bin)."
        ),
    ],
    data: JudgeData,
    precision: Annotated[
        str, typer.Option(help="fp32; fp16, of weights, .xml only; or int8, of weights and values.")
    ] = "fp32",
    budget: AccuracyBudget = 0.01,
    tiles: Annotated[
        int, typer.Option(min=1, help="Tiles of the validation split on which INT8 is calibrated.")
    ] = 32,
) -> None:
    """Write a model as ONNX or OpenVINO, which `--model` takes too; tell size, speed and accuracy."""
    from pipeline.export_model import export_model
    from pipeline.model_source import find_model

    run_shown(
        export_model, model=find_model(model, typer.echo), output=output, data=data, precision=precision,
        budget=budget, tiles=tiles, show=_print_trial,
    )  # fmt: skip
    typer.echo(f"model: {output}")
    typer.echo(f"report: {output}.json")


@model_app.command()
def prune(
    model: ModelArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint (.safetensors).")],
    data: JudgeData,
    share: Annotated[
        float, typer.Option(help="Share of each decoder block's channels that goes, 0 to 1.")
    ] = 0.3,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of training afterwards, with the original as teacher.")
    ] = 500,
    budget: AccuracyBudget = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
) -> None:
    """Take channels out of a U-Net's decoder, train it again; tell size, speed and accuracy."""
    from pipeline.model_source import find_model
    from pipeline.prune_model import prune_model

    run_shown(
        prune_model, model=find_model(model, typer.echo), output=output, data=data, share=share,
        steps=steps, budget=budget, seed=seed, show=_print_trial,
    )  # fmt: skip
    typer.echo(f"model: {output}")
    typer.echo(f"report: {output}.json")


def _print_trial(trial: "Trial") -> None:
    from rich.console import Console

    from pipeline.model_trial import trial_table

    Console().print(trial_table(trial))
