"""Map many regions, one after another: `python -m workflows.refresh_map --regions regions/`.

What is current is skipped, so it can be called as often as a scheduler likes. One region's failure
does not stop the others; the exit code is 1 if any failed.
"""

import traceback
from pathlib import Path
from typing import Annotated

import typer

from landcover.errors import LandcoverError
from pipeline.job import plan_job
from pipeline.model_source import find_model
from pipeline.region import load_region
from pipeline.run import run


def refresh_map(
    regions: Annotated[Path, typer.Option(help="Folder of region files (.yml).")] = Path("regions"),
    period: Annotated[
        str | None, typer.Option(help="Days, YYYY-MM-DD/YYYY-MM-DD; the region's own otherwise.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="STAC API or local index; the region's own otherwise.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint: a shipped name, a path, an https:// address, or hf://OWNER/NAME."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder under which REGION/PERIOD/ is made.")] = Path(
        "outputs"
    ),
) -> None:
    """Map every region of a folder; ask each catalogue again for new scenes."""
    paths = sorted(path for path in regions.glob("*") if path.suffix in {".yml", ".yaml"})
    if not paths:
        typer.echo(
            f"error: {regions} holds no region file (.yml); give a folder of them.", err=True
        )
        raise typer.Exit(1)
    try:
        weights = find_model(model, typer.echo) if model else None
    except LandcoverError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    failed = [path.stem for path in paths if not _map(path, period, catalog, weights, out)]
    typer.echo(
        f"{len(paths) - len(failed)} of {len(paths)} regions mapped; failed: {', '.join(failed) or 'none'}"
    )
    raise typer.Exit(1 if failed else 0)


def _map(
    path: Path, period: str | None, catalog: str | None, model: Path | None, out: Path
) -> bool:
    def announce(text: str) -> None:
        typer.echo(f"{path.stem}: {text}")

    try:
        region = load_region(str(path))
        job = plan_job(
            region, output=out, period=period, catalog=catalog, model=model, refresh=True
        )
        run(job, announce=announce, report=announce)
    except (LandcoverError, OSError) as error:
        typer.echo(f"{path.stem}: error: {error}", err=True)
        return False
    except Exception:  # noqa: BLE001 - a fault of ours in one region must not stop the others
        typer.echo(f"{path.stem}: error: {traceback.format_exc()}", err=True)
        return False
    return True


if __name__ == "__main__":
    typer.run(refresh_map)
