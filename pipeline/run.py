"""The whole road, from a region to a published map. Read this first."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from landcover.checkpoint_file import read_spec
from landcover.errors import RegionError
from landcover.period import Period
from pipeline.artifacts import (
    Ledger,
    Report,
    file_hash,
    only_run,
    remove_partials,
    versions,
    write_json,
)
from pipeline.cog import open_raster, raster_grid
from pipeline.crosswalk_areas import NamedCrosswalk
from pipeline.index import image_catalog
from pipeline.items import frozen_scenes, item_span, own_address
from pipeline.job import Job
from pipeline.raster_files import side_files
from pipeline.tabulate import crosswalk_path, load_crosswalks, tabulate
from pipeline.zone_file import Zones, read_zones
from pipeline.zones import LONG, WIDE

Work = Callable[[], dict[str, Any]]


def run(job: Job, *, announce: Report = print, report: Report = print) -> dict[str, Any]:
    """Make a map of a region and period; return the content of its run.json.

    announce: takes one line when a stage starts or ends; report: takes progress within a stage.
    A stage whose inputs have not changed is skipped. Raises LandcoverError with the reason where a
    stage cannot do its work; what earlier stages made stays.
    """
    with only_run(job.folder):
        return _run(job, announce, report)


def _run(job: Job, announce: Report, report: Report) -> dict[str, Any]:
    zones, walks = _zones(job), load_crosswalks(job.crosswalks, read_spec(job.model).legend)
    job = job.model_copy(
        update={"catalog": image_catalog(job.catalog, job.folder / "index.ndjson")}
    )
    at, ledger = job.folder, _open(job, announce)
    scenes = ledger.stage(
        "search", _question(job), [at / "items.json"], _search(job, announce), anew=job.refresh
    )
    image = ledger.stage(
        "composite", [scenes, _place(job)], [at / "composite.tif"], _composite(job, ledger, report)
    )
    rasters = [at / "classes.tif", at / "confidence.tif", *_kept(job)]
    _remove_unasked(ledger, "segment", rasters)
    maps = ledger.stage(
        "segment",
        [image, file_hash(job.model), job.runtime, job.device, job.d4, job.smooth, *(p.name for p in _kept(job))],
        rasters, _segment(job, report),
    )  # fmt: skip
    by_zone = zones.fingerprint if zones else None
    _remove_unasked(ledger, "vectorize", _map_files(job))
    vectors = ledger.stage(
        "vectorize",
        [
            image, maps, job.min_area, job.simplify, job.connectivity, job.instances, job.formats, by_zone,
            _map_facts(job),
        ],
        _map_files(job), _vectorize(job, zones),
    )  # fmt: skip
    tables = _tables(at / "areas.csv", zones, walks)
    _remove_unasked(ledger, "summarize", tables)
    areas = ledger.stage(
        "summarize", [maps, vectors, by_zone, [walk.fingerprint for walk in walks]], tables,
        _summarize(job, zones),
    )  # fmt: skip
    accuracy = {}
    if job.truth:
        known = [maps, file_hash(job.truth)]
        accuracy = ledger.stage("assess", known, [at / "accuracy.json"], _assess(at, job.truth))
    facts = _facts(job)
    made = [scenes, image, maps, vectors, areas, accuracy, facts]
    work = _publish(job, ledger, facts)
    ledger.stage("publish", made, [at / "item.json", at / "report.html"], work)
    ledger.save(complete=True)
    return ledger.record


def _zones(job: Job) -> Zones | None:
    return read_zones(job.zones, job.zone_id, job.zone_layer) if job.zones else None


def _kept(job: Job) -> list[Path]:
    return [job.folder / "probabilities.tif"] if job.probabilities else []


def _tables(areas: Path, zones: Zones | None, walks: Sequence[NamedCrosswalk]) -> list[Path]:
    by_zone = [areas.with_name(name) for name in (LONG, WIDE)] if zones else []
    return [areas, *by_zone, *(crosswalk_path(areas, walk) for walk in walks)]


def _remove_unasked(ledger: Ledger, stage: str, outputs: Sequence[Path]) -> None:
    """Remove what an earlier run made and this one will not, which would soon be another map's."""
    made, wanted = ledger.stages.get(stage, {}).get("outputs", {}), {path.name for path in outputs}
    for name, stamp in made.items():
        path = ledger.path.with_name(name)
        if name not in wanted and path.is_file() and file_hash(path) == stamp:
            path.unlink()


def _open(job: Job, announce: Report) -> Ledger:
    """The ledger of the job's folder, cleared of what a killed run left."""
    remove_partials(job.folder)
    ledger = Ledger(job.folder / "run.json", announce)
    _check_same_region(job, ledger.record.get("region", {}))
    ledger.record.pop("errors", None)
    before, region = ledger.record.get("region"), _region(job)
    ledger.record["region"] = region
    if before and before != json.loads(json.dumps(region)):
        ledger.record["complete"] = False  # the maps are still of the region as it was
    return ledger


def _region(job: Job) -> dict[str, Any]:
    return {
        "name": job.region.name,
        "footprint": job.region.geojson,
        "source": job.region.source,
    }


def _map_files(job: Job) -> list[Path]:
    from pipeline.map_file import output_files

    return output_files(job.folder / "landcover.gpkg", job.formats)


def _map_facts(job: Job) -> dict[str, Any]:
    """What the map itself says of how it was made: no folder of this machine, no address with a key."""
    from pipeline.facts import scene_facts

    left_out = {"crs", "resolution", "formats", "min_area_ha", "simplify_m"}
    settings = {name: value for name, value in job.settings().items() if name not in left_out}
    local = {"catalog": job.shown_catalog, "model": str(job.model)}
    names = {name: text if "://" in text else Path(text).name for name, text in local.items()}
    period = str(job.period or _days(job))
    return (
        {"region": job.region.name, **settings, **names, "period": period}
        | {"model_sha256": file_hash(job.model)}
        | scene_facts(_scenes(job))
    )


def _facts(job: Job) -> dict[str, Any]:
    """What is needed to do the run again; written down once its maps are made from it."""
    spec = read_spec(job.model)
    return {
        "region": _region(job),
        "period": str(job.period or _days(job)),
        "catalog": job.shown_catalog,
        "settings": job.settings() | _grid(job),
        "model": {
            "path": str(job.model),
            "sha256": file_hash(job.model),
            "bands": spec.bands,
            "training": dict(spec.training),
        },
        "versions": versions(),
        "items": _scenes(job),
    }


def _grid(job: Job) -> dict[str, Any]:
    """CRS and pixel size of the composite, whether the region gave them or a rule."""
    with open_raster(job.folder / "composite.tif") as dataset:
        grid = raster_grid(dataset)
    return {"crs": str(grid.crs), "resolution": abs(grid.resolution.x)}


def _days(job: Job) -> Period:
    """From the first to the last day of the frozen scenes."""
    spans = [item_span(item) for item in frozen_scenes(job.folder / "items.json")]
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return Period(first.date(), last.date())


def _check_same_region(job: Job, before: dict[str, Any]) -> None:
    """Refuse to overwrite the map of another region that has the same name."""
    same_place = before.get("footprint") == json.loads(json.dumps(job.region.geojson))
    if before and not same_place and before.get("source") != job.region.source:
        raise RegionError(
            f"{job.folder} holds the map of another region called '{job.region.name}' "
            f"({before.get('source')}); give yours another name or another --out."
        )


def _question(job: Job) -> list[Any]:
    index = Path(job.catalog)
    return [
        job.region.geojson, str(job.period), job.catalog, job.region.collections, job.region.filter,
        job.max_cloud_cover, _bands(job), file_hash(index) if index.is_file() else None,
    ]  # fmt: skip


def _place(job: Job) -> list[Any]:
    settings = [job.method, job.region.cloud_buffer, job.hole_budget]
    place = [job.region.geojson, job.region.crs, job.region.resolution]
    return [place, settings, _bands(job), _local_scenes(job)]


def scene_filter(job: Job) -> dict[str, Any] | None:
    """The region's filter as CQL2 JSON, whichever way it is written."""
    from pipeline.question import parse_filter

    given = job.region.filter
    return parse_filter(given if isinstance(given, str) else json.dumps(given)) if given else None


def _bands(job: Job) -> list[str]:
    return list(read_spec(job.model).bands)


def _local_scenes(job: Job) -> list[Any]:
    """Size and time of each scene file here and of those beside it, so that a replaced one is noticed."""
    images = [
        Path(href)
        for scene in _scenes(job)
        for href in scene["assets"].values()
        if "://" not in href
    ]
    paths = [path for image in images for path in (image, *side_files(image))]
    stats = [(str(path), path.stat()) for path in paths if path.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _scenes(job: Job) -> list[dict[str, Any]]:
    """The frozen scenes, short: id, time, and the address of each asset."""
    features = frozen_scenes(job.folder / "items.json")
    return [
        {
            "id": item["id"],
            "href": own_address(item) or None,
            "datetime": item["properties"].get("datetime"),
            "assets": {key: asset["href"] for key, asset in item["assets"].items()},
        }
        for item in features
    ]


def _search(job: Job, announce: Report) -> Work:
    def work() -> dict[str, Any]:
        from pipeline.search import search

        return search(
            catalog=job.catalog,
            footprint=job.region.footprint,
            period=job.period,
            region=job.region.name,
            output=job.folder / "items.json",
            collections=job.region.collections,
            max_cloud_cover=job.max_cloud_cover,
            filter=scene_filter(job),
            bands=_bands(job),
            report=announce,
        )

    return work


def _composite(job: Job, ledger: Ledger, report: Report) -> Work:
    def work() -> dict[str, Any]:
        from pipeline.block_compositor import FailedReadsError
        from pipeline.composite import composite
        from pipeline.region_grid import region_grid

        items = job.folder / "items.json"
        try:
            return composite(
                items=items,
                grid=region_grid(job.region, items),
                footprint=job.region.footprint,
                bands=_bands(job),
                output=job.folder / "composite.tif",
                method=job.method,
                cloud_buffer=job.region.cloud_buffer,
                hole_budget=job.hole_budget,
                report=report,
            )
        except FailedReadsError as error:
            ledger.save(errors=error.failed)
            raise

    return work


def _segment(job: Job, report: Report) -> Work:
    def work() -> dict[str, Any]:
        from pipeline.segment import segment

        return segment(
            image=job.folder / "composite.tif",
            model=job.model,
            classes=job.folder / "classes.tif",
            confidence=job.folder / "confidence.tif",
            probabilities=next(iter(_kept(job)), None),
            runtime=job.runtime,
            device=job.device,
            d4=job.d4,
            smooth=job.smooth,
            batch=job.batch,
            workers=job.workers,
            scheduler=job.scheduler,
            report=report,
        )

    return work


def _vectorize(job: Job, zones: Zones | None) -> Work:
    def work() -> dict[str, Any]:
        from pipeline.vectorize import vectorize

        return vectorize(
            classes=job.folder / "classes.tif",
            confidence=job.folder / "confidence.tif",
            composite=job.folder / "composite.tif",
            output=job.folder / "landcover.gpkg",
            min_area=job.min_area,
            simplify=job.simplify,
            connectivity=job.connectivity,
            instances=job.instances,
            zones=zones,
            formats=job.formats,
            facts=_map_facts(job),
        )

    return work


def _summarize(job: Job, zones: Zones | None) -> Work:
    def work() -> dict[str, Any]:
        return tabulate(
            classes=job.folder / "classes.tif",
            output=job.folder / "areas.csv",
            polygons=job.folder / "landcover.gpkg",
            zones=zones,
            crosswalks=job.crosswalks,
        ).details

    return work


def _assess(folder: Path, truth: Path) -> Work:
    def work() -> dict[str, Any]:
        from pipeline.accuracy import assess

        result = assess(classes=folder / "classes.tif", truth=truth)
        write_json(folder / "accuracy.json", result)
        return result

    return work


def _publish(job: Job, ledger: Ledger, facts: dict[str, Any]) -> Work:
    def work() -> dict[str, Any]:
        from pipeline.publish import publish

        ledger.save(**facts)
        accuracy = ledger.stages["assess"]["details"] if job.truth else None
        return publish(folder=job.folder, run=ledger.record | {"accuracy": accuracy})

    return work
