"""Every architecture and every loss learns two chips by heart, through the library's own code."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from landcover.losses import IGNORED, LOSSES, sum_of_losses
from landcover.metrics import ErrorMatrix
from landcover.networks import ARCHITECTURES, build_network

BANDS, CLASSES = 4, 3
SMALL = {
    "segnet": ("vgg11_bn", {}),
    "deconvnet": ("vgg11_bn", {"bottleneck": 64}),
    "segformer": ("mit_b0", {"channels": 64}),
    "dpt": ("tu-vit_tiny_patch16_224", {"channels": 64}),
    "upernet": ("resnet18", {"channels": 64}),
    "deeplabv3": ("resnet18", {"channels": 64}),
    "pspnet": ("resnet18", {"channels": 64}),
}
"""The smallest encoder and options of each; resnet18 where nothing is said."""
ENOUGH, STEPS = 0.95, 200


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On chips this small a second thread costs more than it gives, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def two_chips(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two chips in squares of 16 pixels of three classes, which two bands tell apart in noise.

    A frame without labels holds noise only.
    """
    rng = np.random.default_rng(3)
    squares = rng.integers(CLASSES, size=(2, side // 16, side // 16))
    truth = np.kron(squares, np.ones((16, 16), np.int64))
    images = rng.normal(0, 0.5, (2, BANDS, side, side)).astype(np.float32)
    images[:, 0] += truth - 1
    images[:, 2] += 2 * (truth == 1)
    truth[:, :4] = IGNORED
    return torch.from_numpy(images), torch.from_numpy(truth)


def mean_iou(network: nn.Module, images: torch.Tensor, truth: torch.Tensor) -> float:
    """Of the labelled pixels, as a map would be made: in eval mode."""
    network.eval()
    with torch.inference_mode():
        channels = network(images).argmax(1)
    network.train()
    mapped, reference = ((x + 1).numpy().astype(np.uint8) for x in (channels, truth))
    return ErrorMatrix.count(mapped, reference, range(1, CLASSES + 1)).mean_iou


def learned(network: nn.Module, loss: str, side: int, rate: float = 2e-3) -> float:
    """The mean IoU that a network reaches on its own training chips."""
    images, truth = two_chips(side)
    objective = sum_of_losses([(loss, 1.0, {})])
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    network.train()
    score = 0.0
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        objective(network(images), truth).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0:
            score = mean_iou(network, images, truth)
            if score >= ENOUGH:
                break
    return score


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_learns_two_chips(architecture: str) -> None:
    """A network that cannot learn two chips by heart is wired wrongly."""
    torch.manual_seed(0)
    encoder, options = SMALL.get(architecture, ("resnet18", {}))
    network = build_network(architecture, encoder, BANDS, CLASSES, options)
    side = max(64, ARCHITECTURES[architecture].least_tile)
    rate = 5e-4 if architecture == "dpt" else 2e-3
    assert learned(network, "cross-entropy", side, rate) >= ENOUGH


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_teaches_two_chips(loss: str) -> None:
    """Each loss alone leads a small U-Net to the labels, though a frame has none."""
    torch.manual_seed(0)
    network = build_network("unet", "resnet18", BANDS, CLASSES, {"depth": 3, "width": 16})
    assert learned(network, loss, 64) >= ENOUGH
