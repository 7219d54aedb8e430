"""How QGIS draws our files: styles for polygons, tables and zones, and side-car files for the class raster."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from landcover.legend import LandClass, Legend
from pipeline.artifacts import write_text

QGIS = "3.22.16"
"""QGIS release whose style format this is; later ones read it."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML document may hold (XML 1.0, production 2)."""
_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_DECIMALS = (("_ha", 4), ("_m", 1), ("_percent", 2), ("confidence", 1), ("displacement", 2))
"""Decimals shown of a column, by the end of its name; the file keeps them all."""
_KEY = "fid"
"""The row number that GeoPackage asks for; it means nothing to a reader, so QGIS hides it."""
_SLD = "http://www.opengis.net/sld"
_SE = "http://www.opengis.net/se"
_OGC = "http://www.opengis.net/ogc"


def polygon_qml(legend: Legend, attribute: str, aliases: Mapping[str, str]) -> str:
    """QGIS style that fills polygons by class code and labels the legend with the class names.

    attribute: column of the class code. aliases: headings of columns, by column name.
    """
    root = Element("qgis", version=QGIS, styleCategories="AllStyleCategories")
    renderer = SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0",
        forceraster="0", enableorderby="0", referencescale="-1",
    )  # fmt: skip
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for number, c in enumerate(legend.classes):
        SubElement(
            categories, "category", symbol=str(number), value=str(c.code), label=c.name,
            render="true", type="long",
        )  # fmt: skip
        symbols.append(_fill(str(number), c))
    _add_columns(root, aliases)
    SubElement(root, "layerGeometryType").text = "2"
    return _document(root, _HEAD)


def table_qml(aliases: Mapping[str, str]) -> str:
    """QGIS style of a table without geometry: headings and decimals. aliases: as in `polygon_qml`."""
    root = Element("qgis", version=QGIS, styleCategories="AllStyleCategories")
    _add_columns(root, aliases)
    SubElement(root, "layerGeometryType").text = "4"
    return _document(root, _HEAD)


def zone_qml(attribute: str, aliases: Mapping[str, str]) -> str:
    """QGIS style of zones: a dark outline without fill, each labelled with its name.

    attribute: column of the name. aliases: as in `polygon_qml`.
    """
    root = Element("qgis", version=QGIS, styleCategories="AllStyleCategories", labelsEnabled="1")
    renderer = SubElement(
        root, "renderer-v2", type="singleSymbol", symbollevels="0", forceraster="0",
        enableorderby="0", referencescale="-1",
    )  # fmt: skip
    outline = {
        "color": "0,0,0,0", "style": "no", "joinstyle": "miter", "offset": "0,0", "offset_unit": "MM",
        "outline_color": "38,38,38,255", "outline_style": "solid", "outline_width": "0.5",
        "outline_width_unit": "MM",
    }  # fmt: skip
    SubElement(renderer, "symbols").append(_symbol("0", outline))
    _add_labels(root, attribute)
    _add_columns(root, aliases)
    SubElement(root, "layerGeometryType").text = "2"
    return _document(root, _HEAD)


def _add_labels(root: Element, attribute: str) -> None:
    """Labels of a column's text, with a light rim that reads on any colour."""
    settings = SubElement(SubElement(root, "labeling", type="simple"), "settings")
    text = SubElement(
        settings, "text-style", fieldName=attribute, isExpression="0", fontFamily="Sans Serif",
        fontSize="9", fontSizeUnit="Point", fontWeight="75", textColor="20,20,20,255", textOpacity="1",
    )  # fmt: skip
    SubElement(
        text, "text-buffer", bufferDraw="1", bufferSize="1", bufferSizeUnits="MM",
        bufferColor="255,255,255,255", bufferOpacity="1", bufferNoFill="1", bufferJoinStyle="128",
    )  # fmt: skip
    SubElement(settings, "placement", placement="1", centroidWhole="1", centroidInside="1")
    SubElement(settings, "rendering", drawLabels="1", scaleVisibility="0", obstacle="1")


def _add_columns(root: Element, aliases: Mapping[str, str]) -> None:
    """Headings and decimals of columns; the row number is hidden."""
    configuration = SubElement(root, "fieldConfiguration")
    headings = SubElement(root, "aliases")
    for index, (field, name) in enumerate({_KEY: "", **aliases}.items()):
        widget = SubElement(SubElement(configuration, "field", name=field), "editWidget")
        _set_widget(widget, field)
        SubElement(headings, "alias", field=field, index=str(index), name=name)
    table = SubElement(root, "attributetableconfig", sortOrder="0", actionWidgetStyle="dropDown")
    columns = SubElement(table, "columns")
    for field in (_KEY, *aliases):
        SubElement(
            columns, "column", type="field", name=field, hidden=str(int(field == _KEY)), width="-1"
        )


def _set_widget(widget: Element, field: str) -> None:
    options = SubElement(SubElement(widget, "config"), "Option", type="Map")
    decimals = next((places for end, places in _DECIMALS if field.endswith(end)), None)
    if field == _KEY:
        widget.set("type", "Hidden")
    elif decimals is not None:
        widget.set("type", "Range")
        SubElement(options, "Option", type="int", name="Precision", value=str(decimals))
        SubElement(options, "Option", type="QString", name="Style", value="SpinBox")


def polygon_sld(legend: Legend, attribute: str, layer: str) -> str:
    """The same style as an OGC Styled Layer Descriptor 1.1, for other programs."""
    root = Element(
        "StyledLayerDescriptor",
        {"version": "1.1.0", "xmlns": _SLD, "xmlns:se": _SE, "xmlns:ogc": _OGC},
    )
    named = SubElement(root, "NamedLayer")
    SubElement(named, "se:Name").text = layer
    style = SubElement(named, "UserStyle")
    SubElement(style, "se:Name").text = layer
    rules = SubElement(style, "se:FeatureTypeStyle")
    for c in legend.classes:
        _rule(rules, c, attribute)
    return _document(root, '<?xml version="1.0" encoding="UTF-8"?>\n')


def raster_qml(legend: Legend) -> str:
    """QGIS style of the class raster: its classes only, with names, nodata left out."""
    root = Element("qgis", version=QGIS, styleCategories="AllStyleCategories")
    root.append(palette_pipe((c.code, c) for c in legend.classes))
    return _document(root, _HEAD)


def palette_pipe(entries: Iterable[tuple[int, LandClass]]) -> Element:
    """The part of a raster's style that draws stored values as classes.

    entries: each stored value with its class.
    """
    pipe = Element("pipe")
    renderer = SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1",
        nodataColor="",
    )  # fmt: skip
    palette = SubElement(renderer, "colorPalette")
    for value, c in entries:
        SubElement(
            palette, "paletteEntry", value=str(value), color=c.color, label=c.name, alpha="255"
        )
    return pipe


def raster_attributes(legend: Legend) -> str:
    """GDAL's auxiliary metadata: category names, and an attribute table of codes, names, colours.

    Types and usages are GDAL's GDALRATFieldType and GDALRATFieldUsage.
    """
    root = Element("PAMDataset")
    band = SubElement(root, "PAMRasterBand", band="1")
    names = SubElement(band, "CategoryNames")
    for code in range(max(legend.codes) + 1):
        SubElement(names, "Category").text = legend[code].name if code in legend else ""
    table = SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    columns = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
    for index, (name, kind, usage) in enumerate(columns):
        column = SubElement(table, "FieldDefn", index=str(index))
        SubElement(column, "Name").text = name
        SubElement(column, "Type").text = str(kind)
        SubElement(column, "Usage").text = str(usage)
    for index, c in enumerate(legend.classes):
        row = SubElement(table, "Row", index=str(index))
        for value in (c.code, c.name, *c.rgb):
            SubElement(row, "F").text = str(value)
    return _document(root, "")


def write_raster_style(classes: Path, legend: Legend) -> list[Path]:
    """Write the side-car files beside a class raster, so that its legend shows names.

    `classes.qml` is read by every QGIS, `classes.tif.aux.xml` by GDAL and QGIS from 3.30. Returns
    their paths.
    """
    style = classes.with_suffix(".qml")
    attributes = classes.with_name(classes.name + ".aux.xml")
    write_text(style, raster_qml(legend))
    write_text(attributes, raster_attributes(legend))
    return [style, attributes]


def _fill(name: str, c: LandClass) -> Element:
    """A fill with an outline of its own colour, which covers the seams that smoothing leaves."""
    color = ",".join(str(part) for part in (*c.rgb, 255))
    properties = {
        "color": color, "style": "solid", "joinstyle": "bevel", "offset": "0,0",
        "offset_unit": "MM", "outline_color": color, "outline_style": "solid",
        "outline_width": "0.1", "outline_width_unit": "MM",
    }  # fmt: skip
    return _symbol(name, properties)


def _symbol(name: str, properties: Mapping[str, str]) -> Element:
    """A fill symbol of one simple layer."""
    symbol = Element("symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    attributes = {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
    layer = SubElement(symbol, "layer", attributes)
    options = SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        SubElement(options, "Option", type="QString", name=key, value=value)
    for key, value in properties.items():  # read by QGIS before 3.26
        SubElement(layer, "prop", k=key, v=value)
    return symbol


def _rule(rules: Element, c: LandClass, attribute: str) -> None:
    rule = SubElement(rules, "se:Rule")
    SubElement(rule, "se:Name").text = c.name
    SubElement(SubElement(rule, "se:Description"), "se:Title").text = c.name
    equal = SubElement(SubElement(rule, "ogc:Filter"), "ogc:PropertyIsEqualTo")
    SubElement(equal, "ogc:PropertyName").text = attribute
    SubElement(equal, "ogc:Literal").text = str(c.code)
    fill = SubElement(SubElement(rule, "se:PolygonSymbolizer"), "se:Fill")
    SubElement(fill, "se:SvgParameter", name="fill").text = c.color


def _document(root: Element, head: str) -> str:
    indent(root)
    return head + xml_text(root) + "\n"


def xml_text(root: Element) -> str:
    """An element as text, without the characters that no XML document may hold."""
    return _NOT_XML.sub("", tostring(root, encoding="unicode"))
