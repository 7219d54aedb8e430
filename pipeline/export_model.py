"""Export a model as ONNX or OpenVINO, in float32, float16 or 8-bit integers, and judge what was made."""

import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint
from landcover.errors import CheckpointError, SettingsError
from landcover.exported_network import (
    PRECISION,
    PRECISIONS,
    RUNTIMES,
    SPEC,
    WEIGHTS,
    ExportedNetwork,
    read_openvino,
)
from landcover.one_size import for_one_size
from pipeline.artifacts import Report, atomic_path, write_json
from pipeline.dataset import Dataset, load_dataset
from pipeline.model_trial import (
    ROUNDS,
    Contender,
    Trial,
    check_budget,
    file_size,
    sample,
    split_places,
    try_models,
)
from pipeline.window_labeller import band_numbers

BUDGET = 0.01
"""Mean IoU that may be lost, unless said otherwise."""
TILES = 32
"""Tiles of the validation split on which ranges of INT8 are found, unless said otherwise."""
INPUT, OUTPUT = "image", "logits"
_OPSET = 20
_PERCENTILE = 99.99
"""Share of an activation's values that its 8 bits span; the rest is cut off."""
_OPERATORS = (
    "Add",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "MaxPool",
    "Mul",
    "Resize",
)
"""What is computed in 8 bits; normalisation, softmax and the like stay in float32."""


def export_model(
    *,
    model: Path,
    output: Path,
    data: Path,
    precision: str = "fp32",
    budget: float = BUDGET,
    tiles: int = TILES,
    rounds: int = ROUNDS,
    show: Callable[[Trial], None] = lambda _: None,
    report: Report = print,
) -> dict[str, Any]:
    """Write a model as OUT.onnx, or as OUT.xml and OUT.bin of OpenVINO, with OUT.onnx.json or OUT.xml.json.

    The file takes (n, bands, tile, tile) normalised float32 and gives (n, classes, tile, tile) logits; it holds
    the model's description, so that `--model` takes it. precision: `fp32`; `fp16`, weights only, OpenVINO only;
    or `int8`, weights and activations, their ranges from `tiles` tiles of data's validation split. data: a
    dataset; on its test split the file itself, run by its own runtime, is compared with the checkpoint in float32.
    show: takes the comparison, before it is judged. Equal inputs give equal bytes of the model.
    Returns what the JSON holds. Raises CheckpointError where the mean IoU falls by more than the budget or
    the model cannot be exported, SettingsError, DatasetError or LegendError; then nothing is written.
    """
    _check_settings(output, precision, tiles)
    check_budget(budget)
    checkpoint = load_checkpoint(model)
    if isinstance(checkpoint.network, ExportedNetwork):
        raise CheckpointError(
            f"{model} is exported already; give the checkpoint (.safetensors) that it was made from."
        )
    dataset = load_dataset(data, report)
    band_numbers(dataset, checkpoint.spec.bands)  # to know before the work
    split_places(dataset, checkpoint.spec, "test")
    report(f"exporting {model.name} as {output.suffix[1:]}, {precision} ...")
    graph = to_onnx(checkpoint)
    if precision == "int8":
        graph = _calibrated(graph, checkpoint, dataset, tiles, report)
    with _partial(output) as partial:
        _write(partial, _described(graph, checkpoint, precision), precision)
        trial = try_models(
            _contenders(model, checkpoint, partial, precision), dataset, "test", rounds, report
        )
        show(trial)
        trial.check(budget)
        record = {
            "model": {"file": output.name, "precision": precision, "bytes": file_size(partial)},
            "original": {"file": model.name, "sha256": checkpoint.sha256},
            "budget": budget,
            **trial.record(),
        }
    write_json(output.with_name(f"{output.name}.json"), record)
    return record


def _check_settings(output: Path, precision: str, tiles: int) -> None:
    if output.suffix not in RUNTIMES:
        raise SettingsError(
            f"{output.name} says no format; let it end in .onnx for ONNX, or in .xml for OpenVINO."
        )
    if precision not in PRECISIONS:
        raise SettingsError(
            f"The precision '{precision}' is not known; choose one of {', '.join(PRECISIONS)}."
        )
    if precision == "fp16" and output.suffix == ".onnx":
        raise SettingsError(
            "ONNX Runtime on a CPU computes in float32 whatever the weights are held in; export fp16 as .xml, "
            "or choose int8."
        )
    if tiles < 1:
        raise SettingsError(f"INT8 is to be calibrated on {tiles} tiles; give 1 or more.")


def _contenders(
    model: Path, checkpoint: Checkpoint, made: Path, precision: str
) -> tuple[Contender, ...]:
    size = file_size(model)
    return (
        Contender("original", checkpoint, "torch-fp32", size),
        Contender("original", checkpoint, "openvino-fp32", size),
        Contender(f"exported {precision}", load_checkpoint(made), "auto", file_size(made)),
    )


# --- ONNX


def to_onnx(checkpoint: Checkpoint) -> bytes:
    """A network as ONNX, for any number of tiles of the one size.

    Raises CheckpointError where it holds what ONNX has not.
    """
    import onnx

    spec = checkpoint.spec
    example = torch.zeros(1, len(spec.bands), spec.tile, spec.tile)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),  # a failure would print the whole graph
            torch.no_grad(),
        ):
            # Tracing warns that it is deprecated; its successor takes 25 times as long, and two more packages.
            warnings.simplefilter("ignore")
            made = Path(folder) / "model.onnx"
            side = spec.tile // spec.options.get("reduce", 1)
            torch.onnx.export(
                for_one_size(checkpoint.network.eval(), side), (example,), made, dynamo=False, opset_version=_OPSET,
                input_names=[INPUT], output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            )  # fmt: skip
            model = onnx.load_model_from_string(made.read_bytes())
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"The architecture {spec.architecture} with the encoder {spec.encoder} cannot be exported: {reason}"
        ) from error
    for end, channels in ((model.graph.input[0], spec.bands), (model.graph.output[0], spec.legend)):
        shape = end.type.tensor_type.shape
        for axis, size in enumerate((len(channels), spec.tile, spec.tile), 1):
            shape.dim[axis].dim_value = size
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _described(graph: bytes, checkpoint: Checkpoint, precision: str) -> bytes:
    """The same with what a mapper must know."""
    import onnx

    model = onnx.load_model_from_string(graph)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]  # quantization names all domains of ONNX Runtime
    model.opset_import.extend(kept)
    onnx.helper.set_model_props(model, {SPEC: checkpoint.spec.to_json(), PRECISION: precision})
    data: bytes = model.SerializeToString(deterministic=True)
    return data


# --- 8-bit integers


class _Windows:
    """Tiles one by one, as the calibration asks for them: one a turn, so that memory is that of one."""

    def __init__(self, windows: NDArray[np.float32]) -> None:
        self._windows = windows
        self.set_range(0, len(windows))

    def __len__(self) -> int:
        return len(self._windows)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give these from now on."""
        self._next = iter(self._windows[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next tile as the model takes it, or None."""
        window = next(self._next, None)
        return (
            None
            if window is None
            else {INPUT: np.ascontiguousarray(window.transpose(2, 0, 1))[None]}
        )


def _calibrated(
    graph: bytes, checkpoint: Checkpoint, dataset: Dataset, tiles: int, report: Report
) -> bytes:
    windows = sample(dataset, checkpoint.spec, "validation", tiles)
    report(f"finding the ranges of all activations on {len(windows)} tiles of validation ...")
    try:
        return quantized(graph, windows)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"The architecture {checkpoint.spec.architecture} cannot be held in 8-bit integers: {reason}"
        ) from error


def quantized(graph: bytes, windows: NDArray[np.float32]) -> bytes:
    """An ONNX model in 8-bit integers (post-training, static, QDQ), ranges found on some windows.

    Activations are unsigned with a zero point, one range each, that spans 99.99 % of the values seen;
    weights are signed, one range for each output channel, of 7 bits: CPUs without VNNI add two products
    in 16 bits, which 8 bits would overflow.
    """
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, ready, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "made"))
        plain.write_bytes(graph)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready, made, _Windows(windows), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            op_types_to_quantize=[*_OPERATORS], activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": _PERCENTILE, "CalibStridedMinMax": 1},
        )  # fmt: skip
        return made.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantization prints and logs what nobody here can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            yield
    finally:
        logging.disable(before)


# --- files


@contextmanager
def _partial(output: Path) -> Iterator[Path]:
    """A temporary name for a model, renamed at the end; OpenVINO's weights before what refers to them."""
    with ExitStack() as stack:
        partial = stack.enter_context(atomic_path(output))
        if output.suffix == ".xml":
            stack.enter_context(atomic_path(output.with_suffix(".bin")))
        yield partial


def _write(path: Path, graph: bytes, precision: str) -> None:
    if path.suffix == ".onnx":
        path.write_bytes(graph)
        return
    import openvino

    model = read_openvino(path.name, graph, b"")
    for number, node in enumerate(model.get_ordered_ops()):
        # OpenVINO numbers what has no name by how many there were before in the process.
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
    half = precision == "fp16"
    openvino.save_model(model, path, compress_to_fp16=half)
    weights = hashlib.sha256(path.with_suffix(".bin").read_bytes()).hexdigest()
    for key, value in _metadata(graph).items() | {(WEIGHTS, weights)}:
        model.set_rt_info(value, [key])
    openvino.save_model(model, path, compress_to_fp16=half)


def _metadata(graph: bytes) -> dict[str, str]:
    import onnx

    return {p.key: p.value for p in onnx.load_model_from_string(graph).metadata_props}
