"""Photometric augmentation of a batch on its device. Every photo gets its own random draw.

The operations are torchvision's (ColorJitter, grey, Gaussian blur, solarise) with parameters for each photo.
Random numbers come from a CPU generator: no device waits for them, and the draw is the same on every device.
Letters: B images, H W pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.config import ViewsConfig

LUMA = (0.2989, 0.587, 0.114)
BLUR_RADIUS = 6  # three times the largest sigma of the paper


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random draw for the colours of each image of a batch. Tensors are on the CPU and have B entries."""

    jittered: Tensor
    """Whether brightness, contrast, saturation and hue change, boolean, ``(B,)``."""
    amounts: Tensor
    """Amounts of these four changes, ``(B, 4)``, as in ``color_jitter``."""
    order: Tensor
    """Numbers of the four changes in the order in which they are made, ``(B, 4)``."""
    gray: Tensor
    """Whether the image turns grey, boolean, ``(B,)``."""
    blurred: Tensor
    """Whether the image is blurred, boolean, ``(B,)``."""
    sigma: Tensor
    """Sigma of the Gaussian blur, in pixels, ``(B,)``."""
    solarized: Tensor
    """Whether the image is solarised, boolean, ``(B,)``."""
    blur_radius: int
    """Radius of the kernel of the blur, in pixels."""

    def __getitem__(self, part: slice) -> "Augmentation":
        """Draw for some of the images."""
        fields: dict[str, Any] = {name: value[part] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **fields)


def seed_of(*parts: int) -> int:
    """A seed for torch made of several numbers; zeros at the end change nothing."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1


def draw_augmentation(number: int, view: int, config: ViewsConfig, generator: torch.Generator) -> Augmentation:
    """Draw the augmentation of view 0 or 1 of ``number`` images. All randomness comes from the generator."""
    jittered = _chosen(number, config.jitter, generator)
    amounts, order = draw_jitter(number, config, generator)
    gray = _chosen(number, config.gray, generator)
    sigma = _uniform(number, *config.blur_sigma, generator) if config.blur[view] else torch.ones(number)
    return Augmentation(
        jittered=jittered,
        amounts=amounts,
        order=order,
        gray=gray,
        sigma=sigma,
        blurred=_chosen(number, config.blur[view], generator),
        solarized=_chosen(number, config.solarize[view], generator),
        blur_radius=max(BLUR_RADIUS, math.ceil(3 * config.blur_sigma[1])),
    )


def augment(views: Tensor, drawn: Augmentation) -> Tensor:
    """Jitter, grey, blur and solarise a batch.

    Args:
        views: RGB images, uint8, ``(B, 3, H, W)``.
        drawn: Random draw for each of the B images.

    Returns:
        RGB images in [0, 1], float32, ``(B, 3, H, W)``.
    """
    images = views.float().div_(255)
    _replace(images, drawn.jittered.nonzero()[:, 0], color_jitter, drawn.amounts, drawn.order)
    _replace(images, drawn.gray.nonzero()[:, 0], grayscale)
    _replace(images, drawn.blurred.nonzero()[:, 0], partial(gaussian_blur, radius=drawn.blur_radius), drawn.sigma)
    _replace(images, drawn.solarized.nonzero()[:, 0], solarize)
    return images


def draw_jitter(number: int, config: ViewsConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw ``amounts`` and ``order`` of ``color_jitter`` for ``number`` images."""
    ranges = (config.brightness, config.contrast, config.saturation)
    factors = [_uniform(number, 1 - r, 1 + r, generator) for r in ranges]
    turn = _uniform(number, -config.hue, config.hue, generator)
    order = torch.rand(number, 4, generator=generator).argsort(dim=1)
    return torch.stack([*factors, turn], dim=1), order


def color_jitter(images: Tensor, amounts: Tensor, order: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in its own order.

    Args:
        images: RGB images in [0, 1], ``(B, 3, H, W)``.
        amounts: Factors of brightness, contrast and saturation, 1 for no change, and the turn of
            the hue in full circles, ``(B, 4)``.
        order: Numbers of the four changes in the order in which they are made, ``(B, 4)``. They are on the CPU, so
            that no device is waited for.
    """
    operations = (_brightness, _contrast, _saturation, turn_hue)
    images = images.clone()
    for position in range(4):
        for number, operation in enumerate(operations):
            _replace(images, (order[:, position] == number).nonzero()[:, 0], operation, amounts[:, number])
    return images


def grayscale(images: Tensor) -> Tensor:
    """Luma of RGB images: ``(B, 3, H, W)`` becomes ``(B, 1, H, W)``."""
    r, g, b = images.unbind(1)
    return (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b)[:, None]


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of RGB images, ``(B, 3, H, W)``, by ``turn`` full circles, ``(B,)``, in HSV."""
    r, g, b = images.unbind(1)
    low, value = images.amin(dim=1), images.amax(dim=1)
    chroma = value - low
    unless_red = torch.where(value == g, (b - r).add_(chroma, alpha=2), (r - g).add_(chroma, alpha=4))
    hue = torch.where(value == r, g - b, unless_red).div_(chroma.clamp(min=1e-12))  # in sixths of the circle
    hue = hue.add_(6 * _per_image(turn, images)[:, 0])
    primaries = 2 * torch.arange(3.0, device=images.device)[:, None, None]
    away = hue[:, None] - primaries
    away = away.sub_((away / 6).round_(), alpha=6).abs_()
    return torch.addcmul(low[:, None], chroma[:, None], away.neg_().add_(2).clamp_(0, 1))


def solarize(images: Tensor) -> Tensor:
    """Invert the values from 128 of 255 on."""
    return torch.where(images >= 128 / 255, 1 - images, images)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int = BLUR_RADIUS) -> Tensor:
    """Blur each image with a Gaussian of its own ``sigma``, ``(B,)``, in pixels. Borders are mirrored."""
    size = images.shape[2:]
    radius = min(radius, min(size) - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    exponents = -0.5 * (offsets / _on(images.device, sigma)[:, None]) ** 2
    kernel = torch.exp(exponents.clamp(min=-30))  # smaller ones would make denormal numbers, which are slow
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)[:, None]
    rows = F.pad(images.flatten(0, 1)[None], (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(rows, kernel[:, :, None], groups=len(kernel))
    return F.conv2d(rows, kernel[:, :, :, None], groups=len(kernel)).view_as(images).clamp_(max=1)  # past 1 by rounding


def normalize(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Subtract ``mean`` and divide by ``std``, both for RGB in [0, 1]."""
    shape = (1, 3, 1, 1)
    center, scale = (_on(images.device, torch.tensor(values)).view(shape) for values in (mean, std))
    return (images - center) / scale


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, images.new_zeros(()), factor)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, grayscale(images).mean(dim=(2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, grayscale(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, _per_image(factor, images)).clamp_(0, 1)


def _per_image(parameter: Tensor, images: Tensor) -> Tensor:
    return _on(images.device, parameter)[:, None, None, None]


def _on(device: torch.device, small: Tensor) -> Tensor:
    """Copy a few numbers to a device without waiting for it."""
    return small.to(device, non_blocking=True)


def _replace(images: Tensor, rows: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Replace the images ``rows`` by what ``operation`` makes of them and their parameters."""
    if len(rows):
        index = _on(images.device, rows)
        images[index] = operation(images[index], *(p[rows] for p in parameters))


def _chosen(number: int, probability: float, generator: torch.Generator) -> Tensor:
    if not probability:
        return torch.zeros(number, dtype=torch.bool)
    return torch.rand(number, generator=generator) < probability


def _uniform(number: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(number, generator=generator)
