"""Names of weights, brought to ours or refused."""

from typing import Final

import pytest
import torch

from models.domain.errors import WeightsInvalid
from models.encoders.pytorch.checkpoint import load_strictly
from models.encoders.vit.names import to_ours
from models.encoders.vit.network import VisionTransformer
from models.encoders.vit.shape import VitShape
from tests.services.made_vits import Form, State, draw, publish

_SHAPE: Final = VitShape(width=16, depth=4, heads=2, hidden=32, patch_px=8, image_px=16)


def _published(form: Form) -> State:
    return publish(draw(_SHAPE, 0), form)


@pytest.mark.parametrize("form", ["timm", "dino", "dinov2", "transformers"])
def test_every_form_becomes_ours(form: Form) -> None:
    """Not a key is missing or left over, and none has lost its values."""
    found = to_ours(_published(form), "ours", ("pooler.",))
    expected = draw(_SHAPE, 0)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "wrapper", ["module.", "backbone.", "teacher.", "vit.", "module.backbone.", "teacher.backbone."]
)
def test_wrappers_are_taken_off(wrapper: str) -> None:
    """What training wrapped around the network is no part of it."""
    wrapped = {f"{wrapper}{name}": value for name, value in _published("timm").items()}
    assert to_ours(wrapped, "ours").keys() == _published("timm").keys()


def test_half_precision_is_widened() -> None:
    """Published in fp16 or bf16, the weights are float32 here."""
    for dtype in (torch.float16, torch.bfloat16):
        halved = {name: value.to(dtype) for name, value in _published("timm").items()}
        assert {value.dtype for value in to_ours(halved, "ours").values()} == {torch.float32}


def test_whole_numbers_are_left_to_the_strict_load() -> None:
    """Quantised weights are not turned into nonsense."""
    quantised = _published("timm") | {"norm.weight": torch.ones(16, dtype=torch.int8)}
    assert to_ours(quantised, "ours")["norm.weight"].dtype == torch.int8
    with pytest.raises(WeightsInvalid, match=r"norm\.weight"):
        load_strictly(VisionTransformer(_SHAPE), to_ours(quantised, "ours"), "ours")


def test_a_head_is_dropped_if_the_published_model_has_one() -> None:
    """A classifier goes where it is expected, and is an error where it is not."""
    state = _published("timm") | {"head.weight": torch.zeros(3, 16), "head.bias": torch.zeros(3)}
    assert to_ours(state, "ours", ("head.",)).keys() == _published("timm").keys()
    with pytest.raises(WeightsInvalid, match=r"2 unexpected \(head\.bias, head\.weight\)"):
        load_strictly(VisionTransformer(_SHAPE), to_ours(state, "ours"), "ours")


def test_a_pooler_is_an_error_where_none_is_expected() -> None:
    """A model that reads its pooler is another model."""
    with pytest.raises(WeightsInvalid, match=r"pooler\.dense\.bias"):
        load_strictly(VisionTransformer(_SHAPE), to_ours(_published("transformers"), "ours"), "ours")


def test_two_keys_for_one_thing_are_refused() -> None:
    """A checkpoint of student and teacher side by side says nothing about which of them is meant."""
    both = _published("dino") | _published("timm")
    with pytest.raises(WeightsInvalid, match="two keys stand for cls_token"):
        to_ours(both, "ours")


@pytest.mark.parametrize("third", ["query", "key", "value"])
def test_a_missing_third_of_attention_is_named(third: str) -> None:
    """Query, key and value come together, or the message says what does not."""
    state = _published("transformers")
    del state[f"encoder.layer.2.attention.attention.{third}.weight"]
    with pytest.raises(WeightsInvalid, match=rf"no blocks\.2\.attn\.{third}\.weight"):
        to_ours(state, "ours")


def test_thirds_of_different_shapes_are_refused() -> None:
    """Attention with fewer keys than queries is another model."""
    state = _published("transformers")
    state["encoder.layer.0.attention.attention.key.weight"] = torch.zeros(8, 16)
    with pytest.raises(WeightsInvalid, match=r"blocks\.0\.attn\.query\.weight is not shaped like"):
        to_ours(state, "ours")


def test_what_is_no_tensor_is_refused() -> None:
    """A whole training checkpoint instead of its state dict has counters and optimisers in it."""
    with pytest.raises(WeightsInvalid, match="epoch is a int"):
        to_ours({**_published("timm"), "epoch": 3}, "ours")  # type: ignore[dict-item]


def test_the_missing_and_the_unknown_are_named() -> None:
    """Another model's checkpoint is told by its keys."""
    state = _published("timm")
    state["blocks.3.ls1.gamma"] = torch.ones(16)
    del state["blocks.1.mlp.fc2.bias"]
    with pytest.raises(
        WeightsInvalid, match=r"missing \(blocks\.1\.mlp\.fc2\.bias\).*unexpected \(blocks\.3\.ls1\.gamma\)"
    ):
        load_strictly(VisionTransformer(_SHAPE), to_ours(state, "ours"), "ours")
