"""Learning, a step at a time: model, optimiser, schedules and views; one process or many.

What is learned is a pure function of the configuration, the photos and the step. Weights, data
order, crops, colours and dropout are all seeded by (seed, step or epoch). So a checkpoint needs no
random state, and a resumed run equals an uninterrupted one, bit for bit on the CPU. Several
processes share each batch and see the very views that one would see.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.views.augment import augment, draw_augmentation, normalize, seed_of
from slotseg.data.views.batches import ViewBatch, steps_per_epoch, view_batches
from slotseg.data.views.sources import Source
from slotseg.devices import (
    autocast,
    keep_freed_memory,
    precision_name,
    resolve_device,
    resolve_precision,
    resolve_workers,
)
from slotseg.errors import ConfigError
from slotseg.exchange.features import check_features
from slotseg.exchange.weights import load_into, read_weights
from slotseg.method import schedules
from slotseg.method.building import add_decoders, build_model, build_optimizer, compile_networks
from slotseg.method.outputs import SlotConOutput
from slotseg.networks.backbones import Backbone
from slotseg.runs.checkpoint import Checkpoint
from slotseg.training.checkpoints import State, optimizer_tensors, restore_model, restore_optimizer
from slotseg.training.guard import Guard
from slotseg.training.kept_maps import KeptMaps
from slotseg.values import to_dict


class Learner:
    """A model in training; in each of several processes, that process's share of every batch.

    The constructor loads weights.

    Args:
        config: All settings; without ``resume``, weights named in ``config.backbone.init`` are loaded.
        source: The photos.
        device: Name of the device; see ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.
        resume: The checkpoint to continue from, of a run with this configuration.

    Attributes:
        step: Steps done.
        total_steps: Steps of the whole training.
        per_epoch: Steps of a pass over the photos.
        kept: The maps that batches are drawn from, where they are kept.
        taken: Words on the part of a weights file that was loaded; empty for all of it.

    Raises:
        ConfigError: If settings don't fit each other, the machine or the photos.
        CheckpointError: If weights or checkpoint cannot be loaded.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: Source,
        *,
        device: str = "auto",
        workers: int | None = None,
        resume: Checkpoint | None = None,
    ) -> None:
        self.config, self.source, self.step = config, source, 0
        self.device = resolve_device(device)
        self.workers = resolve_workers(workers)
        self.part = distributed.part(config.batch_size)
        self.per_epoch = steps_per_epoch(len(source), config.batch_size)
        self.total_steps = total_steps(config, len(source))
        self.warmup_steps = round(config.optimizer.warmup_epochs * self.per_epoch)
        if self.warmup_steps >= self.total_steps:
            raise ConfigError(
                f"optimizer.warmup_epochs is {config.optimizer.warmup_epochs}, {self.warmup_steps} steps; "
                f"expected less than the whole run of {self.total_steps} steps"
            )
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model = build_model(config).to(self.device).to(memory_format=torch.channels_last)  # faster convolutions
        self.taken = ""
        if config.backbone.init and resume is None:
            self.taken = self._start_from(config.backbone.init)
        self.model.train()
        asked = self._precision_before(resume)
        # the same in all processes, also where their machines differ
        self.precision = distributed.once(lambda: resolve_precision(asked, self.device))
        self.kept: KeptMaps | None = None
        if config.views.kept:
            assert isinstance(self.model.student.backbone, Backbone)
            self.kept = KeptMaps(
                config,
                source,
                self.model.student.backbone,
                total_steps=self.total_steps,
                device=self.device,
                precision=self.precision,
                workers=self.workers,
                part=self.part,
            )
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        if resume is not None:
            self._restore(resume)
        self.guard = Guard(self.model, skipped=int(resume.info.get("skipped_steps") or 0) if resume else 0)
        if config.compile:
            compile_networks(self.model)
        self.parallel: nn.Module = self.model

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Average gradients over the processes within the block. After it, nothing holds on to their group."""
        self.parallel = distributed.parallel(self.model, self.device)
        try:
            yield
        finally:
            self.parallel = self.model

    def batches(
        self, first_step: int, total_steps: int, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[ViewBatch]:
        """This process's share of the batches of some steps, on the CPU; maps that are kept, on the device.

        Args:
            first_step: First step.
            total_steps: Step to end before.
            stopped: Function that says whether to end early where photos are looked at; see ``KeptMaps.batches``.
        """
        if self.kept is not None:
            return self.kept.batches(first_step, total_steps, stopped)
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

    def prepare(self, batch: ViewBatch, step: int) -> tuple[Tensor, Tensor]:
        """Augment and normalise both views. Each process draws for the whole batch and uses its own part.

        Where the batch has maps, the result is these, in float32.
        """
        if batch.mapped:
            return batch.images[0].float(), batch.images[1].float()
        torch.manual_seed(seed_of(self.config.seed, step, distributed.rank()))  # dropout and the like
        generator = torch.Generator().manual_seed(seed_of(self.config.seed, step))
        backbone = self.config.backbone
        prepared = []
        for view, images in enumerate(batch.images):
            drawn = draw_augmentation(self.config.batch_size, view, self.config.views, generator)[self.part]
            colored = normalize(augment(images, drawn), backbone.mean, backbone.std)
            prepared.append(colored.contiguous(memory_format=torch.channels_last))
        return prepared[0], prepared[1]

    def train_step(self, batch: ViewBatch) -> SlotConOutput:
        """Take one step: teacher update, forward, backward, centre update, optimiser.

        A step without a finite loss and gradient changes nothing but the teacher's weights, and ``guard`` counts it.
        Gradients of several processes are averaged only within ``joined``.

        Args:
            batch: Batch from ``batches``, on this learner's device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step) * group["scale"]
        images = self.prepare(batch, self.step)
        self.guard.remember()
        self.model.update_teacher(self.teacher_momentum(self.step))
        with autocast(self.device, self.precision):
            output: SlotConOutput = self.parallel(
                images, batch.overlap_boxes, batch.flips, batch.valid, mapped=batch.mapped
            )
        self.optimizer.zero_grad()
        self.scaler.scale(output.loss).backward()  # type: ignore[no-untyped-call]
        self.model.update_center(output)
        self._descend(self.guard.judge(output.loss, gradients=not self.scaler.is_enabled()))
        self.step += 1
        return output

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

    def state(self) -> State:
        """Tensors and header of a checkpoint of this moment; the model stays as it is.

        Before the last step, ``teacher.concepts`` are those that merging would give now.
        """
        tensors: dict[str, Tensor] = self.model.state_dict()
        tensors.update(optimizer_tensors(self.model, self.optimizer))
        teacher = self.model.teacher
        if teacher.confusion is not None and self.step < self.total_steps:
            tensors["teacher.concepts"] = teacher.merged(self.config.model.num_prototypes)
        return tensors, {
            "config": to_dict(self.config),
            "step": self.step,
            "total_steps": self.total_steps,
            "num_photos": len(self.source),
            "skipped_steps": self.guard.skipped,
            "computed_in": {"device": self.device.type, "precision": precision_name(self.precision)},
            "scaler": self.scaler.state_dict(),
        }

    def _descend(self, unsound: Tensor) -> None:
        """Take the optimiser's step; it changes nothing where the flag is set."""
        if self.device.type in ("cpu", "cuda") and not self.scaler.is_enabled():
            self.optimizer.found_inf = unsound  # type: ignore[attr-defined]  # torch's name for it; its kernels look
            self.optimizer.step()
        elif not unsound:  # a scaler waits for its own flag, and the kernels of other devices know none
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _start_from(self, init: str) -> str:
        """Load pretrained weights into the backbones of student and teacher; return the words on them."""
        student, teacher = self.model.student.backbone, self.model.teacher.backbone
        assert isinstance(student, Backbone)
        taken = load_into(student, read_weights(init))
        check_features(student.eval(), self.config.views.image_size, init)
        teacher.load_state_dict(student.state_dict())
        return taken

    def _precision_before(self, resume: Checkpoint | None) -> str:
        """The precision asked for; for ``auto``, a run resumed on the same kind of device keeps the one it had."""
        before = (resume.info.get("computed_in") if resume else None) or {}
        if self.config.precision == "auto" and before.get("device") == self.device.type:
            return str(before.get("precision", "auto"))
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
        decoder_step = int(resume.info.get("decoder_step") or 0)
        step = int(resume.info["step"]) - decoder_step
        if step > self.total_steps:
            raise ConfigError(
                f"the run has done {step} steps already and {self.total_steps} are asked for; expected more of them"
            )
        if step == self.total_steps and 0 < decoder_step <= self.config.decoder.steps:  # else it is learned anew
            add_decoders(self.model, resume.tensors["teacher.decoder.used"])
        restore_model(self.model, resume)
        restore_optimizer(self.model, self.optimizer, resume)
        if scaler := resume.info.get("scaler"):
            self.scaler.load_state_dict(scaler)
        self.step = step


def total_steps(config: TrainConfig, num_photos: int) -> int:
    """Steps of a whole training on so many photos.

    Raises:
        ConfigError: If the configuration has neither steps nor epochs.
    """
    if config.steps is None and config.epochs is None:
        raise ConfigError("neither epochs nor steps are given; expected one of them")
    return config.steps or (config.epochs or 0) * steps_per_epoch(num_photos, config.batch_size)
