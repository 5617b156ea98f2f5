"""Learning rate and teacher momentum as pure functions of the global step (0-based)."""

import math


def learning_rate(step: int, *, base: float, total_steps: int, warmup_steps: int, final: float = 1e-6) -> float:
    """Linear warm-up from ``base / 100`` to ``base``, then half a cosine down to ``final``.

    Args:
        step: Global step t, 0 <= t <= total_steps.
        base: Peak rate, reached at ``t = warmup_steps``.
        total_steps: T, the step at which ``final`` is reached.
        warmup_steps: W, at least 0 and below ``total_steps``.
        final: Rate at the end of the cosine.
    """
    if step <= warmup_steps and warmup_steps > 0:
        return base / 100 * (99 * step / warmup_steps + 1)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2


def teacher_momentum(step: int, *, base: float, total_steps: int) -> float:
    """Teacher momentum m_t = 1 - (1 - base)(cos(pi t / T) + 1) / 2, rising from ``base`` to 1."""
    return 1 - (1 - base) * (math.cos(math.pi * step / total_steps) + 1) / 2
