"""Blending as an exact partition of unity."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import landcover.blending
from landcover.blending import LAYERS, Labels, StripBlender, axis_weights
from landcover.errors import CheckpointError
from landcover.tiling import TileGrid


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    """Any small raster with any tile and overlap."""
    tile = draw(st.integers(1, 12))
    return TileGrid(
        draw(st.integers(1, 40)), draw(st.integers(1, 40)), tile, draw(st.integers(0, tile - 1))
    )


def blend(
    tiles: TileGrid,
    rows: range,
    field: np.ndarray,
    valid: np.ndarray | None = None,
    layers: Sequence[str] = ("classes", "confidence"),
    sparing: bool = False,
) -> Iterator[Labels]:
    """Blend tiles cut from one field of probabilities, (classes, rows, cols); sparing: those with data."""
    field = np.log(field)
    ok = np.ones((tiles.height, tiles.width), np.uint8) if valid is None else valid
    blender = StripBlender(tiles, range(1, len(field) + 1), rows, layers)
    for i in tiles.touching(rows):
        for j, x in enumerate(tiles.col_starts):
            y = tiles.row_starts[i]
            part = field[:, y : y + tiles.tile, x : x + tiles.tile]
            if sparing and not ok[y : y + tiles.tile, x : x + tiles.tile].any():
                continue
            short = [(0, 0), *((0, tiles.tile - n) for n in part.shape[1:])]
            tile = np.pad(part, short, constant_values=9.0)  # what is outside must not count
            blender.add(i, j, tile)
        yield blender.finish(i, lambda r: ok[r.start : r.stop])


def test_weights_of_two_tiles_by_hand() -> None:
    """Tile 4, overlap 2, length 6: thirds in the overlap (to a 4096th), 1 outside it."""
    weights = axis_weights((0, 2), tile=4, overlap=2, length=6) * 4096
    assert weights.tolist() == [[4096, 4096, 2731, 1365], [1365, 2731, 4096, 4096]]


def test_weights_where_three_tiles_meet_by_hand() -> None:
    """Length 7 pulls the last window back to 3: at position 3 the tapers 1, 2, 1 share 1."""
    weights = axis_weights((0, 2, 3), tile=4, overlap=2, length=7)
    assert weights[:, [3, 1, 0]].diagonal().tolist() == [0.25, 0.5, 0.25]
    assert weights[1].tolist()[2:] == [0.5, 1365 / 4096]


def test_a_lone_tile_weighs_one_where_the_raster_is() -> None:
    """A raster of 3 in a tile of 5: weight 1 on the raster, 0 on the mirrored rest."""
    assert axis_weights((0,), 5, 2, 3).tolist() == [[1, 1, 1, 0, 0]]


def test_a_seam_is_blended_by_hand() -> None:
    """Two tiles that disagree, 8 to 1: the class changes in the middle of the overlap, at odds of 2 to 1."""
    tiles = TileGrid(height=4, width=6, tile=4, overlap=2)
    blender = StripBlender(tiles, [7, 9], range(4))
    for j in (0, 1):
        logits = np.zeros((2, 4, 4), np.float32)
        logits[j] = np.log(8)
        blender.add(0, j, logits)
    labels = blender.finish(0, lambda rows: np.ones((len(rows), 6), np.uint8))
    assert labels.rows == range(4)
    assert labels.layers["classes"][0].tolist() == [[7, 7, 7, 9, 9, 9]] * 4
    # In the overlap the odds are 8^(2/3 - 1/3) = 2 to 1.
    assert labels.layers["confidence"][0].tolist() == [[89, 89, 67, 67, 89, 89]] * 4


def test_no_data_stays_no_data_and_ties_go_to_the_first_class() -> None:
    """An invalid pixel is 0 in both; equal probabilities give the legend's first class."""
    tiles = TileGrid(2, 2, 2, 0)
    valid = np.array([[1, 0], [1, 1]], np.uint8)
    (labels,) = blend(tiles, range(2), np.full((2, 2, 2), 0.5, np.float32), valid)
    assert labels.layers["classes"][0].tolist() == [[1, 0], [1, 1]]
    assert labels.layers["confidence"][0].tolist() == [[50, 0], [50, 50]]


def test_a_valid_pixel_is_never_zero() -> None:
    """With 255 equal classes (0.4 %) the confidence is 1, since 0 is nodata."""
    field = np.full((255, 2, 2), 1 / 255, np.float32)
    (labels,) = blend(TileGrid(2, 2, 2, 0), range(2), field)
    assert labels.layers["confidence"][0].min() == 1
    assert labels.layers["classes"][0].min() == 1


def test_a_model_that_gives_no_number_is_an_error_only_where_there_is_data() -> None:
    """NaN under a valid pixel raises; under nodata it does not matter."""
    field = np.full((2, 2, 2), 0.5, np.float32)
    field[:, 0, 1] = np.nan
    tiles = TileGrid(2, 2, 2, 0)
    (labels,) = blend(tiles, range(2), field, np.array([[1, 0], [1, 1]], np.uint8))
    assert labels.layers["classes"][0].tolist() == [[1, 0], [1, 1]]
    with pytest.raises(CheckpointError, match="not a number for 1 pixels"):
        list(blend(tiles, range(2), field))


@settings(deadline=None)  # its speed is not what is tested
@given(
    st.integers(1, 300).flatmap(
        lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1), st.integers(1, 2000))
    )
)
def test_weights_sum_to_exactly_one(sizes: tuple[int, int, int]) -> None:
    """The float32 sum over the tiles that cover a position is 1, bit for bit; none is negative."""
    tile, overlap, length = sizes
    starts = TileGrid(length, 1, tile, overlap).row_starts
    total = np.zeros(length, np.float32)
    weights = axis_weights(starts, tile, overlap, length)
    for weight, start in zip(weights, starts, strict=True):
        total[start : start + tile] += weight[: length - start]
    assert (total == 1).all()
    assert weights.min() >= 0


@given(grids())
@settings(deadline=None)
def test_a_field_of_ones_comes_back_bit_for_bit(grid: TileGrid) -> None:
    """The two-dimensional weights sum to exactly 1 at every pixel, corners included."""
    ones = np.ones((1, grid.tile, grid.tile), np.float32)
    seen = np.zeros((grid.height, grid.width), int)

    def look(sums: np.ndarray, _unit: int, cols: int, *rest: Any) -> None:
        row, x = rest[2:4]
        assert (sums[:, :cols] == 1).all()
        seen[top + row, x : x + cols] += 1

    with pytest.MonkeyPatch.context() as patch:  # what is summed is seen where it is decided
        patch.setattr(landcover.blending, "_blend", landcover.blending._blend.py_func)
        patch.setattr(landcover.blending, "_decide", look)
        patch.setattr(landcover.blending, "_keep_valid", lambda *_: 0)
        blender = StripBlender(grid, [1], range(grid.height))
        for i in range(len(grid.row_starts)):
            top = grid.row_starts[i]
            for j in range(len(grid.col_starts)):
                blender.add(i, j, ones)
            blender.finish(i, lambda r: np.ones((len(r), grid.width), np.uint8))
    assert (seen == 1).all()


@given(grids(), st.integers(1, 40))
@settings(deadline=None)
def test_a_constant_prediction_comes_back_however_it_is_cut(grid: TileGrid, height: int) -> None:
    """Probabilities 0.3 and 0.7 everywhere give class 2 at 70 percent everywhere."""
    field = np.empty((2, grid.height, grid.width), np.float32)
    field[:] = np.array([0.3, 0.7], np.float32)[:, None, None]
    for band in grid.bands(height):
        for labels in blend(grid, band, field):
            assert (labels.layers["classes"][0] == 2).all()
            assert (labels.layers["confidence"][0] == 70).all()


@given(grids(), st.integers(1, 40), st.integers(0, 2**32))
@settings(deadline=None)
def test_cutting_into_bands_changes_no_label(grid: TileGrid, height: int, seed: int) -> None:
    """Random fields with holes give the same rows in one band and in many."""
    rng = np.random.default_rng(seed)
    field = rng.dirichlet([1, 1, 1], (grid.height, grid.width)).transpose(2, 0, 1)
    field = np.ascontiguousarray(field, np.float32)
    valid = (rng.random((grid.height, grid.width)) > 0.2).astype(np.uint8)

    def rows(bands: Iterator[range]) -> np.ndarray:
        pieces = [p for band in bands for p in blend(grid, band, field, valid)]
        return np.concatenate(
            [np.concatenate([p.layers["classes"], p.layers["confidence"]]) for p in pieces], axis=1
        )

    whole, cut = rows(grid.bands()), rows(grid.bands(height))
    assert (whole == cut).all()
    assert ((whole[0] > 0) == valid).all()


@given(grids(), st.integers(0, 2**32))
@settings(deadline=None)
def test_tiles_without_data_may_be_left_out(grid: TileGrid, seed: int) -> None:
    """A raster whose data are some of its tiles has the same rows without the others."""
    rng = np.random.default_rng(seed)
    field = rng.dirichlet([1, 1, 1], (grid.height, grid.width)).transpose(2, 0, 1)
    field = np.ascontiguousarray(field, np.float32)
    valid = np.zeros((grid.height, grid.width), np.uint8)
    for rows, cols in list(grid)[seed % 2 :: 3]:
        valid[rows, cols] = 1

    def rows_of(sparing: bool) -> np.ndarray:
        pieces = blend(grid, range(grid.height), field, valid, LAYERS, sparing)
        return np.concatenate(
            [np.concatenate([p.layers[name] for name in LAYERS]) for p in pieces], axis=1
        )

    np.testing.assert_array_equal(rows_of(True), rows_of(False))


def test_what_is_known_of_a_pixel_by_hand() -> None:
    """Chances 1/2, 1/4, 1/4: confidence 50 %, margin 25 %, entropy 1.5 bits of 1.585, 1 + 254 p."""
    field = np.empty((3, 1, 2), np.float32)
    field[:] = np.array([0.25, 0.5, 0.25], np.float32)[:, None, None]
    valid = np.array([[1, 0]], np.uint8)
    (labels,) = blend(TileGrid(1, 2, 2, 0), range(1), field, valid, LAYERS)
    found = {name: labels.layers[name][:, 0].T.tolist() for name in LAYERS}
    assert found == {
        "classes": [[2], [0]],
        "confidence": [[50], [0]],
        "margin": [[25], [0]],
        "entropy": [[95], [0]],
        "probabilities": [[65, 128, 65], [0, 0, 0]],
    }


@given(st.integers(0, 2**32), st.integers(1, 9))
@settings(deadline=None)
def test_the_layers_are_those_of_the_softmax(seed: int, classes: int) -> None:
    """Any logits give, within rounding, what the formulas give in double precision."""
    logits = np.random.default_rng(seed).normal(0, 5, (classes, 3, 300)).astype(np.float32)
    tiles = TileGrid(3, 300, 300, 0)
    blender = StripBlender(tiles, range(1, classes + 1), range(3), LAYERS)
    blender.add(0, 0, np.pad(logits, ((0, 0), (0, 297), (0, 0))))
    got = blender.finish(0, lambda rows: np.ones((len(rows), 300), np.uint8)).layers
    p = np.exp(logits.astype(float) - logits.max(0))
    p /= p.sum(0)
    top = np.sort(np.concatenate([np.zeros_like(p[:1]), p]), axis=0)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(0) / max(np.log(classes), 1e-9)
    assert (got["classes"][0] == 1 + logits.argmax(0)).all()
    for name, share in (
        ("confidence", top[-1]),
        ("margin", top[-1] - top[-2]),
        ("entropy", entropy),
    ):
        np.testing.assert_allclose(got[name][0], np.maximum(100 * share, 1), atol=0.501)
    np.testing.assert_allclose((got["probabilities"] - 1.0) / 254, p, atol=0.501 / 254)


@given(grids(), st.integers(0, 2**32), st.booleans())
@settings(deadline=None)
def test_the_order_in_memory_and_the_halves_of_numbers_do_not_matter(
    grid: TileGrid, seed: int, halves: bool
) -> None:
    """Logits by class and by pixel, as float32 and as the bits of bfloat16, give the same rows."""
    rng = np.random.default_rng(seed)
    shape = (len(grid.row_starts), len(grid.col_starts), 3, grid.tile, grid.tile)
    bits = (rng.normal(0, 4, shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    logits = bits if halves else (bits.astype(np.uint32) << 16).view(np.float32)

    def rows(by_pixel: bool, given: np.ndarray) -> np.ndarray:
        blender = StripBlender(grid, [1, 2, 3], range(grid.height), LAYERS)
        pieces = []
        for i in range(shape[0]):
            for j in range(shape[1]):
                tile = given[i, j]
                if by_pixel:
                    tile = np.ascontiguousarray(tile.transpose(1, 2, 0)).transpose(2, 0, 1)
                blender.add(i, j, tile)
            found = blender.finish(i, lambda r: np.ones((len(r), grid.width), np.uint8))
            pieces.append(np.concatenate([found.layers[name] for name in LAYERS]))
        return np.concatenate(pieces, axis=1)

    expected = rows(False, (bits.astype(np.uint32) << 16).view(np.float32))
    assert (rows(True, logits) == expected).all()
    assert (rows(False, logits) == expected).all()
