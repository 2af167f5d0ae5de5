"""Weights from a seed for encoders whose published ones cannot be had here, in exactly the published form.

An encoder of a kind of its own gets a line in `MAKERS`; Vision Transformers are made from what they declare.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from models.domain.errors import WeightsInvalid
from models.encoders.protocol import Model
from models.encoders.vit.model import VitModel
from tests.services.made_vits import Form, draw, parameters, publish
from tests.services.saved_model import Published, write_saved_model

Maker = Callable[[Model, Path], Path]
"""Makes the weights of a model in a folder; returns the file or folder that ``--weights`` is given."""

OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {"exaonepath": {"stain_target": "published-default"}}
"""Options that an encoder cannot be loaded without, by its name."""

_LARGE: Final = 100_000_000
_HEAVY: Final = 300_000_000  # from here on they are drawn in bf16: half the memory, half the file
_FORMS: Final[Mapping[str, Form]] = {"phikon": "transformers", "lunit-dino-s16": "dino", "lunit-dino-s8": "dino"}
_CLASSES: Final = 10
# lunit-dino-s16 with four times the tokens; the network of exaonepath, whose names unit tests read.
_TWINS: Final = frozenset({"lunit-dino-s8", "phikon"})


def make_vit(model: VitModel, folder: Path) -> Path:
    """Make the weights of a Vision Transformer, with the head that its publisher leaves on it."""
    heavy = parameters(model.shape) > _HEAVY
    state = draw(model.shape, seed=0, dtype=torch.bfloat16 if heavy else torch.float32)
    state = publish(state, _FORMS.get(model.spec.name, "timm"))
    if "head." in model.heads:
        state |= {"head.weight": torch.zeros(_CLASSES, model.shape.width), "head.bias": torch.zeros(_CLASSES)}
    path = folder / (model.spec.hub.files[0] if model.spec.hub else "weights.torch")
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def make_saved_model(model: Model, folder: Path) -> Path:
    """Make a small network in the form of Path Foundation's."""
    del model
    return write_saved_model(folder / "saved_model")


MAKERS: Final[Mapping[str, Maker]] = {"path-foundation": make_saved_model}
"""By the name of the encoder."""


def is_large(model: Model) -> bool:
    """Say whether its weights are more than a test that runs each time should hold."""
    return isinstance(model, VitModel) and parameters(model.shape) > _LARGE


def takes_long(model: Model) -> bool:
    """Say whether running it takes too long for each time: large, or like another that is run."""
    return is_large(model) or model.spec.name in _TWINS


def weights_of(model: Model, folder: Path) -> Path | None:
    """Return the model's own weights, or made ones; made once in a folder. None for a model without weights."""
    try:
        return model.weights(None)
    except WeightsInvalid:
        place = folder / model.spec.name
    if not place.exists():
        place.mkdir()
        if model.spec.name in MAKERS:
            MAKERS[model.spec.name](model, place)
        else:
            assert isinstance(model, VitModel), f"tests/services/made_weights.py has no maker for {model.spec.name}"
            make_vit(model, place)
    (found,) = place.iterdir()
    return found


def forget(model: Model, folder: Path) -> None:
    """Remove what was made of a large model: the disk is not for gigabytes of noise."""
    if is_large(model):
        shutil.rmtree(folder / model.spec.name)


def torn(weights: Path, folder: Path) -> Path:
    """Return a copy of weights whose largest file ends halfway."""
    copy = folder / weights.name
    if weights.is_dir():
        shutil.copytree(weights, copy)
    else:
        shutil.copyfile(weights, copy)
    files = [path for path in [copy, *copy.rglob("*")] if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)
    return copy


def poisoned(weights: Path, folder: Path) -> Path:
    """Return weights like these that give NaN."""
    copy = folder / f"poisoned{weights.suffix}"
    if weights.is_dir():
        return write_saved_model(copy, Published(nan=True))
    if weights.suffix == ".safetensors":
        save_file(_nans(load_file(weights)), copy)
    else:
        torch.save(_nans(torch.load(weights, weights_only=True)), copy)
    return copy


def _nans(state: Mapping[str, Any]) -> dict[str, Any]:
    """Fill all tensors with NaN, in whatever they lie."""
    filled = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            filled[name] = _nans(value)
        else:  # counters, as BatchNorm has them, stay
            filled[name] = torch.full_like(value, torch.nan) if value.is_floating_point() else value
    return filled
