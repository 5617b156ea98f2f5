"""A training run: the loop of steps, its files, interruption and resumption."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.views.batches import ViewBatch
from slotseg.data.views.sources import Source
from slotseg.errors import DataError, SlotSegError
from slotseg.method.outputs import SlotConOutput
from slotseg.runs.checkpoint import Checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.runs.journal import Journal
from slotseg.training.checkpoints import Checkpoints, State, optimizer_tensors, restore_optimizer
from slotseg.training.guard import MAX_IN_A_ROW
from slotseg.training.learner import Learner
from slotseg.training.prototypes import merge_by_use, start_prototypes
from slotseg.training.self_training import SelfTraining
from slotseg.training.signals import deferred_signals
from slotseg.values import to_dict
from slotseg.watching.monitor import collapse_measures
from slotseg.watching.watch import Watch

log = logging.getLogger(__name__)


class Trainer:
    """One training run; in each of several processes, that process's share of it.

    Args:
        config: All settings.
        source: The photos.
        run: Folder of the run.
        device: Name of the device; see ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.
        resume: The checkpoint to continue from, of a run with this configuration.
        notes: JSON-ready values to keep in ``config.json`` and in every checkpoint.

    Attributes:
        learner: Model in training, with its steps.
        journal: Files that the run writes beside its checkpoints.
        decoder_seconds: Seconds that ``train`` spent on the decoder.

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
        self.config, self.run, self.notes = config, run, notes or {}
        self.journal = Journal(run)
        self.learner = Learner(config, source, device=device, workers=workers, resume=resume)
        kept = resume is not None and self.learner.model.teacher.decoder is not None
        self.decoder_step = int(resume.info.get("decoder_step") or 0) if resume and kept else 0
        self.decoder_seconds = 0.0
        self.stage: SelfTraining | None = None
        self.resumed = resume if kept else None
        self.is_new = resume is None
        self.checkpoints = Checkpoints(run, config, self.state)

    def announce(self, lines: Sequence[str]) -> None:
        """Log lines now, and keep them as the head of the run's own log, which ``train`` writes."""
        for line in lines:
            log.info("%s", line)
        self.journal.heading.extend(lines)

    @property
    def step(self) -> int:
        """Steps done, of SlotCon and of the decoder."""
        return self.learner.step + self.decoder_step

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.learner.total_steps + self.config.decoder.steps

    def train(self) -> None:
        """Train to the end, or until Ctrl-C or SIGTERM.

        Raises:
            KeyboardInterrupt: On a signal, after the step in hand is finished and saved; on one that comes in the last
                step too, so that whoever trains before other work hears of it.
            SlotSegError: If the loss stops being a number.
        """
        config = {"config": to_dict(self.config), **self.notes}
        patient = distributed.is_distributed()  # torchrun passes on a signal that the terminal has sent already
        with self.journal.opened(config, self.step), self._no_failed_start(), deferred_signals(patient) as received:
            watch = self._watch()
            if self.learner.step < self.learner.total_steps:
                with self.learner.joined():
                    self._train_slotcon(received, watch)
            if self.decoder_step < self.config.decoder.steps:
                started = time.monotonic()
                try:
                    self._train_decoder(received, watch)
                finally:
                    self.decoder_seconds = time.monotonic() - started
        if received:
            raise KeyboardInterrupt

    @contextmanager
    def _no_failed_start(self) -> Iterator[None]:
        """Keep no checkpoint of a new training that fails before its first step: it would be taken for a run."""
        try:
            yield
        except Exception:
            if self.is_new and self.step == 0:
                self.checkpoints.forget()
            raise

    def _train_slotcon(self, received: Sequence[int], watch: Watch) -> None:
        """The first stage: student and teacher."""
        learner = self.learner
        if learner.kept:
            log.info("%s", learner.kept.summary)
        if learner.step == 0:
            self.checkpoints.keep()  # from here on the run can be resumed, and the disk has room
            if self.config.model.prototype_init == "kmeans":
                start_prototypes(learner, lambda: distributed.anywhere(bool(received))[0])
                if distributed.anywhere(bool(received))[0]:
                    self._end_interrupted()
        first_step, started = learner.step, time.monotonic()
        for batch, output in self._steps(received):
            interrupted, unreadable = distributed.anywhere(bool(received), bool(batch.unreadable))
            if unreadable:
                messages = distributed.gather_objects(batch.unreadable)
                self.journal.add_unreadable(tuple(m for of_process in messages for m in of_process))
            last = learner.step == learner.total_steps
            due = last or learner.step % self.config.log_every == 0
            self._heed_skipped(latest=due or interrupted)
            if due and not learner.guard.in_a_row:
                rate = (learner.step - first_step) * self.config.batch_size / (time.monotonic() - started)
                self.journal.add_metrics({**self._metrics(output), "photos_per_second": rate})
                watch.add_metrics(self.journal.metrics)
            if last and not self.config.decoder.steps:
                merge_by_use(learner)
            self._after_step(watch, interrupted=interrupted, stage_ends=last)

    def _train_decoder(self, received: Sequence[int], watch: Watch) -> None:
        """The second stage: a decoder."""
        log.info("A decoder learns the run's own assignments, refined")

        def stopped() -> bool:
            return distributed.anywhere(bool(received))[0]

        stage = self.stage = SelfTraining.begin(self.learner, step=self.decoder_step, stop=stopped)
        if stage is None:
            self._end_interrupted()
        if self.resumed:
            restore_optimizer(self.learner.model, stage.optimizer, self.resumed)
            stage.agreement = self.resumed.info.get("decoder_agreements")  # earlier versions kept another
        first_step, started = stage.step, time.monotonic()
        with (
            stage.joined(),
            tqdm(total=stage.total_steps, initial=first_step, unit="step", disable=distributed.quiet()) as bar,
        ):
            while stage.step < stage.total_steps:
                if not stage.ready():
                    self.checkpoints.attempt(self.run.last)
                    self._end_interrupted()
                loss = stage.train_step()
                bar.update()
                self.decoder_step = stage.step
                last = stage.step == stage.total_steps
                if last or stage.step % self.config.log_every == 0:
                    self._add_decoder_metrics(stage, loss, (stage.step - first_step) / (time.monotonic() - started))
                    watch.add_metrics(self.journal.metrics)
                self._after_step(watch, interrupted=stopped(), stage_ends=last)

    def _after_step(self, watch: Watch, *, interrupted: bool, stage_ends: bool) -> None:
        """Paint, save and end, as is due after a step."""
        last, teacher = self.step == self.total_steps, self.learner.model.teacher
        if last and teacher.confusion is not None:
            log.info("%d prototypes were merged to %d concepts", self.config.model.num_trained, teacher.num_concepts)
        watch.after_step(self.step, teacher)
        self.checkpoints.after_step(self.step, final=stage_ends or interrupted)
        if interrupted and not last:
            self._end_interrupted()

    def state(self) -> State:
        """Tensors and header of a checkpoint of this moment."""
        tensors, info = self.learner.state()
        if self.stage:
            tensors = {**tensors, **optimizer_tensors(self.learner.model, self.stage.optimizer)}
            info = {**info, "decoder_step": self.stage.step, "decoder_agreements": self.stage.agreement}
        steps = {"step": self.step, "total_steps": self.total_steps}
        return tensors, {"kind": "run", **info, **steps, **self.notes}

    def _steps(self, received: Sequence[int]) -> Iterator[tuple[ViewBatch, SlotConOutput]]:
        """Each batch and the output of its step. A signal between them ends the run; one in a step does not."""
        learner, first_step, quiet = self.learner, self.learner.step, distributed.quiet()
        total = learner.total_steps
        bar = tqdm(total=total, initial=first_step, unit="step", disable=quiet, smoothing=0.1)
        with bar, self._kept_if_unread(received):
            for batch in learner.batches(first_step, total, lambda: distributed.anywhere(bool(received))[0]):
                output = learner.train_step(batch.to(learner.device))
                bar.update()
                if learner.step % self.config.log_every == 0:
                    bar.set_postfix(loss=f"{output.loss.item():.3f}")
                yield batch, output
            if learner.step < total:  # a signal came while photos were looked at
                self._keep_steps(first_step)
                self._end_interrupted()

    @contextmanager
    def _kept_if_unread(self, received: Sequence[int]) -> Iterator[None]:
        """Write a checkpoint where photos can no longer be read in the block."""
        first_step = self.learner.step
        try:
            yield
        except DataError:
            self._keep_steps(first_step)
            if received:  # the signal came to the loader processes as well, which died of it
                self._end_interrupted()
            raise

    def _keep_steps(self, first_step: int) -> None:
        """Write a checkpoint if steps were done."""
        if self.learner.step > first_step:
            self.checkpoints.attempt(self.run.last)

    def _end_interrupted(self) -> NoReturn:
        log.info("Interrupted at step %d; continue with --resume %s", self.step, self.run.path)
        raise KeyboardInterrupt

    def _heed_skipped(self, *, latest: bool) -> None:
        """End the run where too many steps in a row are skipped."""
        guard = self.learner.guard
        guard.heed(latest=latest)
        if guard.in_a_row >= MAX_IN_A_ROW:
            raise SlotSegError(
                f"{guard.in_a_row} steps in a row, the last of them step {self.learner.step - guard.num_unread}, had a "
                f"loss or gradient that is no number (the loss is {guard.loss}); expected numbers: continue with "
                f"--resume {self.run.path} and --precision fp32 or a lower --learning-rate"
            )

    def _metrics(self, output: SlotConOutput) -> dict[str, Any]:
        """Metrics of the step just done, over the whole batch, for ``metrics.jsonl``."""
        learner = self.learner
        sums = [sum(losses) for losses in (output.grouping_losses, output.slot_losses)]
        values = distributed.mean(torch.stack([output.loss, *(torch.as_tensor(s) / 2 for s in sums)]))
        loss, grouping, slot = values.tolist()
        return {
            "step": learner.step,
            "epoch": round(learner.step / learner.per_epoch, 3),
            "loss": loss,
            "grouping_loss": grouping,
            "slot_loss": slot,
            "learning_rate": learner.learning_rate(learner.step - 1),
            "teacher_momentum": learner.teacher_momentum(learner.step - 1),
            **collapse_measures(output, self.config.model.teacher_temperature),
            "skipped_steps": learner.guard.skipped,
        }

    def _add_decoder_metrics(self, stage: SelfTraining, loss: Tensor, steps_per_second: float) -> None:
        """Add a line of the decoder's metrics.

        Raises:
            SlotSegError: If the loss is no number.
        """
        value = float(distributed.mean(loss))
        if not math.isfinite(value):
            raise SlotSegError(
                f"the decoder's loss is {value} after {stage.step} of its steps; expected a number: continue with "
                f"--resume {self.run.path} --set decoder.learning_rate=0.001"
            )
        line = {"step": self.step, "decoder_loss": value, "steps_per_second": steps_per_second}
        if stage.agreement is not None:
            line["decoder_agreement"], line["untrained_agreement"] = stage.agreement
        self.journal.add_metrics(line)

    def _watch(self) -> Watch:
        return Watch(
            self.run,
            self.config,
            self.learner.source,
            self.learner.device,
            step=self.step,
            total_steps=self.total_steps,
            lines=self.journal.metrics,
        )
