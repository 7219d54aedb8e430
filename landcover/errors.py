"""Every error a user can cause or meet, in one tree.

LandcoverError
├── RegionError       a footprint or region file cannot be used
├── SettingsError     a setting contradicts itself or another one
├── CatalogError      a catalogue cannot be searched, or holds no scene
├── RasterError       a raster cannot be read, placed on the Earth, or is not what it should be
├── LegendError       class codes, names or colours contradict each other
├── CheckpointError   a model file cannot be used, or not with this raster
├── DatasetError      images and labels for training cannot be used, or would leak
└── SampleError       a sample cannot be drawn, or its labels cannot be used

The message is one sentence for the person at the keyboard: what was found and where, what was
expected, and what to do. The command line prints it and exits with code 1.
"""

__all__ = [
    "CatalogError",
    "CheckpointError",
    "DatasetError",
    "LandcoverError",
    "LegendError",
    "RasterError",
    "RegionError",
    "SampleError",
    "SettingsError",
]


class LandcoverError(Exception):
    """Base of all errors with a message meant for the user."""


class RegionError(LandcoverError):
    """A footprint or region file cannot be used."""


class SettingsError(LandcoverError):
    """A setting contradicts itself or another one."""


class CatalogError(LandcoverError):
    """A catalogue cannot be searched, or holds no scene for the question."""


class RasterError(LandcoverError):
    """A raster cannot be read, cannot be placed on the Earth, or is not what it should be."""


class LegendError(LandcoverError):
    """Class codes, names or colours contradict each other."""


class DatasetError(LandcoverError):
    """Images and labels for training cannot be used, contradict each other, or would leak."""


class CheckpointError(LandcoverError):
    """A model file cannot be used, or not with this raster."""


class SampleError(LandcoverError):
    """A sample for labelling cannot be drawn, or its labels cannot be used."""
