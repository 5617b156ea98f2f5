"""The only file that imports ``torch.distributed``; every function works with one process."""

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether a process group of more than one process is up."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Index of this process, 0 when there is only one."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 when there is only one."""
    return dist.get_world_size() if is_distributed() else 1


def gather(tensor: Tensor) -> Tensor:
    """Concatenate a tensor of the same shape from every process along its first axis, in rank order.

    The result carries no gradient; one process gets its own tensor back.
    """
    tensor = tensor.detach()
    if not is_distributed():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def mean(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes, without gradient."""
    tensor = tensor.detach()
    if not is_distributed():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world_size()
