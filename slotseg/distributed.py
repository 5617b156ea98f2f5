"""The only file that imports ``torch.distributed``; every function works with one process."""

import gc
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from slotseg.errors import ConfigError, SlotSegError

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun has started, for the length of the block. One process alone joins nothing.

    Python objects and tensors of the CPU are exchanged by gloo, tensors of GPUs by NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    try:
        yield
        dist.barrier()  # nobody leaves while another still hears from it
    finally:
        gc.collect()  # whatever held on to the group, so that its threads end here and not with the interpreter
        dist.destroy_process_group()


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The module to call in training: gradients are averaged over the processes, and on GPUs BatchNorm is shared.

    ``model`` keeps its parameters and their names. Its BatchNorms are replaced in place. With one process it is
    returned as it is.
    """
    if not is_distributed():
        return model
    if device.type == "cuda":  # torch has it for GPUs only
        from timm import layers  # knows timm's own BatchNorms, which hold an activation

        layers.convert_sync_batchnorm(model)  # type: ignore[attr-defined, no-untyped-call]
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch's old name
    settings: dict[str, Any] = {buffers: False}  # centre and confusion are shared where they are updated
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True, **settings)


def is_distributed() -> bool:
    """Whether a process group of more than one process is up."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Index of this process, 0 when there is only one."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 when there is only one."""
    return dist.get_world_size() if is_distributed() else 1


def local_rank() -> int:
    """Index of this process among those of its machine, as torchrun counts them."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Number of processes on this machine, as torchrun counts them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def part(batch_size: int) -> slice:
    """This process's share of a batch.

    Raises:
        ConfigError: If the processes cannot share it evenly.
    """
    share, rest = divmod(batch_size, world_size())
    if rest:
        raise ConfigError(
            f"batch_size is {batch_size} for {world_size()} processes; expected a multiple: it is divided among them"
        )
    return slice(rank() * share, (rank() + 1) * share)


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
    return total(tensor) / world_size()


def total(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, without gradient."""
    tensor = tensor.detach()
    if not is_distributed():
        return tensor
    tensor = tensor.clone()
    dist.all_reduce(tensor)
    return tensor


def share_buffers(model: nn.Module) -> None:
    """Give a model's buffers their values in the first process. On CPUs, BatchNorm's statistics differ."""
    if is_distributed():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def anywhere(*flags: bool) -> tuple[bool, ...]:
    """Whether each flag is set in any process."""
    if not is_distributed():
        return flags
    tensor = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in tensor)


def gather_objects(value: T) -> list[T]:
    """The value of every process, in rank order. Values are pickled, and only between processes of this run."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def once(function: Callable[[], T]) -> T:
    """Call a function in the process of rank 0 only, and return its result in all.

    The result is pickled, and only between processes of this run.

    Raises:
        SlotSegError: In all processes, if the function raises it in the first. If it raises another error there, this
            one in the first, and in the others a sentence on it.
    """
    if not is_distributed():
        return function()
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if rank() == 0:
        try:
            outcome[0] = function()
        except Exception as error:  # whatever it is, the others would wait until their connection breaks
            failure = error
            said = f"the first process has failed: {type(error).__name__}: {error}; expected its result: see its error"
            outcome[1] = error if isinstance(error, SlotSegError) else SlotSegError(said)
    dist.broadcast_object_list(outcome)
    if failure or outcome[1]:
        raise failure or outcome[1]
    result: T = outcome[0]
    return result


def quiet() -> bool | None:
    """Value for a progress bar's ``disable``: True except in the first process; None there, off without a terminal."""
    return True if rank() > 0 else None
