"""Open the project inside a GeoPackage with QGIS, without a screen, and print what QGIS made of it.

    /usr/bin/python3 tests/qgis_open_project.py FILE.gpkg [--points FILE.json]

prints JSON: the title, the tree of layers, each layer, the invalid geometries by QGIS's own validator, and
the colour drawn at each point ([[x, y], ...] in map coordinates) when the checked layers are drawn. It is
run by the system's Python, which has QGIS; so it imports nothing of this project.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="qgis-"))

from qgis.core import (
    QgsApplication,
    QgsGeometry,
    QgsGeometryValidator,
    QgsLayerTreeGroup,
    QgsMapLayer,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

SIZE = 1000
"""Pixels along the longer side of the map."""


def main() -> int:
    """Parse, open, describe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--points", type=Path)
    arguments = parser.parse_args()
    application = QgsApplication([], False)
    application.initQgis()
    project = QgsProject.instance()
    opened = project.read(f"geopackage:{arguments.file}?projectName=landcover")
    points = json.loads(arguments.points.read_text()) if arguments.points else []
    print(json.dumps({"opened": opened} | describe(project, points)))
    project.clear()  # layers go before QGIS does
    application.exitQgis()
    return 0


def describe(project: QgsProject, points: list[list[float]]) -> dict[str, Any]:
    """What a person would look at."""
    layers = project.mapLayers().values()
    view = project.viewSettings().defaultViewExtent()
    return {
        "title": project.title(),
        "crs": project.crs().authid(),
        "extent": [view.xMinimum(), view.yMinimum(), view.xMaximum(), view.yMaximum()],
        "tree": tree(project.layerTreeRoot()),
        "layers": {layer.name(): about(layer) for layer in layers},
        "colors": colors(project, points) if points else [],
    }


def tree(group: QgsLayerTreeGroup) -> list[Any]:
    """Names from top to bottom, each with whether it is checked; groups with what is in them."""
    return [
        [node.name(), node.itemVisibilityChecked()]
        + ([tree(node)] if isinstance(node, QgsLayerTreeGroup) else [])
        for node in group.children()
    ]


def about(layer: QgsMapLayer) -> dict[str, Any]:
    """One layer: where it is, whether it is there, how it is shown."""
    facts: dict[str, Any] = {
        "valid": layer.isValid(),
        "source": layer.source(),
        "crs": layer.crs().authid(),
        "history": layer.metadata().history(),
    }
    if not layer.isValid():
        return facts
    if isinstance(layer, QgsRasterLayer):
        return facts | {"renderer": layer.renderer().type()}
    facts |= {
        "aliases": {f.name(): f.alias() for f in layer.fields() if f.alias()},
        "hidden": [c.name for c in layer.attributeTableConfig().columns() if c.hidden],
        "features": layer.featureCount(),
        "labels": layer.labelsEnabled() and layer.labeling().settings().fieldName,
    }
    if layer.isSpatial():
        items = layer.renderer().legendSymbolItems()
        facts |= {"renderer": layer.renderer().type(), "legend": [item.label() for item in items]}
        facts |= validity(layer)
    return facts


def validity(layer: QgsVectorLayer) -> dict[str, dict[str, int]]:
    """Features that QGIS's own rules and those of GEOS find wrong: what its tool 'Check validity' does."""
    wrong = {"qgis": 0, "geos": 0}
    for feature in layer.getFeatures():
        geometry = feature.geometry()
        for name, method in (
            ("qgis", QgsGeometry.ValidatorQgisInternal),
            ("geos", QgsGeometry.ValidatorGeos),
        ):
            found: list[QgsGeometry.Error] = []
            checker = QgsGeometryValidator(geometry, None, method)
            checker.errorFound.connect(found.append)
            checker.run()
            wrong[name] += bool(found)
    return {"invalid": wrong}


def colors(project: QgsProject, points: list[list[float]]) -> list[str]:
    """Draw what is checked; the colour at each point as #rrggbb."""
    settings = QgsMapSettings()
    root = project.layerTreeRoot()
    settings.setLayers([layer for layer in root.checkedLayers() if layer.isSpatial()])
    settings.setDestinationCrs(project.crs())
    settings.setBackgroundColor(QColor("white"))
    extent = project.viewSettings().defaultViewExtent()
    scale = SIZE / max(extent.width(), extent.height())
    settings.setOutputSize(QSize(round(extent.width() * scale), round(extent.height() * scale)))
    settings.setExtent(extent)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    places = [settings.mapToPixel().transform(x, y) for x, y in points]
    return [QColor(image.pixel(int(place.x()), int(place.y()))).name() for place in places]


if __name__ == "__main__":
    sys.exit(main())
