"""Where the streets of a simulated quarter run."""

from dataclasses import dataclass

import numpy as np

from landcover.aerial_canvas import Reals


@dataclass(frozen=True)
class StreetPlan:
    """Bent coordinates along and across the streets of a quarter, metres."""

    middle: Reals
    """Where both coordinates are 0: (2,)."""
    angle: float
    """Direction of the streets, radians."""
    radius: float
    """Streets are arcs about a point at this distance; infinite for straight ones."""
    sway: tuple[float, float]
    """Swing and wavelength of winding streets."""

    def place(self, u: Reals, v: Reals) -> Reals:
        """Places (..., 2) of coordinates along and across the streets."""
        v = v + self.sway[0] * np.sin(u * (2 * np.pi / self.sway[1]))
        if np.isfinite(self.radius):
            far = np.maximum(self.radius + v, 0.0)
            u, v = far * np.sin(u / self.radius), far * np.cos(u / self.radius) - self.radius
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.asarray(self.middle + np.stack([u * cos - v * sin, u * sin + v * cos], -1))
