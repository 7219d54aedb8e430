"""Images as a coarser or finer sensor would show them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate


def rescale(
    image: NDArray[np.float32], valid: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample a square image (bands, n, n) and its validity (n, n) to another side.

    Bilinear, over the whole footprint of a new pixel where the image gets smaller, weighted by
    validity: pixels without data add nothing. A new pixel is valid where the nearest old one is.
    """
    weight = torch.from_numpy(valid.astype(np.float32))[None, None]
    values = torch.from_numpy(image)[None] * weight
    size = (side, side)
    total, share = (
        interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        for x in (values, weight)
    )
    near = interpolate(weight, size, mode="nearest-exact")[0, 0] > 0
    seen = near & (share[0, 0] > 0)
    made = torch.where(seen, total[0] / torch.where(seen, share[0, 0], 1), 0)
    return made.numpy(), seen.numpy()


def nearest(codes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resample square codes (n, n) to another side by the nearest pixel."""
    size = (side, side)
    found = interpolate(torch.from_numpy(codes)[None, None], size, mode="nearest-exact")
    return np.asarray(found[0, 0].numpy(), np.uint8)
