"""What the bands of an image of its own are called, by what its file says of them."""

import re
from collections import Counter
from collections.abc import Collection, Sequence

from landcover.bands import MASK, SENTINEL2
from landcover.errors import SettingsError
from pipeline.image_file import BandFacts

MASKS = frozenset({MASK, "qa_pixel", "fmask"})
"""Bands of codes that say what hides the ground."""
COMMON_NAMES = (frozenset(SENTINEL2.values()) - {MASK}) | {
    "pan", "lwir", "lwir11", "lwir12", "rededge", "yellow",
}  # fmt: skip
"""Names of measurements by STAC's extension eo."""

_KNOWN = COMMON_NAMES | MASKS | {"gray", "alpha"}
_SYNONYMS = {
    "grey": "gray", "near infrared": "nir", "near-infrared": "nir", "swir1": "swir16", "swir2": "swir22",
}  # fmt: skip
_BY_COUNT = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}
_GENERIC = re.compile(r"(?:band|layer|b)?[ _]?(\d*)")  # what software writes by itself
_NAMELESS = re.compile(r"|undefined|band_\d+")
_WAVELENGTHS = {
    "coastal": (0.40, 0.45), "blue": (0.45, 0.51), "green": (0.51, 0.60), "red": (0.62, 0.69),
    "rededge": (0.69, 0.75), "nir": (0.75, 1.00), "cirrus": (1.35, 1.40), "swir16": (1.55, 1.75),
    "swir22": (2.08, 2.35), "lwir": (10.4, 12.5),
}  # fmt: skip
"""Micrometres of each common name (STAC extension eo 2.0), cut where two overlap."""


def band_names(bands: Sequence[BandFacts]) -> tuple[list[str], bool]:
    """Names of an image's bands, and whether they are a guess that a person should see.

    By what describes them, else by their colours, wavelengths, or number: three are red, green and
    blue, four have near infrared too. Numbers of a sensor's bands (B2, B3, B4, B8) are left as they
    are: each sensor numbers otherwise. None occurs twice; what has no name is band_N, N from 1.
    """
    described = [standard_name(band.description or "") for band in bands]
    colors = [band.colorinterp for band in bands]
    if _KNOWN & set(described):
        return _distinct(described), False
    if {"red", "green", "blue"} <= set(colors):
        guess = colors.count("undefined") == 1  # the one without a colour is near infrared
        return _distinct(["nir" if guess and c == "undefined" else c for c in colors]), guess
    if all(band.wavelength for band in bands):
        return _distinct([_by_wavelength(band.wavelength or 0) for band in bands]), False
    if _say_nothing(described):
        alpha = ("alpha",) if len(bands) > 1 and colors[-1] == "alpha" else ()
        names = [*_BY_COUNT.get(len(bands) - len(alpha), ()), *alpha]
        if len(names) == len(bands):
            return names, len(names) > 1
    return _distinct(described), False


def are_numbers(names: Sequence[str]) -> bool:
    """Whether names of bands are but numbers, so that a person must say what the bands measure."""
    return all(_GENERIC.fullmatch(name) for name in names if name != "alpha")


def check_names(names: Sequence[str]) -> None:
    """SettingsError where names of bands that somebody gives cannot be those of bands."""
    known = [standard_name(name) for name in names]
    if odd := [n for n in known if not n or not n.isprintable() or known.count(n) > 1]:
        raise SettingsError(
            f"The band name {odd[0]!r} in --bands is empty, unprintable or there twice; name each band."
        )


def other_model(missing: Collection[str], offered: Collection[str]) -> str:
    """What to do where a model's bands are missing: the shipped weights that do without, if there are such."""
    visible_and_nir = {"blue", "green", "red", "nir"}
    if set(missing) <= {"swir16", "swir22"} and visible_and_nir <= set(offered):
        return "use --model sentinel2-rgbn, which does without"
    return "use another model"


def standard_name(text: str) -> str:
    """A band's name in our spelling: `B04` is red, `Near Infrared` is nir."""
    name = text.strip().lower()
    return SENTINEL2.get(name.upper()) or _SYNONYMS.get(name, name)


def _say_nothing(described: Sequence[str]) -> bool:
    """Whether descriptions at most count the bands, from 0 or 1; other numbers are those of a sensor."""
    found = [_GENERIC.fullmatch(name) for name in described]
    numbers = [match[1] for match in found if match]
    return len(numbers) == len(found) and any(
        all(not n or int(n) == place for place, n in enumerate(numbers, start)) for start in (0, 1)
    )


def _by_wavelength(micrometres: float) -> str:
    """Common name of a wavelength, '' where it has none."""
    fits = (n for n, (low, high) in _WAVELENGTHS.items() if low <= micrometres < high)
    return next(fits, "")


def _distinct(names: Sequence[str]) -> list[str]:
    """Usable names, none twice: what cannot be used becomes band_N."""
    counts = Counter(names)
    good = (name.isprintable() and not _NAMELESS.fullmatch(name) for name in names)
    return [
        name if fine and counts[name] == 1 else f"band_{number}"
        for number, (name, fine) in enumerate(zip(names, good, strict=True), start=1)
    ]
