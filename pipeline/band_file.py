"""What a file's name says: which band of which satellite scene it holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from landcover.bands import SENTINEL2

SIDE = ""
"""Band of a file that belongs to a scene but holds nothing of the ground: angles, previews, quality."""

_OLI = {
    1: "coastal", 2: "blue", 3: "green", 4: "red", 5: "nir08", 6: "swir16", 7: "swir22", 8: "pan",
    9: "cirrus", 10: "lwir11", 11: "lwir12",
}  # fmt: skip
_ETM = {1: "blue", 2: "green", 3: "red", 4: "nir08", 5: "swir16", 6: "lwir", 7: "swir22"}
_LANDSAT = {"04": _ETM, "05": _ETM, "07": _ETM, "08": _OLI, "09": _OLI}
"""Names of Landsat's bands by satellite: one number means different bands."""
_REFLECTANCE, _KELVIN = (2.75e-5, -0.2), (0.00341802, 149.0)
"""Scale and offset of Landsat Collection 2 Level-2 numbers (USGS, Science Product Guide, 2021)."""
_HLS = (1e-4, 0.0)
"""Scale and offset of HLS reflectance (NASA, HLS v2.0 User Guide, 2023)."""

_RESOLUTION_FOLDER = re.compile(r"R[126]0m")
_SENTINEL2_BAND = re.compile(
    r"(?:(?P<scene>.*)[ _.-])?(?P<band>B(?:0[1-9]|1[0-2]|8A)|SCL)(?:_[126]0m)?", re.IGNORECASE
)
_SENTINEL2_SIDE = re.compile(
    r"(?:.*_)?T\d\d[A-Z]{3}_\d{8}T\d{6}_(?:AOT|TCI|WVP|PVI)(?:_[126]0m)?|MSK_\w+", re.IGNORECASE
)
_SENTINEL2_NAME = re.compile(r"(?:^|[/_.])(?:S2[A-D]_|T\d\d[A-Z]{3}_)|sentinel-?2", re.IGNORECASE)
_LANDSAT_FILE = re.compile(
    r"(?P<before>.*[ _.-])?(?P<id>L[COTE](?P<satellite>0[45789])_L2S[PR]_\d{6}_\d{8}_\d{8}_02_[A-Z\d]{2})_(?P<rest>\w+)",
    re.IGNORECASE,
)
_LANDSAT_BAND = re.compile(r"S([RT])_B(\d{1,2})", re.IGNORECASE)
_OTHER_LANDSAT = re.compile(
    r"(?:.*[ _.-])?(?:L[COTEM]0\d_|L[COTEM]\d{14}[A-Z]{3}\d\d_).*(?:B|band)\d{1,2}(?:_VCID_[12])?",
    re.IGNORECASE,
)
_HLS_FILE = re.compile(
    r"(?P<before>.*[ _.-])?(?P<id>HLS\.(?P<sensor>[LS]30)\.T\d\d[A-Z]{3}\.\d{7}T\d{6}\.v\d\.\d)\.(?P<rest>\w+)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class BandFile:
    """One file of a scene that is stored as a file per band."""

    scene: str
    """Name of the scene: the path without what tells its bands apart."""
    band: str
    """STAC common name, or that of a cloud mask (scl, qa_pixel, fmask); SIDE for what is no band."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """What the name says of the scene, as STAC properties."""
    product_id: str | None = None
    """Id that the provider gave the scene, by which readers know what its numbers mean."""
    scaling: tuple[float, float] | None = None
    """Scale and offset to reflectance (or kelvin) where files of the kind do not say it themselves."""


def band_file(name: PurePosixPath) -> BandFile | None:
    """What a file's name says, or None where it is no band of a known product.

    name: path relative to the images, so that equal names in two folders are two scenes. Known are
    Sentinel-2 (`T30TXT_20171014T110959_B02.tif`, `R20m/..._SCL_20m.jp2`, and any `*_B02.tif`),
    Landsat Collection 2 Level-2 (`LC08_L2SP_..._SR_B4.TIF`, `..._QA_PIXEL.TIF`) and HLS
    (`HLS.L30.T33TWM.2020159T100031.v2.0.B04.tif`, `.Fmask.tif`).
    Raises ValueError for a Landsat band whose numbers are no reflectance.
    """
    stem = name.stem
    if match := _LANDSAT_FILE.fullmatch(stem):
        return _landsat(name, match)
    if match := _HLS_FILE.fullmatch(stem):
        return _hls(name, match)
    if _OTHER_LANDSAT.fullmatch(stem):
        raise ValueError(
            "is one band of a Landsat scene that is not of Collection 2 Level-2, so its numbers are no "
            "reflectance; get the Level-2 product (L2SP)"
        )
    if _SENTINEL2_SIDE.fullmatch(stem):
        return BandFile(str(name.parent), SIDE)
    match = _SENTINEL2_BAND.fullmatch(stem)
    return _sentinel2(name, match) if match else None


def _landsat(name: PurePosixPath, match: re.Match[str]) -> BandFile:
    satellite = match["satellite"]
    scene = BandFile(
        scene=str(name.parent / ((match["before"] or "") + match["id"])),
        band="qa_pixel" if match["rest"].upper() == "QA_PIXEL" else SIDE,
        properties={"platform": f"landsat-{int(satellite)}", "constellation": "landsat"},
        product_id=match["id"].upper(),
    )
    band = _LANDSAT_BAND.fullmatch(match["rest"])
    if band is None or int(band[2]) not in _LANDSAT[satellite]:
        return scene
    scaling = _REFLECTANCE if band[1].upper() == "R" else _KELVIN
    return replace(scene, band=_LANDSAT[satellite][int(band[2])], scaling=scaling)


def _hls(name: PurePosixPath, match: re.Match[str]) -> BandFile:
    rest, s30 = match["rest"].upper(), match["sensor"].upper() == "S30"
    names = SENTINEL2 if s30 else {f"B{n:02}": band for n, band in _OLI.items()}
    band = "fmask" if rest == "FMASK" else names.get(rest, SIDE)
    return BandFile(
        scene=str(name.parent / ((match["before"] or "") + match["id"])),
        band=band,
        product_id=match["id"].upper().replace(".V", ".v"),
        scaling=None if band.startswith(("fmask", "lwir")) else _HLS,
    )


def _sentinel2(name: PurePosixPath, match: re.Match[str]) -> BandFile:
    place = name.parent.parent if _RESOLUTION_FOLDER.fullmatch(name.parent.name) else name.parent
    scene = (match["scene"] or "").rstrip(" _.,-")
    known = {"constellation": "sentinel-2"} if _SENTINEL2_NAME.search(str(name)) else {}
    return BandFile(str(place / scene), SENTINEL2[match["band"].upper()], known)
