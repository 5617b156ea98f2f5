"""The training loop: device, precision, schedules, logging, checkpoints, resume.

A run is a pure function of its configuration, its photos and the step: weights, data order,
crops, colours and dropout are all seeded by (seed, step or epoch), so a checkpoint needs no
random state and a resumed run equals an uninterrupted one, bit for bit on the CPU.
"""

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from slotseg import checkpoint, schedules
from slotseg.backbones import Backbone
from slotseg.checkpoint import Checkpoint
from slotseg.config import OptimizerConfig, TrainConfig, to_dict
from slotseg.data.augment import augment, normalize
from slotseg.data.datasets import Source, ViewBatch, steps_per_epoch, view_batches
from slotseg.devices import resolve_device, resolve_precision, resolve_workers
from slotseg.errors import CheckpointError, ConfigError, DataError, SlotSegError
from slotseg.files import write_bytes, write_json
from slotseg.initialization import kmeans_prototypes, sample_directions
from slotseg.lars import LARS
from slotseg.model import SlotCon, SlotConOutput
from slotseg.monitor import collapse_figures
from slotseg.runs import RunFolder
from slotseg.segmenter import Segmenter
from slotseg.signals import deferred_signals
from slotseg.weights import load_into, read_weights

log = logging.getLogger(__name__)

NAMED_UNREADABLE = 3
INITIAL_STEPS = 30
"""Steps whose views are clustered for the first prototypes."""
COUNTED_PHOTOS = 100
"""Photos that show, at the end, which prototypes are in use."""


def build_model(config: TrainConfig) -> SlotCon:
    """A model with random weights drawn from the configuration's seed."""
    torch.manual_seed(config.seed)
    backbone = Backbone(config.backbone)
    cells, rest = divmod(config.views.image_size, backbone.stride)
    if cells < 2 or rest:
        raise ConfigError(
            f"image_size is {config.views.image_size}; expected a multiple of the backbone's stride "
            f"{backbone.stride}, at least twice it"
        )
    return SlotCon(backbone, backbone.channels, config.model)


def build_optimizer(model: SlotCon, config: OptimizerConfig) -> Optimizer:
    """LARS or AdamW over the student and the predictor; weight decay spares one-dimensional parameters."""
    backbone = {id(p) for p in model.student.backbone.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if p.requires_grad:
            scale = config.backbone_scale if id(p) in backbone else 1.0
            groups.setdefault((scale, config.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    settings: list[dict[str, Any]] = [
        {"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()
    ]
    if config.name == "lars":
        return LARS(settings, config.learning_rate, config.momentum, trust_coefficient=config.trust_coefficient)
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(settings, lr=config.learning_rate, fused=device in ("cpu", "cuda"))


class Trainer:
    """One training run.

    Args:
        config: All settings; weights named in ``config.backbone.init`` are loaded at the start.
        source: The photos.
        run: Where files go.
        device: As in ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.
        resume: The checkpoint to continue from, of a run with this configuration.
        notes: JSON-ready values to keep in ``config.json`` and in every checkpoint.

    Raises:
        ConfigError: If settings don't fit each other, the machine or the photos.
        CheckpointError: If weights or checkpoint cannot be loaded.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: Source,
        run: RunFolder,
        *,
        device: str = "auto",
        workers: int | None = None,
        resume: Checkpoint | None = None,
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.source, self.run, self.notes = config, source, run, notes or {}
        self.device = resolve_device(device)
        self.precision = resolve_precision(config.precision, self.device)
        self.workers = resolve_workers(workers)
        self.per_epoch = steps_per_epoch(len(source), config.batch_size)
        if config.steps is None and config.epochs is None:
            raise ConfigError("neither epochs nor steps are given; expected one of them")
        self.total_steps = config.steps or (config.epochs or 0) * self.per_epoch
        self.warmup_steps = round(config.optimizer.warmup_epochs * self.per_epoch)
        if self.warmup_steps >= self.total_steps:
            raise ConfigError(
                f"warmup_epochs is {config.optimizer.warmup_epochs}, {self.warmup_steps} steps; "
                f"expected less than the whole run of {self.total_steps} steps"
            )
        self.model = build_model(config)
        if config.backbone.init and resume is None:
            self._start_from(config.backbone.init)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # convolutions are faster so
        self.model.train()
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.step = 0
        self.unreadable: set[str] = set()
        if resume is not None:
            self._restore(resume)

    def train(self) -> None:
        """Train to the end, or until Ctrl-C or SIGTERM.

        Raises:
            KeyboardInterrupt: On a signal, after the step in hand is finished and saved.
            SlotSegError: If the loss stops being a number.
        """
        with self._log_file(), deferred_signals() as interrupted:
            self._write_config()
            if self.step == 0 and self.config.model.prototype_init == "kmeans":
                self._start_prototypes()
            self._forget_metrics_after(self.step)
            for output in self._steps():
                if self.step % self.config.log_every == 0 or self.step == self.total_steps:
                    self._write_metrics(output)
                if self.step == self.total_steps:
                    self._merge_by_use()
                if self.config.keep_every and self.step % self.config.keep_every == 0:
                    self.save(self.run.numbered(self.step))
                if interrupted or self.step % self.config.checkpoint_every == 0 or self.step == self.total_steps:
                    self.save(self.run.last)
                if interrupted:
                    log.info("Interrupted at step %d; continue with --resume %s", self.step, self.run.path)
                    raise KeyboardInterrupt

    def save(self, path: Path) -> None:
        """Write a checkpoint of this moment."""
        if self.model.teacher.confusion is not None and self.step < self.total_steps:
            self.model.teacher.merge(self.config.model.num_prototypes)
        tensors = self.model.state_dict()
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{index}.{name}": value for name, value in state.items()})
        info = {
            "kind": "run",
            "config": to_dict(self.config),
            "step": self.step,
            "total_steps": self.total_steps,
            "num_photos": len(self.source),
            "scaler": self.scaler.state_dict(),
            **self.notes,
        }
        checkpoint.save(path, tensors, info)
        write_json(path.with_suffix(".json"), info)

    @torch.no_grad()
    def _start_prototypes(self) -> None:
        """Put the prototypes where the features of the first views are, before anything is trained."""
        log.info("Clustering the first views for %d prototypes", self.config.model.num_trained)
        directions = []
        for step, batch in enumerate(self._batches(0, min(INITIAL_STEPS, self.total_steps))):
            for view in self._prepare(batch.to(self.device), step):
                projections = self.model.teacher.projector(self.model.teacher.backbone(view))
                directions.append(sample_directions(projections))
        prototypes, center = kmeans_prototypes(torch.cat(directions), self.config.model.num_trained, self.config.seed)
        self.model.start_from(prototypes, center)

    def _merge_by_use(self) -> None:
        """Merge the prototypes for good, by how many cells of whole photos each wins."""
        teacher, number = self.model.teacher, self.config.model.num_trained
        if teacher.concepts is None or teacher.confusion is None:
            return
        teacher.concepts.copy_(torch.arange(number))  # each on its own while they are counted
        segmenter = Segmenter(teacher, self.config, device=str(self.device))
        wins = torch.zeros(number)
        for index in sorted({i * len(self.source) // COUNTED_PHOTOS for i in range(COUNTED_PHOTOS)}):
            with suppress(DataError):  # named while training
                scores, _ = segmenter.scores(self.source.read(index))
                wins += torch.bincount(scores.argmax(dim=0).flatten(), minlength=number).cpu()
        self.model.train()
        teacher.confusion.wins.copy_(wins / wins.sum().clamp(min=1))
        teacher.merge(self.config.model.num_prototypes)
        log.info("%d prototypes were merged to %d concepts", number, teacher.num_concepts)

    def _batches(self, first_step: int, total_steps: int) -> Iterator[ViewBatch]:
        return view_batches(
            self.source,
            self.config.views,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            first_step=first_step,
            total_steps=total_steps,
            workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )

    def _steps(self) -> Iterator[SlotConOutput]:
        batches = self._batches(self.step, self.total_steps)
        self.started, self.first_step = time.monotonic(), self.step
        with tqdm(total=self.total_steps, initial=self.step, unit="step", disable=None, smoothing=0.1) as bar:
            for batch in batches:
                self._note_unreadable(batch.unreadable)
                output = self._train_step(batch.to(self.device))
                self.step += 1
                bar.update()
                if self.step % self.config.log_every == 0:
                    bar.set_postfix(loss=f"{output.loss.item():.3f}")
                yield output

    def _train_step(self, batch: ViewBatch) -> SlotConOutput:
        """One step, in the order of the paper: teacher, both branches, centre, student."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step) * group["scale"]
        images = self._prepare(batch, self.step)
        self.model.update_teacher(self.teacher_momentum(self.step))
        with torch.autocast(self.device.type, self.precision) if self.precision else nullcontext():
            output: SlotConOutput = self.model(images, batch.overlap_boxes, batch.flips)
        self.model.update_center(output)
        self.optimizer.zero_grad()
        self.scaler.scale(output.loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return output

    def _prepare(self, batch: ViewBatch, step: int) -> tuple[Tensor, Tensor]:
        seed = int(np.random.SeedSequence([self.config.seed, step]).generate_state(1, np.uint64)[0]) >> 1
        torch.manual_seed(seed)  # dropout and the like
        generator = torch.Generator().manual_seed(seed)
        backbone = self.config.backbone
        one, two = (
            normalize(augment(views, i, self.config.views, generator), backbone.mean, backbone.std).contiguous(
                memory_format=torch.channels_last
            )
            for i, views in enumerate(batch.images)
        )
        return one, two

    def learning_rate(self, step: int) -> float:
        """Learning rate of the heads at a step (0-based)."""
        optimizer = self.config.optimizer
        return schedules.learning_rate(
            step,
            base=optimizer.peak_rate(self.config.batch_size),
            total_steps=self.total_steps,
            warmup_steps=self.warmup_steps,
            final=optimizer.final_learning_rate,
        )

    def teacher_momentum(self, step: int) -> float:
        """The teacher's momentum at a step (0-based)."""
        base = self.config.teacher_momentum
        return schedules.teacher_momentum(step, base=base, total_steps=self.total_steps)

    def _write_metrics(self, output: SlotConOutput) -> None:
        """Append a line about the step just done to ``metrics.jsonl``."""
        loss = output.loss.item()
        if not math.isfinite(loss):
            raise SlotSegError(
                f"the loss is {loss} at step {self.step}; expected a number: resume from {self.run.last} "
                "with --precision fp32, or start again with a lower --learning-rate"
            )
        seconds = time.monotonic() - self.started
        line = {
            "step": self.step,
            "epoch": round(self.step / self.per_epoch, 3),
            "loss": loss,
            "grouping_loss": sum(x.item() for x in output.grouping_losses) / 2,
            "slot_loss": sum(x.item() for x in output.slot_losses) / 2,
            "learning_rate": self.learning_rate(self.step - 1),
            "teacher_momentum": self.teacher_momentum(self.step - 1),
            **collapse_figures(output.teacher[0].scores, self.config.model.teacher_temperature),
            "photos_per_second": (self.step - self.first_step) * self.config.batch_size / seconds,
        }
        with self.run.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _forget_metrics_after(self, step: int) -> None:
        """Drop the lines of steps that are going to be done again."""
        if self.run.metrics.is_file():
            lines = self.run.metrics.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            write_bytes(self.run.metrics, "".join(kept).encode())

    def _write_config(self) -> None:
        write_json(self.run.config, {"config": to_dict(self.config), **self.notes})

    @contextmanager
    def _log_file(self) -> Iterator[None]:
        """Keep what is logged in the run's ``log.txt`` too."""
        try:
            self.run.path.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(self.run.log)
        except OSError as error:
            raise ConfigError(f"{self.run.path} cannot be written ({error.strerror}); choose another --out") from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        package = logging.getLogger("slotseg")
        package.addHandler(handler)
        try:
            yield
        finally:
            package.removeHandler(handler)
            handler.close()

    def _note_unreadable(self, messages: tuple[str, ...]) -> None:
        """Name the first few unreadable photos, count all, list them in ``failures.jsonl``."""
        for message in messages:
            if message not in self.unreadable:
                self.unreadable.add(message)
                if len(self.unreadable) <= NAMED_UNREADABLE:
                    log.warning("Skipped: %s", message)
                with self.run.failures.open("a") as file:
                    file.write(json.dumps({"error": message}) + "\n")

    def _start_from(self, init: str) -> None:
        """Load pretrained weights into the backbones of student and teacher."""
        weights = read_weights(init)
        for encoder in (self.model.student, self.model.teacher):
            assert isinstance(encoder.backbone, Backbone)
            load_into(encoder.backbone, weights)

    def _restore(self, resume: Checkpoint) -> None:
        """Continue from a checkpoint of this run."""
        if resume.info.get("num_photos") != len(self.source):
            raise ConfigError(
                f"there are {len(self.source)} photos and the run was started with "
                f"{resume.info.get('num_photos')}; expected the same photos: restore the folder or start a new run"
            )
        names = set(self.model.state_dict())
        try:
            self.model.load_state_dict({k: v for k, v in resume.tensors.items() if k in names})
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint to resume from does not fit its configuration: {error}") from error
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in resume.part("optimizer.").items():
            index, name = key.split(".", 1)
            param = params[int(index)]
            if value.shape == param.shape:  # fused optimisers need the layout of the parameter
                value = torch.empty_like(param, dtype=value.dtype).copy_(value)
            states.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.scaler.load_state_dict(resume.info["scaler"])
        self.step = int(resume.info["step"])
