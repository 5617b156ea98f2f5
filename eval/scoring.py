"""Score a run, a baseline or masks by name, and keep the match and the scores a run was given."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from slotseg import distributed
from slotseg.config import BackboneConfig, SegmentConfig, TrainConfig, from_dict
from slotseg.errors import ConfigError
from slotseg.eval.baselines import ColourKMeans, FeatureKMeans, OneClass, RandomAssignment
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import label_map
from slotseg.eval.named import NAMED
from slotseg.eval.predictors import Predictor, SegmenterPredictor
from slotseg.eval.report import PredictorInfo, Result
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.files import write_json
from slotseg.labels.label_map import read_labels
from slotseg.labels.naming import Naming
from slotseg.method.backbones import Backbone
from slotseg.presets import photos
from slotseg.runs import checkpoint as checkpoints
from slotseg.runs.folder import find_checkpoint, run_of
from slotseg.runs.scores import write_score
from slotseg.segmenting.guided import EPSILON, RADIUS
from slotseg.segmenting.looks import Size, default_size
from slotseg.segmenting.segmenter import Segmenter

log = logging.getLogger(__name__)

BASELINES = ("colour", "features", "one-class", "random")


def run_predictor(
    benchmark: Benchmark,
    *,
    checkpoint: Path | None = None,
    names: Naming | None = None,
    num_prototypes: int | None = None,
    segment: Mapping[str, Any] | None = None,
    size: Size | None = None,
    tile: int | None = None,
    device: str = "auto",
) -> SegmenterPredictor:
    """A trained model, to be scored.

    Args:
        benchmark: On what; under a protocol that crops, the network sees the crop as it is.
        checkpoint: Run folder or checkpoint; by default the newest run.
        names: Those that a person gave; a run is merged as they were given.
        num_prototypes: Merge its prototypes to so many; by default what it was trained for.
        segment: What to change in how it looks at photos, as in ``Segmenter.load``.
        size: Short side that the network sees; by default the crop's, or as things looked in training.
        tile: Side of tiles that it sees one by one where the photo is larger.
        device: As in ``slotseg.devices.resolve_device``.
    """
    file = find_checkpoint(checkpoint)
    log.info("Scoring %s", file)
    segmenter = Segmenter.load(
        file,
        labels=names,
        matched=False,
        num_prototypes=num_prototypes,
        segment=segment,
        size=size or benchmark.protocol.crop,
        tile=tile,
        device=device,
    )
    info = PredictorInfo(
        name=_name(segmenter),
        checkpoint=checkpoints.digest(file),
        network_size=None if segmenter.size == "full" else segmenter.size,
        tile=segmenter.tile,
        augmentation=_looks(segmenter.config.segment),
        postprocessing=_edges(segmenter.config.segment),
        seed=segmenter.config.seed,
    )
    return SegmenterPredictor(segmenter, info)


def baseline_predictor(
    name: str,
    benchmark: Benchmark,
    *,
    num_clusters: int | None = None,
    checkpoint: Path | None = None,
    init: str | None = None,
    backbone: str | None = None,
    stride: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Predictor:
    """A baseline, fitted without labels on the photos that it is matched on.

    Args:
        name: One of ``BASELINES``.
        benchmark: On what it is going to be scored.
        num_clusters: K; by default the number of classes.
        checkpoint: ``features``: take the backbone of this run, as it was before training.
        init: ``features``: weights to take instead.
        backbone: ``features``: timm model, with the weights of ``init`` or random ones.
        stride: ``features``: pixels per cell.
        size: ``features``: short side that the network sees.
        seed: Of k-means, and of random weights.
        device: As in ``slotseg.devices.resolve_device``.

    Raises:
        ConfigError: If there is no such baseline, or k-means can't be fitted with these settings.
    """
    clusters = num_clusters or len(benchmark.dataset.taxonomy.classes)
    if name == "one-class":
        return OneClass()
    if name == "random":
        return RandomAssignment(clusters, seed=seed)
    if name == "colour":
        return ColourKMeans(benchmark, clusters, seed=seed)
    if name != "features":
        raise ConfigError(f"baseline is {name!r}; expected one of {', '.join(BASELINES)}")
    network, config, default = _untrained(checkpoint, init, backbone, stride, seed)
    network_size = size or benchmark.protocol.crop or default
    return FeatureKMeans(network, config, network_size, benchmark, clusters, seed=seed, device=device)


def keep_match(result: Result, checkpoint: Path | None) -> None:
    """Write a result's match into the ``labels.json`` of the run that was scored, and under its data set's name.

    A match from a limited look is not written, nor what a person named, and names that are there are never replaced.

    Args:
        result: The scores of the run.
        checkpoint: As it was given to ``run_predictor``.
    """
    file = find_checkpoint(checkpoint)
    run = run_of(file)
    if result.protocol.limit is not None or result.protocol.matching == NAMED or distributed.rank() > 0:
        return
    if run is None:
        log.info("%s lies in no run, so the match is not kept.", file)
    elif run.labels.is_file() and read_labels(run.labels).origin == "names":
        log.info("%s holds names given by a person and is left as it is.", run.labels)
    else:
        write_json(run.labels_of(result.protocol.dataset), label_map(result).to_dict())
        write_json(run.labels, label_map(result).to_dict())
        log.info("The match is in %s; `slotseg segment` now paints class names.", run.labels)


def keep_scores(result: Result, checkpoint: Path | None) -> None:
    """Keep a result's scores in the run that was scored, for what shows the run; those of a limited look are not.

    Args:
        result: The scores of the run.
        checkpoint: As it was given to ``run_predictor``.
    """
    run = run_of(find_checkpoint(checkpoint))
    if run is None or result.protocol.limit is not None or distributed.rank() > 0:
        return
    values = result.to_dict()
    try:
        write_score(run, {key: values[key] for key in ("miou", "pixel_accuracy", "ceiling", "protocol")})
    except OSError as error:
        log.warning("The scores are not kept in %s: it cannot be written (%s).", run.path, error.strerror)


def _name(segmenter: Segmenter) -> str:
    """Backbone, size and what is added to one look, so that no two of a run's scores have one name."""
    config = segmenter.config.segment
    added = {"scales": config.scales != (1.0,), "flip": config.mirror}
    added |= {config.edges: config.follows_edges}
    parts = [
        f"slotseg {segmenter.config.backbone.name} at {segmenter.size} px",
        *(k for k, is_on in added.items() if is_on),
    ]
    return ", ".join(parts)


def _looks(config: SegmentConfig) -> str:
    if config.scales == (1.0,) and not config.mirror:
        return "none"
    scales = ", ".join(f"{scale:g}" for scale in config.scales)
    return f"scales {scales}" + (" and mirrored" if config.mirror else "")


def _edges(config: SegmentConfig) -> str:
    if config.edges == "guided":
        return f"guided filter, radius {RADIUS}, epsilon {EPSILON:g}"
    return f"mean-field refinement, strength {config.field_strength:g}" if config.edges == "field" else "none"


def _untrained(
    checkpoint: Path | None, init: str | None, name: str | None, stride: int | None, seed: int
) -> tuple[Backbone, BackboneConfig, int]:
    """A backbone as training would start from it, its configuration, and the default working size."""
    torch.manual_seed(seed)
    run = photos()
    if init is not None:
        asked = replace(run.backbone, name=name or run.backbone.name, stride=stride or run.backbone.stride)
        config = adopt(asked, read_weights(init), named=name is not None)
    elif name is not None:
        config = replace(run.backbone, name=name, init=None, stride=stride or run.backbone.stride)
    else:
        header = checkpoints.read_header(find_checkpoint(checkpoint))
        run = from_dict(TrainConfig, header["config"])
        config = replace(run.backbone, stage=None, stride=stride) if stride else run.backbone
    backbone = Backbone(config)
    if config.init:
        load_into(backbone, read_weights(config.init))
    return backbone, config, default_size(run)
