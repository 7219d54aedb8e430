"""Names of bands: by description, colour, wavelength and number, never the same twice."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.band_names import band_names, other_model, standard_name
from pipeline.image_file import BandFacts


def bands(
    *descriptions: str | None, colors: Sequence[str] = (), wavelengths: Sequence[float | None] = ()
) -> list[BandFacts]:
    """Bands with these descriptions, colours and wavelengths, as many as there are descriptions."""
    count = len(descriptions)
    return [
        BandFacts(text, color, "uint16", None, None, 0.0, wavelength)
        for text, color, wavelength in zip(
            descriptions,
            colors or ["undefined"] * count,
            wavelengths or [None] * count,
            strict=True,
        )
    ]


@pytest.mark.parametrize(
    ("image", "expected", "guessed"),
    [
        (bands(None, None, None), ["red", "green", "blue"], True),
        (bands(None, None, None, colors=("red", "green", "blue")), ["red", "green", "blue"], False),
        (bands(*[None] * 4, colors=("red", "green", "blue", "undefined")), ["red", "green", "blue", "nir"], True),
        (bands(None), ["gray"], False),
        (bands(None, None), ["band_1", "band_2"], False),
        (bands("band_2", "vh"), ["band_1", "vh"], False),
        (bands("B2", "B3", "B4", "B8"), ["b2", "b3", "b4", "b8"], False),
        (bands("Band 4", "Band 3", "Band 2"), ["band 4", "band 3", "band 2"], False),
        (bands("b1", "b2", "b3", "b4"), ["red", "green", "blue", "nir"], True),
        (bands("0", "1", "2"), ["red", "green", "blue"], True),
        (bands("layer", None, "Band_3"), ["red", "green", "blue"], True),
        (bands("B04", "Near Infrared"), ["red", "nir"], False),
        (bands("red", "red", "nir"), ["band_1", "band_2", "nir"], False),
        (bands("a", "b", wavelengths=(0.56, 2.2)), ["green", "swir22"], False),
        (bands("a", "b", "c", wavelengths=(0.56, 0.84, 0.86)), ["green", "band_2", "band_3"], False),
        (bands("a", "b", wavelengths=(3.7, 11.0)), ["band_1", "lwir"], False),
        (bands("a", "b", wavelengths=(0.56, None)), ["a", "b"], False),
        (bands("red", "fmask", wavelengths=(0.56, 0.84)), ["red", "fmask"], False),
    ],
)  # fmt: skip
def test_bands_are_named_by_what_is_known(
    image: list[BandFacts], expected: list[str], guessed: bool
):
    """The best source decides for all bands together, and only a guess by number is a guess."""
    assert band_names(image) == (expected, guessed)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_names_are_printable_and_distinct_whatever_describes_the_bands(texts: list[str]):
    """No description of a stranger's file gives an empty, unprintable or repeated name."""
    names, _ = band_names(bands(*texts))
    assert len(names) == len(texts)
    assert len(set(names)) == len(names)
    assert all(name and name.isprintable() for name in names)


@pytest.mark.parametrize(
    ("text", "name"), [(" B8A ", "nir08"), ("SWIR1", "swir16"), ("Grey", "gray"), ("vv", "vv")]
)
def test_spellings_become_ours(text: str, name: str):
    """Identifiers and synonyms are brought to common names, others to lower case."""
    assert standard_name(text) == name


def test_weights_that_do_without_shortwave_infrared_are_named_where_they_fit():
    """Missing swir16 beside the four other bands has a remedy; missing nir has not."""
    four = ["red", "green", "blue", "nir"]
    assert "--model sentinel2-rgbn" in other_model(["swir16", "swir22"], four)
    assert "sentinel2" not in other_model(["nir", "swir16"], four[:3])
    assert "sentinel2" not in other_model(["red"], four)
