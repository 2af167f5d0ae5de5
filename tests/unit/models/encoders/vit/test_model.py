"""A declared Vision Transformer takes its published weights, and no others."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.domain.errors import RequestError, WeightsInvalid
from models.encoders.pathology_vits import PHIKON, UNI
from models.encoders.vit.model import VitModel, checkpoint_file
from models.encoders.vit.shape import VitShape
from tests.reference import vit as reference
from tests.services.made_vits import Form, State, draw, publish

_SHAPE: Final = VitShape(width=32, depth=2, heads=2, hidden=64, patch_px=16, image_px=32)
_MODEL: Final = VitModel(
    replace(UNI.spec, name="tiny", dimension=32, input_px=32, patches_px=(32,), weights_sha256=""), _SHAPE
)


def _state(form: Form = "timm", shape: VitShape = _SHAPE) -> State:
    return publish(draw(shape, 0), form)


def _saved(folder: Path, content: object, name: str = "weights.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def _pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_numbers_are_those_of_the_plain_form(tmp_path: Path) -> None:
    """From the pixels to the row: divided by 255, normalised, embedded."""
    pixels = _pixels(3)
    found = _MODEL.load(_saved(tmp_path, _state()), {}, "cpu").encode(pixels)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (_MODEL.spec.mean, _MODEL.spec.std))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255 - mean) / std
    expected = reference.embed(draw(_SHAPE, 0), images, _SHAPE.heads, _SHAPE.eps)
    assert np.abs(found.matrix - expected.numpy()).max() <= 1e-5 * float(expected.abs().max())
    assert found.fallbacks is None


@pytest.mark.parametrize("inside", [("state_dict",), ("teacher",), ("model", "state_dict")])
def test_the_state_dict_may_lie_inside(tmp_path: Path, inside: tuple[str, ...]) -> None:
    """A checkpoint that holds it under the declared keys, and one that is it, give the same network."""
    content: object = _state("dino")
    for key in reversed(inside):
        content = {key: content, "epoch": 7}
    model = replace(_MODEL, inside=inside)
    bare = model.load(_saved(tmp_path, _state(), "bare.pth"), {}, "cpu").encode(_pixels(2))
    nested = model.load(_saved(tmp_path, content), {}, "cpu").encode(_pixels(2))
    assert nested.matrix.tobytes() == bare.matrix.tobytes()


def test_a_published_head_is_left_out(tmp_path: Path) -> None:
    """A classifier on the published weights is dropped where it is declared, and only there."""
    path = _saved(tmp_path, _state() | {"head.weight": torch.zeros(3, 32)})
    assert replace(_MODEL, heads=("head.",)).load(path, {}, "cpu").encode(_pixels(1)).matrix.shape == (1, 32)
    with pytest.raises(WeightsInvalid, match=r"head\.weight"):
        _MODEL.load(path, {}, "cpu")


def test_weights_are_held_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tensors that were read are the network's own; none was made to be written over."""
    read = _state()
    monkeypatch.setattr("models.encoders.vit.model.read_checkpoint", lambda _: read)
    network = _MODEL.network(tmp_path / "weights.pth")
    assert {name: one.data_ptr() for name, one in network.named_parameters()} == {
        name: one.data_ptr() for name, one in read.items()
    }


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "checkpoint.pth", "dino.torch"])
def test_a_snapshot_is_as_good_as_its_file(tmp_path: Path, name: str) -> None:
    """A folder from the hub, with its card beside the weights, is enough."""
    (tmp_path / "README.md").write_text("the card")
    (tmp_path / "config.json").write_text("{}")
    save_file(_state(), tmp_path / name) if name.endswith("safetensors") else _saved(tmp_path, _state(), name)
    assert checkpoint_file(tmp_path) == tmp_path / name
    assert _MODEL.load(tmp_path, {}, "cpu").encode(_pixels(1)).matrix.shape == (1, 32)


def test_the_safest_form_is_taken(tmp_path: Path) -> None:
    """Of the same weights in two forms, the one that cannot hold code."""
    save_file(_state(), tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"nothing that could be read")
    assert checkpoint_file(tmp_path).name == "model.safetensors"


def test_a_folder_with_several_is_ambiguous(tmp_path: Path) -> None:
    """Which of two files is meant is not for us to guess."""
    for name in ("one.pth", "two.pth"):
        _saved(tmp_path, _state(), name)
    with pytest.raises(WeightsInvalid, match=r"several weights \(one\.pth, two\.pth\)"):
        checkpoint_file(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """A card alone cannot embed."""
    (tmp_path / "README.md").write_text("the card")
    with pytest.raises(WeightsInvalid, match="holds no weights"):
        _MODEL.load(tmp_path, {}, "cpu")


def test_no_weights_are_refused() -> None:
    """There is nothing to fall back on."""
    with pytest.raises(WeightsInvalid, match="tiny needs weights"):
        _MODEL.load(None, {}, "cpu")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"depth": 3}, r"blocks\.2\."),
        ({"width": 48, "heads": 3}, "another shape"),
        ({"layer_scale": True}, r"ls1\.gamma"),
        ({"mlp": "swiglu"}, r"mlp\.fc1"),
        ({"registers": 4}, "reg_token"),
        ({"patch_px": 8}, r"patch_embed\.proj\.weight"),
        ({"image_px": 48}, "pos_embed"),
        ({"placed": 0}, "pos_embed"),
    ],
)
def test_another_models_weights_are_refused(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """Each part in which another network differs is told by its keys."""
    other = replace(_SHAPE, **change)  # type: ignore[arg-type]
    with pytest.raises(WeightsInvalid, match=named) as caught:
        _MODEL.load(_saved(tmp_path, _state(shape=other)), {}, "cpu")
    assert "not those of tiny" in caught.value.message


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """Weights that would run code when they are read are refused, and do not run it."""
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    path.write_bytes(pickle.dumps({"cls_token": Evil()}))
    with pytest.raises(WeightsInvalid):
        _MODEL.load(path, {}, "cpu")
    assert not trace.exists()


def test_options_are_those_of_its_spec() -> None:
    """A precision that the card has no word on is refused."""
    assert dict(_MODEL.settle({"precision": "fp16"})) == {"precision": "fp16"}
    with pytest.raises(RequestError, match="precision"):
        PHIKON.settle({"precision": "fp16"})


def test_bf16_points_the_same_way(tmp_path: Path) -> None:
    """The whole encoder at bf16 stays within a cosine of 0.999 of itself at fp32."""
    path, pixels = _saved(tmp_path, _state()), _pixels(4)
    one, other = (
        _MODEL.load(path, {"precision": precision}, "cpu").encode(pixels).matrix for precision in ("fp32", "bf16")
    )
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() >= 0.999
    assert not np.array_equal(one, other)
