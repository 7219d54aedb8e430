"""The report of a run: what it says, how it looks, and that it asks nothing of the network."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from landcover.legend import LandClass, Legend
from pipeline import class_raster, report
from pipeline.cog import CogProfile, open_cog
from pipeline.page import hectares, percent, plain
from pipeline.pictures import class_picture, composite_picture, confidence_picture
from pipeline.publish import publish
from pipeline.report import count_pixels
from tests.run_folder import GRID, LEGEND, class_codes, make_run, write_bands

ACCURACY = {
    "overall_accuracy": 0.9123,
    "mean_iou": 0.7654,
    "pixels": 4600,
    "classes": [
        {"code": c.code, "name": c.name, "iou": iou, "f1": 0.85, "users_accuracy": 0.88,
         "producers_accuracy": 0.82, "reference_pixels": 1150}
        for c, iou in zip(LEGEND.classes, (0.81, 0.72, 0.63, None), strict=True)
    ],
    "matrix": [[1100, 40, 60, 0], [30, 1400, 70, 0], [20, 60, 1820, 0], [0, 0, 0, 0]],
}  # fmt: skip


def browser(page: Path, *arguments: str) -> bytes:
    """What headless Chromium gives for a page; the test is skipped where there is no browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    command = [
        binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions",
        f"--user-data-dir={page.parent / 'profile'}", *arguments, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += "" if self._style else data
        self._style = False

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all elements of a name."""
        return [attributes for name, attributes in self.found if name == tag]


def published(folder: Path, legend: Legend = LEGEND, **changes: Any) -> str:
    """The page of the small run."""
    publish(folder=folder, run=make_run(folder, legend, **changes))
    return (folder / "report.html").read_text(encoding="utf-8")


def assert_self_contained(page: str) -> None:
    """No element loads, links to or runs anything; pictures are in the page itself."""
    elements = Elements(page)
    assert not {"script", "iframe", "object", "embed", "a", "form"} & {n for n, _ in elements.found}
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
        assert "url(" not in (attributes.get("style") or "")
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert styles
    assert "url(" not in styles
    assert "@import" not in styles
    policy = elements.named("meta")[2]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")


def test_a_browser_shows_the_classes_and_their_hectares(tmp_path: Path):
    """In the page as Chromium builds it: region, period, every class with its area and share."""
    published(tmp_path, accuracy=ACCURACY)
    page = browser(tmp_path / "report.html", "--dump-dom").decode()
    elements = Elements(page)
    text = " ".join(elements.text.split())
    assert "small-valley" in text
    assert "1 June 2024 to 31 August 2024" in text
    # 4600 px of 100 m2 are 46 ha: below 100 ha, areas are shown to a thousandth.
    for name, area, share in (
        ("Water", "12.000", "26.1 %"),
        ("Tree cover", "15.000", "32.6 %"),
        ("Cropland", "19.000", "41.3 %"),
        ("Built-up", "0.000", "0.0 %"),
    ):
        assert re.search(rf"{name} ?{area} ?{share}", text), name
    assert "4.2 % of the footprint has no clear observation (200 of 4,800 pixels)" in text
    assert "Overall accuracy 0.912, mean IoU 0.765" in text
    assert len(elements.named("img")) == 3
    assert_self_contained(page)


def test_a_browser_draws_the_map_in_the_colours_of_the_legend(tmp_path: Path):
    """On a screenshot the class map covers many pixels of each mapped class's own colour."""
    published(tmp_path)
    shot = tmp_path / "shot.png"
    browser(tmp_path / "report.html", "--window-size=1280,1000", f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for code, least in ((1, 20_000), (2, 20_000), (5, 20_000), (8, 100)):
        drawn = int((pixels == LEGEND[code].rgb).all(axis=1).sum())
        assert drawn > least, LEGEND[code].name


def test_the_page_is_accessible(tmp_path: Path):
    """Language, alternative texts, table headers with their scope, one main heading."""
    elements = Elements(published(tmp_path, accuracy=ACCURACY))
    assert elements.named("html") == [{"lang": "en"}]
    assert all(len(image["alt"] or "") > 20 for image in elements.named("img"))
    assert {head["scope"] for head in elements.named("th")} == {"row", "col"}
    assert len(elements.named("h1")) == 1


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\u202e'


def test_hostile_names_stay_text(tmp_path: Path):
    """A name that is markup, wherever it comes from, is shown and neither run nor loaded."""
    legend = Legend(
        (
            LandClass(1, HOSTILE, "#2b6cb0"),
            *LEGEND.classes[1:3],
            LandClass(8, "</style>", "#b3261e"),
        )
    )
    page = published(
        tmp_path,
        legend,
        region={"name": HOSTILE},
        catalog=f"https://example.org/{HOSTILE}",
        items=[{"id": HOSTILE, "datetime": HOSTILE}],
        model={"path": HOSTILE, "sha256": HOSTILE, "training": {HOSTILE: [HOSTILE]}},
        settings={HOSTILE: {HOSTILE: HOSTILE}},
        versions={HOSTILE: HOSTILE},
        accuracy=ACCURACY | {"classes": [row | {"name": HOSTILE} for row in ACCURACY["classes"]]},  # type: ignore[attr-defined]
    )
    assert_self_contained(page)
    assert "\u202e" not in page
    assert "<script>alert(1)</script>" in Elements(page).text
    built = browser(tmp_path / "report.html", "--dump-dom").decode()
    assert_self_contained(built)
    assert len(Elements(built).named("img")) == 3


def test_caveats_follow_the_run(tmp_path: Path):
    """Simulated training, missing truth and pixel counting are said where they hold, only there."""
    honest = published(tmp_path)
    assert "counted from classified pixels" in honest
    assert "trained on simulated scenes only" in honest
    assert "the accuracy of this map is unknown" in honest
    other = published(tmp_path, accuracy=ACCURACY, model={"training": {"data": "field survey"}})
    assert "simulated" not in other
    assert "unknown" not in other


def test_provenance_is_told_in_order_and_without_secrets(tmp_path: Path):
    """Scenes by time, the catalogue without credentials, the model by name and hash."""
    text = Elements(published(tmp_path)).text
    assert text.index("2024-06-04 11:06") < text.index("2024-07-04 11:06")
    assert "https://stac.example.org/v1" in text
    assert "secret" not in text
    assert "demo.safetensors" in text
    assert "ab" * 32 in text
    assert "WGS 84 / UTM zone 30N (EPSG:32630)" in text
    assert "sentinel-2-l2a" in text
    assert "12.3" not in text  # seconds of a stage: a rerun would change the bytes


def test_the_class_picture_is_the_raster(tmp_path: Path):
    """A raster smaller than the picture is drawn pixel for pixel, nodata transparent."""
    make_run(tmp_path)
    with Image.open(io.BytesIO(class_picture(tmp_path / "classes.tif"))) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), class_codes())
        shown = np.asarray(image.convert("RGBA"))
    assert shown[0, 0].tolist() == [*LEGEND[1].rgb, 255]
    assert shown[59, 79, 3] == 0


def test_the_composite_is_stretched_between_the_percentiles(tmp_path: Path):
    """Each band: 2 % of the valid pixels black, 2 % full, the middle in between; nodata clear."""
    ramp = np.arange(1, 4801).reshape(60, 80)
    seen = class_codes() > 0
    write_bands(
        tmp_path / "c.tif",
        {"red": np.where(seen, ramp, 0), "blue": np.where(seen, 9000 - ramp, 0),
         "green": np.where(seen, 500, 0), "observations": seen * 2},
        "uint16",
    )  # fmt: skip
    png, names = composite_picture(tmp_path / "c.tif")
    assert names == ("red", "green", "blue")
    with Image.open(io.BytesIO(png)) as image:
        red, green, blue, alpha = np.moveaxis(np.asarray(image), 2, 0)
    np.testing.assert_array_equal(alpha, np.where(seen, 255, 0))
    assert (red[seen] == 0).mean() == pytest.approx(0.02, abs=0.003)
    assert (red[seen] == 255).mean() == pytest.approx(0.02, abs=0.003)
    np.testing.assert_allclose(
        np.corrcoef(red[seen].astype(float), blue[seen].astype(float))[0, 1], -1, atol=1e-3
    )
    assert len(np.unique(green[seen])) == 1


@pytest.mark.parametrize(
    ("bands", "drawn"),
    [
        (("nir", "red", "green", "observations"), ("nir", "red", "green")),
        (("gray", "observations", "day"), ("gray",) * 3),
        (("red", "green", "blue"), ("red", "green", "blue")),
    ],
)
def test_images_without_true_colour_are_drawn_all_the_same(
    tmp_path: Path, bands: tuple[str, ...], drawn: tuple[str, ...]
):
    """False colour of the first three bands, or grey of one."""
    values = np.arange(1, 4801).reshape(GRID.shape)
    write_bands(tmp_path / "c.tif", dict.fromkeys(bands, values), "uint16")
    png, names = composite_picture(tmp_path / "c.tif")
    assert names == drawn
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "RGB"


def test_a_large_raster_gives_a_small_picture(tmp_path: Path):
    """The longest side is 1,200 pixels and the shape is kept."""
    grid = GeoBox((600, 2400), Affine(10, 0, 0, 0, -10, 0), "EPSG:32630")
    with open_cog(tmp_path / "c.tif", grid, CogProfile("uint8", ["confidence"])) as rows:
        rows.write(np.full((1, 600, 2400), 80, np.uint8))
    with Image.open(io.BytesIO(confidence_picture(tmp_path / "c.tif"))) as image:
        assert image.size == (1200, 300)


def test_pictures_in_the_page_are_whole(tmp_path: Path):
    """Each data URI of the page decodes to a PNG of the raster's shape."""
    sources = [image["src"] or "" for image in Elements(published(tmp_path)).named("img")]
    for source in sources:
        head, _, body = source.partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as image:
            image.load()
            assert image.size == (80, 60)


def test_counts_of_a_footprint_that_covers_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lower right quarter: 30 x 40 pixels, of which the corner of 10 x 20 was never seen."""
    make_run(tmp_path)
    quarter = GRID[30:, 40:].extent.to_crs("EPSG:4326", resolution=10).geom
    counts = count_pixels(folder=tmp_path, footprint=quarter)
    assert (counts.footprint, counts.unseen) == (1200, 200)
    assert counts.unseen_percent == pytest.approx(100 / 6)
    np.testing.assert_array_equal(counts.classes, np.bincount(class_codes().ravel(), minlength=256))
    monkeypatch.setattr(class_raster, "_STRIP", 7)
    cut = count_pixels(folder=tmp_path, footprint=quarter)
    assert (cut.footprint, cut.unseen) == (1200, 200)
    np.testing.assert_array_equal(cut.classes, counts.classes)
    assert cut.confidence is not None
    np.testing.assert_array_equal(cut.confidence, counts.confidence)
    outside = count_pixels(folder=tmp_path, footprint=shapely.box(10, 10, 11, 11))
    assert (outside.footprint, outside.unseen_percent) == (0, 0.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.0 %"), (0.04, "< 0.1 %"), (12.34, "12.3 %"), (99.97, "> 99.9 %"), (100, "100.0 %")],
)
def test_shares_are_never_rounded_to_none_or_all(value: float, text: str):
    """A trace is not nothing, and nearly all is not all."""
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "total", "text"),
    [(1234.56, 5e4, "1,234.6"), (0.04, 5e4, "< 0.1"), (0, 5e4, "0.0"), (0.0123, 3, "0.012")],
)
def test_hectares_have_decimals_that_suit_the_total(value: float, total: float, text: str):
    """A region in tenths, a field in thousandths."""
    assert hectares(value, total) == text


def test_plain_text_keeps_letters_and_drops_tricks():
    """Other scripts stay; control and direction characters are replaced; long text is cut."""
    assert plain("Łódź 東京") == "Łódź 東京"
    assert plain("a\x00b\u202ec\nd") == "a\ufffdb\ufffdc\ufffdd"
    assert plain("x" * 300) == "x" * 199 + "…"


def test_the_scale_bar_is_a_round_length():
    """A quarter of 15.36 km is 3.84 km, so the bar is 2 km: 13.021 % of the width."""
    assert report._scale_bar(15_360) == ("2 km", 13.021)
    assert report._scale_bar(800) == ("200 m", 25.0)


def test_ground_size_is_measured_on_the_ellipsoid():
    """At 60 degrees north a square degree is about half as wide as it is high."""
    grid = GeoBox((100, 100), Affine(0.01, 0, 10, 0, -0.01, 60.5), "EPSG:4326")
    width, height = report._ground_size(grid)
    assert width == pytest.approx(55_800, rel=1e-3)
    assert height == pytest.approx(111_413, rel=1e-3)


@pytest.mark.parametrize("grid", [
    GeoBox((100, 200), Affine(1.8, 0, -180, 0, -1.8, 90), "EPSG:4326"),
    GeoBox((90, 180), Affine(2, 0, -180, 0, -2, 90), "EPSG:4326"),
])  # fmt: skip
def test_the_ground_size_of_the_world(grid: GeoBox):
    """A raster around the Earth is as wide as the equator is long, not as wide as nothing."""
    width, height = report._ground_size(grid)
    assert width == pytest.approx(40_075_017, rel=1e-6)
    assert height == pytest.approx(20_003_931, rel=1e-6)


@pytest.mark.parametrize(
    ("affine", "crs", "text"),
    [
        (Affine(10, 0, 0, 0, -10, 0), "EPSG:32630", "10 m"),
        (Affine(2e-4, 0, 0, 0, -1e-4, 0), "EPSG:4326", "0.0002 ° x 0.0001 °"),
        (Affine(3, 0, 0, 0, -3, 0), "EPSG:2263", "3 US survey foot"),
    ],
)
def test_the_pixel_size_has_its_unit(affine: Affine, crs: str, text: str):
    """Metres, degrees or feet as the CRS has them; both sides where they differ."""
    assert report._pixel_text(GeoBox((5, 5), affine, crs)) == text
