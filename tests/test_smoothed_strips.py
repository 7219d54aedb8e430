"""A raster smoothed strip by strip is the raster smoothed as a whole."""

from collections.abc import Callable, Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover.errors import SettingsError
from landcover.legend import LandClass, Legend
from landcover.smoothing import smooth
from pipeline.class_polygons import Pixels
from pipeline.smoothed_strips import class_steps, smoothed_strips
from pipeline.vectorize import vectorize
from tests.test_vectorize import UTM, query, write_classes

WIDE = Legend((LandClass(311, "Broad-leaved", "#00aa00"), LandClass(112, "Urban", "#aa0000"), LandClass(7, "Sea", "#0000aa")))  # fmt: skip


def cut(
    codes: np.ndarray, confidence: np.ndarray | None, step: int
) -> Callable[[], Iterator[Pixels]]:
    """A way to read arrays in strips."""

    def read() -> Iterator[Pixels]:
        for top in range(0, len(codes), step):
            rows = slice(top, min(top + step, len(codes)))
            yield Pixels(rows, codes[rows], None if confidence is None else confidence[rows])

    return read


def whole(strips: Iterator[Pixels]) -> np.ndarray:
    """The codes of all strips."""
    return np.concatenate([pixels.codes for pixels in strips])


def test_a_lonely_pixel_goes() -> None:
    """The one pixel of another class gets that of the eight around it; nodata stays nodata."""
    codes = np.array([[311, 311, 311], [311, 112, 311], [311, 311, 0]], np.uint16)
    found = whole(smoothed_strips(cut(codes, None, 1), class_steps(["majority:1"]), WIDE)())
    assert found.tolist() == [[311, 311, 311], [311, 311, 311], [311, 311, 0]]
    assert found.dtype == np.uint16


def test_a_tie_keeps_the_own_class() -> None:
    """Where as many pixels have the one class as the other, both middle pixels stay what they are."""
    codes = np.array([[7, 112, 311], [7, 112, 311], [0, 0, 0]], np.uint16)
    codes[0, 1] = 7
    codes[1, 1] = 311
    sure = np.where(codes > 0, 50, 0).astype(np.uint8)
    found = whole(smoothed_strips(cut(codes, sure, 2), class_steps(["majority:1"]), WIDE)())
    assert found.tolist() == [[7, 7, 311], [7, 311, 311], [0, 0, 0]]


steps = st.lists(
    st.sampled_from(["majority:1", "majority:2", "opening:1", "closing:1"]), min_size=1, max_size=2
)


@settings(deadline=None, max_examples=40)
@given(steps, st.integers(1, 40), st.integers(1, 30), st.booleans(), st.integers(0, 99))
def test_any_strips_give_the_same(
    texts: list[str], height: int, step: int, known: bool, seed: int
) -> None:
    """Whatever the rows of a strip, classes and confidence are those of smoothing all rows at once."""
    rng = np.random.default_rng(seed)
    channels = rng.integers(0, 4, (height, 13)).astype(np.uint8)
    sure = np.where(channels > 0, rng.integers(1, 101, channels.shape), 0).astype(np.uint8)
    codes = np.array([0, 311, 112, 7], np.uint16)[channels]
    given_sure = sure if known else None
    done = list(smoothed_strips(cut(codes, given_sure, step), class_steps(texts), WIDE)())
    layers = {"classes": channels[None], "confidence": (sure if known else np.full_like(sure, 100))[None]}  # fmt: skip
    expected = smooth(class_steps(texts), layers, [1, 2, 3])
    assert [p.rows.start for p in done] == list(range(0, height, step))
    assert whole(iter(done)).tolist() == np.array([0, 311, 112, 7])[expected["classes"][0]].tolist()
    if known:
        found = np.concatenate([p.confidence for p in done])
        np.testing.assert_array_equal(found, expected["confidence"][0])
    else:
        assert all(p.confidence is None for p in done)


def test_vectorize_smooths_before_it_traces(tmp_path: Path) -> None:
    """The polygons are those of the smoothed raster, the table agrees, and the layer `run` says it."""
    codes = np.ones(UTM.shape, int)
    codes[:, 30:] = 2
    codes[::7, ::5] = 2  # specks
    classes = write_classes(tmp_path / "c.tif", codes, UTM)
    output = tmp_path / "out.gpkg"
    vectorize(classes=classes, confidence=None, output=output, smooth=["majority:1"], strip_rows=4)
    layer = gpd.read_file(output, layer="landcover")
    assert layer.class_code.tolist() == [1, 2]
    assert layer.pixels.sum() == codes.size
    areas = query(output, "SELECT class_code, pixels FROM areas ORDER BY class_code")
    assert [row[:2] for row in areas][:2] == list(zip([1, 2], layer.pixels.tolist(), strict=True))
    assert ("majority:1",) in query(output, "SELECT value FROM run WHERE name = 'smooth'")


def test_what_cannot_be_smoothed_is_refused() -> None:
    """The guided filter wants probabilities, and more classes than a byte holds are too many."""
    with pytest.raises(SettingsError, match="guided works on class probabilities"):
        class_steps(["guided:2"])
    many = Legend(tuple(LandClass(i, f"c{i}", "#000000") for i in range(1, 300)))
    with pytest.raises(SettingsError, match="299 classes"):
        smoothed_strips(cut(np.ones((2, 2), np.uint16), None, 1), class_steps(["majority:1"]), many)
