"""The part of a weights file that is taken: prefixes, nested dicts, averages, names and shapes of published code."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from slotseg.config import BackboneConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange import misfits
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.networks.backbones import Backbone

RESNET = BackboneConfig(name="resnet18", options={"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]})
VIT = BackboneConfig(name="vit_tiny_patch16_224", options={"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 64})
DINOV2 = BackboneConfig(
    name="vit_small_patch14_reg4_dinov2", options={"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 56}
)

State = dict[str, Tensor]


def state_of(config: BackboneConfig, seed: int) -> State:
    torch.manual_seed(seed)
    state: State = timm.create_model(config.name, num_classes=0, **config.options).state_dict()
    return {key: torch.randn_like(value) if value.is_floating_point() else value for key, value in state.items()}


def below(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def head(prefix: str) -> State:
    return {f"{prefix}{layer}.{kind}": torch.ones(2) for layer in (0, 2) for kind in ("weight", "bias")}


def loaded(content: object, config: BackboneConfig, folder: Path) -> tuple[State, str]:
    torch.save(content, folder / "w.pth")
    backbone = Backbone(config)
    words = load_into(backbone, read_weights(str(folder / "w.pth")))
    return backbone.model.state_dict(), words


RIGHT, WRONG = state_of(RESNET, 1), state_of(RESNET, 2)
QUEUE = {"queue": torch.ones(2), "queue_ptr": torch.zeros(1)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (below("_orig_mod.", RIGHT), ""),
        ({"state_dict": below("_orig_mod.module.", RIGHT)}, "state_dict.module, the keys that fit"),
        (below("module._orig_mod.", RIGHT), "module, the keys that fit"),
        ({"layer1._orig_mod." + k[7:] if k[:7] == "layer1." else k: v for k, v in RIGHT.items()}, ""),
        (below("_fsdp_wrapped_module.", RIGHT), ""),
        ({"state_dict": {**below("backbone.", RIGHT), **head("decode_head.")}, "meta": {}}, "state_dict.backbone"),
        ({**below("encoder.", RIGHT), **head("decoder.")}, "encoder, the keys that fit"),
        ({**RIGHT, **head("fc."), **head("projector."), **QUEUE}, ""),
        ({**RIGHT, "epoch": 3}, ""),
        ({"net": {"model_state": {"trunk": RIGHT}}}, "net.model_state.trunk, the keys that fit"),
        ({"model_state_dict": RIGHT, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, "model_state_dict"),
        (
            {"state_dict": {**below("module.encoder_q.", RIGHT), **head("module.encoder_q.fc."), **QUEUE}},
            "state_dict.module.encoder_q, the keys that fit",
        ),
        ({"state_dict": {**below("encoder_q.0.", RIGHT), **head("encoder_q.1.mlp.")}}, "state_dict.encoder_q.0"),
        ({"n_averaged": torch.ones(1), **below("module.", RIGHT)}, "module, the keys that fit"),
    ],
)
def test_the_part_whose_keys_fit_is_taken(content: object, words: str, tmp_path: Path) -> None:
    state, said = loaded(content, RESNET, tmp_path)
    assert all(torch.equal(state[key], RIGHT[key]) for key in state)
    assert said.startswith(words)
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (
            lambda right, wrong: {"state_dict": wrong, "state_dict_ema": right},
            "state_dict_ema, averaged weights, and not state_dict",
        ),
        (lambda right, wrong: {"model": wrong, "model_ema": right}, "model_ema"),
        (lambda right, wrong: {"ema": {"module": right}, "model": wrong}, "ema.module"),
        (
            lambda right, wrong: {"student": below("module.backbone.", wrong), "teacher": below("backbone.", right)},
            "teacher.backbone, averaged weights, and not student.module.backbone",
        ),
        (
            lambda right, wrong: {
                "state_dict": {**below("module.encoder_q.", wrong), **below("module.encoder_k.", right)}
            },
            "state_dict.module.encoder_k",
        ),
        (
            lambda right, wrong: {"model": {**below("module.encoder.", wrong), **below("module.encoder_k.", right)}},
            "model.module.encoder_k",
        ),
        (
            lambda right, wrong: {
                "state_dict": {**below("online_net.0.", wrong), **below("target_net.0.", right)},
            },
            "state_dict.target_net.0",
        ),
        (
            lambda right, wrong: {**below("base_encoder.", wrong), **below("momentum_encoder.", right)},
            "momentum_encoder",
        ),
        (lambda right, wrong: {"model": right, "modelEMA": {"x": torch.ones(1)}}, "model, the keys that fit"),
        (  # mmengine exchanges them when it saves
            lambda right, wrong: {"message_hub": {}, "state_dict": right, "ema_state_dict": below("module.", wrong)},
            "state_dict, the keys that fit",
        ),
        (  # an average that is not whole
            lambda right, wrong: {"model": right, "model_ema": {k: v for k, v in wrong.items() if "running" not in k}},
            "model, the keys that fit",
        ),
    ],
)
def test_averaged_weights_are_taken_before_others(
    wrap: Callable[[State, State], Any], words: str, tmp_path: Path
) -> None:
    for content in (wrap(RIGHT, WRONG), dict(reversed(wrap(RIGHT, WRONG).items()))):
        state, said = loaded(content, RESNET, tmp_path)
        assert all(torch.equal(state[key], RIGHT[key]) for key in state)
        assert said.startswith(words)


def test_a_larger_teacher_is_no_average_of_the_student(tmp_path: Path) -> None:
    larger = replace(RESNET, options={"channels": [8, 8, 8, 8], "layers": [2, 1, 1, 1]})
    state, said = loaded({"teacher": state_of(larger, 2), "student": RIGHT}, RESNET, tmp_path)
    assert all(torch.equal(state[key], RIGHT[key]) for key in state)
    assert said == "student, the keys that fit"


# ViTs


def test_published_names_of_dinov2_with_registers(tmp_path: Path) -> None:
    right = state_of(DINOV2, 1)
    place = torch.randn(1, 1, 24)
    published = {key: value for key, value in right.items() if key not in ("reg_token", "pos_embed", "cls_token")}
    published |= {"register_tokens": right["reg_token"], "cls_token": right["cls_token"] - place}
    published |= {"pos_embed": torch.cat([place, right["pos_embed"]], dim=1)}
    for mask in ({}, {"mask_token": torch.zeros(1, 24)}):
        state, said = loaded({**published, **mask}, DINOV2, tmp_path)
        assert said == "adapted to the model: cls_token, reg_token, pos_embed"
        for key in state:
            torch.testing.assert_close(state[key], right[key])


@pytest.mark.parametrize("chunk", [0, 1])
def test_blocks_in_chunks_and_a_mask_token(chunk: int, tmp_path: Path) -> None:
    right = state_of(VIT, 1)
    chunked = {
        k.replace("blocks.1.", f"blocks.{chunk}.1.").replace("blocks.0.n", "blocks.0.0.n"): v for k, v in right.items()
    }
    chunked = {k.replace("blocks.0.", "blocks.0.0.") if k[9:10] in "am" else k: v for k, v in chunked.items()}
    content = {"teacher": {**below("backbone.", {**chunked, "mask_token": torch.zeros(1, 24)}), **head("dino_head.")}}
    state, said = loaded(content, VIT, tmp_path)
    assert all(torch.equal(state[key], right[key]) for key in state)
    assert said == "teacher.backbone, averaged weights"


@pytest.mark.parametrize(
    "change",
    [lambda w: w.flatten(1), lambda w: w.permute(2, 3, 1, 0), lambda w: w.permute(0, 2, 3, 1)],
    ids=["flattened", "height, width, in, out", "out, height, width, in"],
)
def test_patch_embeddings_in_another_layout(change: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    right = state_of(VIT, 1)
    content = {**right, "patch_embed.proj.weight": change(right["patch_embed.proj.weight"]).contiguous()}
    state, said = loaded(content, VIT, tmp_path)
    assert all(torch.equal(state[key], right[key]) for key in state)
    assert said == "adapted to the model: patch_embed.proj.weight"


def test_a_vit_of_another_image_size_has_its_places_resampled(tmp_path: Path) -> None:
    right = state_of(VIT, 1)
    y = torch.linspace(0, 1, 6)[:, None, None].expand(6, 6, 24)  # grows downwards
    small = {**right, "pos_embed": torch.cat([right["pos_embed"][:, :1], y.reshape(1, 36, 24)], dim=1)}
    state, said = loaded(small, VIT, tmp_path)
    assert said == "adapted to the model: pos_embed"
    assert torch.equal(state["pos_embed"][:, 0], right["pos_embed"][:, 0])
    grid = state["pos_embed"][0, 1:].reshape(4, 4, 24)
    assert (grid.diff(dim=0) > 0.2).all()
    assert grid.diff(dim=1).abs().max() < 1e-6


def test_patches_of_another_size_are_not_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misfits, "USUAL", {})
    patches = replace(VIT, options={**VIT.options, "patch_size": 8, "img_size": 32})
    with pytest.raises(CheckpointError, match=r"patch_embed.proj.weight has shape \(24, 3, 8, 8\), expected"):
        loaded(state_of(patches, 1), VIT, tmp_path)


# what does not fit


def saved(content: object, folder: Path) -> str:
    torch.save(content, folder / "w.pth")
    return str(folder / "w.pth")


@pytest.mark.parametrize(
    ("name", "prefix", "needs"),
    [
        ("resnet34", "module.encoder_q.", "--backbone resnet34"),
        ("vit_tiny_patch16_224", "", "--backbone vit_tiny_patch16_224"),
        (
            "vit_small_patch14_dinov2",
            "backbone.",
            "--backbone vit_small_patch14_dinov2 --stride 14, and to train --image-size 154",
        ),
        ("mobilenetv3_small_050", "", "--backbone mobilenetv3_small_050"),
    ],
)
def test_one_sentence_says_all_that_has_to_be_given(name: str, prefix: str, needs: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in timm.create_model(name, num_classes=0).state_dict().items()}
    file = saved({prefix + key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}, tmp_path)
    preset = BackboneConfig(name="vit_small_patch16_224", stride=16)
    with pytest.raises(ConfigError) as caught:
        adopt(preset, read_weights(file), named=False)
    assert str(caught.value) == (
        f"weights {file} do not say which model they are of, and do not fit vit_small_patch16_224: their keys are "
        f"those of {name}; expected {needs}"
    )
    with torch.device("meta"):
        backbone = Backbone(adopt(preset, read_weights(file), named=True))
    with pytest.raises(CheckpointError, match=f"and they are of {name}: give {needs}$"):
        load_into(backbone, read_weights(file))


def test_of_an_unknown_model_keys_are_named(tmp_path: Path) -> None:
    file = saved({"net.a.weight": torch.ones(1), "net.b.weight": torch.ones(1)}, tmp_path)
    with pytest.raises(ConfigError, match=r"they hold net.a.weight, net.b.weight; expected --backbone with the name"):
        adopt(BackboneConfig(), read_weights(file), named=False)
    with pytest.raises(CheckpointError, match=r"such as conv1.weight, .* the file holds net.a.weight, net.b.weight:"):
        load_into(Backbone(RESNET), read_weights(file))


def test_a_file_without_a_name_that_fits_needs_no_backbone(tmp_path: Path) -> None:
    file = saved({"arch": "vit_small", "state_dict": below("module.", RIGHT)}, tmp_path)
    assert adopt(RESNET, read_weights(file), named=False).name == "resnet18"


@pytest.mark.parametrize(
    "options", [{"arch": "resnet34"}, {"args": Namespace(model="resnet34")}, {"opt": {"arch": "resnet34"}}]
)
def test_an_architecture_among_the_options_is_the_default(options: dict[str, Any], tmp_path: Path) -> None:
    file = saved({"state_dict": timm.create_model("resnet34").state_dict(), **options}, tmp_path)
    assert adopt(BackboneConfig(), read_weights(file), named=False).name == "resnet34"
    assert adopt(BackboneConfig(name="resnet50"), read_weights(file), named=True).name == "resnet50"


@pytest.mark.parametrize("content", [{"epoch": 3, "args": Namespace(lr=1)}, [1], {"optimizer": {}}, {}])
def test_files_without_tensors_say_what_they_hold(content: Any, tmp_path: Path) -> None:
    holds = "no dict" if isinstance(content, list) else "the keys " + ", ".join(content) if content else "an empty dict"
    with pytest.raises(CheckpointError, match=f"hold no state dict; expected tensors by key, found {holds}"):
        read_weights(saved(content, tmp_path))


def test_a_model_with_options_is_told_from_timms_own(tmp_path: Path) -> None:
    shallow = BackboneConfig(name="resnet18", options={"layers": [1, 1, 1, 1]})
    weights = read_weights(saved(timm.create_model("resnet18").state_dict(), tmp_path))
    for named in (False, True):
        with pytest.raises((ConfigError, CheckpointError), match=r"of resnet18 with \{'layers'.*backbone.options=\{\}"):
            load_into(Backbone(adopt(shallow, weights, named=named)), weights)


# numbers


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64])
def test_numbers_of_another_kind_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"hold conv1.weight as {str(kind)[6:]}; expected floating point"):
        loaded({**RIGHT, "conv1.weight": RIGHT["conv1.weight"].to(kind)}, RESNET, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("conv1.weight", float("nan")), ("bn1.running_var", float("inf")), ("bn1.bias", -float("inf"))]
)
def test_values_that_are_no_numbers_are_refused(key: str, value: float, tmp_path: Path) -> None:
    broken = {**RIGHT, key: RIGHT[key].clone()}
    broken[key].view(-1)[0] = value
    with pytest.raises(CheckpointError, match=rf"hold values that are no numbers \(NaN or infinite\) in {key};"):
        loaded(broken, RESNET, tmp_path)
    loaded({**RIGHT, "fc.weight": torch.full((2, 2), float("nan"))}, RESNET, tmp_path)  # a head is not used
    doubles = {k: v.double() for k, v in RIGHT.items()}
    doubles["conv1.weight"] = doubles["conv1.weight"] * 1e300
    with pytest.raises(CheckpointError, match="no numbers"):
        loaded(doubles, RESNET, tmp_path)
