"""A model as a STAC item of the MLM extension, by which catalogues of models find it."""

import json
import re
from pathlib import Path
from typing import Any

import pystac
import torch

from landcover.checkpoint_file import read_spec
from landcover.errors import CheckpointError
from landcover.exported_network import RUNTIMES
from landcover.model_spec import ModelSpec
from landcover.networks import ARCHITECTURES
from pipeline.artifacts import file_hash, write_json
from pipeline.model_card import parameters
from pipeline.page import plain

_EXTENSIONS = [
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
]
_WORLD = [-180.0, -90.0, 180.0, 90.0]
_TASKS = ["semantic-segmentation"]


def write_model_item(model: Path, output: Path, name: str | None = None) -> dict[str, Any]:
    """Write the STAC item of a model beside it; return it.

    Where and when a model holds is not known to it, so the item spans the world and all time, as the
    extension's examples do. Scaling and normalisation are given as one, for stored values.
    Raises CheckpointError as `read_spec` does, and for an exported file, of which it would be wrong.
    """
    if model.suffix.lower() in RUNTIMES:
        raise CheckpointError(
            f"{model} is an exported model; give the checkpoint that it was made from."
        )
    spec = read_spec(model)
    west, south, east, north = _WORLD
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = pystac.Item(
        id=_item_id(name or model.stem),
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=_WORLD,
        datetime=None,
        properties={
            "start_datetime": "1900-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "description": f"Land cover in {len(spec.legend)} classes: {plain(', '.join(spec.legend.names), 400)}.",
            **_licence(spec),
            **_mlm(spec, model, _item_id(name or model.stem)),
        },
        stac_extensions=_EXTENSIONS,
    )
    item.add_asset("model", _asset(model))
    fields = item.to_dict(include_self_link=False, transform_hrefs=False)
    write_json(output, fields)
    return fields


def _item_id(name: str) -> str:
    """A name that the extension allows: it starts with a letter and ends in a letter or digit."""
    plain_name = re.sub(r"[^a-zA-Z0-9_.-]+", "-", name).strip("-_.")
    return plain_name if re.fullmatch(r"[a-zA-Z].+", plain_name) else f"model-{plain_name or 'x'}"


def _licence(spec: ModelSpec) -> dict[str, Any]:
    licence = spec.training.get("licence")
    return {"license": plain(licence)} if licence else {}


def _mlm(spec: ModelSpec, model: Path, name: str) -> dict[str, Any]:
    trained_on = spec.training.get("data")
    return {
        "mlm:name": name,
        "mlm:architecture": ARCHITECTURES[spec.architecture].title,
        "mlm:tasks": _TASKS,
        "mlm:framework": "PyTorch",
        "mlm:framework_version": torch.__version__.partition("+")[0],
        "mlm:total_parameters": parameters(model),
        "mlm:pretrained": True,
        **({"mlm:pretrained_source": plain(trained_on)} if trained_on else {}),
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [_input(spec)],
        "mlm:output": [_output(spec)],
        "mlm:hyperparameters": {
            "tile": spec.tile,
            "overlap": spec.overlap,
            "temperature": spec.temperature,
            "encoder": spec.encoder,
        },
    }


def _input(spec: ModelSpec) -> dict[str, Any]:
    """(stored x scale + offset - mean) / std is (stored - (mean - offset) / scale) / (std / scale)."""
    return {
        "name": "stored pixel values",
        "bands": [{"name": plain(band)} for band in spec.bands],
        "input": {
            "shape": [-1, len(spec.bands), spec.tile, spec.tile],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {
                "type": "z-score",
                "mean": _short((mean - spec.offset) / spec.scale),
                "stddev": _short(std / spec.scale),
            }
            for mean, std in zip(spec.mean, spec.std, strict=True)
        ],
        "resize_type": None,
        "pre_processing_function": None,
    }


def _output(spec: ModelSpec) -> dict[str, Any]:
    return {
        "name": "logits by class",
        "tasks": _TASKS,
        "result": {
            "shape": [-1, len(spec.legend), spec.tile, spec.tile],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": [
            {
                "value": c.code,
                "name": re.sub(r"[^0-9A-Za-z_-]+", "_", c.name).strip("_") or f"class_{c.code}",
                "title": plain(c.name),
                "description": plain(c.name),
                "color_hint": c.color[1:].upper(),
            }
            for c in spec.legend.classes
        ],
        "post_processing_function": None,
    }


def _asset(model: Path) -> pystac.Asset:
    return pystac.Asset(
        href=f"./{model.name}",
        title="Weights and description",
        media_type="application/vnd.safetensors",
        roles=["mlm:model", "mlm:weights", "data"],
        extra_fields={
            "mlm:artifact_type": "safetensors",
            "file:size": model.stat().st_size,
            "file:checksum": f"1220{file_hash(model)}",
        },
    )


def _short(value: float) -> float:
    """Twelve digits: more are noise of the division."""
    return float(json.loads(f"{value:.12g}"))
