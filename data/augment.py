"""Photometric augmentation of a batch on its device; every photo gets a random draw of its own.

The operations are torchvision's (ColorJitter, grey, Gaussian blur, solarise) with per-photo
parameters. Random numbers come from a CPU generator, so a device never has to wait for them and
the draw is the same on every device. Letters: B images, H W pixels.
"""

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
    images = views.float() / 255

    def chosen(probability: float) -> Tensor:
        return (torch.rand(len(views), generator=generator) < probability).to(views.device)

    images = _where(chosen(config.jitter), color_jitter(images, config, generator), images)
    images = _where(chosen(config.gray), grayscale(images).expand_as(images), images)
    if config.blur[view]:
        sigma = _uniform(len(views), *config.blur_sigma, generator).to(views.device)
        images = _where(chosen(config.blur[view]), gaussian_blur(images, sigma), images)
    if config.solarize[view]:
        images = _where(chosen(config.solarize[view]), torch.where(images >= 128 / 255, 1 - images, images), images)
    return images


def color_jitter(images: Tensor, config: ViewsConfig, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, in an order drawn for each photo."""
    ranges = (config.brightness, config.contrast, config.saturation)
    factors = [_uniform(len(images), 1 - r, 1 + r, generator).to(images.device) for r in ranges]
    turn = _uniform(len(images), -config.hue, config.hue, generator).to(images.device)
    order = torch.rand(len(images), 4, generator=generator).argsort(dim=1)
    operations = (
        lambda x, i: _blend(x, torch.zeros_like(x), factors[0][i]),
        lambda x, i: _blend(x, grayscale(x).mean(dim=(2, 3), keepdim=True), factors[1][i]),
        lambda x, i: _blend(x, grayscale(x), factors[2][i]),
        lambda x, i: turn_hue(x, turn[i]),
    )
    for position in range(4):
        result = torch.empty_like(images)
        for number, operation in enumerate(operations):
            rows = (order[:, position] == number).nonzero()[:, 0].to(images.device)
            if len(rows):
                result[rows] = operation(images[rows], rows)
        images = result
    return images


def grayscale(images: Tensor) -> Tensor:
    """Luma of RGB images, ``(B, 3, H, W)`` -> ``(B, 1, H, W)``."""
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return torch.einsum("bchw,c->bhw", images, weights)[:, None]


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of RGB images by ``turn`` (B,) full circles, in HSV."""
    value, _ = images.max(dim=1)
    chroma = value - images.amin(dim=1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    r, g, b = images.unbind(1)
    hue = torch.where(value == r, ((g - b) / safe) % 6, torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    hue = hue / 6 + turn[:, None, None]
    sector = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    k = (sector + 6 * hue[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with a Gaussian of its own ``sigma`` (B,) in pixels; borders are mirrored."""
    size = images.shape[2:]
    radius = min(BLUR_RADIUS, min(size) - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)[:, None]
    rows = F.pad(images.flatten(0, 1)[None], (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(rows, kernel[:, :, None], groups=len(kernel))
    return F.conv2d(rows, kernel[:, :, :, None], groups=len(kernel)).view_as(images)


def normalize(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Subtract ``mean`` and divide by ``std``, both for RGB in [0, 1]."""
    shape = (1, 3, 1, 1)
    center = torch.tensor(mean, device=images.device).view(shape)
    return (images - center) / torch.tensor(std, device=images.device).view(shape)


def _where(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    return torch.where(mask[:, None, None, None], chosen, other)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, factor[:, None, None, None]).clamp(0, 1)


def _uniform(number: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(number, generator=generator)
