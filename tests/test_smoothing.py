"""Smoothing steps: what each does to grids drawn by hand, and that no cut through the map shows."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landcover.errors import SettingsError
from landcover.smoothing import EPS, MAX_RADIUS, Step, halo, parse_steps, smooth

Layers = dict[str, NDArray[np.uint8]]

CODES = (3, 1, 7)  # the legend's order is not that of the codes
LETTERS = {".": 0, "A": 3, "B": 1, "C": 7}


def drawn(*rows: str) -> NDArray[np.uint8]:
    """A class map from letters: A, B, C in the legend's order, a dot for no data."""
    return np.array([[LETTERS[letter] for letter in row] for row in rows], np.uint8)


def letters(layers: Layers) -> list[str]:
    """The class map as letters again."""
    names = {code: letter for letter, code in LETTERS.items()}
    return ["".join(names[int(code)] for code in row) for row in layers["classes"][0]]


def sure(classes: NDArray[np.uint8], percent: object = 50) -> Layers:
    """Layers of a class map whose pixels are so sure."""
    confidence = np.where(classes, np.broadcast_to(percent, classes.shape), 0)
    return {"classes": classes[None], "confidence": confidence[None].astype(np.uint8)}


def smoothed(step: str, *rows: str, percent: object = 50) -> list[str]:
    """A drawn map after one step."""
    return letters(smooth(parse_steps([step]), sure(drawn(*rows), percent), CODES))


def test_majority_removes_a_lone_pixel_by_hand() -> None:
    """One B among eight A is outvoted; the corner's window is cut off at the edge."""
    assert smoothed("majority:1", "AAA", "ABA", "AAA") == ["AAA"] * 3
    assert smoothed("majority:1", "BAA", "AAA", "AAA") == ["AAA"] * 3


def test_majority_keeps_a_pixel_among_the_best() -> None:
    """Two against two in a row of two: each pixel keeps its own class, whatever the confidence."""
    assert smoothed("majority:1", "AB", "AB", percent=[[1, 99]]) == ["AB", "AB"]


def test_majority_breaks_ties_by_confidence_then_legend() -> None:
    """C stands between two A and two B: the surer ones win, and A, first in the legend, if none are."""
    rows = (".A.", "BCB", ".A.")
    assert (
        smoothed("majority:1", *rows, percent=[[0, 50, 0], [50, 50, 51], [0, 50, 0]])[1][1] == "B"
    )
    assert (
        smoothed("majority:1", *rows, percent=[[0, 52, 0], [50, 50, 51], [0, 50, 0]])[1][1] == "A"
    )
    assert smoothed("majority:1", *rows)[1][1] == "A"


def test_no_data_has_no_vote() -> None:
    """A lone pixel in nodata stays; two A outvote one B however much nodata is around."""
    assert smoothed("majority:1", "...", ".B.", "...") == ["...", ".B.", "..."]
    assert smoothed("majority:1", "A..", ".B.", "..A") == ["A..", ".A.", "..A"]


def test_a_changed_pixel_is_as_sure_as_those_who_voted() -> None:
    """The mean of 40, 40 and 41 is 40.33; of 40 and 41, half up, 41."""
    layers = sure(drawn("AAA", ".B."), [[40, 40, 41], [0, 90, 0]])
    result = smooth(parse_steps(["majority:1"]), layers, CODES)
    assert result["confidence"].tolist() == [[[40, 40, 41], [0, 40, 0]]]
    layers = sure(drawn("A.A", ".B."), [[40, 0, 41], [0, 90, 0]])
    result = smooth(parse_steps(["majority:1"]), layers, CODES)
    assert result["confidence"].tolist() == [[[40, 0, 41], [0, 41, 0]]]


def test_a_changed_pixel_takes_the_probability_of_its_class_where_known() -> None:
    """B changed to A has A's 77 / 254, 30 %; its margin is 1; entropy and probabilities stay."""
    layers = sure(drawn("AAA", "ABA"))
    layers["probabilities"] = np.full((3, 2, 3), 1, np.uint8)
    layers["probabilities"][:, 1, 1] = 78, 128, 51
    layers["margin"] = np.full((1, 2, 3), 20, np.uint8)
    layers["entropy"] = np.full((1, 2, 3), 60, np.uint8)
    result = smooth(parse_steps(["majority:1"]), layers, CODES)
    assert letters(result) == ["AAA", "AAA"]
    assert result["confidence"].tolist() == [[[50, 50, 50], [50, 30, 50]]]
    assert result["margin"].tolist() == [[[20, 20, 20], [20, 1, 20]]]
    assert (result["entropy"] == layers["entropy"]).all()
    assert (result["probabilities"] == layers["probabilities"]).all()


def test_opening_removes_what_is_narrower_than_its_window_by_hand() -> None:
    """A line of B one pixel wide goes; a block of three by three holds a window and stays."""
    line = ("AAAAAA", "AAAAAA", "AAAAAA", "BBBBBB", "AAAAAA", "AAAAAA", "AAAAAA")
    assert smoothed("opening:1", *line) == ["AAAAAA"] * 7
    block = ("AAAAAAAAA",) * 3 + ("AAABBBAAA",) * 3 + ("AAAAAAAAA",) * 3
    assert smoothed("opening:1", *block) == list(block)


def test_opening_keeps_narrow_parts_at_the_edge_and_at_nodata() -> None:
    """Two rows of B at the raster's edge may go on outside, and one row beside nodata inside it."""
    edge = ("BBBB", "BBBB", "AAAA", "AAAA")
    assert smoothed("opening:1", *edge) == list(edge)
    beside = ("AAAA", "AAAA", "BBBB", "BBBB", "....")
    assert smoothed("opening:1", *beside) == list(beside)


def test_opening_leaves_a_pixel_that_nobody_near_can_take() -> None:
    """In a chessboard no window is of one class, so nothing is kept and nothing changes."""
    board = ("ABAB", "BABA", "ABAB", "BABA")
    assert smoothed("opening:1", *board) == list(board)


def test_opening_cuts_a_spur_off_its_block() -> None:
    """A spur does not come back by the votes of its own block: beside it only A may take it."""
    rows = (
        "AAAAAAA",
        "AAAAAAA",
        "AAAAAAA",
        "BBBBAAA",
        "BBBBBBA",
        "BBBBAAA",
        "AAAAAAA",
        "AAAAAAA",
        "AAAAAAA",
    )
    result = smoothed("opening:1", *rows)
    assert result[4] == "BBBBAAA"
    assert result[3] == rows[3]


def test_closing_fills_a_gap_within_a_class_only() -> None:
    """The same line of C vanishes within A, and stays between A and B."""
    within = ("AAAA", "AAAA", "AAAA", "CCCC", "AAAA", "AAAA", "AAAA")
    between = ("AAAA", "AAAA", "AAAA", "CCCC", "BBBB", "BBBB", "BBBB")
    assert smoothed("closing:1", *within) == ["AAAA"] * 7
    assert smoothed("closing:1", *between) == list(between)
    assert "CCCC" not in smoothed("opening:1", *between)


def test_closing_leaves_a_gap_as_wide_as_its_window() -> None:
    """Three rows of C are no gap for radius 1, and are one for radius 2, whose window is 5."""
    rows = ("AAAAA",) * 5 + ("CCCCC",) * 3 + ("AAAAA",) * 5
    assert smoothed("closing:1", *rows) == list(rows)
    assert smoothed("closing:2", *rows) == ["AAAAA"] * 13


def test_closing_needs_something_solid() -> None:
    """In narrow stripes no class is solid, so none may close over another."""
    stripes = ("ABABAB",) * 5
    assert smoothed("closing:1", *stripes) == list(stripes)


def with_probabilities(parts: NDArray[np.uint8]) -> Layers:
    """Layers as the engine makes them from probabilities in parts of 254, (classes, rows, cols)."""
    classes = np.array(CODES, np.uint8)[parts.argmax(0)]
    layers = sure(classes, np.floor(100 * parts.max(0) / 254 + 0.5))
    return layers | {"probabilities": (parts + 1).astype(np.uint8)}


def test_guided_on_a_flat_guide_is_a_mean_of_means_by_hand() -> None:
    """One row, radius 1, p of A 1 1 1 0 0 0: means 1 1 2/3 1/3 0 0, their means 1 8/9 2/3 1/3 1/9 0."""
    parts = np.zeros((3, 1, 6), np.uint8)
    parts[0, 0, :3] = parts[1, 0, 3:] = 254
    result = smooth(
        parse_steps(["guided:1"]),
        with_probabilities(parts),
        CODES,
        np.full((1, 6), 0.3, np.float32),
    )
    found = result["probabilities"][:, 0].astype(int) - 1
    assert found[0].tolist() == [254, 226, 169, 85, 28, 0]
    assert found[1].tolist() == [0, 28, 85, 169, 226, 254]
    assert letters(result) == ["AAABBB"]
    assert result["confidence"].tolist() == [[[100, 89, 67, 67, 89, 100]]]


def test_guided_follows_a_sharp_edge_of_its_guide() -> None:
    """Where guide and classes change together, the edge stays sharp: less than 2 % leaks."""
    parts = np.zeros((3, 5, 12), np.uint8)
    parts[0, :, :6] = parts[1, :, 6:] = 254
    guide = np.zeros((5, 12), np.float32)
    guide[:, 6:] = 1
    result = smooth(parse_steps(["guided:2"]), with_probabilities(parts), CODES, guide)
    assert letters(result) == ["AAAAAABBBBBB"] * 5
    assert result["confidence"].min() >= 99


def test_guided_moves_a_class_border_to_the_edge_of_its_guide() -> None:
    """Where the model wavers beside an edge of the guide, the pixel joins its own side of the edge."""
    parts = np.zeros((3, 9, 12), np.uint8)
    parts[0, :, :7] = parts[1, :, 7:] = 254
    parts[:2, :, 6] = [[134], [120]]
    guide = np.zeros((9, 12), np.float32)
    guide[:, 6:] = 1
    result = smooth(parse_steps(["guided:3"]), with_probabilities(parts), CODES, guide)
    assert letters(result) == ["AAAAAABBBBBB"] * 9


def test_guided_tells_margin_and_entropy_anew() -> None:
    """Probabilities 1/2, 1/4, 1/4 everywhere: margin 25 %, entropy 1.5 bits of log2(3), 95 %."""
    parts = np.empty((3, 4, 4), np.uint8)
    parts[:] = np.array([100, 50, 50])[:, None, None]
    layers = with_probabilities(parts)
    layers["margin"] = np.full((1, 4, 4), 9, np.uint8)
    layers["entropy"] = np.full((1, 4, 4), 9, np.uint8)
    result = smooth(parse_steps(["guided:1"]), layers, CODES, np.zeros((4, 4), np.float32))
    for name, percent in {"confidence": 50, "margin": 25, "entropy": 95}.items():
        assert (result[name] == percent).all(), name


def test_guided_equals_the_published_formula() -> None:
    """The probabilities are those of He, Sun and Tang's equations in float64, to one part of 254."""
    draw = np.random.default_rng(3)
    share = draw.dirichlet((0.6, 0.6, 0.6), (14, 11)).transpose(2, 0, 1)
    layers = with_probabilities(np.floor(share * 254 + 0.5).astype(np.uint8))
    layers["classes"][0, 4:7, 3:5] = 0
    guide = draw.random((14, 11), np.float32)
    valid = layers["classes"][0] > 0
    result = smooth(parse_steps(["guided:2"]), layers, CODES, guide)
    expected = reference_guided(layers["probabilities"], valid, guide, 2)
    found = (result["probabilities"].astype(float) - 1) / 254
    assert np.abs(found - expected)[:, valid].max() < 1 / 254


def reference_guided(
    probabilities: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    guide: NDArray[np.float32],
    radius: int,
) -> NDArray[np.float64]:
    """The guided filter window by window, as the paper writes it."""
    p = (probabilities.astype(float) - 1) / 254
    n, rows, cols = p.shape
    a, b, q = np.zeros((3, n, rows, cols))
    for y, x in np.argwhere(valid):
        here = window(y, x, radius)
        ok = valid[here]
        i = guide[here][ok].astype(float)
        for k in range(n):
            pk = p[k][here][ok]
            a[k, y, x] = (np.mean(i * pk) - i.mean() * pk.mean()) / (i.var() + EPS)
            b[k, y, x] = pk.mean() - a[k, y, x] * i.mean()
    for y, x in np.argwhere(valid):
        here = window(y, x, radius)
        for k in range(n):
            ok = valid[here]
            q[k, y, x] = a[k][here][ok].mean() * guide[y, x] + b[k][here][ok].mean()
    q = np.maximum(q, 0)
    return q / np.where(valid, q.sum(0), 1)


def window(y: int, x: int, radius: int) -> tuple[slice, slice]:
    """The window around a pixel, cut off at the first row and column."""
    return slice(max(y - radius, 0), y + radius + 1), slice(max(x - radius, 0), x + radius + 1)


def test_steps_follow_one_another() -> None:
    """The second step sees what the first has made; the given layers are not touched."""
    layers = sure(drawn("AAAAA", "ABABA", "AAAAA"))
    before = {name: layer.copy() for name, layer in layers.items()}
    steps = parse_steps(["majority:1", "opening:1"])
    once = smooth(steps[:1], layers, CODES)
    twice = smooth(steps[1:], once, CODES)
    both = smooth(steps, layers, CODES)
    assert all((both[name] == twice[name]).all() for name in both)
    assert all((layers[name] == before[name]).all() for name in layers)


def test_no_steps_change_nothing() -> None:
    """Without a step the layers come back as they are, and no rows are needed around a band."""
    layers = sure(drawn("AB", "C."))
    assert letters(smooth((), layers, CODES)) == ["AB", "C."]
    assert halo(()) == 0


def test_steps_are_read_in_order() -> None:
    """Name and radius, and the rows that all together need: 1, 3, 4 and 2 times the radius."""
    steps = parse_steps(["guided:2", "majority:1", "opening:2", " closing:3 "])
    assert steps == (Step("guided", 2), Step("majority", 1), Step("opening", 2), Step("closing", 3))
    assert halo(steps) == 4 + 1 + 6 + 12


@pytest.mark.parametrize(
    "text",
    ["", "majority", "majority:", "majority:0", "majority:-1", "majority:1.5", "majority:65",
     "majority:1:2", "sieve:3", "Majority:1", "majority: 1", "majority:\u0661"],
)  # fmt: skip
def test_unknown_steps_are_refused(text: str) -> None:
    """What is no name and radius is refused in one sentence that shows how to write it."""
    with pytest.raises(SettingsError, match=r"as in majority:1\.$") as caught:
        parse_steps([text])
    assert f"'{text}'" in str(caught.value)


def test_guided_may_not_undo_another_step() -> None:
    """Guided starts from the probabilities, so it comes first; several of them are fine."""
    for text in (["majority:1", "guided:2"], ["guided:1", "closing:1", "guided:2"]):
        with pytest.raises(SettingsError, match="put guided first"):
            parse_steps(text)
    assert len(parse_steps(["guided:1", "guided:4", "majority:1"])) == 3


def test_guided_needs_probabilities_and_a_guide() -> None:
    """Without either there is nothing to filter, or nothing to follow."""
    layers = sure(drawn("AB"))
    guide = np.zeros((1, 2), np.float32)
    with pytest.raises(SettingsError, match="guided:1 needs"):
        smooth(parse_steps(["guided:1"]), layers, CODES, guide)
    layers["probabilities"] = np.ones((3, 1, 2), np.uint8)
    with pytest.raises(SettingsError, match="guided:1 needs"):
        smooth(parse_steps(["guided:1"]), layers, CODES)


STEPS = st.tuples(
    st.sampled_from(("majority", "opening", "closing", "guided")), st.integers(1, 3)
).map(lambda parts: Step(*parts))


@st.composite
def maps(draw: st.DrawFn, *, patchy: bool | None = None) -> tuple[Layers, NDArray[np.float32]]:
    """All layers of a random map, in patches or of single pixels, with nodata, and a guide."""
    rows, cols = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from((0.0, 0.1, 0.6)))
    side = (
        draw(st.sampled_from((3, 5))) if (draw(st.booleans()) if patchy is None else patchy) else 1
    )
    field = random.dirichlet((0.4, 0.4, 0.4), (-(-rows // side), -(-cols // side)))
    field = np.repeat(np.repeat(field, side, 0), side, 1)[:rows, :cols]
    noise = random.dirichlet((0.4, 0.4, 0.4), (rows, cols))
    field = np.where(random.random((rows, cols, 1)) < 0.1, noise, field).transpose(2, 0, 1)
    layers = with_probabilities(np.floor(field * 254 + 0.5).astype(np.uint8))
    layers["confidence"] = np.maximum(layers["confidence"], 1)
    layers["margin"], layers["entropy"] = random.integers(1, 101, (2, 1, rows, cols), np.uint8)
    empty = random.random((rows, cols)) < share
    for layer in layers.values():
        layer[:, empty] = 0
    guide = random.random((rows, cols), np.float32)
    guide[empty] = random.choice(np.array([np.nan, np.inf, 0.5], np.float32))
    return layers, guide


@given(maps(), st.lists(STEPS, min_size=1, max_size=2), st.data())
@settings(deadline=None, max_examples=200)
def test_any_cut_gives_the_same_bytes(
    made: tuple[Layers, NDArray[np.float32]], steps: Sequence[Step], data: st.DataObject
) -> None:
    """Any band, smoothed with its halo alone, equals those rows of the whole map in every layer."""
    layers, guide = made
    rows = guide.shape[0]
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start + 1, rows))
    first, last = max(start - halo(steps), 0), min(stop + halo(steps), rows)
    whole = smooth(steps, layers, CODES, guide)
    part = smooth(
        steps,
        {name: layer[:, first:last] for name, layer in layers.items()},
        CODES,
        guide[first:last],
    )
    for name in layers:
        inside = part[name][:, start - first : stop - first]
        assert np.array_equal(inside, whole[name][:, start:stop]), name


@given(maps(), st.lists(STEPS, min_size=1, max_size=3))
@settings(deadline=None, max_examples=100)
def test_nodata_stays_and_valid_pixels_stay_valid(
    made: tuple[Layers, NDArray[np.float32]], steps: Sequence[Step]
) -> None:
    """Every layer is 0 exactly where the map was; classes are the legend's, percents 1 to 100."""
    layers, guide = made
    empty = layers["classes"][0] == 0
    result = smooth(steps, layers, CODES, guide)
    assert result.keys() == layers.keys()
    for name, layer in result.items():
        assert layer.shape == layers[name].shape
        assert layer.dtype == np.uint8
        assert ((layer == 0) == empty).all(), name
    assert np.isin(result["classes"][0][~empty], CODES).all()
    for name in ("confidence", "margin", "entropy"):
        assert result[name].max() <= 100


@given(maps(), STEPS, st.sampled_from(CODES))
@settings(deadline=None, max_examples=100)
def test_a_map_of_one_class_does_not_change(
    made: tuple[Layers, NDArray[np.float32]], step: Step, code: int
) -> None:
    """Where all pixels with data are alike, all layers stay, whatever nodata lies between."""
    layers, guide = made
    valid = layers["classes"] > 0
    alike = {"classes": code, "confidence": 79, "margin": 57, "entropy": 61}
    layers = {name: np.where(valid, np.uint8(value), np.uint8(0)) for name, value in alike.items()}
    # Parts of 254, and 1: 200, 27 and 27 sum to 254, so that dividing by the sum changes nothing.
    parts = np.where(np.array(CODES) == code, 201, 28)
    layers["probabilities"] = np.where(valid, parts[:, None, None], 0).astype(np.uint8)
    result = smooth([step], layers, CODES, guide)
    assert np.array_equal(result["classes"], layers["classes"])
    for name in ("confidence", "probabilities"):
        assert np.array_equal(result[name], layers[name])


@given(maps(), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_majority_equals_counting_every_window(
    made: tuple[Layers, NDArray[np.float32]], radius: int
) -> None:
    """The running counts give what counting each window gives, ties and all."""
    layers = {name: made[0][name] for name in ("classes", "confidence")}
    classes, confidence = layers["classes"][0], layers["confidence"][0].astype(int)
    result = smooth([Step("majority", radius)], layers, CODES)
    for y, x in np.argwhere(classes):
        here = window(y, x, radius)

        def rank(
            code: int, here: tuple[slice, slice] = here, own: int = classes[y, x]
        ) -> tuple[int, ...]:
            votes = classes[here] == code
            return (
                int(votes.sum()),
                code == own,
                int(confidence[here][votes].sum()),
                -CODES.index(code),
            )

        assert result["classes"][0, y, x] == max(CODES, key=rank)


@given(maps(), st.integers(1, 2), st.sampled_from(("opening", "closing")))
@settings(deadline=None, max_examples=60)
def test_opening_and_closing_equal_their_definitions(
    made: tuple[Layers, NDArray[np.float32]], radius: int, name: str
) -> None:
    """Sets of pixels, opened and closed as sets, give the same map."""
    layers = {key: made[0][key] for key in ("classes", "confidence")}
    classes, confidence = layers["classes"][0], layers["confidence"][0].astype(int)
    pixels = {(int(y), int(x)) for y, x in np.argwhere(classes)}
    around = {
        p: {q for q in pixels if max(abs(p[0] - q[0]), abs(p[1] - q[1])) <= radius} for p in pixels
    }

    def eroded(part: set[tuple[int, int]]) -> set[tuple[int, int]]:
        return {p for p in pixels if around[p] <= part}

    def dilated(part: set[tuple[int, int]]) -> set[tuple[int, int]]:
        return set(itertools.chain.from_iterable(around[p] for p in part))

    of = {code: {p for p in pixels if classes[p] == code} for code in CODES}
    opened = {code: dilated(eroded(of[code])) for code in CODES}
    closed = {code: eroded(dilated(opened[code])) for code in CODES}
    kept = set().union(*opened.values())
    expected = classes.copy()
    for p in pixels - kept:
        own = int(classes[p])
        if name == "opening":
            takers = [code for code in CODES if code != own and around[p] & opened[code]]
        else:
            takers = [code for code in CODES if p in closed[code]]
        if takers and own not in takers:
            expected[p] = max(
                takers,
                key=lambda code, p=p: (
                    len(around[p] & opened[code]),
                    sum(int(confidence[q]) for q in around[p] & opened[code]),
                    -CODES.index(code),
                ),
            )
    result = smooth([Step(name, radius)], layers, CODES)
    assert np.array_equal(result["classes"][0], expected)


@given(maps(patchy=True), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_closing_changes_no_more_than_opening(
    made: tuple[Layers, NDArray[np.float32]], radius: int
) -> None:
    """A pixel that opening keeps is kept by closing too."""
    layers = {key: made[0][key] for key in ("classes", "confidence")}
    opened = smooth([Step("opening", radius)], layers, CODES)["classes"]
    closed = smooth([Step("closing", radius)], layers, CODES)["classes"]
    assert not ((closed != layers["classes"]) & (opened == layers["classes"])).any()


def test_the_largest_radius_fits_its_counters() -> None:
    """A window of 129 x 129 full of one class is counted right, and its guided sums are whole."""
    radius, side = MAX_RADIUS, 2 * MAX_RADIUS + 3
    classes = np.full((side, side), 3, np.uint8)
    classes[::3, ::2] = 1
    parts = np.zeros((3, side, side), np.uint8)
    parts[0], parts[1] = np.where(classes == 3, 254, 0), np.where(classes == 1, 254, 0)
    layers = with_probabilities(parts)
    guide = np.ones((side, side), np.float32)
    for name in ("majority", "guided"):
        result = smooth([Step(name, radius)], layers, CODES, guide)
        assert (result["classes"] == 3).all()
