"""Two processes against one: what they share, what they average, what they write."""

import gc
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from missing_corners import Corners
from torch import nn

from slotseg import distributed
from slotseg.config import BackboneConfig, TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.sources import Scenes
from slotseg.errors import ConfigError, DataError, SlotSegError
from slotseg.method.building import build_model
from slotseg.method.losses import Center, grouping_loss, slot_loss
from slotseg.method.merging import Confusion
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.training.trainer import Trainer
from slotseg.values import with_values


@contextmanager
def group(rank: int, rendezvous: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        yield
        dist.barrier()
    finally:
        gc.collect()
        dist.destroy_process_group()


def in_two_processes(work: Callable[..., None], folder: Path, *arguments: object) -> None:
    """Call ``work(rank, folder, *arguments)`` in two processes; what one of them raises is raised here."""
    mp.spawn(_work, args=(work, folder, *arguments), nprocs=2)


def _work(rank: int, work: Callable[..., None], folder: Path, *arguments: object) -> None:
    with group(rank, folder / "rendezvous"):
        work(rank, folder, *arguments)


# without processes


def test_alone_everything_gives_its_own_value_back() -> None:
    tensor = torch.arange(3.0, requires_grad=True)
    for function in (distributed.gather, distributed.mean, distributed.total):
        assert torch.equal(function(tensor), tensor)
        assert not function(tensor).requires_grad
    assert distributed.anywhere(True, False) == (True, False)
    assert distributed.gather_objects("x") == ["x"]
    assert distributed.once(lambda: "x") == "x"
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    model = nn.Linear(2, 2)
    assert distributed.parallel(model, torch.device("cpu")) is model


def test_shared_batchnorm_has_the_same_names_and_keeps_timm_s_activations() -> None:
    """SyncBatchNorm runs on GPUs only; what is done to the model on the way there can be seen anywhere."""
    from timm.layers import convert_sync_batchnorm

    for name in ("resnet18", "mobilenetv3_small_050"):
        model = build_model(with_values(TrainConfig(), {"backbone.name": name, "model.hidden_dim": 8}))
        keys, activations = model.state_dict().keys(), _activations(model)
        convert_sync_batchnorm(model)
        assert model.state_dict().keys() == keys
        assert _activations(model) == activations
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        assert norms
        assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)


def _activations(model: nn.Module) -> int:
    return sum(isinstance(m, nn.ReLU | nn.Hardswish | nn.GELU) for m in model.modules())


# what is shared


def _exchange(rank: int) -> None:
    own = torch.tensor([1.0, 2.0]) + 10 * rank
    assert distributed.gather(own).tolist() == [1.0, 2.0, 11.0, 12.0]
    assert distributed.total(own).tolist() == [12.0, 14.0]
    assert distributed.mean(own).tolist() == [6.0, 7.0]
    assert own.tolist() == [1.0 + 10 * rank, 2.0 + 10 * rank]
    assert distributed.anywhere(rank == 1, False, True) == (True, False, True)
    assert distributed.gather_objects(f"from {rank}") == ["from 0", "from 1"]
    assert distributed.once(lambda: rank) == 0
    with pytest.raises(DataError, match="no photo in 0"):  # of the first process, in both
        distributed.once(lambda: _fail(rank))
    with pytest.raises(ZeroDivisionError if rank == 0 else SlotSegError, match="by zero"):
        distributed.once(lambda: 1 // rank)
    _slot_loss_is_the_mean_over_processes(rank)
    _one_process_without_positives(rank)
    _missing_cells_weigh_nothing(rank)


def _fail(rank: int) -> None:
    raise DataError(f"no photo in {rank}")


def _slot_loss_is_the_mean_over_processes(rank: int) -> None:
    """Against a slow version that knows the slots of both processes."""
    g = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 2, 3, 5, 4, generator=g, dtype=torch.float64)  # processes, B, K, D
    query_wins, key_wins = torch.rand(2, 2, 3, 5, generator=g) < 0.7
    predictor = nn.Linear(4, 4).double()
    nn.init.eye_(predictor.weight)
    nn.init.constant_(predictor.bias, 0.1)
    candidates = F.normalize(keys, dim=-1)[key_wins]
    losses = []
    for b, k in (query_wins[rank] & key_wins[rank]).nonzero().tolist():
        query = F.normalize(queries[rank, b, k] + 0.1, dim=0)
        logits = candidates @ query / 0.2
        positive = F.normalize(keys[rank, b, k], dim=0) @ query / 0.2
        losses.append(logits.logsumexp(0) - positive)
    ours = slot_loss(queries[rank], keys[rank], query_wins[rank], key_wins[rank], predictor, 0.2)
    torch.testing.assert_close(ours, torch.stack(losses).mean() * 0.4)


def _one_process_without_positives(rank: int) -> None:
    """No process waits for the other, and BatchNorm is asked by both or by none."""
    slots = torch.randn(2, 3, 4, requires_grad=True)
    wins = torch.full((2, 3), rank == 0)
    predictor = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    loss = slot_loss(slots, torch.randn(2, 3, 4), wins, wins, predictor, 0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert slots.grad is not None


def _missing_cells_weigh_nothing(rank: int) -> None:
    """Of three photos of each process, those of the second are missing in part: against all of them in one."""
    g = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 5, 4, 4, generator=g)  # processes, B, K, h, w
    valid = torch.rand(2, 3, 4, 4, generator=g) < 0.4
    valid[0] = True
    cells = [scores.movedim(2, 4)[valid].T[None, :, :, None] for scores in (student, teacher)]
    losses = grouping_loss(student[rank], teacher[rank], torch.zeros(5), 0.1, 0.07, valid[rank])
    target, prediction = (cells[1] / 0.07).softmax(dim=1), (cells[0] / 0.1).log_softmax(dim=1)
    torch.testing.assert_close(distributed.mean(losses), -(target * prediction).sum(dim=1).mean())
    center, confusion = Center(5, 0.9), Confusion(5, 0.07)
    center.update((teacher[rank], student[rank]), (valid[rank], valid[rank]))
    confusion.update(student[rank], teacher[rank], valid[rank])
    both = torch.cat(cells, dim=2)
    torch.testing.assert_close(center.value, 0.1 * both.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(
        confusion.wins, 0.01 * torch.bincount(both.argmax(dim=1).flatten(), minlength=5) / both[0, 0].numel()
    )


# training

CONFIG = TrainConfig(
    backbone=BackboneConfig(name="resnet18", stride=8, options={"channels": [8, 16, 16, 16], "layers": [1, 1, 1, 1]}),
    epochs=None,
    steps=4,
    batch_size=4,
    log_every=1,
    precision="fp32",
)
SMALL = {"model.num_prototypes": 6, "model.hidden_dim": 16, "model.projection_dim": 8, "views.image_size": 64}
SMALL |= {"optimizer.warmup_epochs": 0}


class Photos(Scenes):
    """Scenes of which some cannot be read."""

    def open(self, index: int) -> Photo:
        if index in (1, 6):
            raise DataError(f"photo {index} is broken")
        return super().open(index)


class CtrlC(Photos):
    """Photos of which the first brings a Ctrl-C."""

    def open(self, index: int) -> Photo:
        os.kill(os.getpid(), signal.SIGINT)
        return super().open(index)


def _train(
    folder: Path, name: str, *, source: Scenes | None = None, freeze: bool = False, stop: int = 0, **values: object
) -> Trainer:
    config = with_values(CONFIG, {**SMALL, **values})
    trainer = Trainer(config, source or Photos(8), RunFolder(folder / name), device="cpu", workers=0)
    if freeze:  # statistics of a part of the batch are the one thing that differs with the processes
        for module in trainer.learner.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    if stop:
        _press_ctrl_c_at(trainer, stop)
    trainer.train()
    return trainer


def _press_ctrl_c_at(trainer: Trainer, step: int) -> None:
    train_step = trainer.learner.train_step

    def interrupted(batch: object) -> object:
        if trainer.learner.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)  # as a terminal and torchrun both do
        return train_step(batch)  # type: ignore[arg-type]

    trainer.learner.train_step = interrupted  # type: ignore[assignment, method-assign]


GROUPING_ONLY = {"model.grouping_weight": 1.0, "optimizer.name": "adamw", "optimizer.learning_rate": 0.01}
GROUPING_ONLY |= {"teacher_momentum": 0.5}
PHOTOS_LIKE = {"model.trained_prototypes": 12, "model.prototype_init": "kmeans", "model.num_prototypes": 3}


KEPT = {"model.freeze_backbone": True, "views.kept": 3, "views.kept_memory": 1}
ONE_CORNER = Corners(corners={3, 7})
"""Photos of which hardly two with missing pixels are in one batch: they are in one process's part of it."""
DECODED = {"decoder.steps": 4, "decoder.rounds": 2, "decoder.photos": 6}


def _all(rank: int, folder: Path) -> None:
    """Everything in the same two processes, as these take seconds to begin."""
    _exchange(rank)
    (folder / f"exchanged-{rank}").touch()
    _trainings(rank, folder)


def _trainings(rank: int, folder: Path) -> None:
    logging.getLogger("slotseg").setLevel(logging.INFO)
    _train(folder, "grouping", freeze=True, **GROUPING_ONLY)
    whole = _train(folder, "photos", **PHOTOS_LIKE)
    digest = whole.learner.model.teacher.prototypes.weight.sum().item(), whole.learner.model.teacher.concepts.tolist()  # type: ignore[union-attr]
    assert distributed.gather_objects(digest) == [digest] * 2
    kept = _train(folder, "kept", freeze=True, **GROUPING_ONLY, **KEPT)
    _same_maps_in_both(kept)
    _train(folder, "decoded", freeze=True, **GROUPING_ONLY, **DECODED)
    _train(folder, "missing", source=ONE_CORNER, freeze=True, **GROUPING_ONLY)
    _train(folder, "missing-kept", source=ONE_CORNER, freeze=True, **GROUPING_ONLY, **KEPT, **DECODED)
    _train(folder, "learned-and-decoded", **PHOTOS_LIKE, **DECODED)  # BatchNorm's statistics differ on CPUs
    _train(folder, "kept-photos", **PHOTOS_LIKE, **KEPT)
    with pytest.raises(KeyboardInterrupt):
        _train(folder, "stopped", stop=2 if rank == 1 else 0)  # only one of them hears it
    with pytest.raises(KeyboardInterrupt):
        _train(folder, "stopped-looking", source=CtrlC(8) if rank == 1 else None, **PHOTOS_LIKE, **KEPT)
    if rank == 0:
        assert checkpoint.load(RunFolder(folder / "stopped").last).info["step"] == 2
        assert checkpoint.load(RunFolder(folder / "stopped-looking").last).info["step"] == 0
    _one_process_has_no_loss(rank, folder)
    with pytest.raises(ConfigError, match="batch_size is 5 for 2 processes; expected a multiple"):
        _train(folder, "odd", batch_size=5)
    (folder / f"rank-{rank}.json").write_text(json.dumps(sorted(whole.journal.unreadable)))


def _same_maps_in_both(trainer: Trainer) -> None:
    kept = trainer.learner.kept
    assert kept is not None
    digest = kept._maps.double().sum().item(), kept._places.sum().item()
    assert distributed.gather_objects(digest) == [digest] * 2
    batch = next(kept.batches(0, 1))
    assert [len(images) for images in batch.images] == [2, 2]
    whole = distributed.gather(batch.images[0])
    assert len(whole.flatten(1).unique(dim=0)) == 4


def _one_process_has_no_loss(rank: int, folder: Path) -> None:
    """What is no number in one process is skipped, undone and counted in both."""
    trainer = Trainer(
        with_values(CONFIG, {**SMALL, "teacher_momentum": 1.0, "keep_every": 1}),
        Scenes(8),
        RunFolder(folder / "spoiled"),
        device="cpu",
        workers=0,
    )
    learner = trainer.learner
    if rank == 1:
        learner.model.teacher.backbone.register_forward_hook(
            lambda _, __, features: features * (float("inf") if learner.step == 2 else 1.0)
        )
    trainer.train()
    assert learner.guard.skipped == 1
    assert all(tensor.isfinite().all() for tensor in learner.state()[0].values())
    own = learner.model.center.value.tolist(), learner.model.student.prototypes.weight.sum().item()
    assert distributed.gather_objects(own) == [own] * 2


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    in_two_processes(_all, folder)
    return folder


def _metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in RunFolder(run).metrics.read_text().splitlines()]


def test_what_processes_exchange(two: Path) -> None:
    assert [(two / f"exchanged-{rank}").is_file() for rank in (0, 1)] == [True, True]


@pytest.mark.parametrize(
    ("name", "values"),
    [("grouping", {}), ("kept", KEPT), ("decoded", DECODED), ("missing", {}), ("missing-kept", {**KEPT, **DECODED})],
)
def test_with_fixed_batchnorm_two_processes_learn_what_one_learns(
    two: Path, tmp_path: Path, name: str, values: dict[str, object]
) -> None:
    """Grouping loss, centre, teacher, student and collapse figures; the views are the same ones."""
    source = ONE_CORNER if name.startswith("missing") else None
    one = _train(tmp_path, "one", source=source, freeze=True, **GROUPING_ONLY, **values)
    ours, theirs = (checkpoint.load(RunFolder(run).last).tensors for run in (two / name, one.run.path))
    assert ours.keys() == theirs.keys()
    start = build_model(one.config).state_dict()
    assert not torch.allclose(theirs["teacher.prototypes.weight"], start["teacher.prototypes.weight"], atol=1e-3)
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, atol=2e-4, rtol=1e-3, msg=lambda m, key=key: f"{key}: {m}")
    for line, expected in zip(_metrics(two / name), _metrics(one.run.path), strict=True):
        compared = {key: value for key, value in expected.items() if key != "slot_loss" and "per_second" not in key}
        assert {key: line[key] for key in compared} == pytest.approx(compared, abs=1e-4)


@pytest.mark.parametrize("name", ["photos", "kept-photos"])
def test_one_set_of_files_and_one_log(two: Path, name: str) -> None:
    run = RunFolder(two / name)
    assert [line["step"] for line in _metrics(run.path)] == [1, 2, 3, 4]
    assert run.log.read_text().count("prototypes were merged") == 1
    listed = [json.loads(line)["error"] for line in run.failures.read_text().splitlines()]
    assert sorted(listed) == ["photo 1 is broken", "photo 6 is broken"]
    assert [json.loads((two / f"rank-{r}.json").read_text()) for r in (0, 1)] == [sorted(listed)] * 2
    assert checkpoint.load(run.last).tensors["teacher.concepts"].unique().tolist() == [0, 1, 2]


def test_a_step_that_one_process_cannot_take_is_taken_by_none(two: Path) -> None:
    before, after = (checkpoint.load(RunFolder(two / "spoiled").numbered(step)) for step in (2, 3))
    assert (before.info["skipped_steps"], after.info["skipped_steps"]) == (0, 1)
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    assert [line["step"] for line in _metrics(two / "spoiled")] == [1, 2, 4]


def test_a_run_of_two_processes_goes_on_with_one(two: Path) -> None:
    run = RunFolder(two / "stopped")
    resume = checkpoint.load(run.last)
    trainer = Trainer(with_values(CONFIG, SMALL), Photos(8), run, device="cpu", workers=0, resume=resume)
    trainer.train()
    assert [line["step"] for line in _metrics(run.path)] == [1, 2, 3, 4]
