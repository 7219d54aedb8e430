"""Losses of segmentation networks, and weighted sums of them.

All take logits (n, classes, rows, cols) and target channels (n, rows, cols) int64, in which
IGNORED marks pixels without a label: they add nothing to a loss or its gradient. A batch without
any label gives 0, with a gradient of 0. Classes that a batch lacks are left out of the losses that
average over classes: their overlap is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from landcover.errors import SettingsError

IGNORED = -1
"""Target of a pixel without a label."""
BOUNDARY_REACH = 20.0
"""Pixels from a border at which the boundary loss stops growing."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Mean of -log p of the true class, weighted by class (classes,) if so told.

    smoothing: share of the truth spread over all classes (Szegedy et al. 2016).
    """
    if not (target != IGNORED).any():
        return logits.sum() * 0
    return functional.cross_entropy(
        logits, target, class_weights, ignore_index=IGNORED, label_smoothing=smoothing
    )


def set_cross_entropy(logits: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """Mean of -log of the summed p of the classes that a pixel may be (Jin & Ghahramani 2002, eq. 4).

    sets: (n, rows, cols) integers; bit k is set where channel k is possible; 0 says nothing. Each
    kind of set weighs as the square root of its pixels, so that a rare one is heard and a
    tiny one does not shout.
    """
    known = sets > 0
    if not known.any():
        return logits.sum() * 0
    scores, kinds = logits.movedim(1, -1)[known], sets[known].long()
    possible = (kinds[:, None] >> torch.arange(logits.shape[1], device=kinds.device)) & 1
    shares = scores.masked_fill(possible == 0, -torch.inf).logsumexp(1) - scores.logsumexp(1)
    weights = kinds.bincount().to(shares.dtype).rsqrt()[kinds]
    return -(weights * shares).sum() / weights.sum()


def focal(
    logits: torch.Tensor,
    target: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    gamma: float = 2.0,
) -> torch.Tensor:
    """Mean of -(1 - p)^gamma log p of the true class (Lin et al. 2017, equation 4)."""
    scores, truth = _labelled(logits, target)
    if not len(truth):
        return logits.sum() * 0
    log_p = scores.log_softmax(1).gather(1, truth[:, None])[:, 0]
    weight = (1 - log_p.exp()) ** gamma
    if class_weights is not None:
        weight = weight * class_weights[truth] / class_weights[truth].mean()
    return -(weight * log_p).mean()


def dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - 2 |P T| / (|P| + |T|), soft, mean over classes (Milletari et al. 2016)."""
    return tversky(logits, target, alpha=0.5, beta=0.5)


def jaccard(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - |P T| / |P or T|, soft, mean over classes (Rahman & Wang 2016)."""
    return tversky(logits, target, alpha=1.0, beta=1.0)


def tversky(
    logits: torch.Tensor, target: torch.Tensor, alpha: float = 0.3, beta: float = 0.7
) -> torch.Tensor:
    """1 - TP / (TP + alpha FP + beta FN), soft, mean over classes (Salehi et al. 2017, equation 3).

    beta above alpha punishes what is missed more than what is wrongly found.
    """
    scores, truth = _labelled(logits, target)
    if not len(truth):
        return logits.sum() * 0
    shares = scores.softmax(1)
    right = functional.one_hot(truth, logits.shape[1]).to(shares.dtype)
    present = right.any(0)
    both, mapped, reference = (pixels.sum(0)[present] for pixels in (shares * right, shares, right))
    index = both / (both + alpha * (mapped - both) + beta * (reference - both))
    return (1 - index).mean()


def lovasz(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Lovasz extension of the Jaccard loss, mean over classes (Berman et al. 2018, algorithm 1).

    Pixels of the whole batch are taken together.
    """
    scores, truth = _labelled(logits, target)
    if not len(truth):
        return logits.sum() * 0
    shares = scores.softmax(1)
    parts = []
    for channel in truth.bincount().nonzero()[:, 0].tolist():
        right = (truth == channel).to(shares.dtype)
        errors, order = (right - shares[:, channel]).abs().sort(descending=True, stable=True)
        parts.append(errors @ _lovasz_gradient(right[order]))
    return torch.stack(parts).mean()


def _lovasz_gradient(right: torch.Tensor) -> torch.Tensor:
    """By how much the Jaccard loss grows with each further error, errors sorted from the largest."""
    total = right.sum()
    still = total - right.cumsum(0)
    either = total + (1 - right).cumsum(0)
    losses = 1 - still / either
    return torch.cat([losses[:1], losses[1:] - losses[:-1]])


def boundary(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over pixels of sum_k phi_k p_k (Kervadec et al. 2019, equation 5, for many classes).

    phi_k is the distance to the border of class k, negative inside it. Unlike the source's it is
    cut at BOUNDARY_REACH pixels and divided by it, so that it runs from -1 to 1 and far pixels do
    not outweigh the border; a class that a chip lacks has 1 everywhere. Distances are exact and
    taken on the CPU.
    """
    known = target != IGNORED
    if not known.any():
        return logits.sum() * 0
    channels = target.cpu().numpy()
    phi = np.stack([signed_distances(chip, logits.shape[1]) for chip in channels])
    shares = logits.softmax(1)
    at_pixel = (shares * torch.from_numpy(phi).to(shares)).sum(1)
    return at_pixel[known].mean()


def signed_distances(channels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """How far each pixel is from the border of each class, (classes, rows, cols), -1 to 1.

    channels: (rows, cols), IGNORED where not known. In units of BOUNDARY_REACH; negative inside.
    From a pixel to the nearest one that is known to be inside, or else outside, less half a pixel.
    """
    phi = np.ones((classes, *channels.shape), np.float32)
    for channel in set(np.unique(channels).tolist()) - {IGNORED}:
        inside, outside = channels == channel, (channels != channel) & (channels != IGNORED)
        out = _distance_to(inside)
        into = _distance_to(outside)
        signed = np.where(inside, 0.5 - into, out - 0.5)
        phi[channel] = np.clip(signed / BOUNDARY_REACH, -1, 1)
    return phi


def _distance_to(these: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not these.any():
        return np.full(these.shape, np.inf)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~these)
    return distance


def distillation(
    logits: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, temperature: float
) -> torch.Tensor:
    """T^2 KL(teacher / T || student / T), mean over valid pixels (Hinton et al. 2015).

    teacher: logits as the student's. valid: (n, rows, cols) bool; labels are not needed.
    """
    if not valid.any():
        return logits.sum() * 0
    ours, theirs = (
        (x.float() / temperature).log_softmax(1).movedim(1, -1)[valid] for x in (logits, teacher)
    )
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


LOSSES: Mapping[str, Callable[..., torch.Tensor]] = {
    "cross-entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "tversky": tversky,
    "boundary": boundary,
}
"""Losses by name."""
SETTINGS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "cross-entropy": {"smoothing": (0, 0.5)},
    "focal": {"gamma": (1, 10)},
    "tversky": {"alpha": (0.01, 10), "beta": (0.01, 10)},
}
"""Numbers that may be set about a loss: name -> (least, most)."""
WEIGHTED = ("cross-entropy", "focal")
"""Losses that take class weights."""


def sum_of_losses(
    terms: Sequence[tuple[str, float, Mapping[str, float]]],
    class_weights: torch.Tensor | None = None,
) -> Loss:
    """A weighted sum: terms are (name, weight, settings).

    class_weights: (classes,), given to the losses of WEIGHTED. Logits are taken as float32.
    Raises SettingsError for names, weights and settings that do not exist.
    """
    if not terms:
        raise SettingsError(f"There is no loss; give one or more of {', '.join(LOSSES)}.")
    for name, weight, settings in terms:
        check_loss(name, weight, settings)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        numbers = logits.float()
        total = numbers.new_zeros(())
        for name, weight, settings in terms:
            given: dict[str, Any] = dict(settings)
            if name in WEIGHTED and class_weights is not None:
                given["class_weights"] = class_weights.to(numbers.device)
            total = total + weight * LOSSES[name](numbers, target, **given)
        return total

    return loss


def check_loss(name: str, weight: float, settings: Mapping[str, float]) -> None:
    """Raise SettingsError where a term of a sum cannot be."""
    if name not in LOSSES:
        raise SettingsError(f"The loss '{name}' is not known; choose of {', '.join(LOSSES)}.")
    if not 0 < weight < float("inf"):
        raise SettingsError(f"The loss {name} has the weight {weight}; it must be above 0.")
    allowed = SETTINGS.get(name, {})
    for setting, value in settings.items():
        if setting not in allowed:
            raise SettingsError(
                f"The loss {name} has no setting '{setting}'; it has {', '.join(allowed) or 'none'}."
            )
        least, most = allowed[setting]
        if not least <= value <= most:
            raise SettingsError(
                f"The setting {setting} of the loss {name} is {value}; it must be {least:g} to {most:g}."
            )


def balanced_weights(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Class weights N / (K n_k), so that every class that occurs weighs the same in a sum.

    counts: labelled pixels of each class (King & Zeng 2001). A class without any has weight 1.
    """
    present = counts > 0
    weights = np.ones(counts.shape, np.float64)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.astype(np.float32)


def _labelled(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (pixels, classes) and targets (pixels,) of the pixels that have a label."""
    known = target != IGNORED
    return logits.movedim(1, -1)[known], target[known]
