"""SlotCon: a student and its EMA teacher that group the pixels of two views into the same slots.

Letters: B images, K prototypes, D projection dimension, h w feature cells.
Source: Wen et al., "Self-Supervised Visual Representation Learning with Semantic Grouping",
NeurIPS 2022, arXiv 2205.15288: section 3.1 is the pixel-level grouping, section 3.2 the group-level
contrastive learning on slots. ``docs/method.md`` has each formula beside its code and its test.
Ours: concepts that several prototypes are merged to, and a backbone that may be frozen.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg.config import ModelConfig
from slotseg.errors import ConfigError
from slotseg.method.alignment import align_valid
from slotseg.method.grouping import Prototypes, slots_from_scores, winners
from slotseg.method.heads import predictor, projector
from slotseg.method.losses import Center, grouping_loss, slot_loss
from slotseg.method.merging import IN_LOOKS, IN_VIEWS, Confusion, merge_confused
from slotseg.method.outputs import BranchOutput, Pair, SlotConOutput
from slotseg.networks.validity import project_valid, shared_cells

if TYPE_CHECKING:  # they need timm, which a backbone of one's own does not
    from slotseg.networks.backbones import Backbone
    from slotseg.networks.decoder import Decoder


class Encoder(nn.Module):
    """A backbone, a projector and prototypes: from an image to scores.

    Args:
        backbone: Maps ``(B, 3, H, W)`` to a dense map ``(B, channels, h, w)``.
        channels: Channel count of that map.
        config: Sizes of the head and number of prototypes.
    """

    def __init__(self, backbone: nn.Module, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector(channels, config.hidden_dim, config.projection_dim)
        self.prototypes = Prototypes(config.num_trained, config.projection_dim)
        self.concepts: Tensor | None  # concept of each prototype, (P,)
        merged = config.num_trained != config.num_prototypes
        self.register_buffer("concepts", torch.arange(config.num_trained) if merged else None)
        self.confusion = Confusion(config.num_trained, config.teacher_temperature) if merged else None
        self.decoder: Decoder | None = None  # see ``slotseg.method.building``

    @property
    def num_concepts(self) -> int:
        """K, the number of concepts after merging."""
        return len(self.prototypes.weight) if self.concepts is None else int(self.concepts.max()) + 1

    @property
    def points(self) -> int:
        """Points of the result along a cell's side."""
        return self.decoder.points if self.decoder else 1

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, K, h, w)`` of normalised images ``(B, 3, H, W)``, or with a decoder assignments.

        A concept has its best prototype's score. Assignments are ``(B, K, p h, p w)``, with p ``points`` along a cell's
        side, and sum to 1 over K. A concept has the sum of those to its prototypes.
        """
        if self.decoder is not None:
            assignments = self.assignments(images)
            summed = assignments.new_zeros(len(assignments), self.num_concepts, *assignments.shape[2:])
            return summed.index_add_(1, self.output_concepts, assignments)
        scores: Tensor = self.prototypes(self.projector(self.backbone(images)))
        if self.concepts is None:
            return scores
        index = self.concepts[None, :, None, None].expand_as(scores)
        best = scores.new_full((len(scores), self.num_concepts, *scores.shape[2:]), -1.0)
        return best.scatter_reduce(1, index, scores, "amax")

    def assignments(self, images: Tensor) -> Tensor:
        """The decoder's assignments ``(B, U, p h, p w)`` of normalised images to the prototypes in use."""
        assert self.decoder is not None
        levels = cast("Backbone", self.backbone).pyramid(images)
        scores = self.prototypes(self.projector(levels[-1]))[:, self.decoder.used]
        logits: Tensor = self.decoder(images, levels, scores)
        return logits.float().softmax(dim=1)

    @property
    def output_concepts(self) -> Tensor:
        """Concept of each of the decoder's outputs, ``(U,)``."""
        used = self.decoder.used if self.decoder else torch.arange(len(self.prototypes.weight))
        return used if self.concepts is None else self.concepts[used]

    def merge(self, num_concepts: int | None) -> None:
        """Set the concepts to those of ``merged``.

        Raises:
            ConfigError: As ``merged``.
        """
        concepts = self.merged(num_concepts)
        assert self.concepts is not None
        self.concepts.copy_(concepts)

    def merged(self, num_concepts: int | None) -> Tensor:
        """Concept of each prototype if all are merged now, by their confusion so far.

        Args:
            num_concepts: K. None: as many as stay distinct.

        Returns:
            Concepts, ``(P,)``, int64, on the CPU.

        Raises:
            ConfigError: If K is not from 2 to P, or the prototypes were not trained to be merged.
        """
        number = len(self.prototypes.weight)
        if self.concepts is None or self.confusion is None:
            raise ConfigError(
                f"the model's {number} prototypes were not trained to be merged to {num_concepts}; expected a model "
                "trained with model.trained_prototypes, as the preset photos has it"
            )
        if num_concepts is not None and not 2 <= num_concepts <= number:
            raise ConfigError(f"{num_concepts} concepts are asked of {number} prototypes; expected 2 to {number}")
        confusion, wins, least = self.confusion.value, self.confusion.wins, IN_VIEWS
        if self.decoder:
            confusion, least = self.confusion.of_alike(self.prototypes.weight), IN_LOOKS
        return torch.from_numpy(merge_confused(confusion.cpu().numpy(), wins.cpu().numpy(), num_concepts, least))

    @torch.no_grad()
    def concept_vectors(self) -> Tensor:
        """A unit vector for each concept, the mean direction of its prototypes, ``(K, D)``."""
        vectors = F.normalize(self.prototypes.weight.float(), dim=1)
        if self.concepts is not None:
            empty = vectors.new_zeros(self.num_concepts, vectors.shape[1])
            vectors = F.normalize(empty.index_add(0, self.concepts, vectors), dim=1)
        return vectors


class SlotCon(nn.Module):
    """Student, teacher and both losses.

    ``forward`` changes no weight and no centre (BatchNorm's running statistics apart). One step is:
    ``update_teacher``, ``forward``, ``loss.backward()``, ``update_center``, optimiser.

    Args:
        backbone: Module from ``(B, 3, H, W)`` to ``(B, channels, h, w)``.
        channels: Channel count of the dense map.
        config: Sizes, temperatures and weights.
    """

    def __init__(self, backbone: nn.Module, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.student = Encoder(backbone, channels, config)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.predictor = predictor(config.projection_dim, config.hidden_dim)
        self.center = Center(config.num_trained, config.center_momentum)
        self.student.concepts, self.student.confusion = None, None
        if config.freeze_backbone:
            self.student.backbone.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "SlotCon":
        """Train mode for student and teacher alike; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.config.freeze_backbone:
            self.student.backbone.eval()
            self.teacher.backbone.eval()
        return self

    def forward(
        self, images: Pair, overlap_boxes: Pair, flips: Pair, valid: Pair | None = None, *, mapped: bool = False
    ) -> SlotConOutput:
        """Losses of a batch of view pairs.

        Args:
            images: Normalised view 1 and 2, each ``(B, 3, H, W)``.
            overlap_boxes: Overlap with the other view, xyxy in [0, 1] of its own view, each ``(B, 4)``.
            flips: Whether a view is mirrored left-right, boolean, each ``(B,)``.
            valid: Which pixels of view 1 and 2 are valid, boolean, each ``(B, H, W)``, or which cells; None for all.
            mapped: Whether ``images`` are a frozen backbone's maps of the views, each ``(B, channels, h, w)``.
        """
        assert self.config.freeze_backbone or not mapped
        maps = images if mapped else self._backbone_maps(self.student, images)
        cells = shared_cells(valid, maps[0])
        student = self._group(self.student, maps, overlap_boxes, flips, cells)
        with torch.no_grad():
            if not self.config.freeze_backbone:  # frozen: student and teacher see the same map
                maps = self._backbone_maps(self.teacher, images)
            teacher = self._group(self.teacher, maps, overlap_boxes, flips, cells)
        grouping = (self._grouping_loss(student[0], teacher[1]), self._grouping_loss(student[1], teacher[0]))
        slot = (self._slot_loss(student[0], teacher[1]), self._slot_loss(student[1], teacher[0]))
        weight = self.config.grouping_weight
        loss = weight * (grouping[0] + grouping[1]) + (1 - weight) * (slot[0] + slot[1])
        return SlotConOutput(loss=loss, grouping_losses=grouping, slot_losses=slot, student=student, teacher=teacher)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters, never its buffers: ``teacher = m teacher + (1 - m) student``."""
        pairs = [
            (t, s) for t, s in zip(self.teacher.parameters(), self.student.parameters(), strict=True) if s.requires_grad
        ]
        torch._foreach_lerp_([t for t, _ in pairs], [s for _, s in pairs], 1 - momentum)

    def update_center(self, output: SlotConOutput) -> None:
        """Let the centre, and the confusion where there is one, follow the teacher's scores.

        Call it once the losses of the step have used the old centre.
        """
        one, two = output.teacher
        self.center.update((one.scores, two.scores), output.valid)
        if self.teacher.confusion is not None:
            self.teacher.confusion.update(one.aligned, two.aligned, output.overlap_valid)

    @torch.no_grad()
    def start_from(self, projector: Mapping[str, Tensor], prototypes: Tensor, center: Tensor) -> None:
        """Start student and teacher from a projector's state, prototypes ``(P, D)`` and mean scores ``(P,)``."""
        for encoder in (self.student, self.teacher):
            encoder.projector.load_state_dict(projector)
            encoder.prototypes.weight.copy_(prototypes)
        self.center.value.copy_(center)

    @staticmethod
    def _backbone_maps(encoder: Encoder, images: Pair) -> Pair:
        """Dense maps of view 1, then view 2: two forwards, so that BatchNorm's statistics are per view."""
        return encoder.backbone(images[0]), encoder.backbone(images[1])

    def _group(
        self, encoder: Encoder, maps: Pair, boxes: Pair, flips: Pair, valid: Pair | None
    ) -> tuple[BranchOutput, BranchOutput]:
        views = zip(maps, boxes, flips, valid or (None, None), strict=True)
        one, two = (self._group_view(encoder, *view) for view in views)
        return one, two

    def _group_view(
        self, encoder: Encoder, dense: Tensor, box: Tensor, flip: Tensor, valid: Tensor | None
    ) -> BranchOutput:
        projections = encoder.projector(dense) if valid is None else project_valid(encoder.projector, dense, valid)
        scores = encoder.prototypes(projections)
        aligned, aligned_valid = align_valid(scores, box, flip, valid)
        return BranchOutput(
            projections=projections,
            scores=scores,
            slots=slots_from_scores(projections, scores, self.config.assignment_temperature, valid=valid),
            aligned=aligned,
            valid=valid,
            aligned_valid=aligned_valid,
        )

    def _grouping_loss(self, student: BranchOutput, teacher: BranchOutput) -> Tensor:
        one, two = student.aligned_valid, teacher.aligned_valid
        return grouping_loss(
            student.aligned,
            teacher.aligned,
            self.center.value,
            self.config.student_temperature,
            self.config.teacher_temperature,
            None if one is None or two is None else one & two,
        )

    def _slot_loss(self, student: BranchOutput, teacher: BranchOutput) -> Tensor:
        return slot_loss(
            student.slots,
            teacher.slots,
            winners(student.scores, student.valid),
            winners(teacher.scores, teacher.valid),
            self.predictor,
            self.config.slot_temperature,
        )
