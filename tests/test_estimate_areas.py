"""Estimates from a labelled sample, on files: what a person may have done to it, and what is printed."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from landcover.errors import LandcoverError, RasterError, SampleError, SettingsError
from landcover.legend import LandClass, Legend
from landcover.sampling import Stratum
from pipeline.draw_sample import draw_sample
from pipeline.estimate_areas import estimate_areas
from pipeline.sample_file import MappedClass, SampledPixels, write_sample
from pipeline.summarize import summarize
from pipeline.vectorize import vectorize
from tests.command import landcover
from tests.run_folder import GRID, LEGEND, class_codes, write_classes
from tests.sample_labels import edit, label, label_all, rows


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """30 pixels of water, 31 of trees, 39 of crops, not labelled."""
    write_classes(tmp_path / "classes.tif", class_codes(), LEGEND)
    draw_sample(
        classes=tmp_path / "classes.tif", output=tmp_path / "sample.gpkg", size=100, minimum=30
    )
    return tmp_path / "sample.gpkg"


def of_class(sample: Path, code: int) -> list[int]:
    """Ids of the pixels that the map has as a class."""
    return [u["id"] for u in rows(sample, "units") if u["class_code"] == code]


def olofsson(path: Path) -> Path:
    """The sample of Olofsson et al. (2014), table 8, as our file, labelled; pixels of 0.09 ha."""
    names = ("Deforestation", "Forest gain", "Stable forest", "Stable non-forest")
    counts = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    pixels = (200_000, 150_000, 3_200_000, 6_450_000)
    mapped, reference = (np.repeat(i.ravel(), counts.ravel()) + 1 for i in np.indices((4, 4)))
    n = len(mapped)
    write_sample(
        path,
        GeoBox((100, 100), Affine(30, 0, 600_000, 0, -30, 5_200_000), "EPSG:32630"),
        SampledPixels(np.arange(n) // 100, np.arange(n) % 100, mapped, mapped, np.full(n, 900.0)),
        [Stratum(k + 1, names[k], pixels[k], pixels[k] * 0.09) for k in range(4)],
        [MappedClass(k + 1, names[k], "#123456", pixels[k] * 0.09, pixels[k]) for k in range(4)],
        {"map": "change.tif"},
    )
    label(path, dict(zip(range(1, n + 1), reference.tolist(), strict=True)))
    return path


def test_the_published_example_comes_out_of_the_command(tmp_path: Path) -> None:
    """Hectares and intervals of Olofsson et al. (2014) as printed, on the screen, in JSON and in CSV."""
    path = olofsson(tmp_path / "olofsson.gpkg")
    result = landcover("assess", "estimate", path, "-o", tmp_path / "e.json")
    assert result.returncode == 0, result.stderr
    assert "0.947 ± 0.018" in result.stdout
    assert "21,157.76 ± 6,157.63" in result.stdout
    with (tmp_path / "e.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [
        (round(float(r["estimated_ha"])), round(float(r["margin_ha"]))) for r in table
    ] == [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]  # fmt: skip
    assert [r["pixel_ha"] for r in table] == ["18000.0", "13500.0", "288000.0", "580500.0"]
    record = json.loads((tmp_path / "e.json").read_text())
    assert record["proportions"][2][3] == pytest.approx(0.0213, abs=5e-5)
    assert record["overall_accuracy"]["value"] == pytest.approx(0.9465, abs=5e-5)


def test_a_sample_that_agrees_gives_the_mapped_areas(sample: Path) -> None:
    """Labels equal to the map: hectares of the map, no error; and a note that this is rough."""
    label_all(sample)
    result = estimate_areas(sample=sample)
    assert result["overall_accuracy"]["value"] == 1
    for row in result["classes"][:3]:
        assert row["estimated_ha"] == pytest.approx(row["pixel_ha"])
        assert row["users_accuracy"] == row["producers_accuracy"] == pytest.approx(1)
    assert result["classes"][3]["estimated_ha"] == 0  # built-up: not mapped, not found
    assert result["classes"][3]["margin_ha"] is None
    assert 1 < result["classes"][3]["high_ha"] < 5  # of 46 ha; a hundred labels rule out no less
    assert result["classes"][3]["users_accuracy"] is None
    assert "of Water (0), Tree cover (0), Cropland (0): there" in result["notes"][0]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_errors_move_hectares_between_classes(sample: Path) -> None:
    """A third of the sampled water is crops: so is a third of the water's hectares."""
    label_all(sample, dict.fromkeys(of_class(sample, 1)[:10], 5))
    water, _, crops, _ = estimate_areas(sample=sample)["classes"]
    assert water["estimated_ha"] == pytest.approx(water["pixel_ha"] * 2 / 3, rel=1e-4)
    assert crops["estimated_ha"] == pytest.approx(crops["pixel_ha"] + water["pixel_ha"] / 3, rel=1e-4)  # fmt: skip
    margin = 1.96 * water["pixel_ha"] * (2 / 9 / 29) ** 0.5
    assert water["margin_ha"] == pytest.approx(margin, rel=1e-4)
    assert crops["margin_ha"] == pytest.approx(margin, rel=1e-4)
    assert water["low_ha"] < water["estimated_ha"] < water["high_ha"] < water["pixel_ha"]


def test_names_and_numbers_are_labels_alike(sample: Path) -> None:
    """A column of text, as other programs make it: codes, decimals and names of classes."""
    edit(sample, "ALTER TABLE sample RENAME COLUMN reference TO was", "ALTER TABLE sample ADD COLUMN reference TEXT")  # fmt: skip
    names = {1: "water", 2: " 2 ", 5: "5.0"}
    label(sample, {u["id"]: names[u["class_code"]] for u in rows(sample, "units")})
    assert estimate_areas(sample=sample)["overall_accuracy"]["value"] == 1


def test_missing_labels_are_refused_or_left_out(sample: Path) -> None:
    """None at all, some, and some left out on purpose: at the end or before others."""
    with pytest.raises(SampleError, match="None of the 100 pixels"):
        estimate_areas(sample=sample)
    label_all(sample, dict.fromkeys(range(81, 101)))
    with pytest.raises(SampleError, match=r"20 of 100 pixels.*the first is 81"):
        estimate_areas(sample=sample)
    result = estimate_areas(sample=sample, allow_unlabelled=True)
    assert (result["pixels"], result["unlabelled"]) == (80, 20)
    assert any("still a random sample" in note for note in result["notes"])
    label(sample, {100: 5})
    result = estimate_areas(sample=sample, allow_unlabelled=True)
    assert any("19 of them come before pixels that have one" in note for note in result["notes"])


def test_a_stratum_with_too_few_labels_is_named(sample: Path) -> None:
    """One label in the water tells no variance, even where others are left out on purpose."""
    label_all(sample, dict.fromkeys(of_class(sample, 1)[1:]))
    with pytest.raises(SampleError, match="'Water' has 1 labelled"):
        estimate_areas(sample=sample, allow_unlabelled=True)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM sample WHERE id IN (5, 7)", "2 of 100 points were deleted.*the first is 5"),
        ("INSERT INTO sample (id, geom) SELECT 5, geom FROM sample WHERE id = 5", "has 101 points"),
        ("INSERT INTO sample (id, geom) SELECT 500, geom FROM sample WHERE id = 5", "has 101 points"),
        ("UPDATE sample SET id = NULL WHERE id = 5", "1 of 100 points were deleted"),
        ("UPDATE sample SET geom = (SELECT geom FROM sample WHERE id = 6) WHERE id = 5", "were moved"),
        ("UPDATE sample SET geom = NULL WHERE id = 5", "were moved"),
        ("UPDATE sample SET reference = 4 WHERE id = 5", 'Pixel 5 .* labelled "4".*1 .Water., 2'),
        ("UPDATE sample SET reference = -1 WHERE id = 5", 'Pixel 5 .* labelled "-1"'),
        ("DROP TABLE units", "no sample of .*table units"),
        ("DELETE FROM units WHERE id = 5", "units, design or classes .* were changed"),
        ("UPDATE units SET stratum = 3 WHERE id = 5", "were changed"),
        ("UPDATE units SET area_m2 = -1", "were changed"),
        ("UPDATE design SET hectares = 0", "were changed"),
        ("UPDATE design SET pixels = 3", "were changed"),
        ("DELETE FROM classes WHERE class_code = 1", "were changed"),
        ("UPDATE classes SET color = 'red'", "cannot be used.*rrggbb"),
        ("UPDATE settings SET value = 'landcover sample 9' WHERE name = 'format'", "sample 9"),
        ("ALTER TABLE sample DROP COLUMN reference", "lacks the columns reference"),
    ],
)  # fmt: skip
def test_a_damaged_sample_is_refused_with_a_sentence(
    sample: Path, statement: str, words: str
) -> None:
    """Whatever was deleted, added, moved or changed: one sentence that names it."""
    label_all(sample)
    if "INSERT" in statement or "geom" in statement:
        edit(sample, "DROP TRIGGER IF EXISTS rtree_sample_geom_insert",
             *(f"DROP TRIGGER IF EXISTS rtree_sample_geom_update{n}" for n in ("", *range(1, 8))))  # fmt: skip
    edit(sample, statement)
    with pytest.raises(SampleError, match=words) as caught:
        estimate_areas(sample=sample)
    assert "\n" not in str(caught.value)


def test_words_in_a_column_of_numbers_are_refused(sample: Path) -> None:
    """A program may store a word where a number belongs; it is no missing label."""
    label_all(sample, {5: "lava"})
    with pytest.raises(LandcoverError):
        estimate_areas(sample=sample)


def test_areas_of_the_map_stand_beside_the_estimate(sample: Path, tmp_path: Path) -> None:
    """Hectares of polygons where the table has them; a table of another map is refused."""
    label_all(sample)
    table, polygons = tmp_path / "areas.csv", tmp_path / "landcover.gpkg"
    summarize(classes=tmp_path / "classes.tif", output=table)
    assert "polygon_ha" not in estimate_areas(sample=sample, areas=table)["classes"][0]
    vectorize(classes=tmp_path / "classes.tif", confidence=None, output=polygons)
    summarize(classes=tmp_path / "classes.tif", output=table, polygons=polygons)
    result = estimate_areas(sample=sample, areas=table, output=tmp_path / "e.json")
    for row in result["classes"]:
        assert row["polygon_ha"] == pytest.approx(row["pixel_ha"])
    header = (tmp_path / "e.csv").read_text().splitlines()[0]
    assert "pixel_ha,polygon_ha,estimated_ha" in header
    table.write_text(table.read_text().replace("1,Water,", "1,Water,9"))
    with pytest.raises(SettingsError, match="is of another map"):
        estimate_areas(sample=sample, areas=table)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(SettingsError, match="no area table"):
        estimate_areas(sample=sample, areas=table)


def test_a_reference_raster_can_label(sample: Path, tmp_path: Path) -> None:
    """A truth of another zone and pixel size gives the classes at the centres of the pixels."""
    codes = np.where(class_codes() == 1, 5, class_codes())
    write_classes(tmp_path / "truth.tif", codes, LEGEND)
    result = estimate_areas(sample=sample, reference=tmp_path / "truth.tif")
    water, trees, crops, _ = result["classes"]
    assert (water["users_accuracy"], trees["users_accuracy"]) == (0, 1)
    assert crops["estimated_ha"] == pytest.approx(crops["pixel_ha"] + water["pixel_ha"])
    for west in (-1.7, 358.3):
        degrees = GeoBox((200, 200), Affine(2e-4, 0, west, 0, -2e-4, 46.96), "EPSG:4326")
        write_classes(tmp_path / "far.tif", np.full((200, 200), 2, np.uint8), LEGEND, degrees)
        result = estimate_areas(sample=sample, reference=tmp_path / "far.tif")
        assert result["classes"][1]["estimated_ha"] == pytest.approx(result["area_ha"])


def write_values(path: Path, values: np.ndarray) -> Path:
    """A class raster of somebody else's, without a legend."""
    profile: dict[str, Any] = {"width": 80, "height": 60, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=GRID.crs, transform=GRID.affine, **profile) as dataset:
        dataset.write(values.astype(np.uint8), 1)
    return path


@pytest.fixture
def dynamic_world(tmp_path: Path) -> tuple[Path, Path]:
    """A map that holds 0 for water and 1 for trees, with class codes 1 and 2 here; a sample of it."""
    path = write_values(tmp_path / "dw.tif", np.arange(80) % 2 * np.ones((60, 1)))
    sample = tmp_path / "dw.gpkg"
    draw_sample(classes=path, output=sample, legend="dynamicworld", size=20, minimum=10)
    return path, sample


def test_a_reference_means_what_the_sampled_map_meant(dynamic_world: tuple[Path, Path]) -> None:
    """A map of stored values 0 and 1 agrees with itself; so it does by --legend and in our codes."""
    path, sample = dynamic_world
    assert estimate_areas(sample=sample, reference=path)["overall_accuracy"]["value"] == 1
    told = estimate_areas(sample=sample, reference=path, legend="dynamicworld")
    assert told["overall_accuracy"]["value"] == 1
    codes = np.arange(80) % 2 + np.ones((60, 1))
    legend = Legend((LandClass(1, "Water", "#2b6cb0"), LandClass(2, "Trees", "#1f6f3f")))
    write_classes(path.with_name("codes.tif"), codes.astype(np.uint8), legend)
    own = estimate_areas(sample=sample, reference=path.with_name("codes.tif"))
    assert own["overall_accuracy"]["value"] == 1


def test_what_the_mask_of_a_reference_hides_is_no_label(dynamic_world: tuple[Path, Path]) -> None:
    """By nodata or by a mask: no water, and no trees, where nobody looked."""
    path, sample = dynamic_world
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.arange(60)[:, None] * np.ones((1, 80)) < 45)
    hidden = estimate_areas(sample=sample, reference=path, allow_unlabelled=True)
    assert hidden["overall_accuracy"]["value"] == 1
    assert 0 < hidden["unlabelled"] < 20


def test_values_that_a_reference_cannot_mean_are_refused(
    dynamic_world: tuple[Path, Path],
) -> None:
    """Dynamic World has no 9, the sampled map no class 10 of WorldCover: one sentence each."""
    path, sample = dynamic_world
    nine = write_values(path.with_name("nine.tif"), np.full(GRID.shape, 9))
    with pytest.raises(SampleError, match=r"holds 9 at .* say by --legend"):
        estimate_areas(sample=sample, reference=nine)
    ten = write_values(path.with_name("ten.tif"), np.full(GRID.shape, 10))
    with pytest.raises(SampleError, match="holds 10 at"):
        estimate_areas(sample=sample, reference=ten, legend="worldcover")


@pytest.mark.parametrize("text", ["0=1 1=99", "0=1 1", "a=1"])
def test_meanings_that_were_changed_are_refused(
    dynamic_world: tuple[Path, Path], text: str
) -> None:
    """A setting that leads to no class, or to nothing."""
    path, sample = dynamic_world
    edit(sample, f"UPDATE settings SET value = '{text}' WHERE name = 'values'")
    with pytest.raises(SampleError, match="was changed and cannot be used"):
        estimate_areas(sample=sample, reference=path)


def test_references_that_do_not_fit_are_refused(sample: Path, tmp_path: Path) -> None:
    """Other codes, another place, nothing at all: a sentence."""
    other = Legend((LandClass(1, "Water", "#2b6cb0"), LandClass(77, "Moss", "#1f6f3f")))
    write_classes(tmp_path / "moss.tif", np.full(GRID.shape, 77, np.uint8), other)
    write_classes(
        tmp_path / "far.tif", np.full(GRID.shape, 1, np.uint8), LEGEND, GRID.translate_pix(5000, 0)
    )
    for name, kind, words in (
        ("moss.tif", SampleError, "holds 77 at sampled pixels"),
        ("far.tif", SampleError, "None of the 100 pixels"),
        ("none.tif", RasterError, "none.tif"),
    ):
        with pytest.raises(kind, match=words):
            estimate_areas(sample=sample, reference=tmp_path / name)


def test_strata_that_are_not_the_classes(tmp_path: Path) -> None:
    """A sample stratified by left and right half gives the true areas on average, within its error."""
    write_classes(tmp_path / "c.tif", class_codes(), LEGEND)
    halves = np.where(np.arange(80) < 30, 1, 2) * np.ones((60, 1), int)
    names = Legend((LandClass(1, "Left", "#000000"), LandClass(2, "Right", "#ffffff")))
    write_classes(tmp_path / "halves.tif", halves.astype(np.uint8), names)
    truth = np.roll(class_codes(), 4, axis=0)
    truth[class_codes() == 0] = 0
    write_classes(tmp_path / "truth.tif", np.where(truth, truth, 5).astype(np.uint8), LEGEND)
    actual = np.bincount(np.where(truth, truth, 5)[class_codes() > 0], minlength=6) * 0.01
    errors = []
    for seed in range(12):
        output = tmp_path / f"{seed}.gpkg"
        draw_sample(classes=tmp_path / "c.tif", strata=tmp_path / "halves.tif", output=output, size=200, seed=seed)  # fmt: skip
        result = estimate_areas(sample=output, reference=tmp_path / "truth.tif")
        assert [s["name"] for s in result["strata"]] == ["Left", "Right"]
        water = result["classes"][0]
        errors.append((water["estimated_ha"] - actual[1]) / water["standard_error_ha"])
    assert abs(np.mean(errors)) < 3 / 12**0.5
    assert 0.3 < np.std(errors) < 2


@pytest.mark.parametrize("name", ["e.csv", "e", "sample.gpkg"])
def test_the_result_overwrites_nothing_else(sample: Path, name: str) -> None:
    """The result is JSON with a table beside it; the sample stays."""
    label_all(sample)
    before = sample.read_bytes()
    with pytest.raises(SettingsError, match=r"ends in \.json"):
        estimate_areas(sample=sample, output=sample.with_name(name))
    assert sample.read_bytes() == before


def test_the_table_of_the_result_overwrites_no_areas(sample: Path, tmp_path: Path) -> None:
    """areas.csv lies beside areas.json: it is what was given, and stays."""
    label_all(sample)
    table = tmp_path / "areas.csv"
    summarize(classes=tmp_path / "classes.tif", output=table)
    before = table.read_bytes()
    with pytest.raises(SettingsError, match="is both the areas and its table"):
        estimate_areas(sample=sample, areas=table, output=tmp_path / "areas.json")
    assert table.read_bytes() == before


def test_equal_labels_give_equal_bytes(sample: Path, tmp_path: Path) -> None:
    """The same sample is estimated to the same files, which name no folder."""
    label_all(sample, {3: 5, 4: 1})
    made: list[Any] = []
    for name in ("a.json", "b.json"):
        estimate_areas(sample=sample, output=tmp_path / name)
        made.append(((tmp_path / name).read_bytes(), (tmp_path / name).with_suffix(".csv").read_bytes()))  # fmt: skip
    assert made[0] == made[1]
    assert str(tmp_path).encode() not in made[0][0]


def test_strangers_geopackages_are_refused_with_a_sentence(shared_data: Path) -> None:
    """Good, broken and empty GeoPackages of others are no samples; none is read for long."""
    files = sorted((shared_data / "tricky_files/geopackage").rglob("*"))
    refused = 0
    for path in (f for f in files if f.is_file()):
        with pytest.raises(SampleError) as caught:
            estimate_areas(sample=path)
        assert "\n" not in str(caught.value), path
        refused += 1
    assert refused > 5


def test_the_command_line_tells_what_is_missing_and_what_is_rough(sample: Path) -> None:
    """Exit code 1 and one sentence; 0 with figures and notes when all is well."""
    result = landcover("assess", "estimate", sample)
    assert result.returncode == 1
    assert result.stderr.startswith("error: None of the 100 pixels")
    assert len(result.stderr.strip().splitlines()) == 1
    label_all(sample)
    done = landcover("assess", "estimate", sample)
    assert done.returncode == 0
    assert "Overall accuracy 1.000" in done.stdout
    assert "Note: The map missed fewer than 5 sampled pixels of Water (0)" in done.stdout
