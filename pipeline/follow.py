"""One more period of a region: what changed since its baseline, whether it lasts, and the alerts of it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.io import DatasetReader
from rasterio.windows import Window

from landcover.area import PixelAreas, Tally
from landcover.errors import LegendError, RasterError, SettingsError
from landcover.period import Period
from landcover.persistence import CANDIDATE, CONFIRMED, REJECTED, Persistence, Rule
from pipeline.artifacts import Ledger, Report, write_json
from pipeline.change import ChangeSettings, change
from pipeline.class_polygons import ClassPolygons, Pixels
from pipeline.class_raster import strips
from pipeline.cog import CogProfile, open_cog, open_raster, raster_grid
from pipeline.project_store import Alert

_EPOCH = date(1970, 1, 1)
_BANDS = ("reference", "candidate", "first", "history", "status", "since")
_STATUS = {CANDIDATE: "candidate", CONFIRMED: "confirmed"}
_STRIP_PIXELS = 2**22


@dataclass(frozen=True)
class Chapter:
    """One period of a region that is followed."""

    region: str
    period: Period
    baseline: Path
    """Folder of the run that it is compared with."""
    baseline_period: Period
    current: Path
    """Folder of the period's own run."""
    previous: Path | None
    """Folder that `follow` filled for the period before; None for the first after the baseline."""

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.current / "change"

    @property
    def day(self) -> int:
        """Its last day, days since 1970-01-01."""
        return (self.period.end - _EPOCH).days

    @property
    def baseline_day(self) -> int:
        """The last day of its baseline, days since 1970-01-01."""
        return (self.baseline_period.end - _EPOCH).days


def follow(
    chapter: Chapter, *, settings: ChangeSettings, rule: Rule, announce: Report, report: Report
) -> dict[str, Any]:
    """Compare a period with the baseline, move the state on, and write the alerts.

    Beside the files of `change` the folder gets state.tif (bands reference, candidate, first, history, status, since
    of landcover.persistence; first and since are days since 1970-01-01) and alerts.geojson: what is candidate or
    confirmed by this period, and the candidates that it rejects. What is current is skipped.
    Returns candidate_ha, confirmed_ha, rejected_ha (flicker) and counted_change_ha. Raises RasterError,
    LegendError or SettingsError where the maps cannot be compared.
    """
    at = chapter.folder
    at.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(at / "follow.json", announce)
    made = ledger.stage(
        "change", [_made(chapter.baseline), _made(chapter.current), repr(settings)],
        [at / "change.tif", at / "change_confidence.tif", at / "change.gpkg", at / "change.json"],
        lambda: _compared(chapter, settings, report),
    )  # fmt: skip
    before = None if chapter.previous is None else _last_hashes(chapter.previous)
    ledger.stage(
        "alerts",
        [made, before, repr(rule), str(chapter.period), str(chapter.baseline_period), chapter.region, _BANDS],
        [at / "state.tif", at / "alerts.geojson"], lambda: _moved_on(chapter, rule),
    )  # fmt: skip
    return {
        **ledger.stages["alerts"]["details"],
        "counted_change_ha": ledger.stages["change"]["details"]["counted_change_ha"],
    }


def read_alerts(folder: Path) -> list[Alert]:
    """Alerts that `follow` wrote into a folder."""
    collection = json.loads((folder / "alerts.geojson").read_text("utf-8"))
    return [
        Alert(**feature["properties"], id=feature["id"], geometry=json.dumps(feature["geometry"]))
        for feature in collection["features"]
    ]


def read_names(folder: Path) -> dict[int, str]:
    """Class names by code of the maps that `follow` compared into a folder; none where it is gone."""
    record = folder / "change.json"
    if not record.is_file():
        return {}
    rows = json.loads(record.read_text("utf-8"))["classes"]
    return {row["class_code"]: row["class_name"] for row in rows}


def _made(run: Path) -> dict[str, str]:
    """Hashes of what a run made of its scenes."""
    stages = Ledger(run / "run.json").stages
    if "segment" not in stages:
        raise SettingsError(f"{run} holds no finished run; run it first.")
    return {**stages["composite"]["outputs"], **stages["segment"]["outputs"]}


def _last_hashes(folder: Path) -> dict[str, str]:
    return dict(Ledger(folder / "follow.json").stages["alerts"]["outputs"])


def _compared(chapter: Chapter, settings: ChangeSettings, report: Report) -> dict[str, Any]:
    try:
        facts = change(
            before=chapter.baseline, after=chapter.current, output=chapter.folder, settings=settings,
            report=report,
        )  # fmt: skip
    except LegendError as error:  # it advises what only a comparison by hand can do
        raise LegendError(
            f"The map of {chapter.region} of {chapter.period} has other classes than that of its baseline, "
            f"{chapter.baseline_period}; what is followed keeps its classes: go on with the model of before, or "
            "begin anew under another name or --out."
        ) from error
    return {name: facts[name] for name in ("raw_change_ha", "counted_change_ha", "mapped_ha")}


def _moved_on(chapter: Chapter, rule: Rule) -> dict[str, Any]:
    at = chapter.folder
    with open_raster(at / "change.tif") as changed:
        grid = raster_grid(changed)
        areas, tally = PixelAreas(grid), Tally.zeros(256)
        profile = CogProfile("uint16", _BANDS, "mode")
        with (
            _state_of(chapter.previous, grid) as earlier,
            open_cog(at / "state.tif", grid, profile) as out,
        ):
            step = max(1, _STRIP_PIXELS // int(grid.shape[1]))
            for rows, codes in strips(changed, step):
                state = _seen(earlier, rows, codes.astype(np.uint16, copy=False), chapter, rule)
                out.write(np.stack([getattr(state, name).astype(np.uint16) for name in _BANDS]))
                tally.add(state.status, areas.units(rows))
    hectares = areas.hectares(tally.units)
    _write_alerts(chapter, grid)
    return {
        "candidate_ha": float(hectares[CANDIDATE]),
        "confirmed_ha": float(hectares[CONFIRMED]),
        "rejected_ha": float(hectares[REJECTED]),
    }


@contextlib.contextmanager
def _state_of(folder: Path | None, grid: GeoBox) -> Iterator[DatasetReader | None]:
    if folder is None:
        yield None
        return
    with open_raster(folder / "state.tif") as dataset:
        if raster_grid(dataset) != grid:
            raise RasterError(
                f"{folder / 'state.tif'} lies on another grid than the baseline; remove the folders of later "
                "periods, or give the baseline of before."
            )
        yield dataset


def _seen(
    earlier: DatasetReader | None,
    rows: slice,
    codes: NDArray[np.uint16],
    chapter: Chapter,
    rule: Rule,
) -> Persistence:
    """The state of some rows after one more map."""
    before, after = (codes >> 8).astype(np.uint8), (codes & 255).astype(np.uint8)
    state = Persistence.empty((codes.shape[0], codes.shape[1]))
    if earlier is not None:
        window = Window.from_slices(rows, (0, codes.shape[1]))
        bands = dict(zip(_BANDS, earlier.read(window=window), strict=True))
        narrow = ("reference", "candidate", "status")
        state = Persistence(**{**bands, **{name: bands[name].astype(np.uint8) for name in narrow}})
    return state.compared(before, after, chapter.baseline_day, chapter.day, rule)


def _write_alerts(chapter: Chapter, grid: GeoBox) -> None:
    """Regions of equal change, first sight and status, each with the number that it had before."""
    at = chapter.folder
    with open_raster(at / "state.tif") as state, open_raster(at / "change_confidence.tif") as sure:
        step = max(1, _STRIP_PIXELS // int(grid.shape[1]))
        keys = _keys(state, step)

        def read() -> Iterator[Pixels]:
            for (rows, key), (_, percent) in zip(
                _stories(state, step), strips(sure, step), strict=True
            ):
                codes = np.searchsorted(keys, key).astype(np.uint16)
                yield Pixels(
                    rows,
                    np.where(key > 0, codes + np.uint16(1), 0).astype(np.uint16),
                    percent.astype(np.uint8),
                )

        found = [
            alert
            for batch in ClassPolygons(read, grid).batches()
            for alert in _alerts(chapter, batch, keys, grid)
        ] if len(keys) else []  # fmt: skip
    earlier = [] if chapter.previous is None else read_alerts(chapter.previous)
    named = _named(found, [alert for alert in earlier if alert.status != "rejected"])
    told = sorted([*named, *_reverted(named, earlier)], key=lambda a: a.id)
    features = [_feature(alert) for alert in told]
    write_json(at / "alerts.geojson", {"type": "FeatureCollection", "features": features})


def _stories(state: DatasetReader, step: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Rows, and what each pixel's change is: reference, candidate, first and status in one number, 0 for none."""
    bands = (
        strips(state, step, _BANDS.index(name) + 1)
        for name in ("reference", "candidate", "first", "status")
    )
    for (rows, old), (_, new), (_, first), (_, status) in zip(*bands, strict=True):
        parts = (a.astype(np.int64) for a in (old, new, first, status))
        old_code, new_code, day, how = parts
        key = (((old_code << 8 | new_code) << 16) | day) << 2 | how
        yield rows, np.where((how == CANDIDATE) | (how == CONFIRMED), key, 0)


def _keys(state: DatasetReader, step: int) -> NDArray[np.int64]:
    keys = np.unique(np.concatenate([np.unique(key) for _, key in _stories(state, step)]))
    keys = keys[keys > 0]
    if len(keys) >= 2**16 - 1:
        raise RasterError(
            f"{state.name} holds {len(keys):,} kinds of change; raise the minimum area."
        )
    return np.asarray(keys)


def _alerts(chapter: Chapter, batch: Any, keys: NDArray[np.int64], grid: GeoBox) -> Iterator[Alert]:
    to_degrees = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
    shapes = shapely.transform(
        batch.polygons.geometries(grid.affine),
        lambda xy: np.column_stack(to_degrees.transform(*xy.T)),
    )
    areas = PixelAreas(grid)
    for number, shape in enumerate(shapes):
        key = int(keys[batch.codes[number] - 1])
        first = (_EPOCH + timedelta(days=key >> 2 & 0xFFFF)).isoformat()
        old, new, tally = key >> 26, key >> 18 & 255, batch.tally
        name = f"{chapter.region}|{first}|{old}|{new}|{batch.firsts[number]}"
        yield Alert(
            id=hashlib.sha256(name.encode()).hexdigest()[:16], region=chapter.region, from_code=old, to_code=new,
            first_seen=first, last_seen=chapter.period.end.isoformat(), status=_STATUS[key & 3],
            area_ha=round(float(areas.hectares(batch.units[number])), 6),
            confidence=round(float(tally.confidence[number] / tally.pixels[number]), 2),
            geometry=json.dumps(shapely.geometry.mapping(shapely.set_precision(shape, 1e-7))),
        )  # fmt: skip


def _reverted(named: Sequence[Alert], earlier: Sequence[Alert]) -> list[Alert]:
    """Earlier candidates of which nothing is left under their name, as they were last seen, rejected."""
    left = {alert.id for alert in named}
    return [
        replace(alert, status="rejected")
        for alert in earlier
        if alert.status == "candidate" and alert.id not in left
    ]


def _named(found: Sequence[Alert], earlier: Sequence[Alert]) -> list[Alert]:
    """Alerts under the names that they had: of the earlier one of the same beginning that they overlap most.

    The confirmed and the largest choose first; a name is given once.
    """
    shapes = [shapely.from_geojson(alert.geometry) for alert in earlier]
    tree = shapely.STRtree(shapes)
    taken: set[str] = set()
    named = []
    for alert in sorted(found, key=lambda a: (a.status != "confirmed", -a.area_ha, a.id)):
        shape = shapely.from_geojson(alert.geometry)
        near = [
            (-shapes[i].intersection(shape).area, earlier[i].id)
            for i in tree.query(shape, predicate="intersects")
            if earlier[i].first_seen == alert.first_seen and earlier[i].from_code == alert.from_code
        ]
        best = next(
            (name for overlap, name in sorted(near) if overlap < 0 and name not in taken), alert.id
        )
        while best in taken:  # its own name was inherited by another part
            best = hashlib.sha256(best.encode()).hexdigest()[:16]
        taken.add(best)
        named.append(replace(alert, id=best))
    return named


def _feature(alert: Alert) -> dict[str, Any]:
    names = (
        "region", "from_code", "to_code", "first_seen", "last_seen", "status", "area_ha", "confidence",
    )  # fmt: skip
    return {
        "type": "Feature",
        "id": alert.id,
        "geometry": json.loads(alert.geometry),
        "properties": {name: getattr(alert, name) for name in names},
    }
