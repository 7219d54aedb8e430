"""Real Sentinel-2 scenes with weak labels."""

from pathlib import Path

import numpy as np
import pytest

from landcover.errors import RasterError
from landcover.spectral_rules import BUILT, CROPS, TREES, WATER, one_of
from pipeline.sentinel2_scenes import (
    HELD_OUT_CITIES,
    read_austria,
    read_city,
    read_slovenia,
    slovenian_blocks,
)
from pipeline.train_sentinel2 import training_scenes


def test_quarters_by_hand():
    """Of 20 x 20 pixels, north-west and south-east are learnt from, the others held back, 9 rows at the seam neither."""
    labels = np.full((1, 20, 20), TREES, np.uint8)
    ours, held = (slovenian_blocks(labels, held_out) for held_out in (False, True))
    assert (ours[0, 0, 0], ours[0, -1, -1], ours[0, 0, -1], ours[0, -1, 0]) == (2, 2, 0, 0)
    assert (held[0, 0, 0], held[0, -1, -1], held[0, 0, -1], held[0, -1, 0]) == (0, 0, 2, 2)
    assert not (ours & held).any()
    assert (ours > 0).sum() == 6 * 6 + 5 * 5
    assert not (ours | held)[0, 6:15].any()


def test_a_city_is_read_on_one_grid_and_its_water_and_woods_are_found(shared_data: Path):
    """Both dates of Hong Kong, whose grids differ, share the first one's; a quarter is sea, much is forest."""
    scene = read_city(shared_data / "sentinel2_pairs_oscd/images/hongkong")
    assert scene.images.shape == (2, 6, 695, 540)
    assert scene.labels.shape == (2, 695, 540)
    assert 0.02 < np.median(scene.images) < 0.3
    shares = {kind: (scene.labels == kind).mean() for kind in (WATER, TREES, CROPS, BUILT)}
    assert 0.2 < shares[WATER] < 0.26
    assert 0.1 < shares[TREES] < 0.4
    assert shares[CROPS] < 0.001


def test_a_folder_without_bands_is_refused(tmp_path: Path):
    """It is named, with what is missing."""
    with pytest.raises(RasterError, match=r"has no file \*_B02.tif"):
        read_city(tmp_path)


def test_slovenian_land_use_becomes_classes_where_no_cloud_is(shared_data: Path):
    """Two of five dates are hidden; on the others three quarters are forest, and no data has no label."""
    scene = read_slovenia(shared_data / "sentinel2_lulc_slovenia")
    assert scene.images.shape == (5, 6, 101, 100)
    assert not scene.labels[:2].any()
    assert (scene.labels[2:] == TREES).mean() == pytest.approx(7601 / 10100, abs=1e-3)
    assert set(np.unique(scene.labels)) == {0, *(one_of(code) for code in (2, 3, 4, 5, 8))}


def test_austria_is_turned_to_our_order_of_bands(shared_data: Path):
    """Stored red first; leaves reflect more green than blue, and far more infrared."""
    scene = read_austria(shared_data / "sentinel2_two_season_austria/inference-img.tif")
    assert scene.images.shape == (2, 4, 379, 578)
    blue, green, red, nir = scene.images[:, :, scene.labels[0] == TREES].mean((0, 2))
    assert nir > 3 * green > 3 * max(red, blue)


def test_held_out_places_are_not_learnt_from(shared_data: Path):
    """No held-out city is among the training scenes, and no held-out quarter of Slovenia has a label there."""
    scenes = {scene.name: scene for scene in training_scenes(shared_data, ("a", "b", "c", "d"))}
    assert not scenes.keys() & set(HELD_OUT_CITIES)
    assert {"pisa", "austria", "slovenia"} <= scenes.keys()
    assert {scene.images.shape[1] for scene in scenes.values()} == {4}
    labels = scenes["slovenia"].labels
    assert labels.any((1, 2)).all()
    assert not slovenian_blocks(labels, held_out=True).any()
