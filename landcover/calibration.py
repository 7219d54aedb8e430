"""Calibration of a model's probabilities: one temperature, fitted on data it was not trained on."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from landcover.errors import CheckpointError

MAX_TEMPERATURE = 100.0
"""Temperatures are sought between 1 / MAX_TEMPERATURE and MAX_TEMPERATURE."""


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Temperature by which logits are divided so that their softmax is most likely.

    It minimises the mean negative log-likelihood (Guo et al. 2017, section 4.2), which has one
    minimum: it is convex in 1 / T. Where every label is the largest logit there is none, and the
    answer is near the lower bound. Labels never change, since the order of the logits does not.

    logits: (n, classes). labels: index of the true class, (n,).
    Raises CheckpointError for logits that are not finite, none at all, and labels outside them.
    """
    scores = np.asarray(logits, np.float64)
    truth = np.asarray(labels)
    if not scores.size or not np.isfinite(scores).all():
        raise CheckpointError("A temperature needs finite logits of at least one pixel.")
    if truth.shape != scores.shape[:1] or truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise CheckpointError(
            f"A temperature needs one label from 0 to {scores.shape[1] - 1} for each of the "
            f"{len(scores)} pixels."
        )
    right = scores[np.arange(len(scores)), truth]

    def loss(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        return float(np.mean(logsumexp(inverse * scores, axis=1) - inverse * right))

    limit = math.log(MAX_TEMPERATURE)
    best = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-6})
    return math.exp(best.x)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width (Guo et al. 2017, eq. 3).

    confidence: probability of the predicted class, 0 to 1, (n,). correct: whether it is the true
    one, (n,). A bin holds its upper border, the first also 0. Gives 0 to 1; NaN for no pixels.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if not sure.size:
        return math.nan
    bin_of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    # |B| / n x |accuracy - confidence| is |sum of correct - sum of confidence| / n.
    gap = np.bincount(bin_of, right - sure, bins)
    return float(np.abs(gap).sum() / sure.size)
