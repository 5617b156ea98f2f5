"""The part of a weights file that is a backbone, found by which keys fit, however they are nested and prefixed.

A file is read to one flat dict. The names of nested dicts end in ``/``, as in ``state_dict/module.encoder_k.fc.bias``.
"""

import re
import sys
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slotseg.networks.backbones import Backbone

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Names that torch puts between others where it compiles, shards or recomputes a module."""
AVERAGED = ("ema", "teacher", "swa", "averaged", "average", "momentum", "target", "key", "k")
"""Words in the names of weights that are averages over training. Of several that fit, the first word is taken."""
BESIDE = re.compile(r"fc|classifier|pooler|pre_logits|mask\w*|\w*(head|project|predict|prototype|decoder|queue)\w*")
"""Names of layers behind a backbone, or only of its training, which files hold beside it."""
CHUNK = re.compile(r"(^|[./])blocks\.\d+\.(\d+)\.")
"""Names of a ViT's blocks in DINOv2's training code, which has them in chunks."""
PATCHES = "patch_embed.proj.weight"
LAYOUTS = ((3, 2, 0, 1), (0, 3, 1, 2))
"""Orders of axes that turn kernels of (height, width, in, out) and (out, height, width, in) into torch's."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The best part of a file for a backbone."""

    state: Mapping[str, Tensor]
    """Tensors by timm's key names, also of layers that the backbone leaves out."""
    words: str
    """Words on which part of the file it is and what was adapted; empty for all of it, as it is."""
    problem: str
    """What does not fit, in the words of an error; empty if all does."""


def tensors_in(content: object, place: str = "") -> dict[str, Tensor]:
    """All tensors in nested dicts, of those dicts that mostly hold tensors, by their place in the file.

    The state of an optimiser is left out.
    """
    found: dict[str, Tensor] = {}
    if not isinstance(content, Mapping) or is_optimizer(content):
        return found
    mostly = 2 * sum(isinstance(value, Tensor) for value in content.values()) > len(content)
    for key, value in content.items():
        name = place + unwrapped(str(key))
        if not isinstance(value, Tensor):
            found.update(tensors_in(value, f"{name}/"))
        elif mostly:
            found[name] = value
    return found


def is_optimizer(content: Mapping[Any, object]) -> bool:
    """Whether a dict is the state of one of torch's optimisers, which has tensors that are no weights."""
    return {"state", "param_groups"} <= content.keys()


def unwrapped(key: str) -> str:
    """A key without torch's own names in it."""
    for wrapper in WRAPPERS:
        key = key.replace(wrapper, "")
    return key


def fit(state: Mapping[str, Tensor], backbone: Backbone) -> Fit:
    """The part of a file that fits a backbone best, under timm's key names.

    Of parts that fit equally well, averaged weights are taken. Where the names or shapes are those of published code,
    timm's own conversion for the model is tried.

    Args:
        state: Tensors by place, as from ``tensors_in``.
        backbone: Backbone; it may be on the meta device.
    """
    needed = {key: tensor.shape for key, tensor in backbone.model.state_dict().items()}
    state = _without_chunks(state, needed)
    best, others = _best_prefixes(state, needed, backbone.known_keys)
    part: Mapping[str, Tensor] = _below(state, best)
    words = _words(best, others)
    problem = _problem(part, needed, backbone.known_keys)
    if problem and 2 * sum(key in part and part[key].shape == shape for key, shape in needed.items()) > len(needed):
        adapted = _adapted(part, backbone)
        if not _problem(adapted, needed, backbone.known_keys):
            keys = [key for key in needed if key in adapted and adapted[key] is not part.get(key)]
            words += ("; " if words else "") + f"adapted to the model: {', '.join(keys[:3])}{_more(keys, 3)}"
            part, problem = adapted, ""
    return Fit(state=part, words=words, problem=problem)


def _best_prefixes(
    state: Mapping[str, Tensor], needed: Mapping[str, torch.Size], known: Container[str]
) -> tuple[str, list[str]]:
    """The prefix below which most keys and shapes fit, and others below which as many do."""
    shapes, keys = Counter[str](), Counter[str]()
    for key, tensor in state.items():
        for start in (0, *(match.end() for match in re.finditer("[./]", key))):
            expected = needed.get(key[start:])
            if expected is not None and not key.endswith("num_batches_tracked"):
                keys[key[:start]] += 1
                shapes[key[:start]] += expected == tensor.shape
    if not keys:
        return "", []
    most = max((shapes[prefix], keys[prefix]) for prefix in keys)
    equal = [prefix for prefix in keys if (shapes[prefix], keys[prefix]) == most]
    strange = {prefix: len(_strange(_below(state, prefix), known)) for prefix in equal}
    equal = [prefix for prefix in equal if strange[prefix] == min(strange.values())]
    best, *others = sorted(equal, key=lambda prefix: (_rank(prefix), len(re.findall("[./]", prefix))))
    return best, others


def _rank(prefix: str) -> int:
    """Place among ``AVERAGED`` of the first word that a prefix has of them; their number if it has none."""
    words = {word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", prefix)}
    return next((rank for rank, word in enumerate(AVERAGED) if word in words), len(AVERAGED))


def _words(best: str, others: list[str]) -> str:
    if not best:
        return ""
    why = "averaged weights" if _rank(best) < len(AVERAGED) else "the keys that fit"
    besides = f", and not {' or '.join(map(shown, others))}" if others else ""
    return f"{shown(best)}, {why}{besides}"


def shown(place: str) -> str:
    """A place in a file as people write it."""
    return place.replace("/", ".").rstrip(".") or "the keys without a prefix"


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix in the same dict of the file, without it."""
    below = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return {key: value for key, value in below.items() if "/" not in key}


def _without_chunks(state: Mapping[str, Tensor], needed: Mapping[str, object]) -> Mapping[str, Tensor]:
    """Blocks by their own number, where a file has them in chunks and the model has not."""
    if any(CHUNK.search(key) for key in needed):
        return state
    flat = {CHUNK.sub(r"\1blocks.\2.", key): value for key, value in state.items()}
    return flat if len(flat) == len(state) else state


def _strange(part: Mapping[str, Tensor], known: Container[str]) -> list[str]:
    """Keys that are neither the model's nor of what lies beside a backbone."""
    return [key for key in part if key not in known and not BESIDE.fullmatch(key.split(".")[0])]


def _problem(part: Mapping[str, Tensor], needed: Mapping[str, torch.Size], known: Container[str]) -> str:
    missing = [key for key in needed if key not in part and not key.endswith("num_batches_tracked")]
    for keys, what in ((missing, "lack"), (_strange(part, known), "hold unknown")):
        if keys:
            return f"they {what} {keys[0]}{_more(keys, 1)}"
    for key, shape in needed.items():
        if key in part and part[key].shape != shape:
            return (
                f"{key} has shape {tuple(part[key].shape)}, expected {tuple(shape)} "
                "(another width or variant of the model)"
            )
    return ""


def _more(keys: list[str], shown: int) -> str:
    return f" and {len(keys) - shown} more" if len(keys) > shown else ""


def _adapted(part: Mapping[str, Tensor], backbone: Backbone) -> Mapping[str, Tensor]:
    """The part with kernels in torch's layout, converted by timm; as it was where timm has no conversion for it."""
    model: Any = backbone.model
    adapted = dict(part)
    if PATCHES in adapted and hasattr(model, "patch_embed"):
        adapted[PATCHES] = _in_torchs_layout(adapted[PATCHES], model.patch_embed.proj.weight.shape)
        if adapted[PATCHES].shape != model.patch_embed.proj.weight.shape:
            return part  # timm would resize patches, which makes another model of it
    if "register_tokens" in adapted:
        adapted.setdefault("mask_token", torch.empty(0))  # by which timm knows DINOv2's names
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        converted: dict[str, Tensor] = convert(dict(adapted), model) if convert else adapted
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return adapted  # timm knows its own files alone
    return converted


def _in_torchs_layout(kernels: Tensor, shape: torch.Size) -> Tensor:
    """Kernels in the shape of a convolution's; as they are if it is not certain how."""
    if kernels.shape == (shape[0], shape[1:].numel()):
        return kernels.reshape(shape)
    for axes in LAYOUTS if kernels.ndim == 4 and kernels.shape != shape else ():
        if kernels.permute(axes).shape == shape:
            return kernels.permute(axes)
    return kernels
