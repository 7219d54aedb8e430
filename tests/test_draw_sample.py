"""Drawing pixels to label from a class raster, on files."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rich.console import Console

from landcover.area import pixel_areas
from landcover.errors import LandcoverError, RasterError, SampleError, SettingsError
from landcover.legend import LandClass, Legend
from pipeline.cog import CogProfile, open_cog
from pipeline.draw_sample import design_table, draw_sample
from pipeline.summarize import summarize
from tests.command import landcover
from tests.run_folder import GRID, LEGEND, class_codes, write_classes
from tests.sample_labels import label, rows


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Water 1200, trees 1500, crops 1900 pixels, 200 without data; built-up is nowhere."""
    write_classes(tmp_path / "classes.tif", class_codes(), LEGEND)
    return tmp_path / "classes.tif"


def strata_raster(path: Path, codes: Any, grid: GeoBox = GRID) -> Path:
    """A raster of strata without a legend."""
    with open_cog(path, grid, CogProfile("uint8", ["stratum"], "mode")) as out:
        out.write(np.asarray(codes, np.uint8)[None])
    return path


def test_the_sample_holds_what_was_asked_for(classes: Path, tmp_path: Path) -> None:
    """100 pixels by area, 30 of each class at least; each in its class, none twice, none nodata."""
    output = tmp_path / "sample.gpkg"
    details = draw_sample(classes=classes, output=output, size=100, minimum=30)
    # By area 26.1, 32.6 and 41.3 of 100; water gets its 30, the rest is shared as 15 to 19.
    assert [s["sampled"] for s in details["strata"]] == [30, 31, 39]
    assert [s["name"] for s in details["strata"]] == ["Water", "Tree cover", "Cropland"]
    units = rows(output, "units")
    places = [~GRID.affine * (u["x"], u["y"]) for u in units]
    codes, areas = class_codes(), pixel_areas(GRID)
    assert len({(round(c, 3), round(r, 3)) for c, r in places}) == 100
    for unit, (col, row) in zip(units, places, strict=True):
        assert (col % 1, row % 1) == (pytest.approx(0.5), pytest.approx(0.5))
        assert codes[int(row), int(col)] == unit["class_code"] != 0
        assert areas[int(row), int(col)] == pytest.approx(unit["area_m2"])
        assert details["strata"][unit["stratum"] - 1]["name"] == LEGEND[unit["class_code"]].name
    assert [u["id"] for u in units] == list(range(1, 101))


def test_the_labeller_sees_neither_stratum_nor_class(classes: Path, tmp_path: Path) -> None:
    """The layer to label has the pixel, empty labels and links; its order tells nothing either."""
    output = tmp_path / "sample.gpkg"
    draw_sample(classes=classes, output=output, size=100, minimum=30)
    points = rows(output, "sample")
    assert set(points[0]) == {
        "fid", "geom", "id", "reference", "confidence", "note", "street_map", "aerial", "satellite",
    }  # fmt: skip
    assert {p["reference"] for p in points} == {None}
    strata = [u["stratum"] for u in rows(output, "units")]
    assert 40 < sum(a != b for a, b in itertools.pairwise(strata)) < 90
    assert "mlat=46." in points[0]["street_map"]
    assert "mlon=-1." in points[0]["street_map"]


def test_the_design_is_recorded(classes: Path, tmp_path: Path) -> None:
    """Strata with pixels and hectares as `summarize` has them, seed, map and its hash; no path."""
    output = tmp_path / "sample.gpkg"
    draw_sample(classes=classes, output=output, size=100, seed=7)
    areas = summarize(classes=classes, output=tmp_path / "areas.csv")["rows"]
    assert [c["mapped_ha"] for c in rows(output, "classes")] == [a["area_ha"] for a in areas]
    design = rows(output, "design")
    assert [(d["pixels"], d["sampled"]) for d in design] == [(1200, 50), (1500, 50), (1900, 50)]
    settings = {s["name"]: s["value"] for s in rows(output, "settings")}
    assert settings["seed"] == "7"
    assert settings["map"] == "classes.tif"
    assert len(settings["map_sha256"]) == 64
    assert str(tmp_path).encode() not in output.read_bytes()


def test_equal_seeds_give_equal_bytes_in_strips_of_any_height(
    classes: Path, tmp_path: Path
) -> None:
    """One, seven or all rows at a time: the same file; another seed, other pixels."""
    made = {}
    for name, options in {
        "one": {"strip_rows": 1}, "seven": {"strip_rows": 7}, "all": {}, "other": {"seed": 2},
    }.items():  # fmt: skip
        output = tmp_path / name / "sample.gpkg"
        draw_sample(classes=classes, output=output, size=100, **options)
        made[name] = output
    assert made["one"].read_bytes() == made["seven"].read_bytes() == made["all"].read_bytes()
    one, other = (
        {(u["x"], u["y"]) for u in rows(made[name], "units")} for name in ("one", "other")
    )
    assert len(one & other) < 30


def test_strata_of_another_raster(classes: Path, tmp_path: Path) -> None:
    """Left and right half as strata; crossed with the classes they are six."""
    halves = np.where(np.arange(80) < 30, 4, 9) * np.ones((60, 1), int)
    strata = strata_raster(tmp_path / "strata.tif", halves)
    output = tmp_path / "sample.gpkg"
    details = draw_sample(classes=classes, output=output, strata=strata, size=60, minimum=10)
    assert [s["name"] for s in details["strata"]] == ["stratum 4", "stratum 9"]
    assert [s["pixels"] for s in details["strata"]] == [1800, 2800]
    for unit in rows(output, "units"):
        col, row = ~GRID.affine * (unit["x"], unit["y"])
        assert halves[int(row), int(col)] == (4, 9)[unit["stratum"] - 1]
    details = draw_sample(
        classes=classes, output=output, strata=strata, cross=True, size=60, minimum=10
    )
    names = [s["name"] for s in details["strata"]]
    assert names[:2] == ["stratum 4 / Water", "stratum 4 / Tree cover"]
    assert [s["pixels"] for s in details["strata"]] == [450, 500, 850, 750, 1000, 1050]


def test_names_of_strata_come_from_their_file(classes: Path, tmp_path: Path) -> None:
    """A raster of strata with a legend, e.g. a change map, names them."""
    change = Legend((LandClass(1, "Loss", "#ff0000"), LandClass(2, "Stable", "#00ff00")))
    codes = np.where(np.arange(80) < 10, 1, 2) * np.ones((60, 1), int)
    write_classes(tmp_path / "change.tif", codes.astype(np.uint8), change)
    details = draw_sample(
        classes=classes, output=tmp_path / "s.gpkg", strata=tmp_path / "change.tif", size=50,
        minimum=20,
    )  # fmt: skip
    # A tenth of the pixels to label go to the strip that the map has an eighth of: the minimum.
    assert [(s["name"], s["sampled"]) for s in details["strata"]] == [("Loss", 20), ("Stable", 30)]


def test_the_size_follows_the_target(classes: Path, tmp_path: Path) -> None:
    """(0.4 / 0.05)^2 = 64 pixels for 0.8 everywhere, less for a finite map; more for a smaller error."""
    sizes = [
        draw_sample(classes=classes, output=tmp_path / "s.gpkg", error=e, minimum=2)["size"]
        for e in (0.05, 0.025)
    ]
    assert sizes == [64, 243]  # 0.16 / (e^2 + 0.16 / 4600), rounded up
    other = draw_sample(
        classes=classes, output=tmp_path / "s.gpkg", error=0.05, minimum=2,
        conjecture=["0.8", "Water=1", "2=1", "cropland=1"],
    )  # fmt: skip
    assert other["size"] == 6  # two of each stratum: no error is expected
    area = draw_sample(
        classes=classes, output=tmp_path / "s.gpkg", error=0.02, minimum=2, target="Water"
    )
    assert area["target"] == "Water"
    assert area["expected_error"] < 0.025


def test_conjectures_may_come_from_an_earlier_estimate(classes: Path, tmp_path: Path) -> None:
    """A CSV with class_code and users_accuracy; an empty figure leaves the default."""
    table = tmp_path / "before.csv"
    table.write_text("class_code,class_name,users_accuracy\n1,Water,1\n2,Trees,\n5,Crops,1.0\n")
    few = draw_sample(
        classes=classes, output=tmp_path / "s.gpkg", error=0.05, minimum=2, conjecture=[str(table)]
    )
    assert few["size"] < 12


def test_pixels_of_degrees_are_weighed_by_their_area(tmp_path: Path) -> None:
    """Two classes of as many pixels, one at 60 degrees north: half the hectares, half the sample."""
    codes = np.ones((60, 40), np.uint8)
    codes[30:] = 2
    grid = GeoBox((60, 40), Affine(0.01, 0, 0, 0, -2.0, 75), "EPSG:4326")
    write_classes(tmp_path / "c.tif", codes, LEGEND, grid)
    details = draw_sample(classes=tmp_path / "c.tif", output=tmp_path / "s.gpkg", size=100, minimum=2)  # fmt: skip
    north, south = details["strata"]
    assert north["pixels"] == south["pixels"]
    share = north["hectares"] / (north["hectares"] + south["hectares"])
    assert north["sampled"] == pytest.approx(100 * share, abs=1)
    units = rows(tmp_path / "s.gpkg", "units")
    areas = pixel_areas(grid)
    for unit in units:
        _, row = ~grid.affine * (unit["x"], unit["y"])
        assert unit["area_m2"] == pytest.approx(areas[int(row), 0])


def test_small_classes_are_taken_whole(tmp_path: Path) -> None:
    """A class of three pixels has three in the sample."""
    codes = np.full(GRID.shape, 5, np.uint8)
    codes[0, :3] = 8
    write_classes(tmp_path / "c.tif", codes, LEGEND)
    details = draw_sample(classes=tmp_path / "c.tif", output=tmp_path / "s.gpkg", size=60)
    assert [s["sampled"] for s in details["strata"]] == [57, 3]


def test_labels_are_never_written_over(classes: Path, tmp_path: Path) -> None:
    """A sample without labels may be drawn again; with one it may not; nor any other file."""
    output = tmp_path / "sample.gpkg"
    draw_sample(classes=classes, output=output, size=60)
    draw_sample(classes=classes, output=output, size=60)
    label(output, {3: 5})
    before = output.read_bytes()
    with pytest.raises(SettingsError, match="1 labels that would be lost"):
        draw_sample(classes=classes, output=output, size=60)
    assert output.read_bytes() == before
    other = tmp_path / "thesis.gpkg"
    other.write_text("years of work")
    with pytest.raises(SettingsError, match="is not an unlabelled sample"):
        draw_sample(classes=classes, output=other, size=60)
    assert other.read_text() == "years of work"


def test_what_cannot_be_drawn_is_refused_with_a_sentence(classes: Path, tmp_path: Path) -> None:
    """Each mistake is told in one sentence, and no file is left."""
    empty = tmp_path / "empty.tif"
    write_classes(empty, np.zeros(GRID.shape, np.uint8), LEGEND)
    holes = strata_raster(tmp_path / "holes.tif", np.eye(60, 80))
    shifted = strata_raster(tmp_path / "far.tif", np.ones(GRID.shape), GRID.translate_pix(1, 0))
    output = tmp_path / "s.gpkg"
    bad: list[tuple[dict[str, Any], type[LandcoverError], str]] = [
        ({"classes": empty}, SampleError, "no pixel with a class"),
        ({"classes": tmp_path / "none.tif"}, RasterError, "none.tif"),
        ({"strata": holes}, SampleError, "no stratum to some pixels"),
        ({"strata": shifted}, RasterError, "another grid"),
        ({"minimum": 1}, SettingsError, "2 or more"),
        ({"error": 0.0}, SampleError, "above 0"),
        ({"conjecture": ["Lava=0.5"]}, SettingsError, "'Lava'.*its classes are 1 .Water"),
        ({"conjecture": ["Water=1.5"]}, SettingsError, "from 0 to 1"),
        ({"conjecture": ["nothing.csv"]}, SettingsError, "class_code and users_accuracy"),
        ({"target": "Lava"}, SettingsError, "--area-of names the class 'Lava'"),
    ]
    for options, kind, words in bad:
        with pytest.raises(kind, match=words) as caught:
            draw_sample(**{"classes": classes, "output": output} | options)
        assert "\n" not in str(caught.value)
        assert not output.exists()


def test_the_table_takes_names_as_text(tmp_path: Path) -> None:
    """Names with brackets are not markup."""
    legend = Legend((LandClass(1, "[red]Water[/red]", "#000000"), LandClass(2, "Rest", "#ffffff")))
    codes = np.where(np.arange(80) < 10, 1, 2) * np.ones((60, 1), int)
    write_classes(tmp_path / "c.tif", codes.astype(np.uint8), legend)
    details = draw_sample(classes=tmp_path / "c.tif", output=tmp_path / "s.gpkg", size=100)
    console = Console(width=120, force_terminal=False)
    with console.capture() as capture:
        console.print(design_table(details))
    assert "[red]Water[/red]" in capture.get()
    assert "100 pixels" in capture.get()


def test_the_file_is_a_valid_geopackage(classes: Path, tmp_path: Path) -> None:
    """The validator of the standard finds nothing."""
    output = tmp_path / "sample.gpkg"
    draw_sample(classes=classes, output=output, size=60)
    checked = subprocess.run(
        [sys.executable, "-m", "osgeo_utils.samples.validate_gpkg", output],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_real_class_rasters_of_others(tmp_path: Path, shared_data: Path) -> None:
    """The wall-to-wall mask of the Austrian scene, with a legend of its own, can be sampled."""
    mask = next(shared_data.glob("sentinel2_two_season_austria/mask.tif"))
    legend = tmp_path / "fields.csv"
    legend.write_text(
        "value,name,color\n0,Background,#cccccc\n1,Field,#f2d16b\n2,Boundary,#444444\n"
    )
    with rasterio.open(mask) as dataset:
        values = dataset.read(1)
    if (values == 0).any():
        legend.write_text("value,code,name,color\n0,3,Background,#cccccc\n1,1,Field,#f2d16b\n2,2,Boundary,#444444\n")  # fmt: skip
    output = tmp_path / "s.gpkg"
    result = landcover("assess", "design", mask, "-o", output, "--legend", legend, "--size", 200)
    assert result.returncode == 0, result.stderr
    for unit in rows(output, "units"):
        with rasterio.open(mask) as dataset:
            value = next(dataset.sample([(unit["x"], unit["y"])]))[0]
        assert unit["class_code"] == {0: 3, 1: 1, 2: 2}[int(value)]
