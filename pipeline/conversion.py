"""Networks converted for OpenVINO by a process of its own, so that the one that makes the map needs no torch.

torch and the libraries of architectures take 650 MB as long as a process lives; to convert takes seconds.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landcover import errors
from landcover.errors import LandcoverError, SettingsError
from landcover.models import Checkpoint, load_checkpoint
from landcover.openvino_runtime import convert
from landcover.runtime import window_shape
from landcover.runtimes import open_runtime
from pipeline.runtime_choice import labels_of

_SAMPLE, _LABELS, _ERROR = "sample.npy", "labels.npy", "error.json"


def converted(folder: Path, number: int) -> Path:
    """Where the network of the model of this number is, as OpenVINO's .xml with its .bin."""
    return folder / f"model-{number}.xml"


def convert_models(
    folder: Path, models: Sequence[Path], tile: int, sample: NDArray[np.float32]
) -> None:
    """Convert the networks of checkpoints into a folder, for one size of tile, in another process.

    sample: windows (n, rows, cols, bands), normalised as the first model wants them, kept in the folder
    (`sample_of`); it labels them exactly, in float32 by torch (`exact_labels`). Raises CheckpointError or SettingsError where a
    checkpoint cannot be read or converted.
    """
    np.save(folder / _SAMPLE, sample)
    command = [sys.executable, "-m", __name__, str(folder), str(tile), *map(str, models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if (folder / _ERROR).exists():
        name, message = json.loads((folder / _ERROR).read_text(encoding="utf-8"))
        raise getattr(errors, name)(message)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise SettingsError(
            f"The model could not be converted for OpenVINO ({said[:200]}); choose the runtime torch-fp32."
        )


def sample_of(folder: Path) -> NDArray[np.float32]:
    """The windows that the first model labelled, (n, rows, cols, bands)."""
    sample: NDArray[np.float32] = np.load(folder / _SAMPLE)
    return sample


def exact_labels(folder: Path) -> NDArray[np.intp]:
    """Index of the likeliest class of the sample by the first model in float32, (n, rows, cols)."""
    labels: NDArray[np.intp] = np.load(folder / _LABELS)
    return labels


def main(folder: Path, tile: int, models: Sequence[Path]) -> None:
    """Convert, in the process of its own; what is wrong with a model is written to a file."""
    try:
        checkpoints = [load_checkpoint(path) for path in models]
        for number, checkpoint in enumerate(checkpoints):
            _convert(checkpoint, tile, converted(folder, number))
        sample = np.load(folder / _SAMPLE)
        labels = np.zeros(sample.shape[:3], np.intp)
        if len(sample):
            with open_runtime(checkpoints[0].at_tile(tile), "torch-fp32", "cpu") as exact:
                labels = labels_of(exact, sample)
        np.save(folder / _LABELS, labels)
    except LandcoverError as error:
        text = json.dumps([type(error).__name__, str(error)])
        (folder / _ERROR).write_text(text, encoding="utf-8")
        sys.exit(1)


def _convert(checkpoint: Checkpoint, tile: int, path: Path) -> None:
    import openvino

    shape = window_shape(checkpoint.at_tile(tile), 1)
    try:
        model = convert(checkpoint.network, shape)
        openvino.save_model(model, path, compress_to_fp16=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(
            f"OpenVINO cannot run this model ({reason}); choose the runtime torch-fp32."
        ) from error


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
