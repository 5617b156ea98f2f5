"""Settings: what is refused, how they are changed and stored, and the paper's numbers."""

import json
import math
from typing import Any

import pytest

from slotseg.config import BackboneConfig, ModelConfig, OptimizerConfig, TrainConfig, ViewsConfig
from slotseg.errors import ConfigError
from slotseg.presets import PRESETS, resolve
from slotseg.segment_config import SegmentConfig
from slotseg.values import flatten, from_dict, to_dict, with_values

PAPER = {  # the published COCO recipe
    "backbone.name": "resnet50",
    "backbone.init": None,
    "backbone.stage": None,
    "backbone.stride": None,
    "backbone.output_stride": None,
    "backbone.options": {},
    "backbone.padding": "zeros",
    "backbone.mean": (0.485, 0.456, 0.406),
    "backbone.std": (0.229, 0.224, 0.225),
    "model.num_prototypes": 256,
    "model.trained_prototypes": None,
    "model.prototype_init": "normal",
    "model.projection_dim": 256,
    "model.hidden_dim": 4096,
    "model.student_temperature": 0.1,
    "model.teacher_temperature": 0.07,
    "model.assignment_temperature": 0.07,
    "model.slot_temperature": 0.2,
    "model.center_momentum": 0.9,
    "model.grouping_weight": 0.5,
    "model.freeze_backbone": False,
    "views.image_size": 224,
    "views.area": (0.08, 1.0),
    "views.aspect": (3 / 4, 4 / 3),
    "views.min_overlap": 0.01,
    "views.flip": 0.5,
    "views.jitter": 0.8,
    "views.brightness": 0.4,
    "views.contrast": 0.4,
    "views.saturation": 0.2,
    "views.hue": 0.1,
    "views.gray": 0.2,
    "views.blur": (1.0, 0.1),
    "views.blur_sigma": (0.1, 2.0),
    "views.solarize": (0.0, 0.2),
    "optimizer.name": "lars",
    "optimizer.learning_rate": 1.0,
    "optimizer.weight_decay": 1e-5,
    "optimizer.momentum": 0.9,
    "optimizer.trust_coefficient": 0.001,
    "optimizer.warmup_epochs": 5,
    "optimizer.final_learning_rate": 1e-6,
    "optimizer.backbone_scale": 1.0,
    "segment.scales": (1.0,),
    "segment.mirror": False,
    "segment.edges": "none",
    "batch_size": 512,
    "epochs": 800,
    "steps": None,
    "teacher_momentum": 0.99,
}
NOT_OF_THE_PAPER = {
    "segment.field_strength",
    "decoder.steps",
    "decoder.rounds",
    "decoder.photos",
    "decoder.learning_rate",
    "decoder.field_strength",
    "backbone.in_chans",
    "seed",
    "precision",
    "compile",
    "previews",
    "tensorboard",
    "reading.bands",
    "reading.range",
    "views.kept",
    "views.kept_memory",
}
NOT_OF_THE_PAPER |= {"log_every", "checkpoint_every", "checkpoint_minutes", "keep_every"}


def test_coco_preset_is_the_paper() -> None:
    ours = flatten(to_dict(PRESETS["coco-r50"]()))
    assert {name: ours[name] for name in PAPER} == PAPER
    assert ours.keys() - PAPER.keys() == NOT_OF_THE_PAPER


@pytest.mark.parametrize(
    ("preset", "differs"),
    [
        ("cocoplus-r50", {}),
        ("cocostuff27-r50", {"model.num_prototypes": 27}),
        ("imagenet-r50", {"model.num_prototypes": 2048, "epochs": 200}),
    ],
)
def test_other_papers_presets_differ_only_here(preset: str, differs: dict[str, Any]) -> None:
    assert PRESETS[preset]() == with_values(PRESETS["coco-r50"](), differs)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(preset: str) -> None:
    config = PRESETS[preset]()
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(("optimizer", "peak"), [("lars", 2.0), ("adamw", 1.0)])
def test_only_lars_scales_its_rate_with_the_batch(optimizer: str, peak: float) -> None:
    assert OptimizerConfig(name=optimizer).peak_rate(512) == peak


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (BackboneConfig, "in_chans", 4),
        (BackboneConfig, "padding", "reflect"),
        (BackboneConfig, "mean", (0.5,)),
        (BackboneConfig, "mean", (float("nan"), 0.5, 0.5)),
        (BackboneConfig, "std", (float("inf"), 0.5, 0.5)),
        (BackboneConfig, "std", (0.2, 0.0, 0.2)),
        (BackboneConfig, "std", (0.2, 0.2)),
        (BackboneConfig, "options", {"in_chans": 1}),
        (BackboneConfig, "options", {"pretrained": True}),
        (ModelConfig, "num_prototypes", 1),
        (ModelConfig, "num_prototypes", 65_536),
        (ModelConfig, "num_prototypes", "many"),
        (ModelConfig, "num_prototypes", None),
        (ModelConfig, "trained_prototypes", 1),
        (ModelConfig, "trained_prototypes", 65_536),
        (ModelConfig, "prototype_init", "kmeans++"),
        (ModelConfig, "projection_dim", 0),
        (ModelConfig, "hidden_dim", 0),
        (ModelConfig, "student_temperature", 0.0),
        (ModelConfig, "teacher_temperature", -1.0),
        (ModelConfig, "assignment_temperature", math.nan),
        (ModelConfig, "slot_temperature", math.inf),
        (ModelConfig, "center_momentum", 1.1),
        (ModelConfig, "grouping_weight", -0.1),
        (SegmentConfig, "scales", ()),
        (SegmentConfig, "scales", (1.0, 0.0)),
        (SegmentConfig, "scales", (1.0, "2")),
        (SegmentConfig, "field_strength", -1.0),
        (SegmentConfig, "field_strength", 0),
        (SegmentConfig, "field_strength", 101),
        (SegmentConfig, "edges", "auto"),
        (SegmentConfig, "edges", "sharp"),
        (ViewsConfig, "image_size", 8),
        (ViewsConfig, "image_size", 4096),
        (ViewsConfig, "area", (0.0, 1.0)),
        (ViewsConfig, "area", (0.5, 0.2)),
        (ViewsConfig, "area", (0.5, 1.2)),
        (ViewsConfig, "aspect", (2.0, 1.0)),
        (ViewsConfig, "blur_sigma", (0.0, 1.0)),
        (ViewsConfig, "blur", (0.5, 1.5)),
        (ViewsConfig, "solarize", (-0.5, 0.5)),
        *((ViewsConfig, name, 1.01) for name in ("min_overlap", "flip", "jitter", "gray")),
        *((ViewsConfig, name, -0.01) for name in ("brightness", "contrast", "saturation")),
        (ViewsConfig, "hue", 0.6),
        *((ViewsConfig, "kept", value) for value in (1, 65, -2, 2.0, True)),
        *((ViewsConfig, "kept_memory", value) for value in (0, 1.5)),
        (OptimizerConfig, "name", "sgd"),
        (OptimizerConfig, "learning_rate", 0.0),
        (OptimizerConfig, "trust_coefficient", 0.0),
        (OptimizerConfig, "backbone_scale", -1.0),
        (OptimizerConfig, "weight_decay", -1e-9),
        (OptimizerConfig, "momentum", 2),
        (OptimizerConfig, "final_learning_rate", -1.0),
        (OptimizerConfig, "warmup_epochs", -1),
        (TrainConfig, "batch_size", 1),
        (TrainConfig, "batch_size", None),
        (TrainConfig, "epochs", 0),
        (TrainConfig, "keep_every", 0),
        (TrainConfig, "keep_every", -5),
        (TrainConfig, "teacher_momentum", 1.5),
        (TrainConfig, "precision", "fp8"),
        (TrainConfig, "compile", "yes"),
        (TrainConfig, "log_every", 0),
        (TrainConfig, "checkpoint_every", 0),
        (TrainConfig, "seed", -1),
    ],
)
def test_out_of_range_names_field_and_value(cls: type, name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is {value!r}; expected ")


@pytest.mark.parametrize(
    ("cls", "values", "name"),
    [
        (BackboneConfig, {"stage": 3, "stride": 16}, "stage"),
        (TrainConfig, {"epochs": 3, "steps": 3}, "epochs"),
        (TrainConfig, {"epochs": None, "steps": 0}, "steps"),
        (TrainConfig, {"views": ViewsConfig(kept=8)}, "kept"),
    ],
)
def test_conflicts_are_refused(cls: type, values: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is "):
        cls(**values)


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (ModelConfig, {"num_prototypes": 2, "center_momentum": 0, "grouping_weight": 1}),
        (ModelConfig, {"num_prototypes": 65_535, "center_momentum": 1, "grouping_weight": 0}),
        (ViewsConfig, {"image_size": 16, "area": (1.0, 1.0), "hue": 0.5, "flip": 0, "blur": (0, 1)}),
        (ViewsConfig, {"kept": 2, "kept_memory": 1}),
        (ViewsConfig, {"kept": 64}),
        (TrainConfig, {"batch_size": 2, "epochs": None, "steps": 1, "keep_every": 1, "teacher_momentum": 1}),
    ],
)
def test_ends_of_ranges_are_allowed(cls: type, values: dict[str, Any]) -> None:
    config = to_dict(cls(**values))
    assert {name: config[name] for name in values} == values


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"scales": [0.85, 1.4], "refinement": 5.0}, {"scales": (0.85, 1.4), "edges": "field", "field_strength": 5.0}),
        ({"refinement": 0.0}, {}),
        ({"refinement": 5.0, "edges": "auto"}, {"edges": "field", "field_strength": 5.0}),
        ({"refinement": 0.0, "edges": "auto"}, {}),
        ({"refinement": 0.0, "edges": "field"}, {"edges": "field", "field_strength": 3.0}),
        ({"refinement": 5.0, "edges": "field"}, {"edges": "field", "field_strength": 5.0}),
        ({"refinement": 5.0, "edges": "guided"}, {"edges": "guided", "field_strength": 5.0}),
        ({"refinement": 5.0, "edges": "none"}, {"edges": "none", "field_strength": 5.0}),
    ],
)
def test_settings_of_earlier_versions_are_read(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert from_dict(TrainConfig, {"segment": old}).segment == SegmentConfig(**new)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            {"segment.refinement": 5},
            "unknown setting 'refinement' .* expected edges=field and field_strength",
        ),
        ({"segment.field_strength": -1}, "field_strength is -1; expected a number above 0"),
        ({"segment.edges": "auto"}, "edges is 'auto'; expected one of none, field, guided"),
    ],
)
def test_an_old_name_that_a_person_types_is_refused_and_what_replaced_it_is_told(
    typed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        with_values(TrainConfig(), typed)


def test_where_values_come_from() -> None:
    options = {"model.num_prototypes": 9, "backbone.options": {"pad_type": "same"}}
    config, sources = resolve("imagenet-r50", options)
    assert sources.keys() == flatten(to_dict(config)).keys()
    assert (config.model.num_prototypes, sources["model.num_prototypes"]) == (9, "option")
    assert sources["backbone.options.pad_type"] == "option"
    assert (config.epochs, sources["epochs"]) == (200, "preset imagenet-r50")
    assert sources["model.hidden_dim"] == "default"


@pytest.mark.parametrize(("preset", "asked", "other"), [("coco-r50", "steps", "epochs"), ("photos", "epochs", "steps")])
def test_steps_and_epochs_replace_each_other(preset: str, asked: str, other: str) -> None:
    config, sources = resolve(preset, {asked: 7})
    assert getattr(config, asked) == 7
    assert getattr(config, other) is None
    assert sources[asked] == "option"


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"preset is 'coco'; expected one of coco-r50, .*tiny"):
        resolve("coco", {})
