"""Networks exported as ONNX or OpenVINO files: read with care, run by their own runtime.

Such a file holds its ModelSpec, so it can be used wherever a checkpoint can. It is data, not code: no
pickle, no custom operators, no second file but OpenVINO's weights, whose hash the first file holds.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, cast

from landcover.checkpoint import Checkpoint
from landcover.errors import CheckpointError
from landcover.model_spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

RUNTIMES = {".onnx": "onnxruntime-file", ".xml": "openvino-file"}
"""By the ending of an exported file, the runtime that runs it."""
SPEC, PRECISION, WEIGHTS = "landcover", "landcover_precision", "landcover_weights_sha256"
"""What is written into a file: the spec, how numbers are held, and the hash of OpenVINO's weights."""
PRECISIONS = ("fp32", "fp16", "int8")
_LARGEST = 2**31 - 1
"""Bytes of a file; protobuf, of which ONNX is made, ends there too."""
_PINNED = re.compile(rf'<{WEIGHTS} value="([0-9a-f]{{64}})"'.encode())
_DOMAINS = {"", "ai.onnx"}


class ExportedNetwork:
    """The content of an exported file, in the place of a checkpoint's network; torch cannot run it."""

    def __init__(
        self, runtime: str, precision: str, tile: int, graph: bytes, weights: bytes = b""
    ) -> None:
        self.runtime = runtime
        """One of the values of RUNTIMES."""
        self.precision = precision
        """One of PRECISIONS."""
        self.tile = tile
        """The only side of a tile that it takes, pixels."""
        self.graph = graph
        """ONNX, or OpenVINO's XML."""
        self.weights = weights
        """OpenVINO's weights; empty for ONNX, which has them in the graph."""

    def __call__(self, *_: Any) -> Never:
        """Raise CheckpointError."""
        raise CheckpointError(
            "An exported model only makes maps and can be evaluated; give the checkpoint "
            "(.safetensors) that it was made from."
        )

    eval = train = __call__


@dataclass(frozen=True)
class _Content:
    spec: str
    precision: str
    weights: bytes = b""


def load_exported(path: Path) -> Checkpoint:
    """Read an exported file: .onnx, or .xml with its .bin beside it.

    Raises CheckpointError for one that is missing, damaged, not made by this program, or that
    points at other files.
    """
    graph = _bytes(path)
    content = _onnx(path, graph) if path.suffix.lower() == ".onnx" else _openvino(path, graph)
    if content.precision not in PRECISIONS:
        raise CheckpointError(f"{path} does not say how its numbers are held; export it again.")
    try:
        spec = ModelSpec.from_json(content.spec)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    network = ExportedNetwork(
        RUNTIMES[path.suffix.lower()], content.precision, spec.tile, graph, content.weights
    )
    return Checkpoint(cast("nn.Module", network), spec, hashlib.sha256(graph).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"{path} is larger than 2 GB; exported models are not.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no {path}; an exported model is a .onnx file, or a .xml file with its .bin beside it."
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}).") from error


def _onnx(path: Path, graph: bytes) -> _Content:
    import onnx

    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:
        raise CheckpointError(f"{path} is not an ONNX file, or is damaged.") from error
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise CheckpointError(
                f"{path} points at another file for its weights, which is never followed; export it again."
            )
    if model.functions or {entry.domain for entry in model.opset_import} - _DOMAINS:
        raise CheckpointError(
            f"{path} uses operators that are not ONNX's own; export it with this program."
        )
    found = {entry.key: entry.value for entry in model.metadata_props}
    return _Content(_said(path, found.get(SPEC)), found.get(PRECISION, ""))


def _tensors(graph: Any) -> Iterator[Any]:
    """All constant tensors of an ONNX graph and of the graphs within it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _openvino(path: Path, graph: bytes) -> _Content:
    weights = _bytes(path.with_suffix(".bin"))
    pinned = _PINNED.search(graph)  # before OpenVINO sees anything of either file
    if pinned is None:
        raise _undescribed(path)
    if pinned[1].decode() != hashlib.sha256(weights).hexdigest():
        raise CheckpointError(
            f"{path.with_suffix('.bin')} does not belong to {path.name}; the two files are made together "
            "and go together: export the model again."
        )
    model = read_openvino(path.name, graph, weights)

    def said(key: str) -> str | None:
        return str(model.get_rt_info([key]).astype(str)) if model.has_rt_info([key]) else None

    return _Content(_said(path, said(SPEC)), said(PRECISION) or "", weights)


def read_openvino(name: str, graph: bytes, weights: bytes) -> Any:
    """OpenVINO's model of a graph and its weights. Raises CheckpointError where they are damaged."""
    import openvino

    try:
        return openvino.Core().read_model(graph, weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{name} is not an OpenVINO model, or is damaged: {reason}"
        ) from error


def _said(path: Path, spec: str | None) -> str:
    if spec is None:
        raise _undescribed(path)
    return spec


def _undescribed(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} has no '{SPEC}' description (bands, scaling, legend); make it with `landcover model export`."
    )
