"""Exported models: the same labels from another file, and none where too much would be lost."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint, read_spec, save_checkpoint
from landcover.errors import CheckpointError, DatasetError, SettingsError
from landcover.exported_network import ExportedNetwork, load_exported
from landcover.legend import LandClass, Legend
from landcover.metrics import ErrorMatrix
from landcover.model_spec import ModelSpec
from landcover.one_size import cell_shares
from landcover.runtimes import open_runtime
from pipeline.dataset import load_dataset
from pipeline.export_model import _described, _write, export_model, quantized, to_onnx
from pipeline.job import DEFAULT_MODEL
from pipeline.model_card import model_facts
from pipeline.model_item import write_model_item
from pipeline.model_trial import Result, Trial, sample
from pipeline.runtime_choice import choose_runtime
from pipeline.segment import segment
from pipeline.simulate_dataset import simulate_dataset
from tests.command import landcover
from tests.made_dataset import make_dataset

LEGEND = Legend(
    (
        LandClass(2, 'A "quoted" <name> & é', "#0000ff"),
        LandClass(3, "two\nlines", "#00ff00"),
        LandClass(4, "C", "#ff0000"),
    )
)
SPEC = ModelSpec(
    "resnet18", (16,), ("red", "nir"), 1e-4, 0.0, (0.1, 0.1), (0.1, 0.1), LEGEND, 32, 0
)
SUFFIXES = (".onnx", ".xml")


def by_hand() -> Checkpoint:
    """A 1x1 convolution whose three classes are red, nir and 2 red - nir + 1."""
    network = nn.Conv2d(2, 3, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[1.0, 0], [0, 1], [2, -1]])[:, :, None, None]
        network.bias = nn.Parameter(torch.tensor([0.0, 0, 1]))
    return Checkpoint(network, SPEC, "")


def exported(checkpoint: Checkpoint, path: Path, precision: str = "fp32") -> Checkpoint:
    """The same from an exported file."""
    _write(path, _described(to_onnx(checkpoint), checkpoint, precision), precision)
    return load_checkpoint(path)


def logits(
    checkpoint: Checkpoint, windows: NDArray[np.float32], workers: int = 1
) -> NDArray[np.float32]:
    """What its runtime gives, window by window."""
    with open_runtime(checkpoint, "auto" if isinstance(checkpoint.network, ExportedNetwork) else "torch-fp32", "cpu", workers) as runtime:  # fmt: skip
        return np.concatenate([runtime.logits(windows[i : i + 1]) for i in range(len(windows))])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:  # noqa: ARG001
    """Six simulated regions of one block each."""
    folder = tmp_path_factory.mktemp("export") / "data"
    simulate_dataset(output=folder, regions=6, size=256, report=str)
    return folder / "dataset.yml"


@pytest.fixture(scope="module")
def windows(simulated: Path) -> NDArray[np.float32]:
    """Two tiles of the test split as the shipped network gets them."""
    return sample(load_dataset(simulated), read_spec(DEFAULT_MODEL), "test", 2)


@pytest.fixture(scope="module")
def int8(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model in 8-bit integers, as the verb makes it."""
    path = tmp_path_factory.mktemp("int8") / "model.xml"
    export_model(
        model=DEFAULT_MODEL, output=path, data=simulated, precision="int8", budget=0.03, tiles=3,
        rounds=1, report=str,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_logits_by_hand(suffix: str, tmp_path: Path) -> None:
    """Red 3 and nir 5 give the logits 3, 5 and 2 from either file, for any number of callers."""
    made = exported(by_hand(), tmp_path / f"model{suffix}")
    windows = np.full((1, 32, 32, 2), [3, 5], np.float32)
    for workers in (1, 2):
        found = logits(made, windows, workers)
        assert found.shape == (1, 3, 32, 32)
        assert np.unique(found.reshape(3, -1), axis=1).tolist() == [[3], [5], [2]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_description_travels(suffix: str, tmp_path: Path) -> None:
    """Bands, scaling and a legend of odd names come back as they were, and the hash is the file's."""
    path = tmp_path / f"model{suffix}"
    made = exported(by_hand(), path)
    assert made.spec == read_spec(path) == SPEC
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert isinstance(made.network, ExportedNetwork)
    assert made.network.precision == "fp32"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_shipped_model_gives_the_same_logits(
    suffix: str, windows: NDArray[np.float32], tmp_path: Path
) -> None:
    """Logits are torch's to 1e-4 and so are all labels; the same export gives the same bytes."""
    original = load_checkpoint(DEFAULT_MODEL)
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    made = [exported(original, path) for path in paths]
    want, got = logits(original, windows), logits(made[0], windows)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(got.argmax(1), want.argmax(1))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_onnx_itself_finds_the_file_right(tmp_path: Path) -> None:
    """ONNX's own checker takes it, shapes and all; several tiles at once are labelled as one by one."""
    import onnxruntime

    path = tmp_path / "model.onnx"
    exported(load_checkpoint(DEFAULT_MODEL), path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tiles = np.random.default_rng(0).normal(size=(2, 6, 256, 256)).astype(np.float32)
    (both,) = session.run(None, {"image": tiles})
    (first,) = session.run(None, {"image": tiles[:1]})
    np.testing.assert_allclose(both[:1], first, atol=1e-4)


def test_int8_stays_within_its_budget(int8: Path, windows: NDArray[np.float32]) -> None:
    """A smaller file, hardly another label, and a report of size, speed and accuracy beside it."""
    report = json.loads(int8.with_name("model.xml.json").read_text(encoding="utf-8"))
    first, last = report["models"][0], report["models"][-1]
    assert [m["runtime"] for m in report["models"]] == [
        "torch-fp32",
        "openvino-fp32",
        "openvino-file",
    ]
    assert last["bytes"] == sum(int8.with_suffix(s).stat().st_size for s in (".xml", ".bin"))
    assert report["mean_iou_fall"] == pytest.approx(first["mean_iou"] - last["mean_iou"], abs=2e-6)
    assert report["mean_iou_fall"] <= report["budget"]
    assert first["labels_equal"] == 1 > last["labels_equal"] > 0.95
    assert last["megapixels_per_second"] > 0
    assert int8.with_suffix(".bin").stat().st_size < 0.6 * DEFAULT_MODEL.stat().st_size
    want = logits(load_checkpoint(DEFAULT_MODEL), windows).argmax(1)
    assert (logits(load_checkpoint(int8), windows).argmax(1) == want).mean() > 0.95


def test_weights_and_values_are_integers(windows: NDArray[np.float32]) -> None:
    """The quantized graph holds its convolutions' weights in 8 bits, of which 7 are used."""
    checkpoint = load_checkpoint(DEFAULT_MODEL)
    graph = onnx.load_model_from_string(quantized(to_onnx(checkpoint), windows[:1])).graph
    held = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    small = [a for a in held.values() if a.dtype == np.int8 and a.ndim == 4]
    convolutions = [m for m in checkpoint.network.modules() if isinstance(m, nn.Conv2d)]
    assert len(small) == len(convolutions)
    assert max(np.abs(a.astype(int)).max() for a in small) == 64
    assert not [a for a in held.values() if a.dtype == np.float32 and a.ndim == 4]


def test_a_model_that_loses_too_much_is_refused(simulated: Path, tmp_path: Path) -> None:
    """Without any budget 8 bits are refused: exit code 1, one sentence, the table, and no file."""
    told = landcover(
        "model", "export", DEFAULT_MODEL, "-o", tmp_path / "model.onnx", "--data", simulated,
        "--precision", "int8", "--tiles", 1, "--budget", 0,
    )  # fmt: skip
    assert told.returncode == 1
    assert "exported int8" in told.stdout
    assert "more than the budget of 0" in told.stderr
    assert told.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_budget_by_hand() -> None:
    """An IoU of 1 that falls to 0.5 is within 0.5, and beyond 0.49."""
    right = ErrorMatrix((1, 2), np.array([[2, 0], [0, 2]]))
    worse = ErrorMatrix((1, 2), np.array([[4, 2], [2, 4]]))
    results = tuple(Result("x", "y", 1, 1.0, (1.0, 1.0, 1.0), m, 1.0) for m in (right, worse))
    trial = Trial("d", "v", "test", 1, 4, results)
    assert trial.fall == pytest.approx(0.5)
    trial.check(0.5)
    with pytest.raises(CheckpointError, match=r"from 1\.0000 to 0\.5000, by 0\.5000"):
        trial.check(0.49)


def test_a_map_of_an_exported_model(int8: Path, simulated: Path, tmp_path: Path) -> None:
    """Segmenting takes the file as it takes a checkpoint; an exact export gives the checkpoint's map."""
    import rasterio

    image = simulated.parent / "images" / "region-001.tif"
    exact = tmp_path / "model.onnx"
    exported(load_checkpoint(DEFAULT_MODEL), exact)
    maps = []
    for name, model in (("torch", DEFAULT_MODEL), ("onnx", exact), ("int8", int8)):
        facts = segment(image=image, model=model, classes=tmp_path / f"{name}.tif", report=str)
        with rasterio.open(tmp_path / f"{name}.tif") as dataset:
            maps.append(dataset.read(1))
    assert facts["runtime"] == "openvino-file"
    assert facts["model_sha256"] == hashlib.sha256(int8.read_bytes()).hexdigest()
    assert (maps[0] == maps[1]).mean() > 0.9999
    assert (maps[0] == maps[2]).mean() > 0.95
    with pytest.raises(SettingsError, match="tiles of 256 pixels only"):
        segment(image=image, model=exact, classes=tmp_path / "no.tif", tile=128, report=str)
    with pytest.raises(SettingsError, match="leave --runtime out"):
        segment(image=image, model=exact, classes=tmp_path / "no.tif", runtime="openvino-fp32", report=str)  # fmt: skip
    assert not (tmp_path / "no.tif").exists()


def test_an_exported_model_is_itself_only(tmp_path: Path) -> None:
    """It is shown, but not run by torch, on a GPU, as a checkpoint's runtime, or in an item."""
    path = tmp_path / "model.onnx"
    made = exported(by_hand(), path)
    assert dict(model_facts(path))["Exported"] == "fp32, run by onnxruntime-file"
    assert choose_runtime(made, "auto", "auto", np.zeros((0, 32, 32, 2), np.float32)).runtime == "onnxruntime-file"  # fmt: skip
    with pytest.raises(CheckpointError, match="only makes maps"):
        made.network(torch.zeros(1, 2, 32, 32))
    with pytest.raises(SettingsError, match="not on 'cuda'"):
        open_runtime(made, "auto", "cuda")
    with pytest.raises(SettingsError, match="exported models only"):
        open_runtime(by_hand(), "onnxruntime-file")
    with pytest.raises(CheckpointError, match="exported model"):
        write_model_item(path, tmp_path / "item.json")


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("a.pt", {}, "ends? in .onnx|let it end"),
        ("a.onnx", {"precision": "int4"}, "is not known"),
        ("a.onnx", {"precision": "fp16"}, "export fp16 as .xml"),
        ("a.onnx", {"tiles": 0}, "0 tiles"),
    ],
)
def test_settings_that_cannot_be(
    name: str, settings: dict[str, object], reason: str, tmp_path: Path
) -> None:
    """What contradicts itself is refused before any data is read."""
    with pytest.raises(SettingsError, match=reason):
        export_model(
            model=DEFAULT_MODEL, output=tmp_path / name, data=tmp_path / "none.yml", **settings  # type: ignore[arg-type]
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("budget", [-0.1, 1.5, float("nan")])
def test_a_budget_is_a_share(budget: float, tmp_path: Path) -> None:
    """A budget below 0, above 1 or of no number is refused."""
    with pytest.raises(CheckpointError, match="from 0 to 1"):
        export_model(
            model=DEFAULT_MODEL, output=tmp_path / "a.onnx", data=tmp_path / "none.yml", budget=budget
        )  # fmt: skip


def test_data_that_cannot_judge(tmp_path: Path) -> None:
    """Missing bands, and a split without labels, are said; an exported file is not exported again."""
    data = make_dataset(tmp_path / "squares")
    out = tmp_path / "made" / "a.onnx"
    legend = load_dataset(data).legend
    same = load_checkpoint(DEFAULT_MODEL)
    small = dataclasses.replace(
        SPEC, encoder="tu-mobilenetv3_small_050", decoder_channels=(16, 8, 8, 8, 8), legend=legend
    )
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small.build(), dataclasses.replace(small, bands=("red", "swir16")))
    with pytest.raises(CheckpointError, match=r"needs the band\(s\) swir16"):
        export_model(model=path, output=out, data=data, report=str)
    save_checkpoint(path, small.build(), small)
    text = data.read_text(encoding="utf-8")
    data.write_text(text.replace("validation: 0.2, test: 0.2", "validation: 0.4, test: 0.0"))
    with pytest.raises(DatasetError, match="no labelled pixel in test"):
        export_model(model=path, output=out, data=data, report=str)
    exported(same, tmp_path / "done.onnx")
    with pytest.raises(CheckpointError, match="exported already"):
        export_model(model=tmp_path / "done.onnx", output=out, data=data, report=str)
    assert not out.exists()


def broken_onnx(path: Path) -> list[tuple[bytes, str]]:
    """Contents that are no export, and what is said of each."""
    good = path.read_bytes()

    def changed(change: object) -> bytes:
        model = onnx.load_model_from_string(good)
        change(model)  # type: ignore[operator]
        data: bytes = model.SerializeToString()
        return data

    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")

    def hidden(model: onnx.ModelProto) -> None:
        inner = onnx.GraphProto()
        inner.initializer.add().external_data.add(key="location", value="../x")
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))

    def foreign(model: onnx.ModelProto) -> None:
        model.opset_import.add(domain="evil.ops", version=1)

    def more_classes(model: onnx.ModelProto) -> None:
        big = dataclasses.replace(
            SPEC, legend=Legend((*LEGEND.classes, LandClass(9, "D", "#000000")))
        )
        onnx.helper.set_model_props(
            model, {"landcover": big.to_json(), "landcover_precision": "fp32"}
        )

    return [
        (b"", "no 'landcover' description"),
        (b"\x80\x04pickle", "not an ONNX file"),
        (good[: len(good) // 2], "not an ONNX file|no 'landcover'"),
        (changed(outside), "points at another file"),
        (changed(hidden), "points at another file"),
        (changed(foreign), "not ONNX's own"),
        (changed(lambda m: m.ClearField("metadata_props")), "no 'landcover' description"),
        (changed(more_classes), "promises 4 classes"),
    ]


def test_hostile_onnx_is_refused(tmp_path: Path) -> None:
    """Truncated, foreign, or pointing at other files: one sentence, and nothing is followed."""
    path = tmp_path / "model.onnx"
    exported(by_hand(), path)
    for content, reason in broken_onnx(path):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=reason):
            open_runtime(load_exported(path), "auto", "cpu", 1)


def test_openvino_files_belong_together(tmp_path: Path) -> None:
    """Weights of another model, missing ones, and XML that is none are refused in a sentence."""
    path = tmp_path / "model.xml"
    exported(by_hand(), path)
    weights = path.with_suffix(".bin")
    good = weights.read_bytes()
    weights.write_bytes(good[:-4] + b"\0\0\0\x01")
    with pytest.raises(CheckpointError, match="does not belong to model"):
        load_checkpoint(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="bin beside it"):
        load_checkpoint(path)
    weights.write_bytes(good)
    for text in (
        "",
        "<a/>",
        "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><net>&e;</net>",
    ):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="no 'landcover' description"):
            load_checkpoint(path)
    good_hash = hashlib.sha256(good).hexdigest()
    path.write_text(f'<net><landcover_weights_sha256 value="{good_hash}" /></net>')
    told = landcover("model", "show", path)
    assert told.returncode == 1
    assert "is not an OpenVINO model" in told.stderr
    assert told.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("architecture", "encoder", "options"),
    [
        ("pspnet", "resnet18", {"channels": 32}),  # 3 and 6 cells of 16 pixels share rows
        ("upernet", "resnet18", {"channels": 32}),
        ("dpt", "tu-vit_tiny_patch16_224", {"channels": 16}),  # positions of another size
        ("unet", "resnet18", {"width": 4, "reduce": 2}),
    ],
)
def test_networks_with_operators_that_onnx_lacks(
    architecture: str, encoder: str, options: dict[str, int]
) -> None:
    """They are exported for tiles of their one size, and compute the same for any number of these."""
    import onnxruntime

    torch.manual_seed(0)
    spec = dataclasses.replace(
        SPEC,
        architecture=architecture,
        encoder=encoder,
        options=options,
        decoder_channels=(),
        tile=128,
    )
    network = spec.build().eval()
    images = torch.randn(2, len(spec.bands), 128, 128)
    session = onnxruntime.InferenceSession(
        to_onnx(Checkpoint(network, spec, "")), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.inference_mode():
        want = network(images).numpy()
    assert np.abs(found - want).max() <= 1e-4 * np.abs(want).max()


def test_shares_of_cells_by_hand() -> None:
    """Five values in two cells: the middle one is in both, as in torch's own pooling."""
    third = 1 / 3
    want = torch.tensor([[third, third, third, 0, 0], [0, 0, third, third, third]])
    torch.testing.assert_close(cell_shares(2, 5), want)
    values = torch.rand(1, 1, 7, 1)
    pooled = torch.nn.functional.adaptive_avg_pool2d(values, (3, 1))
    torch.testing.assert_close(cell_shares(3, 7) @ values, pooled)


def test_what_onnx_has_not_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A network that cannot be traced gives one sentence with its architecture."""

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x).real

    with pytest.raises(CheckpointError, match="architecture unet with the encoder resnet18"):
        to_onnx(Checkpoint(Odd(), SPEC, ""))
    assert capsys.readouterr().out == ""
