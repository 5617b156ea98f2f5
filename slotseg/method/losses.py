"""The two losses of SlotCon and the teacher's centre.

Letters: B images, K prototypes, D projection dimension, h w feature cells, P positive slots.
Source: Wen et al., NeurIPS 2022, sections 3.1 (pixel-level grouping) and 3.2 (group-level
contrastive learning on slots).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg import distributed
from slotseg.networks.validity import weights


def grouping_loss(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    student_temperature: float,
    teacher_temperature: float,
    valid: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between the teacher's centred assignment and the student's, per aligned cell (section 3.1).

    Args:
        student: The student's aligned scores of one view, shape ``(B, K, h, w)``.
        teacher: The teacher's aligned scores of the other view, same shape.
        center: Running mean of the teacher's scores, shape ``(K,)``.
        student_temperature: Softmax temperature of the student, 0.1 in the paper's recipe.
        teacher_temperature: Softmax temperature of the teacher, 0.07 in the paper's recipe. It is
            lower than the student's, so that the target is sharper than the prediction.
        valid: Aligned cells that are valid in both views, boolean, ``(B, h, w)``; None for all.

    Returns:
        Mean over images and cells, a scalar. With ``valid``, its mean over processes is that over their valid cells;
        it is 0 where there are none.
    """
    target = ((teacher.detach() - center[:, None, None]) / teacher_temperature).softmax(dim=1)
    log_prediction = (student / student_temperature).log_softmax(dim=1)
    each = (target * log_prediction).sum(dim=1)
    return -(each if valid is None else each * weights(valid)).mean()


def slot_loss(
    query_slots: Tensor,
    key_slots: Tensor,
    query_wins: Tensor,
    key_wins: Tensor,
    predictor: nn.Module,
    temperature: float,
) -> Tensor:
    """InfoNCE between the slots of two views (section 3.2).

    A slot's positive is the key slot of the same prototype and image. Only prototypes that win a
    cell in both views of an image are positives, and only they enter the predictor (its BatchNorm
    sees those rows alone). Candidates are all key slots, of all images and processes, whose
    prototype wins a cell there.

    Args:
        query_slots: Student slots of one view, shape ``(B, K, D)``.
        key_slots: Teacher slots of the other view, same shape.
        query_wins: Prototypes that win a cell in the query view, boolean ``(B, K)``.
        key_wins: Prototypes that win a cell in the key view, boolean ``(B, K)``.
        predictor: Predictor from ``(P, D)`` to ``(P, D)``.
        temperature: Temperature, 0.2 in the paper's recipe. The loss is multiplied by twice its value.

    Returns:
        A scalar. If any process has fewer than two positives, it is zero, but connected to the graph.
    """
    positive = query_wins & key_wins
    rows = positive.flatten().nonzero()[:, 0]
    keys = distributed.gather(F.normalize(key_slots, dim=2).flatten(0, 1))
    candidate = distributed.gather(key_wins.flatten())
    if any(distributed.anywhere(len(rows) < 2)):  # BatchNorm needs two rows, and a shared one every process
        return (query_slots.sum() + sum(p.sum() for p in predictor.parameters())) * 0.0
    queries = predictor(query_slots.flatten(0, 1)[rows])
    with torch.autocast(query_slots.device.type, enabled=False):
        queries = F.normalize(queries.to(keys.dtype), dim=1)
        logits = queries @ keys[candidate].T / temperature
        column = candidate.cumsum(0) - 1
        labels = column[rows + distributed.rank() * positive.numel()]
        return F.cross_entropy(logits, labels) * (2 * temperature)


class Center(nn.Module):
    """Running mean of the teacher's scores, subtracted before its softmax to prevent collapse.

    Args:
        num_prototypes: K.
        momentum: Weight of the old centre in an update, 0.9 in the paper's recipe.
    """

    value: Tensor

    def __init__(self, num_prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(num_prototypes))

    @torch.no_grad()
    def update(self, scores: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor] | None = None) -> None:
        """Move towards the mean of the un-aligned scores ``(B, K, h, w)`` of both views, over all processes.

        ``valid`` are the cells of each view that count, boolean, ``(B, h, w)``; None: all. Without any, nothing moves.
        """
        if valid is not None:
            both = torch.stack(valid)
            if not distributed.anywhere(bool(both.any()))[0]:
                return
            weight = weights(both)
            scores = scores[0] * weight[0, :, None], scores[1] * weight[1, :, None]
        batch_mean = sum(s.mean(dim=(0, 2, 3)) for s in scores) / len(scores)
        assert isinstance(batch_mean, Tensor)
        batch_mean = distributed.mean(batch_mean)
        self.value.mul_(self.momentum).add_(batch_mean.to(self.value), alpha=1 - self.momentum)
