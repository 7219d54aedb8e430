"""The library of architectures is imported without torch's compiler, which stays there for others."""

import subprocess
import sys

import segmentation_models_pytorch

from landcover.model_library import model_library
from tests.command import ROOT

_PROCESS = """
import sys
import torch
from landcover.networks import build_network

network = build_network("unet", "tu-mobilenetv3_small_100", 3, 2, {}).eval()
assert "segmentation_models_pytorch" in sys.modules
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "sympy"))]
assert all(values.std() > 0 for name, values in network.named_parameters() if values.ndim == 4)
pixels = torch.zeros(1, 3, 64, 64)
expected = network(pixels)
assert "torch._dynamo" not in sys.modules
torch.optim.SGD(network.parameters(), lr=0.0).step()
assert sys.modules["torch._dynamo"].__file__
assert sys.modules["torch._dynamo.utils"].__file__
compiled = torch.compile(network, backend="eager")
assert torch.equal(compiled(pixels), expected)
"""


def test_a_network_is_built_without_the_compiler_which_works_when_it_is_asked_for() -> None:
    """A new process builds and runs a U-Net whose encoder is timm's, then optimizes and compiles it with the real compiler."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROCESS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_is_the_library_itself() -> None:
    """Also where the compiler is there already, and every time."""
    import torch._dynamo

    assert model_library() is segmentation_models_pytorch
    assert model_library().Unet is segmentation_models_pytorch.Unet
    assert torch._dynamo.__file__
