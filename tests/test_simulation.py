"""The simulated region: a landscape, its spectra, and what a satellite would see of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from landcover.landscape import Landscape, LandscapeOptions, build_landscape
from landcover.noise import Floats, chance, enlarge, fractal, scramble
from landcover.parcels import districts, parcels
from landcover.simulation import (
    LEGEND,
    Moment,
    Scenery,
    Sky,
    classify_scene,
    double,
    draw_sky,
    halve,
    sensor_noise,
    through_sky,
)
from landcover.spectra import (
    BANDS,
    COVER,
    GRAIN,
    MATERIALS,
    Climate,
    Cover,
    draw_traits,
    end_members,
    growth,
)

SHAPE = (512, 512)


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    """One region of the default kind."""
    return build_landscape(3, SHAPE)


@pytest.fixture(scope="module")
def july(landscape: Landscape) -> dict[str, Floats]:
    """Reflectance of every band at the height of summer, by band name."""
    view = Scenery(landscape, 3).reflectance(Moment(200))
    return {band: view.band(band) for band in BANDS}


# --- noise


def test_enlarge_interpolates_between_known_points() -> None:
    """Values at every second pixel are kept, those between are their means."""
    coarse = np.array([[0, 2], [4, 6]], np.float32)
    np.testing.assert_array_equal(enlarge(coarse, 2, (3, 3)), [[0, 1, 2], [2, 3, 4], [4, 5, 6]])


def test_fractal_is_standardised_and_keeps_only_its_wavelengths() -> None:
    """A field has mean 0, deviation 1, and no power outside the wavelengths asked for."""
    field = fractal(np.random.default_rng(0), (128, 96), 2.0, shortest=8, longest=32)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(96)[None])
    outside = (frequency > 1 / 8 + 1e-6) | (frequency < 1 / 32 - 1e-6)
    assert power[outside].sum() < 1e-6 * power.sum()


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**16))
def test_scramble_depends_on_every_key_and_its_order(first: int, second: int) -> None:
    """The same keys give the same number; changing or swapping one gives another."""
    assert scramble(first, second) == scramble(first, second)
    assert scramble(first, second) != scramble(first, second + 1)
    if first != second:
        assert scramble(first, second) != scramble(second, first)


def test_chance_is_uniform() -> None:
    """Numbers of consecutive keys fill [0, 1) evenly."""
    draws = chance(np.arange(100_000), 7)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts, _ = np.histogram(draws, 20, (0, 1))
    assert np.abs(counts - 5000).max() < 400


# --- parcels


def test_districts_are_voronoi_cells() -> None:
    """A pixel belongs to the district whose centre is nearest, and its verge is the way to the next."""
    layout = districts(np.random.default_rng(1), (90, 120), 30)
    place = np.stack(np.mgrid[:90, :120], -1)[:, :, None]
    distance = np.hypot(*np.moveaxis(place - layout.centre, -1, 0))
    nearest = np.sort(distance, axis=2)
    chosen = np.take_along_axis(distance, layout.index[..., None].astype(int), 2)[..., 0]
    assert (
        chosen <= nearest[..., 0] + 1e-3
    ).mean() > 0.995  # only the 3 x 3 nearest cells are asked
    assert layout.verge.min() >= -1e-3


def test_parcels_have_straight_sides_and_the_size_asked_for() -> None:
    """Parcels of one district are about as large as asked for, and reach neither each other's key."""
    layout = districts(np.random.default_rng(1), (400, 400), 400)
    plots = parcels(layout, 10, 20, 5, uneven=0.0)
    whole = layout.index == np.bincount(layout.index.ravel()).argmax()
    keys, counts = np.unique(plots.key[whole], return_counts=True)
    assert np.median(counts) == pytest.approx(200, rel=0.05)
    largest = plots.key == keys[counts.argmax()]
    assert label(largest)[1] == 1
    assert plots.edge.min() >= 0
    assert plots.edge[whole].max() <= 5.001


# --- spectra


def test_every_material_is_complete() -> None:
    """Each material has a class of the legend, two physical spectra and a known grain."""
    assert len({m.name for m in MATERIALS}) == len(MATERIALS) == len(COVER) == len(GRAIN)
    assert set(COVER.tolist()) == set(LEGEND.codes) == set(Cover)
    for material in MATERIALS:
        spectra = np.array([material.low, material.high])
        assert spectra.shape == (2, len(BANDS))
        assert ((spectra > 0) & (spectra < 0.6)).all()


def test_wheat_is_green_in_may_yellow_in_july_and_soil_in_september() -> None:
    """Winter wheat's vegetation index is high in spring, low when ripe; stubble follows harvest."""
    wheat = next(i for i, m in enumerate(MATERIALS) if m.name == "wheat")
    traits = draw_traits(np.random.default_rng(0))
    index = {}
    for day in (135, 195, 260):
        low, high = end_members(day, traits, Climate())
        red, nir = ((low + high)[wheat, :, BANDS.index(b)].mean() for b in ("red", "nir"))
        index[day] = (nir - red) / (nir + red)
    assert index[135] > 0.7
    assert index[195] < 0.45
    assert index[260] < 0.4


@given(st.floats(1, 366))
@settings(max_examples=40, deadline=None)
def test_shares_of_plants_are_shares_on_every_day(day: float) -> None:
    """Green and dry plants each cover 0 to 1 of the ground, and together no more than it."""
    traits = np.linspace(-2.5, 2.5, 11, dtype=np.float32)
    for material in MATERIALS:
        if material.season:
            green, dry = growth(material.season, day, traits, traits[::-1])
            assert green.min() >= 0
            assert dry.min() >= 0
            assert (green + dry).max() <= 1.0001


@given(st.floats(1, 366), st.floats(0, 1), st.floats(-20, 20), st.floats(0.5, 1.8))
@settings(max_examples=25, deadline=None)
def test_reflectance_stays_physical(
    day: float, drought: float, shift: float, contrast: float
) -> None:
    """No season or climate drives a material's reflectance out of 0 to 1."""
    climate = Climate(drought=drought, shift=shift, contrast=contrast)
    for side in end_members(day, draw_traits(np.random.default_rng(1)), climate):
        assert side.shape == (len(MATERIALS), 256, len(BANDS))
        assert side.min() > 0
        assert side.max() <= np.float32(0.9)


# --- landscape


def test_landscape_is_a_function_of_its_seed() -> None:
    """Equal seeds give equal landscapes; another seed gives another one."""
    first, again, other = (build_landscape(seed, (160, 224)) for seed in (5, 5, 6))
    for name in ("material", "variant", "texture", "lanes", "elevation"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.cover != other.cover).mean() > 0.2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_landscape_holds_every_class(seed: int) -> None:
    """A region of the default kind has some of all eight classes, and more fields than anything else."""
    cover = build_landscape(seed, SHAPE).cover
    shares = np.bincount(cover.ravel(), minlength=9) / cover.size
    assert shares[0] == 0
    assert (shares[1:] > 0.001).all()
    assert shares.argmax() in (Cover.CROPS, Cover.TREES)


def test_river_crosses_the_region(landscape: Landscape) -> None:
    """Water, with the bridges over it, reaches two sides of the raster in one piece."""
    pieces, _ = label(np.isin(landscape.cover, (Cover.WATER, Cover.BUILT)), np.ones((3, 3)))
    river = pieces == np.bincount(pieces[landscape.cover == Cover.WATER]).argmax()
    sides = [river[0].any(), river[-1].any(), river[:, 0].any(), river[:, -1].any()]
    assert sum(sides) >= 2


@pytest.mark.parametrize(
    ("options", "code", "least"),
    [
        (LandscapeOptions(sea=0.5), Cover.WATER, 0.45),
        (LandscapeOptions(city=1.3, hills=0.0), Cover.BUILT, 0.6),
        (LandscapeOptions(woods=0.8, hills=0.5), Cover.TREES, 0.4),
        (LandscapeOptions(desert=1.0, hills=0.0, river=0.0, lakes=0), Cover.BARE, 0.6),
    ],
)
def test_options_decide_what_the_country_is(
    options: LandscapeOptions, code: int, least: float
) -> None:
    """Sea, city, woods and desert cover about as much as they are asked to."""
    cover = build_landscape(4, (320, 320), options).cover
    assert (cover == code).mean() > least


def test_landscape_without_towns_or_river_is_possible() -> None:
    """No town and no river means no building and no road."""
    cover = build_landscape(4, (192, 192), LandscapeOptions(towns=0, river=0.0, lakes=0)).cover
    assert not np.isin(cover, (Cover.BUILT, Cover.WATER)).any()


# --- what the sensor sees


def test_classes_look_as_they_should_in_july(landscape: Landscape, july: dict[str, Floats]) -> None:
    """Water is dark in the short-wave infrared, trees are green and dark, bare ground is bright."""
    green = (july["nir"] - july["red"]) / (july["nir"] + july["red"])

    def median(field: Floats, code: Cover) -> float:
        return float(np.median(field[landscape.cover == code]))

    assert median(july["swir16"], Cover.WATER) < 0.03
    assert median(green, Cover.TREES) > 0.75
    assert median(july["red"], Cover.TREES) < 0.03
    assert median(green, Cover.GRASS) > 0.5
    assert median(green, Cover.BUILT) < 0.35
    assert median(july["red"], Cover.BARE) > 0.12
    assert median(july["swir16"], Cover.WETLAND) < median(july["swir16"], Cover.GRASS)


def test_borders_are_mixed_and_sums_kept(landscape: Landscape) -> None:
    """The point spread mixes neighbours: a step gets softer, the mean stays."""
    view = Scenery(landscape, 3).reflectance(Moment(200))
    sharp, seen = view.sharp("nir"), view.band("nir")
    assert np.abs(np.diff(seen)).max() < np.abs(np.diff(sharp)).max()
    assert seen.mean() == pytest.approx(sharp.mean(), rel=1e-3)


def test_slopes_towards_the_sun_are_brighter(landscape: Landscape) -> None:
    """Morning sun from the east brightens what faces east, evening sun what faces west."""
    rises_east = np.gradient(landscape.elevation, 10.0)[1] > 0.1
    scenery = Scenery(landscape, 3)
    east, west = (
        scenery.reflectance(Moment(200, azimuth, 45)).light[rises_east].mean()
        for azimuth in (90, 270)
    )
    assert east < 1 < west


def test_halve_is_the_mean_of_four_pixels() -> None:
    """A 20 m pixel is the mean of its four 10 m pixels."""
    fine = np.array([[1, 3, 0, 0], [5, 7, 0, 4]], np.float32)
    np.testing.assert_array_equal(halve(fine), [[4, 1]])


def test_double_interpolates_between_pixels() -> None:
    """A 10 m pixel lies a quarter of the way from its 20 m pixel's middle to the next one's."""
    np.testing.assert_allclose(double(np.array([[0, 4]], np.float32)), [[0, 1, 3, 4]] * 2)


def test_cloudless_sky_changes_nothing() -> None:
    """With no clouds asked for, the sensor sees the surface itself."""
    surface = np.linspace(0.01, 0.5, 64, dtype=np.float32).reshape(8, 8)
    sky = draw_sky((8, 8), Moment(150))
    np.testing.assert_allclose(through_sky(surface, "red", sky), surface, rtol=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_clouds_cover_the_share_asked_for(share: float) -> None:
    """The sky is hidden about as much as asked for."""
    sky = draw_sky((512, 512), Moment(150, clouds=share, seed=9))
    assert (sky.opacity > 0).mean() == pytest.approx(share, abs=0.12)
    assert 0 <= sky.opacity.min() < sky.opacity.max() <= 1
    assert 0 <= sky.sunlight.min() < sky.sunlight.max() <= 1


def test_shadows_fall_away_from_the_sun() -> None:
    """Under a sun 45 degrees high in the south, shadows are clouds moved 600 to 1300 m northward."""
    sky = draw_sky((512, 512), Moment(150, sun_azimuth=180, sun_elevation=45, clouds=0.05, seed=9))
    cloud, dark = sky.opacity > 0.3, sky.sunlight < 1 - 0.92 * 0.3

    def agreement(north: int) -> float:
        moved = dark[200 - north : 312 - north]
        return float((moved & cloud[200:312]).sum() / cloud[200:312].sum())

    best = max(range(-140, 141, 2), key=agreement)
    assert 60 <= best <= 130
    assert agreement(best) > 0.9


def test_noise_has_the_sensors_size_and_no_bias() -> None:
    """Noise has mean 0 and the deviation promised at that brightness."""
    level = np.full((400, 400), 0.2, np.float32)
    noise = sensor_noise(level, 1) - level
    assert noise.mean() == pytest.approx(0, abs=2e-5)
    assert noise.std() == pytest.approx(0.0012 + 0.007 * 0.2, rel=0.02)


def test_scene_classification_of_plain_surfaces() -> None:
    """Leaves are 4, soil 5, water 6; under thick cloud 9, in a shadow 3; doubt is rare."""
    red, nir, swir = (
        np.repeat(np.float32(v), 300).reshape(3, 1, 300)
        for v in ([0.03, 0.15, 0.04], [0.4, 0.25, 0.02], [0.2, 0.3, 0.01])
    )
    clear = Sky(np.zeros((1, 300), np.float32), np.ones((1, 300), np.float32))
    for row, code in enumerate((4, 5, 6)):
        codes = classify_scene(red[row], nir[row], swir[row], clear, 1)
        assert set(np.unique(codes)) <= {code, 7}
        assert (codes == code).mean() > 0.95
    thick = replace(clear, opacity=np.ones((1, 300), np.float32))
    assert (classify_scene(red[0], nir[0], swir[0], thick, 1) == 9).all()
    dark = replace(clear, sunlight=np.zeros((1, 300), np.float32))
    assert (classify_scene(red[0], nir[0], swir[0], dark, 1) == 3).all()


def test_mask_finds_almost_every_cloud_that_matters(landscape: Landscape) -> None:
    """Pixels that the scene classification calls clear are within 0.02 of the surface's reflectance."""
    moment = Moment(200, clouds=0.3, seed=5)
    view, sky = Scenery(landscape, 3).reflectance(moment), draw_sky(SHAPE, moment)
    red, nir, swir = (view.band(b) for b in ("red", "nir", "swir16"))
    codes = classify_scene(red, nir, swir, sky, 5)
    clear = ~np.isin(codes, (0, 1, 3, 8, 9, 10))
    assert 0.3 < clear.mean() < 0.9
    assert (np.abs(through_sky(red, "red", sky) - red)[clear] < 0.02).mean() > 0.99
