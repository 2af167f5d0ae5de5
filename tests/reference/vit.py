"""A Vision Transformer in the plainest form, one image at a time; what the product's is held against.

Written from Dosovitskiy et al., arXiv:2010.11929, with what came later from Caron et al., arXiv:2104.14294 (DINO),
Oquab et al., arXiv:2304.07193 (SwiGLU, LayerScale) and Darcet et al., arXiv:2309.16588 (registers). Nothing of the
product is imported. Weights come under timm's names; what the network has is read off them.
"""

import math
from collections.abc import Mapping

import torch

State = Mapping[str, torch.Tensor]


def embed(state: State, images: torch.Tensor, heads: int, eps: float, pooling: str = "cls") -> torch.Tensor:
    """Return features, float64 (B, D), of images (B, 3, S, S) of the size that the position embedding is for.

    The class token after the last norm; with the pooling ``cls+mean``, followed by the mean of the patches.
    """
    state = {name: value.double() for name, value in state.items()}
    return torch.stack([_one(state, image.double(), heads, eps, pooling) for image in images])


def _one(state: State, image: torch.Tensor, heads: int, eps: float, pooling: str) -> torch.Tensor:
    tokens = _patches(image, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    places, patches = state["pos_embed"][0], len(tokens)
    before = [state["cls_token"][0], *([state["reg_token"][0]] if "reg_token" in state else [])]
    tokens = torch.cat([*before, tokens])
    # The places belong to the patches, and to as many of the first tokens as there are places over.
    over = len(places) - patches
    tokens[:over] += places[:over]
    tokens[-patches:] += places[over:]
    block = 0
    while f"blocks.{block}.norm1.weight" in state:
        tokens = _block(state, f"blocks.{block}.", tokens, heads, eps)
        block += 1
    tokens = _norm(tokens, state, "norm", eps)
    return torch.cat([tokens[0], tokens[-patches:].mean(0)]) if pooling == "cls+mean" else tokens[0]


def _patches(image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Cut the image into squares, row by row, and project each."""
    side = weight.shape[-1]
    squares = [
        image[:, top : top + side, left : left + side].flatten()
        for top in range(0, image.shape[1] - side + 1, side)
        for left in range(0, image.shape[2] - side + 1, side)
    ]
    return torch.stack(squares) @ weight.flatten(1).T + bias


def _block(state: State, name: str, tokens: torch.Tensor, heads: int, eps: float) -> torch.Tensor:
    attended = _attention(state, f"{name}attn.", _norm(tokens, state, f"{name}norm1", eps), heads)
    tokens = tokens + attended * state.get(f"{name}ls1.gamma", torch.ones(()))
    grown = _mlp(state, f"{name}mlp.", _norm(tokens, state, f"{name}norm2", eps))
    return tokens + grown * state.get(f"{name}ls2.gamma", torch.ones(()))


def _attention(state: State, name: str, tokens: torch.Tensor, heads: int) -> torch.Tensor:
    width = tokens.shape[1]
    query, key, value = _linear(tokens, state, f"{name}qkv").split(width, dim=1)
    each = width // heads
    seen = []
    for head in range(heads):
        part = slice(head * each, (head + 1) * each)
        scores = query[:, part] @ key[:, part].T / math.sqrt(each)
        scores = (scores - scores.max(1, keepdim=True).values).exp()
        seen.append(scores / scores.sum(1, keepdim=True) @ value[:, part])
    return _linear(torch.cat(seen, 1), state, f"{name}proj")


def _mlp(state: State, name: str, tokens: torch.Tensor) -> torch.Tensor:
    inner, taken = _linear(tokens, state, f"{name}fc1"), state[f"{name}fc2.weight"].shape[1]
    if inner.shape[1] == 2 * taken:
        gate, gated = inner[:, :taken], inner[:, taken:]
        inner = gate / (1 + (-gate).exp()) * gated
    else:
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    return _linear(inner, state, f"{name}fc2")


def _linear(tokens: torch.Tensor, state: State, name: str) -> torch.Tensor:
    return tokens @ state[f"{name}.weight"].T + state.get(f"{name}.bias", torch.zeros(()))


def _norm(tokens: torch.Tensor, state: State, name: str, eps: float) -> torch.Tensor:
    centred = tokens - tokens.mean(1, keepdim=True)
    spread = (centred.square().mean(1, keepdim=True) + eps).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]
