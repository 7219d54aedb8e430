"""Draw a GeoPackage of ours with QGIS, without a screen.

    /usr/bin/python3 tests/qgis_render.py FILE.gpkg OUT.png

draws the map with its legend, for documents. With `--points FILE.json` ([[x, y], ...] in map
coordinates) it draws the bare map and prints JSON: how QGIS styled the layer, and the colour it drew
at each point. `--extent XMIN,YMIN,XMAX,YMAX` draws a part. It is run by the system's Python, which
has QGIS; so it imports nothing of this project.
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
    QgsCategorizedSymbolRenderer,
    QgsLayout,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

SIZE = 1000
"""Pixels along the longer side of the bare map."""
PAGE = (190.0, 124.0)
"""Width and height of the picture with the legend, millimetres."""


def main() -> int:
    """Parse, load, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--points", type=Path)
    parser.add_argument("--extent")
    arguments = parser.parse_args()
    application = QgsApplication([], False)
    application.initQgis()
    code = draw(arguments)
    QgsProject.instance().clear()  # layers go before QGIS does
    application.exitQgis()
    return code


def draw(arguments: argparse.Namespace) -> int:
    """Load the layer with the style that the file carries, and draw it."""
    layer = QgsVectorLayer(f"{arguments.file}|layername=landcover", "Land cover", "ogr")
    if not layer.isValid():
        print(f"QGIS cannot load the layer landcover of {arguments.file}", file=sys.stderr)
        return 1
    QgsProject.instance().addMapLayer(layer)
    extent = layer.extent()
    if arguments.extent:
        extent = QgsRectangle(*(float(part) for part in arguments.extent.split(",")))
    arguments.picture.unlink(missing_ok=True)
    if not arguments.points:
        return with_legend(layer, extent, arguments.picture)
    points = json.loads(arguments.points.read_text(encoding="utf-8"))
    colors = bare_map(layer, extent, points, arguments.picture)
    print(json.dumps(describe(layer) | {"colors": colors}))
    return 0


def describe(layer: QgsVectorLayer) -> dict[str, Any]:
    """How QGIS means to draw the layer."""
    renderer = layer.renderer()
    facts = {
        "renderer": renderer.type(),
        "legend": [item.label() for item in renderer.legendSymbolItems()],
        "aliases": {f.name(): f.alias() for f in layer.fields() if f.alias()},
        "features": layer.featureCount(),
        "crs": layer.crs().authid(),
    }
    if isinstance(renderer, QgsCategorizedSymbolRenderer):
        facts["attribute"] = renderer.classAttribute()
        facts["categories"] = [
            [int(c.value()), c.label(), c.symbol().color().name()] for c in renderer.categories()
        ]
    return facts


def bare_map(
    layer: QgsVectorLayer, extent: QgsRectangle, points: list[list[float]], picture: Path
) -> list[str]:
    """Draw the layer alone; return the colour at each point as #rrggbb."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setBackgroundColor(QColor("white"))
    scale = SIZE / max(extent.width(), extent.height())
    settings.setOutputSize(QSize(round(extent.width() * scale), round(extent.height() * scale)))
    settings.setExtent(extent)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    image.save(str(picture))
    places = [settings.mapToPixel().transform(x, y) for x, y in points]
    return [QColor(image.pixel(int(place.x()), int(place.y()))).name() for place in places]


def with_legend(layer: QgsVectorLayer, extent: QgsRectangle, picture: Path) -> int:
    """Draw the map with its legend on the right."""
    layout = QgsLayout(QgsProject.instance())
    layout.initializeDefaults()
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(*PAGE))
    map_item = QgsLayoutItemMap(layout)
    side = min(PAGE) - 4
    map_item.attemptMove(QgsLayoutPoint(2, 2))
    map_item.attemptResize(QgsLayoutSize(side, side))
    map_item.setCrs(layer.crs())
    map_item.setExtent(extent)  # gives the item the shape of the extent
    map_item.attemptResize(QgsLayoutSize(side, side))
    map_item.zoomToExtent(extent)
    map_item.setFrameEnabled(True)
    layout.addLayoutItem(map_item)
    legend = QgsLayoutItemLegend(layout)
    legend.setLinkedMap(map_item)
    legend.attemptMove(QgsLayoutPoint(side + 4, 2))
    layout.addLayoutItem(legend)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = 170
    drawn = QgsLayoutExporter(layout).exportToImage(str(picture), settings)
    return 0 if drawn == QgsLayoutExporter.Success else 1


if __name__ == "__main__":
    sys.exit(main())
