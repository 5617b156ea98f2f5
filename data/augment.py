"""Photometric augmentation of a batch on its device; every photo gets a random draw of its own.

The operations are torchvision's (ColorJitter, grey, Gaussian blur, solarise) with per-photo
parameters. Random numbers come from a CPU generator, so a device never has to wait for them and
the draw is the same on every device. Letters: B images, H W pixels.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.config import ViewsConfig

LUMA = (0.2989, 0.587, 0.114)
BLUR_RADIUS = 6  # three times the largest sigma of the paper


def augment(views: Tensor, view: int, config: ViewsConfig, generator: torch.Generator) -> Tensor:
    """Jitter, grey, blur and solarise one view of a batch.

    Args:
        views: uint8 RGB, ``(B, 3, H, W)``.
        view: 0 or 1, as the two views are blurred and solarised with different probabilities.
        config: Probabilities and ranges.
        generator: On the CPU; the only source of randomness.

    Returns:
        float32 RGB in [0, 1], ``(B, 3, H, W)``.
    """
    images = views.float().div_(255)
    number = len(views)
    _replace(images, _chosen(number, config.jitter, generator), color_jitter, *draw_jitter(number, config, generator))
    _replace(images, _chosen(number, config.gray, generator), grayscale)
    if config.blur[view]:
        sigma = _uniform(number, *config.blur_sigma, generator)
        blur = partial(gaussian_blur, radius=max(BLUR_RADIUS, math.ceil(3 * config.blur_sigma[1])))
        _replace(images, _chosen(number, config.blur[view], generator), blur, sigma)
    if config.solarize[view]:
        _replace(images, _chosen(number, config.solarize[view], generator), solarize)
    return images


def draw_jitter(number: int, config: ViewsConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw what ``color_jitter`` does to each of ``number`` images: ``amounts`` and ``order``."""
    ranges = (config.brightness, config.contrast, config.saturation)
    factors = [_uniform(number, 1 - r, 1 + r, generator) for r in ranges]
    turn = _uniform(number, -config.hue, config.hue, generator)
    order = torch.rand(number, 4, generator=generator).argsort(dim=1)
    return torch.stack([*factors, turn], dim=1), order


def color_jitter(images: Tensor, amounts: Tensor, order: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in an order of its own.

    Args:
        images: RGB in [0, 1], ``(B, 3, H, W)``.
        amounts: Factors of brightness, contrast and saturation, 1 for no change, and the turn of
            the hue in full circles, ``(B, 4)``.
        order: Which of the four comes first, second, ..., ``(B, 4)``; on the CPU, where nothing waits for it.
    """
    operations = (_brightness, _contrast, _saturation, turn_hue)
    images = images.clone()
    for position in range(4):
        for number, operation in enumerate(operations):
            _replace(images, (order[:, position] == number).nonzero()[:, 0], operation, amounts[:, number])
    return images


def grayscale(images: Tensor) -> Tensor:
    """Luma of RGB images, ``(B, 3, H, W)`` -> ``(B, 1, H, W)``."""
    r, g, b = images.unbind(1)
    return (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b)[:, None]


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of RGB images by ``turn`` (B,) full circles, in HSV."""
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    r, g, b = images.unbind(1)
    hue = torch.where(value == r, (g - b) / safe, torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    hue = hue + 6 * _per_image(turn, images)[:, 0]  # in sixths of the circle
    sector = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    k = sector + hue[:, None]
    k = k - 6 * torch.floor(k / 6)  # k % 6, which is slow on the CPU
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def solarize(images: Tensor) -> Tensor:
    """Invert the values from 128 of 255 on."""
    return torch.where(images >= 128 / 255, 1 - images, images)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int = BLUR_RADIUS) -> Tensor:
    """Blur each image with a Gaussian of its own ``sigma`` (B,) in pixels; borders are mirrored."""
    size = images.shape[2:]
    radius = min(radius, min(size) - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.to(images.device)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)[:, None]
    rows = F.pad(images.flatten(0, 1)[None], (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(rows, kernel[:, :, None], groups=len(kernel))
    return F.conv2d(rows, kernel[:, :, :, None], groups=len(kernel)).view_as(images).clamp_(max=1)  # past 1 by rounding


def normalize(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Subtract ``mean`` and divide by ``std``, both for RGB in [0, 1]."""
    shape = (1, 3, 1, 1)
    center = torch.tensor(mean, device=images.device).view(shape)
    return (images - center) / torch.tensor(std, device=images.device).view(shape)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, images.new_zeros(()), factor)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, grayscale(images).mean(dim=(2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, grayscale(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, _per_image(factor, images)).clamp(0, 1)


def _per_image(parameter: Tensor, images: Tensor) -> Tensor:
    return parameter.to(images.device)[:, None, None, None]


def _replace(images: Tensor, rows: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Put what ``operation`` makes of the images ``rows`` and their parameters in their place."""
    if len(rows):
        index = rows.to(images.device)
        images[index] = operation(images[index], *(p[rows] for p in parameters))


def _chosen(number: int, probability: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(number, generator=generator) < probability).nonzero()[:, 0]


def _uniform(number: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(number, generator=generator)
