"""Networks that label every pixel, by the name of their architecture.

Twelve are segmentation-models-pytorch's; FCN, SegNet and DeconvNet, which it lacks, are here.
Each takes (n, bands, rows, cols) normalised float32 and gives (n, classes, rows, cols) logits, for
sides that are multiples of 32. torch is imported where a network is built.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from landcover.errors import CheckpointError
from landcover.model_library import model_library, without_meta_values

if TYPE_CHECKING:
    from torch import nn

STEP = 32
"""Sides of tiles are multiples of it."""
_DEPTH = (5, 3, 5)
_WIDTH = (16, 4, 128)
_CHANNELS = (256, 16, 1024)
_COMMON: Mapping[str, tuple[int, int, int]] = {"reduce": (1, 1, 4)}
"""Options of every architecture. reduce: the network sees means of so many by so many pixels, and its logits
are interpolated back, for images much finer than what is to be told apart."""


@dataclass(frozen=True)
class Architecture:
    """One kind of network and what can be chosen about it."""

    title: str
    """Name, authors and year."""
    encoder: str
    """The encoder it is tried and documented with."""
    options: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Whole numbers that may be set: name -> (default, least, most)."""
    encoders: str = r"[A-Za-z0-9_-]+"
    """Pattern of the encoders it can have."""
    least_tile: int = STEP
    """Smallest side of a tile it can take, pixels that it sees."""


ARCHITECTURES: Mapping[str, Architecture] = {
    "fcn": Architecture("FCN-8s (Long et al. 2015)", "resnet34"),
    "unet": Architecture(
        "U-Net (Ronneberger et al. 2015)", "resnet34", {"depth": _DEPTH, "width": _WIDTH}
    ),
    "unetplusplus": Architecture(
        "U-Net++ (Zhou et al. 2018)", "resnet34", {"depth": _DEPTH, "width": _WIDTH}
    ),
    "segnet": Architecture(
        "SegNet (Badrinarayanan et al. 2017)", "vgg16_bn", encoders=r"vgg(11|13|16|19)_bn"
    ),
    "deconvnet": Architecture(
        "DeconvNet (Noh et al. 2015)", "vgg16_bn", {"bottleneck": (1024, 16, 4096)},
        encoders=r"vgg(11|13|16|19)_bn",
    ),
    "fpn": Architecture(
        "FPN (Kirillov et al. 2019)", "resnet34",
        {"depth": _DEPTH, "pyramid": _CHANNELS, "channels": (128, 16, 1024)},
    ),
    "pan": Architecture(
        "PAN (Li et al. 2018)", "resnet34", {"channels": (32, 8, 512)},
        encoders=r"(?!mit_|tu-|vgg|densenet).+", least_tile=128,
    ),
    "manet": Architecture("MA-Net (Fan et al. 2020)", "resnet34", {"depth": _DEPTH, "width": _WIDTH}),
    "linknet": Architecture("LinkNet (Chaurasia & Culurciello 2017)", "resnet34", {"depth": _DEPTH}),
    "pspnet": Architecture("PSPNet (Zhao et al. 2017)", "resnet34", {"channels": (512, 16, 2048)}),
    "deeplabv3": Architecture(
        "DeepLabV3 (Chen et al. 2017)", "resnet34",
        {"channels": _CHANNELS, "stride": (8, 8, 16)}, encoders=r"(?!mit_|vgg|densenet).+",
    ),
    "deeplabv3plus": Architecture(
        "DeepLabV3+ (Chen et al. 2018)", "resnet34",
        {"channels": _CHANNELS, "stride": (16, 8, 16)}, encoders=r"(?!mit_|vgg|densenet).+",
    ),
    "upernet": Architecture("UPerNet (Xiao et al. 2018)", "resnet34", {"channels": _CHANNELS}),
    "segformer": Architecture("SegFormer (Xie et al. 2021)", "mit_b0", {"channels": _CHANNELS}),
    "dpt": Architecture(
        "DPT (Ranftl et al. 2021) on a ViT", "tu-vit_small_patch16_224",
        {"channels": (256, 16, 1024)}, encoders=r"tu-.*(vit|beit|deit).*",
    ),
}  # fmt: skip
"""What `build_network` can build."""


def check_network(architecture: str, encoder: str, options: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a network cannot be what is asked for."""
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"The model's architecture '{architecture}' is not known; this program has "
            f"{', '.join(ARCHITECTURES)}."
        )
    kind = ARCHITECTURES[architecture]
    if not re.fullmatch(kind.encoders, encoder):
        raise CheckpointError(
            f"The encoder '{encoder}' does not go with {architecture}; take {kind.encoder}, for example."
        )
    known = {**kind.options, **_COMMON}
    if strange := sorted(set(options) - set(known)):
        raise CheckpointError(
            f"The architecture {architecture} has no option {', '.join(map(repr, strange))}; it has "
            f"{', '.join(known)}."
        )
    for name, value in options.items():
        _, least, most = known[name]
        if type(value) is not int or not least <= value <= most:
            raise CheckpointError(
                f"The option {name} of {architecture} is {value!r}; it must be a whole number from "
                f"{least} to {most}."
            )


def side_step(options: Mapping[str, int]) -> int:
    """Sides of a network's tiles are multiples of this many pixels."""
    return STEP * options.get("reduce", 1)


def least_side(architecture: str, options: Mapping[str, int]) -> int:
    """Smallest side of a tile that a network takes, pixels."""
    return ARCHITECTURES[architecture].least_tile * options.get("reduce", 1)


def build_network(
    architecture: str,
    encoder: str,
    bands: int,
    classes: int,
    options: Mapping[str, int] | None = None,
    decoder_channels: tuple[int, ...] = (),
) -> "nn.Module":
    """Build an untrained network.

    architecture: a name of ARCHITECTURES. encoder: a name of smp's, `tu-NAME` for timm's NAME.
    decoder_channels: of unet, unetplusplus and manet, deepest first, instead of depth and width.
    Every network holds its encoder as `.encoder`.
    Raises CheckpointError for names and options that do not exist.
    """
    given = dict(options or {})
    check_network(architecture, encoder, given)
    chosen: dict[str, Any] = {
        k: v[0] for k, v in ARCHITECTURES[architecture].options.items()
    } | given
    if decoder_channels:
        chosen["decoder_channels"] = decoder_channels
    ends = {"in_channels": bands, "classes": classes, "encoder_weights": None}
    reduce = chosen.pop("reduce", 1)
    try:
        with without_meta_values():
            network = _builders()[architecture](encoder_name=encoder, **ends, **chosen)
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"The architecture {architecture} cannot be built with the encoder '{encoder}': {reason}"
        ) from error
    return _reduced(network, reduce)


def _reduced(network: "nn.Module", factor: int) -> "nn.Module":
    """The same network, with the same names of weights, at 1 / factor of the resolution."""
    from torch.nn import functional

    if factor == 1:
        return network

    def before(_: Any, given: Any) -> Any:
        return (functional.avg_pool2d(given[0], factor),)

    def after(_: Any, __: Any, logits: Any) -> Any:
        return functional.interpolate(
            logits, scale_factor=factor, mode="bilinear", align_corners=False
        )

    network.register_forward_pre_hook(before)
    network.register_forward_hook(after)
    return network


@cache
def _builders() -> "Mapping[str, Callable[..., nn.Module]]":
    """How each architecture is built from the options of ARCHITECTURES."""
    from landcover.encoder_decoders import DeconvNet, Fcn, SegNet

    smp = model_library()

    def stepped(build: Any) -> Any:
        def make(
            *, depth: int = 5, width: int = 16, decoder_channels: Any = (), **rest: Any
        ) -> Any:
            channels = decoder_channels or [width << i for i in reversed(range(depth))]
            return build(encoder_depth=len(channels), decoder_channels=channels, **rest)

        return make

    def renamed(build: Any, names: Mapping[str, str], **fixed: Any) -> Any:
        return lambda **given: build(
            **fixed, **{names.get(name, name): value for name, value in given.items()}
        )

    atrous = {"channels": "decoder_channels", "stride": "encoder_output_stride"}
    pyramid = {
        "depth": "encoder_depth", "pyramid": "decoder_pyramid_channels",
        "channels": "decoder_segmentation_channels",
    }  # fmt: skip
    return {
        "fcn": Fcn,
        "segnet": SegNet,
        "deconvnet": DeconvNet,
        "unet": stepped(smp.Unet),
        "unetplusplus": stepped(smp.UnetPlusPlus),
        "manet": stepped(smp.MAnet),
        "linknet": renamed(smp.Linknet, {"depth": "encoder_depth"}),
        "fpn": renamed(smp.FPN, pyramid),
        "pan": renamed(smp.PAN, {"channels": "decoder_channels"}),
        "pspnet": renamed(smp.PSPNet, {"channels": "psp_out_channels"}),
        "deeplabv3": renamed(smp.DeepLabV3, atrous),
        "deeplabv3plus": renamed(smp.DeepLabV3Plus, atrous),
        "upernet": renamed(smp.UPerNet, {"channels": "decoder_channels"}),
        "segformer": renamed(smp.Segformer, {"channels": "decoder_segmentation_channels"}),
        # A ViT is made for one side; its positions are interpolated to that of the tile.
        "dpt": renamed(smp.DPT, {"channels": "decoder_fusion_channels"}, dynamic_img_size=True),
    }
