"""Values from outside, and configs made of them."""

import math
from typing import Any

import pytest

from slotseg.config import TrainConfig
from slotseg.errors import ConfigError
from slotseg.values import flatten, is_number, is_whole, to_dict, with_values


@pytest.mark.parametrize(
    ("value", "number", "whole"),
    [
        (3, True, True),
        (-0.5, True, False),
        (math.nan, True, False),
        (True, False, False),
        (False, False, False),
        ("3", False, False),
        (None, False, False),
    ],
)
def test_numbers(value: object, number: bool, whole: bool) -> None:
    assert (is_number(value), is_whole(value)) == (number, whole)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"num_prototypes": 3}, "num_prototypes"),
        ({"model.prototypes": 3}, "prototypes"),
        ({"modell.num_prototypes": 3}, "modell.num_prototypes"),
        ({"batch_size.x": 3}, "batch_size.x"),
        ({"model.num_prototypes.x": 3}, "model.num_prototypes.x"),
        ({"model": 3}, "ModelConfig is 3"),
        ({"model.num_prototypes": 0}, "num_prototypes is 0"),
    ],
)
def test_wrong_dotted_names_and_values_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        with_values(TrainConfig(), values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"decoder.steps": -1}, "decoder.steps is -1; expected a number from 0 to 1000000000"),
        ({"views.kept": 8}, "views.kept is 8; expected 0 without model.freeze_backbone"),
        ({"views.area": 5}, "views.area is 5; expected 2 numbers in a list"),
        ({"views.blur": [1]}, r"views.blur is \(1,\); expected 2 numbers in a list"),
        ({"segment.scales": "x"}, "segment.scales is 'x'; expected one or more numbers"),
        ({"segment.scales": None}, "segment.scales is None; expected numbers in a list"),
        ({"segment.mirror": "x"}, "segment.mirror is 'x'; expected true or false"),
        ({"backbone.stride": "x"}, "backbone.stride is 'x'; expected a whole number or none"),
        ({"backbone.options": 5}, "backbone.options is 5; expected values by name"),
        ({"seed": 0.5}, "seed is 0.5; expected a whole number"),
        ({"image_size": 64}, "unknown setting 'image_size' in TrainConfig; expected views.image_size"),
        (
            {"views.size": 64},
            "unknown setting 'size' in ViewsConfig; expected one of image_size, .*, each after views.",
        ),
    ],
)
def test_what_is_wrong_is_named_in_full(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        with_values(TrainConfig(), values)


def test_a_whole_number_may_have_an_exponent() -> None:
    config = with_values(TrainConfig(), {"batch_size": 1e2, "epochs": 2.0, "optimizer.learning_rate": 1.0})
    assert [type(value) for value in (config.batch_size, config.epochs, config.optimizer.learning_rate)] == [
        int,
        int,
        float,
    ]


def test_dotted_names_change_only_what_they_name() -> None:
    base = TrainConfig()
    changes = {"model.num_prototypes": 27, "seed": 5, "backbone.options.pad_type": "same", "views.area": [0.2, 0.9]}
    before, after = flatten(to_dict(base)), flatten(to_dict(with_values(base, changes)))
    del before["backbone.options"]
    assert after == before | changes | {"views.area": (0.2, 0.9)}
    assert base == TrainConfig()
