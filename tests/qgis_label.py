"""Open a sample in QGIS as a labeller does, tell what its form offers, and label pixels.

    /usr/bin/python3 tests/qgis_label.py SAMPLE.gpkg LABELS.json

LABELS.json is {id: code}; an id below 0 deletes that point. Prints JSON. It is run by the system's
Python, which has QGIS; so it imports nothing of this project.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="qgis-"))

from qgis.core import QgsApplication, QgsProject, QgsVectorLayer


def describe(layer: QgsVectorLayer) -> dict[str, Any]:
    """What the form offers, and how the points are drawn."""
    fields = layer.fields()
    form = layer.editFormConfig()
    setup = {f.name(): layer.editorWidgetSetup(fields.indexOf(f.name())) for f in fields}
    return {
        "widgets": {name: one.type() for name, one in setup.items()},
        "choices": [
            [name, value]
            for one in setup["reference"].config()["map"]
            for name, value in one.items()
        ],
        "shown": [child.name() for child in form.invisibleRootContainer().children()],
        "locked": [f.name() for f in fields if form.readOnly(fields.indexOf(f.name()))],
        "aliases": {f.name(): f.alias() for f in fields},
        "legend": [item.label() for item in layer.renderer().legendSymbolItems()],
        "points": layer.featureCount(),
        "crs": layer.crs().authid(),
        "columns": [f.name() for f in fields],
    }


def label(layer: QgsVectorLayer, labels: dict[str, int]) -> bool:
    """Give labels through QGIS's edit buffer, as its form does."""
    field = layer.fields().indexOf("reference")
    layer.startEditing()
    for feature in layer.getFeatures():
        number = str(feature["id"])
        if number in labels:
            layer.changeAttributeValue(feature.id(), field, labels[number])
        if f"-{number}" in labels:
            layer.deleteFeature(feature.id())
    return bool(layer.commitChanges())


def main() -> int:
    """Parse, load, label."""
    application = QgsApplication([], False)
    application.initQgis()
    layer = QgsVectorLayer(f"{sys.argv[1]}|layername=sample", "sample", "ogr")
    facts = {"valid": layer.isValid()}
    if layer.isValid():
        facts |= describe(layer)
        facts["saved"] = label(layer, json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
        value = next(f for f in layer.getFeatures() if f["reference"])["reference"]
        facts["rule"] = [r.filterExpression() for r in layer.renderer().rootRule().children()]
        facts["value"] = value
    print(json.dumps(facts))
    del layer
    QgsProject.instance().clear()
    application.exitQgis()
    return 0


if __name__ == "__main__":
    sys.exit(main())
