"""Runtimes of exported networks: ONNX files by ONNX Runtime, OpenVINO files by OpenVINO."""

from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from landcover.checkpoint import Checkpoint
from landcover.errors import CheckpointError, SettingsError
from landcover.exported_network import ExportedNetwork, read_openvino
from landcover.openvino_runtime import OpenVinoRuntime
from landcover.runtime import Runtime, window_shape

_ANY = ("torch-fp32", "auto")
"""Names that say no more than: run it."""


def open_exported(checkpoint: Checkpoint, name: str, device: str, workers: int) -> Runtime:
    """Make an exported network ready to run, on the CPU, by the runtime that it was made for.

    name: its own, `auto`, or the default. Raises SettingsError for another runtime, device or tile,
    CheckpointError for a file that is not what it says.
    """
    network = checkpoint.network
    if not isinstance(network, ExportedNetwork):
        raise TypeError("this is no exported network")
    if name not in (*_ANY, network.runtime):
        raise SettingsError(
            f"An exported model is run by {network.runtime} and not by {name}; leave --runtime out."
        )
    if device not in {"auto", "cpu"}:
        raise SettingsError(
            f"An exported model runs on the CPU and not on '{device}'; choose --device cpu, or the checkpoint."
        )
    if checkpoint.spec.tile != network.tile:
        raise SettingsError(
            f"The exported model takes tiles of {network.tile} pixels only, not {checkpoint.spec.tile}; "
            "leave --tile out."
        )
    kind = _OnnxFile if network.runtime == "onnxruntime-file" else _OpenVinoFile
    return kind(checkpoint, network, workers)


class _OnnxFile:
    """One tile a call with single-threaded arithmetic; callers run side by side."""

    name, precision, device, group = "onnxruntime-file", "file", "cpu", 1
    dtype: type = np.float32

    def __init__(self, checkpoint: Checkpoint, network: ExportedNetwork, workers: int) -> None:
        import onnxruntime

        self.workers = workers
        self._shape = window_shape(checkpoint, self.group)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                network.graph, options, providers=["CPUExecutionProvider"]
            )
            self._input = self._session.get_inputs()[0].name
            found = self.logits(self.new_windows()).shape
        except Exception as error:
            raise _unusable(error) from error
        _check_shape(found, checkpoint)

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
        return np.zeros(self._shape, self.dtype)

    def logits(self, windows: NDArray[Any]) -> NDArray[Any]:
        batch = np.ascontiguousarray(windows.transpose(0, 3, 1, 2))
        logits: NDArray[Any] = self._session.run(None, {self._input: batch})[0]
        return logits


class _OpenVinoFile(OpenVinoRuntime):
    """OpenVINO with its own file instead of a network of torch's."""

    def __init__(self, checkpoint: Checkpoint, network: ExportedNetwork, workers: int) -> None:
        self._network = network
        try:
            super().__init__("openvino-fp32", checkpoint, workers)
        except SettingsError as error:
            raise _unusable(error.__cause__ or error) from error
        self.name, self.precision = network.runtime, "file"
        _check_shape(self._output_shape, checkpoint)

    def _read(self, checkpoint: Checkpoint) -> Any:  # noqa: ARG002 - the file has it all
        return read_openvino("The exported model", self._network.graph, self._network.weights)


def _unusable(error: BaseException) -> CheckpointError:
    reason = " ".join(str(error).split())[:200]
    return CheckpointError(
        f"The exported model cannot be run ({reason}); export it again from its checkpoint."
    )


def _check_shape(found: tuple[int, ...], checkpoint: Checkpoint) -> None:
    spec = checkpoint.spec
    if tuple(found) != (1, len(spec.legend), spec.tile, spec.tile):
        raise CheckpointError(
            f"The exported model gives values of the shape {tuple(found)} where its description promises "
            f"{len(spec.legend)} classes of {spec.tile} x {spec.tile} pixels; export it again from its checkpoint."
        )
