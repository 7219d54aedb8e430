"""Metadata records: well-formed whatever the text, and telling what is known."""

import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lineage import STANDARD, lineage_xml
from tests.test_map_file import LEGEND, write_all

GMD = {
    "gmd": STANDARD,
    "gco": "http://www.isotc211.org/2005/gco",
    "gml": "http://www.opengis.net/gml/3.2",
}


def test_a_record_tells_what_where_when_and_how():
    """Title, box, days, CRS and settings are where ISO 19139 puts them; scenes are sources."""
    record = lineage_xml(
        title="T", abstract="A", facts={"min_area_ha": "0.5", "scenes": "1", "scene_1": "S2, 2024"},
        bounds=(1, 2, 3, 4.5), days=("2024-06-01", "2024-08-31"), crs="EPSG:32633",
    )  # fmt: skip
    root = ET.fromstring(record.encode())

    def text(path: str) -> list[str | None]:
        return [element.text for element in root.findall(f".//{path}", GMD)]

    assert root.tag == f"{{{STANDARD}}}MD_Metadata"
    assert text("gmd:title/gco:CharacterString") == ["T"]
    assert text("gmd:abstract/gco:CharacterString") == ["A"]
    assert text("gmd:EX_GeographicBoundingBox//gco:Decimal") == [
        "1.000000", "3.000000", "2.000000", "4.500000",
    ]  # fmt: skip
    assert text("gml:TimePeriod/*") == ["2024-06-01", "2024-08-31"]
    assert text("gmd:RS_Identifier/gmd:code/gco:CharacterString") == ["EPSG:32633"]
    steps = text("gmd:LI_ProcessStep/gmd:description/gco:CharacterString")
    assert steps == ["min_area_ha: 0.5\nscenes: 1"]
    assert text("gmd:LI_Source/gmd:description/gco:CharacterString") == ["S2, 2024"]


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_any_text_gives_a_well_formed_record(title: str, abstract: str, facts: dict[str, str]):
    """No character of a stranger can end an element or make the document unreadable."""
    record = lineage_xml(title=title, abstract=abstract, facts=facts)
    root = ET.fromstring(record.encode())
    assert len(root.findall(".//gmd:title", GMD)) == 1
    assert len(root.findall(".//gmd:LI_Source", GMD)) == sum(x.startswith("scene_") for x in facts)


def test_the_file_and_each_table_have_a_record(tmp_path: Path):
    """Registered as the standard asks; the file's record is the parent of the tables'."""
    path = (
        write_all(tmp_path, facts={"region": "<b> & \u202e", "period": "2024-06-01"}) / "map.gpkg"
    )
    with closing(sqlite3.connect(path)) as database:
        extensions = database.execute(
            "SELECT table_name, extension_name FROM gpkg_extensions WHERE column_name IS NULL"
        ).fetchall()
        references = database.execute(
            "SELECT reference_scope, table_name, md_file_id, md_parent_id FROM gpkg_metadata_reference"
        ).fetchall()
        texts = database.execute("SELECT metadata, md_standard_uri FROM gpkg_metadata").fetchall()
    assert extensions == [
        ("gpkg_metadata", "gpkg_metadata"), ("gpkg_metadata_reference", "gpkg_metadata"),
    ]  # fmt: skip
    assert references == [
        ("geopackage", None, 1, None), ("table", "landcover", 2, 1), ("table", "areas", 3, 1),
        ("table", "run", 4, 1),
    ]  # fmt: skip
    for text, standard in texts:
        assert standard == STANDARD
        ET.fromstring(text.encode())
    assert "&lt;b&gt; &amp; \N{REPLACEMENT CHARACTER}, 2024-06-01" in texts[0][0]
    assert all(name.split('"')[0] in texts[0][0] for name in LEGEND.names)
