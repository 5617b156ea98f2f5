"""``slotseg eval``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from slotseg import amounts
from slotseg.cli import options
from slotseg.errors import ConfigError, DataError
from slotseg.segment_config import PLAIN, ReadingConfig

DATASETS = (
    "cocostuff27", "cocostuff15", "cocostuff171", "cocopanoptic27", "voc", "ade20k", "cityscapes27", "cityscapes19",
    "camvid", "msrc", "msrc21", "potsdam3", "folder", "scenes",
)  # fmt: skip
BASELINES = ("colour", "features", "one-class", "random")


@click.command("eval")
@click.option("--dataset", "name", required=True, type=click.Choice(DATASETS), help="What to score on.")
@click.option("--data-dir", type=options.PATH, metavar="DIR", help="Folder of the set, as it was published.")
@click.option("--images", type=options.PATH, metavar="DIR", help="folder: the photos.")
@click.option(
    "--labels",
    type=options.PATH,
    multiple=True,
    metavar="DIR|FILE",
    help="folder: their label maps or annotations.  A names.json: score what a person named, without a match.",
)
@click.option("--split", metavar="NAME", help="Part of the set.  [default: the one that papers score]")
@click.option("--protocol", metavar="NAME", help="curated, full or native.  [default: as papers do]")
@click.option("--image-list", type=options.PATH, metavar="FILE", help="Score these photos only, a name a line.")
@options.checkpoint
@click.option("--baseline", type=click.Choice(BASELINES), help="Score this instead of a run.")
@click.option(
    "--preds",
    type=options.PATH,
    metavar="DIR|FILE",
    help="Score masks or annotations of any tool.",
)
@click.option(
    "-k",
    "--num-prototypes",
    type=click.IntRange(min=2),
    metavar="K",
    help="Merge the run's prototypes to K; or clusters of a baseline.  [default: as trained; the classes]",
)
@click.option("--plain", is_flag=True, help="Score the network alone: --tta none --edges none.")
@options.tta
@options.edges
@options.bands
@options.value_range
@click.option("--init", metavar="WEIGHTS", help="features: weights to take.  [default: those the run began with]")
@click.option("--backbone", metavar="NAME", help="features: timm model.  [default: as --init says, or the run's]")
@click.option("--stride", type=int, help="features: pixels per cell.  [default: the run's]")
@click.option(
    "--matching",
    type=click.Choice(["hungarian", "merge", "majority"]),
    default="hungarian",
    show_default=True,
    help="One-to-one; merged to as many groups as classes, then one-to-one; or many-to-one.",
)
@click.option("--match-on", metavar="SPLIT", help="Find the match on this split.  [default: on the scored images]")
@click.option("--limit", type=click.IntRange(min=1), help="Score the first so many images only, for a look.")
@options.size
@options.tile
@options.seed
@click.option("--json", "json_file", type=options.PATH, metavar="FILE", help="Write the result as JSON.")
@click.option("--html", "html_file", type=options.PATH, metavar="FILE", help="Write a page to look at.")
@click.option("--save-preds", type=options.PATH, metavar="DIR", help="Keep the scored prototype maps as masks.")
@options.device
def command(
    labels: tuple[Path, ...],
    checkpoint: Path | None,
    baseline: str | None,
    preds: Path | None,
    size: Any,
    tile: int | None,
    seed: int | None,
    json_file: Path | None,
    html_file: Path | None,
    save_preds: Path | None,
    device: str,
    init: str | None,
    backbone: str | None,
    stride: int | None,
    num_prototypes: int | None,
    plain: bool,
    tta: str | None,
    edges: str | None,
    bands: tuple[int, ...] | None,
    value_range: tuple[float, ...] | None,
    **where: Any,
) -> None:
    """Score a run against labels: one table over all images, one matching of prototypes to classes.

    The matching is written into the run, and `slotseg segment` then paints class names.
    docs/protocols.md says what every choice does to the number.

    \b
    slotseg eval --dataset cocostuff27 --data-dir coco --html report.html
    slotseg eval --dataset folder --images photos --labels labels --baseline colour
    slotseg eval --dataset voc --data-dir VOCdevkit --preds masks
    slotseg eval --dataset msrc --data-dir MSRC --labels names.json
    torchrun --nproc-per-node 8 cli.py eval --dataset cocostuff27 --data-dir coco
    """  # noqa: D301
    _check(click.get_current_context().params)
    truth, names_file = _split_labels(labels, baseline or preds, where["match_on"])
    from slotseg import distributed
    from slotseg.eval.baselines import baseline_predictor
    from slotseg.eval.benchmark import open_benchmark
    from slotseg.eval.evaluate import evaluate
    from slotseg.eval.keeping import keep_match, keep_result
    from slotseg.eval.masks import MaskFolder, MaskSaver
    from slotseg.eval.page import write_result_page
    from slotseg.eval.predictors import Predictor, run_predictor
    from slotseg.eval.report import ceiling_line, result_table, truth_line
    from slotseg.eval.result import citation
    from slotseg.files import write_json, writing
    from slotseg.labels.naming import read_names
    from slotseg.runs.folder import find_checkpoint

    with distributed.joined():
        names = read_names(names_file) if names_file else None
        benchmark = open_benchmark(labels=truth, **where)
        reading = options.reading(bands, value_range)
        benchmark.read_as(ReadingConfig(**reading))
        predictor: Predictor
        if preds:
            predictor = MaskFolder(preds, benchmark)
        elif baseline:
            predictor = baseline_predictor(
                baseline,
                benchmark,
                num_clusters=num_prototypes,
                checkpoint=checkpoint,
                init=init,
                backbone=backbone,
                stride=stride,
                size=size,
                seed=seed or 0,
                device=device,
            )
        else:
            checkpoint = find_checkpoint(checkpoint)  # once: another run may become the newest while this one is scored
            predictor = run_predictor(
                benchmark,
                checkpoint=checkpoint,
                names=names,
                num_prototypes=num_prototypes,
                segment=PLAIN if plain else options.quality(tta, edges),
                reading=reading,
                size=size,
                tile=tile,
                device=device,
            )
        scored = MaskSaver(predictor, save_preds) if save_preds else predictor
        result = evaluate(scored, benchmark, names=names, remember=html_file is not None)
        if not preds and not baseline:
            keep_match(result, checkpoint)
            keep_result(result, checkpoint)
        if distributed.rank() > 0:
            return
    said = [result_table({result.protocol.predictor.name: result}), truth_line(result)]
    click.echo("\n\n".join(filter(None, [*said, ceiling_line(result), citation(result)])))
    if json_file:
        with writing(json_file, "expected another --json"):
            write_json(json_file, result.to_dict())
    if html_file:
        write_result_page(html_file, result, predictor, benchmark)
    if result.skipped:
        click.echo(f"{amounts.count(len(result.skipped), 'photo')} could not be read: the score is without.", err=True)
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)


def _existing(folder: Path) -> Path:
    """The nearest folder that exists: this one, or one above it."""
    return next(f for f in (folder, *folder.absolute().parents) if f.exists())


def _split_labels(labels: tuple[Path, ...], other: object, match_on: str | None) -> tuple[Path | None, Path | None]:
    """The labels, which are a folder or file, and the file of names among the values of --labels."""
    from slotseg.data.labelled.annotations.legend import LEGEND
    from slotseg.data.labelled.label_search import may_be_labels
    from slotseg.data.labelled.own_classes import CLASSES

    files = [path for path in labels if path.suffix.lower() == ".json" or path.is_file()]
    files = [path for path in files if not may_be_labels(path)]
    beside = next((path for path in files if path.name.lower() in (CLASSES, LEGEND)), None)
    if beside:
        raise ConfigError(f"{beside} is read with the labels that it lies beside; expected --labels {beside.parent}")
    folders = [path for path in labels if path not in files]
    if len(files) > 1 or len(folders) > 1:
        raise ConfigError(f"--labels has {', '.join(map(str, labels))}; expected labels, a names.json, or one of each")
    if files and not files[0].exists():
        raise ConfigError(f"{files[0]} does not exist; expected labels, a names.json, or one of each: check the path")
    if files and (other or files[0].suffix.lower() != ".json") and not _holds_names(files[0]):
        raise ConfigError(
            f"{files[0]} is neither labels nor a names.json; expected a folder of label maps, a file of annotations in "
            "JSON or XML, or the names.json of a run"
        )
    source = click.get_current_context().get_parameter_source("matching")
    if files and (other or match_on or source is click.core.ParameterSource.COMMANDLINE):
        raise ConfigError(
            f"{files[0]} says which prototype of a run is which class; expected no --baseline, --preds, --matching or "
            "--match-on beside it"
        )
    return folders[0] if folders else None, files[0] if files else None


def _holds_names(path: Path) -> bool:
    from slotseg.labels.naming import read_names

    try:
        read_names(path)
    except DataError:
        return False
    return True


def _check(given: Mapping[str, Any]) -> None:
    """Refuse options that don't go together and outputs that cannot be written, before anything is loaded."""
    preds, baseline, size, tile, save_preds = (given[n] for n in ("preds", "baseline", "size", "tile", "save_preds"))
    looks = given["tta"] or given["edges"]
    if preds and (baseline or given["checkpoint"] or size or tile or save_preds):
        raise ConfigError(
            "--preds scores masks; expected no --baseline, --checkpoint, --size, --tile or --save-preds beside it"
        )
    if preds and given["num_prototypes"]:
        raise ConfigError("--num-prototypes is for a run or a baseline; masks have the numbers that are in them")
    if baseline and (tile or size == "full"):
        raise ConfigError("--tile and --size full are for a run; a baseline sees whole photos of a --size in pixels")
    if baseline != "features" and (given["init"] or given["backbone"] or given["stride"]):
        raise ConfigError("--init, --backbone and --stride are for --baseline features; a run has its own backbone")
    if (given["plain"] or looks) and (baseline or preds):
        raise ConfigError("--plain, --tta and --edges are for a run; expected no --baseline or --preds beside them")
    if given["plain"] and looks:
        raise ConfigError("--plain is --tta none --edges none; expected no --tta or --edges beside it")
    for file in (given["json_file"], given["html_file"]):
        if file and (file.is_dir() or not os.access(_existing(file.parent), os.W_OK)):
            raise ConfigError(f"{file} is a folder or cannot be written; expected the name of a file to write")
    if save_preds and save_preds.exists() and (not save_preds.is_dir() or any(save_preds.iterdir())):
        raise ConfigError(f"{save_preds} is not an empty folder; expected another --save-preds")
