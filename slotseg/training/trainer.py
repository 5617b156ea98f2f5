"""The training loop: device, precision, schedules, checkpoints, resume; one process or many.

A run is a pure function of its configuration, its photos and the step: weights, data order,
crops, colours and dropout are all seeded by (seed, step or epoch), so a checkpoint needs no
random state and a resumed run equals an uninterrupted one, bit for bit on the CPU. Several
processes share each batch and see the very views that one would see.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.views.augment import augment, draw_augmentation, normalize
from slotseg.data.views.batches import ViewBatch, steps_per_epoch, view_batches
from slotseg.data.views.sources import Source
from slotseg.devices import autocast, keep_freed_memory, precision_name, resolve_device, resolve_workers
from slotseg.errors import ConfigError, DataError, SlotSegError
from slotseg.exchange.weights import load_into, read_weights
from slotseg.method import schedules
from slotseg.method.backbones import Backbone
from slotseg.method.building import build_model, build_optimizer, compile_networks
from slotseg.method.model import SlotConOutput
from slotseg.runs.checkpoint import Checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.runs.journal import Journal
from slotseg.signals import deferred_signals
from slotseg.training.checkpoints import Checkpoints, State
from slotseg.training.guard import MAX_IN_A_ROW, Guard
from slotseg.training.precision import choose_precision
from slotseg.training.prototypes import kmeans_prototypes, sample_directions
from slotseg.training.state import restore_state, state_tensors
from slotseg.training.usage import count_wins
from slotseg.values import to_dict
from slotseg.watching.monitor import collapse_figures
from slotseg.watching.watch import Watch

log = logging.getLogger(__name__)

INITIAL_STEPS = 30
"""Steps whose views are clustered for the first prototypes."""


class Trainer:
    """One training run; in each of several processes, that process's share of it.

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
        self.journal = Journal(run)
        self.device = resolve_device(device)
        self.workers = resolve_workers(workers)
        self.part = _part(config.batch_size)
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
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model = build_model(config)
        if config.backbone.init and resume is None:
            self._start_from(config.backbone.init)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # convolutions are faster so
        self.model.train()
        share = len(range(config.batch_size)[self.part])
        self.precision = choose_precision(
            self._precision_before(resume), self.model, share, config.views.image_size, self.device
        )
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.step = 0
        self.guard = Guard(self.model)
        if resume is not None:
            self._restore(resume)
        self.checkpoints = Checkpoints(run, config, self.state)
        if config.compile:
            compile_networks(self.model)
        self.parallel: nn.Module = self.model

    def train(self) -> None:
        """Train to the end, or until Ctrl-C or SIGTERM.

        Raises:
            KeyboardInterrupt: On a signal, after the step in hand is finished and saved.
            SlotSegError: If the loss stops being a number.
        """
        config = {"config": to_dict(self.config), **self.notes}
        patient = distributed.is_distributed()  # torchrun passes a signal on that the terminal has sent already
        with self.journal.opened(config, self.step), deferred_signals(patient) as received, self._joined_model():
            watch = self._watch()
            if self.step == 0:
                self.checkpoints.keep()  # from here on the run can be resumed, and the disk has room
                if self.config.model.prototype_init == "kmeans":
                    self._start_prototypes()
            for batch, output in self._steps():
                interrupted, unreadable = distributed.anywhere(bool(received), bool(batch.unreadable))
                if unreadable:
                    messages = distributed.gather_objects(batch.unreadable)
                    self.journal.add_unreadable(tuple(m for of_process in messages for m in of_process))
                last = self.step == self.total_steps
                if self.guard.in_a_row:
                    self._check_skipped(output)
                elif last or self.step % self.config.log_every == 0:
                    self.journal.add_metrics(self._metrics(output))
                    watch.add_metrics(self.journal.metrics)
                if last:
                    self._merge_by_use()
                watch.after_step(self.step, self.model.teacher)
                self.checkpoints.after_step(self.step, final=last or interrupted)
                if interrupted and not last:
                    log.info("Interrupted at step %d; continue with --resume %s", self.step, self.run.path)
                    raise KeyboardInterrupt

    @contextmanager
    def _joined_model(self) -> Iterator[None]:
        """Average gradients over the processes meanwhile; afterwards nothing holds on to their group, which may end."""
        self.parallel = distributed.parallel(self.model, self.device)
        try:
            yield
        finally:
            self.parallel = self.model

    def state(self) -> State:
        """Tensors and header of a checkpoint of this moment."""
        if self.model.teacher.confusion is not None and self.step < self.total_steps:
            self.model.teacher.merge(self.config.model.num_prototypes)
        info = {
            "kind": "run",
            "config": to_dict(self.config),
            "step": self.step,
            "total_steps": self.total_steps,
            "num_photos": len(self.source),
            "skipped_steps": self.guard.skipped,
            "computed_in": {"device": self.device.type, "precision": precision_name(self.precision)},
            "scaler": self.scaler.state_dict(),
            **self.notes,
        }
        return state_tensors(self.model, self.optimizer), info

    def batches(self, first_step: int, total_steps: int) -> Iterator[ViewBatch]:
        """This process's share of the batches of some steps, on the CPU."""
        return view_batches(
            self.source,
            self.config.views,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            first_step=first_step,
            total_steps=total_steps,
            workers=self.workers,
            part=self.part,
            pin_memory=self.device.type == "cuda",
        )

    def train_step(self, batch: ViewBatch) -> SlotConOutput:
        """One step, in the order of the paper: teacher, both branches, centre, student.

        Args:
            batch: Of ``batches``, on this trainer's device. Of several processes, ``train`` alone joins gradients.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step) * group["scale"]
        images = self.prepare(batch, self.step)
        self.guard.remember()
        self.model.update_teacher(self.teacher_momentum(self.step))
        with autocast(self.device, self.precision):
            output: SlotConOutput = self.parallel(images, batch.overlap_boxes, batch.flips)
        self.optimizer.zero_grad()
        self.scaler.scale(output.loss).backward()  # type: ignore[no-untyped-call]
        if self.guard.passes(output.loss, gradients=not self.scaler.is_enabled()):  # the scaler looks at its own
            self.model.update_center(output)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.step += 1
        return output

    @torch.no_grad()
    def _start_prototypes(self) -> None:
        """Put the prototypes where the features of the first views are, before anything is trained."""
        number = self.config.model.num_trained
        log.info("Clustering the first views for %d prototypes", number)
        directions = []
        for step, batch in enumerate(self.batches(0, min(INITIAL_STEPS, self.total_steps))):
            for view in self.prepare(batch.to(self.device), step):
                projections = self.model.teacher.projector(self.model.teacher.backbone(view))
                directions.append(distributed.gather(sample_directions(projections)))
        start = distributed.once(lambda: kmeans_prototypes(torch.cat(directions), number, self.config.seed))
        self.model.start_from(*start)

    def _merge_by_use(self) -> None:
        """Merge the prototypes for good, by how many cells of whole photos each wins."""
        teacher = self.model.teacher
        if teacher.confusion is not None:
            teacher.confusion.wins.copy_(count_wins(teacher, self.config, self.source, self.device))
            teacher.merge(self.config.model.num_prototypes)
            log.info("%d prototypes were merged to %d concepts", self.config.model.num_trained, teacher.num_concepts)

    def _steps(self) -> Iterator[tuple[ViewBatch, SlotConOutput]]:
        batches = self.batches(self.step, self.total_steps)
        self.started, self.first_step = time.monotonic(), self.step
        quiet = distributed.quiet()
        with tqdm(total=self.total_steps, initial=self.step, unit="step", disable=quiet, smoothing=0.1) as bar:
            while (batch := self._next(batches)) is not None:
                output = self.train_step(batch.to(self.device))
                bar.update()
                if self.step % self.config.log_every == 0:
                    bar.set_postfix(loss=f"{output.loss.item():.3f}")
                yield batch, output

    def _next(self, batches: Iterator[ViewBatch]) -> ViewBatch | None:
        """The next batch; where there can be none, what has been learned is kept."""
        try:
            return next(batches, None)
        except DataError:
            if self.step > self.first_step:
                self.checkpoints.attempt(self.run.last)
            raise

    def prepare(self, batch: ViewBatch, step: int) -> tuple[Tensor, Tensor]:
        """Augment and normalise both views; what is drawn is drawn for the whole batch, whoever has which part."""
        torch.manual_seed(_seed(self.config.seed, step, distributed.rank()))  # dropout and the like
        generator = torch.Generator().manual_seed(_seed(self.config.seed, step))
        backbone = self.config.backbone
        prepared = []
        for view, images in enumerate(batch.images):
            drawn = draw_augmentation(self.config.batch_size, view, self.config.views, generator)[self.part]
            colored = normalize(augment(images, drawn), backbone.mean, backbone.std)
            prepared.append(colored.contiguous(memory_format=torch.channels_last))
        return prepared[0], prepared[1]

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

    def _check_skipped(self, output: SlotConOutput) -> None:
        """End the run where steps are skipped one after another; the last checkpoint is from before."""
        if self.guard.in_a_row >= MAX_IN_A_ROW:
            raise SlotSegError(
                f"{self.guard.in_a_row} steps in a row, the last of them step {self.step}, had a loss or gradient that "
                f"is no number (the loss is {output.loss.item()}); expected numbers: continue with "
                f"--resume {self.run.path} and --precision fp32 or a lower --learning-rate"
            )

    def _metrics(self, output: SlotConOutput) -> dict[str, Any]:
        """A line of ``metrics.jsonl`` about the step just done, of the whole batch."""
        sums = [sum(losses) for losses in (output.grouping_losses, output.slot_losses)]
        values = distributed.mean(torch.stack([output.loss, *(torch.as_tensor(s) / 2 for s in sums)]))
        loss, grouping, slot = values.tolist()
        seconds = time.monotonic() - self.started
        return {
            "step": self.step,
            "epoch": round(self.step / self.per_epoch, 3),
            "loss": loss,
            "grouping_loss": grouping,
            "slot_loss": slot,
            "learning_rate": self.learning_rate(self.step - 1),
            "teacher_momentum": self.teacher_momentum(self.step - 1),
            **collapse_figures(output, self.config.model.teacher_temperature),
            "skipped_steps": self.guard.skipped,
            "photos_per_second": (self.step - self.first_step) * self.config.batch_size / seconds,
        }

    def _watch(self) -> Watch:
        return Watch(
            self.run,
            self.config,
            self.source,
            self.device,
            step=self.step,
            total_steps=self.total_steps,
            lines=self.journal.metrics,
        )

    def _start_from(self, init: str) -> None:
        """Load pretrained weights into the backbones of student and teacher."""
        weights = read_weights(init)
        for encoder in (self.model.student, self.model.teacher):
            assert isinstance(encoder.backbone, Backbone)
            load_into(encoder.backbone, weights)

    def _precision_before(self, resume: Checkpoint | None) -> str:
        """What is asked for; of a run that goes on on the same kind of device, what ``auto`` was before."""
        before = (resume.info.get("computed_in") if resume else None) or {}
        if self.config.precision == "auto" and before.get("device") == self.device.type:
            return str(before["precision"])
        return self.config.precision

    def _restore(self, resume: Checkpoint) -> None:
        """Continue from a checkpoint of this run."""
        number, per_epoch = resume.info.get("num_photos"), resume.info.get("steps_per_epoch")
        if number is None and per_epoch is not None and per_epoch != self.per_epoch:  # an imported run
            raise ConfigError(
                f"{len(self.source)} photos are {self.per_epoch} steps an epoch and the run had {per_epoch}; expected "
                f"{per_epoch * self.config.batch_size} photos or a few more, those it was trained on: to go on with "
                "others start a new run with its weights as --init"
            )
        if number not in (None, len(self.source)):
            raise ConfigError(
                f"there are {len(self.source)} photos and the run was started with "
                f"{number}; expected the same photos: restore the folder or start a new run"
            )
        step = int(resume.info["step"])
        if step > self.total_steps:
            raise ConfigError(
                f"the run has done {step} steps already and {self.total_steps} are asked for; expected more of them"
            )
        restore_state(self.model, self.optimizer, resume)
        if resume.info["scaler"]:
            self.scaler.load_state_dict(resume.info["scaler"])
        self.step = step
        self.guard.skipped = int(resume.info.get("skipped_steps", 0))


def _part(batch_size: int) -> slice:
    """This process's share of a batch."""
    rank, number = distributed.rank(), distributed.world_size()
    share, rest = divmod(batch_size, number)
    if rest:
        raise ConfigError(
            f"batch_size is {batch_size} for {number} processes; expected a multiple: it is divided among them"
        )
    return slice(rank * share, (rank + 1) * share)


def _seed(*parts: int) -> int:
    """A seed for torch of several numbers, of which zeros at the end change nothing."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1
