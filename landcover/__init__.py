"""Land-cover mapping on arrays, grids and tables: no network, no configuration objects."""

__version__ = "0.1.0"
