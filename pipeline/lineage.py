"""Metadata of a map in ISO 19139 XML: what it shows, where, when, and how it came to be."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, indent

from pipeline.facts import SCENE
from pipeline.qgis_style import xml_text

STANDARD = "http://www.isotc211.org/2005/gmd"
"""Namespace of the standard (ISO/TS 19139:2007), by which readers know it."""
_GCO = "http://www.isotc211.org/2005/gco"
_GML = "http://www.opengis.net/gml/3.2"
_CODES = "http://www.isotc211.org/2005/resources/Codelist/gmxCodelists.xml"
_TABLE_LEVEL = "dataset"

Bounds = tuple[float, float, float, float]
"""West, south, east, north in degrees."""


def lineage_xml(
    *,
    title: str,
    abstract: str,
    facts: Mapping[str, str],
    bounds: Bounds | None = None,
    days: tuple[str, str] | None = None,
    crs: str = "",
) -> str:
    """A metadata record (MD_Metadata) with the lineage of a map or of one of its tables.

    facts: as the layer `run` has them; those of scenes become the sources, the others one processing
    step. bounds: of the map. days: first and last day that it shows, YYYY-MM-DD. crs: code or name.
    Dates that only a clock could tell are marked unknown, so equal input gives an equal record.
    """
    root = Element("gmd:MD_Metadata", {"xmlns:gmd": STANDARD, "xmlns:gco": _GCO, "xmlns:gml": _GML})
    _add_code(SubElement(root, "gmd:hierarchyLevel"), "MD_ScopeCode", _TABLE_LEVEL)
    SubElement(root, "gmd:contact", {"gco:nilReason": "unknown"})
    SubElement(root, "gmd:dateStamp", {"gco:nilReason": "unknown"})
    _add_text(root, "gmd:metadataStandardName", "ISO 19115:2003/19139")
    if crs:
        system = _nest(root, "gmd:referenceSystemInfo", "gmd:MD_ReferenceSystem")
        name = _nest(system, "gmd:referenceSystemIdentifier", "gmd:RS_Identifier")
        _add_text(name, "gmd:code", crs)
    _add_identification(root, title, abstract, bounds, days)
    _add_lineage(root, facts)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml_text(root) + "\n"


def _add_identification(
    root: Element, title: str, abstract: str, bounds: Bounds | None, days: tuple[str, str] | None
) -> None:
    about = _nest(root, "gmd:identificationInfo", "gmd:MD_DataIdentification")
    citation = _nest(about, "gmd:citation", "gmd:CI_Citation")
    _add_text(citation, "gmd:title", title)
    SubElement(citation, "gmd:date", {"gco:nilReason": "unknown"})
    _add_text(about, "gmd:abstract", abstract)
    _add_text(about, "gmd:language", "eng")
    topic = SubElement(about, "gmd:topicCategory")
    SubElement(topic, "gmd:MD_TopicCategoryCode").text = "imageryBaseMapsEarthCover"
    if bounds or days:
        extent = _nest(about, "gmd:extent", "gmd:EX_Extent")
        if bounds:
            _add_bounds(extent, bounds)
        if days:
            _add_days(extent, days)


def _add_bounds(extent: Element, bounds: Bounds) -> None:
    box = _nest(extent, "gmd:geographicElement", "gmd:EX_GeographicBoundingBox")
    west, south, east, north = bounds
    sides = {
        "westBoundLongitude": west, "eastBoundLongitude": east,
        "southBoundLatitude": south, "northBoundLatitude": north,
    }  # fmt: skip
    for name, degrees in sides.items():
        SubElement(SubElement(box, f"gmd:{name}"), "gco:Decimal").text = f"{degrees:.6f}"


def _add_days(extent: Element, days: tuple[str, str]) -> None:
    when = _nest(extent, "gmd:temporalElement", "gmd:EX_TemporalExtent", "gmd:extent")
    period = SubElement(when, "gml:TimePeriod", {"gml:id": "period"})
    for name, day in zip(("begin", "end"), days, strict=True):
        SubElement(period, f"gml:{name}Position").text = day


def _add_lineage(root: Element, facts: Mapping[str, str]) -> None:
    quality = _nest(root, "gmd:dataQualityInfo", "gmd:DQ_DataQuality")
    scope = _nest(quality, "gmd:scope", "gmd:DQ_Scope")
    _add_code(SubElement(scope, "gmd:level"), "MD_ScopeCode", _TABLE_LEVEL)
    lineage = _nest(quality, "gmd:lineage", "gmd:LI_Lineage")
    _add_text(
        lineage, "gmd:statement", "Made by a program from the sources and with the settings below."
    )
    settings = [f"{name}: {value}" for name, value in facts.items() if not name.startswith(SCENE)]
    if settings:
        step = _nest(lineage, "gmd:processStep", "gmd:LI_ProcessStep")
        _add_text(step, "gmd:description", "\n".join(settings))
    for name, value in facts.items():
        if name.startswith(SCENE):
            source = _nest(lineage, "gmd:source", "gmd:LI_Source")
            _add_text(source, "gmd:description", value)


def _nest(parent: Element, *names: str) -> Element:
    for name in names:
        parent = SubElement(parent, name)
    return parent


def _add_text(parent: Element, name: str, text: str) -> None:
    SubElement(SubElement(parent, name), "gco:CharacterString").text = text


def _add_code(parent: Element, kind: str, value: str) -> None:
    attributes = {"codeList": f"{_CODES}#{kind}", "codeListValue": value}
    SubElement(parent, f"gmd:{kind}", attributes).text = value
