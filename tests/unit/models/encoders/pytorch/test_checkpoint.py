"""Checkpoints: read without running anything, loaded whole or not at all, with what is wrong named."""

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.domain.errors import WeightsInvalid
from models.encoders.pytorch.checkpoint import load_strictly, read_checkpoint

_STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}
Save = Callable[[Mapping[str, Any], Path], object]


def _old_form(state: Mapping[str, Any], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _safetensors(state: Mapping[str, Any], path: Path) -> None:
    save_file(dict(state), path)


_FORMS = pytest.mark.parametrize(
    ("save", "name"),
    [(torch.save, "w.pth"), (_old_form, "w.pth"), (_safetensors, "w.safetensors")],
    ids=["zip", "old", "safetensors"],
)


@_FORMS
def test_each_form_is_read(tmp_path: Path, save: Save, name: str) -> None:
    """What was saved comes back, with the names it was saved under."""
    save(_STATE, tmp_path / name)
    found = read_checkpoint(tmp_path / name)
    assert found.keys() == _STATE.keys()
    assert all(torch.equal(found[key], _STATE[key]) for key in _STATE)


def test_what_is_nested_is_left_so(tmp_path: Path) -> None:
    """Where the tensors are is for the caller to know."""
    torch.save({"state_dict": _STATE, "epoch": 3}, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth")
    assert torch.equal(found["state_dict"]["weight"], _STATE["weight"])


@_FORMS
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_torn_file_is_refused(tmp_path: Path, save: Save, name: str, kept: float) -> None:
    """A download that broke off, wherever it did; the file is named, its folder is not."""
    path = tmp_path / name
    save(_STATE, path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(WeightsInvalid, match=name) as caught:
        read_checkpoint(path)
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"<html>login</html>", bytes(1000), b"PK\x03\x04"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """A login page, zeros, half a zip."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsInvalid, match=name):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("folder", [False, True])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, *, folder: bool) -> None:
    """Nothing there, or a folder."""
    if folder:
        (tmp_path / name).mkdir()
    with pytest.raises(WeightsInvalid, match=rf"{name} are no file"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], "text", None, {7: torch.ones(1)}, torch.ones(2)])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    """A list, a text, nothing, a number for a name, a tensor."""
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsInvalid, match="state dict"):
        read_checkpoint(tmp_path / "w.pth")


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_code_is_not_run(tmp_path: Path, form: str) -> None:
    """A file that would run a command when it is unpickled is refused, and the command is not run."""
    mark, path = tmp_path / "mark", tmp_path / "w.pth"
    state = {"bias": _Bomb(mark)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsInvalid):
        read_checkpoint(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(_Bomb(mark)))
    assert mark.exists()  # the bomb was a real one


def _many(count: int) -> dict[str, torch.Tensor]:
    return {f"extra.{number}": torch.ones(1) for number in range(count)}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"bias": torch.ones(2)}, r"1 missing \(weight\)"),
        ({}, r"2 missing \(bias, weight\)"),
        (_STATE | {"scale": torch.ones(1)}, r"1 unexpected \(scale\)"),
        (_STATE | _many(5), r"5 unexpected \(extra\.0, extra\.1, extra\.2 and 2 more\)"),
        (_STATE | {"weight": torch.ones(3, 2)}, r"1 of another shape or type \(weight\)"),
        (_STATE | {"bias": torch.ones(2, dtype=torch.int8)}, r"1 of another shape or type \(bias\)"),
        (_STATE | {"bias": "bias"}, r"1 of another shape or type \(bias\)"),
        ({"w": torch.ones(1)}, r"2 missing \(bias, weight\), 1 unexpected \(w\)"),
    ],
)
def test_weights_of_another_model_are_refused(state: dict[str, Any], said: str) -> None:
    """What is missing, unexpected or of another shape is named, the first few of each; nothing was loaded."""
    module = torch.nn.Linear(3, 2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(WeightsInvalid, match=f"not those of toy: keys {said}"):
        load_strictly(module, state, "toy")
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_the_right_weights_are_loaded(tmp_path: Path) -> None:
    """They are in the network, and stay there when the file is gone; half precision is turned into the network's."""
    module, path = torch.nn.Linear(3, 2), tmp_path / "w.pth"
    torch.save({"weight": _STATE["weight"].half(), "bias": _STATE["bias"]}, path)
    load_strictly(module, read_checkpoint(path), "toy")
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(module.weight, _STATE["weight"])
    assert torch.equal(module.bias, _STATE["bias"])
