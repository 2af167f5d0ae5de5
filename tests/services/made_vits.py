"""Weights for Vision Transformers, drawn from a seed, in each of the forms that they are published in."""

from collections.abc import Mapping
from typing import Literal

import torch

from models.encoders.vit.shape import VitShape

Form = Literal["timm", "dino", "dinov2", "transformers"]
State = dict[str, torch.Tensor]


def shapes(shape: VitShape) -> dict[str, tuple[int, ...]]:
    """Return what timm calls each tensor of such a network, and how it is shaped."""
    width, grid = shape.width, shape.image_px // shape.patch_px
    found: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, grid * grid + shape.placed, width),
        "patch_embed.proj.weight": (width, 3, shape.patch_px, shape.patch_px),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if shape.registers:
        found["reg_token"] = (1, shape.registers, width)
    inner = shape.hidden * (2 if shape.mlp == "swiglu" else 1)
    for block in range(shape.depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", inner, width),
            ("mlp.fc2", width, shape.hidden),
        ):
            found[f"blocks.{block}.{name}.weight"] = (rows, columns)
            if name != "attn.qkv" or shape.qkv_bias:
                found[f"blocks.{block}.{name}.bias"] = (rows,)
        for norm in ("norm1", "norm2"):
            found |= {f"blocks.{block}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        if shape.layer_scale:
            found |= {f"blocks.{block}.{scale}.gamma": (width,) for scale in ("ls1", "ls2")}
    return found


def parameters(shape: VitShape) -> int:
    """Return how many numbers such a network has."""
    return sum(torch.Size(size).numel() for size in shapes(shape).values())


def draw(shape: VitShape, seed: int, dtype: torch.dtype = torch.float32) -> State:
    """Return weights under timm's names, large enough that every part takes part in the result."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, size in shapes(shape).items():
        values = torch.randn(size, generator=generator, dtype=dtype)
        if len(size) == 2:
            values.mul_(size[1] ** -0.5)
        elif name == "patch_embed.proj.weight":
            values.mul_((3 * shape.patch_px**2) ** -0.5)
        elif "norm" in name and name.endswith("weight"):
            values.mul_(0.1).add_(1)
        elif name.endswith("gamma"):
            values.mul_(0.1).add_(0.5)
        else:
            values.mul_(0.2)
        state[name] = values
    return state


def publish(state: Mapping[str, torch.Tensor], form: Form) -> State:
    """Return weights as those are named who publish in this form; not all forms have all parts."""
    if form == "timm":
        return dict(state)
    if form == "dino":
        return {f"module.backbone.{name}": value for name, value in state.items()}
    return _as_dinov2(state) if form == "dinov2" else _as_transformers(state)


def _as_dinov2(state: Mapping[str, torch.Tensor]) -> State:
    """Two blocks a chunk, as sharded training leaves it; the place of a hidden patch is saved as well."""
    named: State = {"mask_token": torch.zeros(1, state["cls_token"].shape[-1])}
    gated = state["blocks.0.mlp.fc1.weight"].shape[0] == 2 * state["blocks.0.mlp.fc2.weight"].shape[1]
    for name, value in state.items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            if gated:
                rest = rest.replace("fc1", "w12").replace("fc2", "w3")
            named[f"blocks.{int(block) // 2}.{block}.{rest}"] = value
        else:
            named["register_tokens" if name == "reg_token" else name] = value
    return named


def _as_transformers(state: Mapping[str, torch.Tensor]) -> State:
    """``ViTModel``: with a pooler, and query, key and value apart."""
    width = state["cls_token"].shape[-1]
    named: State = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "pooler.dense.weight": torch.zeros(width, width),
        "pooler.dense.bias": torch.zeros(width),
    }
    inside = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    for part in ("weight", "bias"):
        named[f"embeddings.patch_embeddings.projection.{part}"] = state[f"patch_embed.proj.{part}"]
        named[f"layernorm.{part}"] = state[f"norm.{part}"]
        for block in range(len({name.split(".")[1] for name in state if name.startswith("blocks.")})):
            layer = f"encoder.layer.{block}"
            for ours, theirs in inside.items():
                named[f"{layer}.{theirs}.{part}"] = state[f"blocks.{block}.{ours}.{part}"]
            for number, third in enumerate(("query", "key", "value")):
                whole = state[f"blocks.{block}.attn.qkv.{part}"]
                named[f"{layer}.attention.attention.{third}.{part}"] = whole[
                    number * width : (number + 1) * width
                ].clone()
    return named
