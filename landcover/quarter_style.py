"""Kinds of built-up quarters in simulated photographs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QuarterStyle:
    """What a quarter is like; lengths are metres, chances from 0 to 1."""

    plot: tuple[float, float]
    """Length along the street, and depth."""
    street: float
    """Width of a street."""
    cover: tuple[float, float]
    """Part of a plot's length and depth that its house takes, at most."""
    storeys: tuple[float, float]
    """Lowest and highest height of the roof's edge."""
    row: int = 8
    """Plots between two cross streets."""
    pitched: float = 0.0
    """Chance of a sloping roof."""
    wings: float = 0.6
    """Chance of another wing, twice."""
    empty: float = 0.08
    """Chance of a plot without a house."""
    lawn: float = 0.2
    """Chance of grass on a plot."""
    parking: float = 0.0
    """Chance of a plot that is a car park."""
    asphalt: float = 0.0
    """Chance of an asphalt yard around the house."""
    pool: float = 0.0
    """Chance of a swimming pool."""
    wall: float = 0.0
    """Chance of a wall or hedge around a plot."""
    trees: float = 0.5
    """Trees a plot, on average."""
    unfinished: float = 0.0
    """Chance that a house has no roof yet."""
    ribbed: float = 0.0
    """Chance of a roof of ribbed sheets."""


STYLES = {
    "villas": QuarterStyle((22, 27), 9, (0.86, 0.78), (4, 9), 8, 0.12, 0.7, 0.1, 0.25, 0, 0, 0.22, 0.85, 1.8),
    "terraces": QuarterStyle((9, 24), 8, (1.0, 0.62), (5, 8), 12, 0.3, 0.25, 0.03, 0.3, 0.02, 0, 0.02, 0.5, 1.0),
    "suburb": QuarterStyle((19, 30), 8, (0.72, 0.46), (3, 6), 10, 0.92, 0.5, 0.04, 0.93, 0, 0, 0.1, 0.4, 4.0),
    "town": QuarterStyle((26, 32), 12, (0.96, 0.75), (8, 24), 5, 0.35, 0.8, 0.1, 0.25, 0.1, 0.12, 0, 0.1, 1.6),
    "towers": QuarterStyle((48, 56), 14, (0.68, 0.58), (14, 70), 4, 0.0, 0.6, 0.12, 0.5, 0.16, 0.25, 0.1, 0.1, 5.0),
    "sheds": QuarterStyle((52, 62), 13, (0.88, 0.8), (6, 12), 5, 0.45, 0.3, 0.14, 0.04, 0.08, 0.15, 0, 0.4, 0.6, 0.03, 0.8),
    "site": QuarterStyle((24, 30), 9, (0.78, 0.7), (3, 8), 8, 0.05, 0.6, 0.3, 0.02, 0, 0, 0, 0.35, 0.2, 0.6),
}  # fmt: skip
