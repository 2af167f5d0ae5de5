"""One network for all Vision Transformers, held against the plainest form of them."""

from dataclasses import replace
from typing import Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.encoders.pytorch.checkpoint import load_strictly
from models.encoders.vit.names import to_ours
from models.encoders.vit.network import VisionTransformer
from models.encoders.vit.shape import VitShape
from tests.reference import vit as reference
from tests.services.made_vits import Form, draw, publish

_PLAIN: Final = VitShape(width=48, depth=3, heads=3, hidden=96, patch_px=8, image_px=40)
KINDS: Final = {
    "plain": _PLAIN,
    "without a bias": replace(_PLAIN, qkv_bias=False),
    "transformers": replace(_PLAIN, eps=1e-12),
    "a coarse norm": replace(_PLAIN, eps=1e-2),
    "LayerScale": replace(_PLAIN, layer_scale=True),
    "SwiGLU": replace(_PLAIN, mlp="swiglu", layer_scale=True),
    "class and mean": replace(_PLAIN, mlp="swiglu", layer_scale=True, pooling="cls+mean"),
    "registers with places": replace(_PLAIN, registers=4, placed=5, pooling="cls+mean"),
    "registers without": replace(_PLAIN, registers=4, placed=1, pooling="cls+mean"),
    "no places but the patches'": replace(_PLAIN, registers=2, placed=0, mlp="swiglu", layer_scale=True),
    "an edge that no patch covers": replace(_PLAIN, image_px=45),
    "one block": replace(_PLAIN, depth=1),
}


def _network(shape: VitShape, state: dict[str, torch.Tensor], form: Form = "timm") -> torch.nn.Module:
    network: torch.nn.Module = VisionTransformer(shape).eval()
    load_strictly(network, to_ours(publish(state, form), "ours", ("pooler.",)), "ours")
    return network


def _images(count: int, side: int) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count * 1000 + side))


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(functional.cosine_similarity(one.double(), other.double()).min())


@pytest.mark.parametrize("shape", KINDS.values(), ids=KINDS)
@torch.inference_mode()
def test_numbers_are_those_of_the_plain_form(shape: VitShape) -> None:
    """Every kind gives what the formulae give, within 1e-5 in fp32."""
    state, images = draw(shape, 1), _images(3, shape.image_px)
    expected = reference.embed(state, images, shape.heads, shape.eps, shape.pooling)
    found = _network(shape, state)(images)
    assert found.shape == (3, shape.dimension)
    assert (found.double() - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("plain", "dino"),
        ("plain", "transformers"),
        ("plain", "dinov2"),
        ("SwiGLU", "dinov2"),
        ("registers without", "dinov2"),
    ],
)
@torch.inference_mode()
def test_names_do_not_matter(kind: str, form: Form) -> None:
    """The same weights give the same bytes under whichever names they are published."""
    shape = KINDS[kind]
    state, images = draw(shape, 2), _images(2, shape.image_px)
    assert torch.equal(_network(shape, state, form)(images), _network(shape, state)(images))


@pytest.mark.parametrize("shape", KINDS.values(), ids=KINDS)
@torch.inference_mode()
def test_half_precision_points_the_same_way(shape: VitShape) -> None:
    """bf16, weights and all, stays within a cosine of 0.999."""
    state, images = draw(shape, 3), _images(4, shape.image_px)
    network = _network(shape, state)
    assert _cosine(network.bfloat16()(images.bfloat16()), _network(shape, state)(images)) >= 0.999


@torch.inference_mode()
def test_autocast_is_half_precision_too() -> None:
    """Under autocast the weights may stay in fp32."""
    for shape in KINDS.values():
        state, images = draw(shape, 4), _images(4, shape.image_px)
        network = _network(shape, state)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(images)
        assert _cosine(found, network(images)) >= 0.999


@pytest.mark.parametrize("pooling", ["cls", "cls+mean"])
@torch.inference_mode()
def test_images_of_another_size(pooling: str) -> None:
    """A larger image has more patches, in places between those that were learnt."""
    shape = replace(_PLAIN, pooling=pooling, registers=2, placed=1)
    assert _network(shape, draw(shape, 5))(_images(2, 64)).shape == (2, shape.dimension)


@pytest.mark.parametrize("side", [24, 40, 64])
@torch.inference_mode()
def test_places_are_resampled_as_timm_does(side: int) -> None:
    """A bicubic to the grid's size with antialiasing; the learnt size keeps what was learnt."""
    state = draw(_PLAIN, 6)
    lead, learnt = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    square = learnt.reshape(1, 5, 5, 48).permute(0, 3, 1, 2)
    square = functional.interpolate(square, (side // 8, side // 8), mode="bicubic", antialias=True)
    expected = torch.cat([lead, square.permute(0, 2, 3, 1).reshape(1, -1, 48)], 1)
    images = _images(2, side)
    wanted = reference.embed({**state, "pos_embed": expected}, images, 3, 1e-6)
    assert torch.allclose(_network(_PLAIN, state)(images).double(), wanted, atol=1e-5)


@torch.inference_mode()
def test_places_are_resampled_as_dino_does() -> None:
    """By the ratio of the sides, a tenth of a token added, without antialiasing (DINO's interpolate_pos_encoding)."""
    shape, state, images = replace(_PLAIN, resampling="dino"), draw(_PLAIN, 7), _images(2, 64)
    lead, learnt = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    square = learnt.reshape(1, 5, 5, 48).permute(0, 3, 1, 2)
    square = functional.interpolate(square, scale_factor=(8.1 / 5, 8.1 / 5), mode="bicubic")
    places = torch.cat([lead, square.permute(0, 2, 3, 1).reshape(1, -1, 48)], 1)
    wanted = reference.embed({**state, "pos_embed": places}, images, 3, 1e-6)
    found = _network(shape, state)(images)
    assert torch.allclose(found.double(), wanted, atol=1e-5)
    assert not torch.allclose(found, _network(_PLAIN, state)(images), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)), count=st.integers(1, 5))
@torch.inference_mode()
def test_neighbours_do_not_matter(order: list[int], count: int) -> None:
    """An image has the same features in any batch, at any place in it, within rounding."""
    shape = KINDS["class and mean"]
    network, images = _network(shape, draw(shape, 8)), _images(5, shape.image_px)
    chosen = order[:count]
    assert torch.allclose(network(images[chosen]), network(images)[chosen], atol=1e-5)


@torch.inference_mode()
def test_images_are_left_as_they_were() -> None:
    """Nothing is written into what was given."""
    shape = KINDS["SwiGLU"]
    images = _images(2, shape.image_px)
    kept = images.clone()
    _network(shape, draw(shape, 9))(images)
    assert torch.equal(images, kept)
