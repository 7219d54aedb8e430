"""Map many regions, one after another: `python -m workflows.refresh_map --regions regions/`.

What is current is skipped, so it can be called as often as a scheduler likes. One region's failure
does not stop the others; the exit code is the number of regions that failed.
"""

from pathlib import Path
from typing import Annotated

import typer

from landcover.errors import LandcoverError, RegionError
from pipeline.job import plan_job
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
    model: Annotated[Path | None, typer.Option(help="Checkpoint (.safetensors).")] = None,
    out: Annotated[Path, typer.Option(help="Folder under which REGION/PERIOD/ is made.")] = Path(
        "outputs"
    ),
) -> None:
    """Map every region of a folder; ask each catalogue again for new scenes."""
    paths = sorted(regions.glob("*.yml"))
    if not paths:
        raise RegionError(f"{regions} holds no region file (.yml).")
    failed = [path.stem for path in paths if not _map(path, period, catalog, model, out)]
    typer.echo(
        f"{len(paths) - len(failed)} of {len(paths)} regions mapped; failed: {', '.join(failed) or 'none'}"
    )
    raise typer.Exit(len(failed))


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
    return True


if __name__ == "__main__":
    typer.run(refresh_map)
