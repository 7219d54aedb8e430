"""Pretrained encoders: adapted to any bands with the scale of the response kept."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from landcover.encoder_weights import adapt_first_convolution, load_encoder, read_encoder
from landcover.errors import CheckpointError

KERNELS = torch.arange(24, dtype=torch.float32).view(2, 3, 2, 2)
"""Two kernels of 2 x 2 for red, green and blue."""


def test_other_bands_take_the_mean_of_the_colours() -> None:
    """Four bands: each colour keeps its kernel, near infrared has the mean, all times 3 / 4."""
    found = adapt_first_convolution(KERNELS, ("blue", "nir", "red", "green"))
    expected = [KERNELS[:, 2], KERNELS.mean(1), KERNELS[:, 0], KERNELS[:, 1]]
    assert torch.equal(found, torch.stack(expected, 1) * 0.75)


def test_the_three_colours_stay_as_they_are() -> None:
    """Red, green and blue in their order are the kernels themselves."""
    assert torch.equal(adapt_first_convolution(KERNELS, ("red", "green", "blue")), KERNELS)


@pytest.mark.parametrize(
    "bands",
    [
        ("sar",), ("nir", "red"), ("red", "green", "blue", "nir"), ("red", "green"),
        tuple(f"B{i}" for i in range(13)), ("nir", "green", "swir16", "blue", "red"),
    ],
)  # fmt: skip
def test_the_scale_of_the_response_is_kept(bands: tuple[str, ...]) -> None:
    """An image that is equal in all bands is answered as before, whatever the bands."""
    weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    gray = torch.rand(1, 1, 9, 9)
    before = torch.nn.functional.conv2d(gray.expand(1, 3, 9, 9), weight)
    after = torch.nn.functional.conv2d(
        gray.expand(1, len(bands), 9, 9), adapt_first_convolution(weight, bands)
    )
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def encoder(name: str, bands: int, seed: int = 0) -> torch.nn.Module:
    """An encoder with random weights."""
    torch.manual_seed(seed)
    made: torch.nn.Module = smp.encoders.get_encoder(name, in_channels=bands, weights=None).eval()
    return made


@pytest.mark.parametrize("name", ["resnet18", "tu-mobilenetv3_small_050", "mit_b0"])
@pytest.mark.parametrize("prefix", ["", "encoder.", "model."])
def test_a_file_of_weights_fits_other_bands(tmp_path: Path, name: str, prefix: str) -> None:
    """A colour encoder's file, bare or of a whole network, gives a five-band encoder its answers."""
    colour, other = encoder(name, 3), encoder(name, 5, seed=1)
    tensors = {prefix + k: v.contiguous() for k, v in colour.state_dict().items()}
    save_file(tensors | {"head.weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    found = read_encoder(tmp_path / "weights.safetensors")
    load_encoder(other, found, ("a", "b", "c", "d", "e"), "the file")
    gray = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        wanted, got = colour(gray.expand(1, 3, 64, 64)), other(gray.expand(1, 5, 64, 64))
    torch.testing.assert_close(got[-1], wanted[-1], rtol=1e-3, atol=1e-4)


def test_weights_of_another_encoder_are_refused() -> None:
    """Names or shapes of another network are told in one sentence."""
    with pytest.raises(CheckpointError, match=r"other holds \d+ of the encoder's"):
        load_encoder(encoder("resnet18", 3), encoder("mit_b0", 3).state_dict(), "rgb", "other")
    with pytest.raises(CheckpointError, match="shape"):
        load_encoder(encoder("resnet18", 3), encoder("resnet34", 4).state_dict(), "rgb", "other")


def test_files_that_are_none(tmp_path: Path) -> None:
    """A missing file and a pickle are refused."""
    with pytest.raises(CheckpointError, match="no encoder weights"):
        read_encoder(tmp_path / "none.safetensors")
    torch.save({}, tmp_path / "pickle.pt")
    with pytest.raises(CheckpointError, match="never a pickle"):
        read_encoder(tmp_path / "pickle.pt")
