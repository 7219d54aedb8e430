"""What a raster of ours looks like, apart from its pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from numpy.typing import DTypeLike

from landcover.overviews import Reduction


@dataclass(frozen=True)
class CogProfile:
    """Bands, numbers, colours and metadata of a COG. Nodata is always 0."""

    dtype: DTypeLike
    bands: Sequence[str]
    """Band descriptions, in order."""
    overviews: Reduction = "average"
    """Reduction of the overviews: 'mode' for classes, 'average' for measurements."""
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Dataset metadata (TIFF tags)."""
    scales: Sequence[float] | None = None
    """Factor per band from stored value to physical unit."""
    units: Sequence[str] | None = None
    block: int = 512
    """Rows and columns of a tile, a multiple of 16."""

    @property
    def predictor(self) -> int:
        """TIFF predictor: 2 (differences along a row) for measurements, 1 (none) for classes."""
        return 1 if self.colormap else 2
