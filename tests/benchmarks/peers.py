"""One peer maps one image with the same model, tile and overlap, in a process of its own.

Run: PYTHONPATH=.peers python tests/benchmarks/peers.py PEER IMAGE OUTPUT --model NAME [--runtime R]
Each is called as its documentation shows, with its own defaults beyond tile, overlap and model:
  monai         sliding_window_inference over the whole image in memory
  terratorch    tiled_inference over the whole image in memory
  torchgeo      RasterDataset and GridGeoSampler; it leaves stitching to the user: logits averaged
  rastervision  sliding-window dataset, learner, smooth labels, saved as it saves them
  geoai         predict_geotiff
The clock runs from the trained network in memory to the class raster on disk, imports excluded.
Prints one line of JSON: seconds, peak_mb.
"""

import argparse
import importlib
import json
import sys
import time
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rasterio
import torch
from bench_segment import BIAS, CLASSES, GAIN, SPEC, checkpoint_of, peak_megabytes
from numpy.typing import NDArray
from torch import Tensor, nn

from landcover.runtime import Runtime, from_bfloat16, to_bfloat16
from landcover.runtimes import open_runtime

TILE, OVERLAP = SPEC.tile, SPEC.overlap
STRIDE = TILE - OVERLAP
BATCH = 4
"""Windows of a batch where a peer has no default."""


class Network(nn.Module):
    """The network as peers call it: stored values (n, bands, rows, cols) to logits, float32."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("gain", torch.from_numpy(GAIN)[:, None, None])
        self.register_buffer("bias", torch.from_numpy(BIAS)[:, None, None])

    def forward(self, values: Tensor) -> Tensor:
        """Normalise and predict."""
        return self.network(values.float() * self.gain + self.bias)


class OurRuntime:
    """Our runtime as a function of a batch: as many windows at a time as it has workers."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.pool = ThreadPoolExecutor(runtime.workers)

    def __call__(self, batch: Tensor) -> Tensor:
        """(n, bands, rows, cols) normalised to (n, classes, rows, cols) logits, float32."""
        windows = batch.permute(0, 2, 3, 1).contiguous()
        parts = windows.split(self.runtime.group)
        return torch.cat(list(self.pool.map(self._part, parts)))

    def _part(self, values: Tensor) -> Tensor:
        windows = self.runtime.new_windows()
        exact = windows.dtype == np.float32
        windows[: len(values)] = values.numpy() if exact else to_bfloat16(values.numpy())
        logits = self.runtime.logits(windows)[: len(values)]
        return torch.from_numpy(logits if exact else from_bfloat16(logits))


def read_image(path: Path) -> Tensor:
    """The whole image, (1, bands, rows, cols) float32."""
    with rasterio.open(path) as dataset:
        return torch.from_numpy(dataset.read(out_dtype="float32"))[None]


def write_classes(output: Path, image: Path, classes: NDArray[np.uint8]) -> None:
    """Write (rows, cols) class codes as a tiled, compressed GeoTIFF of the image's grid."""
    with rasterio.open(image) as source:
        profile = source.profile | {"count": 1, "dtype": "uint8", "compress": "zstd", "nodata": 0}
    profile.pop("predictor", None)
    with rasterio.open(output, "w", **profile) as dataset:
        dataset.write(classes, 1)


def codes_of(logits: Tensor) -> NDArray[np.uint8]:
    """Class codes (rows, cols) of logits (classes, rows, cols)."""
    return (logits.argmax(0) + 1).to(torch.uint8).numpy()


def _hollow(name: str) -> types.ModuleType:
    """Stand in for a package, so that a file of it can be imported without all the others."""
    top = name.split(".", maxsplit=1)[0]
    found = next((path for path in sys.path if (Path(path) / top).is_dir()), None)
    if found is None:
        raise ModuleNotFoundError(f"No module named '{top}'; run make bench-segment")
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(Path(found, *name.split(".")))]
    return sys.modules[name]


Run = Callable[[Network, Path, Path], None]
"""Maps an image with a network into a class raster."""


def monai() -> Run:
    """https://docs.monai.io/en/stable/inferers.html#sliding-window-inference-function."""
    from monai.inferers import sliding_window_inference

    def run(network: Network, image: Path, output: Path) -> None:
        with torch.no_grad():
            logits = sliding_window_inference(
                read_image(image), (TILE, TILE), BATCH, network, overlap=OVERLAP / TILE
            )
        write_classes(output, image, codes_of(logits[0]))

    return run


def terratorch() -> Run:
    """https://torchgeo.org/terratorch/stable/guide/inference: the function alone.

    The package as a whole asks for Python 3.12 by way of torchgeo; this file of it does not. Its
    only import from the rest is a name that it never uses.
    """
    for name in ("terratorch", "terratorch.tasks", "terratorch.models", "terratorch.models.utils"):
        _hollow(name)
    sys.modules["terratorch.models.utils"].pad_images = None
    tiled_inference = importlib.import_module("terratorch.tasks.tiled_inference").tiled_inference

    def run(network: Network, image: Path, output: Path) -> None:
        logits = tiled_inference(network, read_image(image), crop=TILE, stride=STRIDE)
        write_classes(output, image, codes_of(logits[0]))

    return run


def torchgeo() -> Run:
    """https://torchgeo.readthedocs.io/en/stable/tutorials: dataset, grid sampler, data loader."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    def run(network: Network, image: Path, output: Path) -> None:
        dataset = RasterDataset(image)
        sampler = GridGeoSampler(dataset, size=TILE, stride=STRIDE)
        loader = DataLoader(dataset, BATCH, sampler=sampler, collate_fn=stack_samples)
        with rasterio.open(image) as source:
            height, width, place = source.height, source.width, ~source.transform
        logits, hits = torch.zeros(CLASSES, height, width), torch.zeros(height, width)
        corners = (place * (x.start, y.stop) for x, y, _ in sampler)
        with torch.inference_mode():
            for batch in loader:
                for window in network(batch["image"]):
                    col, row = (round(n) for n in next(corners))
                    part = window[:, max(0, -row) : height - row, : width - col]
                    there = (..., slice(max(0, row), row + TILE), slice(col, col + TILE))
                    logits[there] += part
                    hits[there] += 1
            logits /= hits
            write_classes(output, image, codes_of(logits))

    return run


def rastervision() -> Run:
    """https://docs.rastervision.io/en/stable/usage/tutorials/pred_and_eval_ss.html."""
    from rastervision.core.data import ClassConfig, SemanticSegmentationLabels
    from rastervision.pytorch_learner import (
        SemanticSegmentationGeoDataConfig,
        SemanticSegmentationLearner,
        SemanticSegmentationLearnerConfig,
        SemanticSegmentationSlidingWindowGeoDataset,
        SolverConfig,
    )

    def run(network: Network, image: Path, output: Path) -> None:
        named = [f"class {k}" for k in range(1, CLASSES + 1)]
        classes = ClassConfig(names=named, null_class=named[0])
        data = SemanticSegmentationGeoDataConfig(class_config=classes, num_workers=0)
        learner = SemanticSegmentationLearner(
            SemanticSegmentationLearnerConfig(data=data, solver=SolverConfig(batch_sz=BATCH)),
            output_dir=str(output.parent / "rastervision"), model=network, training=False,
        )  # fmt: skip
        windows = SemanticSegmentationSlidingWindowGeoDataset.from_uris(
            image_uri=str(image), size=TILE, stride=STRIDE, normalize=False,
            image_raster_source_kw={"allow_streaming": True, "channel_order": [0, 1, 2, 3]},
        )  # fmt: skip
        found = learner.predict_dataset(windows, numpy_out=True, progress_bar=False)
        labels = SemanticSegmentationLabels.from_predictions(
            windows.windows, found, windows.scene.extent, CLASSES, smooth=True
        )
        labels.save(
            str(output.parent / "rastervision"), windows.scene.raster_source.crs_transformer,
            classes, smooth_output=False,
        )  # fmt: skip
        (output.parent / "rastervision" / "labels.tif").replace(output)

    return run


def geoai() -> Run:
    """https://opengeoai.org/inference; the maps and web viewers that `geoai.utils` loads stay out."""
    utils = _hollow("geoai.utils")
    utils.get_device = importlib.import_module("geoai.utils.device").get_device
    from geoai.inference import predict_geotiff

    def run(network: Network, image: Path, output: Path) -> None:
        predict_geotiff(
            network, str(image), str(output), TILE, OVERLAP, num_classes=CLASSES,
            output_dtype="uint8", output_nodata=0, preprocess_fn=lambda values: values,
            postprocess_fn=lambda logits: logits.argmax(0) + 1, verbose=False,
        )  # fmt: skip

    return run


PEERS = {f.__name__: f for f in (monai, terratorch, torchgeo, rastervision, geoai)}


def main() -> None:
    """Measure one peer once."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("image", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--runtime", help="one of ours; default is the plain torch network")
    options = parser.parse_args()
    run = PEERS[options.peer]()
    checkpoint = checkpoint_of(options.model)
    started = time.perf_counter()
    with ExitStack() as stack:
        network = checkpoint.network
        if options.runtime:
            network = OurRuntime(stack.enter_context(open_runtime(checkpoint, options.runtime)))
        run(Network(network).eval(), options.image, options.output)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
