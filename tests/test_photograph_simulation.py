"""Simulated photographs from the air: what is in them, and what their light does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from landcover.aerial_camera import aerial_camera, cast_shadows
from landcover.aerial_canvas import BUILDING, LAND, ROAD, VEGETATION, AerialCanvas, Boxes
from landcover.aerial_palette import aerial_palette
from landcover.built_quarter import built_quarter
from landcover.main_road import MainRoad, lay_road
from landcover.photograph_simulation import ground_size, simulate_photograph
from landcover.quarter_style import STYLES
from landcover.street_life import plant_trees
from pipeline.dataset import load_dataset
from pipeline.simulate_dataset import FIRST_PHOTOGRAPH
from tests.command import ROOT, landcover

Picture = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Photographs of twelve seeds."""
    return [simulate_photograph(seed, 200) for seed in range(12)]


def bare(ground: float, side: int = 200, seed: int = 5) -> AerialCanvas:
    """A canvas of plain soil."""
    rng = np.random.default_rng(seed)
    return AerialCanvas(rng, side, ground, aerial_palette(rng))


def test_a_seed_gives_one_picture(pictures: list[Picture]) -> None:
    """The same seed gives the same pixels and labels; another seed others."""
    again = simulate_photograph(3, 200)
    assert np.array_equal(again[0], pictures[3][0])
    assert np.array_equal(again[1], pictures[3][1])
    assert not np.array_equal(again[0], pictures[4][0])


@pytest.mark.parametrize("side", [64, 101])
def test_pictures_have_the_size_asked_for(side: int) -> None:
    """Three bands and one class a pixel, bytes, also for odd sides."""
    image, labels = simulate_photograph(1, side)
    assert image.shape == (side, side, 3)
    assert labels.shape == (side, side)
    assert image.dtype == labels.dtype == np.uint8


def test_every_class_occurs(pictures: list[Picture]) -> None:
    """A dozen places hold all five classes, each on more than 2 % of the ground, and nothing else."""
    counts = sum(np.bincount(labels.ravel(), minlength=6) for _, labels in pictures)
    assert len(counts) == 6
    assert counts[0] == 0
    assert (counts[1:] > 0.02 * counts.sum()).all()


def test_pictures_differ_in_light_and_colour(pictures: list[Picture]) -> None:
    """No picture is plain, and their mean colours spread widely."""
    means = np.array([image.mean((0, 1)) for image, _ in pictures])
    assert all(image.std() > 5 for image, _ in pictures)
    assert (means.std(0) > 15).all()
    assert ((means > 15) & (means < 240)).all()


def test_ground_sizes() -> None:
    """Pixels are whole centimetres, from 0.3 to 1.8 m, small and large ones about as often."""
    sizes = np.array([ground_size(seed) for seed in range(200)])
    assert sizes.min() >= 0.3
    assert sizes.max() <= 1.8
    assert 0.6 < np.median(sizes) < 0.9
    assert np.allclose(sizes * 100, np.rint(sizes * 100))


def test_a_shadow_is_as_long_as_the_sun_is_low() -> None:
    """A wall of 4 m under rays that fall 1 m a pixel shades 3 pixels wholly, and on its far side only."""
    height = np.zeros((3, 12), np.float32)
    height[:, 8] = 4
    shade = cast_shadows(height, np.array([0.0, 1.0]), 1.0)
    assert shade[1].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0]


def test_a_shadow_keeps_the_shape_that_throws_it() -> None:
    """With the sun in the upper left, the shadow of a post falls to the lower right."""
    height = np.zeros((9, 9), np.float32)
    height[2, 2] = 3
    shade = cast_shadows(height, np.array([-1.0, -1.0]), 1.0)
    assert np.argwhere(shade > 0.5).tolist() == [[3, 3], [4, 4]]


def test_boxes_lie_where_they_are_put() -> None:
    """A box of 8 x 4 m covers 16 x 8 pixels of half a metre, turned by a right angle 8 x 16."""
    canvas = bare(0.5, 64)
    centre, half = np.array([[16.0, 16.0]]), np.array([[4.0, 2.0]])
    for angle, size in ((0.0, (8, 16)), (np.pi / 2, (16, 8))):
        ids = canvas.polygons(Boxes(centre, np.array([angle]), half).corners)
        rows, cols = np.nonzero(ids)
        found = np.ptp(rows) + 1, np.ptp(cols) + 1
        assert np.abs(np.subtract(found, size)).max() <= 1


def test_trees_are_as_large_on_the_ground_whatever_the_pixel() -> None:
    """A crown of 4 m radius covers about 50 square metres in pixels of 0.25 and of 0.5 m."""
    for ground in (0.25, 0.5):
        canvas = bare(ground)
        plant_trees(canvas, np.array([[20.0, 20.0]]), (3.99, 4.01))
        area = (canvas.labels == VEGETATION).sum() * ground**2
        assert 25 < area < 55
        assert 3 < canvas.height.max() < 12


def test_houses_stand_above_the_ground_and_keep_their_size() -> None:
    """A quarter is built over to about the same share in coarse and in fine pixels; roofs are high."""
    shares = []
    for ground in (0.5, 1.0):
        canvas = bare(ground, int(300 / ground))
        built_quarter(canvas, np.ones_like(canvas.free), STYLES["villas"])
        roofs = canvas.labels == BUILDING
        shares.append(roofs.mean())
        assert canvas.height[roofs].min() > 1
    assert all(0.1 < share < 0.6 for share in shares)
    assert abs(shares[0] - shares[1]) < 0.05


def test_no_verge_cuts_a_road_laid_before() -> None:
    """Where two avenues with medians cross, all that was carriageway of the first stays road."""
    canvas = bare(0.5, 400)
    first, second = (
        MainRoad(np.array([100.0, 100.0]), angle, (0.0, 0.0), canvas.extent, lanes=2, median=6.0)
        for angle in (0.1, 1.4)
    )
    lay_road(canvas, first)
    paved = canvas.labels == ROAD
    lay_road(canvas, second)
    low = canvas.height < 1  # crowns of an avenue may hang over it
    assert (canvas.labels[paved & low] == ROAD).all()
    assert (canvas.labels == ROAD).sum() > 1.5 * paved.sum()


def test_a_wall_round_a_lawn_is_no_lawn() -> None:
    """Between the houses all that is high is wall, and land; the lawns are low."""
    canvas = bare(0.3, 400, seed=6)  # no hedges
    style = replace(STYLES["villas"], wall=1.0, lawn=1.0, trees=0.0, pool=0.0, parking=0.0)
    built_quarter(canvas, np.ones_like(canvas.free), style)
    wall = (canvas.height > 1) & (canvas.labels != BUILDING)
    assert wall.sum() > 1000
    assert (canvas.labels[wall] == LAND).all()
    assert (canvas.labels == VEGETATION).mean() > 0.1


def test_a_dark_place_is_exposed_longer() -> None:
    """A photograph of nearly black ground is no black picture."""
    canvas = bare(0.5)
    canvas.color[:] = 0.02
    assert aerial_camera(canvas).mean() > 25


def test_the_command_writes_photographs(tmp_path: Path) -> None:
    """A dataset of bytes in red, green and blue, on the ground size of each seed, legend as in the example."""
    folder = tmp_path / "data"
    result = landcover(
        "dataset", "simulate", "-o", folder, "--kind", "photograph", "--regions", 6, "--size", 128
    )
    assert result.returncode == 0, result.stderr
    dataset = load_dataset(folder / "dataset.yml")
    for number in range(6):
        with rasterio.open(folder / f"images/region-{number + 1:03d}.tif") as image:
            assert image.res[0] == ground_size(FIRST_PHOTOGRAPH + number)
            assert image.dtypes == ("uint8",) * 3
    chip = dataset.draw("train", 64, 0, 0)
    assert chip.image.shape == (3, 64, 64)
    assert 0 < chip.image.max() <= 1
    assert legend_lines(folder / "dataset.yml") == legend_lines(ROOT / "examples/aerial-dubai.yml")


def legend_lines(path: Path) -> list[str]:
    """What a dataset says of its classes, and its bands and scale."""
    text = path.read_text(encoding="utf-8").splitlines()
    return [
        line.split("  #")[0]
        for line in text
        if "{code:" in line or line[:6] in ("bands:", "scale:")
    ]
