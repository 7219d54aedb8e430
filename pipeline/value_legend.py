"""What the stored values of anyone's class raster mean, and which code each gets here."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from landcover.errors import LegendError
from landcover.legend import NODATA, LandClass, Legend, shown_codes
from pipeline.cog import read_legend
from pipeline.csv_table import csv_lines

_FOLDER = Path(__file__).with_name("legends")
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.csv")))
"""Legends that come with the program."""
_UNKNOWN = -1
_LARGEST_SIDECAR = 2**20


@dataclass(frozen=True)
class ValueLegend:
    """Class codes of stored values, of any type of 8 or 16 bits."""

    legend: Legend
    """The classes by their codes here."""
    codes: Mapping[int, int]
    """Code of each stored value; 0 where it means no data."""

    @cached_property
    def _table(self) -> NDArray[np.int32]:
        table = np.full(1 << 16, _UNKNOWN, np.int32)
        for value, code in self.codes.items():
            table[value & 0xFFFF] = code
        return table

    def of(
        self, values: NDArray[np.integer], seen: NDArray[np.bool_] | None = None
    ) -> NDArray[np.integer]:
        """Codes of stored values, the same shape, 0 where not `seen`. Raises LegendError for values without a class."""
        bits = values.astype(np.int16 if values.dtype.kind == "i" else np.uint16).view(np.uint16)
        codes = self._table[bits]
        if seen is not None:
            codes[~seen] = NODATA
        if codes.min(initial=0) == _UNKNOWN:
            unknown = np.unique(values[codes == _UNKNOWN])
            raise LegendError(
                f"The class raster holds the codes {shown_codes(unknown)}, which its legend lacks (it has "
                f"{shown_codes(self.codes)}); give it the right legend."
            )
        narrow = np.uint8 if max(self.legend.codes) < 256 else np.uint16
        return codes.astype(narrow)


def value_legend(dataset: DatasetReader, given: str | None) -> ValueLegend:
    """The legend of an open class raster.

    given: a name of NAMES, or a CSV file with the columns value, name, color and, where the codes here
    are to be others, code. None: the file's own, which is our tag, its category names, or its colour
    table. The file's nodata value is no data, and so is 0 unless the legend gives it a class.
    Raises LegendError where there is none or it cannot be read.
    """
    if given is not None:
        legend = named_legend(given)
    elif "LEGEND" in dataset.tags():
        known = read_legend(dataset)
        legend = ValueLegend(known, {code: code for code in known.codes})
    else:
        legend = _from_palette(dataset)
    nodata = {} if dataset.nodata is None else {int(dataset.nodata): NODATA}
    return ValueLegend(legend.legend, {0: NODATA, **legend.codes, **nodata})


def named_legend(given: str) -> ValueLegend:
    """A legend by a name of NAMES, or of a CSV file as `value_legend` takes it; else LegendError."""
    return _from_csv(_FOLDER / f"{given}.csv" if given in NAMES else Path(given), given)


def _from_csv(path: Path, given: str) -> ValueLegend:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise LegendError(
            f"The legend '{given}' is neither one of {', '.join(NAMES)} nor a CSV file with the "
            f"columns value, name, color: {error}."
        ) from error
    rows = csv.DictReader(csv_lines(text))
    if not {"value", "name", "color"} <= set(rows.fieldnames or ()):
        raise LegendError(
            f"{path} has the columns {', '.join(rows.fieldnames or ())}; a legend needs value, name, color."
        )
    classes: dict[int, LandClass] = {}
    codes: dict[int, int] = {}
    for row in rows:
        try:
            value, code = int(row["value"]), int(row.get("code") or row["value"])
        except (TypeError, ValueError) as error:
            raise LegendError(f"{path}: '{row['value']}' is not a whole number.") from error
        codes[value] = code
        if code != NODATA:
            new = LandClass(code, row["name"] or "", row["color"] or "")
            if classes.setdefault(code, new) != new:
                raise LegendError(f"{path} gives the code {code} two names or colours.")
    return ValueLegend(Legend(tuple(classes.values())), codes)


def _from_palette(dataset: DatasetReader) -> ValueLegend:
    """Classes of the file's category names, coloured by its colour table; or of the table alone."""
    colors = _colors(dataset)
    names = _category_names(Path(dataset.name))
    if not names:
        names = {value: f"value {value}" for value, color in colors.items() if color != "#000000"}
    classes = [
        LandClass(value, name, colors.get(value, "#808080")) for value, name in names.items() if value > 0
    ]  # fmt: skip
    if not classes:
        raise LegendError(
            f"{dataset.name} has no legend (TIFF tag LEGEND), no category names and no colours; name "
            f"one by --legend: {', '.join(NAMES)}, or a CSV file with the columns value, name, color."
        )
    return ValueLegend(Legend(tuple(classes)), {c.code: c.code for c in classes})


def _colors(dataset: DatasetReader) -> dict[int, str]:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return {}
    return {value: "#{:02x}{:02x}{:02x}".format(*c[:3]) for value, c in table.items() if c[3]}


def _category_names(path: Path) -> dict[int, str]:
    """Names by value from the file's GDAL side-car; none where it has none or it cannot be read."""
    sidecar = path.with_name(path.name + ".aux.xml")
    try:
        content = sidecar.read_bytes()
        if len(content) > _LARGEST_SIDECAR or b"<!" in content.replace(b"<!--", b""):
            return {}  # no declarations, which could grow without end
        found = ET.fromstring(content).findall("PAMRasterBand[@band='1']/CategoryNames/Category")  # noqa: S314 - none left
    except (OSError, ET.ParseError):
        return {}
    return {
        value: (one.text or "").strip()
        for value, one in enumerate(found)
        if (one.text or "").strip()
    }
