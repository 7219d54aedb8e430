"""How a model's labels bear what maps and sensors do to it: shifts, seams, brightness, scale."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landcover.metrics import ErrorMatrix
from landcover.rescaling import nearest, rescale
from pipeline.dataset import Dataset, TilePlace
from pipeline.evaluation_record import known
from pipeline.window_labeller import Seen, Window, WindowLabeller

SHIFTS = (1, 8, 32)
"""Pixels by which the tiles are laid otherwise, down and to the right."""
GAINS = (0.7, 0.85, 1.0, 1.15, 1.3)
"""Factors of the brightness of every band."""
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Factors of the number of pixels along a side: below 1 as a coarser sensor would see it."""

Codes = NDArray[np.uint8]


class DeploymentTests:
    """Measures a model on some windows, each shifted, brightened and rescaled.

    windows: the sample. context: pixels along the rim of a tile that a map does not take from it.
    """

    def __init__(
        self,
        dataset: Dataset,
        labeller: WindowLabeller,
        windows: Sequence[Window],
        bands: Sequence[int],
        context: int,
        codes: Sequence[int],
    ) -> None:
        self._dataset, self._labeller, self._windows = dataset, labeller, windows
        self._bands, self._context, self._codes = list(bands), context, tuple(codes)
        self._tile = labeller.spec.tile

    def all(self) -> dict[str, Any]:
        """Every test, as JSON values."""
        return {
            "windows": len(self._windows),
            "translation": [self.translation(shift) for shift in SHIFTS],
            "overlap": self.overlap(),
            "brightness": self._curve("gain", GAINS, self._brightened),
            "scale": self._curve("factor", SCALES, self._rescaled),
        }

    def translation(self, shift: int) -> dict[str, Any]:
        """Share of labels that stay when the tiles are laid so many pixels further (Zhang 2019).

        Compared are pixels that either way lie inside the rim that a map leaves out.
        """
        rim, tile = self._context, self._tile
        near = slice(rim, tile - rim - shift)
        far = slice(rim + shift, tile - rim)
        same = self._pairs((shift, shift), lambda a, b: (a[far, far], b[near, near]))
        return {"shift": shift, **same}

    def overlap(self) -> dict[str, Any] | None:
        """Share of labels on which two neighbouring tiles disagree where they overlap; None without overlap."""
        wide = self._labeller.spec.overlap
        if not wide:
            return None
        step = self._tile - wide
        found = [
            self._pairs((0, step), lambda a, b: (a[:, step:], b[:, :wide])),
            self._pairs((step, 0), lambda a, b: (a[step:], b[:wide])),
        ]
        pixels = sum(one["pixels"] for one in found)
        same = sum((one["same"] or 0) * one["pixels"] for one in found)
        return {
            "overlap": wide,
            "pixels": pixels,
            "disagree": known(1 - same / pixels) if pixels else None,
        }

    def _pairs(
        self, step: tuple[int, int], cut: Callable[[Codes, Codes], tuple[Codes, Codes]]
    ) -> dict[str, Any]:
        """Labels of tiles against those of tiles a step away, both wholly inside the image."""
        firsts, seconds = [], []
        for window in self._windows:
            height, width = self._dataset.shape(window.place.image)
            top = min(window.place.row, height - self._tile - step[0])
            left = min(window.place.col, width - self._tile - step[1])
            if top >= 0 and left >= 0:
                firsts.append(self._square(window.place, top, left, self._tile)[0])
                seconds.append(
                    self._square(window.place, top + step[0], left + step[1], self._tile)[0]
                )
        same = pixels = 0
        labels = zip(self._labeller.codes(firsts), self._labeller.codes(seconds), strict=True)
        for pair in labels:
            one, other = cut(*pair)
            valid = (one != 0) & (other != 0)
            pixels += int(valid.sum())
            same += int((one == other)[valid].sum())
        return {"pixels": pixels, "same": known(same / pixels) if pixels else None}

    def _curve(
        self,
        name: str,
        factors: Sequence[float],
        changed: Callable[[float], list[tuple[Codes, Codes]]],
    ) -> list[dict[str, Any]]:
        """Agreement with the reference, and with the labels of factor 1, for each factor."""
        plain = changed(1.0)
        rows = []
        for factor in factors:
            matrix, kept = ErrorMatrix.empty(self._codes), ErrorMatrix.empty(self._codes)
            pairs = plain if factor == 1 else changed(factor)
            for (mapped, reference), (before, _) in zip(pairs, plain, strict=True):
                matrix += ErrorMatrix.count(mapped, reference, self._codes)
                kept += ErrorMatrix.count(mapped, before, self._codes)
            rows.append(
                {
                    name: factor,
                    "overall_accuracy": known(matrix.overall_accuracy),
                    "mean_iou": known(matrix.mean_iou),
                    "same": known(kept.overall_accuracy),
                    "pixels": matrix.pixels,
                }
            )
        return rows

    def _brightened(self, gain: float) -> list[tuple[Codes, Codes]]:
        seen = [(window.image * np.float32(gain), window.valid) for window in self._windows]
        references = (np.where(w.blocks >= 0, w.codes, np.uint8(0)) for w in self._windows)
        return list(zip(self._labeller.codes(seen), references, strict=True))

    def _rescaled(self, factor: float) -> list[tuple[Codes, Codes]]:
        """Labels and codes of the middle of the windows, the same ground for every factor."""
        side = round(self._tile / factor)
        middle = int(self._tile / max(SCALES))
        seen, references = [], []
        cut = slice(side // 2 - middle // 2, side // 2 - middle // 2 + middle)
        for window in self._windows:
            half = window.place.side // 2
            top, left = window.place.row + half - side // 2, window.place.col + half - side // 2
            (image, valid), codes = self._square(window.place, top, left, side)
            seen.append((image, valid) if side == self._tile else rescale(image, valid, self._tile))
            references.append(codes[cut, cut])
        found = (nearest(codes, side)[cut, cut] for codes in self._labeller.codes(seen))
        return list(zip(found, references, strict=True))

    def _square(self, place: TilePlace, top: int, left: int, side: int) -> tuple[Seen, Codes]:
        chip = self._dataset.read(replace(place, row=top, col=left, side=side))
        return (np.ascontiguousarray(chip.image[self._bands]), chip.valid), chip.codes
