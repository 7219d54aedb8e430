"""Class rasters of others: their values get the classes that their makers gave them."""

import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine

from landcover.errors import LegendError
from pipeline.summarize import summarize
from pipeline.value_legend import NAMES, named_legend, value_legend
from pipeline.vectorize import vectorize

UTM = Affine(10, 0, 600_000, 0, -10, 6_700_000)


def write(path: Path, values: Any, colors: dict[int, Any] | None = None, **profile: Any) -> Path:
    """A class raster as others write it."""
    array = np.array(values, profile.pop("dtype", "uint8"))
    options = {"crs": "EPSG:32633", "transform": UTM} | profile
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[0], width=array.shape[1], count=1,
        dtype=array.dtype, **options,
    ) as dataset:  # fmt: skip
        dataset.write(array, 1)
        if colors:
            dataset.write_colormap(1, colors)
    return path


def classes_of(path: Path, folder: Path, legend: str | None = None) -> dict[str, float]:
    """Class names and hectares of the polygons made of a raster."""
    vectorize(classes=path, confidence=None, output=folder / "out.gpkg", legend=legend)
    layer = gpd.read_file(folder / "out.gpkg", layer="landcover")
    return layer.groupby("class_name").pixels.sum().to_dict()


@pytest.mark.parametrize(
    ("name", "count"), [("worldcover", 11), ("dynamicworld", 9), ("corine", 44)]
)
def test_shipped_legends_are_whole(name: str, count: int, tmp_path: Path) -> None:
    """Each has all its classes, with names and colours of their own."""
    assert name in NAMES
    with rasterio.open(write(tmp_path / "a.tif", [[0]])) as dataset:
        legend = value_legend(dataset, name).legend
    assert len(legend) == count
    assert len({c.color for c in legend.classes}) == count


def test_worldcover(tmp_path: Path) -> None:
    """Codes of ESA WorldCover, with 0 for no data."""
    path = write(tmp_path / "a.tif", [[10, 10, 80], [0, 95, 50]])
    assert classes_of(path, tmp_path, "worldcover") == {
        "Tree cover": 2, "Permanent water bodies": 1, "Mangroves": 1, "Built-up": 1,
    }  # fmt: skip


def test_the_water_of_dynamic_world_is_no_nodata(tmp_path: Path) -> None:
    """Its 0 is water; what the file marks as nodata is not mapped."""
    path = write(tmp_path / "a.tif", [[0, 0, 1], [255, 255, 6]], nodata=255)
    assert classes_of(path, tmp_path, "dynamicworld") == {"Water": 2, "Trees": 1, "Built": 1}


@pytest.mark.parametrize(
    ("values", "dtype", "nodata"),
    [
        ([[111, 523], [999, 312]], "uint16", None),
        ([[1, 44], [-128, 24]], "int8", -128),
        ([[1, 44], [48, 24]], "uint8", 48),
        ([[1, 44], [-32768, 312]], "int16", -32768),
    ],
)
def test_corine_in_all_its_numberings(
    values: list[list[int]], dtype: str, nodata: int | None, tmp_path: Path
) -> None:
    """Grid codes and three-digit codes, signed and unsigned, mean the same."""
    path = write(tmp_path / "a.tif", values, dtype=dtype, nodata=nodata)
    assert classes_of(path, tmp_path, "corine") == {
        "Continuous urban fabric": 1, "Sea and ocean": 1, "Coniferous forest": 1,
    }  # fmt: skip


def test_a_legend_of_ones_own(tmp_path: Path) -> None:
    """A CSV file names values; several may have one code, and 0 is no data."""
    legend = tmp_path / "mine.csv"
    legend.write_text(
        "# of my own\nvalue,code,name,color\n7,1,Wet,#0000ff\n8,1,Wet,#0000ff\n9,0,-,\n11,2,Dry,#aa0000\n"
    )
    path = write(tmp_path / "a.tif", [[7, 8, 9], [11, 9, 0]])
    assert classes_of(path, tmp_path, str(legend)) == {"Wet": 2, "Dry": 1}
    rows = summarize(classes=path, output=tmp_path / "areas.csv", legend=str(legend))["rows"]
    assert [row["pixels"] for row in rows] == [2, 1]


def test_a_colour_in_the_first_column_is_no_comment(tmp_path: Path) -> None:
    """Columns come in any order; a line that begins with # and no colour is a comment."""
    legend = tmp_path / "mine.csv"
    legend.write_text(
        "#of my own, in 2024\ncolor,value,name\n#0000ff,7,Wet\n# dry ones\n#AA0000,8,Dry\n"
    )
    found = named_legend(str(legend))
    assert found.codes == {7: 7, 8: 8}
    assert [(c.name, c.color) for c in found.legend.classes] == [
        ("Wet", "#0000ff"),
        ("Dry", "#AA0000"),
    ]


def test_the_colour_table_of_the_file(tmp_path: Path) -> None:
    """Without names, coloured values are the classes."""
    path = write(tmp_path / "a.tif", [[1, 2], [2, 0]], {1: (255, 0, 0, 255), 2: (0, 9, 0, 255)})
    assert classes_of(path, tmp_path) == {"value 1": 1, "value 2": 2}


def test_the_category_names_of_the_file(tmp_path: Path) -> None:
    """GDAL keeps names in a side-car; their place in the list is the value."""
    path = write(tmp_path / "a.tif", [[1, 2], [2, 0]], {1: (255, 0, 0, 255), 2: (0, 9, 0, 255)})
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category>none</Category>'
        "<Category>Fields</Category><Category>Ponds</Category></CategoryNames></PAMRasterBand></PAMDataset>"
    )
    assert classes_of(path, tmp_path) == {"Fields": 1, "Ponds": 2}


@pytest.mark.parametrize(
    "transform",
    [Affine(10, 0, 600_000, 0, 10, 6_700_000), UTM @ Affine.rotation(30)],
    ids=["south up", "rotated"],
)
def test_any_geotransform(transform: Affine, tmp_path: Path) -> None:
    """South-up and rotated rasters have the areas of their pixels."""
    path = write(tmp_path / "a.tif", [[10, 10, 80], [80, 80, 80]], transform=transform)
    vectorize(classes=path, confidence=None, output=tmp_path / "o.gpkg", legend="worldcover")
    layer = gpd.read_file(tmp_path / "o.gpkg", layer="landcover")
    assert layer.is_valid.all()
    assert layer.area.tolist() == pytest.approx([200, 400])
    assert layer.area_ha.tolist() == pytest.approx([0.02, 0.04], rel=2e-3)


def test_a_degree_raster(tmp_path: Path) -> None:
    """A WorldCover tile has pixels in degrees: 70.7 square metres at 45 degrees."""
    step = 1 / 12000
    grid = Affine(step, 0, 12, 0, -step, 45)
    path = write(tmp_path / "a.tif", [[10] * 100] * 100, crs="EPSG:4326", transform=grid)
    details = vectorize(
        classes=path, confidence=None, output=tmp_path / "o.gpkg", legend="worldcover"
    )
    assert details["area_ha"] == pytest.approx(9.26 * 6.57, rel=0.01)


@pytest.mark.parametrize(
    ("legend", "message"),
    [
        (None, "has no legend .* name one by --legend: corine, dynamicworld, worldcover"),
        ("worldcover", r"holds the codes \[7\], which its legend lacks"),
        ("esa", "neither one of corine, dynamicworld, worldcover nor a CSV file"),
        ("a.csv", "needs value, name, color"),
        ("b.csv", "'x' is not a whole number"),
        ("c.csv", "gives the code 1 two names"),
    ],
)
def test_mistakes_are_told(legend: str | None, message: str, tmp_path: Path) -> None:
    """No legend, a wrong one, one that is no legend; and no file appears."""
    (tmp_path / "a.csv").write_text("code;name\n1;a\n")
    (tmp_path / "b.csv").write_text("value,name,color\nx,a,#000000\n")
    (tmp_path / "c.csv").write_text("value,code,name,color\n1,1,a,#000000\n2,1,b,#000000\n")
    path = write(tmp_path / "a.tif", [[7, 10]])
    given = str(tmp_path / legend) if legend and legend.endswith(".csv") else legend
    with pytest.raises(LegendError, match=message):
        vectorize(classes=path, confidence=None, output=tmp_path / "o.gpkg", legend=given)
    assert not (tmp_path / "o.gpkg").exists()


def test_a_sidecar_with_declarations_is_not_read(tmp_path: Path) -> None:
    """Entities could grow without end."""
    path = write(tmp_path / "a.tif", [[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (tmp_path / "a.tif.aux.xml").write_text(
            '<!DOCTYPE a [<!ENTITY b "c">]><PAMDataset><PAMRasterBand band="1"><CategoryNames>'
            "<Category>x</Category><Category>&b;</Category></CategoryNames></PAMRasterBand></PAMDataset>"
        )
        with pytest.raises(LegendError, match="has no legend"):
            vectorize(classes=path, confidence=None, output=tmp_path / "o.gpkg")
