"""The second stage of training: a decoder learns the run's own assignments, refined by a mean field (self-training).

Before each round, the decoder so far assigns some of the run's photos in one look, and the mean field makes these
assignments follow the photos' colours. They are the targets of the round: soft, and without any label. An untrained
decoder gives the teacher's own assignments, so the first round needs nothing else.

All of it is a pure function of the configuration, the photos, the teacher and the step. So a checkpoint needs no
random state, and a resumed run equals an uninterrupted one. Letters: U of P prototypes, h w cells, p points along one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.errors import DataError
from slotseg.method.building import add_decoders
from slotseg.method.model import Encoder
from slotseg.method.schedules import learning_rate
from slotseg.networks.decoder import Decoder
from slotseg.networks.validity import weights
from slotseg.segmenting.looks import resample
from slotseg.segmenting.refinement import TEMPERATURE, refine
from slotseg.training.counting import count_looks
from slotseg.training.kept_photos import KeptPhoto, Place, keep_photos, logits_of, windows
from slotseg.training.learner import Learner
from slotseg.training.prototypes import merge

IN_USE = 0.001
"""Least share of the cells that a prototype wins to get an output of the decoder."""
HELD_OUT = 10
"""Number of photos of which one is held out, to tell how well the decoder does on photos that it has not learned."""
CELLS_EVERY = 17
"""Number of cells of which one is taken for the mean and deviation of a level."""
LEAST = 0.02
"""Least assignment somewhere in a photo for a prototype to take part in its mean field. The largest always does."""
ITERATIONS = 5
"""Iterations of the mean field; the next round goes on where they end."""
BATCH = 8
"""Windows in a step, over all processes; a few more where they cannot share them evenly."""
WINDOW = 10
"""Most cells along a side of a window."""
WARM_UP = 30
"""Steps over which the learning rate of a round rises, at most a third of them."""
WEIGHT_DECAY = 1e-4
SEED = 1
"""Number that tells this stage's random windows from those of other draws with the same seed."""


class SelfTraining:
    """A decoder in training; in each of several processes, that process's share of every batch.

    The student's decoder learns. The teacher's decoder makes the targets, and takes the student's weights after each
    round. Nothing else of the model changes, but for the merging of the prototypes after the last round.

    Use ``begin``.

    Attributes:
        step: Steps of the decoder done.
        total_steps: Steps of the decoder.
        optimizer: Optimiser of the round.
        agreement: Share of the points of held-out photos at which the student's decoder and the targets of its round
            have the same best prototype, as it was before the first step or after the last round, and the share of an
            untrained decoder with the same targets; None if not known.
    """

    def __init__(
        self, learner: Learner, photos: Sequence[KeptPhoto], used: Tensor, step: int, stop: Callable[[], bool]
    ) -> None:
        self.config, self.model, self.device = learner.config, learner.model, learner.device
        self.step, self.total_steps, self.stop = step, learner.config.decoder.steps, stop
        processes = distributed.world_size()
        self.batch_size = -(-BATCH // processes) * processes  # no number of processes ends a run at its second stage
        self.part = distributed.part(self.batch_size)
        self.agreement: tuple[float, float] | None = None
        self.photos, self.held_out = photos, photos[HELD_OUT - 1 :: HELD_OUT]
        self.learned = [photo for i, photo in enumerate(photos) if i % HELD_OUT != HELD_OUT - 1]
        if self.model.teacher.decoder is None:
            self._add_decoders(used)
        self.optimizer = self._new_optimizer()
        self.targets, self.held_out_targets = list[Tensor](), list[Tensor]()
        self.parallel: nn.Module = self.student

    @classmethod
    def begin(cls, learner: Learner, *, step: int = 0, stop: Callable[[], bool]) -> "SelfTraining | None":
        """Look at the photos to learn from, and add untrained decoders to the model if it has none.

        The photos take the place of the learner's maps in memory.

        Args:
            learner: SlotCon after its last step.
            step: Steps of the decoder that the model has done.
            stop: Function that says whether to end early, asked after each photo; the same in all processes.

        Returns:
            The training; None if it was stopped.

        Raises:
            DataError: If no photo can be read any more.
        """
        distributed.share_buffers(learner.model)  # all processes have to find the same prototypes in use
        teacher = learner.model.teacher
        if learner.kept:
            learner.kept.release()
        photos = keep_photos(teacher, learner.source, learner.config, learner.device, stop)
        if stop():
            return None
        if not photos:
            raise DataError("none of the photos can be read any more; expected one at least for the decoder")
        if teacher.decoder is None:
            merge(teacher, _wins(photos), learner.config)
        used = teacher.decoder.used if teacher.decoder else prototypes_in_use(teacher, learner.config)
        return cls(learner, [photo.of(used) for photo in photos], used, step, stop)

    @property
    def student(self) -> Decoder:
        """The decoder that learns."""
        assert self.model.student.decoder is not None
        return self.model.student.decoder

    @property
    def teacher(self) -> Decoder:
        """The decoder that makes the targets."""
        assert self.model.teacher.decoder is not None
        return self.model.teacher.decoder

    @property
    def round(self) -> tuple[int, int]:
        """First step and end of the round of the next step."""
        total, rounds = self.total_steps, min(self.config.decoder.rounds, self.total_steps)
        index = self.step * rounds // total
        return -(-index * total // rounds), -(-(index + 1) * total // rounds)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Average gradients over the processes within the block."""
        self.parallel = distributed.parallel(self.student, self.device)
        try:
            yield
        finally:
            self.parallel = self.student

    def ready(self) -> bool:
        """Make the targets of the round, unless they are there. False if that was cut short."""
        if not self.targets:
            self.held_out_targets = self._targets(self.held_out)
            self.targets = self._targets(self.learned)
            if self.stop():
                self.targets = []
            elif self.step == 0:
                self.agreement = self._agreement()
        return bool(self.targets)

    def train_step(self) -> Tensor:
        """Take one step, once ``ready``; after the last of a round, the teacher's decoder follows.

        Returns:
            The loss, a scalar on the device.
        """
        first, end = self.round
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step - first, end - first)
        places = self._places()[self.part]
        batch = windows(self.learned, places, self.config.backbone)
        targets = [place.cut(self.targets[place.photo], self.learned[place.photo].cells) for place in places]
        logits: Tensor = self.parallel(batch.images, batch.levels, batch.scores)
        each = (torch.stack(targets) * logits.log_softmax(dim=1)).sum(dim=1)
        if any(photo.valid is not None for photo in self.photos):
            each = each * weights(self._valid(places))
        loss = -each.mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        if self.step == end:
            self._end_round()
        return loss.detach()

    def _end_round(self) -> None:
        self.agreement = self._agreement()
        self.teacher.load_state_dict(self.student.state_dict())
        self.optimizer, self.targets = self._new_optimizer(), []
        if self.step == self.total_steps:
            self._merge()

    def _merge(self) -> None:
        """Merge the prototypes, where they are to be merged, by what looks at whole photos say of them."""
        teacher = self.model.teacher
        if teacher.confusion is not None:
            wins, confusion = count_looks(teacher, self.photos, self.config)
            teacher.confusion.value.copy_(confusion)
            merge(teacher, wins, self.config)

    def _places(self) -> list[Place]:
        """Windows of the step, for all processes."""
        rng = np.random.default_rng([self.config.seed, SEED, self.step])
        most = min(WINDOW, *(side for photo in self.learned for side in photo.cells))
        places = []
        for index in rng.integers(len(self.learned), size=self.batch_size).tolist():
            height, width = self.learned[index].cells
            top, left = int(rng.integers(height - most + 1)), int(rng.integers(width - most + 1))
            places.append(Place(index, top, left, (most, most), mirrored=bool(rng.random() < 0.5)))
        return places

    def _valid(self, places: Sequence[Place]) -> Tensor:
        """Which points of some windows are valid, boolean, ``(B, p h, p w)``."""
        parts = []
        for place in places:
            photo = self.learned[place.photo]
            grid = (self.teacher.points * photo.cells[0], self.teacher.points * photo.cells[1])
            parts.append(place.cut(photo.valid_at(grid)[None], photo.cells)[0])
        return torch.stack(parts)

    def _targets(self, photos: Sequence[KeptPhoto]) -> list[Tensor]:
        """Assignments that the decoder is to learn, float16, ``(U, p h, p w)`` for each photo."""
        found = []
        for photo in photos:
            if self.stop():
                break
            logits = logits_of(self.teacher, photo, self.config.backbone)
            found.append(self._refined(logits, photo).half())
        return found

    @torch.no_grad()
    def _refined(self, logits: Tensor, photo: KeptPhoto) -> Tensor:
        """Assignments ``(U, p h, p w)`` that follow the photo's colours; missing points have no say in others."""
        points = self.teacher.points
        stride = photo.pixels.shape[1] // photo.cells[0]
        height, width = photo.image.shape[0] * points / stride, photo.image.shape[1] * points / stride
        valid = photo.valid_at((logits.shape[1], logits.shape[2]))
        most = (logits.softmax(dim=0) * valid).flatten(1).amax(dim=1)
        some = (most >= most.max().clamp(max=LEAST)).nonzero()[:, 0]  # one at least
        strength = self.config.decoder.field_strength
        scores = logits[some] * TEMPERATURE
        shown = None if photo.valid is None else photo.valid[: photo.image.shape[0], : photo.image.shape[1]]
        refined, covered = refine(scores, (height, width), photo.image, strength, points, ITERATIONS, shown)
        whole = resample(refined, covered, (logits.shape[1], logits.shape[2]), (height, width))
        return torch.zeros_like(logits).index_copy_(0, some, whole)

    @torch.no_grad()
    def _agreement(self) -> tuple[float, float] | None:
        if not self.held_out:
            return None
        own = untrained = number = 0
        for photo, target in zip(self.held_out, self.held_out_targets, strict=True):
            best = target.argmax(dim=0)
            valid = photo.valid_at((target.shape[1], target.shape[2]))
            learned = logits_of(self.student, photo, self.config.backbone).argmax(dim=0)
            before = self.student.untrained(photo.scores[None].float())[0].argmax(dim=0)
            own += int((learned == best)[valid].sum())
            untrained += int((before == best)[valid].sum())
            number += int(valid.sum())
        return (own / number, untrained / number) if number else None

    def _add_decoders(self, used: Tensor) -> None:
        """Add untrained decoders, drawn from the seed, that know how the levels of the photos vary."""
        torch.manual_seed(self.config.seed)
        add_decoders(self.model, used)
        every = CELLS_EVERY if len(self.photos) > 1 else 1  # one small photo has few cells
        levels = range(len(self.photos[0].levels))
        cells = [torch.cat([_cells(photo, level)[::every] for photo in self.photos]).float() for level in levels]
        for decoder in (self.student, self.teacher):
            decoder.standardise(cells)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        on_gpu_or_cpu = self.device.type in ("cpu", "cuda")
        return torch.optim.AdamW(self.student.parameters(), weight_decay=WEIGHT_DECAY, fused=on_gpu_or_cpu)

    def _learning_rate(self, step: int, steps: int) -> float:
        peak = self.config.decoder.learning_rate
        return learning_rate(step, base=peak, total_steps=steps, warmup_steps=min(WARM_UP, steps // 3), final=0.0)


def _wins(photos: Sequence[KeptPhoto]) -> Tensor:
    """Share of the valid cells that each prototype wins, ``(P,)``; all photos count the same."""
    best = ((photo.scores.argmax(dim=0)[photo.valid_at(photo.cells)], len(photo.scores)) for photo in photos)
    return torch.stack([torch.bincount(b, minlength=number) / len(b) for b, number in best]).mean(dim=0)


def _cells(photo: KeptPhoto, level: int) -> Tensor:
    """Valid cells of a level, ``(N, C)``."""
    cells = photo.levels[level]
    return cells[:, photo.valid_at((cells.shape[1], cells.shape[2]))].T


def prototypes_in_use(teacher: Encoder, config: TrainConfig) -> Tensor:
    """Indices of the prototypes that win over ``IN_USE`` of the cells, ascending, ``(U,)``.

    There are as many as the run has concepts at least. Where prototypes are not merged, all are in use.
    """
    number = len(teacher.prototypes.weight)
    if teacher.confusion is None:
        return torch.arange(number, device=teacher.prototypes.weight.device)
    wins = teacher.confusion.wins
    least = max(config.model.num_prototypes or 2, int((wins > IN_USE).sum()))
    return wins.argsort(descending=True, stable=True)[:least].sort().values
