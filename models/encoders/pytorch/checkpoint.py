"""Checkpoints for PyTorch: read without running what they may hold, loaded whole or not at all."""

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from models.domain.errors import WeightsInvalid

_SHOWN: Final = 3


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint: a ``.safetensors`` file, or one of ``torch.save``, of which no code is run (``weights_only``).

    The tensors stay in the file until they are used, where its form allows it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    mapping of str to tensor
        As it was saved; what is nested (``state_dict``) is the caller's to take out.

    Raises
    ------
    WeightsInvalid
        The file is missing, damaged, of another kind, or would run code.
    """
    if not path.is_file():
        raise WeightsInvalid(f"The weights {path.name} are no file: check --weights.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as exc:  # torch raises many kinds on a damaged file
        raise WeightsInvalid(
            f"The weights {path.name} are no PyTorch checkpoint of tensors alone, or are damaged: fetch them again."
        ) from exc
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise WeightsInvalid(f"The weights {path.name} hold a {type(state).__name__}, not a state dict.")
    return state


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: Mapping[str, Any] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as exc:
        raise WeightsInvalid(f"The weights {path.name} are no safetensors file, or are damaged.") from exc
    return state


def load_strictly(module: Any, state: Mapping[str, Any], name: str) -> None:
    """Load a state dict into a network.

    Parameters
    ----------
    module : torch.nn.Module
    state : mapping of str to tensor
    name : str
        Of the encoder, for the message.

    Raises
    ------
    WeightsInvalid
        Keys are missing, unexpected or hold something of another shape; it names them.
    """
    from torch import Tensor

    def fits(key: str) -> bool:
        given = state[key]
        own: Tensor = expected[key]
        # Whole numbers are quantised weights, which torch would copy as if they were the weights themselves.
        return (
            isinstance(given, Tensor)
            and given.shape == own.shape
            and given.is_floating_point() == own.is_floating_point()
        )

    expected = module.state_dict()
    faults = {
        "missing": expected.keys() - state.keys(),
        "unexpected": state.keys() - expected.keys(),
        "of another shape or type": {key for key in expected.keys() & state.keys() if not fits(key)},
    }
    found = [f"{len(keys)} {fault} ({_few(keys)})" for fault, keys in faults.items() if keys]
    if found:
        raise WeightsInvalid(f"The weights are not those of {name}: keys {', '.join(found)}.")
    # A network without memory (the device "meta") takes the tensors themselves, so that they are held once.
    module.load_state_dict(state, strict=True, assign=any(own.is_meta for own in expected.values()))


def _few(keys: Collection[str]) -> str:
    shown = sorted(keys)[:_SHOWN]
    more = len(keys) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
