"""Runs by OpenVINO from a copy of the network that another process makes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from landcover.errors import CheckpointError, SettingsError
from landcover.legend import LandClass, Legend
from landcover.models import ModelSpec, load_checkpoint, save_checkpoint
from landcover.runtimes import available
from pipeline import conversion
from pipeline.conversion import convert_models, converted, exact_labels, sample_of
from pipeline.segment import segment, segment_image
from pipeline.strip_reader import open_image

pytestmark = pytest.mark.skipif(
    "openvino-fp32" not in available("cpu"), reason="OpenVINO is not here"
)

ROOT = Path(__file__).parent.parent
BANDS = ("red", "nir")
LEGEND = Legend(tuple(LandClass(c, f"class {c}", f"#{c:02x}8040") for c in (3, 1, 7)))
SPEC = ModelSpec(
    "tu-mobilenetv3_small_100", (32, 24, 16, 16, 8), BANDS, 1e-4, 0.0, (0.2, 0.3), (0.1, 0.1), LEGEND,
    32, 12, temperature=1.5,
)  # fmt: skip
RUNTIME = "openvino-fp32"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net with random weights."""
    torch.manual_seed(3)
    network = SPEC.build()
    nn.init.normal_(network.segmentation_head[0].weight, std=2)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_checkpoint(path, network, SPEC)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """600 x 70 pixels, some without data: two bands of rows of 512 and 88."""
    pixels = np.random.default_rng(2).integers(500, 5000, (2, 600, 70)).astype(np.uint16)
    pixels[:, 100:140, 20:50] = 0
    path = tmp_path / "image.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=70, height=600, count=2, dtype="uint16", nodata=0,
        crs="EPSG:32633", transform=rasterio.transform.from_origin(5e5, 5.3e6, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = BANDS
    return path


def test_the_copy_gives_the_bytes_of_the_network_itself(tmp_path: Path, image: Path, model: Path):
    """From the file or from the network at hand, by one process or by two: one map, one agreement."""
    outputs = {name: tmp_path / f"{name}.tif" for name in ("classes", "confidence")}
    options = {"runtime": RUNTIME, "report": lambda _: None, "band_rows": 512}
    here = segment_image(
        open_image(image, BANDS), [load_checkpoint(model)], outputs, **options
    )  # fmt: skip
    expected = [path.read_bytes() for path in outputs.values()]
    for workers in (None, 2):
        found = segment(image=image, model=model, workers=workers, **outputs, **options)
        assert [path.read_bytes() for path in outputs.values()] == expected
        assert found["agreement_with_fp32"] == here["agreement_with_fp32"] > 0.99
        assert not (tmp_path / "classes.tif.shards").exists()


def test_several_models_are_all_converted(tmp_path: Path, image: Path, model: Path):
    """The average of a model and itself is its own map."""
    one, two = tmp_path / "one.tif", tmp_path / "two.tif"
    options = {"runtime": RUNTIME, "report": lambda _: None}
    segment(image=image, model=model, classes=one, **options)
    segment(image=image, model=[model, model], classes=two, **options)
    with rasterio.open(one) as a, rasterio.open(two) as b:
        np.testing.assert_array_equal(a.read(), b.read())


def test_the_process_that_maps_imports_no_torch(tmp_path: Path, image: Path, model: Path):
    """So it takes some 650 MB less."""
    code = """
import sys
from pathlib import Path
from pipeline.segment import segment
image, model, classes, runtime = sys.argv[1:]
segment(image=image, model=Path(model), classes=Path(classes), runtime=runtime)
assert "torch" not in sys.modules
"""
    command = [sys.executable, "-c", code, image, model, tmp_path / "classes.tif", RUNTIME]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "classes.tif").exists()


def test_the_sample_is_labelled_exactly(tmp_path: Path, model: Path):
    """The other process gives the likeliest class of every pixel by the network in float32."""
    sample = np.random.default_rng(0).normal(size=(3, 32, 32, 2)).astype(np.float32)
    convert_models(tmp_path, [model], 32, sample)
    network = load_checkpoint(model).network
    with torch.inference_mode():
        expected = network(torch.from_numpy(sample.transpose(0, 3, 1, 2))).argmax(1).numpy()
    np.testing.assert_array_equal(sample_of(tmp_path), sample)
    assert (exact_labels(tmp_path) == expected).mean() > 0.999
    assert converted(tmp_path, 0).exists()


def test_weights_that_do_not_fit_are_told_in_a_sentence(tmp_path: Path, image: Path, model: Path):
    """The other process's error is this one's, and nothing is left behind."""
    other = load_checkpoint(model)
    wrong = tmp_path / "wrong.safetensors"
    save_checkpoint(wrong, nn.Conv2d(2, 3, 1), other.spec)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="weights do not fit their architecture"):
        segment(image=image, model=wrong, classes=tmp_path / "classes.tif", runtime=RUNTIME)
    assert sorted(tmp_path.iterdir()) == before


def test_a_process_that_dies_is_told(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    """Its last words are in the sentence, and what to choose instead."""
    monkeypatch.setattr(conversion, "__name__", "pipeline.no_such_module")
    with pytest.raises(SettingsError, match=r"no_such_module.*choose the runtime torch-fp32"):
        convert_models(tmp_path, [model], 32, np.zeros((0, 32, 32, 2), np.float32))


def test_a_copy_is_made_once_for_a_run_that_goes_on(
    tmp_path: Path, image: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that ended after its first band goes on with the copy that it had."""
    classes = tmp_path / "classes.tif"
    options = {"runtime": RUNTIME, "band_rows": 512, "report": lambda _: None}
    segment(image=image, model=model, classes=classes, **options)
    expected = classes.read_bytes()
    made: list[Path] = []
    once = conversion.convert_models

    def convert(folder: Path, *rest: object) -> None:
        made.append(folder)
        once(folder, *rest)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.segment.convert_models", convert)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("pipeline.segment._write_outputs", fail)
        segment(image=image, model=model, classes=classes, **options)
    shards = tmp_path / "classes.tif.shards"
    assert json.loads((shards / "manifest.json").read_text())["bands"] == [[0, 512], [512, 600]]
    segment(image=image, model=model, classes=classes, **options)
    assert len(made) == 1
    assert classes.read_bytes() == expected
