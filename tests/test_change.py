"""Change between two maps: rasters, polygons, tables, and what the guards take out."""

import hashlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter

from landcover.area import pixel_areas
from landcover.errors import LandcoverError, LegendError, RasterError, SettingsError
from landcover.legend import LandClass, Legend
from landcover.simulation import LEGEND
from pipeline.change import ChangeSettings, change, change_lines
from pipeline.cog import CogProfile, open_cog
from pipeline.summarize import summarize
from pipeline.value_legend import named_legend
from tests.command import landcover

GRID = GeoBox((96, 120), Affine(10, 0, 600_000, 0, -10, 5_200_000), "EPSG:32633")
OFF = ChangeSettings(off=("season", "plausibility", "border", "confidence", "spectral", "area"))
BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")


def classes(seed: int, shape: tuple[int, int] = (96, 120)) -> np.ndarray:
    """Smooth patches of the demo's eight classes, with a corner of nodata."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 5)
    codes = np.digitize(field, np.quantile(field, np.linspace(0, 1, 9)[1:-1])) + 1
    codes[:10, :14] = 0
    return codes.astype(np.uint8)


def write_map(
    folder: Path,
    codes: np.ndarray,
    *,
    grid: GeoBox = GRID,
    legend: Legend = LEGEND,
    sure: np.ndarray | None = None,
    image: np.ndarray | None = None,
    day: int | np.ndarray = 19_000,
    period: str | None = None,
) -> Path:
    """A folder as a run leaves it."""
    tags = {"LEGEND": json.dumps(legend.to_records())}
    with open_cog(folder / "classes.tif", grid, CogProfile("uint8", ["class"], "mode", legend.colormap(), tags)) as cog:  # fmt: skip
        cog.write(codes[None])
    if sure is not None:
        with open_cog(folder / "confidence.tif", grid, CogProfile("uint8", ["confidence"])) as cog:
            cog.write(sure.astype(np.uint8)[None])
    if image is not None:
        extra = np.where(codes > 0, [np.full(codes.shape, 3), np.full(codes.shape, day)], 0)
        names = [*BANDS, "observations", "day"]
        with open_cog(folder / "composite.tif", grid, CogProfile("uint16", names)) as cog:
            cog.write(np.concatenate([image, extra]).astype(np.uint16))
    if period:
        (folder / "run.json").write_text(json.dumps({"period": period}))
    return folder


def image_of(codes: np.ndarray, seed: int) -> np.ndarray:
    """Reflectance by class with noise, (6, rows, cols); 0 where there is no class."""
    levels = np.random.default_rng(42).integers(400, 4500, (6, 9))
    noise = np.random.default_rng(seed).standard_normal((6, *codes.shape)) * 60
    return np.where(codes > 0, np.clip(levels[:, codes] + noise, 1, None), 0)


def town(codes: np.ndarray) -> np.ndarray:
    """The same with a block of 30 x 40 pixels built up."""
    new = codes.copy()
    new[40:70, 50:90] = 8
    return new


def pair(folder: Path, **later: Any) -> tuple[Path, Path]:
    """Two maps of one place, with images and confidence, the second with a new town."""
    before = classes(1)
    sure = np.where(before > 0, 90, 0)
    first = write_map(folder / "a", before, sure=sure, image=image_of(before, 5), period="2020-06-01/2020-08-31")  # fmt: skip
    after = town(before)
    known: dict[str, Any] = {"sure": sure, "image": image_of(after, 6), "day": 19_731, "period": "2024-06-01/2024-08-31"}  # fmt: skip
    return first, write_map(folder / "b", after, **(known | later))


def run(before: Path, after: Path, output: Path, **options: Any) -> dict[str, Any]:
    """The record of a comparison."""
    return change(before=before, after=after, output=output, report=lambda _: None, **options)


def read(path: Path) -> np.ndarray:
    """First band."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def rows(path: Path, layer: str) -> list[dict[str, Any]]:
    """A table of a GeoPackage."""
    return pyogrio.read_arrow(path, layer=layer)[1].to_pylist()


def test_a_map_against_itself_has_no_change(tmp_path: Path):
    """Nothing by any guard, no polygon, no surface; all of it stays."""
    first, _ = pair(tmp_path)
    facts = run(first, first, tmp_path / "out")
    assert facts["raw_change_ha"] == facts["counted_change_ha"] == facts["surface_ha"] == 0
    assert facts["mapped_ha"] == pytest.approx(sum(c["persistence_ha"] for c in facts["classes"]))
    codes = classes(1).astype(np.uint16)
    assert np.array_equal(read(tmp_path / "out/change.tif"), codes * 257)
    assert rows(tmp_path / "out/change.gpkg", "changes") == []


def test_margins_are_both_area_tables_and_swapping_transposes(tmp_path: Path):
    """To 1e-9 relative, with both maps' own hectares as `summarize` counts them."""
    first = write_map(tmp_path / "a", classes(1))
    second = write_map(tmp_path / "b", classes(2))
    facts = run(first, second, tmp_path / "out", settings=OFF)
    for side, folder in (("before_ha", first), ("after_ha", second)):
        table = summarize(classes=folder / "classes.tif", output=tmp_path / "areas.csv")["rows"]
        expected = [row["area_ha"] for row in table]
        assert [c[side] for c in facts["classes"]] == pytest.approx(expected, rel=1e-9)
    turned = run(second, first, tmp_path / "back", settings=OFF)
    there = {(r["from"], r["to"]): (r["area_ha"], r["counted_ha"]) for r in facts["transitions"]}
    back = {(r["to"], r["from"]): (r["area_ha"], r["counted_ha"]) for r in turned["transitions"]}
    assert there == back
    assert facts["raw_change_ha"] == facts["counted_change_ha"] > 0
    before, after = classes(1).astype(np.uint16), classes(2).astype(np.uint16)
    assert np.array_equal(read(tmp_path / "out/change.tif"), before * 256 + after)


def test_swapping_transposes_after_the_guards_too(tmp_path: Path):
    """All but plausibility, which knows a direction, treat both dates alike."""
    first, second = pair(tmp_path)
    settings = ChangeSettings(off=("plausibility",), min_confidence=50)
    there = run(first, second, tmp_path / "out", settings=settings)
    back = run(second, first, tmp_path / "back", settings=settings)
    counted = {(r["from"], r["to"]): r["counted_ha"] for r in there["transitions"] if r["from"] != r["to"]}  # fmt: skip
    assert counted == {(r["to"], r["from"]): r["counted_ha"] for r in back["transitions"] if r["from"] != r["to"]}  # fmt: skip
    assert sum(counted.values()) > 5


def test_the_new_town_is_found(tmp_path: Path):
    """Its pixels, hectares, group, confidence, first day; nothing else; the guards' hectares add up."""
    first, second = pair(tmp_path)
    facts = run(first, second, tmp_path / "out", raw=True)
    before = classes(1)
    new = np.zeros(before.shape, np.bool_)
    new[40:70, 50:90] = before[40:70, 50:90] != 8
    pairs = read(tmp_path / "out/change.tif")
    found = pairs // 256 != pairs % 256
    assert (found & ~new).sum() == 0
    assert (found & new).sum() > 0.97 * new.sum()
    raw = read(tmp_path / "out/change_raw.tif")
    assert np.array_equal(raw // 256 != raw % 256, new)
    assert facts["raw_change_ha"] == pytest.approx(pixel_areas(GRID)[new].sum() / 1e4, rel=1e-9)
    left = facts["raw_change_ha"]
    for row in facts["guards"][1:]:
        left -= row["taken_ha"]
        assert row["left_ha"] == pytest.approx(left)
    assert left == pytest.approx(facts["counted_change_ha"])
    polygons = gpd.read_file(tmp_path / "out/change.gpkg", layer="changes")
    growth = polygons[polygons["from"] != polygons["to"]]
    assert set(growth["group"]) == {"Urban growth"}
    assert set(growth["to"]) == {"Built-up"}
    assert set(growth.first_seen) == {"2024-08-31"}
    assert set(growth.status) == {"candidate"}
    assert growth.area_ha.sum() == pytest.approx(facts["counted_change_ha"], rel=1e-9)
    assert growth.confidence.between(60, 82).all()
    sure = read(tmp_path / "out/change_confidence.tif")
    assert np.array_equal(sure > 0, before > 0)


def test_the_geopackage_is_styled_by_group(tmp_path: Path):
    """The style of the layer lists the groups that occur; the tables are those of the record."""
    first, second = pair(tmp_path)
    facts = run(first, second, tmp_path / "out")
    path = tmp_path / "out/change.gpkg"
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT f_table_name, styleQML, useAsDefault FROM layer_styles").fetchall()  # fmt: skip
    assert [(line[0], line[2]) for line in found] == [("changes", 1)]
    assert 'attr="group_code"' in found[0][1]
    assert 'label="Urban growth"' in found[0][1]
    assert rows(path, "transitions") == facts["transitions"]
    assert rows(path, "classes") == facts["classes"]
    assert rows(path, "guards") == facts["guards"]
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "<svg" in page
    assert "<script" not in page


def digests(folder: Path) -> dict[str, str]:
    """Hash of each file."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("strip_rows", [7, 32, 500])
def test_no_byte_depends_on_how_the_maps_are_read(tmp_path: Path, strip_rows: int):
    """Strips of any height, with all guards, merging, and a second map on a grid of its own."""
    first, _ = pair(tmp_path)
    codes = classes(2)
    other = GeoBox((96, 120), GRID.affine * Affine.translation(2.4, -1.7), GRID.crs)
    second = write_map(tmp_path / "c", codes, grid=other, sure=np.where(codes > 0, 80, 0), image=image_of(codes, 7))  # fmt: skip
    settings = ChangeSettings(min_area=0.15)
    run(first, second, tmp_path / "one", settings=settings, raw=True)
    run(first, second, tmp_path / "two", settings=settings, raw=True, strip_rows=strip_rows)
    found = digests(tmp_path / "two")
    assert found == digests(tmp_path / "one")
    assert not [name for name in found if name.startswith(".")]
    assert str(tmp_path) not in (tmp_path / "one/change.json").read_text()


def test_small_patches_go_into_what_lies_around_them(tmp_path: Path):
    """A speck of change into unchanged land; an unchanged speck within a change stays unchanged."""
    before = np.full((96, 120), 5, np.uint8)
    after = before.copy()
    after[20:40, 20:40], after[30, 30], after[70, 70] = 8, 5, 8
    first, second = write_map(tmp_path / "a", before), write_map(tmp_path / "b", after)
    facts = run(first, second, tmp_path / "out", settings=replace(OFF, min_area=0.05, off=OFF.off[:-1]))  # fmt: skip
    pairs = read(tmp_path / "out/change.tif")
    assert pairs[70, 70] == 5 * 257
    assert pairs[30, 30] == 5 * 257
    assert (pairs == 5 * 256 + 8).sum() == 399
    area = facts["guards"][-1]
    assert area["guard"] == "area"
    assert area["taken_ha"] == pytest.approx(0.01, rel=1e-2)
    assert rows(tmp_path / "out/change.gpkg", "changes")[0]["pixels"] == 399


def test_other_seasons_are_told_and_seasonal_pairs_not_counted(tmp_path: Path):
    """Crops to bare ground half a year apart; in one season they count."""
    before = np.full((96, 120), 5, np.uint8)
    after = before.copy()
    after[20:60, 20:60] = 7
    images = [image_of(codes, n) for n, codes in enumerate((before, after))]
    first = write_map(tmp_path / "a", before, image=images[0], day=19_000)
    for name, day, is_counted in (("b", 19_180, False), ("c", 19_370, True)):
        second = write_map(tmp_path / name, after, image=images[1], day=day)
        facts = run(first, second, tmp_path / f"out-{name}")
        assert (facts["counted_change_ha"] > 15) == is_counted
        assert (facts["guards"][1]["taken_ha"] > 15) == (not is_counted)
        warned = [line for line in change_lines(facts) if line.startswith("Warning: the images are of other")]  # fmt: skip
        assert bool(warned) == (not is_counted)


def test_a_season_that_holds_new_year_is_one(tmp_path: Path):
    """Both winters show 20 December and 10 February, 45 to 55 % and the other way round: 5 days apart, not 52."""
    before = np.full((96, 120), 5, np.uint8)
    after = before.copy()
    after[20:60, 20:60] = 7
    maps = []
    for name, codes, share, days in (("a", before, 0.45, (19_346, 19_398)), ("b", after, 0.55, (19_711, 19_763))):  # fmt: skip
        day = np.where(np.arange(120) < 120 * share, *days) * np.ones((96, 1), int)
        maps.append(write_map(tmp_path / name, codes, image=image_of(codes, days[0]), day=day))
    facts = run(*maps, tmp_path / "out")
    assert facts["days_apart"] == pytest.approx(5.225, abs=1e-6)
    assert facts["guards"][1]["taken_ha"] == 0
    assert facts["guards"][1]["setting"] == "5 days of year apart, tolerance 45"
    assert facts["counted_change_ha"] > 15
    assert not any(line.startswith("Warning") for line in change_lines(facts))


def test_a_flip_without_spectral_change_is_not_counted(tmp_path: Path):
    """The second map calls a block built-up, but its image shows the same ground."""
    before = classes(1)
    first, second = pair(tmp_path, image=image_of(before, 6))
    facts = run(first, second, tmp_path / "out")
    taken = {row["guard"]: row["taken_ha"] for row in facts["guards"]}
    assert taken["spectral"] > 0.95 * facts["raw_change_ha"]
    assert facts["counted_change_ha"] < 0.02 * facts["raw_change_ha"]
    without = run(first, second, tmp_path / "off", settings=ChangeSettings(off=("spectral",)))
    assert without["counted_change_ha"] == pytest.approx(without["raw_change_ha"], rel=0.02)
    assert without["guards"][5]["setting"] == "switched off"


def test_bare_class_rasters_will_do(tmp_path: Path):
    """Two files: no evidence, and it is said; what an earlier comparison left is gone."""
    first, second = pair(tmp_path)
    run(first, second, tmp_path / "out", raw=True)
    facts = run(first / "classes.tif", second / "classes.tif", tmp_path / "out")
    assert facts["spectral"] is None
    assert any("no image confirms" in line for line in change_lines(facts))
    assert not (tmp_path / "out/spectral.tif").exists()
    assert not (tmp_path / "out/change_raw.tif").exists()
    assert facts["counted_change_ha"] > 5
    assert rows(tmp_path / "out/change.gpkg", "changes")[0]["first_seen"] is None


def test_other_grids_are_aligned_and_said_so(tmp_path: Path):
    """The second map 20 pixels to the east: what both show is compared, the rest is nodata."""
    before = np.full((96, 120), 2, np.uint8)
    first = write_map(tmp_path / "a", before)
    east = GeoBox((96, 120), GRID.affine * Affine.translation(20, 0), GRID.crs)
    after = before.copy()
    after[:, :30] = 1
    second = write_map(tmp_path / "b", after, grid=east)
    facts = run(first, second, tmp_path / "out", settings=OFF)
    pairs = read(tmp_path / "out/change.tif")
    assert (pairs[:, :20] == 0).all()
    assert (pairs[:, 20:50] == 2 * 256 + 1).all()
    assert (pairs[:, 50:] == 2 * 257).all()
    assert "nearest" in facts["grid"]
    assert any("the grids differ" in line for line in change_lines(facts))
    assert "different grids" in (tmp_path / "out/report.html").read_text()


def test_a_table_of_transitions_is_not_written_over(tmp_path: Path):
    """A table called transitions.csv in the folder of the output is refused before anything is done."""
    with pytest.raises(SettingsError, match="is both the transitions and the table of changes"):
        run(
            tmp_path / "a", tmp_path / "b", tmp_path / "out",
            settings=replace(OFF, table=tmp_path / "out/transitions.csv"),
        )  # fmt: skip


def test_other_legends_go_through_a_crosswalk(tmp_path: Path):
    """Without one they are refused; with one the second map is read in the first's classes."""
    before = np.full((96, 120), 2, np.uint8)
    first = write_map(tmp_path / "a", before)
    theirs = Legend((LandClass(10, "Woods", "#00aa00"), LandClass(50, "Towns", "#aa0000"), LandClass(60, "Fog", "#999999")))  # fmt: skip
    after = np.full((96, 120), 10, np.uint8)
    after[:20], after[20:30] = 50, 60
    second = write_map(tmp_path / "b", after, legend=theirs)
    with pytest.raises(LegendError, match=r"has other classes \(10 Woods, .* --crosswalk"):
        run(first, second, tmp_path / "out")
    table = tmp_path / "steps.csv"
    head = "from_code,from_name,to_code,to_name,lossy,note\n"
    woods, towns, fog = "10,Woods,2,Tree cover,no,\n", "50,Towns,8,Built-up,no,\n", "60,Fog,,,no,\n"
    table.write_text("# to ours\n" + head + woods + towns + fog)
    facts = run(first, second, tmp_path / "out", settings=OFF, crosswalk=str(table))
    pairs = read(tmp_path / "out/change.tif")
    assert (pairs[:20] == 2 * 256 + 8).all()
    assert (pairs[20:30] == 0).all()
    assert (pairs[30:] == 2 * 257).all()
    assert facts["transitions"][1]["to"] == "Built-up"
    for text, said in (
        (head + woods, "has no row for"),
        (head + woods + "50,Towns,99,Moon,no,\n" + fog, "leads to the class 99 Moon"),
        (head + woods + "50,Towns,8,Moon,no,\n" + fog, "leads to the class 8 Moon"),
    ):
        table.write_text(text)
        with pytest.raises(LegendError, match=said):
            run(first, second, tmp_path / "out2", crosswalk=str(table))


def test_a_shipped_crosswalk_is_known_by_name(tmp_path: Path):
    """A WorldCover raster after a map of the demo model."""
    first = write_map(tmp_path / "a", np.full((96, 120), 2, np.uint8))
    theirs = np.full((1, 96, 120), 10, np.uint8)
    theirs[:, :20] = 50
    with open_cog(tmp_path / "wc.tif", GRID, CogProfile("uint8", ["class"])) as cog:
        cog.write(theirs)
    facts = run(
        first, tmp_path / "wc.tif", tmp_path / "out", settings=OFF, legend_after="worldcover",
        crosswalk="demo",
    )  # fmt: skip
    assert (facts["transitions"][1]["from"], facts["transitions"][1]["to"]) == ("Tree cover", "Built-up")  # fmt: skip


def test_codes_beyond_a_byte_are_compared_to_the_end(tmp_path: Path):
    """CORINE after a map of ours: woods (311) and towns (112), with a picture of both maps in the report."""
    first = write_map(tmp_path / "a", np.full((96, 120), 2, np.uint8))
    theirs = np.full((1, 96, 120), 311, np.uint16)
    theirs[:, :20] = 112
    with open_cog(tmp_path / "clc.tif", GRID, CogProfile("uint16", ["class"])) as cog:
        cog.write(theirs)
    names = {c.code: c.name for c in named_legend("corine").legend.classes}
    steps = [f'{code},"{name}",8,Built-up,yes,' if code == 112 else f'{code},"{name}",2,Tree cover,yes,' for code, name in names.items()]  # fmt: skip
    table = tmp_path / "steps.csv"
    table.write_text("\n".join(["from_code,from_name,to_code,to_name,lossy,note", *steps]))
    facts = run(
        first, tmp_path / "clc.tif", tmp_path / "out", settings=OFF, legend_after="corine", crosswalk=str(table),
    )  # fmt: skip
    assert facts["counted_change_ha"] == pytest.approx(24, rel=0.01)
    assert (tmp_path / "out/change.json").is_file()
    assert (tmp_path / "out/report.html").read_text().count("data:image/png") == 3


def test_what_a_mask_hides_is_compared_nowhere(tmp_path: Path):
    """The second raster hides 20 columns, with a value that no legend has; the picture of it is drawn too."""
    first = write_map(tmp_path / "a", np.full((96, 120), 2, np.uint8))
    after, shown = np.full((96, 120), 2, np.uint8), np.ones((96, 120), np.bool_)
    after[:, :20], shown[:, :20] = 99, False
    profile = {"driver": "GTiff", "width": 120, "height": 96, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "m.tif", "w", **profile, crs=str(GRID.crs), transform=GRID.affine) as dataset:  # fmt: skip
        dataset.write(after, 1)
        dataset.write_mask(shown)
        dataset.update_tags(LEGEND=json.dumps(LEGEND.to_records()))
    facts = run(first, tmp_path / "m.tif", tmp_path / "out", settings=OFF)
    assert facts["raw_change_ha"] == 0
    assert np.array_equal(read(tmp_path / "out/change.tif") > 0, shown)


def test_what_a_killed_comparison_left_is_removed(tmp_path: Path):
    """The raster that is merged, which is written under a temporary name only."""
    first, _ = pair(tmp_path)
    left = tmp_path / f"out/.partial-{2**22 + 1}-merge.tif"
    left.parent.mkdir()
    left.touch()
    run(first / "classes.tif", first / "classes.tif", tmp_path / "out")
    assert not list((tmp_path / "out").glob(".partial*"))


def test_what_cannot_be_compared_is_refused_in_a_sentence(tmp_path: Path):
    """No map, no common pixel, its own folder, settings that cannot be; nothing is left behind."""
    first, second = pair(tmp_path)
    far = GeoBox((96, 120), GRID.affine * Affine.translation(5000, 0), GRID.crs)
    away = write_map(tmp_path / "far", classes(2), grid=far)
    cases: list[tuple[type[LandcoverError], str, dict[str, Any]]] = [
        (RasterError, "holds no classes.tif", {"before": tmp_path}),
        (RasterError, "share no pixel", {"after": away}),
        (SettingsError, "folder of its own", {"output": first}),
        (RasterError, "nothing.tif", {"after": tmp_path / "nothing.tif"}),
        (SettingsError, "rows of a strip are 0", {"strip_rows": 0}),
        (LegendError, "neither one of", {"legend": "no-such-legend"}),
    ]
    for kind, said, given in cases:
        asked = {"before": first, "after": second, "output": tmp_path / "out"} | given
        with pytest.raises(kind, match=said):
            change(**asked, report=lambda _: None)
    with pytest.raises(SettingsError, match="no guard 'clouds'"):
        ChangeSettings(off=("clouds",))
    with pytest.raises(SettingsError, match="minimum confidence 101 %"):
        ChangeSettings(min_confidence=101)
    assert not list(tmp_path.rglob(".partial*"))


def test_codes_that_cannot_be_used_are_named_with_their_file(tmp_path: Path):
    """A value that the legend lacks, and a legend whose codes make no pair of bytes."""
    codes = np.full((96, 120), 2, np.uint8)
    first = write_map(tmp_path / "a", codes)
    codes[50, 50] = 77
    second = write_map(tmp_path / "b", codes)
    with pytest.raises(RasterError, match=r"^[^:]*b/classes.tif: The class raster holds the codes \[77\]"):  # fmt: skip
        run(first, second, tmp_path / "out")
    large = Legend((LandClass(300, "Wood", "#00ff00"),))
    third = write_map(tmp_path / "c", np.zeros((96, 120), np.uint8), legend=large)
    with pytest.raises(LegendError, match=r"^[^:]*c/classes.tif: The legend has the class codes \[300\]"):  # fmt: skip
        run(third, third, tmp_path / "out")


def test_hostile_names_stay_text(tmp_path: Path):
    """Class names with markup and formulas, a period that is none, a run.json that is a list."""
    odd = Legend((LandClass(1, "<script>alert(1)</script>", "#111111"), LandClass(2, "=1+1", "#222222")))  # fmt: skip
    before = np.full((96, 120), 1, np.uint8)
    after = before.copy()
    after[:40] = 2
    first = write_map(tmp_path / "a", before, legend=odd)
    second = write_map(tmp_path / "b", after, legend=odd)
    (first / "run.json").write_text("[1]")
    (second / "run.json").write_text(json.dumps({"period": "<b>", "model": "x"}))
    run(first, second, tmp_path / "out", settings=OFF)
    assert "<script>" not in (tmp_path / "out/report.html").read_text()
    table = (tmp_path / "out/transitions.csv").read_text()
    assert "'=1+1" in table
    assert ",=1+1" not in table


def test_the_command_line(tmp_path: Path):
    """It says what each guard took and where things are; an unknown guard is one sentence."""
    first, second = pair(tmp_path)
    result = landcover("change", first, second, "-o", tmp_path / "out", "--min-area", "0.1", "--no-guard", "border")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "border: 0.00 ha taken out (switched off)" in result.stdout
    assert "Change that counts:" in result.stdout
    assert (tmp_path / "out/change.gpkg").is_file()
    bad = landcover("change", first, second, "-o", tmp_path / "bad", "--no-guard", "clouds")
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: There is no guard 'clouds'")
    assert not (tmp_path / "bad").exists()


def chances(codes: np.ndarray, sure: float) -> np.ndarray:
    """Probabilities, 1 + 254 p: so much for the class of the map, the rest evenly for the others."""
    count = len(LEGEND.classes)
    share = np.full((count, *codes.shape), (1 - sure) / (count - 1))
    for band, code in enumerate(LEGEND.codes):
        share[band][codes == code] = sure
    return np.where(codes > 0, np.rint(1 + 254 * share), 0).astype(np.uint8)


def write_chances(
    folder: Path, values: np.ndarray, grid: GeoBox = GRID, legend: Legend = LEGEND
) -> None:
    """As `landcover segment --probabilities` writes them."""
    names = [f"{c.code} {c.name}" for c in legend.classes]
    with open_cog(folder / "probabilities.tif", grid, CogProfile("uint8", names)) as cog:
        cog.write(values)


def sure_pair(folder: Path, sure: float) -> tuple[Path, Path]:
    """Two maps with a new town and probabilities of all classes, without images."""
    before = classes(1)
    maps = []
    for name, codes in (("a", before), ("b", town(before))):
        maps.append(write_map(folder / name, codes, sure=np.where(codes > 0, 100 * sure, 0)))
        write_chances(folder / name, chances(codes, sure))
    return maps[0], maps[1]


@pytest.mark.parametrize(("joint", "percent"), [("changed", 90), ("transition", 25)])
def test_probabilities_tell_how_sure_a_change_is(tmp_path: Path, joint: str, percent: int):
    """Each class at 0.5: that it changed 1 - 2 x 0.5 x 0.0714 - 6 x 0.0714^2 = 0.898, that very transition 0.25."""
    first, second = sure_pair(tmp_path, 0.5)
    facts = run(
        first, second, tmp_path / "out", settings=ChangeSettings(joint=joint, off=("border",))
    )
    assert facts["joint_confidence"] == joint
    assert "both probability maps" in facts["guards"][4]["setting"]
    new = read(tmp_path / "out/change.tif")
    percents = read(tmp_path / "out/change_confidence.tif")[new // 256 != new % 256]
    assert len(percents)
    assert set(percents.tolist()) == {percent}


def test_without_probabilities_on_both_sides_the_confidences_are_multiplied(tmp_path: Path):
    """One side alone says nothing; it is recorded which was used."""
    first, second = sure_pair(tmp_path, 0.6)
    (second / "probabilities.tif").unlink()
    facts = run(first, second, tmp_path / "out", settings=ChangeSettings(off=("border",)))
    assert facts["joint_confidence"] == "confidences"
    assert "product of both confidences" in facts["guards"][4]["setting"]
    new = read(tmp_path / "out/change.tif")
    assert set(read(tmp_path / "out/change_confidence.tif")[new // 256 != new % 256].tolist()) == {
        36
    }


@pytest.mark.parametrize("joint", ["changed", "transition"])
def test_probabilities_of_one_map_twice_give_no_change_and_cutting_changes_no_byte(
    tmp_path: Path, joint: str
):
    """Identity, and strips of seven rows with a second map on a grid of its own."""
    first, _ = sure_pair(tmp_path, 0.4)
    settings = ChangeSettings(joint=joint, min_confidence=15, off=("border", "plausibility"))
    facts = run(first, first, tmp_path / "same", settings=settings)
    assert facts["raw_change_ha"] == facts["counted_change_ha"] == 0
    codes, other = (
        classes(2),
        GeoBox((96, 120), GRID.affine * Affine.translation(2.4, -1.7), GRID.crs),
    )
    second = write_map(tmp_path / "c", codes, grid=other, sure=np.where(codes > 0, 80, 0))
    write_chances(second, chances(codes, 0.7), other)
    run(first, second, tmp_path / "one", settings=settings)
    run(first, second, tmp_path / "two", settings=settings, strip_rows=7)
    assert digests(tmp_path / "two") == digests(tmp_path / "one")


def test_probabilities_go_through_the_crosswalk(tmp_path: Path):
    """Two of their classes are one of ours: their probabilities are added up, what leads nowhere is left out."""
    before = np.full((96, 120), 2, np.uint8)
    first = write_map(tmp_path / "a", before)
    write_chances(first, chances(before, 1.0))
    theirs = Legend((LandClass(10, "Oak", "#00aa00"), LandClass(11, "Pine", "#00bb00"), LandClass(50, "Towns", "#aa0000")))  # fmt: skip
    after = np.full((96, 120), 50, np.uint8)
    second = write_map(tmp_path / "b", after, legend=theirs)
    parts = np.array([0.2, 0.2, 0.6])[:, None, None] * np.ones(after.shape)
    write_chances(second, np.rint(1 + 254 * parts).astype(np.uint8), legend=theirs)
    table = tmp_path / "steps.csv"
    table.write_text(
        "from_code,from_name,to_code,to_name,lossy,note\n10,Oak,2,Tree cover,no,\n11,Pine,2,Tree cover,no,\n"
        "50,Towns,8,Built-up,no,\n"
    )
    run(first, second, tmp_path / "out", crosswalk=str(table))
    assert set(np.unique(read(tmp_path / "out/change_confidence.tif"))) == {60}


def test_probabilities_of_something_else_are_refused(tmp_path: Path):
    """Of other classes: the sentence says how to make them."""
    first, second = sure_pair(tmp_path, 0.9)
    other = Legend(tuple(LandClass(c.code + 20, c.name, c.color) for c in LEGEND.classes))
    write_chances(second, chances(classes(1), 0.9), legend=other)
    with pytest.raises(RasterError, match=r"b/probabilities.tif is no probability raster of .* by --probabilities"):  # fmt: skip
        run(first, second, tmp_path / "out")


def test_evidence_by_multivariate_alteration(tmp_path: Path):
    """The new town is found, a flip without spectral change is not, and nothing in a map against itself."""
    first, second = pair(tmp_path)
    settings = ChangeSettings(evidence="mad")
    facts = run(first, second, tmp_path / "out", settings=settings)
    new = read(tmp_path / "out/change.tif")
    before = classes(1)
    truth = np.zeros(before.shape, np.bool_)
    truth[40:70, 50:90] = before[40:70, 50:90] != 8
    assert (new // 256 != new % 256)[truth].mean() > 0.9
    assert "multivariate alteration" in facts["guards"][5]["setting"]
    assert len(facts["spectral"]["correlations"]) == 6
    flipped = write_map(tmp_path / "c", town(before), image=image_of(before, 6), day=19_731)
    facts = run(first, flipped, tmp_path / "flip", settings=settings)
    assert facts["counted_change_ha"] < 0.02 * facts["raw_change_ha"]
    facts = run(first, first, tmp_path / "same", settings=settings)
    assert facts["counted_change_ha"] == facts["surface_ha"] == 0


def test_no_evidence_asked_for(tmp_path: Path):
    """Nothing is taken out by the images, and it is said."""
    first, second = pair(tmp_path)
    facts = run(first, second, tmp_path / "out", settings=ChangeSettings(evidence="none"))
    assert facts["spectral"] is None
    assert not (tmp_path / "out/spectral.tif").exists()
    assert facts["guards"][5]["setting"] == "no evidence asked for"
    assert any("no image evidence was asked for" in line for line in change_lines(facts))


@pytest.mark.parametrize(("name", "words"), [("evidence", "The evidence 'x'"), ("joint", "The joint confidence 'x'")])  # fmt: skip
def test_settings_that_are_none(name: str, words: str):
    """The sentence lists those that there are."""
    with pytest.raises(SettingsError, match=f"{words} is not one of "):
        ChangeSettings(**{name: "x"})


@pytest.mark.parametrize(
    ("joint", "least", "counts"),
    [("changed", None, False), ("changed", 50.0, True), ("transition", None, True), ("transition", 40.0, False)],
)  # fmt: skip
def test_how_sure_a_change_must_be(tmp_path: Path, joint: str, least: float | None, counts: bool):
    """Two classes at 0.6 and 0.4 that swap: changed by 52 %, that very transition 36 %; 80 and 25 are asked for."""
    codes = np.full((96, 120), 5, np.uint8)
    for name, code, other in (("a", 5, 7), ("b", 7, 5)):
        write_map(tmp_path / name, np.full_like(codes, code))
        steps = np.ones((len(LEGEND.classes), *codes.shape), np.uint8)
        steps[LEGEND.codes.index(code)], steps[LEGEND.codes.index(other)] = 153, 103
        write_chances(tmp_path / name, steps)
    settings = ChangeSettings(
        joint=joint, min_confidence=least, off=("border", "season", "plausibility")
    )
    facts = run(tmp_path / "a", tmp_path / "b", tmp_path / "out", settings=settings)
    assert (facts["counted_change_ha"] == facts["raw_change_ha"]) == counts
    assert set(np.unique(read(tmp_path / "out/change_confidence.tif"))) == {
        52 if joint == "changed" else 36
    }
