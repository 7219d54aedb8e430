"""The form in which a person labels a sample in QGIS: a list of classes, and what they may look at."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent

from landcover.legend import Legend
from pipeline.qgis_style import xml_text

CONFIDENCE = ("high", "medium", "low")
"""How sure a labeller may say to be."""
LINKS = {
    "street_map": "Street map (OpenStreetMap)",
    "aerial": "Aerial view (Google Maps)",
    "satellite": "Satellite (Copernicus Browser)",
}
"""Columns with addresses of public viewers, and their headings."""
_HEADINGS = {
    "id": "Pixel",
    "reference": "Class in truth",
    "confidence": "How sure",
    "note": "Note",
    **LINKS,
}
_NO_VALUE = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
"""What QGIS writes for NULL in a list of values."""
_QGIS = "3.22.16"


def viewer_links(longitude: float, latitude: float) -> dict[str, str]:
    """Addresses that show a place, degrees, in public viewers: by column of LINKS."""
    lat, lon = f"{latitude:.6f}", f"{longitude:.6f}"
    return {
        "street_map": f"https://www.openstreetmap.org/?mlat={lat}&mlon={lon}#map=17/{lat}/{lon}",
        "aerial": f"https://www.google.com/maps/@?api=1&map_action=map&center={lat}%2C{lon}"
        "&zoom=18&basemap=satellite",
        "satellite": f"https://browser.dataspace.copernicus.eu/?zoom=16&lat={lat}&lng={lon}",
    }


def label_qml(legend: Legend) -> str:
    """QGIS style of the points: to label red, labelled green, with a form that lists the classes.

    The form shows neither stratum nor mapped class, which would lead the labeller: they are in
    another table.
    """
    root = Element("qgis", version=_QGIS, styleCategories="AllStyleCategories")
    _add_rules(root)
    fields = SubElement(root, "fieldConfiguration")
    values = [("(not labelled)", _NO_VALUE)] + [(c.name, str(c.code)) for c in legend.classes]
    _add_list(fields, "reference", values)
    _add_list(fields, "confidence", [("", _NO_VALUE)] + [(word, word) for word in CONFIDENCE])
    _add_widget(fields, "note", "TextEdit", {"IsMultiline": "true"})
    for name in LINKS:
        _add_widget(fields, name, "ExternalResource", {"UseLink": "true", "FullUrl": "true"})
    _add_widget(fields, "fid", "Hidden", {})
    headings = SubElement(root, "aliases")
    for index, (field, name) in enumerate(_HEADINGS.items(), start=1):
        SubElement(headings, "alias", field=field, index=str(index), name=name)
    _add_form(root)
    SubElement(root, "previewExpression").text = '"id"'
    SubElement(root, "layerGeometryType").text = "0"
    return _document(root)


def outline_qml() -> str:
    """QGIS style of the pixels: an outline, so that what is inside can be seen."""
    root = Element("qgis", version=_QGIS, styleCategories="AllStyleCategories")
    renderer = SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0")
    properties = {"style": "no", "outline_color": "255,255,0,255", "outline_width": "0.5"}
    symbol = _symbol("0", "fill", "SimpleFill", properties)
    SubElement(renderer, "symbols").append(symbol)
    SubElement(root, "layerGeometryType").text = "2"
    return _document(root)


def _add_rules(root: Element) -> None:
    renderer = SubElement(root, "renderer-v2", type="RuleRenderer", symbollevels="0")
    rules = SubElement(renderer, "rules", key="{sample}")
    symbols = SubElement(renderer, "symbols")
    kinds = (('"reference" IS NULL', "To label", "215,48,39"), ("ELSE", "Labelled", "26,152,80"))
    for number, (condition, label, color) in enumerate(kinds):
        SubElement(rules, "rule", key=f"{{sample-{number}}}", filter=condition, label=label, symbol=str(number))  # fmt: skip
        properties = {
            "name": "cross_fill", "color": f"{color},255", "outline_color": "255,255,255,255",
            "size": "3", "size_unit": "MM",
        }  # fmt: skip
        symbols.append(_symbol(str(number), "marker", "SimpleMarker", properties))


def _symbol(name: str, kind: str, layer: str, properties: Mapping[str, str]) -> Element:
    symbol = Element("symbol", type=kind, name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    attributes = {"class": layer, "enabled": "1", "locked": "0", "pass": "0"}
    inner = SubElement(symbol, "layer", attributes)
    options = SubElement(inner, "Option", type="Map")
    for key, value in properties.items():
        SubElement(options, "Option", type="QString", name=key, value=value)
    for key, value in properties.items():  # read by QGIS before 3.26
        SubElement(inner, "prop", k=key, v=value)
    return symbol


def _add_list(fields: Element, name: str, values: Sequence[tuple[str, str]]) -> None:
    """A field that is chosen from a list: (shown, stored)."""
    field = SubElement(fields, "field", name=name, configurationFlags="None")
    config = SubElement(SubElement(field, "editWidget", type="ValueMap"), "config")
    choices = SubElement(
        SubElement(config, "Option", type="Map"), "Option", type="List", name="map"
    )
    for shown, stored in values:
        choice = SubElement(choices, "Option", type="Map")
        SubElement(choice, "Option", type="QString", name=shown, value=stored)


def _add_widget(fields: Element, name: str, kind: str, options: Mapping[str, str]) -> None:
    field = SubElement(fields, "field", name=name, configurationFlags="None")
    config = SubElement(SubElement(field, "editWidget", type=kind), "config")
    settings = SubElement(config, "Option", type="Map")
    for key, value in options.items():
        SubElement(settings, "Option", type="bool", name=key, value=value)


def _add_form(root: Element) -> None:
    """The fields of the form in their order; only what the labeller says can be changed."""
    SubElement(root, "editorlayout").text = "tablayout"
    form = SubElement(root, "attributeEditorForm")
    editable = SubElement(root, "editable")
    for index, name in enumerate(_HEADINGS, start=1):
        SubElement(form, "attributeEditorField", name=name, index=str(index), showLabel="1")
        said = name in ("reference", "confidence", "note")
        SubElement(editable, "field", name=name, editable=str(int(said)))
    SubElement(editable, "field", name="fid", editable="0")


def _document(root: Element) -> str:
    indent(root)
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{xml_text(root)}\n"
