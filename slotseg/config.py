"""Every setting of a run, as frozen dataclasses that check themselves.

A value outside its range raises ``ConfigError`` naming field, value and allowed range. Presets
are in ``slotseg.presets``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slotseg.segment_config import ReadingConfig, SegmentConfig
from slotseg.values import is_number, is_whole, require, require_positive, require_range

OPTIMIZERS = ("lars", "adamw")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PROTOTYPE_INITS = ("normal", "kmeans")
PADDINGS = ("zeros", "replicate")
NOT_OPTIONS = ("pretrained", "checkpoint_path", "features_only", "in_chans")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The network that turns a photo into a dense map, and how photos are normalised for it."""

    name: str = "resnet50"
    """A timm model name."""
    stage: int | None = None
    """Index of timm's feature level to take, from the end if negative; by default the deepest."""
    stride: int | None = None
    """Pixels per cell, instead of a stage: the deepest level that has them."""
    output_stride: int | None = None
    """Most pixels per cell; the last stages are dilated to keep to it (where timm can)."""
    padding: str = "zeros"
    """Padding of convolutions: ``zeros``, or ``replicate`` to repeat the edge of their map."""
    in_chans: int = 3
    """Channels of the input image."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``timm.create_model``, such as ``pad_type`` or ``bn_eps``."""
    init: str | None = None
    """Weights to start from: a file, a run, or timm's pretrained name. None: random."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean that is subtracted from RGB in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation that divides RGB after the mean is subtracted."""

    def __post_init__(self) -> None:
        """Check what can be checked without timm."""
        require(self.stage is None or self.stride is None, self, "stage", "None where stride is given")
        require(self.padding in PADDINGS, self, "padding", f"one of {', '.join(PADDINGS)}")
        require(self.in_chans == 3, self, "in_chans", "3: photos are read as RGB")
        require(len(self.mean) == 3 and all(map(math.isfinite, self.mean)), self, "mean", "three numbers")
        usable = len(self.std) == 3 and all(s > 0 and math.isfinite(s) for s in self.std)
        require(usable, self, "std", "three numbers above 0")
        require(not set(NOT_OPTIONS) & set(self.options), self, "options", f"none of {', '.join(NOT_OPTIONS)}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes, temperatures and weights of SlotCon; the defaults are the paper's COCO recipe."""

    num_prototypes: int | None = 256
    """K, the number of concepts to look for. None: as many of the trained prototypes as stay distinct."""
    trained_prototypes: int | None = None
    """P, the number of prototypes to train if that is more than K. They are merged to K by what two views confuse."""
    prototype_init: str = "normal"
    """Start of the prototypes: ``normal`` (random) or ``kmeans`` (centres of the features of whole photos)."""
    projection_dim: int = 256
    """D, dimension of projected features, prototypes and slots."""
    hidden_dim: int = 4096
    """Width of the projector and the predictor."""
    student_temperature: float = 0.1
    """Softmax temperature of the student in the grouping loss."""
    teacher_temperature: float = 0.07
    """Softmax temperature of the teacher in the grouping loss; lower, so that its assignment is the sharper one."""
    assignment_temperature: float = 0.07
    """Softmax temperature of the assignment that pools the slots."""
    slot_temperature: float = 0.2
    """Temperature of the slot loss."""
    center_momentum: float = 0.9
    """Weight of the old centre in its update."""
    grouping_weight: float = 0.5
    """Weight of the grouping loss; the slot loss has the rest."""
    freeze_backbone: bool = False
    """Whether only heads and prototypes are trained; the backbone then runs once per view, in eval mode."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.num_prototypes is not None:
            require_range(self, 2, 65_535, "num_prototypes")  # 16-bit masks keep 65535 for ignore
        if self.trained_prototypes is not None:
            require_range(self, 2, 65_535, "trained_prototypes")
        require(self.num_trained > 0, self, "num_prototypes", "a number where trained_prototypes is None")
        require(self.prototype_init in PROTOTYPE_INITS, self, "prototype_init", f"one of {', '.join(PROTOTYPE_INITS)}")
        require_range(self, 1, 65_536, "projection_dim", "hidden_dim")
        require_positive(
            self, "student_temperature", "teacher_temperature", "assignment_temperature", "slot_temperature"
        )
        require_range(self, 0, 1, "center_momentum", "grouping_weight")

    @property
    def num_trained(self) -> int:
        """P, the number of prototypes that are trained."""
        return max(self.trained_prototypes or 0, self.num_prototypes or 0)


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Geometry and colour of the two views of a photo; pairs are (view 1, view 2)."""

    image_size: int = 224
    """Side of a view in pixels."""
    area: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the photo's area."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of a crop's width / height."""
    min_overlap: float = 0.01
    """Least overlap of the two crops, as a share of the second."""
    flip: float = 0.5
    """Probability of a left-right mirror, drawn for each view."""
    jitter: float = 0.8
    """Probability of colour jitter."""
    brightness: float = 0.4
    """Largest relative change of brightness."""
    contrast: float = 0.4
    """Largest relative change of contrast."""
    saturation: float = 0.2
    """Largest relative change of saturation."""
    hue: float = 0.1
    """Largest turn of the hue, in full circles."""
    gray: float = 0.2
    """Probability of grey."""
    blur: tuple[float, float] = (1.0, 0.1)
    """Probability of Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's sigma in pixels."""
    solarize: tuple[float, float] = (0.0, 0.2)
    """Probability of inverting the pixels above 128."""
    kept: int = 0
    """Most views of a photo whose maps are kept, where the backbone is frozen. 0: two new views at each step."""
    kept_memory: int = 256
    """Most memory of the kept maps in MB. Photos whose maps don't fit take turns."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require_range(self, 16, 2048, "image_size")
        require(0 < self.area[0] <= self.area[1] <= 1, self, "area", "0 < low <= high <= 1")
        require(0 < self.aspect[0] <= self.aspect[1], self, "aspect", "0 < low <= high")
        require(0 < self.blur_sigma[0] <= self.blur_sigma[1], self, "blur_sigma", "0 < low <= high")
        require_range(self, 0, 1, "min_overlap", "flip", "jitter", "gray")
        require_range(self, 0, 1, "brightness", "contrast", "saturation")
        require_range(self, 0, 0.5, "hue")
        for name in ("blur", "solarize"):
            require(all(0 <= p <= 1 for p in getattr(self, name)), self, name, "two numbers from 0 to 1")
        require(is_whole(self.kept) and self.kept in (0, *range(2, 65)), self, "kept", "0 or a number from 2 to 64")
        require(is_whole(self.kept_memory) and self.kept_memory > 0, self, "kept_memory", "a whole number above 0")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and its schedule."""

    name: str = "lars"
    """Optimiser: ``lars`` or ``adamw``."""
    learning_rate: float = 1.0
    """Peak learning rate; for LARS per 256 photos of the batch."""
    weight_decay: float = 1e-5
    """Decay of weights with two or more axes."""
    momentum: float = 0.9
    """Momentum of LARS."""
    trust_coefficient: float = 0.001
    """Size of an update of LARS relative to its weight."""
    warmup_epochs: float = 5.0
    """Epochs over which the learning rate rises from a hundredth of its peak."""
    final_learning_rate: float = 1e-6
    """Learning rate at the end of the cosine."""
    backbone_scale: float = 1.0
    """Factor on the backbone's learning rate."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.name in OPTIMIZERS, self, "name", f"one of {', '.join(OPTIMIZERS)}")
        require_positive(self, "learning_rate", "trust_coefficient", "backbone_scale")
        require_range(self, 0, 1, "weight_decay", "momentum", "final_learning_rate")
        require_range(self, 0, 1_000_000, "warmup_epochs")

    def peak_rate(self, batch_size: int) -> float:
        """Learning rate after warm-up for a global batch of so many photos."""
        return self.learning_rate * batch_size / 256 if self.name == "lars" else self.learning_rate


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder that learns the run's own refined assignments after the last step of SlotCon. No label is read."""

    steps: int = 0
    """Optimiser steps of the decoder; 0: there is none."""
    rounds: int = 3
    """Parts of the steps. Before each, the decoder so far makes the assignments that are learned next."""
    photos: int = 100
    """Most photos that are learned from."""
    learning_rate: float = 4e-3
    """Peak learning rate of AdamW in each round."""
    field_strength: float = 3.0
    """Strength of the mean field by which the assignments follow the photo's colours."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require_range(self, 0, 1_000_000_000, "steps")
        require_range(self, 1, 1000, "rounds")
        require_range(self, 2, 1_000_000, "photos")
        require_positive(self, "learning_rate")
        require_range(self, 0, 100, "field_strength")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole training run."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """The network below the heads."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes, temperatures and weights of the method."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    """Bands and range of photos."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    """The two views."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """The second stage of training."""
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    """Segmentation of images after training."""
    batch_size: int = 512
    """Photos per step, over all processes."""
    epochs: int | None = 800
    """Passes over the photos. If there are no steps either, None means: by the number of photos."""
    steps: int | None = None
    """Optimiser steps, instead of epochs."""
    teacher_momentum: float = 0.99
    """The teacher's EMA momentum at the first step; it rises to 1."""
    seed: int = 0
    """Seed of weights, data order, crops and colours."""
    precision: str = "auto"
    """``fp32``, ``bf16``, ``fp16`` or ``auto``: bf16 on GPUs that have it and CPUs with AMX."""
    compile: bool = False
    """Whether backbones and projectors go through ``torch.compile``."""
    log_every: int = 50
    """Steps between two lines of ``metrics.jsonl``."""
    checkpoint_every: int = 1000
    """Steps between two writes of the last checkpoint."""
    checkpoint_minutes: float = 10.0
    """Minutes after which the last checkpoint is written at the latest, however few steps were done."""
    keep_every: int | None = None
    """Steps between two numbered checkpoints that are kept; None: only the last."""
    previews: int = 20
    """Number of preview sheets of a few photos, evenly spread over the run; 0: none."""
    tensorboard: bool = False
    """Whether metrics and preview sheets are written for TensorBoard too (the extra ``tensorboard``)."""

    def __post_init__(self) -> None:
        """Check ranges and conflicts."""
        require_range(self, 2, 1_000_000, "batch_size")
        require(self.epochs is None or self.steps is None, self, "epochs", "None where steps are given")
        require(
            self.model.freeze_backbone or not self.views.kept, self.views, "kept", "0 without model.freeze_backbone"
        )
        for name in ("epochs", "steps", "keep_every"):
            value = getattr(self, name)
            require(value is None or (is_number(value) and value >= 1), self, name, "1 or more")
        require_range(self, 0, 1, "teacher_momentum")
        require(self.precision in PRECISIONS, self, "precision", f"one of {', '.join(PRECISIONS)}")
        for name in ("compile", "tensorboard"):
            require(isinstance(getattr(self, name), bool), self, name, "true or false")
        require(
            isinstance(self.previews, int) and 0 <= self.previews <= 1000, self, "previews", "a number from 0 to 1000"
        )
        require_positive(self, "checkpoint_minutes")
        require_range(self, 1, 1_000_000_000, "log_every", "checkpoint_every")
        require_range(self, 0, 2**63 - 1, "seed")
