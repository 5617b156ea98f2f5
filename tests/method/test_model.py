"""SlotCon's invariants: what a step may change, where gradients go, what a permutation does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slotseg.config import ModelConfig
from slotseg.errors import ConfigError
from slotseg.method.alignment import align
from slotseg.method.grouping import slots_from_scores, winners
from slotseg.method.losses import grouping_loss, slot_loss
from slotseg.method.model import SlotCon
from slotseg.method.outputs import SlotConOutput
from slotseg.watching.monitor import collapse_measures

Build = Callable[..., SlotCon]
Pair = tuple[Tensor, Tensor]
Views = tuple[Pair, Pair, Pair]
FROZEN = {"model.freeze_backbone": True}


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def changed(module: torch.nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


def losses(output: SlotConOutput) -> list[float]:
    return [x.item() for x in (*output.grouping_losses, *output.slot_losses)]


def separate(model: SlotCon) -> None:
    """Make student, teacher and centre differ, as after some training."""
    torch.manual_seed(7)
    with torch.no_grad():
        for p in model.teacher.parameters():
            p.add_(0.05 * torch.randn_like(p))
        model.center.value.normal_(std=0.1)


def test_forward_changes_nothing_but_running_statistics(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model()
    before = snapshot(model)
    model(*view_pairs)
    statistics = {k for k in before if k.rsplit(".", 1)[1] in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed(model, before) == statistics
    model.eval()
    before = snapshot(model)
    model(*view_pairs)
    assert changed(model, before) == set()


def test_gradient_reaches_every_weight_of_the_student_and_none_of_the_teacher(
    tiny_model: Build, view_pairs: Views
) -> None:
    model = tiny_model()
    model(*view_pairs).loss.backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == (not name.startswith("teacher.")), name


@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_update_teacher_moves_parameters_never_buffers(tiny_model: Build, view_pairs: Views, momentum: float) -> None:
    model = tiny_model()
    separate(model)
    model.student(view_pairs[0][0])
    teacher, student = snapshot(model.teacher), snapshot(model.student)
    model.update_teacher(momentum)
    parameters = dict(model.teacher.named_parameters())
    for name, value in model.teacher.state_dict().items():
        expected = momentum * teacher[name] + (1 - momentum) * student[name] if name in parameters else teacher[name]
        torch.testing.assert_close(value, expected)
    assert changed(model.student, student) == set()


def test_teacher_starts_as_the_student_and_shares_no_memory(tiny_model: Build) -> None:
    model = tiny_model()
    assert changed(model.teacher, snapshot(model.student)) == set()
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(1)
    assert changed(model.teacher, snapshot(model.student)) == {n for n, _ in model.student.named_parameters()}


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_total_is_weighted(tiny_model: Build, view_pairs: Views, weight: float) -> None:
    output = tiny_model({"model.grouping_weight": weight})(*view_pairs)
    g1, g2, s1, s2 = losses(output)
    assert output.loss.item() == pytest.approx(weight * (g1 + g2) + (1 - weight) * (s1 + s2))


def test_swapping_the_views_swaps_the_losses(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model()
    separate(model)
    g1, g2, s1, s2 = losses(model(*view_pairs))
    assert g1 != pytest.approx(g2)
    images, boxes, flips = ((two, one) for one, two in view_pairs)
    assert losses(model(images, boxes, flips)) == pytest.approx([g2, g1, s2, s1], rel=1e-4)


def test_permuting_prototypes_permutes_outputs_and_leaves_losses(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model().double()
    separate(model)
    images, boxes, flips = view_pairs
    views = (images[0].double(), images[1].double()), boxes, flips
    before = model(*views)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    with torch.no_grad():
        for tensor in (model.student.prototypes.weight, model.teacher.prototypes.weight, model.center.value):
            tensor.copy_(tensor[order])
    after = model(*views)
    assert losses(after) == pytest.approx(losses(before), rel=1e-9)
    for branch in ("student", "teacher"):
        for one, two in zip(getattr(before, branch), getattr(after, branch), strict=True):
            torch.testing.assert_close(two.projections, one.projections)
            for name in ("scores", "slots", "aligned"):
                torch.testing.assert_close(getattr(two, name), getattr(one, name)[:, order])


def test_a_frozen_backbone_equals_the_separate_computation(tiny_model: Build, view_pairs: Views) -> None:
    model, c = tiny_model(FROZEN), tiny_model().config
    with torch.no_grad():
        for p in model.teacher.projector.parameters():
            p.add_(0.05)
    backbone = snapshot(model.student.backbone)
    output = model(*view_pairs)
    output.loss.backward()
    for encoder in (model.student, model.teacher):
        assert changed(encoder.backbone, backbone) == set()
        assert all(p.grad is None for p in encoder.backbone.parameters())
    assert all(p.grad is not None for p in model.student.projector.parameters())

    fresh = tiny_model(FROZEN)
    fresh.load_state_dict(model.state_dict())
    images, boxes, flips = view_pairs
    projections, scores = {}, {}
    for encoder_name in ("student", "teacher"):
        for i in range(2):
            encoder = getattr(fresh, encoder_name)
            dense = encoder.backbone.eval()(images[i])
            projections[encoder_name, i] = encoder.projector(dense)
            scores[encoder_name, i] = encoder.prototypes(projections[encoder_name, i])
    aligned = {(n, i): align(s, boxes[i], flips[i]) for (n, i), s in scores.items()}
    slots = {at: slots_from_scores(projections[at], scores[at], c.assignment_temperature) for at in scores}
    expected = [
        grouping_loss(aligned["student", i], aligned["teacher", 1 - i], fresh.center.value, 0.1, 0.07) for i in (0, 1)
    ]
    for i in (0, 1):
        s, t = ("student", i), ("teacher", 1 - i)
        wins = winners(scores[s]), winners(scores[t])
        expected.append(slot_loss(slots[s], slots[t], *wins, fresh.predictor, 0.2))
    assert losses(output) == pytest.approx([x.item() for x in expected], rel=1e-5)


def test_a_frozen_backbone_stays_in_eval_mode_and_the_teacher_leaves_it(tiny_model: Build) -> None:
    model = tiny_model(FROZEN)
    for _ in range(2):  # as built, and after train()
        assert model.student.projector.training
        assert not model.student.backbone.training
        assert not model.teacher.backbone.training
        model.train()
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(1)
    before = snapshot(model.teacher)
    model.update_teacher(0.5)
    moved = changed(model.teacher, before)
    assert moved == {n for n, _ in model.teacher.named_parameters() if not n.startswith("backbone.")}


def test_the_centre_moves_only_when_told(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model()
    output = model(*view_pairs)
    before = snapshot(model)
    model.update_center(output)
    assert changed(model, before) == {"center.value"}
    mean = sum(t.scores.mean((0, 2, 3)) for t in output.teacher) / 2
    torch.testing.assert_close(model.center.value, 0.1 * mean)


def test_float32_where_it_matters_under_autocast(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model()
    full = model(*view_pairs)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(*view_pairs)
    assert low.student[0].projections.dtype == torch.bfloat16, "autocast is at work"
    assert {x.dtype for x in (low.loss, *low.grouping_losses, *low.slot_losses)} == {torch.float32}
    for branch in ("student", "teacher"):
        for ours, reference in zip(getattr(low, branch), getattr(full, branch), strict=True):
            for name in ("scores", "slots", "aligned"):
                value = getattr(ours, name)
                assert value.dtype == torch.float32, name
                torch.testing.assert_close(value, getattr(reference, name), atol=0.15, rtol=0.1)
    assert losses(low) == pytest.approx(losses(full), rel=0.1)
    low.loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_the_encoder_alone_gives_the_teachers_scores(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model().eval()
    separate(model)
    with torch.no_grad():
        torch.testing.assert_close(model.teacher(view_pairs[0][1]), model(*view_pairs).teacher[1].scores)


MERGED = {"model.trained_prototypes": 6, "model.num_prototypes": 2}


def test_a_concept_scores_as_its_best_prototype(tiny_model: Build, view_pairs: Views) -> None:
    teacher = tiny_model(MERGED).teacher.eval()
    images = view_pairs[0][0]
    concepts = torch.tensor([0, 1, 0, 0, 1, 1])
    teacher.concepts.copy_(concepts)
    merged = teacher(images)
    scores = teacher.prototypes(teacher.projector(teacher.backbone(images)))
    expected = torch.stack([scores[:, concepts == k].amax(dim=1) for k in (0, 1)], dim=1)
    torch.testing.assert_close(merged, expected)
    assert teacher.num_concepts == 2
    vectors = torch.nn.functional.normalize(teacher.prototypes.weight, dim=1)
    mean = torch.nn.functional.normalize(vectors[concepts == 1].mean(dim=0), dim=0)
    torch.testing.assert_close(teacher.concept_vectors()[1], mean)


def test_without_more_trained_than_asked_for_prototypes_are_the_concepts(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model()
    model.update_center(model(*view_pairs))
    assert model.teacher.num_concepts == 6
    with pytest.raises(ConfigError, match="6 prototypes were not trained to be merged to 3"):
        model.teacher.merge(3)
    assert not [name for name in model.state_dict() if "conc" in name or "confusion" in name]


def test_merging_follows_what_the_views_confuse_and_leaves_training_alone(tiny_model: Build, view_pairs: Views) -> None:
    model = tiny_model(MERGED)
    output = model(*view_pairs)
    model.update_center(output)
    one, two = (g.aligned.argmax(dim=1) for g in output.teacher)
    shares = torch.bincount(torch.cat([one, two]).flatten(), minlength=6) / (one.numel() + two.numel())
    torch.testing.assert_close(model.teacher.confusion.wins, shares * 0.01)  # one step at momentum 0.99
    expected = losses(model(*view_pairs))
    before = snapshot(model)
    model.teacher.merge(2)
    assert changed(model, before) <= {"teacher.concepts"}
    assert model.teacher.num_concepts == 2
    assert losses(model(*view_pairs)) == expected


def test_start_from_given_prototypes(tiny_model: Build) -> None:
    model = tiny_model()
    prototypes, center = torch.randn(6, 8), torch.randn(6)
    projector = {name: value + 1 for name, value in model.student.projector.state_dict().items()}
    model.start_from(projector, prototypes, center)
    for encoder in (model.student, model.teacher):
        assert all(torch.equal(value, projector[name]) for name, value in encoder.projector.state_dict().items())
    for encoder in (model.student, model.teacher):
        assert torch.equal(encoder.prototypes.weight, prototypes)
    assert torch.equal(model.center.value, center)
    assert model.student.prototypes.weight.requires_grad


@pytest.mark.parametrize("mapped", [False, True], ids=["images", "maps"])
@pytest.mark.parametrize("share", [0.6, 0.0], ids=["some valid", "none valid"])
def test_what_lies_beneath_missing_pixels_changes_nothing(mapped: bool, share: float) -> None:
    """With a backbone whose cells see their own pixels alone: not a bit of loss, gradient, centre or count."""
    g = torch.Generator().manual_seed(0)
    cells = torch.rand(2, 3, 8, 8, generator=g) < share
    boxes, flips = (
        (torch.rand(2, 3, 4, generator=g) * 0.4 + torch.tensor([0, 0, 0.6, 0.6])).unbind(),
        cells[:, :, 0, 0].unbind(),
    )
    images = torch.randn(2, 3, 6 if mapped else 3, 8 * (1 if mapped else 4), 8 * (1 if mapped else 4), generator=g)
    valid = cells if mapped else cells.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    seen = []
    for beneath in (0.0, 1e3):
        torch.manual_seed(0)
        config = ModelConfig(
            num_prototypes=3, trained_prototypes=7, hidden_dim=16, projection_dim=8, freeze_backbone=mapped
        )
        model = SlotCon(torch.nn.Conv2d(3, 6, 4, stride=4), 6, config)
        views = images.where(valid[:, :, None], beneath)
        output = model(views.unbind(), boxes, flips, valid.unbind(), mapped=mapped)
        output.loss.backward()
        model.update_center(output)
        measures = collapse_measures(output, 0.07)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        seen.append([output.loss.detach(), *gradients, *model.buffers(), torch.tensor(list(measures.values()))])
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert all(tensor.isfinite().all() for tensor in seen[0])
    assert (seen[0][0] > 0) == (share > 0)


def test_views_whose_cells_are_all_valid_change_no_bit(tiny_model: Build, view_pairs: Views) -> None:
    every = torch.ones(3, 64, 64, dtype=torch.bool)
    every[:, 0, 0] = False  # less than half of a cell
    one, two = tiny_model(), tiny_model()
    assert torch.equal(one(*view_pairs, (every, every)).loss, two(*view_pairs).loss)
