"""Networks by name: logits of the input's size, any bands, every runtime, refusals in a sentence."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from landcover.checkpoint_file import load_checkpoint, read_spec, save_checkpoint
from landcover.encoder_decoders import unpool
from landcover.errors import CheckpointError
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from landcover.networks import ARCHITECTURES, build_network, check_network
from landcover.runtimes import available, open_runtime

SMALL = {
    "segnet": "vgg11_bn", "deconvnet": "vgg11_bn", "segformer": "mit_b0",
    "dpt": "tu-vit_tiny_patch16_224",
}  # fmt: skip
NARROW = {"deconvnet": {"bottleneck": 32}}
LEGEND = Legend(tuple(LandClass(i, f"class {i}", "#000000") for i in (1, 2, 3)))


def spec(architecture: str) -> ModelSpec:
    """The smallest checkpoint of an architecture that is worth running."""
    return ModelSpec(
        encoder=SMALL.get(architecture, "resnet18"), decoder_channels=(), bands=("red", "nir"),
        scale=1.0, offset=0.0, mean=(0.0, 0.0), std=(1.0, 1.0), legend=LEGEND, tile=128, overlap=32,
        architecture=architecture, options=NARROW.get(architecture, {}),
    )  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_a_checkpoint_that_runs(architecture: str, tmp_path: Path) -> None:
    """Saved and loaded it answers the same; OpenVINO agrees; tiles of other sides keep their size."""
    torch.manual_seed(0)
    made = spec(architecture)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, made.build(), made)
    loaded = load_checkpoint(path)
    assert loaded.spec == made
    windows = np.random.default_rng(0).normal(size=(1, 128, 128, 2)).astype(np.float32)
    with open_runtime(loaded, "torch-fp32", "cpu", 1) as runtime:
        exact = runtime.logits(windows)
    assert exact.shape == (1, 3, 128, 128)
    if "openvino-fp32" in available("cpu"):
        with open_runtime(loaded, "openvino-fp32", "cpu", 1) as runtime:
            other = runtime.logits(windows)
        assert np.abs(other - exact).max() <= 0.005 * np.abs(exact).max()
        assert (other.argmax(1) == exact.argmax(1)).mean() >= 0.995
    with torch.inference_mode():
        assert loaded.network(torch.zeros(1, 2, 160, 192)).shape == (1, 3, 160, 192)


def test_what_is_known_is_what_can_be_built() -> None:
    """The table of architectures and that of their builders name the same."""
    from landcover import networks

    assert set(networks._builders()) == set(ARCHITECTURES)


def test_options_change_the_network() -> None:
    """A narrower U-Net is smaller; depth 3 has three steps; channels said one by one go first."""

    def parameters(**given: Any) -> int:
        network = build_network("unet", "resnet18", 3, 2, **given)
        return sum(p.numel() for p in network.parameters())

    usual = parameters()
    assert parameters(options={"width": 8}) < usual
    assert parameters(options={"depth": 3}) < usual
    assert parameters(decoder_channels=(256, 128, 64, 32, 16)) == usual


def test_unpooling_puts_values_back() -> None:
    """A pooled image unpooled holds each maximum where it was and 0 elsewhere, as torch's own does."""
    image = torch.tensor([[[[1.0, 2.0, 5.0, 0.0], [3.0, 0.0, 0.0, 4.0]]]])
    pooled, places = functional.max_pool2d(image, 2, return_indices=True)
    assert unpool(pooled, places).tolist() == [[[[0, 0, 5, 0], [3, 0, 0, 0]]]]
    values = torch.rand(2, 3, 8, 12)
    pooled, places = functional.max_pool2d(values, 2, return_indices=True)
    assert torch.equal(unpool(pooled, places), functional.max_unpool2d(pooled, places, 2))


def test_fcn_begins_as_bilinear_interpolation() -> None:
    """Before training, its upsampling of a constant is that constant, away from the border."""
    network = build_network("fcn", "resnet18", 3, 2)
    up = network.eightfold(torch.ones(1, 2, 4, 4))  # type: ignore[operator]
    assert up.shape == (1, 2, 32, 32)
    torch.testing.assert_close(up[:, :, 8:-8, 8:-8], torch.ones(1, 2, 16, 16))


@pytest.mark.parametrize(
    ("architecture", "encoder", "options", "message"),
    [
        ("transformer", "resnet18", {}, "'transformer' is not known"),
        ("segnet", "resnet18", {}, "does not go with segnet; take vgg16_bn"),
        ("dpt", "resnet18", {}, "does not go with dpt"),
        ("pan", "mit_b0", {}, "does not go with pan"),
        ("unet", "no_such_encoder", {}, "cannot be built with the encoder 'no_such_encoder'"),
        ("unet", "tu-no_such_encoder", {}, "cannot be built"),
        ("unet", "resnet18", {"width": 10**9}, "from 4 to 128"),
        ("unet", "resnet18", {"width": "16"}, "whole number"),
        ("unet", "resnet18", {"width": True}, "whole number"),
        ("unet", "resnet18", {"surprise": 1}, "no option 'surprise'"),
        ("fcn", "resnet18", {"width": 16}, "no option 'width'; it has reduce"),
        (
            "fcn",
            "resnet18",
            {"reduce": 0},
            "reduce of fcn is 0; it must be a whole number from 1 to 4",
        ),
        ("deeplabv3", "resnet18", {"stride": 12}, "cannot be built"),
    ],
)
def test_networks_that_cannot_be(
    architecture: str, encoder: str, options: dict[str, Any], message: str
) -> None:
    """Names and options that do not exist are refused in a sentence."""
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match=message):
        warnings.simplefilter("ignore")
        build_network(architecture, encoder, 3, 2, options)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_network_that_reduces_sees_means(factor: int, tmp_path: Path) -> None:
    """Its answer is that of the same weights on block means, interpolated back, by every runtime."""
    torch.manual_seed(0)
    plain = build_network("unet", "resnet18", 2, 3, {"width": 4}).eval()
    side = 32 * factor * 2
    made = replace(spec("unet"), options={"width": 4, "reduce": factor}, tile=side, overlap=0)
    reduced = made.build()
    reduced.load_state_dict(plain.state_dict())  # the names are the same
    image = torch.rand(1, 2, side, side)
    blocks = image.reshape(1, 2, 64, factor, 64, factor).mean((3, 5))
    with torch.inference_mode():
        want = functional.interpolate(
            plain(blocks), size=(side, side), mode="bilinear", align_corners=False
        ).numpy()
    save_checkpoint(path := tmp_path / "model.safetensors", reduced, made)
    windows = np.ascontiguousarray(image.movedim(1, -1).numpy())
    for name in {"torch-fp32", "openvino-fp32"} & set(available("cpu")):
        with open_runtime(load_checkpoint(path), name, "cpu", 1) as runtime:
            found = runtime.logits(windows)
        assert np.abs(found - want).max() <= 0.005 * np.abs(want).max()


def test_tiles_of_a_network_that_reduces() -> None:
    """Their sides are multiples of 32 pixels of those that it sees, and what is least grows as well."""
    with pytest.raises(CheckpointError, match="tile is 160; it must be a multiple of 64"):
        replace(spec("unet"), options={"reduce": 2}, tile=160)
    with pytest.raises(CheckpointError, match="pan needs 256 or more"):
        replace(spec("pan"), options={"reduce": 2}, tile=128)


def test_a_tile_can_be_too_small() -> None:
    """PAN pools three times at stride 16, so it needs 128 pixels."""
    with pytest.raises(CheckpointError, match="pan needs 128 or more"):
        replace(spec("pan"), tile=64)


def test_old_checkpoints_are_unets() -> None:
    """A description from before there was a choice means a U-Net, and the shipped weights load."""
    fields = json.loads(replace(spec("unet"), decoder_channels=(8, 8, 8, 8, 8)).to_json())
    del fields["architecture"], fields["options"]
    old = ModelSpec.from_json(json.dumps(fields))
    assert old.architecture == "unet"
    assert old.options == {}
    shipped = Path(__file__).parent.parent / "pipeline/weights/demo.safetensors"
    assert read_spec(shipped).architecture == "unet"


@pytest.mark.parametrize("change", [{"architecture": 3}, {"options": [1]}, {"options": None}])
def test_descriptions_of_a_wrong_kind_are_refused(change: dict[str, Any]) -> None:
    """A hostile description ends in one sentence."""
    fields = json.loads(spec("unet").to_json()) | change
    with pytest.raises(CheckpointError):
        ModelSpec.from_json(json.dumps(fields))


def test_usual_encoders_go_with_their_architecture() -> None:
    """What the table recommends passes its own check."""
    for name, kind in ARCHITECTURES.items():
        check_network(name, kind.encoder, {k: v[0] for k, v in kind.options.items()})
