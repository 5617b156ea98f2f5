"""Names of other libraries for the layers of models that timm has too, and how they become timm's.

Each naming is known by one key, and its rules rename all keys of a file. What they compute is the same: tests compare
the features of both. Where queries, keys and values are apart, they are joined, as timm has them.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

START = r"(^|[./])"
"""Start of a name below any prefix."""


class Naming(NamedTuple):
    """How a library names the layers of a kind of model."""

    words: str
    """Words on what becomes of the keys."""
    mark: str
    """Pattern of a key that no other naming has."""
    rules: tuple[tuple[str, str], ...]
    """Patterns and what replaces them, applied in order to every key."""


NAMINGS = (
    Naming(
        "keys renamed from those of Hugging Face transformers",
        START + r"(?:encoder\.layer|layers)\.\d+\.attention\.(?:attention\.query|q_proj)\.weight$",
        (
            (START + r"embeddings\.(cls_token|mask_token)$", r"\1\2"),
            (START + r"embeddings\.register_tokens$", r"\1register_tokens"),
            (START + r"embeddings\.position_embeddings$", r"\1pos_embed"),
            (START + r"embeddings\.patch_embeddings\.projection\.", r"\1patch_embed.proj."),
            (START + r"(?:encoder\.layer|layers)\.(\d+)\.", r"\1blocks.\2."),
            (r"(blocks\.\d+\.)attention\.(?:attention\.)?([qkv])(?:uery|ey|alue|_proj)\.", r"\1attn.\2."),
            (r"(blocks\.\d+\.)attention\.(?:output\.dense|o_proj)\.", r"\1attn.proj."),
            (r"(blocks\.\d+\.)layernorm_before\.", r"\1norm1."),
            (r"(blocks\.\d+\.)layernorm_after\.", r"\1norm2."),
            (r"(blocks\.\d+\.)intermediate\.dense\.", r"\1mlp.fc1."),
            (r"(blocks\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
            (r"(blocks\.\d+\.)layer_scale([12])\.lambda1$", r"\1ls\2.gamma"),
            (r"(blocks\.\d+\.mlp\.)weights_in\.", r"\1w12."),
            (r"(blocks\.\d+\.mlp\.)weights_out\.", r"\1w3."),
            (START + r"layernorm\.(weight|bias)$", r"\1norm.\2"),
        ),
    ),
    Naming(
        "keys renamed from those of Hugging Face transformers",
        START + r"encoder\.stages\.\d+\.layers\.\d+\.dwconv\.weight$",
        (
            (START + r"embeddings\.patch_embeddings\.", r"\1stem.0."),
            (START + r"embeddings\.layernorm\.", r"\1stem.1."),
            (START + r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"\1stages.\2.downsample."),
            (START + r"encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"\1stages.\2.blocks.\3."),
            (r"(blocks\.\d+\.)dwconv\.", r"\1conv_dw."),
            (r"(blocks\.\d+\.)layernorm\.", r"\1norm."),
            (r"(blocks\.\d+\.)pwconv([12])\.", r"\1mlp.fc\2."),
            (r"(blocks\.\d+\.)layer_scale_parameter$", r"\1gamma"),
            (START + r"layernorm\.", r"\1head.norm."),
        ),
    ),
    Naming(
        "keys renamed from torchvision's",
        START + r"encoder\.layers\.encoder_layer_\d+\.self_attention\.in_proj_weight$",
        (
            (START + r"class_token$", r"\1cls_token"),
            (START + r"conv_proj\.", r"\1patch_embed.proj."),
            (START + r"encoder\.pos_embedding$", r"\1pos_embed"),
            (START + r"encoder\.ln\.", r"\1norm."),
            (START + r"encoder\.layers\.encoder_layer_(\d+)\.", r"\1blocks.\2."),
            (r"(blocks\.\d+\.)ln_([12])\.", r"\1norm\2."),
            (r"(blocks\.\d+\.)self_attention\.in_proj_", r"\1attn.qkv."),
            (r"(blocks\.\d+\.)self_attention\.out_proj\.", r"\1attn.proj."),
            (r"(blocks\.\d+\.mlp\.)(?:0|linear_1)\.", r"\1fc1."),
            (r"(blocks\.\d+\.mlp\.)(?:3|linear_2)\.", r"\1fc2."),
        ),
    ),
    Naming(
        "keys renamed from those of ConvNeXt's authors",
        START + r"downsample_layers\.0\.0\.weight$",
        (
            (START + r"norm\.(weight|bias)$", r"\1head.norm.\2"),
            (START + r"stages\.(\d+)\.(\d+)\.head\.norm\.", r"\1stages.\2.\3.norm."),  # that of a block
            (START + r"downsample_layers\.0\.(\d)\.", r"\1stem.\2."),
            (START + r"downsample_layers\.(\d)\.(\d)\.", r"\1stages.\2.downsample.\3."),
            (START + r"stages\.(\d+)\.(\d+)\.", r"\1stages.\2.blocks.\3."),
            (r"(blocks\.\d+\.)dwconv\.", r"\1conv_dw."),
            (r"(blocks\.\d+\.)pwconv([12])\.", r"\1mlp.fc\2."),
        ),
    ),
)
JOINED = ("q", "k", "v")
"""Names of the layers that timm has as one, ``qkv``, in its order."""


def renamed(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Tensors under timm's names, and words on what became of their keys; as they are, and no words, if not known.

    Args:
        state: Tensors by place, as from ``slotseg.exchange.fitting.tensors_in``.
    """
    for naming in NAMINGS:
        if any(re.search(naming.mark, key) for key in state):
            found = _joined({_by(naming.rules, key): tensor for key, tensor in state.items()})
            return found, naming.words
    return dict(state), ""


def _by(rules: tuple[tuple[str, str], ...], key: str) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as one tensor each; left out where not all three are there, of one shape."""
    joined: dict[str, Tensor] = {}
    for key, tensor in state.items():
        found = re.fullmatch(r"(.*\.attn\.)([qkv])\.(weight|bias)", key)
        if not found:
            joined[key] = tensor
        elif found[2] == "q":
            parts = [state[name] for each in JOINED if (name := f"{found[1]}{each}.{found[3]}") in state]
            if [part.shape for part in parts] == [tensor.shape] * len(JOINED):
                joined[f"{found[1]}qkv.{found[3]}"] = torch.cat(parts)
    return joined
