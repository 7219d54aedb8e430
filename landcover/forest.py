"""A random forest that sees one pixel at a time: the baseline that a network has to beat."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from landcover.errors import SettingsError
from landcover.legend import NODATA


@dataclass(frozen=True)
class PixelForest:
    """A fitted random forest (Breiman 2001). It lives in memory only: its file would be a pickle."""

    trees: RandomForestClassifier
    bands: int

    @classmethod
    def fit(
        cls, pixels: NDArray[np.float32], codes: NDArray[np.uint8], trees: int = 100, seed: int = 0
    ) -> "PixelForest":
        """Fit to pixels (n, bands) and their class codes (n,).

        Classes weigh as they occur; balance them by what is given. Equal input and seed give an
        equal forest. Raises SettingsError where there is no pixel, or one of code 0.
        """
        if not len(codes) or (codes == NODATA).any():
            raise SettingsError(
                "A random forest needs one labelled pixel at least, and no pixel of code 0."
            )
        forest = RandomForestClassifier(trees, min_samples_leaf=2, random_state=seed, n_jobs=1)
        return cls(forest.fit(pixels, codes), pixels.shape[1])

    def predict(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Class codes (rows, cols) of an image (bands, rows, cols); 0 where it is not valid."""
        codes = np.zeros(valid.shape, np.uint8)
        if valid.any():
            codes[valid] = self.trees.predict(image[:, valid].T)
        return codes
