"""What a checkpoint says about itself, for people: rows of facts, and a card in Markdown."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from safetensors import safe_open

from landcover.checkpoint_file import load_checkpoint, read_spec
from landcover.errors import CheckpointError, SettingsError
from landcover.exported_network import RUNTIMES
from landcover.legend import Legend
from landcover.model_spec import ModelSpec
from landcover.networks import ARCHITECTURES
from pipeline.artifacts import file_hash, write_text
from pipeline.page import plain

_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
_MEASURES = {
    "overall_accuracy": "Overall accuracy", "kappa": "Kappa", "mean_iou": "Mean IoU", "mean_f1": "Mean F1",
    "frequency_weighted_iou": "Frequency-weighted IoU",
}  # fmt: skip


def model_facts(path: Path) -> list[tuple[str, str]]:
    """Name and value of each fact about a checkpoint, ready to show; nothing in it is executed.

    Raises CheckpointError as `read_spec` does.
    """
    spec = read_spec(path)
    facts = [
        ("File", path.name),
        ("SHA-256", file_hash(path)),
        ("Size", f"{path.stat().st_size / 1e6:,.1f} MB"),
        ("Architecture", ARCHITECTURES[spec.architecture].title),
        ("Encoder", spec.encoder),
        *((f"Option {name}", str(value)) for name, value in sorted(spec.options.items())),
        *_held(path),
        ("Bands", ", ".join(spec.bands)),
        ("Physical value", f"stored value x {spec.scale:g} + {spec.offset:g}"),
        ("Normalisation", "; ".join(_normalisation(spec))),
        ("Classes", ", ".join(f"{c.code} {c.name}" for c in spec.legend.classes)),
        ("Tile", f"{spec.tile} pixels, {spec.overlap} of them shared with the next"),
        ("Temperature", f"{spec.temperature:g}"),
        *_flat(spec.training),
    ]
    return [(plain(name, 60), plain(value, 400)) for name, value in facts]


def _held(path: Path) -> list[tuple[str, str]]:
    """How many numbers the weights are, or in an exported file how they are held."""
    count = parameters(path)
    if count is not None:
        return [("Parameters", f"{count:,}")]
    network = load_checkpoint(path).network
    return [("Exported", f"{network.precision}, run by {network.runtime}")]


def facts_table(path: Path) -> Table:
    """The facts as a table for the screen."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in model_facts(path):
        # Text, because a name with [brackets] is not markup.
        table.add_row(Text(name), Text(value))
    return table


def shipped_table(models: Mapping[str, Path]) -> Table:
    """Name, bands, classes, size and data of each model, a row each."""
    table = Table("name", "bands", "classes", "MB", "trained on")
    for name, path in models.items():
        spec = read_spec(path)
        said = (", ".join(spec.bands), ", ".join(c.name for c in spec.legend.classes))
        size, data = f"{path.stat().st_size / 1e6:.1f}", str(spec.training.get("data", ""))
        table.add_row(*(Text(plain(cell, 400)) for cell in (name, *said, size, data)))
    return table


def parameters(path: Path) -> int | None:
    """Numbers in the weights of a checkpoint; the statistics of batch normalisation are none.

    None for an exported file, where some are folded into others.
    """
    if path.suffix.lower() in RUNTIMES:
        return None
    with safe_open(path, framework="numpy") as stream:
        names = [name for name in stream.keys() if not name.endswith(_STATISTICS)]  # noqa: SIM118 - no iterator
        return sum(int(math.prod(stream.get_slice(name).get_shape())) for name in names)


def write_model_card(
    model: Path,
    output: Path,
    evaluation: Path | None = None,
    name: str | None = None,
    remarks: Path | None = None,
) -> None:
    """Write the card of a model: what it maps, from what, how well, and what to beware of.

    evaluation: metrics.json of `landcover evaluate` of this very model. name: instead of the file's.
    remarks: a text file, a paragraph for each thing that its maker knows and no figure says.
    The front matter is that of the Hugging Face hub. The same inputs give the same bytes.
    Raises CheckpointError for a model, or an evaluation of another model, that cannot be used, and
    SettingsError for remarks that cannot be read.
    """
    spec, digest = read_spec(model), file_hash(model)
    said = [] if remarks is None else _read_remarks(remarks)
    record = None if evaluation is None else _read_evaluation(evaluation, digest)
    lines = [
        *_front_matter(spec),
        f"# {_md(name or model.stem)}",
        "",
        _summary(spec),
        "",
        *_how_to_use(model),
        *_classes(spec.legend),
        *_input(spec),
        *_training(spec),
        *_held_out(spec),
        *(_figures(record) if record else ()),
        *_limits(spec, record, said),
        "## Facts",
        "",
        "| | |",
        "|---|---|",
        *(f"| {_md(key)} | {_md(value)} |" for key, value in model_facts(model)),
        "",
    ]
    write_text(output, "\n".join(lines))


def _summary(spec: ModelSpec) -> str:
    title = _md(ARCHITECTURES[spec.architecture].title)
    return (
        f"Labels every pixel of an image with one of {len(spec.legend)} land-cover classes. {title}, encoder "
        f"{_md(spec.encoder)}."
    )


def _md(text: object) -> str:
    """Foreign text as Markdown shows it: no markup, no HTML, one line."""
    shown = plain(text, 400)
    for character in "\\`*_[]#!|<>~$":
        shown = shown.replace(character, f"\\{character}" if character not in "<>" else "")
    return shown


def _front_matter(spec: ModelSpec) -> Iterator[str]:
    yield "---"
    licence = spec.training.get("licence")
    # JSON strings are YAML strings, whatever they hold.
    yield f"license_name: {json.dumps(plain(licence or 'see the model'))}"
    yield "license: other"
    yield "library_name: landcover-pipeline"
    yield "pipeline_tag: image-segmentation"
    yield "tags: [land-cover, semantic-segmentation, remote-sensing, safetensors]"
    yield "---"
    yield ""


def _how_to_use(model: Path) -> Iterator[str]:
    yield from ("## Use", "", "```bash")
    yield f"landcover segment image.tif --model {_plain_name(model.name)} --output classes.tif"
    yield from ("```", "")


def _plain_name(name: str) -> str:
    shown = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    return shown or "model.safetensors"


def _classes(legend: Legend) -> Iterator[str]:
    yield from ("## Classes", "", "| code | class | colour |", "|---|---|---|")
    yield from (f"| {c.code} | {_md(c.name)} | {_md(c.color)} |" for c in legend.classes)
    yield ""


def _input(spec: ModelSpec) -> Iterator[str]:
    yield from ("## Input", "")
    yield (
        f"Bands in this order, physical value = stored value x {spec.scale:g} + {spec.offset:g}, then less the mean "
        "and over the standard deviation. Bands are found by name."
    )
    yield from ("", "| band | mean | standard deviation |", "|---|---|---|")
    for band, mean, std in zip(spec.bands, spec.mean, spec.std, strict=True):
        yield f"| {_md(band)} | {mean:.6g} | {std:.6g} |"
    yield ""


def _training(spec: ModelSpec) -> Iterator[str]:
    training = spec.training
    yield from ("## Training data", "")
    yield f"Trained on: {_md(training.get('data') or 'not said')}. "
    if licence := training.get("licence"):
        yield f"Licence of the data: {_md(licence)}. "
    if credit := training.get("credit"):
        yield f"Credit: {_md(credit)}."
    yield ""
    if isinstance(found := training.get("validation"), Mapping):
        yield "On the validation split, by which the weights were chosen, so that these figures flatter:"
        yield ""
        yield f"overall accuracy {_figure(found.get('overall_accuracy'))}, mean IoU {_figure(found.get('mean_iou'))}."
        yield ""


def _held_out(spec: ModelSpec) -> Iterator[str]:
    """What training itself measured on what it held out."""
    if isinstance(found := spec.training.get("held_out"), Mapping):
        yield from ("## Measured on what was held out", "", "| what | value |", "|---|---|")
        for name, value in _flat(found, "", ", "):
            yield f"| {_md(name.replace('_', ' '))} | {_md(value)} |"
        yield ""


def _figures(record: Mapping[str, Any]) -> Iterator[str]:
    data, split = record["dataset"], record["settings"]["split"]
    yield from ("## Evaluation", "")
    yield (
        f"On the {_md(split)} split of {_md(data['name'])} ({data['blocks']} blocks, {record['pixels']:,} pixels, "
        f"version {_md(data['version'][:12])}), with 95 % intervals over blocks:"
    )
    yield from ("", "| measure | value | interval |", "|---|---|---|")
    for key, title in _MEASURES.items():
        yield _row(title, record["overall"][key])
    for key, score in record["overall"].items():
        if "@" in key:
            kind, _, tolerance = key.partition("@")
            title = "Boundary F1" if kind == "boundary_f1" else "Boundary IoU"
            yield _row(f"{title}, {tolerance} px", score)
    yield from (
        "",
        "| class | IoU | F1 | user's accuracy | producer's accuracy |",
        "|---|---|---|---|---|",
    )
    for row in record["classes"]:
        values = (row[k]["value"] for k in ("iou", "f1", "users_accuracy", "producers_accuracy"))
        yield f"| {_md(row['name'])} | {' | '.join(map(_figure, values))} |"
    yield ""
    yield from _baselines(record)
    for note in record["notes"]:
        yield f"- {_md(note)}"
    yield ""


def _baselines(record: Mapping[str, Any]) -> Iterator[str]:
    """The model beside what needs no network: a row each, mean IoU, accuracy, IoU of each class."""
    if not (rows := record.get("baselines")):
        return
    names = [_md(row["name"]) for row in record["classes"]]
    yield from (
        f"| | mean IoU | overall accuracy | {' | '.join(names)} |",
        "|---" * (len(names) + 3) + "|",
    )
    overall = {key: record["overall"][key]["value"] for key in ("mean_iou", "overall_accuracy")}
    ours = {**overall, "iou": [row["iou"]["value"] for row in record["classes"]]}
    for title, row in {"this model": ours, **rows}.items():
        values = (row["mean_iou"], row["overall_accuracy"], *row["iou"])
        yield f"| {_md(title)} | {' | '.join(map(_figure, values))} |"
    yield ""


def _row(title: str, score: Mapping[str, float | None]) -> str:
    ends = "" if score["low"] is None else f"{_figure(score['low'])} to {_figure(score['high'])}"
    return f"| {title} | {_figure(score['value'])} | {ends} |"


def _limits(
    spec: ModelSpec, record: Mapping[str, Any] | None, remarks: Sequence[str]
) -> Iterator[str]:
    yield from ("## Before you use it", "")
    data = str(spec.training.get("data", "")).lower()
    if data.startswith("simulat") and not spec.training.get("held_out_places"):
        yield "- Trained on simulated images: on real ones it shows how the product works, no more."
    if record is None and "held_out" not in spec.training:
        yield "- It was not evaluated on a test split for this card; how well it maps is not known."
    yield "- Its figures hold for ground, seasons and sensors like those it was trained and tested on."
    yield from (f"- {_md(remark)}" for remark in remarks)
    yield "- Hectares counted from its maps carry its errors; for a statement about area, sample reference points."
    yield ""


def _read_remarks(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as text; give the remarks as UTF-8.") from error
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def _read_evaluation(path: Path, digest: str) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        evaluated = record["model"]["sha256"]
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no evaluation {path}; give metrics.json of landcover evaluate."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no evaluation; give metrics.json of landcover evaluate."
        ) from error
    if evaluated != digest:
        raise CheckpointError(
            f"{path} evaluates another model (SHA-256 {str(evaluated)[:12]}, not {digest[:12]}); evaluate this one."
        )
    found: Mapping[str, Any] = record
    return found


def _normalisation(spec: ModelSpec) -> Iterator[str]:
    for band, mean, std in zip(spec.bands, spec.mean, spec.std, strict=True):
        yield f"{band} ({mean:.4g}, {std:.4g})"


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "\N{EN DASH}"


def _flat(
    training: Mapping[str, Any], prefix: str = "training", joint: str = "."
) -> Iterator[tuple[str, str]]:
    for key, value in training.items():
        name = f"{prefix}{joint}{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, name, joint)
        elif value is not None:
            yield name, str(value)
