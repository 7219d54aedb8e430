"""Augmentation made for images of the Earth: symmetric, at any scale, through any air.

All works on batches: images (n, bands, rows, cols) float32 reflectance, 0 where there is no data;
targets (n, rows, cols) int64, -1 where not labelled; valid (n, rows, cols) bool. Every draw comes
from the generator given, on the CPU: equal generators give equal batches. Labels are only ever
moved to the nearest pixel; what comes from outside the image is not valid and not labelled.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from landcover.errors import SettingsError
from landcover.losses import IGNORED
from landcover.networks import STEP

WAVELENGTHS: Mapping[str, float] = {
    "coastal": 0.443, "blue": 0.49, "green": 0.56, "yellow": 0.60, "red": 0.665, "rededge": 0.705,
    "rededge071": 0.705, "rededge075": 0.74, "rededge078": 0.783, "nir": 0.842, "nir08": 0.865,
    "nir09": 0.945, "cirrus": 1.375, "swir16": 1.61, "swir22": 2.19,
}  # fmt: skip
"""Centre of a band, micrometres, by common name (Sentinel-2's)."""
_HAZE_BLUE = 0.1
"""Path reflectance that haze of strength 1 adds at 0.49 micrometres: a hazy day."""
_HAZE_SLOPE = 2.2
"""Haze grows with wavelength to the power of minus this: between air (4) and large drops (0)."""
_SKY_BLUE = 0.3
"""Share of the light at 0.49 micrometres that comes from the sky and not from the sun."""
_SKY_SLOPE = 1.8
_CELLS = 5
"""Side of the coarse grid of random numbers of which cloud shadows are made."""


class Batch(NamedTuple):
    """Chips on their way to a network."""

    images: torch.Tensor
    """(n, bands, rows, cols) float32 reflectance; 0 where not valid."""
    targets: torch.Tensor
    """(n, rows, cols) int64 channels, -1 where not labelled."""
    valid: torch.Tensor
    """(n, rows, cols) bool."""


@dataclass(frozen=True)
class Augmentation:
    """How much of what is done; 0 or empty leaves a thing out."""

    d4: bool = True
    """Flips and quarter turns: there is no up in an image from above."""
    scale: float = 1.25
    """Largest zoom in or out, of each chip on its own; 1 leaves it out."""
    scale_probability: float = 0.5
    wide: bool = False
    """Chips are cut larger, so that zooming out shows more ground and no blank rim."""
    gain: float = 0.05
    """Spread (one sigma, relative) of a gain of each band."""
    offset: float = 0.005
    """Spread (one sigma, reflectance) of an offset of each band."""
    exposure: float = 0.0
    """Spread (one sigma, relative) of a gain of all bands together."""
    gamma: float = 0.0
    """Spread (one sigma, relative) of an exponent of the values: how a photograph was developed."""
    saturation: float = 0.0
    """Spread (one sigma, relative) of the distance of each band from the grey of all bands."""
    blur: float = 0.0
    """Most blur: sigma of a Gaussian, pixels."""
    blur_probability: float = 0.5
    noise: float = 0.0
    """Most noise of single pixels (one sigma, reflectance)."""
    haze: float = 0.5
    """Most haze; 1 adds 0.1 of reflectance to blue."""
    haze_probability: float = 0.3
    shadow: float = 0.7
    """Most of the sun's light that a cloud takes away."""
    shadow_probability: float = 0.1
    band_dropout: float = 0.0
    """Probability that a band of a chip is taken away: it becomes its mean everywhere."""
    cutmix: float = 0.0
    """Probability that a rectangle of a chip comes from another one (Yun et al. 2019)."""
    multi_scale: tuple[float, ...] = ()
    """The whole batch is resized by one of these, to a multiple of 32."""

    def __post_init__(self) -> None:
        for name in ("scale_probability", "haze_probability", "shadow_probability", "shadow",
                     "band_dropout", "cutmix", "blur_probability"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(
                    f"The augmentation's {name} is {getattr(self, name)}; it must be 0 to 1."
                )
        for name in ("gain", "offset", "haze", "exposure", "gamma", "saturation", "noise"):
            if not 0 <= getattr(self, name) <= 2:
                raise SettingsError(
                    f"The augmentation's {name} is {getattr(self, name)}; it must be 0 to 2."
                )
        if not 0 <= self.blur <= 5:
            raise SettingsError(
                f"The augmentation's blur is {self.blur}; it must be 0 to 5 pixels."
            )
        if not 1 <= self.scale <= 4 or not all(0.25 <= s <= 4 for s in self.multi_scale):
            raise SettingsError(
                f"The augmentation's scale is {self.scale} and multi_scale {list(self.multi_scale)}; "
                "scale must be 1 to 4, and the others 0.25 to 4."
            )

    def cut(self, side: int) -> int:
        """Side of the chip to cut for one of `side` pixels."""
        return math.ceil(side * self.scale) if self.wide else side


def augment(
    batch: Batch,
    settings: Augmentation,
    generator: torch.Generator,
    bands: Sequence[str],
    mean: Sequence[float],
    side: int | None = None,
) -> Batch:
    """Do everything that the settings say to a batch.

    side: of the chips that come out, where they were cut larger (`Augmentation.cut`).
    bands: common names; bands of unknown wavelength see no haze and grey shadows. mean:
    reflectance per band, which stands in for a band that is taken away.
    """
    if settings.d4:
        batch = d4(batch, generator)
    if settings.scale > 1:
        batch = zoom(batch, settings.scale, settings.scale_probability, generator, side)
    images, valid = batch.images, batch.valid[:, None]
    if settings.blur:
        images = blur(images, valid, settings.blur, settings.blur_probability, generator)
    images = development(images, settings.exposure, settings.gamma, settings.saturation, generator)
    images = calibration(images, settings.gain, settings.offset, generator)
    images = haze(images, bands, settings.haze, settings.haze_probability, generator)
    images = shadow(images, bands, settings.shadow, settings.shadow_probability, generator)
    if settings.noise:
        images = noise(images, settings.noise, generator)
    images = drop_bands(images, mean, settings.band_dropout, generator)
    batch = batch._replace(images=torch.where(valid, images, 0))
    if settings.cutmix:
        batch = cutmix(batch, settings.cutmix, generator)
    if settings.multi_scale:
        batch = multi_scale(batch, settings.multi_scale, generator)
    return batch


# --- geometry


def d4(batch: Batch, generator: torch.Generator) -> Batch:
    """Turn each chip by a multiple of 90 degrees, and mirror every other one."""
    draws = torch.randint(8, (len(batch.images),), generator=generator).tolist()

    def turn(values: torch.Tensor, draw: int) -> torch.Tensor:
        turned = torch.rot90(values, draw % 4, (-2, -1))
        return turned.flip(-1) if draw >= 4 else turned

    return Batch(*(_each(values, draws, turn) for values in batch))


def _each(
    values: torch.Tensor, draws: Sequence[int], turn: Callable[[torch.Tensor, int], torch.Tensor]
) -> torch.Tensor:
    return torch.stack([turn(chip, draw) for chip, draw in zip(values, draws, strict=True)])


def zoom(
    batch: Batch,
    most: float,
    probability: float,
    generator: torch.Generator,
    side: int | None = None,
) -> Batch:
    """Zoom each chip in or out by up to `most`, about a random point of it.

    side: of the chips that come out, as it was when left out. Of a larger chip a part is shown.
    """
    n, rows, cols = batch.targets.shape
    height, width = side or rows, side or cols
    factor = torch.exp((_uniform(n, generator) * 2 - 1) * math.log(most))
    centre = _uniform((n, 2), generator) * 2 - 1
    factor = torch.where(_uniform(n, generator) < probability, factor, 1)
    shown = torch.tensor([width / cols, height / rows]) / factor[:, None]
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = shown[:, 0], shown[:, 1]
    theta[:, :, 2] = centre * (1 - shown)  # the point itself stays where it is
    size = [n, batch.images.shape[1], height, width]
    return _sample(batch, functional.affine_grid(theta, size, align_corners=False))


def _sample(batch: Batch, grid: torch.Tensor) -> Batch:
    """Images bilinear, of valid pixels alone; labels nearest; beyond the border nothing."""
    images, targets, valid = batch
    seen = valid[:, None].float()
    values = functional.grid_sample(images * seen, grid, align_corners=False)
    share = functional.grid_sample(seen, grid, align_corners=False)
    # Shifted by one so that what is outside, 0, means not labelled.
    labels = functional.grid_sample(
        (targets[:, None] + 1).float(), grid, mode="nearest", align_corners=False
    )
    kept = share[:, 0] > 0.5
    values = torch.where(kept[:, None], values / share.clamp(min=0.5), 0)
    moved = labels[:, 0].round().long() - 1
    return Batch(values, torch.where(kept, moved, IGNORED), kept)


def multi_scale(batch: Batch, factors: Sequence[float], generator: torch.Generator) -> Batch:
    """Resize the whole batch by one of the factors, to a multiple of 32."""
    factor = factors[int(torch.randint(len(factors), (), generator=generator))]
    rows, cols = (max(STEP, round(side * factor / STEP) * STEP) for side in batch.targets.shape[1:])
    if (rows, cols) == tuple(batch.targets.shape[1:]):
        return batch
    theta = torch.eye(2, 3).expand(len(batch.images), 2, 3)
    size = [len(batch.images), batch.images.shape[1], rows, cols]
    return _sample(batch, functional.affine_grid(theta, size, align_corners=False))


def cutmix(batch: Batch, probability: float, generator: torch.Generator) -> Batch:
    """Replace a rectangle of some chips by that of the next chip, image and labels alike.

    Its area is uniform in 0 to 1 of the chip's (Yun et al. 2019, section 3.1, with alpha = 1).
    """
    n, rows, cols = batch.targets.shape
    share = _uniform(n, generator).sqrt()
    hit = _uniform(n, generator) < probability
    corner = _uniform((n, 2), generator)
    y, x = torch.arange(rows)[None, :, None], torch.arange(cols)[None, None]
    top, left = (
        (corner[:, i] * (1 - share) * side)[:, None, None] for i, side in enumerate((rows, cols))
    )
    tall, wide = ((share * side)[:, None, None] for side in (rows, cols))
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
    inside &= hit[:, None, None]
    return Batch(
        torch.where(inside[:, None], batch.images.roll(1, 0), batch.images),
        torch.where(inside, batch.targets.roll(1, 0), batch.targets),
        torch.where(inside, batch.valid.roll(1, 0), batch.valid),
    )


# --- light


def calibration(
    images: torch.Tensor, gain: float, offset: float, generator: torch.Generator
) -> torch.Tensor:
    """Multiply each band of each chip by exp(gain z), and add offset z to it, z normal."""
    shape = (*images.shape[:2], 1, 1)
    factors = torch.exp(gain * torch.randn(shape, generator=generator))
    return images * factors + offset * torch.randn(shape, generator=generator)


def development(
    images: torch.Tensor,
    exposure: float,
    gamma: float,
    saturation: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Develop each chip as another photograph: brighter or darker, steeper, with more colour or less.

    grey + s (x - grey), times a gain, to the power of g; s, gain and g are exp(spread z), z normal.
    A spread of 0 draws nothing.
    """

    def drawn(spread: float) -> torch.Tensor:
        return torch.exp(spread * torch.randn((len(images), 1, 1, 1), generator=generator))

    if saturation:
        grey = images.mean(1, keepdim=True)
        images = grey + drawn(saturation) * (images - grey)
    if exposure:
        images = images * drawn(exposure)
    # Below 0 there is no power; a small number in place of 0 keeps the answer finite.
    return images.clamp(min=1e-6) ** drawn(gamma) if gamma else images


def blur(
    images: torch.Tensor,
    valid: torch.Tensor,
    most: float,
    probability: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Blur some chips by a Gaussian of up to `most` pixels; what is not valid takes no part.

    valid: (n, 1, rows, cols) bool.
    """
    sigma = _strength(images, most, probability, generator).clamp(min=0.05)
    reach = math.ceil(3 * most)
    at = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-((at / sigma[..., 0]) ** 2) / 2)
    kernel = kernel / kernel.sum(-1, keepdim=True)  # (n, 1, taps)
    seen = valid.float()
    share = _smeared(seen, kernel)
    return torch.where(valid, _smeared(images * seen, kernel) / share.clamp(min=1e-6), images)


def _smeared(values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Each chip under its own kernel, (n, 1, taps), along rows and then along columns."""
    n, bands, rows, cols = values.shape
    each = kernel.expand(n, bands, -1).reshape(n * bands, 1, 1, -1)
    flat, taps = values.reshape(1, n * bands, rows, cols), kernel.shape[-1]
    for weight, padding in (
        (each, (0, taps // 2)),
        (each.mT.reshape(-1, 1, taps, 1), (taps // 2, 0)),
    ):
        flat = functional.conv2d(flat, weight, padding=padding, groups=n * bands)
    return flat.reshape(values.shape)


def noise(images: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """Add noise of single pixels, of another strength up to `most` in each chip."""
    strength = _strength(images, most, 1.0, generator)
    return images + strength * torch.randn(images.shape, generator=generator)


def haze(
    images: torch.Tensor,
    bands: Sequence[str],
    most: float,
    probability: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Put some chips under haze: it adds light, most in blue, and hides that much of the ground.

    seen = path + (1 - 2 path) ground: what the haze scatters up, it also takes from the light on
    its way down and up (single scattering, Kaufman & Sendra 1988, to first order).
    """
    path = haze_path(bands)[None, :, None, None] * _strength(images, most, probability, generator)
    return path + (1 - 2 * path) * images


def haze_path(bands: Sequence[str]) -> torch.Tensor:
    """Path reflectance of each band under haze of strength 1, (bands,); 0 where not known."""
    known = (WAVELENGTHS.get(band) for band in bands)
    return torch.tensor([_HAZE_BLUE * (w / 0.49) ** -_HAZE_SLOPE if w else 0.0 for w in known])


def shadow(
    images: torch.Tensor,
    bands: Sequence[str],
    most: float,
    probability: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Put parts of some chips into the shadow of clouds: the sun's light is gone, the sky's stays.

    So blue darkens least. The shadow's shape is smooth noise above a random level.
    """
    depth = _strength(images, most, probability, generator)
    noise = _uniform((len(images), 1, _CELLS, _CELLS), generator)
    level = 0.35 + 0.3 * _uniform((len(images), 1, 1, 1), generator)
    smooth = functional.interpolate(
        noise, images.shape[2:], mode="bicubic", align_corners=True
    )  # bicubic runs a little over 0 and 1, which the clamp takes back
    dark = ((smooth - level) * 8).clamp(0, 1) * depth
    sun = 1 - sky_share(bands)[None, :, None, None]
    return images * (1 - sun * dark)


def sky_share(bands: Sequence[str]) -> torch.Tensor:
    """Share of the light on the ground that comes from the sky, (bands,); 0 where not known."""
    known = (WAVELENGTHS.get(band) for band in bands)
    shares = [_SKY_BLUE * (w / 0.49) ** -_SKY_SLOPE if w else 0.0 for w in known]
    return torch.tensor(shares)


def drop_bands(
    images: torch.Tensor, mean: Sequence[float], probability: float, generator: torch.Generator
) -> torch.Tensor:
    """Replace bands of chips by their mean, which is 0 to the network; one band is always kept."""
    n, bands = images.shape[:2]
    gone = _uniform((n, bands), generator) < probability
    kept = torch.randint(bands, (n,), generator=generator)
    gone[torch.arange(n), kept] = False
    fill = torch.tensor(mean, dtype=images.dtype)[None, :, None, None]
    return torch.where(gone[:, :, None, None], fill, images)


def _strength(
    images: torch.Tensor, most: float, probability: float, generator: torch.Generator
) -> torch.Tensor:
    """Uniform in 0 to `most` for some chips, 0 for the others, (n, 1, 1, 1)."""
    n = len(images)
    strength = most * _uniform(n, generator)
    hit = _uniform(n, generator) < probability
    return (strength * hit)[:, None, None, None]


def _uniform(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator)
