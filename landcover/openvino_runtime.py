"""Networks run by OpenVINO, on the CPU."""

import importlib.util
import threading
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from landcover.checkpoint import Checkpoint, StoredNetwork
from landcover.errors import SettingsError
from landcover.runtime import dtype_of, precision_of, window_shape

if TYPE_CHECKING:
    from torch import nn


class OpenVinoRuntime:
    """One tile a call on as many single-threaded streams as there are workers.

    OpenVINO computes in threads of its own; a caller sleeps meanwhile. They are not pinned, since
    two processes would pin theirs to the same cores.
    """

    device, group = "cpu", 1

    def __init__(self, name: str, checkpoint: Checkpoint, workers: int) -> None:
        import openvino

        self.name, self.precision, self.workers = name, precision_of(name), workers
        self.dtype: type = dtype_of(name)
        self._shape = window_shape(checkpoint, self.group)
        self._type = openvino.Type.f32 if self.precision == "fp32" else openvino.Type.bf16
        settings = {
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers,
            "INFERENCE_PRECISION_HINT": "f32" if self.precision == "fp32" else "bf16",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = windows_to_logits(self._read(checkpoint), self._shape, self._type)
            self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingsError(
                f"OpenVINO cannot run this model ({reason}); choose the runtime torch-fp32."
            ) from error
        self._tensor = openvino.Tensor
        self._output_shape = tuple(self._compiled.output(0).shape)
        self._requests = threading.local()

    def _read(self, checkpoint: Checkpoint) -> Any:
        """OpenVINO's model of the network, (n, bands, rows, cols) to (n, classes, rows, cols)."""
        if isinstance(checkpoint.network, StoredNetwork):
            import openvino

            core = openvino.Core()
            core.set_property({"ENABLE_MMAP": False})  # the file may go while this still runs
            return core.read_model(checkpoint.network.converted)
        return convert(checkpoint.network.eval(), self._shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def new_windows(self) -> NDArray[Any]:
        """See Runtime."""
        return np.zeros(self._shape, self.dtype)

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
        """See Runtime."""
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self._compiled.create_infer_request()
        request = self._requests.mine
        output = np.empty(self._output_shape, self.dtype)
        # The tensors borrow the arrays' memory without owning it, so every call binds both anew.
        request.set_input_tensor(self._tensor(windows, windows.shape, self._type))
        request.set_output_tensor(self._tensor(output, output.shape, self._type))
        request.infer()
        return output


def check_openvino(name: str) -> None:
    """Raise SettingsError where OpenVINO cannot run in this precision."""
    capabilities = openvino_capabilities()
    if not capabilities:
        raise SettingsError(
            f"The runtime '{name}' needs OpenVINO, which is not installed or has no plugin for this "
            "CPU; install it with 'pip install openvino', or choose torch-fp32."
        )
    if precision_of(name) == "bf16" and "BF16" not in capabilities:
        raise SettingsError(
            f"The runtime '{name}' needs a CPU that computes in bfloat16, which this one does not; "
            "choose openvino-fp32."
        )


def openvino_capabilities() -> list[str]:
    """What OpenVINO can compute in on this CPU; empty where it is absent."""
    if importlib.util.find_spec("openvino") is None:
        return []
    try:
        import openvino

        found: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, OSError, RuntimeError):
        return []
    return found


def convert(network: "nn.Module", shape: tuple[int, int, int, int]) -> Any:
    """OpenVINO's model of a network, for windows (n, rows, cols, bands).

    Its frontend is called directly: `openvino.convert_model` does the same, but reports its use.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    n, rows, cols, bands = shape
    example = torch.zeros(n, bands, rows, cols)
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing warns that it is deprecated (the successor is three times as slow to convert),
        # and of shapes that become constants, which they are here.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, (example,), check_trace=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
        return frontend.convert(frontend.load(decoder))


def windows_to_logits(model: Any, shape: tuple[int, int, int, int], io: Any) -> Any:
    """An OpenVINO model, changed to take windows (n, rows, cols, bands) of one fixed shape.

    Moving the bands and changing types are parts of the model, so that they run compiled.
    """
    from openvino import Layout, PartialShape
    from openvino.preprocess import PrePostProcessor

    n, rows, cols, bands = shape
    model.reshape({model.input(0): PartialShape([n, bands, rows, cols])})
    ends = PrePostProcessor(model)
    ends.input().tensor().set_element_type(io).set_layout(Layout("NHWC"))
    ends.input().model().set_layout(Layout("NCHW"))
    ends.output().tensor().set_element_type(io)
    return ends.build()
