"""The names that a Vision Transformer's weights are published under, brought to timm's, which are ours.

Four are known, and told apart by the keys themselves: timm; DINO; DINOv2 (``w12``, ``w3``, ``register_tokens``, blocks
in chunks); and ``ViTModel`` of Hugging Face's transformers, which keeps query, key and value apart.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from models.domain.errors import WeightsInvalid

# What training wraps around the network: data parallelism, DINO's wrapper for crops, a task's model.
_WRAPPERS: Final = ("module.", "teacher.", "backbone.", "vit.")

# Stands for hidden patches while a model is trained, in DINOv2 and iBOT; no image that is embedded has any.
_TRAINING_ONLY: Final = ("mask_token",)

_RENAMED: Final = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^blocks\.\d+\.(\d+\.)", r"blocks.\1"),
        (r"\.mlp\.w12\.", ".mlp.fc1."),
        (r"\.mlp\.w3\.", ".mlp.fc2."),
        (r"^register_tokens$", "reg_token"),
        (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^encoder\.layer\.", "blocks."),
        (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        (r"^layernorm\.", "norm."),
    )
)
_PART: Final = re.compile(r"^(.*\.attn\.)(query|key|value)(\..*)$")
_PARTS: Final = ("query", "key", "value")


def to_ours(state: Mapping[str, Any], name: str, heads: Iterable[str] = ()) -> dict[str, Any]:
    """Return a state dict under our names, in float32.

    What has no name of ours keeps its own, so that a strict load refuses it under the name it was published with.

    Parameters
    ----------
    state : mapping of str to tensor
    name : str
        Of the encoder, for the message.
    heads : iterable of str
        How the keys begin, without wrappers, of what the published file has beside the features: classifier, pooler.

    Raises
    ------
    WeightsInvalid
        Two keys mean the same, query, key and value do not come together, or something is no tensor.
    """
    left = (*heads, *_TRAINING_ONLY)
    ours: dict[str, Any] = {}
    for key, value in state.items():
        renamed = _rename(key)
        if renamed.startswith(left):
            continue
        if renamed in ours:
            raise WeightsInvalid(f"The weights are not those of {name}: two keys stand for {renamed}.")
        if not hasattr(value, "is_floating_point"):
            raise WeightsInvalid(f"The weights are not those of {name}: {key} is a {type(value).__name__}, no tensor.")
        ours[renamed] = value.float() if value.is_floating_point() else value
    return _joined(ours, name)


def _rename(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.removeprefix(wrapper)
    for pattern, ours in _RENAMED:
        key = pattern.sub(ours, key)
    return key


def _joined(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Put query, key and value into one matrix, in that order."""
    import torch

    joined: dict[str, Any] = {}
    for key, value in state.items():
        match = _PART.match(key)
        if match is None:
            joined[key] = value
            continue
        keys = [f"{match[1]}{part}{match[3]}" for part in _PARTS]
        missing = [one for one in keys if one not in state]
        if missing:
            raise WeightsInvalid(f"The weights are not those of {name}: there is {key}, and no {missing[0]}.")
        if match[2] == _PARTS[0]:
            if len({state[one].shape for one in keys}) != 1:
                raise WeightsInvalid(f"The weights are not those of {name}: {key} is not shaped like key and value.")
            joined[f"{match[1]}qkv{match[3]}"] = torch.cat([state[one] for one in keys])
    return joined
