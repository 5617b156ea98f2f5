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
        momentum: mu.
        weight_decay: wd.
        trust_coefficient: trust.
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
        """Apply one update; the gradients are left rescaled and should not be reused."""
        assert closure is None, "LARS takes no closure"
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads: list[Tensor] = [p.grad for p in params]
            self._adapt(params, grads, group["weight_decay"], group["trust_coefficient"])
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            velocities = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, grads)
            torch._foreach_add_(params, velocities, alpha=-group["lr"])

    @staticmethod
    def _adapt(params: list[Tensor], grads: list[Tensor], weight_decay: float, trust: float) -> None:
        """Decay and rescale, in place, the gradients of the parameters with two or more axes."""
        pairs = [(p, g) for p, g in zip(params, grads, strict=True) if p.ndim > 1]
        if not pairs:
            return
        weights, gradients = [p for p, _ in pairs], [g for _, g in pairs]
        torch._foreach_add_(gradients, weights, alpha=weight_decay)
        weight_norms = torch.stack(torch._foreach_norm(weights))
        gradient_norms = torch.stack(torch._foreach_norm(gradients))
        usable = (weight_norms > 0) & (gradient_norms > 0)
        ratios = torch.where(usable, trust * weight_norms / gradient_norms, 1.0)
        torch._foreach_mul_(gradients, list(ratios.unbind()))
