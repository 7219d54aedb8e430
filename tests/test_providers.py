"""Providers: the catalogues known by name, and which address of a file is the easiest to open."""

import pytest
from pydantic import ValidationError

from pipeline.providers import (
    Bearer,
    Bucket,
    Closed,
    Open,
    Provider,
    SasToken,
    access_to,
    easiest,
    provider_at,
    provider_named,
    providers,
    with_mirrors,
)

NAMES = ["cdse", "earth-search", "nasa-hls", "planetary-computer", "usgs-landsat"]


def test_the_shipped_providers_are_read() -> None:
    """Each file is one provider, named as the file, with an https address."""
    assert [provider.name for provider in providers()] == NAMES
    assert all(provider.url.startswith("https://") for provider in providers())


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://earth-search.aws.element84.com/v1", "earth-search"),
        ("https://earth-search.aws.element84.com/v1/", "earth-search"),
        ("https://Planetarycomputer.Microsoft.com/api/stac/v1", "planetary-computer"),
        ("https://cmr.earthdata.nasa.gov/stac/LPCLOUD", "nasa-hls"),
        ("https://earth-search.aws.element84.com/v0", None),
        ("https://stac.example.com", None),
        ("items.parquet", None),
    ],
)
def test_a_provider_is_known_by_its_url(url: str, name: str | None) -> None:
    """A slash at the end and the case of the host do not matter; other catalogues have no provider."""
    found = provider_at(url)
    assert (found.name if found else None) == name


def test_a_provider_is_known_by_its_name() -> None:
    """In any case of letters; a wrong name is nobody's."""
    assert [provider_named(name.title()) for name in NAMES] == list(providers())
    assert provider_named("pc") is None


@pytest.mark.parametrize(
    ("href", "kind"),
    [
        ("https://landsateuwest.blob.core.windows.net/landsat-c2/a.TIF", SasToken),
        ("https://ai4edatasetspublicassets.blob.core.windows.net/a/b.tif", Open),
        ("s3://sentinel-cogs/a.tif", Bucket),
        ("s3://eodata/Sentinel-2/a.jp2", Bucket),
        ("s3://usgs-landsat/collection02/a.TIF", Bucket),
        ("https://landsatlook.usgs.gov/data/a.TIF", Closed),
        ("https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/a.tif", Bearer),
        ("https://download.dataspace.copernicus.eu/odata/a.jp2", Closed),
        ("https://sentinel-cogs.s3.us-west-2.amazonaws.com/a.tif", type(None)),
        ("/home/me/a.tif", type(None)),
    ],
)
def test_access_goes_by_host(href: str, kind: type) -> None:
    """A rule is chosen by scheme and host of the address, whatever catalogue gave it."""
    assert isinstance(access_to(href), kind)


@pytest.mark.parametrize(
    ("hrefs", "chosen"),
    [
        (["https://a.org/a.tif"], "https://a.org/a.tif"),
        (["s3://maxar/a.tif", "https://maxar.s3.amazonaws.com/a.tif"], "https://maxar.s3.amazonaws.com/a.tif"),
        (["https://landsatlook.usgs.gov/data/c/a.TIF"], "s3://usgs-landsat/c/a.TIF"),
        (["https://landsatlook.usgs.gov/data/c/a.TIF", "s3://usgs-landsat/c/a.TIF"], "s3://usgs-landsat/c/a.TIF"),
        (["https://zipper.dataspace.copernicus.eu/a.jp2", "s3://eodata/a.jp2"], "s3://eodata/a.jp2"),
        (["s3://lp-prod-protected/a.tif", "https://data.lpdaac.earthdatacloud.nasa.gov/a.tif"],
         "https://data.lpdaac.earthdatacloud.nasa.gov/a.tif"),
        (["https://a.org/a.tif", "https://b.org/a.tif"], "https://a.org/a.tif"),
    ],
)  # fmt: skip
def test_the_easiest_address_is_taken(hrefs: list[str], chosen: str) -> None:
    """Open before signed, web before bucket, anything before a login page; the first of equals."""
    assert easiest(with_mirrors(hrefs)) == chosen


def test_a_provider_file_with_a_slip_is_refused() -> None:
    """Unknown keys and kinds of access do not pass silently."""
    good = providers()[0].model_dump()
    assert Provider.model_validate(good) == providers()[0]
    with pytest.raises(ValidationError, match="colections"):
        Provider.model_validate({**good, "colections": {}})
    with pytest.raises(ValidationError, match="method"):
        Provider.model_validate({**good, "access": [{"match": [], "method": "magic"}]})
