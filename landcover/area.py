"""True areas of pixels and of classes on the ellipsoid, for any CRS and any geotransform.

A pixel's area is the integral, over the pixel, of the ground area per unit of pixel coordinates.
That density is smooth, so it is evaluated on few points and interpolated. Sums are kept as whole
multiples of a small quantum: they are exact, hence the same for any cutting of the raster, and
polygons, classes and chunks add up to each other to the last bit.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyproj
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from landcover.errors import LegendError, RasterError
from landcover.legend import NODATA, Legend, shown_codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HECTARE = 10_000.0
_PANEL = 50_000.0
"""Ground width of a panel, metres; a cubic over it is off by (50 km / R)^4 / 3072 = 1e-12."""
_STEP = 2_000.0
"""Ground step of the differences, metres: truncation 1e-15, rounding of PROJ 1e-12."""
_TOLERANCE = 1e-8
"""Relative misfit at which a panel is not interpolated but computed pixel by pixel."""

_NODES = np.cos((2 * np.arange(4) + 1) * np.pi / 8)  # Chebyshev, in -1..1
_TO_CUBIC = np.linalg.inv(np.vander(_NODES, increasing=True))  # values at nodes -> 1, t, t^2, t^3
_CHECKS = np.array([[0.0, 0.0], [-1.0, -1.0], [1.0, 1.0], [-0.6, 0.7], [0.6, -0.7]])
_GAUSS, _WEIGHTS = np.polynomial.legendre.leggauss(8)


class PixelAreas:
    """Areas of the pixels of one grid.

    Geographic grids along the parallels: integral of M N cos(latitude) over each row (Snyder 1987,
    eq. 3-11, as a quadrature, which does not cancel for small pixels). All others: |dX/dcol x dX/drow|
    of the pixel's position X in geocentric coordinates, through PROJ. Relative error under 1e-9 up
    to the accuracy of PROJ's inverse projection.
    Raises RasterError where the grid has no CRS, or one that is not tied to the Earth.
    """

    def __init__(self, grid: GeoBox) -> None:
        self.grid = grid
        crs = _crs(grid)
        a, e2 = _ellipsoid(crs)
        if crs.is_geographic and not crs.is_derived and _along_parallels(grid):
            column = _row_areas(grid, _radians_per_unit(crs), a, e2)
            self._rows: Callable[[slice], Floats] = lambda rows: np.repeat(
                column[rows, None], grid.shape[1], axis=1
            )
            largest = float(column.max())
        else:
            panels = _Panels((grid.shape[0], grid.shape[1]), _ground(grid, crs, a, e2))
            self._rows, largest = panels.rows, panels.largest
        self.quantum = 2.0 ** math.ceil(math.log2(2 * largest * grid.shape[0] * grid.shape[1]) - 62)
        """Square metres of one unit; the whole grid stays below 2^62 units."""

    def rows(self, rows: slice | None = None) -> Floats:
        """Square metres, (rows, cols); NaN where a pixel is not on the Earth."""
        height = self.grid.shape[0]
        start, stop, _ = (rows or slice(None)).indices(height)
        return self._rows(slice(start, stop))

    def units(self, rows: slice | None = None) -> Ints:
        """Areas as whole multiples of `quantum`, (rows, cols); -1 where not on the Earth."""
        areas = self.rows(rows)
        areas /= self.quantum
        np.rint(areas, out=areas)
        areas[np.isnan(areas)] = -1
        return areas.astype(np.int64)

    def hectares(self, units: Ints) -> Floats:
        """Hectares of sums of units."""
        return np.asarray(units * (self.quantum / _HECTARE))


def pixel_areas(grid: GeoBox, rows: slice | None = None) -> Floats:
    """Area of each pixel on the ellipsoid: square metres, float64 (rows, cols).

    rows: rows wanted, default all. See `PixelAreas`, which is faster for many slices of one grid.
    """
    return PixelAreas(grid).rows(rows)


def ground_positions(grid: GeoBox) -> Callable[[Floats, Floats], Floats]:
    """Function from pixel coordinates (col, row), each (n,), to geocentric metres (3, n).

    NaN or inf where a place is not on the Earth. Raises RasterError where the grid has no CRS, or one
    that is not tied to the Earth.
    """
    crs = _crs(grid)
    return _ground(grid, crs, *_ellipsoid(crs))


def ground_size(grid: GeoBox) -> float:
    """Side of a square as large on the ground as the middle pixel of a grid, metres."""
    rows, cols = (length // 2 for length in grid.shape)
    return math.sqrt(float(pixel_areas(grid[rows : rows + 1, cols : cols + 1])[0, 0]))


@dataclass(frozen=True)
class ClassArea:
    """One line of the area table."""

    class_code: int
    """Code in the class raster."""
    class_name: str
    """Name from the legend."""
    area_ha: float
    """Hectares on the ellipsoid."""
    share_percent: float
    """Part of all classified area, 0 to 100."""
    pixels: int
    """Number of pixels."""


@dataclass(frozen=True)
class Tally:
    """Pixels and area by key (class code or polygon number); adds up in any order."""

    pixels: Ints
    """Pixels of each key."""
    units: Ints
    """Area of each key in units of `PixelAreas.quantum`."""

    @classmethod
    def zeros(cls, size: int) -> "Tally":
        """Nothing counted yet, for keys 0 to size - 1."""
        return cls(np.zeros(size, np.int64), np.zeros(size, np.int64))

    def add(self, keys: NDArray[np.integer], units: Ints) -> None:
        """Count a block of keys; units: area of each pixel, same shape, -1 where off the Earth.

        Raises RasterError where a pixel with a key above 0 is off the Earth.
        """
        if _add(keys, units, self.pixels, self.units):
            raise RasterError(
                "Some pixels with a class lie where the raster's CRS has no place on the Earth; "
                "check its CRS and geotransform."
            )


def class_areas(
    blocks: Iterable[tuple[slice, NDArray[np.integer]]], areas: PixelAreas, legend: Legend
) -> tuple[list[ClassArea], ClassArea]:
    """Area table of a class raster, and the line of its nodata (share of the whole raster).

    blocks: (row slice, class codes (rows, cols)) that together cover the grid once, in any order
    and of any height: the result is the same to the last bit. Every class of the legend has a line,
    in legend order. Raises LegendError for codes outside the legend, RasterError for pixels off the Earth.
    """
    tally = Tally.zeros(1 << 16)
    for rows, classes in blocks:
        tally.add(classes, areas.units(rows))
    return class_table(tally, areas, legend), _nodata_line(tally, areas)


def class_table(tally: Tally, areas: PixelAreas, legend: Legend) -> list[ClassArea]:
    """Area table from a tally by class code, one line per class in legend order."""
    check_codes(np.flatnonzero(tally.pixels), legend)
    hectares = areas.hectares(tally.units)
    total = sum(int(tally.units[code]) for code in legend.codes)
    return [
        ClassArea(
            c.code, c.name, float(hectares[c.code]),
            100.0 * int(tally.units[c.code]) / total if total else 0.0, int(tally.pixels[c.code]),
        )
        for c in legend.classes
    ]  # fmt: skip


def check_codes(codes: NDArray[np.integer], legend: Legend) -> None:
    """Raise LegendError for class codes that the legend lacks."""
    unknown = [int(code) for code in codes if code != NODATA and code not in legend]
    if unknown:
        raise LegendError(
            f"The class raster holds the codes {shown_codes(unknown)}, which its legend lacks (it has "
            f"{shown_codes(legend.codes)}); give it the right legend."
        )


def _nodata_line(tally: Tally, areas: PixelAreas) -> ClassArea:
    units, total = int(tally.units[NODATA]), int(tally.units.sum())
    hectares = float(areas.hectares(tally.units[NODATA]))
    share = 100.0 * units / total if total else 0.0
    return ClassArea(NODATA, "No data", hectares, share, int(tally.pixels[NODATA]))


@njit(cache=True, nogil=True)
def _add(keys, units, pixels, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    lost = 0
    for row in range(keys.shape[0]):
        for col in range(keys.shape[1]):
            key, unit = keys[row, col], units[row, col]
            pixels[key] += 1
            if unit >= 0:
                total[key] += unit
            elif key != 0:
                lost += 1
    return lost


def _crs(grid: GeoBox) -> pyproj.CRS:
    if grid.crs is None:
        raise RasterError("The raster has no CRS, so its pixels have no area; assign its CRS.")
    crs: pyproj.CRS = grid.crs.proj
    if crs.geodetic_crs is None:
        raise RasterError(f"The raster's CRS '{crs.name}' is not tied to the Earth; assign one.")
    return crs


def _ellipsoid(crs: pyproj.CRS) -> tuple[float, float]:
    """Semi-major axis in metres and squared eccentricity."""
    geod = crs.get_geod()
    if geod is None:
        raise RasterError(f"The raster's CRS '{crs.name}' names no ellipsoid; assign another.")
    return float(geod.a), float(geod.es)


def _radians_per_unit(crs: pyproj.CRS) -> float:
    return float(crs.axis_info[0].unit_conversion_factor)


def _along_parallels(grid: GeoBox) -> bool:
    return bool(grid.affine.b == 0 and grid.affine.d == 0)


def _row_areas(grid: GeoBox, radians: float, a: float, e2: float) -> Floats:
    """Square metres of one pixel of each row; rows beyond a pole count to the pole."""
    edges = grid.affine.f + grid.affine.e * np.arange(grid.shape[0] + 1)
    edges = np.clip(edges * radians, -np.pi / 2, np.pi / 2)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.abs(np.diff(edges)) / 2
    latitudes = middle[:, None] + half[:, None] * _GAUSS
    zone = a**2 * (1 - e2) * np.cos(latitudes) / (1 - e2 * np.sin(latitudes) ** 2) ** 2
    width = abs(grid.affine.a) * radians
    return np.asarray((zone * _WEIGHTS).sum(axis=1) * half * width)


def _ground(grid: GeoBox, crs: pyproj.CRS, a: float, e2: float) -> Callable[..., Floats]:
    """Function from pixel coordinates (col, row), each (n,), to geocentric metres (3, n).

    Geocentric coordinates have no pole and no antimeridian, where longitude jumps.
    """
    geodetic = crs.geodetic_crs or crs
    try:
        inverse = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    except CRSError as error:
        raise RasterError(f"PROJ cannot invert the raster's CRS '{crs.name}': {error}.") from error
    radians, t = _radians_per_unit(geodetic), grid.affine

    def ground(col: Floats, row: Floats) -> Floats:
        lon, lat = inverse.transform(t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f)
        lon, lat = np.asarray(lon) * radians, np.asarray(lat) * radians
        with np.errstate(invalid="ignore"):  # inf marks places off the Earth; NaN goes on
            normal = a / np.sqrt(1 - e2 * np.sin(lat) ** 2)
            flat = normal * np.cos(lat)
            return np.stack([flat * np.cos(lon), flat * np.sin(lon), normal * (1 - e2) * np.sin(lat)])  # fmt: skip

    return ground


class _Panels:
    """Pixel areas by a bicubic over each panel of about 50 km, anchored at the raster's corner."""

    def __init__(self, shape: tuple[int, int], ground: Callable[..., Floats]) -> None:
        self._ground = ground
        size = self._pixel_size(shape)
        self._step = _STEP / size
        self._width = max(1, int(_PANEL / size))
        self._edges = [np.append(np.arange(0, n, self._width), n) for n in shape]
        self._fit()

    def _pixel_size(self, shape: tuple[int, int]) -> float:
        """Rough size of the middle pixel on the ground, metres."""
        row, col = shape[0] / 2, shape[1] / 2
        points = self._ground(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
        size = np.linalg.norm(points[:, 1:] - points[:, :1], axis=0).max()
        return float(size) if np.isfinite(size) and size > 0 else _STEP

    def density(self, col: Floats, row: Floats) -> Floats:
        """Square metres per unit of pixel coordinates, by differences of fourth order."""
        shape, h = np.shape(col), self._step
        col, row = np.ravel(col), np.ravel(row)
        offsets = np.array([-2, -1, 1, 2])[:, None] * h
        still = np.zeros_like(offsets)
        cols = col + np.concatenate([offsets, still])  # 8 x n
        rows = row + np.concatenate([still, offsets])
        points = self._ground(cols.ravel(), rows.ravel()).reshape(3, 2, 4, -1)
        weights = np.array([1, -8, 8, -1]) / (12 * h)
        by_col, by_row = np.einsum("xdkn,k->dxn", points, weights)
        area = np.linalg.norm(np.cross(by_col, by_row, axis=0), axis=0)
        return np.asarray(area.reshape(shape))

    def _at(self, t: Floats) -> Floats:
        """Density at points t (n, 2: row, col in -1..1) of each panel: (panel rows, panel cols, n)."""
        (row, half_row), (col, half_col) = (
            ((e[1:] + e[:-1]) / 2, (e[1:] - e[:-1]) / 2) for e in self._edges
        )
        rows = row[:, None, None] + half_row[:, None, None] * t[:, 0]
        cols = col[:, None] + half_col[:, None] * t[:, 1]
        return self.density(*np.broadcast_arrays(cols, rows))

    def _fit(self) -> None:
        """Set the bicubic of each panel, and which panels a bicubic does not fit."""
        grid = np.stack(np.meshgrid(_NODES, _NODES, indexing="ij"), axis=-1).reshape(16, 2)
        values = self._at(grid)
        values = values.reshape(*values.shape[:2], 4, 4)
        cubic = np.einsum("ai,pqij,bj->pqab", _TO_CUBIC, values, _TO_CUBIC)
        powers = _CHECKS[:, :, None] ** np.arange(4)  # n x (row, col) x 4
        fitted = np.einsum("pqab,na,nb->pqn", cubic, powers[:, 0], powers[:, 1])
        misfit = np.abs(fitted / self._at(_CHECKS) - 1).max(axis=2)
        self._rough = ~(misfit < _TOLERANCE) & (self._width > 1)  # NaN is rough too
        self._cubic = _mean_over_pixels(cubic, *(2 / np.diff(e) for e in self._edges))
        largest = np.nanmax(values, initial=0.0)
        if largest == 0:
            raise RasterError(
                "No pixel of the raster lies on the Earth in its CRS; check CRS and geotransform."
            )
        self.largest = float(largest)

    def rows(self, rows: slice) -> Floats:
        """Square metres of the pixels of these rows, (rows, cols)."""
        out = np.empty((rows.stop - rows.start, int(self._edges[1][-1])))
        _evaluate(out, rows.start, self._width, self._edges[0], self._edges[1], self._cubic)
        for i, j in np.argwhere(self._rough):
            top, bottom = (int(e) for e in self._edges[0][i : i + 2])
            self._compute(out, rows, slice(max(top, rows.start), min(bottom, rows.stop)), int(j))
        return out

    def _compute(self, out: Floats, rows: slice, within: slice, panel: int) -> None:
        """Overwrite the pixels of one panel by the density at their centres."""
        if within.start >= within.stop:
            return
        cols = slice(*(int(e) for e in self._edges[1][panel : panel + 2]))
        row, col = np.mgrid[within, cols] + 0.5
        out[within.start - rows.start : within.stop - rows.start, cols] = self.density(col, row)


def _mean_over_pixels(cubic: Floats, by_row: Floats, by_col: Floats) -> Floats:
    """Turn a point value's cubic into that of its mean over a pixel.

    by_row, by_col: pixel size in the panel's coordinates. The mean of t^2 over t - h .. t + h is
    t^2 + h^2 / 3, that of t^3 is t^3 + t h^2.
    """
    cubic = cubic.copy()
    for axis, h in ((2, by_row[:, None, None] / 2), (3, by_col[None, :, None] / 2)):
        c = np.moveaxis(cubic, axis, -1)
        c[..., 0] += c[..., 2] * h**2 / 3
        c[..., 1] += c[..., 3] * h**2
    return cubic


@njit(cache=True, nogil=True)
def _evaluate(out, first, width, row_edges, col_edges, cubic):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 -- compiled
    for index in range(out.shape[0]):
        i = (first + index) // width
        size = row_edges[i + 1] - row_edges[i]
        t = (2 * (first + index - row_edges[i]) + 1) / size - 1
        for j in range(cubic.shape[1]):
            c = ((cubic[i, j, 3] * t + cubic[i, j, 2]) * t + cubic[i, j, 1]) * t + cubic[i, j, 0]
            start, size_x = col_edges[j], col_edges[j + 1] - col_edges[j]
            for col in range(start, col_edges[j + 1]):
                x = (2 * (col - start) + 1) / size_x - 1
                out[index, col] = ((c[3] * x + c[2]) * x + c[1]) * x + c[0]
