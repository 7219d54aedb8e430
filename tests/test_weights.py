"""The demo weights: what they say of themselves, how well they map regions never seen; real cities by the default."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.vrt import WarpedVRT

from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import load_checkpoint
from landcover.simulation import LEGEND
from landcover.spectra import BANDS
from pipeline.job import DEFAULT_MODEL
from pipeline.train_demo import FIRST_HELD_OUT_SEED, FIRST_TRAINING_SEED, score, simulate_region

WEIGHTS = Path(__file__).parent.parent / "pipeline" / "weights" / "demo.safetensors"
SENTINEL2 = ("B02", "B03", "B04", "B08", "B11", "B12")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """The shipped weights."""
    return load_checkpoint(WEIGHTS)


@pytest.fixture(scope="module")
def default() -> Checkpoint:
    """The weights that map real scenes unless others are named."""
    return load_checkpoint(DEFAULT_MODEL)


def test_weights_are_small_and_say_where_they_come_from(checkpoint: Checkpoint) -> None:
    """They fit into git, name bands and legend, and were trained on simulated regions alone."""
    assert WEIGHTS.stat().st_size < 4_000_000
    assert checkpoint.spec.bands == BANDS
    assert checkpoint.spec.legend == LEGEND
    training = checkpoint.spec.training
    assert "simulated" in training["data"]
    assert min(training["seeds"]) >= FIRST_TRAINING_SEED > max(training["held_out_seeds"])


def test_weights_map_a_region_never_seen(checkpoint: Checkpoint) -> None:
    """On a seed used for neither training nor its record: accuracy 0.90, mean IoU 0.75 at least."""
    seed = 42
    assert seed < FIRST_HELD_OUT_SEED
    figures = score(checkpoint.network, [simulate_region(seed, varied=False)], checkpoint.spec)
    assert figures["overall_accuracy"] >= 0.90
    assert figures["mean_iou"] >= 0.75


def read_city(folder: Path) -> NDArray[np.float32]:
    """A real top-of-atmosphere scene at 10 m: (bands, rows, cols) reflectance."""
    paths = [next(folder.glob(f"*_{band}.tif")) for band in SENTINEL2]
    with rasterio.open(paths[0]) as blue:
        place = {
            "crs": blue.crs,
            "transform": blue.transform,
            "width": blue.width,
            "height": blue.height,
        }
    layers = []
    for path in paths:
        with rasterio.open(path) as band, WarpedVRT(band, **place, resampling=1) as aligned:
            layers.append(aligned.read(1))
    return np.stack(layers).astype(np.float32) * np.float32(1e-4)


def shares(checkpoint: Checkpoint, image: NDArray[np.float32]) -> dict[str, float]:
    """Share of the image, cropped to whole units of 32 pixels, that is mapped as each class."""
    rows, cols = (n // 32 * 32 for n in image.shape[1:])
    mean, std = (
        torch.tensor(v).view(-1, 1, 1) for v in (checkpoint.spec.mean, checkpoint.spec.std)
    )
    with torch.inference_mode():
        pixels = (torch.from_numpy(image[:, :rows, :cols]) - mean) / std
        channel = checkpoint.network(pixels[None])[0].argmax(0)
    counts = torch.bincount(channel.flatten(), minlength=len(LEGEND)) / channel.numel()
    return dict(zip(LEGEND.names, counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("city", "expected"),
    [
        ("abudhabi", {"Water": (0, 0.02), "Tree cover": (0, 0.05), "Bare ground": (0.3, 0.95)}),
        ("bordeaux", {"Water": (0.05, 0.10), "Built-up": (0.55, 0.95)}),
        ("hongkong", {"Water": (0.20, 0.28), "Tree cover": (0.2, 0.55), "Built-up": (0.1, 0.4)}),
        ("nantes", {"Water": (0.06, 0.11), "Built-up": (0.5, 0.9)}),
        ("pisa", {"Water": (0.005, 0.04), "Built-up": (0.12, 0.45)}),
    ],
)
def test_the_default_weights_make_sense_of_real_cities(
    default: Checkpoint, shared_data: Path, city: str, expected: dict[str, tuple[float, float]]
) -> None:
    """Real scenes, Hong Kong and Nantes never trained on: water, city, forest and desert are there."""
    for date in ("imgs_1", "imgs_2"):
        found = shares(
            default, read_city(shared_data / "sentinel2_pairs_oscd/images" / city / date)
        )
        for name, (least, most) in expected.items():
            assert least <= found[name] <= most, (date, name, found)
