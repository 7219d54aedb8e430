"""A QGIS project of a map, to be kept inside its GeoPackage: layers, legend, images beside it."""

import contextlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, indent

import numpy as np
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from landcover.errors import RasterError
from landcover.legend import NODATA, LandClass
from pipeline.class_raster import ClassRaster, strips
from pipeline.cog import open_raster, raster_grid
from pipeline.geopackage import Layer
from pipeline.pictures import CONFIDENCE_RAMP, Stretch, composite_stretch
from pipeline.qgis_style import QGIS, palette_pipe, xml_text

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_TABLES, _IMAGES = "Tables", "Rasters"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first date that a ZIP can hold."""
_SYSTEM = "spatialrefsys"


@dataclass(frozen=True)
class Image:
    """A raster beside the GeoPackage."""

    file: str
    """Its name, without a folder."""
    title: str
    """What the legend calls it."""
    grid: GeoBox
    """Where its pixels are."""
    pipe: Element
    """How QGIS draws it: the element `pipe` of a style."""
    checked: bool = False
    """Whether it is drawn at first."""


@dataclass(frozen=True)
class Project:
    """What a project shows."""

    file: str
    """Name of the GeoPackage, without a folder."""
    title: str
    """Shown in the title bar."""
    grid: GeoBox
    """CRS and extent of the map."""
    layers: Sequence[Layer]
    """Tables of the GeoPackage, the top of the map first."""
    images: Sequence[Image] = ()
    """Rasters beside it, the top first."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """How the map was made, for the layers' properties."""


def qgz(project: Project) -> bytes:
    """The project as the content of a .qgz file, the same bytes for the same project.

    Every source is named relative to the project, so the folder may be moved.
    """
    root = _root(project)
    indent(root)
    text = _HEAD + xml_text(root) + "\n"
    buffer = io.BytesIO()
    entry = zipfile.ZipInfo("landcover.qgs", _EPOCH)
    entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, text.encode())
    return buffer.getvalue()


def _root(project: Project) -> Element:
    root = Element("qgis", version=QGIS, projectname=project.title)
    SubElement(root, "homePath", path="")
    SubElement(root, "title").text = project.title
    crs = SubElement(root, "projectCrs")
    crs.append(_system(CRS(project.grid.crs)))
    sources: list[_Vector | _Raster] = [
        *map(_Vector, project.layers),
        *map(_Raster, project.images),
    ]
    _add_tree(root, project, sources)
    _add_canvas(root, project)
    layers = SubElement(root, "projectlayers")
    for source in sources:
        layers.append(source.element(project))
    order = SubElement(root, "layerorder")
    for source in sources:
        SubElement(order, "layer", id=source.id)
    _add_properties(root)
    about = SubElement(root, "projectMetadata")
    SubElement(about, "title").text = project.title
    _add_history(about, project)
    return root


def _add_tree(root: Element, project: Project, sources: Sequence["_Vector | _Raster"]) -> None:
    """Maps on top, then tables, then rasters, which the polygons hide until they are switched off."""
    tree = SubElement(root, "layer-tree-group")
    places = {
        name: SubElement(tree, "layer-tree-group", name=name, checked="Qt::Checked", expanded="1")
        for name in (_TABLES, _IMAGES)
    }
    maps = 0
    for source in sources:
        leaf = Element(
            "layer-tree-layer", id=source.id, name=source.title, source=source.source(project),
            providerKey=source.provider, expanded=str(int(source.group is None)),
            checked="Qt::Checked" if source.checked else "Qt::Unchecked",
        )  # fmt: skip
        if source.group is None:
            tree.insert(maps, leaf)
            maps += 1
        else:
            places[source.group].append(leaf)
    for group in places.values():
        if not len(group):
            tree.remove(group)


def _add_canvas(root: Element, project: Project) -> None:
    """What the window shows at first: the whole map."""
    canvas = SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    SubElement(canvas, "units").text = "degrees" if CRS(project.grid.crs).geographic else "meters"
    _add_extent(canvas, project.grid)
    SubElement(canvas, "rotation").text = "0"
    SubElement(canvas, "destinationsrs").append(_system(CRS(project.grid.crs)))
    view = SubElement(root, "ProjectViewSettings", UseProjectScales="0", rotation="0")
    extent = SubElement(view, "DefaultViewExtent", _sides(project.grid))
    extent.append(_system(CRS(project.grid.crs)))


def _add_properties(root: Element) -> None:
    properties = SubElement(root, "properties")
    SubElement(SubElement(properties, "Paths"), "Absolute", type="bool").text = "false"
    systems = SubElement(properties, "SpatialRefSys")
    SubElement(systems, "ProjectionsEnabled", type="int").text = "1"
    measures = SubElement(properties, "Measurement")
    SubElement(measures, "AreaUnits", type="QString").text = "ha"
    ellipsoid = SubElement(properties, "Measure")
    SubElement(ellipsoid, "Ellipsoid", type="QString").text = "EPSG:7030"


def _add_history(parent: Element, project: Project) -> None:
    for name, value in project.facts.items():
        SubElement(parent, "history").text = f"{name}: {value}"


def _sides(grid: GeoBox) -> dict[str, str]:
    box = grid.extent.boundingbox
    sides = {"xmin": box.left, "ymin": box.bottom, "xmax": box.right, "ymax": box.top}
    return {name: repr(float(value)) for name, value in sides.items()}


def _add_extent(parent: Element, grid: GeoBox) -> None:
    extent = SubElement(parent, "extent")
    for name, value in _sides(grid).items():
        SubElement(extent, name).text = value


def _system(crs: CRS) -> Element:
    """A CRS as QGIS writes it; it goes by the WKT, the code is for show."""
    element = Element(_SYSTEM)
    code = crs.to_epsg()
    SubElement(element, "wkt").text = crs.proj.to_wkt("WKT2_2019")
    SubElement(element, "authid").text = f"EPSG:{code}" if code else ""
    SubElement(element, "description").text = crs.proj.name
    SubElement(element, "geographicflag").text = "true" if crs.geographic else "false"
    return element


def _layer_id(name: str) -> str:
    """Of the form that QGIS gives; with a shorter one the layer panel stays empty."""
    return f"{name}_00000000_0000_4000_8000_000000000001"


@dataclass(frozen=True)
class _Vector:
    """A layer of the GeoPackage in the project."""

    layer: Layer
    provider = "ogr"

    @property
    def checked(self) -> bool:
        """Instances would hide the map, of whose regions they are copies."""
        return self.layer.name != "instances"

    @property
    def id(self) -> str:
        return _layer_id(self.layer.name)

    @property
    def title(self) -> str:
        return self.layer.style.name if self.layer.style else self.layer.name

    @property
    def group(self) -> str | None:
        return None if self.layer.crs else _TABLES

    def source(self, project: Project) -> str:
        return f"./{project.file}|layername={self.layer.name}"

    def element(self, project: Project) -> Element:
        shape = self.layer.geometry_type if self.layer.crs else "NoGeometry"
        element = Element(
            "maplayer", type="vector", geometry="Polygon" if self.layer.crs else "No geometry",
            wkbType=shape, styleCategories="AllStyleCategories",
        )  # fmt: skip
        _add_source(element, self, project)
        SubElement(element, "provider", encoding="UTF-8").text = self.provider
        about = SubElement(element, "resourceMetadata")
        SubElement(about, "type").text = "dataset"
        SubElement(about, "title").text = self.title
        SubElement(about, "abstract").text = self.layer.description
        if self.layer.crs:
            _add_history(about, project)
            element.append(_srs(CRS(self.layer.crs)))
        if self.layer.style:
            style = fromstring(self.layer.style.qml)  # noqa: S314 - our own text
            element.attrib |= {k: v for k, v in style.attrib.items() if k == "labelsEnabled"}
            element.extend(style)
        return element


@dataclass(frozen=True)
class _Raster:
    """A raster beside the GeoPackage in the project."""

    image: Image
    provider = "gdal"
    group = _IMAGES

    @property
    def id(self) -> str:
        """By the title, of which there is one each: files may be called as each other or as tables."""
        return _layer_id("raster_" + "".join(c for c in self.image.title if c.isalnum()))

    @property
    def title(self) -> str:
        return self.image.title

    @property
    def checked(self) -> bool:
        return self.image.checked

    def source(self, _: Project) -> str:
        return f"./{self.image.file}"

    def element(self, project: Project) -> Element:
        element = Element("maplayer", type="raster", styleCategories="AllStyleCategories")
        _add_source(element, self, project)
        SubElement(element, "provider").text = self.provider
        _add_extent(element, self.image.grid)
        element.append(_srs(CRS(self.image.grid.crs)))
        element.append(self.image.pipe)
        return element


def _add_source(element: Element, source: _Vector | _Raster, project: Project) -> None:
    SubElement(element, "id").text = source.id
    SubElement(element, "datasource").text = source.source(project)
    SubElement(element, "layername").text = source.title


def _srs(crs: CRS) -> Element:
    srs = Element("srs")
    srs.append(_system(crs))
    return srs


# Rasters


def images_beside(
    folder: Path, raster: ClassRaster, files: Mapping[str, Path | None]
) -> list[Image]:
    """The rasters in the folder of the map: confidence, classes, and the composite if there is one.

    raster: the classes, open. files: what the map was made of, by `classes`, `confidence` and `composite`; those that lie elsewhere
    are left out, for the map may travel without them. So is a composite that cannot be read.
    """
    images = []
    classes, confidence = files["classes"], files.get("confidence")
    if confidence and _is_in(confidence, folder):
        images.append(_image(confidence, "Confidence (%)", lambda _: _confidence_pipe()))
    if classes and _is_in(classes, folder):
        images.append(_image(classes, "Classes", lambda _: palette_pipe(_palette(raster))))
    composite = files.get("composite") or folder / "composite.tif"
    if composite.is_file() and _is_in(composite, folder):
        with contextlib.suppress(RasterError):
            images.append(_image(composite, "Image", _composite_pipe, checked=True))
    return images


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().parent == folder.resolve()


def _image(
    path: Path, title: str, pipe: Callable[[Path], Element], *, checked: bool = False
) -> Image:
    with open_raster(path) as dataset:
        grid = raster_grid(dataset)
    return Image(path.name, title, grid, pipe(path), checked)


def _palette(raster: ClassRaster) -> list[tuple[int, LandClass]]:
    """Stored values with their classes; those that occur, where a class has several."""
    codes, legend = raster.values.codes, raster.legend
    entries = [(value, legend[code]) for value, code in codes.items() if code != NODATA]
    if len(entries) == len(legend):
        return entries
    held = {value for _, rows in strips(raster.dataset) for value in np.unique(rows).tolist()}
    return [entry for entry in entries if entry[0] in held]


def _composite_pipe(path: Path) -> Element:
    """Natural colours, dark and bright as in the report."""
    pipe = Element("pipe")
    stretches = composite_stretch(path)
    bands: dict[str, Any] = {
        f"{name}Band": str(x.band) for name, x in zip(_COLORS, stretches, strict=True)
    }
    renderer = SubElement(
        pipe, "rasterrenderer", type="multibandcolor", opacity="1", alphaBand="-1", nodataColor="", **bands
    )  # fmt: skip
    for name, stretch in zip(_COLORS, stretches, strict=True):
        _add_stretch(renderer, f"{name}ContrastEnhancement", stretch)
    return pipe


_COLORS = ("red", "green", "blue")


def _add_stretch(renderer: Element, name: str, stretch: Stretch) -> None:
    contrast = SubElement(renderer, name)
    SubElement(contrast, "minValue").text = repr(stretch.dark)
    SubElement(contrast, "maxValue").text = repr(stretch.bright)
    SubElement(contrast, "algorithm").text = "StretchToMinimumMaximum"


def _confidence_pipe() -> Element:
    """The ramp of the report, linear between its colours."""
    pipe = Element("pipe")
    low, high = str(CONFIDENCE_RAMP[0][0]), str(CONFIDENCE_RAMP[-1][0])
    renderer = SubElement(
        pipe, "rasterrenderer", type="singlebandpseudocolor", band="1", opacity="1", alphaBand="-1",
        nodataColor="", classificationMin=low, classificationMax=high,
    )  # fmt: skip
    shader = SubElement(
        SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED",
        classificationMode="1", clip="0", minimumValue=low, maximumValue=high,
    )  # fmt: skip
    for value, color in CONFIDENCE_RAMP:
        SubElement(shader, "item", value=str(value), label=f"{value} %", color=color, alpha="255")
    return pipe
