"""Scores of photos, and what becomes of the encoder that gives them."""

import inspect
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slotseg.config import TrainConfig
from slotseg.data.reading.windows import ArrayWindows
from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError
from slotseg.labels.label_map import LabelMap
from slotseg.method.building import add_decoder, compile_encoder
from slotseg.method.model import Encoder, SlotCon
from slotseg.segmenting.scorer import Scorer, ScorerOptions
from slotseg.segmenting.segmenter import Segmenter

Make = Callable[..., Segmenter]


def photo(height: int, width: int) -> NDArray[np.uint8]:
    """Part of a built-in scene."""
    return draw_scene(3)[0][:height, :width]


@pytest.fixture
def teacher(tiny_model: Callable[..., SlotCon]) -> Encoder:
    """As training has it, in training mode."""
    return tiny_model().student.requires_grad_(True).train()


@pytest.mark.parametrize("make", [Scorer, Segmenter])
def test_an_encoder_is_taken_over_as_the_docstring_says(
    make: type[Scorer] | type[Segmenter], teacher: Encoder, tiny_config: Callable[..., TrainConfig]
) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    ours = make(teacher, tiny_config(), device="cpu")
    ours.scores(photo(60, 90))
    assert ours.encoder is teacher
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in teacher.parameters() if p.ndim == 4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_an_encoder_that_is_refused_stays_as_it_was(teacher: Encoder, tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(ConfigError, match="size is 7"):
        Scorer(teacher, tiny_config(), size=7, device="cpu")
    with pytest.raises(ConfigError, match="label map is of 3 prototypes"):
        Segmenter(teacher, tiny_config(), labels=LabelMap.prototypes(3), device="cpu")
    assert all(module.training for module in teacher.modules())
    assert all(p.requires_grad for p in teacher.parameters())


def test_options_are_those_that_a_scorer_takes_by_keyword() -> None:
    parameters = inspect.signature(Scorer).parameters.values()
    assert set(ScorerOptions.__annotations__) == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_a_segmenter_has_the_scores_of_its_scorer(make_segmenter: Make) -> None:
    ours, image = make_segmenter(size=48, tile=64), photo(60, 90)
    scores, covered = ours.scorer.scores(image)
    assert torch.equal(ours.scores(image)[0], scores)
    assert torch.equal(ours.batch_scores([image])[0][0], scores)
    assert covered == (48 / 8, 72 / 8)
    assert (ours.size, ours.tile, ours.stride) == (48, 64, 8)


def test_stripes_are_the_scores_of_the_whole_or_of_tiles(make_segmenter: Make) -> None:
    ours, image = make_segmenter(size="full", tile=128), photo(64, 96)
    whole = ours.scorer.stripes(image)
    assert torch.equal(torch.cat(list(whole.scores), dim=1), ours.scores(image)[0])
    assert whole[1:] == (8, (8, 12))
    large = np.tile(image, (5, 2, 1))
    one, other = ours.scorer.stripes(large), ours.scorer.window_stripes(ArrayWindows(large))
    assert len(stripes := list(one.scores)) > 1
    assert torch.equal(torch.cat(stripes, dim=1), torch.cat(list(other.scores), dim=1))
    assert one[1:] == other[1:] == (40, (40, 24))
    assert sum(stripe.shape[1] for stripe in stripes) == 40


def test_a_lower_precision_gives_nearly_the_same_scores(make_segmenter: Make) -> None:
    image = photo(60, 90)
    expected, covered = make_segmenter().scores(image)
    scores, its_covered = make_segmenter(precision="bf16").scores(image)
    assert its_covered == covered
    assert scores.dtype == torch.float32
    assert 0 < (scores - expected).abs().max() < 0.1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
@pytest.mark.parametrize("with_decoder", [False, True], ids=["scores", "decoder"])
def test_a_compiled_network_gives_the_same_scores(make_segmenter: Make, with_decoder: bool) -> None:
    plain, compiled = make_segmenter(), make_segmenter()
    for each in (plain, compiled):
        if with_decoder:
            torch.manual_seed(0)
            torch.nn.init.normal_(add_decoder(each.encoder, torch.arange(4)).head.weight)
    compile_encoder(compiled.encoder)
    for size in ((60, 90), (90, 60)):
        torch.testing.assert_close(compiled.scores(photo(*size))[0], plain.scores(photo(*size))[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("decoder", [[], ["Decoder"]], ids=["scores", "decoder"])
def test_all_of_a_network_is_compiled(
    make_segmenter: Make, monkeypatch: pytest.MonkeyPatch, decoder: list[str]
) -> None:
    called = []

    def compiled(call: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            called.append(type(call.__self__).__name__)  # type: ignore[attr-defined]
            return call(*args, **kwargs)

        return noted

    monkeypatch.setattr(torch, "compile", compiled)
    ours = make_segmenter(compiled=not decoder)
    if decoder:
        add_decoder(ours.encoder, torch.arange(4))
        compile_encoder(ours.encoder)
    ours.scores(photo(60, 90))
    assert called == ["Backbone", "Sequential", *decoder]


def test_padding_repeats_the_edge(make_segmenter: Make) -> None:
    ours, image = make_segmenter(size=44), photo(44, 60)
    scores, covered = ours.scores(image)
    assert covered == (44 / 8, 60 / 8)
    padded = make_segmenter(size=48)
    whole, _ = padded.scores(np.pad(image, ((0, 4), (0, 4), (0, 0)), mode="edge"))
    torch.testing.assert_close(scores, whole)


def test_a_size_below_a_cell_is_refused(make_segmenter: Make) -> None:
    with pytest.raises(ConfigError, match="size is 7; expected at least the backbone's stride, 8"):
        make_segmenter(size=7)
