"""LARS, the optimiser of the paper's recipe (You et al., 2017, arXiv 1708.03888)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """Momentum SGD whose gradient is rescaled per tensor to a fixed fraction of the weight's norm.

    For a weight w with gradient g: ``g += wd w``; ``g *= trust |w| / |g|``; ``v = mu v + g``;
    ``w -= lr v``. There is no epsilon: where a norm is 0 the factor is 1. One-dimensional
    parameters (biases, normalisation) get neither decay nor rescaling. The learning rate stays
    outside the momentum buffer, so a schedule does not rescale the past.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Momentum mu.
        weight_decay: Weight decay wd.
        trust_coefficient: Size of an update relative to its weight, trust.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-5,
        trust_coefficient: float = 0.001,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "trust_coefficient": trust_coefficient,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply one update; the gradients are left rescaled and should not be reused.

        Like torch's fused optimisers, it heeds an attribute ``found_inf``, a float32 scalar on the parameters' device:
        if it is 1, the update changes nothing.
        """
        assert closure is None, "LARS takes no closure"
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            flat, matrices = [p for p in params if p.ndim <= 1], [p for p in params if p.ndim > 1]
            if flat:
                self._descend(flat, group)
            for p, divisor in zip(matrices, self._divisors(matrices, group), strict=True):
                self._descend([p], group, divisor)

    @staticmethod
    def _divisors(params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Add the decay to the gradients in place, and return the divisor of each."""
        if not params:
            return []
        grads = _gradients(params)
        torch._foreach_add_(grads, params, alpha=group["weight_decay"])
        weight_norms, gradient_norms = _norms(params), _norms(grads)
        usable = (weight_norms > 0) & (gradient_norms > 0)
        divisors = torch.where(usable, gradient_norms / (group["trust_coefficient"] * weight_norms), 1.0)
        return list(divisors.unbind())

    def _descend(self, params: list[Tensor], group: dict[str, Any], divisor: Tensor | None = None) -> None:
        """``v = mu v + g / divisor; w -= lr v`` in one pass over memory, as memory sets its pace."""
        grads = _gradients(params)
        if divisor is not None and divisor.dtype != torch.float32:  # the kernel divides in float32 only
            torch._foreach_div_(grads, [divisor] * len(grads))
            divisor = None
        torch._fused_sgd_(
            params,
            grads,
            [self.state[p]["momentum_buffer"] for p in params],
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=0.0,  # in the gradients already
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            grad_scale=divisor,
            found_inf=getattr(self, "found_inf", None),
        )


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _norms(tensors: list[Tensor]) -> Tensor:
    """Euclidean norms. On a CPU the dot product is twice as fast as torch's norm."""
    if tensors[0].device.type != "cpu":
        return torch.stack(torch._foreach_norm(tensors))
    rows = [_as_it_lies(t).reshape(-1) for t in tensors]
    return torch.stack([row.dot(row) for row in rows]).sqrt()


def _as_it_lies(tensor: Tensor) -> Tensor:
    """A convolution's weight with its axes in the order of its memory, so that it needn't be copied to be flat."""
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.movedim(1, 3) if last else tensor
