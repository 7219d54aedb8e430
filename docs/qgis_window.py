"""Run inside QGIS (`qgis --code docs/qgis_window.py`): draw its main window into QGIS_WINDOW_PNG and quit."""

import os

from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QDockWidget
from qgis.utils import iface

SIZE = (1100, 720)
"""Pixels of the window."""
WAIT = 4000
"""Milliseconds until QGIS has drawn what it was asked for."""


def arrange() -> None:
    """Layer panel and map only, the whole map in view."""
    window = iface.mainWindow()
    window.resize(*SIZE)
    for panel in window.findChildren(QDockWidget):
        panel.setVisible(panel.objectName() == "Layers")
    iface.zoomFull()
    QTimer.singleShot(WAIT, draw)


def draw() -> None:
    """Write the picture, leave without being asked whether to save."""
    QApplication.instance().processEvents()
    iface.mainWindow().grab().save(os.environ["QGIS_WINDOW_PNG"])
    os._exit(0)


QTimer.singleShot(WAIT, arrange)
