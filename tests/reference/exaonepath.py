"""EXAONEPath 1.0, patch by patch, from its model card: stain normalisation, pre-processing, and DINO's ViT-B/16.

Written from the card's example, its code's published behaviour and Caron et al., arXiv:2104.14294; attention is
computed as it is defined. Nothing of the product is imported.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tests.reference import macenko

WIDTH, DEPTH, HEADS = 768, 12, 12
EPS = 1e-6
"""Of the card's ``vit_base()``; its ``from_pretrained`` builds the network with 1e-5."""
_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

State = Mapping[str, torch.Tensor]


def checkpoint(seed: int, width: int = WIDTH, depth: int = DEPTH) -> dict[str, torch.Tensor]:
    """Return weights of a seed under the published names, large enough for every part to take part."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int, scale: float, around: float = 0.0) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale + around

    state = {
        "cls_token": drawn(1, 1, width, scale=0.2),
        "pos_embed": drawn(1, 197, width, scale=0.2),
        "patch_embed.proj.weight": drawn(width, 3, 16, 16, scale=0.02),
        "patch_embed.proj.bias": drawn(width, scale=0.1),
    }
    for block in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            state[f"blocks.{block}.{name}.weight"] = drawn(rows, columns, scale=columns**-0.5)
            state[f"blocks.{block}.{name}.bias"] = drawn(rows, scale=0.1)
    for norm in [*(f"blocks.{block}.norm{one}" for block in range(depth) for one in (1, 2)), "norm"]:
        state[f"{norm}.weight"] = drawn(width, scale=0.1, around=1.0)
        state[f"{norm}.bias"] = drawn(width, scale=0.1)
    return state


def preprocess(patch: NDArray[np.uint8], target: macenko.Target = macenko.DEFAULT) -> tuple[torch.Tensor, bool]:
    """Return a patch (H, W, 3) as the network takes it, float32 (3, 224, 224), and whether the stains stayed."""
    image, fell_back = macenko.normalise(patch, target)
    image = functional.interpolate(image[None], (256, 256), mode="bicubic", align_corners=False, antialias=True)[0]
    return (image[:, 16:240, 16:240] - _MEAN) / _STD, fell_back


def embed(state: State, images: torch.Tensor) -> torch.Tensor:
    """Return the class token after the last norm, (B, 768), of images (B, 3, 224, 224)."""
    patches = functional.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    tokens = tokens + state["pos_embed"]
    block = 0
    while f"blocks.{block}.norm1.weight" in state:
        name = f"blocks.{block}"
        tokens = tokens + _attention(state, f"{name}.attn", _norm(state, f"{name}.norm1", tokens))
        inner = functional.gelu(_linear(state, f"{name}.mlp.fc1", _norm(state, f"{name}.norm2", tokens)))
        tokens = tokens + _linear(state, f"{name}.mlp.fc2", inner)
        block += 1
    return _norm(state, "norm", tokens)[:, 0]


def _attention(state: State, name: str, tokens: torch.Tensor) -> torch.Tensor:
    batch, count, width = tokens.shape
    mixed = _linear(state, f"{name}.qkv", tokens).reshape(batch, count, 3, HEADS, width // HEADS)
    query, key, value = mixed.permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-2, -1) * (width // HEADS) ** -0.5).softmax(dim=-1)
    return _linear(state, f"{name}.proj", (weights @ value).transpose(1, 2).reshape(batch, count, width))


def _linear(state: State, name: str, values: torch.Tensor) -> torch.Tensor:
    return functional.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(state: State, name: str, values: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(values, values.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], EPS)
