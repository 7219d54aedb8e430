"""Networks for tiles of one size, in operators that every exporter knows."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from landcover.model_library import model_library


def for_one_size(network: nn.Module, side: int) -> nn.Module:
    """A copy that computes the same on tiles of this side, and on no other.

    Pooling to a number of cells (PSPNet, UPerNet) becomes a product with a matrix of shares, and positions
    of a vision transformer (DPT) are interpolated once, since ONNX has neither operator for any sizes.
    side: pixels that the encoder sees.
    """
    psp_block = model_library().decoders.pspnet.decoder.PSPBlock
    fixed = copy.deepcopy(network)
    for name, layer in list(fixed.named_modules()):
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            fixed.set_submodule(name, _Pool(layer.output_size))
        elif isinstance(layer, psp_block):  # which pools in another way while it is exported
            fixed.set_submodule(name, _PspBlock(layer.pool))
        elif getattr(layer, "dynamic_img_size", False) and layer.pos_embed is not None:
            _place(layer, side)
    return fixed


class _Pool(nn.Module):
    """What nn.AdaptiveAvgPool2d computes: means over cells that may share rows and columns."""

    def __init__(self, size: Any) -> None:
        super().__init__()
        self._rows, self._cols = size if isinstance(size, tuple) else (size, size)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Means (n, channels, cells, cells) of (n, channels, rows, cols)."""
        rows, cols = map(int, values.shape[-2:])
        down, across = cell_shares(self._rows or rows, rows), cell_shares(self._cols or cols, cols)
        return down @ values @ across.T


class _PspBlock(nn.Module):
    """smp's PSPBlock: pooled, convolved, and interpolated back."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(n, some channels, rows, cols) of (n, channels, rows, cols)."""
        return functional.interpolate(
            self.pool(values), size=values.shape[2:], mode="bilinear", align_corners=True
        )


def cell_shares(cells: int, length: int) -> torch.Tensor:
    """Share of each of `length` values in the mean of each cell, (cells, length).

    Cell i spans floor(i length / cells) to ceil((i + 1) length / cells), as torch defines it.
    """
    shares = torch.zeros(cells, length)
    for i in range(cells):
        first, last = i * length // cells, -(-(i + 1) * length // cells)
        shares[i, first:last] = 1 / (last - first)
    return shares


def _place(transformer: Any, side: int) -> None:
    """Interpolate the positions of a timm vision transformer to tiles of this side."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    rows, cols = transformer.patch_embed.dynamic_feat_size((side, side))
    with torch.no_grad():
        positions = resample_abs_pos_embed(
            transformer.pos_embed, new_size=(rows, cols),
            old_size=transformer.patch_embed.grid_size,
            num_prefix_tokens=0 if transformer.no_embed_class else transformer.num_prefix_tokens,
        )  # fmt: skip
    transformer.pos_embed = nn.Parameter(positions)
    transformer.dynamic_img_size, transformer.patch_embed.flatten = False, True
