"""Score a run or a baseline by name, and keep the match a run was given."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from slotseg import checkpoint as checkpoints
from slotseg.backbones import Backbone
from slotseg.config import BackboneConfig, TrainConfig, from_dict
from slotseg.data.labelled import LabelledDataset
from slotseg.errors import ConfigError
from slotseg.eval.baselines import ColourKMeans, FeatureKMeans
from slotseg.eval.evaluate import evaluate, label_map
from slotseg.eval.report import Result
from slotseg.files import write_json
from slotseg.labels import LabelMap, read_labels
from slotseg.presets import photos
from slotseg.runs import find_checkpoint, run_of
from slotseg.segmenter import Segmenter, default_size
from slotseg.weights import adopt, load_into, read_weights

log = logging.getLogger(__name__)

BASELINES = ("colour", "features")


def score_run(
    dataset: LabelledDataset,
    *,
    checkpoint: Path | None = None,
    size: int | None = None,
    matching: str = "hungarian",
    limit: int | None = None,
    device: str = "auto",
) -> Result:
    """Score a run, and write its match into the run's ``labels.json``.

    A match from a limited look is not written, and names given by a person are never replaced.

    Args:
        dataset: Photos with ground truth.
        checkpoint: Run folder or checkpoint; by default the newest run.
        size: Short side photos are scaled to; by default as things looked in training.
        matching: A key of ``slotseg.eval.matching.MATCHINGS``.
        limit: Score the first so many images only.
        device: As in ``slotseg.devices.resolve_device``.
    """
    file = find_checkpoint(checkpoint)
    log.info("Scoring %s", file)
    segmenter = Segmenter.load(file, size=size, device=device, labels=_unnamed(file))
    result = evaluate(
        segmenter.prototype_map,
        segmenter.config.model.num_prototypes,
        dataset,
        matching=matching,
        limit=limit,
        predictor=f"slotseg, {file}, sha256 {checkpoints.digest(file)}, size {segmenter.size}",
        resolution=f"network {segmenter.size} short side, scores upsampled to the label map",
    )
    if limit is None:
        _keep_match(file, label_map(result, dataset))
    return result


def score_baseline(
    name: str,
    dataset: LabelledDataset,
    *,
    num_clusters: int | None = None,
    checkpoint: Path | None = None,
    init: str | None = None,
    backbone: str | None = None,
    stride: int | None = None,
    size: int | None = None,
    seed: int = 0,
    matching: str = "hungarian",
    limit: int | None = None,
    device: str = "auto",
) -> Result:
    """Score k-means on colour and position, or on the features of an untrained or pretrained backbone.

    Args:
        name: ``colour`` or ``features``.
        dataset: Photos with ground truth; k-means is fitted on the photos that are scored.
        num_clusters: K; by default the number of classes.
        checkpoint: ``features``: take the backbone of this run, as it was before training.
        init: ``features``: weights to take instead.
        backbone: ``features``: timm model of ``init``; by default what the weights say.
        stride: ``features``: pixels per cell.
        size: Short side photos are scaled to.
        seed: Of k-means, and of random weights.
        matching: A key of ``slotseg.eval.matching.MATCHINGS``.
        limit: Fit and score on the first so many images only.
        device: As in ``slotseg.devices.resolve_device``.
    """
    clusters = num_clusters or len(dataset.class_names)
    if name == "colour":
        colour = ColourKMeans(dataset, clusters, seed=seed, limit=limit)
        what = f"k-means on colour, RGB and position in 0..1, seed {seed}"
        return evaluate(colour, clusters, dataset, matching=matching, limit=limit, predictor=what)
    if name != "features":
        raise ConfigError(f"baseline is {name!r}; expected one of {', '.join(BASELINES)}")
    network, config, default = _untrained(checkpoint, init, backbone, stride, seed)
    features = FeatureKMeans(network, config, size or default, dataset, clusters, seed=seed, limit=limit, device=device)
    what = f"k-means on features, {config.name} stride {network.stride} from {config.init or 'random weights'}"
    return evaluate(
        features,
        clusters,
        dataset,
        matching=matching,
        limit=limit,
        predictor=f"{what}, size {features.size}, seed {seed}",
        resolution=f"network {features.size} short side, scores upsampled to the label map",
    )


def _untrained(
    checkpoint: Path | None, init: str | None, name: str | None, stride: int | None, seed: int
) -> tuple[Backbone, BackboneConfig, int]:
    """A backbone as training would start from it, its configuration, and the default working size."""
    torch.manual_seed(seed)
    if init is None:
        if name:
            raise ConfigError("--backbone goes with --init; without it the backbone is that of the run")
        header = checkpoints.read_header(find_checkpoint(checkpoint))
        run = from_dict(TrainConfig, header["config"])
        config = replace(run.backbone, stage=None, stride=stride) if stride else run.backbone
    else:
        run = photos()
        asked = BackboneConfig(name=name or run.backbone.name, stride=stride or run.backbone.stride)
        config = adopt(asked, read_weights(init), named=name is not None)
    backbone = Backbone(config)
    if config.init:
        load_into(backbone, read_weights(config.init))
    return backbone, config, default_size(run)


def _unnamed(file: Path) -> LabelMap:
    """Scoring looks at prototypes; whatever label map lies beside the checkpoint doesn't matter."""
    config = from_dict(TrainConfig, checkpoints.read_header(file)["config"])
    return LabelMap.prototypes(config.model.num_prototypes)


def _keep_match(file: Path, labels: LabelMap) -> None:
    run = run_of(file)
    if run is None:
        log.info("%s lies in no run, so the match is not kept.", file)
    elif run.labels.is_file() and read_labels(run.labels).origin == "names":
        log.info("%s holds names given by a person and is left as it is.", run.labels)
    else:
        write_json(run.labels, labels.to_dict())
        log.info("The match is in %s; `slotseg segment` now paints class names.", run.labels)
