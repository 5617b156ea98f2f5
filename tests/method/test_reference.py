"""The published method's reference vectors: every intermediate, loss, gradient and update."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch import Tensor, nn

from slotseg import distributed
from slotseg.concepts.retrieval import segment_scores
from slotseg.config import ModelConfig
from slotseg.method import schedules
from slotseg.method.lars import LARS
from slotseg.method.model import SlotCon
from slotseg.method.outputs import SlotConOutput

REFERENCE = Path(os.environ.get("SLOTSEG_REFERENCE_DIR", Path(__file__).parent.parent / "golden" / "slotcon"))
META = json.loads((REFERENCE / "meta.json").read_text())
OURS = {
    "encoder_q.": "student.backbone.",
    "encoder_k.": "teacher.backbone.",
    "projector_q.mlp.": "student.projector.",
    "projector_k.mlp.": "teacher.projector.",
    "grouping_q.slot_embed.": "student.prototypes.",
    "grouping_k.slot_embed.": "teacher.prototypes.",
    "predictor_slot.mlp.": "predictor.",
}
ROUNDING_NOISE = {f"{head}.{i}.bias" for head in ("student.projector", "predictor") for i in (0, 3)}


def load(name: str) -> dict[str, Tensor]:
    return load_file(REFERENCE / f"{name}.safetensors")


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for key, value in tensors.items():
        prefix = next((p for p in OURS if key.startswith(p)), None)
        if prefix:
            state[OURS[prefix] + key[len(prefix) :]] = value
        else:
            state["center.value"] = value[0]
    return state


def build() -> SlotCon:
    c = META["config"]
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=4, padding=3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, c["backbone_channels"], 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c["backbone_channels"]),
        nn.ReLU(),
    )
    config = ModelConfig(
        num_prototypes=c["num_prototypes"],
        projection_dim=c["projection_dim"],
        hidden_dim=c["hidden_dim"],
        student_temperature=c["student_temp"],
        teacher_temperature=c["teacher_temp"],
        assignment_temperature=c["teacher_temp"],
        slot_temperature=c["slot_temp"],
        center_momentum=c["center_momentum"],
        grouping_weight=c["group_loss_weight"],
    )
    model = SlotCon(backbone, c["backbone_channels"], config).double()
    model.load_state_dict({k: v.to(_wider(v)) for k, v in renamed(load("initial_state")).items()})
    return model.train()


def _wider(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.is_floating_point() else tensor.dtype


def views(inputs: dict[str, Tensor], prefix: str = "") -> tuple[tuple[Tensor, Tensor], ...]:
    def pair(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return inputs[f"{prefix}{name}_1"].to(dtype), inputs[f"{prefix}{name}_2"].to(dtype)

    return pair("crop", torch.float64), pair("coords", torch.float64), pair("flip", torch.bool)


def lars(model: SlotCon) -> LARS:
    o = META["optimizer"]
    params = [p for p in model.parameters() if p.requires_grad]
    return LARS(params, o["lr"], o["momentum"], o["weight_decay"], o["trust_coefficient"])


def forward(
    model: SlotCon,
    step: int,
    total_steps: int,
    data: tuple[tuple[Tensor, Tensor], ...],
    call: nn.Module | None = None,
) -> SlotConOutput:
    model.update_teacher(
        schedules.teacher_momentum(step, base=META["config"]["teacher_momentum"], total_steps=total_steps)
    )
    output: SlotConOutput = (call or model)(*data)
    model.update_center(output)
    output.loss.backward()
    return output


def assert_agrees(ours: Tensor, reference: Tensor, name: str) -> None:
    ours = ours.detach()
    assert ours.shape == reference.shape, name
    if not reference.is_floating_point():
        assert torch.equal(ours, reference), name
        return
    scale = reference.abs().max().item()
    bound = 1e-9 * scale + 1e-12 if reference.dtype == torch.float64 else 1e-6 * scale
    worst = (ours - reference).abs().max().item()
    assert worst <= bound, f"{name}: off by {worst:.3g}, allowed {bound:.3g}"


def assert_gradients_agree(model: SlotCon, reference: dict[str, Tensor]) -> None:
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert gradients.keys() == renamed(reference).keys()
    for name, expected in renamed(reference).items():
        gradient = gradients[name]
        assert gradient is not None, name
        if name in ROUNDING_NOISE:
            assert gradient.abs().max() < 1e-12, name
        else:
            assert_agrees(gradient, expected, name)


def test_one_step_agrees_in_every_intermediate_gradient_and_weight() -> None:
    model = build()
    optimizer = lars(model)
    output = forward(model, 0, META["total_steps"], views(load("inputs"), "0."))

    expected = load("step_outputs")
    ours = {"loss": output.loss}
    for i, direction in enumerate(("1to2", "2to1")):
        ours[f"grouping_loss_{direction}"] = output.grouping_losses[i]
        ours[f"slot_loss_{direction}"] = output.slot_losses[i]
    for branch in ("student", "teacher"):
        for view, grouped in enumerate(getattr(output, branch), start=1):
            ours[f"{branch}_projection_{view}"] = grouped.projections
            for name in ("scores", "slots", "aligned"):
                ours[f"{branch}_{name}_{view}"] = getattr(grouped, name)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert_agrees(ours[name], value, name)

    assert_gradients_agree(model, load("step_gradients"))
    optimizer.step()
    state = model.state_dict()
    final = renamed(load("step_final_state"))
    assert state.keys() == final.keys()
    for name, value in final.items():
        assert_agrees(state[name], value, name)


@pytest.mark.parametrize(
    ("rates", "losses", "final"),
    [
        ([META["optimizer"]["lr"]] * 6, "trajectory_losses", "trajectory_final_state"),
        (META["varying_learning_rates"], "varying_trajectory_losses", "varying_trajectory_final_state"),
    ],
    ids=["constant rate", "varying rate"],
)
def test_six_steps_agree(rates: list[float], losses: str, final: str) -> None:
    model, inputs = build(), load("inputs")
    optimizer = lars(model)
    for step, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        output = forward(model, step, META["total_steps"], views(inputs, f"{step}."))
        optimizer.step()
        assert output.loss.item() == pytest.approx(META[losses][step], rel=1e-9)
    state = model.state_dict()
    for name, value in renamed(load(final)).items():
        assert_agrees(state[name], value, name)


def test_schedules_agree() -> None:
    table = META["learning_rate_at_step"]
    steps_per_epoch = table["steps_per_epoch"]
    ours = [
        schedules.learning_rate(
            t,
            base=table["base"],
            total_steps=table["epochs"] * steps_per_epoch,
            warmup_steps=table["warmup_epochs"] * steps_per_epoch,
        )
        for t in range(len(table["values"]))
    ]
    assert ours == pytest.approx(table["values"], rel=1e-12)
    for step, momentum in META["teacher_momentum_at_step"]:
        assert schedules.teacher_momentum(
            step, base=META["config"]["teacher_momentum"], total_steps=META["total_steps"]
        ) == pytest.approx(momentum, rel=1e-12)


def _two_process_step(rank: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        model = build()
        together = distributed.parallel(model, torch.device("cpu"))
        output = forward(model, 0, 53, views(load(f"ddp_rank{rank}_inputs")), together)
        expected = load(f"ddp_rank{rank}_outputs")
        assert_agrees(output.loss, expected["loss"], "loss")
        assert_agrees(model.center.value[None], expected["center"], "center")
        assert_gradients_agree(model, load("ddp_gradients"))
    finally:
        dist.destroy_process_group()


def test_two_processes_agree(tmp_path: Path) -> None:
    mp.spawn(_two_process_step, args=(str(tmp_path / "rendezvous"),), nprocs=2)  # raises what a rank raises


def test_retrieval_scores_agree() -> None:
    model, inputs, expected = build().eval(), load("inputs"), load("retrieval")
    images = torch.cat([inputs[f"{t}.crop_1"] for t in range(6)]).double()
    with torch.no_grad():
        scores = model.teacher(images)
    assert_agrees(scores, expected["eval_mode_scores"], "eval_mode_scores")
    found = segment_scores(scores)
    assert_agrees(found, expected["scores"], "scores")
    top = found.topk(5, dim=0)
    assert_agrees(top.values.T, expected["top5_score"], "top5_score")
    assert torch.equal(top.indices.T, expected["top5_image_index"])
