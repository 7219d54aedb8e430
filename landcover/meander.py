"""A meandering river: its course, and where every pixel lies beside it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from landcover.noise import Floats, enlarge

_STEP = 4
"""Pixels between the places where distances are computed; those between are interpolated."""


@dataclass(frozen=True)
class Banks:
    """Where pixels lie beside a course; every raster is (rows, cols)."""

    distance: Floats
    """Pixels to the course, positive on one side of it and negative on the other."""
    bend: Floats
    """Curvature of the nearest piece, per pixel; of the distance's sign on the inner bank."""
    place: NDArray[np.intp]
    """Number of the course's nearest point."""


def meander(
    rng: np.random.Generator, shape: tuple[int, int], beside: Floats | None = None
) -> Floats:
    """Draw a course through the middle of a raster, one point a pixel: (points, 2) rows and columns.

    beside: another course to follow with other bends, as an abandoned channel does.
    Sine-generated curve (Langbein & Leopold 1966) with a wandering wavelength and swing.
    """
    count = 5 * max(shape)
    wander = gaussian_filter1d(rng.standard_normal((3, count)), 160, axis=1)
    wander = wander / wander.std(axis=1, keepdims=True)
    heading = rng.uniform(0, 2 * np.pi) if beside is None else _heading(beside)
    phase = np.cumsum(2 * np.pi / (200 * np.exp(0.25 * wander[0]))) + rng.uniform(0, 6.28)
    swing = np.clip(1.2 + 0.35 * wander[1], 0.3, 1.7)
    angle = heading + swing * np.sin(phase) + 0.22 * wander[2]
    course = np.cumsum(np.stack([np.sin(angle), np.cos(angle)], 1), axis=0)
    through = np.array(shape) * rng.uniform(0.36, 0.64, 2)
    if beside is not None:
        through = beside[np.abs(beside - np.array(shape) / 2).sum(1).argmin()]
    middle = course[count // 2 - 100 : count // 2 + 100].mean(0)
    return np.asarray(course - middle + through, np.float32)


def _heading(course: Floats) -> float:
    row, col = course[-1] - course[0]
    return float(np.arctan2(row, col))


def straightened(course: Floats) -> Floats:
    """The axis of the valley that a course winds through."""
    axis: Floats = gaussian_filter1d(course, 90, axis=0)
    return axis


def banks(course: Floats, shape: tuple[int, int]) -> Banks:
    """Find every pixel's distance to a course, its side, and the bend there."""
    inside = np.all((course > -300) & (course < np.array(shape) + 300), axis=1)
    numbers = np.flatnonzero(inside) if inside.any() else np.arange(len(course))
    points = course[numbers]
    pixels, coarse = _pixels(shape)
    distance, nearest = cKDTree(points).query(pixels)
    along = np.gradient(points, axis=0)
    bend = np.gradient(np.unwrap(np.arctan2(along[:, 0], along[:, 1])))[nearest]
    away = pixels - points[nearest]
    side = np.sign(along[nearest, 1] * away[:, 0] - along[nearest, 0] * away[:, 1])
    signed, bend = (x.astype(np.float32).reshape(coarse) for x in (side * distance, bend))
    place = np.repeat(np.repeat(numbers[nearest].reshape(coarse), _STEP, 0), _STEP, 1)
    return Banks(
        enlarge(signed, _STEP, shape), enlarge(bend, _STEP, shape), place[: shape[0], : shape[1]]
    )


def _pixels(shape: tuple[int, int]) -> tuple[Floats, tuple[int, int]]:
    rows, cols = (np.arange(-(-n // _STEP) + 1, dtype=np.float32) * _STEP for n in shape)
    grid = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1)
    return grid.reshape(-1, 2), (len(rows), len(cols))
