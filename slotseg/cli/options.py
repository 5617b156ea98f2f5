"""Options that several commands share, so that they mean and read the same everywhere."""

from pathlib import Path
from typing import Any

import click

from slotseg.data.views.unlabelled import DATASETS
from slotseg.errors import ConfigError
from slotseg.segment_config import SEVERAL_SCALES

PATH = click.Path(path_type=Path)
SOME_INPUTS_FAILED = 3
"""Exit code: done, but some inputs could not be used."""

device = click.option(
    "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:N or mps."
)
checkpoint = click.option(
    "--checkpoint", type=PATH, metavar="PATH", help="Run folder or checkpoint.  [default: the newest run]"
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")


def _pixels_or_full(text: str) -> int | str:
    if text != "full" and not (text.isdecimal() and int(text)):
        raise click.BadParameter(f"{text!r} is no size; expected a number of pixels, or full")
    return text if text == "full" else int(text)


size = click.option(
    "--size",
    type=_pixels_or_full,
    metavar="PIXELS|full",
    help="Short side photos are scaled to for the network; full: not at all.  [default: as things looked in training]",
)
tile = click.option(
    "--tile",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of tiles in which scaled photos that are larger are seen.  [default: whole to 4 megapixels, then 1024]",
)
classes = click.option(
    "-k",
    "--classes",
    "--num-prototypes",
    "num_prototypes",
    type=click.IntRange(min=2),
    metavar="N",
    help="Merge the run's prototypes to N groups, without labels.  [default: as trained, named or matched]",
)
max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=500_000_000,
    show_default=True,
    help="Refuse larger photos, which are likely to be broken or hostile.",
)
tta = click.option(
    "--tta",
    type=click.Choice(["none", "flip", "scales", "flip,scales"]),
    help="Look at the mirrored photo too, at 0.85 and 1.4 times the size, or both.  [default: as the run was set]",
)
edges = click.option(
    "--edges",
    type=click.Choice(["none", "field", "guided"]),
    help="Make masks follow the photo's edges: by a mean field, or a guided filter.  [default: as the run was set]",
)


def _whole_numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r} are no numbers of bands; expected one or three from 1, such as 4,3,2")
    return tuple(int(part) for part in parts)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no range; expected LOW,HIGH, such as 0,4095") from None


bands = click.option(
    "--bands",
    type=_whole_numbers,
    metavar="R,G,B",
    help="Bands of files with more than three, from 1, or one for grey.  [default: the first three, or the run's]",
)
value_range = click.option(
    "--range",
    "value_range",
    type=_numbers,
    metavar="LOW,HIGH",
    help="Values of more than 8 bits that become 0 and 255.  [default: the run's, which its training found]",
)
dataset = click.option(
    "--dataset", type=click.Choice(DATASETS), help="Instead of PHOTOS: a training set, with its preset."
)
data_dir = click.option("--data-dir", type=PATH, metavar="DIR", help="Folder of the set, as it was published.")
init = click.option(
    "--init", metavar="WEIGHTS", help="Pretrained weights to start from: a file, a run, or timm's name."
)
backbone = click.option("--backbone", metavar="NAME", help="timm model.  [default: that of --init, or the preset's]")
num_prototypes = click.option(
    "-k", "--num-prototypes", type=int, help="Number of concepts.  [default: the preset's; photos finds it]"
)
epochs = click.option("--epochs", type=int, help="Passes over the photos.")
steps = click.option("--steps", type=int, help="Instead of epochs: optimiser steps.")
precision = click.option("--precision", metavar="NAME", help="auto, fp32, bf16 or fp16.")
workers = click.option("--workers", type=click.IntRange(min=0), help="Loader processes.  [default: by the cores]")
extra = click.option("--set", "extra", multiple=True, metavar="NAME=VALUE", help="Any setting of docs/settings.md.")
seed = click.option("--seed", type=click.IntRange(min=0), help="Seed of everything random.  [default: 0]")


def quality(tta: str | None, edges: str | None) -> dict[str, Any]:
    """Changes that ``--tta`` and ``--edges`` make to a run's ``SegmentConfig``, by name."""
    changes: dict[str, Any] = {} if edges is None else {"edges": edges}
    if tta is not None:
        looks = tta.split(",")
        changes |= {"mirror": "flip" in looks, "scales": SEVERAL_SCALES if "scales" in looks else (1.0,)}
    return changes


def reading(bands: tuple[int, ...] | None, value_range: tuple[float, ...] | None) -> dict[str, Any]:
    """Changes that ``--bands`` and ``--range`` make to a run's ``ReadingConfig``, by name."""
    return {name: value for name, value in (("bands", bands), ("range", value_range)) if value is not None}


def settings(values: tuple[str, ...]) -> dict[str, Any]:
    """Parse ``--set name=value``. Values are JSON where they can be, else text.

    Raises:
        ConfigError: If one has no ``=``.
    """
    import json

    parsed = {}
    for item in values:
        name, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item} has no value; expected for instance --set views.flip=0")
        try:
            parsed[name] = json.loads(text)
        except ValueError:
            parsed[name] = text
    return parsed
