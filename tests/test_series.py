"""Maps of several dates: consistent, with what is stable and what changed when."""

import csv
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from landcover.errors import LandcoverError, LegendError, RasterError, SettingsError
from pipeline import series as module
from pipeline.series import DatedMap, dated_maps, series
from tests.test_vectorize import write_classes, write_confidence

GRID = GeoBox((2, 2), Affine(100, 0, 1_000_000, 0, -100, 5_000_000), "EPSG:6933")
"""Pixels of one hectare."""
DATES = {
    "2021": [[2, 2], [1, 0]],
    "2022": [[2, 1], [1, 0]],
    "2023": [[2, 2], [2, 0]],
    "2024": [[2, 2], [2, 0]],
}
"""A stable pixel, one that errs in 2022, one that changes in 2023, one never seen."""


def write_maps(folder: Path, grid: GeoBox = GRID) -> list[DatedMap]:
    """Class rasters of the four dates."""
    return [
        DatedMap(label, write_classes(folder / f"{label}.tif", np.array(codes), grid), None)
        for label, codes in DATES.items()
    ]


def read(path: Path) -> np.ndarray:
    """The first band."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_an_odd_date_is_smoothed_and_a_change_is_dated(tmp_path: Path):
    """Classes of each date, the stable class, and the number of the date of the last change."""
    made = series(maps=write_maps(tmp_path), output=tmp_path / "out")
    assert read(tmp_path / "out/classes_2022.tif").tolist() == [[2, 2], [1, 0]]
    assert read(tmp_path / "out/classes_2023.tif").tolist() == [[2, 2], [2, 0]]
    assert read(tmp_path / "out/stable.tif").tolist() == [[2, 2], [0, 0]]
    assert read(tmp_path / "out/last_change.tif").tolist() == [[0, 0], [3, 0]]
    assert made["dates"] == list(DATES)
    assert made["changed_ha"] == pytest.approx(1, rel=1e-9)
    assert made["stable_ha"] == pytest.approx(2, rel=1e-9)


def test_the_table_has_hectares_as_mapped_and_consistent(tmp_path: Path):
    """In 2022 two hectares of water were mapped, one of them in error."""
    series(maps=write_maps(tmp_path), output=tmp_path / "out")
    with (tmp_path / "out/hectares.csv").open(newline="") as stream:
        rows = {(r["date"], r["class_name"]): r for r in csv.DictReader(stream)}
    water = rows["2022", "Water"]
    assert float(water["mapped_ha"]) == pytest.approx(2, rel=1e-9)
    assert float(water["consistent_ha"]) == pytest.approx(1, rel=1e-9)
    chart = ET.parse(tmp_path / "out/hectares.svg").getroot()
    assert len(chart.findall("{http://www.w3.org/2000/svg}polyline")) == 2


def test_a_sure_odd_date_stays(tmp_path: Path):
    """With confidences, a date that is 99 % sure among unsure ones keeps its class."""
    maps = [
        DatedMap(
            one.label, one.classes,
            write_confidence(
                tmp_path / f"sure_{one.label}.tif", np.full((2, 2), 99 if one.label == "2022" else 40), GRID
            ),
        )
        for one in write_maps(tmp_path)
    ]  # fmt: skip
    series(maps=maps, output=tmp_path / "out", stay=0.6)
    assert read(tmp_path / "out/classes_2022.tif").tolist() == [[2, 1], [1, 0]]


def test_a_table_of_transitions_is_taken(tmp_path: Path):
    """Where water (1) never becomes forest (2), the change of 2023 is not believed."""
    (tmp_path / "t.csv").write_text(
        "from,to,probability\n1,1,1\n2,2,0.9\n2,1,0.1\n9,9,1\n", encoding="utf-8"
    )
    series(maps=write_maps(tmp_path), output=tmp_path / "out", table=tmp_path / "t.csv")
    assert read(tmp_path / "out/last_change.tif").tolist() == [[0, 0], [0, 0]]


def test_a_table_of_transitions_is_not_written_over(tmp_path: Path):
    """A table called hectares.csv in the folder of the output is refused before anything is done."""
    with pytest.raises(SettingsError, match="is both the probabilities and the table"):
        series(maps=write_maps(tmp_path), output=tmp_path, table=tmp_path / "hectares.csv")


def test_strips_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Row by row the files have the same bytes."""
    grid = GeoBox((70, 50), GRID.affine, "EPSG:6933")
    rng = np.random.default_rng(1)
    maps = [
        DatedMap(
            label,
            write_classes(tmp_path / f"{label}.tif", rng.choice([0, 1, 2, 9], grid.shape), grid),
            None,
        )
        for label in DATES
    ]
    series(maps=maps, output=tmp_path / "whole")
    monkeypatch.setattr(module, "_BUDGET", 1)
    series(maps=maps, output=tmp_path / "rows")
    for path in sorted((tmp_path / "whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "rows" / path.name).read_bytes()


def test_dates_come_from_names(tmp_path: Path):
    """Run folders and rasters, in any order; a confidence of a run is taken."""
    run = tmp_path / "2024-06-01_2024-08-31"
    run.mkdir()
    (run / "confidence.tif").touch()
    maps = dated_maps([run, tmp_path / "nantes_2023-07.tif", tmp_path / "a2022.tif"])
    assert [one.label for one in maps] == ["2022", "2023-07", "2024-06-01_2024-08-31"]
    assert [one.confidence for one in maps] == [None, None, run / "confidence.tif"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.tif", "2022.tif", "2023.tif"], "has no date in its name"),
        (["2022.tif", "2023.tif"], "needs three or more"),
        (["2022.tif", "x2022.tif", "2023.tif"], "each once"),
        (["2022-06.tif", "202206.tif", "2023.tif"], "dates 2022-06, 202206, 2023; .* each once"),
    ],
)
def test_names_without_a_date_are_refused(tmp_path: Path, names: list[str], message: str):
    """No date, too few, one twice."""
    with pytest.raises(SettingsError, match=message):
        dated_maps([tmp_path / name for name in names])


def test_dates_of_any_spelling_are_in_the_order_of_time(tmp_path: Path):
    """Days, months and periods, with and without dashes: what lasts from December on is a change."""
    names = [
        "f_20230601",
        "f_20230901",
        "20240601_20240831",
        "f_2024-12",
        "f_2025-01-15",
        "f_202502",
    ]
    spelled = [tmp_path / f"{name}.tif" for name in names]
    for path, code in zip(spelled, (2, 2, 2, 1, 1, 1), strict=True):
        write_classes(path, np.full((2, 2), code), GRID)
    maps = dated_maps(spelled[::-1])
    assert [one.classes for one in maps] == spelled
    found = series(maps=maps, output=tmp_path / "out", report=lambda _: None)
    assert found["changed_ha"] == pytest.approx(4)


def test_maps_that_do_not_fit_are_refused(tmp_path: Path):
    """Another grid, a table without a class, a table that is no table: a sentence and no file."""
    maps = write_maps(tmp_path)
    other = GeoBox((2, 2), GRID.affine * Affine.translation(1, 0), "EPSG:6933")
    moved = DatedMap("2025", write_classes(tmp_path / "m.tif", np.ones((2, 2)), other), None)
    (tmp_path / "bad.csv").write_text("from,to,probability\n1,77,1\n")
    cases: list[tuple[type[LandcoverError], str, dict[str, object]]] = [
        (RasterError, "another grid", {"maps": [*maps, moved]}),
        (SettingsError, "no transition table", {"maps": maps, "table": tmp_path / "bad.csv"}),
        (SettingsError, "no transition table", {"maps": maps, "table": tmp_path / "none.csv"}),
        (SettingsError, "between 0 and 1", {"maps": maps, "stay": 0.0}),
        (LegendError, "neither one of", {"maps": maps, "legend": "nothing"}),
    ]
    for kind, message, options in cases:
        with pytest.raises(kind, match=message):
            series(output=tmp_path / "out", **options)
        assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
