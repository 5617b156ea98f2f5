"""Names that are carried from one run's prototypes to another's."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from slotseg.concepts.carrying import NameTransfer, Overlap, carry
from slotseg.concepts.collecting import CollectResult, collect
from slotseg.concepts.collection import CarriedName
from slotseg.config import TrainConfig
from slotseg.data.finding.inputs import Inputs
from slotseg.data.scenes import draw_scene
from slotseg.errors import DataError
from slotseg.labels.naming import Naming
from slotseg.method.model import SlotCon
from slotseg.segmenting.segmenter import Segmenter

K = 6
NAMES = Naming(names={0: "grass", 1: "sky", 4: "Sky"}, same_as={2: 0}, ignore=frozenset({3}), num_prototypes=K)
"""Of six prototypes; the last has no name."""


def table(*columns: Sequence[float]) -> np.ndarray:
    """Of the old run's six prototypes, by prototype of the new run."""
    return np.array(columns, float).T


def test_prototypes_of_one_name_count_together() -> None:
    carried = carry(table([3, 0, 3, 0, 0, 4], [0, 2, 0, 1, 3, 2], [0, 0, 0, 5, 0, 0]), NAMES)
    assert carried.prototypes == (
        CarriedName(name="grass", confidence=0.6),
        CarriedName(name="sky", confidence=0.625),
        CarriedName(name=None, confidence=1.0),
    )
    naming = carried.naming("ignore", "0123")
    assert naming.names == {0: "grass", 1: "sky"}
    assert naming.ignore == {2}
    assert (naming.unnamed, naming.num_prototypes, naming.checkpoint) == ("ignore", 3, "0123")


@pytest.mark.parametrize(
    "column",
    [
        [0.5, 0.5, 0, 0, 0, 0],  # half and half: neither is the majority
        [0.3, 0.2, 0.1, 0.1, 0.1, 0.2],  # 40 % of several
        [0, 0, 0, 0, 0, 1],  # it had no name
        [0.4, 0, 0, 0, 0, 0.6],  # most of it had none
        [0, 0, 0, 0, 0, 0],  # it wins nothing
    ],
)
def test_only_a_majority_is_carried(column: Sequence[float]) -> None:
    carrying = carry(table(column), NAMES)
    assert carrying.carried == {}
    assert carrying.naming("keep", "0123").names == {}


def test_a_prototype_of_many_names_says_its_first_one() -> None:
    (found,) = carry(table([0.3, 0.2, 0.1, 0.1, 0.1, 0.2]), NAMES).prototypes
    assert found is not None
    assert found.name == "grass"
    assert found.confidence == pytest.approx(0.4)
    assert carry(table([0.4, 0, 0, 0, 0, 0.6]), NAMES).prototypes == (None,)


def test_names_that_found_no_prototype_are_said_with_who_has_their_pixels() -> None:
    carrying = carry(table([6, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 7]), NAMES)
    assert [(lost.name, lost.most) for lost in carrying.lost] == [("sky", 1), (None, None)]
    assert carrying.lost[0].within == pytest.approx(2 / 3)
    assert carrying.lost[0].share == pytest.approx(3 / 17)
    assert carrying.report("old") == [
        "Names of old: 1 of 3 carried, to 1 of 2 prototypes",
        "No prototype has: sky (67% of it is 1 now), ignored (not in these photos)",
    ]


def test_doubtful_names_are_said_first_the_worst() -> None:
    carrying = carry(table([8, 2, 0, 0, 0, 0], [3, 4, 0, 0, 3, 0], [4, 6, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0]), NAMES)
    assert carrying.report("old")[1:3] == [
        "To be looked over: 2 sky (60%), 1 sky (70%)",
        "Without a name, as none had more than half of the pixels: 3 (50% grass)",
    ]


def test_names_of_another_number_are_refused() -> None:
    with pytest.raises(DataError, match="names 6 prototypes and the model has 5"):
        carry(np.zeros((5, 4)), NAMES)


def test_every_photo_counts_as_one() -> None:
    overlap = Overlap(lambda image: image[..., 0].astype(np.uint16), 300, 4)
    for side in (2, 40):
        image = np.full((side, side, 3), 255, np.uint8)
        image[: side // 2] = 7
        overlap.add(image, np.full((side, side), 3, np.uint16))
    assert overlap.table[[7, 255], 3] == pytest.approx([1, 1])
    assert overlap.table.sum() == pytest.approx(2)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(draw_scene(i)[0]).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def model(tiny_model: Callable[..., SlotCon]) -> Callable[[], SlotCon]:
    """The same one again and again, whose prototypes win pixels."""

    def build() -> SlotCon:
        model = tiny_model()
        for module in model.teacher.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.teacher(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        return model

    return build


def looked(old: Segmenter, new: Segmenter, photos: Path, names: Naming) -> tuple[CollectResult, NameTransfer]:
    overlap = Overlap(old.prototype_map, old.encoder.num_concepts, new.encoder.num_concepts)
    failures = photos / "failures.jsonl"
    found = collect(new, Inputs([photos]), failures=failures, run="new", checkpoint="0123", observe=overlap.add)
    return found, carry(overlap.table, names)


def test_the_same_run_keeps_every_name(
    model: Callable[[], SlotCon], tiny_config: Callable[..., TrainConfig], photos: Path
) -> None:
    segmenter = Segmenter(model().teacher, tiny_config(), device="cpu")
    names = Naming(names={k: f"name {k}" for k in range(K)})
    found, carrying = looked(segmenter, segmenter, photos, names)
    winning = {c.id for c in found.collection.concepts if c.share > 0}
    assert len(winning) >= 3
    assert set(carrying.carried) == winning
    for k, of in carrying.carried.items():
        assert of.name == f"name {k}"
        assert of.confidence == pytest.approx(1, abs=0.01)  # batches round otherwise
    concept = carrying.noted(found.collection, "old").concepts[min(winning)]
    assert concept.carried == carrying.carried[min(winning)]


def test_names_follow_permuted_prototypes(
    model: Callable[[], SlotCon], tiny_config: Callable[..., TrainConfig], photos: Path
) -> None:
    order = [3, 0, 5, 1, 4, 2]
    permuted = model().teacher
    with torch.no_grad():
        permuted.prototypes.weight.copy_(permuted.prototypes.weight[order])
    old, new = (Segmenter(teacher, tiny_config(), device="cpu") for teacher in (model().teacher, permuted))
    names = Naming(names={k: f"name {k}" for k in range(0, K, 2)}, ignore=frozenset({1}), unnamed="ignore")
    _, carrying = looked(old, new, photos, names)
    naming = carrying.naming(names.unnamed, "0123")
    assert len(naming.names) >= 2
    assert naming.names == {k: f"name {order[k]}" for k in naming.names}
    assert naming.ignore <= {order.index(1)}
    assert min(of.confidence for of in carrying.carried.values()) > 0.95


def test_long_lists_are_cut_short() -> None:
    names = Naming(names={k: f"name {k}" for k in range(20)})
    line = carry(np.eye(20)[:, :1], names).report("old")[-1]
    assert line.startswith("No prototype has: name 1 (not in these photos), name 2")
    assert line.endswith("name 12 (not in these photos) and 7 more")
