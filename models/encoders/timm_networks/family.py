"""``timm:NAME``: any of timm's networks as an encoder, with the pre-processing that its weights were published with.

timm keeps what a spec says beside the network's code. So these specs, unlike all others, are read with timm
installed, which imports PyTorch.
"""

import math
from typing import Any, Final

from models.domain.errors import RequestError, UnknownEncoder
from models.encoders.protocol import EncoderSpec, Hub, Licence, Triple
from models.encoders.timm_networks.model import TimmModel, require_timm

_PREFIX: Final = "timm:"
_FREE: Final = frozenset({"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause"})
# What timm does to a patch, which is square, comes to the same for these two; others pad.
_CROPS: Final = frozenset({"center", "squash"})
_INTERPOLATIONS: Final = frozenset({"bicubic", "bilinear"})


def find_model(rest: str) -> TimmModel:
    """Return the model of ``timm:REST``; a name without the tag of its weights gets timm's usual one.

    Raises
    ------
    ExtraMissing
        timm is not installed.
    UnknownEncoder
        It has no such network.
    RequestError
        No weights are published for it, or they want a pre-processing that there is none of here.
    """
    timm = require_timm(_PREFIX + rest)
    config = _config(timm, rest)
    name = f"{_PREFIX}{config.architecture}.{config.tag}" if config.tag else f"{_PREFIX}{config.architecture}"
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise RequestError(f"{name} takes {channels} x {height} x {width} numbers, not a square of RGB.")
    if config.crop_mode not in _CROPS or config.interpolation not in _INTERPOLATIONS:
        raise RequestError(f"{name} wants {config.interpolation}, {config.crop_mode}: there is no such pre-processing.")
    heads = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    return TimmModel(_spec(timm, config, name), config.architecture, heads)


def _config(timm: Any, rest: str) -> Any:
    try:
        config = timm.models.get_pretrained_cfg(rest)
    except (RuntimeError, ValueError):  # a tag that the network has not
        config = None
    if config is None or not timm.is_model(config.architecture):
        raise UnknownEncoder(f"timm has no network {rest[:80]!r}: timm.list_models(pretrained=True) lists them.")
    if not config.hf_hub_id:
        raise RequestError(f"No weights of {_PREFIX}{rest[:80]} are on the hub: name one with a tag that has them.")
    return config


def _spec(timm: Any, config: Any, name: str) -> EncoderSpec:
    side = config.input_size[1]
    # timm's own rounding (timm.data.transforms_factory): down.
    resized = math.floor(side / config.crop_pct)
    repository = config.hf_hub_id
    return EncoderSpec(
        name=name,
        family=f"timm {config.architecture}, its last pooling",
        dimension=_dimension(timm, config, name),
        input_px=side,
        spacings_um=(),
        mean=_triple(config.mean),
        std=_triple(config.std),
        interpolation=config.interpolation,
        extra="timm",
        licence=_licence(config.license, repository),
        source=f"https://huggingface.co/{repository}",
        revision="main",
        weights_sha256="",
        preprocessing_version=1,
        resize_px=resized if resized != side else None,
        precisions=("fp32", "bf16", "fp16"),
        hub=Hub(repository, (config.hf_hub_filename or "model.safetensors",)),
    )


def _dimension(timm: Any, config: Any, name: str) -> int:
    """Return the length of what comes out, found by running the network without any memory of its own."""
    import torch

    with torch.device("meta"), torch.inference_mode():
        network = timm.create_model(config.architecture, pretrained=False, num_classes=0).eval()
        shape = tuple(network(torch.empty(1, *config.input_size)).shape)
    if len(shape) != 2:
        raise RequestError(f"{name} gives numbers of the shape {shape}, not one row an image.")
    return int(shape[1])


def _licence(name: str | None, repository: str) -> Licence:
    url = f"https://huggingface.co/{repository}"
    return Licence(name, url, ask=name not in _FREE) if name else Licence(f"that of {repository}", url, ask=True)


def _triple(values: Any) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)
