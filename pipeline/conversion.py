"""Networks converted for OpenVINO by a process of its own, so that the one that makes the map needs no torch.

torch and the libraries of architectures take 650 MB as long as a process lives; to convert takes seconds.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landcover import errors
from landcover.checkpoint import Checkpoint
from landcover.checkpoint_file import describe_checkpoint, load_checkpoint
from landcover.errors import LandcoverError, RasterError, SettingsError
from landcover.openvino_runtime import convert
from landcover.runtime import window_shape
from landcover.runtimes import open_runtime
from pipeline.runtime_choice import labels_of
from pipeline.tile_file import disk_errors

_ROOT = Path(__file__).parents[1]
_SAMPLE, _LABELS, _ERROR = "sample.npy", "labels.npy", "error.json"


def convert_models(
    folder: Path, models: Sequence[Path], tile: int, sample: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Convert the networks of checkpoints into an empty folder, for one size of tile, in another process.

    sample: windows (n, rows, cols, bands), normalised as the first model wants them. Returns how that
    model labels them exactly, in float32 by torch: index of the likeliest class, (n, rows, cols).
    Raises CheckpointError or SettingsError where a checkpoint cannot be read or converted, RasterError
    where the disk fails.
    """
    with disk_errors(folder):
        np.save(folder / _SAMPLE, sample)
    said, ended = _run(folder, tile, models)
    if (folder / _ERROR).exists():
        name, message = json.loads((folder / _ERROR).read_text(encoding="utf-8"))
        raise getattr(errors, name)(message)
    if ended or not (folder / _LABELS).exists():
        last = (said.strip().splitlines() or [f"it ended with {ended}"])[-1]
        raise SettingsError(
            f"The model could not be converted for OpenVINO ({last[:200]}); choose the runtime torch-fp32."
        )
    labels: NDArray[np.intp] = np.load(folder / _LABELS)
    for name in (_SAMPLE, _LABELS):
        (folder / name).unlink()
    return labels


def save_converted(checkpoints: Sequence[Checkpoint], tile: int, folder: Path) -> None:
    """Convert networks at hand into a folder; raises as `convert_models` does."""
    for number, checkpoint in enumerate(checkpoints):
        shape = window_shape(checkpoint.at_tile(tile), 1)
        try:
            model = convert(checkpoint.network, shape)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingsError(
                f"OpenVINO cannot run this model ({reason}); choose the runtime torch-fp32."
            ) from error
        import openvino

        try:
            openvino.save_model(model, _place(folder, number), compress_to_fp16=False)
        except RuntimeError as error:
            raise RasterError(
                f"The converted model could not be written to {folder}: is the disk full?"
            ) from error


def converted_checkpoints(models: Sequence[Path], folder: Path) -> list[Checkpoint]:
    """Checkpoints whose networks are run from their copies in a folder."""
    return [describe_checkpoint(path, _place(folder, n)) for n, path in enumerate(models)]


def _place(folder: Path, number: int) -> Path:
    return folder / f"model-{number}.xml"


def _run(folder: Path, tile: int, models: Sequence[Path]) -> tuple[str, int]:
    """Have this module run as a program; what it printed of errors, and how it ended.

    It holds the end of a pipe that closes when this process is gone, however that happens.
    """
    command = [sys.executable, "-P", "-m", "pipeline.conversion", str(folder), str(tile)]
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(  # noqa: S603 - our own module
        [*command, *(str(path.absolute()) for path in models)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    ) as process:  # fmt: skip
        said = process.stderr.read() if process.stderr else ""
        return said, process.wait()


def main(folder: Path, tile: int, models: Sequence[Path]) -> None:
    """Convert, in the process of its own; what is wrong with a model is written to a file."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        checkpoints = [load_checkpoint(path) for path in models]
        save_converted(checkpoints, tile, folder)
        sample = np.load(folder / _SAMPLE)
        labels = np.zeros(sample.shape[:3], np.intp)
        if len(sample):
            with open_runtime(checkpoints[0].at_tile(tile), "torch-fp32", "cpu") as exact:
                labels = labels_of(exact, sample)
        with disk_errors(folder):
            np.save(folder / _LABELS, labels)
    except LandcoverError as error:
        text = json.dumps([type(error).__name__, str(error)])
        (folder / _ERROR).write_text(text, encoding="utf-8")
        sys.exit(1)


def _end_with_parent() -> None:
    sys.stdin.read()  # nothing ever comes
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
