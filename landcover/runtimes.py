"""Ways to run a network: by torch, OpenVINO or CUDA, exactly in float32 or faster in bfloat16.

torch is imported only where it is needed: a run by OpenVINO does without.
"""

from typing import TYPE_CHECKING

from landcover.checkpoint import Checkpoint
from landcover.errors import SettingsError
from landcover.exported_network import ExportedNetwork
from landcover.openvino_runtime import OpenVinoRuntime, check_openvino, openvino_capabilities
from landcover.runtime import Runtime, usable_cpus

if TYPE_CHECKING:
    import torch

TORCH = ("torch-fp32", "torch-bf16")
OPENVINO = ("openvino-fp32", "openvino-bf16")
CUDA = ("cuda-fp32", "cuda-bf16")
NAMES = (*TORCH, *OPENVINO, *CUDA)

_CUDA_WORKERS = 2  # one copies while the other computes


def open_runtime(
    checkpoint: Checkpoint, name: str, device: str = "auto", workers: int | None = None
) -> Runtime:
    """Make a network ready to run.

    name: one of NAMES; on a CUDA device `torch-fp32` means `cuda-fp32`, and so for bf16.
    device: `auto`, `cpu`, `cuda` or `cuda:N`. workers: threads that will call it; by default as
    many as the CPUs this process may use, or two on CUDA.
    An exported network runs by its own runtime only, which has its own name and runs on the CPU.
    Raises SettingsError for what is unknown, absent here, or unable to run this network.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"The runtime is to have {workers} workers; give 1 or more.")
    if isinstance(checkpoint.network, ExportedNetwork):
        from landcover.exported_runtimes import open_exported

        return open_exported(checkpoint, name, device, workers or usable_cpus())
    if name in OPENVINO:
        if device not in {"auto", "cpu"}:  # which are right without asking torch
            _resolve(name, device)
        check_openvino(name)
        return OpenVinoRuntime(name, checkpoint, workers or usable_cpus())
    name, place = _resolve(name, device)
    from landcover.torch_runtimes import CudaRuntime, TorchRuntime

    if place.type == "cuda":
        return CudaRuntime(name, checkpoint, place, workers or _CUDA_WORKERS)
    return TorchRuntime(name, checkpoint, workers or usable_cpus())


def available(device: str = "auto") -> list[str]:
    """Names of the runtimes that make sense on a device of this machine, the exact ones first.

    bf16 is named only where the hardware computes in it. Raises SettingsError as `find_device` does.
    """
    import torch

    place = find_device(device)
    if place.type == "cuda":
        with torch.cuda.device(place):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return [*CUDA] if fast else [CUDA[0]]
    capabilities = openvino_capabilities()
    here = {
        "torch-fp32": True,
        "openvino-fp32": "FP32" in capabilities,
        "torch-bf16": any(
            on for kind, on in torch.cpu.get_capabilities().items() if "bf16" in kind
        ),
        "openvino-bf16": "BF16" in capabilities,
    }
    return [name for name, usable in here.items() if usable]


def find_device(name: str) -> "torch.device":
    """The device of a name; `auto` is the first CUDA device, or else the CPU.

    Raises SettingsError for an unknown or an absent one.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(
            f"The device '{name}' is not known; choose auto, cpu or cuda."
        ) from error
    if device.type not in {"cpu", "cuda"}:
        raise SettingsError(f"The device '{name}' is not supported; choose auto, cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"This machine has no device '{name}'; choose --device cpu.")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _resolve(name: str, device: str) -> tuple[str, "torch.device"]:
    """The runtime that is meant on the device that is meant."""
    if name.endswith("-file"):
        raise SettingsError(
            f"The runtime '{name}' runs exported models only, and a checkpoint is none; exported models and "
            "checkpoints are not averaged."
        )
    if name not in NAMES:
        raise SettingsError(f"The runtime '{name}' is not known; choose one of {', '.join(NAMES)}.")
    if name in CUDA and device == "auto":
        device = "cuda"
    place = find_device(device)
    if place.type == "cuda" and name in TORCH:
        name = CUDA[TORCH.index(name)]
    if (place.type == "cuda") != (name in CUDA):
        raise SettingsError(
            f"The runtime '{name}' does not run on the device '{device}'; choose "
            f"{', '.join(CUDA if place.type == 'cuda' else (*TORCH, *OPENVINO))}."
        )
    return name, place
