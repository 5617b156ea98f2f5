from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.transforms.v2 import functional as reference

from slotseg.config import ViewsConfig
from slotseg.data.views.augment import (
    augment,
    color_jitter,
    draw_augmentation,
    draw_jitter,
    gaussian_blur,
    grayscale,
    normalize,
    solarize,
    turn_hue,
)

OFF = ViewsConfig(jitter=0, gray=0, blur=(0, 0), solarize=(0, 0))
ALL = ViewsConfig(jitter=1, gray=0.5, blur=(1, 0.5), solarize=(0.5, 1))
NUMBER = 8


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def views(number=NUMBER, size=24, seed=0):
    """Noise, with a white, a black, a grey and a fully saturated photo among it."""
    images = torch.randint(0, 256, (number, 3, size, size), generator=generator(seed), dtype=torch.uint8)
    images[0], images[1], images[2] = 255, 0, torch.arange(size, dtype=torch.uint8) * 10
    images[3, 1:] = 0
    return images


def augmented(images, view, config, generator):
    return augment(images, draw_augmentation(len(images), view, config, generator))


def spread(low, high):
    return torch.linspace(low, high, NUMBER)


def jitter(name):
    """``color_jitter`` that changes nothing but what is named."""

    def operation(images, values):
        amounts = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(len(images), 1)
        amounts[:, ("brightness", "contrast", "saturation").index(name)] = values
        return color_jitter(images, amounts, torch.arange(4).expand(len(images), 4))

    return operation


# each operation against torchvision, photo by photo

FACTORS = spread(0.3, 1.8)
TURNS = spread(-0.5, 0.5)
SIGMAS = spread(0.1, 2.0)
OPERATIONS = {
    "brightness": (jitter("brightness"), reference.adjust_brightness, FACTORS),
    "contrast": (jitter("contrast"), reference.adjust_contrast, FACTORS),
    "saturation": (jitter("saturation"), reference.adjust_saturation, FACTORS),
    "hue": (turn_hue, reference.adjust_hue, TURNS),
    "blur": (gaussian_blur, lambda x, sigma: reference.gaussian_blur(x, [13, 13], [sigma]), SIGMAS),
    "grey": (lambda x, _: grayscale(x), lambda x, _: reference.rgb_to_grayscale(x), FACTORS),
    "solarise": (lambda x, _: solarize(x), lambda x, _: reference.solarize(x, 128 / 255), FACTORS),
}


@pytest.mark.parametrize(("ours", "theirs", "parameters"), OPERATIONS.values(), ids=OPERATIONS)
def test_operations_are_torchvision_s(ours, theirs, parameters):
    images = views() / 255
    before = images.clone()
    expected = torch.stack([theirs(x, p.item()) for x, p in zip(images, parameters, strict=True)])
    torch.testing.assert_close(ours(images, parameters), expected, atol=1e-5, rtol=0)
    assert torch.equal(images, before)


def test_jitter_in_each_photo_s_own_order():
    adjust = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )
    images = views() / 255
    drawn, order = draw_jitter(NUMBER, ViewsConfig(hue=0.4), generator())
    result = color_jitter(images, drawn, order)
    assert len(order.unique(dim=0)) > 4
    for image, values, steps, jittered in zip(images, drawn.tolist(), order.tolist(), result, strict=True):
        for step in steps:
            image = adjust[step](image, values[step])
        torch.testing.assert_close(jittered, image, atol=1e-5, rtol=0)


def test_jitter_amounts_fill_their_ranges():
    config = ViewsConfig(brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    drawn, order = draw_jitter(4000, config, generator())
    for values, center, reach in zip(drawn.unbind(1), (1, 1, 1, 0), (0.4, 0.3, 0.2, 0.1), strict=True):
        assert reach * 0.99 < (values - center).abs().max() <= reach + 1e-6
        assert (values.mean() - center).abs() < reach * 0.05
    assert len(order.unique(dim=0)) == 24
    assert torch.equal(order.sort(dim=1).values, torch.arange(4).expand(4000, 4))


@pytest.mark.parametrize(("size", "radius", "sigma"), [((24, 31), 6, 1.7), ((4, 9), 3, 2.0), ((40, 40), 15, 5.0)])
def test_blur_is_dense_convolution_with_mirrored_borders(size, radius, sigma):
    images = torch.rand(2, 3, *size, generator=generator())
    expected = gaussian_filter(images.double().numpy(), sigma, radius=radius, mode="mirror", axes=(2, 3))
    blurred = gaussian_blur(images, torch.full((2,), sigma), max(radius, 6))
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_blurred_white_is_not_brighter_than_white():
    assert gaussian_blur(torch.ones(200, 3, 16, 16), torch.linspace(0.1, 2, 200)).max() <= 1


def test_the_blur_s_radius_grows_with_its_sigma():
    image = torch.zeros(1, 3, 61, 61, dtype=torch.uint8)
    image[..., 30, 30] = 255
    config = replace(OFF, blur=(1, 0), blur_sigma=(5.0, 5.0))
    blurred = augmented(image, 0, config, generator())[0, 0].double()
    distance = torch.arange(61) - 30
    assert (blurred.sum(0) * distance**2).sum().sqrt() == pytest.approx(5, rel=0.03)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.3])
def test_hue_of_grey_stays(turn):
    grey = torch.rand(3, 1, 5, 5, generator=generator()).expand(3, 3, 5, 5)
    assert torch.equal(turn_hue(grey, torch.full((3,), turn)), grey)


def test_hue_turns_red_into_green_into_blue():
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    for turn, channels in ((1 / 3, (1, 0, 2)), (-1 / 3, (2, 1, 0)), (1.0, (0, 1, 2))):
        torch.testing.assert_close(turn_hue(red, torch.tensor([turn])), red[:, channels], atol=1e-6, rtol=0)


def test_solarise_inverts_from_128_on():
    values = torch.tensor([0, 127, 128, 255], dtype=torch.uint8).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    result = augmented(values, 1, replace(OFF, solarize=(0, 1)), generator())[0, 0].flatten() * 255
    assert result.round().tolist() == [0, 127, 127, 0]


def test_normalize():
    images = torch.rand(2, 3, 4, 4, generator=generator())
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    torch.testing.assert_close(normalize(images, mean, std), reference.normalize(images, list(mean), list(std)))


# the whole


@pytest.mark.parametrize("view", [0, 1])
def test_a_seed_is_a_result_in_range_and_the_input_stays(view):
    images = views(64)
    images[32:] = 255
    before = images.clone()
    first, again, other = (augmented(images, view, ALL, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)
    assert (first.dtype, first.shape) == (torch.float32, images.shape)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("config", [ViewsConfig(), ALL], ids=["default", "all"])
def test_photos_do_not_mix(view, config):
    images, others = views(16), views(16, seed=1)
    mixed = others.clone()
    mixed[::3] = images[::3]
    apart, together = (augmented(x, view, config, generator()) for x in (images, mixed))
    torch.testing.assert_close(together[::3], apart[::3], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("field", "view", "share"),
    [
        ("jitter", 0, 0.3),
        ("gray", 0, 0.3),
        ("blur", 0, 0.3),
        ("blur", 1, 0.3),
        ("solarize", 0, 0.3),
        ("solarize", 1, 0.3),
    ],
)
def test_each_photo_draws_for_itself_and_probabilities_hold(field, view, share):
    images = views(4, 16)[3:].expand(400, 3, 16, 16).clone()
    images[:, :, 4:] = torch.tensor([200, 90, 30])[:, None, None]  # nothing leaves this as it is
    plain = augmented(images, view, OFF, generator())
    torch.testing.assert_close(plain, images / 255)
    for probability in (0.0, share, 1.0):
        pair = (probability, 1 - probability) if view == 0 else (1 - probability, probability)
        config = replace(OFF, **{field: pair if field in ("blur", "solarize") else probability})
        config = replace(config, blur_sigma=(0.5, 2.0))
        changed = (augmented(images, view, config, generator()) != plain).flatten(1).any(dim=1)
        assert abs(changed.float().mean().item() - probability) <= (0.07 if probability == share else 0)


@pytest.mark.parametrize("field", ["jitter", "blur"])
def test_equal_photos_come_out_different(field):
    images = views()[-1:].expand(32, -1, -1, -1)
    results = augmented(images, 0, replace(OFF, **{field: (1, 0) if field == "blur" else 1}), generator())
    assert len(results.flatten(1).unique(dim=0)) == 32


def test_grey_photos_have_three_equal_channels():
    result = augmented(views(), 0, replace(OFF, gray=1), generator())
    assert torch.equal(result, grayscale(views() / 255).expand_as(result))


@pytest.mark.parametrize("size", [1, 2, 16])
def test_small_photos_and_no_photos(size):
    assert augmented(views(5, size), 0, ALL, generator()).isfinite().all()
    assert augmented(views(5, size)[:0], 0, ALL, generator()).shape == (0, 3, size, size)


@pytest.mark.parametrize("view", [0, 1])
def test_a_part_of_a_batch_comes_out_as_in_the_whole(view):
    images = views(8)
    drawn = draw_augmentation(8, view, ALL, generator())
    parts = [augment(images[part], drawn[part]) for part in (slice(0, 3), slice(3, 8))]
    torch.testing.assert_close(torch.cat(parts), augment(images, drawn), atol=1e-6, rtol=0)
