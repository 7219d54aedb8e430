"""Runs by OpenVINO from a copy of the network that another process makes."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
import torch
from torch import nn

from landcover.checkpoint_file import load_checkpoint, save_checkpoint
from landcover.errors import CheckpointError, RasterError, SettingsError
from landcover.legend import LandClass, Legend
from landcover.model_spec import ModelSpec
from landcover.openvino_runtime import OpenVinoRuntime
from landcover.runtimes import available, open_runtime
from pipeline import conversion
from pipeline.conversion import convert_models, save_converted
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
    """So it takes some 650 MB less; with workers too."""
    code = """
import sys
from pathlib import Path
from pipeline.segment import segment
if __name__ == "__main__":
    image, model, classes, runtime = sys.argv[1:]
    for workers in (None, 1):
        segment(image=image, model=Path(model), classes=Path(classes), runtime=runtime, workers=workers)
        assert "torch" not in sys.modules, workers
"""
    command = [sys.executable, "-c", code, image, model, tmp_path / "classes.tif", RUNTIME]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "classes.tif").exists()


def test_the_sample_is_labelled_exactly(tmp_path: Path, model: Path):
    """The other process gives the likeliest class of every pixel by the network in float32."""
    sample = np.random.default_rng(0).normal(size=(3, 32, 32, 2)).astype(np.float32)
    labels = convert_models(tmp_path, [model], 32, sample)
    network = load_checkpoint(model).network
    with torch.inference_mode():
        expected = network(torch.from_numpy(sample.transpose(0, 3, 1, 2))).argmax(1).numpy()
    assert (labels == expected).mean() > 0.999
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model-0.bin", "model-0.xml"]


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
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SettingsError, match=r"it ended with 1.*choose the runtime torch-fp32"):
        convert_models(tmp_path, [model], 32, np.zeros((0, 32, 32, 2), np.float32))


def test_files_of_the_current_folder_are_not_run(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    """A user's torch.py is none of ours."""
    (tmp_path / "torch.py").write_text("raise RuntimeError('not me')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copies").mkdir()
    convert_models(tmp_path / "copies", [model], 32, np.zeros((0, 32, 32, 2), np.float32))


def test_the_other_process_ends_with_its_parent(tmp_path: Path, model: Path):
    """The parent killed, it does not go on for nobody."""
    code = """
import sys
from pathlib import Path
import numpy as np
from pipeline.conversion import convert_models, save_converted
print("begun", flush=True)
convert_models(Path(sys.argv[1]), [Path(sys.argv[2])] * 40, 32, np.zeros((0, 32, 32, 2), np.float32))
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path, model], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    while not (children := psutil.Process(parent.pid).children()):
        time.sleep(0.01)
    while not list(tmp_path.glob("*.xml")):  # it listens from before the first is made
        time.sleep(0.01)
    parent.kill()
    parent.communicate()
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert len(list(tmp_path.glob("*.xml"))) < 40


def test_a_full_disk_is_told(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch):
    """What cannot be written is not called a model that cannot be run."""
    monkeypatch.setattr(conversion, "_place", lambda *_: model / "no.xml")  # a file is no folder
    with pytest.raises(RasterError, match=r"could not be written .*disk full"):
        save_converted([load_checkpoint(model)], 32, tmp_path)


@pytest.mark.parametrize("fault", ["no bfloat16", "weights"])
def test_a_run_that_is_bound_to_fail_leaves_the_bands_of_another(
    tmp_path: Path, image: Path, model: Path, monkeypatch: pytest.MonkeyPatch, fault: str
):
    """A run by torch that ended after its bands goes on with them, though one by OpenVINO failed between."""
    classes = tmp_path / "classes.tif"
    options = {"model": model, "classes": classes, "image": image, "band_rows": 512}

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("pipeline.segment._write_outputs", fail)
        segment(**options, report=lambda _: None)
    with monkeypatch.context() as broken, pytest.raises((SettingsError, CheckpointError)):
        if fault == "weights":
            wrong = tmp_path / "wrong.safetensors"
            save_checkpoint(wrong, nn.Conv2d(2, 3, 1), SPEC)
            segment(**options | {"model": wrong}, runtime=RUNTIME, report=lambda _: None)
        broken.setattr("landcover.openvino_runtime.openvino_capabilities", lambda: ["FP32"])
        segment(**options, runtime="openvino-bf16", report=lambda _: None)
    said: list[str] = []
    segment(**options, report=said.append)
    assert "segment: resumed, 2 of 2 bands were done" in said


def test_workers_run_copies_of_a_network_at_hand(tmp_path: Path, image: Path, model: Path):
    """Where the leader has torch, as with `auto`, its workers still need none: they get copies."""
    outputs = {"classes": tmp_path / "classes.tif"}
    options = {"runtime": RUNTIME, "report": lambda _: None, "band_rows": 512, "models": [model]}
    maps = []
    for workers in (None, 2):
        networks = [load_checkpoint(model)]
        segment_image(open_image(image, BANDS), networks, outputs, workers=workers, **options)
        maps.append(outputs["classes"].read_bytes())
    assert maps[0] == maps[1]


def test_another_way_to_say_cpu_is_openvino_too(model: Path):
    """`cpu:0` runs what `cpu` runs."""
    with open_runtime(load_checkpoint(model), RUNTIME, "cpu:0") as runtime:
        assert isinstance(runtime, OpenVinoRuntime)
