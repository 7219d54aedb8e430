"""Encoder-decoders that segmentation-models-pytorch lacks: FCN, SegNet and DeconvNet."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from landcover.model_library import model_library


class Fcn(nn.Module):
    """FCN-8s: class scores at strides 32, 16 and 8, summed upwards (Long et al. 2015, figure 3).

    The encoder is any of smp's in place of VGG-16. Upsampling is learned, from bilinear weights.
    """

    def __init__(
        self, encoder_name: str, in_channels: int, classes: int, encoder_weights: str | None = None
    ) -> None:
        super().__init__()
        self.encoder: Any = model_library().encoders.get_encoder(
            encoder_name, in_channels=in_channels, depth=5, weights=encoder_weights
        )
        widths = self.encoder.out_channels[-3:]  # strides 8, 16, 32
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)
        self.twice = nn.ModuleList(_bilinear(classes, 2) for _ in range(2))
        self.eightfold = _bilinear(classes, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes, rows, cols) of (n, bands, rows, cols)."""
        stride8, stride16, stride32 = (
            score(feature)
            for score, feature in zip(self.scores, self.encoder(image)[-3:], strict=True)
        )
        stride16 = stride16 + self.twice[0](stride32)
        stride8 = stride8 + self.twice[1](stride16)
        return self.eightfold(stride8)  # type: ignore[no-any-return]


def _bilinear(classes: int, factor: int) -> nn.ConvTranspose2d:
    """Upsampling by a transposed convolution whose weights begin as bilinear interpolation."""
    side = 2 * factor
    layer = nn.ConvTranspose2d(classes, classes, side, factor, factor // 2, bias=False)
    ramp = 1 - (torch.arange(side) - (side - 1) / 2).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(classes), range(classes)] = ramp[:, None] * ramp
    return layer


class SegNet(nn.Module):
    """VGG whose poolings are undone by their own indices (Badrinarayanan et al. 2017, figure 2).

    The decoder mirrors the encoder's convolutions; each has batch normalisation and ReLU.
    """

    def __init__(
        self, encoder_name: str, in_channels: int, classes: int, encoder_weights: str | None = None
    ) -> None:
        super().__init__()
        self.encoder = Vgg(encoder_name, in_channels, encoder_weights)
        self.decoder = nn.ModuleList(_mirror(stage, nn.Conv2d) for stage in self.encoder.widths)
        self.head = nn.Conv2d(self.encoder.widths[0][0], classes, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes, rows, cols) of (n, bands, rows, cols)."""
        x, places = self.encoder.pooled(image)
        for stage, place in zip(reversed(self.decoder), reversed(places), strict=True):
            x = stage(unpool(x, place))
        return self.head(x)  # type: ignore[no-any-return]


class DeconvNet(nn.Module):
    """VGG, two wide layers, then unpooling and transposed convolutions (Noh et al. 2015, figure 2).

    The paper's fully connected layers of 4096 for 7 x 7 cells are convolutions over 7 x 7 cells
    here, of `bottleneck` channels, so that tiles may have any side.
    """

    def __init__(
        self,
        encoder_name: str,
        in_channels: int,
        classes: int,
        bottleneck: int = 1024,
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__()
        self.encoder = Vgg(encoder_name, in_channels, encoder_weights)
        deepest = self.encoder.widths[-1][-1]
        self.middle = nn.Sequential(
            _block(nn.Conv2d, deepest, bottleneck, 7),
            _block(nn.Conv2d, bottleneck, bottleneck, 1),
            _block(nn.ConvTranspose2d, bottleneck, deepest, 7),
        )
        self.decoder = nn.ModuleList(
            _mirror(stage, nn.ConvTranspose2d) for stage in self.encoder.widths
        )
        self.head = nn.Conv2d(self.encoder.widths[0][0], classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes, rows, cols) of (n, bands, rows, cols)."""
        x, places = self.encoder.pooled(image)
        x = self.middle(x)
        for stage, place in zip(reversed(self.decoder), reversed(places), strict=True):
            x = stage(unpool(x, place))
        return self.head(x)  # type: ignore[no-any-return]


class Vgg(nn.Module):
    """The convolutions of smp's VGG with batch normalisation, in stages that end in a pooling."""

    def __init__(self, name: str, bands: int, weights: str | None = None) -> None:
        super().__init__()
        vgg: Any = model_library().encoders.get_encoder(
            name, in_channels=bands, depth=5, weights=weights
        )
        self.features: nn.Sequential = vgg.features
        self.widths: list[list[int]] = [[bands]]
        """Channels before and after each convolution of each stage, for the way back."""
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                self.widths[-1].append(layer.out_channels)
            elif isinstance(layer, nn.MaxPool2d):
                self.widths.append(self.widths[-1][-1:])
        self.widths.pop()
        self.widths[0][0] = self.widths[0][1]  # the way back ends in features, not in bands

    def pooled(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features at stride 32, and where in its plane each pooling found its largest value."""
        x, places = image, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                x, place = functional.max_pool2d(x, 2, return_indices=True)
                places.append(place)
            else:
                x = layer(x)
        return x, places


def unpool(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Put values (n, channels, rows, cols) where a pooling by 2 took them from; 0 elsewhere.

    It is `max_unpool2d`, written as a scatter, which OpenVINO knows too.
    """
    rows, cols = 2 * values.shape[2], 2 * values.shape[3]
    flat = values.new_zeros((*values.shape[:2], rows * cols))
    flat = flat.scatter(2, places.flatten(2), values.flatten(2))
    return flat.view(*values.shape[:2], rows, cols)


def _mirror(widths: Sequence[int], layer: type[nn.Conv2d | nn.ConvTranspose2d]) -> nn.Sequential:
    """The convolutions of a stage backwards."""
    return nn.Sequential(*[_block(layer, into, out) for into, out in pairwise(reversed(widths))])


def _block(
    layer: type[nn.Conv2d | nn.ConvTranspose2d], into: int, out: int, side: int = 3
) -> nn.Sequential:
    return nn.Sequential(
        layer(into, out, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )
